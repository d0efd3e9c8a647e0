"""When a plan is asked for, what it moves, and what happens where there is none."""

from __future__ import annotations

import msgspec
import pytest

from bot.domain.events import OperatorAction, Restarted
from bot.domain.risk import MarginState, TransferState
from bot.risk.collateral.plan import decode_plan
from tests.engine.collateral_vault import DELAY_NS, ROUTES, CollateralVault, route

RICH = {"a": 60_000.0, "b": 60_000.0}
FAR = (-0.16, 0.3)
POOR = {"a": 18_000.0, "b": 0.0}  # enough for its hedge as it is, and not for what a move may make of it


def hedged(usd: dict[str, float] | None = None, **how: object) -> CollateralVault:
    """Return a vault that is hedged, and has its first plan, which was made before."""
    vault = CollateralVault(usd or RICH, **how)  # type: ignore[arg-type]
    for _ in range(3):
        vault.run()
    vault.reply()
    vault.run()
    return vault


class TestAsking:
    def test_the_first_plan_is_asked_for_at_once_and_then_with_every_beat(self) -> None:
        vault = CollateralVault(RICH)
        vault.run()
        assert [one.reason for one in vault.asked] == ["it is time"]
        for _ in range(4):
            vault.run(5.0)
        assert len(vault.asked) == 1  # one at a time
        vault.reply()
        vault.run(60.0)
        assert len(vault.asked) == 1
        vault.run(300.0)
        assert [one.plan_id[-3:] for one in vault.asked] == ["-P1", "-P2"]

    def test_an_account_that_grows_short_is_a_reason_at_once(self) -> None:
        vault = hedged()
        asked = len(vault.asked)
        vault.run(20.0)
        assert len(vault.asked) == asked
        vault.drain_equity("a", 0.85)
        vault.run()
        assert vault.asked[-1].reason == "a is at act"
        assert len(vault.asked) == asked + 1

    def test_doubled_parameters_are_a_reason_at_once(self) -> None:
        vault = hedged()
        vault.drain_equity("a", 0.45)
        vault.run(20.0)
        asked = len(vault.asked)
        vault.terms("a", extended_factor=6.0, roll_min=0.01)
        vault.run()
        assert [one.reason for one in vault.asked[asked:]] == ["a is at critical"]

    def test_an_account_below_the_buffer_that_it_should_hold_is_a_reason_at_once(self) -> None:
        vault = hedged({"a": 60_000.0, "b": 0.0}, wallets={"wallet": {"USDC": 0.0, "USDT": 0.0}})
        vault.drain_equity("a", 0.62)
        vault.run(11.0)
        assert vault.asked[-1].reason == "a is at watch"
        vault.reply()
        vault.run(11.0)
        asked = len(vault.asked)
        vault.drain_equity("a", 0.78)
        vault.run()
        vault.run(11.0)
        assert [one.reason for one in vault.asked[asked:]] == ["a is short of its buffer"]

    def test_a_halted_bot_asks_nothing(self) -> None:
        vault = CollateralVault(RICH)
        vault.operate(OperatorAction.HALT)
        vault.run()
        assert vault.asked == []

    def test_after_a_restart_it_asks_anew_and_an_old_answer_is_none(self) -> None:
        vault = CollateralVault(RICH)
        vault.run()
        vault.apply(Restarted(vault.now_ns))
        vault.run()
        vault.reply(plan_id=vault.asked[0].plan_id)
        assert vault.desk.plans == 0
        vault.run()
        assert [one.plan_id[-3:] for one in vault.asked] == ["-P1", "-P2"]
        vault.reply()
        assert vault.desk.plans == 1


class TestMoving:
    def test_the_cheapest_is_moved_before_anything_is_short(self) -> None:
        vault = hedged(POOR, moves=FAR)
        vault.run(301.0)
        event = vault.reply()
        plan = decode_plan(event.text)
        vault.run()
        (sent,) = vault.sent
        (planned,) = plan.transfers
        assert (sent.asset, sent.from_venue, sent.to_venue) == ("USDT", "wallet", "a")
        assert sent.amount == pytest.approx(planned.amount, rel=1e-6)
        assert sent.reason.startswith(f"{event.plan_id}: a would lack")
        standing = vault.margin.accounts["a"].standing
        assert standing is not None
        assert standing.state is MarginState.NORMAL  # what the rule would only see at act
        vault.tell(sent, TransferState.ARRIVED)
        vault.run()
        assert vault.margin.held(vault.margin.accounts["a"], "USDT") == pytest.approx(sent.amount - 2.0)
        assert vault.now.moved == (sent.transfer_id,)
        assert vault.now.is_met
        vault.run(11.0)
        assert vault.asked[-1].reason == "a transfer ended or is overdue"
        vault.reply()
        vault.run()
        assert len(vault.sent) == 1

    def test_a_plan_moves_nothing_that_transfers_forbid(self) -> None:
        vault = hedged(POOR, moves=FAR)
        vault.run(301.0)
        plan = decode_plan(vault.reply().text)
        vault.run(301.0)
        vault.sent.clear()
        elsewhere = msgspec.structs.replace(plan.transfers[0], route="ARB: USDT wallet → thief", to_place="thief")
        vault.reply(text=msgspec.json.encode(msgspec.structs.replace(plan, transfers=(elsewhere,))).decode())
        vault.run()
        assert vault.sent == []
        assert vault.now.not_moved == ("ARB: USDT wallet → thief is no route of the vault",)

    def test_what_comes_while_nothing_may_be_sent_is_dropped_and_said(self) -> None:
        vault = hedged(POOR, moves=FAR)
        vault.run(301.0)
        vault.reply()
        vault.operate(OperatorAction.HALT)
        vault.run()
        assert vault.sent == []
        assert "its transfers are dropped" in vault.now.told[-1].text
        vault.operate(OperatorAction.RESUME)
        vault.run(11.0)
        vault.reply()
        vault.run()
        assert len(vault.sent) == 1

    def test_f30_what_never_arrives_is_planned_anew_over_another_route(self) -> None:
        vault = hedged(POOR, moves=FAR, routes=(*ROUTES, route("USDT", "wallet", name="ETH")))
        vault.run(301.0)
        vault.reply()
        vault.run()
        (first,) = vault.sent
        vault.tell(first, TransferState.SENT)
        for _ in range(2 * DELAY_NS // 10**9 // 20 + 2):
            asked = len(vault.asked)
            vault.run(20.0)
            if len(vault.asked) > asked:
                vault.reply()
        again = vault.sent[-1]
        assert again.route != first.route
        assert again.amount == pytest.approx(first.amount, rel=0.05)
        assert [one.route for one in vault.sent].count(first.route) == 1

    def test_f29_what_a_reorg_takes_back_is_planned_anew(self) -> None:
        vault = hedged(POOR, moves=FAR)
        vault.run(301.0)
        vault.reply()
        vault.run()
        (sent,) = vault.sent
        vault.tell(sent, TransferState.ARRIVED)
        vault.run(11.0)
        vault.reply()
        vault.run()
        vault.tell(sent, TransferState.REVERSED)
        vault.run(11.0)
        assert vault.asked[-1].reason == "a transfer ended or is overdue"
        (pending,) = vault.problem.pending  # it may come again by itself, and is waited for as long once more
        assert pending.amount == pytest.approx(sent.amount - 2.0)


class TestWithoutAPlan:
    def test_without_an_answer_the_rule_tops_up(self) -> None:
        vault = hedged()
        vault.drain_equity("a", 0.85)
        vault.run()
        vault.run(20.0)
        assert vault.sent == []
        vault.run(11.0)
        assert len(vault.sent) == 1
        assert vault.sent[0].reason.startswith("margin at a: utilisation")
        assert "no answer within 30 s" in vault.now.told[-1].text
        assert vault.desk.by_rule == 1

    @pytest.mark.parametrize("text", ["", "{"])
    def test_an_answer_that_is_no_plan_leaves_it_to_the_rule(self, text: str) -> None:
        vault = hedged()
        vault.drain_equity("a", 0.85)
        vault.run()
        vault.reply("no plan: the solver's process ended with -9", text=text)
        vault.run()
        assert vault.sent[0].reason.startswith("margin at a: utilisation")
        assert "ended with -9" in vault.now.fault

    def test_f42_a_greedy_plan_is_carried_out_and_named(self) -> None:
        vault = hedged(POOR, moves=FAR)
        vault.run(301.0)
        vault.reply("the solver did not answer within 12 s: the plan is the greedy one", method="greedy")
        vault.run()
        assert len(vault.sent) == 1
        assert (vault.now.method, vault.now.fault[:25]) == ("greedy", "the solver did not answer")
        assert "the plan is the greedy one" in vault.now.told[-1].text

    def test_f42_what_cannot_be_met_is_named_and_as_much_as_there_is_sent(self) -> None:
        vault = hedged(POOR, moves=FAR, wallets={"wallet": {"USDC": 0.0, "USDT": 500.0}})
        vault.run(301.0)
        vault.reply()
        vault.run()
        (sent,) = vault.sent
        assert sent.amount == pytest.approx(500.0)
        now = vault.now
        assert not now.is_met
        assert now.short_quote > 1_000.0
        (violation,) = now.violations
        assert "a is " in violation
        assert "short in 60 min in scenario +30%" in violation
        assert "all USDT that may leave wallet is sent" in violation
        assert any(one.text.endswith(violation) for one in now.told)
        assert vault.desk.unmet == 1
