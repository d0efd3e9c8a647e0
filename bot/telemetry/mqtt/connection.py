"""A connection to the broker that is made again for ever; whoever derives from it says what is done over it.

Whatever the broker or the library does, nothing piles up here, and whoever ends it is heeded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol

import aiomqtt
import structlog

from bot.telemetry.logs import OnceLogger

AGAIN_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # pauses between attempts to connect
LASTING_S: Final = 5.0  # one that ends sooner ends for a reason that is likely to be there still
PUSHED_OUT: Final = "hint: if this goes on, does another desk at this broker have the same client_id?"

QUIET: Final = logging.getLogger("evenkeel.mqtt")  # the library warns of each message that it has no room for
QUIET.setLevel(logging.ERROR)

log = structlog.get_logger()


class RefusedError(aiomqtt.MqttError):
    """The broker is there and does not let us write, or read: its access lists say so, or a limit of its own."""


class Connect(Protocol):
    """Makes clients of the broker, not connected yet, under a name of their own."""

    def __call__(self, name: str, **terms: Any) -> aiomqtt.Client:  # noqa: ANN401 — whatever aiomqtt takes
        """Return a client."""


class Connection:
    """A connection that lasts. `subject` and `told` are what logs call it by."""

    def __init__(self, subject: str, **told: str) -> None:
        self._once = OnceLogger(log)
        self._subject = subject
        self._told = told

    async def run(self) -> None:
        """Do what is done over the connection until cancelled, connecting again for ever."""
        failures = 0
        while True:
            made_s = 0.0
            try:
                async with self._client() as client:
                    await self._greet(client)
                    heed_cancellation()
                    made_s = time.monotonic()
                    self._opened(client)
                    await self._converse(client)
            except (aiomqtt.MqttError, OSError) as error:
                heed_cancellation()
                text = str(error)
                if made_s and not isinstance(error, RefusedError):
                    lasted_s = time.monotonic() - made_s
                    if lasted_s >= LASTING_S:
                        failures = 0
                    elif failures:
                        text = f"{text} {lasted_s:.1f} s after it was made; {PUSHED_OUT}"
                self._once.failed(self._subject, **self._told, error=text)
            finally:
                self._closed()
            await asyncio.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])
            failures += 1

    # What is done over it: for whoever derives from it

    def _client(self) -> aiomqtt.Client:
        """Return a client for the next attempt."""
        raise NotImplementedError

    async def _greet(self, client: aiomqtt.Client) -> None:
        """Do what must be done before the connection counts as made, such as subscribing."""

    def _opened(self, client: aiomqtt.Client) -> None:
        """Take note of a connection that has just been made."""
        del client
        self._recovered()

    def _recovered(self) -> None:
        """Take note that the broker is there for us, and tell it if it was not."""
        self._once.recovered(self._subject, **self._told)

    def _works(self, client: aiomqtt.Client) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what goes on over a connection that has just been made, for as long as it lasts."""
        del client
        return ()

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Read until the connection ends; where nothing is subscribed to, all it does is to notice that."""
        async for _ in client.messages:
            pass

    async def _part(self, client: aiomqtt.Client) -> None:
        """Say good-bye; only where we are the one who ends it."""

    def _closed(self) -> None:
        """Take note of the end of a connection, or of an attempt."""

    # How it goes on and ends

    async def _converse(self, client: aiomqtt.Client) -> None:
        tasks = [asyncio.create_task(work) for work in (*self._works(client), self._listen(client))]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _end(tasks)
            await self._part(client)
            raise
        await _end(tasks)
        for task in ended:
            task.result()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    # Again and again: the library waits by asyncio.wait_for, which before Python 3.12 loses a cancellation that comes
    # at the moment of its answer.
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.05)
    await asyncio.gather(*tasks, return_exceptions=True)


def heed_cancellation() -> None:
    """Raise CancelledError where the task is to end and what it waited for last has kept that to itself."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
