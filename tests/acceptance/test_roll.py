"""The last hour and a half of a dated future on the bundled recording: its hedge moves on before it expires."""

from __future__ import annotations

from bot.domain.instruments import Future
from bot.domain.market import MarketEvent
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN
from bot.runtime.configuration.vault import HedgeLine
from tests.acceptance.vaults import load, read, run

DATED = "ETH-14APR23"


def last_hours(name: str) -> tuple[int, list[list[MarketEvent]]]:
    """Return when the dated future expires, and what is recorded around that."""
    recording, batches = read(load(name))
    dated = next(one for one in recording.manifest.instruments if one.instrument_id == DATED)
    assert isinstance(dated, Future)
    begin_ns, end_ns = dated.expiry_ns - 3 * NS_PER_HOUR // 2, dated.expiry_ns + 5 * NS_PER_MIN
    return dated.expiry_ns, [batch for batch in batches if begin_ns <= batch[0].ts_recv_ns <= end_ns]


def test_the_hedge_leaves_a_future_before_it_expires() -> None:
    expiry_ns, batches = last_hours("eth-straddle")
    lines = tuple(
        HedgeLine(instrument=name, maker_bps=0.0, taker_bps=fee_bps)
        for name, fee_bps in (("ETH-PERPETUAL", 5.0), (DATED, 1.0))  # by its fee it is the first choice
    )
    finished = run(load("eth-straddle"), batches=batches, hedge=lines)
    engine = finished.session.engine
    marks = list(engine.hedge_marks)
    rolls = [mark for mark in marks if mark.reason.startswith(f"roll of {DATED}")]
    opened = [mark for mark in marks if mark.instrument_id == DATED and mark not in rolls]
    holdings = engine.desks["ETH"].holdings
    assert opened, "it was the cheaper one"
    assert max(mark.ts_ns for mark in opened) < expiry_ns - 50 * NS_PER_MIN
    assert holdings[DATED].lots == 0
    assert holdings["ETH-PERPETUAL"].lots != 0
    assert {mark.instrument_id for mark in rolls} == {DATED, "ETH-PERPETUAL"}
    assert max(mark.ts_ns for mark in rolls) < expiry_ns - 30 * NS_PER_MIN
    assert abs(sum(mark.qty_base for mark in rolls)) < 0.2, "what was closed was opened"
    assert finished.summary.refusals.get("hedge_loop", 0) == 0
