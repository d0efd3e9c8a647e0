"""Simulated transfers: seeded, with everything that goes wrong, and no unit of money made or lost."""

from __future__ import annotations

import numpy as np
import pytest

from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from bot.simulation.transfers import RouteWorld, SimulatedTransfers, Suspension

ARB = RouteWorld(median_ns=4 * NS_PER_MIN, p95_ns=10 * NS_PER_MIN, fee=1.0)
FOREVER = 1_000 * NS_PER_HOUR


def command(number: int = 1, amount: float = 1_000.0, route: str = "ARB") -> TransferCollateral:
    return TransferCollateral(f"run-T{number}", "USDC", amount, "okx", "deribit", route, "top up")


def states(updates: tuple[TransferUpdate, ...]) -> list[str]:
    return [one.state.value for one in updates]


def told(seed: int = 1, **faults: float) -> tuple[TransferUpdate, ...]:
    world = SimulatedTransfers(seed, {"ARB": RouteWorld(median_ns=ARB.median_ns, p95_ns=ARB.p95_ns, fee=1.0, **faults)})
    world.submit(command(), 0)
    return world.advance(FOREVER)


def test_it_is_sent_and_arrives_less_its_fee() -> None:
    sent, arrived = told()
    assert (sent.state, sent.ts_recv_ns) == (TransferState.SENT, NS_PER_S)
    assert (arrived.state, arrived.amount, arrived.fee) == (TransferState.ARRIVED, 999.0, 1.0)
    assert arrived.ts_recv_ns > sent.ts_recv_ns


def test_delays_have_the_median_and_the_p95_they_are_given() -> None:
    world = SimulatedTransfers(3, {"ARB": ARB})
    for number in range(4_000):
        world.submit(command(number), 0)
    delays = np.array([one.ts_recv_ns for one in world.advance(FOREVER) if one.state is TransferState.ARRIVED])
    assert np.median(delays) / ARB.median_ns == pytest.approx(1.0, abs=0.04)
    assert np.quantile(delays, 0.95) / ARB.p95_ns == pytest.approx(1.0, abs=0.06)


def test_the_same_seed_tells_the_same_story_and_one_fault_does_not_change_the_next_transfer() -> None:
    assert told(7) == told(7)
    assert told(7)[-1].ts_recv_ns != told(8)[-1].ts_recv_ns

    def second(suspended: bool) -> int:
        world = SimulatedTransfers(5, {"ARB": ARB}, [Suspension("okx", 0, 1)] if suspended else [])
        world.submit(command(1), 0)
        world.submit(command(2), 10)
        return (
            world.advance(FOREVER)[-1].ts_recv_ns
            if suspended
            else max(one.ts_recv_ns for one in world.advance(FOREVER) if one.transfer_id == "run-T2")
        )

    assert second(suspended=True) == second(suspended=False)


def test_faults_are_told_as_what_they_are() -> None:
    assert states(told(failure_probability=1.0)) == ["failed"]
    assert states(told(lost_answer_probability=1.0)) == ["unknown", "arrived"]
    assert states(told(reversal_probability=1.0)) == ["sent", "arrived", "reversed", "arrived"]


def test_a_suspension_fails_with_a_word_or_holds_without_one() -> None:
    loud = SimulatedTransfers(1, {"ARB": ARB}, [Suspension("okx", 0, NS_PER_HOUR)])
    loud.submit(command(), 0)
    [failed] = loud.advance(FOREVER)
    assert (failed.state, failed.amount) == (TransferState.FAILED, 0.0)
    assert "suspended" in failed.reason
    silent = SimulatedTransfers(1, {"ARB": ARB})
    silent.suspend(Suspension("okx", 0, 5 * NS_PER_HOUR, is_silent=True))
    silent.submit(command(), 0)
    assert states(silent.advance(5 * NS_PER_HOUR)) == ["sent"]
    assert states(silent.advance(FOREVER)) == ["arrived"]


def test_the_same_id_again_sends_nothing_again() -> None:
    world = SimulatedTransfers(1, {"ARB": ARB}, balances={("okx", "USDC"): 1_500.0})
    world.submit(command(), 0)
    world.submit(command(), 1)
    assert world.balances is not None
    assert world.balances["okx", "USDC"] == 500.0
    world.advance(FOREVER)
    assert world.balances["deribit", "USDC"] == 999.0


def test_asking_tells_the_truth_behind_a_lost_answer() -> None:
    lossy = RouteWorld(median_ns=ARB.median_ns, p95_ns=ARB.p95_ns, lost_answer_probability=1.0)
    world = SimulatedTransfers(1, {"ARB": lossy})
    world.submit(command(), 0)
    assert states(world.advance(2 * NS_PER_S)) == ["unknown"]
    world.ask("run-T1", 2 * NS_PER_S)
    assert states(world.advance(4 * NS_PER_S)) == ["sent"]
    world.ask("run-T9", 4 * NS_PER_S)
    assert states(world.advance(5 * NS_PER_S)) == []  # never heard of it, and says nothing


def test_no_money_is_made_or_lost_whatever_happens() -> None:
    rough = RouteWorld(
        median_ns=ARB.median_ns,
        p95_ns=ARB.p95_ns,
        fee=1.0,
        failure_probability=0.2,
        lost_answer_probability=0.2,
        reversal_probability=0.3,
    )
    start = 100_000.0
    suspension = Suspension("okx", 20 * NS_PER_MIN, 40 * NS_PER_MIN, is_silent=True)
    world = SimulatedTransfers(11, {"ARB": rough}, [suspension], {("okx", "USDC"): start})
    assert world.balances is not None
    seen = set[str]()
    for number in range(200):
        now_ns = number * NS_PER_MIN
        world.submit(command(number, 1_000.0), now_ns)
        seen |= set(states(world.advance(now_ns)))
        total = sum(world.balances.values()) + world.in_flight("USDC") + world.fees_paid.get("USDC", 0.0)
        assert total == pytest.approx(start)
    assert seen == {"sent", "unknown", "arrived", "failed", "reversed"}
    world.advance(FOREVER)
    assert world.in_flight("USDC") == 0.0
    assert sum(world.balances.values()) + world.fees_paid["USDC"] == pytest.approx(start)


def test_what_cannot_be_is_refused() -> None:
    world = SimulatedTransfers(1, {"ARB": ARB}, balances={("okx", "USDC"): 10.0})
    for number, (amount, route) in enumerate([(1_000.0, "ARB"), (0.5, "ARB"), (5.0, "TRX")]):
        world.submit(command(number, amount, route), 0)
    reasons = [one.reason for one in world.advance(FOREVER)]
    assert [one.split(":")[0] for one in reasons[:1]] == ["okx"]
    assert "expected more than the fee" in reasons[1]
    assert "no route TRX" in reasons[2]
    assert world.balances == {("okx", "USDC"): 10.0}
    with pytest.raises(ValueError, match="p95 of at least the median"):
        SimulatedTransfers(1, {"X": RouteWorld(median_ns=2, p95_ns=1)})
