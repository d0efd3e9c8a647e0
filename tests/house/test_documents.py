"""The documents tell the truth: their commands parse, their files exist, their vault is the one in config/."""

from __future__ import annotations

import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML
from typer.core import TyperGroup

from bot.runtime.cli.app import app
from tests.house.sources import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
TEXTS = [*DOCUMENTS, ROOT / "scripts" / "demo"]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(evenkeel [^`\n]+)`")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
SCRIPT = re.compile(r"(?<![\w/.])(?:\./)?(scripts/\w+|\.ci/run)\b")
END_OF_COMMAND = {"|", "||", "&&", ";", "&", ">", ">>", "2>", "<"}


def commands(text: str) -> list[str]:
    """Return every `evenkeel …` command line of a document or script, in code blocks and in running text."""
    blocks = [body for _, body in FENCED.findall(text)] if FENCED.search(text) else [text]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    starts = ("evenkeel ", "$ evenkeel ", ".venv/bin/evenkeel ", "$ .venv/bin/evenkeel ")
    return [line.strip() for line in lines if line.strip().startswith(starts)] + INLINE.findall(text)


@cache
def command_line() -> TyperGroup:
    """Return all commands, built once for the hundreds of lines."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def problem(line: str) -> str:
    """Return why the command line would refuse `line`, "" where it would take it; nothing is run."""
    words = shlex.split(line.removeprefix("$ ").replace("…", ""), comments=True)[1:]
    words = words[: next((n for n, word in enumerate(words) if word in END_OF_COMMAND), len(words))]
    command = command_line()
    while words and not words[0].startswith("-") and (known := getattr(command, "commands", None)):
        if words[0] not in known and "show" in known:
            words.insert(0, "show")  # `evenkeel risk VAULT.yaml` is short for it
        if words[0] not in known:
            return f"expected one of {sorted(known)}, found {words[0]}"
        command = known[words.pop(0)]
    if not words:
        return ""  # the text only names the command
    missing = [word for word in words if word.startswith("config/") and not (ROOT / word).exists()]
    if missing:
        return f"expected files that exist, found {missing}"
    try:
        command.make_context("evenkeel", words)
    except typer.Exit:
        return ""
    except typer.TyperException as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_parse(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    problems = {line: found for line in commands(text) if (found := problem(line))}
    assert problems == {}


def test_the_readme_and_the_demo_hold_commands() -> None:
    assert len(commands((ROOT / "README.md").read_text(encoding="utf-8"))) >= 5
    assert len(commands((ROOT / "scripts" / "demo").read_text(encoding="utf-8"))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "evenkeel repaly config/eth-straddle.yaml",
        "evenkeel replay config/eth-straddle.yaml --no-such-option",
        "evenkeel replay config/no-such-vault.yaml",
        "evenkeel journal verifi journal.sqlite",
    ],
)
def test_a_planted_error_is_found(line: str) -> None:
    assert commands(f"Try this:\n```sh\n$ {line}  # and see\n```\n") == [f"$ {line}  # and see"]
    assert problem(line)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_scripts_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    missing = [link for link in LINK.findall(text) if not (path.parent / link).exists()]
    missing += [script for script in SCRIPT.findall(text) if not (ROOT / script).exists()]
    assert missing == []


def test_the_vault_of_the_readme_is_the_one_of_the_demo() -> None:
    yaml = YAML(typ="safe")
    shown = [
        body
        for language, body in FENCED.findall((ROOT / "README.md").read_text(encoding="utf-8"))
        if language == "yaml"
    ]
    assert len(shown) == 1
    assert yaml.load(shown[0]) == yaml.load((ROOT / "config" / "eth-straddle.yaml").read_text(encoding="utf-8"))


def test_every_dependency_says_why_it_is_there() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [re.split(r"[^\w.-]", line)[0] for line in wanted]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert [name for name in names if f"**{name}**" not in text] == []
