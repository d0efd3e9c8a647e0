"""`evenkeel risk`: margin, netting, distances, counterparties; stress, collateral, and what an order would do."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from typer.core import TyperGroup

from bot.domain.errors import ConfigError
from bot.domain.risk import SupposedMargin, SupposedPosition
from bot.runtime.cli import tables
from bot.runtime.cli.quote import parse_time
from bot.runtime.cli.transfers import transfers
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.operators import control
from bot.runtime.risk import tables as risk_tables
from bot.runtime.risk.accounts import Accounts
from bot.runtime.risk.collateral import build_collateral, write_instructions
from bot.runtime.risk.source import DAEMON, Found, NowhereError, find_snapshot
from bot.runtime.risk.stress import build_stress
from bot.runtime.risk.view import build_view, plain
from bot.runtime.risk.what_if import Order, build_what_if, parse_order
from bot.runtime.session import open_vault_recording

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
    if pictures is not None:
        from bot.runtime.risk import drawing as risk_drawing  # noqa: PLC0415 — brings matplotlib; figures must not wait for it

        risk_drawing.write_picture(risk_drawing.picture_of_margin(accounts, view), pictures / "margin.png")
        fan = risk_drawing.picture_of_forecast(accounts, view)
        if fan is not None:
            risk_drawing.write_picture(fan, pictures / "forecast.png")
    end(found)


risk_app.command("transfers")(transfers)


@risk_app.command()
def stress(
    vault_file: VaultFile,
    at: At = "",
    replayed: Replayed = False,
    journal: JournalPath = None,
    hours: Annotated[float, typer.Option("--hours", min=0, max=8760, help="Hours gone by on the map")] = 0.0,
    picture: Annotated[Path | None, typer.Option("--picture", metavar="FILE", help="Draw the map, as a PNG")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what moves, vols and named crashes would leave: P&L, Greeks, margin, and what would be hedged after them."""
    vault, found = look(vault_file, at, replayed=replayed, journal=journal)
    view = build_stress(reckon(vault, found), hours)
    if as_json:
        print_json(plain(view))
    else:
        risk_tables.print_stress(console(), view)
    if picture is not None:
        from bot.runtime.risk import drawing as risk_drawing  # noqa: PLC0415 — as above

        risk_drawing.write_picture(risk_drawing.picture_of_stress(view), picture)
    end(found)


@risk_app.command()
def collateral(
    vault_file: VaultFile,
    at: At = "",
    replayed: Replayed = False,
    journal: JournalPath = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write the plan as instructions, lines of JSON")
    ] = None,
    picture: Annotated[Path | None, typer.Option("--picture", metavar="FILE", help="Draw the plan, as a PNG")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where collateral should be: the cheapest plan over the vault's routes, its reasons, and what is missing."""
    vault, found = look(vault_file, at, replayed=replayed, journal=journal, is_posed=True)
    accounts = reckon(vault, found)
    view = build_collateral(accounts)
    if as_json:
        print_json(plain(view))
    else:
        risk_tables.print_collateral(console(), view)
    if picture is not None:
        from bot.runtime.risk import drawing as risk_drawing  # noqa: PLC0415 — as above

        risk_drawing.write_picture(risk_drawing.picture_of_collateral(view, accounts), picture)
    if export is not None:
        write_instructions(view.instructions, export)
        typer.echo(f"wrote {len(view.instructions)} instructions to {export}", err=True)
    end(found)


@risk_app.command("what-if", context_settings={"ignore_unknown_options": True})
def what_if(
    vault_file: VaultFile,
    order: Annotated[
        list[str], typer.Argument(metavar="ORDER", help="As in: buy 10 BTC-PERPETUAL, or -5 BTC-28APR23-30000-C")
    ],
    at: At = "",
    replayed: Replayed = False,
    journal: JournalPath = None,
    as_json: AsJson = False,
) -> None:
    """Show what an order would do to margin, room, netting and distance; exit 6 if a limit would refuse it."""
    wanted = parse_order(order)
    vault, found = look(vault_file, at, replayed=replayed, journal=journal, wanted=(wanted.instrument_id,))
    told, silent = ask_venue(vault, found, wanted)
    view = build_what_if(reckon(vault, found), wanted, told, silent)
    if as_json:
        print_json(plain(view))
    else:
        risk_tables.print_what_if(console(), view)
    if view.refusals:
        raise typer.Exit(LIMIT)
    end(found)


def ask_venue(vault: Vault, found: Found, order: Order) -> tuple[SupposedMargin | None, str]:
    """Return what the venue itself says of an order, through the daemon's own line to it, or why it says nothing."""
    snapshot = found.snapshot
    if not vault.is_live_feed or snapshot.source != DAEMON:
        return None, ""
    prices = {one.position.instrument_id: one.position.mark_px or 0.0 for one in snapshot.tradables}
    change = SupposedPosition(order.instrument_id, order.qty_base, prices.get(order.instrument_id, 0.0))
    question = {"verb": "suppose", "change": msgspec.to_builtins(change)}
    try:
        answer = control.ask(control.socket_path(vault.state_dir, vault.vault), question)
    except (control.NotRunningError, TimeoutError):
        return None, "no answer came in time"
    if "supposed" in answer:
        return msgspec.convert(answer["supposed"], SupposedMargin), ""
    return None, str(answer.get("silent") or answer.get("error"))


def look(
    vault_file: Path,
    at: str,
    *,
    replayed: bool,
    journal: Path | None,
    wanted: tuple[str, ...] = (),
    is_posed: bool = False,
) -> tuple[Vault, Found]:
    """Return a vault and what its risk is reckoned from; exit 3 where there is nothing to look at."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    at_ns = parse_time(at) if at else None
    err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    find = partial(
        find_snapshot,
        vault,
        journal=journal,
        at_ns=at_ns,
        is_replayed=replayed,
        wanted=wanted,
        is_posed=is_posed,
    )
    try:
        if not replayed or vault.is_live_feed:
            return vault, find()
        manifest = open_vault_recording(vault).manifest
        with tables.progress_bar(err, vault.vault, manifest.start_ns, at_ns or manifest.end_ns) as progress:
            return vault, find(progress=progress)
    except NowhereError as error:
        err.print(f"error: {error}")
        raise typer.Exit(NOT_RUNNING) from None


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
