"""The windows' process at a real broker, beside a real daemon: either may be killed, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import MqttSection
from bot.runtime.windows.hub import Hub
from bot.runtime.windows.mqtt_window import open_mqtt
from bot.telemetry.mqtt.topics import Availability, Notice, OpenAlerts
from tests.acceptance.broker_kills import kill_brokers
from tests.broker import mosquitto
from tests.runtime.command_line import CommandLine, wait_for

KILLS = 3


async def test_a_broker_killed_again_and_again_changes_no_hedge_and_loses_no_event(
    evenkeel: CommandLine, busy: Path
) -> None:
    story = await kill_brokers(evenkeel, busy, "busy.yaml", kills=KILLS, seed=3)
    assert story.wrong == []
    assert (story.kills, story.compared) == (KILLS, KILLS)
    assert story.disconnections >= story.kills
    assert story.events > 100


def test_the_broker_says_that_the_windows_were_killed(evenkeel: CommandLine, busy: Path) -> None:
    topic = "evenkeel/v1/busy/availability"
    with mosquitto() as broker:
        (busy / "desk.yaml").write_text(f"mqtt: {json.dumps(broker.mqtt())}\n")

        def why() -> str:
            ((_, payload),) = broker.heard(topic, 1)
            return msgspec.json.decode(payload, type=Availability).why

        for parting, said in ((signal.SIGKILL, "the connection was lost"), (signal.SIGTERM, "stopped")):
            process = evenkeel.start("windows", "desk.yaml", "busy.yaml", cwd=busy)
            wait_for(lambda: why() == "not running")
            process.send(parting)
            wait_for(lambda said=said: why() == said)
            process.wait()


def test_alerts_of_the_desk_itself_are_at_the_broker(evenkeel: CommandLine, busy: Path) -> None:
    """Windows that were killed come back and say so: people are told, and so is whoever listens."""
    with mosquitto() as broker:
        desk = {"mqtt": broker.mqtt(client_id="desk-1"), "alerts": {"destinations": [{"url_env": "HOOK"}]}}
        (busy / "desk.yaml").write_text(json.dumps(desk))
        hook = {"HOOK": "json://127.0.0.1:9/"}

        def kept() -> str:
            return broker.heard("evenkeel/v1/_desk-1/alerts", 1)[0][1]

        process = evenkeel.start("windows", "desk.yaml", "busy.yaml", cwd=busy, environ=hook)
        assert msgspec.json.decode(kept(), type=OpenAlerts) == OpenAlerts(())
        wait_for((busy / ".evenkeel" / "windows.alerts").exists)
        process.send(signal.SIGKILL)
        process.wait()
        with ThreadPoolExecutor() as pool:
            said = pool.submit(broker.heard, "evenkeel/v1/+/notices", 1, "-q", "1")
            wait_for(lambda: "evenkeel/v1/+/notices" in broker.log)
            process = evenkeel.start("windows", "desk.yaml", "busy.yaml", cwd=busy, environ=hook)
            ((topic, payload),) = said.result()
        notice = msgspec.json.decode(payload, type=Notice)
        assert (topic, notice.word, notice.alert.vault) == ("evenkeel/v1/_desk-1/notices", "opened", "")
        (alert,) = wait_for(lambda: msgspec.json.decode(kept(), type=OpenAlerts).alerts)
        assert alert.alert_id == notice.alert.alert_id == "_desk:windows_restarted"
        process.send(signal.SIGTERM)
        assert process.wait().code == 0


async def test_what_a_desk_needs_and_has_not_is_said_at_the_start() -> None:
    section = MqttSection(password_env="NO_SUCH_PASSWORD")
    with pytest.raises(ConfigError, match="NO_SUCH_PASSWORD"):
        open_mqtt(section, [], Hub(), {})
    window = open_mqtt(MqttSection(), [], Hub(), {})
    running = asyncio.create_task(window.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
