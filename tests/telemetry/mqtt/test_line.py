"""Whether the owner of a line is there is what the broker says, also where the line was cut without a word."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import aiomqtt

from bot.telemetry.mqtt.line import Line
from bot.telemetry.mqtt.topics import Availability, Presence, Topic
from tests.broker import Mosquitto
from tests.telemetry.mqtt.test_publisher import broker, until, until_heard

__all__ = ["broker"]  # a fixture


class Present(Line):
    """Says that its owner is there, once."""

    def __init__(self, to: Mosquitto) -> None:
        super().__init__("eth", "state-eth", "evenkeel", to.broker().client, time.time_ns)
        self.clients: list[aiomqtt.Client] = []
        self.kept = 0

    def _works(self, client: aiomqtt.Client) -> Sequence[Coroutine[Any, Any, None]]:
        self.clients.append(client)
        return (self._be_there(client),)

    async def _be_there(self, client: aiomqtt.Client) -> None:
        if len(self.clients) == 1:
            await self._write(client, Availability(Presence.ONLINE, "", 1))
        await asyncio.Event().wait()

    def _keep(self) -> None:
        self.kept += 1
        raise OSError("the disk is full")  # of no concern to the line


async def test_a_cut_line_leaves_its_will_and_one_that_is_ended_a_good_bye(broker: Mosquitto) -> None:
    line = Present(broker)
    assert line.away_ns == 0
    running = asyncio.create_task(line.run())
    await until_heard(broker, Topic.AVAILABILITY, lambda found: found.presence is Presence.ONLINE)
    await until(lambda: line.away_ns == 0)  # once the broker has said that it has our word
    line.clients[0]._client.socket().shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]  # as a cable pulled
    cut = await until_heard(broker, Topic.AVAILABILITY, lambda found: found.presence is Presence.OFFLINE)
    assert cut.why == "the connection was lost"
    await until(lambda: len(line.clients) == 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    ended = await until_heard(broker, Topic.AVAILABILITY, lambda found: found.why == "stopped")
    assert ended.presence is Presence.OFFLINE
    assert (line.kept, line.away_ns > 0) == (2, True)
