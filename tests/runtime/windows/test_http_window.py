"""A running daemon seen over HTTP: its own figures, and that it is missed when it goes."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path

from bot.runtime.cli.windows import watch
from bot.runtime.configuration.desk import HttpSection
from bot.runtime.operators import control
from bot.runtime.windows.http_window import http_window
from bot.runtime.windows.hub import Hub
from tests.broker import free_port
from tests.runtime.command_line import CommandLine, wait_for
from tests.telemetry.metrics.lint import families_of, problems
from tests.telemetry.states import alert


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and text, 0 where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_a_running_daemon_is_seen_and_missed(lasting: Path, evenkeel: CommandLine) -> None:
    busy = lasting
    port = free_port()
    (busy / "desk.yaml").write_text(f"http: {{port: {port}}}\n")
    daemon = evenkeel.start("run", "busy.yaml", "--speed", "100", cwd=busy)
    windows = evenkeel.start("windows", "desk.yaml", "busy.yaml", cwd=busy)
    try:
        socket_path = control.socket_path(str(busy / ".evenkeel"), "busy")
        wait_for(lambda: ask(port, "/readyz")[0] == 200)
        # the text may be half a second older
        text = wait_for(lambda: (t := ask(port, "/metrics")[1]) and "evenkeel_band_high_base{" in t and t)
        first = control.ask(socket_path, {"verb": "state"})
        assert problems(text) == []
        found = families_of(text)
        assert found["evenkeel_decisions_total"].samples[0].value > 0
        seen = found["evenkeel_vault_info"].samples[0].labels
        assert (seen["run_id"], seen["mode"], seen["config_sha256"]) == (
            first["run_id"], "replay", first["config_sha256"],
        )  # fmt: skip
        assert {one.labels["kind"] for one in found["evenkeel_feeds"].samples} == {"index", "quote", "vol"}
        assert found["evenkeel_band_high_base"].samples != []
        assert found["evenkeel_decide_seconds"].samples != []
        assert ask(port, "/healthz") == (200, '{"is_ok":true,"vaults":{"busy":[]}}\n')
        daemon.send(signal.SIGSTOP)  # frozen: it holds its socket and says nothing
        frozen = wait_for(lambda: (t := ask(port, "/readyz"))[0] == 503 and t)
        assert "no answer within 3 s" in json.loads(frozen[1])["vaults"]["busy"][0]
        daemon.send(signal.SIGKILL)
        gone = wait_for(lambda: (t := ask(port, "/metrics")[1]) and 'evenkeel_up{vault="busy"} 0.0' in t and t)
        assert problems(gone) == []
        assert families_of(gone)["evenkeel_hedges_total"].samples != []  # what was last known stays
        status, told = wait_for(lambda: (t := ask(port, "/readyz")) and "not running" in t[1] and t)
        assert (status, json.loads(told)["is_ok"]) == (503, False)
    finally:
        for process in (daemon, windows):
            process.send(signal.SIGTERM)
    assert windows.wait().code == 0


def test_what_other_windows_know_comes_from_the_hub(busy: Path) -> None:
    hub = Hub()
    window = http_window(HttpSection(), watch([busy / "busy.yaml"]), hub)
    hub.open_alerts = lambda vault: (alert(),) if vault == "busy" else ()
    hub.refused_commands["forged"] += 2
    hub.dropped = 5
    for name, labels, value in [
        ("evenkeel_alerts_open", {"vault": "busy", "severity": "critical"}, 1),
        ("evenkeel_commands_refused_total", {"reason": "forged"}, 2),
        ("evenkeel_states_dropped_total", {}, 5),
        ("evenkeel_broker_away_seconds", {}, 0),
    ]:
        assert window.registry.get_sample_value(name, labels) == value
    assert (window.host, window.port) == ("127.0.0.1", 9464)
