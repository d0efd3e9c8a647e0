"""One endpoint: what each answer and each failure means, and that no key is ever shown."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.chain.abi import encode, selector
from bot.gateways.chain.rpc import Endpoint, RateLimited, Reverted, RpcError, Unanswered, UnknownBlock
from tests.gateways.chain.nodes import ANSWERS_IN_NS, scripted

KEY = "s3cr3tk3y0123456789"


async def test_a_result_is_returned_and_one_request_is_one_request() -> None:
    async with scripted(lambda method, params: [method, params]) as node, Endpoint(node.url, ANSWERS_IN_NS) as endpoint:
        assert await endpoint.call("eth_blockNumber") == ["eth_blockNumber", []]
        assert await endpoint.call("eth_call", [{"to": "0x1"}, "latest"]) == ["eth_call", [{"to": "0x1"}, "latest"]]
        assert node.asked == [("eth_blockNumber", []), ("eth_call", [{"to": "0x1"}, "latest"])]


REASON = selector("Error(string)") + encode("(string)", "Too little received")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        ({"code": 3, "message": "execution reverted", "data": "0x" + REASON.hex()}, Reverted, "Too little received"),
        (
            {"code": -32015, "message": "VM execution error.", "data": "Reverted 0x" + REASON.hex()},
            Reverted,
            "Too little received",
        ),
        (
            {"code": -32000, "message": "reverted", "data": {"data": "0x" + REASON.hex()}},
            Reverted,
            "Too little received",
        ),
        ({"code": -32000, "message": "execution reverted"}, Reverted, "execution reverted"),
        ({"code": 3, "message": "execution reverted: block not found", "data": "0x"}, Reverted, "execution reverted"),
        ({"code": -32000, "message": "header for hash not found"}, UnknownBlock, "header for hash not found"),
        ({"code": -32000, "message": "header not found"}, UnknownBlock, "header not found"),
        ({"code": -32000, "message": "missing trie node 12ab (path )"}, UnknownBlock, "missing trie node"),
        ({"code": -32001, "message": "Resource not found"}, UnknownBlock, "Resource not found"),
        ({"code": -32602, "message": "BlockOutOfRangeError: block height is 0"}, UnknownBlock, "BlockOutOfRange"),
        ({"code": -32005, "message": "daily request count exceeded"}, RateLimited, "daily request count"),
        ({"code": -32000, "message": "Too Many Requests"}, RateLimited, "Too Many Requests"),
        ({"code": -32601, "message": "block method not found"}, RpcError, "block method not found"),
        ({"code": -32000, "message": "nonce too low"}, RpcError, r"nonce too low \(code -32000\)"),
        ("odd", RpcError, "odd"),
    ],
)
async def test_what_a_node_answers_means_one_thing(error: Any, kind: type[Exception], said: str) -> None:
    async with scripted(lambda *_: {"error": error}) as node, Endpoint(node.url, ANSWERS_IN_NS) as endpoint:
        with pytest.raises(kind, match=said) as caught:
            await endpoint.call("eth_call")
        assert type(caught.value) is kind


async def test_a_revert_keeps_its_raw_reason() -> None:
    error = {"code": 3, "message": "execution reverted", "data": "0x" + REASON.hex()}
    async with scripted(lambda *_: {"error": error}) as node, Endpoint(node.url, ANSWERS_IN_NS) as endpoint:
        with pytest.raises(Reverted) as caught:
            await endpoint.call("eth_call")
        assert (caught.value.data, caught.value.code) == (REASON, 3)


async def test_too_many_requests_says_how_long_to_wait() -> None:
    answer = web.Response(status=429, headers={"Retry-After": "7"})
    async with scripted(lambda *_: answer) as node, Endpoint(node.url, ANSWERS_IN_NS) as endpoint:
        with pytest.raises(RateLimited, match="HTTP 429") as caught:
            await endpoint.call("eth_call")
        assert caught.value.retry_after_ns == 7 * NS_PER_S


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (web.Response(status=503, text="down"), "HTTP 503"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "HTTP 302"),
        (web.Response(text="<html>"), "expected JSON, found something else"),
        (web.Response(body=b"\xff\xfe"), "expected JSON, found something else"),
        (web.Response(text="[]"), "expected a JSON-RPC answer"),
        (web.Response(text="{}"), "expected a JSON-RPC answer"),
    ],
)
async def test_what_is_no_answer_is_unanswered(answer: web.Response, said: str) -> None:
    async with scripted(lambda *_: answer) as node, Endpoint(node.url, ANSWERS_IN_NS) as endpoint:
        with pytest.raises(Unanswered, match=said):
            await endpoint.call("eth_call")


async def test_an_error_is_read_whatever_the_http_status() -> None:
    body = '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument"}}'
    async with (
        scripted(lambda *_: web.Response(status=400, text=body)) as node,
        Endpoint(node.url, ANSWERS_IN_NS) as endpoint,
    ):
        with pytest.raises(RpcError, match="invalid argument"):
            await endpoint.call("eth_call")


async def test_a_node_that_does_not_answer_is_given_up() -> None:
    never = asyncio.Event()

    async def wait() -> None:
        await never.wait()

    async with scripted(lambda *_: wait()) as node, Endpoint(node.url, 50 * NS_PER_MS) as endpoint:
        with pytest.raises(Unanswered, match=r"no answer within 0\.05 s"):
            await endpoint.call("eth_call")
        never.set()


async def test_nothing_that_fails_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"code": -32000, "message": f"no such project: {KEY}"}}
    said: list[str] = []
    async with scripted(lambda *_: echo, path=f"/v3/{KEY}") as node:
        async with Endpoint(node.url, ANSWERS_IN_NS) as endpoint:
            with pytest.raises(RpcError) as caught:
                await endpoint.call("eth_call")
            said += [str(caught.value), repr(endpoint), endpoint.name]
        url = node.url
    for dead in (url, f"http://u:{KEY}@127.0.0.1:9/{KEY}?key={KEY}"):
        async with Endpoint(dead, ANSWERS_IN_NS) as endpoint:
            with pytest.raises(Unanswered) as refused:
                await endpoint.call("eth_call")
            assert refused.value.__cause__ is None
            assert refused.value.__suppress_context__
            said += [str(refused.value), repr(endpoint)]
    # A scripted node logs what it is asked, as servers do; that is not ours.
    said += [record.getMessage() for record in caplog.records if not record.name.startswith("aiohttp.access")]
    assert said
    assert not [text for text in said if KEY in text]


async def test_an_endpoint_that_is_not_open_is_unanswered() -> None:
    with pytest.raises(Unanswered, match="not open"):
        await Endpoint("http://127.0.0.1:1", NS_PER_S).call("eth_call")
