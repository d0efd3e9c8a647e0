"""Charts of replays: the same axes for all, nothing lost of the figures, and in words what they show."""

from __future__ import annotations

import json

from msgspec.structs import replace

from bot.domain.results import HedgeMark, RunSeries
from bot.domain.units import NS_PER_S
from bot.telemetry.dashboard.shown.curves import curves
from bot.telemetry.tracks import track_of
from tests.telemetry.dashboard.replayed import run


def test_without_runs_there_are_no_charts() -> None:
    assert curves(()) == {}


def test_all_share_the_axis_of_time_and_that_of_net_delta() -> None:
    wide = run("unhedged", -50.0)
    wide = replace(wide, track=replace(wide.track, pnl_ms=[0, 1_000, 9_000], net_delta_base=[0.0, 68.2, -3.0]))
    shown = curves([run("impulse", 100.0), wide])
    assert (shown["from_ms"], shown["to_ms"], shown["unit"]) == (0, 9_000, "ETH")
    assert (shown["low"], shown["high"]) == (-5.0, 70.0)
    assert [one["caption"] for one in shown["deltas"]] == ["impulse", "unhedged"]
    assert shown["deltas"][1]["net"] == [0.0, 68.2, -3.0]
    assert shown["deltas"][0]["at"] == [0, 1, 2]


def test_hedges_are_drawn_where_net_delta_was_and_counted() -> None:
    busy = run("impulse", 100.0)
    (shown,) = curves([replace(busy, track=replace(busy.track, fills=900))])["deltas"]
    assert shown["hedges"] == [[1, -1, 2.0], [2, 1, -1.0]]
    assert shown["note"] == "900 fills of hedges, 2 of them drawn"


def test_what_holds_has_no_band_and_says_so() -> None:
    idle = run("unhedged", -50.0)
    track = replace(idle.track, low_base=[None] * 3, high_base=[None] * 3, hedge_ms=[], hedge_qty_base=[], fills=0)
    (shown,) = curves([replace(idle, track=replace(track, hedge_delta_base=[]))])["deltas"]
    assert shown["note"] == "no hedges, no band"
    assert "Net delta of unhedged over time" in shown["told"]


def test_the_book_left_unhedged_is_drawn_once() -> None:
    names = [one["name"] for one in curves([run("impulse", 100.0)])["pnl"]["lines"]]
    assert names == ["impulse", "the book left unhedged"]
    both = curves([run("impulse", 100.0), run("unhedged", -50.0)])["pnl"]
    assert [one["name"] for one in both["lines"]] == ["impulse", "unhedged"]
    assert len({tuple(one["dash"]) for one in both["lines"]}) == 2  # told apart without colours
    assert "impulse ends at +100.00 after at worst 0.00" in both["told"]


def test_runs_without_a_single_decision_have_no_charts() -> None:
    empty = run("impulse", 0.0)
    assert curves([replace(empty, track=replace(empty.track, pnl_ms=[], pnl_quote=[]))]) == {}


def test_what_a_browser_is_sent_is_bounded_however_long_the_runs() -> None:
    points = 20_000
    wild = [(-1.2345678 if place % 2 else 1.2345678) * place for place in range(points)]
    hedges = [HedgeMark(place * NS_PER_S, "o", "ETH-PERPETUAL", 0.123456789, 1.0, 1.0, "") for place in range(points)]
    times_ns = [place * NS_PER_S for place in range(points)]
    long = track_of(RunSeries(times_ns, wild, wild, wild, wild, wild, wild, hedges, []), "ETH")
    shown = curves([replace(run(f"policy {place}", 1.0), track=long) for place in range(6)])
    assert len(json.dumps(shown, separators=(",", ":"))) < 250_000
