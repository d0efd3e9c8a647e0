"""What risk is reckoned from, as of one moment of an engine: positions with their marks, accounts, signs, forecasts.

A plain value that goes over the daemon's socket, so that a daemon only copies it out and whoever asks does the work.
Must never trade, and never touch what the engine decides on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite, nan
from typing import Final

import msgspec
import numpy as np

from bot.domain.errors import ConfigError
from bot.domain.instruments import Hedgeable, Option
from bot.domain.risk import CounterpartySigns
from bot.domain.units import BPS
from bot.engine.book import UnderlyingBook
from bot.engine.desk import Desk
from bot.engine.engine import Engine
from bot.engine.margin.accounts import MarginAccount
from bot.engine.margin.collateral_desk import CollateralNow
from bot.engine.margin.collateral_problem import Posing, required_buffer
from bot.engine.margin.keeper import MarginKeeper
from bot.engine.margin.risk_rows import Row, account_rows, linear_row, option_row
from bot.engine.margin.risk_settings import CollateralRules
from bot.engine.margin.top_ups import TopUps
from bot.pricing.black76 import greeks
from bot.risk.book import SPOT, Position
from bot.risk.breakers import Tripped
from bot.risk.collateral.problem import CollateralProblem
from bot.risk.margin.registry import MODELS
from bot.risk.parameters import ParameterSet
from bot.risk.transfers import Lent
from bot.risk.volatility.forecaster import VolForecast
from bot.runtime.configuration.risk_checks import build_risk
from bot.runtime.configuration.risk_sections import AccountRiskSection, RiskSection
from bot.runtime.configuration.vault import Vault

HOUSE: Final = "house"
NO_SECTION: Final = (
    "the vault has no risk section: accounts are judged by models of their venues' names, what is posted is its cash,"
    " and the daemon reckons no margin"
)


class Told(msgspec.Struct, frozen=True):
    """What a venue said of margin, and what the local model said of the same moment, in quote money."""

    equity_quote: float
    initial_quote: float
    maintenance_quote: float
    local_initial_quote: float
    local_maintenance_quote: float
    at_ns: int


class AccountNow(msgspec.Struct, frozen=True, kw_only=True):
    """One account as the margin keeper has it. `unknown` says why nothing can be said of it, "" where it can.

    `posted` is asset → amount, `px` what a unit counts there, `haircuts` the share that does not count; `safe_move` is
    the move that it should live through with whatever is added.
    """

    name: str
    model: str
    parameters: ParameterSet
    equity_quote: float
    posted: dict[str, float]
    px: dict[str, float]
    haircuts: dict[str, float]
    liquidation_ratio: float
    counts_long_options: bool
    standing_share: float
    told: Told | None
    state: str
    reason: str
    may_add: bool
    banned: str
    degraded: tuple[str, ...]
    unknown: str
    should_hold: str = ""
    safe_move: float = 0.0


class Tradable(msgspec.Struct, frozen=True, kw_only=True):
    """An instrument an order may be in: a position of nothing at its marks, a lot, and what crossing costs per base.

    `is_stale` where its quote is older than the engine would trade on.
    """

    position: Position
    lot_base: float
    cost_px: float
    max_order_base: float = float("inf")
    is_stale: bool = False
    is_hedge: bool = False


class Posed(msgspec.Struct, frozen=True, kw_only=True):
    """The collateral problem as the engine poses it, and the newest plan it has, None where it does not plan.

    `buffer_ratio` is how many times its maintenance margin an account shall hold, for `buffer_reason`.
    """

    problem: CollateralProblem
    buffer_ratio: float
    buffer_reason: str
    time_limit_s: float
    now: CollateralNow | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; `collateral` only where it was asked for.

    `source` says in words where positions and marks come from, `notes` what is less than it might be. `breakers` is
    None where nothing watches them, `insurance` says what is kept aside, "" where nothing is. Forecasts are by
    underlying, one per horizon, and `realised_vols` by underlying the hours (ends, in ns) and the yearly vols of each
    that are known.
    """

    vault: str
    now_ns: int
    source: str
    has_section: bool
    spot_px: dict[str, float]
    positions: tuple[Position, ...]
    accounts: tuple[AccountNow, ...]
    tradables: tuple[Tradable, ...]
    targets_base: dict[str, float] = {}
    venues_of_chains: tuple[str, ...] = ()
    signs: dict[str, CounterpartySigns] = {}
    actions: dict[str, str] = {}
    lent: tuple[Lent, ...] = ()
    breakers: tuple[Tripped, ...] | None = None
    insurance: str = ""
    forecasts: dict[str, tuple[VolForecast, ...]] = {}
    forecast_source: str = ""
    realised_vols: dict[str, tuple[tuple[int, float], ...]] = {}
    collateral: Posed | None = None
    notes: tuple[str, ...] = ()

    def account(self, name: str) -> AccountNow:
        """Return one account. Raises KeyError where there is none."""
        for one in self.accounts:
            if one.name == name:
                return one
        raise KeyError(name)


def assumed_section(vault: Vault, engine: Engine) -> RiskSection:
    """Return the risk section of a vault that has none: the venue's own model where there is one, else the house's."""
    names = [one for one in _venues(engine) if one not in vault.chains]
    cash = vault.fixed_cash
    accounts = {
        name: AccountRiskSection(
            model=name if name in MODELS else HOUSE,
            collateral={asset: float(amount) for asset, amount in cash.items() if not place and amount >= 0.0},
        )
        for place, name in enumerate(names)
    }
    return RiskSection(accounts=accounts)


def take_snapshot(
    vault: Vault,
    engine: Engine,
    now_ns: int,
    source: str,
    wanted: Sequence[str] = (),
    *,
    is_posed: bool = False,
    is_running: bool = False,
) -> Snapshot:
    """Return the snapshot of an engine as of `now_ns`; `wanted` names instruments to price beside those held.

    With `is_posed` the problem of where collateral should be is part of it. An engine that is running is not made to
    look at margin now: what it decides would depend on who asks when.

    Raises ConfigError where a parameter set is missing.
    """
    keeper, notes = engine.margin, []
    if keeper is None:
        notes.append(NO_SECTION)
        keeper = _keeper_of(vault, engine)
    if keeper is not engine.margin or not is_running:
        keeper.note_change()
        keeper.review(now_ns)
    desks = list(engine.desks.values())
    positions: list[Position] = []
    for venue in _venues(engine):
        rows, why = account_rows(venue, desks, engine.orders, now_ns)
        if rows is None:
            notes.append(f"{venue}: {why}")
            continue
        book = rows.book
        for place, row in enumerate(rows.rows):
            buy, sell = float(book.buy_base[place]), float(book.sell_base[place])
            if row.qty_base or buy or sell:
                positions.append(_position(row, venue, buy, sell))
    positions += _on_chains(vault, desks)
    spot_px = {name: desk.book.marks_of_underlying.index_px for name, desk in engine.desks.items()}
    board, top_ups = engine.counterparties, engine.top_ups
    return Snapshot(
        vault=vault.vault,
        now_ns=now_ns,
        source=source,
        has_section=vault.risk is not None,
        spot_px={name: px for name, px in spot_px.items() if px > 0.0},
        positions=tuple(positions),
        accounts=tuple(_account(keeper, one, engine) for one in keeper.accounts.values()),
        tradables=tuple(_tradables(engine, now_ns, wanted)),
        targets_base={name: desk.hedges[0].target_delta_base for name, desk in engine.desks.items()}
        | {name: target.target_base for name, target in engine.operator.targets.items()},
        venues_of_chains=tuple(vault.chains),
        signs=dict(board.signs) if board is not None else {},
        actions={name: str(one) for name, one in board.actions.items()} if board is not None else {},
        lent=top_ups.book.lent() if top_ups is not None else (),
        breakers=engine.breakers.tripped() if engine.breakers is not None else None,
        forecasts={name: (one,) for name, one in keeper.watch.forecasts.items()} if engine.margin is not None else {},
        forecast_source="as margin is looked ahead with, until a transfer could arrive",
        insurance=engine.insurance.tell() if engine.insurance is not None else "",
        collateral=_pose(engine, keeper, now_ns) if is_posed else None,
        notes=tuple(notes),
    )


def _keeper_of(vault: Vault, engine: Engine) -> MarginKeeper:
    """Return a keeper for an engine that has none; it only looks."""
    section = assumed_section(vault, engine)
    try:
        risk = build_risk(vault.model_copy(update={"risk": section}))
    except ValueError as error:
        raise ConfigError([f"vault {vault.vault}: {error}"]) from None
    keeper = MarginKeeper(
        msgspec.structs.replace(engine.settings, risk=risk), engine.market, engine.orders, engine.desks
    )
    for report in engine.accounts.reported.values():
        if report is not None:
            keeper.take_report(report)
    return keeper


def _pose(engine: Engine, keeper: MarginKeeper, now_ns: int) -> Posed:
    """Return the problem the engine would have solved now; by the usual rules where the vault plans no collateral."""
    risk = keeper.risk
    rules = risk.collateral or CollateralRules()
    risk = msgspec.structs.replace(risk, collateral=rules)
    top_ups = engine.top_ups or TopUps(engine.settings.run_id, risk, keeper)
    buffer = required_buffer(keeper, rules)
    posing = Posing(keeper, top_ups, engine.counterparties, risk, now_ns, buffer.ratio)
    return Posed(
        problem=posing.problem(),
        buffer_ratio=buffer.ratio,
        buffer_reason="; ".join(filter(None, (buffer.reason, buffer.degraded))),
        time_limit_s=rules.time_limit_s,
        now=engine.collateral.now() if engine.collateral is not None else None,
    )


def _venues(engine: Engine) -> list[str]:
    """Return the venues of everything that is held or may be traded, the book's own first."""
    found: dict[str, None] = {}
    for desk in engine.desks.values():
        book: UnderlyingBook = desk.book
        found.update(dict.fromkeys(option.venue for option, _ in book.option_legs))
        found.update(dict.fromkeys(leg.holding.instrument.venue for leg in book.static))
    for desk in engine.desks.values():
        found.update(dict.fromkeys(one.instrument.venue for one in desk.hedges))
        found.update(dict.fromkeys(one.instrument.venue for one in desk.book.option_hedges.values()))
    return list(found)


def _position(row: Row, account: str, buy_base: float = 0.0, sell_base: float = 0.0) -> Position:
    return Position(
        kind=row.kind,
        underlying=row.instrument.base,
        qty_base=row.qty_base,
        instrument_id=row.instrument.instrument_id,
        account=account,
        money=row.instrument.settle,
        forward_px=row.forward_px,
        mark_px=row.mark_px,
        strike_px=row.strike_px,
        tau_years=row.tau_years,
        vol=row.vol,
        is_call=row.is_call,
        buy_base=buy_base,
        sell_base=sell_base,
    )


def _on_chains(vault: Vault, desks: Iterable[Desk]) -> list[Position]:
    """Return what is held on chains as coins: its delta at today's price, which for liquidity is only true today."""
    found = []
    where = next(iter(vault.chains), "chain")
    for desk in desks:
        chain, px = desk.book.chain, desk.book.marks_of_underlying.index_px
        if chain is None or not px > 0.0:
            continue
        found.append(
            Position(
                kind=SPOT,
                underlying=desk.underlying,
                qty_base=chain.delta_base(px),
                instrument_id=f"{desk.underlying} on {where}",
                account=where,
                forward_px=px,
                mark_px=px,
            )
        )
    return found


def _account(keeper: MarginKeeper, one: MarginAccount, engine: Engine) -> AccountNow:
    posted = {asset: amount for asset, amount in keeper.posted(one).items() if amount}
    prices = {asset: keeper.asset_px(one, asset) for asset in posted}
    standing, told = one.standing, one.told
    return AccountNow(
        name=one.name,
        model=one.settings.model,
        parameters=one.parameters,
        equity_quote=one.equity_quote,
        posted=posted,
        px={asset: px for asset, px in prices.items() if px is not None},
        haircuts={**one.settings.haircut_share, **{asset: one.haircut_share(asset) for asset in posted}},
        liquidation_ratio=one.settings.liquidation_ratio,
        counts_long_options=one.settings.counts_long_options,
        standing_share=one.settings.standing_share,
        told=None
        if told is None
        else Told(
            told.equity_quote,
            told.figures.initial,
            told.figures.maintenance,
            told.local.initial,
            told.local.maintenance,
            told.at_ns,
        ),
        state=str(standing.state) if standing is not None else "unknown",
        reason=standing.reason if standing is not None else "",
        may_add=one.may_add,
        banned=one.banned,
        degraded=one.degraded,
        unknown=one.unknown,
        safe_move=one.safe_move,
        should_hold=keeper.buffers.tell(one.name) if keeper.buffers is not None and engine.margin is keeper else "",
    )


def _tradables(engine: Engine, now_ns: int, wanted: Sequence[str]) -> Iterable[Tradable]:
    hedges = {one.instrument.instrument_id: one for desk in engine.desks.values() for one in desk.hedges}
    for name in dict.fromkeys((*hedges, *wanted)):
        hedge = hedges.get(name)
        instrument = hedge.instrument if hedge is not None else engine.holdings.instruments.get(name)
        desk = engine.desks.get(instrument.base) if instrument is not None else None
        if instrument is None or desk is None:
            continue
        most = engine.settings.limits.max_order_base
        if isinstance(instrument, Option):
            found = _option_tradable(engine, instrument, now_ns)
        else:
            found = _linear_tradable(engine, desk, instrument, now_ns)
        if found is not None:
            fee = (hedge.taker_bps if hedge is not None else _usual_fee(desk)) * BPS
            of_px = desk.book.marks_of_underlying.index_px if isinstance(instrument, Option) else found.position.mark_px
            yield msgspec.structs.replace(
                found,
                cost_px=found.cost_px + fee * (of_px or nan),
                max_order_base=most if most is not None else float("inf"),
                is_hedge=hedge is not None,
            )


def _usual_fee(desk: Desk) -> float:
    return desk.hedges[0].taker_bps if desk.hedges else 0.0


def _linear_tradable(engine: Engine, desk: Desk, instrument: Hedgeable, now_ns: int) -> Tradable | None:
    quote = engine.market.quotes.get(instrument.instrument_id)
    index_px = desk.book.marks_of_underlying.index_px
    mark_px = 0.5 * (quote.bid_px + quote.ask_px) if quote is not None else index_px
    if not mark_px > 0.0:
        return None
    row = linear_row(instrument, 0.0, mark_px, now_ns)
    is_stale = quote is None or now_ns - quote.ts_event_ns > engine.settings.ages.quote_ns
    half_px = 0.5 * (quote.ask_px - quote.bid_px) if quote is not None else 0.0
    return Tradable(
        position=_position(row, instrument.venue), lot_base=row.lot_base, cost_px=half_px, is_stale=is_stale
    )


def _option_tradable(engine: Engine, option: Option, now_ns: int) -> Tradable | None:
    """Return an option at the vol it was last quoted at; None where it was not, or has expired."""
    slot = engine.market.slot_of.get(option.instrument_id)
    quote = engine.market.vol_quotes[slot] if slot is not None else None
    if slot is None or quote is None or option.expiry_ns <= now_ns or not isfinite(quote.mark_vol):
        return None
    forward_px = engine.market.forward_of(slot)
    row = option_row(option, 0.0, 0.0, forward_px, quote.mark_vol, now_ns)
    found = greeks(*(np.array([x]) for x in (forward_px, option.strike_px, row.tau_years, row.vol, option.is_call)))
    is_two_sided = quote.bid_vol > 0.0 and quote.ask_vol > quote.bid_vol
    half_px = 0.5 * (quote.ask_vol - quote.bid_vol) * float(found.vega[0]) if is_two_sided else 0.0
    is_stale = now_ns - quote.ts_event_ns > engine.settings.ages.vol_ns
    return Tradable(
        position=_position(row._replace(mark_px=float(found.value[0])), option.venue),
        lot_base=option.lot_size,
        cost_px=half_px,
        is_stale=is_stale,
    )
