"""The table of `scripts/bench windows`: how long decisions take with every window shut, open, and abused.

Each round runs the same vault three times for the same time at the same pace, in turns: no windows; broker, metrics,
alerts, commands and the dashboard; and all of these with a subscriber that never reads and a storm of scrapes. The
broker is a real Mosquitto, everything is on loopback. It prints one JSON table on stdout.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from bench_speed import describe_machine, say

from bot.telemetry.dashboard.passwords import hash_password
from tests.broker import Mosquitto, free_port, mosquitto

ROUNDS: Final = 3
RUN_S: Final = 20.0
SPEED: Final = 4000.0  # three days of market in a minute: thousands of events a second
START_S: Final = 60.0
STORMERS: Final = 4
MAX_SCRAPES: Final = 20_000  # of one storm
VAULT: Final = Path(__file__).parents[1] / "config" / "eth-straddle-margin.yaml"
MODES: Final = ("shut", "open", "abused")


def main() -> None:
    """Measure every mode in turns and print the table."""
    samples: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    scrapes = 0
    for number in range(ROUNDS):
        for mode in MODES[number % 3 :] + MODES[: number % 3]:
            say(f"round {number + 1} of {ROUNDS}: windows {mode}")
            found, asked = run_once(mode)
            samples[mode].append(found)
            scrapes += asked
    table = {
        "bench": "windows",
        "machine": describe_machine(),
        "method": {
            "vault": VAULT.stem, "seconds_a_run": RUN_S, "times_as_fast_as_the_clock": SPEED, "rounds": ROUNDS,
            "scrapes": scrapes, "spread": "median, least and most of the rounds; ratios are of rounds, pair by pair",
        },
        "decide_us": {
            mode: {key: spread([one[key] for one in found]) for key in ("p50", "p99")}
            for mode, found in samples.items()
        },
        "decisions": {mode: spread([one["decisions"] for one in found]) for mode, found in samples.items()},
        "over_shut": {
            mode: {
                key: spread([one[key] / base[key] for one, base in zip(samples[mode], samples["shut"], strict=True)])
                for key in ("p50", "p99")
            }
            for mode in MODES[1:]
        },
    }  # fmt: skip
    print(json.dumps(table, indent=1))


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {
        "median": round(float(np.median(values)), 3), "min": round(min(values), 3), "max": round(max(values), 3),
    }  # fmt: skip


def run_once(mode: str) -> tuple[dict[str, float], int]:
    """Run the vault for a while; return how long its decisions took, and how often it was scraped."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ek-bench-")))
        (folder / "vault.yaml").write_text(VAULT.read_text(encoding="utf-8"), encoding="utf-8")
        environ = {
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "BENCH_SECRET": f"hmac-sha256:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        }
        command = [sys.executable, "-m", "bot.runtime.cli"]
        run = [*command, "run", "vault.yaml", "--speed", str(SPEED), "--json"]
        storm: Storm | None = None
        if mode != "shut":
            broker = stack.enter_context(mosquitto())
            http_port = free_port()
            (folder / "desk.yaml").write_text(json.dumps(desk(broker, http_port)))
            run += ["--desk", "desk.yaml"]
        log = stack.enter_context((folder / "log").open("w"))
        daemon = subprocess.Popen(run, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=log, text=True)
        stack.callback(daemon.kill)
        wait_for_file(folder / ".evenkeel" / f"{VAULT.stem}.sock")
        if mode != "shut":
            pages = subprocess.Popen(
                [*command, "dashboard", "desk.yaml", "vault.yaml"], cwd=folder, env=environ, stderr=log
            )
            stack.callback(end, pages)
            wait_for_answer(http_port)
        if mode == "abused":
            stack.enter_context(deaf_subscriber(broker))
            storm = stack.enter_context(Storm(http_port))
        time.sleep(RUN_S)
        daemon.send_signal(signal.SIGTERM)
        summary: dict[str, Any] = json.loads(daemon.communicate(timeout=60)[0])
    found = {**summary["decision_us"], "decisions": float(summary["decisions"])}
    return found, storm.count if storm is not None else 0


def desk(broker: Mosquitto, http_port: int) -> dict[str, Any]:
    """Return a desk file with everything open."""
    return {
        "mqtt": broker.mqtt(),
        "http": {"port": http_port},
        "alerts": {},
        "issuers": {"bench": {"secret_env": "BENCH_SECRET", "may": ["all"]}},
        "dashboard": {
            "port": free_port(),
            "issuer": "bench",
            "signing_key_env": "BENCH_SECRET",
            "users": {"viewer": {"password_hash": hash_password(secrets.token_hex(16)), "role": "viewer"}},
        },
    }


def wait_for_file(path: Path) -> None:
    """Wait until the daemon listens. Raises TimeoutError."""
    give_up_s = time.monotonic() + START_S
    while not path.exists():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"expected {path.name} within {START_S:g} s, found none")
        time.sleep(0.05)


def wait_for_answer(port: int) -> None:
    """Wait until metrics are served. Raises TimeoutError."""
    give_up_s = time.monotonic() + START_S
    while True:
        try:
            scrape(port)
        except (http.client.HTTPException, OSError):
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.1)
        else:
            return


def scrape(port: int) -> None:
    """Ask for the metrics. Raises HTTPException or OSError."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", "/metrics")
        line.getresponse().read()
    finally:
        line.close()


def end(process: subprocess.Popen[Any]) -> None:
    """Let a process end by itself, and see that it does."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def deaf_subscriber(broker: Mosquitto) -> Iterator[None]:
    """Subscribe to everything, and never read a byte of it."""
    with socket.create_connection(("127.0.0.1", broker.port)) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04deaf")  # CONNECT, MQTT 3.1.1, no keep-alive
        line.recv(4)
        line.sendall(b"\x82\x06\x00\x01\x00\x01#\x01")  # SUBSCRIBE to #, QoS 1
        yield


class Storm:
    """Scrapes as fast as answers come, from several threads, up to a number; as niced as a thread of ours can be.

    It stands for other machines, which would not take processor time from the daemon.
    """

    def __init__(self, port: int) -> None:
        self.count = 0
        self._port = port
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._scrape, daemon=True) for _ in range(STORMERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(10)

    def _scrape(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while not self._is_over.is_set() and self.count < MAX_SCRAPES:
            self.count += 1
            try:
                scrape(self._port)
            except (http.client.HTTPException, OSError):  # refused for too many at once: what a storm deserves
                time.sleep(0.01)


if __name__ == "__main__":
    main()
