"""Several nodes as one: who is asked, who is left out, and what is said about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from bot.domain.errors import Retryable, VenueFatal
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import VenueHealth
from bot.gateways.chain.abi import Undecodable
from bot.gateways.chain.endpoints import Endpoints, to_block
from bot.gateways.chain.multicall import Multicall
from bot.gateways.chain.nouns import Read
from bot.gateways.chain.rpc import Reverted, RpcError, UnknownBlock
from bot.gateways.chain.settings import ChainSettings
from tests.chains.proxy import ChaosProxy
from tests.chains.world import World
from tests.gateways.chain.nodes import ANSWERS_IN_NS, ManualClock, Scripted, block_hash, header, scripted, settings_of
from tests.runtime.command_line import PATIENCE_S


class Honest:
    """What a scripted node says: a chain of blocks of one fork up to a height; `says` overrides single methods."""

    def __init__(self, height: int = 100, fork: str = "a", chain_id: int = 1, since: int = 0) -> None:
        self.height, self.fork, self.chain_id, self.since = height, fork, chain_id, since
        self.says: dict[str, Any] = {}

    def __call__(self, method: str, params: list[Any]) -> Any:
        if method in self.says:
            return self.says[method]
        if method == "eth_chainId":
            return hex(self.chain_id)
        if method == "eth_blockNumber":
            return hex(self.height)
        if method == "eth_getBlockByNumber":
            number = self.height if params[0] == "latest" else int(params[0], 16)
            return header(number, self.fork if number >= self.since else "a") if number <= self.height else None
        return {"error": {"code": -32601, "message": "the method does not exist"}}


@asynccontextmanager
async def nodes_of(
    *answers: Callable[[str, list[Any]], Any],
    clock: ManualClock | None = None,
    patience_ns: int = ANSWERS_IN_NS,
    **settings: Any,
) -> AsyncIterator[tuple[Endpoints, list[Scripted]]]:
    """Serve nodes and open them as one; all that give an answer have a vote, however long it takes."""
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(scripted(answer)) for answer in answers]
        made = ChainSettings(
            venue="mainnet",
            chain_id=1,
            coin="ETH",
            http_urls=tuple(node.url for node in nodes),
            **{"timeout_ns": ANSWERS_IN_NS, **settings},
        )
        endpoints = Endpoints(made, clock or ManualClock(), patience_ns=patience_ns)
        yield await stack.enter_async_context(endpoints), nodes


def name_of(node: Scripted) -> str:
    return node.url.rstrip("/")


async def test_the_first_of_the_well_is_asked_and_nobody_else() -> None:
    async with nodes_of(Honest(), Honest()) as (endpoints, nodes):
        for node in nodes:
            node.asked.clear()
        assert (await endpoints.block("latest")).block_hash == block_hash(100)
        assert [node.count("eth_getBlockByNumber") for node in nodes] == [1, 0]
        assert endpoints.health == (VenueHealth.UP, "")
        assert endpoints.problems == ()


async def test_a_node_of_another_chain_is_named_and_not_asked() -> None:
    async with nodes_of(Honest(chain_id=5), Honest()) as (endpoints, nodes):
        assert endpoints.problems == (f"{name_of(nodes[0])}: expected chain 1, found 5",)
        nodes[0].asked.clear()
        await endpoints.block("latest")
        await endpoints.check()
        assert nodes[0].asked == []


async def test_a_start_without_a_node_of_this_chain_is_fatal_and_without_any_answer_retryable() -> None:
    with pytest.raises(VenueFatal, match=r"mainnet: .*expected chain 1, found 5"):
        async with nodes_of(Honest(chain_id=5)):
            pass
    with pytest.raises(Retryable, match=r"no endpoint can be used: .*HTTP 503"):
        async with nodes_of(lambda *_: web.Response(status=503)):
            pass
    with pytest.raises(VenueFatal, match="no endpoint is configured"):
        async with nodes_of():
            pass


async def test_the_next_is_asked_when_one_fails_and_the_failed_one_only_by_the_check() -> None:
    clock, first = ManualClock(), Honest()
    async with nodes_of(first, Honest(), clock=clock) as (endpoints, nodes):
        first.says["eth_getBlockByNumber"] = lambda: web.Response(status=503)
        assert (await endpoints.block("latest")).number == 100
        assert endpoints.problems == (f"{name_of(nodes[0])}: HTTP 503",)
        nodes[0].asked.clear()
        clock.ns += 60 * NS_PER_S
        await endpoints.block("latest")
        assert nodes[0].asked == []  # no quote waits for it again
        del first.says["eth_getBlockByNumber"]
        await endpoints.check()
        assert endpoints.problems == ()
        await endpoints.block("latest")
        assert nodes[0].count("eth_getBlockByNumber") > 0


async def test_waits_double_and_a_wait_that_is_asked_for_is_kept() -> None:
    clock, only = ManualClock(), Honest()
    async with nodes_of(only, clock=clock) as (endpoints, nodes):
        only.says["eth_gasPrice"] = lambda: web.Response(status=429, headers={"Retry-After": "9"})
        with pytest.raises(Retryable, match=r"nobody answered eth_gasPrice: .*HTTP 429"):
            await endpoints.call("eth_gasPrice")
        nodes[0].asked.clear()
        clock.ns += 9 * NS_PER_S - 1
        await endpoints.check()
        with pytest.raises(Retryable, match="nobody answered"):
            await endpoints.block("latest")
        assert nodes[0].asked == []
        assert endpoints.health[0] is VenueHealth.DOWN
        clock.ns += 1
        await endpoints.check()
        assert endpoints.health == (VenueHealth.UP, "")


async def test_a_node_that_only_fails_at_what_matters_is_asked_ever_more_rarely() -> None:
    clock, first = ManualClock(), Honest()
    async with nodes_of(first, Honest(), clock=clock) as (endpoints, nodes):
        first.says["eth_call"] = lambda: web.Response(status=503)
        waits_ns = []
        for _ in range(4):
            with pytest.raises(RpcError):  # the second node's: its word is final
                await endpoints.call("eth_call")
            began_ns = clock.ns
            while endpoints.problems:
                clock.ns += 50 * NS_PER_MS
                await endpoints.check()
            waits_ns.append(clock.ns - began_ns)
        assert waits_ns == [250 * NS_PER_MS << n for n in range(4)]
        assert nodes[0].count("eth_call") == 4


async def test_a_header_that_is_none_is_no_answer() -> None:
    only = Honest()
    async with nodes_of(only) as (endpoints, _):
        only.says["eth_getBlockByNumber"] = {"number": "0x1"}
        with pytest.raises(Retryable, match="expected a block's header"):
            await endpoints.block(1)
        only.says["eth_getBlockByNumber"] = {"error": {"code": -32603, "message": "internal error"}}
        with pytest.raises(Retryable, match="eth_getBlockByNumber: internal error"):
            await endpoints.block(1)
        with pytest.raises(Retryable, match="eth_getCode: the method does not exist"):
            await endpoints.check_contracts({"one": "0x" + 40 * "1"})


async def test_one_failure_of_the_only_node_is_tried_again_and_many_wait() -> None:
    clock, only = ManualClock(), Honest()
    async with nodes_of(only, clock=clock) as (endpoints, nodes):
        only.says["eth_gasPrice"] = lambda: web.Response(status=503)
        for _ in range(10):
            with pytest.raises(Retryable, match="nobody answered"):
                await endpoints.call("eth_gasPrice")
        assert nodes[0].count("eth_gasPrice") == 3  # then only after a wait
        assert endpoints.health[0] is VenueHealth.DOWN
        assert "HTTP 503" in endpoints.health[1]
        clock.ns += NS_PER_S
        assert (await endpoints.block("latest")).number == 100


async def test_a_node_errors_word_is_final_and_a_null_asks_the_next() -> None:
    first = Honest()
    async with nodes_of(first, Honest()) as (endpoints, nodes):
        first.says["eth_call"] = {"error": {"code": 3, "message": "execution reverted", "data": "0x"}}
        with pytest.raises(Reverted):
            await endpoints.call("eth_call")
        with pytest.raises(RpcError, match="does not exist"):
            await endpoints.call("eth_none")
        assert nodes[1].count("eth_call") == 0
        first.height = 99
        assert (await endpoints.block(100)).number == 100
        with pytest.raises(UnknownBlock, match="found nothing"):
            await endpoints.block(101)
        assert endpoints.problems == ()


async def test_a_node_that_lacks_the_block_passes_the_call_on() -> None:
    first, second = Honest(), Honest()
    async with nodes_of(first, second) as (endpoints, _):
        first.says["eth_call"] = {"error": {"code": -32000, "message": "header not found"}}
        second.says["eth_call"] = "0x07"
        assert await endpoints.call("eth_call") == "0x07"
        second.says["eth_call"] = first.says["eth_call"]
        with pytest.raises(UnknownBlock, match="header not found"):
            await endpoints.call("eth_call")


async def test_a_late_node_is_not_asked_until_it_has_caught_up() -> None:
    late = Honest(height=95)
    async with nodes_of(late, Honest(), max_lag_blocks=4) as (endpoints, nodes):
        assert endpoints.problems == (f"{name_of(nodes[0])}: 5 blocks behind, at 95",)
        nodes[0].asked.clear()
        await endpoints.block("latest")
        assert nodes[0].asked == []
        late.height = 96
        await endpoints.check()
        assert endpoints.problems == ()


async def test_the_only_node_is_late_when_heads_come_from_elsewhere() -> None:
    async with nodes_of(Honest()) as (endpoints, _):
        endpoints.saw(104)
        await endpoints.check()
        assert endpoints.health[0] is VenueHealth.DOWN
        assert "4 blocks behind, at 100" in endpoints.health[1]
        with pytest.raises(Retryable, match="4 blocks behind"):
            await endpoints.block("latest")


async def test_one_against_two_is_left_out_and_named_until_it_agrees() -> None:
    liar = Honest(fork="b", since=90)
    async with nodes_of(liar, Honest(), Honest()) as (endpoints, nodes):
        [problem] = endpoints.problems
        assert problem.startswith(
            f"{name_of(nodes[0])}: has {block_hash(97, 'b')[:10]}… at block 97, where 2 of 3 have"
        )
        assert (await endpoints.block(97)).block_hash == block_hash(97)
        assert endpoints.health == (VenueHealth.UP, "")
        liar.fork = "a"
        await endpoints.check()
        assert endpoints.problems == ()


async def test_of_two_that_disagree_nothing_is_believed() -> None:
    one = Honest(fork="b", since=90)
    async with nodes_of(one, Honest()) as (endpoints, nodes):
        health, reason = endpoints.health
        assert health is VenueHealth.DOWN
        assert all(name_of(node) in reason for node in nodes)
        assert "at block 97: no majority, nothing is believed" in reason
        for node in nodes:
            node.asked.clear()
        with pytest.raises(Retryable, match="nothing is believed"):
            await endpoints.block("latest")
        assert [node.asked for node in nodes] == [[], []]
        one.fork = "a"
        await endpoints.check()
        assert endpoints.health == (VenueHealth.UP, "")
        assert (await endpoints.block("latest")).number == 100


async def test_a_dispute_is_not_settled_by_one_of_the_two_going_away() -> None:
    one = Honest(fork="b", since=90)
    async with nodes_of(one, Honest()) as (endpoints, _):
        one.says["eth_blockNumber"] = lambda: web.Response(status=503)
        await endpoints.check()
        with pytest.raises(Retryable, match="nothing is believed"):
            await endpoints.block("latest")


async def test_a_fork_of_the_tip_costs_the_block_and_not_the_nodes() -> None:
    one = Honest(fork="b", since=99)
    async with nodes_of(one, Honest()) as (endpoints, nodes):
        assert endpoints.health == (VenueHealth.UP, "")  # compared at 97, where they agree
        with pytest.raises(Retryable, match="at block 100: no majority") as caught:
            await endpoints.confirm(to_block(header(100)))
        assert all(name_of(node) in str(caught.value) for node in nodes)
        assert "at block 100: no majority" in endpoints.problems[0]
        await endpoints.confirm(to_block(header(98)))
        assert endpoints.problems == ()


async def test_a_block_that_the_majority_has_is_confirmed_and_who_has_another_is_left_out() -> None:
    liar = Honest(fork="b", since=99)
    async with nodes_of(Honest(), liar, Honest()) as (endpoints, nodes):
        await endpoints.confirm(to_block(header(100)))
        assert endpoints.problems[0].startswith(f"{name_of(nodes[1])}: has")
        with pytest.raises(Retryable, match=r"expected block 100 to be .* found .*: a reorg, or the source of heads"):
            await endpoints.confirm(to_block(header(100, "b")))


async def test_a_block_nobody_knows_yet_is_nobodys_lie() -> None:
    async with nodes_of(Honest(), Honest()) as (endpoints, _):
        await endpoints.confirm(to_block(header(101)))
        assert endpoints.problems == ()


async def test_a_slow_second_opinion_is_not_waited_for() -> None:
    gate = asyncio.Event()
    honest, slow = Honest(), Honest()

    async def late() -> Any:
        await gate.wait()

    async with nodes_of(honest, slow, timeout_ns=10 * ANSWERS_IN_NS, patience_ns=10 * NS_PER_MS) as (endpoints, _):
        slow.says["eth_getBlockByNumber"] = late
        async with asyncio.timeout(PATIENCE_S):
            await endpoints.confirm(to_block(header(100)))
        gate.set()


async def test_another_answer_to_the_same_pinned_call_is_a_lie() -> None:
    answers = [Honest(), Honest(), Honest()]
    for honest, answer in zip(answers, ("0x01", "0x02", "0x01"), strict=True):
        honest.says["eth_call"] = answer
    async with nodes_of(*answers) as (endpoints, nodes):
        await endpoints.audit({"to": "0x1", "data": "0x"}, block_hash(97))
        [problem] = endpoints.problems
        assert problem.startswith(f"{name_of(nodes[1])}: has")
        assert "to a call at block" in problem
        answers[1].says["eth_call"] = "0x01"
        await endpoints.check()
        assert endpoints.problems == ()


async def test_of_two_answers_to_the_same_pinned_call_none_is_believed_until_they_agree() -> None:
    answers = [Honest(), Honest()]
    for honest, answer in zip(answers, ("0x01", "0x02"), strict=True):
        honest.says["eth_call"] = answer
    async with nodes_of(*answers) as (endpoints, _):
        with pytest.raises(Retryable, match="no majority, nothing is believed"):
            await endpoints.audit({"to": "0x1", "data": "0x"}, block_hash(97))
        await endpoints.check()
        with pytest.raises(Retryable, match="nothing is believed"):
            await endpoints.call("eth_call")
        answers[1].says["eth_call"] = "0x01"
        await endpoints.check()
        assert await endpoints.call("eth_call") == "0x01"


async def test_a_broadcast_reaches_all_and_waits_for_the_first_that_takes_it() -> None:
    gate = asyncio.Event()
    refuses, takes, slow = Honest(), Honest(), Honest()
    refuses.says["eth_sendRawTransaction"] = {"error": {"code": -32000, "message": "nonce too low"}}
    takes.says["eth_sendRawTransaction"] = "0xabc"

    async def late() -> str:
        await gate.wait()
        return "0xabc"

    async with nodes_of(refuses, takes, slow, timeout_ns=10 * ANSWERS_IN_NS) as (endpoints, nodes):
        slow.says["eth_sendRawTransaction"] = late
        async with asyncio.timeout(PATIENCE_S):
            said = await endpoints.broadcast("eth_sendRawTransaction", ["0x00"])
        assert said[name_of(nodes[1])] == "0xabc"
        assert name_of(nodes[2]) not in said
        gate.set()


async def test_a_broadcast_nobody_takes_tells_every_reason() -> None:
    refuses, dead = Honest(), Honest()
    refuses.says["eth_sendRawTransaction"] = {"error": {"code": -32000, "message": "nonce too low"}}
    dead.says["eth_sendRawTransaction"] = lambda: web.Response(status=503)
    async with nodes_of(refuses, dead) as (endpoints, nodes):
        said = await endpoints.broadcast("eth_sendRawTransaction", ["0x00"])
        assert str(said[name_of(nodes[0])]) == "nonce too low (code -32000)"
        assert "HTTP 503" in str(said[name_of(nodes[1])])


async def test_two_addresses_of_one_host_have_two_names_and_no_keys() -> None:
    async with scripted(Honest()) as node:
        made = ChainSettings(
            venue="mainnet",
            chain_id=1,
            coin="ETH",
            http_urls=(node.url + "key-one", node.url + "key-two"),
            timeout_ns=ANSWERS_IN_NS,
        )
        node.answer = Honest(chain_id=2)
        with pytest.raises(VenueFatal) as caught:
            await Endpoints(made, ManualClock()).__aenter__()
        assert f"{node.url}*** #1: expected chain 1, found 2; {node.url}*** #2" in str(caught.value)
        assert "key-" not in str(caught.value)


async def test_a_contract_without_code_is_fatal_and_named(world: World) -> None:
    made = ChainSettings(
        venue="anvil", chain_id=31337, coin="ETH", http_urls=(world.anvil.http_url,), timeout_ns=ANSWERS_IN_NS
    )
    async with Endpoints(made, ManualClock()) as endpoints:
        await endpoints.check_contracts({"multicall": world.multicall.address})
        with pytest.raises(VenueFatal, match=f"found none at pool at {world.hedger}"):
            await endpoints.check_contracts({"multicall": world.multicall.address, "pool": world.hedger})
        found = await endpoints.block("latest")
        assert found == await endpoints.block(found.block_hash) == await endpoints.block(found.number)
        with pytest.raises(UnknownBlock):
            await endpoints.block("0x" + 64 * "1")


async def test_a_real_node_tells_an_unknown_block_from_a_revert(world: World) -> None:
    made = ChainSettings(
        venue="anvil", chain_id=31337, coin="ETH", http_urls=(world.anvil.http_url,), timeout_ns=ANSWERS_IN_NS
    )
    call = {"to": world.tokens["USDC"].address, "data": "0x12345678"}
    async with Endpoints(made, ManualClock()) as endpoints:
        with pytest.raises(UnknownBlock):
            await endpoints.call("eth_call", [call, {"blockHash": "0x" + 64 * "1"}])
        with pytest.raises(UnknownBlock):
            await endpoints.call("eth_call", [call, "0xffffff"])
        with pytest.raises(Reverted):
            await endpoints.call("eth_call", [call, "latest"])


async def test_of_two_real_nodes_the_late_one_is_not_asked(world: World) -> None:
    world.anvil.mine(10)
    with ChaosProxy(world.anvil) as late, ChaosProxy(world.anvil) as good:
        late.lag_blocks = 5
        async with Endpoints(settings_of(world, http_urls=(late.http_url, good.http_url)), ManualClock()) as endpoints:
            assert endpoints.problems == (f"{late.http_url}: 5 blocks behind, at {world.anvil.block_number - 5}",)
            assert (await endpoints.block("latest")).block_hash == world.anvil.block()["hash"]
            assert "eth_getBlockByNumber" not in late.faults.asked
            late.lag_blocks = 0
            await endpoints.check()
            assert endpoints.problems == ()


async def test_of_two_real_nodes_that_disagree_nothing_is_read(world: World) -> None:
    world.anvil.mine(10)
    with ChaosProxy(world.anvil) as one, ChaosProxy(world.anvil) as other:
        made = settings_of(world, http_urls=(one.http_url, other.http_url))
        async with Endpoints(made, ManualClock(), patience_ns=ANSWERS_IN_NS) as endpoints:
            multicall = Multicall(endpoints, world.multicall.address)
            head = await endpoints.block("latest")
            one.fork_from(head.number - 5)
            with pytest.raises(Retryable, match="no majority, nothing is believed"):
                await endpoints.confirm(head)
            await endpoints.check()
            with pytest.raises(Retryable) as caught:
                await multicall.read(head, [Read(world.tokens["USDC"].address, b"")])
            assert all(proxy.http_url in str(caught.value) for proxy in (one, other))
            assert not any("eth_call" in proxy.faults.asked for proxy in (one, other))
            assert endpoints.health[0] is VenueHealth.DOWN
            one.fork_from(None)
            await endpoints.check()
            assert await multicall.read(head, [Read(world.tokens["USDC"].address, b"")]) == (None,)
            assert endpoints.health == (VenueHealth.UP, "")


async def test_a_real_node_that_dies_is_left_out_until_it_is_back(world: World) -> None:
    clock = ManualClock()
    with ChaosProxy(world.anvil) as first, ChaosProxy(world.anvil) as second:
        urls = (first.http_url, second.http_url)
        async with Endpoints(settings_of(world, http_urls=urls), clock) as endpoints:
            first.die()
            assert (await endpoints.block("latest")).block_hash == world.anvil.block()["hash"]
            assert endpoints.problems[0].startswith(f"{first.http_url}: ")
            assert len(endpoints.problems) == 1
            first.revive()
            clock.ns += NS_PER_S
            await endpoints.check()
            assert endpoints.problems == ()


def test_a_header_is_read_or_refused() -> None:
    assert to_block(header(7)).parent_hash == block_hash(6)
    assert to_block({**header(7), "baseFeePerGas": None}).base_fee_wei == 0
    for wrong in ({}, None, {**header(7), "number": None}):
        with pytest.raises(Undecodable):
            to_block(wrong)
