"""What calibration found, dated and hashed: models, their errors and scores, seasons, regimes; JSON, nothing pickled.

An artefact that is damaged, too old, or holds a number that is none is refused, and the forecast falls back.
"""

from __future__ import annotations

from datetime import date, timedelta
from hashlib import sha256
from math import isfinite
from typing import Final

import msgspec

from bot.risk.volatility import regimes, trees
from bot.risk.volatility.har import Linear
from bot.risk.volatility.quantiles import LEVELS
from bot.risk.volatility.regimes import Regimes
from bot.risk.volatility.seasons import HOURS_PER_WEEK
from bot.risk.volatility.trees import Boosted

FORM: Final = 1
KEPT_DAYS: Final = 730  # how long ratios between horizons hold, as far as the recalibration makes up for the rest


class Scored(msgspec.Struct, frozen=True):
    """A model, its mean QLIKE out of sample, and the quantiles of its errors there (logs of variance) by level."""

    name: str
    model: Linear | Boosted
    qlike: float
    errors: tuple[float, ...]


class HorizonModels(msgspec.Struct, frozen=True):
    """What forecasts the next `hours`: models best first, none where EWMA was as good, and EWMA's own score."""

    hours: int
    models: tuple[Scored, ...]
    ewma_qlike: float
    ewma_errors: tuple[float, ...]
    plain_qlike: float


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """One calibration. `as_of` is the last day of its data, `levels` those of the quantiles of errors.

    `usual` is the mean variance of an hour by asset, `season` that of the hours of the week against it, `digest` the
    SHA-256 of everything else.
    """

    form: int = FORM
    as_of: date
    expires: date
    data: str
    assets: tuple[str, ...]
    levels: tuple[float, ...] = LEVELS
    season: tuple[float, ...]
    usual: dict[str, float]
    horizons: tuple[HorizonModels, ...]
    regimes: dict[str, Regimes]
    digest: str = ""


def sealed(artefact: Artefact) -> Artefact:
    """Return the artefact with its digest."""
    return msgspec.structs.replace(artefact, digest=_digest(artefact))


def encode(artefact: Artefact) -> bytes:
    """Return the artefact as JSON, sealed."""
    return msgspec.json.format(msgspec.json.encode(sealed(artefact)), indent=1) + b"\n"


def decode(text: bytes | str) -> Artefact:
    """Return the artefact a text holds. Raises ValueError, in one sentence, where it is none to be believed."""
    try:
        found = msgspec.json.decode(text, type=Artefact)
    except msgspec.DecodeError as error:
        raise ValueError(f"expected a volatility artefact in JSON, found {error}") from None
    if found.form != FORM:
        raise ValueError(f"expected a volatility artefact of form {FORM}, found {found.form}; hint: calibrate anew")
    if found.digest != _digest(found):
        raise ValueError("expected a volatility artefact as it was written, found one that was changed since")
    fault = _fault(found)
    if fault:
        raise ValueError(f"expected sound numbers in a volatility artefact, found {fault}")
    return found


def expiry(as_of: date, kept_days: int = KEPT_DAYS) -> date:
    """Return until when an artefact of that day is believed."""
    return as_of + timedelta(days=kept_days)


def _digest(artefact: Artefact) -> str:
    bare = msgspec.structs.replace(artefact, digest="")
    return sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()


def _fault(artefact: Artefact) -> str:
    """Return what is wrong with its numbers, "" where nothing is."""
    if artefact.expires <= artefact.as_of:
        return f"an end, {artefact.expires}, that is not after {artefact.as_of}"
    if list(artefact.levels) != sorted(artefact.levels) or not all(0.5 < one < 1.0 for one in artefact.levels):
        return f"levels {artefact.levels}"
    if len(artefact.season) != HOURS_PER_WEEK or not all(isfinite(one) and one > 0.0 for one in artefact.season):
        return "a season that is not one positive number per hour of the week"
    if not all(isfinite(one) and one > 0.0 for one in artefact.usual.values()):
        return "a usual variance that is not positive"
    hours = [one.hours for one in artefact.horizons]
    if not hours or hours != sorted(set(hours)) or hours[0] < 1:
        return f"horizons of {hours} hours"
    wrong = [name for name, one in artefact.regimes.items() if not regimes.is_sound(one)]
    if wrong:
        return f"regimes of {', '.join(wrong)} that are no chain"
    return next((fault for one in artefact.horizons if (fault := _horizon_fault(one, len(artefact.levels)))), "")


def _horizon_fault(horizon: HorizonModels, levels: int) -> str:
    for errors in (horizon.ewma_errors, *(one.errors for one in horizon.models)):
        if len(errors) != levels or not all(map(isfinite, errors)) or list(errors) != sorted(errors):
            return f"errors {errors} at {horizon.hours} hours"
    for one in horizon.models:
        if not isfinite(one.qlike) or not _is_sound(one.model):
            return f"{one.name} at {horizon.hours} hours with a number that is none"
    return "" if isfinite(horizon.ewma_qlike) else f"no score of EWMA at {horizon.hours} hours"


def _is_sound(model: Linear | Boosted) -> bool:
    if isinstance(model, Boosted):
        return trees.is_sound(model) and isfinite(model.residual_variance)
    numbers = (*model.coefficients, model.lift or 0.0, model.residual_variance, model.low, model.high)
    return len(model.names) == len(model.coefficients) and all(map(isfinite, numbers)) and model.low <= model.high
