"""Named scenarios: what a past crash, played again on today's book, leaves of P&L, Greeks, margin and collateral.

A scenario is data: moves of spot by underlying, a vol shock that shrinks with time to expiry, hours that pass, what
each venue counts a coin as, which venues stop trading, hold withdrawals back or are gone. Nothing here says how likely
it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

import msgspec
import numpy as np

from bot.risk.book import ROW_COLUMNS, SPOT, Flags, Floats, Ints, Position, RiskBook, build_book
from bot.risk.margin.registry import evaluate_or_assume
from bot.risk.margin.reported import scaled
from bot.risk.parameters import ParameterSet
from bot.risk.repricing import option_values
from bot.risk.requirement import Requirement
from bot.risk.scenarios import VolShock
from bot.risk.sensitivities import Sensitivities, sensitivities

HOURS_PER_YEAR: Final = 365.0 * 24.0
ANY: Final = "any"
LARGEST: Final = "largest"
LEAST_MULTIPLE: Final = 1e-6  # a price never falls to nothing here: options need one above it


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a coin counts as at an account, of what its underlying's move alone would leave; "any" is every account."""

    asset: str
    multiple: float
    account: str = ANY


class Outage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an account cannot do any more; "largest" is the one with the most equity, "any" every one.

    Of what is there `recovery_share` is left: below 1 the venue is gone, and the positions there with it.
    """

    account: str
    is_trading_stopped: bool = False
    are_withdrawals_stopped: bool = True
    recovery_share: float = 1.0


class StressScenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One scenario. `moves` are shares of spot by underlying, `other_move` that of what is not named.

    Perpetuals and futures end `basis_move` of spot from it beside the move. `money` are multiples of what a contract
    settles in. `measured` is what the moves were read from, `assumed` what of it all was not.
    """

    name: str
    day: date
    title: str
    moves: dict[str, float]
    other_move: float
    vol: VolShock
    hours: float = 0.0
    basis_move: float = 0.0
    marks: tuple[Mark, ...] = ()
    money: dict[str, float] = {}
    outages: tuple[Outage, ...] = ()
    measured: str = ""
    assumed: str = ""

    def __post_init__(self) -> None:
        """Refuse a price below zero, which would turn every sign around."""
        wrong = [f"{move:+.0%}" for move in (*self.moves.values(), self.other_move) if not -1.0 < move < 10.0]
        wrong += [f"x {one:g}" for one in self.money.values() if not one >= 0.0]
        wrong += [f"{one.asset} x {one.multiple:g}" for one in self.marks if not one.multiple >= 0.0]
        if wrong:
            raise ValueError(f"expected moves above -100 % and multiples not below 0 in {self.name}, found {wrong[0]}")


class MarginTermsOf(msgspec.Struct, frozen=True, kw_only=True):
    """The margin model of an account, the values of its parameter set, and its equity (None: value of what it holds).

    `factor` multiplies what the model asks for where it is a stand-in, and `degraded` says why. `cash` are coins that
    count in full: they are equity, and the model is not shown them.
    """

    model: str
    values: dict[str, Any]
    equity_quote: float | None = None
    factor: float = 1.0
    degraded: str = ""
    cash: tuple[str, ...] = ("USD", "USDC", "USDT")


class AccountAfter(msgspec.Struct, frozen=True, kw_only=True):
    """One account before and after: P&L of positions and of coins, equity, margin, and what it can still do.

    `use_before` and `use_after` are maintenance margin by equity, infinite without any.
    """

    account: str
    pnl_quote: float
    coins_before_quote: float
    coins_after_quote: float
    equity_before_quote: float
    equity_after_quote: float
    before: Requirement
    after: Requirement
    use_before: float
    use_after: float
    is_trading_stopped: bool = False
    are_withdrawals_stopped: bool = False
    is_gone: bool = False

    @property
    def shortfall_quote(self) -> float:
        """What is missing to maintenance margin, 0 if nothing is."""
        return max(self.after.maintenance - self.equity_after_quote, 0.0)

    @property
    def is_liquidated(self) -> bool:
        """Whether equity no longer covers maintenance margin, or the venue is gone with it."""
        return self.shortfall_quote > 0.0


class StressResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario leaves. `worst` is the account nearest to liquidation, or furthest past it; "" without accounts.

    `greeks` are of what is still there, by underlying. `notes` say what could not be applied.
    """

    scenario: StressScenario
    accounts: tuple[AccountAfter, ...]
    greeks_before: dict[str, Sensitivities]
    greeks: dict[str, Sensitivities]
    pnl_quote: float
    equity_before_quote: float
    equity_after_quote: float
    worst: str
    notes: tuple[str, ...] = ()


def decode_scenarios(found: ParameterSet) -> tuple[StressScenario, ...]:
    """Return the scenarios a parameter set holds. Raises ValueError, in one sentence, where it holds none."""
    try:
        scenarios = msgspec.convert(found.values.get("scenarios", []), tuple[StressScenario, ...])
    except msgspec.ValidationError as error:
        raise ValueError(f"expected stress scenarios in {found.name}, found {error}") from None
    if not scenarios:
        raise ValueError(f"expected stress scenarios in {found.name}, found none")
    return scenarios


def moved_book(book: RiskBook, scenario: StressScenario, cast: Mapping[str, str] | None = None) -> RiskBook:
    """Return the book after the scenario: spots, forwards, marks, vols, and the hours gone by.

    `cast` says which of our accounts plays one that a mark names; without it an account plays its own name.
    """
    moves = [scenario.moves.get(name, scenario.other_move) for name in book.underlyings]
    multiple = np.maximum(1.0 + np.array(moves, dtype=float), LEAST_MULTIPLE)
    by_row = multiple[book.underlying]
    is_option = book.is_option
    is_linear = ~is_option & (book.kind != SPOT)
    basis = np.where(is_linear, scenario.basis_move * book.spot_of_row_px * by_row, 0.0)
    tau = np.maximum(book.tau_years - scenario.hours / HOURS_PER_YEAR, 0.0)
    vol = book.vol.copy()
    mark = np.maximum(book.mark_px * by_row + basis, 0.0)
    forward = np.where(is_linear, mark, book.forward_px * by_row)
    rows = np.flatnonzero(is_option)
    if rows.size:
        word = "up" if scenario.vol.up or not scenario.vol.down else "down"
        vol[rows] = scenario.vol.shocked(book.vol[rows], book.tau_years[rows], word)
        mark[rows] = _values(book, rows, forward, tau, vol)
    mark *= _coin_multiples(book, scenario, cast or {})
    return msgspec.structs.replace(
        book, spot_px=book.spot_px * multiple, forward_px=forward, mark_px=mark, tau_years=tau, vol=vol
    )


def play(
    book: RiskBook,
    scenarios: Iterable[StressScenario],
    terms: Mapping[str, MarginTermsOf],
    cast: Mapping[str, str] | None = None,
) -> tuple[StressResult, ...]:
    """Return what each scenario leaves of the book and of every account.

    An account without terms is asked for all it could lose, and named.
    """
    owns = {name: book.of_account(name) for name in book.accounts}
    before = {name: margin_of(own, terms.get(name)) for name, own in owns.items()}
    equities = {name: equity_of(own, terms.get(name)) for name, own in owns.items()}
    greeks = sensitivities_by_underlying(book)
    return tuple(_play_one(book, one, terms, cast or {}, before, equities, greeks) for one in scenarios)


def _play_one(
    book: RiskBook,
    scenario: StressScenario,
    terms: Mapping[str, MarginTermsOf],
    cast: Mapping[str, str],
    before: Mapping[str, Requirement],
    equities: Mapping[str, float],
    greeks: dict[str, Sensitivities],
) -> StressResult:
    moved = moved_book(book, scenario, cast)
    pnl = row_pnl_quote(book, moved, scenario)
    is_coin = book.kind == SPOT
    states = outages_of(scenario, equities, cast)
    accounts = []
    is_there: Flags = np.ones(len(book), dtype=bool)
    for number, name in enumerate(book.accounts):
        rows = book.account == number
        state = states.get(name, Outage(account=name, are_withdrawals_stopped=False))
        own = moved.where(rows)
        is_gone = state.recovery_share < 1.0
        equity_after = equities[name] + float(pnl[rows].sum())
        asked = margin_of(own, terms.get(name))
        if is_gone:
            is_there &= ~rows
            equity_after = max(equity_after, 0.0) * state.recovery_share
            asked = Requirement(asked.model, "quote", 0.0, 0.0)
        accounts.append(
            AccountAfter(
                account=name,
                pnl_quote=float(pnl[rows & ~is_coin].sum()),
                coins_before_quote=_value(book, rows & is_coin),
                coins_after_quote=_value(moved, rows & is_coin),
                equity_before_quote=equities[name],
                equity_after_quote=equity_after,
                before=before[name],
                after=asked,
                use_before=_use(before[name].maintenance, equities[name]),
                use_after=_use(asked.maintenance, equity_after),
                is_trading_stopped=state.is_trading_stopped or is_gone,
                are_withdrawals_stopped=state.are_withdrawals_stopped or is_gone,
                is_gone=is_gone,
            )
        )
    return StressResult(
        scenario=scenario,
        accounts=tuple(accounts),
        greeks_before=greeks,
        greeks=sensitivities_by_underlying(moved.where(is_there)),
        pnl_quote=float(pnl.sum()),
        equity_before_quote=sum(one.equity_before_quote for one in accounts),
        equity_after_quote=sum(one.equity_after_quote for one in accounts),
        worst=max(accounts, key=lambda one: (one.use_after, one.shortfall_quote)).account if accounts else "",
        notes=_notes(book, scenario, terms, cast),
    )


def row_pnl_quote(book: RiskBook, moved: RiskBook, scenario: StressScenario) -> Floats:
    """Return what each row gains: of contracts in the money they settle in, which may be worth less than before."""
    pnl = book.qty_base * (moved.mark_px - book.mark_px)
    worth = np.array([scenario.money.get(name, 1.0) for name in book.moneys], dtype=float)
    if not worth.size:
        return pnl
    return np.where(book.kind == SPOT, pnl, pnl * worth[book.money])


def sensitivities_by_underlying(book: RiskBook) -> dict[str, Sensitivities]:
    """Return the Greeks of each underlying of which anything is held."""
    return {
        name: sensitivities(book.where(book.underlying == number))
        for number, name in enumerate(book.underlyings)
        if (book.underlying == number).any()
    }


def margin_of(book: RiskBook, terms: MarginTermsOf | None) -> Requirement:
    """Return what an account's model asks for, in quote money; all that could be lost where there is no model."""
    if terms is None:
        return evaluate_or_assume("no terms of this account", book, {})
    cash = [row for row, asset in _coins(book) if asset in terms.cash]
    shown = book.where(np.delete(np.arange(len(book)), cash)) if cash else book
    found = evaluate_or_assume(terms.model, shown, terms.values)
    if found.money in book.underlyings:  # a coin's model asks in coin
        initial, maintenance = found.in_quote(float(book.spot_px[book.underlyings.index(found.money)]))
        found = msgspec.structs.replace(found, money="quote", initial=initial, maintenance=maintenance)
    return scaled(found, terms.factor, terms.degraded)


def equity_of(book: RiskBook, terms: MarginTermsOf | None) -> float:
    """Return an account's equity: what is told, else what its coins and options are worth at their marks."""
    if terms is not None and terms.equity_quote is not None:
        return terms.equity_quote
    return _value(book, (book.kind == SPOT) | book.is_option)


def outages_of(scenario: StressScenario, equities: Mapping[str, float], cast: Mapping[str, str]) -> dict[str, Outage]:
    """Return which accounts are out of what, by name; of several outages of one account the worst of each."""
    found: dict[str, Outage] = {}
    for one in scenario.outages:
        names: Sequence[str] = [cast.get(one.account, one.account)]
        if one.account == ANY:
            names = list(equities)
        elif one.account == LARGEST:
            names = [max(equities, key=equities.__getitem__)] if equities else []
        for name in names:
            known = found.get(name, Outage(account=name, are_withdrawals_stopped=False))
            found[name] = Outage(
                account=name,
                is_trading_stopped=known.is_trading_stopped or one.is_trading_stopped,
                are_withdrawals_stopped=known.are_withdrawals_stopped or one.are_withdrawals_stopped,
                recovery_share=min(known.recovery_share, one.recovery_share),
            )
    return found


def with_position(book: RiskBook, position: Position) -> RiskBook:
    """Return the book with a position more: added to the row of its account and id, or as a row of its own."""
    for row, name in enumerate(book.instrument_ids):
        if name == position.instrument_id and name and book.accounts[book.account[row]] == position.account:
            qty = book.qty_base.copy()
            qty[row] += position.qty_base
            return msgspec.structs.replace(book, qty_base=qty)
    spot = dict(zip(book.underlyings, book.spot_px.tolist(), strict=True))
    one = build_book([position], spot)
    accounts = tuple(dict.fromkeys((*book.accounts, position.account)))
    moneys = tuple(dict.fromkeys((*book.moneys, position.money)))
    columns = {name: np.concatenate([getattr(book, name), getattr(one, name)]) for name in ROW_COLUMNS}
    columns["account"][-1] = accounts.index(position.account)
    columns["money"][-1] = moneys.index(position.money)
    ids = (*book.instrument_ids, position.instrument_id)
    return msgspec.structs.replace(book, instrument_ids=ids, accounts=accounts, moneys=moneys, **columns)


def _values(book: RiskBook, rows: Ints, forward: Floats, tau: Floats, vol: Floats) -> Floats:
    once = np.zeros(1, dtype=np.int64)
    strike, is_call = book.strike_px[rows], book.is_call[rows]
    px = option_values(forward[rows], strike, tau[rows], is_call, np.zeros(1), vol[rows][None, :], once, once)
    values: Floats = px[0]
    return values


def _coin_multiples(book: RiskBook, scenario: StressScenario, cast: Mapping[str, str]) -> Floats:
    """Return what each row of coins is multiplied by where a mark says so, else 1; a named account comes first."""
    found: Floats = np.ones(len(book))
    for one in sorted(scenario.marks, key=lambda mark: mark.account != ANY):
        for row, asset in _coins(book):
            account = book.accounts[book.account[row]]
            if asset == one.asset and one.account in (ANY, account, _role_of(account, cast)):
                found[row] = one.multiple
    return found


def _coins(book: RiskBook) -> list[tuple[int, str]]:
    """Return the rows of coins with what each is called: its id, else its underlying."""
    rows = np.flatnonzero(book.kind == SPOT).tolist()
    return [(row, book.instrument_ids[row] or book.underlyings[book.underlying[row]]) for row in rows]


def _role_of(account: str, cast: Mapping[str, str]) -> str:
    return next((role for role, player in cast.items() if player == account), account)


def _notes(
    book: RiskBook, scenario: StressScenario, terms: Mapping[str, MarginTermsOf], cast: Mapping[str, str]
) -> tuple[str, ...]:
    played = {
        cast.get(name, name) for name in (*(m.account for m in scenario.marks), *(o.account for o in scenario.outages))
    }
    absent = sorted(played - {ANY, LARGEST} - set(book.accounts))
    notes = [f"nobody plays {name}: what happened there happens nowhere" for name in absent]
    notes += [
        f"{name} has no margin model: all it could lose is asked for" for name in book.accounts if name not in terms
    ]
    return tuple(notes)


def _value(book: RiskBook, rows: Flags) -> float:
    return float((book.qty_base[rows] * book.mark_px[rows]).sum())


def _use(maintenance_quote: float, equity_quote: float) -> float:
    if maintenance_quote <= 0.0:
        return 0.0
    return maintenance_quote / equity_quote if equity_quote > 0.0 else float("inf")
