"""Margin of every account of a vault while it trades: looked at now and then, never by each decision.

A look reprices what is held and under way at an account, sets it against what is posted there, and says in which state
that is. How much a hedge may still add is found by repricing along its size when somebody wants to know, and kept until
something changes. Must never trade: the engine does, within what is said here.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf, isfinite, nan, sqrt
from typing import NamedTuple

import numpy as np

from bot.domain.decisions import BotState, Refusal
from bot.domain.instruments import Instrument
from bot.domain.results import MarginRecord
from bot.domain.risk import CollateralPrice, MarginState, MarginTerms, SeriesValue
from bot.domain.units import BPS, NS_PER_S, NS_PER_YEAR
from bot.domain.venues import AccountReport
from bot.engine.adoption import ADOPTED_OF_RISK
from bot.engine.book import Holding
from bot.engine.desk import Desk
from bot.engine.margin.accounts import MODEL_ERRORS, QUOTE_MONEY, Figures, MarginAccount, Told, told_of
from bot.engine.margin.buffers import DEFAULT_DELAY_NS, VOL_LEVEL, Buffers
from bot.engine.margin.risk_rows import AccountRows, Row, account_rows, with_qty
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.margin.vol_watch import VolWatch
from bot.engine.market import MarketState
from bot.engine.orders import OrderTracker
from bot.engine.settings import EngineSettings
from bot.risk.book import OPTION, Floats, RiskBook
from bot.risk.deleveraging import FreeMargin, Reducible, ReductionRule, closing_set, next_slice
from bot.risk.distances import Interval, move_books, touch_probability, utilise, years_to_breach
from bot.risk.gaps import find_fault
from bot.risk.loss_waterfall import deleverage_index
from bot.risk.margin.registry import assume_worst
from bot.risk.margin_states import SEVERITY, bot_state_of, stand
from bot.risk.quick_distances import Searched, stack_intervals
from bot.risk.repricing import base_deltas
from bot.risk.stack import BookStack

STEPS = 14  # halvings of the search for the largest size that fits
AT_ONCE = 48  # sizes and ends asked about in one question, where a model answers for many copies at once
SAFE_SIGMAS = 3.0  # an account alive this far away on both sides is touched with less than 0.6 %
CALM_SHARE = 0.5  # of the first threshold: below it an account is looked at …
CALM_FACTOR = 10  # … this much less often, moves and trades aside


class Room(NamedTuple):
    """How much of an instrument one order may still trade on one side, and why no more; infinite: `reach_base`."""

    base: float
    why: str
    reach_base: float = inf

    def left_base(self, taken_share: float) -> float:
        """Return what is left where others have taken a share of what margin allows at the account.

        What fits each alone fits together in parts that add up to one, as margin is no less than linear in size.
        """
        return self.base if not taken_share else min(self.base, self.reach_base) * max(0.0, 1.0 - taken_share)

    def share_of(self, base: float) -> float:
        """Return the share of what margin allows that so much takes."""
        most_base = min(self.base, self.reach_base)
        return base / most_base if most_base > 0.0 else 1.0


class Relief(NamedTuple):
    """A slice of a hedge whose closing releases margin."""

    instrument_id: str
    lots: int
    released_quote: float
    reason: str
    is_moved: bool = False  # to another venue, which has to be there to take it


class MarginKeeper:
    """Margin of the accounts that a vault's risk section names; one review each per beat."""

    def __init__(
        self, settings: EngineSettings, market: MarketState, orders: OrderTracker, desks: Mapping[str, Desk]
    ) -> None:
        """Start keeping. Raises ValueError for parameters that their model cannot use."""
        assert settings.risk is not None, "a keeper is made for a vault with a risk section"
        self._risk = settings.risk
        self._market = market
        self._orders = orders
        self._desks = desks
        self.accounts = {name: MarginAccount(name, one, settings.risk) for name, one in settings.risk.accounts.items()}
        self.cuts: dict[str, int] = dict.fromkeys(self.accounts, 0)  # how often a hedge was cut or sent elsewhere
        self.worst_ratio: dict[str, float] = dict.fromkeys(self.accounts, 0.0)
        self.state_ns: dict[str, dict[MarginState, int]] = {name: {} for name in self.accounts}
        self.reviews: dict[str, int] = dict.fromkeys(self.accounts, 0)
        self.aside_quote = 0.0  # kept as insurance: it is where it is, and counts nowhere
        self.worst_initial_ratio: dict[str, float] = dict.fromkeys(self.accounts, 0.0)
        self.watch = VolWatch(settings.risk, desks)
        self.buffers: Buffers | None = None
        if settings.risk.buffers is not None:
            self.buffers = Buffers(settings.risk.buffers, settings.risk, self.watch)
        self._watched = [  # with the index as it was when accounts were last looked at
            (name, desk.book.marks_of_underlying, 0.0) for name, desk in desks.items()
        ]
        self._rows: dict[str, AccountRows] = {}
        self._ends: dict[str, list[tuple[RiskBook, Figures]]] = {}
        self._rooms: dict[tuple[str, int], Room] = {}
        self._reliefs: dict[str, Relief | None] = {}  # by underlying
        self._dirty: set[str] = set(self.accounts)
        self._due_ns = 0
        self._now_ns = 0
        self._reviewed_ns: dict[str, int] = {}
        self._delay_ns = max([one.p95_ns for one in settings.risk.transfers.routes], default=DEFAULT_DELAY_NS)

    @property
    def risk(self) -> RiskSettings:
        """What is known of margin from the start."""
        return self._risk

    def adopt(self, risk: RiskSettings) -> None:
        """Look at every account by other settings from the next decision on."""
        if all(getattr(risk, name) == getattr(self._risk, name) for name in ADOPTED_OF_RISK):
            return
        self._risk = risk
        for account in self.accounts.values():
            account.adopt(risk)
        self._due_ns = 0
        self.note_change()

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────

    def take_terms(self, event: MarginTerms) -> None:
        """Reckon with other parameters from the next decision on."""
        account = self.accounts.get(event.venue)
        if account is not None:
            account.take_terms(event)
            self.note_change(event.venue)

    def take_price(self, event: CollateralPrice) -> None:
        """Count collateral at a venue as the venue itself does; a price that is none leaves the last one."""
        account = self.accounts.get(event.venue)
        if account is not None and isfinite(event.px) and event.px >= 0.0:
            before = account.index_px.get(event.asset, 0.0)
            account.index_px[event.asset] = event.px
            if not before or abs(event.px / before - 1.0) >= self._risk.review_move_fraction:
                self.note_change(event.venue)

    def take_report(self, event: AccountReport) -> None:
        """Take in what an account tells of its balances and its margin."""
        account = self.accounts.get(event.venue)
        if account is None:
            return
        if event.balances:
            account.balances, account.balances_ns = dict(event.balances), event.ts_asked_ns
            account.earned_then_quote = nan
        if event.margins:
            account.report = event
        self.note_change(event.venue)

    def take_series(self, event: SeriesValue) -> None:
        """Let forecasts and conditions know a value of a series from outside."""
        if self.watch.take_series(event):
            self.note_change()

    def note_fill(self, instrument: Instrument | None, now_ns: int) -> None:
        """Remember when something last traded: a report that was asked for before does not know of it."""
        account = self.accounts.get(instrument.venue) if instrument is not None else None
        if account is not None:
            account.last_fill_ns = now_ns
            self.note_change(account.name)

    def note_settlement(self, desk: Desk, expiry_ns: int, px: float) -> None:
        """Keep what the book's own options are about to pay, where the feed tells no balances."""
        for option, qty_base in desk.book.options.values():
            account = self.accounts.get(option.venue)
            if account is None or option.expiry_ns != expiry_ns:
                continue
            pays_quote = qty_base * max(0.0, px - option.strike_px if option.is_call else option.strike_px - px)
            amount = pays_quote / px if option.settle == option.base else pays_quote
            account.settled[option.settle] = account.settled.get(option.settle, 0.0) + amount
        self.note_change()

    def note_change(self, account: str = "") -> None:
        """Look anew at one account, or at all of them, with the next decision; others are no business of ours."""
        self._dirty.update([account] if account else self.accounts)
        self._dirty &= self.accounts.keys()
        self._rooms.clear()
        self._reliefs.clear()

    # ── reviews ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def is_due(self, account: str) -> bool:
        """Tell whether something happened at an account since it was last looked at."""
        return account in self._dirty

    def review(self, now_ns: int) -> None:
        """Look at every account that is due: after its beat, after anything that happened there, after a move."""
        has_moved = False
        for name, marks, looked_px in self._watched:
            px = marks.index_px
            if px > 0.0:
                self.watch.note_price(name, now_ns, px)
                has_moved = has_moved or abs(px - looked_px) > self._risk.review_move_fraction * looked_px
        self._now_ns = now_ns
        is_due = now_ns >= self._due_ns or has_moved
        if not is_due and not self._dirty:
            return
        self._rooms.clear()
        self._reliefs.clear()
        for desk in self._desks.values():
            desk.book.mark(now_ns)  # a price missing is told of the row that lacks it
        if is_due:  # what happens at one account must not put off the look at the others
            self._dirty.update(self.accounts)
            self._watched = [(name, marks, marks.index_px) for name, marks, _ in self._watched]
        self.watch.look(now_ns, self._delay_ns / NS_PER_YEAR)
        for name in sorted(self._dirty):
            self._review(self.accounts[name], now_ns)
        self._dirty.clear()
        beat_ns = self._risk.review_ns * (CALM_FACTOR if self._is_calm else 1)
        self._due_ns = now_ns + beat_ns if is_due else min(self._due_ns, now_ns + beat_ns)
        if any(one.unknown for one in self.accounts.values()):  # looked at until it is known
            self._due_ns = min(self._due_ns, now_ns + min(self._risk.review_ns, NS_PER_S))
        for account in self.accounts.values():
            standing = account.standing
            if standing is not None and standing.asked is not standing.state:  # the next step is due sooner
                self._due_ns = min(self._due_ns, standing.stepped_up_ns + self._risk.states.step_up_ns)

    @property
    def _is_calm(self) -> bool:
        """Tell whether every account is so far from its first threshold that a move would be seen long before it."""
        most = CALM_SHARE * self._risk.states.watch_ratio
        return all(one.utilisation_ratio < most and not one.touch_probability > 0.0 for one in self.accounts.values())

    @property
    def is_price_in_doubt(self) -> bool:
        """Tell whether a jump of an index awaits its confirmation: accounts may be worth less than reckoned."""
        return any(self._market.underlyings[name].guard.is_suspicious for name in self._desks)

    @property
    def is_relieving(self) -> bool:
        """Tell whether any hedge is to be closed in slices now."""
        return any(one.permission.must_reduce or one.shed_for or one.move_for for one in self.accounts.values())

    @property
    def doubt(self) -> str:
        """Why exposure may only shrink as far as margin goes, "" where nothing is the matter."""
        standings = [one.standing for one in self.accounts.values() if one.standing is not None]
        if bot_state_of(standings) is BotState.RUNNING:
            return ""
        worst = [one for one in self.accounts.values() if one.permission.must_reduce]
        return "; ".join(
            f"margin at {one.name} is {one.standing.state}: {one.standing.reason}" for one in worst if one.standing
        )

    @property
    def emergency(self) -> str:
        """Which account a person has to look at, "" if none."""
        found = [one for one in self.accounts.values() if one.permission.must_close and one.standing is not None]
        return "; ".join(f"margin emergency at {one.name}: {one.standing.reason}" for one in found if one.standing)

    def _review(self, account: MarginAccount, now_ns: int) -> None:
        self.reviews[account.name] += 1
        account.note_day(now_ns)
        self._ends.pop(account.name, None)
        rows, why = account_rows(account.name, self._desks.values(), self._orders, now_ns)
        account.unknown = why
        if rows is None:
            self._rows.pop(account.name, None)
            if self.buffers is not None:
                self.buffers.forget(account.name)
            return
        self._rows[account.name] = rows
        degraded = account.doubts()
        book = rows.book
        try:
            _refuse_gaps(book)
            requirement = account.ask(book)
            local = account.local(book, requirement)
        except MODEL_ERRORS as error:
            requirement = assume_worst(book, str(error))
            local = Figures(requirement.initial, requirement.maintenance)
            degraded.append(
                f"margin model {account.settings.model} cannot answer, all that is held is counted: {error}"
            )
        account.requirement = requirement
        account.options_quote = float((book.qty_base * book.mark_px)[book.kind == OPTION].sum())
        is_known = account.balances is not None and isfinite(account.earned_then_quote)
        if account.balances is not None and not is_known and not self.is_price_in_doubt:
            account.earned_then_quote = self._own_quote(account)
        self._take_told(account, local, now_ns)
        figures = account.reckon(local)
        equity_quote, missing = self._equity(account)
        degraded += missing
        account.whole_quote = equity_quote
        equity_quote -= self.part_of(account, self.aside_quote)
        account.equity_quote, account.figures, account.degraded = equity_quote, figures, tuple(degraded)
        account.utilisation_ratio = utilise(equity_quote, figures.maintenance, account.settings.liquidation_ratio)
        account.touch_probability = self._touch(account, book)
        self._look_ahead(account, book, now_ns)
        before = account.standing
        account.standing = stand(
            before, account.utilisation_ratio, account.touch_probability, now_ns, self._risk.states
        )
        self._count(account, before.state if before is not None else account.standing.state, now_ns)

    def _count(self, account: MarginAccount, before: MarginState, now_ns: int) -> None:
        """Keep the worst utilisation and how long the account was in which state."""
        ratio = account.utilisation_ratio
        if isfinite(ratio):
            self.worst_ratio[account.name] = max(self.worst_ratio[account.name], ratio)
        ratio = account.initial_ratio
        if isfinite(ratio):
            self.worst_initial_ratio[account.name] = max(self.worst_initial_ratio[account.name], ratio)
        since_ns = self._reviewed_ns.get(account.name, now_ns)
        times = self.state_ns[account.name]
        times[before] = times.get(before, 0) + now_ns - since_ns
        self._reviewed_ns[account.name] = now_ns

    def _look_ahead(self, account: MarginAccount, book: RiskBook, now_ns: int) -> None:
        """Find what the account should hold for the time that topping it up takes."""
        if self.buffers is None:
            return
        if account.is_assumed:
            self.buffers.forget(account.name)
            return
        ratio = account.settings.liquidation_ratio
        self.buffers.review(
            account.name,
            book,
            account.equity_quote,
            account.figures.maintenance / ratio,
            self._coins_quote(account),
            lambda moved: account.reckon_maintenance(moved) / ratio,
            now_ns,
        )

    def _coins_quote(self, account: MarginAccount) -> float:
        """Return what of an account's equity is coins that move with their underlyings, in quote money."""
        return sum(
            amount * px * (1.0 - (account.haircut_share(asset) if amount > 0.0 else 0.0))
            for asset, amount in self._amounts(account).items()
            if asset not in QUOTE_MONEY and amount and (px := self.asset_px(account, asset)) is not None
        )

    def _take_told(self, account: MarginAccount, local: Figures, now_ns: int) -> None:
        """Set the venue's newest word beside the model's of the same moment; drop one that has grown old."""
        report, account.report = account.report, None
        if report is not None and account.last_fill_ns < report.ts_asked_ns:
            told = told_of(report)
            if told is not None:
                # a venue knows of a jump before we believe it: what it told then must not be moved by it again
                posted = None if self.is_price_in_doubt else self._posted_alone(account)
                moving_quote = 0.0 if posted is None else self._moving_quote(account, posted)
                account.told = Told(told[0], told[1], local, report.ts_recv_ns, posted, moving_quote)
        if account.told is not None and now_ns - account.told.at_ns > self._risk.report_max_age_ns:
            account.told = None

    def _equity(self, account: MarginAccount) -> tuple[float, list[str]]:
        """Return what is posted at an account after haircuts, in quote money, and what could not be counted."""
        if account.told is not None:
            told, since_quote = account.told, 0.0
            if told.posted is not None:
                since_quote = self._moving_quote(account, told.posted) - told.moving_quote
            return told.equity_quote + since_quote - self._leaving_quote(account, told.at_ns), []
        missing: list[str] = []
        is_told = account.balances is not None
        amounts = self._amounts(account)
        total_quote = 0.0
        for asset, amount in amounts.items():
            if not amount:
                continue
            px = self.asset_px(account, asset)
            if px is None:
                counts = "what is there counts as nothing" if amount > 0.0 else "what is owed may be anything"
                missing.append(f"{asset} has no price at {account.name}: {counts}")
                total_quote += 0.0 if amount > 0.0 else -inf
                continue
            haircut = account.haircut_share(asset) if amount > 0.0 else 0.0
            total_quote += amount * px * (1.0 - haircut)
        if not is_told:
            total_quote += self._own_quote(account)
        elif isfinite(account.earned_then_quote):  # what positions earned until then is in the balances
            total_quote += self._own_quote(account) - account.earned_then_quote
        return total_quote, missing

    def part_of(self, account: MarginAccount, amount_quote: float) -> float:
        """Return which part of an amount of the vault's falls to an account, by what is posted at each."""
        if not amount_quote:
            return 0.0
        posted_quote = {name: one.whole_quote for name, one in self.accounts.items() if one.whole_quote > 0.0}
        return amount_quote * posted_quote.get(account.name, 0.0) / (sum(posted_quote.values()) or 1.0)

    def _amounts(self, account: MarginAccount) -> dict[str, float]:
        """Return what is posted at an account by asset: what it told, else what the vault says and what came since."""
        if account.balances is not None:
            amounts = dict(account.balances)
            for asset, amount, planned_ns in account.leaving.values():
                if planned_ns >= account.balances_ns:
                    amounts[asset] = amounts.get(asset, 0.0) - amount
            return amounts
        amounts = dict(account.settings.collateral)
        for more in (account.settled, account.moved):
            for asset, amount in more.items():
                amounts[asset] = amounts.get(asset, 0.0) + amount
        return amounts

    def _moving_quote(self, account: MarginAccount, posted: Mapping[str, float]) -> float:
        """Return what of an account moves with prices, up to a constant: positions, options, what was posted there."""
        posted_quote = 0.0
        for asset, amount in posted.items():
            px = self.asset_px(account, asset)
            if px is not None:
                haircut = account.settings.haircut_share.get(asset, 0.0) if amount > 0.0 else 0.0
                posted_quote += amount * px * (1.0 - haircut)
        return posted_quote + self._own_quote(account)

    def _own_quote(self, account: MarginAccount) -> float:
        """Return what positions at an account earned and what options there count as."""
        return self._earned_quote(account) + account.counted_options_quote(account.options_quote)

    def _posted_alone(self, account: MarginAccount) -> dict[str, float]:
        """Return what is posted at an account without what positions there earned and are worth, by asset."""
        if account.balances is None:
            return dict(account.settings.collateral)
        posted = dict(account.balances)
        for desk in self._desks.values():
            for holding in desk.book.holdings:
                settle, px = holding.instrument.settle, desk.book.living_px(holding, self._now_ns)
                if holding.instrument.venue == account.name and settle in posted and px > 0.0:
                    posted[settle] -= holding.value_settle(px)
            for option in desk.book.option_hedges.values():
                if option.instrument.venue == account.name and option.instrument.settle in posted:
                    posted[option.instrument.settle] -= option.cash_settle
        for row in self._rows[account.name].rows:
            worth = self.asset_px(account, row.instrument.settle) if row.kind == OPTION else None
            if worth and row.instrument.settle in posted:
                posted[row.instrument.settle] -= row.qty_base * row.mark_px / worth
        return posted

    def _leaving_quote(self, account: MarginAccount, since_ns: int) -> float:
        """Return what was ordered to leave since an account last told what is there."""
        leaving = [one for one in account.leaving.values() if one[2] >= since_ns]
        return sum([amount * (self.asset_px(account, asset) or 0.0) for asset, amount, _ in leaving])

    def posted(self, account: MarginAccount) -> dict[str, float]:
        """Return what is posted at an account by asset, as of what it last told and what left since."""
        return dict(self._amounts(account))

    def owed(self, account: MarginAccount) -> tuple[float, float, float]:
        """Return what a venue owes us and we owe it, in quote money before haircuts: collateral, earned, borrowed.

        What it tells of equity counts as held where that is more. NaN where something there has no price.
        """
        posted = borrowed = 0.0
        for asset, amount in self._amounts(account).items():
            px = self.asset_px(account, asset) if amount else 0.0
            worth = nan if px is None else amount * px
            posted, borrowed = (posted, borrowed - worth) if amount < 0.0 else (posted + worth, borrowed)
        earned = self._earned_quote(account) + account.options_quote if account.balances is None else 0.0
        told = account.told
        if told is not None:
            equity_quote = told.equity_quote - self._leaving_quote(account, told.at_ns)
            posted += max(0.0, equity_quote - (posted + earned - borrowed))
        return posted, earned, borrowed

    def refresh(self, account: MarginAccount) -> None:
        """Look at an account anew if something happened there since, an order of the same decision for one."""
        if account.name in self._dirty or account.unknown:
            self._review(account, self._now_ns)
            self._dirty.discard(account.name)

    def held(self, account: MarginAccount, asset: str) -> float:
        """Return how much of an asset is posted at an account."""
        return max(0.0, self._amounts(account).get(asset, 0.0))

    def book_of(self, account: MarginAccount) -> RiskBook | None:
        """Return what is held at an account as of its last review, None where that could not be made out."""
        rows = self._rows.get(account.name)
        return rows.book if rows is not None else None

    def asset_px(self, account: MarginAccount, asset: str) -> float | None:
        """Return what a unit of an asset counts at an account in quote money, None where nobody told."""
        px = account.index_px.get(asset)
        if px is not None:
            return px
        if asset in QUOTE_MONEY:
            return 1.0
        marks = self._market.underlyings.get(asset)
        return marks.index_px if marks is not None and marks.index_px > 0.0 else None

    @property
    def underlyings(self) -> tuple[str, ...]:
        """What is held and hedged."""
        return tuple(self._desks)

    @property
    def looks(self) -> int:
        """How many times accounts were looked at."""
        return sum(self.reviews.values())

    def _earned_quote(self, account: MarginAccount) -> float:
        """Return what linear positions there have earned so far, and what option hedges left in cash."""
        earned_quote = 0.0
        for desk in self._desks.values():
            book = desk.book
            index_px = book.marks_of_underlying.index_px
            for holding in book.holdings:
                if holding.instrument.venue == account.name and (holding.qty or holding.cash_settle):
                    px = book.living_px(holding, self._now_ns)
                    earned_quote += self._counted_quote(account, holding, holding.value_quote(px, index_px))
            for option in book.option_hedges.values():
                if option.instrument.venue == account.name:
                    earned_quote += option.to_quote(option.cash_settle, index_px)
        return earned_quote

    def _counted_quote(self, account: MarginAccount, holding: Holding, earned_quote: float) -> float:
        """Return what a gain counts as where the dollar it was made in has slipped; a loss counts in full."""
        settle = holding.instrument.settle
        if earned_quote <= 0.0 or settle not in account.index_px or settle not in QUOTE_MONEY:
            return earned_quote
        return earned_quote * min(1.0, account.index_px[settle])

    def _touch(self, account: MarginAccount, book: RiskBook) -> float:
        """Return the chance that the account is liquidated before collateral could arrive, at a vol that is not mean.

        Repricing is dear, so that an account which is alive three sigmas away on both sides is called safe (0).
        """
        years = self._delay_ns / NS_PER_YEAR
        vol = self.stressed_vol()
        if isfinite(vol):  # before anything is held: the first order has to live through it as well
            account.safe_move = exp(SAFE_SIGMAS * vol * sqrt(years)) - 1.0
        if not len(book) or account.figures.maintenance <= 0.0:
            return 0.0
        if not isfinite(vol):
            return 0.0 if account.utilisation_ratio < self._risk.states.watch_ratio else nan
        ratio, move = account.settings.liquidation_ratio, account.safe_move
        coins_quote = self._coins_quote(account)  # they are no rows of the book, and fall with it all the same
        gross_quote = float((abs(book.qty_base) * book.spot_of_row_px).sum()) + abs(coins_quote)
        if account.figures.maintenance + 3.0 * gross_quote * move < ratio * account.equity_quote:
            return 0.0

        moves = np.array([-move, move])
        moved = move_books(book, moves)
        equity = account.equity_quote + (moved.mark_px - book.mark_px) @ book.qty_base + coins_quote * moves
        after = np.array([one.maintenance for one in _figures_of(account, moved, book)])
        if (after < ratio * equity).all():
            return 0.0
        return touch_probability(self._interval(account, book, coins_quote), 1.0, vol, years)

    def _interval(self, account: MarginAccount, book: RiskBook, coins_quote: float) -> Interval:
        """Return the moves of all prices, as prices of something at 1, between which an account lives."""

        def maintenance(stack: BookStack) -> Floats:
            return np.array([one.maintenance for one in _figures_of(account, stack, book)])

        searched = Searched(
            book=book,
            equity_quote=account.equity_quote,
            maintenance=maintenance,
            px=1.0,
            liquidation_ratio=account.settings.liquidation_ratio,
            margin_now_quote=account.figures.maintenance,
            coins_quote=coins_quote,
        )
        [interval] = stack_intervals([searched])
        return interval

    def breach_years(self, account: MarginAccount) -> float:
        """Return the time that 99 % of paths leave an account alive, NaN where nobody can say."""
        book, vol = self.book_of(account), self.stressed_vol()
        if book is None or account.is_assumed or not isfinite(vol):
            return nan
        return years_to_breach(self._interval(account, book, self._coins_quote(account)), 1.0, vol)

    def records(self) -> dict[str, MarginRecord]:
        """Return what margin of every account was like so far."""
        return {name: self._record(one) for name, one in sorted(self.accounts.items())}

    def _record(self, account: MarginAccount) -> MarginRecord:
        figures, name = account.figures, account.name
        standing, times = account.standing, dict(self.state_ns[account.name])
        if standing is not None:
            times[standing.state] = times.get(standing.state, 0) + self._now_ns - self._reviewed_ns[name]
        buffer = self.buffers.of.get(name) if self.buffers is not None else None
        return MarginRecord(
            model=account.parameters.model,
            equity_quote=_known(account.equity_quote),
            initial_quote=_known(figures.initial),
            maintenance_quote=_known(figures.maintenance),
            utilisation_ratio=_known(account.utilisation_ratio),
            worst_utilisation_ratio=self.worst_ratio[name],
            state=str(standing.state) if standing is not None else "unknown",
            state_s={str(state): ns / NS_PER_S for state, ns in times.items()},
            cuts=self.cuts[name],
            reviews=self.reviews[name],
            degraded=account.degraded,
            worst_initial_ratio=self.worst_initial_ratio[name],
            worst_state=str(max(times, key=SEVERITY.__getitem__, default="unknown")),
            required_quote=_known(self.buffers.required_quote(name)) if self.buffers is not None else None,
            target_ratio=buffer.target.ratio if buffer is not None else None,
            target_changes=self.buffers.change_counts.get(name, 0) if self.buffers is not None else 0,
        )

    def stressed_vol(self) -> float:
        """Return the highest of the vols that options and prices show, and that a forecast exceeds in 5 % of cases."""
        vols = [desk.vol() for desk in self._desks.values()]
        vols += [self.watch.quantile_vol(name, VOL_LEVEL) for name in self._desks]
        return max([vol for vol in vols if isfinite(vol)], default=nan)

    # ── rooms ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _most_ratio(self) -> float:
        """The utilisation that no hedge goes beyond: what makes an account CRITICAL would soon be closed again."""
        return self._risk.states.critical_ratio - self._risk.states.hysteresis_ratio

    def keeps(self, venue: str) -> bool:
        """Tell whether margin at a venue is reckoned."""
        return venue in self.accounts

    def refusal_at(self, venue: str) -> Refusal:
        """Return what a hedge is refused for where margin leaves none at a venue."""
        return Refusal.COUNTERPARTY_LIMIT if self.accounts[venue].banned else Refusal.MARGIN_LIMIT

    def room(self, instrument: Instrument, side: int, reach_base: float) -> Room:
        """Return how much more of an instrument may be traded on one side (1 buys, −1 sells), up to `reach_base`.

        It is the largest size after which initial margin is within its share of equity, utilisation clear of CRITICAL,
        and the account alive after a move of `SAFE_SIGMAS` until it could be topped up; or no nearer to any of them
        than now: what releases is allowed.
        """
        key = (instrument.instrument_id, side)
        found = self._rooms.get(key)
        if found is None:
            found = self._find_room(instrument, side, reach_base)
            if not self.accounts[instrument.venue].unknown:
                self._rooms[key] = found
        return found

    def option_room(self, row: Row, side: int, reach_base: float, px: float) -> Room:
        """Return how much more of an option may be traded at `px` a unit, in quote money, held already or not."""
        account = self.accounts[row.instrument.venue]
        self.refresh(account)
        rows = self._rows.get(account.name)
        if rows is None or row.instrument.instrument_id in rows.row_of:
            return self._find_room(row.instrument, side, reach_base, px)
        more, why = account_rows(account.name, self._desks.values(), self._orders, self._now_ns, (row,))
        if more is None or account.is_assumed:
            return Room(0.0, why or f"margin at {account.name} is not known: {account.degraded[-1]}")
        return self._search(account, more, _books_of(account, more), row.instrument.instrument_id, side, reach_base, px)

    def note_cut(self, venue: str) -> None:
        """Count a hedge that margin made smaller or sent elsewhere."""
        self.cuts[venue] += 1

    def _find_room(self, instrument: Instrument, side: int, reach_base: float, px: float = 0.0) -> Room:
        account = self.accounts[instrument.venue]
        self.refresh(account)
        rows = self._rows.get(account.name)
        name = instrument.instrument_id
        if rows is None or name not in rows.row_of:
            return Room(0.0, f"margin at {account.name} is not known: {account.unknown or f'{name} has no price'}")
        held_base = rows.rows[rows.row_of[name]].qty_base
        if account.is_assumed:
            why = f"margin at {account.name} is not known, only closing is allowed: {account.degraded[-1]}"
            return Room(max(0.0, -side * held_base), why)
        if account.name not in self._ends:
            self._ends[account.name] = _books_of(account, rows)
        return self._search(account, rows, self._ends[account.name], name, side, reach_base, px)

    def _search(
        self,
        account: MarginAccount,
        rows: AccountRows,
        ends: list[tuple[RiskBook, Figures]],
        name: str,
        side: int,
        reach_base: float,
        px: float,
    ) -> Room:
        place = rows.row_of[name]
        row = rows.rows[place]
        share, ratio = self._risk.max_initial_ratio, account.settings.liquidation_ratio
        most_ratio = self._most_ratio
        is_option = row.kind == OPTION

        deltas = base_deltas(with_qty(rows.book, np.ones(len(rows.book))))  # of a unit of each row
        spot_px, where = rows.book.spot_of_row_px, rows.book.underlying

        def at_risk_quote(maintenance_quote: float, qty: Floats) -> float:
            """Return the equity with which an account still lives after the move that is looked ahead to."""
            by_underlying = np.bincount(where, deltas * qty * spot_px)
            return maintenance_quote / ratio + account.safe_move * float(np.abs(by_underlying).sum())

        def fits(sizes: list[float]) -> list[bool]:
            """Return for each size whether margin is within its bounds after so much more, whichever the end."""
            found = [True] * len(sizes)
            lines = [_with_more(book.qty_base, place, side * base) for book, _ in ends for base in sizes]
            every = _figures_of(account, BookStack(ends[0][0]).with_qty(np.array(lines)), ends[0][0])
            for number, asked in enumerate(every):
                book, now = ends[number // len(sizes)]
                base = sizes[number % len(sizes)]
                equity_quote = account.equity_quote
                if is_option:
                    worth = account.options_quote + side * base * row.mark_px
                    equity_quote += account.counted_options_quote(worth) - side * base * px
                    equity_quote -= account.counted_options_quote(account.options_quote)
                bound_quote, left_quote = now.initial, at_risk_quote(now.maintenance, book.qty_base)
                kept_quote = now.maintenance
                if account.may_add:
                    bound_quote = max(bound_quote, share * equity_quote)
                    left_quote = max(left_quote, equity_quote)
                    kept_quote = max(kept_quote, most_ratio * ratio * equity_quote)
                is_within = asked.initial - bound_quote - 1e-9 * abs(bound_quote) <= 0.0
                is_within &= asked.maintenance - kept_quote - 1e-9 * abs(kept_quote) <= 0.0
                if account.safe_move:
                    risk_quote = at_risk_quote(asked.maintenance, lines[number])
                    is_within &= risk_quote - left_quote - 1e-9 * abs(left_quote) <= 0.0
                found[number % len(sizes)] &= is_within
            return found

        if fits([reach_base])[0]:
            return Room(inf, "", reach_base)
        low, high = 0.0, reach_base
        halvings = next((n for n in range(1, STEPS) if reach_base * 0.5**n < 0.5 * row.lot_base), STEPS)
        while halvings:
            most = (AT_ONCE // len(ends) + 1).bit_length() - 1
            at_once = min(most, halvings)
            halvings -= at_once
            sizes = [low + (high - low) * one / 2**at_once for one in range(1, 2**at_once)]
            found = fits(sizes)
            place_of_no = found.index(False) if False in found else len(sizes)
            low, high = [low, *sizes][place_of_no], [*sizes, high][place_of_no]
        return Room(low, self._tell(account), reach_base)

    def tell(self, account: MarginAccount) -> str:
        """Say in a sentence how an account is."""
        if account.unknown or account.standing is None:
            return f"not known: {account.unknown}"
        parts = [
            f"{account.standing.asked}: {account.standing.reason}",
            self._tell_figures(account),
            f"as {account.name} tells" if account.is_told else f"by the model {account.parameters.model}",
            self.buffers.tell(account.name) if self.buffers is not None else "",
            account.banned and f"nothing is added: {account.banned}",
            account.move_for and f"its hedges are moved elsewhere: {account.move_for}",
            *account.degraded,
        ]
        return "; ".join(filter(None, parts))

    def _tell(self, account: MarginAccount) -> str:
        figures = self._tell_figures(account)
        if account.banned:
            return f"{account.name}: only what releases margin, {account.banned}; {figures}"
        if not account.may_add and account.standing is not None:
            why = f"{account.standing.asked}: {account.standing.reason}"
            return f"{account.name}: only what releases margin, it is {why}; {figures}"
        used = f"utilisation {account.utilisation_ratio:.0%} of at most {self._most_ratio:.0%}"
        return f"{account.name}: {figures}, {used}"

    def _tell_figures(self, account: MarginAccount) -> str:
        aside_quote = account.whole_quote - account.equity_quote
        beside = f" beside {aside_quote:,.0f} of the buffer" if aside_quote > 0.0 else ""
        return (
            f"initial margin {account.figures.initial:,.0f} of {account.equity_quote:,.0f} equity{beside}, "
            f"limit {self._risk.max_initial_ratio:.0%}"
        )

    # ── relief ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def overdone(self, instrument_id: str, side: int, venue: str) -> str:
        """Return why an order that rests may rest no longer: with all on its side done, margin would be over."""
        account = self.accounts.get(venue)
        rows = self._rows.get(venue)
        if account is None or rows is None or not (rows.book.buy_base.any() or rows.book.sell_base.any()):
            return ""
        if venue not in self._ends:
            self._ends[venue] = _books_of(account, rows)
        place = rows.row_of.get(instrument_id)
        if place is None or not (rows.book.buy_base if side > 0 else rows.book.sell_base)[place]:
            return ""
        now_quote = self._ends[venue][0][1].initial
        bound_quote = (
            max(now_quote, self._risk.max_initial_ratio * account.equity_quote) if account.may_add else now_quote
        )
        for book, (initial_quote, _) in self._ends[venue][1:]:
            is_this_end = (book.qty_base[place] - self._ends[venue][0][0].qty_base[place]) * side > 0.0
            if is_this_end and initial_quote > bound_quote * (1.0 + 1e-9):
                return f"margin limit of {self._tell(account)}"
        return ""

    def find_relief(self, desk: Desk) -> Relief | None:
        """Return the slice of a desk's hedges at an account that must be reduced which releases most per cost of it.

        Nothing while an order is under way there: the account is read again after each slice.
        """
        if desk.underlying not in self._reliefs:
            self._reliefs[desk.underlying] = self._find_relief(desk)
        return self._reliefs[desk.underlying]

    def _find_relief(self, desk: Desk) -> Relief | None:
        for account in self.accounts.values():
            allowed = account.permission
            rows = self._rows.get(account.name)
            is_moving = bool(account.shed_for or account.move_for) and self.has_room_elsewhere(desk, account)
            if not (allowed.must_reduce or is_moving) or rows is None or account.name in self._dirty:
                continue
            if rows.book.buy_base.any() or rows.book.sell_base.any():
                continue
            goal = self._risk.states.critical_until_ratio * account.settings.liquidation_ratio * account.equity_quote
            needed_quote = account.figures.maintenance - max(0.0, goal)
            if account.touch_probability > 0.5 * self._risk.states.critical_probability:
                needed_quote = max(needed_quote, account.figures.maintenance)  # slice by slice, until it is left
            found = self.reducible(account, desk)
            rule = ReductionRule(most_share=self._risk.slice_share)
            if not allowed.must_reduce and account.shed_for:  # in the order in which the venue would take them
                index = {one.instrument_id: self.deleverage_index(account, desk, one.instrument_id) for one in found}
                found.sort(key=lambda one: -index[one.instrument_id])
                chosen = next((cut for one in found if (cut := next_slice([one], inf, rule)) is not None), None)
            elif not allowed.must_reduce:
                chosen = next_slice(found, inf, rule)
            elif allowed.must_close:
                slices = closing_set(found, needed_quote)
                chosen = slices[0] if slices else None
            else:
                chosen = next_slice(found, needed_quote, rule)
            if chosen is None:
                continue
            lot_base = rows.rows[rows.row_of[chosen.instrument_id]].lot_base
            held_lots = desk.holdings[chosen.instrument_id].lots
            lots = min(abs(held_lots), max(1, int(abs(chosen.trade_base) / lot_base + 0.5)))
            why = f"first in line for deleveraging at {account.name}: {account.shed_for}"
            if (allowed.must_reduce or not account.shed_for) and account.standing is not None:
                why = f"margin at {account.name} is {account.standing.state} ({account.standing.reason})"
                why += f", moved elsewhere: {account.move_for}" if not allowed.must_reduce else ""
            signed_lots = -lots if held_lots > 0 else lots
            is_moved = not allowed.must_reduce
            reason = f"{why}: {chosen.reason}"
            return Relief(chosen.instrument_id, signed_lots, chosen.released_quote, reason, is_moved)
        return None

    def has_room_elsewhere(self, desk: Desk, account: MarginAccount) -> bool:
        """Tell whether another venue of a desk's hedges may take what leaves an account: it is hedged there next."""
        others = {one.instrument.venue for one in desk.hedges} - {account.name}
        return any(name not in self.accounts or self.accounts[name].may_add for name in others)

    def free_elsewhere(self, account: MarginAccount) -> list[FreeMargin]:
        """Return what the other venues of what is hedged at an account could take of it, and what a slice would need.

        That is taken to be as much as it needs where it is.
        """
        venues: dict[str, None] = {}
        for desk in self._desks.values():
            if any(desk.holdings[name].lots for name in self._hedges_at(account, desk)):
                venues |= dict.fromkeys(one.instrument.venue for one in desk.hedges)
        needed_quote = self._risk.slice_share * account.figures.initial
        return [FreeMargin(name, self._free_quote(name), needed_quote) for name in venues if name != account.name]

    def set_move(self, account: MarginAccount, why: str) -> None:
        """Have hedges moved away from an account as long as `why` says something."""
        if bool(why) != bool(account.move_for):
            self._reliefs.clear()
        account.move_for = why

    def _hedges_at(self, account: MarginAccount, desk: Desk) -> list[str]:
        return [one.instrument.instrument_id for one in desk.hedges if one.instrument.venue == account.name]

    def _free_quote(self, venue: str) -> float:
        account = self.accounts.get(venue)
        if account is None:
            return inf
        if account.unknown or not account.may_add:
            return 0.0
        return max(0.0, self._risk.max_initial_ratio * account.equity_quote - account.figures.initial)

    def deleverage_index(self, account: MarginAccount, desk: Desk, instrument_id: str) -> float:
        """Return how early a venue would take a hedge to deleverage others: the highest goes first.

        Its entry is the mean price of what is held, as far as our own ledger of it tells.
        """
        holding = desk.holdings[instrument_id]
        mark_px = holding.mark_px or desk.book.marks_of_underlying.index_px
        if not (holding.qty and mark_px > 0.0):
            return 0.0
        entry_px = mark_px
        if holding.cash_settle:
            ratio = holding.qty / holding.cash_settle if holding.is_inverse else -holding.cash_settle / holding.qty
            entry_px = ratio if ratio > 0.0 else mark_px
        notional_quote = abs(holding.qty) * (1.0 if holding.is_inverse else mark_px)
        return deleverage_index(entry_px, mark_px, notional_quote, account.equity_quote, is_long=holding.qty > 0.0)

    def reducible(self, account: MarginAccount, desk: Desk) -> list[Reducible]:
        """Return what closing a slice of each hedge at an account releases, and what it is expected to cost."""
        found: list[Reducible] = []
        rows = self._rows.get(account.name)
        if rows is None:
            return found
        for hedge in desk.hedges:
            name = hedge.instrument.instrument_id
            lots = desk.holdings[name].lots
            quote = self._market.quotes.get(name)
            if hedge.instrument.venue != account.name or not lots or name not in rows.row_of or quote is None:
                continue
            row = rows.rows[rows.row_of[name]]
            share = max(self._risk.slice_share, 1.0 / abs(lots))
            slice_base = lots * row.lot_base * share
            after_quote = account.reckon_maintenance(rows.with_more({name: -slice_base}))
            cost_px = 0.5 * (quote.ask_px - quote.bid_px) + hedge.taker_bps * BPS * quote.ask_px
            found.append(
                Reducible(
                    instrument_id=name,
                    account=account.name,
                    qty_base=lots * row.lot_base,
                    share=share,
                    released_quote=account.figures.maintenance - after_quote,
                    slippage_quote=abs(slice_base) * cost_px,
                    deleverage_rank_share=account.queue_share,
                )
            )
        return found


def _known(number: float) -> float | None:
    return number if isfinite(number) else None


def _refuse_gaps(book: RiskBook) -> None:
    fault = find_fault(book)
    if fault:
        raise ValueError(fault)


def _books_of(account: MarginAccount, rows: AccountRows) -> list[tuple[RiskBook, Figures]]:
    """Return every end that what is under way may lead to, with the initial margin there."""
    ends = rows.ends()
    stack = BookStack(ends[0]).with_qty(np.array([one.qty_base for one in ends]))
    unknown = Figures(-inf, -inf)
    return [
        (book, found if isfinite(found.initial) else unknown)
        for book, found in zip(ends, _figures_of(account, stack, ends[0]), strict=True)
    ]


def _figures_of(account: MarginAccount, stack: BookStack, like: RiskBook) -> list[Figures]:
    """Return margin of each copy of a book as it is reckoned; infinite where the model cannot say."""
    try:
        return account.reckon_all(stack, like)
    except MODEL_ERRORS:
        return [_figures_alone(account, stack.book(copy, like)) for copy in range(len(stack))]


def _figures_alone(account: MarginAccount, book: RiskBook) -> Figures:
    try:
        return account.reckon_figures(book)
    except MODEL_ERRORS:
        return Figures(inf, inf)


def _with_more(qty_base: Floats, place: int, base: float) -> Floats:
    """Return quantities with so much more of one row."""
    out = qty_base.copy()
    out[place] += base
    return out
