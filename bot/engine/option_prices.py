"""What a vol quote of an option is in prices of its venue.

Venues quote options in prices and tell vols beside them; recordings and live feeds carry the vols. Black-76 at the
vol of a side over the quote's own forward, in the currency the venue prices in and rounded to the nearest tick, is the
price that side was quoted at. Must never show a price that no side stands behind: without a vol there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bot.domain.instruments import Option
from bot.domain.market import Quote, VolQuote
from bot.domain.units import BPS, NS_PER_YEAR
from bot.pricing.black76 import greeks


class OptionPrices(NamedTuple):
    """Prices of one option in its venue's price currency; bid and ask in whole ticks, 0 where there is none."""

    bid_ticks: int
    ask_ticks: int
    mark_px: float


def is_coin_priced(option: Option) -> bool:
    """Tell whether prices of an option are in its coin and not in quote money."""
    return option.price_currency == option.base


def prices_of(option: Option, quote: VolQuote) -> OptionPrices:
    """Return the prices of a vol quote as of the time it was made."""
    return prices_of_all([(option, quote)])[0]


def prices_of_all(quoted: Sequence[tuple[Option, VolQuote]]) -> list[OptionPrices]:
    """Return the prices of many vol quotes at once, each as of the time it was made."""
    terms = np.array(
        [
            (
                quote.forward_px,
                option.strike_px,
                max(0.0, (option.expiry_ns - quote.ts_event_ns) / NS_PER_YEAR),
                quote.forward_px if is_coin_priced(option) else 1.0,
            )
            for option, quote in quoted
        ]
    ).reshape(-1, 4)
    vols = np.array([(quote.bid_vol, quote.ask_vol, quote.mark_vol) for _, quote in quoted]).reshape(-1, 3)
    forward_px, strike_px, tau_years, unit_px = np.repeat(terms, 3, axis=0).T
    is_call = np.repeat(np.array([option.is_call for option, _ in quoted], dtype=np.bool_), 3)
    values = greeks(forward_px, strike_px, tau_years, vols.ravel(), is_call).value / unit_px
    found = []
    for (option, quote), (bid_px, ask_px, mark_px) in zip(quoted, values.reshape(-1, 3).tolist(), strict=True):
        bid_ticks = nearest_ticks(option, bid_px) if quote.bid_vol > 0.0 else 0
        ask_ticks = nearest_ticks(option, ask_px) if quote.ask_vol > 0.0 else 0
        found.append(OptionPrices(bid_ticks, ask_ticks, mark_px))
    return found


def nearest_ticks(option: Option, px: float) -> int:
    """Return the valid price nearest to `px`, in finest ticks."""
    schedule = option.tick_schedule
    step = schedule.step_ticks(px)
    return round(px / schedule.tick_px / step) * step


def price_quote(option: Option, quote: VolQuote) -> Quote:
    """Return a vol quote as a best bid and ask in prices; a side without a vol or a size has price and size 0."""
    prices = prices_of(option, quote)
    px = option.tick_schedule.px
    has_bid = prices.bid_ticks > 0 and quote.bid_base > 0.0
    has_ask = prices.ask_ticks > 0 and quote.ask_base > 0.0
    return Quote(
        quote.instrument_id,
        px(prices.bid_ticks) if has_bid else 0.0,
        quote.bid_base if has_bid else 0.0,
        px(prices.ask_ticks) if has_ask else 0.0,
        quote.ask_base if has_ask else 0.0,
        quote.ts_event_ns,
        quote.ts_recv_ns,
        quote.seq,
    )


def option_fee_settle(
    option: Option, px: float, qty_base: float, forward_px: float, taker_bps: float, cap_fraction: float
) -> float:
    """Return what a venue charges in settlement money: a share of the underlying's worth, at most one of the price.

    Deribit's rule for options: 0.03 % of the underlying (3 bps), never more than 12.5 % of the option's price.
    """
    worth = 1.0 if is_coin_priced(option) else forward_px
    return abs(qty_base) * min(taker_bps * BPS * worth, cap_fraction * px)
