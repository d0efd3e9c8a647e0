"""What the options of a stack are worth under scenarios, all underlyings in one pass where these are alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bot.risk.book import Floats, Ints
from bot.risk.repricing import LEAST_DEV, option_values
from bot.risk.scenarios import ScenarioSet
from bot.risk.stack import BookStack


@lru_cache(maxsize=256)
def are_alike(sets: tuple[ScenarioSet, ...]) -> bool:
    """Tell whether sets of scenarios differ in how far prices and vols move alone, so that one pass prices them all."""
    first = sets[0]
    return all(
        one is first
        or (
            np.array_equal(one.with_now_move_of, first.with_now_move_of)
            and np.array_equal(one.with_now_vol_of, first.with_now_vol_of)
        )
        for one in sets
    )


class _Columns(NamedTuple):
    """Numbers of several sets that are alike, a column for each: moves and weights by scenario, and distinct moves."""

    move: Floats
    weight: Floats
    with_now_moves: Floats


@lru_cache(maxsize=256)
def _columns(sets: tuple[ScenarioSet, ...]) -> _Columns:
    return _Columns._make(np.array([getattr(one, name) for one in sets]).T.copy() for name in _Columns._fields)


def alike_parts(stack: BookStack, sets: Sequence[ScenarioSet]) -> list[tuple[BookStack, list[int]]]:
    """Return parts of a stack that one pass prices each, and the places of their underlyings among those held.

    That is all of it where the scenarios of its underlyings are alike (one set for each), else one underlying each.
    """
    if not sets or are_alike(tuple(sets)):
        return [(stack, list(range(len(sets))))] if sets else []
    return [(stack.of_underlying(number), [place]) for place, number in enumerate(stack.held)]


class StackValues:
    """What options of a stack are worth under scenarios, of which the P&L of any quantities is then a product.

    `values` are by scenario, the market itself last, by market, and by option; `options` are the rows they are of.
    `later` is what they are worth some years on at the same market, by market and option, where that is asked for.
    """

    __slots__ = ("_columns", "later", "options", "stack", "values")

    def __init__(
        self,
        stack: BookStack,
        scenarios: ScenarioSet | Sequence[ScenarioSet],
        later_years: float | None = None,
    ) -> None:
        """Price all options.

        There is one set of scenarios for all, or one for each underlying held; these must be alike.
        """
        sets = (scenarios,) if isinstance(scenarios, ScenarioSet) else tuple(scenarios)
        first, layout, markets = sets[0], stack.layout, stack.markets
        size = len(first)
        self.stack = stack
        self._columns = _columns(sets)
        self.options: Ints = layout.options
        shape = (markets, len(self.options))
        if not len(self.options):
            self.values: Floats = np.zeros((size + 1, *shape))
            self.later: Floats = np.zeros(shape)
            return
        forward = stack.forward_px.take(self.options, axis=1)
        tau, vol = stack.tau_years.take(self.options, axis=1), stack.vol.take(self.options, axis=1)
        if len(tau) != len(vol):
            tau, vol = np.broadcast_arrays(tau, vol)
        strike, is_call = layout.struck
        moves, move_of, vol_of = first.with_now_moves, first.with_now_move_of, first.with_now_vol_of
        vols = first.shocked_vols(vol.reshape(-1), tau.reshape(-1)).reshape(-1, *vol.shape)
        if len(sets) > 1:
            place = layout.place.take(self.options)
            moves = self._columns.with_now_moves.take(place, axis=1)
            for number, one in enumerate(sets[1:], 1):
                is_another = one is not first and (one.shock != first.shock or one.vols != first.vols)
                own = (place == number).nonzero()[0] if is_another else place[:0]
                if own.size:
                    some = vol.take(own, axis=1), tau.take(own, axis=1)
                    shocked = one.shocked_vols(some[0].reshape(-1), some[1].reshape(-1))
                    vols[:, :, own] = shocked.reshape(-1, *some[0].shape)
        if later_years is not None:  # a value knows of time and vol by their product alone
            left = np.maximum(tau - later_years, 0.0) / np.maximum(tau, LEAST_DEV)
            vols = np.concatenate([vols, (vols[-1] * np.sqrt(left))[None]])
            move_of, vol_of = first.with_later_move_of, first.with_later_vol_of
        if markets > 1:
            strike, is_call = np.tile(strike, markets), np.tile(is_call, markets)
            if len(forward) == 1:
                forward = np.tile(forward, markets)
            if len(tau) == 1:
                tau, vols = np.tile(tau, markets), np.tile(vols, markets)
            if moves.ndim > 1:
                moves = np.tile(moves, markets)
        values = option_values(
            forward.reshape(-1),
            strike,
            tau.reshape(-1),
            is_call,
            moves,
            vols.reshape(len(vols), -1),
            move_of,
            vol_of,
        ).reshape(-1, *shape)
        self.values, self.later = values[: size + 1], values[-1]

    @property
    def weight(self) -> Floats:
        """What P&L counts by: by underlying held, or all (one set), and scenario."""
        return self._columns.weight.T

    def pnl_quote(self) -> Floats:
        """Return what each copy wins or loses under each scenario of one set, before weights: by scenario and copy."""
        stack = self.stack
        won = self.option_pnl(stack.qty_base.take(self.options, axis=1))
        linear = stack.layout.others
        if linear.size:
            worth = (stack.qty_base.take(linear, axis=1) * stack.mark_px.take(linear, axis=1)).sum(axis=1)
            won += self._columns.move * worth
        return won

    def pnl_by_underlying(self) -> Floats:
        """Return what each underlying held wins or loses: by underlying, scenario of its own, and copy."""
        stack = self.stack
        selector = stack.layout.selector
        held = selector.shape[1]
        qty, own = stack.qty_base.take(self.options, axis=1), selector.take(self.options, axis=0)
        won = self.option_pnl((own.T[:, None, :] * qty).reshape(held * len(stack), -1), held)
        out = won.reshape(len(self._columns.move), held, len(stack)).transpose(1, 0, 2)
        linear = stack.layout.others
        if linear.size:
            worth = stack.qty_base.take(linear, axis=1) * stack.mark_px.take(linear, axis=1)
            out = out + self._columns.move.T[:, :, None] * (worth @ selector.take(linear, axis=0)).T[:, None, :]
        return out

    def option_pnl(self, weight: Floats, times: int = 1) -> Floats:
        """Return by scenario and copy what options win or lose, each by its weight: a line per copy, `times` over."""
        if self.stack.markets == 1:
            worth = self.values[:, 0, :] @ weight.T
        else:
            copies = self.stack.markets
            lines = weight.reshape(times, copies, -1).transpose(1, 2, 0)
            worth = np.matmul(self.values.transpose(1, 0, 2), lines).transpose(1, 2, 0).reshape(-1, times * copies)
        won: Floats = worth[:-1] - worth[-1]
        return won

    def row_pnl_quote(self, scenarios: Ints) -> Floats:
        """Return what each row wins or loses under some scenarios: by scenario, copy and row of the stack."""
        stack = self.stack
        move = self._columns.move[scenarios]
        of_row = move if move.shape[1] == 1 else move.take(stack.layout.place, axis=1)
        out: Floats = of_row[:, None, :] * (stack.qty_base * stack.mark_px)
        out[..., self.options] = (self.values[scenarios] - self.values[-1]) * stack.qty_base[:, self.options]
        return out
