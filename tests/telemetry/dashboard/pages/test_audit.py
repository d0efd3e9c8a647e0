from __future__ import annotations

from bot.telemetry.dashboard.pages.audit import audit_line, audit_table
from tests.telemetry.states import a_told


def test_a_line_says_who_and_what_and_is_text() -> None:
    line = audit_line(a_told(1, text="Halt: <script>alert(1)</script>", fields={"issuer": "desk"}))
    assert "<script>" not in line
    assert "desk" in line
    assert "2023-11-14 22:13:20" in line
    assert "–" in audit_line(a_told(2))


def test_the_table_can_be_filled() -> None:
    assert 'data-k="audit"' in audit_table("audit")
