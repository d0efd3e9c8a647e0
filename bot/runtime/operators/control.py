"""The operator's line to a running daemon: JSON questions and answers, a line each, over a Unix socket.

The socket lies in the vault's state folder with mode 0600: who may write there may steer the daemon.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bot.domain.errors import ConfigError, EvenkeelError
from bot.domain.units import whole_text

MAX_SOCKET_PATH = 100  # bytes; the kernel allows 108
MAX_QUESTION_BYTES = 64 * 1024
MAX_BRACKETS = 500
MAX_ANSWER_BYTES = 16 * 1024 * 1024
ANSWER_TIMEOUT_S = 5.0
IDLE_S = 60.0  # how long a line may be open without a question
WAITING = 100  # connections nobody has taken yet; asyncio's own figure
PARTING_S = 1.0  # for answers under way when the daemon stops
LOCK_PATIENCE_S = 1.0  # with whoever holds our folder: another daemon that begins to listen needs no millisecond of it

_HANDS_FULL = "it listens, and has its hands full"

# an answer of bytes is JSON already, on one line
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | bytes]]


class NotRunningError(Exception):
    """No daemon answers for this vault."""


class AlreadyRunningError(EvenkeelError):
    """Another daemon answers for this vault."""


def socket_path(state_dir: str, vault: str) -> Path:
    """Return where a vault's daemon listens. Raises ConfigError if no socket can have so long a name."""
    path = Path(state_dir).resolve() / f"{vault}.sock"
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        expected = f"a path of at most {MAX_SOCKET_PATH} bytes, as sockets need"
        raise ConfigError([f"state_dir: expected {expected}, found {path}; hint: choose a shorter state_dir"])
    return path


@asynccontextmanager
async def serve(path: Path, handle: Handler) -> AsyncIterator[None]:
    """Answer questions on `path` for the length of the block."""
    conversations: set[asyncio.Task[Any]] = set()
    busy: set[asyncio.Task[Any]] = set()  # those of them that wait for an answer

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a conversation is a task"
        conversations.add(task)
        try:
            while (line := await _next_line(reader)) is not None:
                busy.add(task)
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = await _answer(line, handle)
                    writer.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
                    writer.write(b"\n")
                    await writer.drain()
                busy.discard(task)
        except (TimeoutError, ConnectionError):
            writer.transport.abort()  # who asked has gone, or never reads: what is left for them is thrown away
        except asyncio.CancelledError:
            pass  # the daemon ends, and asyncio would complain about how this task did
        finally:
            conversations.discard(task)
            busy.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_unix_server(converse, sock=await _listening(path), limit=MAX_QUESTION_BYTES)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the close: afterwards it may be the next daemon's
        server.close()
        if busy:
            await asyncio.wait(set(busy), timeout=PARTING_S)
        for task in (left := set(conversations)):
            task.cancel()
        if left:
            await asyncio.wait(left)
        await server.wait_closed()


async def _next_line(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next question, None when there will be none; b"" is one that is longer than it may be."""
    async with asyncio.timeout(IDLE_S):
        try:
            return await reader.readline() or None
        except ValueError:
            return b""


async def _answer(line: bytes, handle: Handler) -> dict[str, Any] | bytes:
    expected = f"expected one line of JSON of at most {MAX_QUESTION_BYTES:,} bytes"
    if not line:
        return {"error": f"{expected}, found one beyond the limit"}
    try:
        if line.count(b"[") + line.count(b"{") > MAX_BRACKETS:
            # libraries raise the interpreter's own limit so far that what it is for would not be noticed
            return {"error": f"{expected}, found maximum recursion depth exceeded"}
        question = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {"error": f"{expected}, found {str(error)[:200]}"}
    return await handle(_whole(question)) if isinstance(question, dict) else {"error": "expected an object"}


def _whole(value: Any) -> Any:  # noqa: ANN401 — whatever JSON holds
    """Return a value with nothing in its texts that a journal could not hold: it would end whoever writes it."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return {whole_text(key): _whole(one) for key, one in value.items()} if isinstance(value, dict) else value


class Line:
    """A line kept open to a daemon: one question at a time, for whoever asks often. Not for several tasks at once."""

    def __init__(self, path: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, question: dict[str, Any]) -> bytes:
        """Return the answer as it came.

        Raises NotRunningError if nobody listens or whoever did hangs up, TimeoutError if no answer comes in time.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._ends is None:
                    self._ends = await _call(self._path)
                reader, writer = self._ends
                writer.write(json.dumps(question).encode() + b"\n")
                await writer.drain()
                answer = await reader.readline()
        except BaseException as error:
            self.close()  # the answer may still come, and would be taken for the next one
            if isinstance(error, FileNotFoundError | ConnectionError):
                raise NotRunningError(str(self._path)) from error
            if isinstance(error, BlockingIOError):
                raise TimeoutError(_HANDS_FULL) from error
            raise
        if not answer.endswith(b"\n"):
            self.close()
            raise NotRunningError(str(self._path))
        return answer

    def close(self) -> None:
        """Hang up; the next question calls again."""
        if self._ends is not None:
            self._ends[1].close()
            self._ends = None


async def _call(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect at once or not at all: asyncio takes the full queue of a frozen daemon for a line that then breaks."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.settimeout(0.0)
        line.connect(str(path))
        return await asyncio.open_unix_connection(sock=line, limit=MAX_ANSWER_BYTES)
    except BaseException:
        line.close()
        raise


async def _listening(path: Path) -> socket.socket:
    """Return a socket of mode 0600 that listens on `path`. Raises AlreadyRunningError if another does."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        await _lock(folder)  # of two that start at once, one sees the other listen
        refuse_second(path)
        path.unlink(missing_ok=True)  # the socket that a killed one left
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            path.chmod(0o600)  # in time: nobody gets through before it listens
            listener.listen(WAITING)
        except BaseException:
            listener.close()
            raise
    finally:
        os.close(folder)
    return listener


async def _lock(folder: int) -> None:
    """Lock our folder, or go on without after a while: anybody who may read it can hold it, and we are to trade.

    Nor does every file system have such locks.
    """
    give_up_s = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_s:
                return
            await asyncio.sleep(0.01)
        except OSError:
            return
        else:
            return


def refuse_second(path: Path) -> None:
    """Raise AlreadyRunningError if a daemon listens on `path`; touches nothing, as one may be about to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(0.0)
        try:
            line.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except NotADirectoryError:
            return  # whoever makes the folder will say what stands in its place
        except BlockingIOError:
            pass  # it listens, and has its hands full
    raise AlreadyRunningError(f"expected no other daemon of this vault, found one at {path}; hint: stop it first")


def ask(path: Path, question: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
    """Put one question to the daemon behind `path`, with the patience of everybody unless another is given.

    Raises NotRunningError if none listens or it ends before it has answered, TimeoutError if no answer comes in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(ANSWER_TIMEOUT_S if timeout_s is None else timeout_s)
        try:
            line.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunningError(str(path)) from error
        except BlockingIOError as error:
            raise TimeoutError(_HANDS_FULL) from error
        try:
            line.sendall(json.dumps(question).encode() + b"\n")
            with line.makefile("rb") as answer:
                text = answer.readline()
        except ConnectionError as error:
            raise NotRunningError(str(path)) from error
    if not text.endswith(b"\n"):
        raise NotRunningError(str(path))
    result = json.loads(text)
    if not isinstance(result, dict):
        raise TypeError(f"expected an object from the daemon, found {text[:200]!r}")
    return result
