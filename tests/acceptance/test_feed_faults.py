"""A real recording, damaged: whatever is wrong with a quote, it is counted, refused and never traded on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf, nan

import msgspec
import numpy as np
import pytest

from bot.domain.market import IndexPrice, MarketEvent, Quote, QuoteFault, Settlement, VolQuote
from bot.domain.units import NS_PER_S
from tests.acceptance.vaults import Run, first_day, load, run

SHARE = 0.01
COPIED_SHARE = 0.025
STALE_NS = 700 * NS_PER_S  # the recording allows 600 s
LATE_BATCHES = 40

replace = msgspec.structs.replace
Damage = Callable[[MarketEvent], MarketEvent]


def with_px(event: MarketEvent, px: float) -> MarketEvent:
    if isinstance(event, Quote):
        return replace(event, bid_px=px)
    if isinstance(event, VolQuote):
        return replace(event, forward_px=px)
    return replace(event, px=px)


def crossed(event: MarketEvent) -> MarketEvent:
    if isinstance(event, Quote):
        return replace(event, bid_px=event.ask_px, ask_px=event.bid_px)
    assert isinstance(event, VolQuote)
    return replace(event, bid_vol=0.9, ask_vol=0.8)


def older(event: MarketEvent) -> MarketEvent:
    return replace(event, ts_event_ns=event.ts_event_ns - 1, seq=event.seq - 1)


def ahead(event: MarketEvent) -> MarketEvent:
    return replace(event, ts_event_ns=event.ts_recv_ns + 3600 * NS_PER_S, seq=event.seq + 1)


NUMBERS: dict[str, tuple[Damage, QuoteFault]] = {
    "not a number": (lambda event: with_px(event, nan), QuoteFault.NOT_FINITE),
    "infinite": (lambda event: with_px(event, inf), QuoteFault.NOT_FINITE),
    "zero": (lambda event: with_px(event, 0.0), QuoteFault.NOT_POSITIVE),
    "negative": (lambda event: with_px(event, -1.0), QuoteFault.NOT_POSITIVE),
}
COPIES: dict[str, tuple[Damage, QuoteFault]] = {
    **NUMBERS,
    "crossed": (crossed, QuoteFault.CROSSED),
    "duplicated": (lambda event: event, QuoteFault.DUPLICATE),
    "out of order": (older, QuoteFault.OUT_OF_ORDER),
    "from the future": (ahead, QuoteFault.FROM_THE_FUTURE),
}


class Damaged:
    """Batches with damage done to them, and how much of each kind."""

    def __init__(self) -> None:
        self.batches: list[list[MarketEvent]] = []
        self.injected: Counter[QuoteFault] = Counter()
        self.by_kind: Counter[str] = Counter()

    def damage(self, event: MarketEvent, kinds: dict[str, tuple[Damage, QuoteFault]], draw: int) -> MarketEvent:
        kind = list(kinds)[draw % len(kinds)]
        if kind == "crossed" and isinstance(event, IndexPrice):
            kind = "negative"  # an index has no two sides
        change, fault = kinds[kind]
        self.injected[fault] += 1
        self.by_kind[kind] += 1
        return change(event)


def with_damaged_copies(batches: list[list[MarketEvent]], seed: int) -> Damaged:
    """Add a damaged copy to about one event in forty: right behind it, at once, or as a straggler batches later."""
    rng = np.random.default_rng(seed)
    damaged = Damaged()
    stragglers: list[tuple[int, MarketEvent]] = []
    for number, batch in enumerate(batches):
        found = list(batch)
        recv_ns = batch[0].ts_recv_ns
        while stragglers and stragglers[0][0] <= number:
            late = replace(stragglers.pop(0)[1], ts_recv_ns=recv_ns)
            found.insert(int(rng.integers(len(found) + 1)), late)
            damaged.injected[QuoteFault.OUT_OF_ORDER] += 1
            damaged.by_kind["straggler"] += 1
        for event in batch:
            if isinstance(event, Quote | VolQuote | IndexPrice) and rng.random() < COPIED_SHARE:
                if isinstance(event, IndexPrice) and rng.random() < 0.2 and number + LATE_BATCHES < len(batches):
                    stragglers.append((number + LATE_BATCHES, event))
                    continue
                copy = damaged.damage(event, COPIES, int(rng.integers(1 << 16)))
                found.insert(int(rng.integers(found.index(event) + 1, len(found) + 1)), copy)
        damaged.batches.append(found)
    return damaged


def with_stale_copies(batches: list[list[MarketEvent]]) -> Damaged:
    """Put a copy that was too long under way before the first event of everything, and after every long silence."""
    damaged = Damaged()
    last_ns: dict[tuple[type, str], int] = {}
    for batch in batches:
        found = []
        for event in batch:
            if not isinstance(event, Settlement):
                key = (type(event), getattr(event, "instrument_id", ""))
                stale_ns = event.ts_recv_ns - STALE_NS
                if stale_ns > last_ns.get(key, 0):
                    found.append(replace(with_px(event, 777.0), ts_event_ns=stale_ns))
                    damaged.injected[QuoteFault.STALE] += 1
                last_ns[key] = event.ts_event_ns
            found.append(event)
        damaged.batches.append(found)
    return damaged


@pytest.fixture(scope="module")
def clean() -> Run:
    return run(load("eth-straddle"), batches=first_day("eth-straddle"))


@pytest.mark.parametrize("seed", [1])
def test_damaged_copies_are_counted_and_change_no_command(clean: Run, seed: int) -> None:
    vault = load("eth-straddle")
    damaged = with_damaged_copies(first_day("eth-straddle"), seed)
    summary = run(vault, batches=damaged.batches).summary
    assert min(damaged.by_kind[kind] for kind in (*COPIES, "straggler")) > 20
    assert damaged.injected.total() > 2_000
    assert summary.quotes_refused == {str(fault): count for fault, count in sorted(damaged.injected.items())}
    assert summary.commands_sha256 == clean.summary.commands_sha256
    assert summary.pnl_quote == clean.summary.pnl_quote
    assert summary.refusals == clean.summary.refusals


def test_stale_copies_are_counted_and_change_no_command(clean: Run) -> None:
    vault = load("eth-straddle")
    damaged = with_stale_copies(first_day("eth-straddle"))
    summary = run(vault, batches=damaged.batches).summary
    assert damaged.injected.total() > 300
    assert summary.quotes_refused == {"stale": damaged.injected.total()}
    assert summary.commands_sha256 == clean.summary.commands_sha256


def test_damage_to_the_originals_is_counted_and_never_traded_on(clean: Run) -> None:
    vault = load("eth-straddle")
    rng = np.random.default_rng(3)
    damaged = Damaged()
    for batch in first_day("eth-straddle"):
        damaged.batches.append(
            [
                damaged.damage(event, NUMBERS, int(rng.integers(1 << 16)))
                if isinstance(event, Quote | VolQuote | IndexPrice) and rng.random() < SHARE
                else event
                for event in batch
            ]
        )
    found = run(vault, batches=damaged.batches)
    summary = found.summary
    assert summary.quotes_refused == {str(fault): count for fault, count in sorted(damaged.injected.items())}
    assert summary.state == "running"
    # One quote in a hundred is missing: hedges may come a quote later, nothing else changes.
    assert summary.pnl_quote["total"] == pytest.approx(clean.summary.pnl_quote["total"], abs=100.0)
    assert summary.delta_rms_base == pytest.approx(clean.summary.delta_rms_base, rel=0.05)
