"""Fusion against its reference cases, and against sources that are stale, wrong, vague, alone or all different."""

from __future__ import annotations

import json
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.risk.oracle_fusion import Fused, FusionRule, ShortAverage, SourceWord, Verdict, find_fault, fuse

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "oracle_fusion_cases.json").read_text(encoding="utf-8")
)["cases"]
RULE = FusionRule()
NOW_NS = 1_000 * NS_PER_S


def word(
    source: str, px: float, conf: float = 1.0, *, age_s: float = 1.0, max_age_s: float = 60.0, average_px: float = 0.0
) -> SourceWord:
    age_ns, max_age_ns = round(age_s * NS_PER_S), round(max_age_s * NS_PER_S)
    return SourceWord(source, px, conf, 0.01, NOW_NS - age_ns, max_age_ns, average_px)


def fused(*words: SourceWord, rule: FusionRule = RULE) -> Fused:
    return fuse(words, rule, NOW_NS)


def why(result: Fused) -> dict[str, str]:
    return {one.source: one.reason for one in result.dropped}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_the_reference_cases_come_out_as_they_must(case: dict[str, Any]) -> None:
    words = [
        SourceWord(one["name"], one["price"], one["conf"], one["maxconf"], one["t"] * NS_PER_S, one["hb"] * NS_PER_S)
        for one in case["sources"]
    ]
    result = fuse(words, RULE, case["now"] * NS_PER_S)
    expected = case["expected"]
    assert result.verdict.name == expected["status"]
    assert (result.live, list(result.kept)) == (expected["live"], expected["kept"])
    assert (result.px, result.median_px) == (expected["price"], expected["median"])
    assert result.spread_fraction == pytest.approx(expected["spread"], abs=1e-15)


class TestWhatIsDropped:
    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            (word("x", 3000.0, age_s=61), "61 s old, limit 60 s"),
            (word("x", 0.0), "its price 0 ± 1 is not positive"),
            (word("x", -3.0), "its price -3 ± 1 is not positive"),
            (word("x", 3000.0, -1.0), "its price 3000 ± -1 is not positive"),
            (word("x", nan), "its price is not a number"),
            (word("x", inf), "its price is not a number"),
            (word("x", 3000.0, nan), "its price is not a number"),
            (word("x", 3000.0, 45.0), "confidence ±1.50%, limit 1.00%"),
            (word("x", 3000.0, age_s=-3_600), "3600 s ahead of the clock, limit 15 s"),
        ],
    )
    def test_what_cannot_be_used_is_named_and_the_rest_goes_on(self, bad: SourceWord, reason: str) -> None:
        result = fused(word("a", 3000.0), bad, word("b", 3002.0))
        assert find_fault(bad, NOW_NS) == reason
        assert (result.verdict, result.kept, why(result)) == (Verdict.DEGRADED, ("a", "b"), {"x": reason})
        assert result.reason == f"2 of 3 sources within 0.07%; dropped x: {reason}"

    def test_age_is_that_of_each_source(self) -> None:
        slow = word("slow", 3000.0, age_s=3_600, max_age_s=3_660)
        assert fused(slow, word("a", 3000.0)).verdict is Verdict.OK
        assert fused(slow, word("a", 3000.0, age_s=3_600)).verdict is Verdict.HALT

    def test_an_outlier_is_dropped_with_its_numbers(self) -> None:
        result = fused(word("a", 3000.0), word("b", 3001.0), word("off", 2610.0))
        assert (result.verdict, result.px) == (Verdict.DEGRADED, 3001.0)
        assert why(result) == {"off": "-13.00% off the median 3000, allowed 2.00%"}

    def test_a_vague_source_may_be_further_away(self) -> None:
        result = fused(word("a", 3000.0), word("b", 3000.0), word("vague", 3075.0, 30.0))
        assert result.kept == ("a", "b", "vague")
        assert result.verdict is Verdict.REDUCE_ONLY, "kept, but 2.5 % apart"


class TestTooFewSources:
    def test_one_live_source_halts_whatever_it_says(self) -> None:
        result = fused(word("a", 3000.0), word("b", 3000.0, age_s=100))
        assert (result.verdict, result.px, result.live) == (Verdict.HALT, 0.0, 1)
        assert result.reason == "1 live of 2 sources, 2 needed; dropped b: 100 s old, limit 60 s"
        assert fused().reason == "0 live of 0 sources, 2 needed"

    def test_two_that_contradict_each_other_make_no_price(self) -> None:
        result = fused(word("a", 3000.0), word("b", 2610.0))
        assert (result.verdict, result.px, result.kept, result.live) == (Verdict.REDUCE_ONLY, 0.0, (), 2)
        assert result.reason.startswith("0 of 2 live sources near their median 2805, 2 needed; dropped a: +6.95% off")


class TestDivergence:
    @pytest.mark.parametrize(
        ("high_px", "verdict"),
        [(3059.0, Verdict.OK), (3061.0, Verdict.REDUCE_ONLY), (3149.0, Verdict.REDUCE_ONLY), (3151.0, Verdict.HALT)],
    )
    def test_sources_that_are_kept_and_far_apart_stop_the_trading(self, high_px: float, verdict: Verdict) -> None:
        result = fused(word("chain", 3000.0, 29.9), word("index of deribit", high_px, 29.9))
        assert result.verdict is verdict
        assert result.kept == ("chain", "index of deribit")
        if verdict is not Verdict.OK:
            limit = "stop at 5%" if verdict is Verdict.HALT else "limit 2%"
            apart = f"{high_px / 3000.0 - 1.0:.2%} apart"
            assert result.reason == f"chain 3000 and index of deribit {high_px:g} are {apart}, {limit}"


class TestJumps:
    def test_a_jump_that_no_second_source_shows_reduces_only(self) -> None:
        result = fused(word("a", 3390.0, average_px=3000.0), word("b", 3000.0, average_px=3000.0))
        assert (result.verdict, result.px) == (Verdict.REDUCE_ONLY, 0.0)
        told = "jumped +13.0% from its own average 3000 and awaits a second source"
        assert why(result) == {"a": told}
        assert result.reason.startswith(f"a {told}")

    def test_two_that_do_not_jump_outvote_it(self) -> None:
        jumped = word("a", 3390.0, average_px=3000.0)
        result = fused(jumped, word("b", 3000.0, average_px=3000.0), word("c", 3001.0))
        assert (result.verdict, result.kept, result.px) == (Verdict.DEGRADED, ("b", "c"), 3001.0)
        assert "awaits a second source" in why(result)["a"]

    def test_two_that_jump_together_are_believed(self) -> None:
        words = [word(name, 3390.0, average_px=3000.0) for name in "ab"]
        assert fused(*words).verdict is Verdict.OK
        late = word("late", 3000.0, average_px=3000.0)
        result = fused(*words, late)
        assert (result.verdict, result.kept) == (Verdict.DEGRADED, ("a", "b"))

    def test_those_that_jump_to_different_places_do_not_move_the_median(self) -> None:
        jumped = [word("a", 3400.0, average_px=3000.0), word("b", 3600.0, average_px=3000.0)]
        result = fused(*jumped, word("c", 3000.0), word("d", 3003.0))
        assert (result.kept, result.median_px) == (("c", "d"), 3001.5)

    def test_the_average_follows_within_minutes(self) -> None:
        average = ShortAverage(5 * NS_PER_MIN)
        assert average.at(NOW_NS) == 0.0
        average.note(100.0, NOW_NS)
        average.note(120.0, NOW_NS + 1)
        assert average.at(NOW_NS + 1) == pytest.approx(100.0)
        assert average.at(NOW_NS + 5 * NS_PER_MIN) == pytest.approx(120.0 - 20.0 * 0.36788, abs=1e-3)
        before = average.at(NOW_NS + 5 * NS_PER_MIN)
        assert average.at(NOW_NS) == before, "time does not run backwards"

    def test_a_short_spike_hardly_moves_the_average(self) -> None:
        average = ShortAverage(5 * NS_PER_MIN)
        average.note(100.0, NOW_NS)
        average.note(200.0, NOW_NS + NS_PER_MIN)
        average.note(100.0, NOW_NS + NS_PER_MIN + NS_PER_S)
        assert average.at(NOW_NS + 2 * NS_PER_MIN) < 100.4


def test_what_we_own_and_owe_is_marked_against_us() -> None:
    result = fused(word("chainlink", 3000.0, 15.0), word("pyth", 3004.0, 2.0), word("index", 3003.0, 1.0))
    assert (result.px, result.confidence_px) == (3003.0, 3.0), "as wide as the kept sources are apart"
    assert (result.asset_px, result.debt_px) == (3000.0, 3006.0)
    vague = fused(word("a", 3000.0, 20.0), word("b", 3000.0, 25.0))
    assert (vague.asset_px, vague.debt_px) == (2975.0, 3025.0)


WORDS = st.lists(
    st.builds(
        word,
        st.just(""),
        st.sampled_from([3000.0, 3010.0, 2990.0, 3065.0, 2610.0, 3400.0, 0.0, nan]),
        st.sampled_from([0.0, 1.0, 15.0, 29.0, 60.0]),
        age_s=st.sampled_from([0.0, 30.0, 61.0]),
        average_px=st.sampled_from([0.0, 3000.0, 3400.0]),
    ),
    max_size=6,
).map(lambda words: [_named(one, f"s{n}") for n, one in enumerate(words)])


def _named(one: SourceWord, name: str) -> SourceWord:
    return SourceWord(
        name, one.px, one.confidence_px, one.max_confidence_fraction, one.ts_event_ns, one.max_age_ns, one.average_px
    )


@given(words=WORDS)
def test_no_price_without_two_that_agree_and_everything_is_accounted_for(words: list[SourceWord]) -> None:
    result = fused(*words)
    named = sorted([*result.kept, *(one.source for one in result.dropped)])
    assert result.px > 0.0 or not result.kept
    if result.px:
        assert len(result.kept) >= 2
        assert named == [one.source for one in words]
        prices = [one.px for one in words if one.source in result.kept]
        assert min(prices) <= result.px <= max(prices)
        assert result.asset_px <= min(prices) <= max(prices) <= result.debt_px
        assert max(prices) / min(prices) - 1.0 == result.spread_fraction
    else:
        assert result.verdict in (Verdict.REDUCE_ONLY, Verdict.HALT)
    assert (result.verdict is Verdict.OK) <= (not result.dropped)
    if result.live < 2:
        assert result.verdict is Verdict.HALT


@given(words=WORDS, order=st.randoms(use_true_random=False))
def test_the_order_of_the_sources_does_not_matter(words: list[SourceWord], order: Any) -> None:
    shuffled = list(words)
    order.shuffle(shuffled)
    one, other = fused(*words), fused(*shuffled)
    assert (one.verdict, one.px, one.confidence_px, set(one.kept)) == (
        other.verdict,
        other.px,
        other.confidence_px,
        set(other.kept),
    )
