"""The slow twin of `bot.pricing.black76`: one option at a time, many digits, every Greek the derivative it stands for.

No closed form of a Greek is written here, so that a formula wrong in the fast path cannot be wrong here too.
"""

from math import log, sqrt
from typing import Any

import mpmath as mp

GREEKS = (
    "value",
    "delta",
    "dual_delta",
    "gamma",
    "vega",
    "theta",
    "rho",
    "vanna",
    "volga",
    "charm",
    "speed",
    "zomma",
    "color",
)

# How often to differentiate by forward, strike, tau, vol and rate, and the sign: the calendar runs against tau.
DERIVATIVES = {
    "value": (+1, (0, 0, 0, 0, 0)),
    "delta": (+1, (1, 0, 0, 0, 0)),
    "dual_delta": (+1, (0, 1, 0, 0, 0)),
    "gamma": (+1, (2, 0, 0, 0, 0)),
    "vega": (+1, (0, 0, 0, 1, 0)),
    "theta": (-1, (0, 0, 1, 0, 0)),
    "rho": (+1, (0, 0, 0, 0, 1)),
    "vanna": (+1, (1, 0, 0, 1, 0)),
    "volga": (+1, (0, 0, 0, 2, 0)),
    "charm": (-1, (1, 0, 1, 0, 0)),
    "speed": (+1, (3, 0, 0, 0, 0)),
    "zomma": (+1, (2, 0, 0, 1, 0)),
    "color": (-1, (2, 0, 1, 0, 0)),
}


def greek(
    name: str, forward: float, strike: float, tau_years: float, vol: float, is_call: bool, *, rate: float = 0.0
) -> float:
    """Return one Greek of one option, by numerical differentiation with 30 digits to spare."""
    w = 1 if is_call else -1
    dev = vol * sqrt(tau_years)
    d = abs(log(forward / strike)) / dev + dev
    digits = 30 + int(d * d / 2.0 / log(10.0))  # deep in the money the time value is that far behind the payoff

    def value(f: Any, k: Any, tau: Any, s: Any, r: Any) -> Any:
        dev = s * mp.sqrt(tau)
        d1 = mp.log(f / k) / dev + dev / 2
        return mp.exp(-r * tau) * w * (f * chance(w * d1) - k * chance(w * (d1 - dev)))

    sign, orders = DERIVATIVES[name]
    with mp.workdps(digits):
        point = tuple(mp.mpf(x) for x in (forward, strike, tau_years, vol, rate))
        # A step relative to the variable: the default is absolute, and a second to expiry is 3e-8 years.
        scale = [*point[:4], mp.mpf(1)]

        def scaled(*multiples: Any) -> Any:
            return value(*(m * s for m, s in zip(multiples, scale, strict=True)))

        at = tuple(x / s for x, s in zip(point, scale, strict=True))
        derivative = mp.diff(scaled, at, orders) if any(orders) else scaled(*at)
        for order, s in zip(orders, scale, strict=True):
            derivative /= s**order
        return float(sign * derivative)


def chance(x: Any) -> Any:
    """Return N(x), with all digits of a small tail."""
    return mp.erfc(-x / mp.sqrt(2)) / 2
