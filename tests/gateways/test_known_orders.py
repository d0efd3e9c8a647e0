"""What is remembered of orders and trades, and that memory stays flat."""

from __future__ import annotations

from bot.domain.orders import Fill, Liquidity
from bot.gateways import known_orders
from bot.gateways.known_orders import KnownOrders


def fill(trade_id: str, order_id: str = "0123456789-1", lots: int = 5) -> Fill:
    return Fill(trade_id, order_id, "ETH-PERPETUAL", lots, 2_000.0, 0.0, Liquidity.TAKER, 1, 1)


def test_a_fill_is_taken_once_and_counted_on_its_order() -> None:
    known = KnownOrders()
    order = known.get_or_add("0123456789-1", "ETH-PERPETUAL")
    assert known.take(fill("a", lots=-5))
    assert not known.take(fill("a", lots=-5))
    assert known.take(fill("b", lots=-2))
    assert order.filled_lots == 7
    assert known.has_told("ETH-PERPETUAL", "a")
    assert not known.has_told("BTC-PERPETUAL", "a")  # venues count trades per instrument


def test_whose_a_venue_id_is() -> None:
    known = KnownOrders()
    order = known.get_or_add("0123456789-1", "ETH-PERPETUAL")
    known.own("ETH-1", "0123456789-1")
    known.own("ETH-2", "")
    assert (known.owner("ETH-1"), known.owner("ETH-2"), known.owner("ETH-3")) == ("0123456789-1", "", None)
    assert order.venue_order_id == "ETH-1"
    assert known.get_or_add("0123456789-1", "ETH-PERPETUAL") is order
    assert known.instruments() == {"ETH-PERPETUAL"}
    assert not order.is_being_created


def test_memory_is_bounded_and_live_orders_stay() -> None:
    known = KnownOrders()
    live = known.get_or_add("0123456789-0", "ETH-PERPETUAL")
    for number in range(1, 3 * known_orders._MAX_ORDERS):
        known.get_or_add(f"0123456789-{number}", "ETH-PERPETUAL").is_over = True
        known.own(f"ETH-{number}", "")
    for number in range(known_orders._MAX_TRADES + 10):
        known.take(fill(str(number), ""))
    assert known.get("0123456789-0") is live
    assert len(known._orders) <= known_orders._MAX_ORDERS + 1
    assert len(known._owners) <= 2 * known_orders._MAX_ORDERS
    assert len(known._trades) == known_orders._MAX_TRADES
