"""What a contest has earned: beaten by luck is not beaten."""

from __future__ import annotations

import numpy as np

from bot.risk.volatility.candidates import PLAIN, Candidate
from bot.risk.volatility.choosing import KEPT_MODELS, overlap, ranked
from bot.risk.volatility.evaluation import stays
from bot.risk.volatility.walk_forward import DAILY, EWMA, WEEKLY, Outcome, Path, Setting


def contest(noise: dict[str, float], setting: Setting = DAILY, seed: int = 1) -> Outcome:
    """Forecasts that are off by so much (a standard deviation of logs) of what then comes."""
    rng = np.random.default_rng(seed)
    realised = np.exp(rng.normal(-7.0, 0.5, 400))
    paths = {}
    for name, spread in noise.items():
        variance = realised * np.exp(rng.normal(0.0, spread, 400))
        paths[name] = {"BTC": Path(np.log(variance), variance)}
    return Outcome(setting, {"BTC": 24 * np.arange(400)}, {"BTC": realised}, paths)


HAR, GOOD, BETTER, SAME = (Candidate(name, ("one",)) for name in (PLAIN, "good", "better", "same"))
TREES = Candidate("trees", ("rv24",), is_boosted=True)


def test_the_best_comes_first_and_no_more_than_three_are_kept() -> None:
    outcome = contest({EWMA: 0.8, PLAIN: 0.6, "good": 0.5, "better": 0.4, "same": 0.45})
    found = [one.name for one in ranked(outcome, (HAR, GOOD, BETTER, SAME))]
    assert found == ["better", "same", "good"]
    assert len(found) == KEPT_MODELS


def test_what_chance_may_explain_is_not_kept() -> None:
    outcome = contest({EWMA: 0.8, PLAIN: 0.5, "same": 0.5})
    assert [one.name for one in ranked(outcome, (HAR, SAME))] == [PLAIN]


def test_nobody_is_kept_where_the_average_that_forgets_is_as_good() -> None:
    outcome = contest({EWMA: 0.5, PLAIN: 0.5, "same": 0.5})
    assert ranked(outcome, (HAR, SAME)) == []


def test_where_har_is_worse_another_may_still_be_better() -> None:
    outcome = contest({EWMA: 0.5, PLAIN: 0.7, "better": 0.3})
    assert [one.name for one in ranked(outcome, (HAR, BETTER))] == ["better"]


def test_trees_must_beat_the_best_linear_model() -> None:
    firsts = set()
    for seed in range(8):
        outcome = contest({EWMA: 0.8, PLAIN: 0.6, "good": 0.43, "trees": 0.4}, seed=seed)
        found = [one.name for one in ranked(outcome, (HAR, GOOD, TREES))]
        earned = stays(outcome.losses("trees"), outcome.losses("good"))
        assert found == (["trees", "good", PLAIN] if earned else ["good", PLAIN])
        firsts.add(found[0])
    assert firsts == {"trees", "good"}


def test_overlap() -> None:
    assert overlap(contest({EWMA: 0.5})) == 1
    assert overlap(contest({EWMA: 0.5}, WEEKLY)) == 7
