"""What every test runs under: bounded hypothesis examples, and no asyncio task left behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
from collections.abc import AsyncIterator

import hypothesis
import pytest
import pytest_asyncio

import bot.gateways.chain  # noqa: F401 — before anything else imports what it undoes the side effect of
from tests.chains.fixtures import full_world, world, worlds

__all__ = ["full_world", "world", "worlds"]  # fixtures, for every test

# Continuous integration must not fail on an example nobody can reproduce; elsewhere new examples are wanted.
hypothesis.settings.register_profile(
    "local",
    deadline=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("local"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

# What workers and all processes of tests start with. Where the machine is told to keep no bytecode (containers are),
# each would compile all of bot anew, and each worker all tests. And two workers on two cores have no core left for
# numeric threads, which wait for each other by spinning.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives as long as the run: it would go through all modules time and again."""
    gc.collect()
    gc.freeze()


def _process_state() -> tuple[int, int, int]:
    """Return what a test may change of its whole process, and every later test would then run with."""
    umask = os.umask(0o022)
    os.umask(umask)
    return umask, os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)


BEGAN_WITH = _process_state()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Fail a test that leaves its process with another umask, niceness or scheduler."""
    found = _process_state()
    assert found == BEGAN_WITH, f"expected umask, niceness and scheduler {BEGAN_WITH}, found {found}"


@pytest.fixture(autouse=True)
def nothing_left_running(request: pytest.FixtureRequest) -> None:
    """Watch every asynchronous test for tasks it leaves behind; sockets and files left open are warnings, so errors."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("no_task_left_running")


@pytest_asyncio.fixture
async def no_task_left_running() -> AsyncIterator[None]:
    """Fail an asynchronous test whose event loop still has tasks when the test is over."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:  # a library may still be dialling a server that has gone: that ends by itself, a leak does not
        _, left = await asyncio.wait(left, timeout=30.0)
    assert not left, f"expected no task left behind, found {left}"
