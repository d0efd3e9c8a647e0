"""Transfers at a venue, through the real ccxt: sent at most once, whatever is lost, killed or refused on the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ccxt.pro
import msgspec
import pytest

from bot.domain.events import Event
from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S
from bot.gateways.exchange import Credentials, VenueSettings, open_exchange
from bot.gateways.transfers import Address, LiveRoute, LiveTransferSettings, TransferDesk
from tests.gateways.watched import WallClock
from tests.runtime.command_line import PATIENCE_S
from tests.venues.binance import usdm_book
from tests.venues.faults import FaultScript, RequestFault, drop_reply, drop_request, garbage, http, silence
from tests.venues.passing import let_pass
from tests.venues.treasury import FAILED, Treasury

HOME = "0x00000000000000000000000000000000000000aa"
ELSEWHERE = "0x00000000000000000000000000000000000000bb"
SETTINGS = LiveTransferSettings(
    addresses=(
        Address(label="b-usdc", address=HOME, network="ARBONE"),
        Address(label="wallet", address=ELSEWHERE, network="ERC20"),
    ),
    routes=(
        LiveRoute(name="ARB", asset="USDC", from_venue="a", to_venue="b", address_label="b-usdc"),
        LiveRoute(name="ETH", asset="USDC", from_venue="a", to_venue="wallet", address_label="wallet", is_wallet=True),
        LiveRoute(
            name="inside", asset="USDT", from_venue="a", to_venue="a-futures", from_account="spot", to_account="linear"
        ),
    ),
    max_amounts={"USDC": 5_000.0, "USDT": 5_000.0},
    day_caps={"USDC": 8_000.0, "USDT": 8_000.0},
    execute=True,
    poll_ns=10 * NS_PER_MS,
    absence_ns=NS_PER_HOUR,
)


def command(number: int = 1, amount: float = 1_000.0, **changes: Any) -> TransferCollateral:
    plain = TransferCollateral(f"0123456789-T{number}", "USDC", amount, "a", "b", "ARB", "top up")
    return msgspec.structs.replace(plain, **changes)


class Rig:
    """Two venues, a desk between them, and what it told. `die` is what a kill leaves: nothing but the venues."""

    def __init__(self, a: Treasury, b: Treasury) -> None:
        self.a, self.b = a, b
        self.clock = WallClock()
        self.told: list[TransferUpdate] = []
        self.exchanges: dict[str, ccxt.pro.Exchange] = {}
        self.desk: TransferDesk
        self._task: asyncio.Task[None] | None = None

    def start(self, settings: LiveTransferSettings = SETTINGS) -> None:
        for venue, server in (("a", self.a), ("b", self.b)):
            options = VenueSettings(
                venue=venue,
                exchange_id="binanceusdm",
                underlyings=frozenset({"ETH"}),
                options=server.options,
                timeout_ns=round(PATIENCE_S * NS_PER_S),
            )
            self.exchanges[venue] = open_exchange(options, Credentials(**server.credentials))
        self.desk = TransferDesk(self.exchanges, settings, self.clock, self.put)
        self._task = asyncio.create_task(self.desk.run())

    async def die(self) -> None:
        if self._task is not None:
            running = [self._task, *self.desk._running]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        for exchange in self.exchanges.values():
            await exchange.close()

    def put(self, events: Sequence[Event]) -> None:
        self.told += [event for event in events if isinstance(event, TransferUpdate)]

    def states(self, transfer_id: str = "0123456789-T1") -> list[str]:
        return [one.state.value for one in self.told if one.transfer_id == transfer_id]

    async def until(self, state: TransferState, count: int = 1) -> TransferUpdate:
        await self.soon(lambda: sum(one.state is state for one in self.told) >= count, str(state))
        return [one for one in self.told if one.state is state][count - 1]

    async def soon(self, condition: Callable[[], Any], what: str = "it") -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"expected {what}, found {self.told} and {self.a.calls[-5:]}"
            await asyncio.sleep(0.002)

    def sent(self) -> int:
        return len(self.a.withdrawals)


@asynccontextmanager
async def rigged(settings: LiveTransferSettings | None = SETTINGS) -> AsyncIterator[Rig]:
    async with Treasury(usdm_book(), faults=FaultScript()) as a, Treasury(usdm_book()) as b:
        a.weight_limit = b.weight_limit = 1_000_000  # they are asked every 10 ms
        rig = Rig(a, b)
        if settings is not None:
            rig.start(settings)
        try:
            yield rig
        finally:
            if rig.exchanges:
                await rig.die()


def but(**changes: Any) -> LiveTransferSettings:
    return msgspec.structs.replace(SETTINGS, **changes)


async def test_it_leaves_once_and_counts_when_the_other_venue_credits_it() -> None:
    async with rigged() as rig:
        rig.desk.submit(command())
        rig.desk.submit(command())  # the same id again
        await rig.until(TransferState.SENT)
        [row] = rig.a.withdrawals
        assert (row["address"], row["network"], row["withdrawOrderId"]) == (HOME, "ARBITRUM", "0123456789T1")
        rig.a.leave()
        await asyncio.sleep(0.05)
        assert rig.states() == ["sent"]  # completed by the one is not credited by the other
        rig.b.deposit(row)
        arrived = await rig.until(TransferState.ARRIVED)
        assert (arrived.amount, arrived.fee) == (999.0, 1.0)
        rig.desk.submit(command())
        await asyncio.sleep(0.05)
        assert rig.sent() == 1


@pytest.mark.parametrize(
    ("fault", "arrived"),
    [
        (drop_reply(), True),
        (drop_request(), False),
        (silence(), True),
        (http(502, is_executed=True), True),
        (garbage(is_executed=False), False),
    ],
    ids=["reply lost", "request lost", "no answer", "gateway error", "nonsense"],
)
async def test_a_lost_answer_is_unknown_and_never_sent_again(fault: RequestFault, arrived: bool) -> None:
    async with rigged() as rig:
        rig.a.faults.next("withdraw", fault)
        rig.desk.submit(command())
        if fault.is_silent:
            await rig.soon(lambda: rig.sent() == 1)
            let_pass(PATIENCE_S + 1.0)
        await rig.until(TransferState.UNKNOWN)
        if arrived:
            await rig.until(TransferState.SENT)
        else:
            await asyncio.sleep(0.05)
            assert rig.states() == ["unknown"]  # not listed yet proves nothing
            rig.clock.ahead_ns = NS_PER_HOUR
            failed = await rig.until(TransferState.FAILED)
            assert "never got it" in failed.reason
        assert rig.a.faults.asked["withdraw"] == 1


async def test_what_is_listed_after_it_was_given_up_is_taken_up_again() -> None:
    async with rigged() as rig:
        rig.a.is_listing = False
        rig.a.faults.next("withdraw", drop_reply())
        rig.desk.submit(command())
        await rig.until(TransferState.UNKNOWN)
        rig.clock.ahead_ns = NS_PER_HOUR
        await rig.until(TransferState.FAILED)
        rig.a.is_listing = True
        await rig.until(TransferState.SENT)
        assert rig.states() == ["unknown", "failed", "sent"]
        assert rig.sent() == 1


@pytest.mark.parametrize("step", ["before", "asked", "sending", "sent", "completed"])
async def test_a_kill_at_any_step_sends_nothing_twice_and_loses_nothing(step: str) -> None:
    async with rigged(None) as rig:
        if step != "before":
            rig.start()
            if step == "asked":
                rig.a.faults.next("withdrawals", silence())
            elif step == "sending":
                rig.a.faults.next("withdraw", silence())
            rig.desk.submit(command())
            if step == "asked":
                await rig.soon(lambda: rig.a.faults.asked.get("withdrawals"))
            else:
                await rig.soon(lambda: rig.sent() == 1)
            if step in {"sent", "completed"}:
                await rig.until(TransferState.SENT)
            if step == "completed":
                rig.b.deposit(rig.a.leave())
            await rig.die()
        left = rig.sent()
        rig.told.clear()
        rig.start()
        planned_ns = rig.clock.now_ns() - NS_PER_S
        rig.desk.resume([command(planned_ns=planned_ns)], rig.clock.now_ns())
        rig.desk.submit(command())  # told again by mistake: it is asked about
        if left:
            if step != "completed":
                await rig.until(TransferState.SENT)
                rig.b.deposit(rig.a.leave())
            await rig.until(TransferState.ARRIVED)
        else:
            await asyncio.sleep(0.05)
            assert rig.states() == []
            rig.clock.ahead_ns = NS_PER_HOUR
            assert "never got it" in (await rig.until(TransferState.FAILED)).reason
        assert rig.sent() == left


async def test_an_id_the_venue_has_is_not_sent_though_nobody_remembers_it() -> None:
    async with rigged() as rig:
        rig.desk.submit(command())
        await rig.until(TransferState.SENT)
        await rig.die()
        rig.start()
        rig.desk.submit(command())  # as if the journal had lost it
        again = await rig.until(TransferState.SENT, 2)
        assert "sent before" in again.reason
        assert rig.sent() == 1


async def test_where_nothing_can_be_asked_nothing_is_sent() -> None:
    async with rigged() as rig:
        rig.a.faults.always("withdrawals", http(503))
        rig.desk.submit(command())
        await rig.soon(lambda: rig.told or let_pass(0.05))  # it pauses between three tries
        failed = await rig.until(TransferState.FAILED)
        assert "cannot be asked first" in failed.reason
        assert "withdraw" not in rig.a.faults.asked


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (command(to_venue="c"), "not whitelisted"),
        (command(route="TRX"), "not whitelisted"),
        (command(amount=5_000.01), "at most 5000 USDC at a time"),
        (command(amount=float("nan")), "positive amount"),
        (command(amount=-1.0), "positive amount"),
    ],
)
async def test_what_is_not_allowed_never_reaches_the_venue(wrong: TransferCollateral, says: str) -> None:
    async with rigged() as rig:
        rig.desk.submit(wrong)
        assert says in (await rig.until(TransferState.FAILED)).reason
        assert rig.a.calls == []


async def test_the_cap_of_a_day_holds_and_what_was_refused_does_not_count() -> None:
    async with rigged() as rig:
        rig.a.is_withdrawing = False
        rig.desk.submit(command(1, 5_000.0))
        assert "suspended" in (await rig.until(TransferState.FAILED)).reason
        rig.a.is_withdrawing = True
        rig.desk.submit(command(2, 5_000.0))
        await rig.until(TransferState.SENT)
        rig.desk.submit(command(3, 3_000.01))
        assert "8000 USDC in 24 h" in (await rig.until(TransferState.FAILED, 2)).reason
        rig.desk.submit(command(4, 3_000.0))
        await rig.until(TransferState.SENT, 2)
        assert [row["amount"] for row in rig.a.withdrawals] == ["4999", "2999"]


async def test_an_amount_that_would_leave_otherwise_is_not_sent() -> None:
    async with rigged() as rig:
        rig.desk.submit(command(amount=100.0000009))  # the network takes six decimals
        failed = await rig.until(TransferState.FAILED)
        assert "would leave" in failed.reason
        assert rig.sent() == 0


async def test_a_large_transfer_waits_for_a_person_who_repeats_its_amount() -> None:
    async with rigged(but(confirm_above={"USDC": 500.0})) as rig:
        rig.desk.submit(command())
        assert "waits for a person" in (await rig.until(TransferState.PLANNED)).reason
        await asyncio.sleep(0.05)
        assert rig.a.calls == []
        assert "expected 1000 USDC, found 100: not sent" in rig.desk.confirm("0123456789-T1", 100.0)
        assert "waits for no confirmation" in rig.desk.confirm("0123456789-T9", 1_000.0)
        assert rig.desk.held == ("0123456789-T1",)
        by_hand = rig.desk.note_by_hand("0123456789-T1", TransferState.SENT, None, 0.0, "ada")
        assert "waits for a confirmation" in by_hand
        assert rig.desk.confirm("0123456789-T1", 1_000.0, "ada") == ""
        assert (rig.told[-1].state, rig.told[-1].reason) == (TransferState.PLANNED, "confirmed by ada")
        assert rig.desk.held == ()
        await rig.until(TransferState.SENT)
        assert "waits for no confirmation" in rig.desk.confirm("0123456789-T1", 1_000.0)


async def test_a_withdrawal_that_fails_or_goes_elsewhere_is_told() -> None:
    async with rigged() as rig:
        rig.desk.submit(command(1))
        await rig.until(TransferState.SENT)
        rig.a.leave(0, FAILED)
        assert "says failed" in (await rig.until(TransferState.FAILED)).reason
        rig.desk.submit(command(2))
        await rig.until(TransferState.SENT, 2)
        rig.a.withdrawals[1]["address"] = ELSEWHERE
        odd = await rig.until(TransferState.UNKNOWN)
        assert "a person must look" in odd.reason


async def test_an_arrival_that_disappears_is_reversed_and_may_come_again() -> None:
    async with rigged() as rig:
        rig.desk.submit(command())
        await rig.until(TransferState.SENT)
        row = rig.a.leave()
        rig.b.deposit(row)
        await rig.until(TransferState.ARRIVED)
        rig.b.deposits.clear()
        assert "lists it no more" in (await rig.until(TransferState.REVERSED)).reason
        rig.b.deposit(row)
        await rig.until(TransferState.ARRIVED, 2)


async def test_a_stranger_of_the_same_amount_is_not_our_arrival() -> None:
    async with rigged() as rig:
        rig.desk.submit(command())
        await rig.until(TransferState.SENT)
        row = rig.a.leave()
        rig.b.deposit({**row, "txId": "0xanother"})
        await asyncio.sleep(0.05)
        assert rig.states() == ["sent"]


async def test_a_wallet_is_not_asked_and_an_internal_transfer_is_there_at_once() -> None:
    async with rigged() as rig:
        rig.desk.submit(command(1, route="ETH", to_venue="wallet"))
        await rig.until(TransferState.SENT)
        rig.a.leave()
        arrived = await rig.until(TransferState.ARRIVED)
        assert (arrived.amount, "wallet was not asked" in arrived.reason) == (999.0, True)
        rig.desk.submit(command(2, asset="USDT", route="inside", to_venue="a-futures"))
        assert (await rig.until(TransferState.ARRIVED, 2)).amount == 1_000.0
        rig.a.faults.next("transfer", drop_reply())
        rig.desk.submit(command(3, 700.0, asset="USDT", route="inside", to_venue="a-futures"))
        await rig.until(TransferState.UNKNOWN)
        await rig.until(TransferState.ARRIVED, 3)
        assert [row["amount"] for row in rig.a.moved] == ["1000", "700"]


async def test_an_internal_transfer_that_a_venue_has_not_finished_has_not_arrived() -> None:
    async with rigged() as rig:
        rig.a.move_status = "PENDING"
        rig.a.faults.next("transfer", drop_reply())
        rig.desk.submit(command(asset="USDT", route="inside", to_venue="a-futures"))
        await rig.until(TransferState.SENT)
        await asyncio.sleep(0.05)
        assert rig.states() == ["unknown", "sent"]
        rig.a.moved[0]["status"] = "CONFIRMED"
        await rig.until(TransferState.ARRIVED)
        rig.a.move_status = "FAILED"
        rig.a.faults.next("transfer", drop_reply())
        rig.desk.submit(command(2, 700.0, asset="USDT", route="inside", to_venue="a-futures"))
        assert "says failed" in (await rig.until(TransferState.FAILED)).reason


async def test_an_id_that_ended_long_ago_is_asked_about_and_not_sent_again() -> None:
    async with rigged(but(final_ns=0)) as rig:
        for _ in range(2):
            rig.desk.submit(command(asset="USDT", route="inside", to_venue="a-futures"))
            await rig.until(TransferState.ARRIVED)
            await rig.soon(lambda: not rig.desk._tasks)  # it is forgotten
        await asyncio.sleep(0.05)
        assert len(rig.a.moved) == 1


@pytest.mark.parametrize("wrong", ["max_amounts", "day_caps", "confirm_above"])
async def test_a_cap_that_is_no_number_lets_nothing_through(wrong: str) -> None:
    async with rigged(but(**{wrong: {"USDC": float("nan")}})) as rig:
        rig.desk.submit(command())
        await rig.soon(lambda: rig.told)
        await asyncio.sleep(0.02)
        assert rig.sent() == 0


async def test_instructions_count_against_the_cap_of_a_day_until_a_person_says_they_failed() -> None:
    async with rigged(but(execute=False)) as rig:
        rig.desk.submit(command(1, 5_000.0))
        rig.desk.submit(command(2, 5_000.0))
        assert "8000 USDC in 24 h" in (await rig.until(TransferState.FAILED)).reason
        assert rig.states() == ["planned"]
        assert rig.desk.note_by_hand("0123456789-T1", TransferState.FAILED, 0.0, 0.0, "not done") == ""
        rig.desk.submit(command(3, 5_000.0))
        assert rig.states("0123456789-T3") == ["planned"]


async def test_without_execute_a_person_is_told_and_their_transfer_is_found(tmp_path: Path) -> None:
    async with rigged(but(execute=False, export_folder=str(tmp_path))) as rig:
        rig.desk.submit(command())
        assert "by a person" in (await rig.until(TransferState.PLANNED)).reason
        await asyncio.sleep(0.05)
        assert "withdraw" not in rig.a.faults.asked
        [line] = (tmp_path / "transfers.jsonl").read_text().splitlines()
        assert json.loads(line)["address"] == HOME
        assert HOME in (tmp_path / "transfers.txt").read_text()
        await rig.exchanges["a"].withdraw("USDC", 1_000.0, HOME, {"network": "ARBONE"})  # by hand, without an id
        await rig.until(TransferState.SENT)
        rig.b.deposit(rig.a.leave())
        await rig.until(TransferState.ARRIVED)


async def test_what_nobody_lists_has_not_arrived_until_a_person_says_so() -> None:
    async with rigged(None) as rig:
        rig.start()
        rig.desk._exchanges.pop("b")  # no keys for the destination
        rig.desk.submit(command())
        await rig.until(TransferState.SENT)
        rig.a.leave()
        await asyncio.sleep(0.05)
        assert rig.states() == ["sent"]  # completed there is not credited here
        say = rig.desk.note_by_hand
        assert "at most 1000" in say("0123456789-T1", TransferState.ARRIVED, 1_001.0, 0.0, "seen")
        assert "not under way" in say("0123456789-T9", TransferState.ARRIVED, 1.0, 0.0, "seen")
        assert say("0123456789-T1", TransferState.ARRIVED, 998.0, 2.0, "seen on the page of b") == ""
        arrived = await rig.until(TransferState.ARRIVED)
        assert (arrived.amount, arrived.fee, "by hand" in arrived.reason) == (998.0, 2.0, True)


async def test_a_restart_without_a_time_looks_back_far_enough_for_what_arrived_meanwhile() -> None:
    async with rigged() as rig:
        rig.desk.submit(command())
        await rig.until(TransferState.SENT)
        rig.b.deposit(rig.a.leave())
        await rig.die()
        rig.told.clear()
        rig.clock.ahead_ns = NS_PER_HOUR  # asked about an hour later
        rig.start()
        rig.desk.resume([command()], rig.clock.now_ns())
        assert (await rig.until(TransferState.ARRIVED)).amount == 999.0


def test_settings_that_cannot_be_are_one_clear_error() -> None:
    nowhere = LiveRoute(name="X", asset="USDC", from_venue="a", to_venue="b", address_label="typo")
    neither = LiveRoute(name="X", asset="USDC", from_venue="a", to_venue="b")
    with pytest.raises(ValueError, match="expected an address of b-usdc, wallet, found 'typo'"):
        TransferDesk({}, but(routes=(nowhere,)), WallClock(), lambda _: None)
    with pytest.raises(ValueError, match="either an address label or two accounts"):
        TransferDesk({}, but(routes=(neither,)), WallClock(), lambda _: None)
