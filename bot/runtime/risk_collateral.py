"""Where a vault's collateral should be: its accounts, routes and needs as one problem, and the cheapest plan for it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Final

import msgspec

from bot.domain.errors import ConfigError
from bot.domain.units import utc_text
from bot.gateways.transfer_export import Instruction, instruction_of
from bot.risk.book import RiskBook
from bot.risk.collateral.plan import CollateralPlan, instructions
from bot.risk.collateral.problem import (
    Acceptance,
    Asset,
    CollateralProblem,
    Holding,
    Need,
    Pending,
    Route,
    Tier,
    Venue,
    Wallet,
)
from bot.risk.collateral.solving import solve
from bot.risk.counterparties import CounterpartyParameters, PartyRisk, along
from bot.risk.distances import move_book
from bot.runtime.risk_accounts import MONEYS, Accounts, Reckoned
from bot.runtime.risk_sections import RouteLine, TransfersSection
from bot.runtime.risk_view import counterparties_of, newest_set
from bot.runtime.vault import Vault

STRESS_BUFFER: Final = 1.25  # of maintenance margin that is to be left after a shock
HOLD_YEARS: Final = 1.0 / 12.0
SCENARIOS: Final = (  # a name, and how many shocks of its class an underlying moves by, and its vol
    ("as it is", 0.0, 0.0),
    ("down", -1.0, 0.0),
    ("down, vol up", -1.0, 1.0),
    ("up", 1.0, 0.0),
    ("up, vol up", 1.0, 1.0),
)


class CollateralView(msgspec.Struct, frozen=True, kw_only=True):
    """All of one call. `needs_quote` is what each account is to have as it is, `equity_quote` what it has."""

    vault: str
    as_of: str
    source: str
    notes: tuple[str, ...]
    scenarios: dict[str, str]
    equity_quote: dict[str, float]
    needs_quote: dict[str, float]
    plan: CollateralPlan
    instructions: tuple[Instruction, ...]


def build_collateral(accounts: Accounts, time_limit_s: float = 1.0) -> CollateralView:
    """Return the plan for a snapshot's accounts over the vault's routes. Raises ConfigError where there can be none."""
    snapshot, vault = accounts.snapshot, accounts.vault
    problem, notes = build_problem(accounts)
    try:
        plan = solve(problem, time_limit_s=time_limit_s)
    except ValueError as error:
        raise ConfigError([f"vault {vault.vault}: {error}"]) from None
    return CollateralView(
        vault=snapshot.vault,
        as_of=utc_text(snapshot.now_ns),
        source=snapshot.source,
        notes=(*snapshot.notes, *notes),
        scenarios=scenario_words(accounts),
        equity_quote={name: one.now.equity_quote for name, one in accounts.of.items()},
        needs_quote=_targets(problem),
        plan=plan,
        instructions=tuple(_instructions(vault, plan, snapshot.now_ns)),
    )


def build_problem(accounts: Accounts) -> tuple[CollateralProblem, list[str]]:
    """Return the problem, and in words what had to be assumed for it."""
    snapshot = accounts.snapshot
    transfers = accounts.vault.risk.transfers if accounts.vault.risk is not None else TransfersSection()
    known = {name: one for name, one in accounts.of.items() if not one.now.unknown and isfinite(one.now.equity_quote)}
    notes = [
        f"{name} is left out: {one.now.unknown or 'its equity is not known'}"
        for name, one in accounts.of.items()
        if name not in known
    ]
    lines = [line for line in transfers.routes if line.to_venue in known]
    if not lines:
        notes.append("no route leads to an account: nothing can be moved (risk.transfers.routes)")
    prices = _prices(accounts, [line.asset for line in lines])
    wallets = list(dict.fromkeys(line.from_venue for line in lines if line.from_venue not in accounts.of))
    holdings = [
        Holding(name, asset, amount)
        for name, one in known.items()
        for asset, amount in one.now.posted.items()
        if amount > 0.0 and prices.get(asset)
    ]
    for wallet in wallets:
        for asset in dict.fromkeys(line.asset for line in lines if line.from_venue == wallet):
            amount = transfers.day_caps.get(asset, 0.0)
            holdings.append(Holding(wallet, asset, amount))
            notes.append(f"what {wallet} holds is not known: the day's cap of {amount:,.8g} {asset} is taken")
    judged = {one.party: one for one in counterparties_of(accounts)} if snapshot.signs else {}
    parameters = msgspec.convert(newest_set("counterparties").values, CounterpartyParameters)
    venues = tuple(
        Venue(
            name=name,
            cap_quote=judged[name].limit_quote if name in judged else None,
            charge_per_year=_charge(judged.get(name), parameters),
            unrealised_quote=_unrealised(one),
        )
        for name, one in known.items()
    )
    problem = CollateralProblem(
        assets=tuple(Asset(name=name, px=px) for name, px in prices.items()),
        venues=venues,
        wallets=tuple(Wallet(name=name, chain=name) for name in wallets),
        acceptances=tuple(_acceptances(known, lines, prices)),
        holdings=tuple(holdings),
        needs=tuple(need for one in known.values() for need in _needs(accounts, one, lines)),
        routes=tuple(_route(line, transfers) for line in lines),
        pending=tuple(
            Pending(
                asset=one.asset,
                amount=one.amount,
                to_place=one.party,
                carrier="under way",
                arrives_s=_slowest(lines, one.party),
            )
            for one in snapshot.lent
            if one.kind == "in_flight" and one.party in known and prices.get(one.asset)
        ),
        scenarios=tuple(name for name, _, _ in SCENARIOS),
        multipliers={name: _multipliers(accounts, name) for name in prices},
        hold_years=HOLD_YEARS,
    )
    return problem, notes


def _targets(problem: CollateralProblem) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in problem.needs:
        found[one.venue] = max(found.get(one.venue, 0.0), one.maintenance_quote[0])
    return found


def scenario_words(accounts: Accounts) -> dict[str, str]:
    """Say how far each underlying is moved: by the shocks of its asset class."""
    found = {}
    for name in accounts.spot_px:
        if name not in MONEYS:
            applies = accounts.class_of(name)
            found[name] = f"±{applies.price_shock_fraction:.0%}, vol +{applies.vol_shock_fraction:.0%}"
    return found


def _charge(risk: PartyRisk | None, parameters: CounterpartyParameters) -> float:
    """Return what a dollar at a venue is expected to lose in a year; nothing where nobody watches it."""
    if risk is None:
        return 0.0
    return parameters.loss_given_default * along(parameters.default_per_year, risk.score.points)


def _prices(accounts: Accounts, more: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in accounts.of.values():
        for asset, px in one.now.px.items():
            found.setdefault(asset, px)
    for asset in more:
        px = accounts.spot_px.get(asset, 1.0 if asset in MONEYS else 0.0)
        if px > 0.0:
            found.setdefault(asset, px)
    return {asset: px for asset, px in found.items() if px > 0.0}


def _unrealised(one: Reckoned) -> float:
    counted = 0.0
    for asset, amount in one.now.posted.items():
        counted += amount * one.now.px.get(asset, 0.0) * (1.0 - one.now.haircuts.get(asset, 0.0))
    return one.now.equity_quote - counted


def _acceptances(known: dict[str, Reckoned], lines: Sequence[RouteLine], prices: dict[str, float]) -> list[Acceptance]:
    found = []
    for name, one in known.items():
        assets = [*one.now.posted, *(line.asset for line in lines if line.to_venue == name)]
        for asset in dict.fromkeys(assets):
            if asset in prices:
                haircut = one.now.haircuts.get(asset, 0.0)
                px = one.now.px.get(asset, prices[asset])
                found.append(Acceptance(venue=name, asset=asset, px=px, tiers=(Tier(None, haircut),)))
    return found


def _needs(accounts: Accounts, one: Reckoned, lines: Sequence[RouteLine]) -> list[Need]:
    """Return what an account is to have: margin now; once a transfer can arrive its target, and enough for shocks."""
    settings, now = accounts.settings, one.now
    ratio = now.liquidation_ratio
    target = one.figures.maintenance / (settings.target_ratio * ratio)
    wanted = [max(target, one.figures.initial / settings.max_initial_ratio)]
    pnl = [0.0]
    for _, side, vol_side in SCENARIOS[1:]:
        moved = _shocked(accounts, one.book, side, vol_side)
        wanted.append(STRESS_BUFFER * one.maintenance(moved) / ratio)
        pnl.append(float(one.book.qty_base @ (moved.mark_px - one.book.mark_px)))
    nothing = (0.0,) * len(pnl)
    at_once = (one.figures.maintenance / ratio, *nothing[1:])
    first_s = min([line.p95_s for line in lines if line.to_venue == now.name], default=0.0)
    return [
        Need(venue=now.name, maintenance_quote=at_once, pnl_quote=nothing, buffer=1.0),
        Need(venue=now.name, maintenance_quote=tuple(wanted), pnl_quote=tuple(pnl), by_s=first_s, buffer=1.0),
    ]


def _shocked(accounts: Accounts, book: RiskBook, side: float, vol_side: float) -> RiskBook:
    moved = book
    for number in book.held:
        name = book.underlyings[number]
        applies = accounts.class_of(name)
        factor = 1.0 + vol_side * applies.vol_shock_fraction
        moved = move_book(moved, side * applies.price_shock_fraction, factor, name)
    return moved


def _multipliers(accounts: Accounts, asset: str) -> tuple[float, ...]:
    """Return what an asset's price is multiplied by in each scenario; what may leave its peg does so as it falls."""
    applies = accounts.class_of(asset)
    if asset in MONEYS:
        return (1.0,) * len(SCENARIOS)
    fall = 1.0 - applies.peg_shock_fraction
    return tuple(
        (1.0 + side * applies.price_shock_fraction) * (fall if side < 0.0 else 1.0) for _, side, _ in SCENARIOS
    )


def _route(line: RouteLine, transfers: TransfersSection) -> Route:
    return Route(
        name=_name(line),
        asset=line.asset,
        from_place=line.from_venue,
        to_place=line.to_venue,
        carrier=line.bridge or line.route,
        fixed_fee=line.fee,
        delay_p50_s=0.5 * line.p95_s,
        delay_p95_s=line.p95_s,
        least=line.min_amount,
        most=min(line.max_amount, transfers.day_caps.get(line.asset, 0.0)),
    )


def _name(line: RouteLine) -> str:
    return f"{line.asset} {line.from_venue} → {line.to_venue} over {line.route}"


def _slowest(lines: Sequence[RouteLine], venue: str) -> float:
    return max([line.p95_s for line in lines if line.to_venue == venue], default=3600.0)


def _instructions(vault: Vault, plan: CollateralPlan, now_ns: int) -> list[Instruction]:
    """Return the plan as instructions for a person, with the address of the vault file that each one goes to."""
    if vault.risk is None:
        return []
    lines = {_name(line): line for line in vault.risk.transfers.routes}
    found = []
    for one in instructions(plan, f"{vault.vault}-plan-{now_ns // 10**9}"):
        line = lines[one.command.route]
        place = vault.risk.transfers.addresses.get(line.address_label)
        command = msgspec.structs.replace(one.command, route=line.route)
        found.append(
            instruction_of(
                command,
                place.network if place is not None else "",
                line.address_label,
                place.address if place is not None else "",
                place.tag if place is not None else "",
                now_ns,
            )
        )
    return found


def write_instructions(found: Sequence[Instruction], path: Path) -> None:
    """Write instructions, one line of JSON each."""
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in found))
