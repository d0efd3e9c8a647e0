"""Alerts of vaults reach a real webhook, are kept over a restart, and end in reduce-only when nobody answers."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.domain.windows import Severity
from bot.runtime.cli.windows import watch
from bot.runtime.configuration.desk import AlertsSection
from bot.runtime.operators.executed import ExecutedCommands
from bot.runtime.windows import alert_window
from bot.runtime.windows.alert_window import DONE_BEFORE, MEMORY, AlertWindow, open_alert_window, patience_of
from bot.runtime.windows.hub import Hub
from bot.telemetry.alerts.keeper import Escalation, Patience
from bot.telemetry.alerts.sending import Destination, Sender
from tests.runtime.command_line import PATIENCE_S, ROOT, CommandLine, wait_for
from tests.telemetry.alerts.destinations import Webhook, open_webhook
from tests.telemetry.alerts.states import calm

S = 1_000_000_000
AT_ONCE = Patience(repeat_ns=1800 * S, settle_ns=0, escalate_after_ns=0)
PATIENT = Patience(repeat_ns=1800 * S, settle_ns=0, escalate_after_ns=3600 * S)
BROKEN = calm(accounts=(), venues=(), risk={"drains": [{"venue": "okx", "stage": "hedge", "is_over": False}]})
EXAMPLE = ROOT / "config" / "eth-straddle.yaml"
# with 38,600 USD the straddle is 93 % of the way to liquidation
NARROW = """\
risk:
  accounts:
    deribit: {model: house}
"""


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with open_webhook() as opened:
        yield opened


class Daemon:
    """What a daemon answers to an order, and the orders it got."""

    def __init__(self) -> None:
        self.orders: list[Escalation] = []
        self.answer: dict[str, Any] = {"state": "reduce_only", "reason": "alerts"}

    async def tighten(self, escalation: Escalation) -> dict[str, Any]:
        self.orders.append(escalation)
        return self.answer


def window_of(webhook: Webhook, folder: Path, patience: Patience, daemon: Daemon, hub: Hub) -> AlertWindow:
    sender = Sender([Destination("HOOK", f"json://127.0.0.1:{webhook.port}/", Severity.INFO)])
    return AlertWindow(
        patience, sender, hub, memory_path=folder / MEMORY, vaults=("eth-straddle",), tighten=daemon.tighten
    )


@asynccontextmanager
async def running(window: AlertWindow) -> AsyncIterator[None]:
    task = asyncio.create_task(window.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(find: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not find():  # noqa: ASYNC110 — a server in a thread sets no event
            await asyncio.sleep(0.01)


async def test_a_finding_is_told_and_its_end_too(webhook: Webhook, tmp_path: Path) -> None:
    hub = Hub()
    window = window_of(webhook, tmp_path, PATIENT, Daemon(), hub)
    async with running(window):
        window.show(calm())
        window.show(BROKEN)
        await until(lambda: webhook.posts)
        (alert,) = hub.open_alerts("eth-straddle")
        assert (alert.alert_id, hub.open_alerts("")) == ("eth-straddle:drain:okx", [])
        assert (await hub.handlers["alerts"]({}))["alerts"] == [msgspec.to_builtins(alert)]
        assert hub.acknowledge(alert.alert_id, "ann") == ""  # else it would have to stay away as long as she had to
        window.show(calm())
        await until(lambda: len(webhook.posts) == 2)
    assert webhook.titles == [
        "CRITICAL eth-straddle: a counterparty is being left: okx",
        "over: eth-straddle: a counterparty is being left: okx",
    ]
    assert (tmp_path / MEMORY).stat().st_mode & 0o777 == 0o600


async def test_nobody_answers(webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_window, "AGAIN_S", 3600.0)
    daemon, window_hub = Daemon(), Hub()
    daemon.answer = {"error": "expected a running daemon, found none"}
    window = window_of(webhook, tmp_path, AT_ONCE, daemon, window_hub)
    async with running(window):
        window.show(BROKEN)
        await until(lambda: any("NOT ANSWERED" in title for title in webhook.titles))
        assert len(daemon.orders) == 1  # the next attempt is an hour away
    daemon.answer = {"state": "reduce_only"}
    window = window_of(webhook, tmp_path, AT_ONCE, daemon, window_hub)
    async with running(window):
        await asyncio.sleep(0)
        window.show(BROKEN)
        await until(lambda: any("CRITICAL reduce-only" in title for title in webhook.titles))
        window.show(BROKEN)
    assert len(daemon.orders) == 2
    first, second = daemon.orders
    assert first == second  # one command, however often it is tried, before and after a restart
    assert first.reason.startswith("nobody acknowledged eth-straddle:drain:okx")
    assert len(webhook.posts) == 3  # opened, not answered, reduce-only


async def test_an_answer_that_was_lost_is_not_asked_for_for_ever(webhook: Webhook, tmp_path: Path) -> None:
    daemon = Daemon()
    daemon.answer = {"error": f"command x {DONE_BEFORE}"}
    window = window_of(webhook, tmp_path, AT_ONCE, daemon, Hub())
    async with running(window):
        window.show(BROKEN)
        await until(lambda: any("reduce-only:" in title for title in webhook.titles))
        await asyncio.sleep(0.3)
    assert len(daemon.orders) == 1
    known = ExecutedCommands(lambda: 0)
    known.claim(daemon.orders[0].command_id, 1)
    assert known.claim(daemon.orders[0].command_id, 1).endswith(DONE_BEFORE)  # in the daemon's own words


@pytest.mark.parametrize("state", ["halted", "paused", "reduce_only"])
async def test_what_is_tight_is_left_alone(webhook: Webhook, tmp_path: Path, state: str) -> None:
    daemon = Daemon()
    window = window_of(webhook, tmp_path, AT_ONCE, daemon, Hub())
    tight = msgspec.structs.replace(BROKEN, state=state, state_reason="ann: lunch")
    async with running(window):
        window.show(tight)
        await until(lambda: webhook.posts)
        await until(lambda: window.alerts("eth-straddle")[0].escalated_ns)
        window.show(BROKEN)  # resumed by somebody, who has seen it
        await asyncio.sleep(0.3)
    assert daemon.orders == []


@pytest.mark.parametrize("state", ["reconciling", "gone"])
async def test_who_does_not_trade_is_asked_once_it_does(webhook: Webhook, tmp_path: Path, state: str) -> None:
    daemon = Daemon()
    window = window_of(webhook, tmp_path, AT_ONCE, daemon, Hub())
    async with running(window):
        window.show(msgspec.structs.replace(BROKEN, state="reconciling"))
        await until(lambda: webhook.posts)
        if state == "gone":
            window.gone("eth-straddle", "not running")
        await asyncio.sleep(0.3)
        assert daemon.orders == []
        window.show(BROKEN)
        await until(lambda: daemon.orders)


async def test_somebody_answers(webhook: Webhook, tmp_path: Path) -> None:
    daemon, hub = Daemon(), Hub()
    window = window_of(webhook, tmp_path, PATIENT, daemon, hub)
    async with running(window):
        window.show(BROKEN)
        await until(lambda: webhook.posts)
        refused = await hub.handlers["acknowledge"]({"alert_id": "eth-straddle:drain", "issuer": "ann"})
        assert "expected the id of an open alert" in refused["error"]
        assert await hub.handlers["acknowledge"]({"alert_id": "eth-straddle:drain:okx", "issuer": "ann"}) == {}
        assert hub.open_alerts("eth-straddle")[0].acknowledged_by == "ann"


async def test_what_is_wrong_with_the_windows_themselves(webhook: Webhook, tmp_path: Path) -> None:
    hub = Hub()
    hub.refused_commands["expired"] = 3  # before this window began
    window = window_of(webhook, tmp_path, PATIENT, Daemon(), hub)
    async with running(window):
        await asyncio.sleep(0)
        hub.refused_commands["forged"] += 2
        await until(lambda: webhook.posts)
        hub.broker_away_ns = time.time_ns()
        await asyncio.sleep(0.3)
        (alert,) = hub.open_alerts("")
    assert webhook.titles == ["WARNING the desk: a command was refused: forged"]
    assert alert.detail == "2 more, 2 in all"
    assert b'"kind":"broker_away"' in (tmp_path / MEMORY).read_bytes()  # found, though not for long enough yet


async def test_a_restart_tells_nothing_again_and_says_if_it_was_none_of_ours(webhook: Webhook, tmp_path: Path) -> None:
    window = window_of(webhook, tmp_path, PATIENT, Daemon(), Hub())
    async with running(window):
        window.show(BROKEN)
        await until(lambda: webhook.posts)
        await asyncio.sleep(0.3)
        crashed = (tmp_path / MEMORY).read_bytes()
    window = window_of(webhook, tmp_path, PATIENT, Daemon(), Hub())
    async with running(window):
        window.show(BROKEN)
        await asyncio.sleep(0.3)
    assert len(webhook.posts) == 1
    (tmp_path / MEMORY).write_bytes(crashed)
    window = window_of(webhook, tmp_path, PATIENT, Daemon(), Hub())
    async with running(window):
        window.show(BROKEN)
        await until(lambda: len(webhook.posts) == 2)
    assert webhook.titles[1].endswith("the windows ended without being told to, and are back")


async def test_what_did_not_arrive_is_sent_after_a_restart(webhook: Webhook, tmp_path: Path) -> None:
    webhook.status = 503
    window = window_of(webhook, tmp_path, PATIENT, Daemon(), Hub())
    async with running(window):
        window.show(BROKEN)
        await until(lambda: b"counterparty" in (tmp_path / MEMORY).read_bytes())
    webhook.status = 200
    async with running(window_of(webhook, tmp_path, PATIENT, Daemon(), Hub())):
        await until(lambda: webhook.posts)
    assert len(webhook.posts) == 1


@pytest.mark.parametrize("memory", [b"", b"\xff\xff", b"{}", b'{"is_running":true,"cases":[1],"waiting":{}}'])
async def test_a_damaged_memory_is_begun_anew(webhook: Webhook, tmp_path: Path, memory: bytes) -> None:
    (tmp_path / MEMORY).write_bytes(memory)
    window = window_of(webhook, tmp_path, PATIENT, Daemon(), Hub())
    async with running(window):
        window.show(BROKEN)
        await until(lambda: webhook.posts)


def test_a_daemon_nobody_hears_of(webhook: Webhook, tmp_path: Path) -> None:
    window = window_of(webhook, tmp_path, PATIENT, Daemon(), Hub())
    for _ in range(2):
        window.gone("eth-straddle", "no answer within 3 s")
    assert window.alerts("eth-straddle") == []  # it has ten seconds to come back


class TestOpening:
    def section(self) -> AlertsSection:
        return AlertsSection.model_validate({"destinations": [{"url_env": "ALERT_HOOK"}], "repeat_s": 60})

    def test_an_address_that_is_missing_or_none_is_named_and_not_shown(self) -> None:
        watched = watch([EXAMPLE])
        with pytest.raises(ConfigError, match="ALERT_HOOK, found none"):
            open_alert_window(self.section(), watched, Hub(), {})
        with pytest.raises(ConfigError, match="ALERT_HOOK: expected an address") as raised:
            open_alert_window(self.section(), watched, Hub(), {"ALERT_HOOK": "nosuch://s3cr3t"})
        assert "s3cr3t" not in str(raised.value)

    def test_patience_is_the_section_s(self) -> None:
        found = patience_of(self.section())
        assert (found.repeat_ns, found.settle_ns, found.escalate_after_ns) == (60 * S, 30 * S, 300 * S)


def test_a_daemon_near_liquidation_is_told_of_and_made_reduce_only(
    evenkeel: CommandLine, lasting: Path, webhook: Webhook
) -> None:
    busy = lasting
    vault = (busy / "busy.yaml").read_text().replace("USD: 500000", "USD: 38600")
    (busy / "busy.yaml").write_text(vault + NARROW)
    (busy / "desk.yaml").write_text("alerts: {destinations: [{url_env: ALERT_HOOK}], escalate_after_s: 1}\n")
    hook = f"json://127.0.0.1:{webhook.port}/"
    daemon = evenkeel.start("run", "busy.yaml", "--speed", "100", cwd=busy)
    windows = evenkeel.start(
        hook, "windows", "desk.yaml", "busy.yaml", cwd=busy, program="tests.runtime.with_hook:main"
    )
    try:
        wait_for(lambda: any("reduce-only:" in title for title in webhook.titles))
        status = evenkeel.run("status", "busy.yaml", "--json", cwd=busy).json
        assert status["state"] == "reduce_only"
        assert status["state_reason"].startswith("alerts: nobody acknowledged busy:margin_critical:deribit")
        listed = evenkeel.run("alerts", "busy.yaml", cwd=busy)
        assert listed.out.startswith("critical  busy:margin_critical:deribit  margin: hedges are being closed: deribit")
        noted = evenkeel.run("alerts", "busy.yaml", "--acknowledge", "busy:margin_critical:deribit", cwd=busy)
        assert noted.out == "acknowledged: busy:margin_critical:deribit\n"
        assert "acknowledged by" in evenkeel.run("alerts", "busy.yaml", cwd=busy).out
        titles = [title for title in webhook.titles if "margin" in title]
        assert titles == [
            f"CRITICAL {mark}busy: margin: hedges are being closed: deribit" for mark in ("", "reduce-only: ")
        ]
    finally:
        for process in (windows, daemon):
            process.send(signal.SIGTERM)
        left = windows.wait(), daemon.wait()
    assert [one.code for one in left] == [0, 0]
