"""Settings taken up by an engine that runs: every part of it goes by the new ones, and the same ones change nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import isnan
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.decisions import Refusal
from bot.domain.errors import InvariantBroken
from bot.domain.events import CancelOrder, ConfigChanged, OperatorAction, OperatorCommand, SubmitOrder
from bot.domain.orders import TimeInForce
from bot.domain.units import NS_PER_S
from bot.engine.adoption import ADOPTED, ADOPTED_OF_RISK, adopted
from bot.engine.engine import Engine
from bot.engine.limits import LimitKeeper
from bot.engine.margin.risk_settings import CounterpartyRules
from bot.engine.settings import Ages, EngineSettings, FusionSettings, HedgeSettings, Limits, OperatorBounds
from bot.risk.buffer import BufferRule
from bot.risk.counterparties import CounterpartyParameters
from bot.risk.margin_states import StateRule
from bot.runtime.configuration.margin_parameters import carried_sets
from strategies import DeltaBand
from tests.engine.builders import PERPETUAL, Driver, make_settings, only_intent
from tests.engine.collateral_vault import CollateralVault
from tests.engine.margin_vault import CLASSES, MarginVault
from tests.engine.option_vault import RULES, OptionDriver

OTHERS: dict[str, Any] = {
    "policy": DeltaBand(half_width_base=3.0),
    "limits": Limits(
        max_order_quote=5e5, max_orders_per_min=7, daily_loss_quote=1e5, price_collar_bps=90.0, max_hedges_same_way=3
    ),
    "ages": Ages(vol_ns=300 * NS_PER_S, quote_ns=20 * NS_PER_S, index_ns=10 * NS_PER_S),
    "pnl_step_ns": 30 * NS_PER_S,
    "routing": "preference",
    "venue_limits": {"sim": 3e6},
    "account_max_age_ns": 77 * NS_PER_S,
    "foreign_policy": "flatten",
    "option_hedges": {},
    "operator": {"ETH": OperatorBounds(target_min_base=-1.0, target_max_base=1.0)},
}
OTHERS_OF_RISK: dict[str, Any] = {
    "states": StateRule(watch_ratio=0.5, act_ratio=0.7),
    "max_initial_ratio": 0.7,
    "review_ns": 10 * NS_PER_S,
    "review_move_fraction": 0.01,
    "report_max_age_ns": 60 * NS_PER_S,
    "target_ratio": 0.4,
    "slice_share": 0.05,
}


def changed(old: EngineSettings) -> EngineSettings:
    """Return settings that differ in everything an engine can take up."""
    hedges = {
        base: tuple(
            msgspec.structs.replace(
                one,
                max_slippage_bps=11.0,
                ratio=0.9,
                target_delta_base=0.5,
                style="maker",
                taker_bps=one.taker_bps + 1.0,
                repeg_ticks=3,
                max_rest_ns=7 * NS_PER_S,
                one_outstanding=True,
            )
            for one in lines
        )
        for base, lines in old.hedges.items()
    }
    options = {base: msgspec.structs.replace(one, max_order_quote=9.0) for base, one in old.option_hedges.items()}
    risk = None if old.risk is None else msgspec.structs.replace(old.risk, **OTHERS_OF_RISK)
    fusion = {base: msgspec.structs.replace(one, index_max_age_ns=3 * NS_PER_S) for base, one in old.fusion.items()}
    policy = OTHERS["policy"] if not options else old.policy
    return msgspec.structs.replace(
        old, **{**OTHERS, "policy": policy, "option_hedges": options, "hedges": hedges, "risk": risk, "fusion": fusion}
    )


def risky() -> EngineSettings:
    """Return the settings of a vault with every keeper that risk can have."""
    parameters = msgspec.convert(carried_sets("counterparties")[-1].values, CounterpartyParameters)
    vault = MarginVault(
        {"a": 1e6, "b": 1e6},
        risk={
            "classes": CLASSES,
            "insurance": BufferRule(full_quote=1e5),
            "counterparties": parameters,
            "counterparty_rules": CounterpartyRules(is_limiting=True),
        },
    )
    return vault.engine.settings


VAULTS: dict[str, EngineSettings] = {
    "plain": make_settings(),
    "accounts": make_settings(account_venues=frozenset(["sim"]), account_max_age_ns=NS_PER_S),
    "fused": make_settings(fusion={"ETH": FusionSettings()}),
    "options": OptionDriver({}).engine.settings,
    "risk": risky(),
    "collateral": CollateralVault({"a": 1e5, "b": 1e5}).engine.settings,
}


@pytest.mark.parametrize("name", VAULTS)
def test_an_engine_that_takes_up_settings_is_the_one_that_began_with_them(name: str) -> None:
    old = VAULTS[name]
    new = changed(old)
    assert all(getattr(new, one) != getattr(old, one) for one in ADOPTED if one not in ("policy", "option_hedges"))
    took, began = Engine(old), Engine(new)
    assert find_difference(took, began), "the two have to differ before"
    adopt(took, new)
    assert find_difference(took, began) == ""


def test_the_settings_changed_here_are_all_that_can_be_taken_up() -> None:
    assert set(OTHERS) == set(ADOPTED)
    assert set(OTHERS_OF_RISK) == set(ADOPTED_OF_RISK)


moves = st.lists(st.floats(-0.004, 0.004), min_size=5, max_size=25)


@settings(deadline=None, max_examples=15)
@given(name=st.sampled_from(sorted(VAULTS)), walk=moves, every=st.integers(1, 4))
def test_the_same_settings_again_change_nothing(name: str, walk: list[float], every: int) -> None:
    alone, reloaded = Driver(VAULTS[name]), Driver(VAULTS[name])
    px = 2000.0
    for step, move in enumerate(walk):
        px *= 1.0 + move
        commands = alone.tick(px)
        if step % every == 0:
            adopt(reloaded.engine, msgspec.structs.replace(VAULTS[name]))
        assert reloaded.tick(px) == commands
        for driver in (alone, reloaded):
            for command in commands:
                if isinstance(command, SubmitOrder):
                    driver.accept(command.intent)
                    driver.fill(command.intent, px=px)
    assert find_difference(alone.engine, reloaded.engine) == ""


def adopt(engine: Engine, new: EngineSettings) -> None:
    """Take up settings as whoever applies a `ConfigChanged` does."""
    engine.adopt(new)
    engine.apply(ConfigChanged("", "", (), "someone", "because", 0))


# What follows at once ------------------------------------------------------------------------------------------------


def test_what_is_not_named_stays_as_it_began() -> None:
    old = VAULTS["risk"]
    assert old.risk is not None
    accounts = {name: msgspec.structs.replace(one, liquidation_ratio=0.5) for name, one in old.risk.accounts.items()}
    other = msgspec.structs.replace(
        old, numeraire="ETH", cash={"ETH": 3.0}, risk=msgspec.structs.replace(old.risk, accounts=accounts)
    )
    found = adopted(old, other)
    assert found.risk is not None
    assert found.risk.accounts is old.risk.accounts
    assert (found.numeraire, found.cash) == (old.numeraire, old.cash)


@pytest.mark.parametrize("other", [PERPETUAL, "fewer", "options"])
def test_other_instruments_are_never_taken_up(other: object) -> None:
    old = VAULTS["risk"]
    if other == "options":
        new = msgspec.structs.replace(old, option_hedges={"ETH": RULES})
    elif other == "fewer":
        new = msgspec.structs.replace(old, hedges={"ETH": old.hedges["ETH"][:1]})
    else:
        new = msgspec.structs.replace(
            old, hedges={"ETH": (HedgeSettings(instrument=PERPETUAL, maker_bps=0, taker_bps=5),)}
        )
    engine = Engine(old)
    with pytest.raises(InvariantBroken, match="expected settings that trade"):
        engine.adopt(new)
    assert engine.settings is old


def test_what_rests_is_canceled_where_hedges_no_longer_rest() -> None:
    maker = HedgeSettings(instrument=PERPETUAL, maker_bps=0.0, taker_bps=5.0, style="maker", escalate_bands=1000.0)
    driver = Driver(make_settings(hedge=maker))
    intent = only_intent(driver.tick(px=2100.0))
    assert intent.time_in_force is TimeInForce.POST_ONLY
    driver.accept(intent)
    assert driver.tick(px=2100.0) == []
    taker = msgspec.structs.replace(maker, style="taker")
    adopt(driver.engine, msgspec.structs.replace(driver.engine.settings, hedges={"ETH": (taker,)}))
    (cancel,) = driver.tick(px=2100.0)
    assert cancel == CancelOrder(intent.order_id, intent.instrument_id, "hedges there no longer rest")
    driver.cancel(intent, is_expired=False)
    crossing = only_intent(driver.tick(px=2100.0, after_s=5.0))
    assert crossing.time_in_force is TimeInForce.IOC


def test_a_younger_age_is_asked_of_what_came_before() -> None:
    driver = Driver()
    driver.tick()
    driver.wait(30.0)
    driver.apply(driver.index(2000.0), driver.quote(PERPETUAL, 2000.0))
    driver.decide()
    assert driver.engine.desks["ETH"].decision is not None
    ages = Ages(vol_ns=20 * NS_PER_S, quote_ns=60 * NS_PER_S, index_ns=60 * NS_PER_S)
    adopt(driver.engine, msgspec.structs.replace(driver.engine.settings, ages=ages))
    driver.decide()
    decision = driver.engine.desks["ETH"].decision
    assert decision is not None
    assert decision.refusal is Refusal.STALE_FORWARD


def test_what_was_sent_counts_against_a_smaller_rate() -> None:
    driver = Driver(make_settings(policy=DeltaBand(half_width_base=0.1)))
    driver.hedge(2000.0)
    driver.hedge(2100.0)
    fewer = msgspec.structs.replace(driver.engine.settings.limits, max_orders_per_min=2)
    adopt(driver.engine, msgspec.structs.replace(driver.engine.settings, limits=fewer))
    assert driver.tick(2000.0) == []
    assert driver.engine.refusals[Refusal.ORDER_RATE] == 1


def test_hedges_made_so_far_count_as_a_loop_by_other_limits() -> None:
    limits = VAULTS["plain"].limits
    keeper = LimitKeeper(limits)
    for number in range(4):
        keeper.note_hedge("ETH", number * NS_PER_S, 5.0, 0.0)
    assert keeper.find_hedge_loop("ETH", 5 * NS_PER_S, 1, 0.0) is None
    keeper.adopt(msgspec.structs.replace(limits, max_hedges_same_way=3))
    assert keeper.find_hedge_loop("ETH", 5 * NS_PER_S, 1, 0.0) is not None


def test_what_a_person_set_beyond_new_bounds_goes_back_to_the_file() -> None:
    wide = {"ETH": OperatorBounds(target_min_base=-9.0, target_max_base=9.0)}
    driver = Driver(make_settings(operator=wide))
    driver.apply(OperatorCommand(OperatorAction.SET_TARGET, "ops", "drill", 1, underlying="ETH", target_base=5.0))
    assert driver.engine.operator.targets
    adopt(driver.engine, msgspec.structs.replace(driver.engine.settings, operator=OTHERS["operator"]))
    assert not driver.engine.operator.targets


# Two engines, part by part -------------------------------------------------------------------------------------------

_PLAIN = (str, bytes, int, float, bool, type(None), type)
_CODE = (FunctionType, MethodType, BuiltinFunctionType)


def find_difference(one: object, other: object) -> str:
    """Return where two object graphs differ first, "" if they hold the same values in the same shapes."""
    return _differ(one, other, "engine", {})


def _differ(one: Any, other: Any, path: str, seen: dict[tuple[int, int], object]) -> str:
    if one is other:
        return ""
    if type(one) is not type(other):
        return f"{path}: {type(one).__name__} and {type(other).__name__}"
    if isinstance(one, _CODE):
        return "" if one.__qualname__ == other.__qualname__ else f"{path}: other code"
    if isinstance(one, _PLAIN):
        is_same = one == other or (isinstance(one, float) and isnan(one) and isnan(other))
        return "" if is_same else f"{path}: {one!r} and {other!r}"
    if (id(one), id(other)) in seen:
        return ""
    seen[id(one), id(other)] = (one, other)
    if isinstance(one, np.ndarray):
        return "" if np.array_equal(one, other, equal_nan=one.dtype.kind == "f") else f"{path}: other numbers"
    first, second = _parts(one), _parts(other)
    if first.keys() != second.keys():
        return f"{path}: {sorted(map(str, first))} and {sorted(map(str, second))}"
    return next(
        (found for key in first if (found := _differ(first[key], second[key], f"{path}.{key}", seen))),
        "",
    )


def _parts(thing: Any) -> dict[Any, Any]:
    if isinstance(thing, Mapping):
        return dict(thing)
    if isinstance(thing, list | tuple | deque):
        parts: dict[Any, Any] = dict(enumerate(thing))
        return {**parts, "maxlen": thing.maxlen} if isinstance(thing, deque) else parts
    if isinstance(thing, set | frozenset):
        return dict.fromkeys(thing)
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    names = [*getattr(thing, "__dict__", {}), *getattr(thing, "__struct_fields__", ()), *slots]
    return {name: getattr(thing, name) for name in names if hasattr(thing, name)}
