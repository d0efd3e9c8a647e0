from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import DashboardSection, MqttSection
from bot.runtime.dashboard.config import dashboard_config, hosts_of, is_loopback, stale_after_s

HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("correct horse battery")
USERS = {"alice": {"password_hash": HASH, "role": "operator"}, "bob": {"password_hash": HASH}}


def section(**changes: Any) -> DashboardSection:
    return DashboardSection.model_validate({"users": USERS, **changes})


def problems(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        dashboard_config(section(**changes), ["eth-straddle"])
    return "\n".join(error.value.problems)


def test_on_loopback_nothing_more_is_wanted() -> None:
    config = dashboard_config(section(), ["eth-straddle"])
    assert config.hosts == ("localhost", "127.0.0.1", "::1")
    assert {name: user.is_operator for name, user in config.users.items()} == {"alice": True, "bob": False}
    assert (config.is_tls, config.vaults) == (False, ("eth-straddle",))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "desk.example"])
def test_elsewhere_it_insists_on_tls_or_a_proxy(host: str) -> None:
    found = problems(host=host, names=["desk.example"])
    assert found.count("\n") == 0
    assert "expected loopback, or tls, or a trusted_proxy" in found
    proxied = section(host=host, names=["desk.example"], trusted_proxy="10.0.0.1")
    assert dashboard_config(proxied, []).trusted_proxy == "10.0.0.1"


def test_every_address_of_a_machine_is_no_name() -> None:
    assert "dashboard.names: expected names" in problems(host="0.0.0.0", trusted_proxy="10.0.0.1")
    assert hosts_of(section(host="192.168.1.5", names=["desk.example"])) == ("192.168.1.5", "desk.example")


def test_a_proxy_is_an_address() -> None:
    assert "expected an IP address" in problems(trusted_proxy="proxy.example")


def test_somebody_must_be_able_to_log_in_and_not_by_a_password_in_the_file() -> None:
    assert "found nobody" in problems(users={})
    found = problems(users={"alice": {"password_hash": "my very own password"}})
    assert "expected an argon2id hash" in found
    assert "my very own password" not in found


def test_tls_wants_a_certificate_and_its_key(tmp_path: Path) -> None:
    assert "found neither" in problems(tls={"ca_file": "ca.pem"})
    missing = {"cert_file": str(tmp_path / "c.pem"), "key_file": str(tmp_path / "k.pem")}
    assert "found no file" in problems(host="0.0.0.0", names=["desk.example"], tls=missing)
    (tmp_path / "c.pem").write_text("")
    (tmp_path / "k.pem").write_text("")
    (tmp_path / "k.pem").chmod(0o644)
    assert "0600" in problems(tls=missing)
    (tmp_path / "k.pem").chmod(0o600)
    assert dashboard_config(section(host="0.0.0.0", names=["desk.example"], tls=missing), []).is_tls


def test_what_is_loopback_and_what_is_stale() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "localhost.example")))
    assert stale_after_s(MqttSection()) == 3.0
    assert stale_after_s(MqttSection(state_every_s=10.0)) == 31.0
