"""What somebody with the hedger's key cannot do: each bound of `hedge`, tried from the wrong side."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.chains.contracts import Reverted, selector_of, send, signature_of
from tests.chains.uniswap import MOST, NOBODY
from tests.chains.world import World
from tests.contracts.vaults import (
    BPS,
    GUARDIAN,
    HEDGER,
    HOUR_S,
    PLAIN,
    POOL,
    PX_ONE,
    TIMED,
    USDC,
    VENUE,
    WETH,
    VaultInUse,
    artifact,
    constructor_args,
    deploy_vault,
    hostile,
)  # fmt: skip

BUCKET_S = 600
NO_SUCH_ALLOWANCE = "STF"  # the router wanted more quote than the vault lets it have: the price is beyond the limit


@pytest.fixture
def vault(world: World) -> VaultInUse:
    """A vault with 200,000 USDC of Alice's in it."""
    return funded(world)


def funded(world: World, **options: Any) -> VaultInUse:
    made = deploy_vault(world, **options)
    made.deposit(made.alice, 200_000 * made.asset.call("decimals") // 6 * USDC)
    return made


def value_at(vault: VaultInUse, px: float) -> float:
    """Return what the vault holds at a price, in quote units."""
    quote, base = vault.held()
    return quote + base * px * USDC / WETH


@pytest.mark.parametrize("quote", ["USDC", "USDT"])  # on either side of WETH in the pool
def test_the_hedger_buys_and_sells_for_the_vault(world: World, quote: str) -> None:
    vault = funded(world, quote=quote)
    quoted = world.uniswap.quoter.call(
        "quoteExactOutputSingle", (vault.asset.address, vault.base.address, 3 * WETH, 500, 0)
    )
    paid = vault.hedge(is_buy=True, base_wei=3 * WETH)
    assert paid == quoted[0]
    assert vault.held() == (200_000 * USDC - paid, 3 * WETH)
    got = vault.hedge(is_buy=False, base_wei=2 * WETH)
    assert vault.held() == (200_000 * USDC - paid + got, WETH)
    assert vault.held() == (world.balance(vault.address, quote), world.balance(vault.address, "WETH"))
    assert vault.asset.call("allowance", vault.address, world.uniswap.router.address) == 0
    assert vault.base.call("allowance", vault.address, world.uniswap.router.address) == 0
    assert world.balance(vault.hedger, quote) == world.balance(vault.hedger, "WETH") == 0


@pytest.mark.parametrize("quote", ["USDC", "USDT"])
@pytest.mark.parametrize("px", [3000.0, 2731.77, 3460.2])
def test_prices_are_those_of_feed_and_average(world: World, quote: str, px: float) -> None:
    vault = funded(world, quote=quote)
    vault.set_px(px)
    is_good, oracle_px, low_px, high_px = vault.call("prices")
    assert (is_good, oracle_px) == (True, round(px * 10**8) * 10**10)
    window_s = vault.limit("twap_s")
    first, last = vault.pool.contract.call("observe", [window_s, 0])[0]
    tick = abs(last - first) // window_s * (1 if last >= first else -1)
    twap_px = vault.pool.px_of(round(1.0001 ** (tick / 2) * 2**96))
    assert (low_px, high_px) == pytest.approx(sorted([oracle_px, twap_px * PX_ONE]), rel=1e-9)


def test_the_other_router_is_spoken_to_in_its_own_way(vault: VaultInUse) -> None:
    router = vault.world.uniswap.router02.address
    vault.loosen(VENUE, router, PLAIN)
    vault.hedge(is_buy=True, base_wei=WETH, venue=router)
    vault.hedge(is_buy=False, base_wei=WETH, venue=router)
    assert vault.held()[1] == 0


# Who


@pytest.mark.parametrize("who", ["owner", "guardian", "alice", "thief"])
def test_nobody_else_hedges(vault: VaultInUse, who: str) -> None:
    with vault.refuses("hedge: not a hedger"):
        vault.hedge(is_buy=True, base_wei=WETH, sender=getattr(vault, who))


def test_a_hedger_is_dismissed_at_once_and_appointed_after_the_delay(vault: VaultInUse) -> None:
    vault.contract.transact("change", HEDGER, vault.hedger, 0, sender=vault.owner)
    with vault.refuses("hedge: not a hedger"):
        vault.hedge(is_buy=True, base_wei=WETH)
    vault.contract.transact("change", HEDGER, vault.bob, 1, sender=vault.owner)
    with vault.refuses("hedge: not a hedger"):
        vault.hedge(is_buy=True, base_wei=WETH, sender=vault.bob)
    vault.loosen(HEDGER, vault.bob, 1)
    vault.hedge(is_buy=True, base_wei=WETH, sender=vault.bob)


def test_the_key_of_the_hedger_opens_nothing_else(vault: VaultInUse) -> None:
    """Every function of the contract that changes something, called with the hedger's key."""
    vault.hedge(is_buy=True, base_wei=WETH)
    me, address, before = vault.hedger, vault.address, (vault.held(), vault.call("totalSupply"))
    hopeless: dict[str, tuple[tuple[Any, ...], str]] = {
        "pause": ((), "pause: not a guardian"),
        "unpause": ((), "owner: not the owner"),
        "change": ((4, NOBODY, MOST), "owner: not the owner"),
        "apply": ((4, NOBODY), "owner: not the owner"),
        "cancel": ((4, NOBODY), "cancel: not a guardian"),
        "rescue": ((vault.asset.address, me), "owner: not the owner"),
        "offer_ownership": ((me,), "owner: not the owner"),
        "take_ownership": ((), "owner: not offered to the caller"),
        "withdraw": ((1, me, vault.alice), "transfer: more shares than are approved"),
        "redeem": ((10**6, me, vault.alice), "transfer: more shares than are approved"),
        "redeem_in_kind": ((10**6, me, vault.alice), "transfer: more shares than are approved"),
        "transferFrom": ((vault.alice, me, 1), "transfer: more shares than are approved"),
        "transfer": ((vault.alice, 1), "transfer: more shares than are held"),
        "deposit": ((1, me), "balance too small"),
        "mint": ((10**6, me), "balance too small"),
    }
    harmless = {"approve", "settle", "hedge"}
    changing = {
        entry["name"]
        for entry in artifact()["abi"]
        if entry["type"] == "function" and entry["stateMutability"] not in {"view", "pure"}
    }
    assert changing == hopeless.keys() | harmless
    vault.asset.transact("approve", address, MOST, sender=me)
    for name, (args, reason) in hopeless.items():
        with vault.refuses(reason):
            vault.contract.transact(name, *args, sender=me)
    vault.contract.transact("settle", sender=me)
    assert (vault.held(), vault.call("totalSupply")) == before


# Where


def test_only_allowed_venues(vault: VaultInUse) -> None:
    robber = hostile(vault.world, "router", vault.world.uniswap.factory.address)
    for venue in (
        robber.address,
        vault.hedger,
        vault.asset.address,
        vault.address,
        vault.world.uniswap.router02.address,
    ):
        with vault.refuses("hedge: venue not allowed"):
            vault.hedge(is_buy=True, base_wei=WETH, venue=venue)
    assert robber.call("swaps") == 0


def test_only_allowed_pools(vault: VaultInUse) -> None:
    other = vault.world.pools["WETH/USDC-3000"]
    for pool in (other.address, vault.hedger, NOBODY):
        with vault.refuses("hedge: pool not allowed"):
            vault.hedge(is_buy=True, base_wei=WETH, pool=pool)
    vault.loosen(POOL, other.address, 1)
    cheap = vault.hedge(is_buy=True, base_wei=WETH)
    dear = vault.hedge(is_buy=True, base_wei=WETH, pool=other.address)
    assert dear > cheap  # it was that pool, with its fee of 30 bps instead of 5
    vault.contract.transact("change", POOL, other.address, 0, sender=vault.owner)
    with vault.refuses("hedge: pool not allowed"):
        vault.hedge(is_buy=True, base_wei=WETH, pool=other.address)


@pytest.mark.parametrize(
    ("short_by", "takes_extra", "is_buy", "reason"),
    [
        (1, 0, True, "hedge: less base than bought"),
        (1, 0, False, "hedge: got less than the limit"),
        (WETH, 0, True, "hedge: less base than bought"),  # takes all, gives nothing
        (0, 1, True, "allowance too small"),
        (0, 1, False, "allowance too small"),
    ],
)
def test_even_an_allowed_venue_cannot_steal(
    vault: VaultInUse, short_by: int, takes_extra: int, is_buy: bool, reason: str
) -> None:
    vault.hedge(is_buy=True, base_wei=2 * WETH)
    robber = hostile(vault.world, "router", vault.world.uniswap.factory.address)
    vault.world.give(robber.address, USDC=100_000, WETH=100)
    vault.loosen(VENUE, robber.address, TIMED)
    vault.hedge(is_buy=is_buy, base_wei=WETH, venue=robber.address)  # as long as it is honest
    robber.transact("set_theft", short_by, takes_extra)
    before = vault.held()
    with vault.refuses(reason):
        vault.hedge(is_buy=is_buy, base_wei=WETH, venue=robber.address)
    assert vault.held() == before


# At what price


@pytest.mark.parametrize(("is_buy", "reason"), [(True, NO_SUCH_ALLOWANCE), (False, "Too little received")])
def test_no_fill_beyond_the_limit_from_the_oracle(vault: VaultInUse, is_buy: bool, reason: str) -> None:
    vault.hedge(is_buy=True, base_wei=10 * WETH)
    sign = 1 if is_buy else -1
    vault.push_pool(3000 * (1 + sign * 0.0105))
    with vault.refuses(reason):
        vault.hedge(is_buy=is_buy, base_wei=WETH)
    vault.push_pool(3000 * (1 + sign * 0.0085))
    moved = vault.hedge(is_buy=is_buy, base_wei=WETH)
    assert sign * (moved / USDC - 3000) <= 30.0


@pytest.mark.parametrize(("is_buy", "reason"), [(True, NO_SUCH_ALLOWANCE), (False, "Too little received")])
def test_the_hedgers_own_limit_holds_where_it_is_tighter(vault: VaultInUse, is_buy: bool, reason: str) -> None:
    vault.hedge(is_buy=True, base_wei=WETH)
    with vault.refuses(reason):
        vault.hedge(is_buy=is_buy, base_wei=WETH, limit_quote=3000 * USDC)  # the pool's fee is beyond it
    vault.hedge(is_buy=is_buy, base_wei=WETH, limit_quote=3005 * USDC if is_buy else 2995 * USDC)


def test_tightening_the_slippage_holds_at_once(vault: VaultInUse) -> None:
    vault.set_limit("slippage_bps", 4)
    with vault.refuses(NO_SUCH_ALLOWANCE):
        vault.hedge(is_buy=True, base_wei=WETH)


Broken = Callable[[VaultInUse], object]
BROKEN: dict[str, Broken] = {
    "a second too old": lambda v: v.feed.transact("set_round", 3000 * 10**8, v.now_s, v.now_s - 3662),
    "zero": lambda v: v.feed.transact("set_answer", 0),
    "negative": lambda v: v.feed.transact("set_answer", -3000 * 10**8),
    "from the future": lambda v: v.feed.transact("set_round", 3000 * 10**8, v.now_s, v.now_s + 1000),
    "broken": lambda v: v.feed.transact("set_broken", True),
    "absurd": lambda v: v.feed.transact("set_answer", 2**255 - 1),
    "gone": lambda v: v.world.anvil.set_code(v.feed.address, b""),
    "2.1 % above the market": lambda v: v.feed.transact("set_answer", round(3000 * 1.021 * 10**8)),
    "2.1 % below the market": lambda v: v.feed.transact("set_answer", round(3000 * 0.979 * 10**8)),
    "13 % below the market": lambda v: v.feed.transact("set_answer", round(3000 * 0.87 * 10**8)),
    "while the pool is pushed": lambda v: v.push_pool(3000 * 1.0215),
    "while the pool is emptied": lambda v: v.push_pool(1.0),
    "without memory in the pool": lambda v: v.world.anvil.set_code(v.pool.address, b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_no_hedge_without_a_good_price(vault: VaultInUse, name: str) -> None:
    vault.hedge(is_buy=True, base_wei=WETH)
    BROKEN[name](vault)
    assert vault.call("prices") == (False, 0, 0, 0)
    for is_buy in (True, False):
        with vault.refuses("hedge: no good price"):
            vault.hedge(is_buy=is_buy, base_wei=WETH // 10)


def test_a_price_just_young_enough_and_just_near_enough_is_good(vault: VaultInUse) -> None:
    vault.feed.transact("set_round", round(3000 * 1.019 * 10**8), vault.now_s, vault.now_s - 3600)
    vault.hedge(is_buy=True, base_wei=WETH)


def test_a_frozen_oracle_does_not_help_who_pushes_the_pool_back_to_it(vault: VaultInUse) -> None:
    """The market is at 2,700, the oracle still says 3,000, and the thief makes the pool say so too."""
    vault.world.set_px(2700.0)
    vault.world.anvil.warp(vault.limit("twap_s") + 1)
    vault.feed.transact("set_answer", 3000 * 10**8)
    vault.push_pool(3000.0)
    with vault.refuses("hedge: no good price"):
        vault.hedge(is_buy=True, base_wei=WETH)
    vault.feed.transact("set_answer", 2700 * 10**8)
    vault.push_pool(2700.0)
    vault.hedge(is_buy=True, base_wei=WETH)


@pytest.mark.parametrize(("answer", "up_for_s", "is_good"), [(0, 7200, True), (1, 7200, False), (0, 3000, False)])
def test_on_a_rollup_the_sequencer_must_be_up_for_long(world: World, answer: int, up_for_s: int, is_good: bool) -> None:
    sequencer = world.feeds["sequencer"]
    vault = funded(world, sequencer=sequencer.address)
    sequencer.transact("set_round", answer, vault.now_s - up_for_s, vault.now_s)
    assert vault.call("prices")[0] is is_good


# When


@pytest.mark.parametrize("lag_blocks", [0, 5])
def test_a_fresh_decision_is_carried_out(vault: VaultInUse, lag_blocks: int) -> None:
    vault.hedge(is_buy=True, base_wei=WETH, decided_block=vault.world.anvil.block_number + 1 - lag_blocks)


@pytest.mark.parametrize(
    ("lag_blocks", "reason"),
    [
        (6, "hedge: decided too many blocks ago"),
        (-1, "hedge: decided on a block to come"),
        (-(2**255), "hedge: decided on a block to come"),
    ],
)
def test_a_decision_too_old_or_of_a_block_to_come_is_not(vault: VaultInUse, lag_blocks: int, reason: str) -> None:
    with vault.refuses(reason):
        vault.hedge(is_buy=True, base_wei=WETH, decided_block=vault.world.anvil.block_number + 1 - lag_blocks)


def test_the_deadline_is_the_last_second(vault: VaultInUse) -> None:
    at_s = vault.now_s + 30
    vault.world.anvil.rpc("evm_setNextBlockTimestamp", at_s)
    with vault.refuses("hedge: past its deadline"):
        vault.hedge(is_buy=True, base_wei=WETH, deadline_s=at_s - 1)
    vault.world.anvil.rpc("evm_setNextBlockTimestamp", at_s + 30)
    vault.hedge(is_buy=True, base_wei=WETH, deadline_s=at_s + 30)


# How much


def test_one_trade_has_a_cap(vault: VaultInUse) -> None:
    with vault.refuses("hedge: over the cap of one trade"):
        vault.hedge(is_buy=True, base_wei=50_001 * WETH // 3000)
    vault.hedge(is_buy=True, base_wei=50_000 * WETH // 3000)
    with vault.refuses("hedge: over the cap of one trade"):
        vault.hedge(is_buy=False, base_wei=50_001 * WETH // 3000)


@pytest.mark.parametrize("base_wei", [0, 2**256 - 1, 2**255])
def test_absurd_amounts(vault: VaultInUse, base_wei: int) -> None:
    for is_buy in (True, False):
        with pytest.raises(Reverted):
            vault.hedge(is_buy=is_buy, base_wei=base_wei)


def test_what_is_not_held_cannot_be_sold(vault: VaultInUse) -> None:
    vault.world.give(vault.address, WETH=5)  # a gift that is nobody's
    with vault.refuses("hedge: more base than is held"):
        vault.hedge(is_buy=False, base_wei=WETH)


def test_base_has_a_cap(vault: VaultInUse) -> None:
    vault.set_limit("base_bps", 1_000)
    vault.hedge(is_buy=True, base_wei=6 * WETH)
    with vault.refuses("hedge: too much base"):
        vault.hedge(is_buy=True, base_wei=WETH)
    vault.hedge(is_buy=False, base_wei=WETH)


def start_of_ten_minutes(vault: VaultInUse) -> int:
    """Go to just before ten minutes begin, the feed as of then; return when they begin."""
    at_s = (vault.now_s // BUCKET_S + 2) * BUCKET_S
    vault.world.anvil.rpc("evm_setNextBlockTimestamp", at_s - 100)
    vault.repeat_px()
    return at_s


@pytest.mark.parametrize("into_s", [0, 1, 300, 599])
def test_an_hour_has_a_cap_wherever_it_begins(world: World, into_s: int) -> None:
    """At the edges of what is counted together: a whole hour later all is free again only with its ten minutes."""
    vault = funded(world, hour_quote=30_000 * USDC, oracle_age_s=90_000)
    starts_s = start_of_ten_minutes(vault)
    at_s = starts_s + into_s
    world.anvil.rpc("evm_setNextBlockTimestamp", at_s)
    vault.hedge(is_buy=True, base_wei=10 * WETH)
    assert vault.call("used_this_hour") == 30_000 * USDC
    for later_s in (at_s + 1, at_s + 1800, at_s + HOUR_S - 1, at_s + HOUR_S, starts_s + HOUR_S + BUCKET_S - 1):
        if later_s > vault.now_s:
            world.anvil.rpc("evm_setNextBlockTimestamp", later_s)
            with vault.refuses("hedge: over the cap of an hour"):
                vault.hedge(is_buy=False, base_wei=10**15)
    world.anvil.rpc("evm_setNextBlockTimestamp", starts_s + HOUR_S + BUCKET_S)
    vault.hedge(is_buy=False, base_wei=10 * WETH)
    assert vault.call("used_this_hour") == 30_000 * USDC


def test_no_hour_of_a_greedy_key_is_over_the_cap(world: World) -> None:
    cap = 30_000 * USDC
    vault = funded(world, hour_quote=cap, oracle_age_s=90_000)
    draw = random.Random(4)
    now_s, done, refusals = start_of_ten_minutes(vault), [], 0
    for n in range(60):
        now_s += draw.choice([1, 299, 300, 301, 599, 600, 601, 1200, 3599])
        base_wei = draw.choice([1, 2, 4, 9]) * WETH
        world.anvil.rpc("evm_setNextBlockTimestamp", now_s)
        try:
            vault.hedge(is_buy=n % 2 == 0 or vault.held()[1] < base_wei, base_wei=base_wei)
            done.append((now_s, base_wei * 3000 * USDC // WETH))
        except Reverted:
            refusals += 1
        in_hour = sum(amount for at_s, amount in done if now_s - HOUR_S < at_s)
        assert in_hour <= vault.call("used_this_hour") <= cap
    assert len(done) > 15
    assert refusals > 10


def test_a_lower_cap_counts_what_was_done_before(vault: VaultInUse) -> None:
    vault.hedge(is_buy=True, base_wei=10 * WETH)
    vault.set_limit("hour_quote", 31_000 * USDC)
    with vault.refuses("hedge: over the cap of an hour"):
        vault.hedge(is_buy=True, base_wei=WETH)


def test_what_a_stolen_key_costs_in_an_hour_is_as_the_formula_says(vault: VaultInUse) -> None:
    """The thief has money without end: every trade of the vault is at the worst price that is allowed."""
    before, notional, slippage = value_at(vault, 3000.0), 0, vault.limit("slippage_bps") / BPS
    for n in range(20):
        is_buy = n % 2 == 0
        vault.push_pool(3000 * (1.0085 if is_buy else 0.9915))
        try:
            vault.hedge(is_buy=is_buy, base_wei=10 * WETH)
        except Reverted:
            break
        notional += 30_000 * USDC
    assert notional == vault.limit("hour_quote")
    lost = before - value_at(vault, 3000.0)
    worst = vault.limit("hour_quote") * slippage
    assert 0.8 * worst < lost <= worst


# Paused


def test_a_guardian_stops_all_hedges_at_once_and_only_the_owner_lets_them_go_on(vault: VaultInUse) -> None:
    vault.contract.transact("pause", sender=vault.guardian)
    with vault.refuses("hedge: paused"):
        vault.hedge(is_buy=True, base_wei=WETH)
    for who in (vault.guardian, vault.hedger, vault.thief):
        with vault.refuses("owner: not the owner"):
            vault.contract.transact("unpause", sender=who)
    vault.contract.transact("unpause", sender=vault.owner)
    vault.hedge(is_buy=True, base_wei=WETH)


# To whom, and other tricks with the calldata


def hedge_data(vault: VaultInUse) -> bytes:
    return vault.contract.encode(
        "hedge", vault.world.uniswap.router.address, vault.pool.address, True, WETH, MOST,
        vault.world.anvil.block_number, 2**64,
    )  # fmt: skip


def send_raw(vault: VaultInUse, data: bytes) -> dict[str, Any]:
    return send(vault.world.anvil, vault.hedger, to=vault.address, data=data, abi=vault.contract.abi)


def test_a_hedge_names_no_recipient_and_no_calldata() -> None:
    (hedge,) = (entry for entry in artifact()["abi"] if entry.get("name") == "hedge")
    assert signature_of(hedge) == "hedge(address,address,bool,uint256,uint256,uint256,uint256)"
    assert [part["name"] for part in hedge["inputs"] if part["type"] == "address"] == ["venue", "pool"]


def test_what_is_appended_to_a_hedge_changes_nothing(vault: VaultInUse) -> None:
    with vault.world.anvil.undone():
        vault.hedge(is_buy=True, base_wei=WETH)
        plain = vault.held()
    send_raw(vault, hedge_data(vault) + bytes.fromhex(vault.hedger[2:].rjust(64, "0")) * 4)
    assert vault.held() == plain
    assert vault.world.balance(vault.hedger, "WETH") == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data[:4],
        lambda data: data[:4] + b"\x01" + data[5:],  # dirt above an address
        lambda data: data[:36] + b"\xff" * 12 + data[48:],
        lambda data: data[: 4 + 95] + b"\x02" + data[4 + 96 :],  # neither true nor false
        lambda data: selector_of("hedge(address,address,bool,uint256,uint256,uint256,uint256,address)") + data[4:],
        lambda _: b"",
    ],
)
def test_spoilt_calldata_is_refused(vault: VaultInUse, spoil: Callable[[bytes], bytes]) -> None:
    before = vault.held()
    with pytest.raises(Reverted):
        send_raw(vault, spoil(hedge_data(vault)))
    assert vault.held() == before


def test_no_coins_are_taken(vault: VaultInUse) -> None:
    with pytest.raises(Reverted):
        send(vault.world.anvil, vault.hedger, to=vault.address, data=hedge_data(vault), value_wei=1)


# What is deployed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"slippage_bps": 501}, "change: over its ceiling"),
        ({"deviation_bps": 1001}, "change: over its ceiling"),
        ({"oracle_age_s": 90_001}, "change: over its ceiling"),
        ({"lag_blocks": 301}, "change: over its ceiling"),
        ({"delay_s": 86_399}, "change: delay too short"),
        ({"reserve_bps": 5_001}, "change: over its ceiling"),
    ],
)
def test_a_vault_with_limits_that_limit_nothing_is_not_deployed(
    world: World, change: dict[str, int], reason: str
) -> None:
    with pytest.raises(Reverted) as caught:
        deploy_vault(world, **change)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("place", "other", "reason"),
    [
        (6, "WETH/USDT-500", "change: not a pool of the pair"),
        (6, "WBTC/WETH-3000", "change: not a pool of the pair"),
        (7, "WETH/USDC-500", "change: venue of another factory"),  # a pool has a factory too, but another's
        (3, "WETH/USDC-500", "deploy: same tokens or no owner"),
    ],
)
def test_a_vault_of_other_peoples_pools_is_not_deployed(world: World, place: int, other: str, reason: str) -> None:
    from tests.chains.contracts import deploy

    args = constructor_args(world)
    args[place] = world.pools[other].address
    if place == 3:
        args[3] = args[2]
    if place == 7:
        args[7] = hostile(world, "router", world.trader).address
    built = artifact()
    with pytest.raises(Reverted) as caught:
        deploy(world.anvil, built["abi"], bytes.fromhex(built["bytecode"][2:]), *args)
    assert caught.value.reason == reason


def test_kinds_are_as_the_tests_say(vault: VaultInUse) -> None:
    router = vault.world.uniswap.router.address
    assert vault.call("allowed", VENUE, router) == TIMED
    assert vault.call("allowed", POOL, vault.pool.address) == 1
    assert vault.call("allowed", HEDGER, vault.hedger) == 1
    assert vault.call("allowed", GUARDIAN, vault.guardian) == 1
