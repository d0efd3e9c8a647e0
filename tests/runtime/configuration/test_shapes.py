"""What is said of a file's shape."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from bot.runtime.configuration.desk import Desk
from bot.runtime.configuration.shapes import keys_at, nearest, report_shape, short
from bot.runtime.configuration.yaml_source import YamlSource


def test_a_problem_names_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "desk.yaml"
    path.write_text("http:\n  hots: a\n  port: many\n")
    source = YamlSource(path)
    try:
        Desk.model_validate(source.value)
    except ValidationError as error:
        report_shape(source, error.errors(include_url=False), Desk, "see the page")
    assert source.problems == [
        f"{path}:2: expected one of the keys host, port, found hots; hint: did you mean host?",
        f"{path}:3: expected a whole number, found 'many'; hint: Port to listen at",
    ]


def test_keys_and_hints() -> None:
    assert keys_at(("mqtt", "tls"), Desk) == ["ca_file", "cert_file", "key_file"]
    assert nearest("aleerts", ["alerts", "http"], "see the page") == "did you mean alerts?"
    assert nearest("zzz", ["alerts", "http"], "see the page") == "see the page"
    assert short("a\x00b") == "'a\\x00b'"
    assert len(short("x" * 100)) == 61


def test_a_text_that_may_be_a_secret_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "desk.yaml"
    path.write_text("http: {port: hunter2, host: {hunter3: 1}, Hunter4: 1}\nissuers: hunter5\nmqtt: {port: 0}\n")
    source = YamlSource(path)
    try:
        Desk.model_validate(source.value)
    except ValidationError as error:
        report_shape(source, error.errors(include_url=False), Desk, "see the page", is_quoting=False)
    said = "\n".join(source.problems)
    assert "unter" not in said
    for found in ("found another text", "found a mapping", "found something else", "found 0"):
        assert found in said
