"""What errors mean: every class of ccxt has its meaning, and whatever has none is unknown."""

from __future__ import annotations

import inspect
import socket

import aiohttp
import ccxt
import pytest
from ccxt.base import errors

from bot.gateways.outcomes import MEANING, Outcome, hide, is_ban, outcome_of, text_of

EVERY_CLASS = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, ccxt.BaseError)]


@pytest.mark.parametrize("kind", EVERY_CLASS, ids=lambda kind: kind.__name__)
def test_every_class_of_ccxt_means_something_and_only_clear_words_are_a_no(kind: type[ccxt.BaseError]) -> None:
    meaning = outcome_of(kind("said"))
    assert isinstance(meaning, Outcome)
    if issubclass(kind, ccxt.OperationFailed) and meaning is not Outcome.UNKNOWN:
        assert kind in {ccxt.RateLimitExceeded, ccxt.DDoSProtection, ccxt.InvalidNonce}


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ccxt.InsufficientFunds(), Outcome.REJECTED),
        (ccxt.OrderImmediatelyFillable(), Outcome.REJECTED),
        (ccxt.OrderNotFillable(), Outcome.REJECTED),
        (ccxt.BadSymbol(), Outcome.REJECTED),
        (ccxt.RequestTimeout(), Outcome.UNKNOWN),
        (ccxt.ExchangeNotAvailable(), Outcome.UNKNOWN),
        (ccxt.OnMaintenance(), Outcome.UNKNOWN),
        (ccxt.ExchangeError(), Outcome.UNKNOWN),
        (ccxt.NullResponse(), Outcome.UNKNOWN),
        (ccxt.DuplicateOrderId(), Outcome.UNKNOWN),
        (ccxt.OrderNotFound(), Outcome.UNKNOWN),
        (ccxt.ChecksumError(), Outcome.UNKNOWN),
        (ccxt.RateLimitExceeded(), Outcome.RETRYABLE),
        (ccxt.AuthenticationError(), Outcome.FATAL),
        (ccxt.PermissionDenied(), Outcome.FATAL),
        (ccxt.AccountSuspended(), Outcome.FATAL),
        (ccxt.InvalidNonce(), Outcome.FATAL),
        (TypeError("'NoneType' object is not subscriptable"), Outcome.UNKNOWN),
        (KeyError("orderId"), Outcome.UNKNOWN),
        (type("Invented", (Exception,), {})(), Outcome.UNKNOWN),
        (type("Newer", (ccxt.InvalidOrder,), {})(), Outcome.REJECTED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_meaning_of_errors(error: Exception, meaning: Outcome) -> None:
    assert outcome_of(error) is meaning


@pytest.mark.parametrize("cause", [socket.gaierror(-2, "no such host"), aiohttp.ConnectionTimeoutError("slow")])
def test_what_never_got_a_connection_was_not_sent(cause: Exception) -> None:
    error = ccxt.ExchangeNotAvailable("deribit GET")
    error.__cause__ = cause
    assert outcome_of(error) is Outcome.RETRYABLE


def test_an_error_that_was_merely_being_handled_proves_nothing() -> None:
    error = ccxt.ExchangeNotAvailable("deribit GET")
    error.__context__ = socket.gaierror(-2, "no such host")
    assert outcome_of(error) is Outcome.UNKNOWN


def test_what_provably_did_not_leave_is_not_unknown() -> None:
    assert outcome_of(ccxt.NetworkError(), may_have_left=False) is Outcome.RETRYABLE
    assert outcome_of(TypeError("ccxt's own"), may_have_left=False) is Outcome.REJECTED
    assert outcome_of(ccxt.AuthenticationError(), may_have_left=False) is Outcome.FATAL


def test_the_default_is_unknown() -> None:
    assert MEANING[BaseException] is Outcome.UNKNOWN
    assert outcome_of(RuntimeError()) is Outcome.UNKNOWN


def test_a_ban_is_told_from_a_limit() -> None:
    assert is_ban(ccxt.DDoSProtection("binanceusdm 418 I'm a teapot {}"))
    assert not is_ban(ccxt.DDoSProtection("binanceusdm 429 Too Many Requests {}"))
    assert not is_ban(ccxt.InvalidOrder("order 418"))


def test_an_error_is_one_line() -> None:
    assert text_of(ccxt.InvalidOrder("a\n  b")) == "InvalidOrder: a b"
    assert text_of(TimeoutError()) == "TimeoutError"
    assert len(text_of(ccxt.InvalidOrder("x" * 999))) == 200


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'deribit {"jsonrpc":"2.0","error":{"code":13004,"message":"invalid_credentials"},"usIn":1}',
            "deribit invalid_credentials (13004)",
        ),
        (
            'deribit {"error":{"code":13009,"message":"unauthorized","data":{"reason":"bad_timestamp"}}}',
            "deribit unauthorized (13009): bad_timestamp",
        ),
        ('binanceusdm {"code":-2015,"msg":"Invalid API-key."}', "binanceusdm Invalid API-key. (-2015)"),
        ('okx {"code":"1","data":[{"sCode":"51000"}]}', 'okx {"code":"1","data":[{"sCode":"51000"}]}'),
        ("hyperliquid {not json", "hyperliquid {not json"),
    ],
)
def test_what_a_venue_says_in_json_is_told_in_its_own_words(said: str, told: str) -> None:
    assert text_of(ccxt.ExchangeError(said)) == f"ExchangeError: {told}"


def test_what_is_shown_of_an_address_ends_before_its_signature() -> None:
    error = ccxt.ExchangeNotAvailable("binance GET https://a.test/api/v1/all?timestamp=1&signature=ab 503 Unavailable")
    assert text_of(error) == "ExchangeNotAvailable: binance GET https://a.test/api/v1/all 503 Unavailable"


def test_a_key_that_a_venue_repeats_is_left_out_before_the_text_is_cut() -> None:
    hide("key-of-qzvx/1", "")
    for said in ("key-of-qzvx/1", "key-of-qzvx%2F1"):
        assert text_of(ccxt.ExchangeError(f"no such key: {said}!")) == "ExchangeError: no such key: ***!"
    assert "qzvx" not in text_of(ccxt.ExchangeError("x" * 180 + "key-of-qzvx/1"))
