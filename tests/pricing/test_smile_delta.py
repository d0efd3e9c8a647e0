"""Smile deltas: each finds the world it is made for, Black's is left only for evidence, and none may do much harm."""

from math import inf

import numpy as np
import pytest

from bot.pricing.black76 import greeks
from bot.pricing.smile_delta import (
    MAX_DELTA_RATIO,
    MIN_BATCHES,
    DeltaModel,
    Moves,
    SmileRecord,
    bounded,
    fit_shape,
)

STRIKES = np.linspace(80.0, 125.0, 10)
TAU_YEARS = 0.08


def smile(k: np.ndarray, level: float = 0.6, skew: float = -0.4, bend: float = 0.8) -> np.ndarray:
    return np.asarray(level + skew * k + bend * k * k)


def moves(
    rng: np.random.Generator, ratio: float, noise_vol: float = 0.002, skew: float = -0.4, held: np.ndarray | None = None
) -> Moves:
    """One move of a smile whose vol at the money moves by `ratio` times skew times return, and by chance."""
    log_move = 0.01 * rng.standard_normal()
    k = np.log(STRIKES / 100.0)
    vol = smile(k, skew=skew)
    values = greeks(100.0, STRIKES, TAU_YEARS, vol, True)
    slope = skew + 1.6 * k
    atm_move = ratio * skew * log_move + noise_vol * rng.standard_normal()
    vol_move = atm_move - slope * log_move
    full = np.full(len(k), log_move)
    held_base = np.ones(len(k)) if held is None else held
    return Moves(
        held_base, values.vega / 100.0, vol_move, full, slope, values.delta, TAU_YEARS**0.5, atm_move, skew * log_move
    )


def learnt(ratio: float, count: int = 400, noise_vol: float = 0.002, skew: float = -0.4) -> SmileRecord:
    rng, record = np.random.default_rng(7), SmileRecord()
    for _ in range(count):
        record.note([moves(rng, ratio, noise_vol, skew)])
    return record


class TestShape:
    def test_a_parabola_is_found_exactly(self) -> None:
        k = np.log(STRIKES / 100.0)
        shape = fit_shape(k, smile(k), TAU_YEARS)
        assert shape is not None
        assert shape[:3] == pytest.approx((0.6, -0.4, 0.8))
        np.testing.assert_allclose(shape.skew_at(k), -0.4 + 1.6 * k)

    def test_beyond_its_reach_the_skew_stays(self) -> None:
        k = np.log(STRIKES / 100.0)
        shape = fit_shape(k, smile(k), TAU_YEARS)
        assert shape is not None
        np.testing.assert_array_equal(shape.skew_at(np.array([-9.0, 9.0])), shape.skew_at(k[[0, -1]]))

    def test_too_few_strikes_near_the_money_have_none(self) -> None:
        k = np.array([-2.0, -1.0, -0.05, 0.0, 0.05, 1.0, 2.0])
        assert fit_shape(k, np.full(7, 0.6), TAU_YEARS) is None


class TestStickiness:
    @pytest.mark.parametrize("ratio", [0.0, 1.0, 1.7])
    def test_the_ratio_of_the_world_is_found_within_its_error(self, ratio: float) -> None:
        found = learnt(ratio).stickiness
        assert found.error_ratio < 0.1
        assert abs(found.ratio - ratio) < 3.0 * found.error_ratio

    def test_before_there_is_anything_it_is_sticky_strike_and_unknown(self) -> None:
        assert SmileRecord().stickiness == (1.0, inf)
        assert SmileRecord().used_ratio == 1.0

    def test_what_is_hardly_known_is_hardly_used(self) -> None:
        record = learnt(1.7, noise_vol=0.2, skew=-0.05)
        assert record.stickiness.error_ratio > 0.5
        assert abs(record.used_ratio - 1.0) < abs(record.stickiness.ratio - 1.0)

    def test_old_moments_fade(self) -> None:
        rng, record = np.random.default_rng(3), SmileRecord(window=120)
        for ratio in (0.0, 2.0):
            for _ in range(600):
                record.note([moves(rng, ratio)])
        assert record.stickiness.ratio == pytest.approx(2.0, abs=0.1)


class TestGate:
    def test_sticky_delta_is_used_in_its_world(self) -> None:
        gate = learnt(0.0).gate(DeltaModel.STICKY_DELTA)
        assert gate.is_open
        assert gate.gain_share > 0.1

    def test_minimum_variance_learns_that_world_by_itself(self) -> None:
        record = learnt(0.0)
        gate = record.gate(DeltaModel.MINIMUM_VARIANCE)
        assert gate.is_open
        assert gate.gain_share > 0.6 * record.gate(DeltaModel.STICKY_DELTA).gain_share

    @pytest.mark.parametrize("seed", range(5))
    def test_where_vol_knows_nothing_of_the_price_no_gate_opens(self, seed: int) -> None:
        rng, record = np.random.default_rng(seed), SmileRecord()
        for _ in range(300):
            one = moves(rng, 1.0)
            record.note([one._replace(vol_move=np.full(len(STRIKES), 0.01 * rng.standard_normal()), atm_vol_move=0.0)])
        assert not record.gate(DeltaModel.MINIMUM_VARIANCE).is_open
        assert not record.gate(DeltaModel.STICKY_DELTA).is_open

    def test_nothing_is_used_before_it_was_tested(self) -> None:
        record = learnt(0.0, count=2 * MIN_BATCHES - 1)
        assert not record.gate(DeltaModel.STICKY_DELTA).is_open
        assert record.gate(DeltaModel.STICKY_DELTA).why == f"tested on {MIN_BATCHES - 1} moments of {MIN_BATCHES}"

    def test_it_closes_when_the_world_changes(self) -> None:
        rng, record = np.random.default_rng(3), SmileRecord(window=120)
        states = []
        for ratio in (0.0, 2.0):
            for _ in range(300):
                record.note([moves(rng, ratio)])
            states.append(record.gate(DeltaModel.STICKY_DELTA).is_open)
        assert states == [True, False]

    def test_it_is_the_book_that_must_gain(self) -> None:
        """Where only low strikes move along, a book of low ones gains by sticky delta and one of high ones does not."""
        is_low, found = STRIKES < 100.0, {}
        for name, held in (("low", is_low), ("high", ~is_low), ("nothing", np.zeros(len(STRIKES)))):
            rng, record = np.random.default_rng(2), SmileRecord()
            for _ in range(300):
                one = moves(rng, 0.0, held=held.astype(float))
                still = 0.01 * rng.standard_normal()
                record.note([one._replace(vol_move=np.where(is_low, one.vol_move, still))])
            found[name] = record.gate(DeltaModel.STICKY_DELTA).is_open
        assert (found["low"], found["high"]) == (True, False)

    def test_black_needs_no_evidence(self) -> None:
        assert SmileRecord().gate(DeltaModel.BLACK).is_open


def test_a_record_of_nothing_stays_as_it_was() -> None:
    record = SmileRecord()
    record.note([])
    assert record.moments == 0


def test_the_same_moves_teach_the_same() -> None:
    one, other = learnt(0.4, count=200), learnt(0.4, count=200)
    assert (one.stickiness, one.coefficients) == (other.stickiness, other.coefficients)


def test_no_smile_changes_a_delta_by_more_than_a_correction() -> None:
    assert bounded(np.array([0.2]), np.array([-9.0]))[0] == -MAX_DELTA_RATIO
    assert bounded(np.array([0.2]), np.array([0.1]))[0] == pytest.approx(0.02)


def test_sticky_delta_is_the_scale_invariant_delta() -> None:
    """(C - K dC/dK)/F of the smile is Black's delta less vega times skew over F."""
    k, step = np.log(STRIKES / 100.0), 1e-5

    def value(strike_px: np.ndarray) -> np.ndarray:
        return greeks(100.0, strike_px, TAU_YEARS, smile(np.log(strike_px / 100.0)), True).value

    values = greeks(100.0, STRIKES, TAU_YEARS, smile(k), True)
    along = (value(STRIKES * (1 + step)) - value(STRIKES * (1 - step))) / (2 * step)
    h = SmileRecord().vol_per_log_move(
        DeltaModel.STICKY_DELTA, -0.4 + 1.6 * k, values.delta, np.asarray(TAU_YEARS**0.5)
    )
    np.testing.assert_allclose(
        values.delta + bounded(values.vega / 100.0, h), (values.value - along) / 100.0, atol=1e-8
    )


@pytest.mark.parametrize("field", ["vol_move", "log_move", "skew", "held_base", "atm_vol_move", "atm_skew_move"])
def test_one_move_that_is_no_number_does_not_spoil_the_record(field: str) -> None:
    full = np.ones(3)
    sound = Moves(full, 500.0 * full, 0.01 * full, 0.01 * full, -0.1 * full, 0.5 * full, 0.3, 0.01, -0.001)
    record, clean = SmileRecord(), SmileRecord()
    for moment in range(70):
        clean.note([sound])
        record.note([sound])
        if moment == 30:
            record.note([sound._replace(**{field: float("nan") * np.asarray(getattr(sound, field))})])
    assert record.stickiness == clean.stickiness
    assert record.coefficients == clean.coefficients
