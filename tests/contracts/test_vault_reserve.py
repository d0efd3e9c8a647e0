"""The insurance reserve: a share of gains over the high-water mark, released by rule against deep losses only."""

from __future__ import annotations

import pytest

from tests.chains.world import World
from tests.contracts.vaults import USDC, WETH, VaultInUse, deploy_vault

UNIT = 2  # quote units that rounding may move


@pytest.fixture
def vault(world: World) -> VaultInUse:
    """A vault half in WETH."""
    made = deploy_vault(world, hour_quote=10**6 * USDC, trade_quote=10**6 * USDC)
    made.deposit(made.alice, 200_000 * USDC)
    made.hedge(is_buy=True, base_wei=33 * WETH)
    return made


def gross(vault: VaultInUse) -> int:
    """Return what the vault holds at the price it values by."""
    quote, base = vault.held()
    return int(quote + base * vault.call("prices")[2] * USDC // WETH // 10**18)


def settle(vault: VaultInUse) -> int:
    """Settle, and return the reserve."""
    vault.contract.transact("settle", sender=vault.thief)  # anyone may
    return int(vault.call("reserve"))


def test_a_tenth_of_a_gain_is_set_aside(vault: VaultInUse) -> None:
    assert settle(vault) == 0
    vault.set_px(3300.0)
    gain = gross(vault) - 200_000 * USDC
    assert gain > 9_000 * USDC
    told = vault.call("totalAssets")
    reserve = settle(vault)
    assert reserve == pytest.approx(gain / 10, abs=UNIT)
    assert vault.call("totalAssets") == pytest.approx(
        told, abs=UNIT
    )  # the price had it already: no jump to run ahead of
    assert gross(vault) == pytest.approx(vault.call("totalAssets") + reserve, abs=UNIT)


def test_the_same_gain_is_shared_once(vault: VaultInUse) -> None:
    vault.set_px(3300.0)
    reserve = settle(vault)
    for px in (3200.0, 3290.0):
        vault.set_px(px)
        assert settle(vault) == reserve
    vault.set_px(3400.0)
    more = gross(vault) - 200_000 * USDC
    assert settle(vault) == pytest.approx(more / 10, rel=1e-3)


def test_a_loss_up_to_the_tail_is_borne_by_holders(vault: VaultInUse) -> None:
    vault.set_px(3300.0)
    reserve = settle(vault)
    vault.set_px(3050.0)  # under the mark, by less than 5 % of assets
    assert settle(vault) == reserve
    assert vault.call("totalAssets") == pytest.approx(gross(vault) - reserve, abs=UNIT)


def test_beyond_the_tail_the_reserve_pays_down_to_the_limit_as_long_as_it_lasts(vault: VaultInUse) -> None:
    vault.set_px(3300.0)
    reserve = settle(vault)
    mark_assets = vault.call("totalAssets")
    least = mark_assets * 95 // 100
    for px in (2975.0, 2960.0):
        vault.set_px(px)
        missing = least - (gross(vault) - reserve)
        assert 0 < missing < reserve
        assert vault.call("totalAssets") == pytest.approx(least, abs=UNIT)
        settle(vault)
        assert vault.call("totalAssets") == pytest.approx(least, abs=UNIT)
        assert vault.call("reserve") == pytest.approx(reserve - missing, abs=UNIT)
    vault.set_px(2500.0)
    assert settle(vault) == 0
    assert vault.call("totalAssets") == pytest.approx(gross(vault), abs=UNIT)


def test_after_a_release_nothing_is_set_aside_until_there_is_a_new_high(vault: VaultInUse) -> None:
    vault.set_px(3300.0)
    settle(vault)
    vault.set_px(2500.0)
    assert settle(vault) == 0
    mark = vault.call("mark")
    vault.set_px(3250.0)
    assert settle(vault) == 0
    assert vault.call("mark") == mark


def test_the_hedger_can_neither_spend_nor_move_the_reserve(vault: VaultInUse) -> None:
    vault.set_px(3300.0)
    reserve = settle(vault)
    free = vault.held()[0] - reserve
    with vault.refuses("STF"):  # it would take some of the reserve
        vault.hedge(is_buy=True, base_wei=(free + reserve // 2) * WETH // (3310 * USDC))
    vault.set_limit("base_bps", 10_000)
    vault.loosen(6, "0x" + 40 * "0", 10_000)
    vault.hedge(is_buy=True, base_wei=(free * 99 // 100) * WETH // (3310 * USDC))
    assert vault.call("reserve") >= reserve
    assert vault.held()[0] >= vault.call("reserve")


def test_nobody_withdraws_the_reserve(vault: VaultInUse) -> None:
    vault.set_px(3300.0)
    reserve = settle(vault)
    vault.hedge(is_buy=False, base_wei=33 * WETH)
    reserve = vault.call("reserve")
    vault.contract.transact(
        "redeem", vault.call("balanceOf", vault.alice), vault.alice, vault.alice, sender=vault.alice
    )
    assert vault.call("totalSupply") == 0
    assert reserve <= vault.held()[0] <= reserve + UNIT
    vault.contract.transact("rescue", vault.asset.address, vault.owner, sender=vault.owner)
    assert vault.world.balance(vault.owner, "USDC") == 0


def test_the_reserve_is_never_more_than_there_is_free_quote(world: World) -> None:
    vault = deploy_vault(world, hour_quote=10**7 * USDC, trade_quote=10**7 * USDC, base_bps=10_000, reserve_bps=5_000)
    vault.deposit(vault.alice, 100_000 * USDC)
    vault.hedge(is_buy=True, base_wei=33 * WETH)  # all but 900 USDC
    free = vault.held()[0]
    vault.set_px(3600.0)
    assert settle(vault) == free
    assert vault.call("totalAssets") == pytest.approx(gross(vault) - free, abs=UNIT)


def test_who_comes_before_a_release_and_leaves_after_it_gains_nothing(vault: VaultInUse) -> None:
    """The release is in the price before it is written down, so there is nothing to be early for."""
    vault.set_px(3300.0)
    settle(vault)
    vault.set_px(2900.0)
    vault.deposit(vault.thief, 20_000 * USDC)
    settle(vault)
    before = vault.world.balance(vault.thief, "USDC")
    vault.contract.transact(
        "redeem", vault.call("balanceOf", vault.thief), vault.thief, vault.thief, sender=vault.thief
    )
    assert vault.world.balance(vault.thief, "USDC") - before <= 20_000 * USDC


def test_a_deposit_into_dust_is_no_gain(world: World) -> None:
    """What rounding left to a vault of a few units puts a share over the mark; none of a deposit may go for that."""
    vault = deploy_vault(world)
    vault.deposit(vault.thief, 62)
    for amount in (7, 5, 3):  # each burns shares for a whole unit more than they are worth
        shares = vault.call("previewWithdraw", amount) - 900_000
        vault.contract.transact("redeem", shares, vault.thief, vault.thief, sender=vault.thief)
    assert (vault.call("totalAssets") + 1) * 10**36 // (vault.call("totalSupply") + 10**6) > 10**30
    vault.deposit(vault.alice, 15_000 * USDC)
    assert settle(vault) == 0
    assert vault.call("previewRedeem", vault.call("balanceOf", vault.alice)) >= 15_000 * USDC - 1
