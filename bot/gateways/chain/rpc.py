"""One JSON-RPC endpoint of a node: asked over a kept-alive connection, and every way it can fail told apart.

An endpoint's address may hold a key, so nothing here shows more of it than scheme and host, and web3's own log of
addresses is switched off.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import urlsplit

import aiohttp
import msgspec
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint, RPCRequest, RPCResponse

from bot.domain.errors import EvenkeelError, Retryable
from bot.domain.units import NS_PER_S
from bot.gateways.addresses import masked, why_failed
from bot.gateways.chain.abi import Undecodable, explain_revert, to_bytes

_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_LEAST_SECRET_LETTERS: Final = 6  # shorter parts of an address are words such as "v3"
_SILENT: Final = logging.getLogger("evenkeel.chain.web3")
_SILENT.disabled = True
_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "evenkeel"}

_REVERT_CODES: Final = {3, -32015}  # geth and most others; OpenEthereum and Nethermind
_LIMIT_CODES: Final = {429, -32005, -32029}
_REVERTED: Final = re.compile(r"revert|vm execution error", re.IGNORECASE)
_LIMITED: Final = re.compile(r"rate limit|too many requests|limit exceeded|capacity exceeded", re.IGNORECASE)
_UNKNOWN_BLOCK_CODE: Final = -32001  # "resource not found" of EIP-1474
_NO_SUCH_METHOD: Final = -32601
_UNKNOWN_BLOCK: Final = re.compile(
    r"\b(header|block|hash|state)\b.*\b(not found|unknown|not available|unavailable|could not be found)"
    r"|unknown block|missing trie node|out ?of ?range|required data unavailable|resource not found",
    re.IGNORECASE,
)


class Unanswered(Retryable):
    """No usable answer came: refused, timed out, cut off, or not JSON-RPC.

    A request that changes nothing may be asked again anywhere. A transaction may have arrived all the same; to send the
    same raw bytes again is harmless.
    """


class RateLimited(Unanswered):
    """The endpoint asks us to wait; `retry_after_ns` is 0 where it does not say how long."""

    def __init__(self, text: str, retry_after_ns: int = 0) -> None:
        super().__init__(text)
        self.retry_after_ns = retry_after_ns


class UnknownBlock(Retryable):
    """The node does not know the block that was asked about: not yet, no longer, or it is on another fork."""


class RpcError(EvenkeelError):
    """The node's own answer is an error: its code, its message, and its data where there is any."""

    def __init__(self, code: int, message: str, data: bytes = b"") -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code
        self.message = message
        self.data = data


class Reverted(RpcError):
    """The call ran and reverted; `data` is the reason as the contract gave it."""

    def __str__(self) -> str:
        return explain_revert(self.data) if self.data else self.message


class _Transport(AsyncHTTPProvider):
    """web3's provider over a session of ours: connections are kept, a request is sent once, addresses are not logged.

    As it comes it opens a connection per request, goes through a thread for the session, tries five times, and logs
    the address; and its JSON takes half a millisecond for the reads of a block.
    """

    logger = _SILENT

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(url, exception_retry_configuration=None)
        self.session: aiohttp.ClientSession | None = None
        self.timeout_s = timeout_s

    @staticmethod
    def encode_rpc_dict(rpc_dict: RPCRequest) -> bytes:
        return msgspec.json.encode(rpc_dict)

    @staticmethod
    def decode_rpc_response(raw_response: bytes) -> RPCResponse:
        return cast("RPCResponse", msgspec.json.decode(raw_response))

    async def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:  # noqa: ARG002
        if self.session is None:
            raise Unanswered("the connection is not open")
        async with self.session.post(
            str(self.endpoint_uri), data=request_data, headers=_HEADERS, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    raise Unanswered(f"answered more than {_MAX_ANSWER_BYTES} bytes")
            if response.status == 429:
                raise RateLimited("HTTP 429, too many requests", _seconds(response.headers.get("Retry-After", "")))
            if response.status != 200 and not body.lstrip().startswith(b"{"):
                raise Unanswered(f"HTTP {response.status}")
            return bytes(body)


def _seconds(text: str) -> int:
    """Return a Retry-After header in nanoseconds, 0 where it is missing or a date."""
    return int(text) * NS_PER_S if text.isdecimal() and len(text) < 7 else 0


class Endpoint:
    """One node behind one address; `async with` it. `name` is what people are shown."""

    def __init__(self, url: str, timeout_ns: int, name: str = "") -> None:
        self.name = name or masked(url)
        self.host = urlsplit(url).netloc.rpartition("@")[2] if masked(url) != "***" else ""
        self._timeout_s = timeout_ns / NS_PER_S
        self._transport = _Transport(url, self._timeout_s)
        self._secrets = _secrets(url)

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"

    async def __aenter__(self) -> Self:
        self._transport.session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s), connector=aiohttp.TCPConnector(limit=64)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._transport.session = self._transport.session, None
        if session is not None:
            await session.close()

    async def call(self, method: str, params: Sequence[object] = ()) -> Any:  # noqa: ANN401
        """Ask once and return the result.

        Raises Unanswered (RateLimited), UnknownBlock, Reverted or RpcError; never shows the address.
        """
        try:
            answer = await self._transport.make_request(RPCEndpoint(method), list(params))
        except Unanswered as error:
            raise self._named(error) from None
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise Unanswered(f"{self.name}: {why_failed(error, self._timeout_s)}") from None
        except msgspec.MsgspecError:
            raise Unanswered(f"{self.name}: expected JSON, found something else") from None
        fields: object = answer  # web3 types it as what it should be
        if not isinstance(fields, dict) or not fields.keys() & {"result", "error"}:
            raise Unanswered(f"{self.name}: expected a JSON-RPC answer, found {self._scrubbed(str(fields))[:80]!r}")
        if fields.get("error"):
            raise self._judged(fields["error"])
        return fields.get("result")

    def _named(self, error: Unanswered) -> Unanswered:
        text = f"{self.name}: {error}"
        return RateLimited(text, error.retry_after_ns) if isinstance(error, RateLimited) else Unanswered(text)

    def _judged(self, error: object) -> EvenkeelError:
        """Return what a JSON-RPC error means."""
        fields: dict[str, Any] = dict(error) if isinstance(error, dict) else {"message": str(error)}
        code = fields.get("code")
        code = code if isinstance(code, int) else 0
        message = self._scrubbed(str(fields.get("message", "")))[:500]
        data = _data_of(fields.get("data"))
        # Of the node's own judgement a revert comes first: its reason may say anything, "block not found" too.
        if code in _REVERT_CODES or _REVERTED.search(message):
            return Reverted(code, message, data)
        if code in _LIMIT_CODES or _LIMITED.search(message):
            return RateLimited(f"{self.name}: {message} (code {code})")
        if code == _UNKNOWN_BLOCK_CODE or (code != _NO_SUCH_METHOD and _UNKNOWN_BLOCK.search(message)):
            return UnknownBlock(f"{self.name}: {message} (code {code})")
        return RpcError(code, message, data)

    def _scrubbed(self, text: str) -> str:
        """Return what a node said without any part of our key that it repeats."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _secrets(url: str) -> tuple[str, ...]:
    """Return the parts of an address that may be a key, longest first."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return (url,)
    user = parts.netloc.rpartition("@")[0]
    pieces = re.split(r"[/&=?#:]", f"{parts.path}/{parts.query}/{parts.fragment}/{user}")
    return tuple(sorted({p for p in pieces if len(p) >= _LEAST_SECRET_LETTERS}, key=len, reverse=True))


def _data_of(data: object) -> bytes:
    """Return the bytes of a revert, however a node wraps them: plain, after a word, or inside an object."""
    if isinstance(data, dict):
        data = data.get("data", "")
    if not isinstance(data, str) or "0x" not in data:
        return b""
    try:
        return to_bytes(data[data.index("0x") :].strip())
    except Undecodable:
        return b""
