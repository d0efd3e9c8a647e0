"""Whatever becomes of option orders, the ledger ends where the venue is, and nothing is traded twice.

The real engine against the simulated venue: seeds choose what the policy asks for, what the market shows, which orders
are refused, lost, filled in part or taken back, which options expire in between, and when the daemon restarts.
"""

from __future__ import annotations

from math import fsum

import numpy as np
import pytest

from bot.domain.events import Event, Restarted, SubmitOrder
from bot.domain.instruments import Option
from bot.domain.orders import Fill, FillReversed, OrderEvent, OrderState, OrderTruth
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.engine.pnl import PARTS
from bot.simulation.venue import Faults, Fees, Latency, OptionFees, SimulatedVenue
from tests.engine.builders import PERPETUAL
from tests.engine.option_vault import BOOK_CALL, OptionDriver, coin_option, money_option

COIN_CALL, COIN_PUT = coin_option(2050.0, days=1.5), coin_option(1950.0, is_call=False, days=3.0)
MONEY = money_option(2000.0, days=2.0)
TRADED = (COIN_CALL, COIN_PUT, MONEY, BOOK_CALL)
STEPS = 45


class Story(OptionDriver):
    """A vault and its venue over several days, as one seed has them."""

    def __init__(self, seed: int) -> None:
        super().__init__({}, more=TRADED[:3], half_base=0.5)
        self.rng = np.random.default_rng(seed)
        fees: dict[str, Fees | OptionFees] = {one.instrument_id: OptionFees(3.0, 0.125) for one in self.options}
        fees[PERPETUAL.instrument_id] = Fees(0.0, 5.0)
        self.venue = SimulatedVenue(
            [PERPETUAL, *self.options],
            fees=fees,
            latency=Latency(entry_ns=200 * NS_PER_MS, response_ns=300 * NS_PER_MS),
            depth={},
            seed=seed,
            faults=Faults(reject_probability=0.1, lose_request_probability=0.1, lose_reply_probability=0.15),
        )
        self.px = 2000.0
        self.sent: list[str] = []
        self.fills: list[Fill] = []
        self.busted: dict[str, Fill] = {}
        self.settled_px: dict[int, float] = {}

    @property
    def options(self) -> list[Option]:
        return [one for one in self.engine.settings.universe if isinstance(one, Option)]

    def apply(self, *events: Event) -> None:
        for event in events:
            if not isinstance(event, OrderEvent | Restarted | FillReversed):
                self.venue.on_market(event)  # type: ignore[arg-type]
            told = (event,) if isinstance(event, Fill) else event.fills if isinstance(event, OrderTruth) else ()
            known = {fill.trade_id for fill in self.fills}
            self.fills += [fill for fill in told if fill.trade_id not in known]
        super().apply(*events)

    def hear(self, seconds: float) -> None:
        """Let time pass and take in what the venue says, who remembers no trade that it took back."""
        self.wait(seconds)
        for said in self.venue.advance(self.now_ns):
            event = said
            if isinstance(said, OrderTruth):
                kept = tuple(fill for fill in said.fills if fill.trade_id not in self.busted)
                state = said.state if kept == said.fills else OrderState.EXPIRED
                event = OrderTruth(said.order_id, state, kept, said.ts_event_ns, said.ts_recv_ns)
            self.apply(event)

    def look(self) -> None:
        """Show the market, decide, and hand over what is decided; what was shown may be gone before it arrives."""
        for expiry_ns in sorted({one.expiry_ns for one in self.options} - self.settled_px.keys()):
            if self.now_ns >= expiry_ns:
                self.settled_px[expiry_ns] = self.px
                self.apply(self.settlement(expiry_ns, self.px))
        self.size_base = float(self.rng.integers(1, 6))
        self.show(self.px, 0.6)
        for command in self.decide():
            self.venue.submit(command, self.now_ns)
            if isinstance(command, SubmitOrder):
                self.sent.append(command.intent.order_id)
                self.send(command.intent)
        self.wait(0.1)
        self.size_base = float(self.rng.integers(1, 3))
        again = [one for one in self.options if one.expiry_ns > self.now_ns and self.rng.random() < 0.5]
        self.apply(*[self.vol(one, 0.6 + 1e-4 * self.rng.random(), self.px) for one in again])
        self.hear(1.0)

    def live(self) -> None:
        """Let one thing after another happen."""
        for _ in range(STEPS):
            luck = self.rng.random()
            one = TRADED[int(self.rng.integers(len(TRADED)))]
            if luck < 0.7:
                self.policy.wanted[one.instrument_id] = float(self.rng.integers(-8, 9))
            elif luck < 0.78 and self.fills:
                back = self.fills[-1 - int(self.rng.integers(min(4, len(self.fills))))]
                self.busted.setdefault(back.trade_id, back)
                gone = (back.trade_id, back.order_id, back.instrument_id)
                self.apply(FillReversed(*gone, "busted", self.now_ns, self.now_ns))
            elif luck < 0.86:
                self.apply(Restarted(self.now_ns))
            elif luck < 0.94:  # to just before an expiry, so that some trades are told of after it only
                coming = [leg.expiry_ns for leg in TRADED[:3] if leg.expiry_ns > self.now_ns + NS_PER_S]
                self.now_ns = min(coming) - NS_PER_S // 2 if coming else self.now_ns
            self.px *= float(np.exp(0.01 * self.rng.standard_normal()))
            self.look()
            self.hear(float(self.rng.choice([2.0, 9.0, 11.0, 3600.0])))

    def calm_down(self) -> None:
        """Ask for nothing any more until every outcome is known."""
        self.policy.wanted, self.policy.half_base = {}, 1e9
        for _ in range(10):
            self.hear(5.0)
            self.look()

    def truth(self) -> tuple[dict[str, int], dict[str, float]]:
        """Return the venue's positions and cash, without the trades that it took back."""
        lots, cash = dict(self.venue.positions), dict(self.venue.cash_settle)
        for fill in self.busted.values():
            one = self.engine.holdings.instruments[fill.instrument_id]
            base = fill.qty_lots * one.lot_size
            cash[one.settle] += base * fill.px + fill.fee_settle
            if isinstance(one, Option) and one.expiry_ns in self.settled_px:
                px = self.settled_px[one.expiry_ns]
                payoff_px = max(0.0, px - one.strike_px if one.is_call else one.strike_px - px)
                cash[one.settle] -= base * (payoff_px / px if one.settle == one.base else payoff_px)
            else:
                lots[one.instrument_id] = lots.get(one.instrument_id, 0) - fill.qty_lots
        return {name: held for name, held in lots.items() if held}, cash

    def ledger(self) -> tuple[dict[str, int], dict[str, float]]:
        """Return the same as we have it."""
        book = self.desk.book
        cash = {"USD": fsum(one.cash_settle for one in book.hedges.values()), "ETH": 0.0}
        for one in book.option_hedges.values():
            cash[one.instrument.settle] += one.cash_settle
        held = (*book.hedges.values(), *book.option_hedges.values())
        return {one.instrument.instrument_id: one.lots for one in held if one.lots}, cash

    def assert_adds_up(self) -> None:
        """P&L by part is the change in equity."""
        self.engine.close_steps(self.now_ns)
        parts = self.engine.pnl()
        assert parts.total == pytest.approx(self.engine.pnl_total_quote(), abs=1e-6)
        assert fsum(getattr(parts, name) for name in PARTS) == pytest.approx(parts.total, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 16, 20, 28])  # in the last three a trade is told of after settlement
def test_the_ledger_ends_where_the_venue_is(seed: int) -> None:
    story = Story(seed)
    story.live()
    story.assert_adds_up()
    story.calm_down()
    assert not story.engine.orders.live
    lots, cash = story.ledger()
    true_lots, true_cash = story.truth()
    assert lots == true_lots
    assert {name: cash[name] for name in true_cash} == pytest.approx(true_cash, abs=1e-6)
    assert len(story.sent) == len(set(story.sent))
    assert story.settled_px
    assert len({one.instrument_id for one in story.fills}) >= 2
    story.assert_adds_up()
