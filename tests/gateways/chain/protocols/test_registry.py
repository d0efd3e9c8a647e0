"""A section's protocol is found by its name, and what is no protocol is said."""

from __future__ import annotations

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.domain.instruments import Perpetual, Spot
from bot.gateways.chain.protocols.registry import open_protocol
from bot.gateways.chain.settings import ChainSettings, HedgeSection, PoolSettings, TokenSettings

ROUTER, POOL, BASE, QUOTE, WALLET = (f"0x{digit * 40}" for digit in "12345")
TOKENS = {
    "WETH": TokenSettings(symbol="WETH", address=BASE, decimals=18, underlying="ETH"),
    "USDC": TokenSettings(symbol="USDC", address=QUOTE, decimals=6, underlying=""),
}
SETTINGS = ChainSettings(venue="local", chain_id=1, coin="ETH", http_urls=(), tokens=TOKENS)
SECTION = HedgeSection(
    name="HEDGE", protocol="uniswap_v3", underlying="ETH", base="WETH", quote="USDC", lot_base=0.001, tick_px=0.01,
    contracts={"router": ROUTER, "pool": POOL, "executor": WALLET, "clearing_house": ROUTER, "base_token": BASE,
               "vault": POOL},
    route=(PoolSettings(address=POOL, base="WETH", quote="USDC", fee_pips=500),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"), [("uniswap_v3", Spot), ("aave_v3", Spot), ("perp_v2", Perpetual), ("guarded_vault", Spot)]
)
def test_every_protocol_is_found_by_its_name(name: str, kind: type) -> None:
    roles = {
        "uniswap_v3": ("router",), "aave_v3": ("pool", "executor", "router"),
        "perp_v2": ("clearing_house", "base_token"), "guarded_vault": ("vault", "router"),
    }[name]  # fmt: skip
    contracts = {role: SECTION.contracts[role] for role in roles}
    section = msgspec.structs.replace(SECTION, protocol=name, contracts=contracts)
    protocol = open_protocol(section, SETTINGS, WALLET)
    assert isinstance(protocol.instrument, kind)
    assert protocol.instrument.instrument_id == "local:HEDGE"
    assert protocol.instrument.venue == "local"
    assert protocol.reads, "there is something to read from the first block on"
    assert protocol.quote(1) is None, "nothing is known before"


def test_a_name_that_means_nothing_is_refused_with_those_that_do() -> None:
    section = msgspec.structs.replace(SECTION, protocol="uniswap_v9")
    with pytest.raises(ConfigError, match=r"HEDGE: expected a protocol of uniswap_v3, aave_v3, .*found 'uniswap_v9'"):
        open_protocol(section, SETTINGS, WALLET)
