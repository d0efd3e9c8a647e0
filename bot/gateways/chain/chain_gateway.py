"""One chain behind the four verbs of a gateway: with every block one read, and from it prices, positions and hedges.

Without a key there is no transaction desk at all: a paper run cannot send by mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from bot.domain.errors import InvariantBroken, Retryable, VenueFatal
from bot.domain.events import CancelForeign, Command, Event, QueryAccount
from bot.domain.instruments import Instrument
from bot.domain.market import ExecutionTerms, OraclePrice, Quote
from bot.domain.units import NS_PER_S
from bot.domain.venues import AccountReport, VenueHealth, VenuePosition, VenueStatus
from bot.gateways.chain.abi import Undecodable
from bot.gateways.chain.blocks import BlockStream, HeadFeed, Step
from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.hedge_desk import HedgeDesk
from bot.gateways.chain.keyless import NOBODY, FeeWatch, unbounded
from bot.gateways.chain.multicall import Multicall
from bot.gateways.chain.nouns import Block, HedgeProtocol, Read, Refused
from bot.gateways.chain.oracles import Oracles
from bot.gateways.chain.positions import Positions
from bot.gateways.chain.protocols.registry import open_protocol
from bot.gateways.chain.rpc import Endpoint
from bot.gateways.chain.sequencer import SequencerGate
from bot.gateways.chain.settings import GWEI, ChainSettings, HedgeSection
from bot.gateways.chain.signing import Signer
from bot.gateways.chain.transaction_log import TransactionLog, log_path
from bot.gateways.chain.transactions import TransactionDesk
from bot.gateways.gateway import Clock, Put

CANCEL: Final = "cancel"
SPEED_UP: Final = "speed-up"
WEI_PER_COIN: Final = 10**18
_MAX_ROUNDS: Final = 8  # of reading one block at the start
_AUDIT_EVERY: Final = 32  # blocks: then all nodes answer the same reads, and who says otherwise is left out
_READ_AGAIN_S: Final = 0.5
_MAX_EARLY: Final = 10_000  # events told before anybody listens
_AFTERWARDS_S: Final = 0.03  # what is not urgent is asked once a hedge has left

log = structlog.get_logger()


class ChainGateway:
    """The gateway of one EVM chain (`bot.gateways.gateway.Gateway`); without `signer` it only watches, for paper runs.

    Fees are then asked for here, delays are those to be expected, and no wallet bounds what is quoted.
    """

    def __init__(self, settings: ChainSettings, signer: Signer | None, clock: Clock, *, run_id: str) -> None:
        self._settings = settings
        self._signer = signer
        self._clock = clock
        self._run_id = run_id
        self._endpoints = Endpoints(settings, clock)
        wallet = settings.wallet.address if settings.wallet is not None else NOBODY
        self._protocols: dict[str, HedgeProtocol] = {}
        self._sections: dict[str, HedgeSection] = {}
        for section in settings.hedges:
            protocol = open_protocol(section, settings, wallet)
            self._protocols[protocol.instrument.instrument_id] = protocol
            self._sections[protocol.instrument.instrument_id] = section
        self._oracles = Oracles(settings)
        self._sequencer = SequencerGate(settings)
        self._positions = Positions(settings)
        self._multicall = Multicall(self._endpoints, settings.multicall)
        self._heads = HeadFeed(settings, self._endpoints, clock)
        self._stream = BlockStream(self._heads, self._endpoints)
        self._hedges = HedgeDesk(settings, self._protocols, self._endpoints, wallet, clock, self._take)
        self._transactions: TransactionDesk | None = None
        self._fee_watch = FeeWatch(settings, self._endpoints) if signer is None else None
        self._stack = AsyncExitStack()
        self._put: Put | None = None
        self._early: list[Event] = []
        self._told: VenueStatus | None = None
        self._seq = 0
        self._block: Block | None = None  # that was read last
        self._head: Block | None = None  # that was heard of last
        self._coin_px = 0.0
        self._asked_ns = 0

    @property
    def venue(self) -> str:
        """The chain's name in the vault file."""
        return self._settings.venue

    @property
    def problems(self) -> tuple[str, ...]:
        """What a person should know: nodes left out, sources that cannot be used, gas that runs low."""
        desk = self._transactions
        own = () if desk is None else tuple(one for one in (desk.alarm, desk.trouble) if one)
        return (*own, *self._endpoints.problems, *self._oracles.problems, *self._positions.problems)

    async def __aenter__(self) -> Self:
        """Connect to the nodes, check chain id and contracts, read one block, and take up transactions left open.

        Raises VenueFatal if the chain cannot be used, Retryable if it may be later; nothing stays open then.
        """
        try:
            await self._stack.enter_async_context(self._endpoints)
            await self._endpoints.check_contracts(contracts_of(self._settings))
            await self._settle(await self._endpoints.block("latest"))
            if self._signer is not None:
                await self._open_desk(self._signer)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect and release every socket and the log."""
        await self._hedges.close()
        await self._stack.aclose()
        self._early = []

    async def instruments(self) -> tuple[Instrument, ...]:
        """Return what the settings offer for hedging: a chain lists nothing by itself."""
        return tuple(protocol.instrument for protocol in self._protocols.values())

    def watch(self, instruments: Sequence[Instrument]) -> None:
        """Do nothing: every instrument of a chain is read with every block, all of them in one request."""
        del instruments

    async def truth(self) -> tuple[Event, ...]:
        """Return the chain's word on our account as of its newest block. Raises Retryable."""
        self._asked_ns = self._clock.now_ns()
        block = await self._endpoints.block("latest")
        events = await self._settle(block)
        return (*events, *self._reports(block))

    async def events(self, put: Put) -> None:
        """Hand what every block says to `put`, and what becomes of our transactions; ends only by cancellation."""
        self._put = put
        if self._early:
            early, self._early = self._early, []
            put(early)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._heads.run(), name=f"heads of {self.venue}")
                tasks.create_task(self._endpoints.watch(), name=f"nodes of {self.venue}")
                tasks.create_task(self._follow(), name=f"blocks of {self.venue}")
                tasks.create_task(self._watch_silence(), name=f"silence of {self.venue}")
                tasks.create_task(self._hedges.watch(), name=f"hedges of {self.venue}")
        finally:
            self._put = None

    def submit(self, command: Command) -> None:
        """Start carrying out a command at once, without waiting for anything."""
        if self._transactions is None:
            raise InvariantBroken(f"a command for {self.venue}, where there is no key: {type(command).__name__}")
        if isinstance(command, QueryAccount):
            if self._block is not None and self._head in (None, self._block):
                self._asked_ns = self._clock.now_ns()  # else what we read is older than what we told of fills
                self._take(self._reports(self._block))
        elif not isinstance(command, CancelForeign):  # nothing of others rests on a chain in our name
            self._hedges.submit(command)

    def view(self) -> dict[str, Any]:
        """Return what an operator should know of the chain, JSON-ready."""
        desk, block = self._transactions, self._block
        market = desk.market if desk is not None else None
        age_s = None if block is None else max(0.0, self._clock.now_ns() / NS_PER_S - block.timestamp_s)
        pending = [] if desk is None else [life for life in desk.lives if life.is_live]
        balance_wei = None if desk is None else desk.balance_wei
        return {
            "chain": self.venue,
            "head": None if block is None else block.number,
            "age_s": None if age_s is None else round(age_s, 3),
            "base_fee_gwei": None if block is None else block.base_fee_wei / GWEI,
            "tips_gwei": [] if market is None else [tip / GWEI for tip in market.tips_wei],
            "coin": self._settings.coin,
            "balance_coin": None if balance_wei is None else balance_wei / WEI_PER_COIN,
            "reserve_coin": None if desk is None else self._settings.fees.reserve_coin,
            "pending": [
                {
                    "key": life.key,
                    "state": life.state.value,
                    "nonce": life.nonce,
                    "versions": len(life.attempts),
                    "age_s": round(max(0.0, (self._clock.now_ns() - life.reserved_ns) / NS_PER_S), 3),
                    "reason": life.reason,
                }
                for life in pending
            ],
            "problems": list(self.problems),
        }

    async def help_transaction(self, key: str, action: str) -> str:
        """Replace a transaction under way: "cancel" by one that does nothing, "speed-up" by itself at higher fees.

        Return why not, "" if it was done: there is none, it was mined, it would cost more than the caps.
        """
        desk = self._transactions
        if desk is None:
            return f"{self.venue}: expected a key that signs, found none: nothing was sent"
        hands = {CANCEL: desk.cancel, SPEED_UP: desk.speed_up}
        if action not in hands:
            return f"expected an action of {', '.join(hands)}, found {action!r}"
        try:
            await hands[action](key)
        except (Refused, Retryable) as error:
            return str(error)
        log.warning("operator.transaction", chain=self.venue, action=action, key=key)
        return ""

    # ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self) -> None:
        """Take in block after block; one that could not be read is read again until it can be, or another comes."""
        coming: asyncio.Task[Step] | None = None
        unread: Step | None = None
        try:
            while True:
                try:
                    coming = coming or asyncio.create_task(self._stream.next())
                    if unread is not None:
                        await asyncio.wait({coming}, timeout=_READ_AGAIN_S)
                    if unread is None or coming.done():
                        found, coming = coming, None
                        step, is_again = await found, False
                    else:
                        step, is_again = unread, True
                    unread = step
                    await self._take_step(step, is_again=is_again)
                    unread = None
                except (Retryable, Undecodable) as error:
                    self._tell_health(VenueHealth.DOWN, str(error))
                except VenueFatal as error:
                    self._tell_health(VenueHealth.FATAL, str(error))
                    await asyncio.Event().wait()  # a person looks; what is under way is told at the next start
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _take_step(self, step: Step, *, is_again: bool) -> None:
        """Take in a new head: reorgs first, then prices, then what became of our transactions, then positions."""
        head = self._head = step.head
        self._endpoints.saw(head.number)
        desk = self._transactions
        if step.reorg is not None and not is_again:
            log.warning("chain.reorg", chain=self.venue, gone=len(step.reorg.gone), came=len(step.reorg.came))
            if desk is not None:
                await desk.on_reorg(step.reorg)
        self._asked_ns = self._clock.now_ns()
        if self._fee_watch is not None:
            await self._fee_watch.read(head)
        if desk is not None:
            desk.look_ahead(head)
        try:
            events, _ = await asyncio.gather(self._read(head), self._endpoints.confirm(head))
            self._take(events)  # nothing of a block that nodes disagree on
        finally:  # what is under way is seen to all the same
            if desk is not None:
                await desk.on_block(head, is_urgent_only=True)
        await self._positions.settle(head, self._multicall.read)
        self._take(self._reports(head))
        self._tell_health(*self._judge())
        if desk is not None:
            await asyncio.sleep(_AFTERWARDS_S)
            await desk.look_back(head)
        if head.number % _AUDIT_EVERY == 0 and len(self._settings.http_urls) > 1:
            await self._multicall.audit(head, [read for group in self._read_groups() for read in group])

    async def _settle(self, block: Block) -> list[Event]:
        """Read one block until nothing is lacking: what some reads find says what others must be."""
        for _ in range(_MAX_ROUNDS):
            reads = [protocol.reads for protocol in self._protocols.values()]
            events = await self._read(block)
            if reads == [protocol.reads for protocol in self._protocols.values()]:
                break
        await self._positions.settle(block, self._multicall.read)
        return events

    def _read_groups(self) -> list[tuple[Read, ...]]:
        groups = [protocol.reads for protocol in self._protocols.values()]
        return [*groups, self._oracles.reads, self._sequencer.reads, self._positions.reads]

    async def _read(self, block: Block) -> list[Event]:
        """Read everything of one block and return its prices and terms."""
        groups = self._read_groups()
        answers = await self._multicall.read(block, [read for group in groups for read in group])
        parts: list[Sequence[bytes | None]] = []
        at = 0
        for group in groups:
            parts.append(answers[at : at + len(group)])
            at += len(group)
        now_ns = self._clock.now_ns()
        for protocol, part in zip(self._protocols.values(), parts, strict=False):
            protocol.update(block, part)
        words = self._oracles.update(block, parts[-3], now_ns)
        self._sequencer.update(block, parts[-2])
        self._positions.update(block, parts[-1])
        self._block = block
        self._hedges.note_block(block)
        quotes = [quote for one in self._protocols.values() if (quote := one.quote(now_ns)) is not None]
        if self._fee_watch is not None:
            quotes = [unbounded(quote, self._protocols[quote.instrument_id]) for quote in quotes]
        self._note_coin_px(words, quotes)
        return [*words, *quotes, *self._terms(block, now_ns)]

    def _terms(self, block: Block, now_ns: int) -> list[ExecutionTerms]:
        """Return what a place in a block costs now, by instrument; nothing while that is not known."""
        source = self._transactions or self._fee_watch
        if source is None or source.market is None:
            return []
        self._seq += 1
        found = []
        for name, protocol in self._protocols.items():
            tiers = source.tiers(protocol.gas_units)
            if tiers:
                found.append(
                    ExecutionTerms(
                        name,
                        tiers,
                        source.reverts.fraction(name),
                        protocol.depth_base,
                        self._settings.block_ns,
                        min(block.timestamp_s * NS_PER_S, now_ns),
                        now_ns,
                        self._seq,
                        source.market.next_base_fee_wei,
                        protocol.gas_units,
                        source.coin_px,
                    )
                )
        return found

    def _note_coin_px(self, words: Sequence[OraclePrice], quotes: Sequence[Quote]) -> None:
        """Keep the price of the chain's coin, which gas is counted in: an oracle's word, else a pool's."""
        coin = self._settings.coin
        told = [word.px for word in words if word.underlying == coin and word.px > 0.0]
        if not told:
            base_of = {name: one.instrument.base for name, one in self._protocols.items()}
            told = [0.5 * (one.bid_px + one.ask_px) for one in quotes if base_of[one.instrument_id] == coin]
        if told:
            self._coin_px = sorted(told)[len(told) // 2]
        source = self._transactions or self._fee_watch
        if source is not None:
            source.coin_px = self._coin_px

    def _reports(self, block: Block) -> list[Event]:
        """Return what we hold as of the newest block: hedges by instrument, and the book of the holders."""
        now_ns = self._clock.now_ns()
        asked_ns = self._asked_ns or now_ns
        events: list[Event] = []
        if self._transactions is not None:
            positions = tuple(
                VenuePosition(name, lots, 0.0) for name, one in self._protocols.items() if (lots := one.position_lots())
            )
            events.append(AccountReport(self.venue, positions, (), {}, asked_ns, now_ns))
        report = self._positions.report(block, self._hedged_wei(), now_ns)
        if report is not None:
            events.append(report)
        return events

    def _hedged_wei(self) -> dict[str, int]:
        """Return what hedges put into the wallet, or took from it or owe, by what it is told under."""
        if self._transactions is None:
            return {}  # without a key nothing there is a hedge of ours
        hedged = self._hedges.moved_by_asset()
        for instrument_id, section in self._sections.items():
            token = self._settings.tokens.get(section.base)
            if token is None:
                continue
            wei = round(self._protocols[instrument_id].position_lots() * section.lot_base * 10**token.decimals)
            is_debt = section.protocol == "aave_v3"
            wallet = self._settings.wallet.address if self._settings.wallet is not None else ""
            where = f"aave debt of {token.symbol} of {wallet}" if is_debt else token.symbol
            hedged[where] = hedged.get(where, 0) + wei
        return hedged

    # ── health ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _judge(self) -> tuple[VenueHealth, str]:
        health, reason = self._endpoints.health
        if health is VenueHealth.UP and self._sequencer.reason:
            return VenueHealth.DOWN, self._sequencer.reason
        return health, reason

    def _tell_health(self, health: VenueHealth, reason: str) -> None:
        told = self._told
        if told is None and health is VenueHealth.UP:
            return  # a venue never heard of counts as up
        if told is None or (told.health, told.reason) != (health, reason):
            self._told = VenueStatus(self.venue, health, reason, self._clock.now_ns())
            self._take([self._told])

    async def _watch_silence(self) -> None:
        """Say that the chain is down once no block came for too long."""
        limit_s = self._settings.max_silence_ns / NS_PER_S
        while True:
            before = self._block
            await asyncio.sleep(limit_s)
            if self._block is before:
                self._tell_health(VenueHealth.DOWN, f"no new block for {limit_s:g} s")

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _open_desk(self, signer: Signer) -> None:
        """Take up the key: its log, and every transaction in it that is not over."""
        settings = self._settings
        path = log_path(Path(settings.state_dir), settings.chain_id, signer.address)
        found = self._stack.enter_context(TransactionLog.open(path, for_writing=True))
        relay = None
        if settings.relay_url:
            relay = await self._stack.enter_async_context(Endpoint(settings.relay_url, settings.timeout_ns, "relay"))
        desk = TransactionDesk(settings, signer, found, self._endpoints, self._clock, self._hedges.take, relay)
        desk.coin_px = self._coin_px
        self._transactions = self._hedges.transactions = desk
        self._hedges.recall(found.lives().values(), self._run_id)
        await desk.recover()

    def _take(self, events: Sequence[Event]) -> None:
        if not events:
            return
        if self._put is not None:
            self._put(events)
        elif len(self._early) < _MAX_EARLY:
            self._early.extend(events)


def contracts_of(settings: ChainSettings) -> dict[str, str]:
    """Return every contract that settings of a chain name, by its name for people."""
    found = {"multicall": settings.multicall}
    found |= {symbol: token.address for symbol, token in settings.tokens.items()}
    found |= {f"oracle {name}": oracle.address for name, oracle in settings.oracles.items()}
    for hedge in settings.hedges:
        found |= {f"{hedge.name} {role}": address for role, address in hedge.contracts.items()}
        found |= {f"{hedge.name} pool {pool.base}/{pool.quote}": pool.address for pool in hedge.route}
    for holder in settings.holders:
        found |= {f"pool {pool.base}/{pool.quote} of {holder.address}": pool.address for pool in holder.lp_pools}
        for what, address in (("position manager", holder.position_manager), ("Aave pool", holder.aave_pool)):
            found |= {f"{what} of {holder.address}": address} if address else {}
    return found | ({"sequencer feed": settings.sequencer_feed} if settings.sequencer_feed else {})
