"""Collateral on its way: what may be sent, what became of it, and who could still lose it.

A transfer is PLANNED before its command leaves and is never planned again under another id while it may be under way.
Money on its way counts nowhere until the destination credits it, and counts as lent to everybody it could be lost with
until then. Time is data; the caller keeps the journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from math import floor, inf, isfinite
from typing import Final

import msgspec

from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_DAY, NS_PER_MIN

_OUTSTANDING: Final = frozenset(
    {TransferState.PLANNED, TransferState.SENT, TransferState.UNKNOWN, TransferState.REVERSED}
)
_TOLERANCE: Final = 1e-12


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One way for one asset: a network between two venues or wallets, to an address known by its label only.

    Amounts and the fee are in units of the asset. `test_amount` goes first over a route nothing arrived by yet, 0 where
    that is not needed (between accounts of one venue). Amounts are whole multiples of `step_amount`, as networks carry
    no more digits. `bridge` is a counterparty of its own, "" without one. What arrived can be taken back by a reorg for
    `reversible_ns`. `confirmations` is how many blocks the destination waits.
    """

    name: str
    asset: str
    from_venue: str
    to_venue: str
    address_label: str
    p95_ns: int
    fee: float = 0.0
    min_amount: float = 0.0
    max_amount: float = inf
    test_amount: float = 0.0
    step_amount: float = 1e-6
    bridge: str = ""
    confirmations: int = 0
    reversible_ns: int = 0


class TransferRules(msgspec.Struct, frozen=True, kw_only=True):
    """What may be moved at all: only these routes, and of an asset at most so much in any 24 hours.

    An asset without a cap is not moved. `answer_ns` is how long a planned transfer may be without any word of it.
    """

    routes: tuple[Route, ...]
    day_caps: dict[str, float]
    answer_ns: int = NS_PER_MIN


class NotMoved(msgspec.Struct, frozen=True):
    """A transfer that was asked for and is not planned: which rule forbids it, and the figures."""

    rule: str
    detail: str


class NoticeKind(StrEnum):
    """ASK: the venue must be asked. LATE: older than its p95. REPLAN: twice that, the need must be met another way."""

    ASK = "ask"
    LATE = "late"
    REPLAN = "replan"


class Notice(msgspec.Struct, frozen=True):
    """What has to be done about a transfer, told once each; `party` is whom it is exposed to meanwhile."""

    kind: NoticeKind
    transfer_id: str
    party: str
    detail: str


class Lent(msgspec.Struct, frozen=True):
    """An amount that could be lost with a party: pending at the venue it leaves, or on its way to another."""

    party: str
    kind: str  # "pending_withdrawal", "in_flight" or "bridge"
    asset: str
    amount: float
    transfer_id: str


class Transfer(msgspec.Struct):
    """One transfer as far as it is known. `amount` is what left or is to leave, `credited` what counts at the end."""

    transfer_id: str
    route: Route
    amount: float
    state: TransferState
    planned_ns: int
    changed_ns: int
    reason: str
    first_ns: int  # when it was planned; `planned_ns` starts anew once it is taken back
    credited: float = 0.0
    is_asked: bool = False
    is_told_late: bool = False
    is_replanned: bool = False

    @property
    def is_outstanding(self) -> bool:
        """Tell whether money may be under way."""
        return self.state in _OUTSTANDING


class TransferBook:
    """Every transfer of a run. Ids are `run-Tn` and never used twice; `next_number` goes on after a restart."""

    def __init__(self, run_id: str, rules: TransferRules, next_number: int = 1) -> None:
        """Start a book. Raises ValueError for routes of one name between the same two places."""
        self._run_id = run_id
        self._rules = rules
        self._number = next_number
        self._transfers: dict[str, Transfer] = {}
        self._proven: set[Route] = set()
        self._routes = {(r.asset, r.from_venue, r.to_venue, r.name): r for r in rules.routes}
        if len(self._routes) != len(rules.routes):
            raise ValueError("expected each route once per asset and pair, found one twice; hint: name networks apart")

    def __getitem__(self, transfer_id: str) -> Transfer:
        return self._transfers[transfer_id]

    def __len__(self) -> int:
        return len(self._transfers)

    @property
    def outstanding(self) -> tuple[Transfer, ...]:
        """The transfers that may still be under way, oldest first."""
        return tuple(one for one in self._transfers.values() if one.is_outstanding)

    def routes(self, asset: str, from_venue: str, to_venue: str) -> tuple[Route, ...]:
        """Return the routes that may be used now, fastest first: those with nothing overdue on them."""
        found = (r for r in self._rules.routes if (r.asset, r.from_venue, r.to_venue) == (asset, from_venue, to_venue))
        return tuple(sorted((r for r in found if not self._is_stuck(r)), key=_p95_of))

    def obstacle(self, route: Route) -> str:
        """Return why nothing may be sent over a route now, "" if it may: one at a time, and none where one is stuck."""
        for one in self.outstanding:
            if one.is_replanned and one.route == route:
                return f"{one.transfer_id} over it is overdue"
            if not one.is_replanned and _pair(one.route) == _pair(route):
                return f"{one.transfer_id} is {one.state} on the same way"
        return ""

    def left_today(self, asset: str, now_ns: int) -> float:
        """Return how much of an asset may still be sent now: its cap less what left in the last 24 hours."""
        cap = self._rules.day_caps.get(asset, 0.0)
        return max(0.0, cap - sum(one.amount for one in self._of_last_day(asset, now_ns)))

    def plan(
        self, asset: str, amount: float, from_venue: str, to_venue: str, route: str, reason: str, now_ns: int
    ) -> TransferCollateral | NotMoved:
        """Return the command for a transfer, noted as PLANNED, or the rule against it.

        What caps or a first test leave is less than what was asked for: the rest has to be asked for again.
        """
        known = self._routes.get((asset, from_venue, to_venue, route))
        if known is None:
            pair = f"{asset} {from_venue} → {to_venue} over {route}"
            return NotMoved("whitelist", f"expected one of {len(self._routes)} whitelisted routes, found {pair}")
        if not isfinite(amount) or amount <= 0.0:
            return NotMoved("amount", f"expected a positive amount of {asset}, found {amount:g}")
        under_way = [one for one in self.outstanding if not one.is_replanned and _pair(one.route) == _pair(known)]
        if under_way:
            return NotMoved("one_outstanding", f"{under_way[0].transfer_id} is {under_way[0].state} on the same way")
        if self._is_stuck(known):
            return NotMoved("route_stuck", f"a transfer over {route} is overdue; hint: use another route until it ends")
        left = self.left_today(asset, now_ns)
        granted = min(amount, known.max_amount, left)
        why = reason if granted == amount else f"{reason}; {granted:g} of {amount:g} {asset}, the cap leaves no more"
        if known not in self._proven and 0.0 < known.test_amount < granted:
            granted = known.test_amount
            why = f"{reason}; a test first, nothing has arrived over {route} yet"
        granted = _whole(granted, known.step_amount)
        if granted + _TOLERANCE < max(known.min_amount, known.fee) or granted <= 0.0:
            least = max(known.min_amount, known.fee)
            return NotMoved("cap", f"{left:g} {asset} of the day's cap left, at least {least:g} needed")
        transfer_id = f"{self._run_id}-T{self._number}"
        self._number += 1
        self._transfers[transfer_id] = Transfer(
            transfer_id, known, granted, TransferState.PLANNED, now_ns, now_ns, why, now_ns
        )
        return command_of(self._transfers[transfer_id])

    def note(self, update: TransferUpdate, now_ns: int) -> str:
        """Take in what became of a transfer and return "", or why it changes nothing.

        The venue's word wins, also over a FAILED of before; only what is told late or twice is passed over.
        """
        transfer = self._transfers.get(update.transfer_id)
        if transfer is None:
            return f"{update.transfer_id} is no transfer of this run"
        if not _follows(transfer.state, update.state):
            return f"{update.transfer_id} is {transfer.state} already, found {update.state}"
        if update.state is TransferState.ARRIVED:
            if not isfinite(update.amount) or not 0.0 <= update.amount <= transfer.amount * (1.0 + 1e-9):
                return f"expected at most {transfer.amount:g} to arrive by {update.transfer_id}, found {update.amount}"
            transfer.credited = update.amount
            self._proven.add(transfer.route)
        elif update.state in {TransferState.REVERSED, TransferState.FAILED}:
            transfer.credited = 0.0
            if update.state is TransferState.REVERSED:  # it may arrive again by itself, and is late from now on
                transfer.planned_ns = now_ns
                transfer.is_told_late = transfer.is_replanned = False
        transfer.state = update.state
        transfer.changed_ns = now_ns
        transfer.is_asked = False
        transfer.reason = update.reason or transfer.reason
        return ""

    def restart(self, now_ns: int) -> tuple[TransferCollateral, ...]:
        """Return the transfers that must be asked about after a restart, as they were sent; none may be sent again.

        One whose command may or may not have left is UNKNOWN: only the venue knows.
        """
        for one in self.outstanding:
            if one.state is TransferState.PLANNED:
                one.state, one.changed_ns = TransferState.UNKNOWN, now_ns
            one.is_asked = True
        return tuple(command_of(one) for one in self.outstanding)

    def review(self, now_ns: int) -> tuple[Notice, ...]:
        """Return what has to be done about transfers that are unanswered or late, each once."""
        notices: list[Notice] = []
        for one in self.outstanding:
            age_ns, p95_ns = now_ns - one.planned_ns, one.route.p95_ns
            minutes = f"{age_ns / NS_PER_MIN:.1f} min old, p95 {p95_ns / NS_PER_MIN:.1f} min"
            is_unanswered = one.state in {TransferState.UNKNOWN, TransferState.PLANNED}
            if is_unanswered and not one.is_asked and now_ns - one.changed_ns >= self._rules.answer_ns:
                one.is_asked = True
                notices.append(Notice(NoticeKind.ASK, one.transfer_id, one.route.from_venue, f"{one.state}, {minutes}"))
            if age_ns >= p95_ns and not one.is_told_late:
                one.is_told_late = True
                notices.append(Notice(NoticeKind.LATE, one.transfer_id, self.exposed_to(one), minutes))
            if age_ns >= 2 * p95_ns and not one.is_replanned:
                one.is_replanned = True
                notices.append(Notice(NoticeKind.REPLAN, one.transfer_id, self.exposed_to(one), minutes))
        return tuple(notices)

    def exposed_to(self, transfer: Transfer) -> str:
        """Return who answers for a transfer that does not come: its bridge, else the venue that has not let it go."""
        if transfer.state is TransferState.REVERSED:
            return transfer.route.to_venue
        if transfer.route.bridge and transfer.state is TransferState.SENT:
            return transfer.route.bridge
        return transfer.route.from_venue

    def lent(self) -> tuple[Lent, ...]:
        """Return what could be lost with whom while it is under way.

        Each party it could still be lost with counts the whole amount, so over parties it is there more than once.
        """
        found: list[Lent] = []
        for one in self.outstanding:
            if one.state is TransferState.PLANNED:
                continue  # still part of the balance at its venue
            route = one.route
            parties = [(route.from_venue, "pending_withdrawal"), (route.to_venue, "in_flight")]
            if route.bridge:
                parties.append((route.bridge, "bridge"))
            found += [Lent(party, kind, route.asset, one.amount, one.transfer_id) for party, kind in parties]
        return tuple(found)

    def in_flight(self, asset: str) -> float:
        """Return how much of an asset is under way, each transfer once; it counts as collateral nowhere."""
        sent = (one for one in self.outstanding if one.state is not TransferState.PLANNED)
        return sum(one.amount for one in sent if one.route.asset == asset)

    def reversible(self, now_ns: int) -> tuple[Transfer, ...]:
        """Return what has arrived and could still be taken back by a reorg."""
        arrived = (one for one in self._transfers.values() if one.state is TransferState.ARRIVED)
        return tuple(one for one in arrived if now_ns - one.changed_ns < one.route.reversible_ns)

    def forget(self, before_ns: int) -> int:
        """Drop ended transfers that no rule counts any more, and return how many."""
        ended = [
            one.transfer_id
            for one in self._transfers.values()
            if not one.is_outstanding and one.changed_ns < before_ns - max(NS_PER_DAY, one.route.reversible_ns)
        ]
        for name in ended:
            del self._transfers[name]
        return len(ended)

    def _of_last_day(self, asset: str, now_ns: int) -> Iterable[Transfer]:
        for one in self._transfers.values():
            is_recent = one.is_outstanding or now_ns - one.planned_ns < NS_PER_DAY
            if one.route.asset == asset and is_recent and one.state is not TransferState.FAILED:
                yield one

    def _is_stuck(self, route: Route) -> bool:
        return any(one.is_replanned and one.route == route for one in self.outstanding)


_NEXT: Final[dict[TransferState, frozenset[TransferState]]] = {
    TransferState.PLANNED: frozenset(
        {TransferState.SENT, TransferState.UNKNOWN, TransferState.ARRIVED, TransferState.FAILED}
    ),
    TransferState.SENT: frozenset({TransferState.ARRIVED, TransferState.FAILED, TransferState.REVERSED}),
    TransferState.UNKNOWN: frozenset({TransferState.SENT, TransferState.ARRIVED, TransferState.FAILED}),
    TransferState.ARRIVED: frozenset({TransferState.REVERSED}),
    TransferState.REVERSED: frozenset({TransferState.SENT, TransferState.ARRIVED, TransferState.FAILED}),
    TransferState.FAILED: frozenset({TransferState.SENT, TransferState.ARRIVED}),  # the venue thought better of it
}


def _follows(before: TransferState, after: TransferState) -> bool:
    return after in _NEXT[before]


def command_of(one: Transfer) -> TransferCollateral:
    """Return the command of a transfer as it was sent, to ask about it by."""
    route = one.route
    return TransferCollateral(
        transfer_id=one.transfer_id,
        asset=route.asset,
        amount=one.amount,
        from_venue=route.from_venue,
        to_venue=route.to_venue,
        route=route.name,
        reason=one.reason,
        planned_ns=one.first_ns,
    )


def _whole(amount: float, step: float) -> float:
    """Return an amount cut down to whole steps; one that is whole but for float noise stays as it is."""
    if step <= 0.0 or not isfinite(amount):
        return amount
    return round(floor(amount / step + 1e-6) * step, 12)


def _pair(route: Route) -> tuple[str, str, str]:
    return route.asset, route.from_venue, route.to_venue


def _p95_of(route: Route) -> int:
    return route.p95_ns
