"""Alive is who answers, ready is who could hedge; everything that stands against it is named."""

from __future__ import annotations

import msgspec
import pytest

from bot.domain.windows import FeedState, GateState
from bot.telemetry.metrics.board import Board
from bot.telemetry.metrics.health import MAX_PROBLEMS, MAX_SILENCE_S, judge_life, judge_readiness
from tests.telemetry.states import STATE, UNDERLYING, state

FRESH = FeedState("ETH index", "index", 0.5, 60.0, is_stale=False)
READY = msgspec.structs.replace(STATE, feeds=(FRESH,))


class Clock:
    def __init__(self) -> None:
        self.s = 50.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(["eth-straddle"], monotonic_s=clock)


def test_a_daemon_lives_as_long_as_it_answered_lately(board: Board, clock: Clock) -> None:
    board.show(READY)
    clock.s += MAX_SILENCE_S
    assert judge_life(board).is_ok
    clock.s += 0.5
    board.gone("eth-straddle", "no answer within 3 s")
    found = judge_life(board)
    assert not found.is_ok
    expected = "expected an answer of the daemon within 10 s, found none for 10.5 s: no answer within 3 s"
    assert found.vaults == {"eth-straddle": (expected,)}


def test_a_daemon_that_starts_is_given_time_and_is_not_ready(board: Board, clock: Clock) -> None:
    assert judge_life(board).is_ok
    assert judge_readiness(board).vaults == {"eth-straddle": ("it has not answered yet",)}
    clock.s += MAX_SILENCE_S + 1.0
    assert not judge_life(board).is_ok
    assert "it has not answered yet" in judge_readiness(board).vaults["eth-straddle"][0]


def test_one_vault_that_does_not_answer_is_enough(clock: Clock) -> None:
    board = Board(["eth-straddle", "btc"], monotonic_s=clock)
    clock.s += MAX_SILENCE_S + 1.0
    board.show(READY)
    found = judge_life(board)
    assert not found.is_ok
    assert [name for name, problems in found.vaults.items() if problems] == ["btc"]


def test_who_does_not_answer_now_is_not_ready_and_lives_a_little_longer(board: Board) -> None:
    board.show(READY)
    board.gone("eth-straddle", "no answer within 3 s")
    assert judge_life(board).is_ok
    assert judge_readiness(board).vaults == {"eth-straddle": ("no answer within 3 s",)}


def test_ready_is_who_runs_on_fresh_feeds(board: Board) -> None:
    board.show(READY)
    assert judge_readiness(board).is_ok


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"state": "halted", "state_reason": "kim: wrong book"}, "state halted: kim: wrong book"),
        ({"state": "reduce_only"}, "state reduce_only"),
        ({"feeds": (FRESH, FeedState("p", "quote", 61.0, 60.0, is_stale=True))}, "feed p: 61.0 s old, limit 60 s"),
        ({"feeds": (FeedState("v", "vol", None, 600.0, is_stale=True),)}, "feed v: nothing received yet, limit 600 s"),
        (
            {
                "underlyings": tuple(
                    msgspec.structs.replace(one, gates=(GateState("accounts known", is_open=False, detail="waiting"),))
                    for one in (UNDERLYING, msgspec.structs.replace(UNDERLYING, underlying="BTC"))
                )
            },
            "accounts known: waiting",
        ),
    ],
)
def test_what_stands_against_it_is_named_once(board: Board, changes: dict[str, object], told: str) -> None:
    board.show(msgspec.structs.replace(READY, **changes))
    assert judge_life(board).is_ok  # it does not hedge, and is well
    assert judge_readiness(board).vaults == {"eth-straddle": (told,)}


def test_a_gate_that_closes_between_two_hedges_is_no_reason(board: Board) -> None:
    board.show(READY)
    assert any(not gate.is_open for gate in READY.underlyings[0].gates)
    assert judge_readiness(board).is_ok


def test_a_long_list_is_cut(board: Board) -> None:
    stale = tuple(FeedState(f"{n}", "vol", None, 1.0, is_stale=True) for n in range(MAX_PROBLEMS + 7))
    board.show(state(feeds=stale))
    problems = judge_readiness(board).vaults["eth-straddle"]
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == "and 7 more"
