"""The world tests trade in: tokens, Uniswap pools with liquidity, feeds; built once, then loaded from a file.

    with open_world() as world:
        world.uniswap.swap(world.pools["WETH/USDC-500"], world.trader, sells_base=True, amount_in=10**18)

WETH is at 3,000 USDC, WBTC at 20 WETH. USDC's address is below WETH's, USDT's above it: pools come in both orders.
Other protocols are `PARTS`: each has a `build(world)` that deploys and returns addresses, by role, and is asked for by
name: `open_world("aave", "perp")`. The file is named after all that it depends on: sources, packages, parts.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chains.anvil import COIN, GWEI, Anvil
from tests.chains.artifacts import all_packages, cache_folder, write_at_once
from tests.chains.contracts import Contract, address_of_creation, deploy
from tests.chains.own_contracts import compiled, sources_hash
from tests.chains.uniswap import (
    MULTICALL3,
    MULTICALL3_ABI,
    Pool,
    Uniswap,
    deploy_uniswap,
    known_uniswap,
    place_multicall3,
)  # fmt: skip

WETH_PX = 3000.0
BTC_PX_WETH = 20.0
STETH_RATE = 1_200_000_000_000_000_000  # staked per wrapped token, 18 decimals
PYTH_ETH = bytes.fromhex("ff61491a931112ddf1bd8147cd1b641375f79f5825126d665480874634fd0ace")
KEPT_S = 7 * 86_400
AGE_S = 86_400  # how old the world is when it is new: averages over an hour work at once
# Optional protocols, of which some may not be there.
PARTS = tuple(name for name in ("aave", "perp") if (Path(__file__).parent / f"{name}.py").is_file())


@dataclass
class World:
    """Everything deployed, by name. `parts` holds what optional protocols returned: addresses by role."""

    anvil: Anvil
    tokens: dict[str, Contract]
    uniswap: Uniswap
    multicall: Contract
    feeds: dict[str, Contract]  # ETH/USD, BTC/USD, USDC/USD, and sequencer
    pyth: Contract
    shares: Contract  # ERC-4626 of USDC
    pools: dict[str, Pool]
    lp_positions: dict[str, int]  # whose liquidity it is that trades meet: range by pool and width
    parts: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def deployer(self) -> str:
        """Owner of what has one; also provides the liquidity."""
        return self.anvil.accounts[0].address

    @property
    def trader(self) -> str:
        """Somebody with tokens and approvals who moves prices."""
        return self.anvil.accounts[1].address

    @property
    def hedger(self) -> str:
        """The account under test: it has coins, and tokens and approvals only if a test gives it some."""
        return self.anvil.accounts[2].address

    @property
    def hedger_key(self) -> str:
        """Its private key."""
        return self.anvil.accounts[2].key

    def give(self, owner: str, **amounts: float) -> None:
        """Give an owner whole tokens: `give(owner, WETH=10, USDC=30_000)`."""
        for symbol, amount in amounts.items():
            token = self.tokens[symbol]
            wei = round(amount * 10 ** token.call("decimals"))
            if symbol == "WETH":
                self.anvil.set_balance(self.deployer, self.anvil.balance(self.deployer) + wei)
                token.transact("deposit", value_wei=wei, sender=self.deployer)
                token.transact("transfer", owner, wei, sender=self.deployer)
            else:
                token.transact("mint", owner, wei)

    def balance(self, owner: str, symbol: str) -> int:
        """Return an owner's balance in smallest units."""
        return int(self.tokens[symbol].call("balanceOf", owner))

    def set_px(self, eth_px: float, *, pools: bool = True) -> None:
        """Move WETH to a price: feeds, Pyth, and the pools of WETH against dollars unless told otherwise."""
        self.feeds["ETH/USD"].transact("set_answer", round(eth_px * 10**8))
        self.set_pyth(eth_px)
        for pool in self.pools.values() if pools else ():
            if pool.base.address == self.tokens["WETH"].address:
                self.uniswap.move_to(pool, self.trader, eth_px)

    def set_pyth(self, px: float, conf: float = 0.5, age_s: int = 0) -> None:
        """Publish a Pyth price of ETH."""
        published_at = self.anvil.timestamp_s - age_s
        self.pyth.transact("set_price", PYTH_ETH, round(px * 10**8), round(conf * 10**8), -8, published_at)

    def freshen(self, behind_s: int = 0) -> None:
        """Bring the chain's clock to the wall's, or so far behind it; have every feed repeat its answer as of now."""
        now_s = int(time.time()) - behind_s
        if self.anvil.timestamp_s < now_s:
            self.anvil.set_time(now_s)
        for name, feed in self.feeds.items():
            answer = feed.call("latestAnswer")
            if name == "sequencer":  # up for long
                feed.transact("set_round", answer, self.anvil.timestamp_s - AGE_S, self.anvil.timestamp_s)
            else:
                feed.transact("set_answer", answer)
        price = self.pyth.call("getPriceUnsafe", PYTH_ETH)
        self.set_pyth(price[0] / 10**8, price[1] / 10**8)

    @contextlib.contextmanager
    def as_new(self) -> Iterator[World]:
        """Lend the world to a test: the wall's clock, fresh feeds, 1 Gwei of base fee next; then undo all it did.

        Blocks come with every transaction. A test may change that, which is undone too.
        """
        with self.anvil.undone():
            self.freshen()
            self.anvil.set_base_fee(GWEI)
            try:
                yield self
            finally:
                self.anvil.rpc("anvil_dropAllTransactions")
                self.anvil.set_interval(0)
                self.anvil.set_automine(True)

    def part(self, name: str) -> Any:
        """Return what the module of an optional protocol makes of its addresses: `open_part(world, addresses)`."""
        module = importlib.import_module(f"tests.chains.{name}")
        return module.open_part(self, self.parts[name])

    def addresses(self) -> dict[str, Any]:
        """Return all addresses, as they are kept beside the state."""
        uniswap = {name: contract.address for name, contract in vars(self.uniswap).items()}
        return {
            "tokens": {name: contract.address for name, contract in self.tokens.items()},
            "uniswap": uniswap,
            "feeds": {name: contract.address for name, contract in self.feeds.items()},
            "pyth": self.pyth.address,
            "shares": self.shares.address,
            "pools": {
                name: [pool.base.address, pool.quote.address, pool.fee_pips] for name, pool in self.pools.items()
            },
            "lp_positions": self.lp_positions,
            "parts": self.parts,
        }


@contextlib.contextmanager
def open_world(*parts: str, **anvil_options: Any) -> Iterator[World]:
    """Start a node with the world and these optional parts in it; build and keep it if there is none yet."""
    state = built_world(parts)
    with Anvil(load_state=state, **anvil_options) as anvil:
        yield known_world(anvil, json.loads(state.with_suffix(".addresses").read_text(encoding="utf-8")))


def built_world(parts: tuple[str, ...] = ()) -> Path:
    """Return the file with the world's state; builds it if need be."""
    path = cache_folder() / "worlds" / f"world-{fingerprint(parts)}.json"
    if not path.is_file():
        with Anvil(timestamp_s=int(time.time()) - AGE_S, base_fee_wei=10**9) as anvil:
            world = build_world(anvil)
            for name in parts:
                module = importlib.import_module(f"tests.chains.{name}")
                world.parts[name] = module.build(world)
            write_at_once(path.with_suffix(".addresses"), json.dumps(world.addresses()).encode())
            anvil.dump_state(path)
        for old in path.parent.glob("world-*"):  # of sources that have changed since
            with contextlib.suppress(FileNotFoundError):  # somebody else did the same
                if time.time() - old.stat().st_mtime > KEPT_S:
                    old.unlink()
    return path


def fingerprint(parts: tuple[str, ...]) -> str:
    """Return what tells this world from others: its code, its contracts, the packages, the parts."""
    here = Path(__file__).parent
    names = ["anvil", "contracts", "uniswap", "world", *parts]
    names += ["chainlink"] if parts and (here / "chainlink.py").is_file() else []
    state = hashlib.sha256(sources_hash().encode())
    for name in names:
        state.update(name.encode() + b"\0" + (here / f"{name}.py").read_bytes() + b"\0")
    for package in all_packages():
        state.update(package.sha512.encode())
    return state.hexdigest()[:16]


def build_world(anvil: Anvil) -> World:
    """Deploy everything but the optional parts."""
    weth = own(anvil, "weth")
    tokens = {
        "WETH": weth,
        "USDC": own_beside(anvil, weth, "token", "USD Coin", "USDC", 6, is_below=True),
        "USDT": own_beside(anvil, weth, "token", "Tether USD", "USDT", 6, is_below=False),
        "WBTC": own(anvil, "token", "Wrapped Bitcoin", "WBTC", 8),
        "wstETH": own(anvil, "wsteth", STETH_RATE),
    }
    uniswap = deploy_uniswap(anvil, weth)
    feeds = {
        "ETH/USD": own(anvil, "aggregator", "ETH / USD", 8, round(WETH_PX * 10**8)),
        "BTC/USD": own(anvil, "aggregator", "BTC / USD", 8, round(WETH_PX * BTC_PX_WETH * 10**8)),
        "USDC/USD": own(anvil, "aggregator", "USDC / USD", 8, 10**8),
        "sequencer": own(anvil, "aggregator", "L2 Sequencer Uptime", 0, 0),
    }
    shares = own(anvil, "shares", "Shares of USD Coin", "sUSDC", tokens["USDC"].address, 6)
    multicall = place_multicall3(anvil)
    world = World(anvil, tokens, uniswap, multicall, feeds, own(anvil, "pyth"), shares, {}, {})
    world.set_pyth(WETH_PX)
    for owner in (world.deployer, world.trader):
        anvil.set_balance(owner, 1_000_000 * COIN)
        world.give(owner, WETH=400_000, USDC=1e9, USDT=1e9, WBTC=20_000, wstETH=100_000)
        uniswap.approve(owner, list(tokens.values()))
    pools = (("WETH", "USDC", 500, WETH_PX), ("WETH", "USDC", 3000, WETH_PX), ("WETH", "USDT", 500, WETH_PX),
             ("WBTC", "WETH", 3000, BTC_PX_WETH), ("wstETH", "WETH", 500, STETH_RATE / COIN))  # fmt: skip
    for base, quote, fee_pips, px in pools:
        pool = uniswap.create_pool(tokens[base], tokens[quote], fee_pips, px)
        world.pools[f"{base}/{quote}-{fee_pips}"] = pool
        # A little everywhere, most near the price, as real pools have it.
        for width, base_tokens in ((1.0, 2_000.0), (0.2, 2_000.0), (0.05, 1_500.0)):
            amount = base_tokens / (BTC_PX_WETH if base == "WBTC" else 1.0)
            minted = uniswap.mint(
                pool,
                world.deployer,
                base_wei=round(amount * 10**pool.base_decimals),
                quote_wei=round(amount * px * 10**pool.quote_decimals),
                low_px=px * (1.0 - width),
                high_px=px * (1.0 + width) if width < 1.0 else float("inf"),
            )
            world.lp_positions[f"{base}/{quote}-{fee_pips} {width:g}"] = minted.token_id
    return world


def known_world(anvil: Anvil, addresses: dict[str, Any]) -> World:
    """Return the world whose state a node has loaded."""

    def known(name: str, address: str) -> Contract:
        return Contract(anvil, address, compiled(name).abi)

    abis = {"WETH": "weth", "wstETH": "wsteth"}
    tokens = {symbol: known(abis.get(symbol, "token"), place) for symbol, place in addresses["tokens"].items()}
    by_address = {token.address: token for token in tokens.values()}
    uniswap = known_uniswap(anvil, addresses["uniswap"], tokens["WETH"])
    return World(
        anvil,
        tokens,
        uniswap,
        Contract(anvil, MULTICALL3, MULTICALL3_ABI),
        {name: known("aggregator", place) for name, place in addresses["feeds"].items()},
        known("pyth", addresses["pyth"]),
        known("shares", addresses["shares"]),
        {
            name: uniswap.pool(anvil, by_address[base], by_address[quote], fee_pips)
            for name, (base, quote, fee_pips) in addresses["pools"].items()
        },
        addresses["lp_positions"],
        addresses["parts"],
    )


def own(anvil: Anvil, name: str, *args: Any, sender: str | None = None) -> Contract:
    """Deploy one of our own contracts."""
    found = compiled(name)
    return deploy(anvil, found.abi, found.bytecode(), *args, sender=sender, what=name)


def own_beside(anvil: Anvil, other: Contract, name: str, *args: Any, is_below: bool) -> Contract:
    """Deploy one of our own contracts at an address below or above another's: who creates it decides where it is."""
    for account in anvil.accounts:
        address = address_of_creation(account.address, anvil.nonce(account.address))
        if (int(address, 16) < int(other.address, 16)) == is_below:
            contract = own(anvil, name, *args, sender=account.address)
            if contract.address != address:
                raise AssertionError(f"expected {name} at {address}, found it at {contract.address}")
            return contract
    raise LookupError(f"expected an account to create {name} with, found none of {len(anvil.accounts)} suitable")
