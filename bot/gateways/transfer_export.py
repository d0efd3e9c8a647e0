"""A transfer as an instruction for a person: one line of JSON for machines, a few of text for people.

This is all that happens to a transfer unless the vault says that transfers are executed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from bot.domain.risk import TransferCollateral
from bot.domain.units import utc_second_text


class Instruction(msgspec.Struct, frozen=True):
    """What a person needs to carry out a transfer by hand."""

    transfer_id: str
    asset: str
    amount: float
    from_venue: str
    to_venue: str
    route: str
    network: str
    address_label: str
    address: str
    tag: str
    reason: str
    planned: str

    @property
    def text(self) -> str:
        """The instruction in words, with the address in full: it is compared by eye."""
        tag = f"\n  tag      {self.tag}" if self.tag else ""
        where = (
            f"\n  network  {self.network}\n  address  {self.address} ({self.address_label}){tag}"
            if self.address
            else ""
        )
        return (
            f"{self.planned}  {self.transfer_id}: move {self.amount:.10g} {self.asset} from {self.from_venue} to "
            f"{self.to_venue} over {self.route}{where}\n  because  {self.reason}\n"
        )


def instruction_of(
    command: TransferCollateral, network: str, address_label: str, address: str, tag: str, now_ns: int
) -> Instruction:
    """Return the instruction for a command, once its route and address were found on the whitelist."""
    return Instruction(
        transfer_id=command.transfer_id,
        asset=command.asset,
        amount=command.amount,
        from_venue=command.from_venue,
        to_venue=command.to_venue,
        route=command.route,
        network=network,
        address_label=address_label,
        address=address,
        tag=tag,
        reason=command.reason,
        planned=utc_second_text(now_ns),
    )


def export(instruction: Instruction, folder: Path) -> Path:
    """Append an instruction to `transfers.jsonl` and `transfers.txt` in the folder, and return the first.

    An id that is there already is not written again, so a restart repeats nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "transfers.jsonl"
    if lines.exists():
        written = (msgspec.json.decode(line, type=Instruction) for line in lines.read_bytes().splitlines() if line)
        if any(one.transfer_id == instruction.transfer_id for one in written):
            return lines
    with lines.open("ab") as file:
        file.write(msgspec.json.encode(instruction) + b"\n")
    with (folder / "transfers.txt").open("a", encoding="utf-8") as file:
        file.write(instruction.text)
    return lines
