"""What the guarded vault's transactions use, against the table in docs/guarded-vault.md."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.chains.artifacts import ROOT
from tests.chains.world import World
from tests.contracts.vaults import USDC, WETH, deploy_vault

DOCUMENT = ROOT / "docs" / "guarded-vault.md"
ROW = re.compile(r"^\| ([a-z][^|]*?) +\| +([\d,]+) +\|$", re.MULTILINE)
TOLERANCE = 0.03  # addresses, the feed's rounds and the pool's memory make it a little more or less


def measured(world: World) -> dict[str, int]:
    """Return gas by what is done, on a vault that is in use."""
    used: dict[str, int] = {}

    def note(name: str, receipt: dict[str, Any]) -> None:
        used[name] = int(receipt["gasUsed"], 16)

    vault = deploy_vault(world)
    creation = next(
        receipt
        for number in range(world.anvil.block_number, 0, -1)
        for receipt in world.anvil.rpc("eth_getBlockReceipts", hex(number))
        if (receipt["contractAddress"] or "").lower() == vault.address.lower()
    )
    note("deploy", creation)

    def do(name: str, function: str, *args: Any, sender: str) -> None:
        note(name, vault.contract.transact(function, *args, sender=sender))

    def hedge(name: str, *, is_buy: bool) -> None:
        note(
            name,
            vault.contract.transact(
                "hedge", world.uniswap.router.address, vault.pool.address, is_buy, WETH,
                2**128 if is_buy else 0, world.anvil.block_number, 2**64, sender=vault.hedger,
            ),
        )  # fmt: skip

    alice, bob = vault.alice, vault.bob
    do("first deposit", "deposit", 100_000 * USDC, alice, sender=alice)
    do("deposit without base held", "deposit", 100_000 * USDC, bob, sender=bob)
    hedge("first hedge of all", is_buy=True)
    hedge("hedge, buy", is_buy=True)
    hedge("hedge, sell", is_buy=False)
    do("deposit", "deposit", 1_000 * USDC, bob, sender=bob)
    do("withdraw", "withdraw", 1_000 * USDC, bob, bob, sender=bob)
    do("redeem", "redeem", 10**15, bob, bob, sender=bob)
    do("redeem in kind", "redeem_in_kind", 10**15, bob, bob, sender=bob)
    vault.set_px(3100.0)
    do("settle with a gain", "settle", sender=bob)
    note("tighten a limit", vault.set_limit("trade_quote", 1_000 * USDC))
    note("schedule a loosening", vault.set_limit("trade_quote", 50_000 * USDC))
    do("pause", "pause", sender=vault.guardian)
    return used


def test_the_table_of_the_document_is_what_is_measured(world: World) -> None:
    found = measured(world)
    table = {name: int(gas.replace(",", "")) for name, gas in ROW.findall(DOCUMENT.read_text(encoding="utf-8"))}
    assert table.keys() == found.keys()
    for name, gas in found.items():
        assert table[name] == pytest.approx(gas, rel=TOLERANCE), f"| {name} | {gas:,} |"
