"""A vault's file read again: what is wrong with it changes nothing, and what it changes is adopted wherever it runs."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.errors import ConfigError, JournalError
from bot.domain.events import ConfigChanged
from bot.domain.units import NS_PER_S
from bot.runtime.configuration.config import config_json, config_sha256, load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.daemon import Daemon
from bot.runtime.journal import SCHEMA_VERSION, Batch, Header, Journal
from bot.runtime.operators.control import ask
from bot.runtime.operators.reload import (
    InForce,
    Plan,
    Wish,
    answer_of,
    event_of,
    read_plan,
    read_vault,
    take_in,
    wish_of,
)
from bot.runtime.operators.reload_rules import judge
from bot.runtime.recovery import in_force, newest_vault, rebuild
from bot.runtime.session import Session, open_session
from tests.runtime.audit import read_rows
from tests.runtime.simulated_gateway import LIVE_VAULT, SimulatedExchange, orders
from tests.runtime.test_live_run import running, until

WISH = Wish("ops", "a drill")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ek-") as name:
        path = Path(os.path.realpath(name))
        (path / "busy.yaml").write_text(LIVE_VAULT)
        yield path


@pytest.fixture
def session(busy: Path) -> Session:
    return open_session(load_vaults([busy / "busy.yaml"])[0])


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def plan_of(old: Vault, new: Vault) -> Plan:
    return Plan(InForce.began(old), new, judge(old, new))


# On a live feed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["live", "paper"])
async def test_a_live_feed_goes_by_the_changed_file_and_comes_back_with_it(
    folder: Path, short_recording: Path, mode: str
) -> None:
    file, exchange = folder / "busy.yaml", SimulatedExchange(short_recording)
    rewrite(file, "mode: live", f"mode: {mode}")
    question = {"verb": "reload", "issuer": "ops", "reason": "closer", "command_id": "c-1"}

    async def hedges() -> int:
        view = await asyncio.to_thread(ask, folder / "busy.sock", {"verb": "view"})
        return int(view["hedges"])

    async with running(folder, exchange) as task:
        await until((folder / "busy.sock").exists, task)
        while await hedges() < 2:
            assert not task.done()
        rewrite(file, "half_width_base: 0.3", "half_width_base: 0.2")
        rewrite(file, "quote_s: 5", "quote_s: 6")
        answer = await asyncio.to_thread(ask, folder / "busy.sock", question)
        assert answer["changes"] == ["max_age.quote_s: 5.0 → 6.0", "policy.half_width_base: 0.3 → 0.2"]
        assert answer["is_applied"] is True
        sent = await hedges()
        while await hedges() < sent + 2:
            assert not task.done()
    (event,) = [one for one in read_rows(folder / "busy.sqlite").events if isinstance(one, ConfigChanged)]
    assert (event.issuer, event.reason, event.command_id) == ("ops", "closer", "c-1")
    async with running(folder, exchange) as task:
        await until((folder / "busy.sock").exists, task)
        view = await asyncio.to_thread(ask, folder / "busy.sock", {"verb": "view"})
        assert view["hedges"] >= sent + 2
        again = await asyncio.to_thread(ask, folder / "busy.sock", question)
        assert (again["changes"], again["is_applied"]) == ([], False)
        (age,) = [gate for gate in view["desks"][0]["gates"] if gate["name"].startswith("quote age")]
        assert age["detail"].endswith("limit 6 s")
    if mode == "live":
        assert len(orders(exchange)) >= sent + 2


async def test_of_two_who_ask_at_once_one_is_told_that_it_is_done_already(busy: Path, session: Session) -> None:
    file, socket = busy / "busy.yaml", busy / "busy.sock"
    with Journal.open(busy / "own.sqlite", for_writing=True) as journal:
        daemon = Daemon(session, journal, socket_path=socket, speed=100.0, progress=lambda _: None, vault_file=file)
        stop = asyncio.Event()
        run = asyncio.create_task(daemon.run(stop))
        await until(socket.exists, run)
        rewrite(file, "half_width_base: 0.3", "half_width_base: 0.4")
        questions = [{"verb": "reload", "issuer": name} for name in ("first", "second")]
        answers = await asyncio.gather(*(asyncio.to_thread(ask, socket, one) for one in questions))
        state = await asyncio.to_thread(ask, socket, {"verb": "state"})
        stop.set()
        await run
    assert sorted(one["is_applied"] for one in answers) == [False, True]
    assert not any("error" in one for one in answers)
    assert len([one for one in read_rows(busy / "own.sqlite").events if isinstance(one, ConfigChanged)]) == 1
    assert state["config_sha256"] == answers[0]["config_sha256"] != config_sha256(session.vault)


# What is taken in ----------------------------------------------------------------------------------------------------


def test_what_a_journal_says_is_adopted_and_known(session: Session) -> None:
    wider = session.vault.model_copy(update={"pnl_step_s": 30})
    event = event_of(plan_of(session.vault, wider), WISH, 5)
    assert event == ConfigChanged(
        config_json(wider), config_sha256(wider), ("pnl_step_s: 60 → 30",), "ops", "a drill", 5
    )
    after = take_in(session, event)
    assert after.vault == wider
    assert after.engine is session.engine
    assert after.engine.settings.pnl_step_ns == 30 * 10**9
    assert take_in(after, event).vault == wider


def test_a_replay_with_the_same_file_read_again_and_again_decides_the_same(session: Session) -> None:
    again = open_session(session.vault, recording=session.recording)
    same = event_of(plan_of(session.vault, session.vault), WISH, 0)
    digests = []
    for one, every in ((session, 0), (again, 97)):
        number = 0
        while (step := one.world.step()) is not None:
            number += 1
            now_ns, events = step
            for event in (*events, *([same] if every and number % every == 0 else [])):
                assert take_in(one, event).engine is one.engine
            commands = one.engine.decide(now_ns)
            for command in commands:
                one.world.submit(command, now_ns)
            one.score.observe(now_ns, len(events), commands, 0)
        digests.append((one.score.commands_sha256, one.score.orders, one.engine.equity_quote()))
    assert digests[0] == digests[1]
    assert digests[0][1] > 5


def test_a_configuration_of_another_version_names_what_it_cannot_read(session: Session) -> None:
    text = config_json(session.vault).replace('"routing"', '"rooting"')
    with pytest.raises(JournalError, match=r"found at rooting: Extra inputs .*; hint: it was written by another"):
        read_vault(text)
    event = event_of(plan_of(session.vault, session.vault), WISH, 5)
    with pytest.raises(JournalError, match="another version"):
        take_in(session, msgspec.structs.replace(event, config_json=text))


def test_a_file_that_is_wrong_is_named_by_line(busy: Path, session: Session) -> None:
    file = busy / "busy.yaml"
    rewrite(file, "half_width_base: 0.3", "half_width_base: -0.3")
    rewrite(file, "numeraire: USD", "numeraire: EUR")
    with pytest.raises(ConfigError) as caught:
        read_plan(InForce.began(session.vault), file, session.settings_for)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [f"{file}:4", f"{file}:10"]


# What is answered ----------------------------------------------------------------------------------------------------


def looser(session: Session) -> Plan:
    limits = session.vault.limits.model_copy(update={"daily_loss_quote": 1e9})
    new = session.vault.model_copy(update={"limits": limits})
    return plan_of(session.vault, new)


def test_looser_limits_take_the_code_that_their_refusal_shows(session: Session) -> None:
    plan = looser(session)
    refused = answer_of(plan, WISH)
    assert f"--confirm {plan.verdict.code} confirms exactly this change" in refused["error"]
    assert refused["loosened"] == ["limits.daily_loss_quote: 100000.0 → 1000000000.0: allows 1e+04 times as much"]
    assert "error" not in answer_of(plan, WISH._replace(confirm=refused["confirm"]))
    assert "error" not in answer_of(plan, WISH._replace(is_dry_run=True))
    assert "code of another change" in answer_of(plan, WISH._replace(confirm="12345678"))["error"]


def test_another_file_than_the_one_asked_about_is_not_taken(session: Session) -> None:
    plan = plan_of(session.vault, session.vault)
    digest = config_sha256(session.vault)
    assert "error" not in answer_of(plan, WISH._replace(expected_sha256=digest))
    assert "found another one" in answer_of(plan, WISH._replace(expected_sha256="0" * 64))["error"]


def test_a_wish_that_a_daemon_finds_too_late_is_not_carried_out(session: Session) -> None:
    now_ns = time.time_ns()
    plan = plan_of(session.vault, session.vault)
    for expires_ns, is_late in ((now_ns - 2 * NS_PER_S, True), (now_ns + 3600 * NS_PER_S, False), (0, False)):
        assert ("error" in answer_of(plan, wish_of({"expires_ns": expires_ns}))) is is_late


@pytest.mark.parametrize("value", [None, 3, [1, {}], {"a": 1}, "x" * 5000, True])
def test_a_question_of_any_shape_is_read(value: Any) -> None:
    keys = ("issuer", "reason", "confirm", "command_id", "dry_run", "config_sha256", "expires_ns")
    wish = wish_of(dict.fromkeys(keys, value))
    assert all(len(text) <= 500 for text in wish if isinstance(text, str))
    assert wish.is_dry_run is (value is True)
    assert wish_of({}) == Wish("", "")


def test_a_change_of_the_configuration_is_found_in_a_journal_without_reading_it(
    tmp_path: Path, session: Session
) -> None:
    header = Header("r1", "busy", config_json(session.vault), config_sha256(session.vault), None, None, 1, 2, "test")
    with Journal.open(tmp_path / "j.sqlite", for_writing=True) as journal:
        journal.append(header)
        journal.flush()
        assert journal.newest_change() is None
        assert newest_vault(journal) == session.vault
        for step_s in (10, 20):
            new = session.vault.model_copy(update={"pnl_step_s": step_s})
            journal.append(Batch(step_s, (event_of(plan_of(session.vault, new), WISH, step_s),)))
            journal.append(Batch(step_s + 1, ()))
        journal.flush()
        assert newest_vault(journal).pnl_step_s == 20
    assert [len(batch.events) for batch in read_rows(tmp_path / "j.sqlite").batches] == [1, 0, 1, 0]


def test_small_steps_add_up_until_somebody_confirms_and_a_restart_agrees(tmp_path: Path, session: Session) -> None:
    """Of 50,000 at the start: 80,000 is taken, 120,000 is not, until it is confirmed; then it counts from there."""
    now = InForce.began(session.vault)
    asked: list[bool] = []
    with Journal.open(tmp_path / "j.sqlite", for_writing=True) as journal:
        began = config_json(now.vault), config_sha256(now.vault)
        journal.append(Header("r1", "busy", *began, None, None, 1, SCHEMA_VERSION, "test"))
        steps = ((80_000, 150_000), (120_000, 150_000), (200_000, 190_000))
        for ts_ns, (order_quote, loss_quote) in enumerate(steps, 1):
            limits = now.vault.limits.model_copy(
                update={"max_order_quote": float(order_quote), "daily_loss_quote": float(loss_quote)}
            )
            new = now.vault.model_copy(update={"limits": limits})
            plan = Plan(now, new, judge(now.vault, new, now.limits))
            asked.append("error" in answer_of(plan, WISH))
            event = event_of(plan, WISH, ts_ns)
            assert bool(event.confirmed) is asked[-1]
            journal.append(Batch(ts_ns, (event,)))
            now = now.then(new, event.confirmed)
        journal.flush()
        assert asked == [False, True, False]
        # what was confirmed is the limit that was shown, no other
        assert (now.limits["limits.max_order_quote"], now.limits["limits.daily_loss_quote"]) == (120_000.0, 100_000.0)
        assert in_force(journal) == now
        assert rebuild(session, journal).in_force == now
