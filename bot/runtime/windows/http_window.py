"""The desk file's `http` section → the window that machines look through."""

from __future__ import annotations

from collections.abc import Sequence

from bot.runtime.configuration.desk import HttpSection
from bot.runtime.windows.hub import Hub, Watched
from bot.telemetry.metrics.board import Board, Neighbours
from bot.telemetry.metrics.server import HttpWindow


def http_window(section: HttpSection, watched: Sequence[Watched], hub: Hub) -> HttpWindow:
    """Return the window; what other windows know is asked of the hub at each scrape."""
    around = Neighbours(
        refused_commands=lambda: hub.refused_commands,
        open_alerts=lambda vault: hub.open_alerts(vault),  # noqa: PLW0108 — whoever keeps alerts puts itself there later
        broker_away_ns=lambda: hub.broker_away_ns,
        dropped_states=lambda: hub.dropped,
    )
    return HttpWindow(section.host, section.port, Board([one.vault.vault for one in watched], around))
