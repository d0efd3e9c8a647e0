"""`evenkeel vault` against a node with the real contracts: what is shown, what is sent, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from eth_account import Account
from typer.testing import CliRunner

from bot.domain.errors import ConfigError, VenueFatal
from bot.runtime.cli import vault as vault_cli
from bot.runtime.cli.app import app
from tests.chains.artifacts import ROOT
from tests.chains.contracts import Contract
from tests.chains.world import World
from tests.contracts import vaults
from tests.contracts.vaults import DAY_S, USDC, WETH, artifact, deploy_vault

PASSWORD = "correct horse"
OWNER, GUARDIAN, THIEF = 3, 4, 7
LIMITS_TEXT = {name: value / USDC if name.endswith("_quote") else value for name, value in vaults.USUAL.items()}


@pytest.fixture
def node(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world, as the chain `local` of the environment."""
    monkeypatch.setenv("EVENKEEL_LOCAL_RPC", world.anvil.http_url)
    monkeypatch.setenv("EVENKEEL_LOCAL_PASSWORD", PASSWORD)
    return world


def run(*words: str) -> Any:
    """Run a command that must work."""
    result = CliRunner().invoke(app, ["vault", *words])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(*words: str) -> BaseException:
    """Run a command that must not work, and return why."""
    result = CliRunner().invoke(app, ["vault", *words])
    assert result.exception is not None, result.output
    assert "Traceback" not in result.output
    return result.exception


def keystore(world: World, tmp_path: Path, number: int) -> str:
    """Return a keystore file of one of the node's accounts; it is as quick to open as can be."""
    path = tmp_path / f"key-{number}.json"
    path.write_text(json.dumps(Account.encrypt(world.anvil.accounts[number].key, PASSWORD, "pbkdf2", 2)))
    path.chmod(0o600)
    return str(path)


def plan(world: World, tmp_path: Path, **changes: Any) -> str:
    """Return a plan file of the usual vault."""
    content = {
        "chain_id": 31337, "name": "Evenkeel Guarded Vault", "symbol": "ekUSDC",
        "asset": world.tokens["USDC"].address, "base": world.tokens["WETH"].address,
        "oracle": world.feeds["ETH/USD"].address, "pool": world.pools["WETH/USDC-500"].address,
        "router": world.uniswap.router.address, "router_kind": "swap_router",
        "owner": world.anvil.accounts[OWNER].address, "guardian": world.anvil.accounts[GUARDIAN].address,
        "hedger": world.hedger, "limits": LIMITS_TEXT,
    } | changes  # fmt: skip
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(content))  # which is YAML too
    return str(path)


def test_numbers_are_those_of_the_contract() -> None:
    assert vault_cli.LIMITS == vaults.LIMITS
    assert vault_cli.KINDS == {
        vaults.VENUE: "venue", vaults.POOL: "pool", vaults.HEDGER: "hedger", vaults.GUARDIAN: "guardian",
    }  # fmt: skip
    assert vault_cli.ROUTER_KINDS == {"swap_router": vaults.TIMED, "swap_router_02": vaults.PLAIN}
    assert vault_cli.artifact() == artifact()


# Deploy


def test_deploying_is_a_dry_run_that_shows_everything(node: World, tmp_path: Path) -> None:
    owner = node.anvil.accounts[OWNER].address
    before = node.anvil.block_number, node.anvil.nonce(owner)
    text = run("deploy", "local", plan(node, tmp_path), "--from", owner).output
    assert (node.anvil.block_number, node.anvil.nonce(owner)) == before
    assert "UNAUDITED" in text
    assert "dry run: nothing was sent" in text
    for word in (owner, node.hedger, node.tokens["WETH"].address, node.uniswap.router.address, "31337",
                 artifact()["source_sha256"], "a contract is created"):  # fmt: skip
        assert word in text
    for name, value in vaults.USUAL.items():
        assert re.search(rf"^  {name} +{value}$", text, re.MULTILINE), name
    assert "doubt" not in text


def test_what_is_sent_is_what_was_shown(node: World, tmp_path: Path) -> None:
    key = keystore(node, tmp_path, OWNER)
    planned = plan(node, tmp_path)
    shown = run("deploy", "local", planned, "--keystore", key).output
    sent = run("deploy", "local", planned, "--keystore", key, "--send").output
    assert shown.replace("dry run: nothing was sent; --send sends it\n", "") == sent.partition("sending")[0]
    (address,) = re.findall(r"^vault +(0x\w+)$", sent, re.MULTILINE)
    vault = Contract(node.anvil, address, artifact()["abi"])
    assert [vault.call("limits", n) for n in range(12)] == list(vaults.USUAL.values())
    assert vault.call("owner") == node.anvil.accounts[OWNER].address
    assert vault.call("allowed", vaults.HEDGER, node.hedger) == 1
    (gas,) = re.findall(r"^gas +([\d,]+) estimated, limit ([\d,]+)$", sent, re.MULTILINE)
    (used,) = re.findall(r"^mined .* ([\d,]+) gas", sent, re.MULTILINE)
    estimated, limit, burnt = (int(text.replace(",", "")) for text in (*gas, used))
    assert burnt <= estimated < limit
    assert PASSWORD not in sent
    assert node.anvil.accounts[OWNER].key[2:] not in sent


def test_a_plan_that_does_not_fit_is_refused(node: World, tmp_path: Path) -> None:
    me = ("--from", node.trader)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"chain_id": 1}, "a node of chain 1 as the plan says, found one of 31337"),
        ({"oracle": node.trader}, "oracle: expected a contract"),
        ({"limits": {**LIMITS_TEXT, "slippage_bps": 501}}, "change: over its ceiling"),
        ({"pool": node.pools["WETH/USDT-500"].address}, "change: not a pool of the pair"),
        ({"colour": "blue"}, "unknown field `colour`"),
        ({"hedger": "0x12"}, "hedger"),
        ({"limits": {**LIMITS_TEXT, "trade_quote": -1}}, "trade_quote"),
        ({"limits": dict.fromkeys(list(LIMITS_TEXT)[:-1], 1)}, "tail_bps"),
    ]
    for changes, text in cases:
        error = refused("deploy", "local", plan(node, tmp_path, **changes), *me)
        assert isinstance(error, ConfigError | VenueFatal)
        assert text in str(error)
    assert "nothing.yaml" in str(refused("deploy", "local", str(tmp_path / "nothing.yaml"), *me))


def test_what_makes_a_vault_weak_or_useless_is_said(node: World, tmp_path: Path) -> None:
    me = ("--from", node.trader)
    text = run("deploy", "local", plan(node, tmp_path, limits={**LIMITS_TEXT, "twap_s": 0}), *me).output
    assert "doubt: twap_s 0" in text
    text = run("deploy", "local", plan(node, tmp_path, owner=node.hedger), *me).output
    assert "should be three keys" in text
    node.uniswap.create_pool(node.tokens["WETH"], node.tokens["USDC"], 10_000, 3000.0)
    young = node.uniswap.factory.call("getPool", node.tokens["WETH"].address, node.tokens["USDC"].address, 10_000)
    text = run("deploy", "local", plan(node, tmp_path, pool=young), *me).output
    assert "doubt: the pool does not remember 300 s" in text


# Limits


def test_limits_show_what_the_chain_has(node: World) -> None:
    vault = deploy_vault(node)
    vault.deposit(vault.alice, 200_000 * USDC)
    vault.hedge(is_buy=True, base_wei=10 * WETH)
    vault.set_limit("trade_quote", 75_000 * USDC)
    found = json.loads(run("limits", "local", vault.address, "--json").output)
    assert found["limits"] == LIMITS_TEXT
    assert found["hour"] == {"used_quote": 30_000.0, "left_quote": 90_000.0}
    assert found["worst_hour"] == pytest.approx({"right_oracle": 1_200.0, "wrong_oracle": 3_600.0})
    assert found["scheduled"].keys() == {"trade_quote"}
    assert found["scheduled"]["trade_quote"]["to"] == 75_000.0
    assert (found["is_paused"], found["base_held"], found["owner"]) == (False, 10.0, vault.owner)
    assert found["total_assets"] == vault.call("totalAssets") / USDC
    assert found["price"]["oracle"] == 3000.0
    assert found["allowed"] == {
        "venue": [node.uniswap.router.address], "pool": [vault.pool.address], "hedger": [vault.hedger],
        "guardian": [vault.guardian],
    }  # fmt: skip
    text = run("limits", "local", vault.address).output
    for words in ("UNAUDITED", "state      running", "30,000.00 of 120,000.00 used (25%), 90,000.00 left",
                  "can lose 1,200.00 an hour while the oracle is right", "can become 75,000.0 from",
                  vault.hedger):  # fmt: skip
        assert words in text


def test_limits_of_a_vault_in_trouble(node: World) -> None:
    vault = deploy_vault(node)
    vault.deposit(vault.alice, 200_000 * USDC)
    vault.hedge(is_buy=True, base_wei=10 * WETH)
    vault.contract.transact("pause", sender=vault.guardian)
    vault.contract.transact("offer_ownership", vault.bob, sender=vault.owner)
    vault.contract.transact("change", vaults.HEDGER, vault.hedger, 0, sender=vault.owner)
    node.anvil.warp(2 * DAY_S)
    text = run("limits", "local", vault.address).output
    for words in ("state      PAUSED", "assets     unknown", "price      none", f"offered to {vault.bob}",
                  "0.00 of 120,000.00 used"):  # fmt: skip
        assert words in text
    assert re.search(r"^  hedger +none$", text, re.MULTILINE)


def test_limits_of_what_is_no_vault(node: World) -> None:
    assert "to answer asset()" in str(refused("limits", "local", node.trader))


# Pause


def test_pausing_is_a_dry_run_that_shows_everything(node: World, tmp_path: Path) -> None:
    vault = deploy_vault(node)
    text = run("pause", "local", vault.address, "--from", vault.guardian).output
    assert vault.call("paused") is False
    for words in (f"to         {vault.address}", "calls      pause()", "0x8456cb59", "dry run: nothing was sent"):
        assert words in text
    key = keystore(node, tmp_path, GUARDIAN)
    sent = run("pause", "local", vault.address, "--keystore", key, "--send").output
    assert vault.call("paused") is True
    assert "mined" in sent
    assert "expected the vault" in str(refused("pause", "local", vault.address, "--keystore", key, "--send"))


def test_only_the_owner_lets_it_go_on(node: World, tmp_path: Path) -> None:
    vault = deploy_vault(node)
    vault.contract.transact("pause", sender=vault.guardian)
    guardian, owner = (keystore(node, tmp_path, number) for number in (GUARDIAN, OWNER))
    words = ("pause", "local", vault.address, "--unpause", "--send", "--keystore")
    assert "owner: not the owner" in str(refused(*words, guardian))
    run(*words, owner)
    assert vault.call("paused") is False


def test_a_stranger_is_told_before_anything_is_sent(node: World, tmp_path: Path) -> None:
    vault = deploy_vault(node)
    before = node.anvil.block_number
    key = keystore(node, tmp_path, THIEF)
    error = refused("pause", "local", vault.address, "--keystore", key, "--send")
    assert "pause: not a guardian" in str(error)
    assert node.anvil.block_number == before


def test_without_password_key_or_money_nothing_is_sent(
    node: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = deploy_vault(node)
    key = keystore(node, tmp_path, GUARDIAN)
    words = ("pause", "local", vault.address)
    assert "expected --keystore FILE with --send" in str(refused(*words, "--send", "--from", vault.guardian))
    assert "expected --keystore FILE or --from ADDRESS" in str(refused(*words))
    assert "expected --from to be the keystore's" in str(refused(*words, "--keystore", key, "--from", vault.owner))
    assert "expected a V3 keystore" in str(refused(*words, "--keystore", str(tmp_path / "none.json")))
    assert "hint: --max-fee-gwei" in str(refused(*words, "--keystore", key, "--max-fee-gwei", "0.000000001"))
    monkeypatch.setenv("EVENKEEL_LOCAL_PASSWORD", "wrong")
    error = refused(*words, "--keystore", key, "--send")
    assert isinstance(error, VenueFatal)
    assert "opens with the password" in str(error)
    monkeypatch.delenv("EVENKEEL_LOCAL_PASSWORD")
    assert "EVENKEEL_LOCAL_PASSWORD" in str(refused(*words, "--keystore", key, "--send"))
    monkeypatch.setenv("EVENKEEL_LOCAL_PASSWORD", PASSWORD)
    node.anvil.set_balance(vault.guardian, 1000)
    assert "found too little" in str(refused(*words, "--keystore", key, "--send"))
    assert vault.call("paused") is False


def test_a_chain_needs_a_node(node: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "EVENKEEL_OTHER_CHAIN_RPC" in str(refused("limits", "other-chain", node.trader))
    monkeypatch.setenv("EVENKEEL_LOCAL_RPC", "http://127.0.0.1:1/secret-key-of-mine")
    error = refused("limits", "local", node.trader)
    assert "secret-key-of-mine" not in str(error)


def test_the_plan_of_the_document_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "guarded-vault.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "plan.yaml"
    path.write_text(shown)
    assert vault_cli.read_plan(path).chain_id == 1


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    assert isinstance(vault_cli.vault_app, typer.Typer)
    source = (ROOT / "bot" / "runtime" / "cli" / "vault.py").read_text(encoding="utf-8")
    top = re.findall(r"^(?:from|import) (\S+)", source, re.MULTILINE)
    assert not [name for name in top if name.split(".")[0] in {"web3", "eth_abi", "eth_account", "eth_utils"}]


# Executors of shorts on Aave


def test_an_executor_is_shown_and_then_deployed_as_shown(
    full_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVENKEEL_LOCAL_RPC", full_world.anvil.http_url)
    monkeypatch.setenv("EVENKEEL_LOCAL_PASSWORD", PASSWORD)
    pool, router = full_world.part("aave").pool.address, full_world.uniswap.router02.address
    words = ("deploy-executor", "local", "--pool", pool, "--router", router)
    text = run(*words, "--from", full_world.trader).output
    head = full_world.anvil.block_number
    assert "UNAUDITED" in text
    assert f"pool             {pool}" in text
    assert "dry run: nothing was sent" in text
    text = run(*words, "--keystore", keystore(full_world, tmp_path, 1), "--send").output
    assert full_world.anvil.block_number == head + 1
    address = re.findall(r"^executor   (0x[0-9a-fA-F]{40})$", text, re.MULTILINE)[0]
    abi = vault_cli.artifact(vault_cli.EXECUTOR)["abi"]
    executor = Contract(full_world.anvil, address, abi, full_world.trader)
    assert (executor.call("POOL"), executor.call("ROUTER")) == (pool, router)
    nobody = refused("deploy-executor", "local", "--pool", full_world.trader, "--router", router, "--from", pool)
    assert "--pool: expected the address of a contract" in str(nobody)
