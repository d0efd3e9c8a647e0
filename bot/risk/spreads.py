"""Longs paired off with shorts, nearest in time first: what a spread between expiries is charged for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Pair(msgspec.Struct, frozen=True, gc=False):
    """An amount that is held long at `long` and short at `short`, places in what was paired off."""

    long: int
    short: int
    amount: float


def pair_off(amounts: Sequence[float], at: Sequence[float]) -> list[Pair]:
    """Return pairs of longs and shorts until one side is used up, those nearest to each other along `at` first.

    Amounts are signed. Equally near pairs go by place, so that the same book is always paired alike.
    """
    longs = [n for n, amount in enumerate(amounts) if amount > 0.0]
    shorts = [n for n, amount in enumerate(amounts) if amount < 0.0]
    if not longs or not shorts:
        return []
    left = list(amounts)
    near = [(abs(at[a] - at[b]), a, b) for a in longs for b in shorts]
    near.sort()
    many, few = len(longs), len(shorts)  # that have anything left
    out: list[Pair] = []
    for _, a, b in near:
        if left[a] > 0.0 and left[b] < 0.0:
            amount = min(left[a], -left[b])
            left[a] -= amount
            left[b] += amount
            out.append(Pair(a, b, amount))
            many -= left[a] == 0.0
            few -= left[b] == 0.0
            if not (many and few):
                break
    return out
