"""Uniswap v3 as published: factory, position manager, both swap routers, quoter, tick lens; and Multicall3.

    uniswap = deploy_uniswap(anvil, weth)
    pool = uniswap.create_pool(usdc, weth, 500, px=3000.0)   # 3,000 USDC a WETH, whichever is token0
    token_id = uniswap.mint(pool, owner, low_px=2850, high_px=3150, base_wei=10**20, quote_wei=...)

A pool is given as base and quote, prices as whole quote tokens per whole base token: which of the two is token0 is an
accident of addresses. A fresh pool's `observe` reverts with OLD until time has passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, inf, isqrt, log
from typing import Any, NamedTuple

from tests.chains.anvil import Anvil, Rpc
from tests.chains.artifacts import artifact, multicall3_creation_code
from tests.chains.contracts import Contract, deploy

CORE = "@uniswap/v3-core"
PERIPHERY = "@uniswap/v3-periphery"
ROUTERS = "@uniswap/swap-router-contracts"
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
NOBODY = "0x" + 40 * "0"
NEVER = 2**48  # a deadline
MIN_TICK, MAX_TICK = -887272, 887272
MIN_SQRT, MAX_SQRT = 4295128739, 1461446703485210103287273052203988822378723970342
MOST = 2**128 - 1
MULTICALL3_ABI: list[dict[str, Any]] = [
    {
        "type": "function", "name": "aggregate3", "stateMutability": "payable",
        "inputs": [{"name": "calls", "type": "tuple[]", "components": [
            {"name": "target", "type": "address"},
            {"name": "allowFailure", "type": "bool"},
            {"name": "callData", "type": "bytes"},
        ]}],
        "outputs": [{"name": "returnData", "type": "tuple[]", "components": [
            {"name": "success", "type": "bool"}, {"name": "returnData", "type": "bytes"},
        ]}],
    }
]  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """A pool, as base and quote."""

    contract: Contract
    base: Contract
    quote: Contract
    fee_pips: int
    tick_spacing: int
    base_decimals: int
    quote_decimals: int

    @property
    def address(self) -> str:
        """Where it is."""
        return self.contract.address

    @property
    def is_base_first(self) -> bool:
        """Whether the base is token0."""
        return int(self.base.address, 16) < int(self.quote.address, 16)

    @property
    def tokens(self) -> tuple[Contract, Contract]:
        """The tokens as 0 and 1."""
        return (self.base, self.quote) if self.is_base_first else (self.quote, self.base)

    def sorted(self, base: Any, quote: Any) -> tuple[Any, Any]:
        """Return what belongs to base and quote as what belongs to token 0 and 1."""
        return (base, quote) if self.is_base_first else (quote, base)

    def raw_ratio(self, px: float | Fraction) -> Fraction:
        """Return token1 per token0 in smallest units."""
        quote_per_base = Fraction(px) * 10**self.quote_decimals / 10**self.base_decimals
        return quote_per_base if self.is_base_first else 1 / quote_per_base

    def sqrt_of(self, px: float | Fraction) -> int:
        """Return sqrtPriceX96 of a price."""
        ratio = self.raw_ratio(px)
        return isqrt((ratio.numerator << 192) // ratio.denominator)

    def px_of(self, sqrt_x96: int) -> float:
        """Return the price of a sqrtPriceX96."""
        ratio = Fraction(sqrt_x96 * sqrt_x96, 1 << 192)
        quote_per_base = ratio if self.is_base_first else 1 / ratio
        return float(quote_per_base * 10**self.base_decimals / 10**self.quote_decimals)

    @property
    def px(self) -> float:
        """The price in the newest block."""
        return self.px_of(self.contract.call("slot0").sqrtPriceX96)

    def ticks(self, low_px: float, high_px: float) -> tuple[int, int]:
        """Return the usable ticks next to a range of prices, lower and upper; 0 and infinity are the ends."""
        ends = []
        for px in (low_px, high_px):
            if px in {0.0, inf}:
                tick = MIN_TICK if (px == 0.0) == self.is_base_first else MAX_TICK
                ends.append(int(tick / self.tick_spacing) * self.tick_spacing)
            else:
                tick = floor(log(float(self.raw_ratio(px))) / log(1.0001))
                ends.append(round(tick / self.tick_spacing) * self.tick_spacing)
        return min(ends), max(ends)


class Minted(NamedTuple):
    """A liquidity position that came to be, and what went into it."""

    token_id: int
    liquidity: int
    amount0: int
    amount1: int


@dataclass(frozen=True)
class Uniswap:
    """The deployed contracts, and what tests do with them. Whoever trades must have approved; `approve` does that."""

    factory: Contract
    position_manager: Contract
    router: Contract  # SwapRouter of v3-periphery: deadline inside the parameters
    router02: Contract  # SwapRouter02: no deadline of its own
    quoter: Contract
    tick_lens: Contract
    weth: Contract

    def at(self, rpc: Rpc) -> Uniswap:
        """Return the same contracts as another node has them."""
        return Uniswap(**{name: contract.at(rpc) for name, contract in vars(self).items()})

    def create_pool(self, base: Contract, quote: Contract, fee_pips: int, px: float) -> Pool:
        """Create and initialise a pool at a price, without liquidity, with memory for many observations."""
        rpc = self.factory.rpc
        self.factory.transact("createPool", base.address, quote.address, fee_pips)
        pool = self.pool(rpc, base, quote, fee_pips)
        pool.contract.transact("initialize", pool.sqrt_of(px))
        pool.contract.transact("increaseObservationCardinalityNext", 64)
        return pool

    def pool(self, rpc: Rpc, base: Contract, quote: Contract, fee_pips: int) -> Pool:
        """Return a pool that exists."""
        address = self.factory.at(rpc).call("getPool", base.address, quote.address, fee_pips)
        if address == NOBODY:
            raise LookupError(f"expected a pool of {base} and {quote} with fee {fee_pips}, found none")
        contract = Contract(rpc, address, artifact(CORE, "UniswapV3Pool").abi, self.factory.sender)
        decimals = [token.at(rpc).call("decimals") for token in (base, quote)]
        spacing = contract.call("tickSpacing")
        return Pool(contract, base.at(rpc), quote.at(rpc), fee_pips, spacing, *decimals)

    def approve(self, owner: str, tokens: Sequence[Contract]) -> None:
        """Let the routers and the position manager take an owner's tokens without limit."""
        for token in tokens:
            for spender in (self.router, self.router02, self.position_manager):
                token.transact("approve", spender.address, 2**256 - 1, sender=owner)

    def mint(
        self, pool: Pool, owner: str, *, base_wei: int, quote_wei: int, low_px: float = 0.0, high_px: float = inf
    ) -> Minted:
        """Provide liquidity in a range of prices, or all of them, of at most these amounts."""
        low_tick, high_tick = pool.ticks(low_px, high_px)
        token0, token1 = pool.tokens
        wanted0, wanted1 = pool.sorted(base_wei, quote_wei)
        receipt = self.position_manager.transact(
            "mint",
            (token0.address, token1.address, pool.fee_pips, low_tick, high_tick, wanted0, wanted1, 0, 0, owner, NEVER),
            sender=owner,
        )
        (added,) = self.position_manager.events(receipt, "IncreaseLiquidity")
        return Minted(added.args["tokenId"], added.args["liquidity"], added.args["amount0"], added.args["amount1"])

    def remove(self, owner: str, token_id: int, liquidity: int | None = None) -> dict[str, Any]:
        """Take liquidity out of a position, all unless told; `collect` then pays it out."""
        if liquidity is None:
            liquidity = self.position_manager.call("positions", token_id).liquidity
        return self.position_manager.transact("decreaseLiquidity", (token_id, liquidity, 0, 0, NEVER), sender=owner)

    def collect(self, owner: str, token_id: int) -> tuple[int, int]:
        """Pay out all that a position is owed; return the amounts of token 0 and 1."""
        receipt = self.position_manager.transact("collect", (token_id, owner, MOST, MOST), sender=owner)
        (paid,) = self.position_manager.events(receipt, "Collect")
        return paid.args["amount0"], paid.args["amount1"]

    def fees_owed(self, owner: str, token_id: int) -> tuple[int, int]:
        """Return what `collect` would pay out now, without doing it."""
        owed = self.position_manager.call("collect", (token_id, owner, MOST, MOST), sender=owner)
        return owed.amount0, owed.amount1

    def swap(
        self, pool: Pool, trader: str, *, sells_base: bool, amount_in: int, least_out: int = 0, sqrt_limit: int = 0
    ) -> dict[str, Any]:
        """Swap an exact amount in over the pool; return the receipt."""
        token_in, token_out = (pool.base, pool.quote) if sells_base else (pool.quote, pool.base)
        return self.router.transact(
            "exactInputSingle",
            (token_in.address, token_out.address, pool.fee_pips, trader, NEVER, amount_in, least_out, sqrt_limit),
            sender=trader,
        )

    def swap_for(
        self, pool: Pool, trader: str, *, sells_base: bool, amount_out: int, most_in: int = 2**255
    ) -> dict[str, Any]:
        """Swap for an exact amount out over the pool; return the receipt."""
        token_in, token_out = (pool.base, pool.quote) if sells_base else (pool.quote, pool.base)
        return self.router.transact(
            "exactOutputSingle",
            (token_in.address, token_out.address, pool.fee_pips, trader, NEVER, amount_out, most_in, 0),
            sender=trader,
        )

    def move_to(self, pool: Pool, trader: str, px: float) -> None:
        """Swap until the pool's price is `px`; the trader must have tokens enough."""
        wanted = pool.sqrt_of(px)
        now = pool.contract.call("slot0").sqrtPriceX96
        if wanted == now:
            return
        is_down = wanted < now
        sells_base = is_down == pool.is_base_first
        token = pool.base if sells_base else pool.quote
        self.swap(pool, trader, sells_base=sells_base, amount_in=token.call("balanceOf", trader), sqrt_limit=wanted)

    def quote(self, pool: Pool, *, sells_base: bool, amount_in: int) -> Any:
        """Return what the quoter says of an exact amount in."""
        token_in, token_out = (pool.base, pool.quote) if sells_base else (pool.quote, pool.base)
        asked = (token_in.address, token_out.address, amount_in, pool.fee_pips, 0)
        return self.quoter.call("quoteExactInputSingle", asked)


def deploy_uniswap(anvil: Anvil, weth: Contract) -> Uniswap:
    """Deploy the published contracts."""

    def new(package: str, name: str, *args: Any) -> Contract:
        found = artifact(package, name)
        return deploy(anvil, found.abi, found.bytecode(), *args, what=name)

    factory = new(CORE, "UniswapV3Factory")
    manager = new(PERIPHERY, "NonfungiblePositionManager", factory.address, weth.address, NOBODY)
    return Uniswap(
        factory,
        manager,
        new(PERIPHERY, "SwapRouter", factory.address, weth.address),
        new(ROUTERS, "SwapRouter02", NOBODY, factory.address, manager.address, weth.address),
        new(PERIPHERY, "QuoterV2", factory.address, weth.address),
        new(PERIPHERY, "TickLens"),
        weth,
    )


def known_uniswap(rpc: Rpc, addresses: dict[str, str], weth: Contract) -> Uniswap:
    """Return the contracts that were deployed at these addresses."""
    places = {
        "factory": (CORE, "UniswapV3Factory"),
        "position_manager": (PERIPHERY, "NonfungiblePositionManager"),
        "router": (PERIPHERY, "SwapRouter"),
        "router02": (ROUTERS, "SwapRouter02"),
        "quoter": (PERIPHERY, "QuoterV2"),
        "tick_lens": (PERIPHERY, "TickLens"),
    }
    contracts = {name: Contract(rpc, addresses[name], artifact(*place).abi) for name, place in places.items()}
    return Uniswap(**contracts, weth=weth)


def place_multicall3(anvil: Anvil) -> Contract:
    """Put Multicall3 where it is on every chain."""
    code = anvil.rpc("eth_call", {"data": "0x" + multicall3_creation_code().hex()}, "latest")
    anvil.set_code(MULTICALL3, bytes.fromhex(code[2:]))
    return Contract(anvil, MULTICALL3, MULTICALL3_ABI)
