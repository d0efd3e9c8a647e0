"""Fixtures of chains: one node for all tests, taken back after each, with optional protocols where they are wanted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chains.anvil import GWEI
from tests.chains.world import PARTS, World


def test_the_full_world_has_every_optional_protocol(full_world: World) -> None:
    assert set(full_world.parts) == set(PARTS)
    for name, addresses in full_world.parts.items():
        assert addresses
        assert full_world.part(name) is not None
        for role, address in addresses.items():
            assert full_world.anvil.rpc("eth_getCode", address, "latest") != "0x", (name, role)


def test_a_world_is_shared_by_those_who_want_the_same(worlds: Callable[..., World], world: World) -> None:
    assert worlds() is world
    assert worlds() is worlds()


@pytest.mark.parametrize("attempt", [1, 2])
def test_mining_and_fees_are_as_new(world: World, attempt: int) -> None:
    before = world.anvil.block_number
    world.give(world.hedger, USDC=1.0)  # mined at once
    assert world.anvil.block_number == before + 1, attempt
    assert world.anvil.block()["baseFeePerGas"] == hex(GWEI)
    world.anvil.set_automine(False)
    world.anvil.set_interval(1)
    world.anvil.set_base_fee(90 * GWEI)
    world.anvil.mine()
