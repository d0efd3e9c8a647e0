"""Commands over a real broker to a live vault: the daemon frozen, venues on loopback, and one key, which is alice's."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator

import pytest

from bot.domain.windows import CommandAnswer
from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.desk import MqttSection
from bot.runtime.dashboard.actions import BrokerActions, Signer
from bot.runtime.windows.command_sender import NoAnswerError, send
from bot.telemetry.commands.signing import compose
from bot.telemetry.commands.verifying import Issuer
from bot.telemetry.dashboard.mirror import Mirror
from bot.telemetry.dashboard.ports import Order
from bot.telemetry.mqtt.subscriber import Subscriber
from tests.acceptance.rehearsal import HEDGE
from tests.acceptance.stand import MAKER, Stand, open_stand, showing, until
from tests.broker import Mosquitto
from tests.broker import mosquitto as open_broker
from tests.runtime.command_line import PATIENCE_S, CommandLine, Process, open_command_line
from tests.telemetry.commands.forging import ALICE
from tests.venues.deribit import DeribitServer

DESK = """\
mqtt: {{host: 127.0.0.1, port: {port}}}
issuers:
  alice: {{public_key: {key}, may: [all]}}
"""


@pytest.fixture(scope="module")
def evenkeel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    with open_command_line(tmp_path_factory.mktemp("processes")) as command_line:
        yield command_line


@pytest.fixture
def stand(evenkeel: CommandLine) -> Iterator[Stand]:
    with open_stand(evenkeel) as one:
        yield one


@pytest.fixture
def mosquitto() -> Iterator[Mosquitto]:
    with open_broker() as broker:
        yield broker


class Operator:
    """Alice, somewhere else than the daemon."""

    def __init__(self, mosquitto: Mosquitto) -> None:
        self._broker = Broker(MqttSection(host="127.0.0.1", port=mosquitto.port), {})

    async def order(self, action: str, reason: str, wait_s: float = PATIENCE_S) -> CommandAnswer:
        body = compose(action, vault="mm", issuer="alice", reason=reason, now_ns=time.time_ns())
        return await send(self._broker, body, ALICE, wait_s)

    async def is_heard(self) -> bool:
        """Wait until the windows take commands: one that cannot be carried out is answered."""
        for _ in range(30):
            try:
                return (await self.order("reload", "are you there?", 0.5)).command_id != ""
            except NoAnswerError:
                continue
        return False


async def resting(stand: Stand) -> Process:
    """Start a daemon and return once an order of it rests."""
    daemon = await stand.start_daemon()
    assert await until(lambda: stand.market.book.open_orders() or daemon.is_over)
    assert not daemon.is_over, daemon.err[-2_000:]
    return daemon


async def test_a_halt_over_mqtt_needs_no_daemon_and_only_a_resume_with_a_reason_ends_it(
    stand: Stand, mosquitto: Mosquitto
) -> None:
    book, alice = stand.market.book, Operator(mosquitto)
    (stand.folder / "desk.yaml").write_text(DESK.format(port=mosquitto.port, key=ALICE.verifier().text()))
    async with DeribitServer(book) as server, showing(stand.market.show):
        stand.write_vault(server, hedges=(f"{HEDGE}, {MAKER}",))
        daemon = await resting(stand)
        windows = await stand.start("-v", "--log-json", "windows", "desk.yaml", "mm.yaml")
        assert await alice.is_heard(), windows.err[-2_000:]
        daemon.send(signal.SIGSTOP)
        too_early = asyncio.create_task(alice.order("resume", "before the halt"))
        assert await until(lambda: "before the halt" in windows.err or '"action": "resume"' in windows.err)
        halting = asyncio.create_task(alice.order("halt", "wrong book"))
        assert await until(lambda: not book.open_orders()), "expected the book empty"
        assert not halting.done(), "it is emptied before the daemon is given up"
        halted = await halting
        assert (halted.is_done, halted.state) == (True, "halted"), halted
        assert "mm: halted by its marker; the daemon did not answer within 5 s, and sends nothing when it wakes" in (
            halted.text
        )
        assert "deribit: 1 order canceled, none left" in halted.text
        sent = len(book.orders)
        daemon.send(signal.SIGCONT)
        assert await until(lambda: '"halt' in daemon.err or daemon.is_over)
        assert (await stand.status())["state"] == "halted"
        assert not (await too_early).is_done
        assert (stand.folder / "s" / "mm.halted").exists(), "a resume ordered before a halt does not end it"
        daemon.send(signal.SIGINT)
        assert (await asyncio.to_thread(daemon.wait)).code == 0
        assert not windows.is_over, "they outlive the daemon they were not started by"

        daemon = await stand.start_daemon()
        assert await until(lambda: daemon.is_over or '"run.recovered"' in daemon.err)
        still = await alice.order("hedge_now", "does it stay halted?")
        assert not still.is_done, still
        assert (await stand.status())["state"] == "halted"
        assert len(book.orders) == sent, "a halted vault sends nothing, restarted or not"
        resumed = await alice.order("resume", "the book is right again")
        assert resumed.is_done, resumed
        assert await until(lambda: book.open_orders() or daemon.is_over)
        assert len(book.orders) > sent
        exported = await stand.run("journal", "export", "s/mm.sqlite")
        assert "before the halt" not in exported.out
        for word in ("wrong book", "the book is right again", resumed.command_id):
            assert word in exported.out
        for process in (daemon, windows):
            process.send(signal.SIGTERM)
            assert (await asyncio.to_thread(process.wait)).code == 0, process.err[-2_000:]
    assert not book.open_orders()
    assert ALICE.text().partition(":")[2] not in daemon.err + windows.err + exported.out


async def test_a_halt_from_the_dashboard_needs_no_daemon_either(stand: Stand, mosquitto: Mosquitto) -> None:
    book, alice = stand.market.book, Operator(mosquitto)
    (stand.folder / "desk.yaml").write_text(DESK.format(port=mosquitto.port, key=ALICE.verifier().text()))
    mirror = Mirror(["mm"], time.time_ns, 3.0)
    reader = Subscriber("dashboard-1", "evenkeel", mosquitto.broker().client, mirror, ["mm"])
    signer = Signer(ALICE, Issuer("alice", ALICE.verifier(), frozenset({"all"}), frozenset({"all"})))
    actions = BrokerActions(reader.order, signer, time.time_ns)
    reading = asyncio.create_task(reader.run())
    async with DeribitServer(book) as server, showing(stand.market.show):
        stand.write_vault(server, hedges=(f"{HEDGE}, {MAKER}",))
        daemon = await resting(stand)
        windows = await stand.start("windows", "desk.yaml", "mm.yaml")
        assert await alice.is_heard(), windows.err[-2_000:]
        (picture,) = mirror.vaults()
        assert await until(lambda: picture.state is not None)
        daemon.send(signal.SIGSTOP)
        ordered = asyncio.create_task(actions.order(Order("mm", "halt", "seen on a page", "bob")))
        assert await until(lambda: not book.open_orders()), "expected the book empty"
        assert not ordered.done(), "it is emptied before the daemon is given up"
        answer = await ordered
        assert (answer.is_done, answer.state) == (True, "halted"), answer
        assert await until(lambda: mirror.is_stale(picture)), "a frozen daemon looks frozen"
        daemon.send(signal.SIGCONT)
        assert await until(lambda: '"halt' in daemon.err or daemon.is_over)
        status = await stand.status()
        assert (status["state"], status["state_reason"]) == ("halted", "alice: bob: seen on a page")
        for process in (daemon, windows):
            process.send(signal.SIGTERM)
            assert (await asyncio.to_thread(process.wait)).code == 0, process.err[-2_000:]
    reading.cancel()
    await asyncio.wait({reading})
    assert not book.open_orders()
