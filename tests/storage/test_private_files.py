from __future__ import annotations

import os
from pathlib import Path

import pytest

from bot.domain.errors import VenueFatal
from bot.storage.private_files import read_private


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_ours_alone_is_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    assert read_private(path, "expected a key", 100) == b"secret"
    assert read_private(path, "expected a key", 3) == b"sec"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700, 0o601])
def test_one_that_others_may_open_is_not(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(VenueFatal, match=f"^expected a key, found mode {mode:04o}; hint: chmod 600 {path}$"):
        read_private(path, "expected a key", 100)


def test_a_link_or_a_pipe_is_not_and_nobody_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name, found in (("link", "a link is not followed"), ("fifo", "found something else"), ("gone", "No such file")):
        with pytest.raises(VenueFatal, match=f"^expected a key, .*{found}"):
            read_private(tmp_path / name, "expected a key", 100)
