"""The product as a market maker uses it: the command line in processes of its own, venues on loopback, real ccxt."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bot.simulation.recording import open_recording
from tests.acceptance.rehearsal import HEDGE
from tests.acceptance.stand import MAKER, TAKER, Stand, open_stand, showing, until
from tests.runtime.command_line import CommandLine, Process, Result, open_command_line
from tests.venues import binance
from tests.venues.binance import BinanceServer, usdm_book
from tests.venues.deribit import TEST_KEY, TEST_SECRET, DeribitServer
from tests.venues.faults import FaultScript, RequestFault, drop_request, reject, silence
from tests.venues.matching import VenueBook
from tests.venues.recording_player import RecordingPlayer

KEYS = (TEST_KEY, TEST_SECRET, binance.KEY, binance.SECRET)
RECORDED_MOMENTS = 600
NEED_BASE = 3.5  # about what a still market asks to buy to be at the target; 1.1 less is the edge of its band


@pytest.fixture(scope="module")
def evenkeel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    with open_command_line(tmp_path_factory.mktemp("processes")) as command_line:
        yield command_line


@pytest.fixture
def stand(evenkeel: CommandLine) -> Iterator[Stand]:
    with open_stand(evenkeel) as one:
        yield one


async def end(process: Process) -> Result:
    process.send(signal.SIGINT)
    return await asyncio.to_thread(process.wait)


def no_key_in(*texts: str) -> None:
    assert not [key for key in KEYS for text in texts if key in text]


# Bad input -----------------------------------------------------------------------------------------------------------


class Bad(NamedTuple):
    """What is done to a good vault, what `run` says then with which exit code, and what `doctor` does."""

    break_it: Callable[[Stand, DeribitServer], object]
    code: int
    said: str
    doctor_code: int
    doctor_said: str
    scope: str | None = None


BAD = {
    "a wrong key": Bad(
        lambda stand, _: stand.write_keys("deribit", {"api_key": "another", "secret": TEST_SECRET}),
        4,
        r"error: deribit: expected a key that may trade, found AuthenticationError: deribit invalid_credentials "
        r"\(13004\); hint: check the key, its permissions and its list of addresses",
        4,
        "deribit keys: PROBLEM: deribit: expected a key that may trade",
    ),
    "a key that may not trade": Bad(
        lambda *_: None,
        4,
        "error: deribit: expected a key that may trade, found one that may not; hint: allow trading",
        4,
        "deribit keys: PROBLEM: deribit: expected a key that may trade, found one that may not",
        "account:read trade:read wallet:read",
    ),
    "a clock that is off": Bad(
        lambda _, server: setattr(server, "clock_skew_ms", 900),
        4,
        r"error: deribit: expected our clock within 500 ms of the venue's, found it 9\d\d ms behind; hint: .*NTP.*",
        4,
        "ms ahead of ours, limit 500 ms; hint: synchronise this machine's clock (NTP)",
    ),
    "an unknown option": Bad(
        lambda stand, _: stand.change("-2000-C", "-2001-C"),
        2,
        r"error: mm.yaml:9: expected an instrument of deribit as listed now, found \S+-2001-C; hint: did you mean .*",
        1,
        "instruments: PROBLEM: mm.yaml:9: expected an instrument of deribit",
    ),
    "an unknown hedge": Bad(
        lambda stand, _: stand.change(HEDGE, "ETH_USDC-PERPETUALS"),
        2,
        r"error: mm.yaml:13: expected an instrument of deribit .*, found ETH_USDC-PERPETUALS; hint: did you mean "
        r"ETH_USDC-PERPETUAL\?",
        1,
        "instruments: PROBLEM: mm.yaml:13: ",
    ),
    "a delisted hedge": Bad(
        lambda _, server: server.book.delist(HEDGE),
        2,
        f"error: mm.yaml:13: expected an instrument of deribit as listed now, found {HEDGE}; hint: .*",
        1,
        "instruments: PROBLEM: mm.yaml:13: ",
    ),
    "keys that others may read": Bad(
        lambda stand, server: stand.write_keys("deribit", server.credentials, 0o644),
        4,
        "error: deribit: expected deribit-keys.yaml to be a regular file of ours with mode 0600, found mode 0644; "
        "hint: chmod 600 deribit-keys.yaml",
        4,
        "deribit credentials: PROBLEM: deribit: expected deribit-keys.yaml",
    ),
    "keys in the vault file": Bad(
        lambda stand, _: stand.change("options: {", f"api_key: {TEST_KEY}, options: {{"),
        2,
        "error: mm.yaml:5: expected no secret in a file, found the key api_key; hint: secrets come from the "
        "environment, or from a private file that credentials: names",
        2,
        "expected no secret in a file",
    ),
    "a venue out of reach": Bad(
        lambda stand, server: stand.change(f":{server.port}", ":9"),
        4,
        r"error: deribit: expected its list of markets, found ExchangeNotAvailable: .*; hint: is the venue up, .*",
        4,
        "deribit reachable: PROBLEM: ExchangeNotAvailable",
    ),
    "an unknown exchange": Bad(
        lambda stand, _: stand.change("exchange: deribit", "exchange: derribit"),
        2,
        "error: venues.deribit: expected an exchange that ccxt can stream, found 'derribit'; hint: .*doctor --venues.*",
        2,
        "expected an exchange that ccxt can stream, found 'derribit'",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_what_is_wrong_is_one_line_and_nothing_is_sent(stand: Stand, bad: Bad) -> None:
    async with DeribitServer(stand.market.book, **({"scope": bad.scope} if bad.scope else {})) as server:
        stand.write_vault(server)
        bad.break_it(stand, server)
        ran = await stand.run("run", "mm.yaml", "--live")
        looked = await stand.run("doctor", "mm.yaml")
    assert (ran.code, ran.out) == (bad.code, ""), ran.err
    assert re.fullmatch(bad.said, ran.err.strip()), ran.err
    assert looked.code == bad.doctor_code, looked
    assert bad.doctor_said in looked.out + looked.err
    assert not [name for name, _ in server.calls if name in {"private/buy", "private/sell", "private/edit"}]
    no_key_in(ran.out, ran.err, looked.out, looked.err)


async def test_live_wants_its_second_key_and_checking_does_not(stand: Stand) -> None:
    async with DeribitServer(stand.market.book) as server:
        stand.write_vault(server)
        ran, checked = await stand.run("run", "mm.yaml"), await stand.run("check", "mm.yaml")
        assert (checked.code, checked.err) == (0, "")
        assert not server.calls
    assert ran.code == 2
    assert ran.err.startswith("error: mm.yaml:2: expected a second key for mode: live, found none; hint: ")


# A good vault --------------------------------------------------------------------------------------------------------


async def test_a_good_vault_is_looked_at_from_all_sides_and_no_key_shows(stand: Stand) -> None:
    async with DeribitServer(stand.market.book) as server, showing(stand.market.show):
        stand.write_vault(server)
        looked = await stand.run("doctor", "mm.yaml")
        assert (looked.code, looked.err) == (0, "")
        assert "PROBLEM" not in looked.out
        assert "mm: instruments: ok: 4 listed, all of the vault's among them\n" in looked.out
        assert "mm: deribit may trade: ok: yes\nmm: deribit may not withdraw: ok: right so\n" in looked.out
        assert "mm: deribit own orders: stream\n" in looked.out
        told = (await stand.run("doctor", "mm.yaml", "--json")).json
        assert {one["is_ok"] for one in told} == {True, None}
        daemon = await stand.start_daemon()
        assert await until(lambda: stand.market.book.trades or daemon.is_over)
        second = await stand.run("run", "mm.yaml", "--live")
        assert second.code == 1
        assert re.fullmatch(
            r"error: expected no other daemon of this vault, found one at .*; hint: stop it first\n", second.err
        )
        views = [await stand.run(verb, "mm.yaml") for verb in ("status", "why", "plan", "report")]
        assert [view.code for view in views] == [0, 0, 0, 0], views
        assert "venue deribit              │ up: everything that is watched comes in" in views[0].out
        assert max(len(line) for view in views for line in view.out.splitlines() if "│" in line) <= 160
        called = Path(f"/proc/{daemon.pid}/cmdline").read_text()
        ended = await end(daemon)
    assert ended.code == 0, ended.err
    exported = await stand.run("journal", "export", "s/mm.sqlite")
    assert exported.code == 0
    files = [path.read_bytes().decode(errors="replace") for path in (stand.folder / "s").iterdir()]
    no_key_in(looked.out, json.dumps(told), *(view.out + view.err for view in views), called)
    no_key_in(ended.out, ended.err, exported.out, *files)
    assert all(line.startswith("{") for line in ended.err.splitlines())
    assert '"event": "command.sent"' in ended.err
    assert not stand.market.book.open_orders()


async def test_a_contract_that_changed_is_not_traded_any_more(stand: Stand) -> None:
    """While the daemon runs, and by no later start."""
    book = stand.market.book
    async with DeribitServer(book) as server, showing(stand.market.show):
        stand.write_vault(server)
        stand.change("absence_s: 0.3", "absence_s: 0.3, markets_poll_s: 0.2")
        daemon = await stand.start_daemon()
        assert await until(lambda: book.trades or daemon.is_over)
        book.change_contract_size(HEDGE, 0.1)
        await until(lambda: server.calls and "delisted" in daemon.err)
        sent = len(book.orders)
        stand.market.px *= 0.95  # would be hedged at once
        stand.market.show()
        await asyncio.sleep(0.5)
        view = await stand.status()
        ended = await end(daemon)
        assert len(book.orders) == sent, ended.err[-2_000:]
        why = view["accounts"]["delisted"][HEDGE]
        assert why == "contract_size was 0.01, is 0.1; lot_contracts was 1.0, is 0.1"
        assert view["desks"][0]["decision"]["refusal"] == "delisted"
        again = await stand.run("run", "mm.yaml", "--live")
        looked = await stand.run("doctor", "mm.yaml")
    assert again.code == 1
    said = (
        f"{HEDGE}: expected the contract of the journal, contract_size 0.01, lot_contracts 1.0, found contract_size 0.1"
    )
    assert again.err.startswith(f"error: {said}")
    assert looked.code == 1
    assert f"mm: instruments: PROBLEM: {said}" in looked.out
    assert len(book.orders) == sent


async def test_absurd_prices_move_nothing(stand: Stand) -> None:
    book, market = stand.market.book, stand.market
    async with DeribitServer(book) as server:
        stand.write_vault(server)
        daemon = await stand.start_daemon()
        async with showing(market.show):
            assert await until(lambda: book.trades or daemon.is_over)
            await settled(stand, daemon)
        market.show()
        await server.settle()
        sent = len(book.orders)
        for px in (1.0, 1e9):
            book.set_index("ETH", px)
            await server.settle()
            market.show()
            await server.settle()
            book.set_quote(HEDGE, px, 20.0, px + 0.1, 20.0)
            await server.settle()
            market.show()
            await server.settle()

        def show_dear_hedge() -> None:
            """The hedge alone is 9 % dearer, which is no jump to speak of, but nowhere near spot."""
            book.set_quote(HEDGE, market.px * 1.09, 20.0, market.px * 1.09 + 0.1, 20.0)
            for name in market.options:
                book.set_vol(name, 0.6, 0.59, 0.61, market.px * 1.01)
            book.set_index("ETH", market.px * 1.01)

        view: dict[str, Any] = {}
        async with showing(show_dear_hedge):
            for _ in range(100):
                view = await stand.status()
                if view["refusals"].get("price_collar"):
                    break
        ended = await end(daemon)
    assert len(book.orders) == sent, ended.err[-2_000:]
    assert view["quotes_refused"]["jump"] >= 4
    assert view["refusals"]["price_collar"] >= 1


# Halting -------------------------------------------------------------------------------------------------------------


async def resting(stand: Stand, book: VenueBook) -> Process:
    """Start a daemon and return once an order of it rests."""
    daemon = await stand.start_daemon()
    assert await until(lambda: book.open_orders() or daemon.is_over)
    assert not daemon.is_over
    return daemon


@pytest.mark.parametrize("state", ["runs", "is frozen", "is dead"])
async def test_a_halt_empties_the_book_and_only_a_resume_ends_it(stand: Stand, state: str) -> None:
    book = stand.market.book
    async with DeribitServer(book) as server, showing(stand.market.show):
        stand.write_vault(server, hedges=(f"{HEDGE}, {MAKER}",))
        daemon = await resting(stand, book)
        if state == "is frozen":
            daemon.send(signal.SIGSTOP)
        if state == "is dead":
            daemon.send(signal.SIGKILL)
            await asyncio.to_thread(daemon.wait)
        halting = asyncio.create_task(stand.run("halt", "mm.yaml", "--reason", "wrong book"))
        assert await until(lambda: not book.open_orders()), "expected the book empty"
        assert state != "is frozen" or not halting.done(), "it is emptied before the daemon is given up"
        halted = await halting
        assert (halted.code, halted.err) == (0, "")
        assert re.search(r"^deribit: (0 orders|1 order) canceled, none left$", halted.out, re.MULTILINE), halted.out
        sent = len(book.orders)
        if state == "is frozen":
            daemon.send(signal.SIGCONT)
            await asyncio.sleep(0.5)
        if state != "is dead":
            assert (await stand.status())["state"] == "halted"
            assert (await end(daemon)).code == 0
        daemon = await stand.start_daemon()
        assert await until(lambda: daemon.is_over or '"run.started"' in daemon.err or '"run.recovered"' in daemon.err)
        await asyncio.sleep(0.5)
        assert (await stand.status())["state"] == "halted"
        assert len(book.orders) == sent, "a halted vault sends nothing, restarted or not"
        assert (await end(daemon)).code == 0
        resumed = await stand.run("resume", "mm.yaml", "--reason", "mended")
        assert resumed.code == 0, resumed.err
        daemon = await resting(stand, book)
        assert len(book.orders) > sent
        assert (await end(daemon)).code == 0
        assert not book.open_orders()


async def test_a_halt_cancels_on_every_venue_and_says_which_is_out_of_reach(stand: Stand) -> None:
    here, there = stand.market.book, second_book(stand)
    async with DeribitServer(here) as deribit, BinanceServer(there) as other:
        stand.write_vault(deribit, other, hedges=(f"{HEDGE}, {MAKER}", f"'binance:ETHUSDT', {MAKER}"))
        rest(here, there)
        halted = await stand.run("halt", "mm.yaml")
        assert halted.code == 0, halted
        assert halted.out.splitlines()[1:] == [
            "deribit: 1 order canceled, none left",
            "binance: 1 order canceled, none left",
        ]
        assert not here.open_orders() + there.open_orders()
        rest(here, there)
        await deribit.go_dark()
        halted = await stand.run("halt", "mm.yaml")
        assert halted.code == 4
        said = halted.out.splitlines()
        assert said[1].startswith("deribit: 0 orders canceled, others may still rest there: ExchangeNotAvailable")
        assert said[2] == "binance: 1 order canceled, none left"
        assert not there.open_orders()
        no_key_in(halted.out, halted.err)


def rest(*books: VenueBook) -> None:
    """Let an order of an earlier life rest in every book."""
    for book, name in zip(books, (HEDGE, "ETHUSDT"), strict=True):
        book.place(name, is_buy=True, amount=1.0, px=1_000.0, client_id=f"0123456789-{len(book.orders)}")


# Failover ------------------------------------------------------------------------------------------------------------


def second_book(stand: Stand) -> VenueBook:
    """Return the same coin at Binance."""
    book = usdm_book(binance.perpetual("ETH"))
    show_there(stand, book)
    return book


def show_there(stand: Stand, book: VenueBook) -> None:
    px = round(stand.market.px, 2)
    book.set_index("ETH", px)
    book.set_quote("ETHUSDT", px - 0.05, 50.0, px + 0.05, 50.0)


@pytest.mark.parametrize(
    ("fault", "is_moved"),
    [
        (silence(is_executed=False), True),
        (silence(is_executed=True), False),
        (drop_request(), True),
        (reject(), True),
    ],
    ids=["times out", "times out and is filled all the same", "goes down", "refuses"],
)
async def test_a_need_moves_to_the_next_venue_and_is_never_met_twice(
    stand: Stand, fault: RequestFault, is_moved: bool
) -> None:
    here, there = stand.market.book, second_book(stand)
    script = FaultScript()
    script.always("create", fault)
    async with (
        DeribitServer(here, faults=script) as deribit,
        BinanceServer(there) as other,
        showing(stand.market.show, lambda: show_there(stand, there)),
    ):
        stand.write_vault(deribit, other, hedges=(f"{HEDGE}, {TAKER}", f"'binance:ETHUSDT', {TAKER}"))
        stand.change("state_dir:", "routing: preference\nstate_dir:")  # by cost it stays where it is as cheap
        daemon = await stand.start_daemon()
        hedged = there if is_moved else here
        assert await until(lambda: hedged.trades or daemon.is_over), (await end(daemon)).err[-2_000:]
        assert script.asked["create"] >= 1, "the preferred venue was tried first"
        script.clear()
        await settled(stand, daemon)
        check_met_once(here, there, NEED_BASE)
        assert bool(there.trades) is is_moved
        # works on, wherever: down by 1 % the straddle wants to be sold
        stand.market.px *= 0.99
        stand.market.show()
        show_there(stand, there)
        trades = len(here.trades) + len(there.trades)
        assert await until(lambda: len(here.trades) + len(there.trades) > trades)
        if is_moved and fault is not reject():
            resumed = await stand.run("resume", "mm.yaml", "--reason", "deribit is back")
            assert resumed.code == 0, resumed.err
            stand.market.px *= 0.99
            stand.market.show()
            show_there(stand, there)
            assert await until(lambda: here.trades or daemon.is_over), "it goes home"
        await settled(stand, daemon)
        view = await stand.status()
        ended = await end(daemon)
    assert ended.code == 0, ended.err[-2_000:]
    lots = {name: held["lots"] for name, held in view["desks"][0]["hedges"].items()}
    assert lots[HEDGE] == round(here.position(HEDGE).amount / 0.01)
    assert lots["binance:ETHUSDT"] == round(there.position("ETHUSDT").amount / 0.001)
    for book in (here, there):
        ids = [order.client_id for order in book.orders.values()]
        assert len(ids) == len(set(ids))


async def settled(stand: Stand, daemon: Process) -> None:
    """Wait until the daemon knows every outcome and has nothing to do."""
    for _ in range(100):
        view = await stand.status()
        if daemon.is_over or (not view["orders"] and view["desks"][0]["plan"].startswith("nothing to do")):
            return
        await asyncio.sleep(0.1)


def check_met_once(here: VenueBook, there: VenueBook, need_base: float) -> None:
    held_base = here.position(HEDGE).amount + there.position("ETHUSDT").amount
    # how wide the band is follows the pace of decisions here; hedged twice would be far beyond
    assert 0.5 * need_base <= held_base <= 1.25 * need_base, f"expected one hedge of the need, found {held_base}"


# Recording -----------------------------------------------------------------------------------------------------------

REHEARSAL = """\
vault: mm
mode: paper
feed: live
clock: venue
venues: {{deribit: {{options: {options}}}}}
max_age: {{quote_s: 60, index_s: 60, vol_s: 600}}
"""
REPLAYED = """\
vault: mm
mode: paper
feed: {recording: recorded}
"""
REST = """\
numeraire: USD
book:
  - {instrument: ETH-28APR23-1900-C, qty_base: -100}
  - {instrument: ETH-28APR23-1900-P, qty_base: -100}
cash: {ETH: 0, USD: 500000}
hedge: {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}
policy: {type: delta_band, half_width_base: 0.3}
limits: {max_order_quote: 50000, max_orders_per_min: 30, daily_loss_quote: 100000}
"""


async def test_what_was_recorded_of_a_venue_is_replayed(stand: Stand) -> None:
    player = RecordingPlayer(open_recording("eth-2023-04"))
    async with DeribitServer(player.book) as server:
        stand.file.write_text(REHEARSAL.format(options=json.dumps(server.options)) + REST)
        playing = asyncio.create_task(player.play(server))
        recorder = await stand.start("record", "mm.yaml", "--out", "recorded")
        assert await until(lambda: player.moments > RECORDED_MOMENTS or recorder.is_over)
        recorded = await end(recorder)
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
    assert recorded.code == 0, recorded.err
    assert re.match(r"recorded: \d+ rows from 2023-04-12T.* to 2023-04-12T", recorded.out)
    stand.file.write_text(REPLAYED + REST)
    replayed = await stand.run("replay", "mm.yaml", "--json")
    assert replayed.code == 0, replayed.err
    assert replayed.json["decisions"] > 20
    assert replayed.json["hedges"] >= 1
