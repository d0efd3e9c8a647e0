"""The engine through seeded stress, and every breach of margin explained by who did not have to look at the engine.

A breach is an order that took initial margin over its limit when it was placed, a withdrawal that did, and a
liquidation. One that the rules could have prevented is wrong; all others have a cause.
"""

from __future__ import annotations

from collections import Counter
from math import sqrt

import msgspec

from bot.domain.decisions import BotState
from bot.domain.events import Command, Event, OperatorAction, OperatorCommand, SubmitOrder
from bot.domain.orders import Fill, OrderCanceled, OrderRejected, OrderSent, OrderTruth
from bot.domain.risk import TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_MIN, NS_PER_S, NS_PER_YEAR
from bot.engine.engine import Engine
from bot.engine.settings import EngineSettings
from tests.acceptance.stress_venues import Liquidated, State, StressedVenues
from tests.acceptance.stress_world import LOOKS_NS, P95_NS, STEP_NS, WALLET, Scenario, draw_scenario, settings_of

ACT_SIGMAS, CRITICAL_SIGMAS = 2.58, 1.96  # … or with a chance of 1 % and 5 % to be liquidated before that is there
ACT, CRITICAL = 0.80, 0.90  # of the way to liquidation: from here on the rules ask for collateral, for reducing
LENDING = 0.40  # an account below it is NORMAL whoever reckons, and lends what it does not need
LIMIT = 0.90  # of equity, for initial margin
SLACK = 1.001
TELLING_NS = NS_PER_S // 10  # how long what a venue did by itself may be unknown to us
COMPARED_EVERY = 7  # looks
WORTH_SENDING = 500.0
FINDING_OUT_NS = 15 * NS_PER_MIN  # nobody tells how much a wallet holds: half as much is asked for, minutes later
NOWHERE = "no collateral anywhere"
PREVENTABLE = frozenset({"nothing was reduced", "nothing was sent", "more asked for than there was"})
OPERATOR_NS = 15 * NS_PER_MIN


class Breach(msgspec.Struct, frozen=True):
    """One breach, "order", "withdrawal" or "liquidation": why, and whether the rules could have prevented it."""

    seed: int
    kind: str
    venue: str
    minute: float
    cause: str
    detail: str
    is_preventable: bool = False


class Story(msgspec.Struct, kw_only=True):
    """What became of one run."""

    seed: int
    breaches: list[Breach]
    orders: int = 0
    cuts: int = 0
    transfers: int = 0
    reliefs: int = 0
    states: dict[str, int] = {}
    worst_overstated: float = 0.0  # how much more equity the engine believed in than there was, as a share of it


class _Sent(msgspec.Struct):
    venue: str
    lots: int  # still to be filled
    at_ns: int
    before_lots: int


class StressRun:
    """One run: the engine, its venues, and the checker beside them."""

    def __init__(self, scenario: Scenario, settings: EngineSettings | None = None) -> None:
        """Start a run, of a vault whose settings are the scenario's own unless told."""
        self.scenario = scenario
        self.engine = Engine(settings or settings_of(scenario))
        self.venues = StressedVenues(scenario)
        self.story = Story(seed=scenario.seed, breaches=[])
        self._live: dict[str, _Sent] = {}
        self._orders: list[_Sent] = []
        self._transfers: dict[str, tuple[TransferCollateral, int]] = {}
        self._told: dict[str, TransferUpdate] = {}
        self._states: dict[str, list[State]] = {name: [] for name in self.venues.venues}
        self._resumed_ns = scenario.start_ns
        self._home = {one.instrument_id: name for name, one in scenario.perpetuals.items()}
        self._seen = self._looks = 0

    def run(self) -> Story:
        """Run to the end, or to where a venue took the book over."""
        for now_ns, is_new, events in self.venues.batches():
            if is_new and self._judge_liquidations():
                break
            self._step(now_ns, events)
            self._answer(now_ns + (LOOKS_NS[1] if is_new else STEP_NS - LOOKS_NS[1]) - 1)
            self._compare()
        story = self.story
        margin = self.engine.margin
        assert margin is not None, "margin is reckoned"
        story.cuts = sum(margin.cuts.values())
        story.orders, story.transfers = len(self._orders), len(self._transfers)
        for times in margin.state_ns.values():
            for state, ns in times.items():
                story.states[str(state)] = story.states.get(str(state), 0) + ns // NS_PER_S
        return story

    def _answer(self, until_ns: int) -> None:
        while (at_ns := self.venues.next_event_ns()) is not None and at_ns <= until_ns:
            self._step(at_ns, self.venues.advance(at_ns))

    def _step(self, now_ns: int, events: list[Event]) -> None:
        for event in events:
            self._note(event)
            self.engine.apply(event)
        if self.engine.state is BotState.RUNNING:
            self._resumed_ns = now_ns
        elif now_ns - self._resumed_ns >= OPERATOR_NS:
            self._resumed_ns = now_ns
            self.engine.apply(OperatorCommand(OperatorAction.RESUME, "operator", "looked at it", now_ns))
        for command in self.engine.decide(now_ns):
            self._check(command, now_ns)
            self.venues.submit(command, now_ns)
            if isinstance(command, SubmitOrder):
                self.engine.apply(OrderSent(command.intent.order_id, now_ns))

    def _note(self, event: Event) -> None:
        """Follow what is still under way."""
        if isinstance(event, Fill) and event.order_id in self._live:
            self._live[event.order_id].lots -= event.qty_lots
            if not self._live[event.order_id].lots:
                del self._live[event.order_id]
        elif isinstance(event, OrderCanceled | OrderRejected) or (
            isinstance(event, OrderTruth) and event.state.is_terminal
        ):
            self._live.pop(event.order_id, None)
        elif isinstance(event, TransferUpdate):
            self._told[event.transfer_id] = event

    # ── orders and withdrawals ───────────────────────────────────────────────────────────────────────────────────────

    def _check(self, command: Command, now_ns: int) -> None:
        if isinstance(command, SubmitOrder):
            self._check_order(command, now_ns)
        elif isinstance(command, TransferCollateral):
            self._check_transfer(command, now_ns)

    def _check_order(self, command: SubmitOrder, now_ns: int) -> None:
        intent = command.intent
        venue = self._home[intent.instrument_id]
        state = self.venues.state(venue)
        side = 1 if intent.qty_lots > 0 else -1
        working = sum(one.lots for one in self._live.values() if one.venue == venue and one.lots * side > 0)
        before, after = (self.venues.after_trade(venue, state, working + more) for more in (0, intent.qty_lots))
        sent = _Sent(venue, intent.qty_lots, now_ns, state.lots)
        self._live[intent.order_id] = sent
        self._orders.append(msgspec.structs.replace(sent))
        limit = LIMIT * after.equity
        if after.initial <= max(limit, before.initial) * SLACK + 1e-6:
            return
        told = f"initial margin {before.initial:.0f} → {after.initial:.0f} of {after.equity:.0f}: {intent.reason[:160]}"
        taken = [one for one in self.venues.liquidations if one.venue == venue and now_ns - one.at_ns <= TELLING_NS]
        taken_over = [
            one
            for one in self.scenario.troubles
            if one.kind == "taken" and one.venue == venue and 0 <= now_ns - one.at_ns <= TELLING_NS
        ]
        if taken or taken_over:
            self._breach("order", venue, now_ns, "the venue had traded and not told yet", told)
        else:
            self._breach("order", venue, now_ns, "no cause found", told, is_preventable=True)

    def _check_transfer(self, command: TransferCollateral, now_ns: int) -> None:
        if command.transfer_id in self._transfers:
            self._breach(
                "withdrawal", command.from_venue, now_ns, "sent twice", command.transfer_id, is_preventable=True
            )
        self._transfers[command.transfer_id] = (command, now_ns)
        ways = {(one.name, one.asset, one.from_venue, one.to_venue) for one in self.scenario.routes}
        if (command.route, command.asset, command.from_venue, command.to_venue) not in ways:
            self._breach(
                "withdrawal",
                command.from_venue,
                now_ns,
                "not over a route of the vault",
                command.route,
                is_preventable=True,
            )
        if command.from_venue == WALLET:
            return
        state = self.venues.state(command.from_venue)
        left = dict(state.collateral)
        left[command.asset] = left.get(command.asset, 0.0) - command.amount
        after = self.venues.truth(command.from_venue, state._replace(collateral=left))
        if after.initial > LIMIT * after.equity * SLACK:
            told = (
                f"{command.amount:.0f} {command.asset}: initial margin {after.initial:.0f} of {after.equity:.0f} left"
            )
            self._breach("withdrawal", command.from_venue, now_ns, "margin there needed it", told, is_preventable=True)

    # ── liquidations ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _judge_liquidations(self) -> bool:
        """Explain what venues took since the last look; tell whether one took all there was."""
        found = self.venues.liquidations[self._seen :]
        self._seen = len(self.venues.liquidations)
        for one in found:
            self._breach("liquidation", one.venue, one.at_ns, *self._explain(one))
        for venue, state in self.venues.before.items():
            self._states[venue].append(state)
        return any(one.is_over for one in found)

    def _explain(self, one: Liquidated) -> tuple[str, str, bool]:
        """Return the cause of a liquidation, the figures, and whether the rules could have prevented it."""
        venue = one.venue
        was = self.venues.before[venue]
        now = self.venues.state(venue)
        before = self.venues.truth(venue, was)
        move = now.px / was.px - 1.0
        told = f"{before.used:.0%} → {one.used:.0%} at {move:+.1%}"
        if before.used >= 1.0:
            return self._between(venue, told)
        sudden = self._sudden(venue, was, now)
        if not self._is_near(venue, was, ACT, ACT_SIGMAS):
            return f"{sudden}, from where nothing was asked for", told, False
        acting = [was]
        for state in reversed(self._states[venue]):
            if not self._is_near(venue, state, ACT, ACT_SIGMAS):
                break
            acting.insert(0, state)
        began_ns = acting[0].now_ns
        told += f", at ACT for {(now.now_ns - began_ns) / NS_PER_MIN:.0f} min"
        critical = [state for state in acting if self._is_near(venue, state, CRITICAL, CRITICAL_SIGMAS)]
        if critical:
            reduced = self._explain_reducing(venue, critical)
            if reduced == "":
                return f"{sudden} while reducing", told, False
            if reduced in PREVENTABLE:
                return reduced, told, True
            told += f", {reduced}"
        topped = self._explain_topping_up(venue, began_ns, now.now_ns)
        return topped, told, topped in PREVENTABLE

    def _between(self, venue: str, told: str) -> tuple[str, str, bool]:
        """Say what took an account over its limit while prices stood still."""
        was, now = self.venues.looked[venue], self.venues.before[venue]
        used = self.venues.truth(venue, was).used
        told = f"{used:.0%} before that, {told}"
        if self.venues.truth(venue, was._replace(lots=now.lots, cash=now.cash)).used >= 1.0:
            minute = (was.now_ns - self.scenario.start_ns) / NS_PER_MIN
            known = [one for one in self.story.breaches if one.kind == "order" and one.venue == venue]
            if any(one.minute >= minute and not one.is_preventable for one in known):
                return "traded before the venue told what it had done", told, False
            return "traded into it", told, True
        came_back = [
            one
            for one in self._told.values()
            if one.state is TransferState.REVERSED or one.reason == "again"
            if one.to_venue == venue and one.ts_event_ns >= was.now_ns
        ]
        if sum(now.collateral.values()) < sum(was.collateral.values()):
            return ("collateral taken back by its chain", told, False) if came_back else ("withdrawn from", told, True)
        return "nothing found", told, True

    def _is_near(self, venue: str, state: State, used: float, sigmas: float) -> bool:
        """Tell whether the rules ask for something: by utilisation, or by the chance until a transfer arrives."""
        if self.venues.truth(venue, state).used >= used:
            return True
        move = sigmas * state.vol * sqrt(P95_NS / NS_PER_YEAR)
        ends = (self.venues.truth(venue, state._replace(px=state.px * (1.0 + side * move))) for side in (-1.0, 1.0))
        return any(one.used >= 1.0 for one in ends)

    def _sudden(self, venue: str, was: State, now: State) -> str:
        """Say what of the last step alone was enough, or that it took several things at once."""
        if self.venues.truth(venue, was._replace(multiple=now.multiple)).used >= 1.0:
            return "margin raised at once"
        if self.venues.truth(venue, was._replace(marks=now.marks)).used >= 1.0:
            return "collateral marked down at once"
        if self.venues.truth(venue, was._replace(lots=now.lots, cash=now.cash)).used >= 1.0:
            return "a hedge taken away"
        if self.venues.truth(venue, was._replace(px=now.px, vol=now.vol)).used >= 1.0:
            return "a gap of price"
        return "several at once"

    def _explain_reducing(self, venue: str, critical: list[State]) -> str:
        """Return why nothing was reduced while the rules asked for it, "" if something was."""
        began_ns = critical[0].now_ns
        if any(
            one.venue == venue and one.at_ns >= began_ns - STEP_NS and one.lots * one.before_lots < 0
            for one in self._orders
        ):
            return ""
        if venue in self.venues.down:
            return "venue down"
        if len(critical) < 2:  # reached within the last step: nobody had time to look twice
            return "no time to reduce"
        state = critical[-1]
        smaller = state._replace(lots=int(state.lots * 0.9))
        here, after = self.venues.truth(venue, state), self.venues.truth(venue, smaller)
        if not state.lots or after.maintenance >= here.maintenance * (1.0 - 1e-6):
            return "no hedge there whose closing releases margin"
        return "nothing was reduced"

    def _explain_topping_up(self, venue: str, began_ns: int, now_ns: int) -> str:
        """Return what became of the collateral that the rules asked for."""
        sent = [
            (command, at_ns)
            for command, at_ns in self._transfers.values()
            if command.to_venue == venue and at_ns >= began_ns - 2 * STEP_NS
        ]
        states = [self._told[command.transfer_id].state for command, _ in sent if command.transfer_id in self._told]
        if states:
            for state, name in (
                (TransferState.SENT, "collateral still on its way"),
                (TransferState.UNKNOWN, "collateral on its way, its answer lost"),
                (TransferState.REVERSED, "collateral taken back by its chain"),
                (TransferState.ARRIVED, "collateral arrived, not enough was there"),
            ):
                if state in states:
                    return name
        if states:
            why = [self._told[command.transfer_id].reason for command, _ in sent if command.transfer_id in self._told]
            if any("suspended" in one for one in why):
                return "withdrawals suspended"
            if any("refused" in one for one in why):
                return "transfers refused"
            if self._spare_quote(venue, began_ns) <= WORTH_SENDING:
                return NOWHERE
            is_short = now_ns - began_ns < FINDING_OUT_NS
            return "no time to find out how much there was" if is_short else "more asked for than there was"
        earlier = [c for c, at in self._transfers.values() if c.to_venue == venue and at >= began_ns - 12 * STEP_NS]
        if earlier:
            return "collateral on its way since before"
        if now_ns - began_ns <= STEP_NS:
            return "no time to top up"
        return "nothing was sent" if self._spare_quote(venue, began_ns) > WORTH_SENDING else NOWHERE

    def _spare_quote(self, venue: str, began_ns: int) -> float:
        """Return what there was to send when the rules began to ask for it, after what its place needs."""
        assert self.venues.transfers.balances is not None, "balances are kept"
        spare = 0.0
        for route in self.scenario.routes:
            if route.to_venue != venue:
                continue
            px = self.venues.px if route.asset == "ETH" else 1.0
            if route.from_venue == WALLET:
                spare += self.venues.transfers.balances[WALLET, route.asset] * px
                continue
            states = [one for one in self._states[route.from_venue] if one.now_ns >= began_ns]
            for state in states:
                found = self.venues.truth(route.from_venue, state)
                if found.used < LENDING:
                    left = found.equity - 2.5 * found.maintenance
                    spare += max(0.0, min(state.collateral.get(route.asset, 0.0), left)) * px
                    break
        return spare

    # ── beliefs ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _compare(self) -> None:
        """Set the equity the engine reckons with beside what is there; more than there is would be dangerous."""
        margin = self.engine.margin
        assert margin is not None, "margin is reckoned"
        self._looks += 1
        if self._live or self._looks % COMPARED_EVERY:
            return
        for name, account in margin.accounts.items():
            if account.unknown or margin.is_due(name):
                continue
            found = self.venues.truth(name)
            if found.equity > 0.0:
                self.story.worst_overstated = max(
                    self.story.worst_overstated, account.equity_quote / found.equity - 1.0
                )

    def _breach(
        self, kind: str, venue: str, now_ns: int, cause: str, detail: str, is_preventable: bool = False
    ) -> None:
        minute = (now_ns - self.scenario.start_ns) / NS_PER_MIN
        self.story.breaches.append(Breach(self.scenario.seed, kind, venue, minute, cause, detail, is_preventable))


def run_seed(seed: int) -> Story:
    """Return what became of the run of a seed."""
    return StressRun(draw_scenario(seed)).run()


def tell(stories: list[Story]) -> str:
    """Return what became of many runs as Markdown."""
    breaches = [one for story in stories for one in story.breaches]
    counts = Counter((one.kind, one.cause, one.is_preventable) for one in breaches)
    hours = sum(sum(story.states.values()) for story in stories) / 3600.0
    clean = sum(not story.breaches for story in stories)
    told = (
        f"{len(stories)} runs, {hours:,.0f} account hours; {sum(one.orders for one in stories):,} orders, "
        f"{sum(one.cuts for one in stories):,} cut or sent elsewhere by margin, "
        f"{sum(one.transfers for one in stories):,} transfers; {clean} runs without a breach, "
        f"{sum(one.is_preventable for one in breaches)} breaches that the rules could have prevented."
    )
    lines = [
        told,
        "",
        "| Breach | Cause | Count | Preventable |",
        "|---|---|---|---|",
    ]
    for (kind, cause, is_preventable), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"| {kind} | {cause} | {count} | {'yes' if is_preventable else 'no'} |")
    return "\n".join(lines)
