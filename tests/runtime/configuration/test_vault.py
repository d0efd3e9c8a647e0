"""Tests of the vault model, and that docs/configuration.md says what the model says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from bot.engine.settings import HedgeSettings, Limits, OptionHedgeSettings
from bot.runtime.configuration.chain_sections import (
    AssetSection,
    ChainHedgeSection,
    ChainSection,
    FeesSection,
    FusionSection,
    HolderSection,
    OracleSection,
    PoolSection,
    RateSection,
    SimulatedSection,
    WalletSection,
)
from bot.runtime.configuration.risk_sections import (
    AccountRiskSection,
    AddressSection,
    AssetClassesSection,
    BuffersSection,
    CollateralSection,
    CounterpartiesSection,
    DrainSection,
    InsuranceSection,
    MarginStatesSection,
    PartySection,
    RiskSection,
    RouteLine,
    SeriesLine,
    TransfersSection,
)
from bot.runtime.configuration.vault import (
    AccountCash,
    AccountLine,
    BookLine,
    ChainLine,
    CostsSection,
    DeltaSection,
    DepthLine,
    FileLine,
    HedgeLine,
    LatencySection,
    LimitsSection,
    MaxAgeSection,
    OperatorSection,
    OptionHedgesLine,
    RecordingFeed,
    Target,
    Vault,
    VenueSection,
)
from strategies import POLICIES, RiskWords
from tests.runtime.vault_files import vault

MANUAL = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("", Vault),
    ("feed.", RecordingFeed),
    ("venues.NAME.", VenueSection),
    ("chains.NAME.", ChainSection),
    ("chains.NAME.assets.SYMBOL.", AssetSection),
    ("chains.NAME.assets.SYMBOL.rate.", RateSection),
    ("chains.NAME.oracles.NAME.", OracleSection),
    ("chains.NAME.pools.NAME.", PoolSection),
    ("chains.NAME.hedges.NAME.", ChainHedgeSection),
    ("chains.NAME.holders[].", HolderSection),
    ("chains.NAME.wallet.", WalletSection),
    ("chains.NAME.fees.", FeesSection),
    ("chains.NAME.simulated.", SimulatedSection),
    ("fusion.", FusionSection),
    ("max_age.", MaxAgeSection),
    ("book[].", BookLine),
    ("book[].", AccountLine),
    ("book[].", ChainLine),
    ("book[].", FileLine),
    ("cash.", AccountCash),
    ("hedge.", HedgeLine),
    ("hedge.costs.", CostsSection),
    ("hedge.costs.depth[].", DepthLine),
    ("option_hedges[].", OptionHedgesLine),
    ("target.", Target),
    ("delta.", DeltaSection),
    ("limits.", LimitsSection),
    ("risk.", RiskSection),
    ("risk.accounts.NAME.", AccountRiskSection),
    ("risk.states.", MarginStatesSection),
    ("risk.counterparties.", CounterpartiesSection),
    ("risk.counterparties.parties.NAME.", PartySection),
    ("risk.counterparties.drain.", DrainSection),
    ("risk.transfers.", TransfersSection),
    ("risk.transfers.addresses.LABEL.", AddressSection),
    ("risk.transfers.routes[].", RouteLine),
    ("risk.collateral.", CollateralSection),
    ("risk.buffers.", BuffersSection),
    ("risk.series[].", SeriesLine),
    ("risk.asset_classes.", AssetClassesSection),
    ("risk.insurance.", InsuranceSection),
    ("operator.NAME.", OperatorSection),
    ("latency.", LatencySection),
    *((f"policy({name}).", cls) for name, cls in POLICIES.items()),
    ("policy(…).risk_aversion.", RiskWords),
]


WORDS: Final[dict[Any, str]] = {
    int: "whole number",
    float: "number",
    float | None: "number",
    str: "text",
    str | None: "text",
    bool: "true or false",
}


def manual_rows() -> Iterator[str]:
    """The row that docs/configuration.md must have for every key."""
    for section, model in SECTIONS:
        for key, field in model.model_fields.items():
            if key != "type":
                yield f"| `{section}{key}` | {bounds(field)} | {default(field)} | {field.description} |"


def bounds(field: FieldInfo) -> str:
    """Type and limits of a field, in the words of the manual."""
    words = WORDS.get(field.annotation)
    choices = get_args(field.annotation)
    if words is None:
        is_choice = choices and all(isinstance(choice, str) for choice in choices)
        words = " or ".join(f"`{choice}`" for choice in choices) if is_choice else "see below"
    signs = {"gt": ">", "ge": "≥", "le": "≤"}
    limits = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None and abs(getattr(rule, name)) < 1e9
    ]
    return " ".join([words, ", ".join(limits)]).strip()


def default(field: FieldInfo) -> str:
    """The default of a field, in the words of the manual."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or isinstance(value, BaseModel | dict | tuple):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, int | float) else f"`{value}`"


@pytest.mark.parametrize("row", list(manual_rows()), ids=lambda row: row.split("`")[1])
def test_the_manual_has_every_key_as_the_model_has_it(row: str) -> None:
    assert row in MANUAL.splitlines()


def test_the_manual_has_no_key_that_the_model_has_not() -> None:
    shown = [line for line in MANUAL.splitlines() if line.startswith("| `") and line.count("|") == 5]
    assert sorted(shown) == sorted(manual_rows())


def test_defaults_are_those_of_the_engine() -> None:
    engine = {field.name: field.default for field in msgspec.structs.fields(Limits) if not field.required}
    ours = {key: field.default for key, field in LimitsSection.model_fields.items() if not field.is_required()}
    ours["hedge_loop_window_ns"] = round(ours.pop("hedge_loop_window_s") * 1e9)
    assert ours == engine
    hedge = {field.name: field.default for field in msgspec.structs.fields(HedgeSettings)}
    line = {key: field.default for key, field in HedgeLine.model_fields.items()}
    for key in ("max_slippage_bps", "style", "repeg_ticks", "escalate_urgency", "escalate_bands"):
        assert line[key] == hedge[key], key
    for seconds, ns in (("repeg_every_s", "repeg_every_ns"), ("max_rest_s", "max_rest_ns")):
        assert round(line[seconds] * 1e9) == hedge[ns]
    options = {field.name: field.default for field in msgspec.structs.fields(OptionHedgeSettings)}
    lines = {key: field.default for key, field in OptionHedgesLine.model_fields.items()}
    for key in (
        "max_instruments",
        "min_strike_ratio",
        "max_strike_ratio",
        "max_delta_ratio",
        "max_spread_vol",
        "fee_cap_fraction",
    ):
        assert lines[key] == options[key], key
    days, seconds = 86_400 * 10**9, 10**9
    assert (lines["min_days"] * days, lines["max_days"] * days) == (options["min_ns"], options["max_ns"])
    assert lines["review_s"] * seconds == options["review_ns"]


def test_one_hedge_may_be_written_without_a_list() -> None:
    one = vault()
    assert isinstance(one["hedge"], dict)
    listed = {**one, "hedge": (one["hedge"],)}
    assert Vault.model_validate(one) == Vault.model_validate(listed)


def test_a_vault_survives_json() -> None:
    for target in ({"hedge_ratio": 0.5}, {"ETH": {"delta_base": -3.0}}):
        first = Vault.model_validate({**vault(), "target": target})
        assert Vault.model_validate_json(json.dumps(first.model_dump(mode="json"))) == first


def test_costs_are_optional_and_read_as_written() -> None:
    depth = [{"offset_bps": 0.5, "notional_quote": 50_000.0}]
    costs = {"impact_coefficient": 0.8, "daily_volume_base": 1e5, "funding_rate_per_day": -1e-4, "depth": depth}
    line = {**vault()["hedge"], "costs": costs}
    read = Vault.model_validate({**vault(), "hedge": line}).hedge[0].costs
    assert (read.impact_coefficient, read.funding_rate_per_day, read.daily_vol_fraction) == (0.8, -1e-4, None)
    assert read.depth == (DepthLine(offset_bps=0.5, notional_quote=50_000.0),)
    assert Vault.model_validate(vault()).hedge[0].costs == CostsSection()


def test_a_vault_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Vault.model_validate(vault()).seed = 2


def test_latencies_are_told_in_nanoseconds() -> None:
    latency = LatencySection(feed_ms=50.0, entry_ms=0.0005, response_ms=20.0)
    assert (latency.feed_ns, latency.entry_ns, latency.response_ns) == (50_000_000, 500, 20_000_000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": {"delta_base": 1.0, "hedge_ratio": 1.0}},
        {"target": {"hedge_ratio": 1.6}},
        {"target": {"hedge_ratio": -0.1}},
        {"target": {"ETH": {"hedge_ratio": 2}}},
        {"target": 0.5},
        {"feed": "recorded"},
        {"feed": None},
        {"book": ()},
        {"hedge": ()},
        {"hedge": {"instrument": "ETH-PERPETUAL", "costs": {"impact_coefficient": 0.8}}},
        {"hedge": {"instrument": "ETH-PERPETUAL", "costs": {"depth": [{"offset_bps": 0.0, "notional_quote": 5.0}]}}},
        {"seed": -1},
        {"seed": 1.5},
        {"vault": "Has Spaces"},
        {"cash": {"USD": "5"}},
        {"numeraire": None},
        {"unknown": 1},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Vault.model_validate({**vault(), **wrong})
