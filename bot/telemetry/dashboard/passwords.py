"""Passwords as argon2id hashes. Checking takes as long for a name nobody has as for one somebody has."""

from __future__ import annotations

import asyncio
from typing import Final

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError

MIN_PASSWORD: Final = 12  # characters
MAX_PASSWORD_BYTES: Final = 1024
AT_ONCE: Final = 2  # each takes 64 MiB for a tenth of a second
WAITING: Final = 8

_HASHER: Final = PasswordHasher()  # argon2id with the parameters its authors recommend


class BusyError(Exception):
    """Too many passwords are being checked."""


def hash_password(password: str) -> str:
    """Return what a desk file holds of a password. Raises ValueError for one that is too short or far too long."""
    if len(password) < MIN_PASSWORD or len(password.encode()) > MAX_PASSWORD_BYTES:
        found = (
            f"expected {MIN_PASSWORD} characters or more, at most {MAX_PASSWORD_BYTES:,} bytes, found {len(password)}"
        )
        raise ValueError(f"{found}; hint: a few words are easier to keep than a few signs")
    return _HASHER.hash(password)


def is_password_hash(text: str) -> bool:
    """Tell whether `text` is a hash that passwords can be checked against."""
    try:
        _HASHER.check_needs_rehash(text)
    except (InvalidHashError, ValueError):
        return False
    return text.startswith("$argon2id$")


class PasswordCheck:
    """Checks passwords of known users off the event loop, few at a time."""

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = hashes
        # a name nobody has is checked against this, whose parameters are those of somebody
        some = next(iter(hashes.values()), None)
        hasher = PasswordHasher.from_parameters(extract_parameters(some)) if some else _HASHER
        self._nobody = hasher.hash("nobody has this password, and it opens nothing")
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def is_right(self, user: str, password: str) -> bool:
        """Tell whether this is the user's password. Raises BusyError if too many are asked about."""
        if self._waiting >= WAITING:
            raise BusyError
        self._waiting += 1
        try:
            async with self._turn:
                known = self._hashes.get(user)
                is_match = await asyncio.to_thread(_verify, known or self._nobody, password)
        finally:
            self._waiting -= 1
        return is_match and known is not None


def _verify(password_hash: str, password: str) -> bool:
    if len(password.encode(errors="replace")) > MAX_PASSWORD_BYTES:
        password = ""
    try:
        return _HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError, UnicodeError):
        return False
