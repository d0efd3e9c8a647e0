from __future__ import annotations

import json

from bot.telemetry.dashboard.live import Live, slot
from bot.telemetry.dashboard.markup import el


def told(live: Live) -> dict[str, object]:
    text = live.flush()
    assert text is not None
    return dict(json.loads(text))


def test_only_what_changed_is_sent() -> None:
    live = Live()
    live.set("a", "1", cls="num", title=None)
    live.set("b", "2")
    assert told(live)["cells"] == {"a": {"class": "num", "title": None, "#text": "1"}, "b": {"#text": "2"}}
    live.set("a", "1", cls="num", title=None)
    live.set("b", "3", hidden=True)
    assert told(live)["cells"] == {"b": {"#text": "3", "hidden": ""}}
    live.set("b", "3", hidden=False)
    assert told(live)["cells"] == {"b": {"hidden": None}}
    assert live.flush() is None


def test_what_changes_back_before_it_is_sent_is_sent_as_it_is() -> None:
    live = Live()
    live.set("a", "1")
    live.set("a", "2")
    assert told(live)["cells"] == {"a": {"#text": "2"}}


def test_rows_are_put_in_order_when_it_changes() -> None:
    live = Live()
    live.order("rows", ["x", "y"])
    assert told(live)["orders"] == {"rows": ["x", "y"]}
    live.order("rows", ["x", "y"])
    assert live.flush() is None
    live.order("rows", ["y", "x"])
    assert told(live)["orders"] == {"rows": ["y", "x"]}


def test_html_and_calls_travel_along() -> None:
    live = Live()
    live.html("list", el("li", "<script>"))
    live.call("append", "chart", [1.5, None])
    message = told(live)
    assert message["cells"] == {"list": {"#html": "<li>&lt;script&gt;</li>"}}
    assert message["calls"] == [["append", ["chart", [1.5, None]]]]
    assert slot("k", "td", "x", cls="num") == '<td data-k="k" class="num">x</td>'


def test_a_number_that_is_none_is_nothing() -> None:
    live = Live()
    live.call("append", float("nan"), float("inf"))
    assert told(live)["calls"] == [["append", [None, None]]]


def test_what_elements_are_told_goes_in_the_same_message() -> None:
    live = Live()
    live.set("a", "1")
    live.method(7, "append", [(1.5, None)], [])
    live.method(8, "show", {"rows": {}})
    message = told(live)
    assert message["cells"] == {"a": {"#text": "1"}}
    assert message["calls"] == [["method", [7, "append", [[[1.5, None]], []]]], ["method", [8, "show", [{"rows": {}}]]]]
