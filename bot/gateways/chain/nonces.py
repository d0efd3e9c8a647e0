"""Which nonce the next transaction takes: counted here, as one process owns the key, and corrected by the chain.

A nonce is never handed out twice while a transaction of ours may use it. Asking the chain before every send instead
gives the same nonce to everything sent within one block.
"""

from __future__ import annotations

from collections.abc import Collection

from bot.domain.errors import InvariantBroken


class Nonces:
    """The counter of one address on one chain."""

    def __init__(self) -> None:
        self._next = 0
        self._free: set[int] = set()

    @property
    def next(self) -> int:
        """The nonce that `reserve` would give now."""
        return min(self._free, default=self._next)

    def reserve(self) -> int:
        """Give out the lowest nonce that nothing of ours uses."""
        if self._free:
            nonce = min(self._free)
            self._free.remove(nonce)
            return nonce
        self._next += 1
        return self._next - 1

    def release(self, nonce: int) -> None:
        """Take back a nonce that was given out and never left this process signed, or that no node took."""
        if nonce >= self._next or nonce in self._free:
            raise InvariantBroken(f"expected a nonce that was given out, found {nonce}; the next one is {self._next}")
        self._free.add(nonce)
        self._shrink()

    def reconcile(self, latest: int, pending: int, ours: Collection[int]) -> None:
        """Take in the chain's counts (mined, and with its pool) and the nonces of ours that are still to be mined.

        A pool that holds more than ours says that somebody else has the key: those nonces are left to him.
        """
        self._next = max([latest, pending, *(nonce + 1 for nonce in ours)])
        # what lies between and is nobody's would hold up everything above it
        self._free = {nonce for nonce in range(latest, self._next) if nonce >= pending and nonce not in ours}
        self._shrink()

    def mined(self, latest: int) -> None:
        """Take in that the chain has mined all below `latest`, whosever they were."""
        self._next = max(self._next, latest)
        self._free = {nonce for nonce in self._free if nonce >= latest}

    def gaps(self) -> tuple[int, ...]:
        """Return the free nonces below one that is in use: nothing above them can be mined before they are filled."""
        return tuple(sorted(self._free))

    def take(self, nonce: int) -> None:
        """Give out this very nonce, one of the `gaps`."""
        if nonce not in self._free:
            raise InvariantBroken(f"expected a free nonce, found {nonce}; free are {sorted(self._free)}")
        self._free.remove(nonce)

    def _shrink(self) -> None:
        while self._next - 1 in self._free:
            self._next -= 1
            self._free.remove(self._next)
