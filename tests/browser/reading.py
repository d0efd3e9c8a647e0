"""Reads pages as people do: tables by their captions, rows by their first cells."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from playwright.sync_api import Page

from bot.runtime.operators import control
from tests.browser.stand import PATIENCE_MS, VAULT, Stand

LOOK_EVERY_MS: Final = 50
VIEWS_KEPT: Final = 60  # the last of which are from well before what a page shows

_SHEETS: Final = """() => Object.fromEntries([...document.querySelectorAll('.ek-sheet')].map((sheet) => [
  sheet.querySelector('h2').textContent,
  [...sheet.querySelectorAll('tbody tr')].map((row) => [...row.children].map((cell) => cell.textContent)),
]))"""
_POINTS: Final = "() => getElement(document.querySelector('.ek-plot').id.slice(1)).count()"


def view(desk: Stand) -> dict[str, Any] | None:
    """Return what `evenkeel status --json` prints of the vault, None while its daemon does not answer."""
    try:
        return control.ask(desk.folder / ".evenkeel" / f"{VAULT}.sock", {"verb": "view"})
    except (control.NotRunningError, TimeoutError):
        return None


def until_shown(
    page: Page, desk: Stand, differences: Callable[[dict[str, Any], dict[str, list[list[str]]]], list[str]]
) -> None:
    """Wait until a page shows what the daemon said: now, or when the state was taken that the page has got by now."""
    said: deque[dict[str, Any]] = deque(maxlen=VIEWS_KEPT)
    fewest: list[str] = ["the daemon never answered"]

    def agrees() -> bool:
        if (status := view(desk)) is not None:
            said.append(status)
        shown = sheets(page)
        fewest[:] = min((differences(one, shown) for one in said), key=len, default=fewest)
        return not fewest

    try:
        until(page, agrees)
    except AssertionError:
        raise AssertionError("\n".join(fewest)) from None


def sheets(page: Page) -> dict[str, list[list[str]]]:
    """Return the cells of every sheet on a page, by its caption, row by row."""
    found: dict[str, list[list[str]]] = page.evaluate(_SHEETS)
    return found


def by_first(rows: list[list[str]]) -> dict[str, list[str]]:
    """Return rows by their first cell."""
    return {row[0]: row[1:] for row in rows}


def points(page: Page) -> tuple[int, int]:
    """Return how many points and hedges the first chart holds."""
    count, hedges = page.evaluate(_POINTS)
    return count, hedges


def until(page: Page, find: Callable[[], Any], patience_ms: float = PATIENCE_MS) -> Any:
    """Return what `find` finds as soon as it finds something; the page goes on meanwhile."""
    waited_ms = 0.0
    while not (found := find()):
        assert waited_ms < patience_ms, f"expected {find} to come true within {patience_ms / 1000:.0f} s"
        page.wait_for_timeout(LOOK_EVERY_MS)
        waited_ms += LOOK_EVERY_MS
    return found
