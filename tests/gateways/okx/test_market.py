"""OKX's words: contracts are value times multiplier."""

from __future__ import annotations

from bot.gateways.markets import Markets, market_words_of
from tests.gateways.listings import Listing, listing, sized


def test_an_option_is_a_hundredth_of_a_coin_whatever_ccxt_says() -> None:
    raw = {"ctVal": "1", "ctMult": "0.01"}
    option: Listing = listing(
        "option", "BTC-USD-230428-19000-C", "BTC/USD:BTC-230428-19000-C", **sized(1.0, 1.0, 0.0005)
    )
    markets = Markets("okx", frozenset({"BTC"}), market_words_of("okx"))
    markets.update([{**option, "info": raw}])
    assert (markets.instruments[0].contract_size, markets.instruments[0].price_currency) == (0.01, "BTC")
    markets.update([{**option, "info": {"ctVal": "1", "ctMult": ""}}])
    assert markets.unusable == {"BTC-USD-230428-19000-C": "expected its contract size, found none"}
