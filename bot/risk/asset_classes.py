"""Every risk parameter by asset class, with overrides, and where each value that applies came from.

Four layers, the later one wins: the class in the parameter set, the asset in it, the class in the vault, the asset in
the vault. An asset that nobody listed is of the class the set names for such, the most careful one, and is told to be.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bot.risk.breakers import BreakerRule

MODEL = "asset_classes"

Fields = dict[str, Any]


class ClassParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What risk uses of an asset. Fractions are of its price, and 0.4 of vol is 40 % more of it.

    `band_multiple` widens no-trade bands; the haircut is ours, beside the venue's; shocks are those of our own stress.
    The four after them are limits of breakers. `vol_model` "best" is the one that earned the best recent score;
    `fallback_vol` stands in for a forecast that is not there.
    """

    band_multiple: float
    haircut_fraction: float
    price_shock_fraction: float
    vol_shock_fraction: float
    peg_shock_fraction: float
    quick_move_fraction: float
    slow_move_fraction: float
    gap_fraction: float
    depth_share: float
    vol_model: Literal["best", "ewma", "garch", "har", "boosting", "average"]
    ewma_decay: float
    fallback_vol: float

    def __post_init__(self) -> None:
        """Refuse shares outside of 0 to 1, and what must be positive and is not."""
        for name in SHARES:
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"expected {name} from 0 to below 1, found {getattr(self, name):g}")
        for name in POSITIVE:
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ValueError(f"expected {name} above 0, found {getattr(self, name):g}")
        if not 0.0 <= self.vol_shock_fraction < float("inf"):
            raise ValueError(f"expected vol_shock_fraction from 0, found {self.vol_shock_fraction:g}")

    def breaker_rule(self, base: BreakerRule | None = None) -> BreakerRule:
        """Return the rule of an asset's breakers: the limits from here, the rest from `base`."""
        return msgspec.structs.replace(
            base or BreakerRule(),
            quick_move_fraction=self.quick_move_fraction,
            slow_move_fraction=self.slow_move_fraction,
            gap_fraction=self.gap_fraction,
            depth_share=self.depth_share,
        )


SHARES = ("haircut_fraction", "price_shock_fraction", "peg_shock_fraction", "depth_share", "ewma_decay")
POSITIVE = ("band_multiple", "ewma_decay", "quick_move_fraction", "slow_move_fraction", "gap_fraction", "fallback_vol")


class AssetClasses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values of a parameter set of this model: classes, which asset is of which, and what single assets differ by.

    Names of assets are in capitals; `unlisted` is the class of those that nobody listed.
    """

    classes: dict[str, ClassParameters]
    members: dict[str, str]
    unlisted: str
    assets: dict[str, Fields] = {}


class Overrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a vault sets for itself: fields by class, fields by asset, and which asset is of which class."""

    classes: dict[str, Fields] = {}
    assets: dict[str, Fields] = {}
    members: dict[str, str] = {}


class Resolved(msgspec.Struct, frozen=True):
    """What applies to an asset, and for each field (and the class) in words where it came from."""

    asset: str
    asset_class: str
    parameters: ClassParameters
    origins: dict[str, str]

    def lines(self) -> list[str]:
        """Return one line per value: its name, what it is, and where it came from."""
        shown = {"class": self.asset_class, **msgspec.structs.asdict(self.parameters)}
        return [f"{self.asset} {name} = {value}: {self.origins[name]}" for name, value in shown.items()]


def decode_classes(values: dict[str, Any], overrides: Overrides | None = None) -> AssetClasses:
    """Return the classes of a parameter set, and check that it and the overrides name only what there is.

    Raises ValueError, in one sentence, for a field or a value that is wrong and for a class that is not there.
    """
    try:
        classes = msgspec.convert(values, AssetClasses, strict=True)
    except msgspec.ValidationError as error:
        raise ValueError(f"expected asset classes, found {error}") from None
    told = overrides or Overrides()
    named = [(f"asset {asset}", name) for table in (classes.members, told.members) for asset, name in table.items()]
    named += [("unlisted assets", classes.unlisted), *(("an override of the vault", name) for name in told.classes)]
    for who, name in named:
        if name not in classes.classes:
            known = ", ".join(classes.classes)
            raise ValueError(
                f"expected one of the asset classes {known}, found {name!r} for {who}; hint: check spelling"
            )
    for asset in {*classes.members, *classes.assets, *told.assets, *told.members}:
        resolve(asset, classes, told)
    for name in classes.classes:
        _apply(classes.classes[name], told.classes.get(name, {}), f"class {name}")
    return classes


def resolve(asset: str, classes: AssetClasses, overrides: Overrides | None = None, name: str = "the set") -> Resolved:
    """Return what applies to an asset; `name` is the parameter set's, for the words on where a value came from."""
    told = overrides or Overrides()
    asset = asset.upper()
    in_vault, in_set = told.members.get(asset), classes.members.get(asset)
    asset_class = in_vault or in_set or classes.unlisted
    if asset_class not in classes.classes:
        known = ", ".join(classes.classes)
        raise ValueError(f"expected one of the asset classes {known}, found {asset_class!r} for asset {asset}")
    origins = dict.fromkeys(ClassParameters.__struct_fields__, f"class {asset_class} of {name}")
    origins["class"] = "the vault" if in_vault else name
    if not (in_vault or in_set):
        origins["class"] = f"not listed: taken as {classes.unlisted}, by {name}"
    parameters = classes.classes[asset_class]
    for fields, origin in (
        (classes.assets.get(asset, {}), f"asset {asset} of {name}"),
        (told.classes.get(asset_class, {}), f"class {asset_class} of the vault"),
        (told.assets.get(asset, {}), f"asset {asset} of the vault"),
    ):
        parameters = _apply(parameters, fields, origin)
        origins.update(dict.fromkeys(fields, origin))
    return Resolved(asset, asset_class, parameters, origins)


def _apply(parameters: ClassParameters, fields: Fields, origin: str) -> ClassParameters:
    if not fields:
        return parameters
    unknown = fields.keys() - set(ClassParameters.__struct_fields__)
    if unknown:
        known = ", ".join(ClassParameters.__struct_fields__)
        raise ValueError(f"expected fields {known} in {origin}, found {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert({**msgspec.structs.asdict(parameters), **fields}, ClassParameters, strict=True)
    except msgspec.ValidationError as error:
        text = str(error)
        if text.startswith("expected "):  # our own words, of one value
            raise ValueError(f"{text} in {origin}") from None
        raise ValueError(f"expected parameters in {origin}, found {text}") from None
