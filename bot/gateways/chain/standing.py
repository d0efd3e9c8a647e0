"""How a key stands on its chain as of the newest block: what blocks cost, what it holds, and what it may still send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bot.domain.errors import InvariantBroken, Retryable
from bot.domain.market import GasTier
from bot.domain.orders import GasBid
from bot.domain.units import NS_PER_S
from bot.gateways.chain.fees import WEI, FeeMarket, gwei, make_tiers
from bot.gateways.chain.inclusion import InclusionDelays
from bot.gateways.chain.nouns import Block, Refused, TransactionRequest
from bot.gateways.chain.rpc import RpcError
from bot.gateways.chain.settings import ChainSettings


class Standing:
    """What the newest block has told, None or 0 before the first; whoever hears of a block keeps it up to date.

    `count` is how many nonces were used, `coin_px` the price of the chain's coin in quote money. `trouble` says what
    could not be asked.
    """

    def __init__(self, settings: ChainSettings, address: str) -> None:
        self.settings = settings
        self.fees = settings.fees
        self.address = address
        self.coin_px = 0.0
        self.trouble = ""
        self.head: Block | None = None
        self.market: FeeMarket | None = None
        self.balance_wei: int | None = None
        self.count = 0

    def ready(self) -> Block:
        """Return the newest block."""
        if self.head is None:
            raise InvariantBroken("expected `recover` before the first transaction, found none")
        return self.head

    async def guarded(self, work: Callable[[], Awaitable[None]], *, is_first: bool = True) -> None:
        """Do what asks a node; no answer is trouble that the next block gets over, and only its first questions do."""
        try:
            await work()
        except (Retryable, RpcError) as error:
            self.trouble = str(error)
        else:
            self.trouble = "" if is_first else self.trouble

    def tiers(self, gas_units: int, delays: InclusionDelays) -> tuple[GasTier, ...]:
        """Return what a place in a block costs now and how long it takes; none while it is not known or too dear."""
        if self.market is None:
            return ()
        block_s = self.settings.block_ns / NS_PER_S
        return make_tiers(self.market, delays, self.fees, gas_units, self.coin_px, block_s)

    def check(self, request: TransactionRequest, pending_wei: int, *, is_reducing: bool) -> None:
        """Raise Refused for what must not be sent while `pending_wei` is under way."""
        gas, head = request.gas, self.ready()
        if not 0 <= gas.tip_wei <= gas.max_fee_wei <= self.fees.max_fee_wei:
            raise Refused(
                f"{request.key}: expected tip ≤ fee ≤ {gwei(self.fees.max_fee_wei)} gwei,"
                f" found {gwei(gas.tip_wei)} and {gwei(gas.max_fee_wei)} gwei"
            )
        if gas.gas_quote > self.fees.max_gas_quote:
            raise Refused(
                f"{request.key}: expected gas for {self.fees.max_gas_quote:g} at most, found {gas.gas_quote:g}"
            )
        if is_late(gas, head):
            raise Refused(f"{request.key}: its deadline is over by the chain's clock")
        if self.balance_wei is None:
            return
        left = self.balance_wei - pending_wei - request.value_wei - request.gas_limit * gas.max_fee_wei
        coin = self.settings.coin
        if left < 0:
            raise Refused(
                f"{request.key}: gas exhausted: expected {coin} for it and what is under way,"
                f" found {-left / WEI:.6f} {coin} too little; hint: send {coin} to {self.address}"
            )
        if left < self.fees.reserve_coin * WEI and not is_reducing:
            raise Refused(
                f"{request.key}: expected {self.fees.reserve_coin:g} {coin} left for closing what is open,"
                f" found {left / WEI:.6f}; hint: send {coin} to {self.address}"
            )

    def gas_alarm(self, pending_wei: int) -> str:
        """Return what a person should know of the coins left beyond what is under way, "" if nothing."""
        if self.balance_wei is None:
            return ""
        coin, left = self.settings.coin, self.balance_wei - pending_wei
        if left >= self.fees.reserve_coin * WEI:
            return ""
        what = "gas exhausted" if left <= 0 else "gas reserve low"
        return (
            f"{what}: expected {self.fees.reserve_coin:g} {coin} beyond what is under way, found {left / WEI:.6f};"
            f" hint: send {coin} to {self.address}"
        )


def is_late(gas: GasBid, block: Block) -> bool:
    """Tell whether the block after `block` comes too late; a deadline of 0 is none."""
    return 0 < gas.deadline_ns <= block.timestamp_s * NS_PER_S
