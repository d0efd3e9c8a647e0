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
from bot.domain.events import AmendOrder, Command, ConfigChanged, Event, OperatorCommand, Restarted, SubmitOrder
from bot.domain.instruments import Instrument
from bot.domain.orders import AmendRejected, OrderRejected
from bot.domain.risk import TransferCollateral, TransferUpdate
from bot.domain.venues import InstrumentDelisted, InstrumentListed
from bot.runtime.configuration.config import config_sha256
from bot.runtime.configuration.vault import Vault
from bot.runtime.journal import Commands, Header, Journal, verify
from bot.runtime.live.session import NOT_SENT, LiveSession, look_at
from bot.runtime.operators.reload import InForce, read_vault, take_in
from bot.runtime.session import Session, open_session

MAX_COMMAND_IDS = 100_000


class Rebuilt:
    """What replaying a journal found: the configuration it ends with, and for a live feed what is listed there."""

    def __init__(self, vault: Vault, instruments: Sequence[Instrument]) -> None:
        self.in_force = InForce.began(vault)
        self.batches = 0
        self.last_ns = 0
        self.instruments = {instrument.instrument_id: instrument for instrument in instruments}
        self.command_ids: deque[str] = deque(maxlen=MAX_COMMAND_IDS)  # of people's commands, oldest first

    @property
    def vault(self) -> Vault:
        """The configuration."""
        return self.in_force.vault

    def note(self, now_ns: int, events: Sequence[Event]) -> None:
        """Count one batch and follow what venues list."""
        self.batches += 1
        self.last_ns = now_ns
        for event in events:
            if isinstance(event, InstrumentListed):
                self.instruments[event.instrument.instrument_id] = event.instrument
            elif isinstance(event, InstrumentDelisted):
                self.instruments.pop(event.instrument_id, None)
            elif isinstance(event, OperatorCommand | ConfigChanged) and event.command_id:
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
    found = Rebuilt(session.vault, session.instruments)
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
            session = take_in(session, event)
            if isinstance(event, ConfigChanged):
                found.in_force = found.in_force.then(session.vault, event.confirmed)
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

    It is as the journal began; rebuilding it takes up every change since. Raises JournalError unless `vault` is the
    journal's newest configuration.
    """
    began = began_as(vault, journal)
    session = look_at(began, journal.header) if began.is_live_feed else open_session(began)
    check_header(journal, session)
    return session


def began_as(vault: Vault, journal: Journal) -> Vault:
    """Return the configuration that a journal began with, which is `vault` where nothing was changed since.

    Raises JournalError unless `vault` is the journal's newest configuration.
    """
    if journal.is_empty:
        return vault
    _refuse_other("vault", vault.vault, journal.header.vault)
    _refuse_other("configuration", config_sha256(vault), config_sha256(newest_vault(journal)))
    return read_vault(journal.header.config_json)


def newest_vault(journal: Journal) -> Vault:
    """Return the configuration that a journal ends with: that of its newest change, else its header's."""
    change = journal.newest_change()
    return read_vault(journal.header.config_json if change is None else change.config_json)


def in_force(journal: Journal) -> InForce:
    """Return what a journal ends with: its configuration, and how tight each limit has been since it was confirmed."""
    found = InForce.began(read_vault(journal.header.config_json))
    for change in journal.changes():
        found = found.then(read_vault(change.config_json), change.confirmed)
    return found


def refuse_damaged(path: Path) -> None:
    """Raise JournalError for a journal that does not hold to its last row: what it says would be a guess."""
    fault = verify(path).fault
    if fault is not None:
        raise JournalError(f"{path}: {fault.detail}; hint: evenkeel journal verify says how far it holds")


def journal_path(vault: Vault) -> Path:
    """Return where the vault's journal lies."""
    return Path(vault.state_dir) / f"{vault.vault}.sqlite"


def check_header(journal: Journal, session: Session | LiveSession) -> None:
    """Raise JournalError unless the journal began as this session does: with its configuration, on its feed."""
    _refuse_other("vault", session.vault.vault, journal.header.vault)
    _refuse_other("configuration", config_sha256(session.vault), config_sha256(read_vault(journal.header.config_json)))
    _refuse_other("recording", session.recording_sha256, journal.header.recording_sha256)


def _refuse_other(what: str, ours: str | None, theirs: str | None) -> None:
    if ours != theirs:
        hint = "name another with --journal, or move the old one away"
        if what == "configuration":
            hint = f"`evenkeel reload` takes the changed file into it, where it can be changed; else {hint}"
        expected = f"expected a journal of {what} {str(ours)[:16]}"
        raise JournalError(f"{expected}, found one of {str(theirs)[:16]}; hint: {hint}")


def _differs(seq: int, journalled: Sequence[Command], decided: Sequence[Command]) -> str:
    return (
        f"row {seq}: expected the engine to decide as it did then ({len(journalled)} commands: {list(journalled)[:2]}),"
        f" found {len(decided)}: {list(decided)[:2]}; hint: the code or the recording changed since; nothing was sent"
    )
