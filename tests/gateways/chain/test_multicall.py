"""One request per block: against real pools, the generic coder, and answers no honest node gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.errors import Retryable, VenueFatal
from bot.gateways.chain.abi import Function, Undecodable, decode, encode, selector
from bot.gateways.chain.endpoints import Endpoints, to_block
from bot.gateways.chain.multicall import Multicall, decode_answers, encode_reads
from bot.gateways.chain.nouns import Read
from bot.gateways.chain.rpc import UnknownBlock
from bot.gateways.chain.settings import ChainSettings
from tests.chains.proxy import ChaosProxy
from tests.chains.world import World
from tests.gateways.chain.nodes import (
    ANSWERS_IN_NS,
    Answer,
    ManualClock,
    Scripted,
    header,
    passed_on,
    scripted,
    settings_of,
)

SLOT0 = Function("slot0()", "(uint160,int24,uint16,uint16,uint16,uint8,bool)")
BALANCE = Function("balanceOf(address)", "(uint256)")


@asynccontextmanager
async def reader(
    world: World, answer: Answer | None = None, **options: Any
) -> AsyncIterator[tuple[Multicall, Endpoints, Scripted]]:
    """Open a reader whose requests to the world's node go through one that counts them."""
    async with scripted(answer or passed_on(world.anvil.http_url)) as node:
        made = ChainSettings(venue="anvil", chain_id=31337, coin="ETH", http_urls=(node.url,), timeout_ns=ANSWERS_IN_NS)
        async with Endpoints(made, ManualClock()) as endpoints:
            yield Multicall(endpoints, world.multicall.address, **options), endpoints, node


async def test_one_block_is_one_request_whatever_is_read(world: World) -> None:
    slots = [SLOT0.read(pool.address) for pool in world.pools.values()]
    async with reader(world) as (multicall, endpoints, node):
        head = await endpoints.block("latest")
        for reads in (slots[:1], slots, slots * 40):
            node.asked.clear()
            answers = await multicall.read(head, reads)
            assert [name for name, _ in node.asked] == ["eth_call"]
            assert node.asked[0][1][1] == {"blockHash": head.block_hash}
            for read, answer in zip(reads, answers, strict=True):
                pool = next(pool for pool in world.pools.values() if pool.address == read.to)
                assert answer is not None
                assert SLOT0.decode(answer) == tuple(pool.contract.call("slot0"))


async def test_more_than_fits_goes_in_several_requests_of_the_same_block(world: World) -> None:
    reads = [BALANCE.read(world.tokens["USDC"].address, world.trader)] * 7
    async with reader(world, max_reads=3) as (multicall, endpoints, node):
        head = await endpoints.block("latest")
        node.asked.clear()
        answers = await multicall.read(head, reads)
        assert [answer and BALANCE.decode(answer) for answer in answers] == [(world.balance(world.trader, "USDC"),)] * 7
        assert [params[1] for _, params in node.asked] == [{"blockHash": head.block_hash}] * 3


async def test_a_read_that_reverts_is_none_and_only_that_one(world: World) -> None:
    usdc = world.tokens["USDC"].address
    reads = [BALANCE.read(usdc, world.trader), Read(usdc, b"\1\2\3\4"), BALANCE.read(usdc, world.hedger)]
    async with reader(world) as (multicall, endpoints, _):
        answers = await multicall.read(await endpoints.block("latest"), reads)
        assert answers[1] is None
        assert answers[2] == bytes(32)
        assert await multicall.read(await endpoints.block("latest"), []) == ()


async def test_answers_are_of_the_block_that_was_asked_about_though_the_chain_went_on(world: World) -> None:
    read = BALANCE.read(world.tokens["USDC"].address, world.hedger)
    async with reader(world) as (multicall, endpoints, _):
        before = await endpoints.block("latest")
        world.give(world.hedger, USDC=5.0)
        after = await endpoints.block("latest")
        assert await multicall.read(before, [read]) == (bytes(32),)
        assert await multicall.read(after, [read]) == ((5 * 10**6).to_bytes(32),)


async def test_a_block_that_no_node_knows_is_given_up_after_a_moment(world: World) -> None:
    async with reader(world) as (multicall, endpoints, node):
        head = await endpoints.block("latest")
        world.anvil.mine()
        world.anvil.reorg(2)
        node.asked.clear()
        with pytest.raises(UnknownBlock):
            await multicall.read(head, [SLOT0.read(world.pools["WETH/USDC-500"].address)])
        assert 3 < node.count("eth_call") < 12


async def test_a_head_whose_state_comes_a_moment_later_is_waited_for(world: World) -> None:
    real = passed_on(world.anvil.http_url)
    refusals = iter(range(3))

    def late(method: str, params: list[Any]) -> Any:
        if method == "eth_call" and next(refusals, None) is not None:
            return {"error": {"code": -32000, "message": "header for hash not found"}}
        return real(method, params)

    async with reader(world, late) as (multicall, endpoints, _):
        read = BALANCE.read(world.tokens["USDC"].address, world.hedger)
        assert await multicall.read(await endpoints.block("latest"), [read]) == (bytes(32),)


async def test_reads_that_fail_all_together_are_retryable_and_say_why(world: World) -> None:
    real = passed_on(world.anvil.http_url)
    error = {"error": {"code": -32000, "message": "out of gas"}}
    async with reader(world, lambda m, p: error if m == "eth_call" else real(m, p)) as (multicall, endpoints, _):
        with pytest.raises(Retryable, match=r"the 1 reads of block \d+ failed: out of gas"):
            await multicall.read(await endpoints.block("latest"), [BALANCE.read(world.hedger, world.hedger)])


async def test_no_multicall_at_the_address_is_fatal(world: World) -> None:
    async with reader(world) as (_, endpoints, _):
        nobody = Multicall(endpoints, world.hedger)
        with pytest.raises(VenueFatal, match=f"expected Multicall3 at {world.hedger}, found no code"):
            await nobody.read(await endpoints.block("latest"), [BALANCE.read(world.hedger, world.hedger)])


@pytest.mark.parametrize(
    "lie",
    [
        "0x1234",
        "0x" + 64 * "f",
        "0x" + encode("((bool,bytes)[])", [(True, b"")] * 4).hex(),
        "0x" + encode("((bool,bytes)[])", [(True, b""), (True, b"\7"), (True, b"")]).hex(),
        None,
    ],
)
async def test_an_answer_that_is_none_is_retryable(world: World, lie: str) -> None:
    real = passed_on(world.anvil.http_url)
    async with reader(world, lambda m, p: lie if m == "eth_call" else real(m, p)) as (multicall, endpoints, _):
        with pytest.raises(Retryable, match=r"cannot be decoded|expected 3 answers, found 4|for 0 of 7"):
            await multicall.read(await endpoints.block("latest"), [BALANCE.read(world.hedger, world.hedger)])


async def test_a_node_that_lies_about_a_state_is_found_by_an_audit(world: World) -> None:
    real = passed_on(world.anvil.http_url)
    now_s = world.anvil.timestamp_s.to_bytes(32)
    number = world.anvil.block_number.to_bytes(32)
    lie = "0x" + encode("((bool,bytes)[])", [(True, (10**18).to_bytes(32)), (True, now_s), (True, number)]).hex()
    async with scripted(lambda m, p: lie if m == "eth_call" else real(m, p)) as liar, scripted(real) as honest:
        made = ChainSettings(
            venue="anvil", chain_id=31337, coin="ETH", http_urls=(honest.url, liar.url), timeout_ns=ANSWERS_IN_NS
        )
        async with Endpoints(made, ManualClock()) as endpoints:
            multicall = Multicall(endpoints, world.multicall.address)
            head = await endpoints.block("latest")
            with pytest.raises(Retryable, match=r"no majority, nothing is believed") as caught:
                await multicall.audit(head, [BALANCE.read(world.tokens["USDC"].address, world.hedger)])
            assert all(node.url.rstrip("/") in str(caught.value) for node in (liar, honest))
            with pytest.raises(Retryable, match="nothing is believed"):
                await multicall.read(head, [BALANCE.read(world.tokens["USDC"].address, world.hedger)])


async def test_a_node_that_answers_with_the_state_it_has_is_found_out_and_another_asked(world: World) -> None:
    world.give(world.hedger, USDC=5.0)
    world.give(world.hedger, USDC=5.0)
    with ChaosProxy(world.anvil) as late, ChaosProxy(world.anvil) as good:
        late.state_lag_blocks = 1
        async with Endpoints(settings_of(world, http_urls=(late.http_url, good.http_url)), ManualClock()) as endpoints:
            multicall = Multicall(endpoints, world.multicall.address)
            head = await endpoints.block("latest")
            read = BALANCE.read(world.tokens["USDC"].address, world.hedger)
            assert await multicall.read(head, [read]) == ((10 * 10**6).to_bytes(32),)
            [problem] = endpoints.problems
            assert problem.startswith(
                f"{late.http_url}: asked about block {head.number} of time {head.timestamp_s}, it "
            )
            assert f"answers for {head.number - 1} of" in problem


@pytest.mark.parametrize(("number", "is_right"), [(100, True), (99, False), (101, False), (20_000_000, True)])
async def test_a_rollup_may_tell_its_contracts_the_number_of_another_chain(number: int, is_right: bool) -> None:
    block = to_block(header(100))
    told = [b"\7", block.timestamp_s.to_bytes(32), number.to_bytes(32)]
    answers = {"eth_chainId": "0x1", "eth_blockNumber": hex(100)}
    answers["eth_call"] = "0x" + encode("((bool,bytes)[])", [(True, word) for word in told]).hex()
    async with scripted(lambda method, _: answers[method]) as node:
        made = ChainSettings(venue="c", chain_id=1, coin="ETH", http_urls=(node.url,), timeout_ns=ANSWERS_IN_NS)
        async with Endpoints(made, ManualClock()) as endpoints:
            multicall = Multicall(endpoints, made.multicall)
            if is_right:
                assert await multicall.read(block, [Read(made.multicall, b"")]) == (b"\7",)
            else:
                with pytest.raises(Retryable, match=f"it answers for {number} of"):
                    await multicall.read(block, [Read(made.multicall, b"")])


ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


@given(st.lists(st.tuples(ADDRESSES, st.binary(max_size=100)), max_size=5))
def test_calldata_is_what_the_generic_encoder_writes(reads: list[tuple[str, bytes]]) -> None:
    expected = encode("((address,bool,bytes)[])", [(to, True, data) for to, data in reads])
    assert (
        encode_reads([Read(to, data) for to, data in reads])
        == selector("aggregate3((address,bool,bytes)[])") + expected
    )


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=100)), max_size=5), st.data())
def test_answers_are_what_the_generic_decoder_reads_and_cut_off_ones_are_refused(
    items: list[tuple[bool, bytes]], data: st.DataObject
) -> None:
    answer = encode("((bool,bytes)[])", items)
    assert decode("((bool,bytes)[])", answer) == (tuple(items),)
    assert decode_answers(answer) == [body if is_success else None for is_success, body in items]
    cut = answer[: data.draw(st.integers(0, len(answer) - 33))]
    if len(cut) < 64 or items:
        with pytest.raises(Undecodable):
            decode_answers(cut)


def test_an_address_that_is_none_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="expected an address of 20 bytes"):
        encode_reads([Read("0x12", b"")])


async def test_reads_of_several_sets_do_not_mix(world: World) -> None:
    usdc, weth = (world.tokens[name].address for name in ("USDC", "WETH"))
    async with reader(world) as (multicall, endpoints, _):
        head = await endpoints.block("latest")
        sets = [[BALANCE.read(usdc, world.trader)], [BALANCE.read(weth, world.trader)]]
        found = await asyncio.gather(*(multicall.read(head, reads) for reads in sets))
        assert [int.from_bytes(answer or b"") for [answer] in found] == [
            world.balance(world.trader, "USDC"),
            world.balance(world.trader, "WETH"),
        ]
