"""Logging in and out: plain forms without a script, checked slowly, counted, and answered alike whatever was wrong."""

from __future__ import annotations

import hmac
import math
import secrets
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qs

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bot.telemetry.dashboard.attempts import Attempts
from bot.telemetry.dashboard.gate import ADDRESS, IS_SECURE, SESSION, cookie_name, set_cookie
from bot.telemetry.dashboard.markup import Markup, el, join
from bot.telemetry.dashboard.passwords import BusyError, PasswordCheck
from bot.telemetry.dashboard.ports import DashboardConfig
from bot.telemetry.dashboard.sessions import Session, Sessions

BEFORE_COOKIE: Final = "evenkeel_before"
MAX_NAME: Final = 100
WRONG: Final = "This name and password do not go together."
STALE_FORM: Final = "This form was too old. Please try again."
BUSY: Final = "Too many people are logging in. Please try again in a moment."

log = structlog.get_logger()


class Login:
    """The pages `/login` and `/logout`."""

    def __init__(
        self, config: DashboardConfig, sessions: Sessions, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._now_s = now_s
        self._check = PasswordCheck({name: user.password_hash for name, user in config.users.items()})
        self.attempts = Attempts()
        self._key = secrets.token_bytes(32)  # of the forms; a restart asks for a fresh one

    async def show(self, request: Request) -> Response:
        """Answer GET /login."""
        if request.scope.get(SESSION) is not None:
            return RedirectResponse("/", 303)
        return self._form(request, "", 200)

    async def log_in(self, request: Request) -> Response:
        """Answer POST /login."""
        fields = await form_of(request)
        user, password = fields.get("user", "")[:MAX_NAME], fields.get("password", "")
        before = request.cookies.get(BEFORE_COOKIE, "")
        if not before or not hmac.compare_digest(self._token(before), fields.get("token", "").encode(errors="replace")):
            return self._form(request, STALE_FORM, 403)
        address = request.scope[ADDRESS]
        wait_s = self.attempts.begin(user, address, self._now_s())
        if wait_s > 0:
            seconds = math.ceil(wait_s)
            response = self._form(request, f"Too many attempts. Please wait {seconds} s and try again.", 429)
            response.headers["Retry-After"] = str(seconds)
            return response
        try:
            is_right = await self._check.is_right(user, password)
        except BusyError:
            return self._form(request, BUSY, 503)
        if not is_right:
            log.warning("dashboard.login_refused", address=address)  # the name is left out: it may be the password
            return self._form(request, WRONG, 401)
        self.attempts.succeed(user, address)
        if (old := request.scope.get(SESSION)) is not None:
            self._sessions.end(old)
        secret, _ = self._sessions.begin(user, is_operator=self._config.users[user].is_operator)
        log.info("dashboard.login", user=user, address=address)
        response = RedirectResponse("/", 303)
        is_secure = request.scope[IS_SECURE]
        set_cookie(response, cookie_name(is_secure), secret, is_secure=is_secure)
        response.delete_cookie(BEFORE_COOKIE, path="/login")
        return response

    async def log_out(self, request: Request) -> Response:
        """Answer POST /logout."""
        session: Session = request.scope[SESSION]
        fields = await form_of(request)
        if not session.is_csrf(fields.get("csrf", "")):
            return Response("expected the form's own token\n", 403, media_type="text/plain")
        self._sessions.end(session)
        response = RedirectResponse("/login", 303)
        is_secure = request.scope[IS_SECURE]
        response.delete_cookie(cookie_name(is_secure), path="/", secure=is_secure, httponly=True, samesite="strict")
        response.headers["Clear-Site-Data"] = '"cache", "storage"'
        return response

    def _form(self, request: Request, problem: str, status: int) -> Response:
        before = secrets.token_urlsafe(24)
        response = HTMLResponse(_login_page(self._token(before).decode(), problem), status)
        response.set_cookie(
            BEFORE_COOKIE,
            before,
            max_age=3600,
            path="/login",
            secure=request.scope[IS_SECURE],
            httponly=True,
            samesite="strict",
        )
        return response

    def _token(self, before: str) -> bytes:
        return hmac.new(self._key, before.encode(errors="replace"), sha256).hexdigest().encode()


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form, each once; what is not a form has none."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return {}
    text = (await request.body()).decode(errors="replace")
    try:
        return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True, max_num_fields=20).items()}
    except ValueError:
        return {}


def _login_page(token: str, problem: str) -> Markup:
    form = el(
        "form",
        el("img", src="/assets/icon.svg", alt="", width="48", height="48"),
        el("h1", "Evenkeel"),
        el("p", problem, cls="problem", role="alert", id="problem") if problem else None,
        el("label", "Name", for_="user"),
        el("input", id="user", name="user", autocomplete="username", required=True, autofocus=True, maxlength=MAX_NAME),
        el("label", "Password", for_="password"),
        el(
            "input",
            id="password",
            name="password",
            type="password",
            autocomplete="current-password",
            required=True,
            aria_describedby="problem" if problem else None,
        ),
        el("input", type="hidden", name="token", value=token),
        el("button", "Log in", type="submit", cls="primary"),
        method="post",
        action="/login",
        cls="login",
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("title", "Log in · Evenkeel"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="/assets/icon.svg"),
        el("link", rel="stylesheet", href="/assets/style.css"),
    )
    return join(Markup("<!doctype html>"), el("html", head, el("body", el("main", form), cls="plain"), lang="en"))
