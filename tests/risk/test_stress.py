"""Named scenarios: by hand on small books, and what the carried ones say of themselves."""

from __future__ import annotations

import re
from datetime import date
from math import nan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bot.pricing.black76 import greeks
from bot.risk.book import OPTION, PERPETUAL, SPOT, Position, build_book
from bot.risk.parameters import ParameterSet, decode_parameters
from bot.risk.scenarios import VolShock
from bot.risk.stress import (
    MarginTermsOf,
    Mark,
    Outage,
    StressResult,
    StressScenario,
    decode_scenarios,
    margin_of,
    moved_book,
    play,
    sensitivities_by_underlying,
    with_position,
)
from tests.risk.legs import SETS, values_of

CARRIED = decode_parameters(Path(SETS / "stress-2026-11-26.json").read_bytes())
SCENARIOS = {one.name: one for one in decode_scenarios(CARRIED)}
HOUSE = values_of("house-2026-11-26")
SPOT_PX = {"BTC": 60_000.0, "ETH": 3_000.0, "USDC": 1.0, "USDe": 1.0}


def scenario(**changes: Any) -> StressScenario:
    plain = StressScenario(
        name="plain", day=date(2026, 1, 1), title="t", moves={"BTC": -0.2, "USDC": 0.0, "USDe": 0.0}, other_move=-0.3,
        vol=VolShock(),
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def perp(qty: float, account: str = "a", underlying: str = "BTC", **more: Any) -> Position:
    return Position(kind=PERPETUAL, underlying=underlying, qty_base=qty, account=account, **more)


def coin(qty: float, account: str = "a", underlying: str = "USDC", **more: Any) -> Position:
    return Position(kind=SPOT, underlying=underlying, qty_base=qty, account=account, **more)


def one_result(positions: list[Position], what: StressScenario, cast: dict[str, str] | None = None) -> StressResult:
    book = build_book(positions, SPOT_PX)
    terms = {name: MarginTermsOf(model="house", values=HOUSE) for name in book.accounts}
    return play(book, [what], terms, cast)[0]


def test_by_hand_a_short_wins_what_the_market_falls() -> None:
    found = one_result([perp(-2.0), coin(30_000.0)], scenario())
    account = found.accounts[0]
    assert account.pnl_quote == pytest.approx(24_000.0)
    assert account.coins_after_quote == 30_000.0
    assert (account.equity_before_quote, account.equity_after_quote) == pytest.approx((30_000.0, 54_000.0))
    assert found.pnl_quote == pytest.approx(24_000.0)
    assert found.greeks["BTC"].delta_quote == pytest.approx(-2.0 * 48_000.0)
    assert account.after.maintenance == pytest.approx(0.8 * account.before.maintenance)  # 2 BTC at a fifth less
    assert account.use_after == pytest.approx(account.after.maintenance / 54_000.0)
    assert not account.is_liquidated


def test_by_hand_a_long_is_liquidated_and_by_how_much() -> None:
    found = one_result([perp(2.0), coin(30_000.0), perp(-0.1, "b"), coin(9_000.0, "b")], scenario())
    lost, fine = found.accounts
    assert lost.equity_after_quote == pytest.approx(6_000.0)
    assert lost.is_liquidated
    assert lost.shortfall_quote == pytest.approx(lost.after.maintenance - 6_000.0)
    assert not fine.is_liquidated
    assert found.worst == "a"
    assert found.equity_after_quote == pytest.approx(6_000.0 + 9_000.0 + 1_200.0)


def test_what_is_not_named_moves_like_the_others() -> None:
    found = one_result([perp(1.0, underlying="ETH"), coin(5_000.0)], scenario())
    assert found.pnl_quote == pytest.approx(-900.0)


def test_by_hand_vol_time_and_basis() -> None:
    option = Position(
        kind=OPTION, underlying="BTC", qty_base=-3.0, account="a", strike_px=66_000.0, tau_years=7.5 / 365, vol=0.5,
        is_call=True,
    )  # fmt: skip
    what = scenario(vol=VolShock(up=0.5, short_power=0.5, long_power=0.5), hours=24.0, basis_move=-0.02)
    book = build_book([option, perp(1.0)], SPOT_PX)
    moved = moved_book(book, what)
    assert moved.vol[0] == pytest.approx(0.5 * (1 + 0.5 * 2.0))  # (30 / 7.5) ** 0.5 = 2
    assert moved.tau_years[0] == pytest.approx(6.5 / 365)
    assert moved.mark_px[0] == pytest.approx(float(greeks(48_000.0, 66_000.0, 6.5 / 365, 1.0, True).value))
    assert moved.mark_px[1] == pytest.approx(48_000.0 * 0.98)
    assert moved.spot_px[0] == pytest.approx(48_000.0)


def test_vol_may_fall() -> None:
    option = Position(
        kind=OPTION, underlying="BTC", qty_base=1.0, strike_px=66_000.0, tau_years=30 / 365, vol=0.5, is_call=True
    )
    moved = moved_book(build_book([option], SPOT_PX), scenario(vol=VolShock(down=0.4)))
    assert moved.vol[0] == pytest.approx(0.3)


def test_a_coin_counts_by_the_index_of_the_venue_it_is_at() -> None:
    """2025-10-10: USDe at 0.65 on one venue and 0.90 elsewhere; wBETH 88.7 % below ETH on it alone."""
    positions = [
        coin(10_000.0, "binance", "USDe"),
        coin(10_000.0, "okx", "USDe"),
        coin(2.0, "binance", "ETH", instrument_id="wBETH", mark_px=3_200.0),
        coin(2.0, "okx", "ETH", instrument_id="wBETH", mark_px=3_200.0),
    ]
    binance, okx = one_result(positions, SCENARIOS["2025-10-10"]).accounts
    assert binance.coins_after_quote == pytest.approx(6_500.0 + 2 * 3_200.0 * 0.80 * 0.113)
    assert okx.coins_after_quote == pytest.approx(9_000.0 + 2 * 3_200.0 * 0.80)
    assert binance.is_trading_stopped
    assert not okx.is_trading_stopped


def test_another_account_may_play_the_venue_it_happened_at() -> None:
    found = one_result([coin(10_000.0, "bybit", "USDe")], SCENARIOS["2025-10-10"], {"binance": "bybit"})
    assert found.accounts[0].coins_after_quote == pytest.approx(6_500.0)
    assert found.notes == ()
    alone = one_result([coin(10_000.0, "bybit", "USDe")], SCENARIOS["2025-10-10"])
    assert alone.accounts[0].coins_after_quote == pytest.approx(9_000.0)
    assert alone.notes == ("nobody plays binance: what happened there happens nowhere",)


def test_a_gain_in_a_dollar_that_slipped_is_worth_less() -> None:
    usdc = one_result([perp(-1.0, money="USDC"), coin(20_000.0)], scenario(money={"USDC": 0.87}))
    assert usdc.accounts[0].pnl_quote == pytest.approx(12_000.0 * 0.87)
    slipped = one_result([coin(20_000.0)], SCENARIOS["2023-03-11 USDC"])
    assert slipped.accounts[0].coins_after_quote == pytest.approx(17_400.0)


def test_the_largest_account_is_gone_and_its_hedge_with_it() -> None:
    positions = [perp(-5.0, "big"), coin(200_000.0, "big"), perp(5.0, "small"), coin(100_000.0, "small")]
    found = one_result(positions, SCENARIOS["2022-11-08 FTX"])
    big, small = found.accounts
    assert found.greeks_before["BTC"].delta_base == 0.0
    assert found.greeks["BTC"].delta_base == pytest.approx(5.0)  # what was hedged there is not any more
    equity = 200_000.0 + 5.0 * 60_000.0 * (0.2292 + 0.02 * (1 - 0.2292))
    assert big.equity_after_quote == pytest.approx(0.25 * equity)
    assert big.is_gone
    assert not small.is_gone
    assert small.are_withdrawals_stopped is False


def test_an_account_without_a_model_is_asked_for_all_it_could_lose() -> None:
    book = build_book([perp(1.0)], SPOT_PX)
    found = play(book, [scenario()], {})[0]
    assert found.accounts[0].after.maintenance == pytest.approx(48_000.0)
    assert found.accounts[0].use_after == float("inf")
    assert found.notes == ("a has no margin model: all it could lose is asked for",)


def test_what_stands_in_is_multiplied_and_equity_may_be_told() -> None:
    book = build_book([perp(1.0)], SPOT_PX)
    terms = MarginTermsOf(model="house", values=HOUSE, equity_quote=20_000.0, factor=1.5, degraded="expired")
    plain = margin_of(book, MarginTermsOf(model="house", values=HOUSE))
    found = play(book, [scenario()], {"a": terms})[0].accounts[0]
    assert found.before.maintenance == pytest.approx(1.5 * plain.maintenance)
    assert found.before.charge("degraded").detail == "expired"
    assert found.equity_after_quote == pytest.approx(8_000.0)


def test_a_trade_joins_its_row_or_makes_one() -> None:
    book = build_book([perp(1.0, instrument_id="P"), coin(1.0)], SPOT_PX)
    more = with_position(book, perp(2.0, instrument_id="P"))
    assert more.qty_base.tolist() == [3.0, 1.0]
    assert book.qty_base.tolist() == [1.0, 1.0]
    other = with_position(book, perp(2.0, "b", "ETH", instrument_id="P", money="USDT"))
    assert other.of_account("b").qty_base.tolist() == [2.0]
    assert other.of_account("b").mark_px.tolist() == [3_000.0]
    assert other.moneys[other.money[-1]] == "USDT"
    assert len(other) == 3


def test_an_empty_book_loses_nothing() -> None:
    found = play(build_book([], SPOT_PX), SCENARIOS.values(), {})
    assert [(one.pnl_quote, one.worst) for one in found] == [(0.0, "")] * len(SCENARIOS)


@pytest.mark.parametrize("name", ["2020-03-12", "2022-11-08 FTX", "2023-03-11 USDC", "2025-10-10", "2026-02-05"])
def test_a_move_that_is_called_measured_follows_from_the_prices_named(name: str) -> None:
    what = SCENARIOS[name]
    first, last = (
        float(text.replace(",", "")) for text in re.findall(r"\d+,\d{3}\.\d\d|\d{5}\.\d\d", what.measured)[:2]
    )
    (said,) = re.findall(r"-\d+\.\d\d %", what.measured)[:1]
    assert last / first - 1.0 == pytest.approx(float(said[:-2]) / 100, abs=1e-4)
    if name != "2025-10-10":  # its low was deeper than its close, and says so
        assert what.moves["BTC"] == pytest.approx(last / first - 1.0, abs=1e-4)


def test_every_carried_scenario_says_what_is_assumed_and_hurts_a_long() -> None:
    for what in SCENARIOS.values():
        assert what.assumed
        assert what.measured
        assert one_result([perp(1.0), coin(99_000.0)], what).pnl_quote < 0.0
        assert {"USDC", "USDT"} <= what.moves.keys()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"moves": {"BTC": -1.0}}, "-100%"),
        ({"money": {"USDC": -0.1}}, "x -0.1"),
        ({"marks": (Mark(asset="wBETH", multiple=-0.887),)}, "wBETH x -0.887"),
    ],
)
def test_a_sign_that_turns_prices_around_is_refused(change: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"in plain, found {found}")):
        scenario(**change)


def test_a_set_without_scenarios_is_refused() -> None:
    empty = ParameterSet(model="stress", name="none", as_of=date(2026, 1, 1), source="", values={})
    with pytest.raises(ValueError, match="expected stress scenarios in none, found none"):
        decode_scenarios(empty)
    wrong = msgspec.structs.replace(empty, values={"scenarios": [{"name": "x"}]})
    with pytest.raises(ValueError, match="missing required field"):
        decode_scenarios(wrong)


def test_several_outages_of_one_account_add_up() -> None:
    what = scenario(outages=(Outage(account="any"), Outage(account="a", is_trading_stopped=True)))
    a, b = one_result([coin(1.0), coin(1.0, "b")], what).accounts
    assert (a.are_withdrawals_stopped, a.is_trading_stopped) == (True, True)
    assert (b.are_withdrawals_stopped, b.is_trading_stopped) == (True, False)


def test_all_scenarios_at_once_say_what_each_model_and_black_76_say_of_every_moved_book() -> None:
    rng = np.random.default_rng(9)
    accounts = {"deribit": "deribit_portfolio-2026-02-15", "okx": "okx-2026-11-26", "span": "span-2026-11-26"}
    positions = [coin(50_000.0, "okx"), perp(1.0, "untold"), perp(-1.0, "gap")]
    for number in range(45):
        name, where = ("BTC", "ETH")[number % 2], tuple(accounts)[number % 3]
        if number % 9 == 0:
            positions.append(perp(float(rng.normal()), where, name))
            continue
        positions.append(
            Position(
                kind=OPTION, underlying=name, account=where, qty_base=float(rng.normal()),
                strike_px=SPOT_PX[name] * float(np.exp(0.3 * rng.normal())), vol=float(rng.uniform(0.3, 1.0)),
                is_call=bool(rng.integers(2)), tau_years=float(rng.choice([0.5, 20.0, 200.0])) / 365.0,
            )
        )  # fmt: skip
    book = build_book(positions, SPOT_PX)
    mark = book.mark_px.copy()
    mark[2] = nan  # of the account named for it
    book = msgspec.structs.replace(book, mark_px=mark)
    terms = {name: MarginTermsOf(model=name, values=values_of(found)) for name, found in accounts.items()}
    terms["deribit"] = msgspec.structs.replace(
        terms["deribit"], model="deribit_portfolio", factor=1.2, degraded="raised"
    )
    terms["gap"] = terms["okx"]
    chosen = [one for one in SCENARIOS.values() if not any(o.recovery_share < 1.0 for o in one.outages)]
    assert any(one.hours for one in chosen)
    for what, found in zip(chosen, play(book, chosen, terms), strict=True):
        moved = moved_book(book, what)
        for one in found.accounts:
            alone = margin_of(moved.of_account(one.account), terms.get(one.account))
            numbers = (one.after.initial, one.after.maintenance)
            assert numbers == pytest.approx((alone.initial, alone.maintenance), rel=1e-9), one.account
            assert (one.after.model, one.after.worst) == (alone.model, alone.worst)
        greeks_of = sensitivities_by_underlying(moved)
        assert found.greeks.keys() == greeks_of.keys()
        for name, exact in greeks_of.items():
            near = pytest.approx(msgspec.structs.astuple(exact), rel=1e-9, abs=1e-6, nan_ok=True)
            assert msgspec.structs.astuple(found.greeks[name]) == near


def test_without_scenarios_nothing_is_played() -> None:
    assert play(build_book([perp(1.0)], SPOT_PX), [], {}) == ()


def test_an_account_that_owes_and_is_asked_for_nothing_is_the_worst_of_all() -> None:
    book = build_book([coin(-5_000.0, "owes"), coin(5_000.0, "has"), perp(0.1, "has")], SPOT_PX)
    terms = {name: MarginTermsOf(model="house", values=HOUSE) for name in book.accounts}
    [found] = play(book, [scenario(moves={"BTC": 0.0, "USDC": 0.0})], terms)
    assert (found.worst, found.accounts[0].use_after) == ("owes", float("inf"))


def test_an_inverse_contract_is_of_as_much_quote_money_after_a_fall_and_of_more_coins() -> None:
    falls = scenario(moves={"BTC": -0.5, "USDC": 0.0})
    linear, inverse = (one_result([perp(1.0, money=money), coin(90_000.0)], falls) for money in ("USDC", "BTC"))
    assert inverse.pnl_quote == linear.pnl_quote == pytest.approx(-30_000.0)
    assert (linear.greeks["BTC"].delta_base, inverse.greeks["BTC"].delta_base) == (1.0, 2.0)
    assert inverse.accounts[0].after.initial == pytest.approx(2.0 * linear.accounts[0].after.initial)
    assert inverse.accounts[0].before.initial == linear.accounts[0].before.initial
