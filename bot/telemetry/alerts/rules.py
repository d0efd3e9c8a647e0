"""What people are told of: one table of rules, and what of it is true of a vault's state now.

A finding lasts as long as it is found again; how long it must last before anybody is told is the rule's. Pure: no
clock, no memory. docs/alerts.md is this table in words, which a test checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from bot.domain.decisions import BotState, Refusal
from bot.domain.orders import OrderState
from bot.domain.risk import MarginState, TransferState
from bot.domain.venues import VenueHealth
from bot.domain.windows import FeedState, Severity, UnderlyingState, VaultState

LOSS_SHARE: Final = 0.6  # of the daily loss limit; at 1 the engine trips by itself
LOOP_LAG_S: Final = 1.0
JOURNAL_LAG_S: Final = 5.0  # ten times as long as the daemon takes between two writes


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One thing people are told of; `why` says what is at stake.

    `after_s` is how long it must be found before it is an alert. An event is not found again: it is over once nothing
    like it came for the time between two tellings, and nobody is told that it is.
    """

    kind: str
    severity: Severity
    title: str
    why: str
    after_s: float = 0.0
    is_event: bool = False


class Finding(NamedTuple):
    """What was found: the rule's kind, of what (a feed, an order; "" the vault itself), and its figures."""

    kind: str
    subject: str
    detail: str


_TABLE: Final = (
    Rule(
        kind="daemon_silent",
        severity=Severity.CRITICAL,
        title="the daemon does not answer",
        why="nothing is hedged, and nobody sees what rests: it is gone, or frozen",
        after_s=10.0,
    ),
    Rule(
        kind="halted",
        severity=Severity.CRITICAL,
        title="halted by the bot itself",
        why="a venue contradicted itself, refused in a row or is fatal; nothing is hedged until a person resumes",
    ),
    Rule(
        kind="limited",
        severity=Severity.WARNING,
        title="paused or reduce-only, and not by an operator",
        why="a limit or a margin emergency stands; the book is hedged partly or not at all until a person resumes",
    ),
    Rule(
        kind="to_acknowledge",
        severity=Severity.WARNING,
        title="a person has to acknowledge",
        why="fills or positions that are not ours were found on an account; a resume acknowledges them",
    ),
    Rule(
        kind="reconciling",
        severity=Severity.WARNING,
        title="still reconciling",
        why="an account, a chain or an order's outcome is not known, and nothing is traded until it is",
        after_s=120.0,
    ),
    Rule(
        kind="outcome_unknown",
        severity=Severity.WARNING,
        title="an order's outcome is unknown",
        why="net delta is an interval until the venue answers; only what both ends agree on is hedged",
        after_s=60.0,
    ),
    Rule(
        kind="not_hedging",
        severity=Severity.WARNING,
        title="outside the band, or blind, and not hedging",
        why="exposure is carried that the policy would not carry; the refusal says what stands in the way",
        after_s=60.0,
    ),
    Rule(
        kind="feed_stale",
        severity=Severity.WARNING,
        title="market data is stale",
        why="nothing is decided on an old price, so what depends on it is not hedged",
        after_s=15.0,
    ),
    Rule(
        kind="venue_down",
        severity=Severity.WARNING,
        title="a venue is down",
        why="no hedge and no cancel reaches it; it may come back by itself",
        after_s=10.0,
    ),
    Rule(
        kind="venue_fatal",
        severity=Severity.CRITICAL,
        title="a venue waits for a person",
        why="authentication, clock or listing: it does not come back by itself",
    ),
    Rule(
        kind="account_unknown",
        severity=Severity.WARNING,
        title="an account, its margin or a chain is not known",
        why="what is held there is not known, so neither exposure nor margin is",
        after_s=30.0,
    ),
    Rule(
        kind="margin_watch",
        severity=Severity.WARNING,
        title="margin is to be watched",
        why="60 % of the way to liquidation; a transfer takes its time",
        after_s=30.0,
    ),
    Rule(
        kind="margin_act",
        severity=Severity.WARNING,
        title="margin: nothing is added any more",
        why="80 % of the way to liquidation, or it might be touched before a top-up arrives",
    ),
    Rule(
        kind="margin_critical",
        severity=Severity.CRITICAL,
        title="margin: hedges are being closed",
        why="90 % of the way to liquidation or worse: hedges are closed in slices and made elsewhere",
    ),
    Rule(
        kind="breaker",
        severity=Severity.WARNING,
        title="a breaker is open",
        why="a move, a gap, slippage, failed hedges or lost answers: only what takes risk off is allowed",
    ),
    Rule(
        kind="drain",
        severity=Severity.CRITICAL,
        title="a counterparty is being left",
        why="a venue shows signs of failing; what is there is hedged elsewhere and withdrawn",
    ),
    Rule(
        kind="transfer_late",
        severity=Severity.WARNING,
        title="collateral on its way is late or unknown",
        why="it counts nowhere until the destination credits it, and the account that needs it still does",
    ),
    Rule(
        kind="daily_loss",
        severity=Severity.WARNING,
        title="most of the daily loss limit is used",
        why="60 % of the limit is lost; at all of it the vault goes reduce-only",
    ),
    Rule(
        kind="loop_lag",
        severity=Severity.WARNING,
        title="the daemon is slow",
        why="its loop was held up for more than a second, and every decision with it",
        after_s=10.0,
    ),
    Rule(
        kind="journal_lag",
        severity=Severity.WARNING,
        title="the journal is behind",
        why="a disk that is full or slow: no order leaves before its intent is on it",
        after_s=5.0,
    ),
    Rule(
        kind="command_refused",
        severity=Severity.WARNING,
        title="a command was refused",
        why="forged, replayed, expired or not allowed: somebody who may not tries to, or somebody who may cannot",
        is_event=True,
    ),
    Rule(
        kind="broker_away",
        severity=Severity.WARNING,
        title="the MQTT broker does not answer",
        why="no command arrives and nobody watching sees anything; events wait in the journal",
        after_s=30.0,
    ),
    Rule(
        kind="destination_failing",
        severity=Severity.WARNING,
        title="alerts cannot be delivered",
        why="whoever is paged there is not; the other destinations are told",
        after_s=60.0,
    ),
    Rule(
        kind="windows_restarted",
        severity=Severity.WARNING,
        title="the windows ended without being told to, and are back",
        why="for as long as they were away nobody was told anything; trading did not notice",
        is_event=True,
    ),
)
RULES: Final[Mapping[str, Rule]] = {rule.kind: rule for rule in _TABLE}

_TRADES: Final = (BotState.RUNNING, BotState.REDUCE_ONLY)
_MARGIN_KINDS: Final = {
    MarginState.WATCH: "margin_watch",
    MarginState.ACT: "margin_act",
    MarginState.CRITICAL: "margin_critical",
    MarginState.EMERGENCY: "margin_critical",
}
_REFUSALS: Final = frozenset(str(one) for one in Refusal)


def judge(state: VaultState) -> list[Finding]:
    """Return everything that is found of a vault now; whether it is to be told is for whoever keeps the time."""
    parts: tuple[Callable[[VaultState], Iterable[Finding]], ...] = (
        _of_state, _of_orders, _of_hedging, _of_feeds, _of_venues, _of_margin, _of_risk, _of_loss, _of_daemon,
    )  # fmt: skip
    return [finding for part in parts for finding in part(state)]


def is_by_the_bot(state: VaultState) -> bool:
    """Tell whether what the vault is held back by is of its own making: a limit, an account, margin; not a person."""
    reason = state.state_reason
    is_tripped = reason.partition(":")[0] in _REFUSALS
    return is_tripped or reason == state.to_acknowledge or reason.startswith("margin emergency")


def _of_state(state: VaultState) -> Iterable[Finding]:
    reason = state.state_reason or "no reason given"
    if state.state == BotState.HALTED and is_by_the_bot(state):
        yield Finding("halted", "", reason)
    if state.state in (BotState.PAUSED, BotState.REDUCE_ONLY) and is_by_the_bot(state):
        yield Finding("limited", "", f"{state.state}: {reason}")
    if state.state == BotState.RECONCILING:
        yield Finding("reconciling", "", reason)
    if state.to_acknowledge:
        yield Finding("to_acknowledge", "", state.to_acknowledge)


def _of_orders(state: VaultState) -> Iterable[Finding]:
    for order in state.orders:
        if order.state == OrderState.UNKNOWN:
            left = f"{order.qty_lots:+} lots of {order.instrument_id}, {order.filled_lots} known to be filled"
            yield Finding("outcome_unknown", order.order_id, left)


def _of_hedging(state: VaultState) -> Iterable[Finding]:
    if state.state not in _TRADES:
        return  # that it does not hedge is what its state says
    for one in state.underlyings:
        if one.refusal and not _is_inside(one):
            yield Finding("not_hedging", one.underlying, f"{_exposure(one)}; {one.refusal}: {one.refusal_detail}")


def _is_inside(one: UnderlyingState) -> bool:
    """Tell whether net delta is known to be in its band, all of the interval it may lie in."""
    if one.low_base is None or one.high_base is None or one.delta_low_base is None or one.delta_high_base is None:
        return False
    return one.low_base <= one.delta_low_base and one.delta_high_base <= one.high_base


def _exposure(one: UnderlyingState) -> str:
    if one.delta_low_base is None or one.delta_high_base is None:
        return "net delta not known"
    net = f"{one.delta_low_base:+.4g}"
    if one.delta_high_base > one.delta_low_base:
        net = f"between {net} and {one.delta_high_base:+.4g}"
    if one.low_base is None or one.high_base is None:
        return f"net delta {net}, no band"
    return f"net delta {net}, band [{one.low_base:+.4g}, {one.high_base:+.4g}]"


def _of_feeds(state: VaultState) -> Iterable[Finding]:
    for feed in state.feeds:
        if feed.is_stale:
            yield Finding("feed_stale", feed.name, _age(feed))


def _age(feed: FeedState) -> str:
    age = "nothing came yet" if feed.age_s is None else f"{feed.age_s:.1f} s old"
    return f"{feed.kind}: {age}, limit {feed.max_age_s:g} s"


def _of_venues(state: VaultState) -> Iterable[Finding]:
    kinds = {VenueHealth.DOWN: "venue_down", VenueHealth.FATAL: "venue_fatal"}
    for venue in state.venues:
        for health, kind in kinds.items():
            if venue.health == health:
                yield Finding(kind, venue.venue, venue.reason or "no reason given")
    for name in ("accounts known", "chains known"):
        closed = [gate for one in state.underlyings for gate in one.gates if gate.name == name and not gate.is_open]
        if closed:
            yield Finding("account_unknown", name.partition(" ")[0], closed[0].detail)


def _of_margin(state: VaultState) -> Iterable[Finding]:
    for account in state.accounts:
        kind = _MARGIN_KINDS.get(account.state)  # type: ignore[call-overload]
        if kind is not None:
            yield Finding(kind, account.account, account.told or account.state)
        elif account.state not in set(MarginState):
            yield Finding("account_unknown", account.account, account.told or "margin not known")


def _of_risk(state: VaultState) -> Iterable[Finding]:
    risk = state.risk
    for one in _lines(risk, "breakers"):
        yield Finding("breaker", f"{_text(one, 'breaker')} {_text(one, 'subject')}".strip(), _text(one, "reason"))
    for one in _lines(risk, "drains"):
        if not one.get("is_over"):
            trail = _lines(one, "trail")
            newest = _text(trail[-1], "what") if trail else ""
            yield Finding("drain", _text(one, "venue"), f"{_text(one, 'stage')}: {newest}".strip(": "))
    notices: dict[str, str] = {}  # the newest about each transfer
    for one in _lines(risk, "transfer_notices"):
        if one.get("kind") in ("late", "replan"):
            notices[_text(one, "transfer_id")] = f"{_text(one, 'kind')}: {_text(one, 'detail')}"
    for one in _lines(risk, "transfers"):
        transfer_id, where = _text(one, "transfer_id"), f"{_text(one, 'from_venue')} to {_text(one, 'to_venue')}"
        if one.get("state") == TransferState.UNKNOWN or transfer_id in notices:
            told = notices.get(transfer_id) or f"unknown: {_text(one, 'reason')}"
            yield Finding(
                "transfer_late", transfer_id, f"{_text(one, 'amount')} {_text(one, 'asset')}, {where}; {told}"
            )


def _lines(risk: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = risk.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list | tuple) else []


def _text(one: Mapping[str, Any], key: str) -> str:
    return str(one.get(key, ""))


def _of_loss(state: VaultState) -> Iterable[Finding]:
    limit, today = state.daily_loss_limit_quote, state.pnl_today_quote
    if limit is not None and today is not None and limit > 0.0 and -today >= LOSS_SHARE * limit:
        yield Finding(
            "daily_loss", "", f"{today:+,.2f} since 00:00 UTC, {-today / limit:.0%} of the limit {limit:,.2f}"
        )


def _of_daemon(state: VaultState) -> Iterable[Finding]:
    meters = state.meters
    if meters.loop_lag_s > LOOP_LAG_S:
        yield Finding("loop_lag", "", f"its loop was {meters.loop_lag_s:.1f} s late")
    if meters.journal_lag_s > JOURNAL_LAG_S:
        yield Finding("journal_lag", "", f"{meters.journal_lag_s:.1f} s are not on disk yet")
