"""`evenkeel tx` on logs that a real desk wrote: exact figures, and a hand on them while nobody else has the key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from typer.testing import CliRunner

from bot.domain.errors import ConfigError, JournalError, VenueFatal
from bot.gateways.chain.nouns import Amounts, TransactionState
from bot.runtime.cli.transactions import CANCEL, act, find, line_of, lines_of, logs_of, steps_of, tx_app
from bot.runtime.configuration.config import load_vaults
from tests.gateways.chain.desks import Stage, staged
from tests.runtime.chain_files import WALLET, chain_vault

S = TransactionState
PASSWORD = "correct horse"


def write_vault(stage: Stage, folder: Path) -> Path:
    """Write a vault whose chain and key are those of the stage, logs where the stage writes them."""
    keystore = folder / "hedger.json"
    keystore.write_text(json.dumps(Account.encrypt(stage.account.key, PASSWORD, kdf="scrypt", iterations=2)))
    keystore.chmod(0o600)
    text = chain_vault().replace(f'wallet: {{address: "{WALLET}"', f'wallet: {{address: "{stage.account.address}"')
    text = text.replace("keystore: hedger.json", f"keystore: {keystore}").replace(
        "http://127.0.0.1:8545", stage.proxy.http_url
    )
    path = folder / "vault.yaml"
    path.write_text(f"{text}state_dir: {stage.settings.state_dir}\n")
    return path


async def run(*words: object) -> Any:
    """Run a command as typed, what it raises is raised; the whole program would take the logs of a desk beside it."""
    result = await asyncio.to_thread(CliRunner().invoke, tx_app, [*map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_list_and_show_tell_everything_to_the_wei(tmp_path: Path) -> None:
    async with staged(tmp_path / "state") as stage:
        path = write_vault(stage, tmp_path)
        assert json.loads(await run("list", path, "--json")) == []
        async with stage.running() as desk:
            await desk.send(stage.request("o1", 7))
            await stage.step()
            desk.note_amounts("o1", Amounts(-(10**24), 3 * 10**12))
            stage.proxy.hold_next()
            await desk.send(stage.request("o2", 8))
            [second, first] = json.loads(await run("list", path, "--json"))  # while the owner runs
        receipt = stage.desk.lives[0].receipt
        assert receipt is not None
        assert (first["chain"], first["key"], first["state"], first["nonce"]) == ("local", "o1", "mined", 0)
        assert (first["spent_wei"], first["value_wei"]) == (str(receipt.gas_wei), "7")
        assert (first["moved_base_wei"], first["moved_quote_wei"]) == (str(-(10**24)), str(3 * 10**12))
        assert (first["tx_hash"], first["block_number"]) == (receipt.tx_hash, 1)
        assert (second["key"], second["state"], second["max_fee_gwei"], second["tip_gwei"]) == ("o2", "sent", 10, 1)
        shown = json.loads(await run("show", path, receipt.tx_hash, "--json"))
        assert shown["transaction"]["key"] == "o1"
        assert [step["state"] for step in shown["steps"]] == ["reserved", "signed", "sent", "mined", "mined"]
        assert shown["steps"][3]["spent_wei"] == str(receipt.gas_wei)
        for words in (("list", path), ("show", path, "o1")):
            text = await run(*words)
            assert "o1" in text
            assert str(receipt.gas_wei) in text


async def test_what_is_over_is_listed_if_asked_for(tmp_path: Path) -> None:
    async with staged(tmp_path / "state") as stage:
        path = write_vault(stage, tmp_path)
        async with stage.running() as desk:
            await desk.send(stage.request("o1", 7))
            await stage.step(14)
        assert json.loads(await run("list", path, "--json")) == []
        assert "no transaction is under way" in await run("list", path)
        [line] = json.loads(await run("list", path, "--all", "--json"))
        assert (line["state"], line["outcome"]) == ("final", "mined")


async def test_canceled_and_sped_up_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENKEEL_LOCAL_PASSWORD", PASSWORD)
    async with staged(tmp_path / "state") as stage:
        path = write_vault(stage, tmp_path)
        stage.proxy.hold_next(2)
        async with stage.running() as desk:
            await desk.send(stage.request("o1", 7))
            await desk.send(stage.request("o2", 8))
            with pytest.raises(JournalError, match="only one that signs"):  # the daemon has the key
                await run("cancel", path, "o1")
        canceled = json.loads(await run("cancel", path, "o1", "--json"))
        assert (canceled["state"], canceled["versions"], canceled["reason"]) == ("sent", 2, "canceled on request")
        assert "replaced at 11 gwei" in await run("speed-up", path, stage_hash(tmp_path, stage, "o2"))
        stage.mine()
        async with stage.running():
            assert [stage.last(key).state for key in ("o1", "o2")] == [S.CANCELED, S.MINED]
            assert stage.gained_wei == 8
        with pytest.raises(VenueFatal, match="canceled"):
            await run("cancel", path, "o1")
        monkeypatch.delenv("EVENKEEL_LOCAL_PASSWORD")
        with pytest.raises(VenueFatal, match="EVENKEEL_LOCAL_PASSWORD"):
            await run("cancel", path, "o2")


def stage_hash(folder: Path, stage: Stage, key: str) -> str:
    (vault,) = load_vaults([folder / "vault.yaml"], allow_live=True)
    logs = logs_of(vault)
    assert logs == {"local": stage.path}
    chain, life, rows = find(logs, key)
    assert line_of(chain, life, 0).tx_hash == life.attempts[-1].tx_hash
    assert len(steps_of(rows)) == len(rows) > 0
    assert [line.key for line in lines_of(chain, stage.path, 0, is_all=False)] == ["o2", "o1"]
    return life.attempts[-1].tx_hash


async def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    async with staged(tmp_path / "state") as stage:
        path = write_vault(stage, tmp_path)
        with pytest.raises(JournalError, match="none in the logs of local"):
            await run("show", path, "o9")
        with pytest.raises(ConfigError, match="expected a chain other with a wallet, found local"):
            await run("list", path, "--chain", "other")
        with pytest.raises(VenueFatal, match="expected a wallet"):
            await act(stage.settings, {}, "o9", CANCEL)
