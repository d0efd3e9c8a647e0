"""What runs Evenkeel as a service: the units verify, image and compose file are what docs/service.md says they are."""

from __future__ import annotations

import getpass
import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.desk_file import load_desk
from bot.runtime.dashboard.config import hosts_of
from tests.broker import free_port
from tests.house.sources import ROOT, imports, modules
from tests.house.test_documents import problem
from tests.runtime.command_line import wait_for

SERVICE = ROOT / "config" / "service"
UNITS = sorted(SERVICE.glob("*.service"))
PROGRAM = "/opt/evenkeel/bin/evenkeel"
PAGE = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
OURS = ("evenkeel", "dashboard")


def settings(unit: Path) -> list[tuple[str, str]]:
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in found]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, set[str]]:
    """Return what a lock says of each package: version, platforms and hashes, of all its lines."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / lock).read_text().replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            found.setdefault(normal(line.partition("==")[0]), set()).add(" ".join(line.split()))
    return found


def compose() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((SERVICE / "compose.yaml").read_text())
    return found


class TestUnits:
    @pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
    def test_systemd_takes_it(self, unit: Path, tmp_path: Path) -> None:
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace(PROGRAM, str(shutil.which("true"))))  # ours is not installed here
        checked = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")

    @pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
    def test_it_is_as_exposed_as_the_page_says(self, unit: Path) -> None:
        command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        (score,) = re.findall(r"exposure level for \S+: ([\d.]+)", told)
        assert f"says **{score} OK**" in PAGE

    @pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
    def test_its_command_is_one_of_ours(self, unit: Path) -> None:
        (command,) = [value for key, value in settings(unit) if key == "ExecStart"]
        assert command.startswith(f"{PROGRAM} ")
        assert problem(command.replace(PROGRAM, "evenkeel", 1)) == ""

    def test_what_is_said_of_it(self) -> None:
        said = dict(settings(SERVICE / "evenkeel.service"))
        assert (said["Type"], said["NotifyAccess"], said["KillMode"]) == ("notify", "main", "mixed")
        assert said["RestartPreventExitStatus"] == "2 70"  # Exit.CONFIG and Exit.INVARIANT
        assert "MemoryDenyWriteExecute" not in said


class TestImage:
    def test_it_is_built_in_two_stages_and_runs_as_nobody(self) -> None:
        found = instructions()
        stages = [rest for name, rest in found if name == "FROM"]
        assert len(stages) == 2
        assert all(re.fullmatch(r"python:3\.\d+-slim( AS build)?", stage) for stage in stages)
        last = [place for place, (name, _) in enumerate(found) if name == "FROM"][-1]
        assert [rest for name, rest in found[last:] if name == "USER"] == ["10001:10001"]
        assert "ADD" not in {name for name, _ in found}
        assert not any(re.search(r"\b(curl|wget)\b|https?://", rest) for name, rest in found if name == "RUN")

    def test_what_it_copies_is_there_and_gets_in(self) -> None:
        lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
        assert lines[0] == "*"  # nothing gets in but what is named
        let_in = {line[1:] for line in lines if line.startswith("!")}
        sources = {
            name
            for step, rest in instructions()
            if step == "COPY" and not rest.startswith("--from")
            for name in rest.split()[:-1]
        }
        assert sources == let_in
        assert [name for name in sources if not (ROOT / name).exists()] == []
        assert not any(fnmatch("secrets.env", line) for line in let_in)

    def test_what_it_installs_is_what_runs(self) -> None:
        """The pins of the whole, those of packages that only tests need left out, and all that the program imports."""
        (lock,) = {one for _, rest in instructions() for one in re.findall(r"[\w-]+\.lock", rest)}
        run, whole = pins(lock), pins("requirements.lock")
        assert run.items() <= whole.items()
        extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["test"]
        assert not {normal(re.split(r"[^\w.-]", line)[0]) for line in extra} & run.keys()
        found = metadata.packages_distributions()
        imported = {name.partition(".")[0] for one in modules() for _, name in imports(one)}
        missing = [
            name
            for name in imported - sys.stdlib_module_names - {"bot", "strategies"}
            if not any(normal(one) in run for one in found.get(name, []))
        ]
        assert missing == []

    def test_its_entry_command_is_the_page_s(self) -> None:
        found = dict(instructions())
        command = " ".join([*json.loads(found["ENTRYPOINT"]), *json.loads(found["CMD"])])
        assert f"```sh\n{command}\n```" in PAGE
        assert problem(command) == ""

    def test_what_it_sets_is_no_secret(self) -> None:
        assert not re.search(r"(?i)secret|password|token|key", dict(instructions())["ENV"])


class TestCompose:
    @pytest.mark.parametrize("name", ["evenkeel", "dashboard", "mosquitto", "prometheus"])
    def test_every_service_is_hardened_and_bounded(self, name: str) -> None:
        service = compose()["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"mem_limit", "pids_limit", "restart"} <= service.keys()
        assert not {"privileged", "network_mode", "pid", "ipc", "cap_add", "devices", "environment"} & service.keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))

    def test_there_are_no_others(self) -> None:
        assert set(compose()["services"]) == {"evenkeel", "dashboard", "mosquitto", "prometheus"}

    def test_what_it_mounts_is_there_or_is_the_operator_s_to_make(self) -> None:
        made = {"./passwd", "./tls"}
        mounts = [line.split(":")[0] for one in compose()["services"].values() for line in one.get("volumes", ())]
        missing = [path for path in mounts if path.startswith(".") and not (SERVICE / path).exists()]
        assert set(missing) == made
        assert all(path in PAGE for path in ("passwd", "tls"))
        for service in compose()["services"].values():
            for file in service.get("env_file", ()):
                assert (SERVICE / f"{file}.example").is_file()
                assert not (SERVICE / file).exists()

    def test_its_commands_parse(self) -> None:
        for name in OURS:
            assert problem("evenkeel --log-json " + " ".join(compose()["services"][name]["command"])) == ""

    def test_its_files_are_good(self) -> None:
        desk = load_desk(SERVICE / "desk.yaml")
        (vault,) = load_vaults([SERVICE / ".." / "paper-deribit.yaml"], allow_live=True)
        assert vault.mode == "paper"
        assert desk.mqtt is not None
        assert desk.mqtt.host == "mosquitto"
        assert desk.dashboard is not None
        assert {"localhost", "127.0.0.1"} <= set(hosts_of(desk.dashboard))  # as the port is published
        named = set(re.findall(r"[A-Z]+_[A-Z_]+", (SERVICE / "desk.yaml").read_text()))
        given = {
            name
            for file in ("secrets.env.example", "dashboard.env.example")
            for name in re.findall(r"^([A-Z_]+)=$", (SERVICE / file).read_text(), re.MULTILINE)
        }
        assert named == given

    def test_mosquitto_takes_its_configuration(self, tmp_path: Path) -> None:
        port = free_port()
        (tmp_path / "passwd").write_text("")
        (tmp_path / "passwd").chmod(0o600)
        text = (SERVICE / "mosquitto.conf").read_text()
        text = text.replace("listener 1883", f"listener {port} 127.0.0.1").replace("/mosquitto/config", str(tmp_path))
        text = text.replace("/mosquitto/data/", f"{tmp_path}/") + f"user {getpass.getuser()}\n"
        (tmp_path / "m.conf").write_text(text)
        log = tmp_path / "log"
        with (
            log.open("w") as file,
            subprocess.Popen(["mosquitto", "-c", str(tmp_path / "m.conf")], stderr=file, stdout=file) as broker,
        ):
            try:
                refused = wait_for(lambda: broker.poll() or refusal(port))
            finally:
                broker.terminate()
        assert "not authorised" in str(refused).lower(), log.read_text()
        assert "Error" not in log.read_text()


def refusal(port: int) -> str:
    """Return why a broker does not let in who names no password, "" while none listens."""
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", "x", "-n"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    return said if "Connection error" in said else ""


def health_check() -> list[str]:
    """Return what the image asks how it is with, for this interpreter."""
    found = dict(instructions())["HEALTHCHECK"]
    return [sys.executable, *json.loads(found[found.index("[") :])[1:]]
