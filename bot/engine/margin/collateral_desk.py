"""Collateral planned ahead: the problem is posed now and then, solved elsewhere, and what the plan says is moved.

The answer comes as an event like any other, so that solving holds no decision up and a journal replays the plan that
was made. Where none comes, or none can be used, top-ups go by rule. Must never move anything but over `TopUps`, whose
caps and whitelist every plan has to pass.
"""

from __future__ import annotations

from collections import deque
from math import nan
from typing import Final

import msgspec

from bot.domain.events import Command, PlanCollateral
from bot.domain.risk import CollateralPlanned, MarginState, TransferCollateral
from bot.domain.units import NS_PER_S
from bot.engine.margin.accounts import MODEL_ERRORS
from bot.engine.margin.collateral_problem import Posing, is_known, required_buffer, route_name
from bot.engine.margin.counterparty_keeper import CounterpartyKeeper
from bot.engine.margin.keeper import MarginKeeper
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.margin.top_ups import TopUps
from bot.risk.collateral.plan import CollateralPlan, ShadowPrice, Transfer, decode_plan, in_order
from bot.risk.collateral.problem import CollateralProblem
from bot.risk.margin_states import SEVERITY
from bot.risk.predictive import Target

BETWEEN_NS: Final = 10 * NS_PER_S  # two questions, whatever happens
WAITED_NS: Final = 60 * NS_PER_S  # for accounts that nothing is known of, before planning without them
GROWN: Final = 1.05  # a required buffer that grew by so much since the last question is a reason for another
STALE_BEATS: Final = 2  # a plan older than this many beats is none
MAX_TOLD: Final = 100


class Told(msgspec.Struct, frozen=True):
    """One thing that was said of plans, and when: what they lack, what stood in for them, what was not sent."""

    at_ns: int
    text: str


class CollateralNow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest plan as people want to see it; `plan_id` is "" before there is one.

    `method` made it, `fault` says why it was not the solver or why there is none. `short_quote` is what is missing in
    it, by `violations` in words. `moved` are the transfers it led to, `not_moved` says why others were not made.
    `told` is what was said of plans lately, this one or others.
    """

    plan_id: str = ""
    planned_ns: int = 0
    reason: str = ""
    buffer_ratio: float = nan
    buffer_reason: str = ""
    method: str = ""
    fault: str = ""
    is_met: bool = False
    is_proven: bool = False
    is_waiting: bool = False
    cost_quote: float = 0.0
    cost_as_is_quote: float = 0.0
    short_quote: float = 0.0
    transfers: tuple[Transfer, ...] = ()
    shadow_prices: tuple[ShadowPrice, ...] = ()
    violations: tuple[str, ...] = ()
    excesses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    not_moved: tuple[str, ...] = ()
    told: tuple[Told, ...] = ()


class _Question(msgspec.Struct, frozen=True):
    plan_id: str
    asked_ns: int
    reason: str
    buffer: Target


class CollateralDesk:
    """The plans of one vault: when one is asked for, and what becomes of it."""

    def __init__(
        self, run_id: str, risk: RiskSettings, keeper: MarginKeeper, top_ups: TopUps, board: CounterpartyKeeper | None
    ) -> None:
        assert risk.collateral is not None, "a desk is made for a vault that plans collateral"
        self.plans = 0  # that came
        self.unmet = 0  # and of those, that fall short
        self.by_rule = 0  # questions that nobody answered in time, or with nothing to use
        self.told: deque[Told] = deque(maxlen=MAX_TOLD)
        self._run_id = run_id
        self._risk = risk
        self._rules = risk.collateral
        self._keeper = keeper
        self._top_ups = top_ups
        self._board = board
        self._routes = {route_name(one): one for one in risk.transfers.routes}
        self._multipliers: dict[tuple[str, str], tuple[float, ...]] = {}
        self._number = 0
        self._waiting: _Question | None = None
        self._asked = _Question("", 0, "", Target(nan, nan, nan, ""))  # what the newest plan answers
        self._plan: CollateralPlan | None = None
        self._is_answered = False  # the newest question
        self._plan_ns = 0
        self._answer = CollateralPlanned("", "", "", "", 0, 0)
        self._queue: tuple[Transfer, ...] = ()
        self._moved: list[str] = []
        self._not_moved: list[str] = []
        self._refused: set[str] = set()  # accounts that a transfer of the newest plan should have reached
        self._began_ns = 0
        self._due_ns = 0
        self._last_asked_ns = 0
        self._seen_changes = 0
        self._seen_looks = 0
        self._states: dict[str, MarginState] = {}  # at the last question, or better since
        self._short: set[str] = set()  # of their buffers, likewise
        self._buffer = Target(nan, nan, nan, "")  # at the last question

    def adopt(self, risk: RiskSettings) -> None:
        """Pose problems by other settings from now on."""
        self._risk = risk

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, event: CollateralPlanned) -> None:
        """Take in a plan; one that nobody waits for any more changes nothing."""
        question, now_ns = self._waiting, event.ts_recv_ns
        if question is None or event.plan_id != question.plan_id:
            return
        self._waiting, self._is_answered = None, True
        self._asked, self._answer = question, event
        self._moved, self._not_moved, self._refused, self._queue = [], [], set(), ()
        self._plan = None
        if event.fault:
            self._tell(now_ns, f"{event.plan_id}: {event.fault}")
        try:
            plan = decode_plan(event.text) if event.text else None
        except ValueError as error:
            plan = None
            self._tell(now_ns, f"{event.plan_id} cannot be read: {error}")
        if plan is None:
            self.by_rule += 1
            return
        self.plans += 1
        self._plan, self._plan_ns = plan, now_ns
        self._queue = in_order(plan.transfers)
        self.unmet += not plan.is_met
        for text in (*(one.text for one in plan.violations), *(one.text for one in plan.excesses), *plan.warnings):
            self._tell(now_ns, f"{event.plan_id}: {text}")

    def restart(self) -> None:
        """Forget a question under way, which died with whoever was to answer it, and ask anew soon."""
        self._waiting = None
        self._queue = ()
        self._due_ns = self._last_asked_ns = 0

    # ── what is done ─────────────────────────────────────────────────────────────────────────────────────────────────

    def review(self, now_ns: int, *, may_send: bool) -> list[Command]:
        """Return what the newest plan moves, and a question where one is due."""
        commands: list[Command] = []
        if self._queue:
            commands += self._carry_out(now_ns) if may_send else self._drop(now_ns)
        waiting = self._waiting
        if waiting is not None:
            if now_ns - waiting.asked_ns < self._rules.patience_ns:
                return commands
            self._waiting = None
            self._is_answered = False
            self.by_rule += 1
            patience_s = self._rules.patience_ns / NS_PER_S
            self._tell(now_ns, f"{waiting.plan_id}: no answer within {patience_s:g} s, top-ups go by rule")
        if not may_send:
            return commands
        why = self._why_now(now_ns)
        if why:
            commands += self._ask(why, now_ns)
        return commands

    def is_planned(self, account: str, now_ns: int) -> bool:
        """Tell whether an account's top-ups are the plan's business now: a plan is on its way, or fresh and moved."""
        if self._waiting is not None:
            return True
        if self._plan is None or not self._is_answered or account in self._refused:
            return False
        return now_ns - self._plan_ns < STALE_BEATS * self._rules.plan_ns

    def now(self) -> CollateralNow:
        """Return the newest plan as people want to see it."""
        plan, asked = self._plan, self._asked
        found = CollateralNow(
            plan_id=asked.plan_id,
            planned_ns=self._answer.ts_recv_ns,
            reason=asked.reason,
            buffer_ratio=asked.buffer.ratio,
            buffer_reason="; ".join(filter(None, (asked.buffer.reason, asked.buffer.degraded))),
            method=self._answer.method,
            fault=self._answer.fault,
            is_waiting=self._waiting is not None,
            moved=tuple(self._moved),
            not_moved=tuple(self._not_moved),
            told=tuple(self.told),
        )
        if plan is None:
            return found
        return msgspec.structs.replace(
            found,
            is_met=plan.is_met,
            is_proven=plan.is_proven,
            cost_quote=plan.cost_quote,
            cost_as_is_quote=plan.cost_as_is_quote,
            short_quote=plan.short_quote,
            transfers=in_order(plan.transfers),
            shadow_prices=plan.shadow_prices,
            violations=tuple(one.text for one in plan.violations),
            excesses=tuple(one.text for one in plan.excesses),
            notes=plan.notes,
            warnings=plan.warnings,
        )

    def _pose(self, now_ns: int) -> CollateralProblem:
        ratio = self._buffer.ratio
        return Posing(self._keeper, self._top_ups, self._board, self._risk, now_ns, ratio, self._multipliers).problem()

    def _carry_out(self, now_ns: int) -> list[Command]:
        """Return the transfers of a plan that has just come, as far as the rules of transfers allow them."""
        queue, self._queue = self._queue, ()
        commands: list[Command] = []
        for one in queue:
            route = self._routes.get(one.route)
            reason = f"{self._asked.plan_id}: {one.reason}"
            if route is None:
                found: TransferCollateral | str = f"{one.route} is no route of the vault"
            else:
                found = self._top_ups.move(route, one.amount, reason, now_ns)
            if isinstance(found, TransferCollateral):
                commands.append(found)
                self._moved.append(found.transfer_id)
            else:
                self._not_moved.append(found)
                self._refused.add(one.to_place)
                self._tell(now_ns, f"{self._asked.plan_id}: {found}")
        return commands

    def _drop(self, now_ns: int) -> list[Command]:
        """Leave a plan alone that came when nothing may be sent."""
        self._tell(now_ns, f"{self._asked.plan_id}: nothing may be sent now, its transfers are dropped")
        self._queue = ()
        self._due_ns = now_ns
        return []

    def _why_now(self, now_ns: int) -> str:
        """Return why a plan is asked for in this very moment, "" if it is not."""
        looks = self._keeper.looks
        is_seen = looks == self._seen_looks and self._top_ups.changes == self._seen_changes
        if now_ns < self._due_ns and is_seen:
            return ""
        self._began_ns = self._began_ns or now_ns
        known = [is_known(one) for one in self._keeper.accounts.values()]
        if not any(known) or (not all(known) and now_ns - self._began_ns < WAITED_NS):
            return ""
        why = self._grown_worse() if looks != self._seen_looks else ""
        if why or (self._last_asked_ns and now_ns - self._last_asked_ns < BETWEEN_NS):
            return why
        self._seen_looks = looks
        if now_ns >= self._due_ns:
            return "it is time"
        if self._top_ups.changes != self._seen_changes:
            return "a transfer ended or is overdue"
        buffer = required_buffer(self._keeper, self._rules)
        if buffer.ratio > GROWN * self._buffer.ratio:
            return f"the buffer grows from {self._buffer.ratio:.2f} to {buffer.ratio:.2f}: {buffer.reason}"
        return ""

    def _grown_worse(self) -> str:
        """Return which account is in a worse state than at the last question, or since; "" if none is."""
        for name, one in self._keeper.accounts.items():
            state = one.standing.asked if one.standing is not None else MarginState.NORMAL
            if SEVERITY[state] > SEVERITY[self._states.get(name, MarginState.NORMAL)]:
                return f"{name} is at {state}"
            self._states[name] = state  # what has eased may grow worse again
            if not self._top_ups.is_short(one):
                self._short.discard(name)
            elif name not in self._short:
                return f"{name} is short of its buffer"
        return ""

    def _ask(self, why: str, now_ns: int) -> list[Command]:
        self._due_ns = now_ns + self._rules.plan_ns
        self._last_asked_ns = now_ns
        self._seen_looks, self._seen_changes = self._keeper.looks, self._top_ups.changes
        self._states = {
            name: one.standing.asked for name, one in self._keeper.accounts.items() if one.standing is not None
        }
        self._short = {name for name, one in self._keeper.accounts.items() if self._top_ups.is_short(one)}
        self._buffer = required_buffer(self._keeper, self._rules)
        self._number += 1
        plan_id = f"{self._run_id}-P{self._number}"
        try:
            text = msgspec.json.encode(self._pose(now_ns)).decode()
        except MODEL_ERRORS as error:
            self.by_rule += 1
            self._is_answered = False
            self._tell(now_ns, f"{plan_id}: no problem can be posed, top-ups go by rule: {error}")
            return []
        self._waiting = _Question(plan_id, now_ns, why, self._buffer)
        return [PlanCollateral(self._waiting.plan_id, text, self._rules.time_limit_s, why)]

    def _tell(self, now_ns: int, text: str) -> None:
        """Say something; what was said of an earlier plan in the same words is said of this one instead."""
        words = text.partition(": ")[2]
        for one in self.told:
            if one.text.partition(": ")[2] == words:
                self.told.remove(one)
                break
        self.told.append(Told(now_ns, text))


def summary_of(desk: CollateralDesk | None) -> dict[str, int]:
    """Return how many plans came, fell short, and were stood in for by the rule; nothing where nobody plans."""
    if desk is None:
        return {}
    return {"plans": desk.plans, "unmet": desk.unmet, "by_rule": desk.by_rule}
