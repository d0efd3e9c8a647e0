"""Market state: the newest believable value of every input, its age, and a count of what was refused.

A refused event changes nothing but its counter. Within an expiry the newest forward marks every leg, while each strike
keeps its own vol: the quotes of one sweep are not simultaneous.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isnan

import numpy as np
from numpy.typing import NDArray

from bot.domain.instruments import Hedgeable, Instrument, Option
from bot.domain.market import ExecutionTerms, IndexPrice, Quote, QuoteFault, VolQuote
from bot.domain.units import NS_PER_S, tau_years
from bot.engine.settings import Ages
from bot.pricing.surface import Smile
from bot.pricing.svi_fit import SmileQuotes

MAX_VOL = 20.0  # 2,000 %: above it a percentage was taken for a fraction
MAX_VOL_RATIO = 5.0  # from one vol of an option to its next; further needs a second one to confirm it
CLOCK_TOLERANCE_NS = NS_PER_S  # a venue's clock may run ahead of ours by this much before its data is refused


class JumpGuard:
    """Refuses the first price of a jump; a later one beside it confirms the jump."""

    __slots__ = ("_last_px", "_max_fraction", "_suspect_px", "_suspect_stamp")

    def __init__(self, max_fraction: float) -> None:
        self._max_fraction = max_fraction
        self._last_px = 0.0
        self._suspect_px = 0.0
        self._suspect_stamp = (0, 0)

    def accepts(self, px: float, ts_ns: int, seq: int) -> bool:
        """Tell whether `px` may be used, and remember it. The same event sent again confirms nothing."""
        last = self._last_px
        if last and abs(px - last) > self._max_fraction * last:
            suspect = self._suspect_px
            stamp = (ts_ns, seq)
            if suspect and stamp <= self._suspect_stamp:
                return False
            if not suspect or abs(px - suspect) > self._max_fraction * suspect:
                self._suspect_px = px
                self._suspect_stamp = stamp
                return False
        self._last_px = px
        self._suspect_px = 0.0
        return True

    def forget_suspect(self) -> None:
        """Take the last price as still true: it was seen again after the suspect."""
        self._suspect_px = 0.0

    @property
    def is_suspicious(self) -> bool:
        """Tell whether a jump awaits its confirmation."""
        return self._suspect_px > 0.0


class ExpiryMarks:
    """The forward of one underlying and expiry, and the slots of its options."""

    __slots__ = (
        "expiry_ns",
        "forward_index_px",
        "forward_ns",
        "forward_px",
        "guard",
        "index",
        "is_held",
        "slots",
        "underlying",
    )

    def __init__(self, index: int, underlying: str, expiry_ns: int, max_jump_fraction: float) -> None:
        self.index = index
        self.underlying = underlying
        self.expiry_ns = expiry_ns
        self.forward_px = 0.0
        self.forward_ns = 0
        self.forward_index_px = 0.0  # the index when that forward came; 0 where there was none yet
        self.guard = JumpGuard(max_jump_fraction)
        self.slots: list[int] = []
        self.is_held = False

    @property
    def label(self) -> str:
        """Underlying and day of expiry, for people."""
        return f"{self.underlying} {str(np.datetime64(self.expiry_ns, 'ns'))[:10]}"


class UnderlyingMarks:
    """The index of one underlying, and a version that moves whenever a mark of its held legs does."""

    __slots__ = ("guard", "index_ns", "index_px", "index_seq", "version")

    def __init__(self, max_jump_fraction: float) -> None:
        self.index_px = 0.0
        self.index_ns = 0
        self.index_seq = -1
        self.guard = JumpGuard(max_jump_fraction)
        self.version = 0


class MarketState:
    """Applies market events and answers what the newest believable marks are.

    Options live in slots: `vol` and `vol_ns` are arrays over slots, `forward_px` an array over expiries.
    """

    def __init__(self, universe: Sequence[Option | Hedgeable], ages: Ages) -> None:
        self._ages = ages
        self.faults: dict[QuoteFault, int] = {}
        self.underlyings: dict[str, UnderlyingMarks] = {}
        self.expiries: list[ExpiryMarks] = []
        self.quotes: dict[str, Quote] = {}
        self.terms: dict[str, ExecutionTerms] = {}  # of instruments that are traded by transactions
        self.index_at_terms: dict[str, float] = {}  # the index as it was when those terms came
        self._quote_guards: dict[str, JumpGuard] = {}
        self.slot_of: dict[str, int] = {}
        self._expiry_of_slot: list[ExpiryMarks] = []
        self._expiry_of: dict[tuple[str, int], ExpiryMarks] = {}
        self.strike_px: NDArray[np.float64] = np.empty(0)
        self.vol: NDArray[np.float64] = np.empty(0)
        self.vol_ns: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.vol_quotes: list[VolQuote | None] = []  # by slot, the newest one taken in
        self.forward_px: NDArray[np.float64] = np.empty(0)
        self._last_vol: list[float] = []
        self._last_ns: list[int] = []
        self._last_forward_px: list[float] = []
        self._last_seq: list[int] = []
        self._is_held = bytearray()
        self._suspect_vol: dict[int, float] = {}
        self.list_instruments(universe)

    def adopt(self, ages: Ages) -> None:
        """Judge the age of what comes by other limits from now on."""
        self._ages = ages

    def list_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Accept market data of `instruments` from now on; those already known stay as they are."""
        strikes: list[float] = []
        for instrument in instruments:
            name = instrument.instrument_id
            if name in self.slot_of or name in self._quote_guards:
                continue
            if instrument.base not in self.underlyings:
                self.underlyings[instrument.base] = UnderlyingMarks(self._ages.max_jump_fraction)
            if isinstance(instrument, Option):
                expiry = self._find_expiry(instrument)
                slot = len(self._expiry_of_slot)
                self.slot_of[name] = slot
                self._expiry_of_slot.append(expiry)
                expiry.slots.append(slot)
                strikes.append(instrument.strike_px)
            else:
                self._quote_guards[name] = JumpGuard(self._ages.max_jump_fraction)
        n = len(strikes)
        self.strike_px = np.append(self.strike_px, strikes)
        self.vol = np.append(self.vol, np.full(n, np.nan))
        self.vol_ns = np.append(self.vol_ns, np.zeros(n, dtype=np.int64))
        self.forward_px = np.append(self.forward_px, np.full(len(self.expiries) - len(self.forward_px), np.nan))
        self.vol_quotes += [None] * n
        self._last_vol += [0.0] * n
        self._last_ns += [0] * n
        self._last_forward_px += [0.0] * n
        self._last_seq += [-1] * n
        self._is_held += bytes(n)

    def hold(self, instrument_id: str) -> tuple[int, ExpiryMarks]:
        """Mark an option as held, so that a change of its marks is noticed; return its slot and expiry."""
        slot = self.slot_of[instrument_id]
        self._is_held[slot] = 1
        expiry = self._expiry_of_slot[slot]
        expiry.is_held = True
        return slot, expiry

    def expiry_of(self, slot: int) -> ExpiryMarks:
        """Return the expiry of an option's slot."""
        return self._expiry_of_slot[slot]

    def forward_of(self, slot: int) -> float:
        """Return the forward of an option's expiry, NaN before the first one."""
        return float(self.forward_px[self._expiry_of_slot[slot].index])

    def apply_vol_quote(self, event: VolQuote) -> None:
        """Take in a vol quote, or count why not."""
        slot = self.slot_of.get(event.instrument_id)
        if slot is None:
            return self.refuse(QuoteFault.UNKNOWN_INSTRUMENT)
        expiry = self._expiry_of_slot[slot]
        fault = _find_vol_fault(event)
        if fault is not None:
            return self.refuse(fault)
        vol = event.mark_vol
        forward_px = event.forward_px
        ts_ns = event.ts_event_ns
        if not self._is_in_time(
            ts_ns, event.ts_recv_ns, event.seq, self._last_ns[slot], self._last_seq[slot], self._ages.vol_ns
        ):
            return None
        if ts_ns >= expiry.expiry_ns:
            return self.refuse(QuoteFault.EXPIRED)
        last_vol = self._last_vol[slot]
        if ts_ns == self._last_ns[slot] and vol == last_vol and forward_px == self._last_forward_px[slot]:
            return self.refuse(QuoteFault.DUPLICATE)  # the same again, whatever number it came under
        if not self._take_forward(expiry, forward_px, ts_ns, event.seq):
            return self.refuse(QuoteFault.JUMP)
        self._last_ns[slot] = ts_ns
        self._last_forward_px[slot] = forward_px
        self._last_seq[slot] = event.seq
        if vol != last_vol:
            is_far = last_vol and not last_vol < vol * MAX_VOL_RATIO < last_vol * MAX_VOL_RATIO * MAX_VOL_RATIO
            if is_far and not self._confirms_vol(slot, vol):
                return self.refuse(QuoteFault.JUMP)
            self._last_vol[slot] = vol
            self.vol[slot] = vol
            if self._is_held[slot]:
                self.underlyings[expiry.underlying].version += 1
        self.vol_ns[slot] = ts_ns
        self.vol_quotes[slot] = event
        return None

    def apply_quote(self, event: Quote) -> None:
        """Take in a best bid and ask, or count why not. A side without a quote has price 0 and size 0."""
        guard = self._quote_guards.get(event.instrument_id)
        if guard is None:
            return self.refuse(QuoteFault.UNKNOWN_INSTRUMENT)
        fault = _find_quote_fault(event)
        if fault is not None:
            return self.refuse(fault)
        last = self.quotes.get(event.instrument_id)
        last_ns, last_seq = (last.ts_event_ns, last.seq) if last is not None else (0, -1)
        if not self._is_in_time(event.ts_event_ns, event.ts_recv_ns, event.seq, last_ns, last_seq, self._ages.quote_ns):
            return None
        if last is not None and _is_same_quote(event, last):
            return self.refuse(QuoteFault.DUPLICATE)
        if not guard.accepts(0.5 * (event.bid_px + event.ask_px), event.ts_event_ns, event.seq):
            return self.refuse(QuoteFault.JUMP)
        self.quotes[event.instrument_id] = event
        return None

    def apply_index(self, event: IndexPrice) -> None:
        """Take in an index price, or count why not."""
        marks = self.underlyings.get(event.underlying)
        if marks is None:
            return self.refuse(QuoteFault.UNKNOWN_INSTRUMENT)
        fault = _find_index_fault(event)
        if fault is not None:
            return self.refuse(fault)
        px = event.px
        if not self._is_in_time(
            event.ts_event_ns, event.ts_recv_ns, event.seq, marks.index_ns, marks.index_seq, self._ages.index_ns
        ):
            return None
        if event.ts_event_ns == marks.index_ns and px == marks.index_px:
            return self.refuse(QuoteFault.DUPLICATE)
        if not marks.guard.accepts(px, event.ts_event_ns, event.seq):
            return self.refuse(QuoteFault.JUMP)
        marks.index_px = px
        marks.index_ns = event.ts_event_ns
        marks.index_seq = event.seq
        return None

    def apply_terms(self, event: ExecutionTerms, underlying: str) -> None:
        """Take in what trading a hedge instrument of `underlying` costs and takes, or count why not."""
        fault = _find_terms_fault(event)
        if fault is not None:
            return self.refuse(fault)
        last = self.terms.get(event.instrument_id)
        if last is not None and (event.ts_event_ns, event.seq) <= (last.ts_event_ns, last.seq):
            is_same = (event.ts_event_ns, event.seq) == (last.ts_event_ns, last.seq)
            return self.refuse(QuoteFault.DUPLICATE if is_same else QuoteFault.OUT_OF_ORDER)
        if event.ts_event_ns - event.ts_recv_ns > CLOCK_TOLERANCE_NS:
            return self.refuse(QuoteFault.FROM_THE_FUTURE)
        self.terms[event.instrument_id] = event
        self.index_at_terms[event.instrument_id] = self.underlyings[underlying].index_px
        return None

    def moved_since_terms_fraction(self, instrument_id: str, underlying: str) -> float:
        """Return how far the index has moved since an instrument's terms came, 0 where that is not known."""
        then_px = self.index_at_terms.get(instrument_id, 0.0)
        return self.underlyings[underlying].index_px / then_px - 1.0 if then_px else 0.0

    def is_jump_suspected(self, underlying: str, hedge_id: str) -> bool:
        """Tell whether a jump of the index or of the hedge instrument awaits confirmation."""
        return self.underlyings[underlying].guard.is_suspicious or self._quote_guards[hedge_id].is_suspicious

    def fresh_smiles(self, underlying: str, now_ns: int) -> list[tuple[ExpiryMarks, Smile]]:
        """Return the smile of every live expiry with at least one fresh vol and a forward, nearest first."""
        fresh = self._fresh_slots(underlying, now_ns)
        return [(expiry, _smile(self, expiry, slots, now_ns)) for expiry, slots in fresh]

    def fresh_quotes(self, underlying: str, now_ns: int) -> list[tuple[ExpiryMarks, SmileQuotes]]:
        """Return the same with bid and ask: of a call and a put of one strike, the better side of either."""
        fresh = self._fresh_slots(underlying, now_ns)
        return [(expiry, _smile_quotes(self, expiry, slots, now_ns)) for expiry, slots in fresh]

    def _fresh_slots(self, underlying: str, now_ns: int) -> list[tuple[ExpiryMarks, NDArray[np.int64]]]:
        oldest_ns = now_ns - self._ages.vol_ns
        found = []
        for expiry in self.expiries:
            if expiry.underlying != underlying or expiry.expiry_ns <= now_ns or expiry.forward_ns < oldest_ns:
                continue
            slots = np.array(expiry.slots)
            slots = slots[(self.vol_ns[slots] >= oldest_ns) & np.isfinite(self.vol[slots])]
            if len(slots):
                found.append((expiry, slots))
        found.sort(key=lambda pair: pair[0].expiry_ns)
        return found

    def _find_expiry(self, option: Option) -> ExpiryMarks:
        key = (option.base, option.expiry_ns)
        expiry = self._expiry_of.get(key)
        if expiry is None:
            expiry = ExpiryMarks(len(self.expiries), option.base, option.expiry_ns, self._ages.max_jump_fraction)
            self._expiry_of[key] = expiry
            self.expiries.append(expiry)
        return expiry

    def _take_forward(self, expiry: ExpiryMarks, forward_px: float, ts_ns: int, seq: int) -> bool:
        """Let the newest forward mark its expiry; tell whether it could be believed."""
        if forward_px != expiry.forward_px and ts_ns >= expiry.forward_ns:
            if not expiry.guard.accepts(forward_px, ts_ns, seq):
                return False
            expiry.forward_px = forward_px
            expiry.forward_ns = ts_ns
            expiry.forward_index_px = self._index_at(expiry.underlying, ts_ns)
            self.forward_px[expiry.index] = forward_px
            if expiry.is_held:
                self.underlyings[expiry.underlying].version += 1
        elif ts_ns > expiry.forward_ns:
            expiry.forward_ns = ts_ns
            expiry.forward_index_px = self._index_at(expiry.underlying, ts_ns)
            expiry.guard.forget_suspect()
        return True

    def _index_at(self, underlying: str, ts_ns: int) -> float:
        """Return the index that a forward of this moment belongs to, 0 where it is too old for one."""
        marks = self.underlyings[underlying]
        return marks.index_px if ts_ns - marks.index_ns <= self._ages.index_ns else 0.0

    def _confirms_vol(self, slot: int, vol: float) -> bool:
        """Tell whether a vol far from the last one stands beside the one refused just before it."""
        suspect = self._suspect_vol.pop(slot, 0.0)
        if suspect and 1.0 / MAX_VOL_RATIO < vol / suspect < MAX_VOL_RATIO:
            return True
        self._suspect_vol[slot] = vol
        return False

    def _is_in_time(self, ts_ns: int, recv_ns: int, seq: int, last_ns: int, last_seq: int, max_age_ns: int) -> bool:
        if ts_ns < last_ns:
            self.refuse(QuoteFault.OUT_OF_ORDER)
            return False
        if ts_ns == last_ns and seq <= last_seq:
            self.refuse(QuoteFault.DUPLICATE if seq == last_seq else QuoteFault.OUT_OF_ORDER)
            return False
        if recv_ns - ts_ns > max_age_ns:
            self.refuse(QuoteFault.STALE)
            return False
        if ts_ns - recv_ns > CLOCK_TOLERANCE_NS:
            self.refuse(QuoteFault.FROM_THE_FUTURE)
            return False
        return True

    def refuse(self, fault: QuoteFault) -> None:
        """Count a market event that was refused."""
        self.faults[fault] = self.faults.get(fault, 0) + 1


def find_fault(event: VolQuote | Quote | IndexPrice) -> QuoteFault | None:
    """Return what makes a quote unusable by itself, whatever came before it."""
    if isinstance(event, VolQuote):
        return _find_vol_fault(event)
    return _find_quote_fault(event) if isinstance(event, Quote) else _find_index_fault(event)


def _find_vol_fault(event: VolQuote) -> QuoteFault | None:
    vol, forward_px, bid_vol, ask_vol = event.mark_vol, event.forward_px, event.bid_vol, event.ask_vol
    if not (0.0 < vol < MAX_VOL and 0.0 < forward_px < inf and 0.0 <= bid_vol < inf and 0.0 <= ask_vol < inf):
        return QuoteFault.JUMP if MAX_VOL <= vol < inf else _number_fault(vol, forward_px, bid_vol, ask_vol)
    return QuoteFault.CROSSED if bid_vol > ask_vol > 0.0 else None


def _find_quote_fault(event: Quote) -> QuoteFault | None:
    bid_px, ask_px, bid_base, ask_base = event.bid_px, event.ask_px, event.bid_base, event.ask_base
    if not (0.0 < bid_px < inf and 0.0 < ask_px < inf and 0.0 < bid_base < inf and 0.0 < ask_base < inf):
        return _number_fault(bid_px, ask_px, bid_base, ask_base)
    return QuoteFault.CROSSED if bid_px >= ask_px else None


def _find_index_fault(event: IndexPrice) -> QuoteFault | None:
    return None if 0.0 < event.px < inf else _number_fault(event.px)


def _find_terms_fault(event: ExecutionTerms) -> QuoteFault | None:
    if not event.tiers or event.block_ns <= 0 or event.depth_base <= 0.0:
        return QuoteFault.NOT_POSITIVE
    if isnan(event.depth_base):
        return QuoteFault.NOT_FINITE
    numbers = [event.revert_fraction]
    for tier in event.tiers:
        numbers += (tier.gas_quote, tier.delay_mean_s, tier.delay_p95_s, tier.max_fee_wei, tier.tip_wei)
    return None if all(0.0 <= number < inf for number in numbers) else _number_fault(*numbers)


def _is_same_quote(event: Quote, last: Quote) -> bool:
    return (event.ts_event_ns, event.bid_px, event.ask_px, event.bid_base, event.ask_base) == (
        last.ts_event_ns,
        last.bid_px,
        last.ask_px,
        last.bid_base,
        last.ask_base,
    )


def _number_fault(*values: float) -> QuoteFault:
    if all(-inf < value < inf for value in values):
        return QuoteFault.NOT_POSITIVE
    return QuoteFault.NOT_FINITE


def _smile(market: MarketState, expiry: ExpiryMarks, slots: NDArray[np.int64], now_ns: int) -> Smile:
    """Return one vol per strike: the mean where a call and a put are both fresh."""
    log_moneyness = np.log(market.strike_px[slots] / expiry.forward_px)
    nodes, inverse, counts = np.unique(log_moneyness, return_inverse=True, return_counts=True)
    vol = np.bincount(inverse, weights=market.vol[slots]) / counts
    return Smile(tau_years(now_ns, expiry.expiry_ns), nodes, vol)


def _smile_quotes(market: MarketState, expiry: ExpiryMarks, slots: NDArray[np.int64], now_ns: int) -> SmileQuotes:
    smile = _smile(market, expiry, slots, now_ns)
    rows = np.searchsorted(smile.log_moneyness, np.log(market.strike_px[slots] / expiry.forward_px))
    bid_vol, ask_vol = np.zeros(len(smile.vol)), np.full(len(smile.vol), inf)
    for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
        quote = market.vol_quotes[slot]
        if quote is not None:
            bid_vol[row] = max(bid_vol[row], quote.bid_vol)
            ask_vol[row] = min(ask_vol[row], quote.ask_vol or inf)
    is_crossed = bid_vol > ask_vol  # by two quotes that are not of one moment: neither is believed
    bid_vol[is_crossed], ask_vol[is_crossed] = 0.0, inf
    return SmileQuotes(smile.tau_years, smile.log_moneyness, smile.vol, bid_vol, np.where(ask_vol < inf, ask_vol, 0.0))
