"""What risk is told of and asks for: margin, collateral on its way, counterparties, series from outside."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class MarginState(StrEnum):
    """How near to liquidation an account is; each one allows less than the one before."""

    NORMAL = "normal"
    WATCH = "watch"
    ACT = "act"
    CRITICAL = "critical"
    EMERGENCY = "emergency"


class ReportedMargin(msgspec.Struct, frozen=True, gc=False):
    """What a venue itself says of the margin of an account, or of one settlement currency of it, in quote money.

    `scope` is "" for the whole account, else the currency or risk unit. `equity_quote` is after the venue's haircuts.
    """

    scope: str
    equity_quote: float
    initial_quote: float
    maintenance_quote: float


class SupposedPosition(msgspec.Struct, frozen=True, gc=False):
    """A change of position to suppose when a venue is asked what it would ask: signed base, at a price."""

    instrument_id: str
    qty_base: float
    px: float


class SupposedMargin(msgspec.Struct, frozen=True):
    """What a venue says it would ask of an account, its own positions included, after supposed changes.

    `items_quote` are the parts it tells, by scope and the venue's own name ("btc worst_case"); empty where it tells
    none.
    """

    margins: tuple[ReportedMargin, ...]
    items_quote: dict[str, float] = {}


class MarginGrid(msgspec.Struct, frozen=True):
    """A venue's own stress grid of one underlying: P&L of each scenario, contingencies, and what it makes of them."""

    scope: str
    pnl_quote: tuple[float, ...]
    contingency_quote: float
    initial_quote: float
    maintenance_quote: float


class MarginTerms(msgspec.Struct, frozen=True, tag="margin_terms", gc=False):
    """The parameters of a venue's margin model are other ones from now on; `text` is a parameter set in JSON."""

    venue: str
    text: str
    ts_event_ns: int
    ts_recv_ns: int


class CollateralPrice(msgspec.Struct, frozen=True, tag="collateral_price", gc=False):
    """What one venue counts one unit of an asset as, in quote money and before its haircut: its own index."""

    venue: str
    asset: str
    px: float
    ts_event_ns: int
    ts_recv_ns: int


class CounterpartySigns(msgspec.Struct, frozen=True, tag="counterparty_signs", gc=False, omit_defaults=True):
    """What a counterparty's public and private pages show of its health; NaN or "unknown" where they do not tell.

    `withdrawals` is how the last withdrawal of ours went, or what the status says. `fund_quote` is the insurance fund,
    `fund_high_quote` its highest of the last 8 hours, `deleverage_rank_share` where we stand in the queue of automatic
    deleveraging (1: first), `api_error_share` the share of requests that failed lately, `perp_discount_share` how far
    its perpetuals are below others.
    """

    party: str
    ts_event_ns: int
    ts_recv_ns: int
    withdrawals: str = "unknown"
    fund_quote: float = float("nan")
    fund_high_quote: float = float("nan")
    open_interest_quote: float = float("nan")
    deleverage_rank_share: float = float("nan")
    api_error_share: float = float("nan")
    perp_discount_share: float = float("nan")
    reserves_age_days: float = float("nan")
    reserves_coverage_ratio: float = float("nan")


class SeriesValue(msgspec.Struct, frozen=True, tag="series_value", gc=False):
    """One value of a series from outside: a volatility index, a macro series, open interest, a supply.

    `as_of_ns` is the time it speaks of, `ts_event_ns` when it was published: before that nobody could know it.
    """

    series: str
    value: float
    as_of_ns: int
    ts_event_ns: int
    ts_recv_ns: int


class TransferState(StrEnum):
    """PLANNED → SENT → ARRIVED, or FAILED; REVERSED takes an arrival back, UNKNOWN is sent without an answer."""

    PLANNED = "planned"
    SENT = "sent"
    UNKNOWN = "unknown"
    ARRIVED = "arrived"
    FAILED = "failed"
    REVERSED = "reversed"


class TransferCollateral(msgspec.Struct, frozen=True, tag="transfer", gc=False):
    """Move an amount of an asset from one venue or wallet to another over a named route (network).

    `planned_ns` says since when it may be looked for, 0 where that is not known any more.
    """

    transfer_id: str
    asset: str
    amount: float
    from_venue: str
    to_venue: str
    route: str
    reason: str
    planned_ns: int = 0


class TransferUpdate(msgspec.Struct, frozen=True, tag="transfer_update", gc=False):
    """What became of a transfer; `amount` is what arrived, or is to arrive, after `fee` in the asset."""

    transfer_id: str
    state: TransferState
    asset: str
    amount: float
    fee: float
    from_venue: str
    to_venue: str
    route: str
    reason: str
    ts_event_ns: int
    ts_recv_ns: int


class CollateralPlanned(msgspec.Struct, frozen=True, tag="collateral_planned", gc=False):
    """What came of a `PlanCollateral`: `text` is a plan in JSON, "" where there is none and `fault` says why.

    `method` made it. Where that is "greedy" the solver failed or was cut off, and `fault` says how.
    """

    plan_id: str
    text: str
    method: str
    fault: str
    ts_event_ns: int
    ts_recv_ns: int


RiskEvent = MarginTerms | CollateralPrice | CounterpartySigns | SeriesValue | TransferUpdate | CollateralPlanned
