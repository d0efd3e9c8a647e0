"""What may change while a vault runs: every key of a vault file has its place, and limits know which way is looser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from bot.runtime.configuration.vault import Vault
from bot.runtime.operators.reload_rules import (
    CHANGEABLE,
    FIXED,
    LIMITS,
    Loosens,
    confirmation,
    fixed_by,
    judge,
    limits_after,
    limits_of,
    rule_of,
)
from strategies import POLICIES
from tests.house.sources import ROOT
from tests.runtime.vault_files import vault

SINCE = ", its tightest since it was last confirmed"
RISK = {"accounts": {"deribit": {"model": "deribit_sm"}}}


def paths(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Yield every key of a vault file that holds a value, * for names and numbers of lines."""
    for name, field in model.model_fields.items():
        yield from _paths_of(field.annotation, f"{before}{name}")


def _paths_of(annotation: Any, path: str) -> Iterator[str]:
    arguments = [one for one in get_args(annotation) if one is not type(None)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from paths(annotation, f"{path}.")
        return
    origin = getattr(annotation, "__origin__", None)
    if origin is dict:
        yield from _paths_of(arguments[1], f"{path}.*")
        return
    if origin is tuple and any(_models(one) for one in arguments):
        yield from _paths_of(arguments[0], f"{path}.*")
        return
    inner = [one for one in arguments if _models(one) or getattr(one, "__origin__", None) is dict]
    if inner and origin is not tuple:
        for one in inner:
            yield from _paths_of(one, path)
    else:
        yield path


def _models(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return any(_models(one) for one in get_args(annotation))


PATHS = sorted(set(paths(Vault)))


def test_every_key_is_either_changeable_or_fixed_with_a_reason() -> None:
    assert {"limits.max_order_quote", "hedge.*.costs.depth.*.offset_bps", "risk.transfers.routes.*.p95_s"} <= set(PATHS)
    lost = [path for path in PATHS if rule_of(path) is None and fixed_by(path) is None]
    assert lost == []
    both = [
        path
        for path in PATHS
        if (rule := rule_of(path)) and not rule.is_live_only and (found := fixed_by(path)) and "**" not in found.pattern
    ]
    assert both == []


def test_no_rule_is_of_a_key_that_is_not_there() -> None:
    def is_used(pattern: str) -> bool:
        stem = pattern.removesuffix(".**")
        return any(path == stem or (pattern.endswith(".**") and path.startswith(f"{stem}.")) for path in PATHS)

    assert [one.pattern for one in (*CHANGEABLE, *LIMITS, *FIXED) if not is_used(one.pattern)] == []
    assert all(rule.loosens is not None for rule in LIMITS)


def of(**changes: Any) -> Vault:
    return Vault.model_validate({**vault(), **changes})


def limits(**changes: Any) -> dict[str, Any]:
    return {"max_order_quote": 50_000, "max_orders_per_min": 10, "daily_loss_quote": 10_000, **changes}


def test_a_change_names_the_key_as_people_write_it() -> None:
    new = of(hedge=[{**vault()["hedge"], "style": "maker"}], venue_limits={"deribit": 1e6}, routing="preference")
    verdict = judge(of(), new)
    assert [str(one) for one in verdict.changes] == [
        "hedge[0].style: taker → maker",
        "routing: cheapest → preference",
        "venue_limits.deribit: none → 1000000.0",
    ]
    assert (verdict.refused, verdict.loosened, verdict.code) == ((), (), "")
    gone = judge(new, of())
    assert str(gone.changes[-1]) == "venue_limits.deribit: 1000000.0 → none"
    assert gone.loosened == ("venue_limits.deribit: 1000000.0 → none: takes the limit away",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"max_order_quote": 50_000}, {"max_order_quote": 100_000}, ""),
        ({"max_order_quote": 50_000}, {"max_order_quote": 100_001}, "allows 2 times as much"),
        ({"max_order_quote": 50_000}, {"max_order_quote": 5}, ""),
        ({"max_order_base": 5.0}, {}, "takes the limit away"),
        ({}, {"max_order_base": 5.0}, ""),
        ({"hedge_loop_window_s": 60.0}, {"hedge_loop_window_s": 30.0}, ""),
        ({"hedge_loop_window_s": 60.0}, {"hedge_loop_window_s": 29.0}, "allows 2.07 times as much"),
        ({"hedge_loop_window_s": 60.0}, {"hedge_loop_window_s": 600.0}, ""),
        ({"max_reject_streak": 5}, {"max_reject_streak": 11}, "allows 2.2 times as much"),
    ],
)
def test_a_limit_that_allows_more_than_twice_as_much_is_named(
    old: dict[str, Any], new: dict[str, Any], said: str
) -> None:
    verdict = judge(of(limits=limits(**old)), of(limits=limits(**new)))
    assert verdict.refused == ()
    assert [line.rpartition(": ")[2] for line in verdict.loosened] == ([said] if said else [])
    assert bool(verdict.code) is bool(said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({}, {"target_min_base": -5.0, "target_max_base": 5.0}, ["allows what was not allowed"] * 2),
        ({"target_min_base": -5.0, "target_max_base": 5.0}, {}, []),
        ({"target_min_base": -5.0, "target_max_base": 5.0}, {"target_min_base": -10.0, "target_max_base": 4.0}, []),
        (
            {"target_min_base": -5.0, "target_max_base": 5.0},
            {"target_min_base": -11.0, "target_max_base": 5.0},
            ["allows 2.2 times as much"],
        ),
        (
            {"target_min_base": 1.0, "target_max_base": 5.0},
            {"target_min_base": -1.0, "target_max_base": 5.0},
            ["allows what was not allowed"],
        ),
        (
            {"band_min_base": 1.0, "band_max_base": 5.0},
            {"band_min_base": 0.4, "band_max_base": 10.0},
            ["allows 2.5 times as much"],
        ),
    ],
)
def test_bounds_of_operators_are_limits_that_allow_nothing_where_there_are_none(
    old: dict[str, float], new: dict[str, float], said: list[str]
) -> None:
    verdict = judge(of(operator={"ETH": old}), of(operator={"ETH": new}))
    assert verdict.refused == ()
    assert [line.rpartition(": ")[2] for line in verdict.loosened] == said


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((50_000, 90_000, 130_000), f"allows 2.6 times as much as 50000.0{SINCE}"),
        ((50_000, 90_000, 100_000), ""),
        ((50_000, 10_000, 30_000), "allows 3 times as much"),
        (
            (50_000, 10_000, 20_000, 40_000),
            f"allows 4 times as much as 10000.0{SINCE}",
        ),
    ],
)
def test_steps_are_added_up_since_the_last_confirmation(steps: tuple[float, ...], said: str) -> None:
    vaults = [of(limits=limits(max_order_quote=step)) for step in steps]
    held = limits_of(vaults[0])
    for one in vaults[1:-1]:
        held = limits_after(held, one, ())
    verdict = judge(vaults[-2], vaults[-1], held)
    assert [line.rpartition(": ")[2] for line in verdict.loosened] == ([said] if said else [])
    assert verdict.keys == (("limits.max_order_quote",) if said else ())
    confirmed = limits_after(held, vaults[-1], verdict.keys)
    twice = of(limits=limits(max_order_quote=2 * float(str(confirmed["limits.max_order_quote"]))))
    assert judge(vaults[-1], twice, confirmed).code == ""


def test_what_is_tightened_needs_no_confirmation_however_it_came_to_be() -> None:
    held = limits_of(of(limits=limits(max_order_quote=10_000)))
    wide, less = (of(limits=limits(max_order_quote=one)) for one in (90_000, 60_000))
    assert judge(wide, less, held).loosened == ()


def test_a_limit_that_comes_and_goes_is_held_to_its_tightest() -> None:
    none, some, more = of(), of(venue_limits={"deribit": 1e6}), of(venue_limits={"deribit": 3e6})
    held = limits_after(limits_of(none), some, ())
    assert judge(some, more, held).loosened == ("venue_limits.deribit: 1000000.0 → 3000000.0: allows 3 times as much",)
    gone = judge(some, none, held)
    assert gone.keys == ("venue_limits.deribit",)
    assert "venue_limits.deribit" not in limits_after(held, none, gone.keys), "no limit is as wide as can be"
    bounds = [of(operator={"ETH": {"target_min_base": -1.0, "target_max_base": one}}) for one in (1.0, 1.9, 3.0)]
    held = limits_after(limits_of(none), bounds[0], ("operator.ETH.target_max_base",))
    held = limits_after(held, bounds[1], ())
    assert "3 times as much as 1.0" in judge(bounds[1], bounds[2], held).loosened[0]


def test_a_permission_is_a_limit_too() -> None:
    line = {"underlying": "ETH", "max_position_base": 5.0, "max_premium_quote": 1e4}
    verdict = judge(of(option_hedges=[line]), of(option_hedges=[{**line, "may_sell": True}]))
    assert verdict.loosened == ("option_hedges[0].may_sell: false → true: takes the limit away",)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"vault": "other"}, "it names the journal"),
        ({"seed": 2}, "the simulated venue was built with it"),
        ({"book": ({"instrument": "ETH-28APR23-1900-C", "qty_base": -99},)}, "P&L so far is that of the old book"),
        ({"cash": {"ETH": 1.0}}, "P&L so far is that of the old cash"),
        ({"hedge": {**vault()["hedge"], "instrument": "ETH-USD"}}, "positions and orders are in the old instrument"),
        ({"hedge": [vault()["hedge"], {**vault()["hedge"], "instrument": "ETH-USD"}]}, "in the old instrument"),
        ({"hedge": {**vault()["hedge"], "taker_bps": 4.0}}, "the simulated venue charges by it"),
        ({"risk": RISK}, "accounts, transfers and forecasts were set up from it"),
        (
            {"option_hedges": [{"underlying": "ETH", "max_position_base": 5.0, "max_premium_quote": 1e4}]},
            "in its options",
        ),
        ({"delta": {"model": "sticky_delta"}}, "the smiles were watched by it from the start"),
    ],
)
def test_what_cannot_change_says_why_and_what_to_do(changes: dict[str, Any], why: str) -> None:
    verdict = judge(of(), of(**changes, policy={"type": "delta_band", "half_width_base": 1.0}))
    assert any(why in line for line in verdict.refused)
    assert "cannot change while the vault runs" in verdict.refused[0]
    assert "hint: stop the vault" in verdict.refused[0]
    assert verdict.code == "", "what is refused cannot be confirmed"


def test_fees_that_a_real_venue_charges_may_be_stated_anew() -> None:
    old = of(mode="live", feed="live", venues={"deribit": {}})
    new = of(mode="live", feed="live", venues={"deribit": {}}, hedge={**vault()["hedge"], "taker_bps": 4.0})
    assert judge(old, new).refused == ()


def test_a_code_is_of_one_change_only() -> None:
    codes = {
        confirmation(of(limits=limits(max_order_quote=old)), of(limits=limits(max_order_quote=new)))
        for old in (1.0, 2.0)
        for new in (10.0, 11.0)
    }
    assert len(codes) == 4
    assert {one.loosens for one in LIMITS} == set(Loosens)
    assert set(POLICIES), "policies are changed as a whole"


def test_the_manual_names_every_key_that_may_change() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = manual.partition("## Changing a vault while it runs")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z_.]+)`", section))
    whole = {"limits", "venue_limits", "max_age", "operator"}
    lost = [
        rule.pattern
        for rule in (*CHANGEABLE, *LIMITS)
        if rule.pattern.split(".")[0] not in whole and rule.pattern.removesuffix(".**").split(".")[-1] not in named
    ]
    assert lost == []
    assert whole <= named
    assert {one.pattern.removesuffix(".**") for one in FIXED if "." not in one.pattern.removesuffix(".**")} <= named
