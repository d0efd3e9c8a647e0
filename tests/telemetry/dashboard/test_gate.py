from __future__ import annotations

import re

import pytest
from starlette.websockets import WebSocketDisconnect

from bot.telemetry.dashboard.gate import HEADERS, MAX_BODY, STRICT, cookies_of, host_of, pages_policy
from tests.telemetry.dashboard.guarded import ORIGIN, Guarded, config_with

PATH = "/_nicegui_ws/socket.io/"
SOCKET = f"ws://desk.example{PATH}"


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


@pytest.mark.parametrize("path", ["/page", "/", "/order", "/nowhere", "/_nicegui/3/static/a.js", "/vault/x", "/login/"])
def test_nothing_is_served_without_a_session(guarded: Guarded, path: str) -> None:
    assert guarded.client.get(path).status_code == 401
    to_page = guarded.client.get(path, headers={"Accept": "text/html"})
    assert (to_page.status_code, to_page.headers["location"]) == (303, "/login")
    assert guarded.seen == []


def test_the_login_page_and_its_looks_are(guarded: Guarded) -> None:
    assert guarded.client.get("/login").status_code == 200
    assert guarded.client.get("/assets/style.css").text == "nobody"


@pytest.mark.parametrize("path", ["/page", "/login", "/nowhere", "/assets/style.css", "/_nicegui/3/static/a.js"])
@pytest.mark.parametrize("user", [None, "alice"])
def test_every_answer_is_dressed(guarded: Guarded, path: str, user: str | None) -> None:
    if user:
        guarded.log_in(user)
    answer = guarded.client.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers
    is_lasting = user and path.startswith("/_nicegui/")
    assert (answer.headers.get("cache-control") == "no-store") is not bool(is_lasting)


def test_pages_with_scripts_carry_a_fresh_nonce_and_nothing_of_elsewhere(guarded: Guarded) -> None:
    guarded.log_in("alice")
    policies = [guarded.client.get("/page").headers["Content-Security-Policy"] for _ in range(2)]
    nonces = [re.findall(r"'nonce-([^']+)'", policy) for policy in policies]
    assert len(set(nonces[0] + nonces[1])) == 2
    assert policies[0] == pages_policy(nonces[0][0], "desk.example", False)
    scripts = policies[0].partition("script-src ")[2].partition(";")[0]
    assert "unsafe-inline" not in scripts
    assert "http" not in policies[0]
    assert guarded.client.get("/login").headers["Content-Security-Policy"] == STRICT


@pytest.mark.parametrize("host", ["evil.example", "desk.example.evil.example", "", "127.0.0.1.evil.example", "[::1]"])
def test_a_name_that_is_not_ours_is_not_answered(guarded: Guarded, host: str) -> None:
    answer = guarded.client.get("/login", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["X-Frame-Options"] == "DENY"


def test_hosts_are_read_without_port_and_case() -> None:
    assert host_of("Desk.Example:8600") == "desk.example"
    assert host_of("[::1]:8600") == "::1"
    guarded = Guarded()
    assert guarded.client.get("/login", headers={"Host": "DESK.example:8600"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://desk.example"},
        {"Origin": f"{ORIGIN}.evil.example"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_what_another_site_sends_changes_nothing(guarded: Guarded, headers: dict[str, str]) -> None:
    guarded.log_in("alice")
    for path in ("/login", "/logout", "/order"):
        assert guarded.client.post(path, data={"csrf": guarded.session().csrf}, headers=headers).status_code == 403
    assert len(guarded.sessions) == 1
    with pytest.raises(WebSocketDisconnect), guarded.client.websocket_connect(SOCKET, headers=headers):
        pass  # pragma: no cover


def test_a_socket_needs_a_session_and_there_is_no_way_round_it(guarded: Guarded) -> None:
    with pytest.raises(WebSocketDisconnect), guarded.client.websocket_connect(SOCKET, headers={"Origin": ORIGIN}):
        pass  # pragma: no cover
    guarded.log_in("bob")
    with guarded.client.websocket_connect(SOCKET, headers={"Origin": ORIGIN}) as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "heard hello"
    assert guarded.client.get(PATH).status_code == 403
    assert guarded.client.post(PATH, headers={"Origin": ORIGIN}, content="4").status_code == 403


def test_a_socket_ends_with_its_session(guarded: Guarded) -> None:
    guarded.log_in("bob")
    with guarded.client.websocket_connect(SOCKET, headers={"Origin": ORIGIN}) as socket:
        socket.send_text("one")
        assert socket.receive_text() == "heard one"
        guarded.now_s = 61.0
        socket.send_text("two")
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()
    assert len(guarded.sessions) == 0


def test_looking_keeps_a_session_and_loading_scripts_does_not(guarded: Guarded) -> None:
    guarded.log_in("alice")
    guarded.now_s = 50.0
    assert guarded.client.get("/page").text == "alice"
    guarded.now_s = 105.0
    assert guarded.client.get("/_nicegui/3/static/a.js").text == "alice"
    guarded.now_s = 111.0
    assert guarded.client.get("/page").status_code == 401


def test_what_is_too_long_or_of_unknown_length_is_not_read(guarded: Guarded) -> None:
    guarded.log_in("alice")
    assert guarded.client.post("/order", headers={"Origin": ORIGIN}, content="x" * (MAX_BODY + 1)).status_code == 413
    for length in ("00000000000099999999", "9" * 30):
        headers = {"Origin": ORIGIN, "Content-Length": length}
        assert guarded.client.post("/order", headers=headers, content="x").status_code == 413
    pieces = (piece for piece in [b"x"])
    assert guarded.client.post("/order", headers={"Origin": ORIGIN}, content=pieces).status_code == 411


def test_headers_that_would_be_believed_behind_us_do_not_get_through(guarded: Guarded) -> None:
    guarded.log_in("alice")
    sent = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil", "X-Forwarded-Proto": "https", "Forwarded": "x"}
    answer = guarded.client.get("/page", headers=sent)
    assert not {name.lower() for name in sent} & set(guarded.seen[-1])
    assert "strict-transport-security" not in answer.headers  # nobody was told to be believed


def test_a_trusted_proxy_is_the_only_one_heard_and_must_have_come_by_tls() -> None:
    config = config_with(trusted_proxy="10.0.0.1")
    good = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.1.1.1, 203.0.113.9"}
    proxied = Guarded(config, origin="https://desk.example")
    assert proxied.client.get("/login").status_code == 403
    assert proxied.client.get("/login", headers={"X-Forwarded-Proto": "http"}).status_code == 403
    answer = proxied.client.get("/login", headers=good)
    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"]
    assert "secure" in answer.headers["Set-Cookie"].lower()
    stranger = Guarded(config, origin="https://desk.example", peer="10.0.0.2")
    assert stranger.client.get("/login", headers=good).status_code == 403


def test_only_the_last_word_on_an_address_is_the_proxys_own() -> None:
    proxied = Guarded(config_with(trusted_proxy="10.0.0.1"), origin="https://desk.example")
    token = proxied.token_of(proxied.client.get("/login", headers={"X-Forwarded-Proto": "https"}).text)
    statuses = []
    for guess in range(8):  # a proxy may add a line of its own after those it was sent, as HAProxy does
        headers = [
            ("Origin", proxied.origin),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-For", f"198.51.100.{guess}"),
        ]
        fields = {"user": f"user{guess}", "password": "a guess", "token": token}
        answer = proxied.client.post("/login", data=fields, headers=[*headers, ("X-Forwarded-For", "203.0.113.9")])
        token = proxied.token_of(answer.text)
        statuses.append(answer.status_code)
    assert statuses == [401] * 3 + [429] * 5
    twice = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")]
    assert proxied.client.get("/login", headers=twice).status_code == 403


def test_over_tls_cookies_are_held_to_this_host() -> None:
    guarded = Guarded(config_with(is_tls=True), origin="https://desk.example")
    assert guarded.log_in("alice") == 303
    assert "__Host-evenkeel" in guarded.client.cookies
    assert guarded.client.get("/page").headers["Strict-Transport-Security"]


def test_a_strangers_cookies_do_not_take_ours_with_them() -> None:
    from starlette.datastructures import Headers

    assert cookies_of(Headers({"cookie": "a=1; b=2"})) == {"a": "1", "b": "2"}
    assert set(cookies_of(Headers({"cookie": "\x00[]=;;;"}))) <= {"\x00[]"}
    for stranger in ('a={"x": 1}', "foo@bar", "a[]=2", "a:b=1; c"):
        assert cookies_of(Headers({"cookie": f"{stranger}; evenkeel=abc"}))["evenkeel"] == "abc"
