"""The standard manager by hand: one short each, spreads, what is unpaired, perpetuals, coins, pegs and doubt."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from bot.risk.book import OPTION, PERPETUAL, SPOT, Position, RiskBook, build_book
from bot.risk.margin.derive_common import Feeds
from bot.risk.margin.derive_standard import StandardParameters, requirement
from bot.risk.margin.registry import decode_values, evaluate
from bot.risk.parameters import decode_parameters

SETS = Path("bot/risk/parameter_sets")


def read(name: str) -> StandardParameters:
    found = decode_parameters((SETS / f"derive_standard-{name}.json").read_bytes())
    parameters = decode_values(found.model, found.values)
    assert isinstance(parameters, StandardParameters)
    return parameters


EXAMPLE = read("2026-09-30")
SCRIPT = read("2026-11-26")
SPOT_PX = {"ETH": 2_000.0, "BTC": 30_000.0}


def option(qty: float, strike: float, mark_px: float, *, is_call: bool = True, days: float = 10.0) -> Position:
    return Position(
        kind=OPTION, underlying="ETH", qty_base=qty, strike_px=strike, tau_years=days / 365, vol=0.6, is_call=is_call,
        mark_px=mark_px, forward_px=2_005.0,
    )  # fmt: skip


def healthy(
    book: RiskBook, parameters: StandardParameters = EXAMPLE, feeds: Feeds | None = None
) -> tuple[float, float]:
    """Return what Derive calls margin: equity at marks less the requirement."""
    found = requirement(book, parameters, feeds)
    options = book.is_option
    equity = float((book.qty_base * book.mark_px)[options].sum())
    return equity - found.initial, equity - found.maintenance


def test_by_hand_a_short_call() -> None:
    # mark 40; out of the money 100 = 5 % of spot: 15 % - 5 % = 10 % of 2,000; maintenance 7.5 %
    assert healthy(build_book([option(-1.0, 2_100.0, 40.0)], SPOT_PX)) == pytest.approx((-240.0, -190.0))
    assert healthy(build_book([option(-1.0, 2_020.0, 40.0)], SPOT_PX)) == pytest.approx((-40.0 - 280.0, -190.0))


def test_by_hand_a_short_put() -> None:
    # mark 30: maintenance max(7.5 % of 2,000, 7.5 % of 30) = 150; initial max(10 % of 2,000, 1.05 x (30 + 150) - 30)
    assert healthy(build_book([option(-1.0, 1_800.0, 30.0, is_call=False)], SPOT_PX)) == pytest.approx((-230.0, -180.0))
    # mark 4,000, deep in the money: 7.5 % of the mark is more than of spot, and 1.05 times decides initial margin
    deep = healthy(build_book([option(-1.0, 6_000.0, 4_000.0, is_call=False)], SPOT_PX))
    assert deep == pytest.approx((-1.05 * 4_300.0, -4_300.0))


def test_by_hand_a_spread_asks_for_the_lesser_of_two_ways() -> None:
    narrow = [option(-1.0, 2_100.0, 40.0), option(1.0, 2_150.0, 30.0)]
    assert healthy(build_book(narrow, SPOT_PX)) == pytest.approx((-50.0, -50.0))  # the most it can lose
    wide = [option(-1.0, 2_100.0, 40.0), option(1.0, 2_900.0, 1.0)]
    assert healthy(build_book(wide, SPOT_PX)) == pytest.approx((-240.0, -190.0))  # the short alone
    apart = [option(-1.0, 2_100.0, 40.0), option(1.0, 2_150.0, 30.0, days=11.0)]
    assert healthy(build_book(apart, SPOT_PX)) == pytest.approx((-240.0, -190.0))  # another expiry covers nothing


def test_by_hand_unpaired_short_calls_count_the_forward() -> None:
    # at 2,150 the pair has lost 1.01 x 1,050 - 1,000; 0.01 is short for good: x 1.2 and 1.1 of the forward
    legs = [option(-1.01, 1_100.0, 905.0), option(1.0, 1_150.0, 856.0)]
    at_strike = 1.01 * 50.0
    found = healthy(build_book(legs, SPOT_PX))
    assert found == pytest.approx((-at_strike - 0.01 * 1.2 * 2_005.0, -at_strike - 0.01 * 1.1 * 2_005.0))


def test_what_pays_at_every_price_earns_no_credit() -> None:
    box = [
        option(1.0, 2_000.0, 90.0),
        option(-1.0, 2_200.0, 20.0),
        option(1.0, 2_200.0, 215.0, is_call=False),
        option(-1.0, 2_000.0, 85.0, is_call=False),
    ]
    assert healthy(build_book(box, SPOT_PX)) == pytest.approx((0.0, 0.0))


def test_the_way_that_decided_is_named() -> None:
    book = build_book([option(-1.0, 2_100.0, 40.0), option(1.0, 2_150.0, 30.0)], SPOT_PX)
    assert requirement(book, EXAMPLE).worst == "ETH 10 d: most it can lose"


def test_what_is_held_long_needs_exactly_its_value() -> None:
    book = build_book([option(2.0, 2_100.0, 40.0), option(1.0, 1_800.0, 30.0, is_call=False)], SPOT_PX)
    found = requirement(book, EXAMPLE)
    assert (found.initial, found.maintenance) == pytest.approx((110.0, 110.0))


def test_by_hand_a_perpetual_and_its_peg() -> None:
    perp = Position(kind=PERPETUAL, underlying="ETH", qty_base=-2.0, mark_px=2_010.0)
    book = build_book([perp, option(-1.0, 2_100.0, 40.0)], SPOT_PX)
    found = requirement(book, EXAMPLE, Feeds(stable_px=0.95))
    assert found.charge("perpetuals").initial == pytest.approx(0.06 * 4_020.0)
    assert found.charge("perpetuals").maintenance == pytest.approx(0.04 * 4_020.0)
    assert found.charge("peg").initial == pytest.approx(0.03 * 1.5 * 2_000.0 * 3.0)  # one short call, two perpetuals
    assert found.charge("peg").maintenance == 0.0


def test_by_hand_doubt_counts_shorts_perpetuals_and_coins_but_not_longs() -> None:
    book = build_book(
        [
            option(-1.0, 2_100.0, 40.0),
            option(5.0, 2_900.0, 1.0),
            Position(kind=PERPETUAL, underlying="BTC", qty_base=-1.0),
            Position(kind=SPOT, underlying="ETH", qty_base=1.0),
        ],
        SPOT_PX,
    )
    feeds = Feeds(confidence=np.array([0.3, 0.3, 0.9, 0.2]))
    doubt = requirement(book, EXAMPLE, feeds).charge("oracle confidence")
    assert doubt.initial == pytest.approx(0.5 * (0.7 * 2_000.0 + 0.8 * 2_000.0))
    assert doubt.maintenance == 0.0


def test_by_hand_coins_count_by_their_factors() -> None:
    ether = Position(kind=SPOT, underlying="ETH", qty_base=1.0)
    odd = Position(kind=SPOT, underlying="ETH", qty_base=10.0, instrument_id="odd", mark_px=3.0)
    found = requirement(build_book([ether, odd], SPOT_PX), SCRIPT).charge("coins held")
    assert found.maintenance == pytest.approx(0.2 * 2_000.0 + 30.0)
    assert found.initial == pytest.approx((1.0 - 0.8 * 0.9375) * 2_000.0 + 30.0)
    assert found.detail == "not accepted: odd"


def test_a_market_that_is_not_named_takes_the_dearer_default() -> None:
    perp = [Position(kind=PERPETUAL, underlying=name, qty_base=1.0) for name in ("ETH", "PEPE")]
    book = build_book(perp, {"ETH": 2_000.0, "PEPE": 2_000.0})
    assert requirement(book, SCRIPT).maintenance == pytest.approx(0.065 * 2_000.0 + 0.1 * 2_000.0)


def test_terms_without_a_default_are_refused() -> None:
    values = msgspec.to_builtins(EXAMPLE)
    values["markets"] = {"ETH": values["markets"]["default"]}
    with pytest.raises(ValueError, match="terms of the default market, found those of ETH"):
        evaluate("derive_standard", build_book([], SPOT_PX), values)
