"""What is printed of risk: every figure where people look for it, and no table wider than a terminal of 100."""

from __future__ import annotations

import io
from collections.abc import Callable
from math import inf, nan

import msgspec
import pytest
from rich.console import Console

from bot.risk.breakers import Breaker, Tripped
from bot.runtime.configuration.risk_classes import applying
from bot.runtime.risk import tables as risk_tables
from bot.runtime.risk.collateral import build_collateral
from bot.runtime.risk.snapshot import Told
from bot.runtime.risk.stress import build_stress
from bot.runtime.risk.view import build_view
from bot.runtime.risk.what_if import Order, build_what_if
from tests.runtime.risk.test_collateral import posed, problem
from tests.runtime.risk.test_view import forecast
from tests.runtime.risk_snapshots import account, accounts, risky_vault, snapshot
from tests.runtime.vault_files import START_NS

Printer = Callable[[Console], None]


def printed(show: Printer) -> str:
    console = Console(file=io.StringIO(), soft_wrap=True, markup=False, highlight=False, width=100)
    show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows(text: str, name: str) -> list[list[str]]:
    found = [line.strip("│ \n").split("│") for line in text.splitlines() if line.startswith(f"│ {name}")]
    return [[cell.strip() for cell in row] for row in found]


SHOWN: dict[str, Printer] = {
    "view": lambda console: risk_tables.print_view(
        console, build_view(accounts(forecasts={"ETH": (forecast(1.0, 0.5), forecast(168.0, 0.6))}))
    ),
    "stress": lambda console: risk_tables.print_stress(console, build_stress(accounts())),
    "collateral": lambda console: risk_tables.print_collateral(console, build_collateral(posed(problem(16_000.0)))),
    "what-if": lambda console: risk_tables.print_what_if(console, build_what_if(accounts(), Order("PERP", -3.0))),
}


@pytest.mark.parametrize("name", SHOWN)
def test_tables_fit_a_hundred_columns(name: str) -> None:
    text = printed(SHOWN[name])
    assert max(len(line) for line in text.splitlines() if line[:1] in "┏┃┡│├└") <= 100


def test_margin_is_in_its_row_and_says_whose_it_is() -> None:
    view = build_view(accounts())
    text = printed(lambda console: risk_tables.print_view(console, view))
    line = view.margin[0]
    (margin, distance, buffer, party) = rows(text, "deribit")
    heads = next(line for line in text.splitlines() if "maint." in line)
    assert [one.strip() for one in heads.strip("┃ ").split("┃")][2:5] == ["equity", "initial", "maint."]
    assert len(margin) == heads.count("┃") - 1
    assert margin[2:5] == [f"{round(x):,}" for x in (line.equity_quote, line.initial_quote, line.maintenance_quote)]
    assert distance[1] == "ETH"
    assert buffer[1] == f"{view.buffers[0].ratio:,.2f}"
    assert party[1] == "56,000"
    assert "raised by 25% as the venue does not tell" in text
    assert "breakers: nobody watches them here" in text


def test_dollars_posted_are_no_delta() -> None:
    view = build_stress(accounts())
    text = printed(lambda console: risk_tables.print_stress(console, view))
    (row,) = rows(text, "2026-02-05")
    assert row[3] == f"{round(view.scenarios[-1].result.greeks['ETH'].delta_quote):+,}"


def test_what_is_wrong_stands_out() -> None:
    local = accounts().of["deribit"].local
    told = Told(50_000.0, 20_000.0, 15_000.0, local.initial, local.maintenance, START_NS)
    bad = account("deribit", "house", told=told, state="act", banned="score 40", degraded=("USDe has no price",))
    lost = account("hyperliquid", "hyperliquid", unknown="no marks", equity_quote=nan)
    tripped = (Tripped(Breaker.MOVE, "ETH", START_NS, START_NS, "ETH moved +6.0% in 1 min, limit 5%"),)
    found = accounts(accounts=(bad, lost), positions=snapshot().positions[:1], breakers=tripped, notes=("half of it",))
    text = printed(lambda console: risk_tables.print_view(console, build_view(found)))
    assert rows(text, "deribit")[0][-1] == "ACT"
    for words in (
        "as the venue tells; the model says",
        "nothing is added there: score 40",
        "DEGRADED: USDe has no price",
        "hyperliquid: NOT KNOWN: no marks",
        "breaker move: ETH moved +6.0% in 1 min, limit 5%",
        "note: half of it",
    ):
        assert words in text


def test_a_shortfall_is_the_worst_of_its_moments_and_not_their_sum() -> None:
    view = build_collateral(posed(problem(80_000.0, horizons_s=(0.0, 900.0, 3600.0))))
    text = printed(lambda console: risk_tables.print_collateral(console, view))
    worst = {
        one.venue: max(v.short_quote for v in view.plan.violations if v.venue == one.venue)
        for one in view.plan.violations
    }
    assert f"SHORT by {round(sum(worst.values())):,}" in text
    assert len(view.plan.violations) > len(worst)


def test_an_order_ends_with_who_would_refuse_it() -> None:
    view = build_what_if(accounts(), Order("PERP", -3.0))
    assert printed(lambda console: risk_tables.print_what_if(console, view)).endswith("no limit would refuse it\n")
    asked = msgspec.structs.replace(view, venue_silent="no key")
    assert "hyperliquid was not asked what it would ask for: no key" in printed(
        lambda console: risk_tables.print_what_if(console, asked)
    )


def test_an_account_that_an_order_would_end_dies_now() -> None:
    view = build_what_if(accounts(), Order("CALL", -1_000.0))
    text = printed(lambda console: risk_tables.print_what_if(console, view))
    assert rows(text, "deribit dies, ETH")[0][2] == "now"
    assert "REFUSED by margin_limit" in text


def test_values_of_a_vault_are_told_apart_from_those_of_the_set() -> None:
    (one,) = applying(risky_vault(asset_classes={"assets": {"ETH": {"fallback_vol": 1.2}}}), ["ETH"])
    head, *lines = risk_tables.applies_lines(one)
    assert head.startswith("ETH: class major (")
    assert "  asset ETH of the vault: fallback_vol 1.2" in lines
    assert sum("fallback_vol" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("amount", "said"), [(1234.5, "1,234"), (-0.2, "0"), (nan, "unknown"), (inf, "∞"), (-inf, "-∞")]
)
def test_money_is_whole(amount: float, said: str) -> None:
    assert risk_tables.money(amount) == said


def test_small_chances_are_below_a_limit() -> None:
    assert [risk_tables.chance(one) for one in (0.0, 9e-5, 0.012, nan)] == ["< 0.01 %", "< 0.01 %", "1.20%", "unknown"]
