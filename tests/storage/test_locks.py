from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bot.domain.errors import JournalError
from bot.storage.locks import held_lock, lock_path

HOLDER = """
import os, sys
from pathlib import Path
from bot.storage.locks import held_lock

with held_lock(Path(sys.argv[1]), "", "", mode=0o600) as descriptor:
    os.pwrite(descriptor, f"pid {os.getpid()} and more".encode(), 0)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_and_told_by_whom_until_that_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    argv = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        told = rf"^taken \(pid {holder.pid}\); hint: stop it first, one is enough$"
        with pytest.raises(JournalError, match=told), held_lock(path, "taken", "one is enough", mode=0o600):
            pass
        holder.kill()
    with held_lock(path, "taken", "one is enough", mode=0o600):
        pass


def test_the_lock_file_stands_beside_and_keeps_what_its_owner_wrote(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with held_lock(path, "", "", mode=0o600) as descriptor:
        os.pwrite(descriptor, b"kept", 0)
    assert lock_path(path).read_bytes() == b"kept"
    assert stat.S_IMODE(lock_path(path).stat().st_mode) == 0o600
    assert not path.exists()


def test_one_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "linked.lock").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "no" / "folder", tmp_path / "linked"):
        with (
            pytest.raises(JournalError, match=r"\.lock: expected a lock file that can be written, found: .*; hint: "),
            held_lock(path, "", "", mode=0o600),
        ):
            pass
    assert not (tmp_path / "elsewhere").exists()
