"""Vault files → validated vaults, and a vault → what the engine must be told.

Must never write or contact anything, or guess what was meant. Every problem of every file is reported at once, as
`file:line: expected …, found …; hint: …`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from pydantic import ValidationError

from bot.domain.decisions import HedgePolicy
from bot.domain.errors import ConfigError, RecordingError
from bot.domain.instruments import Future, Instrument, Option
from bot.domain.units import BPS, NS_PER_DAY, NS_PER_S
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.settings import (
    Ages,
    BookLeg,
    DeltaSettings,
    EngineSettings,
    FusionSettings,
    HedgeSettings,
    Limits,
    OperatorBounds,
    OptionHedgeSettings,
)
from bot.risk.oracle_fusion import FusionRule
from bot.runtime.configuration.chain_checks import check_chains
from bot.runtime.configuration.chain_sections import FusionSection
from bot.runtime.configuration.risk_checks import build_risk, check_risk
from bot.runtime.configuration.shapes import keys_at, nearest, report_shape, short
from bot.runtime.configuration.simulated_chains import pool_instrument, pool_instruments
from bot.runtime.configuration.vault import AccountCash, AccountLine, OptionHedgesLine, Target, Vault
from bot.runtime.configuration.yaml_source import Location, Value, YamlSource
from bot.simulation.recording import Manifest, open_recording
from strategies import RiskAverse

__all__ = [
    "Vault",
    "build_engine_settings",
    "build_live_settings",
    "check_listing",
    "config_json",
    "config_sha256",
    "load_vaults",
]

GAP_NS: Final = 600 * NS_PER_S
NEEDED_STREAMS: Final = ("vol_quotes", "quotes", "index")
MANUAL: Final = "see docs/configuration.md"
OPTION_VENUES: Final = ("deribit",)  # where options are known to be traded as our orders are made
VENUE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
LATER_SECTIONS: Final = ("operator",)  # than the first journals that are still about
MAX_NAMES: Final = 12  # in one hint
PASSWORD_IN_URL: Final = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def load_vaults(paths: Sequence[Path], *, allow_live: bool = False) -> list[Vault]:
    """Return the validated vaults of these files.

    `allow_live` is the second key that `mode: live` needs. The recordings that vaults name are opened and checked.
    Raises ConfigError with every problem of every file.
    """
    sources = [YamlSource(path) for path in paths]
    manifests = _Manifests()
    vaults = [_check(source, manifests, allow_live=allow_live) for source in sources]
    _refuse_twins(sources)
    if problems := [problem for source in sources for problem in source.problems]:
        raise ConfigError(problems)
    return [vault for vault in vaults if vault is not None]


def check_listing(path: Path, instruments: Sequence[Instrument], now_ns: int, venues: str) -> None:
    """Check every name in a vault file against what its venues list now; `venues` names them for people.

    Raises ConfigError with every name that is unknown, expired or of the wrong kind, as `file:line: …`.
    """
    source = YamlSource(path)
    _check_market(source, _Listing(f"{venues} as listed now", venues, "now", now_ns, tuple(instruments)))
    if source.problems:
        raise ConfigError(source.problems)


def build_engine_settings(vault: Vault, manifest: Manifest) -> EngineSettings:
    """Return the vault as the engine takes it, with the instruments and ages of a recording.

    Raises ConfigError if the recording lacks an instrument or a stream that the vault needs.
    """
    instruments = (*manifest.instruments, *pool_instruments(vault, manifest.instruments))
    _refuse_missing(vault, instruments, manifest.streams, f"recording {manifest.name}")
    ages = Ages(
        vol_ns=_max_age_ns(manifest, "vol_quotes"),
        quote_ns=_max_age_ns(manifest, "quotes"),
        index_ns=_max_age_ns(manifest, "index"),
    )
    run_id = hashlib.sha256(f"{vault.vault}:{vault.seed}".encode()).hexdigest()[:10]
    return _engine_settings(vault, instruments, ages, run_id)


def with_policy(settings: EngineSettings, policy: HedgePolicy) -> EngineSettings:
    """Return the settings with another policy, and what hedges on chains take from it."""
    hedges = {
        base: tuple(
            msgspec.structs.replace(hedge, risk_aversion_per_quote=_risk_aversion_per_quote(policy))
            if hedge.needs_terms
            else hedge
            for hedge in hedges
        )
        for base, hedges in settings.hedges.items()
    }
    return msgspec.structs.replace(settings, policy=policy, hedges=hedges)


def build_live_settings(vault: Vault, instruments: Sequence[Instrument], run_id: str) -> EngineSettings:
    """Return a vault with a live feed as the engine takes it, with the instruments its venues list.

    Raises ConfigError if an instrument that the vault names is not among them.
    """
    _refuse_missing(vault, instruments, NEEDED_STREAMS, "venues")
    ages = Ages(
        vol_ns=_ns(vault.max_age.vol_s), quote_ns=_ns(vault.max_age.quote_s), index_ns=_ns(vault.max_age.index_s)
    )
    settings = _engine_settings(vault, tuple(instruments), ages, run_id)
    settings = msgspec.structs.replace(
        settings,
        fusion=_fusion(vault, settings.hedges),
        chain_venues=frozenset(vault.book_chains),
        chain_max_age_ns=max((_ns(10 * chain.block_s) for chain in vault.chains.values()), default=0),
    )
    if vault.mode == "paper":
        return settings  # no account is ours to be compared with
    timeouts_s = [one.timeout_s for one in vault.venues.values()] + [one.timeout_s for one in vault.chains.values()]
    timeout_ns = _ns(max(timeouts_s))
    return msgspec.structs.replace(
        settings,
        # an answer has its time at the gateway, and as much again before the engine loses patience by itself
        answer_timeout_ns=2 * timeout_ns,
        query_every_ns=min(2 * NS_PER_S, timeout_ns),
        hedges={
            base: tuple(msgspec.structs.replace(hedge, can_amend=_can_amend(vault, hedge)) for hedge in hedges)
            for base, hedges in settings.hedges.items()
        },
        account_venues=frozenset(vault.venues) | {name for name, one in vault.chains.items() if one.wallet is not None},
        account_max_age_ns=_ns(vault.max_age.account_s),
        account_book=frozenset(line.account for line in vault.book if isinstance(line, AccountLine)),
        account_cash=frozenset([vault.cash.account] if isinstance(vault.cash, AccountCash) else []),
        foreign_policy=vault.foreign,
    )


def _fusion(vault: Vault, underlyings: Iterable[str]) -> dict[str, FusionSettings]:
    """Return how prices are fused: wherever a chain has oracles, or the vault says how."""
    section = vault.fusion
    if section is None:
        if not any(chain.oracles for chain in vault.chains.values()):
            return {}
        section = FusionSection()
    rule = FusionRule(
        min_live=section.min_sources,
        min_kept=section.min_sources,
        max_deviation_fraction=section.outlier_bps * BPS,
        reduce_spread_fraction=section.divergence_bps * BPS,
        halt_spread_fraction=section.stop_bps * BPS,
    )
    one = FusionSettings(index_max_age_ns=_ns(vault.max_age.index_s), rule=rule)
    return dict.fromkeys(underlyings, one)


def _can_amend(vault: Vault, hedge: HedgeSettings) -> bool:
    from bot.gateways.venue_words import order_words_of  # noqa: PLC0415 — a second of start-up, for live vaults only

    venue = hedge.instrument.venue
    if venue in vault.chains:
        return False  # a transaction is what it is
    return order_words_of(vault.venues[venue].exchange or venue).can_amend


def _engine_settings(vault: Vault, instruments: tuple[Instrument, ...], ages: Ages, run_id: str) -> EngineSettings:
    by_id = {instrument.instrument_id: instrument for instrument in instruments}
    hedges = [_hedge_settings(vault, index, by_id) for index in range(len(vault.hedge))]
    limits = vault.limits.model_dump(exclude={"hedge_loop_window_s"})
    return EngineSettings(
        vault=vault.vault,
        run_id=run_id,
        numeraire=vault.numeraire,
        policy=vault.policy,
        book=tuple(BookLeg(by_id[line.instrument], line.qty_base) for line in vault.holdings),
        cash=vault.fixed_cash,
        hedges={
            base: tuple(hedge for hedge in hedges if hedge.instrument.base == base)
            for base in dict.fromkeys(hedge.instrument.base for hedge in hedges)
        },
        universe=instruments,
        limits=Limits(**limits, hedge_loop_window_ns=_ns(vault.limits.hedge_loop_window_s)),
        ages=ages,
        gap_ns=GAP_NS,
        pnl_step_ns=vault.pnl_step_s * NS_PER_S,
        routing=vault.routing,
        venue_limits=dict(vault.venue_limits),
        surface=vault.surface,
        bands=vault.bands,
        delta=DeltaSettings(
            model=vault.delta.model,
            is_gated=vault.delta.gate == "significant",
            is_watched=vault.delta.watch == "always",
            every_ns=_ns(vault.delta.every_s),
            window=vault.delta.window,
        ),
        option_hedges={line.underlying: _option_hedges(vault, line) for line in vault.option_hedges},
        risk=_risk(vault),
        operator={name: OperatorBounds(**one.model_dump()) for name, one in vault.operator.items()},
    )


def _risk(vault: Vault) -> RiskSettings | None:
    try:
        return build_risk(vault)
    except ValueError as error:
        raise ConfigError([f"vault {vault.vault}: {error}; hint: {MANUAL}"]) from None


def _option_hedges(vault: Vault, line: OptionHedgesLine) -> OptionHedgeSettings:
    terms = line.model_dump(exclude={"underlying", "min_days", "max_days", "review_s", "max_order_quote"})
    return OptionHedgeSettings(
        **terms,
        max_order_quote=line.max_order_quote or vault.limits.max_order_quote,
        min_ns=round(line.min_days * NS_PER_DAY),
        max_ns=round(line.max_days * NS_PER_DAY),
        review_ns=_ns(line.review_s),
    )


def _refuse_missing(vault: Vault, instruments: Sequence[Instrument], streams: Iterable[str], where: str) -> None:
    known = {instrument.instrument_id for instrument in instruments} | set(streams)
    needed = [*NEEDED_STREAMS, *(leg.instrument for leg in vault.holdings), *(one.instrument for one in vault.hedge)]
    if missing := [name for name in needed if name not in known]:
        expected = f"vault {vault.vault}: expected {', '.join(missing)}"
        raise ConfigError([f"{expected}, found {where} without; hint: check the feed"])


def config_json(vault: Vault) -> str:
    """Return the vault in canonical JSON, defaults filled in and keys sorted; `Vault.model_validate_json` reads it.

    A section that came later is left out where a vault has none, so that its older journals still fit.
    """
    values = vault.model_dump(mode="json")
    for section in LATER_SECTIONS:
        if not values[section]:
            del values[section]
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def config_sha256(vault: Vault) -> str:
    """Return the SHA-256 of `config_json`, in hex."""
    return hashlib.sha256(config_json(vault).encode()).hexdigest()


def _hedge_settings(vault: Vault, index: int, instruments: dict[str, Instrument]) -> HedgeSettings:
    line = vault.hedge[index]
    instrument = instruments[line.instrument]
    if isinstance(instrument, Option):
        raise ConfigError([f"vault {vault.vault}: expected a perpetual, future or spot, found {line.instrument}"])
    is_on_chain = instrument.venue in vault.chains
    target = vault.target if isinstance(vault.target, Target) else vault.target.get(instrument.base, Target())
    maker_bps = instrument.maker_bps if line.maker_bps is None else line.maker_bps
    taker_bps = instrument.taker_bps if line.taker_bps is None else line.taker_bps
    if maker_bps is None or taker_bps is None:
        found = f"{line.instrument} without fees of its own"
        raise ConfigError([f"vault {vault.vault}: expected maker_bps and taker_bps, found {found}; hint: {MANUAL}"])
    return HedgeSettings(
        instrument=instrument,
        maker_bps=maker_bps,
        taker_bps=taker_bps,
        max_slippage_bps=line.max_slippage_bps,
        ratio=1.0 if target.hedge_ratio is None else target.hedge_ratio,
        target_delta_base=target.delta_base or 0.0,
        style=line.style,
        roll_before_ns=round(line.roll_before_s * NS_PER_S),
        depth=tuple((one.offset_bps * BPS, one.notional_quote) for one in line.costs.depth),
        impact_coefficient=line.costs.impact_coefficient or 0.0,
        daily_volume_base=line.costs.daily_volume_base or 0.0,
        daily_vol_fraction=line.costs.daily_vol_fraction or 0.0,
        holding_days=line.costs.holding_days,
        funding_rate_per_day=line.costs.funding_rate_per_day,
        borrow_rate_per_year=line.costs.borrow_rate_per_year or 0.0,
        repeg_ticks=line.repeg_ticks,
        repeg_every_ns=round(line.repeg_every_s * NS_PER_S),
        max_rest_ns=round(line.max_rest_s * NS_PER_S),
        escalate_urgency=line.escalate_urgency,
        escalate_bands=line.escalate_bands,
        one_outstanding=line.one_outstanding,
        can_amend=not is_on_chain,  # the simulated venue can; a transaction is what it is
        needs_terms=is_on_chain,
        risk_aversion_per_quote=_risk_aversion_per_quote(vault.policy) if is_on_chain else 0.0,
    )


def _risk_aversion_per_quote(policy: HedgePolicy) -> float:
    """Return what weighs gas against risk where the policy says it; else the band implies it, 0."""
    return policy.known_risk_aversion_per_quote if isinstance(policy, RiskAverse) else 0.0


def _max_age_ns(manifest: Manifest, stream: str) -> int:
    return _ns(manifest.streams[stream].max_age_s)


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _check(source: YamlSource, manifests: _Manifests, *, allow_live: bool) -> Vault | None:
    """Report what is wrong with one file; return its vault if its shape is right."""
    if source.value is None and source.problems:
        return None
    vault: Vault | None = None
    try:
        vault = Vault.model_validate(source.value)
    except ValidationError as error:
        report_shape(source, error.errors(include_url=False), Vault, MANUAL)
    _check_mode(source, allow_live=allow_live)
    _check_feed(source)
    if vault is not None:
        _check_option_hedges(source, vault)
    check_chains(source)
    recording = _text_at(source.value, ("feed", "recording"))
    manifest = manifests.get(recording) if recording else None
    if isinstance(manifest, str):
        source.relay(("feed", "recording"), manifest)
    elif manifest is not None:
        _check_streams(source, manifest)
        place = f"recording {manifest.name}"
        start = f"at the recording's start, {_utc(manifest.start_ns)}"
        instruments = (*manifest.instruments, *_pools(source, manifest))
        if vault is not None:
            check_risk(source, vault, _venues_of(source.value, instruments))
        _check_market(source, _Listing(place, "the recording", start, manifest.start_ns, instruments))
    elif vault is not None and vault.is_live_feed:
        check_risk(source, vault, (*vault.venues, *vault.chains))
    return vault


# Against the rest of the world: on the plain values, so that a wrong shape elsewhere in the file hides nothing -------


class _Manifests:
    """The manifests of recordings, each opened once."""

    def __init__(self) -> None:
        self._opened: dict[str, Manifest | str] = {}

    def get(self, name: str) -> Manifest | str:
        """Return the manifest, or what is wrong with the recording."""
        if name not in self._opened:
            try:
                self._opened[name] = open_recording(name).manifest
            except RecordingError as error:
                self._opened[name] = str(error)
            except OSError as error:
                self._opened[name] = f"expected a readable recording, found {error.strerror}; hint: check the path"
        return self._opened[name]


def _check_mode(source: YamlSource, *, allow_live: bool) -> None:
    if _text_at(source.value, ("mode",)) == "live":
        if source.has(("feed", "recording")):
            hint = "the past cannot be traded: say mode: paper"
            source.report(("mode",), "mode: paper with a recording", "live", hint)
        elif not allow_live:
            hint = "live trading needs --live on the command line too"
            source.report(("mode",), "a second key for mode: live", "none", hint)
    for key in ("book", "cash"):
        for place in _account_places(source.value, key):
            if _text_at(source.value, ("mode",)) == "paper":
                hint = "a paper run loads no keys and so sees no account; state the amounts"
                source.report(place, "mode: live for an account", "mode: paper", hint)


def _check_option_hedges(source: YamlSource, vault: Vault) -> None:
    """Check what trading listed options needs: a policy that does, a hedge beside it, and a venue that can."""
    if vault.option_hedges and not vault.policy.needs_offers:
        hint = "only a policy that trades options can use it; remove it, or name such a policy"
        source.report(("option_hedges",), "a policy that trades options", vault.policy.name, hint)
    seen: set[str] = set()
    for index, line in enumerate(vault.option_hedges):
        place: Location = ("option_hedges", index) if source.has(("option_hedges", index)) else ("option_hedges",)
        if line.underlying in seen:
            source.report(
                (*place, "underlying"), "each underlying once", f"{line.underlying} again", "one line of each"
            )
        seen.add(line.underlying)
        venue = vault.venues.get(line.venue)
        if vault.is_live_feed and venue is None:
            where = (*place, "venue") if source.has((*place, "venue")) else place
            source.report(where, _either(set(vault.venues)) or "a venue", short(line.venue), "name one of venues")
        elif venue is not None and (exchange := venue.exchange or line.venue) not in OPTION_VENUES:
            hint = "options are traded as hedges at Deribit only, so far"
            source.report((*place, "venue"), _either(set(OPTION_VENUES)), short(exchange), hint)


def _check_feed(source: YamlSource) -> None:
    """Check what a live feed needs and a recording must not have; nobody is contacted."""
    is_live = _text_at(source.value, ("feed",)) == "live"
    if not is_live and source.has(("feed", "recording")):
        for key in ("venues", "underlyings", "max_age", "clock", "foreign", "fusion"):
            if source.has((key,)):
                source.report((key,), f"no {key} with a recording", "some", "it is for feed: live; remove it")
        for place in [*_account_places(source.value, "book"), *_account_places(source.value, "cash")]:
            source.report(place, "no account with a recording", "one", "state the amounts")
        for place in _places(source.value, "book", "file"):
            source.report(place, "no file with a recording", "one", "state the amounts in the vault")
    if not is_live:
        return
    venues = _mapping_at(source.value, "venues")
    if not venues and not _mapping_at(source.value, "chains") and not source.is_damaged(("venues",)):
        source.report(("feed",), "venues for a live feed", "none", "venues: {deribit: {}}, see docs/configuration.md")
        return
    for venue, section in venues.items():
        if not VENUE_NAME.fullmatch(venue):
            source.report(("venues", venue), "lower-case letters, digits and hyphens", short(venue), "rename it")
        _check_options(source, ("venues", venue, "options"), section)
    if _text_at(source.value, ("clock",)) == "venue" and _text_at(source.value, ("mode",)) == "live":
        source.report(("clock",), "clock: wall with mode: live", "venue", "a venue's time is for rehearsals only")
    _check_venue_names(source, venues)


def _check_venue_names(source: YamlSource, venues: dict[str, Value]) -> None:
    chains = _mapping_at(source.value, "chains")
    for key in ("book", "cash"):
        for place in _account_places(source.value, key):
            name = _text_at(source.value, place)
            if name is not None and name not in venues:
                source.report(place, _either(set(venues)), short(name), "name one of venues")
    for place, name in {**_names_at(source.value, "book"), **_names_at(source.value, "hedge")}.items():
        venue, colon, rest = name.partition(":")
        if not colon or not rest or venue in chains:
            continue
        if venue == next(iter(venues), ""):
            source.report(place, f"{short(rest)}", short(name), "the first venue's instruments go by their own name")
        elif venue not in venues:
            source.report(
                place, f"a venue of {_either({*venues, *chains})}", short(venue), "venue:NAME, as under venues"
            )


def _check_options(source: YamlSource, place: Location, section: Value) -> None:
    """Refuse a password inside an address: what stands in a vault file goes into the journal."""
    options = section.get("options") if isinstance(section, dict) else None
    for path, value in _leaves_of(options if options is not None else {}):
        if isinstance(value, str) and PASSWORD_IN_URL.search(value):
            hint = "secrets come from the environment; for a proxy see docs/configuration.md"
            source.report((*place, *path), "no secret in a file", "an address with a password", hint)


def _check_streams(source: YamlSource, manifest: Manifest) -> None:
    for stream in NEEDED_STREAMS:
        if stream not in manifest.streams:
            source.report(("feed", "recording"), f"a stream {stream}", "none", "import the recording anew")


def _pools(source: YamlSource, manifest: Manifest) -> Iterator[Instrument]:
    """Yield the pools of simulated chains; report those that nothing in the recording moves."""
    bases = {one.base for one in manifest.instruments}
    oldest_s = min((stream.max_age_s for stream in manifest.streams.values()), default=inf)
    for name, chain in _mapping_at(source.value, "chains").items():
        simulated = chain.get("simulated") if isinstance(chain, dict) else None
        if not isinstance(chain, dict) or not isinstance(simulated, dict):
            continue
        place: Location = ("chains", name)
        base, coin, block_s = simulated.get("base", "ETH"), chain.get("coin", "ETH"), chain.get("block_s", 12.0)
        if base not in bases:
            source.report((*place, "simulated", "base"), _either(bases), short(str(base)), "it has no index to follow")
        if coin not in bases:
            source.report((*place, "coin"), _either(bases), short(str(coin)), "gas would have no price")
        if isinstance(block_s, int | float) and block_s > 0.5 * oldest_s:
            expected = f"at most {0.5 * oldest_s:g}"
            source.report((*place, "block_s"), expected, f"{block_s:g}", "older quotes are not traded on")
        yield pool_instrument(name, str(base), manifest.instruments)


def _venues_of(value: Value, instruments: Iterable[Instrument]) -> set[str]:
    """Return the venues of what the book and the hedges name."""
    names = {*_names_at(value, "book").values(), *_names_at(value, "hedge").values()}
    return {one.venue for one in instruments if one.instrument_id in names}


class _Listing(NamedTuple):
    """The instruments that names may mean, and the words for where and when they are listed."""

    place: str
    owner: str
    start: str
    start_ns: int
    instruments: tuple[Instrument, ...]

    @property
    def by_id(self) -> dict[str, Instrument]:
        return {instrument.instrument_id: instrument for instrument in self.instruments}


def _check_market(source: YamlSource, listing: _Listing) -> None:
    """Check every name in the file against the instruments that are listed."""
    book_names, hedge_names = _names_at(source.value, "book"), _names_at(source.value, "hedge")
    book, hedges = _known(source, listing, book_names), _known(source, listing, hedge_names)
    _check_hedges(source, listing, hedges)
    _refuse_repeats(source, book_names)
    _refuse_repeats(source, hedge_names, hint="name it once, where it is preferred")
    is_open = any(_places(source.value, "book", kind) for kind in ("account", "chain", "file"))
    # As long as a name is unknown, nothing can be said about what the others lack.
    if not (book or is_open) or not hedges or len(book) < len(book_names) or len(hedges) < len(hedge_names):
        return
    bases, hedged = {one.base for one in book.values()}, {one.base for one in hedges.values()}
    if is_open:
        bases |= hedged  # what an account or a file will hold is not known yet
    for place, one in hedges.items():
        if one.base not in bases:
            source.report(place, f"a hedge of {_either(bases)}", f"one of {one.base}", "the book holds none of it")
        legs = [leg for leg in book.values() if isinstance(leg, Option) and leg.base == one.base]
        last_ns = max((leg.expiry_ns for leg in legs), default=0)
        if isinstance(one, Future) and one.expiry_ns < last_ns:
            expected = f"a hedge that lives as long as the book, until {_utc(last_ns)}"
            source.report(place, expected, f"{one.instrument_id}, over on {_utc(one.expiry_ns)}", "name a later one")
    if hedged <= bases:
        for base in sorted(bases - hedged):
            source.report(("hedge",), f"a hedge of {base}", "none", _hedgeables(listing, base))
    _check_option_lines(source, listing, hedged)
    quotes = {one.quote for one in (*book.values(), *(hedges.values() if is_open else ()))}
    _check_currencies(source, bases, bases | quotes)
    venues = {one.venue for one in hedges.values()}
    for venue in _mapping_at(source.value, "venue_limits"):
        if venue not in venues:
            source.report(("venue_limits", venue), _either(venues), short(venue), "the venues of the hedges")


def _check_option_lines(source: YamlSource, listing: _Listing, hedged: set[str]) -> None:
    """Check that every underlying of option hedges has a linear hedge too, and options where they are to be traded."""
    offered = {(one.base, one.venue) for one in listing.instruments if isinstance(one, Option)}
    for place, underlying, venue in _option_lines(source.value):
        if underlying not in hedged:
            source.report(place, _either(hedged), short(underlying), "name a hedge of it too: options come beside one")
        elif (underlying, venue) not in offered:
            source.report(place, f"options of {underlying} at {venue}", "none", f"{listing.owner} lists none there")


def _check_hedges(source: YamlSource, listing: _Listing, hedges: dict[Location, Instrument]) -> None:
    for place, one in hedges.items():
        if isinstance(one, Option):
            found = f"the option {one.instrument_id}"
            source.report(place, "a perpetual, future or spot", found, _hedgeables(listing, one.base))
            continue
        for key, fee_bps in (("maker_bps", one.maker_bps), ("taker_bps", one.taker_bps)):
            if fee_bps is None and not source.has((*place[:-1], key)) and not _is_misspelt(source, place[:-1], key):
                hint = f"{listing.owner} knows no fees of {one.instrument_id}"
                source.report(place[:-1], f"the key {key}", "none", hint)


def _is_misspelt(source: YamlSource, line: Location, key: str) -> bool:
    """Tell whether a line has an unknown key that `key` was meant by: one mistake, which is reported already."""
    known = keys_at(line, Vault)
    unknown = [name for name in _mapping_at(source.value, *line) if name not in known]
    return bool(get_close_matches(key, unknown, n=1))


def _check_currencies(source: YamlSource, bases: set[str], currencies: set[str]) -> None:
    numeraire = _text_at(source.value, ("numeraire",))
    if numeraire is not None and numeraire not in currencies:
        source.report(("numeraire",), _either(currencies), short(numeraire), "the quote money or a coin of the book")
    if numeraire in bases and len(bases) > 1:
        source.report(("numeraire",), "the quote money", short(numeraire), "several coins share none")
    is_of_account = bool(_account_places(source.value, "cash"))
    for currency in () if is_of_account else _mapping_at(source.value, "cash"):
        if currency not in currencies:
            source.report(("cash", currency), _either(currencies), short(currency), "the book gives it no price")
    for base, target in _mapping_at(source.value, "target").items():
        if isinstance(target, dict) and base not in bases:
            source.report(("target", base), _either(bases), short(base), "one target per underlying of the book")
    for base in _mapping_at(source.value, "operator"):
        if base not in bases:
            source.report(("operator", base), _either(bases), short(base), "bounds for an underlying of the book")


def _known(source: YamlSource, listing: _Listing, names: dict[Location, str]) -> dict[Location, Instrument]:
    """Return the instruments that are listed and alive at the start; report the others."""
    instruments = listing.by_id
    known: dict[Location, Instrument] = {}
    for place, name in names.items():
        one = instruments.get(name)
        if one is None:
            source.report(place, f"an instrument of {listing.place}", short(name), nearest(name, instruments, MANUAL))
        elif isinstance(one, Option | Future) and one.expiry_ns <= listing.start_ns:
            expected = f"an instrument alive {listing.start}"
            source.report(place, expected, f"{name}, expired {_utc(one.expiry_ns)}", "take a later expiry")
        else:
            known[place] = one
    return known


def _refuse_repeats(source: YamlSource, names: dict[Location, str], hint: str = "add the quantities up") -> None:
    seen: set[str] = set()
    for place, name in names.items():
        if name in seen:
            source.report(place, "each instrument once", f"{short(name)} again", hint)
        seen.add(name)


def _refuse_twins(sources: Sequence[YamlSource]) -> None:
    first: dict[str, YamlSource] = {}
    for source in sources:
        name = _text_at(source.value, ("vault",))
        if name is not None and (twin := first.setdefault(name, source)) is not source:
            source.report(("vault",), "a name of its own per vault", f"{short(name)} again", f"{twin.path} has it too")


def _hedgeables(listing: _Listing, base: str) -> str:
    names = {one.instrument_id for one in listing.instruments if one.base == base and not isinstance(one, Option)}
    if len(names) > MAX_NAMES:
        return f"{listing.owner} has {len(names)} of them, {min(names)} for one"
    return f"{listing.owner} has {_either(names)}" if names else f"{listing.owner} has nothing to hedge {base} with"


def _either(names: set[str]) -> str:
    return " or ".join(sorted(names))


def _utc(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _names_at(value: Value, key: str) -> dict[Location, str]:
    """Return location → instrument name of every line of `book` or `hedge` that has one."""
    return {place: str(_text_at(value, place)) for place in _places(value, key, "instrument")}


def _option_lines(value: Value) -> Iterator[tuple[Location, str, str]]:
    """Yield place, underlying and venue of every line of `option_hedges`."""
    for place in _places(value, "option_hedges", "underlying"):
        venue = _text_at(value, (*place[:-1], "venue"))
        yield place, str(_text_at(value, place)), venue if venue is not None else "deribit"


def _account_places(value: Value, key: str) -> list[Location]:
    return _places(value, key, "account")


def _places(value: Value, key: str, field: str) -> list[Location]:
    """Return where a section, or a line of it, has a text under `field`."""
    lines = value.get(key) if isinstance(value, dict) else None
    count = len(lines) if isinstance(lines, tuple) else 0
    places: list[Location] = [(key, field), *((key, index, field) for index in range(count))]
    return [place for place in places if _text_at(value, place) is not None]


def _leaves_of(value: Value, place: Location = ()) -> Iterator[tuple[Location, Value]]:
    """Yield location and value of everything in a tree that is neither a mapping nor a list."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves_of(inner, (*place, key))
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from _leaves_of(inner, (*place, index))
    else:
        yield place, value


def _mapping_at(value: Value, *location: str | int) -> dict[str, Value]:
    section = _value_at(value, location)
    return section if isinstance(section, dict) else {}


def _text_at(value: Value, location: Location) -> str | None:
    found = _value_at(value, location)
    return found if isinstance(found, str) else None


def _value_at(value: Value, location: Location) -> Value:
    for step in location:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, tuple) and isinstance(step, int):
            value = value[step]
        else:
            return None
    return value
