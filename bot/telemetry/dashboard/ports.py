"""What the dashboard is given by the process it runs in: a way to order, and things to read. It reaches for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from bot.domain.commands import Arguments
from bot.domain.windows import CommandAnswer, Told
from bot.telemetry.dashboard.replays import Replays
from bot.telemetry.dashboard.shown.margin import HeatMap


class User(msgspec.Struct, frozen=True):
    """Somebody who may log in: the hash of their password, and whether they may give orders."""

    password_hash: str
    is_operator: bool


class DashboardConfig(msgspec.Struct, frozen=True):
    """What pages need to know of the desk: who may log in, by which names we are reached, how long a session lasts.

    `hosts` are names and addresses without ports. `is_tls` tells that we serve TLS ourselves; `trusted_proxy` is the
    only peer that is heard, and whose X-Forwarded-Proto and -For are believed, where a proxy does.
    """

    users: dict[str, User]
    hosts: tuple[str, ...]
    vaults: tuple[str, ...]
    is_tls: bool = False
    trusted_proxy: str | None = None
    idle_s: float = 3600.0
    absolute_s: float = 43_200.0


class Order(msgspec.Struct, frozen=True):
    """What an operator asked for on a page, and which operator."""

    vault: str
    action: str
    reason: str
    user: str
    arguments: Arguments = Arguments()


class Actions(Protocol):
    """Gives orders."""

    async def order(self, order: Order) -> CommandAnswer:
        """Sign an order, send it, and return what became of it; raises TimeoutError when nobody answers."""
        ...


class Sources(Protocol):
    """What pages read that a broker does not tell."""

    async def audit(self, vault: str, limit: int) -> Sequence[Told]:
        """Return the newest commands and changes of configuration in a vault's journal, newest first."""
        ...

    def heat(self, vault: str) -> HeatMap | None:
        """Return the newest look at a vault over moves of spot and vol, None before the first; returns at once."""
        ...

    @property
    def replays(self) -> Replays:
        """Who runs replays."""
        ...
