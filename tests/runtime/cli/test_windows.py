"""`evenkeel windows` and `run --desk`: started and ended with the daemon, which never minds."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from bot.runtime.cli.windows import NICENESS
from tests.runtime.command_line import CommandLine, wait_for


def test_a_run_with_a_desk_decides_as_one_without(evenkeel: CommandLine, busy: Path) -> None:
    (busy / "desk.yaml").write_text("issuers: {}\n")
    alone = evenkeel.run("run", "busy.yaml", "--speed", "0", "--json", "--journal", "a.sqlite", cwd=busy)
    beside = evenkeel.run(
        "run", "busy.yaml", "--speed", "0", "--json", "--journal", "b.sqlite", "--desk", "desk.yaml", cwd=busy
    )
    assert alone.code == beside.code == 0, beside.err
    assert alone.json["commands_sha256"] == beside.json["commands_sha256"]


def test_a_wrong_desk_file_stops_everything_before_it_starts(evenkeel: CommandLine, busy: Path) -> None:
    (busy / "desk.yaml").write_text("mqtt: {prot: 1}\n")
    result = evenkeel.run("run", "busy.yaml", "--desk", "desk.yaml", "--journal", "new.sqlite", cwd=busy)
    assert result.code == 2
    assert result.err.startswith("error: desk.yaml:1: expected one of the keys host, port,")
    assert not (busy / "new.sqlite").exists()


def test_windows_watch_until_they_are_told_to_stop(evenkeel: CommandLine, busy: Path) -> None:
    (busy / "desk.yaml").write_text("issuers: {}\n")
    process = evenkeel.start("windows", "desk.yaml", "busy.yaml", cwd=busy)
    socket = busy / ".evenkeel" / ".windows.sock"
    wait_for(lambda: socket.exists() or process.is_over)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, own + NICENESS), "windows give way to trading"
    assert os.sched_getscheduler(process.pid) == os.SCHED_BATCH
    second = evenkeel.run("windows", "desk.yaml", "busy.yaml", cwd=busy)
    assert second.code == 1
    assert "found one at" in second.err
    process.send(signal.SIGTERM)
    assert process.wait().code == 0
    assert not socket.exists()


def test_a_vault_has_one_windows_process_wherever_its_state_lies(evenkeel: CommandLine, busy: Path) -> None:
    (busy / "desk.yaml").write_text("issuers: {}\n")
    text = (busy / "busy.yaml").read_text().replace("vault: busy", "vault: twin")
    (busy / "twin.yaml").write_text(f"{text}\nstate_dir: elsewhere\n")
    process = evenkeel.start("windows", "desk.yaml", "busy.yaml", "twin.yaml", cwd=busy)
    socket = busy / "elsewhere" / ".windows.sock"
    wait_for(lambda: socket.exists() or process.is_over)
    second = evenkeel.run("windows", "desk.yaml", "twin.yaml", cwd=busy)
    assert second.code == 1
    assert "found one at" in second.err
    process.send(signal.SIGTERM)
    assert process.wait().code == 0
    assert not socket.exists()
