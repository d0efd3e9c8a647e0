"""The heatmap against repricing one corner at a time."""

from __future__ import annotations

import numpy as np
import pytest

from bot.pricing.black76 import greeks
from bot.risk.book import OPTION, PERPETUAL, Position, RiskBook, build_book
from bot.risk.heatmap import heatmap
from bot.risk.margin.registry import evaluate
from bot.risk.requirement import Requirement
from bot.risk.scenarios import VolShock
from tests.risk.legs import values_of

SHOCK = VolShock(short_power=0.3, long_power=0.13)
MOVES, VOLS, HOURS = (-0.2, 0.0, 0.15), (-0.25, 0.0, 0.5), (0.0, 24.0, 24.0 * 12)
SPOT_PX = 60_000.0


def option(qty: float, strike: float, days: float, *, call: bool) -> Position:
    return Position(
        kind=OPTION, underlying="BTC", qty_base=qty, strike_px=strike, tau_years=days / 365, vol=0.5, is_call=call
    )


POSITIONS = [
    option(-3.0, 66_000.0, 10.0, call=True),
    option(2.0, 54_000.0, 60.0, call=False),
    Position(kind=PERPETUAL, underlying="BTC", qty_base=1.5, instrument_id="P"),
]
BOOK = build_book(POSITIONS, {"BTC": SPOT_PX})


def one_corner(move: float, vol: float, hours: float) -> float:
    total = 1.5 * SPOT_PX * move
    for one in POSITIONS[:2]:
        days = one.tau_years * 365
        shocked = 0.5 * (1 + vol * (30 / days) ** (0.3 if days < 30 else 0.13))
        tau = max(one.tau_years - hours / 8_760, 0.0)
        after = greeks(SPOT_PX * (1 + move), one.strike_px, tau, shocked, one.is_call).value
        total += one.qty_base * float(after - greeks(SPOT_PX, one.strike_px, one.tau_years, 0.5, one.is_call).value)
    return total


def test_every_corner_is_what_repricing_it_alone_gives() -> None:
    found = heatmap(BOOK, MOVES, VOLS, HOURS, SHOCK)
    slow = [[[one_corner(move, vol, hours) for move in MOVES] for vol in VOLS] for hours in HOURS]
    assert found.pnl == pytest.approx(np.array(slow), rel=1e-9, abs=1e-6)
    assert found.pnl[0, 1, 1] == pytest.approx(0.0, abs=1e-6)
    assert found.worst[3] == pytest.approx(np.min(slow))
    assert one_corner(found.worst[2], found.worst[1], found.worst[0]) == pytest.approx(found.worst[3])
    assert found.maintenance.size == 0


def test_greeks_of_a_corner_are_slopes_of_the_map() -> None:
    step = 1e-4
    found = heatmap(BOOK, (0.15 - step, 0.15, 0.15 + step), (0.5,), (24.0,), SHOCK)
    slope = (found.pnl[0, 0, 2] - found.pnl[0, 0, 0]) / (2 * step)  # by spot as it is now
    assert found.delta[0, 0, 1] == pytest.approx(slope * 1.15, rel=1e-4)
    bend = (found.pnl[0, 0, 2] - 2 * found.pnl[0, 0, 1] + found.pnl[0, 0, 0]) / step**2
    assert found.gamma[0, 0, 1] == pytest.approx(bend * 1.15**2 * 0.01, rel=1e-2)
    later = heatmap(BOOK, (0.15,), (0.5,), (24.0, 24.5), SHOCK)
    assert later.theta[0, 0, 0] == pytest.approx((later.pnl[1, 0, 0] - later.pnl[0, 0, 0]) * 48, rel=0.05)


def test_vega_of_a_corner_is_the_slope_by_vol() -> None:
    a_month = build_book([option(-2.0, 66_000.0, 30.0, call=True)], {"BTC": SPOT_PX})  # where shares of vol count once
    found = heatmap(a_month, (0.1,), (0.2 - 1e-4, 0.2, 0.2 + 1e-4), (0.0,), SHOCK)
    slope = (found.pnl[0, 2, 0] - found.pnl[0, 0, 0]) / (2e-4 * 0.5)  # by 1.00 of vol, of which 0.5 is now
    assert found.vega[0, 1, 0] == pytest.approx(slope * 0.01, rel=1e-5)
    assert found.vega[0, 1, 0] < 0.0


def test_margin_of_a_corner_is_the_models_own_answer() -> None:
    values = values_of("house-2026-11-26")

    def ask(book: RiskBook) -> Requirement:
        return evaluate("house", book, values)

    found = heatmap(BOOK, (-0.2, 0.0), (0.0, 0.5), (0.0, 24.0), SHOCK, ask)
    assert found.maintenance.shape == (2, 2, 2)
    assert found.initial[0, 0, 1] == pytest.approx(ask(BOOK).initial)
    crashed = [
        Position(
            kind=one.kind, underlying="BTC", qty_base=one.qty_base, strike_px=one.strike_px, is_call=one.is_call,
            tau_years=one.tau_years - 1 / 365,
            vol=one.vol * (1 + 0.5 * (30 / (one.tau_years * 365)) ** (0.3 if one.tau_years * 365 < 30 else 0.13)),
        )
        for one in POSITIONS[:2]
    ]  # fmt: skip
    there = build_book([*crashed, POSITIONS[2]], {"BTC": 48_000.0})
    assert found.maintenance[1, 1, 0] == pytest.approx(ask(there).maintenance, rel=1e-9)


def test_a_book_without_options_is_a_line() -> None:
    linear = build_book([POSITIONS[2]], {"BTC": SPOT_PX})
    found = heatmap(linear, (-0.5, 0.5), (0.0, 1.0), (0.0,), SHOCK)
    assert found.pnl[0].tolist() == [[-45_000.0, 45_000.0]] * 2
    assert found.worst == (0.0, 0.0, -0.5, -45_000.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="moves above -100 %"):
        heatmap(BOOK, (-1.0, 0.0), VOLS, HOURS, SHOCK)
    with pytest.raises(ValueError, match="vols and hours"):
        heatmap(BOOK, MOVES, (), HOURS, SHOCK)
