"""Margin and distance to liquidation per account, and the book over moves of spot and vol."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from bot.domain.windows import AccountState, VaultState
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.parts.cells import BAD, GOOD, MUTED, WARN, Cell, Column, Row, sheet

STATE_TONES: Final = {
    "normal": GOOD, "watch": WARN, "act": WARN, "critical": BAD, "emergency": BAD, "unknown": MUTED,
}  # fmt: skip
RANKS: Final = tuple(STATE_TONES)
NOT_RECKONED: Final = "not known: margin of this account could not be reckoned"


class Distance(msgspec.Struct, frozen=True):
    """How far prices may fall and rise until an account is liquidated, as shares; None: not anywhere near."""

    down_fraction: float | None
    up_fraction: float | None


class HeatMap(msgspec.Struct, frozen=True):
    """A book over moves (columns) and vol changes (rows): P&L in quote money, use of the account nearest liquidation.

    `error` says why there is none, or why it is old; `taken_ns` is the wall clock's.
    """

    vault: str
    taken_ns: int
    moves: tuple[float, ...] = ()
    vols: tuple[float, ...] = ()
    pnl_quote: tuple[tuple[float, ...], ...] = ()
    use_ratio: tuple[tuple[float | None, ...], ...] = ()
    distances: dict[str, Distance] = {}
    error: str = ""


def gravest(state: VaultState) -> AccountState | None:
    """Return the account that wants a look first: by its state, then by its use; None where no margin is reckoned."""

    def rank(one: AccountState) -> tuple[int, float]:
        known = one.state if one.state in RANKS and one.state != "unknown" else "normal"
        return RANKS.index(known), -1.0 if one.utilisation_ratio is None else one.utilisation_ratio

    return max(state.accounts, key=rank, default=None)


def use_told(one: AccountState) -> tuple[str, str]:
    """Return an account's use in words and its tone: the state is said where it is anything but normal."""
    use, tone = figures.percent(one.utilisation_ratio), STATE_TONES.get(one.state, BAD)
    if tone in {GOOD, MUTED}:
        return use, ""
    return f"{'✕' if tone == BAD else '▲'} {use} {one.state}", tone


def accounts(state: VaultState, heat: HeatMap | None = None) -> dict[str, Any]:
    """Return a row per margin account: use as a bar with its limits marked, and how far liquidation is."""
    distances = heat.distances if heat is not None else {}
    rows = {one.account: _account(place, one, distances.get(one.account)) for place, one in enumerate(state.accounts)}
    columns = (
        Column("account"),
        Column("margin use", hint="maintenance margin over equity; at 100 % it is liquidated"),
        Column("equity", is_number=True),
        Column("maintenance", is_number=True, is_wide=True),
        Column("liquidated at", is_number=True, hint="moves of the price, all else left as it is"),
        Column("chance", is_number=True, hint="to touch liquidation before a top-up could arrive"),
    )
    return sheet(
        "Margin",
        columns,
        rows,
        empty="no margin is reckoned: the vault has no `risk` section",
    )


def _account(at: int, one: AccountState, distance: Distance | None) -> Row:
    use = one.utilisation_ratio
    tone = MUTED if use is None else STATE_TONES.get(one.state, BAD)
    shown = Cell(
        f"{figures.percent(use)} {one.state}",
        sort=use if use is not None else -1.0,
        tone=tone,
        bar=(0.0, round(min(1.0, use), 4)) if use is not None else None,
        hint=NOT_RECKONED if use is None else "",
    )
    chance = one.touch_probability
    return Row(
        at,
        (
            Cell(one.account, hint=f"model {one.model}"),
            shown,
            Cell(figures.money(one.equity_quote), hint=NOT_RECKONED if one.equity_quote is None else ""),
            Cell(figures.money(one.maintenance_quote), hint=NOT_RECKONED if one.maintenance_quote is None else ""),
            far(one.spot_distance_fraction, distance),
            Cell(figures.percent(chance, 2), hint="not known: no forecast of vol yet" if chance is None else ""),
        ),
        more=tuple(part for part in one.told.split("; ") if part),
    )


def far(spot_distance_fraction: float | None, distance: Distance | None) -> Cell:
    """Return how far liquidation is either way, from the last look at the whole book or else from the state."""
    if distance is None and spot_distance_fraction is not None:
        return Cell(figures.move(spot_distance_fraction), sort=abs(spot_distance_fraction))
    if distance is None:
        return Cell(figures.DASH, hint="not known: the book was not looked at yet")
    ends = [one for one in (distance.down_fraction, distance.up_fraction) if one is not None]
    if not ends:
        return Cell("nowhere near", sort=10.0, hint="at no move that was looked at")
    text = " / ".join(figures.move(one) for one in ends)
    return Cell(text, sort=min(abs(one) for one in ends))


def heatmap(found: HeatMap | None, now_ns: int) -> dict[str, Any]:
    """Return P&L over spot moves and vol changes, coloured by sign and size, liquidation marked by a sign."""
    caption = "Spot × vol"
    if found is None or not found.moves:
        why = found.error if found is not None and found.error else "the book is being looked at"
        return sheet(caption, (), {}, empty=why)
    most = max(max(abs(one) for one in line) for line in found.pnl_quote) or 1.0
    columns = (Column("vol"), *(Column(figures.move(move, 0), is_number=True) for move in found.moves))
    rows = {}
    for place, vol in enumerate(found.vols):
        cells = [Cell(figures.move(vol, 0))]
        for pnl, use in zip(found.pnl_quote[place], found.use_ratio[place], strict=True):
            is_gone = use is None or use >= 1.0
            told = "liquidated" if is_gone else f"margin use {figures.percent(use)}"
            text = f"{figures.compact(pnl)}{' ✕' if is_gone else ''}"
            cells.append(Cell(text, sort=pnl, heat=round(pnl / most, 3), hint=f"{figures.money(pnl)}; {told}"))
        rows[f"vol {vol}"] = Row(place, tuple(cells))
    old = f" Old: {found.error}." if found.error else ""
    seen = figures.age((now_ns - found.taken_ns) / 1e9)
    note = "P&L in quote money if spot moves (across) and vol changes (down) at once; ✕ an account is liquidated."
    note += f" Seen {seen} ago.{old}"
    return sheet(caption, columns, rows, note=note)
