"""What an operator is shown: always plain JSON, never a guess, from the first moment to the last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.decisions import PlannedLeg
from bot.domain.events import OperatorAction, OperatorCommand, Restarted
from bot.domain.orders import Fill, Liquidity
from bot.domain.units import NS_PER_S, utc_text
from bot.domain.venues import AccountReport, InstrumentDelisted, VenueOrder, VenuePosition
from bot.engine.engine import Engine
from bot.engine.reconciliation import REPORTS_TO_ADOPT
from bot.runtime.configuration.config import load_vaults
from bot.runtime.session import Session, open_session
from bot.runtime.views import status_view
from bot.simulation.score import Score
from strategies import policy_from_spec
from tests.runtime.test_session import open_with_options


def open_busy(folder: Path, policy: str = "delta_band:half_width_base=0.3") -> Session:
    (vault,) = load_vaults([folder / "busy.yaml"])
    return open_session(vault, policy=policy_from_spec(policy))


def step(session: Session) -> int | None:
    """Let one moment of the world pass; return it."""
    found = session.world.step()
    if found is None:
        return None
    now_ns, events = found
    for event in events:
        session.engine.apply(event)
    commands = session.engine.decide(now_ns)
    for command in commands:
        session.world.submit(command, now_ns)
    session.score.observe(now_ns, len(events), commands, 0)
    return now_ns


def view_of(session: Session, now_ns: int) -> dict[str, Any]:
    """Return the view as it arrives at the other end of a socket; NaN and infinity are not JSON."""
    result: dict[str, Any] = json.loads(json.dumps(status_view(session, now_ns), allow_nan=False))
    return result


@pytest.mark.parametrize("policy", ["delta_band:half_width_base=0.3", "unhedged", "fixed_interval:interval_s=60"])
def test_every_moment_can_be_shown(busy: Path, policy: str) -> None:
    session = open_busy(busy, policy)
    plans = set()
    view = view_of(session, 0)
    assert view["as_of"] == "never"
    assert view["desks"][0]["plan"] == "nothing decided yet"
    moments = 0
    while (now_ns := step(session)) is not None:
        moments += 1
        if moments < 30 or session.engine.orders.live or moments % 50 == 0:
            plans.add(view_of(session, now_ns)["desks"][0]["plan"].split(":")[0])
    view = view_of(session, session.score.series.ts_ns[-1])
    assert view["decisions"] == moments
    assert view["pnl_quote"].keys() >= {"delta", "gamma", "theta", "vega", "vanna_volga", "unexplained", "total"}
    assert "not hedging" in plans
    assert ("hedging" in plans) is (policy != "unhedged")
    if policy == "unhedged":
        assert any(plan.startswith("nothing to do") for plan in plans)
        assert ", no band: " in view["desks"][0]["plan"]
        decision = view["desks"][0]["decision"]
        assert decision["low_base"] is None, "an infinite band is no number"
        assert (
            decision["greeks"]["delta_base"]
            == session.engine.desks["ETH"].book.net_greeks(is_coin_numeraire=False).delta_base
        )


def test_an_order_under_way_is_shown_with_its_state_and_why_it_was_sent(busy: Path) -> None:
    session = open_busy(busy)
    now_ns = 0
    while not session.engine.orders.live:
        found = step(session)
        assert found is not None
        now_ns = found
    (order,) = session.engine.orders.live.values()
    view = view_of(session, now_ns)
    (desk,) = view["desks"]
    shown = {"order_id": order.intent.order_id, "state": "intended", "qty_lots": order.intent.qty_lots}
    assert view["orders"] == [{**shown, "filled_lots": 0}]
    assert desk["plan"] == f"hedging: order {order.intent.order_id} of {order.intent.qty_lots:+} lots"
    assert order.intent.reason in desk["last_order"]
    legs = (PlannedLeg("r-1", "ETH-A", -5, -0.5, 1.25), PlannedLeg("r-2", "ETH-B", -4, -0.4, 1.0))
    (of_engine,) = session.engine.desks.values()
    assert of_engine.decision is not None
    of_engine.decision = msgspec.structs.replace(of_engine.decision, legs=legs, next_best_quote=float("inf"))
    (split,) = json.loads(json.dumps(view_of(session, now_ns), allow_nan=False))["desks"]
    assert split["plan"] == "hedging: orders r-1 of -5 lots on ETH-A, r-2 of -4 lots on ETH-B"
    assert [leg["cost_quote"] for leg in split["decision"]["legs"]] == [1.25, 1.0]
    assert split["decision"]["next_best_quote"] is None
    assert desk["last_hedge"] == utc_text(now_ns)
    assert view["hedges"] == 1

    session.engine.apply(Restarted(now_ns))
    view = view_of(session, now_ns)
    assert (view["state"], view["orders"][0]["state"]) == ("reconciling", "unknown")
    gates = {gate["name"]: gate for gate in view["desks"][0]["gates"]}
    assert not gates["outcomes known"]["is_open"]
    assert not gates["state"]["is_open"]


def test_options_traded_as_hedges_are_shown_with_why(busy: Path) -> None:
    session = open_with_options(busy)
    plan = now_ns = 0
    while not str(plan).startswith("trading options"):
        found = step(session)
        assert found is not None, "the policy never found an option worth its cost"
        now_ns, plan = found, view_of(session, found)["desks"][0]["plan"]
    (desk,) = view_of(session, now_ns)["desks"]
    order = next(iter(session.engine.orders.live.values())).intent
    assert f"{order.order_id}: {order.qty_lots:+} lots of {order.instrument_id}: {order.reason}" in desk["plan"]
    assert desk["option_hedges"][order.instrument_id]["lots"] == 0
    while session.engine.orders.live:
        step(session)
    (desk,) = view_of(session, now_ns)["desks"]
    assert desk["option_hedges"][order.instrument_id]["lots"] == order.qty_lots


def test_a_halt_is_shown_with_who_and_why(busy: Path) -> None:
    session = open_busy(busy)
    now_ns = step(session) or 0
    session.engine.apply(OperatorCommand(OperatorAction.HALT, "ann", "maintenance", now_ns))
    view = view_of(session, now_ns)
    assert (view["state"], view["state_reason"]) == ("halted", "ann: maintenance")


def open_with_account(folder: Path) -> Session:
    """Return a session whose venue also has an account that must be known."""
    session = open_busy(folder)
    settings = msgspec.structs.replace(session.engine.settings, account_venues=frozenset({"deribit"}))
    engine = Engine(settings)
    return session._replace(engine=engine, score=Score(engine))


def test_what_an_account_says_is_shown(busy: Path) -> None:
    session, now_ns = open_with_account(busy), 0
    venue, hedge = "deribit", "ETH-PERPETUAL"
    accounts = view_of(session, now_ns)["accounts"]
    assert accounts["venues"] == [{"venue": venue, "is_known": False, "age_s": None, "question": ""}]
    positions = (VenuePosition(hedge, 7, 1990.0), VenuePosition("SOL-PERPETUAL", 5, 20.0))
    orders = (VenueOrder("x7", "", hedge, 20, 1950.0),)
    for _ in range(REPORTS_TO_ADOPT):
        now_ns = step(session) or 0
        session.engine.apply(AccountReport(venue, positions, orders, {}, now_ns, now_ns))
        session.engine.decide(now_ns)
        if not session.engine.accounts.adoption_count:
            (mismatch,) = view_of(session, now_ns)["accounts"]["mismatches"]
            assert (mismatch["instrument_id"], mismatch["lots"]) == (hedge, 7)
            gates = {gate["name"]: gate for gate in view_of(session, now_ns)["desks"][0]["gates"]}
            assert gates["accounts known"]["detail"] == f"waiting for {venue}; unexplained: {hedge} +7 lots"
    session.engine.apply(Fill("f1", "", hedge, 2, 1990.0, 0.0, Liquidity.TAKER, now_ns, now_ns))
    session.engine.apply(InstrumentDelisted("ETH-OLD", "gone", now_ns))
    session.engine.decide(now_ns)
    view = view_of(session, now_ns + 2 * NS_PER_S)
    accounts = view["accounts"]
    assert view["state"] == "reduce_only"
    assert accounts["to_acknowledge"].startswith(f"adopted: {hedge} is +7 lots at {venue}, +0 in the ledger")
    assert accounts["venues"] == [{"venue": venue, "is_known": True, "age_s": 2.0, "question": ""}]
    assert (accounts["adoption_count"], accounts["adoptions"][0]["venue_lots"]) == (1, 7)
    assert (accounts["foreign_fill_count"], accounts["foreign_fills"][0]["qty_lots"]) == (1, 2)
    assert (accounts["foreign_order_count"], accounts["foreign_orders"][0]["venue_order_id"]) == (1, "x7")
    assert accounts["not_of_this_vault"] == ["SOL-PERPETUAL"]
    assert accounts["delisted"] == {"ETH-OLD": "gone"}
    gates = {gate["name"]: gate for gate in view["desks"][0]["gates"]}
    assert gates["accounts known"]["is_open"]


def test_looking_changes_nothing(busy: Path) -> None:
    hashes = []
    for is_looking in (False, True):
        session = open_busy(busy)
        while (now_ns := step(session)) is not None:
            if is_looking:
                status_view(session, now_ns)
        hashes.append((session.score.commands_sha256, session.engine.pnl(), dict(session.engine.refusals)))
    assert hashes[0] == hashes[1]


def test_times_are_utc_with_milliseconds() -> None:
    assert utc_text(0) == "never"
    assert utc_text(1_681_300_800_123_000_000) == "2023-04-12T12:00:00.123+00:00"
