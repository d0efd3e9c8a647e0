from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from bot.domain.errors import ConfigError
from bot.domain.instruments import Option
from bot.domain.units import NS_PER_S
from bot.engine.option_hedges import tradable_options
from bot.engine.settings import OperatorBounds
from bot.gateways.chain.chain_gateway import contracts_of
from bot.gateways.chain.protocols.registry import open_protocol
from bot.runtime.configuration.chains import chain_settings
from bot.runtime.configuration.config import (
    build_engine_settings,
    build_live_settings,
    check_listing,
    config_json,
    config_sha256,
    load_vaults,
)
from bot.runtime.configuration.vault import Vault
from bot.simulation.recording import Manifest, open_recording
from strategies import WhalleyWilmott
from tests.runtime.vault_files import VAULT, write_tiny_recording

ROOT = Path(__file__).parents[3]
POLICY = "policy: {type: whalley_wilmott, risk_aversion_per_quote: 3.0e-4}"


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_recording(tmp_path_factory.mktemp("recordings") / "tiny")


@pytest.fixture(scope="session")
def manifest(recording: Path) -> Manifest:
    return open_recording(recording).manifest


@pytest.fixture
def text(recording: Path) -> str:
    return VAULT.replace("RECORDING", str(recording))


def vault_file(folder: Path, text: str, name: str = "vault.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def load(folder: Path, text: str) -> Vault:
    (vault,) = load_vaults([vault_file(folder, text)])
    return vault


def problems(folder: Path, text: str, *, allow_live: bool = False) -> list[str]:
    """What is said of a file, without the folder."""
    with pytest.raises(ConfigError) as caught:
        load_vaults([vault_file(folder, text)], allow_live=allow_live)
    return [problem.removeprefix(f"{folder}/") for problem in caught.value.problems]


def change(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} must stand in the file once"
    return text.replace(old, new)


# What is right -------------------------------------------------------------------------------------------------------


RECORDED = sorted(path for path in ROOT.glob("config/*.yaml") if "feed: live" not in path.read_text())
LIVE = sorted(path for path in ROOT.glob("config/*.yaml") if path not in RECORDED)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_every_example_loads_and_makes_settings(path: Path) -> None:
    (vault,) = load_vaults([path])
    assert vault.vault == path.stem
    assert not isinstance(vault.feed, str)
    settings = build_engine_settings(vault, open_recording(vault.feed.recording).manifest)
    assert len(settings.book) == 2
    assert len({leg.instrument.base for leg in settings.book} | settings.hedges.keys()) == 1


@pytest.mark.parametrize("path", LIVE, ids=lambda path: path.name)
def test_every_live_example_loads(path: Path) -> None:
    (vault,) = load_vaults([path], allow_live=True)
    assert vault.vault == path.stem
    assert vault.is_live_feed
    assert [*vault.venues, *vault.chains] == (["mainnet"] if "chain" in path.stem else ["deribit"])


def test_the_example_of_a_chain_makes_settings_that_nobody_can_lose_by() -> None:
    (vault,) = load_vaults([ROOT / "config" / "live-chain.yaml"], allow_live=True)
    [settings] = chain_settings(vault, {}).values()
    assert settings.chain_id == 1
    assert settings.wallet is not None
    assert settings.wallet.address == "0x" + 40 * "1"  # nobody's: what is sent before it is replaced signs nothing
    assert {oracle.kind for oracle in settings.oracles.values()} == {"chainlink", "pyth", "twap"}
    [section] = settings.hedges
    assert open_protocol(section, settings, settings.wallet.address).instrument.instrument_id == "mainnet:WETH-USDC"
    assert len(contracts_of(settings)) == 11
    assert vault.limits.max_order_quote <= 2_000
    assert vault.limits.daily_loss_quote <= 250
    with pytest.raises(ConfigError, match="--live"):
        load_vaults([ROOT / "config" / "live-chain.yaml"])


def test_the_paper_example_fits_the_recording_it_is_rehearsed_on() -> None:
    (vault,) = load_vaults([ROOT / "config" / "paper-deribit.yaml"])
    manifest = open_recording("eth-2023-04").manifest
    check_listing(ROOT / "config" / "paper-deribit.yaml", manifest.instruments, manifest.start_ns, "deribit")
    settings = build_live_settings(vault, manifest.instruments, "0123456789")
    assert settings.run_id == "0123456789"
    assert settings.universe == manifest.instruments
    assert (settings.ages.quote_ns, settings.ages.vol_ns) == (60 * NS_PER_S, 600 * NS_PER_S)


def test_the_examples_have_names_of_their_own() -> None:
    assert len(load_vaults(sorted(ROOT.glob("config/*.yaml")), allow_live=True)) == 10


def test_the_manual_shows_the_demo_vault() -> None:
    manual = (ROOT / "docs" / "configuration.md").read_text()
    first = re.findall(r"^```yaml\n(.*?)^```", manual, re.MULTILINE | re.DOTALL)[0]
    yaml = YAML(typ="safe", pure=True)
    assert yaml.load(first) == yaml.load((ROOT / "config" / "eth-straddle.yaml").read_text())


def test_a_vault_becomes_engine_settings(tmp_path: Path, text: str, manifest: Manifest) -> None:
    more = "target: {delta_base: 2}\nseed: 7\npnl_step_s: 30\n"
    settings = build_engine_settings(load(tmp_path, text + more), manifest)
    assert settings.vault == "eth-straddle"
    assert re.fullmatch(r"[0-9a-f]{10}", settings.run_id)
    assert settings.numeraire == "USD"
    assert settings.policy == WhalleyWilmott(risk_aversion_per_quote=3e-4)
    assert [(leg.instrument.instrument_id, leg.qty_base) for leg in settings.book] == [
        ("ETH-28APR23-1900-C", -100.0),
        ("ETH-28APR23-1900-P", -100.0),
    ]
    assert settings.cash == {"ETH": 0.0, "USD": 500_000.0}
    (hedge,) = settings.hedges["ETH"]
    assert hedge.instrument.instrument_id == "ETH-PERPETUAL"
    assert (hedge.maker_bps, hedge.taker_bps, hedge.max_slippage_bps) == (0.0, 5.0, 25.0)
    assert (hedge.ratio, hedge.target_delta_base) == (1.0, 2.0)
    assert settings.universe == manifest.instruments
    assert settings.limits.max_orders_per_min == 10
    assert settings.limits.hedge_loop_window_ns == 60 * NS_PER_S
    ages = settings.ages
    assert (ages.index_ns, ages.quote_ns, ages.vol_ns) == (600 * NS_PER_S, 601 * NS_PER_S, 602 * NS_PER_S)
    assert settings.gap_ns == 600 * NS_PER_S
    assert settings.pnl_step_ns == 30 * NS_PER_S


def test_the_run_id_is_that_of_name_and_seed(tmp_path: Path, text: str, manifest: Manifest) -> None:
    first, again, other = (
        build_engine_settings(load(tmp_path, f"{text}seed: {seed}\n"), manifest).run_id for seed in (1, 1, 2)
    )
    assert first == again != other


def test_every_underlying_has_its_hedge_and_its_target(tmp_path: Path, text: str, manifest: Manifest) -> None:
    two = change(text, "cash: {ETH", "  - {instrument: BTC-28APR23-1900-C, qty_base: 1}\ncash: {BTC: 1, ETH")
    two = change(
        two,
        "hedge: {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}",
        "hedge:\n"
        "  - {instrument: ETH-28APR23, maker_bps: -1, taker_bps: 5}\n"
        "  - {instrument: BTC-USD, maker_bps: 0, taker_bps: 2.5, max_slippage_bps: 10}\n"
        "target: {ETH: {hedge_ratio: 0.5}}",
    )
    hedges = build_engine_settings(load(tmp_path, two), manifest).hedges
    assert {base: (one.instrument.instrument_id, one.ratio) for base, (one,) in hedges.items()} == {
        "ETH": ("ETH-28APR23", 0.5),
        "BTC": ("BTC-USD", 1.0),
    }
    assert hedges["BTC"][0].max_slippage_bps == 10.0


HEDGE = "hedge: {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}"


def test_how_hedges_are_routed_and_what_each_costs(tmp_path: Path, text: str, manifest: Manifest) -> None:
    several = (
        "hedge:\n"
        "  - {instrument: ETH-28APR23, maker_bps: 0, taker_bps: 5, style: auto, roll_before_s: 600, costs: {\n"
        "     depth: [{offset_bps: 2, notional_quote: 1000}], impact_coefficient: 0.8, daily_volume_base: 9000,\n"
        "     daily_vol_fraction: 0.03, holding_days: 0, funding_rate_per_day: -0.0001, borrow_rate_per_year: 0.05}}\n"
        "  - {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}"
    )
    settings = build_engine_settings(load(tmp_path, change(text, HEDGE, several)), manifest)
    first, second = settings.hedges["ETH"]
    assert settings.routing == "cheapest"
    assert (first.style, first.roll_before_ns, first.depth) == ("auto", 600 * NS_PER_S, ((2e-4, 1000.0),))
    assert (first.impact_coefficient, first.daily_volume_base, first.daily_vol_fraction) == (0.8, 9000.0, 0.03)
    assert (first.holding_days, first.funding_rate_per_day, first.borrow_rate_per_year) == (0.0, -0.0001, 0.05)
    assert (second.roll_before_ns, second.depth, second.holding_days) == (3600 * NS_PER_S, (), None)
    assert second.funding_rate_per_day is None
    by_preference = change(text, HEDGE, HEDGE + "\nrouting: preference")
    assert build_engine_settings(load(tmp_path, by_preference), manifest).routing == "preference"


def test_one_underlying_may_have_several_hedges_in_order_of_preference(
    tmp_path: Path, text: str, manifest: Manifest
) -> None:
    several = (
        "hedge:\n"
        "  - {instrument: ETH-28APR23, maker_bps: 0, taker_bps: 5, style: maker, repeg_ticks: 2, repeg_every_s: 3,\n"
        "     max_rest_s: 20, escalate_urgency: 0.5, escalate_bands: 2}\n"
        "  - {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}\n"
        "venue_limits: {deribit: 100000}"
    )
    settings = build_engine_settings(load(tmp_path, change(text, HEDGE, several)), manifest)
    first, second = settings.hedges["ETH"]
    assert (first.instrument.instrument_id, second.instrument.instrument_id) == ("ETH-28APR23", "ETH-PERPETUAL")
    assert (first.style, first.repeg_ticks, first.repeg_every_ns) == ("maker", 2, 3 * NS_PER_S)
    assert (first.max_rest_ns, first.escalate_urgency, first.escalate_bands) == (20 * NS_PER_S, 0.5, 2.0)
    assert (second.style, second.can_amend) == ("taker", True)
    assert settings.venue_limits == {"deribit": 100_000.0}


def test_what_a_hedge_costs_reaches_the_engine(tmp_path: Path, text: str, manifest: Manifest) -> None:
    costs = "impact_coefficient: 0.8, daily_volume_base: 1.0e+5, holding_days: 2, borrow_rate_per_year: 0.1"
    line = HEDGE[:-1] + ", costs: {" + costs + ", depth: [{offset_bps: 1, notional_quote: 5000}]}}"
    (hedge,) = build_engine_settings(load(tmp_path, change(text, HEDGE, line)), manifest).hedges["ETH"]
    assert (hedge.impact_coefficient, hedge.daily_volume_base, hedge.daily_vol_fraction) == (0.8, 1e5, 0.0)
    assert (hedge.holding_days, hedge.borrow_rate_per_year, hedge.funding_rate_per_day) == (2.0, 0.1, None)
    without = costs.replace("daily_volume_base: 1.0e+5, ", "")
    assert "daily_volume_base" in problems(tmp_path, change(text, HEDGE, line.replace(costs, without)))[0]


def test_no_hedge_is_named_twice_and_limits_are_those_of_their_venues(tmp_path: Path, text: str) -> None:
    twice = (
        "hedge:\n"
        "  - {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}\n"
        "  - {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}\n"
        "venue_limits: {binance: 100000}"
    )
    hint = "hint: name it once, where it is preferred"
    assert problems(tmp_path, change(text, HEDGE, twice)) == [
        f"vault.yaml:11: expected each instrument once, found ETH-PERPETUAL again; {hint}",
        "vault.yaml:12: expected deribit, found binance; hint: the venues of the hedges",
    ]


def test_fees_nobody_knows_are_asked_for(tmp_path: Path, text: str) -> None:
    hint = "hint: the recording knows no fees of ETH-PERPETUAL"
    assert problems(tmp_path, change(text, ", maker_bps: 0, taker_bps: 5", "")) == [
        f"vault.yaml:9: expected the key maker_bps, found none; {hint}",
        f"vault.yaml:9: expected the key taker_bps, found none; {hint}",
    ]


def test_fees_left_out_are_those_of_the_instrument(tmp_path: Path, text: str, manifest: Manifest) -> None:
    known = tuple(msgspec.structs.replace(one, maker_bps=-0.5, taker_bps=4.5) for one in manifest.instruments)
    with_fees = msgspec.structs.replace(manifest, instruments=known)
    vault = load(tmp_path, text)
    bare = vault.model_copy(update={"hedge": (vault.hedge[0].model_copy(update={"maker_bps": None}),)})
    (hedge,) = build_engine_settings(bare, with_fees).hedges["ETH"]
    assert (hedge.maker_bps, hedge.taker_bps) == (-0.5, 5.0)
    with pytest.raises(ConfigError, match="expected maker_bps and taker_bps, found ETH-PERPETUAL without fees"):
        build_engine_settings(bare, manifest)


def test_a_hedge_ratio_of_nothing_is_not_the_default(tmp_path: Path, text: str, manifest: Manifest) -> None:
    settings = build_engine_settings(load(tmp_path, text + "target: {hedge_ratio: 0}\n"), manifest)
    assert settings.hedges["ETH"][0].ratio == 0.0


def test_the_hash_is_of_the_meaning_not_of_the_text(tmp_path: Path, text: str) -> None:
    first = load(tmp_path, text)
    reworded = load(tmp_path, "# a comment\nseed: 1\n" + change(text, "3.0e-4", "0.0003"))
    assert config_sha256(first) == config_sha256(reworded)
    assert config_sha256(first) != config_sha256(load(tmp_path, text + "seed: 2\n"))
    assert Vault.model_validate_json(config_json(first)) == first


OPERATOR = "operator: {ETH: {target_min_base: -5, target_max_base: 5, band_min_base: 0.5, band_max_base: 3}}\n"


def test_what_a_person_may_set_reaches_the_engine(tmp_path: Path, text: str, manifest: Manifest) -> None:
    vault = load(tmp_path, text + OPERATOR)
    bounds = OperatorBounds(target_min_base=-5.0, target_max_base=5.0, band_min_base=0.5, band_max_base=3.0)
    assert build_engine_settings(vault, manifest).operator == {"ETH": bounds}
    assert Vault.model_validate_json(config_json(vault)) == vault
    assert config_sha256(vault) != config_sha256(load(tmp_path, text))


def test_journals_from_before_there_was_that_section_still_fit(tmp_path: Path, text: str) -> None:
    assert "operator" not in json.loads(config_json(load(tmp_path, text)))
    assert config_sha256(load(tmp_path, text)) == config_sha256(load(tmp_path, text + "operator: {}\n"))


def test_settings_of_another_recording_are_refused(tmp_path: Path, text: str) -> None:
    vault = load(tmp_path, text)
    other = open_recording(write_tiny_recording(tmp_path / "other", ("index", "vol_quotes"))).manifest
    with pytest.raises(ConfigError, match="expected quotes, found recording tiny without"):
        build_engine_settings(vault, other)


# What is wrong -------------------------------------------------------------------------------------------------------

WRONG = {
    "unknown key": ("cash:", "colour: red\ncash:", 8, "found colour"),
    "misspelt key": ("numeraire:", "numerair:", 4, "did you mean numeraire?"),
    "misspelt inner key": ("max_order_quote", "max_order_qoute", 11, "did you mean max_order_quote?"),
    "missing key": (", daily_loss_quote: 10000", "", 11, "expected the key daily_loss_quote, found none"),
    "wrong type": ("max_orders_per_min: 10", "max_orders_per_min: ten", 11, "expected a whole number, found 'ten'"),
    "number as text": ("3.0e-4", "'3.0e-4'", 10, "expected a number, found '3.0e-4'"),
    "not a number": ("3.0e-4", ".nan", 10, "expected a finite number, found nan"),
    "not a list": ("{ETH: 0, USD: 500000}", "500000", 8, "expected a mapping of keys to values, found 500000"),
    "empty section": ("{max_order_quote: 50000, max_orders_per_min: 10, daily_loss_quote: 10000}", "", 11, "nothing"),
    "negative band": (POLICY, "policy: {type: delta_band, half_width_base: -5}", 10, "a number above 0.0, found -5"),
    "negative risk aversion": ("3.0e-4", "-3.0e-4", 10, "expected a number above 0.0, found -0.0003"),
    "unknown policy": ("whalley_wilmott", "whaley_wilmot", 10, "did you mean whalley_wilmott?"),
    "policy without type": ("type: whalley_wilmott, ", "", 10, "expected a mapping with the key type"),
    "two risk aversions": (
        "3.0e-4",
        "3.0e-4, risk_aversion: {daily_sd_quote: 5}",
        10,
        "expected risk_aversion_per_quote or risk_aversion, found both; hint: risk_aversion_per_quote: 3.0e-4, or",
    ),
    "half a risk aversion in words": (
        "risk_aversion_per_quote: 3.0e-4",
        "risk_aversion: {pay_quote: 5}",
        10,
        "expected pay_quote and to_remove_sd_quote, or daily_sd_quote alone, found pay_quote; hint: ",
    ),
    "not a yes or no": ("3.0e-4", "3.0e-4, h0_floor: 3", 10, "expected true or false, found 3"),
    "policy as a word": (POLICY, "policy: wide", 10, "expected a mapping with the key type, found 'wide'"),
    "parameter of another policy": (POLICY, "policy: {type: unhedged, interval_s: 5}", 10, "found interval_s"),
    "unknown instrument": ("ETH-PERPETUAL", "ETH-PERPETUAAL", 9, "did you mean ETH-PERPETUAL?"),
    "unknown option": ("1900-C", "1900-X", 6, "expected an instrument of recording tiny, found ETH-28APR23-1900-X"),
    "expired option": ("28APR23-1900-C", "12APR23-1900-C", 6, "found ETH-12APR23-1900-C, expired 2023-04-12 12:00 UTC"),
    "option as hedge": (
        "ETH-PERPETUAL",
        "ETH-28APR23-1900-C",
        9,
        "expected a perpetual, future or spot, found the opt",
    ),
    "hedge of another coin": ("ETH-PERPETUAL", "BTC-PERPETUAL", 9, "expected a hedge of ETH, found one of BTC"),
    "leg of another coin": ("ETH-28APR23-1900-C", "BTC-28APR23-1900-C", 9, "expected a hedge of BTC, found none"),
    "leg held twice": ("ETH-28APR23-1900-P", "ETH-28APR23-1900-C", 7, "expected each instrument once"),
    "empty hedge": (
        "{instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}",
        "[]",
        9,
        "expected a list with an entry",
    ),
    "nothing held": ("1900-C, qty_base: -100", "1900-C, qty_base: 0", 6, "expected a number other than 0, found 0"),
    "unpriced coin": ("cash: {ETH", "cash: {SOL", 8, "expected ETH or USD, found SOL"),
    "numeraire of another coin": ("numeraire: USD", "numeraire: BTC", 4, "expected ETH or USD, found BTC"),
    "hedge ratio too high": ("cash:", "target: {hedge_ratio: 1.6}\ncash:", 8, "a number of at most 1.5, found 1.6"),
    "two targets": ("cash:", "target: {hedge_ratio: 1, delta_base: 1}\ncash:", 8, "expected either delta_base or"),
    "misspelt target": ("cash:", "target: {hedge_ration: 1}\ncash:", 8, "did you mean hedge_ratio?"),
    "target of another coin": ("cash:", "target: {SOL: {delta_base: 1}}\ncash:", 8, "expected ETH, found SOL"),
    "operator of another coin": ("cash:", "operator: {SOL: {}}\ncash:", 8, "expected ETH, found SOL"),
    "half a bound": (
        "cash:",
        "operator: {ETH: {band_max_base: 3}}\ncash:",
        8,
        "expected band_min_base up to band_max_base, or neither",
    ),
    "bounds the wrong way round": (
        "cash:",
        "operator: {ETH: {target_min_base: 1, target_max_base: 0}}\ncash:",
        8,
        "expected target_min_base up to target_max_base",
    ),
    "target as a word": ("cash:", "target: flat\ncash:", 8, "expected {delta_base: X}, {hedge_ratio: X}, or one"),
    "unknown mode": ("mode: paper", "mode: peper", 2, "expected 'paper' or 'live', found 'peper'"),
    "live with a recording": ("mode: paper", "mode: live", 2, "expected mode: paper with a recording, found live"),
    "bad name": ("vault: eth-straddle", "vault: Eth Straddle", 1, "expected lower-case letters, digits and hyphens"),
    "key twice": ("mode: paper", "mode: paper\nmode: paper", 3, "expected each key once, found mode again"),
    "secret": ("cash:", "api_key: hunter2\ncash:", 8, "secrets come from the environment"),
    "tab": ("  - {instrument: ETH-28APR23-1900-C", "\t- {instrument: ETH-28APR23-1900-C", 6, "spaces, not tabs"),
    "broken YAML": ("cash: {ETH: 0", "cash: {ETH: 0]", 8, "expected YAML, found "),
    "alias": ("cash:", "seed: &s 1\npnl_step_s: *s\ncash:", 9, "expected the value itself, found an alias"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_has_one_error_with_its_line(tmp_path: Path, text: str, name: str) -> None:
    old, new, line, words = WRONG[name]
    (problem,) = problems(tmp_path, change(text, old, new))
    assert problem.startswith(f"vault.yaml:{line}: expected ")
    assert words in problem
    assert problem.count(", found ") == 1
    assert problem.count("; hint: ") == 1
    assert "hunter2" not in problem


def test_every_mistake_of_every_file_is_told_at_once(tmp_path: Path, text: str) -> None:
    broken = text
    for old, new in (
        ("mode: paper", "mode: peper"),
        ("ETH-28APR23-1900-P", "ETH-28APR23-1900-X"),
        ("qty_base: -100}\ncash", "qty_base: many}\ncash"),
        ("ETH-PERPETUAL", "ETH-28APR23-1900-C"),
        ("3.0e-4", "-1"),
        ("max_orders_per_min: 10", "max_orders_per_min: 0, token: hunter2"),
    ):
        broken = change(broken, old, new)
    paths = [vault_file(tmp_path, broken, "a.yaml"), vault_file(tmp_path, change(text, "taker_bps", "taker"), "b.yaml")]
    with pytest.raises(ConfigError) as caught:
        load_vaults([*paths, tmp_path / "missing.yaml"])
    places = [":".join(problem.removeprefix(f"{tmp_path}/").split(":")[:2]) for problem in caught.value.problems]
    assert places == [
        *("a.yaml:2", "a.yaml:7", "a.yaml:7", "a.yaml:9", "a.yaml:10", "a.yaml:11", "a.yaml:11"),
        "b.yaml:1",
        "b.yaml:9",
        "missing.yaml:1",
    ]
    assert str(caught.value).splitlines() == caught.value.problems


def test_two_vaults_of_one_name_are_refused(tmp_path: Path, text: str) -> None:
    first, second = vault_file(tmp_path, text, "a.yaml"), vault_file(tmp_path, "# twin\n" + text, "b.yaml")
    with pytest.raises(ConfigError) as caught:
        load_vaults([first, second])
    assert caught.value.problems == [
        f"{second}:2: expected a name of its own per vault, found eth-straddle again; hint: {first} has it too"
    ]


def test_live_needs_two_keys(tmp_path: Path, live_text: str, text: str) -> None:
    live = change(live_text, "mode: paper", "mode: live")
    (one_key,) = problems(tmp_path, live)
    assert one_key.startswith("vault.yaml:2: expected a second key for mode: live, found none")
    assert "--live on the command line" in one_key
    assert load_vaults([vault_file(tmp_path, live)], allow_live=True)[0].mode == "live"
    (with_recording,) = problems(tmp_path, change(text, "mode: paper", "mode: live"), allow_live=True)
    assert "the past cannot be traded" in with_recording


@pytest.fixture
def live_text(text: str) -> str:
    return re.sub(r"feed: .*", "feed: live\nvenues: {deribit: {}, okx: {timeout_s: 2}}", text)


WRONG_LIVE = {
    "no venues": ("venues: {deribit: {}, okx: {timeout_s: 2}}\n", "", 3, "expected venues for a live feed, found none"),
    "misspelt key": ("timeout_s: 2", "timeout: 2", 4, "did you mean timeout_s?"),
    "timeout of nothing": ("timeout_s: 2", "timeout_s: 0", 4, "expected a number above 0.0, found 0"),
    "a key in options": (
        "timeout_s: 2",
        "options: {apiKey: hunter2}",
        4,
        "expected no secret in a file, found the key",
    ),
    "a nested key": ("timeout_s: 2", "options: {a: {b: [{secret: hunter2}]}}", 4, "expected no secret in a file"),
    "a wallet": ("timeout_s: 2", "options: {walletAddress: hunter2}", 4, "expected no secret in a file"),
    "a proxy's password": (
        "timeout_s: 2",
        "options: {httpsProxy: 'http://me:hunter2@127.0.0.1:1'}",
        4,
        "expected no secret in a file, found an address with a password",
    ),
    "bad venue name": ("okx:", "OKX 1:", 4, "expected lower-case letters, digits and hyphens, found OKX 1"),
    "first venue by prefix": ("ETH-PERPETUAL", "deribit:ETH-PERPETUAL", 10, "expected ETH-PERPETUAL, found deribit:"),
    "unknown venue": ("ETH-PERPETUAL", "bybit:ETHUSDT", 10, "expected a venue of deribit or okx, found bybit"),
    "account on paper": ("{ETH: 0, USD: 500000}", "{account: deribit}", 9, "expected mode: live for an account"),
    "unknown clock": ("cash:", "clock: sun\ncash:", 9, "expected 'wall' or 'venue', found 'sun'"),
    "unknown foreign": ("cash:", "foreign: ignore\ncash:", 9, "expected 'adopt' or 'flatten', found 'ignore'"),
    "age of nothing": ("cash:", "max_age: {quote_s: 0}\ncash:", 9, "expected a number above 0.0, found 0"),
}


@pytest.mark.parametrize("name", WRONG_LIVE)
def test_each_mistake_about_a_live_feed_has_one_error_with_its_line(tmp_path: Path, live_text: str, name: str) -> None:
    old, new, line, words = WRONG_LIVE[name]
    (problem,) = problems(tmp_path, change(live_text, old, new))
    assert problem.startswith(f"vault.yaml:{line}: expected ")
    assert words in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("venues: {deribit: {}}", "expected no venues with a recording"),
        ("clock: wall", "expected no clock with a recording"),
        ("max_age: {quote_s: 1}", "expected no max_age with a recording"),
        ("foreign: adopt", "expected no foreign with a recording"),
        ("underlyings: [ETH]", "expected no underlyings with a recording"),
    ],
)
def test_what_is_for_live_feeds_is_refused_for_a_recording(tmp_path: Path, text: str, more: str, words: str) -> None:
    (problem,) = problems(tmp_path, f"{text}{more}\n")
    assert words in problem


def test_a_venue_s_clock_is_for_rehearsals(tmp_path: Path, live_text: str) -> None:
    live = change(live_text, "mode: paper", "mode: live") + "clock: venue\n"
    (problem,) = problems(tmp_path, live, allow_live=True)
    assert "expected clock: wall with mode: live, found venue" in problem
    assert load(tmp_path, live_text + "clock: venue\n").clock == "venue"


def test_the_book_may_be_an_account_a_file_and_lines(tmp_path: Path, live_text: str, manifest: Manifest) -> None:
    text = change(live_text, "mode: paper", "mode: live")
    text = change(
        text, "cash: {ETH: 0, USD: 500000}", "  - {account: deribit}\n  - {file: otc.csv}\ncash: {account: okx}"
    )
    path = vault_file(tmp_path, text)
    (vault,) = load_vaults([path], allow_live=True)
    assert [line.instrument for line in vault.holdings] == ["ETH-28APR23-1900-C", "ETH-28APR23-1900-P"]
    assert vault.book_files == ("otc.csv",)
    assert vault.fixed_cash == {}
    check_listing(path, manifest.instruments, manifest.start_ns, "deribit")
    assert Vault.model_validate_json(config_json(vault)) == vault
    settings = build_live_settings(vault, manifest.instruments, "0123456789")
    assert settings.account_venues == {"deribit", "okx"}
    assert (settings.account_book, settings.account_cash) == ({"deribit"}, {"okx"})
    assert settings.foreign_policy == "adopt"
    assert settings.cash == {}


def test_a_paper_run_has_no_account_to_agree_with(tmp_path: Path, live_text: str, manifest: Manifest) -> None:
    settings = build_live_settings(load(tmp_path, live_text), manifest.instruments, "0123456789")
    assert settings.account_venues == settings.account_book == settings.account_cash == frozenset()


def test_a_listing_names_every_line_that_does_not_fit(tmp_path: Path, live_text: str, manifest: Manifest) -> None:
    text = change(live_text, "ETH-28APR23-1900-P", "ETH-12APR23-1900-C")
    path = vault_file(tmp_path, change(text, "ETH-PERPETUAL", "okx:ETH-USDT-SWAP"))
    with pytest.raises(ConfigError) as caught:
        check_listing(path, manifest.instruments, manifest.start_ns, "deribit or okx")
    first, second = (problem.removeprefix(f"{path}:") for problem in caught.value.problems)
    assert first.startswith("8: expected an instrument alive now, found ETH-12APR23-1900-C, expired 2023-04-12 12:00")
    assert second.startswith("10: expected an instrument of deribit or okx as listed now, found okx:ETH-USDT-SWAP")


@pytest.mark.parametrize("name", ["no-such-recording", "a" * 200, "'a\\0b'", "/"])
def test_a_missing_recording_is_told_at_its_line(tmp_path: Path, name: str) -> None:
    (problem,) = problems(tmp_path, VAULT.replace("RECORDING", name))
    assert problem.startswith("vault.yaml:3: ")
    assert "expected " in problem


@pytest.mark.parametrize("damage", ["truncated", "foreign", "no manifest", "changed"])
def test_a_damaged_recording_is_told_at_its_line(tmp_path: Path, damage: str) -> None:
    recording = write_tiny_recording(tmp_path / "damaged")
    table, other = recording / "index.parquet", recording / "quotes.parquet"
    match damage:
        case "truncated":
            table.write_bytes(table.read_bytes()[:-20])
        case "foreign":
            table.write_bytes(other.read_bytes())
        case "no manifest":
            (recording / "manifest.json").unlink()
        case _:
            content = bytearray(table.read_bytes())
            content[6] ^= 1
            table.write_bytes(content)
    (problem,) = problems(tmp_path, VAULT.replace("RECORDING", str(recording)))
    assert problem.startswith("vault.yaml:3: ")
    assert "expected " in problem
    assert "hint: " in problem


def test_a_recording_without_a_needed_stream_is_refused(tmp_path: Path) -> None:
    recording = write_tiny_recording(tmp_path / "poor", ("index", "vol_quotes"))
    (problem,) = problems(tmp_path, VAULT.replace("RECORDING", str(recording)))
    assert problem.startswith("vault.yaml:3: expected a stream quotes, found none")


def test_an_option_never_hedges(tmp_path: Path, text: str, manifest: Manifest) -> None:
    vault = load(tmp_path, text)
    option = next(one for one in manifest.instruments if isinstance(one, Option))
    line = vault.hedge[0].model_copy(update={"instrument": option.instrument_id})
    with pytest.raises(ConfigError, match="expected a perpetual, future or spot"):
        build_engine_settings(vault.model_copy(update={"hedge": (line,)}), manifest)


def test_nothing_is_written(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load(tmp_path, text)
    problems(tmp_path, "vault: [")
    assert [path.name for path in tmp_path.iterdir()] == ["vault.yaml"]


# Whatever it is ------------------------------------------------------------------------------------------------------

SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["live", "paper", "unhedged", "delta_band", "USD", "ETH", "ETH-PERPETUAL", "type", "tiny", ""]),
    st.text(max_size=8),
)
KEY = st.sampled_from(
    [
        *Vault.model_fields,
        "instrument",
        "qty_base",
        "recording",
        "type",
        "hedge_ratio",
        "ETH",
        "api_key",
        "half_width_base",
    ]
)
TREE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY | st.text(max_size=3), inner, max_size=4)
)
FRAGMENT = st.text("{}[]:,-&*!|>'\"#%@ \n\tabe0.5", max_size=12)


def complaints(path: Path) -> list[str]:
    """What is said of a file; anything but a ConfigError comes through."""
    try:
        load_vaults([path], allow_live=True)
    except ConfigError as error:
        return error.problems or ["nothing was said"]
    return []


def check_any(path: Path) -> None:
    assert [said for said in complaints(path) if not re.match(rf"{re.escape(str(path))}:\d+: ", said)] == []


@given(values=st.dictionaries(KEY, TREE, max_size=8))
def test_any_values_give_a_vault_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, recording: Path, values: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    base = YAML(typ="safe", pure=True).load(VAULT.replace("RECORDING", str(recording)))
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump({**base, **values}, file)
    check_any(path)


@given(place=st.integers(0, len(VAULT)), cut=st.integers(0, 20), fragment=FRAGMENT)
def test_any_edit_gives_a_vault_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, recording: Path, place: int, cut: int, fragment: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "edited.yaml"
    path.write_text((VAULT[:place] + fragment + VAULT[place + cut :]).replace("RECORDING", str(recording)))
    check_any(path)


OPTIONS = "option_hedges: {underlying: ETH, max_position_base: 50, max_premium_quote: 20000}"


def test_option_hedges_are_told_to_the_engine(tmp_path: Path, text: str, manifest: Manifest) -> None:
    vault = load(tmp_path, text)
    line = {"underlying": "ETH", "max_position_base": 50.0, "max_premium_quote": 2e4, "min_days": 2.0, "review_s": 60.0}
    vault = Vault.model_validate({**vault.model_dump(), "option_hedges": line})
    settings = build_engine_settings(vault, manifest)
    rules = settings.option_hedges["ETH"]
    assert (rules.venue, rules.max_position_base, rules.max_premium_quote) == ("deribit", 50.0, 2e4)
    assert (rules.max_order_quote, rules.min_ns, rules.review_ns) == (50_000.0, 2 * 86_400 * NS_PER_S, 60 * NS_PER_S)
    tradable = [option.instrument_id for option, _ in tradable_options(settings)]
    assert tradable == ["ETH-28APR23-1900-C", "ETH-28APR23-1900-P", "ETH-12APR23-1900-C"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (OPTIONS, "expected a policy that trades options, found whalley_wilmott"),
        (OPTIONS.replace("ETH", "SOL"), "expected ETH, found SOL; hint: name a hedge of it too"),
        (OPTIONS.replace("}", ", venue: okx}"), "expected options of ETH at okx, found none"),
        (OPTIONS.replace("}", ", min_days: 100}"), "expected min_days up to max_days"),
        (OPTIONS.replace("}", ", max_day: 9}"), "did you mean max_days?"),
        (OPTIONS.replace("underlying: ETH, ", ""), "expected the key underlying, found none"),
        (
            "option_hedges: [{A}, {A}]".replace("{A}", OPTIONS.split(": ", 1)[1]),
            "each underlying once, found ETH again",
        ),
    ],
)
def test_wrong_option_hedges_are_named(tmp_path: Path, text: str, line: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text + line + "\n")
    assert any(problem in one for one in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("venues", "problem"),
    [
        ("{deribit: {}, okx: {}}", "expected deribit, found okx; hint: options are traded as hedges at Deribit only"),
        ("{deribit: {}}", "expected deribit, found okx; hint: name one of venues"),
    ],
)
def test_live_option_hedges_are_for_deribit_only(tmp_path: Path, text: str, venues: str, problem: str) -> None:
    live = re.sub("feed: .*", f"feed: live\nvenues: {venues}", text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, live + OPTIONS.replace("}", ", venue: okx}") + "\n")
    assert any(problem in one for one in caught.value.problems), caught.value.problems
