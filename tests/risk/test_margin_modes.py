"""Capital apart against together on the three netting cases, and modes that cannot be had."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.risk.book import RiskBook, build_book
from bot.risk.margin.paradex import CrossParameters, PortfolioParameters, cross_requirement, portfolio_requirement
from bot.risk.margin_modes import Mode, compare_capital, compare_modes, isolated
from bot.risk.requirement import Requirement
from tests.risk.legs import book_of, load, option, perpetual, position, values_of

CASES: dict[str, dict[str, Any]] = {one["id"]: one for one in load("netting_cases.json")["cases"]}
PORTFOLIO_PARAMETERS = msgspec.structs.replace(
    msgspec.convert(values_of("paradex_portfolio-2026-11-26"), PortfolioParameters), fee_rate=0.0, funding_8h=0.0
)
CROSS_PARAMETERS = msgspec.structs.replace(
    msgspec.convert(values_of("paradex_cross-2026-11-26"), CrossParameters), fee_rate=0.0
)
PORTFOLIO = Mode("portfolio", lambda book: portfolio_requirement(book, PORTFOLIO_PARAMETERS))
CROSS = Mode("cross", lambda book: cross_requirement(book, CROSS_PARAMETERS))


def cross_of_perpetuals(book: RiskBook) -> Requirement:
    if book.is_option.any():
        raise ValueError("expected perpetuals alone in cross margin, found options")
    return cross_requirement(book, CROSS_PARAMETERS)


def whole(case: dict[str, Any]) -> RiskBook:
    legs = [position(leg, account) for account, held in case["legs"].items() for leg in held]
    return build_book(legs, {"BTC": case["spot"]})


@pytest.mark.parametrize(
    ("name", "saved", "modes"),
    [
        ("N1_short_call_vs_perp", 0.384, ("portfolio", "cross")),
        ("N3_calendar", 0.666, ("portfolio", "portfolio")),
        ("N5_put_hedged", -1.186, ("cross", "portfolio")),
    ],
)
def test_the_netting_cases_save_what_they_should_or_cost_more(name: str, saved: float, modes: tuple[str, str]) -> None:
    case = CASES[name]
    of_each = (Mode("cross", cross_of_perpetuals), PORTFOLIO)
    found = compare_capital(whole(case), {"A": of_each, "B": of_each}, [PORTFOLIO])
    assert found.apart_quote == pytest.approx(case["sum_standalone_best_mode"], rel=1e-9)
    assert found.together.cheapest.initial_quote == pytest.approx(case["combined_im"], rel=1e-9)
    assert found.saved_fraction == pytest.approx(case["saving_pct_vs_best_mode"], rel=1e-9)
    assert found.saved_fraction == pytest.approx(saved, abs=5e-4)
    assert tuple(one.cheapest.mode for one in found.accounts) == modes
    start = "together is cheaper by" if saved > 0.0 else "keep apart, together costs 118.6% more"
    assert found.verdict.startswith(start)


def test_with_options_in_cross_margin_too_the_short_calls_are_cheaper_there_and_less_is_saved() -> None:
    case = CASES["N1_short_call_vs_perp"]
    both = (CROSS, PORTFOLIO)
    found = compare_capital(whole(case), {"A": both, "B": both}, both)
    assert [one.cheapest.mode for one in found.accounts] == ["cross", "cross"]
    assert found.apart_quote == pytest.approx(350_000.0 + 23_870.0)
    assert found.saved_fraction == pytest.approx(1.0 - case["combined_im"] / 373_870.0)
    charged = compare_capital(whole(case), {"A": both, "B": both}, both, charge_quote=found.saved_quote + 1.0)
    assert charged.saved_quote == pytest.approx(-1.0)
    assert charged.verdict.startswith("keep apart")


def test_a_mode_that_refuses_is_told_and_not_chosen_and_without_any_the_whole_value_is_assumed() -> None:
    book = book_of([perpetual(1.0), option(-1.0, 70_000.0)], 60_000.0)
    found = compare_modes("v", book, [Mode("cross", cross_of_perpetuals), PORTFOLIO])
    assert found.cheapest.mode == "portfolio"
    assert found.modes[0].refused == "expected perpetuals alone in cross margin, found options"
    assert found.modes[0].initial_quote == float("inf")
    none = compare_modes("v", book, [Mode("cross", cross_of_perpetuals)])
    assert none.cheapest.mode == "assumed"
    assert none.cheapest.refused == "cross: expected perpetuals alone in cross margin, found options"
    assert none.cheapest.initial_quote > 120_000.0
    assert compare_modes("v", book, []).cheapest.refused == "no margin mode is known"


def test_isolated_adds_up_what_every_position_needs_alone_and_coins_are_turned_into_quote() -> None:
    book = book_of([perpetual(1.0), perpetual(-1.0)], 60_000.0)
    alone = isolated("isolated", lambda one: portfolio_requirement(one, PORTFOLIO_PARAMETERS))
    found = compare_modes("v", book, [alone, PORTFOLIO])
    assert found.modes[0].initial_quote == pytest.approx(2.0 * 0.16 * 60_000.0)
    assert found.cheapest.initial_quote == pytest.approx(0.01 * 60_000.0)
    in_coin = Mode("coin", lambda _: Requirement("x", "BTC", 0.5, 0.25), unit_px=60_000.0)
    assert compare_modes("v", book, [in_coin]).cheapest.maintenance_quote == pytest.approx(15_000.0)
    assert compare_modes("v", book_of([], 60_000.0), [alone]).cheapest.initial_quote == 0.0
