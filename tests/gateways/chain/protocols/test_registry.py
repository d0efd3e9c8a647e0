"""Tests of which protocol a hedge section means."""

from __future__ import annotations

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.gateways.chain.protocols.aave_v3 import AaveV3
from bot.gateways.chain.protocols.guarded_vault import GuardedVault
from bot.gateways.chain.protocols.perp_v2 import PerpV2
from bot.gateways.chain.protocols.registry import open_protocol
from bot.gateways.chain.protocols.uniswap_v3 import UniswapV3
from bot.gateways.chain.settings import ChainSettings, HedgeSection, PoolSettings, TokenSettings
from bot.runtime.configuration.chain_checks import ROLES

WALLET = "0x" + 40 * "1"
WETH, USDC, POOL = ("0x" + 40 * digit for digit in "234")
SETTINGS = ChainSettings(
    venue="local",
    chain_id=1,
    coin="ETH",
    http_urls=("http://127.0.0.1:1",),
    tokens={
        "WETH": TokenSettings(symbol="WETH", address=WETH, decimals=18, underlying="ETH"),
        "USDC": TokenSettings(symbol="USDC", address=USDC, decimals=6, underlying=""),
    },
)
KINDS = {"uniswap_v3": UniswapV3, "aave_v3": AaveV3, "perp_v2": PerpV2, "guarded_vault": GuardedVault}


def section(protocol: str) -> HedgeSection:
    roles = ROLES.get(protocol, ())
    return HedgeSection(
        name="HEDGE",
        protocol=protocol,
        underlying="ETH",
        base="WETH",
        quote="USDC",
        lot_base=0.001,
        tick_px=0.01,
        contracts=dict.fromkeys(roles, "0x" + 40 * "5"),
        route=(PoolSettings(address=POOL, base="WETH", quote="USDC", fee_pips=500),),
    )


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_roles_a_vault_file_is_checked_for_are_enough_to_open_a_protocol(name: str) -> None:
    protocol = open_protocol(section(name), SETTINGS, WALLET)
    assert isinstance(protocol, KINDS[name])
    assert protocol.instrument.instrument_id == "local:HEDGE"
    assert protocol.instrument.venue == "local"


@pytest.mark.parametrize("name", sorted(KINDS))
def test_each_of_those_roles_is_needed(name: str) -> None:
    whole = section(name)
    for role in ROLES[name]:
        lacking = {one: address for one, address in whole.contracts.items() if one != role}
        with pytest.raises(ConfigError, match=role):
            open_protocol(msgspec.structs.replace(whole, contracts=lacking), SETTINGS, WALLET)


def test_an_unknown_protocol_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"expected a protocol of uniswap_v3, .* found 'uniswap_v4'"):
        open_protocol(section("uniswap_v4"), SETTINGS, WALLET)
