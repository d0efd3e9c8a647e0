"""Fused prices in the engine: what marks a book, what may be traded on it, and what no single source can do."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import msgspec
import pytest

from bot.domain.decisions import BotState, HedgeTarget, HedgeView, Refusal
from bot.domain.market import IndexPrice, OraclePrice, QuoteFault
from bot.domain.units import NS_PER_S
from bot.engine.gates import Gate, list_gates
from bot.engine.oracles import MAX_SOURCES, OracleBoard
from bot.engine.settings import FusionSettings, HedgeSettings
from bot.risk.oracle_fusion import Verdict
from tests.engine.builders import CALL, PERPETUAL, Driver, future, linear_perpetual, make_settings, only_intent

FUSION = {"ETH": FusionSettings()}
LINK, PYTH, INDEX = "chainlink ETH/USD", "pyth ETH/USD", "index of sim"


@dataclass(frozen=True)
class Fixed:
    """A policy of one unchanging answer."""

    answer: HedgeTarget
    name: str = "fixed"

    def target(self, view: HedgeView) -> HedgeTarget:  # noqa: ARG002 (the protocol's signature)
        return self.answer


class Oracles(Driver):
    """A vault whose price is made of two oracles and one exchange's index."""

    def say(self, source: str, px: float, *, conf: float = 0.0, age_s: float = 0.0, max_age_s: float = 60.0) -> None:
        told_ns = self.now_ns - round(age_s * NS_PER_S)
        self._seq += 1
        self.apply(OraclePrice(source, "ETH", px, conf, round(max_age_s * NS_PER_S), told_ns, self.now_ns, self._seq))

    def say_index(self, px: float, venue: str = "sim") -> None:
        self.apply(msgspec.structs.replace(self.index(px), venue=venue))

    def look(self, px: float = 2000.0, *, link: float | None = None, pyth: float | None = None) -> None:
        """Show every quote at `px`, and what the sources say: `px` unless told, nothing if told 0."""
        self.wait(1.0)
        events = self.sweep(self.engine.settings.universe, px, 0.6)
        self.apply(*[one for one in events if not isinstance(one, IndexPrice)])
        self.say_index(px)
        for source, told in ((LINK, link), (PYTH, pyth)):
            if told != 0:
                self.say(source, px if told is None else told, conf=1.0)

    def refusal(self) -> tuple[Refusal | None, str]:
        decision = self.engine.desks["ETH"].decision
        assert decision is not None
        return decision.refusal, decision.refusal_detail

    @property
    def index_px(self) -> float:
        return self.engine.market.underlyings["ETH"].index_px

    @property
    def verdict(self) -> Verdict:
        assert self.engine.oracles is not None
        fused = self.engine.oracles.fused("ETH")
        assert fused is not None
        return fused.verdict


def short_of_coins(coins: float = 10.0) -> Oracles:
    return Oracles(make_settings(cash={"ETH": coins}, fusion=FUSION))


@pytest.fixture
def driver() -> Oracles:
    return short_of_coins()


def hold(driver: Oracles) -> None:
    """Hedge at a price all agree on, and fill it."""
    driver.look()
    intent = only_intent(driver.decide())
    driver.fill(intent)


class TestMark:
    def test_the_index_is_what_the_sources_agree_on(self, driver: Oracles) -> None:
        driver.look(2000.0, link=2004.0, pyth=0)
        driver.say(PYTH, 2003.0, conf=0.3)
        assert driver.verdict is Verdict.OK
        assert driver.index_px == 2003.0, "the word of the one that states the least doubt, as the others confirm it"
        assert only_intent(driver.decide()).qty_lots < 0

    def test_one_source_alone_marks_nothing_and_trades_nothing(self, driver: Oracles) -> None:
        driver.look(link=0, pyth=0)
        assert driver.decide() == []
        assert driver.index_px == 0.0
        refusal, detail = driver.refusal()
        assert refusal is Refusal.ORACLE_HALT
        assert detail == "ETH: 1 live of 1 sources, 2 needed"

    def test_two_exchanges_are_two_sources(self, driver: Oracles) -> None:
        driver.look(link=0, pyth=0)
        driver.say_index(2001.0, venue="other")
        only_intent(driver.decide())

    def test_an_oracle_that_states_no_confidence_does_not_outweigh_those_that_do(self, driver: Oracles) -> None:
        driver.say(LINK, 2010.0)
        driver.say(PYTH, 2000.0, conf=1.0)
        assert driver.index_px == 2000.0

    def test_without_fusion_oracles_change_nothing(self) -> None:
        driver = Oracles(make_settings(cash={"ETH": 10.0}))
        driver.show()
        driver.say(LINK, 1000.0)
        assert driver.engine.oracles is None
        assert driver.index_px == 2000.0
        only_intent(driver.decide())

    def test_an_underlying_that_is_not_fused_is_marked_as_ever(self) -> None:
        btc = linear_perpetual("BTC")
        hedges = {one.base: (HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=5.0),) for one in (PERPETUAL, btc)}
        driver = Oracles(make_settings((), hedges=hedges, fusion=FUSION, cash={"BTC": 5.0}))
        driver.wait(1.0)
        driver.show()
        driver.say(LINK, 2000.0)
        assert driver.engine.market.underlyings["BTC"].index_px == 2000.0
        assert only_intent(driver.decide()).instrument_id == "BTC-PERPETUAL"


class TestStaleAndFrozen:
    """F25: a source that stands still is dropped; with less than two left nothing is traded."""

    def test_a_frozen_oracle_is_dropped_and_named_when_it_grows_too_old(self, driver: Oracles) -> None:
        driver.look()
        frozen_s = 0.0
        for _ in range(61):
            frozen_s += 1.0
            driver.look(link=0)
            driver.say(LINK, 2000.0, conf=1.0, age_s=frozen_s)
        assert driver.verdict is Verdict.DEGRADED
        [dropped] = driver.engine.oracles.fused("ETH").dropped  # type: ignore[union-attr]
        assert (dropped.source, dropped.reason) == (LINK, "61 s old, limit 60 s")
        only_intent(driver.decide())

    def test_when_the_second_last_one_dies_the_next_decision_notices_by_itself(self, driver: Oracles) -> None:
        hold(driver)
        driver.engine.desks["ETH"].book.coin_cash = 30.0
        driver.wait(10.5)  # the index may be ten seconds old, the oracles a minute
        driver.fill(only_intent(driver.decide()))
        assert driver.verdict is Verdict.DEGRADED
        driver.wait(51.0)
        assert driver.decide() == []
        assert driver.refusal()[0] is Refusal.ORACLE_HALT
        assert "0 live of 3 sources, 2 needed; dropped index of sim: 62 s old, limit 10 s" in driver.refusal()[1]

    def test_it_trades_again_as_soon_as_two_agree_again(self, driver: Oracles) -> None:
        driver.look(link=0, pyth=0)
        assert driver.decide() == []
        driver.say(PYTH, 2000.5, conf=1.0)
        only_intent(driver.decide())
        assert driver.engine.state is BotState.RUNNING

    def test_resting_orders_are_withdrawn_when_there_is_no_price(self) -> None:
        hedge = HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=5.0, style="maker")
        driver = Oracles(make_settings(cash={"ETH": 10.0}, fusion=FUSION, hedge=hedge))
        driver.look()
        intent = only_intent(driver.decide())
        driver.accept(intent)
        driver.wait(11.0)
        driver.say(LINK, nan)
        driver.say(PYTH, 2000.0)
        [cancel] = driver.decide()
        assert cancel.order_id == intent.order_id  # type: ignore[union-attr]


class TestThirteenPercentOff:
    """F26: an outlier is dropped and named; where none can say who is wrong, exposure only shrinks."""

    def test_an_oracle_far_off_is_outvoted(self, driver: Oracles) -> None:
        driver.look(link=1740.0)
        assert (driver.verdict, driver.index_px) == (Verdict.DEGRADED, 2000.0)
        only_intent(driver.decide())

    def test_an_exchange_far_off_is_outvoted_and_not_traded_at(self, driver: Oracles) -> None:
        driver.look(2000.0)
        driver.decide()
        driver.wait(1.0)
        driver.apply(driver.vol(CALL, 0.6, 2000.0), driver.quote(PERPETUAL, 1810.0))
        driver.say_index(1810.0)
        driver.say(LINK, 2000.0, conf=1.0)
        driver.say(PYTH, 2000.0, conf=1.0)
        driver.engine.desks["ETH"].book.coin_cash = 50.0
        assert driver.decide() == []
        refusal, detail = driver.refusal()
        assert refusal is Refusal.ORACLE_DEVIATION
        assert detail == "quote of ETH-PERPETUAL: 1810 is -9.50% from the fused price 2000, allowed 2.00%"
        assert driver.index_px == 2000.0

    def test_f27_a_venues_own_index_does_not_value_the_book(self, driver: Oracles) -> None:
        hold(driver)
        equity_quote = driver.engine.equity_quote()
        driver.look(2000.0)
        driver.say_index(1340.0)
        driver.decide()
        assert driver.engine.equity_quote() == pytest.approx(equity_quote, rel=1e-3)
        assert "index of sim: jumped -33.0%" in gate_of(driver).detail

    def test_it_is_hedged_where_the_price_is_right(self) -> None:
        good = msgspec.structs.replace(linear_perpetual(), instrument_id="ETH-GOOD", venue="good")
        hedges = tuple(HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=5.0) for one in (PERPETUAL, good))
        driver = Oracles(make_settings(cash={"ETH": 10.0}, fusion=FUSION, hedges={"ETH": hedges}))
        driver.look()
        driver.apply(driver.quote(PERPETUAL, 1900.0))
        intent = only_intent(driver.decide())
        assert intent.instrument_id == "ETH-GOOD"
        assert "ETH-PERPETUAL oracle_deviation: quote of ETH-PERPETUAL: 1900 is -5.00%" in intent.reason

    def test_two_that_never_agreed_are_named_with_why(self, driver: Oracles) -> None:
        driver.look(2000.0, link=1740.0, pyth=0)
        assert driver.decide() == []
        refusal, detail = driver.refusal()
        assert refusal is Refusal.ORACLE_HALT
        assert detail.startswith("ETH: 0 of 2 live sources near their median 1870, 2 needed")

    def test_two_that_contradict_each_other_only_let_exposure_shrink(self, driver: Oracles) -> None:
        hold(driver)
        driver.look(2000.0, link=1740.0, pyth=nan)
        assert driver.verdict is Verdict.REDUCE_ONLY
        book = driver.engine.desks["ETH"].book
        held = book.net_greeks(is_coin_numeraire=False).delta_base
        book.coin_cash += 8.0 - held  # long: selling shrinks it
        intent = only_intent(driver.decide())
        assert intent.qty_lots < 0
        assert driver.index_px == 2000.0, "the last price they agreed on"

    def test_what_would_add_exposure_is_refused_with_the_numbers(self) -> None:
        overshoot = Fixed(HedgeTarget(-1.0, 1.0, -1.0, -25.0, 1.0, "overshoots"))
        driver = Oracles(make_settings(cash={"ETH": 10.0}, fusion=FUSION, policy=overshoot))
        driver.look(2000.0, link=0, pyth=0)
        driver.say(LINK, 2060.0, conf=20.0)
        driver.say(PYTH, 2030.0, conf=20.0)
        assert driver.verdict is Verdict.REDUCE_ONLY
        assert driver.decide() == []
        refusal, detail = driver.refusal()
        assert refusal is Refusal.ORACLE_REDUCE_ONLY
        assert detail.startswith("ETH: index of sim 2000 and chainlink ETH/USD 2060 are 3.00% apart, limit 2%; ")
        assert detail.endswith("lots would not shrink the net delta")
        assert driver.engine.state is BotState.RUNNING, "it heals by itself"

    def test_an_order_is_not_raised_to_the_minimum_past_what_shrinks(self) -> None:
        coarse = linear_perpetual(min_lots=300)
        policy = Fixed(HedgeTarget(-25.0, 1.0, -25.0, 1.0, 1.0, "edge"))
        driver = Oracles(make_settings(cash={"ETH": 10.0}, fusion=FUSION, hedge=coarse, policy=policy))
        driver.look()
        assert only_intent(driver.decide()).qty_lots == -300, "while nothing is in doubt it may go beyond"
        driver = Oracles(make_settings(cash={"ETH": 10.0}, fusion=FUSION, hedge=coarse, policy=policy))
        driver.look(2000.0, link=0, pyth=0)
        driver.say(LINK, 2060.0, conf=20.0)
        driver.say(PYTH, 2030.0, conf=20.0)
        assert driver.decide() == []
        assert driver.refusal()[0] is Refusal.BELOW_MINIMUM

    def test_the_last_agreed_price_grows_old(self, driver: Oracles) -> None:
        hold(driver)
        for _ in range(62):
            driver.look(2000.0, link=1740.0, pyth=nan)
            driver.decide()
        assert driver.verdict is Verdict.REDUCE_ONLY
        assert driver.refusal()[0] is Refusal.STALE_INDEX

    def test_sources_far_apart_stop_everything(self, driver: Oracles) -> None:
        fusion = {"ETH": FusionSettings(max_confidence_fraction=0.05)}
        driver = Oracles(make_settings(cash={"ETH": 10.0}, fusion=fusion))
        driver.look()
        driver.say(LINK, 2130.0, conf=90.0)
        assert driver.verdict is Verdict.HALT
        assert driver.decide() == []
        refusal, detail = driver.refusal()
        assert refusal is Refusal.ORACLE_HALT
        assert "are 6.50% apart, stop at 5%" in detail


class TestJumps:
    def test_a_jump_of_one_waits_for_the_second_and_then_counts(self, driver: Oracles) -> None:
        for _ in range(30):
            driver.look()
        driver.wait(11.0)
        driver.say(PYTH, 2300.0, conf=1.0)
        driver.say(LINK, 2000.0, conf=1.0)
        assert driver.verdict is Verdict.REDUCE_ONLY
        assert driver.index_px == 2000.0
        driver.say_index(2301.0)
        assert (driver.verdict, driver.index_px) == (Verdict.DEGRADED, 2301.0)


class TestForwards:
    """The forward an option book is marked at is the word of one venue; far from the fused price it moves nothing."""

    def test_a_forward_beyond_any_carry_stops_the_desk(self, driver: Oracles) -> None:
        driver.look()
        driver.wait(1.0)
        for _ in range(2):  # the second confirms the jump
            driver.wait(1.0)
            driver.apply(driver.vol(CALL, 0.6, 2250.0))
        assert driver.decide() == []
        refusal, detail = driver.refusal()
        assert refusal is Refusal.ORACLE_DEVIATION
        assert detail == "forward of ETH 2023-05-03: 2250 is +12.50% from the fused price 2000, allowed 6.11%"

    def test_a_dated_hedge_may_be_away_by_its_carry(self) -> None:
        dated = future(CALL.expiry_ns)
        driver = Oracles(make_settings(cash={"ETH": 10.0}, fusion=FUSION, hedge=dated))
        driver.look()
        driver.apply(driver.vol(CALL, 0.6, 2060.0), driver.quote(dated, 2060.0))
        assert only_intent(driver.decide()).instrument_id == dated.instrument_id


class TestWords:
    def test_words_nobody_can_use_are_named(self, driver: Oracles) -> None:
        driver.look()
        driver.say(LINK, 0.0)
        [dropped] = driver.engine.oracles.fused("ETH").dropped  # type: ignore[union-attr]
        assert dropped.reason == "its price 0 ± 0 is not positive"
        driver.say(LINK, 2000.0, conf=1.0)
        assert driver.verdict is Verdict.OK

    def test_an_index_out_of_order_is_refused_and_an_oracle_may_go_back_with_its_chain(self, driver: Oracles) -> None:
        driver.look()
        late = msgspec.structs.replace(driver.index(1500.0), ts_event_ns=driver.now_ns - NS_PER_S, venue="sim")
        driver.apply(late)
        assert driver.engine.market.faults == {QuoteFault.OUT_OF_ORDER: 1}
        driver.say(LINK, 2001.0, conf=0.1, age_s=30.0)
        assert driver.index_px == 2001.0
        old = OraclePrice(LINK, "ETH", 1.0, 0.0, NS_PER_S, driver.now_ns, driver.now_ns - 1, 9)
        driver.apply(old)
        assert driver.engine.market.faults == {QuoteFault.OUT_OF_ORDER: 2}
        assert driver.index_px == 2001.0

    def test_an_index_from_the_future_is_refused_and_does_not_shut_out_the_true_ones(self, driver: Oracles) -> None:
        """Taken as a word it would be alive for ever, and every later one out of order."""
        driver.look()
        later = msgspec.structs.replace(driver.index(2030.0), venue="sim", ts_event_ns=driver.now_ns + 3600 * NS_PER_S)
        driver.apply(later)
        assert driver.engine.market.faults[QuoteFault.FROM_THE_FUTURE] == 1
        driver.look(1990.0)
        assert driver.verdict is Verdict.OK
        assert driver.index_px == 1990.0

    def test_an_oracle_from_the_future_does_not_stay_alive(self, driver: Oracles) -> None:
        driver.look(link=0, pyth=0)
        driver.say(LINK, 2000.0, conf=1.0, age_s=-3600.0)
        assert driver.verdict is Verdict.HALT

    def test_an_endless_price_does_not_spoil_the_average_of_its_source(self, driver: Oracles) -> None:
        driver.say(LINK, inf, conf=1.0)
        for _ in range(3):
            driver.look()
        driver.look(link=2250.0)
        assert driver.engine.oracles is not None
        fused = driver.engine.oracles.fused("ETH")
        assert fused is not None
        assert f"{LINK}: jumped +12.5% from its own average 2000 " in fused.reason

    def test_there_is_no_room_for_endless_sources(self, driver: Oracles) -> None:
        for n in range(MAX_SOURCES + 3):
            driver.say(f"s{n}", 2000.0)
        assert driver.engine.market.faults == {QuoteFault.UNKNOWN_INSTRUMENT: 3}
        assert len(driver.engine.oracles.fused("ETH").kept) == MAX_SOURCES  # type: ignore[union-attr]

    def test_what_is_not_fused_here_has_no_verdict(self, driver: Oracles) -> None:
        board = driver.engine.oracles
        assert isinstance(board, OracleBoard)
        assert board.fused("BTC") is None
        driver.apply(OraclePrice(LINK, "BTC", 1.0, 0.0, NS_PER_S, driver.now_ns, driver.now_ns, 1))
        assert board.fused("BTC") is None


def gate_of(driver: Oracles) -> Gate:
    gates = {gate.name: gate for gate in list_gates(driver.engine, driver.engine.desks["ETH"], driver.now_ns)}
    return gates["price sources agree"]


def test_the_gate_tells_the_verdict(driver: Oracles) -> None:
    driver.look(link=1740.0)
    driver.decide()
    gate = gate_of(driver)
    assert gate.is_open
    assert gate.detail.startswith("degraded: 2000, 2 of 3 sources within 0.00%; dropped chainlink ETH/USD: -13.00% off")
    driver.wait(100.0)
    driver.decide()
    assert not gate_of(driver).is_open
