"""What may be committed: nothing large, no address packages are fetched from, no path of one machine."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.house.sources import ROOT, files

MAX_FILE_BYTES = 5_000_000

# Spelled in pieces, so that this file does not hold what it looks for.
REGISTRIES = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "registry.npm" + "js.org",
    "deb.deb" + "ian.org",
    "crates" + ".io",
]
PLACES = ["/" + name + "/" for name in ("work", "root", "home", "Users", "tmp")]
ADDRESSES = re.compile("|".join(re.escape(host) for host in REGISTRIES))
MACHINE_PATHS = re.compile(r"(?<![\w.$}~])(" + "|".join(PLACES) + ")")
DOWNLOADS = re.compile(r"https?://\S+\.(whl|tgz|tar\.gz|deb)\b")


def texts() -> list[tuple[str, str]]:
    """Return path and text of every file that is text."""
    found = []
    for path in files():
        data = path.read_bytes()
        if b"\0" not in data:
            found.append((str(path.relative_to(ROOT)), data.decode("utf-8")))
    return found


def test_no_file_is_large() -> None:
    large = {
        str(path.relative_to(ROOT)): path.stat().st_size for path in files() if path.stat().st_size > MAX_FILE_BYTES
    }
    assert large == {}


def test_no_file_names_where_packages_come_from() -> None:
    found = [f"{name}: {hit.group()}" for name, text in texts() for hit in ADDRESSES.finditer(text)]
    found += [f"{name}: {hit.group()}" for name, text in texts() for hit in DOWNLOADS.finditer(text)]
    assert found == []


def test_no_file_holds_a_path_of_one_machine() -> None:
    here = {str(ROOT), str(Path.home())} - {"/"}
    found = [f"{name}: {place}" for name, text in texts() for place in here if place + "/" in text]
    found += [f"{name}: {hit.group()}" for name, text in texts() for hit in MACHINE_PATHS.finditer(text)]
    assert found == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-run.lock"])
def test_the_lock_pins_every_package_with_hashes(name: str) -> None:
    lock = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in lock.splitlines() if line and not line.startswith("#")]
    unpinned = [line for line in lines if not re.match(r"[\w.-]+==[\w.]+ .*--hash=sha256:[0-9a-f]{64}", line)]
    assert len(lines) > 20
    assert unpinned == []


def test_the_lock_covers_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))
    names = {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", line)[0]).lower() for line in wanted}
    assert names <= locked


def test_scripts_can_be_run() -> None:
    files = [path for path in [*ROOT.glob("scripts/*"), ROOT / ".ci" / "run"] if path.is_file()]
    programs = [path for path in files if path.read_bytes().startswith(b"#!")]
    assert programs
    assert [path.name for path in programs if not os.access(path, os.X_OK)] == []
