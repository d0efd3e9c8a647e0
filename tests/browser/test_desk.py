"""The dashboard in a real browser against a running daemon: logging in, roles, the fleet, every order, halting."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

from playwright.sync_api import Page, expect

from bot.telemetry.dashboard.attempts import FREE
from tests.browser.stand import LIVE, VAULT, Stand, log_in
from tests.runtime.command_line import wait_for


def shows(page: Page, key: str, text: str) -> None:
    """Wait until the page shows this text in a cell."""
    expect(page.locator(f'[data-k="{key}"]')).to_contain_text(text)


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
    expect(page.locator("#order-vault")).to_have_text(VAULT)
    expect(page.locator("#order-consequence")).not_to_be_empty()
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
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Passing(socketserver.BaseRequestHandler):
    """Passes a connection on to `server.onto` as one that comes from `server.source`."""

    server: _Detour

    def handle(self) -> None:
        with socket.create_connection(self.server.onto, source_address=(self.server.source, 0)) as there:
            back = threading.Thread(target=self._pass_on, args=(there, self.request))
            back.start()
            self._pass_on(self.request, there)
            back.join()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # whoever hangs up first ends both
            while part := source.recv(65_536):
                sink.sendall(part)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class _Detour(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, onto: tuple[str, int], source: str) -> None:
        self.onto, self.source = onto, source
        super().__init__(("127.0.0.1", 0), _Passing)


@contextmanager
def from_address(source: str, port: int) -> Iterator[str]:
    """Make a dashboard reachable as if whoever asks were at `source`; its own address is asked by all other tests."""
    with _Detour(("127.0.0.1", port), source) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_nobody_sees_anything_before_logging_in(stand: Stand) -> None:
    page = stand.open("/vault/busy", user=None)
    expect(page).to_have_url(f"{stand.url}/login")
    assert VAULT not in page.content()
    log_in(page, "alice", "not her password")
    expect(page.locator("#problem")).to_contain_text("do not go together")
    assert page.context.cookies(f"{stand.url}/") == []
    page.context.add_cookies([{"name": "evenkeel", "value": "planted", "url": stand.url}])
    log_in(page, "alice")
    page.wait_for_selector(LIVE)
    (cookie,) = page.context.cookies(f"{stand.url}/")
    assert cookie["value"] != "planted"  # type: ignore[typeddict-item]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")  # type: ignore[typeddict-item]
    assert page.evaluate("document.cookie") == ""


def test_logging_out_ends_what_is_open(stand: Stand) -> None:
    page = stand.open(user=None)
    log_in(page, "alice")
    page.wait_for_selector(LIVE)
    other = page.context.new_page()
    other.goto(stand.url)
    other.wait_for_selector(LIVE)
    page.click("text=Log out")
    page.wait_for_url("**/login")
    other.wait_for_function("!window.socket?.connected")
    other.goto(stand.url)
    expect(other).to_have_url(f"{stand.url}/login")


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
        page.wait_for_selector(LIVE)
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
    page.wait_for_function("document.documentElement.scrollWidth <= 390")


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
    expect(page.locator("#probe")).to_have_text("newer")


def test_it_can_be_used_by_keyboard_alone(stand: Stand) -> None:
    page = stand.open()
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to content")
    page.focus('[data-order="halt"]')
    page.keyboard.press("Enter")
    expect(page.locator("#order-reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator('[data-order="halt"]')).to_be_focused()
    expect(page.locator("#order")).to_be_hidden()


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
    expect(page.locator("#order-answer")).to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator('[data-order="pause"]')).to_be_focused()


def test_every_page_fits_a_width_of_320_pixels_and_has_one_main_part(stand: Stand) -> None:
    page = stand.open(size=(320, 640))
    for path, drawn in (
        ("/", f'[data-row="{VAULT}"]'),
        (f"/vault/{VAULT}", ".ek-plot canvas"),
        ("/risk", ".ek-sheet tbody td"),
        ("/audit", "[data-k=audit] td[data-label]"),
    ):
        page.goto(stand.url + path)
        page.wait_for_selector(LIVE)
        page.wait_for_selector(drawn)
        page.wait_for_function("document.documentElement.scrollWidth === 320")
        expect(page.get_by_role("main")).to_have_count(1)


def test_a_viewer_may_look_and_not_order(stand: Stand) -> None:
    page = stand.open(user="bob")
    shows(page, f"{VAULT}.state", "running")
    expect(page.locator("[data-order]")).to_have_count(0)
    expect(page.locator("#order")).to_have_count(0)
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
    page, other = stand.open(), stand.open(f"/vault/{VAULT}", user="bob")
    shows(page, f"{VAULT}.state", "running")
    other.wait_for_selector(".ek-grid:not(.ek-stale) .ek-plot")
    assert stand.daemon is not None
    stand.daemon.send(SIGSTOP)
    try:
        cut_off(other, 4_000)
        other.wait_for_selector(".ek-grid.ek-stale")
        assert other.evaluate("window.connections") == 1  # it went on where it was
        expect(other.locator(".ek-banner")).to_contain_text("how it was, not how it is")
        shows(other, "age", "⚠")
        shows(page, f"{VAULT}.age", "old")
        shows(page, f"{VAULT}.state", "was running")
        expect(page.locator(f'[data-k="{VAULT}.row"]')).to_contain_class("stale-row")
        shows(page, f"{VAULT}.alerts", "critical")
        page.goto(f"{stand.url}/vault/{VAULT}")
        page.wait_for_selector('[data-order="acknowledge"]')
        assert order(page, "acknowledge", "on it").startswith("✔")
    finally:
        stand.daemon.send(SIGCONT)
    other.wait_for_selector(".ek-grid:not(.ek-stale)")
    page.goto(stand.url)
    shows(page, f"{VAULT}.state", "● running")


def cut_off(page: Page, away_ms: int) -> None:
    """Cut a page's socket; the page is back after so long."""
    page.evaluate(
        """(awayMs) => {
            const { io } = window.socket;
            window.connections = 0;
            window.socket.on("connect", () => (window.connections += 1));
            io.reconnectionDelay(awayMs);
            io.randomizationFactor(0);
            io.engine.close();
        }""",
        away_ms,
    )


def test_a_page_whose_dashboard_fell_silent_looks_stale(stand: Stand) -> None:
    page = stand.open()
    shows(page, f"{VAULT}.state", "running")
    expect(page.locator("#silent")).to_be_empty()
    assert stand.dashboard is not None
    stand.dashboard.send(SIGSTOP)
    try:
        page.wait_for_selector("html.silent")
        expect(page.locator("#silent")).to_contain_text("no word from the dashboard")
    finally:
        stand.dashboard.send(SIGCONT)
    page.wait_for_selector("html:not(.silent)")
    shows(page, f"{VAULT}.state", "running")


def test_guessing_passwords_is_slowed(stand: Stand) -> None:
    """From another address: of the one that all other tests log in from, wrong guesses would slow every login."""
    user = "nobody"  # such a name is counted like any other, and alice is not kept out
    with from_address("127.0.0.2", stand.port) as url:
        page = stand.chromium.profile().new_page()
        page.goto(f"{url}/login")
        for _ in range(FREE):
            log_in(page, user, "guess guess guess")
        while "Too many attempts" not in page.inner_text("#problem"):  # each wait is twice the one before
            log_in(page, user, "guess guess guess")
        expect(page.locator("#password")).to_have_count(1)
        page.context.close()
