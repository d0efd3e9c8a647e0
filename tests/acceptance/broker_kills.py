"""A broker that is killed again and again while a vault replays beside it: what its readers were told afterwards.

The daemon runs as fast as it can from gate to gate: it does not come to its end before the last broker has come to its.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bot.domain.windows import Alert, Told, VaultState
from bot.runtime.journal_tail import JournalTail
from bot.runtime.mailbox import Mailbox
from bot.runtime.operators import control
from bot.telemetry.mqtt.subscriber import Subscriber
from tests.broker import mosquitto
from tests.runtime.command_line import CommandLine, wait_for

UP_S = (0.05, 0.8)  # how long a broker lives with a daemon that runs
AWAY_S = (0.0, 0.4)
GATE_EVERY = 300  # moments of the recording


@dataclass
class Story:
    """What happened, and everything that was not as it must be."""

    kills: int = 0
    events: int = 0
    states: int = 0
    compared: int = 0
    disconnections: int = 0
    wrong: list[str] = field(default_factory=list)


class Reader:
    """All a reader is told."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.states = 0
        self.newest: VaultState | None = None
        self.disconnections = 0
        self.availability = ""
        self.is_connected = False

    def take_state(self, state: VaultState) -> None:
        self.states += 1
        self.newest = state

    def take_told(self, told: Told) -> None:
        self.told.append(told)

    def take_alerts(self, vault: str, alerts: Sequence[Alert]) -> None:
        pass

    def take_availability(self, vault: str, text: str) -> None:
        del vault
        self.availability = text

    def take_connection(self, is_connected: bool) -> None:
        self.is_connected = is_connected
        self.disconnections += not is_connected


class GatedMailbox(Mailbox):
    """A mailbox that lets a feed go on at each gate once the file of that name is there."""

    def __init__(self) -> None:
        super().__init__()
        self._moments = 0

    async def drained(self) -> None:
        """Wait until everything was decided upon, and for the gate if there is one here."""
        await super().drained()
        self._moments += 1
        gate, beyond = divmod(self._moments, GATE_EVERY)
        while not beyond and not (_gate(gate).exists() or _gate(0).exists()):  # noqa: ASYNC110 — of another process
            await asyncio.sleep(0.002)


def run_gated() -> None:
    """Run the command line with such a mailbox; a program for a process of its own."""
    from bot.runtime import daemon
    from bot.runtime.cli import app

    daemon.Mailbox = GatedMailbox  # type: ignore[misc]
    app.main()


def _gate(number: int) -> Path:
    """Return the file of a gate, of all for 0."""
    return Path(f"gate-{number}")


async def kill_brokers(evenkeel: CommandLine, folder: Path, vault_file: str, kills: int, seed: int) -> Story:
    """Replay the vault alone, then beside a broker that is killed up to `kills` times; return what came of it.

    The second run's commands are held against the first one's, what its readers were told against its journal, and the
    state they see against what the daemon itself says.
    """
    chance, story, reader = random.Random(seed), Story(), Reader()
    alone = evenkeel.run("run", vault_file, "--speed", "0", "--json", "--journal", "alone.sqlite", cwd=folder)
    assert alone.code == 0, alone.err
    socket = folder / ".evenkeel" / f"{alone.json['vault']}.sock"
    with mosquitto() as broker:
        (folder / "desk.yaml").write_text(f"mqtt: {json.dumps(broker.mqtt())}\n")
        subscriber = Subscriber("reader", "evenkeel", broker.broker().client, reader)
        reading = asyncio.create_task(subscriber.run())
        journal = ("--journal", "beside.sqlite")
        windows = evenkeel.start("windows", "desk.yaml", vault_file, *journal, cwd=folder)
        processes = [windows]
        try:
            await _until(lambda: reader.availability or windows.is_over)
            gated = "tests.acceptance.broker_kills:run_gated"
            daemon = evenkeel.start("run", vault_file, "--speed", "0", "--json", *journal, cwd=folder, program=gated)
            processes.append(daemon)
            await _until(lambda: reader.newest is not None or windows.is_over or daemon.is_over)
            while story.kills < kills and not daemon.is_over and not windows.is_over:
                broker.kill()
                story.kills += 1
                # who reads is back before who writes: the broker keeps only so much for who is late
                windows.send(signal.SIGSTOP)
                await _until(lambda: not reader.is_connected)
                await asyncio.sleep(chance.uniform(*AWAY_S))
                broker.start()
                await _until(lambda: reader.is_connected)
                windows.send(signal.SIGCONT)
                await _compare_state(reader, socket, story)
                (folder / _gate(story.kills)).touch()
                await asyncio.sleep(chance.uniform(*UP_S))
            (folder / _gate(0)).touch()
            await _until(lambda: daemon.is_over)
            journalled = _told(folder / "beside.sqlite")
            with suppress(AssertionError):  # what is missing is said below
                await _until(lambda: len(reader.told) >= len(journalled))
        finally:
            for process in processes:
                process.send(signal.SIGTERM)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            ended = [await asyncio.to_thread(process.wait) for process in processes]
    story.events, story.states, story.disconnections = len(reader.told), reader.states, reader.disconnections
    story.wrong += [f"expected exit code 0, found {one.code}: {one.err[-500:]}" for one in ended if one.code]
    if not ended[1].code and ended[1].json["commands_sha256"] != alone.json["commands_sha256"]:
        story.wrong.append("expected the commands of the run without a broker, found others")
    story.wrong += _compare_events([msgspec.json.encode(one) for one in reader.told], journalled)
    return story


async def _compare_state(reader: Reader, socket: Path, story: Story) -> None:
    """Hold the state that arrives against two that the daemon itself gives, one before and one after it was taken."""
    try:
        before = await _ask(socket)
        heard = await asyncio.to_thread(_newer, reader, before.taken_ns)
        after = await _ask(socket)
    except (control.NotRunningError, TimeoutError):
        return  # it has failed, which is said elsewhere, or had no turn
    if heard is None:
        story.wrong.append(f"expected a state after kill {story.kills}, found none")
    elif heard.taken_ns <= after.taken_ns:
        story.compared += 1
        pairs = [(one.decisions, one.hedges, one.now_ns) for one in (before, heard, after)]
        if not all(low <= between <= high for low, between, high in zip(*pairs, strict=True)):
            story.wrong.append(f"expected a state between two of the daemon, found {pairs}")


def _newer(reader: Reader, than_ns: int) -> VaultState | None:
    """Return the first state that comes and was taken later, None if the reader has waited long enough."""
    with suppress(AssertionError):
        wait_for(lambda: reader.newest is not None and reader.newest.taken_ns > than_ns)
    newest = reader.newest
    return newest if newest is not None and newest.taken_ns > than_ns else None


async def _ask(socket: Path) -> VaultState:
    answer = await asyncio.to_thread(control.ask, socket, {"verb": "state"})
    return msgspec.convert(answer, VaultState)


def _told(journal: Path) -> list[bytes]:
    tail = JournalTail(journal)
    told = tail.read()
    while tail.is_behind:
        told += tail.read()
    tail.close()
    return [msgspec.json.encode(one) for one in told]


def _compare_events(heard: list[bytes], journalled: list[bytes]) -> list[str]:
    if heard == journalled:
        return []
    first = next((n for n, (one, other) in enumerate(zip(heard, journalled, strict=False)) if one != other), -1)
    return [
        f"expected the {len(journalled)} events of the journal, found {len(heard)}; the first that differs: {first}"
    ]


async def _until(is_so: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_for, is_so)
