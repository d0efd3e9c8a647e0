"""The executor of shorts on Aave: it trades for its caller alone, wholly or not at all, and keeps nothing.

What it does for a hedger in ordinary use is tested with the adapter (tests/gateways/chain/protocols/test_aave_v3.py).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from bot.gateways.chain.protocols.uniswap_v3 import encode_path
from bot.pricing.aave_v3 import WAD
from tests.chains.aave import EXECUTOR, MOST, Aave
from tests.chains.contracts import Contract, Reverted, deploy
from tests.chains.uniswap import NEVER, Pool
from tests.chains.world import World
from tests.contracts.vaults import hostile

ETH = 10**18
USD = 10**6


class Shorts:
    """The executor in use: a borrower with collateral who has granted it everything, and a thief."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.aave: Aave = world.part("aave")
        self.executor = self.aave.new_executor()
        self.borrower, self.thief = world.hedger, world.anvil.accounts[7].address
        self.weth, self.usdc = world.tokens["WETH"], world.tokens["USDC"]
        self.grant(self.borrower)

    def grant(self, owner: str, collateral: float = 60_000.0) -> None:
        self.aave.supply(owner, USDC=collateral)
        self.usdc.transact("approve", self.executor.address, MOST, sender=owner)
        self.aave.debt_token("WETH").transact("approveDelegation", self.executor.address, MOST, sender=owner)

    def sale(self, wei: int, *, quote: Contract | None = None, fee_pips: int = 500, **changed: Any) -> tuple[Any, ...]:
        quote = quote or self.usdc
        path = encode_path([self.weth.address, quote.address], [fee_pips])
        terms = {"least": 1, "path": path, "deadline": NEVER, "floor": WAD} | changed
        return self.weth.address, quote.address, wei, terms["least"], terms["path"], terms["deadline"], terms["floor"]

    def purchase(self, wei: int, most: int = 100_000 * USD) -> tuple[Any, ...]:
        path = encode_path([self.weth.address, self.usdc.address], [500])
        return self.weth.address, self.usdc.address, wei, most, path, NEVER

    def sell(self, wei: int, sender: str = "", **changed: Any) -> dict[str, Any]:
        return self.executor.transact("sell_borrowed", *self.sale(wei, **changed), sender=sender or self.borrower)

    def buy(self, wei: int, sender: str = "", most: int = 100_000 * USD) -> dict[str, Any]:
        return self.executor.transact("buy_and_repay", *self.purchase(wei, most), sender=sender or self.borrower)

    def owed(self, owner: str = "") -> int:
        return self.aave.debt(owner or self.borrower, "WETH")


@pytest.fixture
def shorts(full_world: World) -> Shorts:
    return Shorts(full_world)


def test_nobody_can_use_the_credit_or_the_money_of_somebody_else(shorts: Shorts) -> None:
    shorts.sell(2 * ETH)
    money, owed = shorts.world.balance(shorts.borrower, "USDC"), shorts.owed()
    with pytest.raises(Reverted, match="34"):  # the thief has no collateral, and there is no way to name the borrower
        shorts.sell(ETH, sender=shorts.thief)
    with pytest.raises(Reverted):
        shorts.buy(ETH, sender=shorts.thief)
    shorts.grant(shorts.thief)
    shorts.sell(ETH, sender=shorts.thief)
    shorts.world.give(shorts.thief, USDC=10_000)
    shorts.buy(ETH // 2, sender=shorts.thief, most=5_000 * USD)
    assert shorts.world.balance(shorts.borrower, "USDC") == money
    assert owed <= shorts.owed() < owed + ETH // 10**9
    assert ETH // 2 <= shorts.owed(shorts.thief) < ETH // 2 + ETH // 10**9


def test_what_is_sent_to_it_uninvited_neither_stops_it_nor_goes_anywhere(shorts: Shorts) -> None:
    shorts.world.give(shorts.executor.address, WETH=3, USDC=500)
    shorts.sell(2 * ETH)
    shorts.world.give(shorts.borrower, USDC=1_000)
    shorts.buy(ETH, most=4_000 * USD)
    assert shorts.world.balance(shorts.executor.address, "WETH") == 3 * ETH
    assert shorts.world.balance(shorts.executor.address, "USDC") == 500 * USD


def test_what_pools_do_not_take_is_not_left_behind(shorts: Shorts) -> None:
    thin = shorts.world.uniswap.create_pool(shorts.weth, shorts.usdc, 10_000, 3_000.0)
    shorts.world.uniswap.mint(
        thin, shorts.world.deployer, base_wei=ETH, quote_wei=3_000 * USD, low_px=2_900.0, high_px=3_100.0
    )
    with pytest.raises(Reverted, match="pools took less than offered"):
        shorts.sell(5 * ETH, fee_pips=10_000)
    assert shorts.owed() == 0
    assert shorts.world.balance(shorts.executor.address, "WETH") == 0


def test_a_purchase_of_more_than_the_debt_is_undone(shorts: Shorts) -> None:
    shorts.sell(ETH)
    shorts.world.give(shorts.borrower, USDC=10_000)
    before = shorts.world.balance(shorts.borrower, "USDC"), shorts.world.balance(shorts.borrower, "WETH")
    with pytest.raises(Reverted, match="debt is less than amount"):
        shorts.buy(2 * ETH, most=9_000 * USD)
    assert (shorts.world.balance(shorts.borrower, "USDC"), shorts.world.balance(shorts.borrower, "WETH")) == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"least": 0}, "no lower bound"),
        ({"least": 3_000 * USD}, "Too little received"),
        ({"deadline": 1}, "deadline is over"),
        ({"floor": 100 * WAD}, "health factor below floor"),
    ],
)
def test_every_bound_of_a_sale_holds(shorts: Shorts, changed: dict[str, int], words: str) -> None:
    with pytest.raises(Reverted, match=words):
        shorts.sell(ETH, **changed)
    assert shorts.owed() == 0


def test_nothing_can_be_started_from_within_a_trade(shorts: Shorts) -> None:
    evil, pool = evil_pool(shorts)
    account = evil.address  # the token itself is an honest borrower in every respect but when it trades
    shorts.world.give(account, USDC=60_000)
    debt_token = shorts.aave.debt_token("WETH")
    for contract, name, args in (
        (shorts.usdc, "approve", (shorts.aave.pool.address, MOST)),
        (shorts.aave.pool, "supply", (shorts.usdc.address, 60_000 * USD, account, 0)),
        (debt_token, "approveDelegation", (shorts.executor.address, MOST)),
    ):
        evil.transact("do", contract.address, contract.encode(name, *args))
    back = shorts.executor.encode("sell_borrowed", *shorts.sale(ETH))
    evil.transact("do", shorts.executor.address, back)
    assert shorts.owed(account) >= ETH  # from outside it works
    owed = shorts.owed(account)
    evil.transact("set_call_back", shorts.executor.address, back)
    shorts.sell(ETH, quote=evil, fee_pips=pool.fee_pips)
    assert evil.call("calls_back") > 0
    assert evil.call("did_back_call_work") is False
    assert owed <= shorts.owed(account) < owed + ETH // 10**9


def evil_pool(shorts: Shorts) -> tuple[Contract, Pool]:
    """Return a token that calls back when it moves, and a pool of WETH in it."""
    evil, maker = hostile(shorts.world, "token"), shorts.world.deployer
    pool = shorts.world.uniswap.create_pool(shorts.weth, evil, 3000, 3_000.0)
    evil.transact("mint", maker, 10**9 * USD)
    shorts.world.uniswap.approve(maker, [evil])
    shorts.world.uniswap.mint(pool, maker, base_wei=1_000 * ETH, quote_wei=3_000_000 * USD)
    return evil, pool


def test_tokens_that_answer_nothing_can_be_bought_with(shorts: Shorts) -> None:
    silent, maker = hostile(shorts.world, "silent_token"), shorts.world.deployer
    silent.transact("mint", maker, 10**9 * USD)
    pool = shorts.world.uniswap.create_pool(shorts.weth, silent, 3000, 3_000.0)
    shorts.world.uniswap.approve(maker, [silent])
    shorts.world.uniswap.mint(pool, maker, base_wei=1_000 * ETH, quote_wei=3_000_000 * USD)
    shorts.sell(ETH, quote=silent, fee_pips=3000)
    silent.transact("mint", shorts.borrower, 100 * USD)
    silent.transact("approve", shorts.executor.address, MOST, sender=shorts.borrower)
    path = encode_path([shorts.weth.address, silent.address], [3000])
    most = silent.call("balanceOf", shorts.borrower)
    shorts.executor.transact(
        "buy_and_repay", shorts.weth.address, silent.address, ETH, most, path, NEVER, sender=shorts.borrower
    )
    assert shorts.owed() < ETH // 10**9
    assert silent.call("allowance", shorts.executor.address, shorts.world.uniswap.router02.address) == 0


def test_it_is_deployed_with_contracts_only(shorts: Shorts) -> None:
    built = json.loads(EXECUTOR.read_text(encoding="utf-8"))
    code = bytes.fromhex(built["bytecode"].removeprefix("0x"))
    for pool, router, words in (
        (shorts.thief, shorts.executor.address, "pool is no contract"),
        (shorts.aave.pool.address, shorts.thief, "router is no contract"),
    ):
        with pytest.raises(Reverted, match=words):
            deploy(shorts.world.anvil, built["abi"], code, pool, router)
