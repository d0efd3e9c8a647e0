"""What an operator is shown of a session: one plain dictionary for `status`, `why` and `plan`."""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec

from bot.domain.results import pnl_parts
from bot.domain.units import utc_text
from bot.engine.desk import Desk
from bot.engine.gates import list_gates
from bot.runtime.live import LiveSession
from bot.runtime.session import Session


def status_view(session: Session | LiveSession, now_ns: int) -> dict[str, Any]:
    """Return state, exposure against band, orders, P&L and gates of every underlying as of `now_ns`; JSON-ready."""
    engine = session.engine
    return {
        "vault": session.vault.vault,
        "policy": session.policy.name,
        "as_of": utc_text(now_ns),
        "state": str(engine.state),
        "state_reason": engine.state_reason,
        "hedges": session.score.orders,
        "decisions": engine.decisions,
        "refusals": {str(reason): count for reason, count in sorted(engine.refusals.items())},
        "quotes_refused": {str(fault): count for fault, count in sorted(engine.market.faults.items())},
        "pnl_quote": pnl_parts(engine.pnl()),
        "pnl_now_quote": engine.pnl_total_quote(),
        "unhedged_pnl_quote": engine.unhedged_pnl_quote(),
        "orders": [
            {
                "order_id": order.intent.order_id,
                "state": str(order.state),
                "qty_lots": order.intent.qty_lots,
                "filled_lots": order.filled_lots,
            }
            for order in engine.orders.live.values()
        ],
        "desks": [_desk_view(session, desk, now_ns) for desk in engine.desks.values()],
    }


def _desk_view(session: Session | LiveSession, desk: Desk, now_ns: int) -> dict[str, Any]:
    decision = desk.decision
    view: dict[str, Any] = {
        "underlying": desk.underlying,
        "hedge_instrument": desk.settings.instrument.instrument_id,
        "hedge_lots": desk.hedge.lots,
        "last_hedge": utc_text(desk.last_hedge_ns),
        "hedges": {
            instrument_id: {"venue": holding.instrument.venue, "lots": holding.lots}
            for instrument_id, holding in desk.holdings.items()
        },
        "last_order": _last_order(desk),
        "plan": _plan(desk),
        "interpolated_legs": desk.book.interpolated_legs,
        "gates": [msgspec.to_builtins(gate) for gate in list_gates(session.engine, desk, now_ns)],
    }
    if decision is not None:
        fields = msgspec.to_builtins(decision)
        fields.pop("underlying")
        view["decision"] = {key: _finite(value) for key, value in fields.items()}
        view["decision"]["greeks"] = {key: _finite(value) for key, value in fields["greeks"].items()}
    return view


def _plan(desk: Desk) -> str:
    """Say in a sentence what the last decision amounts to."""
    decision = desk.decision
    if decision is None:
        return "nothing decided yet"
    if decision.refusal is not None:
        wanted = f"; it would trade {decision.wanted_lots:+} lots" if decision.wanted_lots else ""
        return f"not hedging: {decision.refusal}: {decision.refusal_detail}{wanted}"
    if decision.order_id is not None:
        return f"hedging: order {decision.order_id} of {decision.qty_lots:+} lots"
    return (
        f"nothing to do: net delta {decision.delta_low_base:+.3f} is inside "
        f"[{decision.low_base:+.3f}, {decision.high_base:+.3f}]; {decision.policy_reason}"
    )


def _last_order(desk: Desk) -> str:
    """Say why the newest hedge of this desk was sent."""
    order = desk.last_order
    return f"{order.intent.qty_lots:+} lots, {order.state}: {order.intent.reason}" if order is not None else ""


def _finite(value: Any) -> Any:  # noqa: ANN401 — values of a JSON object
    return None if isinstance(value, float) and not isfinite(value) else value
