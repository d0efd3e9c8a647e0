"""A telling as people read it on a phone: what, where, the figures, why it matters, and how to answer."""

from __future__ import annotations

from typing import Final

from bot.domain.units import utc_text
from bot.domain.windows import Severity
from bot.telemetry.alerts.keeper import Telling, Word

MAX_DETAIL: Final = 600  # characters; a phone shows no more
_MARKS: Final = {
    Word.AGAIN: "still: ",
    Word.OVER: "over: ",
    Word.ESCALATED: "reduce-only: ",
    Word.STUCK: "NOT ANSWERED: ",
}


def headline(told: Telling) -> str:
    """Return the line a phone shows locked."""
    alert = told.alert
    severity = str(alert.severity).upper() if told.word is not Word.OVER else ""
    parts = (severity, _MARKS.get(told.word, ""), f"{alert.vault or 'the desk'}: {alert.title}")
    return f"{parts[0]} {parts[1]}{parts[2]}".strip()


def text(told: Telling) -> str:
    """Return all of it; plain text, a fact a line."""
    alert = told.alert
    lines = [told.note, alert.detail[:MAX_DETAIL]]
    if told.word is not Word.OVER:
        lines.append(told.why)
    since = f"since {utc_text(alert.began_ns)}"
    lines.append(f"{since} until {utc_text(alert.ended_ns)}" if alert.ended_ns else since)
    if alert.count > 1:
        lines.append(f"{alert.count} times")
    lines.append(f"id: {alert.alert_id}")
    if told.word is not Word.OVER and alert.severity is Severity.CRITICAL and not alert.escalated_ns:
        lines.append("unless somebody acknowledges it, the vault goes reduce-only")
    return "\n".join(line for line in lines if line)
