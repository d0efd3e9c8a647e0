"""What the command line prints for people: tables and progress. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bot.domain.portfolio import PnlBreakdown
from bot.domain.results import LatencyHistogram, RunSummary
from bot.domain.units import NS_PER_S, utc_text
from bot.runtime.cli.margin_rows import margin_rows

REFRESH_EVERY_S = 0.2
PLAIN_EVERY_S = 2.0
PARTS = (*PnlBreakdown.__struct_fields__, "total")


@contextmanager
def progress_bar(
    console: Console, title: str, start_ns: int, end_ns: int, plain_every_s: float = PLAIN_EVERY_S
) -> Iterator[Callable[[int], None]]:
    """Show how far virtual time has come: a bar on a terminal, a line now and then elsewhere."""
    span_ns = max(1, end_ns - start_ns)
    last_s = time.monotonic()
    if not console.is_terminal:

        def note(now_ns: int) -> None:
            nonlocal last_s
            if time.monotonic() - last_s >= plain_every_s:
                last_s = time.monotonic()
                console.print(f"{title}: {utc_text(now_ns)}, {min(1.0, (now_ns - start_ns) / span_ns):.0%}")

        yield note
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=span_ns, at="")

        def advance(now_ns: int) -> None:
            nonlocal last_s
            if time.monotonic() - last_s >= REFRESH_EVERY_S:
                last_s = time.monotonic()
                bar.update(task, completed=now_ns - start_ns, at=utc_text(now_ns // NS_PER_S * NS_PER_S)[:16])

        yield advance


def print_comparison(console: Console, summaries: Sequence[RunSummary], base: str) -> None:
    """Print runs side by side, one column each."""
    first = summaries[0]
    table = Table(title=f"{first.vault}: {first.start[:16]} to {first.end[:16]} UTC, seed {first.seed}")
    table.add_column("", justify="left")
    for summary in summaries:
        table.add_column(summary.policy, justify="right")

    def row(name: str, cell: Callable[[RunSummary], str]) -> None:
        table.add_row(name, *(cell(summary) for summary in summaries))

    row("hedges", lambda s: f"{s.hedges:,}")
    if any(summary.transactions for summary in summaries):
        row("transactions", lambda s: f"{s.transactions:,}")
        row("  failed, gas paid", lambda s: f"{s.failed_transactions:,}")
    row("cost, USD", lambda s: _money(s.cost_quote))
    row("turnover, USD", lambda s: f"{s.turnover_quote:,.0f}")
    row(f"off target rms, {base}", lambda s: f"{s.delta_rms_base:,.2f}")
    row(f"off target max, {base}", lambda s: f"{s.delta_max_base:,.2f}")
    for other in [name for name in first.delta_rms_by_underlying_base if name != base]:
        table.add_row(f"off target rms, {other}", *(f"{s.delta_rms_by_underlying_base[other]:,.2f}" for s in summaries))
    row("  not deciding, s", lambda s: f"{s.not_deciding_s:,.0f}")
    row("P&L, USD", lambda s: _money(s.pnl_quote["total"], "+"))
    if first.numeraire != "USD":
        row(f"P&L, {first.numeraire}", lambda s: f"{s.pnl_total_numeraire:+,.4f}")
    row("  against unhedged", lambda s: _money(s.pnl_quote["total"] - s.unhedged_total_quote, "+"))
    row("max drawdown, USD", lambda s: f"{s.max_drawdown_quote:,.2f}")
    table.add_section()
    for part in PARTS[:-1]:
        table.add_row(f"  {part}", *(_money(s.pnl_quote[part], "+") for s in summaries))
    row("  of that across data gaps", lambda s: _money(s.gap_pnl_quote["total"], "+"))
    row("|unexplained| of all moves", lambda s: f"{s.unexplained_share_of_abs_parts:.2%}")
    row("|unexplained| of part totals", lambda s: f"{s.unexplained_share_of_part_totals:.2%}")
    table.add_section()
    for name, cells in margin_rows(summaries):
        table.add_row(name, *cells)
    table.add_section()
    row("decisions", lambda s: f"{s.decisions:,}")
    row("not decided, by reason", lambda s: "\n".join(f"{k} {n:,}" for k, n in s.refusals.items()) or "none")
    row("quotes refused", lambda s: "\n".join(f"{k} {n:,}" for k, n in s.quotes_refused.items()) or "none")
    for underlying, evidence in first.deltas.items():
        said = f"{evidence.used}: {evidence.why}" if evidence.why else evidence.used
        table.add_row(f"delta of {underlying}", said, *[""] * (len(summaries) - 1))
    row("events per second", lambda s: f"{s.events_per_second:,.0f}")
    row("decision p50 / p99, µs", lambda s: f"{s.decision_us.p50:.0f} / {s.decision_us.p99:.0f}")
    row("state at the end", lambda s: s.state)
    row("commands sha256", lambda s: s.commands_sha256[:12])
    console.print(table)


def print_latencies(console: Console, latency_us: Mapping[str, LatencyHistogram]) -> None:
    """Print how long things took on a live feed, step by step; nothing where nothing was timed."""
    if not latency_us:
        return
    table = Table(title="latencies")
    for column in ("step", "count", "p50, ms", "p99, ms", "max, ms"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step, timed in latency_us.items():
        figures = (f"{value_us / 1_000:,.2f}" for value_us in (timed.p50_us, timed.p99_us, timed.max_us))
        table.add_row(step.replace("_", " "), f"{timed.count:,}", *figures)
    console.print(table)


def print_status(console: Console, view: dict[str, Any]) -> None:
    """Print a vault's state, exposure against band, and P&L."""
    table = Table(title=f"{view['vault']} as of {view['as_of']}", show_header=False)
    table.add_row("state", f"{view['state']} {view['state_reason']}".strip())
    table.add_row("policy", view["policy"])
    for subject, standing in view["overrides"].items():
        table.add_row(subject, standing)
    for note in view["operator_notes"][-1:]:
        table.add_row("last order of a person", f"{note['at']}: {note['what']}")
    for desk in view["desks"]:
        table.add_section()
        name = desk["underlying"]
        decision = desk.get("decision")
        if decision is not None:
            greeks = decision["greeks"]
            table.add_row(f"{name} spot", _number(decision["spot_px"], ",.2f"))
            table.add_row(f"{name} net delta", _number(greeks["delta_base"], "+,.3f"))
            table.add_row(
                f"{name} band", f"{_number(decision['low_base'], '+,.3f')} … {_number(decision['high_base'], '+,.3f')}"
            )
            table.add_row(f"{name} gamma, per px", _number(greeks["gamma_base_per_px"], "+,.5f"))
            table.add_row(f"{name} vega, USD per 1.00 vol", _number(greeks["vega_quote_per_vol"], "+,.0f"))
            table.add_row(f"{name} theta, USD per day", _number(greeks["theta_quote_per_day"], "+,.0f"))
        held = "; ".join(f"{hedge['lots']:+,} lots of {one}" for one, hedge in desk["hedges"].items())
        table.add_row(f"{name} hedge", held)
        table.add_row(f"{name} last hedge", desk["last_hedge"])
    _add_accounts(table, view["accounts"])
    _add_margin(table, view["margin"])
    table.add_section()
    table.add_row("orders sent", f"{view['hedges']:,}")
    for order in view["orders"]:
        table.add_row(
            f"order {order['order_id']}", f"{order['state']}, {order['filled_lots']}/{order['qty_lots']} lots"
        )
    for venue in view.get("venues", ()):
        table.add_row(f"venue {venue['venue']}", f"{venue['health']}: {venue['reason']}".rstrip(": "))
    for chain in view.get("chains", ()):
        _add_chain(table, chain)
    for file in view.get("book_files", ()):
        said = f"REFUSED, the old version stays in force: {file['problem']}" if file["problem"] else "in force"
        table.add_row(f"book {file['file']}", f"{file['holdings']} holdings, {said}")
    for step, timed in view.get("latency_us", {}).items():
        table.add_row(
            step.replace("_", " "), f"p50 {timed['p50_us'] / 1_000:,.2f} ms, p99 {timed['p99_us'] / 1_000:,.2f} ms"
        )
    table.add_row("P&L, USD", f"{view['pnl_now_quote']:+,.2f} (unhedged {view['unhedged_pnl_quote']:+,.2f})")
    console.print(table)


def _add_chain(table: Table, chain: dict[str, Any]) -> None:
    """Add what is known of a chain: its head and fees, the gas money, what is under way, and what is wrong."""
    name, coin = chain["chain"], chain["coin"]
    if chain["head"] is None:
        table.add_row(f"chain {name}", "no block yet")
    else:
        head = f"block {chain['head']:,}, {chain['age_s']:.0f} s old, base fee {chain['base_fee_gwei']:.4g} gwei"
        table.add_row(f"chain {name}", head)
    if chain["balance_coin"] is not None:
        held = f"{chain['balance_coin']:,.6g} {coin}, of it {chain['reserve_coin']:g} reserve"
        table.add_row(f"chain {name} gas money", held)
    for one in chain["pending"]:
        versions = f", {one['versions']} versions" if one["versions"] > 1 else ""
        text = f"{one['state']}, nonce {one['nonce']}{versions}, {one['age_s']:.0f} s old: {one['reason']}"
        table.add_row(f"transaction {one['key']}", text.rstrip(": "))
    for problem in chain["problems"]:
        table.add_row(f"chain {name} PROBLEM", problem)


def _add_accounts(table: Table, accounts: dict[str, Any]) -> None:
    """Add what venues say of our accounts; what is in order takes no line."""
    table.add_section()
    if accounts["to_acknowledge"]:
        table.add_row("to acknowledge", f"{accounts['to_acknowledge']}; evenkeel resume")
    for one in accounts["venues"]:
        age = "nothing received yet" if one["age_s"] is None else f"{one['age_s']:.0f} s ago"
        known = "" if one["is_known"] else ", not known yet"
        table.add_row(f"account {one['venue']}", f"{age}{known}{'; ' if one['question'] else ''}{one['question']}")
    for one in accounts["mismatches"]:
        table.add_row(f"unexplained {one['instrument_id']}", f"{one['lots']:+,} lots, {one['reports']} reports")
    if accounts["adoption_count"]:
        last = accounts["adoptions"][-1]
        text = f"{last['instrument_id']} from {last['ledger_lots']:+,} to {last['venue_lots']:+,} lots, {last['at']}"
        table.add_row("differences adopted", f"{accounts['adoption_count']}, last {text}")
    if accounts["foreign_fill_count"]:
        last = accounts["foreign_fills"][-1]
        text = f"{last['qty_lots']:+,} lots of {last['instrument_id']}, {last['at']}"
        table.add_row("foreign fills", f"{accounts['foreign_fill_count']}, last {text}")
    for one in accounts["foreign_orders"]:
        table.add_row(f"foreign order {one['venue_order_id']}", f"{one['left_lots']:+,} lots of {one['instrument_id']}")
    for name, key in (("not of this vault", "not_of_this_vault"), ("unknown holdings", "unknown_holdings")):
        if accounts[key]:
            table.add_row(name, ", ".join(accounts[key]))
    for name, reason in accounts["delisted"].items():
        table.add_row(f"delisted {name}", reason)
    if accounts["entered_quote"]:
        table.add_row("holdings and cash that came in, USD", _money(accounts["entered_quote"], "+"))


def _add_margin(table: Table, margin: dict[str, Any]) -> None:
    """Add how each account stands, what is on its way, and what is kept aside; nothing where none is reckoned."""
    if not margin["accounts"]:
        return
    table.add_section()
    for name, one in margin["accounts"].items():
        table.add_row(f"margin at {name}", one["told"])
        if one["top_up_refused"]:
            table.add_row(f"no top-up of {name}", one["top_up_refused"])
    for one in margin["transfers"]:
        way = f"{one['amount']:g} {one['asset']} {one['from_venue']} to {one['to_venue']} over {one['route']}"
        table.add_row(f"transfer {one['transfer_id']}", f"{one['state']}, {way}, {one['planned']}: {one['reason']}")
    insurance = margin["insurance"]
    if insurance is not None:
        table.add_row("insurance buffer, USD", insurance["told"])
        for one in [entry for entry in insurance["entries"] if entry["move"] != "funded"][-3:]:
            table.add_row(f"buffer {one['move']}", f"{one['amount_quote']:,.2f}, {one['at']}: {one['reason']}")


def print_gates(console: Console, view: dict[str, Any]) -> None:
    """Print every gate of every underlying: what stands between it and its next hedge."""
    for desk in view["desks"]:
        table = Table(title=f"{view['vault']} {desk['underlying']} as of {view['as_of']}")
        for column in ("gate", "open", "figures"):
            table.add_column(column, overflow="fold")
        for gate in desk["gates"]:
            table.add_row(gate["name"], "yes" if gate["is_open"] else "NO", gate["detail"])
        console.print(table)


def _money(amount_quote: float, sign: str = "") -> str:
    """Return an amount to the cent, without a sign before zero's own."""
    return format(round(amount_quote, 2) + 0.0, f"{sign},.2f")


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)
