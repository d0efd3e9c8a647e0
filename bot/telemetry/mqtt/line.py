"""A connection to the broker that says by its last will whether its owner is there, and is made again for ever.

What is written over it is the business of whoever derives from it. Whatever the broker does, nothing piles up here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import aiomqtt
import structlog

from bot.telemetry.logs import OnceLogger
from bot.telemetry.mqtt.topics import MANNERS, Availability, Presence, Topic, encode, topic_name

AGAIN_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # pauses between attempts to connect
PARTING_S: Final = 1.0

QUIET: Final = logging.getLogger("evenkeel.mqtt")  # the library warns of each message that it has no room for
QUIET.setLevel(logging.ERROR)

log = structlog.get_logger()


class RefusedError(aiomqtt.MqttError):
    """The broker is there and does not let us write, or read: its access lists say so, or a limit of its own."""


class Connect(Protocol):
    """Makes clients of the broker, not connected yet, under a name of their own."""

    def __call__(self, name: str, **terms: Any) -> aiomqtt.Client:  # noqa: ANN401 — whatever aiomqtt takes
        """Return a client."""


class Line:
    """The connection of one owner, a vault or a desk, under `name`; it has a will of its own."""

    def __init__(self, owner: str, name: str, prefix: str, connect: Connect, now_ns: Callable[[], int]) -> None:
        self.away_ns = 0  # since when the broker is away, wall clock; 0: it is not
        self._owner = owner
        self._name = name
        self._prefix = prefix
        self._connect = connect
        self._now_ns = now_ns
        self._once = OnceLogger(log)

    async def run(self) -> None:
        """Write until cancelled, connecting again for ever; then say good-bye."""
        failures = 0
        self.away_ns = self._now_ns()
        while True:
            is_connected = False
            try:
                async with self._client() as client:
                    heed_cancellation()
                    is_connected = True
                    await self._converse(client)
            except RefusedError as error:  # it will say the same again
                self._once.failed("broker", vault=self._owner, error=str(error))
            except (aiomqtt.MqttError, OSError) as error:
                failures = 0 if is_connected else failures
                self._once.failed("broker", vault=self._owner, error=str(error))
            finally:
                self.away_ns = self.away_ns or self._now_ns()
                with suppress(OSError):
                    self._part()
            await asyncio.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])
            failures += 1

    def _works(self, client: aiomqtt.Client) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what is written over a connection that has just been made; each goes on as long as it lasts."""
        raise NotImplementedError

    def _part(self) -> None:
        """Write down what is to outlive this process, after a connection has ended."""

    def _client(self) -> aiomqtt.Client:
        # The broker says so when the connection ends without a good-bye, as after kill -9 or a cable pulled.
        will = aiomqtt.Will(
            topic_name(self._prefix, self._owner, Topic.AVAILABILITY),
            encode(Availability(Presence.OFFLINE, "the connection was lost", 0)),
            qos=MANNERS[Topic.AVAILABILITY].qos,
            retain=True,
        )
        return self._connect(self._name, will=will, max_inflight_messages=20, logger=QUIET)

    async def _converse(self, client: aiomqtt.Client) -> None:
        tasks = [asyncio.create_task(work) for work in (*self._works(client), self._listen(client))]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end(tasks)
            with suppress(aiomqtt.MqttError, TimeoutError):
                async with asyncio.timeout(PARTING_S):
                    await self._write(client, Availability(Presence.OFFLINE, "stopped", self._now_ns()))
            raise
        await self._end(tasks)
        for task in ended:
            task.result()

    @staticmethod
    async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
        # Again and again: the library waits by asyncio.wait_for, which before Python 3.12 loses a cancellation that
        # comes at the moment of its answer.
        left = set(tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=0.05)
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    async def _listen(client: aiomqtt.Client) -> None:
        async for _ in client.messages:  # nothing is subscribed to: it ends with the connection, and at once
            pass

    async def _write(self, client: aiomqtt.Client, availability: Availability) -> None:
        await self._send(client, Topic.AVAILABILITY, encode(availability))

    async def _send(self, client: aiomqtt.Client, topic: Topic, payload: bytes) -> None:
        """Write to a topic; returns when the broker has it or, at quality 0, when it is on its way there."""
        manner = MANNERS[topic]
        name = topic_name(self._prefix, self._owner, topic)
        await client.publish(name, payload, qos=manner.qos, retain=manner.is_retained)
        if manner.qos and self.away_ns:  # only what it has taken shows that it is there for us
            self.away_ns = 0
            self._once.recovered("broker", vault=self._owner)


def heed_cancellation() -> None:
    """Raise CancelledError where the task is to end and what it waited for last has kept that to itself."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
