"""From the dashboard section of a desk file to what the dashboard is built with; what would be unsafe is refused."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import DashboardSection, MqttSection
from bot.runtime.configuration.desk_file import check_tls
from bot.telemetry.dashboard.passwords import is_password_hash
from bot.telemetry.dashboard.ports import DashboardConfig, User

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
STALE_AFTER_S = 3.0


def dashboard_config(section: DashboardSection, vaults: Sequence[str]) -> DashboardConfig:
    """Return what pages need to know. Raises ConfigError with every problem."""
    problems = [*_user_problems(section), *_address_problems(section)]
    if section.tls is not None:
        problems += _tls_problems(section)
    if problems:
        raise ConfigError(problems)
    return DashboardConfig(
        users={name: User(user.password_hash, user.role == "operator") for name, user in section.users.items()},
        hosts=hosts_of(section),
        vaults=tuple(vaults),
        is_tls=section.tls is not None,
        trusted_proxy=section.trusted_proxy,
        idle_s=section.idle_s,
        absolute_s=section.absolute_s,
    )


def hosts_of(section: DashboardSection) -> tuple[str, ...]:
    """Return the names and addresses the dashboard answers to."""
    own = LOOPBACK_NAMES if is_loopback(section.host) else () if is_everywhere(section.host) else (section.host,)
    return tuple(dict.fromkeys((*own, *section.names)))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_everywhere(host: str) -> bool:
    """Tell whether an address means all of this machine's."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def stale_after_s(section: MqttSection) -> float:
    """Return how old a state may be: several times what lies between two, and never less than a few seconds."""
    return max(STALE_AFTER_S, 3 * section.state_every_s + 1)


def _user_problems(section: DashboardSection) -> list[str]:
    if not section.users:
        hint = "`evenkeel password` prints a hash for one"
        return [f"dashboard.users: expected somebody who may log in, found nobody; hint: {hint}"]
    return [
        f"dashboard.users.{name}.password_hash: expected an argon2id hash, found something else; "
        "hint: `evenkeel password` prints one"
        for name, user in section.users.items()
        if not is_password_hash(user.password_hash)
    ]


def _address_problems(section: DashboardSection) -> list[str]:
    problems = []
    if not is_loopback(section.host) and section.tls is None and section.trusted_proxy is None:
        hint = "passwords must not travel in the clear; see docs/desk.md"
        problems.append(
            f"dashboard.host: expected loopback, or tls, or a trusted_proxy, found {section.host} alone; hint: {hint}"
        )
    if not hosts_of(section):
        hint = "the names and addresses that people type"
        problems.append(f"dashboard.names: expected names with host {section.host}, found none; hint: {hint}")
    if section.trusted_proxy is not None:
        try:
            ip_address(section.trusted_proxy)
        except ValueError:
            found = f"found {section.trusted_proxy!r}"
            problems.append(f"dashboard.trusted_proxy: expected an IP address, {found}; hint: names can be taken over")
    return problems


def _tls_problems(section: DashboardSection) -> list[str]:
    assert section.tls is not None
    if section.tls.cert_file is None:
        return ["dashboard.tls: expected cert_file and key_file, found neither; hint: see docs/desk.md"]
    try:
        check_tls(section.tls, "dashboard.tls")
    except ConfigError as error:
        return list(error.problems)
    return []
