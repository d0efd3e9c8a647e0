"""A word of an operator on its way to a daemon, which may not be there, or not answer."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.runtime.configuration.config import load_vaults
from bot.runtime.operators import control
from bot.runtime.windows.hub import Watched, order_daemon

VAULT = Path(__file__).parents[3] / "config" / "eth-straddle.yaml"


@pytest.fixture
def watched() -> Iterator[Watched]:
    (vault,) = load_vaults([VAULT])
    with tempfile.TemporaryDirectory(prefix="ek-") as name:  # short enough for sockets
        yield Watched(vault, VAULT, Path(name) / "vault.sock", Path(name) / "vault.sqlite")


async def test_an_order_to_nobody_is_an_error(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PARTING_S", 0.05)  # who is silent need not be waited for
    answer = await order_daemon(watched, {"action": "halt", "issuer": "me", "reason": "why"})
    assert answer == {"error": "expected a running daemon of eth-straddle, found none"}

    async def silent(question: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(30)
        return question

    async with control.serve(watched.socket_path, silent):
        answer = await order_daemon(watched, {"action": "halt", "issuer": "me", "reason": "why"}, timeout_s=0.05)
        assert "found none; it may still do what it was told" in answer["error"]
