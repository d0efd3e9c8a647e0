"""The operator's line: answers, silence, nonsense and rivals."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from bot.domain.errors import ConfigError
from bot.runtime.operators import control
from bot.runtime.operators.control import AlreadyRunningError, Line, NotRunningError, ask, refuse_second, serve


@pytest.fixture
def path() -> Iterator[Path]:
    """A socket's path, short enough for one."""
    with tempfile.TemporaryDirectory(prefix="ek-") as folder:
        yield Path(folder) / "line.sock"


async def echo(question: dict[str, Any]) -> dict[str, Any]:
    return {"you said": question}


async def exchange(path: Path, question: bytes) -> dict[str, Any]:
    """Say something raw and return the answer."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(question)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    result: dict[str, Any] = json.loads(answer)
    return result


async def test_a_question_is_answered(path: Path) -> None:
    async with serve(path, echo):
        answer = await asyncio.to_thread(ask, path, {"verb": "view", "text": "ä\n"})
    assert answer == {"you said": {"verb": "view", "text": "ä\n"}}


async def test_an_answer_that_is_written_already_leaves_as_it_is(path: Path) -> None:
    async def answer(_question: dict[str, Any]) -> bytes:
        return '{"is":"ä"}'.encode()

    line = Line(path)
    async with serve(path, answer):
        assert await line.ask({}) == '{"is":"ä"}\n'.encode()
    line.close()


async def test_a_line_kept_open_takes_one_question_after_another(path: Path) -> None:
    line = Line(path)
    async with serve(path, echo):
        for number in range(3):
            assert json.loads(await line.ask({"number": number})) == {"you said": {"number": number}}
    with pytest.raises(NotRunningError):
        await line.ask({})
    async with serve(path, echo):  # an open line does not keep a daemon from stopping, nor from being called again
        assert json.loads(await line.ask({"number": 3})) == {"you said": {"number": 3}}
    line.close()


async def test_a_line_that_hears_nothing_in_time_hangs_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PARTING_S", 0.05)
    is_slow = True

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        if is_slow:
            await asyncio.sleep(30)
        return question

    line = Line(path, timeout_s=0.05)
    async with serve(path, answer):
        with pytest.raises(TimeoutError):
            await line.ask({"number": 1})
        is_slow = False
        slow = Line(path)
        assert json.loads(await slow.ask({"number": 2})) == {"number": 2}
        slow.close()


async def test_silence_is_not_answered(path: Path) -> None:
    async with serve(path, echo):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_only_the_owner_may_ask_and_nothing_is_left_behind(path: Path) -> None:
    async with serve(path, echo):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    with pytest.raises(NotRunningError):
        ask(path, {})


async def test_it_is_removed_after_an_error_too(path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with serve(path, echo):
            raise ZeroDivisionError
    assert not path.exists()


async def test_the_socket_of_a_killed_daemon_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    with pytest.raises(NotRunningError):
        ask(path, {})
    async with serve(path, echo):
        assert await asyncio.to_thread(ask, path, {"a": 1}) == {"you said": {"a": 1}}


async def test_a_living_daemon_keeps_its_socket(path: Path) -> None:
    async with serve(path, echo):
        with pytest.raises(AlreadyRunningError, match=r"found one at .*line\.sock; hint: stop it first"):
            async with serve(path, echo):
                raise AssertionError
        assert await asyncio.to_thread(ask, path, {"a": 1}) == {"you said": {"a": 1}}


async def test_looking_for_a_rival_takes_no_socket_from_one_that_is_about_to_listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as rival:
        rival.bind(str(path))
        refuse_second(path)  # as every start does, before it has any lock
        rival.listen()
        with pytest.raises(AlreadyRunningError):
            refuse_second(path)


async def test_whoever_holds_the_folder_keeps_no_daemon_from_listening_nor_others_from_trading(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "LOCK_PATIENCE_S", 0.1)
    stranger = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(stranger, fcntl.LOCK_EX | fcntl.LOCK_NB)
        turns = 0

        async def trade() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        trading = asyncio.create_task(trade())
        async with serve(path, echo):
            assert turns > 1, "others in the process had their turn while it waited"
            assert await asyncio.to_thread(ask, path, {}) == {"you said": {}}
        trading.cancel()
    finally:
        os.close(stranger)


async def test_a_daemon_too_busy_to_listen_keeps_its_socket_too(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = []
        try:
            while True:  # until the queue is full
                one = socket.socket(socket.AF_UNIX)
                waiting.append(one)
                one.settimeout(0.0)
                one.connect(str(path))
        except BlockingIOError:
            pass
        with pytest.raises(AlreadyRunningError):
            async with serve(path, echo):
                raise AssertionError
        for one in waiting:
            one.close()


async def test_a_daemon_too_frozen_to_be_called_is_not_taken_for_none(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(path))
        frozen.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(str(path))
            with pytest.raises(TimeoutError, match="hands full"):
                await Line(path).ask({})
            with pytest.raises(TimeoutError, match="hands full"):
                ask(path, {})


async def test_what_no_journal_could_hold_is_not_handed_on(path: Path) -> None:
    question = {"reason": "ferm\udce9", "list": ["\ud800", 1], "\udfff": {"deep": "\udc80 fine"}}
    async with serve(path, echo):
        answer = await asyncio.to_thread(ask, path, question)
    assert answer == {"you said": {"reason": "ferm?", "list": ["?", 1], "?": {"deep": "? fine"}}}


async def test_who_never_reads_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ANSWER_TIMEOUT_S", 0.05)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    asked = asyncio.Event()
    talking: set[asyncio.Task[Any]] = set()

    async def rave(_question: dict[str, Any]) -> dict[str, Any]:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        asked.set()
        return {"said": "x" * 4_000_000}

    async with serve(path, rave):
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            deaf.sendall(b"{}\n")
            await asked.wait()
            ended, _ = await asyncio.wait(talking, timeout=60)
            assert ended
    assert not complaints


@pytest.mark.parametrize(
    ("question", "found"),
    [
        (b"\n", "Expecting value"),
        (b"{not json}\n", "Expecting property name"),
        (b"\xff\xfe\n", "can't decode"),
        (b'{"reason": "' + b"x" * control.MAX_QUESTION_BYTES + b'"}\n', "limit"),
        (b"[" * 60_000 + b"\n", "recursion"),
    ],
)
async def test_nonsense_gets_an_error_and_hurts_nobody(path: Path, question: bytes, found: str) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    async with serve(path, echo):
        answer = await exchange(path, question)
        assert answer["error"].startswith("expected one line of JSON of at most 65,536 bytes, found ")
        assert found in answer["error"]
        assert await exchange(path, b'{"a": 1}\n') == {"you said": {"a": 1}}
        assert await exchange(path, b"[1]\n") == {"error": "expected an object"}
    assert not complaints


async def test_who_hangs_up_without_a_word_is_forgotten(path: Path) -> None:
    async with serve(path, echo):
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.transport.abort()
        assert await exchange(path, b"{}\n") == {"you said": {}}


async def test_a_daemon_that_does_not_answer_in_time_is_a_timeout(path: Path) -> None:
    forever = asyncio.Event()

    async def ponder(_question: dict[str, Any]) -> dict[str, Any]:
        await forever.wait()
        return {"late": True}

    async with serve(path, ponder):
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(ask, path, {}, 0.05)
        forever.set()


async def test_an_answer_under_way_is_still_given_when_the_daemon_stops(path: Path) -> None:
    asked = asyncio.Event()

    async def ponder(question: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        await asyncio.sleep(0.05)
        return question

    async with serve(path, ponder):
        asking = asyncio.create_task(asyncio.to_thread(ask, path, {"a": 1}))
        await asked.wait()
    assert await asking == {"a": 1}


async def test_stopping_does_not_wait_for_an_answer_that_never_comes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PARTING_S", 0.05)
    asked = asyncio.Event()

    async def ponder(_question: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        await asyncio.Event().wait()
        return {}

    async with serve(path, ponder):
        asking = asyncio.create_task(asyncio.to_thread(ask, path, {}))
        await asked.wait()
    with pytest.raises(NotRunningError):
        await asking


async def test_a_daemon_frozen_for_so_long_that_nobody_else_may_wait_is_a_timeout_too(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as frozen:
        frozen.bind(str(path))
        frozen.listen(1)
        for _ in range(4):
            with pytest.raises(TimeoutError):
                await Line(path, 0.05).ask({})
        with pytest.raises(TimeoutError, match="has its hands full"):
            ask(path, {}, 0.05)


@pytest.mark.parametrize("said", [b"", b'{"state": "runn'])
def test_a_daemon_that_ends_before_it_has_answered_is_not_running(path: Path, said: bytes) -> None:
    """Killed with the question unread, for one: the line then breaks rather than ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dying:
        dying.bind(str(path))
        dying.listen(1)

        def die() -> None:
            line, _ = dying.accept()
            with line:
                line.recv(1)
                line.sendall(said)

        with ThreadPoolExecutor(1) as pool:
            death = pool.submit(die)
            with pytest.raises(NotRunningError):
                ask(path, {"verb": "view"})
            death.result()


def test_no_socket_is_not_running(path: Path) -> None:
    with pytest.raises(NotRunningError):
        ask(path, {})


async def test_its_mode_does_not_depend_on_the_umask(path: Path) -> None:
    mask = os.umask(0)
    try:
        async with serve(path, echo):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(mask)


async def test_two_that_start_at_once_leave_the_umask_alone(path: Path) -> None:
    mask = os.umask(0o022)
    try:
        async with AsyncExitStack() as lines:
            serving = (serve(path.with_name(name), echo) for name in ("one.sock", "two.sock"))
            await asyncio.gather(*map(lines.enter_async_context, serving))
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)


def test_of_several_that_start_at_once_one_listens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads stand for processes: the lock is of an open file, so it keeps them apart in the same way."""
    monkeypatch.setattr(control, "LOCK_PATIENCE_S", 60.0)  # a thread may have no turn while it holds the lock
    rivals = 4
    start, end = Barrier(rivals), Barrier(rivals)

    async def run() -> bool:
        start.wait(60)
        try:
            async with serve(path, echo):
                await asyncio.to_thread(end.wait, 60)
                line = Line(path)
                assert json.loads(await line.ask({})) == {"you said": {}}  # the others' attempts are over by then
                line.close()
        except AlreadyRunningError:
            end.wait(60)
            return False
        return True

    with ThreadPoolExecutor(rivals) as pool:
        for _ in range(50):
            path.touch()  # what a killed one left, for each to find and remove
            assert sum(pool.map(lambda _: asyncio.run(run()), range(rivals))) == 1


def test_a_socket_whose_name_is_too_long_is_refused(tmp_path: Path) -> None:
    assert control.socket_path(str(tmp_path), "v") == tmp_path.resolve() / "v.sock"
    with pytest.raises(ConfigError, match="choose a shorter state_dir"):
        control.socket_path(str(tmp_path / ("x" * control.MAX_SOCKET_PATH)), "v")
