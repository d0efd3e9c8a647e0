"""The exchange core behind the loopback servers: matching, amends, positions, cash, and what operators do to us."""

from __future__ import annotations

import random

import pytest

from tests.venues.matching import Change, Kind, Listing, Order, Refused, State, Topic, VenueBook, Why

PERP = Listing(name="ETH-PERP", kind=Kind.PERPETUAL, coin="ETH", min_amount=0.1)
INVERSE = Listing(
    name="BTC-INV", kind=Kind.PERPETUAL, coin="BTC", settle="BTC", is_inverse=True, contract_size=10, min_amount=10,
    tick_px=0.5,
)  # fmt: skip
CALL = Listing(
    name="ETH-C", kind=Kind.OPTION, coin="ETH", settle="ETH", is_inverse=True, tick_px=0.0005, expiry_ms=1_000_000,
    strike=2_000.0, is_call=True, taker_rate=0.0003, maker_rate=0.0003,
)  # fmt: skip


def book(**options: object) -> VenueBook:
    made = VenueBook(
        [PERP, INVERSE, CALL], balances={"USD": 1e6, "BTC": 10.0, "ETH": 100.0}, now_ms=lambda: 5, **options
    )
    made.set_quote("ETH-PERP", 2_000.0, 3.0, 2_000.5, 2.0, deeper_asks=[(2_001.0, 5.0)])
    made.set_quote("BTC-INV", 30_000.0, 1_000.0, 30_000.5, 1_000.0)
    made.set_quote("ETH-C", 0.0495, 10.0, 0.0505, 10.0)
    return made


def buy(venue: VenueBook, amount: float, px: float | None, **options: object) -> Order:
    return venue.place("ETH-PERP", is_buy=True, amount=amount, px=px, **options)


def test_a_taker_eats_what_is_shown_and_no_more() -> None:
    venue = book()
    order = buy(venue, 4.0, 2_000.5, time_in_force="ioc")
    assert (order.state, order.filled, order.average_px) == (State.CANCELED, 2.0, 2_000.5)
    assert venue.quotes["ETH-PERP"].asks[0].px == 2_001.0
    assert venue.position("ETH-PERP").amount == 2.0
    assert order.fee == pytest.approx(2.0 * 2_000.5 * 0.0005)
    assert venue.balances["USD"] == pytest.approx(1e6 - order.fee)


def test_a_market_order_walks_the_levels() -> None:
    order = buy(book(), 3.0, None)
    assert order.state is State.FILLED
    assert order.average_px == pytest.approx((2 * 2_000.5 + 2_001.0) / 3)


def test_a_resting_order_fills_at_its_own_price_in_parts() -> None:
    venue = book()
    order = buy(venue, 1.0, 1_999.0, is_post_only=True, client_id="run-1")
    assert order.is_open
    venue.set_quote("ETH-PERP", 1_998.0, 1.0, 1_998.5, 0.4)
    assert (order.filled, order.left, order.average_px) == (0.4, 0.6, 1_999.0)
    venue.set_quote("ETH-PERP", 1_998.0, 1.0, 1_998.5, 4.0)
    assert order.state is State.FILLED
    assert [trade.is_maker for trade in venue.trades_of(order.order_id)] == [True, True]
    assert len({trade.trade_id for trade in venue.trades}) == 2


def test_the_better_price_fills_first_and_then_the_older_order() -> None:
    venue = book()
    cheap, dear, later = buy(venue, 1.0, 1_998.0), buy(venue, 1.0, 1_999.0), buy(venue, 1.0, 1_999.0)
    venue.set_quote("ETH-PERP", 1_990.0, 1.0, 1_995.0, 1.5)
    assert (cheap.filled, dear.filled, later.filled) == (0.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"amount": 0.05}, Why.BAD_AMOUNT),
        ({"px": 2_000.01}, Why.BAD_PX),
        ({"px": float("nan")}, Why.BAD_PX),
        ({"px": 2_000.5, "is_post_only": True}, Why.POST_ONLY),
        ({"is_reduce_only": True}, Why.REDUCE_ONLY),
        ({"amount": 1e6}, Why.NOT_ENOUGH_FUNDS),
        ({"name": "ETH-NONE"}, Why.UNKNOWN_INSTRUMENT),
        ({"amount": 100.0, "px": 2_001.0, "time_in_force": "fok"}, Why.NO_LIQUIDITY),
    ],
)
def test_a_refused_order_changes_nothing(changes: dict[str, object], why: Why) -> None:
    venue = book()
    with pytest.raises(Refused) as refused:
        venue.place(**{"name": "ETH-PERP", "is_buy": True, "amount": 1.0, "px": 1_999.0, **changes})
    assert refused.value.why is why
    assert not venue.orders
    assert venue.balances["USD"] == 1e6


def test_a_sliding_post_only_order_rests_one_tick_away() -> None:
    assert buy(book(), 1.0, 2_010.0, is_post_only=True, is_sliding=True).px == 2_000.45


def test_reduce_only_is_clipped_to_the_position_and_dies_with_it() -> None:
    venue = book()
    buy(venue, 1.0, None)
    order = venue.place("ETH-PERP", is_buy=False, amount=5.0, px=2_010.0, is_reduce_only=True)
    assert order.amount == 1.0
    venue.self_close("ETH-PERP")
    venue.set_quote("ETH-PERP", 2_010.0, 5.0, 2_011.0, 5.0)
    assert (order.state, order.filled, order.cancel_reason) == (State.CANCELED, 0.0, "reduce_only")
    assert venue.position("ETH-PERP").amount == 0.0


def test_an_amended_order_may_trade_and_a_refused_amend_leaves_it_as_it_was() -> None:
    venue = book()
    order = buy(venue, 1.0, 1_999.0)
    with pytest.raises(Refused):
        venue.amend(order.order_id, px=1_999.01)
    assert order.px == 1_999.0
    assert venue.amend(order.order_id, px=2_000.5).state is State.FILLED
    with pytest.raises(Refused) as refused:
        venue.amend(order.order_id, px=1_990.0)
    assert refused.value.why is Why.NOT_OPEN


def test_cancel_all_by_owner_leaves_the_others() -> None:
    venue = book()
    first, second = object(), object()
    mine, yours = buy(venue, 1.0, 1_999.0, owner=first), buy(venue, 1.0, 1_998.0, owner=second)
    assert venue.cancel_all(owner=first) == [mine]
    assert venue.open_orders() == [yours]
    with pytest.raises(Refused) as refused:
        venue.cancel("none")
    assert refused.value.why is Why.NOT_FOUND


@pytest.mark.parametrize(
    ("rule", "is_refused_open", "is_refused_over"), [("free", 0, 0), ("open", 1, 0), ("once", 1, 1)]
)
def test_client_ids_are_as_unique_as_the_venue_wants(rule: str, is_refused_open: int, is_refused_over: int) -> None:
    venue = book(client_ids=rule)
    first = buy(venue, 1.0, 1_999.0, client_id="a")
    assert is_refused(venue, "a") == bool(is_refused_open)
    if first.is_open:
        venue.cancel_all()
    assert is_refused(venue, "a") == bool(is_refused_over)


def is_refused(venue: VenueBook, client_id: str) -> bool:
    try:
        buy(venue, 1.0, 1_999.0, client_id=client_id)
    except Refused as refused:
        return refused.why is Why.DUPLICATE
    return False


def test_an_inverse_position_earns_coins() -> None:
    venue = book()
    venue.place("BTC-INV", is_buy=True, amount=600.0, px=None)
    venue.set_quote("BTC-INV", 33_000.0, 1_000.0, 33_000.5, 1_000.0)
    before = venue.balances["BTC"]
    order = venue.place("BTC-INV", is_buy=False, amount=600.0, px=None)
    assert venue.balances["BTC"] + order.fee - before == pytest.approx(600 * (1 / 30_000.5 - 1 / 33_000.0))
    assert venue.position("BTC-INV").entry_px == 0.0


def test_a_position_that_turns_round_enters_at_the_new_price() -> None:
    venue = book()
    buy(venue, 1.0, None)
    venue.place("ETH-PERP", is_buy=False, amount=3.0, px=None)
    assert (venue.position("ETH-PERP").amount, venue.position("ETH-PERP").entry_px) == (-2.0, 2_000.0)


def test_an_option_settles_in_coins_and_its_orders_are_gone() -> None:
    venue = book()
    venue.place("ETH-C", is_buy=True, amount=2.0, px=0.0505)
    resting = venue.place("ETH-C", is_buy=True, amount=1.0, px=0.01)
    paid = venue.balances["ETH"]
    assert paid == pytest.approx(100.0 - 2 * 0.0505 - 2 * 0.0003)
    venue.settle("ETH", 1_000_000, 2_500.0)
    assert venue.balances["ETH"] == pytest.approx(paid + 2 * 500 / 2_500)
    assert resting.state is State.CANCELED
    assert not venue.listings["ETH-C"].is_active
    with pytest.raises(Refused):
        venue.place("ETH-C", is_buy=True, amount=1.0, px=0.01)


def test_what_operators_do_to_us_reaches_the_account() -> None:
    venue = book()
    changes: list[Change] = []
    stop = venue.listen(changes.append)
    trade = venue.foreign_trade("ETH-PERP", is_buy=True, amount=1.5, px=1_990.0)
    assert (trade.client_id, venue.position("ETH-PERP").amount) == ("", 1.5)
    closed = venue.self_close("ETH-PERP", 0.5, 1_980.0)
    assert (closed.is_buy, closed.cause, venue.position("ETH-PERP").amount) == (False, "adl", 1.0)
    venue.pay_funding("ETH-PERP", 0.001)
    assert venue.fundings[0].amount == pytest.approx(-0.001 * 2_000.25)
    venue.change_contract_size("ETH-PERP", 10.0)
    venue.delist("ETH-PERP")
    topics = [change.topic for change in changes]
    assert [topics.count(topic) for topic in (Topic.TRADE, Topic.FUNDING, Topic.LISTING)] == [2, 1, 2]
    assert [change.seq for change in changes] == sorted({change.seq for change in changes})
    stop()
    venue.set_index("ETH", 2_000.0)
    assert changes[-1].topic is Topic.LISTING


def test_own_orders_are_in_the_published_book_if_it_shows_them() -> None:
    venue = book(shows_own_orders=True)
    buy(venue, 1.0, 2_000.2)
    assert venue.book_of("ETH-PERP")[0][0].px == 2_000.2
    assert venue.quotes["ETH-PERP"].bids[0].px == 2_000.0


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_the_books_balance(seed: int) -> None:
    chance = random.Random(seed)
    venue = book(shows_own_orders=bool(seed % 2))
    for _ in range(150):
        act(venue, chance)
        check_balance(venue)


def act(venue: VenueBook, chance: random.Random) -> None:
    name = chance.choice(["ETH-PERP", "BTC-INV"])
    listing = venue.listings[name]
    mid = 2_000.0 if name == "ETH-PERP" else 30_000.0
    px = round(mid / listing.tick_px + chance.randint(-4, 4)) * listing.tick_px
    amount = round(listing.min_amount * chance.randint(1, 40), 9)
    ids = list(venue.orders)
    try:
        match chance.randint(0, 7):
            case 0 | 1:
                venue.set_quote(name, px, amount, px + listing.tick_px, amount, deeper_bids=[(px - 2, amount)])
            case 2 | 3 | 4:
                venue.place(
                    name,
                    is_buy=chance.random() < 0.5,
                    amount=amount,
                    px=chance.choice([px, px, None]),
                    time_in_force=chance.choice(["gtc", "ioc", "fok"]),
                    is_post_only=chance.random() < 0.2,
                    is_reduce_only=chance.random() < 0.2,
                )
            case 5 if ids:
                venue.amend(chance.choice(ids), amount=amount, px=px)
            case 6 if ids:
                venue.cancel(chance.choice(ids))
            case _:
                venue.self_close(name)
    except Refused:
        pass


def check_balance(venue: VenueBook) -> None:
    for name in ("ETH-PERP", "BTC-INV"):
        signed = [trade.amount if trade.is_buy else -trade.amount for trade in venue.trades if trade.name == name]
        assert venue.position(name).amount == pytest.approx(sum(signed), abs=1e-6)
        quotes = venue.quotes[name]
        assert all(level.amount > 0 for level in [*quotes.bids, *quotes.asks])
    for order in venue.orders.values():
        filled = sum(trade.amount for trade in venue.trades_of(order.order_id))
        assert order.filled == pytest.approx(filled, abs=1e-6)
        assert order.filled <= order.amount + 1e-9
        assert order.is_open == (order in venue.open_orders())
    earned = sum(trade.realized - trade.fee for trade in venue.trades if trade.fee_coin == "USD")
    assert venue.balances["USD"] == pytest.approx(1e6 + earned)
    assert len({trade.trade_id for trade in venue.trades}) == len(venue.trades)
