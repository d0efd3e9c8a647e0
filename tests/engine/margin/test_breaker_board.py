"""Breakers from what the engine sees: each trips by its limit, refuses only what adds risk, and ends by itself."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain.decisions import Refusal
from bot.domain.orders import OutcomeLost
from bot.domain.risk import CollateralPrice
from bot.engine.gates import list_gates
from bot.engine.margin.breaker_board import BreakerBoard
from bot.engine.margin.risk_settings import ClassSettings
from bot.risk.asset_classes import Overrides, decode_classes
from bot.risk.breakers import Breaker
from bot.runtime.configuration.margin_parameters import carried_sets
from tests.engine.margin_vault import A, B, MarginVault


def watched(**changes: Any) -> MarginVault:
    vault = MarginVault({"a": 1e6, "b": 1e6}, instruments=(A, B), **changes)
    vault.show()
    return vault


def board(vault: MarginVault) -> BreakerBoard:
    assert vault.engine.breakers is not None
    return vault.engine.breakers


def kinds(vault: MarginVault) -> set[Breaker]:
    return {one.breaker for one in board(vault).tripped()}


def move(vault: MarginVault, px: float) -> None:
    """Have a price move and confirmed: a jump is believed once a second one shows it."""
    for _ in range(3):
        vault.tick(px=px)


def test_a_move_of_a_twentieth_in_a_minute_trips_and_hedging_goes_on() -> None:
    vault = watched()
    vault.hedge_all()
    vault.engine.desks["ETH"].book.coin_cash = 12.0  # two coins more to hedge
    move(vault, 2120.0)
    assert kinds(vault) == {Breaker.MOVE}
    assert "ETH moved +6.0% in 1 min, limit 5%" in board(vault).doubt("ETH")
    assert vault.engine.may_only_shrink(vault.engine.desks["ETH"])
    vault.engine.desks["ETH"].book.coin_cash = 14.0
    assert vault.decision.order_id is not None or vault.orders(px=2120.0) != {}


def test_what_adds_risk_is_refused_while_it_lasts_and_it_ends_by_itself() -> None:
    """A hedge too coarse for what is left would turn the net delta: that is more risk, not less."""
    vault = watched()
    vault.hedge_all()
    move(vault, 2120.0)
    desk = vault.engine.desks["ETH"]
    view = vault.engine.ordering.see(desk, vault.engine.ordering.find_routes(desk, vault.now_ns)[0], vault.now_ns)
    lots = 30 if view.delta_low_base > view.target_delta_base else -30
    refused = vault.engine.refuse_growth(desk, view, lots)
    assert refused is not None
    assert refused[0] is Refusal.BREAKER_REDUCE_ONLY
    assert "would not shrink the net delta" in refused[1]
    shrinking = -lots // 30 * round(abs(view.delta_low_base - view.target_delta_base) / view.lot_base)
    assert shrinking == 0 or vault.engine.refuse_growth(desk, view, shrinking) is None
    gates = {one.name: one for one in list_gates(vault.engine, desk, vault.now_ns)}
    assert not gates["breakers"].is_open
    vault.tick(px=2120.0, after_s=301.0)
    vault.tick(px=2120.0, after_s=301.0)
    assert board(vault).tripped() == ()
    assert vault.engine.refuse_growth(desk, view, lots) is None
    lines = [line for _, line in board(vault).changes]
    assert lines[0].startswith("move: ETH moved")
    assert lines[-1] == "move of ETH is over"
    assert (board(vault).trip_count, board(vault).change_count) == (1, len(lines))


def test_a_slow_drift_trips_nothing() -> None:
    vault = watched()
    for step in range(1, 21):
        vault.tick(px=2000.0 * (1.0 + 0.004 * step), after_s=40.0)
    assert board(vault).trip_count == 0


def test_a_venue_that_counts_a_coin_otherwise_trips_for_what_is_hedged_there() -> None:
    vault = watched()
    vault.tick()
    vault.apply(CollateralPrice("a", "ETH", 1930.0, vault.now_ns, vault.now_ns))
    vault.apply(CollateralPrice("elsewhere", "ETH", 1000.0, vault.now_ns, vault.now_ns))
    vault.apply(CollateralPrice("a", "USDC", 0.5, vault.now_ns, vault.now_ns))
    vault.tick()
    assert "a has ETH at 1930, -3.5% from the fused 2000" in board(vault).doubt("ETH")
    assert "elsewhere" not in board(vault).doubt("ETH")


@pytest.mark.parametrize("how", ["rejected", "expired"])
def test_three_hedges_that_fail_in_a_row_trip(how: str) -> None:
    vault = watched()
    for times in range(3):
        assert kinds(vault) == set()
        intents = vault.intents(after_s=6.0)
        assert intents, times
        for intent in intents[:1]:
            if how == "rejected":
                vault.reject(intent)
            else:
                vault.accept(intent)
                vault.cancel(intent)
    vault.tick()
    assert kinds(vault) == {Breaker.FAILED_HEDGES}


def test_a_fill_in_between_starts_the_count_anew() -> None:
    vault = watched()
    for times in range(5):
        (intent, *_) = vault.intents(after_s=6.0)
        vault.accept(intent)
        if times == 2:
            vault.fill(intent, lots=-1)
        vault.cancel(intent)
    vault.tick()
    assert kinds(vault) == set()


def test_a_fill_far_beyond_what_its_limit_allows_trips() -> None:
    vault = watched()
    (intent, *_) = vault.intents()
    vault.accept(intent)
    vault.fill(intent, px=1996.0)  # 20 bp of the middle, 25 are allowed and half the spread
    vault.tick()
    assert kinds(vault) == set()
    vault.engine.desks["ETH"].book.coin_cash = 20.0
    (intent, *_) = vault.intents(after_s=6.0)
    vault.accept(intent)
    vault.fill(intent, px=1990.0)
    vault.tick()
    assert kinds(vault) == {Breaker.SLIPPAGE}


def test_answers_that_are_lost_trip_as_errors_of_a_venue() -> None:
    vault = watched()
    found = board(vault)
    orders = vault.engine.orders
    (intent, *_) = vault.intents()
    for times in range(12):
        event = OutcomeLost(intent.order_id, "timed out", vault.now_ns)
        found.take_order_event(event, orders)
        assert (times < 9) == (found._of["ETH"].tripped(vault.now_ns) == ())
    vault.tick()
    assert "of 12 requests to a failed" in found.doubt("ETH") or "of 12 requests to b failed" in found.doubt("ETH")


def test_limits_are_those_of_the_asset_class_and_of_the_vault() -> None:
    told = Overrides(assets={"ETH": {"quick_move_fraction": 0.01}})
    found = carried_sets("asset_classes")[-1]
    classes = ClassSettings(classes=decode_classes(found.values, told), overrides=told)
    vault = watched(risk={"classes": classes})
    vault.tick()
    move(vault, 2030.0)
    assert "ETH moved +1.5% in 1 min, limit 1%" in board(vault).doubt("ETH")


def test_without_a_rule_nobody_watches() -> None:
    vault = watched(risk={"breakers": None})
    move(vault, 2200.0)
    assert vault.engine.breakers is None
    assert not vault.engine.may_only_shrink(vault.engine.desks["ETH"])
