"""Take the pictures of docs/images/dashboard-*.png from a desk that replays the bundled recordings."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image
from playwright.sync_api import Page

from scripts.dashboard_desk import ROOT, Desk, open_desk, wait_for

VAULTS: Final = ("eth-straddle-margin", "eth-gamma-vega", "btc-straddle", "eth-straddle")
SPEED: Final = 240.0
COLOURS: Final = 64  # a page has few; a palette makes a picture a third of its size
WIDE: Final = (1280, 900)
PHONE: Final = (390, 844)
REPLAY_S: Final = 1_200.0


class Picture(NamedTuple):
    """One picture: its name, the page, how it is looked at, how much of it, and what is waited for first."""

    name: str
    path: str
    scheme: str
    size: tuple[int, int]
    height: int
    ready: Callable[[Page], bool]


def has_hedged(page: Page) -> bool:
    """Tell whether an order of the page was filled and its look at the book has come."""
    text = page.inner_text("main")
    return text.count("filled") > 3 and "+100 %" in text


def has_rows(page: Page) -> bool:
    """Tell whether the page shows something."""
    return page.locator("tbody tr").count() > 3


PICTURES: Final = (
    Picture("vault-light", "/vault/eth-gamma-vega", "light", WIDE, 2450, has_hedged),
    Picture(
        "vault-dark", "/vault/eth-straddle-margin", "dark", WIDE, 1750, lambda page: "+100 %" in page.inner_text("main")
    ),
    Picture("vault-phone", "/vault/eth-gamma-vega", "dark", PHONE, 2400, has_hedged),
    Picture("fleet-light", "/", "light", WIDE, 420, has_rows),
    Picture("fleet-phone", "/", "dark", PHONE, 1100, has_rows),
    Picture("risk-dark", "/risk", "dark", WIDE, 900, has_rows),
)


def take(page: Page, name: str, height: int, folder: Path) -> None:
    """Write what the page shows, at most `height` pixels of it."""
    width = page.viewport_size["width"] if page.viewport_size else WIDE[0]
    full = page.evaluate("document.documentElement.scrollHeight")
    shot = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": min(height, full)})
    path = folder / f"dashboard-{name}.png"
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", file=sys.stderr)


def take_all(desk: Desk, folder: Path) -> None:
    """Take every picture."""
    for picture in PICTURES:
        width, height = picture.size
        page = desk.open(picture.path, color_scheme=picture.scheme, viewport={"width": width, "height": height})
        wait_for(lambda page=page, picture=picture: picture.ready(page), 900.0)
        page.wait_for_timeout(2_000)  # the chart is drawn twice a second
        take(page, picture.name, picture.height, folder)
        page.context.close()
    page = desk.open("/replay", viewport={"width": WIDE[0], "height": WIDE[1]})
    page.select_option("select[name=vault]", "eth-straddle")
    for name in ("unhedged", "whalley_wilmott", "impulse"):
        page.get_by_label(name).check()
    page.get_by_role("button", name="Start").click()
    wait_for(lambda: "done, started by" in page.inner_text("main"), REPLAY_S)
    page.wait_for_timeout(1_000)
    take(page, "replay-light", 1_850, folder)


def main() -> None:
    """Open the desk and take the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    texts = {name: (ROOT / "config" / f"{name}.yaml").read_text() for name in VAULTS}
    with open_desk(texts, SPEED) as desk:
        take_all(desk, folder)


if __name__ == "__main__":
    main()
