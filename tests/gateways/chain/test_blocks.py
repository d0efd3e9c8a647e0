"""Heads and reorgs: on a real node, and on one that says what no real one says on demand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from bot.domain.errors import Retryable
from bot.domain.units import NS_PER_MS
from bot.gateways.chain.blocks import BlockStream, HeadFeed, ReorgTooDeep, Ring, Step
from bot.gateways.chain.endpoints import Endpoints, to_block
from bot.gateways.chain.nouns import Block
from bot.gateways.chain.settings import ChainSettings
from tests.chains.proxy import ChaosProxy
from tests.chains.world import World
from tests.gateways.chain.nodes import ANSWERS_IN_NS, ManualClock, Scripted, block_hash, header, scripted, until
from tests.runtime.command_line import PATIENCE_S


@asynccontextmanager
async def stream_of(
    http_urls: tuple[str, ...], ws_url: str, *, chain_id: int = 31337, ring: int = 64, **settings: Any
) -> AsyncIterator[tuple[BlockStream, HeadFeed]]:
    """Open a running stream of blocks."""
    made = ChainSettings(
        venue="anvil",
        chain_id=chain_id,
        coin="ETH",
        http_urls=http_urls,
        ws_url=ws_url,
        **{"timeout_ns": ANSWERS_IN_NS, "max_silence_ns": ANSWERS_IN_NS, **settings},
    )
    clock = ManualClock()
    async with Endpoints(made, clock) as endpoints:
        feed = HeadFeed(made, endpoints, clock)
        running = asyncio.create_task(feed.run())
        try:
            yield BlockStream(feed, endpoints, Ring(ring)), feed
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def stream_on(world: World, **options: Any) -> AsyncIterator[tuple[BlockStream, HeadFeed]]:
    """Open a stream on the world's node, its first head taken."""
    anvil = world.anvil
    async with stream_of((anvil.http_url,), anvil.ws_url, **options) as (stream, feed):
        async with asyncio.timeout(PATIENCE_S):
            await stream.next()
        yield stream, feed


async def step_to(stream: BlockStream, block: dict[str, Any]) -> list[Step]:
    """Return the steps up to and with a head."""
    steps: list[Step] = []
    async with asyncio.timeout(PATIENCE_S):
        while not steps or steps[-1].head.block_hash != block["hash"]:
            with contextlib.suppress(Retryable):
                steps.append(await stream.next())
    return steps


async def test_heads_are_pushed_and_the_blocks_between_filled_in(world: World) -> None:
    async with stream_on(world) as (stream, feed):
        assert feed.problem == ""
        for blocks in (1, 5, 40):
            before = stream.ring.newest
            assert before is not None
            world.anvil.mine(blocks)
            came = [block for step in await step_to(stream, world.anvil.block()) for block in step.came]
            assert [block.number for block in came] == [before.number + 1 + n for n in range(blocks)]
            assert came[0].parent_hash == before.block_hash
            assert came == [to_block(world.anvil.block(block.number)) for block in came]


async def test_a_slow_consumer_sees_only_the_newest_head_and_the_socket_is_never_held_up(world: World) -> None:
    async with stream_on(world) as (stream, feed):
        world.anvil.mine(30)
        newest = world.anvil.block()
        await until(lambda: feed._last_hash == newest["hash"])  # every head was read though nobody took one
        step = await stream.next()
        assert step.head.block_hash == newest["hash"]
        assert len(step.came) == 30
        world.anvil.mine()
        [step] = await step_to(stream, world.anvil.block())
        assert len(step.came) == 1


@pytest.mark.parametrize("depth", [1, 5])
async def test_a_reorg_is_seen_and_walked_back(world: World, depth: int) -> None:
    async with stream_on(world) as (stream, _):
        for _ in range(depth):
            world.give(world.hedger, USDC=1.0)  # a block with something in it: an empty one comes again as it was
        await step_to(stream, world.anvil.block())
        old = [to_block(world.anvil.block(world.anvil.block_number - n)) for n in range(depth + 1)]
        ancestor = old.pop()
        world.anvil.reorg(depth)
        world.anvil.mine()
        steps = await step_to(stream, world.anvil.block())
        reorg = steps[0].reorg
        assert reorg is not None
        assert reorg.gone == tuple(old)
        assert reorg.came == steps[0].came
        assert reorg.came[0].parent_hash == ancestor.block_hash
        came = [block for step in steps for block in step.came]
        assert came == [to_block(world.anvil.block(ancestor.number + 1 + n)) for n in range(depth + 1)]
        assert all(step.reorg is None for step in steps[1:])


async def test_a_chain_that_became_shorter_is_a_reorg_when_it_goes_on(world: World) -> None:
    async with stream_on(world) as (stream, _):
        world.anvil.mine(6)
        await step_to(stream, world.anvil.block())
        old = [to_block(world.anvil.block(world.anvil.block_number - n)) for n in range(3)]
        world.anvil.rpc("anvil_rollback", 3)
        world.anvil.warp(100)
        [step] = await step_to(stream, world.anvil.block())
        assert step.reorg is not None
        assert step.reorg.gone == tuple(old)
        assert len(step.reorg.came) == 1
        assert stream.ring.newest == step.head


async def test_a_reorg_deeper_than_the_ring_is_an_error_that_halts(world: World) -> None:
    async with stream_on(world, ring=4) as (stream, _):
        for _ in range(5):
            world.give(world.hedger, USDC=1.0)
        await step_to(stream, world.anvil.block())
        world.anvil.reorg(5)
        world.anvil.mine()
        with pytest.raises(ReorgTooDeep, match="does not descend from any of the 4 blocks we remember"):
            await step_to(stream, world.anvil.block())


async def test_a_gap_longer_than_the_ring_is_said_to_be_one(world: World) -> None:
    async with stream_on(world, ring=4) as (stream, feed):
        feed._endpoints.height = -1
        world.anvil.mine(20)
        newest = world.anvil.block()
        await until(lambda: feed._last_hash == newest["hash"])
        step = await stream.next()
        assert (step.has_gap, step.reorg) == (True, None)
        assert [block.number for block in step.came] == [step.head.number - n for n in (3, 2, 1, 0)]


async def test_without_a_socket_heads_are_asked_for(world: World) -> None:
    anvil = world.anvil
    async with stream_of((anvil.http_url,), "", block_ns=400 * NS_PER_MS) as (stream, feed):
        await stream.next()
        anvil.mine(2)
        steps = await step_to(stream, anvil.block())  # an answer may be of the moment between the two
        assert sum(len(step.came) for step in steps) == 2
        assert feed.problem == ""


@pytest.mark.parametrize("fault", ["cut", "frozen", "dead"])
async def test_a_socket_that_breaks_or_falls_silent_is_connected_anew(world: World, fault: str) -> None:
    with ChaosProxy(world.anvil) as proxy:
        urls = (proxy.http_url, world.anvil.http_url)
        options = {"block_ns": 400 * NS_PER_MS}
        if fault == "frozen":  # no chain of the others is ever silent for too long
            options["max_silence_ns"] = 300 * NS_PER_MS
        async with stream_of(urls, proxy.ws_url, **options) as (stream, feed):
            await stream.next()
            await until(lambda: proxy.subscriptions() == ["newHeads"])
            {"cut": proxy.cut_websockets, "frozen": proxy.freeze_websockets, "dead": proxy.die}[fault]()
            await until(lambda: feed.problem != "")
            world.anvil.mine(2)
            steps = await step_to(stream, world.anvil.block())  # asked for meanwhile, of the other node if need be
            assert sum(len(step.came) for step in steps) == 2
            proxy.revive()
            await until(lambda: feed.problem == "" and proxy.subscriptions() == ["newHeads"])
            world.anvil.mine()
            [step] = await step_to(stream, world.anvil.block())
            assert len(step.came) == 1


async def test_a_consumer_that_never_comes_holds_nothing_up(world: World) -> None:
    async with stream_on(world) as (stream, feed):
        for _ in range(3):
            world.anvil.mine(200)
            newest = world.anvil.block()
            await until(lambda newest=newest: feed._last_hash == newest["hash"])
        step = await stream.next()
        assert (step.head.block_hash, step.has_gap) == (newest["hash"], True)
        assert stream.ring.newest == step.head


# A node whose chain and socket a test steers.


class Chain:
    """Blocks by height, of which any may be replaced by another fork's."""

    def __init__(self, height: int) -> None:
        self.blocks = {number: header(number) for number in range(height + 1)}
        self.says: dict[str, Any] = {"eth_chainId": "0x1"}

    def fork(self, since: int, name: str) -> None:
        """Replace all blocks from `since` on."""
        for number in [number for number in self.blocks if number >= since]:
            self.blocks[number] = header(number, name, "a" if number == since else name)

    def grow(self, blocks: int = 1) -> dict[str, Any]:
        """Add blocks and return the last."""
        for _ in range(blocks):
            self.blocks[max(self.blocks) + 1] = header(max(self.blocks) + 1)
        return self.blocks[max(self.blocks)]

    def __call__(self, method: str, params: list[Any]) -> Any:
        if method in self.says:
            return self.says[method]
        if method == "eth_blockNumber":
            return hex(max(self.blocks))
        if method == "eth_getBlockByNumber":
            return self.blocks.get(max(self.blocks) if params[0] == "latest" else int(params[0], 16))
        return next((block for block in self.blocks.values() if block["hash"] == params[0]), None)


@asynccontextmanager
async def steered(
    chain: Chain, *, ws_path: str = "", **settings: Any
) -> AsyncIterator[tuple[BlockStream, HeadFeed, Scripted]]:
    """Open a stream on a scripted node."""
    async with (
        scripted(chain) as node,
        stream_of((node.url,), node.ws_url + ws_path, chain_id=1, **settings) as (stream, feed),
    ):
        async with asyncio.timeout(PATIENCE_S):
            await node.subscribed.wait()
            await stream.next()
        yield stream, feed, node


async def test_a_dead_socket_is_connected_anew_and_no_head_is_missed() -> None:
    chain = Chain(100)
    async with steered(chain, block_ns=400 * NS_PER_MS) as (stream, feed, node):
        node.subscribed.clear()
        await node.sockets[0].close()
        newest = chain.grow(3)  # while the socket is down: asked for meanwhile
        steps = await step_to(stream, newest)
        assert [block.number for step in steps for block in step.came] == [101, 102, 103]
        async with asyncio.timeout(PATIENCE_S):
            await node.subscribed.wait()
        newest = chain.grow()
        await node.push(newest)
        await step_to(stream, newest)
        assert feed.problem == ""


async def test_a_silent_socket_is_connected_anew() -> None:
    chain = Chain(100)
    async with steered(chain, max_silence_ns=100 * NS_PER_MS) as (_, feed, node):
        node.subscribed.clear()
        before = len(node.sockets)
        await until(lambda: "silent for 0.1 s" in feed.problem)
        async with asyncio.timeout(PATIENCE_S):
            await node.subscribed.wait()
        assert len(node.sockets) == before + 1


async def test_a_socket_that_is_behind_the_other_nodes_gives_way_to_asking() -> None:
    chain = Chain(100)
    async with steered(chain, max_lag_blocks=3, block_ns=400 * NS_PER_MS) as (stream, feed, node):
        chain.grow(5)
        await feed._endpoints.check()
        await node.push(chain.blocks[101])
        steps = await step_to(stream, chain.blocks[105])
        assert steps[-1].head.number == 105
        assert "4 blocks behind the other nodes" in feed.problem


async def test_a_socket_of_another_chain_is_not_listened_to() -> None:
    chain = Chain(100)
    async with scripted(Chain(100)) as node, scripted(chain) as other:
        other.chain_id = 5
        async with stream_of((node.url,), other.ws_url, chain_id=1) as (stream, feed):
            await stream.next()
            await until(lambda: feed.problem != "")
            assert feed.problem == f"{other.ws_url.rstrip('/')}: expected chain 1, found 5"


async def test_a_broken_message_or_a_refused_socket_is_named_without_the_key() -> None:
    chain = Chain(100)
    async with steered(chain, ws_path="s3cr3tk3y", block_ns=400 * NS_PER_MS) as (stream, feed, node):
        await node.push({"number": "none"})
        await until(lambda: "expected a 0x-prefixed hexadecimal number" in feed.problem)
        assert "s3cr3tk3y" not in feed.problem
        newest = chain.grow()
        await step_to(stream, newest)
    async with scripted(lambda *_: web.Response(status=403)) as refusing, scripted(Chain(5)) as node:
        refusing.refuses_sockets = True
        async with stream_of((node.url,), refusing.ws_url + "s3cr3tk3y", chain_id=1) as (stream, feed):
            await stream.next()
            await until(lambda: feed.problem != "")
            assert feed.problem == f"{refusing.ws_url}***: HTTP 403"


async def test_an_old_head_is_no_reorg() -> None:
    chain = Chain(100)
    async with steered(chain) as (stream, feed, node):
        newest = chain.grow(2)
        await node.push(newest)
        await step_to(stream, newest)
        await node.push(chain.blocks[100])  # a node that is behind was asked
        newest = chain.grow()
        await node.push(newest)
        [step] = await step_to(stream, newest)
        assert (step.reorg, len(step.came)) == (None, 1)
        assert feed.problem == ""


async def test_a_head_from_before_the_ring_is_not_taken_for_a_deep_reorg() -> None:
    chain = Chain(100)
    async with steered(chain, ring=4, max_lag_blocks=200) as (stream, _, node):
        await node.push(header(50, "b"))
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Retryable, match="behind block 100, which is still there"):
                await stream.next()
        newest = chain.grow()
        await node.push(newest)
        steps = await step_to(stream, newest)
        assert steps[-1].reorg is None


async def test_a_reorg_that_only_the_source_of_heads_has_is_not_believed() -> None:
    chain = Chain(100)
    async with steered(chain) as (stream, _, node):
        await node.push(header(100, "b", "a"))
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Retryable, match=r"expected block 100 to be .* another fork"):
                await stream.next()
        newest = chain.grow()
        await node.push(newest)
        steps = await step_to(stream, newest)
        assert (steps[-1].reorg, len(steps[-1].came)) == (None, 1)


async def test_a_reorg_behind_a_long_gap_is_found_by_number() -> None:
    chain = Chain(100)
    async with steered(chain, ring=4) as (stream, _, node):
        chain.fork(100, "b")
        for number in range(101, 121):
            chain.blocks[number] = header(number, "b")
        await node.push(chain.blocks[120])
        [step] = await step_to(stream, chain.blocks[120])
        assert step.has_gap
        assert step.reorg is not None
        assert [block.block_hash for block in step.reorg.gone] == [block_hash(100)]
        chain.fork(0, "c")
        for number in range(121, 141):
            chain.blocks[number] = header(number, "c")
        await node.push(chain.blocks[140])
        with pytest.raises(ReorgTooDeep, match="none of the 4 blocks we remember is still there"):
            await step_to(stream, chain.blocks[140])


async def test_a_head_whose_parents_cannot_be_had_is_kept_for_later() -> None:
    chain = Chain(100)
    async with steered(chain) as (stream, _, node):
        newest = chain.grow(2)
        missing = chain.blocks.pop(101)
        await node.push(newest)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Retryable, match="block 102 cannot be linked"):
                await stream.next()
        chain.blocks[101] = missing
        [step] = await step_to(stream, newest)
        assert [block.number for block in step.came] == [101, 102]


async def test_a_node_that_gives_another_block_than_was_asked_for_is_not_followed() -> None:
    chain = Chain(100)
    async with steered(chain) as (stream, _, node):
        chain.says["eth_getBlockByHash"] = header(99)
        await node.push(header(101, "b"))
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Retryable, match=r"expected block 100 .* found 99"):
                await stream.next()


async def test_a_reorg_right_after_the_start_is_walked_back_too() -> None:
    chain = Chain(100)
    async with steered(chain) as (stream, _, node):
        chain.fork(90, "b")
        newest = {**header(101, "b")}
        chain.blocks[101] = newest
        await node.push(newest)
        [step] = await step_to(stream, newest)
        assert step.reorg is not None
        assert [block.number for block in step.reorg.gone] == list(range(100, 89, -1))


def blocks(first: int, last: int, fork: str = "a", parent_fork: str = "") -> list[Block]:
    """Return linked blocks, the first of which may branch off."""
    return [to_block(header(number, fork, parent_fork if number == first else "")) for number in range(first, last + 1)]


def test_a_ring_keeps_the_newest_and_replaces_from_a_fork_on() -> None:
    ring = Ring(4)
    assert (ring.newest, ring.at(0), ring.above(0)) == (None, None, ())
    ring.put(blocks(1, 6))
    assert [block.number for block in ring.blocks] == [3, 4, 5, 6]
    assert (ring.at(2), ring.at(7)) == (None, None)
    ring.put(blocks(5, 5, "b", "a"))
    assert [block.block_hash for block in ring.blocks] == [block_hash(3), block_hash(4), block_hash(5, "b")]
    assert ring.above(3) == tuple(reversed(ring.blocks[1:]))
    ring.clear()
    assert ring.blocks == ()


@pytest.mark.parametrize(
    "wrong", [blocks(8, 8), blocks(7, 7, "b"), [*blocks(7, 7), *blocks(9, 9)], [*blocks(7, 7), *blocks(8, 8, "b")]]
)
def test_a_ring_takes_nothing_that_is_not_linked(wrong: list[Block]) -> None:
    ring = Ring(4)
    ring.put(blocks(1, 6))
    with pytest.raises(ValueError, match="expected a block on"):
        ring.put(wrong)
    assert ring.newest == blocks(6, 6)[0]
