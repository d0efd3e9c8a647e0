"""What every account is asked for and what nets, kept up to date: after a quote only what it touches is asked again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from bot.risk.book import Ints, RiskBook
from bot.risk.gaps import find_fault, has_gaps
from bot.risk.layout import FIXED, Layout, layout_of
from bot.risk.margin.registry import assume_worst
from bot.risk.netting import Netted, NettingParameters, correlate, net_exposure
from bot.risk.requirement import Requirement
from bot.risk.stack import BookStack


class RiskSheet:
    """The requirement of each account by its own model, and the netted exposure of all of them together.

    An account without a model, with a gap in its book, or whose model cannot answer, is asked for its whole value, and
    the reason stands in its charge. `requirements` and `netted` are to be read.
    """

    __slots__ = ("_layout", "_models", "_parameters", "_redemption", "_rows", "book", "netted", "requirements")

    def __init__(
        self,
        book: RiskBook,
        models: Mapping[str, Callable[[BookStack], Sequence[Requirement]]],
        parameters: NettingParameters,
        redemption: Mapping[str, float] | None = None,
    ) -> None:
        """Take the book, what answers for an account's stack, and what offsets are charged; ask for all of it."""
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
        is_laid_out = all(
            getattr(book, name) is getattr(self.book, name)
            or np.array_equal(getattr(book, name), getattr(self.book, name), equal_nan=name == "strike_px")
            for name in (*FIXED, "account")
        )
        if not is_laid_out or book.moneys != self.book.moneys:
            self._take(book)
            return
        self.book = book
        if not rows.size:
            return
        self._ask_all([book.accounts[number] for number in np.unique(book.account[rows]).tolist()])
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
        self._layout = layout_of(book)
        self._rows: dict[str, tuple[Ints, Layout]] = {}
        for number, account in enumerate(book.accounts):
            rows = np.flatnonzero(book.account == number)
            if rows.size:
                self._rows[account] = rows, self._layout.where(rows)
        self.requirements = {}
        self._ask_all(list(self._rows))
        self.netted = self._net(book)

    def _net(self, book: RiskBook) -> Netted:
        try:
            return net_exposure(book, self._parameters, self._redemption)
        except ValueError as error:
            return Netted((), (), (f"nothing is netted: {error}",))

    def _ask_all(self, accounts: list[str]) -> None:
        stack = BookStack(self.book, self._layout)
        is_whole = not has_gaps(stack)
        for account in accounts:
            self.requirements[account] = self._ask(account, stack, is_whole=is_whole)

    def _ask(self, account: str, stack: BookStack, *, is_whole: bool) -> Requirement:
        rows, layout = self._rows[account]
        model = self._models.get(account)
        why = "" if is_whole else find_fault(self.book.where(rows))
        if model is None:
            why = f"no margin model is known of {account}"
        elif not why:
            try:
                return model(stack.pick(rows, layout))[0]
            except ValueError as error:
                why = str(error)
        return assume_worst(self.book.where(rows), why)
