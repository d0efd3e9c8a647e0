"""A loopback Deribit: JSON-RPC over HTTP and WebSocket in front of a `VenueBook`, with faults as the script has them.

    async with DeribitServer(book) as server:
        exchange = open_exchange(settings(options=server.options), Credentials(**server.credentials))

Signatures, scopes, heartbeats, cancel on disconnect and the documented error codes are as at the real one. Feeds are
published as soon as something changed, whatever their interval, several changes of one turn of the loop as one message.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from aiohttp import WSMsgType, web

from tests.runtime.command_line import PATIENCE_S
from tests.venues import deribit_words as words
from tests.venues.deribit_methods import METHODS, Call, Method, Params, RpcError, invalid, of_refused, refusal
from tests.venues.deribit_words import Json
from tests.venues.faults import FaultScript, Pipe, RequestFault, answer_http
from tests.venues.listening import HOST, Listening
from tests.venues.matching import Change, Refused, Topic, VenueBook, wall_clock_ms

API = "/api/v2"
SOCKET = "/ws/api/v2"
TEST_KEY = "test-key-of-a-loopback-venue"
TEST_SECRET = "test-secret-of-a-loopback-venue"
ALL_SCOPES = "account:read block_trade:none trade:read_write wallet:read"
SIGNATURE_AGE_MS = 60_000
MIN_HEARTBEAT_S = 10.0
TURNS_OF_GRACE = 50  # of the loop, for a sign of life that is on its way when its time is over
MAX_MESSAGE_BYTES = 32_768  # a longer one ends the connection
CALLS_KEPT = 100_000


class Channel(NamedTuple):
    """A feed: what must change for it to say something, under which word faults know it, and what it says.

    Public feeds `render` their state; private ones say what `of_change` makes of a change, None if it is not theirs.
    """

    name: str
    stream: str
    topics: tuple[tuple[Topic, str], ...] = ()
    render: Callable[[], Any] | None = None
    of_change: Callable[[Change], Any] | None = None
    is_change_feed: bool = False


class Connection:
    """One WebSocket: who is logged in, what it hears, its heartbeat, and whether its orders die with it."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, faults: FaultScript) -> None:
        self.request = request
        self.pipe = Pipe(socket, faults)
        self.is_authenticated = False
        self.scope = ""
        self.channels: dict[str, Channel] = {}
        self.cancels_on_disconnect = False
        self.is_graceful = False  # logged out rather than cut off
        self.heartbeat: asyncio.Task[None] | None = None
        self.heard = asyncio.Event()
        self.slow: set[asyncio.Task[None]] = set()  # answers that a fault delays
        self.books: dict[str, tuple[list[list[float]], list[list[float]], int]] = {}  # as the change feed last said

    def tell(self, stream: str, message: Json) -> None:
        self.pipe.send(stream, encode(message))

    def cut(self) -> None:
        """End it without a word."""
        if self.request.transport is not None:
            self.request.transport.abort()


class DeribitServer(Listening):
    """The server; `async with` it. Everything a test may want to turn is a public attribute."""

    def __init__(
        self,
        book: VenueBook,
        *,
        faults: FaultScript | None = None,
        port: int = 0,
        scope: str = ALL_SCOPES,
        heartbeat_scale: float = 1.0,
        refuses_used_nonces: bool = False,
    ) -> None:
        """`heartbeat_scale` shortens heartbeats for tests: what was asked to be 10 s is then 10 s times that."""
        self.book = book
        self.faults = faults or FaultScript()
        self.port = port
        self.scope = scope
        self.heartbeat_scale = heartbeat_scale
        self.refuses_used_nonces = refuses_used_nonces
        self.rate_limit_per_s: float | None = None  # requests beyond it are answered 10028
        self.rate_window_s = 1.0
        self.connections: list[Connection] = []
        self.calls: deque[tuple[str, Params]] = deque(maxlen=CALLS_KEPT)  # in order, refused ones too
        self.has_subscriber = asyncio.Event()  # set once anybody hears any feed
        self.tokens: dict[str, str] = {}
        self._nonces: set[str] = set()
        self._call_times: list[float] = []
        self._dirty: dict[str, None] = {}
        self._is_flush_due = False
        self._queued = 0
        self._is_cancel_on_disconnect_default = False
        self._topics: dict[tuple[Topic, str], dict[str, Channel]] = {}
        self._listeners: dict[str, dict[Connection, None]] = {}
        self._stop_listening: Callable[[], None] = lambda: None

    @property
    def clock_skew_ms(self) -> int:
        """How far ahead of ours the venue's clock is; added to every time it tells."""
        return self.book.skew_ms

    @clock_skew_ms.setter
    def clock_skew_ms(self, skew_ms: int) -> None:
        self.book.skew_ms = skew_ms

    @property
    def options(self) -> dict[str, Any]:
        """What `VenueSettings.options` needs so that ccxt talks to this server."""
        urls = {"rest": f"http://{HOST}:{self.port}", "ws": f"ws://{HOST}:{self.port}{SOCKET}"}
        return {"urls": {"api": urls}, "timeout_on_exit": 0}

    @property
    def credentials(self) -> dict[str, str]:
        return {"api_key": TEST_KEY, "secret": TEST_SECRET}

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_get(SOCKET, self._serve_handshake)
        app.router.add_route("*", API + "/{scope}/{method:.+}", self._serve_http)
        app.router.add_post(API, self._serve_http)
        await self.listen(app, shutdown_s=0.2)
        self._stop_listening = self.book.listen(self._on_change)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        await self.end()

    async def settle(self, timeout_s: float = PATIENCE_S) -> None:
        """Publish what is due and wait until every client has taken it."""
        self._publish()
        await asyncio.gather(*(connection.pipe.flush(timeout_s) for connection in tuple(self.connections)))

    # Calls -----------------------------------------------------------------------------------------------------------

    async def _serve_http(self, request: web.Request) -> web.StreamResponse:
        params: Params = dict(request.query)
        identity: Any = None
        name = f"{request.match_info.get('scope', '')}/{request.match_info.get('method', '')}"
        if request.method == "POST" and (text := await request.text()):
            body = json.loads(text)
            name = body.get("method", name)
            params |= body.get("params", {})
            identity = body.get("id")

        async def execute() -> web.Response:
            try:
                scope = self._http_scope(request) if name.startswith("private/") else ""
                result = self._carry_out(name, params, None, scope)
            except RpcError as error:
                return refuse_with(error)
            return web.json_response(self._envelope(identity, result=result))

        def refuse_with(error: RpcError) -> web.Response:
            return web.json_response(self._envelope(identity, error=error.body()), status=error.http_status)

        fault = self._note(name, params)
        return await answer_http(request, fault, execute, lambda word: refuse_with(refusal(word)))

    def _note(self, name: str, params: Params) -> RequestFault | None:
        """Keep a request in mind, and return what the script does to it."""
        self.calls.append((name, params))
        method = METHODS.get(name)
        own = {"public/auth": "auth", "private/enable_cancel_on_disconnect": "arm"}
        operation = method.operation if method else own.get(name, "subscribe" if "subscribe" in name else "other")
        return self.faults.request(operation)

    def _carry_out(self, name: str, params: Params, connection: Connection | None, scope: str) -> Any:
        """Answer a call; raises RpcError."""
        self._check_rate()
        own: dict[str, Callable[[Params, Connection], Any]] = {
            "public/subscribe": self._subscribe,
            "private/subscribe": self._subscribe,
            "public/unsubscribe": self._unsubscribe,
            "private/unsubscribe": self._unsubscribe,
            "public/unsubscribe_all": self._unsubscribe_all,
            "private/unsubscribe_all": self._unsubscribe_all,
            "public/set_heartbeat": self._set_heartbeat,
            "public/disable_heartbeat": self._disable_heartbeat,
            "private/enable_cancel_on_disconnect": self._enable_cancel_on_disconnect,
            "private/disable_cancel_on_disconnect": self._disable_cancel_on_disconnect,
            "private/get_cancel_on_disconnect": self._get_cancel_on_disconnect,
            "private/logout": self._log_out,
        }
        if name == "public/auth":
            return self._authenticate(params, connection)
        if name in own:
            if connection is None:
                raise RpcError(10030, "must_be_websocket_request")
            if name.startswith("private/") and not scope:
                raise RpcError(13009, "unauthorized")
            return own[name](params, connection)
        method = METHODS.get(name)
        if method is None:
            raise RpcError(-32601, "Method not found")
        _check_scope(method, scope)
        try:
            return method.answer(Call(self.book, params, connection))
        except Refused as refused:
            raise of_refused(refused) from refused

    def _envelope(self, identity: Any, **members: Any) -> Json:
        now_us = self.book.now_ms() * 1_000
        said: Json = {"jsonrpc": "2.0", **members, "usIn": now_us, "usOut": now_us, "usDiff": 0, "testnet": True}
        return said if identity is None else {**said, "id": identity}

    def _check_rate(self) -> None:
        if self.rate_limit_per_s is None:
            return
        now = time.monotonic()
        self._call_times = [at for at in self._call_times if now - at < self.rate_window_s]
        if len(self._call_times) >= self.rate_limit_per_s:
            raise RpcError(10028, "too_many_requests", {"wait": 1})
        self._call_times.append(now)

    # Who is there ----------------------------------------------------------------------------------------------------

    def _http_scope(self, request: web.Request) -> str:
        """Check the signature or token of an HTTP request and return what it may do."""
        kind, _, rest = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._scope_of(rest)
        if kind != "deri-hmac-sha256":
            raise RpcError(13009, "unauthorized", {"reason": "no authorization"})
        parts = dict(part.split("=", 1) for part in rest.split(","))
        path = request.raw_path
        signed = f"{parts.get('ts')}\n{parts.get('nonce')}\n{request.method}\n{path}\n\n"
        self._check_signature(parts.get("id"), parts.get("ts"), parts.get("nonce"), parts.get("sig"), signed)
        return self.scope

    def _check_signature(self, key: Any, ts: Any, nonce: Any, signature: Any, signed: str) -> None:
        good = hmac.new(TEST_SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if key != TEST_KEY or not hmac.compare_digest(good, str(signature)):
            raise RpcError(13004, "invalid_credentials")
        if abs(wall_clock_ms() + self.clock_skew_ms - int(ts)) > SIGNATURE_AGE_MS:
            raise RpcError(13009, "unauthorized", {"reason": "bad_timestamp"})
        if self.refuses_used_nonces:
            if f"{ts}/{nonce}" in self._nonces:
                raise RpcError(13009, "unauthorized", {"reason": "nonce was used"})
            self._nonces.add(f"{ts}/{nonce}")

    def _scope_of(self, token: str) -> str:
        if token not in self.tokens:
            raise RpcError(13009, "unauthorized", {"reason": "invalid_token"})
        return self.tokens[token]

    def _authenticate(self, params: Params, connection: Connection | None) -> Json:
        grant = params.get("grant_type")
        if grant == "client_credentials":
            if (params.get("client_id"), params.get("client_secret")) != (TEST_KEY, TEST_SECRET):
                raise RpcError(13004, "invalid_credentials")
        elif grant == "client_signature":
            ts, nonce = params.get("timestamp"), params.get("nonce", "")
            signed = f"{ts}\n{nonce}\n{params.get('data', '')}"
            self._check_signature(params.get("client_id"), ts, nonce, params.get("signature"), signed)
        elif grant == "refresh_token":
            self._scope_of(str(params.get("refresh_token")).removeprefix("refresh-"))
        else:
            raise invalid("grant_type", "unknown grant type")
        token = secrets.token_hex(16)
        scope = self.scope if connection is None else f"connection {self.scope}"
        self.tokens[token] = scope
        if connection is not None:
            connection.is_authenticated = True
            connection.scope = scope
            connection.cancels_on_disconnect |= self._is_cancel_on_disconnect_default
        return {
            "access_token": token,
            "refresh_token": f"refresh-{token}",
            "token_type": "bearer",
            "expires_in": 31_536_000,
            "scope": f"{scope} mainaccount name:test",
            "enabled_features": [],
        }

    # Connections -----------------------------------------------------------------------------------------------------

    async def _serve_handshake(self, request: web.Request) -> web.StreamResponse:
        fault = self.faults.request("connect")
        if fault is None:
            return await self._serve_socket(request)

        async def execute() -> web.Response:
            return web.Response(status=503)

        return await answer_http(request, fault, execute, lambda _word: web.Response(status=403))

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False, max_msg_size=MAX_MESSAGE_BYTES)
        await socket.prepare(request)
        connection = Connection(request, socket, self.faults)
        self.connections.append(connection)
        writer = asyncio.create_task(connection.pipe.run())
        try:
            async for message in socket:
                if message.type is WSMsgType.PONG:
                    connection.pipe.pong(bytes(message.data))
                elif connection.pipe.is_frozen:
                    continue
                elif message.type is WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type is WSMsgType.TEXT:
                    connection.heard.set()
                    self._serve_message(connection, message.data)
        except ConnectionError:
            pass  # cut off while we were answering
        finally:
            await self._forget(connection, writer)
        return socket

    async def _forget(self, connection: Connection, writer: asyncio.Task[None]) -> None:
        self.connections.remove(connection)
        self._unsubscribe_all({}, connection)
        if connection.cancels_on_disconnect and not connection.is_graceful:
            self.book.cancel_all(owner=connection, reason="cancel_on_disconnect")
        tasks = [task for task in (writer, connection.heartbeat, *connection.slow) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _serve_message(self, connection: Connection, text: str) -> None:
        try:
            body = json.loads(text)
            name, params, identity = str(body["method"]), dict(body.get("params") or {}), body.get("id")
        except (ValueError, KeyError, TypeError):
            connection.tell("replies", self._envelope(None, error={"code": 11050, "message": "bad_request"}))
            return
        fault = self._note(name, params) or RequestFault()
        if fault.delay_before_s or fault.delay_s:
            task = asyncio.create_task(self._answer_slowly(connection, fault, name, params, identity))
            connection.slow.add(task)
            task.add_done_callback(connection.slow.discard)
        else:
            self._reply(connection, fault, self._answer(connection, fault, name, params, identity))

    async def _answer_slowly(
        self, connection: Connection, fault: RequestFault, name: str, params: Params, identity: Any
    ) -> None:
        await asyncio.sleep(fault.delay_before_s)
        answer = self._answer(connection, fault, name, params, identity)
        await asyncio.sleep(fault.delay_s)
        self._reply(connection, fault, answer)

    def _answer(self, connection: Connection, fault: RequestFault, name: str, params: Params, identity: Any) -> Json:
        if fault.refusal:
            return self._envelope(identity, error=refusal(fault.refusal).body())
        if not fault.is_executed:
            return {}
        try:
            scope = self._scope_of(params["access_token"]) if "access_token" in params else connection.scope
            return self._envelope(identity, result=self._carry_out(name, params, connection, scope))
        except RpcError as error:
            return self._envelope(identity, error=error.body())

    def _reply(self, connection: Connection, fault: RequestFault, answer: Json) -> None:
        if fault.is_silent:
            return
        if fault.is_dropped or (fault.status is not None and fault.status != 200):
            connection.cut()
        elif fault.status == 200:
            connection.pipe.send("replies", fault.body)
        else:
            connection.tell("replies", answer)

    def _set_heartbeat(self, params: Params, connection: Connection) -> str:
        interval_s = float(params.get("interval", 0))
        if interval_s < MIN_HEARTBEAT_S:
            raise invalid("interval", f"must be at least {MIN_HEARTBEAT_S:g}")
        self._disable_heartbeat(params, connection)
        connection.heartbeat = asyncio.create_task(self._beat(connection, interval_s * self.heartbeat_scale))
        return "ok"

    def _disable_heartbeat(self, _params: Params, connection: Connection) -> str:
        if connection.heartbeat is not None:
            connection.heartbeat.cancel()
            connection.heartbeat = None
        return "ok"

    async def _beat(self, connection: Connection, interval_s: float) -> None:
        """Ask for a sign of life after each silent interval, and cut the connection when none comes for another one."""
        is_asked = False
        while True:
            connection.heard.clear()
            try:
                async with asyncio.timeout(interval_s):  # `wait_for` may lose a cancellation before 3.12
                    await connection.heard.wait()
                is_asked = False
            except TimeoutError:
                if is_asked:
                    for _ in range(TURNS_OF_GRACE):  # the interval was over for who stood still as long as we did
                        await asyncio.sleep(0)
                    if not connection.heard.is_set():
                        break
                    is_asked = False
                    continue
                is_asked = True
                params = {"type": "test_request"}
                connection.tell("replies", {"jsonrpc": "2.0", "method": "heartbeat", "params": params})
        connection.cut()

    def _enable_cancel_on_disconnect(self, params: Params, connection: Connection) -> str:
        connection.cancels_on_disconnect = True
        if params.get("scope") == "account":
            self._is_cancel_on_disconnect_default = True
        return "ok"

    def _disable_cancel_on_disconnect(self, params: Params, connection: Connection) -> str:
        connection.cancels_on_disconnect = False
        if params.get("scope") == "account":
            self._is_cancel_on_disconnect_default = False
        return "ok"

    def _get_cancel_on_disconnect(self, params: Params, connection: Connection) -> Json:
        scope = params.get("scope", "connection")
        is_enabled = self._is_cancel_on_disconnect_default if scope == "account" else connection.cancels_on_disconnect
        return {"scope": scope, "enabled": is_enabled}

    def _log_out(self, _params: Params, connection: Connection) -> str:
        connection.is_graceful = True
        connection.pipe.hang_up()
        return "ok"

    # Feeds -----------------------------------------------------------------------------------------------------------

    def _subscribe(self, params: Params, connection: Connection) -> list[str]:
        """Subscribe to those channels that exist and may be heard, and return them."""
        names = params.get("channels")
        if not isinstance(names, list) or not names:
            raise invalid("channels", "value required")
        if any(name.endswith(".raw") for name in names) and not connection.is_authenticated:
            raise RpcError(13778, "raw_subscriptions_not_available_for_unauthorized")
        heard = []
        for name in names:
            channel = self._channel(str(name))
            if channel is None or (channel.of_change and not connection.is_authenticated):
                continue
            heard.append(channel.name)
            connection.channels[channel.name] = channel
            self._listeners.setdefault(channel.name, {})[connection] = None
            for topic in channel.topics:
                self._topics.setdefault(topic, {})[channel.name] = channel
        if heard:
            # The answer goes out first, then the feeds say where they stand.
            asyncio.get_running_loop().call_soon(self._greet, connection, heard)
            self.has_subscriber.set()
        return heard

    def _greet(self, connection: Connection, names: Iterable[str]) -> None:
        for name in names:
            channel = connection.channels.get(name)
            if channel is not None and channel.render is not None:
                connection.books.pop(name, None)
                self._say(channel, [connection])

    def _unsubscribe(self, params: Params, connection: Connection) -> list[str]:
        gone = [name for name in params.get("channels", ()) if name in connection.channels]
        for name in gone:
            channel = connection.channels.pop(name)
            connection.books.pop(name, None)
            self._listeners[name].pop(connection, None)
            if not self._listeners[name]:
                del self._listeners[name]
                for topic in channel.topics:
                    self._topics[topic].pop(name, None)
        return gone

    def _unsubscribe_all(self, _params: Params, connection: Connection) -> str:
        self._unsubscribe({"channels": list(connection.channels)}, connection)
        return "ok"

    def hears(self, name: str) -> bool:
        """Tell whether anybody hears a feed of this instrument."""
        return bool(self._topics.get((Topic.QUOTE, name)))

    def _on_change(self, change: Change) -> None:
        for channel in tuple(self._topics.get((change.topic, change.name), {}).values()):
            self._dirty[channel.name] = None
        for channel in tuple(self._topics.get((change.topic, ""), {}).values()):
            data = channel.of_change(change) if channel.of_change else None
            if data is not None:
                self._send(channel, data, tuple(self._listeners[channel.name]))
        if self._dirty and not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._publish)

    def publish(self) -> bool:
        """Let every public feed with news say it now; tell whether anything was sent since this was last asked."""
        self._publish()
        queued = sum(connection.pipe.queued for connection in self.connections)
        has_sent = queued != self._queued
        self._queued = queued
        return has_sent

    def _publish(self) -> None:
        self._is_flush_due = False
        dirty, self._dirty = self._dirty, {}
        for name in dirty:
            if listeners := self._listeners.get(name):
                first = next(iter(listeners))
                self._say(first.channels[name], tuple(listeners))

    def _say(self, channel: Channel, listeners: Iterable[Connection]) -> None:
        assert channel.render is not None
        if channel.is_change_feed:
            for connection in listeners:
                self._send(channel, self._book_news(connection, channel), [connection])
        else:
            self._send(channel, channel.render(), listeners)

    def _send(self, channel: Channel, data: Any, listeners: Iterable[Connection]) -> None:
        message = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel.name, "data": data}}
        text = encode(message)
        for connection in listeners:
            connection.pipe.send(channel.stream, text)

    def _book_news(self, connection: Connection, channel: Channel) -> Json:
        """A snapshot first, then what changed since the last message on this connection."""
        name = channel.topics[0][1]
        bids, asks = words.levels(self.book, name)
        told: Json = {"timestamp": self.book.now_ms(), "instrument_name": name, "change_id": self.book.seq}
        before = connection.books.get(channel.name)
        connection.books[channel.name] = (bids, asks, self.book.seq)
        if before is None:
            sides = {"bids": words.level_changes([], bids), "asks": words.level_changes([], asks)}
            return {"type": "snapshot", **told, **sides}
        sides = {"bids": words.level_changes(before[0], bids), "asks": words.level_changes(before[1], asks)}
        return {"type": "change", "prev_change_id": before[2], **told, **sides}

    def _channel(self, name: str) -> Channel | None:
        """Return the feed of this name, None if there is none."""
        parts = name.split(".")
        if parts[0] == "user" and len(parts) >= 3:
            return self._private_channel(name, parts)
        if parts[0] == "deribit_price_index" and len(parts) == 2:
            return self._index_channel(name, parts[1])
        if parts[:2] == ["markprice", "options"] and len(parts) == 3:
            return self._mark_channel(name, parts[2])
        instrument = parts[1] if len(parts) > 1 else ""
        if parts[0] == "trades" and len(parts) in {3, 4}:
            return self._trades_channel(name, parts)
        if instrument not in self.book.listings:
            return None
        return self._instrument_channel(name, parts, instrument)

    def _instrument_channel(self, name: str, parts: list[str], instrument: str) -> Channel | None:
        on_quote = ((Topic.QUOTE, instrument),)
        on_any = (*on_quote, (Topic.VOL, instrument), (Topic.INDEX, self.book.listings[instrument].coin))
        if parts[0] == "ticker" and len(parts) == 3:
            return Channel(name, "quotes", on_any, lambda: words.ticker(self.book, instrument))
        if parts[0] == "quote" and len(parts) == 2:
            return Channel(name, "quotes", on_quote, lambda: words.quote(self.book, instrument))
        if parts[0] == "book" and len(parts) == 3:
            return Channel(name, "quotes", on_quote, lambda: None, is_change_feed=True)
        if parts[0] == "book" and len(parts) == 5:
            depth = int(parts[3])
            return Channel(name, "quotes", on_quote, lambda: self._grouped_book(instrument, depth))
        return None

    def _grouped_book(self, instrument: str, depth: int) -> Json:
        bids, asks = words.levels(self.book, instrument, depth)
        told = {"timestamp": self.book.now_ms(), "instrument_name": instrument, "change_id": self.book.seq}
        return {**told, "bids": bids, "asks": asks}

    def _index_channel(self, name: str, index_name: str) -> Channel:
        coin = words.coin_of_index(index_name)

        def render() -> Json:
            return {"timestamp": self.book.now_ms(), "price": self.book.index.get(coin), "index_name": index_name}

        return Channel(name, "index", ((Topic.INDEX, coin),), render)

    def _mark_channel(self, name: str, index_name: str) -> Channel:
        topics = tuple(
            (Topic.VOL, option)
            for option, listing in self.book.listings.items()
            if listing.strike is not None and words.index_name_of(listing) == index_name
        )
        return Channel(name, "vols", topics, lambda: words.mark_prices(self.book, index_name))

    def _trades_channel(self, name: str, parts: list[str]) -> Channel:
        def of_change(change: Change) -> Any:
            is_wanted = change.trade is not None and self._is_wanted(change.name, parts[1:-1])
            return [words.public_trade(self.book, change.trade)] if is_wanted and change.trade else None

        return Channel(name, "trades", ((Topic.TRADE, ""),), None, of_change)

    def _private_channel(self, name: str, parts: list[str]) -> Channel | None:
        """`user.orders.future.ETH.raw`, `user.trades.ETH-PERPETUAL.raw`, `user.portfolio.eth` and the like."""
        which, selection = parts[1], parts[2:-1]
        is_raw = parts[-1] == "raw"

        def of_order(change: Change) -> Any:
            if change.order is None or not self._is_wanted(change.name, selection):
                return None
            said = words.order(self.book, change.order)
            return said if is_raw else [said]

        def of_trade(change: Change) -> Any:
            if change.trade is None or not self._is_wanted(change.name, selection):
                return None
            return [words.trade(self.book, change.trade)]

        def of_changes(change: Change) -> Any:
            return words.changes(self.book, change) if self._is_wanted(change.name, selection) else None

        def of_balance(change: Change) -> Any:
            wanted = parts[2].upper()
            return words.account(self.book, change.name) if wanted in {"ANY", change.name} else None

        feeds: dict[str, tuple[str, tuple[Topic, ...], Callable[[Change], Any]]] = {
            "orders": ("orders", (Topic.ORDER,), of_order),
            "trades": ("fills", (Topic.TRADE,), of_trade),
            "changes": ("orders", (Topic.ORDER, Topic.TRADE), of_changes),
            "portfolio": ("balance", (Topic.BALANCE,), of_balance),
        }
        if which not in feeds:
            return None
        stream, topics, of_change = feeds[which]
        currency = parts[2].upper()
        is_told_at_once = which == "portfolio" and currency != "ANY"
        render = (lambda: words.account(self.book, currency)) if is_told_at_once else None
        return Channel(name, stream, tuple((topic, "") for topic in topics), render, of_change)

    def _is_wanted(self, name: str, selection: list[str]) -> bool:
        """Tell whether an instrument is selected: by its name, or by kind and currency."""
        listing = self.book.listings[name]
        if len(selection) == 1:
            return selection[0] == name
        kind, currency = (*selection, "any", "any")[:2]
        return kind in {"any", words.kind_of(listing)} and currency.upper() in {"ANY", words.currency_of(listing)}


def encode(message: Json) -> str:
    """Return a message as it goes over the wire."""
    return msgspec.json.encode(message).decode()


def _check_scope(method: Method, granted: str) -> None:
    """Raise RpcError unless the scope allows the method: `trade:read_write` includes `trade:read`."""
    if not method.scope:
        return
    if not granted:
        raise RpcError(13009, "unauthorized")
    area, _, level = method.scope.partition(":")
    allowed = {f"{area}:read_write"} | ({f"{area}:read"} if level == "read" else set())
    if not allowed & set(granted.split()):
        raise RpcError(13021, "forbidden", {"reason": f"scope {method.scope} is needed"})
