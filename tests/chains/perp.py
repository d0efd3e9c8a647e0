"""Perpetual Protocol v2 as published, with a market of virtual ETH on the world's feed, deep enough to trade 100 ETH.

    perp = full_world.part("perp")
    perp.deposit(owner, 100_000)
    perp.open(owner, -10 * 10**18)

Traps, all minded here: the base token's address must be below the quote token's; both tokens are minted to the clearing
house and its pool is on their whitelists before the market is added; trading is paused until
`setMaxTickCrossedWithinBlock`; averages over half an hour are asked for, so that time must have passed and the pool
must keep more than one observation; and where the feed fell more than 15 minutes ago and nobody has traded or called
`update_index` since, every view that needs an average of the index reverts ("SafeMath: subtraction overflow").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, log
from typing import TYPE_CHECKING, Any

from tests.chains.artifacts import artifact
from tests.chains.contracts import Contract, address_of_creation, deploy

if TYPE_CHECKING:
    from tests.chains.world import World

CURIE = "@perp/curie-contract"
ORACLE = "@perp/perp-oracle-contract"
POOLS = "@uniswap/v3-core"
ONE = 10**18
MOST = 2**256 - 1
NEVER = 2**48
POOL_FEE_PIPS = 3000
TICK_SPACING = 60
EXCHANGE_FEE_PIPS = 1000
INSURANCE_SHARE_PIPS = 100_000
MAX_TICKS_PER_BLOCK = 1000
FEED_TIMEOUT_S = 3600
FEED_AVERAGE_S = 900
HOUR_S = 3600
OBSERVATIONS = 300
START_PX = 3000
MAKER_DEPOSIT = 50_000_000
ORDERS = ((0.3, 4_000), (0.05, 2_000), (0.01, 500))  # width as a share of the price, ETH: real books are like that

# Collateral that is no settlement token: how many kinds, and the shares and sums that the published tests use.
COLLATERAL_TERMS = (5, 750_000, 500_000, 2_000, 30_000, 10_000 * 10**6, 500 * 10**6)
CONTRACTS = {
    "config": "ClearingHouseConfig",
    "insurance": "InsuranceFund",
    "registry": "MarketRegistry",
    "order_book": "OrderBook",
    "account_balance": "AccountBalance",
    "exchange": "Exchange",
    "vault": "Vault",
    "collateral": "CollateralManager",
    "clearing_house": "ClearingHouse",
}


@dataclass(frozen=True)
class Perp:
    """The deployed protocol."""

    world: World
    config: Contract
    insurance: Contract
    registry: Contract
    order_book: Contract
    account_balance: Contract
    exchange: Contract
    vault: Contract
    collateral: Contract
    clearing_house: Contract
    base: Contract
    quote: Contract
    pool: Contract

    @property
    def maker(self) -> str:
        """Whose orders it is that trades meet."""
        return self.world.anvil.accounts[3].address

    def deposit(self, owner: str, usdc: float) -> None:
        """Give an owner whole dollars and have them deposited as margin."""
        token = self.world.tokens["USDC"]
        self.world.give(owner, USDC=usdc)
        token.transact("approve", self.vault.address, MOST, sender=owner)
        self.vault.transact("deposit", token.address, round(usdc * 10**6), sender=owner)

    def add_order(self, width: float, base: int) -> None:
        """Add liquidity of the maker around the price."""
        tick = self.pool.call("slot0").tick
        reach = log(1.0 + width) / log(1.0001)
        low, high = (round((tick + side * reach) / TICK_SPACING) * TICK_SPACING for side in (-1, 1))
        order = (self.base.address, base * ONE, base * START_PX * ONE, low, high, 0, 0, False, NEVER)
        self.clearing_house.transact("addLiquidity", order, sender=self.maker)

    def open(self, owner: str, base_wei: int) -> dict[str, Any]:
        """Buy (above 0) or sell an exact amount of base at any price; return the receipt."""
        is_sale = base_wei < 0
        trade = (self.base.address, is_sale, is_sale, abs(base_wei), 0, NEVER, 0, bytes(32))
        return self.clearing_house.transact("openPosition", trade, sender=owner)

    def update_index(self) -> None:
        """Have the protocol's own feed take in the world's, which anybody may and any trade does.

        It takes one answer per second only: let time pass after the last one (`Anvil.warp`), or this does nothing.
        """
        self.base.transact("cacheTwap", FEED_AVERAGE_S)

    def position(self, owner: str) -> int:
        """Return an owner's position in base, with 18 decimals."""
        return int(self.account_balance.call("getTakerPositionSize", owner, self.base.address))

    def pending_funding(self, owner: str) -> int:
        """Return the funding an owner would pay (negative: get) if it was settled now, with 18 decimals."""
        return int(self.exchange.call("getPendingFundingPayment", owner, self.base.address))


def build(world: World) -> dict[str, str]:
    """Deploy everything, open the market, let time pass, and have a maker provide liquidity."""
    anvil, factory = world.anvil, world.uniswap.factory

    def new(package: str, name: str, *args: Any) -> Contract:
        found = artifact(package, f"{name}.sol/{name}")
        return deploy(anvil, found.abi, found.bytecode(), *args, what=name)

    feed = new(ORACLE, "ChainlinkPriceFeedV3", world.feeds["ETH/USD"].address, FEED_TIMEOUT_S, FEED_AVERAGE_S)
    dispatcher = new(ORACLE, "PriceFeedDispatcher", feed.address)
    nonce = anvil.nonce(world.deployer)
    first, second = (int(address_of_creation(world.deployer, nonce + n), 16) for n in (0, 1))
    order = ("BaseToken", "QuoteToken") if first < second else ("QuoteToken", "BaseToken")
    virtual = {name: new(CURIE, name) for name in order}
    base, quote = virtual["BaseToken"], virtual["QuoteToken"]
    base.transact("initialize", "vETH", "vETH", dispatcher.address)
    quote.transact("initialize", "vUSD", "vUSD")

    made = {role: new(CURIE, name) for role, name in CONTRACTS.items()}
    at = {role: contract.address for role, contract in made.items()}
    house = at["clearing_house"]
    wanted: dict[str, tuple[Any, ...]] = {
        "config": (),
        "insurance": (world.tokens["USDC"].address,),
        "registry": (factory.address, quote.address),
        "order_book": (at["registry"],),
        "account_balance": (at["config"], at["order_book"]),
        "exchange": (at["registry"], at["order_book"], at["config"]),
        "vault": (at["insurance"], at["config"], at["account_balance"], at["exchange"]),
        "collateral": (at["config"], at["vault"], *COLLATERAL_TERMS),
        "clearing_house": (
            at["config"], at["vault"], quote.address, factory.address, at["exchange"], at["account_balance"],
            at["insurance"],
        ),
    }  # fmt: skip
    for role, args in wanted.items():
        made[role].transact("initialize", *args)
    made["insurance"].transact("setVault", at["vault"])
    made["account_balance"].transact("setVault", at["vault"])
    made["order_book"].transact("setExchange", at["exchange"])
    made["exchange"].transact("setAccountBalance", at["account_balance"])
    made["vault"].transact("setCollateralManager", at["collateral"])
    made["config"].transact("setSettlementTokenBalanceCap", MOST)
    for role in ("registry", "order_book", "exchange", "account_balance", "vault"):
        made[role].transact("setClearingHouse", house)

    factory.transact("createPool", base.address, quote.address, POOL_FEE_PIPS)
    pool_at = factory.call("getPool", base.address, quote.address, POOL_FEE_PIPS)
    pool = Contract(anvil, pool_at, artifact(POOLS, "UniswapV3Pool").abi)
    pool.transact("initialize", isqrt(START_PX << 192))
    pool.transact("increaseObservationCardinalityNext", OBSERVATIONS)
    for token in (base, quote):
        token.transact("mintMaximumTo", house)
        token.transact("addWhitelist", house)
        token.transact("addWhitelist", pool.address)
    made["registry"].transact("addPool", base.address, POOL_FEE_PIPS)
    made["registry"].transact("setFeeRatio", base.address, EXCHANGE_FEE_PIPS)
    made["registry"].transact("setInsuranceFundFeeRatio", base.address, INSURANCE_SHARE_PIPS)
    made["exchange"].transact("setMaxTickCrossedWithinBlock", base.address, MAX_TICKS_PER_BLOCK)
    anvil.warp(HOUR_S)

    addresses = {**at, "base": base.address, "quote": quote.address, "pool": pool.address}
    perp = open_part(world, addresses)
    perp.deposit(perp.maker, MAKER_DEPOSIT)
    for width, amount in ORDERS:
        perp.add_order(width, amount)
    return addresses


def open_part(world: World, addresses: dict[str, str]) -> Perp:
    """Return the protocol that was deployed at these addresses."""
    names = CONTRACTS | {"base": "BaseToken", "quote": "QuoteToken"}
    contracts = {
        role: Contract(world.anvil, addresses[role], artifact(CURIE, f"{name}.sol/{name}").abi)
        for role, name in names.items()
    }
    return Perp(world, **contracts, pool=Contract(world.anvil, addresses["pool"], artifact(POOLS, "UniswapV3Pool").abi))
