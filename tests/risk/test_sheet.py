"""A sheet that is kept is what a fresh one would be, asks only what a quote touches, and says what it had to assume."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from bot.risk.book import RiskBook, build_book
from bot.risk.margin.house import HouseParameters, requirements
from bot.risk.netting import NettingParameters
from bot.risk.requirement import Requirement
from bot.risk.sheet import RiskSheet
from bot.risk.stack import BookStack
from tests.risk.legs import option, perpetual, position, values_of

HOUSE = msgspec.convert(values_of("house-2026-11-26"), HouseParameters)
NETTING = msgspec.convert(values_of("netting-2026-11-26"), NettingParameters)
SPOT_PX = {"BTC": 60_000.0, "ETH": 3_000.0}
BOOK = build_book(
    [
        position(perpetual(2.0), "a"),
        position(option(-3.0, 62_000.0), "a"),
        position(perpetual(-1.0), "b"),
        position(option(4.0, 2_800.0, call=False), "b", "ETH"),
        position(perpetual(50.0), "c", "ETH"),
    ],
    SPOT_PX,
)


class Asked:
    """The house model, which remembers for whom it was asked."""

    def __init__(self) -> None:
        self.accounts: list[str] = []

    def of(self, account: str) -> Callable[[BookStack], list[Requirement]]:
        """Return what answers for this account."""

        def answer(stack: BookStack) -> list[Requirement]:
            self.accounts.append(account)
            return requirements(stack, HOUSE)

        return answer


def sheet(book: RiskBook) -> tuple[RiskSheet, Asked]:
    asked = Asked()
    return RiskSheet(book, {name: asked.of(name) for name in "abc"}, NETTING), asked


def test_a_quote_of_one_option_asks_its_account_and_nets_its_underlying_alone() -> None:
    kept, asked = sheet(BOOK)
    assert asked.accounts == ["a", "b", "c"]
    before = kept.netted
    vol = BOOK.vol * np.array([1.0, 1.5, 1.0, 1.0, 1.0])
    quoted = msgspec.structs.replace(BOOK, vol=vol)
    asked.accounts.clear()
    kept.update(quoted, np.array([1]))
    assert asked.accounts == ["a"]
    fresh, _ = sheet(quoted)
    assert kept.requirements == fresh.requirements
    assert kept.netted == fresh.netted
    assert kept.netted.of("BTC") != before.of("BTC")
    assert kept.netted.of("ETH") is before.of("ETH")
    assert kept.netted.correlated != before.correlated
    kept.update(quoted, np.array([], dtype=np.int64))
    assert asked.accounts == ["a"]


def test_a_price_of_an_underlying_asks_all_who_hold_it_and_another_book_is_taken_whole() -> None:
    kept, asked = sheet(BOOK)
    moved = BOOK.underlying == 1
    dearer = msgspec.structs.replace(
        BOOK,
        spot_px=np.array([60_000.0, 3_030.0]),
        forward_px=np.where(moved, 1.01 * BOOK.forward_px, BOOK.forward_px),
        mark_px=np.where(moved, 1.01 * BOOK.mark_px, BOOK.mark_px),
    )
    asked.accounts.clear()
    kept.update(dearer, np.flatnonzero(moved))
    assert asked.accounts == ["b", "c"]
    fresh, _ = sheet(dearer)
    assert kept.requirements == fresh.requirements
    assert kept.netted == fresh.netted
    other = build_book([position(perpetual(1.0), "b")], SPOT_PX)
    kept.update(other, np.array([0]))
    assert list(kept.requirements) == ["b"]
    assert kept.netted.of("BTC").net_base == 1.0


def test_an_account_that_cannot_be_asked_is_asked_for_its_whole_value_with_the_reason() -> None:
    def refuse(_stack: BookStack) -> list[Requirement]:
        raise ValueError("expected parameters, found none")

    gap = msgspec.structs.replace(BOOK, vol=np.where(np.arange(5) == 3, np.nan, BOOK.vol))
    assert np.isnan(gap.vol[3])
    kept = RiskSheet(BOOK, {"a": refuse}, NETTING)
    assert {one.model for one in kept.requirements.values()} == {"assumed"}
    assert kept.requirements["a"].charges[0].detail == "expected parameters, found none"
    assert kept.requirements["c"].charges[0].detail == "no margin model is known of c"
    assert kept.requirements["c"].initial == pytest.approx(150_000.0)
    kept, _ = sheet(BOOK)
    kept.update(gap, np.array([3]))
    assert "vol" in kept.requirements["b"].charges[0].detail
    assert kept.netted.notes == ("ETH row 3 cannot be priced: it is gross, and offsets nothing",)
    assert kept.netted == sheet(gap)[0].netted
    kept.update(BOOK, np.array([3]))
    assert kept.netted == sheet(BOOK)[0].netted
    kept.update(msgspec.structs.replace(BOOK, spot_px=np.array([np.nan, 3_000.0])), np.array([0, 1, 2]))
    assert kept.netted.notes == ("nothing is netted: expected a spot price of BTC, found nan",)


def test_an_order_more_changes_what_all_that_is_kept_is_of() -> None:
    kept, _ = sheet(BOOK)
    ordered = msgspec.structs.replace(BOOK, qty_base=2.0 * BOOK.qty_base, is_call=~BOOK.is_call & BOOK.is_option)
    kept.update(ordered, np.array([3]))
    assert kept.requirements == sheet(ordered)[0].requirements
    assert kept.requirements["a"] != sheet(BOOK)[0].requirements["a"]
