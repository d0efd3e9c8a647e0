"""The world's feeds against Chainlink's own mock, compiled from its sources: both answer alike."""

from __future__ import annotations

import pytest

from tests.chains.chainlink import mock_aggregator, solidity
from tests.chains.contracts import deploy
from tests.chains.world import World

READERS = ("decimals", "latestAnswer", "latestTimestamp", "latestRound", "latestRoundData")


def test_a_feed_of_the_world_answers_as_chainlinks_mock_does(world: World) -> None:
    published = mock_aggregator()
    mock = deploy(world.anvil, published.abi, published.bytecode(), 8, 1)
    feed = world.feeds["ETH/USD"]
    rounds = feed.call("latestRound")
    while mock.call("latestRound") < rounds:
        mock.transact("updateAnswer", 2_999 * 10**8)
    told_at = world.anvil.timestamp_s + 10
    mock.transact("updateRoundData", rounds + 1, 3_100 * 10**8, told_at, told_at - 5)
    feed.transact("set_round", 3_100 * 10**8, told_at - 5, told_at)
    assert feed.call("latestRoundData")[1] == 3_100 * 10**8
    for name in READERS:
        assert tuple_of(feed.call(name)) == tuple_of(mock.call(name)), name
    assert tuple_of(feed.call("getRoundData", rounds + 1)) == tuple_of(mock.call("getRoundData", rounds + 1))


def test_what_does_not_compile_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"broken\.sol:1"):
        solidity({"broken.sol": "contract Broken { uint x = ; }"})


def tuple_of(answer: object) -> tuple[object, ...]:
    return tuple(answer) if isinstance(answer, tuple) else (answer,)
