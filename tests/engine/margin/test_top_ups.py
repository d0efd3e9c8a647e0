"""Collateral moved while the engine trades: planned within the rules, counted once it is there, never sent twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.domain.events import OperatorAction, QueryTransfer, Restarted
from bot.domain.risk import MarginState, ReportedMargin, TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_MIN
from bot.risk.margin_states import StateRule
from bot.risk.transfers import NoticeKind, Route, TransferRules
from tests.engine.margin_vault import A, B, MarginVault

S = TransferState
ROUTE = Route(
    name="ARB", asset="USD", from_venue="b", to_venue="a", address_label="a-usd", p95_ns=10 * NS_PER_MIN,
    fee=2.0, max_amount=20_000.0,
)  # fmt: skip
CAPS = {"USD": 50_000.0}


def short_of_margin(
    *routes: Route, spare: float = 100_000.0, caps: dict[str, float] = CAPS, ratio: float = 0.85, **risk: Any
) -> MarginVault:
    """Return a vault hedged at A, which then lacks collateral, with some to spare at B."""
    rules = TransferRules(routes=routes or (ROUTE,), day_caps=caps)
    given = {"transfers": rules, "states": StateRule(step_up_ns=0), **risk}
    vault = MarginVault({"a": 1e6, "b": spare}, instruments=(A, B), risk=given)
    vault.hedge_all()
    found = vault.margin.accounts["a"]
    found.moved["USD"] = found.figures.maintenance / ratio - 1e6
    vault.margin.note_change()
    return vault


def transfers(vault: MarginVault, **how: Any) -> list[TransferCollateral]:
    return [one for one in vault.tick(**how) if isinstance(one, TransferCollateral)]


def tell(vault: MarginVault, command: TransferCollateral, state: TransferState, **changes: Any) -> None:
    amount = 0.0 if state is S.FAILED else command.amount - ROUTE.fee
    update = TransferUpdate(
        command.transfer_id, state, command.asset, amount, ROUTE.fee, command.from_venue, command.to_venue,
        command.route, "", vault.now_ns, vault.now_ns,
    )  # fmt: skip
    vault.apply(msgspec.structs.replace(update, **changes))


@pytest.mark.parametrize("is_told", [False, True])
def test_what_waits_for_its_leave_is_promised_whatever_its_account_tells(is_told: bool) -> None:
    """A person may take hours to confirm a transfer, and the venue tells what is there until then."""
    vault = short_of_margin()
    (command,) = transfers(vault)

    def tells(usd: float) -> float:
        vault.wait(5.0)
        margins = (ReportedMargin("", usd, 0.0, 0.0),) if is_told else ()
        vault.report("b", *margins, balances={"USD": usd})
        vault.tick()
        return vault.margin.accounts["b"].equity_quote

    assert tells(100_000.0) == pytest.approx(100_000.0 - command.amount, abs=1.0)
    assert tells(100_000.0) == pytest.approx(100_000.0 - command.amount, abs=1.0)
    tell(vault, command, S.SENT)
    assert tells(100_000.0 - command.amount) == pytest.approx(100_000.0 - command.amount, abs=1.0)
    assert vault.margin.posted(vault.margin.accounts["b"])["USD"] == pytest.approx(100_000.0 - command.amount)


def test_what_may_have_left_before_a_restart_is_subtracted_once() -> None:
    vault = short_of_margin()
    (command,) = transfers(vault)
    vault.apply(Restarted(vault.now_ns))
    vault.tick()
    vault.wait(5.0)
    vault.report("b", balances={"USD": 100_000.0 - command.amount})
    vault.tick()
    assert vault.margin.posted(vault.margin.accounts["b"])["USD"] == pytest.approx(100_000.0 - command.amount)


class TestPlanning:
    def test_an_account_at_act_is_brought_to_its_target(self) -> None:
        vault = short_of_margin()
        (command,) = transfers(vault)
        found = vault.margin.accounts["a"]
        needed = found.figures.maintenance / 0.5 - found.equity_quote
        assert command.amount == pytest.approx(needed + ROUTE.fee)
        assert (command.transfer_id, command.route) == (f"{vault.engine.settings.run_id}-T1", "ARB")
        assert "margin at a: utilisation 85.0%" in command.reason

    def test_nothing_is_sent_while_one_is_under_way(self) -> None:
        vault = short_of_margin()
        (command,) = transfers(vault)
        tell(vault, command, S.SENT)
        for _ in range(5):
            assert transfers(vault, after_s=30.0) == []

    def test_it_counts_only_once_it_is_credited(self) -> None:
        vault = short_of_margin()
        before = vault.margin.accounts["b"].equity_quote
        (command,) = transfers(vault)
        vault.tick()
        short = vault.margin.accounts["a"].equity_quote
        assert vault.margin.accounts["b"].equity_quote == pytest.approx(before - command.amount)
        tell(vault, command, S.SENT)
        vault.tick()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(short)
        tell(vault, command, S.ARRIVED)
        vault.tick()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(short + command.amount - ROUTE.fee)
        assert vault.margin.accounts["a"].standing.state is MarginState.NORMAL  # type: ignore[union-attr]
        assert vault.engine.pnl().fees == pytest.approx(-ROUTE.fee)
        assert transfers(vault, after_s=61.0) == []

    def test_a_source_keeps_what_its_own_margin_needs(self) -> None:
        vault = short_of_margin(spare=1_000.0)
        (command,) = transfers(vault)
        assert command.amount == pytest.approx(1_000.0)
        empty = short_of_margin(spare=0.0)
        assert transfers(empty) == []
        assert "nothing to spare" in empty.engine.top_ups.refused["a"]  # type: ignore[union-attr]

    def test_caps_leave_the_rest_for_later(self) -> None:
        vault = short_of_margin(caps={"USD": 500.0})
        (command,) = transfers(vault)
        assert command.amount == 500.0
        tell(vault, command, S.ARRIVED)
        assert transfers(vault) == []
        assert "cap" in vault.engine.top_ups.refused["a"]  # type: ignore[union-attr]

    def test_without_a_route_it_is_said_that_there_is_none(self) -> None:
        vault = short_of_margin(msgspec.structs.replace(ROUTE, to_venue="c"))
        assert transfers(vault) == []
        assert vault.engine.top_ups.refused == {"a": "no route leads to a"}  # type: ignore[union-attr]

    def test_a_wallet_gives_what_caps_allow(self) -> None:
        (command,) = transfers(short_of_margin(msgspec.structs.replace(ROUTE, from_venue="wallet")))
        assert command.from_venue == "wallet"

    def test_what_rounding_leaves_is_not_sent_over_another_route(self) -> None:
        other = msgspec.structs.replace(ROUTE, asset="USDC", from_venue="wallet")
        (command,) = transfers(short_of_margin(ROUTE, other, caps={**CAPS, "USDC": 1e6}))
        assert command.route == "ARB"

    def test_a_halted_bot_moves_nothing(self) -> None:
        vault = short_of_margin()
        vault.operate(OperatorAction.HALT)
        assert transfers(vault) == []

    def test_f34_doubled_parameters_are_topped_up_within_one_decision(self) -> None:
        vault = short_of_margin(ratio=0.45)
        assert transfers(vault) == []
        vault.terms("a", extended_factor=6.0, roll_min=0.01)
        (command,) = transfers(vault)
        assert "margin at a: utilisation 90.0%" in command.reason


class TestLives:
    def test_f29_what_a_reorg_takes_back_is_planned_anew(self) -> None:
        vault = short_of_margin()
        (command,) = transfers(vault)
        tell(vault, command, S.ARRIVED)
        vault.tick()
        enough = vault.margin.accounts["a"].equity_quote
        tell(vault, command, S.REVERSED)
        vault.tick()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(enough - command.amount + ROUTE.fee)
        tell(vault, command, S.REVERSED)  # told twice
        vault.tick()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(enough - command.amount + ROUTE.fee)
        assert vault.engine.pnl().fees == pytest.approx(0.0)

    def test_f30_one_that_never_arrives_is_late_then_asked_about_and_replaced(self) -> None:
        other = msgspec.structs.replace(ROUTE, name="ETH", p95_ns=20 * NS_PER_MIN)
        vault = short_of_margin(ROUTE, other)
        (command,) = transfers(vault)
        tell(vault, command, S.SENT)
        vault.tick(after_s=601.0)
        top_ups = vault.engine.top_ups
        assert top_ups is not None
        assert [one.kind for _, one in top_ups.notices] == [NoticeKind.LATE]
        assert top_ups.late_count == 1
        asked = vault.tick(after_s=600.0)
        assert [one.transfer.transfer_id for one in asked if isinstance(one, QueryTransfer)] == [command.transfer_id]
        (again,) = [one for one in asked if isinstance(one, TransferCollateral)]
        assert (again.route, again.transfer_id) == ("ETH", f"{vault.engine.settings.run_id}-T2")

    def test_a_refusal_gives_the_money_back_and_the_route_a_rest(self) -> None:
        vault = short_of_margin()
        before = vault.margin.accounts["b"].equity_quote
        (command,) = transfers(vault)
        tell(vault, command, S.FAILED)
        assert transfers(vault) == []
        assert vault.margin.accounts["b"].equity_quote == pytest.approx(before)
        assert "refused" in vault.engine.top_ups.refused["a"]  # type: ignore[union-attr]
        (again,) = transfers(vault, after_s=301.0)
        assert again.transfer_id != command.transfer_id

    def test_a_refusal_may_mean_that_there_is_less_half_as_much_is_asked_for_next(self) -> None:
        vault = short_of_margin(msgspec.structs.replace(ROUTE, from_venue="wallet"))
        (command,) = transfers(vault)
        asked = [command.amount]
        for rest_s in (61.0, 121.0, 181.0):
            tell(vault, command, S.FAILED)
            assert transfers(vault, after_s=rest_s - 5.0) == []
            (command,) = transfers(vault, after_s=5.0)
            asked.append(command.amount)
        assert asked[1:] == pytest.approx([0.5 * one for one in asked[:-1]])
        tell(vault, command, S.SENT)
        tell(vault, command, S.ARRIVED)
        (command,) = transfers(vault)
        assert command.amount > asked[-1]  # there was as much: all that is missing is asked for again

    def test_what_is_taken_back_counts_no_more_where_it_was_told_of(self) -> None:
        vault = short_of_margin()
        (command,) = transfers(vault)
        tell(vault, command, S.ARRIVED)
        vault.wait(1.0)
        vault.report("a", ReportedMargin("", 30_000.0, 5_000.0, 3_000.0))
        vault.tick()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(30_000.0)
        tell(vault, command, S.REVERSED)
        vault.tick()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(30_000.0 - command.amount + ROUTE.fee)
        tell(vault, command, S.ARRIVED)
        vault.tick()
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(30_000.0)

    def test_nothing_leaves_while_a_jump_awaits_its_confirmation(self) -> None:
        vault = short_of_margin()
        vault.wait(1.0)
        vault.apply(vault.index(2_600.0))
        assert not [one for one in vault.decide() if isinstance(one, TransferCollateral)]
        assert vault.margin.is_price_in_doubt
        assert len(transfers(vault)) == 1

    @pytest.mark.parametrize("state", [None, S.SENT, S.UNKNOWN])
    def test_f44_after_a_restart_it_is_asked_about_and_not_sent_again(self, state: TransferState | None) -> None:
        vault = short_of_margin()
        (command,) = transfers(vault)
        if state is not None:
            tell(vault, command, state)
        vault.apply(Restarted(vault.now_ns))
        found = [one for _ in range(6) for one in vault.tick(after_s=5.0)]
        assert not any(isinstance(one, TransferCollateral) for one in found)
        asked = [one.transfer for one in found if isinstance(one, QueryTransfer)]
        assert {one.transfer_id for one in asked} == {command.transfer_id}
        tell(vault, command, S.ARRIVED)
        vault.tick()
        assert vault.margin.accounts["a"].standing.state is MarginState.NORMAL  # type: ignore[union-attr]

    def test_words_about_strangers_change_nothing(self) -> None:
        vault = short_of_margin()
        (command,) = transfers(vault)
        before = dict(vault.margin.accounts["a"].moved)
        tell(vault, msgspec.structs.replace(command, transfer_id="other-T9"), S.ARRIVED)
        tell(vault, command, S.ARRIVED, amount=float("nan"))
        tell(vault, command, S.ARRIVED, amount=2.0 * command.amount)
        assert vault.margin.accounts["a"].moved == before
