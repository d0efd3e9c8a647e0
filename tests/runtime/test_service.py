"""What the service manager hears, at a real socket, of a real daemon."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.runtime.service import BEAT_WITHIN_S, IDLE_EVERY_S, MAX_STATUS, Service
from tests.broker import free_port
from tests.house.test_service import health_check, instructions
from tests.runtime.command_line import PATIENCE_S, CommandLine, wait_for


class Manager:
    """A service manager's end of the line."""

    def __init__(self, address: str) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._line.setblocking(False)
        self.address = address
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        """Return everything heard so far, a datagram's lines one by one."""
        try:
            while True:
                self.heard += self._line.recv(4096).decode().split("\n")
        except BlockingIOError:
            return self.heard

    def close(self) -> None:
        self._line.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(prefix="ek-") as folder:
        name = f"@evenkeel-{secrets.token_hex(8)}" if request.param == "abstract" else str(Path(folder) / "notify")
        opened = Manager(name)
        yield opened
        opened.close()


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def service_of(manager: Manager, *vaults: str, clock: Clock | None = None, watchdog_us: str = "20000000") -> Service:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": watchdog_us}
    return Service(vaults, environ, clock or Clock())


class TestVouching:
    def test_ready_once_every_vault_has_recovered(self, manager: Manager) -> None:
        service = service_of(manager, "eth", "btc")
        service.look()
        service.pulses["eth"].beat("running")
        service.look()
        assert manager.listen() == ["STATUS=eth starting; btc starting", "STATUS=eth running; btc starting"]
        service.pulses["btc"].beat("reconciling")
        service.look()
        service.look()
        assert manager.listen()[2:] == ["READY=1", "WATCHDOG=1", "STATUS=eth running; btc reconciling", "WATCHDOG=1"]

    def test_one_that_does_not_decide_is_not_vouched_for(self, manager: Manager) -> None:
        clock = Clock()
        service = service_of(manager, "eth", "btc", clock=clock)
        for pulse in service.pulses.values():
            pulse.beat("running")
        service.look()
        clock.now_s += service.every_s + 0.1
        service.pulses["btc"].beat("running")
        service.look()
        assert manager.listen()[3:] == ["STATUS=eth does not decide"]
        service.pulses["eth"].beat("running")
        service.look()
        assert manager.listen()[4:] == ["WATCHDOG=1", "STATUS=eth running; btc running"]

    def test_one_that_has_ended_is_not_missed(self, manager: Manager) -> None:
        clock = Clock()
        service = service_of(manager, "eth", "btc", clock=clock)
        service.pulses["eth"].end()
        service.pulses["btc"].beat("running")
        clock.now_s += BEAT_WITHIN_S - 1
        service.look()
        assert manager.listen() == ["READY=1", "WATCHDOG=1", "STATUS=eth ended; btc running"]

    def test_without_a_watchdog_there_is_no_sign_of_life(self, manager: Manager) -> None:
        service = service_of(manager, "eth", watchdog_us="")
        service.pulses["eth"].beat("running")
        service.look()
        assert manager.listen() == ["READY=1", "STATUS=eth running"]

    def test_a_status_is_one_line_that_fits(self, manager: Manager) -> None:
        service = service_of(manager, "eth")
        service.pulses["eth"].beat("running\n" + "x" * 10_000)
        service.look()
        (status,) = [line for line in manager.listen() if line.startswith("STATUS=")]
        assert status.startswith("STATUS=eth running x")
        assert len(status) == len("STATUS=") + MAX_STATUS


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, IDLE_EVERY_S),  # meant for another process
        ({"WATCHDOG_USEC": "soon"}, IDLE_EVERY_S),
        ({"WATCHDOG_USEC": "0"}, IDLE_EVERY_S),
        ({}, IDLE_EVERY_S),
    ],
)
def test_how_often(environ: dict[str, str], every_s: float) -> None:
    assert Service(["eth"], environ).every_s == every_s


async def test_without_a_manager_nothing_is_done() -> None:
    async with asyncio.timeout(PATIENCE_S):
        await Service(["eth"], {}).run(asyncio.Event())


async def test_a_manager_that_does_not_listen_is_no_reason_to_stop(tmp_path: Path) -> None:
    service = Service(["eth"], {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    stop = asyncio.Event()
    stop.set()
    service.look()
    await service.run(stop)


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_daemon_says_that_it_is_ready_lives_and_stops(evenkeel: CommandLine, busy: Path, manager: Manager) -> None:
    daemon = evenkeel.start(
        manager.address, "400000", "run", "busy.yaml", "--speed", "1", cwd=busy, program="tests.runtime.managed:main"
    )
    wait_for(lambda: manager.listen().count("WATCHDOG=1") >= 3)
    assert manager.heard[0] == "STATUS=busy starting"
    assert manager.heard.index("READY=1") < manager.heard.index("WATCHDOG=1")
    wait_for(lambda: "STATUS=busy running" in manager.listen())
    daemon.send(signal.SIGTERM)
    wait_for(lambda: "STOPPING=1" in manager.listen())
    assert daemon.wait().code == 0
    assert manager.listen()[-2:] == ["STOPPING=1", "STATUS=stopping"]


def is_well(port: int) -> bool:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", "/healthz")
        return line.getresponse().status == 200
    except OSError:
        return False
    finally:
        line.close()


def test_the_image_s_command_runs_and_its_health_check_finds_it_well(evenkeel: CommandLine, busy: Path) -> None:
    port = free_port()
    (busy / "desk.yaml").write_text(f"http: {{port: {port}}}\n")
    found = dict(instructions())
    words = [*json.loads(found["ENTRYPOINT"]), *json.loads(found["CMD"])]
    command = [word.replace("/etc/evenkeel/vault", "busy").replace("/etc/evenkeel/", "") for word in words]
    asked = [word.replace(":9464/", f":{port}/") for word in health_check()]
    daemon = evenkeel.start(*command[1:], cwd=busy)
    wait_for(lambda: is_well(port))
    wait_for(lambda: subprocess.run(asked, capture_output=True, check=False).returncode == 0)  # it is asked in its turn
    daemon.send(signal.SIGTERM)
    left = daemon.wait()
    assert left.code == 0
    assert [line for line in left.err.splitlines() if not line.startswith(("{", "busy: "))] == []  # JSON, and progress
    assert subprocess.run(asked, capture_output=True, check=False).returncode == 1  # the windows end with the daemon
