"""The tables of `scripts/bench hedging`: how near to the exact optimum every policy hedges, as Markdown on stdout.

For each setting the optimum is solved on a lattice (Hodges & Neuberger 1989), then every policy's own object is asked
at the lattice's nodes and what it answers is valued exactly on it. Efficiency is the least possible cost over the
policy's, both certainty equivalents beyond the frictionless price. The price is looked at every hour, every
15 minutes in the base case; `--quick` has fewer rows and larger lots.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from bot.simulation.yardstick.asking import bands_of
from bot.simulation.yardstick.lattice import Grid, Lattice, Line, Setting, Settlement
from strategies import policy_from_spec

DAY_YEARS: Final = 1.0 / 365.0
CALL: Final = (Line(100.0, -1.0),)
GAS_BPS: Final = (0.02, 0.1, 0.5, 2.0)
COSTS_BPS: Final = (2.0, 5.0, 10.0)
AVERSIONS: Final = (1.0, 10.0, 100.0)
EVERY: Final = 8  # steps from one question to the next but in the last tenth of them; changes 1e-5 of the results
UNCORRECTED: Final = "monitoring_correction=false:h0_floor=false:centre_term=none"


class Scale(NamedTuple):
    """How finely the table is made: looks per day, and how many nodes and hedges."""

    looks: int
    reach_deviations: float
    lots: float


FULL: Final = Scale(24, 4.5, 1.0)
FINE: Final = Scale(96, 4.5, 1.0)
QUICK: Final = Scale(24, 4.25, 2.0)


class Case(NamedTuple):
    """A setting, and the hedges it may need."""

    name: str
    setting: Setting
    low_base: float
    high_base: float
    lot_base: float


def call(scale: Scale, cost_bps: float, aversion: float, **changes: object) -> Case:
    """Return the short call of 30 days at the money, vol 60 %; aversion is g times the strike."""
    setting = Setting(CALL, 100.0, 0.6, 30.0 * DAY_YEARS, 30 * scale.looks, cost_bps * 1e-4, aversion / 100.0)
    wide = 0.4 if aversion < 5.0 else 0.12
    lot_base = 0.01 if aversion < 5.0 else 0.005 if aversion < 50.0 else 0.0025
    name = f"{cost_bps:g} bp, gK {aversion:g}"
    return Case(name, msgspec.structs.replace(setting, **changes), -wide, 1.0 + wide, lot_base * scale.lots)


def books(scale: Scale) -> list[Case]:
    """Return five books whose gammas offset each other, at 5 bp and g = 0.1."""
    setting = call(scale, 5.0, 10.0).setting
    fly = (Line(90.0, 1.0), Line(100.0, -2.0), Line(110.0, 1.0))
    lines = {
        "short 5 butterflies 90/100/110": (tuple(Line(k, -5.0 * q) for k, q, _ in fly), 6.0, 0.02),
        "long 5 butterflies": (tuple(Line(k, 5.0 * q) for k, q, _ in fly), 6.0, 0.02),
        "risk reversal 110/−90": ((Line(110.0, 1.0), Line(90.0, -1.0)), 1.3, 0.005),
        "two short calls 90 and 110": ((Line(90.0, -1.0), Line(110.0, -1.0)), 2.2, 0.005),
        "−2 calls 100, +1 call 95": ((Line(100.0, -2.0), Line(95.0, 1.0)), 1.6, 0.005),
    }
    return [
        Case(
            name,
            msgspec.structs.replace(setting, lines=held),
            -most if name.startswith(("short 5", "long", "risk", "−2")) else -0.2,
            most,
            lot_base * scale.lots,
        )
        for name, (held, most, lot_base) in lines.items()
    ]


def elsewhere(scale: Scale) -> list[Case]:
    """Return settings nobody looked at while the formulas were found."""

    def case(
        name: str, lines: tuple[Line, ...], vol: float, days: float, looks: int, cost_bps: float, g: float
    ) -> Case:
        setting = Setting(lines, 100.0, vol, days * DAY_YEARS, looks, cost_bps * 1e-4, g)
        short = sum(line.qty_base for line in lines) < 0.0
        low_base, high_base = (-0.3, 1.3) if short else (-1.3, 0.3)
        return Case(name, setting, low_base, high_base, 0.005 * scale.lots)

    looks = scale.looks
    return [
        case("long call, 5 bp, gK 10", (Line(100.0, 1.0),), 0.6, 30.0, 30 * looks, 5.0, 0.1),
        case("strike 120, 8 bp, gK 24", (Line(120.0, -1.0),), 0.6, 30.0, 30 * looks, 8.0, 0.2),
        case("strike 85, 3 bp, gK 26", (Line(85.0, -1.0),), 0.6, 30.0, 30 * looks, 3.0, 0.3),
        case("7 days, vol 90 %, 3 bp, gK 3", CALL, 0.9, 7.0, 7 * looks, 3.0, 0.03),
        case("2 days, vol 100 %, 10 bp, gK 30", CALL, 1.0, 2.0, 6 * looks, 10.0, 0.3),
        case("180 days, vol 40 %, 30 bp, gK 10", CALL, 0.4, 180.0, 15 * looks, 30.0, 0.1),
        case("one year, vol 25 %, 100 bp, gK 15", CALL, 0.25, 365.0, 8 * looks, 100.0, 0.15),
    ]


def straddle(scale: Scale) -> Case:
    """Return a short straddle, whose hedge may end on either side."""
    setting = call(scale, 5.0, 10.0).setting
    lines = (Line(100.0, -1.0), Line(100.0, -1.0, is_call=False))
    straddled = msgspec.structs.replace(setting, lines=lines)
    return Case("short straddle", straddled, -1.2, 1.2, 0.005 * scale.lots)


def unwound(cases: Sequence[Case]) -> list[Case]:
    """Return the same cases with a hedge that is closed at expiry, at a cost."""
    return [
        case._replace(setting=msgspec.structs.replace(case.setting, settlement=Settlement.LIQUIDATED)) for case in cases
    ]


class Bench:
    """Scores specs on cases and prints tables; `{g}` in a spec is the risk aversion of the case."""

    def __init__(self, scale: Scale) -> None:
        """Start with nothing measured."""
        self.scale = scale
        self.began_s = time.monotonic()
        self.began_cpu_s = time.process_time()

    def table(self, title: str, specs: dict[str, str], cases: Sequence[Case]) -> None:
        """Print one table: a row per case, a column per policy."""
        print(f"\n### {title}\n")
        print(f"| | least cost | {' | '.join(specs)} |")
        print(f"|---|---:|{'---:|' * len(specs)}")
        for case in cases:
            lattice = Lattice(
                case.setting, Grid(case.low_base, case.high_base, case.lot_base, self.scale.reach_deviations)
            )
            least = lattice.best().excess_quote
            scores = [self.score(lattice, spec, least) for spec in specs.values()]
            print(f"| {case.name} | {least:.4f} | {' | '.join(scores)} |", flush=True)
            print(f"{time.monotonic() - self.began_s:5.0f} s  {case.name}", file=sys.stderr)

    def score(self, lattice: Lattice, spec: str, least_quote: float) -> str:
        """Return the efficiency of one policy."""
        policy = policy_from_spec(spec.format(g=repr(lattice.setting.risk_aversion_per_quote)))
        every = 1 if "interval" in spec else EVERY
        return f"{least_quote / lattice.worth(bands_of(policy, lattice, every)).excess_quote:.3f}"


def main(arguments: list[str]) -> int:
    """Print the tables; return the exit code."""
    if arguments not in ([], ["--quick"]):
        print(f"expected nothing or --quick, found {' '.join(arguments)}", file=sys.stderr)
        return 2
    quick = bool(arguments)
    scale = QUICK if quick else FULL
    bench = Bench(scale)
    default = {"impulse (default)": "impulse:risk_aversion_per_quote={g}"}
    # What knowing that the hedge must be closed is worth, and costs where it need not be.
    told = {"impulse, `unwinds_at_expiry`": "impulse:risk_aversion_per_quote={g}:unwinds_at_expiry=true"}
    plain = {"Whalley–Wilmott, no corrections": f"whalley_wilmott:risk_aversion_per_quote={{g}}:{UNCORRECTED}"}
    others = plain | {
        "Zakamouline": "zakamouline:risk_aversion_per_quote={g}",
        "fixed ±0.06": "delta_band:half_width_base=0.06",
        "fixed ±0.06 to the centre": "delta_band:half_width_base=0.06:trade_to=centre",
    }
    clocks = {"clock 24 h": "fixed_interval:interval_s=86400", "Leland 24 h": "leland:interval_s=86400"}
    costs = COSTS_BPS[1:2] if quick else COSTS_BPS
    print("Short call, 30 days, at the money, vol 60 %, per 100 of notional; price looked at every", end=" ")
    print(f"{1440 // scale.looks} minutes.")
    nine = [call(scale, bps, aversion) for bps in costs for aversion in AVERSIONS]
    bench.table("Hedge free of cost at expiry", default | told | others, nine)
    bench.table("Hedge unwound at expiry", default | told | plain, unwound(nine))
    base = unwound([call(QUICK if quick else FINE, 5.0, 10.0)])
    title = "Base case: unwound, looked at every 15 minutes (quick: every hour)"
    bench.table(title, default | others | clocks, base)
    gases = [
        case._replace(name=f"{case.name}, gas {gas:g} bp")
        for aversion in AVERSIONS[1:]
        for gas in (GAS_BPS[1::2] if quick else GAS_BPS)
        for case in [call(scale, 5.0, aversion, fixed_cost_quote=gas * 1e-2)]
    ]
    bench.table("Gas: each hedge also costs so much of the notional; free at expiry", default | plain, gases)
    bench.table("Gas, unwound at expiry", default | told, unwound(gases[:1] if quick else gases))
    offsetting = books(scale)[: 1 if quick else None]
    bench.table("Books of offsetting options, 5 bp, g = 0.1; free at expiry", default | plain, offsetting)
    bench.table("The same, unwound at expiry", default | told, unwound([*offsetting, straddle(scale)]))
    other = elsewhere(scale)[3:5] if quick else elsewhere(scale)
    bench.table("Elsewhere, free at expiry", default | plain, other)
    bench.table("Elsewhere, unwound at expiry", default | told, unwound(other))
    print(f"\n{time.process_time() - bench.began_cpu_s:.0f} s of one core.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
