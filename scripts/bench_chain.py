"""From a new head to the answers of everything read of its block, to quotes, and to a hedge at the node.

    scripts/bench chain

`head_to_broadcast` (tests/acceptance/chain_latency.py) runs a whole live vault: gateway, engine, journal and
transaction log on disk, signing. `head_to_answers` runs the parts that read: heads over a socket, the ring, nodes as
one, one Multicall3 pinned to the block's hash. The node is Anvil with the world of the tests in it; reads are `slot0`
of its pools, over and over.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from bot.domain.units import NS_PER_MS
from bot.gateways.chain.abi import Function
from bot.gateways.chain.blocks import BlockStream, HeadFeed
from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.multicall import Multicall
from bot.gateways.chain.nouns import Read
from bot.gateways.chain.settings import ChainSettings
from tests.acceptance.chain_latency import head_to_broadcast, requests_per_block
from tests.chains.world import World, open_world

BLOCKS: Final = 300
WARM_UP: Final = 20
PAUSE_S: Final = 0.005  # between blocks
READS: Final = (1, 10, 100, 500)
HEDGES: Final = 120
POOLS: Final = (1, 5)
TARGET_P50_MS: Final = 5.0
TARGET_BROADCAST_P50_MS: Final = 25.0
SLOT0: Final = Function("slot0()")


class MonotonicClock:
    """Tells the time that latencies are measured in."""

    def now_ns(self) -> int:
        """Return nanoseconds of the monotonic clock."""
        return time.perf_counter_ns()


async def head_to_answers(world: World, reads: Sequence[Read], *, nodes: int = 1, blocks: int = BLOCKS) -> list[int]:
    """Return how long each block took in ns, from having its head to having the answers to `reads`, confirmed.

    With more than one node the others confirm the block meanwhile, as in a live run.
    """
    settings = ChainSettings(
        venue="anvil",
        chain_id=31337,
        coin="ETH",
        http_urls=(world.anvil.http_url,) * nodes,
        ws_url=world.anvil.ws_url,
        multicall=world.multicall.address,
    )
    clock = MonotonicClock()
    took_ns: list[int] = []
    async with Endpoints(settings, clock) as endpoints:
        feed = HeadFeed(settings, endpoints, clock)
        stream = BlockStream(feed, endpoints)
        multicall = Multicall(endpoints, settings.multicall)
        running = asyncio.create_task(feed.run())
        try:
            await stream.next()
            for _ in range(WARM_UP + blocks):
                mining = asyncio.create_task(asyncio.to_thread(world.anvil.mine))
                step = await stream.next()
                await asyncio.gather(multicall.read(step.head, reads), endpoints.confirm(step.head))
                took_ns.append(clock.now_ns() - step.ts_recv_ns)
                await mining
                await asyncio.sleep(PAUSE_S)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return took_ns[WARM_UP:]


def summarise(took_ns: Sequence[int]) -> dict[str, float]:
    """Return the percentiles of a row, in milliseconds."""
    p50_ms, p99_ms = (float(value) for value in np.percentile(np.array(took_ns) / NS_PER_MS, [50, 99]))
    return {"p50_ms": round(p50_ms, 3), "p99_ms": round(p99_ms, 3)}


def measure(*, blocks: int = BLOCKS) -> dict[str, Any]:
    """Return the table: a row per number of reads, and one with a second node that confirms every block."""
    rows: list[dict[str, Any]] = []
    with open_world() as world:
        slots = [SLOT0.read(pool.address) for pool in world.pools.values()]
        for nodes, n_reads in [(1, n) for n in READS] + [(2, READS[-2])]:
            reads = (slots * (n_reads // len(slots) + 1))[:n_reads]
            took_ns = uvloop.run(head_to_answers(world, reads, nodes=nodes, blocks=blocks))
            rows.append({"nodes": nodes, "reads": n_reads, "blocks": len(took_ns), **summarise(took_ns)})
    return {"what": "new head to decoded answers", "target_p50_ms": TARGET_P50_MS, "rows": rows}


def measure_vault(*, hedges: int = HEDGES) -> dict[str, Any]:
    """Return how long a live vault takes from a head to its quotes, its report, and its hedge at the node."""
    with open_world() as world, tempfile.TemporaryDirectory() as folder:
        took = uvloop.run(head_to_broadcast(world, Path(folder), blocks=hedges))
    return {
        "what": "a live vault with a hedge in every block, from the head on",
        "blocks": len(took),
        "quote": {**summarise([one.quote_ns for one in took]), "target_p50_ms": TARGET_P50_MS},
        "report": summarise([one.report_ns for one in took]),
        "broadcast": {**summarise([one.broadcast_ns for one in took]), "target_p50_ms": TARGET_BROADCAST_P50_MS},
    }


def count_requests() -> dict[str, Any]:
    """Return what is asked of the node with one block, by how many pools are watched."""
    found: dict[str, Any] = {"what": "requests to the node with one block"}
    with open_world() as world:
        for n_pools in POOLS:
            with tempfile.TemporaryDirectory() as folder:
                asked = uvloop.run(requests_per_block(world, Path(folder), n_pools))
            found[f"{n_pools} pools"] = {"all": sum(asked.values()), **asked}
    return found


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # what is measured is on stdout
    print(json.dumps([measure_vault(), count_requests(), measure()], indent=2))
