"""What `scripts/bench windows` sets beside a daemon: abuse of its windows, questions, or a stranger who only works.

    python -m scripts.window_company abuse MQTT_PORT HTTP_PORT    subscribe to all and never read; scrape without end
    python -m scripts.window_company ask SOCKET                   ask a daemon for its state four times a second
    python -m scripts.window_company work SHARE                   take so much of a processor, as niced as windows are

Each goes on until SIGTERM. Of abuse, the number of scrapes is then on stdout.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from bot.runtime.cli.windows import STATE_EVERY_S, yield_to_trading
from bot.runtime.operators import control

STORMERS: Final = 4
WAKE_EVERY_S: Final = 0.05  # of a stranger: windows wake up about as often


class Storm:
    """Scrapes as fast as answers come, from several threads, niced: it stands for machines that are not this one."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self._port = port

    def begin(self) -> None:
        """Begin to scrape, and never end."""
        os.nice(19)
        for _ in range(STORMERS):
            threading.Thread(target=self._scrape, daemon=True).start()

    def _scrape(self) -> None:
        while True:
            try:
                scrape(self._port)
            except (http.client.HTTPException, OSError):  # refused for too many at once: what a storm deserves
                time.sleep(0.01)
            else:
                self.count += 1


def scrape(port: int, path: str = "/metrics") -> None:
    """Ask for the metrics, or another page. Raises HTTPException or OSError."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", path)
        line.getresponse().read()
    finally:
        line.close()


def subscribe_deaf(port: int) -> socket.socket:
    """Subscribe to everything; nobody ever reads what comes."""
    line = socket.create_connection(("127.0.0.1", port))
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04deaf")  # CONNECT, MQTT 3.1.1, no keep-alive
    line.recv(4)
    line.sendall(b"\x82\x06\x00\x01\x00\x01#\x01")  # SUBSCRIBE to #, QoS 1
    return line


def abuse(mqtt_port: str, http_port: str) -> None:
    """Do both kinds of it until ended."""
    line = subscribe_deaf(int(mqtt_port))
    storm = Storm(int(http_port))
    storm.begin()
    try:
        signal.pause()
    finally:
        print(storm.count, flush=True)
        line.close()


def ask(path: str) -> None:
    """Ask for the state as often as windows do, and throw it away."""
    yield_to_trading()
    while True:
        with suppress(control.NotRunningError, TimeoutError):
            control.ask(Path(path), {"verb": "state"})
        time.sleep(STATE_EVERY_S)


def work(share: str) -> None:
    """Take a share of a processor, in pieces, and touch some memory as any program does."""
    yield_to_trading()
    piece_s = float(share) * WAKE_EVERY_S
    due_s = time.monotonic()
    while True:
        until_s = time.thread_time() + piece_s
        while time.thread_time() < until_s:
            sorted(str(one) for one in range(500))
        due_s = max(due_s + WAKE_EVERY_S, time.monotonic())
        time.sleep(due_s - time.monotonic())


WORKS: Final[dict[str, Callable[..., None]]] = {"abuse": abuse, "ask": ask, "work": work}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    WORKS[sys.argv[1]](*sys.argv[2:])
