"""The gate and the forms before an application that says whether it was reached, for the tests of both."""

from __future__ import annotations

import warnings

from argon2 import PasswordHasher
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bot.domain.windows import CommandAnswer
from bot.telemetry.dashboard.gate import SESSION, Gate
from bot.telemetry.dashboard.login import Login
from bot.telemetry.dashboard.orders import Orders
from bot.telemetry.dashboard.ports import DashboardConfig, Order, User
from bot.telemetry.dashboard.sessions import Session, Sessions

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have the successor of the client that the framework brings along
    from starlette.testclient import TestClient

PASSWORD = "correct horse battery"  # alice's and bob's
_LIGHT = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
CONFIG = DashboardConfig(
    users={"alice": User(_LIGHT.hash(PASSWORD), True), "bob": User(_LIGHT.hash(PASSWORD), False)},
    hosts=("desk.example", "127.0.0.1"),
    vaults=("eth-straddle",),
    idle_s=60.0,
    absolute_s=600.0,
)
ORIGIN = "http://desk.example"


class Desk:
    """Keeps the orders it is given, and answers each as done."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.failure: Exception | None = None

    async def order(self, order: Order) -> CommandAnswer:
        self.orders.append(order)
        if self.failure is not None:
            raise self.failure
        return CommandAnswer("id", order.vault, "desk", order.action, True, "so it is", "halted", 1)


class Guarded:
    """A small application behind the gate; `now_s` is its clock."""

    def __init__(self, config: DashboardConfig = CONFIG, origin: str = ORIGIN, peer: str = "10.0.0.1") -> None:
        self.now_s = 0.0
        self.desk = Desk()
        self.sessions = Sessions(lambda: self.now_s, config.idle_s, config.absolute_s)
        self.login = Login(config, self.sessions, lambda: self.now_s)
        orders = Orders(config, self.desk)
        self.seen: list[dict[str, str]] = []
        app = Starlette(
            routes=[
                Route("/login", self.login.show, methods=["GET"]),
                Route("/login", self.login.log_in, methods=["POST"]),
                Route("/logout", self.login.log_out, methods=["POST"]),
                Route("/order", orders.give, methods=["POST"]),
                Route("/page", self._page),
                Route("/assets/style.css", self._page),
                Route("/_nicegui/3/static/a.js", self._page),
                WebSocketRoute("/_nicegui_ws/socket.io/", self._socket),
            ]
        )
        self.gate = Gate(app, config, self.sessions)
        self.origin = origin
        self.client = TestClient(self.gate, base_url=origin, follow_redirects=False, client=(peer, 5000))

    async def _page(self, request: Request) -> Response:
        self.seen.append(dict(request.headers))
        session: Session | None = request.scope.get(SESSION)
        marks = {"X-NiceGUI-Content": "page"} if request.url.path == "/page" else {}
        headers = {**marks, "Access-Control-Allow-Origin": "*", "Server": "chatty"}
        return PlainTextResponse(session.user if session else "nobody", headers=headers)

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(f"heard {await socket.receive_text()}")
        except WebSocketDisconnect:
            return

    def token(self) -> str:
        """Return the token of a fresh login form."""
        return self.token_of(self.client.get("/login").text)

    @staticmethod
    def token_of(form: str) -> str:
        """Return the token in a login form."""
        return form.partition('name="token" value="')[2].partition('"')[0]

    def log_in(self, user: str, password: str = PASSWORD, **headers: str) -> int:
        """Log in as a browser would, and return the status."""
        fields = {"user": user, "password": password, "token": self.token()}
        return self.client.post("/login", data=fields, headers={"Origin": self.origin, **headers}).status_code

    def session(self) -> Session:
        """Return the newest session."""
        return list(self.sessions._kept.values())[-1]


def config_with(**changes: object) -> DashboardConfig:
    """Return the plain configuration with changes."""
    return replace(CONFIG, **changes)
