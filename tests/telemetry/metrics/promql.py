"""Reads queries as Prometheus would: their grammar, and which metrics with which labels they ask for.

A part of PromQL, all that our dashboard and alerts use; what is beyond it is an error here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

AGGREGATIONS = {"sum", "max", "min", "avg", "count"}
FUNCTIONS = {"rate", "increase", "abs", "absent", "histogram_quantile"}
GROWING = {"rate", "increase"}
OPERATORS = [{"or"}, {"and", "unless"}, {"==", "!=", ">", "<", ">=", "<="}, {"+", "-"}, {"*", "/", "%"}]
TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    | (?P<range>\[(?:\d+[smhd]|\$__rate_interval|\$__interval)\])
    | (?P<sign>==|!=|>=|<=|=~|!~|[-+*/%<>=(){},])
    )""",
    re.VERBOSE,
)


class Asked(NamedTuple):
    """A metric as a query asks for it: by which labels, and in which function if over a stretch of time."""

    metric: str
    labels: tuple[str, ...]
    function: str


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            found = TOKEN.match(text, position)
            if found is None:
                raise ValueError(f"expected a token, found {text[position : position + 20]!r}")
            self.tokens.append((str(found.lastgroup), found.group().strip()))
            position = found.end()
        self.asked: list[Asked] = []
        self.grouped: list[tuple[tuple[str, ...], tuple[str, ...]]] = []  # labels, and the metrics they are of

    def peek(self) -> str:
        return self.tokens[0][1] if self.tokens else ""

    def take(self, *wanted: str, kind: str = "") -> str:
        found, text = self.tokens.pop(0) if self.tokens else ("end", "the end")
        if (wanted and text not in wanted) or (kind and found != kind):
            raise ValueError(f"expected {wanted or kind}, found {text}")
        return text

    def expression(self, level: int = 0, function: str = "") -> None:
        if level == len(OPERATORS):
            self.operand(function)
            return
        self.expression(level + 1, function)
        while self.peek() in OPERATORS[level]:
            self.take()
            self.expression(level + 1)

    def operand(self, function: str) -> None:
        kind, text = self.tokens[0] if self.tokens else ("end", "the end")
        if text == "-":
            self.take()
            self.operand("")
        elif kind == "number":
            self.take()
        elif text == "(":
            self.take()
            self.expression()
            self.take(")")
        elif text in AGGREGATIONS:
            self.aggregation()
        elif text in FUNCTIONS:
            self.take()
            self.take("(")
            self.expression(0, text)
            while self.peek() == ",":
                self.take()
                self.expression()
            self.take(")")
        elif kind == "name":
            self.selector(function)
        else:
            raise ValueError(f"expected a metric or a function, found {text}")

    def aggregation(self) -> None:
        self.take()
        labels: tuple[str, ...] = ()
        if self.peek() == "by":
            self.take()
            labels = self.names()
        first = len(self.asked)
        self.take("(")
        self.expression()
        self.take(")")
        self.grouped.append((labels, tuple(one.metric for one in self.asked[first:])))

    def names(self) -> tuple[str, ...]:
        self.take("(")
        found = [self.take(kind="name")]
        while self.peek() == ",":
            self.take()
            found.append(self.take(kind="name"))
        self.take(")")
        return tuple(found)

    def selector(self, function: str) -> None:
        metric = self.take(kind="name")
        labels = []
        if self.peek() == "{":
            self.take()
            while self.peek() != "}":
                labels.append(self.take(kind="name"))
                self.take("=", "!=", "=~", "!~")
                self.take(kind="string")
                if self.peek() != "}":
                    self.take(",")
            self.take("}")
        is_stretch = bool(self.tokens) and self.tokens[0][0] == "range"
        if is_stretch:
            self.take()
        if is_stretch != (function in GROWING):
            raise ValueError(f"expected a range in {sorted(GROWING)} and nowhere else, found {metric} in {function!r}")
        self.asked.append(Asked(metric, tuple(labels), function))


def problems(query: str, known: dict[str, tuple[str, tuple[str, ...]]]) -> list[str]:
    """Return what is wrong with a query; `known` is type and labels of every metric."""
    reader = _Reader(query)
    try:
        reader.expression()
        if reader.tokens:
            return [f"expected the end, found {reader.peek()}"]
    except ValueError as error:
        return [str(error)]
    found = []
    for one in reader.asked:
        if one.metric not in known:
            found.append(f"expected a metric that is exposed, found {one.metric}")
            continue
        kind, labels = known[one.metric]
        found += [f"{one.metric} has no label {label}" for label in one.labels if label not in labels]
        if (kind == "counter") != (one.function in GROWING):
            found.append(f"{one.metric} is a {kind}, found in {one.function or 'no function'}")
    for labels, metrics in reader.grouped:
        found += [
            f"{metric} has no label {label}"
            for metric in metrics
            for label in labels
            if metric in known and label not in known[metric][1]
        ]
    if not reader.asked:
        found.append("expected a metric, found none")
    return found
