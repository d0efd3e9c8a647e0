"""How fresh things are: feeds by age against what is allowed, venues by health, and the daemon's own pulse."""

from __future__ import annotations

from typing import Any

from bot.domain.windows import FeedState, VaultState, VenueState
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.parts.cells import BAD, GOOD, MUTED, WARN, Cell, Column, Row, facts, sheet


def feeds(state: VaultState) -> dict[str, Any]:
    """Return a row per stream: its age as a bar against what is allowed, and in words."""
    columns = (Column("feed"), Column("kind", is_wide=True), Column("age"), Column("allowed", is_number=True))
    rows = {f"{one.kind} {one.name}": _feed(place, one) for place, one in enumerate(state.feeds)}
    stale = sum(one.is_stale for one in state.feeds)
    note = f"{stale} of {len(rows)} stale" if stale else ""
    return sheet("Feeds", columns, rows, empty="no feed is known yet", note=note)


def _feed(at: int, one: FeedState) -> Row:
    share = None if one.age_s is None or not one.max_age_s else min(1.0, max(0.0, one.age_s / one.max_age_s))
    tone = BAD if one.is_stale else WARN if share is not None and share > 0.8 else GOOD
    text = "nothing came yet" if one.age_s is None else figures.age(one.age_s)
    bar = (0.0, round(share, 2)) if share is not None else None
    shown = Cell(f"{text}{', stale' if one.is_stale else ''}", sort=one.age_s or 0.0, tone=tone, bar=bar)
    return Row(at, (Cell(one.name), Cell(one.kind), shown, Cell(figures.age(one.max_age_s))))


def venues(state: VaultState) -> dict[str, Any]:
    """Return a row per venue or chain: health, why, and how old its word on our account is."""
    rows = {one.venue: _venue(place, one) for place, one in enumerate(state.venues)}
    columns = (Column("venue"), Column("health"), Column("why"), Column("account heard", is_number=True))
    return sheet("Venues", columns, rows, empty="no venue was heard of: a recording is replayed")


def _venue(at: int, one: VenueState) -> Row:
    health = one.health.lower()
    tone = {"up": GOOD, "degraded": WARN, "unknown": MUTED}.get(health, BAD)
    heard = "" if one.account_age_s is not None else "its word on our account is not needed, or did not come yet"
    age = f"{figures.age(one.account_age_s)} ago" if one.account_age_s is not None else figures.DASH
    return Row(at, (Cell(one.venue), Cell(health, tone=tone), Cell(one.reason), Cell(age, hint=heard)))


def pulse(state: VaultState) -> dict[str, Any]:
    """Return how the daemon itself does."""
    meters = state.meters
    mean_s = meters.decide.sum_s / meters.decide.count if meters.decide.count else None
    refused = sum(state.refusals.values())
    pairs = [
        ("decisions", Cell(f"{state.decisions:,}")),
        ("hedges", Cell(f"{state.hedges:,}")),
        ("turnover", Cell(figures.money(state.turnover_quote))),
        (
            "refused",
            Cell(f"{refused:,}", hint=", ".join(f"{name} {count:,}" for name, count in state.refusals.items())),
        ),
        ("mean decision", Cell(f"{mean_s * 1e6:,.0f} µs" if mean_s is not None else figures.DASH)),
        ("loop late by", Cell(f"{meters.loop_lag_s * 1e3:,.1f} ms", tone=WARN if meters.loop_lag_s > 0.25 else "")),
        ("journal", Cell(f"row {meters.journal_seq:,}, {meters.journal_lag_s:.1f} s behind")),
        ("memory", Cell(f"{meters.rss_bytes / 1e6:,.0f} MB")),
        ("version", Cell(state.version, hint=f"run {state.run_id}, config {state.config_sha256[:12]}")),
    ]
    if state.transactions or state.failed_transactions:
        told = f"{state.transactions:,}, {state.failed_transactions:,} of them failed"
        pairs.insert(2, ("transactions", Cell(told)))
    pairs += [(f"override {name}", Cell(value, tone=WARN)) for name, value in sorted(state.overrides.items())]
    return facts("Daemon", pairs)
