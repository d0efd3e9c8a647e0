"""Seeded price paths for stress: vol that clusters on two time scales, and jumps that make more jumps and more vol.

The logarithm of vol is a slow and a fast Ornstein–Uhlenbeck process around its mean; falling prices raise the fast one.
Jumps are a Hawkes process: each raises the rate of the next, which decays, and kicks the fast factor.
"""

from __future__ import annotations

from math import exp, log, sqrt

import msgspec
import numpy as np

from bot.risk.book import Floats

STEP_MINUTES = 5
STEPS_PER_DAY = 24 * 60 // STEP_MINUTES
STEP_YEARS = STEP_MINUTES / 525_600


class StressedWorld(msgspec.Struct, frozen=True, kw_only=True):
    """A world of prices. Half-lives are of the factors of log vol, `_sd` their stationary deviations.

    `jump_sd` is the deviation of a jump's log return, `excitation` how many more jumps one brings on average (below 1),
    `jump_kick` what it adds to log vol, `leverage` the correlation of returns with what drives the fast factor.
    """

    name: str
    vol: float = 0.55
    slow_days: float = 10.0
    slow_sd: float = 0.35
    fast_hours: float = 8.0
    fast_sd: float = 0.45
    leverage: float = -0.3
    jumps_per_day: float = 0.05
    jump_sd: float = 0.025
    excitation: float = 0.5
    excitation_hours: float = 6.0
    jump_kick: float = 0.4


def draw_returns(world: StressedWorld, paths: int, days: int, seed: int) -> Floats:
    """Return log returns of five minutes, a line per step and a column per path; the same for the same seed."""
    rng = np.random.default_rng(seed)
    steps = days * STEPS_PER_DAY
    keep_slow = exp(-log(2.0) / (world.slow_days * STEPS_PER_DAY))
    keep_fast = exp(-log(2.0) / (world.fast_hours * 60.0 / STEP_MINUTES))
    keep_rate = exp(-log(2.0) / (world.excitation_hours * 60.0 / STEP_MINUTES))
    slow_step, fast_step = (
        sd * sqrt(1.0 - keep * keep) for sd, keep in ((world.slow_sd, keep_slow), (world.fast_sd, keep_fast))
    )
    level = log(world.vol) - 0.5 * (world.slow_sd**2 + world.fast_sd**2)  # so that the mean vol is about the one named
    slow = world.slow_sd * rng.standard_normal(paths)
    fast = world.fast_sd * rng.standard_normal(paths)
    base_rate = world.jumps_per_day / STEPS_PER_DAY * (1.0 - world.excitation)
    rate = np.zeros(paths)
    out = np.empty((steps, paths))
    other = sqrt(1.0 - world.leverage**2)
    for step in range(steps):
        drawn = rng.standard_normal((4, paths))
        vol = np.exp(np.minimum(level + slow + fast, log(4.0)))
        out[step] = vol * sqrt(STEP_YEARS) * drawn[0]
        is_jump = rng.random(paths) < base_rate + rate
        out[step] += np.where(is_jump, world.jump_sd * drawn[3], 0.0)
        slow = keep_slow * slow + slow_step * drawn[1]
        fast = keep_fast * fast + fast_step * (world.leverage * drawn[0] + other * drawn[2])
        fast += np.where(is_jump, world.jump_kick, 0.0)
        rate = keep_rate * (rate + np.where(is_jump, world.excitation * (1.0 - keep_rate), 0.0))
    return out


WORLDS = (
    StressedWorld(name="clusters and jumps"),
    StressedWorld(name="clusters alone", jumps_per_day=0.0),
    StressedWorld(name="jumps alone", slow_sd=0.0, fast_sd=0.0, leverage=0.0, jumps_per_day=0.1, jump_kick=0.0),
)
