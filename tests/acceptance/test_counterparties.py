"""Counterparties in whole runs of a recording on two venues: one stops paying out, one's insurance fund shrinks.

The signs are told as a watch would tell them; all else is a replay, journalled, and decided anew from the journal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bot.domain.decisions import Refusal
from bot.domain.events import Command, Event, SubmitOrder
from bot.domain.risk import CounterpartySigns, TransferCollateral
from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.engine.engine import Engine
from bot.engine.margin.counterparty_keeper import CounterpartyKeeper
from bot.risk.counterparties import Action
from bot.risk.drain import Stage
from bot.runtime.configuration.config import config_json, config_sha256, load_vaults
from bot.runtime.journal import SCHEMA_VERSION, Batch, Commands, Header, Journal
from bot.runtime.recovery import rebuild
from bot.runtime.session import Session, open_session
from bot.runtime.views import status_view
from bot.simulation.transfers import Suspension
from bot.simulation.venues import Venues
from tests.acceptance.paper_against_replay import HEDGE, HELD
from tests.acceptance.test_margin import DATED, two_venues

BEGIN_NS = 4 * NS_PER_MIN  # into the cut: it is hedged by then
WELL: dict[str, Any] = {
    "withdrawals": "working",
    "fund_quote": 1e9,
    "fund_high_quote": 1e9,
    "open_interest_quote": 1e9,
    "deleverage_rank_share": 0.0,
    "api_error_share": 0.0,
    "perp_discount_share": 0.0,
    "reserves_age_days": 1.0,
    "reserves_coverage_ratio": 1.1,
}
VAULT = """
vault: parties
mode: paper
feed: {{recording: {recording}}}
numeraire: USD
book: [{{instrument: {call}, qty_base: -100}}, {{instrument: {put}, qty_base: -100}}]
cash: {{ETH: 0, USD: 500000}}
target: {{delta_base: 40}}
hedge:
  - {{instrument: {perpetual}, maker_bps: 0, taker_bps: 0.5}}
  - {{instrument: {dated}, maker_bps: 0, taker_bps: 5}}
policy: {{type: whalley_wilmott, risk_aversion_per_quote: 3.0e-4}}
limits: {{max_order_quote: 50000, max_orders_per_min: 30, daily_loss_quote: 20000}}
risk:
  accounts:
    okx: {{model: house, collateral: {{USD: 200000}}, standing_share: 1}}
    deribit: {{model: house, collateral: {{USD: 500000}}, standing_share: 1}}
  counterparties:
    equity_share: 0.9
    equity_share_unknown: {unknown}
    parties: {{circle: {{kind: issuer, assets: [USDC]}}, deribit: {{group: panama}}}}
    group_share: 1
  transfers:
    day_caps: {{USD: 1000000}}
    routes:
      - {{asset: USD, from_venue: okx, to_venue: deribit, route: wire, max_amount: 100000, p95_s: 60, fee: 1}}
"""


class Run(NamedTuple):
    """A run, and everything it commanded."""

    session: Session
    commands: list[tuple[int, Command]]
    begin_ns: int

    @property
    def engine(self) -> Engine:
        return self.session.engine

    @property
    def parties(self) -> CounterpartyKeeper:
        assert self.engine.counterparties is not None
        return self.engine.counterparties

    @property
    def held(self) -> dict[str, float]:
        return {name: one.lots * one.lot_size for name, one in self.engine.desks["ETH"].holdings.items()}

    def orders_after(self, ns: int) -> list[tuple[str, int]]:
        intents = [c.intent for at, c in self.commands if isinstance(c, SubmitOrder) and at >= self.begin_ns + ns]
        return [(intent.instrument_id, intent.qty_lots) for intent in intents]

    def sent(self) -> list[TransferCollateral]:
        return [command for _, command in self.commands if isinstance(command, TransferCollateral)]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_venues(tmp_path_factory.mktemp("apart"))


def run(folder: Path, recording: Path, *, unknown: float = 0.9, shut: bool = False, **signs: Any) -> Run:
    """Replay and journal a vault; from a moment on okx shows other signs, and lets nothing out where it is `shut`."""
    path = folder / "vault.yaml"
    words = {"recording": recording, "call": HELD[0], "put": HELD[1], "perpetual": HEDGE, "dated": DATED}
    path.write_text(VAULT.format(unknown=unknown, **words))
    (vault,) = load_vaults([path])
    session = open_session(vault)
    world, engine = session.world, session.engine
    commands: list[tuple[int, Command]] = []
    with Journal.open(folder / "run.sqlite", for_writing=True) as journal:
        journal.append(_header(session))
        begin_ns = told_ns = 0
        while (step := world.step()) is not None:
            now_ns, events = step
            begin_ns = begin_ns or now_ns
            is_ill = now_ns >= begin_ns + BEGIN_NS
            if is_ill and shut:
                assert isinstance(world.venue, Venues)
                assert world.venue.transfers is not None
                world.venue.transfers.suspend(Suspension("okx", begin_ns + BEGIN_NS, 2**62))
                shut = False
            if signs and now_ns >= told_ns + 10 * NS_PER_S:
                told_ns = now_ns
                shown = {**WELL, **signs} if is_ill else WELL
                events = [*events, CounterpartySigns("okx", now_ns, now_ns, **shown)]
            found = _decide(engine, journal, now_ns, events)
            for command in found:
                world.submit(command, now_ns)
                commands.append((now_ns, command))
            session.score.observe(now_ns, len(events), found, 0)
    return Run(session, commands, begin_ns)


def _decide(engine: Engine, journal: Journal, now_ns: int, events: list[Event]) -> list[Command]:
    journal.append(Batch(now_ns, tuple(events)))
    for event in events:
        engine.apply(event)
    found = engine.decide(now_ns)
    if found:
        journal.append(Commands(now_ns, tuple(found)))
    return found


def _header(session: Session) -> Header:
    return Header(
        run_id=session.run_id,
        vault=session.vault.vault,
        config_json=config_json(session.vault),
        config_sha256=config_sha256(session.vault),
        recording=session.recording_name,
        recording_sha256=session.recording_sha256,
        seed=session.vault.seed,
        schema_version=SCHEMA_VERSION,
        evenkeel_version="test",
        instruments=session.instruments,
    )


def margin_view(session: Session) -> dict[str, Any]:
    found: dict[str, Any] = status_view(session, 0)["margin"]
    return found


def test_f31_withdrawals_suspended_nothing_is_added_hedged_elsewhere_first_then_drained(
    tmp_path: Path, recording: Path
) -> None:
    found = run(tmp_path, recording, shut=True, withdrawals="suspended")
    parties = found.parties
    before = [(name, lots) for name, lots in found.orders_after(0) if name == HEDGE and lots > 0]
    assert before, "the cheap venue was hedged at as long as it was well"
    assert parties.actions["okx"] is Action.DRAIN
    # hedged elsewhere before anything was closed there, nothing added there from then on, and in the end all moved
    after = found.orders_after(BEGIN_NS + 10 * NS_PER_S)
    assert after[0][0] == DATED
    assert after[0][1] > 0
    closing = [lots for name, lots in after if name == HEDGE]
    assert closing
    assert max(closing) < 0
    assert found.held[HEDGE] == pytest.approx(0.0, abs=0.05)
    assert found.held[DATED] > 20.0
    # what was tried to be withdrawn is small, was refused, and is known to be there still
    (first, *_) = found.sent()
    assert first.from_venue == "okx"
    assert first.amount < 0.051 * 200_000
    engine = found.engine
    assert engine.margin is not None
    assert engine.margin.held(engine.margin.accounts["okx"], "USD") == pytest.approx(200_000)
    texts = [entry.text for entry in parties.drains["okx"].trail]
    assert "withdrawals: suspended" in texts[0]
    assert any("withdrawal over wire to deribit: failed" in text for text in texts)
    stages = [entry.stage for entry in parties.drains["okx"].trail]
    assert stages.index(Stage.HEDGE) < stages.index(Stage.CANCEL) < stages.index(Stage.WITHDRAW)
    # the operator sees why, and the journal tells the same again
    view = margin_view(found.session)
    assert "withdrawals: suspended" in view["accounts"]["okx"]["banned"]
    assert view["counterparties"]["okx"]["action"] == "drain"
    assert view["counterparties"]["circle"]["unknown"] == ["reserves", "perp_discount", "standing"]
    again = open_session(found.session.vault)
    with Journal.open(tmp_path / "run.sqlite", for_writing=False) as journal:
        rebuild(again, journal, is_world_wanted=False)
    assert margin_view(again) == view
    assert view["drains"][0]["trail"]


def test_f33_an_insurance_fund_a_third_down_has_the_leg_reduced_there_and_the_hedge_goes_on_elsewhere(
    tmp_path: Path, recording: Path
) -> None:
    found = run(tmp_path, recording, fund_quote=6.9e8, deleverage_rank_share=0.9)
    after = found.orders_after(BEGIN_NS + 10 * NS_PER_S)
    closing = [lots for name, lots in after if name == HEDGE]
    assert len(closing) >= 10
    assert max(closing) < 0
    assert any(name == DATED and lots > 0 for name, lots in after)
    assert found.held[HEDGE] < 0.5 * sum(found.held.values())
    assert found.parties.drains == {}
    assert found.sent() == []  # a fund that shrinks is no reason to take collateral out
    reasons = [c.intent.reason for _, c in found.commands if isinstance(c, SubmitOrder) and c.intent.qty_lots < 0]
    assert any(
        "first in line for deleveraging at okx: insurance fund 31% below its high of 8 hours" in r for r in reasons
    )


def test_a_venue_over_its_share_of_equity_takes_no_hedge_and_says_so(tmp_path: Path, recording: Path) -> None:
    found = run(tmp_path, recording, unknown=0.2)  # nobody watches: of 700,000 okx may hold 140,000, and holds 200,000
    assert found.held[HEDGE] == 0.0
    risk = found.parties.risks["okx"]
    assert risk.is_over
    assert risk.stressed_quote >= risk.ead_quote >= 199_000
    assert found.parties.actions["deribit"] is Action.STOP_ADDING
    # deribit, over its share too, takes only what releases margin against the options it has: not the whole hedge
    assert 0.0 < found.held[DATED] < 20.0
    assert found.engine.refusals[Refusal.COUNTERPARTY_LIMIT] > 0
    decision = found.engine.desks["ETH"].decision
    assert decision is not None
    assert "not everything being known" in decision.refusal_detail
