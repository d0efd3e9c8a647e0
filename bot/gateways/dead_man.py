"""What cancels our resting orders when we fall silent: countdowns that are renewed, and venues that have none.

No order that can rest may be sent before `ensure` says that it would not outlive us. A countdown is armed by the first
such order of a symbol (or of the account), checked by the venue's answer, and renewed at a third of its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from bot.domain.errors import Retryable
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.gateway import Clock
from bot.gateways.outcomes import text_of
from bot.gateways.sending import cancellable

_RENEWALS: Final = 3  # per countdown: two may be lost
_ACCOUNT: Final = ""


class DeadMan(Protocol):
    """A venue's protection against a client that died."""

    async def ensure(self, symbol: str) -> None:
        """Return once a resting order on this symbol would be canceled without us; raises Retryable if it would not."""

    async def run(self) -> None:
        """Keep what is armed armed, until cancelled."""


class NoProtection:
    """A venue where nothing cancels what a dead client left: no order may rest there."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    async def ensure(self, symbol: str) -> None:
        """Refuse."""
        raise Retryable(f"no order may rest on {symbol}: {self.reason}")

    async def run(self) -> None:
        """Do nothing."""


Start = Callable[[str, int], Coroutine[Any, Any, None]]
"""Starts, or starts anew, the countdown of a symbol ("" for the account) in ms; raises if the venue did not."""


class Countdown:
    """A countdown that cancels everything unless it is started anew in time.

    `is_per_symbol` says whether each symbol has its own. The venue's limits are in ms: a time outside is moved inside.
    """

    def __init__(
        self, start: Start, clock: Clock, dead_man_ns: int, *, is_per_symbol: bool, limits_ms: tuple[int, int]
    ) -> None:
        least_ms, most_ms = limits_ms
        self.time_ms = min(max(dead_man_ns // NS_PER_MS, least_ms), most_ms)
        self._start = start
        self._clock = clock
        self._is_per_symbol = is_per_symbol
        self._safe_until_ns: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def renew_s(self) -> float:
        """How often a countdown is started anew, in seconds."""
        return self.time_ms / 1000 / _RENEWALS

    async def ensure(self, symbol: str) -> None:
        """Return at once if the countdown runs for a while yet; else start it. Raises Retryable if it cannot be."""
        key = symbol if self._is_per_symbol else _ACCOUNT
        if self._is_safe(key):
            return
        async with self._locks.setdefault(key, asyncio.Lock()):
            if not self._is_safe(key):
                await self._renew(key)

    async def run(self) -> None:
        """Start every armed countdown anew, `_RENEWALS` times in its time, sooner after a failure."""
        while True:
            is_well = True
            for key in list(self._safe_until_ns):
                try:
                    await self._renew(key)
                except Retryable:
                    is_well = False
            await asyncio.sleep(self.renew_s if is_well else self.renew_s / 4)

    def _is_safe(self, key: str) -> bool:
        """Tell whether the countdown surely runs, and does not end while an order is on its way."""
        left_ns = self._safe_until_ns.get(key, 0) - self._clock.now_ns()
        return left_ns > min(NS_PER_S, self.time_ms * NS_PER_MS // 4)

    async def _renew(self, key: str) -> None:
        asked_ns = self._clock.now_ns()
        # gathered, as ccxt raises anything where a venue answers with what it did not expect
        [error] = await asyncio.gather(cancellable(self._start(key, self.time_ms)), return_exceptions=True)
        if error is not None:
            raise Retryable(f"no order may rest: the dead man's switch could not be armed, {text_of(error)}") from error
        self._safe_until_ns[key] = asked_ns + self.time_ms * NS_PER_MS
