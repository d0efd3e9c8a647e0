"""Scenarios as data: names, grids, tails, and vol shocks that shrink or grow with time to expiry."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.scenarios import Scenario, ScenarioSet, VolShock, price_vol_grid, tails

MONTH = np.array([30.0 / 365.0])
SHOCK = VolShock(up=0.4, down=0.25, short_power=0.3, long_power=0.13, least_days=1.0, least_vol_up=0.5)


def test_names_are_what_people_say_and_json_reads_the_worked_cases_words() -> None:
    assert Scenario(-0.16, "up").name == "-16%, vol up"
    assert Scenario(0.5, 0.4, 0.24).name == "+50%, vol +40%, weight 0.24"
    read = msgspec.json.decode(b'{"move": 5, "vol": "up", "weight": 0.032, "extended": true}', type=Scenario)
    assert read == Scenario(5.0, "up", 0.032, is_extended=True)


def test_a_grid_goes_from_the_lowest_price_up_and_has_every_vol_at_each() -> None:
    grid = price_vol_grid(0.18, 2)
    assert [one.move for one in grid[::3]] == pytest.approx([-0.18, -0.09, 0.0, 0.09, 0.18])
    assert [one.vol for one in grid[:3]] == ["down", "same", "up"]
    with pytest.raises(ValueError, match="price range within"):
        price_vol_grid(1.0, 4)


def test_a_tail_costs_a_linear_book_what_the_edge_does() -> None:
    assert [one.move * one.weight for one in tails([-0.66, 4.0], 0.16)] == pytest.approx([-0.16, 0.16])
    assert tails([2.0], 0.16, 0.5)[0].weight == pytest.approx(0.04)


def test_shocks_scale_by_time_with_a_power_on_either_side_and_a_floor_of_days() -> None:
    days = np.array([0.0, 1.0, 7.5, 30.0, 120.0, -3.0])
    assert SHOCK.scale(days / 365.0) == pytest.approx(
        [30.0**0.3, 30.0**0.3, 4.0**0.3, 1.0, 0.25**0.13, 30.0**0.3], rel=1e-12
    )


def test_vol_up_has_a_floor_vol_down_has_none_but_zero_and_numbers_are_signed_changes() -> None:
    vol = np.array([0.6])
    assert SHOCK.shocked(vol, MONTH, "up") == pytest.approx([0.84])
    assert SHOCK.shocked(np.array([0.3]), MONTH, "up") == pytest.approx([0.5])
    assert SHOCK.shocked(vol, MONTH, "down") == pytest.approx([0.45])
    assert SHOCK.shocked(vol, MONTH, -0.22) == pytest.approx([0.468])
    assert SHOCK.shocked(np.array([0.2]), MONTH, 0.1) == pytest.approx([0.5])
    assert SHOCK.shocked(vol, np.array([1.0 / 365.0]), -0.9).tolist() == [0.0]
    assert SHOCK.shocked(vol, MONTH, "same") is vol


def test_points_are_added_and_a_table_says_how_many_by_days() -> None:
    vol = np.array([0.6, 0.6, 0.6])
    days = np.array([0.0, 15.0, 90.0]) / 365.0
    assert VolShock(up=0.1, in_points=True).shocked(vol, days, "up") == pytest.approx([0.7] * 3)
    table = VolShock(up=1.0, down=1.0, points_by_days=((0.0, 0.5), (30.0, 0.35), (60.0, 0.25)))
    assert table.shocked(vol, days, "up") == pytest.approx([1.1, 1.025, 0.85])
    assert table.shocked(vol, days, "down") == pytest.approx([0.1, 0.175, 0.35])


def test_a_set_knows_its_distinct_moves_and_vols() -> None:
    found = ScenarioSet([*price_vol_grid(0.16, 1), Scenario(-0.16, 0.4, 0.5)], SHOCK)
    assert found.moves[found.move_of].tolist() == found.move.tolist()
    assert [found.vols[at] for at in found.vol_of] == [one.vol for one in found.scenarios]
    assert len(found.moves) == 3
    assert len(found.vols) == 4
    assert found.shocked_vols(np.array([0.6]), MONTH)[:, 0] == pytest.approx([0.45, 0.6, 0.84, 0.84, 0.6])


@pytest.mark.parametrize(
    ("scenarios", "told"),
    [
        ([], "at least one scenario"),
        ([Scenario(-1.0)], "a move above -100%"),
        ([Scenario(0.1, weight=-1.0)], "a weight not below 0"),
        ([Scenario(float("nan"))], "a move above -100%"),
        ([Scenario(0.1, "sideways")], "down, same, up or a number, found 'sideways'"),
    ],
)
def test_what_is_no_scenario_is_refused(scenarios: list[Scenario], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ScenarioSet(scenarios, SHOCK)
