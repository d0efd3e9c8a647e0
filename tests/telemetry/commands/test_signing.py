"""From an order to bytes: what is signed, and that it is what the page on commands says."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import msgspec
import pytest

from bot.domain.commands import ACTIONS, MAX_COMMAND_BYTES, MAX_LIFE_S, Arguments, CommandBody, SignedCommand
from bot.domain.errors import ConfigError
from bot.telemetry.commands.keys import Ed25519Key, HmacSecret
from bot.telemetry.commands.signing import compose, encode, sign, sign_text, signed_bytes
from bot.telemetry.commands.verifying import Issuer, Why, verify
from tests.telemetry.commands.forging import BOB, NOW_NS, S, order


def test_what_is_signed_is_the_prefix_and_the_text_byte_for_byte() -> None:
    secret = bytes(range(32))
    signed = sign_text('{"reason":"até já"}', HmacSecret(secret))
    expected = hmac.new(secret, b'evenkeel-command-1\n{"reason":"at\xc3\xa9 j\xc3\xa1"}', hashlib.sha256).digest()
    assert msgspec.json.decode(f'"{signed.signature}"', type=bytes) == expected
    assert signed_bytes("x") == b"evenkeel-command-1\nx"


def test_a_composed_command_is_new_each_time_and_lives_as_long_as_it_may() -> None:
    given = Arguments("ETH", 1.5)
    bodies = [
        compose("set_target", vault="mm", issuer="a", reason="r", now_ns=NOW_NS, life_s=life_s, arguments=given)
        for life_s in (5.0, 60.0, 1e9)
    ]
    assert len({body.command_id for body in bodies}) == 3
    assert [(body.expires_ns - body.issued_ns) / S for body in bodies] == [5.0, 60.0, MAX_LIFE_S]
    assert {body.arguments for body in bodies} == {given}


def test_words_of_another_encoding_keep_nobody_from_ordering() -> None:
    body = compose("halt", vault="mm", issuer="bob", reason="ferm\udce9", now_ns=NOW_NS)
    assert body.reason == "ferm?"
    issuers = {"bob": Issuer("bob", BOB.verifier(), frozenset({"halt"}), frozenset({"mm"}))}
    assert verify(encode(sign(body, BOB)), "mm", issuers, NOW_NS, ()) == body


def test_an_envelope_is_two_texts_and_one_too_long_is_said_before_it_is_sent() -> None:
    signed = sign(order("bob"), BOB)
    assert msgspec.json.decode(encode(signed), type=SignedCommand) == signed
    with pytest.raises(ConfigError, match=rf"at most {MAX_COMMAND_BYTES:,} bytes, found \S+; hint: a shorter reason"):
        encode(sign(order("bob", reason="x" * 5_000), BOB))


def test_the_vector_of_the_page_is_what_we_sign() -> None:
    page = (Path(__file__).parents[3] / "docs" / "commands.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^(\{\"command_id\":.*\})$", page, re.MULTILINE)
    seed = bytes(range(32))
    rows = dict(re.findall(r"^\| (\S+?)(?:, private)? +\| `(?:\S+?:)\S+` \| `(\S+)` \|$", page, re.MULTILINE))
    signed = {"Ed25519": sign_text(text, Ed25519Key(seed)), "HMAC-SHA256": sign_text(text, HmacSecret(seed))}
    assert rows == {name: one.signature for name, one in signed.items()}
    assert hashlib.sha256(signed_bytes(text)).hexdigest() in page
    issuers = {"alice": Issuer("alice", Ed25519Key(seed).verifier(), frozenset({"set_target"}), frozenset({"all"}))}
    found = verify(encode(signed["Ed25519"]), "eth-straddle", issuers, 1_790_000_030_000_000_000, ())
    assert isinstance(found, CommandBody)
    assert (found.reason, found.arguments) == ("até amanhã", Arguments("ETH", -2.5))
    assert Ed25519Key(seed).verifier().text() in page
    for why in Why:
        assert f"`{why}`" in page, f"expected docs/commands.md to say what {why} is"
    for action in ACTIONS:
        assert f"`{action}`" in page
