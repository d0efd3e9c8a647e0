from __future__ import annotations

from typing import Any

from bot.telemetry.dashboard.mirror import Mirror
from bot.telemetry.dashboard.orders import ACTIONS
from bot.telemetry.dashboard.sessions import Sessions
from bot.telemetry.dashboard.shell import BEAT_TICKS, PLACES, TICK_S, Shell, next_tick_s


def shell_of(*, is_operator: bool) -> Shell:
    """Return a page as far as it is the same in every browser."""
    _, session = Sessions(lambda: 0.0, 60.0, 600.0).begin("al<i>ce", is_operator=is_operator)
    nobody: Any = None
    return Shell(Mirror([], lambda: 0), nobody, session, nobody)


def test_operators_have_buttons_and_viewers_none() -> None:
    operator, viewer = shell_of(is_operator=True), shell_of(is_operator=False)
    for action in ACTIONS:
        assert f'data-order="{action}"' in operator.buttons("eth", action)
    assert viewer.buttons("eth", *ACTIONS) == viewer._dialog() == ""
    assert "grave" in operator.buttons("eth", "halt")


def test_the_header_says_who_is_there_and_where() -> None:
    header = shell_of(is_operator=False)._header("/risk")
    assert "al&lt;i&gt;ce (viewer)" in header
    assert 'href="/risk" aria-current="page"' in header
    assert header.count("aria-current") == 1
    assert all(f'href="{path}"' in header for path, _ in PLACES)


def test_the_dialog_has_a_field_for_whatever_an_action_asks_for() -> None:
    dialog = shell_of(is_operator=True)._dialog()
    for form in ACTIONS.values():
        for field in form.fields:
            assert field == "alert_id" or f'id="order-{field}"' in dialog


def test_losing_the_broker_is_said_in_words() -> None:
    shell = shell_of(is_operator=True)
    shell._show_connection()
    assert "no broker" in (shell.live.flush() or "")
    shell.mirror.take_connection(True)
    shell._show_connection()
    assert "connected" in (shell.live.flush() or "")


def test_a_tick_that_is_late_puts_the_next_one_off_no_further() -> None:
    assert next_tick_s(100.0, 100.01) == 100.0 + TICK_S
    assert next_tick_s(100.0, 100.0 + 0.9 * TICK_S) == 100.0 + 1.15 * TICK_S  # but pages have a moment to draw
    assert next_tick_s(100.0, 160.0) == 160.0 + TICK_S / 4  # what was missed is not made up for


def test_a_page_hears_something_every_second_and_nothing_while_it_cannot_be_drawn() -> None:
    shell, faults = shell_of(is_operator=False), [False]

    def show() -> None:
        if faults[0]:
            raise ZeroDivisionError

    shell.every_tick(show)
    assert "broker" in (shell.next_script() or "")
    assert [shell.next_script() for _ in range(2 * BEAT_TICKS)] == [*[None] * (BEAT_TICKS - 1), "window.ek?.beat()"] * 2
    faults[0] = True
    shell.mirror.take_connection(is_connected=True)
    assert [shell.next_script() for _ in range(2 * BEAT_TICKS)] == [None] * 2 * BEAT_TICKS
    faults[0] = False
    assert "connected" in (shell.next_script() or "")
