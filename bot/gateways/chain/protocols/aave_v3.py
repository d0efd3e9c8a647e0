"""Short on Aave v3: borrow base and sell it on Uniswap v3, or buy it back and repay, each in one transaction.

A plain account cannot do both steps at once, so they are done by a small contract of ours, the executor
(`bot/contracts/AaveShort.vy`), to which the wallet has delegated credit in the debt token and approved quote. It trades
for its caller only. The position is minus the debt, so interest that accrues shows as a short that grows. What a sale
brings goes to the wallet, not back into Aave: it does not help the health factor.

Not checked beforehand, and left to `eth_call` and the pool itself: isolation and siloed borrowing, efficiency modes
with an oracle of their own. The executor holds the trade to the floor of the health factor once more, with the interest
and the prices of the block it is mined in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from bot.domain.instruments import Spot
from bot.domain.market import Quote
from bot.domain.orders import OrderIntent
from bot.domain.units import NS_PER_S
from bot.gateways.chain import abi
from bot.gateways.chain.abi import ALLOWANCE, APPROVE, BALANCE_OF, Event, Function, address_at, int_at, uint_at
from bot.gateways.chain.nouns import Amounts, Approval, Block, Read, Receipt, Refused, TransactionRequest
from bot.gateways.chain.protocols import aave_reasons
from bot.gateways.chain.protocols.aave_account import Lending, LendingWatch
from bot.gateways.chain.protocols.pool_watch import PoolWatch
from bot.gateways.chain.protocols.trade_terms import (
    NOTHING,
    TradeTerms,
    contracts_of,
    deadline_s,
    gas_limit,
    linear_terms,
)
from bot.gateways.chain.protocols.uniswap_v3 import encode_path, path_of
from bot.gateways.chain.settings import HedgeSection, TokenSettings
from bot.pricing.aave_v3 import WAD, after_borrowing, health_factor_wad, is_covered
from bot.pricing.uniswap_v3 import (
    Leg,
    PoolReverts,
    RouteSwap,
    UnknownTicks,
    depth_in,
    price_of,
    swap_in,
    swap_out,
    turned,
)

# Measured on Anvil (Osaka rules) with the published contracts, over one pool. Used, refunds taken off: the first sale
# 385,635 to 402,749, later ones 336,536 to 372,427; purchases 272,881 to 314,308. At hand, as refunds come only at the
# end: the first sale 425,435 to 442,549, purchases up to 363,974. A second pool takes up to 118,000 more, a crossed
# tick 54,000.
GAS_USED_UNITS: Final = 403_000
GAS_SELL_UNITS: Final = 443_000
GAS_BUY_UNITS: Final = 365_000
GAS_POOL_UNITS: Final = 118_000
GAS_TICK_UNITS: Final = 55_000
_HEADROOM: Final = 1.0001  # over the floor that is quoted with, for the interest until inclusion
_ALL: Final = (1 << 256) - 1
_CONTRACTS: Final = ("pool", "executor", "router")

_POOL = Function("POOL()", "(address)")
_ROUTER = Function("ROUTER()", "(address)")
_DELEGATE = Function("approveDelegation(address,uint256)")
_SELL = Function("sell_borrowed(address,address,uint256,uint256,bytes,uint256,uint256)", "(int256,int256)")
_BUY = Function("buy_and_repay(address,address,uint256,uint256,bytes,uint256)", "(int256,int256)")
_TRADED = Event(
    "Traded(address indexed trader, address indexed base, address indexed quote, int256 base_delta, int256 quote_delta)"
)


class AaveV3:
    """A short in one base token by a debt on Aave v3, traded over a route of Uniswap v3 pools."""

    def __init__(
        self,
        section: HedgeSection,
        tokens: Mapping[str, TokenSettings],
        venue: str,
        wallet: str,
        gas_limit_margin: float = 1.3,
    ) -> None:
        base, quote = tokens[section.base], tokens[section.quote]
        contracts = contracts_of(section, _CONTRACTS)
        self._base, self._quote, self._wallet = base.address, quote.address, wallet
        self._pool, self._executor, self._router = (contracts[role] for role in _CONTRACTS)
        instrument_id = f"{venue}:{section.name}"
        self._terms = TradeTerms.of(section, instrument_id, base.decimals, quote.decimals)
        self._floor_wad = int(section.floor_health_factor * WAD)
        self._gas_limit_margin = gas_limit_margin
        self._own_reads = (
            BALANCE_OF.read(quote.address, wallet),
            ALLOWANCE.read(quote.address, wallet, self._executor),
            _POOL.read(self._executor),
            _ROUTER.read(self._executor),
        )
        self._aave = LendingWatch(self._pool, base.address, wallet, self._executor)
        self._pools = [PoolWatch(pool.address, pool.fee_pips) for pool in section.route]
        addresses = path_of(section, tokens)
        self._is_downwards = [int(a, 16) < int(b, 16) for a, b in pairwise(addresses)]
        # A purchase of an exact amount is told backwards, from what comes out: that is the same path.
        self._path = encode_path(addresses, [pool.fee_pips for pool in section.route])
        self.instrument = Spot(**linear_terms(section, venue))
        self._block: Block | None = None
        self._legs: tuple[Leg, ...] | None = None
        self._quote_balance_wei = self._quote_allowance_wei = 0
        self._debt_wei = 0  # as of the newest block in which it could be read
        self._wrong_executor = "expected to have read what the executor trades with, found nothing"

    # What is read

    @property
    def reads(self) -> tuple[Read, ...]:
        """What to read with the next block; more once Aave's own contracts and the pools' ticks are found."""
        return (*self._own_reads, *self._aave.reads, *(read for pool in self._pools for read in pool.reads))

    def update(self, block: Block, answers: Sequence[bytes | None]) -> None:
        """Take in a block's answers. What reverted leaves no usable state."""
        self._block = block
        n_own = len(self._own_reads)
        end = n_own + len(self._aave.reads)
        self._take_own(answers[:n_own])
        self._aave.update(answers[n_own:end])
        if self._aave.lending is not None:
            self._debt_wei = self._aave.lending.debt.wei
        for pool in self._pools:
            start, end = end, end + len(pool.reads)
            pool.update(answers[start:end])
        legs = [
            Leg(pool.state, is_down)
            for pool, is_down in zip(self._pools, self._is_downwards, strict=True)
            if pool.state is not None
        ]
        self._legs = tuple(legs) if len(legs) == len(self._pools) else None

    def _take_own(self, answers: Sequence[bytes | None]) -> None:
        balance, allowance, *executor = answers
        self._quote_balance_wei, self._quote_allowance_wei = (
            uint_at(answer, 0) if answer and len(answer) >= abi.WORD_BYTES else 0 for answer in (balance, allowance)
        )
        wanted = {"pool": self._pool, "router": self._router}
        found = [_address(answer) or "nothing" for answer in executor]
        wrong = [
            f"expected the executor {self._executor} to trade with the {role} {address}, found {has}"
            for (role, address), has in zip(wanted.items(), found, strict=True)
            if has.lower() != address.lower()
        ]
        self._wrong_executor = "; ".join(wrong)

    # What is known

    @property
    def lending(self) -> Lending | None:
        """The account on Aave as of the newest block, None while there is no usable state."""
        return self._aave.lending

    @property
    def wrong_executor(self) -> str:
        """Why the executor cannot be used: it is none, or trades with another pool or router; "" if it can."""
        return self._wrong_executor

    @property
    def amount_decimals(self) -> tuple[int, int]:
        """Decimals of base and quote in `Amounts`, which are the tokens' own."""
        return self._terms.base_decimals, self._terms.quote_decimals

    def quote(self, ts_recv_ns: int) -> Quote | None:
        """Return the route's prices with its fees; sizes are what could be borrowed, and what could be bought back.

        A size is never 0, as a quote must have one: where there is none it is far below a lot.
        """
        lending = self._aave.lending
        if self._block is None or self._legs is None or lending is None:
            return None
        terms, lot_base = self._terms, self.instrument.lot_size
        scale = 10.0 ** (terms.base_decimals - terms.quote_decimals)
        bid_px = price_of(self._legs, with_fee=True) * scale
        ask_px = scale / price_of(turned(self._legs), with_fee=True)
        spendable = terms.quote(min(self._quote_balance_wei, self._quote_allowance_wei))
        most_bought = min(terms.lots(lending.debt.wei), int(spendable / ask_px / lot_base))
        return Quote(
            self.instrument.instrument_id,
            bid_px,
            max(NOTHING, terms.lots(self._most_sold_wei(lending))) * lot_base,
            ask_px,
            max(NOTHING, most_bought) * lot_base,
            self._block.timestamp_s * NS_PER_S,
            ts_recv_ns,
            self._block.number,
        )

    def _most_sold_wei(self, lending: Lending) -> int:
        return lending.most_wei(int(self._floor_wad * _HEADROOM))

    @property
    def depth_base(self) -> float:
        """How much base moves the route's price by about 100 %, 0 while there is no usable state."""
        return self._terms.base(int(depth_in(self._legs))) if self._legs else 0.0

    @property
    def gas_units(self) -> int:
        """What a first sale uses, the dearest trade: 403,000 over one pool, 118,000 for each further one."""
        return GAS_USED_UNITS + (len(self._pools) - 1) * GAS_POOL_UNITS

    def position_lots(self) -> int:
        """Return minus the wallet's debt in base with interest, in whole lots: less cannot be traded away.

        A debt that cannot be read now is still owed: it is as it was.
        """
        return self._terms.hedge_lots(-self._debt_wei)

    def approvals(self) -> tuple[Approval, ...]:
        """Return what the wallet must have granted the executor: quote to buy back with, and credit to borrow on.

        Raises Refused before the first `update`, which tells the debt token.
        """
        debt_token = self._aave.debt_token
        if not debt_token:
            raise Refused("expected to know Aave's debt token, found no block read yet; hint: update first")
        executor = self._executor
        return (
            Approval(
                f"quote for the executor {executor} to buy back with",
                self._quote,
                APPROVE.encode(executor, _ALL),
                ALLOWANCE.read(self._quote, self._wallet, executor),
            ),
            Approval(
                f"credit for the executor {executor} to borrow on",
                debt_token,
                _DELEGATE.encode(executor, _ALL),
                self._aave.credit_read,
            ),
        )

    # A trade

    def expects(self, intent: OrderIntent) -> Amounts:
        """Return what the trade would move in the newest state, to the last unit. Raises Refused if it cannot be."""
        return _moved(intent, self._swap(intent))

    def _swap(self, intent: OrderIntent) -> RouteSwap:
        if self._legs is None:
            raise Refused("expected a usable state of the route's pools, found none")
        wei = self._terms.base_wei(intent.qty_lots)
        try:
            return swap_in(self._legs, wei) if intent.qty_lots < 0 else swap_out(turned(self._legs), wei)
        except (UnknownTicks, PoolReverts) as error:
            raise Refused(f"expected the route to carry {self._terms.base(wei):g} base: {error}") from error

    def build(self, intent: OrderIntent) -> TransactionRequest:
        """Return the transaction that trades within the order's limit, the funds and the health factor's floor."""
        gas = self._terms.checked(intent)
        lending = self._aave.lending
        if lending is None:
            raise Refused("expected a usable state of the account on Aave, found none")
        if self._wrong_executor:
            raise Refused(self._wrong_executor)
        swap = self._swap(intent)
        moved = _moved(intent, swap)
        bound = self._terms.within_limit(intent, moved)
        if intent.qty_lots < 0:
            self._check_loan(lending, intent, -moved.base_wei)
            data = _SELL.encode(
                self._base, self._quote, -moved.base_wei, bound, self._path, deadline_s(gas), self._floor_wad
            )
        else:
            most = self._check_repayment(lending, moved, bound)
            data = _BUY.encode(self._base, self._quote, moved.base_wei, most, self._path, deadline_s(gas))
        units = GAS_SELL_UNITS if intent.qty_lots < 0 else GAS_BUY_UNITS
        units += (len(self._pools) - 1) * GAS_POOL_UNITS + swap.ticks_crossed * GAS_TICK_UNITS
        limit = gas_limit(units, self._gas_limit_margin)
        return TransactionRequest(intent.order_id, intent.instrument_id, self._executor, data, 0, limit, gas, intent)

    def _check_loan(self, lending: Lending, intent: OrderIntent, wei: int) -> None:
        """Refuse a sale that Aave would not lend for, or that would leave the health factor below its floor."""
        asked = self._terms.base(wei)
        if intent.reduce_only:
            raise Refused(f"expected an order that reduces the short, found a sale of {asked:g}")
        if lending.hindrance:
            raise Refused(f"expected that {asked:g} can be borrowed, found that {lending.hindrance}")
        limits = (
            ("available in the reserve", lending.liquidity_wei),
            ("left under the borrow cap", lending.cap_left_wei),
            ("of credit delegated to the executor", lending.credit_wei),
        )
        for what, limit_wei in limits:
            if wei > limit_wei:
                raise Refused(f"expected {asked:g} to be {what}, found {self._terms.base(limit_wei):g}")
        hint = f"hint: at most {self._terms.base(self._most_sold_wei(lending)):.6g} can be sold, or add collateral"
        wad = health_factor_wad(after_borrowing(lending.account, lending.debt, wei))
        if wad < self._floor_wad:
            raise Refused(
                f"expected a health factor of {self._floor_wad / WAD:.4f} or more after selling {asked:g}, "
                f"found {wad / WAD:.4f} (before: {lending.health_factor:.4f}); {hint}"
            )
        if not is_covered(lending.account, lending.debt, wei):
            raise Refused(
                f"expected the collateral to cover a loan of {asked:g} more at a loan-to-value of "
                f"{lending.account.loan_to_value_bps} bps, found that it does not; {hint}"
            )

    def _check_repayment(self, lending: Lending, moved: Amounts, bound: int) -> int:
        """Return the most quote that may be spent. Refuse a purchase of more than is owed or can be paid."""
        if moved.base_wei > lending.debt.wei:
            raise Refused(
                f"expected to buy back at most the debt of {self._terms.base(lending.debt.wei):g}, "
                f"found {self._terms.base(moved.base_wei):g}; hint: this instrument holds shorts only"
            )
        held = (("have", self._quote_balance_wei), ("have approved", self._quote_allowance_wei))
        for what, wei in held:
            if wei < -moved.quote_wei:
                raise Refused(
                    f"expected the wallet to {what} {self._terms.quote(-moved.quote_wei):.2f} quote, "
                    f"found {self._terms.quote(wei):.2f}"
                )
        return min(bound, self._quote_balance_wei, self._quote_allowance_wei)

    # What came of it

    def read_answer(self, intent: OrderIntent, data: bytes) -> Amounts | None:  # noqa: ARG002 - it tells its signs
        """Return what an `eth_call` of the built transaction says would move."""
        return Amounts(int_at(data, 0), int_at(data, 1)) if len(data) == 2 * abi.WORD_BYTES else None

    def read_receipt(self, intent: OrderIntent, receipt: Receipt) -> Amounts:
        """Return what a mined trade moved; nothing if it failed."""
        if not receipt.is_success:
            return Amounts(0, 0)
        mine = [
            Amounts(traded["base_delta"], traded["quote_delta"])
            for traded in _TRADED.all(receipt.logs, self._executor)
            if traded["trader"].lower() == self._wallet.lower() and traded["base"].lower() == self._base.lower()
        ]
        if len(mine) != 1:
            raise abi.Undecodable(
                f"expected one trade of {intent.order_id} in the logs of {receipt.tx_hash}, found {len(mine)}"
            )
        return mine[0]

    def read_funding(self, receipt: Receipt) -> int:  # noqa: ARG002 — spot has none
        """Return 0: spot has no funding."""
        return 0

    def explain_revert(self, data: bytes) -> str:
        """Return the reason in words: Aave's numbered and named ones, the router's and our executor's own."""
        return aave_reasons.explain(data)

    def is_price_miss(self, data: bytes) -> bool:
        """Tell whether only the limit or the deadline stood in the way."""
        return aave_reasons.is_price_miss(data)


def _address(answer: bytes | None) -> str:
    """Return an address that was read, "" if it was not."""
    try:
        return address_at(answer, 0) if answer else ""
    except abi.Undecodable:
        return ""


def _moved(intent: OrderIntent, swap: RouteSwap) -> Amounts:
    """Return what a swap of base and quote moves for us."""
    if intent.qty_lots < 0:
        return Amounts(-swap.amount_in, swap.amount_out)
    return Amounts(swap.amount_out, -swap.amount_in)
