"""The state of a vault for its windows: equal to what the engine and `status` say, and JSON at every moment."""

from __future__ import annotations

import json
from math import fsum
from pathlib import Path

import msgspec
import pytest

from bot.domain.windows import VaultState
from bot.engine.engine import Engine
from bot.runtime.configuration.config import load_vaults
from bot.runtime.meters import DaemonMeters
from bot.runtime.session import Session, open_session
from bot.runtime.views import status_view
from bot.runtime.window_state import take_state
from tests.runtime.test_session import open_with_options
from tests.runtime.test_views import open_busy, step

MARGIN_VAULT = Path(__file__).parents[2] / "config" / "eth-straddle-margin.yaml"


def state_of(session: Session, now_ns: int) -> VaultState:
    """Return the state as it arrives at the other end of a socket."""
    state = take_state(session, {}, DaemonMeters().read(0, 0.0), now_ns, "0" * 64)
    return msgspec.json.decode(json.dumps(msgspec.to_builtins(state), allow_nan=False), type=VaultState)


@pytest.mark.parametrize("policy", ["delta_band:half_width_base=0.3", "unhedged", "fixed_interval:interval_s=60"])
def test_every_moment_can_be_shown(busy: Path, policy: str) -> None:
    session = open_busy(busy, policy)
    first = state_of(session, 0)
    assert first.underlyings[0].spot_px is None
    assert first.underlyings[0].delta_low_base is None
    assert first.feeds[0].age_s is None
    assert first.feeds[0].is_stale
    orders = 0
    for _ in range(400):
        now_ns = step(session)
        if now_ns is None:
            break
        state = state_of(session, now_ns)
        orders += len(state.orders)
        view = status_view(session, now_ns)
        assert (state.state, state.hedges, state.decisions) == (view["state"], view["hedges"], view["decisions"])
        desk, shown = view["desks"][0], state.underlyings[0]
        assert shown.plan == desk["plan"]
        assert [msgspec.to_builtins(gate) for gate in shown.gates] == desk["gates"]
        assert state.pnl_now_quote == view["pnl_now_quote"]
        assert state.pnl_quote == pytest.approx(view["pnl_quote"], abs=1e-9)
    assert orders > 0 or policy == "unhedged"


def test_legs_add_up_to_the_greeks_of_the_book(busy: Path) -> None:
    session = open_busy(busy)
    for _ in range(300):
        now_ns = step(session) or 0
    state = state_of(session, now_ns)
    (shown,) = state.underlyings
    book = next(iter(session.engine.desks.values())).book
    options = [leg for leg in shown.legs if leg.vol is not None]
    assert len(options) == len(book.option_legs) > 0
    assert fsum(leg.gamma_base_per_px or 0.0 for leg in options) == pytest.approx(book.option_gamma, rel=1e-12)
    assert fsum(leg.vega_quote_per_vol or 0.0 for leg in options) == pytest.approx(shown.vega_quote_per_vol, rel=1e-9)
    assert fsum(leg.theta_quote_per_day or 0.0 for leg in options) == pytest.approx(shown.theta_quote_per_day, rel=1e-9)
    linear = [leg for leg in shown.legs if leg.is_hedge]
    assert [leg.instrument_id for leg in linear] == list(book.hedges)
    delta_base = fsum(leg.delta_base or 0.0 for leg in shown.legs) + book.coin_cash
    assert delta_base == pytest.approx(book.net_greeks(is_coin_numeraire=False).delta_base, rel=1e-9)


def test_gamma_and_vega_have_a_target_where_options_hedge_them(busy: Path) -> None:
    session = open_with_options(busy)
    (desk,) = session.engine.desks.values()
    assert state_of(session, 0).underlyings[0].option_plan == "options have not been looked at yet"
    plans = set()
    now_ns = step(session)
    while now_ns is not None and not any(one.lots for one in desk.book.option_hedges.values()):
        (shown,) = state_of(session, now_ns).underlyings
        plans.add(shown.option_plan)
        live = session.engine.orders.live.values()
        under_way = [order for order in live if order.intent.instrument_id in desk.book.option_hedges]
        if under_way:
            assert f"{len(under_way)} order" in shown.option_plan
            bought = sum(order.remaining_lots for order in under_way) > 0
            assert shown.target_gamma_base_per_px is not None
            assert shown.gamma_base_per_px is not None
            assert (shown.target_gamma_base_per_px > shown.gamma_base_per_px) is bought
        elif desk.decision is not None:
            assert shown.target_gamma_base_per_px == shown.gamma_base_per_px
            assert shown.target_vega_quote_per_vol == shown.vega_quote_per_vol
        now_ns = step(session)
    assert any("under way" in plan for plan in plans)
    delta_alone = state_of(open_busy(busy), 0).underlyings[0]
    assert (delta_alone.option_plan, delta_alone.target_gamma_base_per_px) == ("", None)


def test_margin_is_shown_by_account() -> None:
    (vault,) = load_vaults([MARGIN_VAULT])
    session = open_session(vault)
    for _ in range(2_000):
        now_ns = step(session) or 0
    state = state_of(session, now_ns)
    engine: Engine = session.engine
    assert engine.margin is not None
    assert [one.account for one in state.accounts] == list(engine.margin.accounts)
    shown = state.accounts[0]
    account = engine.margin.accounts[shown.account]
    assert shown.maintenance_quote == account.figures.maintenance
    assert shown.utilisation_ratio == account.utilisation_ratio
    assert shown.told == engine.margin.tell(account)
    assert state.risk["accounts"].keys() == {shown.account for shown in state.accounts}
