"""Who may change what of a guarded vault, and when it holds: tightening at once, loosening after the delay."""

from __future__ import annotations

import pytest

from tests.chains.uniswap import NOBODY
from tests.chains.world import World
from tests.contracts.vaults import (
    DAY_S,
    GUARDIAN,
    HEDGER,
    LIMITS,
    PLAIN,
    POOL,
    USDC,
    USUAL,
    VENUE,
    VaultInUse,
    deploy_vault,
    hostile,
)  # fmt: skip

LARGER_IS_LOOSER = LIMITS[:8]
SMALLER_IS_LOOSER = ("twap_s", "delay_s")
NEITHER = ("reserve_bps", "tail_bps")
LIFETIME_S = 14 * DAY_S


@pytest.fixture
def vault(world: World) -> VaultInUse:
    return deploy_vault(world)


def scheduled(vault: VaultInUse, what: int, subject: str = NOBODY) -> int:
    """Return from when a change can be applied, 0 if none is scheduled."""
    return int(vault.call("scheduled", what, subject)[1])


def test_limits_are_deployed_as_told(vault: VaultInUse) -> None:
    assert {name: vault.limit(name) for name in LIMITS} == USUAL


@pytest.mark.parametrize("name", [*LARGER_IS_LOOSER, *SMALLER_IS_LOOSER])
def test_tightening_holds_at_once_and_loosening_after_the_delay(vault: VaultInUse, name: str) -> None:
    usual, number = USUAL[name], LIMITS.index(name)
    tighter, looser = (usual * 9 // 10, usual * 11 // 10) if name in LARGER_IS_LOOSER else (usual + 60, usual - 60)
    vault.set_limit(name, tighter)
    assert vault.limit(name) == tighter
    vault.set_limit(name, looser)
    assert vault.limit(name) == tighter
    ready_s = scheduled(vault, number)
    assert ready_s == vault.now_s + vault.limit("delay_s")
    vault.world.anvil.rpc("evm_setNextBlockTimestamp", ready_s - 1)
    with vault.refuses("change: its delay is not over"):
        vault.contract.transact("apply", number, NOBODY, sender=vault.owner)
    vault.world.anvil.rpc("evm_setNextBlockTimestamp", ready_s)
    vault.contract.transact("apply", number, NOBODY, sender=vault.owner)
    assert vault.limit(name) == looser
    with vault.refuses("change: not scheduled"):
        vault.contract.transact("apply", number, NOBODY, sender=vault.owner)


@pytest.mark.parametrize("name", NEITHER)
@pytest.mark.parametrize("by", [-100, 100])
def test_what_holders_agreed_to_share_never_changes_at_once(vault: VaultInUse, name: str, by: int) -> None:
    vault.set_limit(name, USUAL[name] + by)
    assert vault.limit(name) == USUAL[name]
    assert scheduled(vault, LIMITS.index(name)) > vault.now_s


def test_tightening_drops_the_loosening_that_was_scheduled(vault: VaultInUse) -> None:
    number = LIMITS.index("trade_quote")
    vault.set_limit("trade_quote", 90_000 * USDC)
    vault.set_limit("trade_quote", 10_000 * USDC)
    vault.world.anvil.warp(3 * DAY_S)
    with vault.refuses("change: not scheduled"):
        vault.contract.transact("apply", number, NOBODY, sender=vault.owner)


@pytest.mark.parametrize("who", ["guardian", "owner"])
def test_guardian_and_owner_can_cancel_what_is_scheduled(vault: VaultInUse, who: str) -> None:
    vault.set_limit("slippage_bps", 500)
    vault.contract.transact("cancel", 0, NOBODY, sender=getattr(vault, who))
    vault.world.anvil.warp(3 * DAY_S)
    with vault.refuses("change: not scheduled"):
        vault.contract.transact("apply", 0, NOBODY, sender=vault.owner)
    with vault.refuses("cancel: not a guardian"):
        vault.contract.transact("cancel", 0, NOBODY, sender=vault.alice)


def test_a_loosening_that_nobody_applied_is_void_after_two_weeks(vault: VaultInUse) -> None:
    vault.set_limit("slippage_bps", 500)
    vault.world.anvil.rpc("evm_setNextBlockTimestamp", scheduled(vault, 0) + LIFETIME_S + 1)
    with vault.refuses("change: too old"):
        vault.contract.transact("apply", 0, NOBODY, sender=vault.owner)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("slippage_bps", 501, "change: over its ceiling"),
        ("deviation_bps", 1_001, "change: over its ceiling"),
        ("lag_blocks", 301, "change: over its ceiling"),
        ("oracle_age_s", 90_001, "change: over its ceiling"),
        ("base_bps", 10_001, "change: over its ceiling"),
        ("tail_bps", 5_001, "change: over its ceiling"),
        ("delay_s", DAY_S - 1, "change: delay too short"),
    ],
)
def test_no_owner_can_loosen_beyond_the_ceilings(vault: VaultInUse, name: str, value: int, reason: str) -> None:
    with vault.refuses(reason):
        vault.set_limit(name, value)


def test_only_pools_of_the_pair_and_venues_of_the_factory_can_be_allowed(vault: VaultInUse) -> None:
    pools, uniswap = vault.world.pools, vault.world.uniswap
    stranger = hostile(vault.world, "router", vault.world.trader)
    refused = [
        (POOL, pools["WBTC/WETH-3000"].address, 1, "change: not a pool of the pair"),
        (POOL, pools["WETH/USDT-500"].address, 1, "change: not a pool of the pair"),
        (VENUE, stranger.address, 1, "change: venue of another factory"),
        (VENUE, uniswap.router02.address, 3, "change: bad setting"),
        (POOL, pools["WETH/USDC-3000"].address, 2, "change: bad setting"),
        (HEDGER, vault.bob, 2, "change: bad setting"),
        (HEDGER, NOBODY, 1, "change: bad subject"),
        (HEDGER, vault.address, 1, "change: bad subject"),
        (99, vault.bob, 1, "change: no such thing"),
        (104, vault.bob, 1, "change: no such thing"),
        (0, vault.bob, 1, "change: a limit has no subject"),
    ]
    for what, subject, value, reason in refused:
        with vault.refuses(reason):
            vault.contract.transact("change", what, subject, value, sender=vault.owner)
    vault.loosen(POOL, pools["WETH/USDC-3000"].address, 1)
    vault.loosen(VENUE, uniswap.router02.address, PLAIN)
    assert vault.call("allowed", POOL, pools["WETH/USDC-3000"].address) == 1
    assert vault.call("allowed", VENUE, uniswap.router02.address) == PLAIN


@pytest.mark.parametrize("what", [VENUE, POOL, HEDGER])
def test_allowing_waits_and_forbidding_does_not(vault: VaultInUse, what: int) -> None:
    subject = {VENUE: vault.world.uniswap.router.address, POOL: vault.pool.address, HEDGER: vault.hedger}[what]
    vault.contract.transact("change", what, subject, 0, sender=vault.owner)
    assert vault.call("allowed", what, subject) == 0
    vault.contract.transact("change", what, subject, 1, sender=vault.owner)
    assert vault.call("allowed", what, subject) == 0
    assert scheduled(vault, what, subject) > vault.now_s


def test_a_guardian_is_appointed_at_once_and_dismissed_after_the_delay(vault: VaultInUse) -> None:
    vault.contract.transact("change", GUARDIAN, vault.bob, 1, sender=vault.owner)
    vault.contract.transact("pause", sender=vault.bob)
    vault.contract.transact("change", GUARDIAN, vault.guardian, 0, sender=vault.owner)
    vault.contract.transact("pause", sender=vault.guardian)
    vault.world.anvil.warp(2 * DAY_S)
    vault.contract.transact("apply", GUARDIAN, vault.guardian, sender=vault.owner)
    with vault.refuses("pause: not a guardian"):
        vault.contract.transact("pause", sender=vault.guardian)
    vault.contract.transact("pause", sender=vault.owner)


@pytest.mark.parametrize("who", ["guardian", "hedger", "alice", "thief"])
def test_only_the_owner_changes_anything(vault: VaultInUse, who: str) -> None:
    person = getattr(vault, who)
    for name, args in (
        ("change", (4, NOBODY, 1)),
        ("apply", (4, NOBODY)),
        ("unpause", ()),
        ("rescue", (vault.asset.address, person)),
        ("offer_ownership", (person,)),
    ):
        with vault.refuses("owner: not the owner"):
            vault.contract.transact(name, *args, sender=person)


def test_ownership_moves_in_two_steps(vault: VaultInUse) -> None:
    with vault.refuses("owner: not offered to the caller"):
        vault.contract.transact("take_ownership", sender=vault.owner)
    vault.contract.transact("offer_ownership", vault.bob, sender=vault.owner)
    assert (vault.call("owner"), vault.call("heir")) == (vault.owner, vault.bob)
    with vault.refuses("owner: not offered to the caller"):
        vault.contract.transact("take_ownership", sender=vault.thief)
    vault.contract.transact("take_ownership", sender=vault.bob)
    assert (vault.call("owner"), vault.call("heir")) == (vault.bob, NOBODY)
    with vault.refuses("owner: not the owner"):
        vault.set_limit("trade_quote", 1)


def test_the_owner_rescues_what_came_uninvited_and_nothing_else(vault: VaultInUse) -> None:
    vault.deposit(vault.alice, 50_000 * USDC)
    vault.hedge(is_buy=True, base_wei=10**18)
    held = vault.held()
    vault.world.give(vault.address, USDC=7, WETH=2, USDT=3)
    for symbol, amount in (("USDC", 7 * USDC), ("WETH", 2 * 10**18), ("USDT", 3 * USDC)):
        vault.contract.transact("rescue", vault.world.tokens[symbol].address, vault.owner, sender=vault.owner)
        assert vault.world.balance(vault.owner, symbol) == amount
        vault.contract.transact("rescue", vault.world.tokens[symbol].address, vault.owner, sender=vault.owner)
        assert vault.world.balance(vault.owner, symbol) == amount
    assert (
        vault.held() == held == (vault.world.balance(vault.address, "USDC"), vault.world.balance(vault.address, "WETH"))
    )
