"""What stands between a vault and its next hedge: every gate with its figures, for `plan`, `status` and `why`.

Reads the engine, changes nothing. The gates repeat no rule: each shows the engine's own last word or a plain reading.
"""

from __future__ import annotations

from math import inf, isnan

import msgspec

from bot.domain.decisions import BotState, Decision, Refusal
from bot.domain.orders import OrderState
from bot.domain.units import NS_PER_S
from bot.domain.venues import VenueHealth
from bot.engine.desk import Desk
from bot.engine.engine import Engine
from bot.risk.oracle_fusion import Verdict


class Gate(msgspec.Struct, frozen=True):
    """One condition of hedging, whether it is met, and the figures it was judged by."""

    name: str
    is_open: bool
    detail: str


def list_gates(engine: Engine, desk: Desk, now_ns: int) -> list[Gate]:
    """Return every gate of one underlying in the order the engine passes them."""
    decision = desk.decision
    ages = engine.settings.ages
    marks = desk.book.marks_of_underlying
    rate = engine.limits.refuse_rate(now_ns)
    limits = engine.settings.limits
    unknown = sum(order.state is OrderState.UNKNOWN for order in engine.orders.live.values())
    gates = [
        Gate(
            "state", engine.state in (BotState.RUNNING, BotState.REDUCE_ONLY), _text(engine.state, engine.state_reason)
        ),
        _age_gate("index age", now_ns - marks.index_ns if marks.index_ns else None, ages.index_ns),
        *[_quote_gate(engine, instrument_id, now_ns) for instrument_id in desk.holdings],
        *[
            _age_gate(
                f"forward age of {expiry.label}", now_ns - expiry.forward_ns if expiry.forward_ns else None, ages.vol_ns
            )
            for expiry in desk.book.own_expiries
        ],
        Gate(
            "jumps confirmed",
            not all(engine.market.is_jump_suspected(desk.underlying, instrument_id) for instrument_id in desk.holdings),
            f"limit {ages.max_jump_fraction:.0%} from one price to the next",
        ),
        Gate(
            "outcomes known", not unknown, f"{unknown} orders of unknown outcome, {len(engine.orders.live)} in flight"
        ),
        *_oracle_gates(engine, desk),
        *_venue_gates(engine, desk),
        Gate("order rate", rate is None, rate or f"below {limits.max_orders_per_min} in the last minute"),
        Gate(
            "daily loss",
            -engine.limits.day_pnl_quote < limits.daily_loss_quote,
            f"P&L since 00:00 UTC {engine.limits.day_pnl_quote:+,.2f}, limit −{limits.daily_loss_quote:,.2f}",
        ),
    ]
    gates += _margin_gates(engine)
    gates += _breaker_gates(engine, desk)
    if engine.accounts.required:
        gates.append(_accounts_gate(engine))
    if engine.chains.required or engine.chains.reports:
        gates.append(_chains_gate(engine, now_ns))
    if decision is not None and not isnan(decision.low_base):
        # as sizing judges it: both ends of the interval on one side; never when a guard refused to look
        outside = decision.delta_high_base < decision.low_base or decision.delta_low_base > decision.high_base
        gates.append(
            Gate(
                "net delta outside its band",
                outside,
                f"net {decision.delta_low_base:+.3f}, {_band_text(decision)}; {decision.policy_reason}",
            )
        )
    if decision is not None and decision.refusal is not None:
        gates.append(Gate("last decision", is_open=False, detail=f"{decision.refusal}: {decision.refusal_detail}"))
    return gates


def _band_text(decision: Decision) -> str:
    if decision.low_base == -inf and decision.high_base == inf:
        return "no band"
    return f"band [{decision.low_base:+.3f}, {decision.high_base:+.3f}]"


def _quote_gate(engine: Engine, instrument_id: str, now_ns: int) -> Gate:
    quote = engine.market.quotes.get(instrument_id)
    age_ns = now_ns - quote.ts_event_ns if quote is not None else None
    return _age_gate(f"quote age of {instrument_id}", age_ns, engine.settings.ages.quote_ns)


def _oracle_gates(engine: Engine, desk: Desk) -> list[Gate]:
    """Return what the sources of a fused price amount to; open as far as exposure may grow on it."""
    fused = engine.oracles.fused(desk.underlying) if engine.oracles is not None else None
    if fused is None:
        return []
    is_open = fused.verdict in (Verdict.OK, Verdict.DEGRADED)
    return [Gate("price sources agree", is_open, f"{fused.verdict}: {fused.px:g}, {fused.reason}")]


def _venue_gates(engine: Engine, desk: Desk) -> list[Gate]:
    """Return one gate per hedge venue that ever said how it is, and one per delisted hedge instrument."""
    gates = []
    for venue in dict.fromkeys(holding.instrument.venue for holding in desk.holdings.values()):
        status = engine.venues.statuses.get(venue)
        if status is not None:
            gates.append(Gate(f"venue {venue}", status.health is VenueHealth.UP, _text(status.health, status.reason)))
    for holding in desk.holdings.values():
        block = engine.venues.find_block(holding.instrument)
        if block is not None and block.refusal is Refusal.DELISTED:
            gates.append(Gate(f"listing of {block.instrument_id}", is_open=False, detail=block.why))
    return gates


def _margin_gates(engine: Engine) -> list[Gate]:
    """Return one gate per account whose margin is reckoned; open as long as a hedge there may add to it."""
    if engine.margin is None:
        return []
    return [
        Gate(f"margin at {name}", one.may_add and not one.unknown and not one.is_assumed, engine.margin.tell(one))
        for name, one in sorted(engine.margin.accounts.items())
    ]


def _breaker_gates(engine: Engine, desk: Desk) -> list[Gate]:
    """Return whether breakers let risk be added, and what vol margin is looked ahead with; hedging passes both."""
    gates = []
    if engine.breakers is not None:
        doubt = engine.breakers.doubt(desk.underlying)
        told = (
            f"only what shrinks the net delta: {doubt}" if doubt else f"none open, {engine.breakers.trip_count} so far"
        )
        gates.append(Gate("breakers", not doubt, told))
    if engine.margin is not None:
        gates.append(Gate("vol forecast", is_open=True, detail=engine.margin.watch.tell(desk.underlying)))
    return gates


def _accounts_gate(engine: Engine) -> Gate:
    waits_for = engine.accounts.waits_for()
    differing = ", ".join(f"{name} {one.lots:+} lots" for name, one in sorted(engine.accounts.mismatches.items()))
    problems = [f"waiting for {waits_for}" if waits_for else "", f"unexplained: {differing}" if differing else ""]
    return Gate("accounts known", not waits_for, "; ".join(filter(None, problems)) or "they agree with the ledger")


def _chains_gate(engine: Engine, now_ns: int) -> Gate:
    missing = engine.chains.waits_for() or engine.chains.find_stale(now_ns)
    return Gate("chains known", not missing, engine.chains.tell(now_ns))


def _age_gate(name: str, age_ns: int | None, limit_ns: int) -> Gate:
    if age_ns is None:
        return Gate(name, is_open=False, detail="nothing received yet")
    return Gate(name, age_ns <= limit_ns, f"{age_ns / NS_PER_S:.1f} s, limit {limit_ns / NS_PER_S:.0f} s")


def _text(state: BotState | VenueHealth, reason: str) -> str:
    return f"{state} ({reason})" if reason else str(state)
