"""The state of one Uniswap v3 pool, block by block: which views of it to read, and what their answers make.

It is found in rounds: the price first, then the words of the tick bitmap around it, then ticks that are set in them.
Ticks are read only as far as trades may reach, some on either side of the price, and the window follows the price; a
state says where it ends. Everything in a state is of one block: a tick that was set since is not known until it is
read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import takewhile

from bot.gateways.chain.abi import Function, Undecodable, int_at, uint_at
from bot.gateways.chain.nouns import Read
from bot.pricing.uniswap_v3 import PoolState

SLOT0 = Function("slot0()", "(uint160,int24,uint16,uint16,uint16,uint8,bool)")
LIQUIDITY = Function("liquidity()", "(uint128)")
TICK_SPACING = Function("tickSpacing()", "(int24)")
TICK_BITMAP = Function("tickBitmap(int16)", "(uint256)")
TICKS = Function("ticks(int24)", "(uint128,int128,uint256,uint256,int56,uint160,uint32,bool)")

TICKS_AROUND = 4_000  # the bitmap, for a move of the price by a third down or half up
TICKS_READ = 24  # initialised ticks on either side of the price: in a pool full of them 2.4 % at 0.05 %
_TICKS_PER_WORD = 256
_FIXED_READS = 3
_MOST_TICK = 887_272
_MOST_PRICE = 1 << 160


class PoolWatch:
    """Watches one pool. `state` is that of the newest block, None while its answers were not enough for one."""

    def __init__(self, address: str, fee_pips: int, ticks_read: int = TICKS_READ) -> None:
        self.address = address
        self.fee_pips = fee_pips
        self.state: PoolState | None = None
        self._ticks_read = ticks_read
        self._words: tuple[int, ...] = ()
        self._ticks: tuple[int, ...] = ()
        self._reads: tuple[Read, ...] = (SLOT0.read(address), LIQUIDITY.read(address), TICK_SPACING.read(address))

    @property
    def reads(self) -> tuple[Read, ...]:
        """What to read with the next block."""
        return self._reads

    def update(self, answers: Sequence[bytes | None]) -> None:
        """Take in the answers to `reads`, which may be others afterwards; ones that cannot be are looked up anew."""
        self.state = None
        try:
            self._take(answers)
        except Undecodable:
            self._words = self._ticks = ()
            self._reads = self._reads[:_FIXED_READS]

    def _take(self, answers: Sequence[bytes | None]) -> None:
        told = [answer for answer in answers if answer is not None]
        if len(told) != len(self._reads):
            return  # not a pool, or not one yet
        sqrt_price_x96, tick, liquidity = uint_at(told[0], 0), int_at(told[0], 1), uint_at(told[1], 0)
        spacing = int_at(told[2], 0)
        if not (sqrt_price_x96 < _MOST_PRICE and abs(tick) <= _MOST_TICK and 0 < spacing <= _MOST_TICK):
            raise Undecodable(f"expected a pool, found tick {tick} of spacing {spacing} at {sqrt_price_x96}")
        n_words = len(self._words)
        bitmaps = told[_FIXED_READS : _FIXED_READS + n_words]
        initialised = [
            tick_set
            for word, answer in zip(self._words, bitmaps, strict=True)
            for tick_set in _set_ticks(word, uint_at(answer, 0), spacing)
        ]
        ticks = zip(self._ticks, told[_FIXED_READS + n_words :], strict=True)
        nets = {at: int_at(answer, 1) for at, answer in ticks}
        if sqrt_price_x96 == 0:
            return  # not initialised
        here = tick // spacing >> 8
        if here in self._words:
            self.state = self._state_of(sqrt_price_x96, tick, liquidity, spacing, initialised, nets)
        self._look_around(tick, spacing, here, initialised)

    def _state_of(
        self, sqrt_price_x96: int, tick: int, liquidity: int, spacing: int, initialised: list[int], nets: dict[int, int]
    ) -> PoolState:
        """Return the state with all ticks that are known around the price without a gap."""
        place = bisect_right(initialised, tick)
        below = list(takewhile(nets.__contains__, reversed(initialised[:place])))[::-1]
        above = list(takewhile(nets.__contains__, initialised[place:]))
        known = (*below, *above)
        unread = {}
        if len(below) < place:
            unread["unread_below"] = initialised[place - len(below) - 1]
        if place + len(above) < len(initialised):
            unread["unread_above"] = initialised[place + len(above)]
        return PoolState(
            sqrt_price_x96, tick, liquidity, self.fee_pips, spacing, known, tuple(nets[at] for at in known),
            self._words[0], self._words[-1], **unread,
        )  # fmt: skip

    def _look_around(self, tick: int, spacing: int, here: int, initialised: list[int]) -> None:
        """Choose what to read next: the words around the price, and the ticks nearest to it on either side."""
        around = -(-TICKS_AROUND // (_TICKS_PER_WORD * spacing))
        words = tuple(range(here - around, here + around + 1))
        place = bisect_right(initialised, tick)
        ticks = tuple(initialised[max(0, place - self._ticks_read) : place + self._ticks_read])
        if (words, ticks) != (self._words, self._ticks):
            self._words, self._ticks = words, ticks
            self._reads = (*self._reads[:_FIXED_READS], *_reads_of(self.address, words, ticks))


def _reads_of(address: str, words: Iterable[int], ticks: Iterable[int]) -> Iterable[Read]:
    yield from (TICK_BITMAP.read(address, word) for word in words)
    yield from (TICKS.read(address, tick) for tick in ticks)


def _set_ticks(word: int, bitmap: int, spacing: int) -> list[int]:
    """Return the initialised ticks of a word of the bitmap, lowest first."""
    found = []
    while bitmap:
        lowest = bitmap & -bitmap
        found.append(((word << 8) + lowest.bit_length() - 1) * spacing)
        bitmap ^= lowest
    return found
