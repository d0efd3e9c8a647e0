"""The process that solves one collateral problem: greedily first, then as well as time allows, a line of JSON for each.

Started by `bot.runtime.collateral_planner` for every question and killed when it takes too long, so whatever a solver
does, the daemon goes on. Must never need a key, a file or the network.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO, Final

import msgspec

from bot.risk.collateral.answering import Answer, answer, answer_greedily

NICE: Final = 10  # the daemon decides meanwhile, perhaps on the same core
STANDS_IN: Final = "the solver did not answer in time: the plan is the greedy one"


class Question(msgspec.Struct, frozen=True):
    """What is to be solved, and within which time."""

    problem: str
    time_limit_s: float


def work(asked: BinaryIO, told: BinaryIO) -> None:
    """Answer the one question of a stream; the first answer is there as soon as there is any."""
    question = msgspec.json.decode(asked.read(), type=Question)
    _tell(told, answer_greedily(question.problem, STANDS_IN))
    _tell(told, answer(question.problem, question.time_limit_s))


def _tell(told: BinaryIO, found: Answer) -> None:
    told.write(msgspec.json.encode(found) + b"\n")
    told.flush()


if __name__ == "__main__":
    os.nice(NICE)
    work(sys.stdin.buffer, sys.stdout.buffer)
