"""The soak is the day it says it is; how much memory it takes, is not asserted here."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from bot.domain.units import NS_PER_S
from tests.house.sources import ROOT


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = spec_from_file_location("soak_memory", ROOT / "scripts" / "soak_memory.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_fifty_updates_a_second(soak: ModuleType) -> None:
    bursts = list(islice(soak.market(2**62), 11))
    assert bursts[-1][0] - bursts[0][0] == NS_PER_S
    assert sum(len(events) for _, events in bursts[1:]) == 50
    assert {event.instrument_id for event in bursts[0][1][2:]} == {option.instrument_id for option in soak.OPTIONS}


async def test_it_hedges_and_reads_once_an_hour(
    soak: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "NS_PER_HOUR", 120 * NS_PER_S)
    first, second = await soak.soak(2, tmp_path / "journal.sqlite")
    assert (first.hour, second.hour) == (1, 2)
    assert second.updates - first.updates == 50 * 120
    assert second.orders > 0
    assert second.rss_mb > 10.0
