"""A session as its windows see it: one `VaultState`, copied out of the engine between two decisions.

Reads the engine and changes nothing there. It takes a fraction of a millisecond, so that it may be asked for often.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from math import isfinite, nan
from typing import Any

from bot import __version__
from bot.domain.decisions import Decision
from bot.domain.instruments import Option
from bot.domain.results import pnl_parts
from bot.domain.units import NS_PER_S
from bot.domain.windows import (
    AccountState,
    FeedState,
    GateState,
    LegState,
    Meters,
    OrderLine,
    UnderlyingState,
    VaultState,
    VenueState,
)
from bot.engine.book import Holding, OptionMarks, UnderlyingBook
from bot.engine.desk import Desk
from bot.engine.engine import Engine
from bot.engine.gates import list_gates
from bot.engine.orders import Order
from bot.runtime.live.session import LiveSession
from bot.runtime.session import Session
from bot.runtime.views import margin_view, plan_of

DAYS_PER_YEAR = 365.0


def take_state(
    session: Session | LiveSession,
    feed_view: Mapping[str, Any],
    meters: Meters,
    now_ns: int,
    config_sha256: str,
) -> VaultState:
    """Return the state of a session at `now_ns`; `feed_view` is what its feed tells of venues and chains."""
    engine = session.engine
    return VaultState(
        vault=session.vault.vault,
        mode=session.vault.mode if session.vault.is_live_feed else "replay",
        policy=session.policy.name,
        version=__version__,
        run_id=session.run_id,
        config_sha256=config_sha256,
        now_ns=now_ns,
        taken_ns=time.time_ns(),
        state=str(engine.state),
        state_reason=engine.state_reason,
        to_acknowledge=engine.alert,
        hedges=session.score.orders,
        decisions=engine.decisions,
        turnover_quote=engine.turnover_quote,
        transactions=engine.paid_transactions,
        failed_transactions=engine.paid_transactions - engine.filled_transactions,
        refusals={str(reason): count for reason, count in sorted(engine.refusals.items())},
        quotes_refused={str(fault): count for fault, count in sorted(engine.market.faults.items())},
        pnl_quote={name: amount for name, amount in pnl_parts(engine.pnl()).items() if isfinite(amount)},
        pnl_now_quote=_finite(engine.pnl_total_quote()),
        pnl_today_quote=_finite(engine.limits.day_pnl_quote),
        unhedged_pnl_quote=_finite(engine.unhedged_pnl_quote()),
        underlyings=tuple(_underlying(engine, desk, now_ns) for desk in engine.desks.values()),
        orders=tuple(_order(order) for order in engine.orders.live.values()),
        venues=tuple(_venues(engine, feed_view, now_ns)),
        feeds=tuple(_feeds(engine, now_ns)),
        accounts=tuple(_accounts(engine)),
        transactions_now=tuple(feed_view.get("chains", ())),
        risk=margin_view(engine),
        overrides=engine.overrides,
        meters=meters,
        daily_loss_limit_quote=_finite(engine.settings.limits.daily_loss_quote),
    )


def _underlying(engine: Engine, desk: Desk, now_ns: int) -> UnderlyingState:
    decision = desk.decision
    gates = tuple(GateState(gate.name, gate.is_open, gate.detail) for gate in list_gates(engine, desk, now_ns))
    last = desk.last_order
    known = _decided(decision)
    return UnderlyingState(
        underlying=desk.underlying,
        **known,
        plan=plan_of(desk),
        last_order=f"{last.intent.qty_lots:+} lots, {last.state}: {last.intent.reason}" if last is not None else "",
        last_hedge_ns=desk.last_hedge_ns,
        gates=gates,
        legs=tuple(_legs(desk.book)),
        **_option_targets(engine, desk),
    )


def _option_targets(engine: Engine, desk: Desk) -> dict[str, Any]:
    """Return where gamma and vega are meant to go, and how that stands; nothing where options are no hedges.

    A policy trades options until no trade is worth its cost any more, and names no figure to get to. So what is under
    way is what is still wanted, and with nothing under way what is held is.
    """
    settings = engine.settings
    if not settings.policy.needs_offers or desk.underlying not in settings.option_hedges:
        return {}
    book, marks = desk.book, desk.book.option_marks
    gamma, vega, under_way = 0.0, 0.0, 0
    for order in engine.orders.live.values():
        holding = book.option_hedges.get(order.intent.instrument_id)
        if holding is None:
            continue
        under_way += 1
        if marks is None or not 0 <= holding.row < len(marks.vol):
            gamma = vega = nan
            continue
        qty_base = order.remaining_lots * holding.lot_size
        gamma += qty_base * float(marks.greeks.gamma[holding.row])
        vega += qty_base * float(marks.greeks.vega[holding.row])
    decision = desk.decision
    known = {"option_plan": _option_plan(desk, under_way)}
    if decision is None:
        return known
    return {
        **known,
        "target_gamma_base_per_px": _finite(decision.greeks.gamma_base_per_px + gamma),
        "target_vega_quote_per_vol": _finite(decision.greeks.vega_quote_per_vol + vega),
    }


def _option_plan(desk: Desk, under_way: int) -> str:
    if under_way:
        return f"{under_way} order{'' if under_way == 1 else 's'} of options under way"
    if desk.reviewed_ns == 0:
        return "options have not been looked at yet"
    if desk.option_refusal:
        return f"as it is; what was wanted last was not traded: {desk.option_refusal}"
    return "as it is: at the last look no other trade in options was worth its cost"


def _decided(decision: Decision | None) -> dict[str, Any]:
    """Return what the last decision says; before the first one nothing is known."""
    if decision is None:
        unknown = dict.fromkeys(
            (
                "spot_px", "target_delta_base", "delta_low_base", "delta_high_base", "low_base", "high_base",
                "gamma_base_per_px", "vega_quote_per_vol", "theta_quote_per_day", "value_quote", "order_id",
            )
        )  # fmt: skip
        return {
            **unknown,
            "decided_ns": 0,
            "unknown_base": 0.0,
            "hedge_base": 0.0,
            "pending_base": 0.0,
            "policy_reason": "",
            "refusal": "",
            "refusal_detail": "",
            "wanted_lots": 0,
        }
    greeks = decision.greeks
    width_base = decision.delta_high_base - decision.delta_low_base
    return {
        "decided_ns": decision.now_ns,
        "spot_px": _finite(decision.spot_px),
        "delta_low_base": _finite(decision.delta_low_base),
        "delta_high_base": _finite(decision.delta_high_base),
        "unknown_base": width_base if isfinite(width_base) else 0.0,
        "target_delta_base": _finite(decision.target_delta_base),
        "low_base": _finite(decision.low_base),
        "high_base": _finite(decision.high_base),
        "hedge_base": decision.hedge_base,
        "pending_base": decision.pending_base if isfinite(decision.pending_base) else 0.0,
        "gamma_base_per_px": _finite(greeks.gamma_base_per_px),
        "vega_quote_per_vol": _finite(greeks.vega_quote_per_vol),
        "theta_quote_per_day": _finite(greeks.theta_quote_per_day),
        "value_quote": _finite(greeks.value_quote),
        "policy_reason": decision.policy_reason,
        "refusal": str(decision.refusal) if decision.refusal is not None else "",
        "refusal_detail": decision.refusal_detail,
        "wanted_lots": decision.wanted_lots,
        "order_id": decision.order_id,
    }


def _legs(book: UnderlyingBook) -> Iterable[LegState]:
    """Yield every holding: options by their newest marks, then what is linear, of the book and of hedges."""
    marks = book.option_marks
    hedged = len(book.option_legs) - sum(holding.row >= 0 for holding in book.option_hedges.values())
    for row, (option, qty_base) in enumerate(book.option_legs):
        yield _option_leg(option, qty_base, row, marks, is_hedge=row >= hedged)
    index_px = book.marks_of_underlying.index_px
    for holding, _, _ in book.static:
        yield _linear_leg(holding, index_px, is_hedge=False)
    for holding in book.hedges.values():
        yield _linear_leg(holding, index_px, is_hedge=True)


def _option_leg(option: Option, qty_base: float, row: int, marks: OptionMarks | None, *, is_hedge: bool) -> LegState:
    if marks is None or row >= len(marks.vol):
        return LegState(
            option.instrument_id, is_hedge, qty_base, None, None, option.expiry_ns, None, None, None, None, None
        )
    greeks = marks.greeks
    return LegState(
        instrument_id=option.instrument_id,
        is_hedge=is_hedge,
        qty_base=qty_base,
        mark_px=_finite(float(greeks.value[row])),
        vol=_finite(float(marks.vol[row])),
        expiry_ns=option.expiry_ns,
        delta_base=_finite(float(qty_base * greeks.delta[row])),
        gamma_base_per_px=_finite(float(qty_base * greeks.gamma[row])),
        vega_quote_per_vol=_finite(float(qty_base * greeks.vega[row])),
        theta_quote_per_day=_finite(float(qty_base * greeks.theta[row] / DAYS_PER_YEAR)),
        value_quote=_finite(float(qty_base * greeks.value[row])),
    )


def _linear_leg(holding: Holding, index_px: float, *, is_hedge: bool) -> LegState:
    is_marked = holding.mark_px > 0.0 and index_px > 0.0
    delta_base = holding.delta_base(index_px) if is_marked else None
    return LegState(
        instrument_id=holding.instrument.instrument_id,
        is_hedge=is_hedge,
        qty_base=holding.qty,
        mark_px=holding.mark_px if is_marked else None,
        vol=None,
        expiry_ns=getattr(holding.instrument, "expiry_ns", None),
        delta_base=_finite(delta_base),
        gamma_base_per_px=0.0,
        vega_quote_per_vol=0.0,
        theta_quote_per_day=0.0,
        value_quote=_finite(holding.value_quote(holding.mark_px, index_px)) if is_marked else None,
    )


def _order(order: Order) -> OrderLine:
    intent = order.intent
    return OrderLine(
        intent.order_id,
        intent.instrument_id,
        str(order.state),
        intent.qty_lots,
        order.filled_lots,
        order.limit_ticks,
        intent.reason,
        intent.decided_ns,
        order.is_transaction,
    )


def _venues(engine: Engine, feed_view: Mapping[str, Any], now_ns: int) -> Iterable[VenueState]:
    """Yield every venue that was heard of, or whose word on our account is needed."""
    told = {one["venue"]: (one["health"], one["reason"]) for one in feed_view.get("venues", ())}
    reported = engine.accounts.reported
    for venue in sorted(told.keys() | engine.accounts.required | reported.keys()):
        health, reason = told.get(venue, ("unknown", ""))
        report = reported.get(venue)
        age_s = (now_ns - report.ts_recv_ns) / NS_PER_S if report is not None else None
        yield VenueState(venue, health, reason, age_s)


def _feeds(engine: Engine, now_ns: int) -> Iterable[FeedState]:
    """Yield the age of everything a hedge is decided on: index, hedges' quotes, forwards of what is held."""
    market, ages = engine.market, engine.settings.ages
    for desk in engine.desks.values():
        marks = desk.book.marks_of_underlying
        yield _feed(f"{desk.underlying} index", "index", marks.index_ns, ages.index_ns, now_ns)
        for instrument_id in desk.holdings:
            quote = market.quotes.get(instrument_id)
            yield _feed(instrument_id, "quote", quote.ts_event_ns if quote else 0, ages.quote_ns, now_ns)
        for expiry in desk.book.own_expiries:
            yield _feed(expiry.label, "vol", expiry.forward_ns, ages.vol_ns, now_ns)


def _feed(name: str, kind: str, at_ns: int, max_ns: int, now_ns: int) -> FeedState:
    age_ns = now_ns - at_ns if at_ns else None
    is_stale = age_ns is None or age_ns > max_ns
    return FeedState(name, kind, age_ns / NS_PER_S if age_ns is not None else None, max_ns / NS_PER_S, is_stale)


def _accounts(engine: Engine) -> Iterable[AccountState]:
    margin = engine.margin
    if margin is None:
        return
    for name, account in margin.accounts.items():
        yield AccountState(
            account=name,
            model=account.parameters.model,
            state=str(account.standing.asked) if account.standing is not None else "unknown",
            equity_quote=_finite(account.equity_quote),
            initial_quote=_finite(account.figures.initial),
            maintenance_quote=_finite(account.figures.maintenance),
            utilisation_ratio=_finite(account.utilisation_ratio),
            touch_probability=_finite(account.touch_probability),
            spot_distance_fraction=None,
            told=margin.tell(account),
        )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and isfinite(value) else None
