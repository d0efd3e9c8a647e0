"""The gateway of one chain as a daemon meets it: opening, reading, falling behind, falling silent."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bot.domain.chain import ChainReport, GasPaid
from bot.domain.errors import InvariantBroken, VenueFatal
from bot.domain.events import QueryAccount
from bot.domain.market import ExecutionTerms, Quote
from bot.domain.orders import Fill, OrderAccepted
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import AccountReport, VenueHealth, VenueStatus
from tests.chains.world import World
from tests.gateways.chain.gateways import INSTRUMENT, watched
from tests.venues.faults import ANY, http

UP = VenueHealth.UP


async def test_a_block_is_prices_terms_positions_and_the_book(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running():
            await stage.until(lambda: stage.told(ExecutionTerms))
            quote = stage.told(Quote)[-1]
            assert quote.instrument_id == INSTRUMENT
            assert 2998.0 < quote.bid_px < 3000.0 < quote.ask_px < 3002.0
            assert stage.told(AccountReport)[-1].positions == ()
            held = {one.holding_id.split()[0]: one.qty_base for one in stage.told(ChainReport)[-1].tokens}
            assert held == {"WETH": 50.0, "USDC": 500_000.0}
            assert [one.instrument_id for one in await stage.gateway.instruments()] == [INSTRUMENT]
            truth = await stage.gateway.truth()
            assert {type(event) for event in truth} >= {Quote, AccountReport, ChainReport}
            assert stage.gateway.problems == ()


async def test_one_request_a_block_however_many_reads(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running(is_keyless=True):
            before = stage.proxy.faults.asked.get("eth_call", 0)
            await stage.mine(4)
            assert stage.proxy.faults.asked["eth_call"] - before == 4


async def test_without_a_key_it_only_watches(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running(is_keyless=True):
            assert stage.told(Quote)
            assert not stage.told(AccountReport)
            with pytest.raises(InvariantBroken, match="where there is no key"):
                stage.gateway.submit(stage.order("r-1", -1000, 2990.0))


async def test_what_is_told_before_anybody_listens_waits(world: World, tmp_path: Path) -> None:
    """A hedge of the process before is mined while none runs: it is told once somebody listens."""
    with watched(world, tmp_path) as stage:
        async with stage.running():
            stage.gateway.submit(stage.order("r-1", -1000, 2990.0))
            await stage.until(lambda: stage.told(OrderAccepted))
        stage.events.clear()
        stage.anvil.mine(1, seconds_apart=1)
        async with stage.running(listens=False):
            assert not stage.events
            stage.listen()
            fill = (await stage.until(lambda: stage.told(Fill)))[0]
            assert fill.qty_lots == -1000
            assert {one.trade_id for one in stage.told(Fill)} == {fill.trade_id}, "told twice, it counts once"
            paid = stage.told(GasPaid)[0]
            assert {one.payment_id for one in stage.told(GasPaid)} == {paid.payment_id}
            assert paid.gas_quote == pytest.approx(paid.gas_coin * 3000.0, rel=1e-3), (
                "its price is known from the start"
            )
            await stage.until(lambda: stage.told(ChainReport))
            assert stage.events.index(fill) < stage.events.index(stage.told(ChainReport)[0])


async def test_a_fill_is_told_though_the_prices_of_its_block_cannot_be_read(world: World, tmp_path: Path) -> None:
    """And the account is not told as of the block before, as if it were so after the fill."""
    with watched(world, tmp_path) as stage:
        async with stage.running():
            stage.gateway.submit(stage.order("r-1", -1000, 2990.0))
            await stage.until(lambda: stage.told(OrderAccepted))
            reports = len(stage.told(AccountReport))
            stage.proxy.falsify["eth_call"] = lambda _params, _result: "0x1234"
            stage.anvil.mine(1, seconds_apart=1)
            await stage.until(lambda: stage.told(Fill))
            stage.gateway.submit(QueryAccount("anvil", "a test"))
            assert len(stage.told(AccountReport)) == reports
            stage.proxy.falsify.clear()
            await stage.mine(2)
            assert [one.qty_lots for one in stage.told(AccountReport)[-1].positions] == [-1000]


async def test_a_contract_that_is_none_is_named(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path) as stage:
        hedge = msgspec.structs.replace(stage.settings.hedges[0], contracts={"router": world.trader})
        stage.settings = msgspec.structs.replace(stage.settings, hedges=(hedge,))
        with pytest.raises(VenueFatal, match=f"found none at WETH-USDC router at {world.trader}"):
            async with stage.running():
                pass
        assert stage.proxy.websockets == 0


async def test_a_chain_that_falls_silent_is_down_until_it_speaks(world: World, tmp_path: Path) -> None:
    with watched(world, tmp_path, max_silence_ns=300 * NS_PER_MS) as stage:
        async with stage.running():  # it may have been silent for that long before, and have spoken since
            await stage.until(lambda: stage.told(VenueStatus) and stage.told(VenueStatus)[-1].health is not UP)
            status = stage.told(VenueStatus)[-1]
            assert (status.health, status.reason) == (VenueHealth.DOWN, "no new block for 0.3 s")
            told = len(stage.told(VenueStatus))
            await stage.mine()
            await stage.until(lambda: len(stage.told(VenueStatus)) > told)
            assert stage.told(VenueStatus)[told].health is UP


async def test_a_block_that_could_not_be_read_is_read_again_without_waiting_for_the_next(
    world: World, tmp_path: Path
) -> None:
    with watched(world, tmp_path) as stage:
        async with stage.running():
            stage.proxy.faults.always(ANY, http(503))
            stage.anvil.mine(1, seconds_apart=1)
            await stage.until(lambda: any(one.health is VenueHealth.DOWN for one in stage.told(VenueStatus)))
            stage.proxy.faults.clear()
            stage.clock.ahead_ns += 60 * NS_PER_S  # a node that failed is left alone for a while
            await stage.until(lambda: stage.told(VenueStatus)[-1].health is UP)
