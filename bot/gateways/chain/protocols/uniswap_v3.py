"""Swaps on Uniswap v3: base bought or sold over a route of one or more pools, through v3-periphery's SwapRouter.

A purchase asks for whole lots exactly and says what it may cost at most; a sale puts whole lots in exactly and says
what it must bring at least; each has its deadline inside the call. No price limit is ever set on the pool: it would let
a swap fill in part, to an amount that is no whole lot, where a trade that reverts says clearly that nothing was done.

What is quoted is the price of the first unit with the pools' fees inside, and the size for which the average stays
within `QUOTE_SLIPPAGE` of it; beyond, `depth_base` says what size costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bot.domain.errors import ConfigError
from bot.domain.instruments import Spot
from bot.domain.market import Quote
from bot.domain.orders import OrderIntent
from bot.domain.units import NS_PER_S
from bot.gateways.chain import abi
from bot.gateways.chain.abi import ALLOWANCE, APPROVE, BALANCE_OF, Event, Function, Undecodable, uint_at
from bot.gateways.chain.nouns import Amounts, Approval, Block, Read, Receipt, Refused, TransactionRequest
from bot.gateways.chain.protocols.pool_watch import PoolWatch
from bot.gateways.chain.protocols.trade_terms import (
    NOTHING,
    TradeTerms,
    contracts_of,
    deadline_s,
    gas_limit,
    linear_terms,
)
from bot.gateways.chain.settings import HedgeSection, PoolSettings, TokenSettings
from bot.pricing.uniswap_v3 import (
    Leg,
    PoolReverts,
    RouteSwap,
    UnknownTicks,
    depth_in,
    largest_in,
    largest_out,
    price_of,
    swap_in,
    swap_out,
    turned,
)

QUOTE_SLIPPAGE: Final = 0.001
# Measured on the published contracts with plain tokens (test_uniswap_v3.py measures again); a token behind a proxy
# takes some thousands more, which the margin on the limit is for.
GAS_OF_TRADE_UNITS: Final = 120_000
GAS_OF_POOL_UNITS: Final = 65_000  # every further pool of the route
GAS_OF_TICK_UNITS: Final = 57_000  # an initialised tick crossed for the first time; 20,000 afterwards
_ALL: Final = (1 << 256) - 1

_IN_SINGLE = Function("exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))", "(uint256)")
_OUT_SINGLE = Function(
    "exactOutputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))", "(uint256)"
)
_IN = Function("exactInput((bytes,address,uint256,uint256,uint256))", "(uint256)")
_OUT = Function("exactOutput((bytes,address,uint256,uint256,uint256))", "(uint256)")
_TRANSFER = Event("Transfer(address indexed from, address indexed to, uint256 value)")
_SWAP = Event(
    "Swap(address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96, "
    "uint128 liquidity, int24 tick)"
)

PRICE_MISSES: Final = {
    "Too little received": "the sale would have brought less than its limit",
    "Too much requested": "the purchase would have cost more than its limit",
    "Transaction too old": "the deadline had passed",
}
_REASONS: Final = PRICE_MISSES | {
    "STF": "the router could not take what goes in: balance or allowance is too small",
    "TF": "the pool could not pay out",
    "AS": "nothing was asked for",
    "SPL": "the price is past the limit of the price",
    "LOK": "the pool is locked by a call within a call",
    "IIA": "the pool was not paid what goes in",
}


class UniswapV3:
    """Spot in one base token, swapped over a route of pools from the wallet's own balances."""

    def __init__(
        self,
        section: HedgeSection,
        tokens: Mapping[str, TokenSettings],
        venue: str,
        wallet: str,
        gas_limit_margin: float = 1.3,
    ) -> None:
        self._base, self._quote = tokens[section.base], tokens[section.quote]
        self._wallet, self._router = wallet, contracts_of(section, ("router",))["router"]
        self._gas_limit_margin = gas_limit_margin
        instrument_id = f"{venue}:{section.name}"
        self._terms = TradeTerms.of(section, instrument_id, self._base.decimals, self._quote.decimals)
        self._path = path_of(section, tokens)
        self._fees_pips = [pool.fee_pips for pool in section.route]
        self._pools = [PoolWatch(pool.address, pool.fee_pips) for pool in section.route]
        self._is_downwards = [
            int(token, 16) < int(following, 16) for token, following in zip(self._path, self._path[1:], strict=False)
        ]
        self.instrument = Spot(**linear_terms(section, venue))
        self._own_reads = (
            BALANCE_OF.read(self._base.address, wallet),
            BALANCE_OF.read(self._quote.address, wallet),
            ALLOWANCE.read(self._base.address, wallet, self._router),
            ALLOWANCE.read(self._quote.address, wallet, self._router),
        )
        self._block: Block | None = None
        self._legs: tuple[Leg, ...] = ()
        self._base_wei = self._quote_wei = self._base_allowed_wei = self._quote_allowed_wei = 0
        self._position_wei = 0  # base as of the newest block in which it could be read

    # What is read

    @property
    def reads(self) -> tuple[Read, ...]:
        """What to read with the next block; after the first blocks also the ticks around the pools' prices."""
        return (*self._own_reads, *(read for pool in self._pools for read in pool.reads))

    def update(self, block: Block, answers: Sequence[bytes | None]) -> None:
        """Take in a block's answers. What reverted leaves no usable state."""
        self._block = block
        own = [_amount(answer) or 0 for answer in answers[: len(self._own_reads)]]
        self._base_wei, self._quote_wei, self._base_allowed_wei, self._quote_allowed_wei = own
        if _amount(answers[0]) is not None:
            self._position_wei = self._base_wei
        start = len(self._own_reads)
        for pool in self._pools:
            end = start + len(pool.reads)
            pool.update(answers[start:end])
            start = end
        legs = tuple(
            Leg(pool.state, is_down)
            for pool, is_down in zip(self._pools, self._is_downwards, strict=True)
            if pool.state is not None
        )
        self._legs = legs if len(legs) == len(self._pools) else ()

    # What is known

    @property
    def amount_decimals(self) -> tuple[int, int]:
        """Decimals of base and quote in `Amounts`, which are the tokens' own."""
        return self._terms.base_decimals, self._terms.quote_decimals

    def quote(self, ts_recv_ns: int) -> Quote | None:
        """Return the price of the first unit each way with fees, and the sizes within `QUOTE_SLIPPAGE` and the funds.

        A size is never 0, as a quote must have one: where there is none it is far below a lot.
        None while there is no usable state, or no liquidity at the price of one of the pools.
        """
        depth_wei = depth_in(self._legs) if self._legs else 0.0
        if self._block is None or depth_wei == 0.0:
            return None
        back = turned(self._legs)
        bid, ask = price_of(self._legs, with_fee=True), 1.0 / price_of(back, with_fee=True)
        scale = 10.0 ** (self._terms.base_decimals - self._terms.quote_decimals)
        sold_wei = largest_in(self._legs, bid * (1.0 - QUOTE_SLIPPAGE), precision=1e-4)
        bought_wei = largest_out(back, ask * (1.0 + QUOTE_SLIPPAGE), precision=1e-4)
        sold_wei = min(sold_wei, self._base_wei, self._base_allowed_wei)
        bought_wei = min(bought_wei, int(min(self._quote_wei, self._quote_allowed_wei) / ask))
        lot_base = self.instrument.lot_size
        return Quote(
            self.instrument.instrument_id,
            bid * scale,
            max(NOTHING, self._terms.lots(sold_wei)) * lot_base,
            ask * scale,
            max(NOTHING, self._terms.lots(bought_wei)) * lot_base,
            self._block.timestamp_s * NS_PER_S,
            ts_recv_ns,
            self._block.number,
        )

    @property
    def depth_base(self) -> float:
        """How much base moves the route's price by about 100 %, L/√P of one pool; 0 while there is no usable state."""
        return self._terms.base(int(depth_in(self._legs))) if self._legs else 0.0

    @property
    def gas_units(self) -> int:
        """What a trade over the route uses where it crosses no tick."""
        return GAS_OF_TRADE_UNITS + GAS_OF_POOL_UNITS * (len(self._pools) - 1)

    def position_lots(self) -> int:
        """Return the wallet's base beyond the book's inventory in whole lots, towards zero: less cannot be traded.

        A balance that cannot be read now is as it was, though nothing is offered on it.
        """
        return self._terms.hedge_lots(self._position_wei)

    def approvals(self) -> tuple[Approval, ...]:
        """Return what the wallet must have granted the router: base to sell, quote to buy with."""
        return tuple(
            Approval(
                f"{token.symbol} for the swap router {self._router} to {purpose}",
                token.address,
                APPROVE.encode(self._router, _ALL),
                ALLOWANCE.read(token.address, self._wallet, self._router),
            )
            for token, purpose in ((self._base, "sell"), (self._quote, "buy with"))
        )

    # A trade

    def expects(self, intent: OrderIntent) -> Amounts:
        """Return what the trade would move in the newest state, to the last unit. Raises Refused if it cannot be."""
        return self._amounts(intent, self._swapped(intent))

    def _swapped(self, intent: OrderIntent) -> RouteSwap:
        if not self._legs:
            raise Refused(
                f"expected a usable state of {len(self._pools)} pools, found none; hint: ticks take two blocks to read"
            )
        wei = self._terms.base_wei(intent.qty_lots)
        try:
            return swap_in(self._legs, wei) if intent.qty_lots < 0 else swap_out(turned(self._legs), wei)
        except (UnknownTicks, PoolReverts) as error:
            raise Refused(
                f"expected the route to carry {self._terms.base(wei):g} {self._base.symbol}: {error}"
            ) from error

    def _amounts(self, intent: OrderIntent, swapped: RouteSwap) -> Amounts:
        if intent.qty_lots < 0:
            return Amounts(-swapped.amount_in, swapped.amount_out)
        return Amounts(swapped.amount_out, -swapped.amount_in)

    def build(self, intent: OrderIntent) -> TransactionRequest:
        """Return the transaction that trades within the order's limit, its deadline and the wallet's funds."""
        gas = self._terms.checked(intent)
        swapped = self._swapped(intent)
        moved = self._amounts(intent, swapped)
        bound = self._terms.within_limit(intent, moved)
        deadline = deadline_s(gas)
        if self._block is not None and deadline <= self._block.timestamp_s:
            raise Refused(
                f"expected a deadline after the newest block's time {self._block.timestamp_s}, found {deadline}"
            )
        if intent.qty_lots < 0:
            self._check_funds(self._base, -moved.base_wei, self._base_wei, self._base_allowed_wei)
            data = self._sale(-moved.base_wei, bound, deadline)
        else:
            self._check_funds(self._quote, -moved.quote_wei, self._quote_wei, self._quote_allowed_wei)
            data = self._purchase(moved.base_wei, min(bound, self._quote_wei, self._quote_allowed_wei), deadline)
        units = self.gas_units + GAS_OF_TICK_UNITS * (swapped.ticks_crossed + 1)  # one more may come in between
        limit = gas_limit(units, self._gas_limit_margin)
        return TransactionRequest(intent.order_id, intent.instrument_id, self._router, data, 0, limit, gas, intent)

    def _check_funds(self, token: TokenSettings, needed_wei: int, held_wei: int, allowed_wei: int) -> None:
        for what, wei in (("hold", held_wei), ("have approved", allowed_wei)):
            if wei < needed_wei:
                unit = 10**token.decimals
                raise Refused(
                    f"expected the wallet to {what} {needed_wei / unit:.6g} {token.symbol} for the router, "
                    f"found {wei / unit:.6g}"
                )

    def _sale(self, base_wei: int, least_wei: int, deadline: int) -> bytes:
        if len(self._pools) == 1:
            base, quote = self._path
            return _IN_SINGLE.encode((base, quote, self._fees_pips[0], self._wallet, deadline, base_wei, least_wei, 0))
        path = encode_path(self._path, self._fees_pips)
        return _IN.encode((path, self._wallet, deadline, base_wei, least_wei))

    def _purchase(self, base_wei: int, most_wei: int, deadline: int) -> bytes:
        if len(self._pools) == 1:
            base, quote = self._path
            return _OUT_SINGLE.encode((quote, base, self._fees_pips[0], self._wallet, deadline, base_wei, most_wei, 0))
        path = encode_path(self._path, self._fees_pips)  # from what comes out to what goes in
        return _OUT.encode((path, self._wallet, deadline, base_wei, most_wei))

    # What came of it

    def read_answer(self, intent: OrderIntent, data: bytes) -> Amounts | None:
        """Return what an `eth_call` of the built transaction says: the other side of what the order asks exactly."""
        if len(data) != abi.WORD_BYTES:
            return None
        wei, other = self._terms.base_wei(intent.qty_lots), uint_at(data, 0)
        return Amounts(-wei, other) if intent.qty_lots < 0 else Amounts(wei, -other)

    def read_receipt(self, intent: OrderIntent, receipt: Receipt) -> Amounts:
        """Return what a mined trade moved by the tokens' own logs, checked by the pools'; nothing if it failed."""
        if not receipt.is_success:
            return Amounts(0, 0)
        moved = Amounts(*(self._received(token.address, receipt) for token in (self._base, self._quote)))
        swapped = self._swapped_by_pools(receipt)
        if moved != swapped:
            raise Undecodable(
                f"expected what {intent.order_id} moved to be what its pools swapped, {swapped}, found {moved} "
                f"in the logs of {receipt.tx_hash}; hint: tokens that take a fee on transfer cannot be hedged with"
            )
        return moved

    def _received(self, token: str, receipt: Receipt) -> int:
        """Return what the wallet was sent of a token less what it sent."""
        wallet = self._wallet.lower()
        return sum(
            transfer["value"] * ((transfer["to"].lower() == wallet) - (transfer["from"].lower() == wallet))
            for transfer in _TRANSFER.all(receipt.logs, token)
        )

    def _swapped_by_pools(self, receipt: Receipt) -> Amounts:
        """Return base and quote as the first and the last pool of the route tell them, from our point of view."""
        swaps = [_SWAP.all(receipt.logs, pool.address) for pool in self._pools]
        if any(len(found) != 1 for found in swaps):
            found = [len(one) for one in swaps]
            raise Undecodable(f"expected one swap per pool of the route in {receipt.tx_hash}, found {found}")
        [first], [last] = swaps[0], swaps[-1]
        return Amounts(
            -first["amount0" if self._is_downwards[0] else "amount1"],
            -last["amount1" if self._is_downwards[-1] else "amount0"],
        )

    def read_funding(self, receipt: Receipt) -> int:  # noqa: ARG002 — spot has none
        """Return 0: spot has no funding."""
        return 0

    def explain_revert(self, data: bytes) -> str:
        """Return the reason in words, with what the short ones of the contracts mean."""
        said = abi.explain_revert(data)
        if not data:
            return f"{said}: the pools may have run dry, or the router is not one"
        return f"{said}: {_REASONS[said]}" if said in _REASONS else said

    def is_price_miss(self, data: bytes) -> bool:
        """Tell whether only the limit or the deadline stood in the way."""
        return abi.error_name(data, ()) == "Error(string)" and abi.explain_revert(data) in PRICE_MISSES


def _amount(answer: bytes | None) -> int | None:
    """Return a number that was read, None if it was not."""
    return uint_at(answer, 0) if answer and len(answer) >= abi.WORD_BYTES else None


def path_of(section: HedgeSection, tokens: Mapping[str, TokenSettings]) -> list[str]:
    """Return the tokens' addresses from base to quote. Raises ConfigError where the pools are no such route."""
    symbols = [section.base]
    for pool in section.route:
        symbols.append(_other_side(section, pool, symbols[-1]))
    if len(symbols) == 1 or symbols[-1] != section.quote:
        raise ConfigError([f"{section.name}: expected a route to {section.quote}, found it to end at {symbols[-1]}"])
    if len({pool.address.lower() for pool in section.route}) != len(section.route):
        raise ConfigError([f"{section.name}: expected every pool of the route once, found one twice"])
    return [tokens[symbol].address for symbol in symbols]


def _other_side(section: HedgeSection, pool: PoolSettings, symbol: str) -> str:
    if symbol not in {pool.base, pool.quote}:
        found = f"a pool of {pool.base} and {pool.quote}"
        raise ConfigError([f"{section.name}: expected a route that goes on from {symbol}, found {found}"])
    return pool.quote if symbol == pool.base else pool.base


def encode_path(addresses: Sequence[str], fees_pips: Sequence[int]) -> bytes:
    """Return a path as the router takes it: address, fee in three bytes, address and so on, packed."""
    first, *others = (bytes.fromhex(address.removeprefix("0x")) for address in addresses)
    return first + b"".join(fee.to_bytes(3) + other for fee, other in zip(fees_pips, others, strict=True))
