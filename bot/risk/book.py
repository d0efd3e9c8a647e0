"""The positions of one or several accounts as arrays of one length: what every margin model and every stress prices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from operator import itemgetter
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

OPTION: Final = 0
PERPETUAL: Final = 1
FUTURE: Final = 2
SPOT: Final = 3  # coins held outright: collateral, wallets, what liquidity amounts to


class RiskBook(msgspec.Struct, frozen=True, dict=True):
    """Positions as rows; `underlying`, `account` and `money` are indices into the tuples of names, one per row.

    `qty_base` is signed, in base units (an inverse contract's at its mark). `mark_px` is what a unit of base is worth
    in quote money: the forward of a future or perpetual, the value of an option. `forward_px` and `tau_years` are those
    of the row's expiry (its mark and infinity for what never expires); `strike_px` and `vol` are NaN where there is
    none. `money` is what the contract settles in, for whoever charges a difference between dollars. `spot_px` is by
    underlying. `buy_base` and `sell_base` are what open orders would still add on either side, unsigned.

    What follows from a book (its accounts, `layout.layout_of`) is worked out once and stays with it, so that its arrays
    are not to be written.
    """

    instrument_ids: tuple[str, ...]
    underlyings: tuple[str, ...]
    accounts: tuple[str, ...]
    moneys: tuple[str, ...]
    spot_px: Floats
    kind: Ints
    underlying: Ints
    account: Ints
    money: Ints
    qty_base: Floats
    mark_px: Floats
    forward_px: Floats
    strike_px: Floats
    tau_years: Floats
    vol: Floats
    is_call: Flags
    buy_base: Floats
    sell_base: Floats

    def __len__(self) -> int:
        return len(self.instrument_ids)

    @property
    def is_option(self) -> Flags:
        """Which rows are options."""
        return np.equal(self.kind, OPTION)

    @property
    def spot_of_row_px(self) -> Floats:
        """The spot price of each row's underlying."""
        return self.spot_px[self.underlying]

    @cached_property
    def rows_by_account(self) -> list[Ints]:
        """The rows of each account, in the order of their names; and none, last, of any other."""
        order = np.argsort(self.account, kind="stable")
        stops = np.searchsorted(self.account.take(order), np.arange(1, len(self.accounts)))
        return [*np.split(order, stops), order[:0]]

    @property
    def held(self) -> list[int]:
        """The numbers of the underlyings that have rows, lowest first."""
        numbers: list[int] = np.flatnonzero(np.bincount(self.underlying, minlength=len(self.underlyings))).tolist()
        return numbers

    def where(self, rows: Flags | Ints) -> RiskBook:
        """Return the book of these rows alone; names and spot prices stay as they are."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        if rows.dtype == np.bool_ and len(numbers) == len(self):
            return self
        arrays = {name: getattr(self, name).take(numbers) for name in ROW_COLUMNS}
        chosen = itemgetter(*numbers.tolist())(self.instrument_ids) if len(numbers) > 1 else ()
        if len(numbers) == 1:
            chosen = (self.instrument_ids[numbers[0]],)
        return msgspec.structs.replace(self, instrument_ids=chosen, **arrays)

    def of_account(self, account: str) -> RiskBook:
        """Return what is held at one account; empty for one that is not known."""
        found: RiskBook | None = self.__dict__.get(f"account {account}")
        if found is None:
            rows = self.rows_by_account[_index(self.accounts, account)]
            if len(rows) == len(self):
                return self
            found = self.__dict__[f"account {account}"] = self.where(rows)
        return found

    def of_underlying(self, underlying: str) -> RiskBook:
        """Return the positions in one underlying; empty for one that is not known."""
        return self.where(self.underlying == _index(self.underlyings, underlying))


ROW_COLUMNS: Final = (
    *("kind", "underlying", "account", "money", "qty_base", "mark_px", "forward_px", "strike_px"),
    *("tau_years", "vol", "is_call", "buy_base", "sell_base"),
)


class Position(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One row of a risk book as people write it; see `RiskBook`.

    An option needs strike, years and vol; what is not told of it is its Black-76 value on `forward_px` (spot if None).
    """

    kind: int
    underlying: str
    qty_base: float
    instrument_id: str = ""
    account: str = ""
    money: str = "USD"
    forward_px: float | None = None
    mark_px: float | None = None
    strike_px: float = float("nan")
    tau_years: float = float("inf")
    vol: float = float("nan")
    is_call: bool = False
    buy_base: float = 0.0
    sell_base: float = 0.0


def build_book(positions: Sequence[Position], spot_px: dict[str, float]) -> RiskBook:
    """Return the positions as a risk book; `spot_px` by underlying says which there are.

    Raises ValueError for an underlying without a spot price, and for an option without strike, time or vol.
    """
    from bot.pricing.black76 import greeks  # noqa: PLC0415 — the numbers below are needed without it as well

    underlyings = tuple(spot_px)
    for one in positions:
        if one.underlying not in spot_px:
            raise ValueError(f"expected a spot price of {one.underlying}, found those of {', '.join(underlyings)}")
        if one.kind == OPTION and not (one.strike_px > 0.0 and one.tau_years < float("inf") and one.vol >= 0.0):
            found = f"strike {one.strike_px:g}, {one.tau_years:g} years, vol {one.vol:g}"
            raise ValueError(f"expected strike, time and vol of option {one.instrument_id}, found {found}")
    accounts = tuple(dict.fromkeys(one.account for one in positions))
    moneys = tuple(dict.fromkeys(one.money for one in positions))
    forward = np.array(
        [spot_px[one.underlying] if one.forward_px is None else one.forward_px for one in positions], dtype=float
    )
    is_option = np.array([one.kind == OPTION for one in positions], dtype=bool)
    strike = np.array([one.strike_px for one in positions], dtype=float)
    tau = np.array([one.tau_years for one in positions], dtype=float)
    vol = np.array([one.vol for one in positions], dtype=float)
    is_call = np.array([one.is_call for one in positions], dtype=bool)
    mark = forward.copy()
    if is_option.any():
        rows = is_option
        mark[rows] = greeks(forward[rows], strike[rows], tau[rows], vol[rows], is_call[rows]).value
    told = np.array([np.nan if one.mark_px is None else one.mark_px for one in positions], dtype=float)
    mark = np.where(np.isnan(told), mark, told)
    return RiskBook(
        instrument_ids=tuple(one.instrument_id for one in positions),
        underlyings=underlyings,
        accounts=accounts,
        moneys=moneys,
        spot_px=np.array(list(spot_px.values()), dtype=float),
        kind=np.array([one.kind for one in positions], dtype=np.int64),
        underlying=np.array([underlyings.index(one.underlying) for one in positions], dtype=np.int64),
        account=np.array([accounts.index(one.account) for one in positions], dtype=np.int64),
        money=np.array([moneys.index(one.money) for one in positions], dtype=np.int64),
        qty_base=np.array([one.qty_base for one in positions], dtype=float),
        mark_px=mark,
        forward_px=forward,
        strike_px=strike,
        tau_years=tau,
        vol=vol,
        is_call=is_call,
        buy_base=np.array([one.buy_base for one in positions], dtype=float),
        sell_base=np.array([one.sell_base for one in positions], dtype=float),
    )


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1
