"""Hedging by swap on the published contracts: quotes, trades to the unit, refusals, reasons, gas."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.domain.orders import TimeInForce
from bot.gateways.chain.abi import Undecodable
from bot.gateways.chain.nouns import Amounts, Log, Refused
from bot.gateways.chain.protocols.uniswap_v3 import (
    GAS_OF_POOL_UNITS,
    GAS_OF_TICK_UNITS,
    GAS_OF_TRADE_UNITS,
    QUOTE_SLIPPAGE,
    UniswapV3,
    encode_path,
)
from bot.gateways.chain.settings import HedgeSection, PoolSettings
from tests.chains.anvil import COIN
from tests.chains.uniswap import Pool
from tests.chains.world import World
from tests.gateways.chain.protocols.stage import Stage, token_settings

VENUE = "anvil"
USDC_ROUTE = ("WETH/USDC-500",)  # WETH is token1
USDT_ROUTE = ("WETH/USDT-500",)  # WETH is token0
BTC_ROUTE = ("WBTC/WETH-3000", "WETH/USDC-500")
STETH_ROUTE = ("wstETH/WETH-500", "WETH/USDT-500")
ROUTES = (USDC_ROUTE, USDT_ROUTE, BTC_ROUTE, STETH_ROUTE)
Opener = Callable[..., Stage]


def section_of(world: World, route: tuple[str, ...], lot_base: float = 0.001) -> HedgeSection:
    pools = []
    for name in route:
        base, _, rest = name.partition("/")
        quote, fee = rest.split("-")
        pools.append(PoolSettings(address=world.pools[name].address, base=base, quote=quote, fee_pips=int(fee)))
    return HedgeSection(
        name="HEDGE", protocol="uniswap_v3", underlying="BTC" if pools[0].base == "WBTC" else "ETH",
        base=pools[0].base, quote=pools[-1].quote, lot_base=lot_base, tick_px=0.01,
        contracts={"router": world.uniswap.router.address}, route=tuple(pools),
    )  # fmt: skip


def open_stage(world: World, route: tuple[str, ...] = USDC_ROUTE, *, inventory_base: float = 0.0) -> Stage:
    """Return a stage whose wallet has plenty of everything and has granted what is needed."""
    section = msgspec.structs.replace(section_of(world, route), inventory_base=inventory_base)
    protocol = UniswapV3(section, token_settings(world), VENUE, world.hedger)
    stage = Stage(world, protocol)
    world.give(world.hedger, WETH=3_000.0, USDC=9e6, USDT=9e6, WBTC=150.0, wstETH=2_500.0)
    stage.grant()
    stage.look()
    return stage


@pytest.mark.parametrize("route", ROUTES)
def test_trades_come_out_as_predicted_both_ways(world: World, route: tuple[str, ...]) -> None:
    stage = open_stage(world, route)
    instrument = stage.protocol.instrument
    assert instrument.instrument_id == "anvil:HEDGE"
    rng = random.Random(str(route))
    for _ in range(6):
        size = round(rng.uniform(0.01, 20.0), 3) * rng.choice((1, -1)) * (0.05 if "WBTC" in route[0] else 1.0)
        size = round(size, 3)
        base, quote = (world.balance(world.hedger, name) for name in (instrument_base(route), instrument.quote))
        lots = stage.protocol.position_lots()
        moved, _ = stage.trade(size)
        assert moved.base_wei == round(size * 1000) * lot_wei(route)
        assert world.balance(world.hedger, instrument_base(route)) - base == moved.base_wei
        assert world.balance(world.hedger, instrument.quote) - quote == moved.quote_wei
        assert stage.protocol.position_lots() - lots == round(size * 1000)


def instrument_base(route: tuple[str, ...]) -> str:
    return route[0].partition("/")[0]


def lot_wei(route: tuple[str, ...]) -> int:
    return 10**5 if instrument_base(route) == "WBTC" else 10**15


def test_a_trade_may_cross_ticks(world: World) -> None:
    pool = world.pools[USDC_ROUTE[0]]
    for width in (0.001, 0.002, 0.003):
        world.uniswap.mint(
            pool, world.deployer, base_wei=10 * COIN, quote_wei=30_000 * 10**6,
            low_px=3000.0 * (1.0 - width), high_px=3000.0 * (1.0 + width),
        )  # fmt: skip
    stage = open_stage(world)
    for size in (150.0, -300.0, 300.0):
        before = world.pools[USDC_ROUTE[0]].contract.call("liquidity")
        _, receipt = stage.trade(size)
        assert pool.contract.call("liquidity") != before
        assert receipt.gas_used > GAS_OF_TRADE_UNITS


@pytest.mark.parametrize("route", ROUTES)
def test_the_quote_is_what_little_and_its_sizes_pay(world: World, route: tuple[str, ...]) -> None:
    stage = open_stage(world, route)
    block = stage.look()
    quote = stage.protocol.quote(17)
    assert quote is not None
    fees = 1.0
    for pool in section_of(world, route).route:
        fees *= 1.0 - pool.fee_pips / 1e6
    px = pool_px(world, route)
    assert quote.bid_px == pytest.approx(px * fees, rel=1e-9)
    assert quote.ask_px == pytest.approx(px / fees, rel=1e-9)
    assert (quote.ts_event_ns, quote.ts_recv_ns, quote.seq) == (block.timestamp_s * 10**9, 17, block.number)
    base_decimals, quote_decimals = stage.protocol.amount_decimals
    for size, px, worse in ((-quote.bid_base, quote.bid_px, -1.0), (quote.ask_base, quote.ask_px, 1.0)):
        little = stage.protocol.expects(stage.intent(0.001 if size > 0 else -0.001))
        assert abs(little.quote_wei / little.base_wei) * 10 ** (base_decimals - quote_decimals) == pytest.approx(
            px, rel=1e-4
        )
        moved = stage.protocol.expects(stage.intent(size))
        average = abs(moved.quote_wei / moved.base_wei) * 10 ** (base_decimals - quote_decimals)
        slippage = (average / px - 1.0) * worse
        assert 0.97 * QUOTE_SLIPPAGE < slippage <= QUOTE_SLIPPAGE
    # Trading x costs x/depth beyond the quote.
    x = stage.protocol.depth_base * 1e-3
    assert quote.ask_base == pytest.approx(x, rel=0.03)


def pool_px(world: World, route: tuple[str, ...]) -> float:
    px = 1.0
    for name in route:
        px *= world.pools[name].px
    return px


def test_the_depth_is_the_liquidity_by_the_root_of_the_price(world: World) -> None:
    stage = open_stage(world)
    pool = world.pools[USDC_ROUTE[0]]
    liquidity = pool.contract.call("liquidity") / 10**12
    assert stage.protocol.depth_base == pytest.approx(liquidity / pool.px**0.5, rel=1e-9)


def test_sizes_are_no_larger_than_the_wallets_funds(world: World) -> None:
    stage = open_stage(world)
    stage.world.tokens["USDC"].transact("transfer", world.trader, 9 * 10**12 - 1_500 * 10**6, sender=world.hedger)
    stage.world.tokens["WETH"].transact("approve", world.uniswap.router.address, COIN // 8, sender=world.hedger)
    stage.look()
    quote = stage.protocol.quote(0)
    assert quote is not None
    assert quote.bid_base == pytest.approx(0.125)
    assert 0.498 < quote.ask_base < 0.5
    stage.trade(quote.ask_base)
    stage.trade(-quote.bid_base)


def test_before_the_pools_are_read_there_is_no_quote(world: World) -> None:
    protocol = UniswapV3(section_of(world, BTC_ROUTE), token_settings(world), VENUE, world.hedger)
    stage = Stage(world, protocol)
    assert protocol.quote(0) is None
    assert protocol.depth_base == 0.0
    stage.look_once()
    assert protocol.quote(0) is None
    with pytest.raises(Refused, match="usable state of 2 pools, found none"):
        protocol.expects(msgspec.structs.replace(stage.intent(1.0, 3000.0), qty_lots=1))
    stage.look()
    assert protocol.quote(0) is not None


def test_reads_go_out_in_one_call_and_stay_few(world: World) -> None:
    stage = open_stage(world, BTC_ROUTE)
    assert len(stage.protocol.reads) < 60
    assert len({(read.to, read.data) for read in stage.protocol.reads}) == len(stage.protocol.reads)


@pytest.mark.parametrize(
    ("size", "limit_px", "reason"),
    [
        (0.0, 3000.0, "0 lots"),
        (1.0, 3000.0, r"at 3000 or better, found 300\d\.\d+"),
        (-1.0, 3000.0, r"at 3000 or better, found 299\d\.\d+"),
        (2_900.0, 99_000.0, "hold .* USDC for the router, found 9e\\+06"),
        (-3_001.0, 1.0, "hold 3001 WETH for the router, found 3000"),
        (1e6, 99_000.0, "carry 1e\\+06 WETH"),
    ],
)
def test_what_cannot_be_is_refused_with_numbers(world: World, size: float, limit_px: float, reason: str) -> None:
    stage = open_stage(world)
    stage.look()
    with pytest.raises(Refused, match=reason):
        stage.protocol.build(stage.intent(size, limit_px))


def test_without_approval_nothing_is_built(world: World) -> None:
    stage = open_stage(world)
    world.tokens["USDC"].transact("approve", world.uniswap.router.address, 10 * 10**6, sender=world.hedger)
    stage.look()
    with pytest.raises(Refused, match=r"have approved 3001\.\d+ USDC for the router, found 10"):
        stage.protocol.build(stage.intent(1.0))
    stage.protocol.build(stage.intent(-1.0))
    usdc = stage.protocol.approvals()[1]
    assert "USDC" in usdc.what
    assert stage.world.anvil.rpc("eth_call", {"to": usdc.check.to, "data": "0x" + usdc.check.data.hex()}, "latest")
    stage.grant()
    stage.look()
    stage.protocol.build(stage.intent(1.0))


def test_an_order_that_is_not_for_a_chain_is_refused(world: World) -> None:
    stage = open_stage(world)
    fine = stage.intent(1.0)
    late = msgspec.structs.replace(fine.gas, deadline_ns=stage.look().timestamp_s * 10**9)
    for change, reason in (
        ({"gas": None}, "gas"),
        ({"gas": late}, "deadline after the newest block"),
        ({"instrument_id": "anvil:OTHER"}, "found one for anvil:OTHER"),
        ({"time_in_force": TimeInForce.MARKET, "limit_ticks": 0}, "limit"),
    ):
        with pytest.raises(Refused, match=reason):
            stage.protocol.build(msgspec.structs.replace(fine, **change))


@pytest.mark.parametrize("route", [USDC_ROUTE, BTC_ROUTE])
@pytest.mark.parametrize("size", [0.5, -0.5])
def test_a_price_that_ran_away_is_a_miss(world: World, route: tuple[str, ...], size: float) -> None:
    stage = open_stage(world, route)
    quote = stage.protocol.quote(0)
    assert quote is not None
    request = stage.protocol.build(stage.intent(size, quote.ask_px * 1.001 if size > 0 else quote.bid_px * 0.999))
    world.uniswap.move_to(world.pools["WETH/USDC-500"], world.trader, 3000.0 * (1.01 if size > 0 else 0.99))
    data = stage.reason(request)
    assert stage.protocol.is_price_miss(data)
    said = stage.protocol.explain_revert(data)
    assert ("would have cost more" if size > 0 else "would have brought less") in said
    receipt = stage.send(request)
    assert not receipt.is_success
    assert stage.protocol.read_receipt(stage.intent(size), receipt) == Amounts(0, 0)


def test_a_deadline_that_passed_is_a_miss(world: World) -> None:
    stage = open_stage(world)
    request = stage.protocol.build(stage.intent(1.0))
    world.anvil.warp(121)
    data = stage.reason(request)
    assert stage.protocol.is_price_miss(data)
    assert stage.protocol.explain_revert(data) == "Transaction too old: the deadline had passed"


def test_other_reverts_are_no_miss(world: World) -> None:
    stage = open_stage(world)
    request = stage.protocol.build(stage.intent(-1.0))
    world.tokens["WETH"].transact("approve", world.uniswap.router.address, 0, sender=world.hedger)
    data = stage.reason(request)
    assert not stage.protocol.is_price_miss(data)
    assert "STF: the router could not take" in stage.protocol.explain_revert(data)
    assert not stage.protocol.is_price_miss(b"")
    assert "run dry" in stage.protocol.explain_revert(b"")


def test_inventory_is_no_hedge_and_part_of_a_lot_is_none(world: World) -> None:
    stage = open_stage(world, inventory_base=2_999.1)
    assert stage.protocol.position_lots() == 900
    world.tokens["WETH"].transact("transfer", world.trader, 2 * COIN + 5 * 10**14, sender=world.hedger)
    stage.look()
    assert stage.protocol.position_lots() == -1100  # -1.1005 WETH


def test_a_balance_that_cannot_be_read_is_no_position_that_is_gone(world: World) -> None:
    stage = open_stage(world)
    block = stage.look()
    held = stage.protocol.position_lots()
    assert held > 0
    stage.protocol.update(block, [None] * len(stage.protocol.reads))
    assert stage.protocol.quote(0) is None
    assert stage.protocol.position_lots() == held


def test_an_answer_that_cannot_be_is_no_state_and_nothing_worse(world: World) -> None:
    open_stage(world).disturb()


def test_a_receipt_whose_logs_disagree_is_not_believed(world: World) -> None:
    stage = open_stage(world)
    intent = stage.intent(1.0)
    receipt = stage.send(stage.protocol.build(intent))
    stage.protocol.read_receipt(intent, receipt)
    pool = world.pools[USDC_ROUTE[0]]
    others = tuple(log for log in receipt.logs if log.address.lower() != pool.address.lower())
    with pytest.raises(Undecodable, match=r"one swap per pool .* found \[0\]"):
        stage.protocol.read_receipt(intent, msgspec.structs.replace(receipt, logs=others))
    less = tuple(taxed(log) for log in receipt.logs)
    with pytest.raises(Undecodable, match="fee on transfer"):
        stage.protocol.read_receipt(intent, msgspec.structs.replace(receipt, logs=less))


def taxed(log: Log) -> Log:
    """Return a transfer of one unit less."""
    if len(log.data) != 32:
        return log
    return msgspec.structs.replace(log, data=(int.from_bytes(log.data) - 1).to_bytes(32))


def test_an_answer_is_the_other_side_of_the_order(world: World) -> None:
    stage = open_stage(world)
    assert stage.protocol.read_answer(stage.intent(2.0), (7).to_bytes(32)) == Amounts(2 * COIN, -7)
    assert stage.protocol.read_answer(stage.intent(-2.0), (7).to_bytes(32)) == Amounts(-2 * COIN, 7)
    assert stage.protocol.read_answer(stage.intent(2.0), b"") is None


def test_a_route_must_lead_from_base_to_quote(world: World) -> None:
    section = section_of(world, BTC_ROUTE)
    first, second = section.route
    for route, reason in (
        ((), "found it to end at WBTC"),
        ((first,), "found it to end at WETH"),
        ((second,), "goes on from WBTC"),
        ((first, first, first), "ends? at WETH|to end at WETH"),
        ((first, second, second, second), "every pool of the route once"),
    ):
        with pytest.raises(ConfigError, match=reason):
            UniswapV3(msgspec.structs.replace(section, route=route), token_settings(world), VENUE, world.hedger)
    with pytest.raises(ConfigError, match="router"):
        UniswapV3(msgspec.structs.replace(section, contracts={}), token_settings(world), VENUE, world.hedger)


def test_a_path_is_packed() -> None:
    path = encode_path(["0x" + 40 * "a", "0x" + 40 * "b", "0x" + 40 * "c"], [500, 3000])
    assert path.hex() == 40 * "a" + "0001f4" + 40 * "b" + "000bb8" + 40 * "c"


def gas_of(stage: Stage, size: float) -> int:
    return stage.trade(size)[1].gas_used


def cross(world: World, pool: Pool) -> None:
    """Liquidity in narrow ranges around the price, so that a trade crosses their ends."""
    for n in range(1, 7):
        world.uniswap.mint(
            pool, world.deployer, base_wei=COIN, quote_wei=3_000 * 10**6,
            low_px=3000.0 - 3.1 * n, high_px=3000.0 + 3.1 * n,
        )  # fmt: skip


def test_gas_is_what_was_measured(world: World) -> None:
    """The figures are those of a trade with the wallet's tokens at hand; none is exceeded, none is far too large."""
    single = open_stage(world)
    one_pool = [gas_of(single, size) for size in (1.0, -1.0, 1.0, -1.0)]
    cross(world, world.pools[USDC_ROUTE[0]])
    single.look()
    crossing = []
    for size in (-100.0, 100.0, 100.0, -100.0):
        swapped = single.protocol._swapped(single.intent(size))
        crossing.append((gas_of(single, size) - max(one_pool)) / max(1, swapped.ticks_crossed))
    two = open_stage(world, BTC_ROUTE)
    two_pools = [gas_of(two, size) for size in (0.01, -0.01, 0.01, -0.01)]
    assert 0.75 * GAS_OF_TRADE_UNITS < max(one_pool) <= GAS_OF_TRADE_UNITS
    assert 0.6 * GAS_OF_TICK_UNITS < max(crossing) <= GAS_OF_TICK_UNITS
    assert 0.75 * GAS_OF_POOL_UNITS < max(two_pools) - max(one_pool) <= GAS_OF_POOL_UNITS
