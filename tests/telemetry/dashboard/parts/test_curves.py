"""The charts' element: it comes with its script, and what it sends is what the framework can encode."""

from __future__ import annotations

from nicegui import Client, json, ui

from bot.telemetry.dashboard.parts.curves import Curves
from bot.telemetry.dashboard.parts.sheet import ASSETS
from bot.telemetry.dashboard.shown.curves import curves
from tests.telemetry.dashboard.replayed import run


async def test_charts_are_sent_whole_as_what_the_framework_encodes() -> None:
    shown = curves([run("impulse", 100.0)])
    assert json.loads(json.dumps(shown)) == shown
    with Client(ui.page("/"), request=None) as client:
        Curves().show(shown)
        client.delete()


def test_its_script_is_where_it_is_served_from() -> None:
    assert (ASSETS / "curves.js").is_file()
