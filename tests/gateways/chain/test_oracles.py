"""Feeds, confidences and averages: real contracts for what they say, made-up answers for what they must not."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from bot.domain.errors import ConfigError
from bot.domain.market import OraclePrice
from bot.domain.units import NS_PER_S
from bot.gateways.chain.abi import encode
from bot.gateways.chain.endpoints import to_block
from bot.gateways.chain.oracles import MAX_PYTH_AGE_NS, Oracle, Oracles, open_oracle
from bot.gateways.chain.settings import OracleSettings, TokenSettings
from tests.chains.world import PYTH_ETH, WETH_PX, World
from tests.gateways.chain.nodes import header, read_now, settings_of

RECV_NS = 17


def sources(world: World, **changes: Any) -> dict[str, OracleSettings]:
    """Return one source of each kind; `changes` go to all of them."""
    kinds: dict[str, dict[str, Any]] = {
        "feed": {"kind": "chainlink", "address": world.feeds["ETH/USD"].address},
        "pyth": {"kind": "pyth", "address": world.pyth.address, "feed_id": "0x" + PYTH_ETH.hex()},
        "usdc": {
            "kind": "twap",
            "address": world.pools["WETH/USDC-500"].address,
            "base": "WETH",
            "quote": "USDC",
        },
        "usdt": {
            "kind": "twap",
            "address": world.pools["WETH/USDT-500"].address,
            "base": "WETH",
            "quote": "USDT",
        },
    }
    return {name: OracleSettings(**{"underlying": "ETH", **kind, **changes}) for name, kind in kinds.items()}


def told_by(world: World, oracles: Oracles) -> dict[str, OraclePrice]:
    """Return what the sources say as of the newest block, by their own names."""
    block, answers = read_now(world, oracles.reads)
    return {event.source.split()[1]: event for event in oracles.update(block, answers, RECV_NS)}


async def test_every_kind_says_the_price_of_the_world(world: World) -> None:
    oracles = Oracles(settings_of(world, oracles=sources(world)))
    assert len(oracles.problems) == 4
    told = told_by(world, oracles)
    assert oracles.problems == ()
    feed, pyth = told["feed"], told["pyth"]
    assert (feed.source, feed.underlying, feed.px, feed.confidence_px) == (
        "chainlink feed on anvil",
        "ETH",
        3000.0,
        0.0,
    )
    assert feed.ts_event_ns == world.feeds["ETH/USD"].call("latestTimestamp") * NS_PER_S
    assert (feed.ts_recv_ns, feed.seq, feed.max_age_ns) == (RECV_NS, 1, 3660 * NS_PER_S)
    assert (pyth.px, pyth.confidence_px, pyth.max_age_ns) == (WETH_PX, 0.5, MAX_PYTH_AGE_NS)
    for name in ("usdc", "usdt"):  # in both orders of the tokens
        assert told[name].px == pytest.approx(WETH_PX, rel=1.01e-4)  # one tick, rounded down
        assert told[name].ts_event_ns == world.anvil.timestamp_s * NS_PER_S
    assert told_by(world, oracles)["feed"].seq == 2


async def test_an_average_goes_half_the_way_in_half_the_window(world: World) -> None:
    oracles = Oracles(settings_of(world, oracles=sources(world, window_s=600)))
    world.set_px(3300.0)
    world.anvil.warp(300)
    told = told_by(world, oracles)
    halfway_px = (3000.0 * 3300.0) ** 0.5  # a geometric mean
    assert told["usdc"].px == pytest.approx(halfway_px, rel=1e-3)
    assert told["usdt"].px == pytest.approx(halfway_px, rel=1e-3)


async def test_a_pool_of_other_tokens_is_not_believed(world: World) -> None:
    wrong = OracleSettings(
        kind="twap", underlying="ETH", address=world.pools["WETH/USDT-500"].address, base="WETH", quote="USDC"
    )
    oracles = Oracles(settings_of(world, oracles={"wrong": wrong}))
    assert told_by(world, oracles) == {}
    usdc, weth = world.tokens["USDC"].address, world.tokens["WETH"].address
    assert oracles.problems == (f"twap wrong on anvil: expected a pool with {usdc} as token0, found {weth}",)


async def test_a_pool_without_the_history_is_unusable(world: World) -> None:
    oracles = Oracles(settings_of(world, oracles=sources(world, window_s=10**7)))
    assert set(told_by(world, oracles)) == {"feed", "pyth"}
    assert oracles.problems == ("twap usdc on anvil: it reverts", "twap usdt on anvil: it reverts")


@pytest.mark.parametrize(
    ("answer", "age_s", "problem"),
    [
        (0, 0, "expected a positive answer, found 0"),
        (-5 * 10**8, 0, "expected a positive answer, found -500000000"),
        (3000 * 10**8, 3661, "expected a price at most 3660 s old, found one 3661 s old"),
        (3000 * 10**8, -10, "expected an age, found a price 10 s ahead of the block"),
        (100 * 10**8, 0, "expected a price between 100 and 10000, found 100"),
        (10_000 * 10**8, 0, "expected a price between 100 and 10000, found 10000"),
    ],
)
async def test_a_bad_answer_is_withdrawn_once_and_named(world: World, answer: int, age_s: int, problem: str) -> None:
    settings = {"feed": sources(world, low_px=100.0, high_px=10_000.0)["feed"]}
    oracles = Oracles(settings_of(world, oracles=settings))
    assert told_by(world, oracles)["feed"].px == WETH_PX
    now_s = world.anvil.timestamp_s + 100
    world.anvil.rpc("evm_setNextBlockTimestamp", now_s)
    world.feeds["ETH/USD"].transact("set_round", answer, now_s - age_s, now_s - age_s)
    withdrawn = told_by(world, oracles)["feed"]
    assert (withdrawn.px, withdrawn.seq, withdrawn.ts_event_ns) == (0.0, 2, now_s * NS_PER_S)
    assert oracles.problems == (f"chainlink feed on anvil: {problem}",)
    assert told_by(world, oracles) == {}
    world.feeds["ETH/USD"].transact("set_answer", 3100 * 10**8)
    assert told_by(world, oracles)["feed"].px == 3100.0
    assert oracles.problems == ()


async def test_a_frozen_feed_is_good_to_the_second_its_age_allows(world: World) -> None:
    oracles = Oracles(settings_of(world, oracles={"feed": sources(world)["feed"]}))
    updated_s = world.feeds["ETH/USD"].call("latestTimestamp")
    for age_s, is_good in ((3660, True), (3661, False)):
        world.anvil.rpc("evm_setNextBlockTimestamp", updated_s + age_s)
        world.anvil.mine()
        told_by(world, oracles)
        assert (oracles.problems == ()) is is_good


async def test_a_broken_feed_reverts_and_is_named(world: World) -> None:
    oracles = Oracles(settings_of(world, oracles={"feed": sources(world)["feed"]}))
    world.feeds["ETH/USD"].transact("set_broken", True)
    assert told_by(world, oracles) == {}
    assert oracles.problems == ("chainlink feed on anvil: it reverts",)


@pytest.mark.parametrize(
    ("conf", "age_s", "problem"),
    [
        (30.0, 0, ""),
        (30.1, 0, "expected a confidence within 1.0% of the price, found 1.0%"),
        (0.5, 60, ""),
        (0.5, 61, "expected a price at most 60 s old, found one 61 s old"),
    ],
)
async def test_a_pyth_price_must_be_sharp_and_fresh(world: World, conf: float, age_s: int, problem: str) -> None:
    oracles = Oracles(settings_of(world, oracles={"pyth": sources(world)["pyth"]}))
    now_s = world.anvil.timestamp_s + 100
    world.anvil.rpc("evm_setNextBlockTimestamp", now_s)
    world.pyth.transact("set_price", PYTH_ETH, 3000 * 10**8, round(conf * 10**8), -8, now_s - age_s)
    told = told_by(world, oracles)
    assert oracles.problems == ((f"pyth pyth on anvil: {problem}",) if problem else ())
    assert [event.confidence_px for event in told.values()] == ([] if problem else [conf])


@pytest.mark.parametrize(
    ("price", "exponent", "problem"),
    [
        (0, -8, "expected a positive price"),
        (-1, -8, "expected a positive price"),
        (1, 41, "expected a price, found 1 ×"),
    ],
)
async def test_a_pyth_price_that_is_none(world: World, price: int, exponent: int, problem: str) -> None:
    oracles = Oracles(settings_of(world, oracles={"pyth": sources(world)["pyth"]}))
    world.pyth.transact("set_price", PYTH_ETH, price, 0, exponent, world.anvil.timestamp_s)
    assert told_by(world, oracles) == {}
    assert problem in oracles.problems[0]
    world.pyth.transact("set_price", PYTH_ETH, 3, 0, 3, world.anvil.timestamp_s)
    assert told_by(world, oracles)["pyth"].px == 3000.0


def judged(oracle: Oracle, *answers: bytes) -> str:
    """Return what is wrong with made-up answers."""
    assert oracle.update(to_block(header(7)), answers, RECV_NS) is None
    return oracle.problem


TOKENS = {
    symbol: TokenSettings(symbol=symbol, address="0x" + 40 * digit, decimals=18, underlying="")
    for symbol, digit in (("A", "1"), ("B", "2"))
}


def test_answers_no_contract_of_the_kind_gives() -> None:
    feed = open_oracle("x", "c", OracleSettings(kind="chainlink", underlying="ETH", address="0x" + 40 * "1"), {})
    types = "(uint80,int256,uint256,uint256,uint80)"
    assert "finished round" in judged(feed, encode(types, 1, 5, 0, 0, 1), encode("(uint8)", 8))
    assert "expected a price, found 5 ×" in judged(feed, encode(types, 1, 5, 9, 9, 1), encode("(uint8)", 200))
    assert "expected at least" in judged(feed, b"", b"")
    twap = open_oracle(
        "x", "c", OracleSettings(kind="twap", underlying="ETH", address="0x" + 40 * "1", base="A", quote="B"), TOKENS
    )
    token0 = encode("(address)", "0x" + 40 * "1")
    assert "expected a tick" in judged(twap, encode("(int56[],uint160[])", [0, 887_273 * 1800], [0, 0]), token0)
    assert "expected two observations" in judged(twap, encode("(int56[],uint160[])", [0], [0]), token0)


def test_settings_that_lack_something_are_refused_before_anything_is_read() -> None:
    def made(**fields: Any) -> OracleSettings:
        return OracleSettings(**{"underlying": "ETH", "address": "0x" + 40 * "1", **fields})

    for settings, said in (
        (made(kind="guess"), "oracle x of c: expected a kind chainlink, pyth or twap, found 'guess'"),
        (made(kind="pyth", feed_id="0x12"), "expected a feed_id of 32 bytes, found '0x12'"),
        (made(kind="pyth", feed_id="zz"), "expected a feed_id of 32 bytes, found 'zz'"),
        (made(kind="twap", base="A", quote="C"), r"unknown tokens \['C'\]"),
        (made(kind="twap", base="A", quote="B", window_s=0), "window_s 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            open_oracle("x", "c", settings, TOKENS)
    assert made(kind="chainlink").high_px == inf
