"""Where commands come in from the broker and their answers go out: a connection of its own, made again for ever.

What arrives while we are away waits at the broker, and is judged like any other: done once, or refused as expired. The
session there outlives any command by far, so that it is not the length of our absence that decides which is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

import aiomqtt
import msgspec
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from bot.domain.commands import MAX_LIFE_S
from bot.domain.windows import Told, VaultState
from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.desk import Desk, MqttSection
from bot.runtime.configuration.issuers import load_issuers
from bot.runtime.windows.command_desk import Arrival, CommandDesk, Reply, reply_topic
from bot.runtime.windows.hub import Hub, Watched
from bot.telemetry.commands.verifying import Why
from bot.telemetry.mqtt.connection import Connection, RefusedError, heed_cancellation
from bot.telemetry.mqtt.topics import MANNERS, Topic, topic_name

SESSION_S: Final = 24 * 3600  # for which the broker keeps what comes while we are away; what has expired is refused
MAX_PACKET_BYTES: Final = 64 * 1024  # the broker is asked not to hand us any larger one
MAX_CORRELATION_BYTES: Final = 128
QOS: Final = MANNERS[Topic.COMMANDS].qos  # at least once: a copy is refused by its id
DONT_SEND_RETAINED: Final = 2

log = structlog.get_logger()


def commands_topic(prefix: str, vault: str) -> str:
    """Return where a vault's commands arrive."""
    return topic_name(prefix, vault, Topic.COMMANDS)


def answers_topic(prefix: str, vault: str) -> str:
    """Return where their answers go; senders may ask for topics below it."""
    return topic_name(prefix, vault, Topic.ANSWERS)


class CommandWindow(Connection):
    """Takes commands at the broker. One of the windows."""

    name = "commands"

    def __init__(self, broker: Broker, desk: CommandDesk, watched: Sequence[Watched]) -> None:
        super().__init__("commands", broker=broker.address)
        self.desk = desk
        self._broker = broker
        prefix = broker.section.prefix
        names = [one.vault.vault for one in watched]
        self._vaults = {commands_topic(prefix, name): name for name in names}
        self._answers = {name: answers_topic(prefix, name) for name in names}
        self.is_connected = False

    async def run(self) -> None:
        """Take commands until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.desk.run())
            group.create_task(super().run())

    def show(self, state: VaultState) -> None:
        """Take the newest state of a vault, which answers tell."""
        self.desk.show(state)

    def tell(self, told: Told) -> None:
        """Events are no concern of commands."""

    def gone(self, vault: str, why: str) -> None:
        """Take note that a vault's daemon does not answer."""
        del why
        self.desk.gone(vault)

    async def _greet(self, client: aiomqtt.Client) -> None:
        options = SubscribeOptions(qos=QOS, noLocal=True, retainAsPublished=True, retainHandling=DONT_SEND_RETAINED)
        codes = await client.subscribe([(topic, options) for topic in self._vaults])
        if any(getattr(code, "is_failure", False) for code in codes):
            raise RefusedError("the broker lets us read no commands, or only those of some vaults")

    def _opened(self, client: aiomqtt.Client) -> None:
        super()._opened(client)
        log.info("commands.open", broker=self._broker.address, vaults=list(self._answers))
        self.is_connected = True

    def _closed(self) -> None:
        self.is_connected = False

    def _works(self, client: aiomqtt.Client) -> Sequence[Coroutine[Any, Any, None]]:
        return (self._send(client),)

    def _read(self, message: aiomqtt.Message) -> None:
        """Look at a message as it is read; what comes faster waits at the broker, so that no halt is dropped."""
        try:
            self._take(message)
        except Exception:  # of one message, which must not keep the others from being read
            log.exception("command.failed", vault=self._vaults.get(message.topic.value, ""))

    def _take(self, message: aiomqtt.Message) -> None:
        vault = self._vaults.get(message.topic.value, "")
        asked = getattr(message.properties, "ResponseTopic", "")
        correlation = getattr(message.properties, "CorrelationData", b"")
        known = isinstance(correlation, bytes) and len(correlation) <= MAX_CORRELATION_BYTES
        self.desk.take(
            Arrival(
                vault,
                bytes(message.payload),
                is_retained=bool(message.retain),
                reply_to=reply_topic(asked, self._answers[vault]) if vault else "",
                correlation=correlation if known else b"",
            )
        )

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            reply = await self.desk.next_reply()
            payload = msgspec.json.encode(reply.answer)
            for topic in filter(None, (reply.reply_to, self._answers[reply.answer.vault])):
                try:
                    await client.publish(topic, payload, qos=QOS, properties=_properties(reply))
                except RefusedError as error:  # it was carried out all the same, and others wait to be answered
                    self._once.failed("answers", topic=topic, error=str(error))
            self.desk.sent(reply)
            heed_cancellation()

    def _client(self) -> aiomqtt.Client:
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # not typed there
        connect.SessionExpiryInterval = SESSION_S
        connect.MaximumPacketSize = MAX_PACKET_BYTES
        read = self._read

        class Inbox(asyncio.Queue[aiomqtt.Message]):
            """Holds nothing: the broker takes what was read for had, and it would be lost with the connection."""

            def put_nowait(self, item: aiomqtt.Message) -> None:
                read(item)

        return self._broker.client("commands", clean_start=False, properties=connect, queue_type=Inbox)


def _properties(reply: Reply) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # not typed there
    properties.MessageExpiryInterval = round(MAX_LIFE_S)
    if reply.correlation:
        properties.CorrelationData = reply.correlation
    return properties


def open_commands(
    desk: Desk, mqtt: MqttSection, watched: Sequence[Watched], hub: Hub, environ: Mapping[str, str]
) -> CommandWindow:
    """Return the window that takes commands. Raises ConfigError if the environment lacks what it needs."""
    commands = CommandDesk(watched, load_issuers(desk, environ), hub, environ)
    # a counter that begins with its first refusal shows Prometheus no increase, so that nobody would be told of it
    hub.refused_commands.update(dict.fromkeys(map(str, Why), 0))
    return CommandWindow(Broker(mqtt, environ), commands, watched)
