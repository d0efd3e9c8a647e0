"""The page about margin is run: every example on it comes out as it says."""

from __future__ import annotations

import doctest
import re

from bot.risk.margin.registry import MODELS
from tests.house.sources import ROOT

TEXT = (ROOT / "docs" / "margin.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def failures(text: str) -> tuple[int, str]:
    """Run the examples of a page one after the other; return how many there are, and what went wrong."""
    told: list[str] = []
    names: dict[str, object] = {}
    runner, parser, count = doctest.DocTestRunner(verbose=False), doctest.DocTestParser(), 0
    for block in BLOCK.finditer(text):
        line = text[: block.start()].count("\n") + 1
        example = parser.get_doctest(block.group(1), names, "docs/margin.md", "docs/margin.md", line)
        count += len(example.examples)
        runner.run(example, out=told.append, clear_globs=False)
        names = example.globs
    return count, "".join(told)


def test_every_example_comes_out_as_the_page_says() -> None:
    count, told = failures(TEXT)
    assert told == ""
    assert count >= 30


def test_a_planted_error_is_found() -> None:
    count, told = failures("```python\n>>> a = 1\n\n```\nand\n```python\n>>> a + 1\n3\n\n```\n")
    assert count == 2
    assert "Expected:\n    3\nGot:\n    2" in told


def test_every_model_of_a_venue_has_its_place_on_the_page() -> None:
    elsewhere = ("derive", "paradex", "house", "span")
    here = sorted(name for name in MODELS if not name.startswith(elsewhere))
    assert len(here) >= 9
    assert [name for name in here if f"`bot.risk.margin.{name}.requirement" not in TEXT] == []
