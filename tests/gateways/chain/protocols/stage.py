"""A stage for hedge protocols: what a chain gateway does with them, block by block, on the real contracts."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import Any

from bot.domain.orders import GasBid, OrderIntent, TimeInForce
from bot.domain.units import NS_PER_S
from bot.gateways.chain.nouns import Amounts, Block, HedgeProtocol, Log, Receipt, Refused, TransactionRequest
from bot.gateways.chain.settings import TokenSettings
from tests.chains.anvil import RpcError
from tests.chains.contracts import Reverted, await_receipt, reverted, send
from tests.chains.world import World

DECIMALS = {"WETH": 18, "USDC": 6, "USDT": 6, "WBTC": 8, "wstETH": 18}
UNDERLYINGS = {"WETH": "ETH", "wstETH": "ETH", "WBTC": "BTC"}
PATIENCE_BLOCKS = 8
DEADLINE_S = 120
GWEI = 10**9
NONSENSE = (b"", b"\x01", bytes(512), b"\xff" * 512)  # nothing, a piece of a word, zeros, and all bits set


def token_settings(world: World) -> dict[str, TokenSettings]:
    """Return the world's tokens as a vault file would name them."""
    return {
        symbol: TokenSettings(
            symbol=symbol,
            address=contract.address,
            decimals=DECIMALS[symbol],
            underlying=UNDERLYINGS.get(symbol, ""),
        )
        for symbol, contract in world.tokens.items()
    }


class Stage:
    """One protocol on one world; the hedger is the wallet."""

    def __init__(self, world: World, protocol: HedgeProtocol) -> None:
        self.world = world
        self.protocol = protocol
        self.wallet = world.hedger
        self._orders = 0

    def look(self) -> Block:
        """Read the newest block, once more for as long as that makes the protocol want to read other things."""
        for _ in range(PATIENCE_BLOCKS):
            before = self.protocol.reads
            block = self.look_once()
            if self.protocol.reads == before:
                return block
        raise AssertionError(f"expected reads to settle within {PATIENCE_BLOCKS} rounds, found them still changing")

    def look_once(self) -> Block:
        """Read the newest block, pinned to its hash, in one call."""
        header = self.world.anvil.block()
        answers = self.answers(header["hash"])
        block = Block(
            int(header["number"], 16), header["hash"], header["parentHash"], int(header["timestamp"], 16),
            int(header["baseFeePerGas"], 16), int(header["gasUsed"], 16), int(header["gasLimit"], 16),
        )  # fmt: skip
        self.protocol.update(block, answers)
        return block

    def disturb(self) -> None:
        """Replace each answer in turn by what it cannot be: no trade is made of it, and the next block heals."""
        intents = [self.intent(-0.5), self.intent(0.5)]
        self.look()
        for index in range(len(self.protocol.reads)):
            for answer in NONSENSE:
                block = self.look()
                answers = self.answers(block.block_hash)
                self.protocol.update(block, [*answers[:index], answer, *answers[index + 1 :]])
                quote = self.protocol.quote(0)
                assert quote is None or (0.0 < quote.bid_px < inf and 0.0 < quote.ask_px < inf)
                assert self.protocol.depth_base >= 0.0
                assert self.protocol.gas_units > 0
                self.protocol.position_lots()
                for intent in intents:
                    with suppress(Refused):
                        self.protocol.build(intent)
        self.look()
        assert self.protocol.quote(0) is not None

    def answers(self, block_hash: str) -> list[bytes | None]:
        """Return what the chain answers to all that the protocol reads now."""
        calls = [(read.to, True, read.data) for read in self.protocol.reads]
        told = self.world.multicall.call("aggregate3", calls, block=block_hash)
        return [answer if is_success else None for is_success, answer in told]

    def grant(self) -> None:
        """Have the wallet grant all that the protocol needs."""
        self.look()
        for approval in self.protocol.approvals():
            send(self.world.anvil, self.wallet, to=approval.to, data=approval.data, what=approval.what)

    def intent(
        self, base: float, limit_px: float = 0.0, *, reduce_only: bool = False, in_force: TimeInForce = TimeInForce.IOC
    ) -> OrderIntent:
        """Return an order for so much base (below 0 sells), by default at a limit 5 % away."""
        self._orders += 1
        instrument = self.protocol.instrument
        if not limit_px:
            quote = self.protocol.quote(0)
            assert quote is not None
            limit_px = quote.bid_px * 0.95 if base < 0 else quote.ask_px * 1.05
        deadline_ns = (self.world.anvil.timestamp_s + DEADLINE_S) * NS_PER_S
        return OrderIntent(
            f"run-{self._orders}", instrument.instrument_id, round(base / instrument.lot_size),
            round(limit_px / instrument.tick_schedule.tick_px), in_force, reduce_only, "test", limit_px, 0,
            GasBid(100 * GWEI, GWEI, 1.0, deadline_ns),
        )  # fmt: skip

    def call(self, request: TransactionRequest, block: str = "latest") -> bytes:
        """Return what the transaction would answer; raise Reverted."""
        asked = {
            "from": self.wallet,
            "to": request.to,
            "data": "0x" + request.data.hex(),
            "gas": hex(request.gas_limit),
        }
        where = {"blockHash": block} if block.startswith("0x") else block
        try:
            return bytes.fromhex(self.world.anvil.rpc("eth_call", asked, where)[2:])
        except RpcError as error:
            raise reverted("eth_call", error, []) from None

    def send(self, request: TransactionRequest) -> Receipt:
        """Send the transaction from the wallet, and return its receipt, failed or not."""
        asked = {
            "from": self.wallet, "to": request.to, "data": "0x" + request.data.hex(), "gas": hex(request.gas_limit),
            "maxFeePerGas": hex(request.gas.max_fee_wei), "maxPriorityFeePerGas": hex(request.gas.tip_wei),
        }  # fmt: skip
        told = await_receipt(self.world.anvil, self.world.anvil.rpc("eth_sendTransaction", asked))
        return receipt_of(told)

    def needs(self, request: TransactionRequest) -> int:
        """Return the gas that must be at hand for the transaction to go through, refunds not counted."""
        asked = {"from": self.wallet, "to": request.to, "data": "0x" + request.data.hex()}
        return int(self.world.anvil.rpc("eth_estimateGas", asked, "latest"), 16)

    def trade(self, base: float, limit_px: float = 0.0) -> tuple[Amounts, Receipt]:
        """Trade, and hold prediction, the chain's answer beforehand and what came of it against one another."""
        block = self.look()
        intent = self.intent(base, limit_px)
        request = self.protocol.build(intent)
        expected = self.protocol.expects(intent)
        answered = self.protocol.read_answer(intent, self.call(request, block.block_hash))
        assert answered is not None
        assert (answered.base_wei, answered.net_quote_wei) == (expected.base_wei, expected.net_quote_wei)
        receipt = self.send(request)
        assert receipt.is_success
        assert self.protocol.read_receipt(intent, receipt) == expected
        self.look()
        return expected, receipt

    def reason(self, request: TransactionRequest) -> bytes:
        """Return the raw reason why the transaction would revert."""
        try:
            self.call(request)
        except Reverted as error:
            return error.data
        raise AssertionError("expected a revert, found none")


def receipt_of(told: dict[str, Any]) -> Receipt:
    """Return a node's receipt as ours."""
    logs = tuple(
        Log(log["address"], tuple(log["topics"]), bytes.fromhex(log["data"][2:]), int(log["logIndex"], 16))
        for log in told["logs"]
    )
    return Receipt(
        told["transactionHash"], int(told["blockNumber"], 16), told["blockHash"], told["status"] == "0x1",
        int(told["gasUsed"], 16), int(told["effectiveGasPrice"], 16), logs,
    )  # fmt: skip
