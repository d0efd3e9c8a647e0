"""What is done first about an account at ACT: collateral in time, else its hedges are moved to where margin is free."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain.decisions import BotState
from bot.domain.events import SubmitOrder
from bot.domain.risk import MarginState, TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN
from bot.domain.venues import VenueHealth, VenueStatus
from bot.risk.margin_states import StateRule
from bot.risk.transfers import Route, TransferRules
from tests.engine.margin_vault import A, B, MarginVault

QUICK = Route(
    name="ARB", asset="USD", from_venue="b", to_venue="a", address_label="a", p95_ns=10 * NS_PER_MIN, max_amount=1e6
)
SLOW = Route(name="BANK", asset="USD", from_venue="b", to_venue="a", address_label="a", p95_ns=8 * NS_PER_HOUR)


def at_act(*routes: Route, spare: float = 1e6, ratio: float = 0.85) -> MarginVault:
    """Return a vault that is hedged at A, whose collateral then nearly goes, and that has `spare` at B."""
    rules = TransferRules(routes=routes, day_caps={"USD": 1e6})
    given: dict[str, Any] = {"transfers": rules, "states": StateRule(step_up_ns=0), "buffers": None}
    vault = MarginVault({"a": 1e6, "b": spare}, instruments=(A, B), risk=given)
    vault.hedge_all()
    assert held(vault) == {"ETH-A": -90, "ETH-B": 0}
    found = vault.margin.accounts["a"]
    found.moved["USD"] = found.figures.maintenance / ratio - 1e6
    vault.margin.note_change()
    return vault


def held(vault: MarginVault) -> dict[str, int]:
    return {name: one.lots for name, one in vault.engine.desks["ETH"].holdings.items()}


def standing(vault: MarginVault) -> MarginState:
    found = vault.margin.accounts["a"].standing
    assert found is not None
    return found.state


def follow(vault: MarginVault, rounds: int = 40) -> tuple[list[str], list[TransferCollateral]]:
    """Fill whatever is ordered; return the reasons of orders at A, and what was sent there."""
    reasons, sent = [], []
    for _ in range(rounds):
        for command in vault.tick():
            if isinstance(command, SubmitOrder):
                vault.accept(command.intent)
                vault.fill(command.intent)
                assert -110 <= sum(held(vault).values()) <= -80  # a slice more or less than hedged at any time
                if command.intent.instrument_id == "ETH-A":
                    reasons.append(command.intent.reason)
            elif isinstance(command, TransferCollateral):
                sent.append(command)
    return reasons, sent


def test_where_nothing_can_be_sent_hedges_are_moved_slice_by_slice_until_act_is_left() -> None:
    vault = at_act()
    reasons, sent = follow(vault)
    assert not sent
    assert "margin at a is act (utilisation 85.0%" in reasons[0]
    assert "moved elsewhere: nothing more can be sent there; " in reasons[0]
    assert "b has 900,000 free and the hedge needs" in reasons[0]
    assert standing(vault) is not MarginState.ACT
    assert vault.margin.accounts["a"].move_for == ""
    assert vault.margin.accounts["a"].utilisation_ratio > 0.6  # and no more than that
    assert -90 < held(vault)["ETH-A"] < -60
    assert held(vault)["ETH-B"] < 0
    assert vault.engine.state is BotState.RUNNING
    assert vault.margin.doubt == ""


def test_collateral_that_is_there_in_time_is_all_there_is_to_it() -> None:
    vault = at_act(QUICK)
    reasons, sent = follow(vault)
    assert (reasons, len(sent)) == ([], 1)
    assert standing(vault) is MarginState.ACT
    vault.wait(3600.0)  # it is overdue now: planned anew over other ways, of which there are none
    reasons, sent = follow(vault)
    assert reasons
    assert not sent


def test_where_it_would_come_too_late_hedges_are_moved_while_it_is_on_its_way() -> None:
    vault = at_act(SLOW)
    reasons, sent = follow(vault)
    assert len(sent) == 1
    assert "to breach at 99 %, transfer 8.0 h at 95 %; b has" in reasons[0]
    assert "nothing more" not in reasons[0]
    assert vault.margin.accounts["a"].move_for == ""  # what is left there lives until it arrives
    assert -90 < held(vault)["ETH-A"] < -45
    assert standing(vault) is MarginState.ACT


def test_what_is_nearly_there_is_waited_for() -> None:
    vault = at_act(SLOW)
    (one,) = [command for command in vault.tick() if isinstance(command, TransferCollateral)]
    where = (one.asset, one.amount, 0.0, one.from_venue, one.to_venue, one.route, "")
    vault.apply(TransferUpdate(one.transfer_id, TransferState.SENT, *where, vault.now_ns, vault.now_ns))
    vault.tick()
    assert "transfer 8.0 h at 95 %" in vault.margin.accounts["a"].move_for
    vault.wait(SLOW.p95_ns / 1e9 - 300.0)
    vault.tick()
    assert standing(vault) is MarginState.ACT
    assert vault.margin.accounts["a"].move_for == ""


@pytest.mark.parametrize("is_down", [False, True])
def test_nothing_is_moved_where_nobody_else_can_take_it(is_down: bool) -> None:
    vault = at_act(spare=1e6 if is_down else 100.0)
    if is_down:
        vault.apply(VenueStatus("b", VenueHealth.DOWN, "it is closed", vault.now_ns))
    reasons, _ = follow(vault, 5)
    assert not reasons
    assert standing(vault) is MarginState.ACT
    assert held(vault) == {"ETH-A": -90, "ETH-B": 0}


def test_a_halted_bot_moves_nothing() -> None:
    vault = at_act()
    vault.engine.state = BotState.HALTED
    assert follow(vault, 5) == ([], [])
