"""The requests a venue allows us: a token bucket whose last share only cancels may spend.

A free budget never delays anything: taking is one subtraction. It must never queue orders, because an order that waits
is an order decided on old prices; who gets no token is told, and decides.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from bot.domain.units import NS_PER_S

_QUERY_SHARE: Final = 0.3  # of the budget, kept for orders and cancels when queries would take it all
_FIRST_BACKOFF_NS: Final = NS_PER_S // 2
_LONGEST_BACKOFF_NS: Final = 60 * NS_PER_S


class Need(IntEnum):
    """What a request is for; a higher need may spend what a lower one may not."""

    QUERY = 0
    ORDER = 1
    CANCEL = 2


class Budget:
    """Requests per second with a burst; `cancel_share` of the burst is kept for cancels. Time is told, never asked."""

    def __init__(self, requests_per_s: float, burst_requests: int, cancel_share: float) -> None:
        self._rate = requests_per_s
        self._burst = float(burst_requests)
        most = self._burst - 1.0  # a full bucket serves everybody, however small it is
        cancel = min(most, self._burst * cancel_share)
        query = min(most, cancel + self._burst * _QUERY_SHARE)
        self._floor = {Need.CANCEL: 0.0, Need.ORDER: cancel, Need.QUERY: query}
        self._tokens = self._burst
        self._filled_ns = 0
        self._closed_until_ns = dict.fromkeys(Need, 0)
        self._refusals = 0

    def take(self, need: Need, now_ns: int) -> bool:
        """Spend one request if there is one to spend for this need."""
        if self.wait_ns(need, now_ns) > 0:
            return False
        self._tokens -= 1.0
        return True

    def wait_ns(self, need: Need, now_ns: int) -> int:
        """Return how long until a request of this need could be sent, 0 for now."""
        self._fill(now_ns)
        missing = self._floor[need] + 1.0 - self._tokens
        refill_ns = int(missing / self._rate * NS_PER_S) + 1 if missing > 1e-9 else 0
        return max(refill_ns, self._closed_until_ns[need] - now_ns, 0)

    def back_off(self, now_ns: int, retry_after_ns: int = 0, *, is_ban: bool = False) -> None:
        """Send nothing for a while because the venue said so: longer each time it says it, at least what it asked.

        Cancels keep their share unless it is a ban, or the venue named a time.
        """
        self._refusals += 1
        doubled_ns = min(_FIRST_BACKOFF_NS << min(self._refusals - 1, 10), _LONGEST_BACKOFF_NS)
        until_ns = now_ns + max(doubled_ns, retry_after_ns)
        for need in (Need.QUERY, Need.ORDER):
            self._closed_until_ns[need] = max(self._closed_until_ns[need], until_ns)
        cancel_ns = until_ns if is_ban or retry_after_ns else now_ns + _FIRST_BACKOFF_NS // 2
        self._closed_until_ns[Need.CANCEL] = max(self._closed_until_ns[Need.CANCEL], cancel_ns)

    def succeed(self) -> None:
        """Note that the venue answered properly: the next refusal starts from the shortest wait again."""
        self._refusals = 0

    def _fill(self, now_ns: int) -> None:
        if self._filled_ns:
            gained = max(0, now_ns - self._filled_ns) / NS_PER_S * self._rate
            self._tokens = min(self._burst, self._tokens + gained)
        self._filled_ns = max(now_ns, self._filled_ns)
