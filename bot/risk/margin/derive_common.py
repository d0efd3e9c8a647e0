"""What Derive's managers have in common: feeds with a confidence, expiries, forwards that are fixed in part, auctions.

Formulas as read in its documentation and code paths `src/risk-managers/` (figures and formulas are facts; no code).
Every requirement is held against equity that counts each position, coins held too, at its mark: Derive's own "margin",
positive when healthy, is equity less requirement.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import numpy as np

from bot.pricing import black76
from bot.risk.book import FUTURE, PERPETUAL, SPOT, Flags, Floats, Ints, RiskBook
from bot.risk.repricing import option_values
from bot.risk.requirement import Charge, Requirement

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

    def of(self, book: RiskBook, fixing_s: float) -> RowFeeds:
        """Return these for every row of the book; a forward is fixed bit by bit in the last `fixing_s` seconds."""
        rows = len(book)
        fixed = self.fixed_px
        if fixed is None:
            left = np.clip(book.tau_years * SECONDS_PER_YEAR / fixing_s, 0.0, 1.0)
            fixed = book.forward_px * (1.0 - left)
        spot = np.ones(len(book.underlyings)) if self.spot_confidence is None else self.spot_confidence
        own = np.ones(rows) if self.confidence is None else self.confidence
        rate = np.zeros(rows) if self.rate_per_year is None else self.rate_per_year
        doubtful = [name for name, given in (("confidence", own), ("rate_per_year", rate), ("fixed_px", fixed))
                    if given.shape != (rows,)]  # fmt: skip
        if doubtful or spot.shape != book.spot_px.shape:
            names = ", ".join(doubtful) or "spot_confidence"
            raise ValueError(f"expected feeds for {rows} rows and {len(book.underlyings)} underlyings, found {names}")
        # A feed that says nothing readable is not believed at all; nor is a row of which it says so.
        spot = np.nan_to_num(spot, nan=0.0)
        own = np.where(np.isfinite(own) & np.isfinite(rate) & np.isfinite(fixed), own, 0.0)
        fixed = np.nan_to_num(fixed, posinf=0.0, neginf=0.0)
        confidence = np.minimum(own, spot[book.underlying])
        options = book.is_option
        for number in range(len(book.underlyings)):  # a perpetual's doubt is that of the options beside it
            of_it = book.underlying == number
            perps = of_it & (book.kind == PERPETUAL) & (book.qty_base != 0.0)
            if perps.any():
                rows_of_it = of_it & options
                confidence[rows_of_it] = np.minimum(confidence[rows_of_it], confidence[perps].min())
        stable = self.stable_px if np.isfinite(self.stable_px) else 0.0
        return RowFeeds(np.maximum(np.nan_to_num(rate, posinf=0.0), 0.0), np.clip(confidence, 0.0, 1.0), fixed, stable)


class RowFeeds(msgspec.Struct, frozen=True, gc=False):
    """`Feeds` with a number for every row: rates not below zero, confidence the least of all that bear on the row."""

    rate_per_year: Floats
    confidence: Floats
    fixed_px: Floats
    stable_px: float

    @property
    def doubt(self) -> str:
        """The least confidence there is, in words; "" where there is no doubt."""
        least = float(self.confidence.min(initial=1.0))
        return f"least confidence {least:.3g}" if least < 1.0 else ""

    def where(self, rows: Ints) -> RowFeeds:
        """Return those of these rows."""
        return RowFeeds(self.rate_per_year[rows], self.confidence[rows], self.fixed_px[rows], self.stable_px)


def coin_values_quote(book: RiskBook, rows: Ints, feeds: RowFeeds) -> Floats:
    """Return what coins held are worth in units of the cash, in which everything here counts."""
    values: Floats = book.qty_base[rows] * book.mark_px[rows]
    return values / feeds.stable_px if feeds.stable_px > 0.0 else values


class Haircut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a coin held as collateral loses of its value: to maintenance margin, and once more to initial margin.

    One that `offsets_risk` moves with the underlying in every scenario, so that it covers what is short.
    """

    maintenance: float
    initial: float
    offsets_risk: bool = False


NOT_ACCEPTED: Final = Haircut(1.0, 0.0)


class Scenarios:
    """The scenarios of a parameter set as arrays, one number each, with what they are called."""

    def __init__(self, scenarios: tuple[Scenario, ...], words: tuple[str, ...]) -> None:
        """Take them; `words` are the lines that vols will have. Raises ValueError for none, or one that is unknown."""
        wrong = [one.name for one in scenarios if one.vol not in words or not (one.spot_multiple > 0.0 <= one.damping)]
        if not scenarios or wrong:
            found = ", ".join(wrong) or "none"
            raise ValueError(f"expected scenarios with a price above 0 and vol {', '.join(words)}, found {found}")
        self.names = [one.name for one in scenarios]
        self.multiples: Floats = np.array([one.spot_multiple for one in scenarios])
        self.damping: Floats = np.array([one.damping for one in scenarios])
        self.vol_of: Ints = np.array([words.index(one.vol) for one in scenarios], dtype=np.int64)
        self.is_skew: Flags = np.array([one.vol in SKEWS for one in scenarios], dtype=bool)

    def values(self, options: Expiries, vols: Floats) -> Floats:
        """Return the value of every expiry (columns) in every scenario (rows)."""
        return options.values(self.multiples, vols, np.arange(self.multiples.size), self.vol_of)


class Expiries(msgspec.Struct, frozen=True, gc=False):
    """The options of one underlying by expiry: rows belong to columns, and every expiry is valued as a whole."""

    rows: Ints
    column: Ints
    tau_years: Floats
    rate_per_year: Floats
    discount: Floats
    confidence: Floats
    forward_px: Floats
    fixed_px: Floats
    strike_px: Floats
    vol: Floats
    is_call: Flags
    qty_base: Floats
    row_tau_years: Floats

    def by_expiry(self, by_row: Floats) -> Floats:
        """Return sums over the rows (the last axis) of each expiry."""
        selector = np.zeros((self.rows.size, self.tau_years.size))
        selector[np.arange(self.rows.size), self.column] = 1.0
        return by_row @ selector

    def values(self, multiples: Floats, vols: Floats, multiple_of: Ints, vol_of: Ints) -> Floats:
        """Return the value of every expiry (columns) in every scenario (rows), discounted where these are.

        The forward is its variable part times the multiple, plus what is fixed. `vols` has a line per distinct shock;
        `multiple_of` and `vol_of` say which ones a scenario has.
        """
        if not self.rows.size:
            return np.zeros((multiple_of.size, 0))
        moves: Floats = multiples - 1.0
        if self.fixed_px.any():
            moves = moves[:, None] * (1.0 - self.fixed_px / self.forward_px)
        px = option_values(
            self.forward_px, self.strike_px, self.row_tau_years, self.is_call, moves, vols, multiple_of, vol_of
        )
        values: Floats = self.by_expiry(px * self.qty_base) * self.discount
        return values

    @property
    def current(self) -> Floats:
        """The value of each expiry as things are."""
        once = np.zeros(1, dtype=np.int64)
        values: Floats = self.values(np.ones(1), self.vol[None, :], once, once)[0]
        return values


def expiries_of(book: RiskBook, feeds: RowFeeds, underlying: int, *, is_discounted: bool = True) -> Expiries:
    """Return the options of one underlying, by expiry to the second; valued with exp(-rT), or without."""
    rows = np.flatnonzero(book.is_option & (book.underlying == underlying))
    tau = book.tau_years[rows]
    _, first, column = np.unique(np.round(tau * SECONDS_PER_YEAR), return_index=True, return_inverse=True)
    of_rows = feeds.where(rows)
    confidence = np.ones(first.size)
    np.minimum.at(confidence, column, of_rows.confidence)
    return Expiries(
        rows=rows,
        column=column,
        tau_years=tau[first],
        rate_per_year=of_rows.rate_per_year[first],
        discount=np.exp(-of_rows.rate_per_year[first] * tau[first]) if is_discounted else np.ones(first.size),
        confidence=confidence,
        forward_px=book.forward_px[rows],
        fixed_px=of_rows.fixed_px,
        strike_px=book.strike_px[rows],
        vol=book.vol[rows],
        is_call=book.is_call[rows],
        qty_base=book.qty_base[rows],
        row_tau_years=tau,
    )


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

    def charge_quote(self, options: Expiries) -> float:
        """Return the P&L of it, not above zero."""
        which = np.array([0, 1])
        moves = np.array([self.up_multiple, self.down_multiple])
        both = options.values(moves, options.vol[None, :], which, np.zeros_like(which))
        worst = np.minimum((both - options.current).min(axis=0, initial=0.0), 0.0)
        return float((worst * (self.add + self.per_year * options.tau_years)).sum())


def naked_shorts_base(options: Expiries) -> float:
    """Return how many options are short and not covered: calls against puts of one strike and expiry net.

    Short a call and long a put of the same strike is a forward, whose loss the scenarios see in full.
    """
    if not options.rows.size:
        return 0.0
    _, group = np.unique(np.stack([options.column, options.strike_px]), axis=1, return_inverse=True)
    net = np.zeros(int(group.max()) + 1)
    np.add.at(net, group.reshape(-1), options.qty_base)
    return float(-np.minimum(net, 0.0).sum())


def confidence_charge(confidence: Floats, notional_quote: Floats, threshold: float, rate: float) -> float:
    """Return (1 - c) x rate x notional of whatever is doubted more than the threshold allows."""
    doubted = confidence < threshold
    return float((np.where(doubted, 1.0 - confidence, 0.0) * np.abs(notional_quote)).sum() * rate)


def marks_px(book: RiskBook, feeds: Feeds, fixing_s: float) -> Floats:
    """Return what PMRM_2 values a unit of each row at: options discounted, the rest at its mark."""
    px = book.mark_px.copy()
    of_rows = feeds.of(book, fixing_s)
    options = np.flatnonzero(book.is_option)
    if options.size:
        discount = np.exp(-of_rows.rate_per_year[options] * book.tau_years[options])
        value = black76.greeks(
            book.forward_px[options], book.strike_px[options], book.tau_years[options], book.vol[options],
            book.is_call[options],
        ).value  # fmt: skip
        px[options] = value * discount
    return px


def coins(book: RiskBook, cash: tuple[str, ...]) -> Ints:
    """Return the rows of coins held that are not cash."""
    return np.array(
        [row for row in np.flatnonzero(book.kind == SPOT) if asset_of(book, int(row)) not in cash], dtype=np.int64
    )


def asset_of(book: RiskBook, row: int) -> str:
    """Return the coin a spot row holds: what its id says, else its underlying."""
    return book.instrument_ids[row] or book.underlyings[book.underlying[row]]


def linear_rows(book: RiskBook, market: int) -> Ints:
    """Return the rows of perpetuals of one underlying, and of futures, which count as such."""
    rows: Ints = np.flatnonzero(((book.kind == PERPETUAL) | (book.kind == FUTURE)) & (book.underlying == market))
    return rows


def markets_of(book: RiskBook, moving: Ints) -> list[int]:
    """Return the underlyings with derivatives, or with any of these rows of coins."""
    traded = book.kind != SPOT
    traded[moving] = True
    found: list[int] = np.unique(book.underlying[traded]).tolist()
    return found


def haircuts(book: RiskBook, held: Ints, value_quote: Floats, rates: dict[str, Haircut]) -> tuple[float, float, str]:
    """Return what coins lose of their value for maintenance, what more for initial margin, and which are refused.

    A coin without a rate counts nothing: it loses all it is worth. One that is owed loses the same again.
    """
    maintenance = initial = 0.0
    refused = []
    for row, value in zip(held.tolist(), np.abs(value_quote).tolist(), strict=True):
        asset = asset_of(book, row)
        rate = rates.get(asset, NOT_ACCEPTED)
        maintenance += value * rate.maintenance
        initial += value * rate.initial
        if asset not in rates:
            refused.append(asset)
    return maintenance, initial, f"not accepted: {', '.join(refused)}" if refused else ""


class Markets:
    """The scenarios of several underlyings, each a market of its own: what one gains covers nothing of another."""

    def __init__(self) -> None:
        self.loss_quote = 0.0
        self._found: list[tuple[str, list[str], list[float], int]] = []

    def note(self, underlying: str, names: list[str], pnl_quote: list[float]) -> None:
        """Take in the P&L of one market; a market that gains in every scenario loses nothing in the worst."""
        lowest = min(range(len(names)), key=pnl_quote.__getitem__)
        self.loss_quote -= min(pnl_quote[lowest], 0.0)
        self._found.append((underlying, names, pnl_quote, lowest))

    @property
    def worst(self) -> str:
        """The scenario that decided, of each market that loses in any."""
        losing = [(name, names[lowest]) for name, names, pnl, lowest in self._found if pnl[lowest] < 0.0]
        return ", ".join(f"{name} {scenario}" if len(self._found) > 1 else scenario for name, scenario in losing)

    def requirement(self, model: str, charges: tuple[Charge, ...]) -> Requirement:
        """Return the sum of the charges, with every scenario of every market."""
        prefixes = [f"{name} " if len(self._found) > 1 else "" for name, _, _, _ in self._found]
        names = [before + name for before, (_, own, _, _) in zip(prefixes, self._found, strict=True) for name in own]
        return Requirement(
            model=model,
            money="quote",
            initial=sum(one.initial for one in charges),
            maintenance=sum(one.maintenance for one in charges),
            charges=charges,
            worst=self.worst,
            scenario_names=tuple(names),
            scenario_pnl=tuple(value for _, _, pnl, _ in self._found for value in pnl),
        )


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
