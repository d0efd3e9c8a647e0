"""Reactive against predictive margin: the arrays say what account, model and formula say one by one, and who wins."""

from __future__ import annotations

from math import exp

import msgspec
import numpy as np
import pytest

from bot.risk.book import OPTION, PERPETUAL, Floats, Position, build_book
from bot.risk.margin.registry import evaluate
from bot.risk.predictive import LookAhead, TargetRule, look_ahead_by_repricing, set_target
from bot.simulation.margin_account import LiquidationRule, MarginAccount
from bot.simulation.predictive_run import (
    UNIT_PX,
    Delays,
    Forecast,
    MarginPolicy,
    MarginTable,
    Outcome,
    Setting,
    _Accounts,
    _Paths,
    fit_forecast,
    match_base,
    perpetual_table,
    run_policies,
    tabulate,
)
from bot.simulation.stressed_paths import STEP_MINUTES, WORLDS, draw_returns
from tests.risk.legs import values_of

CROSS = values_of("paradex_cross-2026-11-26")
PORTFOLIO = values_of("paradex_portfolio-2026-11-26")
MMF = 0.01 + CROSS["fee_rate"]
CALM = Forecast(half_lives_hours=(4.0, 64.0), weights=(0.5, 0.5), variance=0.0, quantile=1.4, reference_vol=0.6)
AT_ONCE = Setting(warm_days=0.0, delays=Delays(median_minutes=30.0, p95_minutes=30.0))


def short_put(age: float, vol: float) -> list[Position]:
    put = Position(
        kind=OPTION, underlying="BTC", qty_base=-1.0, strike_px=46_000.0, tau_years=(14.0 - age) / 365.0, vol=vol
    )
    return [put]


@pytest.fixture(scope="module")
def perpetual() -> MarginTable:
    return perpetual_table("paradex_cross", CROSS)


@pytest.fixture(scope="module")
def put() -> MarginTable:
    axes = (np.array([0.0, 7.0]), np.linspace(-0.2, 0.2, 33), np.array([0.5, 0.6]))
    return tabulate(short_put, "paradex_portfolio", PORTFOLIO, *axes)


class TestTables:
    @pytest.mark.parametrize("move", [-0.4, -0.01, 0.0, 0.3])
    def test_a_perpetual_is_its_closed_form(self, perpetual: MarginTable, move: float) -> None:
        (value,), (margin,) = perpetual(3.3, np.array([move]), np.array([0.7]))
        assert (value, margin) == (pytest.approx(1.0 + move), pytest.approx(MMF * (1.0 + move)))

    @pytest.mark.parametrize(("age", "move", "vol"), [(0.0, -0.1, 0.6), (7.0, 0.05, 0.5), (0.0, -0.055, 0.6)])
    def test_an_option_is_what_the_model_says(self, put: MarginTable, age: float, move: float, vol: float) -> None:
        book = build_book(short_put(age, vol), {"BTC": UNIT_PX * (1.0 + move)})
        (value,), (margin,) = put(age, np.array([move]), np.array([vol]))
        assert value * UNIT_PX == pytest.approx(-book.mark_px[0], rel=5e-3)
        asked = evaluate("paradex_portfolio", book, PORTFOLIO).maintenance
        assert margin * UNIT_PX == pytest.approx(asked, rel=5e-3)

    def test_beyond_the_table_is_its_edge(self, put: MarginTable) -> None:
        far, edge = (put(0.0, np.array([move]), np.array([vol])) for move, vol in ((-0.9, 9.0), (-0.2, 0.6)))
        assert far.tolist() == edge.tolist()


def liquidations(table: MarginTable, path: Floats, policy: MarginPolicy, setting: Setting = AT_ONCE) -> int:
    (found,) = run_policies(path[:, None], table, np.ones(1), [policy], CALM, setting, seed=1)
    return found.liquidations


NEVER = MarginPolicy(name="never tops up", base_ratio=4.0, trigger=1e-9, sweep=1e9)


def test_an_account_is_liquidated_at_the_step_at_which_one_with_the_model_itself_is(perpetual: MarginTable) -> None:
    path = np.random.default_rng(11).normal(-1e-3, 2e-3, 60)
    book = build_book([Position(kind=PERPETUAL, underlying="BTC", qty_base=1.0)], {"BTC": UNIT_PX})
    single = MarginAccount(book, 1e6, "paradex_cross", CROSS, LiquidationRule())
    single.mark(exp(path[0]) - 1.0)
    single.equity_quote = 4.0 * single.maintenance_quote  # as the policy opens it after the first step
    died = next(step for step, moved in enumerate(path[1:], 1) if single.mark(exp(moved) - 1.0) is not None)
    assert 5 < died < 50
    assert liquidations(perpetual, path[:died], NEVER) == 0
    assert liquidations(perpetual, path[: died + 1], NEVER) == 1


def test_a_topup_helps_only_if_there_was_time_for_it(perpetual: MarginTable) -> None:
    tops_up = MarginPolicy(name="tops up", base_ratio=4.0, trigger=0.8)
    slow = np.full(30, -0.003)
    assert liquidations(perpetual, slow, NEVER) == 1
    assert liquidations(perpetual, slow, tops_up) == 0
    quick = np.concatenate((np.zeros(3), np.full(4, -0.011), np.zeros(20)))
    assert liquidations(perpetual, quick, tops_up) == 1


def test_extremes_within_a_step_count(perpetual: MarginTable) -> None:
    still = np.zeros((4, 1))
    dip = np.zeros((4, 1))
    dip[2] = -0.05
    policies = [MarginPolicy(name="x", base_ratio=4.0, trigger=0.8)]
    for sides, died in ((np.ones(1), 1), (-np.ones(1), 0)):
        (found,) = run_policies(still, perpetual, sides, policies, CALM, AT_ONCE, 1, extremes=(dip, 0.0 * dip))
        assert found.liquidations == died


@pytest.mark.parametrize("scales", ["ratio", "buffer"])
@pytest.mark.parametrize("uses_forecast", [True, False])
def test_what_is_needed_is_the_formula_of_predictive_margin(put: MarginTable, scales: str, uses_forecast: bool) -> None:
    policy = MarginPolicy(
        name="p", base_ratio=1.3, trigger=0.8, is_predictive=True, scales_buffer=scales == "buffer",
        uses_forecast=uses_forecast,
    )  # fmt: skip
    world = _Paths(put, 2, CALM, AT_ONCE)
    accounts = _Accounts([policy], 2, CALM, AT_ONCE, seed=1)
    for moved in np.random.default_rng(4).normal(0.0, 0.004, (20, 2)):
        world.advance(moved, moved**2, [])
    found = accounts._need(world)[0]
    age = 20 * STEP_MINUTES / 1440
    for path in range(2):
        vol = float(world.vol[path]) if uses_forecast else CALM.reference_vol
        implied = 1.05 * np.sqrt(world._averages.now[-2:].mean(axis=0)[path] * 525_600 / 5)
        there, here = float(world._log_move[path]), float(world._value[path])

        def health(moves: Floats, _factor: float) -> tuple[Floats, Floats]:
            spot = exp(there) * (1.0 + moves) - 1.0  # noqa: B023
            value, margin = put(age, spot, np.full(len(moves), implied))  # noqa: B023
            return value - here, margin  # noqa: B023

        target = set_target(vol, CALM.reference_vol, rule=TargetRule(base_ratio=1.3, scales=scales)).ratio  # type: ignore[arg-type]
        delay = AT_ONCE.delays.p95_minutes / 525_600
        # The middle of the three points never decides here: both bad moves need more than none.
        outlook = look_ahead_by_repricing(health, vol, delay, target, rule=LookAhead(least_vol=0.0))
        assert found[path] == pytest.approx(outlook.topup_quote, rel=1e-9)


class TestForecast:
    def test_of_constant_vol_it_is_that_vol(self) -> None:
        returns = np.random.default_rng(1).normal(0.0, 1e-3, (3_000, 4))
        found = fit_forecast(returns**2, 5.0, 120.0)
        annual = 1e-3 * np.sqrt(525_600 / 5)
        assert found.reference_vol / found.quantile == pytest.approx(annual, rel=0.03)
        assert found.quantile == pytest.approx(np.sqrt(36.4 / 24), rel=0.05)  # the 95 % quantile of chi-square of 24

    def test_clusters_are_followed_better_than_by_a_constant(self) -> None:
        returns = draw_returns(WORLDS[1], 8, 6, 9)
        squares = returns**2
        found = fit_forecast(squares[: 4 * 288], 5.0, 120.0)
        world = _Paths(_flat(), 8, found, Setting())
        seen, said = [], []
        for step in range(len(returns) - 24):
            world.advance(returns[step], squares[step], [])
            if step > 4 * 288 and step % 24 == 0:
                said.append((world.vol / found.quantile) ** 2 * 5 / 525_600)
                seen.append(squares[step + 1 : step + 25].mean(axis=0))
        ratio = np.array(seen) / np.array(said)
        constant = np.array(seen) / np.mean(seen)
        assert np.mean(ratio - np.log(ratio)) < 0.9 * np.mean(constant - np.log(constant)) + 0.1 * 1.0


def _flat() -> MarginTable:
    return MarginTable(np.array([0.0, 7.0]), np.array([-0.9, 9.0]), np.array([0.1, 9.0]), np.ones((2, 2, 2, 2)))


def test_collateral_is_matched_between_outcomes() -> None:
    def outcome(base: float, collateral: float) -> Outcome:
        return Outcome(
            policy=msgspec.structs.replace(NEVER, base_ratio=base), liquidations=3, account_years=1.5,
            mean_collateral=collateral, lost=0.0, topups_per_day=0.0, share_over_80=0.0,
        )  # fmt: skip

    known = [outcome(2.0, 0.05), outcome(1.0, 0.03)]
    assert known[0].per_year == 2.0
    assert match_base(known, 0.035) == pytest.approx(1.25)
    with pytest.raises(ValueError, match=r"around a collateral of 0.0600, found 0.0300 to 0.0500"):
        match_base(known, 0.06)


def test_predictive_margin_is_liquidated_less_than_half_as_often_with_no_more_collateral(
    perpetual: MarginTable,
) -> None:
    """A small part of `scripts/bench liquidations`, on a seed of its own."""
    returns = draw_returns(WORLDS[0], 32, 4, seed=77)
    forecast = fit_forecast(draw_returns(WORLDS[0], 12, 8, seed=78) ** 2, STEP_MINUTES, 120.0)
    sides = np.where(np.arange(32) % 2, 1.0, -1.0)
    policies = [
        MarginPolicy(name="predictive", base_ratio=1.15, trigger=0.8, is_predictive=True),
        *(MarginPolicy(name="reactive", base_ratio=base, trigger=0.8) for base in (2.6, 2.8, 3.0, 3.2)),
    ]
    predictive, *reactive = run_policies(returns, perpetual, sides, policies, forecast, Setting(warm_days=0.5), seed=5)
    richer = next(one for one in reactive if one.mean_collateral >= predictive.mean_collateral)
    assert richer.liquidations >= 6
    assert 2 * predictive.liquidations <= richer.liquidations
