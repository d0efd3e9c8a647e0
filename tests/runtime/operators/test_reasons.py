"""What people write with an order: whole where it is harmless, refused where it holds a secret, masked in a halt."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.domain.errors import ConfigError
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.operators.reasons import fit_reason, learn_secrets, secret_in
from bot.telemetry.logs import keep_secret
from tests.runtime.chain_files import chain_vault
from tests.runtime.command_line import CommandLine
from tests.runtime.vault_files import vault

HELD = "secret-of-rsnq"


def test_a_secret_is_refused_and_of_a_halt_left_out() -> None:
    keep_secret(HELD)
    assert (secret_in("lunch", ""), fit_reason("pause", "lunch")) == ("", "lunch")
    assert secret_in("lunch", f"at {HELD}").startswith("expected a command without secrets, found one of ours in it")
    for action in ("pause", "resume", "reload", "flatten"):
        with pytest.raises(ConfigError, match="--reason: expected a command without secrets") as raised:
            fit_reason(action, f"at {HELD}")
        assert HELD not in str(raised.value)
    assert fit_reason("halt", f"at {HELD}") == "at ***"


def test_keys_of_a_live_vault_are_known_though_no_daemon_runs(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.touch(0o600)
    keys.write_text("api_key: key-of-rsnw\nsecret: secret-of-rsnw\n")
    venues = {"deribit": {"credentials": str(keys)}, "okx": {"credentials": str(tmp_path / "none.yaml")}}
    paper = Vault.model_validate({**vault(), "mode": "paper", "feed": "live", "venues": venues})
    learn_secrets(paper, {})
    assert secret_in("secret-of-rsnw") == "", "a paper run loads no keys, so that none can be sent anywhere"
    learn_secrets(paper.model_copy(update={"mode": "live"}), {})
    assert secret_in("secret-of-rsnw") != ""


def test_the_password_of_a_keystore_is_known_too_where_it_stands_in_a_file(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("password-of-rsnv\n")
    (tmp_path / "vault.yaml").write_text(chain_vault())
    (live,) = load_vaults([tmp_path / "vault.yaml"])
    learn_secrets(live.model_copy(update={"mode": "live"}), {"EVENKEEL_LOCAL_PASSWORD_FILE": str(password)})
    assert secret_in("it is password-of-rsnv") != ""


def test_at_the_machine_it_is_the_same(evenkeel: CommandLine, busy: Path) -> None:
    environ = {"EVENKEEL_TEST_TOKEN": HELD}
    for verb in ("pause", "reload"):
        refused = evenkeel.run(verb, "busy.yaml", "--reason", f"at {HELD}", cwd=busy, environ=environ)
        assert (refused.code, refused.out) == (2, "")
        assert "--reason: expected a command without secrets, found one of ours in it" in refused.err
        assert HELD not in refused.err
