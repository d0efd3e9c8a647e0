"""Commands over a real broker: what is signed is done and answered, what is not is counted, and nothing stops it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bot.domain.events import OperatorAction
from bot.domain.windows import CommandAnswer
from bot.runtime.configuration import broker as to_broker
from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.desk import Desk, MqttSection
from bot.runtime.configuration.vault import Vault
from bot.runtime.operators.control import serve
from bot.runtime.windows.command_desk import CommandDesk
from bot.runtime.windows.command_window import CommandWindow, answers_topic, commands_topic, open_commands
from bot.runtime.windows.hub import Hub, Watched
from bot.telemetry.commands.verifying import Why
from tests.broker import Mosquitto
from tests.broker import mosquitto as open_broker
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.vault_files import vault
from tests.telemetry.commands.forging import BOB, FORGERS, ISSUERS, NOW_NS, VAULT, Forgery, forgeries, order, payload_of

ROOMY = ("max_queued_messages 20000", "max_inflight_messages 0")  # a flood must not be lost before it reaches us
COMMANDS, ANSWERS = commands_topic("ek", VAULT), answers_topic("ek", VAULT)


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[Mosquitto]:
    with open_broker(config=ROOMY) as broker:
        yield broker


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be patient with a broker: whoever gives up on it and comes again is handed once more what was under way."""
    monkeypatch.setattr(to_broker, "TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ek-") as name:
        yield Path(os.path.realpath(name))


class Stand:
    """A window at a broker, a daemon that does as it is told, and somebody at the broker who orders."""

    def __init__(self, window: CommandWindow, client: aiomqtt.Client, asked: list[dict[str, Any]]) -> None:
        self.window = window
        self.client = client
        self.asked = asked

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.window.desk.refused)

    async def send(self, payload: bytes, *, qos: int = 1, topic: str = COMMANDS, **terms: Any) -> None:
        await self.client.publish(topic, payload, qos=qos, **terms)

    async def answer(self, topic: str = ANSWERS) -> tuple[CommandAnswer, bytes]:
        """The next answer at a topic, with its correlation data."""
        async with asyncio.timeout(PATIENCE_S):
            async for message in self.client.messages:
                if message.topic.value == topic:
                    assert isinstance(message.payload, bytes)
                    correlation: bytes = getattr(message.properties, "CorrelationData", b"")
                    return msgspec.json.decode(message.payload, type=CommandAnswer), correlation
        raise AssertionError

    async def refused_in_all(self, count: int) -> None:
        """Wait until so many messages were refused."""
        async with asyncio.timeout(PATIENCE_S):
            while self.window.desk.refused.total() < count:  # noqa: ASYNC110 — counters have no event
                await asyncio.sleep(0.01)
        assert self.window.desk.refused.total() == count


def open_window(broker: Mosquitto, folder: Path) -> CommandWindow:
    one = Vault.model_validate({**vault(), "vault": VAULT, "state_dir": str(folder)})
    watched = [Watched(one, folder / "v.yaml", folder / "v.sock", folder / "v.sqlite")]
    section = MqttSection(host="127.0.0.1", port=broker.port, prefix="ek", client_id=folder.name)
    desk = CommandDesk(watched, ISSUERS, Hub(), {}, clock_ns=lambda: NOW_NS, timeout_s=PATIENCE_S)
    return CommandWindow(Broker(section, {}), desk, watched)


async def connected(window: CommandWindow) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not window.is_connected:  # noqa: ASYNC110 — nobody else waits for this
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(window: CommandWindow) -> AsyncIterator[None]:
    task = asyncio.create_task(window.run())
    try:
        await connected(window)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def ordering(broker: Mosquitto) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe(f"{ANSWERS}/#", qos=1)
        yield client


@asynccontextmanager
async def open_stand(broker: Mosquitto, folder: Path) -> AsyncIterator[Stand]:
    asked: list[dict[str, Any]] = []

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"state": "paused", "reason": question["reason"]}

    window = open_window(broker, folder)
    async with serve(folder / "v.sock", answer), running(window), ordering(broker) as client:
        yield Stand(window, client, asked)


async def test_a_signed_command_is_done_and_answered_where_its_sender_asked(mosquitto: Mosquitto, folder: Path) -> None:
    async with open_stand(mosquitto, folder) as stand:
        for issuer in ("alice", "bob"):
            asking = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # not typed there
            asking.ResponseTopic = f"{ANSWERS}/desk-7"
            asking.CorrelationData = b"number 7"
            await stand.send(payload_of(order(issuer)), properties=asking)
            private, correlation = await stand.answer(f"{ANSWERS}/desk-7")
            public, _ = await stand.answer()
            assert private == public
            assert correlation == b"number 7"
            assert (private.command_id, private.is_done, private.state) == (order(issuer).command_id, True, "paused")
        asking = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # not typed there
        asking.ResponseTopic = COMMANDS
        await stand.send(payload_of(order(reason="answer me elsewhere")), properties=asking)
        answer, _ = await stand.answer()
        assert answer.is_done
        await stand.send(b"the end of what was to be answered")
        await stand.refused_in_all(1)
        assert len(stand.asked) == 3


async def test_of_hundreds_of_forgeries_at_the_broker_none_is_done(mosquitto: Mosquitto, folder: Path) -> None:
    async with open_stand(mosquitto, folder) as stand:
        forged = list(islice(forgeries(23), 30 * len(FORGERS)))
        begun = order(reason="begun")
        await stand.send(payload_of(begun))
        assert (await stand.answer())[0].command_id == begun.command_id
        for batch in range(0, len(forged), 50):
            await asyncio.gather(*(send_forgery(stand, one) for one in forged[batch : batch + 50]))
        await stand.refused_in_all(len(forged))
        assert [question["command_id"] for question in stand.asked] == [begun.command_id]
        again = order(reason="still at work")
        await stand.send(payload_of(again))
        while (answer := (await stand.answer())[0]).command_id != again.command_id:
            assert not answer.is_done
            assert answer.issuer in ISSUERS
        assert answer.is_done


async def send_forgery(stand: Stand, forgery: Forgery) -> None:
    await stand.send(forgery.payload)


async def test_copies_and_what_the_broker_kept_are_refused(mosquitto: Mosquitto, folder: Path) -> None:
    async with open_stand(mosquitto, folder) as stand:
        body = order()
        for qos in (2, 1, 0):
            await stand.send(payload_of(body), qos=qos)
        assert (await stand.answer())[0].is_done
        await stand.refused_in_all(2)
        await stand.send(payload_of(order(reason="kept")), retain=True)
        await stand.refused_in_all(3)
        assert stand.refused == {"repeated": 2, "retained": 1}
        assert len(stand.asked) == 1
    try:
        async with open_stand(mosquitto, folder) as later:
            await later.send(payload_of(body))
            await later.refused_in_all(1)
            assert later.refused == {"repeated": 1}, "and what the broker keeps is not even handed over"
            assert not later.asked
    finally:
        async with ordering(mosquitto) as client:
            await client.publish(COMMANDS, b"", retain=True)


async def test_what_came_while_we_were_away_is_judged_when_we_are_back(mosquitto: Mosquitto, folder: Path) -> None:
    async with open_stand(mosquitto, folder):
        pass
    async with ordering(mosquitto) as client:
        good = order(reason="good still")
        for body in (order("bob", issued_ns=1, expires_ns=2), good, good):
            await client.publish(COMMANDS, payload_of(body), qos=1)
    async with open_stand(mosquitto, folder) as back:
        await back.refused_in_all(2)
        assert (back.refused, [one["reason"] for one in back.asked]) == ({"expired": 1, "repeated": 1}, ["good still"])


async def test_a_halt_behind_all_that_somebody_sent_while_we_were_away_is_not_lost(
    mosquitto: Mosquitto, folder: Path
) -> None:
    async with open_stand(mosquitto, folder):
        pass
    payload, count = payload_of(order("alice"), BOB), 1_500
    halt = order(action=OperatorAction.HALT, reason="behind them all")
    async with ordering(mosquitto) as client:
        for first in range(0, count, 50):
            await asyncio.gather(*(client.publish(COMMANDS, payload, qos=1) for _ in range(first, first + 50)))
        await client.publish(COMMANDS, payload_of(halt), qos=1)
    async with open_stand(mosquitto, folder) as back:
        await back.refused_in_all(count)
        async with asyncio.timeout(PATIENCE_S):
            while not back.asked:  # noqa: ASYNC110 — as above
                await asyncio.sleep(0.01)
        assert (back.refused, [one["reason"] for one in back.asked]) == ({"bad_signature": count}, ["behind them all"])


async def test_a_flood_is_counted_to_the_last_message_and_outlived(mosquitto: Mosquitto, folder: Path) -> None:
    async with open_stand(mosquitto, folder) as stand:
        payload, count = payload_of(order("alice"), BOB), 2_000
        for number in range(count):
            await stand.send(payload, qos=0)
            if number % 500 == 0:
                await stand.send(payload_of(order(reason=f"in the flood {number}")), qos=0)
        async with asyncio.timeout(PATIENCE_S):
            while stand.window.desk.refused.total() + len(stand.asked) < count + 4:  # noqa: ASYNC110 — as above
                await asyncio.sleep(0.01)
        assert stand.refused == {"bad_signature": count}
        body = order(reason="after the flood")
        await stand.send(payload_of(body))
        while (await stand.answer())[0].command_id != body.command_id:
            pass


async def test_a_broker_that_goes_and_comes_back_changes_nothing(folder: Path) -> None:
    with open_broker() as broker:
        asked: list[dict[str, Any]] = []
        is_away = asyncio.Event()

        async def answer(question: dict[str, Any]) -> dict[str, Any]:
            asked.append(question)
            if question["reason"] == "done while it is away":
                broker.kill()
                is_away.set()
            return {"state": "paused"}

        window = open_window(broker, folder)
        async with serve(folder / "v.sock", answer), running(window):
            async with ordering(broker) as client:
                await client.publish(COMMANDS, payload_of(order(reason="before")), qos=1)
                stand = Stand(window, client, asked)
                assert (await stand.answer())[0].is_done
                # the broker dies before it has acknowledged anything of this one
                await client.publish(COMMANDS, payload_of(order(reason="done while it is away")), qos=0)
                async with asyncio.timeout(PATIENCE_S):
                    await is_away.wait()
                    while window.is_connected:  # noqa: ASYNC110 — nobody else waits for this
                        await asyncio.sleep(0.005)
                with pytest.raises(aiomqtt.MqttError):
                    async with asyncio.timeout(PATIENCE_S):
                        await anext(aiter(client.messages))
            listening = asyncio.Event()
            heard = asyncio.create_task(first_answer(broker, listening))
            await asyncio.to_thread(broker.start)
            await connected(window)
            async with asyncio.timeout(PATIENCE_S):
                await listening.wait()
            async with ordering(broker) as client:
                await client.publish(COMMANDS, payload_of(order(reason="after")), qos=1)
                while (await Stand(window, client, asked).answer())[0].command_id != order(reason="after").command_id:
                    pass
            assert await heard
        assert [one["reason"] for one in asked] == ["before", "done while it is away", "after"]
        assert not window.desk.refused


async def first_answer(broker: Mosquitto, listening: asyncio.Event) -> CommandAnswer:
    """The first answer that is heard of a broker that is about to start."""
    while True:
        try:
            async with ordering(broker) as client:
                listening.set()
                async with asyncio.timeout(PATIENCE_S):
                    message = await anext(aiter(client.messages))
                assert isinstance(message.payload, bytes)
                return msgspec.json.decode(message.payload, type=CommandAnswer)
        except aiomqtt.MqttError:
            await asyncio.sleep(0.02)


async def test_a_desk_file_opens_it(mosquitto: Mosquitto) -> None:
    desk = Desk.model_validate(
        {"mqtt": {"port": mosquitto.port}, "issuers": {"bob": {"secret_env": "B", "may": ["all"]}}}
    )
    assert desk.mqtt is not None
    hub = Hub()
    window = open_commands(desk, desk.mqtt, [], hub, {"B": BOB.text()})
    assert window.name == "commands"
    # every counter is there from 0: Prometheus sees no increase in one that begins with its first refusal
    assert hub.refused_commands == Counter()
    assert {*hub.refused_commands} == {str(why) for why in Why}
