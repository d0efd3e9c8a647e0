"""The replay page: one at a time, seen by everybody, canceled by whoever looks, and compared over time."""

from __future__ import annotations

import os
import re
from pathlib import Path
from signal import SIGSTOP, SIGTERM
from typing import Any, Final

from playwright.sync_api import Page, expect

from tests.broker import free_port
from tests.browser.reading import by_first, sheets, until
from tests.browser.stand import VAULT, VAULT_FILE, Stand
from tests.runtime.command_line import wait_for
from tests.runtime.short import cut_short

DRAWN: Final = """() => {
  const drawn = getElement(document.querySelector('.ek-curves')?.id.slice(1))?.count();
  return drawn?.charts ? drawn : null;
}"""


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
    hold_replay(stand)
    other = stand.open("/replay")
    other.locator("[data-k=replay-told]").get_by_text("started by bob").wait_for()
    expect(other.get_by_role("button", name="Start")).to_be_disabled()
    page.get_by_role("button", name="Cancel").click()
    told.get_by_text("it was canceled").wait_for()
    expect(page.get_by_role("button", name="Start")).to_be_enabled()


def hold_replay(stand: Stand) -> None:
    """Stop the process that replays, so that it is not done before somebody looks; it is killed when canceled."""
    assert stand.dashboard is not None
    children = Path(f"/proc/{stand.dashboard.pid}/task").glob("*/children")

    def found() -> list[int]:
        pids = [int(pid) for one in children for pid in one.read_text().split()]
        return [pid for pid in pids if b"\0replay\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    (pid,) = wait_for(found)
    os.kill(pid, SIGSTOP)


def test_what_was_replayed_is_compared_by_figures_and_over_time(stand: Stand, tmp_path: Path) -> None:
    """On a dashboard of its own, whose one vault has a recording of four hours."""
    port = free_port()
    desk = (stand.folder / "desk.yaml").read_text()
    (tmp_path / "desk.yaml").write_text(desk.replace(f"port: {stand.port}", f"port: {port}"))
    recording = cut_short(tmp_path / "short")
    (tmp_path / "short.yaml").write_text(VAULT_FILE.replace("eth-2023-04", str(recording)))
    dashboard = stand.command_line.start("dashboard", "desk.yaml", "short.yaml", cwd=tmp_path)
    try:
        wait_for(lambda: dashboard.is_over or "dashboard at" in dashboard.err)
        assert not dashboard.is_over, dashboard.err
        own = Stand(tmp_path, stand.command_line, stand.broker, stand.chromium, port)
        page = own.open("/replay")
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.get_by_label("unhedged").check()
        page.get_by_role("button", name="Start").click()
        page.locator("[data-k=replay-told]").get_by_text("done, started by alice").wait_for(timeout=300_000)
        compared(page)
        later = own.open("/replay", user="bob", size=(320, 640))
        compared(later)
        later.wait_for_function("document.documentElement.scrollWidth === 320")
        page.get_by_label("same scale").uncheck()
        compared(page)
        assert said == []
    finally:
        dashboard.send(SIGTERM)
        dashboard.wait()


def compared(page: Page) -> None:
    """Check the figures of both policies, and that the charts hold both with the hedges of the one that hedged."""
    drawn: dict[str, Any] = until(page, lambda: page.evaluate(DRAWN))
    expect(page.locator("progress")).to_have_attribute("value", re.compile(r"1(\.0+)?"))
    lines = until(page, lambda: by_first(sheets(page).get("Side by side", [])))
    policies = page.locator(".ek-sheet", has_text="Side by side").locator("thead th").all_inner_texts()[1:]
    assert sorted(policies) == ["delta_band", "unhedged"]
    hedged = policies.index("delta_band")
    assert lines["off target, rms"][hedged].startswith("★ ")
    assert not lines["off target, rms"][1 - hedged].startswith("★ ")
    assert (drawn["lines"], drawn["charts"]) == (2, 3)  # who is unhedged is drawn once
    assert drawn["hedges"][1 - hedged] == 0
    assert drawn["hedges"][hedged] >= int(lines["hedges"][hedged].removeprefix("★ ")) > 0
