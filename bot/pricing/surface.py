"""Vols for strikes without a fresh quote, from the quoted smiles of one underlying.

Total variance w = vol² tau is linear in log-moneyness k = ln(K/F) within an expiry, and linear in time at constant k
between two; outside the quotes the vol is flat. It must never invent a calendar arbitrage that the smiles do not have,
and never price anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Smile:
    """The quoted vols of one expiry, by strictly rising log-moneyness ln(K/F).

    Raises ValueError unless `tau_years` is positive and the two arrays are of one length, finite, sorted and positive.
    """

    tau_years: float
    log_moneyness: Floats
    vol: Floats

    def __post_init__(self) -> None:
        if not 0.0 < self.tau_years < np.inf:
            raise ValueError(f"expected a positive tau_years, found {self.tau_years}; hint: leave out expired options")
        if self.log_moneyness.ndim != 1 or self.log_moneyness.shape != self.vol.shape or not self.vol.size:
            raise ValueError(
                f"expected two flat arrays of one length, not empty, found log_moneyness {self.log_moneyness.shape} "
                f"and vol {self.vol.shape}; hint: one vol per quoted strike"
            )
        if not (np.isfinite(self.log_moneyness).all() and (np.diff(self.log_moneyness) > 0.0).all()):
            raise ValueError(
                f"expected finite, strictly rising log_moneyness, found {self.log_moneyness}; hint: sort by "
                "strike, one quote each"
            )
        if not ((self.vol > 0.0) & (self.vol < np.inf)).all():
            raise ValueError(f"expected positive vols, found {self.vol}; hint: leave out strikes without a quote")


def interpolate_vol(smiles: Sequence[Smile], tau_years: float, log_moneyness: ArrayLike) -> Floats:
    """Return the vol at each `log_moneyness` ln(K/F) for one time to expiry, in the shape of `log_moneyness`.

    `smiles` come in strictly rising order of `tau_years`. Between the expiries a < b that enclose it,
    w(k) = w_a(k) + (w_b(k) - w_a(k)) (tau - tau_a)/(tau_b - tau_a), so w rises with tau wherever w_a <= w_b; before the
    first and after the last expiry the vol at k is that expiry's. Raises ValueError for no smiles, smiles out of order,
    a `tau_years` that is not positive and a `log_moneyness` that is not finite.
    """
    k = np.asarray(log_moneyness, dtype=np.float64)
    taus_years = [smile.tau_years for smile in smiles]
    if not taus_years:
        raise ValueError("expected at least one smile, found none; hint: no quote of this underlying is fresh")
    if not all(near < far for near, far in pairwise(taus_years)):
        raise ValueError(
            f"expected smiles in strictly rising order of tau_years, found {taus_years}; hint: one per expiry"
        )
    if not 0.0 < tau_years < np.inf:
        raise ValueError(f"expected a positive tau_years, found {tau_years}; hint: leave out expired options")
    if not np.isfinite(k).all():
        raise ValueError(f"expected finite log_moneyness, found {k}; hint: ln(strike / forward), both positive")

    after = int(np.searchsorted(taus_years, tau_years))
    before = after - 1
    if before < 0 or after == len(smiles) or taus_years[after] == tau_years:
        nearest = smiles[min(after, len(smiles) - 1)]
        return np.asarray(np.sqrt(_total_variance(nearest, k) / nearest.tau_years))
    share = (tau_years - taus_years[before]) / (taus_years[after] - taus_years[before])
    near_w, far_w = _total_variance(smiles[before], k), _total_variance(smiles[after], k)
    return np.asarray(np.sqrt((near_w + share * (far_w - near_w)) / tau_years))


def _total_variance(smile: Smile, k: Floats) -> Floats:
    """Return w at `k`, which beyond the outermost strikes stays at theirs."""
    return np.interp(k, smile.log_moneyness, smile.vol**2 * smile.tau_years)
