"""The figures of `evenkeel risk`: margin by account, netting, distances, counterparties, forecasts, what applies."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite, nan, sqrt
from typing import Any, Final

import msgspec
import numpy as np

from bot.domain.units import BPS, utc_text
from bot.engine.margin.risk_settings import BufferSettings
from bot.risk.asset_classes import Resolved
from bot.risk.book import RiskBook
from bot.risk.breakers import Tripped
from bot.risk.counterparties import (
    Action,
    CounterpartyParameters,
    Exposure,
    HedgeLost,
    Party,
    PartyRisk,
    judge,
    score_of,
    with_transfers,
)
from bot.risk.distances import Distance, measure_distance
from bot.risk.margin.registry import MODELS, evaluate
from bot.risk.margin_modes import AccountModes, Mode, compare_capital, compare_modes, isolated
from bot.risk.netting import Netted, NettingParameters, net_exposure
from bot.risk.parameters import ParameterSet
from bot.risk.predictive import TargetRule, look_ahead_by_repricing, set_target
from bot.risk.requirement import Charge, Requirement
from bot.risk.sensitivities import linear_base
from bot.risk.stress import decode_scenarios, play
from bot.risk.volatility.forecaster import VolForecast
from bot.risk.volatility.measures import HOURS_PER_YEAR
from bot.runtime.configuration.margin_parameters import HOUSE, carried_sets
from bot.runtime.configuration.volatility import load_artefact
from bot.runtime.risk.accounts import MONEYS, Accounts, Reckoned, without_moneys

VOL_SHIFT_FRACTION: Final = 0.10  # distances are also measured with vols so much lower and higher
MANY_ROWS: Final = 300  # of larger books distances are measured at today's vols alone
ISOLATED_ROWS: Final = 60  # and what every position would need alone is not worked out


class MarginLine(msgspec.Struct, frozen=True, kw_only=True):
    """Margin of one account in quote money. `by` says whose figure it is, the venue's or the model's.

    `difference_share` is the model's maintenance margin over the venue's, less 1; NaN where the venue does not tell.
    `room_quote` is what hedges may still add to initial margin, `utilisation_ratio` 1 where the venue liquidates.
    """

    account: str
    model: str
    parameters: str
    as_of: str
    by: str
    equity_quote: float
    initial_quote: float
    maintenance_quote: float
    model_initial_quote: float
    model_maintenance_quote: float
    difference_share: float
    utilisation_ratio: float
    free_quote: float
    room_quote: float
    state: str
    reason: str
    charges: tuple[Charge, ...]
    worst: str
    posted: dict[str, float]
    banned: str
    doubts: tuple[str, ...]


class DistanceLine(msgspec.Struct, frozen=True, kw_only=True):
    """How far one account is from liquidation as one underlying moves, "all" as all of them do by the same share."""

    account: str
    underlying: str
    spot_px: float
    vol: float
    vol_source: str
    delay_s: float
    distance: Distance


class BufferLine(msgspec.Struct, frozen=True, kw_only=True):
    """Equity per maintenance margin an account should have, and what a bad move until the delay leaves of it.

    `should_hold` is what the engine itself makes of it, in words, "" where it looks after none.
    """

    account: str
    target_ratio: float
    ratio: float
    ratio_after: float
    move_fraction: float
    topup_quote: float
    reason: str
    should_hold: str
    degraded: str


class CapitalLine(msgspec.Struct, frozen=True, kw_only=True):
    """What all accounts need apart, each in its cheapest mode, against all of it together under the house model."""

    apart_quote: float
    together_quote: float
    charge_quote: float
    saved_quote: float
    saved_fraction: float
    verdict: str


class RiskView(msgspec.Struct, frozen=True, kw_only=True):
    """All of one call."""

    vault: str
    as_of: str
    source: str
    notes: tuple[str, ...]
    equity_quote: float
    margin: tuple[MarginLine, ...]
    unknown: dict[str, str]
    netted: Netted
    netting: str
    modes: tuple[AccountModes, ...]
    capital: CapitalLine | None
    distances: tuple[DistanceLine, ...]
    buffers: tuple[BufferLine, ...]
    counterparties: tuple[PartyRisk, ...]
    is_watched: bool
    forecasts: tuple[VolForecast, ...]
    forecast_source: str
    breakers: tuple[Tripped, ...] | None
    insurance: str
    classes: tuple[Resolved, ...]


def build_view(accounts: Accounts) -> RiskView:
    """Return the whole view of a snapshot's accounts."""
    snapshot = accounts.snapshot
    known = {name: one for name, one in accounts.of.items() if not one.now.unknown}
    netting = newest_set("netting")
    netted = netting_of(accounts)
    modes, capital = modes_of(accounts, netted.charge_quote)
    distances = [line for one in known.values() for line in distances_of(accounts, one)]
    return RiskView(
        vault=snapshot.vault,
        as_of=utc_text(snapshot.now_ns),
        source=snapshot.source,
        notes=snapshot.notes,
        equity_quote=accounts.equity_quote,
        margin=tuple(margin_line(accounts, one) for one in known.values()),
        unknown={name: one.now.unknown for name, one in accounts.of.items() if one.now.unknown},
        netted=netted,
        netting=f"{netting.name} of {netting.as_of}",
        modes=modes,
        capital=capital,
        distances=tuple(distances),
        buffers=tuple(buffer_line(accounts, one) for one in known.values()),
        counterparties=counterparties_of(accounts),
        is_watched=bool(snapshot.signs),
        forecasts=tuple(one for told in snapshot.forecasts.values() for one in told),
        forecast_source=snapshot.forecast_source
        if snapshot.forecasts
        else "nobody forecasts: the vols that options are quoted at stand in",
        breakers=snapshot.breakers,
        insurance=snapshot.insurance or "none is kept: the vault has no rule that fills one (risk.insurance)",
        classes=accounts.classes([*snapshot.spot_px, *(asset for one in snapshot.accounts for asset in one.posted)]),
    )


def newest_set(model: str) -> ParameterSet:
    """Return the newest set of a model that is carried. Raises ValueError where there is none."""
    found = carried_sets(model)
    if not found:
        raise ValueError(f"expected a parameter set of {model}, found none")
    return max(found, key=lambda one: (one.as_of, one.name))


def margin_line(accounts: Accounts, one: Reckoned) -> MarginLine:
    """Return the margin of one account."""
    now, figures, local = one.now, one.figures, one.local
    told = now.told
    difference = nan
    if told is not None and told.maintenance_quote > 0.0:
        difference = told.local_maintenance_quote / told.maintenance_quote - 1.0
    ratio = figures.maintenance / now.equity_quote / now.liquidation_ratio if now.equity_quote > 0.0 else inf
    bound = accounts.settings.max_initial_ratio * now.equity_quote
    return MarginLine(
        account=now.name,
        model=now.parameters.model,
        parameters=now.parameters.name,
        as_of=str(now.parameters.as_of),
        by="venue" if told is not None else "model",
        equity_quote=now.equity_quote,
        initial_quote=figures.initial,
        maintenance_quote=figures.maintenance,
        model_initial_quote=local.initial,
        model_maintenance_quote=local.maintenance,
        difference_share=difference,
        utilisation_ratio=ratio if figures.maintenance > 0.0 else 0.0,
        free_quote=now.equity_quote - figures.initial,
        room_quote=max(0.0, bound - figures.initial) if now.may_add else 0.0,
        state=now.state,
        reason=now.reason,
        charges=one.requirement.charges,
        worst=one.requirement.worst,
        posted=now.posted,
        banned=now.banned,
        doubts=tuple(dict.fromkeys((*now.degraded, *one.doubts))),
    )


def netting_of(accounts: Accounts) -> Netted:
    """Return the exposure of everything that is no money, gross and net, with what each offset is charged."""
    parameters = msgspec.convert(newest_set("netting").values, NettingParameters)
    try:
        return net_exposure(without_moneys(accounts.whole), parameters)
    except ValueError as error:
        return Netted((), (), (f"nothing is netted: {error}",))


def modes_of(accounts: Accounts, charge_quote: float) -> tuple[tuple[AccountModes, ...], CapitalLine | None]:
    """Return what each account would need in every mode that its venue offers, and what all of them need together."""
    held = [name for name in accounts.of if len(accounts.of[name].book)]
    modes = {name: offered_modes(accounts.of[name]) for name in held}
    if len(held) < 2:
        return tuple(compare_modes(name, accounts.of[name].book, modes[name]) for name in held), None
    rows = np.isin(accounts.book.account, [accounts.book.accounts.index(name) for name in held])
    capital = compare_capital(accounts.book.where(rows), modes, [_mode_of(HOUSE)], charge_quote)
    return capital.accounts, CapitalLine(
        apart_quote=capital.apart_quote,
        together_quote=capital.together.cheapest.initial_quote,
        charge_quote=charge_quote,
        saved_quote=capital.saved_quote,
        saved_fraction=capital.saved_fraction,
        verdict=capital.verdict,
    )


def offered_modes(one: Reckoned) -> list[Mode]:
    """Return the modes of a venue: every model named after it, else the one the vault judges it by; and isolated."""
    name, own = one.now.name, one.now.parameters
    offered = [model for model in sorted(MODELS) if model == name or model.startswith(f"{name}_")]
    found = [_mode_of(model, own if model == own.model else None) for model in offered or [own.model]]
    if len(one.book) <= ISOLATED_ROWS:
        found.append(isolated("isolated", found[0].requirement))
    return found


def _mode_of(model: str, parameters: ParameterSet | None = None) -> Mode:
    values = (parameters or newest_set(model)).values
    return Mode(model, lambda book: in_quote(evaluate(model, book, values), book))


def in_quote(found: Requirement, book: RiskBook) -> Requirement:
    """Return a requirement in quote money, where a coin's model asks in coin."""
    if found.money not in book.underlyings:
        return found
    initial, maintenance = found.in_quote(float(book.spot_px[book.underlyings.index(found.money)]))
    return msgspec.structs.replace(found, money="quote", initial=initial, maintenance=maintenance)


def distances_of(accounts: Accounts, one: Reckoned) -> list[DistanceLine]:
    """Return how far an account is from liquidation, as each underlying moves alone and as all of them do."""
    held = [one.book.underlyings[number] for number in one.book.held]
    names = [*held, *(["all"] if len(held) > 1 else [])]
    shift = VOL_SHIFT_FRACTION if len(one.book) <= MANY_ROWS else 0.0
    found = []
    for name in names:
        px = 1.0 if name == "all" else accounts.spot_px[name]
        vol, source = vol_of(accounts, held if name == "all" else [name])
        distance = measure_distance(
            one.health(None if name == "all" else name),
            px,
            vol,
            accounts.delay_years,
            one.now.liquidation_ratio,
            shift,
        )
        found.append(
            DistanceLine(
                account=one.now.name,
                underlying=name,
                spot_px=px,
                vol=vol,
                vol_source=source,
                delay_s=accounts.delay_years * HOURS_PER_YEAR * 3600.0,
                distance=distance,
            )
        )
    return found


def vol_of(accounts: Accounts, underlyings: Sequence[str], level: float | None = None) -> tuple[float, str]:
    """Return the vol of the next hours, the largest of several underlyings', and where it comes from.

    The mean of the forecast, or its quantile at `level`; without a forecast what the options are quoted at, weighted by
    their gamma; without options what stands in for the asset's class.
    """
    found = [_vol_of_one(accounts, name, level) for name in underlyings]
    return max(found, key=lambda one: one[0] if isfinite(one[0]) else inf, default=(nan, "unknown"))


def _vol_of_one(accounts: Accounts, underlying: str, level: float | None) -> tuple[float, str]:
    told = accounts.snapshot.forecasts.get(underlying, ())
    later = [one for one in told if one.horizon_years >= accounts.delay_years] or list(told)
    if later:
        one = min(later, key=lambda forecast: forecast.horizon_years)
        return (one.mean_vol if level is None else one.quantile(level)), f"forecast, {one.model}"
    own = accounts.book.of_underlying(underlying)
    rows = np.flatnonzero(own.is_option & (own.vol > 0.0) & (own.tau_years > 0.0))
    if rows.size:
        weight = np.abs(own.qty_base[rows]) / (own.vol[rows] * np.sqrt(own.tau_years[rows]))
        return float(np.average(own.vol[rows], weights=weight if weight.any() else None)), "quoted"
    stands_in = accounts.class_of(underlying).fallback_vol
    return stands_in, "of its asset class"


def buffer_line(accounts: Accounts, one: Reckoned) -> BufferLine:
    """Return what an account should have and what a bad move until a transfer has arrived leaves it (predictive)."""
    held = [one.book.underlyings[number] for number in one.book.held]
    vol, source = vol_of(accounts, held, 0.95) if held else (nan, "nothing held")
    artefact, _ = load_artefact()
    usual = [artefact.usual.get(name, nan) for name in held] if artefact is not None else []
    reference = max([sqrt(value * HOURS_PER_YEAR) for value in usual if isfinite(value)], default=nan)
    rules = accounts.settings.buffers or BufferSettings()
    rule = TargetRule(base_ratio=rules.base_ratio, scales="buffer", most_multiple=rules.most_multiple)
    target = set_target(vol, reference, rule=rule)
    outlook = look_ahead_by_repricing(one.health(), vol, accounts.delay_years, target.ratio)
    ratio = one.now.equity_quote / one.figures.maintenance if one.figures.maintenance > 0.0 else inf
    degraded = [outlook.degraded, target.degraded, "" if source.startswith("forecast") else f"vol is {source}"]
    return BufferLine(
        account=one.now.name,
        target_ratio=target.ratio,
        ratio=ratio,
        ratio_after=outlook.ratio,
        move_fraction=outlook.move_fraction,
        topup_quote=outlook.topup_quote,
        reason=target.reason,
        should_hold=one.now.should_hold,
        degraded="; ".join(filter(None, degraded)),
    )


def counterparties_of(accounts: Accounts) -> tuple[PartyRisk, ...]:
    """Return every venue judged: what would be lost there now and in the worst named scenario, its score and limit."""
    snapshot = accounts.snapshot
    parameters = msgspec.convert(newest_set("counterparties").values, CounterpartyParameters)
    results = play(accounts.whole, calm_moneys(accounts), {n: one.terms() for n, one in accounts.of.items()})
    exposures = []
    for name, one in accounts.of.items():
        worth = sum(amount * one.now.px.get(asset, 0.0) for asset, amount in one.now.posted.items())
        pnl = []
        for result in results:
            after = next((line for line in result.accounts if line.account == name), None)
            if after is not None:
                pnl.append(after.pnl_quote + after.coins_after_quote - after.coins_before_quote)
        exposures.append(
            Exposure(
                party=name,
                collateral=worth,
                upnl=one.now.equity_quote - _counted(one) if isfinite(one.now.equity_quote) else 0.0,
                scenario_pnl=tuple(pnl),
                hedges=tuple(_hedges_lost(accounts, one)),
            )
        )
    prices = {asset: px for one in snapshot.accounts for asset, px in one.px.items()}
    lent = [one for one in snapshot.lent if one.asset in prices]
    found = []
    for exposure in with_transfers(exposures, lent, prices):
        now = accounts.of[exposure.party].now if exposure.party in accounts.of else None
        party = Party(name=exposure.party, standing_share=now.standing_share if now is not None else nan)
        signs = snapshot.signs.get(exposure.party)
        score = score_of(party, signs, parameters, snapshot.now_ns)
        before = Action(snapshot.actions.get(exposure.party, Action.NONE))
        interest = signs.open_interest_quote if signs is not None else nan
        found.append(judge(party, exposure, score, accounts.equity_quote, interest, before, parameters))
    return tuple(found)


def _counted(one: Reckoned) -> float:
    """Return what is posted after haircuts: what is more or less of equity is P&L not paid out."""
    total = 0.0
    for asset, amount in one.now.posted.items():
        kept = 1.0 - one.now.haircuts.get(asset, 0.0) if amount > 0.0 else 1.0
        total += amount * one.now.px.get(asset, 0.0) * kept
    return total


def _hedges_lost(accounts: Accounts, one: Reckoned) -> list[HedgeLost]:
    """Return the delta that would be gone with an account, by underlying, and what it costs to have it again."""
    found = []
    for number in one.book.held:
        name = one.book.underlyings[number]
        own = one.book.where(one.book.underlying == number)
        linear = float(linear_base(own)[~own.is_option].sum())
        if not linear:
            continue
        hedges = [t for t in accounts.snapshot.tradables if t.is_hedge and t.position.underlying == name]
        costs = [t.cost_px / px for t in hedges if (px := t.position.mark_px)]
        vol, _ = vol_of(accounts, [name])
        spread = min(costs, default=10.0 * BPS)
        found.append(HedgeLost(linear * accounts.spot_px[name], spread, vol, accounts.delay_years))
    return found


def calm_moneys(accounts: Accounts) -> tuple[Any, ...]:
    """Return the named scenarios; a dollar that one of them does not name stays where it is."""
    found = []
    for one in decode_scenarios(newest_set("stress")):
        moves = {name: 0.0 for name in accounts.whole.underlyings if name in MONEYS} | one.moves
        found.append(msgspec.structs.replace(one, moves=moves))
    return tuple(found)


def plain(value: object) -> Any:  # noqa: ANN401 — anything JSON holds
    """Return what JSON can hold of structs, with null for what is no finite number."""
    return _finite(msgspec.to_builtins(value))


def _finite(value: Any) -> Any:  # noqa: ANN401 — anything JSON holds
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
