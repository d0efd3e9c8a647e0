"""A vault that lives on a chain and on an exchange at once, taken through a move of 10 % in steps, block by block.

Blocks come by the clock, or by hand: each once all that the one before led to is known everywhere, so that nothing
depends on how fast the machine is.

Short calls lie at a loopback Deribit; a Uniswap LP position, tokens and a stock of WETH on an Anvil with the published
contracts; hedges are transactions only, by one of three protocols. `rehearse` runs the daemon on all of it and returns
what happened; `books_of` recomputes from chain balances alone what the engine's ledger must say. Only the pools' mids
and the times of option marks are taken from the engine: value is counted at its marks.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from math import erf, fsum, inf, isnan, log, sqrt
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bot.domain.chain import GasPaid
from bot.domain.decisions import Decision
from bot.domain.events import SubmitOrder
from bot.domain.market import Quote
from bot.domain.orders import Fill, FundingPayment, OrderState
from bot.domain.units import NS_PER_YEAR
from bot.gateways.chain.lives import Life
from bot.gateways.chain.nouns import Amounts, Block
from bot.gateways.chain.protocols.registry import open_protocol
from bot.gateways.chain.transaction_log import TransactionLog, log_path
from bot.runtime.configuration.chains import chain_settings
from bot.runtime.configuration.config import load_vaults
from bot.runtime.journal import Commands, Journal
from tests.acceptance.chain_vaults import PATIENCE_S, SWAP, ChainVault, until
from tests.chains.anvil import COIN
from tests.chains.contracts import send
from tests.chains.world import PYTH_ETH, World, open_world
from tests.venues.deribit import DeribitServer
from tests.venues.matching import Kind, Listing, VenueBook

START_PX: Final = 3_000.0
VOL: Final = 0.6
CALLS_BASE: Final = -10.0
HALF_WIDTH_BASE: Final = 1.0
STOCK_BASE: Final = 40.0  # of WETH in the hedger's wallet, the book's, which the vault means to keep
HOLDER_TOKENS: Final = {"WETH": 25.0, "USDC": 20_000.0, "wstETH": 2.0}
LP_BASE: Final = 12.0
LP_LOW_PX, LP_HIGH_PX = 2_700.0, 3_600.0
MARGIN_QUOTE: Final = 400_000.0  # collateral at Aave, margin of the perpetual
CHARGE_FRACTION: Final = 0.005  # of wstETH, as the vault file has it
LOT_BASE: Final = 0.001
MOST: Final = 2**256 - 1
SHOWN_EVERY_S: Final = 0.25
SHOWN_OFTEN_S: Final = 0.02
BEHIND_S: Final = 30  # of a chain made by hand: its blocks come faster than one a second
PUBLISHED_EVERY_S: Final = 5
GAS_OF_MOVE: Final = 12_000_000
DAY_MS: Final = 86_400_000
MOST_BLOCKS: Final = 4  # from a move until net delta is in its band: its own, one to land in, and one more try

BORROW = """\
      SHORT:
        protocol: aave_v3
        underlying: ETH
        base: WETH
        quote: USDC
        route: [weth-usdc]
        contracts: {{pool: "{aave_pool}", executor: "{executor}", router: "{router02}"}}
"""
PERP = """\
      PERP:
        protocol: perp_v2
        underlying: ETH
        quote: USDC
        contracts: {{clearing_house: "{clearing_house}", base_token: "{base_token}"}}
"""
HEDGES: Final = {"swap": (SWAP, "WETH-USDC"), "borrow": (BORROW, "SHORT"), "perp": (PERP, "PERP")}
AAVE_OF_HOLDER = ', aave_pool: "{aave_pool}", aave_assets: [WETH, USDC]'


class Exchange:
    """What the options are priced by: an index and one call of a week, on a loopback Deribit."""

    def __init__(self, shown_every_s: float) -> None:
        self.shown_every_s = shown_every_s
        expiry_ms = (time.time_ns() // 1_000_000 // DAY_MS + 8) * DAY_MS + 8 * 3_600_000
        day = time.strftime("%d%b%y", time.gmtime(expiry_ms / 1_000)).upper().lstrip("0")
        self.call = f"ETH-{day}-3000-C"
        self.expiry_ns = expiry_ms * 1_000_000
        self.px = START_PX
        perpetual = Listing(
            name="ETH-PERPETUAL", kind=Kind.PERPETUAL, coin="ETH", settle="ETH", is_inverse=True, contract_size=1.0,
            min_amount=1.0, tick_px=0.05,
        )  # fmt: skip
        call = Listing(
            name=self.call, kind=Kind.OPTION, coin="ETH", settle="ETH", is_inverse=True, contract_size=1.0,
            min_amount=1.0, tick_px=0.0001, expiry_ms=expiry_ms, strike=START_PX, is_call=True,
        )  # fmt: skip
        self.book = VenueBook([perpetual, call], balances={"ETH": 1_000.0})
        self.show()

    def show(self) -> None:
        """Show the market as it is now."""
        self.book.set_index("ETH", self.px)
        self.book.set_quote("ETH-PERPETUAL", self.px - 0.05, 50_000.0, self.px + 0.05, 50_000.0)
        self.book.set_vol(self.call, VOL, VOL - 0.01, VOL + 0.01, self.px)
        self.book.set_quote(self.call, 0.03, 10.0, 0.0305, 10.0)

    async def keep(self) -> None:
        """Go on showing it, so that nothing is stale, until cancelled."""
        while True:
            await asyncio.sleep(self.shown_every_s)
            self.show()


class Row(NamedTuple):
    """What was decided with one block. The band is the policy's, as wide as what gas moves it by makes it."""

    block: int
    px: float
    net_base: float
    pending_base: float
    low_base: float
    high_base: float
    is_moved: bool  # the price moved in this block: nothing can have answered yet
    lots: int  # of all orders under way
    reason: str

    @property
    def inside_base(self) -> float:
        """How far net delta is inside the band without what is under way, below 0 outside."""
        return min(self.net_base - self.low_base, self.high_base - self.net_base)

    @property
    def inside_then_base(self) -> float:
        """The same once all that is under way has landed."""
        then_base = self.net_base + self.pending_base
        return min(then_base - self.low_base, self.high_base - then_base)


class Holdings(NamedTuple):
    """What chain and node say is there as of one block, in smallest units."""

    block: int
    coin_wei: int  # the hedger's own
    weth_wei: int
    usdc_wei: int
    debt_wei: int  # WETH owed to Aave, with interest
    supply_wei: int  # USDC supplied there, with interest
    perp_base_wei: int
    perp_cash_wei: int  # 18 decimals: balance in the vault, what is realised, and the open notional
    perp_pending_wei: int  # funding not settled yet, above 0 is owed
    holder_weth_wei: int
    holder_usdc_wei: int
    holder_wsteth_wei: int
    steth_rate_wei: int
    lp_liquidity: int
    lp_owed_base_wei: int
    lp_owed_quote_wei: int


class Marks(NamedTuple):
    """What the engine marks by, and its sums, at one moment."""

    index_px: float
    hedge_px: float
    options_ns: int
    options_quote: float
    hedge_base: float
    equity_quote: float
    profit_quote: float
    entered_quote: float
    parts: dict[str, float]


def _told_once(events: list[Any]) -> tuple[GasPaid, ...]:
    """Return what was paid, told again or not: an order that is asked about tells its gas once more under its id."""
    return tuple({event.payment_id: event for event in events}.values())


class Logged(NamedTuple):
    """What protocols wrote into the receipts of our transactions beside trades, in smallest units."""

    borrowed_wei: int
    repaid_wei: int
    funding_wei: int  # above 0 was paid


class Outcome(NamedTuple):
    """All that a rehearsal leaves behind."""

    hedge: str
    rows: tuple[Row, ...]
    before: Holdings
    after: Holdings
    start: Marks
    end: Marks
    lives: tuple[Life, ...]
    fills: tuple[Fill, ...]
    gas: tuple[GasPaid, ...]
    funding: tuple[FundingPayment, ...]
    orders: tuple[SubmitOrder, ...]
    ledger_lots: int
    chain_lots: int
    expiry_ns: int
    logged: Logged = Logged(0, 0, 0)
    slippage_quote: float = 0.0  # Σ lots × (mid when a fill was booked − its price)

    @property
    def amounts(self) -> list[Amounts]:
        """What every mined hedge moved, as the transaction log has it."""
        return [life.amounts for life in self.lives if life.amounts is not None]


class Rehearsal:
    """One vault on one world, hedged in one way. `run` it once."""

    def __init__(
        self,
        world: World,
        folder: Path,
        hedge: str,
        *,
        block_s: int,
        is_by_hand: bool = False,
        say: Callable[[Row], None] | None = None,
    ) -> None:
        self.world = world
        self.hedge = hedge
        self.block_s = block_s
        self.is_by_hand = is_by_hand
        self.exchange = Exchange(SHOWN_OFTEN_S if is_by_hand else SHOWN_EVERY_S)
        self.server: DeribitServer
        self.rows: list[Row] = []
        self._folder = folder
        self._say = say or (lambda _row: None)
        self._moved_in = -1
        self._published_s = 0
        self._seen = -1
        self.vault: ChainVault
        self.lp_id = 0
        self.aave = world.part("aave")
        self.perp = world.part("perp")

    # What is there before it begins

    def prepare(self, server: DeribitServer) -> None:
        """Give everybody what they hold, write the vault file, and grant what the hedge's protocol asks for."""
        world, hedger = self.world, self.world.hedger
        self.server = server
        if self.is_by_hand:
            world.anvil.set_time(int(time.time()) - BEHIND_S)
        text, name = HEDGES[self.hedge]
        executor = self.aave.new_executor() if self.hedge == "borrow" else None
        contracts = {
            "aave_pool": self.aave.pool.address,
            "executor": executor.address if executor else "",
            "router02": world.uniswap.router02.address,
            "clearing_house": self.perp.clearing_house.address,
            "base_token": self.perp.base.address,
        }
        options = msgspec.json.encode(server.options).decode()
        aave = AAVE_OF_HOLDER.format(**contracts) if self.hedge == "borrow" else ""
        wallet = f'      - {{address: "{hedger}", assets: [WETH, USDC]{aave}}}'
        changes = {
            "book:\n": f"venues:\n  deribit: {{options: {options}}}\nunderlyings: [ETH]\n"
            f"target: {{delta_base: {STOCK_BASE}}}\nbook:\n"
            f"  - {{instrument: {self.exchange.call}, qty_base: {CALLS_BASE}}}\n",
            "    fees: {": wallet + "\n    fees: {",
        }
        if self.is_by_hand:
            changes |= {"quote_s: 30, index_s: 30": "quote_s: 900, index_s: 900", "timeout_s: 5": "timeout_s: 60"}
        keys = {f"EVENKEEL_DERIBIT_{key.upper()}": value for key, value in server.credentials.items()}
        self.vault = ChainVault(
            world, self._folder, block_s=self.block_s, hedge=name, half_width_base=HALF_WIDTH_BASE, hedges=text,
            changes=changes, contracts=contracts, inventory_base=STOCK_BASE, environ=keys,
        )  # fmt: skip
        holder = self.vault.holder
        pool = world.pools["WETH/USDC-500"]
        world.give(holder, WETH=LP_BASE, USDC=LP_BASE * START_PX * 2)
        world.uniswap.approve(holder, [world.tokens["WETH"], world.tokens["USDC"]])
        self.lp_id = world.uniswap.mint(
            pool, holder, base_wei=round(LP_BASE * COIN), quote_wei=round(2 * LP_BASE * START_PX * 10**6),
            low_px=LP_LOW_PX, high_px=LP_HIGH_PX,
        ).token_id  # fmt: skip
        world.give(holder, **HOLDER_TOKENS)
        world.give(hedger, WETH=STOCK_BASE, USDC=250_000)
        if self.hedge == "borrow":
            self.aave.supply(hedger, USDC=MARGIN_QUOTE)
        if self.hedge == "perp":
            self.perp.deposit(hedger, MARGIN_QUOTE)
            self.perp.deposit(world.trader, 50_000_000)
        self._grant()
        world.freshen(behind_s=BEHIND_S if self.is_by_hand else 0)
        if self.is_by_hand:
            world.anvil.set_automine(False)

    def _grant(self) -> None:
        """Send every approval that the protocol says it needs, and check that it then says it has it."""
        (vault,) = load_vaults([self.vault.path], allow_live=True)
        settings = chain_settings(vault, self.vault.environ)["local"]
        protocol = open_protocol(settings.hedges[0], settings, self.world.hedger)
        header = self.world.anvil.block()
        block = Block(
            int(header["number"], 16), header["hash"], header["parentHash"], int(header["timestamp"], 16), 0, 0, 1
        )
        for _ in range(3):  # what it reads depends on what it read
            protocol.update(block, [self._look(read.to, read.data) for read in protocol.reads])
        for approval in protocol.approvals():
            send(self.world.anvil, self.world.hedger, to=approval.to, data=approval.data, what=approval.what)
            granted = self._look(approval.check.to, approval.check.data)
            assert granted is not None
            assert int.from_bytes(granted) > 0, approval.what

    def _look(self, to: str, data: bytes) -> bytes | None:
        with suppress(Exception):  # a read that reverts tells nothing, as in Multicall3
            return bytes.fromhex(self.world.anvil.rpc("eth_call", {"to": to, "data": f"0x{data.hex()}"}, "latest")[2:])
        return None

    # The market

    def move(self, px: float) -> list[str]:
        """Send everything that moves the chain's prices, to be mined with the next block; return the hashes."""
        world, trader = self.world, self.world.trader
        steps: list[tuple[str, str, bytes]] = []
        feed = world.feeds["ETH/USD"]
        steps.append((world.deployer, feed.address, feed.encode("set_answer", round(px * 10**8))))
        told = world.pyth.encode("set_price", *self._pyth_words(px))
        steps.append((world.deployer, world.pyth.address, told))
        router = world.uniswap.router
        for pool in world.pools.values():
            if pool.base.address != world.tokens["WETH"].address:
                continue
            is_up = px > pool.px
            token_in, token_out = (pool.quote, pool.base) if is_up else (pool.base, pool.quote)
            asked = (
                token_in.address, token_out.address, pool.fee_pips, trader, 2**48, token_in.call("balanceOf", trader),
                0, pool.sqrt_of(px),
            )  # fmt: skip
            steps.append((trader, router.address, router.encode("exactInputSingle", asked)))
        if self.hedge == "perp":
            steps.append((trader, self.perp.clearing_house.address, self._perp_move(px)))
        requests = [
            ("eth_sendTransaction", [{"from": who, "to": to, "data": f"0x{data.hex()}", "gas": hex(GAS_OF_MOVE // 4)}])
            for who, to, data in steps
        ]
        return [str(answer) for answer in world.anvil.batch(requests)]

    def _perp_move(self, px: float) -> bytes:
        """Trade as much in the perpetual's own pool as brings its price to `px`."""
        sqrt_now = self.perp.pool.call("slot0").sqrtPriceX96
        sqrt_then = round(sqrt(px) * 2**96)
        is_sale = sqrt_then < sqrt_now
        amount = 20_000 * COIN if is_sale else 50_000_000 * COIN
        trade = (self.perp.base.address, is_sale, True, amount, 0, 2**48, sqrt_then, bytes(32))
        return bytes(self.perp.clearing_house.encode("openPosition", trade))

    # Going through it

    async def run(self, steps: int, move_fraction: float) -> Outcome:
        """Start the daemon, let it hedge what it finds, then move the price in steps and let it hedge each."""
        async with DeribitServer(self.exchange.book) as server:
            await asyncio.to_thread(self.prepare, server)
            before = self.holdings()
            showing = asyncio.create_task(self.exchange.keep())
            if not self.is_by_hand:
                self.world.anvil.set_interval(self.block_s)
            try:
                async with self.vault.running():
                    start = await self._started()
                    await self._settled()
                    for step in range(1, steps + 1):
                        await self._step(round(START_PX * (1.0 + move_fraction) ** (step / steps), 2))
                    self._session.engine.close_steps(time.time_ns())
                    self.world.anvil.set_interval(0)
                    end, after = self._marks(), self.holdings()
                    outcome = self._outcome(before, after, start, end)
            finally:
                showing.cancel()
                self.world.anvil.set_interval(0)
        return self._with_logs(outcome)

    @property
    def _session(self) -> Any:
        assert self.vault.session is not None
        return self.vault.session

    @property
    def _desk(self) -> Any:
        return self._session.engine.desks["ETH"]

    async def _started(self) -> Marks:
        """Wait until the engine has begun to count, and return what it began with."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not self._desk.pnl.is_started:
            assert time.monotonic() < deadline_s, f"not started: {self._desk.decision}"
            await asyncio.sleep(0)
        return self._marks()

    def _marks(self) -> Marks:
        desk, book = self._desk, self._desk.book
        hedge_id = f"local:{HEDGES[self.hedge][1]}"
        return Marks(
            book.marks_of_underlying.index_px,
            desk.holdings[hedge_id].mark_px,
            book.option_marks.now_ns,
            book.option_value_quote,
            book.hedge_delta_base(),
            book.equity_quote(),
            self._session.engine.pnl_total_quote(),
            desk.pnl.entered_quote,
            msgspec.structs.asdict(desk.pnl.parts),
        )

    async def _settled(self) -> None:
        """Wait for a block with which net delta is inside its band and nothing is under way."""
        for at in range(MOST_BLOCKS):
            if self.is_by_hand and at:
                self._mine(self.exchange.px)
            row = await self._next_row()
            if row.inside_base >= 0.0 and not row.lots:
                return
        raise AssertionError(f"expected net delta in its band within {MOST_BLOCKS} blocks, found {self.rows[-3:]}")

    async def _step(self, px: float) -> None:
        sent = self.move(px)
        before = self._quote_block
        if self.is_by_hand:
            self._mine(px)
        await until(lambda: self._quote_block > before, PATIENCE_S, "for a block", every_s=0.002)
        self.exchange.px = px
        self.exchange.show()
        self._moved_in = self._quote_block
        receipts = {tx: self.world.anvil.rpc("eth_getTransactionReceipt", tx) or {} for tx in sent}
        failed = [tx for tx, receipt in receipts.items() if receipt.get("status") != "0x1"]
        assert not failed, f"the market could not be moved to {px}: {failed}"
        await self._settled()

    @property
    def _quote_block(self) -> int:
        quote = self._desk.book.market.quotes.get(f"local:{HEDGES[self.hedge][1]}")
        return -1 if quote is None else int(quote.seq)

    def _mine(self, px: float) -> None:
        """Mine a block a second after the one before, or later where the machine is slow; no price grows old."""
        anvil, world = self.world.anvil, self.world
        now_s = anvil.timestamp_s
        apart_s = max(1, int(time.time()) - BEHIND_S - now_s)
        if now_s + apart_s - self._published_s > PUBLISHED_EVERY_S:
            data = world.pyth.encode("set_price", *self._pyth_words(px))
            told = {"from": world.deployer, "to": world.pyth.address, "data": f"0x{data.hex()}", "gas": hex(200_000)}
            anvil.rpc("eth_sendTransaction", told)
        anvil.mine(1, seconds_apart=apart_s)

    def _pyth_words(self, px: float) -> tuple[Any, ...]:
        self._published_s = self.world.anvil.timestamp_s
        return PYTH_ETH, round(px * 10**8), round(0.5 * 10**8), -8, self._published_s

    async def _next_row(self) -> Row:
        """Wait until a further block was decided upon, and note what was."""

        def is_decided() -> bool:
            report = self._session.engine.chains.reports.get("local")
            return (
                report is not None
                and report.block_number > self._seen
                and self._desk.decision is not None
                and self._desk.decision.now_ns >= report.ts_recv_ns
            )

        await until(is_decided, PATIENCE_S, "for a block to be decided upon", every_s=0.005)
        await self._agreed()
        self._seen = self._session.engine.chains.reports["local"].block_number
        decision = self._desk.decision
        live = list(self._session.engine.orders.live.values())
        reason = live[-1].intent.reason if live else decision.refusal_detail or decision.policy_reason
        lots = sum(order.intent.qty_lots for order in live)
        low_base, high_base = band_of(decision, reason)
        row = Row(
            self._seen, decision.spot_px, decision.greeks.delta_base, lots * LOT_BASE, low_base, high_base,
            self._seen == self._moved_in, lots, reason,
        )  # fmt: skip
        self.rows.append(row)
        self._say(row)
        return row

    async def _agreed(self) -> None:
        """Wait until the engine has decided on all that exchange and chain say, and its orders are at the node."""
        if not self.is_by_hand:
            await asyncio.sleep(0.1)
            return
        self.exchange.show()
        await self.server.settle(PATIENCE_S)
        now_ns = time.time_ns()
        orders = self._session.engine.orders.live

        def is_so() -> bool:
            return self._desk.decision.now_ns > now_ns and all(one.state is OrderState.OPEN for one in orders.values())

        await until(is_so, PATIENCE_S, "for a decision on all that is known", every_s=0.002)

    # What is there afterwards

    def holdings(self) -> Holdings:
        """Return what the chain says of everybody's balances in its newest block."""
        world, hedger, holder = self.world, self.world.hedger, self.vault.holder
        number = world.anvil.block_number
        at: dict[str, Any] = {"block": number}
        tokens = world.tokens

        def balance(symbol: str, owner: str) -> int:
            return int(tokens[symbol].call("balanceOf", owner, **at))

        supply = self.aave.data_provider.call("getUserReserveData", tokens["USDC"].address, hedger, **at)
        debt = self.aave.data_provider.call("getUserReserveData", tokens["WETH"].address, hedger, **at)
        perp = self.perp
        realized = perp.account_balance.call("getPnlAndPendingFee", hedger, **at)
        open_notional = perp.account_balance.call("getTakerOpenNotional", hedger, perp.base.address, **at)
        owed = world.uniswap.fees_owed(holder, self.lp_id)
        pool = world.pools["WETH/USDC-500"]
        owed_base, owed_quote = pool.sorted(*owed)
        return Holdings(
            number,
            int(world.anvil.rpc("eth_getBalance", hedger, hex(number)), 16),
            balance("WETH", hedger),
            balance("USDC", hedger),
            debt.currentVariableDebt,
            supply.currentATokenBalance,
            perp.account_balance.call("getTakerPositionSize", hedger, perp.base.address, **at),
            perp.vault.call("getBalance", hedger, **at) * 10**12 + realized[0] + open_notional,
            perp.exchange.call("getPendingFundingPayment", hedger, perp.base.address, **at),
            balance("WETH", holder),
            balance("USDC", holder),
            balance("wstETH", holder),
            tokens["wstETH"].call("stEthPerToken", **at),
            world.uniswap.position_manager.call("positions", self.lp_id, **at).liquidity,
            owed_base,
            owed_quote,
        )

    def _outcome(self, before: Holdings, after: Holdings, start: Marks, end: Marks) -> Outcome:
        engine, instrument_id = self._session.engine, f"local:{HEDGES[self.hedge][1]}"
        return Outcome(
            self.hedge, tuple(self.rows), before, after, start, end, (), (), (), (), (),
            engine.desks["ETH"].holdings[instrument_id].lots, hedge_lots(self.hedge, after), self.exchange.expiry_ns,
        )  # fmt: skip

    def _with_logs(self, outcome: Outcome) -> Outcome:
        """Add what stands on disk: transactions, fills, gas, orders."""
        vault = self.vault
        path = log_path(self._folder, self.world.anvil.chain_id, self.world.hedger)
        with TransactionLog.open(path, for_writing=False) as log_:
            lives = tuple(log_.lives().values())
        with Journal.open(vault.journal_path, for_writing=False) as journal:
            orders = tuple(
                command
                for _, record in journal.records()
                if isinstance(record, Commands)
                for command in record.commands
                if isinstance(command, SubmitOrder)
            )
        fills = vault.events(Fill)
        return outcome._replace(
            lives=lives, fills=tuple(fills), gas=_told_once(vault.events(GasPaid)),
            funding=tuple(vault.events(FundingPayment)), orders=orders, logged=self._read_logs(lives),
            slippage_quote=self._slippage_quote(),
        )  # fmt: skip

    def _slippage_quote(self) -> float:
        mid_px, total = 0.0, 0.0
        for event in self.vault.events(Quote, Fill):
            if isinstance(event, Fill):
                total += event.qty_lots * LOT_BASE * (mid_px - event.px)
            elif isinstance(event, Quote) and event.instrument_id.startswith("local:"):
                mid_px = 0.5 * (event.bid_px + event.ask_px)
        return total

    def _read_logs(self, lives: tuple[Life, ...]) -> Logged:
        """Read what Aave and the perpetual wrote into the receipts of our transactions."""
        hedger, house, pool = self.world.hedger, self.perp.clearing_house, self.aave.pool
        borrowed = repaid = funding = 0
        for life in lives:
            assert life.receipt is not None, life.key
            logs = self.world.anvil.rpc("eth_getTransactionReceipt", life.receipt.tx_hash)["logs"]
            borrowed += sum(one.args["amount"] for one in pool.events(logs, "Borrow"))
            repaid += sum(one.args["amount"] for one in pool.events(logs, "Repay"))
            settled = house.events(logs, "FundingPaymentSettled")
            funding += sum(one.args["fundingPayment"] for one in settled if one.args["trader"] == hedger)
        return Logged(borrowed, repaid, funding)


async def rehearse(
    hedge: str,
    folder: Path,
    *,
    block_s: int,
    steps: int,
    move_fraction: float = 0.1,
    is_by_hand: bool = False,
    say: Callable[[Row], None] | None = None,
) -> Outcome:
    """Take a vault that hedges by `hedge` (swap, borrow, perp) through a move in steps, and tell what came of it."""
    with open_world("aave", "perp") as world:
        rehearsal = Rehearsal(world, folder, hedge, block_s=block_s, is_by_hand=is_by_hand, say=say)
        return await rehearsal.run(steps, move_fraction)


# What must be true ----------------------------------------------------------------------------------------------------


def band_of(decision: Decision, reason: str) -> tuple[float, float]:
    """Return the policy's band on net delta, as far apart as what gas moves it by says where that is told in words."""
    if isnan(decision.low_base):
        return inf, -inf  # no decision: nothing is inside
    centre = 0.5 * (decision.low_base + decision.high_base)
    half = 0.5 * (decision.high_base - decision.low_base)
    told = re.search(r"trigger ([\d.]+\d)|to ±([\d.]+) and stops", reason)
    half = max(half, *(float(text) for text in told.groups() if text)) if told else half
    return centre - half, centre + half


def hedge_lots(hedge: str, holdings: Holdings) -> int:
    """Return the hedge position that balances amount to, in whole lots towards zero."""
    wei = {
        "swap": holdings.weth_wei - round(STOCK_BASE * COIN),
        "borrow": -holdings.debt_wei,
        "perp": holdings.perp_base_wei,
    }[hedge]
    lot_wei = round(LOT_BASE * COIN)
    return -(-wei // lot_wei) if wei < 0 else wei // lot_wei


class Books(NamedTuple):
    """What chain balances alone make of a rehearsal, beside the transaction log and the engine's ledger."""

    gas_log_wei: int  # Σ over the log
    gas_chain_wei: int  # change of the coin balance
    base_log_wei: int
    base_chain_wei: int
    quote_log_wei: int
    quote_chain_wei: int
    interest_wei: int  # WETH: what the debt grew by beyond what was borrowed
    supply_interest_wei: int  # USDC: what the collateral earned
    fees_wei: int  # of the perpetual, 18 decimals
    funding_wei: int  # settled, 18 decimals: above 0 was paid
    pending_funding_wei: int
    change_quote: float  # in the value of everything held
    ledger_quote: float  # P&L and what entered, as the engine has it
    entered_quote: float
    held_quote: float


def books_of(outcome: Outcome) -> Books:
    """Recompute everything from chain balances, the transaction log and marks."""
    before, after = outcome.before, outcome.after
    amounts = outcome.amounts
    base_log = sum(one.base_wei for one in amounts)
    quote_log = sum(one.quote_wei for one in amounts)
    fees = sum(one.fee_quote_wei for one in amounts)
    funding = outcome.logged.funding_wei
    interest = 0
    if outcome.hedge == "perp":
        base_chain = after.perp_base_wei - before.perp_base_wei
        quote_chain = after.perp_cash_wei - before.perp_cash_wei
    elif outcome.hedge == "borrow":
        base_chain = outcome.logged.repaid_wei - outcome.logged.borrowed_wei
        interest = after.debt_wei - before.debt_wei + base_chain
        quote_chain = after.usdc_wei - before.usdc_wei
    else:
        base_chain = after.weth_wei - before.weth_wei
        quote_chain = after.usdc_wei - before.usdc_wei
    value_after = value_quote(outcome, after, outcome.end, hedge_base_wei=base_log)
    value_before = value_quote(outcome, before, outcome.start, hedge_base_wei=0)
    coins = (after.coin_wei - before.coin_wei) / COIN
    return Books(
        sum(life.receipt.gas_wei for life in outcome.lives if life.receipt is not None),
        before.coin_wei - after.coin_wei,
        base_log,
        base_chain,
        quote_log,
        quote_chain,
        interest,
        after.supply_wei - before.supply_wei,
        fees,
        funding,
        after.perp_pending_wei,
        value_after - value_before + coins * outcome.end.index_px,
        outcome.end.profit_quote + outcome.end.entered_quote - outcome.start.entered_quote,
        outcome.end.entered_quote - outcome.start.entered_quote,
        value_after,
    )


def value_quote(outcome: Outcome, holdings: Holdings, marks: Marks, *, hedge_base_wei: int) -> float:
    """Return what all balances are worth: coins at the index, the hedge itself at its instrument's mark."""
    px = marks.index_px
    weth = holdings.holder_weth_wei + holdings.weth_wei + holdings.lp_owed_base_wei - holdings.debt_wei
    usdc = holdings.holder_usdc_wei + holdings.usdc_wei + holdings.lp_owed_quote_wei + holdings.supply_wei
    perp_base_wei = hedge_base_wei if outcome.hedge == "perp" else 0
    moved_wei = hedge_base_wei - perp_base_wei
    value = (weth - moved_wei) / COIN * px + hedge_base_wei / COIN * marks.hedge_px
    value += usdc / 10**6 + holdings.perp_cash_wei / COIN
    steth = holdings.holder_wsteth_wei * holdings.steth_rate_wei / COIN**2
    value += steth * (1.0 - CHARGE_FRACTION) * px
    value += lp_quote(holdings.lp_liquidity, px)
    years = (outcome.expiry_ns - marks.options_ns) / NS_PER_YEAR
    return value + CALLS_BASE * call_quote(px, START_PX, VOL, years)


def lp_quote(liquidity: int, px: float) -> float:
    """Return what liquidity in the position's range is worth: L(√P − √a) of quote, L(1/√P − 1/√b) of base."""
    whole = liquidity / 10**12  # sqrt(10^18 × 10^6)
    low, high = lp_range()
    root = min(max(sqrt(px), sqrt(low)), sqrt(high))
    return whole * (root - sqrt(low)) + whole * (1.0 / root - 1.0 / sqrt(high)) * px


def lp_range() -> tuple[float, float]:
    """Return the prices of the position's ticks, of a pool where USDC is token0: 1.0001^-tick × 10^12."""
    ticks = [round(log(10**12 / px) / log(1.0001) / 10) * 10 for px in (LP_LOW_PX, LP_HIGH_PX)]
    low, high = (10**12 * 1.0001**-tick for tick in ticks)
    return low, high


def call_quote(forward_px: float, strike_px: float, vol: float, years: float) -> float:
    """Return the price of a call by Black (1976), undiscounted."""
    sd = vol * sqrt(years)
    d1 = log(forward_px / strike_px) / sd + 0.5 * sd
    return forward_px * _normal(d1) - strike_px * _normal(d1 - sd)


def _normal(x: float) -> float:
    return 0.5 * (1.0 + erf(x / sqrt(2.0)))


def find_wrong(outcome: Outcome) -> list[str]:
    """Say everything that must not be so after a rehearsal."""
    return [*_look_at_band(outcome), *_look_at_transactions(outcome), *_look_at_books(outcome)]


def _look_at_band(outcome: Outcome) -> list[str]:
    wrong = []
    for before, row in pairwise(outcome.rows):
        drift_base = abs(row.net_base - before.net_base)
        if row.is_moved and row.inside_base < -drift_base:
            wrong.append(f"outside its band by more than one block's drift of {drift_base:.3f}: {row}")
        then_base = row.net_base + row.pending_base
        if then_base > row.high_base if row.lots > 0 else row.lots and then_base < row.low_base:
            wrong.append(f"what is under way brings net delta past the far edge of its band: {row}")
        # with the move itself the exchange may have been heard of after the order was sent
        if row.lots and not row.is_moved and row.inside_then_base < 0.0:
            wrong.append(f"what is under way does not bring net delta into its band: {row}")
        if not row.lots and row.inside_base < 0.0:
            wrong.append(f"outside its band with nothing under way: {row}")
    if outcome.rows[-1].inside_base < 0.0 or outcome.rows[-1].lots:
        wrong.append(f"not settled in the end: {outcome.rows[-1]}")
    return wrong


def _look_at_transactions(outcome: Outcome) -> list[str]:
    wrong = [] if len(outcome.fills) > 1 else ["expected hedges, found none after the first"]
    ids = [order.intent.order_id for order in outcome.orders]
    for what, count in (
        ("orders", len(set(ids))),
        ("transactions", len(outcome.lives)),
        ("nonces", len({life.nonce for life in outcome.lives})),
        ("payments of gas", len({one.payment_id for one in outcome.gas})),
    ):
        if count != len(ids):
            wrong.append(f"expected one of each per order sent, found {len(ids)} sent and {count} {what}")
    filled = {fill.order_id for fill in outcome.fills}
    if len(filled) != len(outcome.fills) or not filled <= set(ids):
        wrong.append("expected at most one fill of each order")
    if outcome.ledger_lots != outcome.chain_lots:
        wrong.append(f"expected the ledger's lots on chain, found {outcome.ledger_lots} and {outcome.chain_lots}")
    return wrong


def _look_at_books(outcome: Outcome) -> list[str]:
    books, parts = books_of(outcome), outcome.end.parts
    wrong = []
    for what, logged, found in (
        ("gas", books.gas_log_wei, books.gas_chain_wei),
        ("base", books.base_log_wei, books.base_chain_wei),
        ("quote", books.quote_log_wei - books.fees_wei - books.funding_wei, books.quote_chain_wei),
    ):
        if logged != found:
            wrong.append(f"{what}: expected what the log has, {logged}, as change of the balance, found {found}")
    for what, expected, found, tolerance in (
        ("gas", -sum(one.gas_quote for one in outcome.gas), parts["gas"], 1e-9),
        ("gas in coins", books.gas_chain_wei / COIN, sum(one.gas_coin for one in outcome.gas), 1e-12),
        ("fees", -books.fees_wei / COIN, parts["fees"], 1e-9),
        ("funding", -books.funding_wei / COIN, parts["funding"], 1e-9),
        ("slippage", outcome.slippage_quote, parts["slippage"], 1e-9),
        ("the sum of the parts", outcome.end.profit_quote, fsum(parts.values()), 1e-9),
        ("P&L and what entered", books.change_quote, books.ledger_quote, 1e-6),
        ("what entered as interest", -books.interest_wei / COIN * outcome.end.index_px
         + books.supply_interest_wei / 10**6, books.entered_quote, None),
    ):  # fmt: skip
        most = 1e-4 if tolerance is None else tolerance * max(1.0, abs(expected))
        if abs(expected - found) > most:
            wrong.append(f"{what}: expected {expected!r}, found {found!r}")
    return wrong
