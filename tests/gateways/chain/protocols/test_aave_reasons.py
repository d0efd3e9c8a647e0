"""Reasons as the published Aave v3 gives them, and as its later versions do."""

from __future__ import annotations

import pytest

from bot.gateways.chain.protocols.aave_reasons import explain, is_price_miss
from bot.pricing.aave_v3 import WAD
from tests.chains.contracts import Contract, Reverted, selector_of
from tests.chains.world import World
from tests.gateways.chain.protocols.aave_stage import AaveStage, aave_stage

ETH = 10**18


def revert_of(contract: Contract, name: str, *args: object, sender: str) -> bytes:
    with pytest.raises(Reverted) as reverted:
        contract.call(name, *args, sender=sender)
    return reverted.value.data


def sale_of(stage: AaveStage, wei: int) -> tuple[object, ...]:
    quote = stage.world.tokens["USDC"].address
    path = bytes.fromhex(stage.base[2:]) + (500).to_bytes(3) + bytes.fromhex(quote[2:])
    return stage.base, quote, wei, 1, path, 2**48, WAD


def test_what_aave_refuses_is_said_in_words(full_world: World) -> None:
    stage = aave_stage(full_world)
    sell, wallet = (stage.executor, "sell_borrowed"), stage.wallet
    assert explain(revert_of(*sell, *sale_of(stage, 17 * ETH), sender=wallet)) == (
        "Aave 36: the collateral does not cover the new loan"
    )
    assert explain(revert_of(*sell, *sale_of(stage, 0), sender=wallet)) == "Aave 26: the amount is zero"
    stage.aave.configurator.transact("setBorrowCap", stage.base, 1)
    assert explain(revert_of(*sell, *sale_of(stage, 2 * ETH), sender=wallet)) == (
        "Aave 50: the reserve's borrow cap is reached"
    )
    stage.aave.configurator.transact("setReserveFreeze", stage.base, True)
    assert explain(revert_of(*sell, *sale_of(stage, ETH), sender=wallet)) == (
        "Aave 28: the reserve is frozen: no new loans"
    )
    assert not is_price_miss(revert_of(*sell, *sale_of(stage, ETH), sender=wallet))


def test_somebody_without_collateral_or_without_credit(full_world: World) -> None:
    stage = aave_stage(full_world)
    nobody = full_world.anvil.accounts[7].address
    said = explain(revert_of(stage.executor, "sell_borrowed", *sale_of(stage, ETH), sender=nobody))
    assert said == "Aave 34: the account has no collateral"
    stage.aave.supply(nobody, USDC=60_000)
    said = explain(revert_of(stage.executor, "sell_borrowed", *sale_of(stage, ETH), sender=nobody))
    assert said.startswith("panic 0x11: ")
    assert said.endswith("where less credit is delegated to the executor than is borrowed")


def test_later_versions_name_their_reasons() -> None:
    data = selector_of("CollateralCannotCoverNewBorrow()")
    assert explain(data) == "Aave CollateralCannotCoverNewBorrow: the collateral does not cover the new loan"
    assert not is_price_miss(data)
    short = selector_of("ERC20InsufficientBalance(address,uint256,uint256)") + bytes(64) + (7).to_bytes(32)
    assert explain(short).startswith("ERC20InsufficientBalance(0x")
    assert explain(b"") == "reverted without a reason"
