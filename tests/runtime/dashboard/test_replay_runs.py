"""Replays that pages ask for: real ones, in a process of their own, one at a time, ended when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.runtime.configuration.config import load_vaults
from bot.runtime.dashboard.replay_runs import ReplayRuns
from bot.runtime.session import open_session
from bot.simulation.replay import replay
from strategies import policy_from_spec
from tests.runtime.command_line import PATIENCE_S as SHARED_S

PATIENCE_S = 2 * SHARED_S  # the replay is the last to get a turn on a machine that has other things to do


@pytest.fixture
def runs(busy: Path) -> ReplayRuns:
    (vault,) = load_vaults([busy / "busy.yaml"])
    return ReplayRuns({"busy": (busy / "busy.yaml", vault)})


async def until(find: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not find():  # noqa: ASYNC110 — what is waited for tells nobody
            await asyncio.sleep(0.01)


async def test_a_replay_ends_with_the_figures_of_the_engine(runs: ReplayRuns, busy: Path) -> None:
    recording = runs.recording_of("busy")
    assert runs.start("busy", recording, ["delta_band"], "kim") == ""
    assert runs.state.is_running
    assert "kim" in runs.start("busy", recording, ["unhedged"], "ann")  # one at a time
    await until(lambda: not runs.state.is_running)
    state = runs.state
    assert (state.error, state.fraction, state.user) == ("", 1.0, "kim")
    assert [run.policy for run in state.runs] == ["delta_band"]
    (vault,) = load_vaults([busy / "busy.yaml"])
    session = open_session(vault, policy=policy_from_spec("delta_band", vault.policy))
    replay(session.engine, session.world, session.score, stopwatch_ns=lambda: 0, progress=lambda _now_ns: None)
    own = session.score.summary(policy="delta_band", seed=vault.seed, wall_seconds=1.0)
    assert state.runs[0].commands_sha256 == own.commands_sha256
    assert state.runs[0].pnl_quote == own.pnl_quote
    assert own.hedges > 0


async def test_one_that_is_canceled_or_takes_too_long_is_over(runs: ReplayRuns, busy: Path) -> None:
    assert runs.start("busy", runs.recording_of("busy"), ["unhedged"], "kim") == ""
    await asyncio.sleep(0)
    runs.cancel()
    await until(lambda: not runs.state.is_running)
    assert runs.state.error == "it was canceled"
    (vault,) = load_vaults([busy / "busy.yaml"])
    hasty = ReplayRuns({"busy": (busy / "busy.yaml", vault)}, most_s=0.2)
    assert hasty.start("busy", runs.recording_of("busy"), ["unhedged"], "kim") == ""
    await until(lambda: not hasty.state.is_running)
    assert "longer than" in hasty.state.error
    await hasty.close()


async def test_however_often_it_is_canceled_its_process_is_buried(
    runs: ReplayRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: asyncio.Future[asyncio.subprocess.Process] = asyncio.get_running_loop().create_future()
    start = asyncio.create_subprocess_exec

    async def noted(*words: Any, **terms: Any) -> asyncio.subprocess.Process:
        process = await start(*words, **terms)
        started.set_result(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    assert runs.start("busy", runs.recording_of("busy"), ["unhedged"], "kim") == ""
    process = await started
    task = runs._task
    assert task is not None
    while not task.done():
        await asyncio.sleep(0)
        runs.cancel()
    assert process.returncode is not None
    await runs.close()


async def test_what_is_not_offered_is_refused(runs: ReplayRuns) -> None:
    recording = runs.recording_of("busy")
    for vault, chosen in (("other", recording), ("busy", "/etc"), ("../busy.yaml", recording)):
        assert runs.start(vault, chosen, ["unhedged"], "kim").startswith("expected a vault and a recording")
    for policies in ([], ["--journal"], ["unhedged", "impulse,leland"], list(runs.policies)[:7]):
        assert runs.start("busy", recording, policies, "kim").startswith("expected 1 to 6 policies")
    assert not runs.state.is_running
    assert runs.recording_of("other") == runs.policy_of("other") == ""
    assert runs.policy_of("busy") == "delta_band"
    assert "eth-2023-04" in runs.recordings
