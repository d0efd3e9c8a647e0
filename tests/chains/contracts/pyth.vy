# pragma version ~=0.4.3
"""
@title Prices with a confidence, as Pyth shapes them, that are whatever somebody sets
"""

struct Price:
    price: int64
    conf: uint64
    expo: int32
    publishTime: uint256


prices: HashMap[bytes32, Price]


@external
@view
def priceFeedExists(feed_id: bytes32) -> bool:
    return self.prices[feed_id].publishTime != 0


@external
@view
def getPriceUnsafe(feed_id: bytes32) -> Price:
    assert self.prices[feed_id].publishTime != 0, "PriceFeedNotFound"
    return self.prices[feed_id]


@external
@view
def getPriceNoOlderThan(feed_id: bytes32, age: uint256) -> Price:
    price: Price = self.prices[feed_id]
    assert price.publishTime != 0, "PriceFeedNotFound"
    assert price.publishTime + age >= block.timestamp, "StalePrice"
    return price


@external
def set_price(feed_id: bytes32, price: int64, conf: uint64, expo: int32, published_at: uint256):
    self.prices[feed_id] = Price(price=price, conf=conf, expo=expo, publishTime=published_at)
