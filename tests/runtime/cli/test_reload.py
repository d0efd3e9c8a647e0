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
from tests.runtime.daemons import JOURNAL, running, wait_for_orders
from tests.runtime.test_daemon import status


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
    evenkeel: CommandLine, lasting: Path
) -> None:
    with running(evenkeel, lasting, "--speed", "200") as process:
        wait_for_orders(lasting, 2)
        change(lasting, WIDER, LARGER)
        looked = evenkeel.run("reload", "busy.yaml", "--dry-run", cwd=lasting)
        assert looked.code == 0, looked.err
        assert looked.out.splitlines()[-1] == "busy: 2 changes could be taken into force"
        told = evenkeel.run("reload", "busy.yaml", "--reason", "a calmer market", cwd=lasting)
        assert (told.code, told.err) == (0, "")
        assert told.out.splitlines() == [
            "limits.max_order_quote: 50000.0 → 80000.0",
            "policy.half_width_base: 0.3 → 0.9",
            "busy: 2 changes in force",
        ]
        view = status(evenkeel, lasting)
        again = evenkeel.run("reload", "busy.yaml", cwd=lasting)
        assert again.out == "busy: nothing to change: the file says what is in force\n"
        process.send(signal.SIGKILL)
        process.wait()
    (desk,) = view["desks"]  # type: ignore[misc] # JSON
    assert desk["decision"]["high_base"] - desk["decision"]["low_base"] == pytest.approx(1.8)
    (event,) = journalled(lasting)
    assert (event.reason, event.changes) == ("a calmer market", tuple(told.out.splitlines()[:2]))
    change(lasting, (LARGER[1], "max_order_quote: 120000"))
    stepped = evenkeel.run("reload", "busy.yaml", cwd=lasting)
    assert stepped.code == 6, "two steps of less than twice as much are one of more"
    assert "allows 2.4 times as much as 50000.0, its tightest since it was last confirmed" in stepped.err
    change(lasting, ("max_order_quote: 120000", LARGER[1]))
    for verb in ("status", "report"):
        shown = evenkeel.run(verb, "busy.yaml", "--json", cwd=lasting)
        assert shown.code == (3 if verb == "status" else 0), shown.err
    ended = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=lasting)
    assert ended.code == 0, ended.err
    audit(lasting / "busy.yaml", lasting / JOURNAL)
    replayed = evenkeel.run("replay", "busy.yaml", "--journal", str(JOURNAL), "--json", cwd=lasting)
    assert without_timings(replayed.json) == without_timings(ended.json)


def test_what_must_not_be_changed_like_this_changes_nothing(evenkeel: CommandLine, lasting: Path) -> None:
    whole = (lasting / "busy.yaml").read_text()
    with running(evenkeel, lasting, "--speed", "60"):
        wait_for_orders(lasting, 1)
        change(lasting, WIDER, ("max_order_quote: 50000", "max_order_quote: 50000.5.5"))
        broken = evenkeel.run("reload", "busy.yaml", cwd=lasting)
        assert (broken.code, broken.out) == (2, "")
        assert re.fullmatch(r"error: busy.yaml:11: expected a number, found '50000.5.5'; hint: .*\n", broken.err)

        (lasting / "busy.yaml").write_text(whole)
        change(lasting, WIDER, ("qty_base: -100", "qty_base: -90"), ("feed_ms: 50", "feed_ms: 60"))
        fixed = evenkeel.run("reload", "busy.yaml", cwd=lasting)
        assert fixed.code == 2
        assert "policy.half_width_base: 0.3 → 0.9\n" in fixed.out
        assert "error: book[0].qty_base: -100.0 → -90.0: cannot change while the vault runs: P&L so far" in fixed.err
        assert "error: latency.feed_ms: 50.0 → 60.0: cannot change" in fixed.err
        assert fixed.err.endswith("busy: nothing was changed\n")

        (lasting / "busy.yaml").write_text(whole)
        change(lasting, ("max_order_quote: 50000", "max_order_quote: 100001"))
        loose = evenkeel.run("reload", "busy.yaml", cwd=lasting)
        assert loose.code == 6
        (code,) = set(re.findall(r"--confirm ([0-9a-f]{8})", loose.err))
        change(lasting, ("max_order_quote: 100001", "max_order_quote: 100002"))
        other = evenkeel.run("reload", "busy.yaml", "--confirm", code, cwd=lasting)
        assert other.code == 6
        assert f"found the code of another change, '{code}'" in other.err
        assert journalled(lasting) == []

        change(lasting, ("max_order_quote: 100002", "max_order_quote: 100001"))
        confirmed = evenkeel.run("reload", "busy.yaml", "--confirm", code, "--json", cwd=lasting)
        assert confirmed.code == 0, confirmed.err
        assert confirmed.json["is_applied"] is True
        (lasting / "other.yaml").write_text(whole)
        foreign = evenkeel.run("reload", "other.yaml", cwd=lasting)
        assert foreign.code == 1
        assert "expected the file that was asked about" in foreign.err
    assert [(event.changes, event.confirmed) for event in journalled(lasting)] == [
        (("limits.max_order_quote: 50000.0 → 100001.0",), ("limits.max_order_quote",))
    ]


def test_a_file_that_changed_while_nothing_ran_goes_into_the_journal_first(
    evenkeel: CommandLine, lasting: Path
) -> None:
    unborn = evenkeel.run("reload", "busy.yaml", cwd=lasting)
    assert unborn.code == 3
    with running(evenkeel, lasting):
        wait_for_orders(lasting, 2)
    rows = verify(lasting / JOURNAL).rows
    change(lasting, WIDER)
    for argv in (("run", "busy.yaml", "--speed", "0"), ("status", "busy.yaml"), ("report", "busy.yaml")):
        refused = evenkeel.run(*argv, cwd=lasting)
        assert refused.code == 1
        assert "`evenkeel reload` takes the changed file into it" in refused.err
    assert verify(lasting / JOURNAL).rows == rows
    told = evenkeel.run("reload", "busy.yaml", "--reason", "overnight", cwd=lasting)
    assert (told.code, told.err) == (0, "busy is not running; its next start goes on with this\n")
    batch = read_rows(lasting / JOURNAL).batches[-1]
    assert [type(event) for event in batch.events] == [Restarted, ConfigChanged]
    before = int(str(status(evenkeel, lasting)["hedges"]))
    with running(evenkeel, lasting) as process:
        wait_for(lambda: len(read_rows(lasting / JOURNAL).submitted) > before)
        process.send(signal.SIGTERM)
        process.wait()
    replayed = evenkeel.run("replay", "busy.yaml", "--journal", str(JOURNAL), "--json", cwd=lasting)
    assert replayed.code == 0, replayed.err
    assert replayed.json["decisions"] == len(read_rows(lasting / JOURNAL).batches)
