"""Longs paired off with shorts, nearest in time first: what a spread between expiries is charged for."""

from __future__ import annotations

import msgspec

from bot.risk.scenarios import Floats


class Pair(msgspec.Struct, frozen=True, gc=False):
    """An amount that is held long at `long` and short at `short`, places in what was paired off."""

    long: int
    short: int
    amount: float


def pair_off(amounts: Floats, at: Floats) -> list[Pair]:
    """Return pairs of longs and shorts until one side is used up, those nearest to each other along `at` first.

    Amounts are signed. Equally near pairs go by place, so that the same book is always paired alike.
    """
    left = amounts.tolist()
    places = at.tolist()
    longs = [n for n, amount in enumerate(left) if amount > 0.0]
    shorts = [n for n, amount in enumerate(left) if amount < 0.0]
    near = sorted((abs(places[a] - places[b]), a, b) for a in longs for b in shorts)
    out: list[Pair] = []
    for _, a, b in near:
        amount = min(left[a], -left[b])
        if amount > 0.0:
            left[a] -= amount
            left[b] += amount
            out.append(Pair(a, b, amount))
    return out
