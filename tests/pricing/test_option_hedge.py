from __future__ import annotations

from itertools import combinations
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bot.domain.decisions import Legs
from bot.pricing import black76
from bot.pricing.ex_ante import expected_cost
from bot.pricing.option_hedge import (
    OptionHedge,
    Situation,
    VolMoves,
    build_option_hedge,
    round_to_lots,
)

Floats = NDArray[np.float64]

FORWARD_PX = 30_000.0
VOL = 0.6
DAY = 1.0 / 365.0
MOVES = VolMoves(level_vol=0.5, slope_vol=0.2, skew_vol=0.3, gaps_per_year=12.0, gap_share=0.03)
STILL = VolMoves(0.0, 0.0, 0.0, 0.0, 0.0)


def options(*terms: tuple[float, float]) -> Legs:
    """Calls by strike and days."""
    strike, days = (np.array(column, np.float64) for column in zip(*terms, strict=True))
    full = np.full(strike.shape, 1.0)
    return Legs(FORWARD_PX * full, strike, days * DAY, VOL * full, full, strike > 0.0)


def greeks(terms: Legs) -> black76.Black76Greeks:
    return black76.greeks(terms.forward_px, terms.strike_px, terms.tau_years, terms.vol, terms.is_call)


def problem(
    book: Legs,
    qty_base: list[float],
    offers: Legs,
    cost_quote: float = 15.0,
    ghat: float = 10.0,
    *,
    horizon_days: float | None = None,
    held: float = 0.0,
    bound: float = 100.0,
    **changes: Any,
) -> OptionHedge:
    """A book's problem; `ghat` is risk aversion times forward."""
    qty = np.array(qty_base)
    situation = Situation(
        spot_px=FORWARD_PX,
        vol=VOL,
        gamma_base_per_px=float(greeks(book).gamma @ qty),
        off_base=0.0,
        risk_aversion_per_quote=ghat / FORWARD_PX,
        cost_rate=5e-4,
        fixed_cost_quote=0.0,
        lot_base=1e-6,
        latency_years=0.0,
        moves=MOVES,
    )
    count = offers.strike_px.shape
    horizon_years = float(book.tau_years.max()) if horizon_days is None else horizon_days * DAY
    return build_option_hedge(
        situation._replace(**changes),
        book,
        qty,
        offers,
        greeks(offers).delta,
        np.full(count, cost_quote),
        np.full(count, cost_quote),
        np.full(count, -bound),
        np.full(count, bound),
        np.full(count, held),
        horizon_years,
    )


LISTED = options(
    *((strike, days) for days in (7.0, 14.0, 30.0, 60.0) for strike in np.arange(24e3, 37e3, 2e3).tolist())
)
STRADDLE = options((30_000.0, 30.0))


def test_hedging_cost_is_that_of_the_exact_solution() -> None:
    """W of a 30-day call at 5 bp, per 100 of notional: the exact solution lies within 5 % of these."""
    for ghat, expected in ((1.0, 0.04096), (10.0, 0.08824), (100.0, 0.19011)):
        found = problem(STRADDLE, [-1.0], LISTED, ghat=ghat).hedging_quote(np.zeros(LISTED.strike_px.size))
        assert found / FORWARD_PX * 100.0 == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("terms", "qty_base"),
    [
        (((30_000.0, 7.0),), [-5.0]),
        (((27_000.0, 30.0), (33_000.0, 30.0)), [-5.0, -5.0]),
        (((30_000.0, 14.0), (30_000.0, 45.0)), [-5.0, 5.0]),
    ],
)
def test_hedging_cost_is_nearly_that_of_the_fine_grid(
    terms: tuple[tuple[float, float], ...], qty_base: list[float]
) -> None:
    """A third of a hundred nodes are within some per cent of what `ex_ante` has of thousands."""
    book = options(*terms)
    found = problem(book, qty_base, LISTED).hedging_quote(np.zeros(LISTED.strike_px.size))
    legs = Legs(book.forward_px, book.strike_px, book.tau_years, book.vol, np.array(qty_base), book.is_call)
    expected = expected_cost(legs, FORWARD_PX, VOL, 5e-4, 10.0 / FORWARD_PX).cost_quote
    assert found == pytest.approx(expected, rel=0.05)


def test_a_gap_costs_what_it_takes_from_the_hedged_value() -> None:
    """Of one near-dated option over an instant: both gaps, as repricing has them, squared."""
    for days, strike in ((1.0, 30_000.0), (1.0, 30_900.0), (30.0, 30_000.0), (7.0, 28_000.0)):
        book = options((strike, days))
        moves = STILL._replace(gaps_per_year=12.0, gap_share=0.03)
        found = problem(book, [-5.0], LISTED, horizon_days=1e-4, moves=moves).risk_quote(np.zeros(28))
        now, losses = greeks(book), []
        for share in (0.03, -0.03):
            after = black76.greeks(
                book.forward_px * (1.0 + share), book.strike_px, book.tau_years, book.vol, book.is_call
            )
            losses.append(5.0 * (after.value - now.value - now.delta * share * FORWARD_PX).item())
        expected = 0.5 * 10.0 / FORWARD_PX * 12.0 * 1e-4 / 365.0 * 0.5 * (losses[0] ** 2 + losses[1] ** 2)
        assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("cost_quote", [1.0, 30.0, 100.0, 1e4])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_instrument_follows_the_soft_threshold(cost_quote: float, sign: float) -> None:
    one = problem(STRADDLE, [-4.0 * sign], options((31_000.0, 30.0)), cost_quote, cost_rate=0.0)  # squares only
    value = one.marginal_quote(np.zeros(1)).item()
    expected = -np.sign(value) * max(abs(value) - cost_quote, 0.0) / one.risk.item()
    assert one.solve(1).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("ghat", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("days", [3.0, 14.0, 45.0])
def test_the_conditions_of_optimality_hold(ghat: float, days: float) -> None:
    for qty_base in ([-5.0, -5.0], [4.0, -7.0], [6.0, 3.0]):
        book = options((29_000.0, days), (31_500.0, 1.3 * days))
        one = problem(book, qty_base, LISTED, ghat=ghat, bound=3.0)
        x_base = one.solve(LISTED.strike_px.size)
        assert one.shortfall_quote(x_base).max() < 1e-4
        assert (np.abs(x_base) <= 3.0).all()


def test_no_grid_point_is_better() -> None:
    offers = options((28_000.0, 30.0), (33_000.0, 30.0))
    one = problem(options((29_000.0, 30.0), (31_500.0, 30.0)), [-5.0, -3.0], offers)
    found = one.objective_quote(one.solve(2))
    grid = np.linspace(-10.0, 10.0, 81)
    best = min(one.objective_quote(np.array([a, b])) for a in grid for b in grid)
    assert best - 0.02 * abs(best) < found <= best


def test_a_few_instruments_are_nearly_as_good_as_the_best_few() -> None:
    offers = options(*((strike, days) for days in (14.0, 30.0) for strike in (26e3, 28e3, 30e3, 32e3, 34e3)))
    one = problem(options((29_000.0, 20.0), (31_500.0, 30.0)), [-5.0, -3.0], offers)
    nothing = one.objective_quote(np.zeros(10))
    found = one.solve(2)
    assert np.count_nonzero(found) <= 2
    gains = []
    for pair in combinations(range(10), 2):
        only = problem(options((29_000.0, 20.0), (31_500.0, 30.0)), [-5.0, -3.0], _rows(offers, list(pair)))
        gains.append(nothing - only.objective_quote(only.solve(2)))
    assert nothing - one.objective_quote(found) > 0.95 * max(gains)


def _rows(legs: Legs, rows: list[int]) -> Legs:
    return Legs(legs.forward_px[rows], legs.strike_px[rows], legs.tau_years[rows], legs.vol[rows], legs.qty_base[rows],
                legs.is_call[rows])  # fmt: skip


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_n_contracts_at_g_are_one_at_ng(factor: float) -> None:
    small = problem(STRADDLE, [-5.0], LISTED, bound=1e4)
    large = problem(STRADDLE, [-5.0 * factor], LISTED, bound=1e4 * factor, ghat=10.0 / factor, lot_base=1e-6 * factor)
    assert large.solve(3) == pytest.approx(factor * small.solve(3), rel=1e-6)
    assert large.objective_quote(large.solve(3)) == pytest.approx(factor * small.objective_quote(small.solve(3)))


def test_a_book_without_risk_is_left_alone() -> None:
    flat = problem(STRADDLE, [0.0], LISTED, horizon_days=30.0, cost_quote=0.01)
    assert not flat.solve(5).any()


def test_delta_that_is_off_may_be_brought_back_by_what_comes_with_an_option() -> None:
    """At twice the band off, an option whose delta brings it back is worth kS|Δ| more than one that takes it away."""
    near = problem(STRADDLE, [-5.0], options((30_000.0, 30.0)), off_base=-5.0)
    away = problem(STRADDLE, [-5.0], options((30_000.0, 30.0)), off_base=5.0)
    delta = greeks(options((30_000.0, 30.0))).delta.item()
    apart = away.marginal_quote(np.zeros(1)) - near.marginal_quote(np.zeros(1))
    assert apart.item() == pytest.approx(2.0 * 5e-4 * FORWARD_PX * delta)
    assert near.solve(1).item() > away.solve(1).item()


def test_what_outlives_the_book_is_paid_for_twice_unless_it_is_held_already() -> None:
    book, offers = options((30_000.0, 30.0)), options((30_000.0, 60.0))
    new = problem(book, [-5.0], offers)
    assert (new.buy_cost_quote.item(), new.sell_cost_quote.item()) == (30.0, 30.0)
    held = problem(book, [-5.0], offers, held=2.0)
    assert (held.buy_cost_quote.item(), held.sell_cost_quote.item(), held.low_base.item()) == (30.0, 0.0, -2.0)
    short = problem(book, [-5.0], offers, held=-2.0)
    assert (short.buy_cost_quote.item(), short.sell_cost_quote.item(), short.high_base.item()) == (0.0, 30.0, 2.0)
    assert problem(book, [-5.0], offers, horizon_days=60.0).buy_cost_quote.item() == 15.0


def test_closing_is_paid_for_by_the_chance_that_it_comes_to_that() -> None:
    """A book turned over twice a year has ended before an option of 30 days with a chance of 1 − e^(−60/365)."""
    book, offers = options((30_000.0, 30.0)), options((30_000.0, 30.0))
    chance = -np.expm1(-60.0 / 365.0)
    new = problem(book, [-5.0], offers, turnover_per_year=2.0)
    assert new.buy_cost_quote.item() == new.sell_cost_quote.item() == pytest.approx(15.0 * (1.0 + chance))
    held = problem(book, [-5.0], offers, held=2.0, turnover_per_year=2.0)
    assert held.sell_cost_quote.item() == pytest.approx(15.0 * (1.0 - chance))
    assert held.low_base.item() == -2.0
    earned = problem(book, [-5.0], offers, held=2.0, turnover_per_year=2.0, closing_share=1.0)
    assert (earned.buy_cost_quote.item(), earned.sell_cost_quote.item()) == (30.0, 15.0)
    nothing = np.zeros(1)
    ending, lasting = (problem(STRADDLE, [-5.0], STRADDLE, turnover_per_year=rate) for rate in (12.0, 0.0))
    assert ending.hedging_quote(nothing) < 0.75 * lasting.hedging_quote(nothing)
    assert ending.risk_quote(nothing) < 0.75 * lasting.risk_quote(nothing)


def test_once_it_has_traded_it_does_not_trade_again() -> None:
    first = problem(STRADDLE, [-5.0], LISTED)
    x_base = first.solve(3)
    assert x_base.any()
    book = options((30_000.0, 30.0), *zip(LISTED.strike_px.tolist(), (LISTED.tau_years / DAY).tolist(), strict=True))
    again = problem(book, [-5.0, *x_base.tolist()], LISTED, horizon_days=30.0, lot_base=float(first.half_base))
    assert np.abs(again.solve(3)).max() < 0.02 * np.abs(x_base).max()


def test_gas_and_latency_make_options_worth_more() -> None:
    plain = problem(STRADDLE, [-5.0], LISTED)
    nothing = np.zeros(LISTED.strike_px.size)
    gas = problem(STRADDLE, [-5.0], LISTED, fixed_cost_quote=30.0)
    assert gas.hedging_quote(nothing) > 1.5 * plain.hedging_quote(nothing)
    late = problem(STRADDLE, [-5.0], LISTED, moves=STILL, latency_years=1e-4)
    assert late.risk_quote(nothing) > 0.0
    assert problem(STRADDLE, [-5.0], LISTED, moves=STILL).risk_quote(nothing) == 0.0


def test_vol_that_is_paid_for_need_not_count() -> None:
    nothing = np.zeros(LISTED.strike_px.size)
    whole = problem(STRADDLE, [-5.0], LISTED).risk_quote(nothing)
    gaps = problem(STRADDLE, [-5.0], LISTED, vol_risk_share=0.0).risk_quote(nothing)
    half = problem(STRADDLE, [-5.0], LISTED, vol_risk_share=0.5).risk_quote(nothing)
    assert 0.0 < gaps < 0.2 * whole
    assert half == pytest.approx(0.5 * (whole + gaps))


def test_gamma_that_no_option_explains_stays() -> None:
    """Liquidity is short gamma with no expiry: it costs all the horizon long."""
    lp = problem(STRADDLE, [0.0], LISTED, gamma_base_per_px=-1e-3, horizon_days=30.0)
    assert lp.own_gamma == pytest.approx(np.full(lp.own_gamma.size, -1e-3))
    assert lp.solve(3).max() > 0.0


def test_lots_are_whole_and_never_worse_than_nothing() -> None:
    one = problem(STRADDLE, [-5.0], LISTED)
    best = one.solve(3)
    for lot in (0.1, 1.0, 4.0, 50.0):
        x_base = round_to_lots(one, best, np.full(best.size, lot))
        assert x_base / lot == pytest.approx(np.round(x_base / lot))
        assert one.objective_quote(x_base) <= one.objective_quote(np.zeros(best.size))
        assert (np.abs(x_base) <= 100.0).all()
    assert not round_to_lots(one, best, np.full(best.size, 50.0)).any()
    assert round_to_lots(one, best, np.full(best.size, 0.1)).any()


@pytest.mark.parametrize(
    ("field", "number"),
    [("spot_px", 0.0), ("vol", nan), ("vol", 0.0), ("gamma_base_per_px", inf), ("off_base", nan), ("cost_rate", nan)],
)
def test_what_is_no_number_is_refused(field: str, number: float) -> None:
    with pytest.raises(ValueError, match=rf"{field}: expected a .* number, found .*; hint: "):
        problem(STRADDLE, [-5.0], LISTED, **{field: number})
