"""One look at a venue for `doctor`: can it be reached, does its clock agree with ours, what may our keys do.

Must never trade, change anything at the venue, or let a key or a signature into a text.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

import aiohttp
import ccxt.pro
import msgspec

from bot.domain.errors import Retryable, VenueFatal
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.account_check import AccountCheck, check_account
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.outcomes import text_of
from bot.gateways.venue_words import order_words_of

QUERY: Final = re.compile(r"\?\S*")
LOOKS: Final = 3  # the quickest of so many answers tells the skew best
MAX_SAID: Final = 400


class VenueProbe(msgspec.Struct, frozen=True, kw_only=True):
    """What one look found: a problem is "" if there is none, a permission None where the venue does not say.

    `skew_ns` is the venue's clock ahead of ours, None where it does not tell its time.
    """

    unreachable: str = ""
    skew_ns: int | None = None
    refused: str = ""
    may_trade: bool | None = None
    may_withdraw: bool | None = None


async def probe(settings: VenueSettings, credentials: Credentials, now_ns: Callable[[], int]) -> VenueProbe:
    """Ask a venue for its time and, with keys, for what they may do. Raises ConfigError for an unknown exchange."""
    exchange = open_exchange(settings, credentials)
    timeout_s = settings.timeout_ns / NS_PER_S
    skew_ns: int | None = None
    try:
        try:
            async with asyncio.timeout(timeout_s):
                skew_ns = await _skew_ns(exchange, now_ns)
        except (ccxt.pro.BaseError, aiohttp.ClientError, TimeoutError, OSError) as error:
            return VenueProbe(unreachable=_said(error, credentials))
        if credentials.are_empty:
            return VenueProbe(skew_ns=skew_ns)
        try:
            async with asyncio.timeout(timeout_s):
                check = await _check_keys(exchange, settings)
        except (ccxt.pro.BaseError, VenueFatal, Retryable, aiohttp.ClientError, TimeoutError, OSError) as error:
            return VenueProbe(skew_ns=skew_ns, refused=_said(error, credentials))
        return VenueProbe(skew_ns=skew_ns, may_trade=check.can_trade, may_withdraw=check.can_withdraw)
    finally:
        await exchange.close()


async def _skew_ns(exchange: ccxt.pro.Exchange, now_ns: Callable[[], int]) -> int | None:
    if not exchange.has.get("fetchTime"):
        await exchange.fetch_markets()  # nothing to compare, but somebody answered
        return None
    looks = [await _look_at_clock(exchange, now_ns) for _ in range(LOOKS)]
    return min(looks)[1]


async def _look_at_clock(exchange: ccxt.pro.Exchange, now_ns: Callable[[], int]) -> tuple[int, int]:
    """Return how long the venue took to tell its time, and how far it is ahead of ours."""
    before_ns = now_ns()
    server_ms = await exchange.fetch_time()
    after_ns = now_ns()
    return after_ns - before_ns, int(server_ms) * NS_PER_MS - (before_ns + after_ns) // 2


async def _check_keys(exchange: ccxt.pro.Exchange, settings: VenueSettings) -> AccountCheck:
    return await check_account(exchange, order_words_of(exchange.id), settings.max_clock_skew_ns)


def _said(error: BaseException, credentials: Credentials) -> str:
    """Return an error in one line, without what was signed and without any key."""
    text = QUERY.sub("?…", str(error) if isinstance(error, VenueFatal | Retryable) else text_of(error, MAX_SAID))
    for key in msgspec.structs.astuple(credentials):
        if key:
            text = text.replace(key, "***")
    return text[:MAX_SAID]
