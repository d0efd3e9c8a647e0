"""The registry: models by name, parameters that are wrong, books with gaps, and what is assumed then."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bot.risk.book import Position, RiskBook, build_book
from bot.risk.gaps import find_fault
from bot.risk.margin.registry import MODELS, assume_worst, decode_values, evaluate, evaluate_or_assume
from bot.risk.parameters import decode_parameters
from tests.risk.legs import SETS, book_of, option, perpetual, values_of

BOOK = book_of([perpetual(2.0), option(-1.0, 70_000.0)], 60_000.0)
HOUSE = values_of("house-2026-11-26")
SETS_OF_MODELS = [path for path in sorted(SETS.glob("*.json")) if decode_parameters(path.read_bytes()).model in MODELS]


@pytest.mark.parametrize("path", SETS_OF_MODELS, ids=lambda path: path.stem)
def test_every_carried_parameter_set_of_a_model_decodes_and_names_its_source(path: Path) -> None:
    found = decode_parameters(path.read_bytes())
    assert isinstance(decode_values(found.model, found.values), MODELS[found.model].parameters)
    assert len(found.source) > 20


def test_a_model_is_asked_by_name() -> None:
    found = evaluate("house", BOOK, HOUSE)
    assert found.model == "house"
    assert found.initial > 0.0
    with pytest.raises(ValueError, match=r"margin models .*house.*, found 'hous'"):
        evaluate("hous", BOOK, HOUSE)


def test_missing_and_wrong_parameters_are_named() -> None:
    short = {name: value for name, value in HOUSE.items() if name != "mm_factor"}
    with pytest.raises(ValueError, match=r"parameters of margin model house, found .*mm_factor"):
        evaluate("house", BOOK, short)
    with pytest.raises(ValueError, match="buckets"):
        evaluate("house", BOOK, HOUSE | {"buckets": "four"})


def with_column(name: str, row: int, value: float) -> RiskBook:
    column = getattr(BOOK, name).copy()
    column[row] = value
    return msgspec.structs.replace(BOOK, **{name: column})


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [("mark_px", 0, nan), ("forward_px", 1, inf), ("qty_base", 0, nan), ("vol", 1, nan), ("forward_px", 0, 0.0)],
)
def test_a_gap_in_the_book_is_named_and_the_whole_value_is_assumed(name: str, row: int, value: float) -> None:
    book = with_column(name, row, value)
    assert name in find_fault(book)
    with pytest.raises(ValueError, match=name):
        evaluate("house", book, HOUSE)
    assumed = evaluate_or_assume("house", book, HOUSE)
    assert assumed.model == "assumed"
    assert name in assumed.charges[0].detail
    assert assumed.maintenance > evaluate("house", BOOK, HOUSE).maintenance


def test_the_worst_is_the_whole_value_and_for_a_short_option_spot_beside_it() -> None:
    mark = float(BOOK.mark_px[1])
    assert assume_worst(BOOK, "why").initial == pytest.approx(2.0 * 60_000.0 + mark + 60_000.0)
    nothing_known = msgspec.structs.replace(BOOK, spot_px=np.array([nan]), mark_px=np.array([nan, nan]))
    assert assume_worst(nothing_known, "why").initial == inf
    flat = build_book([Position(kind=1, underlying="BTC", qty_base=0.0)], {"BTC": 60_000.0})
    assert assume_worst(flat, "why").initial == 0.0
    assert evaluate_or_assume("house", BOOK, HOUSE) == evaluate("house", BOOK, HOUSE)


def test_the_worst_of_what_is_on_order_of_a_sold_put_and_of_what_is_no_number() -> None:
    def worst(leg: dict[str, object], **columns: float) -> float:
        book = book_of([leg], 60_000.0)
        return assume_worst(msgspec.structs.replace(book, **{k: np.array([v]) for k, v in columns.items()}), "").initial

    assert worst(perpetual(1.0), buy_base=nan) == inf
    assert worst(perpetual(0.0), sell_base=nan) == inf
    assert worst(perpetual(1.0), buy_base=-1.0) == 120_000.0
    assert worst(option(1.0, 70_000.0), sell_base=10.0) >= 10.0 * 60_000.0  # filled, nine of them are sold
    assert worst(option(-1.0, 600_000.0, call=False), mark_px=nan) >= 600_000.0  # a put loses up to its strike
    assert worst(option(0.0, 600_000.0, call=False)) == 0.0
