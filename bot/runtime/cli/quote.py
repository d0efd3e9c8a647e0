"""`evenkeel quote`: what hedging a book, or a trade added to it, is expected to cost before any of it is hedged."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bot.domain.errors import ConfigError, RecordingError
from bot.domain.units import NS_PER_S
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import BookLine, RecordingFeed, Vault
from bot.runtime.live_run import record_vault
from bot.runtime.session import open_vault_recording
from bot.runtime.studies.quoting import BookQuote, Costs, TradeQuote, VaultQuote, quote_vault
from bot.simulation.recording import Recording
from strategies import policy_from_spec

NO_TERMINAL_COLUMNS: Final = 160  # of a file or a pipe, which has no width
PARTS: Final = {
    "fees and spread": "fees_quote",
    "gas": "gas_quote",
    "risk, not paid": "risk_quote",
    "hedging": "hedging_quote",
    "set-up": "setup_quote",
    "unwind": "unwind_quote",
    "total": "total_quote",
}

VaultFile = Annotated[Path, typer.Argument(metavar="VAULT.yaml", help="Vault file")]
Trades = Annotated[
    list[str] | None,
    typer.Option("--trade", metavar="INSTRUMENT:QTY", help="Add this to the book; short is negative; may be repeated"),
]
At = Annotated[
    str, typer.Option("--at", metavar="TIME", help="Moment of the recording, UTC; default: its start; 2023-04-13T12:00")
]
Horizon = Annotated[
    float | None, typer.Option("--horizon-days", help="Leave out what comes later; default: to the last expiry")
]
Rule = Annotated[str, typer.Option("--policy", metavar="POLICY", help="Instead of the vault's; as replay --compare")]
Seconds = Annotated[
    float, typer.Option("--for", metavar="SECONDS", min=1, max=3600, help="How long to listen to a live feed first")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object")]


def quote(
    vault_file: VaultFile,
    trade: Trades = None,
    at: At = "",
    horizon_days: Horizon = None,
    policy: Rule = "",
    seconds: Seconds = 20.0,
    as_json: AsJson = False,
) -> None:
    """Say what hedging the book will cost, its band and tracking error, and what a trade would add to it.

    Formulas and what they assume: docs/frontier.md. Nothing is traded or written; a live feed is only listened to.
    """
    (vault,) = load_vaults([vault_file], allow_live=True)
    trades = parse_trades(trade or [])
    if horizon_days is not None and not 0.0 < horizon_days < 36_500.0:
        raise ConfigError([f"--horizon-days: expected a number of days above 0, found {horizon_days:g}"])
    if policy:
        gross_base = sum(abs(line.qty_base) for line in vault.holdings)
        vault = vault.model_copy(update={"policy": policy_from_spec(policy, vault.policy, gross_base)})
    at_ns = parse_time(at) if at else None
    if vault.is_live_feed:
        if at:
            raise ConfigError(["--at: expected none with a live feed, found one; hint: a live market is quoted now"])
        with tempfile.TemporaryDirectory() as folder:
            vault, recording = _listen(vault, vault_file, Path(folder) / "now", trades, seconds)
            found = quote_vault(vault, recording, trades, horizon_days=horizon_days)
    else:
        found = quote_vault(vault, open_vault_recording(vault), trades, at_ns=at_ns, horizon_days=horizon_days)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found), indent=2, allow_nan=False))
        return
    console = Console(soft_wrap=True, markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(soft_wrap=True, markup=False, highlight=False, width=NO_TERMINAL_COLUMNS)
    print_quote(console, found)


def parse_trades(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Return INSTRUMENT:QTY as pairs. Raises ConfigError with every one that is none."""
    trades: list[tuple[str, float]] = []
    problems = []
    for text in texts:
        name, _, amount = text.rpartition(":")
        try:
            qty_base = float(amount)
        except ValueError:
            qty_base = 0.0
        if not name or qty_base == 0.0 or not isfinite(qty_base):
            problems.append(f"--trade: expected INSTRUMENT:QTY with a quantity other than 0, found {text!r}")
        elif name in dict(trades):
            problems.append(f"--trade {name}: expected each instrument once, found it again; hint: add them up")
        else:
            trades.append((name, qty_base))
    if problems:
        raise ConfigError(problems)
    return trades


def parse_time(text: str) -> int:
    """Return a time of UTC in nanoseconds. Raises ConfigError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError([f"--at: expected a time such as 2023-04-13T12:00, found {text!r}"]) from None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()) * NS_PER_S


def print_quote(console: Console, found: VaultQuote) -> None:
    """Print a quote for people."""
    console.print(f"{found.vault} as of {found.as_of[:19]} UTC, hedged by {found.policy}")
    for book in found.books:
        trades = next((one for one in found.trades if one.underlying == book.underlying), None)
        for line in _book_lines(book):
            console.print(line)
        table = Table(title=f"expected cost over {book.horizon_days:.3g} days, quote money", title_justify="left")
        table.add_column("")
        table.add_column("the book", justify="right")
        if trades is not None:
            table.add_column("the trade adds", justify="right")
        for name, key in PARTS.items():
            amounts = [book.costs, *([trades.added] if trades is not None else [])]
            table.add_row(name, *(_amount(one, key) for one in amounts))
        console.print(table)
        if trades is not None:
            for line in _trade_lines(trades):
                console.print(line)


def _book_lines(book: BookQuote) -> Iterator[str]:
    base = book.underlying
    gas = f", gas {book.gas_per_trade_quote:,.2f} a trade" if book.gas_per_trade_quote else ""
    yield f"  {base:14} {book.spot_px:,.2f}, vol {book.vol:.1%}, trading costs {book.cost_bps:.3g} bp{gas}"
    yield f"  risk aversion  {book.risk_aversion_per_quote:.3g} per unit of quote money, {book.risk_aversion_source}"
    delta = f"net delta now {book.net_delta_base:+,.4g}, gamma {book.gamma_base_per_px:.3g}"
    if book.band_half_base is None or book.band_low_base is None or book.band_high_base is None:
        yield f"  band           none; {delta}"
    else:
        edges = f"{book.band_low_base:+,.4g} to {book.band_high_base:+,.4g} {base}"
        yield f"  band now       {edges} (half-width {book.band_half_base:,.4g}); {delta}"
    if book.hedges_per_day is not None:
        looked = f", looked at every {book.look_s:,.3g} s" if book.look_s is not None else ""
        yield f"  hedges         about {book.hedges_per_day:,.3g} a day{looked}"
    today = f"{book.sd_day_quote:,.0f} a day now, " if book.sd_day_quote is not None else ""
    yield f"  tracking error {today}{book.sd_quote:,.0f} over {book.horizon_days:.3g} days, one standard deviation"


def _trade_lines(trades: TradeQuote) -> Iterator[str]:
    sizes = ", ".join(f"{qty_base:+g} {name}" for name, qty_base in trades.trades.items())
    added = trades.added.total_quote
    verb = f"ask {added:,.2f} more for" if added > 0.0 else f"{-added:,.2f} may be given away on"
    parts = [
        f"{abs(trades.per_unit_quote):,.4g} a unit" if trades.per_unit_quote is not None else "",
        f"{abs(trades.vol_points):.3g} vol points" if trades.vol_points is not None else "",
        f"{abs(trades.premium_percent):.3g} % of the premium" if trades.premium_percent is not None else "",
    ]
    yield f"  {verb} {sizes}: {', '.join(part for part in parts if part)}"
    yield (
        f"  hedging it alone would cost {trades.alone_quote:,.2f}; in this book the first unit's rate would make "
        f"{trades.marginal_quote:,.2f}, all of it makes {trades.added.hedging_quote:,.2f}"
    )
    before, after = trades.band_half_before_base, trades.band_half_after_base
    if before is not None and after is not None:
        yield f"  the band goes from ±{before:,.4g} to ±{after:,.4g}"


def _amount(costs: Costs, key: str) -> str:
    amount: float = getattr(costs, key)
    return f"{amount + 0.0:,.2f}"


def _listen(
    vault: Vault, vault_file: Path, folder: Path, trades: Sequence[tuple[str, float]], seconds: float
) -> tuple[Vault, Recording]:
    """Record what the vault's venues say now, and return the vault as one of that recording."""
    if vault.chains:
        hint = "record it, or quote a vault of the same book with a hedge on an exchange"
        raise ConfigError([f"{vault_file}: expected a live feed of exchanges alone, found chains in it; hint: {hint}"])
    known = set(vault.named_instruments)
    lines = tuple(BookLine(instrument=name, qty_base=qty) for name, qty in trades if name not in known)
    watched = vault.model_copy(update={"book": (*vault.book, *lines)})
    asyncio.run(record_vault(watched, vault_file, folder, os.environ, seconds=seconds))
    if not folder.exists():
        raise RecordingError(f"{vault_file}: expected prices within {seconds:g} s, found not one; hint: --for more")
    feed = RecordingFeed(recording=str(folder))
    vault = vault.model_copy(update={"feed": feed})
    return vault, open_vault_recording(vault)
