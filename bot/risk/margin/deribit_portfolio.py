"""Deribit's portfolio margin, S:PM by settlement currency and X:PM across them: a grid, far tails, and four charges.

Parameters are named as `public/pme/get_params` and the answers of `private/pme/simulate` name them. Positions are put
together by pair: an underlying and what it settles in. A pair that settles in its own coin is counted in coin, where a
linear contract wins q m/(1+m) and an option the change of its price in coin; one that settles in dollars in dollars.
Answers are in quote money. Structure: Deribit's documents; arithmetic: recomputed on two recorded answers; dampener,
and what long options may offset in the delta shock: third parties (docs/margin.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bot.risk.book import Floats, Ints, RiskBook
from bot.risk.margin.tables import QUOTE, terms_of
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import UP, Scenario, ScenarioSet, VolShock, price_vol_grid
from bot.risk.stack import BookStack, StackGroups, ask_with_orders, stack_deltas
from bot.risk.stack_values import StackValues, alike_parts

MODEL = "deribit_portfolio"
DOLLARS = "usd"


class General(msgspec.Struct, frozen=True):
    """Maintenance as a share of what the risk matrix asks, and how many price steps there are on either side."""

    mm_factor: float
    buckets_count: int


class CurrencyTerms(msgspec.Struct, frozen=True):
    """Of a coin or of dollars: the roll shock, what of gains may offset losses elsewhere, the dampener of far tails.

    `max_offsetable_pnl` and `extended_dampener` are in USD. Gains offset losses in another underlying only where both
    are in the correlation set.
    """

    min_annualised_move: float
    annualised_move_risk: float
    pnl_offset: float
    correlation_set: bool
    extended_dampener: float
    max_offsetable_pnl: float


class PairTerms(msgspec.Struct, frozen=True):
    """Of an underlying: the grid, the vol shocks, and the delta shock.

    `m_inc` is per unit of base beyond the threshold, and `delta_total_liq_shock_threshold` in USD.
    """

    price_range: float
    volatility_range_up: float
    volatility_range_down: float
    min_volatility_for_shock_up: float
    short_term_vega_power: float
    long_term_vega_power: float
    extended_table_factor: float
    m_inc: float
    delta_total_liq_shock_threshold: float
    max_delta_shock: float


class DeribitPortfolioParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Terms by currency ("btc") and pair ("btc_usd"), "*" for others; `cross` is X:PM.

    Whether vol shocks are shares of the vol or points is not published: `vol_shock_in_points` says what is assumed.
    `correlation_contingency` is the share of credited gains that is taken back, which is not published either.
    """

    cross: bool
    general: General
    currency: dict[str, CurrencyTerms]
    currency_pair: dict[str, PairTerms]
    extended_moves: tuple[float, ...]
    vol_shock_in_points: bool = False
    least_days: float = 1.0
    correlation_contingency: float = 0.0


class Pair(NamedTuple):
    """One pair of an account: its scenarios, its P&L under each before any offset, and its own charges.

    All amounts are in `unit_px` quote money: coins of an inverse pair, dollars of a linear one.
    """

    underlying: str
    settle: str
    unit_px: float
    scenarios: ScenarioSet
    pnl: Floats
    roll_shock: float
    delta_shock: float


def requirement(
    book: RiskBook,
    parameters: DeribitPortfolioParameters,
    *,
    mmp_quote: float = 0.0,
    open_orders_quote: float | None = None,
    spot_quote: float = 0.0,
) -> Requirement:
    """Return what portfolio margin asks of one account, in quote money, each charge by name.

    Margin for market maker protection and for spot orders is whatever the venue says it is. That of open orders is too
    where it is told; else it is what filling the worse side of them would add.
    """
    return _requirements(BookStack(book), parameters, mmp_quote, open_orders_quote, spot_quote)[0]


def requirements(stack: BookStack, parameters: DeribitPortfolioParameters) -> list[Requirement]:
    """Return what portfolio margin asks of each copy of a stack, as `requirement` would of each by itself."""
    return _requirements(stack, parameters)


def _requirements(
    stack: BookStack,
    parameters: DeribitPortfolioParameters,
    mmp_quote: float = 0.0,
    orders_quote: float | None = None,
    spot_quote: float = 0.0,
) -> list[Requirement]:
    ask = partial(_matrix_margins, parameters=parameters)
    now, filled = ask_with_orders(stack, ask) if orders_quote is None else (ask(stack), [])
    found = []
    for copy, (charges, worst, names, pnl) in enumerate(now):
        ordered = orders_quote
        if ordered is None:
            matrix = sum([one.initial for one in charges])
            ordered = max([sum([one.initial for one in side[copy][0]]) - matrix for side in filled] + [0.0])
        extras = (("open orders", ordered), ("mmp", mmp_quote), ("spot", spot_quote))
        charges += [Charge(name, asked, 0.0) for name, asked in extras if asked]
        initial, maintenance = sum([one.initial for one in charges]), sum([one.maintenance for one in charges])
        found.append(
            Requirement(MODEL, QUOTE, float(initial), float(maintenance), tuple(charges), worst, names, tuple(pnl))
        )
    return found


def updated(values: dict[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a parameter set with what Deribit tells now (`model_params` of `private/pme/simulate`).

    Raises ValueError where what is told makes no parameters; the names it does not tell stay as they are.
    """
    found = dict(values)
    tables: tuple[tuple[str, type[msgspec.Struct]], ...] = (("currency", CurrencyTerms), ("currency_pair", PairTerms))
    for name, line in tables:
        lines = told.get(name)
        for key, terms in lines.items() if isinstance(lines, Mapping) else ():
            picked = {field: terms.get(field) for field in line.__struct_fields__} if isinstance(terms, Mapping) else {}
            found[name] = {**found[name], str(key): picked}
    if isinstance(general := told.get("general"), Mapping):
        found["general"] = {field: general.get(field) for field in General.__struct_fields__}
    try:
        parameters = msgspec.convert(found, DeribitPortfolioParameters)
    except msgspec.ValidationError as error:
        raise ValueError(f"expected parameters of {MODEL}, found {error}") from None
    for terms in parameters.currency_pair.values():
        _scenarios(terms, parameters)  # a price range or a factor that makes no scenarios is refused here
    return found


def pairs_of(book: RiskBook, parameters: DeribitPortfolioParameters) -> list[Pair]:
    """Return the pairs of a book, each priced under its own scenarios; spot held is no part of any."""
    return [
        Pair(
            one.underlying,
            one.settle,
            float(one.unit_px[0]),
            one.scenarios,
            one.pnl[:, 0],
            float(one.roll_shock[0]),
            float(one.delta_shock[0]),
        )
        for one in _stack_pairs(BookStack(book), parameters)
    ]


class _Pairs(NamedTuple):
    """A pair in each copy of a stack: like `Pair`, with a number per copy and P&L by scenario and copy."""

    underlying: str
    settle: str
    unit_px: Floats
    scenarios: ScenarioSet
    pnl: Floats
    roll_shock: Floats
    delta_shock: Floats


def _stack_pairs(stack: BookStack, parameters: DeribitPortfolioParameters) -> list[_Pairs]:
    """Return the pairs of a stack; the options of all of them are priced in one pass where scenarios are alike."""
    traded = stack.traded()
    names = [traded.underlyings[number] for number in traded.held]
    every = [terms_of(parameters.currency_pair, f"{name.lower()}_{DOLLARS}") for name in names]
    sets = [_scenarios(terms, parameters) for terms in every]
    return [
        one
        for part, places in alike_parts(traded, sets)
        for one in _price(part, [every[place] for place in places], [sets[place] for place in places], parameters)
    ]


def _price(
    stack: BookStack, every: list[PairTerms], sets: list[ScenarioSet], parameters: DeribitPortfolioParameters
) -> list[_Pairs]:
    """Return the pairs of a stack; there are terms and scenarios for each underlying held, scenarios alike."""
    layout, values, groups = stack.layout, StackValues(stack, sets), StackGroups(stack)
    pairs, deltas = layout.pairs, stack_deltas(stack)
    are_coin = [stack.moneys[money] == stack.underlyings[underlying] for underlying, money in pairs]
    # What rows count for, by pair, copy and row: units of base, or of an inverse pair what they are per forward.
    size = np.array([stack.qty_base / stack.forward_px if is_coin else stack.qty_base for is_coin in are_coin])
    size *= layout.pair_selector[:, None, :]
    options, linear = values.options, layout.others
    copies, shape = len(stack), (-1, len(pairs), len(stack))
    won = values.option_pnl(size.take(options, axis=2).reshape(len(pairs) * copies, -1), len(pairs)).reshape(shape)
    worth = size * stack.mark_px
    held, moving = worth.take(options, axis=2).sum(axis=2), worth.take(linear, axis=2).sum(axis=2)
    nets = np.abs(groups.sum(deltas * layout.pair_selector[:, None, :]))
    is_long = layout.is_option & (stack.qty_base > 0.0)
    long = np.where(is_long, deltas, 0.0) @ layout.pair_selector.T
    rest = np.where(is_long, 0.0, deltas) @ layout.pair_selector.T
    shocked = _shocked_delta_base(long, rest).T
    found = []
    for at, ((underlying, money), is_coin) in enumerate(zip(pairs, are_coin, strict=True)):
        name, place = stack.underlyings[underlying], stack.held.index(underlying)
        terms, scenarios, spot_px = every[place], sets[place], stack.spot_px[:, underlying]
        own, settle = terms_of(parameters.currency, name.lower()), _settle_terms(parameters, name, stack.moneys[money])
        pnl = _weighted(won[:, at], held[at], moving[at], scenarios, terms.price_range, is_coin=is_coin)
        coin_px = spot_px if is_coin else None
        pnl = _damped(pnl, scenarios, terms.price_range, settle.extended_dampener, coin_px)
        unit_px = spot_px if is_coin else np.ones(copies)
        least, annual = own.min_annualised_move, own.annualised_move_risk
        if not is_coin:
            least, annual = max(least, settle.min_annualised_move), max(annual, settle.annualised_move_risk)
        per_base = spot_px / unit_px
        rolls = (nets[at] * np.maximum(least, annual * groups.tau_years)).sum(axis=1)
        excess_base = np.maximum(shocked[at] - terms.delta_total_liq_shock_threshold / spot_px, 0.0)
        delta_shock = shocked[at] * np.minimum(terms.max_delta_shock, terms.m_inc * excess_base)
        found.append(
            _Pairs(name, stack.moneys[money], unit_px, scenarios, pnl, rolls * per_base, delta_shock * per_base)
        )
    return found


def _settle_terms(parameters: DeribitPortfolioParameters, name: str, money: str) -> CurrencyTerms:
    return terms_of(parameters.currency, name.lower() if money == name else DOLLARS)


def _scenarios(terms: PairTerms, parameters: DeribitPortfolioParameters) -> ScenarioSet:
    moves, general = parameters.extended_moves, parameters.general
    return _scenario_set(
        terms, general.buckets_count, moves, parameters.least_days, in_points=parameters.vol_shock_in_points
    )


@lru_cache(maxsize=256)
def _scenario_set(
    terms: PairTerms, buckets: int, moves: tuple[float, ...], least_days: float, *, in_points: bool
) -> ScenarioSet:
    shock = VolShock(
        up=terms.volatility_range_up,
        down=terms.volatility_range_down,
        short_power=terms.short_term_vega_power,
        long_power=terms.long_term_vega_power,
        least_days=least_days,
        least_vol_up=terms.min_volatility_for_shock_up,
        in_points=in_points,
    )
    weight = terms.extended_table_factor * terms.price_range
    far = [Scenario(move, UP, weight / abs(move), is_extended=True) for move in moves]
    return ScenarioSet(price_vol_grid(terms.price_range, buckets) + far, shock)


def _weighted(
    won: Floats, held: Floats, linear: Floats, scenarios: ScenarioSet, price_range: float, *, is_coin: bool
) -> Floats:
    """Return a pair's P&L by scenario and copy, far tails weighted, in coin or in dollars.

    By copy: what its options win by scenario, what they are worth, and what the rest is.
    """
    move = scenarios.move[:, None]
    if not is_coin:
        return (won + move * linear) * scenarios.weight[:, None]
    # An option's price in coin is its value over its forward, and so its P&L there (V' / (1+m) - V) / F; of a linear
    # contract the quote P&L over the moved forward is q m/(1+m) already.
    moved = 1.0 + move
    coin = (won + move * (linear - held)) / moved
    # A far tail counts so that a book without options loses what it loses at the edge of the grid.
    edge = 1.0 + np.sign(move) * price_range
    weight = np.where(scenarios.is_extended[:, None], scenarios.weight[:, None] * moved / edge, 1.0)
    pnl: Floats = weight * coin
    return pnl


def _damped(
    pnl: Floats, scenarios: ScenarioSet, price_range: float, dampener_usd: float, coin_px: Floats | None
) -> Floats:
    """Forgive losses of the far tails: at most (|m| / range - 1) × dampener, in coin at the price of the edge."""
    move = scenarios.move[:, None]
    forgiven: Floats = np.maximum(np.abs(move) / price_range - 1.0, 0.0) * dampener_usd
    if coin_px is not None:
        forgiven = forgiven / (coin_px * (1.0 + np.sign(move) * price_range))
    damped: Floats = np.where(scenarios.is_extended[:, None] & (pnl < 0.0), np.minimum(pnl + forgiven, 0.0), pnl)
    return damped


def _shocked_delta_base(long: Floats, rest: Floats) -> Floats:
    """Return the delta that the delta shock is on, unsigned: that of long options may only offset the rest."""
    found: Floats = np.where(rest * long >= 0.0, np.abs(rest), np.maximum(np.abs(rest) - np.abs(long), 0.0))
    return found


Matrix = tuple[list[Charge], str, tuple[str, ...], list[float]]


def _matrix_margins(stack: BookStack, parameters: DeribitPortfolioParameters) -> list[Matrix]:
    """Return by copy the charges of the risk matrix; the worst scenario, all names and P&L where there is one set."""
    pairs, share = _stack_pairs(stack, parameters), parameters.general.mm_factor
    copies = range(len(stack))
    charges: list[list[Charge]] = [[] for _ in copies]
    worst, most = [""] * len(stack), [0.0] * len(stack)
    for together in _grouped(pairs, parameters):
        losses, places, credited = _worst(together, parameters)
        label, names = "+".join(f"{one.underlying}/{one.settle}" for one in together), together[0].scenarios.names
        for copy, loss, at, gains in zip(copies, losses.tolist(), places.tolist(), credited.tolist(), strict=True):
            if loss > most[copy]:
                worst[copy], most[copy] = names[at], loss
            charges[copy].append(Charge(f"{label} worst", loss, share * loss, names[at]))
            contingency = parameters.correlation_contingency * gains
            if contingency:
                charges[copy].append(Charge(f"{label} correlation", contingency, 0.0))
    for pair in pairs:
        label = f"{pair.underlying}/{pair.settle}"
        for name, asked in ((f"{label} roll shock", pair.roll_shock), (f"{label} delta shock", pair.delta_shock)):
            for own, quote in zip(charges, (asked * pair.unit_px).tolist(), strict=True):
                own.append(Charge(name, quote, share * quote))
    if len(pairs) != 1:
        return [(own, why, (), []) for own, why in zip(charges, worst, strict=True)]
    pnl, names = (pairs[0].pnl * pairs[0].unit_px).T.tolist(), pairs[0].scenarios.names
    return [(own, why, names, line) for own, why, line in zip(charges, worst, pnl, strict=True)]


def _grouped(pairs: list[_Pairs], parameters: DeribitPortfolioParameters) -> list[list[_Pairs]]:
    """Return which pairs may offset: one underlying's, those of the correlation set; if not cross, settled alike."""
    groups: dict[tuple[str, str], list[_Pairs]] = {}
    for pair in pairs:
        is_correlated = terms_of(parameters.currency, pair.underlying.lower()).correlation_set
        group = ("" if is_correlated else pair.underlying, "" if parameters.cross else pair.settle)
        groups.setdefault(group, []).append(pair)
    return list(groups.values())


def _worst(pairs: list[_Pairs], parameters: DeribitPortfolioParameters) -> tuple[Floats, Ints, Floats]:
    """Return by copy the largest loss in quote money of pairs moving together, its scenario, and gains credited.

    A gain counts by `pnl_offset` of the worse of the pair's two currencies, at most `max_offsetable_pnl`.
    """
    vectors = []
    for pair in pairs:
        terms = (
            terms_of(parameters.currency, pair.underlying.lower()),
            _settle_terms(parameters, pair.underlying, pair.settle),
        )
        share = min(terms[0].pnl_offset, terms[1].pnl_offset)
        most = min(terms[0].max_offsetable_pnl, terms[1].max_offsetable_pnl)
        quote = pair.pnl * pair.unit_px
        vectors.append(np.where(quote > 0.0, np.minimum(quote * share, most), quote))
    total: Floats = sum(vectors[1:], vectors[0])
    at: Ints = total.argmin(axis=0)
    copies = np.arange(len(at))
    credited = np.zeros(len(at))
    if len(vectors) > 1:
        credited = np.sum([np.maximum(vector[at, copies], 0.0) for vector in vectors], axis=0)
    return np.maximum(-total[at, copies], 0.0), at, credited
