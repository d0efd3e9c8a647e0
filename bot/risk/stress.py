"""Named scenarios: what a past crash, played again on today's book, leaves of P&L, Greeks, margin and collateral.

A scenario is data: moves of spot by underlying, a vol shock that shrinks with time to expiry, hours that pass, what
each venue counts a coin as, which venues stop trading, hold withdrawals back or are gone. Nothing here says how likely
it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np

from bot.risk.book import ROW_COLUMNS, SPOT, Flags, Floats, Ints, Position, RiskBook, build_book
from bot.risk.gaps import has_gaps
from bot.risk.layout import layout_of
from bot.risk.margin.registry import MODELS, answer_all, decode_values, evaluate_or_assume
from bot.risk.margin.reported import scaled
from bot.risk.parameters import ParameterSet
from bot.risk.repricing import option_values
from bot.risk.requirement import Requirement
from bot.risk.scenarios import VolShock
from bot.risk.sensitivities import Sensitivities, sensitivities, stack_sensitivities
from bot.risk.stack import MOVED, BookStack, sized_in_quote

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


class MarginTermsOf(msgspec.Struct, frozen=True, kw_only=True, dict=True):
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

    @cached_property
    def parameters(self) -> msgspec.Struct:
        """The values as the model takes them, decoded once. Raises ValueError where they are none of its."""
        return decode_values(self.model, self.values)


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
    return moved_stack(book, [scenario], cast).book(0, book)


def moved_stack(
    book: RiskBook, scenarios: Sequence[StressScenario], cast: Mapping[str, str] | None = None
) -> BookStack:
    """Return a copy of the book after each scenario, as `moved_book` would; all options are priced in one pass."""
    moves = [[one.moves.get(name, one.other_move) for name in book.underlyings] for one in scenarios]
    multiple = np.maximum(
        1.0 + np.array(moves, dtype=float).reshape(len(scenarios), len(book.underlyings)), LEAST_MULTIPLE
    )
    by_row = multiple[:, book.underlying]
    is_option = book.is_option
    is_linear = ~is_option & (book.kind != SPOT)
    basis, hours = (np.array([getattr(one, name) for one in scenarios])[:, None] for name in ("basis_move", "hours"))
    tau = np.maximum(book.tau_years - hours / HOURS_PER_YEAR, 0.0)
    vol = np.repeat(book.vol[None, :], len(scenarios), axis=0)
    mark = np.maximum(book.mark_px * by_row + np.where(is_linear, basis * book.spot_of_row_px * by_row, 0.0), 0.0)
    forward = np.where(is_linear, mark, book.forward_px * by_row)
    rows = np.flatnonzero(is_option)
    if rows.size:
        for line, one in zip(vol, scenarios, strict=True):
            word = "up" if one.vol.up or not one.vol.down else "down"
            line[rows] = one.vol.shocked(book.vol[rows], book.tau_years[rows], word)
        mark[:, rows] = _values(book, rows, forward[:, rows], tau[:, rows], vol[:, rows])
    for place, one in enumerate(scenarios):
        if one.marks:
            mark[place] *= _coin_multiples(book, one, cast or {})
    moved = BookStack(book).at(book.spot_px * multiple, forward_px=forward, mark_px=mark, tau_years=tau, vol=vol)
    return sized_in_quote(moved, book)


def play(
    book: RiskBook,
    scenarios: Iterable[StressScenario],
    terms: Mapping[str, MarginTermsOf],
    cast: Mapping[str, str] | None = None,
) -> tuple[StressResult, ...]:
    """Return what each scenario leaves of the book and of every account.

    An account without terms is asked for all it could lose, and named.
    """
    played = tuple(scenarios)
    stack = moved_stack(book, played, cast)
    all_of_it = with_now(book, stack)
    is_whole = not has_gaps(all_of_it)
    before: dict[str, Requirement] = {}
    after: dict[str, list[Requirement]] = {}
    equities: dict[str, float] = {}
    for name, rows in zip(book.accounts, book.rows_by_account, strict=False):
        own = book.of_account(name)
        part = all_of_it.pick(rows, layout_of(own))
        before[name], *after[name] = margins_of(part, own, terms.get(name), is_whole=is_whole)
        equities[name] = equity_of(own, terms.get(name))
    outages = [outages_of(one, equities, cast or {}) for one in played]
    is_there = np.ones((len(played) + 1, len(book)), dtype=bool)
    for line, states in zip(is_there[1:], outages, strict=True):
        for number, name in enumerate(book.accounts):
            if name in states and states[name].recovery_share < 1.0:
                line[book.account == number] = False
    greeks = stack_sensitivities(all_of_it, is_there)
    won = _won_by_account(book, stack, played)
    return tuple(
        _play_one(
            book,
            one,
            terms,
            cast or {},
            mark_px=stack.mark_px[place],
            won=won[place],
            before=before,
            after={name: found[place] for name, found in after.items()},
            equities=equities,
            states=outages[place],
            greeks=(greeks[0], greeks[place + 1]),
        )
        for place, one in enumerate(played)
    )


def _won_by_account(book: RiskBook, stack: BookStack, played: Sequence[StressScenario]) -> list[list[float]]:
    """Return by scenario and account what all its rows gain."""
    won = np.zeros((len(played), len(book.accounts)))
    order = np.argsort(book.account, kind="stable")
    there = np.bincount(book.account).nonzero()[0]
    starts = np.searchsorted(book.account[order], there)
    for place, one in enumerate(played):
        if len(there):
            won[place, there] = np.add.reduceat(row_pnl_quote(book, stack.mark_px[place], one)[order], starts)
    found: list[list[float]] = won.tolist()
    return found


def with_now(book: RiskBook, stack: BookStack) -> BookStack:
    """Return the copies of a stack behind one of the book as it is."""
    columns = {name: np.concatenate([getattr(book, name)[None, :], stack.lines(name)]) for name in MOVED}
    both = BookStack(book).at(np.concatenate([book.spot_px[None, :], stack.spot_px]), **columns)
    return both.with_qty(np.concatenate([book.qty_base[None, :], stack.qty_base]))


def _play_one(
    book: RiskBook,
    scenario: StressScenario,
    terms: Mapping[str, MarginTermsOf],
    cast: Mapping[str, str],
    *,
    mark_px: Floats,
    won: Sequence[float],
    before: Mapping[str, Requirement],
    after: Mapping[str, Requirement],
    equities: Mapping[str, float],
    states: Mapping[str, Outage],
    greeks: tuple[dict[str, Sensitivities], dict[str, Sensitivities]],
) -> StressResult:
    is_coin = book.kind == SPOT
    coin_pnl = row_pnl_quote(book, mark_px, scenario) if is_coin.any() else None
    accounts = []
    for number, (name, gain) in enumerate(zip(book.accounts, won, strict=True)):
        coins = (book.account == number) & is_coin if coin_pnl is not None else None
        state = states.get(name)
        is_gone = state is not None and state.recovery_share < 1.0
        equity_after = equities[name] + gain
        asked = after[name]
        if state is not None and is_gone:
            equity_after = max(equity_after, 0.0) * state.recovery_share
            asked = Requirement(asked.model, "quote", 0.0, 0.0)
        accounts.append(
            AccountAfter(
                account=name,
                pnl_quote=gain if coin_pnl is None else gain - float(coin_pnl[coins].sum()),
                coins_before_quote=0.0 if coins is None else _worth(book, book.mark_px, coins),
                coins_after_quote=0.0 if coins is None else _worth(book, mark_px, coins),
                equity_before_quote=equities[name],
                equity_after_quote=equity_after,
                before=before[name],
                after=asked,
                use_before=_use(before[name].maintenance, equities[name]),
                use_after=_use(asked.maintenance, equity_after),
                is_trading_stopped=is_gone or (state is not None and state.is_trading_stopped),
                are_withdrawals_stopped=is_gone or (state is not None and state.are_withdrawals_stopped),
                is_gone=is_gone,
            )
        )
    return StressResult(
        scenario=scenario,
        accounts=tuple(accounts),
        greeks_before=greeks[0],
        greeks=greeks[1],
        pnl_quote=sum(won),
        equity_before_quote=sum(one.equity_before_quote for one in accounts),
        equity_after_quote=sum(one.equity_after_quote for one in accounts),
        worst=max(accounts, key=lambda one: (one.use_after, one.shortfall_quote)).account if accounts else "",
        notes=_notes(book, scenario, terms, cast),
    )


def row_pnl_quote(book: RiskBook, mark_px: Floats, scenario: StressScenario) -> Floats:
    """Return what each row gains at other marks: of contracts in the money they settle in, worth less than before."""
    pnl: Floats = book.qty_base * (mark_px - book.mark_px)
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
    return _as_margin(found, book, book.spot_px, terms)


def margins_of(
    stack: BookStack, like: RiskBook, terms: MarginTermsOf | None, *, is_whole: bool = False
) -> list[Requirement]:
    """Return what an account's model asks for each copy of its book, as `margin_of` would; `like` has its names.

    Where it is known already that the stack has no gaps, it is whole.
    """
    cash = {row for row, asset in _coins(like) if terms is not None and asset in terms.cash}
    shown = like
    if terms is not None and terms.model in MODELS:
        if cash:
            kept = np.array([row for row in range(len(like)) if row not in cash], dtype=np.int64)
            shown, stack = like.where(kept), stack.where(kept)
        try:
            if is_whole or not has_gaps(stack):
                return [
                    _as_margin(one, shown, stack.spot_px[stack.market_of(copy)], terms)
                    for copy, one in enumerate(answer_all(terms.model, stack, terms.parameters))
                ]
        except ValueError:
            pass  # one copy cannot be answered for: which, and why, is found out copy by copy
    return [margin_of(stack.book(copy, shown), terms) for copy in range(len(stack))]


def _as_margin(found: Requirement, book: RiskBook, spot_px: Floats, terms: MarginTermsOf) -> Requirement:
    """Return a requirement in quote money, raised where its model is a stand-in."""
    if found.money in book.underlyings:  # a coin's model asks in coin
        initial, maintenance = found.in_quote(float(spot_px[book.underlyings.index(found.money)]))
        found = msgspec.structs.replace(found, money="quote", initial=initial, maintenance=maintenance)
    return scaled(found, terms.factor, terms.degraded)


def equity_of(book: RiskBook, terms: MarginTermsOf | None) -> float:
    """Return an account's equity: what is told, else what its coins and options are worth at their marks."""
    if terms is not None and terms.equity_quote is not None:
        return terms.equity_quote
    return _worth(book, book.mark_px, (book.kind == SPOT) | book.is_option)


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
    """Return what options are worth at other markets, a line each."""
    once, lines = np.zeros(1, dtype=np.int64), len(forward)
    strike, is_call = np.tile(book.strike_px[rows], lines), np.tile(book.is_call[rows], lines)
    px = option_values(
        forward.reshape(-1), strike, tau.reshape(-1), is_call, np.zeros(1), vol.reshape(1, -1), once, once
    )
    values: Floats = px[0].reshape(lines, len(rows))
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
    layout = layout_of(book)
    return [(row, layout.asset(row)) for row in layout.coins]


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


def _worth(book: RiskBook, mark_px: Floats, rows: Flags) -> float:
    return float((book.qty_base[rows] * mark_px[rows]).sum())


def _use(maintenance_quote: float, equity_quote: float) -> float:
    if maintenance_quote <= 0.0 and equity_quote >= 0.0:
        return 0.0
    return maintenance_quote / equity_quote if equity_quote > 0.0 else float("inf")
