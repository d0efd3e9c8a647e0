"""The daemon: one order of things, whatever the pace, whoever asks, and however it is stopped."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import stat
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.decisions import BotState
from bot.domain.errors import InvariantBroken
from bot.domain.events import OperatorAction, OperatorCommand, SubmitOrder
from bot.domain.orders import OrderIntent, TimeInForce
from bot.domain.results import RunSummary
from bot.domain.risk import TransferCollateral, TransferState
from bot.domain.windows import VaultState
from bot.runtime.configuration.config import load_vaults
from bot.runtime.daemon import Daemon, not_moved, run_all
from bot.runtime.journal import Batch, Commands, Journal, verify
from bot.runtime.live.session import NOT_SENT
from bot.runtime.operators.control import Line, NotRunningError, ask
from bot.runtime.recovery import rebuild
from bot.runtime.session import Session, open_session
from bot.telemetry.logs import keep_secret
from tests.runtime.audit import audit, read_rows, without_timings
from tests.runtime.command_line import PATIENCE_S, POLL_S, CommandLine, wait_for
from tests.runtime.daemons import JOURNAL, SOCKET, running, view, wait_for_orders
from tests.runtime.vault_files import VAULT, write_tiny_recording

HASTY = "tests.runtime.hasty:main"


def status(evenkeel: CommandLine, folder: Path) -> dict[str, object]:
    result = evenkeel.run("status", "busy.yaml", "--json", cwd=folder)
    assert result.code in (0, 3), result.err
    shown: dict[str, object] = result.json
    assert shown["running"] is (result.code == 0)
    return shown


def refused_as_halted(folder: Path) -> int:
    """Return how often a running daemon would have hedged, had it not been halted."""
    return int(view(folder)["refusals"].get("halted", 0))


# The same as replay ---------------------------------------------------------------------------------------------------


def test_unpaced_it_commands_what_a_replay_does(evenkeel: CommandLine, busy: Path) -> None:
    ran = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=busy)
    replayed = evenkeel.run("replay", "busy.yaml", "--json", cwd=busy)
    assert without_timings(ran.json) == without_timings(replayed.json)
    assert ran.json["hedges"] > 50
    audit(busy / "busy.yaml", busy / JOURNAL)


def test_late_it_conflates_and_a_replay_of_its_journal_commands_the_same(evenkeel: CommandLine, busy: Path) -> None:
    unpaced = evenkeel.run("replay", "busy.yaml", "--json", cwd=busy).json
    ran = evenkeel.run("run", "busy.yaml", "--speed", "20000", "--json", cwd=busy)
    replayed = evenkeel.run("replay", "busy.yaml", "--journal", str(JOURNAL), "--json", cwd=busy)
    assert without_timings(replayed.json) == without_timings(ran.json)
    assert ran.json["decisions"] < unpaced["decisions"]
    assert ran.json["events"] < unpaced["events"], "expected quotes to conflate"
    assert ran.json["commands_sha256"] != unpaced["commands_sha256"]
    audit(busy / "busy.yaml", busy / JOURNAL)


def test_paced_it_keeps_time(evenkeel: CommandLine, busy: Path) -> None:
    began_s = time.monotonic()
    result = evenkeel.run("run", "busy.yaml", "--speed", "10000", cwd=busy)
    assert result.code == 0
    assert time.monotonic() - began_s > 1.4, "four hours at 10,000 times the clock are 1.44 s"


@pytest.mark.parametrize("speed", ["nan", "inf", "-1", "1e300"])
def test_an_impossible_speed_is_a_usage_error(evenkeel: CommandLine, busy: Path, speed: str) -> None:
    result = evenkeel.run("run", "busy.yaml", "--speed", speed, cwd=busy)
    assert (result.code, result.out) == (2, "")
    assert "--speed" in result.err
    assert not (busy / JOURNAL.parent).exists()


# Operators -----------------------------------------------------------------------------------------------------------


def test_a_halt_stops_trading_until_a_resume_says_why(evenkeel: CommandLine, lasting: Path) -> None:
    with running(evenkeel, lasting, "--speed", "300") as process:
        wait_for_orders(lasting, 2)
        halted = evenkeel.run("halt", "busy.yaml", "--reason", "exchange [maintenance]", cwd=lasting)
        assert (halted.code, halted.err) == (0, "")
        assert halted.out.startswith("busy: halted ")
        assert "exchange [maintenance]" in halted.out
        sent = view(lasting)["hedges"]
        refused = wait_for(lambda: refused_as_halted(lasting))
        shown = status(evenkeel, lasting)
        assert (shown["state"], shown["hedges"]) == ("halted", sent)
        process.send(signal.SIGKILL)
        process.wait()

    with running(evenkeel, lasting, "--speed", "300") as process:
        wait_for(lambda: refused_as_halted(lasting) > refused)
        shown = status(evenkeel, lasting)
        assert (shown["state"], shown["hedges"]) == ("halted", sent), "a restart ended a halt"
        silent = evenkeel.run("resume", "busy.yaml", cwd=lasting)
        assert silent.code == 2
        assert "--reason" in silent.err
        assert view(lasting)["state"] == "halted"
        resumed = evenkeel.run("resume", "busy.yaml", "--reason", "over", cwd=lasting)
        assert (resumed.code, resumed.out) == (0, "busy: running\n")
        wait_for_orders(lasting, sent + 1)
        process.send(signal.SIGTERM)
        assert process.wait().code == 0

    commands = [event for event in read_rows(lasting / JOURNAL).events if isinstance(event, OperatorCommand)]
    assert [command.action for command in commands] == [OperatorAction.HALT, OperatorAction.RESUME]
    assert [command.reason for command in commands] == ["exchange [maintenance]", "over"]
    assert all(command.issuer for command in commands)
    check_halts(lasting / JOURNAL)


def check_halts(path: Path) -> None:
    """Check in the journal itself that no order was sent between a halt and its resume."""
    is_halted = False
    with Journal.open(path, for_writing=False) as journal:
        for seq, record in journal.records():
            if isinstance(record, Batch):
                actions = [event.action for event in record.events if isinstance(event, OperatorCommand)]
                is_halted = actions[-1] is OperatorAction.HALT if actions else is_halted
            elif isinstance(record, Commands) and is_halted:
                assert not [one for one in record.commands if isinstance(one, SubmitOrder)], f"row {seq}: halted"


def test_a_halt_without_a_daemon_is_obeyed_by_the_next_start(evenkeel: CommandLine, lasting: Path) -> None:
    with running(evenkeel, lasting):
        wait_for_orders(lasting, 2)
    halted = evenkeel.run("halt", "busy.yaml", cwd=lasting)
    assert halted.code == 0
    assert "its next start will obey" in halted.err
    assert halted.out == "busy: halt noted\n"
    assert status(evenkeel, lasting)["state"] == "halted"
    sent = len(read_rows(lasting / JOURNAL).submitted)
    ended = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=lasting)
    assert ended.json["state"] == "halted"
    assert ended.json["refusals"]["halted"] > 0
    assert len(read_rows(lasting / JOURNAL).submitted) == sent
    audit(lasting / "busy.yaml", lasting / JOURNAL)


@pytest.mark.parametrize("speed", [0.0, 5000.0])
async def test_operators_may_interfere_as_often_as_they_like(evenkeel: CommandLine, busy: Path, speed: float) -> None:
    """What a resume sends must reach the venue at the world's time: else a rebuilt venue would fill it elsewhere."""
    asked = 0
    with opened(busy, speed) as (daemon, _):
        run = asyncio.create_task(daemon.run(asyncio.Event()))
        line = Line(busy / "busy.sock")  # of this very process: nobody is too late for a run that hurries
        while asked < 400:
            action = ("halt", "resume")[asked % 2]
            question = {"verb": "operate", "action": action, "issuer": "test", "reason": str(asked)}
            try:
                answer = json.loads(await line.ask(question))
            except NotRunningError:
                if asked:
                    break
                await asyncio.sleep(0)
                continue  # it does not listen yet
            if answer.get("refusal") == "ended":
                break
            assert answer["state"] == {"halt": "halted", "resume": "running"}[action]
            asked += 1
        line.close()
        summary = await run
    assert asked > 10
    commands = [event for event in read_rows(busy / "own.sqlite").events if isinstance(event, OperatorCommand)]
    assert [int(command.reason) for command in commands][:asked] == list(range(asked))
    check_halts(busy / "own.sqlite")
    audit(busy / "busy.yaml", busy / "own.sqlite")
    replayed = evenkeel.run("replay", "busy.yaml", "--journal", "own.sqlite", "--json", cwd=busy)
    assert without_timings(replayed.json) == without_timings(msgspec.to_builtins(summary))


@pytest.fixture
def silent(busy: Path) -> Path:
    """The same folder with a vault whose market says a word and then nothing for an hour."""
    recording = write_tiny_recording(busy / "silent", silence_s=3600.0)
    text = VAULT.replace("vault: eth-straddle", "vault: busy").replace("RECORDING", str(recording))
    (busy / "busy.yaml").write_text(text)
    return busy


async def test_a_resume_in_a_silent_market_is_decided_at_the_present(silent: Path) -> None:
    """At the world's time, not at that of the last quote: a stale market must look stale."""
    async with at_work(silent) as (_, session):
        await asyncio.sleep(0.3)
        question = {"verb": "operate", "action": "resume", "issuer": "test", "reason": "why not"}
        await asked(silent, question)
        (desk,) = session.engine.desks.values()
        assert desk.decided_ns - session.recording.manifest.start_ns > 0.25e9


async def test_in_a_silent_market_what_is_shown_looks_as_old_as_it_is(silent: Path) -> None:
    async with at_work(silent):
        ages_s = []
        for _ in range(2):
            await asyncio.sleep(0.3)
            shown = await asked(silent, {"verb": "view"})
            (age,) = [gate["detail"] for gate in shown["desks"][0]["gates"] if gate["name"] == "index age"]
            ages_s.append(float(age.split()[0]))
    assert ages_s[1] - ages_s[0] >= 0.2


@pytest.mark.parametrize("verb", ["state", "risk"])
async def test_what_has_reached_us_is_decided_upon_before_a_picture_is_taken(busy: Path, verb: str) -> None:
    async with at_work(busy) as (daemon, session):
        pause = {"verb": "operate", "action": "pause", "issuer": "test", "reason": "both at once"}
        paused = asyncio.create_task(daemon._answer(pause))
        decisions = session.engine.decisions
        answer = await daemon._answer({"verb": verb})
        assert session.engine.state is BotState.PAUSED
        assert session.engine.decisions > decisions
        if verb == "state":
            assert isinstance(answer, bytes)
            assert msgspec.json.decode(answer, type=VaultState).state == "paused"
        assert "error" not in await paused


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ({"verb": "dance"}, "expected the verb view, state, risk, suppose, operate, reload, transaction, transfer"),
        ({"verb": "reload"}, "expected a daemon that has a file"),
        ({}, "found None"),
        ({"verb": "suppose", "change": {"instrument_id": 3}}, "expected a change of a position, found"),
        ({"verb": "operate", "action": "sell everything"}, "expected an action of"),
    ],
)
async def test_an_unknown_question_changes_nothing(busy: Path, question: dict[str, str], error: str) -> None:
    async with at_work(busy):
        answer = await asked(busy, question)
        assert error in answer["error"]
    assert not [event for event in read_rows(busy / "own.sqlite").events if isinstance(event, OperatorCommand)]


async def test_a_resume_ordered_before_the_bot_became_stricter_is_of_no_use(busy: Path) -> None:
    """It may have waited at a broker; by now a limit has tripped or a venue contradicted itself, which nobody saw."""
    async with at_work(busy) as (_, session):
        resume = {"verb": "operate", "action": "resume", "issuer": "ann", "reason": "ok", "issued_ns": time.time_ns()}
        for action in ("pause", "halt"):
            await asked(busy, {**resume, "action": action})
            answer = await asked(busy, resume)
            assert re.match(
                r"expected a resume ordered after the bot became stricter, found one \d+\.\d s earlier", answer["error"]
            )
        assert session.engine.state is BotState.HALTED
        answer = await asked(busy, {**resume, "issued_ns": time.time_ns()})
        assert answer["state"] == "running"


async def test_a_reason_with_a_secret_is_journalled_by_nobody(busy: Path) -> None:
    keep_secret("secret-of-dmnz")
    async with at_work(busy) as (_, session):
        question = {"verb": "operate", "action": "pause", "issuer": "ann", "reason": "as secret-of-dmnz says"}
        refused = await asked(busy, question)
        assert refused["refusal"] == "holds_secret"
        assert session.engine.state is not BotState.PAUSED
        halted = await asked(busy, {**question, "action": "halt"})
        assert (halted["state"], halted["reason"]) == ("halted", "ann: as *** says")
    assert b"dmnz" not in (busy / "own.sqlite").read_bytes()


async def test_words_of_another_encoding_end_no_daemon(busy: Path) -> None:
    """As a terminal in latin-1 gives them: `--reason fermé`."""
    async with at_work(busy):
        question = {"verb": "operate", "action": "pause", "issuer": "ren\udce9", "reason": "ferm\udce9"}
        answer = await asked(busy, question)
        assert (answer["state"], answer["reason"]) == ("paused", "ren?: ferm?")
    assert verify(busy / "own.sqlite").is_valid


# Alone, stopped, frozen, broken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [(), ("--journal", "other.sqlite")])
def test_a_second_daemon_of_a_vault_is_refused(evenkeel: CommandLine, lasting: Path, extra: tuple[str, ...]) -> None:
    with running(evenkeel, lasting) as process:
        second = evenkeel.run("run", "busy.yaml", "--speed", "0", *extra, cwd=lasting)
        assert (second.code, second.out) == (1, "")
        assert "another daemon" in second.err or "no other daemon of this vault" in second.err
        assert "hint: stop it first" in second.err
        assert status(evenkeel, lasting)["running"], "the first one must stay within reach"
        assert evenkeel.run("halt", "busy.yaml", cwd=lasting).code == 0
        process.send(signal.SIGTERM)
        assert process.wait().code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_stages(evenkeel: CommandLine, lasting: Path, number: signal.Signals) -> None:
    with running(evenkeel, lasting) as process:
        assert stat.S_IMODE((lasting / SOCKET).stat().st_mode) == 0o600
        wait_for_orders(lasting, 2)
        process.send(number)
        result = process.wait()
    assert result.code == 0, result.err
    assert result.json["hedges"] >= 1  # the last order may just have been on its way
    assert "Traceback" not in result.err
    assert not (lasting / SOCKET).exists()
    assert verify(lasting / JOURNAL).is_valid
    replayed = evenkeel.run("replay", "busy.yaml", "--journal", str(JOURNAL), "--json", cwd=lasting)
    assert without_timings(replayed.json) == without_timings(result.json)
    assert evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=lasting).code == 0
    audit(lasting / "busy.yaml", lasting / JOURNAL)


def test_frozen_it_is_a_timeout_and_a_halt_may_still_be_obeyed(evenkeel: CommandLine, lasting: Path) -> None:
    with running(evenkeel, lasting) as process:
        process.send(signal.SIGSTOP)
        asking = [evenkeel.start(verb, "busy.yaml", cwd=lasting, program=HASTY) for verb in ("status", "halt")]
        for result in [one.wait() for one in asking]:
            assert (result.code, result.out) == (5, "")
            assert "expected an answer from the daemon within 1 s" in result.err
        process.send(signal.SIGCONT)
        wait_for(lambda: view(lasting)["state"] == "halted")
        process.send(signal.SIGTERM)
        assert process.wait().code == 0


def test_several_vaults_run_in_one_process(evenkeel: CommandLine, busy: Path) -> None:
    twin = busy / "twin.yaml"
    twin.write_text((busy / "busy.yaml").read_text().replace("vault: busy", "vault: twin"))
    result = evenkeel.run("run", "busy.yaml", "twin.yaml", "--speed", "0", "--json", cwd=busy)
    assert result.code == 0, result.err
    first, second = result.json
    assert (first["vault"], second["vault"]) == ("busy", "twin")
    assert first["hedges"] == second["hedges"] > 0
    audit(busy / "busy.yaml", busy / JOURNAL)
    audit(twin, busy / ".evenkeel/twin.sqlite")


@contextmanager
def opened(folder: Path, speed: float) -> Iterator[tuple[Daemon, Session]]:
    """A daemon for this very process."""
    (vault,) = load_vaults([folder / "busy.yaml"])
    session = open_session(vault)
    with Journal.open(folder / "own.sqlite", for_writing=True) as journal:
        yield (
            Daemon(session, journal, socket_path=folder / "busy.sock", speed=speed, progress=lambda _: None),
            session,
        )


@asynccontextmanager
async def at_work(folder: Path) -> AsyncIterator[tuple[Daemon, Session]]:
    """A daemon of this very process that keeps the clock's time and answers, ended in order with the block."""
    with opened(folder, speed=1.0) as (daemon, session):
        stop = asyncio.Event()
        run = asyncio.create_task(daemon.run(stop))
        line = Line(folder / "busy.sock")
        async with asyncio.timeout(PATIENCE_S):
            while not run.done():
                with suppress(NotRunningError):
                    await line.ask({"verb": "state"})  # it has recovered when it answers
                    break
                await asyncio.sleep(POLL_S)
        line.close()
        yield daemon, session
        stop.set()
        await run


async def asked(folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    """Ask a daemon of this very process."""
    return await asyncio.to_thread(ask, folder / "busy.sock", question)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_it_leaves_no_task_thread_or_file_behind(busy: Path) -> None:
    threads = threading.active_count()
    with opened(busy, speed=0.0) as (daemon, _):
        (summary,) = await run_all([daemon])
        files = open_files()
    assert summary.hedges > 0
    assert open_files() < files
    assert threading.active_count() <= threads + 1  # the event loop's own for names and files, if anything
    assert not (busy / "busy.sock").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("speed", [0.0, 20_000.0])
async def test_a_broken_invariant_ends_the_daemon_with_the_journal_whole(busy: Path, speed: float) -> None:
    with opened(busy, speed) as (daemon, session):
        first_id = f"{session.engine.settings.run_id}-1"
        session.engine.orders.intend(OrderIntent(first_id, "X", 1, 1, TimeInForce.IOC, False, "taken", 1.0, 1))
        with pytest.raises(ExceptionGroup) as caught:
            await run_all([daemon])
    assert caught.group_contains(InvariantBroken, match="issued twice", depth=2)
    assert not (busy / "busy.sock").exists()
    assert verify(busy / "own.sqlite").is_valid


async def test_stopping_at_once_is_stopping(busy: Path) -> None:
    with opened(busy, speed=1.0) as (daemon, _):
        stop = asyncio.Event()
        stop.set()
        summary = await daemon.run(stop)
    assert summary.hedges == 0
    (vault,) = load_vaults([busy / "busy.yaml"])
    with Journal.open(busy / "own.sqlite", for_writing=False) as journal:
        assert rebuild(open_session(vault), journal).batches <= 1


def test_a_halt_is_on_disk_before_it_is_answered(evenkeel: CommandLine, lasting: Path) -> None:
    with running(evenkeel, lasting) as process:
        assert evenkeel.run("halt", "busy.yaml", cwd=lasting).code == 0
        process.send(signal.SIGKILL)
    assert status(evenkeel, lasting)["state"] == "halted"


def test_a_halt_without_a_daemon_works_whatever_became_of_the_vault_file(evenkeel: CommandLine, lasting: Path) -> None:
    with running(evenkeel, lasting):
        wait_for_orders(lasting, 1)
    text = (lasting / "busy.yaml").read_text()
    (lasting / "busy.yaml").write_text(text + "seed: 99\n")
    assert evenkeel.run("status", "busy.yaml", cwd=lasting).code == 1
    assert evenkeel.run("halt", "busy.yaml", cwd=lasting).code == 0
    (lasting / "busy.yaml").write_text(text)
    assert status(evenkeel, lasting)["state"] == "halted"


def test_a_resume_that_a_limit_overrules_says_so(evenkeel: CommandLine, lasting: Path) -> None:
    text = (lasting / "busy.yaml").read_text()
    # the first hedge costs more than the market can give back
    for old, new in (("daily_loss_quote: 100000", "daily_loss_quote: 1.0e-7"), ("taker_bps: 5", "taker_bps: 500")):
        assert old in text
        text = text.replace(old, new)
    (lasting / "busy.yaml").write_text(text)
    with running(evenkeel, lasting, "--speed", "60"):
        wait_for_orders(lasting, 2)
        wait_for(lambda: view(lasting)["state"] == "reduce_only")
        resumed = evenkeel.run("resume", "busy.yaml", "--reason", "looks fine", cwd=lasting)
    assert (resumed.code, resumed.out.split()[:2]) == (6, ["busy:", "reduce_only"])
    assert "daily_loss" in resumed.out


async def test_one_daemon_that_fails_leaves_the_others_time_to_part() -> None:
    parted = []

    class Failing:
        async def run(self, stop: asyncio.Event) -> RunSummary:
            del stop
            await asyncio.sleep(0)
            raise ValueError("the disk is full")

    class Parting:
        async def run(self, stop: asyncio.Event) -> RunSummary:
            await stop.wait()
            await asyncio.sleep(0.01)
            parted.append("with what rests canceled")
            raise InvariantBroken("no summary here")

    with pytest.raises(ExceptionGroup) as failed:
        await run_all([Failing(), Parting()])
    assert [type(error) for error in failed.value.exceptions] == [ValueError, InvariantBroken]
    assert parted


def test_what_a_halt_keeps_from_being_moved_is_told_as_failed() -> None:
    command = TransferCollateral("a-T1", "USDC", 100.0, "deribit", "okx", "ARB", "margin")
    told = not_moved(command, f"{NOT_SENT}halted", 7)
    assert (told.transfer_id, told.state, told.amount, told.ts_recv_ns) == ("a-T1", TransferState.FAILED, 0.0, 7)
    assert told.reason.startswith(NOT_SENT)
