"""Recovery: whenever a run is killed, the next start goes on as if nothing had happened, and nothing happens twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bot.domain.decisions import BotState
from bot.domain.errors import JournalError
from bot.domain.events import Command, Event, QueryOrder, Restarted, SubmitOrder
from bot.domain.orders import Fill, Liquidity, OrderState, OrderTruth
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.runtime.configuration.config import load_vaults
from bot.runtime.daemon import Daemon, run_all
from bot.runtime.journal import Batch, Commands, Journal, Record, verify
from bot.runtime.recovery import rebuild
from bot.runtime.session import open_session
from tests.runtime.audit import audit, read_rows, reopen, without_timings
from tests.runtime.command_line import CommandLine, wait_for

JOURNAL = Path(".evenkeel/busy.sqlite")
ROUND_TRIP_NS = round(1.5 * 700 * NS_PER_MS)  # the vault's entry and response latency with the most jitter


@pytest.mark.parametrize(("speed", "kills", "span_s"), [("0", 6, 0.4), ("20000", 5, 0.7)])
def test_a_run_killed_at_random_moments_goes_on(
    evenkeel: CommandLine, busy: Path, speed: str, kills: int, span_s: float
) -> None:
    luck = random.Random(20230412)
    argv = ("run", "busy.yaml", "--speed", speed, "--json")
    heads: list[int] = []  # where kills found it, a moment once
    survived = 0
    socket = busy / ".evenkeel" / "busy.sock"
    while len(heads) < kills:
        journal = busy / f"{survived}.sqlite"
        socket.unlink(missing_ok=True)  # a killed daemon leaves it
        process = evenkeel.start(*argv, "--journal", str(journal), cwd=busy)
        # from where it begins to recover: how long a start takes before that is the machine's affair
        wait_for(lambda process=process: socket.exists() or process.is_over)  # type: ignore[misc]
        time.sleep(luck.uniform(0.0, span_s))
        process.send(signal.SIGKILL)
        result = process.wait()
        if result.code == -signal.SIGKILL:
            if has_rows(journal):
                report = verify(journal)
                assert report.is_valid
                if report.last_seq in heads:
                    span_s *= 1.5  # killed before it was where it had been: a slow machine gets further this way
                else:
                    heads.append(report.last_seq)
            continue
        check_finished(evenkeel, busy, journal, result.json)
        survived += 1
    result = evenkeel.run(*argv, "--journal", str(journal), cwd=busy)
    assert result.code == 0, result.err
    check_finished(evenkeel, busy, journal, result.json)


def has_rows(journal: Path) -> bool:
    """Tell whether the writer came as far as making its table and its first row."""
    with closing(sqlite3.connect(journal)) as database:
        tables = database.execute("SELECT name FROM sqlite_master").fetchall()
        return bool(tables) and bool(database.execute("SELECT count(*) FROM journal").fetchone()[0])


def check_finished(evenkeel: CommandLine, folder: Path, journal: Path, summary: dict[str, object]) -> None:
    audit(folder / "busy.yaml", journal)
    replayed = evenkeel.run("replay", "busy.yaml", "--json", "--journal", str(journal), cwd=folder)
    assert replayed.code == 0, replayed.err
    assert without_timings(replayed.json) == without_timings(summary)


# Killed at chosen moments --------------------------------------------------------------------------------------------


def run_until_killed() -> None:
    """Run the vault `busy.yaml` here, unpaced, and die at a chosen moment; a program for a process of its own.

    `before N`, `after N`: at the hand-over of the N-th order, before or after the world has it.
    `under-way N`: as a step of the world begins, everything before it on disk and the N-th order still unanswered.
    """
    moment, number = sys.argv[1], int(sys.argv[2])
    (vault,) = load_vaults([Path("busy.yaml")])
    session = open_session(vault)
    world = session.world
    submit, step = world.submit, world.step
    submitted = 0

    def submit_or_die(command: Command, now_ns: int) -> None:
        nonlocal submitted
        submitted += isinstance(command, SubmitOrder)
        if moment == "before" and submitted == number:
            os.kill(os.getpid(), signal.SIGKILL)
        submit(command, now_ns)
        if moment == "after" and submitted == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def step_or_die() -> tuple[int, list[Event]] | None:
        states = [order.state for order in session.engine.orders.live.values()]
        if moment == "under-way" and submitted >= number and states == [OrderState.SENT]:
            journal.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return step()

    world.submit, world.step = submit_or_die, step_or_die
    JOURNAL.parent.mkdir(exist_ok=True)
    with Journal.open(JOURNAL, for_writing=True) as journal:
        daemon = Daemon(session, journal, socket_path=Path("busy.sock"), speed=0, progress=lambda _: None)
        asyncio.run(run_all([daemon]))


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [1, 17])
def test_an_order_that_never_provably_left_is_asked_for_and_hedged_anew_under_a_new_id(
    evenkeel: CommandLine, busy: Path, moment: str, number: int
) -> None:
    kill_at(evenkeel, busy, moment, number)
    last = read_rows(busy / JOURNAL).commands[-1].commands
    (lost,) = [command.intent.order_id for command in last if isinstance(command, SubmitOrder)]
    session = reopen(busy / "busy.yaml", busy / JOURNAL)
    session.engine.apply(Restarted(session.engine.orders.orders[lost].intent.decided_ns))
    assert session.engine.orders.orders[lost].state is OrderState.UNKNOWN
    assert session.engine.state is BotState.RECONCILING

    events, submitted = finish(evenkeel, busy)
    truth = next(event for event in events if isinstance(event, OrderTruth))
    assert (truth.order_id, truth.state, truth.fills) == (lost, OrderState.REJECTED, ())
    restarted = next(event for event in events if isinstance(event, Restarted))
    assert truth.ts_recv_ns - restarted.ts_recv_ns <= ROUND_TRIP_NS
    session = audit(busy / "busy.yaml", busy / JOURNAL)
    assert session.engine.orders.orders[lost].state is OrderState.REJECTED
    assert submitted[:number].count(lost) == 1
    anew = session.engine.orders.orders[submitted[number]].intent
    gone = session.engine.orders.orders[lost].intent
    assert anew.order_id != lost
    assert anew.qty_lots * gone.qty_lots > 0, "the same side is hedged"
    assert anew.decided_ns - restarted.ts_recv_ns < 60 * NS_PER_S


def test_an_order_the_venue_had_is_asked_for_and_found_filled(evenkeel: CommandLine, busy: Path) -> None:
    kill_at(evenkeel, busy, "under-way", 3)
    before = read_rows(busy / JOURNAL)
    under_way = before.submitted[-1]
    assert not isinstance(before.events[-1], Fill)

    events, submitted = finish(evenkeel, busy)
    session = audit(busy / "busy.yaml", busy / JOURNAL)
    order = session.engine.orders.orders[under_way]
    assert order.state is OrderState.FILLED
    assert order.filled_lots == order.intent.qty_lots
    fills = {fill.trade_id for fill in events if isinstance(fill, Fill) and fill.order_id == under_way}
    told = [event for event in events if isinstance(event, OrderTruth) and event.order_id == under_way]
    assert fills == {fill.trade_id for fill in told[0].fills}, "the fill came by itself and again with the truth"
    assert session.engine.hedge_marks[len(before.submitted) - 1].order_id == under_way
    assert submitted.count(under_way) == 1


def kill_at(evenkeel: CommandLine, folder: Path, moment: str, number: int) -> None:
    program = "tests.runtime.test_recovery:run_until_killed"
    result = evenkeel.run(moment, str(number), cwd=folder, program=program)
    assert result.code == -signal.SIGKILL, result.err


def finish(evenkeel: CommandLine, folder: Path) -> tuple[list[object], list[str]]:
    """Run to the end; return the events since the restart and every order ever submitted."""
    rows_before = len(read_rows(folder / JOURNAL).batches)
    result = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=folder)
    assert result.code == 0, result.err
    rows = read_rows(folder / JOURNAL)
    asked = [c for row in rows.commands for c in row.commands if isinstance(c, QueryOrder)]
    assert asked, "expected a question about the order in doubt"
    events: list[object] = [event for batch in rows.batches[rows_before:] for event in batch.events]
    return events, rows.submitted


# Journals that stop, differ or are damaged ---------------------------------------------------------------------------


def test_a_kill_between_a_batch_and_its_commands_is_survived_by_every_later_start(
    evenkeel: CommandLine, busy: Path
) -> None:
    run(evenkeel, busy)

    def cut(records: list[Record]) -> list[Record]:
        commands = [n for n, record in enumerate(records) if isinstance(record, Commands)]
        return records[: commands[20]]

    rewrite(busy / JOURNAL, cut)
    for _ in range(2):
        run(evenkeel, busy)
        audit(busy / "busy.yaml", busy / JOURNAL)
    replayed = evenkeel.run("replay", "busy.yaml", "--json", "--journal", str(JOURNAL), cwd=busy)
    assert replayed.code == 0, replayed.err


def test_a_decision_that_differs_from_the_journal_stops_the_start(evenkeel: CommandLine, busy: Path) -> None:
    run(evenkeel, busy)

    def forge(records: list[Record]) -> list[Record]:
        number = next(n for n, record in enumerate(records) if isinstance(record, Commands))
        records[number] = Commands(records[number].now_ns, ())
        return records

    rewrite(busy / JOURNAL, forge)
    rows = verify(busy / JOURNAL).rows
    result = evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=busy)
    assert result.code == 1
    assert "expected the engine to decide as it did then (0 commands" in result.err
    assert "nothing was sent" in result.err
    assert verify(busy / JOURNAL).rows == rows


def test_a_missing_commands_row_in_the_middle_is_not_taken_for_a_kill(busy: Path, evenkeel: CommandLine) -> None:
    run(evenkeel, busy)

    def drop(records: list[Record]) -> list[Record]:
        number = next(n for n, record in enumerate(records) if isinstance(record, Commands))
        return records[:number] + records[number + 1 :]

    rewrite(busy / JOURNAL, drop)
    (vault,) = load_vaults([busy / "busy.yaml"])
    with (
        Journal.open(busy / JOURNAL, for_writing=False) as journal,
        pytest.raises(JournalError, match="expected the engine to decide as it did then"),
    ):
        rebuild(open_session(vault), journal)


def test_a_venue_that_contradicts_itself_halts_the_vault_and_bricks_nothing(evenkeel: CommandLine, busy: Path) -> None:
    run(evenkeel, busy)

    def overfill(records: list[Record]) -> list[Record]:
        number, fill = next(
            (n, event)
            for n, record in enumerate(records)
            if isinstance(record, Batch)
            for event in record.events
            if isinstance(event, Fill)
        )
        twin = Fill(
            "T-again", fill.order_id, fill.instrument_id, fill.qty_lots, fill.px, 0.0, Liquidity.TAKER,
            fill.ts_event_ns, fill.ts_recv_ns,
        )  # fmt: skip
        batch = records[number]
        assert isinstance(batch, Batch)
        return [*records[:number], Batch(batch.now_ns, (*batch.events, twin))]

    rewrite(busy / JOURNAL, overfill)
    result = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=busy)
    assert result.code == 0
    summary = json.loads(result.out)
    assert (summary["state"], summary["hedges"]) == ("halted", 1)
    why = evenkeel.run("why", "busy.yaml", cwd=busy)
    assert "venue_contradiction: order" in why.out
    assert verify(busy / JOURNAL).is_valid


def test_a_flipped_byte_is_named_and_stops_the_start(evenkeel: CommandLine, busy: Path) -> None:
    run(evenkeel, busy)
    with closing(sqlite3.connect(busy / JOURNAL)) as database, database:
        (payload,) = database.execute("SELECT payload FROM journal WHERE seq = 1234").fetchone()
        flipped = bytearray(payload)
        flipped[len(flipped) // 2] ^= 0x01
        database.execute("UPDATE journal SET payload = ? WHERE seq = 1234", (bytes(flipped),))
    checked = evenkeel.run("journal", "verify", str(JOURNAL), cwd=busy)
    assert (checked.code, checked.out) == (1, "")
    assert "row 1234" in checked.err
    for command in (("run", "--speed", "0"), ("status",), ("report",)):
        result = evenkeel.run(command[0], "busy.yaml", *command[1:], cwd=busy)
        assert (result.code, result.out) == (1, ""), command
        assert "row 1234" in result.err
        assert "evenkeel journal verify" in result.err


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("half_width_base: 0.3", "half_width_base: 0.4", "configuration"),
        ("vault: busy", "vault: other", "vault other, found one of busy"),
    ],
)
def test_a_journal_of_another_run_is_refused(evenkeel: CommandLine, busy: Path, old: str, new: str, what: str) -> None:
    run(evenkeel, busy)
    rows = verify(busy / JOURNAL).rows
    vault = busy / "busy.yaml"
    vault.write_text(vault.read_text().replace(old, new))
    result = evenkeel.run("run", "busy.yaml", "--speed", "0", "--journal", str(JOURNAL), cwd=busy)
    assert (result.code, result.out) == (1, "")
    assert f"expected a journal of {what}" in result.err
    assert "hint:" in result.err
    assert verify(busy / JOURNAL).rows == rows


def run(evenkeel: CommandLine, folder: Path) -> None:
    result = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=folder)
    assert result.code == 0, result.err


def rewrite(path: Path, change: Callable[[list[Record]], list[Record]]) -> None:
    """Put a journal with changed records, chained as if written so, in the place of one."""
    with Journal.open(path, for_writing=False) as journal:
        records = [record for _, record in journal.records()]
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    with Journal.open(path, for_writing=True) as journal:
        for record in change(records):
            journal.append(record)


def test_resuming_with_an_order_in_doubt_is_no_refusal(evenkeel: CommandLine, busy: Path) -> None:
    kill_at(evenkeel, busy, "under-way", 3)
    assert evenkeel.run("halt", "busy.yaml", cwd=busy).code == 0
    resumed = evenkeel.run("resume", "busy.yaml", "--reason", "checked", cwd=busy)
    assert resumed.code == 0, resumed.err
    ended = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=busy)
    assert (ended.code, ended.json["state"]) == (0, "running")
    audit(busy / "busy.yaml", busy / JOURNAL)
