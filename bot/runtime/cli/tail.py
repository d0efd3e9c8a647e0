"""`evenkeel tail`: the life of vaults, event by event, read from their journals; no daemon is asked or held up."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from bot.domain.errors import ConfigError, JournalError
from bot.domain.units import NS_PER_S, utc_text
from bot.domain.windows import Told
from bot.runtime.cli.windows import watch
from bot.runtime.journal_tail import JournalTail
from bot.runtime.windows.hub import Watched
from bot.telemetry.telling import Kind
from bot.telemetry.top import printable

LOOK_EVERY_S = 0.25
NS_PER_MS = NS_PER_S // 1_000
NEWEST = 20  # events of the past that are shown unless told otherwise
NOT_RUNNING = 3  # as Exit.NOT_RUNNING

Print = Callable[[Told], None]


def tail(
    vault_files: Annotated[list[Path], typer.Argument(metavar="VAULT.yaml…", help="Vault files")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C")] = False,
    since: Annotated[
        int | None,
        typer.Option("--since", metavar="NUMBER", min=0, help="All events after this one; default: the last 20"),
    ] = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help=f"Only these: {', '.join(Kind)}")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Journal file of the only vault; default: its own")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object per event")] = False,
) -> None:
    """Tell what happened: runs, decisions, orders, fills, transactions, commands, oldest first."""
    wanted = _wanted(kinds or [])
    watched = watch(vault_files, journal)
    show = _in_json if as_json else _in_lines(is_named=len(watched) > 1)
    try:
        with ExitStack() as stack:
            tails = [stack.enter_context(closing(JournalTail(one.journal_path))) for one in watched]
            past = [_read_past(one, wanted, since) for one in tails]
            for told in sorted((told for events in past for told in events), key=_by_time):
                show(told)
            if follow:
                _follow(tails, wanted, show)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # whoever read has seen enough; nothing is left to be flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    _refuse_none(watched)


def _wanted(kinds: Sequence[str]) -> frozenset[str]:
    unknown = [kind for kind in kinds if kind not in set(Kind)]
    if unknown:
        raise ConfigError([f"--kind: expected one of {', '.join(Kind)}, found {unknown[0]!r:.60}"])
    return frozenset(kinds or Kind)


def _refuse_none(watched: Sequence[Watched]) -> None:
    missing = [str(one.journal_path) for one in watched if not one.journal_path.exists()]
    for path in missing:
        typer.echo(f"error: expected a journal at {path}, found none; hint: `evenkeel run` begins one", err=True)
    if missing:
        raise typer.Exit(NOT_RUNNING)


def _read_past(tail: JournalTail, wanted: frozenset[str], since: int | None) -> list[Told]:
    """Return what is in a journal now: everything after `since`, or the newest."""
    found: deque[Told] = deque(maxlen=NEWEST if since is None else None)
    for told in _read(tail):
        if told.kind in wanted and told.number > (since or 0):
            found.append(told)
    return list(found)


def _read(tail: JournalTail) -> Iterator[Told]:
    while True:
        yield from tail.read()
        if not tail.is_behind:
            return


def _follow(tails: Sequence[JournalTail], wanted: frozenset[str], show: Print) -> None:
    """Show what comes, until interrupted; a journal that cannot be read is told of once and tried again."""
    faults = [""] * len(tails)
    while True:
        new: list[Told] = []
        for place, one in enumerate(tails):
            fault = ""
            try:
                new += [told for told in _read(one) if told.kind in wanted]
            except JournalError as error:
                fault = str(error)
            if fault != faults[place]:
                faults[place] = fault
                typer.echo(f"error: {fault}; trying again" if fault else "the journal can be read again", err=True)
        for told in sorted(new, key=_by_time):
            show(told)
        time.sleep(LOOK_EVERY_S)


def _by_time(told: Told) -> tuple[int, str, int]:
    return told.now_ns, told.vault, told.number


def _in_json(told: Told) -> None:
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    sys.stdout.flush()


def _in_lines(*, is_named: bool) -> Print:
    """Return who prints an event as a line for people: when, its number, kind, order and sentence."""
    console = Console(highlight=False, soft_wrap=True)

    def show(told: Told) -> None:
        at = utc_text(told.now_ns // NS_PER_MS * NS_PER_MS)
        vault = f"{told.vault} " if is_named else ""
        line = Text.assemble((f"{at} ", "dim"), f"{vault}{told.number:>6} {told.kind:<11} ", printable(told.text))
        if told.order_id:
            line.append(f" [{printable(told.order_id)}]", style="dim")
        console.print(line)

    return show
