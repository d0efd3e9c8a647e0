"""What the environment lacks is found before anything starts, all at once, and no value is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import Desk
from bot.runtime.configuration.desk_environment import check_environment
from bot.telemetry.commands.keys import new_secret
from bot.telemetry.logs import without_secrets
from tests.runtime.command_line import CommandLine

DESK = """\
mqtt: {password_env: BROKER}
issuers:
  bob: {secret_env: BOB, may: [all]}
  eve: {secret_env: EVE, may: [all]}
alerts: {destinations: [{url_env: PAGER}]}
"""
TERMS = {
    "mqtt": {"password_env": "BROKER", "tls": {"ca_file": "nowhere.pem"}},
    "issuers": {"bob": {"secret_env": "BOB", "may": ["all"]}, "eve": {"secret_env": "EVE", "may": ["all"]}},
    "alerts": {"destinations": [{"url_env": "PAGER"}]},
}


def test_everything_wrong_is_said_at_once_without_a_value() -> None:
    bob = new_secret().text()
    environ = {"BOB": bob, "EVE": "a secret of another kind", "PAGER": "no address of any kind"}
    with pytest.raises(ConfigError) as caught:
        check_environment(Desk.model_validate(TERMS), environ)
    said = "\n".join(caught.value.problems)
    assert "expected the broker's password in the environment variable BROKER, found none" in said
    assert "nowhere.pem: expected a certificate of mqtt.tls, found no file" in said
    assert "EVE: expected " in said
    assert "PAGER: expected an address as apprise has it" in said
    assert [value for value in environ.values() if value in said] == []


def test_what_is_right_passes_and_is_known_from_then_on() -> None:
    bob = new_secret().text()
    environ = {
        "BROKER": "pw-of-the-broker", "BOB": bob, "EVE": new_secret().text(),
        "PAGER": "json://u:pw-of-the-pager@host.test/a-token-of-some-length",
    }  # fmt: skip
    terms = {**TERMS, "mqtt": {"password_env": "BROKER"}}
    check_environment(Desk.model_validate(terms), environ)
    for secret in ("pw-of-the-broker", bob, bob.partition(":")[2], "pw-of-the-pager", "a-token-of-some-length"):
        assert without_secrets(f"found {secret} here") == "found *** here"
    assert without_secrets("host.test") == "host.test"


def test_an_address_of_a_kind_that_apprise_does_not_know_is_refused_before_anything_trades() -> None:
    terms = {"alerts": {"destinations": [{"url_env": "PAGER"}, {"url_env": "MAIL"}]}}
    environ = {"PAGER": "pigeon://a-token-of-some-length@host.test", "MAIL": "json://host.test/path"}
    with pytest.raises(ConfigError) as caught:
        check_environment(Desk.model_validate(terms), environ)
    (said,) = caught.value.problems
    assert said.startswith("PAGER: expected an address as apprise has it, found something else; hint: ")


def test_a_desk_without_windows_needs_nothing() -> None:
    check_environment(Desk.model_validate({"issuers": TERMS["issuers"]}), {})


def test_a_run_does_not_begin(evenkeel: CommandLine, busy: Path) -> None:
    (busy / "desk.yaml").write_text(DESK)
    result = evenkeel.run("run", "busy.yaml", "--desk", "desk.yaml", "--journal", "new.sqlite", cwd=busy)
    assert result.code == 2
    assert result.err.count("error: expected ") == 4
    assert not (busy / "new.sqlite").exists()
