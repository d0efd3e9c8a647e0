"""What a person at this machine can order of a vault: `halt`, `resume`, `pause`, `reduce-only`, `flatten` and the rest.

A running daemon is told over its control socket. If none runs, what makes the bot stricter, and a resume, is noted in
the journal for the next start to obey; what would trade, or set something, needs a daemon.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from bot.domain.decisions import BotState
from bot.domain.errors import ConfigError
from bot.domain.events import OperatorAction, OperatorCommand, Restarted
from bot.domain.units import NS_PER_S, whole_text
from bot.engine.operator_orders import CommandRefusal
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.journal import Batch, Journal
from bot.runtime.operators import control
from bot.runtime.operators.halt_marker import Halt, marker_of
from bot.runtime.operators.halting import halt_everywhere
from bot.runtime.operators.operating import GOES_ON
from bot.runtime.operators.reasons import fit_reason, learn_secrets
from bot.runtime.recovery import journal_path

FAILURE: Final = 1  # the exit codes of the command line that end these commands
NOT_RUNNING: Final = 3
VENUE: Final = 4
LIMIT: Final = 6
TRIPPED: Final = (BotState.REDUCE_ONLY, BotState.PAUSED, BotState.HALTED)  # a limit still stands after a resume
STRICTER: Final = (OperatorAction.HALT, OperatorAction.PAUSE, OperatorAction.REDUCE_ONLY)
NOTED: Final = (*STRICTER, OperatorAction.RESUME)
BY_A_LIMIT: Final = (CommandRefusal.NOT_ALLOWED, CommandRefusal.OUT_OF_BOUNDS)
FLATTENING: Final = (
    "flatten closes every hedge this run holds, each at its own venue and within its limits, and pauses the bot;\n"
    "the book is not touched, so its full delta is open from then on; only a resume ends it"
)

VaultFile = Annotated[Path, typer.Argument(metavar="VAULT.yaml", help="Vault file")]
JournalPath = Annotated[Path | None, typer.Option("--journal", help="Journal file; default: the vault's own")]
Reason = Annotated[str, typer.Option("--reason", help="Why; goes into the journal")]
NeededReason = Annotated[str, typer.Option("--reason", help="Why; goes into the journal, and is needed")]
Underlying = Annotated[str, typer.Argument(metavar="UNDERLYING", help="Coin it is about")]
Reset = Annotated[bool, typer.Option("--reset", help="Give it back to the vault's file and policy")]


def halt(vault_file: VaultFile, reason: Reason = "operator", journal: JournalPath = None) -> None:
    """Stop trading and cancel what rests; only `resume` ends it, a restart does not.

    On a live feed it also works with the daemon frozen: it cancels at every venue by itself.
    """
    (vault,) = load_vaults([vault_file], allow_live=True)
    if not vault.is_live_feed:
        _operate(vault, journal, OperatorAction.HALT, reason)
        return
    halt_now = Halt(issuer(), reason, time.time_ns())
    halting = halt_everywhere(
        vault,
        halt_now,
        marker_of(vault.state_dir, vault.vault),
        control.socket_path(vault.state_dir, vault.vault),
        os.environ,
    )
    told = asyncio.run(halting)
    for line in told.lines:
        typer.echo(line)
    if not told.is_complete:
        raise typer.Exit(VENUE)


def resume(
    vault_file: VaultFile,
    reason: Annotated[str, typer.Option("--reason", help="Why it is safe again; goes into the journal")],
    journal: JournalPath = None,
) -> None:
    """Trade again after a halt, a pause, a flatten or a limit that tripped."""
    if not reason.strip():
        raise ConfigError(["--reason: expected why it is safe again, found nothing; it goes into the journal"])
    (vault,) = load_vaults([vault_file], allow_live=True)
    _operate(vault, journal, OperatorAction.RESUME, reason)


def pause(vault_file: VaultFile, reason: Reason = "operator", journal: JournalPath = None) -> None:
    """Send no order until a resume; what rests is canceled. A flatten under way goes on: only a halt stops it."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    _operate(vault, journal, OperatorAction.PAUSE, reason)


def reduce_only(vault_file: VaultFile, reason: Reason = "operator", journal: JournalPath = None) -> None:
    """Send only what brings net delta nearer to its target, until a resume."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    _operate(vault, journal, OperatorAction.REDUCE_ONLY, reason)


def flatten(
    vault_file: VaultFile,
    reason: NeededReason,
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="VAULT", help="The vault's name once more: its book is left unhedged")
    ] = "",
) -> None:
    """Close every hedge, then stay paused until a resume; the book is not touched, and so is left unhedged."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    if confirm != vault.vault:
        typer.echo(FLATTENING, err=True)
        expected = f"--confirm {vault.vault}, as this leaves the book unhedged"
        raise ConfigError([f"expected {expected}, found {confirm[:64]!r}"])
    _operate(vault, None, OperatorAction.FLATTEN, reason)


def hedge_now(
    vault_file: VaultFile,
    underlying: Annotated[str, typer.Argument(metavar="[UNDERLYING]", help="Coin to hedge; default: all")] = "",
    reason: Reason = "operator",
) -> None:
    """Trade to the target once, band or no band; every other gate and limit stands."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    _operate(vault, None, OperatorAction.HEDGE_NOW, reason, underlying=underlying)


def set_target(
    vault_file: VaultFile,
    underlying: Underlying,
    target_base: Annotated[
        float | None, typer.Option("--to", metavar="BASE", help="Net delta to keep, in base units")
    ] = None,
    reset: Reset = False,
    reason: Reason = "operator",
) -> None:
    """Keep another net delta than the vault's file says, within the bounds of its `operator` section."""
    if (target_base is None) is not reset:
        raise ConfigError(["expected either --to or --reset"])
    (vault,) = load_vaults([vault_file], allow_live=True)
    _operate(vault, None, OperatorAction.SET_TARGET, reason, underlying=underlying, target_base=target_base)


def set_band(
    vault_file: VaultFile,
    underlying: Underlying,
    low_base: Annotated[
        float | None, typer.Option("--low", metavar="BASE", help="Lower edge from the target, below 0")
    ] = None,
    high_base: Annotated[
        float | None, typer.Option("--high", metavar="BASE", help="Upper edge from the target, above 0")
    ] = None,
    reset: Reset = False,
    reason: Reason = "operator",
) -> None:
    """Keep net delta in a band around its target instead of the policy's, within the `operator` section's bounds."""
    if (low_base is None) is not (high_base is None) or (low_base is None) is not reset:
        raise ConfigError(["expected either --low and --high, or --reset"])
    (vault,) = load_vaults([vault_file], allow_live=True)
    _operate(
        vault, None, OperatorAction.SET_BAND, reason, underlying=underlying, low_base=low_base, high_base=high_base
    )


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command()(halt)
    app.command()(resume)
    app.command()(pause)
    app.command("reduce-only")(reduce_only)
    app.command()(flatten)
    app.command("hedge-now")(hedge_now)
    app.command("set-target")(set_target)
    app.command("set-band")(set_band)


def issuer() -> str:
    """Return who gives the order; in a container the user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _operate(vault: Vault, journal: Path | None, action: OperatorAction, reason: str, **arguments: object) -> None:
    """Tell the running daemon, or, if none runs, its journal: the next start obeys it."""
    learn_secrets(vault, os.environ)
    reason = fit_reason(action, reason)
    marker = marker_of(vault.state_dir, vault.vault)
    seen = marker.read()
    question = {"verb": "operate", "action": str(action), "issuer": issuer(), "reason": reason, **arguments}
    if action not in STRICTER:  # a daemon that wakes later must not do what its person gave up, past a halt since then
        now_ns = time.time_ns()
        question |= {"issued_ns": now_ns, "expires_ns": now_ns + round(control.ANSWER_TIMEOUT_S * NS_PER_S)}
    try:
        answer = control.ask(control.socket_path(vault.state_dir, vault.vault), question)
    except control.NotRunningError:
        answer = _note(vault, journal or journal_path(vault), action, reason)
        if action is OperatorAction.RESUME:
            marker.remove(seen)
        typer.echo(f"{vault.vault} is not running; its next start will obey", err=True)
    if "error" in answer:
        typer.echo(f"error: {answer['error']}", err=True)
        raise typer.Exit(LIMIT if answer.get("refusal") in BY_A_LIMIT else FAILURE)
    text = f"{answer['state']} {answer['reason']}".rstrip() if action in NOTED else answer["text"]
    if action in NOTED and answer.get("text", "").endswith(GOES_ON):
        text = f"{text}; {GOES_ON}"
    typer.echo(f"{vault.vault}: {text}")
    if action is OperatorAction.RESUME and answer["state"] in TRIPPED:
        raise typer.Exit(LIMIT)


def _note(vault: Vault, path: Path, action: OperatorAction, reason: str) -> dict[str, str]:
    """Append the command to the journal for the next start to obey, if that makes sense and there is one."""
    if action not in NOTED:
        typer.echo(f"error: {vault.vault} is not running; hint: {action} needs a daemon that trades", err=True)
        raise typer.Exit(NOT_RUNNING)
    if not path.exists():
        typer.echo(f"error: {vault.vault} is not running and has no journal at {path}; nothing to {action}", err=True)
        raise typer.Exit(NOT_RUNNING)
    return _operate_on_journal(path, action, reason)


def _operate_on_journal(path: Path, action: OperatorAction, reason: str) -> dict[str, str]:
    """Append the command for the next start to obey. Nothing is replayed: a halt must work whatever else does not.

    A restart comes first: whatever was commanded last never reached anyone, and nothing is traded in its batch.
    """
    with Journal.open(path, for_writing=True) as opened:
        last_ns = 0
        for _, record in opened.records(max(0, opened.last_seq - 1)):
            last_ns = getattr(record, "now_ns", last_ns)
        command = OperatorCommand(action, issuer(), whole_text(reason), last_ns)
        opened.append(Batch(last_ns, (Restarted(last_ns), command)))
    return {"state": f"{action} noted", "reason": ""}
