"""Deribit's portfolio margin, S:PM by settlement currency and X:PM across them: a grid, far tails, and four charges.

Parameters are named as `public/pme/get_params` and the answers of `private/pme/simulate` name them. Positions are put
together by pair: an underlying and what it settles in. A pair that settles in its own coin is counted in coin, where a
linear contract wins q m/(1+m) and an option the change of its price in coin; one that settles in dollars in dollars.
Answers are in quote money. Structure: Deribit's documents; arithmetic: recomputed on two recorded answers; dampener,
and what long options may offset in the delta shock: third parties (docs/margin.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bot.risk.book import SPOT, Flags, Floats, RiskBook
from bot.risk.margin.tables import QUOTE, order_sides, terms_of
from bot.risk.repricing import Groups, base_deltas, scenario_pnl
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import UP, Scenario, ScenarioSet, VolShock, price_vol_grid

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
    charges, worst, names, pnl = _matrix_margin(book, parameters)
    matrix = sum(one.initial for one in charges)
    if open_orders_quote is None:
        filled = (sum(one.initial for one in _matrix_margin(side, parameters)[0]) for side in order_sides(book))
        open_orders_quote = max([one - matrix for one in filled] + [0.0])
    extras = (("open orders", open_orders_quote), ("mmp", mmp_quote), ("spot", spot_quote))
    charges += [Charge(name, asked, 0.0) for name, asked in extras if asked]
    initial, maintenance = (float(sum(getattr(one, side) for one in charges)) for side in ("initial", "maintenance"))
    return Requirement(MODEL, QUOTE, initial, maintenance, tuple(charges), worst, names, pnl)


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
    part = book.where(~np.equal(book.kind, SPOT))
    keys = part.underlying * max(len(part.moneys), 1) + part.money
    found = []
    for key in np.unique(keys).tolist():
        rows = part.where(np.equal(keys, key))
        found.append(_price(rows, parameters))
    return found


def _price(book: RiskBook, parameters: DeribitPortfolioParameters) -> Pair:
    name, money = book.underlyings[int(book.underlying[0])], book.moneys[int(book.money[0])]
    is_coin = money == name
    spot_px = float(book.spot_of_row_px[0])
    terms = terms_of(parameters.currency_pair, f"{name.lower()}_{DOLLARS}")
    own, settle = terms_of(parameters.currency, name.lower()), _settle_terms(parameters, name, money)
    scenarios = _scenarios(terms, parameters)
    pnl = _pnl(book, scenarios, terms.price_range, is_coin=is_coin)
    pnl = _damped(pnl, scenarios, terms.price_range, settle.extended_dampener, spot_px if is_coin else 0.0)
    groups, unit_px = Groups(book), spot_px if is_coin else 1.0
    per_base = spot_px / unit_px
    deltas = base_deltas(book)
    least = max(own.min_annualised_move, settle.min_annualised_move) if not is_coin else own.min_annualised_move
    annual = max(own.annualised_move_risk, settle.annualised_move_risk) if not is_coin else own.annualised_move_risk
    rolls = np.abs(groups.sum(deltas)) * np.maximum(least, annual * groups.tau_years)
    shocked = _shocked_delta_base(deltas, book.is_option & (book.qty_base > 0.0))
    excess_base = max(shocked - terms.delta_total_liq_shock_threshold / spot_px, 0.0)
    delta_shock = shocked * min(terms.max_delta_shock, terms.m_inc * excess_base)
    return Pair(name, money, unit_px, scenarios, pnl, float(rolls.sum()) * per_base, delta_shock * per_base)


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


def _pnl(book: RiskBook, scenarios: ScenarioSet, price_range: float, *, is_coin: bool) -> Floats:
    """Return the pair's P&L under each scenario, far tails weighted, in coin or in dollars."""
    quote = scenario_pnl(book, scenarios)
    if not is_coin:
        dollars: Floats = quote.sum(axis=1) * scenarios.weight
        return dollars
    # An option's price in coin is its value over its forward, and so its P&L there (V' / (1+m) - V) / F; of a linear
    # contract the quote P&L over the moved forward is q m/(1+m) already.
    moved = 1.0 + scenarios.move
    coin = quote / (book.forward_px * moved[:, None])
    held = np.where(book.is_option, book.qty_base * book.mark_px / book.forward_px, 0.0).sum()
    # A far tail counts so that a book without options loses what it loses at the edge of the grid.
    edge = 1.0 + np.sign(scenarios.move) * price_range
    weight: Floats = np.where(scenarios.is_extended, scenarios.weight * moved / edge, 1.0)
    pnl: Floats = weight * (coin.sum(axis=1) - held * scenarios.move / moved)
    return pnl


def _damped(pnl: Floats, scenarios: ScenarioSet, price_range: float, dampener_usd: float, coin_px: float) -> Floats:
    """Forgive losses of the far tails: at most (|m| / range - 1) × dampener, in coin at the price of the edge."""
    forgiven = np.maximum(np.abs(scenarios.move) / price_range - 1.0, 0.0) * dampener_usd
    if coin_px:
        forgiven /= coin_px * (1.0 + np.sign(scenarios.move) * price_range)
    return np.where(scenarios.is_extended & (pnl < 0.0), np.minimum(pnl + forgiven, 0.0), pnl)


def _shocked_delta_base(deltas: Floats, is_long_option: Flags) -> float:
    """Return the delta that the delta shock is on, unsigned: that of long options may only offset the rest."""
    rest, long = float(deltas[~is_long_option].sum()), float(deltas[is_long_option].sum())
    if rest * long >= 0.0:
        return abs(rest)
    return max(abs(rest) - abs(long), 0.0)


def _matrix_margin(
    book: RiskBook, parameters: DeribitPortfolioParameters
) -> tuple[list[Charge], str, tuple[str, ...], tuple[float, ...]]:
    """Return the charges of the risk matrix; the worst scenario, all names and P&L where there is one set of them."""
    pairs, share = pairs_of(book, parameters), parameters.general.mm_factor
    charges: list[Charge] = []
    worst, most = "", 0.0
    for together in _grouped(pairs, parameters):
        loss, at, credited = _worst(together, parameters)
        label = "+".join(f"{one.underlying}/{one.settle}" for one in together)
        if loss > most:
            worst, most = together[0].scenarios.names[at], loss
        charges.append(Charge(f"{label} worst", loss, share * loss, together[0].scenarios.names[at]))
        contingency = parameters.correlation_contingency * credited
        if contingency:
            charges.append(Charge(f"{label} correlation", contingency, 0.0))
    for pair in pairs:
        for name, asked in (("roll shock", pair.roll_shock), ("delta shock", pair.delta_shock)):
            quote = asked * pair.unit_px
            charges.append(Charge(f"{pair.underlying}/{pair.settle} {name}", quote, share * quote))
    if len(pairs) != 1:
        return charges, worst, (), ()
    pnl = tuple((pairs[0].pnl * pairs[0].unit_px).tolist())
    return charges, worst, pairs[0].scenarios.names, pnl


def _grouped(pairs: list[Pair], parameters: DeribitPortfolioParameters) -> list[list[Pair]]:
    """Return which pairs may offset: one underlying's, those of the correlation set; if not cross, settled alike."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        is_correlated = terms_of(parameters.currency, pair.underlying.lower()).correlation_set
        group = ("" if is_correlated else pair.underlying, "" if parameters.cross else pair.settle)
        groups.setdefault(group, []).append(pair)
    return list(groups.values())


def _worst(pairs: list[Pair], parameters: DeribitPortfolioParameters) -> tuple[float, int, float]:
    """Return the largest loss in quote money of pairs moving together, its scenario, and what gains were credited.

    A gain counts by `pnl_offset` of the worse of the pair's two currencies, at most `max_offsetable_pnl`.
    """
    vectors = []
    for pair in pairs:
        terms = (
            terms_of(parameters.currency, pair.underlying.lower()),
            _settle_terms(parameters, pair.underlying, pair.settle),
        )
        share, most = min(one.pnl_offset for one in terms), min(one.max_offsetable_pnl for one in terms)
        quote = pair.pnl * pair.unit_px
        vectors.append(np.where(quote > 0.0, np.minimum(quote * share, most), quote))
    total = np.sum(vectors, axis=0)
    at = int(total.argmin())
    loss = max(-float(total[at]), 0.0)
    credited = sum(max(float(vector[at]), 0.0) for vector in vectors) if len(vectors) > 1 else 0.0
    return loss, at, credited
