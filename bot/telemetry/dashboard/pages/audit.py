"""The audit log: who ordered what and why, and what changed of a vault's file, from the journals themselves."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Final

from nicegui import background_tasks

from bot.domain.windows import Told
from bot.telemetry.dashboard import theme
from bot.telemetry.dashboard.live import slot
from bot.telemetry.dashboard.markup import Markup, el, join
from bot.telemetry.dashboard.shell import Shell

LINES: Final = 200
LOOK_TICKS: Final = 8  # at the journals, every two seconds


def page(shell: Shell) -> None:
    """Lay out the audit log of all vaults."""
    shell.put(
        el(
            "main",
            el("h1", "Audit log"),
            el(
                "p",
                "Orders of people and changes of vault files, newest first, as the journals have them.",
                cls="muted",
            ),
            audit_table("audit"),
            id="content",
            tabindex="-1",
        )
    )
    follow(shell, "audit", [picture.vault for picture in shell.mirror.vaults()])


def audit_table(key: str) -> Markup:
    """Return an empty table that `follow` fills."""
    columns = ("When (engine time)", "Vault", "Kind", "By", "What")
    return el(
        "table",
        el("thead", el("tr", *(el("th", column, scope="col") for column in columns))),
        slot(key, "tbody", el("tr", el("td", "Reading the journals…", colspan=len(columns)))),
        cls="cards",
    )


def follow(shell: Shell, key: str, vaults: list[str]) -> None:
    """Keep the table of `key` filled with the newest lines of these vaults."""
    ticks = 0
    task: asyncio.Task[None] | None = None

    async def look() -> None:
        lists = [await shell.sources.audit(vault, LINES) for vault in vaults]
        lines = sorted(chain.from_iterable(lists), key=lambda told: told.now_ns, reverse=True)
        shell.live.html(key, join(*map(audit_line, lines[:LINES])) or el("tr", el("td", "Nothing yet.", colspan=5)))

    def show() -> None:
        nonlocal ticks, task
        if ticks % LOOK_TICKS == 0 and (task is None or task.done()):
            task = background_tasks.create(look(), name="audit")
        ticks += 1

    shell.every_tick(show)


def audit_line(told: Told) -> Markup:
    """Return one line of the audit log."""
    cells = (
        ("When", theme.moment(told.now_ns)),
        ("Vault", told.vault),
        ("Kind", told.kind),
        ("By", str(told.fields.get("issuer", "")) or theme.DASH),
        ("What", told.text),
    )
    return el("tr", *(el("td", text, data_label=label) for label, text in cells))
