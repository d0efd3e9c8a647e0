"""What trading would take for who has no key: fees as blocks tell them, expected delays, sizes of the pool alone."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import pytest

from bot.domain.errors import Retryable
from bot.domain.market import Quote
from bot.gateways.chain.fees import HISTORY_BLOCKS, PERCENTILES
from bot.gateways.chain.inclusion import InclusionDelays
from bot.gateways.chain.keyless import QUOTED_SLIPPAGE, FeeWatch, unbounded
from bot.gateways.chain.nouns import Block
from bot.gateways.chain.rpc import RpcError
from bot.gateways.chain.settings import ChainSettings
from tests.simulation.test_chain import POOL

GWEI = 10**9
BLOCK = Block(100, "0x64", "0x63", 1_700_000_000, 20 * GWEI, 15_000_000, 30_000_000)
SETTINGS = ChainSettings(venue="local", chain_id=1, coin="ETH", http_urls=("http://127.0.0.1:1",))
HISTORY = {
    "oldestBlock": hex(BLOCK.number - 1),
    "baseFeePerGas": [hex(18 * GWEI), hex(20 * GWEI), hex(21 * GWEI)],
    "gasUsedRatio": [0.5, 0.7],
    "reward": [[hex(GWEI), hex(2 * GWEI), hex(5 * GWEI)]] * 2,
}


class Answering:
    """A node that gives one answer, or fails with it, and keeps what it was asked."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[tuple[str, list[Any]]] = []

    async def call(self, method: str, params: list[Any]) -> Any:
        self.asked.append((method, params))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Carrying(NamedTuple):
    """What `unbounded` wants to know of a protocol."""

    depth_base: float
    instrument: Any = POOL


def quote(base: float = 1e-8) -> Quote:
    return Quote(POOL.instrument_id, 1_999.0, base, 2_001.0, base, 1, 1, 1)


async def test_fees_are_those_of_the_newest_block_and_delays_those_expected() -> None:
    node = Answering(HISTORY)
    watch = FeeWatch(SETTINGS, node)  # type: ignore[arg-type]  # it has all that is asked for
    assert watch.tiers(100_000) == ()
    watch.coin_px = 2_000.0
    await watch.read(BLOCK)
    assert node.asked == [("eth_feeHistory", [hex(HISTORY_BLOCKS), hex(BLOCK.number), list(PERCENTILES)])]
    tiers = watch.tiers(100_000)
    assert [tier.tip_wei for tier in tiers] == [GWEI, 2 * GWEI, 5 * GWEI]
    assert tiers[0].gas_quote == pytest.approx(100_000 * 22 * GWEI / 1e18 * 2_000.0)
    expected = InclusionDelays(12.0)
    assert [tier.delay_mean_s for tier in tiers] == [expected.mean_s(tier) for tier in range(3)]
    assert 0.0 < watch.reverts.fraction("local:WETH-USDC") < 0.1


@pytest.mark.parametrize("error", [Retryable("nobody answers"), RpcError(-32601, "no such method")])
async def test_while_nobody_tells_nothing_is_known(error: Exception) -> None:
    node = Answering(HISTORY)
    watch = FeeWatch(SETTINGS, node)  # type: ignore[arg-type]  # as above
    await watch.read(BLOCK)
    assert watch.market is not None
    node.answer = error
    await watch.read(BLOCK)
    assert watch.market is None
    assert watch.tiers(100_000) == ()


def test_sizes_are_those_that_cost_a_tenth_of_a_percent_whatever_the_funds() -> None:
    found = unbounded(quote(), Carrying(50_003.0))  # type: ignore[arg-type]  # it asks for no more
    assert found.bid_base == found.ask_base == pytest.approx(50.0)
    assert found.bid_base / 50_003.0 <= QUOTED_SLIPPAGE
    assert (found.bid_px, found.ask_px) == (1_999.0, 2_001.0)


def test_without_an_end_to_the_depth_sizes_are_large_and_less_than_a_lot_stays_as_quoted() -> None:
    assert unbounded(quote(), Carrying(inf)).ask_base == pytest.approx(1e9)  # type: ignore[arg-type]
    assert unbounded(quote(), Carrying(1.0)) == quote()  # type: ignore[arg-type]
