"""How long splitting a trade takes: 3, 8 and 20 venues, on CPU time of this thread, the best of several runs of each.

One lot for all venues, and lots of 1, 5, 10 and 100 times that.
Venues are random: books, square-root impact, pools and flat ones, half of them with a fixed cost. The ratio to a plain
loop of the same run says how fast the machine was. Prints one JSON object.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import msgspec
import numpy as np

from bot.pricing.costs import CostCurve
from bot.pricing.splitting import best_split
from tests.pricing.test_splitting import random_curves

CASES = 200
TRIES = 3
LOT_BASE = 0.001
UNEQUAL = (1, 5, 10, 100)


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(1)
    rows = []
    for count in (3, 8, 20):
        cases = [
            (round(float(10.0 ** rng.uniform(-0.5, 1.2)), 3), random_curves(rng, count, LOT_BASE, least_share=0.0))
            for _ in range(CASES)
        ]
        rows += measured(count, "one lot", cases)
        rows += measured(count, "unequal lots", [(size, with_unequal_lots(rng, curves)) for size, curves in cases])
    print(json.dumps({"cases": CASES, "lot_base": LOT_BASE, "unequal": UNEQUAL, "rows": rows}, indent=1))


def with_unequal_lots(rng: np.random.Generator, curves: list[CostCurve]) -> list[CostCurve]:
    """Return the curves with lots drawn anew."""
    return [msgspec.structs.replace(curve, lot_base=LOT_BASE * float(rng.choice(UNEQUAL))) for curve in curves]


def measured(count: int, lots: str, cases: list[tuple[float, list[CostCurve]]]) -> list[dict[str, object]]:
    """Return a row for the plan alone and one for the plan with the next best, in CPU time and in plain loops."""
    rows: list[dict[str, object]] = []
    proven = sum(best_split(size, curves, is_explained=False).is_proven for size, curves in cases)
    for name, is_explained in (("plan", False), ("plan and next best", True)):
        loop_us = best_us(plain_loop)
        took_us = [best_us(one_split(size, curves, is_explained=is_explained)) for size, curves in cases]
        loop_us = min(loop_us, best_us(plain_loop))
        p50, p99, most = (float(np.quantile(took_us, share)) for share in (0.5, 0.99, 1.0))
        rows.append(
            {
                "venues": count,
                "lots": lots,
                "what": name,
                "p50_us": round(p50),
                "p99_us": round(p99),
                "max_us": round(most),
                "plain_loop_us": round(loop_us, 1),
                "p50_plain_loops": round(p50 / loop_us, 2),
                "p99_plain_loops": round(p99 / loop_us, 2),
                "proven_share": proven / CASES,
            }
        )
    return rows


def one_split(size: float, curves: list[CostCurve], *, is_explained: bool) -> Callable[[], object]:
    """Return a call of one split."""
    return lambda: best_split(size, curves, is_explained=is_explained)


def plain_loop() -> float:
    """Add a thousand quotients."""
    total = 0.0
    for number in range(1, 1001):
        total += 1.0 / number
    return total


def best_us(call: Callable[[], object]) -> float:
    """Return the shortest CPU time of several calls."""
    took_ns = []
    for _ in range(TRIES):
        began_ns = time.thread_time_ns()
        call()
        took_ns.append(time.thread_time_ns() - began_ns)
    return min(took_ns) / 1e3


if __name__ == "__main__":
    main()
