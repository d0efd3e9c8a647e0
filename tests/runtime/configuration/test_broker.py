"""The way to the broker: what a desk file says of it is checked before anything connects."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

import aiomqtt
import pytest

from bot.domain.errors import ConfigError
from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.desk import MqttSection
from bot.telemetry.mqtt.connection import RefusedError
from bot.telemetry.mqtt.topics import MANNERS, Topic, topic_name
from tests.broker import mosquitto as open_broker
from tests.runtime.command_line import PATIENCE_S

ROOT = Path(__file__).parents[3]


async def test_a_client_connects_as_the_desk_file_says() -> None:
    with open_broker() as mosquitto:
        section = MqttSection(host="127.0.0.1", port=mosquitto.port, username="u", password_env="P")
        broker = Broker(section, {"P": "hunter2"})
        async with broker.client("test") as client:
            assert client.identifier == "evenkeel-test"
            await client.publish("t", b"x", qos=1)
        assert broker.address == f"127.0.0.1:{mosquitto.port}"
        assert "hunter2" not in repr(vars(broker)["section"])
        mosquitto.kill()
        with pytest.raises(aiomqtt.MqttError):
            async with broker.client("test"):
                pass


async def test_the_access_lists_of_the_page_let_each_do_its_part_and_no_more(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
    (lists,) = re.findall(r"```conf\n# acl: (?:.*)\n([^`]+)```", page)
    (tmp_path / "acl").write_text(lists)
    (tmp_path / "acl").chmod(0o600)
    told = [topic for topic in Topic if MANNERS[topic].qos and topic is not Topic.COMMANDS]
    commands = topic_name("evenkeel", "eth", Topic.COMMANDS)
    with open_broker(config=[f"acl_file {tmp_path / 'acl'}"]) as mosquitto:
        async with (
            mosquitto.broker(username="desk").client("windows") as windows,
            mosquitto.broker(username="dashboard").client("page") as page_of,
            mosquitto.broker(username="alice").client("order") as alice,
        ):
            await windows.subscribe(commands, qos=1)
            await page_of.subscribe("evenkeel/v1/#", qos=1)
            for topic in told:
                await windows.publish(topic_name("evenkeel", "eth", topic), b"said", qos=1)
                with pytest.raises(RefusedError, match="to take what is written, found Not authorized"):
                    await alice.publish(topic_name("evenkeel", "eth", topic), b"forged", qos=1)
            await windows.publish(f"{topic_name('evenkeel', 'eth', Topic.ANSWERS)}/order-1", b"said", qos=1)
            await alice.publish(commands, b"ordered", qos=1)
            await page_of.publish(commands, b"ordered", qos=1)
            async with asyncio.timeout(PATIENCE_S):
                assert [(await anext(aiter(windows.messages))).payload for _ in range(2)] == [b"ordered"] * 2
                heard = [(await anext(aiter(page_of.messages))).payload for _ in range(len(told) + 2)]
            assert heard == [b"said"] * (len(told) + 1) + [b"ordered"]
            assert not windows._refusals and not alice._refusals  # noqa: PT018


async def test_a_socket_that_is_not_the_connection_any_more_is_not_watched() -> None:
    with open_broker() as mosquitto:
        broker = Broker(MqttSection(host="127.0.0.1", port=mosquitto.port), {})
        one, other = socket.socketpair()
        with one, other:
            async with broker.client("test") as client:
                loop = asyncio.get_running_loop()
                ours = client._client.socket()
                assert ours is not None
                client._on_socket_register_write(client._client, None, ours)
                client._on_socket_register_write(client._client, None, one)
                await asyncio.sleep(0)
                assert not loop.remove_writer(one.fileno())
                assert loop.remove_writer(ours.fileno())


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"password_env": "P"}, "expected the broker's password in the environment variable P, found none"),
        ({"tls": {"ca_file": "none.pem"}}, "none.pem: expected a certificate of mqtt.tls, found no file"),
        ({"tls": {"ca_file": "not.pem"}}, "mqtt.tls: expected certificates and keys as files in PEM that belong"),
        ({"tls": {"cert_file": "not.pem"}}, "mqtt.tls: expected cert_file and key_file together"),
    ],
)
def test_what_a_connection_lacks_is_said_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terms: dict[str, object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("not.pem").write_text("not a certificate")
    with pytest.raises(ConfigError) as caught:
        Broker(MqttSection.model_validate(terms), {})
    assert str(caught.value).startswith(said)
