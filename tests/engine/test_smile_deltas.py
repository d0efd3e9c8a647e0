"""The delta model of a book: what its smiles teach reaches its net delta, and nothing else does."""

import numpy as np
import pytest

from bot.domain.units import NS_PER_HOUR, NS_PER_MIN
from bot.engine.book import UnderlyingBook
from bot.engine.market import MarketState
from bot.engine.settings import BookLeg, DeltaSettings
from bot.engine.smile_deltas import MIN_LEFT_NS, SmileDeltas
from bot.pricing.black76 import greeks
from bot.pricing.smile_delta import DeltaModel
from tests.engine.builders import AGES, T0_NS, Feed, apply_market, option

STRIKES = np.arange(1400.0, 2700.0, 100.0)
STEP_NS = 5 * NS_PER_MIN
LEGS = [(option(1800.0, is_call=False), -5.0), (option(2200.0), -3.0)]


def vol_at(strike_px: float, forward_px: float) -> float:
    """A smile that moves along with the price: sticky delta."""
    k = np.log(strike_px / forward_px)
    return float(0.5 - 0.3 * k + 0.6 * k * k)


def settings(model: str = "sticky_delta", *, is_gated: bool = True, is_watched: bool = False) -> DeltaSettings:
    return DeltaSettings(model=model, is_gated=is_gated, is_watched=is_watched)  # type: ignore[arg-type]


class World:
    """One expiry swept every five minutes, and a book in it."""

    def __init__(self, delta: DeltaSettings, days: float = 30.0) -> None:
        self.options = [option(one, days=days, is_call=is_call) for one in STRIKES for is_call in (True, False)]
        self.market = MarketState(self.options, AGES)
        legs = [BookLeg(option(one.strike_px, days=days, is_call=one.is_call), qty_base) for one, qty_base in LEGS]
        self.book = UnderlyingBook("ETH", self.market, legs, AGES, delta=delta)
        self.feed = Feed(T0_NS)
        self.px = 2000.0
        self._rng = np.random.default_rng(5)

    def sweep(self, count: int = 1) -> None:
        for _ in range(count):
            self.px *= float(np.exp(0.003 * self._rng.standard_normal()))
            level = 0.001 * float(self._rng.standard_normal())
            apply_market(
                self.market,
                [self.feed.vol(one, vol_at(one.strike_px, self.px) + level, self.px) for one in self.options],
            )
            assert self.book.mark(self.feed.now_ns) is None
            self.feed.now_ns += STEP_NS

    @property
    def smile(self) -> SmileDeltas:
        assert self.book.smile is not None
        return self.book.smile


def test_black_watches_nothing_unless_asked_to() -> None:
    assert World(DeltaSettings()).book.smile is None
    watched = World(settings("black", is_watched=True))
    watched.sweep(130)
    assert watched.book.smile_delta_base == 0.0
    assert watched.smile.evidence.used == "black"
    assert watched.smile.evidence.t_ratio["sticky_delta"] > 2.0


def test_the_record_finds_that_the_smile_moves_along() -> None:
    world = World(settings())
    world.sweep(130)
    evidence = world.smile.evidence
    assert evidence.stickiness_ratio == pytest.approx(0.0, abs=0.15)
    assert (evidence.model, evidence.used, evidence.moments) == ("sticky_delta", "sticky_delta", 129)
    assert evidence.gain_share["sticky_delta"] > 0.1
    assert evidence.why.startswith("better than Black by")


def test_until_then_the_delta_is_blacks() -> None:
    world = World(settings())
    world.sweep(60)
    assert world.smile.model is DeltaModel.BLACK
    assert world.book.smile_delta_base == 0.0


@pytest.mark.parametrize("model", ["sticky_delta", "skew_stickiness", "minimum_variance"])
def test_every_model_comes_near_the_delta_of_this_world(model: str) -> None:
    world = World(settings(model, is_gated=False))
    world.sweep(130)
    book, marks = world.book, world.book.option_marks
    assert marks is not None
    step = 1e-4

    def value(px: float) -> float:
        strikes = np.array([1800.0, 2200.0])
        vol = [vol_at(strike_px, px) for strike_px in strikes]
        return float(
            np.array([-5.0, -3.0]) @ greeks(px, strikes, marks.tau_years, np.array(vol), np.array([False, True])).value
        )

    true_base = (value(world.px * (1 + step)) - value(world.px * (1 - step))) / (2 * step * world.px)
    with_smile_base = book.option_delta_base + book.smile_delta_base
    assert abs(with_smile_base - true_base) < 0.25 * abs(book.option_delta_base - true_base)
    net = book.net_greeks(is_coin_numeraire=False)
    assert net.delta_base == pytest.approx(with_smile_base)


def test_a_coin_book_takes_the_premium_off_this_delta_too() -> None:
    world = World(settings(is_gated=False))
    world.sweep(70)
    apply_market(world.market, [world.feed.index(world.px)])
    usd, coin = (world.book.net_greeks(is_coin_numeraire=is_coin).delta_base for is_coin in (False, True))
    assert coin == pytest.approx(usd - world.book.equity_quote() / world.px)


def test_values_and_the_other_greeks_are_blacks() -> None:
    black, smile = World(DeltaSettings()), World(settings(is_gated=False))
    black.sweep(70)
    smile.sweep(70)
    a, b = black.book.net_greeks(is_coin_numeraire=False), smile.book.net_greeks(is_coin_numeraire=False)
    assert a.delta_base != b.delta_base
    assert (a.gamma_base_per_px, a.vega_quote_per_vol, a.value_quote) == (
        b.gamma_base_per_px,
        b.vega_quote_per_vol,
        b.value_quote,
    )


def test_the_same_events_give_the_same_deltas() -> None:
    one, other = World(settings("minimum_variance")), World(settings("minimum_variance"))
    one.sweep(130)
    other.sweep(130)
    assert one.book.smile_delta_base == other.book.smile_delta_base
    assert one.smile.evidence == other.smile.evidence


def test_looking_twice_at_the_same_quotes_teaches_nothing() -> None:
    world = World(settings())
    world.sweep(5)
    seen = world.smile.record.moments
    world.feed.now_ns -= STEP_NS - NS_PER_MIN
    assert world.book.mark(world.feed.now_ns) is None
    assert world.smile.due_ns > world.feed.now_ns, "it looked"
    assert world.smile.record.moments == seen


def test_a_gap_teaches_nothing() -> None:
    world = World(settings())
    world.sweep(5)
    seen = world.smile.record.moments
    world.feed.now_ns += NS_PER_HOUR
    world.sweep(1)
    assert world.smile.record.moments == seen
    world.sweep(1)
    assert world.smile.record.moments == seen + 1


def test_near_expiry_the_delta_is_blacks() -> None:
    world = World(settings(is_gated=False), days=10.0)
    world.sweep(3)
    assert world.book.smile_delta_base != 0.0
    world.feed.now_ns = T0_NS + 240 * NS_PER_HOUR - MIN_LEFT_NS + NS_PER_MIN
    world.sweep(1)
    assert world.book.smile_delta_base == 0.0


def test_a_book_without_options_left_has_no_correction() -> None:
    world = World(settings(is_gated=False))
    world.sweep(3)
    assert world.book.smile_delta_base != 0.0
    world.book.hold_options([])
    assert world.book.smile_delta_base == 0.0
