"""An account on the published Aave v3 as it is read: found from the Pool alone, followed where governance moves it."""

from __future__ import annotations

import math

import pytest

from bot.gateways.chain.protocols.aave_account import LendingWatch
from bot.pricing.aave_v3 import WAD
from tests.chains.aave import CORE, NOBODY, Aave
from tests.chains.artifacts import artifact
from tests.chains.contracts import Contract, deploy
from tests.chains.world import World

ETH = 10**18


def watch_of(world: World, aave: Aave, symbol: str = "WETH") -> LendingWatch:
    return LendingWatch(aave.pool.address, world.tokens[symbol].address, world.hedger, world.trader)


def read(world: World, watch: LendingWatch, rounds: int = 3) -> None:
    for _ in range(rounds):
        calls = [(one.to, True, one.data) for one in watch.reads]
        answers = world.multicall.call("aggregate3", calls)
        watch.update([answer if is_success else None for is_success, answer in answers])


def test_the_way_is_found_in_two_rounds_and_the_third_tells_all(full_world: World) -> None:
    aave = full_world.part("aave")
    aave.supply(full_world.hedger, USDC=60_000, WBTC=0.5)
    aave.borrow(full_world.hedger, "WETH", 7 * ETH)
    aave.debt_token("WETH").transact("approveDelegation", full_world.trader, 5 * ETH, sender=full_world.hedger)
    watch = watch_of(full_world, aave)
    for _ in range(2):
        read(full_world, watch, rounds=1)
        assert watch.lending is None
    read(full_world, watch, rounds=1)
    lending = watch.lending
    assert lending is not None
    assert watch.debt_token == aave.debt_token("WETH").address
    assert lending.debt.wei == aave.debt(full_world.hedger, "WETH")
    assert lending.health_factor == aave.health_factor(full_world.hedger)
    told = aave.account(full_world.hedger)
    assert (lending.account.collateral_value, lending.account.debt_value) == (
        told.totalCollateralBase,
        told.totalDebtBase,
    )
    assert lending.debt.value == told.totalDebtBase
    assert (lending.credit_wei, lending.hindrance) == (5 * ETH, "")
    assert lending.liquidity_wei == lending.cap_left_wei == 50_000 * ETH - 7 * ETH
    assert lending.most_wei(3 * WAD // 2) == 5 * ETH  # of credit; the account itself would carry more


def test_without_debt_health_is_infinite(full_world: World) -> None:
    aave = full_world.part("aave")
    aave.supply(full_world.hedger, USDC=1_000)
    watch = watch_of(full_world, aave)
    read(full_world, watch)
    assert watch.lending is not None
    assert watch.lending.health_factor == math.inf


def test_tokens_of_other_decimals(full_world: World) -> None:
    aave = full_world.part("aave")
    aave.supply(full_world.hedger, USDC=60_000)
    aave.borrow(full_world.hedger, "WBTC", 10**7)
    aave.configurator.transact("setBorrowCap", full_world.tokens["WBTC"].address, 2)
    watch = watch_of(full_world, aave, "WBTC")
    read(full_world, watch)
    assert watch.lending is not None
    assert watch.lending.debt.unit_wei == 10**8
    assert watch.lending.debt.value == pytest.approx(6_000 * 10**8)
    assert watch.lending.cap_left_wei == pytest.approx(190_000_000, abs=10)


def test_a_new_oracle_is_followed_and_the_old_ones_price_is_not_believed(full_world: World) -> None:
    aave = full_world.part("aave")
    aave.supply(full_world.hedger, USDC=60_000)
    watch = watch_of(full_world, aave)
    read(full_world, watch)
    registry = Contract(
        full_world.anvil, aave.pool.call("ADDRESSES_PROVIDER"), artifact(CORE, "PoolAddressesProvider").abi
    )
    found, mock = artifact(CORE, "AaveOracle"), full_world.feeds
    assets = [full_world.tokens[symbol].address for symbol in ("WETH", "USDC")]
    sources = [mock["BTC/USD"].address, mock["USDC/USD"].address]
    oracle = deploy(
        full_world.anvil, found.abi, found.bytecode(), registry.address, assets, sources, NOBODY, NOBODY, 10**8
    )
    registry.transact("setPriceOracle", oracle.address)
    read(full_world, watch, rounds=1)
    assert watch.lending is None
    read(full_world, watch, rounds=1)
    assert watch.lending is not None
    assert watch.lending.debt.price_value == 60_000 * 10**8


def test_what_reverts_leaves_nothing_usable(full_world: World) -> None:
    aave = full_world.part("aave")
    watch = watch_of(full_world, aave)
    read(full_world, watch)
    assert watch.lending is not None
    answers: list[bytes | None] = [b"\0" * 480] * (len(watch.reads) - 1)
    watch.update([*answers, None])
    assert watch.lending is None
    nowhere = LendingWatch(
        full_world.tokens["USDC"].address, full_world.tokens["WETH"].address, full_world.hedger, NOBODY
    )
    read(full_world, nowhere)
    assert nowhere.lending is None
