"""What hedging a vault's book will cost, and what a trade would add to it: the numbers of `evenkeel quote`.

Reads a market through `bot.runtime.studies.market_look` and prices with `bot.pricing.ex_ante`. Trades nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from math import inf, isfinite, nan, pi, sqrt
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bot.domain.decisions import HedgeTarget, HedgeView, Legs
from bot.domain.errors import ConfigError
from bot.domain.instruments import Instrument, Option
from bot.domain.units import utc_text
from bot.engine.settings import BookLeg
from bot.pricing.bands import delta_sd_base, implied_risk_aversion_per_quote
from bot.pricing.black76 import greeks
from bot.pricing.ex_ante import ExAnte, expected_cost
from bot.runtime.configuration.book_file import read_book
from bot.runtime.configuration.vault import AccountLine, ChainLine, Vault
from bot.runtime.studies.market_look import look
from bot.simulation.recording import Recording
from strategies import DeltaBand, FixedInterval, Leland, Policy, PriceMove, RiskAverse

DAYS_PER_YEAR: Final = 365.0
CENTRE_FACTOR: Final = 2.0 ** (1.0 / 3.0)  # the cost of trading back to the centre, over that of trading to the edge
CLOCK_FACTOR: Final = 1.5632  # likewise of the best clock; both at the same risk aversion, each with its best width
SECONDS_PER_YEAR: Final = DAYS_PER_YEAR * 86_400.0


class Averse(NamedTuple):
    """A risk aversion, where it comes from, and what the policy's rule costs over the best one at it."""

    per_quote: float
    source: str
    cost_factor: float = 1.0


class Costs(msgspec.Struct, frozen=True):
    """What is expected to be spent, in quote money; `fees_quote` is fees and spread, `risk_quote` is not paid.

    `hedging_quote` is the first three together; set-up and unwind are beside it.
    """

    fees_quote: float
    gas_quote: float
    risk_quote: float
    hedging_quote: float
    setup_quote: float
    unwind_quote: float
    total_quote: float

    def less(self, other: Costs) -> Costs:
        """Return the differences."""
        return Costs(
            *(a - b for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True))
        )


class BookQuote(msgspec.Struct, frozen=True, kw_only=True):
    """The quote of one underlying. Band edges are None where the policy would hold now.

    `sd_day_quote` is a day's tracking error inside the band of now, `sd_quote` that until the horizon along the paths
    of the price; one standard deviation each. `look_s` is the time between two looks that `hedges_per_day` assumes.
    """

    underlying: str
    spot_px: float
    vol: float
    cost_bps: float
    gas_per_trade_quote: float
    gamma_base_per_px: float
    net_delta_base: float
    target_delta_base: float
    risk_aversion_per_quote: float
    risk_aversion_source: str
    band_low_base: float | None
    band_high_base: float | None
    band_half_base: float | None
    hedges_per_day: float | None
    look_s: float | None
    sd_day_quote: float | None
    sd_quote: float
    horizon_days: float
    costs: Costs


class TradeQuote(msgspec.Struct, frozen=True, kw_only=True):
    """What trades of one underlying add to its quote, and what that is per unit, in vol points and of the premium.

    `alone_quote` is what hedging them would cost in no book, `marginal_quote` what it would cost in this one if each
    further unit cost as little as the first; costs grow as the power 4/3 of a book. Positive is a cost: a price has to
    be better by as much. `per_unit_quote` is None for several trades, the others where there is nothing to divide by.
    """

    underlying: str
    trades: dict[str, float]
    premium_quote: float
    added: Costs
    alone_quote: float
    marginal_quote: float
    per_unit_quote: float | None
    vol_points: float | None
    premium_percent: float | None
    band_half_before_base: float | None
    band_half_after_base: float | None


class VaultQuote(msgspec.Struct, frozen=True, kw_only=True):
    """All of one call: the book as it is, by underlying, and the trades asked about."""

    vault: str
    policy: str
    as_of: str
    books: list[BookQuote]
    trades: list[TradeQuote]


def quote_vault(
    vault: Vault,
    recording: Recording,
    trades: Sequence[tuple[str, float]] = (),
    *,
    at_ns: int | None = None,
    horizon_days: float | None = None,
) -> VaultQuote:
    """Return the quote of a vault on its recording, from `at_ns` on. Raises ConfigError for what cannot be quoted."""
    unreadable = [line for line in vault.book if isinstance(line, AccountLine | ChainLine)]
    if unreadable:
        found = " and ".join(
            sorted({"an account" if isinstance(line, AccountLine) else "a chain" for line in unreadable})
        )
        hint = "write what is held there as lines of instrument and qty_base"
        raise ConfigError([f"vault {vault.vault}: expected a book of holdings, found {found} in it; hint: {hint}"])
    manifest = recording.manifest
    moment_ns = manifest.start_ns if at_ns is None else at_ns
    if not manifest.start_ns <= moment_ns < manifest.end_ns:
        span = f"{utc_text(manifest.start_ns)} to {utc_text(manifest.end_ns)}"
        raise ConfigError([f"--at: expected a time from {span}, found {utc_text(moment_ns)}"])
    by_id = {one.instrument_id: one for one in manifest.instruments}
    vault, held = alive_book(vault, by_id, moment_ns)
    extra = _find_trades(vault, trades, by_id, moment_ns)
    after = look(vault, (*held, *extra), at_ns=at_ns, recording=recording)
    before = look(vault, held, at_ns=after.now_ns, recording=recording) if extra else after
    horizon_years = inf if horizon_days is None else horizon_days / DAYS_PER_YEAR
    books, told = [], []
    for base, seen in before.views.items():
        own = [leg for leg in extra if leg.instrument.base == base]
        vol = seen.vol if seen.legs.qty_base.any() else after.views[base].vol
        view, wide = (msgspec.structs.replace(one, vol=vol) for one in (seen, after.views[base]))
        averse = find_risk_aversion(vault.policy, wide)
        look_years = after.look_years[base]
        book = _quote_book(vault.policy, view, averse, look_years, horizon_years)
        books.append(book)
        if own:
            grown = _quote_book(vault.policy, wide, averse, look_years, horizon_years)
            told.append(_quote_trades(book, grown, wide, own, averse, horizon_years))
    return VaultQuote(
        vault=vault.vault, policy=vault.policy.spec, as_of=utc_text(after.now_ns), books=books, trades=told
    )


def find_risk_aversion(policy: Policy, view: HedgeView) -> Averse:
    """Return the risk aversion of a policy, or that at which its band, interval or move would be the best.

    The best clock is Δt = (c √(2/π)/(a v))^(2/3), the best band back to the centre H = (3 c v²/a)^(1/3), with c = kS,
    v = |Γ|Sσ and a = ½ g σ²S² (the local model of `bot.pricing.bands`). Raises ConfigError where there is none.
    """
    if isinstance(policy, RiskAverse):
        words = "of the vault" if policy.risk_aversion_per_quote is not None else "from the words of the vault"
        found = Averse(policy.risk_aversion_at(view), words)
    elif isinstance(policy, DeltaBand):
        width = policy.half_width_base
        found = _of_band(width, view, f"at which ±{width:g} is the best band", is_centred=policy.trade_to == "centre")
    elif isinstance(policy, PriceMove):
        half_base = abs(view.greeks.gamma_base_per_px) * view.spot_px * policy.move_fraction
        found = _of_band(half_base, view, f"at which moves of {policy.move_fraction:g} are the best", is_centred=True)
    elif isinstance(policy, FixedInterval | Leland):
        years = policy.interval_s / SECONDS_PER_YEAR
        below = abs(view.greeks.gamma_base_per_px) * view.vol**3 * view.spot_px**2 * years**1.5
        averse = 2.0 * view.cost_rate * sqrt(2.0 / pi) / below if below > 0.0 else nan
        found = Averse(averse, f"at which {policy.interval_s:g} s is the best interval", CLOCK_FACTOR)
    else:
        hint = "name another in the vault, or whalley_wilmott:risk_aversion_per_quote=3e-4 with --policy"
        raise ConfigError(
            [f"policy {policy.name}: expected one that hedges by a rule, found none to quote; hint: {hint}"]
        )
    if not (isfinite(found.per_quote) and found.per_quote > 0.0):
        what = f"gamma {view.greeks.gamma_base_per_px:.3g}, cost {view.cost_rate * 1e4:.3g} bp, vol {view.vol:.3g}"
        hint = "--policy impulse:risk_aversion_per_quote=3e-4 gives one"
        raise ConfigError([f"policy {policy.name}: expected a risk aversion, found none from {what}; hint: {hint}"])
    return found


def _of_band(half_base: float, view: HedgeView, source: str, *, is_centred: bool) -> Averse:
    averse = implied_risk_aversion_per_quote(half_base, view.cost_rate, view.spot_px, view.greeks.gamma_base_per_px)
    return Averse(4.0 * averse, source, CENTRE_FACTOR) if is_centred else Averse(averse, source)


def _quote_book(policy: Policy, view: HedgeView, averse: Averse, look_years: float, horizon_years: float) -> BookQuote:
    target = policy.target(view)
    gas_quote = view.fixed_cost_quote
    found = _expected(view.legs, view, averse, horizon_years)
    last_years = float(view.legs.tau_years[view.legs.qty_base != 0.0].max()) if view.legs.qty_base.any() else 0.0
    half_base = 0.5 * (target.high_base - target.low_base)
    is_band = isfinite(half_base) and not isinstance(policy, FixedInterval | Leland)
    seen_years = max(view.monitor_years, look_years if isfinite(look_years) else 0.0)
    return BookQuote(
        underlying=view.underlying,
        spot_px=view.spot_px,
        vol=view.vol,
        cost_bps=view.cost_rate * 1e4,
        gas_per_trade_quote=gas_quote,
        gamma_base_per_px=view.greeks.gamma_base_per_px,
        net_delta_base=view.greeks.delta_base,
        target_delta_base=view.target_delta_base,
        risk_aversion_per_quote=averse.per_quote,
        risk_aversion_source=averse.source,
        band_low_base=target.low_base if is_band else None,
        band_high_base=target.high_base if is_band else None,
        band_half_base=half_base if is_band else None,
        hedges_per_day=_hedges_per_day(policy, view, target, seen_years),
        look_s=seen_years * SECONDS_PER_YEAR if is_band else None,
        sd_day_quote=_sd_day_quote(policy, view, target),
        sd_quote=sqrt(2.0 * found.risk_quote / averse.per_quote),
        horizon_days=min(last_years, horizon_years) * DAYS_PER_YEAR,
        costs=found,
    )


def _quote_trades(
    before: BookQuote,
    after: BookQuote,
    view: HedgeView,
    trades: Sequence[BookLeg],
    averse: Averse,
    horizon_years: float,
) -> TradeQuote:
    legs = view.legs
    qty_base = np.array([trade.qty_base for trade in trades])
    is_traded = np.arange(len(legs.qty_base)) >= len(legs.qty_base) - len(trades)  # they were added last
    alone = _with_quantities(legs, np.where(is_traded, legs.qty_base, 0.0))
    first = _with_quantities(legs, np.where(is_traded, 1e-3 * legs.qty_base, legs.qty_base))
    marks = greeks(legs.forward_px, legs.strike_px, legs.tau_years, legs.vol, legs.is_call)
    premium = float(qty_base @ marks.value[is_traded])
    vega = float(qty_base @ marks.vega[is_traded])
    added = after.costs.less(before.costs)
    marginal = (_expected(first, view, averse, horizon_years).hedging_quote - before.costs.hedging_quote) / 1e-3
    return TradeQuote(
        underlying=view.underlying,
        trades={trade.instrument.instrument_id: trade.qty_base for trade in trades},
        premium_quote=premium,
        added=added,
        alone_quote=_expected(alone, view, averse, horizon_years).hedging_quote,
        marginal_quote=marginal,
        per_unit_quote=added.total_quote / abs(float(qty_base[0])) if len(trades) == 1 else None,
        vol_points=100.0 * added.total_quote / abs(vega) if abs(vega) > 0.0 else None,
        premium_percent=100.0 * added.total_quote / abs(premium) if abs(premium) > 0.0 else None,
        band_half_before_base=before.band_half_base,
        band_half_after_base=after.band_half_base,
    )


def _expected(legs: Legs, view: HedgeView, averse: Averse, horizon_years: float) -> Costs:
    """Return the costs of some legs hedged by the policy's rule; set-up is that of the view's own net delta."""
    if not ((legs.qty_base != 0.0) & (legs.tau_years > 0.0)).any():
        found = ExAnte(0.0, 0.0, 0.0, 0.0, 0.0)
    else:
        found = expected_cost(
            legs,
            view.spot_px,
            view.vol,
            view.cost_rate,
            averse.per_quote,
            fixed_cost_quote=view.fixed_cost_quote,
            horizon_years=horizon_years,
        )
    factor = averse.cost_factor if view.fixed_cost_quote == 0.0 else 1.0
    hedging, gas, risk = factor * found.cost_quote, factor * found.gas_quote, factor * found.risk_quote
    off_base = abs(view.greeks.delta_base - view.target_delta_base)
    outside_base = max(0.0, off_base - found.band_half_base)
    setup = view.cost_rate * view.spot_px * outside_base + (view.fixed_cost_quote if outside_base > 0.0 else 0.0)
    return Costs(
        hedging - gas - risk, gas, risk, hedging, setup, found.unwind_quote, hedging + setup + found.unwind_quote
    )


def _hedges_per_day(policy: Policy, view: HedgeView, target: HedgeTarget, seen_years: float) -> float | None:
    """Return how often net delta, wandering freely, reaches its trigger from where the last hedge left it.

    From ±h to ±H takes (H² − h²)/v² on average. Where h is the edge itself, a hedge is as small as what delta wanders
    between two looks (the mean first step outside of a Gaussian walk is 1/√2 of a step) or as a lot.
    """
    if isinstance(policy, FixedInterval | Leland):
        return 86_400.0 / policy.interval_s
    half_base = 0.5 * (target.high_base - target.low_base)
    if not isfinite(half_base):
        return None
    stop_base = 0.5 * (target.sell_to_base - target.buy_to_base)
    wander_base = delta_sd_base(view.greeks.gamma_base_per_px, view.spot_px, view.vol, seen_years)
    reach_base = half_base + max(view.lot_base, wander_base / sqrt(2.0))
    day_base = delta_sd_base(view.greeks.gamma_base_per_px, view.spot_px, view.vol, 1.0 / DAYS_PER_YEAR)
    return day_base**2 / (reach_base**2 - stop_base**2)


def _sd_day_quote(policy: Policy, view: HedgeView, target: HedgeTarget) -> float | None:
    """Return a day's tracking error now: net delta is spread evenly up to ±h and thins out up to ±H, (H² + h²)/6."""
    if isinstance(policy, FixedInterval | Leland):  # off by nothing at first, then by what delta wanders
        years = policy.interval_s / SECONDS_PER_YEAR
        off_base = delta_sd_base(view.greeks.gamma_base_per_px, view.spot_px, view.vol, years) / sqrt(2.0)
    else:
        half_base = 0.5 * (target.high_base - target.low_base)
        stop_base = 0.5 * (target.sell_to_base - target.buy_to_base)
        if not isfinite(half_base):
            return None
        off_base = sqrt((half_base**2 + stop_base**2) / 6.0)
    return off_base * view.spot_px * view.vol / sqrt(DAYS_PER_YEAR)


def _with_quantities(legs: Legs, qty_base: NDArray[np.float64]) -> Legs:
    return msgspec.structs.replace(legs, qty_base=qty_base)


def alive_book(vault: Vault, by_id: dict[str, Instrument], now_ns: int) -> tuple[Vault, tuple[BookLeg, ...]]:
    """Return the vault without options that have expired by then, and what its files hold besides."""
    held = [
        BookLeg(by_id[one.instrument_id], one.qty_base)
        for path in vault.book_files
        for one in read_book(Path(path), by_id.keys())
    ]
    lines = tuple(line for line in vault.holdings if not _is_expired(by_id[line.instrument], now_ns))
    alive = tuple(leg for leg in held if not _is_expired(leg.instrument, now_ns))
    if not (lines or alive):
        raise ConfigError(
            [f"vault {vault.vault}: expected a book alive at {utc_text(now_ns)}, found all of it expired"]
        )
    return vault.model_copy(update={"book": lines}), alive


def _is_expired(instrument: Instrument, now_ns: int) -> bool:
    return getattr(instrument, "expiry_ns", now_ns + 1) <= now_ns


def _find_trades(
    vault: Vault, trades: Sequence[tuple[str, float]], by_id: dict[str, Instrument], now_ns: int
) -> tuple[BookLeg, ...]:
    """Return the trades as legs. Raises ConfigError with every one that cannot be quoted."""
    hedged = {by_id[line.instrument].base for line in vault.hedge if line.instrument in by_id}
    legs, problems = [], []
    for name, qty_base in trades:
        instrument = by_id.get(name)
        if instrument is None:
            known = [one for one, found in by_id.items() if isinstance(found, Option)]
            nearest = get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {len(known)}, such as {known[0]}"
            problems.append(
                f"--trade {name}: expected an option of the recording, found none of that name; hint: {hint}"
            )
        elif not isinstance(instrument, Option):
            problems.append(f"--trade {name}: expected an option, found what needs no hedging beyond its delta")
        elif hedged and instrument.base not in hedged:
            problems.append(
                f"--trade {name}: expected an option on {' or '.join(sorted(hedged))}, found one on {instrument.base}"
            )
        elif instrument.expiry_ns <= now_ns:
            expired = f"found it expired at {utc_text(instrument.expiry_ns)}"
            problems.append(f"--trade {name}: expected an option alive at {utc_text(now_ns)}, {expired}")
        else:
            legs.append(BookLeg(instrument, qty_base))
    if problems:
        raise ConfigError(problems)
    return tuple(legs)
