"""What a desk's windows need of the environment, found wrong before anything starts; secrets are known from then on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import Desk
from bot.runtime.configuration.desk_file import check_tls, secret_of
from bot.runtime.configuration.issuers import load_issuers


def check_environment(desk: Desk, environ: Mapping[str, str]) -> None:
    """Raise ConfigError with all that the windows of this desk would miss: passwords, addresses, keys, certificates.

    The libraries that use them are not loaded. Whether an address is one that apprise knows is said by the windows.
    """
    problems: list[str] = []

    def look(find: Callable[[], object]) -> None:
        try:
            find()
        except ConfigError as error:
            problems.extend(error.problems)

    if (mqtt := desk.mqtt) is not None:
        if (name := mqtt.password_env) is not None:
            look(lambda: secret_of(environ, name, "the broker's password"))
        if (tls := mqtt.tls) is not None:
            look(lambda: check_tls(tls, "mqtt.tls"))
        look(lambda: load_issuers(desk, environ))
    for one in desk.alerts.destinations if desk.alerts is not None else ():
        look(lambda url_env=one.url_env: _address_of(environ, url_env))  # type: ignore[misc]
    if problems:
        raise ConfigError(problems)


def _address_of(environ: Mapping[str, str], name: str) -> str:
    url = secret_of(environ, name, "where alerts are sent")
    if "://" not in url:
        found = f"{name}: expected an address as apprise has it, found something else"
        raise ConfigError([f"{found}; hint: see docs/alerts.md"])
    return url
