"""The state of one Uniswap v3 pool, block by block: which views of it to read, and what their answers make.

Ticks are found in two rounds: the words of the bitmap around the price first, then the ticks that are set in them. A
pool is usable only while every set tick of the words around its price is known as of the same block.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from bot.gateways.chain.abi import Function, int_at, uint_at
from bot.gateways.chain.nouns import Read
from bot.pricing.uniswap_v3 import PoolState

SLOT0 = Function("slot0()", "(uint160,int24,uint16,uint16,uint16,uint8,bool)")
LIQUIDITY = Function("liquidity()", "(uint128)")
TICK_SPACING = Function("tickSpacing()", "(int24)")
TICK_BITMAP = Function("tickBitmap(int16)", "(uint256)")
TICKS = Function("ticks(int24)", "(uint128,int128,uint256,uint256,int56,uint160,uint32,bool)")

TICKS_AROUND = 4_000  # a move by half, up or down
_TICKS_PER_WORD = 256
_FIXED_READS = 3


class PoolWatch:
    """Watches one pool. `state` is that of the newest block whose answers were complete, None while there is none."""

    def __init__(self, address: str, fee_pips: int) -> None:
        self.address = address
        self.state: PoolState | None = None
        self.fee_pips = fee_pips
        self._words: tuple[int, ...] = ()
        self._ticks: tuple[int, ...] = ()

    @property
    def reads(self) -> tuple[Read, ...]:
        """What to read with the next block."""
        return (
            SLOT0.read(self.address),
            LIQUIDITY.read(self.address),
            TICK_SPACING.read(self.address),
            *(TICK_BITMAP.read(self.address, word) for word in self._words),
            *(TICKS.read(self.address, tick) for tick in self._ticks),
        )

    def update(self, answers: Sequence[bytes | None]) -> None:
        """Take in the answers to `reads`, which may be others afterwards."""
        if any(answer is None for answer in answers):
            self.state = None
            return
        told = [answer or b"" for answer in answers]
        sqrt_price_x96, tick = uint_at(told[0], 0), int_at(told[0], 1)
        liquidity, spacing = uint_at(told[1], 0), int_at(told[2], 0)
        words, n_words = self._words, len(self._words)
        bitmaps = [uint_at(answer, 0) for answer in told[_FIXED_READS : _FIXED_READS + n_words]]
        nets = {at: int_at(answer, 1) for at, answer in zip(self._ticks, told[_FIXED_READS + n_words :], strict=True)}
        here = (tick // spacing) >> 8
        around = -(-TICKS_AROUND // (_TICKS_PER_WORD * spacing))
        set_ticks = {word: _set_ticks(word, bitmap, spacing) for word, bitmap in zip(words, bitmaps, strict=True)}
        self._words = tuple(range(here - around, here + around + 1))
        self._ticks = tuple(at for word in self._words for at in set_ticks.get(word, ()))
        known = {word for word, ticks in set_ticks.items() if all(at in nets for at in ticks)}
        if here not in known or sqrt_price_x96 == 0:
            self.state = None
            return
        low = here - sum(1 for _ in takewhile(known.__contains__, range(here - 1, here - 1 - n_words, -1)))
        high = here + sum(1 for _ in takewhile(known.__contains__, range(here + 1, here + 1 + n_words)))
        ticks = tuple(at for word in range(low, high + 1) for at in set_ticks[word])
        self.state = PoolState(
            sqrt_price_x96, tick, liquidity, self.fee_pips, spacing, ticks, tuple(nets[at] for at in ticks), low, high
        )


def _set_ticks(word: int, bitmap: int, spacing: int) -> tuple[int, ...]:
    """Return the initialised ticks of a word of the bitmap, lowest first."""
    return tuple(((word << 8) + bit) * spacing for bit in range(_TICKS_PER_WORD) if bitmap >> bit & 1)
