"""The command line in processes of its own, started by forking a warm interpreter: a start costs milliseconds, so that
tests can afford to kill dozens. Whatever a process prints goes to files beside its working directory.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
POLL_S = 0.002
# for whatever a test waits for; it costs nothing where tests pass, and machines stand still when they like
PATIENCE_S = float(os.environ.get("EVENKEEL_TEST_PATIENCE_S", "180"))


class Result(NamedTuple):
    """What a process left: its exit code (minus the signal that ended it) and its output."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)


class Process:
    """A command under way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pid = int(wait_for(lambda: self._read("pid")))

    @property
    def is_over(self) -> bool:
        """Tell whether the process has ended."""
        return bool(self._read("code"))

    @property
    def out(self) -> str:
        """What it has said on stdout so far."""
        return self._read("out")

    @property
    def err(self) -> str:
        """What it has said on stderr so far."""
        return self._read("err")

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has just ended does not mind."""
        if not self.is_over:
            with suppress(ProcessLookupError):  # it ended since
                os.kill(self.pid, number)

    def wait(self) -> Result:
        """Wait for the end and return what is left."""
        code = int(wait_for(lambda: self._read("code")))
        return Result(code, self._read("out"), self._read("err"))

    def _read(self, name: str) -> str:
        path = self._folder / name
        return path.read_text() if path.exists() else ""


class CommandLine:
    """Starts `evenkeel` commands, or any other `program(*arguments)` given as module:function."""

    def __init__(self, server: subprocess.Popen[str], folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._processes: list[Process] = []
        self._started = 0
        self._starting = Lock()

    def start(
        self, *arguments: str, cwd: Path, program: str = "", environ: Mapping[str, str] = MappingProxyType({})
    ) -> Process:
        """Start a command in `cwd`, with some more in its environment, and return while it runs."""
        assert self._server.stdin is not None
        with self._starting:  # tests may start several at once
            self._started += 1
            folder = self._folder / str(self._started)
            folder.mkdir()
            order = {
                "argv": arguments,
                "cwd": str(cwd),
                "folder": str(folder),
                "program": program,
                "environ": dict(environ),
            }
            self._server.stdin.write(json.dumps(order) + "\n")
            self._server.stdin.flush()
        process = Process(folder)
        self._processes.append(process)
        return process

    def run(
        self, *arguments: str, cwd: Path, program: str = "", environ: Mapping[str, str] = MappingProxyType({})
    ) -> Result:
        """Run a command in `cwd` to its end."""
        return self.start(*arguments, cwd=cwd, program=program, environ=environ).wait()

    def end(self) -> None:
        """Kill what still runs, as where a test failed before it ended what it had started."""
        for process in self._processes:
            process.send(signal.SIGKILL)


@contextmanager
def open_command_line(folder: Path) -> Iterator[CommandLine]:
    """Start the warm interpreter for the length of the block."""
    # one numeric thread: a process that forks must not have more
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "tests.runtime.command_line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as server:
        command_line = CommandLine(server, folder)
        try:
            yield command_line
        finally:
            command_line.end()


def wait_for(find: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Return what `find` finds as soon as it finds something."""
    deadline_s = time.monotonic() + patience_s
    while not (found := find()):
        assert time.monotonic() < deadline_s, f"expected {find} to come true within {patience_s} s, found {found!r}"
        time.sleep(POLL_S)
    return found


# In the warm interpreter ---------------------------------------------------------------------------------------------


def serve() -> None:
    """Fork a keeper for every line of orders on stdin; the keeper forks the command and notes how it ends."""
    import bot.gateways.ccxt_gateway
    import bot.gateways.halting
    import bot.runtime.cli.app
    import bot.runtime.cli.doctor
    import bot.runtime.windows.command_sender  # noqa: F401 — what a start would spend its time on

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need no burial
    for line in sys.stdin:
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _keep(json.loads(line))
    os._exit(0)  # of all that is imported nothing needs a farewell, and some of it takes seconds for one


def _keep(order: dict[str, Any]) -> None:
    folder = Path(order["folder"])
    child = os.fork()
    if not child:
        os.setsid()  # a terminal's Ctrl-C is for the tests, not for what they test
        os.chdir(order["cwd"])
        for descriptor, name in ((0, os.devnull), (1, folder / "out"), (2, folder / "err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), descriptor)
        _become(order)
    _write(folder / "pid", child)
    _, status = os.waitpid(child, 0)
    _write(folder / "code", os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(order: dict[str, Any]) -> None:
    """Run the command as its own interpreter would, exit code and traceback included."""
    import importlib
    import traceback

    module, _, function = (order["program"] or "bot.runtime.cli.app:main").partition(":")
    sys.argv = ["evenkeel", *order["argv"]]
    os.environ.update(order["environ"])
    code: object = 0
    try:
        getattr(importlib.import_module(module), function)()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 — as an interpreter does
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _write(path: Path, number: int) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(str(number))
    partial.rename(path)


if __name__ == "__main__":
    serve()
