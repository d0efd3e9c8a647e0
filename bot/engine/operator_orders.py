"""What a person has ordered beyond the bot's state: a target, a band, one hedge now, everything flat.

All of it arrives as `OperatorCommand` and so comes back with a replay. Nothing here sends or trades anything, and no
order of a person's loosens a limit: it only says where net delta should be, and the engine goes the usual way there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import isfinite
from typing import NamedTuple

import msgspec

from bot.domain.decisions import BotState, HedgeTarget, HedgeView
from bot.domain.events import OperatorAction, OperatorCommand
from bot.domain.orders import OrderState
from bot.domain.units import NS_PER_S, utc_text
from bot.engine.orders import Order
from bot.engine.settings import OperatorBounds

HEDGE_NOW_NS = 60 * NS_PER_S  # how long a hedge that was asked for is tried before it is given up
MAX_NOTES = 20
MAX_VERDICTS = 100

_STRICTER = frozenset({OperatorAction.HALT, OperatorAction.PAUSE, OperatorAction.REDUCE_ONLY})  # never refused
_NUMBERS = ("target_base", "low_base", "high_base")


class CommandRefusal(StrEnum):
    """Why an operator's command was not carried out."""

    UNKNOWN_UNDERLYING = "unknown_underlying"
    BAD_ARGUMENTS = "bad_arguments"
    NOT_ALLOWED = "not_allowed"
    OUT_OF_BOUNDS = "out_of_bounds"
    NOT_NOW = "not_now"


class CommandRefused(NamedTuple):
    """A command that was not carried out, and why in words."""

    refusal: CommandRefusal
    text: str


class Target(NamedTuple):
    """The net delta a person wants kept instead of the file's."""

    target_base: float
    issuer: str


class Band(NamedTuple):
    """The band a person wants instead of the policy's: how far net delta may be below and above its target."""

    low_base: float
    high_base: float
    issuer: str


class HedgeNow:
    """One hedge to the target, band or no band; `orders` are those of its newest decision."""

    def __init__(self, command: OperatorCommand) -> None:
        self.issuer = command.issuer
        self.reason = command.reason
        self.since_ns = command.ts_recv_ns
        self.orders: tuple[Order, ...] = ()
        self.is_whole = False
        self.shaped_ns = 0  # when a decision last went by it …
        self.is_known = False  # … and whether net delta was known then

    @property
    def is_under_way(self) -> bool:
        """Tell whether an order of it may still do something."""
        return any(not order.state.is_terminal for order in self.orders)

    @property
    def is_filled(self) -> bool:
        """Tell whether all that was wanted was ordered, and all of that came back."""
        return self.is_whole and bool(self.orders) and all(one.state is OrderState.FILLED for one in self.orders)


class Flatten:
    """Everything this run holds as a hedge is to be closed; `left` says what is not yet, and why."""

    def __init__(self, command: OperatorCommand) -> None:
        self.issuer = command.issuer
        self.reason = command.reason
        self.is_done = False
        self.left: dict[str, dict[str, str]] = {}  # by underlying and instrument
        self.order_ids: set[str] = set()

    @property
    def title(self) -> str:
        """What every order of it gives as its reason."""
        return f"flattening by {self.issuer}: {self.reason}"

    def tell(self) -> str:
        """Say how far it has come."""
        left = "".join(f"; {name}: {why}" for one in self.left.values() for name, why in one.items())
        return f"{f'flattened by {self.issuer}: {self.reason}' if self.is_done else self.title}{left}"


class OperatorOrders:
    """The standing orders of a person for one vault, and whether a new one may be carried out."""

    def __init__(self, underlyings: Iterable[str], bounds: Mapping[str, OperatorBounds]) -> None:
        self._underlyings = tuple(underlyings)
        self._bounds = bounds
        self.targets: dict[str, Target] = {}
        self.bands: dict[str, Band] = {}
        self.hedging: dict[str, HedgeNow] = {}
        self.flatten: Flatten | None = None
        self.notes: deque[tuple[int, str]] = deque(maxlen=MAX_NOTES)  # what became of orders, newest last
        self._verdicts: deque[tuple[OperatorCommand, CommandRefused | None]] = deque(maxlen=MAX_VERDICTS)

    @property
    def is_busy(self) -> bool:
        """Tell whether anything that was ordered is still to be done."""
        return bool(self.hedging) or self.flatten is not None

    # ── may it be done ───────────────────────────────────────────────────────────────────────────────────────────────

    def refuse(self, command: OperatorCommand, state: BotState) -> CommandRefused | None:
        """Return why a command must not be carried out, None if it may. What makes the bot stricter always may."""
        action = command.action
        if action in _STRICTER:
            return None
        return self._refuse_shape(command) or self._refuse_by_state(action, state) or self._refuse_by_bounds(command)

    def _refuse_shape(self, command: OperatorCommand) -> CommandRefused | None:
        action, name = command.action, command.underlying
        if name and name not in self._underlyings:
            expected = f"an underlying of {', '.join(self._underlyings)}"
            return CommandRefused(CommandRefusal.UNKNOWN_UNDERLYING, f"expected {expected}, found {name[:40]!r}")
        for key in _NUMBERS:
            number = getattr(command, key)
            if number is not None and not isfinite(number):
                return CommandRefused(CommandRefusal.BAD_ARGUMENTS, f"{key}: expected a number, found {number}")
        wanted = {OperatorAction.SET_TARGET: {"target_base"}, OperatorAction.SET_BAND: {"low_base", "high_base"}}
        given = {key for key in _NUMBERS if getattr(command, key) is not None}
        if extra := given - wanted.get(action, set()):
            text = f"{action}: expected no {', '.join(sorted(extra))}, found one"
            return CommandRefused(CommandRefusal.BAD_ARGUMENTS, text)
        if action is OperatorAction.SET_BAND and len(given) == 1:
            text = f"{action}: expected both low_base and high_base, or neither, found {given.pop()} alone"
            return CommandRefused(CommandRefusal.BAD_ARGUMENTS, text)
        if name and action in (OperatorAction.FLATTEN, OperatorAction.RESUME):
            text = f"{action}: expected no underlying, found {name}; hint: it is about the whole vault"
            return CommandRefused(CommandRefusal.BAD_ARGUMENTS, text)
        if given and not name and len(self._underlyings) > 1:
            text = f"{action}: expected one of {', '.join(self._underlyings)}, found no underlying"
            return CommandRefused(CommandRefusal.BAD_ARGUMENTS, text)
        return None

    def _refuse_by_state(self, action: OperatorAction, state: BotState) -> CommandRefused | None:
        closed = {
            OperatorAction.HEDGE_NOW: (BotState.HALTED, BotState.PAUSED),
            OperatorAction.FLATTEN: (BotState.HALTED,),
        }.get(action, ())
        if state not in closed:
            return None
        text = f"{action}: expected a bot that may trade, found it {state}; hint: resume first"
        return CommandRefused(CommandRefusal.NOT_NOW, text)

    def _refuse_by_bounds(self, command: OperatorCommand) -> CommandRefused | None:
        name = command.underlying or self._underlyings[0]
        bounds = self._bounds.get(name, OperatorBounds())
        if command.action is OperatorAction.SET_TARGET and command.target_base is not None:
            return _outside(
                command.target_base, bounds.target_min_base, bounds.target_max_base, f"operator.{name}.target", "target"
            )
        if command.low_base is None or command.high_base is None:
            return None
        if not command.low_base < 0.0 < command.high_base:
            text = (
                f"expected a band around the target, low_base below 0 and high_base above, "
                f"found {command.low_base:g} and {command.high_base:g}"
            )
            return CommandRefused(CommandRefusal.BAD_ARGUMENTS, text)
        for edge, what in ((-command.low_base, "lower edge"), (command.high_base, "upper edge")):
            found = _outside(edge, bounds.band_min_base, bounds.band_max_base, f"operator.{name}.band", what)
            if found is not None:
                return found
        return None

    # ── taking orders ────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, command: OperatorCommand, state: BotState) -> CommandRefused | None:
        """Take a command in, as far as it is not about the bot's state; return why not, if it must not be."""
        refused = self.refuse(command, state)
        self._verdicts.append((command, refused))
        if refused is not None:
            self._note(command.ts_recv_ns, f"{command.action} by {command.issuer} refused: {refused.text}")
            return refused
        names = (command.underlying,) if command.underlying else self._underlyings
        if command.action is OperatorAction.SET_TARGET:
            for name in names:
                self.targets.pop(name, None)
                if command.target_base is not None:
                    self.targets[name] = Target(command.target_base, command.issuer)
        elif command.action is OperatorAction.SET_BAND:
            for name in names:
                self.bands.pop(name, None)
                if command.low_base is not None and command.high_base is not None:
                    self.bands[name] = Band(command.low_base, command.high_base, command.issuer)
        elif command.action is OperatorAction.HEDGE_NOW:
            self.hedging.update({name: HedgeNow(command) for name in names})
        elif command.action is OperatorAction.FLATTEN:
            self.flatten = Flatten(command)
            self.drop_hedges(command.ts_recv_ns, "everything is closed instead")
        elif command.action is OperatorAction.RESUME and self.flatten is not None:
            self._note(command.ts_recv_ns, f"resumed by {command.issuer}: no longer {self.flatten.tell()}")
            self.flatten = None
        return None

    def verdict_on(self, command: OperatorCommand) -> CommandRefused | None:
        """Return why this very command was refused when it was taken in, None if it was not."""
        return next((refused for one, refused in reversed(self._verdicts) if one is command), None)

    def adopt(self, bounds: Mapping[str, OperatorBounds], now_ns: int) -> None:
        """Go on with other bounds; what lies outside of them is given back to the file and the policy."""
        self._bounds = bounds
        for name, target in list(self.targets.items()):
            command = OperatorCommand(
                OperatorAction.SET_TARGET, target.issuer, "", now_ns, "", name, target_base=target.target_base
            )
            if (refused := self._refuse_by_bounds(command)) is not None:
                del self.targets[name]
                self._note(now_ns, f"{name} target given back to the file: {refused.text}")
        for name, band in list(self.bands.items()):
            command = OperatorCommand(
                OperatorAction.SET_BAND,
                band.issuer,
                "",
                now_ns,
                "",
                name,
                low_base=band.low_base,
                high_base=band.high_base,
            )
            if (refused := self._refuse_by_bounds(command)) is not None:
                del self.bands[name]
                self._note(now_ns, f"{name} band given back to the policy: {refused.text}")

    # ── what follows ─────────────────────────────────────────────────────────────────────────────────────────────────

    def aim(self, view: HedgeView) -> HedgeView:
        """Return the view with the target that a person set, if one did."""
        target = self.targets.get(view.underlying)
        return view if target is None else msgspec.structs.replace(view, target_delta_base=target.target_base)

    def shape(self, view: HedgeView, target: HedgeTarget) -> HedgeTarget:
        """Return the band a decision goes by: the policy's, the one a person set, or none where one hedges now."""
        if not (self.hedging or self.bands):  # as at nearly every decision
            return target
        now = self.hedging.get(view.underlying)
        centre_base = view.target_delta_base
        if now is not None and not now.is_under_way:
            # nothing smaller than half a lot can be traded; an edge of its own would be refitted to gas
            now.shaped_ns, now.is_known = view.now_ns, view.delta_low_base == view.delta_high_base
            half_base = 0.5 * view.lot_base
            reason = f"hedge now by {now.issuer}: {now.reason}"
            shaped = HedgeTarget.to_centre(
                centre_base - half_base, centre_base + half_base, centre_base, reason, urgency=1.0
            )
            return msgspec.structs.replace(shaped, options=target.options)
        band = self.bands.get(view.underlying)
        if band is None:
            return target
        low_base, high_base = centre_base + band.low_base, centre_base + band.high_base
        is_to_centre = target.buy_to_base == target.sell_to_base
        return HedgeTarget(
            low_base,
            high_base,
            centre_base if is_to_centre else low_base,
            centre_base if is_to_centre else high_base,
            target.urgency,
            f"band {band.low_base:+.4g} to {band.high_base:+.4g} around {centre_base:+.4g} by {band.issuer}",
            target.options,
        )

    def note_hedge(self, underlying: str, orders: tuple[Order, ...], *, is_whole: bool) -> None:
        """Remember the orders of a hedge that was asked for; others of the same desk are none of its business."""
        now = self.hedging.get(underlying)
        if now is not None and now.shaped_ns == orders[0].intent.decided_ns:
            now.orders, now.is_whole = orders, is_whole and now.is_known

    def settle_hedge(self, underlying: str, now_ns: int, why_not: str, *, is_there: bool) -> None:
        """Let go of a hedge that was asked for once it is made, there is nothing to trade, or its time is over.

        `is_there` says that net delta is known, at its target to the lot, with nothing under way; `why_not` is what
        keeps it from being traded.
        """
        now = self.hedging[underlying]
        if now.is_under_way:
            return
        if now.is_filled or is_there:
            told = "done" if now.orders else "nothing to trade"
        elif now_ns - now.since_ns >= HEDGE_NOW_NS:
            told = f"given up after {HEDGE_NOW_NS // NS_PER_S} s: {why_not or 'not filled'}"
        else:
            return
        del self.hedging[underlying]
        self._note(now_ns, f"hedge now of {underlying} by {now.issuer}: {told}")

    def drop_hedges(self, now_ns: int, why: str) -> None:
        """Let go of every hedge that was asked for."""
        for name, now in self.hedging.items():
            self._note(now_ns, f"hedge now of {name} by {now.issuer}: dropped: {why}")
        self.hedging.clear()

    def tell(self) -> dict[str, str]:
        """Return what stands instead of file and policy, and what was ordered and is not done yet, by subject."""
        found = {f"{name} target": f"{one.target_base:+.3f} by {one.issuer}" for name, one in self.targets.items()}
        found |= {
            f"{name} band": f"{one.low_base:+.3f} to {one.high_base:+.3f} around its target by {one.issuer}"
            for name, one in self.bands.items()
        }
        found |= {
            f"{name} hedge now": f"since {utc_text(one.since_ns)} by {one.issuer}: {one.reason}"
            for name, one in self.hedging.items()
        }
        if self.flatten is not None:
            found["flatten"] = self.flatten.tell()
        return found

    def _note(self, now_ns: int, text: str) -> None:
        self.notes.append((now_ns, text))


def _outside(
    value_base: float, low_base: float | None, high_base: float | None, key: str, what: str
) -> CommandRefused | None:
    """Return why a number is not within its bounds; without bounds there is none that is."""
    if low_base is None or high_base is None:
        expected = f"a vault file that bounds its {key.rpartition('.')[2]}, so that it may be set"
        text = f"expected {expected}, found none; hint: {key}_min_base and {key}_max_base"
        return CommandRefused(CommandRefusal.NOT_ALLOWED, text)
    if low_base <= value_base <= high_base:
        return None
    expected = f"{low_base:g} to {high_base:g}, as {key}_min_base and {key}_max_base allow"
    return CommandRefused(CommandRefusal.OUT_OF_BOUNDS, f"{what}: expected {expected}, found {value_base:g}")
