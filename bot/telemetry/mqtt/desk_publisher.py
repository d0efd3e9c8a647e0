"""The desk itself at the broker: whether its windows are there, its own open alerts, and everything people were told.

A notice is said once the broker has it; of those that wait for a broker that is away the newest are kept, and nothing
piles up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import aiomqtt

from bot.domain.windows import Alert
from bot.telemetry.mqtt.connection import Connect
from bot.telemetry.mqtt.line import Line
from bot.telemetry.mqtt.topics import Availability, Notice, OpenAlerts, Presence, Topic, desk_name, encode

MAX_NOTICES: Final = 200  # that wait for the broker
POLL_S: Final = 0.2


class DeskPublisher(Line):
    """Writes the topics of the desk that goes by `client_id` at the broker."""

    def __init__(
        self,
        client_id: str,
        prefix: str,
        connect: Connect,
        open_alerts: Callable[[], Sequence[Alert]],
        now_ns: Callable[[], int],
    ) -> None:
        super().__init__(desk_name(client_id), "desk", prefix, connect, now_ns)
        self._open_alerts = open_alerts
        self._notices: deque[Notice] = deque(maxlen=MAX_NOTICES)

    def note(self, notice: Notice) -> None:
        """Take what people were told; returns at once."""
        self._notices.append(notice)

    def _works(self, client: aiomqtt.Client) -> Sequence[Coroutine[Any, Any, None]]:
        return self._write_alerts(client), self._write_notices(client)

    async def _write_alerts(self, client: aiomqtt.Client) -> None:
        """Say that we are there, and write the open alerts when they change."""
        await self._write(client, Availability(Presence.ONLINE, "", self._now_ns()))
        written: tuple[Alert, ...] | None = None
        while True:
            alerts = tuple(self._open_alerts())
            if alerts != written:
                await self._send(client, Topic.ALERTS, encode(OpenAlerts(alerts)))
                written = alerts
            await asyncio.sleep(POLL_S)

    async def _write_notices(self, client: aiomqtt.Client) -> None:
        while True:
            while self._notices:
                notice = self._notices[0]
                await self._send(client, Topic.NOTICES, encode(notice))
                if self._notices and self._notices[0] is notice:  # others may have pushed it out meanwhile
                    self._notices.popleft()
            await asyncio.sleep(POLL_S)
