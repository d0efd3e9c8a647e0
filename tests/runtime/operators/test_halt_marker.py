"""The halt marker: whole or not there, and only taken away by who has seen it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bot.runtime.operators.halt_marker import Halt, HaltMarker

HALT = Halt("anna", "exchange maintenance", 1_700_000_000_000_000_000)


def test_it_tells_who_when_and_why(tmp_path: Path) -> None:
    path = tmp_path / "state" / "v.halted"
    marker = HaltMarker(path)
    assert not marker.is_set
    assert marker.read() is None
    marker.write(HALT)
    assert marker.is_set
    assert HaltMarker(path).read() == HALT
    assert str(HALT) == "halted by anna at 2023-11-14T22:13:20.000+00:00: exchange maintenance"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["v.halted"]


def test_a_halt_set_after_a_resume_was_asked_for_stays(tmp_path: Path) -> None:
    marker = HaltMarker(tmp_path / "v.halted")
    marker.write(HALT)
    seen = marker.read()
    marker.write(Halt("bert", "another reason", 2))
    marker.remove(seen)
    assert marker.is_set
    marker.remove(marker.read())
    assert not marker.is_set
    marker.remove(marker.read())
    marker.remove(seen)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b'{"issuer": 5}'])
def test_one_that_cannot_be_read_is_still_a_halt_and_can_be_lifted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.halted"
    path.write_bytes(content)
    marker = HaltMarker(path)
    assert marker.is_set
    found = marker.read()
    assert found is not None
    assert "cannot be read" in found.reason
    marker.remove(found)
    assert not marker.is_set


def test_a_dangling_link_halts(tmp_path: Path) -> None:
    path = tmp_path / "v.halted"
    path.symlink_to(tmp_path / "nowhere")
    assert HaltMarker(path).is_set


def test_words_of_another_encoding_keep_nobody_from_halting(tmp_path: Path) -> None:
    marker = HaltMarker(tmp_path / "v.halted")
    marker.write(Halt("ren\udce9", "ferm\udce9", 1))
    assert marker.read() == Halt("ren?", "ferm?", 1)


class _Raced(HaltMarker):
    """Somebody halts anew right after, or before, this one looked."""

    def __init__(self, path: Path, new: Halt, *, is_after: bool) -> None:
        super().__init__(path)
        self._new, self._is_after = new, is_after

    def _read(self, path: Path) -> Halt | None:
        found = super()._read(path)
        if path == self._path or self._is_after:
            HaltMarker(self._path).write(self._new)
        return found


@pytest.mark.parametrize("is_after", [True, False])
def test_a_halt_set_in_the_midst_of_a_removal_stays(tmp_path: Path, *, is_after: bool) -> None:
    path, new = tmp_path / "v.halted", Halt("bob", "wrong book", 5)
    HaltMarker(path).write(HALT)
    _Raced(path, new, is_after=is_after).remove(HALT)
    assert HaltMarker(path).read() == new
    assert [one.name for one in tmp_path.iterdir()] == ["v.halted"]
