"""Dashboard and alert rules ask for metrics that there are, with labels they have, in the shape Grafana takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

from bot.runtime.configuration.desk import HttpSection
from bot.telemetry.metrics.families import families
from tests.house.sources import ROOT
from tests.telemetry.metrics.promql import problems

BOARD = json.loads((ROOT / "config" / "grafana" / "evenkeel.json").read_text(encoding="utf-8"))
WANTED = [
    "delta_low_base",
    "band_low_base",
    "target_delta_base",
    "hedges_total",
    "refusals_total",
    "gamma_base_per_quote",
    "vega_quote",
    "theta_quote",
    "pnl_quote",
    "cost_quote",
    "decide_seconds_bucket",
    "step_seconds_bucket",
    "feed_age_seconds",
    "orders",
    "unknown_base",
    "margin_use_ratio",
    "liquidation_touch_probability_ratio",
    "liquidation_distance_ratio",
    "loop_lag_seconds",
    "journal_lag_seconds",
    "alerts_open",
    "state_age_seconds",
    "up",
]
PANEL_TYPES = {"row", "timeseries", "stat", "heatmap", "state-timeline"}
DURATION = re.compile(r"^\d+(s|m|h)$")


def known_metrics() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return type and labels of everything that can be asked for; a histogram is three counters."""
    found = {}
    for one in families():
        labels = ("vault", *one.labels)
        if one.kind == "histogram":
            found |= {f"{one.name}_{part}": ("counter", labels) for part in ("sum", "count")}
            found[f"{one.name}_bucket"] = ("counter", (*labels, "le"))
        else:
            found[one.name] = (one.kind, labels)
    found["evenkeel_build_info"] = ("gauge", ("version",))
    found["evenkeel_commands_refused_total"] = ("counter", ("reason",))
    found["evenkeel_broker_away_seconds"] = ("gauge", ())
    return found


KNOWN = known_metrics()


def yaml(name: str) -> Any:
    return YAML(typ="safe").load((ROOT / "config" / "prometheus" / name).read_text(encoding="utf-8"))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_every_query_of_the_dashboard_finds_something(title: str, query: str) -> None:
    assert problems(query, KNOWN) == [], title


def test_all_that_the_desk_asked_for_is_on_the_dashboard() -> None:
    text = " ".join(query for _, query in queries())
    assert [name for name in WANTED if not re.search(rf"\bevenkeel_{name}\b", text)] == []


def test_the_dashboard_has_the_shape_that_grafana_takes() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert BOARD["schemaVersion"] >= 36
    assert {panel["type"] for panel in BOARD["panels"]} == PANEL_TYPES
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        assert all(re.fullmatch(r"[^{}]*(\{\{\w+\}\}[^{}]*)*", target["legendFormat"]) for target in panel["targets"])


def test_its_data_source_and_vaults_are_variables_and_it_names_no_other() -> None:
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    assert {name: one["type"] for name, one in variables.items()} == {"datasource": "datasource", "vault": "query"}
    assert variables["vault"]["definition"] == "label_values(evenkeel_up, vault)"
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD)))
    assert used - {"__rate_interval", "__all"} == {"datasource", "vault"}
    repeated = [panel.get("repeat") for panel in BOARD["panels"] if panel["type"] == "row"]
    assert repeated == [None, "vault"]


def test_no_panel_lies_upon_another_or_hangs_over_the_edge() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_of_a_vault_are_of_that_vault_only() -> None:
    rows = [place for place, panel in enumerate(BOARD["panels"]) if panel["type"] == "row"]
    of_all, of_one = BOARD["panels"][rows[0] + 1 : rows[1]], BOARD["panels"][rows[1] + 1 :]
    for several, matcher in ((of_all, 'vault=~"$vault"'), (of_one, 'vault="$vault"')):
        for panel in several:
            for target in panel["targets"]:
                selectors = re.findall(r"evenkeel_\w+(\{[^}]*\})?", target["expr"])
                assert all(matcher in selector for selector in selectors), target["expr"]


RULES = [rule for group in yaml("alerts.yml")["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_rule_finds_something_and_says_what_it_is(rule: dict[str, Any]) -> None:
    assert problems(rule["expr"], KNOWN) == []
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert DURATION.match(rule.get("for", "1s"))
    assert rule["labels"]["severity"] in ("critical", "warning")
    summary = rule["annotations"]["summary"]
    named = set(re.findall(r"\$labels\.(\w+)", summary))
    metrics = re.findall(r"evenkeel_\w+", rule["expr"])
    assert all(named <= set(KNOWN[metric][1]) for metric in metrics)


def test_alerts_are_named_once_and_the_scrape_finds_the_windows() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    config = yaml("prometheus.yml")
    (job,) = config["scrape_configs"]
    section = HttpSection()
    assert job["static_configs"] == [{"targets": [f"{section.host}:{section.port}"]}]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert [(ROOT / "config" / "prometheus" / name).exists() for name in config["rule_files"]] == [True]


@pytest.mark.parametrize(
    "query",
    [
        "evenkeel_wish",
        "rate(evenkeel_up[5m])",
        "evenkeel_hedges_total",
        "rate(evenkeel_hedges_total)",
        'evenkeel_up{colour="blue"}',
        "sum by (reason) (evenkeel_up)",
        "sum(evenkeel_up",
        "evenkeel_up evenkeel_up",
        "evenkeel_up +",
        "evenkeel_up{vault=blue}",
        "1 + 1",
        "histogram_quantile(0.99, evenkeel_decide_seconds_bucket)",
        "",
    ],
)
def test_a_query_that_finds_nothing_is_found_out(query: str) -> None:
    assert problems(query, KNOWN) != []
