"""What `scripts/audit` makes of the databases' answers: it never calls a package clean that nobody was asked about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.house.sources import ROOT
from tests.house.test_bench import load

LOCK = "aiohttp==3.1 \\\n    --hash=sha256:00\nattrs==2.0 \\\n    --hash=sha256:11\n"
CLEAN = [{"name": "aiohttp", "version": "3.1", "vulns": []}, {"name": "attrs", "version": "2.0", "vulns": []}]
UNASKED = [{"name": "attrs", "skip_reason": "Dependency not found"}]


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([CLEAN], 0, "2 packages, no known vulnerability"),
        ([CLEAN[:1], CLEAN[1:]], 0, "2 packages, no known vulnerability"),
        ([CLEAN, [{**CLEAN[0], "vulns": [{"id": "CVE-1"}]}]], 1, "aiohttp 3.1: CVE-1"),
        ([[CLEAN[0], *UNASKED]], 3, "no database answered for 1 of 2 packages:\nattrs 2.0: "),
        ([], 3, "no database answered for 2 of 2 packages:"),
        (None, 3, "no database answered for 2 of 2 packages:"),
    ],
)
def test_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: list[object] | None, code: int, said: str
) -> None:
    (tmp_path / "lock").write_text(LOCK)
    for number, answer in enumerate(answers or []):
        (tmp_path / f"{number}.json").write_text(json.dumps({"dependencies": answer}))
    if answers is None:
        (tmp_path / "osv.json").write_text("not JSON")
    assert load("audit_report").main(tmp_path, tmp_path / "lock") == code
    assert said in capsys.readouterr().out


def test_every_pin_of_ours_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = ROOT / "requirements.lock"
    lines = [line for line in lock.read_text().splitlines() if "==" in line and not line.startswith((" ", "#"))]
    pins = len({line.partition("==")[0] for line in lines})  # one may be pinned twice, for two platforms
    assert load("audit_report").main(tmp_path, lock) == 3
    assert f"for {pins} of {pins} packages" in capsys.readouterr().out
