"""OKX's margin through the real ccxt: of the account, by currency, and what its position builder says."""

from __future__ import annotations

from typing import Any

import ccxt
import pytest

from bot.domain.risk import ReportedMargin, SupposedPosition
from bot.gateways.okx.margin import contracts_of, read_margins
from bot.gateways.okx.orders import OkxOrderWords
from tests.gateways.answering import answering

LINEAR: dict[str, Any] = {"inverse": False, "option": False, "spot": False}
MARKETS: list[dict[str, Any]] = [
    {"id": "BTC-USDT-SWAP", "symbol": "BTC/USDT:USDT", "contractSize": 0.01, **LINEAR},
    {"id": "LTC-USDT-SWAP", "symbol": "LTC/USDT:USDT", "contractSize": 1.0, **LINEAR},
]
# The documented example of the position builder, of 2025-01-15, cut to what is read.
UNITS = [
    {"riskUnit": "BTC", "imr": "1538.9669514070802", "mmr": "1183.8207318516002", "mr1": "1164.4109244719994",
     "mr2": "0", "mr4": "19.4098073796", "mr6": "1164.4109244720003", "mr7": "43.67206660410001", "mr9": "0"},
    {"riskUnit": "LTC", "imr": "249.16186679436", "mmr": "191.6629744572", "mr1": "183.50672805719995", "mr9": "0"},
]  # fmt: skip
BUILT = {
    "code": "0",
    "msg": "",
    "data": [
        {
            "eq": "-78553.21888979999",
            "totalImr": "9643.45070718144",
            "totalMmr": "2946.5480841048",
            "riskUnitData": UNITS,
        }
    ],
}


def balance(**account: Any) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": [{"details": [], "totalEq": "1", "uTime": "1700000000000", **account}]}


async def test_margin_of_the_account_comes_with_its_balances() -> None:
    detail = {"ccy": "USDT", "eq": "1000", "availEq": "900", "cashBal": "1000"}
    told = balance(adjEq="950.5", imr="100", mmr="40.25", details=[detail])
    async with answering("okx", {"account/balance": told}) as (exchange, venue):
        equity, margins = await OkxOrderWords().fetch_account(exchange)
    assert equity == {"USDT": 1_000.0}
    assert margins == (ReportedMargin("", 950.5, 100.0, 40.25),)
    assert len(venue.asked) == 1


def test_an_account_with_the_margin_of_single_currencies_is_told_by_currency_in_usd() -> None:
    btc = {"ccy": "BTC", "eq": "2", "eqUsd": "200000", "imr": "0.1", "mmr": "0.04"}
    idle = {"ccy": "OKB", "eq": "0", "eqUsd": "0", "imr": "", "mmr": ""}
    silent = {"ccy": "USDC", "eq": "5", "eqUsd": "5", "imr": "", "mmr": ""}
    told = balance(adjEq="", imr="", mmr="", details=[btc, idle, silent])
    assert read_margins(told) == (ReportedMargin("BTC", 200_000.0, 10_000.0, 4_000.0),)
    assert read_margins({"data": []}) == read_margins(None) == ()


async def test_the_position_builder_is_told_contracts_and_tells_every_part() -> None:
    async with answering("okx", {"account/position-builder": BUILT}, MARKETS) as (exchange, venue):
        changes = [
            ("BTC/USDT:USDT", SupposedPosition("BTC-USDT-SWAP", -0.1, 100_000.0)),
            ("LTC/USDT:USDT", SupposedPosition("LTC-USDT-SWAP", 10.0, 8_000.0)),
        ]
        found = await OkxOrderWords().suppose(exchange, changes)
    assert found is not None
    assert found.margins == (ReportedMargin("", -78553.21888979999, 9643.45070718144, 2946.5480841048),)
    assert found.items_quote["BTC mr4"] == 19.4098073796
    assert found.items_quote["LTC imr"] == 249.16186679436
    (path, _, body) = venue.asked[-1]
    assert path == "/api/v5/account/position-builder"
    assert body["inclRealPosAndEq"] is True
    assert body["simPos"] == [
        {"instId": "BTC-USDT-SWAP", "pos": "-10", "avgPx": "100000"},
        {"instId": "LTC-USDT-SWAP", "pos": "10", "avgPx": "8000"},
    ]


async def test_an_answer_without_sums_is_refused() -> None:
    empty = {"code": "0", "msg": "", "data": []}
    async with answering("okx", {"account/position-builder": empty}, MARKETS) as (exchange, _):
        with pytest.raises(ccxt.BadResponse, match="expected a built portfolio"):
            await OkxOrderWords().suppose(exchange, [])


def test_contracts_of_linear_inverse_and_options() -> None:
    change = SupposedPosition("x", 2.0, 50_000.0)
    assert contracts_of({"contractSize": 0.01, "inverse": False}, change) == pytest.approx(200.0)
    assert contracts_of({"contractSize": 100.0, "inverse": True, "option": False}, change) == pytest.approx(1_000.0)
    assert contracts_of({"contractSize": 0.01, "inverse": True, "option": True}, change) == pytest.approx(200.0)
