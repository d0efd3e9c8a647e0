"""An instruction holds all a person needs, is written once, and reads the same to machines."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bot.domain.risk import TransferCollateral
from bot.gateways.transfer_export import Instruction, export, instruction_of

COMMAND = TransferCollateral("run-T1", "XRP", 1_234.5, "okx", "deribit", "XRP", "deribit at 82 % of its margin")


def test_an_instruction_is_appended_once_in_both_forms(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    first = instruction_of(COMMAND, "XRP", "deribit-xrp", "rAddress", "4711", 0)
    second = instruction_of(msgspec.structs.replace(COMMAND, transfer_id="run-T2"), "", "", "", "", 0)
    for one in (first, second, first):
        path = export(one, folder)
    lines = [msgspec.json.decode(line, type=Instruction) for line in path.read_bytes().splitlines()]
    assert lines == [first, second]
    text = (folder / "transfers.txt").read_text()
    assert text.count("run-T1") == 1
    for said in ("1234.5 XRP", "from okx to deribit", "rAddress (deribit-xrp)", "tag      4711", "82 %", "1970-01-01"):
        assert said in first.text
        assert said in text
    assert "address" not in second.text
