"""Distances to liquidation: those of the risk page, the nearer one, and none where they are not known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.meters import DaemonMeters
from bot.runtime.operators import control
from bot.runtime.risk.accounts import Accounts
from bot.runtime.risk.snapshot import Snapshot, take_snapshot
from bot.runtime.risk.view import distances_of
from bot.runtime.session import Session, open_session
from bot.runtime.window_state import take_state
from bot.runtime.windows.distances import Distances
from bot.runtime.windows.heat_source import HeatSource
from bot.runtime.windows.hub import Watched
from tests.runtime.command_line import wait_for
from tests.runtime.test_views import step

VAULT = Path(__file__).parents[3] / "config" / "eth-straddle-margin.yaml"


@pytest.fixture(scope="module")
def known() -> tuple[Session, int]:
    """A session with margin, some way into its recording."""
    (vault,) = load_vaults([VAULT])
    session = open_session(vault)
    for _ in range(500):
        now_ns = step(session) or 0
    return session, now_ns


@pytest.fixture
def distances(known: tuple[Session, int]) -> Iterator[Distances]:
    session, now_ns = known

    def ask(vault: Vault) -> dict[str, Any]:
        found = take_snapshot(vault, session.engine, now_ns, "a test", [], is_posed=False, is_running=True)
        answer: dict[str, Any] = msgspec.to_builtins(found)
        return answer

    watched = [Watched(session.vault, VAULT, Path("s"), Path("j"))]
    made = Distances(watched, HeatSource({session.vault.vault: session.vault}, ask=ask))
    yield made
    made.close()


def test_the_nearer_move_is_shown(known: tuple[Session, int], distances: Distances) -> None:
    session, now_ns = known
    state = take_state(session, {}, DaemonMeters().read(0, 0.0), now_ns, "")
    assert state.accounts[0].spot_distance_fraction is None
    shown = wait_for(lambda: distances.complete(state).accounts[0].spot_distance_fraction)
    snapshot = take_snapshot(session.vault, session.engine, now_ns, "a test", [], is_posed=False, is_running=True)
    accounts = Accounts(session.vault, msgspec.convert(msgspec.to_builtins(snapshot), Snapshot))
    (account,) = accounts.of.values()
    line = next(one for one in distances_of(accounts, account) if one.underlying in ("all", "ETH"))
    down, up = line.distance.down_fraction, line.distance.up_fraction
    assert shown == pytest.approx(-down if down < up else up)
    assert 0.02 < abs(shown) < 0.5


def test_a_state_stays_as_it_is_where_nothing_is_known(known: tuple[Session, int]) -> None:
    session, now_ns = known
    asked: list[str] = []

    def silent(vault: Vault) -> dict[str, Any]:
        asked.append(vault.vault)
        raise control.NotRunningError(vault.vault)

    source = HeatSource({session.vault.vault: session.vault}, ask=silent)
    made = Distances([], source)
    state = take_state(session, {}, DaemonMeters().read(0, 0.0), now_ns, "")
    assert made.complete(state) is state
    wait_for(lambda: source.heat(session.vault.vault))
    assert asked
    assert made.complete(state) is state
    made.close()
