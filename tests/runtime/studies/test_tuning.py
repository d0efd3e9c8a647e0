from __future__ import annotations

import pytest

from bot.domain.errors import ConfigError
from bot.runtime.studies.tuning import (
    FAMILIES,
    Job,
    Scale,
    choose_families,
    find_scale,
    jobs_of,
    run_all,
    with_daily_sd,
)
from strategies import DeltaBand, Impulse
from tests.acceptance.vaults import load, read


def scale() -> Scale:
    vault = load("eth-straddle")
    return find_scale(vault, read(vault)[0])


def test_families_are_chosen_by_name_and_all_leaves_out_what_can_only_repeat() -> None:
    vault, at = load("eth-straddle"), scale()
    assert set(FAMILIES) - set(choose_families("all", vault, at)) == {"gamma_vega", "whalley_wilmott"}
    assert choose_families("delta_band,impulse", vault, at) == ["delta_band_edge", "delta_band_centre", "impulse"]
    with pytest.raises(ConfigError) as caught:
        choose_families("impulse,nonsense,gamma_vega", vault, at)
    assert len(caught.value.problems) == 2


def test_settings_are_around_the_vaults_own_and_none_twice() -> None:
    jobs = jobs_of(["delta_band_edge", "unhedged"], scale(), 6)
    widths = [job.policy.half_width_base for job in jobs if isinstance(job.policy, DeltaBand)]
    assert len(widths) == 6
    assert widths == sorted(widths, reverse=True)
    assert widths[2] == pytest.approx(8.46, rel=0.01)  # the vault's own band at the start
    assert len(jobs) == 7


def test_a_short_run_in_processes_of_their_own_finds_what_one_here_finds() -> None:
    vault = load("eth-straddle")
    jobs = [Job("delta_band_edge", DeltaBand(half_width_base=width)) for width in (2.0, 6.0)]
    here = {one.spec: one for one in run_all(vault, jobs, workers=1, hours=3.0, every_s=60.0)}
    spread = {one.spec: one for one in run_all(vault, jobs, workers=2, hours=3.0, every_s=60.0)}
    assert here == spread
    assert len({one.cost_quote for one in here.values()}) == 2


def test_the_risk_aversion_that_is_found_goes_into_the_vaults_own_policy() -> None:
    own = Impulse(risk_aversion_per_quote=1e-4, h0_floor=False)
    assert with_daily_sd(own, 2e-4) == Impulse(risk_aversion_per_quote=2e-4, h0_floor=False)
    assert with_daily_sd(DeltaBand(half_width_base=1.0), 2e-4) == Impulse(risk_aversion_per_quote=2e-4)
