"""The hedge plan under stress: what would be traded after a scenario, where, and whether margin there allows it.

The policy is handed in as a function of a view, the same object that hedges elsewhere: what it says of a crash is asked
of itself, not of a formula written for the purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import floor

import msgspec
import numpy as np

from bot.domain.decisions import HedgeTarget, HedgeView, Legs
from bot.domain.portfolio import Greeks
from bot.risk.book import PERPETUAL, SPOT, Position, RiskBook
from bot.risk.sensitivities import grid_greeks, linear_base, sensitivities
from bot.risk.stress import (
    MarginTermsOf,
    StressScenario,
    equity_of,
    margin_of,
    moved_book,
    outages_of,
    row_pnl_quote,
    with_position,
)

Policy = Callable[[HedgeView], HedgeTarget]


class HedgeInstrument(msgspec.Struct, frozen=True, kw_only=True):
    """What an underlying may be hedged with, where, and what that costs one way per value traded."""

    instrument_id: str
    underlying: str
    account: str
    lot_base: float
    cost_rate: float
    fixed_cost_quote: float = 0.0
    money: str = "USD"


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """What a view has beside the book: the time it is, the time between two looks, net deltas aimed at."""

    now_ns: int
    monitor_years: float
    target_delta_base: dict[str, float] = {}


class PlannedHedge(msgspec.Struct, frozen=True, kw_only=True):
    """What would be traded of one underlying, and what margin that needs.

    `instrument_id` is "" where nothing is traded. Margins and equity are of the account traded at, after the stress:
    without the trade and with it. `passed_over` says of each instrument before this one why it was not taken.
    `is_affordable` is whether equity, less the cost, still covers initial margin: a trade that lowers it always may.
    """

    underlying: str
    delta_before_base: float
    delta_base: float
    low_base: float
    high_base: float
    trade_base: float
    instrument_id: str
    account: str
    cost_quote: float
    equity_quote: float
    initial_without_quote: float
    initial_with_quote: float
    maintenance_without_quote: float
    maintenance_with_quote: float
    is_affordable: bool
    reason: str
    passed_over: tuple[str, ...] = ()


def plan(
    book: RiskBook,
    scenario: StressScenario,
    instruments: Sequence[HedgeInstrument],
    policy: Policy,
    terms: Mapping[str, MarginTermsOf],
    asking: Asking,
    cast: Mapping[str, str] | None = None,
) -> tuple[PlannedHedge, ...]:
    """Return what the policy would have traded after the scenario, one answer per underlying with derivatives.

    Instruments are tried in the order given: the first of an account that trades and whose margin allows it is taken.
    Where none is, the first of an account that trades is shown with what it lacks, and the trade is not affordable.
    What is gone with a venue is no longer hedged there.
    """
    roles = cast or {}
    moved = moved_book(book, scenario, roles)
    pnl = row_pnl_quote(book, moved.mark_px, scenario)
    equities = {name: equity_of(book.of_account(name), terms.get(name)) for name in book.accounts}
    states = outages_of(scenario, equities, roles)
    for number, name in enumerate(book.accounts):
        equities[name] += float(pnl[book.account == number].sum())
    gone = [book.accounts.index(name) for name, one in states.items() if one.recovery_share < 1.0 and name in equities]
    left = moved.where(~np.isin(moved.account, gone))
    stopped = {name for name, one in states.items() if one.is_trading_stopped or one.recovery_share < 1.0}
    plans = []
    for number, underlying in enumerate(book.underlyings):
        if not (book.kind[book.underlying == number] != SPOT).any():
            continue
        own = left.where(left.underlying == number)
        usable = [one for one in instruments if one.underlying == underlying]
        view = view_of(own, underlying, usable[0] if usable else None, asking)
        target = policy(view)
        need = _need_base(view.greeks.delta_base, target)
        before = sensitivities(book.where(book.underlying == number)).delta_base
        chosen = _choose(left, underlying, need, usable, stopped, terms, equities, target, view, before)
        plans.append(chosen)
        if chosen.instrument_id and chosen.is_affordable:  # the next underlying finds this margin taken
            instrument = next(one for one in usable if one.instrument_id == chosen.instrument_id)
            left = with_position(left, _position(instrument, chosen.trade_base))
            equities[chosen.account] = chosen.equity_quote - chosen.cost_quote
    return tuple(plans)


def view_of(book: RiskBook, underlying: str, instrument: HedgeInstrument | None, asking: Asking) -> HedgeView:
    """Return what a policy sees of one underlying: Greeks, the cost of its first instrument, nothing pending."""
    number = book.underlyings.index(underlying)
    options = np.flatnonzero(book.is_option)
    linear = ~book.is_option & (book.kind != SPOT)
    qty, tau = book.qty_base[options], book.tau_years[options]
    total = dict.fromkeys(("delta", "gamma", "vega", "theta", "value"), 0.0)
    vol, nearest = float("nan"), float("inf")
    if options.size:
        each = grid_greeks(book, options, book.forward_px[options], tau, book.vol[options])
        total = {name: float((each[name] * qty).sum()) for name in total}
        weight = np.abs(each["gamma"] * qty)
        vol = (
            float(np.average(book.vol[options], weights=weight)) if weight.sum() > 0.0 else float(book.vol[options][0])
        )
        nearest = float(tau.min())
    held = float(book.qty_base[linear].sum())
    delta = float(linear_base(book)[~book.is_option].sum()) + total["delta"]
    return HedgeView(
        now_ns=asking.now_ns,
        underlying=underlying,
        spot_px=float(book.spot_px[number]),
        target_delta_base=asking.target_delta_base.get(underlying, 0.0),
        greeks=Greeks(delta, total["gamma"], total["vega"], total["theta"] / 365.0, total["value"]),
        delta_low_base=delta,
        delta_high_base=delta,
        hedge_base=held,
        pending_base=0.0,
        cost_rate=instrument.cost_rate if instrument else 0.0,
        fixed_cost_quote=instrument.fixed_cost_quote if instrument else 0.0,
        lot_base=instrument.lot_base if instrument else 1e-9,
        monitor_years=asking.monitor_years,
        last_hedge_ns=0,
        last_hedge_px=0.0,
        legs=Legs(
            forward_px=book.forward_px[options],
            strike_px=book.strike_px[options],
            tau_years=tau,
            vol=book.vol[options],
            qty_base=qty,
            is_call=book.is_call[options],
        ),
        vol=vol,
        tau_years=nearest,
        horizon_years=float(tau.max()) if options.size else float("inf"),
    )


def _need_base(delta_base: float, target: HedgeTarget) -> float:
    if delta_base < target.low_base:
        return target.buy_to_base - delta_base
    if delta_base > target.high_base:
        return target.sell_to_base - delta_base
    return 0.0


def _choose(
    book: RiskBook,
    underlying: str,
    need_base: float,
    instruments: Sequence[HedgeInstrument],
    stopped: set[str],
    terms: Mapping[str, MarginTermsOf],
    equities: Mapping[str, float],
    target: HedgeTarget,
    view: HedgeView,
    before_base: float,
) -> PlannedHedge:
    """Return the plan of one underlying: the first instrument that can take it, or what stands in the way."""
    passed: list[str] = []
    short: PlannedHedge | None = None
    for one in instruments:
        trade = _lots(need_base, one.lot_base)
        if trade == 0.0:
            break
        if one.account in stopped:
            passed.append(f"{one.instrument_id}: {one.account} does not trade")
            continue
        own = book.of_account(one.account)
        without = margin_of(own, terms.get(one.account))
        traded = with_position(book, _position(one, trade)).of_account(one.account)
        margin = margin_of(traded, terms.get(one.account))
        cost = abs(trade) * view.spot_px * one.cost_rate + one.fixed_cost_quote
        equity = equities.get(one.account, 0.0)
        found = PlannedHedge(
            underlying=underlying,
            delta_before_base=before_base,
            delta_base=view.greeks.delta_base,
            low_base=target.low_base,
            high_base=target.high_base,
            trade_base=trade,
            instrument_id=one.instrument_id,
            account=one.account,
            cost_quote=cost,
            equity_quote=equity,
            initial_without_quote=without.initial,
            initial_with_quote=margin.initial,
            maintenance_without_quote=without.maintenance,
            maintenance_with_quote=margin.maintenance,
            is_affordable=margin.initial <= max(equity - cost, without.initial),
            reason=target.reason,
            passed_over=tuple(passed),
        )
        if found.is_affordable:
            return found
        lacks = margin.initial - (equity - cost)
        passed.append(f"{one.instrument_id}: {one.account} lacks {lacks:,.0f} of initial margin {margin.initial:,.0f}")
        short = short or found
    if short is not None:
        return msgspec.structs.replace(short, passed_over=tuple(passed))
    is_due = any(_lots(need_base, one.lot_base) for one in instruments) or (need_base != 0.0 and not instruments)
    return PlannedHedge(
        underlying=underlying,
        delta_before_base=before_base,
        delta_base=view.greeks.delta_base,
        low_base=target.low_base,
        high_base=target.high_base,
        trade_base=0.0,
        instrument_id="",
        account="",
        cost_quote=0.0,
        equity_quote=0.0,
        initial_without_quote=0.0,
        initial_with_quote=0.0,
        maintenance_without_quote=0.0,
        maintenance_with_quote=0.0,
        is_affordable=not is_due,
        reason=f"{need_base:+.6g} is due and nothing trades" if is_due else target.reason,
        passed_over=tuple(passed),
    )


def _lots(need_base: float, lot_base: float) -> float:
    """Return the need in whole lots, towards none."""
    whole = floor(abs(need_base) / lot_base + 1e-9) * lot_base
    return whole if need_base > 0.0 else -whole


def _position(instrument: HedgeInstrument, qty_base: float) -> Position:
    return Position(
        kind=PERPETUAL,
        underlying=instrument.underlying,
        qty_base=qty_base,
        instrument_id=instrument.instrument_id,
        account=instrument.account,
        money=instrument.money,
    )
