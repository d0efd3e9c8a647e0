"""Looks at a book over moves and vols: the same figures as `risk stress`, taken when asked for and not too often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.operators.control import NotRunningError
from bot.runtime.risk.accounts import Accounts
from bot.runtime.risk.snapshot import Snapshot, take_snapshot
from bot.runtime.risk.stress import build_stress
from bot.runtime.risk.view import build_view
from bot.runtime.windows.heat_source import HeatSource
from bot.telemetry.dashboard.shown.margin import HeatMap
from tests.runtime.command_line import wait_for
from tests.runtime.test_views import open_busy, step


@pytest.fixture
def vault(busy: Path) -> Vault:
    (found,) = load_vaults([busy / "busy.yaml"])
    return found


@pytest.fixture
def answer(busy: Path) -> dict[str, Any]:
    session = open_busy(busy)
    now_ns = 0
    for _ in range(150):
        now_ns = step(session) or now_ns
    snapshot = take_snapshot(session.vault, session.engine, now_ns, "the running daemon")
    found: dict[str, Any] = json.loads(json.dumps(msgspec.to_builtins(snapshot)))
    return found


class Daemon:
    """Answers as it is told to and counts how often it was asked."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked = 0

    def __call__(self, vault: Vault) -> dict[str, Any]:
        self.asked += 1
        assert vault.vault == "busy"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def first_look(source: HeatSource) -> HeatMap:
    found = wait_for(lambda: source.heat("busy"))
    assert isinstance(found, HeatMap)
    return found


def test_a_look_has_the_figures_of_the_command_line(vault: Vault, answer: dict[str, Any]) -> None:
    source = HeatSource({"busy": vault}, ask=Daemon(answer))
    assert source.heat("busy") is None  # at once, whatever it takes
    found = first_look(source)
    accounts = Accounts(vault, msgspec.convert(answer, Snapshot))
    heat = build_stress(accounts).heat
    assert found.error == ""
    assert (found.moves, found.vols) == (heat.moves, heat.vols)
    assert [list(line) for line in found.pnl_quote] == heat.pnl_quote
    assert found.pnl_quote[heat.vols.index(0.0)][heat.moves.index(0.0)] == pytest.approx(0.0, abs=1e-6)
    (line,) = build_view(accounts).distances
    distance = found.distances[line.account]
    assert distance.up_fraction == line.distance.up_fraction
    assert line.distance.interval.down_px == 0.0
    assert distance.down_fraction is None  # a price cannot fall that far
    source.close()


def test_a_daemon_is_not_asked_more_often_than_said(vault: Vault, answer: dict[str, Any]) -> None:
    daemon, clock = Daemon(answer), [0.0]
    source = HeatSource({"busy": vault}, ask=daemon, every_s=30.0, now_s=lambda: clock[0])
    first_look(source)
    for clock[0] in (1.0, 15.0, 29.0):
        source.heat("busy")
    assert daemon.asked == 1
    clock[0] = 30.0
    source.heat("busy")
    wait_for(lambda: daemon.asked == 2)
    assert source.heat("nobody") is None
    source.close()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (NotRunningError("x"), "the daemon does not run"),
        (TimeoutError(), "did not answer in time"),
        ({"error": "no marks"}, "the daemon says: no marks"),
        ({"vault": 7}, "could not be reckoned"),
    ],
)
def test_an_old_look_stays_and_says_why_there_is_no_newer_one(
    vault: Vault, answer: dict[str, Any], fault: dict[str, Any] | Exception, why: str
) -> None:
    daemon, clock = Daemon(answer), [0.0]
    source = HeatSource({"busy": vault}, ask=daemon, every_s=30.0, now_s=lambda: clock[0])
    before = first_look(source)
    daemon.answer, clock[0] = fault, 31.0
    found = wait_for(lambda: found if (found := source.heat("busy")) is not None and found.error else None)
    assert why in found.error
    assert found.pnl_quote == before.pnl_quote
    source.close()


def test_a_daemon_that_never_answered_leaves_a_reason(vault: Vault) -> None:
    source = HeatSource({"busy": vault})  # asks at the vault's own socket, where nobody listens
    found = first_look(source)
    assert (found.moves, found.error) == ((), "the daemon does not run")
    source.close()
