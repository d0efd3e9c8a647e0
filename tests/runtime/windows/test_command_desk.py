"""The command desk: once at most, answered once at most, and a halt before everything else."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.commands import Arguments, CommandBody
from bot.domain.windows import CommandAnswer
from bot.runtime.configuration.vault import Vault
from bot.runtime.operators import control
from bot.runtime.operators.control import serve
from bot.runtime.operators.halt_marker import marker_of
from bot.runtime.windows.command_desk import (
    MAX_WAITING,
    NOT_RUNNING,
    Arrival,
    CommandDesk,
    Quiet,
    reply_topic,
)
from bot.runtime.windows.hub import Hub, Watched
from bot.telemetry.commands.memory import MAX_PER_ISSUER
from bot.telemetry.logs import keep_secret
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.vault_files import vault
from tests.telemetry.commands.forging import ISSUERS, NOW_NS, VAULT, S, forgeries, order, payload_of

Answer = Callable[[dict[str, Any]], Any]


class Clock:
    def __init__(self) -> None:
        self.now_ns = NOW_NS

    def __call__(self) -> int:
        return self.now_ns


class Desk:
    """A command desk, its vault's folder, and a daemon whose answers a test writes."""

    def __init__(self, folder: Path, *, is_live_feed: bool = False, timeout_s: float = PATIENCE_S) -> None:
        terms: dict[str, Any] = {**vault(), "vault": VAULT, "state_dir": str(folder)}
        if is_live_feed:
            terms |= {"feed": "live", "venues": {"deribit": {}}}
        self.vault = Vault.model_validate(terms)
        self.socket = folder / "v.sock"
        self.hub = Hub()
        self.clock = Clock()
        self.asked: list[dict[str, Any]] = []
        watched = [Watched(self.vault, folder / "v.yaml", self.socket, folder / "v.sqlite")]
        self.desk = CommandDesk(watched, ISSUERS, self.hub, {}, clock_ns=self.clock, timeout_s=timeout_s)

    @property
    def refused(self) -> Counter[str]:
        return self.desk.refused

    def take(self, body: CommandBody, **terms: Any) -> None:
        self.desk.take(Arrival(VAULT, payload_of(body), **terms))

    async def answer(self) -> CommandAnswer:
        """The next answer, taken away as its sender would."""
        async with asyncio.timeout(PATIENCE_S):
            reply = await self.desk.next_reply()
        self.desk.sent(reply)
        return reply.answer

    async def order(self, body: CommandBody) -> CommandAnswer:
        self.take(body)
        return await self.answer()

    @asynccontextmanager
    async def daemon(self, answer: Answer = lambda _question: {"state": "active", "reason": ""}) -> AsyncIterator[None]:
        async def handle(question: dict[str, Any]) -> dict[str, Any]:
            self.asked.append(question)
            found = answer(question)
            answered: dict[str, Any] = await found if asyncio.iscoroutine(found) else found
            return answered

        async with serve(self.socket, handle):
            yield


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ek-") as name:
        yield Path(os.path.realpath(name))


@asynccontextmanager
async def open_desk(folder: Path, **terms: Any) -> AsyncIterator[Desk]:
    """A desk at work."""
    one = Desk(folder, **terms)
    task = asyncio.create_task(one.desk.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# Carrying out --------------------------------------------------------------------------------------------------------

GIVEN = {
    "set_target": Arguments("ETH", -2.5),
    "set_band": Arguments("ETH", None, -1.0, 1.5),
    "hedge_now": Arguments("ETH"),
    "flatten": Arguments(confirm=VAULT),
}


async def test_a_daemon_is_told_all_that_was_signed_and_its_word_comes_back(folder: Path) -> None:
    actions = ["pause", "reduce_only", "resume", "flatten", "hedge_now", "set_target", "set_band", "halt"]
    said = {"state": "paused", "reason": "why", "text": "in words"}
    async with open_desk(folder) as one, one.daemon(lambda _question: said):
        for action in actions:
            body = order("bob", action, arguments=GIVEN.get(action, Arguments()))
            answer = await one.order(body)
            assert answer == CommandAnswer(
                body.command_id, VAULT, "bob", action, is_done=True, text="in words", state="paused", answered_ns=NOW_NS
            )
            assert one.asked[-1] == {
                "verb": "operate",
                "action": action,
                "issuer": "bob",
                "reason": "because",
                "command_id": body.command_id,
                "issued_ns": body.issued_ns,
                "expires_ns": body.expires_ns,
                "underlying": body.arguments.underlying,
                "target_base": body.arguments.target_base,
                "low_base": body.arguments.low_base,
                "high_base": body.arguments.high_base,
            }
        assert len(one.asked) == len(actions)
        assert not one.refused


async def test_a_reload_has_its_own_verb_and_tells_what_changed(folder: Path) -> None:
    answers = [
        {"changes": ["limits.max_order_quote: 1 → 2"], "is_applied": True},
        {"changes": []},
        {"error": "expected a second confirmation", "confirm": "3f9a"},
    ]
    async with open_desk(folder) as one, one.daemon(lambda _question: answers.pop(0)):
        first = await one.order(order(action="reload", arguments=Arguments(confirm="3f9a"), reason="one"))
        assert (first.is_done, first.text) == (True, "limits.max_order_quote: 1 → 2")
        assert (one.asked[0]["verb"], one.asked[0]["confirm"]) == ("reload", "3f9a")
        assert (await one.order(order(action="reload", reason="two"))).text == "nothing changed"
        third = await one.order(order(action="reload", reason="three"))
        assert (third.is_done, third.text) == (False, "expected a second confirmation")
        assert one.refused == {"by_the_daemon": 1}


async def test_an_alert_is_acknowledged_where_alerts_are_kept(folder: Path) -> None:
    async with open_desk(folder) as one:
        assert (await one.order(order(action="acknowledge"))).text == "no alerts are kept here"
        seen: list[tuple[str, str]] = []

        def acknowledge(alert_id: str, who: str) -> str:
            seen.append((alert_id, who))
            return ""

        one.hub.acknowledge = acknowledge
        assert (await one.order(order("bob", "acknowledge"))).is_done
        assert seen == [("mm:halted", "bob")]
        of_another = order("bob", "acknowledge", arguments=Arguments(alert_id="other:halted"))
        assert "expected the id of an alert of mm" in (await one.order(of_another)).text
        assert len(seen) == 1


async def test_an_answer_tells_the_state_the_vault_was_last_seen_in(folder: Path) -> None:
    async with open_desk(folder) as one:
        async with one.daemon(lambda _question: {"error": "out of bounds"}):
            one.desk.gone("of another desk")
            assert (await one.order(order(reason="a"))).state == ""
        async with one.daemon(lambda _question: {"state": "reduce_only"}):
            assert (await one.order(order(reason="b"))).state == "reduce_only"
        async with one.daemon(lambda _question: {"error": "out of bounds"}):
            assert (await one.order(order(reason="c"))).state == "reduce_only"
            one.desk.gone(VAULT)
            assert (await one.order(order(reason="d"))).state == ""


async def test_no_daemon_one_that_is_frozen_and_one_that_raves_are_told_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PARTING_S", 0.05)  # the frozen one need not be waited for
    async with open_desk(folder, timeout_s=0.2) as one, one.daemon(lambda _question: asyncio.sleep(3600, {})):
        frozen = await one.order(order(reason="frozen"))
        assert frozen.text == (
            "expected an answer of the daemon within 0.2 s, found none; it may still do what it was told until the "
            "command expires"
        )
    async with open_desk(folder) as one:
        found = await one.order(order(reason="none"))
        assert (found.is_done, found.state) == (False, NOT_RUNNING)
        assert found.text == "expected a running daemon of mm, found none"
        for raw, said in ((b"[1]\n", "expected an object"), (b"{oops\n", "DecodeError"), (b"", "running daemon")):

            async def rave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes = raw) -> None:
                await reader.readline()
                writer.write(raw)
                await writer.drain()
                writer.close()

            server = await asyncio.start_unix_server(rave, one.socket)
            answer = await one.order(order(reason=f"raving {raw!r}"))
            assert not answer.is_done
            assert said in answer.text
            server.close()
            one.socket.unlink()
        async with one.daemon():
            assert (await one.order(order(reason="well"))).is_done


# Once, and answered once ---------------------------------------------------------------------------------------------


async def test_a_command_is_carried_out_once_across_copies_and_a_restart(folder: Path) -> None:
    body = order()
    async with open_desk(folder) as one, one.daemon():
        assert (await one.order(body)).is_done
        for _ in range(3):
            one.take(body)
        assert one.refused == {"repeated": 3}
        last = await one.order(order(reason="afterwards"))
        assert last.command_id == order(reason="afterwards").command_id, "a copy is not answered"
    async with open_desk(folder) as again, again.daemon():
        again.take(body)
        assert again.refused == {"repeated": 1}
        assert (await again.order(order(reason="a new one"))).is_done
        assert len(again.asked) == 1


async def test_who_may_not_is_told_once_and_who_is_nobody_never(folder: Path) -> None:
    forbidden = order("carol", "resume")
    late = order("bob", issued_ns=NOW_NS - 200 * S, expires_ns=NOW_NS - 100 * S)
    ancient = order("bob", issued_ns=NOW_NS - 900 * S, expires_ns=NOW_NS - 700 * S)
    async with open_desk(folder) as one, one.daemon():
        for forgery in islice(forgeries(11), 200):
            if forgery.kind not in {"untimely", "beyond its rights"}:
                one.desk.take(Arrival(VAULT, forgery.payload))
        for _ in range(3):
            for body in (forbidden, late, ancient):
                one.take(body)
        answers = [await one.answer(), await one.answer()]
        assert [answer.command_id for answer in answers] == [forbidden.command_id, late.command_id]
        assert [answer.is_done for answer in answers] == [False, False]
        assert answers[0].text == "carol may not order resume of mm"
        end = order(reason="the end")
        assert (await one.order(end)).command_id == end.command_id, "nothing else was answered"
        assert len(one.asked) == 1, "and nothing else was carried out"
        assert one.refused["repeated"] == 2
        assert one.refused["expired"] == 1 + 3
        assert one.refused["bad_signature"] > 10


async def test_what_is_no_new_message_to_a_vault_of_ours_is_counted(folder: Path) -> None:
    async with open_desk(folder) as one:
        one.desk.take(Arrival(VAULT, payload_of(order()), is_retained=True))
        one.desk.take(Arrival("of-others", payload_of(order())))
        assert one.refused == {"retained": 1, "unknown_topic": 1}


async def test_one_issuer_may_not_fill_the_memory_but_a_halt_always_passes(folder: Path) -> None:
    async with open_desk(folder) as one, one.daemon():
        memory = one.desk._vaults[VAULT].file.memory
        for number in range(MAX_PER_ISSUER):
            memory.note(f"{number}", "bob", NOW_NS)
        one.take(order("bob", reason="one too many"))
        assert one.refused["busy"] == 1
        assert (await one.order(order("bob", "halt"))).is_done
        assert (await one.order(order("alice"))).is_done
        assert len(memory) == MAX_PER_ISSUER + 1


# What waits, and what does not ---------------------------------------------------------------------------------------


async def test_a_halt_overtakes_what_waits(folder: Path) -> None:
    release = asyncio.Event()

    async def slowly(question: dict[str, Any]) -> dict[str, Any]:
        if question["action"] == "pause":
            await release.wait()
        return {"state": "halted" if question["action"] == "halt" else "paused"}

    async with open_desk(folder) as one, one.daemon(slowly):
        one.take(order(action="pause"))
        async with asyncio.timeout(PATIENCE_S):
            while not one.asked:  # noqa: ASYNC110 — the desk has no event for this
                await asyncio.sleep(0.001)
        one.take(order(action="resume"))
        one.take(order("bob", "hedge_now"))
        one.take(order("bob", "halt"))
        answers = [await one.answer() for _ in range(3)]
        assert [(answer.action, answer.is_done) for answer in answers] == [
            ("resume", False),
            ("hedge_now", False),
            ("halt", True),
        ]
        assert answers[0].text == "expected to be carried out, found a halt by bob meanwhile; hint: order it again"
        release.set()
        assert (await one.answer()).action == "pause"
        assert [question["action"] for question in one.asked] == ["pause", "halt"]
        assert one.refused == {"overtaken": 2}
        resumed = await one.order(order(action="resume", reason="after the halt"))
        assert resumed.is_done


async def test_halts_under_way_are_shared_and_what_comes_after_waits_for_them(folder: Path) -> None:
    release = asyncio.Event()

    async def slowly(question: dict[str, Any]) -> dict[str, Any]:
        await release.wait()
        return {"state": "halted", "text": question["reason"]}

    async with open_desk(folder) as one, one.daemon(slowly):
        for number in range(5):
            one.take(order(action="halt", reason=f"halt {number}"))
            await asyncio.sleep(0)
        one.take(order(action="resume"))
        release.set()
        answers = [await one.answer() for _ in range(6)]
        assert [answer.text for answer in answers] == ["halt 0", *["halt 1"] * 4, "because"]
        assert [question["action"] for question in one.asked] == ["halt", "halt", "resume"]


async def test_more_than_can_wait_are_refused_and_what_expired_meanwhile_too(folder: Path) -> None:
    release = asyncio.Event()

    async def slowly(_question: dict[str, Any]) -> dict[str, Any]:
        await release.wait()
        return {"state": "paused"}

    async with open_desk(folder) as one, one.daemon(slowly):
        one.take(order(reason="first"))
        async with asyncio.timeout(PATIENCE_S):
            while not one.asked:  # noqa: ASYNC110 — the desk has no event for this
                await asyncio.sleep(0.001)
        for number in range(MAX_WAITING):
            one.take(order(reason=f"waits {number}"))
        busy = await one.order(order(reason="too many"))
        assert busy.text == "expected at most 16 commands waiting, found as many; hint: wait for an answer"
        one.clock.now_ns += 70 * S
        release.set()
        answers = [await one.answer() for _ in range(1 + MAX_WAITING)]
        assert [answer.is_done for answer in answers] == [True] + [False] * MAX_WAITING
        assert len(one.asked) == 1
        assert one.refused == {"busy": 1, "expired": MAX_WAITING}


async def test_a_halt_of_a_live_feed_needs_no_daemon_and_stays(folder: Path) -> None:
    async with open_desk(folder, is_live_feed=True) as one:
        answer = await one.order(order("bob", "halt", reason="wrong book"))
    assert (answer.is_done, answer.state) == (True, "halted")
    assert answer.text == "mm: halted; no daemon runs, and the next one will not trade until a resume"
    marked = marker_of(one.vault.state_dir, VAULT).read()
    assert marked is not None
    assert (marked.issuer, marked.reason, marked.ts_ns) == ("bob", "wrong book", NOW_NS)


# Small parts ---------------------------------------------------------------------------------------------------------


async def test_answers_wait_for_the_broker_in_bounded_room(folder: Path) -> None:
    async with open_desk(folder) as one, one.daemon():
        for body in (order(reason="a"), order(reason="b")):
            one.take(body, reply_to="t", correlation=b"c")
        async with asyncio.timeout(PATIENCE_S):
            first = await one.desk.next_reply()
            assert await one.desk.next_reply() is first, "it stays until it was sent"
            one.desk.sent(first)
            second = await one.desk.next_reply()
        assert (second.reply_to, second.correlation) == ("t", b"c")
        assert second.answer.command_id == order(reason="b").command_id
        one.desk.sent(first)
        assert await one.desk.next_reply() is second


def test_the_log_hears_of_each_kind_once_in_a_while() -> None:
    quiet = Quiet(every_s=10.0)
    assert [quiet.say("a", now_s) for now_s in (0.0, 1.0, 9.9, 10.0, 11.0)] == [0, None, None, 2, None]
    assert quiet.say("b", 1.0) == 0


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("e/v1/mm/answers/alice-1", "e/v1/mm/answers/alice-1"),
        ("e/v1/mm/answers/a/b", "e/v1/mm/answers/a/b"),
        ("e/v1/mm/answers/", ""),
        ("e/v1/mm/answers", ""),
        ("e/v1/mm/answersx", ""),
        ("e/v1/mm/commands", ""),
        ("e/v1/mm-2/answers/x", ""),
        ("e/v1/mm/answers/../commands", ""),
        ("e/v1/mm/answers/#", ""),
        ("e/v1/mm/answers/+", ""),
        ("e/v1/mm/answers/x\n", ""),
        ("e/v1/mm/answers/" + "x" * 81, ""),
        ("$SYS/broker", ""),
        (b"e/v1/mm/answers/x", ""),
        (None, ""),
    ],
)
def test_answers_go_below_the_vaults_own_topic_only(asked: object, found: str) -> None:
    assert reply_topic(asked, "e/v1/mm/answers") == found


def test_an_answer_is_one_json_object_without_a_key() -> None:
    answer = CommandAnswer("i", VAULT, "alice", "halt", is_done=True, text="", state="", answered_ns=1)
    assert set(msgspec.json.decode(msgspec.json.encode(answer))) == {
        "command_id", "vault", "issuer", "action", "is_done", "text", "state", "answered_ns", "schema_version",
    }  # fmt: skip


async def test_a_command_with_a_secret_in_it_is_refused_and_repeated_by_nobody(folder: Path) -> None:
    keep_secret("secret-of-qzvk")
    async with open_desk(folder) as one, one.daemon(lambda _question: {"state": "paused"}):
        answer = await one.order(order(reason="my key is secret-of-qzvk"))
        assert not answer.is_done
        assert answer.text.startswith("expected a command without secrets, found one of ours in it; hint: say it")
        one.take(order(command_id="secret-of-qzvk"))  # an answer would name it
        assert one.refused["holds_secret"] == 2
        assert (await one.order(order())).is_done
        halted = await one.order(order(action="halt", reason="it is secret-of-qzvk"))
        assert halted.is_done, "a halt waits for nothing"
        assert [question["reason"] for question in one.asked][1:] == ["it is ***"]
