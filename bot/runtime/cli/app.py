"""The command line: data on stdout, everything else on stderr, stable exit codes.

Exit codes are `Exit`.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console

from bot import __version__
from bot.domain.errors import (
    ConfigError,
    EvenkeelError,
    InvariantBroken,
    RecordingError,
    Retryable,
    VenueFatal,
)
from bot.domain.instruments import Payoff
from bot.domain.results import RunSeries, RunSummary
from bot.domain.units import utc_text
from bot.risk.asset_classes import Resolved
from bot.runtime.cli import operators as operator_cli
from bot.runtime.cli import tables
from bot.runtime.cli.alerts import alerts
from bot.runtime.cli.calibrate import calibrate_app
from bot.runtime.cli.dashboard import dashboard, password
from bot.runtime.cli.order import keys_app, order
from bot.runtime.cli.quote import quote
from bot.runtime.cli.reload import reload
from bot.runtime.cli.risk import risk_app
from bot.runtime.cli.tail import tail
from bot.runtime.cli.top import top
from bot.runtime.cli.transactions import tx_app
from bot.runtime.cli.tune import tune
from bot.runtime.cli.vault import vault_app
from bot.runtime.cli.windows import windows
from bot.runtime.configuration.config import config_sha256, load_vaults
from bot.runtime.configuration.desk_environment import check_environment
from bot.runtime.configuration.desk_file import load_desk
from bot.runtime.configuration.risk_classes import applying
from bot.runtime.configuration.vault import RecordingFeed, Vault
from bot.runtime.configuration.venues import refuse_shared_accounts, vault_underlyings
from bot.runtime.daemon import Daemon, Runner, run_all
from bot.runtime.journal import Journal, export, verify
from bot.runtime.live.clock import WallClock
from bot.runtime.live.session import LiveSession
from bot.runtime.live_run import LiveRun, record_vault, spare_collector
from bot.runtime.operators import control
from bot.runtime.operators.halt_marker import marker_of
from bot.runtime.recovery import began_as, journal_path, rebuild, refuse_damaged, session_of
from bot.runtime.risk import tables as risk_tables
from bot.runtime.risk.accounts import assets_of
from bot.runtime.service import Service
from bot.runtime.session import Session, open_session, open_vault_recording
from bot.runtime.studies.importing import ImportOptions, import_deribit_chain, parse_books, parse_strikes
from bot.runtime.views import status_view
from bot.runtime.windows.windows_process import WindowsProcess, windows_command
from bot.simulation.replay import replay as replay_session
from bot.telemetry.logs import configure_logging, keep_environment_secret
from bot.telemetry.tracks import traced
from strategies import Policy, policies_from_specs

T = TypeVar("T")
DAEMON_PROGRESS_EVERY_S = 60.0  # off a terminal, where it goes into a service log
MAX_SPEED = 1e9


class Exit(IntEnum):
    """What the process says to its caller."""

    OK = 0
    FAILURE = 1
    CONFIG = 2
    NOT_RUNNING = 3
    VENUE = 4
    TIMEOUT = 5
    LIMIT = 6
    INVARIANT = 70


app = typer.Typer(
    name="evenkeel",
    help="Keeps a crypto derivatives book at its target exposure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
journal_app = typer.Typer(help="Look at a journal.", no_args_is_help=True)
import_app = typer.Typer(help="Make a recording from other data.", no_args_is_help=True)
app.add_typer(journal_app, name="journal")
app.add_typer(import_app, name="import")
app.add_typer(calibrate_app, name="calibrate")
app.add_typer(tx_app, name="tx")
app.add_typer(vault_app, name="vault")
app.add_typer(risk_app, name="risk")
app.add_typer(keys_app, name="keys")
app.command()(quote)
app.command()(reload)
app.command()(tune)
app.command()(windows)
app.command()(top)
app.command()(tail)
app.command()(alerts)
app.command()(order)
app.command()(dashboard)
app.command()(password)
operator_cli.add_to(app)

out = Console(soft_wrap=True, markup=False, width=None if sys.stdout is not None and sys.stdout.isatty() else 160)
err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)

VaultFile = Annotated[Path, typer.Argument(metavar="VAULT.yaml", help="Vault file")]
VaultFiles = Annotated[list[Path], typer.Argument(metavar="VAULT.yaml…", help="Vault files")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]
JournalPath = Annotated[Path | None, typer.Option("--journal", help="Journal file; default: the vault's own")]


def main() -> None:
    """Run the command line; every error of ours ends with one clear text and its own exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without box characters still gets its figures
    try:
        app()
    except BaseExceptionGroup as group:
        sys.exit(_complain(_first_cause(group)))
    except (EvenkeelError, TimeoutError, OSError) as error:
        sys.exit(_complain(error))


@app.callback(invoke_without_command=True)
def _evenkeel(
    version: Annotated[bool, typer.Option("--version", help="Print the version")] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON lines even on a terminal")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, not only warnings")] = False,
) -> None:
    configure_logging("info" if verbose else "warning", as_json=log_json)
    keep_environment_secret(os.environ)
    if version:
        print(f"evenkeel {__version__}")
        raise typer.Exit


@app.command()
def check(vaults: VaultFiles, as_json: AsJson = False) -> None:
    """Validate vault files; print every problem as file:line, and what applies to each asset where risk is reckoned."""
    found = []
    for vault in load_vaults(vaults, allow_live=True):
        applies = applying(vault, assets_of(vault)) if vault.risk is not None else ()
        found.append((vault, applies))
    if as_json:
        _print_json({"vaults": [_checked(vault, applies) for vault, applies in found]})
        return
    for vault, applies in found:
        print(f"{vault.vault}: ok, {vault.mode}, config sha256 {config_sha256(vault)[:16]}")
        for one in applies:
            print("\n".join(f"  {line}" for line in risk_tables.applies_lines(one)))


def _checked(vault: Vault, applies: Sequence[Resolved]) -> dict[str, Any]:
    """Return what `check` says of a good vault: each value that applies to an asset, and where it comes from."""
    return {
        "vault": vault.vault,
        "mode": vault.mode,
        "config_sha256": config_sha256(vault),
        "assets": {
            one.asset: {
                "class": {"value": one.asset_class, "origin": one.origins["class"]},
                **{
                    name: {"value": value, "origin": one.origins[name]}
                    for name, value in msgspec.structs.asdict(one.parameters).items()
                },
            }
            for one in applies
        },
    }


@app.command()
def replay(
    vault_file: VaultFile,
    compare: Annotated[
        str, typer.Option("--compare", metavar="POLICY,…", help="Policies side by side on the same market and seed")
    ] = "",
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Replay what a run journalled and check that it decides the same")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the simulated venue")] = None,
    recording: Annotated[
        str, typer.Option("--recording", metavar="NAME", help="Replay this recording instead of the vault's feed")
    ] = "",
    report: Annotated[Path | None, typer.Option("--report", metavar="DIR", help="Write pictures and a page")] = None,
    series: Annotated[
        bool, typer.Option("--series", help="With --json: P&L, net delta and hedges over time, thinned, as well")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the vault's recording through the engine, unpaced, and print what came of it."""
    if series and not as_json:
        raise ConfigError(["expected --json with --series, found none; hint: --report DIR draws pictures for people"])
    (vault,) = load_vaults([vault_file], allow_live=journal is not None or bool(recording))
    if recording:
        if journal is not None:
            raise ConfigError(["expected --journal or --recording, found both; hint: a journal has its own market"])
        vault = vault.model_copy(update={"feed": RecordingFeed(recording=recording)})
    if seed is not None:
        vault = vault.model_copy(update={"seed": seed})
    if journal is not None:
        if compare:
            raise ConfigError(["expected --journal or --compare, found both; hint: a journal holds one policy"])
        session, summary = _replay_journal(vault, journal)
        runs, underlying = [(summary, session.score.series)], session.underlying
    else:
        gross_base = sum(abs(line.qty_base) for line in vault.holdings)
        policies = policies_from_specs(compare, vault.policy, gross_base) if compare else [vault.policy]
        sessions, runs = _replay_policies(vault, policies)
        underlying = sessions[0].underlying
    if report is not None:
        _write_report(runs, vault.policy.name, underlying, report)
    if as_json:
        told = [traced(*run, underlying) for run in runs] if series else [summary for summary, _ in runs]
        _print_json(told if compare else told[0])
    else:
        tables.print_comparison(out, [summary for summary, _ in runs], underlying)


@app.command()
def run(
    context: typer.Context,
    vaults: VaultFiles,
    live: Annotated[bool, typer.Option("--live", help="The second key that mode: live needs")] = False,
    speed: Annotated[
        float, typer.Option("--speed", min=0, max=MAX_SPEED, help="Times as fast as the clock; 0: as fast as it goes")
    ] = 1.0,
    journal: JournalPath = None,
    desk: Annotated[
        Path | None, typer.Option("--desk", metavar="DESK.yaml", help="Desk file: open its windows beside the daemon")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run vaults as a daemon, journalled; after a stop or a crash, go on where the journal ends."""
    loaded = load_vaults(vaults, allow_live=live)
    refuse_shared_accounts(loaded)
    beside = None
    if desk is not None:
        check_environment(load_desk(desk), os.environ)  # what is wrong is found before anything starts
        beside = WindowsProcess(windows_command(desk, vaults, journal, _log_options(context)))
    if journal is not None and len(loaded) > 1:
        raise ConfigError(["expected one vault with --journal, found several; hint: leave --journal out"])
    service = Service([vault.vault for vault in loaded], os.environ)
    with ExitStack() as stack:
        daemons: list[Runner] = []
        bases = {}
        # whatever may be wrong is found before anything is written
        prepared = [
            (
                path,
                vault,
                None if vault.is_live_feed else open_session(vault),
                control.socket_path(vault.state_dir, vault.vault),
            )
            for path, vault in zip(vaults, loaded, strict=True)
        ]
        for vault_file, vault, session, socket_path in prepared:
            path = journal or journal_path(vault)
            control.refuse_second(socket_path)
            for folder in (path.parent, socket_path.parent):
                folder.mkdir(parents=True, exist_ok=True)
            opened = stack.enter_context(Journal.open(path, for_writing=True))
            began = began_as(vault, opened)
            if session is None:
                bases[vault.vault] = min(vault_underlyings(vault))
                marker = marker_of(vault.state_dir, vault.vault)
                daemons.append(
                    LiveRun(
                        vault,
                        vault_file,
                        opened,
                        socket_path=socket_path,
                        marker=marker,
                        environ=os.environ,
                        pulse=service.pulses[vault.vault],
                        on_connected=spare_collector,
                    )
                )
                continue
            if began != vault:  # it goes through every change again
                session = open_session(began, recording=session.recording)  # noqa: PLW2901 — the same run from its start
            bases[vault.vault] = session.underlying
            manifest = session.recording.manifest
            progress = stack.enter_context(
                tables.progress_bar(err, vault.vault, manifest.start_ns, manifest.end_ns, DAEMON_PROGRESS_EVERY_S)
                if len(loaded) == 1
                else _no_progress()
            )
            daemons.append(
                Daemon(
                    session,
                    opened,
                    socket_path=socket_path,
                    speed=speed,
                    progress=progress,
                    vault_file=vault_file,
                    pulse=service.pulses[vault.vault],
                )
            )
        gc.freeze()  # what is there by now stays: looking through it would hold a decision up for a tenth of a second
        summaries = _run_loop(run_all(daemons, beside.run if beside is not None else None, service))
    if as_json:
        _print_json(summaries if len(summaries) > 1 else summaries[0])
    else:
        for summary in summaries:
            tables.print_comparison(out, [summary], bases[summary.vault])


@app.command()
def status(vault_file: VaultFile, journal: JournalPath = None, as_json: AsJson = False) -> None:
    """Show state, exposure against band, orders and P&L; exit 3 and the journal's last word if nothing runs."""
    view = _view(vault_file, journal)
    _print_json(view) if as_json else tables.print_status(out, view)
    _exit_unless_running(view)


@app.command()
def why(vault_file: VaultFile, journal: JournalPath = None, as_json: AsJson = False) -> None:
    """Say why the vault hedged, or why it does not, and what it refused so far."""
    view = _view(vault_file, journal)
    if as_json:
        keys = ("vault", "as_of", "state", "state_reason", "refusals", "quotes_refused", "desks", "running")
        _print_json({key: view[key] for key in keys})
    else:
        for line in _why_lines(view):
            out.print(line, highlight=False)
    _exit_unless_running(view)


@app.command()
def plan(vault_file: VaultFile, journal: JournalPath = None, as_json: AsJson = False) -> None:
    """Show what the vault would trade now, and every gate with its figures."""
    view = _view(vault_file, journal)
    if as_json:
        keys = ("vault", "as_of", "state", "desks", "running")
        _print_json({key: view[key] for key in keys})
    else:
        tables.print_gates(out, view)
        for desk in view["desks"]:
            out.print(desk["plan"], highlight=False)
    _exit_unless_running(view)


@app.command()
def doctor(
    vault_files: Annotated[list[Path] | None, typer.Argument(metavar="[VAULT.yaml…]", help="Vault files")] = None,
    venues: Annotated[bool, typer.Option("--venues", help="List the exchanges a venue can be")] = False,
    as_json: AsJson = False,
) -> None:
    """Examine vaults with everything they need: files, keys, venues, clocks, journals; nothing is traded or written."""
    from bot.runtime.cli.doctor import examine, examine_listing, exchanges  # noqa: PLC0415 — it brings all of ccxt, which takes a second

    if venues:
        _print_json(exchanges()) if as_json else print("\n".join(exchanges()))
        return
    if not vault_files:
        raise ConfigError(["expected a vault file or --venues, found neither"])
    vaults = load_vaults(vault_files, allow_live=True)
    findings = []
    for path, vault in zip(vault_files, vaults, strict=True):
        findings += _run_loop(examine(vault, journal_path(vault), os.environ))
        if vault.chains:
            from bot.runtime.cli.chain_doctor import examine_chains  # noqa: PLC0415 — brings web3, which takes another

            findings += _run_loop(examine_chains(vault, os.environ, WallClock()))
        if vault.is_live_feed:
            findings += _run_loop(examine_listing(vault, path, journal_path(vault), os.environ))
    if as_json:
        _print_json(findings)
    else:
        for found in findings:
            verdict = {None: "", True: "ok: ", False: "PROBLEM: "}[found.is_ok]
            print(f"{found.vault}: {found.subject}: {verdict}{found.detail}")
    if any(found.is_ok is False and found.is_of_venue for found in findings):
        raise typer.Exit(Exit.VENUE)
    if any(found.is_ok is False for found in findings):
        raise typer.Exit(Exit.FAILURE)


@app.command()
def record(
    vault_file: VaultFile,
    destination: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder, or .zip, of the recording")],
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=0, help="How long; default: until stopped")
    ] = None,
) -> None:
    """Write a live feed as a recording that `replay` takes; trades nothing and needs no keys."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    print(_run_loop(record_vault(vault, vault_file, destination, os.environ, seconds=seconds)))


@app.command()
def report(
    vault_file: VaultFile,
    journal: JournalPath = None,
    out_dir: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Also write pictures and a page")] = None,
    as_json: AsJson = False,
) -> None:
    """P&L by part, costs and tracking error of what the vault's journal holds."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    session, summary = _replay_journal(vault, journal or journal_path(vault))
    if out_dir is not None:
        # the yardstick needs the market again, which only a recording can show
        clock = [] if vault.is_live_feed else _replay_policies(vault, policies_from_specs("fixed_interval"))[1]
        runs = [(summary, session.score.series), *clock]
        _write_report(runs, vault.policy.name, session.underlying, out_dir)
    if as_json:
        _print_json(summary)
    else:
        tables.print_comparison(out, [summary], session.underlying)
        tables.print_latencies(out, summary.latency_us)


@journal_app.command("verify")
def journal_verify(path: Annotated[Path, typer.Argument(metavar="JOURNAL")]) -> None:
    """Check every row and the hash chain; name the first bad row."""
    found = verify(path)
    if found.fault is not None:
        err.print(f"error: {path}: {found.fault.detail}")
        raise typer.Exit(Exit.FAILURE)
    print(f"{path}: ok, {found.rows} rows, head {found.head_hash}")


@journal_app.command("export")
def journal_export(path: Annotated[Path, typer.Argument(metavar="JOURNAL")]) -> None:
    """Print the journal as JSON lines."""
    for line in export(path):
        print(line)


@import_app.callback()
def _import() -> None:
    """Make a recording from other data."""


@import_app.command("deribit-chain")
def import_chain(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC…", help="Chain files")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder, or .zip, to make")],
    books: Annotated[
        list[str] | None, typer.Option("--books", metavar="COIN=FILE", help="Order books to measure depth on")
    ] = None,
    hedge_payoff: Annotated[Payoff, typer.Option("--hedge-payoff", help="How hedges settle")] = Payoff.LINEAR,
    last_expiry: Annotated[
        datetime | None, typer.Option("--last-expiry", formats=["%Y-%m-%d"], help="Leave out later expiries")
    ] = None,
    strikes: Annotated[
        str, typer.Option("--strikes", metavar="LOW:HIGH", help="Multiples of the first index price")
    ] = "0:inf",
    source: Annotated[str, typer.Option("--source", help="Where the data come from, for the manifest")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Their licence, for the manifest")] = "not stated",
    notice: Annotated[str, typer.Option("--notice", help="The notice it asks for, for the manifest")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a recording")] = False,
) -> None:
    """Make a recording from Deribit option chains."""
    options = ImportOptions(
        parse_books(books or []),
        hedge_payoff,
        last_expiry.date() if last_expiry else None,
        parse_strikes(strikes),
        source,
        licence,
        notice,
        is_overwrite=overwrite,
    )
    print(import_deribit_chain(sources, destination, options, err))


def _replay_policies(
    vault: Vault, policies: Sequence[Policy]
) -> tuple[list[Session], list[tuple[RunSummary, RunSeries]]]:
    """Replay the vault once per policy; policies of one name are told apart by their parameters."""
    names = [policy.name for policy in policies]
    recording = open_vault_recording(vault)
    manifest = recording.manifest
    sessions, runs = [], []
    for policy in policies:
        label = policy.name if names.count(policy.name) == 1 else policy.spec
        session = open_session(vault, policy=policy, recording=recording)
        began = time.perf_counter()
        with tables.progress_bar(err, label, manifest.start_ns, manifest.end_ns) as progress:
            replay_session(
                session.engine,
                session.world,
                session.score,
                stopwatch_ns=time.perf_counter_ns,
                progress=_with_first_hedge(session, progress),
            )
        wall_seconds = time.perf_counter() - began
        sessions.append(session)
        summary = session.score.summary(policy=label, seed=vault.seed, wall_seconds=wall_seconds)
        runs.append((summary, session.score.series))
    return sessions, runs


def _with_first_hedge(session: Session, progress: Callable[[int], None]) -> Callable[[int], None]:
    """Also print the first hedge, with its reason, as soon as it is made."""
    marks = session.engine.hedge_marks
    is_announced = False

    def advance(now_ns: int) -> None:
        nonlocal is_announced
        if marks and not is_announced:
            is_announced = True
            mark = marks[0]
            side = "buy" if mark.qty_base > 0 else "sell"
            trade = f"{side} {abs(mark.qty_base):g} at {mark.px:,.2f}"
            text = f"{session.policy.name}: first hedge {utc_text(mark.ts_ns)}: {trade}; {mark.reason}"
            err.print(text)
        progress(now_ns)

    return advance


def _replay_journal(vault: Vault, path: Path) -> tuple[Session | LiveSession, RunSummary]:
    """Replay a journal through a fresh engine; it must decide what it decided then, or JournalError is raised."""
    began = time.perf_counter()
    refuse_damaged(path)
    with Journal.open(path, for_writing=False) as journal, ExitStack() as stack:
        session = session_of(vault, journal)
        progress = stack.enter_context(_progress_of(session))
        rebuild(session, journal, is_world_wanted=False, stopwatch_ns=time.perf_counter_ns, progress=progress)
    wall_seconds = time.perf_counter() - began
    summary = session.score.summary(policy=session.policy.name, seed=vault.seed, wall_seconds=wall_seconds)
    if session.latencies is not None:
        summary = msgspec.structs.replace(summary, latency_us=session.latencies.summary())
    return session, summary


def _progress_of(session: Session | LiveSession) -> AbstractContextManager[Callable[[int], None]]:
    if isinstance(session, LiveSession):
        return _no_progress()
    manifest = session.recording.manifest
    return tables.progress_bar(err, session.vault.vault, manifest.start_ns, manifest.end_ns)


def _write_report(runs: Sequence[tuple[RunSummary, RunSeries]], own: str, base: str, folder: Path) -> None:
    """Write the pictures, the vault's own policy first: the others are compared with it."""
    from bot.telemetry.report import write_report  # noqa: PLC0415 — brings matplotlib; a halt must not wait for it

    ordered = sorted(runs, key=lambda run: run[0].policy != own)
    for path in write_report(ordered, folder, base=base):
        err.print(f"wrote {path}")


def _view(vault_file: Path, journal: Path | None) -> dict[str, Any]:
    """Return the running daemon's view, or else what the journal last knew, marked as not running."""
    (vault,) = load_vaults([vault_file], allow_live=True)
    try:
        return control.ask(control.socket_path(vault.state_dir, vault.vault), {"verb": "view"})
    except control.NotRunningError:
        path = journal or journal_path(vault)
        if not path.exists():
            err.print(
                f"error: {vault.vault} is not running and has no journal at {path}; hint: evenkeel run {vault_file}"
            )
            raise typer.Exit(Exit.NOT_RUNNING) from None
    refuse_damaged(path)
    with Journal.open(path, for_writing=False) as opened:
        session = session_of(vault, opened)
        found = rebuild(session, opened, is_world_wanted=False)
    return {**status_view(session, found.last_ns), "running": False}


def _log_options(context: typer.Context) -> list[str]:
    """Return how this process was told to log, for one that is started beside it."""
    said = context.parent.params if context.parent is not None else {}
    return [option for name, option in (("verbose", "--verbose"), ("log_json", "--log-json")) if said.get(name)]


def _exit_unless_running(view: dict[str, Any]) -> None:
    if not view["running"]:
        err.print(f"not running: this is what the journal knew at {view['as_of']}, not the present")
        raise typer.Exit(Exit.NOT_RUNNING)


def _why_lines(view: dict[str, Any]) -> Iterator[str]:
    yield f"{view['vault']} as of {view['as_of']}: {view['state']} {view['state_reason']}".rstrip()
    for desk in view["desks"]:
        decision = desk.get("decision")
        if decision is None:
            yield f"{desk['underlying']}: nothing decided yet"
            continue
        yield f"{desk['underlying']}: {desk['plan']}"
        if desk["last_order"]:
            yield f"{desk['underlying']}: last hedge {desk['last_hedge']}: {desk['last_order']}"
        closed = [f"{gate['name']}: {gate['detail']}" for gate in desk["gates"] if not gate["is_open"]]
        yield from (f"{desk['underlying']}: closed gate: {text}" for text in closed)
    counts = ", ".join(f"{reason} {count}" for reason, count in view["refusals"].items())
    yield f"refused so far: {counts or 'nothing'}"
    faults = ", ".join(f"{fault} {count}" for fault, count in view["quotes_refused"].items())
    yield f"quotes refused so far: {faults or 'none'}"


def _run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where there is one: the standard loop does the same, more slowly."""
    try:
        import uvloop  # noqa: PLC0415 — not on every platform
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@contextmanager
def _no_progress() -> Iterator[Callable[[int], None]]:
    yield lambda _now_ns: None


def _print_json(value: Any) -> None:  # noqa: ANN401 — anything msgspec can encode
    print(json.dumps(msgspec.to_builtins(value), indent=2, allow_nan=False))


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first leaf that is one of ours, or else the first leaf."""
    leaves = list(_leaves(group))
    return next((leaf for leaf in leaves if isinstance(leaf, EvenkeelError)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _complain(error: BaseException) -> Exit:
    """Print one error and return the exit code it stands for; what is not ours is raised again."""
    if isinstance(error, InvariantBroken):
        hint = "hint: this is a bug of ours; the journal is intact: keep a copy to report it with, then start again"
        err.print(f"invariant broken: {error}\n{hint}")
        return Exit.INVARIANT
    if isinstance(error, ConfigError):
        for problem in error.problems:
            err.print(f"error: {problem}")
        return Exit.CONFIG
    if isinstance(error, TimeoutError):
        err.print(
            f"error: expected an answer from the daemon within {control.ANSWER_TIMEOUT_S:g} s, found none;"
            " hint: is it stopped or overloaded? What it was told it may still do: ask for its status"
        )
        return Exit.TIMEOUT
    if not isinstance(error, EvenkeelError | OSError):
        raise error
    err.print(f"error: {error}")
    if isinstance(error, RecordingError):
        return Exit.CONFIG
    return Exit.VENUE if isinstance(error, VenueFatal | Retryable) else Exit.FAILURE


if __name__ == "__main__":
    main()
