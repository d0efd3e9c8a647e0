"""Stands before everything the dashboard serves: who may ask, from where, and what every answer says about itself.

Nothing passes without a session but the login page and the looks of it; that holds for the socket too, which closes
when the session ends. Must come outermost, and must not know what lies behind it.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.telemetry.dashboard.ports import DashboardConfig
from bot.telemetry.dashboard.sessions import Session, Sessions

SESSION: Final = "evenkeel.session"  # in the scope of what passed
NONCE: Final = "evenkeel.nonce"
ADDRESS: Final = "evenkeel.address"
IS_SECURE: Final = "evenkeel.is_secure"

SOCKET: Final = "/_nicegui_ws/"
OPEN: Final = frozenset({"/login", "/assets/style.css", "/assets/icon.svg"})
MAX_FRAME: Final = 200_000  # bytes from a browser
MAX_BODY: Final = 64 * 1024
MAX_DIGITS: Final = 9  # of a length; zeros before it are no way around
LOOK_EVERY_S: Final = 5.0  # at whether an open socket's session still lasts

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # not no-referrer: forms would then come without an Origin
    "Permissions-Policy": (
        "accelerometer=(), camera=(), clipboard-read=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), "
        "microphone=(), midi=(), payment=(), publickey-credentials-get=(), serial=(), usb=()"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "X-Robots-Tag": "noindex",
}
HSTS: Final = "max-age=31536000"
EMPTY: Final = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"  # the framework adds a style sheet without a word
)
NOT_OURS: Final = ("server", "access-control-allow-origin", "access-control-allow-credentials", "x-powered-by")
STRICT: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def pages_policy(nonce: str, host: str, is_secure: bool) -> str:
    """Return the policy of pages with scripts.

    The pages' framework evaluates what it is told, which takes 'unsafe-eval'; scripts must come from here or
    carry the nonce. Styles of elements may be written in their attributes, style sheets not.
    """
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; "
        f"style-src-elem 'self' 'nonce-{nonce}' {EMPTY}; style-src-attr 'unsafe-inline'; img-src 'self' data:; "
        f"font-src 'self'; connect-src 'self' {'wss' if is_secure else 'ws'}://{host}; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )


def plain_headers(*, is_secure: bool) -> dict[str, str]:
    """Return the headers of an answer that is no page, for what answers before anything reaches the gate."""
    found = {**HEADERS, "Content-Security-Policy": STRICT, "Cache-Control": "no-store"}
    return found | ({"Strict-Transport-Security": HSTS} if is_secure else {})


def cookie_name(is_secure: bool) -> str:
    """Return the session cookie's name; over TLS browsers hold it to this host and path by its prefix."""
    return "__Host-evenkeel" if is_secure else "evenkeel"


class Gate:
    """The outermost application; `app` is what it guards."""

    def __init__(self, app: ASGIApp, config: DashboardConfig, sessions: Sessions) -> None:
        self._app = app
        self._config = config
        self._sessions = sessions
        self._hosts = frozenset(host.lower() for host in config.hosts)
        self.refused: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let pass, or answer in its place."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        path = scope["path"]
        refusal = self._greet(scope, headers)
        send = self._dressed(scope, headers.get("host", ""), send)
        if refusal is None and path.startswith(SOCKET):
            refusal = (403, "expected a WebSocket")  # no polling: one way in is enough
        if refusal is None and scope["method"] not in ("GET", "HEAD"):
            refusal = _refuse_foreign(scope, headers)
        if refusal is not None:
            self._count(refusal[1])
            await PlainTextResponse(refusal[1] + "\n", refusal[0])(scope, receive, send)
            return
        session = self._find(scope, headers)
        scope[SESSION] = session
        if session is None and path not in OPEN:
            await _send_to_login(scope, headers)(scope, receive, send)
            return
        if session is not None and path not in OPEN and not path.startswith("/_nicegui/"):
            self._sessions.touch(session)
        with suppress(ClientDisconnect):  # who asked has gone before they had said all: there is nobody to tell
            await self._app(_cleaned(scope), receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refusal = self._greet(scope, headers) or _refuse_foreign(scope, headers)
        session = self._find(scope, headers)
        if refusal is None and session is None:
            refusal = (403, "expected a session")
        if refusal is not None or session is None:
            self._count(refusal[1] if refusal else "")
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        scope[SESSION] = session
        over = asyncio.Event()
        forget = session.on_end(over.set)
        watched = _Watched(receive, over, session, self._sessions)
        is_closed = False

        async def say(message: Message) -> None:
            nonlocal is_closed
            if is_closed or session.is_over:
                return  # what was said behind us after the end goes nowhere
            is_closed = message["type"] == "websocket.close"
            await send(message)

        try:
            await self._app(_cleaned(scope), watched, say)
            if not (is_closed or watched.has_gone):
                await send({"type": "websocket.close", "code": 1008})
        finally:
            forget()

    def _greet(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Note who asks and how, and return why they are not heard."""
        peer = scope["client"][0] if scope.get("client") else ""
        address, is_secure = peer, self._config.is_tls
        proxy = self._config.trusted_proxy
        is_heard = True
        if proxy is not None:
            is_heard = _is_same_address(peer, proxy)
            is_secure = [one.strip().lower() for one in headers.getlist("x-forwarded-proto")] == ["https"]
            # the last one is whom the proxy itself saw; those before it, in this line or another, are hearsay
            address = ",".join(headers.getlist("x-forwarded-for")).rpartition(",")[2].strip() or peer
        scope[NONCE] = secrets.token_urlsafe(18)
        scope[ADDRESS], scope[IS_SECURE] = address, is_secure
        if len(headers.getlist("host")) != 1 or host_of(headers["host"]) not in self._hosts:
            return 421, "expected one of the host names this dashboard is reached by"
        if not is_heard:
            return 403, "expected to be asked by the trusted proxy"
        if proxy is not None and not is_secure:
            return 403, "expected X-Forwarded-Proto: https from the trusted proxy"
        return None

    def _find(self, scope: Scope, headers: Headers) -> Session | None:
        return self._sessions.find(cookies_of(headers).get(cookie_name(scope.get(IS_SECURE, False)), ""))

    def _dressed(self, scope: Scope, host: str, send: Send) -> Send:
        """Return `send` with our headers on every answer."""

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in NOT_OURS:
                    del headers[name]
                for name, value in HEADERS.items():
                    headers[name] = value
                is_secure = scope[IS_SECURE]
                if is_secure:
                    headers["Strict-Transport-Security"] = HSTS
                is_page = headers.get("X-NiceGUI-Content") == "page"
                headers["Content-Security-Policy"] = pages_policy(scope[NONCE], host, is_secure) if is_page else STRICT
                if not _is_lasting(scope["path"], message["status"]):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        return dressed

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


class _Watched:
    """What a browser says over its socket, as long as its session lasts."""

    def __init__(self, receive: Receive, over: asyncio.Event, session: Session, sessions: Sessions) -> None:
        self._receive = receive
        self._over = over
        self._session = session
        self._sessions = sessions
        self.has_gone = False  # the browser

    async def __call__(self) -> Message:
        said = asyncio.ensure_future(self._receive())
        ended = asyncio.ensure_future(self._over.wait())
        try:
            while not (said.done() or ended.done()):
                await asyncio.wait({said, ended}, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if self._sessions.is_due(self._session):
                    self._sessions.end(self._session)
                    break
            if self._session.is_over or not said.done():
                return {"type": "websocket.disconnect", "code": 1008}
            message: Message = said.result()
            self.has_gone = message["type"] == "websocket.disconnect"
        finally:
            ended.cancel()
            if not said.done():
                said.cancel()
        if len(message.get("text") or "") > MAX_FRAME or len(message.get("bytes") or b"") > MAX_FRAME:
            return {"type": "websocket.disconnect", "code": 1009}
        return message


def host_of(text: str) -> str:
    """Return the host of a Host header without its port, in small letters, of IPv6 without brackets."""
    text = text.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def cookies_of(headers: Headers) -> dict[str, str]:
    """Return the cookies of a request; what another program of this host has set is no reason to lose ours."""
    return cookie_parser(headers.get("cookie", ""))


def set_cookie(response: Response, name: str, value: str, *, is_secure: bool, max_age_s: int | None = None) -> None:
    """Set a cookie that no script sees and no other site sends."""
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=is_secure, httponly=True, samesite="strict")


def _refuse_foreign(scope: Scope, headers: Headers) -> tuple[int, str] | None:
    """Return why a request that changes something, or opens a socket, is not ours: another site made it."""
    scheme = "https" if scope[IS_SECURE] else "http"
    if headers.get("origin") != f"{scheme}://{headers.get('host', '')}":
        return 403, "expected to be asked by a page of this dashboard (Origin)"
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return 403, "expected to be asked by a page of this dashboard (Sec-Fetch-Site)"
    if scope["type"] == "http":
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            return 411, "expected a Content-Length"
        if len(length) > MAX_DIGITS or int(length) > MAX_BODY:
            return 413, f"expected at most {MAX_BODY:,} bytes"
    return None


def _send_to_login(scope: Scope, headers: Headers) -> Response:
    is_page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
    if is_page and "nicegui-check" not in headers:
        return RedirectResponse("/login", 303)
    return PlainTextResponse("expected a session; hint: log in\n", 401)


def _is_lasting(path: str, status: int) -> bool:
    """Tell whether an answer may be kept by browsers: parts of the framework, whose address has its version."""
    return path.startswith("/_nicegui/") and "/dynamic_resources/" not in path and status in (200, 304)


def _cleaned(scope: Scope) -> Scope:
    """Return the scope without headers that what lies behind would believe."""
    unwanted = (b"x-forwarded-prefix", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-for", b"forwarded")
    scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() not in unwanted]
    return scope


def _is_same_address(one: str, other: str) -> bool:
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return one == other
