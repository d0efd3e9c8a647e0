"""The risk page's layout; its figures are tested with its sheets, the page itself in a browser."""

from __future__ import annotations

from bot.telemetry.dashboard.pages.risk import WIDTHS
from bot.telemetry.dashboard.shown.risk import all_sheets


def test_every_width_is_of_a_sheet_there_is() -> None:
    assert WIDTHS.keys() <= all_sheets([]).keys()
