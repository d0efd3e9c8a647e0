"""Puts the dashboard together: the gate, the forms, the pages. One per process, because the pages' framework is global.

Everything of the daemon comes in as `Actions` and `Sources`; nothing here opens a connection or a file of a vault.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from inspect import isawaitable
from pathlib import Path
from typing import Any, Final

import nicegui.client
from fastapi import FastAPI
from jinja2 import Environment, FunctionLoader, select_autoescape
from nicegui import Client, core, ui
from socketio.exceptions import ConnectionRefusedError as Refused
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp

from bot.telemetry.dashboard.gate import NONCE, SESSION, Gate
from bot.telemetry.dashboard.login import Login
from bot.telemetry.dashboard.mirror import Mirror
from bot.telemetry.dashboard.orders import Orders
from bot.telemetry.dashboard.pages import audit, fleet, replay, risk, vault
from bot.telemetry.dashboard.ports import Actions, DashboardConfig, Sources
from bot.telemetry.dashboard.sessions import Session, Sessions
from bot.telemetry.dashboard.shell import Shell

ASSETS: Final = Path(__file__).parent / "assets"
ASSET_TYPES: Final = {
    "style.css": "text/css",
    "parts.css": "text/css",
    "ek.js": "text/javascript",
    "charts.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
MAX_TITLE: Final = 60
SILENT_S: Final = 10.0  # a socket that is silent for little longer is taken for cut off, on either side
AWAY_S: Final = 30.0  # a page that was cut off for no longer goes on where it was; else it is loaded anew
SOCKET_EVENTS: Final = ("event", "javascript_response", "ack", "log", "handshake")


class Dashboard:
    """The application to serve, and what it counts: refused requests by reason, attempts to log in, sessions."""

    def __init__(self, app: ASGIApp, gate: Gate, login: Login, sessions: Sessions) -> None:
        self.app = app
        self.gate = gate
        self.login = login
        self.sessions = sessions


def build_dashboard(
    config: DashboardConfig,
    mirror: Mirror,
    actions: Actions,
    sources: Sources,
    now_s: Callable[[], float] = time.monotonic,
) -> Dashboard:
    """Return the dashboard, ready to be served once in this process."""
    sessions = Sessions(now_s, config.idle_s, config.absolute_s)
    login = Login(config, sessions, now_s)
    orders = Orders(config, actions)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_route("/login", login.show, methods=["GET"])
    app.add_route("/login", login.log_in, methods=["POST"])
    app.add_route("/logout", login.log_out, methods=["POST"])
    app.add_route("/order", orders.give, methods=["POST"])
    app.add_route("/alive", _alive, methods=["POST"])
    app.add_route("/assets/{name}", _asset, methods=["GET"])
    _add_pages(mirror, sources)
    _harden()
    ui.run_with(
        app,
        title="Evenkeel",
        favicon=None,
        dark=None,
        language="en-US",
        tailwind=False,
        gzip_middleware_factory=None,
        binding_refresh_interval=None,
        reconnect_timeout=SILENT_S,
        message_history_length=200,
        show_welcome_message=False,
    )
    gate = Gate(GZipMiddleware(app, minimum_size=1000, compresslevel=5), config, sessions)
    return Dashboard(gate, gate, login, sessions)


def _add_pages(mirror: Mirror, sources: Sources) -> None:
    """Register every page; each is laid out in a frame of its own."""

    def open_page(title: str, place: str, lay_out: Callable[[Shell], None]) -> None:
        client = ui.context.client
        shell = Shell(mirror, sources, client.request.scope[SESSION], client)
        shell.begin(title, place)
        lay_out(shell)
        shell.start()

    @ui.page("/", reconnect_timeout=AWAY_S)
    def _fleet() -> None:
        open_page("Fleet", "/", fleet.page)

    @ui.page("/audit", reconnect_timeout=AWAY_S)
    def _audit() -> None:
        open_page("Audit", "/audit", audit.page)

    @ui.page("/vault/{name}", reconnect_timeout=AWAY_S)
    def _vault(name: str) -> None:
        open_page(name[:MAX_TITLE], "/", lambda shell: vault.page(shell, name))

    @ui.page("/risk", reconnect_timeout=AWAY_S)
    def _risk() -> None:
        open_page("Risk", "/risk", risk.page)

    @ui.page("/replay", reconnect_timeout=AWAY_S)
    def _replay() -> None:
        open_page("Replay", "/replay", replay.page)


def _harden() -> None:
    """Take from the framework what a desk must not offer, and have its scripts carry the nonce."""
    core.app.config.socket_io_js_transports = ["websocket"]
    core.sio.eio.cors_allowed_origins = []  # the gate judges where a socket comes from
    core.sio.eio.max_http_buffer_size = 200_000
    nicegui.client.templates = _templates()
    handlers: dict[str, Any] = core.sio.handlers["/"]
    for name in SOCKET_EVENTS:
        handlers[name] = _owned(handlers[name])
    connect = handlers["connect"]

    async def owned_connect(sid: str, environ: dict[str, Any], auth: object = None) -> None:
        client = Client.instances.get(_query_client(environ))
        if client is None or _session_of(environ) is not client.request.scope.get(SESSION):
            raise Refused("Implicit handshake failed")  # the page's script loads it anew
        await connect(sid, environ, auth)

    handlers["connect"] = owned_connect


def _owned(handler: Callable[[str, dict[str, Any]], Any]) -> Callable[[str, Any], Any]:
    """Return the handler of a socket's event, deaf to what is said in the name of somebody else's page."""

    async def owned(sid: str, said: object) -> object:
        environ = core.sio.get_environ(sid)
        if environ is None or not isinstance(said, dict) or said.get("client_id") != _query_client(environ):
            return False
        session = _session_of(environ)
        if session is None or session.is_over:
            return False
        result = handler(sid, said)
        return await result if isawaitable(result) else result

    return owned


def _session_of(environ: dict[str, Any]) -> Session | None:
    session: Session | None = environ["asgi.scope"].get(SESSION)
    return session


def _query_client(environ: dict[str, Any]) -> str:
    request = Request({**environ["asgi.scope"], "type": "http"})
    return request.query_params.get("client_id", "")


def _templates() -> Jinja2Templates:
    """Return the framework's page template, every script and style sheet of it with the request's nonce."""
    folder = Path(nicegui.client.__file__).parent / "templates"

    def load(name: str) -> str:
        text = (folder / name).read_text(encoding="utf-8")
        nonce = f' nonce="{{{{ request.scope["{NONCE}"] }}}}"'
        found = text.count("<script") + text.count("<style")
        assert found >= 5, f"expected scripts in the framework's {name}, found {found}"
        for tag in ("<script", "<style"):
            text = text.replace(tag, tag + nonce)
        return text

    return Jinja2Templates(env=Environment(loader=FunctionLoader(load), autoescape=select_autoescape(default=True)))


async def _alive(request: Request) -> Response:
    """Answer POST /alive, by which a page says that somebody is at it; the gate has noted it."""
    session: Session = request.scope[SESSION]
    return Response(status_code=204 if session.is_csrf(request.headers.get("x-csrf-token", "")) else 403)


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSET_TYPES:
        return PlainTextResponse("not found\n", 404)
    return FileResponse(ASSETS / name, media_type=ASSET_TYPES[name])
