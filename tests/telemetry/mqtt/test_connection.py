"""A connection lasts through whatever happens to the broker, and owes an end to whoever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

import aiomqtt
import pytest
import structlog

from bot.telemetry.mqtt import connection
from bot.telemetry.mqtt.connection import Connection, _end, heed_cancellation
from tests.broker import Mosquitto
from tests.runtime.command_line import PATIENCE_S
from tests.telemetry.mqtt.test_publisher import broker, until

__all__ = ["broker"]  # a fixture


class Diary(Connection):
    """Notes what becomes of it; `work` is what it does over a connection."""

    def __init__(self, to: Mosquitto, work: Callable[[aiomqtt.Client], Coroutine[Any, Any, None]]) -> None:
        super().__init__("diary", of="tests")
        self.notes: list[str] = []
        self._to = to
        self._work = work

    def _client(self) -> aiomqtt.Client:
        return self._to.broker().client("diary")

    async def _greet(self, client: aiomqtt.Client) -> None:
        await client.subscribe("news")
        self.notes.append("greeted")

    def _opened(self, client: aiomqtt.Client) -> None:
        super()._opened(client)
        self.notes.append("opened")

    def _works(self, client: aiomqtt.Client) -> Sequence[Coroutine[Any, Any, None]]:
        return (self._work(client),)

    async def _part(self, client: aiomqtt.Client) -> None:
        await client.publish("news", "good-bye", qos=1)
        self.notes.append("parted")

    def _closed(self) -> None:
        self.notes.append("closed")


async def idle(_client: aiomqtt.Client) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def lasting(diary: Diary) -> AsyncIterator[asyncio.Task[None]]:
    """Keep a connection for the length of the block."""
    running = asyncio.create_task(diary.run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_it_is_made_again_whenever_the_broker_is_back_and_parts_only_in_the_end(broker: Mosquitto) -> None:
    diary, once = Diary(broker, idle), ["greeted", "opened", "closed"]
    async with lasting(diary):
        await until(lambda: diary.notes == once[:2])
        broker.kill()
        await until(lambda: diary.notes[2:] and set(diary.notes[2:]) == {"closed"})  # once for each attempt
        broker.start()
        await until(lambda: diary.notes[-2:] == once[:2])
    assert diary.notes[-2:] == ["parted", "closed"]
    assert diary.notes.count("opened") == 2


async def test_what_breaks_over_it_begins_it_anew_and_a_fault_of_ours_ends_it(broker: Mosquitto) -> None:
    faults: list[Exception] = [aiomqtt.MqttError("no more"), OSError("a cable"), KeyError("ours")]

    async def fail(_client: aiomqtt.Client) -> None:
        raise faults.pop(0)

    diary = Diary(broker, fail)
    async with lasting(diary) as running:
        with pytest.raises(KeyError):
            await running
    assert diary.notes == ["greeted", "opened", "closed"] * 3


class Pauses(tuple[float, ...]):
    """Pauses that note which of them were made."""

    __slots__ = ()
    made: ClassVar[list[int]] = []

    def __getitem__(self, place: Any) -> Any:
        self.made.append(place)
        return super().__getitem__(place)


async def test_two_under_one_name_are_told_so_and_push_each_other_out_ever_more_slowly(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LASTING_S", PATIENCE_S)  # on a machine that stands still all lasts for long
    monkeypatch.setattr(connection, "AGAIN_S", Pauses((0.02, 0.05, 0.1)))
    Pauses.made.clear()
    one, other = Diary(broker, idle), Diary(broker, idle)
    with structlog.testing.capture_logs() as logs:
        async with lasting(one), lasting(other):
            await until(lambda: any("have the same client_id?" in log.get("error", "") for log in logs))
            await until(lambda: {0, 1, 2} <= set(Pauses.made))


async def test_a_cancellation_that_was_kept_back_is_heeded() -> None:
    async def deaf(is_heeding: bool) -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        if is_heeding:
            heed_cancellation()
        return "goes on"

    heed_cancellation()
    for is_heeding in (False, True):
        task = asyncio.create_task(deaf(is_heeding))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() is is_heeding


async def test_what_loses_a_cancellation_is_ended_all_the_same() -> None:
    losses = []

    async def deaf() -> None:
        while len(losses) < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                losses.append(1)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await _end([task])
    assert task.done()
    assert len(losses) == 3
