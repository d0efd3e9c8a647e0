"""The whole desk as people meet it: Mosquitto, a daemon that replays the bundled recording paced, its windows, the
dashboard, and Chromium. One for all tests of a worker: it takes seconds to start.

Playwright's own loop must not run in the thread of other tests, so it lives in a thread of its own, where the tests
that use the desk are run as well (`conftest.py`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from signal import SIGTERM
from typing import Any, Final, TypeVar

from argon2 import PasswordHasher
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from bot.runtime.operators import control
from bot.telemetry.commands.keys import new_secret
from tests.broker import Mosquitto, free_port, mosquitto
from tests.runtime.command_line import PATIENCE_S, CommandLine, Process, open_command_line, wait_for

T = TypeVar("T")
PASSWORD: Final = "correct horse battery"
PEOPLE: Final = ("alice", "bob")  # an operator and a viewer
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECRET_ENV: Final = "EVENKEEL_BROWSER_TEST_SECRET"
VAULT: Final = "busy"
LIVE: Final = "html[data-live]"  # a page that has been told how things are
DESKTOP: Final = (1280, 720)
PATIENCE_MS: Final = 2_000 * PATIENCE_S
SPEED: Final = 20

VAULT_FILE: Final = """\
vault: busy
mode: paper
feed: {recording: eth-2023-04}
numeraire: USD
book:
  - {instrument: ETH-28APR23-1900-C, qty_base: -100}
  - {instrument: ETH-28APR23-1900-P, qty_base: -100}
cash: {ETH: 0, USD: 500000}
hedge: {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}
policy: {type: delta_band, half_width_base: 0.3}
limits: {max_order_quote: 50000, max_orders_per_min: 30, daily_loss_quote: 100000}
latency: {feed_ms: 50, entry_ms: 400, response_ms: 300, jitter: 0.5}
risk:
  accounts:
    deribit: {model: house}
operator:
  ETH: {target_min_base: -5, target_max_base: 5, band_min_base: 0.1, band_max_base: 10}
"""

DESK_FILE: Final = """\
mqtt: {{host: 127.0.0.1, port: {mqtt_port}, prefix: ek}}
alerts: {{destinations: []}}
issuers:
  desk: {{secret_env: {secret}, may: [all]}}
dashboard:
  host: 127.0.0.1
  port: {port}
  issuer: desk
  signing_key_env: {secret}
  users:
    alice: {{password_hash: "{hash}", role: operator}}
    bob: {{password_hash: "{hash}"}}
"""


class Chromium:
    """A browser, and the thread it must be spoken to in."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="browser")
        self._kept: list[BrowserContext] = []
        self._playwright: Playwright
        self._browser: Browser
        self.do(self._open)

    def do(self, act: Callable[[], T]) -> T:
        """Do something in the browser's thread."""
        return self._worker.submit(act).result()

    def profile(self, *, is_kept: bool = False) -> BrowserContext:
        """Return a fresh profile, one that outlives the test if it is to be kept; only in the browser's thread."""
        context = self._browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        if is_kept:
            self._kept.append(context)
        return context

    def close_pages(self) -> None:
        """Close whatever is open; only in the browser's thread."""
        for context in tuple(self._browser.contexts):
            if context not in self._kept:
                context.close()
                continue
            for page in tuple(context.pages):
                page.close()

    def close(self) -> None:
        """End the browser and its thread."""
        self.do(self._browser.close)
        self.do(self._playwright.stop)
        self._worker.shutdown()

    def _open(self) -> None:
        self._playwright = sync_playwright().start()
        expect.set_options(timeout=PATIENCE_MS)
        self._browser = self._playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))


class Stand:
    """What tests need of the desk: where the dashboard is, the daemon to compare it with, and the browser."""

    def __init__(
        self, folder: Path, command_line: CommandLine, broker: Mosquitto, chromium: Chromium, port: int
    ) -> None:
        self.folder = folder
        self.command_line = command_line
        self.broker = broker
        self.chromium = chromium
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._profiles: dict[str, BrowserContext] = {}
        self.daemon: Process | None = None
        self.dashboard: Process | None = None

    def start(self, *arguments: str) -> Process:
        """Start a command in the desk's folder."""
        return self.command_line.start(*arguments, cwd=self.folder)

    def start_daemon(self) -> None:
        """Start the daemon and its windows, and wait until both are there: who orders earlier is not heard."""
        self.daemon = self.start("run", "busy.yaml", "--speed", str(SPEED), "--desk", "desk.yaml")
        daemon = self.daemon
        wait_for(lambda: daemon.is_over or self.status())
        assert not daemon.is_over, daemon.err
        self.broker.heard(f"ek/v1/{VAULT}/status", 1)

    def status(self) -> dict[str, Any] | None:
        """Return the state that the daemon tells its windows, None while it tells none."""
        try:
            return control.ask(self.folder / ".evenkeel" / f"{VAULT}.sock", {"verb": "state"})
        except (control.NotRunningError, TimeoutError):
            return None

    def state(self) -> str:
        """Return the vault's state as the daemon has it."""
        status = self.status()
        return str(status["state"]) if status is not None else ""

    def open(
        self, path: str = "/", *, user: str | None = "alice", size: tuple[int, int] = DESKTOP, is_dark: bool = False
    ) -> Page:
        """Return a page of somebody who has logged in, or of nobody; only in the browser's thread.

        Whoever logged in once stays so, and has in store what pages are made of. Nobody comes with a fresh profile.
        """
        context = self.chromium.profile() if user is None else self._profile_of(user)
        page = context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme="dark" if is_dark else "light")
        page.goto(self.url + path)
        if user is not None:
            page.wait_for_selector(LIVE)
        return page

    def _profile_of(self, user: str) -> BrowserContext:
        """Return the profile of somebody who has logged in."""
        if user not in self._profiles:
            context = self.chromium.profile(is_kept=True)
            page = context.new_page()
            page.goto(f"{self.url}/login")
            log_in(page, user)
            expect(page).to_have_url(f"{self.url}/")
            page.close()
            self._profiles[user] = context
        return self._profiles[user]


def log_in(page: Page, user: str, password: str = PASSWORD) -> None:
    """Fill in the form as a person does, send it, and return once there is an answer."""
    page.fill("#user", user)
    page.fill("#password", password)
    with page.expect_navigation(wait_until="commit"):
        page.click("button[type=submit]")


@contextmanager
def open_stand() -> Iterator[Stand]:
    """Start everything for the length of the block; the daemon replays from the recording's beginning."""
    with ExitStack() as stack:
        # short: a socket's name has room for 100 bytes
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ek-desk-")))
        outputs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ek-out-")))
        broker = stack.enter_context(mosquitto())
        stack.enter_context(_secret_in_environment())
        command_line = stack.enter_context(open_command_line(outputs))
        port = free_port()
        light = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
        (folder / "busy.yaml").write_text(VAULT_FILE)
        desk = DESK_FILE.format(mqtt_port=broker.port, port=port, secret=SECRET_ENV, hash=light)
        (folder / "desk.yaml").write_text(desk)
        chromium = Chromium()  # starts while the command line warms up
        stack.callback(chromium.close)
        stand = Stand(folder, command_line, broker, chromium, port)
        stack.callback(lambda: _end([one for one in (stand.daemon, stand.dashboard) if one is not None]))
        stand.dashboard = dashboard = command_line.start("dashboard", "desk.yaml", "busy.yaml", cwd=folder)
        stand.start_daemon()
        wait_for(lambda: dashboard.is_over or "dashboard at" in dashboard.err)
        assert not dashboard.is_over, dashboard.err
        yield stand


@contextmanager
def _secret_in_environment() -> Iterator[None]:
    os.environ[SECRET_ENV] = new_secret().text()
    try:
        yield
    finally:
        del os.environ[SECRET_ENV]


def _end(processes: Sequence[Process]) -> None:
    for process in processes:
        process.send(SIGTERM)
    for process in processes:
        with suppress(AssertionError):
            process.wait()
