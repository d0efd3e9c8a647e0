"""`evenkeel quote` as a user meets it: what it prints, and one clear error for each thing that cannot be quoted."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bot.domain.errors import ConfigError
from bot.runtime.cli.quote import parse_time, parse_trades, quote
from tests.acceptance.vaults import CONFIG

ETH = str(CONFIG / "eth-straddle.yaml")
app = typer.Typer()
app.command()(quote)


def ask(*words: str) -> Any:
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_trade_that_closes_the_book_gives_back_all_its_hedging_costs() -> None:
    trades = ["--trade", "ETH-28APR23-1900-C:100", "--trade", "ETH-28APR23-1900-P:100"]
    found = ask(ETH, *trades)
    (book,), (trade,) = found["books"], found["trades"]
    assert book["risk_aversion_per_quote"] == 3e-4
    assert book["costs"]["hedging_quote"] == pytest.approx(600.5, rel=1e-3)
    assert trade["added"]["hedging_quote"] == pytest.approx(-book["costs"]["hedging_quote"], rel=1e-9)
    assert trade["per_unit_quote"] is None


def test_costs_grow_as_the_power_four_thirds_of_the_book() -> None:
    found = ask(ETH, "--trade", "ETH-28APR23-1900-C:-100", "--horizon-days", "5")
    (book,), (trade,) = found["books"], found["trades"]
    alone = trade["alone_quote"]
    both = book["costs"]["hedging_quote"] + trade["added"]["hedging_quote"]
    assert both / alone == pytest.approx(3.0 ** (4.0 / 3.0), rel=1e-3)  # three times the same gamma
    assert trade["marginal_quote"] < trade["added"]["hedging_quote"]
    assert trade["per_unit_quote"] == pytest.approx(trade["added"]["total_quote"] / 100.0)
    assert book["horizon_days"] == pytest.approx(5.0)


def test_it_reads_as_a_desk_would_ask_it() -> None:
    trade = ["--trade", "ETH-28APR23-1900-C:-50", "--at", "2023-04-13T12:00"]
    result = CliRunner().invoke(app, [ETH, *trade], catch_exceptions=False)
    assert result.exit_code == 0
    for words in ("as of 2023-04-13T12:0", "band now", "one standard deviation", "vol points", "of the premium"):
        assert words in result.stdout, result.stdout
    assert "more for -50 ETH-28APR23-1900-C" in result.stdout


def test_gas_is_a_part_of_its_own() -> None:
    (book,) = ask(str(CONFIG / "eth-straddle-onchain.yaml"))["books"]
    costs = book["costs"]
    assert book["gas_per_trade_quote"] > 0.0
    assert costs["gas_quote"] > 0.0
    parts = costs["fees_quote"] + costs["gas_quote"] + costs["risk_quote"]
    assert parts == pytest.approx(costs["hedging_quote"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--trade", "ETH-28APR23-1900-X:1"], "did you mean ETH-28APR23-1900-"),
        (["--trade", "ETH-PERPETUAL:1"], "expected an option"),
        (["--trade", "ETH-13APR23-1900-C:1", "--at", "2023-04-14T10:00"], "found it expired at 2023-04-13T08:00"),
        (["--at", "2024-01-01"], "expected a time from 2023-04-12"),
        (["--policy", "unhedged"], "expected one that hedges by a rule"),
        (["--horizon-days", "-1"], "expected a number of days above 0"),
    ],
)
def test_what_cannot_be_quoted_is_told_in_one_line(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CliRunner().invoke(app, [ETH, *words], catch_exceptions=False)
    assert len(caught.value.problems) == 1
    assert expected in caught.value.problems[0]


@pytest.mark.parametrize("text", ["ETH", "ETH:", ":5", "ETH:0", "ETH:nan", "ETH:much"])
def test_a_trade_without_a_quantity_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="INSTRUMENT:QTY"):
        parse_trades([text])


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert parse_time("1970-01-01T00:00:01") == 10**9
    assert parse_time("1970-01-01T01:00:01+01:00") == 10**9
    with pytest.raises(ConfigError, match="expected a time"):
        parse_time("noon")


def test_a_policy_without_a_risk_aversion_gets_the_one_its_rule_is_best_at() -> None:
    edge = ask(ETH, "--policy", "delta_band:half_width_base=8.46")["books"][0]
    assert edge["risk_aversion_per_quote"] == pytest.approx(3e-4, rel=0.01)
    centre = ask(ETH, "--policy", "delta_band:half_width_base=13.43:trade_to=centre")["books"][0]
    assert centre["risk_aversion_per_quote"] == pytest.approx(3e-4, rel=0.01)
    ratio = centre["costs"]["hedging_quote"] / edge["costs"]["hedging_quote"]
    assert ratio == pytest.approx(2.0 ** (1.0 / 3.0), rel=0.01)
