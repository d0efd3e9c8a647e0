"""What applies to each asset of a vault: the newest set of asset classes, with what the vault sets otherwise."""

from __future__ import annotations

from collections.abc import Iterable

from bot.risk.asset_classes import MODEL as CLASSES
from bot.risk.asset_classes import Overrides, Resolved, decode_classes, resolve
from bot.runtime.margin_parameters import carried_sets
from bot.runtime.risk_sections import AssetClassesSection
from bot.runtime.vault import Vault


def applying(vault: Vault, assets: Iterable[str]) -> tuple[Resolved, ...]:
    """Return what applies to each asset in a vault, once each, of the newest set of asset classes.

    Raises ValueError, in one sentence, for a class or a parameter that there is not.
    """
    found = max(carried_sets(CLASSES), key=lambda one: (one.as_of, one.name))
    section = vault.risk.asset_classes if vault.risk is not None else AssetClassesSection()
    told = Overrides(
        classes={name: dict(fields) for name, fields in section.classes.items()},
        assets={name.upper(): dict(fields) for name, fields in section.assets.items()},
        members={name.upper(): one for name, one in section.members.items()},
    )
    classes = decode_classes(found.values, told)
    return tuple(resolve(name, classes, told, found.name) for name in dict.fromkeys(one.upper() for one in assets))
