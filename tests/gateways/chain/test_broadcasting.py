"""What nodes say to raw bytes: every doubt is a doubt, and a relay's bytes go nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from eth_account import Account

from bot.domain.errors import Retryable
from bot.gateways.chain.broadcasting import Broadcaster, Handed, judged, summary
from bot.gateways.chain.endpoints import Endpoints
from bot.gateways.chain.rpc import Endpoint, RpcError, Unanswered
from bot.gateways.chain.settings import ChainSettings
from tests.chains.anvil import GWEI, Anvil
from tests.chains.anvil import RpcError as Refusal
from tests.gateways.chain.nodes import ANSWERS_IN_NS, ManualClock, Scripted, header, scripted, until

H = Handed


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("already known", H.ACCEPTED),  # geth
        ("AlreadyKnown", H.ACCEPTED),  # Nethermind
        ("Known transaction", H.ACCEPTED),  # Besu
        ("transaction already imported", H.ACCEPTED),  # Anvil
        ("nonce too low: next nonce 5, tx nonce 4", H.NONCE_LOW),
        ("Nonce too low", H.NONCE_LOW),
        ("OldNonce", H.NONCE_LOW),
        ("replacement transaction underpriced", H.UNDERPRICED),
        ("ReplacementNotAllowed", H.UNDERPRICED),
        ("could not replace existing tx", H.UNDERPRICED),  # Erigon
        ("transaction underpriced: gas tip cap 1, minimum needed 2", H.TOO_CHEAP),
        ("max fee per gas less than block base fee", H.TOO_CHEAP),
        ("txpool is full", H.TOO_CHEAP),
        ("insufficient funds for gas * price + value: balance 1, tx cost 2", H.NO_FUNDS),
        ("intrinsic gas too low", H.REFUSED),
        ("exceeds block gas limit", H.REFUSED),
        ("invalid sender", H.REFUSED),
        ("something nobody has seen before", H.LOST),
        ("internal error", H.LOST),
    ],
)
def test_words_of_nodes(words: str, meaning: Handed) -> None:
    assert judged(RpcError(-32000, words)).handed is meaning


def test_silence_is_a_doubt() -> None:
    assert judged(Unanswered("no answer within 5 s")).handed is H.LOST
    assert judged(Retryable("nobody answered")).handed is H.LOST
    assert summary([]).handed is H.LOST


def test_of_several_answers_the_best_counts_and_a_doubt_is_better_than_a_no() -> None:
    no, cheap = RpcError(-32000, "insufficient funds"), RpcError(-32000, "transaction underpriced")
    assert summary([no, "0x01", Unanswered("x")]).handed is H.ACCEPTED
    assert summary([no, Unanswered("x")]).handed is H.LOST
    assert summary([no, cheap]).handed is H.TOO_CHEAP
    assert summary([no, no]).handed is H.NO_FUNDS
    assert summary([no]).text == "insufficient funds (code -32000)"


def test_the_words_of_a_real_node_are_understood() -> None:
    with Anvil(is_mining=False, base_fee_wei=GWEI) as anvil:
        account, friend = Account.from_key(anvil.accounts[0].key), anvil.accounts[1].address

        def say(nonce: int, **changes: int) -> Handed:
            fields = {
                "type": 2, "chainId": 31337, "nonce": nonce, "to": friend, "value": 1, "data": b"", "gas": 21_000,
                "maxFeePerGas": 5 * GWEI, "maxPriorityFeePerGas": GWEI,
            }  # fmt: skip
            raw = "0x" + bytes(account.sign_transaction(fields | changes).raw_transaction).hex()
            try:
                return judged(anvil.rpc("eth_sendRawTransaction", raw)).handed
            except Refusal as refusal:
                return judged(RpcError(refusal.code, refusal.message)).handed

        assert say(0) is H.ACCEPTED
        assert say(0) is H.ACCEPTED
        assert say(0, value=2) is H.UNDERPRICED
        assert say(1, value=10**30) is H.NO_FUNDS
        assert say(1, gas=20_000) is H.REFUSED
        assert say(1, maxFeePerGas=GWEI // 10, maxPriorityFeePerGas=1) is H.TOO_CHEAP
        assert say(1, maxPriorityFeePerGas=6 * GWEI) is H.REFUSED
        assert say(1, chainId=5) is H.REFUSED
        anvil.mine()
        assert say(0, value=2) is H.NONCE_LOW


def answers(what: object) -> Any:
    def answer(method: str, _: list[Any]) -> Any:
        if method in {"eth_chainId", "eth_blockNumber", "eth_getBlockByNumber"}:
            return {"eth_chainId": "0x1", "eth_blockNumber": "0x7"}.get(method, header(4))
        return what

    return answer


def error(words: str) -> dict[str, Any]:
    return {"error": {"code": -32000, "message": words}}


@asynccontextmanager
async def nodes(*what: object) -> AsyncIterator[tuple[Endpoints, list[Scripted]]]:
    """Run real endpoints against nodes that answer raw bytes as told."""
    async with AsyncExitStack() as stack:
        served = [await stack.enter_async_context(scripted(answers(one))) for one in what]
        urls = tuple(one.url for one in served)
        settings = ChainSettings(venue="local", chain_id=1, coin="ETH", http_urls=urls, timeout_ns=ANSWERS_IN_NS)
        yield await stack.enter_async_context(Endpoints(settings, ManualClock())), served


async def test_bytes_go_to_every_node() -> None:
    async with nodes(error("txpool is full"), "0x01") as (asked, served):
        assert (await Broadcaster(asked).hand_over(b"\x02\x01", 100)).handed is H.ACCEPTED
        await until(lambda: all(one.count("eth_sendRawTransaction") for one in served))  # one yes is enough to go on
        for one in served:
            assert [params for method, params in one.asked if method == "eth_sendRawTransaction"] == [["0x0201"]]


async def test_nothing_a_node_says_is_raised() -> None:
    async with nodes(error("insufficient funds"), error("insufficient funds")) as (asked, _):
        assert (await Broadcaster(asked).hand_over(b"\x02", 1)).handed is H.NO_FUNDS
    async with nodes(error("nonce too low"), web.Response(status=502)) as (asked, _):
        assert (await Broadcaster(asked).hand_over(b"\x02", 1)).handed is H.LOST  # the other one may have it


async def test_private_bytes_go_to_the_relay_alone() -> None:
    async with AsyncExitStack() as stack:
        asked, [public] = await stack.enter_async_context(nodes("0x01"))
        relay = await stack.enter_async_context(scripted(answers("0x01")))
        endpoint = await stack.enter_async_context(Endpoint(relay.url, ANSWERS_IN_NS))
        private = Broadcaster(asked, endpoint)
        assert private.is_private
        assert (await private.hand_over(b"\x02\x01", 100)).handed is H.ACCEPTED
        assert relay.asked == [("eth_sendPrivateTransaction", [{"tx": "0x0201", "maxBlockNumber": hex(125)}])]
        relay.answer = answers(web.Response(status=502))
        assert (await private.hand_over(b"\x02\x01", 100)).handed is H.LOST
        relay.answer = answers(error("nonce too low"))
        assert (await private.hand_over(b"\x02\x01", 100)).handed is H.NONCE_LOW
        assert public.count("eth_sendRawTransaction") == 0  # not even then
