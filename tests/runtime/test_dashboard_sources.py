from __future__ import annotations

from pathlib import Path

from bot.runtime.dashboard_sources import AuditTrail, DashboardSources
from bot.runtime.windows_cli import watch
from tests.runtime.command_line import CommandLine


def paused(evenkeel: CommandLine, folder: Path) -> Path:
    """Run a vault for a moment, pause it, and return its journal."""
    result = evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=folder)
    assert result.code == 0, result.err
    for action in ("pause", "resume"):
        result = evenkeel.run(action, "busy.yaml", "--reason", f"to {action} it", cwd=folder)
        assert result.code in {0, 3}, result.err
    return folder / ".evenkeel" / "busy.sqlite"


async def test_the_audit_log_is_what_the_journal_holds_of_people(evenkeel: CommandLine, busy: Path) -> None:
    journal = paused(evenkeel, busy)
    trail = AuditTrail(journal)
    lines = trail.newest(10)
    assert {line.kind for line in lines} <= {"command", "config", "run"}
    assert lines[-1].kind == "run"
    assert [line.fields["issuer"] for line in lines if line.kind == "command"]
    assert "to pause it" in " ".join(line.text for line in lines)
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
