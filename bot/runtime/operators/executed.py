"""Which commands were executed: each id once, also after a restart, and remembered no longer than one can come again.

An id is forgotten when both clocks are past twice the life of a command: the engine's, which a rehearsal may rush
through or leave standing, and this machine's. What a journal holds counts as executed when it was read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import NamedTuple

from bot.domain.commands import MAX_LIFE_S
from bot.domain.units import NS_PER_S

KEPT_NS = round(2 * MAX_LIFE_S * NS_PER_S)
MAX_ID_LENGTH = 100


class _Times(NamedTuple):
    engine_ns: int
    own_ns: int


class ExecutedCommands:
    """The ids of the commands that were executed lately, oldest first."""

    def __init__(self, own_ns: Callable[[], int] = monotonic_ns) -> None:
        self._own_ns = own_ns
        self._seen: OrderedDict[str, _Times] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def learn(self, command_ids: Iterable[str], engine_ns: int) -> None:
        """Take in ids that a journal holds, from any time before now."""
        own_ns = self._own_ns()
        for command_id in command_ids:
            if command_id:
                self._seen[command_id] = _Times(engine_ns, own_ns)

    def claim(self, command_id: str, engine_ns: int) -> str:
        """Take an id for a command about to be executed; return why it must not be, "" if it may.

        Without an id, as from a person at this machine, a command is new.
        """
        if not command_id:
            return ""
        if len(command_id) > MAX_ID_LENGTH:
            return f"expected a command id of at most {MAX_ID_LENGTH} characters, found {len(command_id)}"
        own_ns = self._own_ns()
        while self._seen:
            first = next(iter(self._seen))
            oldest = self._seen[first]
            if own_ns - oldest.own_ns <= KEPT_NS or engine_ns - oldest.engine_ns <= KEPT_NS:
                break
            del self._seen[first]
        if command_id in self._seen:
            return f"command {command_id} was executed before"
        self._seen[command_id] = _Times(engine_ns, own_ns)
        return ""
