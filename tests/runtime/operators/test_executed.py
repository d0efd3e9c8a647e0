"""Each command once: ids are known as long as one could come again, by both clocks, and no longer."""

from __future__ import annotations

from bot.domain.commands import MAX_LIFE_S
from bot.domain.units import NS_PER_S
from bot.runtime.operators.executed import KEPT_NS, MAX_ID_LENGTH, ExecutedCommands

AGAIN = "command c1 was executed before"


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def test_an_id_is_good_for_one_command() -> None:
    executed = ExecutedCommands()
    assert executed.claim("c1", 0) == ""
    assert executed.claim("c1", 1) == AGAIN
    assert executed.claim("c2", 1) == ""


def test_without_an_id_every_command_is_new() -> None:
    executed = ExecutedCommands()
    assert [executed.claim("", 0) for _ in range(3)] == ["", "", ""]
    assert len(executed) == 0


def test_one_is_forgotten_once_both_clocks_are_past_it() -> None:
    assert KEPT_NS >= 2 * MAX_LIFE_S * NS_PER_S
    clock = Clock()
    executed = ExecutedCommands(clock)
    executed.claim("c1", 0)
    assert executed.claim("c1", 1000 * KEPT_NS) == AGAIN, "a rehearsal rushes through its hours"
    clock.ns = 1000 * KEPT_NS
    assert executed.claim("c1", KEPT_NS) == AGAIN, "a recording stands still"
    assert executed.claim("c2", KEPT_NS + 1) == ""
    assert len(executed) == 1
    assert executed.claim("c1", KEPT_NS + 2) == "", "it has expired long since, whoever sent it"


def test_what_a_journal_holds_counts_from_when_it_was_read() -> None:
    clock = Clock()
    executed = ExecutedCommands(clock)
    executed.learn(["c1", "", "c2"], 5)
    assert len(executed) == 2
    clock.ns = KEPT_NS
    assert executed.claim("c1", 10 * KEPT_NS) == AGAIN


def test_memory_is_bounded_by_what_comes_in_twice_a_life() -> None:
    clock = Clock()
    executed = ExecutedCommands(clock)
    for n in range(10_000):
        clock.ns += KEPT_NS // 100
        assert executed.claim(f"c{n}", clock.ns) == ""
    assert len(executed) <= 102


def test_an_endless_id_is_refused() -> None:
    assert "at most 100 characters" in ExecutedCommands().claim("x" * (MAX_ID_LENGTH + 1), 0)
