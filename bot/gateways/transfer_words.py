"""What venues say of withdrawals, deposits and internal transfers, and how an id of ours is given to them.

The words are ccxt's; venues differ in what they call a client's own id, and in whether they ever tell it again. Where
they do not, a withdrawal is known by address, amount and time only, and one that is not found proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from bot.domain.units import NS_PER_MS
from bot.gateways.market_words import number

Raw = Mapping[str, Any]
_NAMESPACE: Final = UUID("a2b0a2c8-6d0a-5b5e-9d0e-3f4e6c1c5c11")
_EARLY_NS: Final = 5_000 * NS_PER_MS  # a venue's stamp may be before ours by as much as clocks differ
_AMOUNT_TOLERANCE: Final = 1e-9


class TransferWords(msgspec.Struct, frozen=True):
    """One exchange's words: the parameter that takes our id of a withdrawal, and the field that tells it again."""

    id_parameter: str = ""
    id_field: str = ""
    transfer_id_parameter: str = ""
    is_uuid: bool = False
    lists_by_accounts: bool = False  # internal transfers have to be asked for by the accounts they went between

    @property
    def tells_id(self) -> bool:
        """Tell whether a withdrawal can be found by our id, so that not finding it means something."""
        return bool(self.id_field)

    def encode(self, transfer_id: str) -> str:
        """Return our id as venues take it: letters and digits only, at most 32."""
        return "".join(letter for letter in transfer_id if letter.isalnum())[:32]

    def withdraw_parameters(self, transfer_id: str) -> dict[str, str]:
        """Return what carries our id in a withdrawal."""
        return {self.id_parameter: self.encode(transfer_id)} if self.id_parameter else {}

    def transfer_parameters(self, transfer_id: str) -> dict[str, str]:
        """Return what carries our id in a transfer between accounts of one venue."""
        if not self.transfer_id_parameter:
            return {}
        own = str(uuid5(_NAMESPACE, transfer_id)) if self.is_uuid else self.encode(transfer_id)
        return {self.transfer_id_parameter: own}

    def listing_parameters(self, from_account: str, to_account: str) -> dict[str, str]:
        """Return what a list of internal transfers has to be asked with."""
        return {"fromAccount": from_account, "toAccount": to_account} if self.lists_by_accounts else {}

    def find_withdrawal(
        self,
        rows: Sequence[Raw],
        transfer_id: str,
        address: str,
        amount: float,
        since_ns: int,
        taken: frozenset[str] = frozenset(),
    ) -> Raw | None:
        """Return the row of our withdrawal, None if there is none among them; rows `taken` by others are not ours."""
        if self.tells_id:
            own = self.encode(transfer_id)
            return next((row for row in rows if str(_info(row).get(self.id_field) or "") == own), None)
        free = (row for row in rows if id_of(row) not in taken)
        there = (row for row in free if str(row.get("address")).lower() == address.lower() and _is_after(row, since_ns))
        return next((row for row in there if is_what_left(row, amount)), None)


_BINANCE: Final = TransferWords("withdrawOrderId", "withdrawOrderId", lists_by_accounts=True)
WORDS: Final[dict[str, TransferWords]] = {
    "binance": _BINANCE,
    "binanceusdm": _BINANCE,
    "binancecoinm": _BINANCE,
    "okx": TransferWords("clientId", "clientId", "clientId"),
    "bybit": TransferWords("requestId", "", "transferId", is_uuid=True),
}


def transfer_words_of(exchange_id: str) -> TransferWords:
    """Return the words of an exchange; one not known here takes no id of ours and tells none."""
    return WORDS.get(exchange_id, TransferWords())


def status_of(row: Raw) -> str:
    """Return "pending", "ok", "failed" or "canceled", as ccxt reads it; what it cannot read is pending."""
    said = str(row.get("status") or "")
    return said if said in {"ok", "failed", "canceled"} else "pending"


def fee_of(row: Raw) -> float:
    """Return the fee of a row in its asset, 0 where none is told."""
    fee = row.get("fee")
    return number(fee.get("cost")) or 0.0 if isinstance(fee, Mapping) else 0.0


def find_deposit(
    rows: Sequence[Raw], txid: str, amounts: Sequence[float], since_ns: int, taken: frozenset[str]
) -> Raw | None:
    """Return the deposit of a withdrawal: by its transaction where both sides name one, else by amount and time."""
    for row in rows:
        said = str(row.get("txid") or "")
        if str(row.get("id") or said) in taken:
            continue
        if txid and said:
            if txid.lower() == said.lower():
                return row
            continue
        if _is_after(row, since_ns) and any(is_same_amount(row.get("amount"), amount) for amount in amounts):
            return row
    return None


def find_transfer(
    rows: Sequence[Raw], amount: float, since_ns: int, accounts: tuple[str, str], taken: frozenset[str] = frozenset()
) -> Raw | None:
    """Return an internal transfer of this amount since then, not one `taken` or one the other way (`accounts`)."""
    ours = (row for row in rows if id_of(row) not in taken and not _is_other_way(row, accounts))
    return next((row for row in ours if _is_after(row, since_ns) and is_same_amount(row.get("amount"), amount)), None)


def moved_status_of(row: Raw) -> str:
    """Return "pending", "ok" or "failed" of an internal transfer, in the venue's own words where ccxt passes over them.

    Most venues tell no status of what is done at once: what they took and named is done.
    """
    info = _info(row)
    said = str(info.get("status") or info.get("state") or row.get("status") or "ok").lower()
    if said in {"ok", "success", "confirmed", "0"}:
        return "ok"
    return "failed" if said in {"failed", "canceled", "cancelled"} else "pending"


def id_of(row: Raw) -> str:
    """Return the venue's own id of a row, "" where it has none."""
    return str(row.get("id") or "")


def is_what_left(row: Raw, amount: float) -> bool:
    """Tell whether a withdrawal's row speaks of this amount: some venues list what leaves, some what is to arrive."""
    said = row.get("amount")
    return is_same_amount(said, amount) or is_same_amount(said, amount - fee_of(row))


def is_same_amount(said: object, amount: float) -> bool:
    """Tell whether a venue's figure is an amount, to the last digit that means anything."""
    found = number(said)
    return found is not None and isclose(found, amount, rel_tol=_AMOUNT_TOLERANCE, abs_tol=1e-12)


def time_of(row: Raw, default_ns: int) -> int:
    """Return when a row was last changed, as far as the venue tells."""
    stamp = number(row.get("updated")) or number(row.get("timestamp"))
    return int(stamp) * NS_PER_MS if stamp else default_ns


def _is_after(row: Raw, since_ns: int) -> bool:
    stamp = number(row.get("timestamp"))
    return stamp is None or int(stamp) * NS_PER_MS >= since_ns - _EARLY_NS


def _is_other_way(row: Raw, accounts: tuple[str, str]) -> bool:
    """Tell whether a row says that it went back; names that are not ours say nothing, as venues have several."""
    from_account, to_account = accounts
    return from_account != to_account and (row.get("fromAccount"), row.get("toAccount")) == (to_account, from_account)


def _info(row: Raw) -> Raw:
    info = row.get("info")
    return info if isinstance(info, Mapping) else {}
