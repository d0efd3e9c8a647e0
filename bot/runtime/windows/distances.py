"""How far accounts are from liquidation, added to what daemons say: reckoned in the windows' process, not in theirs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bot.domain.windows import AccountState, VaultState
from bot.runtime.windows.heat_source import HeatSource
from bot.runtime.windows.hub import Watched
from bot.telemetry.dashboard.shown.margin import Distance


class Distances:
    """The newest distances of every vault that has margin reckoned; each is looked at again every half minute."""

    def __init__(self, watched: Sequence[Watched], source: HeatSource | None = None) -> None:
        vaults = {one.vault.vault: one.vault for one in watched if one.vault.risk is not None}
        self._source = source or HeatSource(vaults)

    def complete(self, state: VaultState) -> VaultState:
        """Return a state with the distances of the newest look; as it was where there is none yet, or it failed."""
        look = self._source.heat(state.vault) if state.accounts else None
        if look is None or look.error or not look.distances:
            return state
        accounts = tuple(_with_distance(one, look.distances.get(one.account)) for one in state.accounts)
        return msgspec.structs.replace(state, accounts=accounts)

    def close(self) -> None:
        """Look no more."""
        self._source.close()


def _with_distance(account: AccountState, found: Distance | None) -> AccountState:
    """Return an account with the nearer of the two moves that liquidate it."""
    ends = [] if found is None else [one for one in (found.down_fraction, found.up_fraction) if one is not None]
    if not ends:
        return account
    return msgspec.structs.replace(account, spot_distance_fraction=min(ends, key=abs))
