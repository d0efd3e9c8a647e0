"""Tests of the chain sections: what a person may write, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bot.runtime.configuration.chain_sections import AssetSection, ChainSection, RateSection

WETH = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"


def test_an_address_is_kept_with_its_checksum() -> None:
    assert AssetSection(address=WETH.lower(), decimals=18).address == WETH
    assert AssetSection(address=WETH, decimals=18).address == WETH


@pytest.mark.parametrize("address", ["", "0x12", WETH[:-1], WETH.replace("0xC0", "0xc0"), "weth.eth"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="an address"):
        AssetSection(address=address, decimals=18)


@pytest.mark.parametrize("function", ["stEthPerToken", "rate(uint256)", "a b()", "()"])
def test_a_rate_is_a_view_function_without_arguments(function: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        RateSection(contract=WETH, function=function)


def test_a_chain_needs_little_more_than_its_id() -> None:
    chain = ChainSection(chain_id=8453)
    assert (chain.coin, chain.confirmations, chain.fees.max_replacements, chain.simulated) == ("ETH", 1, 4, None)
