"""A handful of kills of a live daemon around its orders; `scripts/kills` kills any number of times."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.acceptance.kills import kill_again_and_again
from tests.runtime.command_line import open_command_line

KILLS = 6


async def test_killed_around_its_orders_it_neither_doubles_nor_loses_any(tmp_path: Path) -> None:
    # pytest's own folder is too long for a socket's name
    with tempfile.TemporaryDirectory(prefix="ek-") as folder, open_command_line(tmp_path) as evenkeel:
        story = await kill_again_and_again(evenkeel, Path(folder), KILLS, seed=7)
    assert story.wrong == ()
    assert story.orders >= KILLS
    assert story.unanswered > 0, "no kill fell between an order and its answer"
