"""What stands at a real broker is what is known, whatever happens to the broker in between, and nothing piles up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest

from bot.domain.windows import Alert, Severity, VaultState
from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.desk import MqttSection
from bot.runtime.meters import DaemonMeters
from bot.runtime.session import open_session
from bot.runtime.window_state import take_state
from bot.runtime.windows.journal_events import RECENT, JournalEvents
from bot.telemetry.mqtt.publisher import REFRESH_S, Publisher, _is_due
from bot.telemetry.mqtt.topics import (
    MANNERS,
    STATE_TOPICS,
    Availability,
    OpenAlerts,
    Presence,
    RecentEvents,
    Topic,
    decode,
    join,
    parse_topic,
    split,
    topic_name,
)
from tests.broker import Mosquitto, make_certificates, mosquitto, tls_section
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.test_journal_tail import HEADER, hedge, quiet, write

ROOT = Path(__file__).parents[3]
ALERT = Alert("broker", "eth", Severity.WARNING, "title", "detail", 1, 0, "", 0, 1)
EVENTS = 1 + 3 * 40


@pytest.fixture(scope="module")
def state() -> VaultState:
    (vault,) = load_vaults([ROOT / "config" / "eth-straddle.yaml"])
    taken = take_state(open_session(vault), {}, DaemonMeters().read(3, 0.0), 7, "a" * 64)
    plain = msgspec.json.encode(msgspec.structs.replace(taken, vault="eth"))
    return msgspec.json.decode(plain, type=VaultState)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "vault.sqlite"
    write(path, HEADER, quiet(0), *(record for number in range(1, 41) for record in hedge(number)))
    return path


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as one:
        yield one


@asynccontextmanager
async def publishing(
    broker: Broker, journal: Path, alerts: Callable[[str], Sequence[Alert]] = lambda _: ()
) -> AsyncIterator[Publisher]:
    """Run a publisher for the length of the block."""
    events = JournalEvents(journal, journal.with_suffix(".published"))
    publisher = Publisher("eth", broker.section.prefix, broker.client, events, alerts, time.time_ns)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        events.close()


async def heard(broker: Mosquitto, topic: Topic, count: int = 1, *options: str) -> list[msgspec.Struct]:
    """Return what a stock mosquitto_sub hears on a topic."""
    name = topic_name("evenkeel", "eth", topic)
    lines = await asyncio.to_thread(broker.heard, name, count, *options)
    return [decode(topic, payload.encode()) for _, payload in lines]


async def until_heard(broker: Mosquitto, topic: Topic, is_it: Callable[[Any], bool]) -> Any:
    """Return what is kept of a topic once it is as wanted."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            (found,) = await heard(broker, topic)
            if is_it(found):
                return found
            await asyncio.sleep(0.05)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if is_so():
                return
            await asyncio.sleep(0.01)


async def test_a_stock_subscriber_sees_what_the_documents_promise(
    broker: Mosquitto, journal: Path, state: VaultState
) -> None:
    live = asyncio.create_task(heard(broker, Topic.EVENTS, EVENTS))
    await until(lambda: "Sending SUBACK" in broker.log)
    async with publishing(broker.broker(), journal, lambda _: [ALERT]) as publisher:
        publisher.show(state)
        told = await live
        assert [one.number for one in told] == list(range(1, EVENTS + 1))  # type: ignore[attr-defined]
        recent = await until_heard(broker, Topic.RECENT, lambda found: found.events[-1].number == EVENTS)
        assert isinstance(recent, RecentEvents)
        assert list(recent.events) == told[-RECENT:]
        kept = [topic for topic, manner in MANNERS.items() if manner.is_retained]
        lines = await asyncio.to_thread(broker.heard, "evenkeel/v1/eth/+", len(kept), "--retained-only")
        found = {}
        for name, payload in lines:
            parsed = parse_topic("evenkeel", name)
            assert parsed is not None
            found[parsed[1]] = decode(parsed[1], payload.encode())
        assert set(found) == set(kept)
        assert join({topic: found[topic] for topic in STATE_TOPICS}) == state  # type: ignore[misc]
        assert found[Topic.ALERTS] == OpenAlerts((ALERT,))
        assert found[Topic.AVAILABILITY].presence is Presence.ONLINE  # type: ignore[attr-defined]
    (parting,) = await heard(broker, Topic.AVAILABILITY)
    assert isinstance(parting, Availability)
    assert (parting.presence, parting.why) == (Presence.OFFLINE, "stopped")


async def test_a_daemon_that_does_not_answer_is_frozen_or_offline(
    broker: Mosquitto, journal: Path, state: VaultState
) -> None:
    async with publishing(broker.broker(), journal) as publisher:
        publisher.show(state)
        await until_heard(broker, Topic.AVAILABILITY, lambda found: found.presence is Presence.ONLINE)
        publisher.gone("no answer within 3 s", is_frozen=True)
        frozen = await until_heard(broker, Topic.AVAILABILITY, lambda found: found.presence is Presence.FROZEN)
        assert frozen.why == "no answer within 3 s"
        publisher.gone("not running", is_frozen=False)
        await until_heard(broker, Topic.AVAILABILITY, lambda found: found.presence is Presence.OFFLINE)
        assert (await heard(broker, Topic.STATUS))[0].state == state.state  # type: ignore[attr-defined]


async def test_while_the_broker_is_away_nothing_piles_up_and_then_all_of_it_comes(
    broker: Mosquitto, journal: Path, state: VaultState
) -> None:
    async with publishing(broker.broker(), journal) as publisher:
        publisher.show(state)
        await until_heard(broker, Topic.RECENT, lambda found: bool(found.events) and found.events[-1].number == EVENTS)
        broker.kill()
        await until(lambda: publisher.away_ns > 0)
        write(journal, *(record for number in range(41, 61) for record in hedge(number)))
        for decisions in range(10_000):  # an hour of states, nearly
            publisher.show(msgspec.structs.replace(state, decisions=decisions, taken_ns=decisions))
        assert publisher.superseded >= 9_000
        broker.start()
        status = await until_heard(broker, Topic.STATUS, lambda found: found.decisions == 9_999)
        assert status.taken_ns == 9_999
        recent = await until_heard(broker, Topic.RECENT, lambda found: found.events[-1].number == EVENTS + 60)
        numbers = [one.number for one in recent.events]
        assert numbers == list(range(EVENTS + 61 - RECENT, EVENTS + 61))
        assert publisher.away_ns == 0


async def test_a_broker_that_stops_reading_holds_up_nobody(broker: Mosquitto, journal: Path, state: VaultState) -> None:
    async with publishing(broker.broker(), journal) as publisher:
        publisher.show(state)
        await until_heard(broker, Topic.STATUS, lambda found: found.decisions == state.decisions)
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            for decisions in range(1, 500):
                publisher.show(msgspec.structs.replace(state, decisions=decisions, taken_ns=decisions))
                await asyncio.sleep(0)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        await until_heard(broker, Topic.STATUS, lambda found: found.decisions == 499)


async def test_what_the_broker_refuses_is_not_told_and_comes_when_it_may(
    journal: Path, state: VaultState, tmp_path: Path
) -> None:
    (tmp_path / "acl").write_text("topic read #\n")  # somebody forgot us
    (tmp_path / "acl").chmod(0o600)
    with mosquitto(config=[f"acl_file {tmp_path / 'acl'}"]) as broker:
        async with publishing(broker.broker(), journal) as publisher:
            publisher.show(state)
            await until(lambda: broker.log.count("as evenkeel-state-eth") >= 3)  # it tried again
            assert publisher.away_ns > 0
            assert not journal.with_suffix(".published").exists()
            (tmp_path / "acl").write_text("topic readwrite #\n")
            os.kill(broker.pid, signal.SIGHUP)
            await until(lambda: publisher.away_ns == 0)
            await until(lambda: len(publisher._events.recent()) == RECENT)
            recent = await asyncio.to_thread(broker.heard, topic_name(publisher._prefix, "eth", Topic.RECENT), 1)
            assert len(decode(Topic.RECENT, recent[0][1].encode()).events) > 0  # type: ignore[attr-defined]


async def test_tls_wants_a_certificate_that_the_broker_knows(journal: Path, state: VaultState, tmp_path: Path) -> None:
    with mosquitto(make_certificates(tmp_path)) as broker:
        assert broker.certificates is not None
        unknown = broker.broker(tls=tls_section(broker.certificates, is_known=False))
        nobody = unknown.client("nobody")
        connecting = asyncio.create_task(nobody.__aenter__())
        await until(lambda: "peer did not return a certificate" in broker.log and nobody._client.socket() is None)
        connecting.cancel()  # the library would wait out its time for an answer that cannot come
        with pytest.raises((asyncio.CancelledError, aiomqtt.MqttError)):
            await connecting
        assert "nobody" not in broker.log
        async with publishing(broker.broker(), journal) as publisher:
            publisher.show(state)
            await until_heard(broker, Topic.STATUS, lambda found: found.vault == "eth")


async def test_a_password_comes_from_the_environment(journal: Path, state: VaultState, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    command = ["mosquitto_passwd", "-b", "-c", str(passwords), "keel", "right"]
    await asyncio.to_thread(subprocess.run, command, check=True)
    with mosquitto(config=[f"password_file {passwords}", "allow_anonymous false"]) as broker:
        section = MqttSection.model_validate(broker.mqtt(username="keel", password_env="MQTT_PASSWORD"))
        with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
            async with Broker(section, {"MQTT_PASSWORD": "wrong"}).client("nobody"):
                pass
        async with publishing(Broker(section, {"MQTT_PASSWORD": "right"}), journal) as publisher:
            publisher.show(state)
            await until(lambda: publisher.away_ns == 0)


def test_what_has_not_changed_is_written_again_only_after_a_while(state: VaultState) -> None:
    later = msgspec.structs.replace(state, taken_ns=state.taken_ns + 1)
    changed = msgspec.structs.replace(later, decisions=99)
    for topic, part in split(state).items():
        assert _is_due(part, 0.0, None)
        assert not _is_due(split(later)[topic], 1.0, (part, 0.0))
        assert _is_due(split(later)[topic], REFRESH_S, (part, 0.0))
        assert _is_due(split(changed)[topic], 1.0, (part, 0.0)) is (topic is Topic.STATUS)
        # what a daemon said before it fell silent is not made to look new
        assert not _is_due(part, 1e9, (part, 0.0))
