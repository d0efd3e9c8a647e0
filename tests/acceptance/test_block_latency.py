"""Sizing for blocks: the arithmetic by hand, and the claim at 12 seconds on seeded paths."""

from __future__ import annotations

import numpy as np
import pytest

from bot.domain.units import NS_PER_S
from bot.simulation.world import World
from strategies import WhalleyWilmott
from tests.acceptance.block_latency import (
    POOL,
    QTY_BASE,
    START_PX,
    NaiveHedger,
    Outcome,
    book_greeks,
    frontier,
    hedge,
    make_chain,
    make_engine,
    make_hedger,
    make_path,
    market,
    measure,
    squared_delta_at,
)
from tests.engine.builders import T0_NS

BLOCK_S = 12.0


def outcome(squared_delta: float, cost_quote: float, trades: float = 1.0) -> Outcome:
    return Outcome(1.0, squared_delta, cost_quote, 0.0, trades, 0.0)


def test_an_outcome_beaten_at_both_or_without_trades_is_not_on_the_frontier() -> None:
    outcomes = [outcome(9.0, 0.0, trades=0.0), outcome(4.0, 10.0), outcome(5.0, 20.0), outcome(1.0, 40.0)]
    assert frontier(outcomes) == [outcome(4.0, 10.0), outcome(1.0, 40.0)]


def test_squared_delta_is_interpolated_in_logarithms_and_unknown_beyond_the_ends() -> None:
    efficient = [outcome(4.0, 10.0), outcome(1.0, 40.0)]
    assert squared_delta_at(efficient, 20.0) == pytest.approx(2.0)
    assert squared_delta_at(efficient, 10.0) == pytest.approx(4.0)
    assert squared_delta_at(efficient, 9.9) is None
    assert squared_delta_at(efficient, 40.1) is None


def test_a_path_is_seeded_and_the_book_is_a_short_straddle() -> None:
    path = make_path(3, hours=0.5, tick_s=3.0)
    assert np.array_equal(path.px, make_path(3, hours=0.5, tick_s=3.0).px)
    assert not np.array_equal(path.px, make_path(4, hours=0.5, tick_s=3.0).px)
    assert path.ts_ns[1] - path.ts_ns[0] == 3 * NS_PER_S
    delta, gamma = book_greeks(np.array([0.8 * START_PX, START_PX, 1.2 * START_PX]), np.full(3, T0_NS))
    assert delta == pytest.approx([-QTY_BASE, 0.0, QTY_BASE], abs=2.0)
    assert gamma[1] < -1.0


def test_without_a_hedge_the_residual_is_the_books_own_delta() -> None:
    path = make_path(1, hours=0.5, tick_s=3.0)
    never = NaiveHedger(WhalleyWilmott(risk_aversion_per_quote=1e-12))
    squared, cost, figures = hedge(path, BLOCK_S, never)
    assert squared == pytest.approx(float(np.mean(path.delta_base[200:] ** 2)))
    assert (cost, figures.fills) == (0.0, 0)


def test_every_rule_hedges_and_the_same_run_gives_the_same_figures() -> None:
    path = make_path(2, hours=0.4, tick_s=3.0)
    own = float(np.mean(path.delta_base[200:] ** 2))
    for rule in ("aware", "naive", "centre"):
        runs = [hedge(path, BLOCK_S, make_hedger(rule, WhalleyWilmott(risk_aversion_per_quote=1.0))) for _ in range(2)]
        assert runs[0] == runs[1]
        assert runs[0][0] < 0.5 * own
        assert runs[0][2].fills >= 1
    assert POOL.lot_size == 0.01


def test_the_engines_ledger_agrees_with_the_chain() -> None:
    path = make_path(5, hours=0.5, tick_s=3.0)
    chain = make_chain(path, BLOCK_S)
    engine = make_engine(WhalleyWilmott(risk_aversion_per_quote=1.0))
    world = World(market(path), chain)
    while (step := world.step()) is not None:
        now_ns, events = step
        for event in events:
            engine.apply(event)
        for command in engine.decide(now_ns):
            world.submit(command, now_ns)
    holding = engine.desks["ETH"].hedge
    assert chain.figures.fills >= 3
    assert not engine.orders.live
    assert {POOL.instrument_id: holding.lots} == chain.positions
    assert holding.cash_settle == pytest.approx(chain.cash_settle["USD"], rel=1e-12)
    engine.close_steps(int(path.ts_ns[-1]))
    assert engine.pnl().gas == pytest.approx(-chain.figures.gas_quote, rel=1e-12)
    assert engine.pnl().total == pytest.approx(engine.pnl_total_quote(), abs=1e-6)


def test_at_twelve_seconds_the_aware_rule_leaves_less_at_equal_cost() -> None:
    paths = [make_path(seed, hours=1.5, tick_s=6.0) for seed in (1, 2)]
    aware = measure("aware", BLOCK_S, paths, (5e-2, 5e-1))
    others = {rule: measure(rule, BLOCK_S, paths, (1e-5, 1e-4, 1e-3, 1e-2)) for rule in ("naive", "centre")}
    shares: dict[str, list[float]] = {rule: [] for rule in others}
    for rule, found in others.items():
        for one in frontier(aware):
            other = squared_delta_at(frontier(found), one.cost_quote)
            if other is not None:
                shares[rule].append(one.squared_delta / other)
    assert min(len(found) for found in shares.values()) >= 1
    assert max(shares["naive"]) < 0.3
    assert max(shares["centre"]) < 0.8
