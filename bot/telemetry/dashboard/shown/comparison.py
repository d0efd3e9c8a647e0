"""Replays side by side: what each policy earned, what hedging cost, and how far off its target it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from bot.domain.results import RunSummary
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.parts.cells import Cell, Column, Row, sheet

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


class Line(NamedTuple):
    """One line of the comparison: its name, its figure of a run, and how that is written."""

    name: str
    value: Callable[[RunSummary], float]
    write: Callable[[float], str]


LINES: Final = (
    Line("P&L", lambda run: run.pnl_quote["total"], lambda value: figures.money(value, is_signed=True)),
    Line(
        "against unhedged",
        lambda run: run.pnl_quote["total"] - run.unhedged_total_quote,
        lambda value: figures.money(value, is_signed=True),
    ),
    Line("cost", lambda run: run.cost_quote, figures.money),
    Line("off target, rms", lambda run: run.delta_rms_base, lambda value: figures.number(value, 3)),
    Line("off target, most", lambda run: run.delta_max_base, lambda value: figures.number(value, 3)),
    Line("hedges", lambda run: run.hedges, lambda value: f"{value:,.0f}"),
    Line("turnover", lambda run: run.turnover_quote, figures.money),
    Line("max drawdown", lambda run: run.max_drawdown_quote, figures.money),
    Line("not deciding, s", lambda run: run.not_deciding_s, lambda value: f"{value:,.0f}"),
    Line("decisions", lambda run: run.decisions, lambda value: f"{value:,.0f}"),
)


def table(runs: Sequence[RunSummary]) -> dict[str, Any]:
    """Return a column per run and a line per figure, P&L by part below."""
    columns = (Column(""), *(Column(run.policy, is_number=True) for run in runs))
    rows = {}
    for at, line in enumerate(LINES):
        cells = (Cell(line.write(line.value(run)), sort=line.value(run)) for run in runs)
        rows[line.name] = Row(at, (Cell(line.name), *cells), is_total=at == 0)
    for at, part in enumerate(PARTS, start=len(LINES)):
        amounts = [run.pnl_quote.get(part, 0.0) for run in runs]
        if any(amounts):
            cells = (Cell(figures.money(amount, is_signed=True), sort=amount) for amount in amounts)
            rows[part] = Row(at, (Cell(f"of P&L: {figures.words(part)}"), *cells))
    states = (Cell(run.state) for run in runs)
    rows["state"] = Row(98, (Cell("state at the end"), *states))
    digests = (Cell(run.commands_sha256[:12], hint="the same digest, the same commands") for run in runs)
    rows["digest"] = Row(99, (Cell("commands"), *digests))
    note = ""
    if runs:
        first = runs[0]
        note = f"{first.vault}, {first.start[:16]} to {first.end[:16]} UTC, seed {first.seed}, {first.events:,} events."
    return sheet("Side by side", columns if runs else (), rows if runs else {}, empty="no replay yet", note=note)


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
