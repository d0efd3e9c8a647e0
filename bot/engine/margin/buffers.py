"""What each account should hold for the time that topping it up takes: margin and equity after a bad move until then.

The move is that of a high quantile of the vol forecast over the 95 % transfer delay, the book is repriced there, gamma
and coins posted included; how much is to be left after it follows the forecast and the conditions outside, which only
raise it. Judges accounts, never trades; every change of a target is kept with its reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import exp, isfinite, isnan, nan

import msgspec
import numpy as np

from bot.domain.units import NS_PER_YEAR
from bot.engine.margin.risk_settings import BufferSettings, RiskSettings
from bot.engine.margin.vol_watch import VolWatch
from bot.risk.book import Floats, RiskBook
from bot.risk.distances import move_book
from bot.risk.predictive import (
    LookAhead,
    Outlook,
    Target,
    TargetChange,
    TargetRule,
    look_ahead_by_repricing,
    note_change,
    set_target,
)

VOL_LEVEL = 0.95  # the quantile of the forecast that is looked ahead with
DEFAULT_DELAY_NS = 1800 * 10**9  # how long topping up takes where no route says
UNKNOWN_VOL = 1.50  # what stands in for a forecast of an asset that nothing is said of
MAX_CHANGES = 200


class Buffer(msgspec.Struct, frozen=True):
    """What one account should hold now, in equity after haircuts, and how that comes about.

    `required_quote` leaves the target after the bad move of `outlook`. Where it is plain that there is more than enough
    nothing is repriced: `outlook` is None and the figure an upper bound.
    """

    required_quote: float
    delay_ns: int
    vol: float
    target: Target
    outlook: Outlook | None
    degraded: str = ""

    @property
    def text(self) -> str:
        """How it comes about, in one line."""
        minutes = self.delay_ns / 60e9
        how = "" if self.outlook is not None else "at most "
        move = f" after a move of {self.outlook.move_fraction:.1%}" if self.outlook is not None else ""
        told = f"{how}{self.required_quote:,.0f} for {minutes:g} min at vol {self.vol:.0%}{move}: {self.target.reason}"
        return "; ".join(filter(None, (told, self.degraded)))


class Buffers:
    """The buffers of a vault's accounts as of their last reviews."""

    def __init__(self, settings: BufferSettings, risk: RiskSettings, watch: VolWatch) -> None:
        self.of: dict[str, Buffer] = {}
        self.changes: deque[tuple[str, TargetChange]] = deque(maxlen=MAX_CHANGES)
        self.change_counts: dict[str, int] = {}
        self.change_count = 0
        self._settings = settings
        self._classes = risk.classes
        self._watch = watch
        self._rule = TargetRule(base_ratio=settings.base_ratio, scales="buffer", most_multiple=settings.most_multiple)
        self._delays_ns: dict[str, int] = {}
        for route in risk.transfers.routes:
            self._delays_ns[route.to_venue] = max(self._delays_ns.get(route.to_venue, 0), route.p95_ns)
        self._default_delay_ns = max(self._delays_ns.values(), default=DEFAULT_DELAY_NS)

    def is_short(self, account: str, equity_quote: float) -> bool:
        """Tell whether an account is to be topped up before it needs it."""
        found = self.of.get(account)
        return found is not None and equity_quote < self._settings.trigger_share * found.required_quote

    def required_quote(self, account: str) -> float:
        """Return what an account should hold, 0 where nothing is known of it."""
        found = self.of.get(account)
        return found.required_quote if found is not None else 0.0

    def tell(self, account: str) -> str:
        """Say what an account should hold and why, "" where nothing is known of it."""
        found = self.of.get(account)
        return f"should hold {found.text}" if found is not None else ""

    def forget(self, account: str) -> None:
        """Know nothing of an account any more."""
        self.of.pop(account, None)

    def review(
        self,
        account: str,
        book: RiskBook,
        equity_quote: float,
        maintenance_quote: float,
        coins_quote: float,
        maintenance: Callable[[RiskBook], float],
        now_ns: int,
    ) -> None:
        """Look at an account: margin is as the venue liquidates, `coins_quote` of its equity moves with prices."""
        delay_ns = self._delays_ns.get(account, self._default_delay_ns)
        if not len(book) or not isfinite(equity_quote) or not maintenance_quote > 0.0:
            self.forget(account)
            return
        vol, fallback_vol, target, missing = self._outside(book.underlyings)
        rule = LookAhead(fallback_vol=max(LookAhead().least_vol, fallback_vol))
        years = delay_ns / NS_PER_YEAR
        degraded = "; ".join(filter(None, (missing, target.degraded)))
        used_vol = vol if not isnan(vol) else rule.fallback_vol
        bound_quote = self._bound(book, used_vol, years, rule, target.ratio, maintenance_quote, coins_quote)
        if bound_quote <= self._settings.trigger_share * equity_quote:
            self._keep(account, Buffer(bound_quote, delay_ns, used_vol, target, None, degraded), now_ns)
            return

        def health(moves: Floats, vol_factor: float) -> tuple[Floats, Floats]:
            equity, margin = np.empty(len(moves)), np.empty(len(moves))
            for place, move in enumerate(moves.tolist()):
                if move == 0.0 and vol_factor == 1.0:
                    equity[place], margin[place] = equity_quote, maintenance_quote
                    continue
                moved = move_book(book, move, vol_factor)
                earned_quote = float(book.qty_base @ (moved.mark_px - book.mark_px))
                equity[place] = equity_quote + earned_quote + coins_quote * move
                margin[place] = maintenance(moved)
            return equity, margin

        outlook = look_ahead_by_repricing(health, vol, years, target.ratio, rule=rule)
        required_quote = target.ratio * outlook.maintenance_quote + outlook.loss_quote
        degraded = "; ".join(filter(None, (degraded, outlook.degraded)))
        if not isfinite(required_quote):
            required_quote = bound_quote
            degraded = "; ".join(filter(None, (degraded, "the model cannot tell margin after the move: bound taken")))
        self._keep(account, Buffer(required_quote, delay_ns, used_vol, target, outlook, degraded), now_ns)

    def _outside(self, underlyings: Iterable[str]) -> tuple[float, float, Target, str]:
        """Return the vol to look ahead with, what stands in for it, the target, and what is not known.

        All coins of an account move together, by the worst of their forecasts.
        """
        vols: list[float] = []
        target: Target | None = None
        fallback_vol, missing = 0.0, []
        for name in underlyings:
            vol = self._watch.quantile_vol(name, VOL_LEVEL)
            vols.append(vol)
            fallback_vol = max(fallback_vol, self._fallback_vol(name))
            # conditions inflate the forecast where one of its features is missing: it is done already here
            forecast = self._watch.forecasts.get(name)
            plain_vol = forecast.quantile(VOL_LEVEL) if forecast is not None else nan
            found = set_target(plain_vol, self._watch.reference_vol(name), self._watch.conditions, self._rule)
            if target is None or found.ratio > target.ratio:
                target = found
            if forecast is None:
                missing.append(f"no forecast of {name} yet")
            elif forecast.degraded:
                missing.append(f"forecast of {name}: {forecast.degraded}")
        assert target is not None, "a book has underlyings"
        return (nan if any(map(isnan, vols)) else max(vols)), fallback_vol, target, "; ".join(missing)

    def _fallback_vol(self, name: str) -> float:
        return self._classes.of(name).parameters.fallback_vol if self._classes is not None else UNKNOWN_VOL

    @staticmethod
    def _bound(
        book: RiskBook, vol: float, years: float, rule: LookAhead, ratio: float, margin_quote: float, coins_quote: float
    ) -> float:
        """Return what is more than required whatever the book: no row loses more than its underlying moves.

        Nor does margin grow faster than three times that, as the chance of liquidation has it too.
        """
        move = exp(rule.z * max(vol, rule.least_vol) * years**0.5) - 1.0
        gross_quote = float((abs(book.qty_base) * book.spot_of_row_px).sum())
        loss_quote = (gross_quote + abs(coins_quote)) * move
        return ratio * (margin_quote + 3.0 * gross_quote * move) + loss_quote

    def _keep(self, account: str, found: Buffer, now_ns: int) -> None:
        before = self.of.get(account)
        self.of[account] = found
        base = Target(self._rule.base_ratio, 1.0, 1.0, "")
        change = note_change(before.target if before is not None else base, found.target, now_ns)
        if change is not None:
            self.changes.append((account, change))
            self.change_count += 1
            self.change_counts[account] = self.change_counts.get(account, 0) + 1
