"""Which model a contest has earned: no more of it is used than it has shown."""

from __future__ import annotations

from typing import Final

from bot.risk.volatility.candidates import PLAIN, Candidate
from bot.risk.volatility.evaluation import stays
from bot.risk.volatility.walk_forward import EWMA, Outcome

KEPT_MODELS: Final = 3  # of them the record decides, once there is one


def overlap(outcome: Outcome) -> int:
    """Return over how many origins forecasts overlap."""
    return max(1, outcome.setting.horizon // outcome.setting.every)


def ranked(outcome: Outcome, candidates: tuple[Candidate, ...]) -> list[Candidate]:
    """Return the candidates that have earned their place, best first, at most three; none where EWMA is as good.

    Plain HAR earns it by beating EWMA, any other by beating plain HAR: each by Diebold and Mariano's test. If only the
    others beat EWMA, they need no HAR. Trees come first only if they beat the best linear model in the same way.
    """
    ahead = overlap(outcome)
    plain, average = outcome.losses(PLAIN), outcome.losses(EWMA)
    is_plain_worth_it = stays(plain, average, ahead)
    earned = []
    for one in candidates:
        if one.name not in outcome.paths:
            continue
        losses = outcome.losses(one.name)
        beats_average = stays(losses, average, ahead)
        if one.name == PLAIN:
            if is_plain_worth_it:
                earned.append((float(losses.mean()), one))
        elif beats_average and (stays(losses, plain, ahead) or not is_plain_worth_it):
            earned.append((float(losses.mean()), one))
    by_loss = [one for _, one in sorted(earned, key=lambda pair: pair[0])]
    linear = [one for one in by_loss if not one.is_boosted]
    trees = [one for one in by_loss if one.is_boosted]
    if linear:
        best = outcome.losses(linear[0].name)
        trees = [one for one in trees if stays(outcome.losses(one.name), best, ahead)]
    return [*trees, *linear][:KEPT_MODELS]
