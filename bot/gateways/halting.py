"""Cancel everything on one venue, from a process of its own, while the daemon may be frozen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import ccxt
import msgspec

from bot.domain.errors import ConfigError, EvenkeelError
from bot.domain.events import Event
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.markets import Markets
from bot.gateways.order_desk import OrderDesk
from bot.gateways.outcomes import text_of
from bot.gateways.venue_words import order_words_of

_ROUNDS = 3  # an order that was on its way when the first round listed them is caught by the next


class HaltOutcome(msgspec.Struct, frozen=True):
    """What a halt did on one venue: venue order ids canceled, and what failed, in words. Clear if nothing is left."""

    venue: str
    canceled: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def is_clear(self) -> bool:
        """Tell whether the venue was seen without open orders of the wanted underlyings."""
        return not self.failed


class _WallClock:
    def now_ns(self) -> int:
        """Return the time now."""
        return time.time_ns()


async def halt_venue(settings: VenueSettings, credentials: Credentials, deadline_s: float) -> HaltOutcome:
    """Cancel every open order on the wanted underlyings within `deadline_s`, and look again until there are none.

    Raises ConfigError for settings ccxt does not know; whatever else goes wrong is in the outcome.
    """
    exchange = open_exchange(settings, credentials)
    canceled: list[str] = []
    failed: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(deadline_s):
            markets = await Markets.load(exchange, settings.venue, settings.underlyings)
            words = order_words_of(exchange.id)
            desk = OrderDesk(exchange, markets, words, _WallClock(), settings, _drop, "")
            for _ in range(_ROUNDS):
                done = await desk.cancel_everything()
                canceled += done.canceled
                failed = done.failed
                if not done.canceled and not done.failed:
                    break
            else:
                failed = failed or ("orders kept appearing: is the daemon still running?",)
    except TimeoutError:
        failed = (*failed, f"not finished within {deadline_s:g} s")
    except ConfigError:
        raise
    except (ccxt.BaseError, EvenkeelError) as error:
        failed = (*failed, text_of(error))
    finally:
        await exchange.close()
    return HaltOutcome(settings.venue, tuple(dict.fromkeys(canceled)), failed)


def _drop(_events: Sequence[Event]) -> None:
    """Nobody listens to a desk that only cancels."""
