"""What an account holds as rows: every leg and hedge of the account, at the marks the desk decides on."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.domain.units import NS_PER_DAY
from bot.engine.margin.risk_rows import account_rows, linear_row, option_row
from bot.engine.settings import BookLeg
from bot.risk.book import FUTURE, OPTION, PERPETUAL
from tests.engine.builders import CALL, INVERSE, PUT, T0_NS, Driver, future, make_settings
from tests.engine.margin_vault import A, MarginVault


def test_legs_and_hedges_are_rows_with_the_marks_of_the_desk() -> None:
    driver = Driver(make_settings((BookLeg(CALL, -10.0), BookLeg(PUT, -4.0), BookLeg(CALL, 3.0))))
    driver.hedge()
    driver.tick()
    rows, why = account_rows("sim", driver.engine.desks.values(), driver.engine.orders, driver.now_ns)
    assert not why
    assert rows is not None
    book = rows.book
    assert dict(zip(book.instrument_ids, book.qty_base, strict=True)) == {
        CALL.instrument_id: -7.0,
        PUT.instrument_id: -4.0,
        "ETH-PERPETUAL": pytest.approx(driver.engine.desks["ETH"].hedge.qty),
    }
    call = rows.row_of[CALL.instrument_id]
    marks = driver.engine.desks["ETH"].book.option_marks
    assert marks is not None
    assert book.mark_px[call] == marks.greeks.value[0]
    assert (book.strike_px[call], book.vol[call], book.kind[call]) == (2000.0, 0.6, OPTION)
    assert book.tau_years[call] == pytest.approx(30.0 / 365.0, rel=1e-3)


def test_an_inverse_position_counts_in_coins_at_its_mark() -> None:
    driver = Driver(make_settings((BookLeg(CALL, -10.0),), hedge=INVERSE))
    driver.hedge()
    rows, _ = account_rows("sim", driver.engine.desks.values(), driver.engine.orders, driver.now_ns)
    assert rows is not None
    lots = driver.engine.desks["ETH"].hedge.lots
    assert rows.book.qty_base[rows.row_of[INVERSE.instrument_id]] == pytest.approx(lots * 10.0 / 2000.0)


def test_other_accounts_are_left_out_and_nothing_held_is_no_fault() -> None:
    vault = MarginVault({"a": 1e6})
    vault.tick()
    rows, why = account_rows("nowhere", vault.engine.desks.values(), vault.engine.orders, vault.now_ns)
    assert (why, rows is not None and len(rows.book)) == ("", 0)


def test_what_has_no_mark_yet_is_named() -> None:
    driver = Driver(make_settings())
    rows, why = account_rows("sim", driver.engine.desks.values(), driver.engine.orders, driver.now_ns)
    assert (rows, why) == (None, "the options of ETH have no marks yet")


def test_what_is_under_way_is_open_and_has_ends() -> None:
    vault = MarginVault({"a": 1e6}, instruments=(A,), coins=4.0)
    vault.tick()
    rows, _ = account_rows("a", vault.engine.desks.values(), vault.engine.orders, vault.now_ns)
    assert rows is not None
    place = rows.row_of["ETH-A"]
    assert (rows.book.sell_base[place], rows.book.buy_base[place]) == (pytest.approx(3.0), 0.0)
    assert [float(end.qty_base[place]) for end in rows.ends()] == [0.0, pytest.approx(-3.0)]
    assert rows.with_more({"ETH-A": 2.0}).qty_base[place] == 2.0


def test_dated_rows_have_time_left_also_when_over() -> None:
    week = future(T0_NS + 7 * NS_PER_DAY)
    row = linear_row(week, 1.0, 2000.0, T0_NS)
    assert (row.kind, row.tau_years) == (FUTURE, pytest.approx(7 / 365))
    assert linear_row(week, 1.0, 2000.0, week.expiry_ns + 1).tau_years > 0.0
    assert linear_row(A, 1.0, 2000.0, T0_NS).kind == PERPETUAL
    over = option_row(CALL, 1.0, 5.0, 2000.0, 0.5, CALL.expiry_ns + 1)
    assert 0.0 < over.tau_years < 1e-6
    assert np.isfinite(over.mark_px)
    assert msgspec.structs.replace(CALL, is_call=False).is_call is False
