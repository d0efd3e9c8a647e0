"""Derive's words: linear in USDC, fees told."""

from __future__ import annotations

from bot.gateways.derive.market import DeriveMarketWords
from tests.gateways.listings import listing


def test_fees_are_the_venues() -> None:
    assert DeriveMarketWords().fees_bps(listing("swap", "ETH-PERP", "ETH/USDC:USDC", taker=0.0003)) == (3.0, 0.0)
