"""Book depth behind the touch, as measured on recorded order books. Must never hold a price, only distances to one."""

from __future__ import annotations

import msgspec


class DepthLevel(msgspec.Struct, frozen=True, gc=False):
    """One bucket of resting volume: its own quote notional (not cumulative), this far from the touch, away from mid."""

    offset_bps: float
    notional_quote: float


class DepthProfile(msgspec.Struct, frozen=True):
    """The levels behind the touch of either side, nearest first; empty means that only the touch can be traded."""

    levels: tuple[DepthLevel, ...] = ()
