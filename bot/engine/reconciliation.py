"""The ledger against what venues say: positions of hedge instruments, and which of our orders still rest.

A difference that an order in flight or a fresh fill may explain waits. One that nothing explains widens the exposure at
once, is asked about again, and is adopted after `REPORTS_TO_ADOPT` reports in a row: the ledger follows the venue. Must
never send an order, and never take a missing order for canceled.
"""

from __future__ import annotations

from collections import deque
from math import inf

import msgspec

from bot.domain.events import Command, QueryAccount
from bot.domain.instruments import Spot
from bot.domain.orders import Fill, Liquidity, OrderState
from bot.domain.venues import AccountReport, VenueHealth, VenuePosition
from bot.engine.book import Holding
from bot.engine.desk import Desk
from bot.engine.market import CLOCK_TOLERANCE_NS, MarketState
from bot.engine.option_holding import OptionHolding
from bot.engine.orders import OrderTracker
from bot.engine.routing import VenueBoard, age_text
from bot.engine.settings import EngineSettings

Hedge = Holding | OptionHolding
REPORTS_TO_ADOPT = 3
KEPT_ADOPTIONS = 50  # how many adoptions are shown; all are counted
_RESTING = (OrderState.OPEN, OrderState.PARTLY_FILLED)


class Adoption(msgspec.Struct, frozen=True):
    """A difference the ledger took over from a venue; `lots` were booked at `px`.

    Fills up to `covers_ns` were in the venue's position already: they take its place should they still arrive.
    """

    adoption_id: str
    instrument_id: str
    ledger_lots: int
    venue_lots: int
    px: float
    covers_ns: int
    ts_ns: int

    @property
    def lots(self) -> int:
        """Signed lots that were booked."""
        return self.venue_lots - self.ledger_lots


class Mismatch:
    """A difference between ledger and venue that nothing explains, and how often in a row it was seen.

    Fills up to `covers_ns`, by the venue's clock, are in it.
    """

    __slots__ = ("covers_ns", "lots", "seen", "since_ns")

    def __init__(self, lots: int, since_ns: int, covers_ns: int) -> None:
        self.lots = lots
        self.since_ns = since_ns
        self.covers_ns = covers_ns
        self.seen = 1


class Reconciliation:
    """Compares every account report with the ledger, and knows which accounts must be waited for."""

    def __init__(
        self,
        settings: EngineSettings,
        orders: OrderTracker,
        market: MarketState,
        desks: dict[str, Desk],
        venues: VenueBoard,
    ) -> None:
        self._settings = settings
        self._orders = orders
        self._market = market
        self._desks = desks
        self._venues = venues
        self._required = settings.account_venues | settings.account_book | settings.account_cash
        self._settled: set[str] = set()  # venues whose account was explained since the start
        self._valid_from_ns = 0
        self._asked_ns: dict[str, int] = {}
        self._last_fill_ns: dict[str, int] = {}
        self._covering: dict[str, Adoption] = {}  # the newest adoption by instrument
        self.questions: dict[str, str] = {}  # venue → why its account is to be asked for again
        self.reported: dict[str, AccountReport] = {}
        self.mismatches: dict[str, Mismatch] = {}
        self.adoptions: deque[Adoption] = deque(maxlen=KEPT_ADOPTIONS)
        self.adoption_count = 0
        self.alert = ""  # what a person has to acknowledge

    def adopt(self, settings: EngineSettings) -> None:
        """Compare by other settings from now on."""
        self._settings = settings

    @property
    def required(self) -> frozenset[str]:
        """The venues whose account this vault depends on."""
        return self._required

    def waits_for(self) -> str:
        """Return the venues whose account is not known yet, "" if there are none."""
        return ", ".join(sorted(self._required - self._settled))

    def find_stale(self, now_ns: int) -> str:
        """Return which account was last heard of too long ago, "" if none was.

        One at a venue that is down does not count: nothing is sent there, and the other venues may go on.
        """
        limit_ns = self._settings.account_max_age_ns
        if not limit_ns:
            return ""
        for venue in sorted(self._required):
            report = self.reported.get(venue)
            if self._venues.health_of(venue) is not VenueHealth.UP:
                continue
            if report is not None and now_ns - report.ts_recv_ns > limit_ns:
                return age_text(f"account at {venue}", now_ns - report.ts_recv_ns, limit_ns)
        return ""

    def forget(self, now_ns: int) -> None:
        """Trust no account until it was asked again, as after a restart."""
        self._settled.clear()
        self._asked_ns.clear()
        self._valid_from_ns = now_ns

    def is_news(self, report: AccountReport) -> bool:
        """Tell whether a report was asked later than the last one, and since the last restart."""
        last = self.reported.get(report.venue)
        return report.ts_asked_ns >= self._valid_from_ns and (last is None or report.ts_asked_ns > last.ts_asked_ns)

    def take(self, report: AccountReport, *, is_doubtful: bool = False) -> list[Adoption]:
        """Compare one report, which must be news; return what the ledger is to adopt."""
        venue = report.venue
        self.reported[venue] = report
        found: list[Adoption] = []
        questions = ["a fill came while it was asked"] if is_doubtful else []
        if venue in self._settings.account_venues:
            self._doubt_missing_orders(report)
            positions = {one.instrument_id: one for one in report.positions}
            for holding in self._holdings_at(venue):
                name = holding.instrument.instrument_id
                if isinstance(holding, OptionHolding) and report.ts_recv_ns >= holding.instrument.expiry_ns:
                    continue  # over: what it settles at is still to come here
                if name not in positions and self._venues.is_delisted(name):
                    continue  # a venue tells no positions in what it does not list: that is not to say there is none
                position = positions.get(name, VenuePosition(name, 0, 0.0))
                if position.qty_lots == holding.lots:
                    self.mismatches.pop(name, None)
                    continue
                adoption = self._explain(report, holding, position)
                if adoption is not None:
                    found.append(adoption)
                else:
                    questions.append(_say_difference(holding, position))
        if questions:
            self.questions[venue] = "; ".join(questions)
        else:
            self.questions.pop(venue, None)
            self._settled.add(venue)
        return found

    def note_fill(self, fill: Fill) -> Adoption | None:
        """Remember when an instrument last traded; return the adoption that held this fill already, if one did."""
        name = fill.instrument_id
        self._last_fill_ns[name] = max(fill.ts_recv_ns, self._last_fill_ns.get(name, 0))
        self.mismatches.pop(name, None)
        covering = self._covering.get(name)
        return covering if covering is not None and fill.ts_event_ns <= covering.covers_ns else None

    def ask(self, now_ns: int) -> list[Command]:
        """Return the accounts to be asked for now, each no more often than `query_every_ns`."""
        found: list[Command] = []
        if not (self._required or self.questions):
            return found
        due = dict.fromkeys(self._required - self._settled, "not known yet") | self.questions
        for venue, reason in sorted(due.items()):
            if now_ns - self._asked_ns.get(venue, -self._settings.query_every_ns) >= self._settings.query_every_ns:
                self._asked_ns[venue] = now_ns
                found.append(QueryAccount(venue, reason))
        return found

    def unexplained_base(self, desk: Desk) -> tuple[float, float]:
        """Return how far the differences nothing explains may take a net delta down and up."""
        low = high = 0.0
        for name, mismatch in self.mismatches.items():
            option = desk.book.option_hedges.get(name)
            if option is not None:
                base = mismatch.lots * option.lot_size * desk.book.pending_delta_base(option)
                low, high = low + min(0.0, base), high + max(0.0, base)
            holding = desk.book.hedges.get(name)
            if holding is None:
                continue
            px = holding.mark_px or desk.book.marks_of_underlying.index_px
            base = mismatch.lots * holding.instrument.lot_base(px) if px else 0.0
            low, high = low + min(0.0, base), high + max(0.0, base)
        return low, high

    def _holdings_at(self, venue: str) -> list[Hedge]:
        """Return the hedges there: linear ones, and options unless the account's options are the book."""
        found: list[Hedge] = []
        for desk in self._desks.values():
            found += [one for one in desk.book.hedges.values() if one.instrument.venue == venue]
            if venue not in self._settings.account_book:
                found += [one for one in desk.book.option_hedges.values() if one.instrument.venue == venue]
        return found

    def _doubt_missing_orders(self, report: AccountReport) -> None:
        """Make UNKNOWN what should rest and does not: it may have been filled, canceled, or never been there.

        A transaction rests nowhere: what becomes of it is told by the blocks.
        """
        resting = {one.order_id for one in report.open_orders}
        here = {holding.instrument.instrument_id for holding in self._holdings_at(report.venue)}
        for order in list(self._orders.live.values()):
            if order.intent.instrument_id not in here or order.intent.order_id in resting or order.is_transaction:
                continue
            if order.state in _RESTING and order.since_ns < report.ts_asked_ns:
                self._orders.doubt_absent(order, report.ts_recv_ns, f"not among the open orders of {report.venue}")

    def _explain(self, report: AccountReport, holding: Hedge, position: VenuePosition) -> Adoption | None:
        """Return the adoption of a difference, None as long as it may explain itself."""
        name = holding.instrument.instrument_id
        lots = position.qty_lots - holding.lots
        if self._is_explainable(name, lots, report):
            self.mismatches.pop(name, None)
            return None
        mismatch = self.mismatches.get(name)
        if mismatch is None or mismatch.lots != lots:
            self.mismatches[name] = Mismatch(lots, report.ts_asked_ns, self._covered_ns(name, report))
            return None
        mismatch.seen += 1
        px = self._adoption_px(holding, position)
        if mismatch.seen < REPORTS_TO_ADOPT or not px:
            return None
        is_interest = self._is_interest(holding, lots)
        if is_interest:
            px = 0.0  # it is owed, and nothing was got for it
        del self.mismatches[name]
        self.adoption_count += 1
        adoption = Adoption(
            f"adopted:{name}:{holding.lots}:{position.qty_lots}:{self.adoption_count}",
            name,
            holding.lots,
            position.qty_lots,
            px,
            mismatch.covers_ns,
            report.ts_recv_ns,
        )
        self.adoptions.append(adoption)
        if is_interest:
            return adoption
        self._covering[name] = adoption
        self.alert = f"adopted: {_say_difference(holding, position)}, {REPORTS_TO_ADOPT} reports in a row"
        return adoption

    def _covered_ns(self, name: str, report: AccountReport) -> int:
        """Return up to when, by the venue's clock, fills must be in what a report says.

        A chain says what is so in a block, whose time may be long before we heard of it: what the next block fills
        comes after that, though its time too lies before our question.
        """
        asked_ns = report.ts_asked_ns - CLOCK_TOLERANCE_NS
        terms = self._market.terms.get(name)
        return asked_ns if terms is None else min(asked_ns, terms.ts_event_ns)

    def _is_interest(self, holding: Hedge, lots: int) -> bool:
        """Tell whether a difference is what a debt on a chain grew by: nobody traded, so nobody has to look.

        A short in spot there is a loan, which grows by itself; no loan by more than a thousandth between reports.
        """
        instrument = holding.instrument
        if not isinstance(instrument, Spot) or instrument.instrument_id not in self._market.terms:
            return False
        return holding.lots < 0 and -max(1, abs(holding.lots) // 1000) <= lots < 0

    def _is_explainable(self, instrument_id: str, lots: int, report: AccountReport) -> bool:
        """Tell whether orders under way or a fresh fill may be all there is to a difference."""
        if self._last_fill_ns.get(instrument_id, -1) >= report.ts_asked_ns:
            return True
        low = high = 0
        for order in self._orders.live.values():
            if order.intent.instrument_id != instrument_id:
                continue
            if order.state not in _RESTING:
                return True
            low, high = low + min(0, order.remaining_lots), high + max(0, order.remaining_lots)
        return low <= lots <= high

    def _adoption_px(self, holding: Hedge, position: VenuePosition) -> float:
        """Return the venue's entry price of what it has more of than we, else the mark; 0.0 if there is none yet."""
        has_more = abs(position.qty_lots) > abs(holding.lots) and position.qty_lots * holding.lots >= 0
        if has_more and 0.0 < position.entry_px < inf:
            return position.entry_px
        if isinstance(holding, OptionHolding):
            return self._desks[holding.instrument.base].book.hedge_mark_px(holding)
        quote = self._market.quotes.get(holding.instrument.instrument_id)
        return 0.5 * (quote.bid_px + quote.ask_px) if quote is not None else 0.0


def entry_of(adoption: Adoption) -> Fill:
    """Return the ledger entry of an adoption, in the shape of a fill."""
    return _entry(adoption, adoption.adoption_id, adoption.lots, adoption.ts_ns)


def counter_entry_of(adoption: Adoption, fill: Fill) -> Fill:
    """Return the ledger entry that takes back of an adoption what a late fill has now booked itself."""
    return _entry(adoption, f"{adoption.adoption_id}:late:{fill.trade_id}", -fill.qty_lots, fill.ts_recv_ns)


def _say_difference(holding: Hedge, position: VenuePosition) -> str:
    instrument = holding.instrument
    return (
        f"{instrument.instrument_id} is {position.qty_lots:+} lots at {instrument.venue}, "
        f"{holding.lots:+} in the ledger"
    )


def _entry(adoption: Adoption, trade_id: str, lots: int, now_ns: int) -> Fill:
    return Fill(trade_id, "", adoption.instrument_id, lots, adoption.px, 0.0, Liquidity.TAKER, now_ns, now_ns)
