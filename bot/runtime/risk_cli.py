"""`evenkeel risk`: margin, netting, distances, counterparties; stress, collateral, and what an order would do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from typer.core import TyperGroup

from bot.domain.errors import ConfigError
from bot.runtime import risk_tables, tables
from bot.runtime.config import load_vaults
from bot.runtime.quote_cli import parse_time
from bot.runtime.risk_accounts import Accounts
from bot.runtime.risk_source import Found, NowhereError, find_snapshot
from bot.runtime.risk_view import build_view, plain
from bot.runtime.session import open_vault_recording
from bot.runtime.vault import Vault

NO_TERMINAL_COLUMNS: Final = 160  # of a file or a pipe, which has no width
NOT_RUNNING: Final = 3  # the exit codes of the command line that end these commands
LIMIT: Final = 6


class _ShowFirst(TyperGroup):
    """A group whose first word may be a vault file: then it is the command `show`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 — click's own context
        """Put `show` before what is no command of the group."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["show", *args]
        return super().parse_args(ctx, args)


risk_app = typer.Typer(
    cls=_ShowFirst,
    no_args_is_help=True,
    help="Margin, netting, distance to liquidation and counterparties of a vault: evenkeel risk VAULT.yaml",
)

VaultFile = Annotated[Path, typer.Argument(metavar="VAULT.yaml", help="Vault file")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]
JournalPath = Annotated[Path | None, typer.Option("--journal", help="Journal file; default: the vault's own")]
At = Annotated[
    str, typer.Option("--at", metavar="TIME", help="Moment of the recording, UTC; default: its end; 2023-04-13T12:00")
]
Replayed = Annotated[
    bool, typer.Option("--replay", help="With the hedges the vault would hold by then; takes as long as a replay")
]


@risk_app.command()
def show(
    vault_file: VaultFile,
    at: At = "",
    replayed: Replayed = False,
    journal: JournalPath = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="DIR", help="Also draw margin and forecast there")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show margin, netting, distances, counterparties and forecasts; the default: evenkeel risk VAULT.yaml."""
    vault, found = look(vault_file, at, replayed=replayed, journal=journal)
    accounts = reckon(vault, found)
    view = build_view(accounts)
    if as_json:
        print_json(plain(view))
    else:
        risk_tables.print_view(console(), view)
    end(found)


def look(
    vault_file: Path, at: str, *, replayed: bool, journal: Path | None, wanted: tuple[str, ...] = ()
) -> tuple[Vault, Found]:
    """Return a vault and what its risk is reckoned from; exit 3 where there is nothing to look at."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    at_ns = parse_time(at) if at else None
    err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    try:
        if replayed and not vault.is_live_feed:
            manifest = open_vault_recording(vault).manifest
            with tables.progress_bar(err, vault.vault, manifest.start_ns, at_ns or manifest.end_ns) as progress:
                return vault, _find(vault, at_ns, journal, wanted, progress, replayed=True)
        return vault, _find(vault, at_ns, journal, wanted, lambda _now_ns: None, replayed=replayed)
    except NowhereError as error:
        err.print(f"error: {error}")
        raise typer.Exit(NOT_RUNNING) from None


def _find(
    vault: Vault,
    at_ns: int | None,
    journal: Path | None,
    wanted: tuple[str, ...],
    progress: Callable[[int], None],
    *,
    replayed: bool,
) -> Found:
    return find_snapshot(vault, journal=journal, at_ns=at_ns, is_replayed=replayed, wanted=wanted, progress=progress)


def reckon(vault: Vault, found: Found) -> Accounts:
    """Return the accounts of a snapshot. Raises ConfigError where they cannot be made out."""
    try:
        return Accounts(vault, found.snapshot)
    except ValueError as error:
        raise ConfigError([f"vault {vault.vault}: {error}"]) from None


def console() -> Console:
    """Return the console of stdout; a file or a pipe has a width too."""
    found = Console(soft_wrap=True, markup=False, highlight=False)
    if not found.is_terminal:
        found = Console(soft_wrap=True, markup=False, highlight=False, width=NO_TERMINAL_COLUMNS)
    return found


def print_json(value: object) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def end(found: Found) -> None:
    """Exit 3 where what was shown is the past of a daemon that does not run."""
    if found.is_past:
        typer.echo("not running: this is what the journal knew at its end, not the present", err=True)
        raise typer.Exit(NOT_RUNNING)
