"""Where the pictures shade, and how they write amounts; the drawing itself is tested with the report."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN
from bot.telemetry.pictures import Units, count, duration, significant, spans

NAN, INF = math.nan, math.inf


def test_spans_last_until_the_next_tick_and_join_when_close() -> None:
    ts_ns = np.asarray([0, 10, 20, 30, 40, 100, 110], np.int64)
    mask = np.asarray([False, True, False, True, False, True, True])
    assert spans(ts_ns, mask, 0) == [(10, 20), (30, 40), (100, 110)]
    assert spans(ts_ns, mask, 11) == [(10, 40), (100, 110)]
    assert spans(ts_ns, np.zeros(7, bool), 5) == []
    assert spans(ts_ns[:0], mask[:0], 5) == []


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (62.13, None, "$62"),
        (9.5, None, "$9.50"),
        (9.996, None, "$10"),
        (-3012.55, None, "−$3,013"),
        (-3012.556, 2, "−$3,012.56"),
        (0.0, None, "$0"),
        (-0.001, 2, "$0.00"),
        (1_234_567.0, 2, "$1,234,567.00"),
        (NAN, None, "n/a"),
        (-INF, 2, "n/a"),
    ],
)
def test_money_is_written_with_its_sign_before_the_currency(amount: float, decimals: int | None, text: str) -> None:
    assert Units("ETH", "USD").money(amount, decimals) == text


def test_other_currencies_follow_their_amount() -> None:
    assert Units("BTC", "USDC").money(-1234.5, 2) == "−1,234.50 USDC"
    assert Units("BTC", "USDC").size(0.04612) == "0.046 BTC"
    assert Units().size(NAN) == "n/a"


@pytest.mark.parametrize(
    ("amount", "digits", "text"),
    [(4.623, 2, "4.6"), (-14.03, 4, "−14.03"), (12_345.6, 2, "12,346"), (0.0, 4, "0"), (0.000461, 2, "0.00046")],
)
def test_significant_digits(amount: float, digits: int, text: str) -> None:
    assert significant(amount, digits) == text


def test_durations_and_counts_read_as_words() -> None:
    assert duration(NS_PER_DAY + 19 * NS_PER_HOUR + NS_PER_MIN) == "1 d 19 h"
    assert duration(3 * NS_PER_HOUR + 42 * NS_PER_MIN) == "3 h 42 min"
    assert duration(2 * NS_PER_HOUR) == "2 h"
    assert duration(25 * NS_PER_MIN) == "25 min"
    assert duration(0) == "0 min"
    assert [count(number, "hedge") for number in (0, 1, 1_234)] == ["no hedges", "1 hedge", "1,234 hedges"]
