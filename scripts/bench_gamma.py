"""Delta alone against delta and options: short- and long-dated books in seeded worlds and on the two recordings.

    scripts/bench gamma [--quick]

One JSON table on stdout, progress on stderr; docs/gamma-vega.md reports it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from bot.domain.decisions import HedgeTarget, HedgeView, Legs, OptionOffers
from bot.domain.instruments import Option
from bot.domain.portfolio import Greeks
from bot.pricing import black76
from bot.simulation.recording import open_recording
from bot.simulation.yardstick.option_run import Outcome, Terms, listing, run_book
from bot.simulation.yardstick.surfaces import SurfaceWorld, draw_market
from strategies import GammaVega, Policy, WhalleyWilmott

Floats = NDArray[np.float64]

QUIET = SurfaceWorld()
JUMPY = SurfaceWorld(jump_rate=12.0, jump_vol=0.06, start_vol=0.55, mean_vol=0.55)
CALM = SurfaceWorld(variance_vol=0.7, skew_wander=0.08)  # vol moves half as far as the policy assumes
WILD = SurfaceWorld(variance_vol=2.2, spot_vol_correlation=-0.6)  # half as far again
LISTED_DAYS = (3.0, 7.0, 14.0, 30.0, 60.0, 90.0)
RESAMPLES = 400
BP = 1e-4


class Case(NamedTuple):
    """One book in one world, held until its last expiry or sold before; what the policy was told of that.

    Lines are (strike over spot, days, is call, quantity).
    """

    name: str
    lines: tuple[tuple[float, float, bool, float], ...]
    days: float
    steps: int
    review_steps: int
    ghats: tuple[float, ...]
    world: SurfaceWorld = QUIET
    end_days: float = float("inf")
    book_days: float | None = None


def straddle(days: float, quantity: float = -5.0) -> tuple[tuple[float, float, bool, float], ...]:
    """Return a straddle at the money."""
    return (1.0, days, True, quantity), (1.0, days, False, quantity)


def reversal(days: float, width: float) -> tuple[tuple[float, float, bool, float], ...]:
    """Return calls sold against puts bought, each `width` out of the money."""
    return (1.0 + width, days, True, -5.0), (1.0 - width, days, False, 5.0)


SHORT_PATHS, LONG_PATHS, QUICK_PATHS = 40, 24, 12
SEED = 20230412  # the policy's parameters were chosen with other paths of other seeds
CASES = (
    Case("short straddle 3 d", straddle(3.0), 3.0, 72, 12, (10.0, 30.0)),
    Case("short straddle 7 d", straddle(7.0), 7.0, 84, 12, (10.0, 30.0)),
    Case("short straddle 7 d, jumps", straddle(7.0), 7.0, 84, 12, (10.0, 30.0), JUMPY),
    Case("risk reversal 7 d", reversal(7.0, 0.06), 7.0, 84, 12, (30.0,)),
    Case("short straddle 30 d", straddle(30.0), 30.0, 180, 12, (10.0, 30.0)),
    Case("short straddle 30 d, jumps", straddle(30.0), 30.0, 180, 12, (10.0, 30.0), JUMPY),
    Case("short straddle 30 d, calm", straddle(30.0), 30.0, 180, 12, (30.0,), CALM),
    Case("short straddle 30 d, wild", straddle(30.0), 30.0, 180, 12, (30.0,), WILD),
    Case("long straddle 30 d", straddle(30.0, 5.0), 30.0, 180, 12, (30.0,)),
    Case("short straddle 45 d, not listed", straddle(45.0), 45.0, 180, 12, (10.0, 30.0)),
    Case("calendar 30 d / 60 d", (*straddle(30.0), *straddle(60.0, 5.0)), 60.0, 240, 12, (10.0, 30.0)),
    Case("risk reversal 60 d", reversal(60.0, 0.15), 60.0, 240, 12, (10.0, 30.0)),
    Case("short straddle 90 d", straddle(90.0), 90.0, 270, 12, (3.0, 10.0)),
    Case("short straddle 90 d, calm", straddle(90.0), 90.0, 270, 12, (10.0,), CALM),
    Case("short straddle 90 d, sold after 30 d", straddle(90.0), 90.0, 270, 12, (10.0,), end_days=30.0),
    Case("the same, and told so", straddle(90.0), 90.0, 270, 12, (10.0,), end_days=30.0, book_days=30.0),
)
QUICK = ("short straddle 7 d", "short straddle 30 d", "short straddle 90 d")


def main() -> None:
    """Print the table."""
    is_quick = "--quick" in sys.argv[1:]
    began_s = time.process_time()
    worlds = []
    for case in CASES:
        paths = SHORT_PATHS if case.days <= 7.0 else LONG_PATHS
        if is_quick and case.name not in QUICK:
            continue
        worlds += [compare(case, ghat, QUICK_PATHS if is_quick else paths) for ghat in case.ghats]
    recordings = [row for name in ("btc-2023-04", "eth-2023-04") for row in replay(name)]
    table = {
        "seed": SEED,
        "cpu_seconds": round(time.process_time() - began_s, 1),
        "half_spreads": [half_spreads(name) for name in ("btc-2023-04", "eth-2023-04")],
        "worlds": worlds,
        "recordings": recordings,
    }
    json.dump(table, sys.stdout, indent=1)
    sys.stdout.write("\n")


def compare(case: Case, ghat: float, paths: int) -> dict[str, Any]:
    """Return what a book costs either way on the same paths, in bp of its notional, with standard errors."""
    gross_quote = case.world.spot_px * sum(abs(line[3]) for line in case.lines)
    averse = ghat / gross_quote
    market = draw_market(case.world, case.days / 365.0, case.steps, paths, seed=SEED)
    listed = listing(case.world.spot_px, case.lines, tuple(d for d in LISTED_DAYS if d != 3.0 or case.days <= 7.0))
    terms = Terms(review_steps=case.review_steps, end_years=case.end_days / 365.0)
    took_s, outcomes = [], []
    both_ways = GammaVega(risk_aversion_per_quote=averse, book_days=case.book_days)
    for policy in (WhalleyWilmott(risk_aversion_per_quote=averse), both_ways):
        began_s = time.process_time()
        outcomes.append(run_book(policy, market, listed, terms))
        took_s.append(time.process_time() - began_s)
    unit = gross_quote * BP
    plain, both = (figures(outcome, averse, unit) for outcome in outcomes)
    traded = outcomes[1].option_trades > 0
    row = {
        "book": case.name,
        "ghat": ghat,
        "paths": paths,
        "traded_share": round(float(traded.mean()), 3),
        "option_trades": round(float(outcomes[1].option_trades.mean()), 2),
        "delta_only": plain,
        "gamma_vega": both,
        "difference": differences(outcomes[0], outcomes[1], averse, unit),
        "cpu_seconds": round(sum(took_s), 1),
    }
    say(json.dumps(row))
    return row


def figures(outcome: Outcome, averse: float, unit: float) -> dict[str, float]:
    """Return costs paid, deviation, total cost and shortfall in units, and what was lost beyond costs."""
    costs = costs_of(outcome)
    noise = outcome.loss_quote - costs
    return {
        "costs": round(float(costs.mean()) / unit, 2),
        "of_options": round(float(outcome.option_cost_quote.mean()) / unit, 2),
        "sd": round(float(outcome.loss_quote.std()) / unit, 1),
        "total": round(certainty(outcome.loss_quote, costs, averse) / unit, 2),
        "shortfall": round(shortfall(outcome.loss_quote, costs) / unit, 1),
        "mean_beyond_costs": round(float(noise.mean()) / unit, 2),
        "its_error": round(float(noise.std()) / unit / np.sqrt(noise.size), 2),
    }


def costs_of(outcome: Outcome) -> Floats:
    """Return what was paid for hedging."""
    return outcome.perpetual_cost_quote + outcome.option_cost_quote


def certainty(loss: Floats, costs: Floats, averse: float) -> float:
    """Return the certain loss that is as bad, (1/g) ln E e^(g·loss), for losses whose mean is what was paid.

    That is their mean where options are priced fairly. What a sample of paths loses or gains beyond it is luck (and the
    little the quotes of the world are off), several times as large as what is to be measured, so it is taken out.
    """
    middle = float(loss.mean())
    return float(costs.mean()) + float(np.log(np.mean(np.exp(averse * (loss - middle))))) / averse


def shortfall(loss: Floats, costs: Floats) -> float:
    """Return the mean of the worst twentieth, of the same losses."""
    return float(costs.mean() - loss.mean()) + worst(loss)


def worst(loss: Floats) -> float:
    """Return the mean of the worst twentieth."""
    return float(np.sort(loss)[-max(1, loss.size // 20) :].mean())


def differences(plain: Outcome, both: Outcome, averse: float, unit: float) -> dict[str, float]:
    """Return gamma-vega less delta alone in total and shortfall, with errors by resampling paths, common to both."""
    rows = [(outcome.loss_quote, costs_of(outcome)) for outcome in (plain, both)]
    rng = np.random.default_rng(1)

    def between(draw: NDArray[np.intp]) -> tuple[float, float]:
        (one, one_costs), (other, other_costs) = ((loss[draw], costs[draw]) for loss, costs in rows)
        total = certainty(other, other_costs, averse) - certainty(one, one_costs, averse)
        return total, shortfall(other, other_costs) - shortfall(one, one_costs)

    count = plain.loss_quote.size
    total, tail = between(np.arange(count))
    errors = np.std([between(rng.integers(0, count, count)) for _ in range(RESAMPLES)], axis=0)
    return {
        "total": round(total / unit, 2),
        "total_error": round(float(errors[0]) / unit, 2),
        "shortfall": round(tail / unit, 1),
        "shortfall_error": round(float(errors[1]) / unit, 1),
    }


# The recordings ------------------------------------------------------------------------------------------------------

MARK_NS = 15 * 60 * 10**9
REVIEW_MARKS = 8  # two hours
FRESH_NS = 30 * 60 * 10**9
YEAR_NS = 365 * 86_400 * 10**9
FEE_BPS, FEE_CAP_SHARE, PERPETUAL_BPS = 3.0, 0.125, 5.0
RECORDED_GHAT = 10.0


class Marks(NamedTuple):
    """A recording on a grid of quarter hours: times, index, and per option (column) the newest quote."""

    underlying: str
    options: tuple[Option, ...]
    times_ns: NDArray[np.int64]
    index_px: Floats
    quoted_ns: Floats
    forward_px: Floats
    mark_vol: Floats
    bid_coin: Floats
    ask_coin: Floats
    bid_base: Floats
    ask_base: Floats


def half_spreads(name: str) -> dict[str, Any]:
    """Return the median half-spread of two-sided quotes in bp of the underlying, by |delta| and days to expiry."""
    recording = open_recording(name)
    instruments = recording.manifest.instruments
    rows = [(i, o.strike_px, o.expiry_ns, o.is_call) for i, o in enumerate(instruments) if isinstance(o, Option)]
    terms = pl.DataFrame(
        rows,
        schema={"instrument": pl.UInt16, "strike": pl.Float64, "expiry": pl.Int64, "call": pl.Boolean},
        orient="row",
    )
    quotes = (
        recording.table("vol_quotes").filter((pl.col("bid_px") > 0) & (pl.col("ask_px") > pl.col("bid_px"))).collect()
    )
    quotes = quotes.join(terms, on="instrument").with_columns(tau=(pl.col("expiry") - pl.col("ts_event_ns")) / YEAR_NS)
    quotes = quotes.filter((pl.col("tau") > 0.5 / 365) & (pl.col("mark_vol") > 0.05))
    columns = (quotes[c].to_numpy() for c in ("forward_px", "strike", "tau", "mark_vol", "call"))
    distance = np.abs(black76.greeks(*columns).delta)
    half_bps = 0.5 * (quotes["ask_px"] - quotes["bid_px"]).to_numpy() / BP
    days = quotes["tau"].to_numpy() * 365.0
    table = {}
    for low_days, high_days in ((0.5, 3), (3, 20), (20, 90)):
        for low, high in ((0.03, 0.1), (0.1, 0.35), (0.35, 0.55), (0.55, 0.75)):
            inside = (days >= low_days) & (days < high_days) & (distance >= low) & (distance < high)
            table[f"{low_days:g}-{high_days:g} d, delta {low:g}-{high:g}"] = round(
                float(np.median(half_bps[inside])), 2
            )
    return {"recording": name, "half_spread_bps": table}


def load_marks(name: str) -> Marks:
    """Return a recording's option quotes every quarter of an hour."""
    recording = open_recording(name)
    manifest = recording.manifest
    options = [(i, one) for i, one in enumerate(manifest.instruments) if isinstance(one, Option)]
    times = np.arange(manifest.start_ns + 2 * MARK_NS, manifest.end_ns, MARK_NS)
    quotes = recording.table("vol_quotes").collect()
    index = recording.table("index").collect()
    at = np.searchsorted(index["ts_event_ns"].to_numpy(), times, side="right") - 1
    shape = (times.size, len(options))
    grids = {
        c: np.zeros(shape)
        for c in ("ts_event_ns", "forward_px", "mark_vol", "bid_px", "ask_px", "bid_base", "ask_base")
    }
    by_instrument = quotes.partition_by("instrument", as_dict=True)
    for column, (number, _) in enumerate(options):
        rows = by_instrument.get((number,))
        if rows is None:
            continue
        newest = np.searchsorted(rows["ts_event_ns"].to_numpy(), times, side="right") - 1
        for field, grid in grids.items():
            values = rows[field].to_numpy().astype(np.float64)
            grid[:, column] = np.where(newest >= 0, values[np.maximum(newest, 0)], 0.0)
    underlying = options[0][1].base
    return Marks(underlying, tuple(one for _, one in options), times, index["px"].to_numpy()[at], *grids.values())


def replay(name: str) -> list[dict[str, Any]]:
    """Return what each book costs either way through the two days of a recording, in bp of its notional."""
    marks = load_marks(name)
    spot_px = float(marks.index_px[0])
    rows = []
    for book, legs in recorded_books(marks, spot_px).items():
        gross_quote = spot_px * sum(abs(quantity) for quantity in legs.values())
        averse = RECORDED_GHAT / gross_quote
        row: dict[str, Any] = {"recording": name, "book": book, "ghat": RECORDED_GHAT}
        for policy in (WhalleyWilmott(risk_aversion_per_quote=averse), GammaVega(risk_aversion_per_quote=averse)):
            row["gamma_vega" if policy.needs_offers else "delta_only"] = through(policy, marks, legs, gross_quote)
        say(json.dumps(row))
        rows.append(row)
    return rows


def recorded_books(marks: Marks, spot_px: float) -> dict[str, dict[int, float]]:
    """Return books by name: option's column to quantity. Ten coins of BTC, or as much money of ETH."""
    coins = 300_000.0 / spot_px
    expiries = sorted({option.expiry_ns for option in marks.options})
    start_ns = int(marks.times_ns[0])

    def find(days: float, moneyness: float, *, is_call: bool) -> int:
        expiry = min(expiries, key=lambda e: abs((e - start_ns) / YEAR_NS * 365.0 - days))
        fits = [i for i, o in enumerate(marks.options) if o.expiry_ns == expiry and o.is_call == is_call]
        return min(fits, key=lambda i: abs(marks.options[i].strike_px / spot_px - moneyness))

    def straddle_of(days: float, quantity: float) -> dict[int, float]:
        return {find(days, 1.0, is_call=True): quantity, find(days, 1.0, is_call=False): quantity}

    return {
        "short straddle 2 d": straddle_of(1.9, -coins),
        "short straddle 9 d": straddle_of(8.9, -coins),
        "short straddle 44 d": straddle_of(43.9, -coins),
        "short straddle 79 d": straddle_of(78.9, -coins),
        "calendar 16 d / 44 d": straddle_of(15.9, -coins) | straddle_of(43.9, coins),
        "risk reversal 44 d": {find(43.9, 1.15, is_call=True): -coins, find(43.9, 0.87, is_call=False): coins},
    }


def through(policy: Policy, marks: Marks, legs: dict[int, float], gross_quote: float) -> dict[str, float]:
    """Return costs paid, the change in wealth, its deviation, and the worst of its quarter hours."""
    return Recorded(policy, marks, legs).run(gross_quote * BP)


class Recorded:
    """A book on its way through a recording: what it holds and has paid, and at each mark what it is worth."""

    def __init__(self, policy: Policy, marks: Marks, legs: dict[int, float]) -> None:
        options = marks.options
        self.policy, self.marks = policy, marks
        self.strikes = np.array([o.strike_px for o in options])
        self.expiries_ns = np.array([o.expiry_ns for o in options], np.int64)
        self.calls = np.array([o.is_call for o in options])
        self.book, self.held = np.zeros(len(options)), np.zeros(len(options))
        for column, quantity in legs.items():
            self.book[column] = quantity
        self.cash = self.perpetual = self.perpetual_cost = self.option_cost = self.life_cost = 0.0
        self.trades = 0
        self.last_ns, self.last_px = 0, 0.0

    def run(self, unit: float) -> dict[str, float]:
        """Go through all marks; figures are in `unit` of quote money."""
        marks = self.marks
        span_years = float(marks.times_ns[-1] - marks.times_ns[0]) / YEAR_NS
        wealth = [self.pass_mark(at, now_ns, span_years) for at, now_ns in enumerate(marks.times_ns.tolist())]
        steps = np.diff(np.array(wealth))
        return {
            "costs": round((self.perpetual_cost + self.option_cost) / unit, 2),
            "of_options": round(self.option_cost / unit, 2),
            "costs_by_life": round((self.perpetual_cost + self.life_cost) / unit, 2),
            "risk": round(0.5 * RECORDED_GHAT * float(steps @ steps) / unit**2 * BP, 2),
            "profit": round((wealth[-1] - wealth[0]) / unit, 1),
            "hourly_sd": round(float(np.std(steps)) * 2.0 / unit, 2),
            "shortfall": round(worst(-steps) / unit, 2),
            "option_trades": self.trades,
            "option_base": round(float(np.abs(self.held).sum()), 1),
        }

    def pass_mark(self, at: int, now_ns: int, span_years: float) -> float:
        """Settle, trade options, trade the perpetual, in this order; return what all of it is worth."""
        marks = self.marks
        spot_px = float(marks.index_px[at])
        due = (self.expiries_ns <= now_ns) & (self.book + self.held != 0.0)
        if due.any():
            payoff = np.maximum(np.where(self.calls, 1.0, -1.0) * (spot_px - self.strikes), 0.0)
            self.cash += float(((self.book + self.held) * payoff)[due].sum())
            self.book[due] = self.held[due] = 0.0
        tau = (self.expiries_ns - now_ns) / YEAR_NS
        is_priced = (tau > 0.0) & (marks.mark_vol[at] > 0.01) & (marks.forward_px[at] > 0.0)
        # The forward of an option's last quote is as old as that quote: it moves with the index since.
        quoted = np.clip(np.searchsorted(marks.times_ns, marks.quoted_ns[at]), 0, at)
        forward = np.where(is_priced, marks.forward_px[at] * spot_px / marks.index_px[quoted], spot_px)
        vol = np.where(is_priced, marks.mark_vol[at], 0.5)
        terms = Legs(forward, self.strikes, np.maximum(tau, 1e-6), vol, self.held, self.calls)
        greeks = black76.greeks(forward, self.strikes, terms.tau_years, vol, self.calls)
        if self.policy.needs_offers and at % REVIEW_MARKS == 0 and self.book.any():
            offers = offers_at(marks, at, now_ns, greeks, terms, is_priced)
            rows = np.flatnonzero((self.book + self.held != 0.0) & (terms.tau_years > 1e-6))
            offers = msgspec.structs.replace(offers, own_base=self.book[rows])
            for trade in self.policy.target(self.view(at, now_ns, terms, greeks, offers)).options:
                column = int(trade.instrument_id)
                self.cash -= trade.qty_base * float(greeks.value[column]) + trade.cost_quote
                self.option_cost += trade.cost_quote
                self.life_cost += trade.cost_quote * min(1.0, span_years / float(terms.tau_years[column]))
                self.held[column] += trade.qty_base
                self.trades += 1
        view = self.view(at, now_ns, terms, greeks, None)
        wanted = to_trade(self.policy.target(view), view.delta_low_base)
        if wanted:
            cost = PERPETUAL_BPS * BP * spot_px * abs(wanted)
            self.perpetual += wanted
            self.cash -= wanted * spot_px + cost
            self.perpetual_cost += cost
            self.last_ns, self.last_px = now_ns, spot_px
        return self.cash + self.perpetual * spot_px + float((self.book + self.held) @ greeks.value)

    def view(
        self, at: int, now_ns: int, terms: Legs, greeks: black76.Black76Greeks, offers: OptionOffers | None
    ) -> HedgeView:
        """Return what the policy may know, as the engine would tell it."""
        quantity = self.book + self.held
        rows = np.flatnonzero((quantity != 0.0) & (terms.tau_years > 1e-6))
        held = quantity[rows]
        delta_base = float(held @ greeks.delta[rows]) + self.perpetual
        weight = np.abs(held * greeks.gamma[rows])
        return HedgeView(
            now_ns=now_ns,
            underlying=self.marks.underlying,
            spot_px=float(self.marks.index_px[at]),
            target_delta_base=0.0,
            greeks=Greeks(delta_base, float(held @ greeks.gamma[rows])),
            delta_low_base=delta_base,
            delta_high_base=delta_base,
            hedge_base=self.perpetual,
            pending_base=0.0,
            cost_rate=PERPETUAL_BPS * BP,
            fixed_cost_quote=0.0,
            lot_base=0.001,
            monitor_years=MARK_NS / YEAR_NS,
            last_hedge_ns=self.last_ns,
            last_hedge_px=self.last_px,
            legs=Legs(*(c[rows] for c in msgspec.structs.astuple(terms)[:4]), held, self.calls[rows]),
            vol=float(weight @ terms.vol[rows] / weight.sum()) if weight.sum() > 0.0 else 0.5,
            tau_years=float(terms.tau_years[rows].min(initial=np.inf)),
            offers=offers,
        )


def offers_at(
    marks: Marks, at: int, now_ns: int, greeks: black76.Black76Greeks, terms: Legs, is_priced: NDArray[np.bool_]
) -> OptionOffers:
    """Return the options quoted on both sides within the last half hour, at what their quotes are beyond the mark."""
    distance = np.abs(greeks.delta)
    bid, ask = marks.bid_coin[at] * terms.forward_px, marks.ask_coin[at] * terms.forward_px
    is_shown = is_priced & (bid > 0.0) & (ask > bid) & (now_ns - marks.quoted_ns[at] < FRESH_NS)
    is_shown &= (distance > 0.05) & (distance < 0.6) & (terms.tau_years > 0.25 / 365.0)
    rows = np.flatnonzero(is_shown)
    taken = Legs(*(column[rows] for column in msgspec.structs.astuple(terms)))
    fee = np.minimum(FEE_BPS * BP * marks.index_px[at], FEE_CAP_SHARE * greeks.value[rows])
    value = greeks.value[rows]
    return OptionOffers(
        instrument_ids=tuple(map(str, rows.tolist())),
        buy_cost_quote=np.maximum(ask[rows] - value, 0.0) + fee,
        sell_cost_quote=np.maximum(value - bid[rows], 0.0) + fee,
        buy_max_base=marks.ask_base[at, rows],
        sell_max_base=marks.bid_base[at, rows],
        lot_base=np.array([marks.options[row].lot_contracts for row in rows.tolist()]),
        held_base=terms.qty_base[rows],
        terms=taken,
        delta_ratio=greeks.delta[rows],
        gamma_per_px=greeks.gamma[rows],
        vega_quote_per_vol=greeks.vega[rows],
    )


def to_trade(target: HedgeTarget, delta_base: float) -> float:
    """Return what brings net delta where the target says; 0 within the band."""
    if delta_base < target.low_base:
        return target.buy_to_base - delta_base
    return target.sell_to_base - delta_base if delta_base > target.high_base else 0.0


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
