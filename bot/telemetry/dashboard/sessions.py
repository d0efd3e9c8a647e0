"""Who is logged in: random ids in memory, of which only digests are kept. Nothing is on disk; a restart ends all.

A session ends when nobody has touched it for a while, when it is old, at logout, and when its user logs in too often.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Final

MAX_SESSIONS: Final = 500
MAX_PER_USER: Final = 10


class Session:
    """Somebody's stay. `csrf` goes into pages and comes back with every order."""

    def __init__(self, key: str, user: str, is_operator: bool, now_s: float) -> None:
        self.key = key  # digest of the id; safe to keep, useless to steal
        self.user = user
        self.is_operator = is_operator
        self.csrf = secrets.token_urlsafe(32)
        self.began_s = now_s
        self.touched_s = now_s
        self.is_over = False
        self._on_end: set[Callable[[], None]] = set()

    def is_csrf(self, token: str) -> bool:
        """Tell, in constant time, whether this is the session's token."""
        return hmac.compare_digest(self.csrf.encode(), token.encode(errors="replace"))

    def on_end(self, act: Callable[[], None]) -> Callable[[], None]:
        """Have `act` called when the session ends; return what takes that back."""
        self._on_end.add(act)
        return lambda: self._on_end.discard(act)

    def end(self) -> None:
        """End the stay, and whatever hangs on it."""
        self.is_over = True
        for act in tuple(self._on_end):
            act()
        self._on_end.clear()


class Sessions:
    """All stays. `now_s` is a clock that never goes back."""

    def __init__(self, now_s: Callable[[], float], idle_s: float, absolute_s: float) -> None:
        self._now_s = now_s
        self._idle_s = idle_s
        self._absolute_s = absolute_s
        self._kept: dict[str, Session] = {}

    def begin(self, user: str, *, is_operator: bool) -> tuple[str, Session]:
        """Begin a stay and return its secret id, new every time, with it."""
        self.sweep()
        own = sorted((one for one in self._kept.values() if one.user == user), key=lambda one: one.touched_s)
        for one in own[: max(len(own) - MAX_PER_USER + 1, 0)]:
            self._end(one)
        while len(self._kept) >= MAX_SESSIONS:
            self._end(min(self._kept.values(), key=lambda one: one.touched_s))
        secret = secrets.token_urlsafe(32)
        session = Session(_digest(secret), user, is_operator, self._now_s())
        self._kept[session.key] = session
        return secret, session

    def find(self, secret: str) -> Session | None:
        """Return the stay with this id if it lasts."""
        session = self._kept.get(_digest(secret)) if secret else None
        if session is not None and self.is_due(session):
            self._end(session)
            return None
        return session

    def touch(self, session: Session) -> None:
        """Note that a person did something."""
        session.touched_s = self._now_s()

    def end(self, session: Session) -> None:
        """End a stay now."""
        self._end(session)

    def is_due(self, session: Session) -> bool:
        """Tell whether a stay is over, or ought to be."""
        now_s = self._now_s()
        is_idle = now_s - session.touched_s > self._idle_s
        return session.is_over or is_idle or now_s - session.began_s > self._absolute_s

    def sweep(self) -> None:
        """End every stay that is due."""
        for session in [one for one in self._kept.values() if self.is_due(one)]:
            self._end(session)

    def __len__(self) -> int:
        return len(self._kept)

    def _end(self, session: Session) -> None:
        self._kept.pop(session.key, None)
        session.end()


def _digest(secret: str) -> str:
    return sha256(secret.encode(errors="replace")).hexdigest()
