from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.runtime.configuration.yaml_source import MAX_BYTES, YamlSource


def source(folder: Path, text: str | bytes) -> YamlSource:
    path = folder / "vault.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return YamlSource(path)


def test_values_are_plain_and_know_their_line(tmp_path: Path) -> None:
    read = source(tmp_path, "a: 1\nb:\n  - {c: 3.0e-4, d: yes}\n  - 'x'\ne: {f: null,\n    g: true}\n")
    assert read.problems == []
    assert read.value == {"a": 1, "b": ({"c": 3e-4, "d": "yes"}, "x"), "e": {"f": None, "g": True}}
    assert [read.line(place) for place in [("a",), ("b",), ("b", 0), ("b", 0, "d"), ("b", 1), ("e", "g")]] == [
        1,
        2,
        3,
        3,
        4,
        6,
    ]
    assert read.line(("b", 7, "nothing")) == 2
    assert read.has(("b", 1))
    assert not read.has(("b", 2))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("1_000", 1000),
        ("0x1F", 31),
        ("007", 7),
        ("-.inf", -math.inf),
        ("+_", "+_"),
        ("2023-04-28", "2023-04-28"),
        ("'5'", "5"),
        ("~", None),
    ],
)
def test_scalars(tmp_path: Path, text: str, value: object) -> None:
    assert source(tmp_path, f"a: {text}").value == {"a": value}


def test_not_a_number_is_read_as_one(tmp_path: Path) -> None:
    value = source(tmp_path, "a: .nan").value
    assert isinstance(value, dict)
    assert isinstance(value["a"], float)
    assert math.isnan(value["a"])


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "found an empty file"),
        ("a: 1\n\tb: 2\n", 2, "hint: indent with spaces, not tabs"),
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "expected YAML"),
        ("a: 1\nb: 'open\n", 3, "found unexpected end of stream"),
        ("a: 1\nb: 2\na: 3\n", 3, "found a again; hint: it is already on line 1"),
        ("a: &x 1\nb: *x\n", 2, "found an alias"),
        ("a: 1\nb: &x [*x]\n", 2, "found an alias"),
        ("a: *hunter2\n", 1, "found undefined alias; hint"),
        ("a: &x 1\nb: &x 2\n", 1, "found duplicate anchor 'x'"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "found the tag"),
        ("a: 1\nb: !mine {}\n", 2, "found the tag !mine"),
        ("a: 1\n? [b]\n: 2\n", 2, "found a list or mapping as key"),
        ("a: 1\n---\nb: 2\n", 2, "found another document"),
        ("a: 1\nb: \x00\n", 1, "special characters are not allowed"),
        ("a: " + "[" * 30 + "]" * 30, 1, "expected at most 20 levels"),
        ("[" * 500, 1, "nested without end"),
        ("a: " + "x" * MAX_BYTES, 1, "expected at most 262,144 bytes"),
        (b"a: 1\nb: \xff\n", 2, "expected UTF-8"),
    ],
)
def test_what_is_not_plain_yaml_is_reported_at_its_line(
    tmp_path: Path, text: str | bytes, line: int, problem: str
) -> None:
    read = source(tmp_path, text)
    assert len(read.problems) == 1, read.problems
    assert read.problems[0].startswith(f"{tmp_path}/vault.yaml:{line}: expected ")
    assert problem in read.problems[0]


@pytest.mark.parametrize("path", ["", "missing.yaml", "vault.yaml/x"])
def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, path: str) -> None:
    source(tmp_path, "a: 1")
    (problem,) = YamlSource(tmp_path / path).problems
    assert "expected a readable file" in problem


@pytest.mark.parametrize(
    "key", ["api_key", "apiSecret", "PASSWORD", "passphrase", "private-key", "access_token", "mnemonic", "secret"]
)
def test_a_secret_is_refused_anywhere_and_never_repeated(tmp_path: Path, key: str) -> None:
    read = source(tmp_path, f"a: 1\nb:\n  - {{c: 2, {key}: hunter2}}\n")
    assert read.value == {"a": 1, "b": ({"c": 2},)}
    (problem,) = read.problems
    assert problem.startswith(f"{tmp_path}/vault.yaml:3: expected no secret in a file, found the key {key}; hint: ")
    assert "hunter2" not in problem


def test_the_role_of_a_contract_on_a_chain_is_no_secret(tmp_path: Path) -> None:
    text = "chains: {{c: {{hedges: {{PERP: {{{place}: {{base_token: {value}}}}}}}}}}}\n"
    address = "0x" + 40 * "1"
    assert source(tmp_path, text.format(place="contracts", value=address)).problems == []
    for place, value in (("route", address), ("contracts", "hunter2")):
        (problem,) = source(tmp_path, text.format(place=place, value=value)).problems
        assert "found the key base_token" in problem
        assert value not in problem


def test_problems_are_told_from_the_top_down(tmp_path: Path) -> None:
    read = source(tmp_path, "a: 1\nb: 2\nc: 3\n")
    read.report(("c",), "less", "3", "take 2")
    read.relay(("a",), "as someone else put it")
    assert read.problems == [
        f"{tmp_path}/vault.yaml:1: as someone else put it",
        f"{tmp_path}/vault.yaml:3: expected less, found 3; hint: take 2",
    ]


@given(st.one_of(st.binary(max_size=200), st.text("ab:-[]{}!&*|>'\"%@`#?,~<= \n\t0._", max_size=80)))
def test_no_bytes_raise_anything(tmp_path_factory: pytest.TempPathFactory, content: bytes | str) -> None:
    read = source(tmp_path_factory.getbasetemp(), content)
    assert read.value is not None or read.problems or content


def test_a_contract_may_be_called_a_token_where_it_is_an_address(tmp_path: Path) -> None:
    text = "chains: {{a: {{hedges: {{b: {{contracts: {{base_token: {}}}}}}}}}}}\n"
    path = tmp_path / "vault.yaml"
    path.write_text(text.format('"0x' + 40 * "1" + '"'))
    assert not YamlSource(path).problems
    path.write_text(text.format("hunter2"))
    [problem] = YamlSource(path).problems
    assert "found the key base_token" in problem
    assert "hunter2" not in problem
