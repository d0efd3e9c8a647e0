"""The page of replays: pick a vault's book, a recording and policies, watch it run, compare what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement
from nicegui.events import GenericEventArguments

from bot.telemetry.dashboard.live import slot
from bot.telemetry.dashboard.markup import el
from bot.telemetry.dashboard.pages.vault import STYLE
from bot.telemetry.dashboard.parts.curves import Curves
from bot.telemetry.dashboard.parts.sheet import Sheet
from bot.telemetry.dashboard.replays import ReplayState
from bot.telemetry.dashboard.shell import Shell
from bot.telemetry.dashboard.shown import comparison
from bot.telemetry.dashboard.shown.curves import curves

NO_VAULT: Final = (
    "There is no vault to replay: the dashboard offers those whose files it was started with "
    "(evenkeel dashboard DESK.yaml VAULT.yaml …)."
)
START: Final = "Tick the policies to compare and press Start. It runs beside everything else and touches no trading."


def page(shell: Shell) -> None:
    """Lay out the page of replays."""
    ui.add_head_html(STYLE)
    shell.put(el("div", el("h1", "Replay"), cls="ek-head"))
    with ui.element("main").classes("ek-page").props("id=content tabindex=-1"):
        form = _Form(shell)
        progress = (
            ui.element("progress").props('max=1 value=0 aria-label="progress of the replay"').classes("ek-progress")
        )
        shell.put(el("p", slot("replay-told", role="status"), cls="ek-note"))
        with ui.element("div").classes("ek-grid"):
            table = Sheet(comparison.table(()))
            table.classes("ek-12")
            over_time = Curves()
            over_time.classes("ek-12")
            bars = Sheet(comparison.bars(()))
            bars.classes("ek-12 ek-if-any")
    before = [ReplayState()]  # not the state itself: the first look shows whatever there is

    def show() -> None:
        state = shell.sources.replays.state
        if state is before[0]:
            return
        if state.runs is not before[0].runs:  # by identity: they are long, and looked at four times a second
            over_time.show(curves(state.runs))
            bars.show(comparison.bars(state.runs), shell.live)
            table.show(comparison.table(state.runs), shell.live)
        before[0] = state
        progress.props(f"value={state.fraction:.3f}")
        form.show(state)
        shell.live.set("replay-told", tell(state, is_any_vault=bool(shell.sources.replays.vaults)))

    shell.every_tick(show)


def tell(state: ReplayState, *, is_any_vault: bool = True) -> str:
    """Say in a sentence how the replay stands, and before the first one what to do."""
    if not is_any_vault:
        return NO_VAULT
    if not state.vault:
        return state.error or START
    what = f"{state.vault} on {state.recording}: {', '.join(state.policies)}"
    if state.is_running:
        return f"{what}, {state.fraction:.0%}, started by {state.user}. {state.told}"
    return f"{what}: {state.error}" if state.error else f"{what}: done, started by {state.user}."


class Words(TextElement):
    """An element of the page that holds text and nothing else."""

    def __init__(self, tag: str, text: str) -> None:
        super().__init__(tag=tag, text=text)


class _Form:
    """What is picked, and the buttons."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._replays = shell.sources.replays
        self._vault = next(iter(self._replays.vaults), "")
        self._recording = self._replays.recording_of(self._vault) or next(iter(self._replays.recordings), "")
        self._chosen = {name: name == self._replays.policy_of(self._vault) for name in self._replays.policies}
        with ui.element("form").classes("ek-form").props('aria-label="replay"').on("submit.prevent", lambda: None):
            self._select("vault", self._replays.vaults, self._vault, self._choose_vault)
            self._recordings = self._select(
                "recording", self._replays.recordings, self._recording, self._choose_recording
            )
            with ui.element("fieldset"):
                Words("legend", "policies")
                self._boxes = {name: self._box(name, is_on) for name, is_on in self._chosen.items()}
            with ui.element("div").classes("ek-row"):
                self._start = Words("button", "Start").props("type=button").classes("act").on("click", self._begin)
                self._stop = Words("button", "Cancel").props("type=button disabled").classes("act")
                self._stop.on("click", self._replays.cancel)
        self.show(self._replays.state)

    def show(self, state: ReplayState) -> None:
        """Let what can be pressed be pressed."""
        _enable(self._start, is_on=not state.is_running and bool(self._vault))
        _enable(self._stop, is_on=state.is_running)

    def _begin(self) -> None:
        policies = [name for name, is_on in self._chosen.items() if is_on]
        refused = self._replays.start(self._vault, self._recording, policies, self._shell.session.user)
        if refused:
            self._shell.live.set("replay-told", refused)

    def _choose_vault(self, name: str) -> None:
        self._vault = name

    def _choose_recording(self, name: str) -> None:
        self._recording = name

    def _select(self, name: str, options: Sequence[str], chosen: str, choose: Callable[[str], Any]) -> ui.element:
        with ui.element("label"):
            Words("span", name)
            with ui.element("select").props(f"name={name}") as select:
                for option in options:
                    Words("option", option).props(f'value="{option}"{" selected" if option == chosen else ""}')
            select.on("change", lambda event: _chosen(event, choose), js_handler="(e) => emit(e.target.value)")
        return select

    def _box(self, name: str, is_on: bool) -> ui.element:
        def choose(event: GenericEventArguments) -> None:
            self._chosen[name] = event.args is True

        with ui.element("label").classes("ek-box"):
            box = ui.element("input").props(f'type=checkbox name="{name}"{" checked" if is_on else ""}')
            box.on("change", choose, js_handler="(e) => emit(e.target.checked)")
            Words("span", name)
        return box


def _chosen(event: GenericEventArguments, choose: Callable[[str], Any]) -> None:
    if isinstance(event.args, str):
        choose(event.args)


def _enable(button: ui.element, *, is_on: bool) -> None:
    button.props(remove="disabled") if is_on else button.props("disabled")
