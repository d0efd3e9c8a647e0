"""One owner at a time: a lock on a file beside the one it guards, which the OS frees with the process, however it ends.

What stands in the lock file is its owner's to say, and begins with his pid, so that whoever is refused can be told it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.domain.errors import JournalError


def lock_path(path: Path) -> Path:
    """Return where the lock of the file at `path` stands."""
    return path.with_name(f"{path.name}.lock")


@contextmanager
def held_lock(path: Path, taken: str, why: str, *, mode: int) -> Iterator[int]:
    """Hold the lock of the file at `path`, yielding the lock file's descriptor; a new lock file gets this `mode`.

    Raises JournalError if it cannot be written, or saying `taken` and `why` that matters if another holds it.
    """
    beside = lock_path(path)
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except OSError as error:
        raise JournalError(
            f"{beside}: expected a lock file that can be written, found: {error.strerror};"
            " hint: check that the folder exists and who may write to it"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = " ".join(os.pread(descriptor, 64, 0).decode(errors="replace").split()[:2]) or "pid unknown"
            raise JournalError(f"{taken} ({holder}); hint: stop it first, {why}") from error
        yield descriptor
    finally:
        os.close(descriptor)
