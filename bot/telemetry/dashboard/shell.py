"""What all pages have in common: the frame, who looks, and the one timer that tells the browser what changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

import structlog
from nicegui import Client, ui

from bot.domain.commands import Arguments
from bot.telemetry.dashboard.live import Live, slot
from bot.telemetry.dashboard.markup import Markup, el, join
from bot.telemetry.dashboard.mirror import Mirror
from bot.telemetry.dashboard.orders import ACTIONS
from bot.telemetry.dashboard.ports import Sources
from bot.telemetry.dashboard.sessions import Session

TICK_S: Final = 0.25
BEAT_TICKS: Final = 4  # a page that hears nothing for longer says that it is old
PLACES: Final = (("/", "Fleet"), ("/risk", "Risk"), ("/replay", "Replay"), ("/audit", "Audit"))

log = structlog.get_logger()


def next_tick_s(due_s: float, now_s: float) -> float:
    """Return when to tick again after a tick that was due at `due_s`: being late puts the next one off no further."""
    return max(due_s + TICK_S, now_s + TICK_S / 4)


class Shell:
    """One open page in one browser: `put` what stays, `every_tick` sets what changes through `live`."""

    def __init__(self, mirror: Mirror, sources: Sources, session: Session, client: Client) -> None:
        self.mirror = mirror
        self.sources = sources
        self.session = session
        self.live = Live()
        self._client = client
        self._shows: list[Callable[[], None]] = [self._show_connection]
        self._quiet_ticks = 0
        self._is_broken = False

    @property
    def is_operator(self) -> bool:
        """Tell whether who looks may give orders; only for what is shown, `/order` checks for itself."""
        return self.session.is_operator

    def put(self, *content: Markup) -> None:
        """Add HTML that does not change but through `live`."""
        ui.html(join(*content), sanitize=False).classes("part")

    def every_tick(self, show: Callable[[], None]) -> None:
        """Have `show` called four times a second, and once at first, before what changed is sent."""
        self._shows.append(show)

    def buttons(self, vault: str, *actions: str) -> Markup:
        """Return buttons that open an action's dialog; for viewers there are none."""
        if not self.is_operator:
            return Markup()
        return join(
            *(
                el(
                    "button",
                    ACTIONS[action].title,
                    type="button",
                    data_order=action,
                    data_vault=vault,
                    cls="act grave" if ACTIONS[action].is_grave else "act",
                )
                for action in actions
            )
        )

    def begin(self, title: str, place: str) -> None:
        """Lay out the frame; `place` is the entry of the menu that we are at."""
        self._client.title = f"{title} · Evenkeel"
        ui.add_head_html('<link rel="stylesheet" href="/assets/style.css"><script defer src="/assets/ek.js"></script>')
        self.put(self._header(place), self._dialog())

    def start(self) -> None:
        """Begin to tick; after everything is laid out."""
        self._due_s = time.monotonic()
        self._timer = ui.timer(TICK_S, self._tick)

    def _tick(self) -> None:
        now_s = time.monotonic()
        self._due_s = next_tick_s(self._due_s, now_s)
        self._timer.interval = self._due_s - now_s
        if self.session.is_over or not self._client.has_socket_connection:
            return  # whoever comes back is told what changed meanwhile
        if (script := self.next_script()) is not None:
            self._client.run_javascript(script)

    def next_script(self) -> str | None:
        """Return what the browser is told now, None for nothing.

        A page that cannot be drawn is told nothing at all, so that it does not look new where it is not.
        """
        try:
            for show in self._shows:
                show()
            changed = self.live.flush()
        except Exception:
            if not self._is_broken:
                log.exception("dashboard.page_broken", user=self.session.user)
            self._is_broken = True
            return None
        self._is_broken = False
        self._quiet_ticks = 0 if changed is not None else self._quiet_ticks + 1
        if changed is not None:
            return f"ek.show({changed}, runMethod)"
        if self._quiet_ticks % BEAT_TICKS == 0:
            return "window.ek?.beat()"
        return None

    def _show_connection(self) -> None:
        if self.mirror.is_connected:
            self.live.set("connection", "● broker", cls="connection good", title="connected to the broker")
        else:
            self.live.set("connection", "✕ no broker", cls="connection bad", title="what is shown is getting old")

    def _header(self, place: str) -> Markup:
        menu = [el("a", name, href=path, aria_current="page" if path == place else None) for path, name in PLACES]
        role = "operator" if self.is_operator else "viewer"
        return join(
            el("a", "Skip to content", href="#content", cls="skip"),
            el(
                "header",
                el(
                    "a",
                    el("img", src="/assets/icon.svg", alt="", width="24", height="24"),
                    "Evenkeel",
                    href="/",
                    cls="brand",
                ),
                el("nav", *menu, aria_label="Pages"),
                el("span", cls="spring"),
                slot("connection", cls="connection", role="status"),
                el(
                    "button",
                    "◐",
                    type="button",
                    id="theme",
                    cls="plain-button",
                    aria_label="Colours: as the system has it",
                ),
                el("span", f"{self.session.user} ({role})", cls="who"),
                el(
                    "form",
                    el("input", type="hidden", name="csrf", value=self.session.csrf),
                    el("button", "Log out", type="submit", cls="plain-button"),
                    method="post",
                    action="/logout",
                ),
                cls="top",
                id="top",
                data_csrf=self.session.csrf,
            ),
            el("p", id="silent", cls="silent-banner", role="alert"),
            el("p", id="later", cls="later", role="status"),
        )

    def _dialog(self) -> Markup:
        """Return the dialog of all actions; the page's script fills it. Viewers have none."""
        if not self.is_operator:
            return Markup()
        forms = {
            name: {"title": form.title, "consequence": form.consequence, "fields": form.fields, "typed": form.is_typed}
            for name, form in ACTIONS.items()
        }
        hidden = sorted(set(Arguments.__struct_fields__) - {"alert_id"})
        labels = {
            "underlying": "Underlying (empty: all of the vault's)",
            "target_base": "Target net delta, base units",
            "low_base": "Lower edge, base units",
            "high_base": "Upper edge, base units",
            "confirm": "Confirmation, if one was asked for",
        }
        fields = [
            el(
                "div",
                el("label", labels[name], for_=f"order-{name}"),
                el(
                    "input",
                    id=f"order-{name}",
                    name=name,
                    autocomplete="off",
                    inputmode="text" if name in ("underlying", "confirm") else "decimal",
                ),
                cls="field",
                data_field=name,
                hidden=True,
            )
            for name in ("underlying", "target_base", "low_base", "high_base", "confirm")
            if name in hidden
        ]
        return el(
            "dialog",
            el(
                "form",
                el("h2", el("span", id="order-title"), " ", el("b", id="order-vault")),
                el("p", id="order-consequence", cls="consequence"),
                *fields,
                el(
                    "div",
                    el("label", "Reason", for_="order-reason"),
                    el("input", id="order-reason", name="reason", autocomplete="off", required=True, maxlength=400),
                    cls="field",
                ),
                el(
                    "div",
                    el("label", "Type the vault's name to go on", for_="order-typed"),
                    el("input", id="order-typed", name="typed", autocomplete="off", spellcheck="false"),
                    cls="field",
                    id="order-typing",
                ),
                el("p", id="order-answer", role="status", aria_live="polite"),
                el(
                    "div",
                    el("button", "Cancel", type="button", id="order-cancel"),
                    el("button", "Send", type="submit", id="order-send", cls="primary"),
                    cls="row",
                ),
                id="order-form",
                method="dialog",
            ),
            id="order",
            data_forms=json.dumps(forms),
            aria_labelledby="order-title",
        )
