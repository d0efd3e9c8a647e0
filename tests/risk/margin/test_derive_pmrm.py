"""PMRM by hand, by a slow recomputation, and by what must hold."""

from __future__ import annotations

from math import erfc, exp, log, sqrt
from pathlib import Path

import numpy as np
import pytest

from bot.risk.book import OPTION, PERPETUAL, SPOT, Position, build_book
from bot.risk.margin.derive_common import Feeds
from bot.risk.margin.derive_pmrm import PmrmParameters, requirement
from bot.risk.margin.registry import decode_values
from bot.risk.parameters import decode_parameters

SETS = Path("bot/risk/parameter_sets")


def read(name: str) -> PmrmParameters:
    found = decode_parameters((SETS / f"derive_pmrm-{name}.json").read_bytes())
    parameters = decode_values(found.model, found.values)
    assert isinstance(parameters, PmrmParameters)
    return parameters


EXAMPLE = read("2026-09-30")
SCRIPT = read("2026-11-26")
SPOT_PX = {"ETH": 2_000.0}


def option(qty: float, strike: float, days: float = 20.0, vol: float = 0.6, *, is_call: bool = True) -> Position:
    return Position(
        kind=OPTION, underlying="ETH", qty_base=qty, strike_px=strike, tau_years=days / 365, vol=vol, is_call=is_call
    )


def perp(qty: float) -> Position:
    return Position(kind=PERPETUAL, underlying="ETH", qty_base=qty)


def test_by_hand_a_perpetual() -> None:
    # 3 x 2,000 = 6,000: 15 % of it at worst and 2 % standing; initial margin is 1.3 times both
    found = requirement(build_book([perp(3.0)], SPOT_PX), EXAMPLE)
    assert found.maintenance == pytest.approx(900.0 + 120.0)
    assert found.initial == pytest.approx(1.3 * 1_020.0)
    assert found.worst == "-0.15 vol up"


def test_by_hand_peg_and_doubt_are_initial_margin_only() -> None:
    book = build_book([perp(3.0)], SPOT_PX)
    feeds = Feeds(spot_confidence=np.array([0.5]), stable_px=0.95)
    found = requirement(book, EXAMPLE, feeds)
    assert found.maintenance == pytest.approx(1_020.0)
    assert found.charge("peg").initial == pytest.approx(0.03 * 2 * 1_020.0)
    assert found.charge("oracle confidence").initial == pytest.approx(0.5 * 6_000.0 * 0.4)


def test_by_hand_the_underlying_is_collateral_and_other_coins_are_not() -> None:
    ether = Position(kind=SPOT, underlying="ETH", qty_base=3.0)
    other = Position(kind=SPOT, underlying="ETH", qty_base=1.0, instrument_id="odd", mark_px=50.0)
    found = requirement(build_book([ether, perp(-3.0), other], SPOT_PX), EXAMPLE)
    assert found.charge("worst scenario").maintenance == pytest.approx(0.0)
    assert found.charge("coins held").maintenance == pytest.approx(180.0)
    assert found.charge("collateral refused").maintenance == pytest.approx(50.0)
    assert found.charge("collateral refused").detail == "odd"


def test_what_is_held_long_never_needs_more_than_it_is_worth() -> None:
    book = build_book([option(2.0, 2_100.0), option(1.0, 1_900.0, is_call=False)], SPOT_PX)
    value = float((book.qty_base * book.mark_px).sum())
    assert 0.0 < requirement(book, EXAMPLE).maintenance <= value


def test_the_script_asks_for_more_than_the_tests_of_a_short_strangle() -> None:
    book = build_book([option(-1.0, 2_300.0), option(-1.0, 1_800.0, is_call=False)], SPOT_PX)
    assert requirement(book, SCRIPT).maintenance > requirement(book, EXAMPLE).maintenance > 0.0
    assert len(SCRIPT.scenarios) == 23


@pytest.mark.parametrize("seed", range(4))
def test_random_books_by_the_slow_way(seed: int) -> None:
    draw = np.random.default_rng(seed)
    p = (EXAMPLE, SCRIPT)[seed % 2]
    days = (2.0, 40.0)
    positions = [
        option(
            float(draw.normal(0.0, 3.0)), float(np.round(draw.uniform(1_500, 2_500), -2)), days[n % 2],
            float(draw.uniform(0.3, 1.0)), is_call=bool(draw.integers(2)),
        )
        for n in range(8)
    ]  # fmt: skip
    size = float(draw.normal(0.0, 3.0))
    book = build_book([*positions, perp(size)], SPOT_PX)
    rate = {days[0] / 365: 0.05, days[1] / 365: 0.12}
    feeds = Feeds(rate_per_year=np.array([rate.get(float(tau), 0.0) for tau in book.tau_years]))

    def expiry(tau: float, multiple: float, word: str) -> float:
        m = (30 / max(tau * 365, p.vol.least_days)) ** (p.vol.short_power if tau * 365 < 30 else p.vol.long_power)
        factor = {"up": 1 + p.vol.up * m, "down": max(1 - p.vol.down * m, 0.0), "same": 1.0}[word]
        total = 0.0
        for one in positions:
            if one.tau_years == tau:
                dev = one.vol * factor * sqrt(tau)
                forward, sign = 2_000.0 * multiple, 1.0 if one.is_call else -1.0
                d1 = log(forward / one.strike_px) / dev + dev / 2
                chances = erfc(-sign * d1 / sqrt(2)) / 2, erfc(-sign * (d1 - dev) / sqrt(2)) / 2
                total += one.qty_base * sign * (forward * chances[0] - one.strike_px * chances[1])
        return total

    pnl = []
    for one in p.scenarios:
        total = size * 2_000.0 * (one.spot_multiple - 1)
        for tau, r in rate.items():
            value = expiry(tau, one.spot_multiple, one.vol)
            kept = p.discount * exp(-tau * (r * p.rate_multiple + p.rate_add)) if value > 0 else 1.0
            total += value * kept - expiry(tau, 1.0, "same")
        pnl.append(total)
    found = requirement(book, p, feeds)
    assert found.scenario_pnl[:-1] == pytest.approx(pnl, rel=1e-9, abs=1e-7)
    net: dict[tuple[float, float], float] = {}
    for leg in positions:
        net[leg.tau_years, leg.strike_px] = net.get((leg.tau_years, leg.strike_px), 0.0) + leg.qty_base
    shorts = -sum(min(one, 0.0) for one in net.values())
    worst = -min(0.0, *found.scenario_pnl)
    assert found.maintenance == pytest.approx(
        worst + 2_000.0 * (p.perp_rate * abs(size) + p.option_rate * shorts), rel=1e-9
    )
    assert found.initial == pytest.approx(p.initial_factor * found.maintenance, rel=1e-9)
