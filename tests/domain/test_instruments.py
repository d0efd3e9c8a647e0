import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instruments import Future, Option, Payoff, Perpetual, TickSchedule, TickStep, contract_of

COMMON = {"venue": "deribit", "base": "ETH", "quote": "USD", "tick_schedule": TickSchedule(0.05)}


def test_a_linear_lot_is_worth_the_same_base_at_every_price() -> None:
    perpetual = Perpetual(
        instrument_id="ETH-PERPETUAL", settle="USD", price_currency="USD", payoff=Payoff.LINEAR,
        contract_size=1.0, lot_contracts=0.1, **COMMON,
    )  # fmt: skip
    assert perpetual.lot_base(1000.0) == perpetual.lot_base(4000.0) == 0.1
    assert not perpetual.is_quote_sized


@pytest.mark.parametrize("kind", [Perpetual, Future])
def test_an_inverse_lot_is_worth_the_same_quote_money_at_every_price(kind: type) -> None:
    expiry = {"expiry_ns": 1} if kind is Future else {}
    inverse = kind(
        instrument_id="ETH-X", settle="ETH", price_currency="USD", payoff=Payoff.INVERSE,
        contract_size=10.0, lot_contracts=1.0, **COMMON, **expiry,
    )  # fmt: skip
    assert inverse.is_quote_sized
    assert inverse.lot_base(2000.0) * 2000.0 == inverse.lot_base(500.0) * 500.0 == 10.0


def test_a_coin_settled_option_is_still_counted_in_base() -> None:
    option = Option(
        instrument_id="ETH-28APR23-1900-C", settle="ETH", price_currency="ETH", payoff=Payoff.INVERSE,
        contract_size=1.0, lot_contracts=1.0, strike_px=1900.0, expiry_ns=1, is_call=True, **COMMON,
    )  # fmt: skip
    assert not option.is_quote_sized
    assert option.lot_base(1900.0) == 1.0


@given(st.floats(0.0001, 10.0))
def test_rounding_brackets_the_price_on_the_step_that_applies(px: float) -> None:
    schedule = TickSchedule(0.0001, (TickStep(0.005, 5),))
    below, above = schedule.floor_ticks(px), schedule.ceil_ticks(px)
    step = schedule.step_ticks(px)
    assert step == (5 if px >= 0.005 else 1)
    assert below % step == above % step == 0
    assert schedule.px(below) <= px * (1 + 1e-9) + 1e-13
    assert schedule.px(above) >= px * (1 - 1e-9) - 1e-13
    assert above - below in (0, step)


@given(st.integers(1, 10**7))
def test_a_valid_price_stays_what_it_is(ticks: int) -> None:
    schedule = TickSchedule(0.05)
    assert schedule.floor_ticks(schedule.px(ticks)) == ticks == schedule.ceil_ticks(schedule.px(ticks))


def test_fees_and_minimums_are_no_part_of_a_contract_and_its_size_is() -> None:
    perpetual = Perpetual(
        instrument_id="ETH-PERPETUAL", settle="USD", price_currency="USD", payoff=Payoff.LINEAR,
        contract_size=1.0, lot_contracts=0.1, **COMMON,
    )  # fmt: skip
    assert contract_of(msgspec.structs.replace(perpetual, taker_bps=3.0, min_lots=7)) == contract_of(perpetual)
    assert contract_of(msgspec.structs.replace(perpetual, contract_size=10.0)) != contract_of(perpetual)
    assert contract_of(perpetual)["kind"] == "perpetual"
