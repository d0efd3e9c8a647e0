"""Getting out of a venue that may fail: what to do in which order, and a trail of what was done and why.

Freeze new risk there, hedge its delta elsewhere, cancel what rests, withdraw the smallest first over two chains at a
time, and close positions in order of margin released per quote money of slippage. What is left counts at its recovery
value. While both stand, the hedge elsewhere and the position there, net delta is an interval between the venue living
and not; as positions there are closed, the hedge is taken off by as much.
Time is data: `advance` is told what is seen and answers with what to do; what is not done is asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import copysign, inf, isfinite
from typing import Final

import msgspec

from bot.domain.risk import TransferState
from bot.domain.units import NS_PER_S

_MAX_TRAIL: Final = 10_000
_ENDED_WELL: Final = frozenset({TransferState.ARRIVED})
_ENDED_BADLY: Final = frozenset({TransferState.FAILED, TransferState.REVERSED})


class Stage(StrEnum):
    """How far a drain is; WITHDRAW and CLOSE take turns until nothing is left."""

    FREEZE = "freeze"
    HEDGE = "hedge"
    CANCEL = "cancel"
    WITHDRAW = "withdraw"
    CLOSE = "close"
    DONE = "done"


class DrainRules(msgspec.Struct, frozen=True, kw_only=True):
    """How a drain goes.

    `rungs` are shares of what is free, rising; a chain climbs one per arrival, and falls one per failure.
    `close_share` is of a position as it was first seen. A stage that does not get on is left after its patience, named;
    a chain that failed rests for `retry_ns`, and once all in use failed twice running, nothing waits for them. Without
    any progress for `give_up_ns` the rest is left to the recovery.
    """

    rungs: tuple[float, ...]
    chains_at_once: int = 2
    hedge_share: float = 1.0
    hedge_tolerance_quote: float = 0.0
    close_share: float = 0.1
    dust_quote: float = 0.0
    hedge_patience_ns: int = 60 * NS_PER_S
    cancel_patience_ns: int = 10 * NS_PER_S
    retry_ns: int = 60 * NS_PER_S
    give_up_ns: int = 86_400 * NS_PER_S
    loss_given_default: float = 0.75

    def __post_init__(self) -> None:
        rises = list(self.rungs) == sorted(set(self.rungs))
        if not self.rungs or not rises or self.rungs[0] <= 0.0 or self.rungs[-1] != 1.0:
            raise ValueError(f"expected rungs that rise from above 0 to 1, found {self.rungs}")


class Held(msgspec.Struct, frozen=True):
    """What can be withdrawn of an asset, what it is worth a unit, the least a withdrawal can be, and its routes."""

    asset: str
    free: float
    px: float
    routes: tuple[str, ...]
    min_amount: float = 0.0


class Open(msgspec.Struct, frozen=True):
    """A position there: what closing all of it would release in margin, and cost."""

    instrument_id: str
    qty_base: float
    margin_quote: float
    slippage_quote: float


class DrainView(msgspec.Struct, frozen=True, kw_only=True):
    """What is seen at one time. `hedged_quote` is the delta put on elsewhere for this drain so far.

    Where the venue is known to let nothing out (`lets_out`), closing does not wait for withdrawals.
    """

    delta_quote: float
    hedged_quote: float
    open_orders: int
    held: tuple[Held, ...]
    positions: tuple[Open, ...]
    lets_out: bool = True


class Freeze(msgspec.Struct, frozen=True):
    """Add no risk at the venue from now on."""

    venue: str


class HedgeElsewhere(msgspec.Struct, frozen=True):
    """Put this much delta on anywhere else: what the venue's positions are worth in delta and what is missing of it."""

    delta_quote: float


class CancelOrders(msgspec.Struct, frozen=True):
    """Cancel everything that rests at the venue."""

    venue: str


class Withdraw(msgspec.Struct, frozen=True):
    """Take an amount of an asset out over a route."""

    asset: str
    amount: float
    route: str


class Close(msgspec.Struct, frozen=True):
    """Close so much of a position there, signed as a trade."""

    instrument_id: str
    qty_base: float


Step = Freeze | HedgeElsewhere | CancelOrders | Withdraw | Close


class Entry(msgspec.Struct, frozen=True):
    """One line of the trail."""

    at_ns: int
    stage: Stage
    text: str


class _Chain(msgspec.Struct):
    rung: int = 0
    failures: int = 0  # running
    is_busy: bool = False
    rests_until_ns: int = 0


class Drain:
    """One drain of one venue. `is_exit` waits for neither hedges nor cancels nor withdrawals."""

    def __init__(self, venue: str, rules: DrainRules, now_ns: int, reason: str, *, is_exit: bool = False) -> None:
        self.venue = venue
        self.stage = Stage.FREEZE
        self.trail: list[Entry] = []
        self.unrecovered_quote = 0.0
        self._rules = rules
        self._is_exit = is_exit
        self._since_ns = now_ns  # of the stage
        self._progress_ns = now_ns
        self._asked_ns: dict[str, int] = {}
        self._chains: dict[str, _Chain] = {}
        self._first_base: dict[str, float] = {}
        self._note(now_ns, f"{'exit' if is_exit else 'drain'} of {venue}: {reason}")

    @property
    def is_done(self) -> bool:
        """Tell whether nothing more will be asked for."""
        return self.stage is Stage.DONE

    @property
    def recovery_quote(self) -> float:
        """What the rest counts as: its value less the loss given default."""
        return self.unrecovered_quote * (1.0 - self._rules.loss_given_default)

    def hasten(self, now_ns: int, reason: str) -> None:
        """Wait for neither hedges nor cancels nor withdrawals from now on."""
        if not self._is_exit:
            self._is_exit = True
            self._note(now_ns, f"exit of {self.venue}: {reason}")

    def end(self, now_ns: int, reason: str) -> None:
        """Ask for nothing more: what it was for is over."""
        if not self.is_done:
            self._enter(Stage.DONE, now_ns, reason)

    def note_transfer(self, route: str, state: TransferState, now_ns: int, detail: str = "") -> None:
        """Take in what became of a withdrawal over a route; UNKNOWN keeps the route busy, as it may be under way."""
        chain = self._chains.setdefault(route, _Chain())
        if state in _ENDED_WELL:
            chain.is_busy = False
            chain.failures = 0
            chain.rung = min(chain.rung + 1, len(self._rules.rungs) - 1)
            self._progress_ns = now_ns
        elif state in _ENDED_BADLY:
            chain.is_busy = False
            chain.rung = max(0, chain.rung - 1)
            chain.failures += 1
            chain.rests_until_ns = now_ns + self._rules.retry_ns
        self._note(now_ns, f"withdrawal over {route}: {state}{f', {detail}' if detail else ''}")

    def advance(self, view: DrainView, now_ns: int) -> tuple[Step, ...]:
        """Return what to do now; the stages that are through follow at once, and what is waited for is not repeated."""
        steps: list[Step] = []
        if self.stage is Stage.FREEZE:
            steps.append(Freeze(self.venue))
            self._enter(Stage.HEDGE, now_ns, "no new risk there")
        if self.stage is Stage.HEDGE:
            steps += self._hedge(view, now_ns)
        elif not self.is_done:
            steps += self._keep_hedged(view, now_ns)
        if self.stage is Stage.CANCEL:
            steps += self._cancel(view, now_ns)
        if self.stage in {Stage.WITHDRAW, Stage.CLOSE}:
            steps += self._empty(view, now_ns)
        return tuple(steps)

    def _missing_quote(self, view: DrainView) -> float:
        """Return the delta that has still to be put on elsewhere, negative where it has to be taken off again."""
        return self._rules.hedge_share * view.delta_quote - view.hedged_quote

    def _hedge(self, view: DrainView, now_ns: int) -> Sequence[Step]:
        rules = self._rules
        missing = self._missing_quote(view)
        if not isfinite(missing):
            self._enter(Stage.CANCEL, now_ns, "its delta is not known, so none is hedged")
            return ()
        if abs(missing) <= rules.hedge_tolerance_quote:
            self._enter(
                Stage.CANCEL, now_ns, f"{view.hedged_quote:+,.0f} is hedged elsewhere of {view.delta_quote:+,.0f}"
            )
            return ()
        steps = self._keep_hedged(view, now_ns)
        if self._is_exit or now_ns - self._since_ns >= rules.hedge_patience_ns:
            why = "exit does not wait" if self._is_exit else "patience is over"
            self._enter(Stage.CANCEL, now_ns, f"{missing:,.0f} of delta not yet hedged, {why}")
        return steps

    def _keep_hedged(self, view: DrainView, now_ns: int) -> Sequence[Step]:
        missing = self._missing_quote(view)
        if not abs(missing) > self._rules.hedge_tolerance_quote or not self._may_ask("hedge", now_ns):
            return ()
        self._note(now_ns, f"hedge {missing:+,.0f} elsewhere")
        return (HedgeElsewhere(missing),)

    def _cancel(self, view: DrainView, now_ns: int) -> Sequence[Step]:
        if view.open_orders == 0:
            self._enter(Stage.WITHDRAW, now_ns, "no orders there")
            return ()
        steps: Sequence[Step] = ()
        if self._may_ask("cancel", now_ns):
            self._note(now_ns, f"cancel {view.open_orders} orders")
            steps = (CancelOrders(self.venue),)
        if self._is_exit or now_ns - self._since_ns >= self._rules.cancel_patience_ns:
            self._enter(Stage.WITHDRAW, now_ns, f"{view.open_orders} orders still there, going on")
        return steps

    def _empty(self, view: DrainView, now_ns: int) -> Sequence[Step]:
        """Withdraw what is free; where nothing is, or no chain works, close what releases most for its slippage."""
        left = sum(one.free * one.px for one in view.held) + sum(one.margin_quote for one in view.positions)
        self.unrecovered_quote = max(0.0, left)
        is_under_way = any(chain.is_busy for chain in self._chains.values())
        is_over = not view.positions and not is_under_way and not any(map(self._is_withdrawable, view.held))
        if is_over:
            self._enter(Stage.DONE, now_ns, f"{left:,.2f} left there that cannot be withdrawn")
            return ()
        if now_ns - self._progress_ns >= self._rules.give_up_ns:
            self._enter(Stage.DONE, now_ns, f"no progress; {left:,.0f} left, counted as {self.recovery_quote:,.0f}")
            return ()
        withdrawals = self._withdraw(view, now_ns)
        may_wait = view.lets_out and not self._is_exit
        is_hopeful = any(self._chains[one.route].failures < 2 for one in withdrawals)
        if is_hopeful and may_wait:
            if self.stage is not Stage.WITHDRAW:
                self._enter(Stage.WITHDRAW, now_ns, "something can be withdrawn again")
            return withdrawals
        if withdrawals:
            return (*withdrawals, *self._close(view, now_ns))
        if may_wait and is_under_way and any(map(self._is_withdrawable, view.held)):
            return ()
        return self._close(view, now_ns)

    def _withdraw(self, view: DrainView, now_ns: int) -> list[Withdraw]:
        steps: list[Withdraw] = []
        free = {one.asset: one.free for one in view.held}
        for one in sorted(view.held, key=_value_of):
            for route in one.routes:
                chain = self._chains.setdefault(route, _Chain())
                busy = sum(each.is_busy for each in self._chains.values())
                if chain.is_busy or now_ns < chain.rests_until_ns or busy >= self._rules.chains_at_once:
                    continue
                share = self._rules.rungs[chain.rung]
                amount = min(free[one.asset], max(share * one.free, one.min_amount))
                if amount <= 0.0 or not self._is_withdrawable(one) or free[one.asset] < one.min_amount:
                    continue
                free[one.asset] -= amount
                chain.is_busy = True
                self._note(now_ns, f"withdraw {amount:g} {one.asset} over {route}, {share:.0%} of what is free")
                steps.append(Withdraw(one.asset, amount, route))
        return steps

    def _close(self, view: DrainView, now_ns: int) -> Sequence[Step]:
        best = max(view.positions, key=_released_per_cost, default=None)
        if best is None or best.qty_base == 0.0 or not self._may_ask("close", now_ns):
            return ()
        if self.stage is not Stage.CLOSE:
            self._enter(Stage.CLOSE, now_ns, "nothing can be withdrawn")
        first = self._first_base.setdefault(best.instrument_id, abs(best.qty_base))
        quantity = -copysign(min(abs(best.qty_base), self._rules.close_share * first), best.qty_base)
        ratio = _released_per_cost(best)
        self._note(now_ns, f"close {quantity:+g} {best.instrument_id}: releases {ratio:.1f} per unit of slippage")
        return (Close(best.instrument_id, quantity),)

    def note_closed(self, now_ns: int, detail: str) -> None:
        """Take in that a closing trade was filled: the next may follow at once."""
        self._asked_ns.pop("close", None)
        self._progress_ns = now_ns
        self._note(now_ns, f"closed: {detail}")

    def _is_withdrawable(self, held: Held) -> bool:
        is_dust = held.free * held.px <= self._rules.dust_quote  # what has no price is none
        return held.free > 0.0 and held.free >= held.min_amount and not is_dust and bool(held.routes)

    def _may_ask(self, what: str, now_ns: int) -> bool:
        asked_ns = self._asked_ns.get(what)
        if asked_ns is not None and now_ns - asked_ns < self._rules.retry_ns:
            return False
        self._asked_ns[what] = now_ns
        return True

    def _enter(self, stage: Stage, now_ns: int, why: str) -> None:
        self.stage = stage
        self._since_ns = now_ns
        self._note(now_ns, why)

    def _note(self, now_ns: int, text: str) -> None:
        if len(self.trail) < _MAX_TRAIL:
            self.trail.append(Entry(now_ns, self.stage, text))


def wants_drain(actions: Mapping[str, str], draining: Mapping[str, Drain]) -> tuple[str, ...]:
    """Return the venues whose action is to drain or to exit and that are not being drained yet."""
    return tuple(name for name, action in actions.items() if action in {"drain", "exit"} and name not in draining)


def _value_of(held: Held) -> float:
    value = held.free * held.px
    return value if isfinite(value) else inf


def _released_per_cost(position: Open) -> float:
    cost = position.slippage_quote
    return position.margin_quote / cost if cost > 0.0 else inf
