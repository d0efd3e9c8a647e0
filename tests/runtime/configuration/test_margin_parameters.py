"""The newest parameter set that holds, the stand-ins where none does, and that each names itself."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.risk.book import PERPETUAL, Position, RiskBook, build_book
from bot.risk.margin.registry import MODELS, decode_values
from bot.risk.parameters import ParameterSet
from bot.runtime.configuration.margin_parameters import carried_sets, find_parameters, read_sets

OKX = carried_sets("okx")[-1]
DAY = OKX.as_of


def book() -> RiskBook:
    return build_book([Position(kind=PERPETUAL, underlying="BTC", qty_base=1.0, money="USDT")], {"BTC": 60_000.0})


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_model_has_a_set_that_it_understands_with_a_source(model: str) -> None:
    found = carried_sets(model)
    assert found, f"expected a parameter set of {model}, found none"
    for one in found:
        assert one.model == model
        decode_values(model, one.values)
        assert "[" in one.source, "a source says how sure each figure is"
        assert one.expires is None or one.expires - one.as_of <= timedelta(days=400)


def test_a_set_of_today_is_taken_as_it_is() -> None:
    found = find_parameters("okx", DAY)
    assert (found.parameters, found.factor, found.degraded) == (OKX, 1.0, "")
    assert [charge.name for charge in found.requirement(book()).charges] == ["BTC risk unit"]


def test_deribit_is_not_mistaken_for_its_portfolio_model() -> None:
    assert {one.model for one in carried_sets("deribit")} == {"deribit"}


def test_the_newest_counts_and_of_one_day_the_one_told() -> None:
    mine = msgspec.structs.replace(OKX, name="mine")
    assert find_parameters("okx", DAY, [mine]).parameters.name == "mine"
    older = msgspec.structs.replace(mine, as_of=DAY - timedelta(days=1))
    assert find_parameters("okx", DAY, [older]).parameters.name == OKX.name
    other = msgspec.structs.replace(mine, model="bybit", as_of=DAY)
    assert find_parameters("okx", DAY, [other]).parameters.name == OKX.name


def test_an_expired_set_stands_in_with_a_quarter_more_and_says_so() -> None:
    assert OKX.expires is not None
    before, after = find_parameters("okx", OKX.expires - timedelta(days=1)), find_parameters("okx", OKX.expires)
    assert before.degraded == ""
    assert after.factor == 1.25
    assert after.degraded == f"parameters of okx of {OKX.as_of} expired on {OKX.expires}: × 1.25"
    assert after.requirement(book()).initial == pytest.approx(1.25 * before.requirement(book()).initial)
    assert after.requirement(book()).charge("degraded").detail == after.degraded


def test_without_any_set_the_house_model_stands_in_with_half_more() -> None:
    long_ago = date(2020, 1, 1)
    house = msgspec.structs.replace(carried_sets("house")[-1], as_of=date(2019, 1, 1), expires=None)
    found = find_parameters("okx", long_ago, [house])
    assert (found.parameters.model, found.factor) == ("house", 1.5)
    assert found.degraded == f"no parameters of okx of 2020-01-01 or before, only some from {DAY} on: house model × 1.5"
    assert found.requirement(book()).initial == pytest.approx(
        1.5 * find_parameters("house", long_ago, [house]).requirement(book()).initial
    )
    stale = msgspec.structs.replace(house, expires=date(2019, 6, 1))
    twice = find_parameters("okx", long_ago, [stale])
    assert twice.factor == pytest.approx(1.5 * 1.25)
    assert "house model × 1.875" in twice.degraded
    assert "expired on 2019-06-01" in twice.degraded


def test_an_unknown_model_is_the_house_model_and_none_at_all_is_an_error() -> None:
    assert find_parameters("nobody", carried_sets("house")[-1].as_of).parameters.model == "house"
    with pytest.raises(ConfigError, match="parameters of the house margin model of 2001-01-01"):
        find_parameters("okx", date(2001, 1, 1))


def test_a_book_that_cannot_be_priced_is_charged_its_whole_value_times_the_factor() -> None:
    assert OKX.expires is not None
    found = find_parameters("okx", OKX.expires).requirement(
        msgspec.structs.replace(book(), mark_px=book().mark_px * float("nan"))
    )
    assert found.initial == pytest.approx(1.25 * 60_000.0)


def test_files_are_read_and_every_broken_one_is_named(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_bytes(msgspec.json.encode(OKX))
    assert read_sets([good]) == [OKX]
    assert isinstance(read_sets([good])[0], ParameterSet)
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        read_sets([good, tmp_path / "bad.json", tmp_path / "none.json"])
    assert "bad.json" in str(refused.value)
    assert "none.json" in str(refused.value)
