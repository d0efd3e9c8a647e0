"""`evenkeel risk transfers`: collateral under way, and a person's word on it, through the daemon's own line.

Whoever sends by hand what the vault only told as an instruction says so here, and confirms here what is too much to be
sent unasked. Needs the daemon: it alone knows what is under way, and its journal keeps who said what.
"""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from bot.runtime.configuration.config import load_vaults
from bot.runtime.live.transfers import CONFIRM
from bot.runtime.operators import control

FAILURE: Final = 1  # the exit codes of the command line that end this command
NOT_RUNNING: Final = 3
NO_TERMINAL_COLUMNS: Final = 160  # of a file or a pipe, which has no width
ACTIONS: Final = ("list", CONFIRM, "sent", "arrived", "failed")


def transfers(
    vault_file: Annotated[Path, typer.Argument(metavar="VAULT.yaml", help="Vault file")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="list, confirm, sent, arrived or failed")] = "list",
    transfer_id: Annotated[str, typer.Argument(metavar="[ID]", help="Transfer, as `list` shows it")] = "",
    amount: Annotated[
        float | None, typer.Argument(metavar="[AMOUNT]", help="With confirm: its amount; else what came, if not all")
    ] = None,
    fee: Annotated[float, typer.Option("--fee", min=0, help="What it cost, in the asset")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Show collateral under way; confirm a transfer by its id and amount; say that one was sent, arrived or failed."""
    err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    if action not in ACTIONS:
        raise typer.BadParameter(f"expected {', '.join(ACTIONS)}, found {action!r}", param_hint="ACTION")
    if action != "list" and not transfer_id:
        raise typer.BadParameter("expected the id of a transfer, found none", param_hint="ID")
    if action == CONFIRM and amount is None:
        raise typer.BadParameter("expected the amount, to confirm it by, found none", param_hint="AMOUNT")
    (vault,) = load_vaults([vault_file], allow_live=True)
    question = {
        "verb": "transfer",
        "action": action,
        "transfer_id": transfer_id,
        "amount": amount,
        "fee": fee,
        "issuer": _issuer(),
    }
    try:
        answer = control.ask(control.socket_path(vault.state_dir, vault.vault), question)
    except control.NotRunningError:
        err.print(f"error: {vault.vault} is not running, and only its daemon knows what is under way; hint: start it")
        raise typer.Exit(NOT_RUNNING) from None
    if "error" in answer:
        err.print(f"error: {answer['error']}")
        raise typer.Exit(FAILURE)
    if as_json:
        typer.echo(json.dumps(answer, indent=2, allow_nan=False))
    else:
        _print(answer["transfers"])


def _issuer() -> str:
    """Return who speaks; in a container the user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _print(lines: list[dict[str, Any]]) -> None:
    console = Console(soft_wrap=True, markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(soft_wrap=True, markup=False, highlight=False, width=NO_TERMINAL_COLUMNS)
    if not lines:
        console.print("no collateral is under way")
        return
    table = Table("id", "state", "amount", "from → to", "route", "planned", "why", title="collateral under way")
    for one in lines:
        state = "waits to be confirmed" if one["waits_for_confirmation"] else one["state"]
        way = f"{one['from_venue']} → {one['to_venue']}"
        amount = f"{one['amount']:.10g} {one['asset']}"
        table.add_row(one["transfer_id"], state, amount, way, one["route"], one["planned"], one["reason"])
    console.print(table)
