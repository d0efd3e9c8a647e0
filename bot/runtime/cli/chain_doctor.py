"""What `evenkeel doctor` says of a vault's chains: nodes, contracts, prices, the key, permissions, positions.

Everything is asked and nothing is sent; the key is opened to see that it opens, and signs nothing. Node addresses may
hold secrets and are shown masked.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp

from bot.domain.errors import JournalError, Retryable, VenueFatal
from bot.domain.units import NS_PER_S
from bot.gateways.addresses import masked
from bot.gateways.chain.abi import BALANCE_OF, Function, uint_at
from bot.gateways.chain.chain_gateway import contracts_of
from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.fees import WEI, FeeMarket, gwei
from bot.gateways.chain.multicall import Multicall
from bot.gateways.chain.nouns import Block, HedgeProtocol, Refused
from bot.gateways.chain.oracles import Oracles
from bot.gateways.chain.positions import Positions
from bot.gateways.chain.protocols.aave_v3 import AaveV3
from bot.gateways.chain.protocols.guarded_vault import GuardedVault
from bot.gateways.chain.protocols.perp_market import DECIMALS
from bot.gateways.chain.protocols.perp_v2 import PerpV2
from bot.gateways.chain.protocols.registry import open_protocol
from bot.gateways.chain.rpc import RpcError
from bot.gateways.chain.sequencer import SequencerGate
from bot.gateways.chain.settings import ChainSettings, HedgeSection
from bot.gateways.chain.transaction_log import TransactionLog, is_owned, log_path
from bot.gateways.chain.transaction_reader import TransactionReader
from bot.gateways.gateway import Clock
from bot.runtime.cli.doctor import Finding
from bot.runtime.configuration.chains import chain_settings, load_signer
from bot.runtime.configuration.vault import Vault
from bot.runtime.studies.permissions import amount_text, permissions_of, read_protocol

FEWEST_HEDGES: Final = 20  # that the coin above the reserve should last for
_FIRST_ROUTER: Final = "v3-periphery's SwapRouter"
_SECOND_ROUTER: Final = "SwapRouter02"
_ROUTERS: Final = {"uniswap_v3": _FIRST_ROUTER, "aave_v3": _SECOND_ROUTER}
_OF_SECOND_ROUTER: Final = Function("factoryV2()", "(address)")


async def examine_chains(vault: Vault, environ: Mapping[str, str], clock: Clock) -> list[Finding]:
    """Examine the chains of a live feed, each by itself, whatever is wrong with the others.

    Raises ConfigError if a chain has no node.
    """
    if not vault.is_live_feed:
        return []
    found: list[Finding] = []
    for settings in chain_settings(vault, environ).values():
        found += await _Look(vault, settings, environ, clock).findings()
    return found


class _Look:
    """One look at one chain."""

    def __init__(self, vault: Vault, settings: ChainSettings, environ: Mapping[str, str], clock: Clock) -> None:
        self._vault = vault
        self._settings = settings
        self._environ = environ
        self._clock = clock
        self._found: list[Finding] = []
        self._is_live = vault.mode == "live"
        self._wallet = settings.wallet.address if settings.wallet is not None else ""

    async def findings(self) -> list[Finding]:
        """Return what is found; what cannot be examined because of something before it is left out."""
        nodes = Endpoints(self._settings, self._clock)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(nodes)
            except (VenueFatal, Retryable):
                self._note_nodes(nodes)
                await self._key()
                return self._found
            self._note_nodes(nodes)
            await self._heads()
            try:
                await self._chain(nodes)
            except (VenueFatal, Retryable, RpcError) as error:
                self._say("answers", f"{error}; hint: ask again, or name another node", is_ok=False)
        return self._found

    def _say(self, subject: str, detail: str, *, is_ok: bool | None = True, is_of_venue: bool = True) -> None:
        subject = f"{self._settings.venue} {subject}"
        self._found.append(
            Finding(vault=self._vault.vault, subject=subject, detail=detail, is_ok=is_ok, is_of_venue=is_of_venue)
        )

    # nodes and blocks

    def _note_nodes(self, nodes: Endpoints) -> None:
        for node in nodes.nodes:
            if node.trouble:
                self._say(f"node {node.name}", node.trouble.removeprefix(f"{node.name}: "), is_ok=False)
            else:
                self._say(f"node {node.name}", f"chain id {self._settings.chain_id}, at block {node.height:,}")
        if len(nodes.nodes) < 2:
            hint = "hint: name a second one, so that a node that lags or lies is noticed"
            self._say("agreement", f"one node only, which nobody contradicts; {hint}", is_ok=None)
        elif sum(not node.trouble for node in nodes.nodes) > 1:
            self._say("agreement", "the nodes that are well have the same chain")
        if self._settings.relay_url:
            self._say("relay", f"{masked(self._settings.relay_url)}, asked only when something is sent", is_ok=None)

    async def _heads(self) -> None:
        """Ask the node for new heads, which is another connection."""
        url = self._settings.ws_url
        if not url:
            self._say("heads", f"asked for, as no ws node is named; up to {self._poll_s:g} s later", is_ok=None)
            return
        problem = await _ws_problem(url, self._settings.chain_id, self._settings.timeout_ns / NS_PER_S)
        said = f"pushed by {masked(url)}"
        hint = "hint: without it heads are asked for, which is later"
        self._say("heads", f"expected {said}, found {problem}; {hint}" if problem else said, is_ok=not problem)

    @property
    def _poll_s(self) -> float:
        return self._settings.block_ns / NS_PER_S / 4

    async def _chain(self, nodes: Endpoints) -> None:
        settings = self._settings
        block = await nodes.block("latest")
        age_s = max(0.0, self._clock.now_ns() / NS_PER_S - block.timestamp_s)
        limit_s = settings.max_silence_ns / NS_PER_S
        is_fresh = age_s <= limit_s
        hint = "" if is_fresh else "; hint: is the node in step, and this machine's clock right?"
        self._say(
            "head",
            f"block {block.number:,}, {age_s:.0f} s old, limit {limit_s:g} s; "
            f"base fee {gwei(block.base_fee_wei)} gwei{hint}",
            is_ok=is_fresh,
        )
        missing = await self._contracts(nodes)
        market = await self._key(nodes, block)
        if "multicall" in missing:
            self._say("reading", "not examined before Multicall3 is there", is_ok=None)
            return
        await self._prices(nodes, block)
        protocols = await self._hedges(nodes, block)
        await self._balances(nodes, block)
        if market is not None:
            await self._gas(nodes, block, market, protocols)
        await self._positions(nodes, block)

    async def _contracts(self, nodes: Endpoints) -> set[str]:
        """Look for code at every address that the vault names; return the names of those without."""
        named = contracts_of(self._settings)
        codes = await asyncio.gather(*(nodes.call("eth_getCode", [one, "latest"]) for one in named.values()))
        missing = {name for name, code in zip(named, codes, strict=True) if len(code or "") <= 2}
        for name in sorted(missing):
            hint = "hint: is the address of another chain?"
            self._say(f"contract {name}", f"expected code at {named[name]}, found none; {hint}", is_ok=False)
        if len(named) > len(missing):
            self._say("contracts", f"code at {len(named) - len(missing)} of {len(named)}", is_ok=not missing)
        return missing

    # prices

    async def _prices(self, nodes: Endpoints, block: Block) -> None:
        settings = self._settings
        multicall = Multicall(nodes, settings.multicall)
        gate = SequencerGate(settings)
        if gate.reads:
            reason = gate.update(block, await multicall.read(block, gate.reads))
            grace_s = settings.sequencer_grace_ns / NS_PER_S
            self._say("sequencer", reason or f"up for longer than {grace_s:g} s", is_ok=not reason)
        oracles = Oracles(settings)
        words = oracles.update(block, await multicall.read(block, oracles.reads), self._clock.now_ns())
        for word in words:
            if word.px > 0.0:
                age_s = block.timestamp_s - word.ts_event_ns // NS_PER_S
                doubt = f" ± {word.confidence_px:,.6g}" if word.confidence_px else ""
                detail = (
                    f"{word.underlying} at {word.px:,.6g}{doubt}, {age_s} s old, limit {word.max_age_ns // NS_PER_S} s"
                )
                self._say(f"oracle {word.source.removesuffix(f' on {settings.venue}')}", detail)
        for problem in oracles.problems:
            source, _, why = problem.partition(": ")
            self._say(f"oracle {source.removesuffix(f' on {settings.venue}')}", why, is_ok=False)

    # hedges

    async def _hedges(self, nodes: Endpoints, block: Block) -> dict[str, HedgeProtocol]:
        multicall = Multicall(nodes, self._settings.multicall)
        protocols: dict[str, HedgeProtocol] = {}
        for section in self._settings.hedges:
            protocol = open_protocol(section, self._settings, self._wallet)
            name = protocol.instrument.instrument_id
            protocols[name] = protocol
            await read_protocol(protocol, block, multicall.read)
            self._price(section, protocol)
            await self._router(section, block, multicall)
            if not self._wallet:
                self._say(f"hedge {section.name}", "permissions not examined without a wallet", is_ok=None)
                continue
            for detail, is_ok in _obstacles(protocol):
                self._say(f"hedge {section.name}", detail, is_ok=is_ok if is_ok or self._is_live else None)
            try:
                await self._permissions(protocol, section, block, multicall)
            except Refused as error:
                self._say(f"hedge {section.name}", f"permissions not examined: {error}", is_ok=None)
        return protocols

    async def _router(self, section: HedgeSection, block: Block, multicall: Multicall) -> None:
        """Tell Uniswap's two routers apart, whose calls differ: the second has a view that the first lacks."""
        wanted = _ROUTERS.get(section.protocol)
        router = section.contracts.get("router", "")
        if wanted is None or not router:
            return
        [answer] = await multicall.read(block, [_OF_SECOND_ROUTER.read(router)])
        found = _SECOND_ROUTER if answer else _FIRST_ROUTER
        if found != wanted:
            detail = f"expected the router to be {wanted}, found {found} at {router}; hint: docs/chains.md"
            self._say(f"hedge {section.name}", detail, is_ok=False)

    def _price(self, section: HedgeSection, protocol: HedgeProtocol) -> None:
        quote = protocol.quote(self._clock.now_ns())
        subject = f"hedge {section.name}"
        if quote is None:
            what = f"a {section.protocol} to be read on {', '.join(section.contracts.values())}"
            hint = "hint: are contracts, pools and fees the right ones?"
            self._say(subject, f"expected {what}, found no usable price; {hint}", is_ok=False)
            return
        wide_bps = (quote.ask_px / quote.bid_px - 1.0) * 1e4
        sizes = f"up to {quote.bid_base:,.4g} and {quote.ask_base:,.4g} {section.underlying}"
        # a quote has to have a size: nothing is told as far less than a lot
        has_none = max(quote.bid_base, quote.ask_base) < section.lot_base
        detail = f"sells at {quote.bid_px:,.2f}, buys at {quote.ask_px:,.2f} ({wide_bps:.1f} bps with fees)"
        if has_none:
            self._say(subject, f"{detail}, but there is nothing we may trade with", is_ok=None)
        else:
            self._say(subject, f"{detail}, {sizes}")

    async def _permissions(
        self, protocol: HedgeProtocol, section: HedgeSection, block: Block, multicall: Multicall
    ) -> None:
        most_quote = self._vault.limits.max_order_quote
        needed = await permissions_of(protocol, section, self._settings, block, multicall.read, most_quote)
        for one in needed:
            subject = f"hedge {section.name} may use {one.symbol}"
            if one.is_enough:
                self._say(subject, f"{one.amount_text(one.granted_wei or 0)} granted: {one.what}")
                continue
            has = "nothing that can be read" if one.granted_wei is None else one.amount_text(one.granted_wei)
            detail = f"expected {one.amount_text(one.needed_wei)} or more for one order, found {has}: {one.what}"
            hint = f"hint: evenkeel tx approve, or by hand {one.call}"
            self._say(subject, f"{detail}; {hint}", is_ok=False if self._is_live else None)

    # the key

    async def _key(self, nodes: Endpoints | None = None, block: Block | None = None) -> FeeMarket | None:
        """Examine the key and its log; return what blocks cost where that matters."""
        settings = self._settings
        if not self._is_live:
            self._say("wallet", "no key needed for paper, and none loaded", is_ok=None)
            return None
        if settings.wallet is None:
            self._say("wallet", "none: this chain is watched and nothing is traded on it", is_ok=None)
            return None
        try:
            async with AsyncExitStack() as stack:
                signer = await load_signer(settings, self._environ, stack)
                assert signer is not None, "a wallet has a signer"
            kind = "external signer" if settings.wallet.signer_url else "keystore"
            self._say("wallet", f"the {kind} holds the key of {signer.address}")
        except (VenueFatal, Retryable) as error:
            self._say("wallet", str(error), is_ok=False)
        if nodes is None or block is None:
            self._log(None)
            return None
        reader = TransactionReader(nodes, settings.wallet.address)
        self._log(await reader.pending_count() - await reader.count(block))
        return await reader.fee_market(block, settings.fees)

    def _log(self, pooled: int | None) -> None:
        """Say what the transaction log holds, and whether the chain knows of more than it."""
        path = log_path(self._settings.state_dir, self._settings.chain_id, self._wallet)
        live, is_running = 0, False
        detail = f"none yet at {path}"
        if path.exists():
            try:
                is_running = is_owned(path)
                with TransactionLog.open(path, for_writing=False) as log:
                    live = sum(life.is_live for life in log.lives().values())
            except JournalError as error:
                self._say("transactions", str(error), is_ok=False, is_of_venue=False)
                return
            owner = "a running daemon has the key" if is_running else "no daemon runs"
            detail = f"{live} under way; {owner}"
        strange = max(0, (pooled or 0) - live)
        if strange and not is_running:
            detail += (
                f"; the node knows {strange} more of this key; hint: who else signs with it? It must be ours alone"
            )
        self._say("transactions", detail, is_ok=not strange or is_running, is_of_venue=False)

    async def _gas(
        self, nodes: Endpoints, block: Block, market: FeeMarket, protocols: Mapping[str, HedgeProtocol]
    ) -> None:
        """Hold the coin balance against the reserve and what hedges cost today."""
        settings, coin = self._settings, self._settings.coin
        fee_wei = market.next_base_fee_wei + market.tips_wei[-1]
        most_wei = settings.fees.max_fee_wei
        if fee_wei > most_wei:
            hint = "hint: nothing is sent until it falls; raise fees.max_fee_gwei if it must be"
            self._say("fees", f"expected at most {gwei(most_wei)} gwei, found {gwei(fee_wei)}; {hint}", is_ok=False)
        else:
            self._say("fees", f"a fast place costs {gwei(fee_wei)} gwei, limit {gwei(most_wei)}")
        balance_wei = await TransactionReader(nodes, self._wallet).balance_wei(block)
        spare_wei = balance_wei - round(settings.fees.reserve_coin * WEI)
        dearest_wei = max((one.gas_units for one in protocols.values()), default=0) * fee_wei
        lasts = spare_wei // dearest_wei if dearest_wei > 0 else 0
        cost = f"a hedge costs about {dearest_wei / WEI:.2g} {coin} now"
        held = f"{balance_wei / WEI:,.6g} {coin}, of it {settings.fees.reserve_coin:g} reserve"
        if not protocols:
            self._say("gas money", held, is_ok=None)
        elif lasts >= FEWEST_HEDGES:
            self._say("gas money", f"{held}; {cost}, so it lasts for {lasts:,}")
        else:
            detail = f"expected enough for {FEWEST_HEDGES} hedges above the reserve, found {held}; {cost}"
            self._say("gas money", f"{detail}; hint: send {coin} to {self._wallet}", is_ok=False)

    async def _balances(self, nodes: Endpoints, block: Block) -> None:
        """Say what the wallet holds of the assets, which is what hedges trade with."""
        tokens = self._settings.tokens.values()
        if not (self._wallet and self._settings.hedges and tokens):
            return
        reads = [BALANCE_OF.read(token.address, self._wallet) for token in tokens]
        answers = await Multicall(nodes, self._settings.multicall).read(block, reads)
        held = [
            f"{amount_text(uint_at(answer, 0), token.decimals)} {token.symbol}" if answer else f"unknown {token.symbol}"
            for token, answer in zip(tokens, answers, strict=True)
        ]
        self._say("wallet holds", ", ".join(held), is_ok=None)

    # positions

    async def _positions(self, nodes: Endpoints, block: Block) -> None:
        if not self._settings.holders:
            return
        positions = Positions(self._settings)
        await positions.settle(block, Multicall(nodes, self._settings.multicall).read)
        report = positions.report(block, {}, self._clock.now_ns())
        for problem in positions.problems:
            why = problem.removeprefix(f"{self._settings.venue}: ")
            self._say("positions", why, is_ok=False if report is None else None)
        if report is None:
            return
        self._say("positions", f"{len(report.lps)} of liquidity, {len(report.tokens)} balances, supplies and debts")
        for lp in report.lps:
            detail = f"liquidity {lp.liquidity:,.6g} of {lp.underlying} from {lp.low_px:,.2f} to {lp.high_px:,.2f}"
            owed = f"owed {lp.owed_base:.6g} {lp.underlying} and {lp.owed_quote:,.2f} quote"
            self._say(f"position {lp.position_id}", f"{detail}, {owed}", is_ok=None)
        for token in report.tokens:
            worth = f"{token.qty_base:,.6g} {token.underlying or 'quote'}"
            charged = f", less {token.charge_fraction:.2%} for getting out" if token.charge_fraction else ""
            self._say(f"position {token.holding_id}", f"{worth}{charged}", is_ok=None)
        if not math.isinf(report.health_factor):
            self._say("health factor", f"{report.health_factor:.3f} of the weakest loan", is_ok=None)


def _obstacles(protocol: HedgeProtocol) -> Iterator[tuple[str, bool]]:
    """Yield what a protocol needs besides permissions, and whether it is there."""
    match protocol:
        case AaveV3():
            if protocol.wrong_executor:
                yield f"{protocol.wrong_executor}; hint: docs/chains.md says how to deploy one", False
                return
            yield "the executor trades with the vault's pool and router", True
            lending = protocol.lending
            if lending is None:
                yield "expected an account on Aave that can be read, found none", False
            elif lending.hindrance:
                yield f"expected a loan to be possible, found: {lending.hindrance}", False
            else:
                health = lending.health_factor
                said = "no debt" if math.isinf(health) else f"health factor {health:.3f}"
                yield f"Aave lends more; {said}", True
        case PerpV2():
            market = protocol.market
            if market is None:
                yield "expected a market that can be read, found none", False
            elif not market.is_open:
                yield "expected an open market, found it paused or closed", False
            elif market.free_wei <= 0:
                hint = "hint: deposit margin into the perpetual's vault"
                yield f"expected free margin, found {market.free_wei / 10**DECIMALS:,.2f}; {hint}", False
            else:
                yield f"{market.free_wei / 10**DECIMALS:,.2f} of margin is free", True
        case GuardedVault():
            state = protocol.state
            if state is None:
                yield "expected a guarded vault that answers, found none", False
            else:
                yield f"expected {state.obstacle}" if state.obstacle else "the vault lets us hedge", not state.obstacle


async def _ws_problem(url: str, chain_id: int, timeout_s: float) -> str:
    """Return why a WebSocket node cannot be used, "" if it can; never with its address, which may hold a key."""
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    try:
        async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            await socket.send_json(question)
            answer: Any = await socket.receive_json()
            found = int(answer["result"], 16)
    except TimeoutError:
        return f"no answer in {timeout_s:g} s"
    except (aiohttp.ClientError, OSError, TypeError, ValueError, KeyError) as error:
        return f"no answer ({type(error).__name__})"
    return "" if found == chain_id else f"chain {found}"
