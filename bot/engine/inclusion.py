"""How much to trade for the block a transaction lands in: size, limit, fee and deadline of an order on a chain.

A policy says where net delta should be; it knows nothing of blocks. Here its band is fitted to what a transaction
costs (gas, and more of it for those that fail), net delta is carried on to the moment of inclusion, everything in
flight counted, and the limit leaves room for how far the price may move until then. Uncertainty is a cost and never a
reason to widen: what delta does while a transaction waits cannot be helped (`bot.pricing.impulse`).

Nothing here sends or remembers anything, but for `RealizedVol`, which an engine feeds.
"""

from __future__ import annotations

from math import inf, isfinite, log, pi, sqrt
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bot.domain.decisions import HedgeTarget, HedgeView, Legs, Refusal
from bot.domain.market import ExecutionTerms, GasTier, Quote
from bot.domain.orders import GasBid
from bot.domain.units import BPS, NS_PER_HOUR, NS_PER_S, NS_PER_YEAR
from bot.engine.anticipation import anticipated_drift_base
from bot.engine.settings import HedgeSettings
from bot.engine.sizing import lots_to_trade
from bot.pricing import impulse as local
from bot.pricing.black76 import greeks

MAX_TERMS_BLOCKS = 5  # terms older than this many blocks say nothing of the next one …
MIN_TERMS_AGE_NS = 3 * NS_PER_S  # … but blocks of a quarter of a second may be late by more than that
MAX_REVERT_FRACTION = 0.9  # of our transactions; beyond it the number of tries to expect would have no bound
LEAST_DRIFT_SDS = 2.0  # one in 44 fails by chance; nearer, failures in a row would soon look like a fault
MOST_DRIFT_SDS = 4.0
DEADLINE_BLOCKS = 2  # beyond the delay that 95 of 100 transactions keep
START_VOL = 0.8  # of a crypto index before anything was seen of it
VOL_HALF_LIFE_NS = NS_PER_HOUR
VOL_SAMPLE_NS = 10 * NS_PER_S  # nearer samples would measure the bounce between bid and ask


class Plan(NamedTuple):
    """One order on a chain: the view and the band it is sized by, and all that goes into its transaction."""

    view: HedgeView
    target: HedgeTarget
    lots: int
    limit_ticks: int
    gas: GasBid
    note: str


class RealizedVol:
    """The vol of an index by an average of squared log returns that halves its memory every hour of event time.

    It starts from `START_VOL` as if that had been measured, and takes a sample no more often than every ten seconds.
    """

    def __init__(self) -> None:
        self._variance_rate = START_VOL * START_VOL  # per year
        self._px = 0.0
        self._ns = 0

    @property
    def vol(self) -> float:
        """Annualised."""
        return sqrt(self._variance_rate)

    def note(self, px: float, ts_ns: int) -> None:
        """Take in the index as of `ts_ns`."""
        elapsed_ns = ts_ns - self._ns
        if not self._px:
            self._px, self._ns = px, ts_ns
        elif elapsed_ns >= VOL_SAMPLE_NS:
            squared = log(px / self._px) ** 2 / (elapsed_ns / NS_PER_YEAR)
            weight = 1.0 - 2.0 ** (-elapsed_ns / VOL_HALF_LIFE_NS)
            self._variance_rate += weight * (squared - self._variance_rate)
            self._px, self._ns = px, ts_ns


def gamma_weighted_vol(legs: Legs, gamma_per_px: NDArray[np.float64] | None = None) -> float:
    """Return the vol of the option legs, each counted by how much gamma it has; NaN without gamma.

    `gamma_per_px` is that of one option each, where it has been computed already.
    """
    alive = (legs.tau_years > 0.0) & (legs.qty_base != 0.0)
    n = np.count_nonzero(alive)
    if not n:
        return float("nan")
    vol, qty_base = legs.vol, legs.qty_base
    if gamma_per_px is None:
        marks = greeks(
            legs.forward_px[alive], legs.strike_px[alive], legs.tau_years[alive], vol[alive], legs.is_call[alive]
        )
        vol, qty_base, gamma_per_px = vol[alive], qty_base[alive], marks.gamma
    elif n < len(vol):
        vol, qty_base, gamma_per_px = vol[alive], qty_base[alive], gamma_per_px[alive]
    weights = np.abs(qty_base * gamma_per_px)
    total = float(weights.sum())
    return float(weights.dot(vol)) / total if 0.0 < total < inf else float("nan")


def stale_terms_text(terms: ExecutionTerms | None, instrument_id: str, now_ns: int) -> str:
    """Return why the terms say nothing of the next block, "" if they do."""
    if terms is None:
        return f"no terms of trading {instrument_id} yet: what a transaction costs is not known"
    limit_ns = max(MAX_TERMS_BLOCKS * terms.block_ns, MIN_TERMS_AGE_NS)
    age_ns = now_ns - terms.ts_event_ns
    if age_ns <= limit_ns:
        return ""
    return f"terms of {instrument_id} are {age_ns / NS_PER_S:.1f} s old, limit {limit_ns / NS_PER_S:.1f} s"


def expected_tries(terms: ExecutionTerms) -> float:
    """Return how many transactions it takes for one to succeed, by the share of ours that failed."""
    return 1.0 / (1.0 - min(MAX_REVERT_FRACTION, max(0.0, terms.revert_fraction)))


def fixed_cost_quote(terms: ExecutionTerms) -> float:
    """Return what a trade costs at least whatever its size: the cheapest tier's gas, for as many tries as it takes."""
    return min(tier.gas_quote for tier in terms.tiers) * expected_tries(terms)


def drift_sds(revert_quote: float, sd_quote: float, worse_fill_probability: float) -> float:
    """Return how many standard deviations of the price's drift the limit allows: z.

    A limit z away fails by chance with probability P(Z > z) and then costs `revert_quote` (gas, and the delay of
    another try). All it allows may be taken by whoever orders the block, which happens with
    `worse_fill_probability` and costs z · `sd_quote`, one standard deviation times what is traded. The sum
    R·P(Z > z) + p·W·z is least where the normal density is p·W/R: z = √(−2 ln(√(2π) p W / R)), between two and four.
    A worse fill that is only the market's drift costs nothing on average: the price is as likely to go on as to return.
    """
    if worse_fill_probability <= 0.0 or sd_quote <= 0.0:
        return MOST_DRIFT_SDS
    density = sqrt(2.0 * pi) * worse_fill_probability * sd_quote
    if revert_quote <= density:
        return LEAST_DRIFT_SDS
    return min(MOST_DRIFT_SDS, max(LEAST_DRIFT_SDS, sqrt(2.0 * log(revert_quote / density))))


def plan_order(
    target: HedgeTarget,
    view: HedgeView,
    hedge: HedgeSettings,
    terms: ExecutionTerms,
    quote: Quote,
    *,
    lot_base: float,
    vol: float,
    moved_fraction: float,
    share_lots: int = 0,
) -> Plan | tuple[Refusal, str]:
    """Return the order for the block it will land in, or why there is none.

    `target` is the policy's band for `view`, which net delta has left. `vol` is that of the index, `moved_fraction` how
    far the index has moved since the pool was quoted: the pool will have followed by the next block. No more than
    `share_lots` are traded where that is not 0, the rest of the need being met elsewhere.
    """
    situation = _Situation(target, view, hedge, terms, lot_base, vol)
    offers = [_offer(situation, tier) for tier in terms.tiers]
    # a tier whose gas would only be worth it further out is no choice while a cheaper one is worth it here
    worth_it = [offer for offer in offers if offer.off_base > offer.half_base]
    offer = min(worth_it or offers, key=_total_quote)
    fitted = msgspec.structs.replace(
        view,
        delta_low_base=view.delta_low_base + offer.ahead_base,
        delta_high_base=view.delta_high_base + offer.ahead_base,
    )
    band = _band(situation, offer)
    lots = lots_to_trade(band, fitted.delta_low_base, fitted.delta_high_base, lot_base)
    refused = _find_too_dear(situation, offer, lots)
    if refused is not None:
        return refused
    if not lots:
        return Refusal.BELOW_MINIMUM, f"one lot of {lot_base:g} {view.underlying} is too coarse for the band"
    side = 1 if lots > 0 else -1
    allowed = hedge.max_slippage_bps * BPS
    notes = [offer.note]
    most_lots = max(1, int(0.5 * allowed * terms.depth_base / lot_base)) if terms.depth_base < inf else abs(lots)
    if abs(lots) > most_lots:
        notes.append(f"cut from {lots} lots: more would take over half the {hedge.max_slippage_bps:g} bp allowed")
        lots = side * most_lots
    if share_lots:
        lots = side * min(abs(lots), share_lots)
    size_base = abs(lots) * lot_base
    limit = _limit(situation, offer, quote, side, size_base, moved_fraction)
    notes.append(limit.note)
    tier = offer.tier
    # the chain counts whole seconds, and an order it still takes in the last of them is in time
    deadline_ns = view.now_ns + round(tier.delay_p95_s * NS_PER_S) + DEADLINE_BLOCKS * terms.block_ns
    deadline_ns = -(-deadline_ns // NS_PER_S) * NS_PER_S
    gas = GasBid(tier.max_fee_wei, tier.tip_wei, tier.gas_quote, deadline_ns)
    notes.append(f"void after {(deadline_ns - view.now_ns) / NS_PER_S:.0f} s")
    return Plan(fitted, band, lots, limit.ticks, gas, "; " + "; ".join(notes))


class _Situation:
    """What does not depend on the fee: the policy's band as the local model sees it, and how far net delta is off."""

    def __init__(
        self,
        target: HedgeTarget,
        view: HedgeView,
        hedge: HedgeSettings,
        terms: ExecutionTerms,
        lot_base: float,
        vol: float,
    ) -> None:
        self.target = target
        self.view = view
        self.hedge = hedge
        self.terms = terms
        self.lot_base = lot_base
        self.vol = vol
        self.gamma_base_per_px = view.greeks.gamma_base_per_px
        self.tries = expected_tries(terms)
        half_base = 0.5 * (target.high_base - target.low_base)
        # A policy that trades to its edge has left the fixed cost to us; another one has said itself where to trade to.
        is_edge = target.buy_to_base == target.low_base and target.sell_to_base == target.high_base
        self.is_ours = is_edge and isfinite(half_base)
        self.centre_base = 0.5 * (target.low_base + target.high_base) if isfinite(half_base) else view.target_delta_base
        self.half_base = max(half_base, lot_base) if isfinite(half_base) else inf
        self.side = 1 if view.delta_high_base < target.low_base else -1
        self.cost_per_base = view.cost_rate * view.spot_px
        self.is_floor = half_base <= lot_base * (1.0 + 1e-9)
        self.risk_aversion_per_quote = hedge.risk_aversion_per_quote
        if not self.risk_aversion_per_quote and isfinite(half_base):
            self.risk_aversion_per_quote = local.implied_risk_aversion_per_quote(
                self.half_base, view.cost_rate, view.spot_px, self.gamma_base_per_px
            )
        # H_WW where a policy with a known risk aversion has counted the gas itself, else 0
        is_counted = not self.is_ours and isfinite(half_base) and hedge.risk_aversion_per_quote > 0.0
        self.known_band_base = (
            local.band_half_base(view.cost_rate, view.spot_px, self.gamma_base_per_px, hedge.risk_aversion_per_quote)
            if is_counted and view.cost_rate > 0.0
            else 0.0
        )
        self.risk_rate_quote = local.risk_rate_quote(self.risk_aversion_per_quote, view.spot_px, vol)

    @property
    def carried_base(self) -> float:
        """How far the view has carried net delta on already: to when it believed an order would be filled."""
        view = self.view
        return anticipated_drift_base(
            self.gamma_base_per_px, view.spot_px, view.vol, view.latency_years, view.tau_years, view.lot_base
        )

    def shallow_stop_base(self, off_base: float, half_base: float, gas_quote: float) -> float:
        """Return how near to the centre a trade is worth its impact, for a policy that counted the gas itself; else 0.

        Such a policy does not know how deep a pool is.
        """
        unit_base = self.known_band_base
        if unit_base <= 0.0 or off_base <= half_base or self.terms.depth_base == inf:
            return 0.0
        solved = local.solve_impulse(gas_quote / (self.cost_per_base * unit_base))
        impact_share = unit_base / (self.terms.depth_base * self.view.cost_rate)
        return min(unit_base * local.stop_share(off_base / unit_base, impact_share, solved), half_base)

    def off_base(self, drift_base: float) -> float:
        """Return how far net delta is from the middle of the band, at the end of its interval nearest to it."""
        end_base = self.view.delta_high_base if self.side > 0 else self.view.delta_low_base
        return self.side * (self.centre_base - end_base - drift_base)


class _Offer(NamedTuple):
    """One tier: the band at its cost, and what a trade through it costs in all."""

    tier: GasTier
    solved: local.Impulse
    half_base: float
    stop_base: float
    off_base: float
    ahead_base: float  # the drift until inclusion, but for what the view counts of it already
    gas_quote: float
    delay_quote: float
    note: str
    is_shallow: bool = False


def _total_quote(offer: _Offer) -> float:
    return offer.gas_quote + offer.delay_quote


def _offer(on: _Situation, tier: GasTier) -> _Offer:
    """Return what hedging through one tier would be.

    Waiting for L costs a(e² − m²)L: for so long net delta is off by e and not by the m it is traded to. Over many
    trades that is the a v² L per time of hedging.md's latency law, as every v² of variance is traded away again.
    """
    view = on.view
    years = tier.delay_mean_s * NS_PER_S / NS_PER_YEAR
    drift_base = local.delta_drift_base(on.gamma_base_per_px, view.spot_px, on.vol, years)
    sd_base = local.delta_sd_base(on.gamma_base_per_px, view.spot_px, on.vol, years)
    ahead_base = drift_base - on.carried_base
    off_base = on.off_base(ahead_base)
    gas_quote = on.tries * tier.gas_quote
    is_shallow = False
    if on.is_ours:
        unit_quote = on.cost_per_base * on.half_base
        solved = local.solve_impulse(gas_quote / unit_quote) if unit_quote > 0.0 else _EDGE
        step_base = local.delta_sd_base(on.gamma_base_per_px, view.spot_px, on.vol, view.monitor_years)
        half_base = local.monitored_half_base(on.half_base * solved.trigger_share, step_base)
        stop_share = solved.target_share
        if off_base > half_base and view.cost_rate > 0.0:
            # trading u costs u²·S/depth beyond the quote
            impact_share = on.half_base / (on.terms.depth_base * view.cost_rate)
            stop_share = local.stop_share(off_base / on.half_base, impact_share, solved)
        stop_base = min(on.half_base * stop_share, half_base)
        gas_note = f"fits the band ±{on.half_base:.3g} to ±{half_base:.3g} and stops at ±{stop_base:.3g}"
    else:
        solved, half_base = _EDGE, on.half_base
        stop_to_base = on.target.buy_to_base if on.side > 0 else on.target.sell_to_base
        stop_base = on.side * (on.centre_base - stop_to_base)
        gas_note = "leaves the band as the policy has it"
        shallow_base = on.shallow_stop_base(off_base, half_base, gas_quote)
        is_shallow = shallow_base > stop_base
        if is_shallow:
            stop_base = shallow_base
            gas_note += f", but stops at ±{stop_base:.3g} as the pool is no deeper"
    delay_quote = on.tries * on.risk_rate_quote * max(0.0, off_base * off_base - stop_base * stop_base) * years
    note = (
        f"gas {tier.gas_quote:.4g} ({tier.tip_wei / 1e9:.3g} gwei tip, {on.tries:.2f} tries) {gas_note}; "
        f"in {tier.delay_mean_s:.3g} s delta drifts {drift_base:+.2g} ± {sd_base:.2g}, waiting costs {delay_quote:.3g}"
    )
    return _Offer(tier, solved, half_base, stop_base, off_base, ahead_base, gas_quote, delay_quote, note, is_shallow)


_EDGE = local.Impulse(1.0, 1.0, 1.0)


def _band(on: _Situation, offer: _Offer) -> HedgeTarget:
    """Return the policy's band as it is at the fee offered."""
    if not on.is_ours:
        if not offer.is_shallow:
            return on.target
        stop_to_base = on.centre_base - on.side * offer.stop_base
        if on.side > 0:
            return msgspec.structs.replace(on.target, buy_to_base=stop_to_base)
        return msgspec.structs.replace(on.target, sell_to_base=stop_to_base)
    low_base, high_base = on.centre_base - offer.half_base, on.centre_base + offer.half_base
    stop_base = offer.stop_base
    return HedgeTarget(
        low_base,
        high_base,
        on.centre_base - stop_base,
        on.centre_base + stop_base,
        on.target.urgency,
        on.target.reason,
    )


def _find_too_dear(on: _Situation, offer: _Offer, lots: int) -> tuple[Refusal, str] | None:
    """Return why hedging now saves less than it costs, if so.

    By the local model it does wherever net delta is short of the trigger. It also does where what is left to save ends
    with the last option before the gas is earned back, which can be told if the policy's risk aversion is known.
    """
    if not on.is_ours:
        return None
    unit_quote = on.cost_per_base * on.half_base
    traded_base = max(0.0, offer.off_base - offer.stop_base)
    cost_quote = _total_quote(offer) + on.cost_per_base * traded_base
    at_inclusion = f"net delta will be {offer.off_base:.3g} off at inclusion"
    if not lots:
        if offer.off_base > offer.half_base:
            return None  # a lot is too coarse, which is another matter
        off = local.value_share(offer.off_base / on.half_base, offer.solved)
        stop = local.value_share(offer.stop_base / on.half_base, offer.solved)
        saved_quote = unit_quote * (off - stop)
        return Refusal.GAS_OVER_BENEFIT, (
            f"{at_inclusion}, trigger {offer.half_base:.3g}: hedging now saves {saved_quote:.4g} "
            f"and costs {cost_quote:.4g}, gas {offer.gas_quote:.4g} of it"
        )
    years = float(on.view.legs.tau_years.max(initial=0.0))
    is_known = on.hedge.risk_aversion_per_quote > 0.0 or not on.is_floor
    if not (is_known and years > 0.0 and on.gamma_base_per_px):
        return None
    saved_quote = on.risk_rate_quote * (offer.off_base**2 - offer.stop_base**2) * years
    if saved_quote >= cost_quote:
        return None
    return Refusal.GAS_OVER_BENEFIT, (
        f"{at_inclusion}: until the last option expires in {years * NS_PER_YEAR / NS_PER_HOUR:.2g} h hedging saves "
        f"{saved_quote:.4g} and costs {cost_quote:.4g}, gas {offer.gas_quote:.4g} of it"
    )


class _Limit(NamedTuple):
    ticks: int
    note: str


def _limit(on: _Situation, offer: _Offer, quote: Quote, side: int, size_base: float, moved_fraction: float) -> _Limit:
    """Return the worst price to take: the quote, what the index moved since, the drift until inclusion, our impact."""
    tier = offer.tier
    far_px = quote.ask_px if side > 0 else quote.bid_px
    sd = on.vol * sqrt(tier.delay_mean_s * NS_PER_S / NS_PER_YEAR)
    revert_quote = tier.gas_quote + offer.delay_quote / on.tries
    sds = drift_sds(revert_quote, size_base * far_px * sd, on.hedge.worse_fill_probability)
    moved = max(0.0, side * moved_fraction)
    ahead_base = max(0.0, side * on.view.pending_base)  # what is under way meets the pool first
    impact = (size_base + ahead_base) / on.terms.depth_base
    wanted = moved + sds * sd + impact
    allowed = on.hedge.max_slippage_bps * BPS
    slip = min(wanted, allowed)
    ticks = on.hedge.instrument.tick_schedule
    limit_ticks = ticks.ceil_ticks(far_px * (1.0 + slip)) if side > 0 else ticks.floor_ticks(far_px * (1.0 - slip))
    parts = f"{sds:.2f} sd of {sd / BPS:.2g} bp, impact {impact / BPS:.2g} bp"
    if moved:
        parts += f", {moved / BPS:.2g} bp moved already"
    bound = f", bounded from {wanted / BPS:.2g} bp" if wanted > allowed else ""
    note = f"limit {slip / BPS:.2g} bp beyond {far_px:g}: {parts}{bound}, a revert costs {revert_quote:.3g}"
    return _Limit(limit_ticks, note)
