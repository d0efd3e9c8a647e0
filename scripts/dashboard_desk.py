"""A whole desk for scripts: Mosquitto, a daemon that replays recordings, its windows, the dashboard, and Chromium.

Everything is on loopback and in a folder of its own, and ends with the block.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from argon2 import PasswordHasher
from playwright.sync_api import Browser, Page, sync_playwright

from bot.telemetry.commands.keys import new_secret
from tests.broker import free_port, mosquitto

ROOT: Final = Path(__file__).parents[1]
USER: Final = "operator"
PASSWORD: Final = "correct horse battery"  # noqa: S105 — of a desk that lives for minutes
SECRET_ENV: Final = "EVENKEEL_DESK_SECRET"  # noqa: S105 — a name
PATIENCE_S: Final = 180.0
CHROMIUM_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-precise-memory-info",
)
DESK: Final = """\
mqtt: {{host: 127.0.0.1, port: {mqtt_port}}}
alerts: {{destinations: []}}
issuers:
  desk: {{secret_env: {secret}, may: [all]}}
dashboard:
  port: {port}
  issuer: desk
  signing_key_env: {secret}
  users:
    operator: {{password_hash: "{hash}", role: operator}}
"""


class Desk:
    """A desk that runs, and a browser to look at it with."""

    def __init__(
        self,
        folder: Path,
        url: str,
        mqtt_port: int,
        processes: Mapping[str, subprocess.Popen[bytes]],
        browser: Browser,
    ) -> None:
        self.folder = folder
        self.url = url
        self.mqtt_port = mqtt_port
        self.processes = processes
        self.browser = browser

    def open(self, path: str = "/", **options: Any) -> Page:  # noqa: ANN401 — options of a browser's profile
        """Return a page, logged in."""
        page = self.browser.new_context(**options).new_page()
        page.goto(f"{self.url}/login")
        page.fill("#user", USER)
        page.fill("#password", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_selector("html[data-live]")
        if path != "/":
            page.goto(self.url + path)
            page.wait_for_selector("html[data-live]")
        return page

    def rss_mb(self, name: str) -> float:
        """Return the memory of one of the processes."""
        return rss_mb(self.processes[name].pid)


@contextmanager
def open_desk(vault_files: Mapping[str, str], speed: float) -> Iterator[Desk]:
    """Start a desk of these vaults (text by name) for the length of the block, replaying `speed` times as fast."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ek-desk-")))
        broker = stack.enter_context(mosquitto())
        port = free_port()
        hashed = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
        desk = DESK.format(mqtt_port=broker.port, port=port, secret=SECRET_ENV, hash=hashed)
        (folder / "desk.yaml").write_text(desk)
        for name, text in vault_files.items():
            (folder / f"{name}.yaml").write_text(text)
        names = [f"{name}.yaml" for name in vault_files]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), SECRET_ENV: new_secret().text(), "OPENBLAS_NUM_THREADS": "1"}

        def start(*words: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{words[0]}.log").open("wb"))
            command = [sys.executable, "-m", "bot.runtime.cli.app", *words]
            process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
            stack.callback(_end, process)
            return process

        processes = {
            "daemon": start("run", *names, "--speed", str(speed), "--desk", "desk.yaml"),
            "dashboard": start("dashboard", "desk.yaml", *names),
        }
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=shutil.which("chromium"), args=list(CHROMIUM_FLAGS)
        )
        stack.callback(browser.close)
        log = folder / "dashboard.log"
        wait_for(lambda: b"dashboard at" in log.read_bytes() or processes["dashboard"].poll() is not None)
        assert processes["dashboard"].poll() is None, log.read_text()
        yield Desk(folder, f"http://127.0.0.1:{port}", broker.port, processes, browser)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(find: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:  # noqa: ANN401 — whatever is found
    """Return what `find` finds as soon as it finds something."""
    deadline_s = time.monotonic() + patience_s
    while not (found := find()):
        assert time.monotonic() < deadline_s, f"expected {find} to come true within {patience_s:.0f} s"
        time.sleep(0.1)
    return found


def rss_mb(pid: int) -> float:
    """Return the memory a process holds, 0 for one that is over."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def processor_s(pid: int) -> float:
    """Return the processor time a process has had, that of its children not counted; 0 for one that is over."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def name_of(pid: int) -> str:
    """Return what a process runs, "" for one that is over."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """Return the processes that one has started, those that these have started, and so on."""
    found = children(pid)
    return [*found, *(one for child in found for one in descendants(child))]


def children(pid: int) -> list[int]:
    """Return the processes that one has started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())  # any of its threads may have started one
        return [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:
        return []
