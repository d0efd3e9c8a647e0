"""What a place in a block costs (EIP-1559), and what may be paid for it. Wei, exactly; knows no node and no clock.

The base fee of the next block follows from this one's header; every further block can raise it by an eighth at most.
Tips are what others paid lately (`eth_feeHistory`), with a floor, as empty blocks report 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from bot.domain.market import GasTier
from bot.gateways.chain.inclusion import TIERS, InclusionDelays
from bot.gateways.chain.nouns import Block
from bot.gateways.chain.settings import FeeSettings

WEI: Final = 10**18
PLAIN_GAS: Final = 21_000  # of a transfer, which is what cancels are and what fills a nonce
HISTORY_BLOCKS: Final = 20
PERCENTILES: Final = (10.0, 50.0, 90.0)  # of the tips in a block, one per tier
_ELASTICITY: Final = 2
_MOST_RISE: Final = 8  # the base fee moves by an eighth at most
_BUMP: Final = (11, 10)  # nodes take a replacement that pays a tenth more, in both fees
_MAX_WAIT_BLOCKS: Final = 12


class Bid(msgspec.Struct, frozen=True, gc=False):
    """The two fees of a transaction."""

    max_fee_wei: int
    tip_wei: int


class FeeMarket(msgspec.Struct, frozen=True):
    """What blocks cost as of the newest one: the next base fee, exactly, how it moved, and the tips paid per tier.

    `growth_ratio` is the mean ratio of one block's base fee to that of the block before, over the history.
    """

    next_base_fee_wei: int
    growth_ratio: float
    tips_wei: tuple[int, ...]

    def tier_of(self, tip_wei: int) -> int:
        """Return the index of the dearest tier that a tip pays for, 0 if it pays for none."""
        return max((index for index, tip in enumerate(self.tips_wei) if tip <= tip_wei), default=0)

    def most_base_fee_wei(self, blocks: int) -> int:
        """Return the highest base fee possible when the `blocks`-th block from now is built (1 = the next)."""
        fee = self.next_base_fee_wei
        for _ in range(blocks - 1):
            fee += max(1, fee // _MOST_RISE)
        return fee


def next_base_fee_wei(block: Block) -> int:
    """Return the base fee of the block after `block` (EIP-1559, with the mainnet's constants)."""
    target = block.gas_limit // _ELASTICITY
    if target in {0, block.gas_used}:
        return block.base_fee_wei
    if block.gas_used > target:
        rise = block.base_fee_wei * (block.gas_used - target) // target // _MOST_RISE
        return block.base_fee_wei + max(1, rise)
    return block.base_fee_wei - block.base_fee_wei * (target - block.gas_used) // target // _MOST_RISE


def read_fee_market(history: Mapping[str, Any], block: Block, fees: FeeSettings) -> FeeMarket:
    """Return the fee market as an `eth_feeHistory` with `PERCENTILES` and the newest header tell it.

    A tier's tip is the median over the blocks that had transactions, at least the floor, and no less than a cheaper
    tier's. The answer's own guess of the next base fee is believed where a chain has other constants than the mainnet.
    """
    bases = [int(one, 16) for one in history.get("baseFeePerGas") or ()]
    rewards = [[int(one, 16) for one in row] for row in history.get("reward") or () if row]
    tips: list[int] = []
    for tier in range(len(PERCENTILES)):
        paid = sorted(row[tier] for row in rewards if len(row) == len(PERCENTILES) and any(row))
        median = paid[len(paid) // 2] if paid else 0
        tips.append(max(median, fees.min_tip_wei, tips[-1] if tips else 0))
    told = bases[-1] if bases and _is_of(history, block) else 0
    ratio = (bases[-1] / bases[0]) ** (1 / (len(bases) - 1)) if len(bases) > 1 and bases[0] > 0 and bases[-1] else 1.0
    return FeeMarket(told or next_base_fee_wei(block), ratio, tuple(tips))


def gas_quote(gas_units: int, fee_wei: int, coin_px: float) -> float:
    """Return what `gas_units` cost in quote money at a fee per unit and a price of the chain's coin."""
    return gas_units * fee_wei / WEI * coin_px


def make_tiers(
    market: FeeMarket, delays: InclusionDelays, fees: FeeSettings, gas_units: int, coin_px: float, block_s: float
) -> tuple[GasTier, ...]:
    """Return the tiers from cheap and slow to dear and fast; none while the base fee is above what may be paid.

    The fee limit of a tier holds through the blocks that one in twenty needs, as far as the cap allows.
    """
    tiers = []
    for tier, tip in enumerate(market.tips_wei):
        expected = market.next_base_fee_wei + tip
        if expected > fees.max_fee_wei:
            break
        blocks = min(_MAX_WAIT_BLOCKS, max(1, math.ceil(delays.p95_s(tier) / block_s)))
        max_fee = min(fees.max_fee_wei, market.most_base_fee_wei(blocks) + tip)
        cost = gas_quote(gas_units, expected, coin_px)
        tiers.append(GasTier(max_fee, tip, cost, delays.mean_s(tier), delays.p95_s(tier)))
    return tuple(tiers)


def bumped(bid: Bid) -> Bid:
    """Return the least that replaces `bid`: both fees a tenth more, rounded up, and a wei at least."""
    more, of = _BUMP
    return Bid(*(max(fee + 1, -(-fee * more // of)) for fee in (bid.max_fee_wei, bid.tip_wei)))


def replacement(
    bid: Bid, market: FeeMarket, fees: FeeSettings, gas_limit: int, coin_px: float | None, count: int | None
) -> Bid | str:
    """Return the bid that replaces `bid`, or in words why there is none now.

    It pays what the fast tier costs now if that is more than a tenth above, never beyond the caps in wei per gas and
    in quote money. `count` is how many replacements there were, None where that does not matter; without a price of
    the coin the cap in money cannot be checked and only the other two hold.
    """
    if count is not None and count >= fees.max_replacements:
        return f"waits: replaced {count} times already, the cap is {fees.max_replacements}"
    least = bumped(bid)
    most_fee = fees.max_fee_wei
    if coin_px is not None and coin_px > 0 and gas_limit > 0:
        most_fee = min(most_fee, math.floor(fees.max_gas_quote / coin_px * WEI / gas_limit))
    wanted = market.most_base_fee_wei(2) + market.tips_wei[-1]
    max_fee = max(least.max_fee_wei, min(wanted, most_fee))
    tip = min(max_fee, max(least.tip_wei, market.tips_wei[-1]))
    if max_fee > most_fee:
        return f"waits: a replacement must pay {gwei(max_fee)} gwei, the cap is {gwei(most_fee)} gwei"
    if max_fee < market.next_base_fee_wei:
        return f"waits: the base fee is {gwei(market.next_base_fee_wei)} gwei, the cap is {gwei(most_fee)} gwei"
    return Bid(max_fee, tip)


def gwei(wei: int) -> str:
    """Return an amount in gwei for people."""
    return f"{wei / 10**9:.6g}"


assert len(TIERS) == len(PERCENTILES)


def _is_of(history: Mapping[str, Any], block: Block) -> bool:
    """Tell whether the history's last block is `block`, so that its last base fee is the next one's."""
    oldest, count = history.get("oldestBlock"), len(history.get("gasUsedRatio") or ())
    return isinstance(oldest, str) and int(oldest, 16) + count - 1 == block.number
