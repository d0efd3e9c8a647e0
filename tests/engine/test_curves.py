"""The cost of one instrument from its quote: beyond mid, with what holding costs, on either side."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import msgspec
import pytest

from bot.domain.decisions import HedgeTarget
from bot.domain.instruments import Spot
from bot.domain.market import ExecutionTerms, GasTier, Quote
from bot.domain.units import NS_PER_DAY
from bot.engine.curves import MAX_HOLDING_DAYS, carried, hedge_curve, likely_days, own_mid_px
from bot.engine.settings import HedgeSettings
from bot.pricing.costs import CostCurve
from tests.engine.builders import PERPETUAL, T0_NS, future
from tests.strategies.views import view

QUOTE = Quote("ETH-PERPETUAL", 1999.0, 5.0, 2001.0, 4.0, T0_NS, T0_NS, 1)
TAKER = HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=5.0)


def curve_of(hedge: HedgeSettings = TAKER, terms: ExecutionTerms | None = None, **changes: Any) -> CostCurve:
    base: dict[str, Any] = {
        "is_buy": True, "mid_px": 2000.0, "vol": 0.8, "lot_base": 0.1, "min_base": 0.1, "max_base": inf,
    }  # fmt: skip
    return hedge_curve(hedge, QUOTE, terms, **(base | changes))


class TestHedgeCurve:
    def test_up_to_the_touch_it_is_half_the_spread_and_the_fee(self) -> None:
        assert curve_of().cost_quote(4.0) == pytest.approx(4.0 * (1.0 + 2001.0 * 5e-4))
        assert curve_of(is_buy=False).cost_quote(5.0) == pytest.approx(5.0 * (1.0 + 1999.0 * 5e-4))

    def test_behind_the_touch_as_much_stands_at_every_further_spread(self) -> None:
        """Of sixteen touches the n-th stands n − 1 spreads beyond: 2 · (0 + 1 + … + 15) per unit of the touch."""
        extra = curve_of().cost_quote(64.0) - 64.0 * (1.0 + 2001.0 * 5e-4)
        assert extra == pytest.approx(4.0 * 2.0 * sum(range(16)))

    def test_a_depth_that_is_known_is_walked(self) -> None:
        hedge = msgspec.structs.replace(TAKER, depth=((5e-4, 2001.0 * 3.0), (1e-3, 2001.0 * 10.0)))
        extra = curve_of(hedge).cost_quote(9.0) - 9.0 * (1.0 + 2001.0 * 5e-4)
        assert extra == pytest.approx(3.0 * 5e-4 * 2001.0 + 2.0 * 1e-3 * 2001.0)

    def test_what_the_vault_says_of_impact_takes_its_place(self) -> None:
        hedge = msgspec.structs.replace(
            TAKER, impact_coefficient=0.9, daily_volume_base=10_000.0, daily_vol_fraction=0.04
        )
        extra = curve_of(hedge).cost_quote(100.0) - 100.0 * (1.0 + 2001.0 * 5e-4)
        assert extra == pytest.approx(100.0 * 2000.0 * (2.0 / 3.0) * 0.9 * 0.04 * 0.1)
        measured = msgspec.structs.replace(hedge, daily_vol_fraction=0.0)
        doubled = curve_of(measured, vol=2 * 0.04 * 365**0.5).cost_quote(100.0) - 100.0 * (1.0 + 2001.0 * 5e-4)
        assert doubled == pytest.approx(2.0 * extra)
        assert curve_of(measured, vol=nan).root_coefficient == 0.0

    @pytest.mark.parametrize("is_buy", [True, False])
    def test_a_pool_costs_gas_and_bends(self, is_buy: bool) -> None:
        tiers = (GasTier(2, 1, 3.0, 12.0, 24.0), GasTier(4, 2, 5.0, 6.0, 12.0))
        terms = ExecutionTerms("ETH-PERPETUAL", tiers, 0.5, 1_000.0, 12 * 10**9, T0_NS, T0_NS, 1)
        curve = curve_of(terms=terms, is_buy=is_buy)
        share, far_px = (0.01, 2001.0) if is_buy else (-0.01, 1999.0)
        bend = far_px * 10.0 * 0.01 / (1.0 - share)
        assert curve.cost_quote(10.0) == pytest.approx(2 * 3.0 + 10.0 * (1.0 + far_px * 5e-4) + bend)


class TestMid:
    def test_a_perpetual_has_its_own_and_spot_pairs_share_one(self) -> None:
        terms = {name: getattr(PERPETUAL, name) for name in PERPETUAL.__struct_fields__}
        pair = HedgeSettings(instrument=Spot(**terms), maker_bps=0.0, taker_bps=5.0)
        assert own_mid_px(TAKER, QUOTE, 1990.0) == 2000.0
        assert own_mid_px(pair, QUOTE, 1990.0) == 1990.0
        assert own_mid_px(pair, QUOTE, 0.0) == 2000.0


def cost_of_carry(hedge: HedgeSettings, *, is_buy: bool, base: float = 1.0, **changes: Any) -> float:
    plain = curve_of(hedge, is_buy=is_buy)
    given: dict[str, Any] = {
        "is_buy": is_buy, "mid_px": 2000.0, "index_px": 2000.0, "held_base": 0.0, "days": 2.0,
        "paid_rate_per_day": 0.0, "now_ns": T0_NS,
    }  # fmt: skip
    return carried(plain, hedge, **(given | changes)).cost_quote(base) - plain.cost_quote(base)


class TestCarry:
    def test_a_long_pays_funding_and_a_short_receives_it(self) -> None:
        assert cost_of_carry(TAKER, is_buy=True, paid_rate_per_day=3e-4) == pytest.approx(1.2)
        assert cost_of_carry(TAKER, is_buy=False, paid_rate_per_day=3e-4) == pytest.approx(-1.2)
        told = msgspec.structs.replace(TAKER, funding_rate_per_day=-1e-4, holding_days=10.0)
        assert cost_of_carry(told, is_buy=True, paid_rate_per_day=3e-4) == pytest.approx(-2.0), "the vault knows better"

    def test_a_dated_future_comes_to_spot_by_its_expiry(self) -> None:
        dated = HedgeSettings(instrument=future(T0_NS + 8 * NS_PER_DAY), maker_bps=0.0, taker_bps=5.0)
        assert cost_of_carry(dated, is_buy=True, index_px=1980.0) == pytest.approx(20.0 * 2.0 / 8.0)
        assert cost_of_carry(dated, is_buy=False, index_px=1980.0) == pytest.approx(-20.0 * 2.0 / 8.0)
        assert cost_of_carry(dated, is_buy=True, index_px=1980.0, days=30.0) == pytest.approx(20.0)

    def test_only_what_is_sold_short_is_borrowed(self) -> None:
        loan = msgspec.structs.replace(TAKER, borrow_rate_per_year=0.0365)
        a_day_quote = 2.0 * 2000.0 * 1e-4
        assert cost_of_carry(loan, is_buy=False) == pytest.approx(a_day_quote)
        assert cost_of_carry(loan, is_buy=False, base=3.0, held_base=2.0) == pytest.approx(a_day_quote)
        assert cost_of_carry(loan, is_buy=True, base=3.0, held_base=-1.0) == pytest.approx(-a_day_quote)


class TestHoldingTime:
    BAND = HedgeTarget.to_edge(-1.0, 1.0, "test")

    def test_it_is_how_long_net_delta_takes_to_wander_back(self) -> None:
        greeks = msgspec.structs.replace(view().greeks, gamma_base_per_px=-0.05)
        seen = view(spot_px=2000.0, greeks=greeks, vol=0.8, tau_years=1.0, delta_low_base=4.0, delta_high_base=4.0)
        pace_base = 0.05 * 2000.0 * 0.8
        assert likely_days(seen, self.BAND) == pytest.approx((3.0 / pace_base) ** 2 * 365.0)
        mirrored = msgspec.structs.replace(seen, delta_low_base=-4.0, delta_high_base=-4.0)
        assert likely_days(mirrored, self.BAND) == pytest.approx((3.0 / pace_base) ** 2 * 365.0)

    def test_and_no_longer_than_to_the_next_expiry_or_a_month(self) -> None:
        still = msgspec.structs.replace(view().greeks, gamma_base_per_px=0.0)
        assert likely_days(view(greeks=still, tau_years=3.0 / 365.0), self.BAND) == pytest.approx(3.0)
        assert likely_days(view(greeks=still, tau_years=inf), self.BAND) == MAX_HOLDING_DAYS
        assert likely_days(view(vol=nan, tau_years=inf), self.BAND) == MAX_HOLDING_DAYS
