"""Which remedy, which slice: what the rules say, what a search over all sets finds, and what must never be closed."""

from __future__ import annotations

from itertools import product
from math import inf, nan
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.risk.book import OPTION, PERPETUAL, Position, RiskBook, build_book
from bot.risk.deleveraging import (
    FreeMargin,
    Reducible,
    ReductionRule,
    Remedy,
    choose_remedy,
    closing_set,
    measure_slices,
    next_slice,
    watch_ranks,
)

HOUR = 1.0 / 8760.0


def leg(name: str, released: float, slippage: float, qty: float = -10.0, share: float = 0.1, **more: Any) -> Reducible:
    return Reducible(
        instrument_id=name, account="x", qty_base=qty, share=share, released_quote=released, slippage_quote=slippage,
        **more,
    )  # fmt: skip


class TestChoice:
    def test_a_transfer_only_if_it_arrives_in_half_the_time(self) -> None:
        assert choose_remedy(2.01 * HOUR, HOUR, True).remedy is Remedy.TOP_UP
        assert choose_remedy(2.0 * HOUR, HOUR, True).remedy is Remedy.REDUCE
        assert choose_remedy(inf, HOUR, False).remedy is Remedy.REDUCE

    def test_else_the_hedge_goes_where_most_stays_free(self) -> None:
        elsewhere = [
            FreeMargin("a", 900.0, 1_000.0),
            FreeMargin("b", 1_500.0, 1_000.0),
            FreeMargin("c", 1_600.0, 1_200.0),
        ]
        found = choose_remedy(HOUR, HOUR, True, elsewhere)
        assert (found.remedy, found.venue) == (Remedy.HEDGE_THEN_TRANSFER, "b")
        assert found.reason == (
            "1.0 h to breach at 99 %, transfer 1.0 h at 95 %; b has 1,500 free and the hedge needs 1,000"
        )

    def test_without_margin_anywhere_it_is_reduced(self) -> None:
        found = choose_remedy(HOUR, HOUR, True, [FreeMargin("a", 900.0, 1_000.0), FreeMargin("b", nan, 1.0)])
        assert (found.remedy, found.venue) == (Remedy.REDUCE, "")
        assert "at most 900 free" in found.reason

    @pytest.mark.parametrize(("left", "needed"), [(nan, HOUR), (100 * HOUR, nan)])
    def test_times_that_are_not_known_leave_no_time(self, left: float, needed: float) -> None:
        assert choose_remedy(left, needed, True).remedy is Remedy.REDUCE


class TestSlices:
    def test_the_one_that_releases_most_per_dollar(self) -> None:
        found = next_slice([leg("a", 100.0, 10.0), leg("b", 90.0, 5.0, qty=20.0), leg("c", 500.0, 100.0)])
        assert found is not None
        assert found.instrument_id == "b"
        assert [found.trade_base, found.released_quote] == pytest.approx([-2.0, 90.0])
        assert found.reason == "90 of margin for 5 of slippage"

    def test_no_more_than_is_needed(self) -> None:
        found = next_slice([leg("a", 100.0, 10.0)], needed_quote=25.0)
        assert found is not None
        assert [found.trade_base, found.released_quote, found.slippage_quote] == pytest.approx([0.25, 25.0, 2.5])

    @pytest.mark.parametrize(
        "bad", [leg("a", 0.0, 1.0), leg("a", -5.0, 0.0), leg("a", nan, 1.0), leg("a", 9.0, 1.0, qty=0.0)]
    )
    def test_what_releases_nothing_is_never_closed(self, bad: Reducible) -> None:
        assert next_slice([bad]) is None
        assert closing_set([bad], 100.0) == []

    def test_an_unknown_cost_comes_last_and_none_first(self) -> None:
        picked = [
            next_slice([leg("unknown", 100.0, nan), other]) for other in (leg("dear", 1.0, 50.0), leg("free", 1.0, 0.0))
        ]
        assert [one.instrument_id for one in picked if one is not None] == ["dear", "free"]

    def test_what_a_venue_would_take_goes_first_and_the_first_in_the_queue_before_others(self) -> None:
        legs = [
            leg("cheap", 900.0, 1.0, deleverage_rank_share=0.5),
            leg("near", 10.0, 9.0, deleverage_rank_share=0.1),
            leg("next", 10.0, 9.0, deleverage_rank_share=0.02),
        ]
        assert [one.instrument_id for one in watch_ranks(legs)] == ["next", "near"]
        found = next_slice(legs)
        assert found is not None
        assert found.instrument_id == "next"
        assert "2% of x's deleveraging queue stand before it, alarm below 20%" in found.reason

    @given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 1e5)), min_size=1, max_size=6), st.floats(1, 1e7))
    def test_no_slice_is_more_than_a_tenth_nor_adds(self, legs: list[tuple[float, float]], needed: float) -> None:
        found = next_slice([leg(str(n), released, cost) for n, (released, cost) in enumerate(legs)], needed)
        assert found is not None
        assert 0.0 < found.trade_base <= 1.0 + 1e-12
        assert found.released_quote <= needed * (1.0 + 1e-12)

    def test_account_read_again_after_each_the_book_shrinks_until_there_is_enough(self) -> None:
        left, needed = {"a": 10.0, "b": 10.0}, 5_000.0
        order = []
        while needed > 1e-9:
            now = [leg("a", 100.0 * left["a"], 10.0, qty=-left["a"]), leg("b", 80.0 * left["b"], 10.0, qty=-left["b"])]
            picked = next_slice(now, needed)
            assert picked is not None
            left[picked.instrument_id] -= picked.trade_base
            needed -= picked.released_quote
            order.append(picked.instrument_id)
        assert order == ["a", "a", "a", "b", "a", "b", "a"]
        assert left["b"] == pytest.approx(10.0 * 0.9**2)


class TestEmergency:
    def test_the_set_is_the_cheapest_of_all(self) -> None:
        """Against a search over every combination of twentieths of four positions."""
        legs = [leg("a", 40.0, 3.0), leg("b", 25.0, 4.0), leg("c", 10.0, 0.5), leg("d", 60.0, 9.0)]
        needed = 700.0
        found = closing_set(legs, needed)
        assert sum(one.released_quote for one in found) == pytest.approx(needed)
        cost = sum(one.slippage_quote for one in found)
        shares = np.linspace(0.0, 1.0, 21)
        best = min(
            10.0 * sum(s * one.slippage_quote for s, one in zip(tried, legs, strict=True))
            for tried in product(shares, repeat=4)
            if 10.0 * sum(s * one.released_quote for s, one in zip(tried, legs, strict=True)) >= needed
        )
        assert cost <= best + 1e-9
        assert cost >= best - 4.0  # a twentieth of the dearest is as fine as the search looks

    def test_whole_positions_and_no_more(self) -> None:
        found = closing_set([leg("a", 10.0, 1.0), leg("b", 10.0, 2.0)], 1e9)
        assert [one.trade_base for one in found] == pytest.approx([10.0, 10.0])
        assert closing_set([leg("a", 10.0, 1.0)], 0.0) == []


def test_a_model_is_asked_what_each_row_releases_and_the_hedge_of_another_releases_nothing() -> None:
    book = build_book(
        [
            Position(
                kind=OPTION, underlying="ETH", qty_base=-10, strike_px=2000, tau_years=0.1, vol=0.6, is_call=True,
                account="x", instrument_id="call",
            ),
            Position(kind=PERPETUAL, underlying="ETH", qty_base=4.0, account="x", instrument_id="perp"),
        ],
        {"ETH": 2000.0},
    )  # fmt: skip

    def net(one: RiskBook) -> float:
        delta = np.where(one.is_option, 0.5, 1.0) * one.qty_base
        return float(abs(delta.sum()) * 200.0 + 50.0 * -one.qty_base[one.is_option].sum())

    call, perp = measure_slices(book, net, np.array([12.0, 0.3]))
    assert (call.instrument_id, call.account, call.qty_base, call.slippage_quote) == ("call", "x", -10.0, 12.0)
    assert call.released_quote == pytest.approx(0.5 * 200.0 + 50.0)
    assert perp.released_quote == pytest.approx(-0.4 * 200.0)
    found = next_slice([call, perp])
    assert found is not None
    assert found.instrument_id == "call"


@pytest.mark.parametrize(
    "wrong", [{"most_share": 0.2}, {"most_share": 0.0}, {"transfer_margin": 0.5}, {"rank_alarm_share": nan}]
)
def test_rules_that_close_too_much_at_once_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="slices of 10 %"):
        msgspec.structs.replace(ReductionRule(), **wrong)
