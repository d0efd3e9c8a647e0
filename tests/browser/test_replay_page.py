"""The replay page: one at a time, seen by everybody, canceled by whoever looks."""

from __future__ import annotations

from tests.browser.stand import VAULT, Stand


def test_a_replay_begins_shows_who_began_it_and_is_canceled(stand: Stand) -> None:
    page = stand.open("/replay", user="bob")
    assert page.locator("select[name=vault]").input_value() == VAULT
    page.get_by_label("delta_band").uncheck()
    page.get_by_role("button", name="Start").click()
    told = page.locator("[data-k=replay-told]")
    told.get_by_text("expected 1 to 6 policies").wait_for()
    page.get_by_label("unhedged").check()
    page.get_by_role("button", name="Start").click()
    told.get_by_text("started by bob").wait_for()
    other = stand.open("/replay")
    other.locator("[data-k=replay-told]").get_by_text("started by bob").wait_for()
    assert other.get_by_role("button", name="Start").is_disabled()
    page.get_by_role("button", name="Cancel").click()
    told.get_by_text("it was canceled").wait_for()
    assert page.get_by_role("button", name="Start").is_enabled()
