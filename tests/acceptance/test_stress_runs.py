"""Some runs of margin under stress; `scripts/stress_runs --runs 1000` makes any number, docs/risk.md has the table."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.domain.risk import TransferCollateral
from bot.engine.settings import EngineSettings
from tests.acceptance.stress_runs import Story, StressRun, run_seed, tell
from tests.acceptance.stress_world import Scenario, draw_scenario, settings_of

SEEDS = (0, 1, 4, 5, 6, 7, 10, 11)  # among them gaps, margin raised at once, venues that are down, withdrawals halted


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    return [run_seed(seed) for seed in SEEDS]


def changed(scenario: Scenario, **risk: Any) -> EngineSettings:
    """Return the vault of a scenario with other rules of margin."""
    settings = settings_of(scenario)
    assert settings.risk is not None
    return msgspec.structs.replace(settings, risk=msgspec.structs.replace(settings.risk, **risk))


def test_no_breach_is_one_that_the_rules_could_have_prevented(stories: list[Story]) -> None:
    found = [one for story in stories for one in story.breaches]
    assert [one for one in found if one.is_preventable] == []
    assert {one.kind for one in found} >= {"liquidation"}, "nothing was hard enough to be a test"
    assert all(one.cause for one in found)
    assert sum(story.orders for story in stories) > 200
    assert sum(story.cuts for story in stories) > 10
    assert sum(story.transfers for story in stories) > 10
    assert {"normal", "watch", "act", "critical"} <= {state for story in stories for state in story.states}
    assert "0 breaches that the rules could have prevented" in tell(stories)


def test_the_same_seed_tells_the_same_story(stories: list[Story]) -> None:
    assert run_seed(SEEDS[4]) == stories[4]


def test_without_a_limit_the_checker_finds_orders_and_withdrawals_over_it() -> None:
    """No limit on initial margin, nor on utilisation, nor on living through a move: liquidation is far off, it says."""
    scenario = draw_scenario(7)
    settings = settings_of(scenario)
    assert settings.risk is not None
    blind = {name: msgspec.structs.replace(one, liquidation_ratio=50.0) for name, one in settings.risk.accounts.items()}
    run = StressRun(scenario, changed(scenario, max_initial_ratio=5.0, accounts=blind))
    assert ("order", True) in {(one.kind, one.is_preventable) for one in run.run().breaches}
    way = next(one for one in scenario.routes if one.from_venue in blind)
    all_of_it = TransferCollateral("x-T1", way.asset, 1e9, way.from_venue, way.to_venue, way.name, "too much")
    run._check_transfer(all_of_it, scenario.start_ns)
    last = run.story.breaches[-1]
    assert (last.kind, last.is_preventable) == ("withdrawal", True)


def test_without_routes_the_checker_finds_that_nothing_was_sent() -> None:
    scenario = draw_scenario(5)
    settings = settings_of(scenario)
    assert settings.risk is not None
    rules = msgspec.structs.replace(settings.risk.transfers, routes=())
    found = StressRun(scenario, changed(scenario, transfers=rules)).run().breaches
    assert [(one.kind, one.cause, one.is_preventable) for one in found] == [("liquidation", "nothing was sent", True)]
