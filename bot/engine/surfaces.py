"""The fitted surface of one underlying, for what nobody quotes now: fitted when asked for, and not again for a while.

Fitting takes milliseconds, so that it must never be asked for by a decision that has fresh quotes of all it holds.
"""

from __future__ import annotations

from bot.domain.units import NS_PER_MIN
from bot.engine.market import MarketState
from bot.pricing.fitted_surface import Slice, Surface, fit_surface

REFIT_AFTER_NS = NS_PER_MIN


class SurfaceKeeper:
    """The newest fit to the fresh quotes of one underlying, and why it is not what it could be."""

    def __init__(self, underlying: str, market: MarketState) -> None:
        self._underlying = underlying
        self._market = market
        self._surface: Surface | None = None
        self._slice_of: dict[int, Slice] = {}
        self._fitted_ns = 0
        self.fits = 0
        self.fallbacks: dict[str, str] = {}  # expiry → why its newest slice is not SVI

    def surface(self, now_ns: int) -> Surface | None:
        """Return the surface of all fresh quotes, at most a minute old; None where there are none."""
        if not self._fitted_ns or now_ns - self._fitted_ns >= REFIT_AFTER_NS:
            self._fit(now_ns)
        return self._surface

    def slice_of(self, expiry_ns: int, now_ns: int) -> Slice | None:
        """Return the slice of an expiry in that surface, None where it has no fresh quotes."""
        self.surface(now_ns)
        return self._slice_of.get(expiry_ns)

    def _fit(self, now_ns: int) -> None:
        quoted = self._market.fresh_quotes(self._underlying, now_ns)
        self._fitted_ns = now_ns
        self._surface = fit_surface([quotes for _, quotes in quoted]) if quoted else None
        self._slice_of, self.fallbacks = {}, {}
        if self._surface is None:
            return
        self.fits += 1
        for (expiry, _), one in zip(quoted, self._surface.slices, strict=True):
            self._slice_of[expiry.expiry_ns] = one
            if one.fallback:
                self.fallbacks[expiry.label] = f"{one.fallback}: {one.kind}"
