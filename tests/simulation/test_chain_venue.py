"""What both simulated chains do alike with a command, a transaction that waits, and the account."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import pytest

from bot.domain.chain import GasPaid
from bot.domain.events import AmendOrder, CancelOrder, Event, QueryOrder, SubmitOrder
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    OrderAccepted,
    OrderCanceled,
    OrderRejected,
    OrderState,
    OrderTruth,
)
from bot.domain.units import NS_PER_S
from bot.simulation.chain_venue import MAX_REPLACEMENTS, REPLACE_AFTER_BLOCKS, REPLACE_RISE, ChainVenue, Transaction
from bot.simulation.venue import MAX_FINISHED
from tests.simulation import test_chain, test_watched_chain
from tests.simulation.test_chain import BLOCK_NS, POOL, T0_NS, bid, buy, of_type

LetBlockCome = Callable[[], list[Event]]
Open = Callable[[], tuple[ChainVenue[Any], LetBlockCome]]


def made() -> tuple[ChainVenue[Any], LetBlockCome]:
    """Return a chain of our own making, and what lets its next block come."""
    chain = test_chain.make_chain()
    return chain, lambda: test_chain.blocks(chain)


def watched() -> tuple[ChainVenue[Any], LetBlockCome]:
    """Return a chain that is only watched, and what lets its next block come."""
    chain, numbers = test_watched_chain.make_chain(), count()

    def let_block_come() -> list[Event]:
        number = next(numbers)
        return test_watched_chain.block(chain, number, at_ns=T0_NS + number * BLOCK_NS)

    let_block_come()
    return chain, let_block_come


both = pytest.mark.parametrize("opened", [made, watched])


def until_over(chain: ChainVenue[Any], let_block_come: LetBlockCome) -> list[Event]:
    """Let blocks come until nothing is pending any more; return all that reached us."""
    events: list[Event] = []
    for _ in range(200):
        events += let_block_come()
        if not chain.open_orders:
            return events
    raise AssertionError("still pending")


@both
def test_questions_are_answered_with_the_truth(opened: Open) -> None:
    chain, let_block_come = opened()
    chain.submit(buy(7), T0_NS + 1)
    chain.submit(QueryOrder("run-1", POOL.instrument_id), T0_NS + 2)
    chain.submit(QueryOrder("run-9", POOL.instrument_id), T0_NS + 3)
    first = chain.advance(T0_NS + NS_PER_S)
    assert [event.state for event in of_type(first, OrderTruth)] == [OrderState.OPEN, OrderState.REJECTED]
    (fill,) = of_type(until_over(chain, let_block_come), Fill)
    chain.submit(buy(7), fill.ts_recv_ns)  # the same order again trades nothing
    (truth,) = of_type(let_block_come(), OrderTruth)
    assert (truth.state, truth.fills) == (OrderState.FILLED, (fill,))
    assert chain.positions == {POOL.instrument_id: 7}


@both
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"gas": None}, "no gas bid"),
        ({"instrument_id": "chain:WBTC-USDC"}, "unknown instrument"),
        ({"qty_lots": 0}, "expected lots and a limit"),
        ({"limit_ticks": 0}, "expected lots and a limit"),
    ],
)
def test_what_is_no_transaction_is_rejected(opened: Open, change: dict[str, Any], why: str) -> None:
    chain, _ = opened()
    chain.submit(SubmitOrder(msgspec.structs.replace(buy(1).intent, **change)), T0_NS + 1)
    (rejected,) = of_type(chain.advance(T0_NS + NS_PER_S), OrderRejected)
    assert why in rejected.reason
    assert chain.open_orders == ()
    assert chain.cash_settle == {}


@both
def test_a_cancel_takes_its_place_and_only_that_of_one_that_waits(opened: Open) -> None:
    chain, let_block_come = opened()
    chain.submit(buy(1, gas=bid(1, 2)), T0_NS + 1)
    chain.submit(CancelOrder("run-1", POOL.instrument_id, "test"), T0_NS + 2)
    events = until_over(chain, let_block_come)
    (canceled,) = of_type(events, OrderCanceled)
    (gas,) = of_type(events, GasPaid)
    assert not canceled.is_expired
    assert chain.figures.cancels == 1
    assert chain.cash_settle == {"ETH": -gas.gas_coin}
    chain.submit(CancelOrder("run-1", POOL.instrument_id, "again"), canceled.ts_recv_ns)
    chain.submit(AmendOrder("run-1", POOL.instrument_id, 1, "test"), canceled.ts_recv_ns)
    answers = of_type(let_block_come(), CancelRejected, AmendRejected, OrderCanceled)
    assert [type(answer) for answer in answers] == [CancelRejected, AmendRejected]


def test_fees_of_one_that_waits_rise_step_by_step_and_then_no_more() -> None:
    one = Transaction(buy(1).intent, bid(100, 1_000), T0_NS, 1)
    offered = [one.next_bid_wei() for _ in range(REPLACE_AFTER_BLOCKS * (MAX_REPLACEMENTS + 3))]
    steps = [min(MAX_REPLACEMENTS, n // REPLACE_AFTER_BLOCKS) for n in range(len(offered))]
    assert offered == [(1_000 * REPLACE_RISE**step, 100 * REPLACE_RISE**step) for step in steps]


@both
def test_what_is_over_is_forgotten_in_time_and_no_hash_is_given_twice(opened: Open) -> None:
    chain, let_block_come = opened()
    orders = 2 * MAX_FINISHED + 10
    hashes = []
    for n in range(orders):
        chain.submit(buy(1 if n % 2 else -1, f"run-{n}"), T0_NS + 1)
        if n == 2 * MAX_FINISHED:
            hashes += of_type(until_over(chain, let_block_come), OrderAccepted)
    hashes += of_type(until_over(chain, let_block_come), OrderAccepted)
    assert len({accepted.venue_order_id for accepted in hashes}) == orders
    chain.submit(QueryOrder("run-0", POOL.instrument_id), T0_NS + 1)
    chain.submit(QueryOrder(f"run-{orders - 1}", POOL.instrument_id), T0_NS + 1)
    answers = of_type(let_block_come(), OrderTruth)
    assert [truth.state for truth in answers] == [OrderState.REJECTED, OrderState.FILLED]
