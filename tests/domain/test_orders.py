import msgspec
import pytest

from bot.domain.events import Command, Event, SubmitOrder
from bot.domain.orders import Fill, Liquidity, OrderIntent, OrderState, OrderTruth, TimeInForce

TERMINAL = {OrderState.DENIED, OrderState.FILLED, OrderState.REJECTED, OrderState.CANCELED, OrderState.EXPIRED}


@pytest.mark.parametrize("state", OrderState)
def test_only_final_states_are_terminal(state: OrderState) -> None:
    assert state.is_terminal is (state in TERMINAL)


def test_what_an_order_went_through_survives_the_wire() -> None:
    fill = Fill("T1", "r-1", "ETH-PERPETUAL", -3, 1900.05, 0.1, Liquidity.TAKER, 1, 2)
    truth = OrderTruth("r-1", OrderState.FILLED, (fill,), 3, 4)
    intent = OrderIntent(
        "r-1",
        "ETH-PERPETUAL",
        -3,
        38000,
        TimeInForce.IOC,
        reduce_only=False,
        reason="band",
        reference_px=1900.0,
        decided_ns=1,
    )
    wire = msgspec.msgpack.encode((truth, fill))
    assert msgspec.msgpack.decode(wire, type=tuple[Event, ...]) == (truth, fill)
    wire = msgspec.msgpack.encode((SubmitOrder(intent),))
    assert msgspec.msgpack.decode(wire, type=tuple[Command, ...]) == (SubmitOrder(intent),)
