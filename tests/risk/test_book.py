"""A risk book: rows of positions, cut by account and underlying."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.book import OPTION, PERPETUAL, Position, build_book

SPOT = {"BTC": 60_000.0, "ETH": 3_000.0}
CALL = Position(
    kind=OPTION, underlying="BTC", qty_base=-2.0, instrument_id="C", account="a", strike_px=65_000.0,
    tau_years=30 / 365, vol=0.5, is_call=True,
)  # fmt: skip
PERP = Position(kind=PERPETUAL, underlying="ETH", qty_base=10.0, instrument_id="P", account="b", mark_px=3_001.0)


def test_what_is_not_told_of_an_option_is_its_black_value() -> None:
    book = build_book([CALL, PERP], SPOT)
    assert book.mark_px[0] == pytest.approx(1612.5228, abs=1e-3)
    assert book.mark_px[1] == 3_001.0
    assert book.forward_px.tolist() == [60_000.0, 3_000.0]


def test_rows_are_cut_by_account_and_by_underlying() -> None:
    book = build_book([CALL, PERP], SPOT)
    assert book.of_account("a").instrument_ids == ("C",)
    assert book.of_underlying("ETH").instrument_ids == ("P",)
    assert len(book.of_account("nobody")) == 0
    assert [rows.tolist() for rows in book.rows_by_account] == [[0], [1], []]
    assert book.of_account("a") is book.of_account("a")
    dearer = msgspec.structs.replace(book, mark_px=2.0 * book.mark_px)
    assert dearer.of_account("a").mark_px.tolist() == [2.0 * book.mark_px[0]]
    whole = book.of_account("a")
    assert whole.of_account("a") is whole
    assert book.where(np.array([1, 0])).instrument_ids == ("P", "C")
    assert book.of_underlying("ETH").spot_of_row_px.tolist() == [3_000.0]


def test_what_lacks_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="spot price of SOL"):
        build_book([Position(kind=PERPETUAL, underlying="SOL", qty_base=1.0)], SPOT)
    with pytest.raises(ValueError, match="strike, time and vol"):
        build_book([Position(kind=OPTION, underlying="BTC", qty_base=1.0)], SPOT)
