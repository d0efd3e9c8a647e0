"""What is known of each vault now: its newest state, when it was heard of, and what was told of it.

The board is all that metrics and health are read from. Taking something in is a dictionary write and never raises.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from bot.domain.units import NS_PER_S
from bot.domain.windows import Alert, Told, VaultState

MAX_WORDS = 50  # different kinds that are counted apart
OTHER = "other"
MAX_WORD = 60  # characters


class Neighbours(NamedTuple):
    """What other windows know, asked for at each scrape; the defaults are those of a desk without them."""

    refused_commands: Callable[[], Mapping[str, int]] = dict  # by reason
    open_alerts: Callable[[str], Sequence[Alert]] = lambda _vault: ()
    broker_away_ns: Callable[[], int] = lambda: 0  # since when, wall clock; 0: it is not
    dropped_states: Callable[[], int] = lambda: 0


class Tally(Counter[str]):
    """Counts words, so few of them that no stranger can make it grow."""

    def count(self, word: str, number: int = 1) -> None:
        """Count a word, under `other` where there are too many different ones already."""
        word = word[:MAX_WORD]
        self[word if word in self or len(self) < MAX_WORDS else OTHER] += number


class Record:
    """One vault as the windows know it. `heard_s` is of the monotonic clock: the last answer, or our own start.

    `old_s` is how old the state was when it came.
    """

    def __init__(self, vault: str, heard_s: float) -> None:
        self.vault = vault
        self.state: VaultState | None = None
        self.heard_s = heard_s
        self.old_s = 0.0
        self.is_answering = False
        self.why_gone = "it has not answered yet"
        self.told = Tally()


class Board:
    """The newest of every vault; those named at the start are expected to be there."""

    def __init__(
        self,
        vaults: Iterable[str],
        neighbours: Neighbours = Neighbours(),  # noqa: B008 — a constant
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic_s = monotonic_s
        self._wall_ns = wall_ns
        self.neighbours = neighbours
        self.records = {vault: Record(vault, monotonic_s()) for vault in vaults}

    def show(self, state: VaultState) -> None:
        """Take in a vault's newest state."""
        record = self._record(state.vault)
        record.state, record.heard_s, record.is_answering, record.why_gone = state, self._monotonic_s(), True, ""
        record.old_s = self.since_s(state.taken_ns)

    def tell(self, told: Told) -> None:
        """Count an event."""
        self._record(told.vault).told.count(told.kind)

    def gone(self, vault: str, why: str) -> None:
        """Note that a vault's daemon did not answer; its last state stays, and grows old."""
        record = self._record(vault)
        record.is_answering, record.why_gone = False, why

    def silence_s(self, record: Record) -> float:
        """Return how long ago the vault's daemon last answered, or how long it has been waited for."""
        return self._monotonic_s() - record.heard_s

    def age_s(self, record: Record) -> float:
        """Return how old the vault's newest state is, whoever sets the wall clock meanwhile."""
        return record.old_s + self.silence_s(record)

    def since_s(self, wall_ns: int) -> float:
        """Return how long ago a moment of the wall clock is."""
        return max(0.0, (self._wall_ns() - wall_ns) / NS_PER_S)

    def _record(self, vault: str) -> Record:
        if vault not in self.records:
            self.records[vault] = Record(vault, self._monotonic_s())
        return self.records[vault]
