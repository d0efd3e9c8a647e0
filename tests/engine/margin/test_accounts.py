"""One account: the venue's word, the model's, and what stands in where neither is to be had."""

from __future__ import annotations

from datetime import date
from math import inf, isnan, nan

import msgspec
import pytest

from bot.domain.risk import MarginState, MarginTerms, ReportedMargin
from bot.domain.units import NS_PER_DAY
from bot.domain.venues import AccountReport
from bot.engine.margin.accounts import Figures, MarginAccount, Told, told_of
from bot.engine.margin.risk_settings import RiskSettings
from bot.risk.book import PERPETUAL, Position, build_book
from bot.risk.margin_states import Standing
from bot.risk.requirement import Requirement
from tests.engine.margin_vault import CLASSES, INITIAL_SHARE, PARAMETERS, account

BOOK = build_book([Position(kind=PERPETUAL, underlying="ETH", qty_base=-1.0)], {"ETH": 2000.0})


def known(**changes: object) -> MarginAccount:
    settings = msgspec.structs.replace(account(1e5), **changes)
    return MarginAccount("a", settings, RiskSettings(accounts={"a": settings}))


def test_what_only_the_model_says_is_raised() -> None:
    one = known()
    assert one.reckon_figures(BOOK).initial == pytest.approx(INITIAL_SHARE * 2000.0 * 1.25)
    assert one.reckon_maintenance(BOOK) == pytest.approx(0.8 * INITIAL_SHARE * 2000.0 * 1.25)


def test_from_the_venues_word_changes_are_raised_and_releases_are_not() -> None:
    one = known()
    one.told = Told(5_000.0, Figures(700.0, 500.0), Figures(1_000.0, 800.0), 1)
    assert one.reckon(Figures(1_000.0, 800.0)) == Figures(700.0, 500.0)
    assert one.reckon(Figures(1_100.0, 700.0)) == Figures(pytest.approx(825.0), pytest.approx(400.0))


def test_margin_in_a_coin_is_worth_its_spot() -> None:
    one = known()
    assert one.local(BOOK, Requirement("x", "ETH", 2.0, 1.5)) == Figures(4_000.0, 3_000.0)
    with pytest.raises(ValueError, match="found BTC"):
        one.local(BOOK, Requirement("x", "BTC", 2.0, 1.5))
    with pytest.raises(ValueError, match="to be a number"):
        one.local(BOOK, Requirement("x", "USD", nan, 1.5))


def test_where_the_model_fails_maintenance_is_infinite() -> None:
    one = known()
    one.take_terms(MarginTerms("a", msgspec.json.encode(_broken()).decode(), 1, 1))
    assert one.reckon_maintenance(BOOK) == inf


def _broken() -> object:
    return msgspec.structs.replace(PARAMETERS, values={**PARAMETERS.values, "buckets": 0})


@pytest.mark.parametrize("text", ["", "{}", '{"model": "house"}'])
def test_terms_that_are_none_keep_the_old_ones_and_say_so(text: str) -> None:
    one = known()
    one.take_terms(MarginTerms("a", text, 1, 1))
    assert one.parameters is PARAMETERS
    assert one.doubts()[0].startswith("terms of a cannot be used")
    one.take_terms(MarginTerms("a", msgspec.json.encode(PARAMETERS).decode(), 1, 1))
    assert one.doubts() == []


def test_terms_of_another_model_are_refused() -> None:
    one = known()
    other = msgspec.structs.replace(PARAMETERS, model="span")
    one.take_terms(MarginTerms("a", msgspec.json.encode(other).decode(), 1, 1))
    assert "expected parameters of model house, found span" in one.doubts()[0]


def test_parameters_expire_by_the_day_of_the_events() -> None:
    one = known(parameters=msgspec.structs.replace(PARAMETERS, expires=date(2023, 4, 1)))
    day = (date(2023, 4, 1) - date(1970, 1, 1)).days
    one.note_day(day * NS_PER_DAY - 1)
    assert one.doubts() == []
    one.note_day(day * NS_PER_DAY)
    assert "expired on 2023-04-01: margin raised by 56%" in one.doubts()[0]
    assert one.reckon(Figures(100.0, 80.0)).initial == pytest.approx(156.25)


def test_an_account_may_be_added_to_unless_its_state_or_a_ban_forbids() -> None:
    one = known()
    assert one.may_add
    one.banned = "withdrawals stopped"
    assert not one.may_add
    one.banned = ""
    one.standing = Standing(MarginState.ACT, MarginState.ACT, 0, 0, "")
    assert not one.may_add


def test_only_a_loss_on_options_counts_unless_the_vault_says_otherwise() -> None:
    assert known().counted_options_quote(500.0) == 0.0
    assert known().counted_options_quote(-500.0) == -500.0
    assert known(counts_long_options=True).counted_options_quote(500.0) == 500.0


def test_the_line_of_the_whole_account_goes_before_its_parts() -> None:
    parts = (ReportedMargin("ETH", 10.0, 2.0, 1.0), ReportedMargin("BTC", 20.0, 4.0, 3.0))
    report = AccountReport("a", (), (), {}, 1, 2, parts)
    assert told_of(report) == (30.0, Figures(6.0, 4.0))
    whole = AccountReport("a", (), (), {}, 1, 2, (*parts, ReportedMargin("", 25.0, 5.0, 3.5)))
    assert told_of(whole) == (25.0, Figures(5.0, 3.5))
    assert told_of(AccountReport("a", (), (), {}, 1, 2)) is None
    assert told_of(AccountReport("a", (), (), {}, 1, 2, (ReportedMargin("", nan, 5.0, 3.5),))) is None
    assert isnan(known().initial_ratio)


def test_what_the_vault_says_of_a_haircut_goes_before_its_class_and_else_nothing_is_cut() -> None:
    settings = account(1e5, haircut_share={"ETH": 0.2})
    one = MarginAccount("a", settings, RiskSettings(accounts={"a": settings}, classes=CLASSES))
    assert [one.haircut_share(asset) for asset in ("ETH", "WSTETH", "USD", "NOBODYS")] == [0.2, 0.1, 0.0, 0.3]
    assert known(haircut_share={"ETH": 0.2}).haircut_share("WSTETH") == 0.0
