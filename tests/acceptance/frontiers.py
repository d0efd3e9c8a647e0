"""What hedging costs against how much delta it leaves: the frontier of each policy on a vault and its recording.

One setting of a policy is one point (delta rms, cost); its frontier are the settings no other setting of it beats at
both. Between two of them cost is interpolated in logarithms, beyond the ends it is not known. The vault's limits are
lifted, so that the policies are compared and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import exp, log
from typing import NamedTuple

from bot.runtime.vault import Vault
from strategies import DeltaBand, FixedInterval, Impulse, Policy, RiskAverse
from tests.acceptance.vaults import run

FAMILIES = ("impulse", "delta_band_edge", "delta_band_centre", "fixed_interval")


class Point(NamedTuple):
    """One setting of a policy and what came of it."""

    spec: str
    delta_rms_base: float
    cost_quote: float
    hedges: int
    pnl_quote: float


class Comparison(NamedTuple):
    """The costs of two frontiers at the same delta rms."""

    delta_rms_base: float
    cost_quote: float
    other_cost_quote: float

    @property
    def saving(self) -> float:
        """Share of the other's cost that is saved; negative if more is spent."""
        return 1.0 - self.cost_quote / self.other_cost_quote


def settings_of(family: str, vault: Vault) -> list[Policy]:
    """Return settings from loose to tight, of like tightness on any vault: widths go by the size of its first leg."""
    leg_base = abs(vault.book[0].qty_base)
    if family == "impulse":
        assert isinstance(vault.policy, RiskAverse), "the demo vaults hedge by a risk aversion"
        own = vault.policy.known_risk_aversion_per_quote
        factors = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
        return [Impulse(risk_aversion_per_quote=_short(own * factor)) for factor in factors]
    if family == "delta_band_edge":
        widths = (0.14, 0.09, 0.06, 0.045, 0.03, 0.02, 0.01, 0.005)
        return [DeltaBand(half_width_base=_short(leg_base * width)) for width in widths]
    if family == "delta_band_centre":
        widths = (0.18, 0.13, 0.09, 0.06, 0.045, 0.03, 0.02, 0.01)
        return [DeltaBand(half_width_base=_short(leg_base * width), trade_to="centre") for width in widths]
    if family == "fixed_interval":
        return [FixedInterval(interval_s=60.0 * minutes) for minutes in (360, 240, 120, 60, 30, 20, 10, 5)]
    raise ValueError(f"expected one of {', '.join(FAMILIES)}, found {family}")


def measure(vault: Vault, policies: Iterable[Policy]) -> list[Point]:
    """Return one point per policy, from a run of the vault without its limits."""
    points = []
    for policy in policies:
        summary = run(vault, policy, without_limits=True).summary
        assert summary.state == "running", f"expected {policy.spec} to hedge to the end, found it {summary.state}"
        figures = summary.delta_rms_base, summary.cost_quote, summary.hedges, summary.pnl_quote["total"]
        points.append(Point(policy.spec, *figures))
    return points


def frontier(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other beats at both, by rising delta rms and so by falling cost."""
    efficient: list[Point] = []
    for point in sorted(points, key=lambda point: (point.delta_rms_base, point.cost_quote)):
        if not efficient or point.cost_quote < efficient[-1].cost_quote:
            efficient.append(point)
    return efficient


def cost_at(efficient: Sequence[Point], delta_rms_base: float) -> float | None:
    """Return the cost of a frontier at a delta rms, None beyond its ends."""
    for tight, loose in pairwise(efficient):
        if tight.delta_rms_base <= delta_rms_base <= loose.delta_rms_base:
            share = log(delta_rms_base / tight.delta_rms_base) / log(loose.delta_rms_base / tight.delta_rms_base)
            return exp((1.0 - share) * log(tight.cost_quote) + share * log(loose.cost_quote))
    return None


def compare(points: Sequence[Point], others: Sequence[Point]) -> list[Comparison]:
    """Compare two frontiers at the delta rms of every point of either, wherever both reach."""
    ours, theirs = frontier(points), frontier(others)
    comparisons = []
    for delta_rms_base in sorted(point.delta_rms_base for point in (*ours, *theirs)):
        cost_quote, other_quote = cost_at(ours, delta_rms_base), cost_at(theirs, delta_rms_base)
        if cost_quote is not None and other_quote is not None:
            comparisons.append(Comparison(delta_rms_base, cost_quote, other_quote))
    return comparisons


def floor_rms_base(vault: Vault) -> float:
    """Return the delta rms nobody gets below: what is left when every decision hedges to within a lot or two."""
    return measure(vault, [DeltaBand(half_width_base=1e-9)])[0].delta_rms_base


def _short(number: float) -> float:
    """Round to three digits, for settings people can read."""
    return float(f"{number:.3g}")
