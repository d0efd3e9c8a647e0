"""Time that passes at once: for what a client does only after it has waited long enough.

A time-out that a test wants to see is made longer than any busy machine stands still, and is over when the test says
so: once the request has arrived, and not before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.runtime.command_line import PATIENCE_S

TURNS = 20  # of the loop, in which a request on loopback gets far


class _Ahead:
    """A loop's clock, and as much more as was let pass."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.ahead_s = 0.0
        self._clock = clock

    def __call__(self) -> float:
        return self._clock() + self.ahead_s


def let_pass(seconds: float) -> None:
    """Set the running loop's clock ahead: whatever falls due within that time is due now, whoever waits for it."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop.time, _Ahead):
        loop.time = _Ahead(loop.time)  # type: ignore[method-assign]
    loop.time.ahead_s += seconds


async def pass_on(seconds: float) -> None:
    """Let so much pass, and give everybody the turns of the loop that they would have had meanwhile."""
    let_pass(seconds)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    await asyncio.sleep(0.0005)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds, by the clock that no test sets ahead."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, f"expected the condition to hold within {PATIENCE_S:g} s"
        await asyncio.sleep(0.002)


async def out_of_time(call: Awaitable[Any], has_arrived: Callable[[], Any], seconds: float = PATIENCE_S + 1.0) -> Any:
    """Make a call whose time is over as soon as its request has arrived; return or raise what comes of it."""
    calling = asyncio.ensure_future(call)
    await until(has_arrived)
    let_pass(seconds)
    return await calling
