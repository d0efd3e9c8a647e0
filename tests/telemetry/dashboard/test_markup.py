from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.telemetry.dashboard.markup import Markup, attribute_name, el, join


def test_an_element_is_written_as_html() -> None:
    assert el("td", "1", cls="num", data_label="P&L") == '<td class="num" data-label="P&amp;L">1</td>'
    assert el("input", required=True, hidden=False, value=None) == "<input required>"
    assert el("label", "Name", for_="user") == '<label for="user">Name</label>'
    assert el("p", el("b", "x"), None, " & y") == "<p><b>x</b> &amp; y</p>"
    assert attribute_name("aria_label") == "aria-label"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
@settings(max_examples=60)
def test_no_text_becomes_html(text: str) -> None:
    written = el("p", text, title=text)
    inside = written.removeprefix("<p title=").removesuffix("</p>")
    assert inside.count("<") == 0
    assert inside.count(">") == 1
    assert inside.count('"') == 2
    assert isinstance(join(text, Markup("<br>")), Markup)
