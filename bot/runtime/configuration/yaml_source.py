"""A YAML file as plain values that remember their line, so that every complaint can name it.

Must never build anything but dicts, lists, texts and numbers, follow a reference, or let a secret into a message.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML, MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLWarning

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 20

_ENDLESS: Final = re.compile(r"(?:[\[{]\s*){200}")
_ALIAS: Final = re.compile(r"undefined alias.*", re.DOTALL)  # it may be a password that begins with a star
_ADDRESS: Final = re.compile("0x[0-9a-fA-F]{40}")
_VARIABLE: Final = re.compile("[A-Z][A-Z0-9_]*")
_SECRET: Final = re.compile(
    r"apikey|apisecret|accesskey|privatekey|walletaddress|secret|passw|passphrase|token|mnemonic|seedphrase|credential"
)

Value = dict[str, "Value"] | tuple["Value", ...] | str | int | float | bool | None
Location = tuple[str | int, ...]


class YamlSource:
    """One file: its `value`, and every problem met on the way to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._problems: list[tuple[int, str]] = []
        self._lines: dict[Location, int] = {(): 1}
        self._seen: set[int] = set()
        self._damaged: set[Location] = set()
        self.value: Value = None
        text = self._read()
        root = self._compose(text) if text is not None else None
        if root is not None:
            self.value = self._plain(root, ())

    @property
    def problems(self) -> list[str]:
        """Every problem reported so far, as `file:line: …`, from the top of the file down."""
        return [f"{self.path}:{line}: {text}" for line, text in sorted(self._problems, key=lambda problem: problem[0])]

    def has(self, location: Sequence[str | int]) -> bool:
        """Tell whether the file says something at `location`."""
        return tuple(location) in self._lines

    def is_damaged(self, location: Sequence[str | int]) -> bool:
        """Tell whether what stands at `location` could not be read and was reported: its value means nothing."""
        return tuple(location) in self._damaged

    def line(self, location: Sequence[str | int]) -> int:
        """Return the line (from 1) of the key or item at `location`, or of the nearest one that encloses it."""
        place = tuple(location)
        while place not in self._lines:
            place = place[:-1]
        return self._lines[place]

    def report(self, location: Sequence[str | int], expected: str, found: str, hint: str) -> None:
        """Add a problem at the line of `location`."""
        self._add(self.line(location), expected, found, hint)

    def relay(self, location: Sequence[str | int], text: str) -> None:
        """Add a problem that someone else has put into words."""
        self._problems.append((self.line(location), text))

    def _add(self, line: int, expected: str, found: str, hint: str) -> None:
        self._problems.append((line, f"expected {expected}, found {found}; hint: {hint}"))

    def _read(self) -> str | None:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            self.report((), "a readable file", f"{error.strerror}", "check the path")
            return None
        if len(content) > MAX_BYTES:
            self.report((), f"at most {MAX_BYTES:,} bytes", f"{len(content):,}", "is this a vault?")
            return None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self._add(line, "UTF-8 text", "other bytes", "save it as UTF-8")
            return None

    def _compose(self, text: str) -> Node | None:
        problem, line = "", 1
        # not left to the interpreter alone, whose limit libraries raise
        whole = text if not _ENDLESS.search(text) else ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", YAMLWarning)
                node: Node | None = YAML(typ="safe", pure=True).compose(whole)
        except MarkedYAMLError as error:
            problem = _ALIAS.sub("undefined alias", error.problem or error.context or "something else")
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
        except (YAMLError, YAMLWarning) as error:
            problem = str(error).strip().splitlines()[0]
        except RecursionError:
            problem = "brackets nested without end"
        else:
            if node is not None:
                return node
            problem = "brackets nested without end" if text and not whole else "an empty file"
        hint = "indent with spaces, not tabs" if "\\t" in problem else "see docs/configuration.md for a whole vault"
        self._add(line, "YAML", problem.removeprefix("found "), hint)
        return None

    def _plain(self, node: Node, location: Location) -> Value:
        """Return the node as plain values; what cannot be is reported and becomes None."""
        self._lines.setdefault(location, node.start_mark.line + 1)
        if id(node) in self._seen:
            self._damage(location, "the value itself", "an alias to it", "write it out")
            return None
        self._seen.add(id(node))
        if len(location) > MAX_DEPTH:
            self._damage(location, f"at most {MAX_DEPTH} levels", "more", "check the brackets")
            return None
        kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
        if isinstance(node, MappingNode) and kind == "map":
            return self._mapping(node, location)
        if isinstance(node, SequenceNode) and kind == "seq":
            return tuple(self._plain(item, (*location, index)) for index, item in enumerate(node.value))
        if isinstance(node, ScalarNode) and kind in _SCALARS:
            return _SCALARS[kind](str(node.value))
        self._damage(location, "plain YAML", f"the tag {node.tag}", "remove it")
        return None

    def _damage(self, location: Location, expected: str, found: str, hint: str) -> None:
        self._damaged.add(location)
        self.report(location, expected, found, hint)

    def _mapping(self, node: MappingNode, location: Location) -> Value:
        value: dict[str, Value] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._add(line, "a plain key", "a list or mapping as key", "check the colons and brackets")
                continue
            key = str(key_node.value)
            place = (*location, key)
            if key in value:
                self._add(line, "each key once", f"{key} again", f"it is already on line {self._lines[place]}")
                continue
            self._lines[place] = line
            is_harmless = _says_where_keys_are(place) or _is_contract(place, value_node) or _names_only(key, value_node)
            if names_secret(key) and not is_harmless:
                hint = "secrets come from the environment, or from a private file that credentials: names"
                self.report(place, "no secret in a file", f"the key {key}", hint)
                continue
            value[key] = self._plain(value_node, place)
        return value


def names_secret(key: str) -> bool:
    """Tell whether a key's name says that its value is a secret, however it is spelt."""
    return _SECRET.search(re.sub(r"[^a-z]", "", key.lower())) is not None


def _says_where_keys_are(place: Location) -> bool:
    return len(place) == 3 and place[0] == "venues" and place[2] == "credentials"


def _is_contract(place: Location, value: Node) -> bool:
    """Tell whether a key is a contract's role, such as base_token, and its value an address, which is no secret."""
    is_role = len(place) == 6 and place[0] == "chains" and place[2] == "hedges" and place[4] == "contracts"
    return is_role and isinstance(value, ScalarNode) and _ADDRESS.fullmatch(str(value.value)) is not None


def _names_only(key: str, value: Node) -> bool:
    """Tell whether a key of a desk file names the variable that holds a secret, or holds a password's hash."""
    text = str(value.value) if isinstance(value, ScalarNode) else ""
    return (key.endswith("_env") and _VARIABLE.fullmatch(text) is not None) or (
        key == "password_hash" and text.startswith("$argon2")
    )


def _number(text: str) -> Value:
    """Return the number the text is, or the text if it only looked like one to YAML's pattern."""
    digits = text.replace("_", "").lower()
    for read in (int, _based_int, float, _special_float):
        try:
            return read(digits)
        except ValueError:
            continue
    return text


def _based_int(digits: str) -> int:
    return int(digits, 0)


def _special_float(digits: str) -> float:
    return float(digits.replace(".", ""))


_SCALARS: Final[dict[str, Callable[[str], Value]]] = {
    "null": lambda _: None,
    "bool": lambda text: text.lower() in {"true", "yes", "on", "y"},
    "int": _number,
    "float": _number,
    "str": str,
    "timestamp": str,
    "merge": str,
    "value": str,
}
