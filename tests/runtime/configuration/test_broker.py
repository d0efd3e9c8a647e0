"""The way to the broker: what a desk file says of it is checked before anything connects."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiomqtt
import pytest

from bot.domain.errors import ConfigError
from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.desk import MqttSection
from tests.broker import mosquitto as open_broker


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
