"""What the service manager is told (systemd's sd_notify): ready, alive, stopping, and how vaults are in a line.

Alive means that decisions go on, not that a process exists: each vault's daemon beats from its own loop, and only while
what it took in is decided upon and its journal reaches the disk. One that does not is not vouched for, and the manager
ends and starts the process. Without a manager all of it does nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

IDLE_EVERY_S: Final = 5.0  # between two looks where no watchdog is asked for
LEAST_EVERY_S: Final = 0.05
BEAT_WITHIN_S: Final = 3.0  # a daemon beats twice a second
MAX_STATUS: Final = 400

log = structlog.get_logger()


class Pulse:
    """One vault's sign of life; its daemon's to give."""

    def __init__(self, vault: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.vault = vault
        self.is_ready = False
        self.is_over = False
        self.state = "starting"
        self._clock = clock
        self._beat_s = clock()

    def beat(self, state: str) -> None:
        """Say that decisions go on, and how the vault is; the first time says that it has recovered."""
        self.is_ready = True
        self.state = state
        self._beat_s = self._clock()

    def end(self) -> None:
        """Say that this vault has ended as it should, and nothing more is to be expected of it."""
        self.is_over = True
        self.state = "ended"

    def silent_s(self) -> float:
        """Return for how long there was no sign, 0 where none is due."""
        return 0.0 if self.is_over or not self.is_ready else self._clock() - self._beat_s


class Service:
    """Vouches for the vaults of a process at the service manager that started it."""

    def __init__(
        self, vaults: Sequence[str], environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pulses = {vault: Pulse(vault, clock) for vault in vaults}
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s(environ)
        self._is_ready = False
        self._status = ""

    @property
    def every_s(self) -> float:
        """How often the manager is told: twice as often as it wants to be."""
        return IDLE_EVERY_S if self._watchdog_s is None else max(LEAST_EVERY_S, 0.5 * self._watchdog_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Tell the manager how it goes until cancelled; that it stops once `stop` is set."""
        if not self._address:
            return
        while not stop.is_set():
            self.look()
            pause_s = self.every_s if self._is_ready else min(self.every_s, 0.1)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()
        self._tell("STOPPING=1", "STATUS=stopping")

    def look(self) -> None:
        """Tell what is new, and that all is alive if it is."""
        pulses = self.pulses.values()
        lines: list[str] = []
        if not self._is_ready and all(pulse.is_ready or pulse.is_over for pulse in pulses):
            self._is_ready = True
            lines.append("READY=1")
        silent = [pulse for pulse in pulses if pulse.silent_s() > max(BEAT_WITHIN_S, self.every_s)]
        if self._is_ready and not silent and self._watchdog_s is not None:
            lines.append("WATCHDOG=1")
        status = "; ".join(f"{pulse.vault} {pulse.state}" for pulse in pulses)
        if silent:
            status = "; ".join(f"{pulse.vault} does not decide" for pulse in silent)
        if status != self._status:
            if silent:
                log.error("run.stuck", vaults=[pulse.vault for pulse in silent])
            self._status = status
            lines.append(f"STATUS={status[:MAX_STATUS]}".replace("\n", " "))
        if lines:
            self._tell(*lines)

    def _tell(self, *lines: str) -> None:
        """Send a datagram; a manager that does not listen is no reason to stop."""
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as line:
            try:
                line.connect(address)
                line.send("\n".join(lines).encode())
            except OSError as error:
                log.warning("run.manager_unheard", error=str(error))


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Return within which time the manager wants a sign of life of this process, None if it does not."""
    if environ.get("WATCHDOG_PID", "") not in ("", str(os.getpid())):
        return None
    try:
        found_us = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return found_us / 1e6 if found_us > 0 else None
