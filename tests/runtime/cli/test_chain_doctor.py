"""The doctor on chains with the real contracts: what is right is said so, and each fault with what mends it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bot.domain.units import NS_PER_S
from bot.gateways.chain.transaction_log import TransactionLog, log_path
from bot.runtime.cli.chain_doctor import examine_chains
from bot.runtime.cli.doctor import Finding
from bot.runtime.configuration.config import load_vaults
from bot.runtime.live.clock import WallClock
from tests.acceptance.chain_vaults import ChainVault
from tests.chains.world import AGE_S, World
from tests.gateways.chain.nodes import scripted
from tests.gateways.chain.protocols.aave_stage import aave_section

SECRET = "q7Zk3vXw9LmT2bRd8sYh"
SWAP = "local hedge WETH-USDC"


class LateClock:
    """A clock that is ten minutes ahead of the chain's."""

    def now_ns(self) -> int:
        return time.time_ns() + 600 * NS_PER_S


async def examined(chain: ChainVault, clock: Any = None, **environ: str) -> dict[str, list[Finding]]:
    """Return what the doctor finds, by subject."""
    (vault,) = load_vaults([chain.path], allow_live=True)
    found: dict[str, list[Finding]] = {}
    for one in await examine_chains(vault, {**chain.environ, **environ}, clock or WallClock()):
        assert SECRET not in one.subject + one.detail
        found.setdefault(one.subject, []).append(one)
    return found


def problems(found: dict[str, list[Finding]]) -> dict[str, str]:
    return {subject: one.detail for subject, these in found.items() for one in these if one.is_ok is False}


def paper(chain: ChainVault) -> None:
    chain.path.write_text(chain.path.read_text().replace("mode: live", "mode: paper"))


async def test_a_chain_in_order_has_no_problem_and_is_left_as_it_was(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path)
    chain.grant(world.uniswap.router.address)
    world.give(world.hedger, WETH=10, USDC=30_000)
    world.give(chain.holder, WETH=3)
    head = world.anvil.block_number
    found = await examined(chain)
    assert problems(found) == {}
    assert world.anvil.block_number == head
    assert not list(tmp_path.glob("*.sqlite*"))
    [node] = found[f"local node {world.anvil.http_url}"]
    assert node.detail == f"chain id 31337, at block {head}"
    assert found["local heads"][0].detail == f"pushed by {world.anvil.ws_url}"
    assert found["local head"][0].detail.startswith(f"block {head}, ")
    assert found["local contracts"][0].detail == "code at 10 of 10"
    assert found["local wallet"][0].detail == f"the keystore holds the key of {world.hedger}"
    assert found["local wallet holds"][0].detail == "10 WETH, 30,000 USDC, 0 wstETH"
    assert found["local oracle chainlink link"][0].detail.startswith("ETH at 3,000, ")
    assert " ± 0.5, " in found["local oracle pyth pyth"][0].detail
    [price] = found[SWAP]
    assert price.detail.startswith("sells at 2,998.50, buys at 3,001.50 (10.0 bps with fees), up to 10 and ")
    assert found[f"{SWAP} may use WETH"][0].detail.startswith("unlimited granted")
    assert "lasts for" in found["local gas money"][0].detail
    assert [one.detail for one in found[f"local position WETH of {chain.holder}"]] == ["3 ETH"]
    assert found["local agreement"][0].is_ok is None


async def test_nodes_are_masked_and_each_is_judged(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path)

    async def of_another_chain(_method: str, _params: list[Any]) -> Any:
        return "0x7"

    async with scripted(of_another_chain, f"/v2/{SECRET}") as node:
        host = node.url.removesuffix(f"/v2/{SECRET}")
        urls = f"{world.anvil.http_url},{node.url},http://127.0.0.1:1/{SECRET}"
        found = problems(await examined(chain, EVENKEEL_LOCAL_RPC=urls, EVENKEEL_LOCAL_WS=f"ws://127.0.0.1:1/{SECRET}"))
        assert found[f"local node {host}/***"] == "expected chain 31337, found 7"
        assert "local node http://127.0.0.1:1/***" in found
        assert found["local heads"].startswith("expected pushed by ws://127.0.0.1:1/***, found no answer (")
        alone = await examined(chain, EVENKEEL_LOCAL_RPC=node.url, EVENKEEL_LOCAL_WS="")
        assert set(problems(alone)) == {f"local node {host}/***"}
        assert "local wallet" in alone  # the key is examined without a chain too


async def test_two_nodes_that_agree_are_said_to(world: World, tmp_path: Path) -> None:
    url = world.anvil.http_url
    found = await examined(ChainVault(world, tmp_path), EVENKEEL_LOCAL_RPC=f"{url},{url}")
    assert found["local agreement"][0].is_ok
    assert f"local node {url} #2" in found


async def test_what_is_stale_is_a_problem(world: World, tmp_path: Path) -> None:
    world.set_pyth(3000.0, age_s=100)
    world.feeds["sequencer"].transact("set_round", 1, world.anvil.timestamp_s - 50, world.anvil.timestamp_s)
    feed = world.feeds["sequencer"].address
    chain = ChainVault(world, tmp_path, changes={"    block_s:": f'    sequencer_feed: "{feed}"\n    block_s:'})
    found = problems(await examined(chain, LateClock()))
    assert found["local head"].endswith("hint: is the node in step, and this machine's clock right?")
    assert found["local oracle pyth pyth"].startswith("expected a price at most 60 s old, found one 10")
    assert found["local sequencer"].startswith("sequencer down for 5")
    world.feeds["sequencer"].transact("set_round", 0, world.anvil.timestamp_s - AGE_S, world.anvil.timestamp_s)
    assert "local sequencer" not in problems(await examined(chain))


async def test_a_contract_that_is_none_is_named(world: World, tmp_path: Path) -> None:
    nobody = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    chain = ChainVault(world, tmp_path, changes={f'router: "{world.uniswap.router.address}"': f'router: "{nobody}"'})
    found = problems(await examined(chain))
    hint = "hint: is the address of another chain?"
    assert found["local contract WETH-USDC router"] == f"expected code at {nobody}, found none; {hint}"
    assert found["local contracts"] == "code at 9 of 10"


async def test_a_router_of_the_other_kind_is_told(world: World, tmp_path: Path) -> None:
    second = world.uniswap.router02.address
    chain = ChainVault(world, tmp_path, contracts={"router": second})
    expected = f"expected the router to be v3-periphery's SwapRouter, found SwapRouter02 at {second}"
    assert problems(await examined(chain))[SWAP] == f"{expected}; hint: docs/chains.md"


async def test_without_multicall_nothing_is_read(world: World, tmp_path: Path) -> None:
    nobody = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    chain = ChainVault(world, tmp_path, changes={"    block_s:": f'    multicall: "{nobody}"\n    block_s:'})
    found = await examined(chain)
    assert set(problems(found)) == {"local contract multicall", "local contracts"}
    assert found["local reading"][0].is_ok is None


async def test_what_the_key_lacks_is_told_with_the_call_that_mends_it(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path)
    world.tokens["USDC"].transact("approve", world.uniswap.router.address, 999_999 * 10**6, sender=world.hedger)
    world.anvil.set_balance(world.hedger, 5 * 10**15)
    found = problems(await examined(chain))
    weth, usdc = found[f"{SWAP} may use WETH"], found[f"{SWAP} may use USDC"]
    assert "for one order, found 0 WETH" in weth
    call = f"approve({world.uniswap.router.address.lower()}, unlimited) of {world.tokens['WETH'].address}"
    assert weth.endswith(f"hint: evenkeel tx approve, or by hand {call}")
    assert "expected 1,000,000 USDC or more for one order, found 999,999 USDC" in usdc
    assert "found 0.005 ETH, of it 0.01 reserve" in found["local gas money"]
    assert found["local gas money"].endswith(f"hint: send ETH to {world.hedger}")


async def test_gas_that_is_too_dear_is_told(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path, changes={"max_fee_gwei: 100": "max_fee_gwei: 0.000001"})
    assert problems(await examined(chain))["local fees"].startswith("expected at most 1e-06 gwei, found ")


async def test_a_key_that_does_not_open_is_told_and_its_password_never(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path)
    wrong = await examined(chain, EVENKEEL_LOCAL_PASSWORD=SECRET)
    assert "opens with the password, found that it does not" in problems(wrong)["local wallet"]
    chain.environ = {}
    assert "EVENKEEL_LOCAL_PASSWORD" in problems(await examined(chain))["local wallet"]
    (tmp_path / "hedger.json").chmod(0o644)
    found = await examined(chain, EVENKEEL_LOCAL_PASSWORD="correct horse")
    assert "found mode 0644; hint: chmod 600" in problems(found)["local wallet"]


async def test_paper_needs_no_key_and_judges_no_permission(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path)
    paper(chain)
    chain.environ = {}
    found = await examined(chain)
    assert problems(found) == {}
    assert found["local wallet"][0].detail == "no key needed for paper, and none loaded"
    assert "local gas money" not in found
    assert found[f"{SWAP} may use WETH"][0].is_ok is None


async def test_an_owned_log_and_a_stranger_with_the_key_are_told(world: World, tmp_path: Path) -> None:
    chain = ChainVault(world, tmp_path)
    path = log_path(tmp_path, 31337, world.hedger)
    with TransactionLog.open(path, for_writing=True):
        [found] = (await examined(chain))["local transactions"]
        assert (found.detail, found.is_ok) == ("0 under way; a running daemon has the key", True)
    [found] = (await examined(chain))["local transactions"]
    assert found.detail == "0 under way; no daemon runs"
    world.anvil.rpc("evm_setAutomine", False)
    try:
        world.anvil.rpc("eth_sendTransaction", {"from": world.hedger, "to": world.trader, "value": "0x1"})
        [found] = (await examined(chain))["local transactions"]
    finally:
        world.anvil.rpc("evm_setAutomine", True)
    assert found.is_ok is False
    assert "the node knows 1 more of this key" in found.detail
    path.write_bytes(b"no database")
    assert not (await examined(chain))["local transactions"][0].is_ok


DEBT = """\
      WETH-DEBT:
        protocol: aave_v3
        underlying: ETH
        base: WETH
        quote: USDC
        route: [weth-usdc]
        contracts: {{pool: "{pool}", executor: "{executor}", router: "{router02}"}}
"""
PERP = """\
      ETH-PERP:
        protocol: perp_v2
        underlying: ETH
        quote: USDC
        contracts: {{clearing_house: "{clearing_house}", base_token: "{base_token}"}}
"""


async def test_a_short_on_aave_needs_its_executor_credit_and_money(full_world: World, tmp_path: Path) -> None:
    aave = full_world.part("aave")
    executor = aave.new_executor()
    contracts = aave_section(full_world, executor).contracts
    known = {"pool": contracts["pool"], "executor": executor.address, "router02": contracts["router"]}
    chain = ChainVault(full_world, tmp_path, hedges=DEBT, hedge="WETH-DEBT", contracts=known)
    aave.supply(full_world.hedger, USDC=60_000)
    found = await examined(chain)
    subject = "local hedge WETH-DEBT"
    assert set(problems(found)) == {f"{subject} may use USDC", f"{subject} may use WETH"}
    assert "by hand approveDelegation(" in problems(found)[f"{subject} may use WETH"]
    assert "the executor trades with the vault's pool and router" in [one.detail for one in found[subject]]
    wrong = {**known, "router02": full_world.uniswap.router.address}
    (folder := tmp_path / "other").mkdir()
    other = ChainVault(full_world, folder, hedges=DEBT, hedge="WETH-DEBT", contracts=wrong)
    assert "expected the executor" in problems(await examined(other))[subject]


async def test_a_perpetual_needs_margin(full_world: World, tmp_path: Path) -> None:
    perp = full_world.part("perp")
    known = {"clearing_house": perp.clearing_house.address, "base_token": perp.base.address}
    chain = ChainVault(full_world, tmp_path, hedges=PERP, hedge="ETH-PERP", contracts=known)
    found = problems(await examined(chain))["local hedge ETH-PERP"]
    assert found == "expected free margin, found 0.00; hint: deposit margin into the perpetual's vault"
    perp.deposit(full_world.hedger, 5_000)
    told = (await examined(chain))["local hedge ETH-PERP"]
    assert "5,000.00 of margin is free" in [one.detail for one in told if one.is_ok]
