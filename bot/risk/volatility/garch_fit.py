"""GARCH models estimated by maximum likelihood. It brings `arch`, which takes a second to load: calibration only."""

from __future__ import annotations

import numpy as np
from arch.univariate import GARCH, ConstantMean, Normal, StudentsT

from bot.risk.volatility.garch import Garch
from bot.risk.volatility.measures import Floats

SCALE = 100.0  # the optimiser likes returns in percent
LEAST_RETURNS = 60


def fit_garch(returns: Floats, *, is_asymmetric: bool = False, is_student: bool = False) -> Garch:
    """Return the GARCH(1,1), or GJR-GARCH, that makes the returns likeliest; the first variance is the mean square."""
    if returns.size < LEAST_RETURNS or not np.all(np.isfinite(returns)):
        raise ValueError(f"expected at least {LEAST_RETURNS} finite returns to fit a GARCH to, found {returns.size}")
    scaled = SCALE * returns
    model = ConstantMean(scaled, rescale=False)
    model.volatility = GARCH(p=1, o=int(is_asymmetric), q=1)
    model.distribution = StudentsT() if is_student else Normal()
    first = float(np.mean((scaled - scaled.mean()) ** 2))
    found = model.fit(disp="off", show_warning=False, backcast=first).params
    return Garch(
        mu=float(found["mu"]) / SCALE,
        omega=float(found["omega"]) / SCALE**2,
        alpha=float(found["alpha[1]"]),
        beta=float(found["beta[1]"]),
        gamma=float(found["gamma[1]"]) if is_asymmetric else 0.0,
    )
