"""Gates: every condition of the next hedge with its figures, and shut whenever the engine would not trade."""

from __future__ import annotations

import msgspec
import pytest

from bot.domain.events import OperatorAction
from bot.domain.orders import OutcomeLost
from bot.domain.venues import InstrumentDelisted, VenueHealth, VenueStatus
from bot.engine.gates import Gate, list_gates
from bot.engine.settings import HedgeSettings
from strategies import Unhedged
from tests.engine.builders import LIMITS, PERPETUAL, Driver, make_settings, only_intent

ALL = [
    "state",
    "index age",
    "quote age of ETH-PERPETUAL",
    "forward age of ETH 2023-05-03",
    "jumps confirmed",
    "outcomes known",
    "order rate",
    "daily loss",
]
BAND = "net delta outside its band"


def gates_of(driver: Driver) -> dict[str, Gate]:
    return {gate.name: gate for gate in list_gates(driver.engine, driver.engine.desks["ETH"], driver.now_ns)}


def shut(driver: Driver) -> list[str]:
    return [name for name, gate in gates_of(driver).items() if not gate.is_open]


@pytest.fixture
def driver() -> Driver:
    return Driver(make_settings(cash={"ETH": 10.0}))


def test_before_anything_was_received_the_inputs_are_what_is_missing(driver: Driver) -> None:
    gates = gates_of(driver)
    assert list(gates) == ALL
    assert shut(driver) == ALL[:4]
    assert {gates[name].detail for name in ALL[1:4]} == {"nothing received yet"}
    assert gates["state"].detail == "reconciling (starting)"


def test_all_are_open_when_a_hedge_is_sent(driver: Driver) -> None:
    only_intent(driver.tick())
    gates = gates_of(driver)
    assert list(gates) == [*ALL, BAND]
    assert shut(driver) == []
    assert gates[BAND].detail.startswith("net +9.3")
    assert "band [-1.000, +1.000]; fixed band ±1 ETH" in gates[BAND].detail
    assert gates["index age"].detail == "0.0 s, limit 60 s"


def test_inside_the_band_that_is_the_only_gate_shut(driver: Driver) -> None:
    driver.hedge()
    driver.tick()
    assert shut(driver) == [BAND]


def test_each_gate_shuts_for_its_own_reason(driver: Driver) -> None:
    driver.hedge()
    driver.tick()
    driver.wait(61.0)
    assert set(shut(driver)) == {"index age", "quote age of ETH-PERPETUAL", BAND}
    assert gates_of(driver)["index age"].detail == "61.0 s, limit 60 s"
    driver.wait(600.0)
    assert "forward age of ETH 2023-05-03" in shut(driver)


def test_a_refused_decision_is_shown_and_not_taken_for_a_band_left(driver: Driver) -> None:
    driver.tick()
    driver.wait(61.0)
    driver.decide()
    gates = gates_of(driver)
    assert BAND not in gates
    assert gates["last decision"] == Gate(
        "last decision", is_open=False, detail="stale_index: index of ETH is 61 s old, limit 60 s"
    )


def test_an_interval_across_the_band_is_not_outside_it(driver: Driver) -> None:
    intent = only_intent(driver.tick())
    driver.apply(OutcomeLost(intent.order_id, "timeout", driver.now_ns))
    driver.tick()
    gates = gates_of(driver)
    assert gates["outcomes known"].detail == "1 orders of unknown outcome, 1 in flight"
    assert not gates["outcomes known"].is_open
    assert not gates[BAND].is_open


def test_jumps_rate_and_loss() -> None:
    limits = msgspec.structs.replace(LIMITS, max_orders_per_min=1, daily_loss_quote=500.0)
    driver = Driver(make_settings(cash={"ETH": 10.0}, limits=limits))
    driver.hedge()
    assert gates_of(driver)["order rate"].detail == "1 orders in the last minute, limit 1"
    driver.apply(driver.index(3000.0))
    assert {"jumps confirmed", "order rate"} <= set(shut(driver))
    lossy = Driver(make_settings(cash={"ETH": 10.0}, limits=limits, policy=Unhedged()))
    lossy.tick()
    lossy.tick(px=1940.0)
    assert "daily loss" in shut(lossy)
    assert "limit −500.00" in gates_of(lossy)["daily loss"].detail
    assert ", no band; " in gates_of(lossy)[BAND].detail  # it holds, whatever net delta is


@pytest.mark.parametrize(
    ("action", "is_open"),
    [(OperatorAction.PAUSE, False), (OperatorAction.HALT, False), (OperatorAction.REDUCE_ONLY, True)],
)
def test_the_state_gate_says_who_and_why(driver: Driver, action: OperatorAction, is_open: bool) -> None:
    driver.operate(action, "storm")
    gate = gates_of(driver)["state"]
    assert gate.is_open is is_open
    assert gate.detail.endswith("(someone: storm)")


def test_reading_changes_nothing(driver: Driver) -> None:
    driver.tick()
    before = dict(driver.engine.refusals), driver.engine.state, driver.engine.equity_quote()
    for _ in range(3):
        gates_of(driver)
    assert (dict(driver.engine.refusals), driver.engine.state, driver.engine.equity_quote()) == before


def test_every_hedge_and_its_venue_has_its_gates(driver: Driver) -> None:
    other = msgspec.structs.replace(PERPETUAL, instrument_id="ETH-OTHER", venue="other")
    hedges = tuple(HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=5.0) for one in (PERPETUAL, other))
    driver = Driver(make_settings(cash={"ETH": 10.0}, hedges={"ETH": hedges}))
    driver.tick()
    assert {"quote age of ETH-PERPETUAL", "quote age of ETH-OTHER"} <= set(gates_of(driver))
    driver.apply(VenueStatus("other", VenueHealth.DOWN, "closed", driver.now_ns))
    driver.apply(InstrumentDelisted("ETH-PERPETUAL", "gone", driver.now_ns))
    gates = gates_of(driver)
    assert gates["venue other"] == Gate("venue other", is_open=False, detail="down (closed)")
    assert gates["listing of ETH-PERPETUAL"] == Gate(
        "listing of ETH-PERPETUAL", is_open=False, detail="ETH-PERPETUAL: gone"
    )
    driver.apply(VenueStatus("other", VenueHealth.UP, "", driver.now_ns))
    assert gates_of(driver)["venue other"].is_open
