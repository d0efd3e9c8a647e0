"""Tracks: bounded however long the run, with every extreme, and gaps left open."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from bot.domain.results import HedgeMark, RunSeries, TracedRun
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.telemetry.tracks import DELTA_BUCKETS, MOST_HEDGES, PNL_BUCKETS, traced, track_of
from tests.telemetry.dashboard.replayed import summary

NAN, INF = math.nan, math.inf


def hedge(second: int, qty_base: float = 1.0) -> HedgeMark:
    return HedgeMark(second * NS_PER_S, f"o-{second}", "ETH-PERPETUAL", qty_base, 1_900.0, 0.5, "band left")


def series(points: int, **changes: Any) -> RunSeries:
    """Return a run of a point a second whose P&L is the place, and net delta nothing."""
    plain = RunSeries(
        ts_ns=[place * NS_PER_S for place in range(points)],
        spot_px=[1_900.0] * points,
        net_delta_base=[0.0] * points,
        low_base=[-1.0] * points,
        high_base=[1.0] * points,
        pnl_quote=[float(place) for place in range(points)],
        unhedged_pnl_quote=[-1.0] * points,
        hedges=[],
        gaps_ns=[],
    )
    return RunSeries(**{**msgspec.structs.asdict(plain), **changes})


def test_a_short_run_stays_whole() -> None:
    track = track_of(series(3, hedges=[hedge(2, -0.5)], net_delta_base=[0.1, 0.2, 0.3]), "ETH")
    assert track.pnl_ms == track.delta_ms == [0, 1_000, 2_000]
    assert track.pnl_quote == [0.0, 1.0, 2.0]
    assert track.net_delta_base == [0.1, 0.2, 0.3]
    assert (track.hedge_ms, track.hedge_qty_base, track.hedge_delta_base) == ([2_000], [-0.5], [0.2])
    assert (track.underlying, track.fills) == ("ETH", 1)


def test_a_long_run_is_bounded_and_keeps_its_spikes() -> None:
    points = 60_000
    net, pnl = [0.0] * points, [0.0] * points
    net[31_337], pnl[12_345] = -7.0, 99.0
    hedges = [hedge(second) for second in range(0, points, 10)]
    track = track_of(series(points, net_delta_base=net, pnl_quote=pnl, hedges=hedges), "ETH")
    assert len(track.pnl_ms) == len(track.pnl_quote) == len(track.unhedged_pnl_quote) <= 6 * PNL_BUCKETS
    assert len(track.delta_ms) == len(track.low_base) == len(track.high_base) <= 8 * DELTA_BUCKETS
    assert min(value for value in track.net_delta_base if value is not None) == -7.0
    assert max(value for value in track.pnl_quote if value is not None) == 99.0
    assert len(track.hedge_ms) == len(track.hedge_delta_base) == MOST_HEDGES
    assert (track.hedge_ms[0], track.hedge_ms[-1]) == (0, hedges[-1].ts_ns // NS_PER_MS)
    assert track.fills == len(hedges)
    assert len(msgspec.json.encode(track)) < 40_000


def test_what_is_no_number_is_none_and_a_gap_is_open() -> None:
    gap = (1_500_000_000, 2_500_000_000)
    track = track_of(series(4, low_base=[-INF, NAN, -1.0, -1.0], gaps_ns=[gap]), "ETH")
    assert track.delta_ms == [0, 1_000, 1_500, 2_000, 3_000]
    assert track.low_base == [None, None, None, -1.0, -1.0]
    assert track.pnl_quote == [0.0, 1.0, None, 2.0, 3.0]


def test_a_run_without_a_decision_has_an_empty_track() -> None:
    track = track_of(series(0), "ETH")
    assert (track.pnl_ms, track.delta_ms, track.hedge_ms, track.fills) == ([], [], [], 0)


@pytest.mark.parametrize("points", [0, 500])
def test_a_traced_run_is_its_summary_with_a_track_and_survives_json(points: int) -> None:
    run = traced(summary("impulse", 12.0), series(points), "ETH")
    again = msgspec.json.decode(msgspec.json.encode(run), type=TracedRun)
    assert again == run
    assert again.cost_quote == summary("impulse", 12.0).cost_quote
