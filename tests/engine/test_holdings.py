"""The book by source: legs and cash come and go while the engine runs, and nothing of that is won or lost."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.decisions import BotState, Refusal
from bot.domain.events import Command, QueryAccount, SubmitOrder
from bot.domain.instruments import Option
from bot.domain.orders import Fill, Liquidity
from bot.domain.results import pnl_parts
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR
from bot.domain.venues import (
    AccountReport,
    BookHolding,
    BookReport,
    InstrumentDelisted,
    InstrumentListed,
    VenuePosition,
)
from bot.engine.holdings import VAULT_SOURCE
from bot.engine.settings import BookLeg
from strategies import DeltaBand, Unhedged
from tests.engine.builders import (
    CALL,
    INVERSE,
    LIMITS,
    PERPETUAL,
    PUT,
    T0_NS,
    Driver,
    future,
    linear_perpetual,
    make_settings,
    only_intent,
    option,
)
from tests.engine.test_engine import two_underlyings

R = Refusal
OTHER = option(2200.0)
NEW = option(1800.0, days=60.0, is_call=False)
DATED = future(T0_NS + 9 * NS_PER_DAY)
CENTRE = DeltaBand(half_width_base=0.1, trade_to="centre")
BOOK = (BookLeg(CALL, -10.0), BookLeg(PUT, -10.0))
SIM = frozenset({"sim"})


class BookDriver(Driver):
    """A driver whose book changes."""

    def say(self, source: str, *holdings: tuple[Any, float]) -> None:
        said = tuple(BookHolding(instrument.instrument_id, qty) for instrument, qty in holdings)
        self.apply(BookReport(source, said, self.now_ns))

    def account(self, *positions: tuple[Any, int], asked_ns: int = 0, **balances: float) -> None:
        found = tuple(VenuePosition(getattr(one, "instrument_id", one), lots, 0.0) for one, lots in positions)
        self.apply(AccountReport("sim", found, (), balances, asked_ns or self.now_ns, self.now_ns))

    @property
    def book(self) -> Any:
        return self.engine.desks["ETH"].book

    @property
    def held(self) -> dict[str, float]:
        """What is held by instrument id, in its own unit."""
        held = {name: qty for name, (_, qty) in self.book.options.items()}
        return held | {leg.holding.instrument.instrument_id: leg.holding.qty for leg in self.book.static}

    @property
    def refusal(self) -> tuple[Refusal | None, str]:
        decision = self.engine.desks["ETH"].decision
        assert decision is not None
        return decision.refusal, decision.refusal_detail


def driver_of(*legs: BookLeg, others: tuple[Any, ...] = (OTHER, NEW, INVERSE, DATED), **changes: Any) -> BookDriver:
    changes = {"policy": Unhedged()} | changes
    return BookDriver(make_settings(legs or BOOK, others=others, **changes))


def started(*legs: BookLeg, **changes: Any) -> BookDriver:
    driver = driver_of(*legs, **changes)
    driver.tick()
    return driver


def totals(driver: Driver) -> tuple[float, float]:
    """Return the profit at the marks and the sum of its parts, every step closed."""
    driver.engine.close_steps(driver.now_ns)
    return driver.engine.pnl_total_quote(), pnl_parts(driver.engine.pnl())["total"]


def assert_nothing_won(driver: Driver, before_quote: float) -> None:
    total, parts = totals(driver)
    assert total == pytest.approx(before_quote, abs=1e-8)
    assert parts == pytest.approx(total, abs=1e-8)


class TestSources:
    def test_a_report_adds_to_the_book_and_the_hedge_follows(self) -> None:
        driver = driver_of(BookLeg(CALL, -1e-12), policy=CENTRE)
        assert driver.tick() == []
        driver.say("otc", (DATED, 5.0))
        assert only_intent(driver.tick()).qty_lots == -50

    def test_it_replaces_what_its_source_said_before(self) -> None:
        driver = started()
        driver.say("otc", (OTHER, 3.0), (NEW, 1.0))
        driver.tick()
        assert driver.held == {CALL.instrument_id: -10.0, PUT.instrument_id: -10.0, OTHER.instrument_id: 3.0} | {
            NEW.instrument_id: 1.0
        }
        driver.say("otc", (OTHER, 2.0))
        driver.tick()
        assert driver.held == {CALL.instrument_id: -10.0, PUT.instrument_id: -10.0, OTHER.instrument_id: 2.0}
        driver.say("otc")
        driver.tick()
        assert driver.held == {CALL.instrument_id: -10.0, PUT.instrument_id: -10.0}

    def test_several_sources_of_one_instrument_add_up(self) -> None:
        driver = started()
        driver.say("a", (CALL, 4.0), (DATED, 1.0))
        driver.say("b", (CALL, 3.0), (DATED, 2.0), (CALL, 1.0))
        driver.tick()
        assert driver.held == {CALL.instrument_id: -2.0, PUT.instrument_id: -10.0, DATED.instrument_id: 3.0}

    def test_the_vault_files_own_book_can_be_replaced(self) -> None:
        driver = started()
        driver.say(VAULT_SOURCE, (PUT, -1.0))
        driver.tick()
        assert driver.held == {PUT.instrument_id: -1.0}

    def test_before_anything_was_marked_too(self) -> None:
        driver = driver_of()
        driver.say("otc", (OTHER, 3.0), (INVERSE, 2.0))
        driver.tick()
        assert driver.held[OTHER.instrument_id] == 3.0
        assert driver.held[INVERSE.instrument_id] == pytest.approx(2.0 * 2000.0)
        assert_nothing_won(driver, 0.0)

    def test_an_unknown_instrument_stops_all_decisions_until_it_is_known(self) -> None:
        driver = started(policy=CENTRE)
        late = option(2500.0)
        driver.say("otc", (late, 1.0))
        assert driver.tick() == []
        assert driver.refusal == (R.UNKNOWN_HOLDING, f"held, but no venue lists it: {late.instrument_id} (otc)")
        driver.apply(InstrumentListed(late, driver.now_ns))
        driver.decide()
        assert driver.refusal[0] is R.NO_VOL
        driver.apply(driver.vol(late, 0.6, 2000.0))
        driver.decide()
        assert driver.held[late.instrument_id] == 1.0
        assert driver.engine.holdings.unknown == ()

    def test_not_a_number_is_no_holding(self) -> None:
        driver = started()
        driver.say("otc", (OTHER, float("nan")))
        driver.tick()
        assert driver.refusal[0] is R.UNKNOWN_HOLDING

    def test_other_underlyings_are_shown_as_strays(self) -> None:
        btc = linear_perpetual("BTC")
        driver = driver_of(others=(btc,))
        driver.say("otc", (btc, 1.0))
        driver.tick()
        assert driver.engine.holdings.strays == (btc.instrument_id,)
        assert driver.refusal[0] is None


class TestProfit:
    """A change of holdings is neither won nor lost, whenever it comes."""

    @pytest.mark.parametrize("instrument", [OTHER, NEW, DATED, INVERSE, CALL, PERPETUAL])
    def test_what_joins_changes_and_leaves_earns_nothing_by_that(self, instrument: Any) -> None:
        driver = started()
        driver.tick(2010.0, 0.61)
        before = totals(driver)[0]
        for qty_base in (5.0, -3.0, 0.0):
            driver.say("otc", (instrument, qty_base))
            driver.decide()
            assert_nothing_won(driver, before)

    def test_what_it_earns_in_between_counts(self) -> None:
        driver = started(BookLeg(CALL, -1e-12))
        driver.say("otc", (DATED, 5.0))
        driver.tick()
        driver.tick(2010.0)
        driver.say("otc")
        driver.tick(2010.0)
        driver.tick(2050.0)
        assert totals(driver)[0] == pytest.approx(50.0)
        assert driver.engine.pnl().delta == pytest.approx(50.0)

    def test_an_options_gain_is_kept_when_it_leaves(self) -> None:
        driver = started(BookLeg(CALL, -1e-12))
        driver.say("otc", (OTHER, 5.0))
        driver.tick()
        driver.tick(2050.0)
        before = totals(driver)[0]
        assert before > 50.0
        driver.say("otc")
        driver.decide()
        assert_nothing_won(driver, before)

    def test_the_unhedged_comparison_follows(self) -> None:
        driver = started()
        driver.tick(2010.0)
        before = driver.engine.unhedged_pnl_quote()
        driver.say("otc", (OTHER, 5.0))
        driver.decide()
        assert driver.engine.unhedged_pnl_quote() == pytest.approx(before)

    def test_in_a_coin_vault_it_is_no_profit_in_coins(self) -> None:
        driver = started(numeraire="ETH")
        driver.tick(2100.0)
        before = driver.engine.pnl_total_numeraire()
        driver.say("otc", (OTHER, 50.0))
        driver.decide()
        assert driver.engine.pnl_total_numeraire() == pytest.approx(before)

    def test_no_daily_loss_comes_of_it(self) -> None:
        driver = started(limits=msgspec.structs.replace(LIMITS, daily_loss_quote=100.0))
        driver.say("otc", (OTHER, -500.0))
        driver.tick()
        driver.say("otc")
        driver.tick()
        assert driver.engine.state is BotState.RUNNING

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_the_parts_add_up_whatever_comes_and_goes(self, seed: int) -> None:
        rng = random.Random(seed)
        driver = started(numeraire=rng.choice(("USD", "ETH")))
        px, vol = 2000.0, 0.6
        for _ in range(25):
            px *= 1.0 + rng.uniform(-0.01, 0.01)
            vol *= 1.0 + rng.uniform(-0.02, 0.02)
            if rng.random() < 0.4:
                names = rng.sample((CALL, PUT, OTHER, NEW, DATED, INVERSE), rng.randint(0, 4))
                driver.say(rng.choice("ab"), *((name, rng.choice((-5.0, 1.0, 2.5))) for name in names))
            driver.tick(px, vol, after_s=rng.choice((1.0, 30.0)))
        total, parts = totals(driver)
        assert parts == pytest.approx(total, abs=1e-7)
        assert driver.refusal[0] is None


class TestPrices:
    def test_what_joins_without_a_price_waits_and_nothing_is_decided(self) -> None:
        driver = started(policy=CENTRE)
        late = option(2600.0)
        driver.apply(InstrumentListed(late, driver.now_ns))
        driver.say("otc", (late, 1.0))
        driver.decide()
        assert driver.refusal == (
            R.NO_VOL,
            f"vol quote of {late.instrument_id} is missing and no fresh quotes surround it closely enough",
        )
        driver.tick(2010.0)
        assert late.instrument_id not in driver.held
        driver.apply(driver.vol(late, 0.6, 2010.0))
        driver.decide()
        assert driver.held[late.instrument_id] == 1.0
        assert driver.refusal[0] is None

    def test_so_does_a_future_without_a_quote(self) -> None:
        driver = started()
        late = future(T0_NS + 20 * NS_PER_DAY)
        driver.apply(InstrumentListed(late, driver.now_ns))
        driver.say("otc", (late, 1.0))
        driver.decide()
        assert driver.refusal == (R.NO_MARKET, f"no quote yet for {late.instrument_id}")
        driver.apply(driver.quote(late, 2000.0))
        driver.decide()
        assert driver.held[late.instrument_id] == 1.0

    def test_what_leaves_needs_no_price(self) -> None:
        """A leg nobody quotes any more must be able to go, or the book could never be marked again."""
        driver = started(*BOOK, BookLeg(NEW, 2.0))
        driver.wait(700.0)
        driver.apply(driver.index(2000.0), driver.quote(PERPETUAL, 2000.0))
        driver.apply(driver.vol(CALL, 0.6, 2000.0), driver.vol(PUT, 0.6, 2000.0))
        driver.decide()
        assert driver.refusal[0] is R.STALE_FORWARD
        driver.say(VAULT_SOURCE, (CALL, -10.0), (PUT, -10.0))
        driver.decide()
        assert driver.refusal[0] is None
        total, parts = totals(driver)
        assert parts == pytest.approx(total, abs=1e-8)

    def test_legs_that_wait_do_not_hold_up_those_that_leave(self) -> None:
        driver = started()
        late = option(2600.0)
        driver.apply(InstrumentListed(late, driver.now_ns))
        driver.say(VAULT_SOURCE, (PUT, -10.0), (late, 1.0))
        driver.decide()
        assert driver.held == {PUT.instrument_id: -10.0}


class TestExpiry:
    SHORT = option(1900.0, days=1.0, settle="USD")

    def expired(self) -> BookDriver:
        driver = started(others=(self.SHORT, DATED))
        driver.say("otc", (self.SHORT, -2.0))
        driver.tick()
        driver.now_ns = self.SHORT.expiry_ns + 1
        driver.show()
        driver.decide()
        return driver

    def test_it_leaves_by_its_settlement_only(self) -> None:
        driver = self.expired()
        driver.say("otc")
        driver.decide()
        assert driver.held[self.SHORT.instrument_id] == -2.0, "its payoff is still to come"
        driver.apply(driver.settlement(self.SHORT.expiry_ns, 2000.0))
        assert self.SHORT.instrument_id not in driver.held
        assert driver.book.quote_cash == pytest.approx(-200.0)

    def test_it_does_not_come_back(self) -> None:
        driver = self.expired()
        driver.apply(driver.settlement(self.SHORT.expiry_ns, 2000.0))
        before = totals(driver)[0]
        driver.say("otc", (self.SHORT, -2.0))
        driver.decide()
        assert self.SHORT.instrument_id not in driver.held
        assert_nothing_won(driver, before)

    def test_a_settled_future_does_not_either(self) -> None:
        driver = started()
        driver.say("otc", (DATED, 5.0))
        driver.tick()
        driver.now_ns = DATED.expiry_ns
        driver.apply(driver.settlement(DATED.expiry_ns, 2100.0))
        driver.say("otc", (DATED, 5.0), (NEW, 1.0))
        driver.tick()
        assert driver.held[DATED.instrument_id] == 0.0
        assert driver.refusal[0] is None


class TestAccount:
    def account(self, **changes: Any) -> BookDriver:
        changes = {"account_book": SIM, "others": (OTHER, NEW, INVERSE, DATED, CALL, PUT)} | changes
        return driver_of(BookLeg(CALL, -1e-12), **changes)

    def started(self, **changes: Any) -> BookDriver:
        driver = self.account(**changes)
        driver.tick()
        driver.account()
        driver.tick()
        return driver

    def test_its_positions_are_the_book(self) -> None:
        driver = self.account(policy=CENTRE)
        assert driver.tick() == [QueryAccount("sim", "not known yet")]
        driver.account((DATED, 50), (INVERSE, -400), (PERPETUAL, 7))
        intent = only_intent(driver.tick())
        assert intent.qty_lots == -30, "5 coins of the future less 4,000 USD of the inverse; the hedge is no book"
        assert driver.held[INVERSE.instrument_id] == -4000.0

    def test_a_report_without_a_position_removes_it(self) -> None:
        driver = self.started()
        driver.account((PUT, -5), (OTHER, 2))
        driver.tick()
        driver.account((PUT, -4))
        driver.tick()
        assert driver.held == {CALL.instrument_id: -1e-12, PUT.instrument_id: -4.0}

    def test_an_inverse_position_keeps_its_contracts_as_the_price_moves(self) -> None:
        driver = self.started()
        for px in (2000.0, 2100.0, 1990.0):
            driver.account((INVERSE, 100))
            driver.tick(px)
            assert driver.held[INVERSE.instrument_id] == 1000.0

    def test_a_fill_changes_it_at_once(self) -> None:
        driver = self.started()
        driver.account((PUT, -5))
        driver.tick()
        asked_ns = driver.now_ns
        driver.wait(0.5)
        self.fill(driver, PUT, -3)
        driver.decide()
        assert driver.held[PUT.instrument_id] == -8.0
        driver.account((PUT, -5), asked_ns=asked_ns)
        commands = driver.tick(after_s=2.0)
        assert driver.held[PUT.instrument_id] == -8.0, "the report was asked for before the fill"
        assert commands == [QueryAccount("sim", "a fill came while it was asked")]
        driver.account((PUT, -8))
        driver.tick()
        assert driver.engine.accounts.questions == {}
        assert driver.engine.foreign.fill_count == 1

    def fill(self, driver: BookDriver, instrument: Option, lots: int) -> None:
        name = instrument.instrument_id
        driver.apply(Fill("b1", "", name, lots, 0.05, 0.0, Liquidity.TAKER, driver.now_ns, driver.now_ns))

    def test_a_position_nobody_knows_stops_all_decisions(self) -> None:
        driver = self.started(policy=CENTRE)
        driver.account(("SOL-PERPETUAL", 5))
        assert driver.tick() == []
        assert driver.refusal[0] is R.UNKNOWN_HOLDING
        assert driver.engine.holdings.unknown == ("SOL-PERPETUAL (account:sim)",)
        driver.account()
        driver.tick()
        assert driver.refusal[0] is None

    def test_its_equity_beyond_its_positions_is_cash(self) -> None:
        driver = self.account(account_cash=SIM, cash={"ETH": 1.0, "USD": 10.0}, others=(OTHER, INVERSE, PUT))
        driver.tick()
        driver.account((PUT, -5), (INVERSE, 100), ETH=20.0, USD=500.0, DOGE=7.0)
        driver.tick()
        value = driver.book.option_value_of(PUT.instrument_id)
        assert driver.book.coin_cash == pytest.approx(1.0 + 20.0 + 5.0 * value / 2000.0)
        assert driver.book.quote_cash == 510.0
        assert driver.book.equity_quote() == pytest.approx(21.0 * 2000.0 + 510.0)
        assert_nothing_won(driver, 0.0)

    def test_what_its_positions_earn_is_profit_and_no_cash(self) -> None:
        driver = self.account(account_cash=SIM, account_venues=SIM, others=(INVERSE, DATED))
        driver.account((DATED, 50), USD=1000.0)
        driver.tick()
        driver.account((DATED, 50), USD=1000.0)
        driver.tick(2010.0)
        driver.account((DATED, 50), USD=1050.0)
        driver.tick(2010.0)
        assert driver.book.quote_cash == pytest.approx(1000.0)
        assert totals(driver)[0] == pytest.approx(50.0)
        driver.account(USD=1050.0)
        driver.tick(2010.0)
        assert driver.book.equity_quote() == pytest.approx(1050.0), "closed, its profit is still counted once"
        assert driver.book.quote_cash == pytest.approx(1000.0)
        assert totals(driver)[0] == pytest.approx(50.0)

    @pytest.mark.parametrize("settle", ["USD", "ETH"])
    def test_what_its_options_pay_at_expiry_is_counted_once(self, settle: str) -> None:
        ours, otc = option(1900.0, days=1.0, settle=settle), option(1800.0, days=1.0, settle=settle)
        driver = self.account(account_cash=SIM, others=(ours, otc))
        driver.say("otc", (otc, 1.0))
        driver.account((ours, 2), **{settle: 500.0})
        driver.tick()
        driver.now_ns = ours.expiry_ns + 1
        driver.show()
        driver.apply(driver.settlement(ours.expiry_ns, 2000.0))
        unit_px = 1.0 if settle == "USD" else 2000.0
        before = driver.book.quote_cash + driver.book.coin_cash * 2000.0
        driver.account(**{settle: 500.0})  # the equity held the option's value before and holds its payoff now
        driver.tick()
        cash = driver.book.quote_cash + driver.book.coin_cash * 2000.0
        assert cash == pytest.approx(500.0 * unit_px + 200.0)
        assert cash == pytest.approx(before, rel=0.01)

    def test_a_withdrawal_is_no_loss(self) -> None:
        driver = self.account(account_cash=SIM, limits=msgspec.structs.replace(LIMITS, daily_loss_quote=100.0))
        driver.account(ETH=20.0)
        driver.tick()
        driver.account(ETH=5.0)
        driver.wait(1.0)
        driver.tick(2000.0)
        assert driver.book.coin_cash == pytest.approx(5.0)
        assert_nothing_won(driver, 0.0)
        assert driver.engine.desks["ETH"].pnl.entered_quote == pytest.approx(-30_000.0)
        assert driver.engine.state is BotState.RUNNING

    def test_each_coin_goes_to_its_desk(self) -> None:
        driver = two_underlyings(account_cash=SIM, cash={}, policy=Unhedged())
        driver.apply(AccountReport("sim", (), (), {"ETH": 3.0, "BTC": 2.0, "USD": 9.0}, T0_NS, driver.now_ns))
        driver.tick_both()
        desks = driver.engine.desks
        assert [desks[name].book.coin_cash for name in ("ETH", "BTC")] == [3.0, 2.0]
        assert [desks[name].book.quote_cash for name in ("ETH", "BTC")] == [9.0, 0.0]


class TestInstruments:
    def test_one_already_known_stays_as_it_is(self) -> None:
        driver = started()
        driver.apply(InstrumentListed(msgspec.structs.replace(PERPETUAL, contract_size=10.0), driver.now_ns))
        assert driver.engine.holdings.instruments[PERPETUAL.instrument_id] is PERPETUAL

    def test_a_delisted_hedge_is_never_traded_again_and_its_position_stays(self) -> None:
        driver = started(BookLeg(DATED, 5.0), policy=CENTRE)
        driver.fill(next(iter(driver.engine.orders.live.values())).intent)
        driver.apply(InstrumentDelisted(PERPETUAL.instrument_id, "contract size is 10 now", driver.now_ns))
        driver.say("otc", (DATED, 5.0))
        for _ in range(3):
            assert driver.tick() == []
            assert driver.refusal == (R.DELISTED, "ETH-PERPETUAL: contract size is 10 now")
            driver.wait(NS_PER_HOUR / 1e9)
        assert driver.engine.desks["ETH"].hedge.lots == -50
        driver.apply(InstrumentListed(PERPETUAL, driver.now_ns))
        assert driver.tick() == []


def test_the_same_events_give_the_same_commands() -> None:
    def run() -> bytes:
        driver = driver_of(BookLeg(CALL, -1e-12), policy=CENTRE, account_book=SIM, account_cash=SIM)
        commands: list[Command] = []
        rng = random.Random(5)
        for n in range(60):
            if n % 7 == 3:
                driver.account((OTHER, rng.randint(-9, 9)), (DATED, rng.randint(-9, 9)), ETH=rng.uniform(0, 9))
            if n % 11 == 5:
                driver.say("otc", (NEW, rng.uniform(-5, 5)))
            found = driver.tick(2000.0 + rng.uniform(-20, 20))
            commands += found
            for command in found:
                if isinstance(command, SubmitOrder):
                    driver.fill(command.intent)
        assert len(commands) > 10
        return msgspec.json.encode(commands)

    assert run() == run()
