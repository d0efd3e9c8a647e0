"""Replays side by side: what each policy earned, what hedging cost, and how far off its target it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from bot.domain.results import RunSummary
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.parts.cells import BEST, Cell, Column, Row, sheet

PARTS: Final = (
    "delta",
    "gamma",
    "theta",
    "vega",
    "vanna_volga",
    "funding",
    "lp_fees",
    "fees",
    "gas",
    "slippage",
    "unexplained",
)
COSTS: Final = ("fees", "gas", "slippage")
BEST_NOTE: Final = (
    "★ is the best of its line: most P&L, least of the rest, unexplained nearest to zero; of what hedging does, among "
    "those that hedged. One recording is one path: what is best here need not be best elsewhere."
)


class Line(NamedTuple):
    """One line of the comparison: its name, its figure of a run, how that is written, and what is best of it.

    `worth` is the larger the better, None where nothing is. A `is_of_hedging` figure is judged among those that hedged.
    """

    name: str
    value: Callable[[RunSummary], float]
    write: Callable[[float], str]
    worth: Callable[[float], float] | None = None
    is_of_hedging: bool = False


def _signed(value: float) -> str:
    return figures.money(value, is_signed=True)


def _base(value: float) -> str:
    return figures.number(value, 3)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _most(value: float) -> float:
    return value


def _least(value: float) -> float:
    return -value


def _nearest(value: float) -> float:
    return -abs(value)


LINES: Final = (
    Line("P&L", lambda run: run.pnl_quote["total"], _signed, _most),
    Line(
        "against unhedged",
        lambda run: run.pnl_quote["total"] - run.unhedged_total_quote,
        _signed,
        _most,
        is_of_hedging=True,
    ),
    Line("cost", lambda run: run.cost_quote, figures.money, _least, is_of_hedging=True),
    Line("off target, rms", lambda run: run.delta_rms_base, _base, _least),
    Line("off target, most", lambda run: run.delta_max_base, _base, _least),
    Line("hedges", lambda run: run.hedges, _count, _least, is_of_hedging=True),
    Line("turnover", lambda run: run.turnover_quote, figures.money, _least, is_of_hedging=True),
    Line("max drawdown", lambda run: run.max_drawdown_quote, figures.money, _least),
    Line("not deciding, s", lambda run: run.not_deciding_s, _count),
    Line("decisions", lambda run: run.decisions, _count),
)


def table(runs: Sequence[RunSummary]) -> dict[str, Any]:
    """Return a column per run and a line per figure, P&L by part below; the best of a line is marked."""
    columns = (Column(""), *(Column(run.policy, is_number=True) for run in runs))
    parts = [_part(name) for name in PARTS if any(run.pnl_quote.get(name, 0.0) for run in runs)]
    rows = {line.name: _row(at, line, runs, is_total=at == 0) for at, line in enumerate((*LINES, *parts))}
    states = (Cell(run.state) for run in runs)
    rows["state"] = Row(98, (Cell("state at the end"), *states))
    digests = (Cell(run.commands_sha256[:12], hint="the same digest, the same commands") for run in runs)
    rows["digest"] = Row(99, (Cell("commands"), *digests))
    note = f"{said_of(runs)}{same_of(runs)} {BEST_NOTE}" if len(runs) > 1 else said_of(runs)
    return sheet("Side by side", columns if runs else (), rows if runs else {}, empty="no replay yet", note=note)


def said_of(runs: Sequence[RunSummary]) -> str:
    """Return in a sentence what was replayed, "" for nothing."""
    if not runs:
        return ""
    first = runs[0]
    return f"{first.vault}, {first.start[:16]} to {first.end[:16]} UTC, seed {first.seed}, {first.events:,} events."


def same_of(runs: Sequence[RunSummary]) -> str:
    """Return which runs sent the very same commands, so that nobody wonders at their equal figures; "" for none."""
    by_digest: dict[str, list[str]] = {}
    for run in runs:
        by_digest.setdefault(run.commands_sha256, []).append(run.policy)
    return "".join(
        f" {', '.join(policies[:-1])} and {policies[-1]} sent the same commands."
        for policies in by_digest.values()
        if len(policies) > 1
    )


def best_of(line: Line, runs: Sequence[RunSummary]) -> frozenset[int]:
    """Return which runs are best at a figure as it is written: none of one alone, nor where all are the same."""
    judged = [place for place, run in enumerate(runs) if run.hedges or not line.is_of_hedging]
    if line.worth is None or len(judged) < 2:
        return frozenset()
    worth, shown = line.worth, [line.write(line.value(run)) for run in runs]
    best = max(judged, key=lambda place: worth(line.value(runs[place])))
    found = frozenset(place for place in judged if shown[place] == shown[best])
    return found if len(found) < len(judged) else frozenset()


def bars(runs: Sequence[RunSummary]) -> dict[str, Any]:
    """Return P&L, cost and tracking error of each run as bars about zero, which is marked."""
    rows = {}
    for group, line in enumerate((LINES[0], LINES[2], LINES[3])):
        values = [line.value(run) for run in runs]
        low, high = min([0.0, *values]), max([0.0, *values])
        span = (high - low) or 1.0
        for place, (run, value) in enumerate(zip(runs, values, strict=True)):
            ends = (round((0.0 - low) / span, 4), round((value - low) / span, 4))
            shown = Cell("", bar=ends, marks=(ends[0],), tone="gain" if value >= 0 else "loss", is_hatched=group == 1)
            cells = (Cell(f"{line.name}: {run.policy}"), shown, Cell(line.write(value), sort=value))
            rows[f"{line.name} {place}"] = Row(group * 100 + place, cells)
    columns = (Column("figure"), Column("against zero"), Column("amount", is_number=True))
    return sheet("P&L, cost and tracking error", columns, rows, empty="no replay yet")


def _part(name: str) -> Line:
    return Line(
        f"of P&L: {figures.words(name)}",
        lambda run: run.pnl_quote.get(name, 0.0),
        _signed,
        _nearest if name == "unexplained" else _most,
        is_of_hedging=name in COSTS,
    )


def _row(at: int, line: Line, runs: Sequence[RunSummary], *, is_total: bool) -> Row:
    best = best_of(line, runs)
    cells = (
        Cell(
            line.write(line.value(run)),
            sort=line.value(run),
            tone=BEST if place in best else "",
            hint="the best of its line" if place in best else "",
        )
        for place, run in enumerate(runs)
    )
    return Row(at, (Cell(line.name), *cells), is_total=is_total)
