"""Margin states: thresholds, hysteresis, the pace at which they get worse, and that worse is never allowed more."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.decisions import BotState
from bot.domain.risk import MarginState
from bot.domain.units import NS_PER_S
from bot.risk.margin_states import PERMISSIONS, SEVERITY, STATES, Standing, StateRule, bot_state_of, permit, stand

RULE = StateRule()
NORMAL, WATCH, ACT, CRITICAL, EMERGENCY = STATES

utilisations = st.one_of(st.floats(0.0, 1.5), st.sampled_from([0.55, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.97, inf]))
probabilities = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.005, 0.01, 0.025, 0.05]))


def asked(utilisation: float, probability: float = 0.0, before: Standing | None = None) -> MarginState:
    return stand(before, utilisation, probability, 0).asked


def in_state(state: MarginState, stepped_up_s: int = 1) -> Standing:
    return Standing(state, state, 0, stepped_up_s * NS_PER_S, "")


@pytest.mark.parametrize(
    ("utilisation", "state"),
    [
        (0.0, NORMAL), (0.599, NORMAL), (0.6, WATCH), (0.799, WATCH), (0.8, ACT), (0.9, CRITICAL), (0.97, EMERGENCY),
        (inf, EMERGENCY),
    ],
)  # fmt: skip
def test_utilisation_decides(utilisation: float, state: MarginState) -> None:
    assert asked(utilisation) is state


@pytest.mark.parametrize(("probability", "state"), [(0.01, NORMAL), (0.0101, ACT), (0.05, ACT), (0.0501, CRITICAL)])
def test_the_chance_of_liquidation_decides_where_the_ratio_looks_well(probability: float, state: MarginState) -> None:
    assert asked(0.4, probability) is state


@pytest.mark.parametrize(
    ("state", "utilisation", "after"),
    [
        (WATCH, 0.551, WATCH), (WATCH, 0.549, NORMAL), (ACT, 0.751, ACT), (ACT, 0.749, WATCH),
        (CRITICAL, 0.701, CRITICAL), (CRITICAL, 0.699, WATCH), (EMERGENCY, 0.921, EMERGENCY),
        (EMERGENCY, 0.919, CRITICAL),
    ],
)  # fmt: skip
def test_a_state_is_left_only_when_clear_of_it(state: MarginState, utilisation: float, after: MarginState) -> None:
    found = stand(in_state(state), utilisation, 0.0, 2 * NS_PER_S, RULE)
    assert (found.asked, found.state) == (after, after)


def test_a_probability_is_left_at_half() -> None:
    assert asked(0.4, 0.006, in_state(ACT)) is ACT
    assert asked(0.4, 0.0049, in_state(ACT)) is NORMAL


def test_what_is_sold_gets_worse_by_one_step_per_half_minute_and_what_is_refused_at_once() -> None:
    standing = stand(None, 0.1, 0.0, 0)
    path = []
    for second in range(0, 121, 10):
        standing = stand(standing, 1.2, 1.0, 1_000 * NS_PER_S + second * NS_PER_S)
        path.append(standing.state)
        assert not permit(standing).may_add
        assert permit(standing).may_reduce
    expected = [WATCH] * 3 + [ACT] * 3 + [CRITICAL] * 3 + [EMERGENCY] * 4
    assert path == expected
    assert permit(standing).must_close


def test_at_the_start_the_numbers_decide_at_once() -> None:
    found = stand(None, 0.95, 0.0, 5)
    assert (found.state, found.since_ns, found.stepped_up_ns) == (CRITICAL, 5, 5)


@pytest.mark.parametrize(("utilisation", "probability", "what"), [(nan, 0.0, "utilisation"), (0.2, nan, "chance")])
def test_what_is_not_known_is_no_good_news(utilisation: float, probability: float, what: str) -> None:
    found = stand(None, utilisation, probability, 0)
    assert found.asked is ACT
    assert what in found.reason
    assert "unknown" in found.reason
    assert stand(in_state(CRITICAL), utilisation, probability, 2 * NS_PER_S).state is CRITICAL
    assert stand(None, nan, 0.5, 0).asked is CRITICAL  # what is known still counts


def test_the_bot_only_shrinks_once_an_account_is_critical() -> None:
    assert bot_state_of([]) is BotState.RUNNING
    assert bot_state_of([in_state(ACT), in_state(WATCH)]) is BotState.RUNNING
    assert bot_state_of([in_state(NORMAL), in_state(CRITICAL)]) is BotState.REDUCE_ONLY


@pytest.mark.parametrize(
    "wrong",
    [
        {"act_ratio": 0.5}, {"watch_ratio": nan}, {"act_probability": 0.1}, {"critical_until_ratio": 0.95},
        {"hysteresis_ratio": 0.7}, {"step_up_ns": -1},
    ],
)  # fmt: skip
def test_thresholds_out_of_order_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        msgspec.structs.replace(RULE, **wrong)


@given(st.sampled_from([None, *STATES]), utilisations, utilisations, probabilities, probabilities, st.integers(0, 100))
def test_more_is_never_looser(
    was: MarginState | None, u: float, more_u: float, p: float, more_p: float, second: int
) -> None:
    """From the same standing, at the same moment, worse numbers lead to no better state and allow nothing more."""
    before = in_state(was) if was is not None else None
    (low_u, high_u), (low_p, high_p) = sorted((u, more_u)), sorted((p, more_p))
    low = stand(before, low_u, low_p, second * NS_PER_S)
    high = stand(before, high_u, high_p, second * NS_PER_S)
    assert SEVERITY[low.asked] <= SEVERITY[high.asked]
    assert SEVERITY[low.state] <= SEVERITY[high.state]
    assert SEVERITY[high.state] <= SEVERITY[high.asked]
    few, many = permit(high), permit(low)
    assert few.may_add <= many.may_add
    assert few.may_hedge <= many.may_hedge
    assert few.must_reduce >= many.must_reduce


@given(st.lists(st.tuples(utilisations, utilisations), max_size=12))
def test_a_book_that_was_always_worse_is_never_refused_less(path: list[tuple[float, float]]) -> None:
    """Over whole histories too: hysteresis must not reward having been in trouble."""
    calm = rough = None
    for minute, (u, more_u) in enumerate(path):
        calm = stand(calm, min(u, more_u), 0.0, minute * NS_PER_S)
        rough = stand(rough, max(u, more_u), 0.0, minute * NS_PER_S)
        assert SEVERITY[calm.asked] <= SEVERITY[rough.asked]


def test_every_state_allows_no_more_than_the_one_before() -> None:
    rows = [PERMISSIONS[state] for state in STATES]
    for loose, strict in pairwise(rows):
        assert (strict.may_add, strict.may_hedge, strict.may_withdraw) <= (
            loose.may_add,
            loose.may_hedge,
            loose.may_withdraw,
        )
        assert strict.may_reduce
    assert [row.may_add for row in rows] == [True, True, False, False, False]
