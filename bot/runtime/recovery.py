"""Recovery is start-up: replay the journal through a fresh engine and a fresh world, then go on from there.

The engine must decide exactly what it decided before; if it does not, the code or the data changed and nothing is sent.
The simulated venue is rebuilt from its seed and from the commands that provably reached it: commands are handed over
right after they are on disk and before the next batch is, so only the last ones before a stop are in doubt. Those the
rebuilt venue does not know, and their orders start UNKNOWN until it is asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from bot.domain.errors import JournalError
from bot.domain.events import AmendOrder, Command, Event, OperatorCommand, Restarted, SubmitOrder
from bot.domain.instruments import Instrument
from bot.domain.orders import AmendRejected, OrderRejected
from bot.domain.risk import TransferCollateral, TransferUpdate
from bot.domain.venues import InstrumentDelisted, InstrumentListed
from bot.runtime.config import config_sha256
from bot.runtime.journal import Commands, Header, Journal, verify
from bot.runtime.live import NOT_SENT, LiveSession, look_at
from bot.runtime.session import Session, open_session
from bot.runtime.vault import Vault

MAX_COMMAND_IDS = 100_000


class Rebuilt:
    """What replaying a journal found; `instruments` are those listed where it ends, for a live feed."""

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self.batches = 0
        self.last_ns = 0
        self.instruments = {instrument.instrument_id: instrument for instrument in instruments}
        self.command_ids: deque[str] = deque(maxlen=MAX_COMMAND_IDS)  # of people's commands, oldest first

    def note(self, now_ns: int, events: Sequence[Event]) -> None:
        """Count one batch and follow what venues list."""
        self.batches += 1
        self.last_ns = now_ns
        for event in events:
            if isinstance(event, InstrumentListed):
                self.instruments[event.instrument.instrument_id] = event.instrument
            elif isinstance(event, InstrumentDelisted):
                self.instruments.pop(event.instrument_id, None)
            elif isinstance(event, OperatorCommand) and event.command_id:
                self.command_ids.append(event.command_id)


def rebuild(
    session: Session | LiveSession,
    journal: Journal,
    *,
    is_world_wanted: bool = True,
    stopwatch_ns: Callable[[], int] = lambda: 0,
    progress: Callable[[int], None] = lambda _now_ns: None,
) -> Rebuilt:
    """Bring a fresh session to where the journal ends.

    Without `is_world_wanted` only the engine and the score are rebuilt, as for a report. Raises JournalError if the
    engine now decides anything else than what the journal holds.
    """
    engine, score, latencies = session.engine, session.score, session.latencies
    found = Rebuilt(session.instruments)
    decided: list[Command] = []
    decided_ns = 0
    took_ns = 0
    is_journalled = True
    for seq, record in journal.records():
        if isinstance(record, Header):
            continue
        if isinstance(record, Commands):
            if tuple(decided) != record.commands or decided_ns != record.now_ns:
                raise JournalError(_differs(seq, record.commands, decided))
            is_journalled = True
            continue
        is_restart = bool(record.events) and isinstance(record.events[0], Restarted)
        # A kill may leave a batch without its commands on disk: then none of them left, as the restart assumes.
        if not (is_journalled or is_restart):
            raise JournalError(_differs(seq, (), decided))
        if is_world_wanted:
            if not is_restart:
                for command in _sent(decided, record.events):
                    session.resubmit(command, decided_ns)
            session.retrace(record.now_ns, record.events)
        for event in record.events:
            engine.apply(event)
        began_ns = stopwatch_ns()
        decided = engine.decide(record.now_ns)
        took_ns = stopwatch_ns() - began_ns
        decided_ns = record.now_ns
        is_journalled = not decided
        score.observe(record.now_ns, len(record.events), decided, took_ns)
        if latencies is not None:
            latencies.note(record.now_ns, record.events, decided)
        found.note(record.now_ns, record.events)
        progress(record.now_ns)
    return found


def _sent(commands: Sequence[Command], then: Sequence[Event]) -> list[Command]:
    """Return the commands that left: a halt marker stops some, which the very next batch says."""
    stopped = {
        event.transfer_id if isinstance(event, TransferUpdate) else event.order_id
        for event in then
        if isinstance(event, OrderRejected | AmendRejected | TransferUpdate) and event.reason.startswith(NOT_SENT)
    }
    return [
        command
        for command in commands
        if not (isinstance(command, SubmitOrder) and command.intent.order_id in stopped)
        and not (isinstance(command, AmendOrder) and command.order_id in stopped)
        and not (isinstance(command, TransferCollateral) and command.transfer_id in stopped)
    ]


def session_of(vault: Vault, journal: Journal) -> Session | LiveSession:
    """Return a fresh session to rebuild from a journal: of its recording, or of the instruments it holds.

    Raises JournalError where a live feed's journal is one of another configuration.
    """
    if not vault.is_live_feed:
        return open_session(vault)
    if journal.header.config_sha256 != config_sha256(vault):
        hint = "name another with --journal, or move the old one away"
        raise JournalError(f"expected a journal of this configuration, found one of another; hint: {hint}")
    return look_at(vault, journal.header)


def refuse_damaged(path: Path) -> None:
    """Raise JournalError for a journal that does not hold to its last row: what it says would be a guess."""
    fault = verify(path).fault
    if fault is not None:
        raise JournalError(f"{path}: {fault.detail}; hint: evenkeel journal verify says how far it holds")


def journal_path(vault: Vault) -> Path:
    """Return where the vault's journal lies."""
    return Path(vault.state_dir) / f"{vault.vault}.sqlite"


def check_header(journal: Journal, session: Session | LiveSession, config_sha256: str) -> None:
    """Raise JournalError unless the journal was written by this vault's configuration on this feed."""
    header = journal.header
    for what, ours, theirs in (
        ("vault", session.vault.vault, header.vault),
        ("configuration", config_sha256, header.config_sha256),
        ("recording", session.recording_sha256, header.recording_sha256),
    ):
        if ours != theirs:
            raise JournalError(
                f"expected a journal of {what} {str(ours)[:16]}, found one of {str(theirs)[:16]}; "
                "hint: name another with --journal, or move the old one away"
            )


def _differs(seq: int, journalled: Sequence[Command], decided: Sequence[Command]) -> str:
    return (
        f"row {seq}: expected the engine to decide as it did then ({len(journalled)} commands: {list(journalled)[:2]}),"
        f" found {len(decided)}: {list(decided)[:2]}; hint: the code or the recording changed since; nothing was sent"
    )
