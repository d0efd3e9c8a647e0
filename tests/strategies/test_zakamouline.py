from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.domain.decisions import HedgeTarget, Legs
from strategies import Zakamouline
from tests.strategies.views import view

GOLDEN = [
    {name: float(value) for name, value in row.items()}
    for row in csv.DictReader((Path(__file__).parents[1] / "golden" / "golden_bands.csv").read_text().splitlines())
]


def ask(row: dict[str, float], qty: float, **changes: Any) -> HedgeTarget:
    legs = Legs(*(np.array([row[name]]) for name in ("S", "K", "tau", "sigma")), np.array([qty]), np.array([True]))
    seen: dict[str, Any] = {
        "spot_px": row["S"],
        "vol": row["sigma"],
        "tau_years": row["tau"],
        "cost_rate": row["k"],
        "lot_base": 1e-9,
        "legs": legs,
    }
    return Zakamouline(risk_aversion_per_quote=row["gamma"]).target(view(qty * row["bs_gamma"], **{**seen, **changes}))


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"S{row['S']:g}-k{row['k']:g}-g{row['gamma']:g}")
@pytest.mark.parametrize("qty", [-1.0, 1.0])
def test_matches_the_golden_band_and_centre(row: dict[str, float], qty: float) -> None:
    target = ask(row, qty)
    half = 0.5 * (target.high_base - target.low_base)
    assert half == pytest.approx(row["zak_H0"] + row["zak_H1"], rel=1e-9)
    held = row["zak_delta_short" if qty < 0.0 else "zak_delta_long_call"]
    centre = 0.5 * (target.high_base + target.low_base)  # of net delta: the option at its own vol, and what is held
    assert centre == pytest.approx(qty * (row["bs_delta"] - held), rel=1e-6, abs=1e-12)
    assert (target.buy_to_base, target.sell_to_base) == (target.low_base, target.high_base)


def test_a_short_position_is_hedged_as_at_a_higher_vol_a_long_one_as_at_a_lower() -> None:
    below = next(row for row in GOLDEN if row["S"] < row["K"])
    short, long = ask(below, -1.0), ask(below, 1.0)
    assert short.low_base + short.high_base > 0.0  # more is held than the plain delta of the call
    assert long.low_base + long.high_base > 0.0  # less is sold


def test_a_book_without_gamma_has_a_band_of_a_lot() -> None:
    target = ask(GOLDEN[0], 0.0, lot_base=0.1)
    assert (target.low_base, target.high_base) == (-0.1, 0.1)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("vol", math.nan),
        ("vol", 0.0),
        ("cost_rate", math.inf),
        ("spot_px", -1.0),
        ("lot_base", 0.0),
        ("tau_years", 0.0),
    ],
)
def test_a_damaged_view_is_held(field: str, bad: float) -> None:
    target = ask(GOLDEN[0], -1.0, **{field: bad})
    assert (target.low_base, target.high_base) == (-math.inf, math.inf)
    assert target.reason.startswith("holding")
