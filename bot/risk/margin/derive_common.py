"""What Derive's managers have in common: feeds with a confidence, expiries, forwards that are fixed in part, auctions.

Formulas as read in its documentation and code paths `src/risk-managers/` (figures and formulas are facts; no code).
Every requirement is held against equity that counts each position, coins held too, at its mark: Derive's own "margin",
positive when healthy, is equity less requirement.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

import msgspec
import numpy as np

from bot.pricing import black76
from bot.risk.book import PERPETUAL, SPOT, Flags, Floats, Ints, RiskBook
from bot.risk.repricing import option_values
from bot.risk.requirement import Charge, Requirement
from bot.risk.stack import BookStack, grouped

SECONDS_PER_YEAR: Final = 365.0 * 86_400.0
SKEWS: Final = ("linear", "abs")


class Feeds(msgspec.Struct, frozen=True, kw_only=True):
    """What Derive's oracles say beside prices; whatever is None is certain, without interest, or not yet fixed.

    By row of the book: `rate_per_year` (of the row's expiry), `confidence` from 0 to 1 (the least of the expiry's
    forward, vol and rate feed; a perpetual's or a coin's own feed) and `fixed_px`, the part of the forward that the
    settlement average has already fixed. By underlying: `spot_confidence`. `stable_px` is what the cash is worth.
    """

    rate_per_year: Floats | None = None
    confidence: Floats | None = None
    fixed_px: Floats | None = None
    spot_confidence: Floats | None = None
    stable_px: float = 1.0

    @property
    def are_silent(self) -> bool:
        """Tell whether nothing is said: all that is not told is certain."""
        is_told = self.rate_per_year is not None or self.confidence is not None or self.fixed_px is not None
        return self.stable_px == 1.0 and not is_told and self.spot_confidence is None

    def of(self, stack: BookStack, fixing_s: float) -> RowFeeds:
        """Return these for every row of a stack; a forward is fixed bit by bit in the last `fixing_s` seconds."""
        if self.are_silent:
            left = stack.tau_years * (SECONDS_PER_YEAR / fixing_s)
            if (left >= 1.0).all() and np.isfinite(stack.forward_px).all():  # nothing is fixed, nothing in doubt
                return RowFeeds(np.zeros(left.shape[1]), np.ones((1, left.shape[1])), np.zeros((1, left.shape[1])), 1.0)
        layout = stack.layout
        rows = len(layout.kind)
        fixed = self.fixed_px
        if fixed is None:
            left = np.clip(stack.tau_years * SECONDS_PER_YEAR / fixing_s, 0.0, 1.0)
            fixed = stack.forward_px * (1.0 - left)
        spot = np.ones(len(layout.underlyings)) if self.spot_confidence is None else self.spot_confidence
        own = np.ones(rows) if self.confidence is None else self.confidence
        rate = np.zeros(rows) if self.rate_per_year is None else self.rate_per_year
        doubtful = [name for name, given in (("confidence", own), ("rate_per_year", rate), ("fixed_px", fixed))
                    if given.shape[-1:] != (rows,)]  # fmt: skip
        if doubtful or spot.shape != stack.spot_px.shape[1:]:
            names = ", ".join(doubtful) or "spot_confidence"
            raise ValueError(f"expected feeds for {rows} rows and {len(layout.underlyings)} underlyings, found {names}")
        # A feed that says nothing readable is not believed at all; nor is a row of which it says so.
        spot = np.nan_to_num(spot, nan=0.0)
        fixed = np.atleast_2d(fixed)
        own = np.where(np.isfinite(own) & np.isfinite(rate) & np.isfinite(fixed), own, 0.0)
        fixed = np.nan_to_num(fixed, posinf=0.0, neginf=0.0)
        confidence = np.minimum(own, spot[layout.underlying])
        if (confidence < 1.0).any():
            confidence = _lent_doubt(stack, confidence)
        stable = self.stable_px if np.isfinite(self.stable_px) else 0.0
        return RowFeeds(np.maximum(np.nan_to_num(rate, posinf=0.0), 0.0), np.clip(confidence, 0.0, 1.0), fixed, stable)


SILENT: Final = Feeds()


def _lent_doubt(stack: BookStack, confidence: Floats) -> Floats:
    """Return the confidence by copy and row; the doubt of a perpetual that is held is that of the options beside it."""
    out = np.repeat(confidence, len(stack), axis=0) if len(confidence) == 1 else confidence
    for number in stack.held:
        of_it = stack.underlying == number
        held = of_it & (stack.kind == PERPETUAL) & (stack.qty_base != 0.0)
        least = np.where(held, out, np.inf).min(axis=1, keepdims=True)
        out = np.where(of_it & stack.is_option, np.minimum(out, least), out)
    return out


class RowFeeds(msgspec.Struct, frozen=True, gc=False):
    """`Feeds` with a number for every row: rates not below zero, confidence the least of all that bear on the row.

    Confidence and what is fixed have a line for all copies of a stack, or one for each.
    """

    rate_per_year: Floats
    confidence: Floats
    fixed_px: Floats
    stable_px: float

    @property
    def doubts(self) -> list[str]:
        """The least confidence there is, in words, by line; "" where there is no doubt."""
        least = self.confidence.min(axis=1, initial=1.0).tolist()
        return [f"least confidence {one:.3g}" if one < 1.0 else "" for one in least]

    def are_doubted(self, threshold: float) -> bool:
        """Tell whether anything is doubted more than the threshold allows."""
        return bool((self.confidence < threshold).any())


def coin_values_quote(stack: BookStack, rows: Ints, feeds: RowFeeds) -> Floats:
    """Return by copy what coins held are worth in units of the cash, in which everything here counts."""
    values: Floats = stack.qty_base[:, rows] * stack.mark_px[:, rows]
    return values / feeds.stable_px if feeds.stable_px > 0.0 else values


class Haircut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a coin held as collateral loses of its value: to maintenance margin, and once more to initial margin.

    One that `offsets_risk` moves with the underlying in every scenario, so that it covers what is short.
    """

    maintenance: float
    initial: float
    offsets_risk: bool = False


NOT_ACCEPTED: Final = Haircut(1.0, 0.0)


class Scenario(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The underlying times `spot_multiple`, vol moved this way, the P&L times `damping`."""

    spot_multiple: float
    vol: Literal["up", "same", "down", "linear", "abs"]
    damping: float = 1.0

    @property
    def name(self) -> str:
        """Such as "+18% vol up" or "skew linear"."""
        return f"skew {self.vol}" if self.vol in SKEWS else f"{self.spot_multiple - 1.0:+.4g} vol {self.vol}"


class Basis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Forwards move against each other: the worse of two moves of each expiry, x (add + mult T)."""

    up_multiple: float
    down_multiple: float
    add: float
    per_year: float

    def charge_quote(self, moved: Floats, now: Floats, tau_years: Floats) -> Floats:
        """Return the P&L of it by copy and expiry, not above zero, from values after both moves and now."""
        worst: Floats = np.minimum((moved - now).min(axis=0, initial=0.0), 0.0)
        return worst * (self.add + self.per_year * tau_years)


class Scenarios:
    """The scenarios of a parameter set as arrays, one number each, with what they are called.

    `multiples` and the like are of them alone; `values` prices the two moves of a basis and the market itself as well.
    """

    def __init__(self, scenarios: tuple[Scenario, ...], words: tuple[str, ...], basis: Basis | None = None) -> None:
        """Take them; `words` are the lines that vols will have, as they are now in the first.

        Raises ValueError for none, or one that is unknown.
        """
        wrong = [one.name for one in scenarios if one.vol not in words or not (one.spot_multiple > 0.0 <= one.damping)]
        if not scenarios or wrong:
            found = ", ".join(wrong) or "none"
            raise ValueError(f"expected scenarios with a price above 0 and vol {', '.join(words)}, found {found}")
        self.names = tuple([one.name for one in scenarios])
        self.multiples: Floats = np.array([one.spot_multiple for one in scenarios])
        self.damping: Floats = np.array([one.damping for one in scenarios])
        self.is_skew: Flags = np.array([one.vol in SKEWS for one in scenarios], dtype=bool)
        more = [] if basis is None else [basis.up_multiple, basis.down_multiple]
        every = [*self.multiples.tolist(), *more, 1.0]
        self._moves: Floats = np.array(list(dict.fromkeys(every)))
        self._move_of: Ints = np.array([self._moves.tolist().index(one) for one in every], dtype=np.int64)
        vol_of = [words.index(one.vol) for one in scenarios]
        self._vol_of: Ints = np.array(vol_of + [0] * (len(more) + 1), dtype=np.int64)

    def values(self, options: Expiries, vols: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the value of every expiry by scenario and copy; after each move of the basis; and as things are."""
        size = len(self.names)
        found = options.values(self._moves, vols, self._move_of, self._vol_of)
        return found[:size], found[size:-1], found[-1]


@lru_cache(maxsize=64)
def scenarios_of(scenarios: tuple[Scenario, ...], words: tuple[str, ...], basis: Basis) -> Scenarios:
    """Return the scenarios as arrays, worked out once for each parameter set."""
    return Scenarios(scenarios, words, basis)


class Expiries:
    """The options of a stack by underlying and expiry, to the second: each expiry is valued as a whole, in every copy.

    `stack` has the options alone, `rows` are their numbers. What is by expiry has a line for all markets, or one each.
    """

    def __init__(self, stack: BookStack, feeds: RowFeeds, *, is_discounted: bool = True) -> None:
        """Take the options out of a stack; valued with exp(-rT), or without."""
        self.rows: Ints = stack.layout.options
        self.stack = stack.only_options()
        tau = self.stack.tau_years
        self.seconds: Floats = np.round(tau * SECONDS_PER_YEAR)
        self.groups = grouped(self.stack, (self.stack.underlying,), self.seconds)
        rate = feeds.rate_per_year.take(self.rows)
        self.tau_years: Floats = self.groups.first(tau)
        self.rate_per_year: Floats = self.groups.first(rate)
        self.discount: Floats = np.ones(self.tau_years.shape)
        if is_discounted and rate.any():
            self.discount = np.exp(-self.rate_per_year * self.tau_years)
        self.row_confidence: Floats = feeds.confidence.take(self.rows, axis=1)
        self.fixed_px: Floats = feeds.fixed_px.take(self.rows, axis=1)
        self.underlying: Ints = self.groups.key(self.stack.underlying)
        self._selector: tuple[Sequence[int], Floats] | None = None  # of the markets last asked about

    @property
    def confidence(self) -> Floats:
        """The least confidence in each expiry, by line."""
        return self.groups.least(self.row_confidence)

    def by_expiry(self, by_row: Floats) -> Floats:
        """Return sums over the rows (the last axis) of each expiry."""
        return self.groups.sum(by_row)

    def by_market(self, by_expiry: Floats, markets: Sequence[int]) -> Floats:
        """Return sums over the expiries (the last axis) of each market, by the numbers of their underlyings."""
        if self._selector is None or self._selector[0] is not markets:
            self._selector = markets, (self.underlying[:, None] == np.array(markets)).astype(np.float64)
        found: Floats = by_expiry @ self._selector[1]
        return found

    def notional(self, size_base: Floats, spot_px: Floats) -> tuple[Floats, Floats]:
        """Return the confidence in each expiry, by line, and its notional, of sizes by copy and row at spot prices."""
        return self.confidence, self.by_expiry(size_base) * spot_px.take(self.underlying, axis=1)

    def values(self, multiples: Floats, vols: Floats, multiple_of: Ints, vol_of: Ints) -> Floats:
        """Return the value of every expiry by scenario and copy, discounted where these are.

        The forward is its variable part times the multiple, plus what is fixed. `vols` has a line per distinct shock,
        and in it one for all markets or one for each; `multiple_of` and `vol_of` say which ones a scenario has.
        """
        stack, markets = self.stack, self.stack.markets
        strike, is_call, options = stack.strike_px, stack.is_call, stack.strike_px.size
        if not options:
            return np.zeros((multiple_of.size, len(stack), 0))
        forward, tau = stack.forward_px, stack.tau_years
        if markets > 1:
            strike, is_call = np.tile(strike, markets), np.tile(is_call, markets)
            forward, tau = stack.lines("forward_px"), stack.lines("tau_years")
            if vols.shape[1] == 1:
                vols = np.repeat(vols, markets, axis=1)
        moves: Floats = multiples - 1.0
        if self.fixed_px.any():
            moves = moves[:, None] * (1.0 - self.fixed_px / forward).reshape(-1)
        px = option_values(
            forward.reshape(-1),
            strike,
            tau.reshape(-1),
            is_call,
            moves,
            vols.reshape(len(vols), -1),
            multiple_of,
            vol_of,
        )
        values: Floats = self.by_expiry(px.reshape(-1, markets, options) * stack.qty_base) * self.discount
        return values


def naked_shorts_base(options: Expiries, markets: Sequence[int]) -> Floats:
    """Return by copy and market how many options are short and not covered: calls against puts of one strike net.

    Short a call and long a put of the same strike and expiry is a forward, whose loss the scenarios see in full.
    """
    stack = options.stack
    groups = grouped(stack, (stack.underlying, stack.strike_px), options.seconds)
    short = np.maximum(-groups.sum(stack.qty_base), 0.0)
    found: Floats = short @ (groups.key(stack.underlying)[:, None] == np.array(markets)).astype(np.float64)
    return found


def contracts_notional(stack: BookStack, feeds: RowFeeds) -> tuple[Floats, Floats]:
    """Return the confidence in perpetuals and futures, by line and row, and their notional at spot prices."""
    numbers, _ = stack.layout.contracts()
    linear = stack.contracts()
    return feeds.confidence[:, numbers], np.abs(linear.qty_base) * linear.spot_of_row_px


def linear_sums(stack: BookStack, markets: Sequence[int]) -> tuple[Floats, Floats]:
    """Return by copy and market the size of perpetuals and futures, in base, and what they are worth, signed."""
    linear = stack.contracts()
    selector = linear.layout.selector
    if linear.held != markets:
        selector = (linear.underlying[:, None] == np.array(markets)).astype(np.float64)
    return np.abs(linear.qty_base) @ selector, (linear.qty_base * linear.mark_px) @ selector


def confidence_charge(confidence: Floats, notional_quote: Floats, threshold: float, rate: float) -> Floats:
    """Return (1 - c) x rate x notional of whatever is doubted more than the threshold allows, along the last axis."""
    doubted = confidence < threshold
    found: Floats = (np.where(doubted, 1.0 - confidence, 0.0) * np.abs(notional_quote)).sum(axis=-1) * rate
    return found


def marks_px(book: RiskBook, feeds: Feeds, fixing_s: float) -> Floats:
    """Return what PMRM_2 values a unit of each row at: options discounted, the rest at its mark."""
    px = book.mark_px.copy()
    of_rows = feeds.of(BookStack(book), fixing_s)
    options = np.flatnonzero(book.is_option)
    if options.size:
        discount = np.exp(-of_rows.rate_per_year[options] * book.tau_years[options])
        value = black76.greeks(
            book.forward_px[options], book.strike_px[options], book.tau_years[options], book.vol[options],
            book.is_call[options],
        ).value  # fmt: skip
        px[options] = value * discount
    return px


def coins(stack: BookStack, cash: tuple[str, ...]) -> Ints:
    """Return the rows of coins held that are not cash."""
    layout = stack.layout
    return np.array([row for row in layout.coins if layout.asset(row) not in cash], dtype=np.int64)


def markets_of(stack: BookStack, moving: Ints) -> list[int]:
    """Return the underlyings with derivatives, or with any of these rows of coins."""
    if not stack.layout.coins:
        return stack.held
    traded = stack.kind != SPOT
    traded[moving] = True
    found: list[int] = np.unique(stack.underlying[traded]).tolist()
    return found


def haircuts(
    stack: BookStack, held: Ints, value_quote: Floats, rates: dict[str, Haircut]
) -> tuple[Floats, Floats, str]:
    """Return by copy what coins lose of their value for maintenance, what more for initial margin; which are refused.

    A coin without a rate counts nothing: it loses all it is worth. One that is owed loses the same again.
    """
    assets = [stack.layout.asset(row) for row in held.tolist()]
    found = [rates.get(asset, NOT_ACCEPTED) for asset in assets]
    size = np.abs(value_quote)
    maintenance, initial = (
        size @ np.array([getattr(one, name) for one in found]) for name in ("maintenance", "initial")
    )
    refused = [asset for asset in assets if asset not in rates]
    return maintenance, initial, f"not accepted: {', '.join(refused)}" if refused else ""


class Markets:
    """The scenarios of several underlyings, each a market of its own: what one gains covers nothing of another.

    `loss_quote` is by copy of a stack what all of them lose in the worst; one that gains in every scenario loses
    nothing.
    """

    def __init__(self, underlyings: tuple[str, ...], names: tuple[str, ...], pnl_quote: Floats) -> None:
        """Take the P&L by scenario, copy and market."""
        least = np.minimum(pnl_quote.min(axis=0), 0.0)
        self.loss_quote: Floats = -least.sum(axis=1)
        self._labels = _labels(underlyings, names)
        lowest = pnl_quote.argmin(axis=0) + len(names) * np.arange(len(underlyings))
        self._lowest: list[list[int]] = lowest.tolist()
        self._is_losing: list[list[bool]] = (least < 0.0).tolist()
        self._pnl: list[list[float]] = pnl_quote.transpose(1, 2, 0).reshape(len(least), -1).tolist()

    @property
    def worsts(self) -> list[str]:
        """The scenario that decided, of each market that loses in any, by copy."""
        return [
            ", ".join([self._labels[at] for at, is_losing in zip(*one, strict=True) if is_losing])
            for one in zip(self._lowest, self._is_losing, strict=True)
        ]

    def requirements(self, model: str, charges: Sequence[tuple[Charge, ...]], worsts: list[str]) -> list[Requirement]:
        """Return by copy the sum of its charges, with every scenario of every market."""
        return [
            Requirement(
                model,
                "quote",
                sum([one.initial for one in asked]),
                sum([one.maintenance for one in asked]),
                asked,
                worst,
                self._labels,
                tuple(pnl),
            )
            for asked, worst, pnl in zip(charges, worsts, self._pnl, strict=True)
        ]


@lru_cache(maxsize=64)
def _labels(underlyings: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the scenarios of all markets are called, one market's after the other's."""
    return tuple([f"{name} {one}" if len(underlyings) > 1 else one for name in underlyings for one in names])


class Auction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Derive's liquidation, a Dutch auction of a share of an account on its mark-to-market value.

    The price falls from `start_share` to `knee_share` of it within `fast_s`, and from there to nothing within `slow_s`.
    `buffer_rate` of what the positions need is to be left once it is over.
    """

    start_share: float
    knee_share: float
    fast_s: float
    slow_s: float
    buffer_rate: float

    def price_share(self, elapsed_s: float) -> float:
        """Return the price after so many seconds, as a share of mark-to-market value."""
        if elapsed_s <= self.fast_s:
            return self.start_share - (self.start_share - self.knee_share) * max(elapsed_s, 0.0) / self.fast_s
        return max(self.knee_share * (1.0 - (elapsed_s - self.fast_s) / self.slow_s), 0.0)

    def buffer_margin_quote(self, maintenance_quote: float, equity_quote: float) -> float:
        """Return what is left of equity after the requirement and its buffer: below zero while there is an auction.

        `maintenance_quote` is the requirement, unsigned.
        """
        return equity_quote - maintenance_quote * (1.0 + self.buffer_rate)


def liquidated_share(
    buffer_margin_quote: float, equity_quote: float, reserved_quote: float, price_share: float
) -> float:
    """Return the largest share of an account that its auction may sell, which restores buffer margin to zero.

    f = BM / (BM - MtM d - R (1 - d)), from (1 - f)(BM - R) + R + f d (MtM - R) = 0: what stays, the cash reserved by
    earlier bids, and what is paid for the share. 1 where even all of it does not restore it; 0 for a healthy account.
    """
    if buffer_margin_quote >= 0.0:
        return 0.0
    paid = equity_quote * price_share + reserved_quote * (1.0 - price_share)
    if paid <= 0.0:
        return 1.0
    return min(buffer_margin_quote / (buffer_margin_quote - paid), 1.0)
