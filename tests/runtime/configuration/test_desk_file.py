"""Desk files: the example, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import DestinationSection, TlsSection
from bot.runtime.configuration.desk_file import check_tls, destination_urls, load_desk, private_file, secret_of

EXAMPLE = Path(__file__).parents[3] / "config" / "desk" / "local.yaml"


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "desk.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_desk(path)
    return "\n".join(caught.value.problems)


def test_the_example_opens_every_window() -> None:
    desk = load_desk(EXAMPLE)
    assert desk.mqtt is not None
    assert desk.mqtt.state_every_s == 0.25
    assert desk.http is not None
    assert desk.alerts is not None
    assert desk.dashboard is not None
    assert desk.issuers["operators"].may == ("all",)


def test_a_file_of_nothing_opens_none(tmp_path: Path) -> None:
    path = tmp_path / "desk.yaml"
    path.write_text("issuers: {}\n")
    assert load_desk(path).mqtt is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mqtt: {prot: 1883}", "did you mean port?"),
        ("mqtt: {port: 0}", "expected a number of at least 1, found 0"),
        ("issuers: {a: {may: [all]}}", "expected public_key or secret_env, found neither"),
        ("issuers: {a: {secret_env: A, public_key: " + "x" * 44 + ", may: [all]}}", "found public_key and secret_env"),
        ("issuers: {a: {secret_env: A, may: [fly]}}", "found 'fly'"),
        ("issuers: {a: {secret_env: lower, may: [all]}}", "desk.yaml:1"),
        ("dashboard: {issuer: bob, signing_key_env: K}", "expected an issuer of this file, found 'bob'"),
        ("dashboard: {signing_key_env: K}", "expected issuer and signing_key_env together"),
        ("- a\n", "expected a mapping of keys to values"),
        ("mqtt: {password: hunter2}", "expected no secret in a file, found the key password"),
        ("mqtt: {password_env: hunter2}", "expected no secret in a file, found the key password_env"),
        ("", "found an empty file"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    found = problems(tmp_path, text)
    assert said in found
    assert "desk.yaml:1: expected " in found
    assert "hint: " in found


def test_a_secret_comes_from_the_environment_and_is_never_told() -> None:
    assert secret_of({"A": "s3cret"}, "A", "a key") == "s3cret"
    with pytest.raises(ConfigError, match="expected a key in the environment variable B, found none"):
        secret_of({"A": "s3cret"}, "B", "a key")
    one = DestinationSection(url_env="URL")
    assert destination_urls((one,), {"URL": "json://localhost"}) == ["json://localhost"]
    with pytest.raises(ConfigError, match="URL"):
        destination_urls((one,), {})


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("k")
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="found 0640; hint: chmod 600"):
        private_file(str(key), "a key")
    key.chmod(0o600)
    assert private_file(str(key), "a key") == key
    with pytest.raises(ConfigError, match="No such file"):
        private_file(str(tmp_path / "none"), "a key")
    with pytest.raises(ConfigError, match="together"):
        check_tls(TlsSection(key_file=str(key)), "the broker")
    with pytest.raises(ConfigError, match="found no file"):
        check_tls(TlsSection(ca_file=str(tmp_path / "ca.pem")), "the broker")
