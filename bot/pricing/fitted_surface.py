"""The vol of every strike and expiry of one underlying, fitted to its quotes and free of arbitrage where it can be.

Each expiry is an SVI slice, mended where it could be arbitraged, else its slice of an SSVI surface, which is free by
construction, else its quotes joined by lines as in `surface`; and it says which, and why. It is fitted from the last
expiry to the first, because the later ones are quoted the more tightly: the earlier one gives way. Between two expiries
total variance is linear in time at constant ln(K/F), so it rises wherever it rises from slice to slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import exp, log1p, tanh
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from bot.pricing.surface import Smile
from bot.pricing.svi import MAX_WING_SLOPE, RawSvi, Ssvi, least_density, least_gap
from bot.pricing.svi_fit import SmileQuotes, fit_slice, is_free, mend, vol_errors

Floats = NDArray[np.float64]

MIN_QUOTES: Final = 6  # strikes; five would fit any five numbers
MAX_RMS_HALF_SPREADS: Final = 1.5  # a worse fit than this, and …
MAX_RMS_VOL: Final = 0.005  # … than this is none
_INSIDE_SLACK: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One expiry of a surface: how it is drawn, how well that fits, and what was done or not done and why.

    `rms_vol` and `rms_half_spreads` are of the strikes quoted on both sides (of all where there is none), and
    `inside_share` is the share of those whose fitted vol lies between bid and ask. `repair` says what the first fit
    broke ("butterfly", "calendar"), `fallback` why it is not SVI. At the quoted ln(K/F) `nodes`, quoted less fitted
    total variance is `residual_w`.
    """

    tau_years: float
    curve: RawSvi | Smile
    kind: Literal["svi", "ssvi", "linear"]
    rms_vol: float
    rms_half_spreads: float
    inside_share: float
    nodes: Floats
    residual_w: Floats
    repair: str = ""
    fallback: str = ""

    def total_variance(self, log_moneyness: Floats) -> Floats:
        """Return w at every ln(K/F); beyond the outermost quotes of a line it stays as there."""
        if isinstance(self.curve, RawSvi):
            return self.curve.total_variance(log_moneyness)
        return np.interp(log_moneyness, self.curve.log_moneyness, self.curve.vol**2 * self.curve.tau_years)

    @property
    def deviation(self) -> float:
        """Standard deviation of the log price to expiry, as the vol at the money has it."""
        return float(np.sqrt(self.total_variance(np.zeros(1))[0]))

    def gap_at(self, log_moneyness: float) -> float:
        """Return how far apart the quoted ln(K/F) on either side of this one are: 0 at a quote, infinite beyond all."""
        right = int(np.searchsorted(self.nodes, log_moneyness))
        if right < len(self.nodes) and self.nodes[right] == log_moneyness:
            return 0.0
        return float(self.nodes[right] - self.nodes[right - 1]) if 0 < right < len(self.nodes) else np.inf

    def mark_vol(self, log_moneyness: Floats) -> Floats:
        """Return the vol an unquoted strike is best marked at: the curve, bent to meet the quotes of its neighbours.

        What the quotes lie off the curve is joined by lines, so that a strike is marked as before when its own quote
        goes. Nothing is free of arbitrage that meets quotes which are not; on recordings it misses hidden quotes by
        less than either the curve or lines alone (docs/smile-deltas.md).
        """
        w = self.total_variance(log_moneyness)
        bent = w + np.interp(log_moneyness, self.nodes, self.residual_w)
        return np.asarray(np.sqrt(np.where(bent > 0.0, bent, w) / self.tau_years))


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """The slices of one underlying in rising order of `tau_years`. Raises ValueError for none or another order."""

    slices: tuple[Slice, ...]

    def __post_init__(self) -> None:
        taus_years = [one.tau_years for one in self.slices]
        if not taus_years or not all(near < far for near, far in pairwise(taus_years)):
            raise ValueError(
                f"expected slices in strictly rising order of tau_years, found {taus_years}; hint: one per expiry"
            )

    def total_variance(self, log_moneyness: ArrayLike, tau_years: float) -> Floats:
        """Return w = vol² tau at every ln(K/F): linear in time between two slices, in proportion to it outside."""
        if not 0.0 < tau_years < np.inf:
            raise ValueError(f"expected a positive tau_years, found {tau_years}; hint: leave out expired options")
        k = np.asarray(log_moneyness, dtype=np.float64)
        slices = self.slices
        after = next((i for i, one in enumerate(slices) if one.tau_years >= tau_years), len(slices))
        if after in (0, len(slices)) or slices[after].tau_years == tau_years:
            nearest = slices[min(after, len(slices) - 1)]
            return np.asarray(nearest.total_variance(k) * (tau_years / nearest.tau_years))
        near, far = slices[after - 1], slices[after]
        share = (tau_years - near.tau_years) / (far.tau_years - near.tau_years)
        near_w = near.total_variance(k)
        return np.asarray(near_w + share * (far.total_variance(k) - near_w))

    def vol(self, log_moneyness: ArrayLike, tau_years: float) -> Floats:
        """Return the vol at every ln(K/F) for one time to expiry."""
        return np.asarray(np.sqrt(self.total_variance(log_moneyness, tau_years) / tau_years))

    def skew(self, log_moneyness: ArrayLike, tau_years: float) -> Floats:
        """Return dvol/dln(K) at every ln(K/F), by a central difference a thousandth wide."""
        k = np.asarray(log_moneyness, dtype=np.float64)
        step = 5e-4
        return np.asarray((self.vol(k + step, tau_years) - self.vol(k - step, tau_years)) / (2.0 * step))

    def shifted(self, spot_fraction: float, vol_fraction: float, stickiness_ratio: float = 0.0) -> Surface:
        """Return the surface after the spot moves by `spot_fraction`, and every vol by `vol_fraction` of itself.

        `stickiness_ratio` is the skew-stickiness ratio R: at 0 the smile moves with the spot (each ln(K/F) keeps its
        vol), at 1 each strike keeps its vol, and at 2 vol at the money moves by twice the skew. Calendar spreads stay
        free of arbitrage; a smile moved against its forward, or a vol raised by a lot, may bring butterflies
        (`find_arbitrage`).
        """
        if not (spot_fraction > -1.0 and vol_fraction > -1.0):
            raise ValueError(
                f"expected moves above -100 %, found spot {spot_fraction} and vol {vol_fraction}; hint: fractions, not "
                "percent"
            )
        move, factor = -stickiness_ratio * log1p(spot_fraction), (1.0 + vol_fraction) ** 2
        return Surface(tuple(_shifted(one, move, factor) for one in self.slices))

    def find_arbitrage(self) -> list[str]:
        """Return what could be arbitraged within the fitted slices and between any two that follow each other."""
        found = [
            f"butterfly at {one.tau_years:.4f} years, ln(K/F) {lowest.log_moneyness:.3f}"
            for one in self.slices
            if isinstance(one.curve, RawSvi) and (lowest := least_density(one.curve)).value < 0.0
        ]
        for near, far in pairwise(self.slices):
            if isinstance(near.curve, RawSvi) and isinstance(far.curve, RawSvi):
                gap = least_gap(near.curve, far.curve)
                if gap.value < -1e-12:
                    found.append(f"calendar at {near.tau_years:.4f} years, ln(K/F) {gap.log_moneyness:.3f}")
        return found

    @property
    def fallbacks(self) -> list[str]:
        """Why slices are not SVI, one line each."""
        return [f"{one.tau_years * 365.0:.2f} d: {one.fallback}, {one.kind}" for one in self.slices if one.fallback]


def fit_surface(smiles: Sequence[SmileQuotes]) -> Surface:
    """Return the surface nearest to the quotes of all expiries, given in strictly rising order of `tau_years`."""
    if not smiles:
        raise ValueError("expected at least one smile, found none; hint: no quote of this underlying is fresh")
    ssvi: list[RawSvi | None] | None = None
    slices: list[Slice] = []
    far: RawSvi | None = None
    for i in range(len(smiles) - 1, -1, -1):
        quotes = smiles[i]
        one = _fit_one(quotes, far)
        if one.kind == "linear" and len(quotes.vol) > 1:
            ssvi = fit_ssvi_slices(smiles) if ssvi is None else ssvi
            candidate = ssvi[i]
            if candidate is not None and is_free(candidate, far):
                free = _describe(quotes, candidate, "ssvi", fallback=one.fallback)
                one = free if _is_good(free) else one
        slices.append(one)
        far = one.curve if isinstance(one.curve, RawSvi) else far
    return Surface(tuple(reversed(slices)))


def fit_ssvi(smiles: Sequence[SmileQuotes]) -> tuple[Ssvi, list[float]] | None:
    """Return the SSVI surface free of arbitrage nearest to all quotes, and its thetas; None for too few quotes.

    Variance at the money must rise with time: where quotes do not, expiries are pooled, weighted by what they quote.
    """
    if sum(len(quotes.vol) for quotes in smiles) < MIN_QUOTES:
        return None
    at_money = [float(np.interp(0.0, one.log_moneyness, one.vol**2 * one.tau_years)) for one in smiles]
    thetas0 = _rising(at_money, [1.0 / float(one.half_vol.min()) / one.tau_years for one in smiles])
    n = len(smiles)

    def unpack(x: Floats) -> tuple[Ssvi, list[float]]:
        rho = 0.999 * tanh(float(x[0]))
        most = MAX_WING_SLOPE * (1.0 - 1e-9) / (1.0 + abs(rho))
        ssvi = Ssvi(rho, most / (1.0 + exp(-float(x[1]))), max(1e-6, 0.5 / (1.0 + exp(-float(x[2])))))
        return ssvi, np.cumsum(np.exp(x[3:])).tolist()

    def residuals(x: Floats) -> Floats:
        ssvi, thetas = unpack(x)
        return np.concatenate(
            [
                vol_errors(quotes, ssvi.slice(theta)) / quotes.half_vol
                for quotes, theta in zip(smiles, thetas, strict=True)
            ]
        )

    steps = np.maximum(np.diff([0.0, *thetas0]), 1e-9)
    x0 = np.concatenate([[-0.2, 0.0, 0.0], np.log(steps)])
    low, high = np.concatenate([[-4.0, -8.0, -8.0], np.full(n, -30.0)]), np.concatenate([[4.0] * 3, np.full(n, 5.0)])
    x = least_squares(residuals, np.clip(x0, low + 1e-6, high - 1e-6), bounds=(low, high), max_nfev=40).x
    return unpack(x)


def fit_ssvi_slices(smiles: Sequence[SmileQuotes]) -> list[RawSvi | None]:
    """Return the slices of `fit_ssvi` by expiry, None for each where there is no such fit."""
    found = fit_ssvi(smiles)
    if found is None:
        return [None] * len(smiles)
    ssvi, thetas = found
    return [ssvi.slice(theta) for theta in thetas]


def _fit_one(quotes: SmileQuotes, far: RawSvi | None) -> Slice:
    if len(quotes.vol) < MIN_QUOTES:
        return _linear(quotes, f"{len(quotes.vol)} strikes are too few")
    svi, repair = fit_slice(quotes), ""
    if not _is_good(_describe(quotes, svi, "svi")):
        return _linear(quotes, "no slice fits the quotes")
    broken = []
    if least_density(svi).value < 0.0:
        broken.append("butterfly")
    if far is not None and least_gap(svi, far).value < 0.0:
        broken.append("calendar")
    if broken:
        repair = " and ".join(broken)
        mended = mend(quotes, svi, far)
        if mended is None or not _is_good(_describe(quotes, mended, "svi")):
            return _linear(quotes, f"{repair} arbitrage in the quotes")
        svi = mended
    return _describe(quotes, svi, "svi", repair=repair)


def _is_good(one: Slice) -> bool:
    return one.rms_half_spreads <= MAX_RMS_HALF_SPREADS or one.rms_vol <= MAX_RMS_VOL


def _linear(quotes: SmileQuotes, why: str) -> Slice:
    smile = Smile(quotes.tau_years, quotes.log_moneyness, quotes.vol)
    return Slice(
        quotes.tau_years, smile, "linear", 0.0, 0.0, 1.0, smile.log_moneyness, np.zeros(len(smile.vol)), fallback=why
    )


def _describe(
    quotes: SmileQuotes, svi: RawSvi, kind: Literal["svi", "ssvi"], *, repair: str = "", fallback: str = ""
) -> Slice:
    errors = vol_errors(quotes, svi)
    is_two_sided = quotes.is_two_sided
    counted = is_two_sided if is_two_sided.any() else np.ones(len(errors), dtype=np.bool_)
    fitted = (quotes.vol + errors)[is_two_sided]
    is_inside = (fitted >= quotes.bid_vol[is_two_sided] - _INSIDE_SLACK) & (
        fitted <= quotes.ask_vol[is_two_sided] + _INSIDE_SLACK
    )
    return Slice(
        quotes.tau_years,
        svi,
        kind,
        float(np.sqrt(np.mean(errors[counted] ** 2))),
        float(np.sqrt(np.mean((errors / quotes.half_vol)[counted] ** 2))),
        float(is_inside.mean()) if is_two_sided.any() else 1.0,
        quotes.log_moneyness,
        quotes.vol**2 * quotes.tau_years - svi.total_variance(quotes.log_moneyness),
        repair,
        fallback,
    )


def _shifted(one: Slice, move: float, factor: float) -> Slice:
    curve, nodes, residual_w = one.curve, one.nodes + move, one.residual_w * factor
    if isinstance(curve, RawSvi):
        return replace(one, curve=curve.moved(move).scaled(factor), nodes=nodes, residual_w=residual_w)
    return replace(one, nodes=nodes, curve=Smile(curve.tau_years, curve.log_moneyness + move, curve.vol * factor**0.5))


def _rising(values: list[float], weights: list[float]) -> list[float]:
    """Return the nearest rising values, by pooling neighbours that fall (isotonic regression)."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (a, wa, na), (b, wb, nb) = pools[-2:]
            pools[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return [value for value, _, count in pools for _ in range(count)]
