"""What every source says of an underlying's price, fused: only a price that two of them agree on marks a book.

The word of an oracle is taken in the order it was read in, since a chain may go back; that of an exchange in the order
of its own time. A word nobody can use still counts as what its source says now, so that it is named. Must never trade.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from bot.domain.decisions import Refusal
from bot.domain.instruments import Future, Hedgeable
from bot.domain.market import IndexPrice, OraclePrice, QuoteFault
from bot.domain.units import tau_years
from bot.engine.desk import Desk
from bot.engine.market import CLOCK_TOLERANCE_NS, MarketState, UnderlyingMarks
from bot.engine.routing import Blocked
from bot.engine.settings import FusionSettings
from bot.risk.oracle_fusion import Fused, ShortAverage, SourceWord, Verdict, fuse

MAX_SOURCES = 32  # of one underlying; what more claim to be is refused


class _Watch:
    """The sources of one underlying, and what they amounted to last."""

    def __init__(self, settings: FusionSettings, marks: UnderlyingMarks) -> None:
        self.settings = settings
        self.marks = marks
        self.words: dict[str, SourceWord] = {}
        self.told_ns: dict[str, int] = {}
        self.averages: dict[str, ShortAverage] = {}
        self.fused: Fused = fuse((), settings.rule, 0)
        self._valid_to_ns = 0  # until then nothing that was live can have grown too old

    def take(self, word: SourceWord, now_ns: int) -> bool:
        """Take in a source's newest word; tell whether there is room for another source."""
        if word.source not in self.words and len(self.words) >= MAX_SOURCES:
            return False
        self.words[word.source] = word
        self.told_ns[word.source] = now_ns
        if 0.0 < word.px < inf:
            average = self.averages.setdefault(word.source, ShortAverage(self.settings.rule.average_ns))
            average.note(word.px, now_ns)
        self._fuse(now_ns)
        return True

    def look(self, now_ns: int) -> None:
        """Bring the verdict and the mark up to `now_ns`."""
        if now_ns > self._valid_to_ns:
            self._fuse(now_ns)
        elif self.fused.px:
            self.marks.index_ns = now_ns

    def _fuse(self, now_ns: int) -> None:
        words = [_with_average(word, self.averages.get(word.source), now_ns) for word in self.words.values()]
        self.fused = fuse(words, self.settings.rule, now_ns)
        dying_ns = [word.ts_event_ns + word.max_age_ns for word in words]
        self._valid_to_ns = min((ns for ns in dying_ns if ns >= now_ns), default=now_ns)
        if self.fused.px:
            self.marks.index_px = self.fused.px
            self.marks.index_ns = now_ns


class OracleBoard:
    """The fused price of every underlying that asks for one. Those it knows are marked by nothing else."""

    def __init__(self, settings: Mapping[str, FusionSettings], market: MarketState) -> None:
        self._market = market
        self._watches = {
            underlying: _Watch(one, market.underlyings[underlying])
            for underlying, one in settings.items()
            if underlying in market.underlyings
        }

    def adopt(self, settings: Mapping[str, FusionSettings]) -> None:
        """Take in what sources say by other settings from their next word on."""
        for underlying, watch in self._watches.items():
            watch.settings = settings[underlying]

    def fused(self, underlying: str) -> Fused | None:
        """Return what the sources of an underlying amounted to last, None if it is not fused."""
        watch = self._watches.get(underlying)
        return watch.fused if watch is not None else None

    def take_index(self, event: IndexPrice) -> None:
        """Take in an exchange's index: a source among others, where prices are fused."""
        watch = self._watches.get(event.underlying)
        if watch is None:
            self._market.apply_index(event)
            return
        source = f"index of {event.venue}" if event.venue else "exchange index"
        last = watch.words.get(source)
        if last is not None and event.ts_event_ns < last.ts_event_ns:
            self._market.refuse(QuoteFault.OUT_OF_ORDER)
            return
        if event.ts_event_ns - event.ts_recv_ns > CLOCK_TOLERANCE_NS:
            self._market.refuse(QuoteFault.FROM_THE_FUTURE)  # else nothing true would be in order after it
            return
        settings = watch.settings
        half_px = abs(event.px) * settings.index_confidence_fraction
        word = SourceWord(
            source,
            event.px,
            half_px,
            settings.max_confidence_fraction,
            event.ts_event_ns,
            settings.index_max_age_ns,
        )
        self._take(watch, word, event.ts_recv_ns)

    def take_oracle(self, event: OraclePrice) -> None:
        """Take in the word of an oracle; one that states no confidence is believed to `oracle_confidence_fraction`."""
        watch = self._watches.get(event.underlying)
        if watch is None:
            return
        if event.ts_recv_ns < watch.told_ns.get(event.source, 0):
            self._market.refuse(QuoteFault.OUT_OF_ORDER)
            return
        settings = watch.settings
        half_px = event.confidence_px or abs(event.px) * settings.oracle_confidence_fraction
        word = SourceWord(
            event.source,
            event.px,
            half_px,
            settings.max_confidence_fraction,
            event.ts_event_ns,
            event.max_age_ns,
        )
        self._take(watch, word, event.ts_recv_ns)

    def judge(self, desk: Desk, now_ns: int) -> tuple[Refusal, str] | None:
        """Mark a desk's underlying as of now; return why nothing at all may be traded, if so.

        Where exposure may only shrink, `desk.oracle_doubt` says why.
        """
        watch = self._watches.get(desk.underlying)
        if watch is None:
            return None
        watch.look(now_ns)
        fused = watch.fused
        desk.oracle_doubt = ""
        if fused.verdict is Verdict.HALT:
            return Refusal.ORACLE_HALT, f"{desk.underlying}: {fused.reason}"
        if fused.verdict is Verdict.REDUCE_ONLY:
            desk.oracle_doubt = f"{desk.underlying}: {fused.reason}"
        index_px = watch.marks.index_px
        if not index_px:  # there never was a price that enough of them agreed on
            return (Refusal.ORACLE_HALT, f"{desk.underlying}: {fused.reason}") if watch.words else None
        for expiry in desk.book.expiries:
            if expiry.forward_ns and now_ns < expiry.expiry_ns:
                allowed = watch.settings.allowed_fraction(tau_years(now_ns, expiry.expiry_ns))
                away = expiry.forward_px / index_px - 1.0
                if abs(away) > allowed:
                    name = f"forward of {expiry.label}"
                    return Refusal.ORACLE_DEVIATION, _tell(name, expiry.forward_px, away, index_px, allowed)
        return None

    def find_block(self, desk: Desk, instrument: Hedgeable, now_ns: int) -> Blocked | None:
        """Return why a hedge's own price is too far from the fused one to trade at, if it is."""
        watch = self._watches.get(desk.underlying)
        quote = self._market.quotes.get(instrument.instrument_id)
        if watch is None or quote is None or not watch.marks.index_px:
            return None
        years = tau_years(now_ns, instrument.expiry_ns) if isinstance(instrument, Future) else 0.0
        allowed = watch.settings.allowed_fraction(years)
        px = 0.5 * (quote.bid_px + quote.ask_px)
        away = px / watch.marks.index_px - 1.0
        if abs(away) <= allowed:
            return None
        name = instrument.instrument_id
        why = _tell(f"quote of {name}", px, away, watch.marks.index_px, allowed)
        return Blocked(name, Refusal.ORACLE_DEVIATION, why)

    def _take(self, watch: _Watch, word: SourceWord, now_ns: int) -> None:
        if not watch.take(word, now_ns):
            self._market.refuse(QuoteFault.UNKNOWN_INSTRUMENT)


def _with_average(word: SourceWord, average: ShortAverage | None, now_ns: int) -> SourceWord:
    return SourceWord(
        word.source,
        word.px,
        word.confidence_px,
        word.max_confidence_fraction,
        word.ts_event_ns,
        word.max_age_ns,
        average.at(now_ns) if average is not None else 0.0,
    )


def _tell(name: str, px: float, away: float, index_px: float, allowed: float) -> str:
    return f"{name}: {px:g} is {away:+.2%} from the fused price {index_px:g}, allowed {allowed:.2%}"
