"""A signed command over the broker, and what became of it: for whoever orders from the command line.

The key signs here and goes nowhere.
"""

from __future__ import annotations

import asyncio
import secrets

import aiomqtt
import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bot.domain.commands import CommandBody
from bot.domain.errors import EvenkeelError
from bot.domain.windows import CommandAnswer
from bot.runtime.configuration.broker import Broker
from bot.runtime.windows.command_window import QOS, answers_topic, commands_topic
from bot.telemetry.commands.keys import SigningKey
from bot.telemetry.commands.signing import encode, sign


class BrokerError(EvenkeelError):
    """The broker cannot be reached, or says what nobody understands."""


class NoAnswerError(EvenkeelError):
    """Nobody answered a command; it may still be carried out until it expires."""


async def send(broker: Broker, body: CommandBody, key: SigningKey, wait_s: float) -> CommandAnswer:
    """Publish a command and return its answer.

    Raises NoAnswerError if none comes in time, BrokerError if the broker cannot be reached.
    """
    payload = encode(sign(body, key))
    prefix = broker.section.prefix
    name = f"order-{secrets.token_hex(4)}"
    mine = f"{answers_topic(prefix, body.vault)}/{name}"
    try:
        async with broker.client(name) as client:
            await client.subscribe(mine, qos=QOS)
            await client.publish(commands_topic(prefix, body.vault), payload, qos=QOS, properties=_asking(mine, body))
            async with asyncio.timeout(wait_s):
                async for message in client.messages:
                    answer = msgspec.json.decode(bytes(message.payload), type=CommandAnswer)
                    if answer.command_id == body.command_id:
                        return answer
    except TimeoutError:
        pass
    except aiomqtt.MqttError as error:
        raise BrokerError(f"expected a broker at {broker.address}, found {error}; hint: see docs/mqtt.md") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BrokerError(f"expected an answer as documented, found {error}; hint: is it the same version?") from None
    raise NoAnswerError(
        f"expected an answer within {wait_s:g} s, found none; hint: do the windows of {body.vault} run and know "
        f"{body.issuer} by this key? A command that is refused for its signature is not answered"
    )


def _asking(topic: str, body: CommandBody) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # not typed there
    properties.ResponseTopic = topic
    properties.CorrelationData = body.command_id.encode()
    return properties
