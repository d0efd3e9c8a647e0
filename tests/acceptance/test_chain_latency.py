"""What a block costs in requests and in time, through the real gateway, engine and desk on a local chain."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from bot.domain.units import NS_PER_MS
from tests.acceptance.chain_latency import head_to_broadcast, requests_per_block
from tests.chains.world import World

# Targets are a tenth of these (docs/bench.md); here the machine may have much else to do.
MOST_QUOTE_MS = 50.0
MOST_BROADCAST_MS = 250.0


async def test_five_pools_ask_no_more_of_a_node_than_one(world: World, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "five").mkdir()
    one = await requests_per_block(world, tmp_path / "one", 1)
    five = await requests_per_block(world, tmp_path / "five", 5)
    assert one["eth_call"] == 1
    assert five == one


async def test_every_block_gets_its_quotes_and_its_hedge_soon_after_its_head(world: World, tmp_path: Path) -> None:
    took = await head_to_broadcast(world, tmp_path, blocks=12)
    assert len(took) == 12
    assert all(0 < one.quote_ns < one.report_ns < one.broadcast_ns for one in took)
    assert median(one.quote_ns for one in took) < MOST_QUOTE_MS * NS_PER_MS
    assert median(one.broadcast_ns for one in took) < MOST_BROADCAST_MS * NS_PER_MS
