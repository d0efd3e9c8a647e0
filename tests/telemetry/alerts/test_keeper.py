"""Who is told what when, without waiting: time is an argument."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.telemetry.alerts.keeper import (
    MAX_OPENINGS,
    MAX_SUBJECTS,
    AlertKeeper,
    Patience,
    Telling,
    Word,
    alert_id,
)
from bot.telemetry.alerts.rules import RULES, Finding

S = 1_000_000_000
T0 = 1_767_225_600 * S
PATIENCE = Patience(repeat_ns=1800 * S, settle_ns=30 * S, escalate_after_ns=300 * S)
HALTED = Finding("halted", "", "reject_streak: 5")
FATAL = Finding("venue_fatal", "deribit", "the key was refused")
LIMITED = Finding("limited", "", "daily_loss: 5 %")
SILENT = Finding("daemon_silent", "", "no answer within 3 s")
STALE = Finding("feed_stale", "ETH index", "9 s old")


class Story:
    """A keeper and its time; every look is one observation and one tick."""

    def __init__(self, keeper: AlertKeeper | None = None, at_s: float = 0.0) -> None:
        self.keeper = keeper or AlertKeeper(PATIENCE)
        self.at_s = at_s
        self.told: list[Telling] = []

    @property
    def now_ns(self) -> int:
        return T0 + round(self.at_s * S)

    @property
    def words(self) -> list[str]:
        return [str(told.word) for told in self.told]

    def look(self, *findings: Finding, vault: str = "eth") -> None:
        self.keeper.observe("state", vault, findings, self.now_ns)
        self.tick()

    def tick(self) -> None:
        self.told += self.keeper.tick(self.now_ns)

    def wait(self, seconds: float, *findings: Finding, step_s: float = 1.0) -> None:
        """Let time pass while the same is found."""
        for _ in range(round(seconds / step_s)):
            self.at_s += step_s
            self.look(*findings)


class TestTelling:
    def test_once_and_again_only_while_it_lasts(self) -> None:
        story = Story()
        story.wait(1799, HALTED)
        assert story.words == ["opened"]
        story.wait(10, HALTED)
        assert story.words == ["opened", "again"]

    def test_over_once_it_has_stayed_away(self) -> None:
        story = Story()
        story.wait(10, LIMITED)
        story.wait(20)
        assert story.words == ["opened"]
        story.wait(20)
        assert story.words == ["opened", "over"]
        assert story.told[-1].alert.ended_ns == T0 + 41 * S
        assert story.keeper.open_alerts() == ()

    def test_what_comes_back_within_that_time_never_ended(self) -> None:
        story = Story()
        for _ in range(20):
            story.wait(10, HALTED)
            story.wait(20)
        assert story.words == ["opened"]
        assert story.keeper.open_alerts()[0].count == 20

    def test_its_figures_are_renewed_though_not_with_every_look(self) -> None:
        story, seen = Story(), []
        for n in range(20):
            story.wait(1, Finding("halted", "", str(n)))
            seen.append(story.keeper.open_alerts()[0].detail)
        assert seen == [str(n - n % 5) for n in range(20)]

    def test_what_must_last_is_not_told_before(self) -> None:
        story = Story()
        story.wait(15, STALE)
        assert story.words == []
        story.wait(1, STALE)
        assert story.words == ["opened"]
        assert story.told[0].alert.began_ns == T0 + S  # when it was found, not when it was told

    def test_what_did_not_last_is_forgotten(self) -> None:
        story = Story()
        for _ in range(10):
            story.wait(10, STALE)
            story.wait(5)
        assert story.words == []
        assert msgspec.json.decode(story.keeper.dump()) == []

    def test_a_moment_away_is_not_away(self) -> None:
        story = Story()
        for _ in range(10):
            story.wait(3, STALE)
            story.wait(1)
        assert story.words == ["opened"]

    def test_flapping_is_counted_and_told_less_often(self) -> None:
        story = Story()
        for _ in range(12):
            story.wait(30, LIMITED)
            story.wait(40)
        assert story.words == ["opened", "over"] * MAX_OPENINGS
        assert "comes and goes" in story.told[-2].note
        story.wait(1800, LIMITED)  # now it stays
        assert story.words[-1] == "again"
        assert story.keeper.open_alerts()[0].count == 13

    def test_vaults_kinds_and_subjects_are_apart(self) -> None:
        story = Story()
        story.look(HALTED, FATAL, Finding("venue_fatal", "okx", ""))
        story.look(HALTED, vault="btc")
        assert [one.alert_id for one in story.keeper.open_alerts()] == [
            "btc:halted", "eth:halted", "eth:venue_fatal:deribit", "eth:venue_fatal:okx",
        ]  # fmt: skip
        assert len(story.told) == 4

    def test_what_is_too_many_is_one(self) -> None:
        story = Story()
        orders = [Finding("outcome_unknown", f"r1-{n}", "") for n in range(40)]
        story.wait(61, *orders)
        assert len(story.told) == MAX_SUBJECTS + 1
        assert story.told[-1].alert.detail.startswith(f"{40 - MAX_SUBJECTS} more: r1-5,")
        story.wait(61, *reversed(orders))  # in another order it is the same
        assert len(story.told) == MAX_SUBJECTS + 1

    def test_an_event_is_told_and_further_ones_are_counted(self) -> None:
        story = Story()
        forged = Finding("command_refused", "forged", "1 more")
        for _ in range(100):
            story.keeper.note("", forged, story.now_ns)
            story.tick()
            story.at_s += 1
        assert story.words == ["opened"]
        assert story.keeper.open_alerts()[0].count == 100
        story.at_s += 1750
        story.tick()
        assert story.words == ["opened", "again"]  # there were more since
        story.at_s += 100
        story.tick()
        assert (story.words, story.keeper.open_alerts()) == (["opened", "again"], ())  # and it ends without a word

    def test_a_silent_source_ends_nothing_and_lasts_nothing(self) -> None:
        story = Story()
        story.wait(10, STALE, FATAL)
        story.keeper.unhear("state", "eth")
        for _ in range(4000):
            story.at_s += 1
            story.tick()
        assert story.words == ["opened"]  # that of the venue; the feed may have recovered meanwhile
        assert story.keeper.due() == []


class TestAnswering:
    def test_nobody_answers_and_the_vault_is_to_be_made_reduce_only(self) -> None:
        story = Story()
        story.wait(300, HALTED, FATAL)
        assert story.keeper.due() == []
        story.wait(1, HALTED, FATAL)
        (first,) = story.keeper.due()
        assert first.vault == "eth"
        assert first.reason.startswith("nobody acknowledged eth:halted and 1 more: halted by the bot itself")
        story.wait(20, HALTED, FATAL)
        assert story.keeper.due() == [first]  # the same order, however often it is tried
        told = story.keeper.escalated("eth", story.now_ns, "made reduce-only")
        assert [(one.word, one.alert.escalated_ns) for one in told] == [(Word.ESCALATED, story.now_ns)] * 2
        story.wait(4000, HALTED, FATAL)
        assert story.keeper.due() == []  # once

    def test_who_acknowledges_stops_that_and_is_not_told_again(self) -> None:
        story = Story()
        story.wait(299, HALTED)
        assert story.keeper.acknowledge("eth:halted", "ann") == ""
        assert story.keeper.acknowledge("eth:halted", "bob") == ""
        story.wait(4000, HALTED)
        assert (story.keeper.due(), story.words) == ([], ["opened"])
        assert story.keeper.open_alerts()[0].acknowledged_by == "ann"

    def test_an_acknowledgement_is_of_this_time_only(self) -> None:
        story = Story()
        story.wait(10, HALTED)
        story.keeper.acknowledge("eth:halted", "ann")
        story.wait(40)
        assert story.words == ["opened", "over"]
        story.wait(302, HALTED)
        assert len(story.keeper.due()) == 1

    def test_one_that_comes_and_goes_does_not_get_round_it(self) -> None:
        """Found for 10 s of every 70 s, longer apart than `settle_ns`: it is one alert, and nobody answered it."""
        story = Story()
        for _ in range(4):
            story.wait(10, FATAL)
            story.wait(60)
        assert (story.words, story.keeper.due()) == (["opened"], [])
        (alert,) = story.keeper.open_alerts()
        assert alert.detail.startswith("the key was refused (not found since 2026-01-01T00:03:41")
        story.wait(25)
        assert story.keeper.due() == [], "nothing is done while it is away"
        story.wait(1, FATAL)
        assert [one.vault for one in story.keeper.due()] == ["eth"]
        story.keeper.escalated("eth", story.now_ns, "")
        story.wait(40)
        assert story.words == ["opened", "over"], "it was answered for, so its end is told as soon as it settles"

    def test_one_that_nobody_answered_is_over_once_it_stayed_away_as_long_as_they_had(self) -> None:
        story = Story()
        story.wait(10, HALTED)
        story.wait(300)
        assert story.words == ["opened"]
        story.wait(1)
        assert (story.words, story.keeper.due()) == (["opened", "over"], [])
        story.wait(300, HALTED)
        assert story.keeper.due() == [], "and whoever answers the next one has all of the time again"

    def test_a_moment_of_what_has_to_last_is_not_held_against_the_vault(self) -> None:
        story = Story()
        story.wait(20, SILENT)
        story.wait(290)
        story.wait(9, SILENT)
        assert story.keeper.due() == []
        story.wait(1)
        story.wait(11, SILENT)
        assert len(story.keeper.due()) == 1

    def test_no_such_alert(self) -> None:
        story = Story()
        story.wait(10, HALTED)
        assert "expected the id of an open alert" in story.keeper.acknowledge("eth:limited", "ann")
        story.wait(310)
        assert "expected the id of an open alert" in story.keeper.acknowledge("eth:halted", "ann")

    def test_a_warning_ends_in_nothing(self) -> None:
        story = Story()
        story.wait(4000, STALE, step_s=5)
        assert story.keeper.due() == []

    def test_what_is_over_by_then_is_not_held_against_the_vault(self) -> None:
        story = Story()
        story.wait(290, HALTED)
        story.wait(20)
        assert story.keeper.due() == []

    def test_what_is_owed_stays_owed_until_it_is_done(self) -> None:
        story = Story()
        story.wait(320, SILENT)
        (owed,) = story.keeper.due()
        assert [one.word for one in story.keeper.stuck("eth", story.now_ns, "no answer")] == [Word.STUCK]
        assert story.keeper.stuck("eth", story.now_ns, "no answer") == []  # told once
        story.wait(5000)  # it is back, and the alert over
        assert story.keeper.due() == [owed]
        story.wait(5, SILENT)
        assert [one.command_id for one in story.keeper.due()] == [owed.command_id], "else it were done once more"
        story.keeper.escalated("eth", story.now_ns, "")
        assert story.keeper.due() == []

    def test_what_is_owed_can_be_acknowledged_after_its_end(self) -> None:
        story = Story()
        story.wait(320, HALTED)
        story.wait(40)
        assert story.keeper.acknowledge("eth:halted", "ann") == ""
        assert story.keeper.due() == []


class TestRestart:
    def again(self, story: Story, away_s: float) -> Story:
        keeper = AlertKeeper(PATIENCE)
        keeper.load(story.keeper.dump(), story.now_ns)
        return Story(keeper, story.at_s + away_s)

    def test_nothing_is_told_again(self) -> None:
        story = Story()
        story.wait(20, HALTED, STALE)
        after = self.again(story, 60)
        after.wait(20, HALTED, STALE)
        assert (len(story.told), after.words) == (2, [])

    def test_nobody_has_more_time_to_answer(self) -> None:
        story = Story()
        story.wait(200, HALTED)
        after = self.again(story, 60)
        after.tick()
        assert after.keeper.due() == []
        after.wait(42, HALTED)
        assert len(after.keeper.due()) == 1

    def test_nor_has_anybody_where_the_clock_was_set_back_meanwhile(self) -> None:
        story = Story()
        story.wait(200, HALTED)
        keeper = AlertKeeper(PATIENCE)
        keeper.load(story.keeper.dump(), T0 - 3600 * S)
        after = Story(keeper, -3600)
        after.wait(300, HALTED)
        assert len(after.keeper.due()) == 1

    def test_what_was_not_looked_at_yet_is_neither_over_nor_held_against_anybody(self) -> None:
        story = Story()
        story.wait(200, HALTED)
        after = self.again(story, 3000)
        after.tick()
        assert (after.words, after.keeper.due()) == ([], [])
        after.look()
        after.wait(301)
        assert (after.words, after.keeper.due()) == (["over"], [])

    def test_a_rule_that_is_no_more_is_left_out(self) -> None:
        story = Story()
        story.wait(20, HALTED)
        keeper = AlertKeeper(PATIENCE)
        keeper.load(story.keeper.dump().replace(b'"kind":"halted"', b'"kind":"of_old"'), story.now_ns)
        assert keeper.open_alerts() == ()

    @pytest.mark.parametrize("memory", [b"", b"{}", b"[1]", b'[{"kind":"halted"}]', b"\xff"])
    def test_another_text_is_refused(self, memory: bytes) -> None:
        keeper = AlertKeeper(PATIENCE)
        with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
            keeper.load(memory, T0)


def test_ids_can_be_typed() -> None:
    assert alert_id("eth", Finding("venue_down", "okx; rm -rf ~", "")) == "eth:venue_down:okx_rm_-rf_"
    assert alert_id("", Finding("broker_away", "", "")) == "_desk:broker_away"


@given(st.lists(st.tuples(st.sampled_from(("halted", "feed_stale", "")), st.integers(1, 400)), max_size=60))
def test_whatever_happens_an_end_follows_a_beginning_and_restarts_change_nothing(
    spells: list[tuple[str, int]],
) -> None:
    straight, restarted = Story(), Story()
    for kind, seconds in spells:
        findings = [Finding(kind, "x", "")] if kind else []
        for story in (straight, restarted):
            story.wait(seconds, *findings, step_s=min(10, seconds))
        keeper = AlertKeeper(PATIENCE)
        keeper.load(restarted.keeper.dump(), restarted.now_ns)
        keeper.observe("state", "eth", findings, restarted.now_ns)
        restarted.keeper = keeper
    assert restarted.told == straight.told
    assert restarted.keeper.open_alerts() == straight.keeper.open_alerts()
    for kind in RULES:
        words = [told.word for told in straight.told if kind in told.alert.alert_id]
        starts = [word for word in words if word is not Word.OVER]
        assert not any(a is b is Word.OVER for a, b in itertools.pairwise(words))
        assert not words or starts[0] is Word.OPENED
