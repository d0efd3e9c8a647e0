"""Our own JSON-RPC connection to Deribit, over which every order that can rest is sent.

Deribit cancels the orders of a connection when it breaks (private/enable_cancel_on_disconnect), but only those created
on it, and not those created over REST, which is all that ccxt can do. So this connection is authenticated, given a
heartbeat, told to cancel on disconnect, and asked whether it will, before it takes an order.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from typing import Any, Final

import aiohttp
import ccxt.pro

from bot.domain.errors import Retryable
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.gateways.gateway import Clock
from bot.gateways.market_words import number, part
from bot.gateways.outcomes import text_of
from bot.gateways.sending import current_attempt

_LEAST_HEARTBEAT_S: Final = 10  # Deribit refuses less
_LONGEST_WAIT_S: Final = 1.0  # of an order for the connection to be armed
_FIRST_RETRY_S: Final = 0.25
_LONGEST_RETRY_S: Final = 15.0
_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024


class DeribitSession:
    """One authenticated connection, kept up by `run`. `ensure` and `call` work only while it is armed.

    `timeout_ns` bounds the wait for each answer; the heartbeat is a third of `dead_man_ns`, at least 10 s.
    """

    def __init__(self, exchange: ccxt.pro.Exchange, clock: Clock, timeout_ns: int, dead_man_ns: int) -> None:
        self.is_armed = False
        self.why_not = "the order connection is not up yet"
        self._exchange = exchange
        self._clock = clock
        self._timeout_s = timeout_ns / NS_PER_S
        self._heartbeat_s = max(_LEAST_HEARTBEAT_S, dead_man_ns // 3 // NS_PER_S)
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        self._armed = asyncio.Event()

    async def ensure(self, symbol: str) -> None:
        """Return once Deribit has promised to cancel what we leave; raises Retryable if it does not within a second."""
        if not self.is_armed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._timeout_s, _LONGEST_WAIT_S)):
                    await self._armed.wait()
        if not self.is_armed:
            raise Retryable(f"no order may rest on {symbol}: cancel on disconnect is not armed, {self.why_not}")

    async def wait_armed(self) -> None:
        """Return once the connection is armed."""
        await self._armed.wait()

    async def call(self, method: str, params: dict[str, Any]) -> Any:  # noqa: ANN401
        """Send one request and return its result.

        Raises Retryable if it was not sent, RequestTimeout or NetworkError if the answer was lost, and what ccxt raises
        for the same answer over REST.
        """
        socket = self._socket
        if socket is None or socket.closed:
            raise Retryable(f"not sent: {self.why_not}")
        self._last_id += 1
        request_id = self._last_id
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        text = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        attempt = current_attempt()
        try:
            if attempt is not None:
                attempt.sent()
            await socket.send_str(text)
            async with asyncio.timeout(self._timeout_s):  # wait_for would swallow a cancellation that meets the answer
                reply = await answer
        except TimeoutError as error:
            raise ccxt.RequestTimeout(f"deribit {method}: no answer for {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise ccxt.NetworkError(f"deribit {method}: {text_of(error)}") from error
        finally:
            self._waiting.pop(request_id, None)
        if "error" in reply:
            self._exchange.handle_errors(200, "", method, "WS", {}, json.dumps(reply), reply, {}, text)
        if "result" not in reply:
            raise ccxt.BadResponse(f"deribit {method}: expected a result, found {str(reply)[:100]}")
        return reply["result"]

    async def run(self) -> None:
        """Connect, arm, and keep both up until cancelled."""
        retry_s = _FIRST_RETRY_S
        while True:
            was_armed = False
            try:
                async with aiohttp.ClientSession(trust_env=bool(self._exchange.aiohttp_trust_env)) as session:
                    timeout = aiohttp.ClientWSTimeout(ws_close=1.0)
                    async with asyncio.timeout(self._timeout_s):
                        socket = await session.ws_connect(
                            self._exchange.urls["api"]["ws"], max_msg_size=_MAX_MESSAGE_BYTES, timeout=timeout
                        )
                    async with socket:
                        await self._serve(socket)
                why = "the connection was closed"
            except (aiohttp.ClientError, ccxt.BaseError, Retryable, TimeoutError, OSError) as error:
                why = text_of(error)
            finally:
                was_armed = self.is_armed
                self._lose("the connection was ended")
            self.why_not = why
            retry_s = _FIRST_RETRY_S if was_armed else min(retry_s * 2, _LONGEST_RETRY_S)
            await asyncio.sleep(retry_s)

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Arm the connection and keep it so while messages are read; returns or raises when either ends."""
        self._socket = socket
        reader = asyncio.create_task(self._read(socket))
        keeper = asyncio.create_task(self._keep_armed())
        try:
            done, _ = await asyncio.wait({reader, keeper}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reader, keeper):
                task.cancel()
            await asyncio.gather(reader, keeper, return_exceptions=True)

    async def _keep_armed(self) -> None:
        """Log in, arm and verify; log in again before the login ends."""
        lives_s = await self._log_in()
        await self.call("public/set_heartbeat", {"interval": self._heartbeat_s})
        await self.call("private/enable_cancel_on_disconnect", {"scope": "connection"})
        said = await self.call("private/get_cancel_on_disconnect", {"scope": "connection"})
        if part(said, "enabled") is not True:
            raise Retryable(f"expected Deribit to cancel on disconnect, found {str(said)[:100]}")
        self.is_armed = True
        self.why_not = ""
        self._armed.set()
        while True:
            await asyncio.sleep(lives_s / 2)
            lives_s = await self._log_in()

    async def _log_in(self) -> float:
        """Authenticate by signature and return how long that holds, in seconds."""
        login = signed_login(self._exchange, self._clock.now_ns() // NS_PER_MS, str(self._last_id))
        result = await self.call("public/auth", login)
        return max(number(part(result, "expires_in")) or 0.0, 60.0)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Answer heartbeats and hand replies to who waits for them; raises NetworkError after too long a silence.

        Deribit sends a heartbeat every interval: three of them without any message, and the connection is dead.
        """
        while True:
            async with asyncio.timeout(3 * self._heartbeat_s):
                message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return
            with contextlib.suppress(json.JSONDecodeError):
                await self._take(socket, json.loads(message.data))

    async def _take(self, socket: aiohttp.ClientWebSocketResponse, message: object) -> None:
        if part(message, "method") == "heartbeat" and part(part(message, "params"), "type") == "test_request":
            self._last_id += 1
            await socket.send_str(
                json.dumps({"jsonrpc": "2.0", "id": self._last_id, "method": "public/test", "params": {}})
            )
        waiting = self._waiting.get(int(number(part(message, "id")) or 0))
        if waiting is not None and not waiting.done() and isinstance(message, dict):
            waiting.set_result(message)

    def _lose(self, why: str) -> None:
        """Note that the connection is gone: its orders are being canceled, its answers will not come."""
        self._socket = None
        self.is_armed = False
        self._armed.clear()
        self.why_not = why
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ccxt.NetworkError(f"deribit: {why}"))


def signed_login(exchange: ccxt.pro.Exchange, now_ms: int, nonce: str) -> dict[str, Any]:
    """Return what proves to public/auth that we have the secret without telling it: ccxt shows requests in errors."""
    nonce = f"{now_ms}-{nonce}"
    signed = hmac.new(exchange.secret.encode(), f"{now_ms}\n{nonce}\n".encode(), hashlib.sha256)
    return {
        "grant_type": "client_signature",
        "client_id": exchange.apiKey,
        "timestamp": now_ms,
        "signature": signed.hexdigest(),
        "nonce": nonce,
        "data": "",
    }
