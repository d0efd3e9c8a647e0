"""Plans with more fees, minimums and lots than can be searched: linear programs in rounds, then whole.

What is paid once is spread over what was sent in the round before, so that a route used for little becomes dear and
one used for much cheap (slope scaling: Kim & Pardalos 1999, "A solution approach to the fixed charge network flow
problem using a dynamic slope scaling procedure", Operations Research Letters 24:195-203). What the last round uses is
then used, fees and minimums in full, lots rounded down and what is missing added greedily.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from bot.risk.collateral.check import Outcome
from bot.risk.collateral.greedy import completed
from bot.risk.collateral.lp import solve_lp
from bot.risk.collateral.program import Program, build_program
from bot.risk.collateral.tables import ENOUGH_QUOTE, Flags, Floats, Ints, Tables

_ROUNDS: Final = 3
_EACH: Final = 0.2  # share of the time limit for the least violation and for each round
_IN_FULL: Final = 0.06  # and for each of the last, which are of few routes


class Rounds(msgspec.Struct, frozen=True):
    """What the rounds came to: a plan (None: no answer), the routes any of them used, the least violation in money."""

    outcome: Outcome | None
    used: Ints
    violation: Floats


def solve_in_rounds(tables: Tables, *, time_limit_s: float) -> Rounds:
    """Return a plan of few routes that is near the cheapest; nothing says how near."""
    each_s = time_limit_s * _EACH
    program = build_program(_without_uses(tables))
    none = Rounds(None, np.zeros(0, dtype=np.int64), np.zeros(program.use_from - program.short_from))
    loose = program.with_violations_at_most(None)
    least = solve_lp(loose, loose.violation, time_limit_s=each_s)
    if least.columns is None:
        return none
    allowed = np.maximum(least.columns[program.elastic], 0.0)
    tight = program.with_violations_at_most(allowed)
    routes = len(tables.routes)
    size = np.maximum(tables.most, ENOUGH_QUOTE)  # what a fee is spread over
    was_used = np.zeros(routes, dtype=bool)
    uses = least.columns[:routes] * program.unit > ENOUGH_QUOTE
    for _ in range(_ROUNDS):
        objective = program.cost.copy()
        objective[:routes] += tables.cost_of_use / size / program.cost_unit
        answer = solve_lp(tight, objective, time_limit_s=each_s)
        if answer.columns is None:
            break
        sent = answer.columns[:routes] * program.unit
        uses = sent > ENOUGH_QUOTE
        was_used |= uses
        size = np.where(uses, sent, size)
    outcome = completed(tables, _in_full(tables, uses, allowed * program.unit, time_limit_s * _IN_FULL))
    return Rounds(outcome, np.flatnonzero(was_used | (outcome.sent > 0.0)), allowed * program.unit)


def _without_uses(tables: Tables) -> Tables:
    nothing = np.zeros(len(tables.routes))
    no_gas = np.full(len(tables.routes), -1)
    return msgspec.structs.replace(
        tables, fixed=nothing, gas=nothing, least=nothing, lot=nothing, cost_of_use=nothing, gas_asset=no_gas
    )


def _in_full(tables: Tables, uses: Flags, violation: Floats, each_s: float) -> Floats:
    """Return what is sent where these routes are used: whole fees, no less than a minimum, whole lots."""
    sent = np.zeros(len(tables.routes))
    rows = np.flatnonzero(uses)
    part = tables.only(rows)
    program = build_program(part)
    columns = _cheapest_in_full(program, violation, each_s)
    if columns is None:
        return sent
    found = np.clip(columns[: len(rows)] * program.unit, 0.0, part.most)
    in_lots = part.lot > 0.0
    found[in_lots] = np.floor(found[in_lots] / part.lot[in_lots] + 1e-6) * part.lot[in_lots]
    found[(found < part.least * (1.0 - 1e-9)) | (found < ENOUGH_QUOTE)] = 0.0
    sent[rows] = found
    return sent


def _cheapest_in_full(program: Program, violation: Floats, each_s: float) -> Floats | None:
    lower = program.lower.copy()
    lower[program.use_from : program.lots_from] = 1.0
    fixed = msgspec.structs.replace(program, lower=lower)
    tight = fixed.with_violations_at_most(violation / program.unit)
    answer = solve_lp(tight, tight.cost, time_limit_s=each_s)
    if answer.columns is not None:
        return answer.columns
    loose = fixed.with_violations_at_most(None)  # the fees themselves may be what is missing now
    least = solve_lp(loose, loose.violation, time_limit_s=each_s)
    if least.columns is None:
        return None
    tight = fixed.with_violations_at_most(np.maximum(least.columns[program.elastic], 0.0))
    answer = solve_lp(tight, tight.cost, time_limit_s=each_s)
    return least.columns if answer.columns is None else answer.columns
