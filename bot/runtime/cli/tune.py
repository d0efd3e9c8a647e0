"""`evenkeel tune`: what each policy costs against the tracking error it leaves, on the vault's own recording."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bot.domain.errors import ConfigError
from bot.domain.results import FrontierPoint
from bot.domain.units import utc_text
from bot.runtime.configuration.config import load_vaults
from bot.runtime.session import open_vault_recording
from bot.runtime.studies.tuning import (
    FAMILIES,
    Job,
    aversion_of,
    choose_families,
    family_of,
    find_scale,
    jobs_of,
    run_all,
    with_daily_sd,
)
from bot.simulation.frontier import cost_at, frontier, setting_at
from strategies import POLICIES, RiskAverse

NO_TERMINAL_COLUMNS: Final = 160  # of a file or a pipe, which has no width
QUICK_POINTS: Final = 3
USUAL_EVERY_S: Final = 10.0  # a fifth of the time of deciding on every event, and figures within a few per cent
QUICK_EVERY_S: Final = 30.0

VaultFile = Annotated[Path, typer.Argument(metavar="VAULT.yaml", help="Vault file")]
Policies = Annotated[str, typer.Option("--policies", metavar="all|POLICY,…", help="Which policies to run")]
Points = Annotated[int, typer.Option("--points", min=1, max=100, help="Settings of each policy")]
Risk = Annotated[
    str, typer.Option("--risk", metavar="daily_sd=QUOTE", help="Find the risk aversion with this tracking error a day")
]
Output = Annotated[Path | None, typer.Option("--output", metavar="DIR", help="Write frontier.png and frontier.json")]
Quick = Annotated[bool, typer.Option("--quick", help="Three settings of each, and a decision every 30 s only")]
Hours = Annotated[float | None, typer.Option("--hours", min=0.1, help="End so long after the recording's start")]
Every = Annotated[
    float,
    typer.Option("--every", metavar="SECONDS", min=0, help="Decide no more often; 0: on every event, as replay does"),
]
Workers = Annotated[int, typer.Option("--workers", min=0, max=256, help="Processes; default: one per core")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]


class Met(msgspec.Struct, frozen=True):
    """The setting that was found for a wanted tracking error, and what came of it when it was run."""

    daily_sd_quote: float
    risk_aversion_per_quote: float
    point: FrontierPoint


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """All of one call. `efficient` are the specs of the points that no other beats; unhedged is beside them.

    `own_over_frontier` is what the vault's policy costs more than the cheapest of all at its tracking error, as a share
    of that; 0 if it is one of them, None if nothing reaches as far.
    """

    vault: str
    recording: str
    start: str
    end: str
    hours: float | None
    every_s: float
    underlying: str
    points: list[FrontierPoint]
    efficient: list[str]
    own: FrontierPoint
    own_over_frontier: float | None
    met: Met | None = None


def tune(
    vault_file: VaultFile,
    policies: Policies = "all",
    points: Points = 6,
    risk: Risk = "",
    output: Output = None,
    quick: Quick = False,
    hours: Hours = None,
    every_s: Every = USUAL_EVERY_S,
    workers: Workers = 0,
    as_json: AsJson = False,
) -> None:
    """Replay every policy over its main parameter and show which settings nothing beats, and where the vault stands.

    The vault's limits are lifted, so that policies are compared and nothing else. How to read it: docs/frontier.md.
    """
    (vault,) = load_vaults([vault_file], allow_live=True)
    wanted_quote = parse_risk(risk) if risk else None
    recording = open_vault_recording(vault)
    manifest = recording.manifest
    if quick:
        points, every_s = min(points, QUICK_POINTS), max(every_s, QUICK_EVERY_S)
    scale = find_scale(vault, recording)
    families = choose_families(policies, vault, scale)
    own_family = family_of(vault.policy)
    own_job = Job(own_family, vault.policy)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)  # now, not when minutes have been spent
    jobs = {job.policy.spec: job for job in (own_job, *jobs_of(families, scale, points))}
    err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    found: list[FrontierPoint] = []
    for point in run_all(vault, jobs.values(), workers=workers, hours=hours, every_s=every_s):
        found.append(point)
        err.print(f"{len(found)} of {len(jobs)}: {point.spec}")
    order = [*FAMILIES, own_family]
    found.sort(key=lambda point: (order.index(point.family), point.sd_day_quote))
    own = next(point for point in found if point.spec == vault.policy.spec)
    met = unmet = None
    if wanted_quote is not None:
        averse = own_family if isinstance(vault.policy, RiskAverse) else "impulse"
        settings = [(value, one) for one in found if one.family == averse and (value := aversion_of(one)) is not None]
        setting = setting_at(settings, wanted_quote)
        if setting is None:
            reached = [one.sd_day_quote for _, one in settings]
            span = f"{min(reached):,.0f} to {max(reached):,.0f}" if reached else "none, as no policy of it was run"
            unmet = f"--risk: expected a tracking error that was reached, {span}, found {wanted_quote:g}"
        else:
            policy = with_daily_sd(vault.policy, setting)
            (point,) = run_all(vault, [Job(averse, policy)], workers=1, hours=hours, every_s=every_s)
            met = Met(wanted_quote, policy.known_risk_aversion_per_quote, point)
    efficient = frontier(one for one in found if one.hedges)
    least_quote = cost_at(efficient, own.sd_day_quote)
    result = Tuned(
        vault=vault.vault,
        recording=manifest.name,
        start=utc_text(manifest.start_ns),
        end=utc_text(manifest.end_ns),
        hours=hours,
        every_s=every_s,
        underlying=scale.view.underlying,
        points=found,
        efficient=[one.spec for one in efficient],
        own=own,
        own_over_frontier=own.cost_quote / least_quote - 1.0 if least_quote else None,
        met=met,
    )
    if output is not None:
        _write(result, output, err)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(result), indent=2, allow_nan=False))
    else:
        console = Console(soft_wrap=True, markup=False, highlight=False)
        if not console.is_terminal:
            console = Console(soft_wrap=True, markup=False, highlight=False, width=NO_TERMINAL_COLUMNS)
        print_tuned(console, result)
    if unmet is not None:
        raise ConfigError([unmet])


def parse_risk(text: str) -> float:
    """Return the amount of `daily_sd=QUOTE`. Raises ConfigError."""
    name, _, amount = text.partition("=")
    try:
        wanted_quote = float(amount)
    except ValueError:
        wanted_quote = 0.0
    if name.strip() != "daily_sd" or not 0.0 < wanted_quote < 1e15:
        raise ConfigError([f"--risk: expected daily_sd=QUOTE with an amount above 0, found {text!r}"])
    return wanted_quote


def print_tuned(console: Console, result: Tuned) -> None:
    """Print the table for people, and what it says of the vault."""
    cut = f", first {result.hours:g} hours" if result.hours is not None else ""
    cut += f", a decision every {result.every_s:g} s" if result.every_s else ""
    table = Table(title=f"{result.vault} on {result.recording}{cut}; limits lifted", title_justify="left")
    table.add_column("setting")
    columns = ("cost", f"delta rms, {result.underlying}", "sd a day", "realised", "hedges", "P&L")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("")
    for point in result.points:
        marks = ["efficient"] if point.spec in result.efficient else []
        marks += ["the vault's"] if point.spec == result.own.spec else []
        marks += [point.state] if point.state != "running" else []
        table.add_row(
            short_spec(point.spec),
            f"{point.cost_quote:,.2f}",
            f"{point.delta_rms_base:,.4g}",
            f"{point.sd_day_quote:,.0f}",
            f"{point.realised_sd_day_quote:,.0f}",
            f"{point.hedges:,}",
            f"{point.pnl_quote:+,.0f}",
            ", ".join(marks),
        )
    console.print(table)
    for line in verdict(result):
        console.print(line)


def verdict(result: Tuned) -> list[str]:
    """Return what the points say of the vault's own policy, in words."""
    own = result.own
    place = f"the vault's policy costs {own.cost_quote:,.2f} at {own.sd_day_quote:,.0f} a day"
    if own.spec in result.efficient:
        lines = [f"{place}: nothing tried beats it"]
    elif result.own_over_frontier is None:
        lines = [f"{place}: nothing tried leaves as much or as little"]
    else:
        lines = [f"{place}: {result.own_over_frontier:.1%} more than the cheapest at the same tracking error"]
    if result.met is not None:
        met = result.met
        lines.append(
            f"for {met.daily_sd_quote:,.0f} a day: risk_aversion_per_quote: {met.risk_aversion_per_quote:.3g},"
            f" which left {met.point.sd_day_quote:,.0f} a day for {met.point.cost_quote:,.2f}"
        )
        lines.append(f"or as a limit on the band itself: risk_aversion: {{daily_sd_quote: {met.daily_sd_quote:g}}}")
    return lines


def short_spec(spec: str) -> str:
    """Return a spec without the parameters that stand at their defaults."""
    name, *pairs = spec.split(":")
    fields = POLICIES[name].model_fields
    kept = []
    for pair in pairs:
        key, _, value = pair.partition("=")
        field = fields.get(key)
        default: Any = field.default if field is not None else None
        text = str(default).lower() if isinstance(default, bool) else str(default).removesuffix(".0")
        if field is None or field.is_required() or value != text:
            kept.append(pair)
    return ":".join([name, *kept])


def _write(result: Tuned, folder: Path, err: Console) -> None:
    from bot.telemetry.frontier_picture import draw_frontier  # noqa: PLC0415 — brings matplotlib
    from bot.telemetry.pictures import render_png  # noqa: PLC0415 — as above

    folder.mkdir(parents=True, exist_ok=True)
    picture = draw_frontier(result.points, result.efficient, result.own.spec, f"{result.vault} on {result.recording}")
    contents: Sequence[tuple[str, bytes]] = (
        ("frontier.json", msgspec.json.format(msgspec.json.encode(result), indent=2)),
        ("frontier.png", render_png(picture)),
    )
    for name, content in contents:
        (folder / name).write_bytes(content)
        err.print(f"wrote {folder / name}")
