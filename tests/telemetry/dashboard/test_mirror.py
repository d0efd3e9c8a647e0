from __future__ import annotations

from bot.domain.units import NS_PER_S
from bot.telemetry.dashboard.mirror import MAX_EVENTS, MAX_VAULTS, Mirror, VaultPicture
from tests.telemetry.states import NOW_NS, a_state, a_told, an_alert, an_underlying


class Clock:
    now_ns = NOW_NS
    now_s = 100.0

    def __call__(self) -> int:
        return self.now_ns


def mirrored(*vaults: str) -> tuple[Mirror, Clock]:
    clock = Clock()
    return Mirror(vaults or ("eth-straddle",), clock, now_s=lambda: clock.now_s), clock


def picture_of(mirror: Mirror, name: str = "eth-straddle") -> VaultPicture:
    picture = mirror.vault(name)
    assert picture is not None
    return picture


def test_a_vault_nobody_spoke_of_is_stale_and_has_no_age() -> None:
    mirror, _ = mirrored()
    assert mirror.age_s(picture_of(mirror)) is None
    assert mirror.is_stale(picture_of(mirror))
    assert mirror.vault("other") is None


def test_a_state_is_fresh_until_it_is_old_by_our_own_clock() -> None:
    mirror, clock = mirrored()
    mirror.take_state(a_state(at_s=-86_400, taken_ns=NOW_NS))  # a replay's engine time is no age
    assert not mirror.is_stale(picture_of(mirror))
    clock.now_s += 4.0
    assert mirror.age_s(picture_of(mirror)) == 4.0
    assert mirror.is_stale(picture_of(mirror))


def test_what_a_broker_kept_of_a_daemon_long_gone_is_as_old_as_it_is() -> None:
    mirror, _ = mirrored()
    mirror.take_state(a_state(taken_ns=NOW_NS - 3600 * NS_PER_S))
    assert mirror.age_s(picture_of(mirror)) == 3600.0
    mirror.take_state(a_state(taken_ns=NOW_NS - 5 * NS_PER_S))  # another machine's clock
    assert mirror.age_s(picture_of(mirror)) == 0.0


def test_a_clock_that_is_set_makes_nothing_look_younger_or_older() -> None:
    for jump_s in (-3600, 3600):
        mirror, clock = mirrored()
        mirror.take_state(a_state(taken_ns=NOW_NS))
        clock.now_ns += jump_s * NS_PER_S
        assert mirror.age_s(picture_of(mirror)) == 0.0
        assert not mirror.is_stale(picture_of(mirror))
        clock.now_s += 10.0
        assert mirror.age_s(picture_of(mirror)) == 10.0
        assert mirror.is_stale(picture_of(mirror)), "a broker that hangs says nothing of its vaults"
        mirror.take_state(a_state(taken_ns=clock.now_ns))
        assert not mirror.is_stale(picture_of(mirror))


def test_who_watches_the_daemon_may_say_earlier_that_it_is_gone() -> None:
    mirror, _ = mirrored()
    mirror.take_state(a_state())
    mirror.take_availability("eth-straddle", "frozen: no answer for 3 s")
    assert mirror.is_stale(picture_of(mirror))
    mirror.take_availability("eth-straddle", "online")
    assert not mirror.is_stale(picture_of(mirror))


def test_history_grows_with_engine_time_and_begins_anew_with_a_run() -> None:
    mirror, _ = mirrored()
    for second in range(3):
        mirror.take_state(a_state(at_s=second))
    picture = picture_of(mirror)
    assert len(picture.exposure["ETH"].points()) == 3
    mirror.take_state(a_state(at_s=9, run_id="run-2"))
    assert len(picture.exposure["ETH"].points()) == 1
    mirror.take_state(a_state(at_s=1, run_id="run-2"))  # a replay begun again
    assert len(picture.exposure["ETH"].points()) == 1


def test_events_come_once_and_gaps_are_counted() -> None:
    mirror, _ = mirrored()
    for number in (5, 6, 6, 5, 9):  # the first one we hear is where we begin
        mirror.take_told(a_told(number))
    picture = picture_of(mirror)
    assert [told.number for told in picture.events] == [5, 6, 9]
    assert (picture.told, picture.missed) == (3, 2)
    mirror.take_told(a_told(1, run_id="run-2"))
    assert [(told.run_id, told.number) for told in picture.events] == [("run-2", 1)]
    assert picture.missed == 2


def test_memory_is_bounded_whatever_a_broker_says() -> None:
    mirror, _ = mirrored()
    for number in range(1, 3 * MAX_EVENTS):
        mirror.take_told(a_told(number))
    for n in range(3 * MAX_VAULTS):
        mirror.take_state(a_state(f"vault-{n}"))
    mirror.take_state(a_state(underlyings=tuple(an_underlying(underlying=f"U{n}") for n in range(500))))
    assert len(picture_of(mirror).events) == MAX_EVENTS
    assert len(mirror.vaults()) == MAX_VAULTS
    assert len(picture_of(mirror).exposure) == 50


def test_alerts_are_those_that_last() -> None:
    mirror, _ = mirrored()
    mirror.take_alerts("eth-straddle", [an_alert(), an_alert(alert_id="over", ended_ns=NOW_NS)])
    assert [alert.alert_id for alert in picture_of(mirror).open_alerts] == ["feed_stale:deribit"]
    mirror.take_connection(True)
    assert mirror.is_connected
