"""The `risk` of a vault file against the rest of it, and as the engine takes it: every name must mean something."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan
from pathlib import Path
from typing import Final

import msgspec

from bot.domain.risk import MarginState
from bot.domain.units import NS_PER_S
from bot.engine.margin.risk_settings import (
    AccountRiskSettings,
    BufferSettings,
    CollateralRules,
    CounterpartyRules,
    ForecastSettings,
    RiskSettings,
)
from bot.risk.breakers import BreakerRule
from bot.risk.buffer import BufferRule
from bot.risk.conditions import ConditionParameters
from bot.risk.counterparties import CounterpartyParameters, Party, PartyKind
from bot.risk.drain import DrainRules
from bot.risk.margin.registry import MODELS, decode_values
from bot.risk.margin_states import StateRule
from bot.risk.parameters import ParameterSet, decode_parameters
from bot.risk.stress import StressScenario, decode_scenarios
from bot.risk.transfers import Route, TransferRules
from bot.risk.volatility.artefact import Artefact
from bot.runtime.configuration.margin_parameters import carried_sets
from bot.runtime.configuration.risk_classes import check_classes, class_table
from bot.runtime.configuration.risk_sections import AccountRiskSection, CollateralSection, InsuranceSection, RiskSection
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.volatility import load_artefact
from bot.runtime.configuration.yaml_source import Location, YamlSource

CONDITIONS: Final = "conditions"
MANUAL: Final = "see docs/configuration.md"
_SHARES: Final = {"equity_share", "equity_share_unknown", "open_interest_share", "group_share"}


def check_risk(source: YamlSource, vault: Vault, venues: Iterable[str]) -> None:
    """Report every name under `risk` that means nothing; `venues` are those of the book and of the hedges."""
    section = vault.risk
    if section is None:
        return
    known = sorted(set(venues))
    for name, account in section.accounts.items():
        place: Location = ("risk", "accounts", name)
        if known and name not in known:
            source.report(place, " or ".join(known), name, "the venues of the book and of the hedges have accounts")
        if account.model not in MODELS:
            source.report((*place, "model"), f"one of {', '.join(sorted(MODELS))}", account.model, MANUAL)
            continue
        try:
            find_parameters(account)
        except ValueError as error:
            at = (*place, "parameters") if source.has((*place, "parameters")) else place
            source.relay(at, f"{error}; hint: {MANUAL}")
        if vault.mode == "paper" and not account.collateral and (len(section.accounts) > 1 or not vault.fixed_cash):
            source.report(place, "the key collateral", "none", "on paper no account tells: state what is posted there")
    try:
        find_conditions(section)
    except ValueError as error:
        source.relay(("risk", "conditions"), f"{error}; hint: {MANUAL}")
    _check_series(source, vault, section)
    _check_transfers(source, vault, section)
    _check_counterparties(source, vault, section)
    check_classes(source, section.asset_classes)
    if section.collateral is not None:
        _check_collateral(source, section, section.collateral)


def _check_series(source: YamlSource, vault: Vault, section: RiskSection) -> None:
    names: set[str] = set()
    for index, line in enumerate(section.series):
        place: Location = ("risk", "series", index)
        if line.kind != "stablecoins" and not line.of:
            source.report(place, "of, the id of the series or the currency", "none", MANUAL)
        if line.kind in ("funding", "open_interest") and not (line.symbol and line.venue in vault.venues):
            hint = "it is read of a venue of the vault, by its symbol there"
            source.report(place, f"a symbol and a venue of {', '.join(vault.venues) or 'a live feed'}", "none", hint)
        if line.name in names:
            source.report(place, "each series once", line.name, "name each source once")
        names.add(line.name)


def _check_transfers(source: YamlSource, vault: Vault, section: RiskSection) -> None:
    seen: set[tuple[str, str, str, str]] = set()
    owners: dict[str, str] = {}  # label of an address → whose it is
    for index, line in enumerate(section.transfers.routes):
        place: Location = ("risk", "transfers", "routes", index)
        least = max(line.min_amount, line.fee)
        if line.max_amount < least or line.max_amount == line.fee:
            hint = "no transfer fits its least and its fee"
            source.report((*place, "max_amount"), f"more than {least:g}", f"{line.max_amount:g}", hint)
        owner = owners.setdefault(line.address_label, line.to_venue)
        if line.address_label and owner != line.to_venue:
            hint = "what is sent there arrives at one of them only; name the address of each"
            source.report((*place, "address_label"), f"an address of {line.to_venue}", f"that of {owner}", hint)
        if line.to_venue not in section.accounts:
            hint = "only an account whose margin is reckoned is topped up"
            source.report((*place, "to_venue"), " or ".join(sorted(section.accounts)), line.to_venue, hint)
        if line.from_venue == line.to_venue:
            source.report((*place, "from_venue"), "another account", line.from_venue, "a transfer goes between two")
        if line.asset not in section.transfers.day_caps:
            hint = "what has no cap a day is never moved"
            source.report((*place, "asset"), f"a cap of {line.asset} under day_caps", "none", hint)
        label, labels = line.address_label, section.transfers.addresses
        if label and label not in labels:
            hint = "only addresses of the vault file are sent to"
            source.report((*place, "address_label"), " or ".join(sorted(labels)) or "an address", label, hint)
        if vault.mode == "live" and bool(label) == bool(line.from_account and line.to_account):
            source.report(place, "either address_label, or from_account and to_account", "neither or both", MANUAL)
        way = (line.asset, line.from_venue, line.to_venue, line.route)
        if way in seen:
            source.report(place, "each route once per asset and pair", "one again", "name networks apart")
        seen.add(way)


def _check_collateral(source: YamlSource, section: RiskSection, plans: CollateralSection) -> None:
    place: Location = ("risk", "collateral")
    routes = section.transfers.routes
    if not routes:
        source.report(place, "routes under transfers", "none", "a plan moves collateral over those and no others")
    named = {one.name for one in stress_scenarios()}
    for index, name in enumerate(plans.scenarios):
        if name not in named:
            source.report((*place, "scenarios", index), f"one of {', '.join(sorted(named))}", name, MANUAL)
    if not (plans.moves or plans.scenarios):
        source.report((*place, "moves"), "moves or scenarios", "neither", "a plan needs something to be ready for")
    origins = {one.from_venue for one in routes} - section.accounts.keys()
    for wallet in plans.wallets:
        if wallet not in origins:
            hint = "what lies where no route leaves from cannot be moved"
            source.report((*place, "wallets", wallet), " or ".join(sorted(origins)) or "a wallet", wallet, hint)
    known = {*section.accounts, *origins, *(one.bridge or one.route for one in routes), *(one.asset for one in routes)}
    known |= {asset for one in section.accounts.values() for asset in one.collateral}
    for name in plans.caps:
        if name not in known:
            source.report((*place, "caps", name), " or ".join(sorted(known)), name, MANUAL)


def stress_scenarios() -> tuple[StressScenario, ...]:
    """Return the named scenarios that are carried, the newest set of them."""
    carried = carried_sets("stress")
    return decode_scenarios(max(carried, key=_age_of)) if carried else ()


def _check_counterparties(source: YamlSource, vault: Vault, section: RiskSection) -> None:
    parties = section.counterparties
    if parties is None:
        return
    place: Location = ("risk", "counterparties")
    try:
        find_counterparties(section)
    except ValueError as error:
        source.relay((*place, "parameters") if parties.parameters else place, f"{error}; hint: {MANUAL}")
    if vault.is_live_feed and not section.watch_counterparties:
        hint = "whom nobody watches nothing is known of"
        source.report(place, "the key watch_counterparties: true", "false", hint)
    known = {
        "venue": set(section.accounts),
        "bridge": {line.bridge for line in section.transfers.routes if line.bridge},
    }
    issuer_of: dict[str, str] = {}
    for name, party in parties.parties.items():
        at: Location = (*place, "parties", name)
        names = known.get(party.kind)
        if names is not None and name not in names:
            hint = "a venue has an account under risk.accounts, a bridge a route under risk.transfers"
            source.report(at, " or ".join(sorted(names)) or f"a {party.kind} of the vault", name, hint)
        if bool(party.assets) != (party.kind == "issuer"):
            expected = "the assets it owes" if party.kind == "issuer" else "no assets"
            found = ", ".join(party.assets) or "none"
            source.report((*at, "assets") if party.assets else at, expected, found, "only issuers owe assets")
        for asset in party.assets:
            if asset in issuer_of:
                source.report((*at, "assets"), f"one issuer of {asset}", f"{issuer_of[asset]} and {name}", MANUAL)
            issuer_of[asset] = name


def build_risk(vault: Vault) -> RiskSettings | None:
    """Return what a vault says of margin as the engine takes it, None where it says nothing.

    Raises ValueError where a parameter set is missing or cannot be used.
    """
    section = vault.risk
    if section is None:
        return None
    states = section.states
    artefact, reason = find_artefact(section)
    accounts = {}
    for name, account in section.accounts.items():
        is_all = len(section.accounts) == 1 and not account.collateral
        accounts[name] = AccountRiskSettings(
            model=account.model,
            parameters=find_parameters(account),
            collateral=dict(vault.fixed_cash) if is_all else dict(account.collateral),
            haircut_share=dict(account.haircuts),
            liquidation_ratio=account.liquidation_ratio,
            counts_long_options=account.counts_long_options,
            standing_share=nan if account.standing_share is None else account.standing_share,
        )
    return RiskSettings(
        accounts=accounts,
        states=StateRule(**states.model_dump(exclude={"step_up_s"}), step_up_ns=_ns(states.step_up_s)),
        transfers=TransferRules(
            routes=tuple(
                Route(
                    name=line.route,
                    p95_ns=_ns(line.p95_s),
                    reversible_ns=_ns(line.reversible_s),
                    **line.model_dump(exclude={"route", "p95_s", "reversible_s", "from_account", "to_account"}),
                )
                for line in section.transfers.routes
            ),
            day_caps=dict(section.transfers.day_caps),
        ),
        counterparties=find_counterparties(section),
        counterparty_rules=_counterparty_rules(vault, section),
        forecast=ForecastSettings(
            artefact=artefact,
            reason=reason,
            conditions=find_conditions(section),
            usual_vol=dict(section.buffers.usual_vols),
        ),
        buffers=BufferSettings(**section.buffers.model_dump(exclude={"enabled", "usual_vols"}))
        if section.buffers.enabled
        else None,
        breakers=BreakerRule() if section.breakers else None,
        classes=class_table(vault),
        insurance=_insurance(section.insurance),
        max_initial_ratio=section.max_initial_ratio,
        local_margin_share=section.local_margin_share,
        review_ns=_ns(section.review_s),
        review_move_fraction=section.review_move_fraction,
        report_max_age_ns=_ns(section.report_max_age_s),
        target_ratio=section.target_ratio,
        slice_share=section.slice_share,
        collateral=_collateral(section.collateral) if section.collateral is not None else None,
    )


def _collateral(plans: CollateralSection) -> CollateralRules:
    by_name = {one.name: one for one in stress_scenarios()}
    return CollateralRules(
        plan_ns=_ns(plans.plan_s),
        hold_years=plans.hold_days / 365.0,
        scenarios=tuple(by_name[name] for name in plans.scenarios if name in by_name),
        **plans.model_dump(exclude={"plan_s", "hold_days", "scenarios"}),
    )


def find_parameters(account: AccountRiskSection) -> ParameterSet:
    """Return the parameter set of an account: the file or the set it names, else the newest set of its model.

    Raises ValueError, in one sentence, where there is none or its model cannot use it.
    """
    found = _find_set(account.model, account.parameters)
    decode_values(found.model, found.values)
    return found


def find_artefact(section: RiskSection) -> tuple[Artefact | None, str]:
    """Return the models that forecast vol, or none and why; none to be believed is no error, and is told."""
    if section.forecast == "none":
        return None, "the vault asks for none"
    return load_artefact(None if section.forecast == "bundled" else Path(section.forecast))


def find_conditions(section: RiskSection) -> ConditionParameters | None:
    """Return the rules that read the series of a vault, None where it reads none.

    Raises ValueError, in one sentence, where the set it names is none, or reads no series of the vault.
    """
    if not section.series:
        return None
    found = _find_set(CONDITIONS, section.conditions)
    try:
        values = msgspec.convert(found.values, ConditionParameters, strict=True)
    except msgspec.ValidationError as error:
        raise ValueError(f"expected conditions in {found.name}, found {error}") from None
    names = {line.name for line in section.series}
    rules = tuple(rule for rule in values.rules if rule.series in names)
    if not rules and section.conditions:
        known = ", ".join(dict.fromkeys(rule.series for rule in values.rules))
        raise ValueError(f"expected a series that {found.name} reads ({known}), found {', '.join(sorted(names))}")
    return msgspec.structs.replace(values, rules=rules)


def _find_set(model: str, named: str) -> ParameterSet:
    """Return the set of a model that a file or a name gives, else the newest one that is carried."""
    if named.endswith(".json"):
        try:
            found = decode_parameters(Path(named).read_bytes())
        except OSError as error:
            raise ValueError(f"expected a readable parameter file, found {error.strerror}: {named}") from None
    else:
        carried = [one for one in carried_sets(model) if named in ("", one.name)]
        if not carried:
            names = ", ".join(sorted(one.name for one in carried_sets(model))) or "none"
            raise ValueError(f"expected a parameter set of model {model} ({names}), found {named or 'none'}")
        found = max(carried, key=_age_of)
    if found.model != model:
        raise ValueError(f"expected parameters of model {model}, found {found.name} of {found.model}")
    return found


def _insurance(section: InsuranceSection | None) -> BufferRule | None:
    """Return by what rule an insurance buffer is filled and drawn, None where none is kept."""
    if section is None:
        return None
    draws = {MarginState(state): share for state, share in section.draws.items() if share > 0.0}
    return BufferRule(full_quote=section.full_quote, share_of_gains=section.share_of_gains, draws=draws)


def find_counterparties(section: RiskSection) -> CounterpartyParameters:
    """Return how parties are judged: the set a vault names, else the newest one, with the vault's own shares.

    Raises ValueError, in one sentence, where there is none or it cannot be used.
    """
    own = section.counterparties
    found = _find_set("counterparties", own.parameters if own is not None else "")
    try:
        parameters = msgspec.convert(found.values, CounterpartyParameters)
    except msgspec.ValidationError as error:
        raise ValueError(f"expected usable parameters in {found.name}, found {error}") from None
    if own is None:
        return parameters
    shares = own.model_dump(include=_SHARES, exclude_none=True)
    factor = (own.equity_share or parameters.equity_share) / parameters.equity_share
    by_score = tuple((points, min(1.0, factor * share)) for points, share in parameters.score_share)
    return msgspec.structs.replace(parameters, score_share=by_score, **shares)


def _counterparty_rules(vault: Vault, section: RiskSection) -> CounterpartyRules:
    own = section.counterparties
    is_watched = section.watch_counterparties and vault.is_live_feed
    if own is None:
        return CounterpartyRules(is_watched=is_watched)
    drain = own.drain
    parameters = find_counterparties(section)
    return CounterpartyRules(
        parties=tuple(
            Party(
                name=name,
                kind=PartyKind(one.kind),
                group=one.group,
                standing_share=nan if one.standing_share is None else one.standing_share,
                loss_given_default=nan if one.loss_given_default is None else one.loss_given_default,
            )
            for name, one in own.parties.items()
        ),
        issuers={asset: name for name, one in own.parties.items() for asset in one.assets},
        is_limiting=True,
        is_watched=is_watched,
        stress_moves=own.stress_moves,
        rehedge_ns=_ns(own.rehedge_s),
        drain=DrainRules(
            rungs=drain.rungs,
            chains_at_once=drain.chains_at_once,
            hedge_share=drain.hedge_share,
            hedge_tolerance_quote=drain.hedge_tolerance_quote,
            close_share=drain.close_share,
            dust_quote=drain.dust_quote,
            hedge_patience_ns=_ns(drain.hedge_patience_s),
            cancel_patience_ns=_ns(drain.cancel_patience_s),
            retry_ns=_ns(drain.retry_s),
            give_up_ns=_ns(drain.give_up_s),
            loss_given_default=parameters.loss_given_default,
        ),
    )


def _age_of(one: ParameterSet) -> tuple[str, str]:
    return one.as_of.isoformat(), one.name


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
