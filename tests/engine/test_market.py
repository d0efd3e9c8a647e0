"""Market state: what is unbelievable is counted and changes nothing; what is believed is the newest."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite, nan
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instruments import Future, Perpetual
from bot.domain.market import ExecutionTerms, FundingRate, GasTier, IndexPrice, Quote, QuoteFault, VolQuote
from bot.domain.units import NS_PER_DAY, NS_PER_S
from bot.engine.market import CLOCK_TOLERANCE_NS, MarketState
from tests.engine.builders import (
    AGES,
    CALL,
    PERPETUAL,
    PUT,
    T0_NS,
    Driver,
    Feed,
    apply_market,
    linear_perpetual,
    option,
)

F = QuoteFault
UNIVERSE = (CALL, PUT, option(2200.0), option(2000.0, days=60.0), PERPETUAL)
Priced = Quote | VolQuote | IndexPrice
LATER_NS = T0_NS + 10 * NS_PER_S


def good_quote(**changes: Any) -> Quote:
    quote = Quote(PERPETUAL.instrument_id, 1999.0, 5.0, 2001.0, 5.0, LATER_NS, LATER_NS, 100)
    return msgspec.structs.replace(quote, **changes)


def good_vol(**changes: Any) -> VolQuote:
    quote = VolQuote(CALL.instrument_id, 0.6, 0.58, 0.62, 2010.0, LATER_NS, LATER_NS, 100)
    return msgspec.structs.replace(quote, **changes)


def good_index(**changes: Any) -> IndexPrice:
    return msgspec.structs.replace(IndexPrice("ETH", 2005.0, LATER_NS, LATER_NS, 100), **changes)


def other(good: Callable[..., Priced]) -> Priced:
    """Return another price of the same moment, under the next number."""
    return good(
        seq=101, **{good_quote: {"bid_px": 1999.5}, good_vol: {"mark_vol": 0.61}, good_index: {"px": 2006.0}}[good]
    )


GOOD: tuple[Callable[..., Priced], ...] = (good_quote, good_vol, good_index)
PRICES = {
    good_quote: ("bid_px", "bid_base", "ask_px", "ask_base"),
    good_vol: ("mark_vol", "forward_px"),
    good_index: ("px",),
}
BAD_NUMBERS: list[tuple[Priced, QuoteFault]] = [
    (good(**{field: value}), fault)
    for good, fields in PRICES.items()
    for field in fields
    for value, fault in (
        (nan, F.NOT_FINITE), (inf, F.NOT_FINITE), (-inf, F.NOT_FINITE), (0.0, F.NOT_POSITIVE), (-1.0, F.NOT_POSITIVE)
    )
]  # fmt: skip
BAD_SIDES: list[tuple[Priced, QuoteFault]] = [
    (good_vol(bid_vol=nan), F.NOT_FINITE),
    (good_vol(ask_vol=inf), F.NOT_FINITE),
    (good_vol(bid_vol=-0.1), F.NOT_POSITIVE),
    (good_vol(ask_vol=-0.1), F.NOT_POSITIVE),
    (good_vol(bid_vol=0.63), F.CROSSED),
    (good_quote(bid_px=2001.0), F.CROSSED),
    (good_quote(bid_px=2002.0), F.CROSSED),
]
BAD_TIMES: list[tuple[Priced, QuoteFault]] = [
    case
    for good, age_ns in ((good_quote, AGES.quote_ns), (good_vol, AGES.vol_ns), (good_index, AGES.index_ns))
    for case in (
        (good(ts_event_ns=T0_NS - 1), F.OUT_OF_ORDER),
        (good(ts_recv_ns=LATER_NS + age_ns + 1), F.STALE),
        (good(ts_recv_ns=LATER_NS - CLOCK_TOLERANCE_NS - 1), F.FROM_THE_FUTURE),
    )
]
BAD_NAMES: list[tuple[Priced, QuoteFault]] = [
    (good_quote(instrument_id="DOGE-PERPETUAL"), F.UNKNOWN_INSTRUMENT),
    (good_quote(instrument_id=CALL.instrument_id), F.UNKNOWN_INSTRUMENT),
    (good_vol(instrument_id="ETH-DREAM"), F.UNKNOWN_INSTRUMENT),
    (good_vol(instrument_id=PERPETUAL.instrument_id), F.UNKNOWN_INSTRUMENT),
    (good_index(underlying="DOGE"), F.UNKNOWN_INSTRUMENT),
    (good_vol(ts_event_ns=CALL.expiry_ns, ts_recv_ns=CALL.expiry_ns), F.EXPIRED),
]
BAD_JUMPS: list[tuple[Priced, QuoteFault]] = [
    (good_quote(bid_px=2999.0, ask_px=3001.0), F.JUMP),
    (good_vol(forward_px=1500.0), F.JUMP),
    (good_index(px=3000.0), F.JUMP),
]
BAD = BAD_NUMBERS + BAD_SIDES + BAD_TIMES + BAD_NAMES + BAD_JUMPS


def make_market() -> MarketState:
    """Return a market that has seen one good quote of everything at `T0_NS` and 2000."""
    market = MarketState(UNIVERSE, AGES)
    for one in (CALL, PUT):
        market.hold(one.instrument_id)
    apply_market(market, Feed().sweep(UNIVERSE, 2000.0, 0.5))
    assert market.faults == {}
    return market


def snapshot(market: MarketState) -> tuple[object, ...]:
    marks = market.underlyings["ETH"]
    return (
        dict(market.quotes),
        market.vol.tolist(),
        market.vol_ns.tolist(),
        market.forward_px.tolist(),
        [expiry.forward_ns for expiry in market.expiries],
        (marks.index_px, marks.index_ns, marks.index_seq, marks.version),
    )


class TestRefusals:
    @pytest.mark.parametrize(("event", "fault"), BAD, ids=lambda one: str(one) if isinstance(one, F) else None)
    def test_a_bad_event_is_counted_by_reason_and_changes_nothing(self, event: Priced, fault: QuoteFault) -> None:
        market = make_market()
        before = snapshot(market)
        apply_market(market, [event])
        assert market.faults == {fault: 1}
        assert snapshot(market) == before

    @pytest.mark.parametrize("good", GOOD)
    def test_the_good_twin_of_every_bad_event_is_taken(self, good: Callable[..., Priced]) -> None:
        market = make_market()
        before = snapshot(market)
        apply_market(market, [good()])
        assert market.faults == {}
        assert snapshot(market) != before

    @pytest.mark.parametrize("good", GOOD)
    def test_a_duplicate_is_refused(self, good: Callable[..., Priced]) -> None:
        market = make_market()
        apply_market(market, [good(), good()])
        assert market.faults == {F.DUPLICATE: 1}

    @pytest.mark.parametrize("good", GOOD)
    def test_the_sequence_orders_what_happened_at_one_time(self, good: Callable[..., Priced]) -> None:
        market = make_market()
        apply_market(market, [good(), good(seq=99), other(good)])
        assert market.faults == {F.OUT_OF_ORDER: 1}

    @pytest.mark.parametrize("good", GOOD)
    def test_the_same_under_another_number_is_a_duplicate(self, good: Callable[..., Priced]) -> None:
        market = make_market()
        apply_market(market, [good(), good(seq=101)])
        assert market.faults == {F.DUPLICATE: 1}

    @pytest.mark.parametrize("good", GOOD)
    def test_times_at_their_limits_are_taken(self, good: Callable[..., Priced]) -> None:
        for recv_ns in (LATER_NS - CLOCK_TOLERANCE_NS, LATER_NS + AGES.quote_ns):
            market = make_market()
            apply_market(market, [good(ts_recv_ns=recv_ns)])
            assert market.faults == {}

    def test_one_vol_on_both_sides_is_not_crossed(self) -> None:
        market = make_market()
        apply_market(market, [good_vol(bid_vol=0.62), good_vol(mark_vol=0.61, bid_vol=0.62, ask_vol=0.0, seq=101)])
        assert market.faults == {}

    def test_a_percentage_taken_for_a_fraction_is_refused(self) -> None:
        market = make_market()
        apply_market(market, [good_vol(mark_vol=62.0, bid_vol=0.0, ask_vol=0.0)])
        assert market.faults == {F.JUMP: 1}

    def test_a_vol_five_times_the_last_needs_a_second_one(self) -> None:
        market = make_market()
        events = [good_vol(mark_vol=vol, bid_vol=0.0, ask_vol=0.0, seq=seq) for seq, vol in ((100, 0.6), (101, 3.1))]
        apply_market(market, events)
        assert market.faults == {F.JUMP: 1}
        apply_market(market, [good_vol(mark_vol=3.2, bid_vol=0.0, ask_vol=0.0, seq=102)])
        assert market.faults == {F.JUMP: 1}
        assert 3.2 in market.vol

    def test_every_reason_is_shown(self) -> None:
        assert {fault for _, fault in BAD} | {F.DUPLICATE, F.EARLY_SETTLEMENT} == set(QuoteFault)

    @pytest.mark.parametrize("px", [nan, inf, -1.0, 0.0])
    def test_an_impossible_settlement_price_is_counted_and_settles_nothing(self, px: float) -> None:
        driver = Driver()
        driver.tick()
        value_quote = driver.engine.equity_quote()
        driver.apply(driver.settlement(CALL.expiry_ns, px))
        fault = F.NOT_POSITIVE if isfinite(px) else F.NOT_FINITE
        assert driver.engine.market.faults == {fault: 1}
        assert driver.engine.equity_quote() == value_quote

    def test_a_funding_rate_is_only_information(self) -> None:
        driver = Driver()
        driver.tick()
        driver.apply(FundingRate(PERPETUAL.instrument_id, nan, driver.now_ns, driver.now_ns, 1))
        assert driver.engine.pnl_total_quote() == 0.0


class TestNeverTradedOn:
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(GOOD),
                st.sampled_from([nan, inf, -inf, 0.0, -1.0, -2000.0]),
                st.integers(1, 60),
            ),
            max_size=30,
        )
    )
    def test_an_engine_that_only_ever_saw_rubbish_sends_nothing(
        self, rubbish: list[tuple[Callable[..., Priced], float, int]]
    ) -> None:
        driver = Driver()
        for good, value, seconds in rubbish:
            driver.wait(seconds)
            now = {"ts_event_ns": driver.now_ns, "ts_recv_ns": driver.now_ns}
            for field in PRICES[good]:
                driver.apply(good(**now, **{field: value}))
            assert driver.decide() == []
        assert sum(driver.engine.market.faults.values()) == sum(len(PRICES[good]) for good, _, _ in rubbish)

    @pytest.mark.parametrize(("event", "fault"), BAD_NUMBERS + BAD_SIDES + BAD_NAMES + BAD_JUMPS)
    def test_a_bad_event_among_good_ones_changes_no_command(self, event: Priced, fault: QuoteFault) -> None:
        clean, soiled = Driver(), Driver()
        for driver in (clean, soiled):
            driver.tick()
        soiled.apply(event)
        assert soiled.engine.market.faults == {fault: 1}
        for driver in (clean, soiled):
            driver.wait(30.0)
            driver.show(px=2100.0)
        assert clean.decide() == soiled.decide() != []

    def test_old_prices_are_not_traded_on_however_they_came(self) -> None:
        driver = Driver()
        driver.tick(px=2000.0)
        driver.tick(px=2000.0)
        driver.wait(61.0)
        assert driver.decide() == []
        assert driver.engine.refusals["stale_index"] == 1


class TestJumps:
    def test_a_second_price_beside_it_confirms_a_jump(self) -> None:
        market = make_market()
        apply_market(market, [good_index(px=3000.0)])
        assert market.is_jump_suspected("ETH", PERPETUAL.instrument_id)
        apply_market(market, [good_index(px=3010.0, seq=101)])
        assert market.underlyings["ETH"].index_px == 3010.0
        assert not market.is_jump_suspected("ETH", PERPETUAL.instrument_id)
        assert market.faults == {F.JUMP: 1}

    def test_a_return_to_normal_clears_the_suspicion(self) -> None:
        market = make_market()
        apply_market(market, [good_index(px=3000.0), good_index(px=2001.0, seq=101), good_index(px=3000.0, seq=102)])
        assert market.faults == {F.JUMP: 2}
        assert market.underlyings["ETH"].index_px == 2001.0

    def test_another_outlier_somewhere_else_confirms_nothing(self) -> None:
        market = make_market()
        apply_market(market, [good_index(px=3000.0), good_index(px=1000.0, seq=101), good_index(px=4000.0, seq=102)])
        assert market.faults == {F.JUMP: 3}

    @pytest.mark.parametrize(("event", "_fault"), BAD_JUMPS)
    def test_a_jump_sent_twice_does_not_confirm_itself(self, event: Priced, _fault: QuoteFault) -> None:
        market = make_market()
        before = snapshot(market)
        apply_market(market, [event, event])
        assert snapshot(market) == before
        assert sum(market.faults.values()) == 2

    def test_an_old_price_does_not_confirm_a_newer_jump(self) -> None:
        market = make_market()
        apply_market(market, [good_index(px=3000.0), good_index(px=3000.0, ts_event_ns=LATER_NS - 1, seq=99)])
        assert market.underlyings["ETH"].index_px == 2000.0

    def test_the_unchanged_forward_clears_a_suspected_one(self) -> None:
        market = make_market()
        other = good_vol(instrument_id=PUT.instrument_id, seq=102, forward_px=3000.0)
        apply_market(market, [good_vol(forward_px=3000.0), good_vol(forward_px=2000.0, seq=101), other])
        assert market.faults == {F.JUMP: 2}
        assert market.forward_px[0] == 2000.0

    def test_a_tenth_is_no_jump(self) -> None:
        market = make_market()
        apply_market(market, [good_index(px=2199.0), good_quote(bid_px=2198.0, ask_px=2200.0)])
        assert market.faults == {}
        apply_market(
            market, [good_index(px=2199.0 * 1.105, seq=101), good_quote(bid_px=2429.0, ask_px=2431.0, seq=101)]
        )
        assert market.faults == {F.JUMP: 2}

    def test_a_suspected_jump_of_the_hedge_counts_for_its_underlying(self) -> None:
        market = make_market()
        apply_market(market, [good_quote(bid_px=2999.0, ask_px=3001.0)])
        assert market.is_jump_suspected("ETH", PERPETUAL.instrument_id)


class TestMarks:
    def test_the_newest_forward_marks_every_leg_and_each_strike_keeps_its_vol(self) -> None:
        market = make_market()
        apply_market(market, [good_vol(mark_vol=0.7, forward_px=2010.0)])
        assert market.forward_px.tolist() == [2010.0, 2000.0], "one forward per expiry"
        assert market.vol.tolist() == [0.7, 0.5, 0.5, 0.5]
        newest, older = LATER_NS + 2 * NS_PER_S, LATER_NS + NS_PER_S
        apply_market(
            market,
            [
                good_vol(instrument_id=PUT.instrument_id, mark_vol=0.8, forward_px=2020.0, ts_event_ns=newest,
                         ts_recv_ns=newest),
                good_vol(mark_vol=0.9, forward_px=1990.0, ts_event_ns=older, ts_recv_ns=newest, seq=99),
            ],
        )  # fmt: skip
        assert market.faults == {}
        assert market.forward_px[0] == 2020.0, "an older forward of another strike does not take over"
        assert market.vol[:2].tolist() == [0.9, 0.8], "but the strike's own vol is its newest"
        assert market.expiries[0].forward_ns == newest

    def test_the_same_forward_again_makes_it_younger(self) -> None:
        market = make_market()
        apply_market(market, [good_vol(forward_px=2000.0)])
        assert market.expiries[0].forward_ns == LATER_NS

    def test_the_version_moves_with_the_marks_of_what_is_held(self) -> None:
        market = make_market()
        marks = market.underlyings["ETH"]
        steps = {
            "an unheld strike's vol": (good_vol(instrument_id=UNIVERSE[2].instrument_id, forward_px=2000.0), 0),
            "an expiry nothing is held of": (good_vol(instrument_id=UNIVERSE[3].instrument_id, forward_px=2100.0), 0),
            "the same vol and forward": (good_vol(mark_vol=0.5, forward_px=2000.0), 0),
            "a held vol": (good_vol(mark_vol=0.55, forward_px=2000.0, seq=101), 1),
            "the forward": (good_vol(mark_vol=0.55, forward_px=2001.0, seq=102), 1),
        }
        for what, (event, moves) in steps.items():
            before = marks.version
            apply_market(market, [event])
            assert marks.version - before == moves, what

    def test_underlyings_keep_apart(self) -> None:
        btc = linear_perpetual("BTC")
        market = MarketState([PERPETUAL, btc], AGES)
        feed = Feed()
        apply_market(market, [feed.index(2000.0), feed.index(30_000.0, "BTC"), feed.quote(btc, 30_000.0)])
        assert market.faults == {}
        assert (market.underlyings["ETH"].index_px, market.underlyings["BTC"].index_px) == (2000.0, 30_000.0)
        assert list(market.quotes) == ["BTC-PERPETUAL"]

    def test_futures_and_perpetuals_are_quoted_not_marked_by_vol(self) -> None:
        dated = Future(**(msgspec.structs.asdict(PERPETUAL) | {"instrument_id": "F"}), expiry_ns=T0_NS + NS_PER_DAY)
        assert isinstance(PERPETUAL, Perpetual)
        market = MarketState([dated], AGES)
        apply_market(market, [Feed().quote(dated, 2000.0)])
        assert market.faults == {}


class TestFreshSmiles:
    def test_one_vol_per_strike_of_what_is_fresh(self) -> None:
        market = MarketState(UNIVERSE, AGES)
        feed = Feed()
        apply_market(market, [feed.vol(CALL, 0.6, 2000.0), feed.vol(UNIVERSE[3], 0.4, 2000.0)])
        feed.wait(500.0)
        apply_market(market, [feed.vol(PUT, 0.5, 2000.0), feed.vol(UNIVERSE[2], 0.8, 2000.0)])
        (near, smile), (_far, far_smile) = market.fresh_smiles("ETH", feed.now_ns)
        assert near.expiry_ns == CALL.expiry_ns
        assert smile.log_moneyness == pytest.approx(np.log([1.0, 1.1]))
        assert smile.vol == pytest.approx([0.55, 0.8]), "call and put of one strike count half each"
        assert smile.tau_years == pytest.approx((CALL.expiry_ns - feed.now_ns) / (365 * NS_PER_DAY))
        assert far_smile.vol == pytest.approx([0.4])
        feed.wait(100.0)
        assert len(market.fresh_smiles("ETH", feed.now_ns)) == 2, "at its limit a quote still counts"
        feed.wait(1.0)
        ((_, smile),) = market.fresh_smiles("ETH", feed.now_ns)
        assert smile.vol == pytest.approx([0.5, 0.8]), "the call's quote and the far expiry have grown old"

    def test_expired_and_other_underlyings_are_left_out(self) -> None:
        market = make_market()
        assert market.fresh_smiles("BTC", T0_NS) == []
        assert market.fresh_smiles("ETH", CALL.expiry_ns + 100 * NS_PER_DAY) == []


class TestListing:
    """Instruments may be listed while the market runs; what was known stays where it was."""

    def test_a_new_option_gets_a_slot_and_prices_of_its_own(self) -> None:
        feed, market = Feed(), MarketState(UNIVERSE, AGES)
        apply_market(market, feed.sweep(UNIVERSE, 2000.0, 0.6))
        before = market.vol.copy()
        news = (option(2600.0), option(2000.0, days=90.0), linear_perpetual("BTC"))
        market.list_instruments(news)
        market.list_instruments((*news, CALL))
        assert len(market.slot_of) == len(market.vol) == len(market.vol_ns) == len(market.strike_px) == 6
        assert market.vol[:4].tolist() == before.tolist()
        feed.wait(1.0)
        apply_market(market, feed.sweep((*UNIVERSE, *news), 2010.0, 0.7))
        assert market.faults == {}
        assert market.vol.tolist() == [0.7] * 6
        assert market.forward_of(market.slot_of[news[1].instrument_id]) == 2010.0
        assert {"ETH", "BTC"} <= market.underlyings.keys()
        assert news[2].instrument_id in market.quotes

    def test_before_it_nothing_of_it_is_believed(self) -> None:
        feed, market = Feed(), MarketState(UNIVERSE, AGES)
        new = option(2600.0)
        apply_market(market, [feed.vol(new, 0.6, 2000.0)])
        assert market.faults == {F.UNKNOWN_INSTRUMENT: 1}
        market.list_instruments([new])
        assert not isfinite(market.forward_of(market.slot_of[new.instrument_id]))
        apply_market(market, [feed.vol(new, 0.6, 2000.0)])
        assert market.faults == {F.UNKNOWN_INSTRUMENT: 1}

    def test_listed_later_or_from_the_start_it_is_the_same(self) -> None:
        whole = MarketState(UNIVERSE, AGES)
        grown = MarketState(UNIVERSE[:1], AGES)
        for instrument in UNIVERSE[1:]:
            grown.list_instruments([instrument])
        for market in (whole, grown):
            apply_market(market, Feed().sweep(UNIVERSE, 2000.0, 0.6))
        assert whole.slot_of == grown.slot_of
        assert whole.vol.tolist() == grown.vol.tolist()
        assert whole.forward_px.tolist() == grown.forward_px.tolist()
        assert [one.slots for one in whole.expiries] == [one.slots for one in grown.expiries]


TIER = GasTier(10**10, 10**8, 4.0, 9.0, 20.0)


def good_terms(**changes: Any) -> ExecutionTerms:
    terms = ExecutionTerms("ETH-PERPETUAL", (TIER,), 0.02, 1e4, 12 * NS_PER_S, LATER_NS, LATER_NS, 100)
    return msgspec.structs.replace(terms, **changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"tiers": ()}, F.NOT_POSITIVE),
        ({"block_ns": 0}, F.NOT_POSITIVE),
        ({"depth_base": 0.0}, F.NOT_POSITIVE),
        ({"depth_base": nan}, F.NOT_FINITE),
        ({"revert_fraction": -0.1}, F.NOT_POSITIVE),
        ({"revert_fraction": nan}, F.NOT_FINITE),
        ({"tiers": (msgspec.structs.replace(TIER, gas_quote=inf),)}, F.NOT_FINITE),
        ({"tiers": (TIER, msgspec.structs.replace(TIER, delay_mean_s=nan))}, F.NOT_FINITE),
        ({"tiers": (msgspec.structs.replace(TIER, delay_p95_s=-1.0),)}, F.NOT_POSITIVE),
        ({"ts_recv_ns": LATER_NS - CLOCK_TOLERANCE_NS - 1}, F.FROM_THE_FUTURE),
    ],
)
def test_unbelievable_terms_change_nothing(changes: dict[str, Any], fault: QuoteFault) -> None:
    market = MarketState(UNIVERSE, AGES)
    market.apply_terms(good_terms(**changes), "ETH")
    assert market.faults == {fault: 1}
    assert market.terms == {}


def test_the_newest_terms_count_and_the_index_of_that_moment() -> None:
    market = MarketState(UNIVERSE, AGES)
    assert market.moved_since_terms_fraction("ETH-PERPETUAL", "ETH") == 0.0
    market.apply_terms(good_terms(depth_base=inf), "ETH")
    assert market.moved_since_terms_fraction("ETH-PERPETUAL", "ETH") == 0.0  # no index yet
    market.apply_index(good_index(px=2_000.0))
    newest = good_terms(seq=101)
    market.apply_terms(newest, "ETH")
    for late in (good_terms(), good_terms(ts_event_ns=LATER_NS - 1, seq=102)):
        market.apply_terms(late, "ETH")
    market.apply_terms(newest, "ETH")
    assert market.faults == {F.OUT_OF_ORDER: 2, F.DUPLICATE: 1}
    assert market.terms == {"ETH-PERPETUAL": newest}
    market.apply_index(good_index(px=2_020.0, ts_event_ns=LATER_NS + 1, ts_recv_ns=LATER_NS + 1, seq=101))
    assert market.moved_since_terms_fraction("ETH-PERPETUAL", "ETH") == pytest.approx(0.01)
