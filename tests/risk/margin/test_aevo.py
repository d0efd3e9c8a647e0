"""Aevo: Deribit's rule with its own maintenance."""

from __future__ import annotations

import pytest

from bot.risk.book import OPTION, PERPETUAL, Position, build_book
from bot.risk.margin.aevo import requirement
from tests.risk.margin.cases import parameters

P = parameters("aevo")


def option(qty: float, *, is_call: bool, strike: float, mark: float) -> Position:
    return Position(
        kind=OPTION,
        underlying="ETH",
        qty_base=qty,
        strike_px=strike,
        tau_years=0.1,
        vol=0.6,
        is_call=is_call,
        mark_px=mark,
    )


def test_sold_options_and_perpetuals() -> None:
    spot = {"ETH": 2_000.0}
    call = requirement(build_book([option(-1.0, is_call=True, strike=2_050.0, mark=60.0)], spot), P)
    assert (call.initial, call.maintenance) == pytest.approx((250.0 + 60.0, 200.0 + 60.0))
    put = requirement(build_book([option(-1.0, is_call=False, strike=1_000.0, mark=1.0)], spot), P)
    assert (put.initial, put.maintenance) == pytest.approx((201.0, 201.0))
    assert requirement(build_book([option(1.0, is_call=True, strike=2_050.0, mark=60.0)], spot), P).initial == 0.0
    perpetual = Position(kind=PERPETUAL, underlying="ETH", qty_base=3.0, buy_base=1.0)
    found = requirement(build_book([perpetual], spot), P)
    assert (found.initial, found.maintenance) == pytest.approx((8_000.0 * 0.05, 6_000.0 * 0.03))
