"""Delays and failures of our own transactions: a prior first, then what was measured, the newest most."""

from __future__ import annotations

import pytest

from bot.gateways.chain.inclusion import TIERS, InclusionDelays, RevertShares


@pytest.mark.parametrize("block_s", [0.25, 1.0, 2.0, 12.0])
def test_before_anything_is_measured_it_is_a_matter_of_blocks(block_s: float) -> None:
    delays = InclusionDelays(block_s)
    # uniform within a block, then geometric: (0.5 + (1 − p)/p) blocks
    for tier, probability in enumerate((0.5, 0.8, 0.95)):
        exact = (0.5 + (1 - probability) / probability) * block_s
        assert delays.mean_s(tier) == pytest.approx(exact, rel=0.03)
        assert delays.mean_s(tier) < delays.p95_s(tier)
    means = [delays.mean_s(tier) for tier in range(len(TIERS))]
    assert means == sorted(means, reverse=True)


def test_measurements_take_over() -> None:
    delays = InclusionDelays(12.0)
    for _ in range(100):
        delays.note(2, 30.0)
    assert delays.mean_s(2) == pytest.approx(30.0, rel=0.02)
    assert delays.p95_s(2) == 30.0
    assert delays.count(2) == 100
    assert delays.mean_s(1) < 12.0  # the other tiers learn nothing from it


def test_one_late_transaction_moves_the_estimate_and_is_forgotten() -> None:
    delays = InclusionDelays(12.0)
    before = delays.mean_s(2)
    delays.note(2, 120.0)
    after = delays.mean_s(2)
    assert before + 10 < after < before + 30
    for _ in range(200):
        delays.note(2, 6.0)
    assert delays.mean_s(2) == pytest.approx(6.0, rel=0.02)


def test_a_mixture_keeps_its_tail() -> None:
    delays = InclusionDelays(12.0)
    for n in range(200):
        delays.note(1, 60.0 if n % 10 == 0 else 6.0)
    assert delays.mean_s(1) == pytest.approx(11.4, rel=0.25)
    assert delays.p95_s(1) == 60.0


def test_a_clock_that_jumps_gives_no_negative_delay() -> None:
    delays = InclusionDelays(12.0)
    for _ in range(200):
        delays.note(0, -5.0)
    assert delays.mean_s(0) >= 0.0


def test_failures_are_counted_per_instrument() -> None:
    shares = RevertShares()
    assert shares.fraction("local:A") == pytest.approx(0.02)
    for n in range(300):
        shares.note("local:A", is_success=n % 4 != 0)
        shares.note("local:B", is_success=True)
    assert shares.fraction("local:A") == pytest.approx(0.25 * 33.3 / 43.3 + 0.02 * 10 / 43.3, abs=0.02)
    assert shares.fraction("local:B") < 0.02
    assert shares.fraction("local:C") == pytest.approx(0.02)
