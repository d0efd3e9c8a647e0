"""End to end on a local chain: LP position and short calls stay in their band through a move of 10 %, three ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.chain_rehearsal import HEDGES, books_of, find_wrong, rehearse


@pytest.mark.parametrize("hedge", HEDGES)
async def test_a_move_of_a_tenth_stays_in_the_band_and_reconciles_with_the_chain(hedge: str, tmp_path: Path) -> None:
    outcome = await rehearse(hedge, tmp_path, block_s=12, steps=5, is_by_hand=True)
    assert find_wrong(outcome) == []
    books = books_of(outcome)
    assert books.gas_chain_wei > 0
    assert outcome.rows[-1].px == pytest.approx(3_300.0)
    assert len(outcome.fills) >= 3  # the first hedge, and some that follow the price
    assert outcome.chain_lots < -20_000
    assert (books.interest_wei > 0) == (hedge == "borrow")
    assert (books.fees_wei > 0) == (hedge == "perp")
    assert (books.funding_wei != 0) == (hedge == "perp")
