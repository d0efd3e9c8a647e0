"""HAR against figures computed elsewhere, and where it must refuse or hold back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bot.risk.volatility.evaluation import qlike, squared_error
from bot.risk.volatility.har import fit_linear, lagged_means, rolling
from bot.risk.volatility.measures import Floats

DATA = Path(__file__).parents[1] / "data"
EXPECTED = json.loads((DATA / "har_x_expected.json").read_text())
WINDOWS = (1, 5, 22)
HAR = ("c", "d", "w", "m")
HARX = (*HAR, "dvol", "funding", "oi", "dxy")


@pytest.fixture(scope="module")
def table() -> Floats:
    lines = gzip.decompress((DATA / "har_x_dataset.csv.gz").read_bytes()).decode().splitlines()[1:]
    return np.array([[float(cell) for cell in line.split(",")] for line in lines])


@pytest.mark.parametrize(("names", "key"), [(HAR, "har"), (HARX, "harx")])
def test_coefficients_and_forecasts_are_those_computed_elsewhere(
    table: Floats, names: tuple[str, ...], key: str
) -> None:
    log_rv = table[:, 1]
    rows = lagged_means(log_rv, WINDOWS, table[:, 2:] if key == "harx" else None)
    found = fit_linear(names, rows[22:900], log_rv[22:900])
    expected = EXPECTED[f"{key}_coef"]
    assert dict(zip(found.names, found.coefficients, strict=True)) == pytest.approx(expected, abs=1e-6)
    means, variance = rolling(names, rows, log_rv, 900, EXPECTED["oos"]["window"])
    realised = log_rv[900:]
    assert squared_error(realised, means).mean() == pytest.approx(EXPECTED["oos"][key]["mse"], abs=1e-6)
    assert qlike(np.exp(realised), variance).mean() == pytest.approx(EXPECTED["oos"][key]["qlike"], abs=1e-6)
    last = EXPECTED["last_forecast"]
    assert means[-1] == pytest.approx(last[f"{key}_log"], abs=1e-6)
    if key == "harx":
        assert variance[-1] == pytest.approx(last["harx_variance_forecast"], abs=1e-6)
        assert np.sqrt(365 * variance[-1]) == pytest.approx(last["harx_annual_vol"], abs=1e-6)
        fitted = fit_linear(names, rows[699:1199], log_rv[699:1199])
        assert fitted.residual_variance == pytest.approx(last["harx_resid_var"], abs=1e-6)


def test_regressors_look_back_only(table: Floats) -> None:
    log_rv = table[:100, 1]
    rows = lagged_means(log_rv, WINDOWS, table[:100, 2:])
    assert np.isnan(rows[21]).any()
    assert np.isfinite(rows[22]).all()
    changed, others = log_rv.copy(), table[:100, 2:].copy()
    changed[50:] += 3.0
    others[50:] += 3.0
    after = lagged_means(changed, WINDOWS, others)
    assert after[22:51] == pytest.approx(rows[22:51])
    assert not np.allclose(after[51], rows[51])


def test_rows_with_anything_unknown_are_left_out(table: Floats) -> None:
    log_rv = table[:, 1]
    rows = lagged_means(log_rv, WINDOWS)
    clean = fit_linear(HAR, rows[22:], log_rv[22:])
    assert fit_linear(HAR, rows, log_rv) == clean
    with pytest.raises(ValueError, match="at least 20 rows to fit 4 coefficients, found 8"):
        fit_linear(HAR, rows[:30], log_rv[:30])


def test_a_forecast_stays_near_what_was_ever_seen(table: Floats) -> None:
    log_rv = table[:, 1]
    model = fit_linear(HAR, lagged_means(log_rv, WINDOWS), log_rv)
    mad = np.array([[1.0, 50.0, 50.0, 50.0], [1.0, -90.0, -90.0, -90.0]])
    assert model.log_mean(mad) == pytest.approx([log_rv[22:].max() + 1.0, log_rv[22:].min() - 1.0])


def test_a_mean_is_lifted_by_what_residuals_were_and_by_the_hour() -> None:
    rng = np.random.default_rng(4)
    count = 24_000
    hour = np.arange(count) % 24
    x = rng.normal(size=count)
    spread = np.where(hour == 13, 1.2, 0.4)
    target = -10.0 + 0.7 * x + spread * rng.normal(size=count)
    flags = (hour[:, None] == np.array([12, 13])).astype(float)
    rows = np.column_stack([np.ones(count), x, flags])
    names = ("one", "x", "hour12", "hour13")
    model = fit_linear(names, rows, target, is_lifted=True)
    plain = fit_linear(names, rows, target)
    assert plain.lift is None
    assert model.coefficients[:2] == plain.coefficients[:2]
    assert model.coefficients[3] > plain.coefficients[3] + 0.2  # the wilder hour's mean and quantiles are higher
    assert model.coefficients[2] < plain.coefficients[2]
    ratio = np.exp(target - np.log(model.variance(rows)))
    for here in (hour == 12, hour == 13):
        assert ratio[here].mean() == pytest.approx(1.0, abs=0.12)  # as the mean of all hours is mixed in
    assert np.exp(target - np.log(plain.variance(rows)))[hour == 13].mean() > 1.5
    smeared = fit_linear(names[:2], rows[:, :2], target, is_lifted=True)
    assert np.exp(target - np.log(smeared.variance(rows[:, :2]))).mean() == pytest.approx(1.0)


def test_ridge_shrinks_all_but_the_constant(table: Floats) -> None:
    log_rv = table[:, 1]
    rows = lagged_means(log_rv, WINDOWS)
    free = np.array(fit_linear(HAR, rows, log_rv).coefficients)
    none = np.array(fit_linear(HAR, rows, log_rv, ridge=1e-12).coefficients)
    much = np.array(fit_linear(HAR, rows, log_rv, ridge=1e6).coefficients)
    assert none == pytest.approx(free, abs=1e-6)
    assert much[1:] == pytest.approx(np.zeros(3), abs=1e-4)
    assert much[0] == pytest.approx(log_rv[22:].mean(), abs=1e-2)
