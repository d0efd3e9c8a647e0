"""Policies asked on the lattice: the views are those of the book, and the known scores come out."""

from __future__ import annotations

from math import cbrt

import msgspec
import numpy as np
import pytest

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.pricing import black76
from bot.simulation.yardstick.asking import FIRST_NS, bands_of
from bot.simulation.yardstick.lattice import Grid, Lattice, Line, Setting, Settlement
from strategies import FixedInterval, Impulse, Unhedged, WhalleyWilmott

BASE = Setting((Line(100.0, -1.0),), 100.0, 0.6, 30.0 / 365.0, 1920, 5e-4, 0.1, settlement=Settlement.LIQUIDATED)
GRID = Grid(-0.05, 1.05, 0.01, 4.0)
PLAIN = WhalleyWilmott(risk_aversion_per_quote=0.1, monitoring_correction=False, h0_floor=False, centre_term="none")
COARSE = msgspec.structs.replace(BASE, steps=120)


class Listening:
    """Answers with half a lot more than what the net delta is, and keeps what it was shown."""

    name = "listening"
    needs_offers = False

    def __init__(self) -> None:
        self.views: list[HedgeView] = []

    def target(self, view: HedgeView) -> HedgeTarget:
        """Keep the view."""
        self.views.append(view)
        return HedgeTarget(-0.1, 0.2, -0.05, 0.1, 0.0, "")


class ToTheCentre:
    """Whalley & Wilmott's trigger, but traded back to the centre: what many a bot does."""

    name = "centre"
    needs_offers = False

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return the band, traded to its centre."""
        gamma = view.greeks.gamma_base_per_px
        half_base = cbrt(1.5 * view.cost_rate * view.spot_px * gamma * gamma / 0.1)
        return HedgeTarget.to_centre(-half_base, half_base, 0.0, "")


@pytest.fixture(scope="module")  # the lattice is the coarsest on which every figure of the base case is still found
def base() -> Lattice:
    return Lattice(BASE, GRID)


@pytest.fixture(scope="module")
def best_quote(base: Lattice) -> float:
    return base.best().excess_quote


def test_the_base_case_costs_what_it_is_known_to_cost(best_quote: float) -> None:
    assert best_quote == pytest.approx(0.1421, abs=0.0015)


def test_whalley_wilmott_to_the_edge(base: Lattice, best_quote: float) -> None:
    bands = bands_of(PLAIN, base, every=32)
    assert best_quote / base.worth(bands).excess_quote == pytest.approx(0.976, abs=0.005)


def test_the_same_trigger_to_the_centre_is_as_much_worse_as_theory_says(base: Lattice, best_quote: float) -> None:
    bands = bands_of(ToTheCentre(), base, every=64)
    assert best_quote / base.worth(bands).excess_quote == pytest.approx(2.0 ** (-1.0 / 3.0), abs=0.015)


def test_a_clock_of_a_day(best_quote: float) -> None:
    four_hourly = Lattice(msgspec.structs.replace(BASE, steps=240), GRID)
    bands = bands_of(FixedInterval(interval_s=86_400.0), four_hourly)
    assert best_quote / four_hourly.worth(bands).excess_quote == pytest.approx(0.72, abs=0.01)


@pytest.mark.parametrize(("risk_aversion", "gas_quote"), [(0.01, 0.0), (0.01, 0.005), (0.1, 0.0)])
def test_a_policy_that_knows_it_must_unwind_is_nearly_the_best_and_one_that_does_not_is_worse(
    risk_aversion: float, gas_quote: float
) -> None:
    changes = {"steps": 240, "risk_aversion_per_quote": risk_aversion, "fixed_cost_quote": gas_quote}
    lattice = Lattice(msgspec.structs.replace(BASE, **changes), Grid(-0.4, 1.4, 0.02, 4.0))
    least = lattice.best().excess_quote
    knows, does_not = (
        least
        / lattice.worth(
            bands_of(Impulse(risk_aversion_per_quote=risk_aversion, unwinds_at_expiry=flag), lattice, every=8)
        ).excess_quote
        for flag in (True, False)
    )
    assert 0.985 < knows <= 1.0
    assert does_not < knows - 0.002


@pytest.mark.parametrize(
    ("risk_aversion", "cost_rate", "gas_quote", "least_share"),
    [(0.01, 5e-4, 0.0, 0.99), (0.1, 5e-4, 0.0, 0.995), (1.0, 1e-3, 0.0, 0.99), (0.1, 5e-4, 0.005, 0.985)],
)
def test_the_default_policy_is_nearly_the_best_there_is(
    risk_aversion: float, cost_rate: float, gas_quote: float, least_share: float
) -> None:
    setting = msgspec.structs.replace(
        BASE,
        steps=240,
        cost_rate=cost_rate,
        risk_aversion_per_quote=risk_aversion,
        fixed_cost_quote=gas_quote,
        settlement=Settlement.FREE,
    )
    grid = Grid(-0.3, 1.3, 0.01, 4.0) if risk_aversion < 0.05 else Grid(-0.1, 1.1, 0.005, 4.0)
    lattice = Lattice(setting, grid)
    policy = Impulse(risk_aversion_per_quote=risk_aversion, unwinds_at_expiry=False)
    bands = bands_of(policy, lattice, every=8)
    share = lattice.best().excess_quote / lattice.worth(bands).excess_quote
    assert least_share < share <= 1.0


@pytest.mark.parametrize("qty_base", [-3.0, 3.0])
def test_the_default_policy_is_nearly_the_best_for_options_that_offset_each_other(qty_base: float) -> None:
    lines = (Line(90.0, qty_base), Line(100.0, -2.0 * qty_base), Line(110.0, qty_base))
    setting = msgspec.structs.replace(BASE, steps=240, lines=lines, settlement=Settlement.FREE)
    lattice = Lattice(setting, Grid(-3.0, 3.0, 0.04, 4.0))
    bands = bands_of(Impulse(risk_aversion_per_quote=0.1, unwinds_at_expiry=False), lattice, every=4)
    assert lattice.best().excess_quote / lattice.worth(bands).excess_quote > 0.96


def test_views_are_those_of_the_book_and_answers_count_from_its_delta() -> None:
    lines = (Line(100.0, -2.0), Line(90.0, 1.0, is_call=False))
    lattice = Lattice(msgspec.structs.replace(COARSE, lines=lines, fixed_cost_quote=0.25), Grid(-0.5, 2.5, 0.01))
    policy = Listening()
    bands = bands_of(policy, lattice)
    first, *_, last = policy.views
    assert (first.now_ns, first.spot_px, first.cost_rate, first.fixed_cost_quote) == (FIRST_NS, 100.0, 5e-4, 0.25)
    assert (first.vol, first.tau_years, first.last_hedge_ns) == (0.6, 30.0 / 365.0, 0)
    assert last.tau_years == pytest.approx(0.25 / 365.0)
    assert last.now_ns - first.now_ns == pytest.approx(29.75 * 86_400e9, rel=1e-9)
    one_step = COARSE.step_years * (0.8660254 / 0.5825972) ** 2
    assert first.monitor_years == pytest.approx(one_step, rel=1e-6)
    for view in (first, last):
        greeks = black76.greeks(view.spot_px, [100.0, 90.0], view.tau_years, 0.6, [True, False])
        assert view.greeks.delta_base == pytest.approx(-2.0 * greeks.delta[0] + greeks.delta[1], rel=1e-12)
        assert view.greeks.gamma_base_per_px == pytest.approx(-2.0 * greeks.gamma[0] + greeks.gamma[1], rel=1e-12)
        assert view.vanna_base_per_vol == pytest.approx(-2.0 * greeks.vanna[0] + greeks.vanna[1], rel=1e-12)
        legs = view.legs
        again = black76.greeks(legs.forward_px, legs.strike_px, legs.tau_years, legs.vol, legs.is_call)
        assert float(again.delta @ legs.qty_base) == pytest.approx(view.greeks.delta_base, rel=1e-12)
    net = first.greeks.delta_base
    hedges = [lattice.hedges_base[part[0, lattice.centre]] for part in bands]
    assert hedges == pytest.approx([-0.1 - net, 0.2 - net, -0.05 - net, 0.1 - net], abs=0.00501)


def test_a_clock_trades_when_its_interval_is_over_and_never_else() -> None:
    lattice = Lattice(COARSE, GRID)
    bands = bands_of(FixedInterval(interval_s=86_400.0), lattice)
    trades = [step for step in range(COARSE.steps) if bands.low[step, lattice.centre] > 0]
    assert trades == list(range(0, 120, 4))


def test_asking_now_and_then_is_asking_always_but_for_a_hair() -> None:
    lattice = Lattice(COARSE, GRID)
    policy = Impulse(risk_aversion_per_quote=0.1)
    always, sometimes = (lattice.worth(bands_of(policy, lattice, every)).excess_quote for every in (1, 4))
    assert sometimes == pytest.approx(always, rel=2e-3)


def test_no_hedge_at_all_is_dear() -> None:
    lattice = Lattice(COARSE, GRID)
    unhedged = lattice.worth(bands_of(Unhedged(), lattice), moments=True)
    assert unhedged.mean_quote == pytest.approx(0.0, abs=1e-9)
    assert unhedged.sd_quote == pytest.approx(11.09, abs=0.06)
    assert unhedged.excess_quote > 20.0 * lattice.best().excess_quote
    assert np.isnan(lattice.worth(bands_of(Unhedged(), lattice)).sd_quote)
