"""Orders from decision to fill, the audit log, and alerts with who may acknowledge them."""

from __future__ import annotations

from typing import Any

from bot.domain.units import NS_PER_S
from bot.domain.windows import Severity, Told
from bot.telemetry.dashboard.shown import lives
from tests.telemetry.dashboard.sheets import cell, row, rows
from tests.telemetry.states import NOW_NS, STATE, alert


def told(number: int, kind: str, what: str, order_id: str = "", *, at_s: float = 0.0, **fields: Any) -> Told:
    now_ns = NOW_NS + round(at_s * NS_PER_S)
    return Told(
        "eth-straddle", "a1b2", number, number, now_ns, kind, order_id, f"{kind} {what}", {"what": what, **fields}
    )


EVENTS = [
    told(1, "decision", "submit", "a1b2-0"),
    told(2, "order", "accepted", "a1b2-0", at_s=0.2),
    told(3, "decision", "submit", "a1b2-1", at_s=1.0),
    told(4, "fill", "filled", "a1b2-0", at_s=0.5),
    told(5, "command", "pause", issuer="kim"),
    told(6, "order", "rejected", "a1b2-2", at_s=2.0),
]


def test_an_order_is_followed_from_its_decision_to_its_last_word() -> None:
    shown = lives.orders(STATE.orders, EVENTS, NOW_NS + 5 * NS_PER_S)
    assert [line[0] for line in rows(shown)] == ["a1b2-1", "a1b2-2", "a1b2-0"]  # those under way first
    filled = row(shown, "a1b2-0")
    assert [one["text"] for one in filled["cells"]][2:] == ["filled", "decision submit", "0.500 s"]
    assert [step.split("  ")[1] for step in filled["more"]] == ["+0.000 s", "+0.200 s", "+0.500 s"]
    assert cell(shown, "a1b2-1", "stands")["text"] == "unknown, 0 of −100 lots"
    assert cell(shown, "a1b2-1", "stands")["tone"] == "warn"
    assert cell(shown, "a1b2-2", "stands")["tone"] == "bad"


def test_lives_are_bounded_and_the_newest_stay() -> None:
    many = [told(n, "decision", "submit", f"x-{n}", at_s=n) for n in range(1, 200)]
    shown = lives.orders((), many, NOW_NS)
    assert len(shown["rows"]) == lives.MOST_LIVES
    assert rows(shown)[0][0] == "x-199"


def test_the_audit_log_has_who_did_what_newest_first() -> None:
    shown = lives.audit([*EVENTS, told(7, "config", "changed", issuer="ann")])
    assert [line[1:] for line in rows(shown)] == [
        ["config", "ann", "config changed"],
        ["command", "kim", "command pause"],
    ]


def test_alerts_come_worst_first_and_operators_may_acknowledge() -> None:
    open_ones = [
        alert(alert_id="a", severity=Severity.INFO, title="told"),
        alert(alert_id="b", title="halted", escalated_ns=NOW_NS),
        alert(alert_id="c", severity=Severity.WARNING, title="late", acknowledged_by="kim"),
    ]
    wall_ns = NOW_NS + 60 * NS_PER_S
    shown = lives.alerts(open_ones, wall_ns, may_acknowledge=True)
    assert [line[0] for line in rows(shown)] == ["halted", "late", "told"]
    assert cell(shown, "halted", "acknowledged")["order"] == ("acknowledge", "eth-straddle", "b")
    assert cell(shown, "halted", "acknowledged")["text"] == "acknowledge; escalated"
    assert cell(shown, "late", "acknowledged")["text"] == "by kim"
    assert cell(shown, "halted", "for")["text"] == "60 s"
    seen = lives.alerts(open_ones, wall_ns, may_acknowledge=False)
    assert all("order" not in one for line in seen["rows"].values() for one in line["cells"])
