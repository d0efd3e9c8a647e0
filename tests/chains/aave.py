"""Aave v3 as published, on the world's tokens and feeds: WETH, USDC, WBTC and wstETH can be supplied and borrowed.

    aave = full_world.part("aave")
    aave.supply(owner, USDC=60_000)
    aave.debt(owner, "WETH"), aave.health_factor(owner)

The deployer has supplied plenty of each. wstETH has a feed of its own, which `World.set_px` does not move.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chains.artifacts import artifact
from tests.chains.contracts import Contract, deploy
from tests.chains.own_contracts import compiled

if TYPE_CHECKING:
    from tests.chains.world import World

CORE = "@aave/core-v3"
NOBODY = "0x" + 40 * "0"
MOST = 2**256 - 1
RAY = 10**27
WAD = 10**18
PRICE_UNIT = 10**8
VARIABLE = 2
WSTETH_PX = 3600
RESERVE_FACTOR_BPS = 1_000
LIBRARIES = (
    "SupplyLogic",
    "BorrowLogic",
    "LiquidationLogic",
    "EModeLogic",
    "BridgeLogic",
    "PoolLogic",
    "ConfiguratorLogic",
)
EXECUTOR = Path(__file__).resolve().parents[2] / "bot" / "contracts" / "AaveShort.json"

# Loan to value, liquidation threshold and liquidation's price in basis points, and what the deployer supplies.
RESERVES = {
    "WETH": (8_000, 8_250, 10_500, 50_000),
    "USDC": (8_000, 8_500, 10_450, 100_000_000),
    "WBTC": (7_300, 7_800, 10_500, 1_000),
    "wstETH": (7_850, 8_100, 10_600, 10_000),
}
FEEDS = {"WETH": "ETH/USD", "USDC": "USDC/USD", "WBTC": "BTC/USD"}

# How much is charged for loans: nothing at no use, 4 % a year at 80 % use, 79 % at full use. In rays.
RATES = (
    8 * RAY // 10, 0, 4 * RAY // 100, 75 * RAY // 100, RAY // 200, 75 * RAY // 100, RAY // 100, 8 * RAY // 100,
    RAY // 5,
)  # fmt: skip


@dataclass(frozen=True)
class Aave:
    """The deployed protocol."""

    world: World
    pool: Contract
    configurator: Contract
    data_provider: Contract
    oracle: Contract
    wsteth_feed: Contract

    def supply(self, owner: str, **amounts: float) -> None:
        """Give an owner whole tokens and have them supplied as collateral: `supply(owner, USDC=60_000)`."""
        for symbol, amount in amounts.items():
            token = self.world.tokens[symbol]
            before = self.world.balance(owner, symbol)
            self.world.give(owner, **{symbol: amount})
            token.transact("approve", self.pool.address, MOST, sender=owner)
            given = self.world.balance(owner, symbol) - before
            self.pool.transact("supply", token.address, given, owner, 0, sender=owner)

    def borrow(self, owner: str, symbol: str, wei: int) -> None:
        """Borrow for an owner at the variable rate."""
        self.pool.transact("borrow", self.world.tokens[symbol].address, wei, VARIABLE, 0, owner, sender=owner)

    def debt_token(self, symbol: str) -> Contract:
        """Return the token that counts variable debts."""
        addresses = self.data_provider.call("getReserveTokensAddresses", self.world.tokens[symbol].address)
        return Contract(self.pool.rpc, addresses[2], artifact(CORE, "VariableDebtToken").abi)

    def debt(self, owner: str, symbol: str) -> int:
        """Return an owner's variable debt with interest as of the newest block."""
        return int(self.debt_token(symbol).call("balanceOf", owner))

    def account(self, owner: str) -> Any:
        """Return collateral, debt, left to borrow (in dollars with 8 decimals), threshold, loan to value, health."""
        return self.pool.call("getUserAccountData", owner)

    def health_factor(self, owner: str) -> float:
        """Return an owner's health factor as of the newest block."""
        return float(self.account(owner).healthFactor / WAD)

    def new_executor(self) -> Contract:
        """Deploy the contract that hedges by borrowing and selling, from what is built of it."""
        built = json.loads(EXECUTOR.read_text(encoding="utf-8"))
        code = bytes.fromhex(built["bytecode"].removeprefix("0x"))
        return deploy(self.pool.rpc, built["abi"], code, self.pool.address, self.world.uniswap.router02.address)


def build(world: World) -> dict[str, str]:
    """Deploy everything, list the reserves, and supply them."""
    anvil, me = world.anvil, world.deployer

    def new(name: str, *args: Any, libraries: dict[str, str] | None = None) -> Contract:
        found = artifact(CORE, name)
        return deploy(anvil, found.abi, found.bytecode(libraries), *args, what=name)

    libraries = {name: new(f"logic/{name}.sol/{name}").address for name in LIBRARIES}
    libraries["FlashLoanLogic"] = new("FlashLoanLogic", libraries=libraries).address
    provider = new("PoolAddressesProvider", "Evenkeel's tests", me)
    provider.transact("setACLAdmin", me)
    access = new("ACLManager", provider.address)
    provider.transact("setACLManager", access.address)
    access.transact("addPoolAdmin", me)

    feed = compiled("aggregator")
    wsteth_feed = deploy(anvil, feed.abi, feed.bytecode(), "wstETH / USD", 8, WSTETH_PX * PRICE_UNIT)
    feeds = {symbol: world.feeds[name].address for symbol, name in FEEDS.items()} | {"wstETH": wsteth_feed.address}
    assets = [world.tokens[symbol].address for symbol in RESERVES]
    sources = [feeds[symbol] for symbol in RESERVES]
    oracle = new("AaveOracle", provider.address, assets, sources, NOBODY, NOBODY, PRICE_UNIT)
    provider.transact("setPriceOracle", oracle.address)
    data_provider = new("AaveProtocolDataProvider", provider.address)
    provider.transact("setPoolDataProvider", data_provider.address)
    provider.transact("setPoolImpl", new("pool/Pool.sol/Pool", provider.address, libraries=libraries).address)
    provider.transact("setPoolConfiguratorImpl", new("PoolConfigurator", libraries=libraries).address)
    pool = Contract(anvil, provider.call("getPool"), artifact(CORE, "pool/Pool.sol/Pool").abi)
    configurator = Contract(anvil, provider.call("getPoolConfigurator"), artifact(CORE, "PoolConfigurator").abi)

    implementations = [
        new(f"{name}.sol/{name}", pool.address).address for name in ("AToken", "StableDebtToken", "VariableDebtToken")
    ]
    strategy = new("DefaultReserveInterestRateStrategy", provider.address, *RATES)
    configurator.transact(
        "initReserves",
        [
            (
                *implementations, world.tokens[symbol].call("decimals"), strategy.address, world.tokens[symbol].address,
                me, NOBODY, f"Aave {symbol}", f"a{symbol}", f"Aave debt {symbol}", f"d{symbol}",
                f"Aave stable debt {symbol}", f"s{symbol}", b"",
            )
            for symbol in RESERVES
        ],
    )  # fmt: skip
    for symbol, (loan_to_value, threshold, bonus, _) in RESERVES.items():
        token = world.tokens[symbol].address
        configurator.transact("configureReserveAsCollateral", token, loan_to_value, threshold, bonus)
        configurator.transact("setReserveBorrowing", token, True)
        configurator.transact("setReserveFactor", token, RESERVE_FACTOR_BPS)
    addresses = {
        "pool": pool.address, "configurator": configurator.address, "data_provider": data_provider.address,
        "oracle": oracle.address, "wsteth_feed": wsteth_feed.address,
    }  # fmt: skip
    open_part(world, addresses).supply(me, **{symbol: terms[3] for symbol, terms in RESERVES.items()})
    return addresses


def open_part(world: World, addresses: dict[str, str]) -> Aave:
    """Return the protocol that was deployed at these addresses."""
    artifacts = {
        "pool": "pool/Pool.sol/Pool",
        "configurator": "PoolConfigurator",
        "data_provider": "AaveProtocolDataProvider",
        "oracle": "AaveOracle",
    }
    contracts = {
        role: Contract(world.anvil, addresses[role], artifact(CORE, name).abi) for role, name in artifacts.items()
    }
    feed = Contract(world.anvil, addresses["wsteth_feed"], compiled("aggregator").abi)
    return Aave(world, **contracts, wsteth_feed=feed)
