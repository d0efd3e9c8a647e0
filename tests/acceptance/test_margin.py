"""Margin in a whole run: hedges that would breach it move elsewhere or shrink, in a replay as on paper, and say why."""

from __future__ import annotations

from pathlib import Path

import msgspec
import polars as pl
import pytest

from bot.domain.results import RunSummary
from bot.domain.units import NS_PER_HOUR
from bot.engine.engine import Engine
from bot.runtime.configuration.config import load_vaults
from bot.runtime.journal import Journal
from bot.runtime.live.session import look_at
from bot.runtime.recovery import rebuild
from bot.runtime.session import open_session
from bot.simulation.recording import RecordingDraft, StreamDraft, open_recording, write_recording
from bot.simulation.replay import replay
from tests.acceptance.paper_against_replay import HEDGE, HELD, compare, cut_recording

FROM_HOURS, HOURS = 3.7, 0.5  # of the recording: four hedges are made
DATED = "ETH-28APR23"
TARGET = "target: {delta_base: 40}\n"  # far from what the options need: getting there asks for margin
TIGHT = (
    f"{TARGET}risk: {{accounts: {{deribit: {{model: house, collateral: {{USD: 50000}}}}}}, "
    "insurance: {full_quote: 1000}}\n"
)
AMPLE = TIGHT.replace("50000", "500000")


def run(folder: Path, recording: Path, hedge: str, extra: str) -> tuple[Engine, RunSummary]:
    """Replay a short straddle that is hedged with `hedge`."""
    text = f"""
vault: margin
mode: paper
feed: {{recording: {recording}}}
numeraire: USD
book: [{{instrument: {HELD[0]}, qty_base: -100}}, {{instrument: {HELD[1]}, qty_base: -100}}]
cash: {{ETH: 0, USD: 500000}}
hedge: {hedge}
policy: {{type: whalley_wilmott, risk_aversion_per_quote: 3.0e-4}}
limits: {{max_order_quote: 50000, max_orders_per_min: 10, daily_loss_quote: 10000}}
{extra}"""
    path = folder / "vault.yaml"
    path.write_text(text)
    (vault,) = load_vaults([path])
    session = open_session(vault)
    replay(session.engine, session.world, session.score, stopwatch_ns=lambda: 0, progress=lambda _: None)
    return session.engine, session.score.summary(policy="", seed=1, wall_seconds=1.0)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut_recording(tmp_path_factory.mktemp("cut"), HOURS, FROM_HOURS)


async def test_on_paper_as_in_a_replay_a_hedge_shrinks_to_what_margin_allows(tmp_path: Path) -> None:
    found = await compare(tmp_path, HOURS, from_hours=FROM_HOURS, extra=TIGHT)
    first = found.pairs[0]
    assert first.paper_base == pytest.approx(first.replay_base, abs=0.1)
    # a look at margin one feed latency apart may move the last lots to the next decision
    totals = [sum(mark.qty_base for mark in one.hedges) for one in (found.replay, found.paper)]
    assert totals[0] == pytest.approx(totals[1], abs=1.0)
    for run_of in (found.replay, found.paper):
        assert any("cut from" in mark.reason and "by margin (deribit: " in mark.reason for mark in run_of.hedges)
        summary = run_of.summary
        assert summary.refusals["margin_limit"] > 0
        record = summary.margin["deribit"]
        assert record.cuts >= summary.refusals["margin_limit"]
        assert record.initial_quote is not None
        assert record.equity_quote is not None
        assert 0.8 < record.initial_quote / record.equity_quote < 0.95
        assert record.degraded == ()
        assert summary.state == "running"
    with Journal.open(
        tmp_path / "p" / "twice.sqlite", for_writing=False
    ) as journal:  # what was decided then is decided now
        (vault,) = load_vaults([tmp_path / "paper.yaml"])
        rebuilt = look_at(vault, journal.header)
        rebuild(rebuilt, journal, is_world_wanted=False)
        assert rebuilt.engine.margin is not None
        assert rebuilt.engine.margin.cuts["deribit"] == found.paper.summary.margin["deribit"].cuts
        kept = found.paper.summary.insurance
        assert kept is not None
        assert rebuilt.engine.insurance is not None
        assert rebuilt.engine.insurance.record() == kept


def test_with_margin_to_spare_the_same_hedges_go_all_the_way(tmp_path: Path, recording: Path) -> None:
    hedge = f"{{instrument: {HEDGE}, maker_bps: 0, taker_bps: 5}}"
    ample, summary = run(tmp_path, recording, hedge, AMPLE)
    assert "margin_limit" not in summary.refusals
    assert summary.margin["deribit"].cuts == 0
    tight, _ = run(tmp_path, recording, hedge, TIGHT)
    without, plain = run(tmp_path, recording, hedge, TARGET)
    assert [one.qty_base for one in ample.hedge_marks] == [one.qty_base for one in without.hedge_marks]
    assert plain.margin == {}
    held = [one.desks["ETH"].book.hedge_delta_base() for one in (tight, ample)]
    assert 5.0 < held[0] < held[1] - 5.0


def two_venues(folder: Path) -> Path:
    """Write the recording with the perpetual as another venue's."""
    whole = open_recording("eth-2023-04")
    manifest = whole.manifest
    begin_ns = manifest.start_ns + round(FROM_HOURS * NS_PER_HOUR)
    end_ns = begin_ns + round(HOURS * NS_PER_HOUR)
    listed = tuple(
        msgspec.structs.replace(one, venue="okx") if one.instrument_id == HEDGE else one for one in manifest.instruments
    )
    wanted = [n for n, one in enumerate(listed) if one.instrument_id in (*HELD, HEDGE, DATED)]
    streams = {}
    for name, stream in manifest.streams.items():
        table = whole.table(name).filter(pl.col("ts_event_ns").is_between(begin_ns, end_ns))
        if "instrument" in table.collect_schema():
            table = table.filter(pl.col("instrument").is_in(wanted))
        streams[name] = StreamDraft(table, stream.max_age_s, stream.origin, stream.method)
    words = ("apart", manifest.source, manifest.licence, manifest.notice, "its perpetual at another venue")
    write_recording(folder / "apart", RecordingDraft(*words, listed, manifest.depth, streams))
    return folder / "apart"


def test_what_one_venue_has_no_margin_for_goes_to_another_and_says_why(tmp_path: Path) -> None:
    """The perpetual is another venue's, which takes a tenth of the fee and has little collateral."""
    recording = two_venues(tmp_path)
    hedge = f"""
  - {{instrument: {HEDGE}, maker_bps: 0, taker_bps: 0.5}}
  - {{instrument: {DATED}, maker_bps: 0, taker_bps: 5}}"""
    risk = """\
target: {delta_base: 40}
risk:
  accounts:
    okx: {model: house, collateral: {USD: 1500}}
    deribit: {model: house, collateral: {USD: 500000}}
"""
    engine, summary = run(tmp_path, recording, hedge, risk)
    held = {name: one.lots * one.lot_size for name, one in engine.desks["ETH"].holdings.items()}
    okx = summary.margin["okx"]
    assert okx.cuts > 0
    assert 2.0 < held[HEDGE] < 4.5
    assert held[DATED] > 20.0
    assert okx.initial_quote is not None
    assert okx.equity_quote is not None
    assert okx.initial_quote <= 0.93 * okx.equity_quote  # its price moves on after the last hedge
    reasons = [mark.reason for mark in engine.hedge_marks if mark.instrument_id == DATED]
    assert "margin_limit of okx: initial margin 0 of 1,500 equity, limit 90%" in reasons[0]
    assert sum("margin_limit of okx" in reason for reason in reasons) >= len(reasons) - 1
    assert "margin_limit" not in summary.refusals


def test_collateral_is_topped_up_before_it_is_needed(tmp_path: Path, recording: Path) -> None:
    risk = """\
risk:
  accounts: {deribit: {model: house, collateral: {USD: 40700}}}
  transfers:
    day_caps: {USD: 100000}
    routes: [{asset: USD, from_venue: wallet, to_venue: deribit, route: wire, max_amount: 30000, p95_s: 300, fee: 1}]
"""
    hedge = f"{{instrument: {HEDGE}, maker_bps: 0, taker_bps: 5}}"
    engine, summary = run(tmp_path, recording, hedge, risk)
    record = summary.margin["deribit"]
    assert summary.transfers == 1
    assert 0.8 < record.worst_utilisation_ratio < 0.95
    assert record.utilisation_ratio == pytest.approx(0.5, abs=0.05)
    assert record.state == "normal"
    assert summary.pnl_quote["fees"] < -1.0
    alone, _ = run(tmp_path, recording, hedge, risk.replace("day_caps: {USD: 100000}", "day_caps: {USD: 2}"))
    assert alone.margin is not None
    assert alone.margin.accounts["deribit"].utilisation_ratio > 0.75
    assert engine.top_ups is not None
    assert engine.top_ups.outstanding == ()
