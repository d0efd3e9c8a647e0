"""What a desk's windows need of the environment, found wrong before anything starts; secrets are known from then on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import Desk
from bot.runtime.configuration.desk_file import check_tls, secret_of
from bot.runtime.configuration.issuers import load_issuers

# Which of the variables named hold an address that apprise does not know.
_LOOK: Final = """\
import os, sys
from bot.telemetry.alerts.sending import is_address
print(*(name for name in sys.argv[1:] if not is_address(os.environ[name])))
"""
_PATIENCE_S: Final = 60.0


def check_environment(desk: Desk, environ: Mapping[str, str]) -> None:
    """Raise ConfigError with all that the windows of this desk would miss: passwords, addresses, keys, certificates.

    The libraries that use them are not loaded here: apprise is asked in a process of its own.
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
    pagers = [one.url_env for one in desk.alerts.destinations] if desk.alerts is not None else []
    for pager in pagers:
        look(lambda url_env=pager: _address_of(environ, url_env))  # type: ignore[misc]
    look(lambda: _ask_apprise(environ, [pager for pager in pagers if "://" in environ.get(pager, "")]))
    if problems:
        raise ConfigError(problems)


def _address_of(environ: Mapping[str, str], name: str) -> str:
    url = secret_of(environ, name, "where alerts are sent")
    if "://" not in url:
        raise ConfigError([_not_an_address(name)])
    return url


def _ask_apprise(environ: Mapping[str, str], names: Sequence[str]) -> None:
    if not names:
        return
    command = [sys.executable, "-c", _LOOK, *names]
    try:
        done = subprocess.run(  # noqa: S603 — names of variables, which the desk file allows no other signs in
            command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:  # its texts hold no address
        found = f"alerts: expected apprise to look at the addresses, found {type(error).__name__}"
        raise ConfigError([f"{found}; hint: is evenkeel installed whole?"]) from None
    if unknown := done.stdout.split():
        raise ConfigError([_not_an_address(name) for name in unknown])


def _not_an_address(name: str) -> str:
    return f"{name}: expected an address as apprise has it, found something else; hint: see docs/alerts.md"
