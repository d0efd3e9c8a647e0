"""The command line, as a shell sees it: data on stdout, the rest on stderr, exit codes, and nothing written in vain."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from bot import __version__
from bot.domain.errors import InvariantBroken
from bot.runtime.cli import app as cli
from bot.runtime.cli import operators as operator_cli
from bot.runtime.journal import Header, Journal, verify
from bot.runtime.operators.halt_marker import HaltMarker
from bot.simulation.recording import open_recording
from tests.runtime.audit import read_rows, without_timings
from tests.runtime.command_line import ROOT, CommandLine, Result, wait_for
from tests.runtime.daemons import answers
from tests.runtime.daemons import running as running_daemon
from tests.runtime.simulated_gateway import LIVE_VAULT, SimulatedExchange, orders
from tests.runtime.test_live_run import running, until
from tests.runtime.vault_files import write_tiny_recording
from tests.venues.deribit import DeribitServer
from tests.venues.recording_player import RecordingPlayer

JOURNAL = ".evenkeel/busy.sqlite"
KEYS = [
    "vault",
    "policy",
    "seed",
    "start",
    "end",
    "events",
    "decisions",
    "hedges",
    "refusals",
    "pnl_quote",
    "unhedged_total_quote",
    "turnover_quote",
    "delta_rms_base",
    "delta_max_base",
    "max_drawdown_quote",
    "commands_sha256",
    "events_per_second",
    "decision_us",
]
PARTS = [
    *("delta", "gamma", "theta", "vega", "vanna_volga", "funding", "fees", "gas", "slippage", "unexplained", "lp_fees"),
    "total",
]
POLICIES = "unhedged,fixed_interval,delta_band,impulse"

# Bad input -----------------------------------------------------------------------------------------------------------

Break = Callable[[Path, Path], None]  # takes the folder with busy.yaml and the recording that it names


def swap(old: str, new: str) -> Break:
    """Break a line of the vault file."""

    def change(folder: Path, _recording: Path) -> None:
        vault = folder / "busy.yaml"
        text = vault.read_text()
        assert old in text
        vault.write_text(text.replace(old, new))

    return change


def with_own_recording(change: Callable[[Path], None]) -> Break:
    """Break the recording: a copy of its own that the vault file names."""

    def copy_and_change(folder: Path, recording: Path) -> None:
        own = folder / "recording"
        shutil.copytree(recording, own)
        change(own)
        swap(str(recording), "recording")(folder, recording)

    return copy_and_change


def truncate(recording: Path) -> None:
    table = recording / "quotes.parquet"
    table.write_bytes(table.read_bytes()[:5000])


def rename_column(recording: Path) -> None:
    table = recording / "index.parquet"
    pl.read_parquet(table).rename({"px": "price"}).write_parquet(table)


def flip_byte(recording: Path) -> None:
    table = recording / "vol_quotes.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)


def expire(folder: Path, recording: Path) -> None:
    write_tiny_recording(folder / "tiny")
    swap(str(recording), "tiny")(folder, recording)
    swap("ETH-28APR23-1900-C", "ETH-12APR23-1900-C")(folder, recording)


def unreadable(folder: Path, _recording: Path) -> None:
    (folder / "busy.yaml").unlink()
    (folder / "busy.yaml").mkdir()


def gone(folder: Path, _recording: Path) -> None:
    (folder / "busy.yaml").unlink()


def not_text(folder: Path, _recording: Path) -> None:
    (folder / "busy.yaml").write_bytes(b"vault: \xff\xfe\n")


BAD: dict[str, tuple[Break, list[str]]] = {
    "unknown key": (swap("numeraire: USD", "numeraire: USD\ncolour: red"), ["busy.yaml:5: ", "found colour"]),
    "wrong type": (swap("taker_bps: 5", "taker_bps: five"), ["busy.yaml:9: expected a number, found 'five'"]),
    "negative band": (swap("half_width_base: 0.3", "half_width_base: -1"), ["busy.yaml:10: ", "found -1"]),
    "expired option": (expire, ["busy.yaml:6: ", "alive at the recording's start", "ETH-12APR23-1900-C, expired"]),
    "unknown instrument": (swap("1900-P", "1901-P"), ["busy.yaml:7: ", "found ETH-28APR23-1901-P", "hint: "]),
    "unknown policy": (swap("delta_band", "delta_bend"), ["busy.yaml:10: ", "found delta_bend", "delta_band?"]),
    "missing recording": (
        lambda folder, recording: swap(str(recording), "no-such")(folder, recording),
        ["busy.yaml:3: no-such: ", "found nothing there; hint: the bundled ones are btc-2023-04, eth-2023-04"],
    ),
    "truncated Parquet": (with_own_recording(truncate), ["quotes.parquet", "expected a whole Parquet file"]),
    "wrong schema": (with_own_recording(rename_column), ["index.parquet", "expected a column px of type Float64"]),
    "changed table": (with_own_recording(flip_byte), ["vol_quotes.parquet", "expected"]),
    "live on a recording": (swap("mode: paper", "mode: live"), ["busy.yaml:2: expected mode: paper with a recording"]),
    "unreadable file": (unreadable, ["busy.yaml:1: expected a readable file, found Is a directory"]),
    "no file": (gone, ["busy.yaml:1: expected a readable file, found No such file or directory"]),
    "not text": (not_text, ["busy.yaml:1: expected UTF-8 text"]),
    "a secret": (
        swap("numeraire: USD", "numeraire: USD\napi_key: sk-very-private"), ["busy.yaml:5: expected no secret"]
    ),
}  # fmt: skip


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def check_refused(result: Result, texts: list[str], code: int = 2) -> None:
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    for text in texts:
        assert text in result.err


@pytest.mark.parametrize("command", [("run", "--speed", "0"), ("replay",), ("check",), ("status",), ("halt",)])
@pytest.mark.parametrize(("break_it", "texts"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named_once_and_nothing_is_written(
    evenkeel: CommandLine,
    busy: Path,
    short_recording: Path,
    command: tuple[str, ...],
    break_it: Break,
    texts: list[str],
) -> None:
    break_it(busy, short_recording)
    before = listing(busy)
    result = evenkeel.run(command[0], "busy.yaml", *command[1:], cwd=busy)
    check_refused(result, texts)
    assert result.err.count("error: ") == 1, result.err
    assert "hint: " in result.err
    assert "sk-very-private" not in result.err
    assert listing(busy) == before


def test_every_problem_of_every_file_is_named_at_once(evenkeel: CommandLine, busy: Path, short_recording: Path) -> None:
    shutil.copy(busy / "busy.yaml", busy / "twin.yaml")
    swap("taker_bps: 5", "taker_bps: five")(busy, short_recording)
    swap("mode: paper", "mode: papr")(busy, short_recording)
    result = evenkeel.run("run", "busy.yaml", "twin.yaml", cwd=busy)
    check_refused(result, ["busy.yaml:2: ", "busy.yaml:9: ", "twin.yaml:1: expected a name of its own per vault"])
    assert result.err.count("error: ") == 3


@pytest.mark.parametrize("is_live_allowed", [False, True])
def test_live_never_trades_a_recording(
    evenkeel: CommandLine, busy: Path, short_recording: Path, is_live_allowed: bool
) -> None:
    swap("mode: paper", "mode: live")(busy, short_recording)
    before = listing(busy)
    result = evenkeel.run("run", "busy.yaml", *(["--live"] if is_live_allowed else []), cwd=busy)
    check_refused(result, ["busy.yaml:2: expected mode: paper with a recording, found live"])
    assert listing(busy) == before


def test_live_without_its_second_key_says_so(evenkeel: CommandLine, busy: Path, short_recording: Path) -> None:
    swap("mode: paper", "mode: live")(busy, short_recording)
    swap(f"{{recording: {short_recording}}}", "live")(busy, short_recording)
    result = evenkeel.run("run", "busy.yaml", cwd=busy)
    check_refused(result, ["expected a second key for mode: live, found none; hint: live trading needs --live"])


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("delta_bend", "'delta_bend': expected one of"),
        ("unhedged,", "policy '': expected one of"),
        ("fixed_interval:900", "expected key=value, found '900'"),
        ("fixed_interval:interval_s=-5", "interval_s"),
        ("delta_band:half_width_base=wide", "half_width_base"),
        ("delta_band:width=3", "width"),
    ],
)
def test_a_bad_comparison_is_refused(evenkeel: CommandLine, busy: Path, spec: str, found: str) -> None:
    before = listing(busy)
    check_refused(evenkeel.run("replay", "busy.yaml", "--compare", spec, cwd=busy), [found])
    assert listing(busy) == before


@pytest.mark.parametrize(
    "argv",
    [
        ("replay",),
        ("replay", "busy.yaml", "--colour"),
        ("replay", "busy.yaml", "--seed", "-1"),
        ("replay", "busy.yaml", "--seed", "x"),
        ("dance",),
        ("resume", "busy.yaml"),
        ("journal", "burn"),
        ("run", "busy.yaml", "--speed", "fast"),
        ("run",),
        ("replay", "busy.yaml", "--journal", "x", "--compare", "unhedged"),
        ("replay", "busy.yaml", "--journal", "x", "--recording", "eth-2023-04"),
        ("run", "busy.yaml", "other.yaml", "--journal", "x"),
    ],
)
def test_usage_errors_exit_2_and_write_nothing(evenkeel: CommandLine, busy: Path, argv: tuple[str, ...]) -> None:
    other = (busy / "busy.yaml").read_text().replace("vault: busy", "vault: other")
    (busy / "other.yaml").write_text(other)
    before = listing(busy)
    check_refused(evenkeel.run(*argv, cwd=busy), [])
    assert listing(busy) == before


def test_a_state_folder_too_deep_for_a_socket_is_refused_before_anything_is_written(
    evenkeel: CommandLine, busy: Path, short_recording: Path
) -> None:
    swap("numeraire: USD", f"numeraire: USD\nstate_dir: {'s' * 120}")(busy, short_recording)
    before = listing(busy)
    check_refused(evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=busy), ["hint: choose a shorter state_dir"])
    assert listing(busy) == before


def test_a_state_folder_that_cannot_be_made_is_one_clear_error(evenkeel: CommandLine, busy: Path) -> None:
    (busy / ".evenkeel").write_text("in the way")
    check_refused(evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=busy), ["error: ", ".evenkeel"], code=1)


# Replay and report ---------------------------------------------------------------------------------------------------


def test_replay_prints_one_json_object_and_nothing_else_on_stdout(evenkeel: CommandLine, busy: Path) -> None:
    result = evenkeel.run("replay", "busy.yaml", "--json", cwd=busy)
    assert result.code == 0
    summary = result.json
    assert summary.keys() >= set(KEYS)
    assert summary["pnl_quote"].keys() == set(PARTS)
    assert summary["decision_us"].keys() == {"p50", "p99"}
    assert sum(summary["pnl_quote"][part] for part in PARTS[:-1]) == pytest.approx(
        summary["pnl_quote"]["total"], abs=1e-6
    )
    assert (summary["vault"], summary["policy"], summary["seed"]) == ("busy", "delta_band", 1)
    assert "delta_band: first hedge 2023-04-12T" in result.err
    assert list(busy.iterdir()) == [busy / "busy.yaml"], "a replay writes nothing"


def test_the_seed_may_be_given(evenkeel: CommandLine, busy: Path) -> None:
    first, second = (evenkeel.run("replay", "busy.yaml", "--json", "--seed", seed, cwd=busy).json for seed in "12")
    assert (first["seed"], second["seed"]) == (1, 2)
    assert first["commands_sha256"] != second["commands_sha256"]
    assert first["commands_sha256"] == evenkeel.run("replay", "busy.yaml", "--json", cwd=busy).json["commands_sha256"]


def test_a_comparison_prints_every_policy(evenkeel: CommandLine, busy: Path) -> None:
    told = evenkeel.run("replay", "busy.yaml", "--compare", POLICIES, cwd=busy)
    assert told.code == 0
    for policy in POLICIES.split(","):
        assert policy in told.out
    summaries = evenkeel.run("replay", "busy.yaml", "--compare", POLICIES, "--json", cwd=busy).json
    assert [summary["policy"] for summary in summaries] == POLICIES.split(",")
    assert [bool(summary["hedges"]) for summary in summaries] == [False, True, True, True]
    assert len({summary["unhedged_total_quote"] for summary in summaries}) == 1, "one market for all"
    own = evenkeel.run("replay", "busy.yaml", "--json", cwd=busy).json
    assert without_timings(summaries[2]) == without_timings(own), "the vault's own policy keeps its parameters"


def test_a_replay_writes_its_report(evenkeel: CommandLine, busy: Path) -> None:
    argv = ("replay", "busy.yaml", "--compare", "delta_band,fixed_interval", "--report", "pictures", "--json")
    result = evenkeel.run(*argv, cwd=busy)
    assert result.code == 0, result.err
    assert len(result.json) == 2
    check_report(busy / "pictures", result)


def check_report(folder: Path, result: Result) -> None:
    written = sorted(path.name for path in folder.iterdir())
    assert sum(name.endswith(".png") for name in written) >= 3
    (page,) = [folder / name for name in written if name.endswith(".html")]
    assert "delta_band" in page.read_text()
    assert result.err.count("wrote ") == len(written)


def test_a_report_of_a_journal_is_what_the_run_printed(evenkeel: CommandLine, busy: Path) -> None:
    ran = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=busy)
    result = evenkeel.run("report", "busy.yaml", "--json", "--out", "pictures", cwd=busy)
    assert result.code == 0, result.err
    assert without_timings(result.json) == without_timings(ran.json)
    check_report(busy / "pictures", result)
    assert "off target rms, ETH" in evenkeel.run("report", "busy.yaml", cwd=busy).out
    assert "off target rms, ETH" in evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=busy).out


# Looking at what runs, or ran ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["status", "why", "plan", "halt"])
def test_without_a_journal_nothing_runs_and_a_hint_says_what_to_do(
    evenkeel: CommandLine, busy: Path, verb: str
) -> None:
    before = listing(busy)
    result = evenkeel.run(verb, "busy.yaml", "--journal", "[/nowhere]", cwd=busy)
    check_refused(result, ["error: busy is not running and has no journal at [/nowhere]"], code=3)
    assert ("nothing to halt" if verb == "halt" else "hint: evenkeel run busy.yaml") in result.err
    assert listing(busy) == before


@pytest.mark.parametrize("verb", ["status", "why", "plan"])
def test_not_running_shows_the_journals_last_word_as_the_past(evenkeel: CommandLine, busy: Path, verb: str) -> None:
    evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=busy)
    told = evenkeel.run(verb, "busy.yaml", cwd=busy)
    assert told.code == 3
    assert "2023-04-12T15:38" in told.out
    assert "not running: this is what the journal knew at 2023-04-12T15:38" in told.err
    shown = evenkeel.run(verb, "busy.yaml", "--json", cwd=busy)
    assert shown.code == 3
    assert shown.json["running"] is False
    (desk,) = shown.json["desks"]
    assert desk["decision"]["greeks"]["delta_base"] is not None


@pytest.mark.parametrize("verb", ["status", "why", "plan"])
def test_running_it_answers(evenkeel: CommandLine, lasting: Path, verb: str) -> None:
    with running_daemon(evenkeel, lasting):
        told = evenkeel.run(verb, "busy.yaml", cwd=lasting)
        assert (told.code, told.err) == (0, "")
        assert "busy" in told.out
        shown = evenkeel.run(verb, "busy.yaml", "--json", cwd=lasting)
        assert shown.code == 0
        assert shown.json["running"] is True


def test_a_journal_that_has_only_begun_can_be_shown_halted_and_continued(evenkeel: CommandLine, busy: Path) -> None:
    evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=busy)
    with Journal.open(busy / JOURNAL, for_writing=False) as journal:
        header = journal.header
    shutil.rmtree(busy / ".evenkeel")
    (busy / ".evenkeel").mkdir()
    write_header(busy / JOURNAL, header)
    for verb in ("status", "why", "plan"):
        assert evenkeel.run(verb, "busy.yaml", "--json", cwd=busy).json["running"] is False
        assert evenkeel.run(verb, "busy.yaml", cwd=busy).code == 3
    assert evenkeel.run("halt", "busy.yaml", cwd=busy).code == 0
    ended = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", cwd=busy)
    assert ended.code == 0, ended.err
    assert ended.json["state"] == "halted"
    assert read_rows(busy / JOURNAL).submitted == []


def write_header(path: Path, header: Header) -> None:
    with Journal.open(path, for_writing=True) as journal:
        journal.append(header)


def test_the_journal_is_verified_and_exported(evenkeel: CommandLine, busy: Path) -> None:
    evenkeel.run("run", "busy.yaml", "--speed", "0", cwd=busy)
    report = verify(busy / JOURNAL)
    verified = evenkeel.run("journal", "verify", JOURNAL, cwd=busy)
    assert (verified.code, verified.err) == (0, "")
    assert f"ok, {report.rows} rows, head {report.head_hash}" in verified.out
    exported = evenkeel.run("journal", "export", JOURNAL, cwd=busy)
    lines = [json.loads(line) for line in exported.out.splitlines()]
    assert [line["seq"] for line in lines] == list(range(report.rows))
    assert lines[-1]["hash"] == report.head_hash
    for verb in ("verify", "export"):
        check_refused(evenkeel.run("journal", verb, "none.sqlite", cwd=busy), ["found no such file; hint: "], code=1)


@pytest.mark.parametrize("argv", [("replay", "busy.yaml", "--journal", "none.sqlite"), ("report", "busy.yaml")])
def test_replaying_a_journal_that_is_not_there_fails(evenkeel: CommandLine, busy: Path, argv: tuple[str, ...]) -> None:
    check_refused(evenkeel.run(*argv, cwd=busy), ["expected a journal, found no such file; hint: "], code=1)


# Around it -----------------------------------------------------------------------------------------------------------


def test_the_exit_codes_are_those_of_the_manual() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    table = {line.split("|")[1].strip() for line in manual.splitlines() if line.startswith("|")}
    assert {str(int(code)) for code in cli.Exit} <= table


def test_a_good_file_is_called_good(evenkeel: CommandLine, busy: Path) -> None:
    result = evenkeel.run("check", "busy.yaml", cwd=busy)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("busy: ok, paper, config sha256 ")


def test_what_applies_to_each_asset_is_told_with_where_it_comes_from(evenkeel: CommandLine, busy: Path) -> None:
    plain = (busy / "busy.yaml").read_text()
    risk = (
        "risk:\n  accounts: {deribit: {model: house}}\n"
        "  asset_classes: {classes: {major: {band_multiple: 1.5}}, assets: {ETH: {gap_fraction: 0.03}}}\n"
    )
    (busy / "risky.yaml").write_text(plain + risk)
    result = evenkeel.run("check", "risky.yaml", cwd=busy)
    assert (result.code, result.err) == (0, "")
    lines = [line.strip() for line in result.out.splitlines()]
    assert "ETH: class major (asset-classes-2026-11-01)" in lines
    assert "class major of the vault: band_multiple 1.5" in lines
    assert "asset ETH of the vault: gap_fraction 0.03" in lines
    assert max(len(line) for line in lines) <= 100
    (told,) = json.loads(evenkeel.run("check", "risky.yaml", "--json", cwd=busy).out)["vaults"]
    eth = told["assets"]["ETH"]
    assert eth["band_multiple"] == {"value": 1.5, "origin": "class major of the vault"}
    assert eth["haircut_fraction"]["origin"] == "class major of asset-classes-2026-11-01"
    assert told["assets"]["USD"]["haircut_fraction"] == {
        "value": 0.0, "origin": "asset USD of asset-classes-2026-11-01"
    }  # fmt: skip
    (told,) = json.loads(evenkeel.run("check", "busy.yaml", "--json", cwd=busy).out)["vaults"]
    assert (told["vault"], told["assets"]) == ("busy", {})  # nothing of risk is reckoned


def test_it_knows_its_version_and_its_commands(evenkeel: CommandLine, busy: Path) -> None:
    assert evenkeel.run("--version", cwd=busy).out == f"evenkeel {__version__}\n"
    told = evenkeel.run("--help", cwd=busy)
    assert told.code == 0
    for command in ["check", "replay", "run", "status", "why", "plan", "halt", "resume", "report", "journal", "import"]:
        assert f" {command} " in told.out


def test_logs_go_to_stderr_with_secrets_masked(evenkeel: CommandLine, lasting: Path) -> None:
    process = evenkeel.start("--log-json", "-v", "run", "busy.yaml", "--speed", "100", "--json", cwd=lasting)
    wait_for(lambda: process.is_over or answers(lasting))
    halted = evenkeel.run("halt", "busy.yaml", "--reason", "rotated api_key=sk-very-private", cwd=lasting)
    assert halted.code == 0
    process.send(signal.SIGTERM)
    result = process.wait()
    assert result.json["state"] == "halted"
    logged = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    assert {line["event"] for line in logged} >= {"run.started", "operator.command"}
    (line,) = [line for line in logged if line["event"] == "operator.command"]
    assert line["reason"] == "rotated api_key=***"
    assert "sk-very-private" not in result.err


def test_an_operator_without_a_name_can_still_halt(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a bare number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2_345_678)
    assert operator_cli.issuer() == "uid 2345678"


def test_it_starts_from_a_shell_of_its_own(busy: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bot.runtime.cli.app"]
    good = subprocess.run(
        [*command, "check", "busy.yaml", "--json"],
        cwd=busy,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [one["vault"] for one in json.loads(good.stdout)["vaults"]] == ["busy"]
    bad = subprocess.run(
        [*command, "check", "none.yaml"], cwd=busy, env=environment, capture_output=True, text=True, check=False
    )
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: none.yaml:1: expected a readable file")


def test_a_broken_invariant_has_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._complain(InvariantBroken("order id x-1 was issued twice")) == cli.Exit.INVARIANT == 70
    assert "invariant broken: order id x-1 was issued twice" in capsys.readouterr().err


# Live feeds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def ran_live(short_recording: Path) -> AsyncIterator[Path]:
    """A fresh folder with the journal of a live run that has ended."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ek-") as name:
        folder = Path(os.path.realpath(name))
        (folder / "busy.yaml").write_text(LIVE_VAULT)
        exchange = SimulatedExchange(short_recording)
        async with running(folder, exchange) as task:
            await until(lambda: len(orders(exchange)) >= 3, task)
        yield folder


async def test_a_live_journal_is_shown_and_reported_without_its_venues(evenkeel: CommandLine, ran_live: Path) -> None:
    shown = evenkeel.run("status", "busy.yaml", "--json", cwd=ran_live)
    assert (shown.code, shown.json["running"]) == (3, False)
    assert shown.json["hedges"] >= 3
    told = evenkeel.run("report", "busy.yaml", "--json", cwd=ran_live)
    assert told.code == 0, told.err
    assert told.json["latency_us"]["sent_to_ack"]["count"] >= 2
    printed = evenkeel.run("report", "busy.yaml", "--out", "page", cwd=ran_live)
    assert printed.code == 0, printed.err
    assert "decide to sent" in printed.out
    again = evenkeel.run("replay", "busy.yaml", "--journal", "busy.sqlite", "--json", cwd=ran_live)
    assert again.json["commands_sha256"] == told.json["commands_sha256"]


async def test_a_live_run_without_keys_ends_with_one_line(evenkeel: CommandLine, ran_live: Path) -> None:
    rows = verify(ran_live / "busy.sqlite").rows
    result = evenkeel.run("run", "busy.yaml", "--live", cwd=ran_live)
    assert (result.code, result.out) == (4, "")
    assert result.err.startswith("error: deribit: expected credentials in the environment (EVENKEEL_DERIBIT_API_KEY")
    assert result.err.count("\n") == 1
    assert verify(ran_live / "busy.sqlite").rows == rows
    assert evenkeel.run("run", "busy.yaml", cwd=ran_live).code == 2, "without the second key"


async def test_a_halt_of_a_live_feed_needs_no_daemon_and_a_resume_lifts_it(
    evenkeel: CommandLine, ran_live: Path
) -> None:
    path = ran_live / "busy.yaml"
    path.write_text(path.read_text().replace("mode: live", "mode: paper"))
    halted = evenkeel.run("halt", "busy.yaml", "--reason", "wrong book", cwd=ran_live)
    assert (halted.code, halted.err) == (0, "")
    assert halted.out == "busy: halted; no daemon runs, and the next one will not trade until a resume\n"
    marker = HaltMarker(ran_live / "busy.halted")
    found = marker.read()
    assert found is not None
    assert found.reason == "wrong book"
    resumed = evenkeel.run("resume", "busy.yaml", "--reason", "mended", cwd=ran_live)
    assert resumed.code == 0, resumed.err
    assert not marker.is_set


async def test_a_live_feed_is_not_replayed(evenkeel: CommandLine, ran_live: Path) -> None:
    path = ran_live / "busy.yaml"
    path.write_text(path.read_text().replace("mode: live", "mode: paper"))
    result = evenkeel.run("replay", "busy.yaml", cwd=ran_live)
    assert (result.code, result.out) == (2, "")
    assert "hint: record it with `evenkeel record`" in result.err


def test_the_doctor_lists_exchanges_and_examines_files(evenkeel: CommandLine, busy: Path) -> None:
    listed = evenkeel.run("doctor", "--venues", cwd=busy)
    assert listed.code == 0
    assert "deribit" in listed.out.split()
    assert evenkeel.run("doctor", cwd=busy).code == 2
    examined = evenkeel.run("doctor", "busy.yaml", cwd=busy)
    assert (examined.code, examined.err) == (0, "")
    assert [line.split(": ")[:3] for line in examined.out.splitlines()] == [
        ["busy", "configuration", "ok"],
        ["busy", "journal", "ok"],
    ]
    assert [found["is_ok"] for found in evenkeel.run("doctor", "busy.yaml", "--json", cwd=busy).json] == [True, True]
    refused = evenkeel.run("record", "busy.yaml", "--out", "there", "--for", "1", cwd=busy)
    assert (refused.code, refused.out) == (2, "")
    assert "expected a live feed to record" in refused.err


async def test_a_halt_cancels_at_the_venue_with_daemon_and_journal_frozen(
    evenkeel: CommandLine, busy: Path, short_recording: Path
) -> None:
    """Through real ccxt on a loopback Deribit; the daemon is a socket that takes calls and never answers."""
    player = RecordingPlayer(open_recording(str(short_recording)))
    async with DeribitServer(player.book) as server:
        vault = busy / "busy.yaml"
        venues = {"deribit": {"options": server.options, "credentials": "keys.yaml"}}
        vault.write_text(LIVE_VAULT.replace("venues: {deribit: {}}", f"venues: {json.dumps(venues)}"))
        keys = busy / "keys.yaml"
        keys.write_text(json.dumps(server.credentials))
        keys.chmod(0o600)
        player.book.place("ETH-PERPETUAL", is_buy=True, amount=1.0, px=100.0, client_id="r-1")
        with (
            Journal.open(busy / "busy.sqlite", for_writing=True),
            closing(socket.socket(socket.AF_UNIX)) as frozen,
        ):
            frozen.bind(str(busy / "busy.sock"))
            frozen.listen()
            halted = await asyncio.to_thread(evenkeel.run, "halt", "busy.yaml", "--reason", "now", cwd=busy)
    assert halted.code == 0, halted.err
    first, second = halted.out.splitlines()
    assert first.startswith("busy: halted by its marker; the daemon did not answer within 5 s")
    assert second == "deribit: 1 order canceled, none left"
    assert not player.book.open_orders()
    assert HaltMarker(busy / "busy.halted").is_set


def test_a_command_does_not_wait_for_what_it_does_not_use() -> None:
    slow = ("ccxt", "web3", "eth_account", "aiohttp", "matplotlib", "nicegui", "apprise", "sklearn", "arch")
    program = f"import sys, bot.runtime.cli.app; print([name for name in {slow!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "[]\n"
