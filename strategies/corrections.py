"""What a closed-form band is corrected by: the time between two looks, the time left, and the cost's own delta."""

from __future__ import annotations

from math import inf, isfinite, isnan
from typing import Literal, NamedTuple

from pydantic import Field

from bot.domain.decisions import HedgeView, Peer
from bot.pricing.bands import (
    band_half_base,
    centre_vol_ratio,
    closing_half_base,
    daily_sd_half_base,
    delta_sd_base,
    floor_half_base,
    floored_half_base,
    monitored_half_base,
)
from bot.pricing.ex_ante import expected_cost
from bot.pricing.matrix_band import Companion, joint_band
from strategies.modified_delta import delta_shift_base
from strategies.risk import RiskAverse

UNKNOWN_HEDGE = "holding: which hedge is wanted is not known, as net delta or the hedge held is no number"
MOST_SHIFT_SHARE = 0.5  # of the half-width: a local centre further out is more than the local theory of costs can tell
MOST_VOL = 100.0  # 10,000 %: beyond it is no vol


class Band(NamedTuple):
    """The band before its corrections, and what they need; `half_base` is NaN where there is none.

    `wanted_base` is the hedge that is wanted, where it will have to be closed at a cost: 0 where that makes no
    difference, NaN where nobody knows. A hedge shrinks to within `closing_base` of what is wanted.
    `gamma_base_per_px` is what it was made of, `joint_base` the part of `shift_base` that is due to other underlyings.
    """

    half_base: float
    risk_aversion_per_quote: float
    step_base: float
    floor_base: float
    shift_base: float
    gamma_base_per_px: float
    joint_base: float = 0.0
    wanted_base: float = 0.0
    closing_base: float = inf

    @property
    def opening_floor_base(self) -> float:
        """The floor of the edge at which a hedge grows: twice H0 where what is opened must be closed as well."""
        return 2.0 * self.floor_base if self.wanted_base else self.floor_base


class CorrectedBand(RiskAverse):
    """A band around the target delta with the corrections of a discrete, finite world.

    `monitoring_correction`: net delta is found beyond its trigger, not at it, by 0.5826 of what it wanders between two
    looks; the trigger is set that much nearer (Broadie, Glasserman & Kou 1997).

    `h0_floor`: H0 = k/(g S σ² τ) is added in cubes, (H³ + H0³)^(1/3), τ being the time to the last expiry: far from the
    strike, where gamma is nearly 0 and the band would close, a trade has to earn its cost in the time that is left. At
    the very end no trade does, and the hedge is left as it is. A daily limit is a limit: it gets no floor.

    `centre_term`: the cost of hedging is part of what the book is worth, and so has a delta of its own, by which the
    centre moves. `local` takes it as a change of vol (`bot.pricing.bands.centre_vol_ratio`), at most half a half-width,
    `exact` as dW/dS of `bot.pricing.ex_ante`, which takes milliseconds per decision.

    `unwinds_at_expiry`: what is opened now is closed when the options expire, so it costs k twice, and what is closed
    now costs nothing, as it would be closed anyway. The edge at which the hedge grows has a floor of 2 H0; the one at
    which it shrinks is never further out than 0.7 of what delta will still wander until expiry. Which is which goes by
    the sign of the hedge that is wanted, not of the one that is held. It is part of the floor. Off by
    default: a desk that rolls its book keeps its hedge, and to expect a closing that never comes costs more than not to
    expect one.

    Where the vault has other underlyings that move along (`view.peers`), the band is that of all of them together: its
    centre moves against what they are off by, its gamma is the joint one (`bot.pricing.matrix_band`). Not so under a
    daily limit, which is one for each underlying.

    All of them need the vol of the view; without one the band is left as it was.
    """

    monitoring_correction: bool = Field(
        default=True, description="Set the trigger nearer by what delta wanders between two looks"
    )
    h0_floor: bool = Field(default=True, description="Widen the band by k/(gSσ²τ), which the time left must earn back")
    unwinds_at_expiry: bool = Field(
        default=False, description="With that floor: what is opened must be closed at the last expiry, at a cost"
    )
    centre_term: Literal["none", "local", "exact"] = Field(
        default="local", description="Move the centre by the delta of the hedging cost itself; exact is slow"
    )

    def band(self, view: HedgeView) -> Band:
        """Return the band of Whalley & Wilmott for this view, and its corrections."""
        spot_px, gamma, cost_rate, vol = view.spot_px, view.greeks.gamma_base_per_px, view.cost_rate, view.vol
        risk_aversion = self.risk_aversion_at(view)
        is_vol_known, is_daily_limit = 0.0 < vol <= MOST_VOL, self.is_daily_limit
        step = floor = shift = joint = 0.0
        if view.peers and is_vol_known and not is_daily_limit and risk_aversion > 0.0:
            others = [_companion(peer) for peer in view.peers]
            gamma, joint = joint_band(spot_px, vol, gamma, risk_aversion, others)
        if is_daily_limit:
            words = self.risk_aversion
            limit_quote = words.daily_sd_quote if words is not None and words.daily_sd_quote is not None else 0.0
            is_sound = is_vol_known and isfinite(gamma) and isfinite(cost_rate) and 0.0 < spot_px < inf
            half = daily_sd_half_base(limit_quote, spot_px, vol) if is_sound else inf
        else:
            half = band_half_base(cost_rate, spot_px, gamma, risk_aversion)
            if self.h0_floor and is_vol_known and cost_rate > 0.0:
                floor = floor_half_base(cost_rate, spot_px, vol, horizon_years(view), risk_aversion)
        if not (isfinite(half) and spot_px > 0.0):
            return Band(float("nan"), risk_aversion, step, floor, shift, gamma)
        if self.monitoring_correction and is_vol_known:
            step = delta_sd_base(gamma, spot_px, vol, view.monitor_years)
        if is_vol_known and cost_rate > 0.0 and risk_aversion > 0.0:
            shift = self._shift_base(view, risk_aversion)
            shift = shift if isfinite(shift) else 0.0
            if self.centre_term == "local":
                shift = max(-MOST_SHIFT_SHARE * half, min(MOST_SHIFT_SHARE * half, shift))
        band = Band(max(0.0, half), risk_aversion, step, floor, shift + joint, gamma, joint)
        if self.unwinds_at_expiry and floor > 0.0:
            wanted_base = view.hedge_base - (view.greeks.delta_base - view.target_delta_base - shift - joint)
            closing = closing_half_base(gamma, spot_px, vol, horizon_years(view))
            known_base = wanted_base if isfinite(wanted_base) else float("nan")
            band = band._replace(wanted_base=known_base, closing_base=closing)
        return band

    def _shift_base(self, view: HedgeView, risk_aversion: float) -> float:
        spot_px, vol, cost_rate = view.spot_px, view.vol, view.cost_rate
        if self.centre_term == "exact":  # as coarse as is still right to a per cent
            return expected_cost(
                view.legs, spot_px, vol, cost_rate, risk_aversion, time_points=5, points_per_sd=1.0
            ).slope_base
        if self.centre_term == "none":
            return 0.0
        ratio = centre_vol_ratio(cost_rate, spot_px, view.greeks.gamma_base_per_px, risk_aversion)
        if isnan(view.vanna_base_per_vol):
            return delta_shift_base(view.legs, ratio)
        return -view.vanna_base_per_vol * vol * (ratio - 1.0)


def horizon_years(view: HedgeView) -> float:
    """Return the time for which being off the target costs anything: to the last expiry; infinite if unknown."""
    years = view.tau_years if isnan(view.horizon_years) else view.horizon_years
    return inf if isnan(years) else years


def edges_base(half_base: float, band: Band) -> tuple[float, float]:
    """Return how far below and above its centre a band of `half_base` reaches, corrections included; NaN: nobody knows.

    Net delta is below the band where the hedge is too short, so that is where a long one would grow.
    """
    monitored_base = monitored_half_base(half_base, band.step_base) if band.step_base else half_base
    if not band.wanted_base:
        floored_base = floored_half_base(monitored_base, band.floor_base)
        return floored_base, floored_base
    opening_base = floored_half_base(monitored_base, band.opening_floor_base)
    closing_base = min(floored_half_base(monitored_base, band.floor_base), band.closing_base)
    return by_side(band, opening_base, closing_base)


def by_side(band: Band, opening_base: float, closing_base: float) -> tuple[float, float]:
    """Return which of the two is below the centre and which above; NaN if the hedge wanted is not known."""
    if isnan(band.wanted_base):
        return band.wanted_base, band.wanted_base
    return (opening_base, closing_base) if band.wanted_base > 0.0 else (closing_base, opening_base)


def width(below_base: float, above_base: float) -> str:
    """Return how wide a band is, in words."""
    if below_base == above_base:
        return f"±{above_base:.4g}"
    below, above = f"{below_base:.4g}", f"{above_base:.4g}"
    return f"±{above}" if below == above else f"−{below} +{above}"


def about(view: HedgeView, band: Band) -> str:
    """Return the numbers a band was made of."""
    text = (
        f"k {view.cost_rate * 1e4:.3g} bp, gamma {view.greeks.gamma_base_per_px:.3g},"
        f" g {band.risk_aversion_per_quote:.3g}"
    )
    if band.floor_base:
        text += f", floor {band.floor_base:.3g}"
    if band.shift_base:
        text += f", centre {band.shift_base:+.3g}"
    if view.peers and (band.joint_base or band.gamma_base_per_px != view.greeks.gamma_base_per_px):
        others = " and ".join(f"{peer.underlying} ({peer.correlation_ratio:+.2f})" for peer in view.peers)
        text += f", with {others} {band.joint_base:+.3g}, joint gamma {band.gamma_base_per_px:.3g}"
    return text


def _companion(peer: Peer) -> Companion:
    return Companion(
        peer.spot_px, peer.vol, peer.gamma_base_per_px, peer.cost_rate, peer.correlation_ratio, peer.off_base
    )


def too_late(view: HedgeView) -> str:
    """Return why nothing is traded in the last moment."""
    return f"holding: {view.underlying} has no time left in which a hedge could earn its cost"
