from __future__ import annotations

from bot.domain.results import FrontierPoint
from bot.telemetry.frontier_picture import draw_frontier
from bot.telemetry.pictures import render_png


def test_every_setting_that_costs_something_is_drawn_and_counted() -> None:
    points = [
        FrontierPoint(family, f"{family}:{place}", cost, 1.0, 10.0 * place, 9.0, 3, 0.0)
        for family in ("impulse", "fixed_interval")
        for place, cost in enumerate((0.0, 10.0, 20.0))
    ]
    picture = draw_frontier(points, ["impulse:1"], "impulse:2", "a vault on a recording")
    assert picture.alt.endswith("impulse 2 settings, fixed interval 2 settings.")
    assert render_png(picture).startswith(b"\x89PNG")
