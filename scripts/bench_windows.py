"""The table of `scripts/bench windows`: how long decisions take with every window shut, open, and abused.

Each round runs the same vault three times for the same time at the same pace, in turns: no windows; broker, metrics,
alerts, commands and the dashboard; and all of these with a subscriber that never reads and a storm of scrapes. The
broker is a real Mosquitto, everything is on loopback. It prints one JSON table on stdout.

With `--why` there are three modes more, to tell whose time it is: states asked for and thrown away, all windows open
but states asked for once a minute, and no window at all but a process of nobody's that is as busy and as nice.
"""

from __future__ import annotations

import argparse
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

from bot.runtime.cli.windows import NICENESS
from bot.runtime.operators import control
from bot.telemetry.dashboard.passwords import hash_password
from scripts.dashboard_desk import children, processor_s
from tests.broker import Mosquitto, free_port, mosquitto

START_S: Final = 120.0
SETTLE_S: Final = 3.0
STORMERS: Final = 4
MAX_SCRAPES: Final = 20_000  # of one storm
VAULT: Final = Path(__file__).parents[1] / "config" / "eth-straddle-margin.yaml"
MODES: Final = ("shut", "open", "abused")
WHY: Final = ("asked", "still", "busy")
OPEN: Final = ("open", "abused", "still")
SPIN: Final = "import os; os.nice({nice})\nwhile True: sorted(str(one) for one in range(20000))"
FIGURES: Final = ("p50", "p99", "processor_p50", "processor_p99", "margin_p50", "margin_processor_p50")


def main() -> None:
    """Measure every mode in turns and print the table."""
    asked_for = arguments()
    modes = MODES + (WHY if asked_for.why else ())
    samples: dict[str, list[dict[str, float]]] = {mode: [] for mode in modes}
    scrapes = 0
    for number in range(asked_for.rounds):
        at = number % len(modes)
        for mode in modes[at:] + modes[:at]:
            say(f"round {number + 1} of {asked_for.rounds}: windows {mode}")
            found, asked = run_once(mode, asked_for.speed, asked_for.seconds)
            say(json.dumps(found))
            samples[mode].append(found)
            scrapes += asked
    table = {
        "bench": "windows",
        "machine": describe_machine(),
        "method": {
            "vault": VAULT.stem, "seconds_a_run": asked_for.seconds, "times_as_fast_as_the_clock": asked_for.speed,
            "rounds": asked_for.rounds, "scrapes": scrapes,
            "spread": "median, least and most of the rounds; ratios are of rounds, pair by pair",
        },
        "found": {
            mode: {key: spread([one[key] for one in found]) for key in found[0]} for mode, found in samples.items()
        },
        "over_shut": {
            mode: {
                key: spread([one[key] / base[key] for one, base in zip(samples[mode], samples["shut"], strict=True)])
                for key in FIGURES
            }
            for mode in modes
            if mode != "shut"
        },
    }  # fmt: skip
    print(json.dumps(table, indent=1))


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {
        "median": round(float(np.median(values)), 3), "min": round(min(values), 3), "max": round(max(values), 3),
    }  # fmt: skip


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/bench windows")
    parser.add_argument("--why", action="store_true", help="also measure what tells whose time it is")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of one run")
    parser.add_argument(
        "--speed", type=float, default=4000.0, help="times as fast as the clock: three days in a minute"
    )
    return parser.parse_args()


def run_once(mode: str, speed: float, seconds: float) -> tuple[dict[str, float], int]:
    """Run the vault for a while; return how long its decisions took, and how often it was scraped."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ek-bench-")))
        (folder / "vault.yaml").write_text(VAULT.read_text(encoding="utf-8"), encoding="utf-8")
        environ = {
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "BENCH_SECRET": f"hmac-sha256:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        }
        command = [sys.executable, "-m", "bot.runtime.cli.app"]
        run = [sys.executable, "-m", "scripts.timed_daemon", "run", "vault.yaml", "--speed", str(speed), "--json"]
        environ["TIMINGS"] = str(folder / "timings.json")
        storm: Storm | None = None
        pages: subprocess.Popen[bytes] | None = None
        if mode in OPEN:
            broker = stack.enter_context(mosquitto())
            http_port, pages_port = free_port(), free_port()
            every_s = 60.0 if mode == "still" else 0.25
            (folder / "desk.yaml").write_text(json.dumps(desk(broker, http_port, pages_port, every_s)))
            run += ["--desk", "desk.yaml"]
        log = stack.enter_context((folder / "log").open("w"))
        daemon = subprocess.Popen(run, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=log, text=True)
        stack.callback(daemon.kill)
        socket_path = folder / ".evenkeel" / f"{VAULT.stem}.sock"
        wait_for_file(socket_path)
        if mode in OPEN:
            pages = subprocess.Popen(
                [*command, "dashboard", "desk.yaml", "vault.yaml"], cwd=folder, env=environ, stderr=log
            )
            stack.callback(end, pages)
            wait_for_answer(http_port, "/metrics")
            wait_for_answer(pages_port, "/login")
        if mode == "abused":
            stack.enter_context(deaf_subscriber(broker))
            storm = stack.enter_context(Storm(http_port))
        if mode == "asked":
            stack.enter_context(asking(socket_path))
        if mode == "busy":
            stack.callback(end, subprocess.Popen([sys.executable, "-c", SPIN.format(nice=NICENESS)]))
        time.sleep(SETTLE_S)
        before_s = beside_s(daemon, pages)
        daemon.send_signal(signal.SIGUSR1)  # the recording begins
        time.sleep(seconds)
        spent_s = [now_s - was_s for now_s, was_s in zip(beside_s(daemon, pages), before_s, strict=True)]
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=60)
        timings: dict[str, Any] = json.loads(Path(environ["TIMINGS"]).read_text())
    return found_of(timings) | {"windows_s": spent_s[0], "dashboard_s": spent_s[1]}, storm.count if storm else 0


def beside_s(daemon: subprocess.Popen[str], pages: subprocess.Popen[bytes] | None) -> list[float]:
    """Return the processor time that the windows and the dashboard have had."""
    windows_s = sum(processor_s(pid) for pid in children(daemon.pid))
    return [windows_s, processor_s(pages.pid) if pages is not None else 0.0]


def found_of(timings: dict[str, Any]) -> dict[str, float]:
    """Return the figures of one run: microseconds, and seconds where they say so."""
    wall, processor = timings["all_us"], timings["all_processor_us"]
    margin, margin_processor = timings["decide_us"]["margin"], timings["decide_processor_us"]["margin"]
    return {
        "decisions": wall["count"],
        "p50": wall["p50"],
        "p99": wall["p99"],
        "processor_p50": processor["p50"],
        "processor_p99": processor["p99"],
        "margin_looks": margin["count"],
        "margin_p50": margin["p50"],
        "margin_p99": margin["p99"],
        "margin_processor_p50": margin_processor["p50"],
        "margin_processor_p99": margin_processor["p99"],
        "margin_away_p50": timings["decide_away_us"]["margin"]["p50"],
        "margin_away_p90": timings["decide_away_us"]["margin"]["p90"],
        "margin_away_p99": timings["decide_away_us"]["margin"]["p99"],
        "answers": timings["answer_us"]["count"],
        "answer_p50": timings["answer_us"].get("p50", 0.0),
        "answer_p99": timings["answer_us"].get("p99", 0.0),
        "collections": timings["collected_us"]["count"],
        "collection_max": timings["collected_us"].get("max", 0.0),
        "put_to_decision_p50": timings["waited_us"]["p50"],
        "put_to_decision_p99": timings["waited_us"]["p99"],
        "on_processor_s": timings["on_processor_s"],
        "waited_for_processor_s": timings["waited_for_processor_s"],
        "preempted": timings["preempted"],
    }


@contextmanager
def asking(socket_path: Path) -> Iterator[None]:
    """Ask for states as often as the windows do, and throw them away."""
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.25):
            control.ask(socket_path, {"verb": "state"})

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(10)


def desk(broker: Mosquitto, http_port: int, pages_port: int, every_s: float) -> dict[str, Any]:
    """Return a desk file with everything open."""
    return {
        "mqtt": {**broker.mqtt(), "state_every_s": every_s},
        "http": {"port": http_port},
        "alerts": {},
        "issuers": {"bench": {"secret_env": "BENCH_SECRET", "may": ["all"]}},
        "dashboard": {
            "port": pages_port,
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


def wait_for_answer(port: int, path: str) -> None:
    """Wait until pages are served. Raises HTTPException or OSError."""
    give_up_s = time.monotonic() + START_S
    while True:
        try:
            scrape(port, path)
        except (http.client.HTTPException, OSError):
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.1)
        else:
            return


def scrape(port: int, path: str = "/metrics") -> None:
    """Ask for the metrics, or another page. Raises HTTPException or OSError."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", path)
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
