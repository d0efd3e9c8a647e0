"""Time that passes at once: for what a client does only after it has waited long enough.

A time-out that a test wants to see is made longer than any busy machine stands still, and is over when the test says
so: once the request has arrived, and not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.runtime.command_line import PATIENCE_S


def let_pass(seconds: float) -> None:
    """Set the running loop's clock ahead: whatever falls due within that time is due now, whoever waits for it."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the condition is anything
            await asyncio.sleep(0.002)


async def out_of_time(call: Awaitable[Any], has_arrived: Callable[[], Any], seconds: float = PATIENCE_S + 1.0) -> Any:
    """Make a call whose time is over as soon as its request has arrived; return or raise what comes of it."""
    calling = asyncio.ensure_future(call)
    await until(has_arrived)
    let_pass(seconds)
    return await calling
