"""`evenkeel windows`: what a desk file opens, in a process of its own."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from bot.domain.errors import ConfigError
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.desk import Desk
from bot.runtime.configuration.desk_file import load_desk
from bot.runtime.daemon import stopping
from bot.runtime.operators import control
from bot.runtime.recovery import journal_path
from bot.runtime.windows.distances import Distances
from bot.runtime.windows.hub import Hub, Watched
from bot.runtime.windows.windows import SOCKET, Windows, open_windows, until_eof

STATE_EVERY_S = 0.25
NICENESS = 5


def windows(
    desk_file: Annotated[Path, typer.Argument(metavar="DESK.yaml", help="Desk file")],
    vault_files: Annotated[list[Path], typer.Argument(metavar="VAULT.yaml…", help="Vault files")],
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Journal file of the only vault; default: its own")
    ] = None,
    with_owner: Annotated[bool, typer.Option("--until-eof", help="End when standard input does", hidden=True)] = False,
) -> None:
    """Open the windows of running daemons: broker, metrics, alerts, commands. `run --desk` does it by itself."""
    yield_to_trading()
    desk = load_desk(desk_file)
    watched = watch(vault_files, journal)
    asyncio.run(_show(desk, watched, is_owned=with_owner))


def yield_to_trading() -> None:
    """Give way to whoever trades on this machine: a third of its weight, which still leaves enough for a halt.

    As a batch, to the kernel, it takes no processor from anybody at the moment it wakes up.
    """
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def watch(vault_files: list[Path], journal: Path | None = None) -> list[Watched]:
    """Return the vaults of these files as windows see them. Raises ConfigError for what is wrong with them."""
    vaults = load_vaults(vault_files, allow_live=True)
    if journal is not None and len(vaults) > 1:
        raise ConfigError(["expected one vault with --journal, found several; hint: leave --journal out"])
    return [
        Watched(vault, path, control.socket_path(vault.state_dir, vault.vault), journal or journal_path(vault))
        for path, vault in zip(vault_files, vaults, strict=True)
    ]


def windows_socket(watched: list[Watched]) -> Path:
    """Return where the windows of these vaults are asked."""
    return windows_sockets(watched)[0]


def windows_sockets(watched: list[Watched]) -> list[Path]:
    """Return where they listen, once for each state folder: nobody else may open windows of a vault that lies there."""
    return list(dict.fromkeys(Path(one.vault.state_dir).resolve() / SOCKET for one in watched))


async def _show(desk: Desk, watched: list[Watched], *, is_owned: bool) -> None:
    stop, hub = asyncio.Event(), Hub()
    every_s = desk.mqtt.state_every_s if desk.mqtt is not None else STATE_EVERY_S
    socket_path, *others = windows_sockets(watched)
    for path in (socket_path, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
    opened = open_windows(desk, watched, hub, os.environ)
    with stopping(stop):
        watcher = asyncio.create_task(until_eof(stop)) if is_owned else None
        distances = Distances(watched)
        host = Windows(
            watched,
            opened,
            hub,
            socket_path=socket_path,
            every_s=every_s,
            other_sockets=others,
            complete=distances.complete,
        )
        try:
            await host.run(stop)
        finally:
            distances.close()
        if watcher is not None:
            watcher.cancel()
