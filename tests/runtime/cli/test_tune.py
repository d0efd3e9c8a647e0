from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bot.domain.errors import ConfigError
from bot.runtime.cli.tune import parse_risk, short_spec, tune
from tests.acceptance.vaults import CONFIG

ETH = str(CONFIG / "eth-straddle.yaml")
SHORT = ["--hours", "3", "--every", "60", "--workers", "1"]
app = typer.Typer()
app.command()(tune)


def test_it_writes_a_table_a_picture_and_json(tmp_path: Path) -> None:
    words = [ETH, "--policies", "impulse,unhedged", "--points", "2", "--output", str(tmp_path), *SHORT]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "the vault's policy costs" in result.output
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "frontier.json").read_text())
    assert {point["family"] for point in found["points"]} == {"impulse", "unhedged"}
    assert found["own"] in found["points"]


def test_a_risk_nothing_reached_is_told_after_what_was_found() -> None:
    words = [ETH, "--policies", "unhedged", "--points", "1", "--hours", "0.2", "--every", "60", "--workers", "1"]
    result = CliRunner().invoke(app, [*words, "--risk", "daily_sd=1e9", "--json"])
    assert isinstance(result.exception, ConfigError)
    assert "expected a tracking error that was reached" in str(result.exception)
    assert json.loads(result.stdout)["met"] is None


def test_a_folder_that_cannot_be_made_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    result = CliRunner().invoke(app, [ETH, "--output", str(tmp_path / "taken"), *SHORT])
    assert isinstance(result.exception, FileExistsError)
    assert " of " not in result.output


@pytest.mark.parametrize("text", ["300", "daily_sd", "daily_sd=", "daily_sd=-1", "monthly_sd=300", "daily_sd=nan"])
def test_a_risk_that_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="daily_sd=QUOTE"):
        parse_risk(text)


def test_specs_are_shown_without_what_stands_at_its_default() -> None:
    assert short_spec("impulse:risk_aversion_per_quote=0.0003:h0_floor=true:centre_term=none") == (
        "impulse:risk_aversion_per_quote=0.0003:centre_term=none"
    )
