"""The other end of the broker: keeps up with every vault there, whatever breaks in between, and carries commands.

States are put together again, events put in order and told once each; a reader that was away is told what it missed as
far as the broker keeps it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol, cast

import aiomqtt
import msgspec

from bot.domain.windows import Alert, CommandAnswer, Told, VaultState
from bot.telemetry.mqtt.connection import QUIET, Connect, Connection, RefusedError, heed_cancellation
from bot.telemetry.mqtt.topics import (
    MANNERS,
    STATE_TOPICS,
    Availability,
    OpenAlerts,
    Part,
    RecentEvents,
    Status,
    Topic,
    decode,
    join,
    parse_topic,
    topic_name,
)

MAX_INBOX: Final = 5_000  # messages that wait to be read; when there are more, events among them are caught up with
MAX_VAULTS: Final = 1_000
MAX_HELD: Final = 1_000  # events that wait for an earlier one
GATHER_S: Final = 0.1  # parts of a state that come without the last one are shown after this
LONG: Final = re.compile(rb"\d{20}")  # looked for first: nothing a daemon tells is as long but amounts of a coin
MOST: Final = 2**63 - 1
OF_A_DESK: Final = "_"  # how the name of one begins, in a vault's place
DESK_TOPICS: Final = (Topic.AVAILABILITY, Topic.ALERTS)
READ_TOPICS: Final = (
    *STATE_TOPICS,
    Topic.AVAILABILITY,
    Topic.EVENTS,
    Topic.RECENT,
    Topic.ALERTS,
    Topic.ANSWERS,
)


class Sink(Protocol):
    """Who is told what comes; each returns at once."""

    def take_state(self, state: VaultState) -> None:
        """Take a vault's newest state."""

    def take_told(self, told: Told) -> None:
        """Take the next event of a vault; a number is told once, and a gap in the numbers was missed for good."""

    def take_alerts(self, vault: str, alerts: Sequence[Alert]) -> None:
        """Take all of a vault's open alerts, or of the desk's own, which are of the vault ""."""

    def take_availability(self, vault: str, text: str) -> None:
        """Take what is said of a vault's daemon, or of the desk's windows (""): "online", or why not."""

    def take_connection(self, is_connected: bool) -> None:
        """Take whether the broker can be heard."""


class NotConnected(Exception):
    """The broker cannot be reached now."""


class Order:
    """Puts the events of one vault in order, and each in once."""

    def __init__(self) -> None:
        self._run_id = ""
        self._last: int | None = None  # told; None: where the broker's memory begins is not known yet
        self._held: dict[int, Told] = {}

    def put(self, told: Told) -> list[Told]:
        """Take an event; return what may be told now. One that has others missing before it is held."""
        if told.run_id != self._run_id:
            self._run_id, self._last, self._held = told.run_id, None, {}
        if self._last is not None and told.number <= self._last:
            return []
        self._held[told.number] = told
        if len(self._held) > MAX_HELD:
            self._last = min(self._held) - 1
        return self._ready()

    def put_recent(self, recent: Sequence[Told]) -> list[Told]:
        """Take the newest events that the broker keeps; return what may be told now. What they lack is lost for us."""
        ready: list[Told] = []
        for told in recent:
            ready += self.put(told)
        while recent and self._held and min(self._held) <= recent[-1].number:
            self._last = min(self._held) - 1
            ready += self._ready()
        return ready

    def _ready(self) -> list[Told]:
        ready: list[Told] = []
        while self._last is not None and (told := self._held.pop(self._last + 1, None)) is not None:
            self._last = told.number
            ready.append(told)
        return ready


class Subscriber(Connection):
    """Reads everything that is published below one prefix, and hands it to a sink; of desks only that of `desk`."""

    def __init__(
        self,
        name: str,
        prefix: str,
        connect: Connect,
        sink: Sink,
        vaults: Sequence[str] = ("+",),
        desk: str = "",
    ) -> None:
        super().__init__("broker", reader=name)
        self.unreadable = 0  # messages that did not fit their schema
        self._name = name
        self._prefix = prefix
        self._connect = connect
        self._sink = sink
        self._vaults = vaults
        self._desk = desk
        self._parts: dict[str, dict[Topic, Part]] = {}
        self._orders: dict[str, Order] = {}
        self._unshown: set[str] = set()
        self._answers: dict[str, asyncio.Future[CommandAnswer]] = {}
        self._connected: aiomqtt.Client | None = None

    async def order(self, vault: str, payload: bytes, command_id: str, timeout_s: float) -> CommandAnswer:
        """Send a signed command and return its answer.

        Raises NotConnected if it was not sent, TimeoutError if no answer came: it may have been carried out.
        """
        client = self._connected
        if client is None:
            raise NotConnected("expected a connection to the broker, found none; hint: nothing was sent")
        answer = asyncio.get_running_loop().create_future()
        self._answers[command_id] = answer
        manner = MANNERS[Topic.COMMANDS]
        try:
            async with asyncio.timeout(timeout_s):
                await client.publish(topic_name(self._prefix, vault, Topic.COMMANDS), payload, qos=manner.qos)
                heed_cancellation()  # our time may have been up at the moment when the broker had it
                found: CommandAnswer = await answer
                return found
        except RefusedError as error:
            raise NotConnected(str(error)) from error
        except aiomqtt.MqttError as error:
            raise TimeoutError(f"the connection to the broker ended: {error}") from error
        finally:
            del self._answers[command_id]

    # Reading

    def _client(self) -> aiomqtt.Client:
        return self._connect(self._name, max_queued_incoming_messages=MAX_INBOX, logger=QUIET)

    async def _greet(self, client: aiomqtt.Client) -> None:
        # Every topic by itself: of a topic that came later than this program it wants nothing.
        topics = [
            (topic_name(self._prefix, vault, topic), MANNERS[topic].qos)
            for vault in self._vaults
            for topic in READ_TOPICS
        ]
        if self._desk:
            topics += [(topic_name(self._prefix, self._desk, topic), MANNERS[topic].qos) for topic in DESK_TOPICS]
        codes = await client.subscribe(topics)
        if any(getattr(code, "is_failure", False) for code in codes):
            raise RefusedError("the broker lets us read none or only some of our topics")

    def _opened(self, client: aiomqtt.Client) -> None:
        super()._opened(client)
        self._connected = client
        self._sink.take_connection(is_connected=True)

    def _closed(self) -> None:
        self._connected = None
        self._sink.take_connection(is_connected=False)

    def _works(self, client: aiomqtt.Client) -> Sequence[Coroutine[Any, Any, None]]:
        del client
        return (self._gather(),)

    async def _gather(self) -> None:
        while True:
            await asyncio.sleep(GATHER_S)
            self._show()

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self._take(message.topic.value, message.payload)

    def _take(self, name: str, payload: object) -> None:
        found = parse_topic(self._prefix, name)
        if found is None or not isinstance(payload, bytes | bytearray):
            self.unreadable += 1
            return
        vault, topic = found
        if vault.startswith(OF_A_DESK):
            if vault != self._desk or topic not in DESK_TOPICS:
                return
            vault = ""
        elif vault not in self._parts and len(self._parts) >= MAX_VAULTS:
            return
        try:
            content = decode(topic, bytes(payload))
            _check_vault(vault, content)
            _check_numbers(payload, content)
        except msgspec.DecodeError as error:
            self.unreadable += 1
            self._once.failed("payload", topic=name, error=str(error))
            return
        self._take_content(vault, topic, content)

    def _take_content(self, vault: str, topic: Topic, content: msgspec.Struct) -> None:
        parts = self._parts.setdefault(vault, {})
        match content:
            case Availability(presence=presence, why=why):
                self._sink.take_availability(vault, f"{presence}: {why}" if why else str(presence))
            case OpenAlerts(alerts=alerts):
                self._sink.take_alerts(vault, alerts)
            case Told():
                self._tell(self._order(vault).put(content))
            case RecentEvents(events=events):
                self._tell(self._order(vault).put_recent(events))
            case CommandAnswer(command_id=command_id):
                waiting = self._answers.get(command_id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(content)
            case _:
                parts[topic] = cast("Part", content)
                self._unshown.add(vault)
                if topic is Topic.METERS:  # written last
                    self._show_vault(vault)

    def _order(self, vault: str) -> Order:
        return self._orders.setdefault(vault, Order())

    def _tell(self, ready: Sequence[Told]) -> None:
        for told in ready:
            self._sink.take_told(told)

    def _show(self) -> None:
        for vault in list(self._unshown):
            self._show_vault(vault)

    def _show_vault(self, vault: str) -> None:
        self._unshown.discard(vault)
        state = join(self._parts[vault])
        if state is not None:
            self._sink.take_state(state)


def _check_vault(vault: str, content: msgspec.Struct) -> None:
    """Raise msgspec.DecodeError for what speaks of another vault than its topic: brokers judge writers by topics."""
    match content:
        case RecentEvents(events=told) | OpenAlerts(alerts=told):
            named = {one.vault for one in told}
        case Told(vault=name) | CommandAnswer(vault=name) | Status(vault=name):
            named = {name}
        case _:
            return
    if named - {vault}:
        raise msgspec.DecodeError(f"expected word of {vault} only, found some of {min(named - {vault})[:60]}")


def _check_numbers(payload: bytes | bytearray, content: msgspec.Struct) -> None:
    """Raise msgspec.DecodeError for times and counts that no page could show."""
    if LONG.search(payload) and not _is_small(content):
        raise msgspec.DecodeError("expected whole numbers of 64 bits, found a longer one")


def _is_small(content: object) -> bool:
    """Tell whether no whole number of the schema's own is longer than 64 bits; in free fields any may be."""
    if isinstance(content, int):
        return -MOST <= content <= MOST
    if isinstance(content, tuple):
        return all(map(_is_small, content))
    if isinstance(content, msgspec.Struct):
        return all(_is_small(getattr(content, name)) for name in content.__struct_fields__)
    return True
