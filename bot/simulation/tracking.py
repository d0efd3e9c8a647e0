"""How far a run's net delta was off, in money: what that could have cost a day, and what it did.

Watches an engine from outside; must never change it. Beside `bot.simulation.score`, which has the delta rms of one
underlying in base units, this adds up over underlyings that move together.
"""

from __future__ import annotations

from math import isfinite, log, sqrt

from bot.domain.units import NS_PER_DAY, NS_PER_MIN
from bot.engine.engine import Engine


class Tracking:
    """Residual exposure weighed with time, and the moves of prices by the minute; gaps of the data left out.

    An underlying that is off by e at a price S loses e·S per unit of log return. With x = e·S of all underlyings and C
    the covariance of their returns over the run, a day's tracking error has the variance of mean(xᵀ C x). That is what
    an average path would do with the exposure that was held; `realised` is what the run's own path did.
    """

    def __init__(self, engine: Engine) -> None:
        self._desks = list(engine.desks.values())
        self._gap_ns = engine.settings.gap_ns
        count = len(self._desks)
        self._now_ns = 0
        self._off_base = [0.0] * count
        self._px = [0.0] * count
        self._held_ns = 0
        self._squares = [[0.0] * count for _ in range(count)]  # of x, times nanoseconds
        self._minute_ns = 0
        self._minute_px = [0.0] * count
        self._minute_quote = 0.0
        self._moved_ns = 0
        self._returns = [[0.0] * count for _ in range(count)]
        self._realised = 0.0

    def observe(self, now_ns: int) -> None:
        """Take in the decisions of one moment, letting the previous ones stand until now."""
        off_base, px = [], []
        for desk in self._desks:
            decision = desk.decision
            excess = decision.greeks.delta_base - decision.target_delta_base if decision is not None else 0.0
            if decision is None or not (isfinite(excess) and decision.spot_px > 0.0):
                self._now_ns = 0
                return
            off_base.append(excess)
            px.append(decision.spot_px)
        elapsed_ns = now_ns - self._now_ns
        if self._now_ns and elapsed_ns <= self._gap_ns:
            self._hold(elapsed_ns, px)
            if now_ns - self._minute_ns >= NS_PER_MIN:
                self._close_minute(now_ns, px)
        else:
            self._minute_ns, self._minute_px, self._minute_quote = now_ns, px, 0.0
        self._now_ns, self._off_base, self._px = now_ns, off_base, px

    @property
    def sd_day_quote(self) -> float:
        """One standard deviation of a day's tracking error, from the exposure held and the moves of the whole run."""
        if not (self._held_ns and self._moved_ns):
            return 0.0
        scale = NS_PER_DAY / (self._held_ns * self._moved_ns)
        rows = zip(self._squares, self._returns, strict=True)
        return sqrt(
            max(0.0, scale * sum(x * r for squares, returns in rows for x, r in zip(squares, returns, strict=True)))
        )

    @property
    def realised_sd_day_quote(self) -> float:
        """The same from what the exposure did earn and lose, minute by minute."""
        return sqrt(self._realised * NS_PER_DAY / self._moved_ns) if self._moved_ns else 0.0

    def _hold(self, elapsed_ns: int, px: list[float]) -> None:
        held = [off * old_px for off, old_px in zip(self._off_base, self._px, strict=True)]
        self._held_ns += elapsed_ns
        for squares, one in zip(self._squares, held, strict=True):
            for place, other in enumerate(held):
                squares[place] += one * other * elapsed_ns
        self._minute_quote += sum(
            off * (new_px - old_px) for off, new_px, old_px in zip(self._off_base, px, self._px, strict=True)
        )

    def _close_minute(self, now_ns: int, px: list[float]) -> None:
        moves = [log(new_px / old_px) for new_px, old_px in zip(px, self._minute_px, strict=True)]
        for returns, one in zip(self._returns, moves, strict=True):
            for place, other in enumerate(moves):
                returns[place] += one * other
        self._realised += self._minute_quote * self._minute_quote
        self._moved_ns += now_ns - self._minute_ns
        self._minute_ns, self._minute_px, self._minute_quote = now_ns, px, 0.0
