"""What the venues of a vault show of their health, and what follows for the hedges there.

A venue that never showed anything is not judged: where nobody watches, nothing is banned. Must never trade.
"""

from __future__ import annotations

from typing import Final

from bot.domain.risk import CounterpartySigns
from bot.engine.margin_keeper import MarginKeeper
from bot.risk.counterparties import Action, CounterpartyParameters, Party, Score, action_of, score_of

DRAINING: Final = frozenset({Action.DRAIN, Action.EXIT})


class CounterpartyBoard:
    """The newest signs of every venue, its score, and what that asks for."""

    def __init__(self, parameters: CounterpartyParameters, keeper: MarginKeeper) -> None:
        self.signs: dict[str, CounterpartySigns] = {}
        self.scores: dict[str, Score] = {}
        self.actions: dict[str, Action] = {}
        self._parameters = parameters
        self._keeper = keeper
        # the drawdown at which a fund earns no points any more: there venues deleverage
        self._empty_drawdown = next((x for x, y in parameters.fund_drawdown if y <= 0.0), 1.0)

    def take(self, event: CounterpartySigns) -> None:
        """Judge a venue anew; older signs than the last ones change nothing."""
        last = self.signs.get(event.party)
        account = self._keeper.accounts.get(event.party)
        if account is None or (last is not None and event.ts_event_ns < last.ts_event_ns):
            return
        self.signs[event.party] = event
        party = Party(name=event.party, standing_share=account.settings.standing_share)
        score = score_of(party, event, self._parameters, event.ts_recv_ns)
        action = action_of(score.points, self.actions.get(event.party, Action.NONE), self._parameters)
        self.scores[event.party], self.actions[event.party] = score, action
        low = [f"{one.name}: {one.detail}" for one in score.parts if one.is_known and one.points < 0.5 * one.weight]
        told = f"counterparty score {score.points:.0f} ({'; '.join(low) or 'little is known'})"
        drawdown = self._drawdown_share(event)
        account.queue_share = 1.0 - event.deleverage_rank_share
        account.banned = "" if action is Action.NONE else f"{told}, {action}"
        account.is_draining = action in DRAINING
        if drawdown >= self._empty_drawdown:
            account.banned = f"insurance fund {drawdown:.0%} below its high of 8 hours; {told}"
            account.is_draining = True
        self._keeper.note_change(event.party)

    def _drawdown_share(self, event: CounterpartySigns) -> float:
        """Return how far the insurance fund is below its high of 8 hours; NaN where that is not told."""
        return 1.0 - event.fund_quote / event.fund_high_quote if event.fund_high_quote > 0.0 else float("nan")
