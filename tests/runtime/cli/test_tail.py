"""`evenkeel tail`: the same events for people and machines, from a journal at rest and from one that grows."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from bot.runtime.journal_tail import JournalTail
from tests.runtime.command_line import CommandLine, Result, wait_for


@pytest.fixture
def ran(busy: Path, evenkeel: CommandLine) -> Path:
    """A vault whose recording has been run to its end."""
    assert evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=busy).code == 0
    return busy


def events(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.out.splitlines()]


def all_of(folder: Path) -> list[int]:
    tail = JournalTail(folder / ".evenkeel" / "busy.sqlite")
    numbers = []
    while True:
        numbers += [told.number for told in tail.read()]
        if not tail.is_behind:
            tail.close()
            return numbers


def test_what_is_asked_for_is_told_and_no_more(ran: Path, evenkeel: CommandLine) -> None:
    numbers = all_of(ran)
    assert len(numbers) > 40
    every = events(evenkeel.run("tail", "busy.yaml", "--since", "0", "--json", cwd=ran))
    assert [one["number"] for one in every] == numbers
    newest = events(evenkeel.run("tail", "busy.yaml", "--json", cwd=ran))
    assert newest == every[-20:]
    assert events(evenkeel.run("tail", "busy.yaml", "--json", "--since", "30", cwd=ran)) == every[30:]
    kinds = ("--kind", "fill", "--kind", "run")
    some = events(evenkeel.run("tail", "busy.yaml", "--json", "--since", "0", *kinds, cwd=ran))
    assert some == [one for one in every if one["kind"] in ("fill", "run")]
    assert {one["kind"] for one in some} == {"fill", "run"}
    lines = evenkeel.run("tail", "busy.yaml", "--since", "0", cwd=ran).out.splitlines()
    assert len(lines) == len(every)
    for line, one in zip(lines, every, strict=True):
        assert line.split()[1:3] == [str(one["number"]), one["kind"]]
        assert one["text"] in line
        assert one["order_id"] in line


def test_a_growing_journal_is_followed_until_ctrl_c(busy: Path, evenkeel: CommandLine) -> None:
    follower = evenkeel.start("tail", "busy.yaml", "--follow", "--json", "--since", "0", cwd=busy)
    assert evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=busy).code == 0
    numbers = all_of(busy)
    wait_for(lambda: follower.out.count("\n") >= len(numbers))
    follower.send(signal.SIGINT)
    ended = follower.wait()
    assert ended.code == 0
    assert [one["number"] for one in events(ended)] == numbers


def test_what_cannot_be_told_is_said(busy: Path, evenkeel: CommandLine) -> None:
    missing = evenkeel.run("tail", "busy.yaml", cwd=busy)
    assert (missing.code, missing.out) == (3, "")
    assert "expected a journal at" in missing.err
    unknown = evenkeel.run("tail", "busy.yaml", "--kind", "wish", cwd=busy)
    assert unknown.code == 2
    assert "expected one of run, decision" in unknown.err
    (busy / ".evenkeel").mkdir()
    (busy / ".evenkeel" / "busy.sqlite").write_text("no journal")
    broken = evenkeel.run("tail", "busy.yaml", cwd=busy)
    assert broken.code == 1
    assert broken.err.startswith("error: ")
