"""How often somebody may try a password: ever more rarely, per user and per address. Pure; time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

FREE: Final = 3  # failures before the first wait
FIRST_WAIT_S: Final = 1.0
MAX_USER_WAIT_S: Final = 60.0  # not longer: else anybody could lock anybody out
MAX_ADDRESS_WAIT_S: Final = 900.0
FORGET_S: Final = 3600.0
MAX_KEPT: Final = 4_000


class _Tries:
    __slots__ = ("last_s", "until_s", "wrong")

    def __init__(self) -> None:
        self.wrong = 0
        self.until_s = 0.0
        self.last_s = 0.0


class Attempts:
    """Counts attempts. Each counts as wrong from its beginning, so that many at once are no way around."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], _Tries] = OrderedDict()
        self.refused = 0

    def begin(self, user: str, address: str, now_s: float) -> float:
        """Return 0 if an attempt may be made now, which it then is; else the seconds to wait."""
        both = ((("user", user), MAX_USER_WAIT_S), (("address", network(address)), MAX_ADDRESS_WAIT_S))
        wait_s = max(kept.until_s - now_s if (kept := self._kept.get(key)) else 0.0 for key, _ in both)
        if wait_s > 0:  # costs nothing, and so must not be remembered in place of what does
            self.refused += 1
            return wait_s
        for key, longest_s in both:
            tries = self._of(key, now_s)
            tries.wrong += 1
            tries.last_s = now_s
            over = tries.wrong - FREE
            if over >= 0:
                tries.until_s = now_s + min(FIRST_WAIT_S * 2.0 ** min(over, 30), longest_s)
        return 0.0

    def succeed(self, user: str, address: str) -> None:
        """Forget the user's failures. The address keeps its own, else one account would open the way to all others."""
        self._kept.pop(("user", user), None)
        if tries := self._kept.get(("address", network(address))):
            tries.wrong = max(tries.wrong - 1, 0)
            tries.until_s = 0.0 if tries.wrong < FREE else tries.until_s

    def _of(self, key: tuple[str, str], now_s: float) -> _Tries:
        tries = self._kept.get(key)
        if tries is None or now_s - tries.last_s > FORGET_S:
            tries = self._kept[key] = _Tries()
            tries.last_s = now_s
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return tries


def network(address: str) -> str:
    """Return what is counted as one address: of IPv6 the first 64 bits, which one subscriber has all of."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return parsed.exploded[:19]
    return str(parsed)
