"""From the issuers of a desk file to the keys their commands are known by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import Desk, IssuerSection
from bot.runtime.configuration.desk_file import secret_of
from bot.telemetry.commands.keys import VerifyingKey, parse_public_key, parse_secret
from bot.telemetry.commands.verifying import Issuer

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}")


def load_issuers(desk: Desk, environ: Mapping[str, str]) -> dict[str, Issuer]:
    """Return every issuer with its key. Raises ConfigError with all that is wrong with any of them.

    Two issuers may not share a key: whoever holds it could not be told apart.
    """
    problems: list[str] = []
    found: dict[str, Issuer] = {}
    owners: dict[str, str] = {}
    for name, section in desk.issuers.items():
        where = f"issuers.{name}"
        if NAME.fullmatch(name) is None:
            hint = "letters, digits and . _ @ - of ASCII, at most 60"
            problems.append(f"issuers: expected a name of plain characters, found {name!r:.80}; hint: {hint}")
            continue
        try:
            key = _key_of(section, where, environ)
        except ConfigError as error:
            problems += error.problems
            continue
        owner = owners.setdefault(key.fingerprint, name)
        if owner != name:
            problems.append(f"{where}: expected a key of its own, found {owner}'s; hint: `evenkeel keys new` makes one")
        found[name] = Issuer(name, key, frozenset(section.may), frozenset(section.vaults))
    if problems:
        raise ConfigError(problems)
    return found


def _key_of(section: IssuerSection, where: str, environ: Mapping[str, str]) -> VerifyingKey:
    if section.public_key is not None:
        return parse_public_key(section.public_key, where)
    if section.secret_env is None:
        raise ConfigError([f"{where}: expected public_key or secret_env, found neither; hint: see docs/commands.md"])
    return parse_secret(secret_of(environ, section.secret_env, f"the secret of {where}"), section.secret_env)
