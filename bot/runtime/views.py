"""What an operator is shown of a session: one plain dictionary for `status`, `why` and `plan`."""

from __future__ import annotations

from itertools import chain
from math import inf, isfinite
from typing import Any

import msgspec

from bot.domain.results import pnl_parts
from bot.domain.units import NS_PER_S, utc_text
from bot.engine.desk import Desk
from bot.engine.engine import Engine
from bot.engine.gates import list_gates
from bot.engine.margin.counterparty_keeper import CounterpartyKeeper
from bot.engine.margin.insurance import Insurance
from bot.engine.margin.keeper import MarginKeeper
from bot.runtime.live.session import LiveSession
from bot.runtime.session import Session

MAX_TRAIL = 50  # newest lines of a drain's trail


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
        "overrides": engine.overrides,
        "operator_notes": [{"at": utc_text(at_ns), "what": text} for at_ns, text in engine.operator.notes],
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
        "accounts": _accounts_view(engine, now_ns),
        "margin": margin_view(engine),
        "desks": [_desk_view(session, desk, now_ns) for desk in engine.desks.values()],
    }


def margin_view(engine: Engine) -> dict[str, Any]:
    """Show margin of every account, what its model makes it of, what is under way, and how venues are judged."""
    margin, top_ups = engine.margin, engine.top_ups
    if margin is None or top_ups is None:
        return {"accounts": {}, "transfers": [], "insurance": None}
    return {
        "accounts": {
            name: {
                **msgspec.to_builtins(record),
                "is_told": margin.accounts[name].is_told,
                "told": margin.tell(margin.accounts[name]),
                "parameters": margin.accounts[name].parameters.name,
                "touch_probability": _finite(margin.accounts[name].touch_probability),
                "charges": [
                    {key: _finite(value) for key, value in msgspec.structs.asdict(charge).items()}
                    for charge in (requirement.charges if requirement is not None else ())
                ],
                "banned": margin.accounts[name].banned,
                "buffer": margin.buffers.tell(name) if margin.buffers is not None else "",
                "top_up_refused": top_ups.refused.get(name, ""),
            }
            for name, record in margin.records().items()
            for requirement in (margin.accounts[name].requirement,)
        },
        "transfers": [
            {
                "transfer_id": one.transfer_id,
                "state": str(one.state),
                "asset": one.route.asset,
                "amount": one.amount,
                "from_venue": one.route.from_venue,
                "to_venue": one.route.to_venue,
                "route": one.route.name,
                "planned": utc_text(one.planned_ns),
                "reason": one.reason,
            }
            for one in top_ups.outstanding
        ],
        "transfer_notices": [
            {"at": utc_text(at_ns), **msgspec.to_builtins(notice)} for at_ns, notice in top_ups.notices
        ],
        "forecasts": {
            name: {key: _finite(value) for key, value in msgspec.to_builtins(one).items()}
            for name, one in margin.watch.forecasts.items()
        },
        "counterparties": _counterparties_view(engine.counterparties),
        "counterparty_groups": _groups_view(engine.counterparties),
        "drains": _drains_view(engine.counterparties),
        "collateral": _collateral_view(engine),
        "insurance": _insurance_view(engine.insurance),
        **_changes_view(engine, margin),
    }


def _changes_view(engine: Engine, margin: MarginKeeper) -> dict[str, Any]:
    """Show what lately changed buffers, each with its reason, what conditions are now, and which breakers are open."""
    conditions, buffers, board = margin.watch.conditions, margin.buffers, engine.breakers
    return {
        "conditions": None if conditions is None else msgspec.to_builtins(conditions),
        "condition_changes": [{"at": utc_text(at_ns), "change": line} for at_ns, line in margin.watch.changes],
        "buffer_changes": [
            {
                "account": name,
                "at": utc_text(one.ts_ns),
                "from_ratio": one.before_ratio,
                "to_ratio": one.after_ratio,
                "reason": one.reason,
            }
            for name, one in (buffers.changes if buffers is not None else ())
        ],
        "breakers": [
            {"breaker": str(one.breaker), "subject": one.subject, "since": utc_text(one.since_ns), "reason": one.reason}
            for one in (board.tripped() if board is not None else ())
        ],
        "breaker_changes": [
            {"at": utc_text(at_ns), "change": line} for at_ns, line in (board.changes if board is not None else ())
        ],
    }


def _insurance_view(insurance: Insurance | None) -> dict[str, Any] | None:
    """Show the insurance buffer with its newest entries, None where none is kept."""
    if insurance is None:
        return None
    return {
        **msgspec.to_builtins(insurance.record()),
        "draws": {str(state): share for state, share in insurance.rule.draws.items()},
        "told": insurance.tell(),
        "entries": [
            {
                "at": utc_text(one.ts_ns),
                "move": str(one.move),
                "amount_quote": one.amount_quote,
                "balance_quote": one.balance_quote,
                "reason": one.reason,
            }
            for one in insurance.buffer.entries
        ],
    }


def _collateral_view(engine: Engine) -> dict[str, Any] | None:
    """Show the newest collateral plan: what it moved and why, what is missing, what more would cost; None unplanned."""
    if engine.collateral is None:
        return None
    found = msgspec.to_builtins(engine.collateral.now())
    view: dict[str, Any] = {
        name: _finite(value) if isinstance(value, float) else value for name, value in found.items()
    }
    view["told"] = [{"at": utc_text(one["at_ns"]), "text": one["text"]} for one in found["told"]]
    return view


def _counterparties_view(keeper: CounterpartyKeeper | None) -> dict[str, Any]:
    """Show everybody who is judged: score, exposure, limit, and what follows."""
    if keeper is None:
        return {}
    return {
        name: {
            "kind": str(keeper.parties[name].kind),
            "score": risk.score.points,
            "action": str(keeper.actions[name]),
            "unknown": list(risk.score.unknown),
            "at_default_quote": _finite(risk.ead_quote),
            "stressed_quote": _finite(risk.stressed_quote),
            "expected_loss_quote": _finite(risk.expected_loss_quote),
            "limit_quote": _finite(risk.limit_quote) if keeper.rules.is_limiting else None,
            "is_over": risk.is_over,
            "reason": risk.reason,
        }
        for name, risk in keeper.risks.items()
    }


def _groups_view(keeper: CounterpartyKeeper | None) -> dict[str, Any]:
    if keeper is None:
        return {}
    return {
        one.group: {
            "parties": list(one.parties),
            "stressed_quote": _finite(one.stressed_quote),
            "limit_quote": _finite(one.limit_quote) if keeper.rules.is_limiting else None,
            "is_over": one.is_over and keeper.rules.is_limiting,
        }
        for one in keeper.groups
    }


def _drains_view(keeper: CounterpartyKeeper | None) -> list[dict[str, Any]]:
    """Show the drains under way and those that ended, each with the newest of its trail."""
    if keeper is None:
        return []
    return [
        {
            "venue": one.venue,
            "stage": str(one.stage),
            "is_over": one.is_done,
            "left_quote": _finite(one.unrecovered_quote),
            "recovery_quote": _finite(one.recovery_quote),
            "trail": [
                {"at": utc_text(entry.at_ns), "stage": str(entry.stage), "what": entry.text}
                for entry in one.trail[-MAX_TRAIL:]
            ],
        }
        for one in (*keeper.drains.values(), *keeper.ended)
    ]


def _accounts_view(engine: Engine, now_ns: int) -> dict[str, Any]:
    """Show what venues say of our accounts, and everything there that is not of our making."""
    accounts, foreign, holdings = engine.accounts, engine.foreign, engine.holdings
    waiting = accounts.waits_for().split(", ")
    return {
        "to_acknowledge": engine.alert,
        "venues": [
            {
                "venue": venue,
                "is_known": venue not in waiting,
                "age_s": (now_ns - report.ts_recv_ns) / NS_PER_S if report is not None else None,
                "question": accounts.questions.get(venue, ""),
            }
            for venue in sorted(accounts.required | accounts.reported.keys())
            for report in (accounts.reported.get(venue),)
        ],
        "mismatches": [
            {"instrument_id": name, "lots": one.lots, "reports": one.seen, "since": utc_text(one.since_ns)}
            for name, one in sorted(accounts.mismatches.items())
        ],
        "adoption_count": accounts.adoption_count,
        "adoptions": [
            {
                "instrument_id": one.instrument_id,
                "ledger_lots": one.ledger_lots,
                "venue_lots": one.venue_lots,
                "px": one.px,
                "at": utc_text(one.ts_ns),
            }
            for one in accounts.adoptions
        ],
        "foreign_fill_count": foreign.fill_count,
        "foreign_fills": [
            {
                "instrument_id": fill.instrument_id,
                "qty_lots": fill.qty_lots,
                "px": _finite(fill.px),
                "trade_id": fill.trade_id,
                "at": utc_text(fill.ts_event_ns),
            }
            for fill in foreign.fills
        ],
        "flattening": [{"instrument_id": one.instrument_id, "lots": one.lots} for one in foreign.flattenings],
        "foreign_order_count": foreign.order_count,
        "foreign_orders": [
            {
                "venue": venue,
                "venue_order_id": order.venue_order_id,
                "instrument_id": order.instrument_id,
                "left_lots": order.left_lots,
                "limit_px": _finite(order.limit_px),
            }
            for (venue, _), order in sorted(foreign.orders.items())
        ],
        "not_of_this_vault": sorted({*holdings.strays, *engine.chains.strays, *chain(*foreign.unclaimed.values())}),
        "unknown_holdings": list(holdings.unknown),
        "delisted": dict(engine.venues.delisted),
        "entered_quote": sum(desk.pnl.entered_quote for desk in engine.desks.values()),
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
        "option_hedges": {
            instrument_id: {
                "lots": holding.lots,
                "cash_settle": holding.cash_settle,
                "mark_px": desk.book.hedge_mark_px(holding),
            }
            for instrument_id, holding in desk.book.option_hedges.items()
        },
        "option_refusal": desk.option_refusal,
        "old_hedge_marks": list(desk.book.old_hedge_marks),
        "last_order": _last_order(desk),
        "plan": plan_of(desk),
        "interpolated_legs": desk.book.interpolated_legs,
        "surface_fallbacks": desk.book.surface_fallbacks,
        "delta": None if desk.book.smile is None else msgspec.to_builtins(desk.book.smile.evidence),
        "gates": [msgspec.to_builtins(gate) for gate in list_gates(session.engine, desk, now_ns)],
    }
    if decision is not None:
        fields = msgspec.to_builtins(decision)
        fields.pop("underlying")
        view["decision"] = {key: _finite(value) for key, value in fields.items()}
        view["decision"]["greeks"] = {key: _finite(value) for key, value in fields["greeks"].items()}
    return view


def plan_of(desk: Desk) -> str:
    """Say in a sentence what the last decision amounts to."""
    decision = desk.decision
    if decision is None:
        return "nothing decided yet"
    if decision.option_orders:
        return f"trading options: {'; '.join(decision.option_orders)}"
    if decision.refusal is not None:
        wanted = f"; it would trade {decision.wanted_lots:+} lots" if decision.wanted_lots else ""
        return f"not hedging: {decision.refusal}: {decision.refusal_detail}{wanted}"
    if len(decision.legs) > 1:
        parts = ", ".join(f"{leg.order_id} of {leg.qty_lots:+} lots on {leg.instrument_id}" for leg in decision.legs)
        return f"hedging: orders {parts}"
    if decision.order_id is not None:
        return f"hedging: order {decision.order_id} of {decision.qty_lots:+} lots"
    if decision.low_base == -inf and decision.high_base == inf:
        return f"nothing to do: net delta {decision.delta_low_base:+.3f}, no band: {decision.policy_reason}"
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
