"""Margin parameters are data: dated, with their source, and never believed for longer than they say."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec


class ParameterSet(msgspec.Struct, frozen=True, kw_only=True):
    """One set of parameters of one model, as a file or an event brings it.

    `model` is the model's name in the registry, `name` this set's own. It is as of `as_of`, and from `expires` on
    (None: never) only a conservative stand-in; `source` says where each figure was read, and how sure it is. `values`
    are the model's own and are checked by it.
    """

    model: str
    name: str
    as_of: date
    expires: date | None = None
    source: str
    licence: str = "facts"
    values: dict[str, Any]

    def is_expired(self, today: date) -> bool:
        """Tell whether the set is no longer to be believed."""
        return self.expires is not None and today >= self.expires


def decode_parameters(text: str | bytes) -> ParameterSet:
    """Return the parameter set that a JSON text holds. Raises ValueError, in one sentence, where it holds none."""
    try:
        found = msgspec.json.decode(text, type=ParameterSet)
    except msgspec.DecodeError as error:  # a ValidationError too
        raise ValueError(f"expected a parameter set in JSON, found {error}") from None
    if found.expires is not None and found.expires <= found.as_of:
        raise ValueError(f"expected parameters to expire after {found.as_of}, found {found.expires}")
    return found
