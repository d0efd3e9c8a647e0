"""`evenkeel risk transfers` on a live daemon: what is under way, and a person's word on it, kept by the journal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from bot.domain.decisions import BotState
from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.engine.engine import Engine
from bot.runtime.cli.app import app
from bot.runtime.configuration.config import load_vaults
from bot.runtime.journal import Journal
from bot.runtime.live.session import look_at
from bot.runtime.recovery import rebuild
from tests.acceptance.live_vaults import LiveVault, live_vault
from tests.runtime.command_line import CommandLine
from tests.runtime.vault_files import VAULT, write_tiny_recording

# any margin in use is topped up, by an instruction to a person
RISK = """
risk:
  accounts: {deribit: {model: deribit}}
  states: {watch_ratio: 1.0e-9, act_ratio: 2.0e-9, critical_ratio: 0.98, emergency_ratio: 0.99, hysteresis_ratio: 0,
           act_probability: 0.5, critical_probability: 0.9, critical_until_ratio: 0.9, step_up_s: 0}
  target_ratio: 1.0e-9
  transfers:
    day_caps: {USDC: 1000}
    addresses: {deribit: {address: "0xaa", network: ARBONE}}
    routes:
      - {asset: USDC, from_venue: cold, to_venue: deribit, route: ARB, address_label: deribit, max_amount: 500}
"""


async def ask(evenkeel: CommandLine, one: LiveVault, *words: object, code: int = 0) -> Any:
    """Ask in a process of its own: a command takes its whole process's logs with it, a daemon's too."""
    told = ("risk", "transfers", str(one.path), *map(str, words), "--json")
    result = await asyncio.to_thread(evenkeel.run, *told, cwd=one.folder)
    assert result.code == code, result
    return result.json["transfers"] if code == 0 else result.err


def state_of(engine: Engine, transfer_id: str) -> TransferState:
    assert engine.top_ups is not None
    return engine.top_ups.book[transfer_id].state


async def test_a_person_says_what_became_of_an_instruction_and_the_journal_keeps_it(evenkeel: CommandLine) -> None:
    async with live_vault(changes={"state_dir:": f"{RISK}state_dir:"}) as one:
        (one.folder / "rehearsal.sock").symlink_to("s")
        async with one.running() as session:
            engine = session.engine
            await one.soon(lambda: engine.top_ups is not None and engine.top_ups.outstanding, "a top-up")
            (line,) = await ask(evenkeel, one)
            name = line["transfer_id"]
            assert (line["state"], line["amount"], line["waits_for_confirmation"]) == ("planned", 500.0, False)
            assert "waits for no confirmation" in await ask(evenkeel, one, "confirm", name, 500, code=1)
            engine.state, before = BotState.HALTED, engine.state
            assert "found halted" in await ask(evenkeel, one, "confirm", name, 500, code=1)
            engine.state = before
            assert "is not under way here" in await ask(evenkeel, one, "sent", "x-T9", code=1)
            assert "found 501" in await ask(evenkeel, one, "arrived", name, 501, code=1)
            await ask(evenkeel, one, "sent", name)
            assert state_of(engine, name) is TransferState.SENT
            await ask(evenkeel, one, "arrived", name, 499, "--fee", 1)
            assert state_of(engine, name) is TransferState.ARRIVED
            assert engine.top_ups is not None
            assert engine.top_ups.book[name].credited == 499.0
        told = [event for event in one.events(TransferUpdate) if event.transfer_id == name]
        assert [event.state for event in told][-2:] == [TransferState.SENT, TransferState.ARRIVED]
        assert all(event.reason.startswith("by hand: ") for event in told[-2:])
        with Journal.open(one.journal_path, for_writing=False) as journal:  # what was said then is known anew
            (vault,) = load_vaults([one.path], allow_live=True)
            rebuilt = look_at(vault, journal.header)
            rebuild(rebuilt, journal, is_world_wanted=False)
        assert state_of(rebuilt.engine, name) is TransferState.ARRIVED
        assert [c.transfer_id for c in one.commands() if isinstance(c, TransferCollateral)].count(name) == 1


def test_without_a_daemon_there_is_nobody_to_ask(tmp_path: Path) -> None:
    path = tmp_path / "vault.yaml"
    path.write_text(
        VAULT.replace("RECORDING", str(write_tiny_recording(tmp_path / "tiny"))) + f"state_dir: {tmp_path}\n"
    )
    result = CliRunner().invoke(app, ["risk", "transfers", str(path)])
    assert result.exit_code == 3
    assert "is not running, and only its daemon knows what is under way" in result.output
    assert CliRunner().invoke(app, ["risk", "transfers", str(path), "confirm", "x-T1"]).exit_code == 2
    assert CliRunner().invoke(app, ["risk", "transfers", str(path), "lose", "x-T1"]).exit_code == 2
