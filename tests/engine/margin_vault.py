"""A vault whose margin is reckoned by the house model: three venues, one coin, and collateral as a test says."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from bot.domain.decisions import Decision
from bot.domain.events import Command, SubmitOrder
from bot.domain.instruments import Hedgeable
from bot.domain.orders import OrderIntent
from bot.domain.risk import MarginTerms, ReportedMargin
from bot.domain.venues import AccountReport
from bot.engine.margin.keeper import MarginKeeper
from bot.engine.margin.risk_settings import AccountRiskSettings, ClassSettings, RiskSettings
from bot.engine.settings import BookLeg, HedgeSettings
from bot.risk.asset_classes import MODEL, decode_classes
from bot.risk.parameters import ParameterSet
from bot.runtime.configuration.margin_parameters import carried_sets
from strategies import DeltaBand
from tests.engine.builders import CALL, Driver, linear_perpetual, make_settings

VALUES: dict[str, Any] = {
    "price_range": 0.16,
    "buckets": 4,
    "vol_up": 0.4,
    "vol_down": 0.25,
    "min_vol_up": 0.5,
    "short_pow": 0.3,
    "long_pow": 0.13,
    "dte_floor": 1.0,
    "extended": (5.0,),
    "extended_factor": 3.0,
    "dampener_usd": 0.0,
    "roll_min": 0.005,
    "roll_annual": 0.05,
    "mm_factor": 0.8,
}
PARAMETERS = ParameterSet(model="house", name="test", as_of=date(2023, 1, 1), source="test", values=VALUES)
CLASSES = ClassSettings(classes=decode_classes(carried_sets(MODEL)[-1].values))
INITIAL_SHARE = 0.48 + 0.005  # of a short perpetual's worth: a tail of three times the 16 % up, and the roll
LONG_SHARE = 0.16 + 0.005  # … and of a long one's: 16 % down


def perpetual(name: str, **changes: Any) -> Hedgeable:
    return msgspec.structs.replace(linear_perpetual(), instrument_id=f"ETH-{name}", venue=name.lower(), **changes)


A, B, C = perpetual("A"), perpetual("B"), perpetual("C")


def account(usd: float, **changes: Any) -> AccountRiskSettings:
    return AccountRiskSettings(**{"model": "house", "parameters": PARAMETERS, "collateral": {"USD": usd}, **changes})


class MarginVault(Driver):
    """Coins to be hedged by selling perpetuals at venues whose collateral is known."""

    def __init__(
        self,
        usd: dict[str, float],
        *,
        coins: float = 10.0,
        instruments: tuple[Hedgeable, ...] = (A, B, C),
        risk: dict[str, Any] | None = None,
        accounts: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        hedges = tuple(
            HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=bps, risk_aversion_per_quote=1e-3)
            for one, bps in zip(instruments, (4.0, 5.0, 6.0), strict=False)
        )
        known = {name: account(amount, **(accounts or {})) for name, amount in usd.items()}
        given = {
            "hedges": {"ETH": hedges},
            "cash": {"ETH": coins},
            "policy": DeltaBand(half_width_base=1.0),
            "risk": RiskSettings(accounts=known, **(risk or {})),
            **changes,
        }
        super().__init__(make_settings((BookLeg(CALL, -1e-12),), **given))

    @property
    def margin(self) -> MarginKeeper:
        assert self.engine.margin is not None
        return self.engine.margin

    @property
    def decision(self) -> Decision:
        decision = self.engine.desks["ETH"].decision
        assert decision is not None
        return decision

    def intents(self, **how: Any) -> list[OrderIntent]:
        return [one.intent for one in self.tick(**how) if isinstance(one, SubmitOrder)]

    def orders(self, **how: Any) -> dict[str, int]:
        """Let a second pass, show the market; return the lots ordered by instrument."""
        return {intent.instrument_id[4:]: intent.qty_lots for intent in self.intents(**how)}

    def hedge_all(self, rounds: int = 3, **how: Any) -> dict[str, int]:
        """Fill whatever is ordered until nothing is; return the lots held by instrument."""
        for _ in range(rounds):
            for intent in self.intents(**how):
                self.accept(intent)
                self.fill(intent)
        return {name[4:]: one.lots for name, one in self.engine.desks["ETH"].holdings.items() if one.lots}

    def terms(self, venue: str, **changes: Any) -> None:
        """Have a venue change its parameters."""
        changed = msgspec.structs.replace(PARAMETERS, name="changed", values={**VALUES, **changes})
        self.apply(MarginTerms(venue, msgspec.json.encode(changed).decode(), self.now_ns, self.now_ns))

    def report(self, venue: str, *margins: ReportedMargin, balances: dict[str, float] | None = None) -> None:
        """Have an account tell its margin, asked for now."""
        self.apply(AccountReport(venue, (), (), balances or {}, self.now_ns, self.now_ns, margins))

    def commands_of(self, kind: type[Any], **how: Any) -> list[Command]:
        return [one for one in self.tick(**how) if isinstance(one, kind)]
