"""The operator's line to a running daemon: one JSON question and one JSON answer over a Unix socket.

The socket lies in the vault's state folder with mode 0600: who may write there may steer the daemon.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

MAX_QUESTION_BYTES = 64 * 1024
ANSWER_TIMEOUT_S = 5.0

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class NotRunningError(Exception):
    """No daemon answers for this vault."""


@asynccontextmanager
async def serve(path: Path, handle: Handler) -> AsyncIterator[None]:
    """Answer questions on `path` for the length of the block."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), ANSWER_TIMEOUT_S)
            try:
                question = json.loads(line)
                answer = await handle(question) if isinstance(question, dict) else {"error": "expected an object"}
            except ValueError as error:
                answer = {"error": f"expected one line of JSON, found {str(error)[:200]}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ConnectionError):
            pass  # who asked has gone: there is nobody to tell
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    path.unlink(missing_ok=True)  # the journal's lock is held: nobody else can be serving here
    server = await asyncio.start_unix_server(converse, path, limit=MAX_QUESTION_BYTES)
    path.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
        path.unlink(missing_ok=True)


def ask(path: Path, question: dict[str, Any], timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
    """Put one question to the daemon behind `path`.

    Raises NotRunningError if none listens, TimeoutError if it does not answer in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(timeout_s)
        try:
            line.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunningError(str(path)) from error
        line.sendall(json.dumps(question).encode() + b"\n")
        with line.makefile("rb") as answer:
            text = answer.readline()
    if not text:
        raise NotRunningError(str(path))
    result = json.loads(text)
    if not isinstance(result, dict):
        raise TypeError(f"expected an object from the daemon, found {text[:200]!r}")
    return result
