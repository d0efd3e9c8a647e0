"""Numbers wear units, last in the name: `entry_px`, `delta_base`, `gamma_base_per_px`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house.sources import Module, modules

UNITS = (
    "px|base|quote|settle|lots|ticks|contracts|ns|us|ms|s|second|min|day|days|year|years|vol|bps|fraction|share|rate|ratio|"
    "probability"
)
WEARS_A_UNIT = re.compile(rf"(^|_)({UNITS})$")

# Numbers whose unit is the field's own name, with the reason each is plain without a suffix.
PLAIN = {
    "PnlBreakdown": "every field is a part of one sum in quote money, as the class says",
    "LatencySummary": "every field is a percentile in microseconds, as the class and its users' names say",
    "HedgeTarget.urgency": "a number from 0 to 1 without unit",
    "InstrumentBase.contract_size": "base or quote units, by the instrument's payoff",
    "LpPosition.liquidity": "L, in the root of base times quote, as the class says",
    "ChainReport.health_factor": "a ratio, by the name lending protocols give it",
    "GasPaid.gas_coin": "in the chain's own coin, which the event names",
    "SeriesValue.value": "in the unit of the series, which its name stands for",
    "TransferCollateral.amount": "in units of the asset, which the command names",
    "TransferUpdate.amount": "in units of the asset, which the event names",
    "TransferUpdate.fee": "in units of the asset, which the event names",
    "AccountReport.balances": "currency to amount in that currency",
    "EngineSettings.cash": "currency to amount in that currency",
    "EngineSettings.venue_limits": "venue to quote money",
    "HedgeSettings.escalate_urgency": "an urgency, from 0 to 1 without unit",
    "HedgeSettings.escalate_bands": "a multiple of the band's half-width",
    "HedgeSettings.depth": "pairs of a fraction and quote money, as the class says",
    "HedgeSettings.impact_coefficient": "a multiple of the vol of a day, by the name the literature gives it",
    "HedgeSettings.borrow_rate_per_year": "a share of value per year",
    "HedgeLine.escalate_urgency": "an urgency, from 0 to 1 without unit",
    "HedgeLine.escalate_bands": "a multiple of the band's half-width",
    "CostsSection.impact_coefficient": "Y of the square-root law, a number near 1 without unit",
    "Vault.venue_limits": "venue to quote money",
    "LatencySection.jitter": "a share of each latency, as its description says",
    "RunSummary.unexplained_share_of_abs_parts": "a share of the absolute parts",
    "RunSummary.unexplained_share_of_part_totals": "a share of the part totals",
    "RunSummary.pnl_total_numeraire": "in the money the vault counts its wealth in",
}


def plain_numbers(module: Module) -> list[str]:
    """Return the public float fields of the module's classes that name no unit and are not on the list."""
    return [
        f"{module.name}: expected {owner}.{field} to end in a unit ({UNITS}), found none"
        for owner, field in float_fields(module.tree)
        if not WEARS_A_UNIT.search(field) and not {owner, f"{owner}.{field}"} & PLAIN.keys()
    ]


def float_fields(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield class and name of every public annotated field whose type mentions a float."""
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef):
            for node in owner.body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    mentions_float = re.search(r"[Ff]loat", ast.unparse(node.annotation))
                    if mentions_float and not node.target.id.startswith("_"):
                        yield owner.name, node.target.id


SPOKEN = [
    m
    for m in modules()
    if m.layer in {"domain", "strategies"} or m.name in {"bot.engine.settings", "bot.runtime.configuration.vault"}
]


@pytest.mark.parametrize("module", SPOKEN, ids=lambda m: m.name)
def test_numbers_wear_units(module: Module) -> None:
    assert plain_numbers(module) == []


def test_the_list_of_plain_numbers_is_still_needed() -> None:
    fields = {(owner, field) for module in SPOKEN for owner, field in float_fields(module.tree)}
    known = {owner for owner, _ in fields} | {f"{owner}.{field}" for owner, field in fields}
    assert PLAIN.keys() <= known


@pytest.mark.parametrize("field", ["price: float", "size: list[float]", "limit: PositiveFloat", "edge: float | None"])
def test_a_planted_plain_number_is_found(field: str) -> None:
    assert plain_numbers(Module.parse("bot.domain.market", f"class Quote:\n    {field}\n")) != []


@pytest.mark.parametrize(
    "field", ["bid_px: float", "gamma_base_per_px: float", "vol: float", "_cache: float", "n: int"]
)
def test_what_wears_a_unit_passes(field: str) -> None:
    assert plain_numbers(Module.parse("bot.domain.market", f"class Quote:\n    {field}\n")) == []
