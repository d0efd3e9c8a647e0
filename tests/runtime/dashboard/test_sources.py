from __future__ import annotations

from pathlib import Path

from bot.domain.events import OperatorAction, OperatorCommand
from bot.runtime.cli.windows import watch
from bot.runtime.dashboard.sources import AuditTrail, DashboardSources
from bot.runtime.journal import Batch
from tests.runtime.test_journal_tail import HEADER, write

PAUSE = OperatorCommand(OperatorAction.PAUSE, "desk", "alice: to look at it", 5)
RESUME = OperatorCommand(OperatorAction.RESUME, "desk", "alice: looked at", 9)


async def test_the_audit_log_is_what_the_journal_holds_of_people(busy: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    write(journal, HEADER, Batch(5, (PAUSE,)))
    trail = AuditTrail(journal)
    assert [line.kind for line in trail.newest(10)] == ["command", "run"]
    write(journal, Batch(9, (RESUME,)))
    lines = trail.newest(10)
    assert [line.kind for line in lines] == ["command", "command", "run"]
    assert [line.fields["issuer"] for line in lines[:2]] == ["desk", "desk"]
    assert "looked at" in lines[0].text
    assert trail.newest(1) == lines[:1]
    trail.close()
    sources = DashboardSources(watch([busy / "busy.yaml"], journal))
    assert await sources.audit("busy", 10) == lines
    assert await sources.audit("nobody's", 10) == ()
    assert "busy" in sources.replays.vaults
    await sources.close()


def test_a_journal_that_is_not_there_is_an_empty_log(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "none.sqlite")
    assert trail.newest(10) == []
    trail.close()


def test_a_journal_that_is_none_is_no_reason_to_fail(tmp_path: Path) -> None:
    path = tmp_path / "broken.sqlite"
    path.write_bytes(b"not a journal" * 100)
    trail = AuditTrail(path)
    assert trail.newest(10) == []
    trail.close()
