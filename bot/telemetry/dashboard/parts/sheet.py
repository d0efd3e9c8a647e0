"""A sheet on a page: a table that is sorted by its headings, unfolds its rows, and takes in only what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from nicegui import ui

from bot.telemetry.dashboard.live import Live
from bot.telemetry.dashboard.parts.cells import difference

ASSETS: Final = Path(__file__).parents[1] / "assets"


class Sheet(ui.element, component=ASSETS / "sheet.js"):
    """Shows what `cells.sheet` made."""

    def __init__(self, first: dict[str, Any]) -> None:
        super().__init__()
        self._props["first"] = first
        self._now = first

    def show(self, now: dict[str, Any], live: Live) -> None:
        """Bring the page to `now`, by what `live` sends next."""
        changes = difference(self._now, now)
        if changes:
            self._now = now
            live.method(self.id, "show", changes)
