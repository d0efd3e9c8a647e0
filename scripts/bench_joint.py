"""The table of `scripts/bench joint`: two correlated books hedged together, as a share of hedging each alone."""

from __future__ import annotations

import json
from typing import Any, Final

from bench_speed import describe_machine, say

from bot import __version__
from bot.simulation.yardstick.correlated import Side, play_together
from strategies import Impulse

TICKS: Final = 12_000
STEP_YEARS: Final = 900.0 / 31_536_000.0  # a look every quarter of an hour
AVERSE: Final = 3e-4
RATIOS: Final = (0.0, 0.5, 0.8, 0.95)
GAMMAS: Final = (1.0, -1.0, 3.0, -3.0)
ETH: Final = Side("ETH", 1900.0, 0.6, -0.12, 5.1e-4)


def main() -> None:
    """Play everything and print the table."""
    rows = [row(gamma_ratio, ratio) for gamma_ratio in GAMMAS for ratio in RATIOS]
    table = {"bench": "joint", "evenkeel": __version__, "machine": describe_machine(), "ticks": TICKS, "rows": rows}
    print(json.dumps(table, indent=1))


def row(gamma_ratio: float, ratio: float) -> dict[str, Any]:
    """Return what hedging costs alone, and the share of it when told the correlation, or one too low or high."""
    btc_gamma = gamma_ratio * ETH.gamma_base_per_px * (ETH.unit_px / 15_000.0) ** 2
    sides = (ETH, Side("BTC", 30_000.0, 0.5, btc_gamma, 5.1e-4))
    policy = Impulse(risk_aversion_per_quote=AVERSE)

    def total_quote(told: float) -> float:
        return play_together(policy, AVERSE, sides, ratio, told, seed=3, ticks=TICKS, step_years=STEP_YEARS).total_quote

    alone = total_quote(0.0)
    found = {"gamma_ratio": gamma_ratio, "correlation": ratio, "alone_quote": round(alone)}
    for name, told in (("told", ratio), ("told_too_low", ratio - 0.2), ("told_too_high", min(0.99, ratio + 0.15))):
        if told > 0.0:
            found[name] = round(total_quote(told) / alone, 3)
    say(str(found))
    return found


if __name__ == "__main__":
    main()
