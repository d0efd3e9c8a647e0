"""One day of a mainnet pool, event by event, and the liquidity its ticks must have held when the day began.

Every log of the USDC/WETH 0.05 % pool on 2024-01-05 (see NOTICE), with nothing taken out but transaction hashes and
who swapped. The recording starts in the middle of the pool's life, so what lies at its ticks has to come from it:

- A swap says the liquidity at the price where it ended. Between two neighbouring multiples of the tick spacing that is
  one number, less what was minted and burned over them earlier in the day, and the first swap that ends there tells it.
  Thousands of later ones end there again, and must find the same.
- Three such segments were only ever crossed (CROSSED_ONLY). What lies in them was solved from what the first swap up
  and the first swap down through them paid and took, and the others that went through must agree. The lowest is known
  to the unit by that; of the other two, which are always crossed together, the sum is, and how it is shared to parts
  in 10^8: any share that far apart gives the recorded amounts to the unit.
- The price before the first swap is the one from which its input leads to its recorded price.

A tick that adds nothing and over which nobody minted that day is taken not to be initialised: that decides where a swap
is rounded, so the recorded amounts would show it if it were otherwise. Segments that no swap of the day reached are
taken to be empty, which no swap of the day can tell.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bot.pricing.tick_math import tick_at
from bot.pricing.uniswap_v3 import PIPS, PoolState, Swap, swap

FILE = Path(__file__).resolve().parents[1] / "data" / "uniswap_day.csv.gz"
FEE_PIPS, SPACING = 500, 10
WORD = 199_000 // SPACING >> 8  # the day stays within the ticks 197,120 to 199,679

CROSSED_ONLY = {198_980: 13730052713958902459, 199_320: 11158114075245958579, 199_330: 13694629791248325738}


@dataclass(frozen=True)
class Event:
    """A log of the pool: amounts as logged; a swap's price, liquidity and tick afterwards; a position's range."""

    kind: str
    amount0: int
    amount1: int
    sqrt_price_x96: int
    liquidity: int
    tick: int
    owner: str
    low_tick: int
    high_tick: int

    @property
    def is_zero_for_one(self) -> bool:
        """Tell whether token0 went in."""
        return self.amount0 > 0

    @property
    def added(self) -> int:
        """The liquidity a mint adds, below 0 for a burn."""
        return {"mint": self.liquidity, "burn": -self.liquidity}.get(self.kind, 0)

    @property
    def outcome(self) -> tuple[int, int, int, int, int]:
        """What a swap did: in, out, and price, tick and liquidity after."""
        taken, given = (self.amount0, self.amount1) if self.is_zero_for_one else (self.amount1, self.amount0)
        return taken, -given, self.sqrt_price_x96, self.tick, self.liquidity


def outcome_of(done: Swap) -> tuple[int, int, int, int, int]:
    """Return what a predicted swap does, as `Event.outcome` has it."""
    after = done.after
    return done.amount_in, done.amount_out, after.sqrt_price_x96, after.tick, after.liquidity


def events() -> list[Event]:
    """Return the day in the chain's order."""
    with gzip.open(FILE, "rt", encoding="ascii") as file:
        return [
            Event(
                row["kind"], int(row["amount0"]), int(row["amount1"]), int(row["sqrt_price_x96"] or 0),
                int(row["liquidity"] or 0), int(row["tick"] or 0),
                row["owner"], int(row["low_tick"] or 0), int(row["high_tick"] or 0),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


class Pool:
    """The pool as the day goes on: liquidity that was there in the morning by segment, and that added since by tick."""

    def __init__(self, morning: dict[int, int], state: PoolState) -> None:
        self.morning = morning
        self.added: dict[int, int] = defaultdict(int)
        self.gross: dict[int, int] = defaultdict(int)
        self.state = state
        self._read_ticks()

    def _read_ticks(self) -> None:
        low, high = min(self.morning), max(self.morning) + SPACING
        nets = {tick: self.morning.get(tick, 0) - self.morning.get(tick - SPACING, 0) + self.added[tick]
                for tick in range(low, high + 1, SPACING)}  # fmt: skip
        ticks = tuple(tick for tick, net in nets.items() if net or self.gross[tick] > 0)
        self.state = msgspec.structs.replace(self.state, ticks=ticks, nets=tuple(nets[tick] for tick in ticks))

    def add(self, event: Event) -> None:
        """Take in a mint or burn."""
        change = event.added
        for tick, net in ((event.low_tick, change), (event.high_tick, -change)):
            self.added[tick] += net
            self.gross[tick] += change
        if event.low_tick <= self.state.tick < event.high_tick:
            self.state = msgspec.structs.replace(self.state, liquidity=self.state.liquidity + change)
        self._read_ticks()


def kind_of(state: PoolState, event: Event) -> tuple[str, Swap] | None:
    """Return how a swap was asked for and what it does, None if nothing that can be asked for does what it did.

    A log does not tell, so each is tried: the input exactly, the output exactly, or anything up to the price.
    """
    taken, given, price, _, _ = event.outcome
    asked = (("in", taken, True, None), ("out", given, False, None), ("to price", 1 << 120, True, price))
    for name, amount, is_exact_in, limit in asked:
        if amount > 0 and price != state.sqrt_price_x96:
            done = swap(state, amount, is_zero_for_one=event.is_zero_for_one, is_exact_in=is_exact_in, limit_x96=limit)
            if outcome_of(done) == event.outcome:
                return name, done
    return None


def morning_liquidity(day: Sequence[Event]) -> dict[int, int]:
    """Return what every segment (by the tick it starts at) held in the morning, as the first swap to end there says."""
    added: dict[int, int] = defaultdict(int)
    found: dict[int, int] = {}
    for event in day:
        if event.kind == "swap":
            segment = event.tick // SPACING * SPACING
            since = sum(net for tick, net in added.items() if tick <= segment)
            found.setdefault(segment, event.liquidity - since)
        added[event.low_tick] += event.added
        added[event.high_tick] -= event.added
    return found


def opening_state(first: Event) -> PoolState:
    """Return the pool before its first swap, which put token1 in exactly."""
    net = first.amount1 * (PIPS - FEE_PIPS) // PIPS
    price = first.sqrt_price_x96 - (net << 96) // first.liquidity
    return PoolState(price, tick_at(price), first.liquidity, FEE_PIPS, SPACING, (), (), WORD, WORD)
