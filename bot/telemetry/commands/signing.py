"""From what somebody orders to the bytes that travel: the body as text, and a signature over exactly that text."""

from __future__ import annotations

import base64
import secrets
from typing import Final

import msgspec

from bot.domain.commands import MAX_COMMAND_BYTES, MAX_LIFE_S, SIGNED_PREFIX, Arguments, CommandBody, SignedCommand
from bot.domain.errors import ConfigError
from bot.domain.units import NS_PER_S, whole_text
from bot.telemetry.commands.keys import SigningKey

LIFE_S: Final = 60.0  # of a command unless told otherwise: as long as a person waits for an answer


def compose(
    action: str,
    *,
    vault: str,
    issuer: str,
    reason: str,
    now_ns: int,
    life_s: float = LIFE_S,
    arguments: Arguments | None = None,
) -> CommandBody:
    """Return a command under a new id, issued now and good for `life_s`."""
    return CommandBody(
        command_id=secrets.token_hex(16),
        vault=vault,
        issuer=issuer,
        action=action,
        reason=whole_text(reason),
        issued_ns=now_ns,
        expires_ns=now_ns + round(min(life_s, MAX_LIFE_S) * NS_PER_S),
        arguments=arguments or Arguments(),
    )


def sign(body: CommandBody, key: SigningKey) -> SignedCommand:
    """Return the command as text with its signature."""
    return sign_text(msgspec.json.encode(body).decode(), key)


def sign_text(text: str, key: SigningKey) -> SignedCommand:
    """Return any text with its signature over `SIGNED_PREFIX` and the text in UTF-8."""
    return SignedCommand(text, base64.b64encode(key.sign(signed_bytes(text))).decode())


def signed_bytes(text: str) -> bytes:
    """Return the bytes that are signed for a command of this text."""
    return SIGNED_PREFIX + text.encode()


def encode(signed: SignedCommand) -> bytes:
    """Return the payload of a message. Raises ConfigError if it is longer than any command may be."""
    payload = msgspec.json.encode(signed)
    if len(payload) > MAX_COMMAND_BYTES:
        found = f"expected a command of at most {MAX_COMMAND_BYTES:,} bytes, found {len(payload):,}"
        raise ConfigError([f"{found}; hint: a shorter reason"])
    return payload
