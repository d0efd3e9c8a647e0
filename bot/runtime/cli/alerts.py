"""`evenkeel alerts`: what is open, and a person's word that somebody looks after it; asked of the windows' process."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from bot.domain.units import utc_text
from bot.domain.windows import Alert
from bot.runtime.cli.windows import watch, windows_socket
from bot.runtime.operators import control

FAILURE: Final = 1  # the exit codes of the command line that end this command
NOT_RUNNING: Final = 3
TIMEOUT: Final = 5


def alerts(
    vault_files: Annotated[list[Path], typer.Argument(metavar="VAULT.yaml…", help="Vault files")],
    acknowledge: Annotated[
        str,
        typer.Option("--acknowledge", metavar="ID", help="Somebody looks after it: neither told again nor escalated"),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Show the open alerts of vaults and of the desk, the worst first; or acknowledge one."""
    watched = watch(vault_files)
    names = {one.vault.vault for one in watched} | {""}
    question: dict[str, Any] = {"verb": "alerts"}
    if acknowledge:
        question = {
            "verb": "acknowledge",
            "alert_id": acknowledge,
            "issuer": f"{getpass.getuser()}@{os.uname().nodename}",
        }
    answer = _ask(windows_socket(watched), question)
    out = Console(soft_wrap=True, markup=False, highlight=False)
    if acknowledge:
        out.print(f"acknowledged: {acknowledge}")
        return
    found = [one for one in msgspec.convert(answer["alerts"], list[Alert]) if one.vault in names]
    if as_json:
        out.print(json.dumps({"alerts": msgspec.to_builtins(found)}, indent=2))
        return
    for one in found:
        for line in _lines(one):
            out.print(line)
    if not found:
        out.print("no alerts")


def _ask(path: Path, question: dict[str, Any]) -> dict[str, Any]:
    err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    try:
        answer = control.ask(path, question)
    except control.NotRunningError:
        err.print(f"error: expected windows at {path}, found none; hint: start them with `evenkeel run --desk`")
        raise typer.Exit(NOT_RUNNING) from None
    except TimeoutError:
        err.print("error: expected an answer of the windows, found none in time; hint: see their log")
        raise typer.Exit(TIMEOUT) from None
    if "error" in answer:
        err.print(f"error: {answer['error']}")
        raise typer.Exit(FAILURE)
    return answer


def _lines(one: Alert) -> list[str]:
    indent = " " * 10
    lines = [f"{one.severity:<8}  {one.alert_id}  {one.title}", f"{indent}{one.detail}" if one.detail else ""]
    since = f"{indent}since {utc_text(one.began_ns)}"
    lines.append(since + (f", {one.count} times" if one.count > 1 else ""))
    if one.acknowledged_by:
        lines.append(f"{indent}acknowledged by {one.acknowledged_by}")
    if one.escalated_ns:
        lines.append(f"{indent}nobody did until {utc_text(one.escalated_ns)}: reduce-only since")
    return [line for line in lines if line]
