"""Keys: read as what they say they are, never quoted, and none that anybody could sign for."""

from __future__ import annotations

import base64

import pytest

from bot.domain.errors import ConfigError
from bot.telemetry.commands.keys import (
    Ed25519Key,
    Ed25519Public,
    HmacSecret,
    decode_base64,
    new_private_key,
    new_secret,
    parse_public_key,
    parse_secret,
    parse_signing_key,
)

P = 2**255 - 19


def test_a_signature_is_that_of_the_rfc() -> None:
    """RFC 8032, section 7.1, test 3."""
    key = Ed25519Key(bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"))
    public = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    assert base64.b64decode(key.verifier().text()).hex() == public
    signature = key.sign(bytes.fromhex("af82"))
    assert signature.hex().startswith("6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac")
    assert key.verifier().has_signed(b"\xaf\x82", signature)
    assert not key.verifier().has_signed(b"\xaf\x83", signature)


def test_an_hmac_is_that_of_the_rfc() -> None:
    """RFC 4231, test case 4 has a secret of 25 bytes, which is too short here; its algorithm is the same."""
    secret = HmacSecret(bytes(range(1, 33)))
    assert secret.sign(b"text") != HmacSecret(bytes(range(2, 34))).sign(b"text")
    assert secret.has_signed(b"text", secret.sign(b"text"))
    assert not secret.has_signed(b"text", secret.sign(b"text")[:-1])
    assert not secret.has_signed(b"text", b"")


def test_new_keys_come_back_from_their_text() -> None:
    pair, secret = new_private_key(), new_secret()
    assert parse_signing_key(pair.text() + "\n", "KEY").sign(b"x") == pair.sign(b"x")
    assert parse_signing_key(secret.text(), "KEY").sign(b"x") == secret.sign(b"x")
    assert parse_secret(secret.text(), "KEY").sign(b"x") == secret.sign(b"x")
    assert parse_public_key(pair.verifier().text(), "KEY").has_signed(b"x", pair.sign(b"x"))
    assert new_private_key().text() != pair.text()
    assert parse_public_key(pair.verifier().text(), "KEY").fingerprint == pair.verifier().fingerprint
    assert secret.fingerprint not in secret.text()


@pytest.mark.parametrize("y", [0, 1, P - 1, P, P + 1])
@pytest.mark.parametrize("sign_bit", [0, 1 << 255])
def test_a_public_key_that_anybody_can_sign_for_is_refused(y: int, sign_bit: int) -> None:
    with pytest.raises(ConfigError, match="anybody can sign for"):
        Ed25519Public((y | sign_bit).to_bytes(32, "little"))


def test_points_of_order_eight_are_refused_too() -> None:
    """The two that are published, by both signs: 26e8…fc05 and c717…037a."""
    for text in (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ):
        with pytest.raises(ConfigError, match="anybody can sign for"):
            Ed25519Public(bytes.fromhex(text))


SECRET = "c2VjcmV0LXRoYXQtbXVzdC1ub3Qtc2hvdw=="


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected ed25519-private: or hmac-sha256: and base64, found nothing"),
        (SECRET, "expected ed25519-private: or hmac-sha256: and base64, found something else"),
        (f"hmac-sha256:{SECRET}", "expected an HMAC secret of 32 to 128 random bytes, found 25 bytes"),
        (f"ed25519-private:{SECRET}", "expected an Ed25519 key of 32 bytes, found 25"),
        (f"HMAC-SHA256:{SECRET}", "found something else"),
        (f"hmac-sha256:{SECRET}!", "found something else"),
        (f"hmac-sha256: {SECRET}", "found something else"),
        ("hmac-sha256:" + base64.b64encode(b"x" * 40).decode(), "found one that repeats itself"),
        ("hmac-sha256:" + base64.b64encode(bytes(range(129))).decode(), "found 129 bytes"),
    ],
)
def test_what_is_no_key_is_said_without_quoting_it(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_signing_key(text, "EVENKEEL_KEY")
    assert str(caught.value).startswith("EVENKEEL_KEY: ")
    assert said in str(caught.value)
    assert "; hint: `evenkeel keys new` makes one" in str(caught.value)
    assert SECRET[:12] not in str(caught.value)


def test_a_private_key_has_no_place_at_the_verifying_side() -> None:
    pair = new_private_key()
    with pytest.raises(ConfigError, match=r"found a private key; hint: name its public half as public_key instead"):
        parse_secret(pair.text(), "SECRET")
    for wrong in (pair.text(), "", "AAAA", "A" * 44, pair.verifier().text().rstrip("="), "ключ"):
        with pytest.raises(ConfigError, match=r"^issuers\.alice: expected an Ed25519 public key"):
            parse_public_key(wrong, "issuers.alice")


def test_base64_is_written_in_one_way_only() -> None:
    assert decode_base64("AAE=") == b"\x00\x01"
    for other in ("AAE", "AAF=", "AAE=\n", " AAE=", "AA-_", "AAE==", "é"):
        with pytest.raises(ValueError, match=r"base64|ascii"):
            decode_base64(other)
