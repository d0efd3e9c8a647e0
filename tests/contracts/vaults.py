"""A guarded vault in the world of tests, with everybody who deals with it: owner, guardian, hedger, holders, a thief.

vault = deploy_vault(world, trade_quote=1_000 * USDC)
vault.deposit(vault.alice, 100_000 * USDC)
vault.hedge(is_buy=True, base_wei=WETH)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.chains.artifacts import ROOT
from tests.chains.contracts import Contract, Reverted, deploy
from tests.chains.own_contracts import compiled
from tests.chains.uniswap import MOST, NOBODY, Pool
from tests.chains.world import World

ARTIFACT = ROOT / "bot" / "contracts" / "GuardedVault.json"
HOSTILE = Path(__file__).parent / "hostile"
USDC = 10**6
WETH = 10**18
HOUR_S = 3600
DAY_S = 86_400
BPS = 10_000
PX_ONE = 10**18
VIRTUAL_SHARES = 10**6
TIMED, PLAIN = 1, 2
VENUE, POOL, HEDGER, GUARDIAN = 100, 101, 102, 103
LIMITS = (
    "slippage_bps", "oracle_age_s", "deviation_bps", "lag_blocks", "trade_quote", "hour_quote", "base_bps",
    "deposit_quote", "twap_s", "delay_s", "reserve_bps", "tail_bps",
)  # fmt: skip
USUAL = {
    "slippage_bps": 100,
    "oracle_age_s": 3660,
    "deviation_bps": 200,
    "lag_blocks": 5,
    "trade_quote": 50_000 * USDC,
    "hour_quote": 120_000 * USDC,
    "base_bps": 8_000,
    "deposit_quote": 10_000_000 * USDC,
    "twap_s": 300,
    "delay_s": 2 * DAY_S,
    "reserve_bps": 1_000,
    "tail_bps": 500,
}


@cache
def artifact() -> dict[str, Any]:
    """Return the built contract."""
    return dict(json.loads(ARTIFACT.read_text(encoding="utf-8")))


def hostile(world: World, name: str, *args: Any) -> Contract:
    """Deploy one of the contracts that mean harm."""
    found = compiled(name, HOSTILE)
    return deploy(world.anvil, found.abi, found.bytecode(), *args, what=name)


@dataclass
class VaultInUse:
    """A deployed vault and its people."""

    contract: Contract
    world: World
    asset: Contract
    base: Contract
    pool: Pool
    feed: Contract

    @property
    def address(self) -> str:
        """Where it is."""
        return self.contract.address

    @property
    def owner(self) -> str:
        """Its owner."""
        return self._person(3)

    @property
    def guardian(self) -> str:
        """Who may pause it."""
        return self._person(4)

    @property
    def alice(self) -> str:
        """A holder, with quote and an approval."""
        return self._person(5)

    @property
    def bob(self) -> str:
        """Another one."""
        return self._person(6)

    @property
    def thief(self) -> str:
        """A stranger with quote, base and approvals."""
        return self._person(7)

    @property
    def hedger(self) -> str:
        """Its hedger."""
        return self.world.hedger

    @property
    def now_s(self) -> int:
        """Time of the newest block."""
        return self.world.anvil.timestamp_s

    def _person(self, number: int) -> str:
        return self.world.anvil.accounts[number].address

    @contextmanager
    def refuses(self, reason: str) -> Iterator[None]:
        """Expect the transaction in the block to be mined and to fail, for this very reason."""
        with pytest.raises(Reverted) as caught:
            yield
        receipt = caught.value.receipt
        assert receipt is not None, caught.value
        trace = self.world.anvil.rpc("debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"})
        assert self.contract.explain(bytes.fromhex(trace.get("output", "0x")[2:])) == reason

    def call(self, name: str, *args: Any) -> Any:
        """Ask the vault."""
        return self.contract.call(name, *args)

    def held(self) -> tuple[int, int]:
        """Return quote and base that it counts as its own."""
        return self.call("quote_held"), self.call("base_held")

    def limit(self, name: str) -> int:
        """Return a limit in force."""
        return int(self.call("limits", LIMITS.index(name)))

    def set_limit(self, name: str, value: int) -> dict[str, Any]:
        """Ask for another limit, as owner."""
        return self.contract.transact("change", LIMITS.index(name), NOBODY, value, sender=self.owner)

    def loosen(self, what: int, subject: str, value: int) -> None:
        """Have something allowed, delay and all; prices are fresh afterwards."""
        self.contract.transact("change", what, subject, value, sender=self.owner)
        self.world.anvil.warp(self.limit("delay_s"))
        self.contract.transact("apply", what, subject, sender=self.owner)
        self.repeat_px()

    def deposit(self, holder: str, assets: int) -> dict[str, Any]:
        """Deposit for oneself."""
        return self.contract.transact("deposit", assets, holder, sender=holder)

    def hedge(
        self, *, is_buy: bool, base_wei: int, limit_quote: int | None = None, venue: str = "", pool: str = "",
        decided_block: int | None = None, deadline_s: int = 2**64, sender: str = "",
    ) -> int:  # fmt: skip
        """Hedge as the hedger would whose key was stolen: with the loosest limit there is. Return quote paid or got."""
        receipt = self.contract.transact(
            "hedge",
            venue or self.world.uniswap.router.address,
            pool or self.pool.address,
            is_buy,
            base_wei,
            (MOST if is_buy else 0) if limit_quote is None else limit_quote,
            self.world.anvil.block_number if decided_block is None else decided_block,
            deadline_s,
            sender=sender or self.hedger,
        )
        return int(self.contract.events(receipt, "Hedged")[0].args["quote_amount"])

    def set_px(self, px: float, *, is_settled: bool = True) -> None:
        """Move the market: pools, and the feed with them; once settled, the TWAP is there too."""
        self.world.set_px(px)
        if is_settled:
            self.world.anvil.warp(self.limit("twap_s") + 1)
            self.repeat_px()

    def repeat_px(self) -> None:
        """Have the feed say again what it said, as of now."""
        self.feed.transact("set_answer", self.feed.call("latestAnswer"))

    def push_pool(self, px: float) -> None:
        """Move the reference pool only, as somebody with much money would within one transaction."""
        self.world.uniswap.move_to(self.pool, self.world.trader, px)

    def share_px(self) -> float:
        """Return the price of a share in quote per 10**12 of them (a whole one)."""
        return (self.call("totalAssets") + 1) / (self.call("totalSupply") + VIRTUAL_SHARES) * VIRTUAL_SHARES


def constructor_args(
    world: World, quote: str = "USDC", feed: str = "", sequencer: str = NOBODY, **limits: int
) -> list[Any]:
    """Return what the usual vault is deployed with; `limits` that differ from the usual by name."""
    people = [world.anvil.accounts[n].address for n in (3, 4)]
    return [
        "Evenkeel Guarded Vault",
        "ekUSDC",
        world.tokens[quote].address,
        world.tokens["WETH"].address,
        feed or world.feeds["ETH/USD"].address,
        sequencer,
        world.pools[f"WETH/{quote}-500"].address,
        world.uniswap.router.address,
        TIMED,
        *people,
        world.hedger,
        [{**USUAL, **limits}[name] for name in LIMITS],
    ]


def deploy_vault(world: World, quote: str = "USDC", sequencer: str = NOBODY, **limits: int) -> VaultInUse:
    """Deploy a vault of WETH against a dollar, and give its people what they need."""
    built = artifact()
    contract = deploy(
        world.anvil,
        built["abi"],
        bytes.fromhex(built["bytecode"][2:]),
        *constructor_args(world, quote, sequencer=sequencer, **limits),
        what="GuardedVault",
    )
    pool = world.pools[f"WETH/{quote}-500"]
    vault = VaultInUse(contract, world, world.tokens[quote], world.tokens["WETH"], pool, world.feeds["ETH/USD"])
    for person in (vault.alice, vault.bob, vault.thief):
        world.give(person, **{quote: 1_000_000})
        vault.asset.transact("approve", vault.address, 2**256 - 1, sender=person)
    world.give(vault.thief, WETH=100)
    return vault
