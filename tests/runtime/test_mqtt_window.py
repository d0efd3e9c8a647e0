"""The windows' process at a real broker, beside a real daemon: either may be killed, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.runtime.desk import MqttSection
from bot.runtime.mqtt_window import open_mqtt
from bot.runtime.windows import Hub
from bot.telemetry.mqtt.topics import Availability
from tests.acceptance.broker_kills import kill_brokers
from tests.broker import mosquitto
from tests.runtime.command_line import CommandLine, wait_for

KILLS = 3


async def test_a_broker_killed_again_and_again_changes_no_hedge_and_loses_no_event(
    evenkeel: CommandLine, busy: Path
) -> None:
    story = await kill_brokers(evenkeel, busy, "busy.yaml", kills=KILLS, seed=3)
    assert story.wrong == []
    assert 1 <= story.kills <= KILLS  # a fast machine is through before the last of them
    assert story.disconnections >= story.kills
    assert story.events > 100
    assert story.compared > 0


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
