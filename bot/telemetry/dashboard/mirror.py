"""The picture of all vaults as the broker told it: the newest state of each, its recent past, its events and alerts.

It is fed on the event loop, and read there by every page. It never asks anybody anything, and its memory is bounded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from bot.domain.units import NS_PER_S
from bot.domain.windows import Alert, Told, VaultState
from bot.telemetry.dashboard.history import Ring, exposure_point

MAX_EVENTS: Final = 1000
MAX_VAULTS: Final = 200  # a broker that invents names fills no memory
MAX_UNDERLYINGS: Final = 50
STALE_AFTER_S: Final = 3.0
MAX_SKEW_NS: Final = 30 * NS_PER_S  # of two machines' clocks


class VaultPicture:
    """What is known of one vault.

    `came_s` is when its newest state came by a clock that nobody sets, None before the first, and `old_s` its age then.
    """

    def __init__(self, vault: str) -> None:
        self.vault = vault
        self.state: VaultState | None = None
        self.came_s: float | None = None
        self.old_s = 0.0
        self.availability = ""
        self.alerts: tuple[Alert, ...] = ()
        self.events: deque[Told] = deque(maxlen=MAX_EVENTS)
        self.told = 0  # events taken since the run began, gaps not counted
        self.missed = 0  # numbers that never came
        self.exposure: dict[str, Ring] = {}
        self._run_id = ""
        self._newest = 0

    @property
    def open_alerts(self) -> tuple[Alert, ...]:
        """The alerts that last."""
        return tuple(alert for alert in self.alerts if not alert.ended_ns)

    def take_state(self, state: VaultState, now_ns: int, now_s: float) -> None:
        """Take a state that came at `now_ns` of the wall clock, and `now_s` of one that nobody sets.

        One of another run, or of earlier in a replay, begins the past anew.
        """
        before = self.state
        if before is not None and (before.run_id != state.run_id or state.now_ns < before.now_ns):
            self.exposure.clear()
        # a broker keeps the last word of a daemon that is long gone: its age is that of the word, not of its arrival
        old_ns = now_ns - state.taken_ns
        self.state, self.came_s, self.old_s = state, now_s, old_ns / NS_PER_S if old_ns > MAX_SKEW_NS else 0.0
        for one in state.underlyings[:MAX_UNDERLYINGS]:
            if one.underlying not in self.exposure:
                self.exposure[one.underlying] = Ring()
            self.exposure[one.underlying].add(exposure_point(one, state.now_ns))

    def take_told(self, told: Told) -> None:
        """Take an event; one that came before is left out, by its number. Another run begins its own list anew."""
        if told.run_id != self._run_id:
            self.events.clear()  # numbers, and times in a replay, are those of one run
            self._run_id, self._newest = told.run_id, told.number - 1
        if told.number <= self._newest:
            return
        self.missed += told.number - self._newest - 1
        self._newest = told.number
        self.told += 1
        self.events.append(told)


class Mirror:
    """All vaults there are. `vaults` are shown even before a word of them comes.

    `now_ns` is the wall clock and says how old a state is that comes; from then on `now_s` counts, which nobody sets.
    """

    def __init__(
        self,
        vaults: Sequence[str],
        now_ns: Callable[[], int],
        stale_after_s: float = STALE_AFTER_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now_ns = now_ns
        self._now_s = now_s
        self._stale_after_s = stale_after_s
        self._pictures = {vault: VaultPicture(vault) for vault in vaults}
        self.is_connected = False  # to the broker
        self.desk_alerts: tuple[Alert, ...] = ()  # of the desk itself
        self.desk_availability = ""  # of its windows; "" before a word of them comes

    def vaults(self) -> list[VaultPicture]:
        """Return what is known of every vault, by name."""
        return [self._pictures[name] for name in sorted(self._pictures)]

    def vault(self, name: str) -> VaultPicture | None:
        """Return what is known of a vault, None of one nobody spoke of."""
        return self._pictures.get(name)

    def age_s(self, picture: VaultPicture) -> float | None:
        """Return how old the newest state is, None before the first."""
        return None if picture.came_s is None else picture.old_s + max(0.0, self._now_s() - picture.came_s)

    def is_stale(self, picture: VaultPicture) -> bool:
        """Tell whether what is shown may no longer be so: too old, or said to be by who watches the daemon."""
        age_s = self.age_s(picture)
        return age_s is None or age_s > self._stale_after_s or not self.is_online(picture)

    def is_online(self, picture: VaultPicture) -> bool:
        """Tell whether the daemon is said to answer; a word that has not come yet counts as yes."""
        return picture.availability in ("", "online") or picture.availability.startswith("online ")

    def take_state(self, state: VaultState) -> None:
        """Take a vault's newest state."""
        if picture := self._of(state.vault):
            picture.take_state(state, self._now_ns(), self._now_s())

    def take_told(self, told: Told) -> None:
        """Take an event of a vault's life."""
        if picture := self._of(told.vault):
            picture.take_told(told)

    def take_alerts(self, vault: str, alerts: Sequence[Alert]) -> None:
        """Take all alerts of a vault that are open, or of the desk ("")."""
        if not vault:
            self.desk_alerts = tuple(alerts)
        elif picture := self._of(vault):
            picture.alerts = tuple(alerts)

    def take_availability(self, vault: str, text: str) -> None:
        """Take what is said of a vault's daemon, or of the desk's windows (""): "online", or why not."""
        if not vault:
            self.desk_availability = text
        elif picture := self._of(vault):
            picture.availability = text

    def take_connection(self, is_connected: bool) -> None:
        """Take whether the broker can be heard."""
        self.is_connected = is_connected

    def _of(self, vault: str) -> VaultPicture | None:
        if vault not in self._pictures and len(self._pictures) < MAX_VAULTS:
            self._pictures[vault] = VaultPicture(vault)
        return self._pictures.get(vault)
