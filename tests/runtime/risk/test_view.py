"""The figures of `evenkeel risk`, held against the pure functions and against what paper says."""

from __future__ import annotations

from math import inf, isnan, sqrt

import msgspec
import pytest

from bot.domain.risk import CounterpartySigns
from bot.risk.distances import linear_liquidation_px
from bot.risk.volatility.forecaster import VolForecast
from bot.runtime.risk.snapshot import Told
from bot.runtime.risk.view import build_view, plain, vol_of
from tests.runtime.risk_snapshots import CALL, PERP, SPOT_PX, account, accounts, snapshot
from tests.runtime.vault_files import START_NS


def forecast(hours: float, mean: float) -> VolForecast:
    return VolForecast(
        underlying="ETH",
        ts_ns=START_NS,
        horizon_years=hours / 8_760.0,
        mean_vol=mean,
        levels=(0.9, 0.95, 0.99),
        quantile_vols=(1.1 * mean, 1.2 * mean, 1.5 * mean),
        model="HAR",
        regime="calm",
        regime_probability=0.9,
    )


def test_margin_says_whose_figure_it_is_and_what_is_left() -> None:
    view = build_view(accounts())
    line = next(one for one in view.margin if one.account == "hyperliquid")
    reckoned = accounts().of["hyperliquid"].figures
    assert (line.by, line.initial_quote, line.maintenance_quote) == ("model", *reckoned)
    assert line.utilisation_ratio == pytest.approx(reckoned.maintenance / 5_000.0)
    assert line.free_quote == pytest.approx(5_000.0 - reckoned.initial)
    assert line.room_quote == pytest.approx(0.9 * 5_000.0 - reckoned.initial)
    assert isnan(line.difference_share)


def test_a_venues_word_is_held_against_the_model() -> None:
    local = accounts().of["deribit"].local
    told = Told(50_000.0, 20_000.0, 0.8 * local.maintenance, local.initial, local.maintenance, START_NS)
    found = accounts(accounts=(account("deribit", "house", told=told), snapshot().accounts[1]))
    line = build_view(found).margin[0]
    assert line.by == "venue"
    assert line.difference_share == pytest.approx(0.25)


def test_an_account_nobody_knows_is_named_and_not_counted() -> None:
    lost = account("deribit", "house", unknown="no marks", equity_quote=float("nan"))
    view = build_view(accounts(accounts=(lost, snapshot().accounts[1]), positions=(PERP,)))
    assert view.unknown == {"deribit": "no marks"}
    assert [one.account for one in view.margin] == ["hyperliquid"]
    assert view.equity_quote == 5_000.0


def test_the_distance_of_a_perpetual_is_the_closed_form() -> None:
    found = accounts()
    one = found.of["hyperliquid"]
    rate = one.figures.maintenance / (10.0 * SPOT_PX)
    line = next(line for line in build_view(found).distances if line.account == "hyperliquid")
    assert line.distance.interval.up_px == pytest.approx(linear_liquidation_px(5_000.0, -10.0, SPOT_PX, rate), rel=1e-6)
    assert line.distance.interval.down_px == 0.0
    assert line.delay_s == pytest.approx(1_800.0)


def test_vol_is_the_forecasts_for_the_delay_else_what_is_quoted_else_the_class() -> None:
    told = {"ETH": (forecast(1.0, 0.5), forecast(24.0, 0.7))}
    assert vol_of(accounts(forecasts=told), ["ETH"]) == (0.5, "forecast, HAR")
    assert vol_of(accounts(forecasts=told), ["ETH"], 0.95)[0] == pytest.approx(0.6)
    assert vol_of(accounts(), ["ETH"]) == (pytest.approx(0.6), "quoted")
    assert vol_of(accounts(positions=(PERP,)), ["ETH"]) == (1.5, "of its asset class")


def test_the_buffer_looks_ahead_by_the_quantile_and_not_the_mean() -> None:
    line = build_view(accounts(forecasts={"ETH": (forecast(1.0, 0.5),)})).buffers[1]
    assert line.account == "hyperliquid"
    assert line.move_fraction == pytest.approx(2.3263 * 0.6 * sqrt(0.5 / 8_760.0), rel=1e-3)
    assert line.ratio_after < line.ratio
    assert 1.23 <= line.target_ratio <= 1.46  # the vault's base, and what a high forecast may make of it at most


def test_what_is_netted_is_gross_and_net_side_by_side_without_dollars() -> None:
    view = build_view(accounts())
    (found,) = view.netted.exposures
    assert found.underlying == "ETH"
    call = next(base for name, base in found.by_account if name == "deribit")
    assert found.net_base == pytest.approx(call - 10.0)
    assert found.gross_base == pytest.approx(10.0 - call)  # both are short


def test_modes_are_those_of_the_venue_and_two_accounts_are_held_together() -> None:
    view = build_view(accounts())
    deribit = next(one for one in view.modes if one.account == "deribit")
    assert [one.mode for one in deribit.modes] == ["deribit", "deribit_portfolio", "isolated"]
    assert deribit.cheapest.initial_quote == min(one.initial_quote for one in deribit.modes)
    assert view.capital is not None
    assert view.capital.apart_quote == pytest.approx(sum(one.cheapest.initial_quote for one in view.modes))
    assert build_view(accounts(positions=(CALL,))).capital is None


def test_counterparties_hold_what_is_posted_and_what_is_owed() -> None:
    signs = CounterpartySigns("deribit", START_NS, START_NS, withdrawals="failed")
    view = build_view(accounts(signs={"deribit": signs}, actions={"deribit": "exit"}))
    deribit, hyperliquid = view.counterparties
    assert deribit.ead_quote == pytest.approx(56_000.0)
    assert deribit.stressed_quote > deribit.ead_quote  # a sold call gains in a crash, and they owe it
    assert deribit.score.points <= 49.0
    assert hyperliquid.replacement_quote > 0.0  # ten coins short are to be sold again
    assert view.is_watched


def test_json_holds_no_number_that_is_none() -> None:
    found = plain(build_view(accounts()))
    assert found["margin"][0]["difference_share"] is None
    assert plain({"a": (inf, 1.0)}) == {"a": [None, 1.0]}
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
