"""`evenkeel dashboard`: pages for people, in a process that reads the broker and journals and orders by MQTT alone."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bot.domain.errors import ConfigError
from bot.runtime.cli.windows import watch, yield_to_trading
from bot.runtime.configuration.desk import DashboardSection, Desk, MqttSection
from bot.runtime.configuration.desk_file import load_desk
from bot.runtime.windows.hub import Watched

GRACE_S = 2  # for answers under way when it stops
MAX_CONNECTIONS = 300
BACKLOG = 100


def dashboard(
    desk_file: Annotated[Path, typer.Argument(metavar="DESK.yaml", help="Desk file")],
    vault_files: Annotated[list[Path], typer.Argument(metavar="VAULT.yaml…", help="Vault files")],
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Journal file of the only vault; default: its own")
    ] = None,
) -> None:
    """Serve the dashboard of these vaults. It asks the broker, never a daemon's engine; orders go by signed command."""
    yield_to_trading()
    desk = load_desk(desk_file)
    section, mqtt = _sections(desk, desk_file)
    serving = Serving(desk, section, mqtt, watch(vault_files, journal), os.environ)
    asyncio.run(serving.run())


def password() -> None:
    """Print the hash of a password, for a desk file. Asks for it, or reads one line of standard input."""
    from bot.telemetry.dashboard.passwords import hash_password  # noqa: PLC0415 — other commands need no argon2

    if sys.stdin.isatty():
        given = getpass.getpass("Password: ")
        if getpass.getpass("Once more: ") != given:
            raise ConfigError(["expected the same password twice, found two; hint: try again"])
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    try:
        typer.echo(hash_password(given))
    except ValueError as error:
        raise ConfigError([f"password: {error}"]) from None


def _sections(desk: Desk, desk_file: Path) -> tuple[DashboardSection, MqttSection]:
    if desk.dashboard is None:
        raise ConfigError([f"{desk_file}: expected a section dashboard, found none; hint: see docs/desk.md"])
    if desk.mqtt is None:
        hint = "the dashboard shows what the broker says"
        raise ConfigError([f"{desk_file}: expected a section mqtt, found none; hint: {hint}"])
    return desk.dashboard, desk.mqtt


class Serving:
    """A dashboard and its reader of the broker, from start to end. Raises ConfigError for what is wrong beforehand."""

    def __init__(
        self,
        desk: Desk,
        section: DashboardSection,
        mqtt: MqttSection,
        watched: list[Watched],
        environ: Mapping[str, str],
    ) -> None:
        # what only this command needs; what is wrong is found before the second that the rest takes to load
        from bot.runtime.configuration.broker import Broker  # noqa: PLC0415
        from bot.runtime.dashboard.actions import BrokerActions, open_signer  # noqa: PLC0415
        from bot.runtime.dashboard.config import dashboard_config, stale_after_s  # noqa: PLC0415

        names = [one.vault.vault for one in watched]
        config = dashboard_config(section, names)
        signer, broker = open_signer(desk, environ), Broker(mqtt, environ)

        from bot.runtime.dashboard.sources import DashboardSources  # noqa: PLC0415
        from bot.telemetry.dashboard.app import build_dashboard  # noqa: PLC0415
        from bot.telemetry.dashboard.mirror import Mirror  # noqa: PLC0415
        from bot.telemetry.mqtt.subscriber import Subscriber  # noqa: PLC0415
        from bot.telemetry.mqtt.topics import desk_name  # noqa: PLC0415

        mirror = Mirror(names, time.time_ns, stale_after_s(mqtt))
        self._section = section
        self._sources = DashboardSources(watched)
        # two dashboards at one broker are two clients
        name, desk_is = f"dashboard-{secrets.token_hex(4)}", desk_name(mqtt.client_id)
        self._reader = Subscriber(name, mqtt.prefix, broker.client, mirror, names, desk_is)
        actions = BrokerActions(self._reader.order, signer, time.time_ns)
        self._dashboard = build_dashboard(config, mirror, actions, self._sources)

    async def run(self) -> None:
        """Serve until told to stop. Raises OSError if the address cannot be had."""
        import uvicorn  # noqa: PLC0415 — as above

        from bot.runtime.daemon import stopping  # noqa: PLC0415
        from bot.runtime.dashboard.http import MAX_OF_ONE, BriefProtocol, DressedSocket  # noqa: PLC0415
        from bot.telemetry.dashboard.gate import plain_headers  # noqa: PLC0415

        ours = plain_headers(is_secure=self._section.tls is not None or self._section.trusted_proxy is not None)

        class Protocol(BriefProtocol):
            """All come from the proxy where there is one; it is the proxy's to count them."""

            max_of_one = MAX_OF_ONE if self._section.trusted_proxy is None else None
            dress = ours

        class Socket(DressedSocket):
            """Refuses with our headers."""

            dress = ours

        class Server(uvicorn.Server):
            """A server that leaves signals to us: being told to stop is no failure."""

            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each request that is none
        tls = self._section.tls
        config = uvicorn.Config(
            self._dashboard.app,
            http=Protocol,
            ws=Socket,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # the gate believes one proxy, or none
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
            ws_max_size=200_000,
            ssl_certfile=tls.cert_file if tls is not None else None,
            ssl_keyfile=tls.key_file if tls is not None else None,
        )
        server, stop = Server(config), asyncio.Event()
        with listening(self._section.host, self._section.port) as line, stopping(stop):
            reading = asyncio.create_task(self._reader.run())
            serving = asyncio.create_task(server.serve([line]))
            stopped = asyncio.create_task(stop.wait())
            typer.echo(f"dashboard at {self._address()}", err=True)
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            stopped.cancel()
            await serving
            reading.cancel()
            await asyncio.wait({reading})
            await self._sources.close()

    def _address(self) -> str:
        host = f"[{self._section.host}]" if ":" in self._section.host else self._section.host
        return f"{'https' if self._section.tls is not None else 'http'}://{host}:{self._section.port}/"


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens there. Raises OSError, naming the address, if it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            line.bind((host, port))
        except OSError as error:
            expected = f"{host}:{port}: expected an address to listen at"
            raise OSError(f"{expected}, found {error.strerror}; hint: another program may listen there") from None
        line.listen(BACKLOG)
        line.settimeout(0)
        yield line
