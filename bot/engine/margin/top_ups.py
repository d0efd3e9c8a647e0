"""Collateral on its way while the engine trades: topped up where margin runs short, taken out where a drain asks.

Only over the routes of the vault, one at a time between two places, within its caps. What is under way counts nowhere
until it is credited (C25). Must never send anything twice: after a restart the venue is asked, by the same id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf, isfinite
from typing import Final, NamedTuple

from bot.domain.events import Command, QueryTransfer
from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.engine.margin.accounts import MarginAccount
from bot.engine.margin.keeper import MarginKeeper
from bot.engine.margin.risk_settings import RiskSettings
from bot.risk.transfers import Notice, NoticeKind, NotMoved, Route, Transfer, TransferBook, command_of

RETRY_NS: Final = 5 * NS_PER_MIN  # a route that refuses is left alone for a minute, then two, at most for this long
LOOK_EVERY_NS: Final = NS_PER_S
NOT_GONE_NS: Final = 2**63 - 1  # after every report
MAX_NOTICES: Final = 200
COVERED_SHARE: Final = 0.5  # of a need that what is on its way has to cover to be waited for
_ENDS: Final = frozenset({TransferState.ARRIVED, TransferState.FAILED, TransferState.REVERSED})


class _Refused(NamedTuple):
    """The newest refusal of a route: when, how much was asked for, and how many there were in a row."""

    at_ns: int
    amount: float
    times: int


class TopUps:
    """The transfers of one vault: which are planned, and what becomes of them."""

    def __init__(self, run_id: str, risk: RiskSettings, keeper: MarginKeeper) -> None:
        self.book = TransferBook(run_id, risk.transfers)
        self.notices: deque[tuple[int, Notice]] = deque(maxlen=MAX_NOTICES)
        self.refused: dict[str, str] = {}  # account → why its newest top-up is not planned
        self.count = 0
        self.late_count = 0
        self.changes = 0  # of transfers that ended, or are planned anew
        self.is_planned: Callable[[str, int], bool] | None = None  # whether somebody plans ahead for an account now
        self._risk = risk
        self._keeper = keeper
        self._refused: dict[Route, _Refused] = {}
        wallets = risk.collateral.wallets if risk.collateral is not None else {}
        self._wallets = {(name, asset): amount for name, held in wallets.items() for asset, amount in held.items()}
        self.barred: dict[str, str] = {}  # bridge → why nothing more may be sent over it
        self.bridge_room_quote: dict[str, float] = {}  # … and how much at once, where that is limited
        self._due_ns = 0
        self._commands: list[Command] = []

    def adopt(self, risk: RiskSettings) -> None:
        """Plan by other settings from now on."""
        self._risk = risk

    @property
    def outstanding(self) -> tuple[Transfer, ...]:
        """What is under way, or may be."""
        return self.book.outstanding

    def take(self, event: TransferUpdate) -> str:
        """Take in what became of a transfer; return why it changes nothing, "" if it does."""
        try:
            transfer = self.book[event.transfer_id]
        except KeyError:
            return f"{event.transfer_id} is no transfer of this run"
        before = _effect(transfer)
        why = self.book.note(event, event.ts_recv_ns)
        if why:
            return why
        self._move(transfer, before)
        if event.state is TransferState.FAILED:
            last = self._refused.get(transfer.route)
            count = last.times + 1 if last is not None else 1
            self._refused[transfer.route] = _Refused(event.ts_recv_ns, transfer.amount, count)
        elif event.state is not TransferState.UNKNOWN:
            self._refused.pop(transfer.route, None)
        self.changes += event.state in _ENDS
        self._due_ns = 0
        return ""

    def restart(self, now_ns: int) -> None:
        """Have every transfer under way asked about, and none sent again."""
        self._commands += [QueryTransfer(one, "the daemon restarted") for one in self.book.restart(now_ns)]
        for account in self._keeper.accounts.values():  # what has not left by then may have, and reports tell
            for name, (asset, amount, since_ns) in account.leaving.items():
                account.leaving[name] = (asset, amount, min(since_ns, now_ns))

    def review(self, now_ns: int, *, may_send: bool) -> list[Command]:
        """Return what is to be moved, if anything may be, and what is asked about now."""
        if now_ns < self._due_ns and not self._commands:
            return []
        self._due_ns = now_ns + LOOK_EVERY_NS
        commands, self._commands = self._commands, []
        if self.book.outstanding:
            for notice in self.book.review(now_ns):
                self.notices.append((now_ns, notice))
                self.late_count += notice.kind is NoticeKind.LATE
                self.changes += notice.kind is NoticeKind.REPLAN
                if notice.kind is not NoticeKind.LATE:  # what is twice as late is asked about, and replaced by another
                    commands.append(_question(self.book[notice.transfer_id], notice.detail))
        self.book.forget(now_ns)
        if not may_send:
            return commands
        for account in self._keeper.accounts.values():
            if account.unknown:
                continue
            if account.permission.must_top_up or self.is_short(account):
                if self.is_planned is not None and self.is_planned(account.name, now_ns):
                    continue
                commands += self._top_up(account, now_ns)
            else:
                self.refused.pop(account.name, None)
        return commands

    def under_way_quote(self, account: MarginAccount) -> float:
        """Return what is on its way to an account, less what is so late that it is planned anew."""
        total_quote = 0.0
        for one in self.book.outstanding:
            if one.route.to_venue == account.name and not one.is_replanned:
                total_quote += one.amount * self._worth(account, one.route.asset)
        return total_quote

    def eta_ns(self, account: MarginAccount, now_ns: int) -> int | None:
        """Return the time within which 95 % of what helps an account arrives, None where nothing can be sent.

        What is on its way has some of it behind it, if it covers half of the need; what is overdue is expected no more.
        """
        coming = [one for one in self.book.outstanding if one.route.to_venue == account.name and not one.is_replanned]
        if coming and COVERED_SHARE * self.need_quote(account) <= self.under_way_quote(account):
            return max(max(0, one.planned_ns + one.route.p95_ns - now_ns) for one in coming)
        routes = [one for one in self._risk.transfers.routes if one.to_venue == account.name]
        if account.name in self.refused or not routes:
            return None
        return min(one.p95_ns for one in routes)

    def is_short(self, account: MarginAccount) -> bool:
        """Tell whether what an account has, and what is on its way, is less than its buffer asks for."""
        buffers = self._keeper.buffers
        if buffers is None or not buffers.is_short(account.name, account.equity_quote):
            return False
        return buffers.is_short(account.name, account.equity_quote + self.under_way_quote(account))

    def need_quote(self, account: MarginAccount) -> float:
        """Return what an account lacks of its target, in equity after haircuts; before it needs it, of its buffer."""
        wanted_quote = self.wanted_quote(account) if account.permission.must_top_up else self.buffer_quote(account)
        return wanted_quote - account.equity_quote

    def obstacle(self, route: Route, now_ns: int) -> str:
        """Return why nothing is sent over a route now, "" if something may be."""
        refused = self._refused.get(route)
        if refused is not None and now_ns - refused.at_ns < min(refused.times * NS_PER_MIN, RETRY_NS):
            return f"refused {(now_ns - refused.at_ns) / NS_PER_S:.0f} s ago"
        source = self._keeper.accounts.get(route.from_venue)
        if source is not None and (source.unknown or not (source.permission.may_withdraw or source.is_draining)):
            return f"nothing may leave {source.name}: {source.unknown or 'its own margin'}"
        return self.barred.get(route.bridge, "") or self.book.obstacle(route)

    def stock(self, wallet: str, asset: str) -> float:
        """Return how much of an asset a wallet has left; infinite where the vault does not say."""
        return self._wallets.get((wallet, asset), inf)

    def move(self, route: Route, amount: float, reason: str, now_ns: int) -> TransferCollateral | str:
        """Return the transfer of a plan made a moment ago, or why it is not made: what is there no more stays."""
        source = self._keeper.accounts.get(route.from_venue)
        here = self.stock(route.from_venue, route.asset) if source is None else self._keeper.held(source, route.asset)
        why = self.obstacle(route, now_ns)
        if why:
            return f"{route.asset} {route.from_venue} → {route.to_venue} over {route.name}: {why}"
        return self._plan(route, min(amount, here), reason, now_ns)

    def wanted_quote(self, account: MarginAccount) -> float:
        """Return the equity that a top-up brings an account to."""
        target = self._risk.target_ratio * account.settings.liquidation_ratio
        return max(
            account.figures.maintenance / target,
            account.figures.initial / self._risk.max_initial_ratio,
            self.buffer_quote(account),
        )

    def buffer_quote(self, account: MarginAccount) -> float:
        """Return what an account should hold before it needs it; 0 where nobody reckons that."""
        buffers = self._keeper.buffers
        return buffers.required_quote(account.name) if buffers is not None else 0.0

    def _top_up(self, account: MarginAccount, now_ns: int) -> list[Command]:
        """Plan what brings an account to its target, over the fastest routes from where something is to spare."""
        need_quote = self.need_quote(account) - self.under_way_quote(account)
        if not need_quote > 0.0:
            return []
        reason = f"margin at {account.name}: {account.standing.reason}" if account.standing is not None else ""
        if not account.permission.must_top_up and self._keeper.buffers is not None:
            reason = f"before {account.name} needs it: {self._keeper.buffers.tell(account.name)}"
        planned: list[Command] = []
        routes = [one for one in self._risk.transfers.routes if one.to_venue == account.name]
        told = [] if routes else [f"no route leads to {account.name}"]
        for route in sorted(routes, key=_p95_of):
            worth = self._worth(account, route.asset)
            if not worth > 0.0:
                told.append(f"{route.asset} counts nothing at {account.name}")
                continue
            amount = min(need_quote / worth + route.fee, self.spare(route))
            found = self._plan(route, amount, reason, now_ns)
            if isinstance(found, TransferCollateral):
                planned.append(found)
                need_quote -= (found.amount - route.fee) * worth
            else:
                told.append(found)
            if need_quote <= route.step_amount * worth:  # what amounts cut to whole steps leave is no need
                break
        self._tell(account, planned, told)
        return planned

    def withdraw(self, route: Route, amount: float, reason: str, now_ns: int) -> TransferCollateral | str:
        """Return the transfer that takes so much out over a route, or why there is none."""
        return self._plan(route, min(amount, self.spare(route)), reason, now_ns)

    def _tell(self, account: MarginAccount, planned: list[Command], told: list[str]) -> None:
        if planned or not told:
            self.refused.pop(account.name, None)
        else:
            self.refused[account.name] = "; ".join(told)

    def _plan(self, route: Route, amount: float, reason: str, now_ns: int) -> TransferCollateral | str:
        """Return the transfer that is planned, or why none is."""
        way = f"{route.asset} {route.from_venue} → {route.to_venue} over {route.name}"
        refused = self._refused.get(route)
        if refused is not None and now_ns - refused.at_ns < min(refused.times * NS_PER_MIN, RETRY_NS):
            return f"{way}: refused {(now_ns - refused.at_ns) / NS_PER_S:.0f} s ago"
        target = self._keeper.accounts.get(route.to_venue)
        if target is not None and target.is_draining:
            return f"{way}: nothing is sent to where {target.banned}"
        if route.bridge in self.barred:
            return f"{way}: {self.barred[route.bridge]}"
        if target is not None and route.bridge in self.bridge_room_quote:
            px = self._keeper.asset_px(target, route.asset)
            amount = min(amount, max(0.0, self.bridge_room_quote[route.bridge]) / px) if px else 0.0
        if not amount > max(route.fee, route.min_amount):
            return f"{way}: nothing to spare"
        if not isfinite(amount):
            amount = route.max_amount
        if refused is not None:  # there may be less than was asked for, and some is better than none
            amount = min(amount, max(0.5 * refused.amount, 2.0 * route.fee, route.min_amount))
        found = self.book.plan(route.asset, amount, route.from_venue, route.to_venue, route.name, reason, now_ns)
        if isinstance(found, NotMoved):
            return f"{way}: {found.rule}, {found.detail}"
        self.count += 1
        self._move(self.book[found.transfer_id], (0.0, 0.0))
        return found

    def spare(self, route: Route) -> float:
        """Return how much of an asset may leave: what is there, and what margin there does not need.

        A wallet gives what the vault says is there, else what the caps allow.
        """
        source = self._keeper.accounts.get(route.from_venue)
        if source is None:
            return self.stock(route.from_venue, route.asset)
        if self._keeper.is_price_in_doubt:
            return 0.0
        if source.unknown or not (source.permission.may_withdraw or source.is_draining):
            return 0.0
        self._keeper.refresh(source)
        worth = self._worth(source, route.asset)
        there_quote = source.whole_quote if source.is_draining else source.equity_quote
        free_quote = max(0.0, there_quote - self.wanted_quote(source))
        held = self._keeper.held(source, route.asset)
        return min(held, free_quote / worth) if worth > 0.0 else held

    def _worth(self, account: MarginAccount, asset: str) -> float:
        """Return what a unit of an asset counts as equity at an account, in quote money."""
        px = self._keeper.asset_px(account, asset)
        return 0.0 if px is None else px * (1.0 - account.haircut_share(asset))

    def _move(self, transfer: Transfer, before: tuple[float, float]) -> None:
        """Take what left from one account and add what was credited to another, where no report tells it."""
        after = _effect(transfer)
        left, came = after[0] - before[0], after[1] - before[1]
        route = transfer.route
        for venue, change in ((route.from_venue, -left), (route.to_venue, came)):
            account = self._keeper.accounts.get(venue)
            if account is not None and change:
                account.moved[route.asset] = account.moved.get(route.asset, 0.0) + change
                self._keeper.note_change(venue)
            elif change and (venue, route.asset) in self._wallets:
                self._wallets[venue, route.asset] += change
        source = self._keeper.accounts.get(route.from_venue)
        if source is not None:
            if after[0]:  # what waits for its leave is in every report, however new, and is promised all the same
                is_waiting = transfer.state is TransferState.PLANNED
                known = source.leaving.get(transfer.transfer_id)
                if is_waiting or known is None or known[2] == NOT_GONE_NS:
                    since_ns = NOT_GONE_NS if is_waiting else transfer.changed_ns
                    source.leaving[transfer.transfer_id] = (route.asset, transfer.amount, since_ns)
            else:
                source.leaving.pop(transfer.transfer_id, None)
        target = self._keeper.accounts.get(route.to_venue)
        if target is not None and came:  # what was told there before it was taken back is there no more
            if came < 0.0:
                target.leaving[f"{transfer.transfer_id} back"] = (route.asset, -came, transfer.changed_ns)
            else:
                target.leaving.pop(f"{transfer.transfer_id} back", None)


def _effect(transfer: Transfer) -> tuple[float, float]:
    """Return what of a transfer has left, or may have, and what was credited."""
    left = 0.0 if transfer.state is TransferState.FAILED else transfer.amount
    return left, transfer.credited if transfer.state is TransferState.ARRIVED else 0.0


def _question(one: Transfer, why: str) -> QueryTransfer:
    return QueryTransfer(command_of(one), why)


def _p95_of(route: Route) -> int:
    return route.p95_ns
