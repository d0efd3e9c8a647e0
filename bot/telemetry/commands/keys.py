"""Keys that commands are signed with, and what they are known by: Ed25519 pairs and shared HMAC-SHA256 secrets.

A key is text in one line that begins with its kind, so that none can be taken for the other. What goes wrong with a
key is said without quoting it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bot.domain.errors import ConfigError

PRIVATE_KIND: Final = "ed25519-private:"
HMAC_KIND: Final = "hmac-sha256:"
KEY_BYTES: Final = 32  # of an Ed25519 key, and at least of an HMAC secret
MAX_SECRET_BYTES: Final = 128
MIN_DISTINCT_BYTES: Final = 12  # 32 random bytes have about 30; what has fewer than this was typed, not drawn
SIGNATURE_BYTES: Final = {"ed25519": 64, "hmac-sha256": 32}
_HINT: Final = "hint: `evenkeel keys new` makes one"

_P: Final = 2**255 - 19
_ORDER_8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
# y of every point of small order, also written unreduced: whoever is known by one of these has signed everything
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _P, _P + 1, _ORDER_8, _P - _ORDER_8})


class SigningKey(Protocol):
    """What a command is signed with."""

    @property
    def algorithm(self) -> str:
        """ed25519 or hmac-sha256."""

    def sign(self, text: bytes) -> bytes:
        """Return the signature over `text`."""

    def verifier(self) -> VerifyingKey:
        """Return what this key's signatures are known by."""


class VerifyingKey(Protocol):
    """What an issuer's commands are known by; the algorithm is fixed with it."""

    @property
    def algorithm(self) -> str:
        """ed25519 or hmac-sha256."""

    @property
    def fingerprint(self) -> str:
        """A name of the key that tells nothing of a secret one."""

    def has_signed(self, text: bytes, signature: bytes) -> bool:
        """Tell whether `signature` is this key's over `text`, in a time that depends on neither's content."""


class HmacSecret:
    """A secret that both sides hold: signs and verifies."""

    algorithm = "hmac-sha256"

    def __init__(self, secret: bytes) -> None:
        expected = f"expected an HMAC secret of {KEY_BYTES} to {MAX_SECRET_BYTES} random bytes"
        if not KEY_BYTES <= len(secret) <= MAX_SECRET_BYTES:
            raise ConfigError([f"{expected}, found {len(secret)} bytes; {_HINT}"])
        if len(set(secret)) < MIN_DISTINCT_BYTES:
            raise ConfigError([f"{expected}, found one that repeats itself; {_HINT}"])
        self._secret = secret

    @property
    def fingerprint(self) -> str:
        """A name of the key that tells nothing of it."""
        return hashlib.sha256(b"evenkeel-fingerprint\n" + self._secret).hexdigest()[:16]

    def sign(self, text: bytes) -> bytes:
        """Return HMAC-SHA256 of `text`."""
        return hmac.digest(self._secret, text, hashlib.sha256)

    def has_signed(self, text: bytes, signature: bytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.sign(text), signature)

    def verifier(self) -> HmacSecret:
        """Return itself: whoever verifies could sign."""
        return self

    def text(self) -> str:
        """Return the secret as it is kept."""
        return HMAC_KIND + base64.b64encode(self._secret).decode()


class Ed25519Key:
    """A private key that only its issuer holds."""

    algorithm = "ed25519"

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_BYTES:
            raise ConfigError([f"expected an Ed25519 key of {KEY_BYTES} bytes, found {len(seed)}; {_HINT}"])
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    def sign(self, text: bytes) -> bytes:
        """Return the signature of RFC 8032 over `text`."""
        return self._key.sign(text)

    def verifier(self) -> Ed25519Public:
        """Return the public half."""
        return Ed25519Public(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def text(self) -> str:
        """Return the private key as it is kept."""
        return PRIVATE_KIND + base64.b64encode(self._seed).decode()


class Ed25519Public:
    """The public half of a pair: verifies and cannot sign."""

    algorithm = "ed25519"

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ConfigError([f"expected an Ed25519 public key of {KEY_BYTES} bytes, found {len(raw)}; {_HINT}"])
        if int.from_bytes(raw, "little") & ~(1 << 255) in _SMALL_ORDER:
            raise ConfigError([f"expected an Ed25519 public key, found one that anybody can sign for; {_HINT}"])
        self._raw = raw
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    @property
    def fingerprint(self) -> str:
        """A short name of the key."""
        return hashlib.sha256(self._raw).hexdigest()[:16]

    def has_signed(self, text: bytes, signature: bytes) -> bool:
        """Tell whether the signature holds; everything it compares is public."""
        try:
            self._key.verify(signature, text)
        except InvalidSignature:
            return False
        return True

    def text(self) -> str:
        """Return the public key as a desk file names it."""
        return base64.b64encode(self._raw).decode()


def parse_signing_key(text: str, where: str) -> HmacSecret | Ed25519Key:
    """Return the key that `text` is; `where` says in errors where it came from. Raises ConfigError."""
    text = text.strip()
    try:
        if text.startswith(PRIVATE_KIND):
            return Ed25519Key(decode_base64(text.removeprefix(PRIVATE_KIND)))
        if text.startswith(HMAC_KIND):
            return HmacSecret(decode_base64(text.removeprefix(HMAC_KIND)))
    except ConfigError as error:
        raise ConfigError([f"{where}: {problem}" for problem in error.problems]) from None
    except ValueError:
        pass
    expected = f"{where}: expected {PRIVATE_KIND} or {HMAC_KIND} and base64"
    raise ConfigError([f"{expected}, found {'nothing' if not text else 'something else'}; {_HINT}"])


def parse_secret(text: str, where: str) -> HmacSecret:
    """Return the shared secret that `text` is. Raises ConfigError, for a private key too: that stays its owner's."""
    key = parse_signing_key(text, where)
    if not isinstance(key, HmacSecret):
        expected = f"{where}: expected {HMAC_KIND} and base64"
        raise ConfigError([f"{expected}, found a private key; hint: name its public half as public_key instead"])
    return key


def parse_public_key(text: str, where: str) -> Ed25519Public:
    """Return the public key that `text` is in base64. Raises ConfigError."""
    try:
        return Ed25519Public(decode_base64(text))
    except ConfigError as error:
        raise ConfigError([f"{where}: {problem}" for problem in error.problems]) from None
    except ValueError:
        raise ConfigError([f"{where}: expected an Ed25519 public key in base64, found none; {_HINT}"]) from None


def decode_base64(text: str) -> bytes:
    """Return the bytes of standard base64 with padding, written in the one way that is right. Raises ValueError."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise ValueError("not the shortest base64 of its bytes")
    return raw


def new_private_key() -> Ed25519Key:
    """Draw a new pair."""
    return Ed25519Key(secrets.token_bytes(KEY_BYTES))


def new_secret() -> HmacSecret:
    """Draw a new shared secret."""
    return HmacSecret(secrets.token_bytes(KEY_BYTES))
