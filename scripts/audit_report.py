"""What databases said of every pinned package, for `scripts/audit`; where none was reached, the list of packages."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, Final

CLEAN: Final = 0
KNOWN: Final = 1
NOT_REACHED: Final = 3


def main(answers: Path, lock: Path) -> int:
    """Print the report; return the exit code."""
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE))
    asked: set[str] = set()
    found: dict[tuple[str, str], set[str]] = {}
    for path in sorted(answers.glob("*.json")):
        for one in read(path):
            if "vulns" in one:
                asked.add(one["name"])
                if one["vulns"]:
                    found.setdefault((one["name"], one["version"]), set()).update(v["id"] for v in one["vulns"])
    for (name, version), ids in sorted(found.items()):
        print(f"{name} {version}: {', '.join(sorted(ids))}")
    if found:
        return KNOWN
    unasked = {name: version for name, version in pinned.items() if name not in asked}
    if not unasked:
        print(f"{len(pinned)} packages, no known vulnerability")
        return CLEAN
    print(f"no database answered for {len(unasked)} of {len(pinned)} packages:")
    for name, version in sorted(unasked.items()):
        print(f"{name} {version}: {licence_of(name)}")
    return NOT_REACHED


def read(path: Path) -> list[dict[str, Any]]:
    """Return what one database said of each package; nothing if it said nothing that can be read."""
    try:
        said: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return said.get("dependencies", [])


def licence_of(name: str) -> str:
    """Return the licence a package states of itself."""
    try:
        stated = metadata(name)
    except PackageNotFoundError:
        return "not installed here"
    given = stated.get_all("License-Expression", [])
    classified = [one.rpartition(" :: ")[2] for one in stated.get_all("Classifier", []) if one.startswith("License ::")]
    named = [one.splitlines()[0][:60] for one in stated.get_all("License", []) if one.strip()]
    return ", ".join(given or classified or named[:1]) or "not stated"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
