"""What the rest of Evenkeel may expect of a venue, whatever it is: the four verbs of a gateway, and a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from bot.domain.events import Command, Event
from bot.domain.instruments import Instrument

Put = Callable[[Sequence[Event]], None]


class Clock(Protocol):
    """Tells the time of the venue's world, in nanoseconds since 1970; never goes back."""

    def now_ns(self) -> int:
        """Return the time now."""


class Gateway(Protocol):
    """One venue: `async with` it, ask for its instruments and the truth, then let `events` run and `submit`.

    Whatever comes of a command is an event; nothing of what a venue does is ever raised out of `submit`.
    """

    @property
    def venue(self) -> str:
        """The venue's name in the vault file, which instruments carry as `venue`."""

    async def __aenter__(self) -> Self:
        """Connect. Raises VenueFatal if the venue cannot be used at all, Retryable if it may be later."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect and release every socket."""

    async def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments of the wanted underlyings as the venue lists them now."""

    def watch(self, instruments: Sequence[Instrument]) -> None:
        """Say whose quotes and vols are wanted, hedges and holdings; may be called again at any time.

        Some may be listed no more: of a holding that expired meanwhile the settlement is still wanted.
        """

    async def truth(self) -> tuple[Event, ...]:
        """Return the venue's word on our account: fills this run may have missed, then an `AccountReport`."""

    async def events(self, put: Put) -> None:
        """Hand market data, answers and account events to `put` as they come; ends only by cancellation."""

    def submit(self, command: Command) -> None:
        """Start carrying out a command at once, without waiting for anything."""
