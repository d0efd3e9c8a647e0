"""`evenkeel reload`: have the running daemon read its file again, or take a changed file into the journal of a vault.

What the file changes is shown first. A change that loosens a limit far takes a second confirmation, a change that has
to wait for a new journal is refused as a whole.
"""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from bot.domain.events import Restarted
from bot.domain.units import NS_PER_S, whole_text
from bot.engine.settings import EngineSettings
from bot.runtime.configuration.config import build_engine_settings, build_live_settings, config_sha256, load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.journal import Batch, Journal
from bot.runtime.operators import control
from bot.runtime.operators.reasons import fit_reason, learn_secrets
from bot.runtime.operators.reload import Wish, answer_of, event_of, read_plan
from bot.runtime.recovery import in_force, journal_path
from bot.runtime.session import open_vault_recording

FAILURE: Final = 1
REFUSED: Final = 2
NOT_RUNNING: Final = 3
LIMIT: Final = 6
PATIENCE_S: Final = 30.0  # reading a file of a large vault takes the daemon's thread a moment

err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)


def reload(
    vault_file: Annotated[Path, typer.Argument(metavar="VAULT.yaml", help="Vault file")],
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the journal")] = "operator",
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="CODE", help="The code that a refusal of looser limits showed")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change")] = False,
    journal: Annotated[Path | None, typer.Option("--journal", help="Journal file; default: the vault's own")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Take a changed vault file into force: checked first, shown line by line, journalled; all of it or nothing."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    learn_secrets(vault, os.environ)
    reason = fit_reason("reload", reason)
    wish = Wish(_issuer(), whole_text(reason), confirm, is_dry_run=dry_run, expected_sha256=config_sha256(vault))
    question = {
        "verb": "reload",
        "issuer": wish.issuer,
        "reason": reason,
        "confirm": confirm,
        "dry_run": dry_run,
        "config_sha256": wish.expected_sha256,
        "expires_ns": time.time_ns() + round(PATIENCE_S * NS_PER_S),  # what was given up is not done later
    }
    try:
        answer = control.ask(control.socket_path(vault.state_dir, vault.vault), question, PATIENCE_S)
    except control.NotRunningError:
        path = journal or journal_path(vault)
        if not path.exists():
            err.print(f"error: {vault.vault} is not running and has no journal at {path}; its next run reads the file")
            raise typer.Exit(NOT_RUNNING) from None
        answer = _reload_journal(path, vault_file, wish)
        if answer["is_applied"]:
            err.print(f"{vault.vault} is not running; its next start goes on with this")
    if as_json:
        typer.echo(json.dumps(answer, indent=2, allow_nan=False))
    else:
        _tell(vault, answer, is_dry_run=dry_run)
    if answer.get("error"):
        raise typer.Exit(REFUSED if answer.get("refused") else LIMIT if answer.get("confirm") else FAILURE)


def _reload_journal(path: Path, vault_file: Path, wish: Wish) -> dict[str, Any]:
    """Append the change for the next start to go on with, as the daemon would have journalled it.

    A restart comes first: whatever was commanded last never reached anyone, and nothing is traded in its batch.
    """
    with Journal.open(path, for_writing=True) as opened:
        plan = read_plan(in_force(opened), vault_file, _settings_of(opened))
        answer = answer_of(plan, wish)
        if "error" in answer or not plan.verdict.changes or wish.is_dry_run:
            return answer
        last_ns = 0
        for _, record in opened.records(max(0, opened.last_seq - 1)):
            last_ns = getattr(record, "now_ns", last_ns)
        opened.append(Batch(last_ns, (Restarted(last_ns), event_of(plan, wish, last_ns))))
    answer["is_applied"] = True
    return answer


def _settings_of(journal: Journal) -> Callable[[Vault], EngineSettings]:
    """Return how the engine of a journal's run would be told of a configuration: nobody is contacted."""
    header = journal.header

    def settings_of(vault: Vault) -> EngineSettings:
        if vault.is_live_feed:
            return build_live_settings(vault, header.instruments, header.run_id)
        return build_engine_settings(vault, open_vault_recording(vault).manifest)

    return settings_of


def _tell(vault: Vault, answer: dict[str, Any], *, is_dry_run: bool) -> None:
    changes = answer.get("changes", [])
    for line in changes:
        typer.echo(line)
    for problem in answer.get("problems") or answer.get("refused") or [answer["error"]] if "error" in answer else []:
        err.print(f"error: {problem}")
    if "error" in answer:
        err.print(f"{vault.vault}: nothing was changed")
    elif not changes:
        typer.echo(f"{vault.vault}: nothing to change: the file says what is in force")
    elif is_dry_run:
        for line in answer["loosened"]:
            err.print(f"{line}; it takes --confirm {answer['confirm']}")
        typer.echo(f"{vault.vault}: {_count(changes)} could be taken into force")
    else:
        typer.echo(f"{vault.vault}: {_count(changes)} in force")


def _count(changes: list[str]) -> str:
    return "1 change" if len(changes) == 1 else f"{len(changes)} changes"


def _issuer() -> str:
    """Return who asks; in a container the user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
