from __future__ import annotations

from bot.telemetry.dashboard.attempts import (
    FORGET_S,
    FREE,
    MAX_ADDRESS_WAIT_S,
    MAX_KEPT,
    MAX_USER_WAIT_S,
    Attempts,
    network,
)


def tried(attempts: Attempts, seconds: int, users: list[str], addresses: list[str]) -> int:
    """Return how many of ten attempts a second, for so long, were let through."""
    passed = 0
    for n in range(10 * seconds):
        user, address = users[n % len(users)], addresses[n % len(addresses)]
        passed += attempts.begin(user, address, n / 10) == 0.0
    return passed


def test_a_person_who_errs_twice_is_not_kept_waiting() -> None:
    attempts = Attempts()
    assert [attempts.begin("alice", "10.0.0.1", 0.0) for _ in range(FREE)] == [0.0] * FREE
    assert attempts.begin("alice", "10.0.0.1", 0.0) == 1.0
    assert attempts.begin("alice", "10.0.0.1", 1.0) == 0.0
    assert attempts.begin("alice", "10.0.0.1", 1.5) == 1.5
    assert attempts.refused == 2


def test_an_hour_of_guessing_from_one_address_gets_a_dozen_guesses() -> None:
    assert tried(Attempts(), 3600, [f"user{n}" for n in range(100)], ["10.0.0.1"]) < 20


def test_guessing_one_user_from_many_addresses_is_slowed_too() -> None:
    passed = tried(Attempts(), 3600, ["alice"], [f"10.0.{n // 250}.{n % 250}" for n in range(2000)])
    assert passed < 3600 / MAX_USER_WAIT_S + 15


def test_an_account_of_ones_own_does_not_open_the_way_to_others() -> None:
    attempts, passed = Attempts(), 0
    for n in range(3600):
        if n % 2 and attempts.begin("mallory", "10.0.0.1", n) == 0.0:
            attempts.succeed("mallory", "10.0.0.1")
        elif n % 2 == 0:
            passed += attempts.begin("alice", "10.0.0.1", n) == 0.0
    assert passed < 80


def test_success_ends_the_wait_of_a_user_and_time_ends_all() -> None:
    attempts = Attempts()
    for n in range(FREE):
        attempts.begin("alice", f"10.0.0.{n}", 0.0)
    attempts.succeed("alice", "10.0.0.2")
    assert attempts.begin("alice", "10.0.0.9", 0.0) == 0.0
    for n in range(200):
        attempts.begin("bob", "10.0.0.7", 1000.0 * n)
    assert attempts.begin("bob", "10.0.0.7", 200_000 + FORGET_S) == 0.0
    assert max(MAX_USER_WAIT_S, MAX_ADDRESS_WAIT_S) < FORGET_S


def test_many_names_take_bounded_memory() -> None:
    attempts = Attempts()
    for n in range(MAX_KEPT):
        attempts.begin(f"user{n}", f"10.{n // 250}.0.{n % 250}", 0.0)
    assert len(attempts._kept) <= MAX_KEPT


def test_what_is_refused_makes_nobody_forgotten() -> None:
    attempts = Attempts()
    for _ in range(FREE):
        attempts.begin("alice", "10.0.0.1", 0.0)
        attempts.begin("bob", "10.0.0.2", 0.0)
    for n in range(2 * MAX_KEPT):  # the second address does nothing but to have the first forgotten
        assert attempts.begin(f"user{n}", "10.0.0.2", 0.1) > 0
    assert attempts.begin("alice", "10.0.0.1", 0.2) > 0


def test_a_subscriber_of_ipv6_is_one_address() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db9::1")
    assert network("::ffff:10.0.0.1") == network("10.0.0.1") == "10.0.0.1"
    assert network("not an address") == "not an address"
