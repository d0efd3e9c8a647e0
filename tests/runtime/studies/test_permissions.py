"""What hedges need granted, on the real contracts: found, granted to the unit through the desk, and found again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bot.domain.errors import JournalError, VenueFatal
from bot.gateways.chain.nouns import TransactionState
from bot.gateways.chain.settings import ChainSettings
from bot.gateways.chain.transaction_log import TransactionLog, log_path
from bot.runtime.configuration.chains import chain_settings
from bot.runtime.configuration.config import load_vaults
from bot.runtime.live.clock import WallClock
from bot.runtime.studies.permissions import UNLIMITED, Permission, amount_text, grant, lacking, lacking_lines
from tests.acceptance.chain_vaults import ChainVault
from tests.chains.world import World

MOST_QUOTE = 30_000.0  # ten ether at the world's price


def settings_of(chain: ChainVault) -> ChainSettings:
    (vault,) = load_vaults([chain.path], allow_live=True)
    return chain_settings(vault, chain.environ)["local"]


async def found(chain: ChainVault, orders: int = 0) -> list[Permission]:
    return await lacking(settings_of(chain), WallClock(), MOST_QUOTE, orders=orders)


async def granted(chain: ChainVault, permissions: list[Permission]) -> list[str]:
    said: list[str] = []
    await grant(settings_of(chain), chain.environ, WallClock(), permissions, said.append)
    return said


def allowance(world: World, symbol: str) -> int:
    return int(world.tokens[symbol].call("allowance", world.hedger, world.uniswap.router.address))


async def test_what_is_lacking_is_found_granted_exactly_and_not_found_again(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path)
    lacks = await found(chain, orders=3)
    assert [one.symbol for one in lacks] == ["WETH", "USDC"]
    assert lacks[1].needed_wei == 30_000 * 10**6
    assert lacks[0].needed_wei / 10**18 == pytest.approx(10.0, rel=1e-3)
    text = "\n".join(lacking_lines(lacks))
    assert "now      granted 0 USDC; one order needs up to 30,000 USDC" in text
    router = world.uniswap.router.address
    assert f"call     approve({router.lower()}, 90,000 USDC) of {world.tokens['USDC'].address}" in text
    assert (allowance(world, "WETH"), allowance(world, "USDC")) == (0, 0)  # looking grants nothing
    said = await granted(chain, lacks)
    assert (allowance(world, "WETH"), allowance(world, "USDC")) == (3 * lacks[0].needed_wei, 90_000 * 10**6)
    assert [line.split()[0] for line in said] == ["sent", "mined", "sent", "mined"]
    assert await found(chain, orders=3) == []
    with TransactionLog.open(log_path(tmp_path, 31337, world.hedger), for_writing=False) as log:
        lives = list(log.lives().values())
    assert [life.state for life in lives] == [TransactionState.MINED] * 2
    assert lives[0].key.startswith("approve:local:WETH-USDC:WETH:")
    # what was spent since is granted again, under a key of its own
    world.tokens["USDC"].transact("approve", router, 0, sender=world.hedger)
    [again] = await found(chain)
    await granted(chain, [again])
    assert allowance(world, "USDC") >= UNLIMITED
    assert await found(chain) == []


async def test_nothing_is_granted_while_somebody_else_has_the_key(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path)
    lacks = await found(chain)
    with (
        TransactionLog.open(log_path(tmp_path, 31337, world.hedger), for_writing=True),
        pytest.raises(JournalError, match="only one that signs"),
    ):
        await granted(chain, lacks)
    assert allowance(world, "WETH") == 0


async def test_what_would_fail_or_cannot_be_paid_is_not_sent(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path)
    [_, usdc] = await found(chain)
    reverting = msgspec.structs.replace(usdc, data=b"\1\2\3\4" + usdc.data[4:])
    count = world.anvil.rpc("eth_getTransactionCount", world.hedger, "latest")
    with pytest.raises(VenueFatal, match="expected the transaction to work, found that it reverts"):
        await granted(chain, [reverting])
    world.anvil.set_balance(world.hedger, 10**15)
    with pytest.raises(VenueFatal, match=r"left for closing what is open|gas exhausted"):
        await granted(chain, [usdc])
    assert world.anvil.rpc("eth_getTransactionCount", world.hedger, "latest") == count


def test_amounts_read_as_people_write_them() -> None:
    assert [amount_text(wei, 6) for wei in (0, 1, 1_500_000, 10**12)] == ["0", "0.000001", "1.5", "1,000,000"]
