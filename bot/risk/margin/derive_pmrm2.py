"""Derive's portfolio margin of the second kind (PMRM_2): scenarios with a static discount, skew, and a basis charge.

Each underlying is a market of its own, as each account of that manager is; coins held are taken by their haircuts, and
those of the underlying that may, move with it in its scenarios.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import Floats, RiskBook
from bot.risk.margin.derive_common import (
    NOT_ACCEPTED,
    SKEWS,
    Basis,
    Expiries,
    Feeds,
    Haircut,
    Markets,
    Scenario,
    Scenarios,
    asset_of,
    coin_values_quote,
    coins,
    confidence_charge,
    expiries_of,
    haircuts,
    linear_rows,
    markets_of,
    naked_shorts_base,
)
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import VolShock

MODEL = "derive_pmrm2"
WORDS = ("same", "up", "down", *SKEWS)


class SkewShock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far a skew moves vol: by at most `per_root_year` sqrt(T) + `base`, reached at the strike the width names."""

    linear_base: float
    linear_per_root_year: float
    abs_base: float
    abs_per_root_year: float
    least_k: float
    width: float
    vol_static: float
    vol_per_root_year: float

    def multiple(self, options: Expiries, kind: str) -> Floats:
        """Return what each option's vol is multiplied by in the scenario of this kind."""
        root = np.sqrt(np.maximum(options.row_tau_years, 0.0))  # below 0 until it is settled
        k = np.log(options.strike_px / options.forward_px)
        base, slope = self.abs_base, self.abs_per_root_year
        if kind == "linear":
            base, slope = self.linear_base, self.linear_per_root_year
        cap = np.maximum(base + slope * root, 0.0)
        reach = np.maximum(root * self.width * (self.vol_static + self.vol_per_root_year * root), self.least_k)
        return 1.0 + np.clip((k if kind == "linear" else np.abs(k)) * cap / reach, -cap, cap)


class StaticDiscount(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An expiry worth something is worth less in a scenario, one that owes owes more, the longer it lives."""

    long_multiple: float
    long_rate_multiple: float
    long_rate_add: float
    short_multiple: float
    short_rate_multiple: float
    short_rate_add: float

    def of(self, values: Floats, tau_years: Floats, rate_per_year: Floats) -> Floats:
        """Return what each value is multiplied by: L exp(-T (r a + b)), or S exp(T (r a + b)) up to 1 / exp(-rT)."""
        long = self.long_multiple * np.exp(-tau_years * (rate_per_year * self.long_rate_multiple + self.long_rate_add))
        short = self.short_multiple * np.exp(
            tau_years * (rate_per_year * self.short_rate_multiple + self.short_rate_add)
        )
        return np.where(values >= 0.0, long, np.minimum(short, np.exp(rate_per_year * tau_years)))


class Contingency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Charges beside the scenarios: shares of notional for maintenance, and what initial margin has on top."""

    perp_maintenance: float
    perp_initial: float
    option_maintenance: float
    option_initial: float
    confidence_threshold: float
    confidence_rate: float
    peg_threshold: float
    peg_factor: float


class Pmrm2Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything PMRM_2 is set by. `cash` names the coins that count in full."""

    scenarios: tuple[Scenario, ...]
    vol: VolShock
    skew: SkewShock
    discount: StaticDiscount
    basis: Basis
    contingency: Contingency
    initial_factor: float
    maintenance_factor: float
    collateral: dict[str, Haircut]
    cash: tuple[str, ...]
    fixing_s: float


def requirement(book: RiskBook, parameters: Pmrm2Parameters, feeds: Feeds | None = None) -> Requirement:
    """Return what PMRM_2 asks for, to be held against equity at marks (coins at theirs, cash included).

    MM = - worst x maintenance factor + charges; IM = - worst x (initial factor + peg) + charges of both kinds. The
    basis competes with the scenarios, it is not added. A coin without a haircut counts nothing and is named.
    """
    of_rows = (Feeds() if feeds is None else feeds).of(book, parameters.fixing_s)
    terms = parameters.contingency
    held = coins(book, parameters.cash)
    held_quote = coin_values_quote(book, held, of_rows)
    offsets = [parameters.collateral.get(asset_of(book, row), NOT_ACCEPTED).offsets_risk for row in held.tolist()]
    covers, covers_quote = held[offsets], held_quote[offsets]
    scenarios = Scenarios(parameters.scenarios, WORDS)
    found = Markets()
    perp_quote = short_quote = 0.0
    doubt_quote = confidence_charge(
        of_rows.confidence[held], held_quote, terms.confidence_threshold, terms.confidence_rate
    )
    for market in markets_of(book, covers):
        options = expiries_of(book, of_rows, market)
        perps = linear_rows(book, market)
        spot_px = float(book.spot_px[market])
        moving_quote = float((book.qty_base[perps] * book.mark_px[perps]).sum())
        moving_quote += float(covers_quote[book.underlying[covers] == market].sum())
        pnl = _scenario_pnl(parameters, scenarios, options, moving_quote)
        names = [*scenarios.names, "basis"]
        found.note(book.underlyings[market], names, [*pnl.tolist(), parameters.basis.charge_quote(options)])
        perp_quote += float(np.abs(book.qty_base[perps]).sum()) * spot_px
        short_quote += naked_shorts_base(options) * spot_px
        for confidence, notional in (
            (of_rows.confidence[perps], book.qty_base[perps] * spot_px),
            (options.confidence, options.by_expiry(np.abs(options.qty_base)) * spot_px),
        ):
            doubt_quote += confidence_charge(confidence, notional, terms.confidence_threshold, terms.confidence_rate)
    haircut, more_haircut, refused = haircuts(book, held, held_quote, parameters.collateral)
    peg = max(0.0, terms.peg_threshold - of_rows.stable_px) * terms.peg_factor
    loss = found.loss_quote
    perp_mm, short_mm = terms.perp_maintenance * perp_quote, terms.option_maintenance * short_quote
    charges = (
        Charge("worst scenario", loss * parameters.initial_factor, loss * parameters.maintenance_factor, found.worst),
        Charge("peg", loss * peg, 0.0, f"cash at {of_rows.stable_px:g}"),
        Charge("perpetuals", perp_mm + terms.perp_initial * perp_quote, perp_mm),
        Charge("naked shorts", short_mm + terms.option_initial * short_quote, short_mm),
        Charge("collateral haircut", haircut + more_haircut, haircut, refused),
        Charge("oracle confidence", doubt_quote, 0.0, of_rows.doubt),
    )
    return found.requirement(MODEL, charges)


def _scenario_pnl(parameters: Pmrm2Parameters, scenarios: Scenarios, options: Expiries, moving_quote: float) -> Floats:
    """Return the damped P&L in every scenario of one market's options, and of what moves as its spot does."""
    shock, tau = parameters.vol, options.row_tau_years
    straight = [shock.shocked(options.vol, tau, word) for word in WORDS if word not in SKEWS]
    skewed = [options.vol * parameters.skew.multiple(options, word) for word in SKEWS]
    shocked = scenarios.values(options, np.stack([*straight, *skewed]))
    held = shocked * parameters.discount.of(shocked, options.tau_years, options.rate_per_year) - options.current
    by_expiry = np.where(scenarios.is_skew[:, None], -np.abs(held), held)
    linear = np.where(scenarios.is_skew, 0.0, moving_quote * (scenarios.multiples - 1.0))
    pnl: Floats = (by_expiry.sum(axis=1) + linear) * scenarios.damping
    return pnl
