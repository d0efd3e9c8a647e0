"""What every account is asked for and what nets, kept up to date: after a quote only what it touches is asked again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from bot.risk.book import Ints, RiskBook
from bot.risk.gaps import find_fault
from bot.risk.margin.registry import assume_worst
from bot.risk.netting import Netted, NettingParameters, correlate, net_exposure
from bot.risk.requirement import Requirement


class RiskSheet:
    """The requirement of each account by its own model, and the netted exposure of all of them together.

    An account without a model, with a gap in its book, or whose model cannot answer, is asked for its whole value, and
    the reason stands in its charge. `requirements` and `netted` are to be read.
    """

    __slots__ = ("_models", "_parameters", "_redemption", "_rows", "book", "netted", "requirements")

    def __init__(
        self,
        book: RiskBook,
        models: Mapping[str, Callable[[RiskBook], Requirement]],
        parameters: NettingParameters,
        redemption: Mapping[str, float] | None = None,
    ) -> None:
        """Take the book, what answers for each account, and what offsets are charged; ask for all of it."""
        self._models = models
        self._parameters = parameters
        self._redemption = redemption
        self.book: RiskBook
        self.requirements: dict[str, Requirement]
        self.netted: Netted
        self._take(book)

    def update(self, book: RiskBook, rows: Ints) -> None:
        """Ask again for the accounts and underlyings of `rows`, as `book` has them now.

        A price of an underlying touches all its rows. A book of other instruments is taken whole.
        """
        is_same = book.instrument_ids is self.book.instrument_ids or book.instrument_ids == self.book.instrument_ids
        if not is_same or book.accounts != self.book.accounts or book.underlyings != self.book.underlyings:
            self._take(book)
            return
        self.book = book
        if not rows.size:
            return
        for number in np.unique(book.account[rows]).tolist():
            account = book.accounts[number]
            self.requirements[account] = self._ask(account)
        roots = {
            self._parameters.root(book.underlyings[number]) for number in np.unique(book.underlying[rows]).tolist()
        }
        touched = np.array([self._parameters.root(name) in roots for name in book.underlyings], dtype=bool)
        part = self._net(book.where(touched[book.underlying]))
        if part.notes or self.netted.notes:  # what is noted is of the whole book
            self.netted = self._net(book)
            return
        fresh = {one.underlying: one for one in part.exposures}
        exposures = tuple(fresh.get(one.underlying, one) for one in self.netted.exposures)
        self.netted = msgspec.structs.replace(
            self.netted, exposures=exposures, correlated=correlate(exposures, self._parameters)
        )

    def _take(self, book: RiskBook) -> None:
        self.book = book
        self._rows: dict[str, Ints] = {
            account: np.flatnonzero(book.account == number)
            for number, account in enumerate(book.accounts)
            if np.any(book.account == number)
        }
        self.requirements = {account: self._ask(account) for account in self._rows}
        self.netted = self._net(book)

    def _net(self, book: RiskBook) -> Netted:
        try:
            return net_exposure(book, self._parameters, self._redemption)
        except ValueError as error:
            return Netted((), (), (f"nothing is netted: {error}",))

    def _ask(self, account: str) -> Requirement:
        held = self.book.where(self._rows[account])
        model = self._models.get(account)
        why = find_fault(held) if model is not None else f"no margin model is known of {account}"
        if model is not None and not why:
            try:
                return model(held)
            except ValueError as error:
                why = str(error)
        return assume_worst(held, why)
