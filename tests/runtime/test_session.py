"""A session put together: the same decisions everywhere, whatever goes wrong on the way to the venue."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest

from bot.domain.errors import RecordingError
from bot.domain.events import QueryOrder, SubmitOrder
from bot.domain.orders import OrderState
from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.session import Session, open_session
from bot.simulation.replay import replay
from bot.simulation.venue import Faults
from strategies import policy_from_spec
from tests.runtime.audit import check_books
from tests.runtime.command_line import ROOT

FAULTS = {
    "rejects": Faults(reject_probability=0.15),
    "lost requests": Faults(lose_request_probability=0.3),
    "lost replies": Faults(lose_reply_probability=0.3),
    "everything": Faults(0.1, 0.2, 0.2),
    "nothing gets through": Faults(lose_request_probability=1.0),
}


def open_busy(folder: Path, faults: Faults | None = None) -> Session:
    (vault,) = load_vaults([folder / "busy.yaml"])
    return open_session(vault, faults=faults)


def run(session: Session) -> str:
    replay(session.engine, session.world, session.score, stopwatch_ns=time.perf_counter_ns, progress=lambda _: None)
    return session.score.commands_sha256


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_whatever_goes_wrong_every_order_is_known_in_the_end(busy: Path, faults: Faults) -> None:
    session = open_busy(busy, faults)
    engine, world = session.engine, session.world
    (desk,) = engine.desks.values()
    limits = engine.settings.limits
    sent_ns: deque[int] = deque()
    unknown_since: dict[str, int] = {}
    seen = set()
    while (step := world.step()) is not None:
        now_ns, events = step
        for event in events:
            engine.apply(event)
        commands = engine.decide(now_ns)
        for command in commands:
            seen.add(type(command))
            if isinstance(command, SubmitOrder):
                intent = command.intent
                quote = engine.market.quotes[intent.instrument_id]
                value = abs(intent.qty_lots) * desk.settings.instrument.lot_base(quote.ask_px) * quote.ask_px
                assert value <= limits.max_order_quote * (1.0 + 1e-9)
                sent_ns.append(now_ns)
            world.submit(command, now_ns)
        while sent_ns and now_ns - sent_ns[0] >= NS_PER_MIN:
            sent_ns.popleft()
        assert len(sent_ns) <= limits.max_orders_per_min
        check_what_may_be(session)
        unknown = {order.intent.order_id for order in engine.orders.unknown()}
        unknown_since = {order_id: unknown_since.get(order_id, now_ns) for order_id in unknown}
        for order_id, since_ns in unknown_since.items():
            # answers take a second or so, but nothing is noticed while the recording is silent
            assert now_ns - since_ns <= 60 * NS_PER_S, f"order {order_id} stays unknown"
    check_books(session)
    states = {order.state for order in engine.orders.orders.values()}
    assert states <= {OrderState.FILLED, OrderState.REJECTED, OrderState.EXPIRED, OrderState.CANCELED}
    if faults.lose_request_probability or faults.lose_reply_probability:
        assert QueryOrder in seen
    if faults.lose_request_probability == 1.0:
        assert states == {OrderState.REJECTED}
        assert not session.world.venue.positions


def check_what_may_be(session: Session) -> None:
    """Check that the venue's position lies within what the engine thinks possible."""
    engine = session.engine
    (desk,) = engine.desks.values()
    instrument_id = desk.settings.instrument.instrument_id
    open_lots = [order.remaining_lots for order in engine.orders.live.values()]
    low = desk.hedge.lots + sum(lots for lots in open_lots if lots < 0)
    high = desk.hedge.lots + sum(lots for lots in open_lots if lots > 0)
    assert low <= session.world.venue.positions.get(instrument_id, 0) <= high


def test_the_same_seed_decides_the_same_and_another_policy_does_not(busy: Path) -> None:
    (vault,) = load_vaults([busy / "busy.yaml"])
    first = open_session(vault)
    assert run(first) == run(open_session(vault))
    assert first.engine.orders.orders
    other = open_session(vault, policy=policy_from_spec("delta_band:half_width_base=1"))
    assert other.policy.name == "delta_band"
    assert run(other) != run(open_session(vault))


def test_jitter_comes_from_the_seed(busy: Path) -> None:
    (vault,) = load_vaults([busy / "busy.yaml"])
    fills = []
    for seed in (1, 1, 2):
        session = open_session(vault.model_copy(update={"seed": seed}))
        run(session)
        fills.append([(mark.ts_ns, mark.px, mark.qty_base) for mark in session.engine.hedge_marks])
    assert fills[0] == fills[1] != fills[2]


def test_two_processes_with_other_hash_seeds_command_the_same(busy: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from bot.simulation.venue import Faults;"
        "from tests.runtime.test_session import open_busy, run;"
        "print(*(run(open_busy(Path(sys.argv[1]), faults)) for faults in (None, Faults(0.1, 0.2, 0.2))))"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program, str(busy)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "4711")
    }
    (both,) = hashes
    sound, faulty = both.split()
    assert len(sound) == len(faulty) == 64
    assert sound != faulty


def test_the_digest_of_a_recording_follows_its_content(busy: Path, short_recording: Path, tmp_path: Path) -> None:
    import shutil

    session = open_busy(busy)
    assert session.recording_sha256 == open_busy(busy).recording_sha256
    assert session.underlying == "ETH"
    copy = tmp_path / "copy"
    shutil.copytree(short_recording, copy)
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace("a cut for tests", "another cut"))
    vault = busy / "busy.yaml"
    vault.write_text(vault.read_text().replace(str(short_recording), str(copy)))
    assert open_busy(busy).recording_sha256 != session.recording_sha256


def test_a_recording_that_vanished_is_a_recording_error(busy: Path) -> None:
    (vault,) = load_vaults([busy / "busy.yaml"])
    feed = vault.feed.model_copy(update={"recording": str(busy / "gone")})
    with pytest.raises(RecordingError, match="found nothing there"):
        open_session(vault.model_copy(update={"feed": feed}))


def open_with_options(busy: Path, faults: Faults | None = None) -> Session:
    """Return a session that trades the options of its recording as hedges too."""
    (vault,) = load_vaults([busy / "busy.yaml"])
    rules = {"underlying": "ETH", "max_position_base": 40.0, "max_premium_quote": 50_000.0, "review_s": 600.0}
    policy = {"type": "gamma_vega", "risk_aversion_per_quote": 3e-3}
    return open_session(
        Vault.model_validate({**vault.model_dump(), "option_hedges": rules, "policy": policy}), faults=faults
    )


@pytest.mark.parametrize("faults", [None, FAULTS["everything"]], ids=["calm", "everything"])
def test_options_as_hedges_leave_ledger_and_venue_of_one_mind(busy: Path, faults: Faults | None) -> None:
    session = open_with_options(busy, faults)
    digest = run(session)
    engine, venue = session.engine, session.world.venue
    (desk,) = engine.desks.values()
    held = {name: one.lots for name, one in desk.book.option_hedges.items() if one.lots}
    assert held, "the policy found options worth their cost"
    assert held == {name: lots for name, lots in venue.positions.items() if name != "ETH-PERPETUAL"}
    coins = sum(one.cash_settle for one in desk.book.option_hedges.values())
    assert coins == pytest.approx(venue.cash_settle["ETH"], abs=1e-9)
    assert max(map(abs, held.values())) <= 40
    engine.close_steps(desk.decided_ns)
    assert engine.pnl().total == pytest.approx(engine.pnl_total_quote(), abs=1e-6)
    assert session.score.commands_sha256 == digest
    if faults is None:
        alone = open_busy(busy)
        run(alone)
        assert engine.unhedged_pnl_quote() == alone.engine.unhedged_pnl_quote()
        assert run(open_with_options(busy)) == digest
