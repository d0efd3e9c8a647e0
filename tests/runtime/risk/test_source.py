"""Where risk looks: the moment asked for, and nothing that came after it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.runtime.cli.quote import parse_time
from bot.runtime.risk.source import NowhereError, find_snapshot
from strategies import DeltaBand
from tests.acceptance.vaults import load

NOON_NS = parse_time("2023-04-13T12:00")
HOUR_NS = 3_600 * 10**9


def test_without_a_moment_it_is_the_end_of_the_recording_and_nothing_is_hedged(tmp_path: Path) -> None:
    vault = load("eth-straddle-margin").model_copy(update={"state_dir": str(tmp_path)})
    found = find_snapshot(vault)
    assert not found.is_past
    assert found.snapshot.source.startswith(
        "the book of the file, without hedges, at the marks of recording eth-2023-04"
    )
    assert {one.instrument_id for one in found.snapshot.positions} == {"ETH-28APR23-1900-C", "ETH-28APR23-1900-P"}


def test_a_moment_knows_nothing_of_what_came_after_it() -> None:
    vault = load("eth-straddle-margin")
    found = find_snapshot(vault, at_ns=NOON_NS).snapshot
    assert NOON_NS - 120 * 10**9 < found.now_ns <= NOON_NS
    assert max(at_ns for at_ns, _ in found.realised_vols["ETH"]) <= found.now_ns
    (hour, day, week) = found.forecasts["ETH"]
    assert [round(one.horizon_years * 8_760) for one in (hour, day, week)] == [1, 24, 168]
    assert all(one.ts_ns == found.now_ns for one in (hour, day, week))
    assert found.breakers == ()


def test_a_replay_up_to_a_moment_holds_the_hedges_of_it() -> None:
    vault = load("eth-straddle-margin").model_copy(update={"policy": DeltaBand(half_width_base=0.3)})
    start_ns = parse_time("2023-04-12T10:42")
    seen: list[int] = []
    found = find_snapshot(vault, at_ns=start_ns + HOUR_NS // 10, is_replayed=True, progress=seen.append).snapshot
    assert "hedged from its start" in found.source
    assert any(one.instrument_id == "ETH-PERPETUAL" and one.qty_base for one in found.positions)
    assert seen == sorted(seen)


def test_what_has_no_moment_is_refused(tmp_path: Path) -> None:
    vault = load("eth-straddle-margin")
    with pytest.raises(ConfigError, match="--at: expected a time from 2023-04-12"):
        find_snapshot(vault, at_ns=NOON_NS + 100 * 24 * HOUR_NS)
    with pytest.raises(ConfigError, match="--journal: expected none with --at or --replay"):
        find_snapshot(vault, at_ns=NOON_NS, journal=tmp_path / "a.sqlite")
    live = vault.model_copy(update={"feed": "live", "state_dir": str(tmp_path)})
    with pytest.raises(ConfigError, match="--at: expected none with a live feed"):
        find_snapshot(live, at_ns=NOON_NS)
    with pytest.raises(NowhereError, match="is not running and has no journal"):
        find_snapshot(live)


def test_a_book_that_has_expired_by_then_is_said() -> None:
    vault = load("eth-near-expiry")
    with pytest.raises(ConfigError, match="found all of it expired"):
        find_snapshot(vault, at_ns=parse_time("2023-04-14T11:00"))


def test_forecasts_stay_what_they_are_whatever_the_marks_do() -> None:
    one = find_snapshot(load("eth-straddle-margin"), at_ns=NOON_NS).snapshot
    other = find_snapshot(load("eth-straddle"), at_ns=NOON_NS).snapshot
    assert msgspec.json.encode(one.forecasts) == msgspec.json.encode(other.forecasts)
