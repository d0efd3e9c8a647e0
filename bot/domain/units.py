"""Time units and the few conversions every layer shares. Must never read a clock."""

from __future__ import annotations

from datetime import UTC, datetime

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
NS_PER_MIN = 60 * NS_PER_S
NS_PER_HOUR = 60 * NS_PER_MIN
NS_PER_DAY = 24 * NS_PER_HOUR
NS_PER_YEAR = 365 * NS_PER_DAY  # calendar convention of crypto venues: 365 days, no leap years

BPS = 1e-4


def tau_years(now_ns: int, expiry_ns: int) -> float:
    """Return the time to expiry in 365-day years, 0 once expired."""
    return max(0, expiry_ns - now_ns) / NS_PER_YEAR


def whole_text(text: str) -> str:
    """Return a text that every encoding of Unicode takes, with ? for what a terminal of another one put into it.

    Python hands such bytes on as lone surrogates, which neither a journal nor JSON can hold.
    """
    return text.encode(errors="replace").decode()


def utc_text(ns: int) -> str:
    """Return nanoseconds since 1970 as ISO UTC with milliseconds, or "never" for 0."""
    return datetime.fromtimestamp(ns / NS_PER_S, tz=UTC).isoformat(timespec="milliseconds") if ns else "never"


def utc_second_text(ns: int) -> str:
    """Return nanoseconds since 1970 as UTC to the second, for tables: 2023-04-12 10:42:03."""
    return f"{datetime.fromtimestamp(ns // NS_PER_S, tz=UTC):%Y-%m-%d %H:%M:%S}"
