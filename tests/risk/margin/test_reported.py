"""The venue's figure first; without it the worse of what is known and a quarter more; differences are named."""

from __future__ import annotations

import math

import pytest

from bot.domain.risk import ReportedMargin
from bot.risk.margin.reported import scaled, settle, tightest, whole
from bot.risk.requirement import Charge, Requirement

LOCAL = Requirement("deribit", "quote", 1_000.0, 800.0, (Charge("a", 1_000.0, 800.0),))


def told(initial: float, maintenance: float) -> ReportedMargin:
    return ReportedMargin("", 5_000.0, initial, maintenance)


def test_the_venues_figure_comes_first_and_agreement_is_silent() -> None:
    found = settle(told(1_050.0, 780.0), LOCAL)
    assert (found.initial_quote, found.maintenance_quote, found.source, found.note) == (1_050.0, 780.0, "venue", "")
    assert found.maintenance_difference_share == pytest.approx(800 / 780 - 1)


def test_a_difference_above_the_tolerance_is_named_but_does_not_change_the_figure() -> None:
    found = settle(told(500.0, 790.0), LOCAL)
    assert (found.initial_quote, found.source) == (500.0, "venue")
    assert found.note == "the model's initial margin 1,000.00 is +100.0% of the venue's 500.00"


def test_where_the_venue_does_not_tell_the_model_counts_a_quarter_more() -> None:
    found = settle(None, LOCAL)
    assert (found.initial_quote, found.maintenance_quote, found.source) == (1_250.0, 1_000.0, "local")
    assert "does not tell the maintenance margin" in found.note
    half = settle(told(math.nan, 700.0), LOCAL)
    assert (half.initial_quote, half.maintenance_quote, half.source) == (1_250.0, 700.0, "local")


def test_an_old_word_and_the_model_the_worse_counts_a_quarter_more() -> None:
    found = settle(told(1_200.0, 700.0), LOCAL, is_stale=True)
    assert (found.initial_quote, found.maintenance_quote) == (1_500.0, 1_000.0)
    assert found.source == "worse of both"
    assert "old" in found.note
    alone = settle(told(1_200.0, 700.0), None, is_stale=True)
    assert (alone.initial_quote, alone.maintenance_quote) == (1_500.0, 875.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_where_nobody_tells_it_is_infinite(bad: float) -> None:
    found = settle(told(bad, bad), None)
    assert (found.initial_quote, found.maintenance_quote, found.source) == (math.inf, math.inf, "nobody")
    assert "nobody tells the initial margin" in found.note


def test_a_model_in_coin_is_counted_at_its_price() -> None:
    coin = Requirement("m", "ETH", 0.5, 0.4)
    assert settle(None, coin, unit_px=2_000.0).initial_quote == pytest.approx(1_250.0)
    nothing = settle(told(0.0, 0.0), Requirement("m", "quote", 0.0, 0.0))
    assert (nothing.initial_difference_share, nothing.note) == (0.0, "")


def test_parts_are_added_unless_the_whole_is_told() -> None:
    parts = (ReportedMargin("BTC", 100.0, 10.0, 5.0), ReportedMargin("ETH", 50.0, 20.0, 15.0))
    assert whole(parts) == ReportedMargin("", 150.0, 30.0, 20.0)
    assert whole((*parts, told(1.0, 2.0))) == told(1.0, 2.0)
    assert whole(()) is None


def test_a_stand_in_says_how_much_is_its_surplus() -> None:
    found = scaled(LOCAL, 1.25, "expired")
    assert (found.initial, found.maintenance) == (1_250.0, 1_000.0)
    assert found.charge("degraded") == Charge("degraded", 250.0, 200.0, "expired")
    assert scaled(LOCAL, 1.0, "") is LOCAL


def test_the_part_nearest_to_liquidation_is_not_hidden_by_the_sum() -> None:
    rich = ReportedMargin("BTC", 1e6, 10.0, 5.0)
    poor = ReportedMargin("ETH", 50.0, 60.0, 48.0)
    idle = ReportedMargin("SOL", 0.0, 0.0, 0.0)
    assert tightest((rich, poor, idle)) is poor
    broke = ReportedMargin("USDC", -1.0, 1.0, 1.0)
    assert tightest((rich, broke, poor)) is broke
    silent = ReportedMargin("X", 1.0, 1.0, math.nan)
    assert tightest((rich, silent, poor)) is silent
    assert tightest((idle, rich)) is rich
    assert tightest(()) is None
