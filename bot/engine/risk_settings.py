"""Margin and collateral of a vault as the engine takes them: which model each account has, and what is done when."""

from __future__ import annotations

from math import nan

import msgspec

from bot.domain.units import NS_PER_S
from bot.risk.asset_classes import ClassParameters, ClassTable
from bot.risk.breakers import BreakerRule
from bot.risk.buffer import BufferRule
from bot.risk.counterparties import CounterpartyParameters
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


class RiskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine knows of margin: nothing where a vault has no risk section.

    No hedge may bring initial margin above `max_initial_ratio` of equity (C23). What the local model alone says a
    change adds is raised by `local_margin_share`, and once more where its parameters have expired. Accounts are looked
    at every `review_ns`, sooner after an index moved by `review_move_fraction` or anything traded there. Top-ups aim at
    `target_ratio` of utilisation; what is reduced goes in steps of
    `slice_share` of a position. Venues are judged by `counterparties` as soon as they show signs. A venue's own word
    older than `report_max_age_ns` is no longer taken. Vol is forecast by the models of `volatility`; without them, for
    `volatility_reason`, by what was measured lately. `classes` say by asset what is neither the account's nor the
    vault's own figure: its haircut, its bands, its breakers, how its vol is forecast. A `buffer` is kept out of gains.
    With `collateral` what is moved is planned ahead; without it, or without a plan, by rule.
    """

    accounts: dict[str, AccountRiskSettings]
    states: StateRule = StateRule()
    transfers: TransferRules = TransferRules(routes=(), day_caps={})
    counterparties: CounterpartyParameters | None = None
    volatility: Artefact | None = None
    volatility_reason: str = ""
    classes: ClassTable | None = None
    buffer: BufferRule | None = None
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

    def breaker_rule(self, underlying: str, base: BreakerRule | None = None) -> BreakerRule:
        """Return the limits of an underlying's breakers: those of its class, the rest from `base`."""
        found = self.class_of(underlying)
        return (base or BreakerRule()) if found is None else found.breaker_rule(base)

    def forecaster(self, underlying: str) -> VolForecaster:
        """Return a forecaster of an underlying's vol: by the model of its class, and its usual vol where none is."""
        found = self.class_of(underlying)
        if found is None:
            return VolForecaster(underlying, self.volatility, self.volatility_reason)
        choice = VolChoice(found.vol_model, found.ewma_decay, found.fallback_vol)
        return VolForecaster(underlying, self.volatility, self.volatility_reason, choice)
