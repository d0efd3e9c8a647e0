"""The desk where commands arrive: each is verified, carried out once at most, and answered once at most.

It knows no broker: whoever does hands `Arrival`s over and takes `Reply`s away. A halt waits for nobody: it overtakes
whatever waits for the same vault, which is then refused. Nothing here can hold up a daemon or another vault.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from bot.domain.commands import CommandBody
from bot.domain.events import OperatorAction
from bot.domain.windows import CommandAnswer, VaultState
from bot.runtime.operators import control, halting
from bot.runtime.operators.halt_marker import Halt, marker_of
from bot.runtime.operators.reasons import secret_in
from bot.runtime.windows.command_file import CommandFile, command_path
from bot.runtime.windows.hub import Hub, Watched
from bot.telemetry.alerts.keeper import OF_THE_DESK
from bot.telemetry.commands.memory import is_worth_answering
from bot.telemetry.commands.verifying import (
    ACKNOWLEDGE,
    RELOAD,
    Issuer,
    Refused,
    Why,
    printable,
    still_good,
    verify,
)
from bot.telemetry.logs import without_secrets

MAX_WAITING: Final = 16  # commands of one vault before more are refused
MAX_REPLIES: Final = 1_000  # answers while the broker is away
MAX_TEXT_CHARS: Final = 2_000
ANSWER_TIMEOUT_S: Final = 5.0
SAY_EVERY_S: Final = 10.0  # one line in the log about each kind of refusal
NOT_RUNNING: Final = "not running"
HALTED: Final = "halted"

log = structlog.get_logger()


class Arrival(NamedTuple):
    """A message as the broker handed it over, at the commands' topic of `vault`."""

    vault: str
    payload: bytes
    is_retained: bool = False
    reply_to: str = ""  # a topic of the sender's, checked already
    correlation: bytes = b""


class Reply(NamedTuple):
    """An answer, and where its sender wants it besides the vault's own topic."""

    answer: CommandAnswer
    reply_to: str
    correlation: bytes


class CommandDesk:
    """Takes commands for the vaults that are watched."""

    def __init__(
        self,
        watched: Sequence[Watched],
        issuers: Mapping[str, Issuer],
        hub: Hub,
        environ: Mapping[str, str],
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._issuers = issuers
        self._hub = hub
        self._clock_ns = clock_ns
        self._vaults = {
            one.vault.vault: VaultDesk(one, hub, environ, self._reply, clock_ns, timeout_s) for one in watched
        }
        self._replies: deque[Reply] = deque(maxlen=MAX_REPLIES)
        self._has_reply = asyncio.Event()
        self._quiet = Quiet()

    @property
    def refused(self) -> Counter[str]:
        """How many commands were refused, by reason."""
        return self._hub.refused_commands

    async def run(self) -> None:
        """Carry out what arrives until cancelled."""
        async with asyncio.TaskGroup() as group:
            for desk in self._vaults.values():
                group.create_task(desk.run())
            if any(desk.is_live for desk in self._vaults.values()):
                group.create_task(asyncio.to_thread(halting.preload))

    def show(self, state: VaultState) -> None:
        """Take note of a vault's state, which answers tell."""
        if state.vault in self._vaults:
            self._vaults[state.vault].state = state.state

    def gone(self, vault: str) -> None:
        """Take note that a vault's daemon does not answer."""
        if vault in self._vaults:
            self._vaults[vault].state = ""

    def take(self, arrival: Arrival) -> None:
        """Verify what arrived; begin to carry it out, or refuse it."""
        desk = self._vaults.get(arrival.vault)
        if desk is None:
            self._refuse(Refused(Why.UNKNOWN_TOPIC, "expected a vault of this desk"), arrival.vault)
            return
        if arrival.is_retained:
            hint = "hint: publish commands without the retain flag"
            self._refuse(Refused(Why.RETAINED, f"expected a new message, found a retained one; {hint}"), arrival.vault)
            return
        now_ns = self._clock_ns()
        found = _without_secrets(verify(arrival.payload, arrival.vault, self._issuers, now_ns, desk.file.memory))
        if isinstance(found, Refused):
            self._refuse(found, arrival.vault)
            self._answer_refused(desk, found, arrival, now_ns)
            return
        if desk.file.memory.has_room(found.issuer, now_ns):
            desk.file.note(found, now_ns)
        elif found.action != OperatorAction.HALT:  # which is taken unremembered: halting twice does no harm
            self._refuse(Refused(Why.BUSY, f"expected fewer commands of {found.issuer} at a time"), arrival.vault)
            return
        log.info(
            "command.taken", vault=found.vault, command_id=found.command_id, issuer=found.issuer, action=found.action
        )
        desk.take(found, arrival)

    async def next_reply(self) -> Reply:
        """Return the oldest answer that is not sent yet; it stays until `sent`."""
        while not self._replies:
            self._has_reply.clear()
            await self._has_reply.wait()
        return self._replies[0]

    def sent(self, reply: Reply) -> None:
        """Forget an answer that the broker has."""
        if self._replies and self._replies[0] is reply:
            self._replies.popleft()

    def _answer_refused(self, desk: VaultDesk, found: Refused, arrival: Arrival, now_ns: int) -> None:
        """Tell an issuer what became of a command of theirs; nobody else is told anything, and none is told twice."""
        body = found.body
        if body is None or found.why is Why.REPEATED or not is_worth_answering(body, now_ns):
            return
        if body.command_id in desk.file.memory or not desk.file.memory.has_room(body.issuer, now_ns):
            return
        desk.file.note(body, now_ns)
        self._reply(body, arrival, Outcome(is_done=False, text=found.text, state=desk.state))

    def _reply(self, body: CommandBody, arrival: Arrival, outcome: Outcome) -> None:
        if outcome.why is not None:
            self._refuse(Refused(outcome.why, outcome.text), body.vault)
        answer = CommandAnswer(
            command_id=body.command_id,
            vault=body.vault,
            issuer=body.issuer,
            action=body.action,
            is_done=outcome.is_done,
            text=without_secrets(outcome.text)[:MAX_TEXT_CHARS],
            state=outcome.state,
            answered_ns=self._clock_ns(),
        )
        log.warning("command.answered", **msgspec.structs.asdict(answer))
        self._replies.append(Reply(answer, arrival.reply_to, arrival.correlation))
        self._has_reply.set()

    def _refuse(self, found: Refused, vault: str) -> None:
        self._hub.refused_commands[str(found.why)] += 1
        if (more := self._quiet.say(str(found.why), time.monotonic())) is not None:
            log.warning("command.refused", why=str(found.why), text=found.text, vault=printable(vault), more=more)


def _without_secrets(found: CommandBody | Refused) -> CommandBody | Refused:
    """Refuse a command with a secret of ours in it: it would stand in the journal, and so everywhere, for ever.

    A halt is taken with *** in the reason: it waits for nothing.
    """
    body = found if isinstance(found, CommandBody) else found.body
    if body is None or not (why_not := secret_in(*_texts(body))):
        return found
    is_named_so = bool(secret_in(body.command_id))  # then an answer would repeat it
    if isinstance(found, CommandBody) and body.action == OperatorAction.HALT and not is_named_so:
        return msgspec.structs.replace(body, reason=without_secrets(body.reason))
    return Refused(Why.HOLDS_SECRET, why_not, None if is_named_so else body)


def _texts(body: CommandBody) -> list[str]:
    given = body.arguments
    return [body.command_id, body.reason, given.underlying, given.confirm, given.alert_id]


class Outcome(NamedTuple):
    """What became of a command; `why` counts it among the refused."""

    is_done: bool
    text: str
    state: str
    why: Why | None = None


Answering = Callable[[CommandBody, Arrival, Outcome], None]


class VaultDesk:
    """Carries out the commands of one vault, one after another; a halt at once."""

    def __init__(
        self,
        watched: Watched,
        hub: Hub,
        environ: Mapping[str, str],
        answer: Answering,
        clock_ns: Callable[[], int],
        timeout_s: float,
    ) -> None:
        vault = watched.vault
        self.file = CommandFile(command_path(vault.state_dir, vault.vault), clock_ns())
        self.state = ""
        self.is_live = vault.mode == "live"
        self._watched = watched
        self._hub = hub
        self._environ = environ
        self._answer = answer
        self._clock_ns = clock_ns
        self._timeout_s = timeout_s
        self._waiting: deque[tuple[CommandBody, Arrival]] = deque()
        self._news = asyncio.Event()
        self._halts: deque[tuple[CommandBody, Arrival]] = deque()
        self._halting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Carry out what waits until cancelled; a halt under way is finished first."""
        try:
            while True:
                if self._halting is not None:
                    await asyncio.wait([self._halting])
                if not self._waiting:
                    self._news.clear()
                    await self._news.wait()
                    continue
                body, arrival = self._waiting.popleft()
                self._answer(body, arrival, await self._outcome(body))
        finally:
            if self._halting is not None:
                await asyncio.wait([self._halting])

    def take(self, body: CommandBody, arrival: Arrival) -> None:
        """Begin to carry out a command that was verified, or refuse it for what is under way."""
        if body.action == OperatorAction.HALT:
            while self._waiting:
                overtaken, of = self._waiting.popleft()
                text = f"expected to be carried out, found a halt by {body.issuer} meanwhile; hint: order it again"
                self._answer(overtaken, of, self._no(text, Why.OVERTAKEN))
            self._take(body, arrival, self._halts)
            if self._halting is None:
                self._halting = asyncio.create_task(self._halt())
        elif body.action == ACKNOWLEDGE:
            why_not = self._acknowledge(body)
            self._answer(body, arrival, self._said({"error": why_not} if why_not else {"text": "acknowledged"}))
        else:
            self._take(body, arrival, self._waiting)
            self._news.set()

    def _acknowledge(self, body: CommandBody) -> str:
        """Note that somebody looks after an alert of this vault or of the desk; never of another vault."""
        alert_id = body.arguments.alert_id
        if not alert_id.startswith((f"{body.vault}:", OF_THE_DESK)):
            return f"expected the id of an alert of {body.vault}, found {alert_id!r}"
        return self._hub.acknowledge(alert_id, body.issuer)

    def _take(self, body: CommandBody, arrival: Arrival, waiting: deque[tuple[CommandBody, Arrival]]) -> None:
        if len(waiting) < MAX_WAITING:
            waiting.append((body, arrival))
            return
        text = f"expected at most {MAX_WAITING} commands waiting, found as many; hint: wait for an answer"
        self._answer(body, arrival, self._no(text, Why.BUSY))

    async def _halt(self) -> None:
        """Halt, and once more for all the halts that came meanwhile."""
        try:
            while self._halts:
                halts = list(self._halts)
                self._halts.clear()
                outcome = await self._outcome(halts[0][0])
                for body, arrival in halts:
                    self._answer(body, arrival, outcome)
        finally:
            self._halting = None

    async def _outcome(self, body: CommandBody) -> Outcome:
        """Carry a command out; whatever goes wrong is what came of it."""
        late = still_good(body, self._clock_ns())
        if late is not None and body.action != OperatorAction.HALT:
            return self._no(late.text, late.why)
        try:
            if body.action == OperatorAction.HALT and self._watched.vault.is_live_feed:
                return await self._halt_everywhere(body)
            return self._said(await self._ask(body))
        except Exception as error:
            log.exception("command.failed", vault=body.vault, command_id=body.command_id, action=body.action)
            text = f"failed, and may have been carried out in part: {type(error).__name__}: {error}"
            return self._no(text, Why.NO_ANSWER)

    async def _halt_everywhere(self, body: CommandBody) -> Outcome:
        vault = self._watched.vault
        halt = Halt(body.issuer, body.reason, self._clock_ns())
        marker = marker_of(vault.state_dir, vault.vault)
        report = await halting.halt_everywhere(
            vault, halt, marker, self._watched.socket_path, self._environ, command_id=body.command_id
        )
        return Outcome(is_done=report.is_complete, text="; ".join(report.lines), state=HALTED)

    async def _ask(self, body: CommandBody) -> dict[str, Any]:
        """Put the command to the daemon and return what it says."""
        given = body.arguments
        question: dict[str, Any] = {
            "verb": "operate",
            "action": body.action,
            "issuer": body.issuer,
            "reason": body.reason,
            "command_id": body.command_id,
            "issued_ns": body.issued_ns,
            "expires_ns": body.expires_ns,
            "underlying": given.underlying,
            "target_base": given.target_base,
            "low_base": given.low_base,
            "high_base": given.high_base,
        }
        if body.action == RELOAD:
            question |= {"verb": "reload", "confirm": given.confirm}
        line = control.Line(self._watched.socket_path, self._timeout_s)
        try:
            answer = msgspec.json.decode(await line.ask(question))
        except control.NotRunningError:
            return {"error": f"expected a running daemon of {body.vault}, found none", "state": NOT_RUNNING}
        except TimeoutError:
            found = f"expected an answer of the daemon within {self._timeout_s:g} s, found none"
            return {"error": f"{found}; it may still do what it was told until the command expires", "timeout": True}
        finally:
            line.close()
        return answer if isinstance(answer, dict) else {"error": "expected an object from the daemon, found none"}

    def _no(self, text: str, why: Why) -> Outcome:
        return Outcome(is_done=False, text=text, state=self.state, why=why)

    def _said(self, answer: dict[str, Any]) -> Outcome:
        """Return what an answer says, in words."""
        state = str(answer.get("state") or self.state)
        if "error" in answer:
            why = Why.NO_ANSWER if answer.get("timeout") or state == NOT_RUNNING else Why.BY_THE_DAEMON
            return Outcome(is_done=False, text=str(answer["error"]), state=state, why=why)
        changes = answer.get("changes")
        told = "; ".join(map(str, changes)) or "nothing changed" if isinstance(changes, list) else ""
        text = str(answer.get("text") or told or answer.get("reason") or "done")
        self.state = state
        return Outcome(is_done=True, text=text, state=state)


class Quiet:
    """Says each kind of thing at most once in a while, and how often it was not said."""

    def __init__(self, every_s: float = SAY_EVERY_S) -> None:
        self._every_s = every_s
        self._said: dict[str, tuple[float, int]] = {}

    def say(self, what: str, now_s: float) -> int | None:
        """Return how often it went unsaid since the last time, or None if it should go unsaid now."""
        due_s, unsaid = self._said.get(what, (now_s, 0))
        if now_s < due_s:
            self._said[what] = (due_s, unsaid + 1)
            return None
        self._said[what] = (now_s + self._every_s, 0)
        return unsaid


def reply_topic(asked: object, answers: str) -> str:
    """Return the topic a sender asks to be answered at if it lies below `answers`, "" if it is any other.

    Nobody may have us publish elsewhere, least of all where another vault takes commands.
    """
    if not isinstance(asked, str) or not asked.startswith(f"{answers}/"):
        return ""
    return asked if re.fullmatch(r"[A-Za-z0-9_/-]{1,80}", asked.removeprefix(f"{answers}/")) else ""
