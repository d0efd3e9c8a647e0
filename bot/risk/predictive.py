"""Margin as it will be when a transfer sent now has arrived, and how much above the least an account should have.

Equity and margin are carried to the 95 % transfer delay by a bad move: a quantile of the vol forecast, no mean, and
the loss that short gamma adds. The target is equity per margin: a base that calm never lowers, times how high the vol
forecast is over its reference, times what macro and liquidity conditions add. Those may only raise it, and every
change of a target is told with its reason.
"""

from __future__ import annotations

from math import isnan, sqrt
from typing import Final, Literal

import msgspec
import numpy as np

from bot.risk.conditions import MAX_MULTIPLIER, Conditions
from bot.risk.distances import Health, utilise

Z_99: Final = 2.3263478740408408


class LookAhead(msgspec.Struct, frozen=True, kw_only=True):
    """How far ahead and how badly: vols that stand in for what is not known are named here, not in the formula.

    A vol below `least_vol` is not believed, and `fallback_vol` is used where there is none: for a book of money it is
    chosen high. `fallback_delay_years` likewise: two hours.
    """

    z: float = Z_99
    least_vol: float = 0.20
    fallback_vol: float = 1.50
    fallback_delay_years: float = 2.0 / 8760.0

    def __post_init__(self) -> None:
        """Refuse what would make the outlook better than today."""
        if not (self.z > 0.0 and 0.0 <= self.least_vol <= self.fallback_vol and self.fallback_delay_years > 0.0):
            raise ValueError(f"expected a positive z and delay and a fallback vol above the least, found {self}")


class Outlook(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An account as a bad move until the delay leaves it, in quote money; `topup_quote` restores the target then.

    `ratio` is equity per maintenance margin; `degraded` says what was not known and what stood in for it.
    """

    move_fraction: float
    loss_quote: float
    equity_quote: float
    maintenance_quote: float
    ratio: float
    topup_quote: float
    degraded: str = ""


def look_ahead(
    equity_quote: float,
    maintenance_quote: float,
    delta_quote: float,
    gamma_quote_per_pct: float,
    vol_quantile: float,
    delay_years: float,
    target_ratio: float,
    rule: LookAhead = LookAhead(),  # noqa: B008 — frozen
) -> Outlook:
    """Return the account after move = z σ √delay against it; the sign of delta does not matter, that of gamma does.

    loss = |Δ| move + ½ |Γ| (100 move) move where gamma is short (long gamma is not counted on), margin × (1 + move),
    top-up = max(0, target × margin − equity after), `gamma_quote_per_pct` being what a move of 1 % adds to delta.
    """
    move, missing = _bad_move(vol_quantile, delay_years, rule)
    if isnan(delta_quote) or isnan(gamma_quote_per_pct):
        missing.append("delta or gamma unknown: all of equity taken as lost")
        loss = max(equity_quote, 0.0)
    else:
        loss = abs(delta_quote) * move + 50.0 * max(-gamma_quote_per_pct, 0.0) * move * move
    return _outlook(move, equity_quote, loss, maintenance_quote * (1.0 + move), target_ratio, missing)


def look_ahead_by_repricing(
    health: Health,
    vol_quantile: float,
    delay_years: float,
    target_ratio: float,
    vol_up_fraction: float = 0.0,
    rule: LookAhead = LookAhead(),  # noqa: B008 — frozen
) -> Outlook:
    """Return the account after the worse of a bad move either way, with vols up by a fraction, repriced in full.

    Worse is what needs the larger top-up, so that margin that grows with the move counts as much as what is lost.
    """
    move, missing = _bad_move(vol_quantile, delay_years, rule)
    now_quote = float(health(np.zeros(1), 1.0)[0][0])
    moves = np.array([max(-move, -0.99), 0.0, move])
    equity, maintenance = health(moves, 1.0 + vol_up_fraction)
    needs = target_ratio * maintenance - equity
    worst = int(np.argmax(np.where(np.isnan(needs), np.inf, needs)))
    after_quote, margin_quote = float(equity[worst]), float(maintenance[worst])
    return _outlook(move, now_quote, now_quote - after_quote, margin_quote, target_ratio, missing)


class TargetRule(msgspec.Struct, frozen=True, kw_only=True):
    """Equity per maintenance margin to hold: `base_ratio` at least, `most_multiple` times it at most for vol alone.

    Macro and liquidity conditions raise it up to twice more (`bot.risk.conditions`); not knowing them counts
    `unknown_conditions`.
    What is scaled is the whole ratio, b × m, or only the buffer above margin, 1 + (b − 1) m, which is enough for models
    that ask for large moves already. The idea of the floor: a buffer of 25 % that is used up rather than lowered (EMIR
    RTS 153/2013, article 28).
    """

    base_ratio: float = 1.5
    scales: Literal["ratio", "buffer"] = "ratio"
    most_multiple: float = 2.0
    unknown_conditions: float = 1.25

    def __post_init__(self) -> None:
        """Refuse a target at or below liquidation, and anything that could lower it."""
        if not (self.base_ratio > 1.0 and self.most_multiple >= 1.0 and self.unknown_conditions >= 1.0):
            raise ValueError(f"expected a base above 1 and multipliers that only raise it, found {self}")


class Target(msgspec.Struct, frozen=True, gc=False):
    """The equity per margin to hold, what raised it over the base, and why."""

    ratio: float
    vol_multiplier: float
    condition_multiplier: float
    reason: str
    degraded: str = ""


class TargetChange(msgspec.Struct, frozen=True, gc=False):
    """One change of a target, for the journal and for people: nothing raises or relieves a buffer silently."""

    before_ratio: float
    after_ratio: float
    reason: str
    ts_ns: int


def set_target(
    vol_quantile: float,
    reference_vol: float,
    conditions: Conditions | None = None,
    rule: TargetRule = TargetRule(),  # noqa: B008 — frozen
) -> Target:
    """Return base × clip(σ_q / σ_ref, 1, most) × conditions, never below the base. An unusable vol counts most.

    Conditions raise the forecast too, where a feature of its model is missing. None is for a vault that uses no
    conditions; one whose feeds are all silent has them say so, and what that counts.
    """
    degraded = []
    inflated = vol_quantile * sqrt(conditions.variance_multiplier) if conditions is not None else vol_quantile
    if inflated >= 0.0 and reference_vol > 0.0:
        vol_multiplier = min(max(inflated / reference_vol, 1.0), rule.most_multiple)
    else:
        vol_multiplier = rule.most_multiple
        degraded.append(f"vol {vol_quantile:g} of {reference_vol:g} is not usable: the largest multiple is taken")
    told = 1.0 if conditions is None else conditions.multiplier
    if isnan(told):
        told = rule.unknown_conditions
        degraded.append(f"conditions unknown: ×{told:g} taken")
    condition_multiplier = min(max(told, 1.0), MAX_MULTIPLIER)
    if conditions is not None and conditions.missing:
        degraded.append(f"missing: {', '.join(conditions.missing)}")
    scaled = f"{rule.base_ratio:g}" if rule.scales == "ratio" else f"1 + {rule.base_ratio - 1.0:g}"
    reason = f"{scaled} × {vol_multiplier:.2f} for vol × {condition_multiplier:.2f} for conditions"
    if condition_multiplier > 1.0 and conditions is not None:
        reason = f"{reason} ({conditions.text})"
    multiple = vol_multiplier * condition_multiplier
    ratio = rule.base_ratio * multiple if rule.scales == "ratio" else 1.0 + (rule.base_ratio - 1.0) * multiple
    return Target(ratio, vol_multiplier, condition_multiplier, reason, "; ".join(degraded))


def note_change(before: Target | None, after: Target, now_ns: int) -> TargetChange | None:
    """Return what changed of a target and why, None where nothing did by more than a thousandth."""
    was = before.ratio if before is not None else 0.0
    if abs(after.ratio - was) <= 1e-3 * after.ratio:
        return None
    reason = f"{after.reason}; {after.degraded}" if after.degraded else after.reason
    return TargetChange(was, after.ratio, reason, now_ns)


def _bad_move(vol_quantile: float, delay_years: float, rule: LookAhead) -> tuple[float, list[str]]:
    missing = []
    vol, delay = max(vol_quantile, rule.least_vol), delay_years
    if not vol_quantile >= 0.0:
        vol = rule.fallback_vol
        missing.append(f"vol forecast {vol_quantile:g} is not usable: {vol:.0%} taken")
    if not delay >= 0.0:
        delay = rule.fallback_delay_years
        missing.append(f"transfer delay {delay_years:g} is not usable: {delay * 8760.0:g} h taken")
    return rule.z * vol * sqrt(delay), missing


def _outlook(
    move: float, equity_quote: float, loss_quote: float, margin_quote: float, target_ratio: float, missing: list[str]
) -> Outlook:
    after_quote = equity_quote - loss_quote
    if isnan(after_quote) or isnan(margin_quote) or isnan(target_ratio):
        missing.append("equity, margin or target unknown: no ratio, nothing can be planned on it")
        ratio = 0.0
    else:
        used = utilise(after_quote, margin_quote)
        ratio = 1.0 / used if used > 0.0 else float("inf")
    return Outlook(
        move_fraction=move,
        loss_quote=loss_quote,
        equity_quote=after_quote,
        maintenance_quote=margin_quote,
        ratio=ratio,
        topup_quote=max(0.0, target_ratio * margin_quote - after_quote),
        degraded="; ".join(missing),
    )
