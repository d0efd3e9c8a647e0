"""The contest: no forecast changes when the future does, benchmarks by hand, and a model that is right wins."""

from __future__ import annotations

import numpy as np
import pytest

from bot.risk.volatility.candidates import PLAIN, Candidate
from bot.risk.volatility.features import HOURS_OF_DAY, Features
from bot.risk.volatility.measures import Hours
from bot.risk.volatility.trees import Boosted, Tree
from bot.risk.volatility.walk_forward import CHOSEN, EWMA, Outcome, Setting, fitted, pooled, run
from bot.runtime.configuration.volatility import bundled_hours

SETTING = Setting(horizon=24, every=24, train_every=24, warm_up=91 * 24, look_back=720, refit_every=14 * 24)
HAR = Candidate(PLAIN, ("one", "rv24", "rv168", "rv720"))
SWING = Candidate("swing", ("one", "late1", "swing16", "season", *HOURS_OF_DAY), ridge=0.05, is_lifted=True)
RANGE = Candidate("range", ("one", "range24", "range168", "range720", "saturday", "sunday", "monday", "fall24"))
ENTERED = (HAR, RANGE, SWING)
ASSETS = {asset: hours.upto(3600) for asset, hours in bundled_hours().items()}


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return run(ASSETS, SETTING, ENTERED, of_returns={"last square": lambda returns: float(returns[-1] ** 2)})


def test_nothing_looks_ahead(outcome: Outcome) -> None:
    changed = {}
    cut = 3000
    for asset, hours in ASSETS.items():
        columns = {name: getattr(hours, name).copy() for name in hours.__struct_fields__}
        for name in ("rv", "down", "bipower", "swing", "late"):
            columns[name][cut:] *= 7.0
        columns["close_px"][cut:] *= 1.3
        columns["high_px"][cut:] *= 1.4
        changed[asset] = Hours(*columns.values())
    again = run(changed, SETTING, ENTERED, of_returns={"last square": lambda returns: float(returns[-1] ** 2)})
    for asset in ASSETS:
        before = outcome.origins[asset] <= ASSETS[asset].hour[cut - 1]
        assert before.sum() > 30
        assert (~before).sum() > 10
        for name, paths in outcome.paths.items():
            assert again.paths[name][asset].variance[before] == pytest.approx(paths[asset].variance[before]), name
            assert again.paths[name][asset].variance[~before] != pytest.approx(paths[asset].variance[~before]), name


def test_benchmarks_by_hand(outcome: Outcome) -> None:
    hours = ASSETS["BTC"]
    at = int(np.searchsorted(hours.hour, outcome.origins["BTC"][7]))
    assert outcome.origins["BTC"][7] % 24 == 0
    assert outcome.realised["BTC"][7] == pytest.approx(hours.rv[at + 1 : at + 25].sum())
    assert outcome.paths["random walk"]["BTC"].variance[7] == pytest.approx(hours.rv[at - 23 : at + 1].sum())
    days = [hours.rv[end - 23 : end + 1].sum() for end in range(at % 24 + 24, at + 1, 24)]
    level = outcome.paths[EWMA]["BTC"].variance[6]
    assert outcome.paths[EWMA]["BTC"].variance[7] == pytest.approx(0.94 * level + 0.06 * days[-1])
    move = np.log(hours.close_px[at] / hours.close_px[at - 24])
    assert outcome.paths["last square"]["BTC"].variance[7] == pytest.approx(move**2)


def test_a_fit_is_of_rows_whose_targets_had_ended() -> None:
    features = {asset: Features(hours) for asset, hours in ASSETS.items()}
    upto = int(ASSETS["BTC"].hour[2500])
    found = fitted(HAR, features, SETTING, upto)
    hours = ASSETS["BTC"].hour
    rows, targets = [], []
    for one in features.values():
        used = (hours % 24 == 0) & (hours <= upto - 24)
        rows.append(one.rows(HAR.regressors, 24)[used])
        targets.append(np.log(one.target(24)[used]))
    x, y = np.vstack(rows), np.concatenate(targets)
    known = np.isfinite(x).all(axis=1)
    assert found.log_mean(x[known]) == pytest.approx(x[known] @ np.linalg.lstsq(x[known], y[known])[0])


def test_the_better_model_is_chosen_by_its_record(outcome: Outcome) -> None:
    assert outcome.losses("range").mean() < 0.92 * outcome.losses(PLAIN).mean()
    late = outcome.part(int(outcome.origins["BTC"][20]), 2**40)
    assert late.losses(CHOSEN).mean() < late.losses(PLAIN).mean()
    paths = outcome.paths
    names = (PLAIN, "range", "swing")
    logs = [np.log(paths[name]["ETH"].variance) for name in names]
    assert np.log(paths["average"]["ETH"].variance) == pytest.approx(np.mean(logs, axis=0))
    choices = [np.isclose(paths[CHOSEN]["ETH"].variance, paths[name]["ETH"].variance) for name in names]
    assert np.all(np.sum(choices, axis=0)[1:] == 1)


def test_losses_are_pooled_by_time_and_parts_are_parts(outcome: Outcome) -> None:
    found = pooled(
        {"a": np.array([1, 2]), "b": np.array([2, 3])}, {"a": np.array([1.0, 2.0]), "b": np.array([4.0, 5.0])}
    )
    assert found.tolist() == [1.0, 3.0, 5.0]
    first, last = outcome.origins["BTC"][0], outcome.origins["BTC"][9]
    part = outcome.part(int(first), int(last) + 1)
    assert part.origins["BTC"].size == 10
    assert part.losses(PLAIN) == pytest.approx(outcome.losses(PLAIN)[:10])
    assert outcome.part(0, 5).origins == {}


def test_trees_take_part_only_with_a_way_to_grow_them() -> None:
    trees = Candidate("trees", ("rv24",), is_boosted=True)
    leaf = Tree((-1,), (0.0,), (-1,), (-1,), (0.5,))
    short = {"BTC": ASSETS["BTC"].upto(2500)}
    without = run(short, SETTING, (HAR, trees))
    assert "trees" not in without.paths
    grown = run(
        short,
        SETTING,
        (HAR, trees),
        boost=lambda names, _, y: Boosted(tuple(names), float(np.nanmean(y)), 1.0, (leaf,), 0.0),
    )
    assert np.all(np.isfinite(grown.paths["trees"]["BTC"].variance))
    with pytest.raises(ValueError, match="a way to boost trees for trees"):
        fitted(trees, {"BTC": Features(short["BTC"])}, SETTING, int(short["BTC"].hour[-1]))


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 2184 hours"):
        run({"BTC": ASSETS["BTC"].upto(1000)}, SETTING, (HAR,))
