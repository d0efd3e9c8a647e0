"""Charts of replays side by side: drawn once when a replay has ended, until the next one has."""

from __future__ import annotations

from typing import Any

from nicegui import ui
from nicegui.elements import echart  # registers the bundled ECharts, which the component imports

from bot.telemetry.dashboard.parts.sheet import ASSETS

__all__ = ["Curves", "echart"]


class Curves(ui.element, component=ASSETS / "curves.js"):
    """Shows what `shown.curves` made; nothing at first."""

    def show(self, now: dict[str, Any]) -> None:
        """Draw these charts in place of what was there."""
        self.run_method("show", now)
