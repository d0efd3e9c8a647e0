"""Ids are remembered until no clock could make them good again, in bounded room."""

from __future__ import annotations

from bot.telemetry.commands.memory import KEPT_NS, Memory, is_worth_answering
from tests.telemetry.commands.forging import NOW_NS, S, order


def test_an_id_is_kept_beyond_its_expiry_and_then_forgotten() -> None:
    memory = Memory()
    memory.note("first", "alice", NOW_NS)
    memory.note("second", "alice", NOW_NS + 60 * S)
    memory.forget(NOW_NS + KEPT_NS)
    assert "first" in memory
    memory.forget(NOW_NS + KEPT_NS + 1)
    assert "first" not in memory
    assert memory.lines() == [("second", "alice", NOW_NS + 60 * S)]


def test_one_issuer_cannot_crowd_out_another_and_gets_room_again_with_time() -> None:
    memory = Memory(max_per_issuer=3)
    for number in range(3):
        assert memory.has_room("mallory", NOW_NS)
        memory.note(f"id-{number}", "mallory", NOW_NS + number)
    assert not memory.has_room("mallory", NOW_NS)
    assert memory.has_room("alice", NOW_NS)
    memory.note("hers", "alice", NOW_NS)
    memory.note("hers", "alice", NOW_NS)
    assert len(memory) == 4
    assert memory.has_room("mallory", NOW_NS + KEPT_NS + 1)
    assert len(memory) == 2


def test_nobody_is_answered_about_what_expired_long_ago() -> None:
    body = order()
    assert is_worth_answering(body, body.expires_ns + 299 * S)
    assert not is_worth_answering(body, body.expires_ns + 300 * S)
    assert 300 * S < KEPT_NS, "what is answered is remembered, so that it is answered once"
