"""Operators' commands from the command line against a daemon: told, journalled, once, and the same after a restart."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from bot.domain.events import OperatorCommand, SubmitOrder
from bot.runtime.journal import verify
from bot.runtime.operators.control import ask
from tests.runtime.audit import audit, read_rows, without_timings
from tests.runtime.command_line import CommandLine, wait_for
from tests.runtime.daemons import JOURNAL, SOCKET, running, view

BOUNDS = "operator:\n  ETH: {target_min_base: -5, target_max_base: 5, band_min_base: 0.1, band_max_base: 50}\n"


@pytest.fixture
def bounded(lasting: Path) -> Path:
    """The busy vault, whose target and band may be set."""
    with (lasting / "busy.yaml").open("a") as file:
        file.write(BOUNDS)
    return lasting


def state(folder: Path) -> dict[str, Any]:
    return ask(folder / SOCKET, {"verb": "state"})


def hedge_lots(folder: Path) -> int:
    return int(view(folder)["desks"][0]["hedge_lots"])


def test_a_target_and_a_band_are_set_shown_and_survive_a_kill(evenkeel: CommandLine, bounded: Path) -> None:
    with running(evenkeel, bounded) as process:
        wait_for(lambda: view(bounded)["state"] == "running")
        done = evenkeel.run("set-target", "busy.yaml", "ETH", "--to", "-2", "--reason", "carry", cwd=bounded)
        assert (done.code, done.err, done.out) == (0, "", "busy: ETH: the net delta to keep is -2.000\n")
        done = evenkeel.run("set-band", "busy.yaml", "ETH", "--low", "-0.4", "--high", "0.6", cwd=bounded)
        assert done.out == "busy: ETH: the band is -0.400 to +0.600 around the target\n"
        for arguments, code, text in (
            (("set-target", "busy.yaml", "ETH", "--to", "5.1"), 6, "expected -5 to 5, as operator.ETH.target_min_base"),
            (("set-target", "busy.yaml", "BTC", "--to", "1"), 1, "expected an underlying of ETH, found 'BTC'"),
            (("set-band", "busy.yaml", "ETH", "--low", "0.2", "--high", "1"), 1, "low_base below 0"),
            (("set-target", "busy.yaml", "ETH"), 2, "expected either --to or --reset"),
            (("set-band", "busy.yaml", "ETH", "--low", "-1"), 2, "expected either --low and --high, or --reset"),
        ):
            refused = evenkeel.run(*arguments, cwd=bounded)
            assert (refused.code, refused.out) == (code, "")
            assert text in refused.err
        process.send(signal.SIGKILL)
        process.wait()
    with running(evenkeel, bounded):
        overrides = wait_for(lambda: state(bounded)["overrides"])
        assert overrides["ETH target"].startswith("-2.000 by ")
        assert overrides["ETH band"].startswith("-0.400 to +0.600 around its target by ")
        (one,) = wait_for(lambda: [u for u in state(bounded)["underlyings"] if u["low_base"] is not None])
        assert (one["target_delta_base"], one["low_base"], one["high_base"]) == (-2.0, -2.4, -1.4)
        assert evenkeel.run("set-band", "busy.yaml", "ETH", "--reset", cwd=bounded).code == 0
        assert list(state(bounded)["overrides"]) == ["ETH target"]
    rows = read_rows(bounded / JOURNAL)
    given = [(event.action, event.target_base) for event in rows.events if isinstance(event, OperatorCommand)]
    assert given == [("set_target", -2.0), ("set_band", None), ("set_band", None)], "what was refused is in no journal"


def test_flatten_needs_the_name_closes_everything_and_goes_on_after_a_kill(
    evenkeel: CommandLine, lasting: Path
) -> None:
    text = (lasting / "busy.yaml").read_text()
    (lasting / "busy.yaml").write_text(text.replace("max_order_quote: 50000", "max_order_quote: 4000"))
    with running(evenkeel, lasting) as process:
        wait_for(lambda: abs(hedge_lots(lasting)) >= 8)
        refused = evenkeel.run("flatten", "busy.yaml", "--reason", "going home", cwd=lasting)
        assert (refused.code, refused.out) == (2, "")
        assert "the book is not touched, so its full delta is open" in refused.err
        assert "expected --confirm busy" in refused.err
        assert view(lasting)["state"] == "running"
        done = evenkeel.run("flatten", "busy.yaml", "--reason", "going home", "--confirm", "busy", cwd=lasting)
        assert done.code == 0, done.err
        assert done.out == "busy: closing every hedge, then paused until a resume; the book is exposed\n"
        process.send(signal.SIGKILL)
        process.wait()
    with running(evenkeel, lasting) as process:
        wait_for(lambda: hedge_lots(lasting) == 0 and "flattened by " in view(lasting)["state_reason"])
        assert view(lasting)["state"] == "paused"
        sent = view(lasting)["hedges"]
        refused = evenkeel.run("hedge-now", "busy.yaml", cwd=lasting)
        assert (refused.code, refused.out) == (1, "")
        assert "hint: resume first" in refused.err
        assert view(lasting)["hedges"] == sent
        assert evenkeel.run("resume", "busy.yaml", "--reason", "back", cwd=lasting).out == "busy: running\n"
        wait_for(lambda: hedge_lots(lasting) != 0)
        process.send(signal.SIGTERM)
        result = process.wait()
        assert result.code == 0, result.err
    closing = [
        command.intent
        for row in read_rows(lasting / JOURNAL).commands
        for command in row.commands
        if isinstance(command, SubmitOrder) and command.intent.reason.startswith("flattening by ")
    ]
    assert len(closing) >= 2
    assert all(intent.reduce_only for intent in closing)
    assert verify(lasting / JOURNAL).is_valid
    replayed = evenkeel.run("replay", "busy.yaml", "--journal", str(JOURNAL), "--json", cwd=lasting)
    assert without_timings(replayed.json) == without_timings(result.json), "a journal with commands replays to the same"
    audit(lasting / "busy.yaml", lasting / JOURNAL)


def test_hedge_now_trades_inside_the_band_and_says_why(evenkeel: CommandLine, bounded: Path) -> None:
    with running(evenkeel, bounded) as process:
        wait_for(lambda: view(bounded)["state"] == "running")
        wide = evenkeel.run("set-band", "busy.yaml", "ETH", "--low", "-50", "--high", "50", cwd=bounded)
        assert wide.code == 0, wide.err
        wait_for(lambda: not view(bounded)["orders"])
        before = view(bounded)["hedges"]
        done = evenkeel.run("hedge-now", "busy.yaml", "--reason", "before the news", cwd=bounded)
        assert (done.code, done.out) == (0, "busy: ETH: hedging to the target now, whatever the band\n")
        wait_for(lambda: list(state(bounded)["overrides"]) == ["ETH band"])
        assert view(bounded)["hedges"] <= before + 5
        process.send(signal.SIGTERM)
        process.wait()
    reasons = [
        command.intent.reason
        for row in read_rows(bounded / JOURNAL).commands
        for command in row.commands
        if isinstance(command, SubmitOrder) and "hedge now by " in command.intent.reason
    ]
    assert reasons
    assert all("before the news" in one for one in reasons)


def test_a_command_id_is_executed_once_also_after_a_kill(evenkeel: CommandLine, lasting: Path) -> None:
    question = {"verb": "operate", "action": "reduce_only", "issuer": "ann", "reason": "x", "command_id": "c-1"}
    with running(evenkeel, lasting) as process:
        answer = ask(lasting / SOCKET, question)
        assert answer == {"state": "reduce_only", "reason": "ann: x", "text": "reduce_only: ann: x"}
        assert ask(lasting / SOCKET, question) == {
            "error": "command c-1 was executed before", "refusal": "executed",
        }  # fmt: skip
        refused = ask(lasting / SOCKET, {**question, "action": "set_target", "target_base": 1.0, "command_id": "c-2"})
        assert refused["refusal"] == "not_allowed"
        process.send(signal.SIGKILL)
        process.wait()
    with running(evenkeel, lasting):
        assert ask(lasting / SOCKET, {**question, "action": "halt"})["refusal"] == "executed"
        assert ask(lasting / SOCKET, {**question, "command_id": "c-2"})["state"] == "reduce_only", (
            "it was never executed"
        )
    commands = [event for event in read_rows(lasting / JOURNAL).events if isinstance(event, OperatorCommand)]
    assert [one.command_id for one in commands] == ["c-1", "c-2"]


def test_a_frozen_daemon_wakes_to_no_resume_that_was_given_up(evenkeel: CommandLine, lasting: Path) -> None:
    """Somebody may have halted since, at the venues and by the marker, which a resume takes away."""
    with running(evenkeel, lasting) as process:
        assert evenkeel.run("halt", "busy.yaml", cwd=lasting).code == 0
        process.send(signal.SIGSTOP)
        hasty = "tests.runtime.hasty:main"
        given_up = evenkeel.run("resume", "busy.yaml", "--reason", "all is well", cwd=lasting, program=hasty)
        assert (given_up.code, given_up.out) == (5, "")
        process.send(signal.SIGCONT)
        wait_for(lambda: "found one expired" in process.err)
        assert view(lasting)["state"] == "halted"


@pytest.mark.parametrize("verb", ["pause", "reduce-only"])
def test_without_a_daemon_what_is_stricter_is_noted(evenkeel: CommandLine, lasting: Path, verb: str) -> None:
    assert evenkeel.run(verb, "busy.yaml", cwd=lasting).code == 3, "there is no journal yet"
    with running(evenkeel, lasting):
        wait_for(lambda: view(lasting)["decisions"] > 1)
    noted = evenkeel.run(verb, "busy.yaml", "--reason", "see mail", cwd=lasting)
    assert noted.code == 0, noted.err
    assert noted.out.split()[:3] == ["busy:", verb.replace("-", "_"), "noted"]
    with running(evenkeel, lasting):
        wait_for(lambda: view(lasting)["state"] == {"pause": "paused"}.get(verb, "reduce_only"))
        assert view(lasting)["state_reason"].endswith(": see mail")


@pytest.mark.parametrize(
    "command",
    [
        ("flatten", "busy.yaml", "--reason", "x", "--confirm", "busy"),
        ("hedge-now", "busy.yaml", "ETH"),
        ("set-target", "busy.yaml", "ETH", "--to", "1"),
        ("set-band", "busy.yaml", "ETH", "--reset"),
    ],
)
def test_what_trades_needs_a_daemon(evenkeel: CommandLine, lasting: Path, command: tuple[str, ...]) -> None:
    result = evenkeel.run(*command, cwd=lasting)
    assert (result.code, result.out) == (3, "")
    assert "busy is not running; hint: " in result.err
    assert not (lasting / JOURNAL).exists()
