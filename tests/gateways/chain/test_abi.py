"""Calldata, answers, events and reverts against published values and against eth_abi's own generic coder."""

from __future__ import annotations

import eth_abi
import pytest
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from bot.gateways.chain.abi import (
    Event,
    Function,
    Undecodable,
    address_at,
    decode,
    encode,
    error_name,
    explain_revert,
    int_at,
    selector,
    split_types,
    to_bytes,
    to_int,
    topic,
    uint_at,
)
from bot.gateways.chain.nouns import Log

ALICE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # the first example of EIP-55
BOB = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"


def test_selectors_and_topics_are_the_published_ones() -> None:
    assert selector("transfer(address,uint256)").hex() == "a9059cbb"
    assert selector("balanceOf(address)").hex() == "70a08231"
    assert topic("Transfer(address,address,uint256)") == (
        "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    )


def test_calldata_of_the_abi_specification() -> None:
    # the example `baz(uint32,bool)` with (69, true)
    assert Function("baz(uint32,bool)").encode(69, True).hex() == (
        "cdcd77c0" + "45".rjust(64, "0") + "1".rjust(64, "0")
    )


def test_types_are_split_at_the_outer_commas_only() -> None:
    assert split_types("(address,(uint24,int24)[],bytes)") == ("address", "(uint24,int24)[]", "bytes")
    assert split_types("((address,bool,bytes)[])") == ("(address,bool,bytes)[]",)
    assert split_types("(uint8),(bool)") == ("(uint8)", "(bool)")
    assert split_types("()") == ()


def test_answers_come_back_with_checksummed_addresses_however_deep() -> None:
    types = "(address,(address,uint8)[],address[2])"
    data = encode(types, ALICE.lower(), [(BOB.lower(), 7)], [ALICE.lower(), BOB.lower()])
    assert decode(types, data) == (ALICE, ((BOB, 7),), (ALICE, BOB))


def test_an_empty_or_short_answer_is_undecodable() -> None:
    balance = Function("balanceOf(address)", "(uint256)")
    for data in (b"", b"\1" * 31):
        with pytest.raises(Undecodable, match=r"expected \(uint256\), found"):
            balance.decode(data)
        with pytest.raises(Undecodable):
            uint_at(data, 0)


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fit \(uint8\)"):
        encode("(uint8)", 256)
    with pytest.raises(ValueError, match=r"fit \(uint8\)"):
        encode("(uint8)", "seven")


@given(st.integers(0, 2**256 - 1), st.integers(-(2**255), 2**255 - 1), st.binary(min_size=20, max_size=20))
def test_single_words_are_read_as_the_generic_decoder_does(unsigned: int, signed: int, address: bytes) -> None:
    data = eth_abi.encode(["uint256", "int256", "address"], [unsigned, signed, address])
    assert (uint_at(data, 0), int_at(data, 1), address_at(data, 2)) == decode("(uint256,int256,address)", data)


def test_calldata_is_read_back_only_by_the_function_it_calls() -> None:
    transfer = Function("transfer(address,uint256)", "(bool)")
    data = transfer.encode(ALICE, 5)
    assert transfer.arguments(data) == (ALICE, 5)
    assert Function("approve(address,uint256)").arguments(data) is None
    assert transfer.read(BOB, ALICE, 5).to == BOB


SWAP = Event(
    "Swap(address indexed sender, address indexed recipient, int256 amount0, int256 amount1,"
    " uint160 sqrtPriceX96, uint128 liquidity, int24 tick)"
)


def test_an_event_is_decoded_by_name() -> None:
    assert SWAP.topic == "0xc42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67"  # Uniswap v3's
    words = tuple("0x" + eth_abi.encode(["address"], [a]).hex() for a in (ALICE, BOB))
    data = encode("(int256,int256,uint160,uint128,int24)", -5, 7, 2**100, 9, -200)
    log = Log(ALICE, (SWAP.topic, *words), data, 0)
    fields = SWAP.decode(log)
    assert fields == {
        "sender": ALICE,
        "recipient": BOB,
        "amount0": -5,
        "amount1": 7,
        "sqrtPriceX96": 2**100,
        "liquidity": 9,
        "tick": -200,
    }
    assert SWAP.all([log], ALICE.lower()) == [fields]
    assert SWAP.all([log], BOB) == []


def test_another_event_or_another_layout_of_topics_is_not_this_event() -> None:
    transfer = Event("Transfer(address indexed from, address indexed to, uint256 value)")
    words = tuple("0x" + eth_abi.encode(["address"], [a]).hex() for a in (ALICE, BOB))
    assert transfer.decode(Log(ALICE, (SWAP.topic, *words), b"", 0)) is None
    # an NFT's Transfer has the same first topic, and its third field indexed
    assert transfer.decode(Log(ALICE, (transfer.topic, *words, "0x" + "0" * 63 + "7"), b"", 0)) is None
    assert transfer.decode(Log(ALICE, (), b"", 0)) is None


def test_an_indexed_text_is_its_hash() -> None:
    named = Event("Named(string indexed name, uint256 n)")
    fields = named.decode(Log(ALICE, (named.topic, "0x" + keccak(text="x").hex()), encode("(uint256)", 1), 0))
    assert fields == {"name": keccak(text="x"), "n": 1}


SHORT = "InsufficientBalance(address,uint256)"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "reverted without a reason"),
        (selector("Error(string)") + encode("(string)", "Too little received"), "Too little received"),
        (selector("Error(string)") + encode("(string)", ""), "reverted with an empty reason"),
        (selector("Panic(uint256)") + encode("(uint256)", 0x11), "panic 0x11: arithmetic overflow or underflow"),
        (selector("Panic(uint256)") + encode("(uint256)", 0x99), "panic 0x99: unknown to Solidity"),
        (selector(SHORT) + encode("(address,uint256)", ALICE, 3), f"InsufficientBalance({ALICE}, 3)"),
        (selector("Other()"), f"reverted with an unknown error 0x{selector('Other()').hex()}"),
        (b"plain text reason", "plain text reason"),
    ],
)
def test_a_revert_is_told_in_words(data: bytes, said: str) -> None:
    assert explain_revert(data, [SHORT]) == said


def test_a_broken_revert_is_shown_whole() -> None:
    data = selector(SHORT) + b"\1"
    assert explain_revert(data, [SHORT]).startswith(f"reverted with 0x{data.hex()}, which cannot be decoded")


def test_the_error_of_a_revert_is_named() -> None:
    assert error_name(selector(SHORT) + encode("(address,uint256)", ALICE, 3), [SHORT]) == SHORT
    assert error_name(selector("Error(string)"), []) == "Error(string)"
    assert error_name(selector("Other()"), [SHORT]) == ""
    assert error_name(b"", [SHORT]) == ""


def test_what_nodes_write_in_hexadecimal_is_read_or_refused() -> None:
    assert to_bytes("0x0aff") == b"\x0a\xff"
    assert to_bytes("0x") == b""
    assert to_int("0x10") == 16
    for wrong in ("0xz", None, 5):
        with pytest.raises(Undecodable, match="expected a 0x-prefixed"):
            to_int(wrong)  # type: ignore[arg-type]
        with pytest.raises(Undecodable, match="expected 0x-prefixed"):
            to_bytes(wrong)  # type: ignore[arg-type]
