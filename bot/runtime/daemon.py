"""The daemon: one asyncio task group around one engine. Feeds put, one loop decides, the journal comes first.

It owns the clock and the order of things, and takes no decision of its own.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, get_args

import msgspec
import structlog

from bot import __version__
from bot.domain.decisions import BotState
from bot.domain.errors import ConfigError
from bot.domain.events import (
    AmendOrder,
    CancelOrder,
    Command,
    ConfigChanged,
    Event,
    OperatorAction,
    OperatorCommand,
    PlanCollateral,
    QueryTransfer,
    Restarted,
    SubmitOrder,
)
from bot.domain.orders import AmendRejected, OrderRejected, TimeInForce
from bot.domain.results import RunSummary
from bot.domain.risk import CollateralPlanned, SupposedPosition, TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_S
from bot.runtime.configuration.config import config_json, config_sha256
from bot.runtime.feed import Feed
from bot.runtime.journal import SCHEMA_VERSION, Batch, Commands, Header, Journal
from bot.runtime.live.session import NOT_SENT, LiveSession
from bot.runtime.live.transfers import BY_HAND, CONFIRM
from bot.runtime.mailbox import Mailbox
from bot.runtime.meters import DaemonMeters
from bot.runtime.operators.control import serve
from bot.runtime.operators.executed import ExecutedCommands
from bot.runtime.operators.halt_marker import Halt, HaltMarker
from bot.runtime.operators.operating import fit_for_journal, parse_operation, text_of, told_of, too_late
from bot.runtime.operators.reasons import secret_in
from bot.runtime.operators.reload import InForce, answer_of, event_of, read_plan, take_in, wish_of
from bot.runtime.recovery import Rebuilt, check_header, rebuild
from bot.runtime.risk.news import RiskNews
from bot.runtime.risk.snapshot import take_snapshot
from bot.runtime.service import Pulse, Service
from bot.runtime.session import Session
from bot.runtime.views import status_view
from bot.runtime.window_state import take_state
from bot.telemetry.telling import ToldMoney, ToldOrderWord, tell

FLUSH_EVERY_S = 0.5  # how much of the market's history a power cut may take; commands are always on disk first
STOP_TIMEOUT_S = 5.0
STATE_WAITS_S = 0.2  # how long a picture of the state may wait for a decision that is due
STUCK_S = 5.0  # what is taken in and not decided upon for so long never will be
WITHDRAW_TIMEOUT_S = 3.0  # how long a daemon that gives up waits for its last cancels
MUST_LAST = frozenset({OperatorCommand, ConfigChanged})  # what a person was told is done is on disk
ENDED_BY_RESUME = (BotState.REDUCE_ONLY, BotState.PAUSED, BotState.HALTED)
RESTING = (TimeInForce.POST_ONLY, TimeInForce.GTC)
LIST = "list"  # what is asked of transfers besides a person's word on one
MAX_WANTED = 20  # instruments that one question may ask prices of
ENDED = "expected a run that goes on, found its recording at its end; hint: ask again in a moment, when it has ended"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

ORDER_TOLD = (*get_args(ToldOrderWord), *get_args(ToldMoney))  # what is said of an order and of money, in words

log = structlog.get_logger()


class Runner(Protocol):
    """Whatever `run_all` runs."""

    async def run(self, stop: asyncio.Event) -> RunSummary:
        """Run until there is nothing more to do or `stop` is set; return the summary."""


class Daemon:
    """Runs one session through a mailbox, journalled.

    A recording goes `speed` times as fast as the clock (0: as fast as it goes); a live feed keeps its own pace, and
    obeys the halt `marker`. Without a `vault_file` there is none to read again.
    """

    def __init__(
        self,
        session: Session | LiveSession,
        journal: Journal,
        *,
        socket_path: Path,
        speed: float,
        progress: Callable[[int], None],
        marker: HaltMarker | None = None,
        vault_file: Path | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._session = session
        self._journal = journal
        self._socket_path = socket_path
        self._progress = progress
        self._marker = marker
        self._vault_file = vault_file.absolute() if vault_file is not None else None
        self._newest: InForce | None = None  # the configuration that is in force, or about to be
        self._mailbox = Mailbox()
        self._feed: Feed = session.open_feed(self._mailbox, speed)
        self._lifting: Halt | None = None  # the marked halt that a resume under way has seen
        self._withheld: frozenset[str] = frozenset()  # orders decided upon that are not on disk, and so never left
        self._is_withdrawn = False
        self._executed = ExecutedCommands()
        self._news = RiskNews(session.engine)
        self._meters = DaemonMeters()
        self._config_sha256 = config_sha256(session.vault)
        self._flushed_s = time.monotonic()
        self._pulse = pulse
        self._decided_s = time.monotonic()
        self._was = BotState.RUNNING  # before the newest decision
        self._tightened_ns = 0  # when the bot last became stricter, by the clock of the wall

    async def run(self, stop: asyncio.Event) -> RunSummary:
        """Recover, then run until the feed ends or `stop` is set; return the summary of the whole run."""
        began = time.perf_counter()
        structlog.contextvars.bind_contextvars(vault=self._session.vault.vault)  # of this task and those it starts
        async with serve(self._socket_path, self._answer):
            await self._recover()  # a recording awaits nothing here: who asks meanwhile waits for the answer
            self._beat()
            async with asyncio.TaskGroup() as tasks:
                feed = tasks.create_task(self._guarded(self._feed.run()), name="feed")
                decide = tasks.create_task(self._guarded(self._decide()), name="decide")
                flush = tasks.create_task(self._guarded(self._flush()), name="flush")
                stopped = tasks.create_task(stop.wait(), name="stop")
                await asyncio.wait({feed, decide, flush, stopped}, return_when=asyncio.FIRST_COMPLETED)
                # staged: no new data, then what was taken in is decided, then the journal; each with its own patience
                if not self._session.vault.is_live_feed:
                    feed.cancel()
                if not (decide.done() or flush.done()):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(STOP_TIMEOUT_S):
                            await self._mailbox.drained()
                for task in (decide, flush, stopped):
                    task.cancel()
                await self._withdraw()  # nobody watches what rests any more; the next start asks what became of it
                feed.cancel()
        self._journal.flush()
        if self._pulse is not None:
            self._pulse.end()
        return self._summary(time.perf_counter() - began)

    def _summary(self, wall_seconds: float) -> RunSummary:
        session = self._session
        summary = session.score.summary(policy=session.policy.name, seed=session.vault.seed, wall_seconds=wall_seconds)
        if session.latencies is None:
            return summary
        return msgspec.structs.replace(summary, latency_us=session.latencies.summary())

    async def _recover(self) -> None:
        """Bring the session to where the journal ends, then take in what venues say happened since."""
        found = self._rebuild()
        self._newest = found.in_force
        session = self._session = self._session._replace(vault=found.vault)
        self._config_sha256 = config_sha256(found.vault)
        truth = await session.truth(found.instruments)
        now_ns = self._feed.decision_ns(found.last_ns)
        if found.batches:
            self._decide_batch(now_ns, (Restarted(now_ns),))
        if truth:
            self._decide_batch(now_ns, self._feed.absorb(now_ns, truth))  # as the next rebuild will
        log.info(
            "run.recovered" if found.batches else "run.started",
            run=session.run_id,
            batches=found.batches,
            orders_in_doubt=sum(1 for _ in session.engine.orders.unknown()),
            state=str(session.engine.state),
        )

    def _rebuild(self) -> Rebuilt:
        session, journal = self._session, self._journal
        if journal.is_empty:
            journal.append(
                Header(
                    run_id=session.run_id,
                    vault=session.vault.vault,
                    config_json=config_json(session.vault),
                    config_sha256=config_sha256(session.vault),
                    recording=session.recording_name,
                    recording_sha256=session.recording_sha256,
                    seed=session.vault.seed,
                    schema_version=SCHEMA_VERSION,
                    evenkeel_version=__version__,
                    instruments=session.instruments,
                )
            )
            journal.flush()
            return Rebuilt(session.vault, session.instruments)
        check_header(journal, session)
        found = rebuild(session, journal, progress=self._progress)
        self._executed.learn(found.command_ids, found.last_ns)
        self._news.take()  # what was told before the restart is not told again
        self._feed.resume(found.last_ns)
        return found

    async def _decide(self) -> None:
        while True:
            received_ns, events = await self._mailbox.take()
            now_ns = self._feed.decision_ns(received_ns)
            self._decide_batch(now_ns, self._feed.absorb(now_ns, events))
            self._mailbox.done()
            self._decided_s = time.monotonic()
            self._progress(now_ns)

    def _decide_batch(self, now_ns: int, events: tuple[Event, ...]) -> None:
        """Journal, apply, decide, journal and flush, and only then hand the commands over."""
        session = self._session
        engine = session.engine
        events = self._with_marked_halt(now_ns, events)
        self._journal.append(Batch(now_ns, events))
        for event in events:
            self._session = session = take_in(session, event)
            if isinstance(event, ConfigChanged):
                self._config_sha256 = event.config_sha256
            if isinstance(event, CollateralPlanned):
                self._warn_of(event)
        began_ns = time.perf_counter_ns()
        commands = engine.decide(now_ns)
        took_ns = time.perf_counter_ns() - began_ns
        if engine.state is not self._was:
            self._was = engine.state
            if engine.state in ENDED_BY_RESUME:
                self._tightened_ns = time.time_ns()
        self._withheld = frozenset(c.intent.order_id for c in commands if isinstance(c, SubmitOrder))
        if commands:
            self._journal.append(Commands(now_ns, tuple(commands)))
        if commands or not MUST_LAST.isdisjoint(map(type, events)):
            self._journal.flush()
        self._withheld = frozenset()
        self._lift_marker(events)
        for command in commands:
            self._hand_over(command, now_ns)
        for of, change in self._news.take():
            log.warning("risk.changed", of=of, change=change)
        if log.is_enabled_for(logging.INFO):
            self._log_life(events)
        session.score.observe(now_ns, len(events), commands, took_ns)
        self._meters.note_decision(took_ns)
        if session.latencies is not None:
            session.latencies.note(now_ns, events, commands)

    def _log_life(self, events: Sequence[Event]) -> None:
        """Log what venues said of our orders, as it is told everywhere: with the order's id, from decision to fill."""
        for event in events:
            if isinstance(event, ORDER_TOLD):
                for line in tell(event, self._session.engine.holdings.instruments.get):
                    log.info("order.told", order_id=line.order_id, kind=str(line.kind), text=line.text)

    def _warn_of(self, event: CollateralPlanned) -> None:
        """Tell people what a collateral plan lacks."""
        desk = self._session.engine.collateral
        now = desk.now() if desk is not None else None
        if now is not None and now.plan_id == event.plan_id and (now.fault or not now.is_met):
            missing = [*now.violations, *now.excesses, *now.warnings]
            log.warning("collateral.lacks", plan_id=now.plan_id, method=now.method, fault=now.fault, missing=missing)

    def _hand_over(self, command: Command, now_ns: int) -> None:
        """Let a command leave, unless it would open or move an order, or collateral, under a marked halt."""
        if isinstance(command, TransferCollateral) and self._marker is not None and self._marker.is_set:
            why = f"{NOT_SENT}{self._marker.read()}"
            self._mailbox.put(now_ns, [not_moved(command, why, now_ns)])
            log.warning("command.withheld", transfer_id=command.transfer_id, why=why)
            return
        if isinstance(command, SubmitOrder | AmendOrder) and self._marker is not None and self._marker.is_set:
            why = f"{NOT_SENT}{self._marker.read()}"
            order_id = command.intent.order_id if isinstance(command, SubmitOrder) else command.order_id
            refused = OrderRejected if isinstance(command, SubmitOrder) else AmendRejected
            self._mailbox.put(now_ns, [refused(order_id, why, now_ns, now_ns)])
            log.warning("command.withheld", order_id=order_id, why=why)
            return
        self._feed.submit(command, now_ns)
        log.info("command.sent", **_loggable(command))

    def _with_marked_halt(self, now_ns: int, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Return the batch with a halt at its end if the marker stands and the engine does not know."""
        if self._marker is None or self._session.engine.state is BotState.HALTED or not self._marker.is_set:
            return events
        halt = self._marker.read()
        told = {event.action for event in events if isinstance(event, OperatorCommand)}
        if halt is None or told & {OperatorAction.HALT, OperatorAction.RESUME}:
            return events
        log.warning("halt.marked", issuer=halt.issuer, reason=halt.reason)
        return (*events, OperatorCommand(OperatorAction.HALT, halt.issuer, halt.reason, now_ns))

    def _lift_marker(self, events: Sequence[Event]) -> None:
        """Take the marker away once the resume that saw it is on disk."""
        if self._marker is None or self._lifting is None:
            return
        if any(isinstance(event, OperatorCommand) and event.action is OperatorAction.RESUME for event in events):
            self._marker.remove(self._lifting)
            self._lifting = None

    async def _flush(self) -> None:
        while True:
            due_s = time.monotonic() + FLUSH_EVERY_S
            await asyncio.sleep(FLUSH_EVERY_S)
            self._meters.loop_lag_s = max(0.0, time.monotonic() - due_s)
            self._journal.flush()
            self._flushed_s = time.monotonic()
            self._beat()

    def _beat(self) -> None:
        """Give a sign of life, unless what was taken in is not decided upon."""
        goes_on = self._mailbox.is_drained or time.monotonic() - self._decided_s < STUCK_S
        if self._pulse is not None and goes_on:
            self._pulse.beat(str(self._session.engine.state))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work; if it fails, cancel what rests before anybody hears of it: the gateways are still open."""
        try:
            await work
        except Exception as error:
            log.warning("run.failing", error=type(error).__name__)
            await self._withdraw()
            raise

    async def _withdraw(self) -> None:
        """Cancel every order that may rest at a venue, past the journal: it may be the very thing that failed."""
        if self._is_withdrawn:
            return
        self._is_withdrawn = True
        live = [order.intent for order in self._session.engine.orders.live.values()]
        cancels = [
            CancelOrder(intent.order_id, intent.instrument_id, "the daemon ends")
            for intent in live
            if intent.time_in_force in RESTING and intent.order_id not in self._withheld
        ]
        under_way = [intent for intent in live if intent.gas is not None and intent.order_id not in self._withheld]
        if under_way:  # a transaction cannot rest for ever: its deadline is in it
            log.warning(
                "run.transactions_left",
                order_ids=[intent.order_id for intent in under_way],
                void_after=max(_utc(intent.gas.deadline_ns) for intent in under_way if intent.gas is not None),
            )
        left = await self._feed.withdraw(cancels, WITHDRAW_TIMEOUT_S)
        if left:
            log.error("run.orders_left", order_ids=left)

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any] | bytes:
        verb = question.get("verb")
        if verb == "view":
            return {**status_view(self._session, self._feed.now_ns()), **self._feed.view(), "running": True}
        if verb == "state":
            await self._after_decisions()
            return self._state()
        if verb == "risk":
            await self._after_decisions()
            return self._risk(question)
        asked = {
            "suppose": self._suppose,
            "operate": self._operate,
            "reload": self._reload,
            "transaction": self._help_transaction,
            "transfer": self._help_transfer,
        }
        if isinstance(verb, str) and verb in asked:
            return await asked[verb](question)
        return {"error": f"expected the verb view, state, risk, {', '.join(asked)}, found {verb!r:.50}"}

    async def _help_transaction(self, question: dict[str, Any]) -> dict[str, Any]:
        asked = (str(question.get(name, ""))[:200] for name in ("chain", "key", "action"))
        why_not = await self._feed.help_transaction(*asked)
        return {"error": why_not} if why_not else {}

    async def _help_transfer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Tell of transfers under way, or take a person's word on one: what comes of it is an event, and journalled."""
        action = str(question.get("action", ""))
        if action != LIST:
            amount, fee = question.get("amount"), question.get("fee", 0.0)
            if action not in (CONFIRM, *BY_HAND):
                return {"error": f"expected {LIST}, {CONFIRM}, {', '.join(BY_HAND)}, found {action[:50]!r}"}
            if not (amount is None or isinstance(amount, int | float)) or not isinstance(fee, int | float):
                return {"error": f"expected numbers, found an amount of {amount!r:.50} and a fee of {fee!r:.50}"}
            transfer_id, issuer = (str(question.get(key, ""))[:100] for key in ("transfer_id", "issuer"))
            engine = self._session.engine
            is_marked = self._marker is not None and self._marker.is_set
            if action == CONFIRM and (is_marked or engine.state in (BotState.HALTED, BotState.PAUSED)):
                why = "a halt is marked" if is_marked else f"{engine.state}: {engine.state_reason}"
                return {"error": f"expected a bot that may send to confirm a transfer, found {why}; hint: resume first"}
            why_not = self._feed.help_transfer(action, transfer_id, amount, float(fee), issuer)
            log.warning("transfer.ordered", action=action, transfer_id=transfer_id, issuer=issuer, why_not=why_not)
            if why_not:
                return {"error": why_not}
            await self._mailbox.drained()
        waiting = self._feed.view().get("transfers_to_confirm", [])
        view = status_view(self._session, self._feed.now_ns())["margin"]
        lines = [{**one, "waits_for_confirmation": one["transfer_id"] in waiting} for one in view["transfers"]]
        return {"transfers": lines, "notices": view.get("transfer_notices", [])}

    async def _after_decisions(self) -> None:
        """Let what has reached us be decided upon first: no hedge waits for somebody's picture of it."""
        for _ in range(2):  # a message that came with the question is in the mailbox then
            await asyncio.sleep(0)
        if not self._mailbox.is_drained:
            with suppress(TimeoutError):
                async with asyncio.timeout(STATE_WAITS_S):
                    await self._mailbox.drained()

    def _state(self) -> bytes:
        """Copy out what windows show, written as it leaves: four times a second and vault there is no time for more."""
        lag_s = time.monotonic() - self._flushed_s
        meters = self._meters.read(self._journal.last_seq, lag_s, self._session.latencies)
        state = take_state(self._session, self._feed.view(), meters, self._feed.now_ns(), self._config_sha256)
        return msgspec.json.encode(state)

    def _risk(self, question: dict[str, Any]) -> dict[str, Any]:
        """Copy out what risk is reckoned from; whoever asked does the reckoning."""
        names = question.get("instruments", [])
        wanted = [str(one) for one in names[:MAX_WANTED]] if isinstance(names, list) else []
        session = self._session
        try:
            found = take_snapshot(
                session.vault,
                session.engine,
                self._feed.now_ns(),
                "the running daemon",
                wanted,
                is_posed=question.get("collateral") is True,
                is_running=True,
            )
        except ConfigError as error:
            return {"error": "; ".join(error.problems)}
        answer: dict[str, Any] = msgspec.to_builtins(found)
        return answer

    async def _suppose(self, question: dict[str, Any]) -> dict[str, Any]:
        """Have the venue itself say what it would ask for with a position changed."""
        try:
            change = msgspec.convert(question.get("change"), SupposedPosition)
        except msgspec.ValidationError as error:
            return {"error": f"expected a change of a position, found {error}"}
        found = await self._feed.suppose(change)
        return {"silent": found} if isinstance(found, str) else {"supposed": msgspec.to_builtins(found)}

    async def _reload(self, question: dict[str, Any]) -> dict[str, Any]:
        """Read the vault's file again; carry out what it changes unless something of it cannot be, or is not wanted."""
        wish, file, session = wish_of(question), self._vault_file, self._session
        if file is None or self._newest is None:
            return {"error": "expected a daemon that has a file and has recovered; hint: try again in a moment"}
        if why_not := secret_in(*(text_of(question, name) for name in ("issuer", "reason", "command_id"))):
            return {"error": why_not, "refusal": "holds_secret"}
        plan = None
        while plan is None or plan.old is not self._newest:  # until nobody was faster
            try:
                plan = await asyncio.to_thread(read_plan, self._newest, file, session.settings_for)
            except ConfigError as error:
                return {"error": "; ".join(error.problems), "problems": list(error.problems)}
        answer = {**answer_of(plan, wish), "state": str(session.engine.state)}
        if "error" not in answer and plan.verdict.changes and not wish.is_dry_run:
            now_ns = self._feed.catch_up()
            if self._feed.is_over:
                return {"error": ENDED, "refusal": "ended"}
            if why_not := self._executed.claim(wish.command_id, now_ns):
                return {"error": why_not, "refusal": "executed"}
            self._newest = plan.old.then(plan.new, plan.verdict.keys)
            self._mailbox.put(now_ns, [event_of(plan, wish, now_ns)])
            await self._mailbox.drained()
            answer["is_applied"] = True
        changes, why_not = answer["changes"], answer.get("error", "")
        log.warning("operator.reload", issuer=wish.issuer, reason=wish.reason, changes=changes, why_not=why_not)
        return answer

    async def _operate(self, question: dict[str, Any]) -> dict[str, Any]:
        """Carry out a person's command: once, journalled before it is answered, or not at all and with a reason."""
        # Through the mailbox like everything else: in order, at the world's time, and an error there ends the daemon.
        now_ns = self._feed.catch_up()
        engine = self._session.engine
        question, why_not = fit_for_journal(question)
        command = parse_operation(question, now_ns)
        if isinstance(command, str):
            return {"error": command}
        if self._feed.is_over:
            return _refuse_to_operate(command, "ended", ENDED)
        if why_not:
            return _refuse_to_operate(command, "holds_secret", why_not)
        marked = self._marker.read() if self._marker is not None else None
        if late := too_late(question, command.action, time.time_ns(), marked, self._tightened_ns):
            return _refuse_to_operate(command, "late", late)
        refused = engine.operator.refuse(command, engine.state)
        if refused is not None:
            return _refuse_to_operate(command, refused.refusal, refused.text)
        if why_not := self._executed.claim(command.command_id, now_ns):
            return _refuse_to_operate(command, "executed", why_not)
        if command.action is OperatorAction.RESUME:
            self._lifting = marked
        self._mailbox.put(now_ns, [command])
        await self._mailbox.drained()
        refused = engine.operator.verdict_on(command)  # what came before it in its batch may have changed the answer
        if refused is not None:
            return _refuse_to_operate(command, refused.refusal, refused.text)
        text = told_of(command, engine)
        log.warning(
            "operator.command",
            action=str(command.action),
            issuer=command.issuer,
            reason=command.reason,
            command_id=command.command_id,
            state=str(engine.state),
            text=text,
        )
        return {"state": str(engine.state), "reason": engine.state_reason, "text": text}


def _refuse_to_operate(command: OperatorCommand, refusal: str, why: str) -> dict[str, Any]:
    """Return the answer to a person's command that is not carried out."""
    log.warning(
        "operator.refused",
        action=str(command.action),
        issuer=command.issuer,
        command_id=command.command_id,
        refusal=str(refusal),
        why=why,
    )
    return {"error": why, "refusal": str(refusal)}


def not_moved(command: TransferCollateral, why: str, now_ns: int) -> TransferUpdate:
    """Return the word that a transfer never left."""
    return TransferUpdate(
        transfer_id=command.transfer_id,
        state=TransferState.FAILED,
        asset=command.asset,
        amount=0.0,
        fee=0.0,
        from_venue=command.from_venue,
        to_venue=command.to_venue,
        route=command.route,
        reason=why,
        ts_event_ns=now_ns,
        ts_recv_ns=now_ns,
    )


def _utc(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NS_PER_S, UTC).isoformat()


def _loggable(command: Command) -> dict[str, object]:
    intent = getattr(command, "intent", None)
    if isinstance(command, PlanCollateral):
        return {"kind": "PlanCollateral", "plan_id": command.plan_id, "reason": command.reason}
    if intent is None:
        transfer = command.transfer if isinstance(command, QueryTransfer) else command
        if isinstance(transfer, TransferCollateral):
            return {"kind": type(command).__name__, **msgspec.structs.asdict(transfer)}
        return {"kind": type(command).__name__, "order_id": getattr(command, "order_id", "")}
    return {
        "kind": "SubmitOrder",
        "order_id": intent.order_id,
        "instrument": intent.instrument_id,
        "qty_lots": intent.qty_lots,
        "reason": intent.reason,
    }


@contextmanager
def stopping(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` on SIGINT, SIGTERM or SIGHUP for the length of the block."""
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def run_all(
    daemons: Sequence[Runner],
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
    service: Service | None = None,
) -> list[RunSummary]:
    """Run every daemon until its feed ends; SIGINT, SIGTERM or SIGHUP stops them all in stages, as one that fails does.

    `beside` runs meanwhile and is cancelled in the end; whatever becomes of it, the daemons do not hear of it.
    `service` tells the service manager how they do.

    Raises an ExceptionGroup of what failed once all have ended.
    """
    stop = asyncio.Event()

    async def run(daemon: Runner) -> RunSummary:
        try:
            return await daemon.run(stop)
        except Exception:
            stop.set()  # the others have orders to take back, for which a cancellation leaves no time
            raise

    with stopping(stop):
        company = [asyncio.create_task(beside(), name="beside")] if beside is not None else []
        if service is not None:
            company.append(asyncio.create_task(service.run(stop), name="service"))
        ended = await asyncio.gather(*(run(daemon) for daemon in daemons), return_exceptions=True)
        for one in company:
            one.cancel()
            await asyncio.wait([one])
            if not one.cancelled() and (error := one.exception()) is not None:
                log.error("windows.failed", why=f"{type(error).__name__}: {error}")
    if failed := [one for one in ended if isinstance(one, BaseException)]:
        raise BaseExceptionGroup("daemons failed", failed)
    return [one for one in ended if not isinstance(one, BaseException)]
