"""The fleet: a row per vault, the most urgent first. What is old looks old."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from bot.domain.windows import Severity, UnderlyingState, VaultState
from bot.telemetry.dashboard import theme
from bot.telemetry.dashboard.live import Live, slot
from bot.telemetry.dashboard.markup import Markup, el
from bot.telemetry.dashboard.mirror import Mirror, VaultPicture
from bot.telemetry.dashboard.parts.cells import BAD
from bot.telemetry.dashboard.shell import Shell
from bot.telemetry.dashboard.shown import margin, pnl

REORDER_TICKS: Final = 8  # rows do not jump about more often than every two seconds
COLUMNS: Final = ("Vault", "State", "Net delta in its band", "P&L today", "Margin use", "Alerts", "Heard of")
MOST_REASON: Final = 120
NOW, SOON, FINE = 0, 1, 2
MOST_OF_THE_DESK: Final = 3  # alerts of the desk itself that are told one by one
NOBODY: Final = (
    "No vault has been heard of yet. One that runs with this desk's file (evenkeel run VAULT.yaml --desk DESK.yaml) "
    "comes up here by itself; those whose files the dashboard was started with are here from the start."
)


def page(shell: Shell) -> None:
    """Lay out the fleet."""
    names = [picture.vault for picture in shell.mirror.vaults()]
    rows = [_row(shell, name) for name in names]
    shell.put(
        el(
            "main",
            el("h1", "Fleet"),
            slot("fleet.summary", "p", cls="summary", role="status"),
            slot("fleet.desk", "p", cls="summary", role="status"),
            el(
                "table",
                el("thead", el("tr", *(el("th", column, scope="col") for column in COLUMNS))),
                slot("fleet.rows", "tbody", *rows),
                cls="fleet cards",
            )
            if names
            else el("p", NOBODY, cls="muted"),
            id="content",
            tabindex="-1",
        )
    )
    ticks = 0

    def show() -> None:
        nonlocal ticks
        pictures = shell.mirror.vaults()
        if [picture.vault for picture in pictures] != names:
            shell.live.call("reload")
            return
        for picture in pictures:
            show_row(shell.live, shell.mirror, picture)
        shell.live.set("fleet.summary", summary(shell.mirror, pictures))
        shell.live.set("fleet.desk", of_the_desk(shell.mirror))
        if ticks % REORDER_TICKS == 0:
            ordered = sorted(pictures, key=lambda picture: (urgency(shell.mirror, picture), picture.vault))
            shell.live.order("fleet.rows", [picture.vault for picture in ordered])
        ticks += 1

    shell.every_tick(show)


def urgency(mirror: Mirror, picture: VaultPicture) -> int:
    """Return how urgent a vault is: NOW, SOON or FINE."""
    state = picture.state
    severities = {alert.severity for alert in picture.open_alerts if not alert.acknowledged_by}
    if state is None or mirror.is_stale(picture) or state.state == "halted" or Severity.CRITICAL in severities:
        return NOW
    worst, nearest = worst_underlying(state), margin.gravest(state)
    tone = margin.use_told(nearest)[1] if nearest is not None else ""
    if tone == BAD:
        return NOW
    if tone or state.state != "running" or Severity.WARNING in severities or any(feed.is_stale for feed in state.feeds):
        return SOON
    if (worst is not None and excess_base(worst) > 0) or pnl.loss_told(state) != ("", ""):
        return SOON
    return FINE


def summary(mirror: Mirror, pictures: list[VaultPicture]) -> str:
    """Return the fleet in a sentence."""
    stale = sum(mirror.is_stale(picture) for picture in pictures)
    urgent = sum(urgency(mirror, picture) == NOW for picture in pictures)
    soon = sum(urgency(mirror, picture) == SOON for picture in pictures)
    if not pictures:
        return ""
    words = [f"{len(pictures)} vault{'' if len(pictures) == 1 else 's'}"]
    words += [f"{urgent} urgent"] if urgent else []
    words += [f"{soon} to look at"] if soon else []
    words += [f"{stale} not heard of lately"] if stale else []
    return ", ".join(words if len(words) > 1 else [*words, "all well"])


def of_the_desk(mirror: Mirror) -> str:
    """Return what is wrong with the desk itself in a line, "" if nothing is."""
    if mirror.desk_availability.startswith("offline"):
        return f"✕ The desk's windows are not there ({mirror.desk_availability}): nobody is told of anything"
    rank = tuple(reversed(Severity))
    alerts = sorted((one for one in mirror.desk_alerts if not one.ended_ns), key=lambda one: rank.index(one.severity))
    told = [f"{theme.SEVERITY_LOOKS[one.severity][0]} {one.title}: {one.detail}" for one in alerts[:MOST_OF_THE_DESK]]
    more = len(alerts) - len(told)
    return f"The desk: {'; '.join(told)}{f'; {more} more' if more else ''}" if told else ""


def excess_base(one: UnderlyingState) -> float:
    """Return how far net delta may lie outside its band, 0 inside or without one."""
    if None in (one.delta_low_base, one.delta_high_base, one.low_base, one.high_base):
        return 0.0
    assert one.delta_low_base is not None and one.delta_high_base is not None  # noqa: PT018 — for the type checker
    assert one.low_base is not None and one.high_base is not None  # noqa: PT018
    return max(one.low_base - one.delta_low_base, one.delta_high_base - one.high_base, 0.0)


def worst_underlying(state: VaultState) -> UnderlyingState | None:
    """Return the underlying to show: furthest outside its band, in quote money, else the largest net delta."""

    def weight(one: UnderlyingState) -> tuple[float, float]:
        spot = one.spot_px or 1.0
        size = max(abs(one.delta_low_base or 0.0), abs(one.delta_high_base or 0.0))
        return excess_base(one) * spot, size * spot

    return max(state.underlyings, key=weight, default=None)


def show_row(live: Live, mirror: Mirror, picture: VaultPicture) -> None:
    """Show one vault."""
    name, state = picture.vault, picture.state
    is_stale = mirror.is_stale(picture)
    level = urgency(mirror, picture)
    live.set(f"{name}.row", cls=" ".join(filter(None, ("stale-row" if is_stale else "", ("now", "soon", "")[level]))))
    theme.show_age(live, f"{name}.age", mirror.age_s(picture), is_stale=is_stale)
    theme.show_state(
        live,
        f"{name}.state",
        state.state if state else "",
        is_stale=is_stale,
        reason=picture.availability if not mirror.is_online(picture) else state.state_reason if state else "",
    )
    _show_alerts(live, picture)
    if state is None:
        theme.show_bullet(live, f"{name}.bullet", None)
        for part in ("delta", "pnl", "margin"):
            live.set(f"{name}.{part}", theme.DASH, title="not known: no word of this vault has come yet")
        return
    live.set(f"{name}.why", beside_state(state))
    worst = worst_underlying(state)
    if worst is not None:
        bullet = theme.place_bullet(
            worst.delta_low_base, worst.delta_high_base, worst.low_base, worst.high_base, worst.target_delta_base
        )
        theme.show_bullet(live, f"{name}.bullet", bullet)
        live.set(f"{name}.delta", delta_text(worst, len(state.underlyings) - 1), title=None)
    today = state.pnl_today_quote
    told, tone = pnl.loss_told(state)
    sign = {"warn": "▲ ", "bad": "✕ "}.get(tone, "")
    live.set(
        f"{name}.pnl",
        f"{sign}{theme.money(today, is_signed=True)}",
        cls=f"num {tone}".strip(),
        title=None if today is not None else "no mark today yet",
    )
    live.set(f"{name}.loss", told)
    nearest = margin.gravest(state)
    use, tone = margin.use_told(nearest) if nearest is not None else (theme.DASH, "")
    why = "no margin is reckoned" if nearest is None else f"account {nearest.account}"
    live.set(f"{name}.margin", use, cls=f"num {tone}".strip(), title=why)


def beside_state(state: VaultState) -> str:
    """Return what a state alone does not say: why it is not running, and which feeds are stale."""
    reason = state.state_reason if state.state != "running" else ""
    words = [reason if len(reason) <= MOST_REASON else f"{reason[:MOST_REASON]}…"] if reason else []
    stale = [feed.name for feed in state.feeds if feed.is_stale]
    if stale:
        words.append(f"▲ stale: {stale[0]}{f' and {len(stale) - 1} more' if len(stale) > 1 else ''}")
    return "; ".join(words)


def delta_text(one: UnderlyingState, others: int) -> str:
    """Return net delta in words and numbers: as an interval while outcomes are unknown, and which side of the band."""
    low, high = one.delta_low_base, one.delta_high_base
    if low is None or high is None:
        words = f"{theme.DASH} {one.underlying}"
    elif high - low > 1e-9:
        words = f"{theme.base(low)} … {theme.base(high)} {one.underlying}"
    else:
        words = theme.base(high, one.underlying)
    if excess_base(one) > 0:
        words += " ▲ partly outside" if _is_partly_inside(one) else " ▲ outside"
    return f"{words} (+{others} more)" if others > 0 else words


def _is_partly_inside(one: UnderlyingState) -> bool:
    """Tell whether some of what net delta may be lies inside its band; the rest is a matter of outcomes not known."""
    low, high = one.delta_low_base, one.delta_high_base
    if low is None or high is None or one.low_base is None or one.high_base is None:
        return False
    return high >= one.low_base and low <= one.high_base


def _show_alerts(live: Live, picture: VaultPicture) -> None:
    alerts = picture.open_alerts
    if not alerts:
        live.set(f"{picture.vault}.alerts", "none", cls="alerts", title=None)
        return
    rank = list(Severity)
    gravest = max((alert.severity for alert in alerts), key=rank.index)
    mark, look = theme.SEVERITY_LOOKS[gravest]
    titles = "; ".join(alert.title for alert in alerts[:5])
    count = sum(alert.severity == gravest for alert in alerts)
    others = f", {len(alerts) - count} more" if count < len(alerts) else ""
    live.set(f"{picture.vault}.alerts", f"{mark} {count} {gravest}{others}", cls=f"alerts badge {look}", title=titles)


def _row(shell: Shell, name: str) -> Markup:
    cells = (
        el("th", el("a", name, href=f"/vault/{quote(name, safe='')}"), scope="row"),
        _cell(1, theme.state_badge(f"{name}.state"), shell.buttons(name, "halt"), slot(f"{name}.why", cls="beside")),
        _cell(2, theme.bullet_svg(f"{name}.bullet"), slot(f"{name}.delta", cls="num")),
        _cell(3, slot(f"{name}.pnl", cls="num"), slot(f"{name}.loss", cls="beside")),
        _cell(4, slot(f"{name}.margin", cls="num")),
        _cell(5, slot(f"{name}.alerts")),
        _cell(6, slot(f"{name}.age", cls="age")),
    )
    return slot(f"{name}.row", "tr", *cells, data_row=name)


def _cell(column: int, *content: Markup) -> Markup:
    return el("td", *content, data_label=COLUMNS[column])
