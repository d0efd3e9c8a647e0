"""How a replay stands, in a sentence."""

from __future__ import annotations

from msgspec.structs import replace

from bot.telemetry.dashboard.pages.replay import NO_VAULT, START, tell
from bot.telemetry.dashboard.replays import ReplayState

STATE = ReplayState(
    is_running=True, vault="v", recording="r", policies=("impulse", "leland"), user="kim", fraction=0.256, told="now"
)


def test_a_replay_is_told_by_who_began_it_and_how_far_it_is() -> None:
    assert tell(ReplayState()) == START
    assert tell(ReplayState(), is_any_vault=False) == NO_VAULT
    assert tell(STATE) == "v on r: impulse, leland, 26%, started by kim. now"
    assert tell(replace(STATE, is_running=False)) == "v on r: impulse, leland: done, started by kim."
    assert tell(replace(STATE, is_running=False, error="it was canceled")) == "v on r: impulse, leland: it was canceled"
