"""What `evenkeel risk` prints for people: a table per question, and under it in words what a figure alone hides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, isnan

from rich.console import Console
from rich.table import Table

from bot.domain.units import utc_text
from bot.risk.asset_classes import Resolved
from bot.risk.requirement import Charge
from bot.runtime.risk_view import DistanceLine, MarginLine, RiskView

HOURS_PER_YEAR = 365.0 * 24.0
MOST_CHARGES = 6


def print_view(console: Console, view: RiskView) -> None:
    """Print all of a view."""
    console.print(f"{view.vault} as of {view.as_of[:19]} UTC, equity {money(view.equity_quote)}")
    console.print(f"positions: {view.source}")
    for note in view.notes:
        console.print(f"note: {note}")
    console.print(margin_table(view.margin))
    for line in view.margin:
        for text in margin_lines(line):
            console.print(f"  {text}")
    for name, why in view.unknown.items():
        console.print(f"  {name}: NOT KNOWN: {why}")
    _print_netting(console, view)
    _print_distances(console, view)
    _print_counterparties(console, view)
    _print_forecasts(console, view)
    if view.breakers is None:
        console.print("breakers: nobody watches them here")
    elif not view.breakers:
        console.print("breakers: none is tripped")
    for one in view.breakers or ():
        console.print(f"breaker {one.breaker}: {one.reason}; until {utc_text(one.until_ns)[:19]} UTC")
    console.print(f"insurance buffer: {view.insurance}")
    print_classes(console, view.classes)


def margin_table(lines: Sequence[MarginLine]) -> Table:
    """Return margin by account."""
    table = _table(
        "margin, quote money",
        ("account", "model", "as of"),
        ("equity", "initial", "maintenance", "use", "free", "room", "state"),
    )
    for one in lines:
        table.add_row(
            one.account,
            one.model,
            one.as_of,
            money(one.equity_quote),
            money(one.initial_quote),
            money(one.maintenance_quote),
            share(one.utilisation_ratio),
            money(one.free_quote),
            money(one.room_quote),
            one.state.upper() if one.state != "normal" else one.state,
        )
    return table


def margin_lines(one: MarginLine) -> Iterator[str]:
    """Say whose figures they are, what they are made of, and what is in doubt."""
    model = f"{money(one.model_initial_quote)} / {money(one.model_maintenance_quote)}"
    if one.by == "venue":
        differs = f", {one.difference_share:+.1%} off" if isfinite(one.difference_share) else ""
        yield f"{one.account}: as the venue tells; the model says {model}{differs}"
    else:
        raised = one.maintenance_quote / one.model_maintenance_quote - 1.0 if one.model_maintenance_quote else 0.0
        yield f"{one.account}: the model's {model}, raised by {raised:.0%} as the venue does not tell"
    charges = sorted(one.charges, key=lambda charge: -abs(charge.initial))
    told = [
        f"{c.name} {money(c.initial)} / {money(c.maintenance)}{f' ({c.detail})' if c.detail else ''}" for c in charges
    ]
    if told:
        more = f"; {len(told) - MOST_CHARGES} more" if len(told) > MOST_CHARGES else ""
        yield f"  made of {'; '.join(told[:MOST_CHARGES])}{more}"
    posted = ", ".join(f"{amount:,.8g} {asset}" for asset, amount in one.posted.items()) or "nothing"
    yield f"  posted: {posted}; {one.reason}"
    if one.banned:
        yield f"  nothing is added there: {one.banned}"
    for doubt in one.doubts:
        yield f"  DEGRADED: {doubt}"


def _charge(one: Charge) -> str:
    detail = f" ({one.detail})" if one.detail else ""
    return f"{one.name} {money(one.initial)} / {money(one.maintenance)}{detail}"


def _print_netting(console: Console, view: RiskView) -> None:
    table = _table(
        f"netting, by the {view.netting}",
        ("underlying",),
        ("gross", "net", "gross, money", "net, money", "vega, net", "charge"),
    )
    for one in view.netted.exposures:
        table.add_row(
            one.underlying,
            f"{one.gross_base:,.4g}",
            f"{one.net_base:+,.4g}",
            money(one.gross_quote),
            money(one.net_quote, "+"),
            money(one.vega_net_quote, "+"),
            money(one.charge_quote),
        )
    console.print(table)
    for one in view.netted.exposures:
        parts = ", ".join(f"{name} {base:+,.4g}" for name, base in one.by_account)
        console.print(f"  {one.underlying} by account: {parts}")
        used = [layer for layer in one.layers if layer.matched_quote > 0.0]
        told = [f"{layer.name} {money(layer.matched_quote)} for {money(layer.charge_quote)}" for layer in used]
        if told:
            console.print(f"  {one.underlying} offsets: {', '.join(told)}")
    for layer in view.netted.correlated:
        console.print(f"  {layer.name}: {money(layer.matched_quote)} for {money(layer.charge_quote)}")
    for note in view.netted.notes:
        console.print(f"  note: {note}")
    for account in view.modes:
        best = account.cheapest.mode
        told = [
            f"{one.mode} {'not offered: ' + one.refused if one.refused else money(one.initial_quote)}"
            + (" (cheapest)" if one.mode == best else "")
            for one in account.modes
        ]
        console.print(f"  initial margin at {account.account} by mode: {', '.join(told)}")
    if view.capital is not None:
        console.print(f"  all accounts: {view.capital.verdict}, offsets charged {money(view.capital.charge_quote)}")


def _print_distances(console: Console, view: RiskView) -> None:
    console.print(distance_table(view.distances))
    vols = dict.fromkeys(f"{one.underlying} at {share(one.vol)} ({one.vol_source})" for one in view.distances)
    if vols:
        console.print(f"  by vol of {', '.join(vols)}; chances with option vols a tenth lower and higher too")
    for line in view.distances:
        if line.distance.degraded:
            console.print(f"  {line.account}, {line.underlying}: DEGRADED: {line.distance.degraded}")
    table = _table(
        "equity per maintenance margin, now and after a bad move before a transfer arrives",
        ("account",),
        ("now", "bad move", "then", "to hold", "top-up"),
    )
    for one in view.buffers:
        table.add_row(
            one.account,
            f"{one.ratio:,.2f}",
            f"{one.move_fraction:.2%}",
            f"{one.ratio_after:,.2f}",
            f"{one.target_ratio:,.2f}",
            money(one.topup_quote),
        )
    console.print(table)
    for one in view.buffers:
        degraded = f"; DEGRADED: {one.degraded}" if one.degraded else ""
        console.print(f"  {one.account} is to hold {one.target_ratio:,.2f}: {one.reason}{degraded}")


def distance_table(lines: Sequence[DistanceLine]) -> Table:
    """Return how far each account is from liquidation."""
    delay = f"{lines[0].delay_s / 60.0:,.0f} min" if lines else "the delay"
    table = _table(
        "distance to liquidation",
        ("account", "moves"),
        ("at", "below", "above", "sigmas a day", f"in {delay}", "1 % in"),
    )
    for one in lines:
        found = one.distance
        table.add_row(
            one.account,
            one.underlying,
            price(one.spot_px) if one.underlying != "all" else "",
            _end(one, found.interval.down_px, -found.down_fraction),
            _end(one, found.interval.up_px, found.up_fraction),
            f"{_sigmas(found.down_sigmas)} / {_sigmas(found.up_sigmas)}",
            chance(found.touch_probability),
            _time(found.breach_years),
        )
    return table


def _end(line: DistanceLine, px: float, fraction: float) -> str:
    if px == 0.0 or not isfinite(px):
        return "never"
    return f"{fraction:+.1%}" if line.underlying == "all" else f"{price(px)} ({fraction:+.1%})"


def _sigmas(value: float) -> str:
    return f"{value:,.1f}" if isfinite(value) else "∞"


def _time(years: float) -> str:
    if not isfinite(years):
        return "never"
    hours = years * HOURS_PER_YEAR
    return f"{hours:,.1f} h" if hours < 48.0 else f"{hours / 24.0:,.1f} d"


def _print_counterparties(console: Console, view: RiskView) -> None:
    table = _table(
        "counterparties",
        ("party",),
        ("at default", "stressed", "limit", "to rehedge", "loss a year", "score", "asks for"),
    )
    for one in view.counterparties:
        table.add_row(
            one.party,
            money(one.ead_quote),
            money(one.stressed_quote),
            f"{money(one.limit_quote)}{' OVER' if one.is_over else ''}",
            money(one.replacement_quote),
            money(one.expected_loss_quote),
            f"{one.score.points:.0f}",
            str(one.action).replace("_", " "),
        )
    console.print(table)
    for one in view.counterparties:
        unknown = len(one.score.unknown)
        told = "none of its signs is known" if unknown == len(one.score.parts) else f"{unknown} signs unknown"
        seen = f"; {told}" if unknown else ""
        console.print(f"  {one.party}: limit is {one.limit_reason}{seen}")
    if not view.is_watched:
        console.print("  nobody watches their signs here: nothing is banned for them")


def _print_forecasts(console: Console, view: RiskView) -> None:
    if not view.forecasts:
        console.print(f"volatility: {view.forecast_source}")
        return
    table = _table(
        f"volatility forecast ({view.forecast_source})",
        ("underlying", "next"),
        ("mean", "90 %", "95 %", "99 %", "model", "regime"),
    )
    for one in view.forecasts:
        hours = one.horizon_years * HOURS_PER_YEAR
        table.add_row(
            one.underlying,
            f"{hours:.0f} h" if hours < 48.0 else f"{hours / 24.0:.0f} d",
            share(one.mean_vol),
            *(share(one.quantile(level)) for level in (0.90, 0.95, 0.99)),
            one.model,
            f"{one.regime} {one.regime_probability:.0%}" if isfinite(one.regime_probability) else one.regime,
        )
    console.print(table)
    for text in dict.fromkeys(f"{one.underlying}: {one.degraded}" for one in view.forecasts if one.degraded):
        console.print(f"  DEGRADED: {text}: taken as {1.25:g} times as wide")


def print_classes(console: Console, classes: Sequence[Resolved]) -> None:
    """Print what applies per asset, and where it comes from where that is not its class in the set."""
    if not classes:
        return
    table = _table("what applies per asset class", ("parameter",), tuple(one.asset for one in classes))
    table.add_row("class", *(one.asset_class for one in classes))
    for name in classes[0].parameters.__struct_fields__:
        table.add_row(name, *(_figure(getattr(one.parameters, name)) for one in classes))
    console.print(table)
    for one in classes:
        for text in origin_lines(one):
            console.print(f"  {text}")


def origin_lines(one: Resolved) -> list[str]:
    """Return one line per origin of an asset's values: which came from there."""
    by_origin: dict[str, list[str]] = {}
    for name, origin in one.origins.items():
        if name != "class":
            by_origin.setdefault(origin, []).append(name)
    most = max(by_origin, key=lambda origin: len(by_origin[origin]))
    found = [f"{one.asset} is {one.asset_class}: {one.origins['class']}; its values: {most}"]
    return found + [
        f"{one.asset}: {', '.join(names)}: {origin}" for origin, names in by_origin.items() if origin != most
    ]


def money(amount_quote: float, sign: str = "") -> str:
    """Return quote money to the unit, or what it is where it is no number."""
    if isnan(amount_quote):
        return "unknown"
    if not isfinite(amount_quote):
        return "∞" if amount_quote > 0.0 else "-∞"
    return format(round(amount_quote) + 0, f"{sign},d")


def price(px: float) -> str:
    """Return a price to five digits or more."""
    return f"{px:,.0f}" if px >= 10_000.0 else f"{px:,.5g}"


def share(value: float) -> str:
    """Return a share as a percentage."""
    if isnan(value):
        return "unknown"
    return f"{value:.1%}" if isfinite(value) else "∞"


def chance(value: float) -> str:
    """Return a probability, small ones as being below a limit."""
    if isnan(value):
        return "unknown"
    return "< 0.01 %" if value < 1e-4 else f"{value:.2%}"


def _figure(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table
