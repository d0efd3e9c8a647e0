"""The halt that needs nobody's help: a file beside the journal that lets no order leave as long as it stands.

It works with the daemon frozen, the journal locked and the socket dead; only a person's `resume` takes it away.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from bot.domain.units import utc_text, whole_text


class Halt(msgspec.Struct, frozen=True):
    """Who halted, when and why."""

    issuer: str
    reason: str
    ts_ns: int

    def __str__(self) -> str:
        return f"halted by {self.issuer} at {utc_text(self.ts_ns)}: {self.reason}"


def marker_of(state_dir: str, vault: str) -> HaltMarker:
    """Return a vault's halt marker."""
    return HaltMarker(Path(state_dir) / f"{vault}.halted")


class HaltMarker:
    """The halt marker of one vault."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_set(self) -> bool:
        """Tell whether the vault is halted; one look at the folder, cheap enough before every order."""
        return os.path.lexists(self._path)

    def write(self, halt: Halt) -> None:
        """Set the marker, whole or not at all, and on disk on return; an older one is replaced."""
        halt = Halt(whole_text(halt.issuer), whole_text(halt.reason), halt.ts_ns)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(halt) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(self._path)
        self._sync_folder()

    def read(self) -> Halt | None:
        """Return the halt that stands, None if there is none; one that cannot be read is still a halt."""
        return self._read(self._path)

    def _read(self, path: Path) -> Halt | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Halt)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            return Halt("unknown", f"the halt marker {self._path} cannot be read ({type(error).__name__})", 0)

    def remove(self, seen: Halt | None) -> None:
        """Take away the halt that was `seen`; one set meanwhile stays, even in the midst of this."""
        if seen is None or self.read() != seen:
            return
        aside = self._path.with_name(f"{self._path.name}.lifted.{os.getpid()}")
        try:
            self._path.replace(aside)  # looked at where nobody can set another in its place
        except FileNotFoundError:
            return
        if self._read(aside) != seen:
            with suppress(FileExistsError):
                os.link(aside, self._path)
        aside.unlink()
        self._sync_folder()

    def _sync_folder(self) -> None:
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
