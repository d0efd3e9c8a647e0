"""What passes for a command, and the tens of thousands of things that do not."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from typing import Any

import msgspec
import pytest

from bot.domain.commands import ACTIONS, MAX_COMMAND_BYTES, MAX_LIFE_S, Arguments, CommandBody, SignedCommand
from bot.telemetry.commands.signing import encode, sign_text
from bot.telemetry.commands.verifying import (
    AHEAD_S,
    Issuer,
    Refused,
    Why,
    printable,
    still_good,
    verify,
)
from tests.telemetry.commands.forging import (
    ALICE,
    FORGERS,
    ISSUERS,
    KEYS,
    NOW_NS,
    VAULT,
    S,
    forgeries,
    order,
    payload_of,
)


def judge(
    payload: bytes, now_ns: int = NOW_NS, vault: str = VAULT, seen: frozenset[str] = frozenset()
) -> CommandBody | Refused:
    return verify(payload, vault, ISSUERS, now_ns, seen)


def why(payload: bytes, **terms: Any) -> Why | None:
    found = judge(payload, **terms)
    return found.why if isinstance(found, Refused) else None


@pytest.mark.parametrize("issuer", ["alice", "bob"])
@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_of_either_algorithm_passes_as_it_was_signed(issuer: str, action: str) -> None:
    body = order(issuer, action)
    assert judge(payload_of(body)) == body


def test_of_twelve_thousand_forgeries_none_passes() -> None:
    refused: Counter[Why] = Counter()
    kinds: Counter[str] = Counter()
    passed = []
    for forgery in islice(forgeries(7), 12_000):
        found = judge(forgery.payload)
        kinds[forgery.kind] += 1
        if isinstance(found, Refused):
            refused[found.why] += 1
        else:
            passed.append(forgery)
    assert not passed, passed[:3]
    assert set(kinds) == set(FORGERS)
    assert min(kinds.values()) > 300, kinds
    expected = {
        Why.TOO_LARGE,
        Why.MALFORMED,
        Why.UNKNOWN_ISSUER,
        Why.BAD_SIGNATURE,
        Why.WRONG_VAULT,
        Why.NOT_ALLOWED,
        Why.NOT_YET,
        Why.LIVES_TOO_LONG,
        Why.EXPIRED,
    }
    assert set(refused) == expected, refused
    assert min(refused.values()) > 50, refused


# The checks one by one, each by a command that every other check lets pass -------------------------------------------


def test_one_byte_too_many_is_refused_before_anything_is_read() -> None:
    text = msgspec.json.encode(order()).decode()
    spare = MAX_COMMAND_BYTES - len(encode(sign_text(text, ALICE)))
    assert judge(encode(sign_text(text + " " * spare, ALICE))) == order()
    longer = msgspec.json.encode(sign_text(text + " " * (spare + 1), ALICE))
    assert judge(longer) == Refused(Why.TOO_LARGE, "expected at most 4,096 bytes, found 4,097")
    assert why(b"\xff" * 5_000_000) is Why.TOO_LARGE


@pytest.mark.parametrize("name", ["action", "vault", "issuer", "arguments"])
def test_a_key_twice_is_refused_even_if_signed_and_the_same(name: str) -> None:
    text = msgspec.json.encode(order(action="hedge_now")).decode()
    twice = f'{{"{name}":{json.dumps(json.loads(text)[name])},{text[1:]}'
    assert judge(encode(sign_text(twice, ALICE))) == Refused(Why.MALFORMED, "the command: a key is there twice")


@pytest.mark.parametrize("value", ['"1"', "NaN", "Infinity", "1e999", "true", "[]", "1e13", "9" * 400])
def test_a_target_is_a_plain_number_of_sane_size(value: str) -> None:
    body = order(action="set_target", arguments=Arguments("ETH", 0.5))
    text = msgspec.json.encode(body).decode()
    assert judge(encode(sign_text(text, ALICE))) == body
    assert '"target_base":0.5' in text
    assert why(encode(sign_text(text.replace("0.5", value), ALICE))) is Why.MALFORMED


@pytest.mark.parametrize("name", ["issued_ns", "expires_ns"])
@pytest.mark.parametrize("value", ['"1790000000000000000"', "1.79e18", "1790000000000000000.0", "-5", "0", "9" * 25])
def test_a_time_is_a_whole_number(name: str, value: str) -> None:
    text = msgspec.json.encode(order()).decode()
    wrong = text.replace(f'"{name}":{getattr(order(), name)}', f'"{name}":{value}')
    assert wrong != text
    assert why(encode(sign_text(wrong, ALICE))) is Why.MALFORMED


@pytest.mark.parametrize(
    ("action", "given"),
    [
        ("pause", Arguments("ETH")),
        ("resume", Arguments(target_base=0.0)),
        ("halt", Arguments(confirm="yes")),
        ("set_target", Arguments(target_base=1.0)),
        ("set_target", Arguments("ETH", 1.0, low_base=-1.0)),
        ("set_band", Arguments("ETH", low_base=1.0)),
        ("set_band", Arguments("ETH", low_base=1.0, high_base=1.0)),
        ("set_band", Arguments("ETH", low_base=2.0, high_base=1.0)),
        ("set_band", Arguments(low_base=-2.0, high_base=1.0)),
        ("acknowledge", Arguments()),
        ("reload", Arguments(alert_id="x")),
    ],
)
def test_an_action_is_given_what_it_needs_and_nothing_else(action: str, given: Arguments) -> None:
    assert why(payload_of(order(action=action, arguments=given))) is Why.MALFORMED


@pytest.mark.parametrize(
    ("action", "given"),
    [
        ("set_target", Arguments("ETH")),
        ("set_band", Arguments("ETH")),
        ("hedge_now", Arguments()),
        ("hedge_now", Arguments("ETH")),
        ("flatten", Arguments("ETH", confirm="mm")),
        ("reload", Arguments(confirm="3f9a")),
    ],
)
def test_what_may_be_given_is_taken(action: str, given: Arguments) -> None:
    body = order(action=action, arguments=given)
    assert judge(payload_of(body)) == body


def test_a_reason_may_be_in_any_language_but_not_invisible() -> None:
    for good in ("mercado fechado às 5", "市场关闭", "ok (see #12) [x] {y} \\ \" '"):
        assert why(payload_of(order(reason=good))) is None
    for bad in ("", " ", "a\tb", "\x1b]0;x\x07", "a\u200bb", "a\u202eb", "a\u2028b", "\ue000"):
        assert why(payload_of(order(reason=bad))) is Why.MALFORMED


def test_who_leaves_a_book_unhedged_names_the_vault_once_more() -> None:
    for confirm in ("", "MM", "mm ", "mm-2", "yes"):
        body = order(action="flatten", arguments=Arguments(confirm=confirm))
        found = judge(payload_of(body))
        assert isinstance(found, Refused)
        assert (found.why, found.body) == (Why.NOT_CONFIRMED, body)
        assert found.text == f"expected confirm to be mm, as flatten leaves its book unhedged, found {confirm!r}"


def test_the_algorithm_is_the_issuers_and_names_are_exact() -> None:
    assert why(payload_of(order("bob"), ALICE)) is Why.BAD_SIGNATURE
    assert why(payload_of(order("alice"), KEYS["bob"])) is Why.BAD_SIGNATURE
    assert why(payload_of(order("Alice"), ALICE)) is Why.UNKNOWN_ISSUER
    assert why(payload_of(order("аlice"), ALICE)) is Why.MALFORMED


def test_a_command_is_for_one_vault() -> None:
    assert why(payload_of(order()), vault="mm-2") is Why.WRONG_VAULT
    found = judge(payload_of(order()), vault="mm-2")
    assert isinstance(found, Refused)
    assert found.body is None, "whoever carries a command elsewhere must not use up its id"


def test_rights_are_by_action_and_by_vault() -> None:
    assert judge(payload_of(order("carol", "pause"))) == order("carol", "pause")
    assert why(payload_of(order("carol", "resume"))) is Why.NOT_ALLOWED
    elsewhere = order("carol", "pause", vault="mm-2")
    assert why(payload_of(elsewhere), vault="mm-2") is Why.NOT_ALLOWED
    nobody = Issuer("dave", ALICE.verifier(), frozenset(), frozenset({"all"}))
    assert not nobody.may_order("pause", "mm")


def test_times_are_judged_at_their_limits() -> None:
    good = order(issued_ns=NOW_NS, expires_ns=NOW_NS + round(MAX_LIFE_S) * S)
    assert judge(payload_of(good)) == good
    assert why(payload_of(order(issued_ns=NOW_NS, expires_ns=NOW_NS + round(MAX_LIFE_S) * S + 1))) is Why.LIVES_TOO_LONG
    assert why(payload_of(order(issued_ns=NOW_NS, expires_ns=NOW_NS))) is Why.LIVES_TOO_LONG
    ahead = round(AHEAD_S) * S
    assert why(payload_of(order(issued_ns=NOW_NS + ahead, expires_ns=NOW_NS + ahead + S))) is None
    assert why(payload_of(order(issued_ns=NOW_NS + ahead + 1, expires_ns=NOW_NS + ahead + S))) is Why.NOT_YET
    last = order()
    assert why(payload_of(last), now_ns=last.expires_ns - 1) is None
    assert why(payload_of(last), now_ns=last.expires_ns) is Why.EXPIRED
    assert still_good(last, last.expires_ns - 1) is None
    late = still_good(last, last.expires_ns + 2 * S)
    assert late is not None
    assert late.text == "expected a command that is still good, found one expired 2.0 s ago"


def test_an_id_counts_once_whoever_sends_it() -> None:
    first = order()
    again = msgspec.structs.replace(order("bob", "resume"), command_id=first.command_id)
    for body in (first, again):
        assert why(payload_of(body), seen=frozenset({first.command_id})) is Why.REPEATED


def test_white_space_around_the_envelope_is_the_same_command_and_so_the_same_id() -> None:
    payload = payload_of(order())
    spaced = b"\n " + payload.replace(b'","signature', b'" ,\t"signature') + b"\n"
    assert judge(spaced) == order()
    assert why(spaced, seen=frozenset({order().command_id})) is Why.REPEATED


def test_a_refusal_repeats_nothing_that_would_not_show() -> None:
    evil = msgspec.json.encode({"command": "x", "signature": "y", "\x1b[2J\u202e" + "z" * 1_000: 1})
    found = judge(evil)
    assert isinstance(found, Refused)
    assert found.text.isprintable()
    assert len(found.text) < 200
    assert printable("a\nb\u200bc") == "a·b·c"


def test_only_a_refusal_whose_signature_held_names_the_command() -> None:
    body = order("carol", "resume")
    found = judge(payload_of(body))
    assert isinstance(found, Refused)
    assert found.body == body
    forged = judge(payload_of(body, ALICE))
    assert isinstance(forged, Refused)
    assert forged.body is None
    nothing = judge(msgspec.json.encode(SignedCommand("{}", "")))
    assert isinstance(nothing, Refused)
    assert nothing.body is None
