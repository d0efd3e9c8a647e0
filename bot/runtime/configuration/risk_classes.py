"""What applies to each asset of a vault: the newest set of asset classes, with what the vault sets otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bot.engine.margin.risk_settings import ClassSettings
from bot.risk.asset_classes import MODEL as CLASSES
from bot.risk.asset_classes import Overrides, Resolved, decode_classes
from bot.risk.parameters import ParameterSet
from bot.runtime.configuration.margin_parameters import carried_sets
from bot.runtime.configuration.risk_sections import AssetClassesSection
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.yaml_source import Location, YamlSource

MANUAL: Final = "see docs/configuration.md"


def applying(vault: Vault, assets: Iterable[str]) -> tuple[Resolved, ...]:
    """Return what applies to each asset in a vault, once each, of the newest set of asset classes.

    Raises ValueError, in one sentence, for a class or a parameter that there is not.
    """
    table = class_table(vault)
    return tuple(table.of(name) for name in dict.fromkeys(one.upper() for one in assets))


def class_table(vault: Vault) -> ClassSettings:
    """Return what every asset may be asked of: the newest set, and what the vault sets otherwise.

    Raises ValueError, in one sentence, for a class or a parameter that there is not.
    """
    section = vault.risk.asset_classes if vault.risk is not None else AssetClassesSection()
    told = Overrides(
        classes={name: dict(fields) for name, fields in section.classes.items()},
        assets={name.upper(): dict(fields) for name, fields in section.assets.items()},
        members={name.upper(): one for name, one in section.members.items()},
    )
    found = _newest()
    return ClassSettings(classes=decode_classes(found.values, told), overrides=told, name=found.name)


def check_classes(source: YamlSource, section: AssetClassesSection) -> None:
    """Report every class, parameter and value under `risk.asset_classes` that means nothing, each at its own line."""
    values = _newest().values
    place: Location = ("risk", "asset_classes")
    tried: list[tuple[Location, Overrides]] = [
        ((*place, "members", name), Overrides(members={name.upper(): one})) for name, one in section.members.items()
    ]
    for name, fields in section.classes.items():
        tried.append(((*place, "classes", name), Overrides(classes={name: {}})))
        tried += [
            ((*place, "classes", name, field), Overrides(classes={name: {field: value}}))
            for field, value in (fields.items() if name in values["classes"] else ())
        ]
    for name, fields in section.assets.items():
        tried += [
            ((*place, "assets", name, field), Overrides(assets={name.upper(): {field: value}}))
            for field, value in fields.items()
        ]
    for at, one in tried:
        try:
            decode_classes(values, one)
        except ValueError as error:
            told = str(error)
            source.relay(at, told if "; hint: " in told else f"{told}; hint: {MANUAL}")
    for key, names in (("members", section.members), ("assets", section.assets)):
        known: set[str] = set()
        for name in names:
            if name.upper() in known:
                source.report((*place, key, name), "each asset once", f"{name} again", "capitals make no difference")
            known.add(name.upper())


def _newest() -> ParameterSet:
    return max(carried_sets(CLASSES), key=lambda one: (one.as_of, one.name))
