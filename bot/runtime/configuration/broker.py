"""The way to the broker of a desk file: address, name, password and certificates, checked before anything connects."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import MqttSection, TlsSection
from bot.runtime.configuration.desk_file import check_tls, secret_of
from bot.telemetry.mqtt.connection import RefusedError

TIMEOUT_S = 10.0
KEEPALIVE_S = 15


class Broker:
    """Opens connections to one broker."""

    def __init__(self, section: MqttSection, environ: Mapping[str, str]) -> None:
        """Check what a connection needs. Raises ConfigError if a password or a certificate is not to be had."""
        self.section = section
        self._password = None
        if section.password_env is not None:
            self._password = secret_of(environ, section.password_env, "the broker's password")
        self._tls = None if section.tls is None else _context(section.tls)

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return f"{self.section.host}:{self.section.port}"

    def client(self, name: str, **terms: Any) -> aiomqtt.Client:  # noqa: ANN401 — whatever aiomqtt takes
        """Return a client of MQTT 5 under our name and `name`, not connected yet. Only inside a running loop."""
        return _Client(
            self.section.host,
            self.section.port,
            identifier=f"{self.section.client_id}-{name}",
            username=self.section.username,
            password=self._password,
            tls_context=self._tls,
            protocol=aiomqtt.ProtocolVersion.V5,
            timeout=TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            **terms,
        )


class _Client(aiomqtt.Client):
    """The library's client, but for two things.

    It would watch a socket that was closed meanwhile, or another one of its number; and it would take a message that
    the broker refused for one that the broker has.
    """

    def __init__(self, *terms: Any, **named: Any) -> None:  # noqa: ANN401 — as there
        super().__init__(*terms, **named)
        self._refusals: dict[int, ReasonCode] = {}  # of messages that somebody waits for

    def _on_publish(
        self,
        client: paho.Client,
        userdata: Any,  # noqa: ANN401 — as there
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        if reason_code.is_failure and mid in self._pending_publishes:
            self._refusals[mid] = reason_code
        super()._on_publish(client, userdata, mid, reason_code, properties)

    @contextmanager
    def _pending_call(self, mid: int, value: Any, pending_dict: dict[int, Any]) -> Iterator[None]:  # noqa: ANN401 — as there
        try:
            with super()._pending_call(mid, value, pending_dict):
                yield
        finally:
            refusal = self._refusals.pop(mid, None)
        if refusal is not None:
            hint = "hint: may we write there? see the access lists in docs/mqtt.md"
            raise RefusedError(f"expected the broker to take what is written, found {refusal}; {hint}")

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:  # noqa: ANN401 — as there
        del userdata

        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:  # noqa: BLE001 — as the library has it: whatever breaks, the connection is over
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if (found := client.socket()) is not None and found is sock:
                self._loop.add_writer(found.fileno(), write)

        self._loop.call_soon_threadsafe(register)


def _context(tls: TlsSection) -> ssl.SSLContext:
    check_tls(tls, "mqtt.tls")
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (ssl.SSLError, OSError) as error:
        hint = "certificates and keys as files in PEM that belong together"
        raise ConfigError([f"mqtt.tls: expected {hint}, found {error}; hint: see docs/desk.md"]) from None
    return context
