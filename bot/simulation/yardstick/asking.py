"""Ask a policy, at every node of a lattice, for its band: the rule it is measured by. It must never know a formula.

The policy is the object that trades elsewhere, and sees a `HedgeView` as the engine would build it: the Greeks of the
book, cost, vol, time to expiry. Its hedge is flat in every view, as a band on net delta says the same for any hedge.

One number is translated. A lattice overshoots a barrier by √3/2 of a step's deviation where the market, which the
policy corrects for, overshoots by 0.5826; `monitor_years` is lengthened by the square of that ratio, so that the policy
sees the step whose overshoot the lattice has.
"""

from __future__ import annotations

import numpy as np

from bot.domain.decisions import HedgePolicy, HedgeView, Legs
from bot.domain.portfolio import Greeks
from bot.pricing import black76
from bot.simulation.yardstick.lattice import (
    GAUSSIAN_OVERSHOOT_DEVIATIONS,
    OVERSHOOT_DEVIATIONS,
    Bands,
    Floats,
    Lattice,
)

FIRST_NS = 1_750_000_000_000_000_000  # any moment long after 0, which to a view means that no hedge was made yet
NS_PER_YEAR = 365 * 86_400 * 1_000_000_000
LOT_BASE = 1e-9  # the grid has the lots: a policy is not to round too
UNDERLYING = "LATTICE"


def bands_of(policy: HedgePolicy, lattice: Lattice, every: int = 1, reach_deviations: float = 5.0) -> Bands:
    """Return the policy's rule on this lattice.

    It is asked at every node at `every` step (and at all of the last tenth of them, where bands move fast); between
    two such steps the earlier answer stands, relative to the delta of the day, so `every` = 1 is exact. Nodes further
    out than `reach_deviations` are not asked: they follow the last that was. A policy that answers with a band no wider
    than a lot has traded then, and sees that as its last hedge.
    """
    setting = lattice.setting
    steps = setting.steps
    bands = lattice.empty_bands()
    monitor_years = setting.step_years * (OVERSHOOT_DEVIATIONS / GAUSSIAN_OVERSHOOT_DEVIATIONS) ** 2
    last_hedge_ns, last_hedge_px = 0, 0.0
    asked: slice = slice(0, 0)
    answers: Floats = np.zeros((4, 0))
    for step in range(steps):
        rows = lattice.rows(step)
        book = _Book(lattice, rows, setting.tau_years - step * setting.step_years)
        if every == 1 or step % every == 0 or step >= 0.9 * steps:
            now_ns = FIRST_NS + round(step * setting.step_years * NS_PER_YEAR)
            half = min(lattice.centre - rows.start, int(reach_deviations * np.sqrt(step / 3.0)) + 2)
            asked = slice(lattice.centre - half, lattice.centre + half + 1)
            answers = book.ask(policy, asked.start - rows.start, now_ns, monitor_years, last_hedge_ns, last_hedge_px)
            middle = answers[:, half]
            if middle[1] - middle[0] <= LOT_BASE * 1.001:
                last_hedge_ns, last_hedge_px = now_ns, float(lattice.prices_px[lattice.centre])
        nodes = np.clip(np.arange(rows.start, rows.stop), asked.start, asked.stop - 1) - asked.start
        for kept, answer in zip(bands, answers, strict=True):
            kept[step, rows] = lattice.column_of(answer[nodes] - book.delta_base)
    return bands


class _Book:
    """The book at the nodes of one step: its Greeks, and views of it."""

    def __init__(self, lattice: Lattice, rows: slice, tau_years: float) -> None:
        setting = lattice.setting
        lines = setting.lines
        self._setting = setting
        self._tau_years = tau_years
        self._prices_px = lattice.prices_px[rows]
        self._strikes = np.array([line.strike_px for line in lines])
        self._calls = np.array([line.is_call for line in lines])
        self._quantities = np.array([line.qty_base for line in lines])
        self._shape = (self._prices_px.size, len(lines))
        self._forwards = np.repeat(self._prices_px[:, None], len(lines), axis=1)
        self._taus = np.full(len(lines), tau_years)
        self._vols = np.full(len(lines), setting.vol)
        self._greeks = black76.greeks(self._forwards, self._strikes, tau_years, setting.vol, self._calls)
        self.delta_base: Floats = self._greeks.delta @ self._quantities

    def ask(
        self,
        policy: HedgePolicy,
        skipped: int,
        now_ns: int,
        monitor_years: float,
        last_hedge_ns: int,
        last_hedge_px: float,
    ) -> Floats:
        """Return low, high, buy-to and sell-to net deltas at all nodes but the outermost `skipped` on either side."""
        setting = self._setting
        nodes = slice(skipped, self._prices_px.size - skipped)
        gammas = (self._greeks.gamma @ self._quantities)[nodes].tolist()
        vegas = (self._greeks.vega @ self._quantities)[nodes].tolist()
        thetas = (self._greeks.theta @ self._quantities / 365.0)[nodes].tolist()
        values = (self._greeks.value @ self._quantities)[nodes].tolist()
        vannas = (self._greeks.vanna @ self._quantities)[nodes].tolist()
        deltas = self.delta_base[nodes].tolist()
        forwards = self._forwards[nodes]
        answers = []
        for node, spot_px in enumerate(self._prices_px[nodes].tolist()):
            delta_base = deltas[node]
            view = HedgeView(
                now_ns=now_ns,
                underlying=UNDERLYING,
                spot_px=spot_px,
                target_delta_base=0.0,
                greeks=Greeks(delta_base, gammas[node], vegas[node], thetas[node], values[node]),
                delta_low_base=delta_base,
                delta_high_base=delta_base,
                hedge_base=0.0,
                pending_base=0.0,
                cost_rate=setting.cost_rate,
                fixed_cost_quote=setting.fixed_cost_quote,
                lot_base=LOT_BASE,
                monitor_years=monitor_years,
                last_hedge_ns=last_hedge_ns,
                last_hedge_px=last_hedge_px,
                legs=Legs(
                    forward_px=forwards[node],
                    strike_px=self._strikes,
                    tau_years=self._taus,
                    vol=self._vols,
                    qty_base=self._quantities,
                    is_call=self._calls,
                ),
                vol=setting.vol,
                tau_years=self._tau_years,
                vanna_base_per_vol=vannas[node],
            )
            target = policy.target(view)
            answers.append((target.low_base, target.high_base, target.buy_to_base, target.sell_to_base))
        return np.array(answers).T
