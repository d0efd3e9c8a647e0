"""The desk file's keys: named in its page, and bounded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from bot.runtime.configuration.desk import Desk, cursor_path

ROOT = Path(__file__).parents[3]


def keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        assert field.description, name
        yield name
        for inner in models_in(field.annotation):
            yield from keys(inner)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


@pytest.mark.parametrize("key", sorted(set(keys(Desk))))
def test_every_key_is_in_its_page(key: str) -> None:
    words = re.findall(r"[a-z_]+", (ROOT / "docs" / "desk.md").read_text())
    assert key in words


def test_a_desk_without_anything_opens_nothing() -> None:
    desk = Desk()
    assert (desk.mqtt, desk.http, desk.alerts, desk.dashboard, desk.issuers) == (None, None, None, None, {})


@pytest.mark.parametrize("prefix", ["a/b", "#", "", "x" * 41])
def test_a_prefix_is_one_level_of_a_topic(prefix: str) -> None:
    with pytest.raises(ValidationError):
        Desk.model_validate({"mqtt": {"prefix": prefix}})


def test_the_cursor_lies_beside_the_journal() -> None:
    assert cursor_path("state", "eth") == Path("state/eth.published")
