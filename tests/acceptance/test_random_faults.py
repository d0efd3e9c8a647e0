"""A handful of seeded rehearsals on a venue where things go wrong at random; `scripts/faults` runs any number."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest

from tests.acceptance.rehearsal import rehearse

AT_ONCE = 4


@pytest.mark.parametrize("first_seed", [1, 5, 9])
async def test_whatever_goes_wrong_the_ledger_is_the_venue(first_seed: int) -> None:
    seeds = range(first_seed, first_seed + AT_ONCE)
    with tempfile.TemporaryDirectory(prefix="ek-") as folder:  # pytest's own is too long for a socket's name
        stories = await asyncio.gather(*(rehearse(seed, Path(folder)) for seed in seeds))
    wrong = {f"seed {story.seed}": story.wrong for story in stories if story.wrong}
    assert wrong == {}, f"try again with scripts/faults 1 --first-seed <seed>: {wrong}"
    assert sum(sum(story.faults.values()) for story in stories) > 20, "hardly anything went wrong"
    assert all(story.orders and story.trades for story in stories), "one never traded"
