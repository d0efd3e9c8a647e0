"""Margin by account while the engine trades: what a hedge may add, what is released, and how an account stands."""

from __future__ import annotations

from datetime import date
from math import inf
from typing import Any

import msgspec
import pytest

from bot.domain.decisions import BotState, Refusal
from bot.domain.events import OperatorAction, SubmitOrder
from bot.domain.orders import OutcomeLost
from bot.domain.risk import CollateralPrice, MarginState, MarginTerms, ReportedMargin
from bot.domain.units import NS_PER_S
from bot.engine.gates import list_gates
from bot.risk.asset_classes import Overrides
from bot.risk.margin_states import StateRule
from tests.engine.builders import CALL, Driver
from tests.engine.margin_vault import (
    CLASSES,
    INITIAL_SHARE,
    LONG_SHARE,
    PARAMETERS,
    A,
    B,
    MarginVault,
    account,
)

PX = 2000.0
RULE = StateRule()
PER_BASE = INITIAL_SHARE * 1.25 * PX  # what a coin sold asks for, as only the model tells


def usd_for(base: float) -> float:
    """Return collateral under which so much may be sold and not a lot more."""
    return (base + 0.05) * PER_BASE / 0.9


class TestRooms:
    def test_without_a_limit_in_sight_the_cheapest_takes_it_all(self) -> None:
        assert MarginVault({"a": 1e6, "b": 1e6}).orders() == {"A": -90}

    def test_what_margin_does_not_allow_goes_elsewhere_and_it_is_said_why(self) -> None:
        vault = MarginVault({"a": usd_for(2.0), "b": 0.0})
        intents = vault.intents()
        assert {one.instrument_id[4:]: one.qty_lots for one in intents} == {"A": -20, "C": -70}
        assert all("margin_limit of a: initial margin 0 of" in one.reason for one in intents)
        assert vault.margin.cuts == {"a": 1, "b": 1}

    def test_one_that_is_alone_is_cut_and_then_refused_with_figures(self) -> None:
        vault = MarginVault({"a": usd_for(2.0)}, instruments=(A,))
        assert vault.hedge_all(rounds=1) == {"A": -20}
        assert vault.orders() == {}
        assert vault.decision.refusal is Refusal.MARGIN_LIMIT
        assert "equity, limit 90%" in vault.decision.refusal_detail
        assert vault.engine.refusals[Refusal.MARGIN_LIMIT] == 1

    def test_a_size_cut_says_by_what(self) -> None:
        (intent,) = MarginVault({"a": usd_for(2.0)}, instruments=(A,)).intents()
        assert "cut from -90 lots by margin (a: initial margin" in intent.reason

    def test_preference_passes_on_what_margin_refuses(self) -> None:
        vault = MarginVault({"a": 0.0}, routing="preference")
        (intent,) = vault.intents()
        assert intent.instrument_id == "ETH-B"
        assert "margin_limit" in intent.reason

    @pytest.mark.parametrize("held", [5.0, 9.0])
    def test_what_releases_margin_is_always_allowed(self, held: float) -> None:
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=held + 1.0)
        vault.hedge_all()
        vault.margin.accounts["a"].balances = {"USD": 1.0}  # far beyond every limit from now on
        vault.margin.note_change()
        vault.engine.desks["ETH"].book.coin_cash = 0.0
        (intent,) = vault.intents()
        assert intent.qty_lots > 0
        assert abs(intent.qty_lots) * 0.1 <= held + 1e-9

    def test_it_may_turn_over_as_far_as_margin_is_no_more_than_before(self) -> None:
        """A long asks for less than a short: so much more of it fits under the same margin."""
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=3.0)
        vault.hedge_all()
        vault.margin.accounts["a"].balances = {"USD": 1.0}
        vault.margin.note_change()
        vault.tick()
        room = vault.margin.room(A, 1, 100.0)
        by_margin = 2.0 + 2.0 * INITIAL_SHARE / LONG_SHARE
        assert by_margin - 0.5 < room.base < by_margin - 0.1  # … nor nearer to liquidation by a move until a top-up
        assert vault.margin.room(A, -1, 100.0).base == 0.0

    def test_two_orders_of_a_plan_share_the_margin_of_their_account(self) -> None:
        other = msgspec.structs.replace(B, venue="a")
        vault = MarginVault({"a": usd_for(4.0)}, instruments=(A, other))
        held = vault.hedge_all(rounds=4)
        assert sum(held.values()) == pytest.approx(-40, abs=1)
        figures = vault.margin.accounts["a"]
        assert figures.initial_ratio <= 0.9 + 1e-9

    @pytest.mark.parametrize("routing", ["preference", "cheapest"])
    def test_what_an_exposure_limit_cuts_has_to_fit_margin_as_well(self, routing: str) -> None:
        vault = MarginVault({"a": usd_for(2.0)}, instruments=(A,), venue_limits={"a": 5.0 * PX}, routing=routing)
        (intent,) = vault.intents()
        assert intent.qty_lots == -20
        assert "by margin (a: initial margin" in intent.reason

    def test_the_first_order_of_an_account_has_to_live_through_a_move_as_any_other(self) -> None:
        thin = {"price_range": 0.002, "min_vol_up": 0.0, "roll_min": 0.0005, "extended": (0.004,)}
        vault = MarginVault({"a": 400.0}, instruments=(A,), risk={"local_margin_share": 0.0})
        vault.terms("a", **thin, extended_factor=1.0)
        vault.tick()
        found = vault.margin.accounts["a"]
        held_base = -sum(vault.hedge_all().values()) * 0.1
        assert found.safe_move > 0.01
        assert held_base * PX * found.safe_move < 400.0
        assert found.touch_probability <= RULE.critical_probability

    @pytest.mark.parametrize(
        ("accounts", "values"), [({"liquidation_ratio": 0.6}, {}), ({"liquidation_ratio": 0.9}, {"mm_factor": 1.0})]
    )
    def test_no_hedge_brings_an_account_into_the_states_that_have_it_closed_again(
        self, accounts: dict[str, Any], values: dict[str, Any]
    ) -> None:
        vault = MarginVault({"a": usd_for(4.0)}, instruments=(A,), accounts=accounts)
        vault.terms("a", **values)
        assert vault.hedge_all(rounds=6)["A"] < -20
        vault.tick()
        standing = vault.margin.accounts["a"].standing
        assert standing is not None
        assert standing.asked in (MarginState.WATCH, MarginState.ACT), standing.reason
        assert vault.margin.accounts["a"].utilisation_ratio <= 0.85

    def test_orders_on_their_way_count_at_their_worse_end(self) -> None:
        vault = MarginVault({"a": usd_for(4.0)}, instruments=(A,), coins=3.0)
        (intent,) = vault.intents()
        vault.send(intent)
        vault.apply(OutcomeLost(intent.order_id, "timeout", vault.now_ns))
        vault.tick()
        assert vault.margin.room(A, -1, 50.0).base == pytest.approx(2.0, abs=0.1)

    def test_no_room_is_known_where_a_model_cannot_answer(self) -> None:
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=3.0)
        vault.hedge_all()
        vault.terms("a", buckets=0)
        vault.engine.desks["ETH"].book.coin_cash = 30.0
        assert vault.orders() == {}
        assert vault.decision.refusal is Refusal.MARGIN_LIMIT
        assert "only closing is allowed" in vault.decision.refusal_detail
        assert vault.margin.room(A, 1, 50.0).base == pytest.approx(2.0)

    def test_sizes_are_the_largest_that_fit(self) -> None:
        for base in (0.3, 1.7, 6.4):
            vault = MarginVault({"a": usd_for(base)}, instruments=(A,), coins=0.0)
            vault.tick()
            assert vault.margin.room(A, -1, 50.0).base == pytest.approx(base, abs=0.1)
        assert MarginVault({"a": 1e9}, instruments=(A,)).tick()
        assert vault.margin.keeps("a")
        assert not vault.margin.keeps("b")


class TestFigures:
    def test_equity_is_collateral_after_haircuts_with_what_hedges_earned(self) -> None:
        vault = MarginVault({"a": 0.0}, instruments=(A,), coins=3.0, accounts={
            "collateral": {"USD": 10_000.0, "ETH": 2.0, "XYZ": 5.0}, "haircut_share": {"ETH": 0.1},
        })  # fmt: skip
        vault.hedge_all()
        vault.tick(px=1990.0)
        found = vault.margin.accounts["a"]
        assert found.equity_quote == pytest.approx(10_000.0 + 2.0 * 1990.0 * 0.9 + 2.0 * 10.0)
        assert found.degraded == ("XYZ has no price at a: what is there counts as nothing",)

    def test_the_index_of_the_venue_goes_before_ours(self) -> None:
        vault = MarginVault({"a": 0.0}, instruments=(A,), accounts={"collateral": {"ETH": 10.0}})
        vault.apply(CollateralPrice("a", "ETH", 1500.0, vault.now_ns, vault.now_ns))
        vault.tick()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(15_000.0)
        vault.apply(CollateralPrice("a", "ETH", float("nan"), vault.now_ns, vault.now_ns))
        vault.tick(after_s=61.0)
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(15_000.0)

    def test_the_venues_word_goes_before_the_model_which_only_adds_to_it(self) -> None:
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=3.0)
        vault.hedge_all()
        vault.wait(1.0)
        vault.report("a", ReportedMargin("", 8_000.0, 5_000.0, 3_000.0))
        vault.tick()
        found = vault.margin.accounts["a"]
        assert (found.equity_quote, found.figures.initial) == (8_000.0, pytest.approx(5_000.0))
        more = (0.9 * 8_000.0 - 5_000.0) / PER_BASE
        assert vault.margin.room(A, -1, 50.0).base == pytest.approx(more, abs=0.1)
        vault.tick(after_s=200.0)
        assert vault.margin.accounts["a"].told is None  # too old by now

    def test_a_report_asked_for_before_a_fill_is_not_taken(self) -> None:
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=3.0)
        vault.report("a", ReportedMargin("", 8_000.0, 5_000.0, 3_000.0))
        vault.hedge_all(rounds=1)
        vault.report("a")
        assert vault.margin.accounts["a"].told is None or vault.margin.accounts["a"].told.at_ns < vault.now_ns

    def test_what_a_venue_told_moves_with_prices_until_its_next_word(self) -> None:
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=3.0)
        vault.hedge_all()
        vault.wait(1.0)
        vault.report("a", ReportedMargin("", 8_000.0, 5_000.0, 3_000.0))
        vault.tick()
        lots = vault.engine.desks["ETH"].holdings["ETH-A"].lots
        vault.tick(px=PX + 50.0)
        lost = 0.1 * -lots * 50.0
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(8_000.0 - lost)

    def test_balances_move_with_what_positions_earn_after_them(self) -> None:
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=3.0)
        vault.hedge_all()
        vault.wait(1.0)
        vault.report("a", balances={"USD": 9_000.0})
        vault.tick()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(9_000.0)
        lots = vault.engine.desks["ETH"].holdings["ETH-A"].lots
        vault.tick(px=PX + 50.0)
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(9_000.0 - 0.1 * -lots * 50.0)

    def test_where_no_quotes_come_a_position_is_worth_what_the_index_says(self) -> None:
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=3.0)
        vault.hedge_all()
        before = vault.margin.accounts["a"].equity_quote
        lots = vault.engine.desks["ETH"].holdings["ETH-A"].lots
        vault.wait(120.0)
        vault.apply(vault.index(PX + 50.0), vault.vol(CALL, 0.6, PX + 50.0))
        vault.decide()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(before - 0.1 * -lots * 50.0)

    def test_a_gain_in_a_dollar_that_slipped_counts_less_and_a_loss_in_full(self) -> None:
        for px, counted in ((PX - 50.0, 0.8), (PX + 50.0, 1.0)):
            vault = MarginVault({"a": 1e6}, instruments=(A,), coins=3.0)
            vault.hedge_all()
            lots = vault.engine.desks["ETH"].holdings["ETH-A"].lots
            vault.apply(CollateralPrice("a", "USD", 0.8, vault.now_ns, vault.now_ns))
            vault.tick(px=px)
            earned = 0.1 * lots * (px - PX)
            found = vault.margin.accounts["a"].equity_quote
            assert found == pytest.approx(0.8e6 + counted * earned, abs=2.0)  # what the spread cost

    def test_what_happens_at_one_account_puts_off_no_look_at_another(self) -> None:
        vault = MarginVault({"a": 1e6, "b": 1e6}, instruments=(A, B), coins=3.0)
        vault.hedge_all()
        for _ in range(40):
            vault.margin.note_change("b")
            vault.tick(after_s=20.0)
        assert vault.margin.reviews["a"] >= 2
        before = vault.margin.reviews["a"]
        for step in range(20):  # a price that creeps: no single step is a move, all of them together are
            vault.margin.note_change("b")
            vault.tick(px=PX * (1.0 + 0.0005 * step), after_s=1.0)
        assert vault.margin.reviews["a"] >= before + 3

    def test_parameters_that_have_expired_raise_it_once_more(self) -> None:
        old = msgspec.structs.replace(PARAMETERS, expires=date(2023, 2, 1))
        fresh, stale = (
            MarginVault({"a": 1e6}, instruments=(A,), coins=3.0, accounts={"parameters": one})
            for one in (PARAMETERS, old)
        )
        for vault in (fresh, stale):
            vault.hedge_all()
            vault.tick()
        by_name = [one.margin.accounts["a"] for one in (fresh, stale)]
        assert by_name[1].figures.initial == pytest.approx(1.25 * by_name[0].figures.initial)
        assert "expired on 2023-02-01" in by_name[1].degraded[0]

    def test_reviews_keep_their_beat_until_something_happens(self) -> None:
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=0.0)
        vault.tick()
        before = vault.margin.reviews["a"]
        for _ in range(5):
            vault.tick()
        assert vault.margin.reviews["a"] == before
        vault.tick(px=2010.0)
        assert vault.margin.reviews["a"] == before + 1
        vault.tick(px=2010.0, after_s=61.0)
        assert vault.margin.reviews["a"] == before + 1  # nothing is near
        vault.tick(px=2010.0, after_s=540.0)
        assert vault.margin.reviews["a"] == before + 2

    def test_what_is_nearer_is_looked_at_more_often(self) -> None:
        vault = stressed()
        leave(vault, 0.4)
        vault.tick()
        before = vault.margin.reviews["a"]
        vault.tick(after_s=61.0)
        assert vault.margin.reviews["a"] == before + 1


class TestTerms:
    def test_doubled_parameters_count_in_the_next_decision(self) -> None:
        vault = MarginVault({"a": usd_for(4.0)}, instruments=(A,), coins=4.0)
        vault.hedge_all()
        before = vault.margin.accounts["a"].figures.initial
        vault.terms("a", extended_factor=6.0, roll_min=0.01)
        vault.tick()
        assert vault.margin.accounts["a"].figures.initial == pytest.approx(2.0 * before, rel=1e-3)
        assert vault.margin.accounts["a"].standing.asked is not MarginState.NORMAL  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("text", "says"), [("{", "expected a parameter set"), ('{"model": "span"}', "cannot be used")]
    )
    def test_terms_that_cannot_be_read_change_nothing_and_are_named(self, text: str, says: str) -> None:
        vault = MarginVault({"a": 1e6}, instruments=(A,), coins=3.0)
        vault.hedge_all()
        before = vault.margin.accounts["a"].figures
        vault.apply(MarginTerms("a", text, vault.now_ns, vault.now_ns))
        vault.tick()
        assert vault.margin.accounts["a"].figures == before
        assert says in vault.margin.accounts["a"].degraded[0]


def stressed(*, elsewhere: bool = True, **changes: Any) -> MarginVault:
    """Return a vault that is hedged at one venue whose collateral then nearly goes."""
    usd = {"a": 1e6, "b": 1e6} if elsewhere else {"a": 1e6}
    vault = MarginVault(usd, instruments=(A, B) if elsewhere else (A,), **changes)
    vault.hedge_all()
    assert vault.engine.desks["ETH"].holdings["ETH-A"].lots == -90
    return vault


def leave(vault: MarginVault, ratio: float) -> None:
    """Leave so much collateral at A that its utilisation is `ratio`."""
    found = vault.margin.accounts["a"]
    found.balances = {"USD": found.figures.maintenance / ratio}
    vault.margin.note_change()


class TestStates:
    def test_watch_only_says_so(self) -> None:
        vault = stressed()
        leave(vault, 0.75)
        vault.engine.desks["ETH"].book.coin_cash = 11.0
        assert vault.orders() == {"B": -10}  # initial margin is over its limit at A, whatever the state
        assert vault.margin.accounts["a"].standing.state is MarginState.WATCH  # type: ignore[union-attr]
        assert vault.engine.state is BotState.RUNNING

    def test_act_adds_nothing_there(self) -> None:
        vault = stressed(risk={"max_initial_ratio": 1.0, "local_margin_share": 0.0})
        leave(vault, 0.79)
        vault.tick()
        assert vault.margin.room(A, -1, 50.0).base > 0.0
        leave(vault, 0.82)
        vault.tick()
        assert vault.margin.room(A, -1, 50.0).base == 0.0
        assert "it is act: utilisation 82.0%" in vault.margin.room(A, -1, 50.0).why
        assert vault.margin.doubt == ""

    def test_critical_moves_hedges_slice_by_slice_until_it_is_relieved(self) -> None:
        vault = stressed(risk={"states": msgspec.structs.replace(RULE, step_up_ns=0)})
        leave(vault, 0.94)
        reasons = []
        lots = []
        for _ in range(40):
            for intent in vault.intents():
                reasons.append(intent.reason)
                lots.append((intent.instrument_id, intent.qty_lots))
                vault.accept(intent)
                vault.fill(intent)
        held = {name: one.lots for name, one in vault.engine.desks["ETH"].holdings.items()}
        assert 0 < lots[0][1] <= 9
        assert "margin at a is act (utilisation 94.0%" in reasons[0]  # on its way to CRITICAL it is moved already
        assert any("margin at a is critical" in one for one in reasons)
        assert vault.margin.accounts["a"].utilisation_ratio <= 0.72
        assert -70 < held["ETH-A"] < -60
        assert sum(held.values()) in range(-110, -89)  # hedged elsewhere meanwhile
        assert vault.engine.state is BotState.RUNNING
        assert vault.margin.doubt == ""

    def test_an_emergency_closes_at_once_and_waits_for_a_person(self) -> None:
        vault = stressed(elsewhere=False, risk={"states": msgspec.structs.replace(RULE, step_up_ns=0)})
        leave(vault, 1.2)
        vault.tick()
        for _ in range(4):
            for intent in vault.intents():
                vault.accept(intent)
                vault.fill(intent)
        assert vault.margin.accounts["a"].utilisation_ratio <= 0.75
        assert vault.engine.state is BotState.REDUCE_ONLY
        assert "margin emergency at a" in vault.engine.state_reason
        vault.operate(OperatorAction.RESUME)
        vault.tick()
        assert vault.engine.state is BotState.RUNNING

    def test_what_a_usual_move_would_liquidate_is_reduced_at_any_utilisation(self) -> None:
        """At high leverage utilisation is low until the price moves: the chance of liquidation is what asks for it."""
        thin = {"price_range": 0.002, "min_vol_up": 0.0, "roll_min": 0.0005, "extended": (0.004,)}
        states = msgspec.structs.replace(RULE, step_up_ns=0)
        vault = stressed(elsewhere=False, risk={"local_margin_share": 0.0, "states": states})
        vault.terms("a", **thin, extended_factor=1.0)
        vault.tick()
        leave(vault, 0.4)
        vault.tick()
        found = vault.margin.accounts["a"]
        assert found.utilisation_ratio == pytest.approx(0.4, abs=0.01)
        assert found.touch_probability > RULE.critical_probability
        assert vault.margin.room(A, -1, 50.0).base == 0.0  # and nothing is added, though initial margin is far from it
        sold = vault.engine.desks["ETH"].holdings["ETH-A"].lots
        for _ in range(10):
            for intent in vault.intents():
                vault.accept(intent)
                vault.fill(intent)
        assert abs(vault.engine.desks["ETH"].holdings["ETH-A"].lots) < abs(sold)
        assert vault.margin.accounts["a"].touch_probability <= RULE.critical_probability

    def test_nothing_is_sold_while_halted(self) -> None:
        vault = stressed(elsewhere=False)
        vault.operate(OperatorAction.HALT)
        leave(vault, 1.5)
        assert not any(isinstance(one, SubmitOrder) for _ in range(5) for one in vault.tick(after_s=31.0))

    def test_the_gates_say_how_an_account_is(self) -> None:
        vault = stressed()
        leave(vault, 0.7)
        vault.tick()
        (gate,) = [
            one
            for one in list_gates(vault.engine, vault.engine.desks["ETH"], vault.now_ns)
            if one.name == "margin at a"
        ]
        assert gate.is_open
        assert "watch" in gate.detail
        assert "70.0%" in gate.detail
        leave(vault, 0.85)
        vault.tick(after_s=31.0)
        (gate,) = [
            one
            for one in list_gates(vault.engine, vault.engine.desks["ETH"], vault.now_ns)
            if one.name == "margin at a"
        ]
        assert not gate.is_open


def test_the_chance_of_liquidation_is_that_of_the_vol_that_was_seen() -> None:
    """What prices did lately is forecast on: the same figures are less safe after moves than after none."""
    chances = []
    for move_px in (0.0, 10.0):
        vault = stressed(risk={"local_margin_share": 0.0})
        for step in range(300):
            vault.tick(px=PX + move_px * (step % 2), after_s=60.0)
        leave(vault, 0.93)
        vault.tick(px=PX)
        chances.append(vault.margin.accounts["a"].touch_probability)
    assert chances[1] > 2.0 * chances[0] >= 0.0
    assert chances[1] > 0.05


def test_coins_that_are_posted_cover_what_was_sold_of_them() -> None:
    """Equity in the coin rises with the loss of the short, which dollars do not."""
    chances = []
    for asset in ("USD", "ETH"):
        vault = stressed(risk={"local_margin_share": 0.0})
        for step in range(300):
            vault.tick(px=PX + 10.0 * (step % 2), after_s=60.0)
        found = vault.margin.accounts["a"]
        worth = 1.0 if asset == "USD" else vault.margin.asset_px(found, "ETH")
        assert worth is not None
        found.balances = {asset: found.figures.maintenance / 0.93 / worth}
        vault.margin.note_change()
        vault.tick(px=PX)
        assert found.utilisation_ratio == pytest.approx(0.93, rel=1e-2)
        chances.append(found.touch_probability)
    assert chances[1] < 0.8 * chances[0]


def test_without_a_risk_section_nothing_is_reckoned() -> None:
    assert Driver().engine.margin is None


def test_time_in_states_is_counted() -> None:
    vault = stressed()
    leave(vault, 0.7)
    for _ in range(3):
        vault.tick(after_s=61.0)
    assert vault.margin.state_ns["a"][MarginState.WATCH] == 2 * 61 * NS_PER_S
    assert vault.margin.worst_ratio["a"] == pytest.approx(0.7)
    assert account(5.0).collateral == {"USD": 5.0}
    assert inf > vault.margin.worst_ratio["b"] > 0.0 or vault.margin.worst_ratio["b"] == 0.0


def test_bands_are_as_wide_as_the_asset_class_says() -> None:
    told = Overrides(classes={"major": {"band_multiple": 3.0}})
    wide = MarginVault({"a": 1e6}, risk={"classes": msgspec.structs.replace(CLASSES, overrides=told)})
    assert (MarginVault({"a": 1e6}, risk={"classes": CLASSES}).orders(), wide.orders()) == ({"A": -90}, {"A": -70})
    assert (wide.decision.low_base, wide.decision.high_base) == (-3.0, 3.0)
    assert wide.decision.policy_reason.endswith("; × 3 by asset class")


def test_collateral_is_cut_by_its_asset_class_where_the_vault_says_nothing_else() -> None:
    risk = {"classes": CLASSES}
    posted = {"collateral": {"USD": 1e5, "ETH": 10.0, "USDC": 1e4}}
    vault = MarginVault({"a": 1.0}, risk=risk, accounts=posted)
    vault.tick()
    assert vault.margin.accounts["a"].equity_quote == pytest.approx(1e5 + 0.95 * 20_000.0 + 0.98 * 1e4)
    own = MarginVault({"a": 1.0}, risk=risk, accounts={**posted, "haircut_share": {"ETH": 0.0}})
    own.tick()
    assert own.margin.accounts["a"].equity_quote == pytest.approx(1e5 + 20_000.0 + 0.98 * 1e4)
