"""Plans from a process of their own: whatever becomes of it, there is an answer and the loop goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from bot.domain.events import Event, PlanCollateral
from bot.domain.risk import CollateralPlanned
from bot.risk.collateral.answering import Answer, answer, answer_greedily
from bot.risk.collateral.plan import decode_plan
from bot.risk.collateral.solving import solve
from bot.runtime.collateral_planner import CollateralPlanner
from bot.runtime.live.clock import WallClock
from tests.risk.collateral.test_answering import needy
from tests.runtime.command_line import PATIENCE_S

PROBLEM = msgspec.json.encode(needy()).decode()
COMMAND = PlanCollateral("run-P1", PROBLEM, 1.0, "it is time")
GREEDY = msgspec.json.encode(answer_greedily(PROBLEM, "x")).decode()


def worker(folder: Path, *lines: str) -> tuple[str, ...]:
    """Return the arguments of a process that does what these lines of Python say instead of solving."""
    path = folder / "worker.py"
    path.write_text("\n".join(("import json, os, sys, time", "sys.stdin.read()", *lines)))
    return (str(path),)


async def test_the_daemon_goes_on_while_a_process_solves(tmp_path: Path) -> None:
    solved = msgspec.json.encode(answer(PROBLEM, 1.0)).decode()
    says = worker(tmp_path, f"print({GREEDY!r}, flush=True)", "time.sleep(0.3)", f"print({solved!r}, flush=True)")
    planner = CollateralPlanner(WallClock(), worker=says, start_s=60.0)
    told: list[Event] = []
    done = asyncio.Event()

    def listen(events: Sequence[Event]) -> None:
        told.extend(events)
        done.set()

    running = asyncio.create_task(planner.run(listen))
    planner.submit(msgspec.structs.replace(COMMAND, plan_id="run-P0"))  # nobody began with it: it is forgotten
    planner.submit(COMMAND)
    beats = 0
    while not done.is_set():
        beats += 1
        await asyncio.sleep(0.01)
    running.cancel()
    (event,) = told
    assert isinstance(event, CollateralPlanned)
    assert (event.plan_id, event.method, event.fault) == ("run-P1", "lp", "")
    assert decode_plan(event.text) == solve(needy(), time_limit_s=1.0)
    assert beats > 3


async def ask(*args: str, start_s: float = PATIENCE_S, limit_s: float = 0.2) -> Answer:
    planner = CollateralPlanner(WallClock(), worker=args, start_s=start_s)
    return await planner.solve(msgspec.structs.replace(COMMAND, time_limit_s=limit_s))


async def test_f42_a_solver_that_hangs_is_killed_and_the_greedy_plan_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is over once it has said something, however long it took to start: the loop's clock is put on."""
    says = worker(
        tmp_path,
        f"print({GREEDY!r}, flush=True)",
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))",
        "time.sleep(600)",
    )
    loop, later_s = asyncio.get_running_loop(), 0.0
    now_s = loop.time
    monkeypatch.setattr(loop, "time", lambda: now_s() + later_s)
    asking = asyncio.create_task(ask(*says, start_s=1_000.0))
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):  # noqa: ASYNC110 — of another process
        await asyncio.sleep(0.01)
    for _ in range(100):  # what it has said is read
        await asyncio.sleep(0)
    later_s = 2_000.0
    found = await asking
    assert decode_plan(found.text).is_met
    assert found.method == "greedy"
    assert found.fault == "the solver did not answer within 1000.4 s: the plan is the greedy one"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_f42_a_solver_that_crashes_leaves_what_it_said(tmp_path: Path) -> None:
    found = await ask(*worker(tmp_path, f"print({GREEDY!r}, flush=True)", "os.abort()"))
    assert found.method == "greedy"
    assert found.fault == "the solver's process ended with -6: the plan is the greedy one"


async def test_a_process_that_says_nothing_usable_is_no_plan(tmp_path: Path) -> None:
    found = await ask(*worker(tmp_path, "print('half a line', end='')", "sys.exit(3)"))
    assert (found.text, found.fault) == ("", "no plan: the solver's process ended with 3")


async def test_what_it_may_see_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENKEEL_DERIBIT_API_KEY", "nobody's")
    names = "' '.join(sorted(os.environ))"
    found = await ask(*worker(tmp_path, f"print(json.dumps(dict(text='', method='', fault={names})), flush=True)"))
    assert "PYTHONPATH" in found.fault
    assert "EVENKEEL" not in found.fault
