"""Derive's portfolio margin of the first kind (PMRM): scenarios of spot and vol, and a charge that stands beside them.

Unlike its successor it multiplies the scenario and the standing charges by one factor for initial margin. Each
underlying is a market of its own; only the underlying's own coin counts as collateral.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.margin.derive_common import (
    SILENT,
    Basis,
    Expiries,
    Feeds,
    Markets,
    Scenario,
    Scenarios,
    coin_values_quote,
    coins,
    confidence_charge,
    contracts_notional,
    linear_sums,
    markets_of,
    naked_shorts_base,
    scenarios_of,
)
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import VolShock
from bot.risk.stack import BookStack

MODEL = "derive_pmrm"
WORDS = ("same", "up", "down")


class PmrmParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything PMRM is set by; `base_rate`, `perp_rate` and `option_rate` are shares of notional that always count.

    An expiry worth something in a scenario counts `discount` exp(-T (`rate_multiple` r + `rate_add`)) of it.
    """

    scenarios: tuple[Scenario, ...]
    vol: VolShock
    basis: Basis
    discount: float
    rate_multiple: float
    rate_add: float
    base_rate: float
    perp_rate: float
    option_rate: float
    initial_factor: float
    confidence_threshold: float
    confidence_rate: float
    peg_threshold: float
    peg_factor: float
    cash: tuple[str, ...]
    fixing_s: float


def requirement(book: RiskBook, parameters: PmrmParameters, feeds: Feeds | None = None) -> Requirement:
    """Return what PMRM asks for, to be held against equity at marks (coins at theirs, cash included).

    Values carry no interest, only the static discount of what is worth something does.
    MM = static - worst; IM = (static - worst) x (initial factor + peg) + confidence. The basis competes with the
    scenarios. Coins other than the underlying itself count nothing and are named.
    """
    return _requirements(BookStack(book), parameters, Feeds() if feeds is None else feeds)[0]


def requirements(stack: BookStack, parameters: PmrmParameters) -> list[Requirement]:
    """Return what PMRM asks of each copy of a stack, as `requirement` would of each by itself."""
    return _requirements(stack, parameters, SILENT)


def _requirements(stack: BookStack, parameters: PmrmParameters, feeds: Feeds) -> list[Requirement]:
    of_rows = feeds.of(stack, parameters.fixing_s)
    layout = stack.layout
    held = coins(stack, parameters.cash)
    held_quote = coin_values_quote(stack, held, of_rows)
    own = np.array(
        [layout.asset(row) == layout.underlyings[layout.underlying[row]] for row in held.tolist()], dtype=bool
    )
    bases, bases_quote = held[own], held_quote[:, own]
    refused_quote = np.abs(held_quote[:, ~own]).sum(axis=1)
    refused = ", ".join(layout.asset(row) for row in held[~own].tolist())
    scenarios = scenarios_of(parameters.scenarios, WORDS, parameters.basis)
    doubt_quote = np.zeros(len(stack))
    markets = markets_of(stack, bases)
    options, spot_px = Expiries(stack, of_rows, is_discounted=False), stack.spot_px[:, markets]
    perps_base, moving_quote = linear_sums(stack, markets)
    if bases.size:
        moving_quote = moving_quote + bases_quote @ (layout.underlying[bases, None] == np.array(markets))
    pnl = _scenario_pnl(parameters, scenarios, options, markets, moving_quote)
    found = Markets(tuple([layout.underlyings[one] for one in markets]), (*scenarios.names, "basis"), pnl)
    perp_quote = (perps_base * spot_px).sum(axis=1)
    short_quote = (naked_shorts_base(options, markets) * spot_px).sum(axis=1)
    if of_rows.are_doubted(parameters.confidence_threshold):
        terms = parameters.confidence_threshold, parameters.confidence_rate
        for confidence, notional in (
            contracts_notional(stack, of_rows),
            (of_rows.confidence[:, bases], bases_quote),
            options.notional(np.abs(options.stack.qty_base), stack.spot_px),
        ):
            doubt_quote = doubt_quote + confidence_charge(confidence, notional, *terms)
    columns = (
        (parameters.perp_rate * perp_quote).tolist(),
        (parameters.option_rate * short_quote).tolist(),
        (parameters.base_rate * np.abs(bases_quote).sum(axis=1)).tolist(),
        *(doubt_quote.tolist(), refused_quote.tolist()),
    )
    factor, stable_px = parameters.initial_factor, of_rows.stable_px
    peg = max(0.0, parameters.peg_threshold - stable_px) * parameters.peg_factor
    doubts = of_rows.doubts * (len(stack) // len(of_rows.confidence))
    worsts, losses = found.worsts, found.loss_quote.tolist()
    asked = []
    for loss, worst, told, perp, naked, coin, doubt, lost in zip(losses, worsts, doubts, *columns, strict=True):
        standing = (
            ("worst scenario", loss, worst),
            *(("perpetuals", perp, ""), ("naked shorts", naked, ""), ("coins held", coin, "")),
        )
        charges = (
            *[Charge(name, quote * factor, quote, detail) for name, quote, detail in standing],
            Charge("peg", peg * sum([quote for _, quote, _ in standing]), 0.0, f"cash at {stable_px:g}"),
            Charge("oracle confidence", doubt, 0.0, told),
            Charge("collateral refused", lost, lost, refused),
        )
        asked.append(charges)
    return found.requirements(MODEL, asked, worsts)


def _scenario_pnl(
    parameters: PmrmParameters, scenarios: Scenarios, options: Expiries, markets: list[int], moving_quote: Floats
) -> Floats:
    """Return by scenario, the basis last, copy and market the P&L of its options, and of what moves as spot does."""
    vol, years = options.stack.vol, options.stack.tau_years
    vols = np.empty((len(WORDS), max(len(vol), len(years)), vol.shape[1]))
    scale = parameters.vol.scale(years)
    for line, word in enumerate(WORDS):
        vols[line] = parameters.vol.shocked(vol, years, word, scale)
    shocked, moved, now = scenarios.values(options, vols)
    tau, rate = options.tau_years, options.rate_per_year
    discount = parameters.discount * np.exp(-tau * (rate * parameters.rate_multiple + parameters.rate_add))
    counted = shocked * np.where(shocked > 0.0, discount, 1.0)
    linear = moving_quote * (scenarios.multiples - 1.0)[:, None, None]
    pnl = (options.by_market(counted - now, markets) + linear) * scenarios.damping[:, None, None]
    basis = options.by_market(parameters.basis.charge_quote(moved, now, tau), markets)
    return np.concatenate([pnl, basis[None]])
