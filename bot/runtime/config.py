"""Vault files → validated vaults, and a vault → what the engine must be told.

Must never write or contact anything, or guess what was meant. Every problem of every file is reported at once, as
`file:line: expected …, found …; hint: …`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bot.domain.errors import ConfigError, RecordingError
from bot.domain.instruments import Future, Instrument, Option
from bot.domain.units import NS_PER_S
from bot.engine.settings import Ages, BookLeg, EngineSettings, HedgeSettings, Limits
from bot.runtime.vault import Target, Vault
from bot.runtime.yaml_source import Location, Value, YamlSource
from bot.simulation.recording import Manifest, open_recording
from strategies import POLICIES

__all__ = ["Vault", "build_engine_settings", "config_json", "config_sha256", "load_vaults"]

GAP_NS: Final = 600 * NS_PER_S
NEEDED_STREAMS: Final = ("vol_quotes", "quotes", "index")
MANUAL: Final = "see docs/configuration.md"


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


def build_engine_settings(vault: Vault, manifest: Manifest) -> EngineSettings:
    """Return the vault as the engine takes it, with the instruments and ages of a recording.

    Raises ConfigError if the recording lacks an instrument or a stream that the vault needs.
    """
    instruments = {instrument.instrument_id: instrument for instrument in manifest.instruments}
    needed = [*NEEDED_STREAMS, *(leg.instrument for leg in vault.book), *(one.instrument for one in vault.hedge)]
    if missing := [name for name in needed if name not in instruments and name not in manifest.streams]:
        found = f"recording {manifest.name} without"
        raise ConfigError([f"vault {vault.vault}: expected {', '.join(missing)}, found {found}; hint: check the feed"])
    hedges = [_hedge_settings(vault, index, instruments) for index in range(len(vault.hedge))]
    limits = vault.limits.model_dump(exclude={"hedge_loop_window_s"})
    return EngineSettings(
        vault=vault.vault,
        run_id=hashlib.sha256(f"{vault.vault}:{vault.seed}".encode()).hexdigest()[:10],
        numeraire=vault.numeraire,
        policy=vault.policy,
        book=tuple(BookLeg(instruments[line.instrument], line.qty_base) for line in vault.book),
        cash=dict(vault.cash),
        hedges={
            base: tuple(hedge for hedge in hedges if hedge.instrument.base == base)
            for base in dict.fromkeys(hedge.instrument.base for hedge in hedges)
        },
        universe=manifest.instruments,
        limits=Limits(**limits, hedge_loop_window_ns=round(vault.limits.hedge_loop_window_s * NS_PER_S)),
        ages=Ages(
            vol_ns=_max_age_ns(manifest, "vol_quotes"),
            quote_ns=_max_age_ns(manifest, "quotes"),
            index_ns=_max_age_ns(manifest, "index"),
        ),
        gap_ns=GAP_NS,
        pnl_step_ns=vault.pnl_step_s * NS_PER_S,
        venue_limits=dict(vault.venue_limits),
    )


def config_json(vault: Vault) -> str:
    """Return the vault in canonical JSON, defaults filled in and keys sorted; `Vault.model_validate_json` reads it."""
    return json.dumps(vault.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def config_sha256(vault: Vault) -> str:
    """Return the SHA-256 of `config_json`, in hex."""
    return hashlib.sha256(config_json(vault).encode()).hexdigest()


def _hedge_settings(vault: Vault, index: int, instruments: dict[str, Instrument]) -> HedgeSettings:
    line = vault.hedge[index]
    instrument = instruments[line.instrument]
    if isinstance(instrument, Option):
        raise ConfigError([f"vault {vault.vault}: expected a perpetual, future or spot, found {line.instrument}"])
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
        repeg_ticks=line.repeg_ticks,
        repeg_every_ns=round(line.repeg_every_s * NS_PER_S),
        max_rest_ns=round(line.max_rest_s * NS_PER_S),
        escalate_urgency=line.escalate_urgency,
        escalate_bands=line.escalate_bands,
        can_amend=True,  # the simulated venue can
    )


def _max_age_ns(manifest: Manifest, stream: str) -> int:
    return round(manifest.streams[stream].max_age_s * NS_PER_S)


def _check(source: YamlSource, manifests: _Manifests, *, allow_live: bool) -> Vault | None:
    """Report what is wrong with one file; return its vault if its shape is right."""
    if source.value is None and source.problems:
        return None
    vault: Vault | None = None
    try:
        vault = Vault.model_validate(source.value)
    except ValidationError as error:
        _report_shape(source, error.errors(include_url=False))
    _check_mode(source, allow_live=allow_live)
    recording = _text_at(source.value, ("feed", "recording"))
    manifest = manifests.get(recording) if recording else None
    if isinstance(manifest, str):
        source.relay(("feed", "recording"), manifest)
    elif manifest is not None:
        _check_market(source, manifest)
    return vault


# Against the model ---------------------------------------------------------------------------------------------------


def _report_shape(source: YamlSource, errors: Sequence[ErrorDetails]) -> None:
    absent = {error["loc"] for error in errors if error["type"] == "missing"}
    for error in errors:
        if error["type"] == "extra_forbidden":
            *parent, key = error["loc"]
            known = _keys_at(parent)
            # A misspelt key is one mistake, not a missing key and an unknown one.
            absent.difference_update((*parent, near) for near in get_close_matches(str(key), known, n=1))
            expected = f"one of the keys {', '.join(known)}"
            source.report(_place(source, error["loc"]), expected, _short(str(key)), _nearest(str(key), known))
    for error in errors:
        place = _place(source, error["loc"])
        if source.is_damaged(place):
            continue
        if error["type"] == "union_tag_invalid":
            found = error["ctx"]["tag"]
            source.report((*place, "type"), f"one of {', '.join(POLICIES)}", _short(found), _nearest(found, POLICIES))
        elif error["type"] == "missing":
            if error["loc"] in absent:
                source.report(place, f"the key {error['loc'][-1]}", "none", _describe(error["loc"]))
        elif error["type"] != "extra_forbidden":
            source.report(place, _expected(error), _found(error["input"]), _describe(error["loc"]))


_EXPECTED: Final = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "string_too_long": "a text of at most {max_length} characters",
    "string_pattern_mismatch": "lower-case letters, digits and hyphens",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than_equal": "a number of at most {le}",
    "tuple_type": "a list",
    "model_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping with the key type",
    "union_tag_not_found": "a mapping with the key type",
}


def _expected(error: ErrorDetails) -> str:
    template = _EXPECTED.get(error["type"])
    return error["msg"] if template is None else template.format(**error.get("ctx", {}))


def _found(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return _short(f"the keys {', '.join(map(str, value))}") if value else "an empty mapping"
    if isinstance(value, tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > 2**64:
        return "a huge number"
    return _short(repr(value))


def _short(text: str) -> str:
    text = text if text.isprintable() and text else repr(text)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _describe(location: Sequence[str | int]) -> str:
    _, field = _walk(location)
    return field.description if field is not None and field.description else MANUAL


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, list(known), n=1)
    return f"did you mean {nearest[0]}?" if nearest else MANUAL


def _place(source: YamlSource, location: Location) -> Location:
    """Return the location without the steps that only the model has, such as the tag of a union."""
    place: Location = ()
    for step in location:
        if source.has((*place, step)):
            place = (*place, step)
    return place


def _keys_at(location: Sequence[str | int]) -> list[str]:
    models, _ = _walk(location)
    return list(dict.fromkeys(key for model in models for key in model.model_fields))


def _walk(location: Sequence[str | int]) -> tuple[list[type[BaseModel]], FieldInfo | None]:
    """Return the models that may stand at the location of an error, and the last field passed on the way."""
    models: list[type[BaseModel]] = [Vault]
    field: FieldInfo | None = None
    for step in location:
        fields = {key: field for model in models for key, field in model.model_fields.items()}
        if step in fields:
            field = fields[str(step)]
            models = list(_models_in(field.annotation))
        elif step in POLICIES:
            models = [POLICIES[str(step)]]
    return models, field


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


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
    if _text_at(source.value, ("feed",)) == "live":
        hint = "live feeds are not available in this release; use feed: {recording: eth-2023-04}"
        source.report(("feed",), "{recording: NAME}", "live", hint)


def _check_market(source: YamlSource, manifest: Manifest) -> None:
    """Check every name in the file against the recording's instruments."""
    for stream in NEEDED_STREAMS:
        if stream not in manifest.streams:
            source.report(("feed", "recording"), f"a stream {stream}", "none", "import the recording anew")
    book_names, hedge_names = _names_at(source.value, "book"), _names_at(source.value, "hedge")
    book, hedges = _known(source, manifest, book_names), _known(source, manifest, hedge_names)
    _check_hedges(source, manifest, hedges)
    _refuse_repeats(source, book_names)
    _refuse_repeats(source, hedge_names, hint="name it once, where it is preferred")
    # As long as a name is unknown, nothing can be said about what the others lack.
    if not book or not hedges or len(book) < len(book_names) or len(hedges) < len(hedge_names):
        return
    bases, hedged = {one.base for one in book.values()}, {one.base for one in hedges.values()}
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
            source.report(("hedge",), f"a hedge of {base}", "none", _hedgeables(manifest, base))
    _check_currencies(source, bases, bases | {one.quote for one in book.values()})
    venues = {one.venue for one in hedges.values()}
    for venue in _mapping_at(source.value, "venue_limits"):
        if venue not in venues:
            source.report(("venue_limits", venue), _either(venues), _short(venue), "the venues of the hedges")


def _check_hedges(source: YamlSource, manifest: Manifest, hedges: dict[Location, Instrument]) -> None:
    for place, one in hedges.items():
        if isinstance(one, Option):
            found = f"the option {one.instrument_id}"
            source.report(place, "a perpetual, future or spot", found, _hedgeables(manifest, one.base))
            continue
        for key, fee_bps in (("maker_bps", one.maker_bps), ("taker_bps", one.taker_bps)):
            if fee_bps is None and not source.has((*place[:-1], key)) and not _is_misspelt(source, place[:-1], key):
                hint = f"{manifest.name} knows no fees of {one.instrument_id}"
                source.report(place[:-1], f"the key {key}", "none", hint)


def _is_misspelt(source: YamlSource, line: Location, key: str) -> bool:
    """Tell whether a line has an unknown key that `key` was meant by: one mistake, which is reported already."""
    known = _keys_at(line)
    unknown = [name for name in _mapping_at(source.value, *line) if name not in known]
    return bool(get_close_matches(key, unknown, n=1))


def _check_currencies(source: YamlSource, bases: set[str], currencies: set[str]) -> None:
    numeraire = _text_at(source.value, ("numeraire",))
    if numeraire is not None and numeraire not in currencies:
        source.report(("numeraire",), _either(currencies), _short(numeraire), "the quote money or a coin of the book")
    if numeraire in bases and len(bases) > 1:
        source.report(("numeraire",), "the quote money", _short(numeraire), "several coins share none")
    for currency in _mapping_at(source.value, "cash"):
        if currency not in currencies:
            source.report(("cash", currency), _either(currencies), _short(currency), "the book gives it no price")
    for base, target in _mapping_at(source.value, "target").items():
        if isinstance(target, dict) and base not in bases:
            source.report(("target", base), _either(bases), _short(base), "one target per underlying of the book")


def _known(source: YamlSource, manifest: Manifest, names: dict[Location, str]) -> dict[Location, Instrument]:
    """Return the instruments that the recording has and that are alive when it starts; report the others."""
    instruments = {instrument.instrument_id: instrument for instrument in manifest.instruments}
    known: dict[Location, Instrument] = {}
    for place, name in names.items():
        one = instruments.get(name)
        if one is None:
            expected = f"an instrument of recording {manifest.name}"
            source.report(place, expected, _short(name), _nearest(name, instruments))
        elif isinstance(one, Option | Future) and one.expiry_ns <= manifest.start_ns:
            expected = f"an instrument alive at the recording's start, {_utc(manifest.start_ns)}"
            source.report(place, expected, f"{name}, expired {_utc(one.expiry_ns)}", "take a later expiry")
        else:
            known[place] = one
    return known


def _refuse_repeats(source: YamlSource, names: dict[Location, str], hint: str = "add the quantities up") -> None:
    seen: set[str] = set()
    for place, name in names.items():
        if name in seen:
            source.report(place, "each instrument once", f"{_short(name)} again", hint)
        seen.add(name)


def _refuse_twins(sources: Sequence[YamlSource]) -> None:
    first: dict[str, YamlSource] = {}
    for source in sources:
        name = _text_at(source.value, ("vault",))
        if name is not None and (twin := first.setdefault(name, source)) is not source:
            source.report(("vault",), "a name of its own per vault", f"{_short(name)} again", f"{twin.path} has it too")


def _hedgeables(manifest: Manifest, base: str) -> str:
    names = {one.instrument_id for one in manifest.instruments if one.base == base and not isinstance(one, Option)}
    return f"the recording has {_either(names)}" if names else f"the recording has nothing to hedge {base} with"


def _either(names: set[str]) -> str:
    return " or ".join(sorted(names))


def _utc(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _names_at(value: Value, key: str) -> dict[Location, str]:
    """Return location → instrument name of every line of `book` or `hedge` that has one."""
    lines = value.get(key) if isinstance(value, dict) else None
    count = len(lines) if isinstance(lines, tuple) else 0
    places: list[Location] = [(key, "instrument"), *((key, index, "instrument") for index in range(count))]
    return {place: name for place in places if (name := _text_at(value, place)) is not None}


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
