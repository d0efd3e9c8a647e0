"""Numbers as the vault, risk and replay pages write them, beyond what the theme has: money, prices, times of day."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from bot.domain.units import NS_PER_S
from bot.telemetry.dashboard.theme import DASH, age, base, moment, number, percent

__all__ = [
    "DASH",
    "age",
    "base",
    "clock",
    "compact",
    "day",
    "moment",
    "money",
    "move",
    "number",
    "percent",
    "price",
    "words",
]

SCALES: Final = ((1e6, "M"), (1e3, "k"))


def money(value: float | None, *, is_signed: bool = False) -> str:
    """Return quote money: cents below 1,000, whole units from there on; a dash for what is not known."""
    return number(value, 2 if value is None or abs(value) < 1_000 else 0, is_signed=is_signed)


def price(value: float | None) -> str:
    """Return a price with about six significant digits."""
    return number(value, max(0, 5 - math.floor(math.log10(abs(value)))) if value else 0)


def move(fraction: float | None, digits: int = 1) -> str:
    """Return a change as a signed percentage: `−12.5 %`."""
    return DASH if fraction is None else number(100.0 * fraction, digits, "%", is_signed=True)


def compact(value: float) -> str:
    """Return quote money in few letters: `−78k`, `−3.1k`, `+1.2M`."""
    size, unit = next(((scale, name) for scale, name in SCALES if abs(value) >= scale), (1.0, ""))
    return f"{number(value / size, 1 if unit and abs(value) < 10 * size else 0, is_signed=True)}{unit}"


def clock(now_ns: int) -> str:
    """Return a moment's time of day, UTC, to the second; a dash for never."""
    return _written(now_ns, "%H:%M:%S")


def day(now_ns: int) -> str:
    """Return a moment's date, UTC: `28 Apr 23`; a dash for never."""
    return _written(now_ns, "%d %b %y")


def _written(now_ns: int, how: str) -> str:
    try:
        return datetime.fromtimestamp(now_ns // NS_PER_S, UTC).strftime(how) if now_ns else DASH
    except (ValueError, OverflowError, OSError):
        return DASH  # no calendar has it: a page must not break for what somebody sends


def words(name: str) -> str:
    """Return a field's name as words: `lp_fees` is `lp fees`."""
    return name.replace("_", " ")
