"""What crashes would leave of a vault: named scenarios, a map of moves against vols, and the hedge plan after each."""

from __future__ import annotations

from math import inf
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from bot.domain.units import NS_PER_MIN, NS_PER_YEAR, utc_text
from bot.risk.book import RiskBook
from bot.risk.heatmap import heatmap
from bot.risk.margin.house import HouseParameters
from bot.risk.margin.registry import decode_values
from bot.risk.replanning import Asking, HedgeInstrument, PlannedHedge, plan
from bot.risk.requirement import Requirement
from bot.risk.scenarios import VolShock
from bot.risk.stress import StressResult, play
from bot.runtime.configuration.margin_parameters import HOUSE
from bot.runtime.risk.accounts import Accounts, Reckoned
from bot.runtime.risk.view import calm_moneys, newest_set

MOVES: Final = (-0.5, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5)
VOLS: Final = (-0.3, 0.0, 0.5, 1.0)
LOOK_YEARS: Final = NS_PER_MIN / NS_PER_YEAR  # between two looks of the policy, as far as a plan needs it

Grid = list[list[float]]


class HeatView(msgspec.Struct, frozen=True, kw_only=True):
    """P&L in quote money and the use of the account nearest to liquidation, by vol change and move; 1 is liquidated.

    Everything moves by the same share, dollars apart; vols by so much at `reference_days`, more before and less after.
    """

    hours: float
    moves: tuple[float, ...]
    vols: tuple[float, ...]
    reference_days: float
    pnl_quote: Grid
    use_ratio: Grid


class ScenarioView(msgspec.Struct, frozen=True, kw_only=True):
    """One named scenario: what it leaves, and what the policy would trade after it."""

    result: StressResult
    plan: tuple[PlannedHedge, ...]
    plan_refused: str


class StressView(msgspec.Struct, frozen=True, kw_only=True):
    """All of one call."""

    vault: str
    as_of: str
    source: str
    notes: tuple[str, ...]
    policy: str
    equity_quote: float
    scenarios_of: str
    heat: HeatView
    scenarios: tuple[ScenarioView, ...]


def build_stress(accounts: Accounts, hours: float = 0.0) -> StressView:
    """Return what every named scenario leaves, and the map `hours` from now."""
    snapshot = accounts.snapshot
    found = newest_set("stress")
    terms = {name: one.terms() for name, one in accounts.of.items()}
    results = play(accounts.whole, calm_moneys(accounts), terms)
    return StressView(
        vault=snapshot.vault,
        as_of=utc_text(snapshot.now_ns),
        source=snapshot.source,
        notes=snapshot.notes,
        policy=accounts.vault.policy.spec,
        equity_quote=accounts.equity_quote,
        scenarios_of=f"{found.name} of {found.as_of}",
        heat=heat_of(accounts, hours),
        scenarios=tuple(_scenario(accounts, result) for result in results),
    )


def heat_of(accounts: Accounts, hours: float = 0.0) -> HeatView:
    """Return P&L and use over moves and vols, `hours` from now."""
    house = decode_values(HOUSE, newest_set(HOUSE).values)
    assert isinstance(house, HouseParameters), "the house model has its own parameters"
    shock = house.scenarios().shock
    pnl = np.zeros((len(VOLS), len(MOVES)))
    use = np.zeros((len(VOLS), len(MOVES)))
    for one in accounts.of.values():
        if one.now.unknown or not len(one.moving):
            continue
        won, used = _heat_of_account(one, hours, shock)
        pnl += won
        use = np.maximum(use, used)
    return HeatView(
        hours=hours,
        moves=MOVES,
        vols=VOLS,
        reference_days=shock.reference_days,
        pnl_quote=pnl.tolist(),
        use_ratio=use.tolist(),
    )


def _heat_of_account(one: Reckoned, hours: float, shock: VolShock) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return P&L and use of one account; what is posted in dollars stays what it is."""

    def ask(moved: RiskBook) -> Requirement:
        maintenance = one.maintenance(moved)
        return Requirement(one.now.model, "quote", maintenance, maintenance)

    found = heatmap(one.moving, MOVES, VOLS, (hours,), shock, ask)
    equity = (one.now.equity_quote + found.pnl[0]) * one.now.liquidation_ratio
    margin = found.maintenance[0]
    with np.errstate(all="ignore"):
        used = np.where(margin <= 0.0, 0.0, np.where(equity > 0.0, margin / equity, inf))
    return found.pnl[0], used


def _scenario(accounts: Accounts, result: StressResult) -> ScenarioView:
    try:
        hedges = plan(
            accounts.whole,
            result.scenario,
            instruments_of(accounts),
            accounts.vault.policy.target,
            {name: one.terms() for name, one in accounts.of.items()},
            Asking(
                now_ns=accounts.snapshot.now_ns,
                monitor_years=LOOK_YEARS,
                target_delta_base=accounts.snapshot.targets_base,
            ),
        )
    except (ValueError, ArithmeticError) as error:
        return ScenarioView(result=result, plan=(), plan_refused=f"the policy has no answer: {error}")
    return ScenarioView(result=result, plan=hedges, plan_refused="")


def instruments_of(accounts: Accounts) -> list[HedgeInstrument]:
    """Return what the vault may hedge with, in its order."""
    return [
        HedgeInstrument(
            instrument_id=one.position.instrument_id,
            underlying=one.position.underlying,
            account=one.position.account,
            lot_base=one.lot_base,
            cost_rate=one.cost_px / (one.position.mark_px or inf),
            money=one.position.money,
        )
        for one in accounts.snapshot.tradables
        if one.is_hedge and one.lot_base > 0.0
    ]
