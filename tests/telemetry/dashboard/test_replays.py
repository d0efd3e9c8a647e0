"""What pages know of replays: nothing runs before one is started, and a state is a value."""

from __future__ import annotations

from bot.telemetry.dashboard.replays import ReplayState


def test_at_first_nothing_runs_and_nothing_is_known() -> None:
    first = ReplayState()
    assert (first.is_running, first.runs, first.fraction, first.error) == (False, (), 0.0, "")
    assert first == ReplayState()
    assert first != ReplayState(error="it was canceled")
