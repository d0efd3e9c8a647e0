"""Accounts at ACT whose collateral would come too late: their hedges are moved to where margin is free, slice by slice.

A top-up is trusted if it arrives in half of the time that 99 % of paths leave. If it does not, or nothing can be sent,
and another venue of the same hedges has margin for it, slices are closed here and made there in the decisions after,
while the transfer is on its way. Must never trade: it says so, and the engine does.
"""

from __future__ import annotations

from bot.domain.risk import MarginState
from bot.domain.units import NS_PER_YEAR
from bot.engine.margin.accounts import MarginAccount
from bot.engine.margin.keeper import MarginKeeper
from bot.engine.margin.top_ups import TopUps
from bot.risk.deleveraging import Remedy, choose_remedy


class Remedies:
    """What is done first about each account at ACT of one vault: looked at when margin is, or a transfer changes."""

    def __init__(self, keeper: MarginKeeper, top_ups: TopUps) -> None:
        self._keeper = keeper
        self._top_ups = top_ups
        self._seen = (-1, -1, -1)

    def review(self, now_ns: int) -> None:
        """Say of every account whether its hedges are moved away for want of margin there in time."""
        seen = (self._keeper.looks, self._top_ups.count, self._top_ups.changes)
        if seen == self._seen:
            return
        self._seen = seen
        for account in self._keeper.accounts.values():
            self._keeper.set_move(account, self._find(account, now_ns))

    def _find(self, account: MarginAccount, now_ns: int) -> str:
        standing = account.standing
        if standing is None or standing.state is not MarginState.ACT or account.unknown or account.is_assumed:
            return ""
        elsewhere = self._keeper.free_elsewhere(account)
        if not elsewhere:
            return ""
        eta_ns = self._top_ups.eta_ns(account, now_ns)
        eta_years = (eta_ns or 0) / NS_PER_YEAR
        choice = choose_remedy(self._keeper.breach_years(account), eta_years, eta_ns is not None, elsewhere)
        if choice.remedy is not Remedy.HEDGE_THEN_TRANSFER:
            return ""
        return choice.reason if eta_ns is not None else f"nothing more can be sent there; {choice.reason}"
