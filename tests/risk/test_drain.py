"""A drain: in the right order, smallest first, over two chains, ending in every case, with a trail of why."""

from __future__ import annotations

from math import nan

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.risk import TransferState
from bot.domain.units import NS_PER_S
from bot.risk.drain import (
    CancelOrders,
    Close,
    Drain,
    DrainRules,
    DrainView,
    Freeze,
    HedgeElsewhere,
    Held,
    Open,
    Stage,
    Step,
    Withdraw,
    wants_drain,
)

RULES = DrainRules(rungs=(0.02, 0.2, 1.0), hedge_tolerance_quote=1_000.0, dust_quote=10.0)
PERP = Open("ETH-PERP", -100.0, margin_quote=20_000.0, slippage_quote=100.0)
PUT = Open("ETH-PUT", 50.0, margin_quote=5_000.0, slippage_quote=500.0)
USDC = Held("USDC", 100_000.0, 1.0, ("ARB", "ETH"), min_amount=50.0)
ETH = Held("ETH", 10.0, 2_000.0, ("ETH", "ARB"))
FULL = DrainView(delta_quote=-200_000.0, hedged_quote=0.0, open_orders=3, held=(USDC, ETH), positions=(PERP, PUT))
HEDGED = msgspec.structs.replace(FULL, hedged_quote=-200_000.0)
READY = msgspec.structs.replace(HEDGED, open_orders=0)


def drain(rules: DrainRules = RULES, *, is_exit: bool = False) -> Drain:
    return Drain("okx", rules, 0, "score 44", is_exit=is_exit)


def test_hedge_first_then_cancel_then_the_smallest_over_two_chains() -> None:
    one = drain()
    assert one.advance(FULL, 0) == (Freeze("okx"), HedgeElsewhere(-200_000.0))
    assert one.advance(FULL, NS_PER_S) == ()  # asked for once
    assert one.advance(HEDGED, 2 * NS_PER_S) == (CancelOrders("okx"),)
    first = one.advance(READY, 3 * NS_PER_S)
    assert first == (Withdraw("ETH", 0.2, "ETH"), Withdraw("ETH", pytest.approx(0.2), "ARB"))
    assert one.advance(READY, 4 * NS_PER_S) == ()
    one.note_transfer("ARB", TransferState.ARRIVED, 5 * NS_PER_S)
    assert one.advance(READY, 5 * NS_PER_S) == (Withdraw("ETH", 2.0, "ARB"),)
    assert [entry.stage for entry in one.trail] == sorted(
        (entry.stage for entry in one.trail), key=[*Stage].index
    )  # the trail tells the stages in order
    assert "score 44" in one.trail[0].text


def test_no_stage_waits_for_ever() -> None:
    one = drain()
    one.advance(FULL, 0)
    assert one.stage is Stage.HEDGE
    again = one.advance(FULL, 60 * NS_PER_S)
    assert again == (HedgeElsewhere(-200_000.0), CancelOrders("okx"))
    one.advance(FULL, 70 * NS_PER_S)
    assert one.stage is Stage.WITHDRAW
    assert any("not yet hedged, patience is over" in entry.text for entry in one.trail)
    assert any("3 orders still there" in entry.text for entry in one.trail)


def test_an_exit_does_everything_at_once() -> None:
    kinds = [type(step) for step in drain(is_exit=True).advance(FULL, 0)]
    assert kinds == [Freeze, HedgeElsewhere, CancelOrders, Withdraw, Withdraw, Close]


def test_closing_waits_for_withdrawals_only_where_something_leaves() -> None:
    shut = msgspec.structs.replace(READY, lets_out=False)
    one, other = drain(), drain()
    assert [type(step) for step in one.advance(shut, 0)] == [Freeze, Withdraw, Withdraw, Close]
    one.note_closed(NS_PER_S, "10 ETH-PERP")
    assert one.advance(shut, NS_PER_S) == (Close("ETH-PERP", 10.0),)
    other.advance(READY, 0)
    assert other.advance(READY, NS_PER_S) == ()
    other.hasten(2 * NS_PER_S, "score 12")
    other.hasten(3 * NS_PER_S, "score 11")
    assert other.advance(READY, 3 * NS_PER_S) == (Close("ETH-PERP", 10.0),)
    assert [entry.text for entry in other.trail if "exit" in entry.text] == ["exit of okx: score 12"]


def test_once_ended_it_asks_for_nothing_more() -> None:
    one = drain()
    one.advance(FULL, 0)
    one.end(NS_PER_S, "score 90")
    assert one.is_done
    assert one.advance(FULL, 2 * NS_PER_S) == ()
    one.end(3 * NS_PER_S, "score 91")
    assert (one.trail[-1].at_ns, one.trail[-1].text) == (NS_PER_S, "score 90")


def test_a_chain_that_fails_rests_and_an_unknown_one_stays_busy() -> None:
    one = drain()
    one.advance(READY, 0)
    one.note_transfer("ETH", TransferState.FAILED, NS_PER_S, "suspended")
    one.note_transfer("ARB", TransferState.UNKNOWN, NS_PER_S)
    assert one.advance(READY, 2 * NS_PER_S) == ()
    [retry] = one.advance(READY, 61 * NS_PER_S)
    assert isinstance(retry, Withdraw)
    assert retry.route == "ETH"


def test_where_nothing_can_be_withdrawn_the_cheapest_margin_is_released() -> None:
    one = drain()
    one.advance(READY, 0)
    for chain in ("ETH", "ARB"):
        one.note_transfer(chain, TransferState.FAILED, NS_PER_S, "suspended")
    assert one.advance(READY, 2 * NS_PER_S) == (Close("ETH-PERP", 10.0),)  # 200 per unit of slippage against 10
    assert one.stage is Stage.CLOSE
    assert one.advance(READY, 3 * NS_PER_S) == ()
    one.note_closed(4 * NS_PER_S, "10 ETH-PERP")
    smaller = msgspec.structs.replace(READY, positions=(msgspec.structs.replace(PERP, qty_base=-4.0), PUT))
    assert one.advance(smaller, 5 * NS_PER_S) == (
        Close("ETH-PERP", 4.0),
    )  # a tenth of the first size, at most the rest
    free = msgspec.structs.replace(PUT, slippage_quote=0.0)
    one.note_closed(6 * NS_PER_S, "4 ETH-PERP")
    assert one.advance(msgspec.structs.replace(READY, positions=(PERP, free)), 7 * NS_PER_S) == (
        Close("ETH-PUT", -5.0),
    )


def test_the_hedge_elsewhere_follows_what_is_closed() -> None:
    one = drain()
    one.advance(READY, 0)
    less = msgspec.structs.replace(READY, delta_quote=-150_000.0)
    assert HedgeElsewhere(50_000.0) in one.advance(less, NS_PER_S)


def test_what_cannot_be_had_counts_at_its_recovery() -> None:
    one = drain()
    stuck = DrainView(
        delta_quote=0.0, hedged_quote=0.0, open_orders=0, held=(Held("USDC", 40.0, 1.0, ("ARB",), 50.0),), positions=()
    )
    one.advance(stuck, 0)
    assert one.is_done
    assert one.recovery_quote == pytest.approx(40.0 * 0.25)
    assert one.advance(stuck, NS_PER_S) == ()
    silent = drain()
    silent.advance(READY, 0)
    silent.advance(READY, RULES.give_up_ns)
    assert silent.is_done
    assert silent.recovery_quote == pytest.approx((100_000.0 + 20_000.0 + 25_000.0) * 0.25)
    assert "no progress" in silent.trail[-1].text


def test_an_unknown_delta_or_price_is_named_and_does_not_stop_it() -> None:
    one = drain()
    odd = msgspec.structs.replace(READY, delta_quote=nan, held=(msgspec.structs.replace(USDC, px=nan), ETH))
    steps = one.advance(odd, 0)
    assert any("delta is not known" in entry.text for entry in one.trail)
    assert [step.asset for step in steps if isinstance(step, Withdraw)] == ["ETH", "ETH"]
    one.note_transfer("ETH", TransferState.ARRIVED, 1)
    gone = msgspec.structs.replace(odd, held=odd.held[:1])
    assert [step.asset for step in one.advance(gone, 2) if isinstance(step, Withdraw)] == ["USDC"]


def test_only_who_has_to_be_drained_is() -> None:
    actions = {"a": "none", "b": "stop_adding", "c": "drain", "d": "exit"}
    assert wants_drain(actions, {"d": drain()}) == ("c",)


@pytest.mark.parametrize("rungs", [(), (0.5,), (0.0, 1.0), (0.5, 0.2, 1.0), (1.0, 1.0)])
def test_rungs_that_never_finish_are_refused(rungs: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rungs that rise from above 0 to 1"):
        DrainRules(rungs=rungs)


OUTCOMES = st.one_of(  # nothing works; or more works than not, in any order
    st.just([TransferState.FAILED]),
    st.lists(st.sampled_from([TransferState.ARRIVED, TransferState.FAILED, TransferState.UNKNOWN]), max_size=8).map(
        lambda some: [*some, *[TransferState.ARRIVED] * (1 + some.count(TransferState.FAILED))]
    ),
)


class Account:
    """A venue as far as a drain sees it: it carries out every step, and transfers end as the script says."""

    def __init__(self, script: list[TransferState]) -> None:
        self.script = script
        self.free = {"USDC": 100_000.0, "ETH": 10.0}
        self.qty = {"ETH-PERP": -100.0, "ETH-PUT": 50.0}
        self.hedged = 0.0
        self.orders = 3
        self.out = {"USDC": 0.0, "ETH": 0.0}
        self.number = 0

    def view(self) -> DrainView:
        opens = [(one, self.qty[one.instrument_id]) for one in (PERP, PUT)]
        return DrainView(
            delta_quote=self.qty["ETH-PERP"] * 2_000.0,
            hedged_quote=self.hedged,
            open_orders=self.orders,
            held=tuple(msgspec.structs.replace(one, free=self.free[one.asset]) for one in (USDC, ETH)),
            positions=tuple(
                Open(one.instrument_id, q, one.margin_quote * q / one.qty_base, one.slippage_quote * q / one.qty_base)
                for one, q in opens
                if abs(q) > 1e-9
            ),
        )

    def do(self, one: Drain, step: Step, now_ns: int) -> None:
        if isinstance(step, HedgeElsewhere):
            self.hedged += step.delta_quote
        elif isinstance(step, CancelOrders):
            self.orders = 0
        elif isinstance(step, Close):
            before = self.view().positions
            self.qty[step.instrument_id] += step.qty_base
            released = sum(p.margin_quote for p in before) - sum(p.margin_quote for p in self.view().positions)
            assert released >= 0.0
            self.free["USDC"] += released
            one.note_closed(now_ns, step.instrument_id)
        elif isinstance(step, Withdraw):
            assert 0.0 < step.amount <= self.free[step.asset] + 1e-9
            state = self.script[self.number % len(self.script)]
            self.number += 1
            if state is TransferState.UNKNOWN:
                one.note_transfer(step.route, state, now_ns)
                state = TransferState.ARRIVED
            if state is TransferState.ARRIVED:
                self.free[step.asset] -= step.amount
                self.out[step.asset] += step.amount
            one.note_transfer(step.route, state, now_ns)


@settings(max_examples=25, deadline=None)
@given(OUTCOMES)
def test_every_drain_ends_and_brings_out_what_the_chains_let_out(script: list[TransferState]) -> None:
    account, one, now_ns = Account(script), drain(), 0
    for _ in range(1_600):
        for step in one.advance(account.view(), now_ns):
            account.do(one, step, now_ns)
        if one.is_done:
            break
        now_ns += 61 * NS_PER_S
    assert one.is_done
    assert all(abs(quantity) < 1e-9 for quantity in account.qty.values())  # closing needs no chain
    assert account.hedged == pytest.approx(0.0, abs=RULES.hedge_tolerance_quote)
    if TransferState.FAILED not in script:
        assert account.free["USDC"] < 50.0
        assert account.out["USDC"] > 124_900.0
        assert one.unrecovered_quote < 100.0
