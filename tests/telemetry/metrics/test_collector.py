"""A scrape is one that Prometheus takes, whatever the states hold."""

from __future__ import annotations

from math import inf, nan

import msgspec

from bot import __version__
from bot.domain.windows import DurationCounts, FeedState, Meters
from bot.telemetry.metrics.board import MAX_WORDS, Board, Neighbours
from bot.telemetry.metrics.collector import MAX_LABEL, MAX_SERIES, registry_of, render
from tests.telemetry.metrics.lint import families_of, problems
from tests.telemetry.states import COUNTS, NOW_NS, STATE, UNDERLYING, state, told

EMPTY = msgspec.structs.replace(
    STATE, underlyings=(), orders=(), venues=(), feeds=(), accounts=(), transactions_now=(), refusals={}, pnl_quote={}
)


def scrape(board: Board) -> str:
    return render(registry_of(board)).decode()


def test_what_prometheus_is_told_has_no_fault() -> None:
    board = Board(["eth-straddle", "btc", "silent"])
    board.show(state())
    board.show(state(vault="btc"))
    board.tell(told(1, "fill"))
    assert problems(scrape(board)) == []


def test_before_the_first_answer_it_is_only_known_that_there_is_none() -> None:
    text = scrape(Board(["eth-straddle"]))
    assert problems(text) == []
    of_vaults = [line for line in text.splitlines() if 'vault="' in line]
    assert [line.partition("{")[0] for line in of_vaults if "alerts" not in line] == [
        "evenkeel_up",
        "evenkeel_silence_seconds",
    ]


def test_an_empty_state_is_no_fault() -> None:
    board = Board([])
    board.show(EMPTY)
    assert problems(scrape(board)) == []


def test_what_is_no_number_is_left_out() -> None:
    board = Board([])
    odd = msgspec.structs.replace(UNDERLYING, spot_px=nan, value_quote=inf, delta_low_base=-inf, delta_high_base=None)
    board.show(state(underlyings=(odd,)))
    text = scrape(board)
    assert problems(text) == []
    found = families_of(text)
    for name in ("spot_quote", "value_quote", "delta_low_base", "delta_high_base"):
        assert found[f"evenkeel_{name}"].samples == []


def test_two_alike_and_too_many_are_left_out_and_counted() -> None:
    board = Board([])
    feeds = [FeedState(f"leg {n}", "vol", 1.0, 60.0, is_stale=False) for n in range(MAX_SERIES + 30)]
    board.show(state(feeds=(feeds[0], *feeds), underlyings=(UNDERLYING, UNDERLYING)))
    text = scrape(board)
    assert problems(text) == []
    found = families_of(text)
    assert len(found["evenkeel_feed_age_seconds"].samples) == MAX_SERIES
    left_out = {one.labels["metric"]: one.value for one in found["evenkeel_series_dropped"].samples}
    assert left_out["evenkeel_feed_age_seconds"] == 31
    assert left_out["evenkeel_spot_quote"] == 1
    assert found["evenkeel_feeds"].samples[0].value == MAX_SERIES + 31  # of what is left out the number is still told


def test_names_from_outside_cannot_break_a_line_or_fill_it() -> None:
    board = Board([])
    nasty = 'a"b\\c\nevenkeel_up{vault="x"} 1\n' + "x" * 10_000
    board.show(state(feeds=(FeedState(nasty, "vol", 1.0, 60.0, is_stale=False),), refusals={nasty: 1}))
    text = scrape(board)
    assert problems(text) == []
    (sample,) = families_of(text)["evenkeel_feed_age_seconds"].samples
    assert sample.labels["feed"] == nasty[:MAX_LABEL]
    assert len(families_of(text)["evenkeel_up"].samples) == 1


def test_durations_beyond_the_last_bound_count_in_all() -> None:
    board = Board([])
    one = DurationCounts((0.001, 0.01), (1, 2), 100.0, 9)
    board.show(state(meters=Meters(one, {"sent_to_ack": COUNTS, "ack_to_fill": one}, 0.0, 0.0, 1, 0)))
    text = scrape(board)
    assert problems(text) == []
    registry = registry_of(board)
    labels = {"vault": "eth-straddle", "step": "ack_to_fill"}
    assert registry.get_sample_value("evenkeel_step_seconds_bucket", {**labels, "le": "+Inf"}) == 9
    assert registry.get_sample_value("evenkeel_step_seconds_sum", labels) == 100.0


def test_what_other_windows_know_is_asked_for_at_each_scrape() -> None:
    refused = {"expired": 3}
    away = [0]
    around = Neighbours(refused_commands=lambda: refused, broker_away_ns=lambda: away[0], dropped_states=lambda: 12)
    registry = registry_of(Board([], around, wall_ns=lambda: NOW_NS))
    assert registry.get_sample_value("evenkeel_commands_refused_total", {"reason": "expired"}) == 3
    assert registry.get_sample_value("evenkeel_broker_away_seconds") == 0
    assert registry.get_sample_value("evenkeel_states_dropped_total") == 12
    assert registry.get_sample_value("evenkeel_build_info", {"version": __version__}) == 1
    away[0] = NOW_NS - 90_000_000_000
    refused.update({f"made up {n}": 1 for n in range(10 * MAX_WORDS)})
    assert registry.get_sample_value("evenkeel_broker_away_seconds") == 90
    found = families_of(render(registry).decode())["evenkeel_commands_refused_total"].samples
    assert len(found) == MAX_WORDS + 1
    assert sum(sample.value for sample in found) == 3 + 10 * MAX_WORDS


def test_the_lint_finds_what_prometheus_would_refuse() -> None:
    good = "# HELP evenkeel_up Whether it is\n# TYPE evenkeel_up gauge\n"
    histogram = "# HELP evenkeel_x_seconds Some time\n# TYPE evenkeel_x_seconds histogram\n"
    assert problems(good + "evenkeel_up 1\n") == []
    for text in (
        good + "evenkeel_up 1\nevenkeel_up 1\n",
        good + "evenkeel_up NaN\n",
        good + good + "evenkeel_up 1\n",
        good.replace("_up", "_lag_ms") + "evenkeel_lag_ms 1\n",
        good.replace("_up", "_up_total") + "evenkeel_up_total 1\n",
        good.replace("gauge", "untyped") + "evenkeel_up 1\n",
        "# TYPE evenkeel_up gauge\nevenkeel_up 1\n",
        good.replace("_up", "_Up") + "evenkeel_Up 1\n",
        "# HELP evenkeel_a_total Counts something\n# TYPE evenkeel_a_total counter\nevenkeel_a_total -1\n",
        histogram
        + 'evenkeel_x_seconds_bucket{le="1"} 5\nevenkeel_x_seconds_bucket{le="+Inf"} 4\nevenkeel_x_seconds_count 4\n',
        histogram
        + 'evenkeel_x_seconds_bucket{le="1"} 3\nevenkeel_x_seconds_bucket{le="+Inf"} 4\nevenkeel_x_seconds_count 5\n',
    ):
        assert problems(text) != [], text
