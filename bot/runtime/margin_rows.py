"""What a run's margin came to, as rows of the table that sets runs side by side: accounts, transfers, the buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bot.domain.results import BufferRecord, MarginRecord, RunSummary

NOT_RECKONED = "not reckoned"


def margin_rows(summaries: Sequence[RunSummary]) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each row and its cell per run; nothing where no vault has its margin reckoned."""
    names = dict.fromkeys(name for one in summaries for name in one.margin)
    for name in names:
        found = [one.margin.get(name) for one in summaries]
        yield f"margin at {name}", [NOT_RECKONED if one is None else f"{one.state} at the end" for one in found]
        yield "  worst utilisation", ["" if one is None else f"{one.worst_utilisation_ratio:.1%}" for one in found]
        yield (
            "  most initial margin of equity",
            ["" if one is None else f"{one.worst_initial_ratio:.1%}" for one in found],
        )
        yield "  worst state", [_worst(one) for one in found]
        yield "  hedges cut or sent elsewhere", ["" if one is None else f"{one.cuts:,}" for one in found]
        if any(one is not None and one.degraded for one in found):
            yield "  DEGRADED", ["" if one is None else "\n".join(one.degraded) for one in found]
    if names:
        yield "collateral transfers", [_transfers(one) for one in summaries]
    if any(one.buffer for one in summaries):
        yield "insurance buffer, USD", [_buffer(one.buffer) for one in summaries]
        yield "  kept of gains", ["" if one.buffer is None else f"{one.buffer.funded_quote:,.2f}" for one in summaries]
        yield "  drawn, returned", [_drawn(one.buffer) for one in summaries]


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


def _transfers(one: RunSummary) -> str:
    if not one.margin:
        return ""
    return "none" if not one.transfers else f"{one.transfers:,}, {one.late_transfers:,} late"


def _buffer(one: BufferRecord | None) -> str:
    return "none kept" if one is None else f"{one.balance_quote:,.2f} of {one.full_quote:,.2f}"


def _drawn(one: BufferRecord | None) -> str:
    return "" if one is None else f"{one.drawn_quote:,.2f}, {one.returned_quote:,.2f}"
