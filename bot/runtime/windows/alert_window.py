"""The window that tells people: findings of every vault go in, and what is to be told leaves through apprise.

It makes a vault reduce-only when nobody answers a critical alert. What is open, and what has not arrived yet, is kept
in a file beside the windows' socket.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from bot.domain.decisions import BotState
from bot.domain.errors import ConfigError
from bot.domain.events import OperatorAction
from bot.domain.units import NS_PER_S
from bot.domain.windows import Alert, Severity, Told, VaultState
from bot.runtime.configuration.desk import AlertsSection
from bot.runtime.configuration.desk_file import destination_urls
from bot.runtime.live.clock import WallClock
from bot.runtime.operators.reasons import BY_ALERTS
from bot.runtime.windows.hub import Hub, Watched, order_daemon
from bot.telemetry.alerts.keeper import AlertKeeper, Escalation, Patience, Telling
from bot.telemetry.alerts.rules import Finding, judge
from bot.telemetry.alerts.sending import Destination, Sender, Waiting, is_address

TICK_S: Final = 0.25
SILENT_S: Final = 10.0  # without any word of a vault, good or bad
AGAIN_S: Final = 5.0  # between two attempts to make a vault reduce-only
DONE_BEFORE: Final = "was executed before"  # a daemon's answer to a command id it knows
MEMORY: Final = "windows.alerts"
STATE, ANSWER, DESK = "state", "answer", "desk"  # whose findings they are
TIGHT: Final = (BotState.REDUCE_ONLY, BotState.PAUSED, BotState.HALTED)

log = structlog.get_logger()

Tighten = Callable[[Escalation], Awaitable[dict[str, Any]]]


class _Memory(msgspec.Struct):
    """What a restart takes over; `is_running` stays where nobody had the time to say good-bye."""

    is_running: bool
    cases: msgspec.Raw
    waiting: dict[str, list[Waiting]]


class AlertWindow:
    """Keeps the alerts of vaults and tells of them; `tighten` makes a vault reduce-only and returns its answer."""

    name = "alerts"

    def __init__(
        self,
        patience: Patience,
        sender: Sender,
        hub: Hub,
        *,
        memory_path: Path,
        vaults: Sequence[str],
        tighten: Tighten,
        clock: WallClock | None = None,
    ) -> None:
        self._clock = clock or WallClock()  # which nobody sets back: how long people have to answer is counted by it
        self._keeper = AlertKeeper(patience)
        self._sender = sender
        self._hub = hub
        self._memory_path = memory_path
        self._tighten = tighten
        self._vaults = vaults
        self._heard_s: dict[str, float] = {}
        self._states: dict[str, str] = {}  # of vaults that answer
        self._refused: Counter[str] = Counter()
        self._attempts: dict[str, asyncio.Task[None]] = {}
        self._kept = (-1, -1, False)
        self._is_unkept = False
        hub.open_alerts = self.alerts
        hub.acknowledge = self.acknowledge
        hub.handlers["alerts"] = self._list
        hub.handlers["acknowledge"] = self._take_acknowledgement

    async def run(self) -> None:
        """Tell what is to be told, until cancelled."""
        began_s = time.monotonic()
        self._heard_s = dict.fromkeys(self._vaults, began_s)
        self._refused = self._hub.refused_commands.copy()
        self._remember()
        try:
            while True:
                self._look(self._clock.now_ns())
                await asyncio.sleep(TICK_S)
        finally:
            for attempt in self._attempts.values():
                attempt.cancel()
            await asyncio.to_thread(self._sender.stop)
            self._keep(is_running=False)

    def show(self, state: VaultState) -> None:
        """Judge the newest state of a vault."""
        now_ns = self._clock.now_ns()
        self._heard_s[state.vault] = time.monotonic()
        self._states[state.vault] = state.state
        self._keeper.observe(ANSWER, state.vault, (), now_ns)
        self._keeper.observe(STATE, state.vault, judge(state), now_ns)

    def tell(self, told: Told) -> None:
        """Take an event; what matters of it shows in the state."""

    def gone(self, vault: str, why: str) -> None:
        """Note that a vault's daemon does not answer: of what it last said nothing is known to last."""
        self._heard_s[vault] = time.monotonic()
        self._states.pop(vault, None)
        self._keeper.unhear(STATE, vault)
        self._keeper.observe(ANSWER, vault, [Finding("daemon_silent", "", why)], self._clock.now_ns())

    def alerts(self, vault: str) -> Sequence[Alert]:
        """Return the open alerts of a vault, the worst first; "" those of the desk itself."""
        return [one for one in self._keeper.open_alerts() if one.vault == vault]

    def acknowledge(self, alert_id: str, who: str) -> str:
        """Note that somebody looks after an alert; return why not, "" if noted."""
        why_not = self._keeper.acknowledge(alert_id, who)
        log.info("alert.acknowledged", alert_id=alert_id[:200], issuer=who[:100], why_not=why_not)
        return why_not

    # ── a look ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self, now_ns: int) -> None:
        now_s = time.monotonic()
        for vault, heard_s in list(self._heard_s.items()):
            if now_s - heard_s > SILENT_S:
                self.gone(vault, f"nothing heard for {SILENT_S:g} s")
        self._look_at_desk(now_ns)
        self._send(self._keeper.tick(now_ns), now_ns)
        for escalation in self._keeper.due():
            self._escalate(escalation, now_ns)
        self._keep(is_running=True)

    def _look_at_desk(self, now_ns: int) -> None:
        """Find what is wrong with the windows themselves."""
        findings = [Finding("destination_failing", name, why) for name, why in self._sender.failing().items()]
        if self._hub.broker_away_ns:
            away_s = max(0.0, (now_ns - self._hub.broker_away_ns) / NS_PER_S)
            findings.append(Finding("broker_away", "", f"away for {away_s:.0f} s"))
        self._keeper.observe(DESK, "", findings, now_ns)
        refused = self._hub.refused_commands.copy()
        for reason, count in (refused - self._refused).items():
            self._keeper.note("", Finding("command_refused", reason, f"{count} more, {refused[reason]} in all"), now_ns)
        self._refused = refused

    def _send(self, tellings: Sequence[Telling], now_ns: int) -> None:
        for told in tellings:
            alert = told.alert
            write = log.error if alert.severity is Severity.CRITICAL else log.warning
            self._hub.notice(told, now_ns)
            write("alert.told", word=str(told.word), alert_id=alert.alert_id, vault=alert.vault, detail=alert.detail)
        self._sender.send(tellings, now_ns)

    # ── nobody answered ──────────────────────────────────────────────────────────────────────────────────────────────

    def _escalate(self, escalation: Escalation, now_ns: int) -> None:
        vault = escalation.vault
        state = self._states.get(vault)
        if state in TIGHT:
            # left as it is; where we tried, the answer was lost, and this is what came of it
            note = f"nobody acknowledged it in time, and the vault is {state} now" if vault in self._attempts else ""
            self._send(self._keeper.escalated(vault, now_ns, note), now_ns)
            self._attempts.pop(vault, None)
        elif state == BotState.RUNNING and (vault not in self._attempts or self._attempts[vault].done()):
            self._attempts[vault] = asyncio.create_task(self._attempt(escalation), name=f"reduce-only of {vault}")
        # one that does not answer, or has not begun, trades nothing; it is asked once it does

    async def _attempt(self, escalation: Escalation) -> None:
        answer = await self._tighten(escalation)
        now_ns, vault = self._clock.now_ns(), escalation.vault
        if str(answer.get("error", "")).endswith(DONE_BEFORE):
            note = "nobody acknowledged it in time, so the vault was made reduce-only, and resumed since"
            self._send(self._keeper.escalated(vault, now_ns, note), now_ns)
            return
        if "error" in answer:
            why = f"nobody acknowledged it, and the vault could not be made reduce-only yet: {answer['error']}"
            self._send(self._keeper.stuck(vault, now_ns, why), now_ns)
            log.error("alert.not_escalated", vault=vault, why=answer["error"])
            await asyncio.sleep(AGAIN_S)
            return
        state = answer.get("state") or self._states.get(vault, "")
        log.warning("alert.escalated", vault=vault, reason=escalation.reason, state=state)
        note = f"nobody acknowledged it in time, so the vault was made reduce-only and is {state} now"
        note += "; `evenkeel resume` ends that" if state in TIGHT else ""
        self._send(self._keeper.escalated(vault, now_ns, note), now_ns)

    # ── its file ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _remember(self) -> None:
        """Take over what was known before; a file that cannot be read is named and begun anew."""
        memory: _Memory | None = None
        try:
            memory = msgspec.json.decode(self._memory_path.read_bytes(), type=_Memory)
            self._keeper.load(bytes(memory.cases), self._clock.now_ns())
        except FileNotFoundError:
            pass
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning("alert.memory_unread", path=str(self._memory_path), error=f"{type(error).__name__}: {error}")
        self._sender.start(memory.waiting if memory is not None else None)
        if memory is not None and memory.is_running:
            self._keeper.note(
                "", Finding("windows_restarted", "", "see the log for why they ended"), self._clock.now_ns()
            )

    def _keep(self, *, is_running: bool) -> None:
        """Write what is known where it changed; a reader finds the old file or the new one."""
        version = (self._keeper.changes, self._sender.changes, is_running)
        if version == self._kept:
            return
        content = msgspec.json.encode(_Memory(is_running, msgspec.Raw(self._keeper.dump()), self._sender.pending()))
        partial = self._memory_path.with_suffix(".partial")
        with suppress(FileNotFoundError):
            partial.unlink()
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._memory_path)
        except OSError as error:
            if not self._is_unkept:  # once, not with every look as long as it lasts
                log.warning("alert.memory_unwritten", path=str(self._memory_path), error=str(error))
            self._is_unkept = True
            return
        self._is_unkept = False
        self._kept = version

    # ── at the windows' socket ───────────────────────────────────────────────────────────────────────────────────────

    async def _list(self, _question: dict[str, Any]) -> dict[str, Any]:
        return {"alerts": [msgspec.to_builtins(one) for one in self._keeper.open_alerts()]}

    async def _take_acknowledgement(self, question: dict[str, Any]) -> dict[str, Any]:
        why_not = self.acknowledge(str(question.get("alert_id", "")), str(question.get("issuer", "")))
        return {"error": why_not} if why_not else {}


def open_alert_window(
    section: AlertsSection, watched: Sequence[Watched], hub: Hub, environ: Mapping[str, str]
) -> AlertWindow:
    """Return the window of a desk's alerts. Raises ConfigError if the environment lacks an address."""
    urls = destination_urls(section.destinations, environ)
    problems = [
        f"{one.url_env}: expected an address as apprise has it, found something else; hint: see docs/alerts.md"
        for one, url in zip(section.destinations, urls, strict=True)
        if not is_address(url)
    ]
    if problems:
        raise ConfigError(problems)
    destinations = [
        Destination(one.url_env, url, Severity(one.at_least))
        for one, url in zip(section.destinations, urls, strict=True)
    ]
    vaults = {one.vault.vault: one for one in watched}

    async def tighten(escalation: Escalation) -> dict[str, Any]:
        question = {
            "action": str(OperatorAction.REDUCE_ONLY),
            "issuer": BY_ALERTS,
            "reason": escalation.reason,
            "command_id": escalation.command_id,
        }
        return await order_daemon(vaults[escalation.vault], question)

    return AlertWindow(
        patience_of(section),
        Sender(destinations),
        hub,
        memory_path=Path(watched[0].vault.state_dir).resolve() / MEMORY,
        vaults=tuple(vaults),
        tighten=tighten,
    )


def patience_of(section: AlertsSection) -> Patience:
    """Return how long the section waits for what."""
    return Patience(
        repeat_ns=round(section.repeat_s * NS_PER_S),
        settle_ns=round(section.settle_s * NS_PER_S),
        escalate_after_ns=round(section.escalate_after_s * NS_PER_S),
    )
