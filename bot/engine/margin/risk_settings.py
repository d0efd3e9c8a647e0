"""Margin and collateral of a vault as the engine takes them: which model each account has, and what is done when."""

from __future__ import annotations

from math import nan

import msgspec

from bot.domain.units import NS_PER_S
from bot.risk.asset_classes import AssetClasses, ClassParameters, Overrides, Resolved, resolve
from bot.risk.breakers import BreakerRule
from bot.risk.buffer import BufferRule
from bot.risk.conditions import ConditionParameters
from bot.risk.counterparties import CounterpartyParameters, Party
from bot.risk.drain import DrainRules
from bot.risk.margin_states import StateRule
from bot.risk.parameters import ParameterSet
from bot.risk.stress import StressScenario
from bot.risk.transfers import TransferRules
from bot.risk.volatility.artefact import Artefact
from bot.risk.volatility.forecaster import VolChoice, VolForecaster


class AccountRiskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How margin of one account (a venue) is reckoned, and what is posted there.

    `parameters` are those of `model` as of the start; `MarginTerms` replaces them. `collateral` is currency → amount,
    for feeds that tell no balances; what an account tells goes before it. `haircut_share` is currency → what of its
    worth does not count. At `liquidation_ratio` of maintenance margin to equity the venue liquidates: utilisation is
    measured against that. With `counts_long_options` what options are worth counts as equity even where that is
    positive; a negative worth always counts. `standing_share` is the operator's own judgement of the venue, 1 is best.
    """

    model: str
    parameters: ParameterSet
    collateral: dict[str, float] = {}
    haircut_share: dict[str, float] = {}
    liquidation_ratio: float = 1.0
    counts_long_options: bool = False
    standing_share: float = nan


class CollateralRules(msgspec.Struct, frozen=True, kw_only=True):
    """How collateral is planned ahead: every `plan_ns`, and at once when an account runs short.

    A venue shall hold `buffer_ratio` times its maintenance margin, more while vol is forecast above what is usual,
    and from `needed_by_s` on in every scenario too: spot moved by each of `moves` with vols up by `vol_up_fraction`,
    and those of `scenarios`. What is held costs `yields` (by asset and year) for `hold_years`. `wallets` is what lies
    at no venue, wallet → asset → amount. No asset counts for more than its share of `concentration` at a venue, no
    more than `caps` (in quote money) is at a venue, wallet or bridge or in an asset, and no venue holds more than
    `venue_share` of everything, less where its score is low. Less than `least_quote` is not moved. Without an answer
    for `patience_ns`, top-ups go by rule.
    """

    plan_ns: int = 300 * NS_PER_S
    time_limit_s: float = 1.0
    buffer_ratio: float = 1.25
    needed_by_s: float = 3600.0
    hold_years: float = 30.0 / 365.0
    least_quote: float = 100.0
    moves: tuple[float, ...] = (-0.16, -0.08, 0.08, 0.16)
    vol_up_fraction: float = 0.3
    scenarios: tuple[StressScenario, ...] = ()
    yields: dict[str, float] = {}
    wallets: dict[str, dict[str, float]] = {}
    concentration: dict[str, float] = {}
    caps: dict[str, float] = {}
    venue_share: float | None = None
    patience_ns: int = 30 * NS_PER_S


class ForecastSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who forecasts vol: the models of `artefact`, else, for `reason`, what was measured lately, widened.

    `conditions` are read of the series that a vault asks for, None where it asks for none. `usual_vol` is by underlying
    the yearly vol that buffers count from, where it is not to be the artefact's.
    """

    artefact: Artefact | None = None
    reason: str = ""
    conditions: ConditionParameters | None = None
    usual_vol: dict[str, float] = {}


class BufferSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an account is to hold above its margin, after a bad move until the 95 % transfer delay.

    The target is 1 + (`base_ratio` − 1) × (forecast / usual vol, from 1 to `most_multiple`) × conditions, as equity per
    maintenance margin. Below `trigger_share` of what that needs the account is topped up to all of it.
    """

    base_ratio: float = 1.23
    trigger_share: float = 0.85
    most_multiple: float = 2.0


class ClassSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters by asset class: those of a set, and what the vault sets for itself."""

    classes: AssetClasses
    overrides: Overrides = Overrides()
    name: str = "the set"

    def of(self, asset: str) -> Resolved:
        """Return what applies to an asset."""
        return resolve(asset, self.classes, self.overrides, self.name)


class CounterpartyRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a vault says of those that can fail. `parties` are what is known of them beyond their names.

    `issuers` is asset → who owes it. Without `is_limiting` venues are judged by their signs alone, once they show any;
    with it every venue, issuer and bridge is, and what it may hold is limited. One that nobody watches (`is_watched` is
    of the venues) is limited by the share of equity where something is unknown, and not by a score made of nothing.
    Stressed exposure is the worst after one of `stress_moves` of all prices. A hedge that is lost with its venue takes
    `rehedge_ns` to have again.
    """

    parties: tuple[Party, ...] = ()
    issuers: dict[str, str] = {}
    is_limiting: bool = False
    is_watched: bool = False
    stress_moves: tuple[float, ...] = (-0.3, -0.15, 0.15, 0.3)
    rehedge_ns: int = 300 * NS_PER_S
    drain: DrainRules = DrainRules(rungs=(0.05, 0.25, 1.0), hedge_share=0.5, dust_quote=1.0)


class RiskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine knows of margin: nothing where a vault has no risk section.

    No hedge may bring initial margin above `max_initial_ratio` of equity (C23). What the local model alone says a
    change adds is raised by `local_margin_share`, and once more where its parameters have expired. Accounts are looked
    at every `review_ns`, sooner after an index moved by `review_move_fraction` or anything traded there. Top-ups aim at
    `target_ratio` of utilisation; what is reduced goes in steps of
    `slice_share` of a position. Venues are judged by `counterparties` and the rules of the vault. A venue's own word
    older than `report_max_age_ns` is no longer taken. Without `buffers` nothing is topped up before it is needed,
    without `breakers` none trips. `classes` say by asset what is neither the account's nor the vault's own figure: its
    haircut, its bands, its breakers, how its vol is forecast. With `insurance` a part of gains is kept aside. With
    `collateral` what is moved is planned ahead; without it, or without a plan, by rule.
    """

    accounts: dict[str, AccountRiskSettings]
    states: StateRule = StateRule()
    transfers: TransferRules = TransferRules(routes=(), day_caps={})
    counterparties: CounterpartyParameters | None = None
    counterparty_rules: CounterpartyRules = CounterpartyRules()
    forecast: ForecastSettings = ForecastSettings()
    buffers: BufferSettings | None = BufferSettings()
    breakers: BreakerRule | None = BreakerRule()
    classes: ClassSettings | None = None
    insurance: BufferRule | None = None
    max_initial_ratio: float = 0.9
    local_margin_share: float = 0.25
    review_ns: int = 60 * NS_PER_S
    review_move_fraction: float = 0.002
    report_max_age_ns: int = 120 * NS_PER_S
    target_ratio: float = 0.50
    slice_share: float = 0.10
    collateral: CollateralRules | None = None

    def class_of(self, asset: str) -> ClassParameters | None:
        """Return what applies to an asset by its class, None where nobody said so."""
        return None if self.classes is None else self.classes.of(asset).parameters

    def band_multiple(self, underlying: str) -> float:
        """Return how many times as wide as the policy says the bands of an underlying are."""
        found = self.class_of(underlying)
        return 1.0 if found is None else found.band_multiple

    def forecaster(self, underlying: str) -> VolForecaster:
        """Return a forecaster of an underlying's vol: by the model of its class, and its usual vol where none is."""
        found = self.class_of(underlying)
        artefact, reason = self.forecast.artefact, self.forecast.reason
        if found is None:
            return VolForecaster(underlying, artefact, reason)
        choice = VolChoice(found.vol_model, found.ewma_decay, found.fallback_vol)
        return VolForecaster(underlying, artefact, reason, choice)
