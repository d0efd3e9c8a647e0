"""What a model says of a file's shape, in words for whoever wrote it: what was expected, found, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bot.runtime.configuration.yaml_source import Location, YamlSource
from strategies import POLICIES


def report_shape(
    source: YamlSource,
    errors: Sequence[ErrorDetails],
    model: type[BaseModel],
    manual: str,
    *,
    is_quoting: bool = True,
) -> None:
    """Report what a model says of a file's shape, each at its line; `manual` is the hint where no better is known.

    Without `is_quoting` no text of the file's values is repeated: one of them may be a secret in the wrong place.
    """
    absent = {error["loc"] for error in errors if error["type"] == "missing"}
    for error in errors:
        if error["type"] == "extra_forbidden":
            *parent, key = error["loc"]
            known = keys_at(parent, model)
            # A misspelt key is one mistake, not a missing key and an unknown one.
            absent.difference_update((*parent, near) for near in get_close_matches(str(key), known, n=1))
            expected = f"one of the keys {', '.join(known)}"
            found = short(str(key)) if is_quoting or _WORD.fullmatch(str(key)) else "something else"
            source.report(_place(source, error["loc"]), expected, found, nearest(str(key), known, manual))
    for error in errors:
        place = _place(source, error["loc"])
        if source.is_damaged(place):
            continue
        if error["type"] == "union_tag_invalid":
            found = error["ctx"]["tag"]
            source.report(
                (*place, "type"), f"one of {', '.join(POLICIES)}", short(found), nearest(found, POLICIES, manual)
            )
        elif error["type"] == "missing":
            if error["loc"] in absent:
                source.report(place, f"the key {error['loc'][-1]}", "none", _describe(model, manual, error["loc"]))
        elif error["type"] == "value_error" and (says := _WHOLE.fullmatch(error["msg"])) is not None:
            source.report(place, *says.groups())  # what a model checks as a whole says itself what it found
        elif error["type"] != "extra_forbidden":
            found = _found(error["input"]) if is_quoting else _kind(error["input"])
            source.report(place, _expected(error), found, _describe(model, manual, error["loc"]))


_WORD: Final = re.compile("[a-z][a-z_]{0,30}")  # what a key may be that is only misspelt
_WHOLE: Final = re.compile(r"Value error, expected (.+), found (.+?); hint: (.+)", re.DOTALL)
_EXPECTED: Final = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "string_too_long": "a text of at most {max_length} characters",
    "string_pattern_mismatch": "lower-case letters, digits and hyphens",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than_equal": "a number of at most {le}",
    "tuple_type": "a list",
    "model_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping with the key type",
    "union_tag_not_found": "a mapping with the key type",
}


def _expected(error: ErrorDetails) -> str:
    template = _EXPECTED.get(error["type"])
    return error["msg"] if template is None else template.format(**error.get("ctx", {}))


def _found(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return short(f"the keys {', '.join(map(str, value))}") if value else "an empty mapping"
    if isinstance(value, tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > 2**64:
        return "a huge number"
    return short(repr(value))


def _kind(value: object) -> str:
    """Return what a value is, and of numbers which."""
    if isinstance(value, str):
        return "another text" if value else "an empty text"
    return "a mapping" if isinstance(value, dict) and value else _found(value)


def short(text: str) -> str:
    """Return a text as it may stand in a message: printable, and not long."""
    text = text if text.isprintable() and text else repr(text)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _describe(model: type[BaseModel], manual: str, location: Sequence[str | int]) -> str:
    _, field = _walk(location, model)
    return field.description if field is not None and field.description else manual


def nearest(name: str, known: Iterable[str], manual: str) -> str:
    """Return a hint: the known name that is most like `name`, else where to read."""
    found = get_close_matches(name, list(known), n=1)
    return f"did you mean {found[0]}?" if found else manual


def _place(source: YamlSource, location: Location) -> Location:
    """Return the location without the steps that only the model has, such as the tag of a union."""
    place: Location = ()
    for step in location:
        if source.has((*place, step)):
            place = (*place, step)
    return place


def keys_at(location: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    """Return the keys that may stand below a place of a file."""
    models, _ = _walk(location, model)
    return list(dict.fromkeys(key for model in models for key in model.model_fields))


def _walk(location: Sequence[str | int], model: type[BaseModel]) -> tuple[list[type[BaseModel]], FieldInfo | None]:
    """Return the models that may stand at the location of an error, and the last field passed on the way."""
    models: list[type[BaseModel]] = [model]
    field: FieldInfo | None = None
    for step in location:
        fields = {key: field for model in models for key, field in model.model_fields.items()}
        if step in fields:
            field = fields[str(step)]
            models = list(_models_in(field.annotation))
        elif step in POLICIES:
            models = [POLICIES[str(step)]]
    return models, field


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
