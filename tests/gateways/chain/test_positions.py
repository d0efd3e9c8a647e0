"""What is held, against what the contracts themselves say: fees by `collect`, balances, rates, shares, loans."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from typing import Any

import pytest

from bot.domain.chain import ChainReport, TokenPosition
from bot.domain.errors import ConfigError
from bot.domain.units import NS_PER_S
from bot.gateways.chain.abi import encode, selector
from bot.gateways.chain.endpoints import to_block
from bot.gateways.chain.nouns import Block, Read
from bot.gateways.chain.positions import MAX_ROUNDS, Positions, ReadAll
from bot.gateways.chain.settings import ChainSettings, HolderSettings, TokenSettings, WalletSettings
from bot.pricing.lp import value_quote
from tests.chains.anvil import COIN
from tests.chains.uniswap import Pool
from tests.chains.world import STETH_RATE, World
from tests.gateways.chain.nodes import header, pool_settings, settings_of

RECV_NS = 17
RATE_CALL = "0x" + selector("stEthPerToken()").hex()


class Rounds:
    """Reads through the world's Multicall, and counts how often and how much."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sizes: list[int] = []

    async def __call__(self, block: Block, reads: Sequence[Read]) -> tuple[bytes | None, ...]:
        self.sizes.append(len(reads))
        calls = [(read.to, True, read.data) for read in reads]
        answers = self.world.multicall.call("aggregate3", calls, block=block.block_hash)
        return tuple(data if is_success else None for is_success, data in answers)


def settings_with(world: World, holder: dict[str, Any], **changes: Any) -> ChainSettings:
    """Return settings with one holder, the world's hedger unless told otherwise; wstETH has a rate and a charge."""
    made = settings_of(world, **changes)
    wrapped = TokenSettings(
        symbol="wstETH",
        address=world.tokens["wstETH"].address,
        decimals=18,
        underlying="ETH",
        rate_contract=world.tokens["wstETH"].address,
        rate_call=RATE_CALL,
        charge_fraction=0.005,
    )
    shares = TokenSettings(
        symbol="sUSDC", address=world.shares.address, decimals=6, underlying="", charge_fraction=0.01
    )
    return settings_of(
        world,
        tokens={**made.tokens, "wstETH": wrapped, "sUSDC": shares},
        holders=(HolderSettings(**{"address": world.hedger, **holder}),),
        **changes,
    )


async def report_of(world: World, reader: Positions, rounds: Rounds | None = None, **less: int) -> ChainReport:
    """Return the settled report as of the newest block."""
    block = to_block(world.anvil.block())
    await reader.settle(block, rounds or Rounds(world))
    report = reader.report(block, less, RECV_NS)
    assert report is not None, reader.problems
    return report


async def no_report_of(reader: Positions, read: ReadAll, block: Block) -> tuple[str, ...]:
    """Return why there is no report, which there must not be."""
    await reader.settle(block, read)
    assert reader.report(block, {}, RECV_NS) is None
    return reader.problems


def by_name(report: ChainReport) -> dict[str, TokenPosition]:
    """Return token positions by what they are, without whose."""
    return {token.holding_id.partition(" of 0x")[0]: token for token in report.tokens}


def lp_holder(world: World, *names: str) -> dict[str, Any]:
    """Return what a holder of LP positions in these pools is told."""
    return {
        "lp_pools": tuple(pool_settings(world, name) for name in names),
        "position_manager": world.uniswap.position_manager.address,
    }


def mint(world: World, pool: Pool, low_px: float, high_px: float) -> int:
    """Have the hedger provide liquidity around the price."""
    world.give(world.hedger, WETH=10.0, wstETH=10.0, USDC=30_000.0, USDT=30_000.0)
    world.uniswap.approve(world.hedger, [pool.base, pool.quote])
    minted = world.uniswap.mint(
        pool,
        world.hedger,
        base_wei=10 * COIN,
        quote_wei=30_000 * 10**pool.quote_decimals,
        low_px=low_px,
        high_px=high_px,
    )
    return minted.token_id


def trade(world: World, pool: Pool) -> None:
    """Trade both ways, out of the position's range and back."""
    for px in (2500.0, 3400.0, 3010.0):
        world.uniswap.move_to(pool, world.trader, px)


async def test_balances_count_at_their_rate_and_with_their_charge(world: World) -> None:
    world.give(world.hedger, WETH=2.0, USDC=1_234.5, WBTC=0.25, wstETH=10.0)
    reader = Positions(settings_with(world, {"tokens": ("WETH", "USDC", "USDT", "WBTC", "wstETH")}))
    rounds = Rounds(world)
    report = await report_of(world, reader, rounds)
    assert rounds.sizes == [6]  # five balances and a rate, in one round
    assert by_name(report) == {  # nothing of USDT, which is not held
        "WETH": TokenPosition(f"WETH of {world.hedger}", "ETH", 2.0, 0.0),
        "USDC": TokenPosition(f"USDC of {world.hedger}", "", 1_234.5, 0.0),
        "WBTC": TokenPosition(f"WBTC of {world.hedger}", "BTC", 0.25, 0.0),
        "wstETH": TokenPosition(f"wstETH of {world.hedger}", "ETH", 10.0 * STETH_RATE / COIN, 0.005),
    }
    block = to_block(world.anvil.block())
    assert (report.venue, report.block_number, report.block_hash) == ("anvil", block.number, block.block_hash)
    assert (report.ts_event_ns, report.ts_recv_ns) == (block.timestamp_s * NS_PER_S, RECV_NS)
    assert (report.lps, report.health_factor) == ((), inf)
    world.tokens["wstETH"].transact("set_rate", STETH_RATE * 105 // 100)
    assert by_name(await report_of(world, reader))["wstETH"].qty_base == pytest.approx(12.6)


@pytest.mark.parametrize("factor", [0.1, 0.89, 1.11, 10.0])
async def test_a_redemption_rate_that_leaps_is_for_a_person_to_look_at(world: World, factor: float) -> None:
    """One contract says what a staked coin is worth: its word alone must not move a hedge by ten times as much."""
    world.give(world.hedger, wstETH=10.0)
    made = settings_with(world, {"tokens": ("wstETH",)})
    reader = Positions(made)
    await report_of(world, reader)
    world.tokens["wstETH"].transact("set_rate", round(STETH_RATE * factor))
    [problem] = await no_report_of(reader, Rounds(world), to_block(world.anvil.block()))
    assert "expected a redemption rate of wstETH within 10% of 1.2" in problem
    assert by_name(await report_of(world, Positions(made)))["wstETH"].qty_base == pytest.approx(12.0 * factor)
    world.tokens["wstETH"].transact("set_rate", STETH_RATE)
    assert by_name(await report_of(world, reader))["wstETH"].qty_base == 12.0


async def test_what_hedges_moved_is_left_out(world: World) -> None:
    world.give(world.hedger, WETH=2.0)
    made = settings_with(world, {"tokens": ("WETH", "USDC")}, wallet=WalletSettings(address=world.hedger.lower()))
    report = await report_of(world, Positions(made), WETH=3 * COIN, USDC=-5 * 10**6)
    assert {name: token.qty_base for name, token in by_name(report).items()} == {"WETH": -1.0, "USDC": 5.0}
    elsewhere = Positions(settings_with(world, {"tokens": ("WETH",)}, wallet=WalletSettings(address=world.trader)))
    assert by_name(await report_of(world, elsewhere, WETH=3 * COIN))["WETH"].qty_base == 2.0
    report = await report_of(world, elsewhere, **{f"WETH of {world.hedger}": COIN})
    assert by_name(report)["WETH"].qty_base == 1.0


@pytest.mark.parametrize("name", ["WETH/USDC-500", "WETH/USDT-500"])  # both orders of the tokens
@pytest.mark.parametrize(("low_px", "high_px"), [(2850.0, 3150.0), (3100.0, 3300.0), (2600.0, 2900.0)])
async def test_fees_owed_are_what_collect_would_pay_to_the_unit(
    world: World, name: str, low_px: float, high_px: float
) -> None:
    pool = world.pools[name]
    token_id = mint(world, pool, low_px, high_px)
    reader = Positions(settings_with(world, lp_holder(world, name)))
    trade(world, pool)
    [lp] = (await report_of(world, reader)).lps
    owed_base, owed_quote = pool.sorted(*world.uniswap.fees_owed(world.hedger, token_id))
    assert owed_base > 10**12
    assert owed_quote > 10**5
    assert lp.owed_base * 10**pool.base_decimals == pytest.approx(owed_base, rel=1e-15)
    assert round(lp.owed_quote * 10**pool.quote_decimals) == owed_quote
    assert (lp.position_id, lp.underlying) == (f"uniswap {token_id} of {world.hedger}", "ETH")
    assert (lp.low_px, lp.high_px) == (pytest.approx(low_px, rel=1e-3), pytest.approx(high_px, rel=1e-3))


async def test_a_position_is_worth_what_taking_it_out_pays(world: World) -> None:
    pool = world.pools["WETH/USDC-500"]
    token_id = mint(world, pool, 2850.0, 3150.0)
    [lp] = (await report_of(world, Positions(settings_with(world, lp_holder(world, "WETH/USDC-500"))))).lps
    px = pool.px
    world.uniswap.remove(world.hedger, token_id)
    paid_base, paid_quote = pool.sorted(*world.uniswap.collect(world.hedger, token_id))
    worth_quote = paid_base / COIN * px + paid_quote / 10**6
    assert value_quote(lp.liquidity, lp.low_px, lp.high_px, px) == pytest.approx(worth_quote, abs=1e-5)


async def test_positions_settle_in_four_rounds_and_then_take_one(world: World) -> None:
    names = ("WETH/USDC-500", "WETH/USDC-3000")
    for name in names:
        mint(world, world.pools[name], 2850.0, 3150.0)
    reader = Positions(settings_with(world, {"tokens": ("WETH",), **lp_holder(world, *names)}))
    rounds = Rounds(world)
    assert len((await report_of(world, reader, rounds)).lps) == 2
    assert len(rounds.sizes) == 4  # how many, which, what, and their ticks
    rounds.sizes.clear()
    world.anvil.mine()
    await report_of(world, reader, rounds)
    assert len(rounds.sizes) == 1
    mint(world, world.pools[names[0]], 2700.0, 2900.0)
    rounds.sizes.clear()
    assert len((await report_of(world, reader, rounds)).lps) == 3
    assert len(rounds.sizes) == 4
    world.anvil.mine()
    rounds.sizes.clear()
    await report_of(world, reader, rounds)
    assert len(rounds.sizes) == 1


async def test_until_it_is_settled_there_is_no_report(world: World) -> None:
    mint(world, world.pools["WETH/USDC-500"], 2850.0, 3150.0)
    reader = Positions(settings_with(world, lp_holder(world, "WETH/USDC-500")))
    block, read = to_block(world.anvil.block()), Rounds(world)
    for _ in range(3):
        reader.update(block, await read(block, reader.reads))
        assert reader.report(block, {}, RECV_NS) is None
        assert (reader.is_settled, reader.problems) == (False, ())
    reader.update(block, await read(block, reader.reads))
    assert reader.report(block, {}, RECV_NS) is not None
    world.anvil.mine()
    assert reader.report(to_block(world.anvil.block()), {}, RECV_NS) is None  # that block was not read


async def test_a_position_that_went_and_another_that_came_at_once_are_not_mistaken(world: World) -> None:
    pool = world.pools["WETH/USDC-500"]
    first = mint(world, pool, 2850.0, 3150.0)
    reader = Positions(settings_with(world, lp_holder(world, "WETH/USDC-500")))
    await report_of(world, reader)
    manager = world.uniswap.position_manager
    manager.transact("transferFrom", world.hedger, world.trader, first, sender=world.hedger)
    second = mint(world, pool, 2700.0, 3300.0)  # as many as before
    assert [lp.position_id for lp in (await report_of(world, reader)).lps] == [f"uniswap {second} of {world.hedger}"]


async def test_fees_of_a_position_without_liquidity_count_until_collected(world: World) -> None:
    pool = world.pools["WETH/USDC-500"]
    token_id = mint(world, pool, 2850.0, 3150.0)
    world.uniswap.remove(world.hedger, token_id)
    reader = Positions(settings_with(world, lp_holder(world, "WETH/USDC-500")))
    [lp] = (await report_of(world, reader)).lps
    assert lp.liquidity == 0.0
    assert lp.owed_base > 4.0
    world.uniswap.collect(world.hedger, token_id)
    assert (await report_of(world, reader)).lps == ()


async def test_a_position_in_a_pool_nobody_named_is_said_not_to_count(world: World) -> None:
    token_id = mint(world, world.pools["WETH/USDC-3000"], 2850.0, 3150.0)
    reader = Positions(settings_with(world, lp_holder(world, "WETH/USDC-500")))
    assert (await report_of(world, reader)).lps == ()
    assert f"anvil: LP position {token_id} is in a pool that is not configured, and not counted" in reader.problems[0]


async def test_ticks_that_cannot_be_give_no_report_and_are_named(world: World) -> None:
    mint(world, world.pools["WETH/USDC-500"], 2850.0, 3150.0)
    reader = Positions(settings_with(world, lp_holder(world, "WETH/USDC-500")))
    rounds, beyond = Rounds(world), (2**31).to_bytes(32)

    async def lie(block: Block, reads: Sequence[Read]) -> tuple[bytes | None, ...]:
        told = await rounds(block, reads)
        is_position = [read.data[:4] == selector("positions(uint256)") for read in reads]
        return tuple(
            answer[: 5 * 32] + beyond * 2 + answer[7 * 32 :] if is_it and answer else answer
            for answer, is_it in zip(told, is_position, strict=True)
        )

    [problem] = await no_report_of(reader, lie, to_block(world.anvil.block()))
    assert "expected values that fit (int24), found (2147483648,)" in problem
    world.anvil.mine()
    assert len((await report_of(world, reader)).lps) == 1


async def test_liquidity_of_a_wrapped_coin_is_told_in_the_coin_itself(world: World) -> None:
    weth = world.pools["WETH/USDC-500"]
    wrapped = world.uniswap.create_pool(world.tokens["wstETH"], world.tokens["USDC"], 500, 3600.0)
    token_id = mint(world, wrapped, 3420.0, 3780.0)
    made = settings_with(world, lp_holder(world, "WETH/USDC-500"))
    [holder] = made.holders
    place = {"address": wrapped.address, "base": "wstETH", "quote": "USDC", "fee_pips": 500}
    pools = (holder.lp_pools[0].__class__(**place),)
    reader = Positions(
        settings_with(world, {"lp_pools": pools, "position_manager": world.uniswap.position_manager.address})
    )
    [lp] = (await report_of(world, reader)).lps
    assert (lp.low_px, lp.high_px) == (pytest.approx(2850.0, rel=1e-3), pytest.approx(3150.0, rel=1e-3))
    liquidity = world.uniswap.position_manager.call("positions", token_id).liquidity
    assert lp.liquidity == pytest.approx(liquidity / 10**12 * sqrt(1.2), rel=1e-12)
    world.uniswap.remove(world.hedger, token_id)
    paid = wrapped.sorted(*world.uniswap.collect(world.hedger, token_id))
    worth_quote = paid[0] / COIN * 3600.0 + paid[1] / 10**6
    assert value_quote(lp.liquidity, lp.low_px, lp.high_px, 3000.0) == pytest.approx(worth_quote, rel=1e-9)
    assert weth.address != wrapped.address


async def test_shares_count_as_what_they_can_be_turned_into(world: World) -> None:
    usdc = world.tokens["USDC"]
    world.give(world.hedger, USDC=1_000.0)
    usdc.transact("approve", world.shares.address, 10**12, sender=world.hedger)
    world.shares.transact("deposit", 600 * 10**6, world.hedger, sender=world.hedger)
    reader = Positions(settings_with(world, {"shares": ("sUSDC",)}))
    assert by_name(await report_of(world, reader))["sUSDC"].qty_base == 600.0
    usdc.transact("mint", world.shares.address, 60 * 10**6)  # the pot gains
    shares = world.shares.call("balanceOf", world.hedger)
    token = by_name(await report_of(world, reader))["sUSDC"]
    assert token.qty_base == world.shares.call("convertToAssets", shares) / 10**6
    assert token.qty_base == pytest.approx(660.0, abs=1e-5)
    assert (token.underlying, token.charge_fraction) == ("", 0.01)
    rounds = Rounds(world)
    world.shares.transact("deposit", 100 * 10**6, world.hedger, sender=world.hedger)
    token = by_name(await report_of(world, reader, rounds))["sUSDC"]
    assert token.qty_base == world.shares.call("convertToAssets", world.shares.call("balanceOf", world.hedger)) / 10**6
    assert len(rounds.sizes) == 2  # another balance is another question


async def test_shares_of_a_token_nobody_named_give_no_report(world: World) -> None:
    made = settings_with(world, {"shares": ("sUSDC",)})
    tokens = {symbol: token for symbol, token in made.tokens.items() if symbol != "USDC"}
    reader = Positions(settings_of(world, tokens=tokens, holders=made.holders))
    usdc = world.tokens["USDC"].address
    assert await no_report_of(reader, Rounds(world), to_block(world.anvil.block())) == (
        f"anvil: what sUSDC is worth: expected a known token, found asset {usdc}",
    )


async def test_supplies_debts_and_health_are_those_of_aave(full_world: World) -> None:
    aave = full_world.part("aave")
    owner = full_world.hedger
    aave.supply(owner, USDC=60_000)
    holder = {"aave_pool": aave.pool.address, "aave_tokens": ("USDC", "WETH", "wstETH")}
    reader = Positions(settings_with(full_world, holder))
    rounds = Rounds(full_world)
    report = await report_of(full_world, reader, rounds)
    assert report.health_factor == inf
    assert len(rounds.sizes) == 2
    aave.borrow(owner, "WETH", 10 * COIN)
    aave.supply(full_world.trader, WETH=1_000)
    aave.borrow(full_world.trader, "USDC", 1_000_000 * 10**6)
    full_world.anvil.warp(30 * 86_400)  # interest, on both
    report = await report_of(full_world, reader)
    held = by_name(report)
    assert set(held) == {"aave supply of USDC", "aave debt of WETH"}
    assert held["aave supply of USDC"].qty_base > 60_000.0
    assert held["aave debt of WETH"].qty_base < -10.0
    assert held["aave debt of WETH"].underlying == "ETH"
    assert held["aave debt of WETH"].qty_base == -aave.debt(owner, "WETH") / COIN
    assert report.health_factor == pytest.approx(aave.health_factor(owner), rel=1e-12)
    assert 1.0 < report.health_factor < 2.0


class Scripted:
    """Answers that no contract is asked for: by what is called."""

    def __init__(self, answers: dict[str, bytes | None]) -> None:
        self.answers = {selector(signature): answer for signature, answer in answers.items()}

    async def __call__(self, block: Block, reads: Sequence[Read]) -> tuple[bytes | None, ...]:  # noqa: ARG002
        return tuple(self.answers.get(read.data[:4]) for read in reads)


ADDRESS = "0x" + 40 * "1"


def made_up(**holder: Any) -> Positions:
    tokens = {
        "WETH": TokenSettings(symbol="WETH", address="0x" + 40 * "2", decimals=18, underlying="ETH"),
        "USDC": TokenSettings(symbol="USDC", address="0x" + 40 * "3", decimals=6, underlying=""),
        "stETH": TokenSettings(
            symbol="stETH",
            address="0x" + 40 * "4",
            decimals=18,
            underlying="ETH",
            rate_contract=ADDRESS,
            rate_call="0x679aefce",
        ),
    }
    holders = (HolderSettings(address=ADDRESS, **holder),)
    return Positions(ChainSettings(venue="anvil", chain_id=1, coin="ETH", http_urls=(), tokens=tokens, holders=holders))


@pytest.mark.parametrize(
    ("holder", "answers", "problem"),
    [
        ({"tokens": ("WETH",)}, {}, "the balance of WETH reverts"),
        ({"tokens": ("WETH",)}, {"balanceOf(address)": b""}, "expected at least 1 words, found 0 bytes"),
        (
            {"tokens": ("stETH",)},
            {"balanceOf(address)": encode("(uint256)", 5), "getRate()": encode("(uint256)", 0)},
            "expected a redemption rate of stETH, found 0",
        ),
        (
            {"aave_tokens": ("WETH",), "aave_pool": ADDRESS},
            {"getReserveData(address)": bytes(15 * 32), "getUserAccountData(address)": bytes(6 * 32)},
            "the reserve of WETH: expected it to be listed at Aave, found nothing",
        ),
        (
            {"lp_pools": (), "position_manager": ADDRESS, "tokens": ("USDC",)},
            {"balanceOf(address)": None},
            "the balance of USDC reverts",
        ),
    ],
)
async def test_what_cannot_be_read_gives_no_report_and_is_named(
    holder: dict[str, Any], answers: dict[str, bytes | None], problem: str
) -> None:
    reader = made_up(**holder)
    assert await no_report_of(reader, Scripted(answers), to_block(header(7))) == (f"anvil: {problem}",)


async def test_more_positions_than_can_be_read_give_no_report(world: World) -> None:
    reader = Positions(settings_with(world, lp_holder(world, "WETH/USDC-500")))
    crowd = Scripted({"balanceOf(address)": encode("(uint256)", 201)})
    assert await no_report_of(reader, crowd, to_block(header(7))) == (
        "anvil: expected at most 200 LP positions, found 201",
    )


async def test_what_never_settles_is_given_up(world: World) -> None:
    reader = Positions(settings_with(world, lp_holder(world, "WETH/USDC-500")))
    count = iter(range(1, 100))

    async def restless(block: Block, reads: Sequence[Read]) -> tuple[bytes | None, ...]:  # noqa: ARG001
        number = encode("(uint256)", next(count))
        return tuple(number for _ in reads)

    [problem] = await no_report_of(reader, restless, to_block(header(7)))
    assert problem == f"anvil: positions are not known after {MAX_ROUNDS} rounds of reading"


def test_settings_that_lack_something_are_refused(world: World) -> None:
    coin_pool = {"lp_pools": (pool_settings(world, "WBTC/WETH-3000"),), "position_manager": ADDRESS}
    for holder, said in (
        ({"tokens": ("NONE",)}, "expected a known token, found 'NONE'"),
        ({"aave_tokens": ("WETH",)}, "expected aave_pool with aave_tokens, found none"),
        ({"lp_pools": (pool_settings(world, "WETH/USDC-500"),)}, "expected position_manager with lp_pools"),
        (coin_pool, "expected pools of a coin against money"),
    ):
        with pytest.raises(ConfigError, match=f"holder {world.hedger} of anvil: {said}"):
            Positions(settings_with(world, holder))
