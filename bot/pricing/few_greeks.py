"""Black-76 for a handful of options: the same numbers as `bot.pricing.black76`, one option at a time.

A book of two options has nothing to gain from arrays: forty operations on arrays of two take forty times what an
operation on an array costs before it begins. In plain floats they take a third of that.
"""

from math import copysign, exp, log1p, sqrt
from typing import Any, Final

import numpy as np
from scipy.special.cython_special import erfc

from bot.pricing.black76 import (
    FAR_DISTANCE,
    MINUS_ROOT_2,
    NARROW_DEV,
    PHI_0,
    Black76Greeks,
    Flags,
    Floats,
    Sides,
    greeks,
)

FEW: Final = 8  # options; from about twelve on arrays are quicker
_MINUS_ROOT_2: Final = MINUS_ROOT_2.item()
_PHI_0: Final = PHI_0.item()


def few_greeks(
    forward: Floats, strike: Floats, tau_years: Floats, vol: Floats, is_call: Flags, sides: Sides | None = None
) -> Black76Greeks:
    """Return what `greeks` returns at no interest, sooner if there are at most `FEW` options, all of them unremarkable.

    The inputs are arrays of one length. Each operation is that of `Black76Greeks` in its order, so that every digit is
    the same wherever numpy takes its functions from the C library; where it has its own, the last one may differ.
    """
    if len(forward) > FEW:
        return greeks(forward, strike, tau_years, vol, is_call, sides=sides)
    columns = zip(forward.tolist(), strike.tolist(), tau_years.tolist(), vol.tolist(), is_call.tolist(), strict=True)
    rows = []
    for one in columns:
        row = _work_out(*one)
        if row is None:
            return greeks(forward, strike, tau_years, vol, is_call)
        rows.append(row)
    return _FewGreeks(forward, strike, tau_years, vol, is_call, rows)


_NAMES: Final = ("value", "delta", "gamma", "vega", "theta", "vanna", "volga")


class _FewGreeks(Black76Greeks):
    """Those with the Greeks that decisions and P&L need worked out already, and the others when they are asked for."""

    def __init__(  # what the others are made of is prepared when the first of them is read
        self,
        forward: Floats,
        strike: Floats,
        tau_years: Floats,
        vol: Floats,
        is_call: Flags,
        rows: list[tuple[float, ...]],
    ) -> None:
        self._inputs = (forward, strike, tau_years, vol, is_call, 0.0, forward.shape)
        found = np.array(list(zip(*rows, strict=True)) if rows else [()] * len(_NAMES), dtype=np.float64)
        found.setflags(write=False)
        self.__dict__.update(zip(_NAMES, found, strict=True))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 — whatever the arrays of many options keep
        if "_pinned" in self.__dict__ or "_inputs" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        super().__init__(*self._inputs)
        return getattr(self, name)


def _work_out(forward: float, strike: float, tau_years: float, vol: float, is_call: bool) -> tuple[float, ...] | None:
    """Return the Greeks of `_NAMES` of one option, None if it is delicate, at a limit, or nonsense."""
    if not (forward > 0.0 and strike > 0.0 and tau_years > 0.0 and vol > 0.0):
        return None
    gap = forward - strike
    root_tau = sqrt(tau_years)
    dev = vol * root_tau
    if not dev >= NARROW_DEV:
        return None
    distance = copysign(log1p(abs(gap) / min(forward, strike)), gap) / dev
    half_dev = dev * 0.5
    d1 = distance + half_dev
    d1_squared = d1 * d1
    if not d1_squared <= FAR_DISTANCE**2:
        return None
    half_sign = 0.5 if is_call else -0.5
    d2 = distance - half_dev
    delta = erfc(d1 * half_sign * _MINUS_ROOT_2) * half_sign
    density = exp(d1_squared * -0.5) * _PHI_0
    vega = density * forward * root_tau
    return (
        forward * delta - strike * (erfc(d2 * half_sign * _MINUS_ROOT_2) * half_sign),
        delta,
        density / forward / dev,
        vega,
        vega * (vol / tau_years * -0.5),
        -(density * d2 / vol),
        vega * (d1 * d2) / vol,
    )
