"""Transfers: nothing outside the rules leaves, nothing leaves twice, and what is under way is lent to somebody."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN
from bot.risk.transfers import NoticeKind, NotMoved, Route, TransferBook, TransferRules, command_of

ARBITRUM = Route(
    name="ARB",
    asset="USDC",
    from_venue="okx",
    to_venue="deribit",
    address_label="deribit-usdc",
    p95_ns=10 * NS_PER_MIN,
    fee=1.0,
    min_amount=10.0,
    max_amount=50_000.0,
    test_amount=20.0,
    bridge="arbitrum-bridge",
    reversible_ns=NS_PER_HOUR,
)
ETHEREUM = Route(
    name="ETH",
    asset="USDC",
    from_venue="okx",
    to_venue="deribit",
    address_label="deribit-usdc",
    p95_ns=20 * NS_PER_MIN,
    min_amount=10.0,
)
RULES = TransferRules(routes=(ARBITRUM, ETHEREUM), day_caps={"USDC": 100_000.0})


def book() -> TransferBook:
    return TransferBook("run", RULES)


def send(transfers: TransferBook, amount: float = 30_000.0, route: str = "ARB", now_ns: int = 0) -> TransferCollateral:
    command = transfers.plan("USDC", amount, "okx", "deribit", route, "top up", now_ns)
    assert isinstance(command, TransferCollateral), command
    return command


def refused(transfers: TransferBook, amount: float, route: str = "ARB", now_ns: int = 0, **names: str) -> NotMoved:
    ends = {"asset": "USDC", "from_venue": "okx", "to_venue": "deribit"} | names
    found = transfers.plan(ends["asset"], amount, ends["from_venue"], ends["to_venue"], route, "top up", now_ns)
    assert isinstance(found, NotMoved), found
    return found


def tell(transfers: TransferBook, name: str, state: TransferState, now_ns: int, amount: float = 0.0) -> str:
    update = TransferUpdate(name, state, "USDC", amount, 1.0, "okx", "deribit", "ARB", "", now_ns, now_ns)
    return transfers.note(update, now_ns)


def prove(transfers: TransferBook) -> None:
    """Let a first test arrive over Arbitrum."""
    test = send(transfers)
    tell(transfers, test.transfer_id, TransferState.ARRIVED, 0, 19.0)


def test_the_first_transfer_over_a_route_is_a_test_and_the_rest_waits_for_it() -> None:
    transfers = book()
    test = send(transfers)
    assert (test.transfer_id, test.amount) == ("run-T1", 20.0)
    assert "a test first" in test.reason
    assert refused(transfers, 30_000.0).rule == "one_outstanding"
    assert tell(transfers, "run-T1", TransferState.SENT, 1) == ""
    assert tell(transfers, "run-T1", TransferState.ARRIVED, 2, 19.0) == ""
    rest = send(transfers, 29_980.0)
    assert (rest.transfer_id, rest.amount) == ("run-T2", 29_980.0)


def test_only_whitelisted_routes_and_capped_assets_are_moved() -> None:
    transfers = book()
    assert refused(transfers, 100.0, route="TRX").rule == "whitelist"
    assert refused(transfers, 100.0, to_venue="binance").rule == "whitelist"
    assert refused(transfers, 100.0, asset="BTC").rule == "whitelist"
    uncapped = TransferBook("run", TransferRules(routes=(ETHEREUM,), day_caps={}))
    assert refused(uncapped, 100.0, route="ETH").rule == "cap"
    for amount in (0.0, -5.0, float("nan"), float("inf")):
        assert refused(transfers, amount).rule == "amount"
    assert refused(transfers, 5.0, route="ETH").rule == "cap"  # under the route's minimum
    assert len(transfers) == 0


def test_the_cap_of_a_day_counts_what_is_under_way_and_not_what_failed() -> None:
    transfers = book()
    first = send(transfers, 80_000.0, "ETH")
    tell(transfers, first.transfer_id, TransferState.ARRIVED, 1, 80_000.0)
    second = send(transfers, 80_000.0, "ETH", now_ns=NS_PER_HOUR)
    assert second.amount == pytest.approx(20_000.0)
    assert "the cap leaves no more" in second.reason
    assert tell(transfers, second.transfer_id, TransferState.FAILED, NS_PER_HOUR) == ""
    assert transfers.left_today("USDC", NS_PER_HOUR) == pytest.approx(20_000.0)
    assert transfers.left_today("USDC", NS_PER_DAY) == pytest.approx(100_000.0)


def test_late_is_told_once_and_twice_as_late_is_planned_another_way() -> None:
    transfers = book()
    prove(transfers)
    late = send(transfers)
    tell(transfers, late.transfer_id, TransferState.SENT, 0)
    assert transfers.review(9 * NS_PER_MIN) == ()
    [notice] = transfers.review(10 * NS_PER_MIN)
    assert (notice.kind, notice.party) == (NoticeKind.LATE, "arbitrum-bridge")
    assert transfers.review(11 * NS_PER_MIN) == ()
    [notice] = transfers.review(20 * NS_PER_MIN)
    assert notice.kind is NoticeKind.REPLAN
    assert [route.name for route in transfers.routes("USDC", "okx", "deribit")] == ["ETH"]
    assert refused(transfers, 30_000.0).rule == "route_stuck"
    other = send(transfers, 30_000.0, "ETH", now_ns=20 * NS_PER_MIN)
    assert transfers.in_flight("USDC") == late.amount  # the new one has not left yet
    tell(transfers, other.transfer_id, TransferState.SENT, 21 * NS_PER_MIN)
    tell(transfers, late.transfer_id, TransferState.ARRIVED, 22 * NS_PER_MIN, 29_999.0)
    assert [route.name for route in transfers.routes("USDC", "okx", "deribit")] == ["ARB", "ETH"]


def test_what_is_under_way_is_lent_to_everybody_who_could_lose_it() -> None:
    transfers = book()
    command = send(transfers)
    assert transfers.lent() == ()  # its command may not have left, so the venue still holds it
    tell(transfers, command.transfer_id, TransferState.SENT, 0)
    assert {(lent.party, lent.kind) for lent in transfers.lent()} == {
        ("okx", "pending_withdrawal"),
        ("deribit", "in_flight"),
        ("arbitrum-bridge", "bridge"),
    }
    assert transfers.in_flight("USDC") == 20.0  # once
    tell(transfers, command.transfer_id, TransferState.ARRIVED, 1, 19.0)
    assert transfers.lent() == ()


def test_a_reorg_takes_an_arrival_back_and_it_may_arrive_again() -> None:
    transfers = book()
    prove(transfers)
    assert [one.transfer_id for one in transfers.reversible(NS_PER_MIN)] == ["run-T1"]
    assert transfers.reversible(NS_PER_HOUR) == ()
    assert tell(transfers, "run-T1", TransferState.REVERSED, NS_PER_MIN) == ""
    assert transfers["run-T1"].credited == 0.0
    assert {lent.party for lent in transfers.lent()} >= {"okx", "deribit"}
    assert [notice.kind for notice in transfers.review(21 * NS_PER_MIN)] == [NoticeKind.LATE, NoticeKind.REPLAN]
    assert tell(transfers, "run-T1", TransferState.ARRIVED, 22 * NS_PER_MIN, 19.0) == ""
    assert transfers["run-T1"].credited == 19.0


def test_late_and_repeated_words_change_nothing_and_a_failure_can_turn_out_not_to_be_one() -> None:
    transfers = book()
    prove(transfers)
    assert "is arrived already" in tell(transfers, "run-T1", TransferState.SENT, 5)
    assert "is arrived already" in tell(transfers, "run-T1", TransferState.ARRIVED, 5, 19.0)
    assert "no transfer of this run" in tell(transfers, "run-T9", TransferState.SENT, 5)
    second = send(transfers)
    assert "expected at most" in tell(transfers, second.transfer_id, TransferState.ARRIVED, 5, 40_000.0)
    assert "expected at most" in tell(transfers, second.transfer_id, TransferState.ARRIVED, 5, float("nan"))
    assert tell(transfers, second.transfer_id, TransferState.FAILED, 6) == ""
    assert tell(transfers, second.transfer_id, TransferState.SENT, 7) == ""
    assert transfers.in_flight("USDC") == 30_000.0


def test_a_restart_asks_about_everything_outstanding_and_sends_nothing_again() -> None:
    transfers = book()
    prove(transfers)
    planned = send(transfers, now_ns=7)  # the command may have left when the process died
    [asked] = transfers.restart(NS_PER_MIN)
    assert asked == planned
    assert command_of(transfers[planned.transfer_id]) == planned
    assert asked.planned_ns == 7
    assert transfers[planned.transfer_id].state is TransferState.UNKNOWN
    assert refused(transfers, 30_000.0).rule == "one_outstanding"
    assert transfers.in_flight("USDC") == 30_000.0
    assert tell(transfers, planned.transfer_id, TransferState.FAILED, 2 * NS_PER_MIN) == ""
    assert send(transfers, now_ns=2 * NS_PER_MIN).transfer_id == "run-T3"


def test_an_unanswered_transfer_is_asked_about() -> None:
    transfers = book()
    send(transfers)
    assert transfers.review(59 * NS_PER_MIN // 60) == ()
    [notice] = transfers.review(NS_PER_MIN)
    assert (notice.kind, notice.transfer_id, notice.party) == (NoticeKind.ASK, "run-T1", "okx")
    assert transfers.review(2 * NS_PER_MIN) == ()


def test_no_more_digits_leave_than_a_network_carries() -> None:
    transfers = book()
    prove(transfers)
    assert send(transfers, 1_234.567891234).amount == 1_234.567891
    tenths = msgspec.structs.replace(ETHEREUM, step_amount=0.1)
    coarse = TransferBook("run", TransferRules(routes=(tenths,), day_caps={"USDC": 100.3}))
    assert send(coarse, 500.0, "ETH").amount == 100.3  # a whole number of steps, whatever floats make of it


def test_memory_is_bounded() -> None:
    transfers = book()
    prove(transfers)
    assert transfers.forget(NS_PER_DAY - 1) == 0
    assert transfers.forget(NS_PER_DAY + 1) == 1
    assert send(transfers, now_ns=NS_PER_DAY + 1).amount == 30_000.0  # the route stays proven
    assert transfers.forget(10 * NS_PER_DAY) == 0


def test_a_route_twice_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="found one twice"):
        TransferBook("run", TransferRules(routes=(ARBITRUM, ARBITRUM), day_caps={}))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["plan", "tell", "restart", "review"]),
        st.integers(0, 5),
        st.sampled_from(list(TransferState)),
        st.floats(1.0, 90_000.0),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_one_pair_has_one_live_transfer_and_no_day_exceeds_its_cap(
    steps: list[tuple[str, int, TransferState, float]],
) -> None:
    transfers = book()
    now_ns, ids = 0, list[str]()
    for what, which, state, amount in steps:
        now_ns += NS_PER_MIN
        if what == "plan":
            found = transfers.plan("USDC", amount, "okx", "deribit", ("ARB", "ETH")[which % 2], "top up", now_ns)
            if isinstance(found, TransferCollateral):
                ids.append(found.transfer_id)
        elif what == "tell" and ids:
            name = ids[which % len(ids)]
            if transfers[name].is_outstanding:  # what had ended and comes back was nobody's to refuse
                tell(transfers, name, state, now_ns, transfers[name].amount)
        elif what == "restart":
            transfers.restart(now_ns)
        else:
            transfers.review(now_ns)
        assert sum(not one.is_replanned for one in transfers.outstanding) <= 1
        counted = [transfers[name] for name in ids if transfers[name].state is not TransferState.FAILED]
        assert sum(one.amount for one in counted) <= 100_000.0 + 1e-6
    assert len(set(ids)) == len(ids)
