"""Shares of a guarded vault: ERC-4626, rounding against whoever comes or goes, and the known ways to steal from one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chains.contracts import Contract, Reverted, deploy, type_of
from tests.chains.uniswap import MOST, NOBODY
from tests.chains.world import World
from tests.contracts.vaults import (
    HEDGER,
    PX_ONE,
    TIMED,
    USDC,
    VENUE,
    VIRTUAL_SHARES,
    WETH,
    VaultInUse,
    artifact,
    constructor_args,
    deploy_vault,
    hostile,
)  # fmt: skip

ODD = 12_345_678_901  # quote units that divide nothing


@pytest.fixture
def vault(world: World) -> VaultInUse:
    """An empty vault."""
    return deploy_vault(world)


@pytest.fixture
def invested(vault: VaultInUse) -> VaultInUse:
    """Alice's 150,000 USDC, a third of it in WETH, and a TWAP that stands still."""
    vault.deposit(vault.alice, 150_000 * USDC)
    vault.hedge(is_buy=True, base_wei=16 * WETH)
    vault.world.anvil.warp(vault.limit("twap_s") + 1)
    vault.repeat_px()
    return vault


def shares_of(vault: VaultInUse, who: str) -> int:
    return int(vault.call("balanceOf", who))


def balance(vault: VaultInUse, who: str) -> int:
    return int(vault.asset.call("balanceOf", who))


# The standard


def test_names_and_decimals(vault: VaultInUse) -> None:
    assert (vault.call("name"), vault.call("symbol")) == ("Evenkeel Guarded Vault", "ekUSDC")
    assert vault.call("asset") == vault.asset.address
    assert vault.call("decimals") == 12
    vault.deposit(vault.alice, 7 * USDC)
    assert shares_of(vault, vault.alice) == 7 * USDC * VIRTUAL_SHARES


def test_every_function_and_event_of_the_standard_is_there() -> None:
    def short(entry: dict[str, Any]) -> str:
        return f"{entry['name']}({','.join(type_of(part) for part in entry['inputs'])})"

    functions = {short(entry) for entry in artifact()["abi"] if entry["type"] == "function"}
    events = {short(entry) for entry in artifact()["abi"] if entry["type"] == "event"}
    assert functions >= {
        "asset()", "totalAssets()", "convertToShares(uint256)", "convertToAssets(uint256)", "maxDeposit(address)",
        "previewDeposit(uint256)", "deposit(uint256,address)", "maxMint(address)", "previewMint(uint256)",
        "mint(uint256,address)", "maxWithdraw(address)", "previewWithdraw(uint256)",
        "withdraw(uint256,address,address)", "maxRedeem(address)", "previewRedeem(uint256)",
        "redeem(uint256,address,address)", "totalSupply()", "balanceOf(address)", "transfer(address,uint256)",
        "transferFrom(address,address,uint256)", "approve(address,uint256)", "allowance(address,address)", "name()",
        "symbol()", "decimals()",
    }  # fmt: skip
    assert events >= {
        "Deposit(address,address,uint256,uint256)",
        "Withdraw(address,address,address,uint256,uint256)",
        "Transfer(address,address,uint256)",
        "Approval(address,address,uint256)",
    }


def test_previews_are_what_happens(invested: VaultInUse) -> None:
    vault, bob = invested, invested.bob
    vault.set_px(3071.0)
    vault.contract.transact("settle", sender=bob)
    shares = vault.call("previewDeposit", ODD)
    receipt = vault.deposit(bob, ODD)
    (event,) = vault.contract.events(receipt, "Deposit")
    assert event.args == {"sender": bob, "owner": bob, "assets": ODD, "shares": shares}
    assert shares_of(vault, bob) == shares
    assert (
        vault.call("previewMint", 10**16 + 1)
        == vault.contract.events(vault.contract.transact("mint", 10**16 + 1, bob, sender=bob), "Deposit")[0].args[
            "assets"
        ]
    )
    before = balance(vault, bob)
    burnt = vault.call("previewWithdraw", 1_000_000_001)
    receipt = vault.contract.transact("withdraw", 1_000_000_001, bob, bob, sender=bob)
    (event,) = vault.contract.events(receipt, "Withdraw")
    assert event.args == {"sender": bob, "receiver": bob, "owner": bob, "assets": 1_000_000_001, "shares": burnt}
    assert balance(vault, bob) == before + 1_000_000_001
    rest = shares_of(vault, bob)
    assets = vault.call("previewRedeem", rest)
    vault.contract.transact("redeem", rest, bob, bob, sender=bob)
    assert balance(vault, bob) == before + 1_000_000_001 + assets
    assert vault.held() == (balance(vault, vault.address), vault.base.call("balanceOf", vault.address))


def test_total_assets_count_base_at_the_lower_price(invested: VaultInUse) -> None:
    quote, base = invested.held()
    _, oracle_px, low_px, high_px = invested.call("prices")
    assert invested.call("totalAssets") == quote + base * low_px // (PX_ONE * 10**12)
    invested.feed.transact("set_answer", 3030 * 10**8)
    assert invested.call("prices")[2] < oracle_px * 1.001  # the average has not moved
    assert invested.call("totalAssets") <= quote + base * high_px // (PX_ONE * 10**12)
    invested.feed.transact("set_answer", 2970 * 10**8)
    assert invested.call("totalAssets") == quote + base * 2970 // 10**12


def test_who_enters_pays_the_higher_and_who_leaves_gets_the_lower_price(invested: VaultInUse) -> None:
    """A feed that lags by 1.5 % is nobody's gain."""
    invested.feed.transact("set_answer", 3045 * 10**8)
    before = balance(invested, invested.thief)
    invested.deposit(invested.thief, 100_000 * USDC)
    invested.feed.transact("set_answer", 2955 * 10**8)
    invested.contract.transact(
        "redeem", shares_of(invested, invested.thief), invested.thief, invested.thief, sender=invested.thief
    )
    assert balance(invested, invested.thief) < before


def test_what_max_says_works_and_one_more_does_not(invested: VaultInUse) -> None:
    vault, alice, bob = invested, invested.alice, invested.bob
    vault.set_limit("deposit_quote", 160_000 * USDC)
    room = vault.call("maxDeposit", bob)
    assert room == 160_000 * USDC - vault.call("totalAssets")
    with vault.refuses("enter: over the cap of deposits"):
        vault.deposit(bob, room + 1)
    vault.deposit(bob, room // 2)
    vault.contract.transact("mint", vault.call("maxMint", bob), bob, sender=bob)
    assert vault.call("maxDeposit", bob) <= 1
    vault.contract.transact("redeem", vault.call("maxRedeem", bob), bob, bob, sender=bob)
    assert shares_of(vault, bob) == 0
    most = vault.call("maxWithdraw", alice)
    assert most == vault.held()[0]  # she owns more, but the rest is WETH
    with vault.refuses("leave: not that much free quote; redeem_in_kind works"):
        vault.contract.transact("withdraw", most + 1, alice, alice, sender=alice)
    vault.contract.transact("withdraw", most - 1000 * USDC, alice, alice, sender=alice)
    assert 0 < vault.call("maxRedeem", alice) < shares_of(vault, alice)
    vault.contract.transact("redeem", vault.call("maxRedeem", alice), alice, alice, sender=alice)
    assert vault.held()[0] <= 1
    assert vault.call("maxRedeem", vault.thief) == vault.call("maxWithdraw", vault.thief) == 0


def test_nothing_is_given_for_nothing(invested: VaultInUse) -> None:
    alice = invested.alice
    for name, args, reason in (
        ("deposit", (0, alice), "enter: nothing to do"),
        ("mint", (0, alice), "enter: nothing to do"),
        ("redeem", (0, alice, alice), "leave: nothing to do"),
        ("withdraw", (0, alice, alice), "leave: nothing to do"),
        ("deposit", (1, NOBODY), "enter: bad receiver"),
        ("deposit", (1, invested.address), "enter: bad receiver"),
        ("redeem", (10**6, NOBODY, alice), "leave: bad receiver"),
        ("redeem_in_kind", (10**6, invested.address, alice), "leave: bad receiver"),
        ("transfer", (NOBODY, 1), "transfer: bad receiver"),
    ):
        with invested.refuses(reason):
            invested.contract.transact(name, *args, sender=alice)
    assert invested.contract.call("mint", 1, alice, sender=alice) == 1  # a share of a millionth of a unit costs one


def test_shares_move_as_tokens_do(invested: VaultInUse) -> None:
    vault, alice, bob = invested, invested.alice, invested.bob
    had = shares_of(vault, alice)
    vault.contract.transact("transfer", bob, 1000, sender=alice)
    vault.contract.transact("approve", bob, 300, sender=alice)
    vault.contract.transact("transferFrom", alice, bob, 200, sender=bob)
    assert (shares_of(vault, bob), vault.call("allowance", alice, bob)) == (1200, 100)
    for name, args in (
        ("transferFrom", (alice, bob, 101)),
        ("redeem", (101, bob, alice)),
        ("withdraw", (1, bob, alice)),
        ("redeem_in_kind", (101, bob, alice)),
    ):
        with vault.refuses("transfer: more shares than are approved"):
            vault.contract.transact(name, *args, sender=bob)
    vault.contract.transact("redeem_in_kind", 100, bob, alice, sender=bob)
    assert vault.call("allowance", alice, bob) == 0
    vault.contract.transact("approve", bob, 2**256 - 1, sender=alice)
    vault.contract.transact("transferFrom", alice, bob, 1, sender=bob)
    assert vault.call("allowance", alice, bob) == 2**256 - 1
    assert shares_of(vault, alice) == had - 1301
    assert vault.call("totalSupply") == shares_of(vault, alice) + shares_of(vault, bob)


# Without a good price, and paused


@pytest.mark.parametrize("is_paused", [False, True])
def test_without_a_good_price_one_leaves_in_kind_or_not_at_all(invested: VaultInUse, is_paused: bool) -> None:
    vault, alice = invested, invested.alice
    if is_paused:
        vault.contract.transact("pause", sender=vault.guardian)
    else:
        vault.feed.transact("set_round", 3000 * 10**8, vault.now_s, vault.now_s - 4000)
        for name in ("totalAssets", "convertToAssets", "convertToShares", "previewDeposit", "previewRedeem"):
            with pytest.raises(Reverted, match="vault: no good price"):
                vault.call(name, *([] if name == "totalAssets" else [10**6]))
    for name, args in (("deposit", (USDC, alice)), ("mint", (10**12, alice)), ("withdraw", (USDC, alice, alice)),
                       ("redeem", (10**12, alice, alice))):  # fmt: skip
        verb = "enter: paused" if name in {"deposit", "mint"} else "leave: paused; redeem_in_kind works"
        with vault.refuses(verb if is_paused else "vault: no good price"):
            vault.contract.transact(name, *args, sender=alice)
    for name in ("maxDeposit", "maxMint", "maxWithdraw", "maxRedeem"):
        assert vault.call(name, alice) == 0
    quote, base = vault.held()
    shares, supply, before = shares_of(vault, alice) // 3, vault.call("totalSupply"), balance(vault, alice)
    vault.contract.transact("redeem_in_kind", shares, alice, alice, sender=alice)
    got = balance(vault, alice) - before, vault.base.call("balanceOf", alice)
    assert got == (quote * shares // (supply + VIRTUAL_SHARES), base * shares // (supply + VIRTUAL_SHARES))
    assert got[0] > quote * 0.33
    assert got[1] > base * 0.33
    assert vault.held() == (quote - got[0], base - got[1])


def test_a_vault_of_quote_alone_needs_no_price(vault: VaultInUse) -> None:
    vault.feed.transact("set_broken", True)
    vault.deposit(vault.alice, 1000 * USDC)
    assert vault.call("totalAssets") == 1000 * USDC
    vault.contract.transact("withdraw", 999 * USDC, vault.alice, vault.alice, sender=vault.alice)


def test_leaving_in_kind_leaves_the_reserve_behind(invested: VaultInUse) -> None:
    vault = invested
    vault.set_px(3300.0)
    vault.contract.transact("settle", sender=vault.bob)
    reserve = vault.call("reserve")
    assert reserve > 400 * USDC
    vault.feed.transact("set_broken", True)
    vault.contract.transact(
        "redeem_in_kind", shares_of(vault, vault.alice), vault.alice, vault.alice, sender=vault.alice
    )
    assert vault.call("reserve") == reserve
    assert reserve <= vault.held()[0] <= reserve + 1


# Known ways to steal


def test_gifts_move_no_price(invested: VaultInUse) -> None:
    before = invested.call("totalAssets"), invested.share_px(), invested.call("maxWithdraw", invested.alice)
    invested.world.give(invested.address, USDC=1_000_000, WETH=1_000)
    assert (invested.call("totalAssets"), invested.share_px(), invested.call("maxWithdraw", invested.alice)) == before


@pytest.mark.parametrize("first", [1, 10, 1_000])
def test_the_first_depositor_cannot_take_from_the_second(vault: VaultInUse, first: int) -> None:
    """The inflation attack: a tiny first deposit, a large gift, and the victim's deposit rounds to nothing."""
    vault.deposit(vault.thief, first)
    vault.world.give(vault.address, USDC=100_000)
    vault.deposit(vault.alice, 50_000 * USDC)
    before = balance(vault, vault.thief)
    vault.contract.transact("redeem", shares_of(vault, vault.thief), vault.thief, vault.thief, sender=vault.thief)
    assert balance(vault, vault.thief) - before <= first
    assert vault.call("previewRedeem", shares_of(vault, vault.alice)) >= 50_000 * USDC - 1


def test_rounding_games_on_an_almost_empty_vault_gain_nothing(vault: VaultInUse) -> None:
    """In and out by amounts that round as badly as can be, forty times over: the thief only pays."""
    vault.deposit(vault.alice, 3)
    began = balance(vault, vault.thief)
    px = vault.share_px()
    for n in range(20):
        vault.contract.transact("mint", VIRTUAL_SHARES * (n % 3) + 1, vault.thief, sender=vault.thief)
        shares = shares_of(vault, vault.thief)
        vault.contract.transact("redeem", shares - shares // 3, vault.thief, vault.thief, sender=vault.thief)
        assert vault.share_px() >= px
        px = vault.share_px()
    vault.contract.transact("redeem", shares_of(vault, vault.thief), vault.thief, vault.thief, sender=vault.thief)
    assert balance(vault, vault.thief) <= began
    assert vault.call("previewRedeem", shares_of(vault, vault.alice)) >= 3


def reentries(vault: VaultInUse, me: str) -> dict[str, bytes]:
    """Return a call of every function there is, as somebody in the midst of another one would make it."""
    sample = {"address": me, "uint256": 1, "bool": True}
    return {
        entry["name"]: vault.contract.encode(entry["name"], *(sample[part["type"]] for part in entry["inputs"]))
        for entry in artifact()["abi"]
        if entry["type"] == "function"
    }


NO_LOCK_NEEDED = {
    "name",
    "symbol",
    "decimals",
    "asset",
    "ORACLE",
    "BASE",
    "SEQUENCER",
    "REFERENCE_POOL",
}  # never change


def vault_of_hostile_token(world: World) -> tuple[VaultInUse, Contract]:
    token = hostile(world, "token")
    pool = world.uniswap.create_pool(world.tokens["WETH"], token, 500, 3000.0)
    args = constructor_args(world)
    args[2], args[6] = token.address, pool.address
    built = artifact()
    contract = deploy(world.anvil, built["abi"], bytes.fromhex(built["bytecode"][2:]), *args)
    vault = VaultInUse(contract, world, token, world.tokens["WETH"], pool, world.feeds["ETH/USD"])
    for who in (vault.alice, token.address):
        token.transact("mint", who, 10**12)
    token.transact("approve", vault.address, MOST, sender=vault.alice)
    token.transact("do", token.address, token.encode("approve", vault.address, MOST))
    return vault, token


@pytest.mark.parametrize("outer", ["deposit", "redeem_in_kind"])
def test_a_token_that_calls_back_finds_every_door_locked(world: World, outer: str) -> None:
    """Views too: a price that is asked for between two steps would be wrong."""
    vault, token = vault_of_hostile_token(world)
    vault.deposit(vault.alice, 10**9)
    token.transact("do", vault.address, vault.contract.encode("deposit", 10**9, token.address))
    doors = {name: data for name, data in reentries(vault, token.address).items() if name not in NO_LOCK_NEEDED}
    assert len(doors) > 40
    open_outside, open_inside = set(), set()
    for name, data in doors.items():
        with world.anvil.undone():
            if token.call("do", vault.address, data):
                open_outside.add(name)
            token.transact("set_call_back", vault.address, data)
            args = (10**6, vault.alice) if outer == "deposit" else (10**9, vault.alice, vault.alice)
            vault.contract.transact(outer, *args, sender=vault.alice)
            assert token.call("calls_back") == 1
            if token.call("did_back_call_work"):
                open_inside.add(name)
    assert open_outside >= {
        "deposit",
        "redeem",
        "redeem_in_kind",
        "withdraw",
        "settle",
        "totalAssets",
        "convertToAssets",
    }
    assert open_inside == set()


def test_a_venue_that_calls_back_finds_every_door_locked(invested: VaultInUse) -> None:
    vault = invested
    robber = hostile(vault.world, "router", vault.world.uniswap.factory.address)
    vault.world.give(robber.address, USDC=100_000, WETH=100)
    vault.loosen(VENUE, robber.address, TIMED)
    vault.loosen(HEDGER, robber.address, 1)
    doors = {name: data for name, data in reentries(vault, robber.address).items() if name not in NO_LOCK_NEEDED}
    doors["hedge"] = vault.contract.encode(
        "hedge", robber.address, vault.pool.address, True, 10**15, MOST, vault.world.anvil.block_number, MOST
    )
    for name, data in doors.items():
        with vault.world.anvil.undone():
            robber.transact("set_call_back", vault.address, data)
            before = vault.held(), robber.call("swaps")
            vault.hedge(is_buy=True, base_wei=WETH, venue=robber.address)
            assert not robber.call("did_back_call_work"), name
            assert robber.call("back_answer") == b"", name  # refused by the lock, which gives no reason
            assert (vault.held()[1] - before[0][1], robber.call("swaps") - before[1]) == (WETH, 1), name


def test_a_token_that_takes_a_fee_is_found_out(world: World) -> None:
    vault, token = vault_of_hostile_token(world)
    vault.deposit(vault.alice, 10**9)
    token.transact("set_fee", 1)
    with vault.refuses("enter: not paid in full"):
        vault.deposit(vault.alice, 10**9)


def test_a_token_that_says_no_moves_no_shares(world: World) -> None:
    vault, token = vault_of_hostile_token(world)
    vault.deposit(vault.alice, 10**9)
    token.transact("set_refusing", True)
    with vault.refuses("enter: not paid"):
        vault.deposit(vault.alice, 10**9)
    with vault.refuses("leave: transfer refused"):
        vault.contract.transact("redeem", 10**12, vault.alice, vault.alice, sender=vault.alice)


def test_a_token_whose_transfers_answer_nothing_works(world: World) -> None:
    token = hostile(world, "silent_token")
    pool = world.uniswap.create_pool(world.tokens["WETH"], token, 500, 3000.0)
    args = constructor_args(world)
    args[2], args[6] = token.address, pool.address
    built = artifact()
    contract = deploy(world.anvil, built["abi"], bytes.fromhex(built["bytecode"][2:]), *args)
    vault = VaultInUse(contract, world, token, world.tokens["WETH"], pool, world.feeds["ETH/USD"])
    token.transact("mint", vault.alice, 10**9)
    token.transact("approve", vault.address, MOST, sender=vault.alice)
    vault.deposit(vault.alice, 10**9)
    vault.contract.transact("withdraw", 10**9, vault.alice, vault.alice, sender=vault.alice)
    assert token.call("balanceOf", vault.alice) == 10**9
