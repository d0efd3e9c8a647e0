"""What the doctor says a venue can do, checked against the real ccxt classes."""

from __future__ import annotations

import ccxt.pro
import pytest

from bot.gateways.capabilities import capabilities


def table(exchange_id: str) -> dict[str, str]:
    return {row.what: row.how for row in capabilities(getattr(ccxt.pro, exchange_id)())}


def test_deribit_streams_everything_but_positions() -> None:
    rows = table("deribit")
    assert [rows[what] for what in ("quotes", "option vols", "index", "own orders", "own trades")] == ["stream"] * 5
    assert (rows["positions"], rows["whole option chain"], rows["amend"], rows["post-only"]) == (
        "poll",
        "poll",
        "yes",
        "yes",
    )


@pytest.mark.parametrize(
    ("exchange_id", "what", "how"),
    [
        ("binanceusdm", "index", "stream"),
        ("binanceusdm", "option vols", "none"),
        ("binanceusdm", "dead man's switch", "yes"),
        ("hyperliquid", "option vols", "none"),
        ("hyperliquid", "cancel all", "none"),
        ("okx", "option vols", "poll"),
        ("okx", "index", "poll"),
        ("bybit", "option vols", "stream"),
        ("derive", "option vols", "stream"),
        ("derive", "whole option chain", "none"),
        ("derive", "dead man's switch", "none"),
        ("dydx", "amend", "emulated"),
    ],
)
def test_what_a_venue_has(exchange_id: str, what: str, how: str) -> None:
    assert table(exchange_id)[what] == how


@pytest.mark.parametrize("exchange_id", ccxt.pro.exchanges)
def test_every_exchange_of_ccxt_has_its_table(exchange_id: str) -> None:
    rows = capabilities(getattr(ccxt.pro, exchange_id)())
    assert len(rows) == len({row.what for row in rows})
    assert all(row.how in {"stream", "poll", "yes", "emulated", "none"} for row in rows)


def test_what_follows_is_said() -> None:
    notes = {row.what: row.note for row in capabilities(ccxt.pro.derive())}
    assert notes["whole option chain"] == "neighbouring strikes are not seen"
    assert notes["dead man's switch"] == "resting orders are short-lived instead"
    assert "10 to 120 s" in {row.what: row.note for row in capabilities(ccxt.pro.okx())}["dead man's switch"]
    assert "never used" in {row.what: row.note for row in capabilities(ccxt.pro.dydx())}["amend"]
