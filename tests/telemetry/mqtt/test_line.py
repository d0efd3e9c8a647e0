"""What a connection of ours owes to whoever ends it; how it lives at a broker is in the tests of who writes over it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bot.telemetry.mqtt.line import Line, heed_cancellation


async def test_a_cancellation_that_was_kept_back_is_heeded() -> None:
    async def deaf(is_heeding: bool) -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        if is_heeding:
            heed_cancellation()
        return "goes on"

    heed_cancellation()
    for is_heeding in (False, True):
        task = asyncio.create_task(deaf(is_heeding))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() is is_heeding


async def test_what_loses_a_cancellation_is_ended_all_the_same() -> None:
    losses = []

    async def deaf() -> None:
        while len(losses) < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                losses.append(1)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await Line._end([task])
    assert task.done()
    assert len(losses) == 3
