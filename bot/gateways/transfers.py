"""Transfers of collateral carried out at venues: to whitelisted addresses, within caps, each sent at most once.

An answer that was lost is UNKNOWN and asked about by our own id; nothing is sent again under it or under another.
Before anything leaves, the venue is asked whether it has that id already, so a restart cannot send twice either.
Without `execute` nothing leaves at all: the transfer is exported as an instruction, and watched for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Final, TypeVar

import ccxt
import ccxt.pro
import msgspec
import structlog

from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S
from bot.gateways.gateway import Clock, Put
from bot.gateways.outcomes import Outcome, outcome_of
from bot.gateways.sending import Attempt, cancellable, send_once
from bot.gateways.transfer_export import export, instruction_of
from bot.gateways.transfer_words import (
    Raw,
    TransferWords,
    fee_of,
    find_deposit,
    find_transfer,
    id_of,
    is_same_amount,
    is_what_left,
    moved_status_of,
    status_of,
    time_of,
    transfer_words_of,
)
from bot.gateways.venue_calls import Failure, ms_of

T = TypeVar("T")
_LOOKS_TO_BELIEVE_ABSENCE: Final = 2
_LOOK_UP_TRIES: Final = 3
_LOOK_UP_PAUSE_S: Final = 0.5
_LOOK_BACK_NS: Final = 2 * NS_PER_DAY

log = structlog.get_logger()


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A place that may be sent to, by label in the vault file. An address is no secret; the key that sends is."""

    label: str
    address: str
    network: str  # ccxt's unified code: ERC20, ARBONE …
    tag: str = ""


class LiveRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One way that may be taken. With an address label it is a withdrawal, with accounts a transfer inside a venue.

    A wallet lists no deposits: what left for one has arrived once the venue it left calls it completed. Anywhere else
    it has arrived when the destination says so, and not before.
    """

    name: str
    asset: str
    from_venue: str
    to_venue: str
    address_label: str = ""
    from_account: str = ""
    to_account: str = ""
    is_wallet: bool = False


class LiveTransferSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be executed. `max_amounts` is per transfer and `day_caps` per 24 hours, both by asset.

    What has no cap is not sent. A transfer of more than `confirm_above` waits until a person confirms its id and
    amount. `absence_ns` is how long a venue may take to list a withdrawal, `final_ns` how long an end is still watched.
    """

    addresses: tuple[Address, ...]
    routes: tuple[LiveRoute, ...]
    max_amounts: dict[str, float]
    day_caps: dict[str, float]
    confirm_above: dict[str, float] = {}
    execute: bool = False
    export_folder: str = ""
    poll_ns: int = 15 * NS_PER_S
    absence_ns: int = 10 * NS_PER_MIN
    final_ns: int = 60 * NS_PER_MIN


class _Task(msgspec.Struct):
    command: TransferCollateral
    route: LiveRoute
    address: Address | None
    since_ns: int  # it is looked for from here on
    asked_ns: int  # it was sent, or taken up again; what is absent long after this never left
    state: TransferState = TransferState.PLANNED
    is_exported: bool = False
    may_have_left: bool = False
    is_held: bool = False
    looks: int = 0
    fee: float = 0.0
    txid: str = ""
    deposit: str = ""
    venue_id: str = ""  # what the venue calls it
    ended_ns: int = 0

    @property
    def is_internal(self) -> bool:
        return self.address is None


class TransferDesk:
    """Carries transfers out over the exchanges it is given, by venue; whatever comes of one is an event.

    Their keys may withdraw, so they are others than those that trade. `submit` starts a transfer and returns.
    """

    def __init__(
        self, exchanges: Mapping[str, ccxt.pro.Exchange], settings: LiveTransferSettings, clock: Clock, put: Put
    ) -> None:
        """Open the desk. Raises ValueError for a route to an address that is not listed."""
        self._exchanges = dict(exchanges)
        self._settings = settings
        self._clock = clock
        self._put = put
        self._addresses = {one.label: one for one in settings.addresses}
        self._routes = {(one.asset, one.from_venue, one.to_venue, one.name): one for one in settings.routes}
        for route in settings.routes:
            if bool(route.address_label) == bool(route.from_account and route.to_account):
                raise ValueError(f"route {route.name}: expected either an address label or two accounts, found {route}")
            if route.address_label and route.address_label not in self._addresses:
                known = ", ".join(self._addresses) or "none"
                raise ValueError(f"route {route.name}: expected an address of {known}, found {route.address_label!r}")
        self._tasks: dict[str, _Task] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._sent: dict[str, tuple[int, str, float]] = {}  # by id: when, asset, amount
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Ask about everything outstanding until cancelled; nothing a venue does ends it."""
        while True:
            self._wanted.clear()
            await self.poll()
            try:
                async with asyncio.timeout(self._settings.poll_ns / NS_PER_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def close(self) -> None:
        """Wait for requests that are being sent; a request is not left half done."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def submit(self, command: TransferCollateral) -> None:
        """Start a transfer; one whose id is known, or was sent within a day, is only asked about."""
        if command.transfer_id in self._tasks:
            self._wanted.set()
            return
        if command.transfer_id in self._sent:
            self.resume([command], self._clock.now_ns())
            return
        task = self._admit(command)
        if isinstance(task, str):
            self._tell(command, TransferState.FAILED, f"not sent: {task}")
            return
        self._tasks[command.transfer_id] = task
        if not self._settings.execute:
            self._export(task)
        elif not command.amount <= self._settings.confirm_above.get(command.asset, float("inf")):
            task.is_held = True
            self._tell(command, TransferState.PLANNED, "waits for a person to confirm its id and amount")
        else:
            self._start(task)

    @property
    def held(self) -> tuple[str, ...]:
        """The transfers that wait for a person to confirm them."""
        return tuple(name for name, task in self._tasks.items() if task.is_held)

    def confirm(self, transfer_id: str, amount: float, issuer: str = "") -> str:
        """Take a person's confirmation of a transfer that waits for one and return "", or why it is not sent.

        Who confirmed is told before anything is sent, so that whoever keeps a record has it.
        """
        task = self._tasks.get(transfer_id)
        if task is None or not task.is_held:
            return f"{transfer_id} waits for no confirmation"
        if not is_same_amount(amount, task.command.amount):
            return f"expected {task.command.amount:.10g} {task.command.asset}, found {amount:.10g}: not sent"
        task.is_held = False
        admitted = self._admit(task.command)  # the day went on meanwhile
        if isinstance(admitted, str):
            self._refuse(task, admitted)
            return admitted
        self._tell(task.command, TransferState.PLANNED, f"confirmed{f' by {issuer}' if issuer else ''}")
        self._start(task)
        return ""

    def note_by_hand(
        self, transfer_id: str, state: TransferState, amount: float | None, fee: float, reason: str
    ) -> str:
        """Take a person's word on a transfer that nobody else tells of and return "", or why it is not taken.

        Without an amount it is all that was to leave, less the fee.
        """
        task = self._tasks.get(transfer_id)
        if task is None:
            return f"{transfer_id} is not under way here"
        if task.is_held:
            return f"{transfer_id} waits for a confirmation, nothing of it has left"
        amount = task.command.amount - fee if amount is None else amount
        if not (isfinite(amount) and isfinite(fee) and fee >= 0.0 and 0.0 <= amount <= task.command.amount):
            return f"expected an amount of at most {task.command.amount:g}, found {amount:g} and a fee of {fee:g}"
        task.fee = fee
        if state is TransferState.FAILED and task.is_exported:
            self._sent.pop(transfer_id, None)  # a person says that it did not leave
        self._become(task, state, f"by hand: {reason}", arrived=amount if state is TransferState.ARRIVED else None)
        return ""

    def resume(self, commands: Sequence[TransferCollateral], now_ns: int) -> None:
        """Take up transfers of a run before: they are asked about and never sent.

        They are looked for since they were planned, where that is known, and are given up as never sent only
        `absence_ns` from `now_ns` on.
        """
        for command in commands:
            if command.transfer_id in self._tasks:
                continue
            route = self._routes.get(_key(command))
            address = self._addresses.get(route.address_label) if route is not None else None
            if route is None:
                log.error(
                    "transfer.changed",
                    id=command.transfer_id,
                    problem="its route is listed no more; a person must look",
                )
                continue
            since_ns = command.planned_ns or now_ns - _LOOK_BACK_NS
            task = _Task(command, route, address, since_ns, now_ns, TransferState.UNKNOWN, may_have_left=True)
            task.is_exported = not self._settings.execute
            self._tasks[command.transfer_id] = task
            self._sent[command.transfer_id] = (since_ns, command.asset, command.amount)
        self._wanted.set()

    # --- sending ---------------------------------------------------------------------------------------------------

    def _admit(self, command: TransferCollateral) -> _Task | str:
        """Return a task for a command that is within every rule, or the rule it is not within."""
        route = self._routes.get(_key(command))
        if route is None:
            return f"{command.asset} {command.from_venue} → {command.to_venue} over {command.route} is not whitelisted"
        if route.from_venue not in self._exchanges and self._settings.execute:
            return f"there are no keys for transfers from {route.from_venue}"
        amount, asset = command.amount, command.asset
        if not (isfinite(amount) and amount > 0.0):
            return f"expected a positive amount, found {amount}"
        most = self._settings.max_amounts.get(asset, 0.0)
        if not amount <= most:  # a cap that is no number allows nothing
            return f"expected at most {most:g} {asset} at a time, found {amount:g}"
        now_ns = self._clock.now_ns()
        self._sent = {name: one for name, one in self._sent.items() if now_ns - one[0] < NS_PER_DAY}
        today = sum(sent for _, name, sent in self._sent.values() if name == asset)
        cap = self._settings.day_caps.get(asset, 0.0)
        if not today + amount <= cap * (1.0 + 1e-12):
            return f"expected at most {cap:g} {asset} in 24 h, found {today:g} sent and {amount:g} more"
        return _Task(command, route, self._addresses.get(route.address_label), now_ns, now_ns)

    def _start(self, task: _Task) -> None:
        command = task.command
        self._sent[command.transfer_id] = (self._clock.now_ns(), command.asset, command.amount)
        running = asyncio.create_task(self._send(task), name=f"transfer {task.command.transfer_id}")
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _send(self, task: _Task) -> None:
        """Send a transfer once; whatever happens, its state says whether it may have left."""
        exchange = self._exchanges[task.route.from_venue]
        words = transfer_words_of(exchange.id)
        listed = await self._ask(exchange.load_markets)  # the amount is held against the asset's own precision
        known = listed if isinstance(listed, Failure) else await self._look_up(task, exchange, words)
        if isinstance(known, Failure):
            self._become(
                task, TransferState.FAILED, f"not sent: {task.route.from_venue} cannot be asked first, {known}"
            )
            return
        if known is not None:
            task.may_have_left = True
            self._become(task, TransferState.SENT, "it was sent before")
            self._wanted.set()
            return
        problem = self._precision_problem(task, exchange)
        if problem:
            self._refuse(task, problem)
            return
        task.since_ns = task.asked_ns = self._clock.now_ns()
        task.may_have_left = True  # from here on only the venue knows
        send_once(exchange)
        with Attempt() as attempt:
            answer = await self._ask(lambda: self._request(task, exchange, words), attempt)
        if not isinstance(answer, Failure) and not answer.get("id"):  # ccxt takes nonsense for a yes
            self._become(task, TransferState.UNKNOWN, "answered without an id of the venue")
        elif not isinstance(answer, Failure):
            task.fee, task.venue_id = fee_of(answer), id_of(answer)
            moved = moved_status_of(answer)
            if task.is_internal and moved == "failed":
                self._refuse(task, f"{task.route.from_venue} says {moved}")
            elif task.is_internal and moved == "ok":
                self._become(task, TransferState.ARRIVED, "")
            else:
                self._become(task, TransferState.SENT, "")
        elif answer.outcome is Outcome.UNKNOWN:
            self._become(task, TransferState.UNKNOWN, str(answer))
        else:
            task.may_have_left = False
            self._refuse(task, f"{answer.outcome}, {answer}")
        self._wanted.set()

    def _refuse(self, task: _Task, why: str) -> None:
        """Take in that a transfer provably did not leave: it counts against no cap."""
        self._sent.pop(task.command.transfer_id, None)
        self._become(task, TransferState.FAILED, f"not sent: {why}")

    async def _request(self, task: _Task, exchange: ccxt.pro.Exchange, words: TransferWords) -> Raw:
        command, address = task.command, task.address
        if address is None:
            parameters = words.transfer_parameters(command.transfer_id)
            answer: Raw = await exchange.transfer(
                command.asset, command.amount, task.route.from_account, task.route.to_account, parameters
            )
            return answer
        parameters = {**words.withdraw_parameters(command.transfer_id), "network": address.network}
        if address.tag:
            parameters["tag"] = address.tag
        withdrawn: Raw = await exchange.withdraw(command.asset, command.amount, address.address, parameters)
        return withdrawn

    async def _look_up(self, task: _Task, exchange: ccxt.pro.Exchange, words: TransferWords) -> Raw | Failure | None:
        """Ask whether the venue has our id already; a venue that tells no ids has nothing to be asked."""
        if task.address is None or not words.tells_id:
            return None
        rows: Sequence[Raw] | Failure = ()
        for attempt in range(_LOOK_UP_TRIES):
            if attempt:
                await asyncio.sleep(_LOOK_UP_PAUSE_S * attempt)
            rows = await self._withdrawals(exchange, task)
            if not isinstance(rows, Failure):
                return words.find_withdrawal(
                    rows, task.command.transfer_id, task.address.address, task.command.amount, task.since_ns
                )
        return rows if isinstance(rows, Failure) else None

    def _precision_problem(self, task: _Task, exchange: ccxt.pro.Exchange) -> str:
        """Return why the amount that would leave is not the amount that was decided, "" if it is."""
        code, amount = task.command.asset, task.command.amount
        try:
            network = task.address.network if task.address is not None else None
            would_send = exchange.currency_to_precision(code, amount, network)
        except ccxt.BaseError as error:
            return f"{code}: {error}"
        except KeyError:
            return f"{task.route.from_venue} lists no {code}"
        if is_same_amount(would_send, amount):
            return ""
        return f"expected to send {amount:.12g} {code}, found that {would_send} would leave; hint: round it down before"

    def _export(self, task: _Task) -> None:
        task.is_exported = True
        self._sent[task.command.transfer_id] = (task.since_ns, task.command.asset, task.command.amount)
        address = task.address or Address(label="", address="", network="")
        now_ns = self._clock.now_ns()
        instruction = instruction_of(task.command, address.network, address.label, address.address, address.tag, now_ns)
        told = "to be carried out by a person"
        if self._settings.export_folder:
            told += f": {export(instruction, Path(self._settings.export_folder))}"
        log.warning("transfer.changed", id=task.command.transfer_id, instruction=instruction.text)
        self._tell(task.command, TransferState.PLANNED, told)

    # --- asking ----------------------------------------------------------------------------------------------------

    async def poll(self) -> None:
        """Ask once about every transfer that is outstanding, or that ended and could turn out otherwise."""
        for task in list(self._tasks.values()):
            is_final = task.ended_ns and self._clock.now_ns() - task.ended_ns > self._settings.final_ns
            if is_final or (task.ended_ns and not task.may_have_left and not task.is_exported):
                del self._tasks[task.command.transfer_id]
            elif not task.is_held and (task.may_have_left or task.is_exported):
                await self._resolve(task)

    async def _resolve(self, task: _Task) -> None:
        exchange = self._exchanges.get(task.route.from_venue)
        if exchange is None:
            return
        if task.is_internal:
            await self._resolve_internal(task, exchange)
            return
        if task.state is not TransferState.ARRIVED:
            rows = await self._withdrawals(exchange, task)
            if isinstance(rows, Failure):
                return
            if not self._read_withdrawal(task, transfer_words_of(exchange.id), rows):
                return
        if task.route.to_venue in self._exchanges and not task.route.is_wallet:
            await self._read_deposits(task, self._exchanges[task.route.to_venue])

    def _read_withdrawal(self, task: _Task, words: TransferWords, rows: Sequence[Raw]) -> bool:
        """Take in the venue's list of withdrawals; tell whether the destination is worth asking."""
        command, address = task.command, task.address
        assert address is not None
        by_person = TransferWords() if task.is_exported else words  # a person gives no id of ours
        row = by_person.find_withdrawal(
            rows, command.transfer_id, address.address, command.amount, task.since_ns, self._taken_by_others(task)
        )
        if row is None:
            self._note_absence(task, words)
            return False
        task.looks, task.venue_id = 0, id_of(row)
        problem = self._difference(task, address, row)
        if problem:
            self._become(task, TransferState.UNKNOWN, problem)
            return False
        task.fee = fee_of(row) or task.fee
        task.txid = str(row.get("txid") or task.txid)
        status = status_of(row)
        if status in {"failed", "canceled"}:
            self._become(task, TransferState.FAILED, f"{task.route.from_venue} says {status}", row)
            return False
        if task.state in {TransferState.UNKNOWN, TransferState.PLANNED, TransferState.FAILED}:
            self._become(task, TransferState.SENT, "", row)
        if status == "ok" and task.route.is_wallet:
            told = f"completed by {task.route.from_venue}; {task.route.to_venue} was not asked"
            self._become(task, TransferState.ARRIVED, told, row)
        return bool(task.txid) or status == "ok"

    def _difference(self, task: _Task, address: Address, row: Raw) -> str:
        """Return what the venue is about to send otherwise than it was told, "" if nothing."""
        command = task.command
        if row.get("amount") is not None and not is_what_left(row, command.amount):
            found = row.get("amount")
            return f"expected {command.amount:.10g} {command.asset} to leave, found {found}; a person must look"
        where = row.get("address")
        if where and str(where).lower() != address.address.lower():
            return f"expected it to go to {address.label}, found {where}; a person must look"
        return ""

    def _note_absence(self, task: _Task, words: TransferWords) -> None:
        """Take in that the venue does not list a transfer: believed only after a while, and only where it tells ids."""
        if task.is_exported or not words.tells_id or task.state is not TransferState.UNKNOWN:
            return
        if self._clock.now_ns() - task.asked_ns < self._settings.absence_ns:
            return
        task.looks += 1
        if task.looks >= _LOOKS_TO_BELIEVE_ABSENCE:
            self._become(task, TransferState.FAILED, f"{task.route.from_venue} never got it")

    async def _read_deposits(self, task: _Task, exchange: ccxt.pro.Exchange) -> None:
        command = task.command
        since_ms = ms_of(task.since_ns - NS_PER_MIN)
        rows = await self._ask(lambda: exchange.fetch_deposits(command.asset, since_ms))
        if isinstance(rows, Failure):
            return
        others = (one.deposit for one in self._tasks.values() if one is not task and one.deposit)
        amounts = (command.amount - task.fee, command.amount)
        row = find_deposit(rows, task.txid, amounts, task.since_ns, frozenset(others))
        status = "" if row is None else status_of(row)
        if task.state is TransferState.ARRIVED:
            if row is None or status in {"failed", "canceled"}:
                task.deposit = ""
                self._become(task, TransferState.REVERSED, f"{task.route.to_venue} lists it no more", row)
        elif row is not None and status == "ok":
            task.deposit = str(row.get("id") or row.get("txid") or "")
            self._become(task, TransferState.ARRIVED, "", row)

    async def _resolve_internal(self, task: _Task, exchange: ccxt.pro.Exchange) -> None:
        if task.state not in {TransferState.UNKNOWN, TransferState.SENT} or not exchange.has.get("fetchTransfers"):
            return
        since_ms = ms_of(task.since_ns - NS_PER_MIN)
        asked = transfer_words_of(exchange.id).listing_parameters(task.route.from_account, task.route.to_account)
        rows = await self._ask(lambda: exchange.fetch_transfers(task.command.asset, since_ms, None, asked))
        if isinstance(rows, Failure):
            return
        accounts = (task.route.from_account, task.route.to_account)
        row = find_transfer(rows, task.command.amount, task.since_ns, accounts, self._taken_by_others(task))
        if row is not None:
            task.venue_id = id_of(row)
            moved = moved_status_of(row)
            if moved == "ok":
                self._become(task, TransferState.ARRIVED, "", row)
            elif moved == "failed":
                self._become(task, TransferState.FAILED, f"{task.route.from_venue} says {moved}", row)
            else:
                self._become(task, TransferState.SENT, "", row)
        elif task.state is TransferState.UNKNOWN and self._clock.now_ns() - task.asked_ns >= self._settings.absence_ns:
            task.looks += 1
            if task.looks >= _LOOKS_TO_BELIEVE_ABSENCE:
                self._become(task, TransferState.FAILED, f"{task.route.from_venue} never got it")

    def _taken_by_others(self, task: _Task) -> frozenset[str]:
        """Return the venue's ids of other transfers of the same venue: what is known to be theirs is not this one."""
        others = (one for one in self._tasks.values() if one is not task and one.venue_id)
        return frozenset(one.venue_id for one in others if one.route.from_venue == task.route.from_venue)

    async def _withdrawals(self, exchange: ccxt.pro.Exchange, task: _Task) -> Sequence[Raw] | Failure:
        since_ms = ms_of(task.since_ns - NS_PER_DAY)
        rows: Sequence[Raw] | Failure = await self._ask(
            lambda: exchange.fetch_withdrawals(task.command.asset, since_ms)
        )
        return rows

    async def _ask(self, call: Callable[[], Awaitable[T]], attempt: Attempt | None = None) -> T | Failure:
        """Make a call and return what it returns, or its failure, classified; only cancellation is raised."""

        async def made() -> T:
            return await call()

        try:
            return await cancellable(made())
        except Exception as error:  # noqa: BLE001 — whatever a venue or ccxt does must not end the desk
            return Failure(error, outcome_of(error, may_have_left=attempt is None or attempt.may_have_left))

    # --- telling ---------------------------------------------------------------------------------------------------

    def _become(
        self, task: _Task, state: TransferState, reason: str, row: Raw | None = None, arrived: float | None = None
    ) -> None:
        if state is task.state:
            return
        task.state = state
        now_ns = self._clock.now_ns()
        task.ended_ns = now_ns if state in {TransferState.ARRIVED, TransferState.FAILED} else 0
        amount: Any = arrived
        if row is not None and state is TransferState.ARRIVED and task.deposit:
            amount = row.get("amount")
        self._tell(task.command, state, reason, task.fee, amount, now_ns if row is None else time_of(row, now_ns))

    def _tell(
        self,
        command: TransferCollateral,
        state: TransferState,
        reason: str,
        fee: float = 0.0,
        amount: float | None = None,
        ts_event_ns: int = 0,
    ) -> None:
        now_ns = self._clock.now_ns()
        arriving = 0.0 if state is TransferState.FAILED else command.amount - fee
        update = TransferUpdate(
            transfer_id=command.transfer_id,
            state=state,
            asset=command.asset,
            amount=arriving if amount is None else float(amount),
            fee=fee,
            from_venue=command.from_venue,
            to_venue=command.to_venue,
            route=command.route,
            reason=reason,
            ts_event_ns=min(ts_event_ns or now_ns, now_ns),
            ts_recv_ns=now_ns,
        )
        log.info("transfer.changed", id=command.transfer_id, state=state.value, reason=reason)
        self._put([update])


def _key(command: TransferCollateral) -> tuple[str, str, str, str]:
    return command.asset, command.from_venue, command.to_venue, command.route
