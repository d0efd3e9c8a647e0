"""From views to pictures: what is shown is what the views hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.runtime.risk.collateral import build_collateral
from bot.runtime.risk.drawing import (
    picture_of_collateral,
    picture_of_forecast,
    picture_of_margin,
    picture_of_stress,
    unrealised,
    write_picture,
)
from bot.runtime.risk.stress import build_stress
from bot.runtime.risk.view import build_view
from tests.runtime.risk.test_collateral import posed, problem
from tests.runtime.risk.test_view import forecast
from tests.runtime.risk_snapshots import accounts


def test_every_account_has_its_bar_and_what_never_ends_is_never() -> None:
    found = accounts()
    picture = picture_of_margin(found, build_view(found))
    assert "hyperliquid uses" in picture.alt
    assert "never and" in picture.alt  # falling prices do not end a short perpetual
    assert picture.title.startswith("eth-straddle, ")


def test_without_a_forecast_there_is_no_fan() -> None:
    found = accounts()
    assert picture_of_forecast(found, build_view(found)) is None
    told = accounts(forecasts={"ETH": (forecast(1.0, 0.5), forecast(24.0, 0.6))})
    picture = picture_of_forecast(told, build_view(told))
    assert picture is not None
    assert "ETH 60% over 24 h" in picture.alt


def test_the_map_of_stress_counts_the_dead() -> None:
    view = build_stress(accounts())
    dead = sum(one >= 1.0 for row in view.heat.use_ratio for one in row)
    assert picture_of_stress(view).alt.endswith(f"{dead} cells are liquidated.")


def test_a_plan_is_drawn_with_what_it_sends(tmp_path: Path) -> None:
    found = posed(problem(16_000.0))
    assert unrealised(found, "deribit") == pytest.approx(-4_000.0)
    assert unrealised(found, "nobody") == 0.0
    view = build_collateral(found)
    picture = picture_of_collateral(view, found)
    assert "treasury 0" in picture.alt
    assert all(f"{one.amount:,.6g} {one.asset}" in picture.alt for one in view.plan.transfers)
    write_picture(picture, tmp_path / "new" / "plan.png")
    assert (tmp_path / "new" / "plan.png").read_bytes().startswith(b"\x89PNG")
