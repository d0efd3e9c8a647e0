"""What chains report: one exposure, neither won nor lost but for fees, and waited for before anything is traded."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import msgspec
import pytest

from bot.domain.chain import ChainReport, GasPaid, LpPosition, TokenPosition
from bot.domain.decisions import BotState, Refusal
from bot.domain.events import OperatorAction, Restarted
from bot.domain.market import QuoteFault
from bot.domain.results import pnl_parts
from bot.domain.units import NS_PER_S
from bot.domain.venues import VenueHealth, VenueStatus
from bot.engine.chain_book import is_sound
from bot.engine.gates import list_gates
from bot.engine.settings import BookLeg, HedgeSettings
from strategies import DeltaBand, WhalleyWilmott
from tests.engine.builders import (
    CALL,
    INVERSE,
    PERPETUAL,
    Driver,
    linear_perpetual,
    make_settings,
    only_intent,
)

LP = LpPosition("7", "ETH", 1e4, 1600.0, 2500.0, 0.0, 0.0)
LP_BASE = 1e4 * (1 / 2000.0**0.5 - 1 / 50.0)  # 23.6
LP_GAMMA = -0.5 * 1e4 / 2000.0**1.5


def token(qty: float, underlying: str = "ETH", charge: float = 0.0, name: str = "wallet:X") -> TokenPosition:
    return TokenPosition(name, underlying, qty, charge)


class Chains(Driver):
    """A vault whose book is on one chain."""

    def __init__(self, *, book: tuple[BookLeg, ...] = (), **changes: Any) -> None:
        settings = {"chain_venues": frozenset({"base"}), "chain_max_age_ns": 30 * NS_PER_S, **changes}
        super().__init__(make_settings(book, **settings))
        self.block = 100

    def report(
        self,
        *held: LpPosition | TokenPosition,
        venue: str = "base",
        blocks: int = 1,
        health_factor: float = inf,
        age_s: float = 0.0,
    ) -> None:
        self.block += blocks
        lps = tuple(one for one in held if isinstance(one, LpPosition))
        tokens = tuple(one for one in held if isinstance(one, TokenPosition))
        block_ns = self.now_ns - round(age_s * NS_PER_S)
        name = f"0x{self.block:x}"
        self.apply(ChainReport(venue, self.block, name, lps, tokens, health_factor, block_ns, self.now_ns))

    def pay_gas(
        self, coins: float, payment_id: str = "tx1:0xaa", coin: str = "ETH", quote: float | None = None
    ) -> None:
        worth = coins * 2000.0 if quote is None else quote
        self.apply(
            GasPaid(payment_id, "base", "", PERPETUAL.instrument_id, coin, coins, worth, self.now_ns, self.now_ns)
        )

    def see(self, px: float = 2000.0, after_s: float = 1.0) -> None:
        """Show the market; close what step is open."""
        self.wait(after_s)
        self.show(px)
        self.engine.close_steps(self.now_ns)

    def delta(self) -> float:
        return self.engine.desks["ETH"].book.net_greeks(is_coin_numeraire=False).delta_base

    def parts(self) -> dict[str, float]:
        """Return the profit by part, having checked that the parts are all there is."""
        self.engine.close_steps(self.now_ns)
        parts = pnl_parts(self.engine.pnl())
        assert parts["total"] == pytest.approx(self.engine.pnl_total_quote(), abs=1e-7)
        return parts

    def refusal(self) -> Refusal | None:
        decision = self.engine.desks["ETH"].decision
        assert decision is not None
        return decision.refusal


def started(*held: LpPosition | TokenPosition, **changes: Any) -> Chains:
    driver = Chains(**changes)
    driver.report(*held)
    driver.tick()
    return driver


class TestExposure:
    def test_everything_nets_into_one_exposure(self) -> None:
        held = [LP, token(3.0), token(-5.0, name="aave:debt"), token(9_000.0, "")]
        driver = started(*held, book=(BookLeg(PERPETUAL, -2.0),), cash={"ETH": 1.0}, hedge=INVERSE)
        greeks = driver.engine.desks["ETH"].book.net_greeks(is_coin_numeraire=False)
        assert greeks.delta_base == pytest.approx(LP_BASE + 3.0 - 5.0 - 2.0 + 1.0)
        assert greeks.gamma_base_per_px == pytest.approx(LP_GAMMA)
        lp_quote = LP_BASE * 2000.0 + 1e4 * (2000.0**0.5 - 40.0)
        assert greeks.value_quote == pytest.approx(lp_quote - 2.0 * 2000.0 + 9_000.0 + 2_000.0)

    def test_an_lp_alone_is_hedged_without_any_vol(self) -> None:
        driver = Chains()
        driver.report(LP)
        intent = only_intent(driver.tick())
        assert intent.qty_lots == -round((LP_BASE - 1.0) / 0.1 + 0.5)
        decision = driver.engine.desks["ETH"].decision
        assert decision is not None
        assert decision.greeks.gamma_base_per_px == pytest.approx(LP_GAMMA)
        driver.fill(intent)
        assert driver.tick() == []
        assert driver.refusal() is None

    def test_its_gamma_is_what_the_band_is_made_of(self) -> None:
        driver = Chains(policy=WhalleyWilmott(risk_aversion_per_quote=1e-4))
        driver.report(LP)
        assert f"gamma {LP_GAMMA:.3g}" in only_intent(driver.tick()).reason

    def test_it_is_hedged_again_as_the_price_moves_through_its_range(self) -> None:
        driver = Chains()
        driver.report(LP)
        driver.hedge()
        for px in (1900.0, 1750.0, 1590.0):
            intent = driver.hedge(px)
            assert intent.qty_lots < 0, "it turns to coin as the price falls"
            assert abs(driver.delta()) <= 1.0 + 1e-9
        parts = driver.parts()
        assert parts["gamma"] < -1000.0
        assert abs(parts["unexplained"]) < 0.12 * abs(parts["gamma"])

    def test_a_coin_vault_counts_the_coins_the_liquidity_is_worth(self) -> None:
        driver = started(LP, numeraire="ETH")
        plain = started(LP)
        value = plain.engine.desks["ETH"].book.equity_quote()
        coin = driver.engine.desks["ETH"].book.net_greeks(is_coin_numeraire=True)
        assert coin.delta_base == pytest.approx(LP_BASE - value / 2000.0)
        assert coin.gamma_base_per_px == pytest.approx(LP_GAMMA - coin.delta_base / 2000.0)
        assert coin.delta_base < 0.0, "money it holds is short the coin wealth is counted in"

    def test_each_desk_has_its_own_and_money_is_at_home(self) -> None:
        btc = linear_perpetual("BTC")
        hedges = {one.base: (HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=5.0),) for one in (PERPETUAL, btc)}
        driver = started(LP, token(2.0, "BTC"), token(500.0, ""), token(9.0, "DOGE", name="doge"), hedges=hedges)
        desks = driver.engine.desks
        assert desks["BTC"].book.equity_quote() == 2.0 * 2000.0
        assert desks["ETH"].book.chain is not None
        assert desks["ETH"].book.chain.money_quote == 500.0
        assert driver.engine.chains.strays == ("base:doge",)

    def test_chains_add_up_and_each_replaces_only_its_own(self) -> None:
        driver = started(token(2.0), policy=DeltaBand(half_width_base=100.0))
        driver.report(token(3.0), venue="other")
        assert driver.delta() == pytest.approx(5.0)
        driver.report()
        assert driver.delta() == pytest.approx(3.0)
        driver.report(venue="other")
        assert driver.engine.desks["ETH"].book.chain is None


class TestWonAndLost:
    @pytest.fixture
    def driver(self) -> Chains:
        return started(LP, token(10_000.0, ""), policy=DeltaBand(half_width_base=100.0))

    def test_a_move_is_explained_by_delta_and_gamma(self, driver: Chains) -> None:
        driver.see(2010.0)
        parts = driver.parts()
        assert parts["delta"] == pytest.approx(LP_BASE * 10.0)
        assert parts["gamma"] == pytest.approx(0.5 * LP_GAMMA * 100.0)
        assert abs(parts["unexplained"]) < 0.01

    @pytest.mark.parametrize(
        "held",
        [
            (),
            (msgspec.structs.replace(LP, liquidity=2e4), token(10_000.0, "")),
            (LP, token(10_000.0, ""), token(50.0)),
            (LP, token(-900.0, "")),
            (msgspec.structs.replace(LP, position_id="8", owed_base=3.0), token(10_000.0, "")),
            (msgspec.structs.replace(LP, liquidity=5e3, owed_base=11.0, owed_quote=2e4), token(10_000.0, "")),
        ],
        ids=["all gone", "minted", "transfer in", "borrowed", "another position", "burned, not collected"],
    )
    def test_changes_of_what_is_held_are_neither(
        self, driver: Chains, held: tuple[LpPosition | TokenPosition, ...]
    ) -> None:
        driver.see(2005.0)
        before = driver.parts()
        driver.wait(1.0)
        driver.report(*held)
        assert driver.parts() == pytest.approx(before, abs=1e-7)
        driver.see(2000.0)
        driver.parts()

    def test_fees_that_grow_are_income(self, driver: Chains) -> None:
        driver.see(2000.0)
        driver.report(msgspec.structs.replace(LP, owed_base=0.01, owed_quote=5.0), token(10_000.0, ""))
        parts = driver.parts()
        assert parts["lp_fees"] == pytest.approx(25.0)
        assert parts["total"] == pytest.approx(25.0)
        driver.see(2100.0)
        assert driver.parts()["lp_fees"] == pytest.approx(25.0), "what they gain afterwards is delta"
        driver.report(msgspec.structs.replace(LP, owed_base=0.02, owed_quote=5.0), token(10_000.0, ""))
        assert driver.parts()["lp_fees"] == pytest.approx(25.0 + 21.0)
        assert driver.engine.unhedged_pnl_quote() == pytest.approx(driver.engine.pnl_total_quote())

    def test_collecting_them_is_no_loss(self, driver: Chains) -> None:
        driver.report(msgspec.structs.replace(LP, owed_quote=500.0), token(10_000.0, ""))
        before = driver.parts()
        driver.wait(1.0)
        driver.report(msgspec.structs.replace(LP, owed_quote=1.0), token(10_499.5, ""))
        assert driver.parts() == pytest.approx(before, abs=1e-7)

    def test_what_a_reorg_takes_back_was_never_earned(self, driver: Chains) -> None:
        driver.report(msgspec.structs.replace(LP, owed_quote=500.0), token(10_000.0, ""))
        driver.report(msgspec.structs.replace(LP, owed_quote=300.0), token(10_000.0, ""), blocks=0)
        assert driver.parts()["lp_fees"] == pytest.approx(300.0)
        driver.report(LP, token(10_000.0, ""), blocks=-3)
        assert driver.parts()["lp_fees"] == pytest.approx(0.0)

    def test_what_is_charged_moves_no_profit_by_itself(self, driver: Chains) -> None:
        driver.report(token(10.0, charge=0.05))
        assert driver.parts()["total"] == pytest.approx(0.0, abs=1e-9)
        assert driver.engine.equity_quote() == pytest.approx(19_000.0)
        driver.see(2100.0)
        parts = driver.parts()
        assert (parts["delta"], parts["unexplained"]) == (pytest.approx(950.0), pytest.approx(0.0, abs=1e-9))

    def test_the_same_again_changes_nothing(self, driver: Chains) -> None:
        stepped_ns = driver.engine.desks["ETH"].pnl.stepped_ns
        driver.wait(1.0)
        driver.report(LP, token(10_000.0, ""))
        assert driver.engine.desks["ETH"].pnl.stepped_ns == stepped_ns


class TestWaiting:
    def test_nothing_is_traded_before_the_chain_said_what_is_held(self) -> None:
        driver = Chains(cash={"ETH": 10.0})
        assert driver.tick() == []
        assert driver.engine.state is BotState.RECONCILING
        assert driver.engine.state_reason == "waiting for the report of base"
        assert driver.refusal() is Refusal.RECONCILING
        driver.operate(OperatorAction.RESUME)
        assert driver.engine.state_reason == "resumed before every chain reported"
        driver.report()
        only_intent(driver.tick())
        assert driver.engine.state is BotState.RUNNING

    def test_after_a_restart_it_is_asked_for_anew(self) -> None:
        driver = started(LP)
        driver.apply(Restarted(driver.now_ns))
        driver.tick()
        driver.tick()
        assert driver.engine.state is BotState.RECONCILING
        driver.report(LP)
        driver.tick()
        assert "waiting for the report" not in driver.engine.state_reason

    def test_on_an_old_block_nothing_is_traded(self) -> None:
        driver = Chains()
        driver.report(LP, age_s=31.0)
        assert driver.tick(after_s=0.0) == []
        assert driver.refusal() is Refusal.STALE_CHAIN
        assert driver.engine.desks["ETH"].decision.refusal_detail == "block 101 of base is 31 s old, limit 30 s"  # type: ignore[union-attr]
        driver.report(LP)
        only_intent(driver.tick())

    def test_a_chain_that_is_down_does_not_stop_hedges_elsewhere(self) -> None:
        driver = Chains()
        driver.report(LP, age_s=31.0)
        driver.apply(VenueStatus("base", VenueHealth.DOWN, "sequencer", driver.now_ns))
        only_intent(driver.tick(after_s=0.0))

    def test_without_a_limit_any_age_will_do(self) -> None:
        driver = Chains(chain_max_age_ns=0)
        driver.report(LP, age_s=1e6)
        only_intent(driver.tick())

    def test_the_gate_tells_block_and_health(self) -> None:
        driver = Chains()
        driver.tick()
        gates = {one.name: one for one in list_gates(driver.engine, driver.engine.desks["ETH"], driver.now_ns)}
        assert (gates["chains known"].is_open, gates["chains known"].detail) == (False, "base: no report yet")
        driver.report(LP, health_factor=1.75)
        gates = {one.name: one for one in list_gates(driver.engine, driver.engine.desks["ETH"], driver.now_ns)}
        told = "base: block 101, 0 s old, health factor 1.75"
        assert (gates["chains known"].is_open, gates["chains known"].detail) == (True, told)


UNSOUND = [
    msgspec.structs.replace(LP, liquidity=nan),
    msgspec.structs.replace(LP, liquidity=-1.0),
    msgspec.structs.replace(LP, low_px=0.0),
    msgspec.structs.replace(LP, high_px=1600.0),
    msgspec.structs.replace(LP, high_px=inf),
    msgspec.structs.replace(LP, owed_base=-1.0),
    msgspec.structs.replace(LP, owed_quote=inf),
    token(nan),
    token(-inf),
    token(1.0, charge=nan),
    token(1.0, charge=-0.1),
    token(1.0, charge=1.1),
]


@pytest.mark.parametrize("held", UNSOUND)
def test_numbers_that_cannot_be_are_not_taken_in(held: LpPosition | TokenPosition) -> None:
    driver = started(token(2.0), policy=DeltaBand(half_width_base=100.0))
    driver.report(held)
    assert driver.engine.market.faults == {QuoteFault.NOT_FINITE: 1}
    assert driver.delta() == 2.0
    assert is_sound(driver.engine.chains.reports["base"])


class TestGas:
    @pytest.fixture
    def driver(self) -> Chains:
        return started(token(2.0), policy=DeltaBand(half_width_base=100.0))

    def test_gas_is_paid_in_coin_that_is_then_missing(self, driver: Chains) -> None:
        driver.pay_gas(0.01)
        parts = driver.parts()
        assert (parts["gas"], parts["total"]) == (pytest.approx(-20.0), pytest.approx(-20.0))
        assert driver.delta() == pytest.approx(1.99)
        assert driver.engine.unhedged_pnl_quote() == pytest.approx(0.0), "the book alone would not have paid it"
        driver.see(2100.0)
        assert driver.parts()["delta"] == pytest.approx(1.99 * 100.0)

    def test_a_payment_told_twice_counts_once(self, driver: Chains) -> None:
        for _ in range(3):
            driver.pay_gas(0.01)
        assert driver.parts()["gas"] == pytest.approx(-20.0)
        driver.pay_gas(0.01, "tx1:0xbb")
        assert driver.parts()["gas"] == pytest.approx(-40.0)

    @pytest.mark.parametrize("back_id", ["tx1:0xaa", "tx1:0xaa:back"])
    def test_a_reorg_takes_it_back_once(self, driver: Chains, back_id: str) -> None:
        driver.pay_gas(0.01)
        driver.wait(1.0)
        for _ in range(2):
            driver.pay_gas(-0.01, back_id)
        assert driver.parts()["gas"] == pytest.approx(0.0, abs=1e-12)
        assert driver.delta() == pytest.approx(2.0)
        driver.wait(1.0)
        driver.pay_gas(0.012, "tx1:0xcc")
        assert driver.parts()["gas"] == pytest.approx(-24.0)

    def test_the_first_word_told_again_after_the_second_changes_nothing(self, driver: Chains) -> None:
        paid_ns = driver.now_ns
        driver.pay_gas(0.01)
        driver.wait(1.0)
        driver.pay_gas(-0.01)
        back_ns, driver.now_ns = driver.now_ns, paid_ns
        driver.pay_gas(0.01)
        driver.now_ns = back_ns
        assert driver.parts()["gas"] == pytest.approx(0.0, abs=1e-12)
        driver.wait(1.0)
        driver.pay_gas(0.01)
        assert driver.parts()["gas"] == pytest.approx(-20.0), "the block came back: it was paid after all"

    def test_a_coin_that_is_none_of_ours_is_paid_in_money(self, driver: Chains) -> None:
        driver.pay_gas(3.0, coin="POL", quote=1.5)
        assert driver.parts()["gas"] == pytest.approx(-1.5)
        assert driver.delta() == pytest.approx(2.0)
        driver.see(2100.0)
        assert driver.parts()["unexplained"] == pytest.approx(0.0, abs=1e-9)

    def test_before_the_first_decision_it_is_part_of_what_there_is(self) -> None:
        driver = Chains(policy=DeltaBand(half_width_base=100.0))
        driver.pay_gas(0.5)
        driver.report(token(2.0))
        driver.tick()
        assert driver.parts()["gas"] == 0.0
        assert driver.delta() == pytest.approx(1.5)

    @pytest.mark.parametrize(("coins", "quote"), [(nan, 1.0), (1.0, inf)])
    def test_what_is_not_a_number_is_refused(self, driver: Chains, coins: float, quote: float) -> None:
        driver.pay_gas(coins, quote=quote)
        assert driver.engine.market.faults == {QuoteFault.NOT_FINITE: 1}
        assert driver.parts()["gas"] == 0.0


def test_options_and_liquidity_net_and_the_parts_stay_whole() -> None:
    driver = Chains(book=(BookLeg(CALL, -10.0),), policy=DeltaBand(half_width_base=100.0))
    driver.report(LP)
    driver.tick()
    gamma = driver.engine.desks["ETH"].book.option_gamma
    decision = driver.engine.desks["ETH"].decision
    assert decision is not None
    assert decision.greeks.gamma_base_per_px == pytest.approx(gamma + LP_GAMMA)
    for px in (2010.0, 1990.0, 2030.0):
        driver.see(px, after_s=60.0)
        driver.report(msgspec.structs.replace(LP, owed_quote=px - 1900.0))
    assert driver.parts()["lp_fees"] == pytest.approx(110.0 + 40.0), "110 earned, collected down to 90, then 40 more"


def test_the_vol_of_liquidity_is_that_of_the_index_and_each_counts_by_its_gamma() -> None:
    driver = Chains(book=(BookLeg(CALL, -1.0),), policy=DeltaBand(half_width_base=100.0))
    driver.report(LP)
    for step in range(600):
        driver.wait(29.0)
        driver.show(2000.0 * (1.0 + 1e-5 * (step % 2)))
        driver.report(LP)
        driver.decide()
    desk = driver.engine.desks["ETH"]
    measured = desk.realized_vol.vol
    assert measured < 0.2
    share = abs(desk.book.option_gamma) / (abs(desk.book.option_gamma) + abs(LP_GAMMA))
    assert desk.vol() == pytest.approx(share * 0.6 + (1.0 - share) * measured, rel=1e-3)
    view = desk.view(driver.now_ns, driver.engine.orders, desk.settings)
    assert view.horizon_years == inf
    assert view.greeks.gamma_base_per_px == pytest.approx(desk.book.option_gamma + LP_GAMMA, rel=1e-3)
