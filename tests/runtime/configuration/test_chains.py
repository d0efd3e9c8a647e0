"""Tests of the way from a vault's chains to a gateway's settings."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from bot.domain.errors import ConfigError, VenueFatal
from bot.domain.units import NS_PER_S
from bot.gateways.chain.settings import GWEI, PoolSettings, WalletSettings
from bot.runtime.configuration.chains import chain_settings, load_signer
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import Vault
from bot.telemetry.logs import without_secrets
from tests.runtime.chain_files import POOL, ROUTER, WALLET, chain_vault


def load(tmp_path: Path, text: str) -> Vault:
    path = tmp_path / "vault.yaml"
    path.write_text(text)
    (vault,) = load_vaults([path])
    return vault


def test_a_chain_becomes_settings(tmp_path: Path) -> None:
    vault = load(tmp_path, chain_vault())
    settings = chain_settings(vault, {})["local"]
    assert (settings.chain_id, settings.coin, settings.http_urls) == (31337, "ETH", ("http://127.0.0.1:8545",))
    assert settings.tokens["WETH"].underlying == "ETH"
    assert settings.tokens["USDC"].underlying == ""
    assert settings.tokens["wstETH"].charge_fraction == 0.005
    assert settings.oracles["link"].max_age_ns == 3660 * NS_PER_S
    (hedge,) = settings.hedges
    assert hedge.route == (PoolSettings(address=POOL, base="WETH", quote="USDC", fee_pips=500),)
    assert hedge.contracts == {"router": ROUTER}
    assert settings.fees.max_fee_wei == 50 * GWEI
    assert settings.block_ns == 2 * NS_PER_S
    assert settings.wallet is not None
    assert settings.wallet.address == WALLET
    assert settings.holders[0].tokens == ("WETH", "USDC")


def test_nodes_of_the_environment_come_before_those_of_the_file(tmp_path: Path) -> None:
    vault = load(tmp_path, chain_vault())
    environ = {
        "EVENKEEL_LOCAL_RPC": "https://a.example/v2/key, http://b.example",
        "EVENKEEL_LOCAL_WS": "ws://c.example",
        "EVENKEEL_LOCAL_RELAY": "http://d.example",
    }
    settings = chain_settings(vault, environ)["local"]
    assert settings.http_urls == ("https://a.example/v2/key", "http://b.example")
    assert (settings.ws_url, settings.relay_url) == ("ws://c.example", "http://d.example")


def test_a_chain_without_a_node_says_which_variable_to_set(tmp_path: Path) -> None:
    vault = load(tmp_path, chain_vault().replace("    rpc: [http://127.0.0.1:8545]\n", ""))
    with pytest.raises(ConfigError, match="EVENKEEL_LOCAL_RPC"):
        chain_settings(vault, {})


async def test_the_password_of_a_keystore_is_masked_wherever_it_came_from(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("password-of-tchn\n")
    wallet = WalletSettings(address=WALLET, keystore=str(tmp_path / "none.json"))
    settings = replace(chain_settings(load(tmp_path, chain_vault()), {})["local"], wallet=wallet)
    async with AsyncExitStack() as stack:
        with pytest.raises(VenueFatal):
            await load_signer(settings, {"EVENKEEL_LOCAL_PASSWORD_FILE": str(password)}, stack)
    assert without_secrets("it is password-of-tchn") == "it is ***"
