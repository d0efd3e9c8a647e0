"""The same vault in a replay and on paper through the real ccxt: what differs is latency and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.paper_against_replay import compare

FROM_HOURS, HOURS = 3.7, 0.5  # of the recording: four hedges are made
FEED_LATENCY_S = 0.05  # what a replay adds to every event, and a message over loopback does not


async def test_hedges_on_paper_are_those_of_the_replay_one_feed_latency_earlier(tmp_path: Path) -> None:
    found = await compare(tmp_path, HOURS, from_hours=FROM_HOURS)
    assert len(found.pairs) >= 3
    assert found.only_replay == found.only_paper == []
    assert [pair.paper_base for pair in found.pairs] == pytest.approx([pair.replay_base for pair in found.pairs])
    # one message late, where two of the same moment came over different subscriptions
    assert all(-FEED_LATENCY_S - 1e-3 <= pair.apart_s <= 1.0 for pair in found.pairs)
    replayed, paper = found.replay.summary, found.paper.summary
    assert paper.cost_quote == pytest.approx(replayed.cost_quote, rel=0.02)
    assert paper.pnl_quote["total"] == pytest.approx(replayed.pnl_quote["total"], abs=5.0)
    assert paper.state == replayed.state == "running"


async def test_a_hedge_that_only_one_of_them_made_would_be_seen(tmp_path: Path) -> None:
    found = await compare(tmp_path, HOURS, from_hours=FROM_HOURS, replay_policy="unhedged")
    assert found.replay.hedges == []
    assert len(found.only_paper) == len(found.paper.hedges) > 0
