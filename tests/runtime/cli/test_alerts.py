"""`evenkeel alerts` without windows; with them it is in test_alert_window.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.domain.windows import Alert, Severity
from bot.runtime.cli.alerts import _lines
from bot.runtime.cli.app import app


def test_no_windows_no_alerts(busy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(busy)
    result = CliRunner().invoke(app, ["alerts", "busy.yaml"])
    assert result.exit_code == 3
    assert "error: expected windows at" in result.stderr


def test_a_line_says_what_became_of_it() -> None:
    began_ns = 1_767_225_600_000_000_000
    alert = Alert("eth:halted", "eth", Severity.CRITICAL, "halted", "why", began_ns, 0, "ann", began_ns, 2)
    assert _lines(alert) == [
        "critical  eth:halted  halted",
        "          why",
        "          since 2026-01-01T00:00:00.000+00:00, 2 times",
        "          acknowledged by ann",
        "          nobody did until 2026-01-01T00:00:00.000+00:00: reduce-only since",
    ]
