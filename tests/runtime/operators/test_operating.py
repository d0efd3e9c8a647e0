"""What comes over the control socket becomes a command, or a sentence about what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bot.domain.events import OperatorAction, OperatorCommand
from bot.runtime.operators.halt_marker import Halt
from bot.runtime.operators.operating import GOES_ON, MAX_REASON, fit_for_journal, parse_operation, told_of, too_late
from bot.runtime.operators.reasons import BY_ALERTS
from bot.telemetry.logs import keep_secret
from tests.engine.builders import Driver

A = OperatorAction


def ask(**question: Any) -> OperatorCommand | str:
    asked = {"action": "set_band", "issuer": "ann", "reason": "because", **question}
    return parse_operation(json.loads(json.dumps(asked)), 7)


def test_a_question_becomes_the_command_it_stands_for() -> None:
    assert ask(command_id="c1", underlying="ETH", low_base=-1, high_base=2.5) == OperatorCommand(
        A.SET_BAND, "ann", "because", 7, "c1", "ETH", None, -1.0, 2.5
    )
    assert ask(action="pause", command_id=None, underlying=None) == OperatorCommand(A.PAUSE, "ann", "because", 7)


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ({"action": "buy"}, "expected an action of"),
        ({"action": None}, "expected an action of"),
        ({"action": {"a": 1}}, "expected an action of"),
        ({"low_base": "1"}, "low_base: expected a number or none, found '1'"),
        ({"target_base": True}, "target_base: expected a number or none, found True"),
        ({"high_base": [1.0]}, "high_base: expected a number or none"),
        ({"high_base": 10**400}, "high_base: expected a number, found one without end"),
        ({"underlying": 3}, "expected command_id and underlying as texts"),
        ({"command_id": ["c"]}, "expected command_id and underlying as texts"),
        ({"action": "resume", "reason": "  "}, "resume: expected a reason"),
        ({"action": "flatten", "reason": ""}, "flatten: expected a reason"),
    ],
)
def test_what_is_no_command_is_said(question: dict[str, Any], error: str) -> None:
    found = ask(**question)
    assert isinstance(found, str)
    assert error in found
    assert len(found) < 300


def test_texts_are_cut_to_what_a_journal_should_hold() -> None:
    found = ask(issuer="i" * 1000, reason="r" * 1000, underlying="u" * 1000)
    assert isinstance(found, OperatorCommand)
    assert (len(found.issuer), len(found.reason), len(found.underlying)) == (100, 500, 100)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ({"action": "set_target", "target_base": 2.0}, "ETH: the net delta to keep is +2.000"),
        ({"action": "set_target"}, "ETH: the target is the file's again"),
        ({"low_base": -1.0, "high_base": 2.0}, "ETH: the band is -1.000 to +2.000 around the target"),
        ({}, "ETH: the band is the policy's again"),
        ({"action": "hedge_now"}, "ETH: hedging to the target now, whatever the band"),
        ({"action": "flatten"}, "closing every hedge, then paused until a resume; the book is exposed"),
        ({"action": "pause"}, "paused: ann: because"),
    ],
)
def test_what_was_done_is_told(command: dict[str, Any], text: str) -> None:
    parsed = ask(**command)
    assert isinstance(parsed, OperatorCommand)
    driver = Driver()
    driver.apply(parsed)
    assert told_of(parsed, driver.engine) == text


def test_a_pause_that_does_not_stop_a_flatten_says_so() -> None:
    """As a halt does not need to: it stops it."""
    driver = Driver()
    for action, ending in (("flatten", "exposed"), ("pause", GOES_ON), ("halt", "halted: ann: because")):
        parsed = ask(action=action)
        assert isinstance(parsed, OperatorCommand)
        driver.apply(parsed)
        assert told_of(parsed, driver.engine).endswith(ending)


def test_a_secret_is_no_part_of_a_question_and_only_a_halt_is_carried_out_without_it() -> None:
    keep_secret("secret-of-opqr")
    long = "x" * (MAX_REASON - 3) + "secret-of-opqr"  # cut to its length it would be half a secret
    for action in A:
        for reason in ("it is secret-of-opqr", long):
            question, why_not = fit_for_journal({"action": str(action), "issuer": "ann", "reason": reason})
            assert bool(why_not) is (action is not A.HALT)
            parsed = parse_operation(question, 7)
            assert isinstance(parsed, OperatorCommand)
            assert "sec" not in parsed.reason
    named = {"action": "halt", "command_id": "secret-of-opqr", "reason": None}
    assert fit_for_journal(named) == ({**named, "command_id": ""}, "")
    plain = {"action": "pause", "reason": "lunch"}
    assert fit_for_journal(plain) == (plain, "")


def test_what_nobody_answered_makes_a_vault_reduce_only_whatever_a_venue_has_said() -> None:
    keep_secret("secret-of-opqs")
    reason = "nobody acknowledged v:venue_fatal:deribit: a venue waits for a person: invalid key secret-of-opqs"
    question = {"action": "reduce_only", "issuer": BY_ALERTS, "reason": reason, "command_id": "alerts-1"}
    fit, why_not = fit_for_journal(question)
    assert (fit["reason"], fit["command_id"], why_not) == (reason.replace("secret-of-opqs", "***"), "alerts-1", "")
    assert fit_for_journal({**question, "issuer": "ann"})[1] != ""


def test_what_is_no_text_is_no_reason() -> None:
    keep_secret("secret-of-opqt")
    for given in (["secret-of-opqt"], {"a": "secret-of-opqt"}, None, 3):
        question, _ = fit_for_journal({"action": "pause", "issuer": given, "reason": given})
        found = parse_operation(question, 7)
        assert isinstance(found, OperatorCommand)
        assert (found.issuer, found.reason) == ("", ""), given


def test_what_a_frozen_daemon_finds_when_it_wakes_may_come_too_late() -> None:
    question = {"issued_ns": 1_000_000_000, "expires_ns": 61_000_000_000}
    halt = Halt("bob", "wrong book", 2_000_000_000)
    assert too_late(question, A.PAUSE, 60_999_999_999, halt) == ""
    assert too_late(question, A.PAUSE, 61_000_000_000, None).startswith(
        "expected a command that is still good, found one expired 0.0 s ago"
    )
    assert too_late(question, A.HALT, 99_000_000_000, None) == "", "a halt is never too late"
    earlier = too_late(question, A.RESUME, 3_000_000_000, halt)
    assert earlier.startswith("expected a resume ordered after the halt, found an earlier one: halted by bob at ")
    assert too_late({**question, "issued_ns": 2_000_000_000}, A.RESUME, 3_000_000_000, halt) == ""
    assert too_late({}, A.RESUME, 3_000_000_000, halt) == "", "a person at this machine knows what they do"
    assert too_late({"issued_ns": "1", "expires_ns": None}, A.RESUME, 3_000_000_000, halt) == ""


def test_a_resume_is_about_what_its_person_has_seen() -> None:
    question = {"issued_ns": 2_000_000_000}
    assert too_late(question, A.RESUME, 9_000_000_000, None, 2_000_000_000) == ""
    assert too_late(question, A.RESUME, 9_000_000_000, None, 3_500_000_000) == (
        "expected a resume ordered after the bot became stricter, found one 1.5 s earlier;"
        " hint: see its status, and order it again"
    )
    assert too_late(question, A.PAUSE, 9_000_000_000, None, 3_500_000_000) == ""
    assert too_late({}, A.RESUME, 9_000_000_000, None, 3_500_000_000) == ""
