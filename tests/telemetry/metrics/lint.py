"""What promtool would say of a text of metrics: names, types, help, units, nothing twice, nothing that is no number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from math import isfinite

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

NAME = re.compile(r"^(evenkeel|process)_[a-z0-9]+(_[a-z0-9]+)*$")
LABEL = re.compile(r"^[a-z][a-z0-9_]*$")
ABBREVIATED = re.compile(r"_(ms|us|ns|sec|secs|min|pct|percent|kb|mb)(_|$)")
RESERVED = ("_count", "_sum", "_bucket", "_created")
MAX_LABELS = 6


def families_of(text: str) -> dict[str, Metric]:
    """Return the metrics of a text by the name they are queried by."""
    found = list(text_string_to_metric_families(text))
    return {one.name + ("_total" if one.type == "counter" else ""): one for one in found}


def problems(text: str) -> list[str]:
    """Return what is wrong with a text of metrics."""
    declared = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    twice = sorted({name for name in declared if declared.count(name) > 1})
    found = [f"{name}: declared twice" for name in twice]
    if text and not text.endswith("\n"):
        found.append("expected the last line to end")
    for name, metric in families_of(text).items():
        found += [f"{name}: {what}" for what in _of_metric(name, metric)]
    return found


def _of_metric(name: str, metric: Metric) -> Iterator[str]:
    if not NAME.match(name) or ABBREVIATED.search(name) or name.endswith(RESERVED):
        yield "expected a name of words and base units"
    if metric.type not in ("gauge", "counter", "histogram"):
        yield f"expected a type, found {metric.type}"
    if metric.type != "counter" and name.endswith("_total"):
        yield "expected _total on counters only"
    if len(metric.documentation) < 10:
        yield "expected a help"
    seen = set()
    for sample in metric.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        if key in seen:
            yield f"twice {key}"
        seen.add(key)
        if not isfinite(sample.value):
            yield f"expected a number, found {sample.value} of {key}"
        if metric.type == "counter" and sample.value < 0.0:
            yield f"a counter below zero: {key}"
        if not all(LABEL.match(label) for label in sample.labels) or len(sample.labels) > MAX_LABELS:
            yield f"expected few plain labels, found {list(sample.labels)}"
    if metric.type == "histogram":
        yield from _of_histogram(metric)


def _of_histogram(metric: Metric) -> Iterator[str]:
    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    counts = {}
    for sample in metric.samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            series.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[labels] = sample.value
    for labels, buckets in series.items():
        if not all(low < high and few <= many for (low, few), (high, many) in pairwise(buckets)):
            yield f"expected rising buckets, found {buckets} of {labels}"
        if buckets[-1] != (float("inf"), counts.get(labels)):
            yield f"expected the last bucket to count all, found {buckets[-1]} of {counts.get(labels)}"
