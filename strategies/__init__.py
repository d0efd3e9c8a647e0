"""Hedge policies, one file each. The union below is the registry: a new policy is one more member of it.

Policies import the domain and pricing, nothing else of ours, and stay pure.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, get_args

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from bot.domain.errors import ConfigError
from strategies.delta_band import DeltaBand
from strategies.fixed_interval import FixedInterval
from strategies.gamma_vega import GammaVega
from strategies.impulse import Impulse
from strategies.leland import Leland
from strategies.policy import Policy
from strategies.price_move import PriceMove
from strategies.risk import RiskAverse, RiskWords
from strategies.unhedged import Unhedged
from strategies.whalley_wilmott import WhalleyWilmott
from strategies.zakamouline import Zakamouline

__all__ = [
    "POLICIES",
    "AnyPolicy",
    "DeltaBand",
    "FixedInterval",
    "GammaVega",
    "Impulse",
    "Leland",
    "Policy",
    "PriceMove",
    "RiskAverse",
    "RiskWords",
    "Unhedged",
    "WhalleyWilmott",
    "Zakamouline",
    "policies_from_specs",
    "policy_from_spec",
]

AnyPolicy = Annotated[
    Unhedged | FixedInterval | Leland | PriceMove | DeltaBand | WhalleyWilmott | Zakamouline | Impulse | GammaVega,
    Field(discriminator="type"),
]

POLICIES: dict[str, type[Policy]] = {cls.model_fields["type"].default: cls for cls in get_args(get_args(AnyPolicy)[0])}


def policies_from_specs(specs: str, own: Policy | None = None, gross_base: float | None = None) -> list[Policy]:
    """Return the policies of a comma-separated list, as `replay --compare` takes it.

    `unhedged,fixed_interval:interval_s=900,delta_band:half_width_base=2:trade_to=centre`; see `policy_from_spec`.
    Raises ConfigError with every problem of every policy.
    """
    policies: list[Policy] = []
    problems: list[str] = []
    for spec in specs.split(","):
        try:
            policies.append(policy_from_spec(spec, own, gross_base))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return policies


def policy_from_spec(spec: str, own: Policy | None = None, gross_base: float | None = None) -> Policy:
    """Return the policy of `name` or `name:key=value:…`.

    A parameter inside a section is `section.key`, such as `risk_aversion.daily_sd_quote`. Parameters left out come from
    `own` (the vault's policy) if it is of this name, else from the policy's `starting_values`, which a book of
    `gross_base` (sum of absolute quantities) scales where they are sizes.
    Raises ConfigError for an unknown name or key, or a value that does not fit.
    """
    name, *pairs = (part.strip() for part in spec.split(":"))
    if name not in POLICIES:
        raise ConfigError([f"policy {name!r}: expected one of {', '.join(POLICIES)}; {_nearest_hint(name)}"])
    cls = POLICIES[name]
    values = cls.starting_values_for(gross_base)
    if own is not None and own.name == name:
        values = own.parameters
    problems: list[str] = []
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            problems.append(f"policy {spec!r}: expected key=value, found {pair!r}; e.g. fixed_interval:interval_s=900")
        given[key] = value
    if problems:
        raise ConfigError(problems)
    replaced = cls.alternatives if {_section(key) for key in given} & set(cls.alternatives) else ()
    values = {key: value for key, value in values.items() if _section(key) not in replaced} | given
    try:
        return cls.model_validate_strings({"type": name, **_nested(values)})
    except ValidationError as error:
        known = ", ".join(key for key in cls.model_fields if key != "type") or "none"
        raise ConfigError([_explain(spec, fault, known) for fault in error.errors()]) from error


def _explain(spec: str, fault: ErrorDetails, known: str) -> str:
    """Return one line of what does not fit; what a model checks as a whole says itself what it found."""
    text = ": ".join([f"policy {spec!r}", *([".".join(map(str, fault["loc"]))] if fault["loc"] else [])])
    if fault["type"] == "value_error":
        return f"{text}: {fault['msg'].removeprefix('Value error, ')}"
    return f"{text}: {fault['msg']}, found {fault['input']!r}; its parameters: {known}"


def _section(key: str) -> str:
    return key.partition(".")[0]


def _nested(values: dict[str, str]) -> dict[str, str | dict[str, str]]:
    """Return `section.key` as the key of a section."""
    found: dict[str, str | dict[str, str]] = {}
    for key, value in values.items():
        section, dot, inner = key.partition(".")
        held = found.setdefault(section, {}) if dot else value
        if isinstance(held, dict):
            held[inner] = value
        else:
            found[section] = value
    return found


def _nearest_hint(name: str) -> str:
    nearest = get_close_matches(name, POLICIES, n=1)
    return f"did you mean {nearest[0]}?" if nearest else "see docs/configuration.md"
