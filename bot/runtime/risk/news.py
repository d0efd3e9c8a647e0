"""What changed of buffers, conditions and breakers since somebody last asked, each with its reason: for the log.

Reads the engine and changes nothing there; while a journal is read again nobody asks, and nothing is told twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bot.engine.engine import Engine


class RiskNews:
    """The news of one engine, from now on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen = self._counts()

    def take(self) -> list[tuple[str, str]]:
        """Return what is new as pairs of what it is of and what it says."""
        now = self._counts()
        if now == self._seen:
            return []
        margin, board = self._engine.margin, self._engine.breakers
        conditions, buffers, breakers = (after - before for after, before in zip(now, self._seen, strict=True))
        self._seen = now
        found: list[tuple[str, str]] = []
        if margin is not None:
            found += [("conditions", line) for _, line in _newest(margin.watch.changes, conditions)]
        if margin is not None and margin.buffers is not None:
            found += [
                (f"buffer of {account}", f"{one.before_ratio:.3f} → {one.after_ratio:.3f}: {one.reason}")
                for account, one in _newest(margin.buffers.changes, buffers)
            ]
        if board is not None:
            found += [("breaker", line) for _, line in _newest(board.changes, breakers)]
        return found

    def _counts(self) -> tuple[int, int, int]:
        margin, board = self._engine.margin, self._engine.breakers
        if margin is None:
            return 0, 0, 0
        buffers = margin.buffers.change_count if margin.buffers is not None else 0
        return margin.watch.change_count, buffers, board.change_count if board is not None else 0


def _newest(changes: Sequence[Any], count: int) -> list[Any]:
    return list(changes)[-count:] if count else []
