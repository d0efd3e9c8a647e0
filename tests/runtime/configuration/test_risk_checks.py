"""The risk section of a vault file: every name must mean something, and what is built is what was written."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.domain.risk import MarginState
from bot.engine.margin.risk_settings import BufferSettings, CollateralRules, RiskSettings
from bot.risk.breakers import BreakerRule
from bot.risk.buffer import BufferRule
from bot.risk.margin_states import StateRule
from bot.risk.parameters import decode_parameters
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.margin_parameters import carried_sets
from bot.runtime.configuration.risk_checks import build_risk, find_parameters, stress_scenarios
from bot.runtime.configuration.risk_sections import (
    AccountRiskSection,
    CollateralSection,
    InsuranceSection,
    MarginStatesSection,
    RiskSection,
)
from tests.runtime.vault_files import VAULT, write_tiny_recording

RISK = """\
risk:
  accounts:
    deribit: {model: house, collateral: {USD: 60000, ETH: 2}, haircuts: {ETH: 0.1}}
  transfers:
    day_caps: {USDC: 1000}
    addresses:
      home: {address: "0xaa", network: ARBONE}
    routes:
      - {asset: USDC, from_venue: okx, to_venue: deribit, route: ARB, address_label: home, max_amount: 500, p95_s: 60}
  asset_classes:
    classes: {large: {band_multiple: 2}}
    assets: {ETH: {fallback_vol: 1.2}}
    members: {ETH: large}
  insurance: {full_quote: 5000, draws: {critical: 0.4}}
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_recording(tmp_path_factory.mktemp("risk") / "tiny")


def load(folder: Path, recording: Path, text: str) -> RiskSettings:
    path = folder / "vault.yaml"
    path.write_text(VAULT.replace("RECORDING", str(recording)) + text)
    (vault,) = load_vaults([path])
    built = build_risk(vault)
    assert built is not None
    return built


def test_what_is_built_is_what_was_written(tmp_path: Path, recording: Path) -> None:
    built = load(tmp_path, recording, RISK)
    one = built.accounts["deribit"]
    assert (one.model, one.collateral, one.haircut_share) == ("house", {"USD": 60000.0, "ETH": 2.0}, {"ETH": 0.1})
    assert one.parameters == max(carried_sets("house"), key=lambda found: found.as_of)
    (route,) = built.transfers.routes
    assert (route.name, route.p95_ns, route.max_amount, route.address_label) == ("ARB", 60 * 10**9, 500.0, "home")
    assert built.transfers.day_caps == {"USDC": 1000.0}
    assert built.counterparties is not None
    assert built.states == StateRule()
    assert built.insurance == BufferRule(full_quote=5000.0, draws={MarginState.CRITICAL: 0.4})
    assert built.band_multiple("ETH") == 2.0  # of its class in the vault
    assert built.classes is not None
    assert built.classes.of("ETH").origins["fallback_vol"] == "asset ETH of the vault"
    assert built.forecaster("NOBODYS").forecast(1, 0.02).mean_vol == pytest.approx(3.0, rel=0.1)  # type: ignore[union-attr]


def test_an_address_belongs_to_one_account(tmp_path: Path, recording: Path) -> None:
    """What is sent to the address of another account is credited there, and arrives here never."""
    lines = RISK.replace("    deribit: {model", "    okx: {model: house, collateral: {USD: 1}}\n    deribit: {model")
    route = next(line for line in lines.splitlines() if "route: ARB" in line)
    other = route.replace("from_venue: okx, to_venue: deribit", "from_venue: deribit, to_venue: okx")
    with pytest.raises(ConfigError, match=r"vault.yaml:\d+: expected an address of okx, found .*deribit"):
        load(tmp_path, recording, lines.replace(route, f"{route}\n{other}"))


def test_one_account_is_posted_what_the_vault_has(tmp_path: Path, recording: Path) -> None:
    built = load(tmp_path, recording, "risk: {accounts: {deribit: {model: deribit}}}\n")
    assert built.accounts["deribit"].collateral == {"ETH": 0.0, "USD": 500000.0}


def test_without_a_section_there_is_nothing_to_build(tmp_path: Path, recording: Path) -> None:
    path = tmp_path / "vault.yaml"
    path.write_text(VAULT.replace("RECORDING", str(recording)))
    (vault,) = load_vaults([path])
    assert build_risk(vault) is None


FAULTS = {
    "unknown model": ("model: house", "model: haus", 14, "found haus"),
    "venue of nothing": ("    deribit: {", "    binance: {", 14, "expected deribit, found binance"),
    "negative amount": ("USD: 60000", "USD: -1", 14, "a number of at least 0"),
    "haircut above 1": ("haircuts: {ETH: 0.1}", "haircuts: {ETH: 1.5}", 14, "a number of at most 1"),
    "missing set": ("model: house,", "model: house, parameters: nobodys,", 14, "found nobodys"),
    "unreadable file": (
        "model: house,",
        "model: house, parameters: no.json,",
        14,
        "expected a readable parameter file",
    ),
    "top-up of a stranger": ("to_venue: deribit", "to_venue: bybit", 20, "expected deribit, found bybit"),
    "no cap": ("day_caps: {USDC: 1000}", "day_caps: {USDT: 1000}", 20, "a cap of USDC under day_caps"),
    "no such address": ("address_label: home", "address_label: office", 20, "expected home, found office"),
    "less than its fee": ("max_amount: 500", "fee: 600, max_amount: 500", 20, "expected more than 600, found 500"),
    "less than its least": ("max_amount: 500", "min_amount: 501, max_amount: 500", 20, "expected more than 501"),
    "a way to itself": ("from_venue: okx", "from_venue: deribit", 20, "expected another account"),
    "class of nobody": ("members: {ETH: large}", "members: {ETH: mega}", 24, "found 'mega' for asset ETH"),
    "override of nobody's class": ("classes: {large:", "classes: {lage:", 22, "found 'lage' for an override"),
    "parameter that is none": ("band_multiple: 2", "band_multiples: 2", 22, "found band_multiples"),
    "value that cannot be": ("fallback_vol: 1.2", "fallback_vol: 0", 23, "expected fallback_vol above 0, found 0"),
    "an asset twice": ("members: {ETH: large}", "members: {ETH: large, eth: large}", 24, "found eth again"),
    "insurance of nothing": ("full_quote: 5000", "full_quote: 0", 25, "a number above 0"),
    "drawn in good times": ("draws: {critical", "draws: {normal", 25, "normal"),
    "a key that is none": ("model: house,", "modell: house,", 14, "expected one of the keys"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_means_nothing_is_named_with_its_line(tmp_path: Path, recording: Path, name: str) -> None:
    old, new, line, says = FAULTS[name]
    assert RISK.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, recording, RISK.replace(old, new))
    problem = caught.value.problems[0]
    assert problem.startswith(f"{tmp_path / 'vault.yaml'}:{line}: ")
    assert says in problem
    assert "; hint: " in problem


def test_two_accounts_on_paper_need_their_collateral(tmp_path: Path, recording: Path) -> None:
    text = "risk:\n  accounts:\n    deribit: {model: house}\n    okx: {model: okx}\n"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, recording, text)
    assert any("the key collateral" in problem for problem in caught.value.problems)


def test_a_file_may_hold_the_parameters(tmp_path: Path) -> None:
    found = max(carried_sets("house"), key=lambda one: one.as_of)
    path = tmp_path / "own.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, name="own")))
    assert find_parameters(AccountRiskSection(model="house", parameters=str(path))).name == "own"
    with pytest.raises(ValueError, match="expected parameters of model okx, found own of house"):
        find_parameters(AccountRiskSection(model="okx", parameters=str(path)))
    path.write_text(json.dumps({**json.loads(path.read_text()), "values": {}}))
    with pytest.raises(ValueError, match="expected parameters of margin model house"):
        find_parameters(AccountRiskSection(model="house", parameters=str(path)))
    assert decode_parameters(path.read_bytes()).values == {}


PLANS = """\
  collateral:
    plan_s: 60
    hold_days: 73
    yields: {USDC: 0.045}
    wallets: {okx: {USDC: 1000}}
    scenarios: [2025-10-10]
    caps: {ARB: 5000}
"""


def test_plans_are_built_as_they_were_written(tmp_path: Path, recording: Path) -> None:
    assert load(tmp_path, recording, RISK).collateral is None
    built = load(tmp_path, recording, RISK + PLANS).collateral
    assert built is not None
    assert (built.plan_ns, built.hold_years, built.yields) == (60 * 10**9, 0.2, {"USDC": 0.045})
    assert (built.wallets, built.caps, built.venue_share) == ({"okx": {"USDC": 1000.0}}, {"ARB": 5000.0}, None)
    (scenario,) = built.scenarios
    assert scenario.name == "2025-10-10"
    assert scenario in stress_scenarios()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[2025-10-10]", "[2025-10-11]", "found 2025-10-11"),
        ("wallets: {okx:", "wallets: {nowhere:", "expected okx, found nowhere"),
        ("caps: {ARB:", "caps: {MOON:", "found MOON"),
        ("plan_s: 60", "plan_s: 60\n    moves: []\n    scenarios: []", "moves or scenarios"),
    ],
)
def test_what_means_nothing_in_plans_is_refused(tmp_path: Path, recording: Path, old: str, new: str, says: str) -> None:
    text = (RISK + PLANS).replace(old, new)
    if "moves" in new:
        text = text.replace("    scenarios: [2025-10-10]\n", "")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, recording, text)
    assert any(says in problem and "vault.yaml:" in problem for problem in caught.value.problems), caught.value.problems


def test_plans_without_a_way_to_move_anything_are_refused(tmp_path: Path, recording: Path) -> None:
    text = RISK[: RISK.index("  transfers:")] + "  collateral: {plan_s: 60}\n"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, recording, text)
    assert any("routes under transfers" in problem for problem in caught.value.problems)


def test_defaults_of_plans_are_those_of_the_engine() -> None:
    engine = {field.name: field.default for field in msgspec.structs.fields(CollateralRules)}
    ours = {key: field.default for key, field in CollateralSection.model_fields.items()}
    same = ("time_limit_s", "buffer_ratio", "needed_by_s", "least_quote", "moves", "vol_up_fraction", "venue_share")
    for key in same:
        assert ours[key] == engine[key], key
    assert ours["plan_s"] * 1e9 == engine["plan_ns"]
    assert ours["hold_days"] / 365.0 == engine["hold_years"]


def test_defaults_are_those_of_the_engine() -> None:
    engine = {field.name: field.default for field in msgspec.structs.fields(RiskSettings)}
    ours = {key: field.default for key, field in RiskSection.model_fields.items()}
    for key in ("max_initial_ratio", "local_margin_share", "review_move_fraction", "target_ratio", "slice_share"):
        assert ours[key] == engine[key], key
    for key in ("review", "report_max_age"):
        assert round(ours[f"{key}_s"] * 1e9) == engine[f"{key}_ns"]
    states = MarginStatesSection().model_dump()
    step_up_s = states.pop("step_up_s")
    assert StateRule(**states, step_up_ns=round(step_up_s * 1e9)) == StateRule()
    insurance = InsuranceSection(full_quote=1.0)
    rule = BufferRule(full_quote=1.0)
    assert (insurance.share_of_gains, insurance.draws) == (rule.share_of_gains, rule.draws)


def test_forecast_buffers_and_breakers_are_built_as_written(tmp_path: Path, recording: Path) -> None:
    plain = load(tmp_path, recording, RISK)
    assert plain.forecast.artefact is not None
    assert (plain.buffers, plain.breakers) == (BufferSettings(), BreakerRule())
    assert plain.forecast.conditions is None
    more = (
        "  forecast: none\n"
        "  buffers: {base_ratio: 1.5, trigger_share: 0.9, usual_vols: {ETH: 0.6}}\n"
        "  breakers: false\n"
    )
    built = load(tmp_path, recording, RISK + more)
    assert (built.forecast.artefact, built.forecast.reason) == (None, "the vault asks for none")
    assert built.buffers == BufferSettings(base_ratio=1.5, trigger_share=0.9)
    assert built.forecast.usual_vol == {"ETH": 0.6}
    assert built.breakers is None
    assert built.classes is not None
    assert built.classes.of("ETH").origins["fallback_vol"] == "asset ETH of the vault"
    assert load(tmp_path, recording, RISK + "  buffers: {enabled: false}\n").buffers is None


def test_an_artefact_that_is_not_there_is_no_error_and_says_why(tmp_path: Path, recording: Path) -> None:
    built = load(tmp_path, recording, f"{RISK}  forecast: {tmp_path}/gone.json\n")
    assert built.forecast.artefact is None
    assert "cannot read gone.json" in built.forecast.reason


def test_conditions_read_what_the_vault_reads(tmp_path: Path, recording: Path) -> None:
    series = "  series: [{kind: deribit_volatility, of: BTC}, {kind: fred, of: VIXCLS}]\n"
    built = load(tmp_path, recording, RISK + series)
    assert built.forecast.conditions is not None
    assert {rule.series for rule in built.forecast.conditions.rules} == {"DVOL-BTC", "VIXCLS"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("  series: [{kind: fred}]\n", "expected of, the id of the series or the currency"),
        ("  series: [{kind: stablecoins}, {kind: stablecoins}]\n", "expected each series once"),
        ("  series: [{kind: funding, of: BTC, venue: okx, symbol: X}]\n", "expected a symbol and a venue"),
        ("  series: [{kind: stablecoins}]\n  conditions: gone\n", "expected a parameter set of model conditions"),
        ("  series: [{kind: fred, of: X}]\n  conditions: conditions-2026-11-26\n", "expected a series that"),
    ],
)
def test_what_means_nothing_is_told_at_its_line(tmp_path: Path, recording: Path, more: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, recording, RISK + more)
    (problem,) = caught.value.problems
    assert words in problem
    assert "vault.yaml:" in problem


PARTIES = """\
risk:
  accounts: {deribit: {model: house, collateral: {USD: 60000}, standing_share: 0.9}}
  counterparties:
    equity_share: 0.5
    parties: {circle: {kind: issuer, assets: [USDC], group: dollars}, deribit: {loss_given_default: 0.9}}
    drain: {retry_s: 5, hedge_share: 0.25}
"""


def test_counterparties_are_limited_as_written(tmp_path: Path, recording: Path) -> None:
    built = load(tmp_path, recording, PARTIES)
    rules, parameters = built.counterparty_rules, built.counterparties
    assert rules.is_limiting
    assert not rules.is_watched  # a recording shows no signs
    assert rules.issuers == {"USDC": "circle"}
    assert [(one.name, one.group) for one in rules.parties] == [("circle", "dollars"), ("deribit", "")]
    assert rules.parties[1].loss_given_default == 0.9
    assert (rules.drain.retry_ns, rules.drain.hedge_share) == (5 * 10**9, 0.25)
    assert parameters is not None
    assert parameters.equity_share == 0.5
    assert parameters.score_share[-1] == (90.0, 0.5)  # what scores allow goes with it: 25 % of 25 %
    plain = load(tmp_path, recording, "risk: {accounts: {deribit: {model: deribit}}}\n")
    assert not plain.counterparty_rules.is_limiting
    for change, words in (
        ("assets: [USDC]", "expected the assets it owes, found none"),
        ("deribit: {loss", "expected deribit, found okx"),
    ):
        broken = PARTIES.replace(change, {"assets: [USDC]": "assets: []"}.get(change, "okx: {loss"))
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, recording, broken)
        assert words in caught.value.problems[0]
