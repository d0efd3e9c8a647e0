"""The delta model of one underlying: watches its smiles at a slow beat, and corrects the deltas of its options.

An expiry is looked at when most of its strikes near the money were quoted again since the last look, each at the
forward of its own quote. Nothing here runs unless the vault asks for a delta other than Black's, or for its evidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bot.domain.results import DeltaEvidence
from bot.domain.units import NS_PER_HOUR, NS_PER_MIN, NS_PER_YEAR
from bot.engine.market import ExpiryMarks, MarketState
from bot.engine.settings import DeltaSettings
from bot.pricing.black76 import Black76Greeks, greeks
from bot.pricing.smile_delta import DeltaModel, Moves, SmileRecord, SmileShape, bounded, fit_shape

Floats = NDArray[np.float64]

MAX_INTERVAL_NS = 30 * NS_PER_MIN  # between two looks at an expiry: more is a gap, and teaches nothing
MIN_LEFT_NS = 6 * NS_PER_HOUR  # to expiry: later its vol says nothing about deltas any more
_NEAR = 1.5  # standard deviations
_READY_SHARE = 0.7
_SAME_PASS_NS = 2 * NS_PER_MIN


class _Look:
    """An expiry as it was last looked at, by strike."""

    __slots__ = ("forward_px", "ns", "shape", "strike_px", "vol")

    def __init__(self, strike_px: Floats, vol: Floats, forward_px: Floats, ns: int, shape: SmileShape | None) -> None:
        self.strike_px = strike_px
        self.vol = vol
        self.forward_px = forward_px
        self.ns = ns
        self.shape = shape


class _Prepared(NamedTuple):
    """What depends on legs only, until the next beat: skews, 1 for each put, and 0 where nothing can be said."""

    skew: Floats
    is_put: Floats  # the call delta of a put is its own plus one
    weight: Floats


class SmileDeltas:
    """What the smiles of one underlying taught, and what that does to the deltas of its option legs."""

    def __init__(self, market: MarketState, settings: DeltaSettings) -> None:
        self._market = market
        self.settings = settings
        self.record = SmileRecord(settings.window)
        self.due_ns = 0
        self._looks: dict[int, _Look] = {}
        self._model = DeltaModel.BLACK
        self._unwatched: dict[int, SmileShape | None] = {}  # of expiries nothing is held of, since the last beat
        self._legs: Floats | None = None  # the strikes these were worked out for
        self._prepared = _Prepared(np.empty(0), np.empty(0), np.empty(0))

    @property
    def model(self) -> DeltaModel:
        """The model in use: the one that was asked for, or Black's while that is not surely better."""
        return self._model

    @property
    def evidence(self) -> DeltaEvidence:
        """What was chosen, and why."""
        wanted = DeltaModel(self.settings.model)
        sticky, gate = self.record.stickiness, self.record.gate(wanted)
        return DeltaEvidence(
            model=str(wanted),
            used=str(self._model),
            why=gate.why,
            moments=self.record.moments,
            stickiness_ratio=sticky.ratio,
            stickiness_error_ratio=sticky.error_ratio if sticky.error_ratio < inf else None,
            coefficients_ratio=self.record.coefficients,
            gain_share={str(model): self.record.gate(model).gain_share for model in DeltaModel},
            t_ratio={str(model): self.record.gate(model).t_ratio for model in DeltaModel},
        )

    def watch(
        self,
        now_ns: int,
        expiries: Iterable[ExpiryMarks],
        strike_px: Floats,
        qty_base: Floats,
        expiry_index: NDArray[np.intp],
    ) -> None:
        """Look at what moved since the last time, and choose the model to use from here for the book of these legs."""
        self.due_ns = now_ns + self.settings.every_ns
        held = list(expiries)
        moves = []
        for expiry in held:
            rows = expiry_index == expiry.index
            one = self._look_at(expiry, now_ns, strike_px[rows], qty_base[rows])
            if one is not None:
                moves.append(one)
        self.record.note(moves)
        wanted = DeltaModel(self.settings.model)
        is_used = not self.settings.is_gated or self.record.gate(wanted).is_open
        self._model = wanted if is_used else DeltaModel.BLACK
        self._legs = None
        self._unwatched = {}
        for index in self._looks.keys() - {expiry.index for expiry in held}:
            del self._looks[index]

    def corrections_ratio(
        self,
        values: Black76Greeks,
        strike_px: Floats,
        forward_px: Floats,
        tau_years: Floats,
        is_call: NDArray[np.bool_],
        expiry_index: NDArray[np.intp],
    ) -> Floats | None:
        """Return what the model in use adds to the Black delta of a unit of each of these legs, None where that is it.

        What depends on the legs alone is worked out once per beat, as long as `strike_px` is the same array.
        """
        if self._model is DeltaModel.BLACK:
            return None
        if self._legs is not strike_px:
            self._legs = strike_px
            self._prepared = self._prepare(strike_px, forward_px, tau_years, is_call, expiry_index)
        return self._correct(self._prepared, values, forward_px, tau_years)

    def offered_ratio(
        self,
        values: Black76Greeks,
        strike_px: Floats,
        forward_px: Floats,
        tau_years: Floats,
        is_call: NDArray[np.bool_],
        expiry_index: NDArray[np.intp],
    ) -> Floats | None:
        """Return the same for options that are not held."""
        if self._model is DeltaModel.BLACK:
            return None
        prepared = self._prepare(strike_px, forward_px, tau_years, is_call, expiry_index)
        return self._correct(prepared, values, forward_px, tau_years)

    def _correct(self, prepared: _Prepared, values: Black76Greeks, forward_px: Floats, tau_years: Floats) -> Floats:
        call_delta = values.delta + prepared.is_put
        h = self.record.vol_per_log_move(self._model, prepared.skew, call_delta, np.sqrt(tau_years))
        return prepared.weight * bounded(values.vega / forward_px, h)

    def _prepare(
        self,
        strike_px: Floats,
        forward_px: Floats,
        tau_years: Floats,
        is_call: NDArray[np.bool_],
        expiry_index: NDArray[np.intp],
    ) -> _Prepared:
        is_put = np.where(is_call, 0.0, 1.0)
        skew = np.zeros(len(strike_px))
        weight = np.where(tau_years * NS_PER_YEAR >= MIN_LEFT_NS, 1.0, 0.0)
        for index in np.unique(expiry_index).tolist():
            rows = expiry_index == index
            shape = self._shape_of(index)
            if shape is None:
                weight[rows] = 0.0
            else:
                skew[rows] = shape.skew_at(np.log(strike_px[rows] / forward_px[rows]))
        return _Prepared(skew, is_put, weight)

    def _shape_of(self, index: int) -> SmileShape | None:
        """Return the smile of an expiry as it was last looked at; of one nothing is held of, as it was last quoted."""
        look = self._looks.get(index)
        if look is not None:
            return look.shape
        if index not in self._unwatched:
            expiry, vol_ns = self._market.expiries[index], self._market.vol_ns
            slots = np.array(expiry.slots)
            newest_ns = int(vol_ns[slots].max())
            slots = slots[np.isfinite(self._market.vol[slots]) & (vol_ns[slots] > newest_ns - _SAME_PASS_NS)]
            left_years = (expiry.expiry_ns - newest_ns) / NS_PER_YEAR
            is_enough = len(slots) > 1 and left_years > 0.0
            self._unwatched[index] = self._new_look(slots, newest_ns, left_years).shape if is_enough else None
        return self._unwatched[index]

    def _look_at(self, expiry: ExpiryMarks, now_ns: int, held_px: Floats, held_base: Floats) -> Moves | None:
        """Return how an expiry moved since the last look, None where it was not quoted anew or there was none."""
        if expiry.expiry_ns - now_ns < MIN_LEFT_NS or not expiry.forward_ns:
            return None
        market = self._market
        slots = np.array(expiry.slots)
        before = self._looks.get(expiry.index)
        ns, vol = market.vol_ns[slots], market.vol[slots]
        newest_ns = int(ns.max())
        tau_years = (expiry.expiry_ns - now_ns) / NS_PER_YEAR
        is_new = np.isfinite(vol) & (ns > (before.ns if before is not None else 0)) & (ns > newest_ns - _SAME_PASS_NS)
        if np.count_nonzero(is_new) < 2:
            return None
        level = float(np.median(vol[is_new]))
        k = np.log(market.strike_px[slots] / expiry.forward_px)
        is_near = np.abs(k) <= _NEAR * level * tau_years**0.5
        near = len(np.unique(k[is_near]))
        if not near or len(np.unique(k[is_near & is_new])) < _READY_SHARE * near:
            return None
        look = self._new_look(slots[is_new], newest_ns, tau_years)
        self._looks[expiry.index] = look
        if before is None or before.shape is None or look.shape is None or look.ns - before.ns > MAX_INTERVAL_NS:
            return None
        return _moves_between(before, look, tau_years, held_px, held_base)

    def _new_look(self, slots: NDArray[np.int64], ns: int, tau_years: float) -> _Look:
        market = self._market
        strike_px, row, counts = np.unique(market.strike_px[slots], return_inverse=True, return_counts=True)
        quotes = (market.vol_quotes[slot] for slot in slots.tolist())
        forwards = np.array([quote.forward_px if quote is not None else 0.0 for quote in quotes])
        forward_px = np.bincount(row, weights=forwards) / counts
        vol = np.bincount(row, weights=market.vol[slots]) / counts
        return _Look(strike_px, vol, forward_px, ns, fit_shape(np.log(strike_px / forward_px), vol, tau_years))


def _moves_between(before: _Look, after: _Look, tau_years: float, held_px: Floats, held_base: Floats) -> Moves | None:
    shape, shape_after = before.shape, after.shape
    strikes, old, new = np.intersect1d(before.strike_px, after.strike_px, assume_unique=True, return_indices=True)
    if shape is None or shape_after is None or not len(strikes):
        return None
    forward_px, vol = before.forward_px[old], before.vol[old]
    values = greeks(forward_px, strikes, tau_years, vol, is_call=True)
    delta = values.delta
    is_told = (delta > 0.02) & (delta < 0.98)
    if not is_told.any():
        return None
    log_move = np.log(after.forward_px[new] / forward_px)
    middle = int(np.abs(np.log(strikes / forward_px)).argmin())
    is_there = np.isin(held_px, strikes)
    rows = np.searchsorted(strikes, held_px[is_there])
    held = np.bincount(rows, weights=held_base[is_there], minlength=len(strikes)).astype(np.float64)
    return Moves(
        held[is_told],
        (values.vega / forward_px)[is_told],
        (after.vol[new] - vol)[is_told],
        log_move[is_told],
        shape.skew_at(np.log(strikes / forward_px))[is_told],
        delta[is_told],
        tau_years**0.5,
        shape_after.atm_vol - shape.atm_vol,
        shape.skew * float(log_move[middle]),
    )
