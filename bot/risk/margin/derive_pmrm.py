"""Derive's portfolio margin of the first kind (PMRM): scenarios of spot and vol, and a charge that stands beside them.

Unlike its successor it multiplies the scenario and the standing charges by one factor for initial margin. Each
underlying is a market of its own; only the underlying's own coin counts as collateral.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.margin.derive_common import (
    Basis,
    Expiries,
    Feeds,
    Markets,
    Scenario,
    Scenarios,
    asset_of,
    coin_values_quote,
    coins,
    confidence_charge,
    expiries_of,
    linear_rows,
    markets_of,
    naked_shorts_base,
)
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import VolShock

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
    of_rows = (Feeds() if feeds is None else feeds).of(book, parameters.fixing_s)
    held = coins(book, parameters.cash)
    held_quote = coin_values_quote(book, held, of_rows)
    own = np.array([asset_of(book, row) == book.underlyings[book.underlying[row]] for row in held.tolist()], dtype=bool)
    bases, bases_quote = held[own], held_quote[own]
    refused_quote = float(np.abs(held_quote[~own]).sum())
    refused = ", ".join(asset_of(book, row) for row in held[~own].tolist())
    scenarios = Scenarios(parameters.scenarios, WORDS)
    found = Markets()
    perp_quote = short_quote = doubt_quote = 0.0
    for market in markets_of(book, bases):
        options = expiries_of(book, of_rows, market, is_discounted=False)
        perps = linear_rows(book, market)
        spot_px = float(book.spot_px[market])
        base = book.underlying[bases] == market
        moving_quote = float((book.qty_base[perps] * book.mark_px[perps]).sum()) + float(bases_quote[base].sum())
        pnl = _scenario_pnl(parameters, scenarios, options, moving_quote)
        names = [*scenarios.names, "basis"]
        found.note(book.underlyings[market], names, [*pnl.tolist(), parameters.basis.charge_quote(options)])
        perp_quote += float(np.abs(book.qty_base[perps]).sum()) * spot_px
        short_quote += naked_shorts_base(options) * spot_px
        for confidence, notional in (
            (of_rows.confidence[perps], book.qty_base[perps] * spot_px),
            (of_rows.confidence[bases[base]], bases_quote[base]),
            (options.confidence, options.by_expiry(np.abs(options.qty_base)) * spot_px),
        ):
            doubt_quote += confidence_charge(
                confidence, notional, parameters.confidence_threshold, parameters.confidence_rate
            )
    factor = parameters.initial_factor
    standing = (
        ("worst scenario", found.loss_quote, found.worst),
        ("perpetuals", parameters.perp_rate * perp_quote, ""),
        ("naked shorts", parameters.option_rate * short_quote, ""),
        ("coins held", parameters.base_rate * float(np.abs(bases_quote).sum()), ""),
    )
    peg = max(0.0, parameters.peg_threshold - of_rows.stable_px) * parameters.peg_factor
    pegged = peg * sum(quote for _, quote, _ in standing)
    charges = (
        *(Charge(name, quote * factor, quote, detail) for name, quote, detail in standing),
        Charge("peg", pegged, 0.0, f"cash at {of_rows.stable_px:g}"),
        Charge("oracle confidence", doubt_quote, 0.0, of_rows.doubt),
        Charge("collateral refused", refused_quote, refused_quote, refused),
    )
    return found.requirement(MODEL, charges)


def _scenario_pnl(parameters: PmrmParameters, scenarios: Scenarios, options: Expiries, moving_quote: float) -> Floats:
    """Return the P&L in every scenario of one market's options, and of what moves as its spot does."""
    vols = [parameters.vol.shocked(options.vol, options.row_tau_years, word) for word in WORDS]
    shocked = scenarios.values(options, np.stack(vols))
    tau, rate = options.tau_years, options.rate_per_year
    discount = parameters.discount * np.exp(-tau * (rate * parameters.rate_multiple + parameters.rate_add))
    counted = shocked * np.where(shocked > 0.0, discount, 1.0)
    moved = moving_quote * (scenarios.multiples - 1.0)
    pnl: Floats = ((counted - options.current).sum(axis=1) + moved) * scenarios.damping
    return pnl
