"""What a scrape gets: every family over every vault, in the types of prometheus_client.

Two samples alike would make Prometheus refuse the whole scrape, and labels without bound would fill it: both are left
out here and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bot import __version__
from bot.domain.windows import DurationCounts
from bot.telemetry.metrics.board import Board, Tally
from bot.telemetry.metrics.families import Family, families

MAX_SERIES = 200  # of one metric and one vault
MAX_LABEL = 100  # characters
FAMILIES: Final = families()

AnyFamily = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
TYPES: Final = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}


class VaultCollector(Collector):
    """Collects the metrics of every vault on a board."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        """Yield every metric with all its samples; called once per scrape, by the registry."""
        dropped = GaugeMetricFamily(
            "evenkeel_series_dropped", "Series left out of this scrape: twice the same, or too many", labels=["metric"]
        )
        for family in FAMILIES:
            metric, left_out = self._collect(family)
            if left_out:
                dropped.add_metric([family.name], left_out)
            yield metric
        yield dropped
        yield from self._of_the_windows()

    def _of_the_windows(self) -> Iterator[Metric]:
        """Yield what is of no vault."""
        around = self._board.neighbours
        build = GaugeMetricFamily("evenkeel_build_info", "Version of the windows, always 1", labels=["version"])
        build.add_metric([__version__], 1.0)
        yield build
        refused = CounterMetricFamily(
            "evenkeel_commands_refused_total", "Commands no daemon was given, by reason", labels=["reason"]
        )
        tally = Tally()
        for reason, count in around.refused_commands().items():
            tally.count(reason, count)
        for reason, count in tally.items():
            refused.add_metric([reason], float(count))
        yield refused
        away_ns = around.broker_away_ns()
        yield GaugeMetricFamily(
            "evenkeel_broker_away_seconds",
            "Seconds since the MQTT broker went away, 0 while it is there or none is used",
            self._board.since_s(away_ns) if away_ns else 0.0,
        )
        yield CounterMetricFamily(
            "evenkeel_states_dropped_total",
            "States that made way for newer ones before they were published",
            float(around.dropped_states()),
        )

    def _collect(self, family: Family) -> tuple[Metric, int]:
        metric: AnyFamily = TYPES[family.kind](family.name, family.told, labels=["vault", *family.labels])
        left_out = 0
        for record in list(self._board.records.values()):
            seen: set[tuple[str, ...]] = set()
            for labels, value in family.read(self._board, record):
                if value is None or (not isinstance(value, DurationCounts) and not isfinite(value)):
                    continue
                cut = tuple(label[:MAX_LABEL] for label in labels)
                if cut in seen or len(seen) >= MAX_SERIES:
                    left_out += 1
                    continue
                seen.add(cut)
                _add(metric, [record.vault, *cut], value)
        return metric, left_out


def _add(metric: AnyFamily, labels: list[str], value: float | DurationCounts) -> None:
    if isinstance(value, DurationCounts):
        assert isinstance(metric, HistogramMetricFamily), f"expected a histogram, found {metric.name}"
        metric.add_metric(labels, list(_buckets(value)), value.sum_s)
    else:
        assert not isinstance(metric, HistogramMetricFamily), f"expected counts of durations for {metric.name}"
        metric.add_metric(labels, value)


def _buckets(counts: DurationCounts) -> Iterator[tuple[str, float]]:
    """Yield counts up to each bound, and of all."""
    for bound_s, count in zip(counts.bounds_s, counts.counts, strict=True):
        if isfinite(bound_s):
            yield str(bound_s), float(count)
    yield "+Inf", float(counts.count)


def registry_of(board: Board) -> CollectorRegistry:
    """Return a registry of the board's vaults and of this process."""
    registry = CollectorRegistry()
    registry.register(VaultCollector(board))
    ProcessCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """Return the metrics as text (format 0.0.4)."""
    return generate_latest(registry)
