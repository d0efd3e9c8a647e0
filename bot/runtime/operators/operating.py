"""What an operator asks of a daemon, as it comes over the socket: checked for its shape, and told back in words.

Must never carry anything out; `bot.runtime.daemon` does, and whether a command may be is the engine's to say.
"""

from __future__ import annotations

from typing import Any, Final

from bot.domain.events import OperatorAction, OperatorCommand
from bot.domain.units import NS_PER_S
from bot.engine.engine import Engine
from bot.runtime.operators.halt_marker import Halt
from bot.runtime.operators.reasons import BY_ALERTS, secret_in
from bot.telemetry.logs import without_secrets

MAX_REASON: Final = 500
MAX_NAME: Final = 100
NEED_A_REASON: Final = (OperatorAction.RESUME, OperatorAction.FLATTEN)
TEXTS: Final = ("issuer", "reason", "command_id", "underlying")
GOES_ON: Final = "the flatten under way goes on, only a halt stops it"
NUMBERS: Final = ("target_base", "low_base", "high_base")


def parse_operation(question: dict[str, Any], now_ns: int) -> OperatorCommand | str:
    """Return the command that a question stands for, or what is wrong with it."""
    try:
        action = OperatorAction(str(question.get("action")))
    except ValueError:
        return f"expected an action of {[str(a) for a in OperatorAction]}, found {question.get('action')!r:.50}"
    reason = text_of(question, "reason").strip()[:MAX_REASON]
    if action in NEED_A_REASON and not reason:
        return f"{action}: expected a reason, which goes into the journal, found none"
    numbers: dict[str, float | None] = {}
    for key in NUMBERS:
        number = question.get(key)
        if isinstance(number, bool) or not isinstance(number, int | float | None):
            return f"{key}: expected a number or none, found {number!r:.50}"
        try:
            numbers[key] = None if number is None else float(number)
        except OverflowError:
            return f"{key}: expected a number, found one without end"
    command_id = question.get("command_id") or ""
    underlying = question.get("underlying") or ""
    if not (isinstance(command_id, str) and isinstance(underlying, str)):
        return f"expected command_id and underlying as texts, found {command_id!r:.50} and {underlying!r:.50}"
    return OperatorCommand(
        action,
        text_of(question, "issuer")[:MAX_NAME],
        reason,
        now_ns,
        command_id,
        underlying[:MAX_NAME],
        **numbers,
    )


def text_of(question: dict[str, Any], name: str) -> str:
    """Return a text of a question, "" where there is none: what else stands there nobody has looked through."""
    value = question.get(name)
    return value if isinstance(value, str) else ""


def fit_for_journal(question: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return a question without our secrets, and why it is refused for one, "" if it is not.

    A halt never is, nor what the alerts order: the venue that nobody looks after may have repeated a key.
    """
    given = {name: text for name in TEXTS if isinstance(text := question.get(name), str)}
    if not (why_not := secret_in(*given.values())):
        return question, ""
    fit = question | {name: without_secrets(text) for name, text in given.items()}
    if fit.get("command_id") != question.get("command_id"):
        fit["command_id"] = ""  # else every other one that holds a secret would have been executed before
    is_urgent = question.get("action") == OperatorAction.HALT or question.get("issuer") == BY_ALERTS
    return fit, "" if is_urgent else why_not


def too_late(
    question: dict[str, Any], action: OperatorAction, wall_ns: int, halt: Halt | None, tightened_ns: int = 0
) -> str:
    """Return why a command comes too late by the clock of the wall, "" if it does not.

    A daemon that was frozen finds what it was told meanwhile when it wakes: what has expired is not carried out then,
    nor is a resume that was ordered before the `halt` that stands, or before the bot last became stricter at all
    (`tightened_ns`), by itself perhaps: whoever ordered it has not seen why.
    """
    issued_ns, expires_ns = question.get("issued_ns"), question.get("expires_ns")
    if isinstance(expires_ns, int) and wall_ns >= expires_ns and action is not OperatorAction.HALT:
        late_s = (wall_ns - expires_ns) / NS_PER_S
        return f"expected a command that is still good, found one expired {late_s:,.1f} s ago; hint: order it again"
    if action is OperatorAction.RESUME and isinstance(issued_ns, int) and halt is not None and issued_ns < halt.ts_ns:
        return f"expected a resume ordered after the halt, found an earlier one: {halt}; hint: order it again"
    if action is OperatorAction.RESUME and isinstance(issued_ns, int) and issued_ns < tightened_ns:
        earlier_s = (tightened_ns - issued_ns) / NS_PER_S
        expected = "expected a resume ordered after the bot became stricter"
        return f"{expected}, found one {earlier_s:,.1f} s earlier; hint: see its status, and order it again"
    return ""


def told_of(command: OperatorCommand, engine: Engine) -> str:
    """Say in a sentence what a command that was carried out means."""
    subject = command.underlying or ", ".join(engine.desks)
    if command.action is OperatorAction.SET_TARGET:
        if command.target_base is None:
            return f"{subject}: the target is the file's again"
        return f"{subject}: the net delta to keep is {command.target_base:+.3f}"
    if command.action is OperatorAction.SET_BAND:
        if command.low_base is None or command.high_base is None:
            return f"{subject}: the band is the policy's again"
        return f"{subject}: the band is {command.low_base:+.3f} to {command.high_base:+.3f} around the target"
    if command.action is OperatorAction.HEDGE_NOW:
        return f"{subject}: hedging to the target now, whatever the band"
    if command.action is OperatorAction.FLATTEN:
        return "closing every hedge, then paused until a resume; the book is exposed"
    text = f"{engine.state}: {engine.state_reason}" if engine.state_reason else str(engine.state)
    flatten = engine.operator.flatten
    if flatten is None or flatten.is_done or command.action not in (OperatorAction.PAUSE, OperatorAction.REDUCE_ONLY):
        return text
    return f"{text}; {GOES_ON}"
