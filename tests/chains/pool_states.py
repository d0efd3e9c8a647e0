"""The state of a deployed pool, as the pricing wants it, read by the published TickLens."""

from __future__ import annotations

from bot.pricing.uniswap_v3 import PoolState
from tests.chains.uniswap import Pool, Uniswap


def read_pool(uniswap: Uniswap, pool: Pool, words: int = 6) -> PoolState:
    """Return the pool as of the newest block, with so many words of ticks on either side of the price."""
    slot0 = pool.contract.call("slot0")
    here = slot0.tick // pool.tick_spacing >> 8
    nets = {
        tick: net
        for word in range(here - words, here + words + 1)
        for tick, net, _ in uniswap.tick_lens.call("getPopulatedTicksInWord", pool.address, word)
    }
    return PoolState(
        sqrt_price_x96=slot0.sqrtPriceX96, tick=slot0.tick, liquidity=pool.contract.call("liquidity"),
        fee_pips=pool.fee_pips, tick_spacing=pool.tick_spacing,
        ticks=tuple(sorted(nets)), nets=tuple(nets[tick] for tick in sorted(nets)),
        low_word=here - words, high_word=here + words,
    )  # fmt: skip
