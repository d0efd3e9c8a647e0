"""One price of an underlying from what several sources say, and whether it may be traded on.

Stale, unusable and vague words are dropped, and so is whatever lies too far from the median of the rest; everything
dropped is named. Without two sources that agree there is no price at all: one source alone moves nothing. An exchange's
index is a source like any other here, so that what holds between sources holds between it and the chain's oracles too.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import exp, isfinite

import msgspec

from bot.domain.units import NS_PER_MIN, NS_PER_S

MAX_AHEAD_NS = 15 * NS_PER_S  # of our clock; a word from later would never grow old
LEAST_CONFIDENCE_FRACTION = 1e-4  # no source is believed to be better than a basis point
_TOLERANCE = 1e-12  # a deviation of exactly the limit is within it, whatever the last bit says


class Verdict(StrEnum):
    """OK and DEGRADED may be traded on; REDUCE_ONLY only to shrink exposure; HALT not at all."""

    OK = "ok"
    DEGRADED = "degraded"
    REDUCE_ONLY = "reduce_only"
    HALT = "halt"


class FusionRule(msgspec.Struct, frozen=True, kw_only=True):
    """How sources are judged. Fractions are of the price; a source may be wrong by three times its own confidence.

    A source that is `max_jump_fraction` away from its own average over about `average_ns` waits for a second one.
    """

    min_live: int = 2
    min_kept: int = 2
    max_deviation_fraction: float = 0.02
    confidence_multiple: float = 3.0
    reduce_spread_fraction: float = 0.02
    halt_spread_fraction: float = 0.05
    max_jump_fraction: float = 0.10
    average_ns: int = 5 * NS_PER_MIN


class SourceWord(msgspec.Struct, frozen=True, gc=False):
    """The newest word of one source: a price with its half-width, when it was true, and how far it may be trusted.

    `average_px` is the source's own short average, 0.0 where there is none yet.
    """

    source: str
    px: float
    confidence_px: float
    max_confidence_fraction: float
    ts_event_ns: int
    max_age_ns: int
    average_px: float = 0.0


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """A source that was left out, and why."""

    source: str
    reason: str


class Fused(msgspec.Struct, frozen=True, gc=False):
    """What the sources amount to. `px` is 0.0 unless enough of them agree.

    `median_px` is that of the live ones that did not jump alone, `spread_fraction` how far the kept ones are apart.
    `reason` says in numbers what stands behind the verdict.
    """

    verdict: Verdict
    px: float
    median_px: float
    confidence_px: float
    spread_fraction: float
    live: int
    kept: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    reason: str

    @property
    def asset_px(self) -> float:
        """The price at which what we own counts when in doubt."""
        return self.px - self.confidence_px

    @property
    def debt_px(self) -> float:
        """The price at which what we owe counts when in doubt."""
        return self.px + self.confidence_px


class ShortAverage:
    """The average of one source's prices, weighted by how long each was true: the newest `average_ns` count most."""

    __slots__ = ("_average_ns", "_px", "_since_ns", "average_px")

    def __init__(self, average_ns: int) -> None:
        self._average_ns = average_ns
        self._px = 0.0
        self._since_ns = 0
        self.average_px = 0.0

    def note(self, px: float, now_ns: int) -> None:
        """Take in a price that is true from `now_ns` on."""
        self.at(now_ns)
        self.average_px = self.average_px or px
        self._px = px

    def at(self, now_ns: int) -> float:
        """Return the average at `now_ns`, 0.0 before the first price."""
        if self._px and now_ns > self._since_ns:
            weight = 1.0 - exp(-(now_ns - self._since_ns) / self._average_ns)
            self.average_px += weight * (self._px - self.average_px)
        self._since_ns = max(now_ns, self._since_ns)
        return self.average_px


def fuse(words: Sequence[SourceWord], rule: FusionRule, now_ns: int) -> Fused:
    """Return the price that enough of the sources agree on, and whether it may be traded on.

    The price is the weighted median of the kept sources, weights 1/max(confidence, 1 bp)²: the best source decides, as
    long as others confirm it. A source that jumped against its own average is kept only if another one is beside it.
    """
    dropped: list[Dropped] = []
    live: list[SourceWord] = []
    for word in words:
        why = find_fault(word, now_ns)
        if why:
            dropped.append(Dropped(word.source, why))
        else:
            live.append(word)
    if len(live) < rule.min_live:
        told = f"{len(live)} live of {len(words)} sources, {rule.min_live} needed"
        return _without_price(Verdict.HALT, _median(live), len(live), dropped, told)
    steady = [word for word in live if not _has_jumped_alone(word, live, rule)]
    dropped += [Dropped(word.source, _tell_jump(word)) for word in live if word not in steady]
    if len(steady) < rule.min_kept:
        told = f"{dropped[-1].source} {dropped[-1].reason}"
        return _without_price(Verdict.REDUCE_ONLY, _median(live), len(live), dropped, told)
    median_px = _median(steady)
    kept = [word for word in steady if _is_near(word, median_px, rule)]
    for word in steady:
        if word not in kept:
            away = f"{word.px / median_px - 1.0:+.2%} off the median {median_px:g}"
            dropped.append(Dropped(word.source, f"{away}, allowed {_allowed(word, rule):.2%}"))
    if len(kept) < rule.min_kept:
        told = f"{len(kept)} of {len(live)} live sources near their median {median_px:g}, {rule.min_kept} needed"
        return _without_price(Verdict.REDUCE_ONLY, median_px, len(live), dropped, told)
    px = _weighted_median(kept)
    lowest, highest = min(kept, key=_px_of), max(kept, key=_px_of)
    spread = highest.px / lowest.px - 1.0
    chosen_px = max(word.confidence_px for word in kept if word.px == px)
    confidence_px = max(chosen_px, px - lowest.px, highest.px - px)
    verdict, told = Verdict.OK, f"{len(kept)} sources within {spread:.2%}"
    if dropped:
        verdict, told = Verdict.DEGRADED, f"{len(kept)} of {len(words)} sources within {spread:.2%}"
    apart = f"{lowest.source} {lowest.px:g} and {highest.source} {highest.px:g} are {spread:.2%} apart"
    if spread > rule.halt_spread_fraction:
        verdict, told = Verdict.HALT, f"{apart}, stop at {rule.halt_spread_fraction:.0%}"
    elif spread > rule.reduce_spread_fraction:
        verdict, told = Verdict.REDUCE_ONLY, f"{apart}, limit {rule.reduce_spread_fraction:.0%}"
    return Fused(
        verdict,
        px,
        median_px,
        confidence_px,
        spread,
        len(live),
        tuple(word.source for word in kept),
        tuple(dropped),
        _tell(told, dropped),
    )


def find_fault(word: SourceWord, now_ns: int) -> str:
    """Return why a word cannot be used whatever others say, "" if it can."""
    if not (isfinite(word.px) and isfinite(word.confidence_px)):
        return "its price is not a number"
    if word.px <= 0.0 or word.confidence_px < 0.0:
        return f"its price {word.px:g} ± {word.confidence_px:g} is not positive"
    age_ns = now_ns - word.ts_event_ns
    if age_ns < -MAX_AHEAD_NS:
        return f"{-age_ns / NS_PER_S:.0f} s ahead of the clock, limit {MAX_AHEAD_NS / NS_PER_S:.0f} s"
    if age_ns > word.max_age_ns:
        return f"{age_ns / NS_PER_S:.0f} s old, limit {word.max_age_ns / NS_PER_S:.0f} s"
    fraction = word.confidence_px / word.px
    if fraction > word.max_confidence_fraction:
        return f"confidence ±{fraction:.2%}, limit {word.max_confidence_fraction:.2%}"
    return ""


def _without_price(verdict: Verdict, median_px: float, live: int, dropped: list[Dropped], told: str) -> Fused:
    return Fused(verdict, 0.0, median_px, 0.0, 0.0, live, (), tuple(dropped), _tell(told, dropped))


def _tell(told: str, dropped: list[Dropped]) -> str:
    names = "; ".join(f"{one.source}: {one.reason}" for one in dropped)
    return f"{told}; dropped {names}" if names else told


def _has_jumped_alone(word: SourceWord, live: list[SourceWord], rule: FusionRule) -> bool:
    """Tell whether a price is far from the source's own average, and no other source stands beside it."""
    average_px = word.average_px
    if not average_px or abs(word.px / average_px - 1.0) <= rule.max_jump_fraction + _TOLERANCE:
        return False
    return not any(other is not word and _is_near(other, word.px, rule) for other in live)


def _tell_jump(word: SourceWord) -> str:
    jump = word.px / word.average_px - 1.0
    return f"jumped {jump:+.1%} from its own average {word.average_px:g} and awaits a second source"


def _allowed(word: SourceWord, rule: FusionRule) -> float:
    return max(rule.max_deviation_fraction, rule.confidence_multiple * word.confidence_px / word.px)


def _is_near(word: SourceWord, px: float, rule: FusionRule) -> bool:
    return abs(word.px / px - 1.0) <= _allowed(word, rule) + _TOLERANCE


def _px_of(word: SourceWord) -> float:
    return word.px


def _median(words: list[SourceWord]) -> float:
    ordered = sorted(word.px for word in words)
    half = len(ordered) // 2
    if not ordered:
        return 0.0
    return ordered[half] if len(ordered) % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def _weighted_median(words: list[SourceWord]) -> float:
    """Return the price at which half of the weight is reached, from below."""
    weights = [max(word.confidence_px / word.px, LEAST_CONFIDENCE_FRACTION) ** -2 for word in words]
    half = 0.5 * sum(weights)
    reached = 0.0
    px = 0.0
    for word, weight in sorted(zip(words, weights, strict=True), key=lambda pair: (pair[0].px, pair[1])):
        px = word.px
        reached += weight
        if reached >= half:
            break
    return px
