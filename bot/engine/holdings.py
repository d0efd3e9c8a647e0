"""What every source says is held and to be hedged, and the books brought to it while the engine runs.

A source is the vault file, a file of OTC trades, or the account at a venue; what several say of one instrument adds
up. A change of holdings or of cash is neither won nor lost: it enters at the marks of its moment, after the running P&L
step was closed. Must never trade, and never guess an instrument it was not told of.
"""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

from bot.domain.decisions import Refusal
from bot.domain.instruments import Future, Hedgeable, Instrument, Option
from bot.domain.orders import Fill
from bot.domain.venues import AccountReport, BookReport
from bot.engine.book import Holding, StaticLeg, UnderlyingBook
from bot.engine.desk import Desk
from bot.engine.market import MarketState
from bot.engine.orders import OrderTracker
from bot.engine.settings import EngineSettings

VAULT_SOURCE = "vault"  # what the vault file itself held at the start
ACCOUNT_SOURCE = "account:"  # … and what the account at the venue named behind it holds


class Said(NamedTuple):
    """How much of one instrument a source says is held: in base units, or in lots."""

    qty_base: float = 0.0
    qty_lots: int = 0


class Holdings:
    """The book by source; the underlying books follow it as soon as their new legs have a price."""

    def __init__(
        self, settings: EngineSettings, market: MarketState, desks: dict[str, Desk], orders: OrderTracker
    ) -> None:
        self._settings = settings
        self._orders = orders
        self._market = market
        self._desks = desks
        self.instruments: dict[str, Instrument] = {one.instrument_id: one for one in settings.universe}
        for desk in desks.values():
            self.instruments |= {name: holding.instrument for name, holding in desk.book.hedges.items()}
        held: dict[str, Said] = {}
        for leg in settings.book:
            name = leg.instrument.instrument_id
            self.instruments[name] = leg.instrument
            held[name] = Said(held.get(name, Said()).qty_base + leg.qty_base)
        self.sources: dict[str, dict[str, Said]] = {VAULT_SOURCE: held}
        self.balances: dict[str, dict[str, float]] = {}  # by venue, currency → equity
        self._account_coins = dict.fromkeys(desks, 0.0)  # what of the desks' cash is that of accounts
        self._account_money = 0.0
        self._seen_at: dict[str, set[str]] = {}  # by venue, what its account ever held of the book
        self._last_fill_ns: dict[str, int] = {}
        self._dirty: set[str] = set()
        self.unknown: tuple[str, ...] = ()

    def adopt(self, settings: EngineSettings) -> None:
        """Go by other settings from now on; the book of the vault stays what it was."""
        self._settings = settings

    def list_instrument(self, instrument: Instrument) -> None:
        """Know `instrument` from now on; one known already stays as it is."""
        if instrument.instrument_id not in self.instruments:
            self.instruments[instrument.instrument_id] = instrument
            self._market.list_instruments([instrument])
            self._note_change()

    def take_book(self, report: BookReport) -> None:
        """Replace what the report's source holds."""
        held: dict[str, Said] = {}
        for one in report.holdings:
            held[one.instrument_id] = Said(held.get(one.instrument_id, Said()).qty_base + one.qty_base)
        self.sources[report.source] = held
        self._note_change()

    def take_account(self, report: AccountReport) -> bool:
        """Take in the book and the cash of an account; tell whether a fill since it was asked leaves it in doubt."""
        is_doubtful = False
        if report.venue in self._settings.account_book:
            source = ACCOUNT_SOURCE + report.venue
            before = self.sources.get(source, {})
            held = {
                one.instrument_id: Said(qty_lots=one.qty_lots)
                for one in report.positions
                if one.qty_lots and not self._is_hedge(one.instrument_id)
            }
            for name, lots in self._hedged_lots(report.venue).items():
                # the account is the truth about both together, our ledger about what of it is a hedge
                rest = Said(qty_lots=held.get(name, Said()).qty_lots - lots)
                if name in self._orders.live_instruments():
                    rest = before.get(name, Said())
                held.pop(name, None)
                if rest.qty_lots:
                    held[name] = rest
            for name, fill_ns in self._last_fill_ns.items():
                if fill_ns >= report.ts_asked_ns and (name in before or name in held):
                    is_doubtful = is_doubtful or held.get(name) != before.get(name)
                    held[name] = before.get(name, Said())
            self._seen_at.setdefault(report.venue, set()).update(held)
            if held != before:
                self.sources[source] = held
                self._note_change()
        if report.venue in self._settings.account_cash:
            self.balances[report.venue] = dict(report.balances)
            self._note_change()
        return is_doubtful

    def note_fill(self, fill: Fill) -> bool:
        """Let a fill on an account's own instrument change the book; tell whether it did."""
        instrument = self.instruments.get(fill.instrument_id)
        if instrument is None or instrument.venue not in self._settings.account_book:
            return False
        held = self.sources.setdefault(ACCOUNT_SOURCE + instrument.venue, {})
        before = held.get(fill.instrument_id, Said())
        held[fill.instrument_id] = Said(qty_lots=before.qty_lots + fill.qty_lots)
        self._last_fill_ns[fill.instrument_id] = fill.ts_recv_ns
        self._note_change()
        return True

    def note_hedge_fill(self, fill: Fill) -> None:
        """Remember when an option hedge last traded: an account asked before does not know of it."""
        self._last_fill_ns[fill.instrument_id] = fill.ts_recv_ns

    def note_settlement(self, desk: Desk, expiry_ns: int, px: float) -> None:
        """Take what the account's options pay at `px`, which the book is about to receive, as cash of the account."""
        for venue in self.balances:
            account = self.sources.get(ACCOUNT_SOURCE + venue, {})
            for name, (option, _) in desk.book.options.items():
                if option.expiry_ns != expiry_ns or name not in account:
                    continue
                intrinsic_px = max(0.0, px - option.strike_px if option.is_call else option.strike_px - px)
                payoff_quote = account[name].qty_lots * option.lot_size * intrinsic_px
                if option.settle == option.base:
                    self._account_coins[desk.underlying] += payoff_quote / px
                else:
                    self._account_money += payoff_quote

    @property
    def strays(self) -> tuple[str, ...]:
        """What is held of underlyings this vault does not hedge."""
        names = {name for held in self.sources.values() for name in held}
        known = (self.instruments[name] for name in sorted(names) if name in self.instruments)
        return tuple(one.instrument_id for one in known if one.base not in self._desks)

    def revise(self, desk: Desk, now_ns: int) -> tuple[Refusal, str] | None:
        """Bring one book to what its sources say; return why its exposure is not known, if so."""
        refusal = self._bring(desk, now_ns) if desk.underlying in self._dirty else None
        if self.unknown:
            names = ", ".join(self.unknown[:5]) + (", …" if len(self.unknown) > 5 else "")
            return Refusal.UNKNOWN_HOLDING, f"held, but no venue lists it: {names}"
        return refusal

    def _note_change(self) -> None:
        self._dirty.update(self._desks)
        self.unknown = tuple(
            f"{name} ({source})"
            for source, held in sorted(self.sources.items())
            for name, said in sorted(held.items())
            if name not in self.instruments or not isfinite(said.qty_base)
        )

    def _hedged_lots(self, venue: str) -> dict[str, int]:
        """Return how many lots of each option at a venue are hedges of ours."""
        hedges = (one for desk in self._desks.values() for one in desk.book.option_hedges.values())
        return {one.instrument.instrument_id: one.lots for one in hedges if one.instrument.venue == venue}

    def _is_hedge(self, instrument_id: str) -> bool:
        return any(instrument_id in desk.book.hedges for desk in self._desks.values())

    def _bring(self, desk: Desk, now_ns: int) -> tuple[Refusal, str] | None:
        book, pnl = desk.book, desk.pnl
        options, static = self._wanted(book, now_ns)
        if not pnl.is_started:
            book.hold_options(options.values())
            book.static = list(static.values())
            refusal = book.mark(now_ns) or self._set_cash(desk)
        else:
            book.mark(now_ns)  # or the marks stay as they were: what left the book must not keep its price
            pnl.step(now_ns)
            equity_quote, book_quote = book.equity_quote(), book.book_value_quote()
            refusal = _change_options(book, options, now_ns) or _change_static(book, static, now_ns)
            refusal = self._set_cash(desk) or refusal
            pnl.enter(now_ns, equity_quote, book_quote)
        if refusal is None:
            self._dirty.discard(desk.underlying)
        return refusal

    def _wanted(
        self, book: UnderlyingBook, now_ns: int
    ) -> tuple[dict[str, tuple[Option, float]], dict[str, StaticLeg]]:
        """Return the legs the sources add up to. What has expired only ever leaves by its settlement."""
        held = book.options
        options = {name: leg for name, leg in held.items() if leg[0].expiry_ns <= now_ns}
        static = {
            leg.holding.instrument.instrument_id: leg
            for leg in book.static
            if isinstance(leg.holding.instrument, Future) and leg.holding.instrument.expiry_ns <= now_ns
        }
        over = set(options) | set(static)
        names = dict.fromkeys(name for source in self.sources.values() for name in source)
        for name in names:
            instrument = self.instruments.get(name)
            if instrument is None or instrument.base != book.underlying or name in over:
                continue
            if isinstance(instrument, Option | Future) and instrument.expiry_ns <= now_ns:
                continue
            said = [source[name] for source in self.sources.values() if name in source]
            qty_base = sum(one.qty_base for one in said)
            qty_own = sum(one.qty_lots for one in said) * instrument.lot_size
            if not isfinite(qty_base):
                continue
            if isinstance(instrument, Option):
                if qty_base + qty_own:
                    options[name] = (instrument, qty_base + qty_own)
            elif instrument.is_quote_sized:
                static[name] = StaticLeg(Holding(instrument), qty_base, qty_own)
            else:
                static[name] = StaticLeg(Holding(instrument), qty_base + qty_own)
        return options, static

    def _set_cash(self, desk: Desk) -> tuple[Refusal, str] | None:
        """Set coin and quote cash to what the accounts' equity holds beyond its positions there."""
        if not self.balances:
            return None
        coins = money = 0.0
        home = self._desks.get(self._settings.numeraire) or next(iter(self._desks.values()))
        for venue, balances in self.balances.items():
            for currency, equity in balances.items():
                if currency == desk.underlying:
                    held = self._value_at(venue, currency, [desk])
                    coins += equity
                elif desk is home and currency in self._money:
                    held = self._value_at(venue, currency, list(self._desks.values()))
                    money += equity
                else:
                    continue
                if held is None:
                    return Refusal.NO_MARKET, f"no price yet for every {currency} position at {venue}"
                if currency == desk.underlying:
                    coins -= held
                else:
                    money -= held
        desk.book.coin_cash += coins - self._account_coins[desk.underlying]
        self._account_coins[desk.underlying] = coins
        if desk is home:
            desk.book.quote_cash += money - self._account_money
            self._account_money = money
        return None

    @property
    def _money(self) -> set[str]:
        """The currencies that count as quote money: what the hedges are quoted and settled in, coins aside."""
        hedges = [holding.instrument for desk in self._desks.values() for holding in desk.book.hedges.values()]
        return {"USD", *(one.quote for one in hedges), *(one.settle for one in hedges)} - self._desks.keys()

    def _value_at(self, venue: str, currency: str, desks: list[Desk]) -> float | None:
        """Return what our positions at a venue are worth in the currency they settle in; None without a price."""
        total = 0.0
        account = self.sources.get(ACCOUNT_SOURCE + venue, {})
        for desk in desks:
            book = desk.book
            index_px = book.marks_of_underlying.index_px
            seen = self._seen_at.get(venue, set())
            holdings = [leg.holding for leg in book.static if leg.holding.instrument.instrument_id in seen]
            if venue in self._settings.account_venues:
                holdings += [one for one in book.hedges.values() if one.instrument.venue == venue]
            for holding in holdings:
                if holding.instrument.settle != currency or not (holding.qty or holding.cash_settle):
                    continue
                if holding.qty and not holding.mark_px:
                    return None
                total += holding.value_settle(holding.mark_px) * self._share(venue, holding.instrument)
            for name, hedge in book.option_hedges.items() if venue in self._settings.account_venues else ():
                if hedge.instrument.venue != venue or hedge.instrument.settle != currency:
                    continue
                value_quote = book.option_value_of(name) if hedge.lots else 0.0
                if value_quote is None or not index_px:
                    return None
                worth_quote = hedge.qty * value_quote
                total += hedge.cash_settle + (worth_quote / index_px if hedge.is_coin_settled else worth_quote)
            for name, (option, _) in book.options.items():
                if name not in account or option.settle != currency:
                    continue
                value_quote = book.option_value_of(name)
                if value_quote is None or not index_px:
                    return None
                value_settle = value_quote / index_px if option.settle == option.base else value_quote
                total += account[name].qty_lots * option.lot_size * value_settle
        return total

    def _share(self, venue: str, instrument: Hedgeable) -> float:
        """Return how much of a position is at the venue, where other sources hold the same instrument."""
        name = instrument.instrument_id
        if self._is_hedge(name):
            return 1.0
        source = ACCOUNT_SOURCE + venue
        ours = abs(self.sources.get(source, {}).get(name, Said()).qty_lots)
        others = sum(
            abs(held[name].qty_base / instrument.lot_size) + abs(held[name].qty_lots)
            for other, held in self.sources.items()
            if other != source and name in held
        )
        return ours / (ours + others) if ours + others else 1.0


def _change_options(
    book: UnderlyingBook, wanted: dict[str, tuple[Option, float]], now_ns: int
) -> tuple[Refusal, str] | None:
    """Change what is held at its present marks; let others join only if they have a price, else say what is missing."""
    held = book.options
    kept = {name: leg for name, leg in wanted.items() if name in held}
    if kept != held:
        book.hold_options(kept.values())
    if len(kept) == len(wanted):
        return None
    refusal = book.mark(now_ns)
    if refusal is not None:
        return refusal
    book.hold_options(wanted.values())
    refusal = book.mark(now_ns)
    if refusal is not None:
        book.hold_options(kept.values())
        book.mark(now_ns)
    return refusal


def _change_static(book: UnderlyingBook, wanted: dict[str, StaticLeg], now_ns: int) -> tuple[Refusal, str] | None:
    """Buy and sell at the mark what the book's own linear and inverse legs changed by; that moves no value."""
    refusal: tuple[Refusal, str] | None = None
    legs: list[StaticLeg] = []
    for leg in book.static:
        holding = leg.holding
        now = wanted.pop(holding.instrument.instrument_id, leg._replace(qty_base=0.0, qty_own=0.0))
        _trade_to(holding, leg, now)
        legs.append(StaticLeg(holding, now.qty_base, now.qty_own))
    for leg in wanted.values():
        missing = book.find_old_quote(leg.holding.instrument, now_ns)
        if missing is not None:
            refusal = missing
            continue
        quote = book.market.quotes[leg.holding.instrument.instrument_id]
        leg.holding.mark_px = 0.5 * (quote.bid_px + quote.ask_px)
        _trade_to(leg.holding, StaticLeg(leg.holding, 0.0), leg)
        legs.append(leg)
    book.static = legs
    return refusal


def _trade_to(holding: Holding, before: StaticLeg, now: StaticLeg) -> None:
    if not (now.qty_base or now.qty_own):
        holding.trade(-holding.qty, holding.mark_px)
        return
    moved_base = now.qty_base - before.qty_base
    moved = moved_base * holding.mark_px + now.qty_own - before.qty_own if holding.is_inverse else moved_base
    if moved:
        holding.trade(moved, holding.mark_px)
