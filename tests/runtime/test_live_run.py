"""A vault on a live feed, run as a whole: hedging, halted, restarted, frozen out of its journal."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from bot.domain.errors import ConfigError, JournalError, Retryable, VenueFatal
from bot.domain.events import OperatorAction, OperatorCommand, Restarted
from bot.domain.orders import Fill, OrderRejected
from bot.domain.risk import CollateralPlanned
from bot.domain.units import NS_PER_DAY, NS_PER_S
from bot.domain.venues import AccountReport, BookReport, InstrumentDelisted, InstrumentListed
from bot.gateways.exchange import Credentials, VenueSettings
from bot.gateways.gateway import Clock
from bot.risk.collateral.plan import decode_plan
from bot.runtime.collateral_planner import CollateralPlanner
from bot.runtime.configuration.config import load_vaults
from bot.runtime.journal import Journal, verify
from bot.runtime.live import session as live_session
from bot.runtime.live.clock import WallClock
from bot.runtime.live.session import look_at
from bot.runtime.live_run import LiveRun, record_vault, spare_collector
from bot.runtime.operators.control import ask
from bot.runtime.operators.halt_marker import Halt, HaltMarker
from bot.runtime.recovery import rebuild
from tests.runtime.audit import read_rows
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.simulated_gateway import LIVE_VAULT, SimulatedExchange, SimulatedGateway, orders

KEYS = {"EVENKEEL_DERIBIT_API_KEY": "test-key", "EVENKEEL_DERIBIT_SECRET": "test-secret-4711"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ek-") as name:
        path = Path(os.path.realpath(name))
        (path / "busy.yaml").write_text(LIVE_VAULT)
        yield path


@pytest.fixture
def exchange(short_recording: Path) -> SimulatedExchange:
    return SimulatedExchange(short_recording)


@asynccontextmanager
async def running(folder: Path, exchange: SimulatedExchange, **changes: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """A live run, stopped in order at the end of the block unless it has ended."""
    stop = asyncio.Event()
    with Journal.open(folder / "busy.sqlite", for_writing=True) as journal:
        task = asyncio.create_task(live_run(folder, exchange, journal, **changes).run(stop))
        try:
            yield task
            stop.set()
            if not task.done():
                await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def live_run(folder: Path, exchange: SimulatedExchange, journal: Journal, **changes: Any) -> LiveRun:
    (vault,) = load_vaults([folder / "busy.yaml"], allow_live=True)
    settings: dict[str, Any] = {
        "socket_path": folder / "busy.sock",
        "marker": HaltMarker(folder / "busy.halted"),
        "environ": KEYS,
        "gateway_opener": exchange.open,
        **changes,
    }
    return LiveRun(vault, folder / "busy.yaml", journal, **settings)


async def until(find: Callable[[], Any], task: asyncio.Task[Any]) -> Any:
    """Wait until `find` finds something; a run that ends before is an error."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := find()):
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
    return found


async def view(folder: Path) -> dict[str, Any]:
    return await asyncio.to_thread(ask, folder / "busy.sock", {"verb": "view"})


async def in_state(folder: Path, state: str, task: asyncio.Task[Any]) -> dict[str, Any]:
    """Wait until a run shows itself in a state; return all that it shows."""
    async with asyncio.timeout(PATIENCE_S):
        while (shown := await view(folder))["state"] != state:
            assert not task.done()
            await asyncio.sleep(0.005)
    return shown


async def operate(folder: Path, action: str) -> dict[str, Any]:
    question = {"verb": "operate", "action": action, "issuer": "test", "reason": "because"}
    return await asyncio.to_thread(ask, folder / "busy.sock", question)


async def test_it_hedges_and_its_journal_alone_tells_the_same(folder: Path, exchange: SimulatedExchange) -> None:
    async with running(folder, exchange) as task:
        await until(lambda: len(orders(exchange)) >= 5, task)
        shown = await view(folder)
        assert (shown["state"], shown["venues"][0]["health"]) == ("running", "up")
        assert exchange.watched == {"ETH-PERPETUAL", "ETH-28APR23-1900-C", "ETH-28APR23-1900-P"}
    summary = task.result()
    assert summary.hedges >= 4
    assert summary.state == "running"
    assert exchange.connections == 0
    rows = read_rows(folder / "busy.sqlite")
    assert rows.submitted == orders(exchange)
    times = [batch.now_ns for batch in rows.batches]
    assert times == sorted(times)
    assert any(isinstance(event, AccountReport) for event in rows.events), "the truth at the start is journalled"
    steps = summary.latency_us
    assert list(steps) == ["venue_to_receive", "receive_to_decide", "decide_to_sent", "sent_to_ack", "ack_to_fill"]
    assert steps["sent_to_ack"].count >= 4
    assert 1_000 < steps["sent_to_ack"].p50_us < 60_000_000

    (vault,) = load_vaults([folder / "busy.yaml"], allow_live=True)
    with Journal.open(folder / "busy.sqlite", for_writing=False) as journal:
        assert journal.header.recording is None
        assert journal.header.instruments == tuple(exchange.listed.values())
        session = look_at(vault, journal.header)
        rebuild(session, journal, is_world_wanted=False)
    assert session.score.commands_sha256 == summary.commands_sha256
    assert session.latencies.summary() == steps
    told_lots = session.engine.desks["ETH"].hedge.lots
    if not session.engine.orders.live:  # else the venue went on with an order after we had left
        assert told_lots == exchange.venue.positions["ETH-PERPETUAL"]
    assert told_lots == sum(event.qty_lots for event in rows.events if isinstance(event, Fill))


PLANNED = """\
risk:
  accounts: {deribit: {model: house}}
  transfers:
    day_caps: {USDC: 1e5}
    addresses: {there: {address: "0xaa", network: ARBONE}}
    routes:
      - {asset: USDC, from_venue: wallet, to_venue: deribit, route: ARB, address_label: there, max_amount: 50000}
  collateral: {plan_s: 10, wallets: {wallet: {USDC: 50000}}}
"""


async def test_collateral_is_planned_by_a_process_while_it_hedges(
    folder: Path, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = CollateralPlanner.__init__.__kwdefaults__
    assert terms is not None
    monkeypatch.setitem(terms, "start_s", PATIENCE_S)  # the process is nice, and has a turn when nobody else wants one
    (folder / "busy.yaml").write_text(LIVE_VAULT + PLANNED)
    async with running(folder, exchange) as task, asyncio.timeout(PATIENCE_S):
        await until(lambda: orders(exchange), task)
        # a solver that does not finish in its time is stood in for, until the next question
        while (shown := (await view(folder))["margin"]["collateral"])["method"] not in {"lp", "milp"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    summary = task.result()
    told = [one for one in read_rows(folder / "busy.sqlite").events if isinstance(one, CollateralPlanned)]
    (found,) = [one for one in told if one.plan_id == shown["plan_id"]]
    assert decode_plan(found.text).method == found.method == shown["method"]
    assert summary.collateral_plans["plans"] >= 1
    assert summary.hedges > 0
    (vault,) = load_vaults([folder / "busy.yaml"], allow_live=True)
    with Journal.open(folder / "busy.sqlite", for_writing=False) as journal:
        session = look_at(vault, journal.header)
        rebuild(session, journal, is_world_wanted=False)  # nobody solves again: the plan is in the journal
    assert session.score.commands_sha256 == summary.commands_sha256


async def test_what_is_there_once_connected_is_told_before_the_first_order(
    folder: Path, exchange: SimulatedExchange
) -> None:
    seen: list[tuple[int, int]] = []

    def note() -> None:
        seen.append((exchange.connections, len(orders(exchange))))

    async with running(folder, exchange, on_connected=note) as task:
        await until(lambda: orders(exchange), task)
    assert seen == [(1, 0)]


def test_the_collector_is_spared_what_is_there() -> None:
    before = gc.get_freeze_count()
    try:
        spare_collector()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


async def test_keys_are_nowhere_but_in_the_gateway(
    folder: Path, exchange: SimulatedExchange, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(folder, exchange) as task:
        await until(lambda: orders(exchange), task)
        assert "test-secret" not in str(await view(folder))
    assert exchange.credentials == Credentials(api_key="test-key", secret="test-secret-4711")
    assert "test-secret" not in repr(exchange.credentials)
    said = capfd.readouterr()
    assert "test-secret" not in said.out + said.err
    kept = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert b"test-secret" not in kept
    assert b"test-key" not in kept


async def test_a_restart_asks_for_the_truth_and_goes_on_under_the_same_run(
    folder: Path, exchange: SimulatedExchange
) -> None:
    async with running(folder, exchange) as task:
        await until(lambda: len(orders(exchange)) >= 3, task)
        task.cancel()  # no goodbye
        await asyncio.gather(task, return_exceptions=True)
    sent = len(orders(exchange))
    async with running(folder, exchange) as task:
        await until(lambda: len(orders(exchange)) >= sent + 3, task)
    rows = read_rows(folder / "busy.sqlite")
    assert len(set(rows.submitted)) == len(rows.submitted)
    assert {order_id.split("-")[0] for order_id in rows.submitted} == {rows.submitted[0].split("-")[0]}
    assert sum(isinstance(event, Restarted) for event in rows.events) == 1
    assert sum(isinstance(event, AccountReport) for event in rows.events) >= 2
    assert not [event for event in rows.events if isinstance(event, InstrumentListed | InstrumentDelisted)]


async def test_two_first_starts_never_share_a_run_id(folder: Path, short_recording: Path) -> None:
    runs = set()
    for _ in range(2):
        exchange = SimulatedExchange(short_recording)
        async with running(folder, exchange) as task:
            await until(lambda: orders(exchange), task)  # noqa: B023
        runs.add(orders(exchange)[0].split("-")[0])
        for path in folder.glob("busy.sqlite*"):
            path.unlink()
    assert len(runs) == 2


async def test_listings_that_changed_meanwhile_become_events(folder: Path, exchange: SimulatedExchange) -> None:
    async with running(folder, exchange) as task:
        await until(lambda: orders(exchange), task)
    listed = exchange.listed
    new = msgspec.structs.replace(listed["ETH-28APR23-1900-C"], instrument_id="ETH-28APR23-1910-C", strike_px=1910.0)
    gone = next(name for name in listed if "1900" not in name and name != "ETH-PERPETUAL")
    exchange.listed = {name: one for name, one in listed.items() if name != gone} | {new.instrument_id: new}
    for _ in range(2):
        async with running(folder, exchange) as task:
            await until((folder / "busy.sock").exists, task)
            await view(folder)
    events = read_rows(folder / "busy.sqlite").events
    assert [event.instrument for event in events if isinstance(event, InstrumentListed)] == [new], "said once"
    assert [event.instrument_id for event in events if isinstance(event, InstrumentDelisted)] == [gone]


async def test_a_contract_that_changed_stops_the_start(folder: Path, exchange: SimulatedExchange) -> None:
    async with running(folder, exchange) as task:
        await until(lambda: orders(exchange), task)
    sent = len(exchange.submitted)
    name = "ETH-PERPETUAL"
    exchange.listed[name] = msgspec.structs.replace(exchange.listed[name], contract_size=10.0)
    with pytest.raises(JournalError, match=r"ETH-PERPETUAL: expected .*contract_size 1.0, found contract_size 10.0"):
        async with running(folder, exchange) as task:
            await task
    assert len(exchange.submitted) == sent


async def test_so_does_one_that_was_gone_in_between(folder: Path, exchange: SimulatedExchange) -> None:
    name = "ETH-PERPETUAL"
    async with running(folder, exchange) as task:
        await until(lambda: orders(exchange), task)
    old = exchange.listed.pop(name)
    async with running(folder, exchange) as task:
        await until((folder / "busy.sock").exists, task)
        assert name in (await view(folder))["accounts"]["delisted"]
    exchange.listed[name] = msgspec.structs.replace(old, contract_size=10.0)
    with pytest.raises(JournalError, match=r"ETH-PERPETUAL: expected .*contract_size 1.0, found contract_size 10.0"):
        async with running(folder, exchange) as task:
            await task


async def test_another_fee_is_no_other_contract(folder: Path, exchange: SimulatedExchange) -> None:
    async with running(folder, exchange) as task:
        await until(lambda: orders(exchange), task)
    name = "ETH-PERPETUAL"
    exchange.listed[name] = msgspec.structs.replace(exchange.listed[name], taker_bps=3.0, min_lots=2)
    sent = len(orders(exchange))
    async with running(folder, exchange) as task:
        await until(lambda: len(orders(exchange)) > sent, task)
    assert not [event for event in read_rows(folder / "busy.sqlite").events if isinstance(event, InstrumentDelisted)]


# Halting --------------------------------------------------------------------------------------------------------------


async def test_a_marker_stops_every_order_until_a_resume_takes_it_away(
    folder: Path, exchange: SimulatedExchange
) -> None:
    marker = HaltMarker(folder / "busy.halted")
    async with running(folder, exchange) as task:
        await until(lambda: len(orders(exchange)) >= 2, task)
        marker.write(Halt("test", "exchange maintenance", 1))
        sent = len(orders(exchange))
        shown = await in_state(folder, "halted", task)
        assert "test: exchange maintenance" in shown["state_reason"]
        assert len(orders(exchange)) <= sent + 1, "one may have been on its way as the marker was written"
    async with running(folder, exchange) as task:
        await until((folder / "busy.sock").exists, task)
        sent = len(orders(exchange))
        await asyncio.sleep(0.2)
        assert (await view(folder))["state"] == "halted"
        assert len(orders(exchange)) == sent
        assert (await operate(folder, "resume"))["state"] in ("running", "reconciling")
        assert not marker.is_set
        await until(lambda: len(orders(exchange)) > sent, task)
    actions = [event.action for event in read_rows(folder / "busy.sqlite").events if isinstance(event, OperatorCommand)]
    assert actions == [OperatorAction.HALT, OperatorAction.RESUME]


async def test_an_order_decided_as_the_marker_appears_is_refused_and_the_journal_says_so(
    folder: Path, exchange: SimulatedExchange
) -> None:
    marker = LateMarker(folder / "busy.halted")
    async with running(folder, exchange, marker=marker) as task:
        await until(lambda: marker.refused, task)
        await in_state(folder, "halted", task)
    rows = read_rows(folder / "busy.sqlite")
    refused = [event for event in rows.events if isinstance(event, OrderRejected)]
    assert [event.reason.split(":")[0] for event in refused] == ["not sent"]
    assert refused[0].order_id == rows.submitted[-1]
    assert refused[0].order_id not in orders(exchange)


class LateMarker(HaltMarker):
    """A marker that is written between the decision about the third order and its leaving."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.looks = 0
        self.refused = False

    @property
    def is_set(self) -> bool:
        import sys

        if not super().is_set and sys._getframe(1).f_code.co_name == "_hand_over":
            self.looks += 1
            if self.looks == 3:
                self.write(Halt("test", "just now", 1))
                self.refused = True
        return super().is_set


async def test_a_halt_set_while_a_resume_is_under_way_stays(tmp_path: Path) -> None:
    marker = HaltMarker(tmp_path / "v.halted")
    marker.write(Halt("one", "first", 1))
    seen = marker.read()
    marker.write(Halt("two", "second", 2))
    marker.remove(seen)
    assert marker.is_set


# What goes wrong ------------------------------------------------------------------------------------------------------


async def test_a_journal_that_cannot_be_written_sends_nothing_but_cancels(
    folder: Path, exchange: SimulatedExchange
) -> None:
    import sqlite3
    from contextlib import closing

    async with running(folder, exchange) as task:
        await until(lambda: len(orders(exchange)) >= 2, task)
        with closing(sqlite3.connect(folder / "busy.sqlite")) as database:
            database.execute("BEGIN EXCLUSIVE")
            sent = len(orders(exchange))
            with pytest.raises(ExceptionGroup) as caught:
                await asyncio.wait_for(asyncio.shield(task), PATIENCE_S)
            database.rollback()
    assert caught.group_contains(JournalError, match="could not be written")
    assert len(orders(exchange)) == sent, "an order left that is not on disk"


async def test_a_second_daemon_is_refused_before_it_connects(folder: Path, exchange: SimulatedExchange) -> None:
    async with running(folder, exchange) as task:
        await until(lambda: orders(exchange), task)
        with (
            pytest.raises(JournalError, match="another daemon holds"),
            Journal.open(folder / "busy.sqlite", for_writing=True),
        ):
            pass
        assert exchange.connections == 1


async def test_an_older_journal_put_back_is_refused(folder: Path, exchange: SimulatedExchange) -> None:
    async with running(folder, exchange) as task:
        await until(lambda: orders(exchange), task)
    old = (folder / "busy.sqlite").read_bytes()
    async with running(folder, exchange) as task:
        await until((folder / "busy.sock").exists, task)
        await view(folder)
    sent = len(exchange.submitted)
    for path in folder.glob("busy.sqlite-*"):
        path.unlink()
    (folder / "busy.sqlite").write_bytes(old)
    with pytest.raises(JournalError, match="the tail of the journal is lost, or this is an older copy"):
        async with running(folder, exchange):
            pass
    assert len(exchange.submitted) == sent


async def test_a_torn_tail_is_named_and_nothing_is_sent(folder: Path, exchange: SimulatedExchange) -> None:
    import sqlite3
    from contextlib import closing

    async with running(folder, exchange) as task:
        await until(lambda: orders(exchange), task)
    last = verify(folder / "busy.sqlite").last_seq
    with closing(sqlite3.connect(folder / "busy.sqlite")) as database, database:
        database.execute("UPDATE journal SET payload = x'00' WHERE seq = ?", (last,))
    sent = len(exchange.submitted)
    with pytest.raises(JournalError, match=f"row {last}"):
        async with running(folder, exchange):
            pass
    assert len(exchange.submitted) == sent


async def test_a_clock_set_back_since_the_journal_stops_the_start(folder: Path, short_recording: Path) -> None:
    future = SimulatedExchange(short_recording)
    async with running(folder, future) as task:
        await until(lambda: orders(future), task)
    with Journal.open(folder / "busy.sqlite", for_writing=True) as journal:
        (batch,) = read_rows(folder / "busy.sqlite").batches[-1:]
        journal.append(msgspec.structs.replace(batch, now_ns=batch.now_ns + 3600 * NS_PER_S, events=()))
    with pytest.raises(JournalError, match=r"expected the clock to be past the journal's last row, found it 3[56]\d\d"):
        async with running(folder, future) as task:
            await task


@pytest.mark.parametrize("error", [VenueFatal("deribit: bad key"), Retryable("deribit: unreachable")])
async def test_a_venue_that_cannot_be_used_ends_the_start_with_nothing_written(
    folder: Path, exchange: SimulatedExchange, error: Exception
) -> None:
    class Refusing(SimulatedGateway):
        async def __aenter__(self) -> Self:
            raise error

    def refuse(
        settings: VenueSettings, credentials: Credentials, clock: Clock, *, run_id: str, prefix: str, since_ns: int
    ) -> Refusing:
        del credentials, run_id, prefix, since_ns
        return Refusing(exchange, settings.venue, clock)

    with pytest.raises(type(error), match="deribit: "):
        async with running(folder, exchange, gateway_opener=refuse) as task:
            await task
    with Journal.open(folder / "busy.sqlite", for_writing=False) as journal:
        assert journal.is_empty
    assert not exchange.submitted


async def test_without_keys_a_live_run_does_not_start(folder: Path, exchange: SimulatedExchange) -> None:
    with pytest.raises(
        VenueFatal, match=r"deribit: expected credentials in the environment \(EVENKEEL_DERIBIT_API_KEY"
    ):
        async with running(folder, exchange, environ={}) as task:
            await task
    assert exchange.connections == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ETH-PERPETUAL", "ETH-PERPETUAAL", "busy.yaml:10: expected an instrument of deribit as listed now, found"),
        ("1900-C", "1900-X", "busy.yaml:7: expected an instrument of deribit as listed now, found ETH-28APR23-1900-X"),
        ("ETH-PERPETUAL", "ETH-28APR23-1900-C", "busy.yaml:10: expected a perpetual, future or spot, found the option"),
    ],
)
async def test_names_are_checked_against_what_the_venue_lists(
    folder: Path, exchange: SimulatedExchange, old: str, new: str, said: str
) -> None:
    path = folder / "busy.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError) as caught:
        async with running(folder, exchange) as task:
            await task
    (problem,) = caught.value.problems
    assert problem.removeprefix(f"{folder}/").startswith(said)
    assert not exchange.submitted


async def test_an_expired_instrument_is_named_with_its_line(folder: Path, exchange: SimulatedExchange) -> None:
    name = "ETH-28APR23-1900-C"
    past_ns = WallClock().now_ns() - NS_PER_DAY
    exchange.listed[name] = msgspec.structs.replace(exchange.listed[name], expiry_ns=past_ns)
    with pytest.raises(
        ConfigError, match=r"busy.yaml:7: expected an instrument alive now, found ETH-28APR23-1900-C, exp"
    ):
        async with running(folder, exchange) as task:
            await task


# The book in a file ---------------------------------------------------------------------------------------------------


async def test_a_book_file_is_read_anew_and_a_broken_one_is_refused(
    folder: Path, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_session, "HEARTBEAT_S", 0.05)
    book = folder / "otc.csv"
    book.write_text("instrument,qty_base\nETH-28APR23-1900-C,5\n")
    path = folder / "busy.yaml"
    path.write_text(path.read_text().replace("cash:", f"  - {{file: {book}}}\ncash:"))

    def reports() -> list[BookReport]:
        return [event for event in read_rows(folder / "busy.sqlite").events if isinstance(event, BookReport)]

    async with running(folder, exchange) as task:
        await until(lambda: orders(exchange), task)
        book.write_text("instrument,qty_base\nETH-28APR23-1900-C,5\nETH-28APR23-2000-C,x\n")
        problem = await said_of_book(folder, is_problem=True)
        assert problem.startswith(f"{book}:3: expected qty_base to be a number, found 'x'")
        book.write_text("instrument,qty_base\nETH-28APR23-1800-C,7\n")
        await said_of_book(folder, is_problem=False)
        assert "ETH-28APR23-1800-C" in exchange.watched
        await asyncio.sleep(0.2)  # some heartbeats, at which there is nothing new
    assert [[(one.instrument_id, one.qty_base) for one in report.holdings] for report in reports()] == [
        [("ETH-28APR23-1900-C", 5.0)],
        [("ETH-28APR23-1800-C", 7.0)],
    ]
    assert {report.source for report in reports()} == {f"file:{book}"}


async def said_of_book(folder: Path, *, is_problem: bool) -> str:
    """Wait until status names a problem of the first book file, or none any more; return it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            problem = str((await view(folder))["book_files"][0]["problem"])
            if bool(problem) is is_problem:
                return problem
            await asyncio.sleep(0.02)


async def test_recording_needs_a_live_feed(busy: Path) -> None:
    (vault,) = load_vaults([busy / "busy.yaml"])
    with pytest.raises(ConfigError, match="expected a live feed to record"):
        await record_vault(vault, busy / "busy.yaml", busy / "out", {}, seconds=0.1)
