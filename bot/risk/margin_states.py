"""How near to liquidation an account is, in five states, and what each of them allows.

What is refused follows the newest numbers at once: refusing costs nothing. What is sold follows `Standing.state`, which
gets worse by one step per 30 seconds at most, so that one bad number closes no book; and nothing gets better before the
numbers are clear of the threshold they crossed. Time is data: nothing here knows what time it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from math import isnan
from typing import Final

import msgspec

from bot.domain.decisions import BotState
from bot.domain.risk import MarginState
from bot.domain.units import NS_PER_S

STATES: Final = tuple(MarginState)  # from the loosest to the strictest
SEVERITY: Final = {state: place for place, state in enumerate(STATES)}


class StateRule(msgspec.Struct, frozen=True, kw_only=True):
    """When an account is in which state: by normalised utilisation (1 is liquidation), or by the chance of that.

    The probability is that of touching the liquidation price before a transfer could arrive. A state is left
    `hysteresis_ratio` below the utilisation that entered it and at half the probability; CRITICAL only below
    `critical_until_ratio`, as far as its slices reduce to. Margin: design figures 60/80/90/97 % of venue risk desks.
    """

    watch_ratio: float = 0.60
    act_ratio: float = 0.80
    critical_ratio: float = 0.90
    emergency_ratio: float = 0.97
    act_probability: float = 0.01
    critical_probability: float = 0.05
    hysteresis_ratio: float = 0.05
    critical_until_ratio: float = 0.70
    step_up_ns: int = 30 * NS_PER_S

    def __post_init__(self) -> None:
        """Refuse thresholds that are not in order: a worse number would then be in a looser state."""
        rising = (0.0, self.watch_ratio, self.act_ratio, self.critical_ratio, self.emergency_ratio)
        if not all(low < high for low, high in pairwise(rising)):
            raise ValueError(f"expected watch, act, critical and emergency utilisation to rise, found {rising[1:]}")
        if not 0.0 < self.act_probability < self.critical_probability < 1.0:
            found = f"{self.act_probability:g} and {self.critical_probability:g}"
            raise ValueError(f"expected probabilities of act and critical to rise between 0 and 1, found {found}")
        if not (0.0 <= self.hysteresis_ratio < self.watch_ratio and self.step_up_ns >= 0):
            raise ValueError(f"expected a hysteresis from 0 to {self.watch_ratio:g}, found {self.hysteresis_ratio:g}")
        if not 0.0 < self.critical_until_ratio < self.critical_ratio:
            found = f"{self.critical_until_ratio:g}"
            raise ValueError(f"expected critical to be left below {self.critical_ratio:g}, found {found}")


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where an account stands. `asked` is what the numbers say, `state` what is acted on: never stricter than `asked`.

    `stepped_up_ns` is when `state` last got worse, 0 if never; `reason` says in numbers what stands behind `asked`.
    """

    state: MarginState
    asked: MarginState
    since_ns: int
    stepped_up_ns: int
    reason: str


class Permission(msgspec.Struct, frozen=True, gc=False):
    """What an account may be used for. Reducing is always allowed, by name, so that nobody forgets to ask."""

    may_add: bool = True
    may_hedge: bool = True
    may_withdraw: bool = True
    must_top_up: bool = False
    must_reduce: bool = False
    must_close: bool = False
    may_reduce: bool = True


_ACT: Final = Permission(may_add=False, may_withdraw=False, must_top_up=True)
_CRITICAL: Final = msgspec.structs.replace(_ACT, may_hedge=False, must_reduce=True)
PERMISSIONS: Final = {
    MarginState.NORMAL: Permission(),
    MarginState.WATCH: Permission(may_withdraw=False),
    MarginState.ACT: _ACT,
    MarginState.CRITICAL: _CRITICAL,
    MarginState.EMERGENCY: msgspec.structs.replace(_CRITICAL, must_close=True),
}


def stand(
    before: Standing | None,
    utilisation_ratio: float,
    touch_probability: float,
    now_ns: int,
    rule: StateRule = StateRule(),  # noqa: B008 — frozen
) -> Standing:
    """Return where an account stands now that its utilisation and its chance of liquidation are these.

    Without a standing before there is nothing to wait for, and the numbers decide at once. A number that is none is
    not good news: the account stays where it was, at ACT at least, so that nothing is added on what nobody knows.
    """
    was = before.asked if before is not None else MarginState.NORMAL
    asked, reason = _ask(was, utilisation_ratio, touch_probability, rule)
    if before is None:
        return Standing(asked, asked, now_ns, now_ns if asked is not MarginState.NORMAL else 0, reason)
    place, wanted = SEVERITY[before.state], SEVERITY[asked]
    if wanted < place:
        return Standing(asked, asked, now_ns, before.stepped_up_ns, reason)
    is_due = not before.stepped_up_ns or now_ns - before.stepped_up_ns >= rule.step_up_ns
    if wanted > place and is_due:
        return Standing(STATES[place + 1], asked, now_ns, now_ns, reason)
    return Standing(before.state, asked, before.since_ns, before.stepped_up_ns, reason)


def permit(standing: Standing) -> Permission:
    """Return what an account may be used for: refusals by what is asked, duties by the state that has been reached."""
    refusals, duties = PERMISSIONS[standing.asked], PERMISSIONS[standing.state]
    return msgspec.structs.replace(refusals, must_reduce=duties.must_reduce, must_close=duties.must_close)


def bot_state_of(standings: Iterable[Standing]) -> BotState:
    """Return what the bot may do at most: it runs until an account is CRITICAL, then only shrinks net delta.

    One account at ACT takes no more risk itself, and others go on hedging; that is no state of the bot.
    """
    worst = max((SEVERITY[one.state] for one in standings), default=0)
    return BotState.REDUCE_ONLY if worst >= SEVERITY[MarginState.CRITICAL] else BotState.RUNNING


def _ask(
    was: MarginState, utilisation_ratio: float, touch_probability: float, rule: StateRule
) -> tuple[MarginState, str]:
    unknown = []
    if isnan(utilisation_ratio):
        unknown.append("utilisation")
    if isnan(touch_probability):
        unknown.append("the chance of liquidation")
    found = MarginState.NORMAL
    for state in STATES[1:]:
        is_in = SEVERITY[state] <= SEVERITY[was]
        if _holds(state, utilisation_ratio, touch_probability, rule, is_in=is_in):
            found = state
    told = f"utilisation {utilisation_ratio:.1%}, {touch_probability:.2%} likely to be liquidated before a transfer"
    if unknown:
        found = max(found, was, MarginState.ACT, key=SEVERITY.__getitem__)
        told = f"{' and '.join(unknown)} unknown: nothing is added"
    return found, told


def _holds(
    state: MarginState, utilisation_ratio: float, touch_probability: float, rule: StateRule, *, is_in: bool
) -> bool:
    """Tell whether the numbers are those of a state or of a stricter one; once in it they must be clear of it."""
    limit, likely = _thresholds(state, rule)
    if is_in:
        limit -= rule.hysteresis_ratio
        likely *= 0.5
        if state is MarginState.CRITICAL:
            limit = min(limit, rule.critical_until_ratio)
    return utilisation_ratio >= limit or touch_probability > likely


def _thresholds(state: MarginState, rule: StateRule) -> tuple[float, float]:
    """Return the utilisation and the probability at which a state is entered; 2.0 is one that is never reached."""
    if state is MarginState.WATCH:
        return rule.watch_ratio, rule.act_probability
    if state is MarginState.ACT:
        return rule.act_ratio, rule.act_probability
    if state is MarginState.CRITICAL:
        return rule.critical_ratio, rule.critical_probability
    return rule.emergency_ratio, 2.0
