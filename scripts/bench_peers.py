"""The peers' side of `scripts/bench`: times QuantLib and nautilus_trader, one option at a time, as their users would.

It runs under the Python of `.venv-bench`, reads one JSON request a line, and answers each in a line: to the options it
answers which peers there are, and to `[peer, work]` how long that took, and, if a third entry asks for them, the
numbers. It must import nothing of ours, and never put anything but the peer's own calls between two readings of the
clock.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from math import nan, sqrt
from time import perf_counter_ns
from typing import Any, Final, NamedTuple

PERCENT: Final = 0.01
DAYS_OF_NAUTILUS_YEAR: Final = 365.25


class PricedOption(NamedTuple):
    """One option, and the price whose vol is sought."""

    forward: float
    strike: float
    tau_years: float
    vol: float
    is_call: bool
    price: float


Numbers = list[tuple[float, ...]]


class QuantLib:
    """QuantLib's Python API: a BlackCalculator for each option, and blackFormulaImpliedStdDev."""

    greeks = ("value", "delta", "gamma", "vega", "theta", "rho", "vanna", "volga")
    calls: Final = {
        "greeks": "BlackCalculator",
        "implied_vol": "blackFormulaImpliedStdDev, accuracy 1e-6 (its default)",
        "implied_vol_precise": "blackFormulaImpliedStdDev, accuracy 1e-12",
    }

    def __init__(self) -> None:
        self.module = import_module("QuantLib")
        self.version = version("QuantLib")

    def run_greeks(self, options: list[PricedOption]) -> Numbers:
        """Return a row of `greeks` for each option, as QuantLib defines them."""
        calculator, payoff = self.module.BlackCalculator, self.module.PlainVanillaPayoff
        call, put = self.module.Option.Call, self.module.Option.Put
        rows: Numbers = []
        for forward, strike, tau, vol, is_call, _ in options:
            black = calculator(payoff(call if is_call else put, strike), forward, vol * sqrt(tau))
            rows.append(
                (
                    black.value(),
                    black.deltaForward(),
                    black.gammaForward(),
                    black.vega(tau),
                    black.theta(forward, tau),
                    black.rho(tau),
                    black.vanna(forward, tau),
                    black.volga(tau),
                )
            )
        return rows

    def in_our_units(self, options: list[PricedOption], rows: Numbers) -> Numbers:
        """Rho at a fixed forward instead of a fixed spot; volga per vol (QuantLib divides by the deviation)."""
        return [
            (*row[:5], row[5] - one.tau_years * one.forward * row[1], row[6], row[7] * sqrt(one.tau_years))
            for one, row in zip(options, rows, strict=True)
        ]

    def run_implied_vol(self, options: list[PricedOption]) -> Numbers:
        """Return the vol of each price to QuantLib's own accuracy; NaN where it gives up."""
        solve = self.module.blackFormulaImpliedStdDev
        call, put = self.module.Option.Call, self.module.Option.Put
        vols: Numbers = []
        for forward, strike, tau, _, is_call, price in options:
            try:
                vols.append((solve(call if is_call else put, strike, forward, price) / sqrt(tau),))
            except RuntimeError:
                vols.append((nan,))
        return vols

    def run_implied_vol_precise(self, options: list[PricedOption]) -> Numbers:
        """Return the vol of each price as near as QuantLib gets in 100 iterations; NaN where it gives up."""
        solve = self.module.blackFormulaImpliedStdDev
        call, put = self.module.Option.Call, self.module.Option.Put
        guess = self.module.nullDouble()
        vols: Numbers = []
        for forward, strike, tau, _, is_call, price in options:
            side = call if is_call else put
            try:
                vols.append((solve(side, strike, forward, price, 1.0, 0.0, guess, 1e-12, 100) / sqrt(tau),))
            except RuntimeError:
                vols.append((nan,))
        return vols


class Nautilus:
    """nautilus_trader's compiled black_scholes_greeks and imply_vol, with spot = forward and cost of carry 0."""

    greeks = ("value", "delta", "gamma", "vega", "theta")
    calls: Final = {"greeks": "black_scholes_greeks", "implied_vol": "imply_vol"}

    def __init__(self) -> None:
        self.module = import_module("nautilus_trader.core.nautilus_pyo3")
        self.version = version("nautilus_trader")

    def run_greeks(self, options: list[PricedOption]) -> Numbers:
        """Return a row of `greeks` for each option, as nautilus_trader defines them."""
        compute = self.module.black_scholes_greeks
        rows: Numbers = []
        for forward, strike, tau, vol, is_call, _ in options:
            found = compute(forward, 0.0, 0.0, vol, is_call, strike, tau, 1.0)
            rows.append((found.price, found.delta, found.gamma, found.vega, found.theta))
        return rows

    def in_our_units(self, _options: list[PricedOption], rows: Numbers) -> Numbers:
        """Vega per 1.00 of vol instead of a percent, theta per year instead of a day."""
        return [(*row[:3], row[3] / PERCENT, row[4] * DAYS_OF_NAUTILUS_YEAR) for row in rows]

    def run_implied_vol(self, options: list[PricedOption]) -> Numbers:
        """Return the vol of each price."""
        solve = self.module.imply_vol
        return [
            (solve(forward, 0.0, 0.0, is_call, strike, tau, price),)
            for forward, strike, tau, _, is_call, price in options
        ]


PEERS: Final[dict[str, type[QuantLib | Nautilus]]] = {"QuantLib": QuantLib, "nautilus_trader": Nautilus}


def main() -> None:
    """Answer every request on stdin."""
    options = [PricedOption(*row) for row in json.loads(sys.stdin.readline())]
    peers, found = open_peers()
    answer(found)
    for line in sys.stdin:
        name, work, *is_shown = json.loads(line)
        answer(run(peers[name], work, options, is_shown=bool(is_shown)))


def open_peers() -> tuple[dict[str, QuantLib | Nautilus], dict[str, Any]]:
    """Return the peers that can be imported, and of every peer what it offers, or why it is not there."""
    peers: dict[str, QuantLib | Nautilus] = {}
    found: dict[str, Any] = {}
    for name, peer in PEERS.items():
        try:
            opened = peers[name] = peer()
        except ImportError as error:
            found[name] = f"unavailable: {error}"
            continue
        found[name] = {"version": opened.version, "greeks": opened.greeks, "calls": opened.calls}
    return peers, found


def run(peer: QuantLib | Nautilus, work: str, options: list[PricedOption], *, is_shown: bool) -> dict[str, Any]:
    """Time one pass over the options."""
    loop: Callable[[list[PricedOption]], Numbers] = getattr(peer, f"run_{work}")
    gc.collect()
    gc.disable()
    began_ns = perf_counter_ns()
    rows = loop(options)
    took_ns = perf_counter_ns() - began_ns
    gc.enable()
    if not is_shown:
        return {"took_ns": took_ns}
    return {"took_ns": took_ns, "rows": peer.in_our_units(options, rows) if work == "greeks" else rows}


def answer(value: object) -> None:
    """Write one line of JSON and send it off."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
