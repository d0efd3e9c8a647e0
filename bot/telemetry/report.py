"""The report of a run: pictures as files, and one page that needs nothing but itself.

Every figure is taken from the summaries as it is, never computed a second way; every text from outside is escaped.
Must never load anything, run a script or read a clock: the same runs give the same files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from bot.domain.results import HedgeMark, RunSeries, RunSummary
from bot.domain.units import utc_second_text
from bot.telemetry.pictures import (
    NARROW,
    PALETTE,
    WIDE,
    Picture,
    Units,
    count,
    draw_pictures,
    duration,
    render_png,
    render_svg,
    significant,
    words,
)

MAX_HEDGES_LISTED: Final = 200


def write_report(
    runs: Sequence[tuple[RunSummary, RunSeries]], out_dir: Path, *, base: str = "base", quote: str = "USD"
) -> list[Path]:
    """Write `report.html` and its pictures into `out_dir`, made if missing, and return the paths, the page first.

    The first run is the one the report is about, the others are compared with it. `base` and `quote` are what the
    units of `_base` and `_quote` figures are called, such as ETH and USD. Raises ValueError without a run, or if the
    columns of a series differ in length. Borrows matplotlib's settings while it draws: one thread at a time.
    """
    labels, pictures, units = _draw(runs, base, quote)
    out_dir.mkdir(parents=True, exist_ok=True)
    page_path = out_dir / "report.html"
    page_path.write_text(_page(labels, runs, pictures, units), encoding="utf-8")
    paths = [page_path]
    for picture in pictures:
        paths.append(out_dir / f"{picture.name}.png")
        paths[-1].write_bytes(render_png(picture))
    return paths


def render_page(runs: Sequence[tuple[RunSummary, RunSeries]], *, base: str = "base", quote: str = "USD") -> str:
    """Return the text of the page that `write_report` writes, with its pictures inside; nothing is written."""
    labels, pictures, units = _draw(runs, base, quote)
    return _page(labels, runs, pictures, units)


def _draw(
    runs: Sequence[tuple[RunSummary, RunSeries]], base: str, quote: str
) -> tuple[list[str], list[Picture], Units]:
    if not runs:
        raise ValueError("expected at least one run to report, found none; hint: the first run is the main one")
    units = Units(base, quote)
    labels = _labels([summary.policy for summary, _ in runs])
    return labels, draw_pictures(labels, runs, units), units


def _labels(policies: Sequence[str]) -> list[str]:
    """Return the policies' names, numbered from the second use of a name on."""
    uses = [policies[: place + 1].count(policy) for place, policy in enumerate(policies)]
    return [policy if use == 1 else f"{policy} ({use})" for policy, use in zip(policies, uses, strict=True)]


def _page(
    labels: Sequence[str], runs: Sequence[tuple[RunSummary, RunSeries]], pictures: Sequence[Picture], units: Units
) -> str:
    summary, series = runs[0]
    summaries = [each for each, _ in runs]
    title = escape(f"{summary.vault}: {labels[0]}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{_style()}</style>
</head>
<body>
<main>
<header>
<p class="kicker">Evenkeel report</p>
<h1>{title}</h1>
<p class="lead">{escape(" ".join(_headline(labels, runs, units)))}</p>
</header>
<section>
<h2>Runs side by side</h2>
{_runs_table(labels, summaries, units)}
</section>
{"".join(_figure(picture) for picture in pictures)}
<section>
<h2>P&amp;L by part</h2>
{_parts_tables(labels, summaries, units)}
</section>
<section>
<h2>Why it did not hedge</h2>
{_refusal_tables(labels, summaries)}
</section>
{_deltas_section(summary)}{_margin_section(summary)}<section>
<h2>Hedges of {escape(labels[0])}</h2>
{_hedges_table(series.hedges, units)}
</section>
<section>
<h2>Where these figures come from</h2>
{_provenance(labels, summaries, series)}
</section>
</main>
</body>
</html>
"""


def _headline(labels: Sequence[str], runs: Sequence[tuple[RunSummary, RunSeries]], units: Units) -> list[str]:
    """Return the report in a few sentences: how closely it hedged, what that cost, what it changed, who did better."""
    summary, series = runs[0]
    total_quote, unhedged_quote = summary.pnl_quote["total"], summary.unhedged_total_quote
    gained_quote = total_quote - unhedged_quote
    change = f"{'gave up' if gained_quote < 0 else 'saved'} {units.money(abs(gained_quote))}"
    span = f"Over {duration(series.ts_ns[-1] - series.ts_ns[0])}" if series.ts_ns else "Without a single decision"
    sentences = [
        f"{span}, {labels[0]} made {count(summary.hedges, 'hedge')} at a cost of {units.money(summary.cost_quote)}.",
        f"Net delta was {units.size(summary.delta_rms_base)} rms, {units.size(summary.delta_max_base)} at most.",
        f"P&L was {units.money(total_quote)} against {units.money(unhedged_quote)} unhedged: hedging {change}.",
    ]
    sentences += [
        f"{label} paid {units.money(other.cost_quote)} for {count(other.hedges, 'hedge')} and a delta of "
        f"{units.size(other.delta_rms_base)} rms."
        for label, (other, _) in zip(labels[1:], runs[1:], strict=True)
        if other.hedges
    ]
    if summary.state.lower() != "running":
        sentences.append(f"The run ended {summary.state}.")
    return sentences


def _runs_table(labels: Sequence[str], summaries: Sequence[RunSummary], units: Units) -> str:
    def money(amount_quote: float) -> str:
        return units.money(amount_quote, 2)

    figures: list[tuple[str, Callable[[RunSummary], str]]] = [
        ("hedges", lambda run: f"{run.hedges:,}"),
        ("hedging cost", lambda run: money(run.cost_quote)),
        ("turnover", lambda run: units.money(run.turnover_quote, 0)),
        (f"delta rms ({units.base})", lambda run: significant(run.delta_rms_base, 4)),
        (f"delta at most ({units.base})", lambda run: significant(run.delta_max_base, 4)),
        ("P&L", lambda run: money(run.pnl_quote["total"])),
        ("unhedged P&L", lambda run: money(run.unhedged_total_quote)),
        ("largest drawdown", lambda run: money(run.max_drawdown_quote)),
        ("refusals", lambda run: f"{sum(run.refusals.values()):,}"),
        ("state at the end", lambda run: run.state),
    ]
    if any(run.transactions for run in summaries):
        figures[1:1] = [
            ("transactions", lambda run: f"{run.transactions:,}"),
            ("transactions that failed, gas paid", lambda run: f"{run.failed_transactions:,}"),
        ]
    rows = [[name, *map(figure, summaries)] for name, figure in figures]
    return _table("Each run over the same market; the first is the one this report is about.", ["", *labels], rows)


def _parts_tables(labels: Sequence[str], summaries: Sequence[RunSummary], units: Units) -> str:
    tables = [
        _by_key(
            f"Profit and loss by cause, in {units.quote}; the parts add up to the total.",
            labels,
            [run.pnl_quote for run in summaries],
            lambda amount: units.money(amount, 2),
            [["unexplained, share of absolute parts / of part totals", *(_share(run) for run in summaries)]],
        )
    ]
    if any(amount for run in summaries for amount in run.gap_pnl_quote.values()):
        tables.append(
            _by_key(
                f"The steps across gaps in the recording, reported apart, in {units.quote}.",
                labels,
                [run.gap_pnl_quote for run in summaries],
                lambda amount: units.money(amount, 2),
            )
        )
    return "".join(tables)


def _share(run: RunSummary) -> str:
    shares = (run.unexplained_share_of_abs_parts, run.unexplained_share_of_part_totals)
    return " / ".join(f"{share:.2%}" if math.isfinite(share) else "n/a" for share in shares)


def _refusal_tables(labels: Sequence[str], summaries: Sequence[RunSummary]) -> str:
    tables = [
        _by_key(caption, labels, counts, lambda number: f"{number:,.0f}") if any(counts) else f"<p>{none}</p>"
        for caption, counts, none in (
            ("Decisions refused, by reason.", [run.refusals for run in summaries], "No decision was refused."),
            ("Quotes refused, by reason.", [run.quotes_refused for run in summaries], "No quote was refused."),
        )
    ]
    return "".join(tables)


def _deltas_section(summary: RunSummary) -> str:
    """Say which delta each underlying was hedged by and on what evidence; nothing where nobody asked."""
    parts = []
    for underlying, one in summary.deltas.items():
        used = one.used.replace("_", " ")
        asked = "" if one.used == one.model else f" instead of {one.model.replace('_', ' ')}"
        error = "unknown" if one.stickiness_error_ratio is None else f"{one.stickiness_error_ratio:.2f}"
        a, b, c = one.coefficients_ratio
        rows = [
            [model.replace("_", " "), f"{one.gain_share[model]:+.1%}", f"{one.t_ratio[model]:+.1f}"]
            for model in one.gain_share
            if model != "black"
        ]
        parts.append(
            f"<p>{escape(underlying)} was hedged by the {escape(used)} delta at the end{escape(asked)}"
            f"{escape(f': {one.why}' if one.why else '')}. Its smiles were looked at {one.moments:,} times: "
            f"skew-stickiness ratio {one.stickiness_ratio:.2f}, standard error {error}; minimum variance "
            f"{a:+.3f} {b:+.3f} δ {c:+.3f} δ².</p>"
            + _table(
                "Variance each delta would have saved this book against Black's, on moves it had not learnt from, and "
                "how many standard errors that is.",
                ["delta", "saved", "standard errors"],
                rows,
            )
        )
    if summary.surface_fallbacks:
        rows = [[label, why] for label, why in summary.surface_fallbacks.items()]
        parts.append(_table("Expiries whose surface could not be fitted when it was needed.", ["expiry", "why"], rows))
    if summary.unquoted_hedges_s:
        rows = [[name, f"{longest_s / 60:.0f} min"] for name, longest_s in summary.unquoted_hedges_s.items()]
        caption = "Option hedges that were marked by the surface for long, without a quote of their own."
        parts.append(_table(caption, ["option", "longest"], rows))
    return f"<section>\n<h2>Deltas and surface</h2>\n{''.join(parts)}\n</section>\n" if parts else ""


def _margin_section(summary: RunSummary) -> str:
    """Say what margin of each account was like; nothing where it was not reckoned."""
    if not summary.margin:
        return ""

    def money(amount: float | None) -> str:
        return "unknown" if amount is None else f"{amount:,.0f}"

    rows = [
        [
            name,
            one.model,
            money(one.equity_quote),
            money(one.initial_quote),
            money(one.maintenance_quote),
            money(one.required_quote),
            f"{one.worst_utilisation_ratio:.1%}",
            ", ".join(f"{state} {seconds / 3600:.1f} h" for state, seconds in one.state_s.items()) or one.state,
            f"{one.cuts:,}",
        ]
        for name, one in summary.margin.items()
    ]
    caption = (
        "Margin by account at the end, the equity wanted for a bad move until a transfer arrives, how near to "
        "liquidation (100 %) it ever was, and hedges it held back."
    )
    heads = ["account", "model", "equity", "initial", "maintenance", "wanted", "worst", "time in states", "held back"]
    doubts = [f"{name}: {why}" for name, one in summary.margin.items() for why in one.degraded]
    told = f"<p>{escape('; '.join(doubts))}</p>" if doubts else ""
    if summary.transfers:
        told += f"<p>{summary.transfers} transfers of collateral, {summary.late_transfers} late.</p>"
    if summary.breaker_trips or summary.condition_changes:
        told += f"<p>{summary.breaker_trips} breakers opened, conditions changed {summary.condition_changes} times.</p>"
    return f"<section>\n<h2>Margin</h2>\n{_table(caption, heads, rows)}{told}\n</section>\n"


def _hedges_table(hedges: Sequence[HedgeMark], units: Units) -> str:
    if not hedges:
        return "<p>There were none.</p>"
    rows = [
        [
            utc_second_text(hedge.ts_ns),
            "buy" if hedge.qty_base > 0 else "sell",
            f"{abs(hedge.qty_base):,.8g}",
            f"{hedge.px:,.10g}",
            units.money(hedge.cost_quote, 2),
            hedge.instrument_id,
            hedge.order_id,
            hedge.reason,
        ]
        for hedge in hedges[:MAX_HEDGES_LISTED]
    ]
    listed = f"The first {len(rows):,} of {len(hedges):,} fills" if len(rows) < len(hedges) else "Every fill"
    head = [
        "time (UTC)",
        "side",
        f"quantity ({units.base})",
        "price",
        f"cost ({units.quote})",
        "instrument",
        "order",
        "reason",
    ]
    return _table(f"{listed}, in order of time; the cost is fee and slippage.", head, rows, kind="log hedges")


def _provenance(labels: Sequence[str], summaries: Sequence[RunSummary], series: RunSeries) -> str:
    rows = [
        [label, run.start, run.end, str(run.seed), f"{run.events:,}", f"{run.decisions:,}", run.commands_sha256]
        for label, run in zip(labels, summaries, strict=True)
    ]
    head = ["run", "start", "end", "seed", "events", "decisions", "commands_sha256"]
    gaps = [
        [utc_second_text(start_ns), utc_second_text(end_ns), duration(end_ns - start_ns)]
        for start_ns, end_ns in series.gaps_ns
    ]
    return _table(
        "The same vault, recording and seed give the same commands_sha256.", head, rows, kind="log provenance"
    ) + (_table("Gaps in the recording.", ["from (UTC)", "to (UTC)", "length"], gaps, kind="log") if gaps else "")


def _by_key(
    caption: str,
    labels: Sequence[str],
    columns: Sequence[dict[str, float]] | Sequence[dict[str, int]],
    write: Callable[[float], str],
    more_rows: Iterable[Sequence[str]] = (),
) -> str:
    """Return a table with a column per run and a row per key of any run, in the order the keys are first seen."""
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [[words(key), *(write(column.get(key, 0)) for column in columns)] for key in keys]
    return _table(caption, ["", *labels], [*rows, *more_rows])


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "figures") -> str:
    """Return a table of texts, escaped here and nowhere else; the first cell of a row is its heading."""
    columns = "".join(f'<th scope="col">{_cell(name)}</th>' if name else "<td></td>" for name in head)
    lines = "".join(
        f'<tr><th scope="row">{_cell(first)}</th>' + "".join(f"<td>{_cell(cell)}</td>" for cell in rest) + "</tr>\n"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll {kind}" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{columns}</tr></thead><tbody>\n{lines}</tbody></table></div>\n"
    )


def _cell(text: str) -> str:
    return escape(text).replace("_", "_<wbr>")  # long names may wrap where their words end


def _figure(picture: Picture) -> str:
    drawings = "".join(
        f'<div class="{name}" role="img" aria-label="{escape(picture.alt)}">{render_svg(picture, shape)}</div>'
        for name, shape in (("wide", WIDE), ("narrow", NARROW))
    )
    return f"<section>\n<h2>{escape(picture.title)}</h2>\n<figure>{drawings}</figure>\n</section>\n"


def _style() -> str:
    light, dark = ("".join(f"--{name}:{shades[place]};" for name, shades in PALETTE.items()) for place in (0, 1))
    return f"""
:root {{ color-scheme: light dark; {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }}
main {{ max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }}
h1 {{ font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; line-height: 1.3; margin: 2.6rem 0 .6rem; overflow-wrap: anywhere; }}
.kicker {{ margin: 0; color: var(--muted); font-size: .85rem; letter-spacing: .04em; }}
.lead {{ margin: 0; max-width: 48rem; font-size: 1.05rem; }}
figure {{ margin: 0; }}
svg {{ display: block; width: 100%; height: auto; }}
svg text {{ font-family: system-ui, sans-serif !important; }}
.narrow {{ display: none; max-width: 36rem; margin: 0 auto; }}
@media (max-width: 50rem) {{ .wide {{ display: none; }} .narrow {{ display: block; }} }}
.scroll {{ overflow: auto; max-height: 36rem; margin: 0 0 1.6rem; }}
.figures {{ max-height: none; }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; color: var(--muted); padding: 0 0 .5rem; }}
caption span {{ position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem); white-space: normal; }}
th, td {{ padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--grid); text-align: left; vertical-align: top; }}
th {{ font-weight: 500; }}
thead th {{ position: sticky; top: 0; background: var(--paper); color: var(--muted); vertical-align: bottom; }}
.figures table {{ min-width: min(100%, 40rem); }}
.figures td, .figures thead th {{ text-align: right; padding: .3rem 0 .3rem .9rem; }}
.figures td {{ white-space: nowrap; }}
.figures tbody th {{ position: sticky; left: 0; background: var(--paper); }}
.log th, .log td {{ white-space: nowrap; }}
.log wbr {{ display: none; }}
.hedges :is(td, th):nth-child(n+3):nth-child(-n+5) {{ text-align: right; }}
.provenance td:last-child {{ font-family: ui-monospace, monospace; white-space: normal; overflow-wrap: anywhere; }}
.provenance td:last-child {{ min-width: 18rem; }}
@media (max-width: 50rem) {{ table {{ font-size: .8rem; }} th, td {{ padding-right: .6rem; }} }}
@media print {{ .scroll {{ max-height: none; overflow: visible; }} }}
"""
