"""An account at a simulated venue: positions under a margin model, collateral, and liquidation as venues do it.

The venue looks at the account whenever it is marked. At the limit it closes a part of everything at once, for a fee, as
much as brings utilisation down to where the rule says; what is left below zero the venue's fund has to pay. It can be
in a bad state too: margin raised over night, withdrawals halted, deposits not credited.
"""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec
import numpy as np

from bot.pricing.black76 import greeks
from bot.risk.book import SPOT, Floats, Ints, RiskBook
from bot.risk.distances import move_book, utilise
from bot.risk.margin.registry import MODELS, decode_values
from bot.risk.requirement import Requirement


class LiquidationRule(msgspec.Struct, frozen=True, kw_only=True):
    """When a venue liquidates (MM over equity), down to which utilisation, what it takes of what it closes.

    It closes `least_share` of the book at least, and everything where no part is enough.
    """

    liquidation_ratio: float = 1.0
    reduce_to: float = 0.90
    fee_fraction: float = 0.005
    least_share: float = 0.20


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a venue: margin times a multiple, withdrawals halted, deposits not credited."""

    margin_multiple: float = 1.0
    is_withdrawing_halted: bool = False
    is_crediting_halted: bool = False


class Liquidation(msgspec.Struct, frozen=True, gc=False):
    """One liquidation: how far over the limit, the share of the book that was closed, the fee, what nobody paid."""

    utilisation_ratio: float
    share: float
    fee_quote: float
    shortfall_quote: float


class MarginAccount:
    """One account; money in quote. `equity_quote` is cash, what positions won, and coins at what the haircut leaves."""

    def __init__(
        self,
        book: RiskBook,
        equity_quote: float,
        model: str,
        values: dict[str, Any],
        rule: LiquidationRule | None = None,
        haircut_fraction: float = 0.0,
    ) -> None:
        """Open an account of a book under a model of the registry. Raises ValueError for wrong parameter values."""
        self.book = book
        self.equity_quote = equity_quote
        self.rule = rule or LiquidationRule()
        self.trouble = Trouble()
        self.liquidations: list[Liquidation] = []
        self._weight = np.where(book.kind == SPOT, 1.0 - haircut_fraction, 1.0)
        self._parameters = decode_values(model, values)
        self._model = MODELS[model]
        self._required: Requirement | None = None
        self._uncredited_quote = 0.0

    @property
    def required(self) -> Requirement:
        """What the model asks for the book as it is now, before what trouble adds."""
        if self._required is None:
            self._required = self._model.requirement(self.book, self._parameters)
        return self._required

    @property
    def initial_quote(self) -> float:
        """Initial margin as the venue asks for it now."""
        return self.required.initial * self.trouble.margin_multiple

    @property
    def maintenance_quote(self) -> float:
        """Maintenance margin as the venue asks for it now."""
        return self.required.maintenance * self.trouble.margin_multiple

    @property
    def utilisation_ratio(self) -> float:
        """How far the account is on the way to liquidation, 1 being there."""
        return utilise(self.equity_quote, self.maintenance_quote, self.rule.liquidation_ratio)

    def mark(self, move_fraction: float, vol_factor: float = 1.0, years: float = 0.0) -> Liquidation | None:
        """Let prices move, vols change and time pass, then let the venue look; returns what it did, if anything."""
        moved = move_book(self.book, move_fraction, vol_factor)
        if years:
            moved = _age(moved, years)
        self.equity_quote += float((self._weight * self.book.qty_base) @ (moved.mark_px - self.book.mark_px))
        self.book = moved
        self._required = None
        return self.look()

    def look(self) -> Liquidation | None:
        """Let the venue look at the account: liquidate it where it is due."""
        used = self.utilisation_ratio
        if not used >= 1.0:
            return None
        share = self._share_to_close()
        fee = self.rule.fee_fraction * share * self._traded_quote()
        self.book = msgspec.structs.replace(self.book, qty_base=self.book.qty_base * self._kept(share))
        self._required = None
        after = self.equity_quote - fee
        shortfall = max(0.0, -after) if share == 1.0 else 0.0
        self.equity_quote = max(after, 0.0) if share == 1.0 else after
        found = Liquidation(used, share, fee, shortfall)
        self.liquidations.append(found)
        return found

    def deposit(self, amount_quote: float) -> None:
        """Credit money that arrived, or hold it uncredited while the venue credits nothing."""
        self._uncredited_quote += amount_quote
        self.thaw()

    def thaw(self) -> None:
        """Credit what arrived while nothing was credited, if that is over."""
        if not self.trouble.is_crediting_halted:
            self.equity_quote += self._uncredited_quote
            self._uncredited_quote = 0.0

    def withdraw(self, amount_quote: float) -> float:
        """Return how much may leave: nothing while withdrawals are halted, never what initial margin needs."""
        if self.trouble.is_withdrawing_halted:
            return 0.0
        amount = min(amount_quote, max(0.0, self.equity_quote - self.initial_quote))
        self.equity_quote -= max(amount, 0.0)
        return max(amount, 0.0)

    def _share_to_close(self) -> float:
        """Return the least share that leads down to the rule's utilisation, fee paid; everything if none does."""
        for share in np.arange(self.rule.least_share, 1.0, 0.05).tolist():
            smaller = msgspec.structs.replace(self.book, qty_base=self.book.qty_base * self._kept(share))
            margin = self._model.requirement(smaller, self._parameters).maintenance * self.trouble.margin_multiple
            left = self.equity_quote - self.rule.fee_fraction * share * self._traded_quote()
            used = utilise(left, margin, self.rule.liquidation_ratio) if left > 0.0 else inf
            if used <= self.rule.reduce_to:
                return float(share)
        return 1.0

    def _kept(self, share: float) -> Floats:
        """Coins held outright are collateral and stay."""
        kept: Floats = np.where(self.book.kind == SPOT, 1.0, 1.0 - share)
        return kept

    def _traded_quote(self) -> float:
        is_position = self.book.kind != SPOT
        return float((np.abs(self.book.qty_base) * self.book.spot_of_row_px)[is_position].sum())


def _age(book: RiskBook, years: float) -> RiskBook:
    """Return the book some time later: options lose what Black-76 says, what expires is at its intrinsic value."""
    later = msgspec.structs.replace(book, tau_years=np.maximum(book.tau_years - years, 0.0))
    rows = np.flatnonzero(book.is_option)
    if not len(rows):
        return later
    mark = book.mark_px.copy()
    mark[rows] = np.maximum(mark[rows] + _values(later, rows) - _values(book, rows), 0.0)
    return msgspec.structs.replace(later, mark_px=mark)


def _values(book: RiskBook, rows: Ints) -> Floats:
    forward, strike, tau, vol = (one[rows] for one in (book.forward_px, book.strike_px, book.tau_years, book.vol))
    return greeks(forward, strike, tau, vol, book.is_call[rows]).value
