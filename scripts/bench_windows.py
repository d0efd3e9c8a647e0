"""The table of `scripts/bench windows`: how long decisions take with every window shut, open, and abused.

A daemon decides upon a recording step by step, at a pace that leaves it idle most of the time. Between two stretches of
some hundred decisions its windows are opened or shut: what belongs to them (their process, the dashboard, a real
Mosquitto) goes on, or is stopped by signal. Every mode has its turn at each stretch, in one pass or another, and all
passes take the same decisions; so a decision is held against itself in another mode, and a machine that drifts does so
alike for all. Ratios come with the interval that nineteen of twenty such measurements would give: stretches drawn anew.

    shut      nothing
    open      broker, metrics, alerts, commands, dashboard
    abused    the same, with a subscriber that never reads and a storm of scrapes
    stranger  nothing of ours, but a process of nobody's that is as busy and as nice as what is open
    asked     nothing, but the daemon is asked for its state as often as windows ask
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from bench_speed import describe_machine, say
from numpy.typing import NDArray

from bot.telemetry.dashboard.passwords import hash_password
from scripts.dashboard_desk import descendants, processor_s
from scripts.in_turns import Pass, by_mode, each, ratio, turns
from scripts.window_company import scrape
from tests.broker import Mosquitto, free_port, mosquitto

START_S: Final = 120.0
SETTLE_S: Final = 0.2  # after every change
WARM_UP: Final = 20  # decisions of a stretch that are not counted
ROOT: Final = Path(__file__).parents[1]
VAULT: Final = ROOT / "config" / "eth-straddle-margin.yaml"
MODES: Final = ("shut", "open", "abused", "stranger", "asked")
OPEN: Final = ("open", "abused")
COMPANY: Final = ("abused", "stranger", "asked")  # modes with a process of their own beside the daemon
QUANTILES: Final = {"p50": 50, "p99": 99}


class Run(NamedTuple):
    """What one daemon took: `decisions` in ns, `stretches` by name: what each stretch added."""

    decisions: Pass
    stretches: dict[str, NDArray[np.float64]]
    windows_share: list[float]  # of a processor, in each stretch: all that is open
    commands: str  # a digest of everything decided
    scrapes: int


def main() -> None:
    """Measure every mode at every stretch and print the table."""
    asked_for = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is stopped must not stay so
    runs = []
    for number in range(len(asked_for.modes)):
        say(f"pass {number + 1} of {len(asked_for.modes)}")
        runs.append(Measured(turns(asked_for.modes, asked_for.rounds, number), asked_for).run())
    print(json.dumps(table(runs, asked_for), indent=1))


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/bench windows")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES[:3]), help="shut is always among them")
    parser.add_argument("--rounds", type=int, default=20, help="of a pass; in each, every mode has a stretch")
    parser.add_argument("--decisions", type=int, default=200, help="of a stretch")
    parser.add_argument("--pace-ms", type=float, default=3.7, help="from one step of the recording to the next")
    found = parser.parse_args()
    found.modes = ["shut", *dict.fromkeys(mode for mode in found.modes if mode != "shut")]
    return found


# One pass -------------------------------------------------------------------------------------------------------------


class Measured:
    """A daemon that is measured stretch by stretch, with its windows and what else is beside it."""

    def __init__(self, modes: Sequence[str], asked_for: argparse.Namespace) -> None:
        self._modes = list(modes)
        self._asked_for = asked_for
        self._windows: Callable[[], list[int]] = list
        self._company: dict[str, subprocess.Popen[str]] = {}

    def run(self) -> Run:
        """Return what was measured, after a stretch that warms up and tells how busy the windows are."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ek-bench-")))
            (folder / "vault.yaml").write_text(VAULT.read_text(encoding="utf-8"), encoding="utf-8")
            broker = stack.enter_context(mosquitto())
            http_port, pages_port = free_port(), free_port()
            (folder / "desk.yaml").write_text(json.dumps(desk(broker, http_port, pages_port)))
            heard, told = os.pipe()
            stack.callback(os.close, heard)
            environ = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "BENCH_SECRET": f"hmac-sha256:{base64.b64encode(secrets.token_bytes(32)).decode()}",
                "TIMINGS": str(folder / "timings.npz"),
                "STRETCH": str(self._asked_for.decisions),
                "PACE_S": str(self._asked_for.pace_ms / 1e3),
                "TELL_FD": str(told),
            }
            log = stack.enter_context((folder / "log").open("w"))

            def start(*words: str, pass_fds: Sequence[int] = ()) -> subprocess.Popen[str]:
                process = subprocess.Popen(
                    [sys.executable, "-m", *words],
                    cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=log, text=True, pass_fds=pass_fds,
                )  # fmt: skip
                stack.callback(end, process)
                return process

            cli = "bot.runtime.cli.app"
            daemon = start(
                "scripts.timed_daemon", "run", "vault.yaml", "--speed", "0", "--desk", "desk.yaml", "--json",
                pass_fds=(told,),
            )  # fmt: skip
            os.close(told)
            pages = start(cli, "dashboard", "desk.yaml", "vault.yaml")
            wait_for_answer(http_port, "/metrics")
            wait_for_answer(pages_port, "/login")
            self._windows = lambda: [*descendants(daemon.pid), pages.pid, *descendants(pages.pid), broker.pid]
            stack.callback(self._resume)
            orders = {
                "abused": ("abuse", str(broker.port), str(http_port)),
                "asked": ("ask", str(folder / ".evenkeel" / f"{VAULT.stem}.sock")),
                "stranger": ("work", ""),
            }
            self._stretch("open", heard, daemon)
            busy_share = self._stretch("open", heard, daemon)
            orders["stranger"] = ("work", f"{busy_share:.4f}")
            for mode in COMPANY:
                if mode in self._modes:
                    self._company[mode] = start("scripts.window_company", *orders[mode])
            time.sleep(1.0)
            shares = [self._stretch(mode, heard, daemon) for mode in self._modes]
            os.read(heard, 1)  # the end of the last stretch is noted
            self._resume()
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=60)
            scrapes = 0
            if abuse := self._company.get("abused"):
                abuse.terminate()
                scrapes = int(abuse.communicate(timeout=20)[0])
            return self._found(folder / "timings.npz", shares, scrapes)

    def _stretch(self, mode: str, heard: int, daemon: subprocess.Popen[str]) -> float:
        """Let the daemon decide for a stretch in a mode; return the share of a processor that its windows had."""
        os.read(heard, 1)
        tell(self._windows(), signal.SIGCONT if mode in OPEN else signal.SIGSTOP)
        for name, process in self._company.items():
            tell([process.pid], signal.SIGCONT if name == mode else signal.SIGSTOP)
        time.sleep(SETTLE_S)
        had_s, began_s = sum(map(processor_s, self._windows())), time.monotonic()
        daemon.send_signal(signal.SIGUSR1)
        wait_readable(heard, daemon)
        return (sum(map(processor_s, self._windows())) - had_s) / (time.monotonic() - began_s)

    def _resume(self) -> None:
        tell([*self._windows(), *(process.pid for process in self._company.values())], signal.SIGCONT)

    def _found(self, path: Path, shares: list[float], scrapes: int) -> Run:
        found = np.load(path)
        stretches, size = len(self._modes), self._asked_for.decisions
        names = ("put_to_decision_ns", "wall_ns", "processor_ns", "is_margin", "core", "collection_ns")
        decisions = {
            name: found[name][2 * size : (2 + stretches) * size].reshape(stretches, size)[:, WARM_UP:].astype(float)
            for name in names
        }
        totals = ("on_processor_s", "waited_for_processor_s", "preempted", "answers", "answer_ns")
        added = {name: np.diff(found[name])[2 : 2 + stretches] for name in totals}
        return Run(Pass(self._modes, decisions), added, shares, str(found["commands"]), scrapes)


def tell(pids: Sequence[int], signal_number: int) -> None:
    """Send a signal to processes, those that are over left out."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def wait_readable(heard: int, daemon: subprocess.Popen[str]) -> None:
    """Wait until the daemon says that it comes to its next stretch. Raises RuntimeError if it ended."""
    while not select.select([heard], [], [], 1.0)[0]:
        if daemon.poll() is not None:
            raise RuntimeError(f"expected a daemon that decides, found it ended with {daemon.returncode}")


def desk(broker: Mosquitto, http_port: int, pages_port: int) -> dict[str, Any]:
    """Return a desk file with everything open."""
    return {
        "mqtt": broker.mqtt(),
        "http": {"port": http_port},
        "alerts": {},
        "issuers": {"bench": {"secret_env": "BENCH_SECRET", "may": ["all"]}},
        "dashboard": {
            "port": pages_port,
            "issuer": "bench",
            "signing_key_env": "BENCH_SECRET",
            "users": {"viewer": {"password_hash": hash_password(secrets.token_hex(16)), "role": "viewer"}},
        },
    }


def wait_for_answer(port: int, path: str) -> None:
    """Wait until pages are served. Raises HTTPException or OSError."""
    give_up_s = time.monotonic() + START_S
    while True:
        try:
            scrape(port, path)
        except (http.client.HTTPException, OSError):
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.1)
        else:
            return


def end(process: subprocess.Popen[Any]) -> None:
    """Let a process end by itself, and see that it does."""
    tell([process.pid], signal.SIGCONT)
    process.terminate()
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# The table ------------------------------------------------------------------------------------------------------------


def table(runs: Sequence[Run], asked_for: argparse.Namespace) -> dict[str, Any]:
    """Return all figures, JSON-ready: microseconds, and ratios over shut with their intervals."""
    passes = [one.decisions for one in runs]
    return {
        "bench": "windows",
        "machine": describe_machine(),
        "method": {
            "vault": VAULT.stem, "decisions_of_each_mode": int(by_mode(passes, "wall_ns", "shut").size),
            "rounds": asked_for.rounds, "passes": len(passes), "pace_ms": asked_for.pace_ms,
            "same_decisions_in_every_pass": len({one.commands for one in runs}) == 1,
            "scrapes": sum(one.scrapes for one in runs),
            "ratios": "over shut; low and high hold nineteen of twenty; each: the median decision over itself",
        },
        "over_shut": {mode: ratios_of(passes, mode) for mode in asked_for.modes if mode != "shut"},
        "found": {mode: of_decisions(passes, mode) | of_stretches(runs, mode) for mode in asked_for.modes},
    }  # fmt: skip


def ratios_of(passes: Sequence[Pass], mode: str) -> dict[str, dict[str, float]]:
    """Return how much longer decisions take than with windows shut, by the wall and by the processor's clock."""
    found = {}
    for name in ("wall", "processor"):
        of, base = (by_mode(passes, f"{name}_ns", its) for its in (mode, "shut"))
        looks = by_mode(passes, "is_margin", "shut") > 0
        found[f"{name}_each"] = each(of, base, len(passes))
        found[f"{name}_each_with_margin"] = each(np.where(looks, of, np.nan), base, len(passes))
        found |= {f"{name}_{at}": ratio(of, base, quantile, len(passes)) for at, quantile in QUANTILES.items()}
    return found


def of_decisions(passes: Sequence[Pass], mode: str) -> dict[str, float]:
    """Return quantiles of what decisions took in a mode."""
    wall, processor, put, looks, cores = (
        by_mode(passes, name, mode) for name in ("wall_ns", "processor_ns", "put_to_decision_ns", "is_margin", "core")
    )
    rows = {
        "wall": wall, "processor": processor, "away": wall - processor, "put_to_decision": put,
        "margin_wall": wall[looks > 0],
    }  # fmt: skip
    found = {
        f"{name}_{at}_us": round(float(np.percentile(row, quantile)) / 1e3, 1)
        for name, row in rows.items()
        for at, quantile in QUANTILES.items()
    }
    return found | {"moved_to_another_core": round(float(np.mean(np.diff(cores, axis=1) != 0)), 4)}


def of_stretches(runs: Sequence[Run], mode: str) -> dict[str, float]:
    """Return what the daemon and its windows had of processors in a stretch of a mode, on an average."""
    places = [(one, place) for one in runs for place, its in enumerate(one.decisions.modes) if its == mode]
    found = {
        name: round(float(np.mean([one.stretches[name][place] for one, place in places])), 4)
        for name in ("on_processor_s", "waited_for_processor_s", "preempted", "answers")
    }
    answers = sum(one.stretches["answers"][place] for one, place in places)
    spent_ns = sum(one.stretches["answer_ns"][place] for one, place in places)
    return found | {
        "answer_us": round(float(spent_ns / answers) / 1e3, 1) if answers else 0.0,
        "windows_share": round(float(np.mean([one.windows_share[place] for one, place in places])), 4),
    }


if __name__ == "__main__":
    main()
