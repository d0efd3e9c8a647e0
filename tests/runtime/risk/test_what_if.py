"""What an order would do: its figures are those of the book it makes, and what would refuse it is named."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.domain.risk import ReportedMargin, SupposedMargin
from bot.risk.breakers import Breaker, Tripped
from bot.risk.margin.registry import evaluate
from bot.runtime.risk.what_if import Order, WhatIf, build_what_if, parse_order, room_of
from tests.runtime.risk_snapshots import (
    CALL,
    MARK_PX,
    PERP,
    SPOT_PX,
    account,
    accounts,
    risky_vault,
    snapshot,
    tradable,
    values_of,
)
from tests.runtime.vault_files import START_NS


def ask(instrument: str, qty_base: float, **changes: Any) -> WhatIf:
    return build_what_if(accounts(**changes), Order(instrument, qty_base))


def rules(view: WhatIf) -> list[str]:
    return [one.rule for one in view.refusals]


@pytest.mark.parametrize(
    ("words", "qty_base"),
    [
        (["buy 10 BTC-PERPETUAL"], 10.0),
        (["buy", "10", "BTC-PERPETUAL"], 10.0),
        (["SELL", "0.5", "BTC-PERPETUAL"], -0.5),
        (["-5 BTC-PERPETUAL"], -5.0),
        (["5", "BTC-PERPETUAL"], 5.0),
    ],
)
def test_an_order_reads_as_it_is_said(words: list[str], qty_base: float) -> None:
    assert parse_order(words) == Order("BTC-PERPETUAL", qty_base)


@pytest.mark.parametrize(
    "words", [[], ["buy"], ["buy", "BTC-PERPETUAL"], ["sell -5 BTC-PERPETUAL"], ["0 X"], ["nan X"], ["buy 1 X Y"]]
)
def test_what_is_no_order_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="ORDER: expected a quantity and an instrument"):
        parse_order(words)


def test_buying_back_releases_margin_and_moves_the_end_away() -> None:
    view = ask("PERP", 4.0)
    before, after = view.before.margin[1], view.after.margin[1]
    assert after.initial_quote == pytest.approx(0.6 * before.initial_quote)
    assert after.equity_quote == 5_000.0 - 4.0
    assert view.after.distances[1].distance.up_fraction > view.before.distances[1].distance.up_fraction
    assert view.after.exposures[0].net_base == pytest.approx(view.before.exposures[0].net_base + 4.0)
    assert rules(view) == []
    assert view.room_base >= 10.0  # all of the short may be bought back at least


def test_an_option_sold_brings_its_premium_and_costs_what_it_is_worth() -> None:
    view = ask("CALL", -10.0)
    assert view.premium_quote == pytest.approx(-10.0 * MARK_PX)
    assert view.after.margin[0].equity_quote == pytest.approx(56_000.0 - 10.0)
    asked = evaluate("house", accounts(positions=(CALL, CALL)).of["deribit"].book, values_of("house"))
    twice = ask("CALL", -50.0).after.margin[0]
    assert twice.model_initial_quote == pytest.approx(asked.initial)


def test_an_option_bought_counts_only_where_the_venue_counts_it() -> None:
    held = account("deribit", "house", equity_quote=56_000.0, counts_long_options=True)
    long = (msgspec.structs.replace(CALL, qty_base=0.0), PERP)
    counted = ask("CALL", 10.0, accounts=(held, snapshot().accounts[1]), positions=long)
    assert counted.after.margin[0].equity_quote == pytest.approx(56_000.0 - 10.0)
    gone = ask("CALL", 10.0, positions=long)
    assert gone.after.margin[0].equity_quote == pytest.approx(56_000.0 - 10.0 - 10.0 * MARK_PX)


def test_what_margin_does_not_allow_is_refused_with_figures_and_the_room_is_what_it_does() -> None:
    poor = account("hyperliquid", "hyperliquid", equity_quote=2_000.0)
    changes = {"accounts": (snapshot().accounts[0], poor)}
    view = ask("PERP", -20.0, **changes)
    assert rules(view) == ["margin_limit"]
    assert "90% of equity" in view.refusals[0].detail
    assert rules(ask("PERP", -view.room_base, **changes)) == []
    assert rules(ask("PERP", -view.room_base - 0.1, **changes)) == ["margin_limit"]


def test_an_order_is_refused_by_every_bound_of_margin_that_the_engine_has() -> None:
    """At high leverage a usual move liquidates long before initial margin is used up, or a venue liquidates early."""
    thin = account("hyperliquid", "hyperliquid", equity_quote=2_300.0, safe_move=0.05)
    changes = {"accounts": (snapshot().accounts[0], thin)}
    view = ask("PERP", -10.0, **changes)
    assert rules(view) == ["margin_limit"]
    assert "a move of 5.0% before hyperliquid could be topped up asks for 3,000 there, limit 2," in str(view.refusals)
    assert 5.0 < view.room_base < 5.5
    assert rules(ask("PERP", -view.room_base, **changes)) == []
    assert rules(ask("PERP", -view.room_base - 0.1, **changes)) == ["margin_limit"]
    early = account("hyperliquid", "hyperliquid", equity_quote=5_000.0, liquidation_ratio=0.215)
    (refusal,) = ask("PERP", -10.0, accounts=(snapshot().accounts[0], early)).refusals
    assert refusal.detail == "maintenance margin 500 would be 1,000 at hyperliquid, limit 912 (utilisation 85%)"


def test_a_state_that_adds_nothing_refuses_what_adds_and_no_more() -> None:
    banned = account("hyperliquid", "hyperliquid", equity_quote=5_000.0, may_add=False, banned="withdrawals failed")
    changes = {"accounts": (snapshot().accounts[0], banned)}
    assert rules(ask("PERP", -0.1, **changes)) == ["margin_state"]
    assert rules(ask("PERP", 0.1, **changes)) == []
    view = ask("PERP", -0.1, **changes)
    assert view.room_base == 0.0


def test_limits_of_the_vault_and_of_the_moment() -> None:
    vault = risky_vault().model_copy(update={"venue_limits": {"hyperliquid": 21_000.0}})
    rich = account("hyperliquid", "hyperliquid", equity_quote=1e6)
    held = accounts(vault, accounts=(snapshot().accounts[0], rich))
    assert rules(build_what_if(held, Order("PERP", -1.0))) == ["venue_limits"]
    assert rules(build_what_if(held, Order("PERP", -30.0))) == ["max_order_quote", "venue_limits"]
    assert rules(ask("PERP", 1.0, tradables=(tradable(PERP, is_stale=True),))) == ["stale"]
    assert rules(ask("PERP", 1.0, tradables=(tradable(PERP, max_order_base=0.5),))) == ["max_order_base"]


def test_a_breaker_refuses_only_what_adds_risk() -> None:
    breaker = Tripped(Breaker.MOVE, "ETH", START_NS, START_NS + 1, "ETH moved")
    assert rules(ask("PERP", -0.1, breakers=(breaker,))) == ["breaker move"]
    assert rules(ask("PERP", 0.1, breakers=(breaker,))) == []  # net delta is short: buying brings it nearer


def test_what_has_no_price_is_named_with_what_it_may_have_meant() -> None:
    with pytest.raises(ConfigError, match="found none of PREP; hint: did you mean PERP"):
        ask("PREP", 1.0)
    with pytest.raises(ConfigError, match=r"expected at least a lot of 0\.1 of PERP, found 0\.05"):
        ask("PERP", 0.05)
    unknown = account("hyperliquid", "hyperliquid", unknown="no marks")
    with pytest.raises(ConfigError, match="found hyperliquid: no marks"):
        ask("PERP", 1.0, accounts=(snapshot().accounts[0], unknown))


def test_room_that_nobody_could_use_up_is_none() -> None:
    rich = account("hyperliquid", "hyperliquid", equity_quote=1e15)
    found = accounts(accounts=(snapshot().accounts[0], rich))
    assert room_of(found, found.of["hyperliquid"], tradable(PERP), -1.0, 1.0) == inf


def test_the_venues_own_answer_is_set_beside_the_models() -> None:
    found = accounts()
    told = SupposedMargin((ReportedMargin("", 5_000.0, 1_000.0, 500.0),))
    view = build_what_if(found, Order("PERP", -1.0), told)
    assert view.venue is not None
    local = view.after.margin[1]
    assert view.venue.initial_difference_share == pytest.approx(local.model_initial_quote / 1_000.0 - 1.0)
    assert view.px == SPOT_PX
