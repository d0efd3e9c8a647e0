"""Replays over time: P&L of all in one chart, and net delta in its band in one chart each, on the same axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

from bot.domain.results import RunTrack, TracedRun
from bot.telemetry.dashboard import figures

MS_PER_S: Final = 1000
DASHES: Final = ((), (7, 3), (2, 2), (9, 3, 2, 3), (12, 4), (4, 2, 1, 2, 1, 2))  # colours are never alone
UNHEDGED: Final = "unhedged"  # the policy, and what the book does when left alone


def curves(runs: Sequence[TracedRun]) -> dict[str, Any]:
    """Return the charts as the browser takes them, {} without runs; times are seconds from `from_ms` on."""
    tracks = [run.track for run in runs]
    times = [ms for track in tracks for ms in (*track.pnl_ms[:1], *track.pnl_ms[-1:])]
    if not times:
        return {}
    from_ms, to_ms = min(times), max(times)
    low, high = _axis(chain.from_iterable(_levels(track) for track in tracks))
    return {
        "from_ms": from_ms,
        "to_ms": to_ms,
        "unit": tracks[0].underlying,
        "low": low,
        "high": high,
        "pnl": {"told": _told_pnl(runs), "lines": _pnl_lines(runs, from_ms)},
        "deltas": [_delta(run, from_ms) for run in runs],
    }


def _pnl_lines(runs: Sequence[TracedRun], from_ms: int) -> list[dict[str, Any]]:
    lines = [
        {
            "name": run.policy,
            "hue": f"run-{place + 1}",
            "dash": list(DASHES[place % len(DASHES)]),
            "at": _seconds(run.track.pnl_ms, from_ms),
            "values": run.track.pnl_quote,
        }
        for place, run in enumerate(runs)
    ]
    if all(run.policy != UNHEDGED for run in runs):
        first = runs[0].track
        at = _seconds(first.pnl_ms, from_ms)
        name = "the book left unhedged"
        lines.append({"name": name, "hue": "muted", "dash": [1, 3], "at": at, "values": first.unhedged_pnl_quote})
    return lines


def _delta(run: TracedRun, from_ms: int) -> dict[str, Any]:
    track = run.track
    drawn, fills = len(track.hedge_ms), track.fills
    if not fills:
        hedges = "no hedges"
    else:
        hedges = f"{fills:,} fill{'' if fills == 1 else 's'} of hedges"
        hedges += f", {drawn:,} of them drawn" if drawn < fills else ""
    band = "" if any(value is not None for value in track.low_base) else ", no band"
    return {
        "caption": run.policy,
        "told": f"Net delta of {run.policy} over time, {figures.number(run.delta_rms_base, 3, track.underlying)} off "
        f"its target rms; {hedges}{band}",
        "note": f"{hedges}{band}",
        "at": _seconds(track.delta_ms, from_ms),
        "net": track.net_delta_base,
        "low": track.low_base,
        "high": track.high_base,
        "hedges": [
            [at, 1 if qty_base > 0 else -1, delta_base]
            for at, qty_base, delta_base in zip(
                _seconds(track.hedge_ms, from_ms), track.hedge_qty_base, track.hedge_delta_base, strict=True
            )
            if delta_base is not None
        ],
    }


def _told_pnl(runs: Sequence[TracedRun]) -> str:
    ends = ", ".join(
        f"{run.policy} ends at {figures.money(run.pnl_quote['total'], is_signed=True)}"
        f" after at worst {figures.money(_least(run.track), is_signed=True)}"
        for run in runs
    )
    return f"P&L over time: {ends}; unhedged {figures.money(runs[0].unhedged_total_quote, is_signed=True)}"


def _least(track: RunTrack) -> float | None:
    return min((value for value in track.pnl_quote if value is not None), default=None)


def _levels(track: RunTrack) -> Iterable[float]:
    """Yield all that is drawn of net delta and of the band's sides."""
    columns = (track.net_delta_base, track.low_base, track.high_base)
    return (value for column in columns for value in column if value is not None)


def _axis(values: Iterable[float]) -> tuple[float, float]:
    """Return ends of an axis that all fit between, rounded outwards to half a power of ten."""
    known = [0.0, *values]
    low, high = min(known), max(known)
    step: float = 10.0 ** math.floor(math.log10((high - low) or 1.0)) / 2.0
    return round(math.floor(low / step) * step, 9), round(math.ceil(high / step) * step or step, 9)


def _seconds(times_ms: Sequence[int], from_ms: int) -> list[int]:
    return [(ms - from_ms) // MS_PER_S for ms in times_ms]
