"""Monte Carlo as a judge: real policies hedge one option along many common paths, in worlds of three kinds.

Every policy sees the same paths, so that what one saves over another is known far better than what either costs. A
policy is asked through the views it gets from the engine. Its band is a smooth function of moneyness at each moment,
so it is asked at some hundred prices a step and interpolated; `is_exact` asks it for every path instead, which is how
the error of that was bounded (tests: no certainty equivalent moves by a thousandth of itself). The prices lie evenly
in arsinh of the distance to the strike in standard deviations: close where gamma is, far apart where nothing is.
"""

from __future__ import annotations

from math import exp, inf, log, sqrt
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bot.domain.decisions import HedgePolicy, HedgeView, Legs
from bot.domain.portfolio import Greeks
from bot.domain.units import NS_PER_YEAR
from bot.pricing.impulse import delta_drift_base
from bot.simulation.yardstick.latency import Rule

Floats = NDArray[np.float64]

NODES = 121  # prices at which a policy is asked each step
LOT_BASE = 1e-9  # nothing is rounded here
_START_NS = 1_700_000_000_000_000_000
_UNBOUNDED = 1e12  # stands for an edge at infinity, which cannot be interpolated
_LOST = 1e9  # quote money: a hedge that lost as much diverges
_ROOT_2PI = sqrt(2.0 * np.pi)


class Law(Protocol):
    """How prices move: log returns of one step for many paths at once."""

    def start(self, paths: int, vol: float) -> Floats:
        """Return the state of every path before the first step, one row each."""

    def step(self, rng: np.random.Generator, state: Floats, vol: float, years: float) -> Floats:
        """Return the log returns of a step in which the price is a martingale; `state` is moved on."""


class Gaussian(msgspec.Struct, frozen=True):
    """Geometric Brownian motion: what every policy here believes."""

    def start(self, paths: int, vol: float) -> Floats:
        """Return nothing to remember."""
        del vol
        return np.zeros((0, paths))

    def step(self, rng: np.random.Generator, state: Floats, vol: float, years: float) -> Floats:
        """Return normal log returns."""
        noise: Floats = rng.standard_normal((state.shape[1],))
        return vol * sqrt(years) * noise - 0.5 * vol * vol * years


class Heston(msgspec.Struct, frozen=True):
    """Heston (1993, Review of Financial Studies 6:327-343): variance that reverts to vol² and moves against the price.

    Full-truncation Euler (Lord, Koekkoek & Van Dijk 2010, Quantitative Finance 10:177-194); steps are short.
    """

    reversion_per_year: float = 8.0
    vol_of_vol: float = 1.5
    correlation_ratio: float = -0.3

    def start(self, paths: int, vol: float) -> Floats:
        """Return the variance of every path, at its mean."""
        return np.full((1, paths), vol * vol)

    def step(self, rng: np.random.Generator, state: Floats, vol: float, years: float) -> Floats:
        """Return log returns at the variance as it stands, and move that on."""
        variance = np.maximum(state[0], 0.0)
        sd = np.sqrt(variance * years)
        noise: Floats = rng.standard_normal((2, state.shape[1]))
        price_noise, other_noise = noise[0], noise[1]
        mixed = self.correlation_ratio * price_noise + sqrt(1.0 - self.correlation_ratio**2) * other_noise
        state[0] += self.reversion_per_year * (vol * vol - variance) * years + self.vol_of_vol * sd * mixed
        returns: Floats = sd * price_noise - 0.5 * variance * years
        return returns


class Merton(msgspec.Struct, frozen=True):
    """Merton (1976, J. Financial Economics 3:125-144): jumps at random moments beside a Gaussian.

    The vol of the world is that of both together.
    """

    jumps_per_year: float = 12.0
    jump_vol: float = 0.08

    def start(self, paths: int, vol: float) -> Floats:
        """Return nothing to remember."""
        del vol
        return np.zeros((0, paths))

    def step(self, rng: np.random.Generator, state: Floats, vol: float, years: float) -> Floats:
        """Return log returns with the jumps of the step; a jump is as likely up as down in price, not in its log."""
        paths = state.shape[1]
        variance = vol * vol - self.jumps_per_year * self.jump_vol**2
        if variance < 0.0:
            raise ValueError(f"vol: expected at least that of the jumps alone, found {vol}")
        noise: Floats = rng.standard_normal((paths,))
        returns = sqrt(variance * years) * noise - 0.5 * variance * years
        jumps = rng.poisson(self.jumps_per_year * years, (paths,))
        hit = np.flatnonzero(jumps)
        count = jumps[hit]
        returns[hit] += self.jump_vol * np.sqrt(count) * rng.standard_normal(hit.size)
        returns[hit] -= 0.5 * self.jump_vol**2 * count  # every jump has mean 1, so the price stays a martingale
        return returns


class World(msgspec.Struct, frozen=True, kw_only=True):
    """One option, `qty_base` of it (below zero: sold), and everything hedging it meets.

    `vol` is that of the world and what policies believe. Money earns `rate` and the price drifts by `drift`, both per
    year; without `counts_interest` what is spent is added up as it is. `is_liquidated`: the hedge is sold at expiry,
    at a cost. A trade costs `cost_rate` of its value and `fixed_cost_quote`.
    """

    spot_px: float = 100.0
    strike_px: float = 100.0
    vol: float = 0.6
    tau_years: float = 30.0 / 365.0
    steps: int = 2_880
    qty_base: float = -1.0
    law: Law = Gaussian()
    cost_rate: float = 5e-4
    fixed_cost_quote: float = 0.0
    risk_aversion_per_quote: float = 0.1
    is_liquidated: bool = True
    rate: float = 0.0
    drift: float = 0.0
    counts_interest: bool = True

    @property
    def step_years(self) -> float:
        """The time between two looks."""
        return self.tau_years / self.steps

    @property
    def price_quote(self) -> float:
        """The Black–Scholes price of one option at the start: the frictionless price policies believe in."""
        dev = self.vol * sqrt(self.tau_years)
        forward_px = self.spot_px * exp(self.rate * self.tau_years)
        d1 = log(forward_px / self.strike_px) / dev + 0.5 * dev
        undiscounted = forward_px * float(ndtr(d1)) - self.strike_px * float(ndtr(d1 - dev))
        return exp(-self.rate * self.tau_years) * undiscounted


class Entrant(NamedTuple):
    """A policy to be judged, and how its orders arrive: each is filled `latency_steps` looks after it was sent.

    The first hedge is filled at once: what its delay costs is a matter of its own (½ g Δ² S² σ² L).
    """

    label: str
    policy: HedgePolicy
    latency_steps: int = 0
    rule: Rule = Rule.INVENTORY_POSITION


class Score(NamedTuple):
    """What hedging by one policy cost: the certainty equivalent beyond the frictionless price above all.

    `mean_variance_quote` is the mean of what trading cost and g/2 times the variance of everything. Where the hedge
    diverges all of it is infinite.
    """

    label: str
    mean_cost_quote: float
    sd_quote: float
    mean_variance_quote: float
    ce_quote: float
    ce_error_quote: float
    turnover_base: float
    trades: float


class Verdict:
    """The scores of all entrants, and what one saves over another on the same paths."""

    def __init__(self, scores: list[Score], influences: dict[str, Floats], losses: dict[str, Floats]) -> None:
        self.scores = {score.label: score for score in scores}
        self.losses = losses  # per path: what was owed and paid beyond the frictionless price and what the hedge won
        self._influences = influences

    def difference(self, label: str, other: str) -> tuple[float, float]:
        """Return by how much the first certainty equivalent is above the second, and the standard error of that."""
        if self.scores[label].ce_quote == inf:
            return inf, inf
        apart = self._influences[label] - self._influences[other]
        error = float(apart.std(ddof=1) / sqrt(apart.size))
        return self.scores[label].ce_quote - self.scores[other].ce_quote, error


def judge(
    world: World,
    entrants: list[Entrant],
    *,
    paths: int,
    seed: int,
    nodes: int = NODES,
    is_exact: bool = False,
) -> Verdict:
    """Hedge along `paths` common paths by every entrant's policy and return the scores.

    A policy that remembers when it last hedged is asked once for every such moment; one that remembers at what price
    has to be asked for every path (`is_exact`), which takes a few microseconds each.
    """
    rng = np.random.default_rng(seed)
    state = world.law.start(paths, world.vol)
    with np.errstate(over="ignore", invalid="ignore"):  # of a hedge that diverges, as ignoring what is pending does
        return _play(world, entrants, rng, state, paths, nodes, is_exact=is_exact)


def _play(
    world: World,
    entrants: list[Entrant],
    rng: np.random.Generator,
    state: Floats,
    paths: int,
    nodes: int,
    *,
    is_exact: bool,
) -> Verdict:
    frame = _Frame(world, paths)
    seats = [_Seat(entrant, world, paths, nodes, is_exact=is_exact) for entrant in entrants]
    drift = world.drift * world.step_years
    for number in range(world.steps):
        frame.look(number)
        for seat in seats:
            seat.trade(frame)
        returns = world.law.step(rng, state, world.vol, world.step_years) + drift
        frame.move(returns, number + 1)
        for seat in seats:
            seat.gains += seat.held * frame.moved_px
    return _score(world, frame, seats)


class _Frame:
    """The moment all seats look at: the price of every path, and the option's Greeks there."""

    def __init__(self, world: World, paths: int) -> None:
        self.world = world
        self.number = 0
        self.spot_px = np.full(paths, world.spot_px)
        self.moved_px = np.zeros(paths)
        self.tau_years = world.tau_years
        self.now_ns = _START_NS
        self.delta = np.zeros(paths)
        self.spread = np.zeros(paths)  # arsinh of the distance to the strike in standard deviations
        self._log = np.full(paths, log(world.spot_px / world.strike_px))

    def look(self, number: int) -> None:
        """Bring everything up to the start of a step."""
        world = self.world
        self.number = number
        self.tau_years = world.tau_years - number * world.step_years
        self.now_ns = _stamp_ns(world, number + 1)
        d1 = self.d1(self._log)
        self.delta = ndtr(d1)
        self.spread = np.arcsinh(d1)

    def move(self, returns: Floats, number: int) -> None:
        """Move every price; what one unit of base wins by that is `moved_px`, discounted if interest counts."""
        world = self.world
        self._log += returns
        after = world.strike_px * np.exp(self._log)
        if world.counts_interest and world.rate:
            first = exp(-world.rate * (number - 1) * world.step_years)
            self.moved_px = after * exp(-world.rate * number * world.step_years) - self.spot_px * first
        else:
            self.moved_px = after - self.spot_px
        self.spot_px = after

    def d1(self, logs: Floats) -> Floats:
        """Return Black and Scholes' d1 at these logs of spot over strike."""
        dev = self.world.vol * sqrt(self.tau_years)
        return (logs + self.world.rate * self.tau_years) / dev + 0.5 * dev

    def spots_at(self, spread: Floats) -> Floats:
        """Return the prices at these spreads: the inverse of `spread`."""
        dev = self.world.vol * sqrt(self.tau_years)
        logs = (np.sinh(spread) - 0.5 * dev) * dev - self.world.rate * self.tau_years
        return self.world.strike_px * np.exp(logs)

    def gamma(self, spot_px: Floats, d1: Floats) -> Floats:
        """Return the gamma of one option."""
        dev = self.world.vol * sqrt(self.tau_years)
        return np.exp(-0.5 * d1 * d1) / (_ROOT_2PI * spot_px * dev)

    def vanna(self, spot_px: Floats, d1: Floats) -> Floats:
        """Return what a vol higher by 1.00 does to the delta of one option: −φ(d1) d2/σ."""
        dev = self.world.vol * sqrt(self.tau_years)
        return -self.gamma(spot_px, d1) * spot_px * dev * (d1 - dev) / self.world.vol


class _Seat:
    """One entrant: what it holds and has under way on every path, and what that cost so far."""

    def __init__(self, entrant: Entrant, world: World, paths: int, nodes: int, *, is_exact: bool) -> None:
        self.entrant = entrant
        self.held = np.zeros(paths)
        self.gains = np.zeros(paths)
        self.costs = np.zeros(paths)
        self.turnover = np.zeros(paths)
        self.trades = np.zeros(paths)
        self._world = world
        self._nodes = nodes
        self._is_exact = is_exact
        self._pending = np.zeros(paths)
        self._slots = np.zeros((max(1, entrant.latency_steps), paths))
        self._last_number = np.zeros(paths, dtype=np.int64)  # of the step it hedged in, counted from 1; 0 before
        self._last_px = np.zeros(paths)
        self._minds_time, minds_price = _memory_of(entrant.policy, world)
        if minds_price and not is_exact:
            raise ValueError(
                f"policy {entrant.policy.name}: expected one that does not mind at what price it last hedged, "
                "found one that does; hint: is_exact=True with few paths"
            )

    def trade(self, frame: _Frame) -> None:
        """Fill what is due, ask the policy, and order."""
        latency = self.entrant.latency_steps
        slot = self._slots[frame.number % len(self._slots)]
        if latency and frame.number:
            self._fill(frame, np.flatnonzero(slot), slot)
            self._pending -= slot
            slot[:] = 0.0
        net = self._world.qty_base * frame.delta + self.held
        if latency and frame.number and self.entrant.rule is Rule.INVENTORY_POSITION:
            net += self._pending + self._drift(frame)
        target = self._target(frame)
        if target is None:
            return
        low, high, buy_to, sell_to = target
        below, above = net < low, net > high
        order = np.where(below, buy_to - net, np.where(above, sell_to - net, 0.0))
        if latency and frame.number and self.entrant.rule is Rule.ONE_OUTSTANDING:
            order[self._pending != 0.0] = 0.0
        traded = np.flatnonzero(order)
        if not traded.size:
            return
        self._last_number[traded] = frame.number + 1
        self._last_px[traded] = frame.spot_px[traded]
        if latency and frame.number:
            slot += order
            self._pending += order
        else:
            self._fill(frame, traded, order)

    def settle(self, frame: _Frame) -> None:
        """Sell the hedge at expiry; what is still under way then is never filled."""
        if self._world.is_liquidated:
            self._fill(frame, np.flatnonzero(self.held), -self.held)

    def _fill(self, frame: _Frame, where: NDArray[np.intp], order: Floats) -> None:
        if not where.size:
            return
        world = self._world
        size = np.abs(order[where])
        self.held[where] += order[where]
        self.costs[where] += world.cost_rate * frame.spot_px[where] * size + world.fixed_cost_quote
        self.turnover[where] += size
        self.trades[where] += 1.0

    def _drift(self, frame: _Frame) -> Floats:
        """Return how far net delta will have drifted once an order of now is filled: as the engine anticipates it."""
        world = self._world
        years = self.entrant.latency_steps * world.step_years
        gamma = frame.gamma(frame.spot_px, np.sinh(frame.spread))
        drift: Floats = delta_drift_base(1.0, 1.0, world.vol, years) * world.qty_base * gamma * frame.spot_px
        return drift

    def _target(self, frame: _Frame) -> Floats | None:
        """Return low, high, buy-to and sell-to for every path, None if the policy trades on none."""
        if self._is_exact:
            stamps = np.array([_stamp_ns(self._world, number) for number in range(frame.number + 2)])
            return self._ask(frame, frame.spot_px, stamps[self._last_number], self._last_px)
        if not self._minds_time:
            return self._interpolated(frame, slice(None), 0)
        bands = np.repeat(_HOLD, self.held.size, axis=1)
        for last_ns, where in self._groups(frame):
            bands[:, where] = self._interpolated(frame, where, last_ns)
        return bands if (bands[0] > -_UNBOUNDED).any() else None

    def _groups(self, frame: _Frame) -> list[tuple[int, NDArray[np.intp]]]:
        """Return the paths on which a policy by the clock is due, those together to which it says the same."""
        together: dict[tuple[float, ...], list[int]] = {}
        at_strike = frame.spots_at(np.zeros(1))
        for number in np.flatnonzero(np.bincount(self._last_number)).tolist():
            answer = self._ask(frame, at_strike, np.array([_stamp_ns(self._world, number)]), np.zeros(1))
            if (np.abs(answer[:2]) < _UNBOUNDED).any():
                together.setdefault(tuple(answer[:, 0].tolist()), []).append(number)
        groups = []
        for numbers in together.values():
            is_member = np.zeros(frame.number + 2, dtype=np.bool_)
            is_member[numbers] = True
            groups.append((_stamp_ns(self._world, numbers[-1]), np.flatnonzero(is_member[self._last_number])))
        return groups

    def _interpolated(self, frame: _Frame, where: NDArray[np.intp] | slice, last_ns: int) -> Floats:
        spread = frame.spread[where]
        low, high = float(spread.min()), float(spread.max())
        nodes = self._nodes if high - low > 1e-9 else 2
        grid = np.linspace(low, max(high, low + 1e-9), nodes)
        nowhere = np.zeros(nodes)
        bands = self._ask(frame, frame.spots_at(grid), np.full(nodes, last_ns, dtype=np.int64), nowhere)
        place = (spread - low) * ((nodes - 1) / (grid[-1] - low))
        index = np.minimum(place.astype(np.intp), nodes - 2)
        weight = place - index
        steps = np.diff(bands, axis=1)
        return np.array([row[index] + weight * step[index] for row, step in zip(bands, steps, strict=True)])

    def _ask(self, frame: _Frame, spots: Floats, last_ns: NDArray[np.int64], last_px: Floats) -> Floats:
        """Return the policy's own answers at these prices, one column each."""
        world = self._world
        d1 = frame.d1(np.log(spots / world.strike_px))
        delta, gamma = world.qty_base * ndtr(d1), world.qty_base * frame.gamma(spots, d1)
        vanna = frame.vanna(spots, d1) * world.qty_base
        views = _views(world, frame.tau_years, frame.now_ns, spots, delta, gamma, vanna, last_ns, last_px)
        years = self.entrant.latency_steps * world.step_years
        ask = self.entrant.policy.target
        answers = np.empty((4, spots.size))
        for column, view in enumerate(views):
            target = ask(view if not years else msgspec.structs.replace(view, latency_years=years))
            answers[:, column] = target.low_base, target.high_base, target.buy_to_base, target.sell_to_base
        return np.clip(answers, -_UNBOUNDED, _UNBOUNDED)


def _stamp_ns(world: World, number: int) -> int:
    """Return when the step of this number is, counted from 1; 0 for 0."""
    return _START_NS + round((number - 1) * world.step_years * NS_PER_YEAR) if number else 0


_HOLD = np.array([[-_UNBOUNDED], [_UNBOUNDED], [-_UNBOUNDED], [_UNBOUNDED]])


def _views(
    world: World,
    tau_years: float,
    now_ns: int,
    spots: Floats,
    delta: Floats,
    gamma: Floats,
    vanna: Floats,
    last_ns: NDArray[np.int64],
    last_px: Floats,
) -> list[HedgeView]:
    """Return what the engine would show a policy at these prices, the book hedged to the target."""
    tau, strike = np.array([tau_years]), np.array([world.strike_px])
    vol, qty, is_call = np.array([world.vol]), np.array([world.qty_base]), np.array([True])
    forwards = spots * exp(world.rate * tau_years)
    return [
        HedgeView(
            now_ns, "SIM", spot_px, 0.0, Greeks(0.0, gamma_base), 0.0, 0.0, -delta_base, 0.0, world.cost_rate,
            world.fixed_cost_quote, LOT_BASE, world.step_years, hedged_ns, hedged_px,
            Legs(forwards[place : place + 1], strike, tau, vol, qty, is_call), world.vol, tau_years,
            vanna_base_per_vol=vanna_base,
        )
        for place, (spot_px, delta_base, gamma_base, vanna_base, hedged_ns, hedged_px) in enumerate(
            zip(*(column.tolist() for column in (spots, delta, gamma, vanna, last_ns, last_px)), strict=True)
        )
    ]  # fmt: skip


def _memory_of(policy: HedgePolicy, world: World) -> tuple[bool, bool]:
    """Return whether the policy minds when it last hedged, and whether it minds at what price, halfway to expiry."""
    now_ns = _START_NS + NS_PER_YEAR
    seconds = [0, now_ns - 1, now_ns - NS_PER_YEAR // 365, now_ns - NS_PER_YEAR]
    prices = [0.0, world.spot_px, 0.8 * world.spot_px, 1.2 * world.spot_px]
    one = np.array([world.spot_px])
    delta, gamma, vanna = 0.5 * world.qty_base * one / one, 4.0 * world.qty_base / one, 0.0 * one

    def answer(last_ns: int, last_px: float) -> tuple[float, ...]:
        stamp, px = np.array([last_ns], dtype=np.int64), np.array([last_px])
        (view,) = _views(world, 0.5 * world.tau_years, now_ns, one, delta, gamma, vanna, stamp, px)
        target = policy.target(view)
        return target.low_base, target.high_base, target.buy_to_base, target.sell_to_base

    minds_time = len({answer(last_ns, world.spot_px) for last_ns in seconds}) > 1
    minds_price = any(len({answer(last_ns, last_px) for last_px in prices}) > 1 for last_ns in seconds[1:])
    return minds_time, minds_price


def _score(world: World, frame: _Frame, seats: list[_Seat]) -> Verdict:
    """Settle everything; measure each entrant's certainty equivalent, with the luck taken out that is known to be.

    Where prices are martingales no hedge wins or loses on average. So what is owed less what a hedge won is the fair
    price of the option on average, and what it is on the paths at hand beyond that is luck, by far the most of it.
    The certainty equivalent is thus beyond the fair price of the world, which only a Gaussian one shares with Black
    and Scholes.
    """
    owed = -world.qty_base * np.maximum(frame.spot_px - world.strike_px, 0.0)
    if world.counts_interest:
        owed *= exp(-world.rate * world.tau_years)
    owed += world.qty_base * world.price_quote
    aversion = world.risk_aversion_per_quote
    is_fair = world.drift == world.rate
    scores: list[Score] = []
    influences: dict[str, Floats] = {}
    losses: dict[str, Floats] = {}
    for seat in seats:
        seat.settle(frame)
        label = seat.entrant.label
        luck = owed - seat.gains if is_fair else np.zeros(owed.size)
        loss = owed - seat.gains + seat.costs
        losses[label] = loss
        if not float(np.abs(loss).max()) < _LOST:
            scores.append(Score(label, inf, inf, inf, inf, inf, inf, inf))
            influences[label] = np.full(owed.size, inf)
            continue
        highest = float(loss.max())
        weight = np.exp(aversion * (loss - highest))
        mean_weight = float(weight.mean())
        influence = weight / (aversion * mean_weight) - luck
        ce_quote = highest + log(mean_weight) / aversion - float(luck.mean())
        mean_cost = float(seat.costs.mean())
        variance = float(loss.var(ddof=1))
        error = float(influence.std(ddof=1) / sqrt(influence.size))
        scores.append(
            Score(
                label,
                mean_cost,
                sqrt(variance),
                mean_cost + 0.5 * aversion * variance,
                ce_quote,
                error,
                float(seat.turnover.mean()),
                float(seat.trades.mean()),
            )
        )
        influences[label] = influence
    return Verdict(scores, influences, losses)
