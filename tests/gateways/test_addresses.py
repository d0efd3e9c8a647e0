from __future__ import annotations

import socket

import aiohttp
import pytest

from bot.gateways.addresses import masked, why_failed

KEY = "s3cr3tk3y0123456789"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://mainnet.example.org/v3/{KEY}", "https://mainnet.example.org/***"),
        (f"https://user:{KEY}@example.org:8545", "https://example.org:8545/***"),
        (f"wss://example.org/?key={KEY}", "wss://example.org/***"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("http://127.0.0.1:8545/", "http://127.0.0.1:8545"),
        (f"{KEY}", "***"),
        (f"http://[{KEY}", "***"),
        (f"http://host:{KEY}/", "***"),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_key(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(f"https://example.org/{KEY}"), "no answer within 2.5 s"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (OSError(f"https://example.org/{KEY}"), "OSError"),
        (aiohttp.ServerDisconnectedError(f"https://example.org/{KEY}"), "ServerDisconnectedError"),
    ],
)
def test_why_a_connection_failed_is_told_without_its_address(error: BaseException, told: str) -> None:
    assert why_failed(error, 2.5) == told


async def test_one_that_nobody_takes_is_told_without_its_path() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError) as refused:
                await session.get(f"http://127.0.0.1:{nobody.getsockname()[1]}/{KEY}")
    assert why_failed(refused.value, 1.0).startswith("Connect call failed")
    assert KEY not in why_failed(refused.value, 1.0)
