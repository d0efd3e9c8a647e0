"""The lives of orders and transactions, from decision to fill; the audit log; and alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from bot.domain.units import NS_PER_S
from bot.domain.windows import Alert, OrderLine, Severity, Told
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.parts.cells import BAD, GOOD, MUTED, WARN, Cell, Column, Row, sheet

MOST_LIVES: Final = 40
MOST_STEPS: Final = 30
MOST_ENTRIES: Final = 60
AUDITED: Final = ("command", "config", "run")
FAILED: Final = frozenset({"rejected", "cancel_rejected", "amend_rejected", "lost", "reversed"})
TONES: Final = {Severity.CRITICAL: BAD, Severity.WARNING: WARN, Severity.INFO: MUTED}


def orders(live: Sequence[OrderLine], events: Iterable[Told], now_ns: int) -> dict[str, Any]:
    """Return a row per order, newest first: what it is, where it stands, and each step of its life below it."""
    lives: dict[str, list[Told]] = {}
    for told in events:
        if told.order_id:
            lives.setdefault(told.order_id, []).append(told)
    by_id = {one.order_id: one for one in live}
    began = {order_id: steps[0].now_ns for order_id, steps in lives.items()}
    began |= {order_id: one.decided_ns for order_id, one in by_id.items() if order_id not in began}
    newest = sorted(began, key=lambda order_id: (order_id in by_id, began[order_id]), reverse=True)[:MOST_LIVES]
    rows = {
        order_id: _life(place, order_id, by_id.get(order_id), lives.get(order_id, []), began[order_id], now_ns)
        for place, order_id in enumerate(newest)
    }
    columns = (
        Column("order"),
        Column("began", hint="time of the decision, UTC"),
        Column("stands"),
        Column("what", is_wide=True),
        Column("took", is_number=True, hint="from the decision to its newest word"),
    )
    note = f"{len(by_id)} under way. Unfold an order for every step of its life." if rows else ""
    return sheet("Orders and transactions", columns, rows, empty="no order yet", note=note, is_sortable=True)


def _life(at: int, order_id: str, line: OrderLine | None, steps: Sequence[Told], began_ns: int, now_ns: int) -> Row:
    last = steps[-1] if steps else None
    if line is not None:
        kind = "transaction " if line.is_transaction else ""
        stands = Cell(
            f"{kind}{figures.words(line.state.lower())}, {_lots(line.filled_lots)} of {_lots(line.qty_lots)} lots",
            tone=WARN if line.state.upper() == "UNKNOWN" else "",
        )
        took_s = (now_ns - began_ns) / NS_PER_S
        what = f"{line.instrument_id}: {line.reason}"
    else:
        assert last is not None, "an order that is not live is known by its events"
        stands = _stands(last)
        took_s = (last.now_ns - began_ns) / NS_PER_S
        what = steps[0].text
    more = tuple(
        f"{figures.clock(step.now_ns)}  +{(step.now_ns - began_ns) / NS_PER_S:.3f} s  {step.kind}: {step.text}"
        for step in steps[-MOST_STEPS:]
    )
    cells = (
        Cell(order_id),
        Cell(figures.clock(began_ns), sort=began_ns, hint=f"{figures.moment(began_ns)} UTC"),
        stands,
        Cell(what),
        Cell(f"{took_s:.3f} s" if took_s < 10 else figures.age(took_s), sort=took_s),
    )
    return Row(at, cells, more=more)


def _lots(count: int) -> str:
    return figures.number(count, 0, is_signed=True)


def _stands(last: Told) -> Cell:
    """Return where an order stands by its last word."""
    what = str(last.fields.get("what") or last.kind)
    tone = GOOD if what == "filled" else BAD if what in FAILED else MUTED
    return Cell(figures.words(what), tone=tone)


def audit(events: Iterable[Told]) -> dict[str, Any]:
    """Return what people ordered and what of the configuration changed, newest first."""
    found = [told for told in events if told.kind in AUDITED][-MOST_ENTRIES:]
    rows = {
        str(told.number): Row(
            -told.number,
            (
                Cell(figures.clock(told.now_ns), sort=told.now_ns, hint=f"{figures.moment(told.now_ns)} UTC"),
                Cell(told.kind),
                Cell(str(told.fields.get("issuer") or figures.DASH)),
                Cell(told.text),
            ),
        )
        for told in found
    }
    columns = (Column("at"), Column("kind"), Column("by"), Column("what"))
    return sheet("Audit log", columns, rows, empty="nobody ordered anything yet")


def alerts(open_ones: Sequence[Alert], wall_ns: int, *, may_acknowledge: bool) -> dict[str, Any]:
    """Return a row per open alert, worst first, with a button to acknowledge it for those who may."""
    order = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)
    ranked = sorted(open_ones, key=lambda one: (order.index(one.severity), -one.began_ns))
    rows = {one.alert_id: _alert(place, one, wall_ns, may_acknowledge) for place, one in enumerate(ranked)}
    columns = (Column("alert"), Column("severity"), Column("for", is_number=True), Column("acknowledged"))
    return sheet("Alerts", columns, rows, empty="no alert is open")


def _alert(at: int, one: Alert, wall_ns: int, may_acknowledge: bool) -> Row:
    if one.ended_ns:
        answer = Cell("over")
    elif one.acknowledged_by:
        answer = Cell(f"by {one.acknowledged_by}")
    elif may_acknowledge:
        order = ("acknowledge", one.vault, one.alert_id)
        answer = Cell("acknowledge", order=order, hint=f"acknowledge: {one.title}")
    else:
        answer = Cell("not yet", tone=WARN)
    if one.escalated_ns:
        answer = Cell(f"{answer.text}; escalated", tone=BAD, order=answer.order, hint=answer.hint)
    more = tuple(
        line for line in (one.detail, f"told {one.count} times since {figures.moment(one.began_ns)} UTC") if line
    )
    cells = (
        Cell(one.title),
        Cell(str(one.severity), tone=TONES[one.severity]),
        Cell(figures.age(((one.ended_ns or wall_ns) - one.began_ns) / NS_PER_S)),
        answer,
    )
    return Row(at, cells, more=more)
