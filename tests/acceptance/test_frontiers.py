"""The default policy on the frontier of cost against tracking error, on the two bundled recordings.

Decisions are taken once a minute of the recording: cost is within a few per cent then, in a tenth of the time.
The whole table is in docs/frontier.md.
"""

from __future__ import annotations

from functools import cache

import pytest

from bot.domain.results import FrontierPoint
from bot.runtime.studies.tuning import Bench, Job, find_scale, jobs_of
from bot.simulation.frontier import cost_at, frontier
from tests.acceptance.vaults import DEMO_VAULTS, load, own_run, read

EVERY_S = 60.0


@cache
def bench(name: str) -> Bench:
    return Bench(load(name), every_s=EVERY_S)


@cache
def points(name: str, family: str) -> tuple[FrontierPoint, ...]:
    vault = load(name)
    recording, _ = read(vault)
    return tuple(bench(name).run(job) for job in jobs_of([family], find_scale(vault, recording), 3))


@pytest.mark.parametrize("name", DEMO_VAULTS)
def test_nothing_else_costs_much_less_than_the_default_at_its_tracking_error(name: str) -> None:
    own = bench(name).run(Job("impulse", load(name).policy))
    others = [point for family in ("delta_band_edge", "fixed_interval") for point in points(name, family)]
    least_quote = cost_at(frontier(others), own.sd_day_quote)
    assert least_quote is not None
    assert own.cost_quote < 1.1 * least_quote
    clock = cost_at(frontier(points(name, "fixed_interval")), own.sd_day_quote)
    assert clock is not None
    assert own.cost_quote < 0.85 * clock


def test_deciding_less_often_hardly_changes_what_is_measured() -> None:
    exact = own_run("eth-straddle").summary
    coarse = bench("eth-straddle").run(Job("impulse", load("eth-straddle").policy))
    assert coarse.cost_quote == pytest.approx(exact.cost_quote, rel=0.05)
    assert coarse.delta_rms_base == pytest.approx(exact.delta_rms_base, rel=0.1)
