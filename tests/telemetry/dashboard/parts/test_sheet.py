"""A sheet on a page sends what changed and nothing else."""

from __future__ import annotations

import json

from nicegui import Client, ui

from bot.telemetry.dashboard.live import Live
from bot.telemetry.dashboard.parts.cells import Cell, facts
from bot.telemetry.dashboard.parts.sheet import ASSETS, Sheet


async def test_only_a_change_is_sent() -> None:
    first = facts("f", [("a", Cell("1"))])
    with Client(ui.page("/"), request=None) as client:
        sheet = Sheet(first)
        live = Live()
        sheet.show(facts("f", [("a", Cell("1"))]), live)
        assert live.flush() is None
        sheet.show(facts("f", [("a", Cell("2"))]), live)
        (call,) = json.loads(live.flush() or "")["calls"]
        assert call[0] == "method"
        assert call[1][:2] == [sheet.id, "show"]
        assert call[1][2][0]["rows"]["r a"]["cells"][1]["text"] == "2"
        sheet.show(facts("f", [("a", Cell("2"))]), live)
        assert live.flush() is None
        client.delete()


def test_its_script_is_where_it_is_served_from() -> None:
    assert (ASSETS / "sheet.js").is_file()
    assert (ASSETS / "plot.js").is_file()
    assert (ASSETS / "parts.css").is_file()
