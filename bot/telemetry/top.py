"""`evenkeel top` as text: a vault's state, its net delta in its band, its money, and why it does not hedge.

Everything a colour says is also said in words, and what is old says so first: old figures are never shown as live.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bot.domain.decisions import BotState
from bot.domain.risk import MarginState
from bot.domain.units import NS_PER_S, utc_second_text
from bot.domain.windows import UnderlyingState, VaultState
from bot.telemetry.metrics.board import Board, Record

STALE_AFTER_S = 3.0
TABLE_FROM, WIDE_FROM = 116, 150  # columns; below the first a vault is a paragraph
BULLET = 21  # characters of a band with what is around it
RIGHT = ("P&L today", "P&L", "last hedge")
PAD = 0.25  # of the band's width, shown on either side
FANCY = {"outside": "·", "inside": "─", "target": "┼", "net": "●", "doubt": "━"}
PLAIN = {"outside": ".", "inside": "-", "target": "+", "net": "o", "doubt": "="}
RANKS = tuple(str(one) for one in MarginState)
STYLES = {
    BotState.RUNNING: "green",
    BotState.RECONCILING: "cyan",
    BotState.REDUCE_ONLY: "yellow",
    BotState.PAUSED: "yellow",
    BotState.HALTED: "bold red",
}


def draw_fleet(board: Board, width: int, *, is_fancy: bool = True) -> RenderableType:
    """Return all vaults of a board for a terminal `width` columns wide; `is_fancy` if it has more than ASCII."""
    records = list(board.records.values())
    words = _words_of(board, records)
    if width >= TABLE_FROM:
        return Group(words, _table(board, records, is_wide=width >= WIDE_FROM, is_fancy=is_fancy))
    return Group(words, *(_paragraph(board, record, is_fancy=is_fancy) for record in records))


def draw_bullet(one: UnderlyingState, width: int = BULLET, *, is_fancy: bool = True) -> str:
    """Return net delta within its band as `width` characters, "" where either is unknown; doubt is a stretch."""
    low, high, net_low, net_high = one.low_base, one.high_base, one.delta_low_base, one.delta_high_base
    if low is None or high is None or net_low is None or net_high is None:
        return ""
    signs = FANCY if is_fancy else PLAIN
    pad = PAD * max(high - low, 1e-12)
    scale = (min(low - pad, net_low), max(high + pad, net_high), width)
    from_cell, to_cell = _cell(low, *scale), _cell(high, *scale)
    net_from, net_to = _cell(net_low, *scale), _cell(net_high, *scale)
    cells = [signs["outside"]] * width
    cells[from_cell : to_cell + 1] = [signs["inside"]] * (to_cell + 1 - from_cell)
    target = one.target_delta_base
    if target is not None and low <= target <= high:
        cells[_cell(target, *scale)] = signs["target"]
    cells[net_from : net_to + 1] = [signs["doubt"]] * (net_to + 1 - net_from)
    cells[from_cell], cells[to_cell] = "[", "]"
    cells[net_from] = cells[net_to] = signs["net"]
    return "".join(cells)


def _cell(base: float, start_base: float, end_base: float, width: int) -> int:
    return min(width - 1, max(0, round((base - start_base) / (end_base - start_base) * (width - 1))))


def _words_of(board: Board, records: Sequence[Record]) -> Text:
    """Say in a line how all of them do."""
    live = [record for record in records if _is_live(board, record)]
    running = [record for record in live if record.state is not None and record.state.state == BotState.RUNNING]
    vaults = "1 vault" if len(records) == 1 else f"{len(records)} vaults"
    said = f"{vaults}, {len(running)} running"
    if len(live) < len(records):
        said += f", {len(records) - len(live)} without a fresh state"
    return Text(said, style="bold")


def _table(board: Board, records: Sequence[Record], *, is_wide: bool, is_fancy: bool) -> Table:
    """Return a row per vault and underlying; a terminal that is not wide gets the columns that matter most."""
    table = Table(expand=True, box=None, pad_edge=False, header_style="bold")
    columns = ["vault", "state", "net delta in its band", "P&L today"]
    columns += ["P&L", "margin", "feeds", "last hedge"] if is_wide else ["margin"]
    overflow: Literal["ellipsis", "crop"] = "ellipsis" if is_fancy else "crop"
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in RIGHT else "left"
        table.add_column(name, justify=justify, no_wrap=True, overflow=overflow)
    table.add_column("why", ratio=1, no_wrap=True, overflow=overflow)
    for record in records:
        style = "" if _is_live(board, record) else "dim"
        state = record.state
        underlyings: Sequence[UnderlyingState | None] = state.underlyings if state is not None else ()
        for number, one in enumerate(underlyings or (None,)):
            cells: dict[str, Text | str] = {"why": _why(board, record, one, is_wide=is_wide)}
            if state is not None and one is not None:
                cells["net delta in its band"] = _exposure(one, is_fancy=is_fancy)
                cells["last hedge"] = _last_hedge(state, one)
            if number == 0:
                cells |= {"vault": record.vault, "state": _standing(board, record)}
                if state is not None:
                    cells |= {"P&L today": _money(state.pnl_today_quote), "P&L": _money(state.pnl_now_quote)}
                    cells |= {"margin": _margin(state), "feeds": _feeds(state)}
            table.add_row(*(cells.get(name, "") for name in (*columns, "why")), style=style)
    return table


def _paragraph(board: Board, record: Record, *, is_fancy: bool) -> Text:
    """Return a vault for a narrow terminal: short lines, the most needed first."""
    lines = [Text.assemble(record.vault, "  ", _standing(board, record))]
    state = record.state
    if state is None:
        lines.append(Text(f"  {record.why_gone}"))
    else:
        for one in state.underlyings:
            lines.append(Text("  ").append_text(_exposure(one, is_fancy=is_fancy)))
            if why := _why(board, record, one, is_wide=True):
                lines.append(Text(f"  {why}"))
        lines.append(Text(f"  P&L today {_money(state.pnl_today_quote)}, run {_money(state.pnl_now_quote)}"))
        hedged = ", ".join(dict.fromkeys(_last_hedge(state, one) for one in state.underlyings))
        lines.append(Text(f"  margin {_margin(state)}; feeds {_feeds(state)}; last hedge {hedged}"))
    whole = Text("\n").join([Text(), *lines])
    if not _is_live(board, record):
        whole.stylize("dim")
    return whole


def _is_live(board: Board, record: Record) -> bool:
    return record.is_answering and board.silence_s(record) <= STALE_AFTER_S


def _standing(board: Board, record: Record) -> Text:
    """Return the state in capitals, or for how long there has been none."""
    state = record.state
    if state is None:
        return Text("NO ANSWER", style="bold")
    if not _is_live(board, record):
        return Text(f"STALE {_span(board.silence_s(record))}", style="bold")
    style = next((style for name, style in STYLES.items() if name == state.state), "")
    return Text(state.state.upper().replace("_", " "), style=style)


def _exposure(one: UnderlyingState, *, is_fancy: bool) -> Text:
    net_low, net_high = one.delta_low_base, one.delta_high_base
    if net_low is None or net_high is None:
        return Text(f"{one.underlying} unknown")
    dots = "…" if is_fancy else ".."
    net = f"{net_low:+,.3f}" if net_low == net_high else f"{net_low:+,.3f}{dots}{net_high:+,.3f}"
    if one.low_base is None or one.high_base is None:
        return Text(f"{one.underlying} {net}, no band")
    if net_high < one.low_base or net_low > one.high_base:
        word = ("OUT", "bold yellow")
    elif net_low < one.low_base or net_high > one.high_base:
        word = ("PARTLY", "yellow")
    else:
        word = ("in", "green")
    return Text.assemble(f"{one.underlying} {draw_bullet(one, is_fancy=is_fancy)} {net} ", word)


def _money(amount_quote: float | None) -> str:
    return "unknown" if amount_quote is None else format(round(amount_quote, 2) + 0.0, "+,.2f")


def _margin(state: VaultState) -> str:
    """Return the account nearest to liquidation: by its state, then by its use."""
    if not state.accounts:
        return "none"
    most = max(state.accounts, key=lambda one: (_rank(one.state), -1.0 if (u := one.utilisation_ratio) is None else u))
    if most.utilisation_ratio is None:
        return f"unknown {most.state}" if _rank(most.state) else "unknown"
    return f"{most.utilisation_ratio:.0%} {most.state}"


def _rank(state: str) -> int:
    return RANKS.index(state) if state in RANKS else 0


def _feeds(state: VaultState) -> str:
    stale = [feed for feed in state.feeds if feed.is_stale]
    if not stale:
        return "fresh" if state.feeds else "none"
    return f"{len(stale)} of {len(state.feeds)} STALE"


def _last_hedge(state: VaultState, one: UnderlyingState) -> str:
    if not one.last_hedge_ns:
        return "never"
    return f"{_span((state.now_ns - one.last_hedge_ns) / NS_PER_S)} ago"


def _why(board: Board, record: Record, one: UnderlyingState | None, *, is_wide: bool) -> str:
    """Say what keeps the vault from hedging, what ails the daemon and what a person should do first."""
    state = record.state
    if state is None:
        return record.why_gone
    parts = []
    if not _is_live(board, record):
        parts.append(f"{record.why_gone or 'no newer state'}, was {state.state.replace('_', ' ')}")
    if state.to_acknowledge:
        parts.append(f"to acknowledge: {state.to_acknowledge}")
    if state.state != BotState.RUNNING and state.state_reason:
        parts.append(state.state_reason)
    if not is_wide and any(feed.is_stale for feed in state.feeds):
        parts.append(f"feeds: {_feeds(state)}")
    if one is not None:
        parts.append(f"{one.refusal}: {one.refusal_detail}" if one.refusal else one.plan)
        parts += [f"{subject}: {text}" for subject, text in state.overrides.items() if _is_about(subject, one)]
    return printable("; ".join(filter(None, parts)))


def _is_about(subject: str, one: UnderlyingState) -> bool:
    """Tell whether an order of a person, such as `ETH target` or `flatten`, is about this underlying."""
    return " " not in subject or subject.partition(" ")[0] == one.underlying


def printable(text: str) -> str:
    """Return text that moves no cursor and rings no bell, whoever it came from."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _span(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def draw_clocks(board: Board) -> str:
    """Return what time it is for the vaults, "" where none was heard of: of a recording its own."""
    states = [record.state for record in board.records.values() if record.state is not None]
    clocks = sorted({utc_second_text(state.now_ns) for state in states})
    return " to ".join(dict.fromkeys((clocks[0], clocks[-1]))) + " UTC" if clocks else ""
