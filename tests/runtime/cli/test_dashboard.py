from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.domain.errors import ConfigError
from bot.runtime.cli.app import app
from bot.runtime.cli.dashboard import listening
from bot.telemetry.dashboard.passwords import is_password_hash
from tests.runtime.command_line import CommandLine

PASSWORD = "correct horse battery"


def test_a_password_is_read_from_a_pipe_and_its_hash_printed() -> None:
    result = CliRunner().invoke(app, ["password"], input=PASSWORD + "\n")
    assert result.exit_code == 0
    assert is_password_hash(result.output.strip())
    assert PASSWORD not in result.output


def test_a_short_password_is_not_hashed() -> None:
    result = CliRunner().invoke(app, ["password"], input="hunter2\n")
    assert isinstance(result.exception, ConfigError)
    assert "hunter2" not in str(result.exception)


def test_a_password_is_never_an_argument() -> None:
    result = CliRunner().invoke(app, ["password", PASSWORD])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("desk", "expected"),
    [
        ("mqtt: {}\n", "expected a section dashboard"),
        ("dashboard: {}\n", "expected a section mqtt"),
        ("mqtt: {}\ndashboard: {}\n", "expected somebody who may log in"),
        ("mqtt: {}\ndashboard: {host: 0.0.0.0, users: {}}\n", "expected loopback, or tls, or a trusted_proxy"),
    ],
)
def test_what_would_be_unsafe_does_not_start(evenkeel: CommandLine, busy: Path, desk: str, expected: str) -> None:
    (busy / "desk.yaml").write_text(desk)
    result = evenkeel.run("dashboard", "desk.yaml", "busy.yaml", cwd=busy)  # in a process of its own: it is made nicer
    assert result.code == 2
    assert expected in result.err


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}: expected an address"), listening("127.0.0.1", port):
            pass  # pragma: no cover
