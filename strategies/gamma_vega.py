"""Hedge delta by the Whalley–Wilmott band, and gamma and vega with options where these save more than they cost."""

from __future__ import annotations

from math import isfinite
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bot.domain.decisions import HedgeTarget, HedgeView, Legs, OptionOffers, OptionTrade
from bot.pricing.option_hedge import OptionHedge, Situation, VolMoves, build_option_hedge, round_to_lots
from strategies.whalley_wilmott import WhalleyWilmott

DAYS_PER_YEAR = 365.0


class GammaVega(WhalleyWilmott):
    """The band of `whalley_wilmott`, and options bought or sold where that saves more hedging and risk than it costs.

    Without offers it is `whalley_wilmott` to the last digit. With them it looks for the quantities that make least of
    future delta hedging, (g/2) of the variance delta hedging leaves, and half-spreads and fees; the formula and what it
    assumes are in `bot.pricing.option_hedge`. It trades only if the net gain is at least `min_benefit_quote`,
    `min_gain_ratio` of the cost and `min_saving_share` of what hedging and risk cost without the trade, and only if
    that holds in a cautious view as well: vols move `sure_share` as far, the price never gaps, and what is opened has
    to be closed again at its full cost. So it buys late and, because the plain view has to agree to every sale, sells
    late: between what the one would hold and what the other would, nothing is traded.

    The risk aversion is taken at its word: a desk whose number says that it would pay to be rid of its vega will be rid
    of it. A desk that is paid to keep its vega says so with a `vol_risk_share` below 1.
    """

    type: Literal["gamma_vega"] = "gamma_vega"  # type: ignore[assignment]  # another name for another policy
    max_instruments: int = Field(default=3, ge=1, le=10, description="Most options traded at once")
    min_benefit_quote: float = Field(default=0.0, ge=0, description="Least net gain that is worth a trade in options")
    min_gain_ratio: float = Field(default=0.25, ge=0, description="And the least as a share of what it costs")
    min_saving_share: float = Field(
        default=0.05, ge=0, le=1, description="And as a share of what hedging and risk cost without it"
    )
    vol_risk_share: float = Field(default=1.0, ge=0, le=1, description="How much of the risk of vol moves is to count")
    horizon_days: float = Field(default=90.0, gt=0, le=3_650, description="How far ahead costs and risks are counted")
    level_vol: float = Field(default=0.5, ge=0, le=10, description="A year's move of 30-day vol, one deviation")
    slope_vol: float = Field(default=0.2, ge=0, le=10, description="Likewise of the front against the back")
    skew_vol: float = Field(default=0.3, ge=0, le=10, description="Likewise of the wings, per unit of ln(K/F)/√τ")
    sure_share: float = Field(default=0.6, ge=0, le=1, description="As little of those moves must be worth it, too")
    closing_share: float = Field(default=1.0, ge=0, le=1, description="And this much of closing them must be earned")
    book_days: float | None = Field(
        default=None, gt=0, description="Days until a book is turned over, on average; none: it is held to its expiry"
    )
    gap_interval_days: float = Field(default=30.0, gt=0, description="Days between two gaps nobody can hedge in")
    gap_share: float = Field(default=0.03, ge=0, le=0.9, description="How far the price moves in a gap")

    @property
    def needs_offers(self) -> bool:
        """True: it trades options."""
        return True

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return the band around the target, and the options to trade first, if any are worth it."""
        band = super().target(view)
        if view.offers is None or not isfinite(band.high_base):
            return band
        offers = _usable(view.offers)
        if not offers.instrument_ids:
            return band
        try:
            x_base = self._agreed(view, offers)
            if not x_base.any():
                return band
            problem = self._problem(view, offers)
        except ValueError:  # a number of the view is no number: delta alone is hedged
            return band
        trades = _trades(problem, offers, x_base)
        gain_quote = problem.objective_quote(np.zeros_like(x_base)) - problem.objective_quote(x_base)
        cost_quote = problem.trading_quote(x_base)
        reason = f"{band.reason}; {len(trades)} options for {cost_quote:.4g} gain {gain_quote:.4g}"
        return msgspec.structs.replace(band, reason=reason, options=trades)

    def _agreed(self, view: HedgeView, offers: OptionOffers) -> NDArray[np.float64]:
        """Return what is worth its cost in both views of what lies ahead, the one that gains more in the worse of them.

        Where the cautious view would trade nothing, nothing else is worth it there either.
        """
        cautious = self._problem(view, offers, is_cautious=True)
        found = [round_to_lots(cautious, cautious.solve(self.max_instruments), offers.lot_base)]
        nothing = np.zeros_like(found[0])
        if not found[0].any():
            return nothing
        plain = self._problem(view, offers)
        found.append(round_to_lots(plain, plain.solve(self.max_instruments), offers.lot_base))
        best, best_quote = nothing, 0.0
        for x_base in found:
            quote = min(self._beyond_least(problem, x_base) for problem in (plain, cautious))
            if quote > best_quote:
                best, best_quote = x_base, quote
        return best

    def _beyond_least(self, problem: OptionHedge, x_base: NDArray[np.float64]) -> float:
        """Return by how much a trade gains more than the least that is worth it."""
        without_quote = problem.objective_quote(np.zeros_like(x_base))
        gain_quote = without_quote - problem.objective_quote(x_base)
        cost_quote = problem.trading_quote(x_base)
        shares = self.min_gain_ratio * cost_quote, self.min_saving_share * without_quote
        return gain_quote - max(self.min_benefit_quote, *shares)

    def _problem(self, view: HedgeView, offers: OptionOffers, *, is_cautious: bool = False) -> OptionHedge:
        legs = view.legs
        is_held = (legs.qty_base != 0.0) & (legs.tau_years > 0.0)
        book = _taken(legs, np.flatnonzero(is_held))
        most_years = self.horizon_days / DAYS_PER_YEAR
        own_base = legs.qty_base if offers.own_base is None else offers.own_base
        own_years = legs.tau_years[is_held & (own_base != 0.0)]
        sure = self.sure_share if is_cautious else 1.0
        gaps_per_year = 0.0 if is_cautious else DAYS_PER_YEAR / self.gap_interval_days
        situation = Situation(
            spot_px=view.spot_px,
            vol=view.vol,
            gamma_base_per_px=view.greeks.gamma_base_per_px,
            off_base=0.5 * (view.delta_low_base + view.delta_high_base) - view.target_delta_base,
            risk_aversion_per_quote=self.risk_aversion_at(view),
            cost_rate=view.cost_rate,
            fixed_cost_quote=view.fixed_cost_quote,
            lot_base=view.lot_base,
            latency_years=view.latency_years,
            moves=VolMoves(
                sure * self.level_vol, sure * self.slope_vol, sure * self.skew_vol, gaps_per_year, self.gap_share
            ),
            vol_risk_share=self.vol_risk_share,
            turnover_per_year=DAYS_PER_YEAR / self.book_days if self.book_days is not None else 0.0,
            closing_share=self.closing_share if is_cautious else 0.0,
        )
        return build_option_hedge(
            situation,
            book,
            book.qty_base,
            offers.terms,
            offers.delta_ratio,
            offers.buy_cost_quote,
            offers.sell_cost_quote,
            -offers.sell_max_base,
            offers.buy_max_base,
            offers.held_base,
            min(most_years, float(own_years.max())) if own_years.size else most_years,
        )


def _usable(offers: OptionOffers) -> OptionOffers:
    """Return the offers whose numbers are numbers and of which a lot can be traded.

    A price better than the mark is no gain: it is the mark that is wrong then, so such a trade costs nothing, not less.
    A bound below nothing is nothing, and never calls for a trade the other way.
    """
    offers = msgspec.structs.replace(
        offers,
        buy_cost_quote=np.maximum(offers.buy_cost_quote, 0.0),
        sell_cost_quote=np.maximum(offers.sell_cost_quote, 0.0),
        buy_max_base=np.maximum(offers.buy_max_base, 0.0),
        sell_max_base=np.maximum(offers.sell_max_base, 0.0),
    )
    terms = offers.terms
    is_usable = (terms.tau_years > 0.0) & (terms.vol > 0.0) & (terms.forward_px > 0.0) & (terms.strike_px > 0.0)
    is_usable &= (offers.lot_base > 0.0) & (np.maximum(offers.buy_max_base, offers.sell_max_base) >= offers.lot_base)
    numbers = (offers.buy_cost_quote, offers.sell_cost_quote, offers.buy_max_base, offers.sell_max_base)
    for column in (*numbers, offers.held_base, offers.delta_ratio, *(terms.vol, terms.tau_years, terms.forward_px)):
        is_usable &= np.isfinite(column)
    if is_usable.all():
        return offers
    rows = np.flatnonzero(is_usable)
    return OptionOffers(
        instrument_ids=tuple(offers.instrument_ids[row] for row in rows.tolist()),
        buy_cost_quote=offers.buy_cost_quote[rows],
        sell_cost_quote=offers.sell_cost_quote[rows],
        buy_max_base=offers.buy_max_base[rows],
        sell_max_base=offers.sell_max_base[rows],
        lot_base=offers.lot_base[rows],
        held_base=offers.held_base[rows],
        terms=_taken(terms, rows),
        delta_ratio=offers.delta_ratio[rows],
        gamma_per_px=offers.gamma_per_px[rows],
        vega_quote_per_vol=offers.vega_quote_per_vol[rows],
        own_base=offers.own_base,
    )


def _taken(legs: Legs, rows: NDArray[np.intp]) -> Legs:
    return Legs(*(column[rows] for column in msgspec.structs.astuple(legs)))


def _trades(problem: OptionHedge, offers: OptionOffers, x_base: NDArray[np.float64]) -> tuple[OptionTrade, ...]:
    """Return one trade per option, each with what it is worth beside the others."""
    trades = []
    for i in np.flatnonzero(x_base).tolist():
        without = x_base.copy()
        without[i] = 0.0
        qty_base = float(x_base[i])
        cost_quote = abs(qty_base) * float((offers.buy_cost_quote if qty_base > 0.0 else offers.sell_cost_quote)[i])
        hedging = problem.hedging_quote(without) - problem.hedging_quote(x_base)
        risk = problem.risk_quote(without) - problem.risk_quote(x_base)
        delta = problem.delta_quote(without) - problem.delta_quote(x_base)
        later = problem.trading_quote(x_base) - problem.trading_quote(without) - cost_quote  # closing it in the end
        verb = "buy" if qty_base > 0.0 else "sell"
        trades.append(
            OptionTrade(
                offers.instrument_ids[i],
                qty_base,
                cost_quote,
                hedging + risk + delta - later,
                f"{verb} {abs(qty_base):g}: saves {hedging:.4g} of delta hedging and {risk:.4g} of risk"
                f" for {cost_quote:.4g}, and {delta - later:+.4g} of delta now and closing later",
            )
        )
    return tuple(trades)
