"""Contracts: encoding by name, answers by name, events, and what a revert says; and the world's own contracts."""

from __future__ import annotations

import pytest

from tests.chains.anvil import COIN
from tests.chains.contracts import (
    Contract,
    Reverted,
    address_of_creation,
    default_sender,
    explain,
    selector_of,
    signature_of,
)
from tests.chains.own_contracts import compiled
from tests.chains.uniswap import NOBODY
from tests.chains.world import AGE_S, PYTH_ETH, STETH_RATE, World, own

ERRORS = [
    {
        "type": "error",
        "name": "Expired",
        "inputs": [{"name": "at", "type": "uint256"}, {"name": "who", "type": "tuple", "components": [
            {"name": "owner", "type": "address"}, {"name": "flags", "type": "bool[]"},
        ]}],
    }
]  # fmt: skip


def test_reasons_of_reverts_are_put_in_words() -> None:
    text = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + (4).to_bytes(32, "big") + b"nope".ljust(32, b"\0")
    assert explain(text, []) == "nope"
    assert explain(bytes.fromhex("4e487b71") + (0x11).to_bytes(32, "big"), []) == "panic 0x11"
    assert explain(b"", []) == "no reason given"
    assert signature_of(ERRORS[0]) == "Expired(uint256,(address,bool[]))"
    words = [7, 64, 0, 64, 1, 1]
    data = selector_of("Expired(uint256,(address,bool[]))") + b"".join(word.to_bytes(32, "big") for word in words)
    assert explain(data, ERRORS) == f"Expired(7, ('{NOBODY}', (True,)))"
    assert explain(data, []) == "0x" + data.hex()


def test_functions_of_one_name_are_told_apart(world: World) -> None:
    abi = [
        {"type": "function", "name": "f", "inputs": [], "outputs": []},
        {"type": "function", "name": "f", "inputs": [{"name": "a", "type": "uint256"}], "outputs": []},
        {"type": "function", "name": "f", "inputs": [{"name": "a", "type": "address"}], "outputs": []},
    ]
    contract = Contract(world.anvil, NOBODY, abi)
    assert contract.encode("f") == selector_of("f()")
    assert contract.encode("f(uint256)", 1)[:4] == selector_of("f(uint256)")
    with pytest.raises(LookupError, match=r"expected one function f with 1 arguments, found \['f\(\)'"):
        contract.encode("f", 1)
    with pytest.raises(LookupError, match="expected one function g with 0 arguments, found none"):
        contract.encode("g")


def test_where_a_contract_comes_to_be_is_known_before(world: World) -> None:
    sender = default_sender(world.anvil)
    for _ in range(2):
        expected = address_of_creation(sender, world.anvil.nonce(sender))
        assert own(world.anvil, "pyth").address == expected
    # A well known one, of the first account of every Anvil.
    first = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert address_of_creation(first, 0) == "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def test_tokens_move_and_refuse(world: World) -> None:
    usdc = world.tokens["USDC"]
    world.give(world.hedger, USDC=5.0)
    receipt = usdc.transact("transfer", world.trader, 10**6, sender=world.hedger)
    (moved,) = usdc.events(receipt, "Transfer")
    assert moved.args == {"sender": world.hedger, "receiver": world.trader, "value": 10**6}
    with pytest.raises(Reverted, match="balance too small"):
        usdc.transact("transfer", world.trader, 4 * 10**6 + 1, sender=world.hedger)
    usdc.transact("approve", world.trader, 2 * 10**6, sender=world.hedger)
    usdc.transact("transferFrom", world.hedger, world.trader, 2 * 10**6, sender=world.trader)
    with pytest.raises(Reverted, match="allowance too small"):
        usdc.transact("transferFrom", world.hedger, world.trader, 1, sender=world.trader)
    assert world.balance(world.hedger, "USDC") == 2 * 10**6


def test_weth_is_the_coin_one_to_one(world: World) -> None:
    weth, owner = world.tokens["WETH"], world.hedger
    weth.transact("deposit", sender=owner, value_wei=3 * COIN)
    coins = world.anvil.balance(owner)
    receipt = weth.transact("withdraw", COIN, sender=owner)
    paid_wei = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    assert world.anvil.balance(owner) == coins + COIN - paid_wei
    assert world.balance(owner, "WETH") == 2 * COIN
    assert world.anvil.balance(weth.address) == weth.call("totalSupply")


def test_shares_gain_what_comes_to_the_pot(world: World) -> None:
    shares, usdc, owner = world.shares, world.tokens["USDC"], world.hedger
    world.give(owner, USDC=100.0)
    usdc.transact("approve", shares.address, 2**256 - 1, sender=owner)
    shares.transact("deposit", 100 * 10**6, owner, sender=owner)
    held = shares.call("balanceOf", owner)
    usdc.transact("mint", shares.address, 10 * 10**6)
    assert shares.call("convertToAssets", held) == pytest.approx(110 * 10**6, abs=2)
    shares.transact("redeem", held, owner, owner, sender=owner)
    assert world.balance(owner, "USDC") == pytest.approx(110 * 10**6, abs=2)
    assert shares.call("totalSupply") == 0
    with pytest.raises(Reverted, match="balance too small"):
        shares.transact("redeem", 1, owner, owner, sender=owner)


def test_wsteth_is_worth_its_rate(world: World) -> None:
    wsteth = world.tokens["wstETH"]
    assert wsteth.call("getStETHByWstETH", COIN) == STETH_RATE
    wsteth.transact("set_rate", 125 * COIN // 100)
    assert wsteth.call("stEthPerToken") == 125 * COIN // 100
    assert wsteth.call("tokensPerStEth") == 8 * COIN // 10


def test_feeds_say_what_they_are_told(world: World) -> None:
    feed = world.feeds["ETH/USD"]
    now_s = world.anvil.timestamp_s
    feed.transact("set_round", 2_500 * 10**8, now_s - 7_200, now_s - 7_000)
    round_id, answer, started_s, updated_s, answered_in = feed.call("latestRoundData")
    assert (answer, started_s, updated_s) == (2_500 * 10**8, now_s - 7_200, now_s - 7_000)
    assert answered_in == round_id
    assert feed.call("getRoundData", round_id - 1)[1] == 3_000 * 10**8
    feed.transact("set_broken", True)
    with pytest.raises(Reverted, match="feed is broken"):
        feed.call("latestRoundData")


def test_the_sequencer_is_up_for_long(world: World) -> None:
    _, answer, started_s, _, _ = world.feeds["sequencer"].call("latestRoundData")
    assert answer == 0
    assert world.anvil.timestamp_s - started_s >= AGE_S


def test_pyth_prices_have_age_and_confidence(world: World) -> None:
    world.set_pyth(2_900.0, conf=3.5, age_s=30)
    price, conf, exponent, published_s = world.pyth.call("getPriceUnsafe", PYTH_ETH)
    assert (price, conf, exponent) == (2_900 * 10**8, 35 * 10**7, -8)
    assert 30 <= world.anvil.timestamp_s - published_s < 60
    with pytest.raises(Reverted, match="StalePrice"):
        world.pyth.call("getPriceNoOlderThan", PYTH_ETH, 20)
    with pytest.raises(Reverted, match="PriceFeedNotFound"):
        world.pyth.call("getPriceUnsafe", b"\1" * 32)


def test_a_contract_is_compiled_once_for_what_its_sources_say() -> None:
    assert compiled("token") is compiled("token")
    assert {entry["name"] for entry in compiled("token").abi if entry["type"] == "function"} >= {"mint", "transfer"}
