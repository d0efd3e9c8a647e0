"""The one place where a ccxt exchange is made: options passed through, credentials put in, its own throttler out.

ccxt's throttler spaces calls evenly (51 ms a call on Deribit), which would stand between a decision and its order even
when nothing else was sent for an hour; `bot.gateways.budget` keeps the venue's limits instead.
"""

from __future__ import annotations

import ssl
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bot.domain.errors import ConfigError
from bot.domain.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    import ccxt.pro

# Left alone, ccxt signs away a fee of 0.01 % on Hyperliquid to its own builder, and names its own referrer, in the
# account's name and as soon as there are keys: this says that both are done.
QUIET_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "hyperliquid": {"builderFee": False, "approvedBuilderFee": True, "refSet": True},
}


class Credentials(msgspec.Struct, frozen=True):
    """Keys of one account; those a venue does not ask for are empty. Never printed: its `repr` is masked."""

    api_key: str = ""
    secret: str = ""
    password: str = ""
    wallet_address: str = ""
    private_key: str = ""

    def __repr__(self) -> str:
        held = ", ".join(f"{name}=***" for name in self.__struct_fields__ if getattr(self, name))
        return f"Credentials({held})"

    @property
    def are_empty(self) -> bool:
        """Tell whether there are no keys at all: the venue can then only be watched."""
        return not any(msgspec.structs.astuple(self))


class VenueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to talk to one venue. `options` goes to ccxt's constructor as it is (urls, hostname, sandbox, proxies …)."""

    venue: str
    exchange_id: str
    underlyings: frozenset[str]
    options: dict[str, Any] = {}
    timeout_ns: int = 5 * NS_PER_S
    requests_per_s: float = 10.0
    burst_requests: int = 20
    cancel_share: float = 0.2  # of the budget, kept for cancels
    account_poll_ns: int = 30 * NS_PER_S
    fills_poll_ns: int = 30 * NS_PER_S
    markets_poll_ns: int = 300 * NS_PER_S  # how long a changed contract may go unnoticed
    max_silence_ns: int = 5 * NS_PER_S  # of a stream, before it is connected anew
    absence_ns: int = 10 * NS_PER_S  # an order not found is believed never to have arrived only this long after sending
    dead_man_ns: int = 30 * NS_PER_S  # resting orders of a silent daemon are gone after this
    max_clock_skew_ns: int = 500 * NS_PER_MS


def open_exchange(settings: VenueSettings, credentials: Credentials) -> ccxt.pro.Exchange:
    """Return the ccxt exchange of a venue, unconnected. Raises ConfigError for a venue or option ccxt does not know."""
    import ccxt.pro  # noqa: PLC0415 — a second of start-up that a recording need not wait for

    from bot.gateways.outcomes import hide  # noqa: PLC0415 — as above

    factory = getattr(ccxt.pro, settings.exchange_id, None)
    if factory is None or settings.exchange_id not in ccxt.pro.exchanges:
        expected = f"venues.{settings.venue}: expected an exchange that ccxt can stream, found {settings.exchange_id!r}"
        raise ConfigError([f"{expected}; hint: `evenkeel doctor --venues` lists them"])
    hide(credentials.api_key, credentials.secret, credentials.password, credentials.private_key)
    options = dict(settings.options)
    quiet = QUIET_OPTIONS.get(settings.exchange_id, {})
    if quiet:
        options["options"] = {**dict(options.get("options", {})), **quiet}
    is_sandbox = bool(options.pop("sandbox", False))
    keys = {
        "apiKey": credentials.api_key,
        "secret": credentials.secret,
        "password": credentials.password,
        "walletAddress": credentials.wallet_address,
        "privateKey": credentials.private_key,
    }
    exchange = factory(
        {
            "timeout": settings.timeout_ns // NS_PER_MS,
            "newUpdates": True,
            **options,
            **{name: value for name, value in keys.items() if value},
            "enableRateLimit": False,
            "verbose": False,  # it would print every request, signature and key included
        }
    )
    if is_sandbox:
        exchange.set_sandbox_mode(True)
    if exchange.verify and not exchange.options.get("include_OS_certificates"):
        exchange.ssl_context = _trusting(exchange.cafile)
    return exchange


@cache
def _trusting(cafile: str) -> ssl.SSLContext:
    """Return what ccxt would make anew for every exchange, reading some hundred certificates each time."""
    return ssl.create_default_context(cafile=cafile)
