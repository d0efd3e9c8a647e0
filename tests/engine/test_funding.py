"""Funding by day from the payments a venue told of, whatever their interval."""

from __future__ import annotations

from math import nan

import pytest

from bot.domain.market import FundingRate
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR
from bot.engine.funding import FundingBoard
from tests.engine.builders import T0_NS


def board_of(*rates: float, every_hours: float = 8.0) -> FundingBoard:
    board = FundingBoard()
    for n, rate in enumerate(rates):
        ts_ns = T0_NS + round(n * every_hours * NS_PER_HOUR)
        board.note(FundingRate("A", rate, ts_ns, ts_ns, n))
    return board


def test_nothing_known_is_nothing_paid() -> None:
    assert FundingBoard().rate_per_day("A", T0_NS) == 0.0
    assert board_of(0.001).rate_per_day("B", T0_NS) == 0.0


def test_a_single_payment_is_taken_for_eight_hours() -> None:
    assert board_of(0.0001).rate_per_day("A", T0_NS) == pytest.approx(0.0003)


@pytest.mark.parametrize("every_hours", [1.0, 4.0, 8.0])
def test_payments_tell_their_interval(every_hours: float) -> None:
    board = board_of(9.0, 0.0001, 0.0003, every_hours=every_hours)  # the first one is for the time before it
    assert board.rate_per_day("A", T0_NS) == pytest.approx(0.0002 * 24.0 / every_hours)


def test_only_the_last_day_counts() -> None:
    board = board_of(*[0.01] * 30, *[0.0001] * 24, every_hours=1.0)
    assert board.rate_per_day("A", T0_NS) == pytest.approx(0.0024)


def test_old_news_is_no_news() -> None:
    board = board_of(0.0001, 0.0001)
    last_ns = T0_NS + 8 * NS_PER_HOUR
    assert board.rate_per_day("A", last_ns + 2 * NS_PER_DAY) > 0.0
    assert board.rate_per_day("A", last_ns + 2 * NS_PER_DAY + 1) == 0.0


def test_what_is_told_twice_or_is_no_number_changes_nothing() -> None:
    board = board_of(0.0001, 0.0002)
    before = board.rate_per_day("A", T0_NS)
    board.note(FundingRate("A", 0.5, T0_NS, T0_NS, 9))
    board.note(FundingRate("A", nan, T0_NS + NS_PER_DAY, T0_NS + NS_PER_DAY, 10))
    assert board.rate_per_day("A", T0_NS) == before


def test_a_payment_corrected_at_once_is_no_rate_for_a_day() -> None:
    board = board_of(0.0001, 0.0001, every_hours=1.0 / 3600.0)
    assert board.rate_per_day("A", T0_NS) == pytest.approx(0.0024)


def test_more_than_a_vault_may_state_is_not_believed() -> None:
    assert board_of(0.3).rate_per_day("A", T0_NS) == 0.05
    assert board_of(0.0, -0.3).rate_per_day("A", T0_NS) == -0.05
