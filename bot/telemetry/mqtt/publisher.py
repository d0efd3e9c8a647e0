"""One vault at the broker: its newest state, every event of its life, its open alerts, and whether it is there.

States make way for newer ones and are never queued; events are fetched when the broker takes them, and noted as told
when it has said so. However long the broker is away, nothing piles up here and no event is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import aiomqtt
import msgspec

from bot.domain.errors import EvenkeelError
from bot.domain.windows import Alert, Told, VaultState
from bot.telemetry.mqtt.connection import Connect
from bot.telemetry.mqtt.line import Line
from bot.telemetry.mqtt.topics import (
    Availability,
    OpenAlerts,
    Part,
    Presence,
    RecentEvents,
    Topic,
    encode,
    split,
)

REFRESH_S: Final = 5.0  # what has not changed is written again after this
POLL_S: Final = 0.2  # how often events and alerts are looked for
EVENTS_AT_A_TIME: Final = 8  # on their way to the broker unanswered
RECENT_EVERY_S: Final = 1.0
FLUSH_EVERY_S: Final = 60.0  # without events: how far the journal was read


class EventSource(Protocol):
    """The events of a vault in order. Its owner remembers across starts which of them the broker has."""

    def following(self, limit: int) -> Sequence[Told]:
        """Return the next events, about `limit` of them; none if there are none yet. Raises EvenkeelError."""

    @property
    def is_behind(self) -> bool:
        """Tell whether looking for more at once is worth it, though there were no events now."""

    def acknowledge(self, told: Told) -> None:
        """Take note that the broker has this event and those before it."""

    def rewind(self) -> None:
        """Go back to what the broker has not acknowledged, and a little further: it may have died with the last."""

    def recent(self) -> Sequence[Told]:
        """Return the newest events that the broker has acknowledged, oldest first."""

    def flush(self) -> None:
        """Write down what is remembered, as far as that has not been done."""


class Publisher(Line):
    """Writes one vault's topics over a connection of its own, since a connection has one last will."""

    def __init__(
        self,
        vault: str,
        prefix: str,
        connect: Connect,
        events: EventSource,
        open_alerts: Callable[[str], Sequence[Alert]],
        now_ns: Callable[[], int],
    ) -> None:
        super().__init__(vault, f"state-{vault}", prefix, connect, now_ns)
        self.vault = vault
        self.superseded = 0  # states that made way for newer ones before they were written
        self._events = events
        self._open_alerts = open_alerts
        self._state: VaultState | None = None
        self._availability = Availability(Presence.OFFLINE, "not heard of yet", now_ns())
        self._news = asyncio.Event()  # of state or availability

    # What is told: returns at once

    def show(self, state: VaultState) -> None:
        """Take the vault's newest state."""
        if self._state is not None and self._news.is_set():
            self.superseded += 1
        self._state = state
        self._be(Presence.ONLINE, "")

    def gone(self, why: str, *, is_frozen: bool) -> None:
        """Take note that the vault's daemon does not answer."""
        self._be(Presence.FROZEN if is_frozen else Presence.OFFLINE, why)

    def _be(self, presence: Presence, why: str) -> None:
        if (presence, why) != (self._availability.presence, self._availability.why):
            self._availability = Availability(presence, why, self._now_ns())
        self._news.set()

    # What is written

    def _works(self, client: aiomqtt.Client) -> Sequence[Coroutine[Any, Any, None]]:
        self._events.rewind()
        return self._write_states(client), self._write_events(client), self._write_alerts(client)

    def _keep(self) -> None:
        self._events.flush()

    async def _write_states(self, client: aiomqtt.Client) -> None:
        """Write what is new of the state; all of it now, and again after a while."""
        written: dict[Topic, tuple[Part, float]] = {}
        available: Availability | None = None
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            if self._availability is not available:
                available = self._availability
                await self._write(client, available)
            state, now_s = self._state, loop.time()
            parts = split(state) if state is not None else {}
            due = [topic for topic, part in parts.items() if _is_due(part, now_s, written.get(topic))]
            if due and Topic.METERS not in due:
                due.append(Topic.METERS)  # always last: readers take it as the end of a state
            for topic in due:
                written[topic] = (parts[topic], now_s)
                await self._send(client, topic, encode(parts[topic]))
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._news.wait()

    async def _write_events(self, client: aiomqtt.Client) -> None:
        """Write events as they come, each again until the broker has it."""
        loop = asyncio.get_running_loop()
        recent_due_s = flush_due_s = loop.time()
        is_recent = False
        while True:
            for_now = self._following()
            for first in range(0, len(for_now), EVENTS_AT_A_TIME):
                few = for_now[first : first + EVENTS_AT_A_TIME]
                sent = [self._send(client, Topic.EVENTS, encode(told)) for told in few]
                for outcome in await asyncio.gather(*sent, return_exceptions=True):
                    if outcome is not None:
                        raise outcome
                self._events.acknowledge(few[-1])
                is_recent = False
            if not is_recent and loop.time() >= recent_due_s:
                recent_due_s = loop.time() + RECENT_EVERY_S
                await self._send(client, Topic.RECENT, encode(RecentEvents(tuple(self._events.recent()))))
                is_recent, flush_due_s = True, loop.time()
            if loop.time() >= flush_due_s:
                flush_due_s = loop.time() + FLUSH_EVERY_S
                self._flush()
            await asyncio.sleep(0 if for_now or self._events.is_behind else POLL_S)

    def _following(self) -> Sequence[Told]:
        try:
            for_now = self._events.following(10 * EVENTS_AT_A_TIME)
        except EvenkeelError as error:
            self._once.failed("journal", vault=self.vault, error=str(error))
            return ()
        self._once.recovered("journal", vault=self.vault)
        return for_now

    def _flush(self) -> None:
        try:
            self._events.flush()
        except OSError as error:
            self._once.failed("cursor", vault=self.vault, error=str(error))
        else:
            self._once.recovered("cursor", vault=self.vault)

    async def _write_alerts(self, client: aiomqtt.Client) -> None:
        """Write the open alerts when they change."""
        written: tuple[Alert, ...] | None = None
        while True:
            alerts = tuple(self._open_alerts(self.vault))
            if alerts != written:
                await self._send(client, Topic.ALERTS, encode(OpenAlerts(alerts)))
                written = alerts
            await asyncio.sleep(POLL_S)


def _is_due(part: Part, now_s: float, written: tuple[Part, float] | None) -> bool:
    if written is None:
        return True
    last, at_s = written
    if part.taken_ns == last.taken_ns:
        return False  # what a daemon said before it fell silent is not made to look new
    return now_s - at_s >= REFRESH_S or msgspec.structs.replace(part, taken_ns=last.taken_ns) != last
