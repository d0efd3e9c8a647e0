"""Hedging through the guarded vault on the real contracts: predicted to the unit, and refused before the vault must."""

from __future__ import annotations

import pytest

from bot.domain.errors import ConfigError
from bot.gateways.chain.nouns import Amounts, Refused
from bot.gateways.chain.protocols.guarded_vault import (
    BASE_LIMIT,
    GAS_OF_HEDGE_UNITS,
    HEDGER_KIND,
    HOUR_LIMIT,
    POOL_KIND,
    SLIPPAGE_LIMIT,
    TRADE_LIMIT,
    VENUE_KIND,
    GuardedVault,
)  # fmt: skip
from bot.gateways.chain.settings import HedgeSection, PoolSettings
from tests.chains.uniswap import NOBODY
from tests.chains.world import World
from tests.contracts.vaults import HEDGER, LIMITS, POOL, USDC, VENUE, WETH, VaultInUse, deploy_vault
from tests.gateways.chain.protocols.stage import Stage, token_settings

NO_VAULT = NOBODY[:-1] + "1"


def section_of(world: World, vault: str, quote: str = "USDC", pools: int = 1) -> HedgeSection:
    route = PoolSettings(address=world.pools[f"WETH/{quote}-500"].address, base="WETH", quote=quote, fee_pips=500)
    return HedgeSection(
        name="VAULT", protocol="guarded_vault", underlying="ETH", base="WETH", quote=quote, lot_base=0.001,
        tick_px=0.01, contracts={"vault": vault, "router": world.uniswap.router.address}, route=(route,) * pools,
    )  # fmt: skip


def open_stage(world: World, quote: str = "USDC", **limits: int) -> tuple[Stage, VaultInUse, GuardedVault]:
    vault = deploy_vault(world, quote=quote, **limits)
    vault.deposit(vault.alice, 200_000 * USDC)
    protocol = GuardedVault(section_of(world, vault.address, quote), token_settings(world), "anvil", world.hedger)
    stage = Stage(world, protocol)
    stage.look()
    return stage, vault, protocol


def test_numbers_are_those_of_the_contract() -> None:
    names = [LIMITS[number] for number in (SLIPPAGE_LIMIT, TRADE_LIMIT, HOUR_LIMIT, BASE_LIMIT)]
    assert names == ["slippage_bps", "trade_quote", "hour_quote", "base_bps"]
    assert (VENUE_KIND, POOL_KIND, HEDGER_KIND) == (VENUE, POOL, HEDGER)


@pytest.mark.parametrize("quote", ["USDC", "USDT"])
def test_hedges_come_out_as_predicted_both_ways(world: World, quote: str) -> None:
    stage, vault, protocol = open_stage(world, quote)
    assert protocol.instrument.instrument_id == "anvil:VAULT"
    assert protocol.approvals() == ()
    for size in (7.5, -2.25, 1.001, -6.0):
        before, lots = vault.held(), protocol.position_lots()
        moved, receipt = stage.trade(size)
        assert moved.base_wei == round(size * 1000) * 10**15
        assert vault.held() == (before[0] + moved.quote_wei, before[1] + moved.base_wei)
        assert protocol.position_lots() - lots == round(size * 1000)
        assert receipt.gas_used < GAS_OF_HEDGE_UNITS
    assert world.balance(world.hedger, "WETH") == world.balance(world.hedger, quote) == 0


def test_the_gas_that_is_said_is_what_the_dearest_hedge_uses(world: World) -> None:
    stage, _, _ = open_stage(world)
    used = max(stage.trade(size)[1].gas_used for size in (1.0, 1.0, -1.0))
    assert 0.75 * GAS_OF_HEDGE_UNITS < used <= GAS_OF_HEDGE_UNITS


def test_a_failed_hedge_moved_nothing(world: World) -> None:
    stage, vault, protocol = open_stage(world)
    intent = stage.intent(1.0)
    request = protocol.build(intent)
    vault.contract.transact("pause", sender=vault.guardian)
    receipt = stage.send(request)
    assert not receipt.is_success
    assert protocol.read_receipt(intent, receipt) == Amounts(0, 0)


def test_sizes_are_within_the_caps_of_the_vault(world: World) -> None:
    stage, vault, protocol = open_stage(world, trade_quote=30_000 * USDC, hour_quote=45_000 * USDC)
    quote = protocol.quote(7)
    assert quote is not None
    assert quote.ask_base == pytest.approx(10.0)
    assert quote.bid_base < 0.001  # it holds none
    stage.trade(10.0)
    quote = protocol.quote(8)
    assert quote is not None
    assert (quote.bid_base, quote.ask_base) == pytest.approx((5.0, 5.0))
    vault.set_limit("base_bps", 1_600)  # 15 % is held
    stage.look()
    quote = protocol.quote(9)
    assert quote is not None
    assert 0.2 < quote.ask_base < 0.7
    assert quote.bid_base == pytest.approx(5.0)
    stage.trade(quote.ask_base)


def test_what_is_beyond_a_cap_is_not_sent(world: World) -> None:
    stage, vault, protocol = open_stage(world, trade_quote=30_000 * USDC, hour_quote=45_000 * USDC)
    with pytest.raises(Refused, match=r"at most 30,000\.00 USDC by the vault's cap on one trade, found 30,003\.00"):
        protocol.build(stage.intent(10.001))
    stage.trade(10.0)
    with pytest.raises(Refused, match=r"at most 15,000\.00 USDC by the vault's cap on what is left of this hour"):
        protocol.build(stage.intent(-5.001))
    vault.set_limit("base_bps", 1_600)
    stage.look()
    with pytest.raises(Refused, match=r"at most 16% in WETH, found room for 0\.\d+ more and 2 asked for"):
        protocol.build(stage.intent(2.0))
    vault.set_limit("slippage_bps", 1)  # the pool's fee alone is more
    stage.look()
    for size in (0.1, -0.1):
        with pytest.raises(Refused, match=r"within 1 bps of the oracle's 3000"):
            protocol.build(stage.intent(size))


def test_neither_is_what_the_vault_has_no_tokens_for(world: World) -> None:
    stage, vault, protocol = open_stage(world)
    vault.world.give(vault.address, WETH=5)
    stage.look()
    with pytest.raises(Refused, match="to hold 1 WETH"):
        protocol.build(stage.intent(-1.0))
    vault.contract.transact("redeem", 199_000 * USDC * 10**6, vault.alice, vault.alice, sender=vault.alice)
    stage.look()
    with pytest.raises(Refused, match=r"at most 80% in WETH"):
        protocol.build(stage.intent(1.0))


@pytest.mark.parametrize(
    ("what", "obstacle"),
    [
        ("pause", "unpaused"),
        ("hedger", "a hedger of the vault"),
        ("venue", "allow the router"),
        ("pool", "allow the pool"),
        ("feed", "a fresh oracle"),
        ("code", "to answer"),
    ],
)
def test_a_vault_that_would_refuse_everything_has_no_quote(world: World, what: str, obstacle: str) -> None:
    stage, vault, protocol = open_stage(world)
    intent = stage.intent(1.0)
    protocol.build(intent)
    subject = {"hedger": vault.hedger, "venue": world.uniswap.router.address, "pool": vault.pool.address}
    kinds = {"hedger": HEDGER, "venue": VENUE, "pool": POOL}
    if what == "pause":
        vault.contract.transact("pause", sender=vault.guardian)
    elif what == "feed":
        vault.feed.transact("set_answer", 2000 * 10**8)
    elif what == "code":
        world.anvil.set_code(vault.address, b"")
    else:
        vault.contract.transact("change", kinds[what], subject[what], 0, sender=vault.owner)
    stage.look()
    assert protocol.quote(1) is None
    with pytest.raises(Refused, match=obstacle):
        protocol.build(intent)


def test_reasons_are_told_and_a_miss_of_price_or_time_is_known(world: World) -> None:
    stage, vault, protocol = open_stage(world)
    stage.trade(10.0)
    buy, sale = (protocol.build(stage.intent(size, limit)) for size, limit in ((1.0, 3005.0), (-1.0, 2995.0)))

    def told(request_is: object, *, is_miss: bool, text: str) -> None:
        data = stage.reason(request_is)  # type: ignore[arg-type]
        assert protocol.is_price_miss(data) is is_miss
        assert text in protocol.explain_revert(data)

    with world.anvil.undone():
        vault.push_pool(3020.0)
        told(buy, is_miss=True, text="would have cost more than its limit")
        vault.push_pool(2980.0)
        told(sale, is_miss=True, text="would have brought less than its limit")
    with world.anvil.undone():
        world.anvil.mine(6)
        told(buy, is_miss=True, text="too far behind")
    with world.anvil.undone():
        world.anvil.warp(121)
        told(buy, is_miss=True, text="the deadline had passed")
    with world.anvil.undone():
        vault.feed.transact("set_answer", 2000 * 10**8)
        told(buy, is_miss=False, text="the oracle is stale or does not agree")
    with world.anvil.undone():
        vault.contract.transact("pause", sender=vault.guardian)
        told(buy, is_miss=False, text="hedge: paused")
    vault.contract.transact("change", HEDGER, vault.hedger, 0, sender=vault.owner)
    told(buy, is_miss=False, text="has not appointed")


def test_a_section_that_lacks_something_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="a route of one pool, found 2"):
        GuardedVault(section_of(world, NO_VAULT, pools=2), token_settings(world), "anvil", world.hedger)
    with pytest.raises(ConfigError, match="found none for vault"):
        GuardedVault(section_of(world, ""), token_settings(world), "anvil", world.hedger)


def test_a_vault_that_does_not_answer_still_holds_what_it_held(world: World) -> None:
    stage, _, protocol = open_stage(world)
    stage.trade(1.0)
    block = stage.look()
    protocol.update(block, [None] * len(protocol.reads))
    assert protocol.quote(0) is None
    assert protocol.position_lots() == 1000


def test_an_answer_that_cannot_be_is_no_state_and_nothing_worse(world: World) -> None:
    stage, _, _ = open_stage(world)
    stage.look()
    stage.disturb()


def test_gifts_to_the_vault_are_no_position(world: World) -> None:
    stage, vault, protocol = open_stage(world)
    world.give(vault.address, WETH=5)
    stage.look()
    assert protocol.position_lots() == 0
    stage.trade(1.0)
    assert protocol.position_lots() == 1000
    assert vault.held()[1] == WETH
