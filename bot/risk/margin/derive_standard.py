"""Derive's standard manager (SRM): each expiry asks for what its shorts would alone, or for the most it can lose.

Options held long are worth nothing to margin: equity at marks is held against a requirement that has their value in it.
Coins count by a factor below one. Markets do not offset each other.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.margin.derive_common import (
    SILENT,
    Expiries,
    Feeds,
    RowFeeds,
    coin_values_quote,
    coins,
    confidence_charge,
    contracts_notional,
    linear_sums,
    markets_of,
)
from bot.risk.margin.payoffs import least_payoffs
from bot.risk.requirement import Charge, Requirement
from bot.risk.stack import BookStack, by_copy

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
    return _requirements(BookStack(book), parameters, Feeds() if feeds is None else feeds)[0]


def requirements(stack: BookStack, parameters: StandardParameters) -> list[Requirement]:
    """Return what the standard manager asks of each copy of a stack, as `requirement` would of each by itself."""
    return _requirements(stack, parameters, SILENT)


def _requirements(stack: BookStack, parameters: StandardParameters, feeds: Feeds) -> list[Requirement]:
    of_rows, layout = feeds.of(stack, parameters.fixing_s), stack.layout
    depeg = max(0.0, parameters.depeg_threshold - of_rows.stable_px) * parameters.depeg_factor
    markets = markets_of(stack, np.zeros(0, dtype=np.int64))
    terms = [parameters.markets.get(layout.underlyings[one], parameters.markets[DEFAULT]) for one in markets]
    options = Expiries(stack, of_rows, is_discounted=False)
    options_im, options_mm, worsts = _options(options, terms, markets)
    perps_base, _ = linear_sums(stack, markets)
    linear = stack.contracts()
    worth = (np.abs(linear.qty_base) * linear.mark_px) @ (linear.underlying[:, None] == np.array(markets))
    rates = np.array([(one.perp_initial, one.perp_maintenance) for one in terms]).reshape(-1, 2)
    perps_im, perps_mm = (worth @ rates).T
    doubt, depegged = np.zeros((2, len(stack)))
    if depeg:
        shorts = options.by_market(options.by_expiry(np.maximum(-options.stack.qty_base, 0.0)), markets)
        depegged = (depeg * stack.spot_px[:, markets] * (shorts + perps_base)).sum(axis=1)
    for place, market in enumerate(markets):
        threshold, rate = terms[place].confidence_threshold, terms[place].confidence_rate
        if of_rows.are_doubted(threshold):
            both = (
                options.notional(np.maximum(-options.stack.qty_base, 0.0), stack.spot_px),
                contracts_notional(stack, of_rows),
            )
            for (confidence, notional), of_it in zip(
                both, (options.underlying == market, linear.underlying == market), strict=True
            ):
                doubt = doubt + confidence_charge(confidence[:, of_it], notional[:, of_it], threshold, rate)
    coins_im, coins_mm, coins_doubt, refused = _coins(stack, parameters, of_rows)
    told_of_cash, told_of_coins = f"cash at {of_rows.stable_px:g}", f"not accepted: {', '.join(refused)}"
    columns = (
        *(options_im.tolist(), options_mm.tolist(), perps_im.tolist(), perps_mm.tolist()),
        *(coins_im.tolist(), coins_mm.tolist(), (doubt + coins_doubt).tolist(), depegged.tolist()),
    )
    doubts = of_rows.doubts * (len(stack) // len(of_rows.confidence))
    out = []
    for own, told, *asked in zip(worsts, doubts, *columns, strict=True):
        worst = "; ".join(own)
        charges = (
            Charge("options", asked[0], asked[1], worst),
            Charge("perpetuals", asked[2], asked[3]),
            Charge("coins held", asked[4], asked[5], told_of_coins if refused else ""),
            Charge("oracle confidence", asked[6], 0.0, told),
            Charge("peg", asked[7], 0.0, told_of_cash),
        )
        initial, maintenance = sum([one.initial for one in charges]), sum([one.maintenance for one in charges])
        out.append(Requirement(MODEL, "quote", initial, maintenance, charges, worst))
    return out


def _options(options: Expiries, terms: list[MarketTerms], markets: list[int]) -> tuple[Floats, Floats, list[list[str]]]:
    """Return by copy initial and maintenance margin of all options, and which way decided for every expiry."""
    stack, copies = options.stack, len(options.stack)
    if not stack.held:
        return np.zeros(copies), np.zeros(copies), [[] for _ in range(copies)]
    # each market's terms, a line per field, by row and by expiry
    table = np.array([[getattr(one, name) for name in FIELDS] for one in terms]).T
    of_row = table.take(np.searchsorted(markets, stack.underlying), axis=1)
    of_expiry = table.take(np.searchsorted(markets, options.underlying), axis=1)
    qty, strike, is_call = stack.qty_base, stack.strike_px, stack.is_call
    value = qty * stack.mark_px
    calls = options.by_expiry(np.where(is_call, qty, 0.0))
    unpaired = np.maximum(-calls, 0.0) * options.groups.first(stack.forward_px)
    lowest = np.minimum(least_payoffs(strike, is_call, qty, options.groups), 0.0)
    isolated = options.by_expiry(_isolated(stack, value, of_row))
    taken = np.maximum(isolated, lowest - unpaired * of_expiry[:2, None, :])
    im, mm = (options.by_expiry(value) - taken).sum(axis=2)
    is_alone = (taken[1] == isolated[1]).tolist()
    # an expiry that is over together with another has no rows of its own
    is_there = by_copy(options.groups.count > 0.0, copies)
    names = [stack.underlyings[number] for number in options.underlying.tolist()]
    days = by_copy(np.round(options.tau_years * 365.0, 1), copies)
    both = ("most it can lose", "each alone")
    ways = [
        [f"{name} {day:g} d: {both[flag]}" for name, flag, day, one in zip(names, *line, strict=True) if one]
        for line in zip(is_alone, days, is_there, strict=True)
    ]
    return im, mm, ways


FIELDS = (
    *("unpaired_initial", "unpaired_maintenance", "max_initial", "min_initial"),
    *("call_maintenance", "put_maintenance", "put_mark_maintenance", "put_initial_of_maintenance"),
)


def _isolated(stack: BookStack, value: Floats, terms: Floats) -> Floats:
    """Return signed initial and maintenance margin of each option alone; nothing for what is held long.

    `terms` has a line for each of `FIELDS`.
    """
    most, least, of_call, of_put, of_mark, of_maintenance = terms[2:]
    spot_px, strike, is_call = stack.spot_of_row_px, stack.strike_px, stack.is_call
    size = np.maximum(-stack.qty_base, 0.0) * spot_px
    out_of_money = np.maximum(np.where(is_call, strike - spot_px, spot_px - strike), 0.0)
    initial = value - np.maximum(most - out_of_money / spot_px, least) * size
    call_mm = value - of_call * size
    put_mm = value + np.minimum(-of_put * size, of_mark * value)
    maintenance = np.where(is_call, call_mm, put_mm)
    initial = np.where(is_call, initial, np.minimum(initial, of_maintenance * put_mm))
    return np.where(stack.qty_base < 0.0, np.array([initial, maintenance]), 0.0)


def _coins(
    stack: BookStack, parameters: StandardParameters, feeds: RowFeeds
) -> tuple[Floats, Floats, Floats, list[str]]:
    """Return what coins lose of their value for initial and maintenance margin, the doubt, and which are refused."""
    held = coins(stack, parameters.cash)
    values = np.abs(coin_values_quote(stack, held, feeds))
    initial, maintenance, doubt = np.zeros((3, len(stack)))
    refused = []
    for row, value in zip(held.tolist(), values.T, strict=True):
        asset = stack.layout.asset(row)
        coin = parameters.coins.get(asset)
        factor, scale = (0.0, 1.0) if coin is None else (coin.factor, coin.initial_scale)
        maintenance += value * (1.0 - factor)
        initial += value * (1.0 - factor * scale)
        if coin is None:
            refused.append(asset)
        else:
            market = stack.underlyings[int(stack.underlying[row])]
            terms = parameters.markets.get(market, parameters.markets[DEFAULT])
            confidence = feeds.confidence[:, row : row + 1]
            doubt += confidence_charge(confidence, value[:, None], terms.confidence_threshold, terms.confidence_rate)
    return initial, maintenance, doubt, refused
