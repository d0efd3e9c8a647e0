"""Whether the daemons live, and whether they are ready to hedge: what a supervisor and a load balancer ask.

Alive means that somebody answers; a halted vault is alive. Ready means that the vault would hedge if it had to.
"""

from __future__ import annotations

import msgspec

from bot.domain.decisions import BotState
from bot.domain.windows import VaultState
from bot.telemetry.metrics.board import Board, Record

MAX_SILENCE_S = 10.0
KNOWING_GATES = ("accounts known", "chains known")  # what a start waits for
MAX_PROBLEMS = 20  # told per vault


class Health(msgspec.Struct, frozen=True):
    """A verdict, and by vault what stands against it: nothing where all is well."""

    is_ok: bool
    vaults: dict[str, tuple[str, ...]]


def judge_life(board: Board) -> Health:
    """Say whether every daemon answered lately; a daemon that starts has as long as one that answered."""
    return _verdict({name: tuple(_silences(board, record)) for name, record in board.records.items()})


def judge_readiness(board: Board) -> Health:
    """Say whether every vault runs on fresh feeds and knows its accounts."""
    found = {}
    for name, record in board.records.items():
        problems = _silences(board, record) or ([] if record.is_answering else [record.why_gone])
        if record.state is not None:
            problems += _unready(record.state)
        found[name] = tuple(_cut(problems))
    return _verdict(found)


def _verdict(found: dict[str, tuple[str, ...]]) -> Health:
    return Health(is_ok=not any(found.values()), vaults=found)


def _silences(board: Board, record: Record) -> list[str]:
    silence_s = board.silence_s(record)
    if silence_s <= MAX_SILENCE_S:
        return []
    why = f": {record.why_gone}" if record.why_gone else ""
    return [f"expected an answer of the daemon within {MAX_SILENCE_S:g} s, found none for {silence_s:.1f} s{why}"]


def _unready(state: VaultState) -> list[str]:
    problems = []
    if state.state != BotState.RUNNING:
        problems.append(f"state {state.state}{': ' if state.state_reason else ''}{state.state_reason}")
    closed = {
        (gate.name, gate.detail)
        for one in state.underlyings
        for gate in one.gates
        if gate.name in KNOWING_GATES and not gate.is_open
    }
    problems += [f"{name}: {detail}" for name, detail in sorted(closed)]
    for feed in state.feeds:
        if feed.is_stale:
            age = "nothing received yet" if feed.age_s is None else f"{feed.age_s:.1f} s old"
            problems.append(f"feed {feed.name}: {age}, limit {feed.max_age_s:g} s")
    return problems


def _cut(problems: list[str]) -> list[str]:
    more = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], f"and {more} more"] if more > 0 else problems
