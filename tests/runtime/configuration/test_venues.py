"""From vault files to gateways: settings, keys and options, and nothing of them where it does not belong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bot.domain.errors import ConfigError, VenueFatal
from bot.domain.units import NS_PER_S
from bot.gateways.exchange import Credentials
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.venues import (
    prefix_of,
    refuse_shared_accounts,
    vault_credentials,
    vault_underlyings,
    venue_settings,
)
from tests.runtime.vault_files import vault

OPTIONS = "EVENKEEL_DERIBIT_OPTIONS"


def live_vault(**changes: Any) -> Vault:
    venues = {"deribit": {"options": {"hostname": "a", "urls": {"api": {"rest": "r"}}}}, "okx-2": {"exchange": "okx"}}
    return Vault.model_validate({**vault(), "feed": "live", "venues": venues, **changes})


def test_settings_are_the_section_s() -> None:
    section = {"timeout_s": 2.5, "requests_per_s": 3.0, "burst_requests": 7, "absence_s": 4.0, "dead_man_s": 60.0}
    (one,) = venue_settings(live_vault(venues={"deribit": section}), {}).values()
    assert (one.venue, one.exchange_id, one.underlyings) == ("deribit", "deribit", frozenset({"ETH"}))
    assert (one.timeout_ns, one.requests_per_s, one.burst_requests) == (2_500_000_000, 3.0, 7)
    assert (one.absence_ns, one.dead_man_ns, one.account_poll_ns) == (4 * NS_PER_S, 60 * NS_PER_S, 30 * NS_PER_S)


def test_a_venue_may_have_a_name_of_its_own() -> None:
    named = live_vault()
    settings = venue_settings(named, {})
    assert list(settings) == ["deribit", "okx-2"]
    assert settings["okx-2"].exchange_id == "okx"
    assert (prefix_of(named, "deribit"), prefix_of(named, "okx-2")) == ("", "okx-2:")


def test_the_environment_s_options_are_laid_over_the_file_s() -> None:
    environ = {OPTIONS: json.dumps({"urls": {"api": {"ws": "w"}}, "hostname": "b"})}
    options = venue_settings(live_vault(), environ)["deribit"].options
    assert options == {"hostname": "b", "urls": {"api": {"rest": "r", "ws": "w"}}}
    assert venue_settings(live_vault(), {})["deribit"].options["hostname"] == "a"


def test_lists_of_a_file_reach_ccxt_as_lists() -> None:
    venues = {"deribit": {"options": {"fetchMarkets": ("swap", {"deep": ("x",)})}}}
    (one,) = venue_settings(live_vault(venues=venues), {}).values()
    assert one.options == {"fetchMarkets": ["swap", {"deep": ["x"]}]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "expected a JSON object, found something else"),
        ("[1]", "expected a JSON object, found something else"),
        ('{"a": {"apiKey": "hunter2"}}', "expected no secret, found one"),
        ('{"a": ["https://me:hunter2@127.0.0.1"]}', "expected no secret, found one"),
    ],
)
def test_options_that_will_not_do_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        venue_settings(live_vault(), {OPTIONS: text})
    assert "hunter2" not in str(caught.value)


def test_live_orders_go_only_where_the_file_says() -> None:
    with pytest.raises(ConfigError, match=f"{OPTIONS}: expected nothing with mode: live"):
        venue_settings(live_vault(mode="live"), {OPTIONS: "{}"})


def test_a_paper_run_loads_no_keys_even_if_there_are_some() -> None:
    environ = {"EVENKEEL_DERIBIT_API_KEY": "k"}
    assert vault_credentials(live_vault(), environ) == {"deribit": Credentials(), "okx-2": Credentials()}
    with pytest.raises(VenueFatal, match="okx-2: expected credentials"):
        vault_credentials(live_vault(mode="live"), environ)
    both = {**environ, "EVENKEEL_OKX_2_API_KEY": "k2"}
    assert vault_credentials(live_vault(mode="live"), both)["okx-2"] == Credentials(api_key="k2")


@pytest.mark.parametrize(
    ("name", "coin"),
    [
        ("ETH-PERPETUAL", "ETH"),
        ("BTC_USDC-PERPETUAL", "BTC"),
        ("ETHUSDT", "ETH"),
        ("ETHUSD_PERP", "ETH"),
        ("SOL-USDT-SWAP", "SOL"),
        ("1000PEPEUSDT", "1000PEPE"),
        ("HYPE", "HYPE"),
    ],
)
def test_names_say_the_coin(name: str, coin: str) -> None:
    book = ({"file": "otc.csv"}, {"instrument": "okx-2:BTC-USD", "qty_base": 1.0})
    hedge = {"instrument": name, "maker_bps": 0, "taker_bps": 5}
    assert vault_underlyings(live_vault(book=book, hedge=hedge)) == {coin}


def test_where_names_do_not_say_the_coin_the_file_must() -> None:
    book, hedge = ({"file": "otc.csv"},), {"instrument": "4", "maker_bps": 0, "taker_bps": 5}
    with pytest.raises(ConfigError, match=r"say underlyings: \[ETH\]"):
        vault_underlyings(live_vault(book=book, hedge=hedge))
    assert vault_underlyings(live_vault(book=book, hedge=hedge, underlyings=("ETH", "BTC"))) == {"ETH", "BTC"}


def test_two_live_vaults_of_one_coin_need_two_accounts() -> None:
    one, twin = live_vault(mode="live"), live_vault(mode="live", vault="twin")
    with pytest.raises(ConfigError, match="expected ETH on accounts of their own, found both on the environment's der"):
        refuse_shared_accounts([one, twin])
    refuse_shared_accounts([one, live_vault(vault="twin")])
    refuse_shared_accounts([one, live_vault(mode="live", vault="twin", underlyings=("BTC",))])
    elsewhere = {"deribit": {"credentials": "second.toml"}}
    refuse_shared_accounts([one, live_vault(mode="live", vault="twin", venues=elsewhere)])
