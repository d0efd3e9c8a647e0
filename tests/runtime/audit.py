"""What must hold of every journal, whatever happened to the daemons that wrote it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from bot.domain.events import SubmitOrder
from bot.domain.orders import Fill
from bot.runtime.configuration.config import load_vaults
from bot.runtime.journal import Batch, Commands, Journal, verify
from bot.runtime.recovery import rebuild, session_of
from bot.runtime.session import Session

PER_PROCESS = ("events_per_second", "decision_us")  # the only figures of a summary that a replay may not repeat


class Rows(NamedTuple):
    """A journal's records, by kind, without its header."""

    batches: list[Batch]
    commands: list[Commands]

    @property
    def events(self) -> list[object]:
        return [event for batch in self.batches for event in batch.events]

    @property
    def submitted(self) -> list[str]:
        return [one.intent.order_id for row in self.commands for one in row.commands if isinstance(one, SubmitOrder)]


def read_rows(path: Path) -> Rows:
    """Return what a journal holds."""
    with Journal.open(path, for_writing=False) as journal:
        records = [record for _, record in journal.records()]
    return Rows([r for r in records if isinstance(r, Batch)], [r for r in records if isinstance(r, Commands)])


def reopen(vault_file: Path, journal_path: Path) -> Session:
    """Return the session that a start would have after rebuilding it from the journal, simulated venue included."""
    (vault,) = load_vaults([vault_file])
    with Journal.open(journal_path, for_writing=False) as journal:
        session = session_of(vault, journal)
        rebuild(session, journal)
    assert isinstance(session, Session)
    return session


def audit(vault_file: Path, journal_path: Path) -> Session:
    """Check a journal whose run came to its end; return the session rebuilt from it."""
    assert verify(journal_path).is_valid
    rows = read_rows(journal_path)
    assert len(rows.submitted) == len(set(rows.submitted)), "an intent was sent under one id twice"
    seqs = [seq for event in rows.events if (seq := getattr(event, "seq", None)) is not None]
    assert all(earlier < later for earlier, later in pairwise(seqs)), "a market event was applied twice or out of turn"
    times = [batch.now_ns for batch in rows.batches]
    assert times == sorted(times), "time went back"
    session = reopen(vault_file, journal_path)
    check_books(session)
    check_cash(session, rows)
    return session


def check_books(session: Session) -> None:
    """Check that engine and venue agree, that nothing is left in doubt, and that the parts of the P&L add up."""
    engine, venue = session.engine, session.world.venue
    assert not engine.orders.live
    held = {d.settings.instrument.instrument_id: d.hedge.lots for d in engine.desks.values() if d.hedge.lots}
    assert held == venue.positions
    engine.close_steps(max(desk.decided_ns for desk in engine.desks.values()))
    assert engine.pnl().total == pytest.approx(engine.pnl_total_quote(), abs=1e-6)


def check_cash(session: Session, rows: Rows) -> None:
    """Check that the rebuilt venue booked the very fills that the journal holds."""
    (desk,) = session.engine.desks.values()
    instrument = desk.settings.instrument
    fills = {
        f.trade_id: f for event in rows.events for f in (getattr(event, "fills", None) or (event,)) if type(f) is Fill
    }
    cash = sum(-fill.qty_lots * instrument.lot_size * fill.px - fill.fee_settle for fill in fills.values())
    assert session.world.venue.cash_settle.get(instrument.settle, 0.0) == pytest.approx(cash, abs=1e-6)


def without_timings(summary: dict[str, object]) -> dict[str, object]:
    """Return a summary without what depends on the machine."""
    return {key: value for key, value in summary.items() if key not in PER_PROCESS}
