"""Files that hold a secret: read only where nobody else could have read or changed them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from bot.domain.errors import VenueFatal

_OPEN_BITS: Final = 0o177  # whatever of these is set lets others in, or makes no sense for a file of data


def read_private(path: Path, expected: str, most_bytes: int) -> bytes:
    """Return the file's bytes; what is checked is what is read, whatever becomes of the name meanwhile.

    Raises VenueFatal, which begins with what was `expected`, if it is no regular file of ours that is closed to others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise VenueFatal(f"{expected}, found: {error.strerror}; hint: check the path; a link is not followed") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise VenueFatal(f"{expected}, found something else; hint: check the path")
        if status.st_uid != os.getuid():
            raise VenueFatal(f"{expected}, found one of user {status.st_uid}; hint: chown it")
        if stat.S_IMODE(status.st_mode) & _OPEN_BITS:
            raise VenueFatal(f"{expected}, found mode {stat.S_IMODE(status.st_mode):04o}; hint: chmod 600 {path}")
        return os.read(descriptor, most_bytes)
    finally:
        os.close(descriptor)
