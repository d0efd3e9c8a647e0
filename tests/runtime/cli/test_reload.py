"""`evenkeel reload` on real daemons and their journals: what changes is shown, journalled, and replays for ever."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from bot.domain.events import ConfigChanged, Restarted
from bot.runtime.journal import verify
from tests.runtime.audit import audit, read_rows, without_timings
from tests.runtime.command_line import CommandLine, wait_for
from tests.runtime.test_daemon import JOURNAL, running, status, wait_for_orders


def change(folder: Path, *swaps: tuple[str, str]) -> None:
    """Change lines of the vault file."""
    path = folder / "busy.yaml"
    text = path.read_text()
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def journalled(folder: Path) -> list[ConfigChanged]:
    return [event for event in read_rows(folder / JOURNAL).events if isinstance(event, ConfigChanged)]


WIDER = ("half_width_base: 0.3", "half_width_base: 0.9")
LARGER = ("max_order_quote: 50000", "max_order_quote: 80000")


def test_a_running_vault_goes_by_its_changed_file_and_its_journal_replays_through_it(
    evenkeel: CommandLine, busy: Path
) -> None:
    with running(evenkeel, busy, "--speed", "200") as process:  # alive for a minute
        wait_for_orders(evenkeel, busy, 3)
        change(busy, WIDER, LARGER)
        looked = evenkeel.run("reload", "busy.yaml", "--dry-run", cwd=busy)
        assert looked.code == 0, looked.err
        assert looked.out.splitlines()[-1] == "busy: 2 changes could be taken into force"
        told = evenkeel.run("reload", "busy.yaml", "--reason", "a calmer market", cwd=busy)
        assert (told.code, told.err) == (0, "")
        assert told.out.splitlines() == [
            "limits.max_order_quote: 50000.0 → 80000.0",
            "policy.half_width_base: 0.3 → 0.9",
            "busy: 2 changes in force",
        ]
        view = status(evenkeel, busy)
        again = evenkeel.run("reload", "busy.yaml", cwd=busy)
        assert again.out == "busy: nothing to change: the file says what is in force\n"
        process.send(signal.SIGKILL)
        process.wait()
    (desk,) = view["desks"]  # type: ignore[misc] # JSON
    assert desk["decision"]["high_base"] - desk["decision"]["low_base"] == pytest.approx(1.8)
    (event,) = journalled(busy)
    assert (event.reason, event.changes) == ("a calmer market", tuple(told.out.splitlines()[:2]))
    change(busy, (LARGER[1], "max_order_quote: 120000"))
    stepped = evenkeel.run("reload", "busy.yaml", cwd=busy)
    assert stepped.code == 6, "two steps of less than twice as much are one of more"
    assert "allows 2.4 times as much as 50000.0, its tightest since it was last confirmed" in stepped.err
    change(busy, ("max_order_quote: 120000", LARGER[1]))
    for verb in ("status", "report"):
        shown = evenkeel.run(verb, "busy.yaml", "--json", cwd=busy)
        assert shown.code == (3 if verb == "status" else 0), shown.err
    ended = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=busy)
    assert ended.code == 0, ended.err
    audit(busy / "busy.yaml", busy / JOURNAL)
    replayed = evenkeel.run("replay", "busy.yaml", "--journal", str(JOURNAL), "--json", cwd=busy)
    assert without_timings(replayed.json) == without_timings(ended.json)


def test_what_must_not_be_changed_like_this_changes_nothing(evenkeel: CommandLine, busy: Path) -> None:
    whole = (busy / "busy.yaml").read_text()
    with running(evenkeel, busy, "--speed", "60"):  # alive for minutes, whatever else the machine does
        wait_for_orders(evenkeel, busy, 1)
        change(busy, WIDER, ("max_order_quote: 50000", "max_order_quote: 50000.5.5"))
        broken = evenkeel.run("reload", "busy.yaml", cwd=busy)
        assert (broken.code, broken.out) == (2, "")
        assert re.fullmatch(r"error: busy.yaml:11: expected a number, found '50000.5.5'; hint: .*\n", broken.err)

        (busy / "busy.yaml").write_text(whole)
        change(busy, WIDER, ("qty_base: -100", "qty_base: -90"), ("feed_ms: 50", "feed_ms: 60"))
        fixed = evenkeel.run("reload", "busy.yaml", cwd=busy)
        assert fixed.code == 2
        assert "policy.half_width_base: 0.3 → 0.9\n" in fixed.out
        assert "error: book[0].qty_base: -100.0 → -90.0: cannot change while the vault runs: P&L so far" in fixed.err
        assert "error: latency.feed_ms: 50.0 → 60.0: cannot change" in fixed.err
        assert fixed.err.endswith("busy: nothing was changed\n")

        (busy / "busy.yaml").write_text(whole)
        change(busy, ("max_order_quote: 50000", "max_order_quote: 100001"))
        loose = evenkeel.run("reload", "busy.yaml", cwd=busy)
        assert loose.code == 6
        (code,) = set(re.findall(r"--confirm ([0-9a-f]{8})", loose.err))
        change(busy, ("max_order_quote: 100001", "max_order_quote: 100002"))
        other = evenkeel.run("reload", "busy.yaml", "--confirm", code, cwd=busy)
        assert other.code == 6
        assert f"found the code of another change, '{code}'" in other.err
        assert journalled(busy) == []

        change(busy, ("max_order_quote: 100002", "max_order_quote: 100001"))
        confirmed = evenkeel.run("reload", "busy.yaml", "--confirm", code, "--json", cwd=busy)
        assert confirmed.code == 0, confirmed.err
        assert confirmed.json["is_applied"] is True
        (busy / "other.yaml").write_text(whole)
        foreign = evenkeel.run("reload", "other.yaml", cwd=busy)
        assert foreign.code == 1
        assert "expected the file that was asked about" in foreign.err
    assert [(event.changes, event.confirmed) for event in journalled(busy)] == [
        (("limits.max_order_quote: 50000.0 → 100001.0",), ("limits.max_order_quote",))
    ]


def test_a_file_that_changed_while_nothing_ran_goes_into_the_journal_first(evenkeel: CommandLine, busy: Path) -> None:
    unborn = evenkeel.run("reload", "busy.yaml", cwd=busy)
    assert unborn.code == 3
    with running(evenkeel, busy):
        wait_for_orders(evenkeel, busy, 3)
    rows = verify(busy / JOURNAL).rows
    change(busy, WIDER)
    for argv in (("run", "busy.yaml", "--speed", "0"), ("status", "busy.yaml"), ("report", "busy.yaml")):
        refused = evenkeel.run(*argv, cwd=busy)
        assert refused.code == 1
        assert "`evenkeel reload` takes the changed file into it" in refused.err
    assert verify(busy / JOURNAL).rows == rows
    told = evenkeel.run("reload", "busy.yaml", "--reason", "overnight", cwd=busy)
    assert (told.code, told.err) == (0, "busy is not running; its next start goes on with this\n")
    batch = read_rows(busy / JOURNAL).batches[-1]
    assert [type(event) for event in batch.events] == [Restarted, ConfigChanged]
    before = int(str(status(evenkeel, busy)["hedges"]))
    with running(evenkeel, busy) as process:
        wait_for(lambda: len(read_rows(busy / JOURNAL).submitted) > before)
        process.send(signal.SIGTERM)
        process.wait()
    replayed = evenkeel.run("replay", "busy.yaml", "--journal", str(JOURNAL), "--json", cwd=busy)
    assert replayed.code == 0, replayed.err
    assert replayed.json["decisions"] == len(read_rows(busy / JOURNAL).batches)
