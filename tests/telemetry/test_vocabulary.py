"""Every log call of the code is in the vocabulary, with its fields; the page shows the same table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from bot.telemetry.vocabulary import VOCABULARY, table
from tests.house.sources import ROOT, modules

METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
ALWAYS = {"exc_info", "stack_info"}


class Call(NamedTuple):
    where: str
    events: tuple[str, ...]
    fields: frozenset[str]
    passes_on: bool


def calls() -> Iterator[Call]:
    for module in modules():
        for node in ast.walk(module.tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
                continue
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name not in ("log", "_log"):
                continue
            first = node.args[0] if node.args else ast.Constant(None)
            texts = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
            events = tuple(str(one.value) if isinstance(one, ast.Constant) else "?" for one in texts)
            fields = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
            passes_on = any(keyword.arg is None for keyword in node.keywords)
            yield Call(f"{module.name}:{node.lineno}", events, fields - ALWAYS, passes_on)


CALLS = list(calls())


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_a_log_call_uses_the_vocabulary(call: Call) -> None:
    for event in call.events:
        assert event in VOCABULARY, f"{call.where}: expected an event of the vocabulary, found {event!r}"
        word = VOCABULARY[event]
        assert call.fields <= set(word.fields), f"{call.where}: expected fields of {event}, found {sorted(call.fields)}"
        assert word.more or not call.passes_on, f"{call.where}: expected {event} to name its fields"


@pytest.mark.parametrize("event", VOCABULARY)
def test_a_word_is_used_with_all_its_fields(event: str) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", event)
    uses = [call for call in CALLS if event in call.events]
    assert uses, f"expected a call that logs {event}, found none; strike it off"
    if not VOCABULARY[event].more:
        assert {field for call in uses for field in call.fields} == set(VOCABULARY[event].fields)


def test_the_page_shows_the_vocabulary() -> None:
    assert table() in (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
