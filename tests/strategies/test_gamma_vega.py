from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from pydantic import ValidationError

from bot.domain.decisions import HedgeView, Legs, OptionOffers, OptionTrade
from bot.domain.portfolio import Greeks
from bot.pricing import black76
from strategies import GammaVega, WhalleyWilmott
from tests.strategies.views import view

G = 5e-5  # ghat 10 for a hundred straddles of 1,900
POLICY = GammaVega(risk_aversion_per_quote=G)
SPOT_PX = 1_900.0
STRIKES_PX = (1_700.0, 1_800.0, 1_900.0, 2_000.0, 2_100.0)


def legs(days: float, strikes_px: tuple[float, ...], qty_base: tuple[float, ...], *, is_call: bool = True) -> Legs:
    full = np.full(len(strikes_px), 1.0)
    return Legs(
        SPOT_PX * full,
        np.array(strikes_px),
        days / 365.0 * full,
        0.6 * full,
        np.array(qty_base),
        np.full(full.shape, is_call),
    )


def offered(days: float, cost_quote: float, held_base: Any = 0.0, **changes: Any) -> OptionOffers:
    terms = legs(days, STRIKES_PX, (0.0,) * 5)
    greeks = black76.greeks(terms.forward_px, terms.strike_px, terms.tau_years, terms.vol, terms.is_call)
    full = np.full(5, 1.0)
    made = OptionOffers(
        instrument_ids=tuple(f"ETH-{days:g}D-{strike:g}-C" for strike in STRIKES_PX),
        buy_cost_quote=cost_quote * full,
        sell_cost_quote=cost_quote * full,
        buy_max_base=500.0 * full,
        sell_max_base=500.0 * full,
        lot_base=1.0 * full,
        held_base=held_base * full,
        terms=terms,
        delta_ratio=greeks.delta,
        gamma_per_px=greeks.gamma,
        vega_quote_per_vol=greeks.vega,
    )
    return msgspec.structs.replace(made, **changes)


def short_straddles(days: float = 30.0, offers: OptionOffers | None = None, **changes: Any) -> HedgeView:
    book = legs(days, (1_900.0,), (-200.0,))
    greeks = black76.greeks(book.forward_px, book.strike_px, book.tau_years, book.vol, book.is_call)
    gamma = float(greeks.gamma @ book.qty_base)
    return view(
        gamma,
        **{
            "greeks": Greeks(delta_base=0.0, gamma_base_per_px=gamma),
            "delta_low_base": 0.0,
            "delta_high_base": 0.0,
            "legs": book,
            "vol": 0.6,
            "tau_years": days / 365.0,
            "offers": offers,
            **changes,
        },
    )


def test_it_is_offered_options() -> None:
    assert POLICY.needs_offers


def test_without_offers_it_is_whalley_wilmott() -> None:
    assert POLICY.target(short_straddles()) == WhalleyWilmott(risk_aversion_per_quote=G).target(short_straddles())


def test_a_long_dated_book_is_hedged_in_whole_lots_for_less_than_it_gains() -> None:
    target = POLICY.target(short_straddles(60.0, offered(60.0, 1.5)))
    assert 0 < len(target.options) <= 3
    for trade in target.options:
        assert trade.qty_base == round(trade.qty_base) > 0.0
        assert trade.cost_quote == pytest.approx(1.5 * trade.qty_base)
        assert trade.benefit_quote > trade.cost_quote
        assert trade.reason.startswith(f"buy {trade.qty_base:g}: saves ")
    plain = POLICY.target(short_straddles(60.0))
    assert (target.low_base, target.high_base) == (plain.low_base, plain.high_base)
    assert target.reason.startswith(f"{plain.reason}; {len(target.options)} options for ")


def test_a_book_of_days_is_left_to_the_perpetual() -> None:
    assert not POLICY.target(short_straddles(3.0, offered(3.0, 1.5))).options


def test_what_costs_more_than_it_saves_is_not_traded() -> None:
    assert not POLICY.target(short_straddles(60.0, offered(60.0, 30.0))).options


def test_a_long_book_sells() -> None:
    target = POLICY.target(short_straddles(60.0, offered(60.0, 1.5), legs=legs(60.0, (1_900.0,), (200.0,)),
                                           greeks=Greeks(gamma_base_per_px=0.33)))  # fmt: skip
    assert target.options
    assert sum(trade.qty_base for trade in target.options) < -50.0


def test_the_threshold_of_gain_is_the_desks() -> None:
    offers = offered(60.0, 1.5)
    policy = GammaVega(risk_aversion_per_quote=G, min_benefit_quote=1e6)
    assert not policy.target(short_straddles(60.0, offers)).options
    assert not GammaVega(risk_aversion_per_quote=G, min_gain_ratio=100.0).target(short_straddles(60.0, offers)).options


def test_a_desk_that_is_paid_for_its_vega_keeps_more_of_it() -> None:
    offers = offered(60.0, 1.5)
    bought = [
        sum(trade.qty_base for trade in policy.target(short_straddles(60.0, offers)).options)
        for policy in (POLICY, GammaVega(risk_aversion_per_quote=G, vol_risk_share=0.2))
    ]
    assert bought[1] < bought[0]


def test_a_bound_holds() -> None:
    offers = offered(60.0, 1.5, buy_max_base=np.full(5, 7.9))
    trades = POLICY.target(short_straddles(60.0, offers)).options
    assert {trade.qty_base for trade in trades} == {7.0}


def test_what_is_hedged_is_not_hedged_again() -> None:
    """After the trade the same options are offered: the book holds them now, and the band between the costs holds."""
    for days in (60.0, 90.0):  # the hedge ends with the book, or outlives it
        first = POLICY.target(short_straddles(60.0, offered(days, 1.5))).options
        assert first
        held = held_of(offered(days, 1.5), first)
        assert not POLICY.target(with_hedge(days, held, offered(days, 1.5, held_base=held))).options


def test_a_hedge_that_is_not_on_offer_is_not_hedged_again_nor_taken_for_the_book() -> None:
    """What is held of 90 days ends a book of 60 no later, and saves what it saves, wherever its quotes are."""
    offers = offered(90.0, 1.5)
    first = POLICY.target(short_straddles(60.0, offers)).options
    held = held_of(offers, first)
    elsewhere = with_hedge(90.0, held, offered(60.0, 1.5))
    assert not POLICY.target(elsewhere).options
    assert elsewhere.offers is not None
    unknown = msgspec.structs.replace(elsewhere, offers=msgspec.structs.replace(elsewhere.offers, own_base=None))
    known, taken = (POLICY._problem(one, one.offers) for one in (elsewhere, unknown) if one.offers is not None)
    assert known.base_risk_quote < 0.9 * taken.base_risk_quote, "to the end of the book, not to that of its hedge"


def test_it_is_slow_to_buy_and_slow_to_sell() -> None:
    """Between what the cautious view would hold and what the plain one would, what is held stays."""
    offers = offered(60.0, 1.5)
    view = short_straddles(60.0, offers)
    plain, cautious = (POLICY._problem(view, offers, is_cautious=one).solve(3) for one in (False, True))
    assert abs(cautious).sum() < 0.9 * plain.sum()
    for held in (plain.round(), cautious.round()):
        assert not POLICY.target(with_hedge(60.0, held, offered(60.0, 1.5, held_base=held))).options
    gone = with_hedge(60.0, plain.round(), offered(60.0, 1.5, held_base=plain.round()))
    assert gone.offers is not None
    hedges = msgspec.structs.replace(gone.legs, qty_base=gone.legs.qty_base - np.array([-200.0, 0, 0, 0, 0, 0]))
    gamma = float(gone.greeks.gamma_base_per_px - short_straddles(60.0).greeks.gamma_base_per_px)
    offers = msgspec.structs.replace(gone.offers, own_base=np.zeros(6))
    sold = POLICY.target(
        msgspec.structs.replace(gone, legs=hedges, offers=offers, greeks=Greeks(gamma_base_per_px=gamma))
    ).options
    assert sum(trade.qty_base for trade in sold) < -0.5 * plain.sum()


def test_what_would_not_pay_its_way_back_is_left_to_the_perpetual() -> None:
    """A book of a week saves what its options cost to buy, but not to buy and to close again."""
    averse = GammaVega(risk_aversion_per_quote=3.0 * G)
    view = short_straddles(7.0, offered(7.0, 1.5))
    assert view.offers is not None
    once = averse._problem(view, view.offers)
    x_base = once.solve(3)
    assert once.objective_quote(x_base) < 0.8 * once.objective_quote(np.zeros_like(x_base))
    assert not averse.target(view).options


def test_a_book_that_is_turned_over_is_worth_fewer_options() -> None:
    view = short_straddles(60.0, offered(60.0, 1.5))
    bought = [
        sum(one.qty_base for one in GammaVega(risk_aversion_per_quote=G, book_days=days).target(view).options)
        for days in (None, 400.0, 20.0)
    ]
    assert bought[0] > bought[1] > bought[2] == 0.0


def held_of(offers: OptionOffers, trades: tuple[OptionTrade, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    bought = {trade.instrument_id: trade.qty_base for trade in trades}
    assert bought
    return np.array([bought.get(name, 0.0) for name in offers.instrument_ids])


def with_hedge(days: float, held: np.ndarray[Any, np.dtype[np.float64]], offers: OptionOffers) -> HedgeView:
    """Return short straddles of 60 days with a hedge of `days`."""
    own = legs(60.0, (1_900.0,), (-200.0,))
    columns = (msgspec.structs.astuple(one) for one in (own, legs(days, STRIKES_PX, tuple(held.tolist()))))
    book = Legs(*(np.concatenate(both) for both in zip(*columns, strict=True)))
    greeks = black76.greeks(book.forward_px, book.strike_px, book.tau_years, book.vol, book.is_call)
    offers = msgspec.structs.replace(offers, own_base=np.array([-200.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    return short_straddles(
        60.0, offers, legs=book, greeks=Greeks(gamma_base_per_px=float(greeks.gamma @ book.qty_base))
    )


@pytest.mark.parametrize(
    "field", ["buy_cost_quote", "sell_cost_quote", "buy_max_base", "sell_max_base", "held_base", "delta_ratio"]
)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_offer_that_is_no_offer_is_passed_over(field: str, bad: float) -> None:
    offers = offered(60.0, 1.5)
    column = getattr(offers, field).copy()
    column[2] = bad
    trades = POLICY.target(short_straddles(60.0, msgspec.structs.replace(offers, **{field: column}))).options
    assert trades
    assert "ETH-60D-1900-C" not in {trade.instrument_id for trade in trades}


@pytest.mark.parametrize(
    "changes",
    [
        {"vol": math.nan},
        {"vol": 0.0},
        {"delta_low_base": math.nan},
        {"spot_px": math.nan},
        {"lot_base": 0.0},
        {"greeks": Greeks(gamma_base_per_px=math.nan)},
    ],
)
def test_a_deadly_number_never_trades_an_option(changes: dict[str, Any]) -> None:
    assert not POLICY.target(short_straddles(60.0, offered(60.0, 1.5), **changes)).options


def test_nothing_is_traded_where_nothing_is_offered() -> None:
    none = offered(60.0, 1.5, buy_max_base=np.zeros(5), sell_max_base=np.zeros(5))
    assert POLICY.target(short_straddles(60.0, none)) == POLICY.target(short_straddles(60.0))


def test_a_bound_below_nothing_forces_no_trade_the_other_way() -> None:
    nothing, less = (
        POLICY.target(short_straddles(60.0, offered(60.0, 1.5, sell_max_base=np.full(5, most))))
        for most in (0.0, -20.0)
    )
    assert less.options == nothing.options
    assert less.options


def test_the_end_of_the_book_is_that_of_its_own_options() -> None:
    """A book with no option but held hedges has no end of its own: risks are counted to the horizon."""
    offers = offered(60.0, 0.01, held_base=0.0)
    empty = short_straddles(60.0, offers, legs=legs(60.0, (), ()), greeks=Greeks())
    assert not POLICY.target(empty).options
    liquidity = short_straddles(60.0, offers, legs=legs(60.0, (), ()), greeks=Greeks(gamma_base_per_px=-0.3))
    assert POLICY.target(liquidity).options


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_instruments", 0),
        ("max_instruments", 1.5),
        ("vol_risk_share", 1.1),
        ("gap_share", 1.0),
        ("horizon_days", 0.0),
    ],
)
def test_a_parameter_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValidationError):
        GammaVega.model_validate({"type": "gamma_vega", "risk_aversion_per_quote": G, field: value})
