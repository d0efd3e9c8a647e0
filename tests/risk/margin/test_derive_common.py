"""What Derive's managers share: naked shorts, forwards half fixed, doubted feeds, the arithmetic of an auction."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.book import OPTION, PERPETUAL, SPOT, Position, build_book
from bot.risk.margin.derive_common import (
    Auction,
    Expiries,
    Feeds,
    Haircut,
    Scenario,
    Scenarios,
    coin_values_quote,
    coins,
    confidence_charge,
    haircuts,
    liquidated_share,
    marks_px,
    naked_shorts_base,
)
from bot.risk.stack import BookStack

FIXING_S = 1_800.0
AUCTION = Auction(start_share=0.95, knee_share=0.70, fast_s=900.0, slow_s=43_200.0, buffer_rate=0.15)


def option(qty: float, strike: float, *, is_call: bool, days: float = 20.0, vol: float = 0.6) -> Position:
    return Position(
        kind=OPTION, underlying="ETH", qty_base=qty, strike_px=strike, tau_years=days / 365, vol=vol, is_call=is_call
    )


def book(*positions: Position) -> BookStack:
    return BookStack(build_book(positions, {"ETH": 2_000.0, "BTC": 60_000.0}))


def naked(*positions: Position) -> float:
    held = book(*positions)
    return float(naked_shorts_base(Expiries(held, Feeds().of(held, FIXING_S)), [0])[0, 0])


def test_calls_and_puts_of_one_strike_and_expiry_net_each_other() -> None:
    assert naked(option(-3.0, 2_200.0, is_call=True), option(2.0, 2_200.0, is_call=False)) == 1.0
    assert naked(option(-3.0, 2_200.0, is_call=True), option(2.0, 2_300.0, is_call=False)) == 3.0
    assert naked(option(-3.0, 2_200.0, is_call=True), option(2.0, 2_200.0, is_call=False, days=21.0)) == 3.0
    assert naked(option(4.0, 2_200.0, is_call=True)) == 0.0


def test_a_forward_is_fixed_in_its_last_half_hour() -> None:
    ten_minutes = option(1.0, 2_000.0, is_call=True, days=600 / 86_400)
    held = book(ten_minutes, option(1.0, 2_000.0, is_call=True))
    feeds = Feeds().of(held, FIXING_S)
    assert feeds.fixed_px[0] == pytest.approx([2_000.0 * 2 / 3, 0.0])
    both = Expiries(held, feeds)
    once = np.zeros(1, dtype=np.int64)
    up = both.values(np.array([1.3]), np.zeros((1, 1, 2)), once, once)[0, 0]
    assert up == pytest.approx([2_000.0 * 0.1, 2_000.0 * 0.3])  # without vol the payoff: a third of the move is left


def test_the_least_confident_feed_counts_and_a_perpetual_lends_its_doubt_to_options_only() -> None:
    held = book(
        option(1.0, 2_000.0, is_call=True),
        Position(kind=PERPETUAL, underlying="ETH", qty_base=1.0),
        Position(kind=SPOT, underlying="ETH", qty_base=1.0),
        Position(kind=SPOT, underlying="BTC", qty_base=1.0),
    )
    told = Feeds(confidence=np.array([0.95, 0.3, 0.9, float("nan")]), spot_confidence=np.array([0.8, 1.0]))
    assert told.of(held, FIXING_S).confidence[0] == pytest.approx([0.3, 0.3, 0.8, 0.0])


def test_a_perpetual_that_is_not_held_casts_no_doubt() -> None:
    held = book(option(1.0, 2_000.0, is_call=True), Position(kind=PERPETUAL, underlying="ETH", qty_base=0.0))
    assert Feeds(confidence=np.array([0.9, 0.0])).of(held, FIXING_S).confidence[0, 0] == 0.9


def test_a_rate_that_is_no_number_is_doubt_and_not_silence() -> None:
    held = book(option(1.0, 2_000.0, is_call=True), option(1.0, 2_100.0, is_call=True))
    feeds = Feeds(rate_per_year=np.array([float("nan"), 0.1])).of(held, FIXING_S)
    assert feeds.confidence.tolist() == [[0.0, 1.0]]
    assert feeds.rate_per_year.tolist() == [0.0, 0.1]
    assert feeds.doubts == ["least confidence 0"]
    assert Feeds().of(held, FIXING_S).doubts == [""]


def test_scenarios_that_cannot_be_priced_are_refused() -> None:
    for wrong in (Scenario(0.0, "up"), Scenario(1.1, "up", -1.0), Scenario(1.1, "linear")):
        with pytest.raises(ValueError, match="a price above 0 and vol same, up, found"):
            Scenarios((Scenario(1.0, "up"), wrong), ("same", "up"))
    with pytest.raises(ValueError, match="found none"):
        Scenarios((), ("same",))


def test_feeds_of_another_book_are_refused() -> None:
    held = book(option(1.0, 2_000.0, is_call=True))
    with pytest.raises(ValueError, match="feeds for 1 rows and 2 underlyings, found rate_per_year"):
        Feeds(rate_per_year=np.zeros(3)).of(held, FIXING_S)
    with pytest.raises(ValueError, match="spot_confidence"):
        Feeds(spot_confidence=np.ones(1)).of(held, FIXING_S)


def test_doubt_is_charged_below_the_threshold_only() -> None:
    confidence, notional = np.array([0.4, 0.6]), np.array([-1_000.0, 1_000.0])
    assert confidence_charge(confidence, notional, 0.55, 0.5) == pytest.approx(0.6 * 1_000.0 * 0.5)


def test_marks_are_discounted_at_the_rate_of_the_expiry() -> None:
    positions = [option(1.0, 2_000.0, is_call=True, days=365.0), Position(kind=SPOT, underlying="BTC", qty_base=1.0)]
    held = build_book(positions, {"ETH": 2_000.0, "BTC": 60_000.0})
    px = marks_px(held, Feeds(rate_per_year=np.array([0.1, 0.0])), FIXING_S)
    assert px[0] == pytest.approx(held.mark_px[0] * np.exp(-0.1))
    assert px[1] == 60_000.0


def test_coins_count_in_units_of_the_cash_and_those_without_a_rate_lose_everything() -> None:
    held = book(
        Position(kind=SPOT, underlying="ETH", qty_base=2.0),
        Position(kind=SPOT, underlying="ETH", qty_base=1.0, instrument_id="odd"),
        Position(kind=SPOT, underlying="ETH", qty_base=500.0, instrument_id="USDC", mark_px=1.0),
    )
    feeds = Feeds(stable_px=0.8).of(held, FIXING_S)
    rows = coins(held, ("USDC",))
    values = coin_values_quote(held, rows, feeds)
    assert values[0] == pytest.approx([5_000.0, 2_500.0])
    *found, refused = haircuts(held, rows, values, {"ETH": Haircut(0.2, 0.05)})
    assert [one.tolist() for one in found] == [[pytest.approx(1_000.0 + 2_500.0)], [pytest.approx(250.0)]]
    assert refused == "not accepted: odd"


def test_the_price_of_an_auction_falls_fast_and_then_slowly() -> None:
    seconds = (-5.0, 0.0, 450.0, 900.0, 900.0 + 21_600.0, 900.0 + 43_200.0, 1e9)
    assert [AUCTION.price_share(s) for s in seconds] == pytest.approx([0.95, 0.95, 0.825, 0.70, 0.35, 0.0, 0.0])


def test_buffer_margin_asks_for_more_than_maintenance() -> None:
    assert AUCTION.buffer_margin_quote(1_000.0, 1_100.0) == pytest.approx(-50.0)


@pytest.mark.parametrize("reserved_quote", [0.0, 40.0])
@pytest.mark.parametrize("price_share", [0.95, 0.7, 0.2])
def test_what_is_liquidated_restores_buffer_margin_to_zero(reserved_quote: float, price_share: float) -> None:
    equity_quote, buffer_quote = 500.0, -80.0
    share = liquidated_share(buffer_quote, equity_quote, reserved_quote, price_share)
    assert 0.0 < share < 1.0
    paid = share * price_share * (equity_quote - reserved_quote)
    left = (1.0 - share) * (buffer_quote - reserved_quote) + reserved_quote + paid
    assert left == pytest.approx(0.0, abs=1e-9)


def test_by_hand_a_half_priced_share() -> None:
    # 100 of equity, 25 short of what is asked, at half price: f = -25 / (-25 - 50)
    assert liquidated_share(-25.0, 100.0, 0.0, 0.5) == pytest.approx(1 / 3)


def test_a_healthy_account_is_not_sold_and_a_worthless_one_is_sold_whole() -> None:
    assert liquidated_share(1.0, 100.0, 0.0, 0.9) == 0.0
    assert liquidated_share(-100.0, -5.0, 0.0, 0.9) == 1.0
