"""What a person writes with an order stands in the journal for ever, and in every window: so no secret may be in it.

One rule for every way in, at the machine, over the broker and from a page: an order that holds a secret which this
process knows is refused. A halt alone is never kept waiting for that: it is carried out with *** in the secret's place.
So is what the alerts order by themselves, whose reason is a figure or a venue's word and nobody's to say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from bot.domain.errors import ConfigError
from bot.domain.events import OperatorAction
from bot.runtime.configuration.credentials import MAX_BYTES, load_credentials, variable
from bot.runtime.configuration.vault import Vault
from bot.storage.private_files import read_private
from bot.telemetry.logs import keep_secret, without_secrets

BY_ALERTS: Final = "alerts"  # the issuer of what is ordered because nobody answered
HINT: Final = "hint: say it in other words, and change that secret: it has been seen"


def secret_in(*texts: str) -> str:
    """Return why what holds one of our secrets is not journalled, "" where none does."""
    if all(without_secrets(text) == text for text in texts):
        return ""
    return f"expected a command without secrets, found one of ours in it; {HINT}"


def fit_reason(action: str, reason: str) -> str:
    """Return the reason of an action as it may be journalled. Raises ConfigError for a secret in it, but of a halt."""
    why_not = secret_in(reason)
    if why_not and action != OperatorAction.HALT:
        raise ConfigError([f"--reason: {why_not}"])
    return without_secrets(reason)


def learn_secrets(vault: Vault, environ: Mapping[str, str]) -> None:
    """Have this process know a live vault's keys and the passwords of its keystores; never raises.

    Those that stand in files, as far as they can be read: what stands in the environment every command knows.
    """
    if vault.mode != "live":
        return
    for venue, section in vault.venues.items():
        with suppress(Exception):  # a halt must not fail for it, and others find out for themselves what is wrong
            load_credentials(venue, section.credentials, environ)
    for chain in vault.chains:
        with suppress(Exception):  # as above; by itself, since all else about keystores takes a second to load
            path = Path(environ[f"{variable(chain, 'password')}_FILE"])
            keep_secret(read_private(path, "expected a password", MAX_BYTES).decode("utf-8").rstrip("\r\n"))
