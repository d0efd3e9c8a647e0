"""A bundled recording played at the loopback Deribit in lockstep, heard by the real ccxt and by a plain socket."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.domain.instruments import Option
from bot.domain.market import Quote, Settlement, VolQuote
from bot.domain.units import NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.simulation.recording import Recording, open_recording
from tests.runtime.command_line import PATIENCE_S
from tests.venues.deribit import DeribitServer
from tests.venues.matching import State
from tests.venues.recording_player import RecordingPlayer

PERP = "ETH-PERPETUAL"


@pytest.fixture(scope="module")
def recording() -> Recording:
    return open_recording("eth-2023-04")


@pytest.mark.parametrize(("name", "coin"), [("eth-2023-04", "ETH"), ("btc-2023-04", "BTC")])
async def test_ccxt_sees_the_recordings_own_instruments(name: str, coin: str) -> None:
    recording = open_recording(name)
    player = RecordingPlayer(recording)
    async with DeribitServer(player.book) as server:
        settings = VenueSettings(venue="d", exchange_id="deribit", underlyings=frozenset(), options=server.options)
        exchange = open_exchange(settings, Credentials())
        try:
            markets = await exchange.load_markets()
        finally:  # a session left open by a failure would be held against whichever test the collector meets
            await exchange.close()
    by_id = {market["id"]: market for market in markets.values()}
    assert set(by_id) == {one.instrument_id for one in recording.manifest.instruments}
    perp, meant = by_id[f"{coin}-PERPETUAL"], recording.manifest.instruments[0]
    assert (perp["linear"], perp["inverse"], perp["swap"], perp["settle"]) == (True, False, True, "USD")
    assert perp["contractSize"] == meant.contract_size
    assert perp["precision"] == {"amount": meant.lot_size, "price": meant.tick_schedule.tick_px}
    option = next(one for one in recording.manifest.instruments if isinstance(one, Option))
    listed = by_id[option.instrument_id]
    assert (listed["inverse"], listed["settle"], listed["strike"]) == (True, coin, option.strike_px)
    assert listed["expiry"] * 1_000_000 == option.expiry_ns


async def test_in_lockstep_every_message_is_taken_before_the_next_moment(recording: Recording) -> None:
    option = next(e.instrument_id for e in recording.events() if isinstance(e, VolQuote))
    player = RecordingPlayer(recording)
    until_ns = player.now_ns + 120 * NS_PER_S
    wanted = [e for e in recording.events() if e.ts_event_ns <= until_ns]
    expected = [
        (e.ts_event_ns // 1_000_000, e.bid_px) for e in wanted if isinstance(e, Quote) and e.instrument_id == PERP
    ]
    heard: list[Any] = []
    async with DeribitServer(player.book) as server, aiohttp.ClientSession() as session:
        playing = asyncio.create_task(player.play(server, until_ns))
        await asyncio.sleep(0.03)
        assert player.moments == 1
        async with session.ws_connect(server.options["urls"]["api"]["ws"]) as socket:
            channels = [f"quote.{PERP}", f"ticker.{option}.100ms"]
            await socket.send_json({"id": 1, "method": "public/subscribe", "params": {"channels": channels}})
            hearing = asyncio.create_task(hear(socket, player, heard))
            assert await asyncio.wait_for(playing, PATIENCE_S) == player.moments - 1
        await hearing
    assert heard == expected


async def hear(socket: aiohttp.ClientWebSocketResponse, player: RecordingPlayer, heard: list[Any]) -> None:
    """Keep the perpetual's quotes; at each of them the venue's time must still be the quote's own."""
    async for message in socket:
        data = json.loads(message.data).get("params", {}).get("data", {})
        if data.get("instrument_name") == PERP:
            assert data["timestamp"] == player.now_ms()
            heard.append((data["timestamp"], data["best_bid_price"]))
        elif "mark_iv" in data:
            assert data["underlying_price"] > 0.0


async def test_orders_meet_the_recorded_market_and_options_settle(recording: Recording) -> None:
    settled_ns = next(e.ts_event_ns for e in recording.events() if isinstance(e, Settlement))
    player = RecordingPlayer(recording, start_after_ns=settled_ns - 1_800 * NS_PER_S)
    book = player.book
    expiry = next(e for e in recording.manifest.instruments if isinstance(e, Option)).instrument_id.rsplit("-", 2)[0]
    name = next(one for one in book.listings if one.startswith(f"{expiry}-1900-C"))
    book.foreign_trade(name, is_buy=True, amount=10.0, px=0.01)
    bought = book.place(PERP, is_buy=True, amount=150.0, px=2_500.0)
    assert bought.state is State.FILLED
    assert bought.average_px > book.trades_of(bought.order_id)[0].px
    dear = book.quotes[PERP].asks[0].px + 0.1
    resting = book.place(PERP, is_buy=False, amount=1.0, px=round(dear, 2), is_post_only=True)
    async with DeribitServer(book) as server:
        await player.play(server, settled_ns, speed=1e12)
    assert resting.state is State.FILLED
    assert book.deliveries[0].px == pytest.approx(1_921.319)
    assert name not in book.positions
    assert not book.listings[name].is_active


async def test_a_venue_runs_by_hand_from_a_shell(recording: Recording) -> None:
    command = [sys.executable, "-m", "tests.venues", "deribit", "--speed", "1e9", "--hours", "0.01", "--linger-s", "0"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    first, last = (json.loads(line) for line in out.splitlines())
    assert first["options"]["urls"]["api"]["rest"].startswith("http://127.0.0.1:")
    assert last["moments"] > 0
    assert process.returncode == 0
    assert recording.manifest.name == "eth-2023-04"
