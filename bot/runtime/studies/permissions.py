"""What hedges on a chain must be allowed by the wallet before they can trade: what is lacking, and granting it.

Looking asks views only. Granting goes through the transaction desk like every transaction of ours: written down before
it is sent, and never by two processes at once.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from bot.domain.errors import OutcomeUnknown, Retryable, VenueFatal
from bot.domain.orders import GasBid
from bot.domain.units import NS_PER_S
from bot.gateways.chain.abi import APPROVE, Function, uint_at
from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.multicall import Multicall
from bot.gateways.chain.nouns import Block, HedgeProtocol, Read, Refused, TransactionRequest, TransactionState
from bot.gateways.chain.protocols.registry import open_protocol
from bot.gateways.chain.rpc import RpcError
from bot.gateways.chain.settings import ChainSettings, HedgeSection
from bot.gateways.chain.signing import open_signer
from bot.gateways.chain.transaction_log import TransactionLog, log_path
from bot.gateways.chain.transactions import TransactionDesk
from bot.gateways.gateway import Clock

UNLIMITED: Final = 2**255  # from here on an allowance is as good as without end
GAS_MARGIN: Final = 1.3
MINED_IN_S: Final = 300.0
_MAX_ROUNDS: Final = 8  # of reading one block, as what some reads find says what others must be
_LEAST_POLL_S: Final = 0.2
_AMOUNT_BYTES: Final = 32
_TIER: Final = 1
_CALLS: Final = {
    APPROVE.selector: "approve",
    Function("approveDelegation(address,uint256)").selector: "approveDelegation",
}
_ENDED: Final = frozenset({TransactionState.MINED, TransactionState.FAILED, TransactionState.CANCELED})

ReadAll = Callable[[Block, Sequence[Read]], Awaitable[Sequence[bytes | None]]]


class Permission(msgspec.Struct, frozen=True):
    """One thing a hedge needs granted: whose call grants it, what is granted now, and the least that one order needs.

    Amounts are in smallest units of `symbol`; `granted_wei` is None where the chain does not say.
    """

    chain: str
    hedge: str
    what: str
    symbol: str
    decimals: int
    to: str
    data: bytes
    granted_wei: int | None
    needed_wei: int

    @property
    def is_enough(self) -> bool:
        """Tell whether the largest order that is allowed can be carried out."""
        return self.granted_wei is not None and self.granted_wei >= self.needed_wei

    @property
    def call(self) -> str:
        """The call that grants it, for people: function, whom it is for and how much."""
        name = _CALLS.get(self.data[:4], f"0x{self.data[:4].hex()}")
        spender = f"0x{self.data[16:36].hex()}"
        return f"{name}({spender}, {self.amount_text(uint_at(self.data[4:], 1))}) of {self.to}"

    def amount_text(self, wei: int) -> str:
        """Return an amount for people."""
        return "unlimited" if wei >= UNLIMITED else f"{amount_text(wei, self.decimals)} {self.symbol}"

    def of_amount(self, wei: int) -> Permission:
        """Return the permission with the call that grants just so much."""
        data = self.data[:-_AMOUNT_BYTES] + min(wei, 2**256 - 1).to_bytes(_AMOUNT_BYTES, "big")
        return msgspec.structs.replace(self, data=data)


def amount_text(wei: int, decimals: int) -> str:
    """Return an amount of smallest units in whole ones for people, with as many places as mean something."""
    text = f"{wei / 10**decimals:,.6f}"
    return text.rstrip("0").rstrip(".")


async def read_protocol(protocol: HedgeProtocol, block: Block, read: ReadAll) -> None:
    """Let a protocol read one block until nothing is lacking: what some reads find says what others must be."""
    for _ in range(_MAX_ROUNDS):
        reads = protocol.reads
        protocol.update(block, await read(block, reads))
        if protocol.reads == reads:
            return


async def permissions_of(
    protocol: HedgeProtocol,
    section: HedgeSection,
    settings: ChainSettings,
    block: Block,
    read: ReadAll,
    max_order_quote: float,
) -> list[Permission]:
    """Return what a hedge that has read `block` needs granted. Raises Refused where that cannot be known."""
    approvals = protocol.approvals()
    answers = await read(block, [one.check for one in approvals])
    quote = protocol.quote(0)
    px = 0.0 if quote is None else 0.5 * (quote.bid_px + quote.ask_px)
    money = settings.tokens.get(section.quote)
    found = []
    for one, answer in zip(approvals, answers, strict=True):
        token = next((t for t in settings.tokens.values() if t.address.lower() == one.to.lower()), None)
        is_money = money is not None and token is money
        token = token or settings.tokens.get(section.base)  # a debt is counted in what is owed
        decimals = 18 if token is None else token.decimals
        whole = max_order_quote if is_money else max_order_quote / px if px > 0.0 else 0.0
        found.append(
            Permission(
                settings.venue,
                protocol.instrument.instrument_id,
                one.what,
                "" if token is None else token.symbol,
                decimals,
                one.to,
                one.data,
                uint_at(answer, 0) if answer else None,
                max(1, math.ceil(whole * 10**decimals)),
            )
        )
    return found


async def lacking(
    settings: ChainSettings, clock: Clock, max_order_quote: float, *, orders: int = 0
) -> list[Permission]:
    """Return what the hedges of a chain lack, each call once: without end, or enough for so many of the largest orders.

    Raises VenueFatal or Retryable if the chain cannot be asked.
    """
    async with Endpoints(settings, clock) as nodes:
        return await _lacking(settings, nodes, max_order_quote, orders)


async def _lacking(settings: ChainSettings, nodes: Endpoints, max_order_quote: float, orders: int) -> list[Permission]:
    wallet = settings.wallet.address if settings.wallet is not None else ""
    multicall = Multicall(nodes, settings.multicall)
    block = await nodes.block("latest")
    found: dict[bytes, Permission] = {}
    for section in settings.hedges:
        protocol = open_protocol(section, settings, wallet)
        await read_protocol(protocol, block, multicall.read)
        try:
            needed = await permissions_of(protocol, section, settings, block, multicall.read, max_order_quote)
        except Refused as error:
            raise VenueFatal(f"{settings.venue}:{section.name}: {error}") from None
        for one in needed:
            enough_wei = max(1, orders) * one.needed_wei
            if one.granted_wei is not None and one.granted_wei >= enough_wei:
                continue
            wanted = one.of_amount(enough_wei) if orders else one
            who = one.to.lower().encode() + one.data[:36]
            if who not in found or found[who].data < wanted.data:
                found[who] = wanted
    return list(found.values())


class Granted(msgspec.Struct, frozen=True):
    """What became of one grant."""

    permission: Permission
    tx_hash: str
    block_number: int
    gas_coin: float


async def grant(
    settings: ChainSettings,
    environ: Mapping[str, str],
    clock: Clock,
    permissions: Sequence[Permission],
    say: Callable[[str], None],
) -> list[Granted]:
    """Grant permissions one after another and wait until each is in a block.

    Raises JournalError if a daemon owns the key, VenueFatal if the chain refuses one, Retryable if it cannot be asked,
    OutcomeUnknown if one is not mined in time: it may still be, and the next start sees to it.
    """
    if settings.wallet is None:
        raise VenueFatal(f"{settings.venue}: expected a wallet, found none")
    async with AsyncExitStack() as stack:
        path = log_path(settings.state_dir, settings.chain_id, settings.wallet.address)
        log = stack.enter_context(TransactionLog.open(path, for_writing=True))
        signer = await stack.enter_async_context(open_signer(settings, environ))
        nodes = await stack.enter_async_context(Endpoints(settings, clock))
        desk = TransactionDesk(settings, signer, log, nodes, clock, lambda _: None)
        await desk.recover()
        done = []
        for one in permissions:
            request = await _request(settings, nodes, desk, one)
            try:
                await desk.send(request)
            except Refused as refusal:
                raise VenueFatal(str(refusal)) from None
            say(f"sent     {one.call}")
            done.append(await _mined(settings, nodes, desk, one, request.key))
            say(f"mined    block {done[-1].block_number}, {done[-1].gas_coin:.8f} {settings.coin}, {done[-1].tx_hash}")
        return done


async def _request(
    settings: ChainSettings, nodes: Endpoints, desk: TransactionDesk, one: Permission
) -> TransactionRequest:
    assert settings.wallet is not None, "a grant has somebody who grants"
    call = {"from": settings.wallet.address, "to": one.to, "data": f"0x{one.data.hex()}"}
    try:
        gas = int(await nodes.call("eth_estimateGas", [call]), 16)
    except RpcError as error:
        raise VenueFatal(f"{one.call}: expected the transaction to work, found that it reverts: {error}") from None
    tiers = desk.tiers(gas)
    if not tiers:
        raise VenueFatal(
            f"expected gas for {settings.fees.max_fee_wei / 10**9:g} gwei at most, found it dearer; hint: wait"
        )
    tier = tiers[min(_TIER, len(tiers) - 1)]
    bid = GasBid(max_fee_wei=tier.max_fee_wei, tip_wei=tier.tip_wei, gas_quote=tier.gas_quote, deadline_ns=0)
    # the key of a transaction is never used for another: the same grant may be needed again after a spell without it
    key = f"approve:{one.hedge}:{one.symbol}:{secrets.token_hex(4)}"
    return TransactionRequest(key, one.hedge, one.to, one.data, 0, math.ceil(gas * GAS_MARGIN), bid)


async def _mined(
    settings: ChainSettings, nodes: Endpoints, desk: TransactionDesk, one: Permission, key: str
) -> Granted:
    """Follow the chain until the transaction is in a block; what cannot be asked is asked again."""
    poll_s = max(_LEAST_POLL_S, settings.block_ns / NS_PER_S / 4)
    seen = ""
    try:
        async with asyncio.timeout(MINED_IN_S):
            while True:
                try:
                    block = await nodes.block("latest")
                except Retryable:
                    block = None
                if block is not None and block.block_hash != seen:
                    seen = block.block_hash
                    await desk.on_block(block)
                truth = await desk.truth_of(key)
                if truth.receipt is not None and (truth.state in _ENDED or truth.state is TransactionState.FINAL):
                    break
                await asyncio.sleep(poll_s)
    except TimeoutError:
        raise OutcomeUnknown(
            f"{one.call}: expected it in a block within {MINED_IN_S:g} s, found it is not;"
            " hint: evenkeel tx list says what it waits for"
        ) from None
    if TransactionState.MINED not in (truth.state, truth.outcome):
        raise VenueFatal(f"{one.call}: expected it to be carried out, found {truth.state}: {truth.reason}")
    receipt = truth.receipt
    return Granted(one, receipt.tx_hash, receipt.block_number, receipt.gas_wei / 10**18)


def lacking_lines(permissions: Sequence[Permission]) -> Iterator[str]:
    """Yield what is lacking and what would grant it, for people."""
    for one in permissions:
        has = "nothing is known of it" if one.granted_wei is None else f"granted {one.amount_text(one.granted_wei)}"
        yield f"{one.hedge}  {one.what}"
        yield f"  now      {has}; one order needs up to {one.amount_text(one.needed_wei)}"
        yield f"  call     {one.call}"
        yield f"  data     0x{one.data.hex()}"
