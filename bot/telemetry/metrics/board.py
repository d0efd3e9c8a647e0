"""What is known of each vault now: its newest state, when it was heard of, what was told, refused and alerted.

The board is all that metrics and health are read from. Taking something in is a dictionary write and never raises.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from bot.domain.units import NS_PER_S
from bot.domain.windows import Alert, CommandAnswer, Told, VaultState

UNKNOWN_VAULT = "unknown"  # what a forged command names may be anything; as a label it is this
MAX_WORDS = 50  # different reasons, kinds and actions that are counted apart
OTHER = "other"
MAX_WORD = 60  # characters


class Record:
    """One vault as the windows know it. `heard_s` is of the monotonic clock: the last answer, or our own start."""

    def __init__(self, vault: str, heard_s: float) -> None:
        self.vault = vault
        self.state: VaultState | None = None
        self.heard_s = heard_s
        self.is_answering = False
        self.why_gone = "it has not answered yet"
        self.told = Tally()
        self.ordered: dict[str, Tally] = {"done": Tally(), "refused": Tally()}
        self.refused = Tally()
        self.alerts: tuple[Alert, ...] = ()


class Tally(Counter[str]):
    """Counts words, so few of them that no stranger can make it grow."""

    def count(self, word: str) -> None:
        """Count a word, under `other` where there are too many different ones already."""
        word = word[:MAX_WORD]
        self[word if word in self or len(self) < MAX_WORDS else OTHER] += 1


class Board:
    """The newest of every vault; those named at the start are expected to be there."""

    def __init__(
        self,
        vaults: Iterable[str],
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic_s = monotonic_s
        self._wall_ns = wall_ns
        self.records = {vault: Record(vault, monotonic_s()) for vault in vaults}
        self.strange = Tally()  # commands refused that name no vault of ours

    def show(self, state: VaultState) -> None:
        """Take in a vault's newest state."""
        record = self._record(state.vault)
        record.state, record.heard_s, record.is_answering, record.why_gone = state, self._monotonic_s(), True, ""

    def tell(self, told: Told) -> None:
        """Count an event."""
        self._record(told.vault).told.count(told.kind)

    def gone(self, vault: str, why: str) -> None:
        """Note that a vault's daemon did not answer; its last state stays, and grows old."""
        record = self._record(vault)
        record.is_answering, record.why_gone = False, why

    def answered(self, answer: CommandAnswer) -> None:
        """Count a command that the daemon was given, by what came of it."""
        self._record(answer.vault).ordered["done" if answer.is_done else "refused"].count(answer.action)

    def refused(self, vault: str, reason: str) -> None:
        """Count a command that was refused before any daemon saw it, by a word that says why."""
        known = self.records.get(vault)
        (known.refused if known is not None else self.strange).count(reason)

    def alert(self, vault: str, alerts: Sequence[Alert]) -> None:
        """Take in which alerts of a vault are open now."""
        self._record(vault).alerts = tuple(alerts)

    def silence_s(self, record: Record) -> float:
        """Return how long ago the vault's daemon last answered, or how long it has been waited for."""
        return self._monotonic_s() - record.heard_s

    def age_s(self, state: VaultState) -> float:
        """Return how old a state is by the wall clock."""
        return max(0.0, (self._wall_ns() - state.taken_ns) / NS_PER_S)

    def _record(self, vault: str) -> Record:
        if vault not in self.records:
            self.records[vault] = Record(vault, self._monotonic_s())
        return self.records[vault]
