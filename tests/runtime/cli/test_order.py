"""`evenkeel order` and `evenkeel keys`: every action through a real broker to a real daemon that replays."""

from __future__ import annotations

import signal
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from bot.domain.commands import ACTIONS
from bot.domain.events import OperatorCommand
from bot.domain.windows import CommandAnswer
from bot.runtime.cli.order import exit_code
from tests.broker import Mosquitto
from tests.broker import mosquitto as open_broker
from tests.runtime.audit import read_rows
from tests.runtime.command_line import PATIENCE_S, CommandLine, Process, Result, wait_for
from tests.telemetry.commands.forging import ALICE, BOB, CAROL, MALLORY

DESK = """\
mqtt: {{host: 127.0.0.1, port: {port}, prefix: desk-1}}
issuers:
  alice: {{public_key: {alice}, may: [all]}}
  bob: {{secret_env: BOBS_SECRET, may: [all]}}
  carol: {{public_key: {carol}, may: [pause], vaults: [busy]}}
"""
KEYS = {"alice": ALICE.text(), "bob": BOB.text(), "carol": CAROL.text()}
GIVEN = {
    "hedge-now": ("--underlying", "ETH"),
    "set-target": ("--underlying", "ETH", "--target", "-0.5"),
    "set-band": ("--underlying", "ETH", "--low", "-1", "--high", "1"),
    "flatten": ("--confirm", "busy"),
    "acknowledge": ("--alert", "no-such-alert"),
}


@pytest.fixture
def mosquitto() -> Iterator[Mosquitto]:
    with open_broker() as broker:
        yield broker


class Desk:
    """A vault's folder with a desk file, and whoever orders there."""

    def __init__(self, evenkeel: CommandLine, folder: Path, mosquitto: Mosquitto) -> None:
        self.folder = folder
        self._evenkeel = evenkeel
        self._started: list[Process] = []
        text = DESK.format(port=mosquitto.port, alice=ALICE.verifier().text(), carol=CAROL.verifier().text())
        (folder / "desk.yaml").write_text(text)
        with (folder / "busy.yaml").open("a") as file:
            file.write("operator: {ETH: {target_min_base: -1, target_max_base: 1}}\n")

    def run(self, *arguments: str, **environ: str) -> Result:
        return self._evenkeel.run(*arguments, cwd=self.folder, environ=environ)

    def start(self, *arguments: str, **environ: str) -> Process:
        process = self._evenkeel.start("-v", "--log-json", *arguments, cwd=self.folder, environ=environ)
        self._started.append(process)
        return process

    def order(self, issuer: str, action: str, *more: str, reason: str = "because", key: str = "") -> Result:
        wait = () if "--wait" in more else ("--wait", str(PATIENCE_S))
        said = ("--desk", "desk.yaml", "--issuer", issuer, "--reason", reason, *GIVEN.get(action, ()), *more, *wait)
        return self.run("order", action, "busy.yaml", *said, EVENKEEL_ORDER_KEY=key or KEYS[issuer])

    def open(self) -> Process:
        """Start the daemon and its windows, and return these once commands are taken."""
        daemon = self.start("run", "busy.yaml", "--speed", "20")
        wait_for(lambda: daemon.is_over or (self.folder / ".evenkeel" / "busy.sock").exists())
        windows = self.open_windows()
        assert not daemon.is_over, daemon.err[-2_000:]
        return windows

    def open_windows(self) -> Process:
        """Start the windows, and return once commands are taken."""
        windows = self.start("windows", "desk.yaml", "busy.yaml", BOBS_SECRET=BOB.text())
        wait_for(lambda: windows.is_over or '"commands.open"' in windows.err)
        assert not windows.is_over, windows.err[-2_000:]
        return windows

    def end(self) -> str:
        """End what runs; return all that was logged."""
        for process in self._started:
            process.send(signal.SIGTERM)
        return "".join(process.wait().err for process in self._started)


@pytest.fixture
def desk(evenkeel: CommandLine, busy: Path, mosquitto: Mosquitto) -> Iterator[Desk]:
    one = Desk(evenkeel, busy, mosquitto)
    try:
        yield one
    finally:
        one.end()


def test_every_action_reaches_the_daemon_and_its_answer_comes_back(desk: Desk) -> None:
    desk.open()
    expected = {
        "pause": (0, "pause done (paused)"),
        "resume": (0, "resume done (running)"),
        "reduce-only": (0, "reduce_only done (reduce_only)"),
        "reload": (0, "reload done"),
        "set-target": (0, "set_target done"),
        "set-band": (1, "set_band refused"),
        "acknowledge": (1, "acknowledge refused"),
        "flatten": (0, "flatten done"),
        "halt": (0, "halt done (halted)"),
        "hedge-now": (1, "hedge_now refused (halted)"),
    }
    assert {action.replace("-", "_") for action in expected} == set(ACTIONS)
    issuers = ["alice", "bob"] * 5
    for issuer, (action, (code, said)) in zip(issuers, expected.items(), strict=True):
        result = desk.order(issuer, action, reason=f"to see what {action} does")
        assert (result.code, result.out.startswith(f"busy: {said}")) == (code, True), (action, result)
    told = desk.order("alice", "resume", "--json").json
    assert (told["is_done"], told["issuer"], told["state"]) == (True, "alice", "running")
    forbidden = desk.order("carol", "resume")
    assert (forbidden.code, forbidden.out) == (
        1, "busy: resume refused (running): carol may not order resume of busy\n",
    )  # fmt: skip
    exported = desk.run("journal", "export", ".evenkeel/busy.sqlite").out
    for action in set(expected) - {"acknowledge", "reload", "hedge-now", "set-band"}:
        assert f"to see what {action} does" in exported
    assert told["command_id"] in exported
    logged = desk.end()
    for key in KEYS.values():
        assert key.partition(":")[2] not in logged + exported


def test_who_is_not_believed_hears_nothing(desk: Desk) -> None:
    desk.open()
    forged = (("alice", MALLORY.text()), ("alice", BOB.text()), ("mallory", MALLORY.text()))
    with ThreadPoolExecutor() as pool:  # at once: after ten seconds the log would hear of them again
        sent = [pool.submit(desk.order, issuer, "pause", "--wait", "0.5", key=key) for issuer, key in forged]
    for result in (one.result() for one in sent):
        assert (result.code, result.out) == (5, "")
        assert result.err.startswith(
            "error: expected an answer within 0.5 s, found none; hint: do the windows of busy run and know "
        )
    assert desk.order("bob", "pause").code == 0
    logged = desk.end()
    assert logged.count('"why": "bad_signature"') == 1, "the second within ten seconds is only counted"
    assert logged.count('"why": "unknown_issuer"') == 1


def test_what_is_sent_while_no_windows_run_is_done_once_or_refused_for_its_age(
    desk: Desk, mosquitto: Mosquitto
) -> None:
    windows = desk.open()
    windows.send(signal.SIGKILL)
    windows.wait()
    for issuer, life, reason in (("alice", "1", "out of time"), ("bob", "300", "while nobody listened")):
        assert desk.order(issuer, "pause", "--life", life, "--wait", "0", reason=reason).code == 5
    sent_s, topic = time.time(), "desk-1/v1/busy/answers"
    with ThreadPoolExecutor() as pool:
        heard = pool.submit(mosquitto.heard, topic, 2, "-q", "1")
        wait_for(lambda: f"{topic} (QoS 1)" in mosquitto.log)
        wait_for(lambda: time.time() > sent_s + 1.0)  # the one has expired by now, for good
        windows = desk.open_windows()
        answers = [msgspec.json.decode(payload, type=CommandAnswer) for _, payload in heard.result()]
    assert sorted((one.issuer, one.is_done) for one in answers) == [("alice", False), ("bob", True)]
    (refused,) = (one.text for one in answers if not one.is_done)
    assert "expired" in refused
    windows.send(signal.SIGTERM)
    windows.wait()
    desk.open_windows()
    assert desk.order("alice", "resume", reason="that is all").code == 0
    desk.end()
    events = read_rows(desk.folder / ".evenkeel/busy.sqlite").events
    reasons = [event.reason for event in events if isinstance(event, OperatorCommand)]
    assert reasons == ["while nobody listened", "that is all"]


def test_a_vault_that_does_not_run_is_said_to_be_so(desk: Desk) -> None:
    desk.open_windows()
    result = desk.order("bob", "pause")
    assert (result.code, result.out) == (
        3, "busy: pause refused (not running): expected a running daemon of busy, found none\n",
    )  # fmt: skip


def test_what_cannot_be_sent_says_why(desk: Desk, mosquitto: Mosquitto) -> None:
    desk_of = ("--desk", "desk.yaml", "--issuer", "alice", "--reason", "r")
    (desk.folder / "bare.yaml").write_text("issuers: {}\n")
    cases = [
        (
            ("order", "pause", "busy", *desk_of),
            {},
            2,
            "expected your key in the environment variable EVENKEEL_ORDER_KEY",
        ),
        (("order", "pause", "busy", *desk_of, "--key-env", "K"), {"K": "x"}, 2, "K: expected ed25519-private: or hmac"),
        (("order", "flatten", "busy", *desk_of), {}, 2, "--confirm: expected busy, found ''; hint: flattening closes"),
        (("order", "fly", "busy", *desk_of), {}, 2, "Invalid value for 'ACTION'"),
        (("order", "pause", "busy", "--desk", "bare.yaml", *desk_of[2:]), {}, 2, "bare.yaml: expected a section mqtt"),
    ]
    for arguments, environ, code, said in cases:
        result = desk.run(*arguments, **environ)
        assert (result.code, result.out) == (code, ""), result
        assert said in result.err
    mosquitto.kill()
    away = desk.order("alice", "pause")
    assert away.code == 1
    assert away.err.startswith(f"error: expected a broker at 127.0.0.1:{mosquitto.port}, found ")


def test_new_keys_are_private_and_what_is_public_is_shown(evenkeel: CommandLine, tmp_path: Path) -> None:
    made = evenkeel.run("keys", "new", "--out", "alice.key", cwd=tmp_path)
    assert (made.code, made.out) == (0, "")
    assert stat.S_IMODE((tmp_path / "alice.key").stat().st_mode) == 0o600
    text = (tmp_path / "alice.key").read_text()
    assert text.startswith("ed25519-private:")
    assert text.strip().partition(":")[2] not in made.err
    assert "    public_key: " in made.err
    again = evenkeel.run("keys", "new", "--out", "alice.key", cwd=tmp_path)
    assert again.code == 2
    assert again.err == "error: alice.key: expected no such file yet, found one; hint: keys are never replaced\n"
    assert (tmp_path / "alice.key").read_text() == text
    shown = evenkeel.run("keys", "new", "--hmac", "--show", cwd=tmp_path)
    assert shown.out.startswith("hmac-sha256:")
    assert shown.out.strip().partition(":")[2] not in shown.err
    assert evenkeel.run("keys", "new", cwd=tmp_path).err.startswith("error: expected --out FILE or --show, found both")


@pytest.mark.parametrize(
    ("action", "is_done", "state", "code"),
    [
        ("pause", True, "paused", 0),
        ("pause", False, "paused", 1),
        ("pause", False, "not running", 3),
        ("halt", True, "halted", 0),
        ("halt", False, "halted", 4),
        ("resume", True, "active", 0),
        ("resume", True, "reduce_only", 6),
    ],
)
def test_exit_codes_are_those_of_the_commands_at_the_machine(action: str, is_done: bool, state: str, code: int) -> None:
    answer = CommandAnswer("i", "v", "a", action, is_done=is_done, text="", state=state, answered_ns=1)
    assert exit_code(answer) == code
