"""Halting a live feed: marker, daemon and venues at once, whatever is frozen, locked or away."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bot.domain.errors import VenueFatal
from bot.gateways.exchange import Credentials, VenueSettings
from bot.runtime.configuration.vault import Vault
from bot.runtime.operators.control import serve
from bot.runtime.operators.halt_marker import Halt, HaltMarker
from bot.runtime.operators.halting import HaltReport, halt_everywhere
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.vault_files import vault

HALT = Halt("anna", "wrong book", 1)
KEYS = {f"EVENKEEL_{venue}_API_KEY": "k" for venue in ("DERIBIT", "OKX")}
LIVE = Vault.model_validate({**vault(), "mode": "live", "feed": "live", "venues": {"deribit": {}, "okx": {}}})


class Outcome(NamedTuple):
    canceled: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class Venues:
    """What each venue answers; a number is how long it takes, an exception what becomes of it."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def __call__(self, settings: VenueSettings, credentials: Credentials, deadline_s: float) -> Outcome:
        assert credentials.api_key == "k"
        assert deadline_s > 0
        self.asked.append(settings.venue)
        answer = self.answers.get(settings.venue, Outcome(("a", "b")))
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return Outcome()
        assert isinstance(answer, Outcome)
        return answer


async def halt(
    folder: Path,
    venues: Venues,
    one: Vault = LIVE,
    environ: dict[str, str] = KEYS,
    deadline_s: float = PATIENCE_S,
) -> HaltReport:
    marker = HaltMarker(folder / "v.halted")
    return await halt_everywhere(
        one, HALT, marker, folder / "v.sock", environ, venue_halter=venues, deadline_s=deadline_s
    )


async def test_every_party_is_told_and_gets_its_line(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"state": "halted", "reason": "anna: wrong book"}

    venues = Venues()
    async with serve(tmp_path / "v.sock", answer):
        told = await halt(tmp_path, venues)
    assert told.lines == [
        "eth-straddle: halted anna: wrong book",
        "deribit: 2 orders canceled, none left",
        "okx: 2 orders canceled, none left",
    ]
    assert told.is_complete
    assert asked == [{"verb": "operate", "action": "halt", "issuer": "anna", "reason": "wrong book", "command_id": ""}]
    assert HaltMarker(tmp_path / "v.halted").read() == HALT
    assert venues.asked == ["deribit", "okx"]


async def test_a_secret_in_the_reason_stands_nowhere_and_stops_nothing(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"state": "halted", "reason": question["reason"]}

    marker = HaltMarker(tmp_path / "v.halted")
    environ = {**KEYS, "EVENKEEL_DERIBIT_SECRET": "secret-of-hltz"}
    pasted = Halt("anna", "wrong key secret-of-hltz", 1)
    async with serve(tmp_path / "v.sock", answer):
        told = await halt_everywhere(
            LIVE, pasted, marker, tmp_path / "v.sock", environ, venue_halter=Venues(), deadline_s=PATIENCE_S
        )
    assert told.is_complete
    assert [question["reason"] for question in asked] == ["wrong key ***"]
    assert marker.read() == Halt("anna", "wrong key ***", 1)


async def test_a_frozen_daemon_and_a_venue_away_delay_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(tmp_path / "v.sock"))
        frozen.listen()  # a daemon stopped by a signal: it takes the call and says nothing
        async with asyncio.timeout(PATIENCE_S):
            told = await halt(tmp_path, Venues(deribit=3600.0), deadline_s=0.3)
    assert told.lines == [
        "eth-straddle: halted by its marker; the daemon did not answer within 0.3 s, and sends nothing when it wakes",
        "deribit: expected an answer within 0.3 s, found none; orders may still rest there",
        "okx: 2 orders canceled, none left",
    ]
    assert not told.is_complete


@pytest.mark.parametrize(
    "answer", [VenueFatal("okx: bad key"), Outcome(("a",), ("one is stuck",)), OSError("no route")]
)
async def test_what_failed_is_said_and_not_complete(tmp_path: Path, answer: object) -> None:
    told = await halt(tmp_path, Venues(okx=answer))
    assert not told.is_complete
    assert told.lines[0] == "eth-straddle: halted; no daemon runs, and the next one will not trade until a resume"
    assert told.lines[1] == "deribit: 2 orders canceled, none left"
    assert any(words in told.lines[2] for words in ("bad key", "one is stuck", "no route"))


async def test_what_nobody_foresaw_at_one_venue_does_not_keep_the_other(tmp_path: Path) -> None:
    told = await halt(tmp_path, Venues(deribit=KeyError("result"), okx=0.1))
    assert told.lines[1] == "deribit: not canceled: KeyError: 'result'; orders may still rest there"
    assert told.lines[2] == "okx: 0 orders canceled, none left"
    assert not told.is_complete


async def test_options_left_in_the_environment_do_not_keep_a_halt_from_the_venues(tmp_path: Path) -> None:
    venues = Venues()
    told = await halt(tmp_path, venues, environ={**KEYS, "EVENKEEL_OKX_OPTIONS": '{"hostname": "old"}'})
    assert venues.asked == ["deribit", "okx"]
    assert told.is_complete


async def test_keys_missing_for_one_venue_do_not_keep_the_other(tmp_path: Path) -> None:
    told = await halt(tmp_path, Venues(), environ={"EVENKEEL_OKX_API_KEY": "k"})
    assert told.lines[1].startswith("deribit: not canceled: deribit: expected credentials in the environment")
    assert told.lines[2] == "okx: 2 orders canceled, none left"


async def test_a_paper_run_has_orders_nowhere(tmp_path: Path) -> None:
    venues = Venues()
    told = await halt(tmp_path, venues, LIVE.model_copy(update={"mode": "paper"}))
    assert (len(told.lines), told.is_complete, venues.asked) == (1, True, [])
    assert HaltMarker(tmp_path / "v.halted").is_set


async def test_a_marker_that_cannot_be_written_is_an_error_after_the_venues_were_asked(tmp_path: Path) -> None:
    (tmp_path / "v.halted").mkdir()
    venues = Venues()
    with pytest.raises(OSError, match="directory"):
        await halt(tmp_path, venues)
    assert venues.asked == ["deribit", "okx"]
