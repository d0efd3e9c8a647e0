"""Ready-made instruments of a loopback Deribit, quoted so that everything can be traded at once."""

from __future__ import annotations

from collections.abc import Callable

from tests.venues.matching import Kind, Listing, VenueBook, wall_clock_ms

EXPIRY_MS = 4_102_473_600_000  # 2100-01-01 08:00 UTC: no test gets there

PERPETUAL = Listing(
    name="ETH-PERPETUAL", kind=Kind.PERPETUAL, coin="ETH", settle="ETH", is_inverse=True, contract_size=1.0,
    min_amount=1.0, tick_px=0.05, maker_rate=0.0, taker_rate=0.0005,
)  # fmt: skip
BTC_PERPETUAL = Listing(
    name="BTC-PERPETUAL", kind=Kind.PERPETUAL, coin="BTC", settle="BTC", is_inverse=True, contract_size=10.0,
    min_amount=10.0, tick_px=0.5, maker_rate=0.0, taker_rate=0.0005,
)  # fmt: skip
FUTURE = Listing(
    name="ETH-1JAN00", kind=Kind.FUTURE, coin="ETH", settle="ETH", is_inverse=True, contract_size=1.0,
    min_amount=1.0, tick_px=0.25, expiry_ms=EXPIRY_MS, maker_rate=0.0, taker_rate=0.0005,
)  # fmt: skip
USDC_PERPETUAL = Listing(
    name="ETH_USDC-PERPETUAL", kind=Kind.PERPETUAL, coin="ETH", quote="USDC", settle="USDC", contract_size=0.01,
    min_amount=0.01, tick_px=0.05, maker_rate=0.0, taker_rate=0.0005,
)  # fmt: skip
CALL = Listing(
    name="ETH-1JAN00-2000-C", kind=Kind.OPTION, coin="ETH", settle="ETH", is_inverse=True, contract_size=1.0,
    min_amount=1.0, tick_px=0.0001, tick_steps=((0.005, 0.0005),), expiry_ms=EXPIRY_MS, strike=2_000.0, is_call=True,
    maker_rate=0.0003, taker_rate=0.0003,
)  # fmt: skip
PUT = Listing(
    name="ETH-1JAN00-2000-P", kind=Kind.OPTION, coin="ETH", settle="ETH", is_inverse=True, contract_size=1.0,
    min_amount=1.0, tick_px=0.0001, tick_steps=((0.005, 0.0005),), expiry_ms=EXPIRY_MS, strike=2_000.0, is_call=False,
    maker_rate=0.0003, taker_rate=0.0003,
)  # fmt: skip
USDC_CALL = Listing(
    name="ETH_USDC-1JAN00-2000-C", kind=Kind.OPTION, coin="ETH", quote="USDC", settle="USDC", contract_size=0.1,
    min_amount=0.1, tick_px=0.2, expiry_ms=EXPIRY_MS, strike=2_000.0, is_call=True,
    maker_rate=0.0003, taker_rate=0.0003,
)  # fmt: skip
SPOT = Listing(
    name="ETH_USDC", kind=Kind.SPOT, coin="ETH", quote="USDC", settle="USDC", min_amount=0.001, tick_px=0.1,
    taker_rate=0.0005,
)  # fmt: skip
LISTINGS = (PERPETUAL, BTC_PERPETUAL, FUTURE, USDC_PERPETUAL, CALL, PUT, USDC_CALL, SPOT)


def quoted_book(now_ms: Callable[[], int] = wall_clock_ms) -> VenueBook:
    """ETH at 2,000 and BTC at 30,000, with money enough in every currency."""
    book = VenueBook(LISTINGS, balances={"ETH": 1_000.0, "BTC": 100.0, "USDC": 1_000_000.0}, now_ms=now_ms)
    book.set_index("ETH", 2_000.0)
    book.set_index("BTC", 30_000.0)
    book.set_quote("ETH-PERPETUAL", 2_000.0, 50_000.0, 2_000.05, 40_000.0, deeper_asks=[(2_001.0, 100_000.0)])
    book.set_quote("BTC-PERPETUAL", 30_000.0, 50_000.0, 30_000.5, 40_000.0)
    book.set_quote("ETH-1JAN00", 2_010.0, 50_000.0, 2_010.5, 40_000.0)
    book.set_quote("ETH_USDC-PERPETUAL", 2_000.0, 20.0, 2_000.1, 20.0)
    book.set_quote("ETH_USDC", 2_000.0, 20.0, 2_000.1, 20.0)
    for name in ("ETH-1JAN00-2000-C", "ETH-1JAN00-2000-P"):
        book.set_vol(name, 0.6, 0.59, 0.61, 2_010.0)
        book.set_quote(name, 0.05, 10.0, 0.0505, 12.0)
    book.set_vol("ETH_USDC-1JAN00-2000-C", 0.6, 0.0, 0.61, 2_010.0)
    book.set_quote("ETH_USDC-1JAN00-2000-C", None, 0.0, 101.0, 3.0)
    book.set_funding_rate("ETH-PERPETUAL", 0.0001)
    return book
