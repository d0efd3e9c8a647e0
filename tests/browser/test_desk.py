"""The dashboard in a real browser against a running daemon: logging in, roles, the fleet, every order, halting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

from playwright.sync_api import Page, expect

from bot.telemetry.dashboard.attempts import FREE
from tests.browser.stand import VAULT, Stand, log_in
from tests.runtime.command_line import wait_for

PATIENCE_MS = 60_000.0


def shows(page: Page, key: str, text: str) -> None:
    """Wait until the page shows this text in a cell."""
    expect(page.locator(f'[data-k="{key}"]')).to_contain_text(text, timeout=PATIENCE_MS)


def order(page: Page, action: str, reason: str, **fields: str) -> str:
    """Give an order by its dialog, as a person does, and return what is answered."""
    page.evaluate(
        """([action, vault]) => {
            const button = document.createElement("button");
            Object.assign(button.dataset, { order: action, vault });
            document.body.append(button);
            button.click();
            button.remove();
        }""",
        [action, VAULT],
    ) if page.locator(f'[data-order="{action}"]').count() == 0 else page.click(f'[data-order="{action}"] >> nth=0')
    assert page.inner_text("#order-vault") == VAULT
    assert page.inner_text("#order-consequence")
    page.fill("#order-reason", reason)
    for name, value in fields.items():
        page.fill("#order-typed" if name == "typed" else f"#order-{name}", value)
    page.click("#order-send")
    answer = page.locator("#order-answer.good, #order-answer.bad")
    answer.wait_for()
    text = answer.inner_text()
    page.click("#order-cancel")
    return text


def post(page: Page, wish: dict[str, Any], token: str | None = None) -> int:
    """Post an order from within the page, past its buttons; return the status."""
    status: int = page.evaluate(
        """async ([wish, token]) => (await fetch("/order", {
            method: "POST", body: JSON.stringify(wish),
            headers: { "Content-Type": "application/json",
                       "X-CSRF-Token": token ?? document.getElementById("top").dataset.csrf },
        })).status""",
        [wish, token],
    )
    return status


@contextmanager
def elsewhere(folder: Path) -> Iterator[str]:
    """Serve a folder as another site would."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()


def test_nobody_sees_anything_before_logging_in(stand: Stand) -> None:
    page = stand.open("/vault/busy", user=None)
    assert page.url == f"{stand.url}/login"
    assert VAULT not in page.content()
    log_in(page, "alice", "not her password")
    assert "do not go together" in page.inner_text("#problem")
    assert page.context.cookies(f"{stand.url}/") == []
    page.context.add_cookies([{"name": "evenkeel", "value": "planted", "url": stand.url}])
    log_in(page, "alice")
    page.wait_for_selector("html[data-live]")
    (cookie,) = page.context.cookies(f"{stand.url}/")
    assert cookie["value"] != "planted"  # type: ignore[typeddict-item]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")  # type: ignore[typeddict-item]
    assert page.evaluate("document.cookie") == ""


def test_logging_out_ends_what_is_open(stand: Stand) -> None:
    page = stand.open()
    other = page.context.new_page()
    other.goto(stand.url)
    other.wait_for_selector("html[data-live]")
    page.click("text=Log out")
    page.wait_for_url("**/login")
    other.wait_for_function("!window.socket.connected")
    other.reload()
    assert other.url.endswith("/login")


def test_every_page_keeps_its_policy_and_asks_nobody_else(stand: Stand) -> None:
    page = stand.open()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for path in ("/", "/audit", f"/vault/{VAULT}", "/risk", "/replay"):
        answer = page.goto(stand.url + path)
        assert answer is not None
        headers = answer.headers
        page.wait_for_selector("html[data-live]")
        assert "'unsafe-inline'" not in headers["content-security-policy"].partition("style-src-attr")[0]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-opener-policy"] == "same-origin"
    assert said == []
    assert [url for url in asked if not url.startswith((stand.url, "data:"))] == []
    page.evaluate("document.head.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    assert page.evaluate("window.ran") is None  # a script that somebody planted does not run


def test_the_fleet_shows_what_the_daemon_says(stand: Stand) -> None:
    page = stand.open()
    shows(page, f"{VAULT}.state", "running")
    shows(page, f"{VAULT}.delta", "ETH")
    shows(page, "connection", "broker")
    page.evaluate("window.row = document.querySelector('[data-row]')")
    before = page.inner_text(f'[data-k="{VAULT}.pnl"]')
    page.wait_for_function(
        "([key, before]) => document.querySelector(`[data-k='${key}']`).textContent !== before",
        arg=[f"{VAULT}.pnl", before],
    )
    assert page.evaluate("window.row === document.querySelector('[data-row]')")  # changed in place, not built anew
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= 390")


def test_what_comes_while_a_page_is_built_is_shown_in_the_order_in_which_it_came(stand: Stand) -> None:
    page = stand.open()
    page.evaluate(
        """() => {
            document.body.append(Object.assign(document.createElement("p"), { id: "probe" }));
            document.getElementById("probe").dataset.k = "probe";
            const word = (cell) => ({ cells: { probe: cell }, orders: {}, calls: [] });
            const top = document.getElementById("top");
            top.id = "not-there-yet";
            ek.show(word({ "#text": "older", "data-older": "1" }));
            top.id = "top";
            ek.show(word({ "#text": "newer" }));
        }"""
    )
    page.wait_for_selector("#probe[data-older]", state="attached")
    assert page.text_content("#probe") == "newer"


def test_it_can_be_used_by_keyboard_alone(stand: Stand) -> None:
    page = stand.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.focus('[data-order="halt"]')
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "order-reason"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.order") == "halt"
    assert not page.locator("#order").is_visible()


def test_an_answer_whose_dialog_was_closed_is_told_on_the_page(stand: Stand) -> None:
    page = stand.open(f"/vault/{VAULT}")
    assert stand.daemon is not None
    stand.daemon.send(SIGSTOP)  # so that the answer is not there before the dialog is gone
    try:
        page.click('[data-order="reload"]')
        page.fill("#order-reason", "to see where the answer goes")
        page.click("#order-send")
        page.locator("#order-answer").get_by_text("Waiting for the answer").wait_for()
        page.keyboard.press("Escape")
        page.click('[data-order="pause"]')  # another order's dialog, which it is none of
    finally:
        stand.daemon.send(SIGCONT)
    page.locator("#later").get_by_text(f"Reload of {VAULT}: ").wait_for()
    assert page.inner_text("#order-answer") == ""
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.order") == "pause"


def test_every_page_fits_a_width_of_320_pixels_and_has_one_main_part(stand: Stand) -> None:
    page = stand.open(viewport={"width": 320, "height": 640})
    for path in ("/", f"/vault/{VAULT}", "/risk", "/audit"):
        page.goto(stand.url + path)
        page.wait_for_selector("html[data-live]")
        assert page.evaluate("document.documentElement.scrollWidth") == 320, path
        assert page.get_by_role("main").count() == 1, path


def test_a_viewer_may_look_and_not_order(stand: Stand) -> None:
    page = stand.open(user="bob")
    shows(page, f"{VAULT}.state", "running")
    assert page.locator("[data-order]").count() == 0
    assert page.locator("#order").count() == 0
    wish = {"vault": VAULT, "action": "pause", "reason": "let me"}
    assert post(page, wish) == 403
    assert post(page, {**wish, "action": "halt", "typed": VAULT}) == 403
    assert stand.state() == "running"


def test_no_other_site_can_order(stand: Stand, tmp_path: Path) -> None:
    page = stand.open()
    wish = {"vault": VAULT, "action": "pause", "reason": "by stealth"}
    assert post(page, wish, token="guessed") == 403
    (tmp_path / "evil.html").write_text(
        f"""<form id=f method=post action="{stand.url}/order" enctype="text/plain">
        <input name='{{"vault":"{VAULT}","action":"pause","reason":"by stealth","x":"' value='"}}'></form>
        <script>f.submit()</script>"""
    )
    (tmp_path / "evil_socket.html").write_text(
        f"""<script>
        const s = new WebSocket("ws://127.0.0.1:{stand.port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket");
        s.onopen = () => document.title = "open"; s.onerror = () => document.title = "refused";</script>"""
    )
    with elsewhere(tmp_path) as site:
        evil = page.context.new_page()
        with evil.expect_response(f"{stand.url}/order") as answered:
            evil.goto(f"{site}/evil.html")
        assert answered.value.status == 403
        evil.goto(f"{site}/evil_socket.html")
        evil.wait_for_function("document.title !== ''")
        assert evil.title() == "refused"
        (tmp_path / "frame.html").write_text(f'<iframe src="{stand.url}/login"></iframe>')
        evil.goto(f"{site}/frame.html")
        evil.frames[1].wait_for_url("chrome-error://**")
    assert stand.state() == "running"


def test_nobody_can_speak_for_anothers_page(stand: Stand) -> None:
    alices = stand.open().evaluate("window.clientId")
    page = stand.open(user="bob")
    answer = page.evaluate(
        """(stolen) => new Promise((resolve) => {
            const query = { client_id: stolen, tab_id: "t", document_id: "d", implicit_handshake: "true" };
            const socket = io(location.origin, {
                path: "/_nicegui_ws/socket.io", query, transports: ["websocket"], forceNew: true, reconnection: false,
            });
            socket.on("connect", () => resolve("connected"));
            socket.on("connect_error", (error) => resolve(error.message));
        })""",
        alices,
    )
    assert answer == "Implicit handshake failed"


def test_every_order_is_carried_out_by_the_daemon_and_answered(stand: Stand) -> None:
    page = stand.open(f"/vault/{VAULT}")
    steps: list[tuple[str, dict[str, str], str]] = [
        ("pause", {}, "paused"),
        ("resume", {}, "running"),
        ("reduce_only", {}, "reduce_only"),
        ("resume", {}, "running"),
        ("hedge_now", {"underlying": "ETH"}, "running"),
        ("set_target", {"underlying": "ETH", "target_base": "1.5"}, "running"),
        ("set_target", {"underlying": "ETH"}, "running"),
        ("set_band", {"underlying": "ETH", "low_base": "-0.5", "high_base": "0.5"}, "running"),
        ("set_band", {"underlying": "ETH"}, "running"),
        ("reload", {}, "running"),
        ("flatten", {"typed": VAULT}, "paused"),
        ("resume", {}, "running"),
    ]
    for action, fields, state in steps:
        assert order(page, action, f"trying {action}", **fields).startswith("✔"), action
        wait_for(lambda state=state: stand.state() == state)
    assert order(page, "set_target", "too far", underlying="ETH", target_base="1000").startswith("✕")
    page.goto(f"{stand.url}/audit")
    shows(page, "audit", "alice: trying flatten")
    assert "desk" in page.inner_text('[data-k="audit"]')


def test_a_halt_is_typed_out_and_holds_until_resumed_with_a_reason(stand: Stand) -> None:
    page = stand.open()
    wish = {"vault": VAULT, "action": "halt", "reason": "without typing"}
    assert post(page, wish) == 422
    assert post(page, {**wish, "typed": "another"}) == 422
    assert stand.state() == "running"
    assert order(page, "halt", "enough for today", typed=VAULT).startswith("✔")
    assert stand.state() == "halted"
    shows(page, f"{VAULT}.state", "halted")
    assert order(page, "resume", "a new day").startswith("✔")
    wait_for(lambda: stand.state() == "running")


def test_what_is_stale_looks_stale_and_can_be_acknowledged(stand: Stand) -> None:
    page = stand.open()
    shows(page, f"{VAULT}.state", "running")
    assert stand.daemon is not None
    stand.daemon.send(SIGSTOP)
    try:
        shows(page, f"{VAULT}.age", "old")
        shows(page, f"{VAULT}.state", "was running")
        assert "stale-row" in str(page.get_attribute(f'[data-k="{VAULT}.row"]', "class"))
        shows(page, f"{VAULT}.alerts", "critical")
        page.goto(f"{stand.url}/vault/{VAULT}")
        page.wait_for_selector('[data-order="acknowledge"]')
        assert order(page, "acknowledge", "on it").startswith("✔")
    finally:
        stand.daemon.send(SIGCONT)
    page.goto(stand.url)
    shows(page, f"{VAULT}.state", "● running")


def test_a_page_whose_dashboard_fell_silent_looks_stale(stand: Stand) -> None:
    page = stand.open()
    shows(page, f"{VAULT}.state", "running")
    assert page.locator("#silent").inner_text() == ""
    assert stand.dashboard is not None
    stand.dashboard.send(SIGSTOP)
    try:
        page.wait_for_selector("html.silent")
        assert "no word from the dashboard" in page.locator("#silent").inner_text()
    finally:
        stand.dashboard.send(SIGCONT)
    page.wait_for_selector("html:not(.silent)")
    shows(page, f"{VAULT}.state", "running")


def test_guessing_passwords_is_slowed(stand: Stand) -> None:
    user = "nobody"  # such a name is counted like any other, and alice is not kept out
    page = stand.open(user=None)
    for _ in range(FREE):
        log_in(page, user, "guess guess guess")
    wait_for(lambda: log_in(page, user, "guess guess guess") or "Too many attempts" in page.inner_text("#problem"))
    assert page.locator("#password").count() == 1
