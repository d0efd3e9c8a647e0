"""What an error means for the order it answers: refused, unknown, provably not sent, or a matter for a person.

ccxt's tree mixes what a venue said with what never reached it. Whatever is not listed here is UNKNOWN for a request
that changes something: a false UNKNOWN costs a query, a false REJECTED costs an untracked position.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import ccxt


class Outcome(StrEnum):
    """REJECTED is a definitive no; UNKNOWN must be asked; RETRYABLE was provably not done; FATAL needs a person."""

    REJECTED = "rejected"
    UNKNOWN = "unknown"
    RETRYABLE = "retryable"
    FATAL = "fatal"


# Exact classes first: the nearest class of an error's ancestry that is named here decides.
MEANING: Final[dict[type[BaseException], Outcome]] = {
    # the venue answered, and the answer is no
    ccxt.InsufficientFunds: Outcome.REJECTED,
    ccxt.InvalidOrder: Outcome.REJECTED,
    ccxt.OrderImmediatelyFillable: Outcome.REJECTED,
    ccxt.OrderNotFillable: Outcome.REJECTED,
    ccxt.ContractUnavailable: Outcome.REJECTED,
    ccxt.BadRequest: Outcome.REJECTED,
    ccxt.BadSymbol: Outcome.REJECTED,
    ccxt.ArgumentsRequired: Outcome.REJECTED,
    ccxt.NotSupported: Outcome.REJECTED,
    ccxt.OperationRejected: Outcome.REJECTED,
    ccxt.MarketClosed: Outcome.REJECTED,
    ccxt.InvalidProxySettings: Outcome.REJECTED,
    # venues answer these before they carry anything out
    ccxt.RateLimitExceeded: Outcome.RETRYABLE,
    ccxt.DDoSProtection: Outcome.RETRYABLE,
    # a person has to act
    ccxt.AuthenticationError: Outcome.FATAL,
    ccxt.PermissionDenied: Outcome.FATAL,
    ccxt.AccountNotEnabled: Outcome.FATAL,
    ccxt.AccountSuspended: Outcome.FATAL,
    ccxt.RestrictedLocation: Outcome.FATAL,
    ccxt.ManualInteractionNeeded: Outcome.FATAL,
    ccxt.InvalidNonce: Outcome.FATAL,
    # it may have been carried out
    ccxt.OrderNotFound: Outcome.UNKNOWN,  # of a cancel: filled, gone, or not there yet; the truth tells
    ccxt.OrderNotCached: Outcome.UNKNOWN,
    ccxt.DuplicateOrderId: Outcome.UNKNOWN,  # an earlier try arrived after all
    ccxt.NoChange: Outcome.UNKNOWN,
    ccxt.ChecksumError: Outcome.UNKNOWN,
    ccxt.CancelPending: Outcome.UNKNOWN,
    ccxt.NetworkError: Outcome.UNKNOWN,
    ccxt.ExchangeNotAvailable: Outcome.UNKNOWN,
    ccxt.OnMaintenance: Outcome.UNKNOWN,
    ccxt.RequestTimeout: Outcome.UNKNOWN,
    ccxt.BadResponse: Outcome.UNKNOWN,
    ccxt.NullResponse: Outcome.UNKNOWN,
    ccxt.OperationFailed: Outcome.UNKNOWN,
    ccxt.ExchangeClosedByUser: Outcome.UNKNOWN,
    ccxt.ExchangeError: Outcome.UNKNOWN,
    BaseException: Outcome.UNKNOWN,
}
# The connection was never made, whatever ccxt calls it.
_BEFORE_SENDING: Final = (socket.gaierror, aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_BAN: Final = re.compile(r"\b418\b")
_MIN_SECRET_CHARS: Final = 6
_hidden: Final[set[str]] = set()
_QUERY: Final = re.compile(r"(https?://[^\s?]+)\?\S*")


def outcome_of(error: BaseException, *, may_have_left: bool = True) -> Outcome:
    """Return what an error means; `may_have_left` is False only where the request provably never reached a socket."""
    if any(isinstance(cause, _BEFORE_SENDING) for cause in _causes(error)):
        return Outcome.RETRYABLE
    meaning = next(MEANING[kind] for kind in type(error).__mro__ if kind in MEANING)
    if meaning is Outcome.UNKNOWN and not may_have_left:
        return Outcome.RETRYABLE if isinstance(error, ccxt.NetworkError) else Outcome.REJECTED
    return meaning


def is_ban(error: BaseException) -> bool:
    """Tell whether a rate limit was answered with a ban (418): then even cancels make it longer."""
    return isinstance(error, ccxt.DDoSProtection | ccxt.RateLimitExceeded) and bool(_BAN.search(str(error)[:200]))


def text_of(error: BaseException, limit: int = 200) -> str:
    """Return an error in one line: its class, and what it says, without the signed query of the address it names.

    It ends in the journal and so everywhere: a key of ours that a venue repeats is left out (`hide`).
    """
    said = _QUERY.sub(r"\1", " ".join(_without_envelope(str(error)).split()))
    if _hidden:
        said = re.sub("|".join(map(re.escape, sorted(_hidden, key=len, reverse=True))), "***", said)
    return f"{type(error).__name__}: {said}"[:limit] if said else type(error).__name__


def hide(*secrets: str) -> None:
    """Leave these out of every text of an error from now on, also as URLs have them. What is too short is no secret."""
    _hidden.update(form for one in secrets if len(one) >= _MIN_SECRET_CHARS for form in (one, quote(one, safe="")))


def _without_envelope(said: str) -> str:
    """Return what ccxt says of a JSON answer as the venue's own code and words; anything else as it is."""
    who, brace, rest = said.partition("{")
    try:
        body: Any = json.loads(brace + rest)
    except ValueError:
        return said
    error = body.get("error")
    told = error if isinstance(error, dict) else body
    code, words = told.get("code"), told.get("message") or told.get("msg")
    if code is None or not isinstance(words, str):
        return said
    data = told.get("data")
    why = data.get("reason") if isinstance(data, dict) else None
    return f"{who}{words} ({code})" + (f": {why}" if why else "")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__  # what was merely being handled meanwhile proves nothing
