"""Buffers: what an account should hold until a transfer arrives, topped up before it is needed, each change said."""

from __future__ import annotations

from math import exp, inf, sqrt
from typing import Any

import msgspec
import numpy as np
import pytest

from bot.domain.risk import MarginState, SeriesValue, TransferCollateral
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_YEAR
from bot.engine.gates import list_gates
from bot.engine.margin.buffers import Buffers
from bot.engine.margin.risk_settings import BufferSettings, ForecastSettings, RiskSettings
from bot.engine.margin.vol_watch import VolWatch
from bot.pricing.black76 import greeks
from bot.risk.book import OPTION, Position, build_book
from bot.risk.conditions import Condition, ConditionParameters
from bot.risk.margin_states import StateRule
from bot.risk.predictive import Z_99
from bot.risk.transfers import Route, TransferRules
from bot.runtime.configuration.volatility import load_artefact
from tests.engine.builders import T0_NS
from tests.engine.margin_vault import INITIAL_SHARE, A, B, MarginVault

HOURS = 12.0
ROUTE = Route(
    name="ARB", asset="USD", from_venue="b", to_venue="a", address_label="", p95_ns=int(HOURS * NS_PER_HOUR),
    max_amount=1e6,
)  # fmt: skip
RULES = TransferRules(routes=(ROUTE,), day_caps={"USD": 1e6})
MARGIN = 0.8 * INITIAL_SHARE * 1.25 * 9.0 * 2000.0  # maintenance of nine coins sold, as only the model tells


def vault(share: float, **changes: Any) -> MarginVault:
    """Return a vault hedged at A that holds `share` of its maintenance margin there, and plenty at B."""
    known = {
        "transfers": RULES,
        "states": StateRule(step_up_ns=0),
        "forecast": ForecastSettings(artefact=load_artefact()[0], usual_vol={"ETH": 0.7}),
        **changes,
    }
    made = MarginVault({"a": 1e6, "b": 1e6}, instruments=(A, B), risk=known)
    made.hedge_all()
    account = made.margin.accounts["a"]
    assert account.figures.maintenance == pytest.approx(MARGIN)
    account.moved["USD"] = share * MARGIN - 1e6
    made.margin.note_change()
    return made


def transfers(made: MarginVault, **how: Any) -> list[TransferCollateral]:
    return [one for one in made.tick(**how) if isinstance(one, TransferCollateral)]


def required(made: MarginVault) -> float:
    assert made.margin.buffers is not None
    return made.margin.buffers.required_quote("a")


def test_what_is_required_leaves_the_target_after_a_bad_move_up() -> None:
    made = vault(1.6)
    made.tick()
    assert made.margin.buffers is not None
    found = made.margin.buffers.of["a"]
    vol = made.margin.watch.quantile_vol("ETH", 0.95)
    move = Z_99 * vol * sqrt(HOURS * NS_PER_HOUR / NS_PER_YEAR)
    ratio = 1.0 + 0.23 * min(vol / 0.7, 2.0)
    assert found.target.ratio == pytest.approx(ratio)
    # nine coins sold: a rise costs them as much as it moves, and margin grows along
    by_hand = ratio * MARGIN * (1.0 + move) + 9.0 * 2000.0 * move
    assert found.required_quote == pytest.approx(by_hand, rel=1e-6)
    assert found.outlook is not None


def test_it_is_topped_up_to_that_before_any_state_asks_for_it() -> None:
    made = vault(1.6)
    (command,) = transfers(made)
    account = made.margin.accounts["a"]
    assert account.standing is not None
    assert account.standing.state in (MarginState.NORMAL, MarginState.WATCH)
    assert command.amount == pytest.approx(required(made) - account.equity_quote)
    assert command.reason.startswith("before a needs it: should hold")
    assert "for vol" in command.reason
    assert transfers(made, after_s=60.0) == []  # what is on its way counts


def test_without_buffers_nothing_leaves_until_a_state_asks_for_it() -> None:
    made = vault(1.6, buffers=None)
    assert transfers(made) == []
    assert made.margin.buffers is None


def test_nobody_is_topped_up_above_the_trigger() -> None:
    made = vault(1.6)
    made.tick()
    enough = required(made) * 0.86 / MARGIN
    assert transfers(vault(enough)) == []
    assert len(transfers(vault(enough * 0.98))) == 1


def test_gamma_counts() -> None:
    """What a short straddle without delta loses grows with the square of the move, as far as repricing says."""
    tau, vol = 14.0 / 365.0, 0.6
    common = {"kind": OPTION, "underlying": "ETH", "qty_base": -50.0, "tau_years": tau, "vol": vol, "strike_px": 2000.0}
    book = build_book([Position(is_call=True, **common), Position(is_call=False, **common)], {"ETH": 2000.0})
    losses = []
    for hours in (6.0, 24.0):
        route = msgspec.structs.replace(ROUTE, p95_ns=int(hours * NS_PER_HOUR))
        settings = ForecastSettings(artefact=load_artefact()[0])
        rules = TransferRules(routes=(route,), day_caps={})
        risk = RiskSettings(accounts={}, forecast=settings, transfers=rules)
        watch = VolWatch(risk, ("ETH",))
        watch.note_price("ETH", T0_NS, 2000.0)
        watch.look(T0_NS, 0.5 / 8760.0)
        buffers = Buffers(BufferSettings(), risk, watch)
        buffers.review("a", book, 20_000.0, 10_000.0, 0.0, lambda _: 10_000.0, T0_NS)
        found = buffers.of["a"]
        assert found.outlook is not None
        move = Z_99 * found.vol * sqrt(hours / 8760.0)
        assert found.outlook.move_fraction == pytest.approx(move)
        calls = np.array([True, False])
        worth = [
            float(greeks(np.full(2, px), np.full(2, 2000.0), np.full(2, tau), np.full(2, vol), calls).value.sum())
            for px in (2000.0, 2000.0 * (1.0 + move), 2000.0 * (1.0 - move))
        ]
        by_hand = 50.0 * (max(worth[1:]) - worth[0])
        assert found.outlook.loss_quote == pytest.approx(by_hand, rel=1e-9)
        assert found.required_quote == pytest.approx(found.target.ratio * 10_000.0 + by_hand)
        losses.append(by_hand)
    assert losses[1] > 3.0 * losses[0]  # twice the move


def test_a_model_that_cannot_price_the_move_leaves_the_bound() -> None:
    made = vault(1.6)
    account = made.margin.accounts["a"]
    made.tick()
    assert made.margin.buffers is not None
    rows = made.margin._rows["a"].book
    made.margin.buffers.review("a", rows, 1.6 * MARGIN, MARGIN, 0.0, lambda _: inf, made.now_ns)
    found = made.margin.buffers.of["a"]
    assert "the model cannot tell margin after the move" in found.text
    assert MARGIN < found.required_quote < 10.0 * MARGIN
    assert account.equity_quote > 0.0


def test_plenty_is_not_repriced_and_the_figure_is_an_upper_bound() -> None:
    made = vault(6.0)
    made.tick()
    assert made.margin.buffers is not None
    plain = made.margin.buffers.of["a"]
    assert plain.outlook is None
    assert "at most" in plain.text
    near = vault(1.6)
    near.tick()
    assert required(near) < plain.required_quote < 6.0 * MARGIN


def test_coins_posted_move_along() -> None:
    """Coins against a short perpetual earn what it loses, as far as they go."""
    made = vault(1.6)
    account = made.margin.accounts["a"]
    account.moved = {"USD": 1.6 * MARGIN - 1e6 - 2.0 * 2000.0, "ETH": 2.0}
    made.margin.note_change()
    plain = vault(1.6)
    for one in (made, plain):
        one.tick()
    vol = made.margin.watch.quantile_vol("ETH", 0.95)
    move = Z_99 * vol * sqrt(HOURS * NS_PER_HOUR / NS_PER_YEAR)
    assert account.equity_quote == pytest.approx(plain.margin.accounts["a"].equity_quote)
    assert required(plain) - required(made) == pytest.approx(2.0 * 2000.0 * move, rel=1e-6)


def test_conditions_raise_it_and_every_change_is_told_with_its_reason() -> None:
    rule = Condition(series="VIX", max_age_s=86_400.0, knots=((20.0, 1.0), (40.0, 2.0)))
    conditions = ConditionParameters(rules=(rule,))
    settings = ForecastSettings(artefact=load_artefact()[0], usual_vol={"ETH": 0.7}, conditions=conditions)
    made = vault(1.6, forecast=settings)
    made.apply(SeriesValue("VIX", 20.0, made.now_ns, made.now_ns, made.now_ns))
    made.tick()
    calm, buffers = required(made), made.margin.buffers
    assert buffers is not None
    before, count = buffers.of["a"].target.ratio, buffers.change_count
    made.apply(SeriesValue("VIX", 40.0, made.now_ns, made.now_ns, made.now_ns))
    made.tick(after_s=61.0)
    assert buffers.of["a"].target.ratio - 1.0 == pytest.approx(2.0 * (before - 1.0))
    assert required(made) > 1.2 * calm
    account, change = buffers.changes[-1]
    assert (account, buffers.change_count) == ("a", count + 1)
    assert (change.before_ratio, change.after_ratio) == (before, buffers.of["a"].target.ratio)
    assert "× 2.00 for conditions (VIX is 40 ×2.00)" in change.reason


def test_no_forecast_at_all_is_named_and_taken_for_high() -> None:
    made = vault(1.6, forecast=ForecastSettings(reason="the vault asks for none"))
    made.tick()
    assert made.margin.buffers is not None
    found = made.margin.buffers.of["a"]
    assert (found.vol, found.target.vol_multiplier) == (1.5, 2.0)
    assert "no forecast of ETH yet" in found.text
    assert "the largest multiple is taken" in found.text


def test_a_source_keeps_what_its_own_buffer_needs() -> None:
    made = vault(1.6)
    made.tick()
    assert made.engine.top_ups is not None
    back = Route(
        name="ARB", asset="USD", from_venue="a", to_venue="b", address_label="", p95_ns=NS_PER_MIN, max_amount=1e6
    )
    assert made.engine.top_ups.spare(back) == 0.0
    account = made.margin.accounts["a"]
    account.moved["USD"] = 3.0 * MARGIN - 1e6
    made.margin.note_change()
    made.tick()
    assert made.engine.top_ups.spare(back) == pytest.approx(
        account.equity_quote - max(required(made), 2.0 * account.figures.maintenance)
    )


def test_a_look_is_shown_at_the_gate() -> None:
    made = vault(1.6)
    made.tick()
    gates = {one.name: one.detail for one in list_gates(made.engine, made.engine.desks["ETH"], made.now_ns)}
    assert "should hold" in gates["margin at a"]
    assert "95 % below" in gates["vol forecast"]


def test_settings_that_could_lower_a_buffer_are_refused() -> None:
    with pytest.raises(ValueError, match="above 1"):
        vault(1.6, buffers=BufferSettings(base_ratio=1.0))


def test_the_bound_is_never_below_what_repricing_finds() -> None:
    for share in (1.05, 1.5, 3.0):
        made = vault(share)
        made.tick()
        assert made.margin.buffers is not None
        found = made.margin.buffers.of["a"]
        vol, years = found.vol, HOURS * NS_PER_HOUR / NS_PER_YEAR
        move = exp(Z_99 * vol * sqrt(years)) - 1.0
        bound = found.target.ratio * (MARGIN + 3.0 * 18_000.0 * move) + 18_000.0 * move
        assert found.required_quote <= bound * (1.0 + 1e-9)
