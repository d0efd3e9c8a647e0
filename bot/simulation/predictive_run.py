"""Reactive against predictive margin on the same paths, at equal average collateral: who is liquidated how often.

Every account holds one book that is renewed weekly, so that risk stays comparable, and has a treasury behind it whose
transfers arrive late. Reactive margin tops up when utilisation is beyond a trigger; predictive margin when equity falls
short of what `bot.risk.predictive` asks for at the 95 % transfer delay. Both send what is missing to their target and
take back what is far over it. Many accounts run at once, a line per policy and a column per path; what a book is worth
and needs is looked up in a table that the margin models of the registry filled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import exp, log, sqrt
from typing import Any, Final

import msgspec
import numpy as np
from scipy.optimize import nnls

from bot.risk.book import OPTION, PERPETUAL, Flags, Floats, Ints, Position, build_book
from bot.risk.margin.registry import MODELS, decode_values
from bot.risk.predictive import Z_99

YEAR_MINUTES: Final = 525_600
UNIT_PX: Final = 50_000.0
_VALUE, _MARGIN = range(2)


class MarginTable:
    """What a book of one unit of notional is worth and needs, by age in days, move since it began, and vol.

    All are shares of the notional: what the book is worth, and its maintenance margin.
    """

    def __init__(self, ages: Floats, moves: Floats, vols: Floats, numbers: Floats) -> None:
        """Take the axes and an array [age, move, vol, what]."""
        self._ages, self._moves, self._vols = ages, moves, vols
        self._numbers = numbers

    def __call__(self, age: float, moves: Floats, vols: Floats) -> Floats:
        """Return value and margin of every path, a line each, from the points around it; beyond the table its edge."""
        (i,), (a,) = _place(self._ages, np.array([age]))
        now = (1.0 - a) * self._numbers[i] + a * self._numbers[i + 1]
        j, b = _place(self._moves, moves)
        k, c = _place(self._vols, vols)
        low = now[j, k] * (1.0 - c)[:, None] + now[j, k + 1] * c[:, None]
        high = now[j + 1, k] * (1.0 - c)[:, None] + now[j + 1, k + 1] * c[:, None]
        found: Floats = (low * (1.0 - b)[:, None] + high * b[:, None]).T
        return found


def _place(axis: Floats, points: Floats) -> tuple[Ints, Floats]:
    """Return between which points of an axis others lie, and how far along."""
    place = np.clip(np.searchsorted(axis, points, side="right") - 1, 0, len(axis) - 2)
    return place, np.clip((points - axis[place]) / (axis[place + 1] - axis[place]), 0.0, 1.0)


def tabulate(
    positions: Callable[[float, float], Sequence[Position]],
    model: str,
    values: dict[str, Any],
    ages: Floats,
    moves: Floats,
    vols: Floats,
) -> MarginTable:
    """Return the table of a book, `positions(age in days, vol)` on a spot of `UNIT_PX`, under a registered model."""
    parameters, ask = decode_values(model, values), MODELS[model].requirement
    numbers = np.empty((len(ages), len(moves), len(vols), 2))
    for i, age in enumerate(ages.tolist()):
        for k, vol in enumerate(vols.tolist()):
            held = positions(age, vol)
            for j, move in enumerate(moves.tolist()):
                book = build_book(held, {"BTC": UNIT_PX * (1.0 + move)})
                numbers[i, j, k] = book.qty_base @ book.mark_px, ask(book, parameters).maintenance
    return MarginTable(ages, moves, vols, numbers / UNIT_PX)


def perpetual_table(model: str, values: dict[str, Any], qty_base: float = 1.0) -> MarginTable:
    """Return the table of a perpetual, which is a plane: two points on each axis are enough."""
    moves = np.array([-0.9, 0.0, 3.0])
    return tabulate(
        lambda _age, _vol: [Position(kind=PERPETUAL, underlying="BTC", qty_base=qty_base)],
        model,
        values,
        np.array([0.0, 7.0]),
        moves,
        np.array([0.1, 3.0]),
    )


def strangle_table(model: str, values: dict[str, Any], days: float = 14.0, width: float = 0.08) -> MarginTable:
    """Return the table of a short strangle hedged elsewhere: strikes `width` away, `days` to expiry when it begins."""

    def positions(age: float, vol: float) -> list[Position]:
        common = {"kind": OPTION, "underlying": "BTC", "qty_base": -1.0, "tau_years": (days - age) / 365.0, "vol": vol}
        return [
            Position(strike_px=UNIT_PX * (1.0 + width), is_call=True, **common),  # type: ignore[arg-type]
            Position(strike_px=UNIT_PX * (1.0 - width), is_call=False, **common),  # type: ignore[arg-type]
        ]

    moves = np.concatenate((np.linspace(-0.6, -0.2, 9)[:-1], np.linspace(-0.2, 0.2, 33), np.linspace(0.2, 0.8, 13)[1:]))
    return tabulate(positions, model, values, np.arange(0.0, 8.0), moves, np.array([0.2, 0.4, 0.6, 0.9, 1.4, 2.5]))


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """A small HAR of our own: variance as a mix of averages of squared returns with these half-lives, in hours.

    `quantile` times the square root of that is the 95 % quantile of vol over the horizon it was fitted for.
    """

    half_lives_hours: tuple[float, ...]
    weights: tuple[float, ...]
    variance: float
    quantile: float
    reference_vol: float


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """How long transfers take: lognormal, by its median and 95 % quantile in minutes, capped."""

    median_minutes: float = 15.0
    p95_minutes: float = 45.0
    most_minutes: float = 240.0


class MarginPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When and how much is topped up. `base_ratio` is equity per maintenance margin.

    Reactive margin tops up below `trigger` × base, up to base. Predictive margin (`is_predictive`) below `trigger` ×
    what is needed after the worse of both bad moves at the delay: 1 + (base − 1) × clip(σ_q / σ_ref, 1, most) times
    margin there and what is lost until there, or base × clip(…) where the whole ratio is scaled, not `scales_buffer`.
    `uses_forecast` false looks ahead with σ_ref always. What is over `sweep` × target goes back to the treasury.
    """

    name: str
    base_ratio: float
    trigger: float
    is_predictive: bool = False
    uses_forecast: bool = True
    scales_buffer: bool = True
    most_multiple: float = 2.0
    sweep: float = 1.25


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """The world around the accounts: time per step, transfers, what a liquidation takes, and how long it is over."""

    step_minutes: float = 5.0
    delays: Delays = Delays()
    fee_fraction: float = 0.005
    reduce_to: float = 0.90
    pause_hours: float = 24.0
    renew_days: float = 7.0
    warm_days: float = 3.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the accounts of one policy; collateral and losses are shares of notional."""

    policy: MarginPolicy
    liquidations: int
    account_years: float
    mean_collateral: float
    lost: float
    topups_per_day: float
    share_over_80: float

    @property
    def per_year(self) -> float:
        """Liquidations per account and year."""
        return self.liquidations / self.account_years


def fit_forecast(variances: Floats, step_minutes: float, horizon_minutes: float) -> Forecast:
    """Return the forecast fitted to variances of steps, a line each: non-negative least squares and the 95 % quantile.

    Squared returns will do for variances where nothing better is known.
    """
    per_hour = 60.0 / step_minutes
    half_lives = (1.0, 4.0, 16.0, 64.0, 256.0)
    mean = float(variances.mean())
    averages = _Averages(half_lives, per_hour, mean, variances.shape[1])
    horizon = max(1, round(horizon_minutes / step_minutes))
    sums = np.cumsum(np.vstack((np.zeros((1, variances.shape[1])), variances)), axis=0)
    rows, realised = [], []
    for step in range(len(variances) - horizon):
        averages.note(variances[step])
        if step > 72 * per_hour and step % horizon == 0:
            rows.append(averages.now.copy())
            realised.append((sums[step + 1 + horizon] - sums[step + 1]) / horizon)
    features = np.concatenate([one.T for one in rows])
    features = np.column_stack((features, np.full(len(features), mean)))
    target = np.concatenate(realised)
    scale = 1.0 / np.maximum(features.mean(axis=1), 1e-12)  # quiet times count as much as wild ones
    weights, _ = nnls(features * scale[:, None], target * scale)
    found = np.maximum(features @ weights, 1e-12)
    quantile = float(np.quantile(np.sqrt(target / found), 0.95))
    return Forecast(
        half_lives_hours=half_lives,
        weights=tuple(weights[:-1].tolist()),
        variance=float(weights[-1] * mean),
        quantile=quantile,
        reference_vol=float(np.median(quantile * np.sqrt(found)) * sqrt(YEAR_MINUTES / step_minutes)),
    )


def match_base(outcomes: Sequence[Outcome], mean_collateral: float) -> float:
    """Return the base ratio at which a policy would hold that much on average, from its outcomes at several bases.

    Raises ValueError where none of them brackets it: nobody knows beyond them.
    """
    known = sorted((one.mean_collateral, one.policy.base_ratio) for one in outcomes)
    for (low, low_base), (high, high_base) in pairwise(known):
        if low <= mean_collateral <= high:
            share = (mean_collateral - low) / (high - low) if high > low else 0.0
            return low_base + share * (high_base - low_base)
    reached = f"{known[0][0]:.4f} to {known[-1][0]:.4f}" if known else "nothing"
    raise ValueError(f"expected outcomes around a collateral of {mean_collateral:.4f}, found {reached}")


def run_policies(
    returns: Floats,
    table: MarginTable,
    sides: Floats,
    policies: Sequence[MarginPolicy],
    forecast: Forecast,
    setting: Setting,
    seed: int,
    extremes: tuple[Floats, Floats] | None = None,
    variances: Floats | None = None,
    vols: Floats | None = None,
) -> list[Outcome]:
    """Return the outcome of every policy on the same paths with the same delays, in the order of the policies.

    `returns` are log returns, a line per step and a column per path; `sides` turns a path's moves around (±1).
    Where more is known of a step: `extremes` are its lowest and highest log moves, where accounts are looked at too,
    `variances` its realised variance, which otherwise is the squared return, `vols` the 95 % quantiles that
    somebody else forecasts at its end.
    """
    paths = returns.shape[1]
    world = _Paths(table, paths, forecast, setting)
    accounts = _Accounts(policies, paths, forecast, setting, seed)
    for step, moved in enumerate(returns):
        within = () if extremes is None else (extremes[0][step], extremes[1][step])
        world.advance(
            moved * sides,
            moved**2 if variances is None else variances[step],
            [one * sides for one in within],
            None if vols is None else vols[step],
        )
        accounts.advance(world)
    return accounts.outcomes()


class _Averages:
    """Averages of squared returns that forget at several paces; a line each."""

    def __init__(self, half_lives_hours: Sequence[float], steps_per_hour: float, start: float, paths: int) -> None:
        self._keep = np.array([[exp(-log(2.0) / (hours * steps_per_hour))] for hours in half_lives_hours])
        self.now: Floats = np.full((len(half_lives_hours), paths), start)

    def note(self, variances: Floats) -> None:
        self.now *= self._keep
        self.now += (1.0 - self._keep) * variances


class _Paths:
    """What all accounts of a path share: the market, the book's worth and margin per notional, the forecast."""

    def __init__(self, table: MarginTable, paths: int, forecast: Forecast, setting: Setting) -> None:
        self._table = table
        self._forecast = forecast
        self._setting = setting
        self._annual = sqrt(YEAR_MINUTES / setting.step_minutes)
        self._root_delay = sqrt(setting.delays.p95_minutes / YEAR_MINUTES)
        start = (forecast.reference_vol / forecast.quantile / self._annual) ** 2
        self._averages = _Averages(forecast.half_lives_hours, 60.0 / setting.step_minutes, start, paths)
        self._weights = np.array(forecast.weights)
        self._renew_steps = round(setting.renew_days * 1440 / setting.step_minutes)
        self._step = 0
        self._log_move = np.zeros(paths)
        (self._value, self.margin), *_ = self._ask(self._log_move)
        self.gain: Floats = np.zeros(paths)
        self.worst: list[tuple[Floats, Floats]] = []  # gain since the step before, and margin, at extremes
        self.vol: Floats = np.full(paths, forecast.reference_vol)
        self.ahead: dict[str, list[tuple[Floats, Floats]]] = {}  # gain from now and margin, at both bad moves

    def advance(self, moved: Floats, variances: Floats, extremes: list[Floats], vol: Floats | None = None) -> None:
        """Let one step of the market happen."""
        self._step += 1
        if self._step % self._renew_steps == 0:  # the book is renewed at its fair value before the market moves
            self._log_move = np.zeros(len(moved))
            (self._value, _), *_ = self._ask(self._log_move)
        before = self._value
        self._averages.note(variances)
        variance = self._weights @ self._averages.now + self._forecast.variance
        self.vol = self._forecast.quantile * self._annual * np.sqrt(variance) if vol is None else vol
        here = self._log_move + moved
        moves = [
            np.log1p(side * np.minimum(Z_99 * vol * self._root_delay, 0.9))
            for vol in (self.vol, self._forecast.reference_vol)
            for side in (-1.0, 1.0)
        ]
        now, *others = self._ask(here, *(here + one for one in moves), *(self._log_move + one for one in extremes))
        self._log_move = here
        self._value, self.margin = now[0], np.maximum(now[1], 1e-9)
        self.gain = self._value - before
        ahead = [(value - self._value, margin) for value, margin in others[:4]]
        self.ahead = {"forecast": ahead[:2], "reference": ahead[2:]}
        self.worst = [(value - before, margin) for value, margin in others[4:]]

    def _ask(self, *log_moves: Floats) -> list[Floats]:
        """Return value and margin at each of several moves since the book began, at the vol it is now marked at."""
        age = (self._step % self._renew_steps) * self._setting.step_minutes / 1440.0
        implied = 1.05 * self._annual * np.sqrt(self._averages.now[-2:].mean(axis=0))
        paths, count = len(implied), len(log_moves)
        found = self._table(age, np.expm1(np.concatenate(log_moves)), np.tile(implied, count))
        return [found[:, one * paths : (one + 1) * paths] for one in range(count)]


class _Accounts:
    """The accounts: a line per policy, a column per path."""

    def __init__(
        self, policies: Sequence[MarginPolicy], paths: int, forecast: Forecast, setting: Setting, seed: int
    ) -> None:
        def column(numbers: Sequence[float]) -> Floats:
            return np.array(numbers, dtype=float)[:, None]

        self._policies = policies
        self._forecast = forecast
        self._setting = setting
        self._rng = np.random.default_rng(seed)
        self._base = column([one.base_ratio for one in policies])
        self._trigger = column([one.trigger for one in policies])
        self._sweep = column([one.sweep for one in policies])
        self._most = column([one.most_multiple for one in policies])
        self._predicts = np.array([[one.is_predictive] for one in policies])
        self._forecasts = np.array([[one.uses_forecast] for one in policies])
        self._scales_buffer = np.array([[one.scales_buffer] for one in policies])
        shape = (len(policies), paths)
        self._equity: Floats = np.full(shape, np.nan)  # opened at the first step
        self._ring: Floats = np.zeros((round(setting.delays.most_minutes / setting.step_minutes) + 2, *shape))
        self._pending: Floats = np.zeros(shape)
        self._paused = np.zeros(shape, dtype=np.int64)
        self._step = 0
        self._sums = {name: np.zeros(shape) for name in ("alive", "collateral", "liquidated", "lost", "topups", "high")}

    def advance(self, world: _Paths) -> None:
        """Let the venue look, let transfers arrive, then let every policy act."""
        self._step += 1
        needed = self._need(world)
        is_new = np.isnan(self._equity)
        self._equity = np.where(is_new, needed, self._equity)
        gain = np.where(is_new, 0.0, world.gain)
        arrived = self._ring[self._step % len(self._ring)]
        lowest = [self._equity + one - margin for one, margin in world.worst]
        self._equity = self._equity + gain + arrived
        self._pending -= arrived
        arrived[:] = 0.0
        is_alive = self._paused == 0
        short = self._equity - world.margin
        is_dead = is_alive & ((np.minimum.reduce([short, *lowest]) if lowest else short) <= 0.0)
        if self._step > self._setting.warm_days * 1440 / self._setting.step_minutes:
            self._count(is_alive, is_dead, world)
        if is_dead.any():
            self._liquidate(is_dead)
        self._reopen()
        self._act(needed, is_alive & ~is_dead & ~np.isnan(self._equity))

    def outcomes(self) -> list[Outcome]:
        """Return what became of each policy."""
        minutes = self._setting.step_minutes
        totals = {name: number.sum(axis=1) for name, number in self._sums.items()}
        return [
            Outcome(
                policy=policy,
                liquidations=int(totals["liquidated"][line]),
                account_years=float(totals["alive"][line]) * minutes / YEAR_MINUTES,
                mean_collateral=float(totals["collateral"][line] / totals["alive"][line]),
                lost=float(totals["lost"][line]),
                topups_per_day=float(totals["topups"][line] / (totals["alive"][line] * minutes / 1440.0)),
                share_over_80=float(totals["high"][line] / totals["alive"][line]),
            )
            for line, policy in enumerate(self._policies)
        ]

    def _need(self, world: _Paths) -> Floats:
        """Return the equity each policy wants now: `look_ahead_by_repricing` of `bot.risk.predictive`, in arrays."""
        needed: Floats = self._base * world.margin
        if not self._predicts.any():
            return needed
        reference = self._forecast.reference_vol
        scale = np.clip(np.where(self._forecasts, world.vol, reference) / reference, 1.0, self._most)
        ratio = np.where(self._scales_buffer, 1.0 + (self._base - 1.0) * scale, self._base * scale)
        for name, is_meant in (("forecast", self._forecasts), ("reference", ~self._forecasts)):
            (gain, margin), (other_gain, other_margin) = world.ahead[name]
            ahead = np.maximum(ratio * margin - gain, ratio * other_margin - other_gain)
            needed = np.where(self._predicts & is_meant, ahead, needed)
        return needed

    def _act(self, needed: Floats, may_act: Flags) -> None:
        there = self._equity + self._pending
        is_short = may_act & (there < self._trigger * needed)
        amount = np.where(is_short, needed - there, 0.0)
        delays = self._draw_delays(amount.shape)
        if is_short.any():
            slots = (self._step + delays) % len(self._ring)
            lines, columns = np.nonzero(is_short)
            self._ring[slots[lines, columns], lines, columns] += amount[lines, columns]
            self._pending += amount
            self._sums["topups"] += is_short
        over = may_act & (self._equity > self._sweep * needed)
        self._equity = np.where(over, needed, self._equity)

    def _draw_delays(self, shape: tuple[int, ...]) -> Ints:
        """Draw one delay per path and step, for all policies the same."""
        delays = self._setting.delays
        spread = log(delays.p95_minutes / delays.median_minutes) / 1.6448536269514722
        minutes = delays.median_minutes * np.exp(spread * self._rng.standard_normal(shape[1]))
        steps = np.ceil(np.minimum(minutes, delays.most_minutes) / self._setting.step_minutes).astype(np.int64)
        return np.broadcast_to(steps, shape)

    def _count(self, is_alive: Flags, is_dead: Flags, world: _Paths) -> None:
        sums = self._sums
        sums["alive"] += is_alive
        sums["collateral"] += np.where(is_alive, np.maximum(self._equity, 0.0) + self._pending, 0.0)
        sums["liquidated"] += is_dead
        sums["high"] += is_alive & (self._equity < 1.25 * world.margin)
        target = world.margin / self._setting.reduce_to
        fee = self._setting.fee_fraction
        room = np.maximum(target - fee, 1e-9)
        share = np.clip((target - self._equity) / room, 0.0, 1.0)
        sums["lost"] += np.where(is_dead, fee * share + np.maximum(-self._equity, 0.0), 0.0)

    def _liquidate(self, is_dead: Flags) -> None:
        self._paused[is_dead] = round(self._setting.pause_hours * 60 / self._setting.step_minutes) + 1
        self._ring[:, is_dead] = 0.0
        self._pending[is_dead] = 0.0

    def _reopen(self) -> None:
        """Count down what is paused, and open it anew at its target once that is over."""
        is_paused = self._paused > 0
        self._paused -= is_paused
        self._equity = np.where(is_paused & (self._paused == 0), np.nan, self._equity)
