"""What venues call our ids and what they say of money on its way; silence of one that tells no ids proves nothing."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import ccxt
import pytest

from bot.domain.units import NS_PER_S
from bot.gateways.transfer_words import (
    WORDS,
    TransferWords,
    find_deposit,
    find_transfer,
    is_same_amount,
    is_what_left,
    moved_status_of,
    status_of,
    time_of,
    transfer_words_of,
)

ID = "0123456789-T12"
ADDRESS = "0xAbC0000000000000000000000000000000000001"
NOBODY = frozenset[str]()


def row(**fields: Any) -> dict[str, Any]:
    return {"id": "w1", "amount": 99.0, "address": ADDRESS.lower(), "timestamp": 10_000, "info": {}, **fields}


def test_ids_are_letters_and_digits_and_never_too_long() -> None:
    words = transfer_words_of("okx")
    assert words.withdraw_parameters(ID) == {"clientId": "0123456789T12"}
    assert len(words.encode("x" * 99)) == 32
    assert UUID(transfer_words_of("bybit").transfer_parameters(ID)["transferId"])
    assert transfer_words_of("bybit").transfer_parameters(ID) == transfer_words_of("bybit").transfer_parameters(ID)
    assert transfer_words_of("deribit").withdraw_parameters(ID) == {}


@pytest.mark.parametrize("exchange_id", sorted(WORDS))
def test_every_exchange_named_here_is_one_of_ccxt(exchange_id: str) -> None:
    has = getattr(ccxt, exchange_id)().has
    assert has["withdraw"] is True
    assert has["fetchWithdrawals"] is True
    assert has["transfer"] is True


def test_an_id_finds_its_withdrawal_whatever_else_is_alike() -> None:
    words = transfer_words_of("binance")
    ours = row(info={"withdrawOrderId": "0123456789T12"}, amount=5.0)
    assert words.find_withdrawal([row(), ours], ID, ADDRESS, 99.0, 0) is ours
    assert words.find_withdrawal([row()], ID, ADDRESS, 99.0, 0) is None


def test_without_ids_address_amount_and_time_have_to_fit() -> None:
    words = TransferWords()
    assert not words.tells_id
    assert words.find_withdrawal([row()], ID, ADDRESS, 99.0, 10 * NS_PER_S) is not None
    assert words.find_withdrawal([row()], ID, ADDRESS, 98.0, 0) is None
    assert words.find_withdrawal([row()], ID, "0x2", 99.0, 0) is None
    assert words.find_withdrawal([row()], ID, ADDRESS, 99.0, 100 * NS_PER_S) is None  # another's, from before
    net = row(fee={"cost": 1.0})
    assert words.find_withdrawal([net], ID, ADDRESS, 100.0, 0) is net
    assert is_what_left(net, 99.0)


def test_a_deposit_is_known_by_its_transaction_and_only_without_one_by_its_amount() -> None:
    ours, other = row(id="d1", txid="0xAA"), row(id="d2", txid="0xBB")
    assert find_deposit([other, ours], "0xaa", (99.0,), 0, NOBODY) is ours
    assert find_deposit([other], "0xaa", (99.0,), 0, NOBODY) is None
    untold = row(id="d3", txid=None)
    assert find_deposit([untold], "0xaa", (100.0, 99.0), 0, NOBODY) is untold
    assert find_deposit([untold], "0xaa", (99.0,), 0, frozenset({"d3"})) is None  # it is another transfer's
    assert find_deposit([other], "", (99.0,), 0, NOBODY) is other


def test_statuses_amounts_and_times_are_read_carefully() -> None:
    assert [status_of(row(status=said)) for said in ("ok", "failed", "canceled", "pending", None, "odd")] == [
        *("ok", "failed", "canceled"),
        *("pending", "pending", "pending"),
    ]
    assert is_same_amount("1000.000000", 1_000.0)
    assert not is_same_amount(None, 1_000.0)
    assert not is_same_amount("1000.00001", 1_000.0)
    assert time_of(row(updated=20_000), 7) == 20 * NS_PER_S
    assert time_of({}, 7) == 7
    there = ("unified", "funding")
    assert find_transfer([row(amount="7")], 7.0, 0, there) is not None
    assert find_transfer([row(amount="7")], 7.0, 60 * NS_PER_S, there) is None


def test_what_went_back_or_is_anothers_is_not_our_internal_transfer() -> None:
    there, back = ("unified", "funding"), row(amount="7", fromAccount="funding", toAccount="unified")
    ours = row(amount="7", fromAccount="unified", toAccount="funding")
    assert find_transfer([back], 7.0, 0, there) is None
    assert find_transfer([back, ours], 7.0, 0, there) is ours
    anothers = row(amount="7", id="t1")
    assert find_transfer([anothers], 7.0, 0, there, frozenset({"t1"})) is None


def test_the_withdrawal_of_another_transfer_is_not_ours_where_a_venue_tells_no_ids() -> None:
    words, first, second = transfer_words_of("bybit"), row(id="w1"), row(id="w2")
    assert words.find_withdrawal([first, second], ID, ADDRESS, 99.0, 0, frozenset({"w1"})) is second
    assert words.find_withdrawal([first], ID, ADDRESS, 99.0, 0, frozenset({"w1"})) is None


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"id": "1", "status": None, "info": {"tranId": "1"}}, "ok"),  # Binance tells none
        ({"id": "1", "status": "ok", "info": {"transferId": "1", "status": "PENDING"}}, "pending"),  # Bybit: taken
        ({"id": "1", "status": "ok", "info": {"transferId": "1", "status": "STATUS_UNKNOWN"}}, "pending"),
        ({"id": "1", "status": "ok", "info": {"transferId": "1", "status": "SUCCESS"}}, "ok"),
        ({"id": "1", "status": "FAILED", "info": {"status": "FAILED"}}, "failed"),
        ({"id": "1", "status": "failed", "info": {"state": "failed"}}, "failed"),  # OKX
        ({"id": "1", "status": "ok", "info": {"status": "CONFIRMED"}}, "ok"),
    ],
)
def test_an_internal_transfer_that_is_only_taken_up_is_pending(answer: dict[str, Any], status: str) -> None:
    assert moved_status_of(answer) == status
