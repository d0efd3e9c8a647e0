"""A sheet on a page sends what changed and nothing else."""

from __future__ import annotations

from nicegui import Client, ui

from bot.telemetry.dashboard.parts.cells import Cell, facts
from bot.telemetry.dashboard.parts.sheet import ASSETS, Sheet


async def test_only_a_change_is_sent() -> None:
    first = facts("f", [("a", Cell("1"))])
    with Client(ui.page("/"), request=None) as client:
        sheet = Sheet(first)
        assert sheet.show(facts("f", [("a", Cell("1"))])) is False
        assert sheet.show(facts("f", [("a", Cell("2"))])) is True
        assert sheet.show(facts("f", [("a", Cell("2"))])) is False
        client.delete()


def test_its_script_is_where_it_is_served_from() -> None:
    assert (ASSETS / "sheet.js").is_file()
    assert (ASSETS / "plot.js").is_file()
    assert (ASSETS / "parts.css").is_file()
