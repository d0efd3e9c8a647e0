"""What trading on a chain would take, for who has no key there: fees as blocks tell them, delays as expected.

Nothing can be sent from here. A quote's sizes are then what the pool carries, as no wallet bounds them.
"""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from bot.domain.errors import Retryable
from bot.domain.market import GasTier, Quote
from bot.domain.units import NS_PER_S
from bot.gateways.chain.broadcasting import Node
from bot.gateways.chain.fees import FeeMarket, make_tiers
from bot.gateways.chain.inclusion import InclusionDelays, RevertShares
from bot.gateways.chain.nouns import Block, HedgeProtocol
from bot.gateways.chain.rpc import RpcError
from bot.gateways.chain.settings import ChainSettings
from bot.gateways.chain.transaction_reader import TransactionReader

NOBODY: Final = "0x000000000000000000000000000000000000dEaD"  # whose funds are read where there is no wallet
QUOTED_SLIPPAGE: Final = 0.001  # a quote's size costs this fraction beyond its price, as those of the protocols do
MOST_BASE: Final = 1e9  # where size does not matter

log = structlog.get_logger()


class FeeWatch:
    """The fee market of a chain without a key; `coin_px`, the price of the chain's coin, is set from outside."""

    def __init__(self, settings: ChainSettings, node: Node) -> None:
        self.coin_px = 0.0
        self.reverts = RevertShares()
        self.market: FeeMarket | None = None
        self._settings = settings
        self._reader = TransactionReader(node, NOBODY)
        self._delays = InclusionDelays(settings.block_ns / NS_PER_S)

    async def read(self, block: Block) -> None:
        """Ask what blocks cost as of this one. While nobody answers nothing is known, and so nothing is traded."""
        try:
            self.market = await self._reader.fee_market(block, self._settings.fees)
        except (Retryable, RpcError) as error:
            self.market = None
            log.warning("chain.fees_not_known", chain=self._settings.venue, why=str(error))

    def tiers(self, gas_units: int) -> tuple[GasTier, ...]:
        """Return what a place in a block costs now and how long it is expected to take; none while it is not known."""
        if self.market is None:
            return ()
        block_s = self._settings.block_ns / NS_PER_S
        return make_tiers(self.market, self._delays, self._settings.fees, gas_units, self.coin_px, block_s)


def unbounded(quote: Quote, protocol: HedgeProtocol) -> Quote:
    """Return a quote with the sizes that cost `QUOTED_SLIPPAGE` beyond it, whatever anybody's funds.

    Trading x costs the fraction x/depth beyond the quote (hedging.md 4.4, to first order).
    """
    lot_base = protocol.instrument.lot_size
    lots = min(MOST_BASE, QUOTED_SLIPPAGE * protocol.depth_base) // lot_base
    if lots < 1.0:
        return quote
    return msgspec.structs.replace(quote, bid_base=lots * lot_base, ask_base=lots * lot_base)
