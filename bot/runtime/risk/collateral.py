"""Where a vault's collateral should be: the problem that its engine poses, solved, with the plan as instructions."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import msgspec

from bot.domain.errors import ConfigError
from bot.domain.risk import TransferCollateral
from bot.domain.units import NS_PER_S, utc_text
from bot.engine.margin.collateral_desk import CollateralNow
from bot.engine.margin.collateral_problem import route_name
from bot.gateways.transfer_export import Instruction, instruction_of
from bot.risk.collateral.plan import CollateralPlan, instructions
from bot.risk.collateral.problem import CollateralProblem
from bot.risk.collateral.solving import solve
from bot.runtime.configuration.vault import Vault
from bot.runtime.risk.accounts import Accounts


class CollateralView(msgspec.Struct, frozen=True, kw_only=True):
    """All of one call. `needs_quote` is what each account is to have as it is, `equity_quote` what it has.

    `daemon` is the newest plan of the engine that was looked at, None where it does not plan.
    """

    vault: str
    as_of: str
    source: str
    notes: tuple[str, ...]
    scenarios: tuple[str, ...]
    buffer_ratio: float
    buffer_reason: str
    equity_quote: dict[str, float]
    needs_quote: dict[str, float]
    plan: CollateralPlan
    instructions: tuple[Instruction, ...]
    daemon: CollateralNow | None


def build_collateral(accounts: Accounts) -> CollateralView:
    """Return the plan for a snapshot's accounts. Raises ConfigError where no problem was posed, or none that can be."""
    snapshot, vault = accounts.snapshot, accounts.vault
    posed = snapshot.collateral
    if posed is None:
        raise ConfigError([f"vault {vault.vault}: expected a collateral problem, found none in {snapshot.source}"])
    try:
        plan = solve(posed.problem, time_limit_s=posed.time_limit_s)
    except ValueError as error:
        raise ConfigError([f"vault {vault.vault}: {error}"]) from None
    return CollateralView(
        vault=snapshot.vault,
        as_of=utc_text(snapshot.now_ns),
        source=snapshot.source,
        notes=(*snapshot.notes, *_notes(accounts, posed.problem)),
        scenarios=posed.problem.scenarios,
        buffer_ratio=posed.buffer_ratio,
        buffer_reason=posed.buffer_reason,
        equity_quote={name: one.now.equity_quote for name, one in accounts.of.items()},
        needs_quote=_needs(posed.problem),
        plan=plan,
        instructions=tuple(_instructions(accounts, plan)),
        daemon=posed.now,
    )


def _notes(accounts: Accounts, problem: CollateralProblem) -> list[str]:
    """Say what is left out of the problem, and what had to be assumed for it."""
    found = []
    for name, one in accounts.of.items():
        if one.now.unknown or not isfinite(one.now.equity_quote):
            found.append(f"{name} is left out: {one.now.unknown or 'its equity is not known'}")
    if not problem.routes:
        found.append("no route leads to an account: nothing can be moved (risk.transfers.routes)")
    known = accounts.settings.collateral.wallets if accounts.settings.collateral is not None else {}
    for wallet in problem.wallets:
        for held in problem.holdings:
            if held.place == wallet.name and held.asset not in known.get(wallet.name, {}):
                what = f"what {held.place} holds is not known: {held.amount:,.8g} {held.asset}"
                found.append(f"{what}, the most a route may carry today, is taken (risk.collateral.wallets)")
    return found


def _needs(problem: CollateralProblem) -> dict[str, float]:
    """Return the largest need of each venue as it is, its buffer included."""
    found: dict[str, float] = {}
    for one in problem.needs:
        buffer = problem.buffer if one.buffer is None else one.buffer
        found[one.venue] = max(found.get(one.venue, 0.0), buffer * one.maintenance_quote[0])
    return found


def _instructions(accounts: Accounts, plan: CollateralPlan) -> list[Instruction]:
    """Return the plan as instructions for a person, with the address of the vault file that each one goes to."""
    vault, now_ns = accounts.vault, accounts.snapshot.now_ns
    labels = {route_name(one): one.address_label for one in accounts.settings.transfers.routes}
    names = {route_name(one): one.name for one in accounts.settings.transfers.routes}
    found = []
    for one in instructions(plan, f"{vault.vault}-plan-{now_ns // NS_PER_S}"):
        command = msgspec.structs.replace(one.command, route=names[one.command.route])
        found.append(_instruction(vault, command, labels[one.command.route], now_ns))
    return found


def _instruction(vault: Vault, command: TransferCollateral, label: str, now_ns: int) -> Instruction:
    addresses = vault.risk.transfers.addresses if vault.risk is not None else {}
    place = addresses.get(label)
    if place is None:
        return instruction_of(command, "", label, "", "", now_ns)
    return instruction_of(command, place.network, label, place.address, place.tag, now_ns)


def write_instructions(found: Sequence[Instruction], path: Path) -> None:
    """Write instructions, one line of JSON each."""
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in found))
