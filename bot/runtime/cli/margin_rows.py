"""What a run's margin came to, as rows of the table that sets runs side by side: accounts, transfers, the buffer."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from bot.domain.results import BufferRecord, ForecastRecord, MarginRecord, RunSummary

NOT_RECKONED = "not reckoned"
WIDEST = 40  # of a cell, so that several runs stand side by side


def margin_rows(summaries: Sequence[RunSummary]) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each row and its cell per run; nothing where no vault has its margin reckoned."""
    names = dict.fromkeys(name for one in summaries for name in one.margin)
    for name in names:
        found = [one.margin.get(name) for one in summaries]
        yield f"margin at {name}", [NOT_RECKONED if one is None else f"{one.state} at the end" for one in found]
        yield "  worst utilisation", ["" if one is None else f"{one.worst_utilisation_ratio:.1%}" for one in found]
        most = ["" if one is None else f"{one.worst_initial_ratio:.1%}" for one in found]
        yield "  most initial margin of equity", most
        if any(one is not None and one.required_quote for one in found):
            yield "  equity wanted, had, USD", [_wanted(one) for one in found]
        yield "  worst state", [_worst(one) for one in found]
        yield "  hedges cut or sent elsewhere", ["" if one is None else f"{one.cuts:,}" for one in found]
        if any(one is not None and one.degraded for one in found):
            yield "  DEGRADED", [_degraded(one) for one in found]
    if names:
        yield "collateral transfers", [_transfers(one) for one in summaries]
    for name in dict.fromkeys(name for one in summaries for name in one.forecasts):
        yield f"vol forecast of {name} at the end", [_forecast(one.forecasts.get(name)) for one in summaries]
    if any(one.breaker_trips for one in summaries):
        yield "breakers opened", [f"{one.breaker_trips:,} times" for one in summaries]
    if any(one.condition_changes for one in summaries):
        yield "conditions outside changed", [f"{one.condition_changes:,} times" for one in summaries]
    kept = [one.insurance for one in summaries]
    if any(kept):
        yield "insurance buffer, USD", [_buffer(one) for one in kept]
        yield "  kept of gains", ["" if one is None else f"{one.funded_quote:,.2f}" for one in kept]
        yield "  drawn, returned", [_drawn(one) for one in kept]


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: a moment, seconds, minutes, hours or days."""
    if seconds < 1.0:
        return "a moment"
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    if seconds < 7_200.0:
        return f"{seconds / 60.0:.0f} min"
    return f"{seconds / 3_600.0:.1f} h" if seconds < 172_800.0 else f"{seconds / 86_400.0:,.1f} days"


def _worst(one: MarginRecord | None) -> str:
    if one is None:
        return ""
    return f"{one.worst_state}, for {duration_text(one.state_s.get(one.worst_state, 0.0))}"


def _degraded(one: MarginRecord | None) -> str:
    return "" if one is None else "\n".join(line for text in one.degraded for line in textwrap.wrap(text, WIDEST))


def _wanted(one: MarginRecord | None) -> str:
    """Say what an account should hold at the end for a bad move until a transfer arrives, and what it holds."""
    if one is None or one.required_quote is None:
        return ""
    had = "unknown" if one.equity_quote is None else f"{one.equity_quote:,.0f}"
    changed = f"\ntarget changed {one.target_changes:,} times" if one.target_changes else ""
    return f"{one.required_quote:,.0f}, {had}{changed}"


def _forecast(one: ForecastRecord | None) -> str:
    """Say what was forecast last, by whom, and how often such forecasts had been exceeded."""
    if one is None:
        return ""
    vol = "unknown" if one.mean_vol is None else f"{one.mean_vol:.1%}"
    told = [f"{vol} by {one.model or 'nothing known'}"]
    if one.outcomes:
        broken = ", ".join(f"{float(level):.0%}: {count:,}" for level, count in one.breaches.items())
        told.append(f"exceeded {broken} of {one.outcomes:,}")
    return "\n".join([*told, *textwrap.wrap(one.degraded, WIDEST)])


def _transfers(one: RunSummary) -> str:
    if not one.margin:
        return ""
    return "none" if not one.transfers else f"{one.transfers:,}, {one.late_transfers:,} late"


def _buffer(one: BufferRecord | None) -> str:
    return "none kept" if one is None else f"{one.balance_quote:,.2f} of {one.full_quote:,.2f}"


def _drawn(one: BufferRecord | None) -> str:
    return "" if one is None else f"{one.drawn_quote:,.2f}, {one.returned_quote:,.2f}"
