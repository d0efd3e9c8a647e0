from __future__ import annotations

from typing import Any

import pytest

from bot.domain.commands import ACTIONS as KNOWN
from bot.domain.commands import Arguments
from bot.telemetry.commands.keys import new_secret
from bot.telemetry.commands.signing import compose, encode, sign
from bot.telemetry.commands.verifying import Issuer, verify
from bot.telemetry.dashboard.orders import ACTIONS, Wish, order_of
from tests.telemetry.dashboard.guarded import ORIGIN, Guarded

VAULTS = ("eth-straddle",)
NOW_NS = 1_700_000_000_000_000_000
PAUSE = {"vault": "eth-straddle", "action": "pause", "reason": "a look at the venue"}


def given(guarded: Guarded, wish: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    """Post an order as the page's script does."""
    token = guarded.session().csrf
    answer = guarded.client.post("/order", json=wish, headers={"Origin": ORIGIN, "X-CSRF-Token": token, **headers})
    return answer.status_code, answer.json()


def logged_in(user: str) -> Guarded:
    guarded = Guarded()
    assert guarded.log_in(user) == 303
    return guarded


def test_every_command_there_is_can_be_given_here() -> None:
    assert set(ACTIONS) == set(KNOWN)
    assert {name for name, form in ACTIONS.items() if form.is_typed} == {"halt", "flatten"}


def test_an_operators_order_goes_out_with_who_and_why() -> None:
    guarded = logged_in("alice")
    status, answer = given(guarded, PAUSE)
    assert (status, answer["is_done"], answer["text"]) == (200, True, "so it is")
    (order,) = guarded.desk.orders
    assert (order.user, order.action, order.reason) == ("alice", "pause", "a look at the venue")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_viewer_can_give_none(action: str) -> None:
    guarded = logged_in("bob")
    status, answer = given(guarded, {**PAUSE, "action": action, "typed": "eth-straddle"})
    assert (status, answer["is_done"]) == (403, False)
    assert guarded.desk.orders == []


@pytest.mark.parametrize("token", ["", "x", "ü"])
def test_without_the_pages_token_nothing_is_ordered(token: str) -> None:
    guarded = logged_in("alice")
    headers = {b"Origin": ORIGIN.encode(), b"X-CSRF-Token": token.encode()}
    answer = guarded.client.post("/order", json=PAUSE, headers=headers)
    assert answer.status_code == 403
    assert guarded.desk.orders == []


def test_what_another_kind_of_form_could_send_is_not_taken() -> None:
    guarded = logged_in("alice")
    assert given(guarded, PAUSE, **{"Content-Type": "text/plain"})[0] == 415
    assert guarded.desk.orders == []


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "sell_everything"},
        {"vault": "somebody-elses"},
        {"reason": " x "},
        {"reason": "x" * 500},
        {"action": "halt"},
        {"action": "halt", "typed": "eth-stradle"},
        {"action": "flatten", "typed": ""},
        {"target_base": 1.0},
        {"action": "set_target", "underlying": "ETH", "target_base": "1"},
        {"action": "set_target", "underlying": "E" * 300},
        {"issuer": "root"},
        {"vault": None},
    ],
)
def test_what_is_not_an_order_is_refused_with_a_reason(changes: dict[str, Any]) -> None:
    guarded = logged_in("alice")
    status, answer = given(guarded, {**PAUSE, **changes})
    assert status == 422
    assert answer["text"]
    assert guarded.desk.orders == []


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        order_of(Wish("eth-straddle", "set_target", "why not", target_base=float("inf")), "alice", VAULTS)


def test_what_an_action_needs_goes_along() -> None:
    band = Wish("eth-straddle", "set_band", "calm  market", underlying="ETH", low_base=0.0, high_base=2.0)
    order = order_of(band, "alice", VAULTS)
    assert order.arguments == Arguments(underlying="ETH", low_base=0.0, high_base=2.0)
    assert order.reason == "calm market"
    halt = order_of(Wish("eth-straddle", "halt", "now", typed="eth-straddle"), "alice", VAULTS)
    assert halt.arguments == Arguments()
    flatten = order_of(Wish("eth-straddle", "flatten", "now", typed="eth-straddle"), "alice", VAULTS)
    assert flatten.arguments == Arguments(confirm="eth-straddle")


@pytest.mark.parametrize("action", ACTIONS)
def test_whatever_a_page_orders_is_verified_where_it_arrives(action: str) -> None:
    fields: dict[str, Any] = {
        "set_target": {"underlying": "ETH", "target_base": 1.0},
        "set_band": {"underlying": "ETH", "low_base": -1.0, "high_base": 1.0},
        "acknowledge": {"alert_id": "gone:eth-straddle"},
    }.get(action, {})
    typed = "eth-straddle" if ACTIONS[action].is_typed else ""
    wished = order_of(Wish("eth-straddle", action, "why not", typed=typed, **fields), "alice", VAULTS)
    body = compose(action, vault=VAULTS[0], issuer="desk", reason="why not", now_ns=NOW_NS, arguments=wished.arguments)
    key = new_secret()
    issuers = {"desk": Issuer("desk", key, frozenset({"all"}), frozenset({"all"}))}
    assert verify(encode(sign(body, key)), VAULTS[0], issuers, NOW_NS, frozenset()) == body


@pytest.mark.parametrize(("failure", "status"), [(TimeoutError(), 504), (ConnectionError("no broker"), 502)])
def test_no_answer_is_said_to_be_none(failure: Exception, status: int) -> None:
    guarded = logged_in("alice")
    guarded.desk.failure = failure
    found, answer = given(guarded, PAUSE)
    assert (found, answer["is_done"]) == (status, False)
