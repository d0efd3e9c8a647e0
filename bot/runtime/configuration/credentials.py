"""Keys of venue accounts: from the environment or a private file, into memory, and nowhere else.

Must never write, log or show a key, in an error least of all; never follow a link to a file somebody else can change.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bot.domain.errors import VenueFatal
from bot.gateways.exchange import Credentials
from bot.storage.private_files import read_private
from bot.telemetry.logs import keep_secret

FIELDS: Final = msgspec.structs.fields(Credentials)
NAMES: Final = tuple(field.name for field in FIELDS)
MAX_BYTES: Final = 16 * 1024


def load_credentials(venue: str, source: str, environ: Mapping[str, str]) -> Credentials:
    """Return the keys for `venue` from `environ` (source "env") or from the file `source`.

    Raises VenueFatal if there are none, or if the file is not private: a regular file of ours with mode 0600 or less.
    """
    held = _of_environment(venue, environ) if source == "env" else _of_file(venue, Path(source))
    if held.are_empty:
        where = f"the environment ({variable(venue, 'api_key')} …)" if source == "env" else source
        hint = "docs/operations.md says which names a venue asks for"
        raise VenueFatal(f"{venue}: expected credentials in {where}, found none; hint: {hint}")
    keep_secret(*(value for value in msgspec.structs.astuple(held) if isinstance(value, str)))
    return held


def variable(venue: str, name: str) -> str:
    """Return the environment variable that holds `name` for `venue`, such as EVENKEEL_DERIBIT_API_KEY."""
    return f"EVENKEEL_{venue.upper().replace('-', '_')}_{name.upper()}"


def _of_environment(venue: str, environ: Mapping[str, str]) -> Credentials:
    return Credentials(**{name: environ.get(variable(venue, name), "").strip() for name in NAMES})


def _of_file(venue: str, path: Path) -> Credentials:
    content = read_private(path, f"{venue}: expected {path} to be a regular file of ours with mode 0600", MAX_BYTES)
    try:
        text = content.decode("utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else YAML(typ="safe", pure=True).load(text)
    except (ValueError, YAMLError):
        values = None  # what the parser says may quote the text
    if not isinstance(values, dict) or not all(isinstance(one, str) for one in values.values()):
        expected = f"{venue}: expected {path} to be a TOML or YAML mapping of names to texts"
        raise VenueFatal(f"{expected}, found something else; hint: one `name: value` a line, values in quotes")
    if unknown := sorted(str(key) for key in values if key not in NAMES):
        expected = f"{venue}: expected {path} to hold {', '.join(NAMES)}"
        raise VenueFatal(f"{expected}, found {', '.join(unknown)[:60]}; hint: the names are in lower case")
    return Credentials(**{key: value.strip() for key, value in values.items()})
