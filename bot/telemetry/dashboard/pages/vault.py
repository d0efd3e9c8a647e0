"""The page of one vault: what it holds, what it does and why, how it is doing, and everything that happened to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from nicegui import ui

from bot.domain.units import NS_PER_MIN, NS_PER_MS
from bot.domain.windows import Told, UnderlyingState, VaultState
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.history import ExposurePoint, Ring
from bot.telemetry.dashboard.live import Live, slot
from bot.telemetry.dashboard.markup import el
from bot.telemetry.dashboard.mirror import VaultPicture
from bot.telemetry.dashboard.parts.cells import Cell, Column, Row, facts, sheet
from bot.telemetry.dashboard.parts.plot import HedgeTick, Plot, Point
from bot.telemetry.dashboard.parts.sheet import Sheet
from bot.telemetry.dashboard.shell import Shell
from bot.telemetry.dashboard.shown import exposure, freshness, lives, margin, pnl
from bot.telemetry.dashboard.theme import show_age, show_state, state_badge

SLOW_TICKS: Final = 4  # once a second: what is read, not watched
MOST_UNDERLYINGS: Final = 6  # shown with a chart of their own
TABLE_POINTS: Final = 12
STYLE: Final = '<link rel="stylesheet" href="/assets/parts.css">'

SILENT: Final = (
    "No word of this vault has come yet. It comes once its daemon runs with this desk's file "
    "(evenkeel run VAULT.yaml --desk DESK.yaml) and both reach the broker."
)

Make = Callable[[], dict[str, Any]]


def page(shell: Shell, name: str) -> None:
    """Lay out the page of vault `name`."""
    ui.add_head_html(STYLE)
    picture = shell.mirror.vault(name)
    if picture is None:
        shell.put(el("main", el("h1", name), el("p", "No such vault is known at this desk."), id="content"))
        return
    _VaultPage(shell, picture)


class _VaultPage:
    """One open page: its parts, and what each is to show."""

    def __init__(self, shell: Shell, picture: VaultPicture) -> None:
        self._shell = shell
        self._picture = picture
        self._ticks = 0
        self._charts: dict[str, _Chart] = {}
        self._quick: list[tuple[Sheet, Make]] = []
        self._slow: list[tuple[Sheet, Make]] = []
        self._laid_out: tuple[str, ...] = ()
        self._head()
        with ui.element("main").classes("ek-page").props("id=content tabindex=-1"):
            self._grid = ui.element("div").classes("ek-grid")
        self._lay_out()
        shell.every_tick(self._show)

    # What stays -------------------------------------------------------------------------------------------------------

    def _head(self) -> None:
        vault = self._picture.vault
        self._shell.put(
            el(
                "div",
                el("h1", vault),
                state_badge("state"),
                slot("age", cls="age", role="status"),
                el("p", slot("reason"), cls="reason"),
                el("p", slot("told"), cls="told"),
                el(
                    "div",
                    self._shell.buttons(
                        vault,
                        "pause", "resume", "reduce_only", "hedge_now", "set_target", "set_band", "reload", "flatten",
                        "halt",
                    ),
                    cls="acts",
                ),
                slot("stale", "p", cls="ek-banner", role="alert"),
                cls="ek-head",
            )
        )  # fmt: skip

    def _lay_out(self) -> None:
        """Put the parts on the page; anew when a vault comes to have other underlyings."""
        state = self._picture.state
        self._quick, self._slow, self._charts = [], [], {}
        self._grid.clear()
        if state is None:
            with self._grid:
                Sheet(facts("Waiting", [("state", Cell("nothing is known yet; what comes is shown at once"))]))
            return
        self._laid_out = _names(state)
        with self._grid:
            for one in state.underlyings[:MOST_UNDERLYINGS]:
                self._underlying(one.underlying)
            with ui.element("div").classes("ek-column ek-8"):
                self._part(12, self._alerts)
                self._part(12, self._heat, is_slow=True)
                self._part(12, lambda: margin.accounts(self._state, self._found()))
                self._part(12, self._orders, is_slow=True)
                self._part(12, lambda: lives.audit(self._picture.events), is_slow=True)
            with ui.element("div").classes("ek-column ek-4"):
                self._part(12, self._pnl)
                self._part(12, lambda: freshness.feeds(self._state))
                self._part(12, lambda: freshness.venues(self._state))
                self._part(12, lambda: freshness.pulse(self._state), is_slow=True)

    def _underlying(self, name: str) -> None:
        ring = self._picture.exposure.get(name)
        chart = _Chart(self._one(name), ring, self._picture.events, self._state.run_id)
        chart.plot.classes("ek-8")
        self._charts[name] = chart
        self._part(4, lambda: exposure.intent(self._one(name), self._state.now_ns))
        self._part(12, lambda: points_table(name, self._picture.exposure.get(name)), is_slow=True)
        self._part(12, lambda: exposure.greeks(self._one(name)))
        self._part(12, lambda: exposure.gates(self._one(name)))

    def _part(self, width: int, make: Make, *, is_slow: bool = False) -> None:
        part = Sheet(make())
        part.classes(f"ek-{width}")
        (self._slow if is_slow else self._quick).append((part, make))

    # What changes -----------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        state, live = self._picture.state, self._shell.live
        self._show_head(state)
        if state is None:
            return
        if _names(state) != self._laid_out:
            self._lay_out()
        self._ticks += 1
        for name, chart in self._charts.items():
            chart.show(self._one(name), self._picture.exposure.get(name), self._picture.events, state.run_id, live)
        for part, make in self._quick:
            part.show(make(), live)
        if self._ticks % SLOW_TICKS == 1:
            for part, make in self._slow:
                part.show(make(), live)

    def _show_head(self, state: VaultState | None) -> None:
        live, mirror, picture = self._shell.live, self._shell.mirror, self._picture
        age_s, is_stale = mirror.age_s(picture), mirror.is_stale(picture)
        show_age(live, "age", age_s, is_stale=is_stale)
        if state is None:
            live.set("stale", SILENT)
        elif is_stale:
            why = picture.availability if not mirror.is_online(picture) else "no word from its daemon"
            since = f"for {figures.age(age_s)}" if age_s is not None else "yet"
            live.set("stale", f"Stale: {why} {since}. What is shown below is how it was, not how it is.")
        else:
            live.set("stale", "")
        if is_stale is not getattr(self, "_was_stale", None):
            self._was_stale = is_stale
            self._grid.classes(add="ek-stale") if is_stale else self._grid.classes(remove="ek-stale")
        if state is None:
            show_state(live, "state", "", is_stale=is_stale)
            return
        show_state(live, "state", state.state, is_stale=is_stale, reason=state.state_reason)
        live.set("reason", f"{state.state}: {state.state_reason}" if state.state_reason else "")
        loss, _ = pnl.loss_told(state)
        told = (
            f"{state.mode} · {state.policy} · as of {figures.moment(state.now_ns)} UTC"
            f" · P&L today {figures.money(state.pnl_today_quote, is_signed=True)}{f' ({loss})' if loss else ''}"
            f" · since it began {figures.money(state.pnl_now_quote, is_signed=True)}"
        )
        if alerts := self._picture.open_alerts:
            told += f" · ▲ {len(alerts)} alert{'' if len(alerts) == 1 else 's'} open"
        if state.to_acknowledge:
            told += f" · to acknowledge: {state.to_acknowledge}"
        live.set("told", told)

    # What each part shows ---------------------------------------------------------------------------------------------

    @property
    def _state(self) -> VaultState:
        state = self._picture.state
        assert state is not None, "parts are laid out once there is a state"
        return state

    def _one(self, name: str) -> UnderlyingState:
        return next(one for one in self._state.underlyings if one.underlying == name)

    def _pnl(self) -> dict[str, Any]:
        return pnl.waterfall(self._state)

    def _found(self) -> margin.HeatMap | None:
        return self._shell.sources.heat(self._picture.vault)

    def _heat(self) -> dict[str, Any]:
        return margin.heatmap(self._found(), time.time_ns())

    def _orders(self) -> dict[str, Any]:
        return lives.orders(self._state.orders, self._picture.events, self._state.now_ns)

    def _alerts(self) -> dict[str, Any]:
        return lives.alerts(self._picture.alerts, time.time_ns(), may_acknowledge=self._shell.is_operator)


class _Chart:
    """The chart of one underlying, and up to where it was drawn."""

    def __init__(self, one: UnderlyingState, ring: Ring | None, events: Sequence[Told], run_id: str) -> None:
        self._ring = ring
        self._seen = ring.added if ring is not None else 0
        self._told = 0
        points = [point_of(point) for point in ring.points()] if ring is not None else []
        told = f"Net delta of {one.underlying} in its no-trade band over time; the same figures are in the table below"
        caption = f"{one.underlying}: net delta in its band"
        self.plot = Plot(caption, one.underlying, told, points, self._ticks(one, events, run_id))

    def show(self, one: UnderlyingState, ring: Ring | None, events: Sequence[Told], run_id: str, live: Live) -> None:
        """Draw what came since; all of it anew where another run has begun."""
        if ring is None:
            return
        if ring is not self._ring:
            self._ring, self._told = ring, 0
            points = [point_of(point) for point in ring.points()]
            self.plot.restart(points, self._ticks(one, events, run_id), live)
        else:
            points = [point_of(point) for point in ring.since(self._seen)]
            self.plot.append(points, self._ticks(one, events, run_id), live)
        self._seen = ring.added

    def _ticks(self, one: UnderlyingState, events: Sequence[Told], run_id: str) -> list[HedgeTick]:
        """Return the hedges of this run that were not drawn yet; an event that came twice is drawn once."""
        found, self._told = new_ticks(events, one, run_id, self._told)
        return found


def new_ticks(events: Sequence[Told], one: UnderlyingState, run_id: str, after: int) -> tuple[list[HedgeTick], int]:
    """Return the hedges of a run in its events behind number `after`, and the number of the newest of these.

    Events of the run before are still there when another begins, which numbers its own from the beginning.
    """
    if not events or events[-1].run_id != run_id or events[-1].number <= after:
        return [], after
    return hedge_ticks([told for told in events if told.run_id == run_id and told.number > after], one), events[
        -1
    ].number


def point_of(point: ExposurePoint) -> Point:
    """Return a point of the mirror as the chart takes it."""
    return Point(
        round(point.ts_ns / NS_PER_MS),
        point.low_base,
        point.high_base,
        point.band_low_base,
        point.band_high_base,
        point.target_base,
    )


def hedge_ticks(events: Iterable[Told], one: UnderlyingState) -> list[HedgeTick]:
    """Return the fills of an underlying's hedges among these events, oldest first."""
    hedges = {leg.instrument_id for leg in one.legs if leg.is_hedge}
    found = []
    for told in events:
        if told.kind != "fill" or told.fields.get("what") != "filled" or told.fields.get("instrument_id") not in hedges:
            continue
        qty_lots = told.fields.get("qty_lots")
        if isinstance(qty_lots, int) and qty_lots:
            found.append(HedgeTick(round(told.now_ns / NS_PER_MS), 1 if qty_lots > 0 else -1))
    return found


def points_table(name: str, ring: Ring | None) -> dict[str, Any]:
    """Return the newest minutes of the chart as a table, for those who read rather than look."""
    newest: dict[int, ExposurePoint] = {}
    for point in ring.points() if ring is not None else ():
        newest[point.ts_ns // NS_PER_MIN] = point
    rows = {
        str(minute): Row(
            -minute,
            (
                Cell(figures.clock(point.ts_ns), sort=point.ts_ns),
                Cell(figures.base(point.low_base)),
                Cell(figures.base(point.high_base)),
                Cell(figures.base(point.band_low_base)),
                Cell(figures.base(point.band_high_base)),
                Cell(figures.base(point.hedge_base)),
                Cell(figures.price(point.spot_px)),
            ),
        )
        for minute, point in sorted(newest.items())[-TABLE_POINTS:]
    }
    columns = (
        Column("UTC"), Column("net at least", is_number=True), Column("net at most", is_number=True),
        Column("band from", is_number=True), Column("band to", is_number=True), Column("hedges", is_number=True),
        Column("spot", is_number=True),
    )  # fmt: skip
    return sheet(f"{name}: net delta by the minute", columns, rows, empty="no point yet", is_folded=True)


def _names(state: VaultState) -> tuple[str, ...]:
    return tuple(one.underlying for one in state.underlyings[:MOST_UNDERLYINGS])
