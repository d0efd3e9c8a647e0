"""How far colours of the style sheets stand apart, by the ratio of WCAG 2: 4.5 for text, 3 for what is drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bot.telemetry.dashboard.parts.sheet import ASSETS

BLOCK: Final = re.compile(r':root(?P<dark>\[data-theme="dark"\])?\s*\{(?P<body>[^}]*)\}')
COLOUR: Final = re.compile(r"--(?P<name>[\w-]+):\s*(?P<colour>#[0-9a-f]{6})")


def palette(*, is_dark: bool) -> dict[str, str]:
    """Return the colours of the style sheets by name, as one theme has them."""
    text = "".join(Path(ASSETS / name).read_text() for name in ("style.css", "parts.css"))
    found: dict[str, str] = {}
    for block in sorted(BLOCK.finditer(text), key=lambda one: bool(one["dark"])):
        if is_dark or not block["dark"]:
            found |= {one["name"]: one["colour"] for one in COLOUR.finditer(block["body"])}
    return found


def mixed(colour: str, share: float, other: str) -> str:
    """Return `share` of a colour over another, as a browser blends them."""
    parts = zip(_parts(colour), _parts(other), strict=True)
    return "#" + "".join(f"{round(one * share + below * (1.0 - share)):02x}" for one, below in parts)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, from 1 to 21."""
    dim, bright = sorted((_luminance(one), _luminance(other)))
    return (bright + 0.05) / (dim + 0.05)


def _parts(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _luminance(colour: str) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (part / 255 for part in _parts(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
