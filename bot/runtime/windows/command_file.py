"""Which commands of a vault were taken, on disk: what was carried out before a restart is not carried out after it.

A line per command, written before it is carried out. It is the first of two memories: the daemon's journal has the ids
of all it executed. So a disk that takes no line stops nobody from halting.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog

from bot.domain.commands import CommandBody
from bot.telemetry.commands.memory import Memory
from bot.telemetry.logs import OnceLogger

MAX_LINES: Final = 5_000  # before the file is written anew with what is still worth remembering
MAX_BYTES: Final = 4 * 1024 * 1024  # of a file that is read at a start; ours is far smaller

log = structlog.get_logger()


def command_path(state_dir: str, vault: str) -> Path:
    """Return where a vault's taken commands are noted."""
    return Path(state_dir) / f"{vault}.commands"


class CommandFile:
    """A vault's memory of commands, and the file it outlives a restart in."""

    def __init__(self, path: Path, now_ns: int) -> None:
        self._path = path
        self._lines = 0
        self._is_torn = False  # in its last line, which must not take the next one with it
        self._once = OnceLogger(log)
        self.memory = Memory()
        self._load()
        self.memory.forget(now_ns)

    def note(self, body: CommandBody, now_ns: int) -> None:
        """Remember a command, on disk on return if the disk takes it."""
        self.memory.note(body.command_id, body.issuer, body.expires_ns)
        try:
            if self._lines >= MAX_LINES:
                self.memory.forget(now_ns)
                self._write_anew()
            else:
                self._append(f"{body.command_id} {body.issuer} {body.expires_ns}\n")
        except OSError as error:
            self._once.failed("command file", path=str(self._path), error=str(error))
        else:
            self._once.recovered("command file", path=str(self._path))

    def _load(self) -> None:
        try:
            with self._path.open("rb") as file:
                text = file.read(MAX_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            self._once.failed("command file", path=str(self._path), error=str(error))
            return
        self._is_torn = not text.endswith("\n")
        for line in text.splitlines():
            self._lines += 1
            match line.split():
                case [command_id, issuer, expires] if expires.isascii() and expires.isdigit() and len(expires) < 20:
                    self.memory.note(command_id, issuer, int(expires))
                case _:
                    log.warning("command.unreadable", path=str(self._path), line=self._lines)

    def _append(self, line: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, (f"\n{line}" if self._is_torn else line).encode())
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._lines += 1
        self._is_torn = False

    def _write_anew(self) -> None:
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        text = "".join(
            f"{command_id} {issuer} {expires_ns}\n" for command_id, issuer, expires_ns in self.memory.lines()
        )
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, text.encode())
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(self._path)
        self._lines = text.count("\n")
