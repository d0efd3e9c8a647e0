from __future__ import annotations

import asyncio

import pytest
from argon2 import PasswordHasher, extract_parameters

from bot.telemetry.dashboard.passwords import (
    WAITING,
    BusyError,
    PasswordCheck,
    hash_password,
    is_password_hash,
)

RIGHT = "correct horse battery"
HASH = hash_password(RIGHT)
LIGHT = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(RIGHT)


async def test_a_password_opens_for_its_user_only() -> None:
    check = PasswordCheck({"alice": LIGHT})
    assert await check.is_right("alice", RIGHT)
    assert not await check.is_right("alice", RIGHT + " ")
    assert not await check.is_right("bob", RIGHT)
    assert not await check.is_right("nobody", "nobody has this password, and it opens nothing")


def test_a_name_nobody_has_costs_as_much_work_as_one_somebody_has() -> None:
    check = PasswordCheck({"alice": HASH})
    assert extract_parameters(check._nobody) == extract_parameters(HASH)


async def test_only_so_many_are_checked_at_once() -> None:
    check = PasswordCheck({"alice": LIGHT})
    results = await asyncio.gather(*(check.is_right("x", "y") for _ in range(WAITING + 4)), return_exceptions=True)
    assert sum(isinstance(result, BusyError) for result in results) == 4


def test_what_is_hashed_is_long_enough_and_not_too_long() -> None:
    with pytest.raises(ValueError, match="12 characters or more"):
        hash_password("hunter2")
    with pytest.raises(ValueError, match="at most"):
        hash_password("x" * 2000)
    assert RIGHT not in HASH


@pytest.mark.parametrize("text", ["", "hunter2", "$argon2id$-replace", "$2b$12$abcdefghijklmnopqrstuv"])
def test_what_is_no_hash_is_known_before_anybody_logs_in(text: str) -> None:
    assert is_password_hash(HASH)
    assert not is_password_hash(text)
