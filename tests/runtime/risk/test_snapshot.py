"""What a snapshot copies out of an engine: the book as it is marked, accounts as the keeper has them, what to trade."""

from __future__ import annotations

import json

import msgspec
import pytest

from bot.pricing.black76 import greeks
from bot.runtime.risk.snapshot import NO_SECTION, Snapshot, take_snapshot
from bot.runtime.session import Session, open_session
from strategies import DeltaBand
from tests.acceptance.vaults import load

CALL, PUT, PERP = "ETH-28APR23-1900-C", "ETH-28APR23-1900-P", "ETH-PERPETUAL"
SESSIONS: dict[str, tuple[Session, int]] = {}


def begun(name: str) -> tuple[Session, int]:
    """Return a vault's session a minute of recorded events on, hedged as it hedges."""
    if name not in SESSIONS:
        session = open_session(load(name), policy=DeltaBand(half_width_base=0.3))
        now_ns, end_ns = 0, session.recording.manifest.start_ns + 300 * 10**9
        while (step := session.world.step()) is not None and step[0] < end_ns:
            now_ns, events = step
            for event in events:
                session.engine.apply(event)
            for command in session.engine.decide(now_ns):
                session.world.submit(command, now_ns)
        SESSIONS[name] = session, now_ns
    return SESSIONS[name]


def taken(name: str, *wanted: str) -> Snapshot:
    session, now_ns = begun(name)
    return take_snapshot(session.vault, session.engine, now_ns, "a test", wanted)


def _cash(name: str) -> dict[str, float]:
    return {asset: amount for asset, amount in load(name).fixed_cash.items() if amount}


def test_positions_are_those_the_engine_marks_and_hedges_with() -> None:
    session, _ = begun("eth-straddle-margin")
    found = {one.instrument_id: one for one in taken("eth-straddle-margin").positions}
    assert {CALL, PUT, PERP} == set(found)
    assert (found[CALL].qty_base, found[PUT].qty_base) == (-100.0, -100.0)
    assert found[PERP].qty_base == pytest.approx(session.engine.desks["ETH"].hedge.lots * 0.1)
    marks = session.engine.desks["ETH"].book.option_marks
    assert marks is not None
    assert found[CALL].mark_px == pytest.approx(float(marks.greeks.value[0]))


def test_an_account_is_as_the_keeper_has_it() -> None:
    session, _ = begun("eth-straddle-margin")
    keeper = session.engine.margin
    assert keeper is not None
    (one,) = taken("eth-straddle-margin").accounts
    kept = keeper.accounts["deribit"]
    assert (one.model, one.equity_quote, one.posted) == ("house", kept.equity_quote, _cash("eth-straddle-margin"))
    assert kept.standing is not None
    assert (one.state, one.may_add) == (str(kept.standing.state), True)


def test_looking_changes_nothing_of_what_is_decided() -> None:
    session, now_ns = begun("eth-straddle-margin")
    before = session.engine.margin.reviews if session.engine.margin is not None else {}
    taken("eth-straddle-margin")
    assert session.engine.decide(now_ns) == []
    assert session.engine.margin is not None
    assert session.engine.margin.reviews["deribit"] >= before["deribit"]


def test_without_a_section_the_venues_own_model_judges_the_vaults_cash() -> None:
    found = taken("eth-straddle")
    (one,) = found.accounts
    assert (one.name, one.model, one.posted) == ("deribit", "deribit", _cash("eth-straddle"))
    assert NO_SECTION in found.notes
    assert not found.has_section


def test_what_is_wanted_is_priced_at_its_last_vol_and_costs_half_its_spread_and_the_fee() -> None:
    name = "ETH-28APR23-2000-C"
    session, _ = begun("eth-straddle-margin")
    found = {one.position.instrument_id: one for one in taken("eth-straddle-margin", name, "NOTHING").tradables}
    assert set(found) == {PERP, name}
    one = found[name]
    quote = session.engine.market.vol_quotes[session.engine.market.slot_of[name]]
    assert quote is not None
    told = greeks(one.position.forward_px, [2_000.0], [one.position.tau_years], [quote.mark_vol], [True])
    assert one.position.mark_px == pytest.approx(float(told.value[0]))
    index_px = session.engine.market.underlyings["ETH"].index_px
    half = 0.5 * (quote.ask_vol - quote.bid_vol) * float(told.vega[0])
    assert one.cost_px == pytest.approx(half + 5e-4 * index_px)
    assert one.lot_base == 1.0
    assert found[PERP].is_hedge
    assert not one.is_hedge


def test_what_the_engine_watches_is_copied_out() -> None:
    session, _ = begun("eth-straddle-margin")
    keeper = session.engine.margin
    assert keeper is not None
    found = taken("eth-straddle-margin")
    assert found.forecasts == {name: (one,) for name, one in keeper.watch.forecasts.items()}
    assert found.breakers == ()
    assert keeper.buffers is not None
    assert found.account("deribit").should_hold == keeper.buffers.tell("deribit") != ""
    idle = taken("eth-straddle")  # no section: nobody watches
    assert (idle.forecasts, idle.breakers) == ({}, None)


def test_the_collateral_problem_is_posed_only_where_it_is_asked_for() -> None:
    session, now_ns = begun("eth-straddle-margin")
    assert taken("eth-straddle-margin").collateral is None
    found = take_snapshot(session.vault, session.engine, now_ns, "a test", is_posed=True)
    assert found.collateral is not None
    need = found.collateral.problem.needs[0]
    assert session.engine.margin is not None
    figures = session.engine.margin.accounts["deribit"].figures
    assert found.collateral.buffer_ratio * need.maintenance_quote[0] >= figures.maintenance
    line = json.dumps(msgspec.to_builtins(found))
    assert msgspec.convert(json.loads(line), Snapshot).collateral is not None


def test_it_goes_over_the_daemons_line_and_comes_back_the_same() -> None:
    found = taken("eth-straddle-margin")
    line = json.dumps(msgspec.to_builtins(found))  # as `bot.runtime.operators.control` sends it, NaN and all
    again = msgspec.convert(json.loads(line), Snapshot)
    assert msgspec.json.encode(again) == msgspec.json.encode(found)
