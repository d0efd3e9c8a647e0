from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.domain.decisions import HedgeTarget, HedgeView, OptionTrade
from bot.pricing import black76
from bot.simulation.yardstick.option_run import Listing, Market, Terms, listing, run_book
from bot.simulation.yardstick.surfaces import SurfaceWorld, draw_market, option_cost_quote, quoted_vol
from strategies import FixedInterval, GammaVega, Unhedged, WhalleyWilmott

WORLD = SurfaceWorld()
DAY = 1.0 / 365.0
AVERSE = 10.0 / 300_000.0  # ghat 10 for a straddle of five


def market(days: float, steps: int, paths: int) -> Market:
    return draw_market(WORLD, days * DAY, steps, paths, seed=11)


def straddle(days: float) -> Listing:
    return listing(30_000.0, ((1.0, days, True, -5.0), (1.0, days, False, -5.0)), (7.0, 30.0))


def start_value(drawn: Market, options: Listing) -> float:
    rows = np.flatnonzero(options.book_base)
    state = (drawn.spot_px[0][:1, None], drawn.variance[0][:1, None], drawn.skew[0][:1, None])
    vol = quoted_vol(WORLD, *state, options.strike_px[rows], options.expiry_years[rows])
    greeks = black76.greeks(30_000.0, options.strike_px[rows], options.expiry_years[rows], vol, options.is_call[rows])
    return float((greeks.value @ options.book_base[rows]).item())


def test_a_book_left_alone_loses_what_it_pays_out() -> None:
    drawn, options = market(7.0, 14, 6), straddle(7.0)
    found = run_book(Unhedged(), drawn, options, Terms())
    assert found.loss_quote == pytest.approx(5.0 * np.abs(drawn.spot_px[-1] - 30_000.0) + start_value(drawn, options))
    assert not found.perpetual_cost_quote.any()
    assert not found.option_trades.any()


class BuyBack:
    """Buys the book back at the first look: not a policy anybody needs."""

    name = "buy_back"
    needs_offers = True

    def target(self, view: HedgeView) -> HedgeTarget:
        band = HedgeTarget.hold("nothing else")
        if view.offers is None or view.offers.held_base.any():
            return band
        terms = view.offers.terms
        rows = np.flatnonzero((terms.strike_px == 30_000.0) & (np.abs(terms.tau_years - 7.0 * DAY) < 1e-9))
        ids = [view.offers.instrument_ids[row] for row in rows.tolist()]
        trades = tuple(OptionTrade(one, 5.0, 0.0, 0.0, "") for one in ids)
        return msgspec.structs.replace(band, options=trades)


def test_a_book_bought_back_costs_its_spread_and_fee_and_not_a_cent_more() -> None:
    drawn = market(7.0, 14, 6)
    grid = np.array([30_000.0, 30_000.0])
    expiry, calls = np.full(2, 7.0 * DAY), np.array([True, False])
    options = Listing(grid, expiry, calls, np.full(2, -5.0))
    found = run_book(BuyBack(), drawn, options, Terms())
    state = (drawn.spot_px[0][:, None], drawn.variance[0][:, None], drawn.skew[0][:, None])
    vol = quoted_vol(WORLD, *state, grid, expiry)
    greeks = black76.greeks(state[0], grid, expiry, vol, calls)
    expected = 5.0 * option_cost_quote(state[0], greeks.value, greeks.delta, expiry).sum(axis=1)
    assert found.option_trades.tolist() == [2] * 6
    assert found.option_cost_quote == pytest.approx(expected)
    assert found.loss_quote == pytest.approx(expected, rel=1e-9)


def test_what_outlives_the_book_is_closed_at_its_cost() -> None:
    """A hedge of 7 days for a book of 3: paid for when it is opened and when it is closed, at the quotes of each."""
    drawn = market(3.0, 3, 4)
    strikes, expiries, calls = np.array([30e3, 30e3]), np.array([3.0, 7.0]) * DAY, np.array([True, True])
    found = run_book(BuyBack(), drawn, Listing(strikes, expiries, calls, np.array([-5.0, 0.0])), Terms())
    assert found.option_trades.tolist() == [1] * 4
    costs, values = np.zeros(4), []
    for at, tau in ((0, 7.0 * DAY), (3, 4.0 * DAY)):
        state = (drawn.spot_px[at], drawn.variance[at], drawn.skew[at])
        vol = quoted_vol(WORLD, *state, strikes[1:], np.array([tau]))
        greeks = black76.greeks(state[0], 30e3, tau, vol, np.array([True] * 4))
        costs += 5.0 * option_cost_quote(state[0], greeks.value, greeks.delta, np.array([tau]))
        values.append(5.0 * greeks.value)
    assert found.option_cost_quote == pytest.approx(costs)
    assert found.hedges_quote == pytest.approx(values[1] - values[0])


def test_hedging_by_the_clock_leaves_little_and_pays_for_what_it_trades() -> None:
    drawn, options = market(7.0, 168, 20), straddle(7.0)
    alone = run_book(Unhedged(), drawn, options, Terms())
    hedged = run_book(FixedInterval(interval_s=1800.0), drawn, options, Terms(cost_rate=0.0))
    paid = run_book(FixedInterval(interval_s=1800.0), drawn, options, Terms())
    assert hedged.loss_quote.std() < 0.5 * alone.loss_quote.std()
    assert paid.loss_quote - hedged.loss_quote == pytest.approx(paid.perpetual_cost_quote)
    assert (paid.perpetual_cost_quote > 0.0).all()


def test_a_book_sold_early_is_worth_its_mid_and_its_hedges_cost_their_spread() -> None:
    drawn = market(7.0, 14, 6)
    strikes, expiries, calls = np.array([30e3, 30e3]), np.array([30.0, 7.0]) * DAY, np.array([True, True])
    options = Listing(strikes, expiries, calls, np.array([-5.0, 0.0]))
    alone = run_book(Unhedged(), drawn, options, Terms(end_years=3.0 * DAY))
    found = run_book(BuyBack(), drawn, options, Terms(end_years=3.0 * DAY))
    values = []
    for at in (0, 6):
        state = (drawn.spot_px[at], drawn.variance[at], drawn.skew[at])
        tau = expiries[0] - at * drawn.step_years
        vol = quoted_vol(WORLD, *state, strikes[:1], np.array([tau]))
        values.append(5.0 * black76.greeks(state[0], 30e3, tau, vol, np.array([True] * 6)).value)
    assert alone.loss_quote == pytest.approx(values[1] - values[0])
    assert alone.loss_quote - found.loss_quote == pytest.approx(found.hedges_quote - found.option_cost_quote)
    assert (found.option_cost_quote > 2 * 5.0 * 8e-4 * 25_000.0).all()


def test_a_month_is_hedged_with_options_and_three_days_are_not() -> None:
    """Little is left of the risk of a month; docs/gamma-vega.md has the costs, with many more paths."""
    averse = 3.0 * AVERSE
    plain, both = WhalleyWilmott(risk_aversion_per_quote=averse), GammaVega(risk_aversion_per_quote=averse)
    drawn, options = market(30.0, 60, 24), straddle(30.0)
    one, other = (run_book(policy, drawn, options, Terms(review_steps=10)) for policy in (plain, both))
    assert (other.option_trades > 0).all()
    assert other.loss_quote.std() < 0.5 * one.loss_quote.std()
    assert other.perpetual_cost_quote.mean() < 0.5 * one.perpetual_cost_quote.mean()
    drawn, options = market(3.0, 36, 12), straddle(3.0)
    one, other = (run_book(policy, drawn, options, Terms(review_steps=6)) for policy in (plain, both))
    assert not other.option_trades.any()
    assert np.array_equal(one.loss_quote, other.loss_quote)
