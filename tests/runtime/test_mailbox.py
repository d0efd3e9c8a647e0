"""The mailbox: of quotes the newest, of everything that concerns us all of it and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.events import Event, OperatorAction, OperatorCommand, Restarted
from bot.domain.market import FundingRate, IndexPrice, Quote, Settlement, VolQuote
from bot.domain.orders import (
    Fill,
    FundingPayment,
    Liquidity,
    OrderAccepted,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
)
from bot.runtime.mailbox import Mailbox

MAKERS: tuple[Callable[[int, str], Event], ...] = (
    lambda n, name: Quote(name, 1.0, 1.0, 2.0, 1.0, n, n, n),
    lambda n, name: VolQuote(name, 0.6, 0.5, 0.7, 1.0, n, n, n),
    lambda n, name: IndexPrice(name, 1.0, n, n, n),
    lambda n, name: FundingRate(name, 0.0, n, n, n),
    lambda n, name: Settlement(name, n, 1.0, n, n, n),
    lambda n, name: Fill(f"T{n}", name, "X", 1, 1.0, 0.0, Liquidity.TAKER, n, n),
    lambda n, name: OrderSent(name, n),
    lambda n, name: OrderAccepted(name, "V", n, n),
    lambda n, name: OrderRejected(name, "no", n, n),
    lambda n, name: OutcomeLost(name, "timeout", n),
    lambda n, name: OrderTruth(name, OrderState.OPEN, (), n, n),
    lambda n, name: FundingPayment(f"F{n}", name, 1.0, n, n),
    lambda n, name: OperatorCommand(OperatorAction.HALT, "me", name, n),
    lambda n, _name: Restarted(n),
)
KINDS = st.tuples(st.sampled_from(MAKERS), st.sampled_from("AB"))
# each round: what is put, in how many puts, before somebody takes
ROUNDS = st.lists(st.lists(st.lists(KINDS, min_size=1, max_size=4), min_size=1, max_size=6), max_size=6)


def is_conflatable(event: object) -> bool:
    return isinstance(event, Quote | VolQuote | IndexPrice)


def name_of(event: Event) -> tuple[object, ...]:
    return type(event), getattr(event, "instrument_id", None) or getattr(event, "underlying", None)


@given(ROUNDS)
def test_only_quotes_conflate_and_nothing_changes_places(
    rounds: list[list[list[tuple[Callable[[int, str], Event], str]]]],
) -> None:
    async def check() -> None:
        mailbox = Mailbox()
        number = 0
        dropped = 0
        for puts in rounds:
            given_events: list[Event] = []
            for kinds in puts:
                events = []
                for make, name in kinds:
                    number += 1
                    events.append(make(number, name))
                mailbox.put(number, events)
                given_events += events
            now_ns, taken = await mailbox.take()
            assert now_ns == number
            # in the order they came, some of the quotes left out
            places = [given_events.index(event) for event in taken]
            assert places == sorted(places)
            assert [e for e in taken if not is_conflatable(e)] == [e for e in given_events if not is_conflatable(e)]
            newest = {name_of(event): event for event in given_events if is_conflatable(event)}
            assert [event for event in taken if is_conflatable(event)] == [e for e in taken if e in newest.values()]
            assert {name_of(event) for event in taken if is_conflatable(event)} == set(newest)
            dropped += len(given_events) - len(taken)
            mailbox.done()
        assert mailbox.conflated == dropped
        await asyncio.wait_for(mailbox.drained(), 1.0)

    asyncio.run(check())


async def test_taking_waits_for_the_first_event() -> None:
    mailbox = Mailbox()
    taking = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    mailbox.put(7, [Restarted(7)])
    assert await taking == (7, (Restarted(7),))


async def test_it_is_drained_only_once_everything_put_was_decided_upon() -> None:
    mailbox = Mailbox()
    await mailbox.drained()
    mailbox.put(1, [Restarted(1)])
    await mailbox.take()
    mailbox.put(2, [Restarted(2)])  # while the first is being decided upon
    mailbox.done()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(mailbox.drained(), 0.01)
    assert await mailbox.take() == (2, (Restarted(2),))
    mailbox.done()
    await asyncio.wait_for(mailbox.drained(), 1.0)


async def test_the_time_of_a_batch_never_goes_back() -> None:
    mailbox = Mailbox()
    mailbox.put(9, [Restarted(9)])
    mailbox.put(4, [Restarted(4)])
    now_ns, _ = await mailbox.take()
    assert now_ns == 9


async def test_however_many_quotes_come_it_holds_one_per_instrument() -> None:
    mailbox = Mailbox()
    for number in range(10_000):
        mailbox.put(number, [Quote("AB"[number % 2], 1.0, 1.0, 2.0, 1.0, number, number, number)])
    _, events = await mailbox.take()
    assert [event.seq for event in events if isinstance(event, Quote)] == [9_998, 9_999]
    assert mailbox.conflated == 9_998


@pytest.mark.parametrize("px", [float("nan"), float("inf"), 0.0, -1.0])
async def test_a_broken_quote_does_not_displace_a_sound_one(px: float) -> None:
    mailbox = Mailbox()
    sound, broken = IndexPrice("ETH", 1900.0, 1, 2, 1), IndexPrice("ETH", px, 2, 3, 2)
    mailbox.put(2, [sound])
    mailbox.put(3, [broken])
    _, events = await mailbox.take()
    assert [event is broken for event in events] == [False, True]


async def test_an_older_quote_does_not_displace_a_newer_one() -> None:
    mailbox = Mailbox()
    newer, older = IndexPrice("ETH", 1900.0, 2, 2, 2), IndexPrice("ETH", 1800.0, 1, 3, 1)
    mailbox.put(2, [newer])
    mailbox.put(3, [older])
    assert (await mailbox.take())[1] == (newer, older)
