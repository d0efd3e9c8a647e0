"""A run on a live feed: gateways, the engine on what their venues list, and for paper the simulated venue.

Must never let a gateway's word reach the engine without a stamp of ours, nor an order reach two venues.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import msgspec
import structlog

from bot.domain.chain import GasPaid
from bot.domain.decisions import HedgePolicy
from bot.domain.errors import JournalError, Retryable
from bot.domain.events import (
    CancelForeign,
    CancelOrder,
    Command,
    Event,
    OrderCommand,
    PlanCollateral,
    QueryAccount,
    QueryOrder,
    QueryTransfer,
    Restarted,
    SubmitOrder,
)
from bot.domain.instruments import Instrument, Option, contract_of
from bot.domain.market import IndexPrice
from bot.domain.orders import AmendRejected, OrderCanceled, OrderEvent, OrderRejected, OrderTruth
from bot.domain.risk import CollateralPlanned, SupposedMargin, SupposedPosition, TransferCollateral, TransferUpdate
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from bot.domain.venues import AccountReport, BookReport, InstrumentDelisted, InstrumentListed, VenueStatus
from bot.engine.engine import Engine
from bot.engine.latencies import Latencies
from bot.engine.option_hedges import is_eligible, tradable_options
from bot.engine.settings import EngineSettings
from bot.gateways.exchange import Credentials
from bot.gateways.gateway import Clock, Gateway
from bot.gateways.paper import PaperExecution
from bot.runtime.collateral_planner import CollateralPlanner
from bot.runtime.configuration.book_file import BookFile
from bot.runtime.configuration.chains import ChainOpener, chain_settings, load_signer, open_chain
from bot.runtime.configuration.config import build_live_settings, check_listing
from bot.runtime.configuration.vault import AccountLine, Vault
from bot.runtime.configuration.venues import (
    Execution,
    ExecutionOpener,
    GatewayOpener,
    open_gateway,
    prefix_of,
    vault_credentials,
    venue_settings,
)
from bot.runtime.journal import Header, Journal
from bot.runtime.live.clock import VenueClock, WallClock
from bot.runtime.live.series import LiveSeries, open_series
from bot.runtime.live.transfers import LiveTransfers, open_transfers
from bot.runtime.mailbox import Mailbox
from bot.runtime.session import fees_of, planner_of, transfers_of
from bot.simulation.score import Score
from bot.simulation.venue import Faults, Latency, OptionFees

if TYPE_CHECKING:
    from bot.runtime.live.signs import LiveSigns

HEARTBEAT_S = 1.0  # with nothing to decide on, a decision this often still sees what went stale or was never answered
CLOCK_TOLERANCE_NS = NS_PER_S
WITHDRAW_AGAIN_S = 0.5  # between two tries to cancel what rests when the daemon ends
LOOK_BACK_NS = 10 * NS_PER_MIN  # trades known already are recognised by their ids
CHOOSE_AGAIN_FRACTION = 0.02  # move of the index after which other options may be worth watching …
CHOOSE_AGAIN_NS = NS_PER_HOUR  # … and the time after which expiries may have come within reach
NOT_SENT = "not sent: "  # how the daemon's own refusals begin: such an order never left

log = structlog.get_logger()


class LiveSession(NamedTuple):
    """Everything one run on a live feed needs. Without gateways it is a look at a journal."""

    vault: Vault
    engine: Engine
    score: Score
    latencies: Latencies
    run_id: str
    instruments: tuple[Instrument, ...]
    listed: tuple[Instrument, ...]
    gateways: dict[str, Gateway]
    clock: WallClock | VenueClock
    execution: Execution | None
    book_files: tuple[BookFile, ...]
    transfers: LiveTransfers | None = None
    signs: LiveSigns | None = None
    series: LiveSeries | None = None

    @property
    def policy(self) -> HedgePolicy:
        """The one that hedges."""
        return self.engine.settings.policy

    def settings_for(self, vault: Vault) -> EngineSettings:
        """Return what the engine would have to be told of another configuration of this vault."""
        return build_live_settings(vault, self.instruments, self.run_id)

    @property
    def underlying(self) -> str:
        """The first underlying, which pictures and tracking error follow."""
        return next(iter(self.engine.desks))

    @property
    def recording_name(self) -> None:
        """A live feed plays no recording."""
        return None

    @property
    def recording_sha256(self) -> None:
        """A live feed plays no recording."""
        return None

    def open_feed(self, mailbox: Mailbox, speed: float) -> LiveFeed:
        """Return the feed that fills `mailbox`; a live one keeps its own pace."""
        del speed
        return LiveFeed(self, mailbox)

    def resubmit(self, command: Command, now_ns: int) -> None:
        """Hand a journalled command to the simulated venue of a paper run, as the daemon did."""
        if self.execution is not None:
            self.execution.submit(command, now_ns)

    def retrace(self, now_ns: int, events: tuple[Event, ...]) -> None:
        """Show a journalled batch to the simulated venue of a paper run.

        Raises JournalError if it now answers anything else than what the journal holds.
        """
        if self.execution is None or (events and isinstance(events[0], Restarted)):
            return
        is_planned = isinstance(self.clock, VenueClock)  # by the execution, else by a process of ours
        kept = [e for e in events if not (_is_answer(e) or (is_planned and isinstance(e, CollateralPlanned)))]
        answered = self.execution.absorb(now_ns, kept)
        if tuple(answered) != events:
            hint = "hint: the code changed since; nothing was sent"
            raise JournalError(
                f"expected the simulated venue to answer at {now_ns} as it did then, found others; {hint}"
            )

    async def truth(self, known: Mapping[str, Instrument]) -> tuple[Event, ...]:
        """Return what changed while nobody looked: listings, then with keys every venue's word on our account.

        Raises JournalError if the contract of something we hold or hedge with is no longer what it was.
        """
        now_ns = self.clock.now_ns()
        changes = list(listing_changes(known, self.listed, self._contracts(known), now_ns))
        if self.vault.mode == "paper":
            return tuple(changes)
        words = await asyncio.gather(*(self._truth_of(gateway) for gateway in self.gateways.values()))
        return (*changes, *(event for word in words for event in word))

    async def _truth_of(self, gateway: Gateway) -> tuple[Event, ...]:
        """Return one venue's word, nothing if it has none now: the engine asks again before it trades."""
        try:
            word = await gateway.truth()
        except Retryable as error:
            log.warning("account.not_known", venue=gateway.venue, why=str(error))
            return ()
        return word

    def _contracts(self, known: Mapping[str, Instrument]) -> dict[str, Instrument]:
        """Return what the vault names as the journal first knew it, also where it was delisted since."""
        named = frozenset(self.vault.named_instruments).union(
            *(file.instrument_ids for file in self.book_files), self.engine.option_hedges.held()
        )
        first = {instrument.instrument_id: instrument for instrument in self.instruments}
        return {name: one for name, one in {**known, **first}.items() if name in named}


@asynccontextmanager
async def open_live(
    vault: Vault,
    vault_file: Path,
    journal: Journal,
    environ: Mapping[str, str],
    *,
    began: Vault | None = None,
    gateway_opener: GatewayOpener = open_gateway,
    execution_opener: ExecutionOpener = PaperExecution,
) -> AsyncIterator[LiveSession]:
    """Connect to the venues of a vault and put its run together, a new one or the one that `journal` holds.

    `began` is the configuration that the journal began with, where it was changed since.

    Raises VenueFatal or Retryable if a venue cannot be used, ConfigError if it lacks what the vault names.
    """
    from bot.runtime.live.signs import open_signs  # noqa: PLC0415 — brings ccxt, which a halt must not wait for

    clock = VenueClock() if vault.clock == "venue" else WallClock()
    run_id = secrets.token_hex(5) if journal.is_empty else journal.header.run_id
    async with AsyncExitStack() as stack:
        since_ns = _look_back_ns(journal)
        gateways = await connect(vault, environ, clock, run_id, gateway_opener, stack, since_ns=since_ns)
        listed = await list_instruments(gateways)
        if journal.is_empty:
            check_listing(vault_file, listed, clock.now_ns(), " or ".join(gateways))
        instruments = listed if journal.is_empty else journal.header.instruments
        known = {instrument.instrument_id for instrument in (*instruments, *listed)}
        files = tuple(BookFile(Path(path)) for path in vault.book_files)
        for file in files:
            file.open(known)
        began = vault if began is None else began
        session = _assemble(began, instruments, run_id)
        execution = _open_paper(session, execution_opener) if vault.mode == "paper" else None
        transfers = await open_transfers(vault, environ, clock, stack)
        yield session._replace(
            listed=listed,
            gateways=gateways,
            clock=clock,
            execution=execution,
            book_files=files,
            transfers=transfers,
            signs=open_signs(vault, session.engine.settings, environ, clock),
            series=open_series(vault, environ, clock),
        )


async def connect(
    vault: Vault,
    environ: Mapping[str, str],
    clock: Clock,
    run_id: str,
    gateway_opener: GatewayOpener,
    stack: AsyncExitStack,
    *,
    since_ns: int = 0,
    is_keyless: bool = False,
    chain_opener: ChainOpener = open_chain,
) -> dict[str, Gateway]:
    """Return the gateways of a vault by venue, connected for as long as `stack` lasts; `is_keyless` only to watch.

    Raises VenueFatal or Retryable if a venue cannot be used.
    """
    settings = venue_settings(vault, environ)
    credentials = dict.fromkeys(settings, Credentials()) if is_keyless else vault_credentials(vault, environ)
    gateways: dict[str, Gateway] = {}
    for venue, one in settings.items():
        prefix = prefix_of(vault, venue)
        gateway = gateway_opener(one, credentials[venue], clock, run_id=run_id, prefix=prefix, since_ns=since_ns)
        gateways[venue] = await stack.enter_async_context(gateway)
    for chain, section in chain_settings(vault, environ).items():
        signer = None if is_keyless or vault.mode == "paper" else await load_signer(section, environ, stack)
        gateways[chain] = await stack.enter_async_context(chain_opener(section, signer, clock, run_id=run_id))
    return gateways


async def list_instruments(gateways: Mapping[str, Gateway]) -> tuple[Instrument, ...]:
    """Return everything the venues list now."""
    listings = await asyncio.gather(*(gateway.instruments() for gateway in gateways.values()))
    return tuple(instrument for listing in listings for instrument in listing)


def _look_back_ns(journal: Journal) -> int:
    """Return from when on trades may have been missed: a while before the last batch, not before the first one."""
    if journal.last_seq < 1:
        return 0
    first_ns = next((record.now_ns for _, record in journal.records(1) if not isinstance(record, Header)), 0)
    last_ns = next(
        (record.now_ns for _, record in journal.records(journal.last_seq) if not isinstance(record, Header)), 0
    )
    return max(first_ns, last_ns - LOOK_BACK_NS)


def look_at(vault: Vault, header: Header) -> LiveSession:
    """Return the session that `header` began, for reports and a last word: nobody is contacted."""
    return _assemble(vault, header.instruments, header.run_id)


def _assemble(vault: Vault, instruments: tuple[Instrument, ...], run_id: str) -> LiveSession:
    settings = build_live_settings(vault, instruments, run_id)
    engine = Engine(settings)
    return LiveSession(
        vault, engine, Score(engine), Latencies(), run_id, instruments, instruments, {}, WallClock(), None, ()
    )  # fmt: skip


def _open_paper(session: LiveSession, opener: ExecutionOpener) -> Execution:
    hedges = [hedge for hedges in session.engine.settings.hedges.values() for hedge in hedges]
    latency = session.vault.latency
    options = tradable_options(session.engine.settings)
    return opener(
        [*(hedge.instrument for hedge in hedges), *(option for option, _ in options)],
        fees=fees_of(hedges, options),
        latency=Latency(0, latency.entry_ns, latency.response_ns, latency.jitter),  # the feed's own is real
        depth={},
        seed=session.vault.seed,
        faults=Faults(),
        cash=dict.fromkeys(list(session.vault.venues)[:1], session.vault.fixed_cash),
        chains={name: chain.coin for name, chain in session.vault.chains.items()},
        option_fees={
            (rules.venue, underlying): OptionFees(rules.taker_bps, rules.fee_cap_fraction)
            for underlying, rules in session.engine.settings.option_hedges.items()
        },
        transfers=transfers_of(session.engine.settings, session.vault.seed),
        planner=planner_of(session.engine.settings) if session.vault.clock == "venue" else None,
    )


@runtime_checkable
class OnChain(Protocol):
    """What the gateway of a chain can do besides: tell of the chain, and give a hand to a transaction."""

    def view(self) -> dict[str, Any]:
        """Return what an operator should know of the chain, JSON-ready."""

    async def help_transaction(self, key: str, action: str) -> str:
        """Cancel a transaction under way or speed it up; return why not, "" if it was done."""


def _planner_of(session: LiveSession) -> CollateralPlanner | None:
    """Return who plans collateral while time is real; where it is the venue's, the simulated venue plans too."""
    risk = session.engine.settings.risk
    if risk is None or risk.collateral is None:
        return None
    is_rehearsed = session.execution is not None and isinstance(session.clock, VenueClock)
    return None if is_rehearsed else CollateralPlanner(session.clock)


@runtime_checkable
class Supposes(Protocol):
    """A gateway that can be asked what its venue would ask for."""

    async def suppose(self, change: SupposedPosition) -> SupposedMargin | None:
        """Return it, None where the venue does not say. Raises KeyError or Retryable."""


def _is_answer(event: Event) -> bool:
    """Tell whether a journalled event is the simulated venue's: only it speaks of orders and gas in a paper run."""
    if isinstance(event, OrderRejected | AmendRejected | TransferUpdate) and event.reason.startswith(NOT_SENT):
        return False
    return isinstance(event, OrderEvent | AccountReport | GasPaid | TransferUpdate)


def listing_changes(
    known: Mapping[str, Instrument],
    listed: Sequence[Instrument],
    contracts: Mapping[str, Instrument],
    now_ns: int,
) -> Iterable[Event]:
    """Yield what venues list now that is new, gone or changed against what was `known`; fees may change.

    Raises JournalError if a contract is no longer as in `contracts`, those that the journal counts our lots in.
    """
    now = {instrument.instrument_id: instrument for instrument in listed}
    for name, old in contracts.items():
        if name in now and (change := _change(old, now[name])) is not None:
            hint = "close it by hand and start a new journal: quantities would mean something else"
            raise JournalError(
                f"{name}: expected the contract of the journal, {change[0]}, found {change[1]}; hint: {hint}"
            )
    for name, old in known.items():
        if name not in now:
            yield InstrumentDelisted(name, f"{old.venue} no longer lists it", now_ns)
        elif (change := _change(old, now[name])) is not None:
            yield InstrumentDelisted(name, f"its contract changed from {change[0]} to {change[1]}", now_ns)
    for name, new in now.items():
        if name not in known:
            yield InstrumentListed(new, now_ns)


def _change(old: Instrument, new: Instrument) -> tuple[str, str] | None:
    """Return what differs between two contracts, as each has it; None if they are the same."""
    was, now = contract_of(old), contract_of(new)
    names = [name for name in was if was[name] != now.get(name)]
    if not names:
        return None
    if "kind" in names:
        return str(was["kind"]), str(now["kind"])
    return ", ".join(f"{name} {was[name]}" for name in names), ", ".join(f"{name} {now[name]}" for name in names)


class LiveFeed:
    """Gateways on one side, a mailbox on the other, and a heartbeat for when the market says nothing."""

    def __init__(self, session: LiveSession, mailbox: Mailbox) -> None:
        self._session = session
        self._mailbox = mailbox
        self._clock = session.clock
        self._floor_ns = 0
        # what the venue lists now comes last: its terms are the newest
        self._known = {one.instrument_id: one for one in (*session.instruments, *session.listed)}
        self._account_venues = {line.account for line in session.vault.book if isinstance(line, AccountLine)}
        self._held_of: dict[str, frozenset[str]] = {}
        self._watched: dict[str, frozenset[str]] = {}
        self._index_px: dict[str, float] = {}  # by underlying with option hedges, when their options were last chosen
        self._chosen_ns = 0
        self._early: list[tuple[Command, int]] | None = []  # commands from before the gateways run
        self._opening: list[Event] = [
            BookReport(file.source, file.held, 0) for file in session.book_files
        ]  # with the first events, so that they are decided upon at a time that means something
        self._is_idle = True
        self._rescheduled = asyncio.Event()
        self._leaving: set[str] = set()
        self._left = asyncio.Event()
        self.venues: dict[str, VenueStatus] = {}
        self._planner = _planner_of(session)

    @property
    def is_over(self) -> bool:
        """Never: venues answer as long as the daemon runs."""
        return False

    def now_ns(self) -> int:
        """Return the clock's time, never before what was already decided upon."""
        return max(self._clock.now_ns(), self._floor_ns)

    def decision_ns(self, received_ns: int) -> int:
        """Decide at the present: what waited in the mailbox is as old as it is."""
        return max(self.now_ns(), received_ns)

    def resume(self, last_ns: int) -> None:
        """Go on after `last_ns`. Raises JournalError if our clock was set back before that."""
        if isinstance(self._clock, VenueClock):
            self._clock.advance(last_ns)
        elif self._clock.now_ns() < last_ns - CLOCK_TOLERANCE_NS:
            behind_s = (last_ns - self._clock.now_ns()) / NS_PER_S
            expected = "expected the clock to be past the journal's last row"
            raise JournalError(f"{expected}, found it {behind_s:.1f} s before; hint: set this machine's clock")
        self._floor_ns = last_ns

    def catch_up(self) -> int:
        """Return the time it is: events come by themselves."""
        return self.now_ns()

    async def run(self) -> None:
        """Fill the mailbox until cancelled."""
        self._watch()
        async with asyncio.TaskGroup() as tasks:
            for venue, gateway in self._session.gateways.items():
                tasks.create_task(gateway.events(self.put), name=f"events of {venue}")
            await asyncio.sleep(0)  # every gateway listens before the first command reaches it
            early, self._early = self._early or [], None
            for command, now_ns in early:
                self.submit(command, now_ns)
            if self._session.transfers is not None:
                tasks.create_task(self._session.transfers.run(self.put), name="transfers")
            if self._planner is not None:
                tasks.create_task(self._planner.run(self.put), name="collateral plans")
            if self._session.signs is not None:
                tasks.create_task(self._session.signs.run(self.put), name="counterparties")
            if self._session.series is not None:
                tasks.create_task(self._session.series.run(self.put), name="series")
            risk = self._session.engine.settings.risk
            if risk is not None:
                current = {venue: account.parameters for venue, account in risk.accounts.items()}
                from bot.runtime.live.margin_terms import TermsPoll  # noqa: PLC0415 — brings ccxt

                poll = TermsPoll(self._session.gateways, current, self.put, self._clock)
                tasks.create_task(poll.run(), name="margin parameters")
            tasks.create_task(self._beat(), name="heartbeat")
            if self._session.execution is not None and isinstance(self._clock, WallClock):
                tasks.create_task(self._ring(self._session.execution), name="paper timers")

    def put(self, events: Sequence[Event]) -> None:
        """Take in what a gateway says."""
        if isinstance(self._clock, VenueClock):
            events = self._clock.take(events)
        for event in events:
            self._note(event)
        if self._session.signs is not None:
            self._session.signs.note(events)
        if self._opening and events:
            now_ns = self.now_ns()
            events = [*(msgspec.structs.replace(one, ts_recv_ns=now_ns) for one in self._opening), *events]
            self._opening = []
        self._is_idle = False
        self._mailbox.put(self.now_ns(), events)

    def absorb(self, now_ns: int, events: Sequence[Event]) -> tuple[Event, ...]:
        """Let the simulated venue of a paper run see and answer a batch; without one the batch is whole."""
        execution = self._session.execution
        if execution is None:
            return tuple(events)
        self._rescheduled.set()
        return tuple(execution.absorb(now_ns, events))

    def submit(self, command: Command, now_ns: int) -> None:
        """Hand a command to the gateway of its venue, or to the simulated venue of a paper run."""
        if isinstance(command, PlanCollateral) and self._planner is not None:
            self._planner.submit(command)
        elif self._session.execution is not None:
            self._session.execution.submit(command, now_ns)
            self._rescheduled.set()
        elif self._early is not None:
            self._early.append((command, now_ns))
        elif isinstance(command, TransferCollateral | QueryTransfer):
            if self._session.transfers is not None:
                self._session.transfers.submit(command, now_ns)
        elif not isinstance(command, PlanCollateral):
            self._session.gateways[self._venue(command)].submit(command)

    def view(self) -> dict[str, Any]:
        """Return the venues as they last were, and what is wrong with files of the book."""
        return {
            "venues": [
                {"venue": one.venue, "health": str(one.health), "reason": one.reason} for one in self.venues.values()
            ],
            "book_files": [
                {"file": str(file.path), "holdings": len(file.held), "problem": file.problem}
                for file in self._session.book_files
            ],
            "transfers_to_confirm": list(self._session.transfers.waiting)
            if self._session.transfers is not None
            else [],
            "chains": [gateway.view() for gateway in self._session.gateways.values() if isinstance(gateway, OnChain)],
            "series_down": self._session.series.down if self._session.series is not None else {},
            "latency_us": msgspec.to_builtins(self._session.latencies.summary()),
        }

    async def suppose(self, change: SupposedPosition) -> SupposedMargin | str:
        """Return what an instrument's venue would ask for with a position changed, or why it does not say."""
        instrument = self._session.engine.holdings.instruments.get(change.instrument_id)
        venue = instrument.venue if instrument is not None else ""
        gateway: object = self._session.gateways.get(venue)
        if not isinstance(gateway, Supposes):
            return f"{venue or change.instrument_id} cannot be asked"
        try:
            found = await gateway.suppose(change)
        except (KeyError, Retryable) as error:
            return f"{venue} did not answer: {error}"
        return found or f"{venue} has no such question, or no keys are loaded"

    async def help_transaction(self, chain: str, key: str, action: str) -> str:
        """Cancel a transaction of a chain or speed it up, as an operator asks; return why not, "" if it was done."""
        for name, gateway in self._session.gateways.items():
            if name == chain and isinstance(gateway, OnChain):
                return await gateway.help_transaction(key, action)
        return f"expected a chain of the vault, found {chain!r}"

    def help_transfer(self, action: str, transfer_id: str, amount: float | None, fee: float, issuer: str) -> str:
        """Take a person's word on a transfer of collateral; return why it is not taken, "" if it is."""
        if self._session.transfers is None:
            return f"expected a vault with mode: live and routes under risk.transfers, found {transfer_id!r} of another"
        return self._session.transfers.help(action, transfer_id, amount, fee, issuer)

    async def withdraw(self, cancels: Sequence[CancelOrder], timeout_s: float) -> list[str]:
        """Cancel at the venues without the journal's help; return the orders not known to be over by then."""
        if self._session.execution is not None:
            return []
        self._leaving = {command.order_id for command in cancels}
        self._left.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._leaving:
                    # again and again: a cancel may overtake the order it is for, and an answer may be lost
                    for command in cancels:
                        if command.order_id in self._leaving:
                            self.submit(command, self.now_ns())
                            self.submit(QueryOrder(command.order_id, command.instrument_id), self.now_ns())
                    with suppress(TimeoutError):
                        async with asyncio.timeout(WITHDRAW_AGAIN_S):
                            await self._left.wait()
        return sorted(self._leaving)

    def _venue(self, command: OrderCommand) -> str:
        if isinstance(command, QueryAccount | CancelForeign):
            return command.venue
        about = command.intent if isinstance(command, SubmitOrder) else command
        return self._known[about.instrument_id].venue

    def _note(self, event: Event) -> None:
        """Keep what routing, watching and leaving depend on."""
        match event:
            case VenueStatus():
                self.venues[event.venue] = event
                log.warning("venue.changed", venue=event.venue, health=str(event.health), reason=event.reason)
            case InstrumentListed():
                self._known[event.instrument.instrument_id] = event.instrument
            case AccountReport() if event.venue in self._account_venues:
                self._held_of[event.venue] = frozenset(one.instrument_id for one in event.positions if one.qty_lots)
                self._watch()
            case IndexPrice():
                self._note_index(event)
            case OrderCanceled() | OrderRejected():
                self._note_over(event.order_id)
            case OrderTruth() if event.state.is_terminal:
                self._note_over(event.order_id)

    def _note_over(self, order_id: str) -> None:
        self._leaving.discard(order_id)
        if not self._leaving:
            self._left.set()

    def _watch(self) -> None:
        """Tell every gateway which instruments the vault needs to see."""
        session = self._session
        wanted = frozenset(session.vault.named_instruments).union(
            *(file.instrument_ids for file in session.book_files), *self._held_of.values(), self._options_to_watch()
        )
        for venue, gateway in session.gateways.items():
            mine = {name: one for name in wanted if (one := self._known.get(name)) is not None and one.venue == venue}
            if mine.keys() != self._watched.get(venue):
                self._watched[venue] = frozenset(mine)
                gateway.watch(tuple(mine.values()))

    def _options_to_watch(self) -> frozenset[str]:
        """Return the options that may be traded as hedges at today's price, and those that are held as such."""
        engine = self._session.engine
        held = set(engine.option_hedges.held())
        self._chosen_ns = now_ns = self.now_ns()
        for underlying, rules in engine.settings.option_hedges.items():
            index_px = self._index_px.get(underlying, 0.0)
            held |= {
                name
                for name, one in self._known.items()
                if isinstance(one, Option) and one.base == underlying and is_eligible(rules, one, now_ns, index_px)
            }
        return frozenset(held)

    def _note_index(self, event: IndexPrice) -> None:
        """Choose the options to watch anew when their underlying has a price, once it moved far, and every hour."""
        last_px = self._index_px.get(event.underlying, 0.0)
        is_near = abs(event.px - last_px) <= CHOOSE_AGAIN_FRACTION * last_px
        if event.underlying not in self._session.engine.settings.option_hedges or not event.px > 0.0:
            return
        if not is_near or self.now_ns() - self._chosen_ns > CHOOSE_AGAIN_NS:
            self._index_px[event.underlying] = event.px
            self._watch()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self._read_books()
            if self._is_idle and isinstance(self._clock, WallClock):
                self._mailbox.put(self.now_ns(), ())
            self._is_idle = True

    def _read_books(self) -> None:
        for file in self._session.book_files:
            problem = file.problem
            report = file.poll(self._known, self.now_ns())
            if report is not None:
                self._watch()
                self._mailbox.put(self.now_ns(), [report])
                log.warning("book.read", file=str(file.path), holdings=len(report.holdings))
            elif file.problem and file.problem != problem:
                log.error("book.refused", problem=file.problem)

    async def _ring(self, execution: Execution) -> None:
        """Wake the daemon whenever the simulated venue has something to tell."""
        while True:
            self._rescheduled.clear()
            due_ns = execution.next_event_ns()
            wait_s = None if due_ns is None else max(0.0, (due_ns - self.now_ns()) / NS_PER_S)
            if wait_s == 0.0:
                self._mailbox.put(self.now_ns(), ())
                wait_s = None  # absorbing it reschedules
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._rescheduled.wait()
