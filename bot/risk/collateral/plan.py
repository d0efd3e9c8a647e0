"""A collateral plan: what to send, why, what it costs, what is still missing; and the commands that carry it out."""

from __future__ import annotations

import msgspec

from bot.domain.risk import TransferCollateral


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to send. `needed_by_s` is when its destination would be short without it (None: never, it saves cost).

    `cost_quote` is what it adds to the cost of the plan: fees at once, and what holding it there costs, less what it
    cost where it was.
    """

    route: str
    asset: str
    amount: float
    value_quote: float
    from_place: str
    to_place: str
    carrier: str
    arrives_amount: float
    delay_p50_s: float
    delay_p95_s: float
    needed_by_s: float | None
    fees_quote: float
    cost_quote: float
    reason: str


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """What is at a venue in the end, and what it counts there after haircuts and shares."""

    venue: str
    asset: str
    amount: float
    value_quote: float
    counted_quote: float


class ShadowPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What one dollar more of a need costs, or one dollar more of a stock, a cap or a share saves.

    Where something is missing it is what one dollar more leaves less missing.
    """

    kind: str
    name: str
    quote_per_quote: float
    text: str


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue is short of at a horizon, in its worst scenario, and what keeps more from getting there."""

    venue: str
    at_s: float
    scenario: str
    short_quote: float
    binding: tuple[str, ...]
    text: str


class Excess(msgspec.Struct, frozen=True, kw_only=True):
    """What is left over a cap in the end, because it was over it before and cannot leave."""

    cap: str
    over_quote: float
    text: str


class CollateralPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan. `method` made it: lp, milp, rounds or greedy; `is_proven` says that there is none better.

    `least_short_quote` is what any plan would be short of at the least, as far as that is known. `notes` say in what
    the plan is less than it might be, and why; `warnings` what the problem lacked.
    """

    method: str
    is_met: bool
    is_proven: bool
    cost_quote: float
    cost_as_is_quote: float
    transfers: tuple[Transfer, ...]
    postings: tuple[Posting, ...]
    shadow_prices: tuple[ShadowPrice, ...] = ()
    violations: tuple[Violation, ...] = ()
    excesses: tuple[Excess, ...] = ()
    least_short_quote: float = 0.0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def short_quote(self) -> float:
        """What is missing over all venues and horizons."""
        return sum(one.short_quote for one in self.violations)


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """One command of a plan, when what it sends is expected, and when it is late."""

    command: TransferCollateral
    needed_by_s: float | None
    expected_s: float
    late_after_s: float
    arrives_amount: float
    cost_quote: float


def in_order(transfers: tuple[Transfer, ...]) -> tuple[Transfer, ...]:
    """Return transfers as they are to be sent: what is needed first, and of that the cheapest; savings come last."""

    def place(one: Transfer) -> tuple[float, float, str]:
        return (float("inf") if one.needed_by_s is None else one.needed_by_s, one.cost_quote, one.route)

    return tuple(sorted(transfers, key=place))


def instructions(plan: CollateralPlan, plan_id: str) -> tuple[Instruction, ...]:
    """Return the commands of a plan in their order; ids are the plan's own with a number."""
    return tuple(
        Instruction(
            command=TransferCollateral(
                transfer_id=f"{plan_id}-{n}",
                asset=one.asset,
                amount=one.amount,
                from_venue=one.from_place,
                to_venue=one.to_place,
                route=one.route,
                reason=one.reason,
            ),
            needed_by_s=one.needed_by_s,
            expected_s=one.delay_p50_s,
            late_after_s=one.delay_p95_s,
            arrives_amount=one.arrives_amount,
            cost_quote=one.cost_quote,
        )
        for n, one in enumerate(in_order(plan.transfers), 1)
    )


def encode_plan(plan: CollateralPlan) -> str:
    """Return a plan as JSON."""
    return msgspec.json.encode(plan).decode()


def decode_plan(text: str | bytes) -> CollateralPlan:
    """Return the plan that a JSON text holds. Raises ValueError where it holds none."""
    try:
        return msgspec.json.decode(text, type=CollateralPlan)
    except msgspec.DecodeError as error:  # a ValidationError too
        raise ValueError(f"expected a collateral plan in JSON, found {error}") from None
