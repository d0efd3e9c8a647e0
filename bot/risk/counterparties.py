"""What is lost if a venue, an issuer or a bridge fails, how well it looks, and what follows from both.

Exposure at default (EAD) is what they hold of ours; the score, 0 to 100, is made of what their own pages show. What is
not known counts as the parameters say, which is never well, and is named. Every figure is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from math import inf, isfinite, isnan, nan, sqrt
from typing import Final

import msgspec

from bot.domain.risk import CounterpartySigns
from bot.domain.units import NS_PER_S
from bot.risk.loss_waterfall import PoolRule
from bot.risk.transfers import Lent

Knots = tuple[tuple[float, float], ...]
"""Points (x, y) of a line, x rising; before the first and after the last it is level."""

PARTS: Final = (
    *("withdrawals", "fund", "fund_drawdown", "reserves"),
    *("deleverage_rank", "perp_discount", "api_health", "standing"),
)


class Action(StrEnum):
    """What a score asks for, each one including those before it."""

    NONE = "none"
    STOP_ADDING = "stop_adding"
    DRAIN = "drain"  # hedge elsewhere, then move out
    EXIT = "exit"  # the same without waiting


_ORDER: Final = tuple(Action)


class PartyKind(StrEnum):
    """What can fail: a place that holds ours, who issued a token, or what carries it."""

    VENUE = "venue"
    ISSUER = "issuer"
    BRIDGE = "bridge"


class CounterpartyParameters(msgspec.Struct, frozen=True, kw_only=True):
    """How signs become points and points become limits.

    `weights` by part add up to 100; `parts_of` a kind are those that make sense of it, and their weights are scaled to
    100. `unpublished` by party are those its pages never show to us: they are named, and weigh nothing. A part whose
    sign is unknown, or older than `max_age_s`, counts `unknown_share` of its weight. The knots lead from a sign to the
    share of the weight it earns. `withdrawal_ceilings` is the most a score can be whatever else is well. A better
    action than the one in force needs `recovery_points` more.
    A limit is the least of a share of equity (the lower one where anything is unknown), a share of the venue's open
    interest, and the share of equity that the score allows. `pool` says from which drawdown of its insurance fund on a
    venue is about to deleverage, and until when.
    """

    weights: dict[str, float]
    parts_of: dict[PartyKind, tuple[str, ...]]
    unpublished: dict[str, tuple[str, ...]] = {}
    unknown_share: float
    max_age_s: float
    withdrawals: dict[str, float]
    withdrawal_ceilings: dict[str, float]
    fund_to_open_interest: Knots
    fund_drawdown: Knots
    reserves_age_days: Knots
    reserves_coverage: Knots
    deleverage_rank: Knots
    perp_discount: Knots
    api_errors: Knots
    stop_adding_below: float
    drain_below: float
    exit_below: float
    recovery_points: float
    equity_share: float
    equity_share_unknown: float
    open_interest_share: float
    score_share: Knots
    group_share: float
    default_per_year: Knots  # by score
    loss_given_default: float
    pool: PoolRule = PoolRule(trigger_ratio=-0.30, stop_ratio=-0.25)

    def __post_init__(self) -> None:
        if set(self.weights) != set(PARTS) or abs(sum(self.weights.values()) - 100.0) > 1e-9:
            found = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
            raise ValueError(f"expected weights of {', '.join(PARTS)} that add up to 100, found {found}")
        odd = [kind for kind in PartyKind if not self.parts_of.get(kind) or set(self.parts_of[kind]) - set(PARTS)]
        if odd:
            raise ValueError(f"expected the parts that make the score of {odd[0]}, found {self.parts_of.get(odd[0])}")
        blank = [name for name, parts in self.unpublished.items() if set(parts) >= set(self.parts_of[PartyKind.VENUE])]
        if blank:
            raise ValueError(f"expected {blank[0]} to show something, found every part of its score unpublished")
        if not self.exit_below <= self.drain_below <= self.stop_adding_below:
            found = f"{self.exit_below:g}, {self.drain_below:g}, {self.stop_adding_below:g}"
            raise ValueError(f"expected exit_below ≤ drain_below ≤ stop_adding_below, found {found}")
        for name in self.__struct_fields__:
            knots = getattr(self, name)
            if isinstance(knots, tuple) and (not knots or [x for x, _ in knots] != sorted({x for x, _ in knots})):
                raise ValueError(f"expected rising knots of {name}, found {knots}")


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """A counterparty as the operator knows it. `group` fails together, "" alone.

    `standing_share` is the operator's own judgement of incidents and jurisdiction, 1 is best and NaN is none.
    `loss_given_default` NaN takes the parameters' own.
    """

    name: str
    kind: PartyKind = PartyKind.VENUE
    group: str = ""
    standing_share: float = nan
    loss_given_default: float = nan


class HedgeLost(msgspec.Struct, frozen=True):
    """A hedge that is gone with its venue, and what it takes to have it again elsewhere."""

    delta_quote: float
    spread_fraction: float
    vol: float
    rehedge_years: float


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What is held at a party, in quote money; `scenario_pnl` is what each scenario adds to it there."""

    party: str
    cash: float = 0.0
    collateral: float = 0.0
    upnl: float = 0.0
    pending_withdrawals: float = 0.0
    in_flight: float = 0.0
    borrowed: float = 0.0
    scenario_pnl: tuple[float, ...] = ()
    hedges: tuple[HedgeLost, ...] = ()

    @property
    def net_quote(self) -> float:
        """What they owe us less what we owe them, negative where they would claim from us."""
        held = self.cash + self.collateral + self.upnl + self.pending_withdrawals + self.in_flight
        return held - self.borrowed


class ScorePart(msgspec.Struct, frozen=True):
    """One part of a score: points of its weight, and the sign they are for."""

    name: str
    points: float
    weight: float
    is_known: bool
    detail: str


class Score(msgspec.Struct, frozen=True):
    """A score with its parts; `unknown` names those nobody told, `ceiling` is below 100 where one sign forbids more."""

    party: str
    points: float
    parts: tuple[ScorePart, ...]
    unknown: tuple[str, ...]
    ceiling: float = 100.0


class PartyRisk(msgspec.Struct, frozen=True):
    """One party judged: exposure now and in the worst scenario, its limit and what set it, and what is to be done."""

    party: str
    ead_quote: float
    stressed_quote: float
    replacement_quote: float
    expected_loss_quote: float
    limit_quote: float
    limit_reason: str
    is_over: bool
    score: Score
    action: Action
    reason: str


class GroupRisk(msgspec.Struct, frozen=True):
    """Parties that fail together: the sum of what they hold, and the limit of it."""

    group: str
    parties: tuple[str, ...]
    ead_quote: float
    stressed_quote: float
    limit_quote: float
    is_over: bool


def exposure_at_default(exposure: Exposure) -> float:
    """EAD = max(0, cash + collateral + UPnL + pending withdrawals + in flight − borrowed)."""
    return max(0.0, exposure.net_quote)


def stressed_exposures(exposure: Exposure) -> tuple[float, ...]:
    """Return the EAD of each scenario: what we win there in it, they owe us as well."""
    return tuple(max(0.0, exposure.net_quote + pnl) for pnl in exposure.scenario_pnl)


def replacement_cost(hedges: Sequence[HedgeLost]) -> float:
    """Return what hedges lost cost to have again: Σ |delta| (spread + σ √t), t until they are."""
    return sum(abs(one.delta_quote) * (one.spread_fraction + one.vol * sqrt(one.rehedge_years)) for one in hedges)


def expected_loss(ead_quote: float, default_per_year: float, loss_given_default: float) -> float:
    """Return PD × LGD × EAD, per year."""
    return ead_quote * default_per_year * loss_given_default


def along(knots: Knots, x: float) -> float:
    """Return the line through the knots at x, level beyond its ends."""
    before_x, before_y = knots[0]
    if x <= before_x:
        return before_y
    for next_x, next_y in knots[1:]:
        if x <= next_x:
            return before_y + (next_y - before_y) * (x - before_x) / (next_x - before_x)
        before_x, before_y = next_x, next_y
    return before_y


def score_of(party: Party, signs: CounterpartySigns | None, parameters: CounterpartyParameters, now_ns: int) -> Score:
    """Return the score of a party by its newest signs; without any, or with old ones, only its standing is known."""
    is_old = signs is not None and now_ns - signs.ts_event_ns > parameters.max_age_s * NS_PER_S
    shares = _shares(None if is_old else signs, parameters)
    shares["standing"] = (party.standing_share, f"{party.standing_share:.0%} by the operator")
    parts: list[ScorePart] = []
    unpublished = parameters.unpublished.get(party.name, ())
    applicable = [name for name in parameters.parts_of[party.kind] if name not in unpublished]
    scale = 100.0 / sum(parameters.weights[name] for name in applicable)
    for name in applicable:
        weight = parameters.weights[name] * scale
        share, detail = shares.get(name, (nan, ""))
        is_known = not isnan(share)
        if not is_known:
            age = f"{(now_ns - signs.ts_event_ns) / NS_PER_S:.0f} s old" if is_old and signs is not None else "not told"
            share, detail = parameters.unknown_share, f"unknown, {age if name != 'standing' else 'not judged'}"
        parts.append(ScorePart(name, weight * min(1.0, max(0.0, share)), weight, is_known, detail))
    word = "unknown" if signs is None else signs.withdrawals  # a stop that was seen holds until it is seen to be over
    ceiling = parameters.withdrawal_ceilings.get(word, 100.0)
    return Score(
        party=party.name,
        points=min(ceiling, sum(one.points for one in parts)),
        parts=tuple(parts),
        unknown=(*(one.name for one in parts if not one.is_known), *unpublished),
        ceiling=ceiling,
    )


def _shares(signs: CounterpartySigns | None, parameters: CounterpartyParameters) -> dict[str, tuple[float, str]]:
    """Return by part the share of its weight that the signs earn and what they say; NaN where they say nothing."""
    if signs is None:
        return {}

    def by(knots: Knots, value: float, says: Callable[[float], str]) -> tuple[float, str]:
        return (along(knots, value), says(value)) if isfinite(value) else (nan, "")

    fund, interest, high = signs.fund_quote, signs.open_interest_quote, signs.fund_high_quote
    ratio = fund / interest if isfinite(fund) and isfinite(interest) and interest > 0.0 else nan
    drawdown = max(0.0, 1.0 - fund / high) if isfinite(fund) and isfinite(high) and high > 0.0 else nan
    age = by(parameters.reserves_age_days, signs.reserves_age_days, lambda x: f"proof {x:.0f} days old")
    cover = by(parameters.reserves_coverage, signs.reserves_coverage_ratio, lambda x: f"covers {x:.0%}")
    reserves = (min(age[0], cover[0]), f"{age[1]}, {cover[1]}") if not isnan(age[0] + cover[0]) else (nan, "")
    return {
        "withdrawals": (parameters.withdrawals.get(signs.withdrawals, nan), signs.withdrawals),
        "fund": by(parameters.fund_to_open_interest, ratio, lambda x: f"fund {x:.2%} of open interest"),
        "fund_drawdown": by(parameters.fund_drawdown, drawdown, lambda x: f"fund {x:.1%} below its 8 h high"),
        "reserves": reserves,
        "deleverage_rank": by(parameters.deleverage_rank, signs.deleverage_rank_share, lambda x: f"rank {x:.0%}"),
        "perp_discount": by(parameters.perp_discount, signs.perp_discount_share, lambda x: f"discount {x:.2%}"),
        "api_health": by(parameters.api_errors, signs.api_error_share, lambda x: f"{x:.1%} of requests fail"),
    }


def action_of(points: float, before: Action, parameters: CounterpartyParameters) -> Action:
    """Return what a score asks for: the worse at once, the better only `recovery_points` beyond its threshold."""
    asked = _plain_action(points, parameters)
    if _ORDER.index(asked) >= _ORDER.index(before):
        return asked
    eased = _plain_action(points - parameters.recovery_points, parameters)
    return min(before, eased, key=_ORDER.index)


def _plain_action(points: float, parameters: CounterpartyParameters) -> Action:
    if not points >= parameters.exit_below:  # so that NaN is the worst
        return Action.EXIT
    if points < parameters.drain_below:
        return Action.DRAIN
    return Action.STOP_ADDING if points < parameters.stop_adding_below else Action.NONE


def limit_of(
    score: Score,
    equity_quote: float,
    open_interest_quote: float,
    parameters: CounterpartyParameters,
    kind: PartyKind = PartyKind.VENUE,
) -> tuple[float, str]:
    """Return how much may be held at a party, and which bound it is; equity that is no number allows nothing.

    Open interest that is NaN bounds nothing, but a venue's is then unknown.
    """
    if not (isfinite(equity_quote) and equity_quote > 0.0):
        return 0.0, f"equity is {equity_quote:g}"
    is_known = not score.unknown and (kind is not PartyKind.VENUE or isfinite(open_interest_quote))
    share = parameters.equity_share if is_known else parameters.equity_share_unknown
    by_score = along(parameters.score_share, score.points)
    bounds = [
        (share * equity_quote, f"{share:.0%} of equity" + ("" if is_known else ", not everything being known")),
        (by_score * equity_quote, f"{by_score:.1%} of equity by its score {score.points:.0f}"),
    ]
    if isfinite(open_interest_quote):
        part = parameters.open_interest_share
        bounds.append((part * open_interest_quote, f"{part:.0%} of the venue's open interest"))
    return min(bounds)


def judge(
    party: Party,
    exposure: Exposure,
    score: Score,
    equity_quote: float,
    open_interest_quote: float,
    before: Action,
    parameters: CounterpartyParameters,
) -> PartyRisk:
    """Return one party judged; an exposure that is no number is NaN, counts as over any limit, and says so."""
    ead, stressed = exposure_at_default(exposure), max(stressed_exposures(exposure), default=-inf)
    lost = replacement_cost(exposure.hedges)
    is_broken = not all(isfinite(x) for x in (exposure.net_quote, lost, *exposure.scenario_pnl))
    limit, why = limit_of(score, equity_quote, open_interest_quote, parameters, party.kind)
    action = action_of(score.points, before, parameters)
    stressed = max(ead, stressed)
    if is_broken:
        ead = stressed = nan
    is_over = is_broken or stressed > limit
    if is_over:
        action = max(action, Action.STOP_ADDING, key=_ORDER.index)
    loss = parameters.loss_given_default if isnan(party.loss_given_default) else party.loss_given_default
    reasons = [f"score {score.points:.0f}"]
    if score.unknown:
        reasons.append(f"unknown: {', '.join(score.unknown)}")
    if is_broken:
        reasons.append("its exposure is not a number")
    elif is_over:
        reasons.append(f"{stressed:,.0f} at default, stressed, limit {limit:,.0f} ({why})")
    return PartyRisk(
        party=party.name,
        ead_quote=ead,
        stressed_quote=stressed,
        replacement_quote=lost,
        expected_loss_quote=expected_loss(ead + lost, along(parameters.default_per_year, score.points), loss),
        limit_quote=limit,
        limit_reason=why,
        is_over=is_over,
        score=score,
        action=action,
        reason="; ".join(reasons),
    )


def judge_groups(
    parties: Sequence[Party], risks: Mapping[str, PartyRisk], equity_quote: float, parameters: CounterpartyParameters
) -> tuple[GroupRisk, ...]:
    """Return the groups with the sum of their exposures; equity that is no number allows nothing."""
    members: dict[str, list[str]] = {}
    for party in parties:
        if party.group and party.name in risks:
            members.setdefault(party.group, []).append(party.name)
    limit = parameters.group_share * equity_quote if isfinite(equity_quote) else 0.0
    found: list[GroupRisk] = []
    for group, names in members.items():
        ead = sum(risks[name].ead_quote for name in names)
        stressed = sum(risks[name].stressed_quote for name in names)
        found.append(GroupRisk(group, tuple(names), ead, stressed, limit, not stressed <= limit))
    return tuple(found)


def with_transfers(
    exposures: Sequence[Exposure], lent: Sequence[Lent], px: Mapping[str, float]
) -> tuple[Exposure, ...]:
    """Return the exposures with what is under way added to everybody it could be lost with; bridges get their own.

    Raises ValueError for an asset without a price.
    """
    found = {one.party: one for one in exposures}
    for row in lent:
        if row.asset not in px:
            raise ValueError(f"expected a price of {row.asset}, found those of {', '.join(px) or 'nothing'}")
        value = row.amount * px[row.asset]
        one = found.get(row.party) or Exposure(party=row.party)
        if row.kind == "pending_withdrawal":
            one = msgspec.structs.replace(one, pending_withdrawals=one.pending_withdrawals + value)
        else:
            one = msgspec.structs.replace(one, in_flight=one.in_flight + value)
        found[row.party] = one
    return tuple(found.values())


def of_issuers(held_quote: Mapping[tuple[str, str], float], issuers: Mapping[str, str]) -> tuple[Exposure, ...]:
    """Return what each issuer owes: the sum of its tokens wherever they lie. `held_quote` is by (place, asset)."""
    sums: dict[str, float] = {}
    for (_, asset), value in held_quote.items():
        if asset in issuers:
            sums[issuers[asset]] = sums.get(issuers[asset], 0.0) + value
    return tuple(Exposure(party=name, cash=value) for name, value in sums.items())
