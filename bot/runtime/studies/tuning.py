"""Every policy over its main parameter on a vault's recording: the runs behind `evenkeel tune`.

The settings of different policies are chosen for the same risk aversions, each as the local model of
`bot.pricing.bands` would set it, so that they come out about as tight as one another on any book. Runs are whole
replays with the limits of the vault lifted, spread over processes; none of them sees another.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from math import cbrt, pi, sqrt
from typing import Any, Final, NamedTuple

from bot.domain.decisions import HedgeView
from bot.domain.errors import ConfigError
from bot.domain.market import MarketEvent
from bot.domain.results import FrontierPoint
from bot.domain.units import NS_PER_HOUR, NS_PER_S
from bot.engine.engine import Engine
from bot.pricing.bands import band_half_base, delta_sd_base, fixed_cost_half_base, risk_rate_quote
from bot.runtime.configuration.vault import Vault
from bot.runtime.session import open_session, open_vault_recording
from bot.runtime.studies.market_look import look
from bot.runtime.studies.quoting import find_risk_aversion
from bot.simulation.recording import Recording
from bot.simulation.replay import replay
from bot.simulation.score import Score
from bot.simulation.tracking import Tracking
from bot.simulation.world import World
from strategies import (
    POLICIES,
    DeltaBand,
    FixedInterval,
    GammaVega,
    Impulse,
    Leland,
    Policy,
    PriceMove,
    RiskAverse,
    Unhedged,
    WhalleyWilmott,
    Zakamouline,
    policy_from_spec,
)

SECONDS_PER_YEAR: Final = 365.0 * 86_400.0
REACH_DECADES: Final = (-1.0, 1.5)  # of risk aversions tried, around the vault's own
CENTRE_WIDTH: Final = 4.0 ** (1.0 / 3.0)  # the best band back to the centre, as a multiple of the best one to the edge
LONGEST_INTERVAL_S: Final = 31_536_000.0
NO_LIMITS: Final = {
    "max_order_quote": 1e12,
    "max_orders_per_min": 10**6,
    "daily_loss_quote": 1e12,
    "max_hedges_same_way": 10**6,
}
FALLBACK_AVERSION: Final = 3e-4  # of a vault that hedges by no rule


class Scale(NamedTuple):
    """What widths and intervals are made of: the market of the first moment, and a risk aversion."""

    view: HedgeView
    risk_aversion_per_quote: float

    def edge_base(self) -> float:
        """Return the best half-width to the edge, or what gas alone would ask for if that is more."""
        view = self.view
        gamma = view.greeks.gamma_base_per_px
        half_base = band_half_base(view.cost_rate, view.spot_px, gamma, self.risk_aversion_per_quote)
        return max(half_base, fixed_cost_half_base(view.fixed_cost_quote, gamma, self.risk_aversion_per_quote))

    def interval_s(self) -> float:
        """Return the best interval of a clock: (c √(2/π)/(a v))^(2/3), or √(2F/(a v²)) if gas asks for more."""
        view = self.view
        year_base = delta_sd_base(view.greeks.gamma_base_per_px, view.spot_px, view.vol, 1.0)
        risk = risk_rate_quote(self.risk_aversion_per_quote, view.spot_px, view.vol)
        root = cbrt(view.cost_rate * view.spot_px * sqrt(2.0 / pi) / (risk * year_base))
        years = max(root * root, sqrt(2.0 * view.fixed_cost_quote / risk) / year_base)
        return min(LONGEST_INTERVAL_S, years * SECONDS_PER_YEAR)

    def move_fraction(self) -> float:
        """Return the best move of the price to wait for: the best band to the centre, over gamma."""
        view = self.view
        return min(0.99, CENTRE_WIDTH * self.edge_base() / abs(view.greeks.gamma_base_per_px * view.spot_px))


FAMILIES: Final[dict[str, Callable[[Scale], Policy]]] = {
    "impulse": lambda at: Impulse(risk_aversion_per_quote=_short(at.risk_aversion_per_quote)),
    "whalley_wilmott": lambda at: WhalleyWilmott(risk_aversion_per_quote=_short(at.risk_aversion_per_quote)),
    "zakamouline": lambda at: Zakamouline(risk_aversion_per_quote=_short(at.risk_aversion_per_quote)),
    "delta_band_edge": lambda at: DeltaBand(half_width_base=_short(at.edge_base())),
    "delta_band_centre": lambda at: DeltaBand(half_width_base=_short(CENTRE_WIDTH * at.edge_base()), trade_to="centre"),
    "price_move": lambda at: PriceMove(move_fraction=_short(at.move_fraction())),
    "fixed_interval": lambda at: FixedInterval(interval_s=_short(at.interval_s())),
    "leland": lambda at: Leland(interval_s=_short(at.interval_s())),
    "gamma_vega": lambda at: GammaVega(risk_aversion_per_quote=_short(at.risk_aversion_per_quote)),
    "unhedged": lambda _: Unhedged(),
}


class Job(NamedTuple):
    """One run to be made."""

    family: str
    policy: Policy


def find_scale(vault: Vault, recording: Recording) -> Scale:
    """Return the market at the start, and the risk aversion of the vault's policy there.

    Raises ConfigError where the book has no gamma: there is nothing to tune then.
    """
    view = next(iter(look(vault, recording=recording).views.values()))
    if not (view.greeks.gamma_base_per_px and view.cost_rate > 0.0 and view.vol > 0.0):
        what = f"gamma {view.greeks.gamma_base_per_px:.3g}, cost {view.cost_rate * 1e4:.3g} bp, vol {view.vol:.3g}"
        raise ConfigError([f"vault {vault.vault}: expected gamma, a cost and a vol to tune by, found {what}"])
    if isinstance(vault.policy, Unhedged):
        return Scale(view, FALLBACK_AVERSION)
    return Scale(view, find_risk_aversion(vault.policy, view).per_quote)


def family_of(policy: Policy) -> str:
    """Return the family a policy belongs to."""
    return f"{policy.name}_{policy.trade_to}" if isinstance(policy, DeltaBand) else policy.name


def choose_families(words: str, vault: Vault, scale: Scale) -> list[str]:
    """Return the families that `all`, or a comma-separated list of policies, stands for.

    All leaves out what can only repeat another: options where the vault trades none, and `whalley_wilmott` where there
    is no gas, because `impulse` is the same then. Raises ConfigError for an unknown name.
    """
    if words == "all":
        left_out = set() if vault.option_hedges else {"gamma_vega"}
        left_out |= {"whalley_wilmott"} if scale.view.fixed_cost_quote == 0.0 else set()
        return [family for family in FAMILIES if family not in left_out]
    chosen: list[str] = []
    problems = []
    for word in (part.strip() for part in words.split(",")):
        found = [
            family for family in FAMILIES if word in (family, family.removesuffix("_edge").removesuffix("_centre"))
        ]
        if not found:
            problems.append(f"--policies: expected all, or some of {', '.join(POLICIES)}, found {word!r}")
        if word == "gamma_vega" and not vault.option_hedges:
            problems.append("--policies: expected option_hedges in the vault beside gamma_vega, found none")
        chosen += [family for family in found if family not in chosen]
    if problems:
        raise ConfigError(problems)
    return chosen


def jobs_of(families: Sequence[str], scale: Scale, points: int) -> list[Job]:
    """Return the runs of these families from loose to tight, `points` risk aversions each, none twice."""
    low, high = REACH_DECADES
    steps = [low + (high - low) * step / max(1, points - 1) for step in range(points)] if points > 1 else [0.0]
    jobs: dict[str, Job] = {}
    for family in families:
        for step in steps:
            at = scale._replace(risk_aversion_per_quote=scale.risk_aversion_per_quote * 10.0**step)
            policy = FAMILIES[family](at)
            jobs.setdefault(policy.spec, Job(family, policy))
    return list(jobs.values())


def run_all(
    vault: Vault, jobs: Iterable[Job], *, workers: int = 0, hours: float | None = None, every_s: float = 0.0
) -> Iterator[FrontierPoint]:
    """Yield a point per run as they finish, in no order. `hours` ends the runs so long after the recording's start.

    `every_s` is the shortest time between two decisions; 0 decides on everything, as `replay` does. `workers` 0 is one
    per core at our disposal, 1 runs them here.
    """
    jobs = list(jobs)
    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    if workers <= 1:
        bench = Bench(vault, hours, every_s)
        yield from (bench.run(job) for job in jobs)
        return
    # Fresh processes: a fork would copy threads of the tables' reader in the middle of whatever they do.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_set_up, initargs=(vault, hours, every_s)) as pool:
        try:
            for done in as_completed([pool.submit(_run, job) for job in jobs]):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Bench:
    """A vault's recording, read once, and runs over it without the vault's limits."""

    def __init__(self, vault: Vault, hours: float | None = None, every_s: float = 0.0) -> None:
        self._every_ns = round(every_s * NS_PER_S)
        limits = vault.limits.model_copy(update=NO_LIMITS)
        self._vault = vault.model_copy(update={"limits": limits})
        self._recording = open_vault_recording(vault)
        end_ns = None if hours is None else self._recording.manifest.start_ns + round(hours * NS_PER_HOUR)
        self._batches: list[list[MarketEvent]] = []
        for batch in self._recording.batches(vault.latency.feed_ns):
            if end_ns is not None and batch[0].ts_event_ns > end_ns:
                break
            self._batches.append(batch)

    def run(self, job: Job) -> FrontierPoint:
        """Return the point of one run."""
        session = open_session(self._vault, policy=job.policy, recording=self._recording)
        tracking = Tracking(session.engine)
        world = World(iter(self._batches), session.world.venue)
        self._replay(session.engine, world, session.score, tracking)
        summary = session.score.summary(policy=job.policy.name, seed=self._vault.seed, wall_seconds=1.0)
        return FrontierPoint(
            job.family,
            job.policy.spec,
            summary.cost_quote + 0.0,
            summary.delta_rms_base,
            tracking.sd_day_quote,
            tracking.realised_sd_day_quote,
            summary.hedges,
            summary.pnl_quote["total"],
            summary.state,
        )

    def _replay(self, engine: Engine, world: World, score: Score, tracking: Tracking) -> None:
        """Do as `bot.simulation.replay` does, but decide no more often than is asked for, to save time."""
        if not self._every_ns:
            replay(engine, world, score, stopwatch_ns=lambda: 0, progress=tracking.observe)
            return
        due_ns = heard = 0
        while (step := world.step()) is not None:
            now_ns, events = step
            for event in events:
                engine.apply(event)
            heard += len(events)
            if now_ns < due_ns:
                continue
            commands = engine.decide(now_ns)
            for command in commands:
                world.submit(command, now_ns)
            score.observe(now_ns, heard, commands, 0)
            tracking.observe(now_ns)
            due_ns, heard = now_ns + self._every_ns, 0


def with_daily_sd(own: Policy, risk_aversion_per_quote: float) -> RiskAverse:
    """Return the vault's own policy, or `impulse` if it has no risk aversion, at this risk aversion."""
    if not isinstance(own, RiskAverse):
        return Impulse(risk_aversion_per_quote=_short(risk_aversion_per_quote))
    changes: dict[str, Any] = {"risk_aversion_per_quote": _short(risk_aversion_per_quote), "risk_aversion": None}
    return own.model_copy(update=changes)


def aversion_of(point: FrontierPoint) -> float | None:
    """Return the risk aversion in a point's setting, None if it has none as a number."""
    policy = policy_from_spec(point.spec)
    return policy.risk_aversion_per_quote if isinstance(policy, RiskAverse) else None


_BENCHES: list[Bench] = []  # of a worker process: the one it was started with


def _set_up(vault: Vault, hours: float | None, every_s: float) -> None:
    _BENCHES.append(Bench(vault, hours, every_s))


def _run(job: Job) -> FrontierPoint:
    return _BENCHES[0].run(job)


def _short(number: float) -> float:
    """Round to three digits, for settings people can read."""
    return float(f"{number:.3g}")
