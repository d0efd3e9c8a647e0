"""What of a vault file may change while the vault runs, and which of it are limits that somebody may want to loosen.

Must never read a file or look at an engine: two configurations in, a verdict out. A key that no table here names does
not change while the vault runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from math import inf
from typing import Final, NamedTuple

from bot.runtime.configuration.config import config_sha256
from bot.runtime.configuration.vault import Vault

MOST_TIMES: Final = 2.0  # a limit loosened by more than this needs a second confirmation
NONE: Final = "none"  # how the lack of a value is written in a change
RESTART: Final = "stop the vault, move its journal away and start it anew"

CODE_CHARS: Final = 8


class Loosens(StrEnum):
    """Which way a limit allows more: as it rises, as it falls towards 0, or as it falls below 0 and further."""

    UP = "up"
    DOWN = "down"
    BELOW = "below"


class Rule(NamedTuple):
    """Keys that may change: `pattern` is their path, where * stands for one step and ** for all that follow.

    Of a limit `loosens` says which way it allows more. Having none allows everything, or nothing of what `is_needed`;
    a permission that is true allows everything.
    """

    pattern: str
    loosens: Loosens | None = None
    is_needed: bool = False
    is_live_only: bool = False


class Fixed(NamedTuple):
    """Keys that do not change, and why."""

    pattern: str
    why: str


CHANGEABLE: Final = (
    Rule("policy.**"),
    Rule("target.**"),
    Rule("routing"),
    Rule("foreign"),
    Rule("pnl_step_s"),
    Rule("hedge.*.style"),
    Rule("hedge.*.roll_before_s"),
    Rule("hedge.*.repeg_ticks"),
    Rule("hedge.*.repeg_every_s"),
    Rule("hedge.*.max_rest_s"),
    Rule("hedge.*.escalate_urgency"),
    Rule("hedge.*.escalate_bands"),
    Rule("hedge.*.one_outstanding"),
    Rule("hedge.*.costs.**"),
    Rule("hedge.*.maker_bps", is_live_only=True),
    Rule("hedge.*.taker_bps", is_live_only=True),
    Rule("option_hedges.*.min_days"),
    Rule("option_hedges.*.max_days"),
    Rule("option_hedges.*.min_strike_ratio"),
    Rule("option_hedges.*.max_strike_ratio"),
    Rule("option_hedges.*.review_s"),
    Rule("option_hedges.*.taker_bps", is_live_only=True),
    Rule("option_hedges.*.fee_cap_fraction", is_live_only=True),
    Rule("risk.review_s"),
    Rule("risk.review_move_fraction"),
    Rule("risk.target_ratio"),
    Rule("risk.slice_share"),
    Rule("risk.states.hysteresis_ratio"),
    Rule("risk.states.critical_until_ratio"),
    Rule("risk.states.step_up_s"),
)

LIMITS: Final = (
    Rule("limits.max_order_quote", Loosens.UP),
    Rule("limits.max_order_base", Loosens.UP),
    Rule("limits.max_orders_per_min", Loosens.UP),
    Rule("limits.daily_loss_quote", Loosens.UP),
    Rule("limits.price_collar_bps", Loosens.UP),
    Rule("limits.max_hedges_same_way", Loosens.UP),
    Rule("limits.hedge_loop_window_s", Loosens.DOWN),
    Rule("limits.max_reject_streak", Loosens.UP),
    Rule("venue_limits.*", Loosens.UP),
    Rule("hedge.*.max_slippage_bps", Loosens.UP),
    Rule("option_hedges.*.max_position_base", Loosens.UP),
    Rule("option_hedges.*.max_premium_quote", Loosens.UP),
    Rule("option_hedges.*.max_order_quote", Loosens.UP),
    Rule("option_hedges.*.max_instruments", Loosens.UP),
    Rule("option_hedges.*.max_delta_ratio", Loosens.UP),
    Rule("option_hedges.*.max_spread_vol", Loosens.UP),
    Rule("option_hedges.*.may_sell", Loosens.UP),
    Rule("max_age.vol_s", Loosens.UP),
    Rule("max_age.quote_s", Loosens.UP),
    Rule("max_age.index_s", Loosens.UP),
    Rule("max_age.account_s", Loosens.UP),
    Rule("operator.*.target_min_base", Loosens.BELOW, is_needed=True),
    Rule("operator.*.target_max_base", Loosens.UP, is_needed=True),
    Rule("operator.*.band_min_base", Loosens.DOWN, is_needed=True),
    Rule("operator.*.band_max_base", Loosens.UP, is_needed=True),
    Rule("risk.max_initial_ratio", Loosens.UP),
    Rule("risk.report_max_age_s", Loosens.UP),
    Rule("risk.states.watch_ratio", Loosens.UP),
    Rule("risk.states.act_ratio", Loosens.UP),
    Rule("risk.states.critical_ratio", Loosens.UP),
    Rule("risk.states.emergency_ratio", Loosens.UP),
    Rule("risk.states.act_probability", Loosens.UP),
    Rule("risk.states.critical_probability", Loosens.UP),
)

FIXED: Final = (
    Fixed("vault", "it names the journal, the socket and the halt marker"),
    Fixed("mode", "paper and live are different runs: orders and money of one are not those of the other"),
    Fixed("feed.**", "the journal holds what this feed said"),
    Fixed("numeraire", "P&L and delta so far are in the old money"),
    Fixed("venues.**", "connections, keys and instruments were set up from it"),
    Fixed("chains.**", "connections, keys and instruments were set up from it"),
    Fixed("fusion.**", "the price so far was made by the old rule"),
    Fixed("underlyings", "instruments were loaded by it"),
    Fixed("clock", "the journal is in the old time"),
    Fixed("book.**", "P&L so far is that of the old book"),
    Fixed("cash.**", "P&L so far is that of the old cash"),
    Fixed("hedge.*.instrument", "positions and orders are in the old instrument"),
    Fixed("hedge.*.maker_bps", "the simulated venue charges by it"),
    Fixed("hedge.*.taker_bps", "the simulated venue charges by it"),
    Fixed("option_hedges.*.underlying", "positions and orders are in its options"),
    Fixed("option_hedges.*.venue", "positions and orders are at the old venue"),
    Fixed("option_hedges.*.taker_bps", "the simulated venue charges by it"),
    Fixed("option_hedges.*.fee_cap_fraction", "the simulated venue charges by it"),
    Fixed("bands", "how the coins move along is measured from the start"),
    Fixed("surface", "every mark so far was made by it"),
    Fixed("delta.**", "the smiles were watched by it from the start"),
    Fixed("risk.**", "accounts, transfers and forecasts were set up from it"),
    Fixed("latency.**", "the simulated venue was built with it"),
    Fixed("seed", "the simulated venue was built with it"),
    Fixed("state_dir", "the journal and the socket lie there"),
)


class Change(NamedTuple):
    """One key that differs, as JSON has it; None where it is not there, or says nothing."""

    path: str
    old: object
    new: object

    def __str__(self) -> str:
        return f"{_shown(self.path)}: {_text(self.old)} → {_text(self.new)}"


class Verdict(NamedTuple):
    """What two configurations differ by, what of it cannot change now and why, and which limits it loosens far.

    `keys` are the paths of those limits, in the order of `loosened`.
    """

    changes: tuple[Change, ...]
    refused: tuple[str, ...]
    loosened: tuple[str, ...]
    code: str  # what confirms exactly this change, "" where nothing has to be confirmed
    keys: tuple[str, ...] = ()


def judge(old: Vault, new: Vault, limits: Mapping[str, object] | None = None) -> Verdict:
    """Return what changes from `old` to `new`, and whether it may while the vault runs.

    A limit that allows more than before is held against the least it allowed since it was last confirmed (`limits`, of
    `limits_of` and `limits_after`; those of `old` if left out), so that several small steps are no way around.
    """
    limits = limits_of(old) if limits is None else limits
    changes = tuple(_changes(_leaves(old), _leaves(new)))
    refused = [why for one in changes if (why := _why_fixed(one, is_live=old.mode == "live"))]
    loosened = {one.path: why for one in changes if (why := _why_loose(one, limits.get(one.path)))}
    code = confirmation(old, new) if loosened and not refused else ""
    return Verdict(changes, tuple(dict.fromkeys(refused)), tuple(loosened.values()), code, tuple(loosened))


def limits_of(vault: Vault) -> dict[str, object]:
    """Return every limit that a configuration states, by its path."""
    return {path: value for path, value in _leaves(vault).items() if _limit_rule(path) is not None}


def limits_after(limits: Mapping[str, object], new: Vault, confirmed: Collection[str]) -> dict[str, object]:
    """Return what the next change is held against: what was `confirmed` as it is now, the rest at its tightest."""
    stated = limits_of(new)
    after: dict[str, object] = {}
    for path in {*limits, *stated}:
        rule = _limit_rule(path)
        assert rule is not None, "both hold limits only"
        held = stated.get(path)
        if path not in confirmed and _allowance(limits.get(path), rule) <= _allowance(held, rule):
            held = limits.get(path)
        if held is not None:
            after[path] = held
    return after


def confirmation(old: Vault, new: Vault) -> str:
    """Return the code that confirms the change from `old` to `new` and no other."""
    text = f"{old.vault}\n{config_sha256(old)}\n{config_sha256(new)}"
    return hashlib.sha256(text.encode()).hexdigest()[:CODE_CHARS]


def rule_of(path: str) -> Rule | None:
    """Return the rule by which a key may change, None if it may not."""
    return next((rule for rule in (*LIMITS, *CHANGEABLE) if _matches(rule.pattern, path)), None)


def fixed_by(path: str) -> Fixed | None:
    """Return why a key does not change, None if no table says so."""
    return next((one for one in FIXED if _matches(one.pattern, path)), None)


def _why_fixed(change: Change, *, is_live: bool) -> str:
    """Return why a change has to wait for a new journal, "" if it has not."""
    rule = rule_of(change.path)
    if rule is not None and (is_live or not rule.is_live_only):
        return ""
    found = fixed_by(change.path)
    why = found.why if found is not None else "it was set up when the run began"
    return f"{change}: cannot change while the vault runs: {why}; hint: {RESTART}"


def _why_loose(change: Change, confirmed: object) -> str:
    """Return by how much a limit is loosened if that needs a confirmation, "" if it does not."""
    rule = _limit_rule(change.path)
    if rule is None:
        return ""
    old, new = _allowance(change.old, rule), _allowance(change.new, rule)
    base = min(old, _allowance(confirmed, rule))
    if new <= old or new <= max(base, MOST_TIMES * base):
        return ""
    if new == inf:
        return f"{change}: takes the limit away"
    if base <= 0.0:
        return f"{change}: allows what was not allowed"
    since = f" as {_text(confirmed)}, its tightest since it was last confirmed" if base < old else ""
    return f"{change}: allows {new / base:.3g} times as much{since}"


def _limit_rule(path: str) -> Rule | None:
    """Return the rule of a limit, None for any other key."""
    return next((rule for rule in LIMITS if _matches(rule.pattern, path)), None)


def _allowance(value: object, rule: Rule) -> float:
    """Return how much a limit allows: larger is looser, whichever way its own figure goes."""
    if value is None:
        return -inf if rule.is_needed else inf
    if isinstance(value, bool):
        return inf if value else 0.0
    assert isinstance(value, int | float), "a limit is a number"
    if rule.loosens is Loosens.DOWN:
        return 1.0 / value if value else inf
    return -float(value) if rule.loosens is Loosens.BELOW else float(value)


# Two configurations as flat lists of keys ----------------------------------------------------------------------------


def _leaves(vault: Vault) -> dict[str, object]:
    """Return every key of a configuration by its path; of a section that is not there, nothing."""
    return dict(_walk(vault.model_dump(mode="json"), ()))


def _walk(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(inner, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for index, inner in enumerate(value):
            yield from _walk(inner, (*path, str(index)))
    elif value not in (None, []):
        yield ".".join(path), value


def _changes(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Change]:
    for path in sorted({*old, *new}, key=lambda path: _sort_key(path, old, new)):
        before, after = old.get(path), new.get(path)
        if before != after:
            yield Change(path, before, after)


def _sort_key(path: str, old: Mapping[str, object], new: Mapping[str, object]) -> tuple[bool, str]:
    """Keep what a file says together, what it no longer says last."""
    del old
    return path not in new, path


def _matches(pattern: str, path: str) -> bool:
    """Tell whether a path is of a pattern: * is one step, a last ** is any number of them, even none."""
    steps, wanted = path.split("."), pattern.split(".")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        if len(steps) < len(wanted):
            return False
        steps = steps[: len(wanted)]
    return len(steps) == len(wanted) and all(want in ("*", step) for want, step in zip(wanted, steps, strict=True))


def _shown(path: str) -> str:
    """Write a path as people do: hedge[0].style."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)


def _text(value: object) -> str:
    return NONE if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def lines_of(changes: Sequence[Change]) -> tuple[str, ...]:
    """Return the changes as they are shown and journalled."""
    return tuple(str(one) for one in changes)
