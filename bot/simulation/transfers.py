"""Transfers in a world that is rehearsed in: seeded delays and fees, and everything that goes wrong with them.

Withdrawals fail, are suspended with a word or without one, answers get lost, and a reorg takes an arrival back. Amounts
are kept: what left is at its destination, on its way, or paid as a fee.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Final

import msgspec
import numpy as np

from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_MIN, NS_PER_S

_Z95: Final = 1.6448536269514722
_WORKING_ON_ITS_WAY: Final = frozenset({TransferState.SENT, TransferState.UNKNOWN})


class RouteWorld(msgspec.Struct, frozen=True, kw_only=True):
    """How a route behaves: a log-normal delay by its median and p95, a fee in the asset, and how often things go wrong.

    `reversal_delay_ns` is how long after arriving a reorg takes it back; it arrives again after as long once more.
    """

    median_ns: int
    p95_ns: int
    fee: float = 0.0
    failure_probability: float = 0.0
    lost_answer_probability: float = 0.0
    reversal_probability: float = 0.0
    reversal_delay_ns: int = 2 * NS_PER_MIN
    answer_ns: int = NS_PER_S


class Suspension(msgspec.Struct, frozen=True):
    """Withdrawals of a venue do not work from one time to another; a silent one takes orders and sends nothing."""

    venue: str
    from_ns: int
    until_ns: int
    is_silent: bool = False


class _Due(msgspec.Struct, frozen=True, order=True):
    at_ns: int
    order: int
    transfer_id: str
    state: TransferState
    reason: str


class _Life(msgspec.Struct):
    command: TransferCollateral
    world: RouteWorld
    state: TransferState
    is_debited: bool = False
    is_credited: bool = False


class SimulatedTransfers:
    """The transfers of one world: `submit`, then `advance`, as a venue of `bot.simulation.world` does.

    `routes` is by route name. `balances` by (venue, asset) is kept where it is given; without it nobody runs short.
    """

    def __init__(
        self,
        seed: int,
        routes: Mapping[str, RouteWorld],
        suspensions: Sequence[Suspension] = (),
        balances: Mapping[tuple[str, str], float] | None = None,
    ) -> None:
        """Start a world. Raises ValueError for a p95 below the median."""
        for name, world in routes.items():
            if not 0 < world.median_ns <= world.p95_ns:
                raise ValueError(f"route {name}: expected a p95 of at least the median, found {world}")
        self._random = np.random.default_rng(seed)
        self._routes = dict(routes)
        self._suspensions = tuple(suspensions)
        self.balances = None if balances is None else dict(balances)
        self.fees_paid: dict[str, float] = {}
        self._lives: dict[str, _Life] = {}
        self._due: list[_Due] = []
        self._order = 0

    def suspend(self, suspension: Suspension) -> None:
        """Let withdrawals of a venue stop working for a while."""
        self._suspensions = (*self._suspensions, suspension)

    def submit(self, command: TransferCollateral, now_ns: int) -> None:
        """Send a transfer; the same id again is the same transfer, and is only told of once more."""
        known = self._lives.get(command.transfer_id)
        if known is not None:
            self._plan(now_ns + known.world.answer_ns, command.transfer_id, known.state, "asked for again")
            return
        world = self._routes.get(command.route)
        if world is None:
            refused = RouteWorld(median_ns=1, p95_ns=1)
            self._lives[command.transfer_id] = _Life(command, refused, TransferState.PLANNED)
            why = f"no route {command.route} from {command.from_venue}"
            self._plan(now_ns + refused.answer_ns, command.transfer_id, TransferState.FAILED, why)
            return
        life = self._lives[command.transfer_id] = _Life(command, world, TransferState.PLANNED)
        draws = self._random.random(3)  # always as many: a fault changes nobody else’s luck
        delay_ns = self._delay_ns(world)
        answered_ns = now_ns + world.answer_ns
        why = self._why_not(life, now_ns, draws[0])
        if why:
            self._plan(answered_ns, command.transfer_id, TransferState.FAILED, why)
            return
        self._debit(life)
        is_lost = draws[1] < world.lost_answer_probability
        told = (TransferState.UNKNOWN, "the answer was lost") if is_lost else (TransferState.SENT, "")
        self._plan(answered_ns, command.transfer_id, *told)
        silent = self._suspended(command.from_venue, now_ns, is_silent=True)
        left_ns = max(answered_ns, silent.until_ns) if silent is not None else now_ns
        arrives_ns = max(left_ns + delay_ns, answered_ns + 1)
        self._plan(arrives_ns, command.transfer_id, TransferState.ARRIVED, "")
        if draws[2] < world.reversal_probability:
            reversed_ns = arrives_ns + world.reversal_delay_ns
            self._plan(reversed_ns, command.transfer_id, TransferState.REVERSED, "its block was reorganised")
            self._plan(reversed_ns + world.reversal_delay_ns, command.transfer_id, TransferState.ARRIVED, "again")

    def ask(self, transfer_id: str, now_ns: int) -> None:
        """Ask what became of a transfer: the truth is told, and of one that never came that it never will."""
        life = self._lives.get(transfer_id)
        if life is not None:
            state = TransferState.SENT if life.state is TransferState.UNKNOWN else life.state
            self._plan(now_ns + life.world.answer_ns, transfer_id, state, "asked for")

    def in_flight(self, asset: str) -> float:
        """Return what has left and not arrived."""
        under_way = (one for one in self._lives.values() if one.is_debited and not one.is_credited)
        return sum(one.command.amount for one in under_way if one.command.asset == asset)

    def next_event_ns(self) -> int | None:
        """Return when something will next be told, None if nothing is under way."""
        return self._due[0].at_ns if self._due else None

    def advance(self, now_ns: int) -> tuple[TransferUpdate, ...]:
        """Return every word that has reached us by then, in order."""
        told: list[TransferUpdate] = []
        while self._due and self._due[0].at_ns <= now_ns:
            due = heapq.heappop(self._due)
            life = self._lives[due.transfer_id]
            self._become(life, due.state)
            told.append(self._update(life, due))
        return tuple(told)

    def _become(self, life: _Life, state: TransferState) -> None:
        if state is TransferState.ARRIVED and not life.is_credited:
            self._move(life, life.command.to_venue, life.command.amount - life.world.fee)
            life.is_credited = True
            self._pay(life, life.world.fee)
        elif state is TransferState.REVERSED and life.is_credited:
            self._move(life, life.command.to_venue, life.world.fee - life.command.amount)
            life.is_credited = False
            self._pay(life, -life.world.fee)
        elif state in _WORKING_ON_ITS_WAY and life.is_credited:
            return  # asked about just before it arrived
        life.state = state

    def _update(self, life: _Life, due: _Due) -> TransferUpdate:
        command = life.command
        is_moving = due.state is not TransferState.FAILED
        return TransferUpdate(
            transfer_id=command.transfer_id,
            state=due.state,
            asset=command.asset,
            amount=command.amount - life.world.fee if is_moving else 0.0,
            fee=life.world.fee if is_moving else 0.0,
            from_venue=command.from_venue,
            to_venue=command.to_venue,
            route=command.route,
            reason=due.reason,
            ts_event_ns=due.at_ns,
            ts_recv_ns=due.at_ns,
        )

    def _why_not(self, life: _Life, now_ns: int, draw: float) -> str:
        """Return why a transfer fails at once, "" if it does not."""
        command = life.command
        if self._suspended(command.from_venue, now_ns, is_silent=False) is not None:
            return f"{command.from_venue}: withdrawals are suspended"
        if command.amount <= life.world.fee:
            return f"expected more than the fee of {life.world.fee:g} {command.asset}, found {command.amount:g}"
        if self.balances is not None:
            held = self.balances.get((command.from_venue, command.asset), 0.0)
            if held < command.amount:
                return f"{command.from_venue}: {held:g} {command.asset} held, {command.amount:g} asked for"
        return "refused by the venue" if draw < life.world.failure_probability else ""

    def _suspended(self, venue: str, now_ns: int, *, is_silent: bool) -> Suspension | None:
        for one in self._suspensions:
            if one.venue == venue and one.is_silent is is_silent and one.from_ns <= now_ns < one.until_ns:
                return one
        return None

    def _delay_ns(self, world: RouteWorld) -> int:
        sigma = log(world.p95_ns / world.median_ns) / _Z95
        return max(1, round(world.median_ns * exp(sigma * float(self._random.standard_normal()))))

    def _debit(self, life: _Life) -> None:
        life.is_debited = True
        self._move(life, life.command.from_venue, -life.command.amount)

    def _move(self, life: _Life, venue: str, amount: float) -> None:
        if self.balances is not None:
            key = (venue, life.command.asset)
            self.balances[key] = self.balances.get(key, 0.0) + amount

    def _pay(self, life: _Life, amount: float) -> None:
        asset = life.command.asset
        self.fees_paid[asset] = self.fees_paid.get(asset, 0.0) + amount

    def _plan(self, at_ns: int, transfer_id: str, state: TransferState, reason: str) -> None:
        self._order += 1
        heapq.heappush(self._due, _Due(at_ns, self._order, transfer_id, state, reason))
