"""The desk at a real broker: there or not, its alerts, and what people were told, also while the broker was away."""

from __future__ import annotations

import asyncio
import time

import aiomqtt
import msgspec

from bot.domain.windows import Alert, Severity
from bot.telemetry.mqtt.desk_publisher import MAX_NOTICES, DeskPublisher
from bot.telemetry.mqtt.topics import Availability, Notice, OpenAlerts, Presence, Topic, decode, desk_name, topic_name
from tests.broker import HOST, Mosquitto, mosquitto
from tests.runtime.command_line import PATIENCE_S

DESK = desk_name("evenkeel")
AWAY = Alert("_desk:broker_away", "", Severity.WARNING, "the MQTT broker does not answer", "away", 1, 0, "", 0, 1)


async def next_of(client: aiomqtt.Client, topic: Topic) -> msgspec.Struct:
    """Return the next that is written to a topic of the desk."""
    async with asyncio.timeout(PATIENCE_S):
        async for message in client.messages:
            if message.topic.value == topic_name("evenkeel", DESK, topic):
                assert isinstance(message.payload, bytes)
                return decode(topic, message.payload)
    raise AssertionError


def notice(number: int) -> Notice:
    return Notice("opened", AWAY, "no command arrives", "", number)


async def test_what_is_of_the_desk_is_at_the_broker_and_what_was_said_before_is_made_up_for() -> None:
    alerts = [AWAY]
    with mosquitto() as broker:
        publisher = DeskPublisher("evenkeel", "evenkeel", broker.broker().client, lambda: alerts, time.time_ns)
        for number in range(MAX_NOTICES + 10):
            publisher.note(notice(number))
        async with aiomqtt.Client(HOST, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.subscribe(topic_name("evenkeel", DESK, Topic.NOTICES), qos=1)
            running = asyncio.create_task(publisher.run())
            told = [await next_of(client, Topic.NOTICES) for _ in range(MAX_NOTICES)]
            assert told == [notice(number) for number in range(10, MAX_NOTICES + 10)], "the newest are kept, in order"
            await client.subscribe(topic_name("evenkeel", DESK, Topic.ALERTS), qos=1)
            assert await next_of(client, Topic.ALERTS) == OpenAlerts((AWAY,))
            alerts.clear()
            assert await next_of(client, Topic.ALERTS) == OpenAlerts(())
            publisher.note(notice(7))
            assert await next_of(client, Topic.NOTICES) == notice(7)
            assert (await presence(broker)).presence is Presence.ONLINE
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            left = await presence(broker)
            assert (left.presence, left.why) == (Presence.OFFLINE, "stopped")


async def presence(broker: Mosquitto) -> Availability:
    """Return what the broker keeps of whether the windows are there."""
    ((_, payload),) = await asyncio.to_thread(broker.heard, topic_name("evenkeel", DESK, Topic.AVAILABILITY), 1)
    found = decode(Topic.AVAILABILITY, payload.encode())
    assert isinstance(found, Availability)
    return found
