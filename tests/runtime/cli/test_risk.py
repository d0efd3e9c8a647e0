"""`evenkeel risk` as a user meets it: what it prints, how it exits, one clear error for each thing that is wrong."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bot.domain.errors import ConfigError
from bot.risk.heatmap import HOURS_PER_YEAR
from bot.runtime.cli.risk import ask_venue, risk_app
from bot.runtime.risk.accounts import Accounts
from bot.runtime.risk.source import DAEMON, Found, find_snapshot
from bot.runtime.risk.view import build_view
from bot.runtime.risk.what_if import Order
from tests.acceptance.vaults import CONFIG, load
from tests.runtime.command_line import CommandLine, wait_for
from tests.runtime.risk.test_source import NOON_NS
from tests.runtime.risk_snapshots import risky_vault, snapshot

ETH = str(CONFIG / "eth-straddle-margin.yaml")
NOON = ["--at", "2023-04-13T12:00"]
ROUTES = """\
  transfers:
    day_caps: {USDC: 50000}
    addresses: {desk: {address: "0xaa", network: ERC20}}
    routes:
      - {asset: USDC, from_venue: treasury, to_venue: deribit, route: ERC20, address_label: desk, max_amount: 50000}
"""


def invoke(*words: str) -> Result:
    return CliRunner().invoke(risk_app, list(words), catch_exceptions=False)


def ask(*words: str) -> Any:
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_figures_are_those_of_the_pure_functions(tmp_path: Path) -> None:
    found = ask(ETH, *NOON, "--pictures", str(tmp_path))
    vault = load("eth-straddle-margin")
    view = build_view(Accounts(vault, find_snapshot(vault, at_ns=NOON_NS).snapshot))
    (line,) = found["margin"]
    assert line["initial_quote"] == pytest.approx(view.margin[0].initial_quote)
    assert line["utilisation_ratio"] == pytest.approx(line["maintenance_quote"] / line["equity_quote"])
    assert found["netted"]["exposures"][0]["net_base"] == pytest.approx(view.netted.exposures[0].net_base)
    up_px = found["distances"][0]["distance"]["interval"]["up_px"]
    assert up_px == pytest.approx(view.distances[0].distance.interval.up_px)
    assert [one["quantile_vols"] for one in found["forecasts"]] == [list(one.quantile_vols) for one in view.forecasts]
    assert found["source"] == view.source
    assert all((tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in ("margin", "forecast"))


def test_a_vault_file_first_is_what_show_shows() -> None:
    short, long = invoke(ETH, *NOON), invoke("show", ETH, *NOON)
    assert short.stdout == long.stdout
    for title in (
        "margin, quote money",
        "netting, by",
        "distance to liquidation",
        "counterparties",
        "volatility forecast",
    ):
        assert title in short.stdout
    assert "what-if" in invoke("--help").stdout


def test_stress_prints_a_map_and_draws_it(tmp_path: Path) -> None:
    result = invoke("stress", ETH, *NOON, "--picture", str(tmp_path / "map.png"))
    assert result.exit_code == 0
    assert "2020-03-12: deribit is LIQUIDATED" in result.stdout
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert f"wrote {tmp_path / 'map.png'}" in result.stderr
    later = ask("stress", ETH, *NOON, "--hours", "24")["heat"]
    assert later["hours"] == pytest.approx(HOURS_PER_YEAR / 365.0)


def test_an_order_that_margin_refuses_exits_six_and_says_why() -> None:
    good = invoke("what-if", ETH, "buy", "20", "ETH-PERPETUAL", *NOON)
    assert (good.exit_code, good.stdout.splitlines()[-1]) == (0, "no limit would refuse it")
    bad = invoke("what-if", ETH, "-50 ETH-28APR23-2000-C", *NOON)
    assert bad.exit_code == 6
    assert "\nREFUSED by margin_limit: initial margin 33,125 would be 49,943" in bad.stdout
    assert "\nREFUSED by margin_limit: a move of 4.0% before deribit could be topped up" in bad.stdout


def test_collateral_is_planned_over_the_vaults_routes_and_exported(tmp_path: Path) -> None:
    path = tmp_path / "vault.yaml"
    path.write_text((CONFIG / "eth-straddle-margin.yaml").read_text() + ROUTES)
    exported, picture = tmp_path / "plan.jsonl", tmp_path / "plan.png"
    words = ["collateral", str(path), *NOON, "--export", str(exported), "--picture", str(picture)]
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert "every need is met" in result.stdout
    (line,) = exported.read_text().splitlines()
    assert (json.loads(line)["asset"], json.loads(line)["address"]) == ("USDC", "0xaa")
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = ask("collateral", str(path), *NOON)
    assert found["plan"]["transfers"][0]["amount"] == pytest.approx(json.loads(line)["amount"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["what-if", ETH, "buy ETH-PERPETUAL"], "ORDER: expected a quantity and an instrument"),
        (["what-if", ETH, "buy 1 ETH-PERPETUL", *NOON], "did you mean ETH-PERPETUAL?"),
        ([ETH, "--at", "noon"], "--at: expected a time"),
        ([ETH, "--at", "2030-01-01"], "--at: expected a time from"),
    ],
)
def test_what_is_wrong_is_one_clear_error(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        invoke(*words)
    (problem,) = caught.value.problems
    assert said in problem


def test_a_running_daemon_is_asked_and_its_journal_after_it(evenkeel: CommandLine, lasting: Path) -> None:
    busy = lasting
    running = evenkeel.start("run", "busy.yaml", "--speed", "100", cwd=busy)
    told = wait_for(lambda: _source(evenkeel.run("risk", "busy.yaml", "--json", cwd=busy), "the running daemon"))
    assert told["margin"][0]["account"] == "deribit"
    asked = evenkeel.run("risk", "what-if", "busy.yaml", "sell 1 ETH-28APR23-2000-C", "--json", cwd=busy)
    assert (asked.code, asked.json["source"]) == (0, "the running daemon")
    running.send(signal.SIGTERM)
    running.wait()
    past = evenkeel.run("risk", "busy.yaml", "--json", cwd=busy)
    assert past.code == 3
    assert past.json["source"] == "the journal busy.sqlite, at its end"
    assert "not the present" in past.err


def _source(result: Any, wanted: str) -> Any:
    """Return what was told, once it is told by whom it is to be and there is anything to tell."""
    found = result.json if result.code in {0, 3} and result.out else {}
    return found if found.get("source") == wanted and found.get("margin") else None


def test_a_live_vault_that_never_ran_exits_three(tmp_path: Path) -> None:
    text = (CONFIG / "paper-deribit.yaml").read_text()
    (tmp_path / "live.yaml").write_text(f"{text}\nstate_dir: {tmp_path}\n")
    result = invoke(str(tmp_path / "live.yaml"))
    assert result.exit_code == 3
    assert "is not running and has no journal" in result.stderr


def test_a_venue_is_asked_through_its_daemon_alone(tmp_path: Path) -> None:
    live = risky_vault().model_copy(update={"feed": "live", "state_dir": str(tmp_path)})
    order = Order("PERP", -1.0)
    assert ask_venue(risky_vault(), Found(snapshot(source=DAEMON)), order) == (None, "")
    assert ask_venue(live, Found(snapshot(source="its journal")), order) == (None, "")
    assert ask_venue(live, Found(snapshot(source=DAEMON)), order) == (None, "no answer came in time")
