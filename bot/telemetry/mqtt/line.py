"""A connection to the broker that says by its last will whether its owner is there.

What is written over it is the business of whoever derives from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import aiomqtt

from bot.telemetry.mqtt.connection import QUIET, Connect, Connection
from bot.telemetry.mqtt.topics import MANNERS, Availability, Presence, Topic, encode, topic_name

PARTING_S: Final = 1.0


class Line(Connection):
    """The connection of one owner, a vault or a desk, under `name`; it has a will of its own."""

    def __init__(self, owner: str, name: str, prefix: str, connect: Connect, now_ns: Callable[[], int]) -> None:
        super().__init__("broker", vault=owner)
        self.away_ns = 0  # since when the broker is away, wall clock; 0: it is not
        self._owner = owner
        self._name = name
        self._prefix = prefix
        self._connect = connect
        self._now_ns = now_ns

    async def run(self) -> None:
        """Write until cancelled, connecting again for ever; then say good-bye."""
        self.away_ns = self._now_ns()
        await super().run()

    def _client(self) -> aiomqtt.Client:
        # The broker says so when the connection ends without a good-bye, as after kill -9 or a cable pulled.
        will = aiomqtt.Will(
            topic_name(self._prefix, self._owner, Topic.AVAILABILITY),
            encode(Availability(Presence.OFFLINE, "the connection was lost", 0)),
            qos=MANNERS[Topic.AVAILABILITY].qos,
            retain=True,
        )
        return self._connect(self._name, will=will, max_inflight_messages=20, logger=QUIET)

    def _opened(self, client: aiomqtt.Client) -> None:
        """Take no note yet: only what the broker has taken shows that it is there for us."""

    async def _part(self, client: aiomqtt.Client) -> None:
        with suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(PARTING_S):
                await self._write(client, Availability(Presence.OFFLINE, "stopped", self._now_ns()))

    def _closed(self) -> None:
        self.away_ns = self.away_ns or self._now_ns()
        with suppress(OSError):
            self._keep()

    def _keep(self) -> None:
        """Write down what is to outlive this process, after a connection has ended."""

    async def _write(self, client: aiomqtt.Client, availability: Availability) -> None:
        await self._send(client, Topic.AVAILABILITY, encode(availability))

    async def _send(self, client: aiomqtt.Client, topic: Topic, payload: bytes) -> None:
        """Write to a topic; returns when the broker has it or, at quality 0, when it is on its way there."""
        manner = MANNERS[topic]
        name = topic_name(self._prefix, self._owner, topic)
        await client.publish(name, payload, qos=manner.qos, retain=manner.is_retained)
        if manner.qos and self.away_ns:
            self.away_ns = 0
            self._recovered()
