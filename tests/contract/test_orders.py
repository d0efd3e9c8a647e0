"""The contract of every way to trade, on every venue and on paper: what is sent, told, canceled, amended and asked.

A venue's own quirks have tests of their own under tests/gateways; here stands what the engine relies on everywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    OrderAccepted,
    OrderAmended,
    OrderRejected,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.venues import AccountReport
from tests.contract.stages import ABSENCE_NS, RUN, STAGES, Stage
from tests.venues.faults import drop_reply, drop_request, http

IOC, POST_ONLY = TimeInForce.IOC, TimeInForce.POST_ONLY
LIVE = [name for name in STAGES if name != "paper"]


@pytest.fixture(params=STAGES)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with STAGES[request.param]() as one:
        yield one


@pytest.fixture(params=LIVE)
async def live(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with STAGES[request.param]() as one:
        yield one


async def test_an_ioc_order_fills_once_and_is_told_in_order(stage: Stage) -> None:
    order_id = stage.send(stage.lot, 2_010.0, IOC)
    await stage.soon(lambda: stage.filled_lots(order_id) == stage.lot, "a whole fill")
    await asyncio.sleep(0.1)  # for what would be told twice
    told = stage.about(order_id)
    assert told.index("OrderSent") < told.index("OrderAccepted") < told.index("Fill")
    trades = [fill.trade_id for fill in stage.of(Fill)]
    assert len(trades) == len(set(trades))
    assert stage.venue.position_lots() == stage.lot
    fill = stage.of(Fill)[0]
    assert fill.px >= 2_000.0
    assert fill.fee_settle > 0.0
    assert fill.ts_event_ns > 0
    assert fill.instrument_id == stage.instrument.instrument_id


async def test_a_sale_is_negative_everywhere(stage: Stage) -> None:
    order_id = stage.send(-stage.lot, 1_990.0, IOC)
    await stage.soon(lambda: stage.filled_lots(order_id) == -stage.lot, "a whole fill")
    assert stage.venue.position_lots() == -stage.lot
    stage.ask_account()
    await stage.soon(
        lambda: stage.of(AccountReport) and stage.of(AccountReport)[-1].positions, "a report with the position"
    )
    (position,) = stage.of(AccountReport)[-1].positions
    assert (position.instrument_id, position.qty_lots) == (stage.instrument.instrument_id, -stage.lot)


async def test_what_an_ioc_order_leaves_expires(stage: Stage) -> None:
    stage.venue.quote(2_000.0, 2_000.5, 0.1)
    order_id = stage.send(3 * stage.lot, 2_001.0, IOC)
    await stage.soon(lambda: stage.end_of(order_id) is OrderState.EXPIRED, "its end")
    assert stage.filled_lots(order_id) == stage.lot  # told before the end, or with it
    assert stage.venue.live_orders() == 0


async def test_a_resting_order_rests_is_amended_and_canceled(stage: Stage) -> None:
    order_id = stage.send(stage.lot, 1_950.0, POST_ONLY)
    await stage.until(OrderAccepted)
    assert stage.venue.live_orders() == 1
    stage.amend(order_id, 1_960.0)
    await stage.soon(lambda: stage.of(OrderAmended) or stage.of(AmendRejected), "an answer to the amend")
    for amended in stage.of(OrderAmended):  # a venue that amends by replacing refuses: a fill in between is too much
        assert (amended.order_id, amended.limit_ticks) == (
            order_id,
            stage.instrument.tick_schedule.floor_ticks(1_960.0),
        )
    assert stage.venue.live_orders() == 1
    stage.cancel(order_id)
    await stage.soon(lambda: stage.end_of(order_id) is OrderState.CANCELED, "its end")
    assert stage.venue.live_orders() == 0
    assert not stage.of(Fill)


async def test_a_resting_order_fills_as_maker_when_the_market_comes_to_it(stage: Stage) -> None:
    order_id = stage.send(stage.lot, 1_950.0, POST_ONLY)
    await stage.until(OrderAccepted)
    stage.venue.quote(1_948.0, 1_949.0, 50.0)
    await stage.soon(lambda: stage.filled_lots(order_id) == stage.lot, "a whole fill")
    (fill,) = stage.of(Fill)
    assert (fill.px, str(fill.liquidity)) == (1_950.0, "maker")


async def test_a_post_only_order_that_would_cross_is_refused_and_nothing_rests(stage: Stage) -> None:
    order_id = stage.send(stage.lot, 2_010.0, POST_ONLY)
    await stage.soon(lambda: stage.end_of(order_id), "its end")
    assert stage.end_of(order_id) is not OrderState.FILLED
    assert stage.filled_lots(order_id) == 0
    assert stage.venue.live_orders() == 0
    assert stage.venue.position_lots() == 0


async def test_reduce_only_never_opens_a_position(stage: Stage) -> None:
    order_id = stage.send(stage.lot, 2_010.0, IOC, is_reduce_only=True)
    await stage.soon(lambda: stage.end_of(order_id), "its end")
    assert stage.venue.position_lots() == 0


async def test_a_reduce_only_order_larger_than_the_position_closes_it_and_is_over(stage: Stage) -> None:
    opened = stage.send(stage.lot, 2_010.0, IOC)
    await stage.soon(lambda: stage.filled_lots(opened) == stage.lot, "a position")
    order_id = stage.send(-3 * stage.lot, 1_990.0, IOC, is_reduce_only=True)
    await stage.soon(lambda: stage.end_of(order_id), "its end")
    assert stage.filled_lots(order_id) in (-stage.lot, 0)  # cut to size, or refused whole
    assert stage.venue.position_lots() == stage.lot + stage.filled_lots(order_id)
    filled = [one for one in stage.of(OrderTruth) if one.order_id == order_id and one.state is OrderState.FILLED]
    assert all(truth.is_complete for truth in filled)  # or the engine would wait for the rest of it for ever


async def test_canceling_what_is_over_is_answered_and_harmless(stage: Stage) -> None:
    order_id = stage.send(stage.lot, 2_010.0, IOC)
    await stage.soon(lambda: stage.filled_lots(order_id) == stage.lot, "a whole fill")
    stage.cancel(order_id)
    await stage.soon(
        lambda: stage.of(CancelRejected) or stage.last_truth(order_id) is OrderState.FILLED, "an answer to the cancel"
    )
    assert stage.venue.position_lots() == stage.lot


async def test_the_truth_about_an_order_has_every_fill(stage: Stage) -> None:
    order_id = stage.send(stage.lot, 2_010.0, IOC)
    await stage.soon(lambda: stage.filled_lots(order_id) == stage.lot, "a whole fill")
    stage.ask(order_id)
    truth = await stage.until(OrderTruth)
    assert (truth.order_id, truth.state) == (order_id, OrderState.FILLED)
    assert sum(fill.qty_lots for fill in truth.fills) == stage.lot
    assert {fill.trade_id for fill in truth.fills} == {fill.trade_id for fill in stage.of(Fill)}


async def test_an_order_that_never_was_is_said_to_have_never_been(stage: Stage) -> None:
    await stage.asked_until(f"{RUN}-999", OrderState.REJECTED)  # a live venue is asked twice before it is believed
    assert stage.of(OrderTruth)[-1].fills == ()


async def test_the_account_shows_open_orders_as_ours(stage: Stage) -> None:
    order_id = stage.send(stage.lot, 1_950.0, POST_ONLY)
    await stage.until(OrderAccepted)
    stage.got.clear()
    stage.ask_account()
    await stage.soon(lambda: stage.of(AccountReport) and stage.of(AccountReport)[-1].open_orders, "a report with it")
    (order,) = stage.of(AccountReport)[-1].open_orders
    assert (order.order_id, order.left_lots) == (order_id, stage.lot)
    assert order.limit_px == pytest.approx(1_950.0)


@pytest.mark.parametrize("fault", [drop_reply(), http(502, is_executed=True), http(503, is_executed=True)])
async def test_an_executed_order_whose_answer_is_lost_is_found_and_never_sent_again(live: Stage, fault: object) -> None:
    assert live.server_faults is not None
    live.server_faults.next("create", fault)  # type: ignore[arg-type]
    order_id = live.send(live.lot, 2_010.0, IOC)
    await live.until(OutcomeLost)
    assert "OrderRejected" not in live.about(order_id)
    live.ask(order_id)
    await live.soon(lambda: live.filled_lots(order_id) == live.lot, "the fill")
    await live.soon(lambda: live.last_truth(order_id) is OrderState.FILLED, "the truth")
    assert live.venue.position_lots() == live.lot
    assert live.server_faults.asked["create"] == 1


async def test_an_order_that_was_lost_on_the_way_is_given_up_only_once_the_venue_surely_never_had_it(
    live: Stage,
) -> None:
    assert live.server_faults is not None
    live.server_faults.next("create", drop_request())
    sent_ns = time.time_ns()
    order_id = live.send(live.lot, 2_010.0, IOC)
    await live.until(OutcomeLost)
    await live.asked_until(order_id, OrderState.REJECTED)
    assert live.of(OrderTruth)[0].ts_event_ns - sent_ns >= ABSENCE_NS  # before that it is too early to tell
    assert live.venue.position_lots() == 0
    assert live.server_faults.asked["create"] == 1


async def test_a_refusal_is_a_refusal_and_says_why(live: Stage) -> None:
    order_id = live.send(10_000_000 * live.lot, 2_010.0, IOC)
    refused = await live.until(OrderRejected)
    assert refused.order_id == order_id
    assert refused.reason
    assert not live.of(OutcomeLost)


async def test_a_rate_limit_is_waited_out_under_the_same_id(live: Stage) -> None:
    assert live.server_faults is not None
    live.server_faults.next("create", http(429, retry_after_s=0.1))
    order_id = live.send(live.lot, 2_010.0, IOC)
    await live.soon(lambda: live.filled_lots(order_id) == live.lot or live.of(OrderRejected), "a fill or a refusal")
    assert live.venue.position_lots() == live.filled_lots(order_id)
    assert live.server_faults.asked["create"] <= 3
