"""Simulated chains beside a recording: what they are made of, and a vault that hedges on one, whatever runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

import pytest

from bot.domain.chain import GasPaid
from bot.domain.errors import ConfigError, JournalError
from bot.domain.events import Event
from bot.domain.market import ExecutionTerms, IndexPrice, Quote
from bot.domain.orders import Fill, OrderCanceled
from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.runtime.configuration.chain_sections import ChainSection, SimulatedSection
from bot.runtime.configuration.config import build_engine_settings, load_vaults
from bot.runtime.configuration.simulated_chains import open_simulated_chain, pool_instrument
from bot.runtime.session import Session, open_session
from bot.simulation.chain import WEI_PER_GWEI, SimulatedChain
from bot.simulation.replay import replay
from bot.simulation.venue import Latency
from strategies import policy_from_spec
from tests.runtime.audit import read_rows, reopen, without_timings
from tests.runtime.command_line import ROOT, CommandLine, Process, wait_for

T0_NS = 19_450 * 1_440 * NS_PER_MIN
JOURNAL = Path(".evenkeel/busy.sqlite")
PERPETUAL = "{instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}"
CHAIN = """\
chains:
  sim:
    chain_id: 8453
    block_s: 6
    simulated: {liquidity_quote: 2000000, base_fee_gwei: 0.05, tip_gwei: 0.01, taken_share: 0.2}
"""


def chain_vault(folder: Path, hedge: str = '{instrument: "sim:POOL"}', chain: str = CHAIN) -> Path:
    """Turn the busy vault of a folder into one that hedges on a rollup."""
    text = (folder / "busy.yaml").read_text()
    assert f"hedge: {PERPETUAL}" in text
    path = folder / "busy.yaml"
    path.write_text(text.replace(f"hedge: {PERPETUAL}", f"{chain}hedge: {hedge}"))
    return path


def section(**simulated: float) -> ChainSection:
    return ChainSection(chain_id=1, simulated=SimulatedSection(**{"liquidity_quote": 1e6, **simulated}))


def make_chain(name: str = "sim", *, seed: int = 1, hours: float = 24.0, **simulated: float) -> SimulatedChain:
    end_ns = T0_NS + round(hours * 60 * NS_PER_MIN)
    pool = pool_instrument(name, "ETH", ())
    return open_simulated_chain(section(**simulated), pool, end_ns=end_ns, latency=Latency(0, 0, 0), seed=seed)


def told(chain: SimulatedChain, hours: float = 24.0) -> list[Event]:
    """Return what a chain says of a day at a constant index."""
    chain.on_market(IndexPrice("ETH", 2_000.0, T0_NS, T0_NS, 1))
    return list(chain.advance(T0_NS + round(hours * 60 * NS_PER_MIN)))


def run(session: Session) -> str:
    replay(session.engine, session.world, session.score, stopwatch_ns=lambda: 0, progress=lambda _: None)
    return session.score.commands_sha256


def check(session: Session) -> None:
    """Check that the engine's ledger is the venue's, and that the parts of the P&L add up."""
    engine, venue = session.engine, session.world.venue
    (desk,) = engine.desks.values()
    held = {name: one.lots for name, one in desk.holdings.items() if one.lots}
    assert held == venue.positions
    cash = sum(one.cash_settle for one in desk.holdings.values())
    assert venue.cash_settle["USD"] == pytest.approx(cash, abs=1e-6)
    assert desk.book.spent_coins == pytest.approx(-venue.cash_settle["ETH"])
    engine.close_steps(max(desk.decided_ns for desk in engine.desks.values()))
    assert engine.pnl().total == pytest.approx(engine.pnl_total_quote(), abs=1e-6)
    assert engine.pnl().gas < 0.0


# What a chain is made of ---------------------------------------------------------------------------------------------


def test_the_money_named_moves_the_price_by_two_percent() -> None:
    terms = next(event for event in told(make_chain(), 1.0) if isinstance(event, ExecutionTerms))
    traded_base = 1e6 / 2_000.0
    assert 2.0 * traded_base / terms.depth_base == pytest.approx(0.02, rel=1e-3)


def test_its_base_fee_has_the_median_asked_for_and_the_shape_of_a_day() -> None:
    terms = [event for event in told(make_chain(base_fee_gwei=3.0)) if isinstance(event, ExecutionTerms)]
    fees_wei = [(one.tiers[0].max_fee_wei - one.tiers[0].tip_wei) / 2.0 for one in terms]
    assert len(fees_wei) == 7_200
    assert median(fees_wei) == pytest.approx(3.0 * WEI_PER_GWEI, rel=0.01)
    assert 7.0 < max(fees_wei) / min(fees_wei) < 20.0


def test_a_pools_fee_is_its_spread() -> None:
    quote = next(event for event in told(make_chain(fee_pips=3_000), 1.0) if isinstance(event, Quote))
    assert quote.bid_px / quote.ask_px == pytest.approx(0.997**2)


def test_every_chain_of_a_vault_has_chances_of_its_own_and_ends_with_the_recording() -> None:
    base = [event.bid_px for event in told(make_chain()) if isinstance(event, Quote)]
    assert base == [event.bid_px for event in told(make_chain()) if isinstance(event, Quote)]
    assert base != [event.bid_px for event in told(make_chain("other")) if isinstance(event, Quote)]
    assert base != [event.bid_px for event in told(make_chain(seed=2)) if isinstance(event, Quote)]
    assert len([event for event in told(make_chain(hours=1.0)) if isinstance(event, Quote)]) == 300


def test_a_real_chain_is_not_simulated() -> None:
    with pytest.raises(ValueError, match="expected sim to be simulated, found a real chain"):
        open_simulated_chain(
            ChainSection(chain_id=1), pool_instrument("sim", "ETH", ()), end_ns=1, latency=Latency(0, 0, 0), seed=1
        )


# A vault that hedges there --------------------------------------------------------------------------------------------


def test_the_engine_is_told_that_a_trade_is_a_transaction(busy: Path) -> None:
    (vault,) = load_vaults([chain_vault(busy, f'[{{instrument: "sim:POOL"}}, {PERPETUAL}]')])
    policy = policy_from_spec("whalley_wilmott:risk_aversion_per_quote=0.002")
    session = open_session(vault)
    on_chain, on_exchange = build_engine_settings(vault, session.recording.manifest).hedges["ETH"]
    assert (on_chain.needs_terms, on_chain.can_amend, on_chain.taker_bps) == (True, False, 0.0)
    assert (on_exchange.needs_terms, on_exchange.can_amend, on_exchange.taker_bps) == (False, True, 5.0)
    hedges = open_session(vault, policy=policy).engine.settings.hedges["ETH"]
    assert [hedge.risk_aversion_per_quote for hedge in hedges] == [0.002, 0.0]
    assert [hedge.risk_aversion_per_quote for hedge in session.engine.settings.hedges["ETH"]] == [0.0, 0.0]


def test_it_hedges_in_blocks_pays_gas_and_the_books_agree(busy: Path) -> None:
    (vault,) = load_vaults([chain_vault(busy)])
    session = open_session(vault)
    run(session)
    check(session)
    marks = list(session.engine.hedge_marks)
    assert len(marks) > 50
    assert all(mark.ts_ns % (6 * NS_PER_S) == 0 for mark in marks)
    summary = session.score.summary(policy="delta_band", seed=1, wall_seconds=1.0)
    chain = session.world.venue
    assert summary.transactions == summary.hedges + summary.failed_transactions
    assert summary.hedges == len(marks)
    assert summary.pnl_quote["gas"] < 0.0
    assert summary.pnl_quote["fees"] == 0.0
    assert summary.delta_rms_base < 2.0
    assert chain.positions == {"sim:POOL": session.engine.desks["ETH"].holdings["sim:POOL"].lots}


def test_next_to_an_exchange_what_is_not_worth_its_gas_goes_there(busy: Path) -> None:
    (vault,) = load_vaults([chain_vault(busy, f'[{{instrument: "sim:POOL"}}, {PERPETUAL}]')])
    session = open_session(vault.model_copy(update={"routing": "preference"}))
    run(session)
    check(session)
    marks = list(session.engine.hedge_marks)
    assert {mark.instrument_id for mark in marks} == {"sim:POOL", "ETH-PERPETUAL"}
    elsewhere = [mark for mark in marks if mark.instrument_id != "sim:POOL"]
    assert all("on ETH-PERPETUAL instead (sim:POOL " in mark.reason for mark in elsewhere)
    assert any("gas_over_benefit" in mark.reason for mark in elsewhere)
    summary = session.score.summary(policy="delta_band", seed=1, wall_seconds=1.0)
    assert summary.transactions - summary.failed_transactions == len(marks) - len(elsewhere)


def test_by_cost_a_need_is_split_with_the_exchange_and_what_is_not_worth_gas_goes_there(busy: Path) -> None:
    (vault,) = load_vaults([chain_vault(busy, f'[{{instrument: "sim:POOL"}}, {PERPETUAL}]')])
    session = open_session(vault)
    run(session)
    check(session)
    marks = list(session.engine.hedge_marks)
    alone = [mark for mark in marks if "; split at " not in mark.reason]
    assert {mark.instrument_id for mark in marks if mark not in alone} == {"sim:POOL", "ETH-PERPETUAL"}
    smallest = {name: min(abs(mark.qty_base) for mark in alone if mark.instrument_id == name) for name in
                ("sim:POOL", "ETH-PERPETUAL")}  # fmt: skip
    assert smallest["ETH-PERPETUAL"] == pytest.approx(0.1)
    assert smallest["sim:POOL"] > 0.1, "less than that is not worth its gas"


def test_the_same_here_again_and_in_another_process(busy: Path) -> None:
    (vault,) = load_vaults([chain_vault(busy)])
    once = run(open_session(vault))
    assert once == run(open_session(vault))
    assert once != run(open_session(vault.model_copy(update={"seed": 2})))
    program = (
        "import sys; from pathlib import Path; from bot.runtime.configuration.config import load_vaults;"
        "from bot.runtime.session import open_session;"
        "from tests.runtime.configuration.test_simulated_chains import run;"
        "print(run(open_session(load_vaults([Path(sys.argv[1])])[0])))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(busy / "busy.yaml")]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == once


def test_unpaced_a_daemon_commands_what_a_replay_does_and_its_journal_too(evenkeel: CommandLine, busy: Path) -> None:
    path = chain_vault(busy)
    ran = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=busy)
    replayed = evenkeel.run("replay", "busy.yaml", "--json", cwd=busy)
    again = evenkeel.run("replay", "busy.yaml", "--journal", str(JOURNAL), "--json", cwd=busy)
    assert ran.code == 0, ran.err
    assert without_timings(ran.json) == without_timings(replayed.json) == without_timings(again.json)
    assert ran.json["transactions"] > 50
    check(reopen(path, busy / JOURNAL))
    events = read_rows(busy / JOURNAL).events
    assert {GasPaid, Fill, ExecutionTerms} <= {type(event) for event in events}


def test_killed_again_and_again_it_goes_on_and_no_transaction_is_lost_or_doubled(
    evenkeel: CommandLine, busy: Path
) -> None:
    path = chain_vault(busy)
    for kill in range(3):
        process = evenkeel.start("run", "busy.yaml", "--json", "--speed", "500", cwd=busy)
        wait_for_orders(process, busy, 4 * (kill + 1))
        process.send(signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
    ran = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=busy)
    assert ran.code == 0, ran.err
    rows = read_rows(busy / JOURNAL)
    assert len(rows.submitted) == len(set(rows.submitted))
    check(reopen(path, busy / JOURNAL))
    fills = [event for event in rows.events if isinstance(event, Fill)]
    expired = [event for event in rows.events if isinstance(event, OrderCanceled)]
    paid = {event.payment_id for event in rows.events if isinstance(event, GasPaid)}
    assert len({event.order_id for event in (*fills, *expired)}) == len(paid) == ran.json["transactions"]


def wait_for_orders(process: Process, folder: Path, count: int) -> None:
    """Wait until so many orders were sent; the journal may just be being made."""

    def has_sent() -> bool:
        with suppress(JournalError):
            return process.is_over or len(read_rows(folder / JOURNAL).submitted) >= count
        return False

    wait_for(has_sent)


# What does not fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bend", "line", "expected"),
    [
        (lambda text: text.replace("sim:POOL", "sim:WETH"), 14, "expected an instrument of recording short, found sim"),
        (lambda text: text.replace("sim:POOL", "simm:POOL"), 14, "did you mean sim:POOL?"),
        (lambda text: text.replace('"sim:POOL"}', '"sim:POOL", taker_bps: 5}'), 14, "expected no taker_bps on a chain"),
        (lambda text: text.replace('"sim:POOL"}', '"sim:POOL", style: maker}'), 14, "expected taker: nothing rests"),
        (lambda text: text.replace("block_s: 6", "block_s: 400"), 12, "expected at most 300, found 400; hint: older"),
        (lambda text: text.replace("0.2}", "0.2, base: SOL}"), 13, "expected ETH, found SOL; hint: it has no index"),
        (lambda text: text.replace("8453\n", "8453\n    coin: POL\n"), 12, "expected ETH, found POL; hint: gas would"),
        (lambda text: text.replace("8453\n", "8453\n    rpc: []\n"), 12, "expected no rpc on a simulated chain, found"),
        (
            lambda text: text.replace("book:\n", "book:\n  - {chain: sim}\n"),
            6,
            "expected a chain with holders, found sim, which is simulated; hint: state the amounts",
        ),
        (lambda text: text + "fusion: {min_sources: 2}\n", 18, "expected no fusion with a recording, found some"),
    ],
)
def test_what_does_not_fit_is_told_with_its_line(
    busy: Path, bend: Callable[[str], str], line: int, expected: str
) -> None:
    path = chain_vault(busy)
    bent = bend(path.read_text())
    assert bent != path.read_text()
    path.write_text(bent)
    with pytest.raises(ConfigError) as caught:
        load_vaults([path])
    assert any(problem.startswith(f"{path}:{line}: ") and expected in problem for problem in caught.value.problems), (
        caught.value.problems
    )
