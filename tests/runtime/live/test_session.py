"""The live feed: routing, time, farewells; and paper runs on it, which come back exactly as they were."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.domain.errors import JournalError, Retryable
from bot.domain.events import CancelOrder, Command, Event, OperatorAction, OperatorCommand, QueryAccount, SubmitOrder
from bot.domain.instruments import Instrument
from bot.domain.market import IndexPrice
from bot.domain.orders import OrderAccepted, OrderCanceled, OrderIntent, OrderSent, TimeInForce
from bot.domain.risk import MarginTerms, ReportedMargin, SupposedMargin, SupposedPosition
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import AccountReport, VenuePosition
from bot.gateways.gateway import Put
from bot.runtime.configuration.config import load_vaults
from bot.runtime.daemon import Daemon
from bot.runtime.journal import Batch, Journal
from bot.runtime.live import session as live_session
from bot.runtime.live.session import LiveFeed, LiveSession, PaperExecution, open_live
from bot.runtime.mailbox import Mailbox
from bot.runtime.operators.halt_marker import HaltMarker
from bot.runtime.recovery import rebuild
from bot.simulation.depth import DepthProfile
from bot.simulation.venue import Faults, Fees, Latency, OptionFees, SimulatedVenue
from tests.runtime.audit import read_rows
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.simulated_gateway import LIVE_VAULT, SimulatedExchange, SimulatedGateway, cancels
from tests.runtime.test_live_run import KEYS, in_state, running, until, view

PAPER_VAULT = LIVE_VAULT.replace("mode: live", "mode: paper\nclock: venue").replace(
    "{quote_s: 5, index_s: 5, vol_s: 30}", "{quote_s: 600, index_s: 600, vol_s: 600}"
)


class PaperVenue:
    """The execution of a paper run as its protocol asks, around one simulated venue."""

    def __init__(
        self,
        instruments: Sequence[Instrument],
        *,
        fees: Mapping[str, Fees],
        latency: Latency,
        depth: Mapping[str, DepthProfile],
        seed: int,
        faults: Faults,
        cash: Mapping[str, Mapping[str, float]],
        chains: Mapping[str, str],
        option_fees: Mapping[tuple[str, str], OptionFees],
        transfers: Any = None,
        planner: Any = None,
    ) -> None:
        assert option_fees == {}
        assert not transfers
        assert planner is None or not transfers
        assert cash == {"deribit": {"ETH": 0.0, "USD": 500_000.0}}
        assert chains == {}
        self.venue = SimulatedVenue(instruments, fees=fees, latency=latency, depth=depth, seed=seed, faults=faults)
        self.received: list[str] = []
        self._sent: list[Event] = []

    def absorb(self, now_ns: int, events: Sequence[Event]) -> tuple[Event, ...]:
        for event in events:
            self.venue.on_market(event)  # type: ignore[arg-type]  # it ignores what is none of a market
        answers = self.venue.advance(now_ns)
        sent, self._sent = self._sent, []
        return (*sent, *answers, *events)

    def submit(self, command: Command, now_ns: int) -> None:
        self.venue.submit(command, now_ns)
        if isinstance(command, SubmitOrder):
            self.received.append(command.intent.order_id)
            self._sent.append(OrderSent(command.intent.order_id, now_ns))

    def next_event_ns(self) -> int | None:
        return self.venue.next_event_ns()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ek-") as name:
        path = Path(os.path.realpath(name))
        (path / "busy.yaml").write_text(LIVE_VAULT)
        yield path


# Paper ----------------------------------------------------------------------------------------------------------------


async def run_paper(
    folder: Path, exchange: SimulatedExchange, orders: int, marker: HaltMarker | None = None, linger_s: float = 0.0
) -> PaperVenue:
    """Run until so many orders were sent to the simulated venue, then end without a goodbye; return the venue."""
    opened: list[PaperVenue] = []

    def opener(*args: Any, **kwargs: Any) -> PaperVenue:
        opened.append(PaperVenue(*args, **kwargs))
        return opened[-1]

    changes = {"marker": marker} if marker is not None else {}
    async with running(folder, exchange, environ={}, execution_opener=opener, **changes) as task:
        await until(lambda: opened and len(opened[0].received) >= orders, task)
        await asyncio.sleep(linger_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return opened[0]


def reopened(folder: Path) -> tuple[LiveSession, PaperVenue]:
    """Rebuild the session of a paper run from its journal, the simulated venue included."""
    from bot.runtime.live.session import look_at

    (vault,) = load_vaults([folder / "busy.yaml"], allow_live=True)
    with Journal.open(folder / "busy.sqlite", for_writing=False) as journal:
        session = look_at(vault, journal.header)
        hedge = [one for one in session.instruments if one.instrument_id == "ETH-PERPETUAL"]
        execution = PaperVenue(
            hedge,
            fees={"ETH-PERPETUAL": Fees(0.0, 5.0)},
            latency=Latency(0, vault.latency.entry_ns, vault.latency.response_ns),
            depth={},
            seed=1,
            faults=Faults(),
            cash={"deribit": {"ETH": 0.0, "USD": 500_000.0}},
            chains={},
            option_fees={},
        )
        session = session._replace(execution=execution)
        rebuild(session, journal)
    return session, execution


async def test_a_paper_run_goes_on_after_a_kill_with_its_venue_as_it_was(folder: Path, short_recording: Path) -> None:
    (folder / "busy.yaml").write_text(PAPER_VAULT)
    exchange = SimulatedExchange(short_recording, is_player=True)
    first = await run_paper(folder, exchange, orders=4)
    again, rebuilt = reopened(folder)
    assert rebuilt.received == first.received[: len(rebuilt.received)]
    assert len(first.received) - len(rebuilt.received) <= 1, "only the last one may be in doubt"
    second = await run_paper(folder, exchange, orders=len(rebuilt.received) + 3)
    assert second.received[: len(rebuilt.received)] == rebuilt.received
    session, last = reopened(folder)
    rows = read_rows(folder / "busy.sqlite")
    assert len(set(rows.submitted)) == len(rows.submitted)
    assert not exchange.submitted, "a paper run sends nothing"
    assert session.run_id == again.run_id
    if not session.engine.orders.live:
        assert session.engine.desks["ETH"].hedge.lots == last.venue.positions.get("ETH-PERPETUAL", 0)


async def test_an_order_a_marker_held_back_never_reaches_the_rebuilt_venue(folder: Path, short_recording: Path) -> None:
    from tests.runtime.test_live_run import LateMarker

    (folder / "busy.yaml").write_text(PAPER_VAULT)
    exchange = SimulatedExchange(short_recording, is_player=True)
    marker = LateMarker(folder / "busy.halted")
    task = asyncio.create_task(run_paper(folder, exchange, orders=99, marker=marker))
    await until(lambda: marker.refused, task)
    await in_state(folder, "halted", task)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    submitted = read_rows(folder / "busy.sqlite").submitted
    session, rebuilt = reopened(folder)
    assert rebuilt.received == submitted[:-1]
    assert str(session.engine.state) == "halted"


async def test_a_paper_run_comes_back_after_listings_changed_while_an_order_was_under_way(
    folder: Path, short_recording: Path
) -> None:
    slow = "clock: wall\nlatency: {entry_ms: 200}"
    (folder / "busy.yaml").write_text(PAPER_VAULT.replace("clock: venue", slow))
    exchange = SimulatedExchange(short_recording)
    await run_paper(folder, exchange, orders=1, linger_s=0.05)
    exchange.listed.pop(next(name for name in exchange.listed if name not in PAPER_VAULT))
    await asyncio.sleep(0.5)  # the answer falls due while nobody listens
    second = await run_paper(folder, exchange, orders=2, linger_s=0.05)
    third = await run_paper(folder, exchange, orders=len(second.received))
    assert third.received[:1] == second.received[:1]


async def test_a_simulated_venue_that_answers_otherwise_stops_the_start(folder: Path, short_recording: Path) -> None:
    (folder / "busy.yaml").write_text(PAPER_VAULT)
    exchange = SimulatedExchange(short_recording, is_player=True)
    await run_paper(folder, exchange, orders=3)
    with Journal.open(folder / "busy.sqlite", for_writing=True) as journal:
        last = read_rows(folder / "busy.sqlite").batches[-1]
        invented = OrderAccepted("nobody-1", "v", last.now_ns, last.now_ns)
        journal.append(Batch(last.now_ns, (invented,)))
    with pytest.raises(JournalError, match=r"expected the simulated venue to answer at \d+ as it did then"):
        await run_paper(folder, exchange, orders=99)


async def test_paper_on_our_own_clock_is_woken_when_its_venue_answers(
    folder: Path, short_recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the execution that paper runs have, and a market that falls silent as soon as an order is under way."""
    monkeypatch.setattr(live_session, "HEARTBEAT_S", 3600.0)  # nothing else would ever wake it
    (folder / "busy.yaml").write_text(PAPER_VAULT.replace("clock: venue", "clock: wall\nlatency: {entry_ms: 40}"))
    exchange = SimulatedExchange(short_recording)

    class Silencing(PaperExecution):
        def submit(self, command: Command, now_ns: int) -> None:
            exchange.is_silent = exchange.is_silent or isinstance(command, SubmitOrder)
            super().submit(command, now_ns)

    counts = []
    for _ in range(2):
        async with running(folder, exchange, environ={}, execution_opener=Silencing) as task:
            await until((folder / "busy.sock").exists, task)
            hedges = (await view(folder))["hedges"]
            for more in (1, 2):
                exchange.is_silent = False
                while (shown := await view(folder))["hedges"] < hedges + more or shown["orders"]:
                    assert not task.done()
                    await asyncio.sleep(0.005)
                assert exchange.is_silent
            exchange.is_silent = False
        counts.append(task.result().hedges)
        assert task.result().latency_us["sent_to_ack"].count >= 2
    assert counts[1] > counts[0] > 1
    assert not exchange.submitted


# The feed by itself ---------------------------------------------------------------------------------------------------


@pytest.fixture
def exchange(short_recording: Path) -> SimulatedExchange:
    one = SimulatedExchange(short_recording)
    one.is_silent = True
    return one


async def opened(
    folder: Path, exchange: SimulatedExchange, stack: Any
) -> tuple[LiveSession, LiveFeed, Mailbox, Journal]:
    (vault,) = load_vaults([folder / "busy.yaml"], allow_live=True)
    journal = stack.enter_context(Journal.open(folder / "own.sqlite", for_writing=True))
    opening = open_live(vault, folder / "busy.yaml", journal, KEYS, gateway_opener=exchange.open)
    session = await stack.enter_async_context(opening)
    mailbox = Mailbox()
    return session, session.open_feed(mailbox, 1.0), mailbox, journal


def intent(order_id: str, *, time_in_force: TimeInForce = TimeInForce.POST_ONLY) -> OrderIntent:
    return OrderIntent(order_id, "ETH-PERPETUAL", 1, 30_000, time_in_force, False, "", 1500.0, 1)


async def test_commands_wait_until_the_gateways_listen(folder: Path, exchange: SimulatedExchange) -> None:
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        _, feed, _, _ = await opened(folder, exchange, stack)
        feed.submit(SubmitOrder(intent("r-1")), 1)
        feed.submit(QueryAccount("deribit", "because"), 1)
        assert not exchange.submitted
        run = asyncio.create_task(feed.run())
        await until(lambda: len(exchange.submitted) >= 2, run)
        assert [type(one) for one in exchange.submitted] == [SubmitOrder, QueryAccount]
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def test_a_venue_that_tells_its_margin_parameters_is_believed(folder: Path, exchange: SimulatedExchange) -> None:
    from contextlib import AsyncExitStack

    class Telling(SimulatedGateway):
        async def margin_terms(self) -> dict[str, Any]:
            return {"general": {"mm_factor": 0.75, "buckets_count": 4}}

    def open_telling(settings: Any, _credentials: Any, clock: Any, **_: Any) -> SimulatedGateway:
        return Telling(exchange, settings.venue, clock)

    path = folder / "busy.yaml"
    path.write_text(path.read_text() + "risk: {accounts: {deribit: {model: deribit_portfolio}}}\n")
    async with AsyncExitStack() as stack:
        (vault,) = load_vaults([path], allow_live=True)
        journal = stack.enter_context(Journal.open(folder / "own.sqlite", for_writing=True))
        opening = open_live(vault, path, journal, KEYS, gateway_opener=open_telling)
        session = await stack.enter_async_context(opening)
        mailbox = Mailbox()
        run = asyncio.create_task(session.open_feed(mailbox, 1.0).run())
        told: list[MarginTerms] = []
        async with asyncio.timeout(PATIENCE_S):
            while not told:
                _, events = await mailbox.take()
                mailbox.done()
                told = [event for event in events if isinstance(event, MarginTerms)]
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        session.engine.apply(told[0])
    assert session.engine.margin is not None
    account = session.engine.margin.accounts["deribit"]
    assert (account.fault, account.parameters.values["general"]["mm_factor"]) == ("", 0.75)
    assert account.parameters.source.startswith("told by deribit on ")


async def test_a_venue_is_asked_what_it_would_ask_for_and_silence_has_its_reason(
    folder: Path, exchange: SimulatedExchange
) -> None:
    from contextlib import AsyncExitStack

    asked: list[SupposedPosition] = []
    answers: list[SupposedMargin | Exception | None] = [
        SupposedMargin((ReportedMargin("", 9.0, 2.0, 1.0),)),
        Retryable("it is asleep"),
        None,
    ]

    class Supposing(SimulatedGateway):
        async def suppose(self, change: SupposedPosition) -> SupposedMargin | None:
            asked.append(change)
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    def open_supposing(settings: Any, _credentials: Any, clock: Any, **_: Any) -> SimulatedGateway:
        return Supposing(exchange, settings.venue, clock)

    change = SupposedPosition("ETH-PERPETUAL", -3.0, 1_900.0)
    async with AsyncExitStack() as stack:
        (vault,) = load_vaults([folder / "busy.yaml"], allow_live=True)
        journal = stack.enter_context(Journal.open(folder / "own.sqlite", for_writing=True))
        opening = open_live(vault, folder / "busy.yaml", journal, KEYS, gateway_opener=open_supposing)
        feed = (await stack.enter_async_context(opening)).open_feed(Mailbox(), 1.0)
        found = await feed.suppose(change)
        assert isinstance(found, SupposedMargin)
        assert found.margins[0].initial_quote == 2.0
        assert await feed.suppose(change) == "deribit did not answer: it is asleep"
        assert await feed.suppose(change) == "deribit has no such question, or no keys are loaded"
        assert await feed.suppose(SupposedPosition("NOTHING", 1.0, 1.0)) == "NOTHING cannot be asked"
    assert asked == [change] * 3


async def test_a_silent_market_is_decided_upon_at_every_heartbeat(
    folder: Path, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_session, "HEARTBEAT_S", 0.1)
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        _, feed, mailbox, _ = await opened(folder, exchange, stack)
        run = asyncio.create_task(feed.run())
        beats = []
        async with asyncio.timeout(PATIENCE_S):
            while len(beats) < 3:
                now_ns, events = await mailbox.take()
                mailbox.done()
                if not events:
                    beats.append(now_ns)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    assert beats[2] - beats[0] > 0.1 * NS_PER_S


async def test_an_account_s_positions_are_watched(folder: Path, exchange: SimulatedExchange) -> None:
    from contextlib import AsyncExitStack

    path = folder / "busy.yaml"
    path.write_text(path.read_text().replace("cash:", "  - {account: deribit}\ncash:"))
    async with AsyncExitStack() as stack:
        _, feed, _, _ = await opened(folder, exchange, stack)
        held = (VenuePosition("ETH-28APR23-1800-P", 3, 0.0), VenuePosition("ETH-28APR23-1700-P", 0, 0.0))
        feed.put([AccountReport("deribit", held, (), {}, 1, 2)])
    assert exchange.watched == {"ETH-PERPETUAL", "ETH-28APR23-1900-C", "ETH-28APR23-1900-P", "ETH-28APR23-1800-P"}


async def test_what_rests_is_canceled_at_the_end_and_waited_for(folder: Path, exchange: SimulatedExchange) -> None:
    from contextlib import AsyncExitStack

    exchange.is_mute = True
    async with AsyncExitStack() as stack:
        session, _, _, journal = await opened(folder, exchange, stack)
        for order_id, time_in_force in (("r-1", TimeInForce.POST_ONLY), ("r-2", TimeInForce.IOC)):
            session.engine.orders.intend(intent(order_id, time_in_force=time_in_force))
        daemon = Daemon(session, journal, socket_path=folder / "own.sock", speed=1.0, progress=lambda _: None)
        stop = asyncio.Event()
        run = asyncio.create_task(daemon.run(stop))
        await asyncio.sleep(0.1)
        stop.set()
        answer = asyncio.create_task(answer_cancels(daemon, exchange))
        await run
        await answer
    assert cancels(exchange) == ["r-1"], "what cannot rest needs no cancel"


async def test_what_rests_is_canceled_though_the_feed_itself_broke(folder: Path, exchange: SimulatedExchange) -> None:
    from contextlib import AsyncExitStack

    class Breaking(SimulatedGateway):
        async def events(self, put: Put) -> None:
            del put
            await asyncio.sleep(0.05)
            raise ValueError("nobody expected this")

    async with AsyncExitStack() as stack:
        session, _, _, journal = await opened(folder, exchange, stack)
        session = session._replace(gateways={"deribit": Breaking(exchange, "deribit", session.clock)})
        session.engine.orders.intend(intent("r-1"))
        daemon = Daemon(session, journal, socket_path=folder / "own.sock", speed=1.0, progress=lambda _: None)
        run = asyncio.create_task(daemon.run(asyncio.Event()))
        answer = asyncio.create_task(answer_cancels(daemon, exchange))
        with pytest.raises(ExceptionGroup):
            await run
        await answer
    assert cancels(exchange) == ["r-1"]


async def answer_cancels(daemon: Daemon, exchange: SimulatedExchange) -> None:
    """Say of the canceled order that it is gone, as a venue would; the simulated one never had it."""
    async with asyncio.timeout(PATIENCE_S):
        while not cancels(exchange):  # noqa: ASYNC110 — nobody tells
            await asyncio.sleep(0.001)
    feed = daemon._feed
    assert isinstance(feed, LiveFeed)
    feed.put([OrderCanceled("r-1", False, 1, 1)])


async def test_orders_that_may_still_rest_are_named(folder: Path, exchange: SimulatedExchange) -> None:
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        _, feed, _, _ = await opened(folder, exchange, stack)
        exchange.is_mute = True
        left = await feed.withdraw([CancelOrder("r-9", "ETH-PERPETUAL", "")], 0.02)
    assert left == ["r-9"]


async def test_time_never_goes_back_behind_the_journal(folder: Path, exchange: SimulatedExchange) -> None:
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        _, feed, _, _ = await opened(folder, exchange, stack)
        last_ns = feed.now_ns() + 900 * NS_PER_MS  # a second is too much
        feed.resume(last_ns)
        assert feed.now_ns() == last_ns == feed.catch_up()
        assert feed.decision_ns(last_ns + 5) >= last_ns + 5
        with pytest.raises(JournalError, match="hint: set this machine's clock"):
            feed.resume(last_ns + 3600 * NS_PER_S)


async def test_events_reach_the_mailbox_in_order(folder: Path, exchange: SimulatedExchange) -> None:
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        _, feed, mailbox, _ = await opened(folder, exchange, stack)
        halt = OperatorCommand(OperatorAction.HALT, "a", "b", 1)
        feed.put([IndexPrice("ETH", 1.0, 1, 1, 1), halt])
        _, events = await mailbox.take()
        assert [type(event) for event in events] == [IndexPrice, OperatorCommand]
        assert feed.absorb(5, events) == events
