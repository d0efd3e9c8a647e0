"""The topics of a vault at the broker and what is written to each: `{prefix}/v1/{vault}/{topic}`.

A state is split over several topics, so that a reader takes what it needs and what has not changed is not sent again;
together they hold all of it. Every payload is JSON with a `schema_version`. A desk has topics of its own, under
the name of `desk_name` in a vault's place, which no vault can have.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from bot.domain.commands import SignedCommand
from bot.domain.units import NS_PER_S
from bot.domain.windows import (
    SCHEMA_VERSION,
    AccountState,
    Alert,
    CommandAnswer,
    FeedState,
    GateState,
    LegState,
    Meters,
    OrderLine,
    Told,
    UnderlyingState,
    VaultState,
    VenueState,
)

MAX_LAG_NS: Final = 60 * NS_PER_S  # of a part behind the status

_T = TypeVar("_T", bound=msgspec.Struct)


class Topic(StrEnum):
    """The last part of a topic's name."""

    AVAILABILITY = "availability"
    STATUS = "status"
    EXPOSURE = "exposure"
    GREEKS = "greeks"
    ORDERS = "orders"
    PNL = "pnl"
    VENUES = "venues"
    RISK = "risk"
    METERS = "meters"
    EVENTS = "events"
    RECENT = "recent"
    ALERTS = "alerts"
    NOTICES = "notices"
    COMMANDS = "commands"
    ANSWERS = "answers"


class Manner(msgspec.Struct, frozen=True):
    """How a topic is written: its quality of service, and whether the broker keeps the last word of it."""

    qos: int
    is_retained: bool


_NAMES: Final = frozenset(topic.value for topic in Topic)
STATE_TOPICS: Final = (
    Topic.STATUS,
    Topic.EXPOSURE,
    Topic.GREEKS,
    Topic.ORDERS,
    Topic.PNL,
    Topic.VENUES,
    Topic.RISK,
    Topic.METERS,
)
MANNERS: Final[Mapping[Topic, Manner]] = {
    Topic.AVAILABILITY: Manner(1, is_retained=True),
    # The newest word replaces the one before within a second: one that is lost is not worth sending again.
    **dict.fromkeys(STATE_TOPICS, Manner(0, is_retained=True)),
    Topic.EVENTS: Manner(1, is_retained=False),
    Topic.RECENT: Manner(1, is_retained=True),
    Topic.ALERTS: Manner(1, is_retained=True),
    Topic.NOTICES: Manner(1, is_retained=False),
    # A command kept by the broker would be carried out by whoever subscribes next.
    Topic.COMMANDS: Manner(1, is_retained=False),
    Topic.ANSWERS: Manner(1, is_retained=False),
}


class Presence(StrEnum):
    """ONLINE: its daemon answers; FROZEN: it does not; OFFLINE: nobody is there to ask it."""

    ONLINE = "online"
    FROZEN = "frozen"
    OFFLINE = "offline"


class Availability(msgspec.Struct, frozen=True):
    """Whether what else is written of a vault is still being written, and why not.

    `since_ns` is of the wall clock, 0 where it is the broker who says so.
    """

    presence: Presence
    why: str
    since_ns: int
    schema_version: int = SCHEMA_VERSION


class Status(msgspec.Struct, frozen=True):
    """Which run of which vault, in which state and why, and what it has done so far."""

    vault: str
    mode: str
    policy: str
    version: str
    run_id: str
    config_sha256: str
    now_ns: int
    taken_ns: int
    state: str
    state_reason: str
    to_acknowledge: str
    hedges: int
    decisions: int
    turnover_quote: float
    transactions: int
    failed_transactions: int
    refusals: dict[str, int]
    quotes_refused: dict[str, int]
    overrides: dict[str, str]
    schema_version: int = SCHEMA_VERSION


class UnderlyingExposure(msgspec.Struct, frozen=True):
    """Net delta of one underlying in its band, what is intended, and why or why not; as in `UnderlyingState`."""

    underlying: str
    decided_ns: int
    spot_px: float | None
    delta_low_base: float | None
    delta_high_base: float | None
    unknown_base: float
    target_delta_base: float | None
    low_base: float | None
    high_base: float | None
    hedge_base: float
    pending_base: float
    policy_reason: str
    refusal: str
    refusal_detail: str
    wanted_lots: int
    order_id: str | None
    plan: str
    last_order: str
    last_hedge_ns: int
    gates: tuple[GateState, ...]


class Exposure(msgspec.Struct, frozen=True):
    """Exposure of every underlying against its band."""

    taken_ns: int
    underlyings: tuple[UnderlyingExposure, ...]
    schema_version: int = SCHEMA_VERSION


class UnderlyingGreeks(msgspec.Struct, frozen=True):
    """Greeks of one underlying beyond delta, what it is worth, the legs they come from, and targets where there are."""

    underlying: str
    gamma_base_per_px: float | None
    vega_quote_per_vol: float | None
    theta_quote_per_day: float | None
    value_quote: float | None
    legs: tuple[LegState, ...]
    target_gamma_base_per_px: float | None = None
    target_vega_quote_per_vol: float | None = None
    option_plan: str = ""


class GreeksNow(msgspec.Struct, frozen=True):
    """Greeks of every underlying, by leg."""

    taken_ns: int
    underlyings: tuple[UnderlyingGreeks, ...]
    schema_version: int = SCHEMA_VERSION


class Orders(msgspec.Struct, frozen=True):
    """Every order and transaction under way."""

    taken_ns: int
    orders: tuple[OrderLine, ...]
    transactions_now: tuple[dict[str, Any], ...]
    schema_version: int = SCHEMA_VERSION


class Pnl(msgspec.Struct, frozen=True):
    """P&L by part with its total, today's, and that of the book left unhedged."""

    taken_ns: int
    pnl_quote: dict[str, float]
    pnl_now_quote: float | None
    pnl_today_quote: float | None
    unhedged_pnl_quote: float | None
    daily_loss_limit_quote: float | None = None
    schema_version: int = SCHEMA_VERSION


class Venues(msgspec.Struct, frozen=True):
    """Health of every venue and chain, and the age of every stream."""

    taken_ns: int
    venues: tuple[VenueState, ...]
    feeds: tuple[FeedState, ...]
    schema_version: int = SCHEMA_VERSION


class Risk(msgspec.Struct, frozen=True):
    """Margin of every account, and what `status` shows of counterparties, breakers and forecasts."""

    taken_ns: int
    accounts: tuple[AccountState, ...]
    risk: dict[str, Any]
    schema_version: int = SCHEMA_VERSION


class MetersNow(msgspec.Struct, frozen=True):
    """How the daemon itself does."""

    taken_ns: int
    meters: Meters
    schema_version: int = SCHEMA_VERSION


class RecentEvents(msgspec.Struct, frozen=True):
    """The newest events of a vault, oldest first: what a reader that was away for a while has missed."""

    events: tuple[Told, ...]
    schema_version: int = SCHEMA_VERSION


class OpenAlerts(msgspec.Struct, frozen=True):
    """Every open alert of a vault; none is an empty list. Those of the desk itself are of no vault, ""."""

    alerts: tuple[Alert, ...]
    schema_version: int = SCHEMA_VERSION


class Notice(msgspec.Struct, frozen=True):
    """What people were told, and when (wall clock): that an alert opened, is still there, is over or had consequences.

    `word` says which: opened, again, over, escalated, stuck. `why` is why it matters, `note` what was done or was not.
    """

    word: str
    alert: Alert
    why: str
    note: str
    told_ns: int
    schema_version: int = SCHEMA_VERSION


Part = Status | Exposure | GreeksNow | Orders | Pnl | Venues | Risk | MetersNow

PAYLOADS: Final[Mapping[Topic, type[msgspec.Struct]]] = {
    Topic.AVAILABILITY: Availability,
    Topic.STATUS: Status,
    Topic.EXPOSURE: Exposure,
    Topic.GREEKS: GreeksNow,
    Topic.ORDERS: Orders,
    Topic.PNL: Pnl,
    Topic.VENUES: Venues,
    Topic.RISK: Risk,
    Topic.METERS: MetersNow,
    Topic.EVENTS: Told,
    Topic.RECENT: RecentEvents,
    Topic.ALERTS: OpenAlerts,
    Topic.NOTICES: Notice,
    Topic.COMMANDS: SignedCommand,
    Topic.ANSWERS: CommandAnswer,
}


def topic_name(prefix: str, vault: str, topic: Topic) -> str:
    """Return a topic in full; `vault` may be "+" to subscribe to that of all vaults."""
    return f"{prefix}/v{SCHEMA_VERSION}/{vault}/{topic}"


def desk_name(client_id: str) -> str:
    """Return what stands in a vault's place for the desk itself; names of vaults begin otherwise."""
    return f"_{client_id}"


def parse_topic(prefix: str, name: str) -> tuple[str, Topic] | None:
    """Return the vault and the topic of a full name; None for what is none of ours."""
    head, _, rest = name.partition(f"/v{SCHEMA_VERSION}/")
    vault, _, last = rest.partition("/")
    if head != prefix or not vault or last not in _NAMES:
        return None
    return vault, Topic(last)


def split(state: VaultState) -> dict[Topic, Part]:
    """Return a vault's state by topic; `join` puts it together again."""
    whole = {name: getattr(state, name) for name in state.__struct_fields__ if name != "schema_version"}
    parts: dict[Topic, Part] = {}
    for topic in STATE_TOPICS:
        if topic is Topic.EXPOSURE:
            exposures = tuple(_pick(UnderlyingExposure, one) for one in state.underlyings)
            parts[topic] = Exposure(state.taken_ns, exposures)
        elif topic is Topic.GREEKS:
            greeks = tuple(_pick(UnderlyingGreeks, one) for one in state.underlyings)
            parts[topic] = GreeksNow(state.taken_ns, greeks)
        else:
            kind = PAYLOADS[topic]
            fields = {name: whole[name] for name in kind.__struct_fields__ if name in whole}
            parts[topic] = kind(**fields)  # type: ignore[assignment]
    return parts


def join(parts: Mapping[Topic, Part]) -> VaultState | None:
    """Return the state that topics make together; None while one of them is missing.

    Parts need not be of one moment: the state is as of the status, but where a part stays behind, as of that: each is
    written again every few seconds, and one that cannot be read must not look new. An underlying is shown once both of
    its halves are there.
    """
    if any(topic not in parts for topic in STATE_TOPICS):
        return None
    exposure, greeks = parts[Topic.EXPOSURE], parts[Topic.GREEKS]
    assert isinstance(exposure, Exposure)
    assert isinstance(greeks, GreeksNow)
    by_name = {one.underlying: one for one in greeks.underlyings}
    fields: dict[str, Any] = {}
    for topic in STATE_TOPICS:
        if topic not in {Topic.EXPOSURE, Topic.GREEKS, Topic.STATUS}:
            fields |= msgspec.structs.asdict(parts[topic])
    fields |= msgspec.structs.asdict(parts[Topic.STATUS])
    fields["underlyings"] = tuple(
        UnderlyingState(**msgspec.structs.asdict(half) | msgspec.structs.asdict(by_name[half.underlying]))
        for half in exposure.underlyings
        if half.underlying in by_name
    )
    oldest_ns = min(part.taken_ns for part in parts.values())
    if fields["taken_ns"] - oldest_ns > MAX_LAG_NS:
        fields["taken_ns"] = oldest_ns
    return VaultState(**fields)


def encode(payload: msgspec.Struct) -> bytes:
    """Return a payload as it is written: JSON, in which a number that is not finite is null."""
    return msgspec.json.encode(payload)


def decode(topic: Topic, payload: bytes) -> msgspec.Struct:
    """Return what was written to a topic. Raises msgspec.DecodeError for what does not fit its schema."""
    try:
        return msgspec.json.decode(payload, type=PAYLOADS[topic])
    except (UnicodeError, RecursionError) as error:  # text that is no UTF-8, and brackets within brackets
        raise msgspec.DecodeError(str(error)) from None


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of every topic by its name."""
    return {
        topic: {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}
        for topic, kind in PAYLOADS.items()
    }


def _pick(kind: type[_T], whole: msgspec.Struct) -> _T:
    return kind(**{name: getattr(whole, name) for name in kind.__struct_fields__})
