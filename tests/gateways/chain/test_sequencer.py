"""The gate of a rollup: shut while its sequencer is down, and until it has been up for the grace."""

from __future__ import annotations

import pytest

from bot.domain.units import NS_PER_S
from bot.gateways.chain.abi import encode
from bot.gateways.chain.endpoints import to_block
from bot.gateways.chain.sequencer import SequencerGate
from bot.gateways.chain.settings import ChainSettings
from tests.chains.world import World
from tests.gateways.chain.nodes import header, read_now, settings_of

NOW_S = to_block(header(7)).timestamp_s
FEED = "0x" + 40 * "1"


def gate(grace_s: int = 3600) -> SequencerGate:
    return SequencerGate(
        ChainSettings(
            venue="base",
            chain_id=8453,
            coin="ETH",
            http_urls=(),
            sequencer_feed=FEED,
            sequencer_grace_ns=grace_s * NS_PER_S,
        )
    )


async def test_down_then_grace_then_open_on_a_real_feed(world: World) -> None:
    feed = world.feeds["sequencer"]
    watched = SequencerGate(settings_of(world, sequencer_feed=feed.address))
    assert watched.reason == "the sequencer's state is not known yet"
    assert watched.update(*read_now(world, watched.reads)) == ""
    down_s = world.anvil.timestamp_s + 10
    world.anvil.rpc("evm_setNextBlockTimestamp", down_s)
    feed.transact("set_round", 1, down_s, down_s)
    assert watched.update(*read_now(world, watched.reads)) == "sequencer down for 0 s"
    up_s = down_s + 500
    world.anvil.rpc("evm_setNextBlockTimestamp", up_s)
    feed.transact("set_round", 0, up_s, up_s)
    assert watched.update(*read_now(world, watched.reads)) == "sequencer up for 0 s, trusted in 3601 s"
    for later_s, reason in ((1, "sequencer up for 3600 s, trusted in 1 s"), (0, "")):
        world.anvil.rpc("evm_setNextBlockTimestamp", up_s + 3601 - later_s)
        world.anvil.mine()
        assert watched.update(*read_now(world, watched.reads)) == reason
    feed.transact("set_broken", True)
    assert watched.update(*read_now(world, watched.reads)) == "the sequencer's feed reverts"


@pytest.mark.parametrize(
    ("status", "since_s", "reason"),
    [
        (0, 0, "the sequencer's feed has no round yet"),
        (2, NOW_S - 9999, "expected the sequencer's feed to say 0 or 1, found 2"),
        (1, NOW_S - 60, "sequencer down for 60 s"),
        (0, NOW_S + 60, "sequencer up for 0 s, trusted in 3661 s"),
        (0, NOW_S - 3601, ""),
    ],
)
def test_what_the_feed_says_is_judged(status: int, since_s: int, reason: str) -> None:
    answer = encode("(uint80,int256,uint256,uint256,uint80)", 1, status, since_s, since_s, 1)
    assert gate().update(to_block(header(7)), [answer]) == reason


def test_an_answer_that_is_none_shuts_the_gate() -> None:
    assert gate().update(to_block(header(7)), [b""]).startswith("the sequencer's feed cannot be read")


def test_a_chain_without_a_feed_is_always_open() -> None:
    open_gate = SequencerGate(ChainSettings(venue="mainnet", chain_id=1, coin="ETH", http_urls=()))
    assert (open_gate.reads, open_gate.reason) == ((), "")
    assert open_gate.update(to_block(header(7)), []) == ""
