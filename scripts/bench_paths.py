"""The tables of `scripts/bench paths`: policies on common paths in three worlds, and Hull's table as a check.

Every policy believes in Black and Scholes with the vol of the world; only in the first world is that true.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import msgspec
from bench_speed import describe_machine, say

from bot import __version__
from bot.domain.decisions import HedgePolicy, HedgeTarget, HedgeView
from bot.simulation.yardstick.paths import Entrant, Gaussian, Heston, Law, Merton, World, judge
from strategies import DeltaBand, FixedInterval, Leland, WhalleyWilmott, Zakamouline

PATHS: Final = 8_000
BASE: Final = World()
NODES: Final = 41  # a certainty equivalent differs by 1e-5 of itself from that at 121
WORLDS: Final[tuple[tuple[Law, int], ...]] = ((Gaussian(), 2_880), (Heston(), 720), (Merton(), 720))  # and looks
HULL: Final = World(
    spot_px=49.0, strike_px=50.0, vol=0.2, tau_years=20 / 52, rate=0.05, drift=0.13, cost_rate=0.0, is_liquidated=False
)
HULL_STEPS: Final = (4, 5, 10, 20, 40, 80)
HULL_PATHS: Final = 100_000
DEFAULT: Final = "whalley_wilmott, as it comes"


class ToCentre:
    """Another policy's trigger, traded back to the middle of its band: what many desks do."""

    def __init__(self, policy: HedgePolicy) -> None:
        self._policy = policy
        self.name = f"{policy.name} to the centre"
        self.needs_offers = False

    def target(self, view: HedgeView) -> HedgeTarget:
        """Return the other policy's band, traded to its middle."""
        found = self._policy.target(view)
        middle = 0.5 * (found.low_base + found.high_base)
        return HedgeTarget.to_centre(found.low_base, found.high_base, middle, found.reason)


def entrants() -> list[Entrant]:
    """Return the policies of the table, all at the risk aversion of the world."""
    g = BASE.risk_aversion_per_quote
    plain = WhalleyWilmott(risk_aversion_per_quote=g, monitoring_correction=False, h0_floor=False, centre_term="none")
    hour_s = 3600.0
    return [
        Entrant(DEFAULT, WhalleyWilmott(risk_aversion_per_quote=g)),
        Entrant("whalley_wilmott, no corrections", plain),
        Entrant("the same to the centre", ToCentre(plain)),
        Entrant("zakamouline", Zakamouline(risk_aversion_per_quote=g)),
        Entrant("delta_band 0.06 to the edge", DeltaBand(half_width_base=0.06)),
        Entrant("fixed_interval 8 h", FixedInterval(interval_s=8 * hour_s - 1.0)),
        Entrant("fixed_interval 24 h", FixedInterval(interval_s=24 * hour_s - 1.0)),
        Entrant("fixed_interval 1 h", FixedInterval(interval_s=hour_s - 1.0)),
        Entrant("leland 24 h", Leland(interval_s=24 * hour_s - 1.0)),
    ]


def main() -> None:
    """Judge every policy in every world and print the tables."""
    paths = int(sys.argv[1]) if len(sys.argv) > 1 else PATHS
    table = {
        "bench": "paths",
        "evenkeel": __version__,
        "machine": describe_machine(),
        "paths": paths,
        "worlds": [row for law, steps in WORLDS for row in world(law, steps, paths)],
        "hull": [hull(counts_interest=counts) for counts in (True, False)],
    }
    print(json.dumps(table, indent=1))


def world(law: Law, steps: int, paths: int) -> list[dict[str, Any]]:
    """Return what every policy cost in one world, and how much more than the default."""
    name = type(law).__name__
    say(f"{name}: {paths} paths of {steps} looks")
    verdict = judge(msgspec.structs.replace(BASE, law=law, steps=steps), entrants(), paths=paths, nodes=NODES, seed=1)
    rows = []
    for label, score in verdict.scores.items():
        extra, error = verdict.difference(label, DEFAULT)
        numbers = {key: round(value, 4) for key, value in score._asdict().items() if key != "label"}
        rows.append(
            {"world": name, "policy": label, **numbers, "above_default": round(extra, 4), "error": round(error, 4)}
        )
    return rows


def hull(*, counts_interest: bool) -> dict[str, Any]:
    """Return the standard deviation of the cost of hedging, over the price of the option, by number of hedges."""
    say(f"Hull's table, {'with' if counts_interest else 'without'} interest")
    row: dict[str, Any] = {"counts_interest": counts_interest}
    for steps in HULL_STEPS:
        setting = msgspec.structs.replace(HULL, steps=steps, counts_interest=counts_interest)
        score = judge(setting, [Entrant("clock", FixedInterval(interval_s=1.0))], paths=HULL_PATHS, nodes=31, seed=3)
        row[f"{20 / steps:g} weeks"] = round(score.scores["clock"].sd_quote / HULL.price_quote, 4)
    return row


if __name__ == "__main__":
    main()
