"""Whether a payload is a command that may be carried out: every check from its size to its id, the cheap ones first.

Nothing here trusts a byte before the signature holds, and nothing is executed or remembered: that is the caller's.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Container, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from bot.domain.commands import ACTIONS, MAX_COMMAND_BYTES, MAX_LIFE_S, Arguments, CommandBody, SignedCommand
from bot.domain.events import OperatorAction
from bot.domain.units import NS_PER_S
from bot.telemetry.commands.keys import SIGNATURE_BYTES, VerifyingKey, decode_base64
from bot.telemetry.commands.signing import signed_bytes

RELOAD: Final = "reload"
ACKNOWLEDGE: Final = "acknowledge"
ALL: Final = "all"
AHEAD_S: Final = 10.0  # how far the issuer's clock may be ahead of ours
MAX_REASON_CHARS: Final = 500
MAX_QUANTITY_BASE: Final = 1e12  # beyond any position there is
MAX_TS_NS: Final = 2**63
TOLD_CHARS: Final = 160

_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_VAULT: Final = re.compile(r"[a-z0-9-]{1,64}")
_ISSUER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}")
_UNDERLYING: Final = re.compile(r"[A-Za-z0-9._/-]{0,40}")
_WORD: Final = re.compile(r"[ -~]{0,200}")  # a code, or an alert's id: printable ASCII
_UNSEEN: Final = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
)  # what a terminal or a log would not show as it is
_ABOUT_ONE: Final = frozenset({OperatorAction.SET_TARGET, OperatorAction.SET_BAND})
_ABOUT_SOME: Final = _ABOUT_ONE | {OperatorAction.HEDGE_NOW, OperatorAction.FLATTEN}
_envelope: Final = msgspec.json.Decoder(SignedCommand, strict=True)
_body: Final = msgspec.json.Decoder(CommandBody, strict=True)


class Why(StrEnum):
    """Why a command is not carried out; every refusal is counted under one of these."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    UNKNOWN_ISSUER = "unknown_issuer"
    BAD_SIGNATURE = "bad_signature"
    WRONG_VAULT = "wrong_vault"
    NOT_ALLOWED = "not_allowed"
    NOT_CONFIRMED = "not_confirmed"
    HOLDS_SECRET = "holds_secret"  # noqa: S105 — the name of a refusal
    NOT_YET = "not_yet"
    LIVES_TOO_LONG = "lives_too_long"
    REPEATED = "repeated"
    EXPIRED = "expired"
    RETAINED = "retained"
    UNKNOWN_TOPIC = "unknown_topic"
    BUSY = "busy"
    OVERTAKEN = "overtaken"
    BY_THE_DAEMON = "by_the_daemon"
    NO_ANSWER = "no_answer"


class Issuer(msgspec.Struct, frozen=True):
    """Somebody who may send commands: by what they are known, and what they may order of which vaults."""

    name: str
    key: VerifyingKey
    may: frozenset[str]
    vaults: frozenset[str]

    def may_order(self, action: str, vault: str) -> bool:
        """Tell whether the allow-list has this action for this vault."""
        return not self.may.isdisjoint({action, ALL}) and not self.vaults.isdisjoint({vault, ALL})


class Refused(msgspec.Struct, frozen=True):
    """A command that is not carried out. `body` is there only if its signature held for this vault."""

    why: Why
    text: str
    body: CommandBody | None = None


class _MalformedError(Exception):
    """The payload is no command."""


def verify(
    payload: bytes, vault: str, issuers: Mapping[str, Issuer], now_ns: int, seen: Container[str]
) -> CommandBody | Refused:
    """Return the command that arrived at `vault`'s topic, or why it is none; `seen` has the ids taken before."""
    if len(payload) > MAX_COMMAND_BYTES:
        return Refused(Why.TOO_LARGE, f"expected at most {MAX_COMMAND_BYTES:,} bytes, found {len(payload):,}")
    try:
        signed = _decoded(payload)
        body = _decoded_body(signed.command)
        signature = _signature(signed.signature)
    except _MalformedError as error:
        return Refused(Why.MALFORMED, printable(str(error)))
    issuer = issuers.get(body.issuer)
    if issuer is None:
        return Refused(Why.UNKNOWN_ISSUER, f"expected an issuer of the desk file, found {body.issuer}")
    if len(signature) != SIGNATURE_BYTES[issuer.key.algorithm] or not issuer.key.has_signed(
        signed_bytes(signed.command), signature
    ):
        return Refused(Why.BAD_SIGNATURE, f"expected {body.issuer}'s signature, found another")
    if body.vault != vault:
        return Refused(Why.WRONG_VAULT, f"expected a command for {vault}, found one for {body.vault}")
    return _judged(body, issuer, now_ns, seen)


def still_good(body: CommandBody, now_ns: int) -> Refused | None:
    """Return the refusal if the command has expired, which it may have done while it waited."""
    if now_ns < body.expires_ns:
        return None
    late_s = (now_ns - body.expires_ns) / NS_PER_S
    return Refused(Why.EXPIRED, f"expected a command that is still good, found one expired {late_s:,.1f} s ago", body)


def printable(text: str) -> str:
    """Return a stranger's text such that a log and a terminal show it as it is, and not much of it."""
    return "".join(c if unicodedata.category(c) not in _UNSEEN else "·" for c in text[:TOLD_CHARS])


def _judged(body: CommandBody, issuer: Issuer, now_ns: int, seen: Container[str]) -> CommandBody | Refused:
    """Judge a command whose signature holds."""
    if not issuer.may_order(body.action, body.vault):
        return Refused(Why.NOT_ALLOWED, f"{body.issuer} may not order {body.action} of {body.vault}", body)
    if body.issued_ns > now_ns + AHEAD_S * NS_PER_S:
        ahead_s = (body.issued_ns - now_ns) / NS_PER_S
        found = f"expected a command issued by now, found one {ahead_s:,.1f} s ahead; hint: synchronise the clocks"
        return Refused(Why.NOT_YET, found, body)
    if not 0 < body.expires_ns - body.issued_ns <= MAX_LIFE_S * NS_PER_S:
        life_s = (body.expires_ns - body.issued_ns) / NS_PER_S
        found = f"expected it to expire within {MAX_LIFE_S:g} s of its issue, found {life_s:,.1f} s"
        return Refused(Why.LIVES_TOO_LONG, found, body)
    if body.command_id in seen:
        return Refused(Why.REPEATED, f"expected a new id, found {body.command_id} once more", body)
    return still_good(body, now_ns) or _unconfirmed(body) or body


def _unconfirmed(body: CommandBody) -> Refused | None:
    """Return the refusal of what leaves a book unhedged if it does not name the vault once more."""
    if body.action != OperatorAction.FLATTEN or body.arguments.confirm == body.vault:
        return None
    found = (
        f"expected confirm to be {body.vault}, as flatten leaves its book unhedged, found {body.arguments.confirm!r}"
    )
    return Refused(Why.NOT_CONFIRMED, found, body)


def _decoded(payload: bytes) -> SignedCommand:
    try:
        signed = _envelope.decode(payload)
        _refuse_repeats(payload.decode())
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _MalformedError(f"the envelope: {error}") from None
    return signed


def _decoded_body(text: str) -> CommandBody:
    try:
        body = _body.decode(text)
        _refuse_repeats(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _MalformedError(f"the command: {error}") from None
    if (fault := _fault(body)) is not None:
        raise _MalformedError(f"the command: {fault}")
    return body


def _signature(text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError as error:
        raise _MalformedError(f"the signature: expected base64, found {error}") from None


def _refuse_repeats(text: str) -> None:
    """Raise ValueError if an object has a key twice: two readers might believe different ones of them.

    The text was decoded as flat types before, so that it nests no deeper than they do.
    """

    def refuse(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            raise ValueError("a key is there twice")
        return dict(pairs)

    json.loads(text, object_pairs_hook=refuse)


def _fault(body: CommandBody) -> str | None:
    """Return what is wrong with a command's form, None if nothing is."""
    shapes = (
        ("command_id", _ID, body.command_id),
        ("vault", _VAULT, body.vault),
        ("issuer", _ISSUER, body.issuer),
        ("underlying", _UNDERLYING, body.arguments.underlying),
        ("confirm", _WORD, body.arguments.confirm),
        ("alert_id", _WORD, body.arguments.alert_id),
    )
    for name, shape, value in shapes:
        if shape.fullmatch(value) is None:
            return f"expected {name} to be {shape.pattern}, found {value!r}"
    if body.action not in ACTIONS:
        return f"expected an action of {', '.join(ACTIONS)}, found {body.action!r}"
    if not body.reason.strip() or len(body.reason) > MAX_REASON_CHARS:
        return f"expected a reason of 1 to {MAX_REASON_CHARS} characters, found {len(body.reason)}"
    if any(unicodedata.category(c) in _UNSEEN for c in body.reason):
        return "expected a reason in characters that can be seen, found another"
    if not (0 < body.issued_ns < MAX_TS_NS and 0 < body.expires_ns < MAX_TS_NS):
        return "expected issued_ns and expires_ns in nanoseconds since 1970, found other numbers"
    return _arguments_fault(body.action, body.arguments)


def _arguments_fault(action: str, given: Arguments) -> str | None:
    """Return what is wrong with what an action is given: what it does not need may not be there."""
    for name in ("target_base", "low_base", "high_base"):
        value: float | None = getattr(given, name)
        if value is not None and not (math.isfinite(value) and abs(value) <= MAX_QUANTITY_BASE):
            return f"expected {name} to be at most {MAX_QUANTITY_BASE:g} in size, found {value!r}"
    if action in _ABOUT_ONE and not given.underlying:
        return f"expected an underlying for {action}, found none"
    if action == OperatorAction.SET_BAND and (given.low_base is None) != (given.high_base is None):
        return "expected both ends of a band, or neither to give it back to the policy, found one"
    if given.low_base is not None and given.high_base is not None and given.low_base >= given.high_base:
        return "expected low_base below high_base, found it above"
    if action == ACKNOWLEDGE and not given.alert_id:
        return "expected the alert_id to acknowledge, found none"
    needless = {
        "underlying": action not in _ABOUT_SOME and given.underlying != "",
        "target_base": action != OperatorAction.SET_TARGET and given.target_base is not None,
        "low_base": action != OperatorAction.SET_BAND and given.low_base is not None,
        "high_base": action != OperatorAction.SET_BAND and given.high_base is not None,
        "confirm": action not in (RELOAD, OperatorAction.FLATTEN) and given.confirm != "",
        "alert_id": action != ACKNOWLEDGE and given.alert_id != "",
    }
    if found := [name for name, is_given in needless.items() if is_given]:
        return f"expected nothing for {action} that it does not need, found {', '.join(found)}"
    return None
