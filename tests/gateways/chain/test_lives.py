"""A transaction's life is what its rows say, whether they are being written or read."""

from __future__ import annotations

import pytest

from bot.domain.errors import InvariantBroken
from bot.domain.orders import GasBid
from bot.gateways.chain.lives import Life, Row, fold
from bot.gateways.chain.nouns import Amounts, Receipt, TransactionRequest, TransactionState

S = TransactionState
REQUEST = TransactionRequest("o1", "local:A", "0xaa", b"\1", 5, 60_000, GasBid(10, 1, 0.5, 0))
RECEIPT = Receipt("0x01", 12, "0xb12", True, 50_000, 9, ())


def row(state: TransactionState, **changes: object) -> Row:
    fields = {"ts_ns": 1, "key": "o1", "instrument_id": "local:A", "nonce": 3, "head_number": 10, **changes}
    if state is S.RESERVED:
        fields.setdefault("request", REQUEST)
    if state is S.SIGNED:
        fields = {"tx_hash": "0x01", "raw": b"\2", "max_fee_wei": 10, "tip_wei": 1} | fields
    return Row(state=state, **fields)  # type: ignore[arg-type]


def life(*rows: Row) -> Life:
    return fold((row(S.RESERVED), *rows))["o1"]


def test_from_a_nonce_to_the_end() -> None:
    one = life()
    assert (one.state, one.nonce, one.is_live, one.is_signed, one.is_over) == (S.RESERVED, 3, True, False, False)
    one.apply(row(S.SIGNED))
    assert (one.state, one.is_signed, one.attempts[0].sent_number) == (S.SIGNED, True, -1)
    one.apply(row(S.SENT, tx_hash="0x01", head_number=11))
    one.apply(row(S.SENT, tx_hash="0x01", head_number=13))
    assert (one.state, one.attempts[0].signed_number, one.attempts[0].sent_number) == (S.SENT, 10, 11)
    one.apply(row(S.MINED, tx_hash="0x01", receipt=RECEIPT, block_number=12, delay_ns=7))
    assert (one.state, one.receipt, one.settled_number, one.delay_ns, one.is_live) == (S.MINED, RECEIPT, 12, 7, False)
    one.apply(row(S.MINED, amounts=Amounts(1, -2)))
    assert (one.state, one.receipt, one.amounts) == (S.MINED, RECEIPT, Amounts(1, -2))
    one.apply(row(S.FINAL))
    assert (one.state, one.outcome, one.receipt, one.is_over) == (S.FINAL, S.MINED, RECEIPT, True)


def test_a_version_that_is_only_signed_does_not_unsend_the_one_before() -> None:
    one = life(row(S.SIGNED), row(S.SENT, tx_hash="0x01"), row(S.SIGNED, tx_hash="0x02", is_cancel=True))
    assert one.state is S.SENT
    assert one.is_canceling
    assert [attempt.tx_hash for attempt in one.attempts] == ["0x01", "0x02"]
    assert one.attempt_of("0x02") is one.attempts[1]
    assert one.attempt_of("0x03") is None


def test_a_reorg_takes_everything_back() -> None:
    one = life(
        row(S.SIGNED),
        row(S.MINED, tx_hash="0x01", receipt=RECEIPT, block_number=12),
        row(S.MINED, amounts=Amounts(1, -2)),
        row(S.SENT, tx_hash="0x01", is_reversed=True),
    )
    assert (one.state, one.receipt, one.amounts, one.is_live) == (S.SENT, None, None, True)


def test_what_no_node_took_is_over_and_what_a_cancel_replaced_is_not() -> None:
    withdrawn = life(row(S.SIGNED), row(S.CANCELED))
    assert withdrawn.is_withdrawn
    assert withdrawn.is_over
    canceled = life(row(S.SIGNED), row(S.CANCELED, receipt=RECEIPT))
    assert not canceled.is_withdrawn
    assert not canceled.is_over


def test_what_it_can_still_cost() -> None:
    one = life()
    assert one.max_cost_wei == 60_000 * 10 + 5
    one.apply(row(S.SIGNED, max_fee_wei=30))
    assert one.max_cost_wei == 60_000 * 30 + 5
    one.apply(row(S.FAILED, receipt=RECEIPT))
    assert one.max_cost_wei == 0


def test_a_log_that_does_not_begin_at_the_beginning_is_refused() -> None:
    with pytest.raises(InvariantBroken, match="begin with its request"):
        fold([row(S.SENT)])
