"""What venues sent: recorded payloads fed to the real ccxt, and JSON of any shape for the parsers to survive."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ccxt.pro
from hypothesis import strategies as st

HERE = Path(__file__).parent.parent / "data" / "payloads"
# No payload is sent anywhere: ccxt wants an address to tell its connections apart.
ADDRESS = "ws://127.0.0.1:1/ws"

SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6) | st.floats(0.01, 1e5).map(str)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner), max_leaves=6
)


def messages(name: str) -> Iterator[dict[str, Any]]:
    """Yield the recorded messages of a file of JSON lines."""
    for line in (HERE / name).read_text().splitlines():
        yield json.loads(line)


@asynccontextmanager
async def heard(
    exchange: ccxt.pro.Exchange, markets: Iterable[dict[str, Any]], said: Iterable[dict[str, Any]]
) -> AsyncIterator[ccxt.pro.Exchange]:
    """Let ccxt handle messages as if they had come in on a connection of its own."""
    exchange.set_markets(list(markets))
    client = exchange.client(ADDRESS)
    for message in said:
        exchange.handle_message(client, message)
    try:
        yield exchange
    finally:
        await exchange.close()


def maimed(whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return payloads like this one of which any part may be missing, or be something else."""

    def of(value: Any) -> st.SearchStrategy[Any]:
        if isinstance(value, dict):
            return st.fixed_dictionaries({}, optional={key: of(inner) | JSON for key, inner in value.items()})
        if isinstance(value, list):
            return st.lists(JSON, max_size=3) | st.tuples(*(of(inner) for inner in value[:3])).map(list)
        return st.just(value) | SCALARS

    return of(whole)
