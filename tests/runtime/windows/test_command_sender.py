"""Sending a command: its own answer is waited for, and what keeps one away is said."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import aiomqtt
import msgspec
import pytest

from bot.domain.commands import SignedCommand
from bot.domain.windows import CommandAnswer
from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.desk import MqttSection
from bot.runtime.windows.command_sender import BrokerError, NoAnswerError, send
from bot.runtime.windows.command_window import answers_topic, commands_topic
from bot.telemetry.commands.signing import sign
from bot.telemetry.commands.verifying import verify
from tests.broker import mosquitto as open_broker
from tests.runtime.command_line import PATIENCE_S
from tests.telemetry.commands.forging import ALICE, ISSUERS, VAULT, order

ROOT = Path(__file__).parents[3]


async def test_a_sender_hears_its_own_answer_and_no_other() -> None:
    body = order()
    with open_broker() as mosquitto:
        broker = Broker(MqttSection(host="127.0.0.1", port=mosquitto.port), {})

        async def answer() -> None:
            async with broker.client("desk") as client:
                await client.subscribe(commands_topic("evenkeel", VAULT), qos=1)
                ready.set()
                message = await anext(aiter(client.messages))
                assert msgspec.json.decode(bytes(message.payload), type=SignedCommand) == sign(body, ALICE)
                topic = message.properties.ResponseTopic  # type: ignore[union-attr]  # paho sets it when it is there
                assert topic.startswith(answers_topic("evenkeel", VAULT) + "/order-")
                for command_id in ("of-another", body.command_id):
                    told = CommandAnswer(command_id, VAULT, "alice", "pause", True, "", "paused", 1)
                    await client.publish(topic, msgspec.json.encode(told), qos=1)

        ready = asyncio.Event()
        task = asyncio.create_task(answer())
        async with asyncio.timeout(PATIENCE_S):
            await ready.wait()
            found = await send(broker, body, ALICE, PATIENCE_S)
            await task
        assert found.command_id == body.command_id
        with pytest.raises(NoAnswerError, match=r"^expected an answer within 0\.1 s, found none; hint: do the windows"):
            await send(broker, body, ALICE, 0.1)
        mosquitto.kill()
        with pytest.raises(BrokerError, match=rf"^expected a broker at 127\.0\.0\.1:{mosquitto.port}, found "):
            await send(broker, body, ALICE, PATIENCE_S)


async def test_the_client_of_the_page_is_understood() -> None:
    """docs/commands.md shows a client; it is run as it stands there."""
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    program = page.partition("```python\n")[2].partition("```")[0]
    vault = "eth-straddle"
    with open_broker() as mosquitto:
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
            await client.subscribe(commands_topic("evenkeel", vault), qos=1)
            environ = {**os.environ, "EVENKEEL_ORDER_KEY": ALICE.text(), "MQTT_PORT": str(mosquitto.port)}
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, env=environ, stdout=asyncio.subprocess.PIPE
            )
            async with asyncio.timeout(PATIENCE_S):
                message = await anext(aiter(client.messages))
                assert isinstance(message.payload, bytes)
                found = verify(message.payload, vault, ISSUERS, time.time_ns(), ())
                assert (found.issuer, found.action, found.reason) == ("alice", "pause", "maintenance")  # type: ignore[union-attr]  # a refusal has none
                told = CommandAnswer(found.command_id, vault, "alice", "pause", True, "", "paused", 1)  # type: ignore[union-attr]  # likewise
                await client.publish(answers_topic("evenkeel", vault), msgspec.json.encode(told), qos=1)
                out, _ = await process.communicate()
    assert json.loads(out)["state"] == "paused"
