"""A reader keeps up with every vault through breaks of any kind: states whole, events in order and once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiomqtt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.windows import Alert, CommandAnswer, Told, VaultState
from bot.runtime.configuration.broker import Broker
from bot.telemetry.mqtt.subscriber import MAX_HELD, NotConnected, Order, Subscriber
from bot.telemetry.mqtt.topics import OpenAlerts, RecentEvents, Topic, encode, split, topic_name
from tests.broker import Mosquitto
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.test_journal_tail import hedge, write
from tests.telemetry.mqtt.test_publisher import ALERT, EVENTS, broker, journal, publishing, state, until

__all__ = ["broker", "journal", "state"]  # fixtures


class Picture:
    """All a reader was told."""

    def __init__(self) -> None:
        self.states: list[VaultState] = []
        self.told: list[Told] = []
        self.alerts: dict[str, Sequence[Alert]] = {}
        self.availability: dict[str, str] = {}
        self.connections: list[bool] = []

    def take_state(self, state: VaultState) -> None:
        self.states.append(state)

    def take_told(self, told: Told) -> None:
        self.told.append(told)

    def take_alerts(self, vault: str, alerts: Sequence[Alert]) -> None:
        self.alerts[vault] = alerts

    def take_availability(self, vault: str, text: str) -> None:
        self.availability[vault] = text

    def take_connection(self, is_connected: bool) -> None:
        self.connections.append(is_connected)


@asynccontextmanager
async def reading(broker: Broker, picture: Picture) -> AsyncIterator[Subscriber]:
    """Run a subscriber for the length of the block."""
    subscriber = Subscriber("reader", broker.section.prefix, broker.client, picture)
    running = asyncio.create_task(subscriber.run())
    try:
        yield subscriber
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_reader_is_told_everything_once_through_a_broker_that_dies(
    broker: Mosquitto, journal: Path, state: VaultState
) -> None:
    picture = Picture()
    async with (
        reading(broker.broker(), picture) as subscriber,
        publishing(broker.broker(), journal, lambda _: [ALERT]) as publisher,
    ):
        publisher.show(state)
        await until(lambda: len(picture.told) == EVENTS and bool(picture.states))
        broker.kill()
        write(journal, *(record for number in range(41, 61) for record in hedge(number)))
        publisher.show(msgspec.structs.replace(state, decisions=77, taken_ns=8))
        broker.start()
        await until(lambda: len(picture.told) == EVENTS + 60 and picture.states[-1].decisions == 77)
        assert [one.number for one in picture.told] == list(range(1, EVENTS + 61))
        is_same = msgspec.structs.replace(picture.states[-1], decisions=0, taken_ns=state.taken_ns) == state
        assert is_same
        assert picture.states[0].decisions == state.decisions
        await until(lambda: picture.availability == {"eth": "online"} and picture.alerts == {"eth": (ALERT,)})
        assert subscriber.unreadable == 0
    assert picture.connections[0] is True
    assert picture.connections[-1] is False


@pytest.mark.parametrize(
    ("name", "topic", "alert", "is_taken", "is_unreadable"),
    [
        ("_desk-1", Topic.ALERTS, msgspec.structs.replace(ALERT, vault=""), True, False),
        ("_desk-2", Topic.ALERTS, msgspec.structs.replace(ALERT, vault=""), False, False),
        ("_desk-1", Topic.ALERTS, ALERT, False, True),  # a desk does not speak for its vaults
        ("_desk-1", Topic.RECENT, ALERT, False, False),
        ("eth", Topic.ALERTS, msgspec.structs.replace(ALERT, vault=""), False, True),
    ],
)
def test_a_desk_speaks_for_itself_and_nobody_else_for_it(
    name: str, topic: Topic, alert: Alert, is_taken: bool, is_unreadable: bool
) -> None:
    picture = Picture()
    subscriber = Subscriber("reader", "evenkeel", _nobody, picture, desk="_desk-1")
    subscriber._take(topic_name("evenkeel", name, topic), encode(OpenAlerts((alert,))))
    assert picture.alerts == ({"": (alert,)} if is_taken else {})
    assert bool(subscriber.unreadable) is is_unreadable


def _nobody(name: str, **terms: object) -> aiomqtt.Client:
    raise AssertionError(name, terms)


async def test_who_comes_later_is_told_what_the_broker_keeps(
    broker: Mosquitto, journal: Path, state: VaultState
) -> None:
    first, later = Picture(), Picture()
    async with publishing(broker.broker(), journal) as publisher:
        publisher.show(state)
        async with reading(broker.broker(), first):
            await until(lambda: len(first.told) == EVENTS)
        publisher.gone("no answer within 3 s", is_frozen=True)
        async with reading(broker.broker(client_id="other"), later):
            await until(lambda: bool(later.told and later.states) and "frozen" in later.availability.get("eth", ""))
    assert later.states == [state]
    assert [one.number for one in first.told] == list(range(1, EVENTS + 1))
    assert [one.number for one in later.told] == list(range(later.told[0].number, later.told[-1].number + 1))
    assert later.availability["eth"].startswith("frozen: no answer")


async def test_what_does_not_fit_its_schema_is_counted_and_nothing_else(
    broker: Mosquitto, journal: Path, state: VaultState
) -> None:
    picture = Picture()
    async with reading(broker.broker(), picture) as subscriber, broker.broker().client("vandal") as vandal:
        await until(lambda: picture.connections == [True])
        invalid = b'{"presence": "online", "since_ns": 1, "why": "\xff"}'
        for payload in (b"", b"{", b"[]", b'{"presence": "online"}', b"\xff" * 100, invalid, b'{"a":' * 5000):
            await vandal.publish("evenkeel/v1/eth/availability", payload, qos=1)
        await until(lambda: subscriber.unreadable == 7)
        async with publishing(broker.broker(), journal) as publisher:
            publisher.show(state)
            await until(lambda: bool(picture.states))
    assert picture.states[0] == state


async def test_who_may_write_of_one_vault_can_say_nothing_of_another(broker: Mosquitto, state: VaultState) -> None:
    picture = Picture()
    of_eth = msgspec.structs.replace(told(1), vault="btc")
    payloads = (of_eth, RecentEvents((told(1), of_eth)), OpenAlerts((ALERT,)), split(state)[Topic.STATUS])
    async with reading(broker.broker(), picture) as subscriber, broker.broker().client("vandal") as vandal:
        await until(lambda: picture.connections == [True])
        for topic, payload in zip((Topic.EVENTS, Topic.RECENT, Topic.ALERTS, Topic.STATUS), payloads, strict=True):
            vault = "btc" if topic in (Topic.ALERTS, Topic.STATUS) else "eth"
            await vandal.publish(topic_name("evenkeel", vault, topic), encode(payload), qos=1)
        await until(lambda: subscriber.unreadable == 4)
    assert (picture.told, picture.alerts, picture.states) == ([], {}, [])


async def test_no_number_is_longer_than_pages_can_show(broker: Mosquitto) -> None:
    picture, fine = Picture(), msgspec.structs.replace(told(1), fields={"wei": 10**30})
    async with reading(broker.broker(), picture) as subscriber, broker.broker().client("vandal") as vandal:
        await until(lambda: picture.connections == [True])
        for broken in (
            msgspec.structs.replace(told(1), now_ns=10**30),
            msgspec.structs.replace(told(1), seq=-(10**30)),
        ):
            await vandal.publish(topic_name("evenkeel", "eth", Topic.RECENT), encode(RecentEvents((broken,))), qos=1)
        await vandal.publish(topic_name("evenkeel", "eth", Topic.EVENTS), encode(fine), qos=1)
        await vandal.publish(topic_name("evenkeel", "eth", Topic.RECENT), encode(RecentEvents((fine,))), qos=1)
        await until(lambda: picture.told == [fine])
        assert subscriber.unreadable == 2


async def test_a_command_goes_out_and_its_answer_comes_back(broker: Mosquitto) -> None:
    picture = Picture()
    answer = CommandAnswer("c1", "eth", "alice", "pause", is_done=True, text="paused", state="paused", answered_ns=1)

    async def carry_out(client: aiomqtt.Client) -> bytes:
        async for message in client.messages:
            other = msgspec.structs.replace(answer, command_id="c0")
            for one in (other, answer, answer):
                await client.publish(topic_name("evenkeel", "eth", Topic.ANSWERS), encode(one), qos=1)
            return bytes(message.payload)  # type: ignore[arg-type]
        return b""

    subscriber = Subscriber("reader", "evenkeel", broker.broker().client, picture)
    with pytest.raises(NotConnected, match="nothing was sent"):
        await subscriber.order("eth", b"pause!", "c1", PATIENCE_S)
    async with reading(broker.broker(), picture) as subscriber, broker.broker().client("desk") as desk:
        await desk.subscribe(topic_name("evenkeel", "+", Topic.COMMANDS), qos=1)
        carrying = asyncio.create_task(carry_out(desk))
        await until(lambda: picture.connections == [True])
        assert await subscriber.order("eth", b"pause!", "c1", PATIENCE_S) == answer
        assert await carrying == b"pause!"
        with pytest.raises(TimeoutError):
            await subscriber.order("eth", b"pause!", "c2", 0.05)
        for seconds in (0.05, 0.1):
            ordering = asyncio.create_task(subscriber.order("eth", b"pause!", "c3", seconds))
            for _ in range(4):  # it is on its way
                await asyncio.sleep(0)
            time.sleep(4 * seconds)  # noqa: ASYNC251 — the machine stands still: the broker's word and the end at once
            await asyncio.wait({ordering}, timeout=PATIENCE_S)
            assert isinstance(ordering.exception(), TimeoutError)


def told(number: int, run_id: str = "r") -> Told:
    return Told("eth", run_id, number, number, time.time_ns(), "run", "", "", {})


@given(st.data(), st.integers(1, 30), st.integers(1, 10))
def test_events_are_told_in_order_whatever_order_they_come_in(data: st.DataObject, count: int, kept: int) -> None:
    events = [told(number) for number in range(1, count + 1)]
    order, out = Order(), []
    for one in data.draw(st.lists(st.sampled_from(events), max_size=60)):
        out += order.put(one)
        if data.draw(st.booleans()):
            upto = data.draw(st.integers(0, count))
            out += order.put_recent(events[max(0, upto - kept) : upto])
    out += order.put_recent(events[-kept:])
    numbers = [one.number for one in out]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == count
    assert set(numbers) >= set(range(max(1, count - kept + 1), count + 1))


def test_of_what_is_missing_for_good_nobody_waits_for_ever() -> None:
    order = Order()
    assert [one.number for one in order.put_recent([told(1), told(2)])] == [1, 2]
    held = [one for number in range(4, 4 + MAX_HELD) for one in order.put(told(number))]
    assert held == []
    assert len(order.put(told(4 + MAX_HELD))) == MAX_HELD + 1
    assert [one.number for one in order.put_recent([told(2_000), told(2_001)])] == [2_000, 2_001]
    assert order.put(told(1)) == []
    assert order.put(told(1, "another run")) == []  # held until it is known where the broker's memory begins
    assert [one.number for one in order.put_recent([told(1, "another run")])] == [1]
    assert encode(RecentEvents(())) == b'{"events":[],"schema_version":1}'
