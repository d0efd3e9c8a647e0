"""What was taken before a restart is known after it, whatever became of the file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bot.runtime.windows.command_file import MAX_LINES, CommandFile, command_path
from bot.telemetry.commands.memory import KEPT_NS
from tests.telemetry.commands.forging import NOW_NS, S, order


def test_ids_outlive_a_restart_until_they_are_old(tmp_path: Path) -> None:
    path = command_path(str(tmp_path), "mm")
    first, second = order(reason="first"), order("bob", reason="second")
    file = CommandFile(path, NOW_NS)
    for body in (first, second):
        file.note(body, NOW_NS)
    assert path.stat().st_mode & 0o777 == 0o600
    again = CommandFile(path, NOW_NS + 1)
    assert sorted(again.memory.lines()) == sorted(
        [(body.command_id, body.issuer, body.expires_ns) for body in (first, second)]
    )
    assert len(CommandFile(path, first.expires_ns + KEPT_NS + 1).memory) == 0


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = command_path(str(tmp_path), "mm")
    body = order()
    CommandFile(path, NOW_NS).note(body, NOW_NS)
    with path.open("ab") as file:
        file.write(
            b"\n\xff\xfe torn\nabc alice " + "²".encode() + b"\nabcdefgh alice 99999999999999999999999\nhalf ali"
        )
    again = CommandFile(path, NOW_NS)
    assert [line[0] for line in again.memory.lines()] == [body.command_id]
    following = order(reason="following")
    again.note(following, NOW_NS)
    assert following.command_id in CommandFile(path, NOW_NS).memory


def test_the_file_stays_small(tmp_path: Path) -> None:
    path = command_path(str(tmp_path), "mm")
    text = "".join(f"id-{number:08d} alice {NOW_NS - KEPT_NS * 2}\n" for number in range(MAX_LINES - 1))
    path.write_text(text + f"id-kept-x bob {NOW_NS}\n")
    file = CommandFile(path, NOW_NS)
    file.note(order(), NOW_NS)
    assert [line.split()[0] for line in path.read_text().splitlines()] == ["id-kept-x", order().command_id]
    file.note(msgspec.structs.replace(order(), command_id="another-one"), NOW_NS + S)
    assert len(path.read_text().splitlines()) == 3
    assert [one.name for one in tmp_path.iterdir()] == ["mm.commands"], "nothing is left beside it"


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    path = command_path(str(tmp_path / "not there"), "mm")
    file = CommandFile(path, NOW_NS)
    file.note(order(), NOW_NS)
    assert order().command_id in file.memory
    (tmp_path / "mm.commands").mkdir()
    assert len(CommandFile(command_path(str(tmp_path), "mm"), NOW_NS).memory) == 0
