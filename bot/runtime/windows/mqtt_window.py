"""The broker as one of the windows: a publisher for each vault. States come from the host, events from journals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial

from bot.domain.windows import Alert, Told, VaultState
from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.desk import MqttSection, cursor_path
from bot.runtime.windows.hub import Hub, Watched
from bot.runtime.windows.journal_events import JournalEvents
from bot.telemetry.alerts.keeper import Telling
from bot.telemetry.mqtt.desk_publisher import DeskPublisher
from bot.telemetry.mqtt.publisher import POLL_S, Publisher
from bot.telemetry.mqtt.topics import Notice


class MqttWindow:
    """Publishes all vaults of a desk, and what is of the desk itself."""

    name = "mqtt"

    def __init__(self, broker: Broker, watched: Sequence[Watched], hub: Hub) -> None:
        self._hub = hub
        self._events = {
            one.vault.vault: JournalEvents(one.journal_path, cursor_path(one.vault.state_dir, one.vault.vault))
            for one in watched
        }
        prefix = broker.section.prefix
        self._desk = DeskPublisher(
            broker.section.client_id, prefix, broker.client, partial(self._alerts, ""), time.time_ns
        )
        hub.notice = self._note
        self._publishers = {
            vault: Publisher(vault, prefix, broker.client, events, self._alerts, time.time_ns)
            for vault, events in self._events.items()
        }

    async def run(self) -> None:
        """Publish until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for publisher in self._publishers.values():
                    group.create_task(publisher.run())
                group.create_task(self._desk.run())
                group.create_task(self._report())
        finally:
            for events in self._events.values():
                events.close()

    def show(self, state: VaultState) -> None:
        """Take the newest state of a vault."""
        if state.vault in self._publishers:
            self._publishers[state.vault].show(state)

    def tell(self, told: Told) -> None:
        """Events come from the journal itself, where none can be lost."""

    def gone(self, vault: str, why: str) -> None:
        """Take note that a vault's daemon does not answer."""
        self._publishers[vault].gone(why, is_frozen=why != "not running")

    def _note(self, told: Telling, now_ns: int) -> None:
        self._desk.note(Notice(str(told.word), told.alert, told.why, told.note, now_ns))

    def _alerts(self, vault: str) -> Sequence[Alert]:
        return self._hub.open_alerts(vault)  # asked anew each time: who keeps alerts says so later

    async def _report(self) -> None:
        """Tell the other windows how the broker does."""
        while True:
            publishers = self._publishers.values()
            self._hub.broker_away_ns = min((one.away_ns for one in publishers if one.away_ns), default=0)
            self._hub.dropped = sum(one.superseded for one in publishers)
            await asyncio.sleep(POLL_S)


def open_mqtt(mqtt: MqttSection, watched: Sequence[Watched], hub: Hub, environ: Mapping[str, str]) -> MqttWindow:
    """Return the window at the broker. Raises ConfigError if the environment lacks what it needs."""
    return MqttWindow(Broker(mqtt, environ), watched, hub)
