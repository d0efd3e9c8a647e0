"""Replays as pages see them: what may be picked, and how the one that runs stands. They run somewhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from bot.domain.results import TracedRun


class ReplayState(msgspec.Struct, frozen=True):
    """How the replay of this desk stands: one at a time. `fraction` is over all policies; `error` says why it ended.

    `runs` are those of the last one that ended with figures, which may be an earlier one.
    """

    is_running: bool = False
    vault: str = ""
    recording: str = ""
    policies: tuple[str, ...] = ()
    user: str = ""
    fraction: float = 0.0
    told: str = ""
    error: str = ""
    runs: tuple[TracedRun, ...] = ()


class Replays(Protocol):
    """Runs replays apart from everything else, one at a time for the whole desk."""

    @property
    def vaults(self) -> Sequence[str]:
        """The vaults whose files can be replayed."""
        ...

    @property
    def recordings(self) -> Sequence[str]:
        """The recordings there are."""
        ...

    @property
    def policies(self) -> Sequence[str]:
        """The policies there are."""
        ...

    @property
    def state(self) -> ReplayState:
        """How it stands."""
        ...

    def recording_of(self, vault: str) -> str:
        """Return the recording a vault's file names, "" for a live feed."""
        ...

    def policy_of(self, vault: str) -> str:
        """Return the policy a vault's file names."""
        ...

    def start(self, vault: str, recording: str, policies: Sequence[str], user: str) -> str:
        """Begin a replay and return "", or why not. What is not offered is refused."""
        ...

    def cancel(self) -> None:
        """End the one that runs."""
        ...
