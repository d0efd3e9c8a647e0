"""The book of one underlying: options, linear and inverse positions, chains and coin cash, netted into one exposure.

In a USD vault the exposure is in quote money: Black deltas, and coin cash counts as delta. In a coin vault wealth is
counted in the coin, so the whole equity in coin is taken off the delta: W/S moves by (dW/dS − W/S) coins per relative
move of S: the premium-adjusted delta Δ − c for an option, nothing for plain coin.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, inf, log
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bot.domain.decisions import Legs, Refusal
from bot.domain.instruments import Future, Hedgeable, Option
from bot.domain.portfolio import Greeks
from bot.domain.units import NS_PER_S, NS_PER_YEAR
from bot.engine.chain_legs import ChainLegs
from bot.engine.hedge_marks import basis_between, hedge_basis, hedge_vol, tell_old_mark
from bot.engine.market import ExpiryMarks, MarketState
from bot.engine.option_holding import NO_ROW, OptionHolding
from bot.engine.option_prices import is_coin_priced
from bot.engine.settings import Ages, BookLeg, DeltaSettings
from bot.engine.smile_deltas import SmileDeltas
from bot.engine.surfaces import SurfaceKeeper
from bot.pricing.black76 import Black76Greeks, greeks, sides_of
from bot.pricing.few_greeks import few_greeks
from bot.pricing.fitted_surface import Slice
from bot.pricing.futures import inverse_delta_base
from bot.pricing.surface import Smile, interpolate_vol

REVALUE_AFTER_NS = NS_PER_S  # unchanged marks are repriced for the passing of time no more often than this …
REVALUE_AFTER_TAU_FRACTION = 1e-4  # … and no less often than this fraction of the nearest time to expiry
MAX_NODE_GAP = 0.2  # widest gap in log-moneyness between two fresh strikes a vol is interpolated across
MAX_FITTED_GAP = 1.5  # … or where a slice is fitted, in standard deviations to expiry

_DAYS_PER_YEAR = 365.0
_NS_PER_YEAR = np.array(float(NS_PER_YEAR))
_BLACK = DeltaSettings()


class OptionMarks(NamedTuple):
    """The option legs of a book as they were marked at one moment; arrays of one length."""

    now_ns: int
    tau_years: NDArray[np.float64]
    forward_px: NDArray[np.float64]
    vol: NDArray[np.float64]
    greeks: Black76Greeks
    moving_share: NDArray[np.float64] | None = None  # of each settlement price still to come; None: all of every one


class StaticLeg(NamedTuple):
    """A linear or inverse position of the book itself, and how much of it its sources say there is.

    `qty_own` is what was said in the instrument's own unit, of an inverse contract only; all else is in base units.
    """

    holding: Holding
    qty_base: float
    qty_own: float = 0.0


class Holding:
    """A linear or inverse position with its own cash: what was paid for it stays here until it is settled.

    `qty` is signed, in the instrument's own unit (base, or quote money if quote-sized). `cash_settle` starts at zero
    and moves with every trade, fee and funding payment, so `value_quote` is all the position has earned so far.
    """

    __slots__ = ("cash_settle", "instrument", "is_inverse", "lot_size", "lots", "mark_px", "qty", "start_px")

    def __init__(self, instrument: Hedgeable) -> None:
        self.instrument = instrument
        self.is_inverse = instrument.is_quote_sized
        self.lot_size = instrument.lot_size
        self.lots = 0
        self.qty = 0.0
        self.cash_settle = 0.0
        self.mark_px = 0.0
        self.start_px = 0.0  # mark at the start of the current P&L step

    def trade(self, qty: float, px: float) -> None:
        """Book a trade of signed `qty` in the instrument's own unit at `px`."""
        self.qty += qty
        self.cash_settle -= self._settle_value(qty, px)

    def trade_lots(self, lots: int, px: float) -> None:
        """Book a trade of signed lots at `px`."""
        self.lots += lots
        self.trade(lots * self.lot_size, px)

    def value_settle(self, mark_px: float) -> float:
        """Return the profit so far at this price, in settlement currency."""
        return self.cash_settle + self._settle_value(self.qty, mark_px)

    def value_quote(self, mark_px: float, index_px: float) -> float:
        """Return the profit so far at these prices, in quote money."""
        value_settle = self.cash_settle + self._settle_value(self.qty, mark_px)
        return value_settle * index_px if self.is_inverse else value_settle

    def delta_base(self, index_px: float) -> float:
        """Return the USD delta: of the price itself, and for an inverse contract of the coins it has earned."""
        if not self.is_inverse:
            return self.qty
        if not self.mark_px:
            return 0.0
        coins = inverse_delta_base(self.qty, 1.0, self.mark_px)
        return self.cash_settle - coins + coins * index_px / self.mark_px

    def _settle_value(self, qty: float, px: float) -> float:
        """Mark of `qty` in settlement currency: q·P for a linear contract, −Q/F coins for an inverse one."""
        if not qty:
            return 0.0
        return -inverse_delta_base(qty, 1.0, px) if self.is_inverse else qty * px


class UnderlyingBook:
    """Everything held in one underlying, and what it is worth and exposed to at the newest marks."""

    def __init__(
        self,
        underlying: str,
        market: MarketState,
        legs: Iterable[BookLeg],
        ages: Ages,
        *,
        surface: Literal["svi", "linear"] = "svi",
        delta: DeltaSettings = _BLACK,
    ) -> None:
        self.underlying = underlying
        self.market = market
        self.marks_of_underlying = market.underlyings[underlying]
        self._ages = ages
        self.coin_cash = 0.0
        self.quote_cash = 0.0
        self.spent_coins = 0.0  # gas paid by the hedging, in the coin itself and …
        self.spent_quote = 0.0  # … in quote money where the chain's coin is none of ours
        self.chain: ChainLegs | None = None
        self.hedges: dict[str, Holding] = {}
        self.static: list[StaticLeg] = []  # linear and inverse legs of the book
        self.option_hedges: dict[str, OptionHolding] = {}  # every listed option that was ever ordered as a hedge
        self._options: list[tuple[Option, float, int, ExpiryMarks]] = []  # the book's own, then those of hedges
        self._hedge_rows: list[OptionHolding] = []  # in the order of the last rows of `_options`
        for leg in legs:
            if isinstance(leg.instrument, Option):
                slot, expiry = market.hold(leg.instrument.instrument_id)
                self._options.append((leg.instrument, leg.qty_base, slot, expiry))
            else:
                self.static.append(StaticLeg(Holding(leg.instrument), leg.qty_base))
        self._surface = SurfaceKeeper(underlying, market) if surface == "svi" else None
        # that of hedges is fitted by itself, or they would change what marks the book
        self._hedge_surface = SurfaceKeeper(underlying, market) if surface == "svi" else None
        self.smile = SmileDeltas(market, delta) if delta.needs_record else None
        self.smile_delta_base = 0.0  # what the delta model adds to the Black delta of the options, …
        self._smile_ratio: NDArray[np.float64] | None = None  # … and to that of a unit of each, None if nothing
        self._substitutes: list[tuple[int, int, float]] = []  # leg, time of its stale quote, vol in its place
        self._bases: list[tuple[ExpiryMarks, int, float]] = []  # expiry, time of its stale forward, basis in its place
        self.old_hedge_marks: tuple[str, ...] = ()  # option hedges that had no quote of their own for too long
        self.unquoted_hedge_ns: dict[str, int] = {}  # the longest that each option hedge held had none, if too long
        self._qty_base: NDArray[np.float64] = np.empty(0)
        self._index_options()
        self.option_marks: OptionMarks | None = None
        self._version = -1
        self._revalue_at_ns = 0
        self._stale_at_ns = 0
        self.option_delta_base = 0.0
        self.option_gamma = 0.0
        self.option_vega = 0.0
        self.option_theta_per_year = 0.0
        self.option_value_quote = 0.0
        self.option_hedge_delta_base = 0.0  # what of these sums is that of option hedges
        self.option_hedge_value_quote = 0.0
        self.legs = _NO_LEGS

    def adopt(self, ages: Ages) -> None:
        """Judge the age of marks by other limits from the next one on."""
        if ages != self._ages:
            self._ages = ages
            self._stale_at_ns = self._revalue_at_ns = 0

    @property
    def option_qty_base(self) -> NDArray[np.float64]:
        """Signed quantity of every option leg."""
        return self._qty_base

    @property
    def option_legs(self) -> list[tuple[Option, float]]:
        """Every option leg with its signed quantity, in the order of `option_marks`: the book's own, then hedges."""
        return [(option, qty_base) for option, qty_base, _, _ in self._options]

    @property
    def interpolated_legs(self) -> int:
        """How many legs are marked with a vol from their neighbours, for want of a fresh quote of their own."""
        return len(self._substitutes)

    @property
    def surface_fallbacks(self) -> dict[str, str]:
        """Why the newest surface is not fitted, by expiry; empty where it is, or where none was needed yet."""
        return self._surface.fallbacks if self._surface is not None else {}

    def waiting_for_settlement_ns(self, now_ns: int) -> int:
        """Return for how long the book's first expired leg has been waiting for its settlement price; 0 if none is."""
        return max(0, now_ns - self._own_nearest_expiry_ns) if self._own_nearest_expiry_ns else 0

    @property
    def expiries(self) -> list[ExpiryMarks]:
        """The expiries of the option legs still alive, those of option hedges last."""
        return self._expiries

    @property
    def own_expiries(self) -> list[ExpiryMarks]:
        """The expiries that options of the book itself are of: those whose forwards have to be fresh."""
        return [expiry for expiry in self._expiries if expiry.index in self._own_expiry_indices]

    @property
    def holdings(self) -> list[Holding]:
        """Every linear and inverse position: the book's own and the hedges."""
        return [leg.holding for leg in self.static] + list(self.hedges.values())

    def hedge(self, instrument: Hedgeable) -> Holding:
        """Return the hedge position in `instrument`, flat at first."""
        holding = self.hedges.get(instrument.instrument_id)
        if holding is None:
            holding = self.hedges[instrument.instrument_id] = Holding(instrument)
        return holding

    def enter_static_positions(self) -> None:
        """Enter the book's own linear and inverse legs at their first mark, so that their profit starts at zero."""
        for holding, qty_base, qty_own in self.static:
            qty = qty_base * holding.mark_px + qty_own if holding.is_inverse else qty_base
            holding.trade(qty, holding.mark_px)

    def mark(self, now_ns: int) -> tuple[Refusal, str] | None:
        """Bring every mark and the net Greeks up to `now_ns`; return why that is impossible, if it is."""
        for holding, qty_base, qty_own in self.static:
            self._mark_holding(holding)
            if not (qty_base or qty_own):
                continue  # closed: nothing is left but what it earned
            refusal = self.find_old_quote(holding.instrument, now_ns)
            if refusal is not None:
                return refusal
        for holding in self.hedges.values():
            self._mark_holding(holding)
            if holding.qty and holding.instrument.instrument_id not in self.market.quotes:
                holding.mark_px = self.marks_of_underlying.index_px  # held before its venue said anything
        if not self._options:
            return self._find_unmarked()
        if self._version != self.marks_of_underlying.version or now_ns >= self._revalue_at_ns:
            return self._revalue(now_ns) or self._find_unmarked()
        return self._find_unmarked() if self.option_hedges else None

    def equity_quote(self) -> float:
        """Return the value of everything held, in quote money at the newest marks."""
        index_px = self.marks_of_underlying.index_px
        value = self.book_value_quote() - self.spent_coins * index_px - self.spent_quote
        for holding in self.hedges.values():
            value += holding.value_quote(holding.mark_px, index_px)
        return value + self.option_hedges_quote() if self.option_hedges else value

    def book_value_quote(self) -> float:
        """Return the value of what is to be hedged and of all cash."""
        index_px = self.marks_of_underlying.index_px
        options_quote = self.option_value_quote - self.option_hedge_value_quote
        value = self.quote_cash + self.coin_cash * index_px + options_quote
        for holding, _, _ in self.static:
            value += holding.value_quote(holding.mark_px, index_px)
        return value if self.chain is None else value + self.chain.value_quote(index_px)

    def book_delta_base(self) -> float:
        """Return the USD delta of what is to be hedged: options, the book's own positions, chains and coin cash."""
        delta = self.option_delta_base - self.option_hedge_delta_base + self.coin_cash
        if self.chain is not None:
            delta += self.chain.delta_base(self.marks_of_underlying.index_px)
        if self.static:
            index_px = self.marks_of_underlying.index_px
            for holding, _, _ in self.static:
                delta += holding.delta_base(index_px)
        return delta

    def hedge_delta_base(self, *, is_coin_numeraire: bool = False) -> float:
        """Return the delta of the hedges held: the USD delta, less in a coin vault the coins they have earned."""
        index_px = self.marks_of_underlying.index_px
        delta = 0.0
        for holding in self.hedges.values():
            delta += holding.delta_base(index_px)
            if is_coin_numeraire:
                delta -= holding.value_quote(holding.mark_px, index_px) / index_px
        return delta

    def own_legs_base(self) -> NDArray[np.float64]:
        """Return what the book itself holds of every option leg, by row: nothing of those that are hedges."""
        own_base = self.legs.qty_base.copy()
        own_base[len(own_base) - len(self._hedge_rows) :] = 0.0
        return own_base

    def option_hedges_quote(self) -> float:
        """Return what option hedges are worth and what they left in cash, in quote money."""
        index_px = self.marks_of_underlying.index_px
        value = self.option_hedge_value_quote
        for holding in self.option_hedges.values():
            amount = holding.cash_settle + (holding.qty * holding.px_paid if holding.is_unmarked else 0.0)
            value += holding.to_quote(amount, index_px)
        return value

    def option_hedge_coins(self) -> float:
        """Return the coins that option hedges left, less what they paid."""
        coins = 0.0
        for holding in self.option_hedges.values():
            if holding.is_coin_settled:
                coins += holding.cash_settle + (holding.qty * holding.px_paid if holding.is_unmarked else 0.0)
        return coins

    def option_hedges_delta_base(self, *, is_coin_numeraire: bool = False) -> float:
        """Return the delta of option hedges: the USD delta with the coins they cost, in a coin vault less their worth.

        What is traded at its mark changes no wealth, so that in either vault a coin-settled option adds Δ − c. What the
        delta model adds to Black's is not in it.
        """
        delta = self.option_hedge_delta_base + self.option_hedge_coins()
        return delta - self.option_hedges_quote() / self.marks_of_underlying.index_px if is_coin_numeraire else delta

    @property
    def option_hedges_smile_base(self) -> float:
        """What of `smile_delta_base` is that of option hedges."""
        if self._smile_ratio is None or not self._hedge_rows:
            return 0.0
        own = len(self._options) - len(self._hedge_rows)
        return float(self._qty_base[own:].dot(self._smile_ratio[own:]))

    def hedge_mark_px(self, holding: OptionHolding) -> float:
        """Return the mark of an option hedge in the venue's own price, that of its last trade where there is none."""
        marks = self.option_marks
        if holding.row == NO_ROW or marks is None:
            return holding.px_paid
        value_px = float(marks.greeks.value[holding.row])
        return value_px / float(marks.forward_px[holding.row]) if is_coin_priced(holding.instrument) else value_px

    def hedge_exposure_quote(self, holding: OptionHolding) -> float:
        """Return what is at stake in a unit of an option hedge: the larger of its delta and its worth, in quote money.

        Without a mark it is all that an option can move by.
        """
        marks, index_px = self.option_marks, self.marks_of_underlying.index_px
        if holding.row == NO_ROW or marks is None:
            return index_px
        return max(abs(float(marks.greeks.delta[holding.row])) * index_px, float(marks.greeks.value[holding.row]))

    def pending_delta_base(self, holding: OptionHolding) -> float:
        """Return the delta a unit more of an option hedge adds, premium and all; all it can be without a mark."""
        coins = self.hedge_mark_px(holding) if holding.is_coin_settled else 0.0
        marks = self.option_marks
        if holding.row == NO_ROW or marks is None:
            return (1.0 if holding.instrument.is_call else -1.0) - coins
        share = 1.0 if marks.moving_share is None else float(marks.moving_share[holding.row])
        smile = 0.0 if self._smile_ratio is None else float(self._smile_ratio[holding.row])
        return share * float(marks.greeks.delta[holding.row]) + smile - coins

    def net_greeks(self, *, is_coin_numeraire: bool) -> Greeks:
        """Return the net Greeks in the vault's convention."""
        delta = self.book_delta_base() + self.hedge_delta_base() - self.spent_coins + self.smile_delta_base
        if self.option_hedges:
            delta += self.option_hedges_delta_base()
        gamma = self.option_gamma
        if self.chain is not None:
            gamma += self.chain.gamma(self.marks_of_underlying.index_px)
        value = self.equity_quote()
        if is_coin_numeraire:
            index_px = self.marks_of_underlying.index_px
            delta -= value / index_px
            gamma -= delta / index_px
        return Greeks(delta, gamma, self.option_vega, self.option_theta_per_year / _DAYS_PER_YEAR, value)

    def settle(self, expiry_ns: int, px: float) -> tuple[float, float]:
        """Cash-settle everything of `expiry_ns` at `px`; return (what the move to `px` earned, the rest).

        Coins received count at the settlement price; what they gain at today's index is a price move too.
        """
        value_before = self.book_value_quote() + self.option_hedges_quote()
        index_px = self.marks_of_underlying.index_px
        moved_quote = 0.0
        is_settled = self._expiry_ns == expiry_ns
        marks = self.option_marks
        if marks is not None:
            per_px = self._qty_base * marks.greeks.delta * (px - marks.forward_px)
            moved_quote += float(per_px[is_settled].sum())
        coins = hedge_coins = 0.0
        own = len(self._options) - len(self._hedge_rows)
        for row, ((option, qty_base, _, _), settles) in enumerate(zip(self._options, is_settled, strict=True)):
            if not settles:
                continue
            payoff_quote = qty_base * max(0.0, px - option.strike_px if option.is_call else option.strike_px - px)
            if row >= own:  # a hedge pays into its own ledger
                holding = self._hedge_rows[row - own]
                hedge_coins += payoff_quote / px if holding.is_coin_settled else 0.0
                holding.settle(px)
            elif option.settle == option.base:
                coins += payoff_quote / px
            else:
                self.quote_cash += payoff_quote
        self.coin_cash += coins
        moved_quote += (coins + hedge_coins) * (index_px - px)
        self._keep_options(~is_settled)
        for holding in self.option_hedges.values():  # one that never had a mark
            if holding.instrument.expiry_ns == expiry_ns and holding.lots:
                holding.settle(px)
        worth_quote = self.book_value_quote() + self.option_hedges_quote()
        return moved_quote, worth_quote - value_before - moved_quote

    def settle_hedges(self, expiry_ns: int, px: float) -> float:
        """Close dated futures of `expiry_ns` at `px`; return what the price move to `px` earned, in quote."""
        index_px = self.marks_of_underlying.index_px
        moved_quote = 0.0
        for holding in self.holdings:
            if isinstance(holding.instrument, Future) and holding.instrument.expiry_ns == expiry_ns and holding.qty:
                moved_quote -= holding.value_quote(holding.mark_px, index_px)
                holding.trade(-holding.qty, px)
                holding.lots = 0
                moved_quote += holding.value_quote(px, index_px)
        return moved_quote

    def set_option_marks(self, marks: OptionMarks) -> None:
        """Adopt `marks` and sum their Greeks."""
        qty = self._qty_base
        values = marks.greeks
        self.option_marks = marks
        if self.smile is not None:
            self._smile_ratio = self.smile.corrections_ratio(
                values, self._strike_px, marks.forward_px, marks.tau_years, self._is_call, self._expiry_index
            )
            self.smile_delta_base = float(qty.dot(self._smile_ratio)) if self._smile_ratio is not None else 0.0
        by_delta = by_gamma = qty
        if marks.moving_share is not None:
            by_delta = qty * marks.moving_share
            by_gamma = by_delta * marks.moving_share
        self.option_delta_base = float(by_delta.dot(values.delta))
        self.option_gamma = float(by_gamma.dot(values.gamma))
        self.option_vega = float(qty.dot(values.vega))
        self.option_theta_per_year = float(qty.dot(values.theta))
        self.option_value_quote = float(qty.dot(values.value))
        if self._hedge_rows:
            own = len(qty) - len(self._hedge_rows)
            self.option_hedge_delta_base = float(by_delta[own:].dot(values.delta[own:]))
            self.option_hedge_value_quote = float(qty[own:].dot(values.value[own:]))
        else:
            self.option_hedge_delta_base = self.option_hedge_value_quote = 0.0

    def add_option_hedge(self, option: Option, now_ns: int) -> tuple[OptionHolding, tuple[Refusal, str] | None]:
        """Return the hedge position in an option, marked from now on; and why it cannot be, if so.

        A P&L step must have been closed at `now_ns`, and the next one be opened after it.
        """
        holding = self.option_hedges.get(option.instrument_id)
        if holding is None:
            holding = self.option_hedges[option.instrument_id] = OptionHolding(option)
        if holding.row != NO_ROW or option.expiry_ns <= now_ns:
            return holding, None
        legs, rows, marks = self._options, self._hedge_rows, self.option_marks
        self._options = [*legs, (option, holding.qty, *self.market.hold(option.instrument_id))]
        self._hedge_rows = [*rows, holding]
        self._forget_marks()
        refusal = self._revalue(now_ns)
        if refusal is not None:
            self._options, self._hedge_rows = legs, rows
            holding.row = NO_ROW
            self._forget_marks()
            self.option_marks = marks
        return holding, refusal

    def trade_option_hedge(self, holding: OptionHolding, lots: int, px: float) -> None:
        """Book a trade of signed lots of an option hedge at `px`, in the venue's price."""
        holding.trade_lots(lots, px)
        if holding.row == NO_ROW:
            return
        option, _, slot, expiry = self._options[holding.row]
        self._options[holding.row] = (option, holding.qty, slot, expiry)
        self._qty_base = self._qty_base.copy()  # the old one is that of the policy's view
        self._qty_base[holding.row] = holding.qty
        if self.option_marks is not None:
            self.set_option_marks(self.option_marks)
        self._version = -1

    def drop_option_hedges(self, names: Iterable[str]) -> None:
        """Mark these option hedges no more, of which nothing is held; their cash stays."""
        gone = {self.option_hedges[name].row for name in names}
        self._keep_options(np.array([row not in gone for row in range(len(self._options))], dtype=np.bool_))

    def _find_unmarked(self) -> tuple[Refusal, str] | None:
        for name, holding in self.option_hedges.items():
            if holding.is_unmarked:
                return Refusal.NO_VOL, f"{name} is held as a hedge, and no fresh quotes mark it"
        return None

    @property
    def options(self) -> dict[str, tuple[Option, float]]:
        """The option legs of the book itself by instrument id, several of one instrument added up."""
        held: dict[str, tuple[Option, float]] = {}
        for option, qty_base, _, _ in self._options[: len(self._options) - len(self._hedge_rows)]:
            _, before_base = held.get(option.instrument_id, (option, 0.0))
            held[option.instrument_id] = (option, before_base + qty_base)
        return held

    def hold_options(self, legs: Iterable[tuple[Option, float]]) -> None:
        """Hold these option legs instead. Marks of those held before stay; if others join, `mark` must follow."""
        marks, row_of = self.option_marks, {leg[0].instrument_id: row for row, leg in enumerate(self._options)}
        hedges = self._options[len(self._options) - len(self._hedge_rows) :]
        own = [(option, qty_base, *self.market.hold(option.instrument_id)) for option, qty_base in legs]
        self._options = [*own, *hedges]
        self._forget_marks()
        rows = [row_of[option.instrument_id] for option, *_ in self._options if option.instrument_id in row_of]
        if marks is not None and self._options and len(rows) == len(self._options):
            self._carry_marks(marks, np.array(rows, dtype=np.intp))
        else:
            self.option_marks = None

    def option_value_of(self, instrument_id: str) -> float | None:
        """Return the value of one option of a leg in quote money, None if it has no mark."""
        if self.option_marks is not None:
            for row, (option, *_) in enumerate(self._options):
                if option.instrument_id == instrument_id:
                    return float(self.option_marks.greeks.value[row])
        return None

    def _mark_holding(self, holding: Holding) -> None:
        quote = self.market.quotes.get(holding.instrument.instrument_id)
        if quote is not None:
            holding.mark_px = 0.5 * (quote.bid_px + quote.ask_px)

    def living_px(self, holding: Holding, now_ns: int) -> float:
        """Return the mark of a position while its venue quotes it, else the index: a venue that is down moves too."""
        quote = self.market.quotes.get(holding.instrument.instrument_id)
        is_fresh = quote is not None and now_ns - quote.ts_event_ns <= self._ages.quote_ns
        return holding.mark_px if is_fresh and holding.mark_px else self.marks_of_underlying.index_px

    def find_old_quote(self, instrument: Hedgeable, now_ns: int) -> tuple[Refusal, str] | None:
        """Return why the quote of a position of the book cannot mark it, if so."""
        quote = self.market.quotes.get(instrument.instrument_id)
        if quote is None:
            return Refusal.NO_MARKET, f"no quote yet for {instrument.instrument_id}"
        age_ns = now_ns - quote.ts_event_ns
        is_over = isinstance(instrument, Future) and now_ns >= instrument.expiry_ns  # nobody quotes it any more
        if age_ns > self._ages.quote_ns and not is_over:
            limit_s = self._ages.quote_ns / NS_PER_S
            return Refusal.NO_MARKET, (
                f"quote of {instrument.instrument_id} is {age_ns / NS_PER_S:.0f} s old, limit {limit_s:.0f} s"
            )
        return None

    def _keep_options(self, is_kept: NDArray[np.bool_]) -> None:
        """Drop the other legs, marks and all."""
        marks = self.option_marks
        own = len(self._options) - len(self._hedge_rows)
        for holding, keep in zip(self._hedge_rows, is_kept[own:], strict=True):
            holding.row = holding.row if keep else NO_ROW
        self._hedge_rows = [one for one, keep in zip(self._hedge_rows, is_kept[own:], strict=True) if keep]
        self._options = [leg for leg, keep in zip(self._options, is_kept, strict=True) if keep]
        self._forget_marks()
        if marks is not None and self._options:
            self._carry_marks(marks, np.flatnonzero(is_kept))

    def _forget_marks(self) -> None:
        self._substitutes = []
        self._bases = []
        self.old_hedge_marks = ()
        self._smile_ratio = None
        self._stale_at_ns = 0
        self._index_options()
        self._version = -1

    def _carry_marks(self, marks: OptionMarks, rows: NDArray[np.intp]) -> None:
        """Mark the legs as they were marked in these rows."""
        forward_px, vol, tau_years = marks.forward_px[rows], marks.vol[rows], marks.tau_years[rows]
        values = greeks(forward_px, self._strike_px, tau_years, vol, self._is_call)
        share = self._moving_share(marks.now_ns)
        self.set_option_marks(OptionMarks(marks.now_ns, tau_years, forward_px, vol, values, share))

    def _tau_years(self, now_ns: int) -> NDArray[np.float64]:
        """Time to expiry; a leg that waits for its settlement price is marked as if it had a second left.

        At no time left at all gamma and theta would be infinite at the strike.
        """
        # numpy takes as long to make floats of two integers of this size as for all the rest
        tau_years = self._expiry_ns - float(now_ns)
        tau_years /= _NS_PER_YEAR
        is_nearly_over = now_ns > self._nearest_expiry_ns - NS_PER_S
        return np.maximum(tau_years, NS_PER_S / NS_PER_YEAR) if is_nearly_over else tau_years

    def _moving_share(self, now_ns: int) -> NDArray[np.float64] | None:
        """Return which share of each leg's settlement price is still to come; None if nothing of any is fixed yet.

        An average over the last W is expected to be A = (1 − s) · what is fixed + s · S, s = τ/W: dA = s dS. The
        venue's forward is A and its vol is quoted for A, so that by the chain rule Δ = s Δ_A and Γ = s² Γ_A, whatever
        the vol; were it that of S, σ² τ would have to be s² σ² τ/3 (Levy 1992, J. Int. Money and Finance 11:474-491).
        Deribit's own deltas are these to 0.004 (`scripts/exchange_delta`).
        """
        if now_ns <= self._window_opens_ns:
            return None
        share = (self._expiry_ns - now_ns) / np.maximum(self._window_ns, 1.0)
        return np.where(self._window_ns > 0.0, np.clip(share, 0.0, 1.0), 1.0)

    def _index_options(self) -> None:
        options = self._options
        self._qty_base = np.array([qty for _, qty, _, _ in options], dtype=np.float64)
        self._strike_px = np.array([option.strike_px for option, _, _, _ in options], dtype=np.float64)
        self._is_call = np.array([option.is_call for option, _, _, _ in options], dtype=np.bool_)
        self._sides = sides_of(self._is_call)
        self._slots = np.array([slot for _, _, slot, _ in options], dtype=np.intp)
        self._expiry_index = np.array([expiry.index for _, _, _, expiry in options], dtype=np.intp)
        self._expiry_ns = np.array([option.expiry_ns for option, _, _, _ in options], dtype=np.float64)
        self._window_ns = np.array([option.settlement_window_s for option, _, _, _ in options]) * NS_PER_S
        opening_ns = (self._expiry_ns - self._window_ns)[self._window_ns > 0.0]
        self._window_opens_ns = float(opening_ns.min()) if opening_ns.size else inf
        self._expiries = list({expiry.index: expiry for _, _, _, expiry in options}.values())
        self._nearest_expiry_ns = min((option.expiry_ns for option, _, _, _ in options), default=0)
        own = options[: len(options) - len(self._hedge_rows)]
        self._own_expiry_indices = frozenset(expiry.index for _, _, _, expiry in own)
        self._own_nearest_expiry_ns = min((option.expiry_ns for option, _, _, _ in own), default=0)
        for row, holding in enumerate(self._hedge_rows, len(options) - len(self._hedge_rows)):
            holding.row = row
        if not options:
            self.option_marks = None
            self.legs = _NO_LEGS
            self.option_delta_base = self.option_gamma = self.option_vega = 0.0
            self.option_theta_per_year = self.option_value_quote = self.smile_delta_base = 0.0
            self.option_hedge_delta_base = self.option_hedge_value_quote = 0.0

    def _revalue(self, now_ns: int) -> tuple[Refusal, str] | None:
        market = self.market
        forward_px = market.forward_px.take(self._expiry_index)
        vol = market.vol.take(self._slots)
        is_due = now_ns >= self._stale_at_ns  # never true again before an input may have grown too old
        refusal = self._find_bases(now_ns) if is_due else None
        if refusal is not None:
            return refusal
        for expiry, forward_ns, basis in self._bases:
            if expiry.forward_ns == forward_ns:
                forward_px[self._expiry_index == expiry.index] = self.marks_of_underlying.index_px * exp(basis)
        refusal = self._find_substitutes(now_ns, vol, forward_px) if is_due else None
        if refusal is not None:
            return refusal
        for leg, vol_ns, substitute_vol in self._substitutes:
            if market.vol_ns[self._slots[leg]] == vol_ns:
                vol[leg] = substitute_vol
        tau_years = self._tau_years(now_ns)
        if self.smile is not None and now_ns >= self.smile.due_ns:
            self.smile.watch(now_ns, self._expiries, self._strike_px, self._qty_base, self._expiry_index)
        values = few_greeks(forward_px, self._strike_px, tau_years, vol, self._is_call, self._sides)
        self.set_option_marks(OptionMarks(now_ns, tau_years, forward_px, vol, values, self._moving_share(now_ns)))
        self.legs = Legs(forward_px, self._strike_px, tau_years, vol, self._qty_base, self._is_call)
        self._version = self.marks_of_underlying.version
        left_ns = self._nearest_expiry_ns - now_ns
        wait_ns = int(left_ns * REVALUE_AFTER_TAU_FRACTION) if left_ns > 0 else REVALUE_AFTER_NS
        self._revalue_at_ns = now_ns + min(REVALUE_AFTER_NS, wait_ns)
        return None

    def _find_bases(self, now_ns: int) -> tuple[Refusal, str] | None:
        """Find what stands in for stale forwards; refuse where the book's own has none between fresh expiries."""
        self._bases = []
        oldest_ns = now_ns - self._ages.vol_ns
        for expiry in self._expiries:
            is_own = expiry.index in self._own_expiry_indices
            if not expiry.forward_ns and is_own:
                return Refusal.NO_MARKET, f"no forward of {expiry.label} yet"
            is_stale = expiry.forward_ns < oldest_ns and now_ns < expiry.expiry_ns
            if expiry.forward_ns and not is_stale:
                continue
            find = basis_between if is_own else hedge_basis
            basis = find(self.market, expiry, now_ns, oldest_ns)
            if basis is None:
                age_ns = now_ns - expiry.forward_ns
                return Refusal.STALE_FORWARD, (
                    f"forward of {expiry.label} is {age_ns / NS_PER_S:.0f} s old, "
                    f"limit {self._ages.vol_ns / NS_PER_S:.0f} s"
                )
            self._bases.append((expiry, expiry.forward_ns, basis))
        return None

    def _find_substitutes(
        self, now_ns: int, vol: NDArray[np.float64], forward_px: NDArray[np.float64]
    ) -> tuple[Refusal, str] | None:
        """Find the vol of legs without a fresh quote; refuse where the surface does not reach one of the book."""
        self._substitutes = []
        vol_ns = self.market.vol_ns[self._slots]
        is_alive = self._expiry_ns > now_ns
        is_stale = is_alive & ((vol_ns < now_ns - self._ages.vol_ns) | ~np.isfinite(vol))
        if self._hedge_rows:
            self._tell_old_marks(now_ns, vol_ns)
        if not is_stale.any():
            alive_ns = vol_ns[is_alive]
            forward_ns = [expiry.forward_ns for expiry in self._expiries if expiry.expiry_ns > now_ns]
            if len(alive_ns):
                self._stale_at_ns = min(int(alive_ns.min()), *forward_ns) + self._ages.vol_ns + 1
            return None
        smiles: list[tuple[ExpiryMarks, Smile]] | None = None  # made once a fitted slice does not reach
        own = len(self._options) - len(self._hedge_rows)
        for leg in np.flatnonzero(is_stale).tolist():
            option, _, _, expiry = self._options[leg]
            k = log(option.strike_px / float(forward_px[leg]))
            keeper = self._surface if leg < own else self._hedge_surface
            substitute_vol = _fitted_vol(keeper, option, k, now_ns)
            if substitute_vol is None:
                smiles = self.market.fresh_smiles(self.underlying, now_ns) if smiles is None else smiles
                substitute_vol = _interpolated_vol(smiles, option, expiry, k, now_ns)
            if substitute_vol is None and leg >= own:
                fitted = keeper.surface(now_ns) if keeper is not None else None
                substitute_vol = hedge_vol(self.market, fitted, option, k, now_ns)
            if substitute_vol is None:
                age_ns = now_ns - int(vol_ns[leg])
                age = f"{age_ns / NS_PER_S:.0f} s old" if vol_ns[leg] else "missing"
                return Refusal.NO_VOL, (
                    f"vol quote of {option.instrument_id} is {age} and no fresh quotes surround it closely enough"
                )
            self._substitutes.append((leg, int(vol_ns[leg]), substitute_vol))
        self._stale_at_ns = now_ns + REVALUE_AFTER_NS
        return None

    def _tell_old_marks(self, now_ns: int, vol_ns: NDArray[np.int64]) -> None:
        """Note which option hedges have been without a quote of their own for long."""
        told = []
        for holding in self._hedge_rows:
            option = holding.instrument
            quoted_ns = int(vol_ns[holding.row])
            text = tell_old_mark(option, quoted_ns, now_ns, self._ages.vol_ns) if holding.lots else ""
            if text:
                told.append(text)
                age_ns = now_ns - min(quoted_ns or now_ns, option.expiry_ns)
                longest_ns = self.unquoted_hedge_ns.get(option.instrument_id, 0)
                self.unquoted_hedge_ns[option.instrument_id] = max(longest_ns, age_ns)
        self.old_hedge_marks = tuple(told)


def _fitted_vol(keeper: SurfaceKeeper | None, option: Option, k: float, now_ns: int) -> float | None:
    """Return the vol of the fitted slice of the option's own expiry, None where it has none or does not reach."""
    one = keeper.slice_of(option.expiry_ns, now_ns) if keeper is not None else None
    if one is None or one.kind == "linear" or one.gap_at(k) > _most_gap(one):
        return None
    return float(one.mark_vol(np.array([k]))[0])


def _interpolated_vol(
    smiles: list[tuple[ExpiryMarks, Smile]], option: Option, expiry: ExpiryMarks, k: float, now_ns: int
) -> float | None:
    """Return a vol from fresh quotes close to ln(K/F) = k, joined by lines; None where they are too far."""
    around = _smiles_around(smiles, expiry, k)
    if not around:
        return None
    return float(interpolate_vol(around, (option.expiry_ns - now_ns) / NS_PER_YEAR, np.array([k]))[0])


def _most_gap(one: Slice) -> float:
    """Return the widest gap between fresh strikes that a slice may bridge: wings say nothing of the middle."""
    return max(MAX_NODE_GAP, MAX_FITTED_GAP * one.deviation)


def _smiles_around(smiles: list[tuple[ExpiryMarks, Smile]], expiry: ExpiryMarks, k: float) -> list[Smile]:
    """Return the leg's own smile if it has close neighbours there, else the nearest such smiles before and after it."""
    close = [(marks.expiry_ns, smile) for marks, smile in smiles if _has_close_neighbours(smile, k)]
    own = [smile for expiry_ns, smile in close if expiry_ns == expiry.expiry_ns]
    if own:
        return own
    before = [smile for expiry_ns, smile in close if expiry_ns < expiry.expiry_ns]
    after = [smile for expiry_ns, smile in close if expiry_ns > expiry.expiry_ns]
    return [before[-1], after[0]] if before and after else []


def _has_close_neighbours(smile: Smile, k: float) -> bool:
    nodes = smile.log_moneyness
    right = int(np.searchsorted(nodes, k))
    if right < len(nodes) and nodes[right] == k:
        return True
    return 0 < right < len(nodes) and bool(nodes[right] - nodes[right - 1] <= MAX_NODE_GAP)


_EMPTY: NDArray[np.float64] = np.empty(0)
_NO_LEGS = Legs(_EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY, np.empty(0, dtype=np.bool_))
