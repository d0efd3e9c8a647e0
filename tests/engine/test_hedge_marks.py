"""What marks an option without a fresh quote: the basis between fresh expiries, the surface, its own last vol."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from bot.engine.hedge_marks import LAST_VOL_NS, TELL_AFTER_NS, basis_between, hedge_basis, hedge_vol, tell_old_mark
from bot.engine.market import ExpiryMarks, MarketState
from bot.pricing.fitted_surface import Surface, fit_surface
from bot.pricing.svi_fit import SmileQuotes
from tests.engine.builders import AGES, T0_NS, Feed, apply_market, option

NEAR, OURS, FAR = option(days=10.0), option(days=20.0), option(days=40.0)
RATE = 0.001  # per day of carry


class World:
    """Three expiries on one line of carry, of which the middle one falls silent."""

    def __init__(self) -> None:
        self.market = MarketState([NEAR, OURS, FAR, option(2500.0, days=20.0)], AGES)
        self.feed = Feed()
        self.show(2000.0, NEAR, OURS, FAR)

    def show(self, index_px: float, *quoted: object, vol: float = 0.6) -> None:
        apply_market(self.market, [self.feed.index(index_px)])
        for one in (NEAR, OURS, FAR):
            if one in quoted:
                left_days = (one.expiry_ns - self.feed.now_ns) / (24 * NS_PER_HOUR)
                apply_market(self.market, [self.feed.vol(one, vol, index_px * exp(RATE * left_days))])

    @property
    def ours(self) -> ExpiryMarks:
        return self.market.expiry_of(self.market.slot_of[OURS.instrument_id])

    @property
    def times(self) -> tuple[int, int]:
        return self.feed.now_ns, self.feed.now_ns - AGES.vol_ns

    @property
    def carry(self) -> float:
        return RATE * (OURS.expiry_ns - self.feed.now_ns) / (24 * NS_PER_HOUR)


def surface_at(vol: float) -> Surface:
    k = np.linspace(-0.3, 0.3, 7)
    quotes = [
        SmileQuotes(days / 365, k, np.full(7, vol), np.full(7, vol - 0.01), np.full(7, vol + 0.01)) for days in (10, 40)
    ]
    return fit_surface(quotes)


def test_between_two_fresh_expiries_the_carry_is_one_rate_whatever_the_index_did_since() -> None:
    world = World()
    world.feed.wait(700.0)
    world.show(2200.0, NEAR)
    world.feed.wait(30.0)
    world.show(2100.0, FAR)
    world.feed.wait(30.0)
    apply_market(world.market, [world.feed.index(1900.0)])
    assert basis_between(world.market, world.ours, *world.times) == pytest.approx(world.carry, abs=1e-5)
    assert hedge_basis(world.market, world.ours, *world.times) == pytest.approx(world.carry, abs=1e-5)


@pytest.mark.parametrize("fresh", [(NEAR,), (FAR,), ()], ids=["only before", "only after", "none"])
def test_else_a_hedge_keeps_its_own_basis_as_time_runs_out_and_a_leg_of_the_book_has_none(
    fresh: tuple[object, ...],
) -> None:
    world = World()
    world.feed.wait(5 * 24 * 3600.0)
    world.show(2200.0, *fresh)
    assert basis_between(world.market, world.ours, *world.times) is None
    assert hedge_basis(world.market, world.ours, *world.times) == pytest.approx(world.carry, rel=1e-9)


def test_without_any_forward_it_is_the_index() -> None:
    world = World()
    silent = MarketState([OURS], AGES)
    assert hedge_basis(silent, silent.expiries[0], *world.times) == 0.0


def test_a_forward_that_came_while_the_index_was_old_says_nothing_of_the_basis() -> None:
    world = World()
    world.feed.wait(300.0)
    apply_market(world.market, [world.feed.vol(OURS, 0.6, 2050.0)])
    assert world.ours.forward_index_px == 0.0


def test_a_young_vol_of_its_own_comes_first_then_the_surface_then_an_old_one() -> None:
    world = World()
    surface = surface_at(0.8)
    at = (OURS, log(2000.0 / 2040.0))
    world.feed.now_ns = T0_NS + LAST_VOL_NS
    assert hedge_vol(world.market, surface, *at, world.feed.now_ns) == 0.6
    world.feed.now_ns += NS_PER_S
    assert hedge_vol(world.market, surface, *at, world.feed.now_ns) == pytest.approx(0.8, abs=1e-3)
    assert hedge_vol(world.market, None, *at, world.feed.now_ns) == 0.6


def test_one_never_quoted_takes_what_is_usual_and_none_only_where_nothing_was_ever_known() -> None:
    never = option(2500.0, days=20.0)
    assert hedge_vol(World().market, None, never, 0.2, T0_NS) == 0.6
    assert hedge_vol(MarketState([never], AGES), None, never, 0.2, T0_NS) is None


def test_old_marks_and_late_settlements_are_told_with_their_age() -> None:
    now_ns = T0_NS + TELL_AFTER_NS
    assert tell_old_mark(OURS, T0_NS, now_ns, AGES.vol_ns) == ""
    text = tell_old_mark(OURS, T0_NS, now_ns + NS_PER_MIN, AGES.vol_ns)
    assert text == "ETH-20D-2000-C, held as a hedge, is marked by the surface: its own quote is 31 min old"
    assert tell_old_mark(OURS, T0_NS, now_ns + NS_PER_MIN, NS_PER_HOUR) == "", "the vault takes such a quote for fresh"
    assert tell_old_mark(OURS, 0, now_ns, AGES.vol_ns).endswith("its own quote is missing")
    late = tell_old_mark(OURS, T0_NS, OURS.expiry_ns + NS_PER_HOUR, AGES.vol_ns)
    assert late == "ETH-20D-2000-C, held as a hedge, has waited 60 min for its settlement price"
    assert tell_old_mark(OURS, T0_NS, OURS.expiry_ns + NS_PER_MIN, AGES.vol_ns) == ""
