"""Repricing against Black-76 itself, position by position; sums, coin, and a matrix that is kept up to date."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.pricing.black76 import greeks
from bot.risk import repricing
from bot.risk.book import FUTURE, OPTION, PERPETUAL, SPOT, Position, RiskBook, build_book
from bot.risk.repricing import Groups, ScenarioMatrix, base_deltas, in_coin, option_values, scenario_pnl
from bot.risk.scenarios import ScenarioSet, VolShock, price_vol_grid, tails

SHOCK = VolShock(up=0.4, down=0.25, short_power=0.3, long_power=0.13, least_vol_up=0.5)
SCENARIOS = ScenarioSet(price_vol_grid(0.16, 4) + tails([-0.66, -0.33, 0.5, 1, 2, 3, 4, 5], 0.16), SHOCK)
SPOT_PX = {"BTC": 60_000.0, "ETH": 3_000.0}


def random_book(rows: int, seed: int = 7) -> RiskBook:
    rng = np.random.default_rng(seed)
    positions: list[Position] = []
    for number in range(rows):
        name = "BTC" if number % 3 else "ETH"
        spot = SPOT_PX[name]
        days = float(rng.choice([0.5, 7.0, 30.0, 180.0]))
        common: dict[str, Any] = {"underlying": name, "qty_base": float(rng.normal()), "instrument_id": str(number)}
        if number % 5 == 0:
            positions.append(Position(kind=PERPETUAL, **common))
        elif number % 5 == 1:
            forward = spot * (1.0 + days / 3650.0)
            positions.append(Position(kind=FUTURE, forward_px=forward, tau_years=days / 365.0, **common))
        else:
            positions.append(
                Position(
                    kind=OPTION,
                    strike_px=spot * float(np.exp(0.3 * rng.normal())),
                    tau_years=days / 365.0,
                    vol=float(rng.uniform(0.2, 1.5)),
                    is_call=bool(rng.integers(2)),
                    **common,
                )
            )
    return build_book(positions, SPOT_PX)


def slow_pnl(book: RiskBook, row: int, at: int) -> float:
    """One position under one scenario, in plain words."""
    scenario = SCENARIOS.scenarios[at]
    qty = float(book.qty_base[row])
    if book.kind[row] != OPTION:
        return qty * float(book.mark_px[row]) * scenario.move
    forward, strike, tau, vol = (
        float(column[row]) for column in (book.forward_px, book.strike_px, book.tau_years, book.vol)
    )
    days = max(tau * 365.0, 1.0)
    scale = (30.0 / days) ** (0.3 if tau * 365.0 < 30.0 else 0.13)
    moved = {"down": vol * (1 - 0.25 * scale), "same": vol, "up": max(vol * (1 + 0.4 * scale), 0.5)}[str(scenario.vol)]
    call = bool(book.is_call[row])
    after = greeks(forward * (1.0 + scenario.move), strike, tau, max(moved, 0.0), call).value
    return qty * float(after - greeks(forward, strike, tau, vol, call).value)


def test_every_position_under_every_scenario_is_its_black_76_difference() -> None:
    book = random_book(40)
    found = scenario_pnl(book, SCENARIOS)
    slow = [[slow_pnl(book, row, at) for row in range(len(book))] for at in range(len(SCENARIOS))]
    assert found == pytest.approx(np.array(slow), rel=1e-9, abs=1e-9)


def test_chunks_do_not_show_and_chosen_rows_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    book = random_book(60)
    whole = scenario_pnl(book, SCENARIOS)
    monkeypatch.setattr(repricing, "CELLS", 7 * len(SCENARIOS))
    assert np.array_equal(scenario_pnl(book, SCENARIOS), whole)
    rows = np.array([3, 59, 10, 5])
    assert np.array_equal(scenario_pnl(book, SCENARIOS, rows), whole[:, rows])


@settings(max_examples=40)
@given(
    st.floats(1e-3, 1e6),
    st.floats(1e-3, 1e6),
    st.floats(0.0, 5.0) | st.just(-0.01),
    st.floats(0.0, 5.0),
    st.booleans(),
)
def test_values_are_black_76_to_the_digits_at_and_after_expiry_intrinsic(
    forward: float, strike: float, tau: float, vol: float, call: bool
) -> None:
    none, first = np.zeros(1), np.zeros(1, dtype=np.int64)
    columns = np.array([forward]), np.array([strike]), np.array([tau]), np.array([call])
    found = option_values(*columns, none, np.array([[vol]]), first, first)[0, 0]
    expected = float(greeks(forward, strike, max(tau, 0.0), vol, call).value)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-13 * max(forward, strike))


def test_forwards_may_move_each_in_its_own_way() -> None:
    columns = np.array([100.0, 100.0]), np.array([90.0, 90.0]), np.array([0.0, 0.0]), np.array([True, True])
    moves = np.array([[0.0, 0.0], [0.1, 0.2]])
    which = np.array([0, 1])
    found = option_values(*columns, moves, np.array([[0.5, 0.5]]), which, np.zeros(2, dtype=np.int64))
    assert found == pytest.approx(np.array([[10.0, 10.0], [20.0, 30.0]]))


def test_deltas_are_blacks_and_coins_have_theirs() -> None:
    book = random_book(30)
    options = np.flatnonzero(book.kind == OPTION)
    expected = book.qty_base.copy()
    expected[options] *= greeks(
        book.forward_px[options], book.strike_px[options], book.tau_years[options], book.vol[options],
        book.is_call[options],
    ).delta  # fmt: skip
    assert base_deltas(book) == pytest.approx(expected, rel=1e-12)
    coins = build_book([Position(kind=SPOT, underlying="BTC", qty_base=3.0)], SPOT_PX)
    assert base_deltas(coins).tolist() == [3.0]
    assert scenario_pnl(coins, SCENARIOS)[:, 0] == pytest.approx(180_000.0 * SCENARIOS.move)


def test_in_coin_a_linear_book_loses_q_m_over_one_and_m() -> None:
    book = build_book([Position(kind=PERPETUAL, underlying="BTC", qty_base=-2.0)], SPOT_PX)
    found = in_coin(scenario_pnl(book, SCENARIOS), SPOT_PX["BTC"], SCENARIOS.move)[:, 0]
    assert found == pytest.approx(-2.0 * SCENARIOS.move / (1.0 + SCENARIOS.move))


def test_groups_hold_every_row_once_and_sum_by_underlying_and_expiry() -> None:
    book = random_book(50)
    groups = Groups(book)
    assert sorted(np.concatenate([groups.rows(group) for group in range(len(groups))]).tolist()) == list(range(50))
    for group in range(len(groups)):
        rows = groups.rows(group)
        assert set(book.underlying[rows].tolist()) == {int(groups.underlying[group])}
        tau = np.where(np.isfinite(book.tau_years[rows]), book.tau_years[rows], 0.0)
        assert set(tau.tolist()) == {float(groups.tau_years[group])}
        assert groups.sum(book.qty_base)[group] == pytest.approx(book.qty_base[rows].sum())
    assert len(Groups(book, by_expiry=False)) == 2
    nothing = Groups(build_book([], SPOT_PX))
    assert nothing.sum(np.zeros((3, 0))).shape == (3, 0)


def test_a_kept_matrix_is_after_any_updates_what_a_new_one_would_be() -> None:
    book = random_book(80)
    matrix = ScenarioMatrix(book, SCENARIOS)
    vol = book.vol.copy()
    vol[[7, 8]] *= 1.3
    quoted = msgspec.structs.replace(book, vol=vol)
    matrix.update(quoted, np.array([7, 8]))
    moved = np.flatnonzero(quoted.underlying == 1)
    forward, mark = quoted.forward_px.copy(), quoted.mark_px.copy()
    forward[moved] *= 1.01
    mark[moved] *= 1.01
    quoted = msgspec.structs.replace(quoted, forward_px=forward, mark_px=mark)
    matrix.update(quoted, moved)
    fresh = ScenarioMatrix(quoted, SCENARIOS)
    assert np.array_equal(matrix.pnl_quote, fresh.pnl_quote)
    assert matrix.by_expiry == pytest.approx(fresh.by_expiry, rel=1e-12, abs=1e-9)
    assert matrix.by_underlying(0) == pytest.approx(fresh.by_underlying(0))
    assert not np.array_equal(fresh.pnl_quote, ScenarioMatrix(book, SCENARIOS).pnl_quote)
    before = matrix.by_expiry.copy()
    matrix.update(quoted, np.array([], dtype=np.int64))
    assert np.array_equal(matrix.by_expiry, before)


def test_a_matrix_of_another_book_is_refused() -> None:
    matrix = ScenarioMatrix(random_book(10), SCENARIOS)
    with pytest.raises(ValueError, match="make a new matrix"):
        matrix.update(random_book(11), np.array([0]))
