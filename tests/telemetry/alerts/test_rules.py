"""Every rule: a state that breaks it, and none that breaks one by being calm."""

from __future__ import annotations

import re

import msgspec
import pytest

from bot.domain.windows import FeedState, GateState, Severity, VaultState, VenueState
from bot.telemetry.alerts.rules import RULES, Finding, is_by_the_bot, judge
from tests.house.sources import ROOT
from tests.telemetry.alerts.states import CALM_METERS, account, calm, order, underlying

OUTSIDE = {"delta_low_base": 2.0, "delta_high_base": 2.5}
CLOSED = GateState("accounts known", False, "waiting for deribit")
LATE = {"kind": "late", "transfer_id": "t1", "party": "deribit", "detail": "older than its p95"}
SENT = {"transfer_id": "t1", "state": "sent", "asset": "USDC", "amount": 5.0, "from_venue": "a", "to_venue": "b"}

BROKEN: dict[str, VaultState] = {
    "halted": calm(state="halted", state_reason="reject_streak: 5 in a row"),
    "limited": calm(state="reduce_only", state_reason="daily_loss: loss since 00:00 UTC is 10,000"),
    "to_acknowledge": calm(to_acknowledge="foreign fill: +3 lots"),
    "reconciling": calm(state="reconciling", state_reason="restarted"),
    "outcome_unknown": calm(orders=(order(state="unknown"),)),
    "not_hedging": calm(underlyings=(underlying(refusal="order_rate", **OUTSIDE),)),
    "feed_stale": calm(feeds=(FeedState("ETH index", "index", None, 5.0, True),)),
    "venue_down": calm(venues=(VenueState("deribit", "down", "connection lost", 3.0),)),
    "venue_fatal": calm(venues=(VenueState("deribit", "fatal", "the key was refused", 3.0),)),
    "account_unknown": calm(underlyings=(underlying(gates=(CLOSED,)),)),
    "margin_watch": calm(accounts=(account(state="watch"),)),
    "margin_act": calm(accounts=(account(state="act"),)),
    "margin_critical": calm(accounts=(account(state="emergency"),)),
    "breaker": calm(risk={"breakers": [{"breaker": "move", "subject": "ETH", "reason": "5 % in a minute"}]}),
    "drain": calm(risk={"drains": [{"venue": "okx", "stage": "hedge", "is_over": False, "trail": []}]}),
    "transfer_late": calm(risk={"transfers": [SENT], "transfer_notices": [LATE]}),
    "daily_loss": calm(pnl_today_quote=-6_000.0),
    "loop_lag": calm(meters=msgspec.structs.replace(CALM_METERS, loop_lag_s=1.5)),
    "journal_lag": calm(meters=msgspec.structs.replace(CALM_METERS, journal_lag_s=9.0)),
}
BY_THE_WINDOWS = {"daemon_silent", "command_refused", "broker_away", "destination_failing", "windows_restarted"}


def kinds(state: VaultState) -> list[str]:
    return [finding.kind for finding in judge(state)]


def test_nothing_is_found_of_a_calm_vault() -> None:
    assert judge(calm()) == []


@pytest.mark.parametrize("kind", BROKEN)
def test_what_breaks_a_rule_is_found(kind: str) -> None:
    assert kinds(BROKEN[kind]) == [kind]


def test_every_rule_can_break() -> None:
    assert BROKEN.keys() | BY_THE_WINDOWS == RULES.keys()


@pytest.mark.parametrize(
    "state",
    [
        calm(state="halted", state_reason="ann: maintenance"),
        calm(state="paused", state_reason="ann: lunch"),
        calm(state="paused", state_reason="ann: lunch", underlyings=(underlying(refusal="paused", **OUTSIDE),)),
        calm(underlyings=(underlying(refusal="order_in_flight"),)),  # in its band
        calm(underlyings=(underlying(**OUTSIDE),)),  # being hedged
        calm(underlyings=(underlying(low_base=None, high_base=None),)),  # the policy holds
        calm(pnl_today_quote=-5_900.0),
        calm(pnl_today_quote=None),
        calm(pnl_today_quote=-9e9, daily_loss_limit_quote=None),
        calm(risk={"transfers": [], "transfer_notices": [LATE]}),  # arrived since
        calm(risk={"drains": [{"venue": "okx", "stage": "done", "is_over": True, "trail": []}]}),
        calm(risk={"drains": None, "breakers": "none", "transfers": [3]}),  # not of the form expected
        calm(risk={}),
    ],
)
def test_nobody_is_told(state: VaultState) -> None:
    assert judge(state) == []


def test_blind_is_not_hedging() -> None:
    state = calm(underlyings=(underlying(low_base=None, high_base=None, refusal="stale_index"),))
    assert kinds(state) == ["not_hedging"]


def test_an_interval_is_outside_if_one_end_is() -> None:
    wide = underlying(delta_low_base=0.0, delta_high_base=3.0, refusal="unknown_outcome", refusal_detail="r1-7")
    (finding,) = judge(calm(underlyings=(wide,)))
    assert finding == Finding("not_hedging", "ETH", "net delta between +0 and +3, band [-1, +1]; unknown_outcome: r1-7")


def test_one_that_trips_by_itself_is_told_from_one_a_person_stopped() -> None:
    assert is_by_the_bot(calm(state="reduce_only", state_reason="margin emergency at okx: 97 %"))
    assert is_by_the_bot(calm(state="reduce_only", state_reason="adopted: x", to_acknowledge="adopted: x"))
    assert not is_by_the_bot(calm(state="reduce_only", state_reason="alerts: nobody acknowledged it"))


def test_a_margin_not_known_is_an_account_not_known() -> None:
    assert judge(calm(accounts=(account(state="unknown", told="no prices"),))) == [
        Finding("account_unknown", "deribit", "no prices")
    ]


def test_an_unknown_transfer_needs_no_notice() -> None:
    (finding,) = judge(calm(risk={"transfers": [{**SENT, "state": "unknown", "reason": "no answer"}]}))
    assert finding == Finding("transfer_late", "t1", "5.0 USDC, a to b; unknown: no answer")


def test_the_page_is_the_table() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
    told = [(kind, severity, title, after, why) for kind, severity, title, after, why in rows]
    expected = [
        (
            rule.kind,
            str(rule.severity),
            rule.title,
            "an event" if rule.is_event else f"{rule.after_s:g} s" if rule.after_s else "at once",
            rule.why,
        )
        for rule in RULES.values()
    ]
    assert told == expected


def test_what_ends_in_reduce_only_is_what_threatens_the_vault() -> None:
    critical = {rule.kind for rule in RULES.values() if rule.severity is Severity.CRITICAL}
    assert critical == {"daemon_silent", "halted", "venue_fatal", "margin_critical", "drain"}
