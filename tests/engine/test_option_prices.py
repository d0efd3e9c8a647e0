from __future__ import annotations

import msgspec
import polars as pl
import pytest

from bot.domain.instruments import Option, TickSchedule, TickStep
from bot.domain.market import VolQuote
from bot.engine.option_prices import is_coin_priced, nearest_ticks, option_fee_settle, price_quote, prices_of
from bot.simulation.recording import open_recording
from tests.engine.builders import T0_NS
from tests.engine.option_vault import CALL, MONEY_CALL


def quote(bid_vol: float = 0.58, ask_vol: float = 0.62, bid_base: float = 5.0, ask_base: float = 7.0) -> VolQuote:
    return VolQuote(CALL.instrument_id, 0.6, bid_vol, ask_vol, 2000.0, T0_NS, T0_NS, 1, bid_base, ask_base)


@pytest.mark.parametrize("name", ["eth-2023-04", "btc-2023-04"])
def test_the_vols_of_a_recording_restore_every_price_to_the_tick(name: str) -> None:
    """Every 400th row of each, both sides where they have a vol; the exchange's own mark to a few ten-thousandths."""
    recording = open_recording(name)
    rows = recording.table("vol_quotes").with_row_index().filter(pl.col("index") % 400 == 0).collect()
    checked = 0
    for row in rows.iter_rows(named=True):
        option = recording.manifest.instruments[row["instrument"]]
        assert isinstance(option, Option)
        vols = (row["mark_vol"], row["bid_vol"], row["ask_vol"])
        event = VolQuote(option.instrument_id, *vols, row["forward_px"], row["ts_event_ns"], 0, 0)
        prices = prices_of(option, event)
        for side, ticks in (("bid", prices.bid_ticks), ("ask", prices.ask_ticks)):
            if row[f"{side}_vol"]:
                assert option.tick_schedule.px(ticks) == pytest.approx(row[f"{side}_px"], abs=1e-12)
                checked += 1
        assert prices.mark_px == pytest.approx(row["mark_px"], abs=2e-3)
    assert checked > 400


def test_prices_are_in_the_currency_of_the_venue() -> None:
    in_coins, in_money = prices_of(CALL, quote()), prices_of(MONEY_CALL, quote())
    assert is_coin_priced(CALL)
    assert not is_coin_priced(MONEY_CALL)
    assert in_coins.mark_px * 2000.0 == pytest.approx(in_money.mark_px)
    assert in_money.bid_ticks * 0.01 < in_money.mark_px < in_money.ask_ticks * 0.01


def test_ticks_grow_with_the_price() -> None:
    stepped = msgspec.structs.replace(CALL, tick_schedule=TickSchedule(0.0001, (TickStep(0.005, 5),)))
    assert nearest_ticks(stepped, 0.00423) == 42
    assert nearest_ticks(stepped, 0.0513) == 515


def test_a_side_without_a_vol_or_a_size_is_none() -> None:
    whole = price_quote(CALL, quote())
    assert 0.0 < whole.bid_px < whole.ask_px
    assert (whole.bid_base, whole.ask_base, whole.ts_event_ns) == (5.0, 7.0, T0_NS)
    assert price_quote(CALL, quote(bid_vol=0.0)).bid_base == 0.0
    assert price_quote(CALL, quote(bid_vol=0.0)).bid_px == 0.0
    assert price_quote(CALL, quote(ask_base=0.0)).ask_px == 0.0


def test_an_option_at_its_expiry_is_worth_its_payoff() -> None:
    over = msgspec.structs.replace(quote(), ts_event_ns=CALL.expiry_ns + 1, forward_px=2300.0)
    assert prices_of(CALL, over).mark_px == pytest.approx(200.0 / 2300.0)


@pytest.mark.parametrize(
    ("option", "px", "expected"),
    [(CALL, 0.05, 0.0003), (CALL, 0.001, 0.000125), (MONEY_CALL, 100.0, 0.6), (MONEY_CALL, 2.0, 0.25)],
)
def test_a_fee_is_a_share_of_the_underlying_and_never_more_than_an_eighth(
    option: Option, px: float, expected: float
) -> None:
    assert option_fee_settle(option, px, -4.0, 2000.0, 3.0, 0.125) == pytest.approx(4.0 * expected)
