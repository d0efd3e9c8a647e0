"""The book of each vault over moves of spot and vol, for pages: reckoned here from what the daemon tells, never in it.

A look is taken when somebody wants to see one and the last is older than `every_s`; one at a time, in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from math import isfinite
from typing import Any, Final

import msgspec

from bot.domain.errors import EvenkeelError
from bot.runtime.configuration.vault import Vault
from bot.runtime.operators import control
from bot.runtime.risk.accounts import Accounts
from bot.runtime.risk.snapshot import Snapshot
from bot.runtime.risk.stress import heat_of
from bot.runtime.risk.view import distances_of
from bot.telemetry.dashboard.shown.margin import Distance, HeatMap

EVERY_S: Final = 30.0
QUESTION: Final = {"verb": "risk", "instruments": [], "collateral": False}

Ask = Callable[[Vault], dict[str, Any]]


def ask_daemon(vault: Vault) -> dict[str, Any]:
    """Return what the daemon of a vault tells of its risk; raises NotRunningError or TimeoutError."""
    return control.ask(control.socket_path(vault.state_dir, vault.vault), QUESTION)


class HeatSource:
    """The newest look at each vault; `vaults` are by name."""

    def __init__(
        self,
        vaults: Mapping[str, Vault],
        *,
        ask: Ask = ask_daemon,
        every_s: float = EVERY_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vaults = dict(vaults)
        self._ask = ask
        self._every_s = every_s
        self._now_s = now_s
        self._looks: dict[str, HeatMap] = {}
        self._begun_s: dict[str, float] = {}
        self._under_way: dict[str, Future[HeatMap]] = {}
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="heat")

    def heat(self, vault: str) -> HeatMap | None:
        """Return the newest look at a vault, None before the first, and have a new one taken if it is old.

        Returns at once, whatever the daemon does.
        """
        if vault not in self._vaults:
            return None
        pending = self._under_way.get(vault)
        if pending is not None and pending.done():
            del self._under_way[vault]
            self._looks[vault] = pending.result()
        elif pending is None and self._now_s() - self._begun_s.get(vault, -self._every_s) >= self._every_s:
            self._begun_s[vault] = self._now_s()
            self._under_way[vault] = self._workers.submit(self._look, vault)
        return self._looks.get(vault)

    def close(self) -> None:
        """Take no more looks."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _look(self, name: str) -> HeatMap:
        vault = self._vaults[name]
        try:
            answer = self._ask(vault)
            if "error" in answer:
                return self._failed(name, f"the daemon says: {answer['error']}")
            return look(vault, msgspec.convert(answer, Snapshot))
        except control.NotRunningError:
            return self._failed(name, "the daemon does not run")
        except TimeoutError:
            return self._failed(name, "the daemon did not answer in time")
        except (EvenkeelError, OSError, ValueError, ArithmeticError) as error:
            return self._failed(name, f"could not be reckoned: {str(error)[:200]}")

    def _failed(self, name: str, why: str) -> HeatMap:
        """Return the last look with why there is no newer one."""
        last = self._looks.get(name) or HeatMap(name, time.time_ns())
        return msgspec.structs.replace(last, error=why)


def look(vault: Vault, snapshot: Snapshot) -> HeatMap:
    """Return the book of a snapshot over moves and vols, and how far each account is from liquidation."""
    accounts = Accounts(vault, snapshot)
    heat = heat_of(accounts)
    distances: dict[str, Distance] = {}
    for name, one in accounts.of.items():
        lines = [] if one.now.unknown else distances_of(accounts, one)
        nearest = next((line for line in lines if line.underlying == "all"), lines[0] if lines else None)
        if nearest is not None:
            down, up = nearest.distance.down_fraction, nearest.distance.up_fraction
            # a price can only fall by all of itself: there it is never liquidated
            distances[name] = Distance(-down if down < 1.0 else None, _known(up))
    return HeatMap(
        vault=snapshot.vault,
        taken_ns=time.time_ns(),
        moves=heat.moves,
        vols=heat.vols,
        pnl_quote=tuple(tuple(line) for line in heat.pnl_quote),
        use_ratio=tuple(tuple(_known(one) for one in line) for line in heat.use_ratio),
        distances=distances,
    )


def _known(value: float) -> float | None:
    return value if isfinite(value) else None
