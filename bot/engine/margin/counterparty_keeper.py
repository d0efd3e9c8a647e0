"""Who could keep what is ours, while the engine trades: judged with each look at margin, limited, and left in order.

What is held at a venue, owed by an issuer or under way over a bridge is its exposure; its score is that of its newest
signs, and what is not known counts as the parameters say. A venue that must not grow takes no hedge that adds margin;
one that is to be left is drained by the playbook of `bot.risk.drain`. Must never trade or send: it says what to close
and how much more to hedge elsewhere, and `TopUps` plans what is withdrawn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from math import inf, isfinite, nan
from typing import Final, NamedTuple

import msgspec

from bot.domain.events import Command
from bot.domain.instruments import Instrument
from bot.domain.orders import Fill
from bot.domain.risk import CounterpartySigns, TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_S, NS_PER_YEAR
from bot.engine.desk import Desk
from bot.engine.margin.accounts import MarginAccount
from bot.engine.margin.keeper import MarginKeeper, Relief
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.margin.top_ups import TopUps
from bot.engine.market import MarketState
from bot.engine.orders import OrderTracker
from bot.risk.book import RiskBook
from bot.risk.counterparties import (
    Action,
    Exposure,
    GroupRisk,
    HedgeLost,
    Party,
    PartyKind,
    PartyRisk,
    Score,
    action_of,
    judge,
    judge_groups,
    of_issuers,
    score_of,
    with_transfers,
)
from bot.risk.distances import move_book
from bot.risk.drain import CancelOrders, Close, Drain, DrainView, HedgeElsewhere, Held, Open, Withdraw, wants_drain
from bot.risk.loss_waterfall import pool_state
from bot.risk.transfers import Route

DRAINING: Final = frozenset({Action.DRAIN, Action.EXIT})
SHUT: Final = frozenset({"suspended", "failed"})  # what is said of withdrawals where nothing leaves
LOOK_EVERY_NS: Final = NS_PER_S  # at a drain
BUMP: Final = 1e-3  # move that a delta is measured with
MAX_ENDED: Final = 20  # drains that are over and still shown


class _Closing(NamedTuple):
    """What a drain wants closed of a hedge, signed as a trade."""

    venue: str
    qty_base: float


class CounterpartyKeeper:
    """The newest signs of everybody who could fail, what is held there, what follows, and the drains under way."""

    def __init__(
        self,
        risk: RiskSettings,
        margin: MarginKeeper,
        top_ups: TopUps,
        market: MarketState,
        orders: OrderTracker,
        desks: Mapping[str, Desk],
        equity_quote: Callable[[], float],
    ) -> None:
        assert risk.counterparties is not None, "parties are judged by parameters"
        self.signs: dict[str, CounterpartySigns] = {}
        self.scores: dict[str, Score] = {}
        self.actions: dict[str, Action] = {}
        self.risks: dict[str, PartyRisk] = {}
        self.groups: tuple[GroupRisk, ...] = ()
        self.drains: dict[str, Drain] = {}
        self.ended: deque[Drain] = deque(maxlen=MAX_ENDED)
        self.rules = risk.counterparty_rules
        self.parties = _parties(risk)
        self.to_cancel: dict[str, str] = {}  # venue → why what rests there is canceled
        self._parameters = risk.counterparties
        self._unwatched = msgspec.structs.replace(
            risk.counterparties, stop_adding_below=0.0, drain_below=0.0, exit_below=0.0, score_share=((0.0, 1.0),)
        )
        self._risk = risk
        self._margin = margin
        self._top_ups = top_ups
        self._market = market
        self._orders = orders
        self._desks = desks
        self._equity_quote = equity_quote
        self._by_score: dict[str, Action] = {}  # what the score alone asks for: the next one eases from there
        self._pools: dict[str, str] = {}  # venue → why its fund is about to be short
        self._closings: dict[str, _Closing] = {}  # by instrument
        self._hedging_ns: dict[str, int] = {}  # venue → since when its delta is hedged elsewhere
        self._shifts_base: dict[str, dict[str, float]] = {}  # venue → underlying → delta to put on elsewhere
        self._done_ns: dict[str, int] = {}
        self._deltas: dict[str, dict[str, float]] = {}  # venue → underlying → delta that would be lost with it
        self._given_up: set[str] = set()  # transfers that no drain waits for any more
        self._routes = {(one.from_venue, one.asset, _chain_of(one)): one for one in risk.transfers.routes}
        self._is_news = True
        self._due_ns = 0
        self._look_ns = 0

    def adopt(self, risk: RiskSettings) -> None:
        """Judge by other settings from now on."""
        self._risk = risk

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, event: CounterpartySigns) -> None:
        """Keep the signs of a party; older ones than the last, and those of strangers, change nothing."""
        last = self.signs.get(event.party)
        if event.party in self.parties and (last is None or event.ts_event_ns >= last.ts_event_ns):
            self.signs[event.party] = event
            self._is_news = True

    def note_transfer(self, event: TransferUpdate) -> None:
        """Let a drain know what became of collateral that left its venue."""
        self._is_news = True
        drain = self.drains.get(event.from_venue)
        if drain is not None and not drain.is_done:
            detail = f"{event.transfer_id}{f', {event.reason}' if event.reason else ''}"
            drain.note_transfer(f"{event.route} to {event.to_venue}", event.state, event.ts_recv_ns, detail)

    def note_fill(self, instrument: Instrument | None, fill: Fill) -> None:
        """Let a drain know that what it wanted closed was."""
        closing = self._closings.get(fill.instrument_id)
        if instrument is None or closing is None or closing.qty_base * fill.qty_lots <= 0.0:
            return
        del self._closings[fill.instrument_id]
        drain = self.drains.get(closing.venue)
        if drain is not None and not drain.is_done:
            drain.note_closed(fill.ts_recv_ns, f"{fill.qty_lots:+} lots of {fill.instrument_id} at {fill.px:g}")

    # ── what follows ─────────────────────────────────────────────────────────────────────────────────────────────────

    def shift_base(self, underlying: str) -> float:
        """Return the delta that is put on beyond the target, for venues that are being left and may yet fail."""
        return sum([one.get(underlying, 0.0) for one in self._shifts_base.values()])

    def find_relief(self, desk: Desk) -> Relief | None:
        """Return the slice of a desk's hedges that a drain wants closed, None while something is under way there."""
        for name, closing in self._closings.items():
            holding = desk.holdings.get(name)
            if holding is None or closing.venue not in self.drains or self._open_orders(closing.venue):
                continue
            lot_base = holding.instrument.lot_base(holding.mark_px) if holding.mark_px else nan
            if not lot_base > 0.0 or holding.lots * closing.qty_base >= 0.0:
                continue
            lots = min(abs(holding.lots), max(1, int(abs(closing.qty_base) / lot_base + 0.5)))
            reason = f"{closing.venue} is left: {self._margin.accounts[closing.venue].banned}"
            return Relief(name, lots if closing.qty_base > 0.0 else -lots, 0.0, reason)
        return None

    def review(self, now_ns: int, *, may_act: bool) -> list[Command]:
        """Judge everybody who is due, and return the withdrawals of the drains; nothing unless it may act."""
        if self._is_news or now_ns >= self._due_ns:
            self._is_news = False
            self._due_ns = now_ns + self._risk.review_ns
            self._judge(now_ns)
        if not self.drains or now_ns < self._look_ns:
            return []
        self._look_ns = now_ns + LOOK_EVERY_NS
        commands: list[Command] = []
        for venue, drain in self.drains.items():
            account = self._margin.accounts[venue]
            self._margin.refresh(account)
            if account.unknown or self._margin.book_of(account) is None:
                continue
            self._set_shifts(venue)
            if may_act and not drain.is_done:
                commands += self._advance(venue, drain, account, now_ns)
        return commands

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _judge(self, now_ns: int) -> None:
        exposures = self._exposures()
        equity_quote = self._equity(exposures)
        risks: dict[str, PartyRisk] = {}
        for name, party in self.parties.items():
            signs = self.signs.get(name)
            if signs is None and not self.rules.is_limiting:
                continue
            before = self._by_score.get(name, Action.NONE)
            score = score_of(party, signs, self._parameters, now_ns)
            is_old = signs is None or now_ns - signs.ts_event_ns > self._parameters.max_age_s * NS_PER_S
            interest_quote = nan if is_old or signs is None else signs.open_interest_quote
            exposure = exposures.get(name, Exposure(party=name))
            is_watched = self.rules.is_watched and party.kind is PartyKind.VENUE
            rules = self._parameters if is_watched or signs is not None else self._unwatched
            found = judge(party, exposure, score, equity_quote, interest_quote, before, rules)
            self._by_score[name] = action_of(score.points, before, rules)
            if not self.rules.is_limiting:  # shown, and nothing follows from it
                found = msgspec.structs.replace(found, action=self._by_score[name], is_over=False)
            risks[name] = found
        self.risks = risks
        self.scores = {name: one.score for name, one in risks.items()}
        self.groups = judge_groups(tuple(self.parties.values()), risks, equity_quote, self._parameters)
        full = {name: one for one in self.groups if one.is_over and self.rules.is_limiting for name in one.parties}
        self.actions = {
            name: Action.STOP_ADDING if name in full and one.action is Action.NONE else one.action
            for name, one in risks.items()
        }
        for name, account in self._margin.accounts.items():
            self._set_account(account, full.get(name))
        self._set_bridges()
        self._set_drains(now_ns)

    def _set_account(self, account: MarginAccount, full: GroupRisk | None) -> None:
        """Ban what must not grow at a venue, and say why in the words of everybody who asks."""
        name = account.name
        action = self.actions.get(name, Action.NONE)
        account.shed_for = self._find_short_fund(name)
        why = [account.shed_for] if account.shed_for else []
        if full is not None:
            why.append(
                f"{', '.join(full.parties)} of group {full.group} hold {full.stressed_quote:,.0f} stressed, "
                f"limit {full.limit_quote:,.0f}"
            )
        if why or action is not Action.NONE:
            why.append(self._tell(self.risks[name]))
        banned = "; ".join(why) + (f", {action}" if why and action is not Action.NONE else "")
        is_draining = action in DRAINING
        signs = self.signs.get(name)
        account.queue_share = 1.0 - signs.deleverage_rank_share if signs is not None else nan
        if banned != account.banned or is_draining != account.is_draining:
            account.banned, account.is_draining = banned, is_draining
            self._margin.note_change(name)

    def _tell(self, risk: PartyRisk) -> str:
        parts = risk.score.parts
        low = [f"{one.name}: {one.detail}" for one in parts if one.is_known and one.points < 0.5 * one.weight]
        if risk.score.unknown:
            low.append(f"unknown: {', '.join(risk.score.unknown)}")
        told = f"counterparty score {risk.score.points:.0f} ({'; '.join(low) or 'nothing is bad'})"
        if not risk.is_over:
            return told
        if not isfinite(risk.stressed_quote):
            return f"{told}; what is held there is not known"
        return f"{told}; {risk.stressed_quote:,.0f} at default, limit {risk.limit_quote:,.0f} ({risk.limit_reason})"

    def _find_short_fund(self, name: str) -> str:
        """Return why a venue is about to deleverage, "" if it is not: its fund fell, and until it has recovered."""
        signs = self.signs.get(name)
        if signs is None or name not in self.risks:
            return ""
        fund, high = signs.fund_quote, signs.fund_high_quote
        before = self._pools.get(name, "")
        state = pool_state(fund, high, fund, high, self._parameters.pool, was_deleveraging=bool(before))
        text = before
        if not state.is_deleveraging:
            text = ""
        elif isfinite(state.drawdown_ratio):
            text = f"insurance fund {-state.drawdown_ratio:.0%} below its high of 8 hours"
        self._pools[name] = text
        return text

    def _set_bridges(self) -> None:
        """Bar bridges that look ill, and leave to the others what their limit leaves."""
        barred, rooms = self._top_ups.barred, self._top_ups.bridge_room_quote
        barred.clear()
        rooms.clear()
        if not self.rules.is_limiting:
            return
        for name, risk in self.risks.items():
            if self.parties[name].kind is not PartyKind.BRIDGE:
                continue
            rooms[name] = risk.limit_quote - risk.ead_quote
            if risk.is_over or self.actions[name] in DRAINING:
                barred[name] = f"bridge {name}: {self._tell(risk)}"

    def _exposures(self) -> dict[str, Exposure]:
        found: list[Exposure] = []
        held_quote: dict[tuple[str, str], float] = {}
        px: dict[str, float] = {}
        for account in self._margin.accounts.values():
            posted_quote, earned_quote, borrowed_quote = self._margin.owed(account)
            for asset, amount in self._margin.posted(account).items():
                known = self._margin.asset_px(account, asset)
                px[asset] = nan if known is None else known
                held_quote[account.name, asset] = amount * px[asset] if amount > 0.0 else 0.0
            found.append(
                Exposure(
                    party=account.name,
                    collateral=nan if account.unknown else posted_quote,
                    upnl=earned_quote,
                    borrowed=borrowed_quote,
                    scenario_pnl=self._stress(account),
                    hedges=tuple(self._lost(account)),
                )
            )
        for route in self._routes.values():
            for account in self._margin.accounts.values():
                known = self._margin.asset_px(account, route.asset)
                px.setdefault(route.asset, nan if known is None else known)
        lent = [one for one in self._top_ups.book.lent() if one.party in self.parties]
        both = [*with_transfers(found, lent, px), *of_issuers(held_quote, self.rules.issuers)]
        return {one.party: one for one in both}

    def _stress(self, account: MarginAccount) -> tuple[float, ...]:
        """Return what each move of all prices together adds to what a venue owes: positions, and coins posted."""
        book = self._margin.book_of(account)
        if book is None:
            return ()
        coins_quote = 0.0
        for asset, amount in self._margin.posted(account).items():
            if asset in self._desks:
                coins_quote += amount * (self._margin.asset_px(account, asset) or 0.0)
        return tuple([_pnl(book, move) + coins_quote * move for move in self.rules.stress_moves])

    def _lost(self, account: MarginAccount) -> Iterator[HedgeLost]:
        years = self.rules.rehedge_ns / NS_PER_YEAR
        for desk in self._desks.values():
            vol = desk.vol()
            for name, holding in desk.holdings.items():
                quote = self._market.quotes.get(name)
                if holding.instrument.venue != account.name or not holding.lots or quote is None:
                    continue
                mid_px = 0.5 * (quote.bid_px + quote.ask_px)
                delta_quote = holding.lots * holding.instrument.lot_base(mid_px) * mid_px
                spread = (quote.ask_px - quote.bid_px) / mid_px
                yield HedgeLost(delta_quote, spread, vol if isfinite(vol) else 1.0, years)

    def _equity(self, exposures: Mapping[str, Exposure]) -> float:
        """Return what the vault is worth, or what its accounts hold together where that is more."""
        held = [one for name in self._margin.accounts if isfinite(one := exposures[name].net_quote)]
        return max([one for one in (self._equity_quote(), sum(held)) if isfinite(one)], default=nan)

    # ── drains ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _set_drains(self, now_ns: int) -> None:
        """Begin, hasten and end drains by what their venues' scores ask for."""
        accounts = self._margin.accounts
        actions = {name: str(one) for name, one in self.actions.items() if name in accounts}
        for name in list(self.drains):
            drain, action = self.drains[name], self.actions.get(name, Action.NONE)
            if action not in DRAINING:
                drain.end(now_ns, f"ended: {self._tell(self.risks[name]) if name in self.risks else 'not judged'}")
                self._drop(name)
            elif drain.is_done and now_ns - self._done_ns[name] >= self.rules.drain.retry_ns:
                if self._held(accounts[name]) or any(one.qty_base for one in self._open(accounts[name])):
                    self._drop(name)  # there is something to do again
            elif action is Action.EXIT:
                drain.hasten(now_ns, accounts[name].banned)
        for name in wants_drain(actions, self.drains):
            is_exit = self.actions[name] is Action.EXIT
            self.drains[name] = Drain(name, self.rules.drain, now_ns, accounts[name].banned, is_exit=is_exit)
            self._look_ns = 0

    def _drop(self, name: str) -> None:
        self.ended.append(self.drains.pop(name))
        self._hedging_ns.pop(name, None)
        self._shifts_base.pop(name, None)
        self.to_cancel.pop(name, None)
        self._done_ns.pop(name, None)
        self._deltas.pop(name, None)
        self._closings = {key: one for key, one in self._closings.items() if one.venue != name}

    def _advance(self, venue: str, drain: Drain, account: MarginAccount, now_ns: int) -> list[Command]:
        signs = self.signs.get(venue)
        for one in self._top_ups.outstanding:
            if one.route.from_venue == venue and one.is_replanned and one.transfer_id not in self._given_up:
                self._given_up.add(one.transfer_id)
                why = f"{one.transfer_id} is overdue, nothing waits for it"
                drain.note_transfer(_chain_of(one.route), TransferState.FAILED, now_ns, why)
        view = DrainView(
            delta_quote=self._delta_quote(venue),
            hedged_quote=self._hedged_quote(venue),
            open_orders=self._open_orders(venue),
            held=self._held(account),
            positions=self._open(account),
            lets_out=signs is None or signs.withdrawals not in SHUT,
        )
        self.to_cancel.pop(venue, None)
        commands: list[Command] = []
        for step in drain.advance(view, now_ns):
            if isinstance(step, HedgeElsewhere):
                self._hedging_ns.setdefault(venue, now_ns)
                self._set_shifts(venue)
            elif isinstance(step, CancelOrders):
                self.to_cancel[venue] = f"{venue} is left"
            elif isinstance(step, Close):
                self._closings[step.instrument_id] = _Closing(venue, step.qty_base)
            elif isinstance(step, Withdraw):
                reason = f"out of {venue}: {account.banned}"
                found = self._top_ups.withdraw(self._routes[venue, step.asset, step.route], step.amount, reason, now_ns)
                if isinstance(found, TransferCollateral):
                    commands.append(found)
                else:
                    drain.note_transfer(step.route, TransferState.FAILED, now_ns, f"not sent: {found}")
        if drain.is_done:
            self._done_ns[venue] = now_ns
            self._closings = {key: one for key, one in self._closings.items() if one.venue != venue}
        return commands

    def _set_shifts(self, venue: str) -> None:
        """Measure the delta of what would be lost with a venue, as far as another venue may hedge it."""
        account = self._margin.accounts[venue]
        book = self._margin.book_of(account)
        assert book is not None, "only an account that is known is drained"
        deltas: dict[str, float] = {}
        for place, name in enumerate(book.underlyings):
            desk = self._desks.get(name)
            if desk is None or not self._margin.has_room_elsewhere(desk, account):
                continue
            spot_px = float(book.spot_px[place])
            deltas[name] = (_pnl(book, BUMP, name) - _pnl(book, -BUMP, name)) / (2.0 * BUMP * spot_px)
        share = self.rules.drain.hedge_share
        self._shifts_base[venue] = {name: share * one for name, one in deltas.items() if venue in self._hedging_ns}
        self._deltas[venue] = deltas

    def _delta_quote(self, venue: str) -> float:
        return sum([base * self._index_px(name) for name, base in self._deltas[venue].items()])

    def _hedged_quote(self, venue: str) -> float:
        """Return what of the delta is on elsewhere by the newest decisions: all but what they are still short of."""
        since_ns = self._hedging_ns.get(venue)
        if since_ns is None:
            return 0.0
        total_quote = 0.0
        for name, base in self._shifts_base[venue].items():
            decision = self._desks[name].decision
            if decision is None or decision.now_ns < since_ns or not isfinite(decision.low_base):
                continue
            under_way = decision.pending_base  # not on before it is filled
            below = max(0.0, decision.low_base - decision.delta_high_base + under_way)
            above = max(0.0, decision.delta_low_base - under_way - decision.high_base)
            total_quote += (base - below + above) * self._index_px(name)
        return total_quote

    def _index_px(self, underlying: str) -> float:
        return self._desks[underlying].book.marks_of_underlying.index_px

    def _open_orders(self, venue: str) -> int:
        found = 0
        for order in self._orders.live.values():
            name = order.intent.instrument_id
            here = (desk.holdings[name] for desk in self._desks.values() if name in desk.holdings)
            found += any(one.instrument.venue == venue for one in here)
        return found

    def _held(self, account: MarginAccount) -> tuple[Held, ...]:
        """Return what may leave a venue: smallest first, until what margin there does not need is used up."""
        by_asset: dict[str, list[Route]] = {}
        for route in self._routes.values():
            target = self._margin.accounts.get(route.to_venue)
            is_open = (target is None or not target.is_draining) and route.bridge not in self._top_ups.barred
            if route.from_venue == account.name and is_open:
                by_asset.setdefault(route.asset, []).append(route)
        found: list[Held] = []
        used_quote = 0.0
        values = {one: self._margin.held(account, one) * self._px(account, one) for one in by_asset}
        for asset in sorted(by_asset, key=lambda one: values[one]):
            px, routes = self._px(account, asset), by_asset[asset]
            free = self._top_ups.spare(routes[0])
            if px > 0.0 and used_quote:
                free = max(0.0, free - used_quote / px)
            used_quote += free * px
            least = max(max(one.fee, one.min_amount) for one in routes) * (1.0 + 1e-9)
            if free > 0.0:
                found.append(Held(asset, free, px, tuple(_chain_of(one) for one in routes), least))
        return tuple(found)

    def _px(self, account: MarginAccount, asset: str) -> float:
        return self._margin.asset_px(account, asset) or 0.0

    def _open(self, account: MarginAccount) -> tuple[Open, ...]:
        """Return the hedges at a venue. What nobody else can hold, or frees no margin, is shown and not closed."""
        found: list[Open] = []
        for desk in self._desks.values():
            may_close = self._margin.has_room_elsewhere(desk, account)
            for one in self._margin.reducible(account, desk):
                margin_quote, cost_quote = one.released_quote / one.share, one.slippage_quote / one.share
                if may_close and margin_quote > 0.0:
                    found.append(Open(one.instrument_id, one.qty_base, margin_quote, cost_quote))
                else:
                    found.append(Open(one.instrument_id, 0.0, max(0.0, margin_quote), inf))
        return tuple(found)


def _parties(risk: RiskSettings) -> dict[str, Party]:
    """Return everybody who could fail, by name: what the vault says of them, else what their names tell."""
    rules = risk.counterparty_rules
    found = {one.name: one for one in rules.parties}
    for name, account in risk.accounts.items():
        known = found.get(name, Party(name=name))
        if known.standing_share != known.standing_share:
            known = msgspec.structs.replace(known, standing_share=account.standing_share)
        found[name] = known
    for issuer in rules.issuers.values():
        found.setdefault(issuer, Party(name=issuer, kind=PartyKind.ISSUER))
    for route in risk.transfers.routes:
        if route.bridge:
            found.setdefault(route.bridge, Party(name=route.bridge, kind=PartyKind.BRIDGE))
    return found


def _chain_of(route: Route) -> str:
    return f"{route.name} to {route.to_venue}"


def _pnl(book: RiskBook, move_fraction: float, underlying: str | None = None) -> float:
    moved = move_book(book, move_fraction, underlying=underlying)
    return float(book.qty_base @ (moved.mark_px - book.mark_px))
