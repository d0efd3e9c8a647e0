"""What the board keeps of each vault: the newest only, and never more than a stranger's words are worth."""

from __future__ import annotations

from bot.domain.units import NS_PER_S
from bot.telemetry.metrics.board import MAX_WORD, MAX_WORDS, OTHER, Board, Tally
from tests.telemetry.states import NOW_NS, state, told


def test_silence_counts_from_the_start_and_from_each_answer() -> None:
    clock = [100.0]
    board = Board(["eth-straddle"], monotonic_s=lambda: clock[0])
    record = board.records["eth-straddle"]
    clock[0] = 104.0
    assert board.silence_s(record) == 4.0
    board.gone("eth-straddle", "not running")
    assert board.silence_s(record) == 4.0
    board.show(state())
    assert (board.silence_s(record), record.is_answering, record.why_gone) == (0.0, True, "")


def test_a_daemon_that_went_leaves_its_last_state() -> None:
    board = Board(["eth-straddle"])
    board.show(state(hedges=7))
    board.gone("eth-straddle", "no answer within 3 s")
    record = board.records["eth-straddle"]
    assert record.state is not None
    assert (record.state.hedges, record.is_answering, record.why_gone) == (7, False, "no answer within 3 s")


def test_a_moment_ahead_of_our_clock_is_now() -> None:
    board = Board([], wall_ns=lambda: NOW_NS)
    assert board.since_s(NOW_NS - 2_500_000_000) == 2.5
    assert board.since_s(NOW_NS + 2_500_000_000) == 0.0


def test_a_clock_that_is_set_makes_no_state_younger_or_older() -> None:
    wall_ns, clock = [NOW_NS], [100.0]
    board = Board([], monotonic_s=lambda: clock[0], wall_ns=lambda: wall_ns[0])
    board.show(state(taken_ns=NOW_NS - 2 * NS_PER_S))
    record = board.records["eth-straddle"]
    assert board.age_s(record) == 2.0
    for jump_s in (-3600, 7200):
        wall_ns[0] += jump_s * NS_PER_S
        assert board.age_s(record) == 2.0
    clock[0] += 30.0
    assert board.age_s(record) == 32.0


def test_words_of_strangers_do_not_pile_up() -> None:
    tally = Tally()
    for number in range(10 * MAX_WORDS):
        tally.count(f"{number}" + "x" * 1_000)
    assert len(tally) == MAX_WORDS + 1
    assert max(map(len, tally)) <= MAX_WORD
    assert tally[OTHER] == 9 * MAX_WORDS
    assert tally.total() == 10 * MAX_WORDS


def test_events_are_counted_by_kind_also_of_vaults_not_named_before() -> None:
    board = Board(["eth-straddle"])
    for number, kind in enumerate(("fill", "fill", "decision"), 1):
        board.tell(told(number, kind))
    board.tell(told(1, "fill", vault="btc"))
    assert board.records["eth-straddle"].told == {"fill": 2, "decision": 1}
    assert board.records["btc"].told == {"fill": 1}
