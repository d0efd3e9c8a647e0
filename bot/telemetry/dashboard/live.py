"""What one open page shows that changes: cells by key. Only what differs from what was sent is sent, in one message.

A page lays out elements with `data-k` once (`slot`), and sets their text and attributes at every tick; the document in
the browser is not rebuilt. What the framework's own elements are told travels in the same message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from bot.telemetry.dashboard.markup import Markup, attribute_name, el

MAX_CELLS: Final = 20_000  # of one page


def slot(key: str, tag: str = "span", *children: Markup | str, **attributes: str | float | bool | None) -> Markup:
    """Return an element that `Live.set` can reach by `key`."""
    return el(tag, *children, data_k=key, **attributes)


class Live:
    """The changing parts of one page in one browser."""

    def __init__(self) -> None:
        self._sent: dict[str, dict[str, str | None]] = {}
        self._orders: dict[str, tuple[str, ...]] = {}
        self._changed: dict[str, dict[str, str | None]] = {}
        self._reordered: dict[str, tuple[str, ...]] = {}
        self._calls: list[tuple[str, Sequence[object]]] = []

    def set(self, key: str, text: str | None = None, **attributes: str | float | bool | None) -> None:
        """Set a cell's text (None: leave it) and attributes (None or False: take it away)."""
        now = {attribute_name(name): _written(value) for name, value in attributes.items()}
        if text is not None:
            now["#text"] = text
        self._set(key, now)

    def html(self, key: str, content: Markup) -> None:
        """Set what is inside of a cell, where rows come and go."""
        self._set(key, {"#html": str(content)})

    def order(self, key: str, rows: Sequence[str]) -> None:
        """Put the children of a cell, named by their `data-row`, into this order."""
        if self._orders.get(key) != (wanted := tuple(rows)):
            self._orders[key] = self._reordered[key] = wanted

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of the page's own script with arguments of JSON, after the cells are set."""
        self._calls.append((name, arguments))

    def method(self, element_id: int, name: str, *arguments: object) -> None:
        """Call a method of one of the framework's elements: a message for each would cost more than what is in it."""
        self.call("method", element_id, name, arguments)

    def flush(self) -> str | None:
        """Return what is to be told to the browser as JSON, None where nothing changed. What is no number is null."""
        if not (self._changed or self._reordered or self._calls):
            return None
        message = {"cells": self._changed, "orders": self._reordered, "calls": self._calls}
        self._changed, self._reordered, self._calls = {}, {}, []
        return msgspec.json.encode(message).decode()

    def _set(self, key: str, now: dict[str, str | None]) -> None:
        if key not in self._sent:
            assert len(self._sent) < MAX_CELLS, f"expected at most {MAX_CELLS} cells on a page; hint: use `html`"
            self._sent[key] = {}
        sent = self._sent[key]
        for name, value in now.items():
            if name not in sent or sent[name] != value:
                sent[name] = value
                self._changed.setdefault(key, {})[name] = value


def _written(value: str | float | bool | None) -> str | None:
    if value is None or value is False:
        return None
    return "" if value is True else str(value)
