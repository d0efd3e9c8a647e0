"""The dashboard in a real browser against a running daemon: logging in, roles, the fleet, every order."""

from __future__ import annotations

import pytest

from tests.browser.stand import VAULT, Stand


def test_the_fleet_shows_what_the_daemon_says(stand: Stand) -> None:
    page = stand.open()
    page.wait_for_function("document.querySelector('[data-k=\"busy.state\"]').textContent.includes('running')")
    print(page.inner_text("main"))
    assert stand.state() == "running"
