"""The least that the options of an expiry can pay at settlement, for every copy of a stack."""

from __future__ import annotations

import numpy as np

from bot.risk.book import Flags, Floats
from bot.risk.grouping import Grouping


def least_payoffs(strike_px: Floats, is_call: Flags, qty_base: Floats, expiries: Grouping) -> Floats:
    """Return by copy and expiry the least that its options can pay, at 0 or at one of their strikes.

    A payoff bends only at strikes, so in the order of strikes it is running sums: at K, calls below pay K Σq - ΣqK,
    puts above ΣqK - K Σq.
    """
    out = np.zeros((len(qty_base), expiries.size))
    if not strike_px.size:
        return out
    for lines, order, label, starts, groups in expiries.by_strike(strike_px):
        stops = np.append(starts[1:], len(order))
        strike, qty = strike_px[order], qty_base[lines].take(order, axis=1)
        calls = qty * is_call[order]
        puts = qty - calls
        amounts = np.stack([calls, calls * strike, puts, puts * strike])
        sums = np.add.accumulate(amounts, axis=2)
        before, ends = sums[:, :, starts] - amounts[:, :, starts], sums[:, :, stops - 1]
        below, below_strike = sums[:2] - before[:2].take(label, axis=2)
        above, above_strike = ends[2:].take(label, axis=2) - sums[2:]
        worth = strike * (below - above) + above_strike - below_strike
        at_nothing = ends[3] - before[3]
        found = np.minimum(np.minimum.reduceat(worth, starts, axis=1), at_nothing)
        out[lines if isinstance(lines, slice) else lines[:, None], groups] = found
    return out
