"""P&L by part as a waterfall: what each Greek earned, what hedging cost, and how they add up."""

from __future__ import annotations

from typing import Any, Final

from bot.domain.windows import VaultState
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.parts.cells import BAD, WARN, Cell, Column, Row, sheet

PARTS: Final = ("delta", "gamma", "theta", "vega", "vanna_volga", "funding", "lp_fees", "unexplained")
COSTS: Final = ("fees", "gas", "slippage")


LOSS_TO_SEE: Final = 0.5  # of what a day may lose; from there on it is told wherever today's P&L is


def loss_share(state: VaultState) -> float | None:
    """Return how much of the loss a day may bring today has brought, None where neither is known or there is none."""
    today, limit = state.pnl_today_quote, state.daily_loss_limit_quote
    return -today / limit if today is not None and limit and today < 0.0 else None


def loss_told(state: VaultState) -> tuple[str, str]:
    """Return today's loss against the limit in words and its tone; ("", "") while it is nothing to speak of."""
    share = loss_share(state)
    if share is None or share < LOSS_TO_SEE:
        return "", ""
    return f"{figures.percent(share, 0)} of a day's loss limit", BAD if share >= 1.0 else WARN


def waterfall(state: VaultState) -> dict[str, Any]:
    """Return a row per part with a bar from the sum before it to the sum after it, and the total."""
    parts = state.pnl_quote
    known: list[str] = [name for name in (*PARTS, *COSTS) if name in parts]
    known += sorted(parts.keys() - {*known, "total"})  # a part that is new is shown, whatever it is
    steps, running = [], 0.0
    for name in known:
        steps.append((name, running, running + parts[name]))
        running += parts[name]
    total = parts.get("total", running)
    ends = [0.0, total, *(end for _, _, end in steps)]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def at(value: float) -> float:
        return round((value - low) / span, 4)

    rows = {
        name: Row(
            place,
            (
                Cell(figures.words(name)),
                Cell(
                    "",
                    bar=(at(start), at(end)),
                    marks=(at(0.0),),
                    tone="gain" if end >= start else "loss",
                    is_hatched=name in COSTS,
                ),
                Cell(figures.money(end - start, is_signed=True), sort=end - start),
            ),
        )
        for place, (name, start, end) in enumerate(steps)
    }
    bar = Cell("", bar=(at(0.0), at(total)), marks=(at(0.0),), tone="gain" if total >= 0 else "loss")
    rows["total"] = Row(
        100, (Cell("total"), bar, Cell(figures.money(total, is_signed=True), sort=total)), is_total=True
    )
    columns = (Column("part"), Column("from sum to sum"), Column("amount", is_number=True))
    costs = sum(parts.get(name, 0.0) for name in COSTS)
    note = f"Hedging cost {figures.money(-costs)} (hatched) since the run began. At the newest full marking."
    if state.unhedged_pnl_quote is not None:
        note += f" The book left unhedged: {figures.money(state.unhedged_pnl_quote, is_signed=True)}."
    return sheet("P&L by part", columns, rows if known else {}, empty="no P&L yet", note=note if known else "")
