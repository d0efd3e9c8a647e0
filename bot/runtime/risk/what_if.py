"""What an order would do to a vault's risk before it is sent: margin, room, netting, distance, and who would refuse."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from math import floor, inf, isfinite
from typing import Final, NamedTuple

import msgspec

from bot.domain.errors import ConfigError
from bot.domain.risk import SupposedMargin
from bot.domain.units import utc_text
from bot.risk.book import OPTION, Position, build_book
from bot.risk.margin.reported import whole
from bot.risk.netting import Exposure
from bot.risk.repricing import base_deltas
from bot.risk.stress import with_position
from bot.runtime.risk.accounts import Accounts, Marks, Reckoned
from bot.runtime.risk.snapshot import Tradable
from bot.runtime.risk.view import DistanceLine, MarginLine, distances_of, margin_line, netting_of

MOST_TIMES: Final = 1_000_000  # of what is asked for; more than that is taken for no limit
SIDES: Final = {"buy": 1.0, "long": 1.0, "sell": -1.0, "short": -1.0}


class Order(NamedTuple):
    """Signed base units of an instrument."""

    instrument_id: str
    qty_base: float


class Refusal(msgspec.Struct, frozen=True):
    """A rule that would refuse the order, and why."""

    rule: str
    detail: str


class VenueWord(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue itself says it would ask for with the order, and how far the local model is from that."""

    initial_quote: float
    maintenance_quote: float
    initial_difference_share: float
    maintenance_difference_share: float


class Standpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The vault as it is, or would be: margin, distances, net exposure."""

    equity_quote: float
    margin: tuple[MarginLine, ...]
    distances: tuple[DistanceLine, ...]
    exposures: tuple[Exposure, ...]


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """All of one call. `room_base` is the largest size on this side that margin allows, infinite where none is known.

    `cost_quote` is half the spread and the fee, `premium_quote` what is paid (below zero: received) for options.
    """

    vault: str
    as_of: str
    source: str
    notes: tuple[str, ...]
    instrument_id: str
    account: str
    qty_base: float
    px: float
    cost_quote: float
    premium_quote: float
    room_base: float
    before: Standpoint
    after: Standpoint
    refusals: tuple[Refusal, ...]
    venue: VenueWord | None
    venue_silent: str


def parse_order(words: list[str]) -> Order:
    """Return the order in "buy 10 BTC-PERPETUAL" or "-5 BTC-28APR23-30000-C". Raises ConfigError for any other."""
    parts = " ".join(words).split()
    side = SIDES.get(parts[0].lower(), 0.0) if parts else 0.0
    rest = parts[1:] if side else parts
    amount = 0.0
    if len(rest) == 2:
        try:
            amount = float(rest[0])
        except ValueError:
            amount = 0.0
    if not isfinite(amount) or amount == 0.0 or (side and amount < 0.0):
        hint = 'such as "buy 10 BTC-PERPETUAL" or "-5 BTC-28APR23-30000-C", in base units'
        raise ConfigError([f"ORDER: expected a quantity and an instrument, {hint}, found {' '.join(parts)!r}"])
    return Order(rest[1], (side or 1.0) * amount)


def build_what_if(accounts: Accounts, order: Order, told: SupposedMargin | None = None, silent: str = "") -> WhatIf:
    """Return what an order would do. `told` is what the venue itself answered, `silent` why it did not.

    Raises ConfigError for an instrument that has no price, or is of no account.
    """
    snapshot = accounts.snapshot
    tradable = _find(accounts, order.instrument_id)
    account = accounts.of.get(tradable.position.account)
    if account is None or account.now.unknown:
        why = account.now.unknown if account is not None else "no margin is reckoned there"
        where = tradable.position.account
        raise ConfigError([f"ORDER: expected an account whose margin is known, found {where}: {why}"])
    lots = floor(abs(order.qty_base) / tradable.lot_base + 1e-9)
    if not lots:
        least = f"at least a lot of {tradable.lot_base:.6g}"
        raise ConfigError([f"ORDER: expected {least} of {order.instrument_id}, found {order.qty_base:g}"])
    qty = lots * tradable.lot_base * (1.0 if order.qty_base > 0.0 else -1.0)
    position = msgspec.structs.replace(tradable.position, qty_base=qty)
    cost = abs(qty) * tradable.cost_px
    premium = qty * _px(tradable) if position.kind == OPTION else 0.0
    moved = accounts.with_order(position, cost, _counts(account, position) - premium)
    after = moved.of[account.now.name]
    before = _stand(accounts)
    return WhatIf(
        vault=snapshot.vault,
        as_of=utc_text(snapshot.now_ns),
        source=snapshot.source,
        notes=snapshot.notes,
        instrument_id=order.instrument_id,
        account=account.now.name,
        qty_base=qty,
        px=_px(tradable),
        cost_quote=cost,
        premium_quote=premium,
        room_base=room_of(accounts, account, tradable, 1.0 if qty > 0.0 else -1.0, abs(qty)),
        before=before,
        after=_stand(moved, {name: lines for name, lines in _by_account(before).items() if name != account.now.name}),
        refusals=tuple(_refusals(accounts, account, after, tradable, qty)),
        venue=_venue_word(told, after),
        venue_silent=silent,
    )


def room_of(accounts: Accounts, one: Reckoned, tradable: Tradable, side: float, size_base: float) -> float:
    """Return the largest size on a side that breaks no bound of margin, or none further than it is broken now."""
    unit = tradable.position
    now = one.marks(one.book)

    def fits(base: float) -> bool:
        position = msgspec.structs.replace(unit, qty_base=side * base)
        asked = one.marks(with_position(one.book, position))
        worth = side * base * _px(tradable) if unit.kind == OPTION else 0.0
        equity = one.now.equity_quote - base * tradable.cost_px + _counts(one, position) - worth
        return not _broken(accounts, one, now, asked, equity)

    low, high = 0, max(1, round(size_base / tradable.lot_base))  # in lots: the largest that fits, and one that may not
    most = high * MOST_TIMES
    while fits(high * tradable.lot_base):
        low, high = high, 4 * high
        if high > most:
            return inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * tradable.lot_base) else (low, middle)
    return low * tradable.lot_base


def _find(accounts: Accounts, name: str) -> Tradable:
    for one in accounts.snapshot.tradables:
        if one.position.instrument_id == name:
            return one
    known = [one.position.instrument_id for one in accounts.snapshot.tradables]
    known += [one.instrument_id for one in accounts.positions]
    nearest = get_close_matches(name, known, n=1)
    hint = f"; hint: did you mean {nearest[0]}?" if nearest else ""
    raise ConfigError([f"ORDER: expected an instrument that has a price now, found none of {name}{hint}"])


def _px(tradable: Tradable) -> float:
    return tradable.position.mark_px or 0.0


def _counts(one: Reckoned, position: Position) -> float:
    """Return by how much equity changes for what options at an account are worth with a position more."""
    if position.kind != OPTION:
        return 0.0
    rows = one.book.is_option
    before = float((one.book.qty_base[rows] * one.book.mark_px[rows]).sum())
    after = before + position.qty_base * (position.mark_px or 0.0)
    if one.now.counts_long_options:
        return after - before
    return min(0.0, after) - min(0.0, before)


def _stand(accounts: Accounts, known: Mapping[str, list[DistanceLine]] | None = None) -> Standpoint:
    """Return how the vault stands; `known` are distances of accounts that are as they were."""
    held = [one for one in accounts.of.values() if not one.now.unknown]
    told = known or {}
    distances = [line for one in held for line in told.get(one.now.name) or distances_of(accounts, one)]
    return Standpoint(
        equity_quote=accounts.equity_quote,
        margin=tuple(margin_line(accounts, one) for one in held),
        distances=tuple(distances),
        exposures=netting_of(accounts).exposures,
    )


def _by_account(stand: Standpoint) -> dict[str, list[DistanceLine]]:
    found: dict[str, list[DistanceLine]] = {}
    for line in stand.distances:
        found.setdefault(line.account, []).append(line)
    return found


def _refusals(
    accounts: Accounts, before: Reckoned, after: Reckoned, tradable: Tradable, qty_base: float
) -> list[Refusal]:
    """Return every rule of the vault that would refuse the order."""
    found = []
    vault = accounts.vault
    worth = abs(qty_base) * _px(tradable)
    if worth > vault.limits.max_order_quote:
        found.append(Refusal("max_order_quote", f"worth {worth:,.0f}, limit {vault.limits.max_order_quote:,.0f}"))
    if abs(qty_base) > tradable.max_order_base:
        found.append(Refusal("max_order_base", f"{abs(qty_base):,.6g}, limit {tradable.max_order_base:,.6g}"))
    venue = before.now.name
    if venue in vault.venue_limits and tradable.position.kind != OPTION:
        held = _hedge_exposure(accounts, venue, tradable, qty_base)
        if held > vault.venue_limits[venue]:
            found.append(Refusal("venue_limits", f"{held:,.0f} at {venue}, limit {vault.venue_limits[venue]:,.0f}"))
    if tradable.is_stale:
        found.append(Refusal("stale", f"the newest price of {tradable.position.instrument_id} is too old to trade on"))
    found += _margin_refusals(accounts, before, after)
    adds = abs(_net(accounts, tradable) + _delta(accounts, tradable, qty_base)) > abs(_net(accounts, tradable))
    subjects = {tradable.position.underlying, venue, tradable.position.instrument_id, ""}
    for one in accounts.snapshot.breakers or ():
        if adds and one.subject in subjects:
            found.append(Refusal(f"breaker {one.breaker}", one.reason))
    return found


def _margin_refusals(accounts: Accounts, before: Reckoned, after: Reckoned) -> list[Refusal]:
    now = before.now
    found = _broken(accounts, before, before.marks(before.book), after.marks(after.book), after.now.equity_quote)
    if not found:
        return []
    told = f"initial margin {before.figures.initial:,.0f} would be {after.figures.initial:,.0f}"
    if not now.may_add:
        return [Refusal("margin_state", f"{now.name} is {now.banned or now.state}: only what releases margin; {told}")]
    return [Refusal("margin_limit", one) for one in found]


def _broken(accounts: Accounts, one: Reckoned, now: Marks, asked: Marks, equity_quote: float) -> list[str]:
    """Return which bounds of the engine margin would be beyond, each in a sentence; what is no worse than now is not.

    They are those of `MarginKeeper.room`: initial margin, utilisation clear of CRITICAL, and what is left after the
    move that an account should live through.
    """
    rules, ratio = accounts.settings, one.now.liquidation_ratio
    most_ratio = rules.states.critical_ratio - rules.states.hysteresis_ratio
    bounds = Marks(rules.max_initial_ratio * equity_quote, most_ratio * ratio * equity_quote, equity_quote)
    if not one.now.may_add:
        bounds = Marks(-inf, -inf, -inf)
    where = one.now.name
    share = f"{rules.max_initial_ratio:.0%} of equity {equity_quote:,.0f}"
    initial = f"initial margin {now.initial:,.0f} would be {asked.initial:,.0f} at {where}"
    maintenance = f"maintenance margin {now.maintenance:,.0f} would be {asked.maintenance:,.0f} at {where}"
    move = f"a move of {one.now.safe_move:.1%} before {where} could be topped up asks for {asked.at_risk:,.0f} there"
    words = (
        f"{initial}, limit {bounds.initial:,.0f} ({share})",
        f"{maintenance}, limit {bounds.maintenance:,.0f} (utilisation {most_ratio:.0%})",
        f"{move}, limit {bounds.at_risk:,.0f} (its equity)",
    )
    found = []
    for text, before, after, bound in zip(words, now, asked, bounds, strict=True):
        most = max(before, bound)
        if after > most + 1e-9 * abs(most):
            found.append(text)
    return found


def _hedge_exposure(accounts: Accounts, venue: str, tradable: Tradable, qty_base: float) -> float:
    held = {one.position.instrument_id for one in accounts.snapshot.tradables if one.is_hedge}
    sizes = {
        one.instrument_id: one.qty_base * (one.mark_px or 0.0)
        for one in accounts.positions
        if one.account == venue and one.instrument_id in held
    }
    name = tradable.position.instrument_id
    sizes[name] = sizes.get(name, 0.0) + qty_base * _px(tradable)
    return sum(abs(one) for one in sizes.values())


def _net(accounts: Accounts, tradable: Tradable) -> float:
    name = tradable.position.underlying
    found = next((one for one in netting_of(accounts).exposures if one.underlying == name), None)
    return (found.net_base if found is not None else 0.0) - accounts.snapshot.targets_base.get(name, 0.0)


def _delta(accounts: Accounts, tradable: Tradable, qty_base: float) -> float:
    """Return what an order adds to net delta."""
    position = msgspec.structs.replace(tradable.position, qty_base=qty_base)
    return float(base_deltas(build_book([position], accounts.spot_px)).sum())


def _venue_word(told: SupposedMargin | None, after: Reckoned) -> VenueWord | None:
    found = whole(told.margins) if told is not None else None
    if found is None:
        return None
    local = after.local
    return VenueWord(
        initial_quote=found.initial_quote,
        maintenance_quote=found.maintenance_quote,
        initial_difference_share=local.initial / found.initial_quote - 1.0 if found.initial_quote else inf,
        maintenance_difference_share=local.maintenance / found.maintenance_quote - 1.0
        if found.maintenance_quote
        else inf,
    )
