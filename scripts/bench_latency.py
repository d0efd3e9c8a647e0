"""The tables of `scripts/bench latency`: what looking now and then costs, and what orders that take their time cost.

First the local model, exactly and played; then an option of 30 days, hedged by the real policy on common paths.
"""

from __future__ import annotations

import json
import sys
from math import inf
from typing import Any, Final

import numpy as np
from bench_speed import describe_machine, say

from bot import __version__
from bot.pricing.impulse import latency_cost_rate_quote
from bot.simulation.yardstick.latency import Rule, best_monitored_band, latency_cost_share, play
from bot.simulation.yardstick.paths import Entrant, World, judge
from strategies import WhalleyWilmott

STEPS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
LATENCIES: Final = (0, 1, 2, 5, 10, 20)
PATHS: Final = 4_000
NODES: Final = 41  # a certainty equivalent differs by 1e-5 of itself from that at 121
HOURS: Final = {"15 min": 1, "1 h": 4, "4 h": 16}  # in looks of 15 min
BASE: Final = World()


def main() -> None:
    """Measure everything and print the tables."""
    paths = int(sys.argv[1]) if len(sys.argv) > 1 else PATHS
    table = {
        "bench": "latency",
        "evenkeel": __version__,
        "machine": describe_machine(),
        "monitoring": [monitoring(step) for step in STEPS],
        "local": [row for latency in LATENCIES for row in local(latency)],
        "option": option(paths),
    }
    print(json.dumps(table, indent=1))


def monitoring(step_share: float) -> dict[str, Any]:
    """Return the best band for looks one step apart."""
    say(f"looks {step_share} of the band apart")
    best = best_monitored_band(step_share)
    return {
        "step_share": step_share,
        "half_share": round(best.half_share, 4),
        "shift_ratio": round(best.shift_ratio, 4),
        "cost_share": round(best.cost_share, 4),
    }


def local(latency_steps: int) -> list[dict[str, Any]]:
    """Return what every rule costs with orders of one latency, in looks a tenth of the band apart."""
    best = best_monitored_band(0.1)
    rows = []
    for rule in Rule:
        say(f"orders that take {latency_steps} looks, {rule}")
        found = play(rule, best.half_share, 0.1, latency_steps, seed=1)
        rows.append(
            {
                "latency_steps": latency_steps,
                "rule": str(rule),
                "cost_share": round(found.cost_share, 4) if found.cost_share < inf else "diverges",
                "error_share": round(found.error_share, 4) if found.cost_share < inf else None,
                "theory_share": round(latency_cost_share(best, latency_steps), 4),
            }
        )
    return rows


def option(paths: int) -> list[dict[str, Any]]:
    """Return how much dearer hedging an option is if every order but the first takes its time."""
    policy = WhalleyWilmott(risk_aversion_per_quote=BASE.risk_aversion_per_quote)
    entrants = [Entrant("prompt", policy)]
    for label, steps in HOURS.items():
        entrants.append(Entrant(label, policy, steps))
        entrants.append(Entrant(f"{label}, one outstanding", policy, steps, Rule.ONE_OUTSTANDING))
    entrants.append(Entrant("1 h, naive", policy, HOURS["1 h"], Rule.NAIVE))
    entrants.append(Entrant("4 h, naive", policy, HOURS["4 h"], Rule.NAIVE))
    say(f"an option of 30 days on {paths} paths, {len(entrants)} ways to hedge it")
    verdict = judge(BASE, entrants, paths=paths, nodes=NODES, seed=1)
    rate = mean_rate_quote()
    rows = []
    for entrant in entrants[1:]:
        extra, error = verdict.difference(entrant.label, "prompt")
        diverges = extra == inf or extra > 10.0
        rows.append(
            {
                "orders": entrant.label,
                "extra_ce_quote": "diverges" if diverges else round(extra, 4),
                "error_quote": None if diverges else round(error, 4),
                "formula_quote": round(rate * entrant.latency_steps * BASE.step_years, 4),
            }
        )
    return rows


def mean_rate_quote() -> float:
    """Return E ∫ ½ g Γ² S⁴ σ⁴ dt over the life of the option, per year of latency, by Gauss–Hermite at every look."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    spots_px, vol, tau = BASE.spot_px, BASE.vol, BASE.tau_years
    total = 0.0
    for step in range(BASE.steps):
        years = (step + 0.5) * BASE.step_years
        left = vol * (tau - years) ** 0.5
        logs = vol * years**0.5 * nodes - 0.5 * vol * vol * years
        prices = spots_px * np.exp(logs)
        d1 = np.log(prices / BASE.strike_px) / left + 0.5 * left
        gamma = np.exp(-0.5 * d1 * d1) / (np.sqrt(2.0 * np.pi) * prices * left)
        rates = [
            latency_cost_rate_quote(BASE.risk_aversion_per_quote, float(one), float(px), vol, 1.0)
            for one, px in zip(gamma, prices, strict=True)
        ]
        total += float(weights @ np.array(rates)) * BASE.step_years
    return total


if __name__ == "__main__":
    main()
