"""Scenarios as data: price moves beside vol shocks that shrink with time to expiry, with weights for the tails.

Every margin model that looks at scenarios is a set of these and some charges beside them; `bot.risk.repricing` prices
them. Nothing in here is a number of any venue: those are in parameter sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

DOWN: Final = "down"
SAME: Final = "same"
UP: Final = "up"
DAYS_PER_YEAR: Final = 365.0


class Scenario(msgspec.Struct, frozen=True, gc=False):
    """Spot moves by the share `move`, vol "down", "same" or "up" (as its `VolShock` says) or by a number of its own.

    A number is a change at the shock's reference time, signed. `weight` is how much of the P&L counts. `is_extended`
    marks the far tails, which some models treat in another way; in JSON its name is `extended`.
    """

    move: float
    vol: str | float = SAME
    weight: float = 1.0
    is_extended: bool = msgspec.field(default=False, name="extended")

    @property
    def name(self) -> str:
        """What people call it: "-16%, vol up", with its weight where it has one."""
        vol = f"vol {self.vol}" if isinstance(self.vol, str) else f"vol {self.vol:+.0%}"
        weight = "" if self.weight == 1.0 else f", weight {self.weight:.3g}"
        return f"{self.move * 100.0:+.4g}%, {vol}{weight}"


class VolShock(msgspec.Struct, frozen=True, kw_only=True):
    """How far vol goes up and down, by time to expiry: shock × (reference_days / max(days, least_days)) ** power.

    The power is `short_power` below `reference_days` and `long_power` from there on. Shocks are shares of the vol, or
    with `in_points` added to it (0.25: 25 points). With `points_by_days` (days, shock; linear between) up and down are
    both what the table says, before `up` and `down`, which then multiply it. Vol shocked up is at least `least_vol_up`;
    no vol goes below 0.
    """

    up: float = 0.0
    down: float = 0.0
    short_power: float = 0.0
    long_power: float = 0.0
    reference_days: float = 30.0
    least_days: float = 1.0
    least_vol_up: float = 0.0
    in_points: bool = False
    points_by_days: tuple[tuple[float, float], ...] = ()

    def scale(self, tau_years: Floats) -> Floats:
        """Return what a shock at the reference time is multiplied by, for each time to expiry."""
        days = np.maximum(tau_years * DAYS_PER_YEAR, 0.0)
        if self.points_by_days:
            at, shocks = np.array(self.points_by_days, dtype=float).T
            between: Floats = np.interp(days, at, shocks)
            return between
        ratio = self.reference_days / np.maximum(days, self.least_days)
        power = np.where(days < self.reference_days, self.short_power, self.long_power)
        scale: Floats = np.power(ratio, power)
        return scale

    def change(self, vol: str | float) -> float:
        """Return the signed change at the reference time that a scenario's word or number stands for."""
        if isinstance(vol, str):
            return {DOWN: -self.down, SAME: 0.0, UP: self.up}[vol]
        return float(vol)

    def shocked(self, vol: Floats, tau_years: Floats, word: str | float, scale: Floats | None = None) -> Floats:
        """Return each vol after the shock of that word or number; `scale`, where known, saves working it out."""
        change = self.change(word)
        if change == 0.0 and word != UP:
            return vol
        moved = change * (self.scale(tau_years) if scale is None else scale)
        out = vol + moved if self.in_points or self.points_by_days else vol * (1.0 + moved)
        return np.maximum(out, self.least_vol_up if change > 0.0 or word == UP else 0.0)


class ScenarioSet:
    """Scenarios of one model with the vol shock they share, and their numbers as arrays, one per scenario.

    `moves` and `vols` are the distinct price moves and vol words; `move_of` and `vol_of` say which ones a scenario has.
    """

    __slots__ = (
        *("is_extended", "move", "move_of", "moves", "names", "scenarios", "shock", "vol_of", "vols", "weight"),
        *("with_later_move_of", "with_later_vol_of", "with_now_move_of", "with_now_moves", "with_now_vol_of"),
    )

    def __init__(self, scenarios: Sequence[Scenario], shock: VolShock) -> None:
        """Take at least one scenario. Raises ValueError for none, an unknown vol word or a price that falls to 0."""
        if not scenarios:
            raise ValueError("expected at least one scenario, found none")
        for one in scenarios:
            if not (one.move > -1.0 and one.weight >= 0.0):
                raise ValueError(f"expected a move above -100% and a weight not below 0, found {one.name}")
            if isinstance(one.vol, str) and one.vol not in (DOWN, SAME, UP):
                raise ValueError(f"expected vol down, same, up or a number, found {one.vol!r}")
        self.scenarios = tuple(scenarios)
        self.shock = shock
        self.names = tuple(one.name for one in scenarios)
        self.move: Floats = np.array([one.move for one in scenarios], dtype=float)
        self.weight: Floats = np.array([one.weight for one in scenarios], dtype=float)
        self.is_extended: Flags = np.array([one.is_extended for one in scenarios], dtype=bool)
        self.moves: Floats = np.array(list(dict.fromkeys(one.move for one in scenarios)), dtype=float)
        self.vols: tuple[str | float, ...] = tuple(dict.fromkeys(one.vol for one in scenarios))
        moves = self.moves.tolist()
        self.move_of: Ints = np.array([moves.index(one.move) for one in scenarios], dtype=np.int64)
        self.vol_of: Ints = np.array([self.vols.index(one.vol) for one in scenarios], dtype=np.int64)
        # The same with one more scenario at the end, in which nothing moves: repricing takes both in one pass.
        self.with_now_moves: Floats = np.append(self.moves, 0.0)
        self.with_now_move_of: Ints = np.append(self.move_of, len(self.moves))
        self.with_now_vol_of: Ints = np.append(self.vol_of, len(self.vols))
        # And one more, in which time passes: its vols are a line more.
        self.with_later_move_of: Ints = np.append(self.with_now_move_of, len(self.moves))
        self.with_later_vol_of: Ints = np.append(self.with_now_vol_of, len(self.vols) + 1)

    def __len__(self) -> int:
        return len(self.scenarios)

    def shocked_vols(self, vol: Floats, tau_years: Floats) -> Floats:
        """Return the vols after each of `vols`, one line per shock, and as they are now in a last line."""
        out = np.empty((len(self.vols) + 1, len(vol)))
        out[-1] = vol
        scale = self.shock.scale(tau_years)
        for line, word in enumerate(self.vols):
            out[line] = self.shock.shocked(vol, tau_years, word, scale)
        return out


def price_vol_grid(price_range: float, buckets: int, vols: Iterable[str | float] = (DOWN, SAME, UP)) -> list[Scenario]:
    """Return `buckets` equal price steps on either side of none, each with every vol, from the lowest price up."""
    if not (0.0 < price_range < 1.0 and buckets >= 1):
        raise ValueError(f"expected a price range within (0, 1) and buckets, found {price_range:g} and {buckets}")
    steps = range(-buckets, buckets + 1)
    words = tuple(vols)
    return [Scenario(price_range * step / buckets, word) for step in steps for word in words]


def tails(moves: Iterable[float], price_range: float, factor: float = 1.0, vol: str | float = UP) -> list[Scenario]:
    """Return far moves whose P&L counts factor × price_range / |move|: a linear book loses what it does at the edge."""
    return [Scenario(move, vol, factor * price_range / abs(move), is_extended=True) for move in moves]
