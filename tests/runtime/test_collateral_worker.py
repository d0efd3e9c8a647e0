"""The process that solves: a greedy answer first, then the solver's, a line each."""

from __future__ import annotations

from io import BytesIO

import msgspec

from bot.risk.collateral.answering import Answer
from bot.risk.collateral.plan import decode_plan
from bot.runtime.collateral_worker import STANDS_IN, Question, work
from tests.risk.collateral.test_answering import needy


def test_both_answers_are_told_the_quick_one_first() -> None:
    told = BytesIO()
    question = Question(msgspec.json.encode(needy()).decode(), 5.0)
    work(BytesIO(msgspec.json.encode(question)), told)
    first, second = (msgspec.json.decode(line, type=Answer) for line in told.getvalue().splitlines())
    assert (first.method, first.fault) == ("greedy", STANDS_IN)
    assert (second.method, second.fault) == ("lp", "")
    assert decode_plan(second.text).cost_quote <= decode_plan(first.text).cost_quote
