"""A desk file → a validated desk; every problem at once, as `file:line: expected …, found …; hint: …`."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from bot.domain.commands import ACTIONS
from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import Desk, DestinationSection, IssuerSection, TlsSection
from bot.runtime.configuration.shapes import report_shape
from bot.runtime.configuration.yaml_source import YamlSource
from bot.telemetry.logs import keep_address, keep_secret

MANUAL: Final = "see docs/desk.md"


def load_desk(path: Path) -> Desk:
    """Return the desk of a file. Raises ConfigError with everything that is wrong with it."""
    source = YamlSource(path)
    desk: Desk | None = None
    if source.value is not None or not source.problems:
        try:
            desk = Desk.model_validate(source.value if source.value is not None else {})
        except ValidationError as error:
            report_shape(source, error.errors(include_url=False), Desk, MANUAL, is_quoting=False)
    if desk is not None:
        _check(source, desk)
    if source.problems or desk is None:
        raise ConfigError(source.problems)
    return desk


def _check(source: YamlSource, desk: Desk) -> None:
    """Report what no single key can see."""
    for name, issuer in desk.issuers.items():
        _check_issuer(source, name, issuer)
    dashboard = desk.dashboard
    if dashboard is None:
        return
    where = ("dashboard", "issuer")
    if dashboard.issuer is not None and dashboard.issuer not in desk.issuers:
        source.report(where, "an issuer of this file", repr(dashboard.issuer), "name it under issuers")
    if (dashboard.issuer is None) != (dashboard.signing_key_env is None):
        expected = "issuer and signing_key_env together"
        source.report(("dashboard",), expected, "one of them", "leave both out for a dashboard that only shows")


def _check_issuer(source: YamlSource, name: str, issuer: IssuerSection) -> None:
    where = ("issuers", name)
    keys = [key for key in ("public_key", "secret_env") if getattr(issuer, key) is not None]
    if len(keys) != 1:
        found = " and ".join(keys) or "neither"
        source.report(where, "public_key or secret_env", found, "one key per issuer; `evenkeel keys new` makes one")
    for action in issuer.may:
        if action not in (*ACTIONS, "all"):
            source.report((*where, "may"), f"actions of {', '.join(ACTIONS)} or all", repr(action)[:60], MANUAL)


def secret_of(environ: Mapping[str, str], name: str, what: str) -> str:
    """Return a secret from the environment. Raises ConfigError without it, naming the variable and never a value."""
    value = environ.get(name, "")
    if not value:
        raise ConfigError(
            [f"expected {what} in the environment variable {name}, found none; hint: set it and start again"]
        )
    if "://" in value:
        keep_address(value)
    else:
        keep_secret(value, value.rpartition(":")[2])  # of a key also what follows its kind
    return value


def private_file(path: str, what: str) -> Path:
    """Return the path of a file with a key in it. Raises ConfigError unless it can be read and nobody else can."""
    found = Path(path)
    try:
        mode = stat.S_IMODE(found.stat().st_mode)
    except OSError as error:
        raise ConfigError([f"{path}: expected {what}, found {error.strerror}; hint: check the path"]) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO) or not os.access(found, os.R_OK):
        raise ConfigError([f"{path}: expected {what} with mode 0600, found {mode:04o}; hint: chmod 600 {path}"])
    return found


def check_tls(tls: TlsSection, what: str) -> None:
    """Raise ConfigError unless the files of a TLS section are there, and its key is its owner's alone."""
    for name in (tls.ca_file, tls.cert_file):
        if name is not None and not Path(name).is_file():
            raise ConfigError([f"{name}: expected a certificate of {what}, found no file; hint: check the path"])
    if (tls.cert_file is None) != (tls.key_file is None):
        raise ConfigError([f"{what}: expected cert_file and key_file together, found one of them; hint: {MANUAL}"])
    if tls.key_file is not None:
        private_file(tls.key_file, f"the key of {what}")


def destination_urls(destinations: tuple[DestinationSection, ...], environ: Mapping[str, str]) -> list[str]:
    """Return the addresses alerts are sent to. Raises ConfigError for one that the environment lacks."""
    return [secret_of(environ, one.url_env, "where alerts are sent") for one in destinations]
