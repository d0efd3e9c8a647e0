"""The hedge plan after a crash: which way it trades, where, and what margin says to it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from bot.domain.decisions import HedgeTarget, HedgeView
from bot.pricing.black76 import greeks
from bot.risk.book import OPTION, PERPETUAL, SPOT, Position, build_book
from bot.risk.replanning import Asking, HedgeInstrument, PlannedHedge, plan, view_of
from bot.risk.scenarios import VolShock
from bot.risk.stress import MarginTermsOf, Outage, StressScenario
from strategies.risk import RiskWords
from strategies.whalley_wilmott import WhalleyWilmott
from tests.risk.legs import values_of

SPOT_PX = {"BTC": 60_000.0, "ETH": 3_000.0, "USDC": 1.0}
ASKING = Asking(now_ns=1_790_000_000_000_000_000, monitor_years=1 / 365 / 24)
HOUSE = MarginTermsOf(model="house", values=values_of("house-2026-11-26"))
CRASH = StressScenario(
    name="crash",
    day=date(2026, 1, 1),
    title="t",
    moves={"BTC": -0.2, "ETH": -0.2},
    other_move=0.0,
    vol=VolShock(up=0.5),
)


def flat(_: HedgeView) -> HedgeTarget:
    return HedgeTarget.to_centre(-0.1, 0.1, 0.0, "flat")


def instrument(account: str, underlying: str = "BTC", lot_base: float = 0.01) -> HedgeInstrument:
    return HedgeInstrument(
        instrument_id=f"{underlying}-{account}", underlying=underlying, account=account, lot_base=lot_base,
        cost_rate=0.0005,
    )  # fmt: skip


def put(qty: float, account: str = "a", underlying: str = "BTC", strike: float = 55_000.0) -> Position:
    return Position(
        kind=OPTION, underlying=underlying, qty_base=qty, account=account, strike_px=strike, tau_years=20 / 365,
        vol=0.5, instrument_id=f"put-{account}",
    )  # fmt: skip


def money(qty: float, account: str) -> Position:
    return Position(kind=SPOT, underlying="USDC", qty_base=qty, account=account, instrument_id="USDC", mark_px=1.0)


def planned(
    equities: dict[str, float], scenario: StressScenario = CRASH, positions: tuple[Position, ...] = (), **more: Any
) -> tuple[PlannedHedge, ...]:
    """Return the plan of ten sold puts at "a", with a perpetual at "a" and one at "b", and this equity."""
    held = positions or (put(-10.0), money(1.0, "b"))
    terms = {name: MarginTermsOf(model="house", values=HOUSE.values, equity_quote=equities[name]) for name in equities}
    instruments = more.get("instruments", [instrument("a"), instrument("b")])
    return plan(build_book(held, SPOT_PX), scenario, instruments, more.get("policy", flat), terms, ASKING)


def test_sold_puts_make_the_book_long_in_a_crash_and_it_sells() -> None:
    (found,) = planned({"a": 1e7, "b": 1e7})
    delta = -10.0 * float(greeks(48_000.0, 55_000.0, 20 / 365, 0.75, False).delta)
    assert found.delta_base == pytest.approx(delta)
    assert 0.0 < found.delta_before_base < found.delta_base
    assert found.trade_base == pytest.approx(-int(delta * 100) / 100)
    assert (found.instrument_id, found.account, found.is_affordable) == ("BTC-a", "a", True)
    assert found.cost_quote == pytest.approx(-found.trade_base * 48_000.0 * 0.0005)
    assert found.initial_with_quote < found.initial_without_quote  # it hedges what is sold there
    assert found.passed_over == ()


def test_equity_at_the_account_is_what_the_crash_left_of_it() -> None:
    (found,) = planned({"a": 1e6, "b": 1e6})
    before = float(greeks(60_000.0, 55_000.0, 20 / 365, 0.5, False).value)
    after = float(greeks(48_000.0, 55_000.0, 20 / 365, 0.75, False).value)
    assert found.equity_quote == pytest.approx(1e6 - 10.0 * (after - before))


def test_a_hedge_that_margin_does_not_allow_moves_to_the_next_venue() -> None:
    """The puts are held where there is no perpetual, so that the hedge needs margin of its own wherever it goes."""
    positions = (put(-10.0, "c"), money(1.0, "a"), money(1.0, "b"))
    (found,) = planned({"a": 1_000.0, "b": 1e6, "c": 1e7}, positions=positions)
    assert (found.instrument_id, found.is_affordable) == ("BTC-b", True)
    assert found.initial_without_quote == 0.0
    assert 0.0 < found.initial_with_quote < 1e6
    assert len(found.passed_over) == 1
    assert found.passed_over[0].startswith("BTC-a: a lacks ")


def test_a_hedge_that_lowers_margin_may_be_made_by_an_account_under_water() -> None:
    (found,) = planned({"a": 1.0, "b": 1e7})
    assert found.equity_quote < 0.0
    assert (found.account, found.is_affordable) == ("a", True)


def test_the_cost_of_a_hedge_has_to_be_paid_beside_its_margin() -> None:
    positions = (put(-10.0, "c"), money(1.0, "a"), money(1.0, "b"))
    rich = planned({"a": 1e7, "b": 1e7, "c": 1e7}, positions=positions)[0]
    needed = rich.initial_with_quote + rich.cost_quote
    enough = planned({"a": needed + 1.0, "b": 1e7, "c": 1e7}, positions=positions)[0]
    short = planned({"a": needed - 1.0, "b": 1e7, "c": 1e7}, positions=positions)[0]
    assert (enough.account, short.account) == ("a", "b")


def test_where_no_margin_is_left_the_plan_says_what_is_missing() -> None:
    positions = (put(-10.0, "c"), money(1.0, "a"), money(1.0, "b"))
    (found,) = planned({"a": 1_000.0, "b": 500.0, "c": 1e7}, positions=positions)
    assert not found.is_affordable
    assert found.instrument_id == "BTC-a"
    assert len(found.passed_over) == 2
    assert found.trade_base < 0.0


def test_a_venue_that_stands_still_is_passed_over_and_one_that_is_gone_takes_its_hedge_along() -> None:
    perps = (
        Position(kind=PERPETUAL, underlying="BTC", qty_base=5.0, account="a", instrument_id="BTC-a"),
        Position(kind=PERPETUAL, underlying="BTC", qty_base=-5.0, account="b", instrument_id="BTC-b"),
    )
    stopped = (Outage(account="a", is_trading_stopped=True),)
    still = planned({"a": 1e6, "b": 1e6}, StressScenario(**_crash(outages=stopped)), perps)[0]
    assert still.trade_base == 0.0
    gone = (Outage(account="a", recovery_share=0.2),)
    found = planned({"a": 1e6, "b": 1e6}, StressScenario(**_crash(outages=gone)), perps)[0]
    assert (found.delta_before_base, found.delta_base, found.trade_base) == pytest.approx((0.0, -5.0, 5.0))
    assert (found.account, found.passed_over) == ("b", ("BTC-a: a does not trade",))
    assert found.initial_with_quote == pytest.approx(0.0)  # it closes what is left


def test_nothing_that_trades_is_said_and_not_affordable() -> None:
    stopped = StressScenario(**_crash(outages=(Outage(account="any", is_trading_stopped=True),)))
    (found,) = planned({"a": 1e7, "b": 1e7}, stopped)
    assert (found.trade_base, found.instrument_id, found.is_affordable) == (0.0, "", False)
    assert "is due and nothing trades" in found.reason
    assert len(found.passed_over) == 2
    (without,) = planned({"a": 1e7, "b": 1e7}, instruments=[])
    assert not without.is_affordable


def test_inside_the_band_and_below_a_lot_nothing_is_traded() -> None:
    (found,) = planned({"a": 1e7, "b": 1e7}, policy=lambda _: HedgeTarget.to_edge(-50.0, 50.0, "wide"))
    assert (found.trade_base, found.is_affordable, found.reason) == (0.0, True, "wide")
    (small,) = planned({"a": 1e7, "b": 1e7}, instruments=[instrument("a", lot_base=100.0)])
    assert (small.trade_base, small.is_affordable) == (0.0, True)


def test_margin_taken_for_one_underlying_is_gone_for_the_next() -> None:
    positions = (
        put(-10.0, "c"),
        put(-200.0, "d", "ETH", 2_750.0),
        money(1.0, "a"),
    )
    both = [instrument("a"), instrument("a", "ETH")]
    rich = planned({"a": 1e7, "c": 1e7, "d": 1e7}, positions=positions, instruments=both)
    assert [one.is_affordable for one in rich] == [True, True]
    needed = rich[0].initial_with_quote
    assert rich[1].initial_without_quote == pytest.approx(needed)
    poor = planned({"a": needed * 1.05, "c": 1e7, "d": 1e7}, positions=positions, instruments=both)
    assert [one.is_affordable for one in poor] == [True, False]


def test_a_policy_that_trades_elsewhere_answers_here() -> None:
    policy = WhalleyWilmott(risk_aversion=RiskWords(daily_sd_quote=5_000.0))
    (found,) = planned({"a": 1e7, "b": 1e7}, policy=policy.target)
    assert found.low_base < 0.0 < found.high_base < found.delta_base
    assert found.delta_base + found.trade_base == pytest.approx(found.high_base, abs=0.011)


def test_the_view_has_the_greeks_of_the_book() -> None:
    book = build_book([put(-10.0), Position(kind=PERPETUAL, underlying="BTC", qty_base=2.0, account="a")], SPOT_PX)
    view = view_of(book, "BTC", instrument("a"), ASKING)
    one = greeks(60_000.0, 55_000.0, 20 / 365, 0.5, False)
    assert view.greeks.delta_base == pytest.approx(2.0 - 10.0 * float(one.delta))
    assert view.greeks.gamma_base_per_px == pytest.approx(-10.0 * float(one.gamma))
    assert view.greeks.theta_quote_per_day == pytest.approx(-10.0 * float(one.theta) / 365)
    assert view.vol == pytest.approx(0.5)
    assert (view.hedge_base, view.legs.qty_base.tolist()) == (2.0, [-10.0])


def _crash(**changes: Any) -> dict[str, Any]:
    return {name: getattr(CRASH, name) for name in CRASH.__struct_fields__} | changes
