"""Margin and collateral of a vault as the engine takes them: which model each account has, and what is done when."""

from __future__ import annotations

from math import nan

import msgspec

from bot.domain.units import NS_PER_S
from bot.risk.counterparties import CounterpartyParameters, Party
from bot.risk.drain import DrainRules
from bot.risk.margin_states import StateRule
from bot.risk.parameters import ParameterSet
from bot.risk.transfers import TransferRules
from bot.risk.volatility.artefact import Artefact


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
    older than `report_max_age_ns` is no longer taken. Vol is forecast by the models of `volatility`; without them, for
    `volatility_reason`, by what was measured lately.
    """

    accounts: dict[str, AccountRiskSettings]
    states: StateRule = StateRule()
    transfers: TransferRules = TransferRules(routes=(), day_caps={})
    counterparties: CounterpartyParameters | None = None
    counterparty_rules: CounterpartyRules = CounterpartyRules()
    volatility: Artefact | None = None
    volatility_reason: str = ""
    max_initial_ratio: float = 0.9
    local_margin_share: float = 0.25
    review_ns: int = 60 * NS_PER_S
    review_move_fraction: float = 0.002
    report_max_age_ns: int = 120 * NS_PER_S
    target_ratio: float = 0.50
    slice_share: float = 0.10
