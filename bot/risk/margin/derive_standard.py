"""Derive's standard manager (SRM): each expiry asks for what its shorts would alone, or for the most it can lose.

Options held long are worth nothing to margin: equity at marks is held against a requirement that has their value in it.
Coins count by a factor below one. Markets do not offset each other.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.margin.derive_common import (
    Expiries,
    Feeds,
    RowFeeds,
    asset_of,
    coin_values_quote,
    coins,
    confidence_charge,
    expiries_of,
    linear_rows,
    markets_of,
)
from bot.risk.requirement import Charge, Requirement

MODEL = "derive_standard"
DEFAULT = "default"


class MarketTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the standard manager asks of one market.

    Shares are of the spot price, `put_mark_maintenance` of the put's mark. An initial margin of shorts is
    max(`max_initial` - out of the money / spot, `min_initial`). What is short beyond what is paired counts
    `unpaired_initial` and `unpaired_maintenance` times the forward; a short put's initial margin is at least
    `put_initial_of_maintenance` times its maintenance margin.
    """

    max_initial: float
    min_initial: float
    call_maintenance: float
    put_maintenance: float
    put_mark_maintenance: float
    unpaired_initial: float
    unpaired_maintenance: float
    put_initial_of_maintenance: float
    perp_initial: float
    perp_maintenance: float
    confidence_threshold: float
    confidence_rate: float


class CoinTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What share of a coin's value counts to maintenance margin, and what share of that to initial margin."""

    factor: float
    initial_scale: float = 1.0


class StandardParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything the standard manager is set by; a market that is not named has the terms of "default"."""

    markets: dict[str, MarketTerms]
    coins: dict[str, CoinTerms]
    depeg_threshold: float
    depeg_factor: float
    cash: tuple[str, ...]
    fixing_s: float

    def __post_init__(self) -> None:
        """Refuse terms without a default."""
        if DEFAULT not in self.markets:
            raise ValueError(f"expected terms of the {DEFAULT} market, found those of {', '.join(self.markets)}")


def requirement(book: RiskBook, parameters: StandardParameters, feeds: Feeds | None = None) -> Requirement:
    """Return what the standard manager asks for, to be held against equity at marks (coins at theirs, cash included).

    Per expiry: mark-to-market less max(sum of the isolated margins, the most it can lose), each signed. Initial margin
    has what oracles doubt and what the cash has lost beside it. A coin without terms counts nothing and is named.
    """
    of_rows = (Feeds() if feeds is None else feeds).of(book, parameters.fixing_s)
    held = coins(book, parameters.cash)
    depeg = max(0.0, parameters.depeg_threshold - of_rows.stable_px) * parameters.depeg_factor
    options_im = options_mm = perps_im = perps_mm = doubt = depegged = 0.0
    worsts: list[str] = []
    for market in markets_of(book, held[:0]):
        terms = parameters.markets.get(book.underlyings[market], parameters.markets[DEFAULT])
        spot_px = float(book.spot_px[market])
        options = expiries_of(book, of_rows, market, is_discounted=False)
        mark_px = book.mark_px[options.rows]
        (im, mm), ways = _options(options, mark_px, terms, spot_px)
        options_im += im
        options_mm += mm
        worsts += [f"{book.underlyings[market]} {way}" for way in ways]
        perps = linear_rows(book, market)
        size = np.abs(book.qty_base[perps])
        perp_value = float((size * book.mark_px[perps]).sum())
        perps_im += terms.perp_initial * perp_value
        perps_mm += terms.perp_maintenance * perp_value
        shorts = options.by_expiry(np.maximum(-options.qty_base, 0.0))
        depegged += depeg * spot_px * float(shorts.sum() + size.sum())
        for confidence, notional in (
            (options.confidence, shorts * spot_px),
            (of_rows.confidence[perps], size * spot_px),
        ):
            doubt += confidence_charge(confidence, notional, terms.confidence_threshold, terms.confidence_rate)
    coins_im, coins_mm, coins_doubt, refused = _coins(book, parameters, of_rows)
    charges = (
        Charge("options", options_im, options_mm, "; ".join(worsts)),
        Charge("perpetuals", perps_im, perps_mm),
        Charge("coins held", coins_im, coins_mm, f"not accepted: {', '.join(refused)}" if refused else ""),
        Charge("oracle confidence", doubt + coins_doubt, 0.0, of_rows.doubt),
        Charge("peg", depegged, 0.0, f"cash at {of_rows.stable_px:g}"),
    )
    return Requirement(
        model=MODEL,
        money="quote",
        initial=sum(one.initial for one in charges),
        maintenance=sum(one.maintenance for one in charges),
        charges=charges,
        worst="; ".join(worsts),
    )


def _options(
    options: Expiries, mark_px: Floats, terms: MarketTerms, spot_px: float
) -> tuple[tuple[float, float], list[str]]:
    """Return initial and maintenance margin of one market's options, and which way decided for every expiry."""
    value = options.qty_base * mark_px
    marked = options.by_expiry(value)
    isolated = np.stack([options.by_expiry(alone) for alone in _isolated(options, value, terms, spot_px)])
    lost = np.zeros_like(isolated)
    for column in range(options.tau_years.size):
        rows = np.flatnonzero(options.column == column)
        strikes = options.strike_px[rows]
        calls = options.is_call[rows]
        at = np.concatenate([[0.0], np.unique(strikes)])[:, None]
        payoff = np.where(calls, np.maximum(at - strikes, 0.0), np.maximum(strikes - at, 0.0)) @ options.qty_base[rows]
        unpaired = -min(float(options.qty_base[rows][calls].sum()), 0.0) * float(options.forward_px[rows[0]])
        lowest = min(float(payoff.min()), 0.0)
        lost[:, column] = lowest - unpaired * np.array([terms.unpaired_initial, terms.unpaired_maintenance])
    taken = np.maximum(isolated, lost)
    im, mm = (marked - taken).sum(axis=1).tolist()
    days = np.round(options.tau_years * 365.0, 1).tolist()
    ways = ["each alone" if taken[1, n] == isolated[1, n] else "most it can lose" for n in range(len(days))]
    return (im, mm), [f"{day:g} d: {way}" for day, way in zip(days, ways, strict=True)]


def _isolated(options: Expiries, value: Floats, terms: MarketTerms, spot_px: float) -> tuple[Floats, Floats]:
    """Return signed initial and maintenance margin of each option alone; nothing for what is held long."""
    size = np.maximum(-options.qty_base, 0.0) * spot_px
    strike = options.strike_px
    out_of_money = np.maximum(np.where(options.is_call, strike - spot_px, spot_px - strike), 0.0)
    initial = value - np.maximum(terms.max_initial - out_of_money / spot_px, terms.min_initial) * size
    call_mm = value - terms.call_maintenance * size
    put_mm = value + np.minimum(-terms.put_maintenance * size, terms.put_mark_maintenance * value)
    maintenance = np.where(options.is_call, call_mm, put_mm)
    initial = np.where(options.is_call, initial, np.minimum(initial, terms.put_initial_of_maintenance * put_mm))
    is_short = options.qty_base < 0.0
    return np.where(is_short, initial, 0.0), np.where(is_short, maintenance, 0.0)


def _coins(book: RiskBook, parameters: StandardParameters, feeds: RowFeeds) -> tuple[float, float, float, list[str]]:
    """Return what coins lose of their value for initial and maintenance margin, the doubt, and which are refused."""
    held = coins(book, parameters.cash)
    values = np.abs(coin_values_quote(book, held, feeds))
    initial = maintenance = doubt = 0.0
    refused = []
    for row, value in zip(held.tolist(), values.tolist(), strict=True):
        asset = asset_of(book, row)
        coin = parameters.coins.get(asset)
        factor, scale = (0.0, 1.0) if coin is None else (coin.factor, coin.initial_scale)
        maintenance += value * (1.0 - factor)
        initial += value * (1.0 - factor * scale)
        if coin is None:
            refused.append(asset)
        else:
            market = book.underlyings[book.underlying[row]]
            terms = parameters.markets.get(market, parameters.markets[DEFAULT])
            confidence = feeds.confidence[row : row + 1]
            doubt += confidence_charge(confidence, np.array([value]), terms.confidence_threshold, terms.confidence_rate)
    return initial, maintenance, doubt, refused
