"""Transfers of a live vault: an instruction for a person unless the vault says they are made, and keys of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.errors import VenueFatal
from bot.domain.events import Event, QueryTransfer
from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.runtime.configuration.vault import Vault
from bot.runtime.live.clock import WallClock
from bot.runtime.live.transfers import open_transfers, transfer_settings
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.vault_files import vault

TRANSFERS = {
    "day_caps": {"USDC": 1000.0},
    "addresses": {"home": {"address": "0xaa", "network": "ARBONE"}},
    "routes": (
        {
            "asset": "USDC",
            "from_venue": "deribit",
            "to_venue": "okx",
            "route": "ARB",
            "address_label": "home",
            "max_amount": 500.0,
        },
    ),
}
COMMAND = TransferCollateral("0123456789-T1", "USDC", 100.0, "deribit", "okx", "ARB", "margin at okx")


def live(tmp_path: Path, **transfers: Any) -> Vault:
    accounts = {"deribit": {"model": "deribit"}, "okx": {"model": "okx"}}
    return Vault.model_validate(
        {
            **vault(),
            "mode": "live",
            "feed": "live",
            "venues": {"deribit": {}, "okx": {}},
            "state_dir": str(tmp_path),
            "risk": {"accounts": accounts, "transfers": {**TRANSFERS, **transfers}},
        }
    )


async def carry_out(one: Vault, *commands: TransferCollateral | QueryTransfer) -> list[Event]:
    """Open the desk of a vault, hand it commands, and return what it says until a moment after its first word."""
    told: list[Event] = []

    def listen(events: Sequence[Event]) -> None:
        told.extend(events)

    async with AsyncExitStack() as stack:
        desk = await open_transfers(one, {}, WallClock(), stack)
        assert desk is not None
        for command in commands:
            desk.submit(command, 1)  # before anybody listens
        running = asyncio.create_task(desk.run(listen))
        async with asyncio.timeout(PATIENCE_S):
            while not told and not running.done():  # noqa: ASYNC110 — the desk has no event for this
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return told


def test_a_transfer_becomes_an_instruction(tmp_path: Path) -> None:
    told = asyncio.run(carry_out(live(tmp_path), COMMAND))
    assert [(type(one), one.state) for one in told if isinstance(one, TransferUpdate)] == [
        (TransferUpdate, TransferState.PLANNED)
    ]
    (line,) = (tmp_path / "transfers.jsonl").read_text().splitlines()
    written = json.loads(line)
    assert (written["transfer_id"], written["address"], written["amount"]) == (COMMAND.transfer_id, "0xaa", 100.0)


def test_a_question_never_becomes_one(tmp_path: Path) -> None:
    later = msgspec.structs.replace(COMMAND, transfer_id="0123456789-T2")
    asyncio.run(carry_out(live(tmp_path), QueryTransfer(COMMAND, "restarted"), later))
    (line,) = (tmp_path / "transfers.jsonl").read_text().splitlines()
    assert json.loads(line)["transfer_id"] == later.transfer_id


def test_what_is_not_listed_fails_and_says_so(tmp_path: Path) -> None:
    other = TransferCollateral("0123456789-T2", "USDC", 100.0, "deribit", "elsewhere", "ARB", "")
    (told,) = asyncio.run(carry_out(live(tmp_path), other))
    assert isinstance(told, TransferUpdate)
    assert told.state is TransferState.FAILED
    assert "not whitelisted" in told.reason


def test_transfers_that_are_made_need_keys_of_their_own(tmp_path: Path) -> None:
    trading = {"EVENKEEL_DERIBIT_API_KEY": "k", "EVENKEEL_DERIBIT_SECRET": "s"}

    async def opened() -> None:
        async with AsyncExitStack() as stack:
            await open_transfers(live(tmp_path, execute=True), trading, WallClock(), stack)

    with pytest.raises(VenueFatal, match="EVENKEEL_DERIBIT_TRANSFERS_API_KEY"):
        asyncio.run(opened())


def test_both_ends_are_looked_at_and_only_one_can_send(tmp_path: Path) -> None:
    keys = {"API_KEY": "k", "SECRET": "s", "PASSWORD": "p"}
    trading = {f"EVENKEEL_{venue}_{name}": key for venue in ("DERIBIT", "OKX") for name, key in keys.items()}
    sending = {f"EVENKEEL_DERIBIT_TRANSFERS_{name}": f"{key}-sends" for name, key in keys.items()}

    async def keys_of(environ: dict[str, str], *, execute: bool) -> dict[str, str]:
        async with AsyncExitStack() as stack:
            desk = await open_transfers(live(tmp_path, execute=execute), environ, WallClock(), stack)
            assert desk is not None
            return {venue: exchange.apiKey for venue, exchange in desk._desk._exchanges.items()}

    assert asyncio.run(keys_of(trading | sending, execute=True)) == {"deribit": "k-sends", "okx": "k"}
    assert asyncio.run(keys_of(trading, execute=False)) == {"deribit": "k", "okx": "k"}
    assert asyncio.run(keys_of({}, execute=False)) == {}


def test_a_place_that_is_no_venue_is_a_wallet(tmp_path: Path) -> None:
    vault_with_wallet = live(tmp_path, routes=({**TRANSFERS["routes"][0], "to_venue": "cold"}, TRANSFERS["routes"][0]))
    settings = transfer_settings(vault_with_wallet)
    assert settings is not None
    assert [one.is_wallet for one in settings.routes] == [True, False]


def test_settings_are_those_of_the_vault(tmp_path: Path) -> None:
    settings = transfer_settings(live(tmp_path, confirm_above={"USDC": 50.0}))
    assert settings is not None
    assert (settings.max_amounts, settings.day_caps) == ({"USDC": 500.0}, {"USDC": 1000.0})
    assert settings.confirm_above == {"USDC": 50.0}
    assert not settings.execute
    assert transfer_settings(Vault.model_validate(vault())) is None
