"""Everything that is told has a sentence, and what is market data is not found by the pattern."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import msgspec
import pytest

from bot.domain.chain import GasPaid
from bot.domain.events import (
    AmendOrder,
    CancelForeign,
    CancelOrder,
    ConfigChanged,
    OperatorAction,
    OperatorCommand,
    PlanCollateral,
    QueryOrder,
    Restarted,
    SubmitOrder,
)
from bot.domain.instruments import Instrument, Payoff, Perpetual, TickSchedule
from bot.domain.market import IndexPrice, Quote
from bot.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    FillReversed,
    FundingPayment,
    GasBid,
    Liquidity,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderIntent,
    OrderRejected,
    OrderSent,
    OrderState,
    OrderTruth,
    OutcomeLost,
    TimeInForce,
)
from bot.domain.risk import CollateralPlanned, MarginTerms, TransferCollateral, TransferState, TransferUpdate
from bot.domain.venues import AccountReport, InstrumentDelisted, VenueHealth, VenueStatus
from bot.telemetry.telling import TOLD_TYPES, ToldThing, is_tagged, tag_pattern, tell, tell_start

PERPETUAL = Perpetual(
    instrument_id="BTC-PERPETUAL",
    venue="deribit",
    base="BTC",
    quote="USD",
    settle="BTC",
    price_currency="USD",
    payoff=Payoff.INVERSE,
    contract_size=10.0,
    lot_contracts=1.0,
    tick_schedule=TickSchedule(0.5),
)
FILL = Fill("T1", "r-1", "BTC-PERPETUAL", -100, 25_000.0, 0.00002, Liquidity.TAKER, 5, 6)
INTENT = OrderIntent("r-1", "BTC-PERPETUAL", -100, 49_990, TimeInForce.IOC, False, "delta 0.04 above", 25_000.0, 5)
TOLD: dict[ToldThing, tuple[str, str, str]] = {
    SubmitOrder(INTENT): (
        "decision",
        "submit",
        "Sell 0.04 BTC of BTC-PERPETUAL at 24,995 or better: delta 0.04 above",
    ),
    CancelOrder("r-1", "BTC-PERPETUAL", "too old"): ("decision", "cancel", "Cancel the order: too old"),
    AmendOrder("r-1", "BTC-PERPETUAL", 50_001, "moved"): (
        "decision",
        "amend",
        "Move the order's limit to 25,000.5: moved",
    ),
    CancelForeign("deribit", "V9", "BTC-PERPETUAL", "not ours"): (
        "decision",
        "cancel_foreign",
        "Cancel the order V9 at deribit, which is not ours: not ours",
    ),
    TransferCollateral("t1", "USDC", 1500.0, "deribit", "bybit", "arbitrum", "need"): (
        "transfer",
        "decided",
        "Transfer of 1,500 USDC from deribit to bybit over arbitrum: need",
    ),
    PlanCollateral("p1", "{}", 1.0, "hourly"): ("risk", "plan_asked", "Collateral plan asked for: hourly"),
    OrderSent("r-1", 6): ("order", "sent", "Order sent"),
    OrderAccepted("r-1", "V1", 5, 6): ("order", "accepted", "Order accepted by the venue as V1"),
    OrderRejected("r-1", "no funds", 5, 6): ("order", "rejected", "Order rejected by the venue: no funds"),
    OrderCanceled("r-1", False, 5, 6): ("order", "canceled", "Order canceled"),
    CancelRejected("r-1", "gone", 5, 6): ("order", "cancel_rejected", "Cancel refused by the venue: gone"),
    OrderAmended("r-1", 7, 5, 6): ("order", "amended", "Order's limit moved to 7 ticks"),
    AmendRejected("r-1", "gone", 5, 6): ("order", "amend_rejected", "Move of the limit refused by the venue: gone"),
    OutcomeLost("r-1", "timeout", 6): ("order", "lost", "Answer lost, the order's outcome is unknown: timeout"),
    OrderTruth("r-1", OrderState.PARTLY_FILLED, (), 5, 6): (
        "order",
        "asked",
        "The venue says when asked that the order is partly filled, 0 fills",
    ),
    FILL: ("fill", "filled", "Sold 0.04 BTC of BTC-PERPETUAL at 25,000 as taker, fee 2e-05 BTC"),
    FillReversed("T1", "r-1", "BTC-PERPETUAL", "reorg", 5, 6): (
        "fill",
        "reversed",
        "Fill T1 of BTC-PERPETUAL taken back: reorg",
    ),
    FundingPayment("f1", "BTC-PERPETUAL", -0.001, 5, 6): (
        "funding",
        "paid",
        "Funding paid on BTC-PERPETUAL: 0.001 BTC",
    ),
    GasPaid("g1", "base", "r-1", "UNI", "ETH", 0.0001, 0.25, 5, 6): (
        "transaction",
        "mined",
        "Transaction mined on base, gas 0.0001 ETH, worth 0.25",
    ),
    VenueStatus("deribit", VenueHealth.DOWN, "silent", 6): ("venue", "down", "deribit is down: silent"),
    InstrumentDelisted("X", "", 6): ("venue", "delisted", "X is not traded any more"),
    TransferUpdate("t1", TransferState.ARRIVED, "USDC", 9.5, 0.5, "a", "b", "r", "", 5, 6): (
        "transfer",
        "arrived",
        "Transfer of 9.5 USDC from a to b over r is arrived",
    ),
    MarginTerms("deribit", "{}", 5, 6): (
        "risk",
        "margin_terms",
        "deribit asks for margin by other parameters from now on",
    ),
    CollateralPlanned("p1", "", "", "no solver", 5, 6): ("risk", "no_plan", "No collateral plan: no solver"),
    OperatorCommand(OperatorAction.SET_BAND, "alice", "calm", 6, "c1", "BTC", None, -1.0, 2.0): (
        "command",
        "set_band",
        "alice ordered set band (underlying BTC, low -1.0, high 2.0): calm",
    ),
    ConfigChanged("{}", "ab", ("limits: 1 → 2",), "alice", "calm", 6): (
        "config",
        "changed",
        "Configuration changed by alice in 1 line: calm",
    ),
    Restarted(6): (
        "run",
        "restarted",
        "Daemon restarted; orders without a final answer are unknown until the venue is asked",
    ),
}


def find(instrument_id: str) -> Instrument | None:
    return PERPETUAL if instrument_id == PERPETUAL.instrument_id else None


@pytest.mark.parametrize("thing", TOLD, ids=lambda thing: type(thing).__name__)
def test_everything_that_is_told_has_its_sentence(thing: Any) -> None:
    (line,) = tell(thing, find)
    assert (line.kind, line.fields["what"], line.text) == TOLD[thing]
    json.dumps(msgspec.to_builtins(line), allow_nan=False)
    raw = msgspec.Raw(msgspec.msgpack.encode(thing))
    assert is_tagged(tag_pattern(), raw)
    assert msgspec.msgpack.decode(raw, type=ToldThing) == thing


def test_nothing_that_is_told_was_left_out_here() -> None:
    assert {type(thing) for thing in TOLD} == set(TOLD_TYPES) == set(get_args(ToldThing))


@pytest.mark.parametrize(
    "quiet",
    [
        Quote("fill", 1.0, 1.0, 2.0, 1.0, 1, 2, 3),
        IndexPrice("BTC", 1.0, 1, 2, 3),
        AccountReport("fill", (), (), {"type": 1.0}, 1, 2),
        QueryOrder("r-1", "operator"),
    ],
    ids=lambda quiet: type(quiet).__name__,
)
def test_market_data_and_reports_are_not_told(quiet: Any) -> None:
    payload = msgspec.msgpack.encode(quiet)
    assert tag_pattern().search(payload) is None
    assert not is_tagged(tag_pattern(), msgspec.Raw(payload))


def test_without_the_contract_there_are_lots_and_ticks() -> None:
    (line,) = tell(SubmitOrder(INTENT), lambda _: None)
    assert line.text.startswith("Sell 100 lots of BTC-PERPETUAL at 49,990 ticks or better")
    assert line.fields["qty_base"] is None
    assert line.order_id == "r-1"


def test_a_transaction_and_an_order_at_any_price() -> None:
    bid = GasBid(1, 1, 0.5, 9)
    intent = msgspec.structs.replace(INTENT, limit_ticks=0, time_in_force=TimeInForce.MARKET, gas=bid)
    (line,) = tell(SubmitOrder(intent), find)
    assert "at any price" in line.text
    assert (line.fields["is_transaction"], line.fields["gas_quote"], line.fields["limit_px"]) == (True, 0.5, None)


def test_an_answer_about_an_order_brings_its_fills() -> None:
    truth = OrderTruth("r-1", OrderState.FILLED, (FILL,), 5, 6)
    lines = tell(truth, find)
    assert [line.kind for line in lines] == ["order", "fill"]
    assert lines[0].text.endswith("filled, 1 fill")
    assert lines[1] == tell(FILL, find)[0]


def test_gas_of_a_block_that_is_gone_is_taken_back() -> None:
    (line,) = tell(GasPaid("g1", "base", "r-1", "UNI", "ETH", -0.0001, -0.25, 5, 6), find)
    assert line.fields["what"] == "reversed"
    assert line.text == "Transaction on base left the chain with its block, gas 0.0001 ETH, worth 0.25 taken back"


def test_a_run_begins_on_a_recording_or_a_live_feed() -> None:
    assert tell_start("1.0", "eth-2023-04", "ab").text == "Run started on the recording eth-2023-04, Evenkeel 1.0"
    assert tell_start("1.0", None, "ab").text == "Run started on a live feed, Evenkeel 1.0"


def test_a_delta_that_is_not_finite_is_null_in_json() -> None:
    (line,) = tell(msgspec.structs.replace(FILL, px=math.nan), find)
    assert json.loads(msgspec.json.encode(line))["fields"]["px"] is None
