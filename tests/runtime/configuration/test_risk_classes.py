"""What applies to an asset, and where each value came from."""

from __future__ import annotations

import pytest

from bot.runtime.configuration.risk_classes import applying
from tests.runtime.risk_snapshots import risky_vault
from tests.runtime.vault_files import vault


def test_an_asset_goes_before_its_class_and_the_vault_before_the_set() -> None:
    section = {
        "classes": {"major": {"price_shock_fraction": 0.2, "fallback_vol": 1.1}},
        "assets": {"ETH": {"fallback_vol": 1.2}},
        "members": {"meth": "staked"},
    }
    btc, eth, meth = applying(risky_vault(asset_classes=section), ["BTC", "ETH", "METH", "eth"])
    assert (btc.parameters.price_shock_fraction, btc.parameters.fallback_vol) == (0.2, 1.1)
    assert eth.parameters.fallback_vol == 1.2
    assert eth.origins["fallback_vol"] == "asset ETH of the vault"
    assert eth.origins["price_shock_fraction"] == "class major of the vault"
    assert (meth.asset_class, meth.origins["class"]) == ("staked", "the vault")


def test_a_vault_without_a_section_has_the_set_and_what_nobody_listed_is_of_the_most_careful() -> None:
    from bot.runtime.configuration.vault import Vault

    (found,) = applying(Vault.model_validate(vault()), ["NOBODY"])
    assert found.asset_class == "small"
    assert found.origins["class"].startswith("not listed")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"classes": {"huge": {"fallback_vol": 1.0}}}, "'huge'"),
        ({"assets": {"ETH": {"vol": 1.0}}}, "found vol"),
        ({"assets": {"ETH": {"fallback_vol": -1.0}}}, "fallback_vol above 0"),
    ],
)
def test_what_is_not_there_is_named(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        applying(risky_vault(asset_classes=section), [])
