"""The insurance buffer of a vault: money kept aside out of gains, for the days when an account runs short.

It is filled by rule, a share of every new high of the vault's wealth until it is full, and drawn only in the margin
states the rule names, each with the share of it that may go then. It is a number of the vault's books, not an account:
what it holds is simply not counted as free collateral. It is never negative, and never drawn in a state that is not
named; every change, and every refusal, is an entry.
"""

from __future__ import annotations

from enum import StrEnum
from math import isfinite
from typing import Final

import msgspec

from bot.domain.risk import MarginState

MOST_ENTRIES: Final = 200  # the newest; totals are kept of all


class Move(StrEnum):
    """What an entry of the buffer's book is."""

    FUNDED = "funded"
    DRAWN = "drawn"
    RETURNED = "returned"
    REFUSED = "refused"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One change of the buffer, or one that was refused: how much, what is left, and why."""

    move: Move
    amount_quote: float
    balance_quote: float
    reason: str
    ts_ns: int


class BufferRule(msgspec.Struct, frozen=True, kw_only=True):
    """Keep `share_of_gains` of every new high of wealth until `full_quote` is there; draw shares of it by state."""

    full_quote: float
    share_of_gains: float = 0.10
    draws: dict[MarginState, float] = msgspec.field(
        default_factory=lambda: {MarginState.CRITICAL: 0.5, MarginState.EMERGENCY: 1.0}
    )

    def __post_init__(self) -> None:
        """Refuse a buffer that is drawn in good times, or by more than there is."""
        if not (self.full_quote >= 0.0 and 0.0 <= self.share_of_gains <= 1.0):
            found = f"{self.full_quote:g} and {self.share_of_gains:g}"
            raise ValueError(f"expected a full buffer from 0 and a share of gains up to 1, found {found}")
        if MarginState.NORMAL in self.draws or not all(0.0 < share <= 1.0 for share in self.draws.values()):
            found = ", ".join(f"{state}: {share:g}" for state, share in self.draws.items())
            raise ValueError(f"expected shares up to 1 by state, never in normal, found {found}; hint: name bad states")


class InsuranceBuffer(msgspec.Struct, frozen=True):
    """What is kept aside, the highest wealth it was funded up to, totals since the start, and the newest entries."""

    balance_quote: float = 0.0
    high_quote: float | None = None
    funded_quote: float = 0.0
    drawn_quote: float = 0.0
    returned_quote: float = 0.0
    entries: tuple[Entry, ...] = ()


def fund_buffer(buffer: InsuranceBuffer, wealth_quote: float, now_ns: int, rule: BufferRule) -> InsuranceBuffer:
    """Return the buffer after looking at the vault's wealth, the buffer's money included.

    The first look sets the mark that gains are counted from. What was lost is earned back before anything counts again.
    """
    if not isfinite(wealth_quote):
        return _enter(buffer, Move.REFUSED, 0.0, f"wealth {wealth_quote:g} is not a number: nothing funded", now_ns)
    if buffer.high_quote is None:
        return msgspec.structs.replace(buffer, high_quote=wealth_quote)
    gain = wealth_quote - buffer.high_quote
    if gain <= 0.0:
        return buffer
    risen = msgspec.structs.replace(buffer, high_quote=wealth_quote)
    amount = min(rule.share_of_gains * gain, max(0.0, rule.full_quote - buffer.balance_quote))
    if amount <= 0.0:
        return risen
    told = f"{rule.share_of_gains:.0%} of a gain of {gain:,.2f}"
    return _enter(risen, Move.FUNDED, amount, told, now_ns)


def draw_buffer(
    buffer: InsuranceBuffer, needed_quote: float, state: MarginState, reason: str, now_ns: int, rule: BufferRule
) -> tuple[InsuranceBuffer, float]:
    """Return the buffer and what was drawn of it for an account in this state: 0 where the rule does not name it.

    `reason` is who needs it and what for; it is kept with the entry.
    """
    share = rule.draws.get(state, 0.0)
    if share <= 0.0:
        named = ", ".join(rule.draws) or "none"
        told = f"{reason}: refused in {state}, drawn only in {named}"
        return _enter(buffer, Move.REFUSED, 0.0, told, now_ns), 0.0
    amount = min(needed_quote, share * buffer.balance_quote)
    if not amount > 0.0:
        told = f"{reason}: {needed_quote:,.2f} needed, {buffer.balance_quote:,.2f} there"
        return _enter(buffer, Move.REFUSED, 0.0, told, now_ns), 0.0
    told = f"{reason}: {needed_quote:,.2f} needed in {state}, {share:.0%} may go"
    return _enter(buffer, Move.DRAWN, amount, told, now_ns), amount


def return_to_buffer(buffer: InsuranceBuffer, amount_quote: float, reason: str, now_ns: int) -> InsuranceBuffer:
    """Return the buffer with what was drawn put back, no more than is still out."""
    out_quote = buffer.drawn_quote - buffer.returned_quote
    amount = min(amount_quote, out_quote)
    if not amount > 0.0:
        return _enter(buffer, Move.REFUSED, 0.0, f"{reason}: {out_quote:,.2f} is out, {amount_quote:,.2f} told", now_ns)
    return _enter(buffer, Move.RETURNED, amount, reason, now_ns)


def _enter(buffer: InsuranceBuffer, move: Move, amount: float, reason: str, now_ns: int) -> InsuranceBuffer:
    balance = max(0.0, buffer.balance_quote + (-amount if move is Move.DRAWN else amount))
    entry = Entry(move, amount, balance, reason, now_ns)
    return msgspec.structs.replace(
        buffer,
        balance_quote=balance,
        funded_quote=buffer.funded_quote + (amount if move is Move.FUNDED else 0.0),
        drawn_quote=buffer.drawn_quote + (amount if move is Move.DRAWN else 0.0),
        returned_quote=buffer.returned_quote + (amount if move is Move.RETURNED else 0.0),
        entries=(*buffer.entries, entry)[-MOST_ENTRIES:],
    )
