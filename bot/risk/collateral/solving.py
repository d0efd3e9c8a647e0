"""From a collateral problem to a plan: HiGHS within a time limit, counted again, and the greedy plan where that fails.

All needs are asked to be met first. If that cannot be, the smallest violation is looked for, and then the cheapest plan
that violates no more. Shares of the time limit are given to each of these, as nothing here may look at a clock.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from bot.risk.collateral.check import Outcome, evaluate
from bot.risk.collateral.explain import (
    explain_excesses,
    explain_marginals,
    explain_postings,
    explain_transfers,
    explain_violations,
)
from bot.risk.collateral.greedy import least_short_quote, solve_greedy
from bot.risk.collateral.lp import Solution, Status, solve_lp
from bot.risk.collateral.milp import solve_milp
from bot.risk.collateral.plan import CollateralPlan, ShadowPrice, in_order
from bot.risk.collateral.problem import CollateralProblem
from bot.risk.collateral.program import Program, build_program
from bot.risk.collateral.rounds import solve_in_rounds
from bot.risk.collateral.tables import ENOUGH_QUOTE, Floats, Tables, build_tables

MOST_WHOLE: Final = 200  # whole numbers that are searched; with more, linear programs in rounds say among which

_FIRST, _LEAST, _CHEAPEST, _PRICES = 0.5, 0.2, 0.2, 0.1  # shares of the time limit
_ROUNDS, _AMONG = 0.6, 0.3  # and where there is too much to search
_SEARCHED = 0.7  # where rounds follow a search that proved nothing


class _Found(msgspec.Struct, frozen=True):
    outcome: Outcome
    method: str
    is_proven: bool
    prices: tuple[ShadowPrice, ...]
    notes: tuple[str, ...]


def solve(problem: CollateralProblem, *, time_limit_s: float = 1.0) -> CollateralPlan:
    """Return the cheapest plan that meets every need, or the one with the smallest violation, named.

    Raises ValueError for a problem that cannot be. Where HiGHS fails, is stopped at the time limit or gives an answer
    that does not hold when it is counted again, the plan is the greedy one if that is better, and the notes say so.
    """
    if not time_limit_s > 0.0:
        raise ValueError(f"expected a time limit above zero, found {time_limit_s:g} s")
    tables = build_tables(problem)
    found, notes = _by_solver(tables, time_limit_s)
    if found is None or not found.is_proven:
        greedy = solve_greedy(tables)
        if found is None or _is_better(greedy, found.outcome):
            notes = notes if found is None else (*notes, "the greedy plan is better than what the solver had")
            found = _Found(greedy, "greedy", is_proven=False, prices=(), notes=notes)
    return _plan_of(tables, found)


def plan_greedily(problem: CollateralProblem, why: str) -> CollateralPlan:
    """Return the plan that needs no solver, with `why` among its notes. Raises ValueError for a problem that cannot be.

    For whoever runs the solver elsewhere and loses patience with it.
    """
    tables = build_tables(problem)
    found = _Found(solve_greedy(tables), "greedy", is_proven=False, prices=(), notes=(why,))
    return _plan_of(tables, found)


def _plan_of(tables: Tables, found: _Found) -> CollateralPlan:
    outcome = found.outcome
    floor = 0.0
    if outcome.short_quote > 0.0:
        floor = outcome.short_quote if found.is_proven else min(least_short_quote(tables), outcome.short_quote)
    return CollateralPlan(
        method=found.method,
        is_met=outcome.is_met,
        is_proven=found.is_proven,
        cost_quote=outcome.cost_quote,
        cost_as_is_quote=tables.cost_as_is,
        transfers=in_order(explain_transfers(tables, outcome)),
        postings=explain_postings(tables, outcome),
        shadow_prices=found.prices,
        violations=explain_violations(tables, outcome),
        excesses=explain_excesses(tables, outcome),
        least_short_quote=floor,
        notes=found.notes,
        warnings=tables.warnings,
    )


def _by_solver(tables: Tables, time_limit_s: float) -> tuple[_Found | None, tuple[str, ...]]:
    """Return the best plan that HiGHS leads to, and what is to be said of it or of there being none."""
    whole = int(tables.uses.sum() + (tables.lot > 0.0).sum())
    if not whole:
        return _searched(tables, time_limit_s)
    if whole > MOST_WHOLE:
        return _in_rounds(tables, time_limit_s)
    found, notes = _searched(tables, time_limit_s * _SEARCHED)
    if found is None or not found.is_proven:
        rounds = solve_in_rounds(tables, time_limit_s=time_limit_s * (1.0 - _SEARCHED)).outcome
        if rounds is not None and not rounds.broken and (found is None or _is_better(rounds, found.outcome)):
            notes = ("the search was cut off: linear programs in rounds, so there may be a better plan",)
            found = _Found(rounds, "rounds", is_proven=False, prices=(), notes=notes)
    return found, notes


def _searched(tables: Tables, time_limit_s: float) -> tuple[_Found | None, tuple[str, ...]]:
    program = build_program(tables)
    solved, is_proven, status = _search(program, time_limit_s)
    if solved is None:
        return None, (
            f"the solver gave no answer ({status.value}, limit {time_limit_s:g} s): the plan is the greedy one",
        )
    program, columns = solved
    columns, prices = _polished(program, columns, time_limit_s * _PRICES)
    outcome = evaluate(tables, program.sent(columns))
    if outcome.broken:
        return None, (f"the solver's answer does not hold ({outcome.broken[0]}): the plan is the greedy one",)
    notes = []
    if outcome.short_quote > _allowed_quote(program) + ENOUGH_QUOTE * max(outcome.short.size, 1):
        notes.append("the solver's answer falls short when it is counted again")
        is_proven = False
    if not is_proven:
        notes.append("the search was cut off: there may be a better plan")
    method = "milp" if tables.has_whole_numbers else "lp"
    return _Found(outcome, method, is_proven, prices, tuple(notes)), tuple(notes)


def _in_rounds(tables: Tables, time_limit_s: float) -> tuple[_Found | None, tuple[str, ...]]:
    """Return the better of linear programs in rounds and a search among the routes that these used."""
    rounds = solve_in_rounds(tables, time_limit_s=time_limit_s * _ROUNDS)
    if rounds.outcome is None:
        return None, (f"the solver gave no answer (limit {time_limit_s:g} s): the plan is the greedy one",)
    notes = (
        "more fees, minimums and lots than can be searched: linear programs in rounds, so there may be a better plan"
    )
    best = _Found(rounds.outcome, "rounds", is_proven=False, prices=(), notes=(notes,))
    part = build_program(tables.only(rounds.used))
    part = part.with_violations_at_most(rounds.violation / part.unit)
    if int(part.is_whole.sum()) <= MOST_WHOLE:
        notes += f"; searched among {len(rounds.used)} of {len(tables.routes)} routes"
        found = solve_milp(part, part.cost, time_limit_s=time_limit_s * _AMONG)
        if found.columns is not None:
            columns, prices = _polished(part, found.columns, time_limit_s * _PRICES)
            sent = np.zeros(len(tables.routes))
            sent[rounds.used] = part.sent(columns)
            outcome = evaluate(tables, sent)
            if not outcome.broken and (best.outcome.broken or _is_better(outcome, best.outcome)):
                best = _Found(outcome, "milp", is_proven=False, prices=prices, notes=(notes,))
    if best.outcome.broken:
        return None, (f"the solver's answer does not hold ({best.outcome.broken[0]}): the plan is the greedy one",)
    return best, best.notes


def _search(program: Program, time_limit_s: float) -> tuple[tuple[Program, Floats] | None, bool, Status]:
    """Return the program and the columns that solve it, whether nothing is better, and how the solver ended."""
    first = _ask(program, program.cost, time_limit_s * _FIRST)
    if first.columns is not None:
        return (program, first.columns), first.is_optimal, first.status
    if first.status is not Status.INFEASIBLE:
        return None, False, first.status
    loose = program.with_violations_at_most(None)
    least = _ask(loose, loose.violation, time_limit_s * _LEAST)
    if least.columns is None:
        return None, False, least.status
    tight = program.with_violations_at_most(np.maximum(least.columns[program.elastic], 0.0))
    cheapest = _ask(tight, tight.cost, time_limit_s * _CHEAPEST)
    if cheapest.columns is None:
        return (tight, least.columns), False, cheapest.status
    return (tight, cheapest.columns), least.is_optimal and cheapest.is_optimal, cheapest.status


def _ask(program: Program, objective: Floats, time_limit_s: float) -> Solution:
    ask = solve_milp if program.tables.has_whole_numbers else solve_lp
    return ask(program, objective, time_limit_s=time_limit_s)


def _polished(program: Program, columns: Floats, time_limit_s: float) -> tuple[Floats, tuple[ShadowPrice, ...]]:
    """Return the columns with what is not in lots chosen again, whole numbers as they are, and the shadow prices.

    A search over whole numbers takes a use of a millionth for none, and has no marginals. Where something is missing,
    prices are what a dollar more would leave less missing.
    """
    fixed = program.with_choices_of(columns)
    again = solve_lp(fixed, fixed.cost, time_limit_s=0.5 * time_limit_s)
    if again.columns is None or again.marginals is None:
        return columns, ()
    if _allowed_quote(program) <= ENOUGH_QUOTE:
        return again.columns, explain_marginals(fixed, again.marginals)
    loose = fixed.with_violations_at_most(None)
    least = solve_lp(loose, loose.violation, time_limit_s=0.5 * time_limit_s)
    prices = () if least.marginals is None else explain_marginals(loose, least.marginals, is_missing=True)
    return again.columns, prices


def _allowed_quote(program: Program) -> float:
    return float(program.upper[program.short_from : program.over_from].sum()) * program.unit


def _is_better(one: Outcome, other: Outcome) -> bool:
    if abs(one.short_quote - other.short_quote) > ENOUGH_QUOTE:
        return one.short_quote < other.short_quote
    return (float(one.over.sum()), one.cost_quote) < (float(other.over.sum()), other.cost_quote)
