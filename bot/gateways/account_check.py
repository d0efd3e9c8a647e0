"""Whether an account can be traded on at all: the key, what it may do, and how far our clock is from the venue's."""

from __future__ import annotations

from typing import Final

import ccxt.pro
import msgspec

from bot.domain.errors import Retryable, VenueFatal
from bot.domain.units import NS_PER_MS
from bot.gateways.market_words import number
from bot.gateways.order_words import OrderWords, Permissions
from bot.gateways.outcomes import Outcome, text_of

_TIMES: Final = 3  # the quickest of so many answers tells the skew best


class AccountCheck(msgspec.Struct, frozen=True):
    """What a venue says about a key: None where it does not say. `clock_skew_ms` is our clock ahead of the venue's."""

    can_trade: bool | None
    can_withdraw: bool | None
    clock_skew_ms: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know though it does not stop anything."""
        if self.can_withdraw:
            return ("the key may withdraw: expected trading only; hint: make a key without withdrawals",)
        return ()


async def check_account(
    exchange: ccxt.pro.Exchange, words: OrderWords, max_clock_skew_ns: int = 500 * NS_PER_MS
) -> AccountCheck:
    """Return what the venue says about the key.

    Raises VenueFatal, in one line, for a bad key, a key that may not trade, or a skewed clock; Retryable if the venue
    cannot be asked.
    """
    try:
        skew_ms = await _clock_skew_ms(exchange)
        if abs(skew_ms) > max_clock_skew_ns / NS_PER_MS:
            raise VenueFatal(skew_text(exchange.id, skew_ms, max_clock_skew_ns))
        permissions: Permissions = await words.permissions(exchange)
    except ccxt.BaseError as error:
        if words.outcome_of(error) is Outcome.FATAL:
            hint = "hint: check the key, its permissions and its list of addresses"
            raise VenueFatal(f"{exchange.id}: expected a key that may trade, found {text_of(error)}; {hint}") from error
        raise Retryable(f"{exchange.id}: the account cannot be checked now, {text_of(error)}") from error
    if permissions.can_trade is False:
        raise VenueFatal(f"{exchange.id}: expected a key that may trade, found one that may not; hint: allow trading")
    return AccountCheck(permissions.can_trade, permissions.can_withdraw, skew_ms)


async def _clock_skew_ms(exchange: ccxt.pro.Exchange) -> float:
    """Return how far our clock is ahead of the venue's: its time against the middle of the quickest exchange."""
    if not exchange.has.get("fetchTime"):
        return 0.0
    return min([await measure_skew(exchange) for _ in range(_TIMES)])[1]


async def measure_skew(exchange: ccxt.pro.Exchange) -> tuple[float, float]:
    """Ask for the venue's time once; return how long that took and how far our clock is ahead, both in ms."""
    before_ms = exchange.milliseconds()
    venue_ms = number(await exchange.fetch_time())
    after_ms = exchange.milliseconds()
    if venue_ms is None:
        raise ccxt.BadResponse(f"{exchange.id}: expected the venue's time, found none")
    return after_ms - before_ms, (before_ms + after_ms) / 2 - venue_ms


def skew_text(exchange_id: str, skew_ms: float, max_clock_skew_ns: int) -> str:
    """Return what is wrong with a clock, in one line."""
    way = "ahead" if skew_ms > 0 else "behind"
    return (
        f"{exchange_id}: expected our clock within {max_clock_skew_ns // NS_PER_MS} ms of the venue's, found it "
        f"{abs(skew_ms):.0f} ms {way}; hint: synchronise it (NTP)"
    )
