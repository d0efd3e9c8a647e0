"""The insurance buffer of a vault while it trades: filled out of new highs of P&L, drawn where an account runs short.

What is kept aside stays where it is and is only not counted: every account's equity is less by its part, so that
neither hedges nor top-ups can use it. A draw counts it again, a return takes it back out once all is well. Must never
move anything, and never draw twice for the same stay in a state.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from bot.domain.results import BufferRecord
from bot.domain.risk import MarginState
from bot.domain.units import NS_PER_HOUR
from bot.engine.margin.accounts import MarginAccount
from bot.engine.margin.keeper import MarginKeeper
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.margin.top_ups import TopUps
from bot.risk.buffer import BufferRule, InsuranceBuffer, draw_buffer, fund_buffer, return_to_buffer
from bot.risk.distances import utilise
from bot.risk.margin_states import SEVERITY

LOOK_EVERY_NS: Final = NS_PER_HOUR  # between two looks for a new high: marks of a moment are no gains


class Insurance:
    """The buffer of one vault, and which accounts it was asked for already."""

    def __init__(self, rule: BufferRule, risk: RiskSettings, keeper: MarginKeeper, top_ups: TopUps) -> None:
        self.rule = rule
        self.buffer = InsuranceBuffer()
        self._risk = risk
        self._keeper = keeper
        self._top_ups = top_ups
        self._asked: dict[str, MarginState] = {}  # the worst state of an account that its present trouble was told in
        self._due_ns = 0

    def adopt(self, risk: RiskSettings) -> None:
        """Lend by other settings from now on."""
        self._risk = risk

    def review(self, now_ns: int, profit_quote: float) -> bool:
        """Draw for accounts that got into trouble, and now and then fill it; tell whether what is aside changed."""
        for account in self._keeper.accounts.values():
            self._serve(account, now_ns)
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + LOOK_EVERY_NS
            if all(_is_well(one) for one in self._keeper.accounts.values()):
                self._take_back(now_ns)
                self.buffer = fund_buffer(self.buffer, profit_quote, now_ns, self.rule)
        has_changed = self._keeper.aside_quote != self.buffer.balance_quote
        self._keeper.aside_quote = self.buffer.balance_quote
        return has_changed

    def record(self) -> BufferRecord:
        """Return what the buffer came to, for people and programs."""
        one = self.buffer
        return BufferRecord(
            balance_quote=one.balance_quote,
            full_quote=self.rule.full_quote,
            funded_quote=one.funded_quote,
            drawn_quote=one.drawn_quote,
            returned_quote=one.returned_quote,
        )

    def tell(self) -> str:
        """Say in a sentence what is kept."""
        one = self.buffer
        told = f"{one.balance_quote:,.2f} of {self.rule.full_quote:,.2f}: {one.funded_quote:,.2f} kept of gains"
        if one.drawn_quote:
            told += f", {one.drawn_quote:,.2f} drawn, {one.returned_quote:,.2f} returned"
        return f"{told}; drawn in {', '.join(self.rule.draws) or 'no state'}"

    def _serve(self, account: MarginAccount, now_ns: int) -> None:
        """Draw what an account lacks when it gets into a state, or worse; have it said where that is refused."""
        standing = account.standing
        if standing is None or account.unknown:
            return
        is_named = standing.state in self.rule.draws
        if not is_named and SEVERITY[standing.state] < SEVERITY[MarginState.ACT]:
            self._asked.pop(account.name, None)
            return
        asked = self._asked.get(account.name)
        if asked is not None and SEVERITY[asked] >= SEVERITY[standing.state]:
            return
        need_quote = self._top_ups.need_quote(account)
        if not need_quote > 0.0 or not (is_named or self.buffer.balance_quote > 0.0):
            return
        self._asked[account.name] = standing.state
        self.buffer, _ = draw_buffer(self.buffer, need_quote, standing.state, account.name, now_ns, self.rule)

    def _take_back(self, now_ns: int) -> None:
        """Put back what was drawn, if every account would still be well without it."""
        out_quote = self.buffer.drawn_quote - self.buffer.returned_quote
        amount = min(out_quote, self.rule.full_quote - self.buffer.balance_quote)
        if amount > 0.0 and all(self._is_well_without(one, amount) for one in self._keeper.accounts.values()):
            self.buffer = return_to_buffer(self.buffer, amount, "every account is normal without it", now_ns)

    def _is_well_without(self, account: MarginAccount, amount_quote: float) -> bool:
        equity_quote = account.equity_quote - self._keeper.part_of(account, amount_quote)
        most = self._risk.states.watch_ratio - self._risk.states.hysteresis_ratio
        used = utilise(equity_quote, account.figures.maintenance, account.settings.liquidation_ratio)
        return used < most and account.figures.initial <= self._risk.max_initial_ratio * equity_quote


def _is_well(account: MarginAccount) -> bool:
    """Tell whether an account is known and in no trouble: only then are gains gains."""
    standing = account.standing
    is_normal = standing is not None and standing.state is standing.asked is MarginState.NORMAL
    return is_normal and not account.unknown and isfinite(account.equity_quote)
