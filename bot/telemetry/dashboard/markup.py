"""HTML without a way to forget escaping: text is text unless it was made here."""

from __future__ import annotations

from html import escape
from typing import Final

VOID: Final = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is HTML already; only `el` and `join` make it."""

    __slots__ = ()


def el(tag: str, *children: Markup | str | None, **attributes: str | float | bool | None) -> Markup:
    """Return an element. Children that are not Markup are escaped, None is left out.

    An attribute's underscores become dashes and `cls` becomes class; True is an attribute without a value, False and
    None are none.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        shown = attribute_name(name)
        words.append(shown if value is True else f'{shown}="{escape(str(value), quote=True)}"')
    head = f"<{' '.join(words)}>"
    return Markup(head if tag in VOID else f"{head}{join(*children)}</{tag}>")


def join(*children: Markup | str | None) -> Markup:
    """Return these one after the other, escaping what is not Markup."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c) for c in children if c is not None))


def attribute_name(name: str) -> str:
    """Return how an attribute given as a Python name is written in HTML."""
    return "class" if name == "cls" else name.rstrip("_").replace("_", "-")
