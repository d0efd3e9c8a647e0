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
    SILENT,
    SKEWS,
    Basis,
    Expiries,
    Feeds,
    Haircut,
    Markets,
    Scenario,
    Scenarios,
    coin_values_quote,
    coins,
    confidence_charge,
    contracts_notional,
    haircuts,
    linear_sums,
    markets_of,
    naked_shorts_base,
    scenarios_of,
)
from bot.risk.requirement import Charge, Requirement
from bot.risk.scenarios import VolShock
from bot.risk.stack import BookStack

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

    def multiples(self, options: Expiries) -> tuple[Floats, Floats]:
        """Return by market what each option's vol is multiplied by in the scenarios of each kind of `SKEWS`."""
        stack = options.stack
        root = np.sqrt(np.maximum(stack.tau_years, 0.0))  # below 0 until it is settled
        k = np.log(stack.strike_px / stack.forward_px)
        reach = np.maximum(root * self.width * (self.vol_static + self.vol_per_root_year * root), self.least_k)
        linear = np.maximum(self.linear_base + self.linear_per_root_year * root, 0.0)
        both = np.maximum(self.abs_base + self.abs_per_root_year * root, 0.0)
        return 1.0 + np.clip(k * linear / reach, -linear, linear), 1.0 + np.clip(np.abs(k) * both / reach, -both, both)


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
    return _requirements(BookStack(book), parameters, Feeds() if feeds is None else feeds)[0]


def requirements(stack: BookStack, parameters: Pmrm2Parameters) -> list[Requirement]:
    """Return what PMRM_2 asks of each copy of a stack, as `requirement` would of each by itself."""
    return _requirements(stack, parameters, SILENT)


def _requirements(stack: BookStack, parameters: Pmrm2Parameters, feeds: Feeds) -> list[Requirement]:
    of_rows = feeds.of(stack, parameters.fixing_s)
    layout, terms = stack.layout, parameters.contingency
    held = coins(stack, parameters.cash)
    held_quote = coin_values_quote(stack, held, of_rows)
    offsets = [parameters.collateral.get(layout.asset(row), NOT_ACCEPTED).offsets_risk for row in held.tolist()]
    covers = np.array(offsets, dtype=bool)
    covering, covers_quote = held[covers], held_quote[:, covers]
    scenarios = scenarios_of(parameters.scenarios, WORDS, parameters.basis)
    markets = markets_of(stack, covering)
    options, spot_px = Expiries(stack, of_rows), stack.spot_px[:, markets]
    perps_base, moving_quote = linear_sums(stack, markets)
    if covering.size:
        moving_quote = moving_quote + covers_quote @ (layout.underlying[covering, None] == np.array(markets))
    pnl = _scenario_pnl(parameters, scenarios, options, markets, moving_quote)
    found = Markets(tuple([layout.underlyings[one] for one in markets]), (*scenarios.names, "basis"), pnl)
    perp_quote = (perps_base * spot_px).sum(axis=1)
    short_quote = (naked_shorts_base(options, markets) * spot_px).sum(axis=1)
    doubt_quote = np.zeros(len(stack))
    if of_rows.are_doubted(terms.confidence_threshold):
        for confidence, notional in (
            (of_rows.confidence[:, held], held_quote),
            contracts_notional(stack, of_rows),
            options.notional(np.abs(options.stack.qty_base), stack.spot_px),
        ):
            doubted = confidence_charge(confidence, notional, terms.confidence_threshold, terms.confidence_rate)
            doubt_quote = doubt_quote + doubted
    haircut, more_haircut, refused = haircuts(stack, held, held_quote, parameters.collateral)
    peg = max(0.0, terms.peg_threshold - of_rows.stable_px) * terms.peg_factor
    told_of_cash = f"cash at {of_rows.stable_px:g}"
    columns = (
        *(perp_quote.tolist(), short_quote.tolist(), doubt_quote.tolist()),
        *((haircut + more_haircut).tolist(), haircut.tolist()),
    )
    doubts = of_rows.doubts * (len(stack) // len(of_rows.confidence))
    worsts, losses = found.worsts, found.loss_quote.tolist()
    asked = []
    for loss, worst, told, perp, short, doubt, cut_first, cut in zip(losses, worsts, doubts, *columns, strict=True):
        perp_mm, short_mm = terms.perp_maintenance * perp, terms.option_maintenance * short
        charges = (
            Charge("worst scenario", loss * parameters.initial_factor, loss * parameters.maintenance_factor, worst),
            Charge("peg", loss * peg, 0.0, told_of_cash),
            Charge("perpetuals", perp_mm + terms.perp_initial * perp, perp_mm),
            Charge("naked shorts", short_mm + terms.option_initial * short, short_mm),
            Charge("collateral haircut", cut_first, cut, refused),
            Charge("oracle confidence", doubt, 0.0, told),
        )
        asked.append(charges)
    return found.requirements(MODEL, asked, worsts)


def _scenario_pnl(
    parameters: Pmrm2Parameters, scenarios: Scenarios, options: Expiries, markets: list[int], moving_quote: Floats
) -> Floats:
    """Return by scenario, the basis last, copy and market the damped P&L of its options, and of what moves as spot."""
    shock, vol, years = parameters.vol, options.stack.vol, options.stack.tau_years
    skewed = dict(zip(SKEWS, parameters.skew.multiples(options), strict=True))
    vols = np.empty((len(WORDS), options.stack.markets, vol.shape[1]))
    scale = shock.scale(years)
    for line, word in enumerate(WORDS):
        vols[line] = vol * skewed[word] if word in SKEWS else shock.shocked(vol, years, word, scale)
    shocked, moved, now = scenarios.values(options, vols)
    held = shocked * parameters.discount.of(shocked, options.tau_years, options.rate_per_year) - now
    by_expiry = np.where(scenarios.is_skew[:, None, None], -np.abs(held), held)
    linear = moving_quote * np.where(scenarios.is_skew, 0.0, scenarios.multiples - 1.0)[:, None, None]
    pnl = (options.by_market(by_expiry, markets) + linear) * scenarios.damping[:, None, None]
    basis = options.by_market(parameters.basis.charge_quote(moved, now, options.tau_years), markets)
    return np.concatenate([pnl, basis[None]])
