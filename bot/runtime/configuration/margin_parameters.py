"""Which parameter set of a margin model applies today: the newest that is not expired, or a named stand-in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from bot.domain.errors import ConfigError
from bot.risk.book import RiskBook
from bot.risk.margin.registry import evaluate_or_assume
from bot.risk.margin.reported import scaled
from bot.risk.parameters import ParameterSet, decode_parameters
from bot.risk.requirement import Requirement

HOUSE: Final = "house"
EXPIRED_FACTOR: Final = 1.25
HOUSE_FACTOR: Final = 1.5


class FoundParameters(msgspec.Struct, frozen=True):
    """The set to use for a model, what its answer is multiplied by, and why where that is not 1."""

    model: str
    parameters: ParameterSet
    factor: float = 1.0
    degraded: str = ""

    def requirement(self, book: RiskBook) -> Requirement:
        """Return what the model asks for the book; what makes it a stand-in is a charge of its own."""
        found = evaluate_or_assume(self.parameters.model, book, self.parameters.values)
        return scaled(found, self.factor, self.degraded)


def carried_sets(model: str) -> list[ParameterSet]:
    """Return the sets of a model that this version carries."""
    folder = files("bot.risk") / "parameter_sets"
    names = sorted(one.name for one in folder.iterdir() if one.name.endswith(".json"))
    texts = [(folder / name).read_bytes() for name in names if name.startswith(f"{model}-")]
    return [found for found in map(decode_parameters, texts) if found.model == model]


def read_sets(paths: Iterable[Path]) -> list[ParameterSet]:
    """Return the sets that files hold. Raises ConfigError naming every file that holds none."""
    found, problems = [], []
    for path in paths:
        try:
            found.append(decode_parameters(path.read_bytes()))
        except (OSError, ValueError) as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise ConfigError(problems)
    return found


def find_parameters(model: str, today: date, told: Sequence[ParameterSet] = ()) -> FoundParameters:
    """Return the parameters of a model for today, of `told` (a vault's files, a venue's answer) and those carried.

    The newest that is not expired; else the newest expired one with a quarter more; else the house model with half
    more. Of two of one day the one told counts. Raises ConfigError where there is no house set either.
    """
    known = [one for one in carried_sets(model) if one.model == model] + [one for one in told if one.model == model]
    usable = sorted((one for one in known if one.as_of <= today), key=lambda one: one.as_of)
    fresh = [one for one in usable if not one.is_expired(today)]
    if fresh:
        return FoundParameters(model, fresh[-1])
    if usable:
        newest = usable[-1]
        why = f"parameters of {model} of {newest.as_of} expired on {newest.expires}: × {EXPIRED_FACTOR:g}"
        return FoundParameters(model, newest, EXPIRED_FACTOR, why)
    early = f", only some from {min(one.as_of for one in known)} on" if known else ""
    if model == HOUSE:
        raise ConfigError([f"expected parameters of the house margin model of {today} or before, found none{early}"])
    house = find_parameters(HOUSE, today, told)
    factor = HOUSE_FACTOR * house.factor
    why = f"no parameters of {model} of {today} or before{early}: house model × {factor:g}"
    return FoundParameters(model, house.parameters, factor, "; ".join(filter(None, (why, house.degraded))))
