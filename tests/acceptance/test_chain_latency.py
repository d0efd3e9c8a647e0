"""What a block costs in requests, and that each gets its hedge, through the real gateway, engine and desk on a chain.

How long that takes is measured where nothing else runs (docs/bench.md).
"""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.chain_latency import head_to_broadcast, requests_per_block
from tests.chains.world import World


async def test_five_pools_ask_no_more_of_a_node_than_one(world: World, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "five").mkdir()
    one = await requests_per_block(world, tmp_path / "one", 1)
    five = await requests_per_block(world, tmp_path / "five", 5)
    assert one["eth_call"] == 1
    assert five == one


async def test_every_block_gets_its_quotes_its_report_and_its_hedge_in_this_order(world: World, tmp_path: Path) -> None:
    took = await head_to_broadcast(world, tmp_path, blocks=8)
    assert len(took) == 8
    assert all(0 < one.quote_ns < one.report_ns < one.broadcast_ns for one in took)
