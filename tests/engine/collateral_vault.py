"""A vault that plans its collateral: short of it at A, with coins and dollars elsewhere, and somebody who solves."""

from __future__ import annotations

from typing import Any

from bot.domain.events import Command, PlanCollateral, SubmitOrder
from bot.domain.risk import CollateralPlanned, TransferCollateral, TransferState, TransferUpdate
from bot.domain.units import NS_PER_MIN
from bot.engine.margin.collateral_desk import CollateralDesk, CollateralNow
from bot.engine.margin.risk_settings import CollateralRules
from bot.risk.collateral.answering import answer
from bot.risk.collateral.problem import CollateralProblem, decode_problem
from bot.risk.margin_states import StateRule
from bot.risk.transfers import Route, TransferRules
from tests.engine.margin_vault import A, B, MarginVault

FEE = 2.0
DELAY_NS = 10 * NS_PER_MIN


def route(asset: str, origin: str, to: str = "a", name: str = "ARB", **changes: Any) -> Route:
    given = {"address_label": to, "p95_ns": DELAY_NS, "fee": FEE, "max_amount": 1e6, **changes}
    return Route(name=name, asset=asset, from_venue=origin, to_venue=to, **given)


ROUTES = (route("USD", "b"), route("USDC", "wallet"), route("USDT", "wallet"))


class CollateralVault(MarginVault):
    """Hedged at A and B; `wallet` holds USDC and USDT, of which USDC earns much more where it is."""

    def __init__(
        self,
        usd: dict[str, float],
        *,
        routes: tuple[Route, ...] = ROUTES,
        risk: dict[str, Any] | None = None,
        caps: dict[str, float] | None = None,
        **rules: Any,
    ) -> None:
        given = {
            "yields": {"USD": 0.05, "USDC": 0.05, "USDT": 0.001},
            "wallets": {"wallet": {"USDC": 50_000.0, "USDT": 50_000.0}},
            **rules,
        }
        transfers = TransferRules(routes=routes, day_caps=caps or {"USD": 1e6, "USDC": 1e6, "USDT": 1e6})
        known = {"transfers": transfers, "states": StateRule(step_up_ns=0), "collateral": CollateralRules(**given)}
        super().__init__(usd, instruments=(A, B), risk={**known, **(risk or {})})
        self.asked: list[PlanCollateral] = []
        self.sent: list[TransferCollateral] = []

    @property
    def desk(self) -> CollateralDesk:
        assert self.engine.collateral is not None
        return self.engine.collateral

    @property
    def now(self) -> CollateralNow:
        return self.desk.now()

    @property
    def problem(self) -> CollateralProblem:
        """The newest problem that was posed."""
        return decode_problem(self.asked[-1].problem)

    def run(self, seconds: float = 1.0, **how: Any) -> list[Command]:
        """Let time pass; orders are filled, questions and transfers are kept."""
        commands = self.tick(after_s=seconds, **how)
        for one in commands:
            if isinstance(one, SubmitOrder):
                self.accept(one.intent)
                self.fill(one.intent)
            elif isinstance(one, PlanCollateral):
                self.asked.append(one)
            elif isinstance(one, TransferCollateral):
                self.sent.append(one)
        return commands

    def reply(self, fault: str = "", **changes: Any) -> CollateralPlanned:
        """Answer the newest question as the solver does, or as a test says."""
        found = answer(self.asked[-1].problem, 10.0)
        plan_id, words = self.asked[-1].plan_id, fault or found.fault
        given = {"plan_id": plan_id, "text": found.text, "method": found.method, "fault": words, **changes}
        event = CollateralPlanned(ts_event_ns=self.now_ns, ts_recv_ns=self.now_ns, **given)
        self.apply(event)
        return event

    def tell(self, command: TransferCollateral, state: TransferState) -> None:
        amount = 0.0 if state is TransferState.FAILED else command.amount - FEE
        self.apply(
            TransferUpdate(
                command.transfer_id, state, command.asset, amount, FEE, command.from_venue, command.to_venue,
                command.route, "", self.now_ns, self.now_ns,
            )
        )  # fmt: skip

    def drain_equity(self, name: str, ratio: float) -> None:
        """Take collateral away from an account until its utilisation is `ratio`."""
        found = self.margin.accounts[name]
        found.moved["USD"] = found.moved.get("USD", 0.0) + found.figures.maintenance / ratio - found.equity_quote
        self.margin.note_change()
