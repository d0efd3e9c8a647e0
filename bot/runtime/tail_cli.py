"""`evenkeel tail`: the life of vaults, event by event, read from their journals; no daemon is asked."""

from __future__ import annotations

LOOK_EVERY_S = 0.25
AT_ONCE = 1_000  # events of a vault before others have their turn
NEWEST = 20  # events shown of the past unless told otherwise
