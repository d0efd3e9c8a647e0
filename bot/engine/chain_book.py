"""What the reports of chains say is held: liquidity, tokens and debts, netted into the book of each underlying.

A report replaces what its chain held before. That is neither won nor lost, but for the fees liquidity earned between
two reports. All is valued at the underlying's index price, never at a pool's own. Must never trade.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, isfinite
from typing import NamedTuple

from bot.domain.chain import ChainReport, LpPosition, TokenPosition
from bot.domain.units import NS_PER_S
from bot.domain.venues import VenueHealth
from bot.engine.chain_legs import ChainLegs
from bot.engine.desk import Desk
from bot.engine.routing import VenueBoard, age_text
from bot.engine.settings import EngineSettings


class ChainChange(NamedTuple):
    """What a report makes of one desk's book, and what its liquidity earned since the last one, in each token."""

    desk: Desk
    legs: ChainLegs | None
    fees_base: float
    fees_quote: float


class ChainBook:
    """The newest report of every chain, and what of the desks' books they amount to."""

    def __init__(self, settings: EngineSettings, desks: dict[str, Desk], venues: VenueBoard) -> None:
        self._required = settings.chain_venues
        self._max_age_ns = settings.chain_max_age_ns
        self._desks = desks
        self._home = desks.get(settings.numeraire) or next(iter(desks.values()))
        self._venues = venues
        self._known: set[str] = set()  # chains that reported since the start
        self.reports: dict[str, ChainReport] = {}

    @property
    def required(self) -> frozenset[str]:
        """The chains whose report this vault depends on."""
        return self._required

    @property
    def strays(self) -> tuple[str, ...]:
        """What is held on chains of underlyings this vault does not hedge."""
        strays: list[str] = []
        for report in self.reports.values():
            held = [(one.position_id, one.underlying) for one in report.lps]
            held += [(one.holding_id, one.underlying) for one in report.tokens if one.underlying]
            strays += [f"{report.venue}:{name}" for name, underlying in held if underlying not in self._desks]
        return tuple(strays)

    def waits_for(self) -> str:
        """Return the chains that have not reported yet, "" if there are none."""
        return ", ".join(sorted(self._required - self._known))

    def find_stale(self, now_ns: int) -> str:
        """Return which chain's newest block is too old, "" if none is.

        One at a venue that is down does not count: nothing moves there, and hedges elsewhere may go on.
        """
        for venue in sorted(self._required) if self._max_age_ns else ():
            report = self.reports.get(venue)
            if report is None or self._venues.health_of(venue) is not VenueHealth.UP:
                continue
            age_ns = now_ns - report.ts_event_ns
            if age_ns > self._max_age_ns:
                return age_text(f"block {report.block_number} of {venue}", age_ns, self._max_age_ns)
        return ""

    def tell(self, now_ns: int) -> str:
        """Say what is known of every chain, for people."""
        texts = []
        for venue in sorted(self._required | self.reports.keys()):
            report = self.reports.get(venue)
            if report is None:
                texts.append(f"{venue}: no report yet")
                continue
            health = f", health factor {report.health_factor:.2f}" if report.health_factor < inf else ""
            age_s = (now_ns - report.ts_event_ns) / NS_PER_S
            texts.append(f"{venue}: block {report.block_number}, {age_s:.0f} s old{health}")
        return "; ".join(texts)

    def forget(self) -> None:
        """Trust no report until the chain says anew what is held, as after a restart."""
        self._known.clear()

    def take(self, report: ChainReport) -> list[ChainChange]:
        """Take in a report, which must be sound (`is_sound`); return the books it changes."""
        before = self.reports.get(report.venue)
        self.reports[report.venue] = report
        self._known.add(report.venue)
        changes = []
        for desk in self._desks.values():
            legs = self._legs_of(desk)
            if legs != desk.book.chain:
                fees_base, fees_quote = _fees_between(before, report, desk.underlying) if before else (0.0, 0.0)
                changes.append(ChainChange(desk, legs, fees_base, fees_quote))
        return changes

    def _legs_of(self, desk: Desk) -> ChainLegs | None:
        lps: list[LpPosition] = []
        qty_base = charged_base = money_quote = 0.0
        for _, report in sorted(self.reports.items()):
            lps += [one for one in report.lps if one.underlying == desk.underlying]
            for token in report.tokens:
                charged = abs(token.qty_base) * token.charge_fraction
                if token.underlying == desk.underlying:
                    qty_base += token.qty_base
                    charged_base += charged
                elif not token.underlying and desk is self._home:
                    money_quote += token.qty_base - charged
        if not (lps or qty_base or charged_base or money_quote):
            return None
        return ChainLegs(tuple(lps), qty_base, charged_base, money_quote)


def is_sound(report: ChainReport) -> bool:
    """Tell whether every number of a report can be true."""
    return all(map(_is_sound_lp, report.lps)) and all(map(_is_sound_token, report.tokens))


def _is_sound_lp(lp: LpPosition) -> bool:
    numbers = (lp.liquidity, lp.owed_base, lp.owed_quote)
    return all(0.0 <= number < inf for number in numbers) and 0.0 < lp.low_px < lp.high_px < inf


def _is_sound_token(token: TokenPosition) -> bool:
    return isfinite(token.qty_base) and 0.0 <= token.charge_fraction <= 1.0


def _fees_between(before: ChainReport, now: ChainReport, underlying: str) -> tuple[float, float]:
    """Return what liquidity earned between two reports in base and in quote tokens.

    Only a position whose liquidity did not change tells: what is taken out of one is owed like fees until collected.
    Owed less than before, it was collected, and nothing is known of what it earned that block; but where the chain went
    back, what is owed less was never earned.
    """
    earned_base = earned_quote = 0.0
    is_reorg = now.block_number <= before.block_number
    for old, new in _in_both(before, now, underlying):
        if old.liquidity != new.liquidity:
            continue
        grown_base, grown_quote = new.owed_base - old.owed_base, new.owed_quote - old.owed_quote
        if is_reorg or (grown_base >= 0.0 and grown_quote >= 0.0):
            earned_base += grown_base
            earned_quote += grown_quote
    return earned_base, earned_quote


def _in_both(before: ChainReport, now: ChainReport, underlying: str) -> Iterator[tuple[LpPosition, LpPosition]]:
    held = {one.position_id: one for one in before.lps}
    for one in now.lps:
        if one.underlying == underlying and one.position_id in held:
            yield held[one.position_id], one
