"""The examples of docs/margin-scenarios.md are what they say they are."""

from __future__ import annotations

import doctest

import pytest

from tests.house.sources import ROOT


def test_every_example_of_the_document_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "margin-scenarios.md").read_text(encoding="utf-8").replace("```", "")
    found = doctest.DocTestParser().get_doctest(text, {}, "margin-scenarios", None, 0)
    assert len(found.examples) > 15
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(found, out=told.append)
    assert "".join(told) == ""
