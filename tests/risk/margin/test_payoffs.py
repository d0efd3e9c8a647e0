"""The least payoff against looking at every strike, where copies share their expiries and where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.grouping import Grouping
from bot.risk.margin.payoffs import least_payoffs


def slow(strike: list[float], is_call: list[bool], qty: list[float], rows: list[int]) -> float:
    settled = [0.0, *[strike[row] for row in rows]]
    return min(
        sum(qty[row] * max(px - strike[row] if is_call[row] else strike[row] - px, 0.0) for row in rows)
        for px in settled
    )


@pytest.mark.parametrize("is_shared", [True, False])
def test_the_least_payoff_is_that_of_looking_at_every_strike(is_shared: bool) -> None:
    rng = np.random.default_rng(3)
    rows, copies = 24, 3
    strike = rng.choice([80.0, 90.0, 100.0, 110.0, 125.0], rows)
    is_call = rng.random(rows) < 0.5
    tau = rng.choice([1.0, 7.0, 30.0], rows)
    qty = rng.normal(size=(copies, rows))
    lines = np.maximum(tau - np.array([[0.0], [0.5], [0.0 if is_shared else 8.0]]), 0.0)  # two expiries over in one
    groups = Grouping((np.zeros(rows, dtype=np.int64),), lines)
    found = least_payoffs(strike, is_call, qty, groups)
    for copy in range(copies):
        years = sorted(set(lines[copy].tolist()))
        expected = [
            slow(strike.tolist(), is_call.tolist(), qty[copy].tolist(), np.flatnonzero(lines[copy] == one).tolist())
            for one in years
        ]
        is_there = np.broadcast_to(groups.count > 0.0, found.shape)[copy]
        assert found[copy][is_there].tolist() == pytest.approx(expected, abs=1e-9)
        assert not found[copy][~is_there].any()
    nothing = Grouping((np.zeros(0, dtype=np.int64),), np.zeros((1, 0)))
    assert least_payoffs(strike[:0], is_call[:0], qty[:, :0], nothing).shape == (3, 0)
