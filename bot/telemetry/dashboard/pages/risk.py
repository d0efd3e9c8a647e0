"""The page of risk over all vaults: who is near liquidation, who could fail, what is on its way."""

from __future__ import annotations

from typing import Final

from nicegui import ui

from bot.domain.windows import VaultState
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.live import slot
from bot.telemetry.dashboard.markup import el
from bot.telemetry.dashboard.pages.vault import STYLE
from bot.telemetry.dashboard.parts.sheet import Sheet
from bot.telemetry.dashboard.shell import Shell
from bot.telemetry.dashboard.shown import risk

EVERY_TICKS: Final = 4  # once a second
WIDTHS: Final = {"forecasts": 6, "transfers": 6, "collateral": 6, "drains": 6}


def page(shell: Shell) -> None:
    """Lay out the page of risk."""
    ui.add_head_html(STYLE)
    shell.put(el("div", el("h1", "Risk"), slot("stale", "p", cls="ek-banner", role="alert"), cls="ek-head"))
    parts: dict[str, Sheet] = {}
    with (
        ui.element("main").classes("ek-page").props("id=content tabindex=-1"),
        ui.element("div").classes("ek-grid") as grid,
    ):
        for name, made in risk.all_sheets(_states(shell)).items():
            parts[name] = Sheet(made)
            parts[name].classes(f"ek-{WIDTHS.get(name, 12)}")
    ticks = 0

    def show() -> None:
        nonlocal ticks
        ticks += 1
        if ticks % EVERY_TICKS == 1:
            for name, made in risk.all_sheets(_states(shell)).items():
                parts[name].show(made, shell.live)
            is_any_stale = _show_stale(shell)
            grid.classes(add="ek-stale") if is_any_stale else grid.classes(remove="ek-stale")

    shell.every_tick(show)


def _states(shell: Shell) -> list[VaultState]:
    return [picture.state for picture in shell.mirror.vaults() if picture.state is not None]


def _show_stale(shell: Shell) -> bool:
    """Name the vaults whose numbers are old; tell whether all that is shown is."""
    pictures = [picture for picture in shell.mirror.vaults() if picture.state is not None]
    stale = [picture for picture in pictures if shell.mirror.is_stale(picture)]
    told = ", ".join(f"{picture.vault} ({figures.age(shell.mirror.age_s(picture))} old)" for picture in stale)
    shell.live.set("stale", f"Stale: {told}. Their rows show how it was, not how it is." if stale else "")
    return bool(pictures) and len(stale) == len(pictures)
