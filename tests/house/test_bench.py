"""The benchmark measures what it says it measures; how fast anything is, is not asserted here."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import numpy as np
import pytest

from bot.pricing.implied_vol import implied_vol
from tests.chains.world import World
from tests.house.sources import ROOT
from tests.runtime.command_line import PATIENCE_S


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load("bench_speed")


def load(name: str) -> ModuleType:
    spec = spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("options", [10, 100])
def test_every_decision_sees_everything_move(bench: ModuleType, options: int) -> None:
    market = bench.SyntheticMarket(options)
    _, opening = market.opening()
    _, events = market.step()
    before = {getattr(event, "instrument_id", "index"): event for event in opening}
    assert len(market.options) == options
    assert len(before) == options + 2
    moved = [event for event in events if event != before[getattr(event, "instrument_id", "index")]]
    assert moved == events
    forwards = {
        option.expiry_ns for option in market.options if option.instrument_id in {e.instrument_id for e in events[2:]}
    }
    assert forwards == {option.expiry_ns for option in market.options}


def test_decisions_are_timed_one_by_one_and_some_hedge(bench: ModuleType) -> None:
    for venues in (1, 3):
        took_ns, hedging_ns, orders = bench.time_decisions(10, 300, venues)
        assert len(took_ns) == 300
        assert min(took_ns) > 0
        assert 0 < len(hedging_ns) < 30
        assert orders >= len(hedging_ns)


def test_hedges_are_timed_where_there_are_many_and_most_are_split(bench: ModuleType) -> None:
    _, hedging_ns, orders = bench.time_decisions(10, 100, 3, is_busy=True)
    assert 5 <= len(hedging_ns) < 50
    assert orders > 1.5 * len(hedging_ns)


def test_efficiencies_are_those_of_the_policies_named(capsys: pytest.CaptureFixture[str]) -> None:
    hedging = load("bench_hedging")
    scale = hedging.Scale(4, 4.0, 2.0)
    specs = {
        "default": "impulse:risk_aversion_per_quote={g}",
        "clock": "fixed_interval:interval_s=86400",
    }
    hedging.Bench(scale).table("Title", specs, [hedging.call(scale, 5.0, 10.0)])
    *_, row = capsys.readouterr().out.splitlines()
    name, least, default, clock = (cell.strip() for cell in row.strip("|").split("|"))
    assert name == "5 bp, gK 10"
    assert float(least) == pytest.approx(0.12, abs=0.02)
    assert 0.97 < float(default) <= 1.0
    assert float(clock) < 0.9
    assert hedging.main(["--slow"]) == 2


def test_the_chain_is_one_that_is_quoted(bench: ModuleType) -> None:
    chain = bench.quoted_chain(500)
    assert len(chain.vol) == 500
    assert set(chain.is_call.tolist()) == {True, False}
    assert chain.tau_years.min() >= 1 / 8760
    found = implied_vol(chain.price, chain.forward_px, chain.strike_px, chain.tau_years, chain.is_call)
    judged = bench.judge_vols(chain, found.vol)
    assert judged["unsolved"] == 0
    assert judged["worst_error_in_roundings"] < 10
    assert bench.judge_vols(chain, chain.vol * 1.001)["worst_error_in_roundings"] > 1e6


def test_the_long_book_is_alive_throughout(bench: ModuleType) -> None:
    manifest = bench.open_recording("eth-2023-04").manifest
    expiry_ns = {one.instrument_id: getattr(one, "expiry_ns", 0) for one in manifest.instruments}
    book = bench.book_of_recording(2.0)
    assert len({line.instrument for line in book}) == 100
    assert {line.qty_base for line in book} == {-2.0}
    assert min(expiry_ns[line.instrument] for line in book) > manifest.end_ns


def test_a_peer_that_is_not_there_is_said_to_be() -> None:
    option = (100.0, 100.0, 0.5, 0.6, True, 16.8)
    answer = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "scripts" / "bench_peers.py")],  # -S: without installed packages
        input=json.dumps([option]) + "\n", capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    offers = json.loads(answer)
    assert set(offers) == {"QuantLib", "nautilus_trader"}
    assert all(offer.startswith("unavailable: ") for offer in offers.values())


def test_spread_is_median_least_and_most(bench: ModuleType) -> None:
    assert bench.spread([3.0, 1.0, 2.04]) == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert bench.ratio([1.0, 2.0, 3.0], [4.0]) == 0.5
    assert np.isclose(bench.two_digits(0.012345), 0.012)


def test_an_unknown_benchmark_is_refused() -> None:
    run = subprocess.run([ROOT / "scripts" / "bench", "sped"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stdout == ""
    assert "sped" in run.stderr


class TestLiquidations:
    """Of reactive against predictive margin: what the tapes are cut from, and that nobody is given more collateral."""

    @pytest.fixture
    def liquidations(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        monkeypatch.syspath_prepend(ROOT / "scripts")
        return load("bench_liquidations")

    def test_recordings_are_held_a_day_from_every_hour_on_long_and_short(self, liquidations: ModuleType) -> None:
        tape = liquidations.cut_recordings()
        steps, accounts = tape.returns.shape
        assert steps == 24 * 12
        assert accounts == 4 * 26  # two recordings of 49 hours and a half, both ways
        assert sorted(set(tape.sides.tolist())) == [-1.0, 1.0]
        low, high = tape.extremes
        assert (low <= tape.returns + 1e-12).all()
        assert (high >= tape.returns - 1e-12).all()
        assert tape.returns.sum(axis=0).max() == pytest.approx(0.09, abs=0.04)  # ETH on 13 April 2023

    def test_everybody_gets_the_collateral_that_predictive_margin_holds(self, liquidations: ModuleType) -> None:
        forecast, _, tape = liquidations.draw_world(liquidations.WORLDS[0], 8)
        short = liquidations.Tape(tape.returns[:288], tape.sides)
        table = liquidations.perpetual_table("paradex_cross", liquidations.values_of("paradex_cross"))
        families = (liquidations.AT_80, *liquidations.TRIGGERS)
        setting = liquidations.DAY_LONG
        matched, _ = liquidations.match(families, short, table, "perpetual", forecast, setting)
        found = liquidations.run(short, table, matched, forecast, setting, liquidations.SEED)
        assert [one.policy.name for one in found] == [one.name for one in (*families, liquidations.PREDICTIVE)]
        for one in found:
            assert one.mean_collateral == pytest.approx(found[-1].mean_collateral, rel=0.02)

    def test_an_unknown_argument_is_refused(self, liquidations: ModuleType) -> None:
        assert liquidations.main(["--slow"]) == 2


class TestInTurns:
    """Of modes that are measured in turns: that like is held against like."""

    @pytest.fixture
    def in_turns(self) -> ModuleType:
        return load("in_turns")

    def test_each_mode_has_its_turn_at_every_stretch_and_in_every_round(self, in_turns: ModuleType) -> None:
        modes = ("shut", "open", "abused")
        passes = [in_turns.turns(modes, 4, number) for number in range(len(modes))]
        assert all(sorted(at) == sorted(modes) for at in zip(*passes, strict=True))
        for one in passes:
            assert all(sorted(one[first : first + 3]) == sorted(modes) for first in range(0, len(one), 3))

    def test_an_event_is_held_against_itself_in_another_mode(self, in_turns: ModuleType) -> None:
        shut = np.random.default_rng(5).lognormal(5.0, 1.0, (8, 50))
        passes = []
        for number in range(2):
            modes = in_turns.turns(("shut", "open"), 4, number)
            took = np.where(np.array(modes)[:, None] == "open", 1.5 * shut, shut)
            passes.append(in_turns.Pass(modes, {"wall_ns": took}))
        was, now = (in_turns.by_mode(passes, "wall_ns", mode) for mode in ("shut", "open"))
        assert (was == shut).all()
        assert (now == 1.5 * shut).all()
        assert in_turns.each(now, was, 2) == {"ratio": 1.5, "low": 1.5, "high": 1.5}
        assert in_turns.ratio(now, was, 99, 2) == {"ratio": 1.5, "low": 1.5, "high": 1.5}

    def test_an_interval_is_as_wide_as_rounds_differ(self, in_turns: ModuleType) -> None:
        base = np.ones((8, 50))
        of = base * np.repeat([1.0, 1.1, 1.2, 1.3], 2)[:, None]
        found = in_turns.ratio(of, base, 50, 2)
        assert 1.0 <= found["low"] < found["ratio"] < found["high"] <= 1.3


class TestOrders:
    """Of the order path, on the quickest venue and with a few orders only."""

    @pytest.fixture
    def orders(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        monkeypatch.syspath_prepend(ROOT / "scripts")  # where a script finds its neighbours
        loaded = load("bench_orders")
        monkeypatch.setattr(loaded, "WARM_UP", 2)
        for of_a_machine_at_rest in ("ROW_S", "LONGEST_S"):
            monkeypatch.setattr(loaded, of_a_machine_at_rest, PATIENCE_S)
        return loaded

    async def test_every_stretch_is_longer_than_the_one_within_it(self, orders: ModuleType) -> None:
        quiet, busy = await orders.measure(orders.PLACES[0], 5, on_connected=lambda: None)
        for row in (quiet, busy):
            assert row["orders"] == 5
            assert 0.0 < row["sent_ms"]["p50"] < row["received_ms"]["p50"] < row["accepted_ms"]["p50"]
            assert row["sent_ms"]["p50"] <= row["sent_ms"]["p99"] <= row["sent_ms"]["max"]
        assert quiet["quotes_per_s"] == 0
        assert busy["quotes_per_s"] > 0
        parts = quiet["of_which_p50_ms"]
        assert set(parts) == {"ours", "ccxt_signing", "ccxt_building", "aiohttp"}
        assert sum(parts.values()) == pytest.approx(quiet["sent_ms"]["p50"], abs=0.005)

    def test_each_way_is_told_apart_and_signed_for(self, orders: ModuleType) -> None:
        assert len({place.name for place in orders.PLACES}) == 4
        assert orders.origin_of({"rest": "http://127.0.0.1:8/api", "ws": "ws://127.0.0.1:8"}) == "http://127.0.0.1:8"
        assert orders.spread_ms([2_000_000] * 99 + [9_000_000]) == {"p50": 2.0, "p99": 2.07, "max": 9.0}


async def test_every_block_of_the_chain_is_timed_and_none_of_the_warm_up(world: World) -> None:
    bench_chain = load("bench_chain")
    bench_chain.WARM_UP = 2
    reads = [bench_chain.SLOT0.read(pool.address) for pool in world.pools.values()]
    before = world.anvil.block_number
    took_ns = await bench_chain.head_to_answers(world, reads, nodes=2, blocks=3)
    assert world.anvil.block_number - before == bench_chain.WARM_UP + 3
    assert len(took_ns) == 3
    assert min(took_ns) > 0
    assert bench_chain.summarise([1_000_000, 2_000_000, 3_000_000]) == {"p50_ms": 2.0, "p99_ms": 2.98}
