"""The doctor: every part of a vault examined, whatever is wrong with the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ccxt.pro
import msgspec
import pytest
from ccxt.static_dependencies.keccak import SHA3
from ccxt.static_dependencies.keccak.keccak import SHA3 as PURE_PYTHON_SHA3

from bot.domain.errors import ConfigError
from bot.runtime.cli.doctor import Finding, examine, examine_listing, exchanges
from bot.runtime.configuration.config import config_json, config_sha256, load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.journal import SCHEMA_VERSION, Header, Journal
from tests.gateways.test_probe import clock_server
from tests.runtime.simulated_gateway import LIVE_VAULT, SimulatedExchange
from tests.runtime.vault_files import vault
from tests.venues.hyperliquid import HyperliquidServer, hyperliquid_book


def capabilities(exchange: ccxt.pro.Exchange) -> list[tuple[str, str, str]]:
    return [("quotes", "stream", ""), ("dead man's switch", "none", f"{exchange.id} has none")]


def live_vault(**changes: Any) -> Vault:
    return Vault.model_validate({**vault(), "feed": "live", "venues": {"deribit": {}}, **changes})


async def examined(one: Vault, folder: Path, environ: dict[str, str] | None = None) -> dict[str, Finding]:
    found = await examine(one, folder / "v.sqlite", environ or {}, lister=capabilities)
    assert {finding.vault for finding in found} == {"eth-straddle"}
    assert not [finding for finding in found if "hunter2" in finding.detail]
    return {finding.subject: finding for finding in found}


def options(settings: Any) -> dict[str, Any]:
    return {"deribit": {"options": settings.options, "timeout_s": 60.0}}


async def test_a_recorded_vault_needs_nothing_but_its_files(tmp_path: Path) -> None:
    found = await examined(Vault.model_validate(vault()), tmp_path)
    assert list(found) == ["configuration", "journal"]
    assert all(finding.is_ok for finding in found.values())
    assert found["journal"].detail.startswith("none yet at ")


async def test_a_paper_vault_is_examined_without_keys(tmp_path: Path) -> None:
    async with clock_server(0) as settings:
        found = await examined(live_vault(venues=options(settings)), tmp_path, {"EVENKEEL_DERIBIT_SECRET": "hunter2"})
    assert list(found) == [
        "configuration",
        "journal",
        "deribit credentials",
        "deribit reachable",
        "deribit clock",
        "deribit quotes",
        "deribit dead man's switch",
    ]
    assert not [finding for finding in found.values() if finding.is_ok is False]
    assert found["deribit quotes"].is_ok is None, "told, not judged"
    assert found["deribit credentials"].detail == "none needed for paper, and none loaded"
    assert found["deribit dead man's switch"].detail == "none (deribit has none)"


async def test_a_skewed_clock_is_a_venue_s_problem(tmp_path: Path) -> None:
    async with clock_server(5_000) as settings:
        found = await examined(live_vault(venues=options(settings)), tmp_path)
    assert not found["deribit clock"].is_ok
    assert found["deribit clock"].is_of_venue
    assert "limit 500 ms; hint: synchronise" in found["deribit clock"].detail


async def test_missing_keys_and_a_venue_away_are_both_told(tmp_path: Path) -> None:
    async with clock_server(0) as settings:
        pass
    found = await examined(live_vault(mode="live", venues=options(settings)), tmp_path)
    problems = [subject for subject, finding in found.items() if finding.is_ok is False]
    assert problems == ["deribit credentials", "deribit reachable"]
    assert found["deribit credentials"].detail.startswith("deribit: expected credentials in the environment")


async def test_a_key_file_that_others_may_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text('secret = "hunter2"')
    path.chmod(0o644)
    async with clock_server(0) as settings:
        venues = {"deribit": {**options(settings)["deribit"], "credentials": str(path)}}
        found = await examined(live_vault(mode="live", venues=venues), tmp_path)
    assert "found mode 0644; hint: chmod 600" in found["deribit credentials"].detail
    assert found["deribit reachable"].is_ok


async def test_a_wallet_s_key_signs_fast_or_the_hint_says_why_not(tmp_path: Path) -> None:
    async with HyperliquidServer(hyperliquid_book()) as server:
        environ = {f"EVENKEEL_HYPERLIQUID_{name.upper()}": value for name, value in server.credentials.items()}
        venues = {"hyperliquid": {"options": server.options}}
        found = await examined(live_vault(mode="live", venues=venues), tmp_path, environ)
    assert found["hyperliquid signing"].is_ok
    is_fast = SHA3 is not PURE_PYTHON_SHA3
    assert ("OpenSSL 3.2 or newer" in found["hyperliquid signing"].detail) is not is_fast
    assert found["hyperliquid signing"].detail.startswith("fast, " if is_fast else "slow, ")


async def test_a_damaged_journal_is_no_venue_s_problem(tmp_path: Path) -> None:
    path, one = tmp_path / "v.sqlite", Vault.model_validate(vault())
    with Journal.open(path, for_writing=True) as journal:
        journal.append(Header("r", one.vault, config_json(one), config_sha256(one), None, None, 1, SCHEMA_VERSION, "0"))
    assert (await examined(one, tmp_path))["journal"].detail == "1 rows hold"
    changed = (await examined(one.model_copy(update={"pnl_step_s": 30}), tmp_path))["journal"]
    assert not changed.is_ok
    assert "`evenkeel reload` takes the changed file into it" in changed.detail
    path.write_bytes(b"nonsense")
    found = (await examined(one, tmp_path))["journal"]
    assert (found.is_ok, found.is_of_venue) == (False, False)


async def listing_examined(folder: Path, recording: Path, text: str = LIVE_VAULT) -> Finding:
    path = folder / "busy.yaml"
    path.write_text(text)
    (one,) = load_vaults([path], allow_live=True)
    exchange = SimulatedExchange(recording)
    (found,) = await examine_listing(one, path, folder / "v.sqlite", {}, gateway_opener=exchange.open)
    assert exchange.credentials.are_empty, "a look needs no keys"
    return found


async def test_what_the_venues_list_is_held_against_the_vault(tmp_path: Path, short_recording: Path) -> None:
    good = await listing_examined(tmp_path, short_recording)
    assert good.is_ok, good
    assert good.detail.endswith(" listed, all of the vault's among them")
    bad = await listing_examined(tmp_path, short_recording, LIVE_VAULT.replace("1900-P", "1901-P"))
    assert (bad.is_ok, bad.is_of_venue) == (False, False)
    assert "found ETH-28APR23-1901-P" in bad.detail


async def test_and_against_the_journal(tmp_path: Path, short_recording: Path) -> None:
    listed = SimulatedExchange(short_recording).listed
    gone = msgspec.structs.replace(listed["ETH-28APR23-1900-P"], contract_size=2.0)
    instruments = tuple({**listed, gone.instrument_id: gone}.values())
    with Journal.open(tmp_path / "v.sqlite", for_writing=True) as journal:
        journal.append(Header("r", "v", "{}", "0", None, None, 1, SCHEMA_VERSION, "0", instruments))
    found = await listing_examined(tmp_path, short_recording)
    assert not found.is_ok
    assert found.detail.startswith("ETH-28APR23-1900-P: expected the contract of the journal, contract_size 2.0")


async def test_an_unknown_exchange_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hint: `evenkeel doctor --venues` lists them"):
        await examined(live_vault(venues={"derribit": {}}), tmp_path)


def test_the_exchanges_are_those_that_can_be_streamed() -> None:
    assert {"deribit", "binanceusdm", "hyperliquid", "okx", "bybit", "derive"} <= set(exchanges())
