"""How a ccxt exchange is made: options passed through, credentials in, its throttler out, secrets never shown."""

from __future__ import annotations

import ssl

import pytest

from bot.domain.errors import ConfigError
from bot.domain.units import NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange


def settings(exchange_id: str = "deribit", **options: object) -> VenueSettings:
    return VenueSettings(venue="deribit", exchange_id=exchange_id, underlyings=frozenset({"ETH"}), options=options)


async def test_options_reach_the_constructor_and_the_throttler_is_off() -> None:
    exchange = open_exchange(settings(urls={"api": {"rest": "http://127.0.0.1:1"}}), Credentials())
    assert exchange.urls["api"]["rest"] == "http://127.0.0.1:1"
    assert exchange.urls["api"]["ws"].startswith("wss://")
    assert exchange.enableRateLimit is False
    assert exchange.timeout == 5_000
    await exchange.close()


async def test_nobody_can_switch_the_throttler_back_on() -> None:
    exchange = open_exchange(settings(enableRateLimit=True), Credentials())
    assert exchange.enableRateLimit is False
    await exchange.close()


async def test_nor_make_ccxt_print_what_it_signs() -> None:
    exchange = open_exchange(settings(verbose=True), Credentials(api_key="hunter2"))
    assert exchange.verbose is False
    await exchange.close()


async def test_the_sandbox_swaps_the_addresses() -> None:
    exchange = open_exchange(settings(sandbox=True), Credentials())
    assert exchange.urls["api"]["rest"] == exchange.urls["test"]["rest"]
    await exchange.close()


async def test_credentials_are_put_in_and_never_shown() -> None:
    credentials = Credentials(api_key="the-key", secret="the-secret")
    exchange = open_exchange(settings(), credentials)
    assert (exchange.apiKey, exchange.secret) == ("the-key", "the-secret")
    assert repr(credentials) == "Credentials(api_key=***, secret=***)"
    assert str(credentials) == repr(credentials)
    assert Credentials().are_empty
    assert not credentials.are_empty
    await exchange.close()


@pytest.mark.parametrize("name", ["deribitt", "Exchange", "exchanges", "__name__"])
def test_an_unknown_exchange_is_one_clear_line(name: str) -> None:
    with pytest.raises(ConfigError, match=f"expected an exchange that ccxt can stream, found '{name}'; hint"):
        open_exchange(settings(name), Credentials())


def test_a_timeout_is_a_venue_setting() -> None:
    assert VenueSettings(venue="a", exchange_id="deribit", underlyings=frozenset()).timeout_ns == 5 * NS_PER_S


async def test_certificates_are_read_once_and_checked_unless_that_is_switched_off() -> None:
    one, other = open_exchange(settings(), Credentials()), open_exchange(settings("bybit"), Credentials())
    assert one.ssl_context is other.ssl_context
    assert one.ssl_context.verify_mode is ssl.CERT_REQUIRED
    assert one.ssl_context.check_hostname
    blind = open_exchange(settings(verify=False), Credentials())
    assert blind.ssl_context is None  # ccxt's own affair
    for exchange in (one, other, blind):
        await exchange.close()
