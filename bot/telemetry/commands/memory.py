"""Which commands were taken already: bounded, each issuer in a share of its own, so that none can crowd another out."""

from __future__ import annotations

from collections import Counter
from typing import Final

from bot.domain.commands import MAX_LIFE_S, CommandBody
from bot.domain.units import NS_PER_S

MAX_PER_ISSUER: Final = 1_000
KEPT_NS: Final = round(2 * MAX_LIFE_S * NS_PER_S)  # beyond its expiry, for clocks that are set back


class Memory:
    """Ids of commands until they have long expired."""

    def __init__(self, max_per_issuer: int = MAX_PER_ISSUER) -> None:
        self._max_per_issuer = max_per_issuer
        self._taken: dict[str, tuple[str, int]] = {}  # by id: issuer and expiry
        self._counts: Counter[str] = Counter()

    def __contains__(self, command_id: object) -> bool:
        return command_id in self._taken

    def __len__(self) -> int:
        return len(self._taken)

    def has_room(self, issuer: str, now_ns: int) -> bool:
        """Tell whether one more command of `issuer` could be remembered."""
        if self._counts[issuer] >= self._max_per_issuer:
            self.forget(now_ns)
        return self._counts[issuer] < self._max_per_issuer

    def note(self, command_id: str, issuer: str, expires_ns: int) -> None:
        """Remember a command; whoever must not forget asks `has_room` first."""
        if command_id not in self._taken:
            self._taken[command_id] = (issuer, expires_ns)
            self._counts[issuer] += 1

    def forget(self, now_ns: int) -> None:
        """Forget what expired so long ago that no clock could make it good again."""
        for command_id in [one for one, (_, expires_ns) in self._taken.items() if expires_ns + KEPT_NS < now_ns]:
            issuer, _ = self._taken.pop(command_id)
            self._counts[issuer] -= 1

    def lines(self) -> list[tuple[str, str, int]]:
        """Return id, issuer and expiry of every command remembered."""
        return [(command_id, issuer, expires_ns) for command_id, (issuer, expires_ns) in self._taken.items()]


def is_worth_answering(body: CommandBody, now_ns: int) -> bool:
    """Tell whether anybody can still be waiting; what is older is not remembered either, and so never answered."""
    return now_ns < body.expires_ns + round(MAX_LIFE_S * NS_PER_S)
