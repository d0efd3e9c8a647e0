"""What the vault page draws: points and hedges of the mirror, the minutes of the chart as a table."""

from __future__ import annotations

from typing import Any

from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.domain.windows import Told
from bot.telemetry.dashboard.history import ExposurePoint, Ring
from bot.telemetry.dashboard.pages.vault import hedge_ticks, new_ticks, point_of, points_table
from bot.telemetry.dashboard.parts.plot import HedgeTick
from tests.telemetry.dashboard.sheets import rows
from tests.telemetry.states import NOW_NS, UNDERLYING


def filled(number: int, instrument_id: str, qty_lots: int, what: str = "filled", run_id: str = "r") -> Told:
    fields: dict[str, Any] = {"what": what, "instrument_id": instrument_id, "qty_lots": qty_lots}
    return Told("v", run_id, number, number, NOW_NS + number * NS_PER_S, "fill", "o", "", fields)


def test_fills_of_this_underlyings_hedges_are_ticks() -> None:
    events = [
        filled(1, "ETH-PERPETUAL", 5),
        filled(2, "BTC-PERPETUAL", 5),
        filled(3, "ETH-PERPETUAL", -5),
        filled(4, "ETH-PERPETUAL", 5, "reversed"),
    ]
    at_ms = NOW_NS // 1_000_000
    assert hedge_ticks(events, UNDERLYING) == [HedgeTick(at_ms + 1_000, 1), HedgeTick(at_ms + 3_000, -1)]


def test_hedges_of_the_run_before_are_none_of_this_one_and_hide_none_of_it() -> None:
    before = [filled(number, "ETH-PERPETUAL", 5) for number in (7, 8)]
    ticks, told = new_ticks(before, UNDERLYING, "r", 0)
    assert (len(ticks), told) == (2, 8)
    assert new_ticks(before, UNDERLYING, "r", told) == ([], 8)
    assert new_ticks(before, UNDERLYING, "next", 0) == ([], 0)  # its state came before its first event
    after = [*before, filled(1, "ETH-PERPETUAL", -5, run_id="next")]
    assert new_ticks(after, UNDERLYING, "next", 0) == ([HedgeTick(NOW_NS // 1_000_000 + 1_000, -1)], 1)
    assert new_ticks(after, UNDERLYING, "r", 8) == ([], 8)  # its first event came before its state


def test_points_are_in_milliseconds_and_the_table_has_the_newest_of_each_minute() -> None:
    ring = Ring()
    start_ns = NOW_NS // NS_PER_MIN * NS_PER_MIN
    for second in range(150):
        ring.add(ExposurePoint(start_ns + second * NS_PER_S, second, second, -1.0, None, 0.0, 3.0, 1_900.0))
    point = point_of(ring.points()[0])
    assert (point.at_ms, point.low_base, point.band_high_base) == (start_ns // 1_000_000, 0, None)
    shown = points_table("ETH", ring)
    assert [line[1] for line in rows(shown)] == ["+149.000", "+119.000", "+59.000"]
    assert rows(shown)[0][4] == "–"
    assert shown["is_folded"]
    assert points_table("ETH", None)["rows"] == {}
