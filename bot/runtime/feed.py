"""Where a daemon's events come from and its commands go: one small protocol, and the recorded world behind it.

The daemon decides alike whatever feeds it; only what time it is and who answers differ.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from bot.domain.events import CancelOrder, Command, Event
from bot.domain.risk import SupposedMargin, SupposedPosition
from bot.domain.units import NS_PER_S
from bot.runtime.mailbox import Mailbox
from bot.simulation.world import World


class Feed(Protocol):
    """The world as a daemon needs it."""

    @property
    def is_over(self) -> bool:
        """Whether `run` has come to its end, after which nobody would answer a command."""

    def now_ns(self) -> int:
        """Return what time it is in the world."""

    def decision_ns(self, received_ns: int) -> int:
        """Return the time at which to decide about what was received up to `received_ns`."""

    def resume(self, last_ns: int) -> None:
        """Go on where an earlier run ended: no later command or event may be older than `last_ns`."""

    def catch_up(self) -> int:
        """Put whatever has reached us by now into the mailbox; return the time it is."""

    async def run(self) -> None:
        """Fill the mailbox until there will be nothing more, or until cancelled."""

    def absorb(self, now_ns: int, events: Sequence[Event]) -> tuple[Event, ...]:
        """Return what a batch is once a venue that we simulate ourselves has seen and answered it."""

    def submit(self, command: Command, now_ns: int) -> None:
        """Hand over a command that is on disk."""

    def view(self) -> dict[str, Any]:
        """Return what an operator should know of the feed, JSON-ready."""

    async def help_transaction(self, chain: str, key: str, action: str) -> str:
        """Cancel a transaction on a chain or speed it up, as an operator asks; return why not, "" if it was done."""

    async def suppose(self, change: SupposedPosition) -> SupposedMargin | str:
        """Return what the venue itself would ask for with a position changed, or why it does not say."""

    def help_transfer(self, action: str, transfer_id: str, amount: float | None, fee: float, issuer: str) -> str:
        """Take a person's word on a transfer of collateral; return why it is not taken, "" if it is."""

    async def withdraw(self, cancels: Sequence[CancelOrder], timeout_s: float) -> list[str]:
        """Cancel without the journal's help, as a last act; return the orders not known to be over by then."""


class RecordedFeed:
    """A recording and its simulated venue, `speed` times as fast as the clock (0: as fast as the daemon goes)."""

    def __init__(self, world: World, mailbox: Mailbox, speed: float) -> None:
        self._world = world
        self._mailbox = mailbox
        self._speed = speed
        self._rescheduled = asyncio.Event()
        self._world_ns = 0  # how far the world has been stepped: no later command may be older
        self._pace: tuple[int, float] | None = None  # virtual time and clock when the feed began
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether the recording has ended and nothing is under way."""
        return self._is_over

    def now_ns(self) -> int:
        """Return what time it is in the world: paced, as the clock says; unpaced, as far as it has come."""
        if self._pace is None:
            return self._world_ns
        start_ns, start_s = self._pace
        return max(self._world_ns, start_ns + int((time.monotonic() - start_s) * self._speed * NS_PER_S))

    def decision_ns(self, received_ns: int) -> int:
        """Decide at the moment of receipt: in a world of its own nothing takes time."""
        return received_ns

    def resume(self, last_ns: int) -> None:
        """Go on after `last_ns`, where the world has been rebuilt to."""
        self._world_ns = last_ns

    def catch_up(self) -> int:
        """Step the world to the present; return the time it is."""
        now_ns = self.now_ns()
        self._step_to(now_ns)
        return now_ns

    async def run(self) -> None:
        """Fill the mailbox until the recording ends and nothing is under way."""
        world = self._world
        while True:
            while not self._speed and (step := world.step()) is not None:
                self._world_ns = step[0]
                self._mailbox.put(*step)
                await self._mailbox.drained()
            self._rescheduled.clear()
            next_ns = world.peek_ns()
            if next_ns is None:
                await self._mailbox.drained()
                # asked for both in one breath: an operator's word since then may have sent something
                if self._mailbox.is_drained and world.peek_ns() is None:
                    self._is_over = True
                    return
                continue
            if self._pace is None:
                self._pace = next_ns, time.monotonic()
            wait_s = (next_ns - self.now_ns()) / NS_PER_S / self._speed
            if wait_s > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):  # `wait_for` may lose a cancellation before 3.12
                        await self._rescheduled.wait()
                continue
            self._step_to(self.now_ns())
            await asyncio.sleep(0)

    def absorb(self, now_ns: int, events: Sequence[Event]) -> tuple[Event, ...]:
        """Return the batch as it is: the world has put the venue's answers into it."""
        del now_ns
        return tuple(events)

    def submit(self, command: Command, now_ns: int) -> None:
        """Hand a command to the simulated venue, which may bring the next moment nearer."""
        self._world.submit(command, now_ns)
        self._rescheduled.set()

    def view(self) -> dict[str, Any]:
        """Return nothing: the recording was checked before it was played."""
        return {}

    async def suppose(self, change: SupposedPosition) -> SupposedMargin | str:
        """Say that there is nobody to ask."""
        return f"a recording answers no question about {change.instrument_id}"

    async def help_transaction(self, chain: str, key: str, action: str) -> str:
        """Refuse: what is simulated has no transactions of ours."""
        del chain, action
        return f"expected a transaction of a live chain, found {key!r} of a recording"

    def help_transfer(self, action: str, transfer_id: str, amount: float | None, fee: float, issuer: str) -> str:
        """Refuse: what is simulated arrives by itself."""
        del action, amount, fee, issuer
        return f"expected a transfer of a live vault, found {transfer_id!r} of a recording"

    async def withdraw(self, cancels: Sequence[CancelOrder], timeout_s: float) -> list[str]:
        """Do nothing: a simulated venue ends with its daemon and is rebuilt from the journal as it was."""
        del cancels, timeout_s
        return []

    def _step_to(self, until_ns: int) -> None:
        """Put everything that reaches us up to `until_ns` into the mailbox, where quotes conflate if we are late."""
        while (step := self._world.step(until_ns)) is not None:
            # At `until_ns`, not when it came: the venue has moved on, and no command may reach it in its past.
            self._mailbox.put(until_ns, step[1])
        self._world_ns = until_ns
