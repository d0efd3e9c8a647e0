"""Markets as instruments and back: what is read, what is left out and why, and that no money is lost on the way."""

from __future__ import annotations

import ccxt
import ccxt.pro
import pytest
from ccxt.base.decimal_to_precision import TICK_SIZE, TRUNCATE, decimal_to_precision
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.instruments import Future, Option, Payoff, Perpetual, Spot
from bot.domain.units import NS_PER_MS
from bot.gateways.binance.market import BinanceMarketWords
from bot.gateways.bybit.market import BybitMarketWords
from bot.gateways.deribit.market import DeribitMarketWords
from bot.gateways.market_words import MarketWords
from bot.gateways.markets import Markets, market_words_of
from tests.gateways.listings import (
    DERIBIT_COMBO,
    DERIBIT_FUTURE,
    DERIBIT_INVERSE,
    DERIBIT_LINEAR,
    DERIBIT_OPTION,
    EXPIRY_MS,
    Listing,
    listing,
    sized,
)

COINS = frozenset({"BTC", "ETH"})
DERIBIT = [DERIBIT_INVERSE, DERIBIT_FUTURE, DERIBIT_LINEAR, DERIBIT_OPTION, DERIBIT_COMBO]
PERPETUAL = listing("swap", "ETHUSDT", "ETH/USDT:USDT")


def markets_of(*listings: Listing, words: MarketWords | None = None, prefix: str = "") -> Markets:
    markets = Markets("venue", COINS, words or MarketWords(), prefix)
    markets.update(listings)
    return markets


def test_deribit_counts_inverse_futures_in_usd_and_the_rest_in_coins() -> None:
    markets = markets_of(*DERIBIT, words=DeribitMarketWords())
    perpetual, future, linear, option = markets.instruments
    assert isinstance(perpetual, Perpetual)
    assert (perpetual.payoff, perpetual.contract_size, perpetual.lot_contracts) == (Payoff.INVERSE, 10.0, 1.0)
    assert (markets.lots_of(perpetual, -300.0), markets.amount_of(perpetual, 30)) == (-30, 300.0)
    assert isinstance(future, Future)
    assert future.expiry_ns == EXPIRY_MS * NS_PER_MS
    assert isinstance(linear, Perpetual)
    assert (linear.payoff, linear.lot_size, linear.min_lots) == (Payoff.LINEAR, 0.001, 10)
    assert markets.amount_of(linear, 10) == 0.01
    assert isinstance(option, Option)
    assert (option.settle, option.price_currency, option.strike_px, option.is_call) == ("ETH", "ETH", 1900.0, True)
    assert (option.payoff, option.lot_size) == (Payoff.INVERSE, 1.0)
    assert option.tick_schedule.ceil_ticks(0.0051) == 55  # of 0.0001: steps of 0.0005 from 0.005 upwards
    assert markets.unusable == {}


def test_other_venues_count_contracts() -> None:
    markets = markets_of(
        listing("swap", "ETHUSD_PERP", "ETH/USD:ETH", **sized(10.0, 1.0, 0.01)),
        listing("swap", "ETH-USDT-SWAP", "ETH/USDT:USDT", **sized(0.1, 0.01, 0.01)),
        listing("spot", "ETH-USDT", "ETH/USDT", **{**sized(1.0, 0.0001, 0.01), "contractSize": None}),
    )
    inverse, linear, spot = markets.instruments
    assert (inverse.lot_size, markets.amount_of(inverse, 7), inverse.lot_base(2000.0)) == (10.0, 7.0, 0.005)
    assert (linear.lot_size, markets.lots_of(linear, 1.0)) == (0.001, 100)
    assert isinstance(spot, Spot)
    assert (spot.settle, spot.price_currency, spot.lot_size) == ("USDT", "USDT", 0.0001)


def test_symbols_and_ids_lead_to_each_other() -> None:
    markets = markets_of(PERPETUAL, prefix="binance:")
    (perpetual,) = markets.instruments
    assert perpetual.instrument_id == "binance:ETHUSDT"
    assert markets.symbol_of("binance:ETHUSDT") == "ETH/USDT:USDT"
    assert markets.instrument_of("ETH/USDT:USDT") == perpetual == markets.get("binance:ETHUSDT")
    assert markets.instrument_of("SOL/USDT:USDT") is None
    assert markets.get("ETHUSDT") is None


def test_only_what_is_wanted_and_active_is_taken() -> None:
    markets = markets_of(
        listing("swap", "SOLUSDT", "SOL/USDT:USDT"),
        listing("swap", "ETHEUR", "ETH/EUR:EUR"),
        listing("swap", "BTCUSDT", "BTC/USDT:USDT", active=False),
        listing("index", "ETHX", "ETH/USDT:USDT"),
    )
    assert (markets.instruments, markets.unusable) == ((), {})


@pytest.mark.parametrize(
    ("market", "lacks"),
    [
        ({**PERPETUAL, "contractSize": None}, "expected its contract size, found none"),
        ({**PERPETUAL, "contractSize": float("nan")}, "expected its contract size, found none"),
        ({**PERPETUAL, "precision": {"amount": None, "price": 0.1}}, "expected its amount step, found none"),
        ({**PERPETUAL, "precision": {"amount": 0.1, "price": 0}}, "expected its tick, found none"),
        ({**PERPETUAL, "settle": "BTC", "linear": False, "inverse": False}, "expected its payoff, found none"),
        ({**PERPETUAL, "settle": None}, "expected its settlement currency, found none"),
        ({**PERPETUAL, "type": "future"}, "expected its expiry, found none"),
        ({**PERPETUAL, "type": "option", "expiry": EXPIRY_MS, "strike": 0.0}, "expected its strike, and whether it is"),
        (
            {**PERPETUAL, "type": "option", "settle": "ETH", "linear": False, "inverse": True},
            "expected its currency of its price, found none",
        ),
    ],
)
def test_what_lacks_a_needed_value_is_left_out_and_named(market: Listing, lacks: str) -> None:
    markets = markets_of(market)
    assert markets.instruments == ()
    assert markets.unusable["ETHUSDT"].startswith(lacks)


def test_precision_that_is_not_a_tick_is_not_guessed_at() -> None:
    markets = Markets("venue", COINS, MarketWords())
    markets.update([PERPETUAL], ccxt.DECIMAL_PLACES)
    assert "expected precision in ticks" in markets.unusable["ETHUSDT"]


def test_two_markets_of_one_id_are_both_left_out() -> None:
    spot = listing("spot", "ETHUSDT", "ETH/USDT")
    assert "two markets have this id" in markets_of(PERPETUAL, spot).unusable["ETHUSDT"]
    for words in (BinanceMarketWords(), BybitMarketWords()):
        assert [i.instrument_id for i in markets_of(PERPETUAL, spot, words=words).instruments] == [
            "ETHUSDT",
            "ETH/USDT",
        ]


def test_minimums_and_fees_are_the_venues_own() -> None:
    limits = {"amount": {"min": 0.0025}, "cost": {"min": 20.0}}
    (plain,) = markets_of({**PERPETUAL, "limits": limits}).instruments
    assert (plain.min_lots, plain.min_quote, plain.taker_bps, plain.maker_bps) == (3, 20.0, None, None)
    (told,) = markets_of({**PERPETUAL, "limits": {}}, words=DeribitMarketWords()).instruments
    assert (told.min_lots, told.min_quote, told.taker_bps, told.maker_bps) == (1, 0.0, 5.0, 0.0)


def test_a_reload_says_what_is_new_gone_or_changed() -> None:
    markets = markets_of(PERPETUAL, *DERIBIT, words=DeribitMarketWords())
    gone = [m for m in DERIBIT if m is not DERIBIT_LINEAR]
    fresh = listing("swap", "BTCUSDT", "BTC/USDT:USDT")
    bigger = {**PERPETUAL, "contractSize": 10.0}
    changes = markets.update([bigger, *gone, fresh])
    assert [i.instrument_id for i in changes.listed] == ["BTCUSDT"]
    reasons = dict(changes.delisted)
    assert set(reasons) == {"ETHUSDT", "ETH_USDC-PERPETUAL"}
    assert "contract_size was 1.0, is 10.0" in reasons["ETHUSDT"]
    assert "not list" in reasons["ETH_USDC-PERPETUAL"]
    # What is held in them is still known by its old terms, and a changed contract stays withdrawn.
    known = markets.get("ETHUSDT")
    assert known is not None
    assert known.contract_size == 1.0
    assert markets.symbol_of("ETH_USDC-PERPETUAL") == "ETH/USDC:USDC"
    assert markets.update([bigger, *gone, fresh]) == ((), ())
    changes = markets.update([bigger, *DERIBIT, fresh])
    assert [i.instrument_id for i in changes.listed] == ["ETH_USDC-PERPETUAL"]


def test_fees_and_minimums_may_change() -> None:
    markets = markets_of(PERPETUAL)
    assert markets.update([{**PERPETUAL, "limits": {"amount": {"min": 1.0}}}]) == ((), ())
    assert markets.instruments[0].min_lots == 1000


def test_every_venue_we_know_has_its_words_and_any_other_ccxts() -> None:
    assert isinstance(market_words_of("binanceusdm"), BinanceMarketWords)
    assert type(market_words_of("kraken")) is MarketWords
    assert {"deribit", "binanceusdm", "hyperliquid", "okx", "bybit", "derive"} <= set(ccxt.pro.exchanges)


STEPS = st.integers(0, 8).map(lambda places: float(f"1e-{places}")) | st.sampled_from([10.0, 100.0, 5.0, 0.05])
SIZES = st.sampled_from([1.0, 10.0, 100.0, 0.1, 0.01, 0.001, 0.0001, 5.0])


@given(step=STEPS, size=SIZES, lots=st.integers(-(10**6), 10**6), is_inverse=st.booleans(), is_deribit=st.booleans())
def test_notional_in_is_notional_out(
    step: float, size: float, lots: int, *, is_inverse: bool, is_deribit: bool
) -> None:
    symbol = "ETH/USD:ETH" if is_inverse else "ETH/USDC:USDC"
    words = DeribitMarketWords() if is_deribit else MarketWords()
    markets = markets_of(listing("swap", "X", symbol, **sized(size, step)), words=words)
    (instrument,) = markets.instruments
    amount = markets.amount_of(instrument, lots)
    assert markets.lots_of(instrument, amount) == lots
    # What ccxt makes of the amount on its way to the venue is the same number of lots.
    sent = float(decimal_to_precision(amount, TRUNCATE, step, TICK_SIZE))
    assert markets.lots_of(instrument, sent) == lots
    # A contract is `size` money or coins; Deribit counts those themselves, others count contracts.
    worth = amount if is_deribit else amount * size
    assert worth == pytest.approx(lots * instrument.lot_size, rel=1e-12)
    px = 1875.5
    worth_base = worth / px if is_inverse else worth
    assert markets.base_of(instrument, amount, px) == pytest.approx(worth_base, rel=1e-12)
    assert lots * instrument.lot_base(px) == pytest.approx(worth_base, rel=1e-12)
