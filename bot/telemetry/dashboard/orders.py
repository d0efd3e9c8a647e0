"""Operators' orders from pages: what each does in words, what it needs, and who may give it.

All of it is checked here, whatever a browser checks. An order comes as a POST with the session's token; the signed
command that it becomes is made elsewhere.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse

from bot.domain.commands import Arguments
from bot.telemetry.dashboard.gate import SESSION
from bot.telemetry.dashboard.ports import Actions, DashboardConfig, Order
from bot.telemetry.dashboard.sessions import Session

MIN_REASON: Final = 3
MAX_REASON: Final = 400
MAX_TEXT: Final = 200

log = structlog.get_logger()


class ActionForm(msgspec.Struct, frozen=True):
    """One action as its dialog shows it: what follows from it, what it asks for, whether the vault's name is typed."""

    title: str
    consequence: str
    fields: tuple[str, ...] = ()
    is_typed: bool = False
    is_grave: bool = False


ACTIONS: Final[dict[str, ActionForm]] = {
    "pause": ActionForm(
        "Pause",
        "No order until resumed; what rests is canceled, and net delta is left as it moves. A flatten goes on.",
    ),
    "resume": ActionForm("Resume", "Hedging begins again at the next decision, by the policy and within the limits."),
    "reduce_only": ActionForm("Reduce only", "Only hedges that shrink net delta are traded until resumed."),
    "hedge_now": ActionForm(
        "Hedge now",
        "Trades to the target once at the next decision, ignoring the no-trade band; no limit is ignored.",
        ("underlying",),
    ),
    "set_target": ActionForm(
        "Set target",
        "Net delta is held at this from now on, also after a restart. Empty gives it back to the vault's file.",
        ("underlying", "target_base"),
    ),
    "set_band": ActionForm(
        "Set band",
        "This band replaces the policy's from now on, also after a restart. Both empty give it back to the policy.",
        ("underlying", "low_base", "high_base"),
    ),
    "reload": ActionForm(
        "Reload",
        "The vault's file is read again, and what changed in it applies from the next decision.",
        ("confirm",),
    ),
    "acknowledge": ActionForm("Acknowledge", "You are looking after this alert; it is not escalated.", ("alert_id",)),
    "flatten": ActionForm(
        "Flatten",
        "Every hedge this run holds is closed, and the vault is paused. The book itself stays, unhedged.",
        is_typed=True,
        is_grave=True,
    ),
    "halt": ActionForm(
        "Halt",
        "Every resting order is canceled and nothing is traded, also after a restart, until resumed with a reason.",
        is_typed=True,
        is_grave=True,
    ),
}


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a page sends: the action, its reason, what it needs, and the vault's name as typed."""

    vault: str
    action: str
    reason: str
    typed: str = ""
    underlying: str = ""
    target_base: float | None = None
    low_base: float | None = None
    high_base: float | None = None
    confirm: str = ""
    alert_id: str = ""


class Orders:
    """The address `/order`."""

    def __init__(self, config: DashboardConfig, actions: Actions) -> None:
        self._config = config
        self._actions = actions

    async def give(self, request: Request) -> JSONResponse:
        """Answer POST /order."""
        session: Session = request.scope[SESSION]
        if not session.is_csrf(request.headers.get("x-csrf-token", "")):
            return _no(403, "expected this page's own token; hint: load the page again")
        if not session.is_operator:
            log.warning("dashboard.order_refused", user=session.user, why="a viewer")
            return _no(403, "expected an operator; hint: viewers may look only")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _no(415, "expected application/json")
        try:
            wish = msgspec.json.decode(await request.body(), type=Wish)
            order = order_of(wish, session.user, self._config.vaults)
        except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
            return _no(422, str(error)[:MAX_TEXT])
        log.info("dashboard.order", user=session.user, vault=order.vault, action=order.action)
        try:
            answer = await self._actions.order(order)
        except TimeoutError:
            return _no(504, "nobody answered in time: it may have been done; look at the vault's state, then ask again")
        except OSError as error:
            return _no(502, f"the order could not be sent: {str(error)[:MAX_TEXT]}")
        return JSONResponse(msgspec.to_builtins(answer))


def order_of(wish: Wish, user: str, vaults: tuple[str, ...]) -> Order:
    """Return the order that is wished for. Raises ValueError with what is wrong of it."""
    form = ACTIONS.get(wish.action)
    if form is None:
        raise ValueError(f"expected one of {', '.join(ACTIONS)}, found {wish.action[:40]!r}")
    if wish.vault not in vaults:
        raise ValueError(f"expected one of this desk's vaults, found {wish.vault[:40]!r}")
    reason = " ".join(wish.reason.split())
    if not MIN_REASON <= len(reason) <= MAX_REASON:
        raise ValueError(f"expected a reason of {MIN_REASON} to {MAX_REASON} characters, found {len(reason)}")
    if form.is_typed and wish.typed != wish.vault:
        raise ValueError(f"expected the vault's name {wish.vault} typed out, found {wish.typed[:40]!r}")
    given: dict[str, Any] = {
        name: value
        for name in ("underlying", "target_base", "low_base", "high_base", "confirm", "alert_id")
        if (value := getattr(wish, name)) not in ("", None)
    }
    if unwanted := sorted(set(given) - set(form.fields)):
        raise ValueError(f"expected nothing of {', '.join(unwanted)} for {wish.action}")
    if any(isinstance(value, float) and not math.isfinite(value) for value in given.values()):
        raise ValueError("expected finite numbers")
    if any(isinstance(value, str) and len(value) > MAX_TEXT for value in given.values()):
        raise ValueError(f"expected at most {MAX_TEXT} characters")
    if wish.action == "flatten":
        given["confirm"] = wish.vault  # travels with the command; a halt takes none, it must not fail for one
    return Order(wish.vault, wish.action, reason, user, Arguments(**given))


def _no(status: int, text: str) -> JSONResponse:
    return JSONResponse({"is_done": False, "text": text}, status)
