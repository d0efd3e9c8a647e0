"""What a phone shows."""

from __future__ import annotations

import msgspec

from bot.domain.windows import Alert, Severity
from bot.telemetry.alerts.keeper import Telling, Word
from bot.telemetry.alerts.telling import MAX_DETAIL, headline, text

ALERT = Alert(
    "eth:halted", "eth", Severity.CRITICAL, "halted by the bot itself", "reject_streak: 5 in a row",
    1_767_225_600_000_000_000, 0, "", 0, 1,
)  # fmt: skip
OPENED = Telling(Word.OPENED, ALERT, "nothing is hedged until a person resumes")


def test_the_headline_says_how_bad_where_and_what() -> None:
    assert headline(OPENED) == "CRITICAL eth: halted by the bot itself"
    assert headline(msgspec.structs.replace(OPENED, word=Word.AGAIN)).startswith("CRITICAL still: eth:")
    assert headline(msgspec.structs.replace(OPENED, word=Word.OVER)) == "over: eth: halted by the bot itself"
    of_the_desk = msgspec.structs.replace(ALERT, vault="", severity=Severity.WARNING)
    assert headline(Telling(Word.OPENED, of_the_desk, "")) == "WARNING the desk: halted by the bot itself"


def test_the_text_says_why_since_when_and_what_follows() -> None:
    assert text(OPENED).splitlines() == [
        "reject_streak: 5 in a row",
        "nothing is hedged until a person resumes",
        "since 2026-01-01T00:00:00.000+00:00",
        "id: eth:halted",
        "unless somebody acknowledges it, the vault goes reduce-only",
    ]


def test_one_that_is_over_is_short() -> None:
    ended = msgspec.structs.replace(ALERT, ended_ns=ALERT.began_ns + 60_000_000_000, count=3)
    assert text(Telling(Word.OVER, ended, "…")).splitlines() == [
        "reject_streak: 5 in a row",
        "since 2026-01-01T00:00:00.000+00:00 until 2026-01-01T00:01:00.000+00:00",
        "3 times",
        "id: eth:halted",
    ]


def test_a_long_detail_is_cut() -> None:
    assert len(text(Telling(Word.OPENED, msgspec.structs.replace(ALERT, detail="x" * 10_000), ""))) < MAX_DETAIL + 200
