from __future__ import annotations

import pytest

from bot.telemetry.dashboard.sessions import MAX_PER_USER, MAX_SESSIONS, Sessions


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(clock, idle_s=60.0, absolute_s=600.0)


def test_a_session_is_found_by_its_secret_only(sessions: Sessions) -> None:
    secret, session = sessions.begin("alice", is_operator=True)
    assert sessions.find(secret) is session
    assert sessions.find(session.key) is None
    assert sessions.find("") is None
    assert sessions.find("ä" * 40) is None
    assert secret not in repr(vars(session))


def test_every_login_has_a_secret_and_a_token_of_its_own(sessions: Sessions) -> None:
    first, one = sessions.begin("alice", is_operator=False)
    second, other = sessions.begin("alice", is_operator=False)
    assert first != second
    assert not one.is_csrf(other.csrf)
    assert one.is_csrf(one.csrf)


def test_it_ends_when_nobody_touches_it(sessions: Sessions, clock: Clock) -> None:
    secret, session = sessions.begin("alice", is_operator=False)
    clock.now_s = 50.0
    sessions.touch(session)
    clock.now_s = 110.0
    assert sessions.find(secret) is session
    clock.now_s = 111.0
    assert sessions.find(secret) is None
    assert session.is_over


def test_it_ends_however_busy_it_is(sessions: Sessions, clock: Clock) -> None:
    secret, session = sessions.begin("alice", is_operator=False)
    while clock.now_s < 600.0:
        assert sessions.find(secret) is session
        sessions.touch(session)
        clock.now_s += 30.0
    clock.now_s = 601.0
    assert sessions.find(secret) is None


def test_whatever_hangs_on_it_ends_with_it(sessions: Sessions) -> None:
    ended: list[str] = []
    secret, session = sessions.begin("alice", is_operator=False)
    session.on_end(lambda: ended.append("socket"))
    session.on_end(lambda: ended.append("gone before"))()
    sessions.end(session)
    assert ended == ["socket"]
    assert sessions.find(secret) is None


def test_there_are_only_so_many(sessions: Sessions) -> None:
    first, _ = sessions.begin("alice", is_operator=False)
    for _ in range(MAX_PER_USER):
        sessions.begin("alice", is_operator=False)
    assert sessions.find(first) is None
    for n in range(MAX_SESSIONS + 5):
        sessions.begin(f"user{n}", is_operator=False)
    assert len(sessions) == MAX_SESSIONS
