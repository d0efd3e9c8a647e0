"""Tables and progress: every figure where people look for it, and nothing an operator writes taken for markup."""

from __future__ import annotations

import io
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from bot.domain.events import OperatorAction, OperatorCommand
from bot.domain.orders import Fill, Liquidity
from bot.domain.results import RunSummary
from bot.domain.venues import AccountReport, InstrumentDelisted, VenueOrder, VenuePosition
from bot.risk.buffer import Entry, InsuranceBuffer, Move
from bot.runtime.cli import tables
from bot.runtime.configuration.config import load_vaults
from bot.runtime.session import Session, open_session
from bot.runtime.views import status_view
from bot.simulation.replay import replay
from tests.runtime.test_views import open_with_account, step

MINUTE_NS = 60 * 10**9


@pytest.fixture
def console() -> Console:
    """As the command line's own, for output that goes to a file."""
    return Console(file=io.StringIO(), soft_wrap=True, markup=False, width=160)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def finished(busy: Path) -> Session:
    """A session at the end of its recording."""
    (vault,) = load_vaults([busy / "busy.yaml"])
    session = open_session(vault)
    replay(session.engine, session.world, session.score, stopwatch_ns=time.perf_counter_ns, progress=lambda _: None)
    return session


@pytest.fixture
def summary(finished: Session) -> RunSummary:
    """What the finished session amounted to."""
    return finished.score.summary(policy="delta_band", seed=1, wall_seconds=1.0)


def row_of(text: str, name: str) -> list[str]:
    """Return the cells of the row that begins with `name`."""
    lines = [line for line in text.splitlines() if line.strip(" │").startswith(name)]
    assert len(lines) == 1, f"expected one row {name!r}, found {lines}"
    return [cell.strip() for cell in lines[0].strip(" │").split("│")][1:]


def test_policies_stand_side_by_side(console: Console, summary: RunSummary) -> None:
    other = msgspec.structs.replace(summary, policy="unhedged", hedges=0, refusals={})
    tables.print_comparison(console, [summary, other], "ETH")
    text = text_of(console)
    assert "busy: 2023-04-12T11:42 to 2023-04-12T15:38 UTC, seed 1" in text
    assert row_of(text, "hedges") == [str(summary.hedges), "0"]
    assert row_of(text, "cost, USD")[0] == f"{summary.cost_quote:,.2f}"
    assert row_of(text, "off target rms, ETH")[0] == f"{summary.delta_rms_base:,.2f}"
    parts = ("delta", "gamma", "theta", "vega", "vanna_volga", "funding", "fees", "gas", "slippage", "unexplained")
    for part in (*parts, "lp_fees"):
        assert row_of(text, f"{part} ")[0] == f"{summary.pnl_quote[part]:+,.2f}"
    assert row_of(text, "not decided, by reason")[1] == "none"
    for reason, count in summary.refusals.items():
        assert f"{reason} {count}" in text
    assert row_of(text, "state at the end") == ["running", "running"]
    assert row_of(text, "commands sha256")[0] == summary.commands_sha256[:12]


def test_the_status_shows_band_orders_and_reasons_as_written(console: Console, finished: Session) -> None:
    now_ns = finished.score.series.ts_ns[-1]
    finished.engine.apply(OperatorCommand(OperatorAction.HALT, "ann", "see [bold]page 3[/bold]", now_ns))
    view = status_view(finished, now_ns)
    tables.print_status(console, view)
    text = text_of(console)
    assert "busy as of 2023-04-12T15:38" in text
    assert row_of(text, "state")[0] == "halted ann: see [bold]page 3[/bold]"
    decision = view["desks"][0]["decision"]
    assert row_of(text, "ETH net delta")[0] == f"{decision['greeks']['delta_base']:+,.3f}"
    assert row_of(text, "ETH band")[0] == f"{decision['low_base']:+,.3f} … {decision['high_base']:+,.3f}"
    assert row_of(text, "ETH hedge")[0] == f"{finished.engine.desks['ETH'].hedge.lots:+,} lots of ETH-PERPETUAL"


def test_the_status_shows_margin_and_what_is_kept_aside(console: Console, busy: Path) -> None:
    text = (busy / "busy.yaml").read_text()
    (busy / "risky.yaml").write_text(
        text + "risk: {accounts: {deribit: {model: house}}, insurance: {full_quote: 500}}\n"
    )
    (vault,) = load_vaults([busy / "risky.yaml"])
    session = open_session(vault)
    now_ns = 0
    for _ in range(2_000):
        found = session.world.step()
        assert found is not None
        now_ns, events = found[0], found[1]
        for event in events:
            session.engine.apply(event)
        session.engine.decide(now_ns)
    assert session.engine.insurance is not None
    session.engine.insurance.buffer = InsuranceBuffer(
        balance_quote=40.0,
        funded_quote=50.0,
        drawn_quote=10.0,
        entries=(Entry(Move.FUNDED, 50.0, 50.0, "10%", 1), Entry(Move.DRAWN, 10.0, 40.0, "deribit: why", now_ns)),
    )
    view = status_view(session, now_ns)
    tables.print_status(console, view)
    shown = text_of(console)
    assert "initial margin" in row_of(shown, "margin at deribit")[0]
    assert row_of(shown, "insurance buffer, USD")[0].startswith("40.00 of 500.00: 50.00 kept of gains, 10.00 drawn")
    assert row_of(shown, "buffer drawn")[0].endswith(": deribit: why")
    assert "buffer funded" not in shown
    assert [one["move"] for one in view["margin"]["insurance"]["entries"]] == ["funded", "drawn"]


def test_what_is_unknown_is_called_unknown(console: Console, busy: Path) -> None:
    (vault,) = load_vaults([busy / "busy.yaml"])
    session = open_session(vault)
    found = session.world.step()
    assert found is not None
    session.engine.decide(found[0])
    tables.print_status(console, status_view(session, found[0]))
    text = text_of(console)
    assert row_of(text, "ETH net delta") == ["unknown"]
    assert row_of(text, "ETH band") == ["unknown … unknown"]
    assert row_of(text, "ETH last hedge") == ["never"]


def test_what_a_person_has_to_know_of_an_account_is_shown(console: Console, busy: Path) -> None:
    session = open_with_account(busy)
    now_ns = step(session) or 0
    tables.print_status(console, status_view(session, now_ns))
    assert row_of(text_of(console), "account deribit") == ["nothing received yet, not known yet"]
    positions = (VenuePosition("ETH-PERPETUAL", 7, 1990.0), VenuePosition("SOL-PERPETUAL", 5, 20.0))
    orders = (VenueOrder("x7", "", "ETH-PERPETUAL", 20, 1950.0),)
    for n in range(1, 4):
        session.engine.apply(AccountReport("deribit", positions, orders, {}, now_ns + n, now_ns + n))
        if n == 2:
            tables.print_status(console, status_view(session, now_ns))
            assert row_of(text_of(console), "unexplained ETH-PERPETUAL") == ["+7 lots, 2 reports"]
    session.engine.apply(Fill("f1", "", "ETH-PERPETUAL", 2, 1990.0, 0.0, Liquidity.TAKER, now_ns, now_ns))
    session.engine.apply(InstrumentDelisted("ETH-OLD", "gone", now_ns))
    console.file = io.StringIO()
    tables.print_status(console, status_view(session, now_ns + 3))
    text = text_of(console)
    assert row_of(text, "to acknowledge")[0].startswith("adopted: ETH-PERPETUAL is +7 lots at deribit")
    assert row_of(text, "account deribit") == ["0 s ago"]
    assert row_of(text, "differences adopted")[0].startswith("1, last ETH-PERPETUAL from +0 to +7 lots, 2023-04-12")
    assert row_of(text, "foreign fills")[0].startswith("1, last +2 lots of ETH-PERPETUAL, 2023-04-12")
    assert row_of(text, "foreign order x7") == ["+20 lots of ETH-PERPETUAL"]
    assert row_of(text, "not of this vault") == ["SOL-PERPETUAL"]
    assert row_of(text, "delisted ETH-OLD") == ["gone"]


def test_every_gate_is_shown_with_its_figures(console: Console, finished: Session) -> None:
    view = status_view(finished, finished.score.series.ts_ns[-1])
    tables.print_gates(console, view)
    text = text_of(console)
    for gate in view["desks"][0]["gates"]:
        cells = row_of(text, gate["name"])
        assert cells[0] == ("yes" if gate["is_open"] else "NO")
        assert gate["detail"][:20] in cells[1]


def test_progress_off_a_terminal_is_a_line_now_and_then(console: Console) -> None:
    with tables.progress_bar(console, "busy", MINUTE_NS, 3 * MINUTE_NS, plain_every_s=0.0) as progress:
        progress(2 * MINUTE_NS)
        progress(9 * MINUTE_NS)
    assert text_of(console).splitlines() == [
        "busy: 1970-01-01T00:02:00.000+00:00, 50%",
        "busy: 1970-01-01T00:09:00.000+00:00, 100%",
    ]


def test_progress_off_a_terminal_is_silent_for_short_work(console: Console) -> None:
    with tables.progress_bar(console, "busy", 0, 100) as progress:
        for now_ns in range(100):
            progress(now_ns)
    assert text_of(console) == ""


def test_progress_on_a_terminal_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "REFRESH_EVERY_S", 0.0)
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with tables.progress_bar(console, "busy", 0, 2 * MINUTE_NS) as progress:
        progress(MINUTE_NS)
    text = text_of(console)
    assert "busy" in text
    assert "1970-01-01T00:01" in text
    assert text.endswith("\x1b[2K"), "a transient bar erases itself"
