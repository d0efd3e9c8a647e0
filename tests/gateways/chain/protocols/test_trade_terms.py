"""Lots, ticks and smallest units: nothing is lost on the way, and every rounding is on our side."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.errors import ConfigError
from bot.domain.orders import GasBid, OrderIntent, TimeInForce
from bot.gateways.chain.nouns import Amounts, Refused
from bot.gateways.chain.protocols.trade_terms import TradeTerms, contracts_of, deadline_s, gas_limit
from bot.gateways.chain.settings import HedgeSection

GAS = GasBid(10**10, 10**9, 1.0, 1_700_000_000_999_999_999)


def section_of(lot_base: float = 0.001, tick_px: float = 0.01) -> HedgeSection:
    return HedgeSection(
        name="X", protocol="aave_v3", underlying="ETH", base="WETH", quote="USDC", lot_base=lot_base, tick_px=tick_px,
        contracts={"pool": "0x1", "router": ""},
    )  # fmt: skip


def intent_of(
    qty_lots: int,
    limit_ticks: int,
    in_force: TimeInForce = TimeInForce.IOC,
    gas: GasBid | None = GAS,
    name: str = "c:X",
) -> OrderIntent:
    return OrderIntent("run-1", name, qty_lots, limit_ticks, in_force, False, "test", 3000.0, 0, gas)


TERMS = TradeTerms.of(section_of(), "c:X", 18, 6)


@given(lots=st.integers(-(10**9), 10**9))
def test_lots_and_back(lots: int) -> None:
    wei = TERMS.base_wei(lots) * (1 if lots > 0 else -1)
    assert TERMS.lots(wei) == lots
    beyond = 10**15 - 1
    assert TERMS.lots(wei + (beyond if lots > 0 else -beyond)) == lots  # less than a lot does not count


def test_a_lot_is_a_whole_number_of_smallest_units() -> None:
    assert TERMS.lot_wei == 10**15
    assert TradeTerms.of(section_of(0.1 + 0.2), "c:X", 18, 6).lot_wei == 300000000000000040  # as written, to the digit
    with pytest.raises(ConfigError, match=r"c:X: expected lot_base to be a whole number of 1e-8, found 1e-09"):
        TradeTerms.of(section_of(1e-9), "c:X", 8, 6)


@given(lots=st.integers(1, 10**6), ticks=st.integers(1, 10**7))
def test_bounds_never_give_away_what_the_limit_does_not(lots: int, ticks: int) -> None:
    exact = Fraction(lots, 1000) * Fraction(ticks, 100) * 10**6
    assert 0 <= TERMS.bound_quote_wei(intent_of(-lots, ticks)) - exact < 1
    assert 0 <= exact - TERMS.bound_quote_wei(intent_of(lots, ticks)) < 1


def test_what_is_worse_than_the_limit_with_its_fee_is_refused() -> None:
    sale, purchase = intent_of(-1000, 300_000), intent_of(1000, 300_000)
    assert TERMS.within_limit(sale, Amounts(-(10**18), 3_001 * 10**6, 10**6)) == 3_000 * 10**6
    assert TERMS.within_limit(purchase, Amounts(10**18, -2_999 * 10**6, 10**6)) == 3_000 * 10**6
    with pytest.raises(Refused, match=r"expected to sell 1 at 3000 or better, found 2999\.999999 in the newest state"):
        TERMS.within_limit(sale, Amounts(-(10**18), 3_001 * 10**6, 10**6 + 1))
    with pytest.raises(Refused, match=r"expected to buy 1 at 3000 or better, found 3000\.000001 in the newest state"):
        TERMS.within_limit(purchase, Amounts(10**18, -2_999 * 10**6, 10**6 + 1))


@pytest.mark.parametrize(
    ("intent", "words"),
    [
        (intent_of(1, 1, name="c:Y"), "expected an order for c:X, found one for c:Y"),
        (intent_of(0, 1), "found 0 lots"),
        (intent_of(1, 0, TimeInForce.MARKET), "found market at 0 ticks; hint: on chain a trade without a limit"),
        (intent_of(1, 5, TimeInForce.POST_ONLY), "found post_only at 5 ticks"),
        (intent_of(1, 1, gas=None), "what gas may cost"),
    ],
)
def test_orders_no_transaction_can_carry_out(intent: OrderIntent, words: str) -> None:
    with pytest.raises(Refused, match=words):
        TERMS.checked(intent)


def test_what_can_be_carried_out_says_its_gas() -> None:
    assert TERMS.checked(intent_of(1, 1)) is GAS
    assert deadline_s(GAS) == 1_700_000_000  # never later than the order says
    assert gas_limit(100_001, 1.3) == 130_002


def test_prices_of_amounts() -> None:
    assert TERMS.px(-(2 * 10**18), 6_001 * 10**6) == 3000.5
    assert (TERMS.base(15 * 10**17), TERMS.quote(2_500_000)) == (1.5, 2.5)


def test_missing_contracts_are_named() -> None:
    assert contracts_of(section_of(), ("pool",)) == {"pool": "0x1"}
    with pytest.raises(ConfigError, match="X: expected contracts for pool, router, found none for router"):
        contracts_of(section_of(), ("pool", "router"))
