"""A vault on a chain of its own: a real node with the published contracts, a key, and a daemon that hedges there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from eth_account import Account

from bot.domain.decisions import Decision
from bot.domain.events import Event
from bot.runtime.configuration.config import load_vaults
from bot.runtime.daemon import Daemon
from bot.runtime.journal import Batch, Journal
from bot.runtime.live.session import LiveSession, open_live
from bot.runtime.operators.halt_marker import HaltMarker
from tests.chains.contracts import send
from tests.chains.world import World
from tests.runtime.command_line import PATIENCE_S

PASSWORD = "correct horse"  # of a key that everybody knows
CHEAP_SCRYPT = 2**12

VAULT = """\
vault: chain
mode: live
feed: live
numeraire: USDC
chains:
  local:
    chain_id: {chain_id}
    rpc: ["{http_url}"]
    ws: "{ws_url}"
    block_s: {block_s}
    final_blocks: 12
    timeout_s: 5
    wallet: {{address: "{wallet}", keystore: "{keystore}"}}
    assets:
      WETH: {{address: "{WETH}", decimals: 18, underlying: ETH}}
      USDC: {{address: "{USDC}", decimals: 6}}
      wstETH:
        address: "{wstETH}"
        decimals: 18
        underlying: ETH
        rate: {{contract: "{wstETH}", function: stEthPerToken()}}
        charge_bps: 50
    pools:
      weth-usdc: {{address: "{pool}", base: WETH, quote: USDC, fee_pips: 500}}
    oracles:
      link: {{kind: chainlink, underlying: ETH, address: "{feed}"}}
      pyth: {{kind: pyth, underlying: ETH, address: "{pyth}", feed_id: "{pyth_feed}", max_age_s: 60}}
    hedges:
{hedges}
    holders:
      - {{address: "{holder}", assets: [WETH, USDC, wstETH], lp_pools: [weth-usdc], position_manager: "{manager}"}}
    fees: {{max_fee_gwei: 100, reserve_coin: 0.01}}
book:
  - {{chain: local}}
hedge: {{instrument: "local:{hedge}", max_slippage_bps: 100}}
policy: {{type: delta_band, half_width_base: {half_width_base}}}
limits: {{max_order_quote: 1000000, max_orders_per_min: 100, daily_loss_quote: 1000000, max_hedges_same_way: 100}}
max_age: {{quote_s: 30, index_s: 30, account_s: 30}}
state_dir: "{folder}"
"""
SWAP = """\
      WETH-USDC:
        protocol: uniswap_v3
        underlying: ETH
        base: WETH
        quote: USDC
        route: [weth-usdc]
        contracts: {{router: "{router}"}}
        inventory_base: {inventory_base}
"""


class ChainVault:
    """One vault, its journal and its key; the chain outlives its daemons. `running` starts one."""

    def __init__(
        self,
        world: World,
        folder: Path,
        *,
        block_s: float = 1.0,
        hedge: str = "WETH-USDC",
        half_width_base: float = 0.5,
        hedges: str = SWAP,
        urls: tuple[str, str] | None = None,
        changes: dict[str, str] | None = None,
        contracts: dict[str, str] | None = None,
        inventory_base: float = 0.0,
        environ: dict[str, str] | None = None,
    ) -> None:
        from tests.chains.world import PYTH_ETH

        self.world = world
        self.folder = folder
        self.path = folder / "chain.yaml"
        self.journal_path = folder / "chain.sqlite"
        keystore = folder / "hedger.json"
        keystore.touch(mode=0o600)
        keystore.write_text(json.dumps(Account.encrypt(world.hedger_key, PASSWORD, iterations=CHEAP_SCRYPT)))
        http_url, ws_url = urls or (world.anvil.http_url, world.anvil.ws_url)
        known: dict[str, Any] = {"inventory_base": inventory_base}
        known |= {"router": world.uniswap.router.address, **(contracts or {})}
        text = VAULT.format(
            chain_id=world.anvil.chain_id, http_url=http_url, ws_url=ws_url, block_s=block_s,
            wallet=world.hedger, holder=world.anvil.accounts[3].address, keystore=keystore,
            **{symbol: world.tokens[symbol].address for symbol in ("WETH", "USDC", "wstETH")},
            pool=world.pools["WETH/USDC-500"].address, feed=world.feeds["ETH/USD"].address,
            pyth=world.pyth.address, pyth_feed=f"0x{PYTH_ETH.hex()}", hedges=hedges.format(**known),
            manager=world.uniswap.position_manager.address, hedge=hedge, half_width_base=half_width_base, folder=folder,
        )  # fmt: skip
        for old, new in (changes or {}).items():
            assert old in text, f"expected {old!r} in the vault file"
            text = text.replace(old, new)
        self.path.write_text(text)
        self.environ = {"EVENKEEL_LOCAL_PASSWORD": PASSWORD, **(environ or {})}
        self.session: LiveSession | None = None

    @property
    def holder(self) -> str:
        """Whose positions are the book."""
        return self.world.anvil.accounts[3].address

    @property
    def engine(self) -> Any:
        """The engine of the running daemon."""
        assert self.session is not None
        return self.session.engine

    @property
    def decision(self) -> Decision | None:
        """The newest decision about the coin."""
        decision: Decision | None = self.engine.desks["ETH"].decision
        return decision

    @property
    def net_delta(self) -> float:
        """Net delta as last decided upon."""
        decision = self.decision
        return float("nan") if decision is None else decision.greeks.delta_base

    def events(self, *kinds: type) -> list[Event]:
        """What the journal holds of some kinds of event."""
        with Journal.open(self.journal_path, for_writing=False) as journal:
            batches = [record for _, record in journal.records() if isinstance(record, Batch)]
        return [event for batch in batches for event in batch.events if isinstance(event, kinds)]

    def grant(self, spender: str, symbols: tuple[str, ...] = ("WETH", "USDC")) -> None:
        """Let a contract take the hedger's tokens."""
        for symbol in symbols:
            self.world.tokens[symbol].transact("approve", spender, 2**256 - 1, sender=self.world.hedger)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run a daemon on the vault."""
        (vault,) = load_vaults([self.path], allow_live=True)
        stop = asyncio.Event()
        with Journal.open(self.journal_path, for_writing=True) as journal:
            async with open_live(vault, self.path, journal, self.environ) as session:
                self.session = session
                daemon = Daemon(
                    session, journal, socket_path=self.folder / "chain.sock", speed=1.0, progress=lambda _: None,
                    marker=HaltMarker(self.folder / "chain.halted"),
                )  # fmt: skip
                task = asyncio.create_task(daemon.run(stop))
                try:
                    yield
                finally:
                    stop.set()
                    await asyncio.wait_for(task, PATIENCE_S)


async def until(
    condition: Callable[[], Any], patience_s: float = PATIENCE_S, what: str = "", every_s: float = 0.02
) -> Any:
    """Wait until `condition` holds and return what it found. Raises AssertionError if it never does."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while not (found := condition()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"waited {patience_s} s in vain {what}")
        await asyncio.sleep(every_s)
    return found


__all__ = ["PATIENCE_S", "SWAP", "ChainVault", "send", "until"]
