"""PMRM_2 against its worked example, against a slow recomputation of its formulas, and against what must hold."""

from __future__ import annotations

from math import erfc, exp, log, sqrt
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bot.risk.book import OPTION, PERPETUAL, SPOT, Position, RiskBook, build_book
from bot.risk.margin.derive_common import Feeds, Haircut, marks_px
from bot.risk.margin.derive_pmrm2 import Pmrm2Parameters, requirement
from bot.risk.margin.registry import decode_values
from bot.risk.parameters import decode_parameters

SETS = Path("bot/risk/parameter_sets")


def read(name: str) -> Pmrm2Parameters:
    found = decode_parameters((SETS / f"derive_pmrm2-{name}.json").read_bytes())
    parameters = decode_values(found.model, found.values)
    assert isinstance(parameters, Pmrm2Parameters)
    return parameters


TESTS = read("2026-09-30")
SCRIPT = read("2026-11-26")
SPOT_PX = {"ETH": 2_681.60}


def option(qty: float, strike: float, days: float = 9.2, vol: float = 0.88, *, is_call: bool = True) -> Position:
    return Position(
        kind=OPTION, underlying="ETH", qty_base=qty, strike_px=strike, tau_years=days / 365, vol=vol, is_call=is_call,
        forward_px=2_683.0,
    )  # fmt: skip


def perp(qty: float) -> Position:
    return Position(kind=PERPETUAL, underlying="ETH", qty_base=qty)


def coin(qty: float, asset: str = "ETH", px: float = 2_681.60) -> Position:
    return Position(kind=SPOT, underlying="ETH", qty_base=qty, instrument_id=asset, mark_px=px)


def both(*positions: Position, stable_px: float = 1.0) -> tuple[float, float]:
    found = requirement(build_book(positions, SPOT_PX), TESTS, Feeds(stable_px=stable_px))
    return found.initial, found.maintenance


def test_the_worked_call_spread() -> None:
    """Published: worst -22.1560 (+18 %, vol up), MMC 8.0448, IMC 5.3632, MtM -0.1945, IM -35.7584, MM -25.9640.

    Time, vols and forward are rounded here, which moves the worst scenario by 0.1 %.
    """
    book = build_book([option(-1.0, 4_000.0), option(1.0, 4_200.0, vol=0.884)], SPOT_PX)
    feeds = Feeds(rate_per_year=np.full(2, 0.15))
    found = requirement(book, TESTS, feeds)
    value = float((book.qty_base * marks_px(book, feeds, 1_800.0)).sum())
    assert found.worst == "+0.18 vol up"
    assert min(found.scenario_pnl) == pytest.approx(-22.1560, rel=2e-3)
    assert value == pytest.approx(-0.1945, rel=5e-3)
    assert found.charge("naked shorts").maintenance == pytest.approx(8.0448, abs=1e-9)
    assert found.charge("naked shorts").initial - found.charge("naked shorts").maintenance == pytest.approx(5.3632)
    assert value - found.initial == pytest.approx(-35.7584, rel=2e-3)
    assert value - found.maintenance == pytest.approx(-25.9640, rel=2e-3)


def test_by_hand_a_perpetual() -> None:
    # 10 x 2,681.60 = 26,816: the worst is -18 %, 4,826.88; charges 1.5 % and 0.5 %
    initial, maintenance = both(perp(10.0))
    assert maintenance == pytest.approx(0.8 * 4_826.88 + 402.24)
    assert initial == pytest.approx(4_826.88 + 402.24 + 134.08)
    assert both(perp(-10.0)) == pytest.approx((initial, maintenance))


def test_by_hand_a_peg_that_slips_makes_the_worst_count_for_more() -> None:
    # (0.98 - 0.95) x 2 of the worst scenario, initial margin only
    initial, maintenance = both(perp(10.0))
    slipped = both(perp(10.0), stable_px=0.95)
    assert slipped[0] - initial == pytest.approx(0.06 * 4_826.88)
    assert slipped[1] == pytest.approx(maintenance)
    assert both(perp(10.0), stable_px=0.98) == pytest.approx((initial, maintenance))


def test_by_hand_doubt() -> None:
    """Perp at min(spot, perp), options too; coins at min(spot, their own), never the perpetual's."""
    book = build_book([option(2.0, 3_000.0), perp(-1.0), coin(4.0, "WSTETH", 3_000.0)], SPOT_PX)
    sure = requirement(book, TESTS)
    feeds = Feeds(confidence=np.array([1.0, 0.1, 1.0]), spot_confidence=np.array([0.2]))
    found = requirement(book, TESTS, feeds)
    expected = 0.9 * 2_681.60 * (1 + 2) + 0.8 * 4 * 3_000.0
    assert found.charge("oracle confidence").initial == pytest.approx(expected)
    assert found.maintenance == pytest.approx(sure.maintenance)
    above = requirement(book, TESTS, Feeds(confidence=np.array([0.55, 0.55, 0.55])))
    assert above.charge("oracle confidence").initial == 0.0


def test_a_coin_covers_a_short_call_and_one_of_another_kind_does_not() -> None:
    alone = requirement(build_book([option(-10.0, 3_000.0)], SPOT_PX), TESTS)
    ether = requirement(build_book([option(-10.0, 3_000.0), coin(3.0)], SPOT_PX), TESTS)
    dollars = requirement(build_book([option(-10.0, 3_000.0), coin(8_044.80, "USDT", 1.0)], SPOT_PX), TESTS)
    gained = 0.18 * 3.0 * 2_681.60
    assert ether.charge("worst scenario").initial == pytest.approx(alone.charge("worst scenario").initial - gained)
    assert dollars.charge("worst scenario").initial == pytest.approx(alone.charge("worst scenario").initial)
    assert dollars.maintenance == pytest.approx(alone.maintenance + 0.02 * 8_044.80)


def test_what_is_held_long_never_needs_more_than_it_is_worth() -> None:
    book = build_book([option(3.0, 2_700.0), option(2.0, 2_500.0, 60.0, 0.7, is_call=False)], SPOT_PX)
    found = requirement(book, TESTS)
    value = float((book.qty_base * book.mark_px).sum())
    assert 0.0 < found.maintenance < found.initial <= value


def test_a_forward_made_of_options_has_no_naked_shorts() -> None:
    book = build_book([option(-1.0, 2_700.0), option(1.0, 2_700.0, is_call=False)], SPOT_PX)
    assert requirement(book, TESTS).charge("naked shorts").initial == 0.0


def test_the_basis_competes_and_is_not_added() -> None:
    """Long one expiry against another: spot moves cancel, the basis does not."""
    legs = [option(5.0, 2_700.0, 30.0), option(-5.0, 2_700.0, 30.0, is_call=False)]
    legs += [option(-5.0, 2_700.0, 60.0), option(5.0, 2_700.0, 60.0, is_call=False)]
    wide = msgspec.structs.replace(
        TESTS,
        discount=msgspec.structs.replace(TESTS.discount, long_multiple=1.0, long_rate_add=0.0, short_multiple=1.0),
    )
    found = requirement(build_book(legs, SPOT_PX), wide)
    moved = 5.0 * 0.045 * 2_683.0  # each expiry's loss on the worse of the two moves, one up and one down
    expected = sum(moved * (0.5 + 2.0 * days / 365) for days in (30.0, 60.0))
    assert found.worst == "basis"
    assert found.charge("worst scenario").initial == pytest.approx(expected)
    assert found.scenario_pnl[-1] == pytest.approx(-expected)


def test_markets_do_not_offset_each_other() -> None:
    two = {"ETH": 2_681.60, "BTC": 60_000.0}
    bitcoin = Position(kind=PERPETUAL, underlying="BTC", qty_base=-0.5)
    alone = [requirement(build_book([one], two), TESTS).maintenance for one in (perp(10.0), bitcoin)]
    found = requirement(build_book([perp(10.0), bitcoin], two), TESTS)
    assert found.maintenance == pytest.approx(sum(alone))
    assert found.worst.count(",") == 1
    assert found.worst.startswith("ETH ")


def test_a_coin_that_is_not_accepted_counts_nothing_and_is_named() -> None:
    found = requirement(build_book([coin(100.0, "DOGE", 0.2)], SPOT_PX), TESTS)
    assert found.charge("collateral haircut").maintenance == pytest.approx(20.0)
    assert found.charge("collateral haircut").detail == "not accepted: DOGE"


def test_no_positions_need_nothing() -> None:
    found = requirement(build_book([], SPOT_PX), TESTS)
    assert (found.initial, found.maintenance, found.worst) == (0.0, 0.0, "")


def test_discounts_of_the_script_stand_the_dearer_way() -> None:
    """A claim may count less in a scenario and a debt more, never the other way round."""
    for parameters in (TESTS, SCRIPT):
        tau, rate = np.array([0.5]), np.array([0.05])
        assert parameters.discount.of(np.array([1.0]), tau, rate)[0] < 1.0 <= exp(0.05 * 0.5)
        assert parameters.discount.of(np.array([-1.0]), tau, rate)[0] >= 1.0
    assert len(SCRIPT.scenarios) == 33


def test_an_option_that_is_over_but_not_settled_is_asked_for_as_at_its_end() -> None:
    over = build_book([option(-1.0, 2_400.0, days=0.0), perp(1.0)], {"ETH": 2_681.60})
    late = msgspec.structs.replace(over, tau_years=np.where(over.is_option, -1e-4, over.tau_years))
    now, then = (requirement(one, SCRIPT) for one in (over, late))
    assert (then.initial, then.maintenance) == (now.initial, now.maintenance)
    assert all(np.isfinite(then.scenario_pnl))


def test_an_unknown_vol_is_refused() -> None:
    values = msgspec.to_builtins(TESTS)
    values["scenarios"] = [[1.1, "sideways", 1.0]]
    with pytest.raises(ValueError, match="derive_pmrm2"):
        decode_values("derive_pmrm2", values)


# A second, slow way to the same figures: one option at a time, with nothing but math.


def black(forward: float, strike: float, tau: float, vol: float, is_call: bool) -> float:
    dev = vol * sqrt(tau)
    d1 = log(forward / strike) / dev + dev / 2
    sign = 1.0 if is_call else -1.0
    return sign * (forward * 0.5 * erfc(-sign * d1 / sqrt(2)) - strike * 0.5 * erfc(-sign * (d1 - dev) / sqrt(2)))


def slow(
    book: RiskBook, p: Pmrm2Parameters, rates: dict[float, float], stable: float
) -> tuple[float, float, list[float]]:
    spot = float(book.spot_px[0])
    options = [n for n in range(len(book)) if book.kind[n] == OPTION]
    taus = sorted({float(book.tau_years[n]) for n in options})

    def vol_of(n: int, word: str) -> float:
        tau, vol = float(book.tau_years[n]), float(book.vol[n])
        days = max(tau * 365, p.vol.least_days)
        m = exp(log(30 / days) * (p.vol.short_power if days < 30 else p.vol.long_power))
        if word == "up":
            return max(vol * (1 + p.vol.up * m), p.vol.least_vol_up)
        if word == "down":
            return vol * max(1 - p.vol.down * m, 0.0)
        if word == "same":
            return vol
        s = p.skew
        k = log(float(book.strike_px[n]) / float(book.forward_px[n]))
        base, slope = (s.linear_base, s.linear_per_root_year) if word == "linear" else (s.abs_base, s.abs_per_root_year)
        cap = base + slope * sqrt(tau)
        star = max(s.least_k, sqrt(tau) * s.width * (s.vol_static + s.vol_per_root_year * sqrt(tau)))
        return vol * (1 + min(max((k if word == "linear" else abs(k)) * cap / star, -cap), cap))

    def expiry(tau: float, multiple: float, word: str) -> float:
        return sum(
            float(book.qty_base[n])
            * exp(-rates[tau] * tau)
            * black(
                float(book.forward_px[n]) * multiple, float(book.strike_px[n]), tau, vol_of(n, word),
                bool(book.is_call[n]),
            )
            for n in options
            if float(book.tau_years[n]) == tau
        )  # fmt: skip

    moving = sum(
        float(book.qty_base[n]) * float(book.mark_px[n]) / (stable if book.kind[n] == SPOT else 1.0)
        for n in range(len(book))
        if book.kind[n] != OPTION and (book.kind[n] != SPOT or p.collateral[book.instrument_ids[n]].offsets_risk)
    )
    pnl = []
    for one in p.scenarios:
        total = 0.0 if one.vol in ("linear", "abs") else moving * (one.spot_multiple - 1)
        for tau in taus:
            value, r = expiry(tau, one.spot_multiple, one.vol), rates[tau]
            if value >= 0:
                value *= p.discount.long_multiple * exp(
                    -tau * (r * p.discount.long_rate_multiple + p.discount.long_rate_add)
                )
            else:
                value *= min(
                    exp(r * tau),
                    p.discount.short_multiple
                    * exp(tau * (r * p.discount.short_rate_multiple + p.discount.short_rate_add)),
                )
            change = value - expiry(tau, 1.0, "same")
            total += -abs(change) if one.vol in ("linear", "abs") else change
        pnl.append(total * one.damping)
    basis = sum(
        min(expiry(tau, p.basis.up_multiple, "same") - expiry(tau, 1.0, "same"),
            expiry(tau, p.basis.down_multiple, "same") - expiry(tau, 1.0, "same"), 0.0)
        * (p.basis.add + p.basis.per_year * tau)
        for tau in taus
    )  # fmt: skip
    worst = -min([*pnl, basis, 0.0])
    net: dict[tuple[float, float], float] = {}
    for n in options:
        key = (float(book.tau_years[n]), float(book.strike_px[n]))
        net[key] = net.get(key, 0.0) + float(book.qty_base[n])
    shorts = -sum(min(one, 0.0) for one in net.values())
    perps = sum(abs(float(book.qty_base[n])) for n in range(len(book)) if book.kind[n] == PERPETUAL)
    c = p.contingency
    mm = (c.perp_maintenance * perps + c.option_maintenance * shorts) * spot
    im = (c.perp_initial * perps + c.option_initial * shorts) * spot
    for n in range(len(book)):
        if book.kind[n] == SPOT:
            value = abs(float(book.qty_base[n]) * float(book.mark_px[n])) / stable
            mm += p.collateral[book.instrument_ids[n]].maintenance * value
            im += p.collateral[book.instrument_ids[n]].initial * value
    peg = max(0.0, c.peg_threshold - stable) * c.peg_factor
    return worst * (p.initial_factor + peg) + mm + im, worst * p.maintenance_factor + mm, pnl


@pytest.mark.parametrize("seed", range(6))
def test_random_books_by_the_slow_way(seed: int) -> None:
    draw = np.random.default_rng(seed)
    parameters = (TESTS, SCRIPT)[seed % 2]
    parameters = msgspec.structs.replace(
        parameters, collateral={"ETH": Haircut(0.03, 0.015, offsets_risk=True), "USDT": Haircut(0.02, 0.03)}
    )
    days = (0.5, 9.0, 45.0, 300.0)
    positions = [
        option(
            float(draw.normal(0.0, 5.0)), float(np.round(draw.uniform(1_500, 4_500), -2)), days[int(draw.integers(4))],
            float(draw.uniform(0.3, 1.2)), is_call=bool(draw.integers(2)),
        )
        for _ in range(12)
    ]  # fmt: skip
    positions += [perp(float(draw.normal(0.0, 5.0))), coin(float(draw.uniform(0, 5))), coin(900.0, "USDT", 0.99)]
    book = build_book(positions, SPOT_PX)
    stable = (1.0, 0.96, 1.01)[seed % 3]
    rates = {float(day / 365): float(draw.uniform(0.0, 0.3)) for day in days}
    rate = np.array([rates.get(float(tau), 0.0) for tau in book.tau_years])
    no_part_fixed = np.zeros(len(book))
    found = requirement(book, parameters, Feeds(rate_per_year=rate, fixed_px=no_part_fixed, stable_px=stable))
    initial, maintenance, pnl = slow(book, parameters, rates, stable)
    assert found.scenario_pnl[:-1] == pytest.approx(pnl, rel=1e-9, abs=1e-7)
    assert found.initial == pytest.approx(initial, rel=1e-9)
    assert found.maintenance == pytest.approx(maintenance, rel=1e-9)
    assert sum(one.initial for one in found.charges) == pytest.approx(found.initial)


@pytest.mark.parametrize("seed", range(3))
def test_more_confidence_never_asks_for_more(seed: int) -> None:
    draw = np.random.default_rng(seed)
    book = build_book([option(float(draw.normal()), 2_700.0), perp(float(draw.normal())), coin(1.0)], SPOT_PX)
    asked = [
        requirement(book, TESTS, Feeds(spot_confidence=np.array([trust]))).initial for trust in np.linspace(0.0, 1.0, 6)
    ]
    assert asked == sorted(asked, reverse=True)
    assert asked[0] > asked[-1]
