"""The host of the windows: what a daemon says reaches all of them, and none takes another with it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.windows import Told, VaultState
from bot.runtime.configuration.config import load_vaults
from bot.runtime.meters import DaemonMeters
from bot.runtime.operators import control
from bot.runtime.operators.control import AlreadyRunningError
from bot.runtime.session import open_session
from bot.runtime.window_state import take_state
from bot.runtime.windows.hub import Hub, Watched
from bot.runtime.windows.windows import Windows, follow_journal, watch_daemon
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.test_journal_tail import HEADER, hedge, quiet, write

VAULT = Path(__file__).parents[3] / "config" / "eth-straddle.yaml"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ek-") as name:
        yield Path(name)


@pytest.fixture
def watched(folder: Path) -> Watched:
    (vault,) = load_vaults([VAULT])
    return Watched(vault, VAULT, folder / "vault.sock", folder / "vault.sqlite")


class Wall:
    """A window that remembers what it was shown."""

    def __init__(self, name: str = "wall", *, breaks: bool = False) -> None:
        self.name = name
        self.states: list[VaultState] = []
        self.gone_for: list[str] = []
        self.runs = 0
        self._breaks = breaks
        self.seen = asyncio.Event()

    async def run(self) -> None:
        self.runs += 1
        if self._breaks:
            raise ZeroDivisionError
        await asyncio.Event().wait()

    def show(self, state: VaultState) -> None:
        self.seen.set()
        if self._breaks:
            raise ZeroDivisionError
        self.states.append(state)

    def tell(self, told: Told) -> None:
        raise AssertionError(told)

    def gone(self, vault: str, why: str) -> None:
        assert vault == "eth-straddle"
        self.gone_for.append(why)
        self.seen.set()


async def until(wall: Wall) -> None:
    wall.seen.clear()
    async with asyncio.timeout(PATIENCE_S):
        await wall.seen.wait()


async def test_what_a_daemon_says_reaches_every_window(folder: Path, watched: Watched) -> None:
    session = open_session(watched.vault)
    state = msgspec.to_builtins(take_state(session, {}, DaemonMeters().read(3, 0.0), 7, "a" * 64))
    answers: list[dict[str, Any]] = [state]
    stop, hub = asyncio.Event(), Hub()
    wall, broken = Wall(), Wall("broken", breaks=True)
    host = Windows([watched], [broken, wall], hub, socket_path=folder / ".windows.sock", every_s=0.01)

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        assert question == {"verb": "state"}
        return answers[-1]

    running = asyncio.create_task(host.run(stop))
    await until(wall)
    assert wall.gone_for[-1] == "not running"
    async with control.serve(watched.socket_path, answer):
        while not wall.states:
            await until(wall)
        assert wall.states[-1].meters.journal_seq == 3
        answers.append({"error": "no"})
        while "cannot be read" not in wall.gone_for[-1]:
            await until(wall)
        assert broken.states == []
        assert broken.runs >= 1
        with pytest.raises(AlreadyRunningError):
            await Windows([watched], [], Hub(), socket_path=folder / ".windows.sock", every_s=1.0).run(stop)
    while wall.gone_for[-1] != "not running":
        await until(wall)
    stop.set()
    await running


def test_vaults_take_turns(folder: Path, watched: Watched) -> None:
    host = Windows([watched] * 4, [], Hub(), socket_path=folder / "w.sock", every_s=0.2)
    assert host._turns() == pytest.approx([0.0, 0.05, 0.1, 0.15])


async def test_an_answer_beyond_all_measure_does_not_end_the_watch(
    folder: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_ANSWER_BYTES", 100_000)
    meters = DaemonMeters().read(3, 0.0)
    state: dict[str, Any] = msgspec.to_builtins(take_state(open_session(watched.vault), {}, meters, 7, "a" * 64))
    raved = asyncio.Event()

    async def answer(_question: dict[str, Any]) -> dict[str, Any]:
        if raved.is_set():
            return state
        raved.set()
        return {"said": "x" * 1_000_000}

    wall, stop = Wall(), asyncio.Event()
    windows = Windows([watched], [wall], Hub(), socket_path=folder / "w.sock", every_s=0.02)
    async with control.serve(watched.socket_path, answer):
        run = asyncio.create_task(windows.run(stop))
        await until(wall)
        assert wall.states
        stop.set()
        await run


async def test_a_daemon_whose_socket_cannot_be_asked_is_gone_and_asked_again(folder: Path, watched: Watched) -> None:
    (folder / "file").touch()
    wall = Wall()
    watching = asyncio.create_task(watch_daemon(watched._replace(socket_path=folder / "file" / "s"), [wall], 0.01))
    for _ in range(2):
        await until(wall)
    assert set(wall.gone_for) == {"its socket cannot be asked: Not a directory"}
    watching.cancel()


async def test_windows_answer_at_a_socket_of_their_own(folder: Path, watched: Watched) -> None:
    stop, hub = asyncio.Event(), Hub()

    async def say(question: dict[str, Any]) -> dict[str, Any]:
        return {"said": question["word"]}

    hub.handlers["say"] = say
    wall = Wall()
    host = Windows([watched], [wall], hub, socket_path=folder / ".windows.sock", every_s=0.01)
    running = asyncio.create_task(host.run(stop))
    await until(wall)  # it watches once its socket is there
    line = control.Line(folder / ".windows.sock")
    assert msgspec.json.decode(await line.ask({"verb": "say", "word": "hm"})) == {"said": "hm"}
    assert "found 'sing'" in msgspec.json.decode(await line.ask({"verb": "sing"}))["error"]
    line.close()
    stop.set()
    await running


class Ear(Wall):
    """A window that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__("ear")
        self.heard: list[Told] = []

    def tell(self, told: Told) -> None:
        self.heard.append(told)


async def test_windows_are_told_what_comes_into_a_journal_from_now_on(watched: Watched) -> None:
    write(watched.journal_path, HEADER, quiet(0), *hedge(1))
    ear = Ear()
    following = asyncio.create_task(follow_journal(watched, [Wall("deaf"), ear]))
    await asyncio.sleep(0)  # it has begun, and seen where the journal ends
    write(watched.journal_path, *hedge(2))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if len(ear.heard) >= 3:
                break
            await asyncio.sleep(0.01)
    assert [(told.number, told.order_id) for told in ear.heard] == [(5, "r1-2"), (6, "r1-2"), (7, "r1-2")]
    following.cancel()
    await asyncio.wait([following])
