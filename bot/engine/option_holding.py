"""A position in a listed option that was traded as a hedge: what it holds, what it paid, and its row in the book.

Its marks come with those of the book's own options, its cash from its own ledger: the premium paid, fees, and what it
settled at. So the book alone stays comparable, with and without it.
"""

from __future__ import annotations

from bot.domain.instruments import Option
from bot.domain.market import VolQuote

NO_ROW = -1


class OptionHolding:
    """One option as a hedge. `lots` and `qty` (base units) are signed; `cash_settle` starts at zero.

    The option is priced in what it settles in. `px_paid` is the price of the last trade, which stands in for a mark as
    long as there is none. `row` is that of the book's marks: an option nothing is held of and no order is under way
    on has none, so that its stale quotes hold nothing up. `ordered_on` is the quote the last order was aimed at.
    """

    __slots__ = ("cash_settle", "instrument", "is_coin_settled", "lot_size", "lots", "ordered_on", "px_paid", "row")

    def __init__(self, instrument: Option) -> None:
        self.instrument = instrument
        self.is_coin_settled = instrument.settle == instrument.base
        self.lot_size = instrument.lot_size
        self.lots = 0
        self.cash_settle = 0.0
        self.px_paid = 0.0
        self.row = NO_ROW
        self.ordered_on: VolQuote | None = None

    @property
    def qty(self) -> float:
        """Signed quantity in base units."""
        return self.lots * self.lot_size

    @property
    def is_unmarked(self) -> bool:
        """Tell whether something is held that the book has no mark of."""
        return self.lots != 0 and self.row == NO_ROW

    def trade_lots(self, lots: int, px: float) -> None:
        """Book a trade of signed lots at `px`."""
        self.lots += lots
        self.cash_settle -= lots * self.lot_size * px
        self.px_paid = px

    def payoff_settle(self, px: float) -> float:
        """Return what a unit pays at a settlement price."""
        option = self.instrument
        payoff_px = max(0.0, px - option.strike_px if option.is_call else option.strike_px - px)
        return payoff_px / px if self.is_coin_settled else payoff_px

    def settle(self, px: float) -> None:
        """Turn what is held into cash at a settlement price."""
        self.cash_settle += self.qty * self.payoff_settle(px)
        self.lots = 0

    def to_quote(self, amount_settle: float, index_px: float) -> float:
        """Return an amount of settlement money in quote money."""
        return amount_settle * index_px if self.is_coin_settled else amount_settle
