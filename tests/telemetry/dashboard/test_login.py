from __future__ import annotations

from bot.telemetry.dashboard.attempts import FREE
from tests.telemetry.dashboard.guarded import ORIGIN, PASSWORD, Guarded


def test_the_right_password_opens_and_the_cookie_is_for_no_script_and_no_other_site() -> None:
    guarded = Guarded()
    token = guarded.token()
    answer = guarded.client.post(
        "/login", data={"user": "alice", "password": PASSWORD, "token": token}, headers={"Origin": ORIGIN}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"].lower()
    assert cookie.startswith("evenkeel=")
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/"))
    assert guarded.client.get("/page").text == "alice"


def test_a_wrong_password_and_an_unknown_name_are_answered_alike() -> None:
    texts = set()
    for user, password in (("alice", "wrong wrong wrong"), ("nobody", PASSWORD)):
        guarded = Guarded()
        fields = {"user": user, "password": password, "token": guarded.token()}
        answer = guarded.client.post("/login", data=fields, headers={"Origin": ORIGIN})
        assert answer.status_code == 401
        texts.add(answer.text.partition('name="token"')[0])
        assert password not in answer.text
    assert len(texts) == 1


def test_a_form_of_elsewhere_or_without_its_cookie_is_not_taken() -> None:
    guarded, other = Guarded(), Guarded()
    for token in ("", "x", other.token(), "ä"):
        fields = {"user": "alice", "password": PASSWORD, "token": token}
        assert guarded.client.post("/login", data=fields, headers={"Origin": ORIGIN}).status_code == 403
    token = guarded.token()
    guarded.client.cookies.clear()
    fields = {"user": "alice", "password": PASSWORD, "token": token}
    assert guarded.client.post("/login", data=fields, headers={"Origin": ORIGIN}).status_code == 403
    assert len(guarded.sessions) == 0


def test_a_session_given_before_login_is_not_the_one_after() -> None:
    guarded = Guarded()
    guarded.client.cookies.set("evenkeel", "planted-by-somebody", domain="desk.example")
    assert guarded.log_in("alice") == 303
    first = guarded.client.cookies.get("evenkeel", domain="desk.example")
    assert "planted" not in str(first)
    assert guarded.sessions.find("planted-by-somebody") is None


def test_logging_in_again_ends_the_session_before() -> None:
    guarded = Guarded()
    guarded.log_in("bob")
    session, token = guarded.session(), guarded.token()
    assert token == ""  # who is logged in is sent on
    assert guarded.client.get("/login").status_code == 303
    before = Guarded()
    assert before.log_in("alice") == 303
    assert not session.is_over


def test_guessing_is_slowed_and_the_right_password_then_waits_too() -> None:
    guarded = Guarded()
    assert [guarded.log_in("alice", "wrong wrong wrong") for _ in range(FREE)] == [401] * FREE
    fields = {"user": "alice", "password": PASSWORD, "token": guarded.token()}
    answer = guarded.client.post("/login", data=fields, headers={"Origin": ORIGIN})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert [guarded.log_in("alice") for _ in range(50)] == [429] * 50
    guarded.now_s += 2.0
    assert guarded.log_in("alice") == 303


def test_logout_needs_the_forms_token_and_ends_everything() -> None:
    guarded = Guarded()
    guarded.log_in("alice")
    session = guarded.session()
    assert guarded.client.post("/logout", data={"csrf": "x"}, headers={"Origin": ORIGIN}).status_code == 403
    answer = guarded.client.post("/logout", data={"csrf": session.csrf}, headers={"Origin": ORIGIN})
    assert answer.headers["location"] == "/login"
    assert session.is_over
    assert guarded.client.get("/page").status_code == 401


def test_what_is_no_form_is_no_login() -> None:
    guarded = Guarded()
    guarded.token()
    for content, kind in ((b"{}", "application/json"), (b"\xff&" * 50, "application/x-www-form-urlencoded")):
        headers = {"Origin": ORIGIN, "Content-Type": kind}
        assert guarded.client.post("/login", content=content, headers=headers).status_code == 403
